// Reports of `tallyctl migrate check` as text and as JSON.

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/json_object.h"
#include "daemon/migrate_check.h"
#include "daemon/terminal_text.h"

namespace tallyd {
namespace {

// "1,234,567"
std::string Grouped(uint64_t number) {
  const std::string digits = absl::StrCat(number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

std::string Counted(uint64_t count, const char* what) {
  return absl::StrCat(Grouped(count), " ", what, count == 1 ? "" : "s");
}

std::string Category(PeerCategory category) { return std::string(InfoOf(category).name); }

void AddMapping(const MigrateReport& report, std::string* text) {
  if (report.mapping_file.empty()) return;
  absl::StrAppend(text, "mapping   ", Printable(report.mapping_file), ": ");
  if (!report.mapping_loaded) {
    absl::StrAppend(text, "not loaded\n");
  } else {
    absl::StrAppend(
        text, Counted(report.rules, "rule"), ", ",
        report.mapping.empty() ? "no difference" : Counted(report.mapping.size(), "finding"), "\n");
  }
}

void AddReplay(const MigrateReport& report, std::string* text) {
  if (!report.replayed) return;
  absl::StrAppend(text, "lines     ", Grouped(report.lines), " read, ",
                  Grouped(report.differing_lines), " differ\n");
  if (report.names > 0) {
    absl::StrAppend(text, "names     ", Grouped(report.names),
                    " without a value, each tried as counter, gauge and timer\n");
  }
  if (report.lines > report.names) {
    absl::StrAppend(text, "samples   ", Grouped(report.samples_here), " count here, ",
                    Grouped(report.samples_there), " in statsd_exporter\n", "series    ",
                    Grouped(report.series_here), " here, ", Grouped(report.series_there),
                    " in statsd_exporter\n");
  }
  if (report.too_long > 0) {
    absl::StrAppend(text, "skipped   ", Counted(report.too_long, "line"), " over 65,535 bytes\n");
  }
  if (!report.complete) {
    absl::StrAppend(
        text, "          ",
        Wrapped("there are over half a million series or names; conflicts of types with "
                "the rest were not looked for",
                10),
        "\n");
  }
}

void AddMappingFindings(const MigrateReport& report, std::string* text) {
  if (report.mapping.empty()) return;
  absl::StrAppend(text, "\nIn the mapping file\n");
  for (const MappingFinding& finding : report.mapping) {
    const std::string place =
        finding.line > 0 ? absl::StrCat("line ", finding.line, "  ") : std::string();
    absl::StrAppend(text, "  ", Category(finding.category), "\n    ",
                    Wrapped(absl::StrCat(place, Printable(finding.message)), 4), "\n");
  }
}

void AddFinding(const MigrateFinding& finding, std::string* text) {
  const PeerCategoryInfo& info = InfoOf(finding.category);
  const auto add = [text](const char* name, const std::string& value) {
    absl::StrAppend(text, absl::StrFormat("    %-7s ", name), Wrapped(value, 12), "\n");
  };
  const std::string count = Counted(finding.lines, "line");
  const size_t used = 2 + info.name.size() + count.size();
  absl::StrAppend(text, "\n  ", Category(finding.category),
                  std::string(used < 70 ? 70 - used : 1, ' '), count, "\n");
  absl::StrAppend(text, "    ", Wrapped(info.meaning, 4), "\n");
  add("line", absl::StrCat(finding.line_number, ": ", Printable(finding.line)));
  add("here", Printable(finding.first.here));
  add("there", Printable(finding.first.there));
  add("do", std::string(info.remedy));
}

std::string MappingFindingJson(const MappingFinding& finding) {
  JsonObject json;
  json.AddText("category", Category(finding.category));
  json.AddNumber("line", finding.line);
  json.AddText("message", finding.message);
  return json.Take();
}

std::string FindingJson(const MigrateFinding& finding) {
  JsonObject first;
  first.AddNumber("number", static_cast<double>(finding.line_number));
  first.AddText("line", finding.line);
  first.AddNumber("sample", static_cast<double>(finding.first.sample));
  first.AddText("here", finding.first.here);
  first.AddText("there", finding.first.there);
  const PeerCategoryInfo& info = InfoOf(finding.category);
  JsonObject json;
  json.AddText("category", Category(finding.category));
  json.AddNumber("lines", static_cast<double>(finding.lines));
  json.AddText("meaning", std::string(info.meaning));
  json.AddText("remedy", std::string(info.remedy));
  json.Add("first", first.Take());
  return json.Take();
}

std::string Pair(uint64_t here, uint64_t there) {
  JsonObject json;
  json.AddNumber("here", static_cast<double>(here));
  json.AddNumber("there", static_cast<double>(there));
  return json.Take();
}

}  // namespace

std::string MigrateText(const MigrateReport& report) {
  std::string text;
  AddMapping(report, &text);
  AddReplay(report, &text);
  AddMappingFindings(report, &text);
  if (!report.findings.empty()) {
    absl::StrAppend(&text, "\nWhat statsd_exporter reads differently\n");
    for (const MigrateFinding& finding : report.findings) AddFinding(finding, &text);
  }
  if (!report.differs()) absl::StrAppend(&text, "No differences.\n");
  return text;
}

std::string MigrateJson(const MigrateReport& report) {
  JsonObject mapping;
  mapping.AddText("file", report.mapping_file);
  mapping.AddBool("loaded", report.mapping_loaded);
  mapping.AddNumber("rules", static_cast<double>(report.rules));
  mapping.Add("findings", JsonList(report.mapping, MappingFindingJson));
  JsonObject json;
  json.Add("mapping", mapping.Take());
  json.AddNumber("lines", static_cast<double>(report.lines));
  json.AddNumber("names", static_cast<double>(report.names));
  json.AddNumber("too_long", static_cast<double>(report.too_long));
  json.AddNumber("differing_lines", static_cast<double>(report.differing_lines));
  json.Add("samples", Pair(report.samples_here, report.samples_there));
  json.Add("series", Pair(report.series_here, report.series_there));
  json.AddBool("complete", report.complete);
  json.Add("differences", JsonList(report.findings, FindingJson));
  return json.Take() + "\n";
}

}  // namespace tallyd
