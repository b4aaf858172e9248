#include "daemon/push_config.h"

#include <unistd.h>

#include <array>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tallyd {
namespace {

std::string HostName() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == 0) return "localhost";
  return name.data();
}

// Reads one target, leaf by leaf, and then looks at it as a whole.
class TargetReader {
 public:
  TargetReader(const PushDefaults& defaults, FlagValue origin, std::vector<std::string>* problems)
      : defaults_(defaults), origin_(std::move(origin)), problems_(problems) {
    options_.key.job = defaults.job;
    options_.interval = defaults.interval;
    options_.delete_on_exit = defaults.delete_on_exit;
    options_.own_metrics = defaults.own_metrics;
    options_.max_series = defaults.max_series;
  }

  // `leaf.keys` without the number of the record.
  void Read(const std::vector<std::string>& keys, const FlagValue& leaf) {
    const std::string& first = keys.front();
    if (first == "grouping" && keys.size() == 2) {
      options_.key.labels.emplace_back(keys[1], leaf.text);
    } else if (first == "families" && keys.size() >= 2 && keys.size() <= 3) {
      ReadFamilies(keys[1], leaf);
    } else {
      ReadOption(absl::StrJoin(keys, "."), leaf);
    }
  }

  PushgatewayOptions Finish() {
    if (!has_url_) Complain(origin_, "has no url");
    AddInstance();
    const absl::Status key = options_.key.Check();
    if (!key.ok()) Complain(origin_, key.message());
    if (options_.name.empty()) options_.name = options_.url.ToString();
    CheckSeries();
    CheckFiles();
    return std::move(options_);
  }

 private:
  void ReadFamilies(const std::string& list, const FlagValue& leaf) {
    if (list != "include" && list != "exclude") {
      return Complain(leaf, "unknown key; families have include and exclude");
    }
    if (leaf.text.empty()) return Complain(leaf, "an empty pattern matches no family");
    (list == "include" ? options_.families.include : options_.families.exclude)
        .push_back(leaf.text);
  }

  void ReadOption(const std::string& name, const FlagValue& leaf) {
    const std::pair<const char*, std::string*> texts[] = {{"name", &options_.name},
                                                          {"job", &options_.key.job}};
    if (ReadPushAccess(name, leaf.text, &options_.credentials, &options_.tls)) return;
    for (const auto& [key, text] : texts) {
      if (name != key) continue;
      *text = leaf.text;
      return;
    }
    if (name == "url") return ReadUrl(leaf);
    if (name == "interval") {
      return ReadDuration(leaf, absl::Hours(24), "24h (write 15s, 1m30s)", &options_.interval);
    }
    if (name == "timeout") {
      return ReadDuration(leaf, kMaxPushTimeout, "5m (write 10s)", &options_.total_timeout);
    }
    if (name == "max_series") return ReadMaxSeries(leaf);
    if (name == "own_metrics") return ReadBool(leaf, &options_.own_metrics);
    if (name == "tls.insecure_skip_verify") {
      return ReadBool(leaf, &options_.tls.insecure_skip_verify);
    }
    if (name == "on_exit") return ReadOnExit(leaf);
    Complain(leaf, absl::StrCat("unknown key",
                                DidYouMean(name,
                                           {"url", "name", "job", "grouping", "interval", "timeout",
                                            "families", "max_series", "own_metrics", "on_exit",
                                            "basic_auth", "bearer_token_file", "tls"},
                                           "")));
  }

  void ReadUrl(const FlagValue& leaf) {
    has_url_ = true;
    absl::StatusOr<HttpUrl> url = HttpUrl::Parse(leaf.text);
    // The URL itself may hold a password that does not belong into messages.
    if (!url.ok()) return Complain(leaf, url.status().message());
    options_.url = *std::move(url);
    if (options_.url.path.find('?') != std::string::npos) {
      return Complain(leaf, "a gateway's URL has no query");
    }
    while (!options_.url.path.empty() && options_.url.path.back() == '/') {
      options_.url.path.pop_back();
    }
  }

  void ReadDuration(const FlagValue& leaf, absl::Duration most, const char* bound,
                    absl::Duration* duration) {
    absl::Duration read;
    if (absl::ParseDuration(leaf.text, &read) && read >= absl::Milliseconds(100) && read <= most) {
      *duration = read;
    } else {
      Complain(leaf, absl::StrCat("not a duration from 100ms to ", bound));
    }
  }

  void ReadMaxSeries(const FlagValue& leaf) {
    uint64_t most = 0;
    if (absl::SimpleAtoi(leaf.text, &most) && most >= 1 && most <= kMaxPushgatewaySeries) {
      options_.max_series = most;
    } else {
      Complain(leaf, absl::StrCat("not in 1 to ", kMaxPushgatewaySeries));
    }
  }

  void ReadBool(const FlagValue& leaf, bool* on) {
    if (leaf.text == "true" || leaf.text == "false") {
      *on = leaf.text == "true";
    } else {
      Complain(leaf, "not true or false");
    }
  }

  void ReadOnExit(const FlagValue& leaf) {
    if (leaf.text == "keep" || leaf.text == "delete") {
      options_.delete_on_exit = leaf.text == "delete";
    } else {
      Complain(leaf, "not keep or delete");
    }
  }

  void AddInstance() {
    if (options_.key.Has("instance")) return;
    options_.key.labels.insert(options_.key.labels.begin(), {"instance", InstanceOf(defaults_)});
  }

  void CheckSeries() {
    if (options_.max_series == 0 && defaults_.series_limit > kMaxPushgatewaySeries) {
      Complain(origin_,
               absl::StrCat("would push up to ", defaults_.series_limit,
                            " series, and a Pushgateway bears at most ", kMaxPushgatewaySeries,
                            ": set series.limit to that or less, or choose what goes by "
                            "families.include and say by max_series how much that may be"));
    }
    if (options_.max_series == 0) options_.max_series = defaults_.series_limit;
  }

  void CheckFiles() {
    if (!has_url_) return;
    const std::string problem = CheckPushAccess(options_.url, options_.credentials, options_.tls);
    if (!problem.empty()) Complain(origin_, problem);
  }

  void Complain(const FlagValue& value, absl::string_view what) {
    problems_->push_back(absl::StrCat(value.origin, ": ", what));
  }

  const PushDefaults& defaults_;
  const FlagValue origin_;
  std::vector<std::string>* const problems_;
  PushgatewayOptions options_;
  bool has_url_ = false;
};

// The leaves of one record come one after the other, its own before those below it.
void ReadRecords(const std::vector<FlagValue>& leaves, const PushDefaults& defaults,
                 std::vector<std::string>* problems, std::vector<PushgatewayOptions>* targets) {
  for (size_t i = 0; i < leaves.size();) {
    TargetReader reader(defaults, leaves[i], problems);
    const std::string& number = leaves[i].keys.front();
    for (++i; i < leaves.size() && leaves[i].keys.front() == number; ++i) {
      reader.Read({leaves[i].keys.begin() + 1, leaves[i].keys.end()}, leaves[i]);
    }
    targets->push_back(reader.Finish());
  }
}

void CheckNames(const std::vector<PushgatewayOptions>& targets,
                std::vector<std::string>* problems) {
  std::set<std::string> names;
  std::set<std::string> groups;
  for (const PushgatewayOptions& target : targets) {
    const std::string group = absl::StrCat(target.url.ToString(), target.key.Path());
    if (!groups.insert(group).second) {
      problems->push_back(
          absl::StrCat("push.pushgateway: two targets would write over each other at ", group));
    } else if (!names.insert(target.name).second) {
      problems->push_back(absl::StrCat("push.pushgateway: two targets are called ", target.name,
                                       "; give them a name"));
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
  std::vector<PushgatewayOptions> targets;
  const auto url = values.find("push.pushgateway-url");
  if (url != values.end() && !url->second.empty() && !url->second.front().text.empty()) {
    TargetReader reader(defaults, url->second.front(), problems);
    reader.Read({"url"}, url->second.front());
    targets.push_back(reader.Finish());
  }
  const auto records = values.find("push.pushgateway");
  if (records != values.end()) ReadRecords(records->second, defaults, problems, &targets);
  if (targets.size() > kMaxPushTargets) {
    problems->push_back(
        absl::StrCat("push.pushgateway: at most ", kMaxPushTargets, " targets are possible"));
  }
  if (problems->empty()) CheckNames(targets, problems);
  return targets;
}

}  // namespace tallyd
