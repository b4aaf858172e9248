#include "daemon/push/remote_write_sender.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace tallyd {
namespace {

constexpr int kUnsupportedMediaType = 415;
constexpr int kTooManyRequests = 429;
constexpr int kRequestTimeout = 408;

int64_t Ns(absl::Duration duration) { return absl::ToInt64Nanoseconds(duration); }

}  // namespace

RemoteWriteSender::RemoteWriteSender(RemoteWriteSenderOptions options, RemoteWriteHost* host)
    : options_(std::move(options)), host_(host), protocol_(options_.protocol) {
  connections_.resize(static_cast<size_t>(options_.connections));
}

void RemoteWriteSender::Advance() {
  if (finished_) return;
  const int64_t now = host_->MonotonicNs();
  if (now >= next_beat_ns_) Beat(now);
  for (int i = 0; i < options_.connections; ++i) Pump(i, now);
  MaybeEndRound();
  TryBegin(now);
}

int64_t RemoteWriteSender::NextWakeNs() const {
  int64_t wake = next_beat_ns_;
  if (refused()) {
    return connections_[0].under_way ? wake : std::min(wake, probe_at_ns_);
  }
  for (const Connection& connection : connections_) {
    const bool has_more = round_.has_value() && !round_->superseded && !connection.exhausted;
    if (connection.under_way || (connection.batch == nullptr && !has_more)) continue;
    wake = std::min(wake, std::max(connection.retry_at_ns, paused_until_ns_));
  }
  const bool may_begin = due_ && !rendering_ && !round_.has_value();
  if (may_begin && !connections_[0].under_way) {
    wake = std::min(wake, std::max(connections_[0].retry_at_ns, paused_until_ns_));
  }
  return wake;
}

// Beats that were missed are left out, and the others keep to the times they would have had.
void RemoteWriteSender::Beat(int64_t now) {
  const int64_t interval = Ns(options_.interval);
  if (next_beat_ns_ == 0) next_beat_ns_ = now;
  next_beat_ns_ += (std::max<int64_t>(0, now - next_beat_ns_) / interval + 1) * interval;

  const ClockGuard::State before = guard_.state();
  guard_.Beat(now, host_->WallMs());
  NoteClock(before);
  if (final_step_ != FinalStep::kNone) return;
  due_ = true;
  if (!round_.has_value()) return;
  // One that is merely slow goes on to its end. One that waits would only send what is old.
  const bool waits = std::any_of(connections_.begin(), connections_.end(), [&](const auto& c) {
    return c.batch != nullptr && (c.failures > 0 || paused_until_ns_ > now);
  });
  if (waits) round_->superseded = true;
}

void RemoteWriteSender::NoteClock(ClockGuard::State before) {
  const ClockGuard::State state = guard_.state();
  if (state == before) return;
  // What was waited for before has to do with another time.
  if (state == ClockGuard::State::kUnchecked) connections_[0].retry_at_ns = 0;
  if (state == ClockGuard::State::kStepped || state == ClockGuard::State::kAheadOfTarget) {
    AbandonRound();
    host_->Warn("pushing is suspended",
                state == ClockGuard::State::kStepped
                    ? "the wall clock has stepped by more than a minute"
                    : "the wall clock is more than a minute ahead of the target's");
  } else if (state == ClockGuard::State::kBelieved && before != ClockGuard::State::kUnchecked) {
    host_->Inform("pushing goes on", "the wall clock is believed again");
  }
}

void RemoteWriteSender::TryBegin(int64_t now) {
  if (finished_ || !due_ || rendering_ || round_.has_value()) return;
  if (refused() || paused_until_ns_ > now) return;
  Connection& first = connections_[0];
  if (guard_.wants_comparison()) {
    if (!first.under_way && first.retry_at_ns <= now) SendProbe(0);
    return;
  }
  const std::optional<int64_t> timestamp = guard_.Take(host_->WallMs());
  if (!timestamp.has_value()) {
    due_ = false;  // with the next beat
    if (final_step_ != FinalStep::kNone) finished_ = true;
    return;
  }
  due_ = false;
  rendering_ = true;
  rendering_for_ms_ = *timestamp;
  RemoteWriteEncoder::Options options;
  options.timestamp_ms = *timestamp;
  options.external_labels = options_.external_labels;
  options.native_histograms = options_.histograms != WriteHistograms::kClassic && !native_refused_;
  options.classic_histograms =
      options_.histograms != WriteHistograms::kNative || !options.native_histograms;
  host_->Render(std::move(options));
}

void RemoteWriteSender::OnRendered(std::shared_ptr<const WritePages> pages) {
  rendering_ = false;
  if (finished_) return;
  if (pages == nullptr || refused()) {
    if (final_step_ != FinalStep::kNone) finished_ = true;
    return;
  }
  std::vector<EndedSeries> ended = EndedBy(*pages);
  StartRound(std::move(pages), std::move(ended), rendering_for_ms_);
  Advance();
}

// What this rendering has no longer, and what was not told before.
std::vector<EndedSeries> RemoteWriteSender::EndedBy(const WritePages& pages) {
  if (!options_.stale_markers) return {};
  std::vector<EndedSeries> ended = sent_.Replace(pages);
  if (untold_.empty()) return ended;
  if (host_->MonotonicNs() - untold_since_ns_ < Ns(kLookback)) {
    absl::flat_hash_set<uint64_t> skip;
    for (const EndedSeries& series : ended) skip.insert(series.hash);
    WriteRecord record;
    for (const PageBuffer& page : pages) {
      for (WriteRecordReader reader(*page); reader.Next(&record);) skip.insert(record.hash);
    }
    for (EndedSeries& series : untold_) {
      if (!skip.contains(series.hash)) ended.push_back(std::move(series));
    }
  }
  untold_.clear();
  return ended;
}

void RemoteWriteSender::StartRound(std::shared_ptr<const WritePages> pages,
                                   std::vector<EndedSeries> ended, int64_t timestamp_ms) {
  Round round;
  round.pages = std::move(pages);
  round.with_ends = *round.pages;
  if (!ended.empty()) {
    std::string page;
    for (const EndedSeries& series : ended) {
      if (quarantine_.contains(series.hash)) continue;
      AppendStaleRecord(series.labels, series.type, timestamp_ms, &page);
    }
    round.with_ends.push_back(std::make_shared<const std::string>(std::move(page)));
    round.ended = std::move(ended);
  }
  round.began_ns = host_->MonotonicNs();
  round_ = std::move(round);
  for (int i = 0; i < options_.connections; ++i) {
    Connection& connection = connections_[static_cast<size_t>(i)];
    connection.cursor = WriteCursor(&round_->with_ends, i, options_.connections);
    connection.exhausted = false;
  }
}

void RemoteWriteSender::MaybeEndRound() {
  if (!round_.has_value()) return;
  for (const Connection& connection : connections_) {
    if (connection.under_way || connection.batch != nullptr) return;
    if (!connection.exhausted && !round_->superseded) return;
  }
  if (round_->superseded) {
    untold_ = std::move(round_->ended);
    untold_since_ns_ = round_->began_ns;
    due_ = true;
  }
  round_.reset();
  for (Connection& connection : connections_) connection.cursor = WriteCursor();
  if (!due_ && final_step_ != FinalStep::kNone) EndFinalStep();
}

void RemoteWriteSender::EndFinalStep() {
  if (final_step_ == FinalStep::kValues && options_.stale_markers && options_.end_on_exit) {
    return BeginEnds();
  }
  finished_ = true;
}

void RemoteWriteSender::BeginEnds() {
  final_step_ = FinalStep::kEnds;
  const std::optional<int64_t> timestamp = guard_.TakeNext(host_->WallMs());
  if (!timestamp.has_value() || sent_.size() == 0) {
    finished_ = true;
    return;
  }
  StartRound(std::make_shared<const WritePages>(), sent_.TakeAll(), *timestamp);
  const int64_t now = host_->MonotonicNs();
  for (int i = 0; i < options_.connections; ++i) Pump(i, now);
  MaybeEndRound();
}

void RemoteWriteSender::Finish() {
  if (final_step_ != FinalStep::kNone) return;
  final_step_ = FinalStep::kValues;
  due_ = true;
  if (refused() || guard_.state() == ClockGuard::State::kStepped) finished_ = true;
  if (round_.has_value() && trouble_told_) round_->superseded = true;
  Advance();
}

// Nothing of it is sent any more; what is under way is.
void RemoteWriteSender::AbandonRound() {
  if (!round_.has_value()) return;
  round_->superseded = true;
  for (Connection& connection : connections_) {
    if (connection.batch != nullptr) GiveUp(connection.batch.get(), WriteDrop::kSuperseded);
    connection.batch.reset();
    connection.wants_probe = false;
  }
}

void RemoteWriteSender::Pump(int number, int64_t now) {
  Connection& connection = connections_[static_cast<size_t>(number)];
  if (finished_ || connection.under_way) return;
  if (refused()) {
    if (number == 0 && now >= probe_at_ns_) SendProbe(number);
    return;
  }
  if (connection.retry_at_ns > now || paused_until_ns_ > now) return;
  if (connection.batch != nullptr && now - connection.batch->born_ns() > Ns(options_.max_age)) {
    GiveUp(connection.batch.get(), WriteDrop::kTooOld);
    connection.batch.reset();
    connection.wants_probe = false;
    if (round_.has_value()) round_->superseded = true;  // what follows in it is as old
  }
  if (connection.batch == nullptr && !CutBatch(&connection, now)) return;
  if (connection.wants_probe) return SendProbe(number);
  SendPiece(number);
}

bool RemoteWriteSender::CutBatch(Connection* connection, int64_t now) {
  while (round_.has_value() && !round_->superseded) {
    std::string records;
    connection->exhausted = connection->cursor.Take(options_.batch_series, &records) == 0;
    if (connection->exhausted) return false;
    if (!quarantine_.empty()) records = WithoutQuarantined(std::move(records), now);
    if (records.empty()) continue;
    connection->batch = std::make_unique<WriteBatch>(std::move(records), now);
    connection->batch->successes_at_birth = successes_;
    connection->batch->successes_before = successes_;
    return true;
  }
  return false;
}

std::string RemoteWriteSender::WithoutQuarantined(std::string records, int64_t now) {
  std::string kept;
  uint64_t dropped = 0;
  const char* begin = records.data();
  WriteRecord record;
  for (WriteRecordReader reader(records); reader.Next(&record);) {
    const char* const end = record.entry.data() + record.entry.size();
    const auto found = quarantine_.find(record.hash);
    if (found != quarantine_.end() && found->second <= now) quarantine_.erase(found);
    if (quarantine_.contains(record.hash)) {
      ++dropped;
    } else {
      kept.append(begin, end);
    }
    begin = end;
  }
  Drop(WriteDrop::kRejected, dropped);
  return kept;
}

void RemoteWriteSender::SendPiece(int number) {
  Connection& connection = connections_[static_cast<size_t>(number)];
  connection.under_way = true;
  connection.probing = false;
  connection.protocol = protocol_;
  host_->Send(number, {protocol_, connection.batch->PieceBody(protocol_, &builder_)});
}

// An empty request stores nothing and is answered as any other.
void RemoteWriteSender::SendProbe(int number) {
  Connection& connection = connections_[static_cast<size_t>(number)];
  connection.under_way = true;
  connection.probing = true;
  connection.wants_probe = false;
  connection.protocol = protocol_;
  host_->Send(number,
              {protocol_, std::make_shared<const std::string>(builder_.Build(protocol_, {}))});
}

RemoteWriteSender::Verdict RemoteWriteSender::Judge(const WriteAnswer& answer, bool probe,
                                                    WriteProtocol protocol) const {
  const int status = answer.status;
  if (status >= 200 && status < 300) {
    // A receiver of 1.0 takes a request of 2.0 for an empty one.
    const bool understood = probe || protocol == WriteProtocol::k1 || answer.written.has_value();
    return understood ? Verdict::kStored : Verdict::kUnsupported;
  }
  if (status == kUnsupportedMediaType && protocol != WriteProtocol::k1)
    return Verdict::kUnsupported;
  if (status == 400 || status == 413 || status == 422) return Verdict::kBadBatch;
  if (status == kTooManyRequests) return Verdict::kSlowDown;
  if (status < 200 || status >= 500 || status == kRequestTimeout) return Verdict::kRetry;
  return Verdict::kRefused;
}

void RemoteWriteSender::OnAnswer(int number, const WriteAnswer& answer) {
  Connection& connection = connections_[static_cast<size_t>(number)];
  connection.under_way = false;
  if (finished_) return;
  const bool probe = connection.probing;
  const Verdict verdict = Judge(answer, probe, connection.protocol);
  if (probe && verdict == Verdict::kStored) CompareClocks(answer);
  if (verdict == Verdict::kStored) connection.retry_at_ns = 0;
  // While a batch fails, an empty request that is taken does not show that data is.
  const bool shows_health = !probe || connection.batch == nullptr;
  if (verdict == Verdict::kStored && shows_health) {
    ++successes_;
    connection.failures = 0;
    if (std::exchange(trouble_told_, false)) host_->Inform("the target takes data again", "");
  }
  if (probe) {
    OnProbeAnswer(&connection, verdict, answer);
  } else if (verdict == Verdict::kRefused) {
    OnRefused(answer);
  } else if (connection.batch != nullptr) {
    switch (verdict) {
      case Verdict::kStored:
        OnStored(&connection, answer);
        break;
      case Verdict::kUnsupported:
        FallBack();
        break;
      case Verdict::kBadBatch:
        OnBadPiece(&connection, answer);
        break;
      default:
        OnRetry(&connection, answer);
    }
  }
  if (connection.batch != nullptr && connection.batch->done()) connection.batch.reset();
  if (answer.date_ms.has_value()) CompareClocks(answer);
  Advance();
}

void RemoteWriteSender::CompareClocks(const WriteAnswer& answer) {
  const ClockGuard::State before = guard_.state();
  guard_.Compare(host_->WallMs(), answer.date_ms);
  NoteClock(before);
}

// A probe is sent to a target that refused us, before the first round and after steps of the
// clock, and to learn whether 5xx is meant for the batch or for everybody.
void RemoteWriteSender::OnProbeAnswer(Connection* connection, Verdict verdict,
                                      const WriteAnswer& answer) {
  if (verdict == Verdict::kRefused) return OnRefused(answer);
  if (verdict == Verdict::kUnsupported) {
    FallBack();
    probe_at_ns_ = 0;
    return;
  }
  if (refused()) {
    if (verdict != Verdict::kStored && verdict != Verdict::kBadBatch) {
      probe_at_ns_ = host_->MonotonicNs() + Ns(kProbeInterval);
      return;
    }
    refusal_.clear();
    due_ = true;
    host_->Inform("the target lets us in again", "");
    return;
  }
  if (verdict == Verdict::kStored) {
    // Ahead of the target's clock there is nothing to hurry for.
    if (guard_.wants_comparison()) {
      connection->retry_at_ns = host_->MonotonicNs() + Ns(kProbeInterval);
      if (final_step_ != FinalStep::kNone) finished_ = true;
    }
    if (connection->batch != nullptr) OnSuspectPiece(connection, answer);
    return;
  }
  OnRetry(connection, answer);
}

void RemoteWriteSender::OnStored(Connection* connection, const WriteAnswer& answer) {
  WriteBatch& batch = *connection->batch;
  const WrittenCounts sent = batch.piece_counts();
  uint64_t stored = sent.samples + sent.histograms;
  if (connection->protocol == WriteProtocol::k2) {
    stored = std::min(stored, answer.written->samples + answer.written->histograms);
    Drop(WriteDrop::kRejected, sent.samples + sent.histograms - stored);
  }
  if (sent.histograms > 0) native_taken_ = true;
  host_->CountStored(stored);
  batch.PieceDone();
  batch.successes_before = successes_;
}

// The target takes an empty request, but not this. One whose storage is down may do so too: nothing
// is a culprit before the target has taken any data since the batch was cut.
void RemoteWriteSender::OnSuspectPiece(Connection* connection, const WriteAnswer& answer) {
  WriteBatch& batch = *connection->batch;
  if (successes_ > batch.successes_at_birth) return OnBadPiece(connection, answer);
  // Where nothing but native histograms is sent there may never be such data.
  const bool is_native = batch.piece_counts().samples == 0;
  if (is_native && !native_taken_ && !native_refused_) return FallBackToClassic(answer);
  batch.PutOffPiece();
  batch.successes_before = successes_;
}

// The target takes other things, but not this.
void RemoteWriteSender::OnBadPiece(Connection* connection, const WriteAnswer& answer) {
  WriteBatch& batch = *connection->batch;
  const bool many =
      round_.has_value() && round_->culprits >= kMaxCulpritsOfARound && batch.piece_size() > 1;
  if (batch.culprits() >= WriteBatch::kMaxCulprits || many) {
    if (round_.has_value() && !std::exchange(round_->told_batch, true)) {
      host_->Warn("the target rejects most of a batch", answer.detail);
    }
    GiveUp(&batch, WriteDrop::kRejected);
  } else if (batch.piece_size() > 1) {
    batch.HalvePiece();
    batch.successes_before = successes_;
  } else {
    OnCulprit(&batch, answer);
  }
}

void RemoteWriteSender::OnCulprit(WriteBatch* batch, const WriteAnswer& answer) {
  const WriteRecord culprit = batch->first_of_piece();
  if (round_.has_value() && !std::exchange(round_->told_culprit, true)) {
    host_->Warn("the target rejects a series",
                absl::StrCat(SeriesText(culprit.labels), ": ", answer.detail));
  }
  if (quarantine_.size() < kMaxQuarantined) {
    quarantine_[culprit.hash] = host_->MonotonicNs() + Ns(kQuarantine);
  }
  const bool is_native = culprit.is_native;
  batch->PieceIsCulprit();
  batch->successes_before = successes_;
  if (round_.has_value()) ++round_->culprits;
  Drop(WriteDrop::kRejected, 1);
  if (is_native && !native_refused_) FallBackToClassic(answer);
}

// No native histogram would fare better, so the round is rendered anew without.
void RemoteWriteSender::FallBackToClassic(const WriteAnswer& answer) {
  native_refused_ = true;
  host_->Warn("the target takes no native histograms, it gets classic ones from now on",
              answer.detail);
  AbandonRound();
  if (round_.has_value()) round_->ended.clear();
  sent_.Clear();  // what it never had needs no end
  quarantine_.clear();
}

void RemoteWriteSender::OnRetry(Connection* connection, const WriteAnswer& answer) {
  const int64_t now = host_->MonotonicNs();
  const bool slow_down = answer.status == kTooManyRequests;
  if (!std::exchange(trouble_told_, true)) {
    host_->Warn(slow_down ? "the target wants fewer requests" : "the target does not take data",
                answer.detail);
  }
  WriteBatch* const batch = connection->batch.get();
  if (answer.status >= 500 && batch != nullptr && !connection->probing) {
    ++batch->server_errors;
    if (batch->server_errors >= kServerErrorsOfASuspect) batch->is_suspect = true;
    if (batch->is_suspect) {
      // What it took while this piece failed shows that the target works.
      if (successes_ > batch->successes_before) return OnBadPiece(connection, answer);
      connection->wants_probe = true;
    }
  }
  BackOff(connection);
  if (!slow_down && !answer.retry_after.has_value()) return;
  const absl::Duration asked = answer.retry_after.value_or(kMinBackoff);
  const absl::Duration bounded = std::min(std::max(asked, kMinBackoff), kMaxRetryAfter);
  // Not all senders shall come back in the same moment.
  constexpr double kJitter = 0.1;
  const int64_t until_ns = now + Ns(bounded * (1 + kJitter * host_->Random()));
  paused_until_ns_ = std::max(paused_until_ns_, until_ns);
}

// Full jitter: anywhere between at once and the bound, which doubles.
void RemoteWriteSender::BackOff(Connection* connection) {
  constexpr int kMaxDoublings = 16;
  const int doublings = std::min(connection->failures++, kMaxDoublings);
  const absl::Duration bound = std::min(kMaxBackoff, kMinBackoff * (int64_t{1} << doublings));
  connection->retry_at_ns = host_->MonotonicNs() + Ns(bound * host_->Random());
}

void RemoteWriteSender::OnRefused(const WriteAnswer& answer) {
  const int64_t now = host_->MonotonicNs();
  probe_at_ns_ = now + Ns(kProbeInterval);
  const std::string refusal = absl::StrCat("refused: ", answer.detail);
  if (!refused())
    host_->Warn("the target refuses us; it is asked again from time to time", refusal);
  refusal_ = refusal;
  AbandonRound();
  if (final_step_ != FinalStep::kNone) finished_ = true;
}

void RemoteWriteSender::FallBack() {
  if (protocol_ == WriteProtocol::k1) return;
  protocol_ = WriteProtocol::k1;
  host_->Warn("the target does not know remote write 2.0", "it gets 1.0 from now on");
}

void RemoteWriteSender::Drop(WriteDrop reason, uint64_t series) {
  if (series > 0) host_->CountDropped(reason, series);
}

std::string RemoteWriteSender::Trouble() const {
  if (refused()) return refusal_;
  switch (guard_.state()) {
    case ClockGuard::State::kStepped:
      return "suspended: the wall clock has stepped";
    case ClockGuard::State::kAheadOfTarget:
      return "suspended: the wall clock is ahead of the target's";
    default:
      return trouble_told_ ? "does not take data" : "";
  }
}

bool RemoteWriteSender::clock_suspended() const {
  return guard_.state() == ClockGuard::State::kStepped ||
         guard_.state() == ClockGuard::State::kAheadOfTarget ||
         (guard_.state() == ClockGuard::State::kUnchecked && guard_.last_taken_ms() > 0) ||
         guard_.last_taken_ms() > host_->WallMs();
}

uint64_t RemoteWriteSender::pending() const {
  uint64_t pending = 0;
  for (const Connection& connection : connections_) {
    if (connection.batch != nullptr && !connection.batch->done()) {
      pending += connection.batch->piece_size();
    }
  }
  return pending;
}

}  // namespace tallyd
