#include "daemon/push/write_answer.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/rules/abseil_view.h"

namespace tallyd {
namespace {

// Abseil reads "infinite-past" too, and years that nobody can calculate with.
std::optional<absl::Time> ReadHttpDate(std::string_view text) {
  constexpr absl::Duration kMostSinceEpoch = absl::Hours(24 * 365 * 10'000);
  absl::Time time;
  std::string error;
  if (!absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", View(text), &time, &error) ||
      time < absl::UnixEpoch() || time > absl::UnixEpoch() + kMostSinceEpoch) {
    return std::nullopt;
  }
  return time;
}

std::optional<uint64_t> ReadCount(const HttpResult& result, std::string_view header) {
  uint64_t count = 0;
  if (!absl::SimpleAtoi(View(result.Header(header)), &count)) return std::nullopt;
  return count;
}

std::optional<WrittenCounts> ReadWritten(const HttpResult& result) {
  const auto samples = ReadCount(result, "X-Prometheus-Remote-Write-Samples-Written");
  const auto histograms = ReadCount(result, "X-Prometheus-Remote-Write-Histograms-Written");
  const auto exemplars = ReadCount(result, "X-Prometheus-Remote-Write-Exemplars-Written");
  if (!samples && !histograms && !exemplars) return std::nullopt;
  return WrittenCounts{.samples = samples.value_or(0), .histograms = histograms.value_or(0)};
}

// Seconds, or a date.
std::optional<absl::Duration> ReadRetryAfter(const HttpResult& result) {
  const std::string_view text = result.Header("Retry-After");
  int64_t seconds = 0;
  if (absl::SimpleAtoi(View(text), &seconds)) return absl::Seconds(std::max<int64_t>(0, seconds));
  const std::optional<absl::Time> until = ReadHttpDate(text);
  if (!until.has_value()) return std::nullopt;
  return std::max(absl::ZeroDuration(), *until - absl::Now());
}

}  // namespace

WriteAnswer AnswerOf(const HttpResult& result) {
  WriteAnswer answer;
  answer.status = result.status;
  answer.detail = result.status == 0
                      ? absl::StrCat(View(PushCauseName(result.cause)), ": ", result.error)
                      : absl::StrCat("status ", result.status, ": ", result.error);
  // What could not be read to its end says nothing for sure, except if it was stored or not wanted.
  if (result.cause == PushCause::kTimeout || result.cause == PushCause::kClosed ||
      result.cause == PushCause::kBadAnswer) {
    answer.status = 0;
  }
  if (const auto date = ReadHttpDate(result.Header("Date"))) {
    answer.date_ms = absl::ToUnixMillis(*date);
  }
  answer.retry_after = ReadRetryAfter(result);
  answer.written = ReadWritten(result);
  return answer;
}

}  // namespace tallyd
