#include "daemon/peer_differences.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/expose/text.h"
#include "daemon/explain.h"

namespace tallyd {
namespace {

constexpr std::array<PeerCategoryInfo, kPeerCategories> kInfos = {{
    {"hazard-crash", "statsd_exporter panics and exits on such a line",
     "find out who sends it; tallyd counts or refuses the sample and goes on"},
    {"hazard-scrape", "every scrape of statsd_exporter fails from such a line on until a restart",
     "find out who sends it; tallyd counts or refuses the sample, and scrapes stay valid"},
    {"hazard-flood", "statsd_exporter repeats the observation so often that memory and CPU run out",
     "find out who sends it, the rate may be a mistake; tallyd adds the weight in one step"},
    {"hazard-poison", "the series becomes NaN in statsd_exporter and stays so",
     "find out who sends it; tallyd drops the sample as bad_value"},
    {"packed", "statsd_exporter refuses several values in one line unless they are ms, h or d",
     "expect higher counts here: these samples were lost before"},
    {"container-id", "statsd_exporter loses a sample with a container id and no tags",
     "expect series with the label container_id that were not there before, or switch the label "
     "off with --statsd.container-id=ignore"},
    {"unknown-section", "statsd_exporter loses a sample with e:, card: or an unknown section",
     "expect higher counts here: these samples were lost before"},
    {"too-many-sections", "statsd_exporter loses a sample with more than four sections",
     "expect higher counts here: these samples were lost before"},
    {"carriage-return",
     "statsd_exporter takes a CR at the end of a datagram's line for a part of it",
     "expect samples, or label values without CR, that were not there before"},
    {"set", "statsd_exporter refuses sets", "expect a gauge with the number of distinct members"},
    {"type-conflict-there", "statsd_exporter refuses the sample for the type of another name",
     "expect series that were not there before; rename one of the two if that is a surprise"},
    {"accepted-here-lost-there", "the sample counts here and is lost in statsd_exporter",
     "expect higher counts here"},
    {"event", "statsd_exporter reads the line of an event or service check as a metric",
     "expect these metrics to be gone; tallyd counts events by kind and makes no metric of them"},
    {"own-name", "names that begin with tallyd_ or process_ are tallyd's own",
     "rename the metric, in the client or by a mapping rule"},
    {"reserved-label",
     "a tag is called \"le\" on a histogram, or \"quantile\" on a summary, or begins with \"__\"; "
     "statsd_exporter takes it where its type is another one",
     "rename the tag, or give the metric the observer_type that it has there"},
    {"type-conflict-here", "the name belongs to another type here, and not in statsd_exporter",
     "rename one of the two, in the client or by a mapping rule"},
    {"limit-here", "the line is over a limit of tallyd; statsd_exporter has none",
     "send fewer or shorter tags, or raise the limit"},
    {"lost-here-accepted-there", "the sample counts in statsd_exporter and is lost here",
     "see the reason that is given with the line"},
    {"default-observer",
     "without observer_type statsd_exporter makes a summary, tallyd a histogram",
     "write observer_type under defaults: summary to keep quantiles, histogram to agree to the "
     "change"},
    {"sampled-weight", "statsd_exporter cuts 1/rate to a whole number, tallyd carries the fraction",
     "nothing: the counts here are the unbiased ones; with rates above 1 the samples were lost"},
    {"signed-gauge", "with the dialect dogstatsd a signed value is a value, not a change",
     "use the dialect statsd for senders that rely on changes"},
    {"rule-unreachable-there",
     "statsd_exporter does not find the first rule that fits: its tree loses a rule that is the "
     "beginning of an earlier one, and moves a rule that comes twice",
     "decide which rule you want and remove the other"},
    {"template", "statsd_exporter garbles this template",
     "expect the text that the template says, and adapt dashboards that show the other"},
    {"leaked-label", "labels that a rule gave to an earlier sample of the line leak into this one",
     "expect series without the foreign labels"},
    {"different-series", "both count the sample, under different names or labels",
     "compare the two series, and adapt dashboards"},
    {"different-type", "both count the sample, as different types",
     "compare the two types, and adapt dashboards"},
    {"different-value", "both count the sample, with different values", "compare the two values"},
    {"mapping-refused", "tallyd does not load the file",
     "change the file where the message says; the lines were not replayed"},
    {"rule-moved-there",
     "a later rule with the same match moves the earlier one back in statsd_exporter's order",
     "remove one of the two"},
    {"legacy-key",
     "an old key, which tallyd and statsd_exporter up to 0.30 take and newer ones "
     "refuse",
     "write the key as the message says"},
    {"summary-error",
     "the error of a quantile is one of the rank in statsd_exporter and one of the value here",
     "nothing, unless you rely on a written error below 1 % near the median"},
}};

bool Close(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b || std::abs(a - b) <= 1e-12 * std::max(std::abs(a), std::abs(b));
}

std::string NumberText(double value) {
  std::string text;
  AppendValue(value, &text);
  return text;
}

// "3.33", where the exact digits say nothing.
std::string Rounded(double value) { return absl::StrCat(absl::SixDigits(value)); }

std::string Effect(double value, bool is_change) {
  if (!is_change) return absl::StrCat("= ", NumberText(value));
  return absl::StrCat(value < 0 ? "- " : "+ ", NumberText(std::abs(value)));
}

std::string HereText(const ExplainedSample& sample) {
  if (!sample.accepted) {
    return absl::StrCat("dropped: ", std::string(Name(sample.reason)));
  }
  const std::string what = absl::StrCat(KindName(sample.kind), " ", sample.series);
  switch (sample.kind) {
    case SeriesKind::kCounter:
      return absl::StrCat(what, " + ", NumberText(sample.value / sample.rate));
    case SeriesKind::kGauge:
      return absl::StrCat(what, " ", Effect(sample.value, sample.is_change));
    case SeriesKind::kSet:
      return absl::StrCat("gauge ", sample.series, ", one member more if it is new");
    case SeriesKind::kHistogram:
    case SeriesKind::kSummary:
      break;
  }
  const std::string times =
      sample.weight == 1 ? "" : absl::StrCat(", ", Rounded(sample.weight), " times");
  return absl::StrCat(what, " observes ", NumberText(sample.value), times);
}

std::string LossText(const PeerSample& sample) {
  if (sample.loss == PeerLoss::kNoEvent) return "lost without a trace: the rate leaves no event";
  if (sample.loss == PeerLoss::kDropRule) return "dropped by a rule";
  return absl::StrCat("lost: ", PeerMetric(sample));
}

std::string ThereText(const PeerSample& sample) {
  if (sample.hazard != PeerHazard::kNone) {
    return absl::StrCat(PeerHazardName(sample.hazard), ": ", sample.hazard_cause);
  }
  if (!sample.taken()) return LossText(sample);
  const std::string what = absl::StrCat(sample.type, " ", sample.series);
  if (sample.type == "counter") return absl::StrCat(what, " + ", NumberText(sample.value));
  if (sample.type == "gauge")
    return absl::StrCat(what, " ", Effect(sample.value, sample.is_change));
  const std::string times = sample.times == 1 ? "" : absl::StrCat(", ", sample.times, " times");
  return absl::StrCat(what, " observes ", NumberText(sample.value), times);
}

bool EndsInCr(const std::string& line) { return !line.empty() && line.back() == '\r'; }

bool Contains(const std::string& text, const char* what) {
  return text.find(what) != std::string::npos;
}

PeerCategory CategoryOf(PeerHazard hazard) {
  switch (hazard) {
    case PeerHazard::kCrash:
      return PeerCategory::kHazardCrash;
    case PeerHazard::kFlood:
      return PeerCategory::kHazardFlood;
    case PeerHazard::kPoison:
      return PeerCategory::kHazardPoison;
    case PeerHazard::kBrokenScrape:
    case PeerHazard::kNone:
      break;
  }
  return PeerCategory::kHazardScrape;
}

// "c:" may also be a type before the next sample, so the line's text does not say.
bool HasContainerId(const Explanation& ours) {
  return std::any_of(ours.samples.begin(), ours.samples.end(),
                     [](const ExplainedSample& sample) { return Contains(sample.tags, "|c:"); });
}

// A sample that counts here is lost there: why?
PeerCategory CategoryOf(PeerLoss loss, const Explanation& ours) {
  const std::string& line = ours.line;
  switch (loss) {
    case PeerLoss::kPacking:
      return PeerCategory::kPacked;
    case PeerLoss::kSet:
      return PeerCategory::kSet;
    case PeerLoss::kTypeConflict:
      return PeerCategory::kTypeConflictThere;
    case PeerLoss::kNoEvent:
      return PeerCategory::kSampledWeight;
    case PeerLoss::kDropRule:
    case PeerLoss::kEmptyName:
      return PeerCategory::kRuleUnreachable;
    default:
      break;
  }
  // What is left of a line that it cut at the colon of a section.
  const bool cut = !Contains(line, "|#");
  if (cut && HasContainerId(ours)) return PeerCategory::kContainerId;
  if (cut && (Contains(line, "|e:") || Contains(line, "|card:"))) {
    return PeerCategory::kUnknownSection;
  }
  if (loss == PeerLoss::kTooManySections) return PeerCategory::kTooManySections;
  if (EndsInCr(line)) return PeerCategory::kCarriageReturn;
  if (loss == PeerLoss::kUnknownSection || loss == PeerLoss::kBadContainerId ||
      (cut && loss == PeerLoss::kNoType)) {
    return PeerCategory::kUnknownSection;
  }
  return PeerCategory::kAcceptedHere;
}

bool OtherRule(const ExplainedSample& ours, const PeerSample& theirs) {
  return ours.rule != theirs.rule;
}

// A sample that counts there is lost here: why?
PeerCategory CategoryOf(const ExplainedSample& ours, const PeerSample& theirs) {
  if (OtherRule(ours, theirs)) return PeerCategory::kRuleUnreachable;
  switch (ours.reason) {
    case DropReason::kTypeConflict: {
      const bool own = theirs.family.compare(0, 7, "tallyd_") == 0 ||
                       theirs.family.compare(0, 8, "process_") == 0;
      return own ? PeerCategory::kOwnName : PeerCategory::kTypeConflictHere;
    }
    case DropReason::kBadEvent:
      return PeerCategory::kEvent;
    case DropReason::kBadLabel:
      return PeerCategory::kReservedLabel;
    case DropReason::kTooLong:
    case DropReason::kNameTooLong:
    case DropReason::kTooManyTags:
    case DropReason::kLabelsTooLong:
      return PeerCategory::kLimitHere;
    default:
      return PeerCategory::kLostHere;
  }
}

PeerCategory SeriesCategory(const std::string& line, const ExplainedSample& ours,
                            const PeerSample& theirs) {
  if (EndsInCr(line)) return PeerCategory::kCarriageReturn;
  if (OtherRule(ours, theirs)) return PeerCategory::kRuleUnreachable;
  if (theirs.leaked_label) return PeerCategory::kLeakedLabel;
  return theirs.rule == nullptr ? PeerCategory::kDifferentSeries : PeerCategory::kTemplate;
}

// Collects the differences of one line.
class Comparison {
 public:
  explicit Comparison(const Explanation& ours) : ours_(ours) {}

  std::vector<PeerDifference> Run(const PeerReading& theirs) {
    if (!ours_.event.empty()) {
      CompareEvent(theirs);
    } else if (ours_.samples.size() == theirs.size()) {
      for (size_t i = 0; i < theirs.size(); ++i) ComparePair(i + 1, ours_.samples[i], theirs[i]);
    } else {
      CompareLines(theirs);
    }
    return std::move(differences_);
  }

 private:
  void Add(PeerCategory category, size_t sample, std::string here, std::string there) {
    differences_.push_back({category, sample, std::move(here), std::move(there)});
  }

  void CompareEvent(const PeerReading& theirs) {
    for (const PeerSample& sample : theirs) {
      if (!sample.taken()) continue;
      const bool harms = sample.hazard != PeerHazard::kNone;
      return Add(harms ? CategoryOf(sample.hazard) : PeerCategory::kEvent, 0,
                 absl::StrCat(ours_.event, ", no metric"), ThereText(sample));
    }
  }

  void ComparePair(size_t number, const ExplainedSample& ours, const PeerSample& theirs) {
    if (theirs.hazard != PeerHazard::kNone) {
      Add(CategoryOf(theirs.hazard), number, HereText(ours), ThereText(theirs));
    } else if (ours.accepted && !theirs.taken()) {
      const bool counts_on_neither = theirs.loss == PeerLoss::kNoEvent && ours.weight == 0;
      if (counts_on_neither) return;
      Add(LostThere(ours, theirs), number, HereText(ours), ThereText(theirs));
    } else if (!ours.accepted && theirs.taken()) {
      Add(CategoryOf(ours, theirs), number, HereText(ours), ThereText(theirs));
    } else if (ours.accepted) {
      CompareCounted(number, ours, theirs);
    }
  }

  PeerCategory LostThere(const ExplainedSample& ours, const PeerSample& theirs) const {
    if (ours.kind == SeriesKind::kSet) return PeerCategory::kSet;
    if (theirs.rule != nullptr && OtherRule(ours, theirs)) return PeerCategory::kRuleUnreachable;
    return CategoryOf(theirs.loss, ours_);
  }

  void CompareCounted(size_t number, const ExplainedSample& ours, const PeerSample& theirs) {
    const auto add = [&](PeerCategory category) {
      Add(category, number, HereText(ours), ThereText(theirs));
    };
    if (ours.series != theirs.series) return add(SeriesCategory(ours_.line, ours, theirs));
    if (KindName(ours.kind) != theirs.type) {
      const bool default_observer = ours.kind == SeriesKind::kHistogram && theirs.type == "summary";
      add(default_observer ? PeerCategory::kDefaultObserver : PeerCategory::kDifferentType);
    }
    if (ours.is_change != theirs.is_change) return add(PeerCategory::kSignedGauge);
    const bool is_counter = ours.kind == SeriesKind::kCounter;
    const double value = is_counter ? ours.value / ours.rate : ours.value;
    if (!Close(value, theirs.value)) return add(PeerCategory::kDifferentValue);
    if (IsObserver(ours.kind) && !Close(ours.weight, static_cast<double>(theirs.times))) {
      add(PeerCategory::kSampledWeight);
    }
  }

  // The two cut the line at different places.
  void CompareLines(const PeerReading& theirs) {
    size_t accepted = 0;
    for (const ExplainedSample& sample : ours_.samples) accepted += sample.accepted ? 1 : 0;
    const PeerSample* first_lost = nullptr;
    const PeerSample* first_taken = nullptr;
    for (const PeerSample& sample : theirs) {
      if (sample.hazard != PeerHazard::kNone) {
        return Add(CategoryOf(sample.hazard), 0, LineText(accepted), ThereText(sample));
      }
      const PeerSample** first = sample.taken() ? &first_taken : &first_lost;
      // Where it was cut says more than what then came of a piece.
      if (*first == nullptr || (*first)->loss == PeerLoss::kTypeConflict) *first = &sample;
    }
    if (accepted > 0 && first_lost != nullptr) {
      Add(CategoryOf(first_lost->loss, ours_), 0, LineText(accepted), ThereText(*first_lost));
    } else if (first_taken != nullptr) {
      const PeerCategory category = accepted > 0 ? PeerCategory::kDifferentSeries
                                    : ours_.samples.empty()
                                        ? PeerCategory::kLostHere
                                        : CategoryOf(ours_.samples[0], *first_taken);
      Add(category, 0, LineText(accepted), ThereText(*first_taken));
    }
  }

  std::string LineText(size_t accepted) const {
    if (ours_.samples.empty()) return "nothing";
    const auto first = std::find_if(
        ours_.samples.begin(), ours_.samples.end(),
        [accepted](const ExplainedSample& sample) { return sample.accepted == (accepted > 0); });
    if (accepted < 2) return HereText(*first);
    return absl::StrCat(accepted, " samples, the first ", HereText(*first));
  }

  const Explanation& ours_;
  std::vector<PeerDifference> differences_;
};

}  // namespace

const PeerCategoryInfo& InfoOf(PeerCategory category) {
  return kInfos[static_cast<size_t>(category)];
}

std::vector<PeerDifference> DifferencesOf(const Explanation& ours, const PeerReading& theirs) {
  return Comparison(ours).Run(theirs);
}

}  // namespace tallyd
