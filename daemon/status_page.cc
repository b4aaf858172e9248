#include "daemon/status_page.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "core/rules/abseil_view.h"

namespace tallyd {
namespace {

constexpr char kHead[] = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tallyd</title>
<link rel="icon" href="data:,">
<style>
:root {
  color-scheme: light dark;
  --ground: #fbfbf9; --ink: #1d2125; --quiet: #5d666f; --rule: #dfe1dc; --card: #ffffff;
  --accent: #0b6e63; --good: #1a7f4b; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171a; --ink: #e6e8e9; --quiet: #98a2ab; --rule: #2c3238; --card: #1b1f23;
    --accent: #5cc8b8; --good: #5fcf93; --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .35rem .9rem; }
h1 { font-size: 1.9rem; letter-spacing: -.02em; margin: 0; }
h2 { font-size: 1.05rem; margin: 2.4rem 0 .6rem; }
p { margin: .3rem 0; }
.quiet { color: var(--quiet); }
.state { font-weight: 600; }
.state::before {
  content: ""; display: inline-block; width: .6em; height: .6em; border-radius: 50%;
  margin-right: .45em; background: currentColor;
}
.good { color: var(--good); }
.bad { color: var(--bad); }
a { color: var(--accent); text-underline-offset: .2em; }
code { font: .92em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: 1rem 0 0; padding: 0; }
.cards {
  display: grid; gap: .75rem; margin: 1.6rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(9.6rem, 1fr));
}
.card {
  background: var(--card); border: 1px solid var(--rule); border-radius: .6rem;
  padding: .8rem 1rem;
}
.card dt { color: var(--quiet); font-size: .85rem; }
.card dd { margin: 0; font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.card dd.note { font-size: .85rem; color: var(--quiet); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--rule); text-align: left; }
th { font-size: .85rem; font-weight: 500; color: var(--quiet); white-space: nowrap; }
th.n, td.n {
  text-align: right; white-space: nowrap; padding: .4rem 0 .4rem .75rem; font-variant-numeric: tabular-nums;
}
.pair { display: grid; gap: 0 3rem; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); }
</style>
</head>
<body>
<main>
)";

constexpr char kFoot[] = "</main>\n</body>\n</html>\n";

std::string Escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

// Digits in threes, so that large numbers can be read.
std::string Grouped(uint64_t number) {
  constexpr char kThinSpace[] = "\u202f";
  const std::string digits = absl::StrCat(number);
  std::string grouped;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) grouped += kThinSpace;
    grouped += digits[i];
  }
  return grouped;
}

std::string Bytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto amount = static_cast<double>(bytes);
  size_t unit = 0;
  while (amount >= 1024 && unit + 1 < std::size(kUnits)) {
    amount /= 1024;
    ++unit;
  }
  if (unit == 0 || amount >= 100) return absl::StrFormat("%.0f %s", amount, kUnits[unit]);
  return absl::StrFormat("%.1f %s", amount, kUnits[unit]);
}

std::string Time(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "never";
  if (duration >= absl::Seconds(10))
    return absl::FormatDuration(absl::Trunc(duration, absl::Seconds(1)));
  if (duration >= absl::Seconds(1))
    return absl::StrFormat("%.1f s", absl::ToDoubleSeconds(duration));
  if (duration >= absl::Milliseconds(1)) {
    return absl::StrFormat("%.0f ms", absl::ToDoubleMilliseconds(duration));
  }
  return absl::StrFormat("%.0f µs", absl::ToDoubleMicroseconds(duration));
}

void AppendHeader(const StatusPageInput& input, std::string* html) {
  const bool ready = input.not_ready.empty();
  absl::StrAppend(html, "<header>\n<h1>tallyd</h1>\n<span class=\"quiet\">", Escape(BuildVersion()),
                  " · ", Escape(BuildRevision()), "</span>\n<span class=\"state ",
                  ready ? "good" : "bad", "\">",
                  ready ? "ready" : absl::StrCat("not ready: ", Escape(input.not_ready)),
                  "</span>\n</header>\n<p class=\"quiet\">StatsD in, Prometheus out: every sample "
                  "that comes in is applied or dropped for a reason.</p>\n");
}

void AppendLink(std::string_view path, std::string_view text, std::string* html) {
  absl::StrAppend(html, "<a href=\"", Escape(path), "\">", Escape(text), "</a>\n");
}

void AppendLinks(const StatusPageInput& input, std::string* html) {
  html->append("<nav>\n");
  AppendLink(input.telemetry_path, "Metrics", html);
  AppendLink("/-/metrics", "Own metrics", html);
  AppendLink("/-/healthy", "Health", html);
  AppendLink("/-/ready", "Readiness", html);
  html->append("</nav>\n");
}

void AppendCard(std::string_view title, const std::string& number, const std::string& note,
                std::string* html) {
  const absl::string_view name(title.data(), title.size());
  absl::StrAppend(html, "<dl class=\"card\" style=\"margin:0\"><dt>", name, "</dt><dd>", number,
                  "</dd><dd class=\"note\">", note, "</dd></dl>\n");
}

void AppendCards(const StatusPageInput& input, std::string* html) {
  const LedgerTotals& totals = input.totals;
  html->append("<div class=\"cards\">\n");
  const std::string limit =
      input.series_limit > 0 ? absl::StrCat("of at most ", Grouped(input.series_limit), ", ") : "";
  AppendCard("Series", Grouped(input.merging.series),
             absl::StrCat(limit, "in ", Grouped(input.merging.families), " families"), html);
  AppendCard("Samples received", Grouped(totals.received),
             absl::StrCat("in ", Grouped(totals.batches), " batches"), html);
  AppendCard("Applied", Grouped(totals.applied),
             absl::StrCat(Grouped(totals.folded), " of them to overflow series"), html);
  AppendCard("Dropped", Grouped(totals.all_dropped),
             totals.all_dropped == 0 ? "none so far" : "by reason below", html);
  AppendCard("Snapshot", Time(input.snapshot_age), "since the last merge began", html);
  AppendCard("Last merge", Time(input.merging.last_merge_duration),
             absl::StrCat(Grouped(input.merging.merges), " merges so far"), html);
  html->append("</div>\n");
}

void AppendNumberCell(const std::string& text, bool alarming, std::string* html) {
  absl::StrAppend(html, "<td class=\"n", alarming ? " bad" : "", "\">", text, "</td>");
}

void AppendListener(const ListenerInfo& info, const LedgerTotals::Listener& counts,
                    std::string* html) {
  absl::StrAppend(html, "<tr><td><code>", Escape(info.name), "</code></td>");
  AppendNumberCell(Grouped(counts.datagrams), false, html);
  AppendNumberCell(Bytes(counts.bytes), false, html);
  AppendNumberCell(Grouped(counts.samples), false, html);
  AppendNumberCell(Grouped(counts.truncated), counts.truncated > 0, html);
  AppendNumberCell(Grouped(counts.kernel_dropped), counts.kernel_dropped > 0, html);
  AppendNumberCell(
      info.receive_buffer_bytes > 0 ? Bytes(static_cast<uint64_t>(info.receive_buffer_bytes)) : "–",
      false, html);
  html->append("</tr>\n");
}

void AppendListeners(const StatusPageInput& input, std::string* html) {
  html->append(
      "<h2>Listeners</h2>\n<div class=\"wide\"><table>\n<tr><th>Address</th>"
      "<th class=\"n\">Datagrams</th><th class=\"n\">Bytes</th><th class=\"n\">Samples</th>"
      "<th class=\"n\">Truncated</th><th class=\"n\">Dropped by the kernel</th>"
      "<th class=\"n\">Receive buffer</th></tr>\n");
  const size_t count = std::min(input.listeners.size(), input.totals.listeners.size());
  for (size_t i = 0; i < count; ++i) {
    AppendListener(input.listeners[i], input.totals.listeners[i], html);
  }
  html->append("</table></div>\n");
}

template <size_t kSize>
void AppendReasons(std::string_view title, std::string_view none,
                   const std::array<std::string_view, kSize>& names,
                   const std::array<uint64_t, kSize>& counts, std::string* html) {
  const absl::string_view heading(title.data(), title.size());
  absl::StrAppend(html, "<section>\n<h2>", heading, "</h2>\n");
  if (std::all_of(counts.begin(), counts.end(), [](uint64_t count) { return count == 0; })) {
    absl::StrAppend(html, "<p class=\"quiet\">", View(none), "</p>\n</section>\n");
    return;
  }
  html->append("<table>\n");
  for (size_t i = 0; i < kSize; ++i) {
    if (counts[i] == 0) continue;
    absl::StrAppend(html, "<tr><td><code>", Escape(names[i]), "</code></td><td class=\"n\">",
                    Grouped(counts[i]), "</td></tr>\n");
  }
  html->append("</table>\n</section>\n");
}

void AppendPush(const PushStatus& status, std::string* html) {
  const uint64_t dropped =
      std::accumulate(status.dropped.begin(), status.dropped.end(), uint64_t{0});
  absl::StrAppend(html, "<tr><td><code>", Escape(status.target), "</code></td><td>",
                  Escape(status.kind), "</td>");
  const bool never = status.last_success == absl::UnixEpoch();
  const absl::Duration age = absl::Now() - status.last_success;
  AppendNumberCell(never ? "never" : absl::StrCat(Time(age), " ago"), never, html);
  AppendNumberCell(Grouped(status.series), false, html);
  AppendNumberCell(Grouped(status.requests[0]), false, html);
  AppendNumberCell(Grouped(status.failures()), !status.last_error.empty(), html);
  AppendNumberCell(Grouped(dropped), dropped > 0, html);
  absl::StrAppend(html, "<td>", Escape(status.last_error), "</td></tr>\n");
}

void AppendPushes(const StatusPageInput& input, std::string* html) {
  if (input.pushes.empty()) return;
  html->append(
      "<h2>Pushes</h2>\n<div class=\"wide\"><table>\n<tr><th>Target</th><th>Kind</th>"
      "<th class=\"n\">Last success</th><th class=\"n\">Series</th>"
      "<th class=\"n\">Requests taken</th><th class=\"n\">Failed</th>"
      "<th class=\"n\">Series left out</th><th>Last error</th></tr>\n");
  for (const PushStatus& status : input.pushes) AppendPush(status, html);
  html->append("</table></div>\n");
}

void AppendLedger(const StatusPageInput& input, std::string* html) {
  html->append("<div class=\"pair\">\n");
  AppendReasons("Samples dropped, by reason", "None so far.", kDropReasonNames,
                input.totals.dropped, html);
  AppendReasons("Put right in samples that count", "Nothing so far.", kRepairReasonNames,
                input.totals.repaired, html);
  html->append("</div>\n");
}

void AppendLifecycle(const StatusPageInput& input, std::string* html) {
  absl::StrAppend(html, "<h2>Lifecycle</h2>\n<p class=\"quiet\">");
  html->append(input.lifecycle_enabled
                   ? "<code>POST /-/reload</code> and <code>POST /-/quit</code> are enabled."
                   : "<code>/-/reload</code> and <code>/-/quit</code> are off; "
                     "<code>--web.enable-lifecycle</code> switches them on.");
  html->append("</p>\n");
}

}  // namespace

std::string RenderStatusPage(const StatusPageInput& input) {
  std::string html = kHead;
  AppendHeader(input, &html);
  AppendLinks(input, &html);
  AppendCards(input, &html);
  AppendListeners(input, &html);
  AppendPushes(input, &html);
  AppendLedger(input, &html);
  AppendLifecycle(input, &html);
  html.append(kFoot);
  return html;
}

}  // namespace tallyd
