#include "daemon/sender_directory.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "core/rules/abseil_view.h"
#include "daemon/unique_fd.h"

namespace tallyd {
namespace {

// A look-up reads three small files, some 50 us; the loop has other things to do.
constexpr int kLookUpsPerTurn = 32;
constexpr auto kLookUpPause = std::chrono::milliseconds(5);
constexpr auto kWatchInterval = std::chrono::seconds(10);
constexpr int kWatchedPerTurn = 512;
constexpr size_t kMaxUnitBytes = 256;

// The beginning of a file of /proc, which is all that matters; empty if it cannot be read.
std::string ReadProc(int32_t pid, const char* name) {
  const std::string path = absl::StrCat("/proc/", pid, "/", name);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return "";
  std::array<char, 4096> buffer;
  const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
  return size > 0 ? std::string(buffer.data(), static_cast<size_t>(size)) : "";
}

int64_t ClockNs(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// /proc counts from the boot, sleep included; we do not.
int64_t MonotonicOfTicks(uint64_t ticks) {
  static const int64_t tick_ns = 1'000'000'000 / ::sysconf(_SC_CLK_TCK);
  const int64_t asleep_ns = ClockNs(CLOCK_BOOTTIME) - ClockNs(CLOCK_MONOTONIC);
  return static_cast<int64_t>(ticks) * tick_ns - asleep_ns;
}

}  // namespace

std::optional<uint64_t> StartTicksOf(std::string_view stat) {
  // The command is in brackets and may have any character in it, brackets and blanks too.
  const size_t end = stat.rfind(')');
  if (end == std::string_view::npos) return {};
  constexpr size_t kStartTime = 20;  // fields after the command
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat.data() + end + 1, stat.size() - end - 1), ' ');
  uint64_t ticks = 0;
  if (fields.size() <= kStartTime || !absl::SimpleAtoi(fields[kStartTime], &ticks)) return {};
  return ticks;
}

// The line of cgroup v2 is "0::PATH"; of v1 systemd has "N:name=systemd:PATH".
std::string UnitOf(std::string_view cgroup) {
  std::string path;
  for (const absl::string_view line : absl::StrSplit(View(cgroup), '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const bool unified = parts[0] == "0" && parts[1].empty() && path.empty();
    if (unified || parts[1] == "name=systemd") path = std::string(parts[2]);
  }
  std::string unit;
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    if (absl::EndsWith(part, ".service") || absl::EndsWith(part, ".scope")) {
      unit = std::string(part);
    }
  }
  if (unit.empty()) unit = path == "/" ? "" : path;
  return unit.substr(0, kMaxUnitBytes);
}

ProcessNames NamesOf(int32_t pid, int64_t seen_ns) {
  ProcessNames names;
  if (pid <= 0) return names;
  const std::optional<uint64_t> ticks = StartTicksOf(ReadProc(pid, "stat"));
  if (!ticks.has_value() || MonotonicOfTicks(*ticks) > seen_ns) return names;
  names.start_ticks = *ticks;
  names.command = ReadProc(pid, "comm");
  if (!names.command.empty() && names.command.back() == '\n') names.command.pop_back();
  names.unit = UnitOf(ReadProc(pid, "cgroup"));
  return names;
}

std::string SenderText(const SenderInfo& sender) {
  if (sender.kind != SenderInfo::Kind::kProcess) {
    return sender.kind == SenderInfo::Kind::kUnknown ? "unknown" : "others";
  }
  std::string text;
  if (sender.who.pid > 0) absl::StrAppend(&text, "pid ", sender.who.pid);
  if (!sender.names.command.empty()) absl::StrAppend(&text, " (", sender.names.command, ")");
  if (sender.who.uid != Credentials::kNobody) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "uid ", sender.who.uid);
  }
  if (!sender.names.unit.empty()) absl::StrAppend(&text, ", unit ", sender.names.unit);
  return text;
}

// A pid may be given to another process; its start tells them apart.
bool HasEnded(int32_t pid, uint64_t start_ticks) {
  if (::kill(pid, 0) != 0 && errno == ESRCH) return true;
  if (start_ticks == 0) return false;
  return StartTicksOf(ReadProc(pid, "stat")).value_or(start_ticks) != start_ticks;
}

SenderDirectory::SenderDirectory(Loop* loop, std::vector<SenderTable*> tables)
    : loop_(loop),
      tables_(std::move(tables)),
      named_(tables_.size()),
      pause_(*loop),
      watch_(*loop) {}

void SenderDirectory::Stop() {
  stopped_ = true;
  pause_.cancel();
  watch_.cancel();
}

void SenderDirectory::Ask() {
  if (asked_.exchange(true, std::memory_order_acq_rel)) return;
  boost::asio::post(*loop_, [this] {
    if (!pausing_ && !stopped_) Turn();
  });
}

// The next turn comes after a pause: a flood of new senders shall not keep the loop busy.
void SenderDirectory::Turn() {
  asked_.exchange(false, std::memory_order_acq_rel);
  const bool more = LookUpSome();
  pausing_ = true;
  pause_.expires_after(kLookUpPause);
  pause_.async_wait([this, more](const boost::system::error_code& error) {
    if (error || stopped_) return;
    pausing_ = false;
    if (more || asked_.load(std::memory_order_acquire)) Turn();
  });
}

bool SenderDirectory::LookUpSome() {
  int left = kLookUpsPerTurn;
  for (size_t table = 0; table < tables_.size(); ++table) {
    const uint16_t end = tables_[table]->size();
    named_[table].resize(std::max<size_t>(named_[table].size(), end));
    for (uint16_t number = SenderTable::kFirst; number < end; ++number) {
      SenderTable::View view;
      if (!tables_[table]->Read(number, &view)) continue;
      Named& named = named_[table][number];
      if (named.version == view.version) continue;
      if (left-- == 0) return true;
      named = {view.version, false, NamesOf(view.who.pid, view.first_seen_ns)};
    }
  }
  return false;
}

void SenderDirectory::WatchLater() {
  watch_.expires_after(kWatchInterval);
  watch_.async_wait([this](const boost::system::error_code& error) {
    if (error || stopped_) return;
    WatchSome();
    WatchLater();
  });
}

void SenderDirectory::WatchSome() {
  size_t tables_begun = 0;
  for (int left = kWatchedPerTurn; left > 0 && tables_begun <= tables_.size(); --left) {
    if (watched_number_ >= tables_[watched_table_]->size()) {
      watched_table_ = (watched_table_ + 1) % tables_.size();
      watched_number_ = SenderTable::kFirst;
      ++tables_begun;
      continue;
    }
    WatchOne(watched_table_, watched_number_++);
  }
}

void SenderDirectory::WatchOne(size_t table, uint16_t number) {
  SenderTable::View view;
  if (!tables_[table]->Read(number, &view) || view.who.pid <= 0) return;
  if (number >= named_[table].size()) return;
  Named& named = named_[table][number];
  if (named.version != view.version || named.ended) return;
  named.ended = HasEnded(view.who.pid, named.names.start_ticks);
  if (named.ended) tables_[table]->MarkEnded(number, view.version);
}

const SenderDirectory::Named* SenderDirectory::Find(size_t table, uint16_t number,
                                                    uint32_t version) const {
  if (number >= named_[table].size()) return nullptr;
  const Named& named = named_[table][number];
  return named.version == version ? &named : nullptr;
}

SenderInfo SenderDirectory::Describe(size_t shard, uint16_t number) const {
  SenderInfo info;
  SenderTable::View view;
  const SenderTable& table = *tables_[shard];
  if (number == SenderTable::kUnknown) {
    info.kind = SenderInfo::Kind::kUnknown;
  } else if (number == SenderTable::kOthers || number >= table.size()) {
    info.kind = SenderInfo::Kind::kOthers;
  }
  if (info.kind != SenderInfo::Kind::kProcess || !table.Read(number, &view)) {
    if (info.kind == SenderInfo::Kind::kProcess) info.kind = SenderInfo::Kind::kOthers;
    return info;
  }
  info.who = view.who;
  info.first_seen_ns = view.first_seen_ns;
  info.last_seen_ns = view.last_seen_ns;
  info.counts = view.counts;
  if (const Named* named = Find(shard, number, view.version); named != nullptr) {
    info.names = named->names;
    info.ended = named->ended;
  }
  return info;
}

std::vector<SenderInfo> SenderDirectory::List() const {
  std::vector<SenderInfo> list(2);
  list[0].kind = SenderInfo::Kind::kUnknown;
  list[1].kind = SenderInfo::Kind::kOthers;
  // A process that sends to several shards is one sender.
  absl::flat_hash_map<std::pair<Credentials, uint64_t>, size_t> places;
  for (size_t table = 0; table < tables_.size(); ++table) {
    for (uint16_t number = 0; number < tables_[table]->size(); ++number) {
      SenderTable::View view;
      if (!tables_[table]->Read(number, &view)) continue;
      if (number < SenderTable::kFirst) {
        list[number].counts.Add(view.counts);
        continue;
      }
      list[1].counts.Add(view.before);
      const Named* const named = Find(table, number, view.version);
      const uint64_t ticks = named == nullptr ? 0 : named->names.start_ticks;
      const auto [place, is_new] = places.try_emplace({view.who, ticks}, list.size());
      if (is_new) {
        SenderInfo& info = list.emplace_back();
        info.who = view.who;
        info.first_seen_ns = view.first_seen_ns;
        if (named != nullptr) info.names = named->names;
        info.ended = named != nullptr && named->ended;
      }
      SenderInfo& info = list[place->second];
      info.counts.Add(view.counts);
      info.first_seen_ns = std::min(info.first_seen_ns, view.first_seen_ns);
      info.last_seen_ns = std::max(info.last_seen_ns, view.last_seen_ns);
    }
  }
  return list;
}

}  // namespace tallyd
