// How `tallyctl top` shows a report: lines of text for a screen of some size, or for a file.

#ifndef TALLYD_DAEMON_TOP_VIEW_H_
#define TALLYD_DAEMON_TOP_VIEW_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/top_report.h"

namespace tallyd {

// What rows are sorted by, the most first; where a table has not that, by its total.
enum class TopSort { kRate, kTotal, kSeries, kDropped, kFolded, kName };
std::optional<TopSort> TopSortOf(std::string_view name);
std::string_view TopSortName(TopSort sort);

enum class TopPanel { kFamilies, kSenders, kListeners, kDrops, kBudgets, kCount };
inline constexpr size_t kTopPanels = static_cast<size_t>(TopPanel::kCount);

struct TopView {
  size_t width = 0;    // columns; 0: as many as it takes
  size_t height = 0;   // lines; 0: as many as it takes
  bool exact = false;  // whole numbers rather than short ones
  bool keys = false;   // a last line that says what keys do
  TopSort sort = TopSort::kRate;
  std::array<bool, kTopPanels> shown = {true, true, true, true, true};
  size_t skipped_rows = 0;   // of each table: how far it was scrolled
  std::string message = {};  // of what is wrong now, or of the state
};

struct TopLine {
  enum class Style { kPlain, kTitle, kColumns, kWarning };

  std::string text;  // printable ASCII, no wider than the view
  Style style = Style::kPlain;
};

// What came from senders, or from whoever answers on the socket, is shown in ASCII, other bytes as
// \xNN: it can neither steer the terminal nor disturb columns or the direction of writing.
std::vector<TopLine> TopLines(const TopReport& report, const TopView& view);
std::vector<TopLine> TopHelp(const TopView& view);

// At most six characters: 9999, 12.3k, 1.23M.
std::string ShortNumber(double number);
// As 3d 4h, 5m 6s.
std::string ShortTime(double seconds);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_TOP_VIEW_H_
