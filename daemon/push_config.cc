#include "daemon/push_config.h"

#include <unistd.h>

#include <array>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/push_target_reader.h"

namespace tallyd {
namespace {

std::string HostName() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == 0) return "localhost";
  return name.data();
}

class GatewayReader : private PushTargetReader {
 public:
  GatewayReader(const PushDefaults& defaults, const FlagValue& origin,
                std::vector<std::string>* problems)
      : PushTargetReader(defaults, origin, problems) {
    options_.key.job = defaults.job;
    options_.interval = defaults.interval;
    options_.delete_on_exit = defaults.delete_on_exit;
    options_.own_metrics = defaults.own_metrics;
    options_.max_series = defaults.max_series;
  }

  void Read(const std::vector<std::string>& keys, const FlagValue& leaf) {
    const std::string& first = keys.front();
    if (first == "grouping" && keys.size() == 2) {
      options_.key.labels.emplace_back(keys[1], leaf.text);
    } else if (first == "families" && keys.size() >= 2 && keys.size() <= 3) {
      ReadFamilies(keys[1], leaf, &options_.families);
    } else {
      ReadOption(absl::StrJoin(keys, "."), leaf);
    }
  }

  void ReadOption(const std::string& name, const FlagValue& leaf) {
    if (ReadAccess(name, leaf, &options_.credentials, &options_.tls)) return;
    if (name == "name") {
      options_.name = leaf.text;
    } else if (name == "job") {
      options_.key.job = leaf.text;
    } else if (name == "url") {
      ReadGatewayUrl(leaf);
    } else if (name == "interval") {
      ReadDuration(leaf, kLeastDuration, kMaxInterval, &options_.interval);
    } else if (name == "timeout") {
      ReadDuration(leaf, kLeastDuration, kMaxPushTimeout, &options_.total_timeout);
    } else if (name == "max_series") {
      ReadMaxSeries(leaf);
    } else if (name == "own_metrics") {
      ReadBool(leaf, &options_.own_metrics);
    } else if (name == "on_exit") {
      ReadChoice<bool>(leaf, {{"keep", false}, {"delete", true}}, &options_.delete_on_exit);
    } else {
      RefuseUnknown(name, leaf);
    }
  }

  PushgatewayOptions Finish() {
    AddInstance();
    const absl::Status key = options_.key.Check();
    if (!key.ok()) ComplainOfTarget(key.message());
    if (options_.name.empty()) options_.name = options_.url.ToString();
    CheckSeries();
    CheckAccess(options_.url, options_.credentials, options_.tls);
    return std::move(options_);
  }

 private:
  void RefuseUnknown(const std::string& name, const FlagValue& leaf) {
    const std::vector<std::string> known = {
        "url",      "name",       "job",         "grouping", "interval",   "timeout",
        "families", "max_series", "own_metrics", "on_exit",  "basic_auth", "bearer_token_file",
        "tls"};
    Complain(leaf, absl::StrCat("unknown key", DidYouMean(name, known, "")));
  }

  void ReadGatewayUrl(const FlagValue& leaf) {
    if (!ReadUrl(leaf, &options_.url)) return;
    std::string& path = options_.url.path;
    if (path.find('?') != std::string::npos) return Complain(leaf, "a gateway's URL has no query");
    while (!path.empty() && path.back() == '/') path.pop_back();
  }

  void ReadMaxSeries(const FlagValue& leaf) {
    uint64_t most = 0;
    if (absl::SimpleAtoi(leaf.text, &most) && most >= 1 && most <= kMaxPushgatewaySeries) {
      options_.max_series = most;
    } else {
      Complain(leaf, absl::StrCat("not in 1 to ", kMaxPushgatewaySeries));
    }
  }

  void AddInstance() {
    if (options_.key.Has("instance")) return;
    options_.key.labels.insert(options_.key.labels.begin(), {"instance", InstanceOf(defaults())});
  }

  void CheckSeries() {
    const uint64_t limit = defaults().series_limit;
    if (options_.max_series == 0 && limit > kMaxPushgatewaySeries) {
      ComplainOfTarget(absl::StrCat(
          "would push up to ", limit, " series, and a Pushgateway bears at most ",
          kMaxPushgatewaySeries,
          ": set series.limit to that or less, or choose what goes by families.include and say by "
          "max_series how much that may be"));
    }
    if (options_.max_series == 0) options_.max_series = limit;
  }

  PushgatewayOptions options_;
};

void CheckNames(const std::vector<PushgatewayOptions>& targets,
                const std::vector<std::string>& origins, std::vector<std::string>* problems) {
  std::set<std::string> names;
  std::set<std::string> groups;
  for (size_t i = 0; i < targets.size(); ++i) {
    const std::string& name = targets[i].name;
    const std::string group = absl::StrCat(targets[i].url.ToString(), targets[i].key.Path());
    if (!groups.insert(group).second) {
      problems->push_back(
          absl::StrCat(origins[i], ": two targets would write over each other at ", group));
    } else if (!names.insert(name).second) {
      problems->push_back(
          absl::StrCat(origins[i], ": two targets are called ", name, "; give them a name"));
    }
  }
}

}  // namespace

std::string InstanceOf(const PushDefaults& defaults) {
  return defaults.instance.empty() ? HostName() : defaults.instance;
}

bool ReadPushAccess(const std::string& name, const std::string& text, PushCredentials* credentials,
                    TlsOptions* tls) {
  const std::pair<const char*, std::string*> places[] = {
      {"bearer_token_file", &credentials->bearer_token_file},
      {"basic_auth.username", &credentials->username},
      {"basic_auth.password_file", &credentials->password_file},
      {"tls.ca_file", &tls->ca_file},
      {"tls.cert_file", &tls->cert_file},
      {"tls.key_file", &tls->key_file},
      {"tls.server_name", &tls->server_name}};
  for (const auto& [key, place] : places) {
    if (name != key) continue;
    *place = text;
    return true;
  }
  return false;
}

std::string CheckPushAccess(const HttpUrl& url, const PushCredentials& credentials,
                            const TlsOptions& tls) {
  const bool basic = !credentials.username.empty() || !credentials.password_file.empty();
  if (basic && !credentials.bearer_token_file.empty()) {
    return "has both basic_auth and bearer_token_file";
  }
  if (basic && (credentials.username.empty() || credentials.password_file.empty())) {
    return "basic_auth has a username and a password_file";
  }
  if (credentials.username.find(':') != std::string::npos) {
    return "basic_auth: a username has no colon";
  }
  const absl::StatusOr<std::string> authorization = AuthorizationHeader(credentials);
  if (!authorization.ok()) return std::string(authorization.status().message());
  const bool has_tls = !tls.ca_file.empty() || !tls.cert_file.empty() || !tls.key_file.empty() ||
                       !tls.server_name.empty() || tls.insecure_skip_verify;
  if (has_tls && !url.tls) return "has tls, but its url begins with http://";
  const absl::Status checked = url.tls ? CheckTls(tls) : absl::OkStatus();
  return std::string(checked.message());
}

std::vector<PushgatewayOptions> ReadPushgateways(const FlagValues& values,
                                                 const PushDefaults& defaults,
                                                 std::vector<std::string>* problems) {
  std::vector<std::string> origins;
  auto targets = ReadPushTargets<PushgatewayOptions, GatewayReader>("push.pushgateway", values,
                                                                    defaults, problems, &origins);
  if (problems->empty()) CheckNames(targets, origins, problems);
  return targets;
}

}  // namespace tallyd
