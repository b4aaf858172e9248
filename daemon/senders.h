// Who sends: what the kernel says of the processes behind UNIX sockets, as numbers.

#ifndef TALLYD_DAEMON_SENDERS_H_
#define TALLYD_DAEMON_SENDERS_H_

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/shard/ledger.h"
#include "core/shard/shard.h"

namespace tallyd {

// A process as the kernel vouches for it, by SO_PEERCRED or SCM_CREDENTIALS: nothing of it comes
// from the payload. (A privileged process may name others; then the kernel vouches for that.)
struct Credentials {
  static constexpr uint32_t kNobody = UINT32_MAX;
  // What the kernel says where it does not know, or may not say.
  static constexpr uint32_t kOverflowId = 65'534;

  int32_t pid = 0;  // 0: none, or not to be seen from our PID namespace
  uint32_t uid = kNobody;
  uint32_t gid = kNobody;

  static Credentials Of(const ucred& credentials) {
    return {credentials.pid, credentials.uid, credentials.gid};
  }
  bool known() const { return pid > 0 || (uid != kNobody && uid != kOverflowId); }

  bool operator==(const Credentials&) const = default;
  template <typename Hash>
  friend Hash AbslHashValue(Hash hash, const Credentials& credentials) {
    return Hash::combine(std::move(hash), credentials.pid, credentials.uid, credentials.gid);
  }
};

// The peer of a connected UNIX socket; unknown for others.
Credentials PeerOf(int fd);

// The senders of one shard, and the numbers under which it accounts for them.
//
// A number is handed out at once, without asking anybody. There are as many rows as the shard has
// accounts; a sender that finds none counts as one of kOthers. Once all rows are taken, those are
// given to new senders whose own are gone or have been silent for kKeepSilent, the longest silent
// first, as long as they have no connection: the series they made are charged to nobody then. What
// they had counted moves to the others, so that no sample leaves the account.
//
// Invariant: the sum over all rows, with the unknown and the others, is what the shard's ledger
// has, whenever no batch is open. The shard's accounts only grow; what a row had counted before its
// present sender came is kept beside it and subtracted.
//
// Ownership: the shard's thread calls what is marked so. Any thread reads rows: `version` is odd
// while one is rewritten. The fields are stored with release and loaded with acquire, so whoever
// sees one of the new values sees an odd version, or a later one, when he looks again.
class SenderTable {
 public:
  static constexpr uint16_t kUnknown = Source::kUnknownSender;
  static constexpr uint16_t kOthers = 1;
  static constexpr uint16_t kFirst = 2;
  static constexpr int64_t kKeepSilentNs = 60'000'000'000;

  struct Counts {
    uint64_t datagrams = 0;
    uint64_t samples = 0;
    uint64_t dropped = 0;
    uint64_t folded = 0;
    uint64_t series_made = 0;
    uint64_t series = 0;  // charged to its budget now; moves nowhere

    void Add(const Counts& other);
    void Subtract(const Counts& other);
  };

  // What is known of a row.
  struct View {
    Credentials who;       // unknown of kUnknown and kOthers
    uint32_t version = 0;  // another one: another sender
    int64_t first_seen_ns = 0;
    int64_t last_seen_ns = 0;  // to the second
    Counts counts;             // of this sender
    Counts before;             // of those who had the row before; they belong to the others
  };

  // `shard` outlives the table. `rows` with the first two; `on_new` is called by the owner's thread
  // when a sender has got a row, and may not wait.
  explicit SenderTable(Shard* shard, uint16_t rows = Source::kMaxSenders,
                       std::function<void()> on_new = nullptr);
  SenderTable(const SenderTable&) = delete;
  SenderTable& operator=(const SenderTable&) = delete;

  // Before the shard's thread runs.
  void SetOnNew(std::function<void()> on_new) { on_new_ = std::move(on_new); }

  // Owner thread, for each datagram.
  uint16_t NumberOf(const Credentials& who, int64_t now_ns) {
    const Recent& recent = recent_[static_cast<uint32_t>(who.pid) % kRecent];
    if (recent.number != kUnknown && recent.who == who) return recent.number;
    return Find(who, now_ns);
  }
  // Owner thread. As NumberOf; the row is kept until Close.
  uint16_t Open(const Credentials& who, int64_t now_ns);
  void Close(uint16_t number);
  // Owner thread, about once a second.
  void Beat(int64_t now_ns);

  // Any thread. Rows up to here have been in use.
  uint16_t size() const { return size_.load(std::memory_order_acquire); }
  // Any thread. False if the row is just being rewritten, or never was written.
  bool Read(uint16_t number, View* view) const;
  // Any thread: the process that had `version` of the row is gone.
  void MarkEnded(uint16_t number, uint32_t version);

 private:
  static constexpr size_t kRecent = 256;
  static constexpr size_t kBlockRows = 64;

  struct SharedCounts {
    std::atomic<uint64_t> datagrams{0};
    std::atomic<uint64_t> samples{0};
    std::atomic<uint64_t> dropped{0};
    std::atomic<uint64_t> folded{0};
    std::atomic<uint64_t> series_made{0};
  };

  struct Row {
    std::atomic<uint32_t> version{0};  // odd: is being rewritten; 0: never was
    std::atomic<int32_t> pid{0};
    std::atomic<uint32_t> uid{Credentials::kNobody};
    std::atomic<uint32_t> gid{Credentials::kNobody};
    std::atomic<int64_t> first_seen_ns{0};
    std::atomic<int64_t> last_seen_ns{0};
    std::atomic<uint32_t> ended{0};  // the version whose process is gone
    SharedCounts before;
    // Owner thread.
    Credentials who;
    uint32_t connections = 0;
    uint64_t datagrams_at_beat = 0;
    bool listed = false;  // in numbers_
  };

  struct Recent {
    Credentials who;
    uint16_t number = kUnknown;
  };

  Row& row(uint16_t number) { return (*blocks_[number / kBlockRows])[number % kBlockRows]; }
  const Row& row(uint16_t number) const {
    return (*blocks_[number / kBlockRows])[number % kBlockRows];
  }
  uint16_t Find(const Credentials& who, int64_t now_ns);
  uint16_t NewRow(const Credentials& who, int64_t now_ns);
  uint16_t AppendRow();
  uint16_t ReuseRow();
  void FindReusable();
  bool IsReusable(uint16_t number) const;
  void Occupy(uint16_t number, const Credentials& who, int64_t now_ns);
  void Unlist(uint16_t number);
  Counts CountsOf(uint16_t number) const;
  static Counts Load(const SharedCounts& counts);
  static void Store(const Counts& counts, SharedCounts* to);

  Shard* const shard_;
  const uint16_t rows_;
  std::function<void()> on_new_;

  using Block = std::array<Row, kBlockRows>;
  std::array<std::unique_ptr<Block>, Source::kMaxSenders / kBlockRows> blocks_;
  // Release and acquire: the blocks of rows below it are there.
  std::atomic<uint16_t> size_{kFirst};

  // Owner thread.
  std::array<Recent, kRecent> recent_;
  absl::flat_hash_map<Credentials, uint16_t> numbers_;
  std::vector<uint16_t> reusable_;  // longest silent last
  bool searched_ = false;           // for reusable rows, since the last beat
  int64_t beat_ns_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_SENDERS_H_
