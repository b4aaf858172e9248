#include "daemon/top_command.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/admin_client.h"
#include "daemon/clock.h"
#include "daemon/terminal_screen.h"
#include "daemon/top_report.h"

namespace tallyd {
namespace {

// Rows of the long tables: more than a screen has, so that another order finds others too.
constexpr uint64_t kRows = 200;
constexpr size_t kMaxAnswerBytes = size_t{64} << 20;
constexpr absl::Duration kAnswerTimeout = absl::Seconds(2);
constexpr absl::Duration kShortestInterval = absl::Milliseconds(100);
constexpr absl::Duration kLongestInterval = absl::Minutes(1);
constexpr size_t kPageRows = 10;

// What the daemon says now. `stop`: asked some times a second; once it is true this ends.
absl::StatusOr<TopReport> Fetch(const std::string& socket, uint64_t rows,
                                const std::function<bool()>& stop) {
  absl::StatusOr<AdminClient> client = AdminClient::Connect(socket, kAnswerTimeout);
  if (!client.ok()) return client.status();
  std::string answer;
  const auto keep = [&answer](std::string_view bytes) {
    if (answer.size() + bytes.size() > kMaxAnswerBytes) {
      return absl::ResourceExhaustedError("the answer is too long");
    }
    answer.append(bytes);
    return absl::OkStatus();
  };
  const std::string target = absl::StrCat("/top?families=", rows, "&senders=", rows);
  const absl::Status status = client->Get(target, keep, stop);
  if (!status.ok()) return status;
  return ParseTop(answer);
}

ExitCode Fail(const absl::Status& status) {
  std::cerr << "tallyctl: " << status.message() << "\n";
  return ExitCode::kRuntimeFailure;
}

// Two reports, so that there are rates.
ExitCode RunOnce(const TopOptions& options) {
  absl::StatusOr<TopReport> report = Fetch(options.socket, TopQuestion::kMostRows, nullptr);
  if (!report.ok()) return Fail(report.status());
  if (options.interval > absl::ZeroDuration()) {
    absl::SleepFor(options.interval);
    const TopReport before = *std::move(report);
    report = Fetch(options.socket, TopQuestion::kMostRows, nullptr);
    if (!report.ok()) return Fail(report.status());
    AddRates(before, &*report);
  }
  if (options.json) {
    std::cout << TopJson(*report);
  } else {
    TopView view;
    view.exact = true;
    view.sort = options.sort;
    for (const TopLine& line : TopLines(*report, view)) std::cout << line.text << "\n";
  }
  std::cout.flush();
  return std::cout.good() ? ExitCode::kClean : ExitCode::kRuntimeFailure;
}

// The live view: asks, draws, and does what keys say.
class LiveTop {
 public:
  LiveTop(const TopOptions& options, TerminalScreen* screen)
      : socket_(options.socket), interval_(options.interval), screen_(screen) {
    view_.keys = true;
    view_.sort = options.sort;
  }

  // Until somebody quits: 0, or the signal that asked for the end.
  int Run() {
    while (!quit_) {
      if (!paused_ && MonotonicNs() >= due_ns_) Ask();
      Draw();
      const int64_t deadline_ns = paused_ ? MonotonicNs() + kSecondNs : due_ns_;
      const TerminalScreen::Event event = screen_->Wait(deadline_ns);
      if (event.signal != 0) return event.signal;
      for (const int key : event.keys) OnKey(key);
    }
    return 0;
  }

 private:
  static constexpr int64_t kSecondNs = 1'000'000'000;

  void Ask() {
    due_ns_ = MonotonicNs() + absl::ToInt64Nanoseconds(interval_);
    absl::StatusOr<TopReport> report =
        Fetch(socket_, kRows, [] { return TerminalScreen::Interrupted(); });
    if (!report.ok()) {
      trouble_ = std::string(report.status().message());
      return;
    }
    trouble_.clear();
    if (report_.has_value()) AddRates(*report_, &*report);
    report_ = *std::move(report);
  }

  void Draw() {
    const TerminalScreen::Size size = screen_->size();
    view_.width = size.width;
    view_.height = size.height;
    view_.message = !trouble_.empty() ? trouble_ : paused_ ? "paused" : "";
    if (helping_) return screen_->Draw(TopHelp(view_));
    screen_->Draw(TopLines(report_.value_or(TopReport{}), view_));
  }

  void OnKey(int key) {
    const bool was_helping = std::exchange(helping_, false);
    switch (key) {
      case 'q':
      case 'Q':
        quit_ = true;
        return;
      case '?':
      case 'h':
        helping_ = !was_helping;
        return;
      case 'p':
      case ' ':
        paused_ = !paused_;
        return;
      case '+':
        return SetInterval(interval_ / 2);
      case '-':
        return SetInterval(interval_ * 2);
      case '\t':
        return NextPanel();
      case 'a':
        alone_ = kTopPanels;
        view_.shown.fill(true);
        return;
      default:
        break;
    }
    if (!SortKey(key) && !PanelKey(key)) ScrollKey(key);
  }

  bool SortKey(int key) {
    constexpr std::pair<char, TopSort> kKeys[] = {{'r', TopSort::kRate},   {'t', TopSort::kTotal},
                                                  {'s', TopSort::kSeries}, {'d', TopSort::kDropped},
                                                  {'f', TopSort::kFolded}, {'n', TopSort::kName}};
    for (const auto& [sort_key, sort] : kKeys) {
      if (key != sort_key) continue;
      view_.sort = sort;
      return true;
    }
    return false;
  }

  bool PanelKey(int key) {
    const int panel = key - '1';
    if (panel < 0 || panel >= static_cast<int>(kTopPanels)) return false;
    bool& shown = view_.shown[static_cast<size_t>(panel)];
    shown = !shown;
    return true;
  }

  // All of them, then each alone.
  void NextPanel() {
    alone_ = (alone_ + 1) % (kTopPanels + 1);
    view_.shown.fill(alone_ == kTopPanels);
    if (alone_ < kTopPanels) view_.shown[alone_] = true;
    view_.skipped_rows = 0;
  }

  void ScrollKey(int key) {
    size_t& rows = view_.skipped_rows;
    if (key == 'j' || key == static_cast<int>(TerminalKey::kDown)) ++rows;
    if (key == 'k' || key == static_cast<int>(TerminalKey::kUp)) rows -= std::min<size_t>(rows, 1);
    if (key == static_cast<int>(TerminalKey::kPageDown)) rows += kPageRows;
    if (key == static_cast<int>(TerminalKey::kPageUp)) rows -= std::min(rows, kPageRows);
    if (key == 'g' || key == static_cast<int>(TerminalKey::kHome)) rows = 0;
    rows = std::min<size_t>(rows, kRows);
  }

  void SetInterval(absl::Duration interval) {
    interval_ = std::clamp(interval, kShortestInterval, kLongestInterval);
    due_ns_ = std::min(due_ns_, MonotonicNs() + absl::ToInt64Nanoseconds(interval_));
  }

  const std::string socket_;
  absl::Duration interval_;
  TerminalScreen* const screen_;
  TopView view_;
  std::optional<TopReport> report_;
  std::string trouble_;
  int64_t due_ns_ = 0;
  size_t alone_ = kTopPanels;  // the panel that is shown alone; kTopPanels: none
  bool paused_ = false;
  bool helping_ = false;
  bool quit_ = false;
};

}  // namespace

ExitCode RunTop(const TopOptions& options) {
  if (options.once) return RunOnce(options);
  // Before the screen is taken: a wrong path shall be seen.
  const absl::StatusOr<AdminClient> client = AdminClient::Connect(options.socket, kAnswerTimeout);
  if (!client.ok()) return Fail(client.status());
  int signal = 0;
  {
    const auto screen = TerminalScreen::Open();
    if (!screen.ok()) {
      std::cerr << "tallyctl: " << screen.status().message() << "; try --once\n";
      return ExitCode::kUsage;
    }
    signal = LiveTop(options, screen->get()).Run();
  }
  if (signal != 0) ::raise(signal);  // as it would have ended without us
  return ExitCode::kClean;
}

}  // namespace tallyd
