#include "daemon/status_line.h"

#include <boost/system/error_code.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/clock.h"

namespace tallyd {
namespace {

std::string Rate(uint64_t before, uint64_t now, absl::Duration between) {
  const double seconds = absl::ToDoubleSeconds(between);
  const double rate = seconds > 0 ? static_cast<double>(now - before) / seconds : 0;
  return absl::StrFormat("%.0f", rate);
}

}  // namespace

std::string StatusText(const StatusNumbers& before, const StatusNumbers& now,
                       absl::Duration between) {
  std::string text =
      absl::StrCat(Rate(before.received, now.received, between), " samples/s, ", now.series,
                   " series, ", Rate(before.dropped, now.dropped, between), " dropped/s");
  if (now.kernel_dropped > before.kernel_dropped) {
    absl::StrAppend(&text, ", ", Rate(before.kernel_dropped, now.kernel_dropped, between),
                    " datagrams/s dropped by the kernel");
  }
  return text;
}

StatusLine::StatusLine(Loop* control, const ServiceManager* manager, Numbers numbers)
    : timer_(*control), manager_(manager), numbers_(std::move(numbers)) {}

void StatusLine::Start() {
  if (!manager_->present()) return;
  before_ = numbers_();
  before_ns_ = MonotonicNs();
  SendLater();
}

void StatusLine::SendLater() {
  timer_.expires_after(absl::ToChronoNanoseconds(kInterval));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) Send();
  });
}

void StatusLine::Send() {
  const StatusNumbers now = numbers_();
  const int64_t now_ns = MonotonicNs();
  const std::string text = StatusText(before_, now, absl::Nanoseconds(now_ns - before_ns_));
  (void)manager_->NotifyIfRoom(absl::StrCat("STATUS=", text));  // said again soon
  before_ = now;
  before_ns_ = now_ns;
  SendLater();
}

}  // namespace tallyd
