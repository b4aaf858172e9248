#include "daemon/remote_write_config.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/push_target_reader.h"

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

// Whether the protocol or the client sets a header, so that it cannot be configured.
bool IsOwnHeader(const std::string& name) {
  constexpr const char* kOwn[] = {"Authorization",     "Connection",   "Content-Encoding",
                                  "Content-Length",    "Content-Type", "Host",
                                  "Transfer-Encoding", "User-Agent"};
  return std::any_of(std::begin(kOwn), std::end(kOwn),
                     [&name](const char* own) { return absl::EqualsIgnoreCase(name, own); }) ||
         absl::StartsWithIgnoreCase(name, "X-Prometheus-Remote-Write-");
}

class RemoteWriteReader : private PushTargetReader {
 public:
  RemoteWriteReader(const PushDefaults& defaults, const FlagValue& origin,
                    std::vector<std::string>* problems)
      : PushTargetReader(defaults, origin, problems) {
    options_.sender.interval = defaults.interval;
  }

  void Read(const std::vector<std::string>& keys, const FlagValue& leaf) {
    const std::string& first = keys.front();
    if (first == "external_labels" && keys.size() == 2) return ReadLabel(keys[1], leaf);
    if (first == "headers" && keys.size() == 2) return ReadHeader(keys[1], leaf);
    if (first == "families" && (keys.size() == 2 || keys.size() == 3)) {
      return ReadFamilies(keys[1], leaf, &options_.families);
    }
    ReadOption(absl::StrJoin(keys, "."), leaf);
  }

  void ReadOption(const std::string& name, const FlagValue& leaf) {
    if (ReadAccess(name, leaf, &options_.credentials, &options_.tls)) return;
    RemoteWriteSenderOptions& sender = options_.sender;
    if (name == "name") {
      options_.name = leaf.text;
    } else if (name == "url") {
      ReadReceiverUrl(leaf);
    } else if (name == "interval") {
      ReadDuration(leaf, kLeastDuration, kMaxInterval, &sender.interval);
    } else if (name == "max_age") {
      ReadDuration(leaf, absl::Seconds(1), kMaxInterval, &sender.max_age);
    } else if (name == "timeout") {
      ReadDuration(leaf, kLeastDuration, kMaxPushTimeout, &options_.total_timeout);
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
    } else {
      RefuseUnknown(name, leaf);
    }
  }

  RemoteWriteOptions Finish() {
    AddDefaultLabel("job", defaults().job);
    AddDefaultLabel("instance", InstanceOf(defaults()));
    if (options_.name.empty()) options_.name = options_.url.ToString();
    CheckAccess(options_.url, options_.credentials, options_.tls);
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

  void ReadReceiverUrl(const FlagValue& leaf) {
    if (!ReadUrl(leaf, &options_.url)) return;
    if (options_.url.path.empty() || options_.url.path == "/") {
      Complain(leaf,
               "has no path; Prometheus and VictoriaMetrics take remote write at /api/v1/write, "
               "Mimir at /api/v1/push");
    }
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

  RemoteWriteOptions options_;
};

}  // namespace

std::vector<RemoteWriteOptions> ReadRemoteWrites(const FlagValues& values,
                                                 const PushDefaults& defaults,
                                                 std::vector<std::string>* problems) {
  std::vector<std::string> origins;
  auto targets = ReadPushTargets<RemoteWriteOptions, RemoteWriteReader>(
      "push.remote-write", values, defaults, problems, &origins);
  std::set<std::string> names;
  for (size_t i = 0; i < targets.size(); ++i) {
    const std::string& name = targets[i].name;
    if (names.insert(name).second || !problems->empty()) continue;
    problems->push_back(
        absl::StrCat(origins[i], ": two targets are called ", name, "; give them a name"));
  }
  return targets;
}

}  // namespace tallyd
