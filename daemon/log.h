// The log: one line per event of the process, on stderr, written by a thread of its own.
//
// Nobody waits for it: past a bound the oldest lines are dropped and counted, and a reader of
// stderr that does not read costs lines, not time. Not for the data path, whose language is
// counters.

#ifndef TALLYD_DAEMON_LOG_H_
#define TALLYD_DAEMON_LOG_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tallyd {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
enum class LogFormat { kLogfmt, kJson };

using LogFields = std::vector<std::pair<std::string, std::string>>;

// Starts the thread. Before, and after StopLog, lines are written by the caller.
void StartLog(LogLevel level, LogFormat format);
// Writes what is queued, as far as stderr takes it without waiting, and ends the thread.
void StopLog();

// Any thread.
void Log(LogLevel level, const std::string& message, const LogFields& fields = {});
void LogDebug(const std::string& message, const LogFields& fields = {});
void LogInfo(const std::string& message, const LogFields& fields = {});
void LogWarn(const std::string& message, const LogFields& fields = {});
void LogError(const std::string& message, const LogFields& fields = {});

// Any thread. Lines that were lost, because the queue was full or stderr took no more.
uint64_t LogLinesDropped();

// One line without its LF; `time` is RFC 3339. For the tests.
std::string FormatLogLine(LogFormat format, LogLevel level, const std::string& time,
                          const std::string& message, const LogFields& fields);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LOG_H_
