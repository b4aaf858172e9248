// The memory of a shard: one memfd, position-independent.
//
// Nothing in it is a pointer: other records are named by index, keys and cells by offset, so that
// the memory can outlive the process and be mapped anywhere. It is reserved sparse, at fixed
// places, and costs only the pages that are touched.
//
//   header        magic, version, geometry; what the owner publishes (epoch, chunk count) and what
//                 the merger does (merged and released epoch, evictions asked), a cache line each
//   ledger        Ledger, and the names of its listeners
//   layouts       of those numbers of layouts that cells have, what they stand for
//   chunk heads   ChunkHead   [kMaxChunks]      a chunk is 64 slots of one cell class
//   slot states   SlotStateWord [kMaxSlots]     apart from the identities: merging scans them
//   evictions     words [kMaxSlots]             the merger's: which tenancy is to end
//   identities    SlotIdentity [kMaxSlots]      plain; published by the slot's state
//   keys          bytes, in units of 8          "name:tags", plain; published by the slot's state
//   cells         words of 8 bytes              a chunk's cells are contiguous

#ifndef TALLYD_CORE_SHARD_SHARD_MEMORY_H_
#define TALLYD_CORE_SHARD_SHARD_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <type_traits>

#include "absl/status/statusor.h"
#include "core/rules/histogram_layout.h"
#include "core/shard/atomics.h"
#include "core/shard/ledger.h"
#include "core/shard/protocol.h"
#include "core/wire/sample.h"

namespace tallyd {

using CellWord = StdAtomics::Word<uint64_t>;
using SlotStateWord = SlotState<StdAtomics>;
// The generation of the tenancy that the merger wants ended; another one is not meant. A hint that
// the owner follows when it comes by, hence relaxed.
using EvictionWord = StdAtomics::Word<uint32_t>;

// What all cells of a chunk are: kind, whether they carry a touch word, histogram layout.
struct CellClass {
  uint16_t bits = 0;

  static constexpr CellClass Make(uint8_t kind, bool expires, uint16_t layout) {
    return {static_cast<uint16_t>(kind | (expires ? 8 : 0) | layout << 4)};
  }
  constexpr uint8_t kind() const { return bits & 7; }
  constexpr bool expires() const { return (bits & 8) != 0; }
  constexpr uint16_t layout() const { return static_cast<uint16_t>(bits >> 4); }
  static constexpr uint16_t kMaxLayouts = 1 << 12;
};

// 16 bytes: stamp and place of the cells share one cache line access.
struct ChunkHead {
  ChunkStamp<StdAtomics> stamp;
  // Plain, published by the chunk count.
  uint32_t cells = 0;       // first word of the first cell, in the cell region
  uint16_t cell_words = 0;  // words from one cell to the next
  CellClass cell_class;
};
static_assert(sizeof(ChunkHead) == 16);

// The key that first led to a slot, and which rules read it. Plain, published by the slot's state;
// but the generation may be exchanged for a later one by which the key means the same: see
// RulesNumber.
struct SlotIdentity {
  uint64_t series = 0;  // SeriesBudget::HashOf of what its cell counts for, by all these rules
  uint32_t key = 0;     // offset in the key region, in units of 8 bytes
  uint32_t key_hash = 0;
  uint16_t name_size = 0;
  uint16_t tags_size = 0;
  SampleType type : 7 = SampleType::kCounter;
  bool is_literal : 1 = false;  // the key is the series' own name and labels
  uint8_t ttl_class = 0;        // owner's; 0: never expires
  StdCopiedAtomics::Word<uint16_t> rules_generation;
};
static_assert(sizeof(SlotIdentity) == 24);
static_assert(std::is_trivially_copyable_v<SlotIdentity>);

// Which process a memory is of. One that is started after a crash finds by it what belongs
// together.
struct MemorySession {
  uint64_t session = 0;  // at random; 0: nobody will look for it
  uint64_t parent = 0;   // of the saved state that the process began with; 0: with none
  uint32_t shard = 0;
  uint32_t shards = 1;
  // Retired slots stay as they are until they are released, instead of until they are merged.
  uint64_t holds_retired = 0;
};

// What of a layout cells and their values depend on, as one number.
uint64_t HashLayout(const HistogramLayout& layout);

struct ShardHeader {
  static constexpr uint64_t kMagic = 0x31646c6c6174;  // "talld1", little-endian
  static constexpr uint32_t kVersion = 5;

  uint64_t magic = kMagic;
  uint32_t version = kVersion;
  uint32_t max_slots = 0;
  uint64_t key_bytes = 0;
  uint64_t cell_bytes = 0;
  uint64_t ledger_bytes = sizeof(Ledger);
  MemorySession session;   // constant once threads run, as is
  uint64_t hash_seed = 0;  // of SlotIdentity::series

  // Owner's line.
  alignas(64) BatchEpoch<StdAtomics> epoch;
  PublishedCount<StdAtomics> chunk_count;

  // Merger's line.
  alignas(64) MergedEpoch<StdAtomics> merged_epoch;
  // How many evictions the merger has asked for so far. A hint, hence relaxed.
  StdAtomics::Word<uint64_t> evictions_asked;
  // What was retired up to there is in a state that was saved. Used instead of the merged epoch
  // where retired slots are held, under the same orders.
  MergedEpoch<StdAtomics> released_epoch;
};

// Zero-terminated. Written before threads run.
struct ListenerName {
  char text[128] = {};
};

// Maps the memory and says where things are. Thread-safe in itself: it is constant after creation;
// what lies in the memory is shared under protocol.h.
class ShardMemory {
 public:
  static constexpr uint32_t kSlotsPerChunk = 64;
  static constexpr uint32_t kMaxChunks = 1 << 16;
  static constexpr uint32_t kMaxSlots = kMaxChunks * kSlotsPerChunk;

  // Reserves room for `key_bytes` of keys (at most 32 GiB) and `cell_bytes` of cells (likewise).
  // In a memfd of its own; or in the empty file `fd`, which it takes over, and whose file system
  // may have less room than that: what is written there must be backed before.
  static absl::StatusOr<std::unique_ptr<ShardMemory>> Create(uint64_t key_bytes,
                                                             uint64_t cell_bytes, int fd = -1);
  // Maps what another process has left, for reading alone; takes `fd` over. Unimplemented if it is
  // of another version; DataLoss if it is none. Only the header is checked: nothing else in it is
  // to be trusted.
  static absl::StatusOr<std::unique_ptr<ShardMemory>> Open(int fd);
  ~ShardMemory();
  ShardMemory(const ShardMemory&) = delete;
  ShardMemory& operator=(const ShardMemory&) = delete;

  ShardHeader& header() { return *reinterpret_cast<ShardHeader*>(base_); }
  Ledger& ledger() { return *ledger_; }
  const Ledger& ledger() const { return *ledger_; }
  ListenerName* listener_names() { return listener_names_; }
  // HashLayout of each layout that a chunk has, by its number. Plain, published by the chunk count.
  uint64_t* layouts() { return layouts_; }
  ChunkHead* chunks() { return chunks_; }
  SlotStateWord* states() { return states_; }
  EvictionWord* evictions() { return evictions_; }
  SlotIdentity* identities() { return identities_; }
  char* keys() { return keys_; }
  CellWord* cells() { return cells_; }
  uint64_t key_bytes() const { return key_bytes_; }
  uint64_t cell_words() const { return cell_words_; }
  int fd() const { return fd_; }

  // Owner thread. Backs what the slots of a chunk need, whose cells are `words` long from `cells`
  // on; or keys. False if there is no room: to write there nonetheless would be the process's end
  // (SIGBUS).
  bool BackChunk(uint32_t chunk, uint64_t cells, uint64_t words);
  bool BackKeys(uint64_t begin, uint64_t bytes) { return Back(keys_ + begin, bytes); }

  char* KeyAt(uint32_t key) { return keys_ + uint64_t{key} * 8; }
  CellWord* CellOf(uint32_t slot) {
    const ChunkHead& head = chunks_[slot / kSlotsPerChunk];
    return cells_ + head.cells + uint64_t{slot % kSlotsPerChunk} * head.cell_words;
  }
  // The identity of a slot as the rules want it. Owner thread, or merger after acquiring the state.
  KeyView KeyOf(const SlotIdentity& identity) {
    const char* key = KeyAt(identity.key);
    return {.type = identity.type,
            .name = std::string_view(key, identity.name_size),
            .tags = std::string_view(key + identity.name_size + 1, identity.tags_size),
            .is_literal = identity.is_literal};
  }
  // Which rules read it. Owner thread, or merger after acquiring the state. If it is exchanged
  // meanwhile, the slot means the same by either.
  uint16_t GenerationOf(SlotIdentity& identity) {
    return RulesNumber<StdCopiedAtomics>(identity.rules_generation).Acquire();
  }
  // Owner thread, for a slot that is published.
  void SetGeneration(SlotIdentity& identity, uint16_t generation) {
    RulesNumber<StdCopiedAtomics>(identity.rules_generation).Publish(generation);
  }

 private:
  ShardMemory() = default;
  absl::Status Map(uint64_t key_bytes, uint64_t cell_bytes, int protection);
  bool Back(const void* begin, uint64_t bytes) const;

  int fd_ = -1;
  bool may_be_full_ = false;  // its file system, before it has what was reserved
  char* base_ = nullptr;
  size_t size_ = 0;
  Ledger* ledger_ = nullptr;
  ListenerName* listener_names_ = nullptr;
  uint64_t* layouts_ = nullptr;
  ChunkHead* chunks_ = nullptr;
  SlotStateWord* states_ = nullptr;
  EvictionWord* evictions_ = nullptr;
  SlotIdentity* identities_ = nullptr;
  char* keys_ = nullptr;
  CellWord* cells_ = nullptr;
  uint64_t key_bytes_ = 0;
  uint64_t cell_words_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_SHARD_MEMORY_H_
