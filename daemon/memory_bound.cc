#include "daemon/memory_bound.h"

#include <algorithm>
#include <bit>

#include "core/merge/page_directory.h"
#include "core/merge/series_table.h"
#include "core/merge/shard_reader.h"
#include "core/shard/cells.h"
#include "core/shard/key_table.h"
#include "core/shard/series_slots.h"
#include "core/shard/set_cell.h"
#include "core/shard/shard.h"
#include "core/shard/shard_memory.h"
#include "daemon/http_server.h"
#include "daemon/http_session.h"
#include "daemon/merge_thread.h"
#include "daemon/push_listener.h"
#include "daemon/receive_ring.h"
#include "daemon/shard_thread.h"
#include "daemon/stream_connection.h"
#include "daemon/unixgram_listener.h"

namespace tallyd {
namespace {

// Program and libraries, the registry of our own metrics, the log's queue; measured idle: 12 MiB.
constexpr uint64_t kProcessBytes = 32 << 20;
// Thread, loop, pipeline and scratch space of a shard, measured: 0.5 MiB; and as many senders as it
// tells apart, with the longest names, 2.5 MiB.
constexpr uint64_t kShardBytes = 4 << 20;
// Labels of overflow series, which are few.
constexpr uint64_t kOverflowLabelBytes = 64 << 20;
// A block of the heap beside what was asked for.
constexpr uint64_t kHeapBlock = 16;

uint64_t RoundUp(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

// Both arrays while a table grows, or is rebuilt in its size.
template <class Entry>
uint64_t OpenTableBytes(uint64_t entries) {
  return 2 * std::bit_ceil(std::max<uint64_t>(1024, entries / 3 * 4 + 2)) * sizeof(Entry);
}

// A vector while it grows: the old one, and the new one of twice the size.
uint64_t VectorBytes(uint64_t elements, uint64_t size) { return 3 * elements * size; }

// An absl::flat_hash_map while it grows; at most seven eighths full, a control byte a place.
uint64_t FlatMapBytes(uint64_t entries, uint64_t size) {
  return 3 * std::bit_ceil(entries / 7 * 8 + 8) * (size + 1) / 2;
}

// Everything that one series costs in one place or another.
class Bound {
 public:
  Bound(const Options& options, int connections, const SeriesShape& shape)
      : options_(options),
        shape_(shape),
        shards_(static_cast<uint64_t>(options.ShardCount())),
        connections_(static_cast<uint64_t>(std::max(0, connections))),
        series_(SeriesBudget::MostSeries(options.series_limit)),
        slots_(RoundUp(std::min<uint64_t>(series_, ShardMemory::kMaxSlots),
                       ShardMemory::kSlotsPerChunk)),
        keys_(std::max<uint64_t>(options.KeyLimit(), slots_) + SeriesSlots::kMaxPassingKeys) {}

  std::vector<MemoryPart> Parts() const {
    return {
        {"process and threads", kProcessBytes + shards_ * kShardBytes},
        {"mapping rules", 2 * shape_.mapping_bytes},  // old and new while reloading
        {"receive buffers", shards_ * ReceiveBytes()},
        {"relay packets", options_.relay_address.empty() ? 0 : shards_ * RelayBytes()},
        {"cells", shards_ * CellBytes()},
        {"slots", shards_ * SlotBytes()},
        {"keys", shards_ * KeyBytes()},
        {"key tables", shards_ * KeyTableBytes()},
        {"family types", FamilyTypeBytes()},
        {"series budget", BudgetBytes()},
        {"values of expired series", options_.expired_bytes},
        {"series table", SeriesTableBytes() + shards_ * ViewBytes()},
        {"values of several cells", MergedValueBytes()},
        {"pages", PageBytes()},
        {"pushed groups", PushedGroupBytes()},
        {"sender connections", connections_ * ConnectionBytes(), true},
        {"web connections", WebBytes(), true},
        {"pages of slow scrapes", PinnedBytes(), true},
        {"bodies of pushes", PushBodyBytes(), true},
        {"slow readers of groups", PinnedGroupBytes(), true},
    };
  }

 private:
  uint64_t CellWords() const {
    constexpr uint64_t kTouch = 1;  // of series that expire
    switch (shape_.kind) {
      case BoundKind::kCounters:
        return CounterCell::kWords + kTouch;
      case BoundKind::kGauges:
        return GaugeCell::kWords + kTouch;
      case BoundKind::kSets:
        return SetCell::kWords;
      case BoundKind::kHistograms:
        return HistogramCell::Words(shape_.histogram_bounds);
      case BoundKind::kSummaries:
        return HistogramCell::Words(0);
    }
    return 0;
  }
  // Chunks of other kinds may be begun.
  uint64_t CellBytes() const {
    constexpr uint64_t kBegunChunks = 16;
    return (slots_ + kBegunChunks * ShardMemory::kSlotsPerChunk) * CellWords() * sizeof(CellWord);
  }
  uint64_t SlotBytes() const {
    constexpr uint64_t kRetired = 16;
    return sizeof(ShardHeader) + slots_ / ShardMemory::kSlotsPerChunk * sizeof(ChunkHead) +
           slots_ * (sizeof(SlotStateWord) + sizeof(SlotIdentity)) +
           VectorBytes(slots_, sizeof(uint32_t)) + 2 * slots_ * kRetired;
  }
  // The keys that stay, and those that are remembered for the time being.
  uint64_t KeyBytes() const {
    const uint64_t accepted = std::max<uint64_t>(options_.KeyLimit(), slots_) *
                              RoundUp(shape_.text_bytes + 1, KeyMemory::kUnit);
    return std::min(accepted + 2 * SeriesSlots::kMaxPassingBytes, ShardOptions{}.max_key_bytes);
  }
  uint64_t KeyTableBytes() const {
    constexpr uint64_t kStoredKey = 16;
    const uint64_t aliases = FlatMapBytes(slots_, sizeof(uint32_t) + sizeof(std::vector<char>)) +
                             slots_ * (VectorBytes(3, kStoredKey) + kHeapBlock);
    const uint64_t repairs = FlatMapBytes(keys_, 8);
    return OpenTableBytes<KeyEntry>(keys_) + OpenTableBytes<IdentityEntry>(slots_) + aliases +
           repairs + 2 * SeriesSlots::kMaxPassingKeys * kStoredKey;
  }
  // Of four names a series, at most half full.
  uint64_t FamilyTypeBytes() const { return FamilyTypes::MemoryBytes(4 * options_.series_limit); }
  uint64_t BudgetBytes() const {
    return SeriesRoll::MemoryBytes(series_) + shards_ * VectorBytes(slots_, 2);
  }

  // Each series may be a family of its own.
  uint64_t SeriesTableBytes() const {
    const uint64_t labels =
        std::min(series_ * RoundUp(shape_.text_bytes, KeyMemory::kUnit),
                 options_.label_bytes + series_ * KeyMemory::kUnit + kOverflowLabelBytes);
    const uint64_t families = series_ * (sizeof(Family) + shape_.text_bytes + kHeapBlock);
    return VectorBytes(series_, sizeof(SeriesRecord)) + VectorBytes(2 * series_, sizeof(SeriesId)) +
           2 * OpenTableBytes<IdentityEntry>(series_) + labels + families;
  }
  uint64_t ViewBytes() const { return VectorBytes(slots_, sizeof(ShardReader::SlotView)); }

  // What the merger keeps of series with cells in several shards, and of cells that are gone.
  uint64_t MergedValueBytes() const {
    const uint64_t further_cells = FlatMapBytes(series_, sizeof(SeriesId) + 24) +
                                   series_ * (VectorBytes(shards_, sizeof(CellRef)) + kHeapBlock);
    constexpr uint64_t kRecord = 192;
    return further_cells + FlatMapBytes(series_, sizeof(SeriesId) + kRecord) +
           series_ * KeptBytes() + FlatMapBytes(series_, sizeof(SeriesId));
  }

  // Of a series, on the heap.
  uint64_t KeptBytes() const {
    constexpr uint64_t kWindow = sizeof(HistogramCell::WindowCounts) + kHeapBlock;
    switch (shape_.kind) {
      case BoundKind::kGauges:  // what each cell said
        return shards_ * 128 + kHeapBlock;
      case BoundKind::kHistograms:  // what the cells held that are gone
        return 8 * (shape_.histogram_bounds + 1) + kHeapBlock + kWindow;
      case BoundKind::kSummaries:  // the same, and what it was at each age
        return (shape_.summary_ages + 2) * (kWindow + 2 * kHeapBlock) + 512;  // and a deque
      default:
        return 0;
    }
  }

  uint64_t LinesOfASeries() const {
    if (shape_.kind == BoundKind::kHistograms) return shape_.histogram_bounds + 3;
    if (shape_.kind == BoundKind::kSummaries) return shape_.summary_quantiles + 2;
    return 1;
  }
  // The aggregates once, as text.
  uint64_t ExpositionBytes() const {
    constexpr uint64_t kLineBytes = 48;    // value, punctuation, a histogram's suffix and bound
    constexpr uint64_t kHeaderBytes = 96;  // HELP and TYPE beside the name
    return series_ * (LinesOfASeries() * (shape_.text_bytes + kLineBytes) + 2 * shape_.text_bytes +
                      kHeaderBytes);
  }
  // Two formats as text, in strings that may have twice the room, and compressed. Text may not let
  // itself be compressed.
  uint64_t PageBytes() const {
    const uint64_t pages = series_ / 64 + 64;
    return 2 * (2 + 1) * ExpositionBytes() + pages * (sizeof(Page) + kHeapBlock) +
           VectorBytes(series_, sizeof(SeriesId));
  }
  // Snapshots that scrapes still read while the pages have changed since.
  uint64_t PinnedBytes() const {
    const HttpServer::Options http;
    const uint64_t most = std::max<uint64_t>(http.max_pinned_bytes,
                                             HttpServer::kMinPinnedSnapshots * ExpositionBytes());
    const auto requests = static_cast<uint64_t>(options_.web_max_requests);
    return options_.web.empty() ? 0 : 2 * std::min(most, requests * ExpositionBytes());
  }

  // The groups, and their text in three formats, in strings that may have twice the room.
  uint64_t PushedGroupBytes() const {
    return options_.push.empty() ? 0 : (1 + 2 * 3) * StoredGroupBytes(options_);
  }
  // As they are read and as they wait; one that is decompressed, in twice the room; what it holds,
  // with the most labels.
  uint64_t PushBodyBytes() const {
    if (options_.push.empty()) return 0;
    constexpr uint64_t kParsedLabel = 2 * sizeof(std::string);
    const uint64_t parsed =
        options_.push_max_group_series * (sizeof(PushedMetric) + kMaxPushedLabels * kParsedLabel);
    return (2 * PushListener::kBodiesInMemory + 2) * options_.push_max_body_bytes + parsed;
  }
  // Groups that scrapes still read while others have taken their place.
  uint64_t PinnedGroupBytes() const {
    if (options_.push.empty()) return 0;
    const auto readers =
        static_cast<uint64_t>(options_.web_max_requests) + PushListener::kMaxReaders;
    return readers * StoredGroupBytes(options_);
  }

  static uint64_t ReceiveBytes() {
    return kUdpMessages * ReceiveRing::Stride(kUdpMessageBytes) +
           kUnixMessages * ReceiveRing::Stride(kUnixMessageBytes) + kStreamReadBytes;
  }
  // The unit that is begun and the one before it, in memory of up to twice the size.
  static uint64_t ConnectionBytes() {
    constexpr uint64_t kObjects = 2048;
    return 2 * 2 * (std::max(kMaxStreamFrameBytes, kMaxLineBytes) + kReadPadding) + kObjects;
  }
  uint64_t RelayBytes() const { return options_.relay_packet_bytes + kHeapBlock; }
  // Of scrapers and of pushers. TLS has each way a record in the library, one on its way to it and
  // one at the socket, and what it knows of the connection.
  uint64_t WebBytes() const {
    constexpr uint64_t kTlsBytes = (2 * 3 * 17 + 16) * 1024;
    const uint64_t each =
        2 * 4 * HttpSession::kMaxHeaderBytes + (options_.web_config_file.empty() ? 0 : kTlsBytes);
    const uint64_t scrapers = options_.web.empty() ? 0 : HttpServer::Options{}.max_connections;
    const uint64_t pushers = options_.push.empty() ? 0 : PushListener::Options{}.max_connections;
    return (scrapers + pushers) * each;
  }

  const Options& options_;
  const SeriesShape& shape_;
  const uint64_t shards_;
  const uint64_t connections_;
  const uint64_t series_;
  const uint64_t slots_;  // of a shard
  const uint64_t keys_;   // of a shard
};

}  // namespace

std::vector<MemoryPart> BoundMemory(const Options& options, int connections,
                                    const SeriesShape& shape) {
  return Bound(options, connections, shape).Parts();
}

uint64_t TotalBytes(const std::vector<MemoryPart>& parts) {
  uint64_t bytes = 0;
  for (const MemoryPart& part : parts) bytes += part.bytes;
  return bytes;
}

uint64_t TotalBytesWithoutPeers(const std::vector<MemoryPart>& parts) {
  uint64_t bytes = 0;
  for (const MemoryPart& part : parts) bytes += part.for_peers ? 0 : part.bytes;
  return bytes;
}

uint64_t MaxTextBytes(const Options& options) {
  const uint64_t by_limits = options.key_limits.name_bytes + options.key_limits.label_bytes;
  // Each shard keeps a key of each of its series.
  return std::min(by_limits, ShardOptions{}.max_key_bytes / options.series_limit);
}

uint64_t StoredGroupBytes(const Options& options) {
  constexpr uint64_t kBodies = 4;
  return kBodies * options.push_max_body_bytes;
}

uint64_t KernelBufferBytes(const Options& options) {
  // The kernel counts its own bookkeeping too, and so grants twice what was asked for.
  return uint64_t{2} * static_cast<uint64_t>(options.ReadBufferBytes()) * options.udp.size() *
         static_cast<uint64_t>(options.ShardCount());
}

}  // namespace tallyd
