#include "core/shard/shard_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tallyd {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMaxRegion = uint64_t{32} << 30;  // what a 32-bit offset of 8-byte units reaches

uint64_t RoundUp(uint64_t n) { return (n + kPage - 1) / kPage * kPage; }

absl::Status Failed(const char* what, uint64_t bytes) {
  return absl::ErrnoToStatus(errno,
                             absl::StrCat(what, " for ", bytes >> 20, " MiB of shard memory"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ShardMemory>> ShardMemory::Create(uint64_t key_bytes,
                                                                 uint64_t cell_bytes) {
  if (key_bytes > kMaxRegion || cell_bytes > kMaxRegion) {
    return absl::InvalidArgumentError("shard memory: a region may have 32 GiB at most");
  }
  key_bytes = RoundUp(key_bytes);
  cell_bytes = RoundUp(cell_bytes);
  const uint64_t chunks_at = RoundUp(sizeof(ShardHeader));
  const uint64_t states_at = chunks_at + RoundUp(sizeof(ChunkHead) * kMaxChunks);
  const uint64_t evictions_at = states_at + RoundUp(sizeof(SlotStateWord) * kMaxSlots);
  const uint64_t identities_at = evictions_at + RoundUp(sizeof(EvictionWord) * kMaxSlots);
  const uint64_t keys_at = identities_at + RoundUp(sizeof(SlotIdentity) * kMaxSlots);
  const uint64_t cells_at = keys_at + key_bytes;
  const uint64_t size = cells_at + cell_bytes;

  std::unique_ptr<ShardMemory> memory(new ShardMemory);
  memory->fd_ = memfd_create("tallyd-shard", MFD_CLOEXEC);
  if (memory->fd_ < 0) return Failed("memfd_create", size);
  if (ftruncate(memory->fd_, static_cast<off_t>(size)) != 0) return Failed("ftruncate", size);
  void* base =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory->fd_, 0);
  if (base == MAP_FAILED) return Failed("mmap", size);

  memory->base_ = static_cast<char*>(base);
  memory->size_ = size;
  memory->chunks_ = reinterpret_cast<ChunkHead*>(memory->base_ + chunks_at);
  memory->states_ = reinterpret_cast<SlotStateWord*>(memory->base_ + states_at);
  memory->evictions_ = reinterpret_cast<EvictionWord*>(memory->base_ + evictions_at);
  memory->identities_ = reinterpret_cast<SlotIdentity*>(memory->base_ + identities_at);
  memory->keys_ = memory->base_ + keys_at;
  memory->cells_ = reinterpret_cast<CellWord*>(memory->base_ + cells_at);
  memory->key_bytes_ = key_bytes;
  memory->cell_words_ = cell_bytes / sizeof(CellWord);

  ShardHeader* header = new (base) ShardHeader;
  header->max_slots = kMaxSlots;
  header->key_bytes = key_bytes;
  header->cell_bytes = cell_bytes;
  return memory;
}

ShardMemory::~ShardMemory() {
  if (base_ != nullptr) munmap(base_, size_);
  if (fd_ >= 0) close(fd_);
}

}  // namespace tallyd
