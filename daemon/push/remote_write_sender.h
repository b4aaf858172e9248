// When to send what to a target of remote write, and what its answers mean. No socket, no clock.

#ifndef TALLYD_DAEMON_PUSH_REMOTE_WRITE_SENDER_H_
#define TALLYD_DAEMON_PUSH_REMOTE_WRITE_SENDER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "core/expose/remote_write.h"
#include "core/expose/write_request.h"
#include "daemon/push/clock_guard.h"
#include "daemon/push/write_batch.h"
#include "daemon/push/write_round.h"

namespace tallyd {

enum class WriteHistograms : uint8_t { kClassic, kNative, kBoth };

struct RemoteWriteSenderOptions {
  absl::Duration interval = absl::Seconds(15);
  absl::Duration max_age = absl::Minutes(5);  // a batch that is older is given up
  WriteProtocol protocol = WriteProtocol::k1;
  WriteHistograms histograms = WriteHistograms::kClassic;
  std::vector<std::pair<std::string, std::string>> external_labels;
  bool stale_markers = true;  // for series that end, and on exit for all if `end_on_exit`
  bool end_on_exit = true;
  int connections = 4;
  size_t batch_series = 2'000;
};

// Why samples did not get to a target: a closed list.
enum class WriteDrop : uint8_t {
  kRejected,    // the target does not take these series
  kTooOld,      // not taken within max_age
  kSuperseded,  // the target was away, and newer values took their place
};
inline constexpr size_t kWriteDrops = 3;

struct WriteMessage {
  WriteProtocol protocol = WriteProtocol::k1;
  std::shared_ptr<const std::string> body;
};

// What became of a message.
struct WriteAnswer {
  int status = 0;           // 0: there was none
  std::string detail = {};  // for people: the cause, or the beginning of the answer
  std::optional<int64_t> date_ms = std::nullopt;  // of the target's clock, Unix time
  std::optional<absl::Duration> retry_after = std::nullopt;
  std::optional<WrittenCounts> written =
      std::nullopt;  // what a receiver of 2.0 says that it stored
};

// What the sender needs of the world.
class RemoteWriteHost {
 public:
  virtual ~RemoteWriteHost() = default;
  virtual int64_t MonotonicNs() = 0;
  virtual int64_t WallMs() = 0;
  virtual double Random() = 0;  // in [0, 1)
  // Renders the newest state; then, later, RemoteWriteSender::OnRendered is called, once.
  virtual void Render(RemoteWriteEncoder::Options options) = 0;
  // Sends on a connection that has no message under way; then, later, OnAnswer is called, once.
  virtual void Send(int connection, WriteMessage message) = 0;
  virtual void CountStored(uint64_t series) = 0;
  virtual void CountDropped(WriteDrop reason, uint64_t series) = 0;
  virtual void Warn(const std::string& what, const std::string& detail) = 0;
  virtual void Inform(const std::string& what, const std::string& detail) = 0;
};

// A state machine. All of the target's series are rendered at once each interval, a *round*: it is
// cut into batches, which go by up to four connections, a series always by the same. While the
// target is away the batches in hand are kept and repeated, byte by byte; nothing is queued. Once
// it takes them the newest state is rendered.
//
// Memory: a rendering for the length of its round, a batch for each connection, and what SentSeries
// says; so it grows with the series, never with the time that a target is away.
//
// Thread-compatible. The host outlives it. It calls the host from within its own calls only, and
// the host never calls back from within those.
class RemoteWriteSender {
 public:
  static constexpr absl::Duration kProbeInterval = absl::Seconds(30);
  static constexpr absl::Duration kMinBackoff = absl::Milliseconds(30);
  static constexpr absl::Duration kMaxBackoff = absl::Seconds(5);
  static constexpr absl::Duration kMaxRetryAfter = absl::Minutes(5);
  // A series that was rejected is left out for so long, and counted as rejected.
  static constexpr absl::Duration kQuarantine = absl::Minutes(5);
  static constexpr size_t kMaxQuarantined = 10'000;
  // Prometheus ends a series by itself after this time without samples.
  static constexpr absl::Duration kLookback = absl::Minutes(5);
  static constexpr int kServerErrorsOfASuspect = 3;
  static constexpr int kMaxCulpritsOfARound = 64;

  RemoteWriteSender(RemoteWriteSenderOptions options, RemoteWriteHost* host);
  RemoteWriteSender(const RemoteWriteSender&) = delete;
  RemoteWriteSender& operator=(const RemoteWriteSender&) = delete;

  // Does what is due. To be called at the start and at NextWakeNs().
  void Advance();
  // On the monotonic clock.
  int64_t NextWakeNs() const;
  // `pages` of records; null: there was no rendering.
  void OnRendered(std::shared_ptr<const WritePages> pages);
  void OnAnswer(int connection, const WriteAnswer& answer);

  // A last round, and if the options say so the end of all series. Then finished() is true; or at
  // once, if the target or the clock does not allow it.
  void Finish();
  bool finished() const { return finished_; }

  // Why the target is sent nothing, for people; "" if it is sent to.
  std::string Trouble() const;
  bool clock_suspended() const;
  // Series whose samples are in hand and not stored yet.
  uint64_t pending() const;
  size_t remembered_series() const { return sent_.size(); }

 private:
  enum class Verdict : uint8_t { kStored, kUnsupported, kBadBatch, kSlowDown, kRetry, kRefused };
  enum class FinalStep : uint8_t { kNone, kValues, kEnds };

  struct Connection {
    WriteCursor cursor;
    std::unique_ptr<WriteBatch> batch;
    bool under_way = false;
    bool probing = false;  // what is under way is an empty request
    bool wants_probe = false;
    bool exhausted = true;                       // nothing of the round is left for it
    WriteProtocol protocol = WriteProtocol::k1;  // of what was sent last
    int failures = 0;                            // in a row
    int64_t retry_at_ns = 0;
  };
  // What is being sent.
  struct Round {
    std::shared_ptr<const WritePages> pages;
    WritePages with_ends;  // and the ends of series
    std::vector<EndedSeries> ended;
    int64_t began_ns = 0;
    bool superseded = false;
    int culprits = 0;
    bool told_culprit = false;
    bool told_batch = false;
  };

  bool refused() const { return !refusal_.empty(); }
  void Beat(int64_t now);
  void TryBegin(int64_t now);
  void BeginEnds();
  void StartRound(std::shared_ptr<const WritePages> pages, std::vector<EndedSeries> ended,
                  int64_t timestamp_ms);
  std::vector<EndedSeries> EndedBy(const WritePages& pages);
  void MaybeEndRound();
  void EndFinalStep();
  void AbandonRound();

  void Pump(int number, int64_t now);
  bool CutBatch(Connection* connection, int64_t now);
  std::string WithoutQuarantined(std::string records, int64_t now);
  void SendPiece(int number);
  void SendProbe(int number);

  Verdict Judge(const WriteAnswer& answer, bool probe, WriteProtocol protocol) const;
  void OnProbeAnswer(Connection* connection, Verdict verdict, const WriteAnswer& answer);
  void OnStored(Connection* connection, const WriteAnswer& answer);
  void OnSuspectPiece(Connection* connection, const WriteAnswer& answer);
  void OnBadPiece(Connection* connection, const WriteAnswer& answer);
  void OnCulprit(WriteBatch* batch, const WriteAnswer& answer);
  void OnRetry(Connection* connection, const WriteAnswer& answer);
  void OnRefused(const WriteAnswer& answer);
  void FallBack();
  void FallBackToClassic(const WriteAnswer& answer);
  void BackOff(Connection* connection);
  void Drop(WriteDrop reason, uint64_t series);
  void GiveUp(WriteBatch* batch, WriteDrop reason) { Drop(reason, batch->GiveUp()); }
  void CompareClocks(const WriteAnswer& answer);
  void NoteClock(ClockGuard::State before);

  const RemoteWriteSenderOptions options_;
  RemoteWriteHost* const host_;
  WriteRequestBuilder builder_;
  ClockGuard guard_;
  SentSeries sent_;
  std::vector<EndedSeries> untold_;  // ends that were not told in the round before
  int64_t untold_since_ns_ = 0;
  absl::flat_hash_map<uint64_t, int64_t> quarantine_;  // series to when, monotonic

  std::vector<Connection> connections_;
  std::optional<Round> round_;
  bool rendering_ = false;
  bool due_ = false;
  int64_t rendering_for_ms_ = 0;
  int64_t next_beat_ns_ = 0;
  int64_t paused_until_ns_ = 0;  // by Retry-After
  WriteProtocol protocol_;
  bool native_taken_ = false;  // ever
  bool native_refused_ = false;
  bool trouble_told_ = false;  // that the target does not answer
  uint64_t successes_ = 0;     // requests stored, without those about a batch that failed
  std::string refusal_;        // why the target is probed only; "": it is not
  int64_t probe_at_ns_ = 0;
  FinalStep final_step_ = FinalStep::kNone;
  bool finished_ = false;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_REMOTE_WRITE_SENDER_H_
