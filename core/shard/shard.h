// A shard: the cells and the key table that one thread writes.
//
// The hot path lives here: bytes of a datagram in, cells changed. In the steady state (every key
// has been seen) nothing between Apply and EndBatch allocates, locks, logs or throws.

#ifndef TALLYD_CORE_SHARD_SHARD_H_
#define TALLYD_CORE_SHARD_SHARD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/rules/rule_book.h"
#include "core/rules/rules.h"
#include "core/shard/family_types.h"
#include "core/shard/ledger.h"
#include "core/shard/series_budget.h"
#include "core/shard/shard_memory.h"
#include "core/wire/name_tags.h"
#include "core/wire/sample.h"

namespace tallyd {

class BatchPipeline;
class ViolationLog;

struct ShardOptions {
  int index = 0;
  uint64_t hash_seed = 0;
  uint64_t max_keys = 4'000'000;               // entries of the key table that are kept for good
  uint64_t max_key_bytes = uint64_t{1} << 30;  // key memory of this shard
  uint32_t max_line_bytes = 65'535;
  TagDialects tags = {};
  MemorySession session = {};
  int memory_fd = -1;  // an empty file for the memory, which is taken over; -1: one of its own
};

// One receive buffer's worth of context: which listener it came in by, how to read it, who sent it.
struct Source {
  // Numbers of senders, and so the rows of their accounts in a shard.
  static constexpr uint16_t kMaxSenders = 4096;
  // What the kernel does not tell: senders over UDP and TCP.
  static constexpr uint16_t kUnknownSender = 0;

  uint16_t listener = 0;  // index of the listener in the ledger
  Dialect dialect = Dialect::kStatsd;
  // The number that whoever fills this in has given to the sender; below kMaxSenders. It is one of
  // this shard alone: the same number in another shard is somebody else.
  uint16_t sender = kUnknownSender;
};

// A series that another process had, and what its cell begins with. Counts are not here: they are
// the merger's (Merger::Restore).
struct KeptSeries {
  KeyView key;
  SeriesKind kind = SeriesKind::kCounter;
  uint16_t layout = 0;  // of an observer
  std::string_view name;
  std::string_view labels;
  double gauge = 0;
  double carry = 0;                        // of an observer
  std::span<const uint8_t> set_registers;  // of a set's present window
  std::span<const uint64_t> set_hashes;
};

// Invariant: exactly one thread, the owner, calls the methods marked so; the merger reads memory()
// under the protocols of protocol.h, and writes only the words that are listed there as its own.
// Thread-compatible otherwise.
class Shard {
 public:
  // What it shares with the other shards outlives it. It begins with the newest rules. Fails if the
  // memory cannot be reserved.
  static absl::StatusOr<std::unique_ptr<Shard>> Create(const ShardOptions& options, RuleBook* book,
                                                       FamilyTypes* families, SeriesBudget* budget);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // Owner thread. A batch is what one receive call returned. `now_ns` is the monotonic clock.
  void BeginBatch(int64_t now_ns);
  // Owner thread, within a batch. Takes in one datagram or frame of `size` bytes, of which
  // kReadPadding more are readable; counts it, its bytes and its samples for the listener. The
  // bytes must stay in place until EndBatch. The byte after the end is written during the call and
  // put back.
  void Apply(Source source, char* datagram_untrusted, size_t size);
  // Owner thread, within a batch. As Apply, for a datagram that was cut: complete lines count, the
  // cut last one is dropped as truncated.
  void ApplyTruncated(Source source, char* datagram_untrusted, size_t size);
  // Owner thread, within a batch. As Apply, for what comes in by a session: `session`
  // (SessionLabels, core/rules/label_set.h, without the "|=") becomes part of each key. Costs more
  // than Apply.
  void ApplyInSession(Source source, std::string_view session, const char* datagram_untrusted,
                      size_t size);
  // Owner thread, within a batch. A datagram that is not read: each line that is not empty is one
  // sample dropped for `reason`.
  void Refuse(Source source, std::string_view datagram_untrusted, DropReason reason);
  // Owner thread, within a batch. A sample that never reached the parser: one received, one
  // dropped.
  void Drop(Source source, DropReason reason);
  // Owner thread, within a batch, before any sample came. Makes the slot of a series as its first
  // sample would; false if by the present rules and limits the key is not this series.
  bool Restore(const KeptSeries& kept);
  // Owner thread. Applies what is pending and publishes the batch.
  void EndBatch();
  // Owner thread, outside a batch; about once a second also when nothing arrives. Expires idle
  // series, gives memory back to use once the merger has passed.
  void Turn(int64_t now_ns);
  // Owner thread. The number stands for another sender from now on.
  void ForgetSender(uint16_t sender);
  // Owner thread, outside a batch. Reads keys by another generation of the book from now on; takes
  // over the caller's hold of it.
  void UseRules(uint16_t generation);

  // Owner thread: writes the counts that the listeners know. Any thread: reads them.
  Ledger& ledger();
  const Ledger& ledger() const;
  // Of the sender of this number, below Source::kMaxSenders. Any thread: reads it.
  const SenderCounts& sender_counts(uint16_t sender) const;
  // Any thread.
  ViolationLog& violations();
  // Merger thread.
  ShardMemory& memory();
  // Any thread.
  int index() const;

 private:
  class Impl;
  explicit Shard(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_SHARD_H_
