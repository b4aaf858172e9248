// The groups that jobs have of their own in a gateway: which series are theirs, and their text.

#ifndef TALLYD_DAEMON_PUSH_JOB_GROUPS_H_
#define TALLYD_DAEMON_PUSH_JOB_GROUPS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "core/expose/text.h"
#include "core/groups/grouping.h"
#include "core/merge/page_encoder.h"
#include "daemon/push/grouping_key.h"

namespace tallyd {

// Families of one group as text 0.0.4: names, text with its head, and how many series that is.
struct FamilyText {
  std::string name;
  std::string text;
  uint64_t series = 0;
};

// A job began or ended. A value.
struct JobChange {
  Grouping labels;
  bool running = false;
  absl::Duration ttl = absl::ZeroDuration();  // of the group, once the job ended; 0: it stays
  std::vector<FamilyText> shown;              // what is known of the job itself
  bool restored = false;                      // it was known to the process before this one
};

GroupingKey KeyOfJob(const Grouping& labels);

// Says whose a series is. Immutable and therefore thread-safe.
class JobGroupIndex {
 public:
  static constexpr int kNobodys = -1;

  explicit JobGroupIndex(const std::vector<Grouping>& groups);

  // The place of the group whose labels the series has all, the one with the most if there are
  // several; `labels` as PageEncoder has them.
  int Find(std::string_view labels) const;
  size_t size() const { return groups_.size(); }

 private:
  std::vector<std::vector<std::string>> groups_;  // rendered labels, sorted
  absl::flat_hash_map<std::string, std::vector<int>> by_name_;
};

// Sorts a snapshot's series by the job that sent them. Nothing is written to pages.
//
// Ownership: made for one rendering. The merger thread renders with it; when that is done the
// groups may be read.
class JobGroupEncoder final : public PageEncoder {
 public:
  explicit JobGroupEncoder(std::shared_ptr<const JobGroupIndex> index);

  void Family(const FamilyView&, std::string*) const override {}
  void Counter(const FamilyView& family, std::string_view labels, const CounterValue& value,
               std::string* page) const override;
  void Gauge(const FamilyView& family, std::string_view labels, double value,
             std::string* page) const override;
  void Histogram(const FamilyView& family, std::string_view labels, const HistogramValue& value,
                 std::string* page) const override;
  void Summary(const FamilyView& family, std::string_view labels, const SummaryValue& value,
               std::string* page) const override;
  bool compresses() const override { return false; }
  void Finish(std::string*) const override {}

  // By the index' places.
  const std::vector<std::vector<FamilyText>>& groups() const { return groups_; }

 private:
  // Where the series is to be written; null if it is nobody's.
  std::string* TextOf(const FamilyView& family, std::string_view labels) const;

  const std::shared_ptr<const JobGroupIndex> index_;
  const TextEncoder text_;
  // Of one rendering, which one thread does.
  mutable std::vector<std::vector<FamilyText>> groups_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_JOB_GROUPS_H_
