// The log: one line per event of the process, on stderr, written by a thread of its own.
//
// Nobody waits for it: past a bound the oldest lines are dropped and counted, and a reader of
// stderr that does not read costs lines, not time. Of one kind (a message, whatever its fields) at
// most ten lines are written a minute. Not for the data path, whose language is counters.
//
// Where stderr is the journal's, each line begins with its priority, as sd-daemon(3) has it.

#ifndef TALLYD_DAEMON_LOG_H_
#define TALLYD_DAEMON_LOG_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tallyd {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
enum class LogFormat { kLogfmt, kJson };

using LogFields = std::vector<std::pair<std::string, std::string>>;

// Starts the thread; std::system_error if there can be none. Before, and after StopLog, lines are
// written by the caller.
void StartLog(LogLevel level, LogFormat format);
// Writes what is queued, as far as stderr takes it within a second, and ends.
void StopLog();

// Any thread.
void Log(LogLevel level, const std::string& message, const LogFields& fields = {});
void LogDebug(const std::string& message, const LogFields& fields = {});
void LogInfo(const std::string& message, const LogFields& fields = {});
void LogWarn(const std::string& message, const LogFields& fields = {});
void LogError(const std::string& message, const LogFields& fields = {});

// Why a line was not written: a closed list.
enum class LogSuppression : uint8_t {
  kRateLimited,  // too many of its kind
  kQueueFull,    // stderr took nothing for so long that newer ones needed its place
  kWriteFailed,  // stderr refused it: a full disk, a reader that is gone
  kCount
};
inline constexpr size_t kLogSuppressions = static_cast<size_t>(LogSuppression::kCount);
inline constexpr std::array<std::string_view, kLogSuppressions> kLogSuppressionNames = {
    "rate_limited", "queue_full", "write_failed"};

// Any thread. Lines that were not written, by the reason.
std::array<uint64_t, kLogSuppressions> LogLinesSuppressed();

// One line without its LF; `time` is RFC 3339. Texts of more than kMaxLogTextBytes are cut. For the
// tests.
inline constexpr size_t kMaxLogTextBytes = 16384;
std::string FormatLogLine(LogFormat format, LogLevel level, const std::string& time,
                          const std::string& message, const LogFields& fields);

// The priority of a level before a line for the journal: "<6>".
const char* JournalPriority(LogLevel level);
// Whether JOURNAL_STREAM, "device:inode", names what `fd` is. For the tests.
bool IsJournal(const char* journal_stream, int fd);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LOG_H_
