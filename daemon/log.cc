#include "daemon/log.h"

#include <poll.h>
#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/json.h"

namespace tallyd {
namespace {

constexpr size_t kQueuedLines = 1024;
constexpr int kPatienceMs = 1000;

std::atomic<uint64_t> lines_refused{0};
std::atomic<bool> stopping{false};

// Writes lines of up to PIPE_BUF bytes, and only when stderr is ready to take one: a write to it
// would block for as long as its reader likes. One thread, the log's, calls sink_it_.
class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 private:
  void sink_it_(const spdlog::details::log_msg& msg) override {
    spdlog::memory_buf_t line;
    formatter_->format(msg, line);
    if (!Ready() || ::write(STDERR_FILENO, line.data(), line.size()) < 0) {
      lines_refused.fetch_add(1, std::memory_order_relaxed);
    }
  }
  void flush_() override {}

  static bool Ready() {
    pollfd ready{STDERR_FILENO, POLLOUT, 0};
    const int patience_ms = stopping.load(std::memory_order_acquire) ? 0 : kPatienceMs;
    return ::poll(&ready, 1, patience_ms) > 0 && (ready.revents & POLLOUT) != 0;
  }
};

// The running log. Changed only by StartLog and StopLog, which the main thread calls while no other
// thread logs.
struct Running {
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::async_logger> logger;
  uint64_t overrun = 0;  // of pools that are gone
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kLogfmt;
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

std::string LogfmtValue(const std::string& text) {
  const bool plain = !text.empty() && text.find_first_of(" =\"\\\t\r\n") == std::string::npos;
  return plain ? text : JsonString(text);  // which logfmt understands as well
}

std::string LogfmtLine(LogLevel level, const std::string& time, const std::string& message,
                       const LogFields& fields) {
  std::string line =
      absl::StrCat("ts=", time, " level=", NameOf(level), " msg=", JsonString(message));
  for (const auto& [name, value] : fields) {
    absl::StrAppend(&line, " ", name, "=", LogfmtValue(value));
  }
  return line;
}

std::string JsonLine(LogLevel level, const std::string& time, const std::string& message,
                     const LogFields& fields) {
  std::string line = absl::StrCat("{\"ts\":", JsonString(time), ",\"level\":\"", NameOf(level),
                                  "\",\"msg\":", JsonString(message));
  for (const auto& [name, value] : fields) {
    absl::StrAppend(&line, ",", JsonString(name), ":", JsonString(value));
  }
  line.push_back('}');
  return line;
}

std::string Now() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
}

}  // namespace

std::string FormatLogLine(LogFormat format, LogLevel level, const std::string& time,
                          const std::string& message, const LogFields& fields) {
  return format == LogFormat::kJson ? JsonLine(level, time, message, fields)
                                    : LogfmtLine(level, time, message, fields);
}

void StartLog(LogLevel level, LogFormat format) {
  Running& log = running();
  log.level = level;
  log.format = format;
  stopping.store(false, std::memory_order_release);
  auto sink = std::make_shared<StderrSink>();
  sink->set_formatter(std::make_unique<spdlog::pattern_formatter>("%v"));
  log.pool = std::make_shared<spdlog::details::thread_pool>(kQueuedLines, 1);
  log.logger = std::make_shared<spdlog::async_logger>(
      "tallyd", std::move(sink), log.pool, spdlog::async_overflow_policy::overrun_oldest);
  log.logger->set_level(spdlog::level::trace);  // ours decides
}

void StopLog() {
  Running& log = running();
  stopping.store(true, std::memory_order_release);
  if (log.pool) log.overrun += log.pool->overrun_counter();
  log.logger.reset();
  log.pool.reset();
}

void Log(LogLevel level, const std::string& message, const LogFields& fields) {
  const Running& log = running();
  if (level < log.level) return;
  const std::string line = FormatLogLine(log.format, level, Now(), message, fields);
  if (log.logger) {
    log.logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
    return;
  }
  const std::string whole = line + "\n";
  if (::write(STDERR_FILENO, whole.data(), whole.size()) < 0) {
    lines_refused.fetch_add(1, std::memory_order_relaxed);
  }
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

uint64_t LogLinesDropped() {
  const Running& log = running();
  const uint64_t overrun = log.overrun + (log.pool ? log.pool->overrun_counter() : 0);
  return overrun + lines_refused.load(std::memory_order_relaxed);
}

}  // namespace tallyd
