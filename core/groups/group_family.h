// A family as groups have it: checked, complete, never changed again, and rendered when asked for.

#ifndef TALLYD_CORE_GROUPS_GROUP_FAMILY_H_
#define TALLYD_CORE_GROUPS_GROUP_FAMILY_H_

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/groups/grouping.h"
#include "core/groups/pushed_family.h"
#include "core/merge/page_encoder.h"
#include "core/merge/snapshot.h"

namespace tallyd {

struct GroupSeries {
  std::string labels;  // rendered as PageEncoder has them
  double value = 0;
  std::unique_ptr<const PushedDistribution> distribution;  // buckets ascending, none at +Inf
};

// One family of one group. Immutable once it is made.
struct GroupFamily {
  std::string name;
  std::string help;
  FamilyType type = FamilyType::kUntyped;
  std::vector<GroupSeries> series;
  size_t samples = 0;  // lines of the text format
  size_t bytes = 0;    // of memory, about, its text included
};

// Gives pushed metrics the labels of their group, which win over their own, and "instance" if they
// have none. InvalidArgument, in the Pushgateway's words, for what could not be shown: bad names
// and labels, too many labels, and one series twice.
absl::StatusOr<std::shared_ptr<const GroupFamily>> MakeGroupFamily(const std::string& name,
                                                                   PushedFamily family,
                                                                   const Grouping& grouping);

// Adds up two families of one name and group: counters, and of histograms and summaries the
// buckets, count and sum. Gauges, untyped values and quantiles are the later ones'. Series that
// only one of them has stay. InvalidArgument if types or buckets differ.
absl::StatusOr<std::shared_ptr<const GroupFamily>> AddUp(const GroupFamily& earlier,
                                                         const GroupFamily& later);

// One family over all groups that have it. Immutable but for its rendered pages, which it keeps.
// Thread-safe.
class ShownFamily {
 public:
  // Formats that pages are kept for.
  static constexpr size_t kMaxFormats = 8;

  // At least one part; the first says what all are called, its type and help.
  explicit ShownFamily(std::vector<std::shared_ptr<const GroupFamily>> parts)
      : parts_(std::move(parts)) {}

  const std::string& name() const { return parts_.front()->name; }
  FamilyType type() const { return parts_.front()->type; }
  size_t samples() const;

  // As `encoder` writes it, not compressed. `format` is the caller's number for the encoder.
  PageBuffer Render(const PageEncoder& encoder, size_t format, bool stem_is_taken) const;
  // The same at the end of a page; nothing is kept.
  void Append(const PageEncoder& encoder, bool stem_is_taken, std::string* page) const;

 private:
  void RenderSeries(const PageEncoder& encoder, const FamilyView& view, const GroupSeries& series,
                    std::string* page) const;

  const std::vector<std::shared_ptr<const GroupFamily>> parts_;
  mutable std::mutex mu_;
  mutable std::array<PageBuffer, 2 * kMaxFormats> pages_;  // guarded by mu_
};

}  // namespace tallyd

#endif  // TALLYD_CORE_GROUPS_GROUP_FAMILY_H_
