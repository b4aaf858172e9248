#include "daemon/senders.h"

#include <algorithm>

namespace tallyd {

Credentials PeerOf(int fd) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return {};
  return Credentials::Of(peer);
}

void SenderTable::Counts::Add(const Counts& other) {
  datagrams += other.datagrams;
  samples += other.samples;
  dropped += other.dropped;
  folded += other.folded;
  series_made += other.series_made;
  series += other.series;
}

void SenderTable::Counts::Subtract(const Counts& other) {
  datagrams -= other.datagrams;
  samples -= other.samples;
  dropped -= other.dropped;
  folded -= other.folded;
  series_made -= other.series_made;
  series -= other.series;
}

SenderTable::SenderTable(Shard* shard, uint16_t rows, std::function<void()> on_new)
    : shard_(shard),
      rows_(std::clamp(rows, kFirst, Source::kMaxSenders)),
      on_new_(std::move(on_new)) {
  blocks_[0] = std::make_unique<Block>();
}

uint16_t SenderTable::Find(const Credentials& who, int64_t now_ns) {
  if (!who.known()) return kUnknown;
  const auto found = numbers_.find(who);
  const uint16_t number = found != numbers_.end() ? found->second : NewRow(who, now_ns);
  if (number != kOthers) recent_[static_cast<uint32_t>(who.pid) % kRecent] = {who, number};
  return number;
}

uint16_t SenderTable::Open(const Credentials& who, int64_t now_ns) {
  const uint16_t number = NumberOf(who, now_ns);
  if (number >= kFirst) ++row(number).connections;
  return number;
}

void SenderTable::Close(uint16_t number) {
  if (number >= kFirst) --row(number).connections;
}

uint16_t SenderTable::NewRow(const Credentials& who, int64_t now_ns) {
  beat_ns_ = std::max(beat_ns_, now_ns);
  const uint16_t number = size() < rows_ ? AppendRow() : ReuseRow();
  if (number == kOthers) return number;
  Occupy(number, who, now_ns);
  if (on_new_) on_new_();
  return number;
}

uint16_t SenderTable::AppendRow() {
  const uint16_t number = size();
  std::unique_ptr<Block>& block = blocks_[number / kBlockRows];
  if (block == nullptr) block = std::make_unique<Block>();
  size_.store(static_cast<uint16_t>(number + 1), std::memory_order_release);
  return number;
}

uint16_t SenderTable::ReuseRow() {
  if (reusable_.empty() && !searched_) FindReusable();
  while (!reusable_.empty()) {
    const uint16_t number = reusable_.back();
    reusable_.pop_back();
    if (IsReusable(number)) return number;
  }
  return kOthers;
}

// Once a second at most, so that a flood of new senders buys one search and not one each.
void SenderTable::FindReusable() {
  searched_ = true;
  for (uint16_t number = kFirst; number < size(); ++number) {
    if (IsReusable(number)) reusable_.push_back(number);
  }
  std::sort(reusable_.begin(), reusable_.end(), [this](uint16_t a, uint16_t b) {
    return row(a).last_seen_ns.load(std::memory_order_relaxed) >
           row(b).last_seen_ns.load(std::memory_order_relaxed);
  });
}

bool SenderTable::IsReusable(uint16_t number) const {
  const Row& of = row(number);
  const SenderCounts& counts = shard_->sender_counts(number);
  if (of.connections != 0) return false;
  if (counts.datagrams.Get() != of.datagrams_at_beat) return false;
  return !of.listed || beat_ns_ - of.last_seen_ns.load(std::memory_order_relaxed) >= kKeepSilentNs;
}

// The sender that leaves may still be in the caches of numbers.
void SenderTable::Unlist(uint16_t number) {
  Row& of = row(number);
  if (!std::exchange(of.listed, false)) return;
  numbers_.erase(of.who);
  Recent& recent = recent_[static_cast<uint32_t>(of.who.pid) % kRecent];
  if (recent.number == number) recent = {};
}

void SenderTable::Occupy(uint16_t number, const Credentials& who, int64_t now_ns) {
  Unlist(number);
  shard_->ForgetSender(number);
  Row& of = row(number);
  const uint32_t version = of.version.load(std::memory_order_relaxed);
  of.version.store(version + 1, std::memory_order_relaxed);
  of.pid.store(who.pid, std::memory_order_release);
  of.uid.store(who.uid, std::memory_order_release);
  of.gid.store(who.gid, std::memory_order_release);
  of.first_seen_ns.store(now_ns, std::memory_order_release);
  of.last_seen_ns.store(now_ns, std::memory_order_release);
  const Counts before = CountsOf(number);
  Store(before, &of.before);
  of.version.store(version + 2, std::memory_order_release);

  of.who = who;
  of.datagrams_at_beat = before.datagrams;
  of.listed = true;
  numbers_[who] = number;
}

void SenderTable::Beat(int64_t now_ns) {
  beat_ns_ = std::max(beat_ns_, now_ns);
  searched_ = false;
  for (uint16_t number = kFirst; number < size(); ++number) {
    Row& of = row(number);
    const uint64_t datagrams = shard_->sender_counts(number).datagrams.Get();
    const bool silent = of.connections == 0 && datagrams == of.datagrams_at_beat;
    of.datagrams_at_beat = datagrams;
    if (!silent) {
      of.last_seen_ns.store(now_ns, std::memory_order_relaxed);
    } else if (of.ended.load(std::memory_order_relaxed) ==
               of.version.load(std::memory_order_relaxed)) {
      // What else comes of this process was queued; whoever gets its pid is somebody else.
      Unlist(number);
    }
  }
}

bool SenderTable::Read(uint16_t number, View* view) const {
  *view = View{};
  if (number < kFirst) {
    view->counts = CountsOf(number);
    return true;
  }
  const Row& of = row(number);
  const uint32_t version = of.version.load(std::memory_order_acquire);
  if (version == 0 || version % 2 != 0) return false;
  view->version = version;
  view->who.pid = of.pid.load(std::memory_order_acquire);
  view->who.uid = of.uid.load(std::memory_order_acquire);
  view->who.gid = of.gid.load(std::memory_order_acquire);
  view->first_seen_ns = of.first_seen_ns.load(std::memory_order_acquire);
  view->last_seen_ns = of.last_seen_ns.load(std::memory_order_acquire);
  view->before = Load(of.before);
  // After what is subtracted from them, so that they are not less.
  view->counts = CountsOf(number);
  view->counts.Subtract(view->before);
  return of.version.load(std::memory_order_relaxed) == version;
}

void SenderTable::MarkEnded(uint16_t number, uint32_t version) {
  row(number).ended.store(version, std::memory_order_relaxed);  // a hint: no data hangs on it
}

SenderTable::Counts SenderTable::CountsOf(uint16_t number) const {
  const SenderCounts& counts = shard_->sender_counts(number);
  return {.datagrams = counts.datagrams.Get(),
          .samples = counts.samples.Get(),
          .dropped = counts.dropped.Get(),
          .folded = counts.folded.Get(),
          .series_made = counts.series_made.Get(),
          .series = counts.series.Get()};
}

SenderTable::Counts SenderTable::Load(const SharedCounts& counts) {
  return {.datagrams = counts.datagrams.load(std::memory_order_acquire),
          .samples = counts.samples.load(std::memory_order_acquire),
          .dropped = counts.dropped.load(std::memory_order_acquire),
          .folded = counts.folded.load(std::memory_order_acquire),
          .series_made = counts.series_made.load(std::memory_order_acquire)};
}

void SenderTable::Store(const Counts& counts, SharedCounts* to) {
  to->datagrams.store(counts.datagrams, std::memory_order_release);
  to->samples.store(counts.samples, std::memory_order_release);
  to->dropped.store(counts.dropped, std::memory_order_release);
  to->folded.store(counts.folded, std::memory_order_release);
  to->series_made.store(counts.series_made, std::memory_order_release);
}

}  // namespace tallyd
