// What is read alike of all kinds of targets of pushes.

#ifndef TALLYD_DAEMON_PUSH_TARGET_READER_H_
#define TALLYD_DAEMON_PUSH_TARGET_READER_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/flags.h"
#include "daemon/push/family_filter.h"
#include "daemon/push_config.h"

namespace tallyd {

// Reads one target, leaf by leaf; what is wrong is added to `problems`, each with its place, and
// changes nothing. The base of a reader for each kind.
class PushTargetReader {
 protected:
  static constexpr absl::Duration kLeastDuration = absl::Milliseconds(100);
  static constexpr absl::Duration kMaxInterval = absl::Hours(24);

  // `origin` is where the target begins.
  PushTargetReader(const PushDefaults& defaults, FlagValue origin,
                   std::vector<std::string>* problems)
      : defaults_(defaults), origin_(std::move(origin)), problems_(problems) {}

  const PushDefaults& defaults() const { return defaults_; }

  // False if the URL is none.
  bool ReadUrl(const FlagValue& leaf, HttpUrl* url);
  // An option about access to the target. False: it is none of those.
  bool ReadAccess(const std::string& name, const FlagValue& leaf, PushCredentials* credentials,
                  TlsOptions* tls);
  // `list` is "include" or "exclude".
  void ReadFamilies(const std::string& list, const FlagValue& leaf, FamilyFilter* families);
  void ReadDuration(const FlagValue& leaf, absl::Duration least, absl::Duration most,
                    absl::Duration* duration);
  void ReadBool(const FlagValue& leaf, bool* on) {
    ReadChoice<bool>(leaf, {{"true", true}, {"false", false}}, on);
  }

  template <typename T>
  void ReadChoice(const FlagValue& leaf, const std::vector<std::pair<std::string, T>>& choices,
                  T* chosen) {
    std::vector<std::string> names;
    for (const auto& [name, value] : choices) {
      names.push_back(name);
      if (name != leaf.text) continue;
      *chosen = value;
      return;
    }
    Complain(leaf, absl::StrCat("not ", absl::StrJoin(names, " or ")));
  }

  // When all is read.
  void CheckAccess(const HttpUrl& url, const PushCredentials& credentials, const TlsOptions& tls);

  void ComplainOfTarget(absl::string_view what) { Complain(origin_, what); }
  void Complain(const FlagValue& leaf, absl::string_view what) {
    problems_->push_back(absl::StrCat(leaf.origin, ": ", what));
  }

 private:
  const PushDefaults& defaults_;
  const FlagValue origin_;
  std::vector<std::string>* const problems_;
  bool has_url_ = false;
};

// The targets of one kind: of the flag "`kind`-url", then the records of "`kind`"; `origins` says
// where each begins. `Reader` has Read, for a leaf and its keys without the number of the record,
// ReadOption, for one whose keys are joined by dots, and Finish, which gives the target.
template <typename Target, typename Reader>
std::vector<Target> ReadPushTargets(const std::string& kind, const FlagValues& values,
                                    const PushDefaults& defaults,
                                    std::vector<std::string>* problems,
                                    std::vector<std::string>* origins) {
  std::vector<Target> targets;
  const auto url = values.find(kind + "-url");
  if (url != values.end() && !url->second.empty() && !url->second.front().text.empty()) {
    Reader reader(defaults, url->second.front(), problems);
    reader.ReadOption("url", url->second.front());
    targets.push_back(reader.Finish());
    origins->push_back(url->second.front().origin);
  }
  const auto records = values.find(kind);
  const std::vector<FlagValue> none;
  const std::vector<FlagValue>& leaves = records == values.end() ? none : records->second;
  // The leaves of one record come one after the other, its own before those below it.
  for (size_t i = 0; i < leaves.size();) {
    Reader reader(defaults, leaves[i], problems);
    origins->push_back(leaves[i].origin);
    const std::string& number = leaves[i].keys.front();
    for (++i; i < leaves.size() && leaves[i].keys.front() == number; ++i) {
      reader.Read({leaves[i].keys.begin() + 1, leaves[i].keys.end()}, leaves[i]);
    }
    targets.push_back(reader.Finish());
  }
  if (targets.size() > kMaxPushTargets) {
    problems->push_back(absl::StrCat(kind, ": at most ", kMaxPushTargets, " targets are possible"));
  }
  return targets;
}

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_TARGET_READER_H_
