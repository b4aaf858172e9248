#include "daemon/catalog_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/rules/abseil_view.h"
#include "core/rules/catalog_check.h"
#include "core/rules/catalog_claims.h"
#include "core/rules/complaints.h"
#include "core/rules/mapping_check.h"
#include "daemon/exit_code.h"
#include "daemon/file_text.h"
#include "daemon/nearest_name.h"
#include "daemon/yaml_fields.h"
#include "daemon/yaml_scalar.h"
#include "daemon/yaml_tree.h"

namespace tallyd {
namespace {

using Kind = YamlNode::Kind;
using Place = YamlFields::Place;

// Turns the tree into a Catalog. A value of the wrong type is complained of and reads as none, so
// that the rest of the file is looked at too.
class CatalogReader : public YamlFields {
 public:
  CatalogReader(const YamlTree& tree, std::string_view file, Complaints* complaints)
      : YamlFields(tree, complaints) {
    catalog_.file = std::string(file);
  }

  Catalog ReadFile() {
    Catalog& out = catalog_;
    const YamlNode* labels = nullptr;
    const YamlNode* metrics = nullptr;
    Place labels_place;
    Place metrics_place;
    const YamlNode& root = tree().root();
    if (!IsNull(root)) {
      ReadMap(
          root, {"", root.line},
          {
              {"service", [&](auto& value, auto& place) { Read(value, place, &out.service); }},
              {"description",
               [&](auto& value, auto& place) { Read(value, place, &out.description); }},
              {"mode", [&](auto& value, auto& place) { ReadMode(value, place); }},
              {"owner", [&](auto& value, auto& place) { Read(value, place, &out.owner); }},
              {"runbook_base",
               [&](auto& value, auto& place) { Read(value, place, &out.runbook_base); }},
              {"scrape_interval",
               [&](auto& value, auto& place) { ReadMs(value, place, &out.scrape_interval_ms); }},
              {"dashboard", [&](auto& value, auto& place) { ReadDashboard(value, place); }},
              {"labels",
               [&](auto& value, auto& place) {
                 labels = &value;
                 labels_place = place;
               }},
              {"metrics",
               [&](auto& value, auto& place) {
                 metrics = &value;
                 metrics_place = place;
               }},
              {"recording_rules",
               [&](auto& value, auto& place) {
                 ForEachItem(value, place, [&](auto& item) { ReadRecordingRule(item); });
               }},
              {"alerts",
               [&](auto& value, auto& place) {
                 ForEachItem(value, place, [&](auto& item) { ReadAlert(item); });
               }},
          },
          &out.key_lines);
    }
    // The metrics need the shared labels, wherever these stand.
    if (labels != nullptr) ReadSharedLabels(*labels, labels_place);
    if (metrics != nullptr) {
      ForEachItem(*metrics, metrics_place, [&](auto& item) { ReadMetric(item); });
    }
    return std::move(catalog_);
  }

 private:
  void ReadMode(const YamlNode& value, const Place& place) {
    for (const CatalogMode mode : {CatalogMode::kOpen, CatalogMode::kWarn, CatalogMode::kEnforce}) {
      if (value.kind == Kind::kScalar && value.text == Name(mode)) {
        catalog_.mode = mode;
        return;
      }
    }
    Complain(place, absl::StrCat(Shown(value), " is not known; write open, warn or enforce"));
  }

  void ReadDashboard(const YamlNode& node, const Place& place) {
    Catalog& out = catalog_;
    ReadMap(
        node, place,
        {
            {"title", [&](auto& value, auto& inner) { Read(value, inner, &out.dashboard_title); }},
            {"uid", [&](auto& value, auto& inner) { Read(value, inner, &out.dashboard_uid); }},
        });
    const auto key = std::find_if(out.key_lines.begin(), out.key_lines.end(),
                                  [](const KeyLine& line) { return line.key == "dashboard"; });
    if (key != out.key_lines.end()) out.key_lines.push_back({"dashboard.uid", key->line});
  }

  // ---- Labels ----

  static DeclaredLabel LabelOf(const std::string& name, int line) {
    DeclaredLabel label;
    label.name = name;
    label.line = line;
    return label;
  }

  void ReadSharedLabels(const YamlNode& node, const Place& place) {
    ForEachName(node, place,
                [&](const std::string& name, const Place& inner, const YamlNode& value) {
                  shared_labels_.push_back(LabelOf(name, inner.line));
                  ReadLabel(value, inner, &shared_labels_.back());
                });
  }

  void ReadLabel(const YamlNode& node, const Place& place, DeclaredLabel* label) {
    ReadMap(node, place,
            {
                {"values",
                 [&](auto& value, auto& inner) {
                   Read(value, inner, &label->values);
                   if (label->values.empty()) Complain(inner, "are none; list them, or write max");
                 }},
                {"max",
                 [&](auto& value, auto& inner) {
                   const auto read = YamlCount(value);
                   if (read && *read > 0 && *YamlNumber(value) == *read) {
                     label->max_values = *read;
                   } else {
                     Complain(inner, absl::StrCat(Shown(value),
                                                  " is no number of values; write one above 0"));
                   }
                 }},
                {"from", [&](auto& value, auto& inner) { Read(value, inner, &label->from); }},
                {"help", [&](auto& value, auto& inner) { Read(value, inner, &label->help); }},
            });
  }

  // A list of names of shared labels, or a map of names to what they are; in a list such maps may
  // stand too.
  void ReadLabels(const YamlNode& node, const Place& place, DeclaredMetric* metric) {
    if (node.kind != Kind::kSequence) return ReadOwnLabels(node, place, metric);
    for (const uint32_t child : node.children) {
      const YamlNode& item = tree().node(child);
      if (item.kind != Kind::kScalar) {
        ReadOwnLabels(item, {place.key, item.line}, metric);
        continue;
      }
      const Place inner = {absl::StrCat(place.key, ".", item.text), item.line};
      DeclaredLabel label = LabelOf(item.text, item.line);
      if (UseShared(&label)) {
        metric->labels.push_back(std::move(label));
      } else {
        ComplainOfUnshared(label.name, inner);
      }
    }
  }

  void ReadOwnLabels(const YamlNode& node, const Place& place, DeclaredMetric* metric) {
    ForEachName(node, place,
                [&](const std::string& name, const Place& inner, const YamlNode& value) {
                  DeclaredLabel label = LabelOf(name, inner.line);
                  const size_t before = complaints();
                  ReadLabel(value, inner, &label);
                  const bool bounded = label.is_enumerable() || label.max_values != 0;
                  if (!bounded && !UseShared(&label) && IsNull(value))
                    ComplainOfUnshared(name, inner);
                  if (complaints() == before) metric->labels.push_back(std::move(label));
                });
  }

  // Takes the bound of the shared label of the same name, and what else `label` does not say.
  bool UseShared(DeclaredLabel* label) const {
    const auto shared =
        std::find_if(shared_labels_.begin(), shared_labels_.end(),
                     [label](const DeclaredLabel& each) { return each.name == label->name; });
    if (shared == shared_labels_.end()) return false;
    label->values = shared->values;
    label->max_values = shared->max_values;
    if (label->from.empty()) label->from = shared->from;
    if (label->help.empty()) label->help = shared->help;
    return true;
  }

  void ComplainOfUnshared(const std::string& name, const Place& place) {
    std::vector<std::string> known;
    for (const DeclaredLabel& label : shared_labels_) known.push_back(label.name);
    Complain(place,
             absl::StrCat("is no shared label; declare it under labels, or give it values or max",
                          DidYouMean(name, known, "")));
  }

  // ---- Metrics ----

  void ReadMetric(const YamlNode& node) {
    DeclaredMetric metric;
    metric.line = node.line;
    const Place place = PlaceOf("metrics", node);
    if (node.kind != Kind::kMap) {
      return Complain(place,
                      absl::StrCat(Shown(node), " is no metric; write name, type and so on"));
    }
    bool typed = false;
    ReadMap(
        node, place,
        {
            {"name", [&](auto& value, auto& inner) { Read(value, inner, &metric.name); }},
            {"type",
             [&](auto& value, auto& inner) {
               typed = true;
               ReadType(value, inner, &metric.type);
             }},
            {"unit", [&](auto& value, auto& inner) { Read(value, inner, &metric.unit); }},
            {"help", [&](auto& value, auto& inner) { Read(value, inner, &metric.help); }},
            {"sources", [&](auto& value, auto& inner) { Read(value, inner, &metric.sources); }},
            {"labels", [&](auto& value, auto& inner) { ReadLabels(value, inner, &metric); }},
            {"buckets",
             [&](auto& value, auto& inner) {
               ForEachItem(value, inner, [&](auto& item) {
                 double bound = 0;
                 Read(item, {inner.key, item.line}, &bound);
                 metric.buckets.push_back(bound);
               });
             }},
            {"quantiles", [&](auto& value, auto& inner) { ReadQuantiles(value, inner, &metric); }},
            {"scale", [&](auto& value, auto& inner) { Read(value, inner, &metric.scale); }},
            {"ttl", [&](auto& value, auto& inner) { ReadMs(value, inner, &metric.ttl_ms); }},
            {"non_negative",
             [&](auto& value, auto& inner) { Read(value, inner, &metric.non_negative); }},
            {"single_sender",
             [&](auto& value, auto& inner) { Read(value, inner, &metric.single_sender); }},
            {"observed",
             [&](auto& value, auto& inner) {
               ForEachItem(value, inner, [&](auto& item) { ReadObserved(item, inner, &metric); });
             }},
            {"owner", [&](auto& value, auto& inner) { Read(value, inner, &metric.owner); }},
            {"runbook", [&](auto& value, auto& inner) { Read(value, inner, &metric.runbook); }},
            {"panel", [&](auto& value, auto& inner) { ReadPanel(value, inner, &metric.panel); }},
        },
        &metric.key_lines);
    if (!typed) {
      Complain({absl::StrCat(place.key, ".type"), metric.line},
               "is missing; write counter, gauge, histogram, summary or set");
    }
    if (metric.labels.size() > kMostLabels) {
      Complain({absl::StrCat(place.key, ".labels"), metric.line},
               absl::StrCat("are ", metric.labels.size(), ", and at most ", kMostLabels,
                            " are possible; leave some out"));
      metric.labels.resize(kMostLabels);
    }
    FillIn(&metric);
    catalog_.metrics.push_back(std::move(metric));
  }

  // What follows from what is there.
  static void FillIn(DeclaredMetric* metric) {
    const auto is_there = [metric](std::string_view key) {
      return LineOf(metric->key_lines, 0, key) != 0;
    };
    if (metric->unit.empty()) metric->unit = UnitOfName(metric->name);
    if (metric->type == DeclaredType::kHistogram && !is_there("buckets")) {
      metric->buckets = HistogramOptions().buckets;
    }
    if (metric->type == DeclaredType::kSummary && !is_there("quantiles")) {
      metric->quantiles = SummaryOptions().quantiles;
    }
    std::stable_sort(
        metric->labels.begin(), metric->labels.end(),
        [](const DeclaredLabel& a, const DeclaredLabel& b) { return a.name < b.name; });
  }

  // With its name, if it has one.
  Place PlaceOf(std::string_view list, const YamlNode& node) const {
    std::string key(list);
    if (node.kind == Kind::kMap) {
      for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
        const YamlNode& name = tree().node(node.children[i + 1]);
        if (tree().node(node.children[i]).text != "name" || name.text.empty()) continue;
        absl::StrAppend(&key, ".", name.text.size() <= 100 ? name.text : Quoted(name.text));
        break;
      }
    }
    return {std::move(key), node.line};
  }

  void ReadType(const YamlNode& value, const Place& place, DeclaredType* out) {
    for (const DeclaredType type :
         {DeclaredType::kCounter, DeclaredType::kGauge, DeclaredType::kHistogram,
          DeclaredType::kSummary, DeclaredType::kSet}) {
      if (value.kind == Kind::kScalar && value.text == Name(type)) {
        *out = type;
        return;
      }
    }
    Complain(place, absl::StrCat(Shown(value),
                                 " is no type; write counter, gauge, histogram, summary or set"));
  }

  // Numbers, or maps of a quantile and its error as mapping files have them.
  void ReadQuantiles(const YamlNode& node, const Place& place, DeclaredMetric* metric) {
    ForEachItem(node, place, [&](const YamlNode& item) {
      const Place at = {place.key, item.line};
      Quantile quantile = {.quantile = 0, .error = 0};
      if (item.kind == Kind::kMap) {
        ReadMap(
            item, at,
            {{"quantile",
              [&](auto& value, auto& inner) { Read(value, inner, &quantile.quantile); }},
             {"error", [&](auto& value, auto& inner) { Read(value, inner, &quantile.error); }}});
      } else {
        Read(item, at, &quantile.quantile);
      }
      metric->quantiles.push_back(quantile);
    });
  }

  void ReadObserved(const YamlNode& node, const Place& place, DeclaredMetric* metric) {
    ObservedSource source;
    source.line = node.line;
    const Place at = {place.key, node.line};
    if (node.kind != Kind::kMap) {
      return Complain(at, absl::StrCat(Shown(node), " is no source; write file or socket"));
    }
    ReadMap(node, at,
            {
                {"file", [&](auto& value, auto& inner) { Read(value, inner, &source.file); }},
                {"socket", [&](auto& value, auto& inner) { Read(value, inner, &source.socket); }},
                {"query", [&](auto& value, auto& inner) { Read(value, inner, &source.query); }},
                {"interval",
                 [&](auto& value, auto& inner) { ReadMs(value, inner, &source.interval_ms); }},
                {"timeout",
                 [&](auto& value, auto& inner) { ReadMs(value, inner, &source.timeout_ms); }},
                {"labels", [&](auto& value, auto& inner) { Read(value, inner, &source.labels); }},
            });
    metric->observed.push_back(std::move(source));
  }

  void ReadPanel(const YamlNode& node, const Place& place, DeclaredPanel* panel) {
    panel->line = place.line;
    ReadMap(node, place,
            {
                {"row", [&](auto& value, auto& inner) { Read(value, inner, &panel->row); }},
                {"title", [&](auto& value, auto& inner) { Read(value, inner, &panel->title); }},
                {"expr", [&](auto& value, auto& inner) { Read(value, inner, &panel->expr); }},
                {"kind", [&](auto& value, auto& inner) { ReadPanelKind(value, inner, panel); }},
            });
  }

  void ReadPanelKind(const YamlNode& value, const Place& place, DeclaredPanel* panel) {
    Read(value, place, &panel->kind);
    for (const std::string_view known : {"", "timeseries", "stat", "heatmap"}) {
      if (panel->kind == known) return;
    }
    Complain(place, absl::StrCat(Shown(value), " is not known; write timeseries, stat or heatmap"));
  }

  // ---- Rules and alerts ----

  void ReadRecordingRule(const YamlNode& node) {
    RecordingRule rule;
    rule.line = node.line;
    ReadMap(node, {"recording_rules", node.line},
            {
                {"record", [&](auto& value, auto& inner) { Read(value, inner, &rule.record); }},
                {"expr", [&](auto& value, auto& inner) { Read(value, inner, &rule.expr); }},
            });
    catalog_.recording_rules.push_back(std::move(rule));
  }

  void ReadAlert(const YamlNode& node) {
    DeclaredAlert alert;
    alert.line = node.line;
    const Place place = PlaceOf("alerts", node);
    ReadMap(
        node, place,
        {
            {"name", [&](auto& value, auto& inner) { Read(value, inner, &alert.name); }},
            {"expr", [&](auto& value, auto& inner) { Read(value, inner, &alert.expr); }},
            {"for", [&](auto& value, auto& inner) { ReadMs(value, inner, &alert.for_ms); }},
            {"severity", [&](auto& value, auto& inner) { Read(value, inner, &alert.severity); }},
            {"summary", [&](auto& value, auto& inner) { Read(value, inner, &alert.summary); }},
            {"description",
             [&](auto& value, auto& inner) { Read(value, inner, &alert.description); }},
            {"runbook", [&](auto& value, auto& inner) { Read(value, inner, &alert.runbook); }},
            {"owner", [&](auto& value, auto& inner) { Read(value, inner, &alert.owner); }},
            {"reason", [&](auto& value, auto& inner) { Read(value, inner, &alert.reason); }},
            {"tests",
             [&](auto& value, auto& inner) {
               ForEachItem(value, inner, [&](auto& item) { ReadAlertTest(item, inner, &alert); });
             }},
        },
        &alert.key_lines);
    catalog_.alerts.push_back(std::move(alert));
  }

  void ReadAlertTest(const YamlNode& node, const Place& place, DeclaredAlert* alert) {
    AlertTest test;
    test.line = node.line;
    bool says = false;
    const Place at = {place.key, node.line};
    ReadMap(node, at,
            {
                {"fires",
                 [&](auto& value, auto& inner) {
                   says = true;
                   Read(value, inner, &test.fires);
                 }},
                {"at", [&](auto& value, auto& inner) { ReadMs(value, inner, &test.at_ms); }},
                {"series", [&](auto& value, auto& inner) { Read(value, inner, &test.series); }},
            });
    if (!says) Complain(at, "does not say whether it fires; write fires: true or false");
    alert->tests.push_back(std::move(test));
  }

  static constexpr size_t kMostLabels = 50;  // of a metric

  Catalog catalog_;
  std::vector<DeclaredLabel> shared_labels_;
};

Catalog ReadCatalog(std::string_view yaml, std::string_view file, Complaints* complaints) {
  const YamlTree tree = YamlTree::Parse(yaml, kMaxCatalogNodes, complaints);
  Catalog catalog;
  catalog.file = std::string(file);
  if (!complaints->empty()) return catalog;
  catalog = CatalogReader(tree, file, complaints).ReadFile();
  CheckCatalog(catalog, complaints);
  return catalog;
}

absl::Status TooLarge(std::string_view file) {
  return absl::InvalidArgumentError(absl::StrCat(View(file), ":1: file: is larger than ",
                                                 kMaxCatalogBytes, " bytes; split or shorten it"));
}

absl::StatusOr<std::string> ReadYaml(const std::string& path) {
  FileText yaml = ReadFileText(path, kMaxCatalogBytes + 1);
  if (const int error = yaml.open_error != 0 ? yaml.open_error : yaml.read_error; error != 0) {
    return UsageError(absl::StrCat("cannot read ", path, ": ", std::strerror(error)));
  }
  if (yaml.text.size() > kMaxCatalogBytes) return TooLarge(path);
  return std::move(yaml.text);
}

}  // namespace

absl::StatusOr<Catalog> ParseCatalog(std::string_view yaml, std::string_view file) {
  if (yaml.size() > kMaxCatalogBytes) return TooLarge(file);
  Complaints complaints;
  Catalog catalog = ReadCatalog(yaml, file, &complaints);
  CheckBeside({}, catalog, &complaints);
  if (!complaints.empty()) return complaints.ToStatus(file);
  return catalog;
}

absl::StatusOr<Catalog> LoadCatalog(const std::string& path) {
  const absl::StatusOr<std::string> yaml = ReadYaml(path);
  if (!yaml.ok()) return yaml.status();
  return ParseCatalog(*yaml, path);
}

absl::StatusOr<std::vector<Catalog>> LoadCatalogs(const std::vector<std::string>& paths) {
  std::vector<Catalog> catalogs;
  catalogs.reserve(paths.size());  // they are pointed at
  std::vector<const Catalog*> before;
  std::vector<std::string> problems;
  for (const std::string& path : paths) {
    const absl::StatusOr<std::string> yaml = ReadYaml(path);
    if (!yaml.ok()) {
      problems.emplace_back(yaml.status().message());
      continue;
    }
    Complaints complaints;
    catalogs.push_back(ReadCatalog(*yaml, path, &complaints));
    CheckBeside(before, catalogs.back(), &complaints);
    before.push_back(&catalogs.back());
    if (!complaints.empty()) problems.emplace_back(complaints.ToStatus(path).message());
  }
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  return catalogs;
}

absl::StatusOr<std::shared_ptr<const CatalogIndex>> LoadCatalogIndex(
    const std::vector<std::string>& paths, size_t series_limit) {
  if (paths.empty()) return nullptr;
  auto catalogs = LoadCatalogs(paths);
  if (!catalogs.ok()) return catalogs.status();
  size_t from_start = 0;
  for (const Catalog& catalog : *catalogs) {
    // Each is bounded by kMaxEnumerableSeries, so the sum does not overflow.
    for (const DeclaredMetric& metric : catalog.metrics) from_start += metric.EnumerableSeries();
  }
  if (from_start > series_limit) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the catalogs declare ", from_start, " series that are there from the start, and ",
        "--series.limit is ", series_limit, "; raise it, or bound labels by max"));
  }
  return CatalogIndex::Create(*std::move(catalogs));
}

}  // namespace tallyd
