// The groups that were pushed: what a Pushgateway keeps, in memory.

#ifndef TALLYD_CORE_GROUPS_GROUP_STORE_H_
#define TALLYD_CORE_GROUPS_GROUP_STORE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/groups/group_family.h"
#include "core/groups/grouping.h"
#include "core/groups/pushed_family.h"
#include "core/merge/page_encoder.h"
#include "core/merge/snapshot.h"
#include "core/rules/catalog_index.h"
#include "core/shard/family_types.h"

namespace tallyd {

struct GroupLimits {
  size_t groups = 1'000;
  size_t group_series = 20'000;     // lines of the text format, of one group
  size_t series = 100'000;          // and of all
  size_t bytes = size_t{64} << 20;  // of memory, and of text in one format
};

// Who a group belongs to. Groups of different owners never meet, whatever their labels.
enum class GroupOwner : uint8_t { kPusher, kJob };

enum class PushMode : uint8_t {
  kReplaceGroup,     // PUT
  kReplaceFamilies,  // POST: of the same names
  kAdd,              // POST and PUT of the aggregating paths
};

struct Push {
  GroupOwner owner = GroupOwner::kPusher;
  Grouping grouping;
  PushedFamilies families;
  PushMode mode = PushMode::kReplaceGroup;
  double unix_seconds = 0;
  int64_t now_ns = 0;  // monotonic clock
  int64_t ttl_ns = 0;  // after which the group goes; 0: never
};

// All groups at one moment, by family. Immutable; thread-safe.
struct GroupsView {
  std::vector<std::shared_ptr<const ShownFamily>> families;  // sorted by name
  size_t groups = 0;
  size_t samples = 0;
  size_t bytes = 0;
  size_t declared_families = 0;  // that are left out since a catalog declares the name

  // Appends the families that no aggregate stands in the way of, as `encoder`, which must not
  // compress, writes them; as gzip members if `gzip`. Returns how many were left out. `aggregates`
  // may be null: then none is. Call it after what `aggregates` knows was rendered.
  size_t AppendPages(const PageEncoder& encoder, size_t format, bool gzip,
                     const FamilyTypes* aggregates, std::vector<PageBuffer>* pages) const;
  // The same at the end of one page, for an encoder that does not frame families; nothing is kept.
  void Append(const PageEncoder& encoder, const FamilyTypes* aggregates, std::string* page) const;
};

// Whether a family of the aggregates, or a sample of one, has a name that this one needs, in any of
// the formats.
bool ClashesWithAggregates(std::string_view name, FamilyType type, const FamilyTypes& aggregates);

// The family that a catalog declares and that has, or whose samples have, a name that this one
// needs; null if there is none.
const DeclaredFamily* ClashesWithCatalog(std::string_view name, FamilyType type,
                                         const CatalogIndex& catalog);

// Every push is checked against all that is there before anything changes: one that fails leaves
// what there was, but for the time of the failure.
//
// Ownership: one thread changes it. Thread-safe: view().
class GroupStore {
 public:
  // `aggregates` outlives the store; null: there are none.
  GroupStore(const GroupLimits& limits, const FamilyTypes* aggregates);
  ~GroupStore();
  GroupStore(const GroupStore&) = delete;
  GroupStore& operator=(const GroupStore&) = delete;

  // InvalidArgument if the push is inconsistent with itself, other groups or the aggregates;
  // ResourceExhausted if there is no room for it.
  absl::Status Apply(Push push);
  void Delete(GroupOwner owner, const Grouping& grouping);
  // The families of one group as text 0.0.4, by name.
  std::map<std::string, std::string> TextOf(GroupOwner owner, const Grouping& grouping) const;
  // Removes groups whose time is over; returns how many.
  size_t Expire(int64_t now_ns);

  // What catalogs declare belongs to the aggregates, also before they have it: pushes of such
  // families are refused from now on, and those that there are left out. Null: nothing is declared.
  void SetCatalog(std::shared_ptr<const CatalogIndex> catalog);

  std::shared_ptr<const GroupsView> view() const;

 private:
  using FamilyPtr = std::shared_ptr<const GroupFamily>;
  struct Group {
    Grouping grouping;
    std::map<std::string, FamilyPtr> families;
    int64_t expires_ns = 0;  // 0: never
    double push_time = 0;
    double failure_time = 0;
    size_t samples = 0;
    size_t bytes = 0;
  };
  // A family over the groups that have it.
  struct Index {
    FamilyType type = FamilyType::kUntyped;
    std::map<const Group*, FamilyPtr> parts;
    absl::flat_hash_map<absl::string_view, const Group*> series;  // by labels, which the parts hold
    std::shared_ptr<const ShownFamily> shown;                     // null: to be made anew
  };
  using Families = std::map<std::string, FamilyPtr>;

  absl::StatusOr<Families> Check(Push* push, const Group* group) const;
  absl::Status CheckFamily(const GroupFamily& family, const Families& families, const Group* group,
                           PushMode mode) const;
  absl::Status CheckSuffixes(const GroupFamily& family, const Families& families,
                             const Group* group, PushMode mode) const;
  bool TypeAfter(const std::string& name, const Families& families, const Group* group,
                 PushMode mode, FamilyType* type) const;
  absl::Status CheckRoom(const Families& families, const Group* group, PushMode mode) const;
  void NoteFailure(const std::string& key, const Push& push);
  static void AddTimes(const Grouping& grouping, double push_time, double failure_time,
                       Families* families);
  Group* FindOrMake(const std::string& key, const Grouping& grouping);
  void Put(Group* group, const FamilyPtr& family);
  void Remove(Group* group, const std::string& name);
  void Clear(Group* group);
  void Publish();

  const GroupLimits limits_;
  const FamilyTypes* const aggregates_;
  std::shared_ptr<const CatalogIndex> catalog_;           // null: there is none
  std::map<std::string, std::unique_ptr<Group>> groups_;  // by owner and rendered grouping
  std::map<std::string, Index> index_;                    // by family
  size_t samples_ = 0;
  size_t bytes_ = 0;

  mutable std::mutex mu_;
  std::shared_ptr<const GroupsView> view_;  // guarded by mu_; never null
};

}  // namespace tallyd

#endif  // TALLYD_CORE_GROUPS_GROUP_STORE_H_
