#include "core/shard/shard_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/shard/reserved_pages.h"

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

uint64_t HashLayout(const HistogramLayout& layout) {
  const auto hash = [](const std::vector<double>& numbers, uint64_t seed) {
    return XXH3_64bits_withSeed(numbers.data(), numbers.size() * sizeof(double), seed);
  };
  uint64_t sum = hash(layout.bounds, layout.bounds.size());
  sum = hash(layout.quantiles, sum);
  const int64_t rest[] = {layout.schema, layout.window_buckets, layout.max_age_ms,
                          layout.age_buckets};
  sum = XXH3_64bits_withSeed(rest, sizeof(rest), sum);
  return sum == 0 ? 1 : sum;  // zero is none
}

absl::Status ShardMemory::Map(uint64_t key_bytes, uint64_t cell_bytes, int protection) {
  const uint64_t ledger_at = RoundUp(sizeof(ShardHeader));
  const uint64_t names_at = ledger_at + RoundUp(sizeof(Ledger));
  const uint64_t layouts_at = names_at + RoundUp(sizeof(ListenerName) * Ledger::kMaxListeners);
  const uint64_t chunks_at = layouts_at + RoundUp(sizeof(uint64_t) * CellClass::kMaxLayouts);
  const uint64_t states_at = chunks_at + RoundUp(sizeof(ChunkHead) * kMaxChunks);
  const uint64_t evictions_at = states_at + RoundUp(sizeof(SlotStateWord) * kMaxSlots);
  const uint64_t identities_at = evictions_at + RoundUp(sizeof(EvictionWord) * kMaxSlots);
  const uint64_t keys_at = identities_at + RoundUp(sizeof(SlotIdentity) * kMaxSlots);
  const uint64_t cells_at = keys_at + key_bytes;
  const uint64_t size = cells_at + cell_bytes;

  if (protection == PROT_READ) {
    struct stat about {};
    if (fstat(fd_, &about) != 0) return Failed("fstat", size);
    if (static_cast<uint64_t>(about.st_size) != size) {
      return absl::DataLossError("a shard's memory has not the size that its head says");
    }
  } else if (ftruncate(fd_, static_cast<off_t>(size)) != 0) {
    return Failed("ftruncate", size);
  }
  void* base = mmap(nullptr, size, protection, MAP_SHARED | MAP_NORESERVE, fd_, 0);
  if (base == MAP_FAILED) return Failed("mmap", size);
  LeaveOutOfDumps(base, size);
  base_ = static_cast<char*>(base);
  size_ = size;
  ledger_ = reinterpret_cast<Ledger*>(base_ + ledger_at);
  listener_names_ = reinterpret_cast<ListenerName*>(base_ + names_at);
  layouts_ = reinterpret_cast<uint64_t*>(base_ + layouts_at);
  chunks_ = reinterpret_cast<ChunkHead*>(base_ + chunks_at);
  states_ = reinterpret_cast<SlotStateWord*>(base_ + states_at);
  evictions_ = reinterpret_cast<EvictionWord*>(base_ + evictions_at);
  identities_ = reinterpret_cast<SlotIdentity*>(base_ + identities_at);
  keys_ = base_ + keys_at;
  cells_ = reinterpret_cast<CellWord*>(base_ + cells_at);
  key_bytes_ = key_bytes;
  cell_words_ = cell_bytes / sizeof(CellWord);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ShardMemory>> ShardMemory::Create(uint64_t key_bytes,
                                                                 uint64_t cell_bytes, int fd) {
  std::unique_ptr<ShardMemory> memory(new ShardMemory);
  memory->fd_ = fd;
  if (key_bytes > kMaxRegion || cell_bytes > kMaxRegion) {
    return absl::InvalidArgumentError("shard memory: a region may have 32 GiB at most");
  }
  key_bytes = RoundUp(key_bytes);
  cell_bytes = RoundUp(cell_bytes);
  if (fd < 0) {
    memory->fd_ = memfd_create("tallyd-shard", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory->fd_ < 0) return Failed("memfd_create", key_bytes + cell_bytes);
  }
  const absl::Status status = memory->Map(key_bytes, cell_bytes, PROT_READ | PROT_WRITE);
  if (!status.ok()) return status;
  memory->may_be_full_ = fd >= 0;
  const auto fixed =
      static_cast<uint64_t>(reinterpret_cast<char*>(memory->chunks_) - memory->base_);
  if (!memory->Back(memory->base_, fixed)) return Failed("fallocate", fixed);
  // Whoever reads it later need not fear that it becomes shorter meanwhile.
  if (fd < 0) fcntl(memory->fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  ShardHeader* header = new (memory->base_) ShardHeader;
  header->max_slots = kMaxSlots;
  header->key_bytes = key_bytes;
  header->cell_bytes = cell_bytes;
  new (memory->ledger_) Ledger;
  return memory;
}

absl::StatusOr<std::unique_ptr<ShardMemory>> ShardMemory::Open(int fd) {
  std::unique_ptr<ShardMemory> memory(new ShardMemory);
  memory->fd_ = fd;
  char bytes[sizeof(ShardHeader)];
  if (pread(fd, bytes, sizeof(bytes), 0) != static_cast<ssize_t>(sizeof(bytes))) {
    return absl::DataLossError("a shard's memory is too short");
  }
  const auto word = [&](size_t offset) {
    uint64_t value;
    std::memcpy(&value, bytes + offset, sizeof(value));
    return value;
  };
  if (word(offsetof(ShardHeader, magic)) != ShardHeader::kMagic) {
    return absl::DataLossError("it is no shard's memory");
  }
  const auto version = static_cast<uint32_t>(word(offsetof(ShardHeader, version)));
  if (version != ShardHeader::kVersion) {
    return absl::UnimplementedError(absl::StrCat("a shard's memory is of version ", version,
                                                 ", this program reads version ",
                                                 ShardHeader::kVersion));
  }
  const uint64_t key_bytes = word(offsetof(ShardHeader, key_bytes));
  const uint64_t cell_bytes = word(offsetof(ShardHeader, cell_bytes));
  if (word(offsetof(ShardHeader, ledger_bytes)) != sizeof(Ledger) ||
      word(offsetof(ShardHeader, version)) >> 32 != kMaxSlots || key_bytes > kMaxRegion ||
      cell_bytes > kMaxRegion || key_bytes % kPage != 0 || cell_bytes % kPage != 0) {
    return absl::DataLossError("a shard's memory has another form");
  }
  const absl::Status status = memory->Map(key_bytes, cell_bytes, PROT_READ);
  if (!status.ok()) return status;
  return memory;
}

bool ShardMemory::Back(const void* begin, uint64_t bytes) const {
  if (!may_be_full_) return true;
  const auto first = static_cast<uint64_t>(static_cast<const char*>(begin) - base_) / kPage * kPage;
  const auto end = RoundUp(static_cast<uint64_t>(static_cast<const char*>(begin) - base_) + bytes);
  int error = 0;
  do {
    error = fallocate(fd_, 0, static_cast<off_t>(first), static_cast<off_t>(end - first));
  } while (error != 0 && errno == EINTR);
  return error == 0;
}

bool ShardMemory::BackChunk(uint32_t chunk, uint64_t cells, uint64_t words) {
  const uint32_t slot = chunk * kSlotsPerChunk;
  return Back(chunks_ + chunk, sizeof(ChunkHead)) &&
         Back(states_ + slot, sizeof(SlotStateWord) * kSlotsPerChunk) &&
         Back(evictions_ + slot, sizeof(EvictionWord) * kSlotsPerChunk) &&
         Back(identities_ + slot, sizeof(SlotIdentity) * kSlotsPerChunk) &&
         Back(cells_ + cells, sizeof(CellWord) * words);
}

ShardMemory::~ShardMemory() {
  if (base_ != nullptr) munmap(base_, size_);
  if (fd_ >= 0) close(fd_);
}

}  // namespace tallyd
