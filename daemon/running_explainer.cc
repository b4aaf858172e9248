#include "daemon/running_explainer.h"

#include <utility>

namespace tallyd {

absl::StatusOr<std::string> RunningExplainer::Answer(const Question& question) {
  if (explainer_ == nullptr || sequence_ != question.sequence ||
      explainer_->options().dialect != question.options.dialect) {
    auto explainer = Explainer::Create(question.options);
    if (!explainer.ok()) return explainer.status();
    explainer_ = *std::move(explainer);
    sequence_ = question.sequence;
  }
  Explanation explanation = explainer_->Explain(question.line_untrusted, question.families);
  explanation.budget = question.budget;
  const Mapping* const mapping = explainer_->options().rules.mapping.get();
  const MappingConfig* const config = mapping == nullptr ? nullptr : &mapping->config();
  return question.as_json ? ExplanationJson(explanation, config)
                          : ExplanationText(explanation, config);
}

}  // namespace tallyd
