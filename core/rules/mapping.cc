#include "core/rules/mapping.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/rules/capture_template.h"
#include "core/rules/complaints.h"
#include "core/rules/glob_tree.h"
#include "core/rules/mapping_check.h"
#include "core/rules/regex_rules.h"

namespace tallyd {
namespace {

// The templates of one rule.
struct RuleTemplates {
  CaptureTemplate name;
  std::vector<CaptureTemplate> labels;  // as in the rule
  int max_capture = -1;
};

template <class MakeTemplate>
RuleTemplates TemplatesOf(const MappingRule& rule, const MakeTemplate& make) {
  RuleTemplates templates{make(rule.name), {}};
  templates.max_capture = templates.name.max_capture();
  for (const auto& [name, text] : rule.labels) {
    templates.labels.push_back(make(text));
    templates.max_capture = std::max(templates.max_capture, templates.labels.back().max_capture());
  }
  return templates;
}

RuleTemplates TemplatesOfGlob(const MappingRule& rule) {
  const int stars = CountStars(rule.match);
  return TemplatesOf(
      rule, [stars](std::string_view text) { return CaptureTemplate::OfGlob(text, stars); });
}

RuleTemplates TemplatesOfRegex(const MappingRule& rule, const re2::RE2& pattern) {
  return TemplatesOf(rule, [&pattern](std::string_view text) {
    return CaptureTemplate::OfRegex(text, pattern.NumberOfCapturingGroups(),
                                    pattern.CapturingGroupNames());
  });
}

std::vector<GlobTree::Rule> GlobRules(const std::vector<MappingRule>& rules) {
  std::vector<GlobTree::Rule> globs;
  for (uint32_t i = 0; i < rules.size(); ++i) {
    if (rules[i].match_type == MatchType::kGlob) {
      globs.push_back({rules[i].match, rules[i].matched_type, i});
    }
  }
  return globs;
}

size_t CountRegexes(const std::vector<MappingRule>& rules) {
  return std::count_if(rules.begin(), rules.end(), [](const MappingRule& rule) {
    return rule.match_type == MatchType::kRegex;
  });
}

void AddRegexes(const std::vector<MappingRule>& rules, RegexRules* regexes,
                Complaints* complaints) {
  for (uint32_t i = 0; i < rules.size(); ++i) {
    const MappingRule& rule = rules[i];
    if (rule.match_type != MatchType::kRegex) continue;
    const absl::Status status = regexes->Add(rule.match, rule.matched_type, i);
    if (status.ok()) continue;
    complaints->Add(LineOf(rule, "match"), "match",
                    absl::StrCat(Quoted(rule.match), " is no regular expression, ",
                                 status.message(), "; write what Go's regexp package takes"));
  }
}

}  // namespace

MatchedType MatchedTypeOf(SampleType type) {
  switch (type) {
    case SampleType::kCounter:
      return MatchedType::kCounter;
    case SampleType::kGauge:
    case SampleType::kSet:
      return MatchedType::kGauge;
    case SampleType::kTimer:
    case SampleType::kHistogram:
      return MatchedType::kObserver;
  }
  return MatchedType::kAny;
}

class Mapping::Impl {
 public:
  // Requires that all has been checked. The globs point into the matches of `config`.
  Impl(MappingConfig config, RegexRules regexes)
      : config_(std::move(config)),
        regexes_(std::move(regexes)),
        globs_(GlobRules(config_.rules), !config_.glob_disable_ordering) {
    int next_regex = 0;
    for (const MappingRule& rule : config_.rules) {
      templates_.push_back(rule.match_type == MatchType::kGlob
                               ? TemplatesOfGlob(rule)
                               : TemplatesOfRegex(rule, regexes_.pattern(next_regex++)));
    }
  }

  bool Map(std::string_view name, SampleType type, Mapped* mapped) const {
    const uint32_t glob = globs_.Find(name, type);
    if (glob != GlobTree::kNoRule) {
      if (Begin(glob, mapped)) Expand(glob, GlobCaptures(config_.rules[glob].match, name), mapped);
      return true;
    }
    const int regex = regexes_.Find(name, type);
    if (regex < 0) return false;
    const uint32_t number = regexes_.number(regex);
    if (Begin(number, mapped)) {
      Expand(number, regexes_.Captures(regex, name, templates_[number].max_capture), mapped);
    }
    return true;
  }

  const MappingConfig& config() const { return config_; }

 private:
  // Whether there is something to expand.
  bool Begin(uint32_t number, Mapped* mapped) const {
    mapped->rule = &config_.rules[number];
    mapped->name.clear();
    mapped->labels.clear();
    return !mapped->rule->drop;
  }

  void Expand(uint32_t number, const std::vector<std::string_view>& captures,
              Mapped* mapped) const {
    const RuleTemplates& templates = templates_[number];
    templates.name.Expand(captures, &mapped->name);
    for (size_t i = 0; i < templates.labels.size(); ++i) {
      std::string& value = mapped->labels.emplace_back(mapped->rule->labels[i].first, "").second;
      templates.labels[i].Expand(captures, &value);
    }
  }

  const MappingConfig config_;
  const RegexRules regexes_;
  const GlobTree globs_;
  std::vector<RuleTemplates> templates_;  // by number of the rule
};

absl::StatusOr<std::shared_ptr<const Mapping>> Mapping::Compile(MappingConfig config) {
  NormalizeOptions(&config.defaults);
  for (MappingRule& rule : config.rules) NormalizeOptions(&rule);
  Complaints complaints;
  CheckMapping(config, &complaints);
  RegexRules regexes(CountRegexes(config.rules));
  AddRegexes(config.rules, &regexes, &complaints);
  if (!complaints.empty()) return complaints.ToStatus(config.file);
  regexes.Finish();
  for (MappingRule& rule : config.rules) rule.key_lines = {};
  config.defaults.key_lines = {};
  // The constructor is private.
  return std::shared_ptr<const Mapping>(
      new Mapping(std::make_unique<Impl>(std::move(config), std::move(regexes))));
}

Mapping::Mapping(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Mapping::~Mapping() = default;

bool Mapping::Map(std::string_view name, SampleType type, Mapped* mapped) const {
  return impl_->Map(name, type, mapped);
}

const MappingConfig& Mapping::config() const { return impl_->config(); }

}  // namespace tallyd
