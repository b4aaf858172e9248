#include "daemon/top_view.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/terminal_text.h"

namespace tallyd {
namespace {

using Style = TopLine::Style;

struct SortName {
  TopSort sort;
  std::string_view name;
};
constexpr SortName kSortNames[] = {{TopSort::kRate, "rate"},     {TopSort::kTotal, "total"},
                                   {TopSort::kSeries, "series"}, {TopSort::kDropped, "dropped"},
                                   {TopSort::kFolded, "folded"}, {TopSort::kName, "name"}};

std::string Ascii(const std::string& text_untrusted) {
  std::string ascii;
  for (const char c : Printable(text_untrusted)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      ascii.push_back(c);
    } else {
      absl::StrAppendFormat(&ascii, "\\x%02x", byte);
    }
  }
  return ascii;
}

// Names too long for their column lose their middle, since their ends tell more.
std::string Fitted(const std::string& text, size_t width) {
  if (width == 0 || text.size() <= width) return text;
  if (width < 8) return text.substr(0, width);
  const size_t head = (width - 2) / 2;
  return absl::StrCat(text.substr(0, head), "..", text.substr(text.size() - (width - 2 - head)));
}

// A row before it has become text.
struct Row {
  std::vector<std::string> cells;
  double by = 0;  // sorted by this, the most first
  double total = 0;
  std::string name;
  bool warns = false;
};

struct Column {
  std::string title;
  bool right = true;
};

struct Table {
  std::vector<Column> columns;  // the last one takes what is left of the width
  std::vector<Row> rows;
};

// Makes the tables of a report; cells as the view wants them.
class Tables {
 public:
  Tables(const TopReport& report, const TopView& view) : report_(report), view_(view) {}

  Table Make(TopPanel panel) const {
    Table table = Unsorted(panel);
    const bool by_name = view_.sort == TopSort::kName;
    std::sort(table.rows.begin(), table.rows.end(), [by_name](const Row& a, const Row& b) {
      if (!by_name && a.by != b.by) return a.by > b.by;
      if (!by_name && a.total != b.total) return a.total > b.total;
      return a.name < b.name;
    });
    return table;
  }

 private:
  static constexpr size_t kWide = 100;

  bool wide() const { return view_.width == 0 || view_.width >= kWide; }

  Table Unsorted(TopPanel panel) const {
    switch (panel) {
      case TopPanel::kFamilies:
        return Families();
      case TopPanel::kSenders:
        return Senders();
      case TopPanel::kListeners:
        return Listeners();
      case TopPanel::kDrops:
        return Drops();
      case TopPanel::kBudgets:
        return OverBudgets();
      case TopPanel::kCount:
        break;
    }
    return {};
  }

  std::string Number(uint64_t number) const {
    return view_.exact ? absl::StrCat(number) : ShortNumber(static_cast<double>(number));
  }
  std::string Number(const std::optional<uint64_t>& number) const {
    return number.has_value() ? Number(*number) : "-";
  }
  std::string Rate(const std::optional<double>& rate) const {
    if (!rate.has_value()) return "-";
    return view_.exact ? absl::StrFormat("%.1f", *rate) : ShortNumber(*rate);
  }

  // What a row may be sorted by.
  struct SortKeys {
    double rate = 0;
    uint64_t total = 0;
    uint64_t series = 0;
    uint64_t dropped = 0;
    uint64_t folded = 0;
  };

  double Key(const SortKeys& keys) const {
    switch (view_.sort) {
      case TopSort::kRate:
        return keys.rate;
      case TopSort::kSeries:
        return static_cast<double>(keys.series);
      case TopSort::kDropped:
        return static_cast<double>(keys.dropped);
      case TopSort::kFolded:
        return static_cast<double>(keys.folded);
      case TopSort::kTotal:
      case TopSort::kName:
        break;
    }
    return static_cast<double>(keys.total);
  }

  Table Families() const {
    const bool bounded =
        std::any_of(report_.families.begin(), report_.families.end(),
                    [](const TopReport::Family& family) { return family.limit.has_value(); });
    Table table;
    table.columns = {{"SERIES"}};
    if (bounded) table.columns.insert(table.columns.end(), {{"LIMIT"}, {"FOLDED"}});
    table.columns.insert(table.columns.end(),
                         {{"CHANGES/s"},
                          {"TYPE", false},
                          {absl::StrCat("FAMILY (", report_.family_count, ")"), false}});
    for (const TopReport::Family& family : report_.families) {
      Row& row = table.rows.emplace_back();
      const uint64_t folded = family.folded.value_or(0);
      row.by = Key({.rate = family.changes_rate.value_or(0),
                    .total = family.changes,
                    .series = family.series,
                    .folded = folded});
      row.total = static_cast<double>(family.series);
      row.name = Ascii(family.name);
      row.cells = {Number(family.series)};
      if (bounded) {
        row.cells.push_back(Number(family.limit));
        row.cells.push_back(Number(family.folded));
      }
      row.cells.insert(row.cells.end(), {Rate(family.changes_rate), Ascii(family.type), row.name});
      row.warns = folded > 0;
    }
    return table;
  }

  static std::string WhoOf(const TopReport::Sender& sender) {
    if (sender.kind == "unknown") return "unknown (UDP, TCP)";
    if (sender.kind == "others") return "others (no room to tell apart)";
    const std::string& name = sender.unit.empty() ? sender.command : sender.unit;
    return absl::StrCat(name.empty() ? "?" : name, sender.ended ? " (ended)" : "");
  }

  Table Senders() const {
    Table table;
    table.columns = {{"SAMPLES/s"}, {"SAMPLES"}, {"DROPPED"}};
    if (wide()) table.columns.push_back({"FOLDED"});
    table.columns.insert(table.columns.end(), {{"SERIES"}, {"PID"}, {"UID"}});
    if (wide()) table.columns.push_back({"COMMAND", false});
    table.columns.push_back({absl::StrCat("SENDER (", report_.sender_count, ")"), false});
    for (const TopReport::Sender& sender : report_.senders) {
      const uint64_t series = sender.series.value_or(sender.series_made);
      Row& row = table.rows.emplace_back();
      row.by = Key({.rate = sender.samples_rate.value_or(0),
                    .total = sender.samples,
                    .series = series,
                    .dropped = sender.dropped,
                    .folded = sender.folded});
      row.total = static_cast<double>(sender.samples);
      row.name = Ascii(WhoOf(sender));
      row.cells = {Rate(sender.samples_rate), Number(sender.samples), Number(sender.dropped)};
      if (wide()) row.cells.push_back(Number(sender.folded));
      row.cells.insert(row.cells.end(),
                       {Number(series), sender.pid == 0 ? "-" : absl::StrCat(sender.pid),
                        sender.uid.has_value() ? absl::StrCat(*sender.uid) : "-"});
      if (wide()) row.cells.push_back(sender.command.empty() ? "-" : Ascii(sender.command));
      row.cells.push_back(row.name);
    }
    return table;
  }

  Table Listeners() const {
    Table table;
    table.columns = {{"SAMPLES/s"}, {"SAMPLES"}, {"DATAGRAMS"}};
    if (wide()) table.columns.insert(table.columns.end(), {{"DATAGRAMS/s"}, {"BYTES"}});
    table.columns.insert(table.columns.end(),
                         {{"CUT"},
                          {"LOST"},
                          {"CONNS"},
                          {absl::StrCat("LISTENER (", report_.listeners.size(), ")"), false}});
    for (const TopReport::Listener& listener : report_.listeners) {
      Row& row = table.rows.emplace_back();
      row.by = Key({.rate = listener.samples_rate.value_or(0),
                    .total = listener.samples,
                    .series = listener.samples,
                    .dropped = listener.kernel_dropped,
                    .folded = listener.samples});
      row.total = static_cast<double>(listener.samples);
      row.name = Ascii(listener.name);
      row.cells = {Rate(listener.samples_rate), Number(listener.samples),
                   Number(listener.datagrams)};
      if (wide()) {
        row.cells.push_back(Rate(listener.datagrams_rate));
        row.cells.push_back(Number(listener.bytes));
      }
      row.cells.insert(
          row.cells.end(),
          {Number(listener.truncated), Number(listener.kernel_dropped),
           listener.connections.has_value() ? absl::StrCat(*listener.connections) : "-", row.name});
      row.warns = listener.kernel_dropped > 0;
    }
    return table;
  }

  void AddReasons(const std::vector<TopReport::Reason>& reasons, const char* what,
                  Table* table) const {
    for (const TopReport::Reason& reason : reasons) {
      if (reason.count == 0) continue;
      Row& row = table->rows.emplace_back();
      row.by = Key({.rate = reason.rate.value_or(0),
                    .total = reason.count,
                    .series = reason.count,
                    .dropped = reason.count,
                    .folded = reason.count});
      row.total = static_cast<double>(reason.count);
      row.name = Ascii(reason.reason);
      row.cells = {Rate(reason.rate), Number(reason.count), what, row.name};
    }
  }
  Table Drops() const {
    Table table;
    table.columns = {{"COUNT/s"}, {"COUNT"}, {"WHAT", false}, {"REASON", false}};
    AddReasons(report_.drops, "dropped", &table);
    AddReasons(report_.repairs, "repaired", &table);
    return table;
  }

  Table OverBudgets() const {
    Table table;
    if (!report_.budgets.has_value()) return table;
    table.columns = {{"FOLDED"},
                     {"SERIES"},
                     {"LIMIT"},
                     {"OF", false},
                     {"LABEL", false},
                     {"SENDER", false},
                     {"OVER BUDGET", false}};
    for (const TopReport::OverBudget& over : report_.budgets->over) {
      Row& row = table.rows.emplace_back();
      const uint64_t folded = over.folded.value_or(0);
      row.by = Key({.total = folded, .series = over.series, .dropped = folded, .folded = folded});
      row.total = static_cast<double>(folded);
      row.name = over.family.empty() ? "-" : Ascii(over.family);
      const auto or_none = [](const std::string& text) { return text.empty() ? "-" : Ascii(text); };
      row.cells = {Number(over.folded),
                   Number(over.series),
                   Number(over.limit),
                   Ascii(over.of),
                   or_none(over.label),
                   or_none(over.sender),
                   row.name};
      row.warns = true;
    }
    return table;
  }

  const TopReport& report_;
  const TopView& view_;
};

// Puts lines below each other.
class Page {
 public:
  explicit Page(const TopView& view) : view_(view) {}

  void Add(std::string text, Style style = Style::kPlain) {
    while (!text.empty() && text.back() == ' ') text.pop_back();
    if (view_.width != 0) text.resize(std::min(text.size(), view_.width));
    lines_.push_back({std::move(text), style});
  }

  // `rows` of them, after those that were scrolled away.
  void AddTable(const Table& table, size_t rows) {
    const size_t skipped = Skipped(table);
    const size_t end = std::min(table.rows.size(), skipped + rows);
    std::vector<size_t> widths;
    for (size_t column = 0; column < table.columns.size(); ++column) {
      size_t width = table.columns[column].title.size();
      for (size_t row = skipped; row < end; ++row) {
        width = std::max(width, table.rows[row].cells[column].size());
      }
      // Text in the middle may not push what follows out of sight.
      const bool last = column + 1 == table.columns.size();
      const size_t most = !last && view_.width != 0 ? kMostMiddle : width;
      widths.push_back(std::min(width, most));
    }
    std::vector<std::string> titles;
    for (const Column& column : table.columns) titles.push_back(column.title);
    AddCells(table, titles, widths, Style::kColumns);
    for (size_t row = skipped; row < end; ++row) {
      AddCells(table, table.rows[row].cells, widths,
               table.rows[row].warns ? Style::kWarning : Style::kPlain);
    }
  }

  size_t Skipped(const Table& table) const {
    return table.rows.empty() ? 0 : std::min(view_.skipped_rows, table.rows.size() - 1);
  }
  size_t size() const { return lines_.size(); }
  std::vector<TopLine> Take() { return std::move(lines_); }

 private:
  static constexpr size_t kMostMiddle = 20;

  void AddCells(const Table& table, const std::vector<std::string>& cells,
                const std::vector<size_t>& widths, Style style) {
    std::string text;
    for (size_t column = 0; column < cells.size(); ++column) {
      const bool last = column + 1 == cells.size();
      const size_t left = view_.width > text.size() ? view_.width - text.size() : 1;
      const std::string cell = Fitted(cells[column], !last              ? widths[column]
                                                     : view_.width != 0 ? left
                                                                        : 0);
      const size_t blanks = widths[column] > cell.size() ? widths[column] - cell.size() : 0;
      const bool right = table.columns[column].right;
      if (right) text.append(blanks, ' ');
      text.append(cell);
      if (!right && !last) text.append(blanks, ' ');
      if (!last) text.append(2, ' ');
    }
    Add(std::move(text), style);
  }

  const TopView& view_;
  std::vector<TopLine> lines_;
};

std::string RateText(const std::optional<double>& rate) {
  return rate.has_value() ? ShortNumber(*rate) : "-";
}

void AddHeader(const TopReport& report, Page* page) {
  const std::string cpu =
      report.cpu_share.has_value() ? absl::StrFormat("  cpu %.1f%%", *report.cpu_share * 100) : "";
  page->Add(absl::StrCat("tallyd ", Ascii(report.version), "  pid ", report.pid, "  up ",
                         ShortTime(report.up_seconds), "  shards ", report.shards, cpu,
                         absl::StrFormat("  rss %.1f MiB", report.resident_bytes / (1 << 20))),
            Style::kTitle);
  // While samples are under way they do not add up yet.
  const bool adds_up = report.received == report.applied + report.dropped;
  page->Add(absl::StrCat("samples  received ", report.received, adds_up ? " = " : "  ", "applied ",
                         report.applied, adds_up ? " + " : "  ", "dropped ", report.dropped,
                         "  folded ", report.folded),
            report.dropped + report.folded > 0 ? Style::kWarning : Style::kPlain);
  page->Add(absl::StrCat("a second received ", RateText(report.received_rate), "  applied ",
                         RateText(report.applied_rate), "  dropped ", RateText(report.dropped_rate),
                         "  datagrams ", RateText(report.datagrams_rate), "  bytes ",
                         RateText(report.bytes_rate)));
  page->Add(absl::StrCat("series   ", report.series, " of ", report.series_limit, "  families ",
                         report.family_count, "  datagrams ", report.datagrams,
                         "  lost in the kernel ", report.kernel_dropped),
            report.kernel_dropped > 0 ? Style::kWarning : Style::kPlain);
}

// How many rows each table gets of `lines`: each in turn one more, as long as there are lines.
std::vector<size_t> ShareOut(const std::vector<size_t>& wanted, size_t lines) {
  std::vector<size_t> rows(wanted.size(), 0);
  for (bool given = true; given && lines > 0;) {
    given = false;
    for (size_t i = 0; i < wanted.size() && lines > 0; ++i) {
      if (rows[i] == wanted[i]) continue;
      ++rows[i];
      --lines;
      given = true;
    }
  }
  return rows;
}

void AddTables(const std::vector<Table>& tables, size_t lines, Page* page) {
  std::vector<size_t> wanted;
  size_t heads = 0;
  for (const Table& table : tables) {
    heads += 2;  // a blank line and the titles
    wanted.push_back(table.rows.size() - page->Skipped(table));
  }
  const std::vector<size_t> rows = ShareOut(wanted, lines > heads ? lines - heads : 0);
  for (size_t i = 0; i < tables.size(); ++i) {
    if (rows[i] == 0) continue;
    page->Add("");
    page->AddTable(tables[i], rows[i]);
  }
}

constexpr char kKeysText[] = "q quit  ? help  r t s d f n sort  1-5 panels  tab one panel  p pause";

void AddFoot(const TopView& view, Page* page) {
  if (!view.keys) return;
  while (page->size() + 1 < view.height) page->Add("");
  page->Add(absl::StrCat(kKeysText, "  by ", std::string(TopSortName(view.sort))), Style::kColumns);
}

}  // namespace

std::optional<TopSort> TopSortOf(std::string_view name) {
  for (const SortName& known : kSortNames) {
    if (known.name == name) return known.sort;
  }
  return {};
}

std::string_view TopSortName(TopSort sort) {
  for (const SortName& known : kSortNames) {
    if (known.sort == sort) return known.name;
  }
  return "";
}

std::string ShortNumber(double number) {
  if (!std::isfinite(number)) return "-";
  const double size = std::abs(number);
  if (size < 10 && number != std::round(number)) return absl::StrFormat("%.1f", number);
  if (size < 9999.5) return absl::StrFormat("%.0f", number);
  double scaled = number;
  for (const char* unit : {"k", "M", "G", "T", "P", "E"}) {
    scaled /= 1000;
    // What rounds up to a thousand is one of the next unit.
    if (std::abs(scaled) >= 999.5) continue;
    const int digits = std::abs(scaled) < 9.995 ? 2 : std::abs(scaled) < 99.95 ? 1 : 0;
    return absl::StrFormat("%.*f%s", digits, scaled, unit);
  }
  return absl::StrFormat("%.0e", number);
}

std::string ShortTime(double seconds) {
  const auto whole = static_cast<int64_t>(std::clamp(seconds, 0.0, 1e12));
  if (whole < 60) return absl::StrCat(whole, "s");
  if (whole < 3600) return absl::StrCat(whole / 60, "m ", whole % 60, "s");
  if (whole < 86'400) return absl::StrCat(whole / 3600, "h ", whole / 60 % 60, "m");
  return absl::StrCat(whole / 86'400, "d ", whole / 3600 % 24, "h");
}

std::vector<TopLine> TopLines(const TopReport& report, const TopView& view) {
  Page page(view);
  AddHeader(report, &page);
  if (!view.message.empty()) page.Add(Ascii(view.message), Style::kWarning);
  const Tables tables(report, view);
  std::vector<Table> shown;
  // What is wrong comes first.
  for (const TopPanel panel : {TopPanel::kBudgets, TopPanel::kFamilies, TopPanel::kSenders,
                               TopPanel::kListeners, TopPanel::kDrops}) {
    if (!view.shown[static_cast<size_t>(panel)]) continue;
    Table table = tables.Make(panel);
    if (!table.rows.empty()) shown.push_back(std::move(table));
  }
  const size_t used = page.size() + (view.keys ? 1 : 0);
  const size_t lines = view.height == 0 ? SIZE_MAX : view.height - std::min(view.height, used);
  AddTables(shown, lines, &page);
  AddFoot(view, &page);
  std::vector<TopLine> all = page.Take();
  if (view.height != 0 && all.size() > view.height) all.resize(view.height);
  return all;
}

std::vector<TopLine> TopHelp(const TopView& view) {
  Page page(view);
  page.Add("tallyctl top", Style::kTitle);
  for (const char* line :
       {"", "q, Ctrl-C     quit", "r             sort by rate (samples, changes of series)",
        "t             by total", "s             by series", "d             by dropped samples",
        "f             by folded samples", "n             by name",
        "1 2 3 4 5     families, senders, listeners, drops, budgets: show or hide",
        "tab, a        one panel after the other alone; all",
        "up, down, j k scroll the tables; g to the top", "p, space      pause and go on",
        "+ -           ask more often, less often", "?, h          this help", "",
        "CHANGES/s counts series that merges found changed. CUT: datagrams that lost",
        "their end, LOST: those that the kernel dropped. SERIES of a sender: those that",
        "its budget is charged with, or that began with a sample of it."}) {
    page.Add(line);
  }
  std::vector<TopLine> all = page.Take();
  if (view.height != 0 && all.size() > view.height) all.resize(view.height);
  return all;
}

}  // namespace tallyd
