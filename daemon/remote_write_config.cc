#include "daemon/remote_write_config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tallyd {
namespace {

constexpr int64_t kMaxConnections = 4;

bool IsLabelName(std::string_view name) {
  const auto is_letter = [](char c) {
    return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_';
  };
  return !name.empty() && is_letter(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) {
           return is_letter(c) || absl::ascii_isdigit(static_cast<unsigned char>(c));
         });
}

bool IsHeaderText(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isprint(static_cast<unsigned char>(c)); });
}

// Reads one target, leaf by leaf, and then looks at it as a whole.
class TargetReader {
 public:
  TargetReader(const PushDefaults& defaults, FlagValue origin, std::vector<std::string>* problems)
      : defaults_(defaults), origin_(std::move(origin)), problems_(problems) {
    options_.sender.interval = defaults.interval;
  }

  // `keys` without the number of the record.
  void Read(const std::vector<std::string>& keys, const FlagValue& leaf) {
    const std::string& first = keys.front();
    if (first == "external_labels" && keys.size() == 2) return ReadLabel(keys[1], leaf);
    if (first == "headers" && keys.size() == 2) return ReadHeader(keys[1], leaf);
    if (first == "families" && (keys.size() == 2 || keys.size() == 3)) {
      return ReadFamilies(keys[1], leaf);
    }
    ReadOption(absl::StrJoin(keys, "."), leaf);
  }

  RemoteWriteOptions Finish() {
    if (!has_url_) Complain(origin_, "has no url");
    AddDefaultLabel("job", defaults_.job);
    AddDefaultLabel("instance", InstanceOf(defaults_));
    if (options_.name.empty()) options_.name = options_.url.ToString();
    if (has_url_) {
      const std::string problem = CheckPushAccess(options_.url, options_.credentials, options_.tls);
      if (!problem.empty()) Complain(origin_, problem);
    }
    return std::move(options_);
  }

 private:
  void ReadLabel(const std::string& name, const FlagValue& leaf) {
    if (!IsLabelName(name) || absl::StartsWith(name, "__")) {
      return Complain(leaf, "not a label's name");
    }
    if (name == "le" || name == "quantile") {
      return Complain(leaf, "tells the series of a histogram or summary apart");
    }
    options_.sender.external_labels.emplace_back(name, leaf.text);
  }

  void ReadHeader(const std::string& name, const FlagValue& leaf) {
    const bool is_name = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
    });
    if (!is_name) return Complain(leaf, "not a header's name");
    if (IsOwnHeader(name)) return Complain(leaf, "a header that the protocol sets itself");
    if (!IsHeaderText(leaf.text)) return Complain(leaf, "not a header's value");
    options_.headers.emplace_back(name, leaf.text);
  }

  void ReadFamilies(const std::string& list, const FlagValue& leaf) {
    if (list != "include" && list != "exclude") {
      return Complain(leaf, "unknown key; families have include and exclude");
    }
    if (leaf.text.empty()) return Complain(leaf, "an empty pattern matches no family");
    (list == "include" ? options_.families.include : options_.families.exclude)
        .push_back(leaf.text);
  }

  void ReadOption(const std::string& name, const FlagValue& leaf) {
    if (ReadPushAccess(name, leaf.text, &options_.credentials, &options_.tls)) return;
    RemoteWriteSenderOptions& sender = options_.sender;
    if (name == "name") {
      options_.name = leaf.text;
    } else if (name == "url") {
      ReadUrl(leaf);
    } else if (name == "interval") {
      ReadDuration(leaf, absl::Milliseconds(100), absl::Hours(24), &sender.interval);
    } else if (name == "max_age") {
      ReadDuration(leaf, absl::Seconds(1), absl::Hours(24), &sender.max_age);
    } else if (name == "timeout") {
      ReadDuration(leaf, absl::Milliseconds(100), kMaxPushTimeout, &options_.total_timeout);
    } else if (name == "histograms") {
      ReadChoice<WriteHistograms>(leaf,
                                  {{"classic", WriteHistograms::kClassic},
                                   {"native", WriteHistograms::kNative},
                                   {"both", WriteHistograms::kBoth}},
                                  &sender.histograms);
    } else if (name == "protocol") {
      ReadChoice<WriteProtocol>(leaf, {{"1.0", WriteProtocol::k1}, {"2.0", WriteProtocol::k2}},
                                &sender.protocol);
    } else if (name == "on_exit") {
      ReadChoice<bool>(leaf, {{"stale", true}, {"keep", false}}, &sender.end_on_exit);
    } else if (name == "stale_markers") {
      ReadBool(leaf, &sender.stale_markers);
    } else if (name == "own_metrics") {
      ReadBool(leaf, &options_.own_metrics);
    } else if (name == "connections") {
      ReadConnections(leaf);
    } else if (name == "tls.insecure_skip_verify") {
      ReadBool(leaf, &options_.tls.insecure_skip_verify);
    } else {
      RefuseUnknown(name, leaf);
    }
  }

  void RefuseUnknown(const std::string& name, const FlagValue& leaf) {
    const std::vector<std::string> known = {"url",
                                            "name",
                                            "interval",
                                            "timeout",
                                            "external_labels",
                                            "histograms",
                                            "protocol",
                                            "families",
                                            "max_age",
                                            "stale_markers",
                                            "on_exit",
                                            "own_metrics",
                                            "connections",
                                            "headers",
                                            "basic_auth",
                                            "bearer_token_file",
                                            "tls"};
    Complain(leaf, absl::StrCat("unknown key", DidYouMean(name, known, "")));
  }

  void ReadUrl(const FlagValue& leaf) {
    has_url_ = true;
    absl::StatusOr<HttpUrl> url = HttpUrl::Parse(leaf.text);
    // The URL itself may hold a password that does not belong into messages.
    if (!url.ok()) return Complain(leaf, url.status().message());
    options_.url = *std::move(url);
    if (options_.url.path.empty() || options_.url.path == "/") {
      Complain(leaf,
               "has no path; Prometheus and VictoriaMetrics take remote write at /api/v1/write, "
               "Mimir at /api/v1/push");
    }
  }

  void ReadDuration(const FlagValue& leaf, absl::Duration least, absl::Duration most,
                    absl::Duration* duration) {
    absl::Duration read;
    if (absl::ParseDuration(leaf.text, &read) && read >= least && read <= most) {
      *duration = read;
    } else {
      Complain(leaf, absl::StrCat("not a duration from ", absl::FormatDuration(least), " to ",
                                  most == absl::Hours(24) ? "24h" : absl::FormatDuration(most),
                                  " (write 15s, 1m30s)"));
    }
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

  void ReadBool(const FlagValue& leaf, bool* on) {
    ReadChoice<bool>(leaf, {{"true", true}, {"false", false}}, on);
  }

  void ReadConnections(const FlagValue& leaf) {
    int connections = 0;
    if (absl::SimpleAtoi(leaf.text, &connections) && connections >= 1 &&
        connections <= kMaxConnections) {
      options_.sender.connections = connections;
    } else {
      Complain(leaf, absl::StrCat("not in 1 to ", kMaxConnections));
    }
  }

  // Without, the series of two hosts would be one, and each host's samples refused for the other's.
  void AddDefaultLabel(const std::string& name, const std::string& value) {
    auto& labels = options_.sender.external_labels;
    const bool is_given = std::any_of(labels.begin(), labels.end(),
                                      [&](const auto& label) { return label.first == name; });
    if (!is_given) labels.emplace_back(name, value);
  }

  void Complain(const FlagValue& value, absl::string_view what) {
    problems_->push_back(absl::StrCat(value.origin, ": ", what));
  }

  const PushDefaults& defaults_;
  const FlagValue origin_;
  std::vector<std::string>* const problems_;
  RemoteWriteOptions options_;
  bool has_url_ = false;
};

// The leaves of one record come one after the other, its own before those below it.
void ReadRecords(const std::vector<FlagValue>& leaves, const PushDefaults& defaults,
                 std::vector<std::string>* problems, std::vector<RemoteWriteOptions>* targets) {
  for (size_t i = 0; i < leaves.size();) {
    TargetReader reader(defaults, leaves[i], problems);
    const std::string& number = leaves[i].keys.front();
    for (++i; i < leaves.size() && leaves[i].keys.front() == number; ++i) {
      reader.Read({leaves[i].keys.begin() + 1, leaves[i].keys.end()}, leaves[i]);
    }
    targets->push_back(reader.Finish());
  }
}

}  // namespace

std::vector<RemoteWriteOptions> ReadRemoteWrites(const FlagValues& values,
                                                 const PushDefaults& defaults,
                                                 std::vector<std::string>* problems) {
  std::vector<RemoteWriteOptions> targets;
  const auto url = values.find("push.remote-write-url");
  if (url != values.end() && !url->second.empty() && !url->second.front().text.empty()) {
    TargetReader reader(defaults, url->second.front(), problems);
    reader.Read({"url"}, url->second.front());
    targets.push_back(reader.Finish());
  }
  const auto records = values.find("push.remote-write");
  if (records != values.end()) ReadRecords(records->second, defaults, problems, &targets);
  if (targets.size() > kMaxPushTargets) {
    problems->push_back(
        absl::StrCat("push.remote-write: at most ", kMaxPushTargets, " targets are possible"));
  }
  std::set<std::string> names;
  for (const RemoteWriteOptions& target : targets) {
    if (names.insert(target.name).second || !problems->empty()) continue;
    problems->push_back(absl::StrCat("push.remote-write: two targets are called ", target.name,
                                     "; give them a name"));
  }
  return targets;
}

}  // namespace tallyd
