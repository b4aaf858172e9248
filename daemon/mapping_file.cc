#include "daemon/mapping_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/rules/abseil_view.h"
#include "core/rules/complaints.h"
#include "daemon/exit_code.h"
#include "daemon/file_text.h"
#include "daemon/written_mapping.h"
#include "daemon/yaml_scalar.h"
#include "daemon/yaml_tree.h"

namespace tallyd {
namespace {

// Where a value is: its key, with those around it joined by dots, and the key's line.
struct Place {
  std::string key;
  int line = 1;
};

std::string Shown(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kScalar:
      return Quoted(node.text);
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return "";
}

bool IsNull(const YamlNode& node) { return node.kind == YamlNode::Kind::kNull; }

bool IsMergeKey(const YamlNode& key) {
  return key.kind == YamlNode::Kind::kScalar && key.is_plain && key.text == "<<";
}

// Turns the tree into a MappingConfig. A value of the wrong type is complained of and reads as
// none, so that the rest of the file is looked at too.
//
// A merge key is read as if its maps stood before the keys beside it, into the same target: the
// labels and options of both count, and of a key that both have the one beside the merge key.
class MappingReader {
 public:
  MappingReader(const YamlTree& tree, std::string_view file, Complaints* complaints)
      : tree_(tree), complaints_(complaints) {
    config_.file = std::string(file);
  }

  MappingConfig ReadFile() {
    static constexpr std::array<Field<Document>, 2> kFields = {{
        {"defaults",
         [](MappingReader*, const YamlNode& value, const Place& place, Document* document) {
           document->defaults = &value;
           document->defaults_line = place.line;
         },
         {}},
        {"mappings",
         [](MappingReader*, const YamlNode& value, const Place& place, Document* document) {
           document->mappings = &value;
           document->mappings_line = place.line;
         },
         {}},
    }};
    Document document;
    if (!IsNull(tree_.root())) {
      ReadFields<Document>(tree_.root(), {"", tree_.root().line}, kFields, &document);
    }
    // The mappings need the defaults, wherever these stand.
    if (document.defaults != nullptr) ReadDefaults(*document.defaults, document.defaults_line);
    if (document.mappings != nullptr) ReadMappings(*document.mappings, document.mappings_line);
    FinishWarnings();
    return std::move(config_);
  }

 private:
  struct Document {
    const YamlNode* defaults = nullptr;
    const YamlNode* mappings = nullptr;
    int defaults_line = 0;
    int mappings_line = 0;
  };

  template <class Target>
  struct Field {
    std::string_view key;
    void (*read)(MappingReader* reader, const YamlNode& value, const Place& place, Target* target);
    std::string_view instead;  // of legacy keys: what to write today
  };

  // A field whose value goes to a member, read by what the member is.
  template <class Target, auto kMember>
  static constexpr Field<Target> Into(std::string_view key, std::string_view instead = {}) {
    return {key,
            [](MappingReader* reader, const YamlNode& value, const Place& place, Target* target) {
              reader->Read(value, place, &(target->*kMember));
            },
            instead};
  }

  template <class Target>
  void ReadFields(const YamlNode& map, const Place& place, absl::Span<const Field<Target>> fields,
                  Target* target) {
    if (map.kind != YamlNode::Kind::kMap) {
      Complain(place, absl::StrCat(Shown(map), " is no map; write keys with their values"));
      return;
    }
    ForEachMerged(map, place, [&](const YamlNode& merged) {
      ReadFields<Target>(merged, place, fields, target);
    });
    std::vector<bool> seen(fields.size());
    ForEachKey(map, place, [&](const Place& inner, const YamlNode& key, const YamlNode& value) {
      const auto field = std::find_if(fields.begin(), fields.end(),
                                      [&key](const Field<Target>& f) { return f.key == key.text; });
      if (field == fields.end()) {
        Complain(inner, UnknownKey<Target>(fields));
        return;
      }
      if (seen[field - fields.begin()]) {
        Complain(inner, "is there twice; keep one of them");
        return;
      }
      seen[field - fields.begin()] = true;
      if (!field->instead.empty()) WarnOfLegacy(inner, field->instead);
      field->read(this, value, inner, target);
    });
  }

  template <class Target>
  static std::string UnknownKey(absl::Span<const Field<Target>> fields) {
    std::string text = "is no key here; use one of";
    const char* separator = " ";
    for (const Field<Target>& field : fields) {
      if (!field.instead.empty()) continue;
      absl::StrAppend(&text, separator, View(field.key));
      separator = ", ";
    }
    return text;
  }

  // Calls `each(map)` for the maps of the merge keys, the more important ones later.
  template <class Each>
  void ForEachMerged(const YamlNode& map, const Place& place, const Each& each) {
    for (size_t i = 0; i + 1 < map.children.size(); i += 2) {
      const YamlNode& key = tree_.node(map.children[i]);
      if (!IsMergeKey(key)) continue;
      const YamlNode& value = tree_.node(map.children[i + 1]);
      if (value.kind == YamlNode::Kind::kMap) {
        each(value);
      } else if (value.kind == YamlNode::Kind::kSequence && AreMaps(value)) {
        for (size_t j = value.children.size(); j > 0; --j) each(tree_.node(value.children[j - 1]));
      } else {
        Complain(Within(place, key), "is no map; write an alias of one, or a list of these");
      }
    }
  }

  bool AreMaps(const YamlNode& list) const {
    return std::all_of(list.children.begin(), list.children.end(), [this](uint32_t child) {
      return tree_.node(child).kind == YamlNode::Kind::kMap;
    });
  }

  // Calls `each(place, key, value)` for all keys but merge keys.
  template <class Each>
  void ForEachKey(const YamlNode& map, const Place& place, const Each& each) {
    for (size_t i = 0; i + 1 < map.children.size(); i += 2) {
      const YamlNode& key = tree_.node(map.children[i]);
      if (IsMergeKey(key)) continue;
      if (key.kind == YamlNode::Kind::kSequence || key.kind == YamlNode::Kind::kMap) {
        Complain({place.key, key.line}, absl::StrCat("a key is ", Shown(key), "; write text"));
        continue;
      }
      const Place inner = Within(place, key);
      if (lines_ != nullptr) lines_->push_back({inner.key, inner.line});
      each(inner, key, tree_.node(map.children[i + 1]));
    }
  }

  static Place Within(const Place& outer, const YamlNode& key) {
    return {outer.key.empty() ? key.text : absl::StrCat(outer.key, ".", key.text), key.line};
  }

  // ---- Values, by type. Null takes a value away that a merged map may have given. ----

  void Read(const YamlNode& value, const Place& place, std::optional<std::string>* text) {
    text->reset();
    if (value.kind == YamlNode::Kind::kScalar) {
      *text = value.text;
    } else if (!IsNull(value)) {
      Complain(place, absl::StrCat("is ", Shown(value), "; write text"));
    }
  }

  // Stores what `read` makes of a value that is not null.
  template <class T, class ReadValue>
  void ReadAs(const YamlNode& value, const Place& place, const ReadValue& read,
              std::string_view advice, std::optional<T>* out) {
    out->reset();
    if (IsNull(value)) return;
    if (const auto found = read(value)) {
      *out = T{*found};
    } else {
      Complain(place, absl::StrCat(Shown(value), " is ", View(advice)));
    }
  }

  void Read(const YamlNode& value, const Place& place, std::optional<bool>* out) {
    ReadAs(value, place, YamlBool, "no truth value; write true or false, without quotes", out);
  }

  void Read(const YamlNode& value, const Place& place, std::optional<double>* out) {
    ReadAs(value, place, YamlNumber, "no number; write one, without quotes", out);
  }

  void Read(const YamlNode& value, const Place& place, std::optional<uint32_t>* out) {
    ReadAs(value, place, YamlCount, "no number from 0 to 4294967295; write one, without quotes",
           out);
  }

  void Read(const YamlNode& value, const Place& place, std::optional<DurationNs>* out) {
    bool is_bare = false;
    ReadAs(
        value, place, [&is_bare](const YamlNode& node) { return YamlDurationNs(node, &is_bare); },
        "no duration; write one such as 500ms, 90s, 5m or 1h30m (there are no days)", out);
    if (is_bare) {
      Warn(place, absl::StrCat("a number without a unit is nanoseconds; for seconds write ",
                               value.text, "s"));
    }
  }

  template <class Enum>
  using Words = std::vector<std::pair<std::string_view, Enum>>;

  template <class Enum>
  void ReadWord(const YamlNode& value, const Place& place, const Words<Enum>& words,
                std::optional<Enum>* out) {
    const auto find = [&words](const YamlNode& node) -> std::optional<Enum> {
      const auto word = std::find_if(words.begin(), words.end(), [&node](const auto& candidate) {
        return node.kind == YamlNode::Kind::kScalar && candidate.first == node.text;
      });
      return word == words.end() ? std::nullopt : std::optional<Enum>(word->second);
    };
    std::string advice = "not known; write";
    const char* separator = " ";
    for (const auto& [word, meaning] : words) {
      absl::StrAppend(&advice, separator, View(word));
      separator = " or ";
    }
    ReadAs(value, place, find, advice, out);
  }

  static bool IsEmptyText(const YamlNode& value) {
    return value.kind == YamlNode::Kind::kScalar && value.text.empty();
  }

  // Nothing in quotes is something: it chooses summaries, whatever the defaults say.
  void Read(const YamlNode& value, const Place& place, std::optional<ObserverType>* out) {
    static const Words<ObserverType> words = {{"histogram", ObserverType::kHistogram},
                                              {"summary", ObserverType::kSummary}};
    if (IsEmptyText(value)) {
      *out = ObserverType::kSummary;
    } else {
      ReadWord(value, place, words, out);
    }
  }

  void Read(const YamlNode& value, const Place& place, std::optional<MatchType>* out) {
    static const Words<MatchType> words = {{"glob", MatchType::kGlob},
                                           {"regex", MatchType::kRegex}};
    if (IsEmptyText(value)) {
      *out = MatchType::kGlob;
    } else {
      ReadWord(value, place, words, out);
    }
  }

  void Read(const YamlNode& value, const Place& place, std::optional<MatchedType>* out) {
    static const Words<MatchedType> words = {{"counter", MatchedType::kCounter},
                                             {"gauge", MatchedType::kGauge},
                                             {"observer", MatchedType::kObserver}};
    if (value.kind == YamlNode::Kind::kScalar && value.text == "timer") {
      WarnOfLegacy(place, "observer");
      *out = MatchedType::kObserver;
    } else {
      ReadWord(value, place, words, out);
    }
  }

  void Read(const YamlNode& value, const Place& place, std::optional<WrittenAction>* out) {
    static const Words<WrittenAction> words = {{"map", WrittenAction::kMap},
                                               {"drop", WrittenAction::kDrop}};
    if (IsEmptyText(value)) {
      *out = WrittenAction::kMap;
    } else {
      ReadWord(value, place, words, out);
    }
  }

  // Calls `each(item)` for those of a list; null is an empty one.
  template <class Each>
  void ForEachItem(const YamlNode& value, const Place& place, std::string_view example,
                   const Each& each) {
    if (IsNull(value)) return;
    if (value.kind != YamlNode::Kind::kSequence) {
      Complain(place, absl::StrCat(Shown(value), " is no list; write one such as ", View(example)));
      return;
    }
    for (const uint32_t child : value.children) each(tree_.node(child));
  }

  void Read(const YamlNode& value, const Place& place, std::optional<std::vector<double>>* out) {
    *out = std::vector<double>();
    ForEachItem(value, place, "[0.1, 1, 10]", [&](const YamlNode& item) {
      std::optional<double> number;
      Read(item, {place.key, item.line}, &number);
      if (number) {
        (*out)->push_back(*number);
      } else if (IsNull(item)) {
        Complain({place.key, item.line}, "null is no number; leave it out");
      }
    });
    if (IsNull(value)) out->reset();
  }

  void Read(const YamlNode& value, const Place& place, std::optional<std::vector<Quantile>>* out) {
    struct WrittenQuantile {
      std::optional<double> quantile;
      std::optional<double> error;
    };
    static constexpr std::array<Field<WrittenQuantile>, 2> kFields = {{
        Into<WrittenQuantile, &WrittenQuantile::quantile>("quantile"),
        Into<WrittenQuantile, &WrittenQuantile::error>("error"),
    }};
    *out = std::vector<Quantile>();
    ForEachItem(value, place, "[{quantile: 0.9, error: 0.01}]", [&](const YamlNode& item) {
      WrittenQuantile written;
      ReadFields<WrittenQuantile>(item, {place.key, item.line}, kFields, &written);
      (*out)->push_back({written.quantile.value_or(0), written.error.value_or(0)});
    });
    if (IsNull(value)) out->reset();
  }

  void Read(const YamlNode& value, const Place& place, std::optional<WrittenSummary>* out) {
    static constexpr std::array<Field<WrittenSummary>, 4> kFields = {{
        Into<WrittenSummary, &WrittenSummary::quantiles>("quantiles"),
        Into<WrittenSummary, &WrittenSummary::max_age>("max_age"),
        Into<WrittenSummary, &WrittenSummary::age_buckets>("age_buckets"),
        Into<WrittenSummary, &WrittenSummary::buf_cap>("buf_cap"),
    }};
    ReadOptions<WrittenSummary>(value, place, kFields, out);
  }

  void Read(const YamlNode& value, const Place& place, std::optional<WrittenHistogram>* out) {
    static constexpr std::array<Field<WrittenHistogram>, 3> kFields = {{
        Into<WrittenHistogram, &WrittenHistogram::buckets>("buckets"),
        Into<WrittenHistogram, &WrittenHistogram::native_factor>("native_histogram_bucket_factor"),
        Into<WrittenHistogram, &WrittenHistogram::native_max_buckets>(
            "native_histogram_max_buckets"),
    }};
    ReadOptions<WrittenHistogram>(value, place, kFields, out);
  }

  template <class Options>
  void ReadOptions(const YamlNode& value, const Place& place,
                   absl::Span<const Field<Options>> fields, std::optional<Options>* out) {
    if (IsNull(value)) {
      out->reset();
      return;
    }
    if (!*out) out->emplace();
    ReadFields<Options>(value, place, fields, &**out);
  }

  void Read(const YamlNode& value, const Place& place, WrittenLabels* out) {
    if (IsNull(value)) {
      out->labels.clear();
      return;
    }
    if (value.kind != YamlNode::Kind::kMap) {
      Complain(place, absl::StrCat(Shown(value), " is no map; write names with their values"));
      return;
    }
    ForEachMerged(value, place, [&](const YamlNode& merged) { Read(merged, place, out); });
    std::vector<std::string_view> seen;
    ForEachKey(value, place, [&](const Place& inner, const YamlNode& key, const YamlNode& label) {
      if (std::find(seen.begin(), seen.end(), key.text) != seen.end()) {
        Complain(inner, "is there twice; keep one of them");
        return;
      }
      seen.push_back(key.text);
      std::optional<std::string> text;
      Read(label, inner, &text);
      SetLabel(key.text, text.value_or(""), out);
    });
  }

  static void SetLabel(const std::string& name, std::string text, WrittenLabels* out) {
    const auto label = std::find_if(out->labels.begin(), out->labels.end(),
                                    [&name](const auto& each) { return each.first == name; });
    if (label == out->labels.end()) {
      out->labels.emplace_back(name, std::move(text));
    } else {
      label->second = std::move(text);
    }
  }

  // ---- Defaults and mappings ----

  void ReadDefaults(const YamlNode& node, int line) {
    using Defaults = WrittenDefaults;
    static constexpr std::array<Field<Defaults>, 9> kFields = {{
        Into<Defaults, &Defaults::observer_type>("observer_type"),
        Into<Defaults, &Defaults::match_type>("match_type"),
        Into<Defaults, &Defaults::glob_disable_ordering>("glob_disable_ordering"),
        Into<Defaults, &Defaults::ttl>("ttl"),
        Into<Defaults, &Defaults::summary>("summary_options"),
        Into<Defaults, &Defaults::histogram>("histogram_options"),
        Into<Defaults, &Defaults::timer_type>("timer_type", "observer_type"),
        Into<Defaults, &Defaults::buckets>("buckets", "histogram_options.buckets"),
        Into<Defaults, &Defaults::quantiles>("quantiles", "summary_options.quantiles"),
    }};
    if (IsNull(node)) return;
    prefix_ = "defaults";
    lines_ = &config_.defaults.key_lines;
    ReadFields<Defaults>(node, {"", line}, kFields, &defaults_);
    lines_ = nullptr;
    prefix_.clear();
    config_.defaults.line = line;
    config_.glob_disable_ordering = defaults_.glob_disable_ordering.value_or(false);
    ApplyObserver(defaults_, &config_.defaults);
    const auto type = TypeOf(defaults_);
    config_.defaults.observer_type_given = type.has_value();
    config_.defaults.observer_type =
        type ? *type : IntendedType(defaults_).value_or(ObserverType::kHistogram);
  }

  void ReadMappings(const YamlNode& node, int line) {
    ForEachItem(node, {"mappings", line}, "[{match: \"a.*\", name: \"a\"}]",
                [this](const YamlNode& item) { ReadRule(item); });
  }

  void ReadRule(const YamlNode& node) {
    using Rule = WrittenRule;
    static constexpr std::array<Field<Rule>, 16> kFields = {{
        Into<Rule, &Rule::match>("match"),
        Into<Rule, &Rule::match_type>("match_type"),
        Into<Rule, &Rule::name>("name"),
        Into<Rule, &Rule::labels>("labels"),
        Into<Rule, &Rule::honor_labels>("honor_labels"),
        Into<Rule, &Rule::matched_type>("match_metric_type"),
        Into<Rule, &Rule::action>("action"),
        Into<Rule, &Rule::observer_type>("observer_type"),
        Into<Rule, &Rule::summary>("summary_options"),
        Into<Rule, &Rule::histogram>("histogram_options"),
        Into<Rule, &Rule::ttl>("ttl"),
        Into<Rule, &Rule::scale>("scale"),
        Into<Rule, &Rule::help>("help"),
        Into<Rule, &Rule::timer_type>("timer_type", "observer_type"),
        Into<Rule, &Rule::buckets>("buckets", "histogram_options.buckets"),
        Into<Rule, &Rule::quantiles>("quantiles", "summary_options.quantiles"),
    }};
    if (node.kind != YamlNode::Kind::kMap) {
      Complain({"mappings", node.line},
               absl::StrCat(Shown(node), " is no mapping; write match, name and so on"));
      return;
    }
    MappingRule rule;
    rule.line = node.line;
    WrittenRule written;
    lines_ = &rule.key_lines;
    ReadFields<Rule>(node, {"", node.line}, kFields, &written);
    lines_ = nullptr;
    Finish(std::move(written), &rule);
    config_.rules.push_back(std::move(rule));
  }

  void Finish(WrittenRule written, MappingRule* rule) {
    rule->match_type = written.match_type.value_or(defaults_.match_type.value_or(MatchType::kGlob));
    if (!written.match && rule->match_type == MatchType::kRegex) {
      Complain({"match", rule->line}, "is missing; write the names that the rule is for");
    }
    rule->match = std::move(written.match).value_or("");
    rule->name = std::move(written.name).value_or("");
    rule->labels = std::move(written.labels.labels);
    rule->honor_labels = written.honor_labels.value_or(false);
    rule->matched_type = written.matched_type.value_or(MatchedType::kAny);
    rule->drop = written.action == WrittenAction::kDrop;
    rule->scale = written.scale.value_or(1);
    rule->help = std::move(written.help).value_or("");
    rule->summary = config_.defaults.summary;
    rule->histogram = config_.defaults.histogram;
    rule->ttl_ms = config_.defaults.ttl_ms;
    ApplyObserver(written, rule);
    ChooseObserver(written, rule);
    CheckLegacy(written, *rule);
  }

  void ChooseObserver(const WrittenRule& written, MappingRule* rule) {
    const auto own_type = TypeOf(written);
    const auto type = own_type ? own_type : TypeOf(defaults_);
    rule->observer_type_given = type.has_value();
    if (!type) {
      rule->observer_type = IntendedType(written).value_or(config_.defaults.observer_type);
      return;
    }
    rule->observer_type = *type;
    const char* const whence = own_type ? "" : " by the defaults";
    if (*type == ObserverType::kHistogram && written.summary) {
      Complain(PlaceOf(*rule, "summary_options"),
               absl::StrCat("are given, but the observer_type is histogram", whence,
                            "; write histogram_options, or observer_type: summary"));
    }
    if (*type == ObserverType::kSummary && written.histogram) {
      Complain(PlaceOf(*rule, "histogram_options"),
               absl::StrCat("are given, but the observer_type is summary", whence,
                            "; write summary_options, or observer_type: histogram"));
    }
  }

  void CheckLegacy(const WrittenRule& written, const MappingRule& rule) {
    if (written.buckets && written.histogram && written.histogram->buckets) {
      Complain(PlaceOf(rule, "buckets"), "are in histogram_options too; keep those");
    }
    if (written.quantiles && written.summary && written.summary->quantiles) {
      Complain(PlaceOf(rule, "quantiles"), "are in summary_options too; keep those");
    }
  }

  // ---- Messages ----

  static Place PlaceOf(const MappingRule& rule, std::string_view key) {
    const auto found = std::find_if(rule.key_lines.rbegin(), rule.key_lines.rend(),
                                    [key](const KeyLine& line) { return line.key == key; });
    return {std::string(key), found == rule.key_lines.rend() ? rule.line : found->line};
  }

  std::string FullKey(const Place& place) const {
    if (prefix_.empty()) return place.key.empty() ? "file" : place.key;
    return place.key.empty() ? prefix_ : absl::StrCat(prefix_, ".", place.key);
  }

  void Complain(const Place& place, std::string_view text) {
    complaints_->Add(place.line, FullKey(place), text);
  }

  void Warn(const Place& place, std::string_view text) {
    if (++warnings_ > Complaints::kMaxShown) return;
    config_.warnings.push_back(
        absl::StrCat(config_.file, ":", place.line, ": ", FullKey(place), ": ", View(text)));
  }

  void WarnOfLegacy(const Place& place, std::string_view instead) {
    Warn(place, absl::StrCat("is old; write ", View(instead)));
    if (lines_ != nullptr) lines_->push_back({std::string(instead), place.line});
  }

  void FinishWarnings() {
    if (warnings_ <= Complaints::kMaxShown) return;
    config_.warnings.push_back(
        absl::StrCat(config_.file, ": and ", warnings_ - Complaints::kMaxShown, " more"));
  }

  const YamlTree& tree_;
  Complaints* complaints_;
  MappingConfig config_;
  WrittenDefaults defaults_;
  size_t warnings_ = 0;
  std::string prefix_;                     // of the keys in messages
  std::vector<KeyLine>* lines_ = nullptr;  // of what is being read
};

absl::Status TooLarge(std::string_view file) {
  return absl::InvalidArgumentError(absl::StrCat(View(file), ":1: file: is larger than ",
                                                 kMaxMappingBytes, " bytes; split or shorten it"));
}

}  // namespace

absl::StatusOr<MappingConfig> ParseMapping(std::string_view yaml, std::string_view file) {
  if (yaml.size() > kMaxMappingBytes) return TooLarge(file);
  Complaints complaints;
  const YamlTree tree = YamlTree::Parse(yaml, kMaxMappingNodes, &complaints);
  if (!complaints.empty()) return complaints.ToStatus(file);
  MappingConfig config = MappingReader(tree, file, &complaints).ReadFile();
  if (!complaints.empty()) return complaints.ToStatus(file);
  return config;
}

absl::StatusOr<std::shared_ptr<const Mapping>> LoadMapping(const std::string& path) {
  const FileText yaml = ReadFileText(path, kMaxMappingBytes + 1);
  if (const int error = yaml.open_error != 0 ? yaml.open_error : yaml.read_error; error != 0) {
    return UsageError(absl::StrCat("cannot read ", path, ": ", std::strerror(error)));
  }
  absl::StatusOr<MappingConfig> config = ParseMapping(yaml.text, path);
  if (!config.ok()) return config.status();
  return Mapping::Compile(*std::move(config));
}

}  // namespace tallyd
