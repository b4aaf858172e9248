// The dashboard: a row for each component, a panel for each metric, and of histograms a second one.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/declared_names.h"
#include "daemon/catalog/generated_text.h"
#include "daemon/catalog/generators.h"
#include "daemon/catalog/promql.h"
#include "daemon/catalog/promql_meaning.h"
#include "daemon/json_object.h"

namespace tallyd {
namespace {

constexpr int kColumns = 24;
constexpr int kPanelWidth = 12;
constexpr int kPanelHeight = 8;
// More lines than this in one panel are not read.
constexpr size_t kMostLines = 20;
constexpr char kSelector[] = "{job=~\"$job\",instance=~\"$instance\"}";
constexpr char kDatasource[] = R"({"type":"prometheus","uid":"${datasource}"})";

// Grafana's name of a unit, of the value or of its change in a second.
std::string GrafanaUnit(const std::string& unit, bool per_second) {
  struct Pair {
    const char* base;
    const char* value;
    const char* rate;
  };
  constexpr Pair kUnits[] = {{"seconds", "s", "s"},
                             {"bytes", "bytes", "Bps"},
                             {"ratio", "percentunit", "none"},
                             {"celsius", "celsius", "none"},
                             {"kelvin", "kelvin", "none"},
                             {"meters", "lengthm", "none"},
                             {"metres", "lengthm", "none"},
                             {"grams", "massg", "none"},
                             {"joules", "joule", "watt"},
                             {"amperes", "amp", "none"},
                             {"volts", "volt", "none"},
                             {"", "short", "cps"}};
  for (const Pair& pair : kUnits) {
    if (unit == pair.base) return per_second ? pair.rate : pair.value;
  }
  return "none";
}

struct Target {
  std::string expr;
  std::string legend;
};

struct Panel {
  std::string title;
  std::string description;
  std::string kind;
  std::string unit;
  bool is_from_zero = true;  // its values are never below 0
  std::vector<Target> targets;
};

// The labels that a panel tells lines by: those of few values.
std::vector<std::string> LinesBy(const DeclaredMetric& metric) {
  std::vector<std::string> labels;
  size_t lines = 1;
  for (const DeclaredLabel& label : metric.labels) {
    const size_t values = label.is_enumerable() ? label.values.size() : label.max_values;
    if (values == 0 || values > kMostLines / lines) continue;
    lines *= values;
    labels.push_back(label.name);
  }
  return labels;
}

std::string By(const std::vector<std::string>& labels) {
  return labels.empty() ? " " : absl::StrCat(" by (", absl::StrJoin(labels, ", "), ") ");
}

std::string Legend(const std::vector<std::string>& labels, const std::string& otherwise) {
  std::vector<std::string> parts;
  for (const std::string& label : labels) parts.push_back(absl::StrCat("{{", label, "}}"));
  return parts.empty() ? otherwise : absl::StrJoin(parts, " ");
}

std::vector<Target> QuantilesOf(const DeclaredMetric& metric) {
  std::vector<Target> targets;
  for (const double quantile : {0.5, 0.9, 0.99}) {
    targets.push_back(
        {absl::StrCat("histogram_quantile(", CodeNumber(quantile), ", sum by (le) (rate(",
                      metric.name, "_bucket", kSelector, "[$__rate_interval])))"),
         absl::StrCat("p", CodeNumber(quantile * 100))});
  }
  return targets;
}

std::vector<Target> TargetsOf(const DeclaredMetric& metric) {
  std::vector<std::string> by = LinesBy(metric);
  const std::string series = metric.name + kSelector;
  switch (metric.type) {
    case DeclaredType::kCounter:
      return {{absl::StrCat("sum", By(by), "(rate(", series, "[$__rate_interval]))"),
               Legend(by, "all")}};
    case DeclaredType::kHistogram:
      return QuantilesOf(metric);
    case DeclaredType::kSummary:
      by.emplace_back("quantile");
      return {{absl::StrCat("max", By(by), "(", series, ")"), Legend(by, "")}};
    case DeclaredType::kGauge:
    case DeclaredType::kSet:
      break;
  }
  // Shares, temperatures and moments do not add up.
  const std::string unit = UnitOf(metric);
  const char* const how = unit.empty() || unit == "bytes" ? "sum" : "max";
  return {{absl::StrCat(how, By(by), "(", series, ")"), Legend(by, "all")}};
}

// What to do about it: the alerts that look at it say, or its own runbook, or whoever owns it.
std::string DescriptionOf(const Catalog& catalog, const DeclaredNames& names,
                          const DeclaredMetric& metric) {
  std::string text = metric.help;
  bool has_help = false;
  for (const DeclaredAlert& alert : catalog.alerts) {
    const absl::StatusOr<PromqlExpr> expr = ParsePromql(alert.expr);
    if (!expr.ok() || MeaningOf(*expr, names).metrics.count(metric.name) == 0) continue;
    const std::string runbook = RunbookOf(catalog, alert);
    absl::StrAppend(&text, "\n\nAlert ", alert.name, " (", alert.severity, "): ", alert.summary);
    if (!runbook.empty()) absl::StrAppend(&text, " What to do: ", runbook);
    has_help = true;
  }
  if (!metric.runbook.empty()) {
    absl::StrAppend(&text, "\n\nWhat to do: ", metric.runbook);
    has_help = true;
  }
  const std::string owner = OwnerOf(catalog, metric);
  if (!has_help && !owner.empty()) {
    absl::StrAppend(&text, "\n\nWhat to do: no alert looks at it; ask ", owner, ".");
  }
  return text;
}

std::vector<Panel> PanelsOf(const Catalog& catalog, const DeclaredNames& names,
                            const DeclaredMetric& metric) {
  Panel panel;
  panel.title = metric.panel.title.empty() ? metric.name : metric.panel.title;
  panel.description = DescriptionOf(catalog, names, metric);
  panel.kind = metric.panel.kind.empty() ? "timeseries" : metric.panel.kind;
  panel.unit = GrafanaUnit(UnitOf(metric), metric.type == DeclaredType::kCounter);
  panel.is_from_zero = metric.type != DeclaredType::kGauge || metric.non_negative;
  Panel heatmap = panel;
  heatmap.kind = "heatmap";
  heatmap.targets = {{absl::StrCat("sum by (le) (increase(", metric.name, "_bucket", kSelector,
                                   "[$__rate_interval]))"),
                      "{{le}}"}};
  if (!metric.panel.expr.empty()) {
    panel.targets = {{metric.panel.expr, ""}};
    return {panel};
  }
  panel.targets = TargetsOf(metric);
  if (metric.type != DeclaredType::kHistogram) return {panel};
  if (panel.kind == "heatmap") return {heatmap};
  if (panel.kind == "stat") return {panel};
  heatmap.title += ", distribution";
  return {panel, heatmap};
}

std::string GridPos(int x, int y, int width, int height) {
  return absl::StrCat("{\"h\":", height, ",\"w\":", width, ",\"x\":", x, ",\"y\":", y, "}");
}

std::string RowJson(const std::string& title, int y) {
  JsonObject json;
  json.AddText("type", "row");
  json.AddText("title", title);
  json.AddBool("collapsed", false);
  json.Add("gridPos", GridPos(0, y, kColumns, 1));
  json.Add("panels", "[]");
  return json.Take();
}

std::string TargetJson(const Panel& panel, size_t number) {
  const Target& target = panel.targets[number];
  JsonObject json;
  json.Add("datasource", kDatasource);
  json.AddText("refId", std::string(1, static_cast<char>('A' + number)));
  json.AddText("expr", target.expr);
  json.AddText("legendFormat", target.legend.empty() ? "__auto" : target.legend);
  if (panel.kind == "heatmap") json.AddText("format", "heatmap");
  return json.Take();
}

std::string OptionsJson(const std::string& kind) {
  if (kind == "heatmap") {
    return R"({"calculate":false,"cellGap":1,"color":{"mode":"scheme","scheme":"Oranges","steps":64},)"
           R"("tooltip":{"show":true,"yHistogram":false},"legend":{"show":true}})";
  }
  if (kind == "stat") {
    return R"({"reduceOptions":{"calcs":["lastNotNull"],"fields":"","values":false},)"
           R"("colorMode":"value","graphMode":"area"})";
  }
  return R"({"legend":{"displayMode":"list","placement":"bottom","showLegend":true},)"
         R"("tooltip":{"mode":"multi","sort":"desc"}})";
}

std::string PanelJson(const Panel& panel, int x, int y) {
  JsonObject json;
  json.AddText("type", panel.kind);
  json.AddText("title", panel.title);
  json.AddText("description", panel.description);
  json.Add("datasource", kDatasource);
  json.Add("gridPos", GridPos(x, y, kPanelWidth, kPanelHeight));
  json.Add("fieldConfig",
           absl::StrCat("{\"defaults\":{\"unit\":", JsonString(panel.unit),
                        panel.is_from_zero ? ",\"min\":0" : "", "},\"overrides\":[]}"));
  std::string options = OptionsJson(panel.kind);
  if (panel.kind == "heatmap") {
    options.pop_back();
    absl::StrAppend(&options, ",\"yAxis\":{\"unit\":", JsonString(panel.unit), "}}");
  }
  json.Add("options", options);
  std::vector<std::string> targets;
  for (size_t i = 0; i < panel.targets.size(); ++i) targets.push_back(TargetJson(panel, i));
  json.Add("targets", JsonList(targets, [](const std::string& target) { return target; }));
  return json.Take();
}

std::string PanelsJson(const Catalog& catalog) {
  const DeclaredNames names(catalog);
  std::vector<std::string> panels;
  int y = 0;
  for (const Component& component : ComponentsOf(catalog)) {
    panels.push_back(RowJson(component.title, y++));
    int x = 0;
    for (const DeclaredMetric* const metric : component.metrics) {
      for (const Panel& panel : PanelsOf(catalog, names, *metric)) {
        if (x + kPanelWidth > kColumns) {
          x = 0;
          y += kPanelHeight;
        }
        panels.push_back(PanelJson(panel, x, y));
        x += kPanelWidth;
      }
    }
    y += kPanelHeight;
  }
  return JsonList(panels, [](const std::string& panel) { return panel; });
}

std::string QueryVariable(const std::string& name, const std::string& query) {
  JsonObject json;
  json.AddText("type", "query");
  json.AddText("name", name);
  json.Add("datasource", kDatasource);
  json.AddText("definition", query);
  json.Add("query", absl::StrCat("{\"query\":", JsonString(query),
                                 ",\"refId\":", JsonString("Variable-" + name), "}"));
  json.AddBool("multi", true);
  json.AddBool("includeAll", true);
  json.AddText("allValue", ".+");
  json.Add("current", R"({"selected":true,"text":["All"],"value":["$__all"]})");
  json.AddNumber("refresh", 2);  // when the time range changes, too
  json.AddNumber("sort", 1);
  return json.Take();
}

std::string VariablesJson(const Catalog& catalog) {
  // Histograms have no series of their own name.
  const DeclaredMetric& first = catalog.metrics.front();
  const std::string series = first.name + (first.type == DeclaredType::kHistogram ? "_count" : "");
  return absl::StrCat(
      R"([{"type":"datasource","name":"datasource","label":"Data source","query":"prometheus",)",
      R"("current":{},"hide":0,"refresh":1},)",
      QueryVariable("job", absl::StrCat("label_values(", series, ", job)")), ",",
      QueryVariable("instance",
                    absl::StrCat("label_values(", series, "{job=~\"$job\"}, instance)")),
      "]");
}

}  // namespace

std::vector<GeneratedFile> GenerateDashboard(const Catalog& catalog) {
  if (catalog.metrics.empty()) return {};
  JsonObject json;
  json.AddText("uid", catalog.dashboard_uid.empty()
                          ? absl::StrCat("tallyd-", catalog.service).substr(0, 40)
                          : catalog.dashboard_uid);
  json.AddText("title",
               catalog.dashboard_title.empty() ? catalog.service : catalog.dashboard_title);
  json.AddText("description",
               absl::StrCat(catalog.description, catalog.description.empty() ? "" : " ",
                            GeneratedFrom(catalog)));
  json.Add("tags", JsonTexts({"tallyd", catalog.service}));
  json.AddText("timezone", "browser");
  json.AddText("refresh", "30s");
  json.Add("time", R"({"from":"now-1h","to":"now"})");
  json.AddNumber("graphTooltip", 1);
  json.AddNumber("schemaVersion", 38);
  json.AddBool("editable", false);
  json.Add("templating", absl::StrCat("{\"list\":", VariablesJson(catalog), "}"));
  json.Add("annotations", "{\"list\":[]}");
  json.Add("links", "[]");
  json.Add("panels", PanelsJson(catalog));
  return {{catalog.service + "_dashboard.json", IndentedJson(json.Take())}};
}

}  // namespace tallyd
