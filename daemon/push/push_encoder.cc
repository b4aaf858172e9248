#include "daemon/push/push_encoder.h"

#include <utility>

namespace tallyd {

// The gateway writes these itself, into every group.
bool PushSelection::IsReserved(std::string_view family) {
  return family == "push_time_seconds" || family == "push_failure_time_seconds";
}

PushEncoder::PushEncoder(PushSelection selection)
    : selection_(std::move(selection)),
      text_(TextFormat::kPrometheus004, ContentCoding::kIdentity) {}

PushEncoder::Fate PushEncoder::FateOf(std::string_view family) const {
  if (!selection_.filter.Wants(family)) return Fate::kFiltered;
  if (PushSelection::IsReserved(family)) return Fate::kReservedName;
  return selection_.rejected.count(family) > 0 ? Fate::kRejected : Fate::kPushed;
}

bool PushEncoder::Admit(const FamilyView& family, std::string_view labels) const {
  if (family.name != family_) {
    family_ = family.name;
    fate_ = FateOf(family.name);
  }
  switch (fate_) {
    case Fate::kFiltered:
      return false;
    case Fate::kRejected:
      ++counts_.rejected;
      return false;
    case Fate::kReservedName:
      ++counts_.reserved_name;
      return false;
    case Fate::kPushed:
      break;
  }
  if (selection_.apart != nullptr && selection_.apart->Find(labels) != JobGroupIndex::kNobodys) {
    return false;
  }
  const bool room = counts_.pushed < selection_.max_series;
  ++(room ? counts_.pushed : counts_.series_limit);
  return room;
}

void PushEncoder::Family(const FamilyView& family, std::string* page) const {
  if (FateOf(family.name) != Fate::kPushed) return;
  families_.emplace(family.name);
  text_.Family(family, page);
}

void PushEncoder::Counter(const FamilyView& family, std::string_view labels,
                          const CounterValue& value, std::string* page) const {
  if (!Admit(family, labels)) return;
  text_.Counter(family, RenameGroupLabels(labels, selection_.key), value, page);
}

void PushEncoder::Gauge(const FamilyView& family, std::string_view labels, double value,
                        std::string* page) const {
  if (!Admit(family, labels)) return;
  text_.Gauge(family, RenameGroupLabels(labels, selection_.key), value, page);
}

void PushEncoder::Histogram(const FamilyView& family, std::string_view labels,
                            const HistogramValue& value, std::string* page) const {
  if (!Admit(family, labels)) return;
  text_.Histogram(family, RenameGroupLabels(labels, selection_.key), value, page);
}

void PushEncoder::Summary(const FamilyView& family, std::string_view labels,
                          const SummaryValue& value, std::string* page) const {
  if (!Admit(family, labels)) return;
  text_.Summary(family, RenameGroupLabels(labels, selection_.key), value, page);
}

}  // namespace tallyd
