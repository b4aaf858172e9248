#include "daemon/log.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/clock.h"
#include "daemon/json.h"
#include "daemon/log_limit.h"
#include "daemon/log_writer.h"

namespace tallyd {
namespace {

constexpr absl::Duration kPatienceAtTheEnd = absl::Seconds(1);

std::atomic<uint64_t> rate_limited{0};

// The running log. Changed only by StartLog and StopLog, which the main thread calls while no other
// thread logs.
struct Running {
  std::unique_ptr<LogWriter> writer;
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kLogfmt;
  bool journal = false;
  std::mutex mu;
  LogLimit limit;  // guarded by mu
};

Running& running() {
  static auto* const instance = new Running();
  return *instance;
}

const char* NameOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

// As a JSON string, which logfmt understands as well.
std::string Quoted(const std::string& text) {
  if (text.size() <= kMaxLogTextBytes) return JsonString(text);
  size_t end = kMaxLogTextBytes;
  // Not within a character.
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return JsonString(text.substr(0, end) + "...");
}

std::string LogfmtValue(const std::string& text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= ' ' || byte == 0x7F || c == '=' || c == '"' || c == '\\') return Quoted(text);
  }
  return text.empty() || text.size() > kMaxLogTextBytes ? Quoted(text) : text;
}

std::string LogfmtLine(LogLevel level, const std::string& time, const std::string& message,
                       const LogFields& fields) {
  std::string line = absl::StrCat("ts=", time, " level=", NameOf(level), " msg=", Quoted(message));
  for (const auto& [name, value] : fields) {
    absl::StrAppend(&line, " ", name, "=", LogfmtValue(value));
  }
  return line;
}

std::string JsonLine(LogLevel level, const std::string& time, const std::string& message,
                     const LogFields& fields) {
  std::string line = absl::StrCat("{\"ts\":", JsonString(time), ",\"level\":\"", NameOf(level),
                                  "\",\"msg\":", Quoted(message));
  for (const auto& [name, value] : fields) {
    absl::StrAppend(&line, ",", JsonString(name), ":", Quoted(value));
  }
  line.push_back('}');
  return line;
}

std::string Now() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
}

LogLimit::Verdict TakeAllowance(Running* log, const std::string& message) {
  const std::scoped_lock lock(log->mu);
  return log->limit.Take(message, MonotonicNs());
}

std::string WholeLine(const Running& log, LogLevel level, const std::string& message,
                      const LogFields& fields) {
  return absl::StrCat(log.journal ? JournalPriority(level) : "",
                      FormatLogLine(log.format, level, Now(), message, fields), "\n");
}

}  // namespace

std::string FormatLogLine(LogFormat format, LogLevel level, const std::string& time,
                          const std::string& message, const LogFields& fields) {
  return format == LogFormat::kJson ? JsonLine(level, time, message, fields)
                                    : LogfmtLine(level, time, message, fields);
}

const char* JournalPriority(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "<7>";
    case LogLevel::kInfo:
      return "<6>";
    case LogLevel::kWarn:
      return "<4>";
    case LogLevel::kError:
      return "<3>";
  }
  return "<3>";
}

bool IsJournal(const char* journal_stream, int fd) {
  if (journal_stream == nullptr) return false;
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(journal_stream, absl::MaxSplits(':', 1));
  uint64_t device = 0;
  uint64_t inode = 0;
  if (!absl::SimpleAtoi(parts.first, &device) || !absl::SimpleAtoi(parts.second, &inode)) {
    return false;
  }
  struct stat what {};
  return ::fstat(fd, &what) == 0 && what.st_dev == device && what.st_ino == inode;
}

void StartLog(LogLevel level, LogFormat format) {
  Running& log = running();
  log.level = level;
  log.format = format;
  log.journal = IsJournal(std::getenv("JOURNAL_STREAM"), STDERR_FILENO);
  log.writer = std::make_unique<LogWriter>(STDERR_FILENO);
}

void StopLog() {
  Running& log = running();
  if (log.writer) log.writer->Stop(kPatienceAtTheEnd);
  log.writer.reset();
}

void Log(LogLevel level, const std::string& message, const LogFields& fields) {
  Running& log = running();
  if (level < log.level) return;
  const LogLimit::Verdict verdict = TakeAllowance(&log, message);
  if (!verdict.let_through) {
    rate_limited.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  LogFields all = fields;
  if (verdict.held_back > 0) all.emplace_back("held_back", absl::StrCat(verdict.held_back));
  std::string line = WholeLine(log, level, message, all);
  if (log.writer) return log.writer->Write(std::move(line));
  // Nobody is there to count for.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

void LogDebug(const std::string& message, const LogFields& fields) {
  Log(LogLevel::kDebug, message, fields);
}
void LogInfo(const std::string& message, const LogFields& fields) {
  Log(LogLevel::kInfo, message, fields);
}
void LogWarn(const std::string& message, const LogFields& fields) {
  Log(LogLevel::kWarn, message, fields);
}
void LogError(const std::string& message, const LogFields& fields) {
  Log(LogLevel::kError, message, fields);
}

std::array<uint64_t, kLogSuppressions> LogLinesSuppressed() {
  const Running& log = running();
  std::array<uint64_t, kLogSuppressions> lines{};
  lines[static_cast<size_t>(LogSuppression::kRateLimited)] =
      rate_limited.load(std::memory_order_relaxed);
  if (log.writer) {
    lines[static_cast<size_t>(LogSuppression::kQueueFull)] = log.writer->lost_to_full_queue();
    lines[static_cast<size_t>(LogSuppression::kWriteFailed)] = log.writer->lost_to_failed_write();
  }
  return lines;
}

}  // namespace tallyd
