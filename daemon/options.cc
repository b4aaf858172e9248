#include "daemon/options.h"

#include <grp.h>
#include <pwd.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <string_view>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/shard/ledger.h"
#include "daemon/address.h"
#include "daemon/config_file.h"
#include "daemon/exit_code.h"
#include "daemon/own_metrics.h"
#include "daemon/push_config.h"
#include "daemon/remote_write_config.h"
#include "daemon/senders.h"

namespace tallyd {
namespace {

constexpr absl::string_view kAllowUids = "allow_uids=";

// Reads flags by name, and gathers what is wrong with them, so that a user learns of all of it at
// once. What is unreadable keeps its default.
class FlagReader {
 public:
  explicit FlagReader(const FlagValues& values) : values_(values) {}

  bool given(std::string_view name) const { return values_.count(name) > 0; }

  void Text(std::string_view name, std::string* text) const {
    if (const FlagValue* value = Find(name)) *text = value->text;
  }

  void Texts(std::string_view name, std::vector<std::string>* texts) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return;
    texts->clear();
    for (const FlagValue& value : found->second) {
      if (!value.text.empty()) texts->push_back(value.text);
    }
  }

  void Bool(std::string_view name, bool* on) const {
    if (const FlagValue* value = Find(name)) *on = value->text == "true";
  }

  template <class Int>
  void Integer(std::string_view name, int64_t least, int64_t most, Int* number) {
    const FlagValue* value = Find(name);
    if (value == nullptr) return;
    int64_t read = 0;
    if (!absl::SimpleAtoi(value->text, &read)) {
      Complain(*value, "not a number");
    } else if (read < least || read > most) {
      Complain(*value, absl::StrCat("not in ", least, " to ", most));
    } else {
      *number = static_cast<Int>(read);
    }
  }

  void Duration(std::string_view name, absl::Duration least, absl::Duration* duration) {
    const FlagValue* value = Find(name);
    if (value == nullptr) return;
    absl::Duration read;
    const bool readable = absl::ParseDuration(value->text, &read);
    if (readable && read >= least && read < absl::Hours(24 * 366 * 100)) {
      *duration = read;
      return;
    }
    Complain(*value, absl::StrCat("not a duration of at least ", absl::FormatDuration(least),
                                  " (write 10s, 200ms, 1h30m)"));
  }

  void Mode(std::string_view name, mode_t* mode) {
    const FlagValue* value = Find(name);
    if (value == nullptr) return;
    const std::string& text = value->text;
    const bool octal = !text.empty() && text.size() <= 4 &&
                       text.find_first_not_of("01234567") == std::string::npos;
    if (octal) {
      *mode = static_cast<mode_t>(std::stoul(text, nullptr, 8));
    } else {
      Complain(*value, "not an octal mode");
    }
  }

  // A group's name or number; empty: none in particular.
  void Group(std::string_view name, gid_t* group) {
    const FlagValue* value = Find(name);
    if (value == nullptr || value->text.empty()) return;
    uint32_t number = 0;
    if (absl::SimpleAtoi(value->text, &number)) {
      *group = number;
      return;
    }
    const struct group* const found = ::getgrnam(value->text.c_str());
    if (found == nullptr) return Complain(*value, "there is no such group");
    *group = found->gr_gid;
  }

  // One of a few words.
  template <class T>
  void Choice(std::string_view name, const std::vector<std::pair<const char*, T>>& choices,
              T* chosen) {
    const FlagValue* value = Find(name);
    if (value == nullptr) return;
    for (const auto& [word, meaning] : choices) {
      if (value->text != word) continue;
      *chosen = meaning;
      return;
    }
    std::vector<std::string> words;
    for (const auto& choice : choices) words.emplace_back(choice.first);
    Complain(*value, absl::StrCat("not ", absl::StrJoin(words, " or ")));
  }

  // Addresses and paths, each with its dialect or else `dialect`, which the defaults get too.
  void Listen(std::string_view name, Dialect dialect, std::vector<ListenAddress>* list) {
    const auto found = values_.find(name);
    if (found == values_.end()) {
      for (ListenAddress& address : *list) address.dialect = dialect;
      return;
    }
    const bool internet = FindFlag(name)->kind == FlagKind::kAddresses;
    list->clear();
    for (const FlagValue& value : found->second) {
      if (value.text.empty()) continue;
      ListenAddress address(value.text, dialect);
      if (!SplitOptions(value, !internet, &address)) continue;
      if (internet) CheckAddress(value, address.address);
      list->push_back(std::move(address));
    }
  }

  void CheckAddresses(std::string_view name) {
    const auto found = values_.find(name);
    if (found == values_.end()) return;
    for (const FlagValue& value : found->second) {
      if (!value.text.empty()) CheckAddress(value, value.text);
    }
  }

  const FlagValue* Find(std::string_view name) const {
    const auto found = values_.find(name);
    return found == values_.end() || found->second.empty() ? nullptr : &found->second.front();
  }

  void Complain(const FlagValue& value, absl::string_view what) {
    Complain(absl::StrCat(value.origin, "=", value.text, ": ", what));
  }
  void Complain(std::string problem) { problems_.push_back(std::move(problem)); }

  absl::Status status() const {
    return problems_.empty() ? absl::OkStatus() : UsageError(absl::StrJoin(problems_, "\n"));
  }

 private:
  // "?" begins options in an address as in a path, so that a slip there does not become a file's
  // name.
  bool SplitOptions(const FlagValue& value, bool is_path, ListenAddress* address) {
    const size_t mark = value.text.find('?');
    if (mark == std::string::npos) return true;
    address->address = value.text.substr(0, mark);
    const std::vector<std::string> options =
        absl::StrSplit(absl::string_view(value.text).substr(mark + 1), '&');
    bool right = !address->address.empty();
    for (const std::string& option : options) {
      if (option == "dialect=statsd" || option == "dialect=dogstatsd") {
        address->dialect = option == "dialect=statsd" ? Dialect::kStatsd : Dialect::kDogstatsd;
      } else if (is_path && absl::StartsWith(option, kAllowUids)) {
        if (!ReadUids(value, option.substr(kAllowUids.size()), &address->allow_uids)) return false;
      } else {
        right = false;
      }
    }
    if (right) return true;
    Complain(value,
             absl::StrCat("after an address or path, only ?dialect=statsd or ?dialect=dogstatsd",
                          is_path ? ", and allow_uids=UID,... (joined by &)" : ""));
    return false;
  }

  // Names or numbers of users, separated by commas.
  bool ReadUids(const FlagValue& value, const std::string& text, std::vector<uid_t>* uids) {
    for (const absl::string_view user : absl::StrSplit(text, ',')) {
      uid_t uid = 0;
      if (!absl::SimpleAtoi(user, &uid)) {
        const struct passwd* const found = ::getpwnam(std::string(user).c_str());
        if (found == nullptr) {
          Complain(value, absl::StrCat("allow_uids: there is no user \"", user, "\""));
          return false;
        }
        uid = found->pw_uid;
      }
      if (uid == Credentials::kOverflowId || uid == Credentials::kNobody) {
        Complain(value, absl::StrCat("allow_uids: ", uid,
                                     " is what the kernel says of users that it cannot name"));
        return false;
      }
      uids->push_back(uid);
    }
    return true;
  }

  void CheckAddress(const FlagValue& value, const std::string& text) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
    if (!address.ok()) Complain(value, address.status().message());
  }

  const FlagValues& values_;
  std::vector<std::string> problems_;
};

void ReadListening(FlagReader* flags, Options* options) {
  Dialect dialect = Dialect::kStatsd;
  flags->Choice<Dialect>("statsd.dialect",
                         {{"statsd", Dialect::kStatsd}, {"dogstatsd", Dialect::kDogstatsd}},
                         &dialect);
  flags->Listen("statsd.listen-udp", dialect, &options->udp);
  flags->Listen("statsd.listen-tcp", dialect, &options->tcp);
  flags->Listen("statsd.listen-unixgram", dialect, &options->unixgram);
  flags->Listen("statsd.listen-unixstream", dialect, &options->unixstream);
  flags->Listen("statsd.listen-unixseqpacket", dialect, &options->unixseqpacket);
  flags->Mode("statsd.unixsocket-mode", &options->unixsocket_mode);
  flags->Group("statsd.unixsocket-group", &options->unixsocket_group);
  flags->Bool("statsd.sender-identity", &options->sender_identity);
  flags->Integer("statsd.read-buffer", 0, 1 << 30, &options->read_buffer_bytes);
  flags->Duration("statsd.idle-timeout", absl::Milliseconds(1), &options->idle_timeout);
}

void ReadLines(FlagReader* flags, Options* options) {
  flags->Text("statsd.mapping-config", &options->mapping_config);
  flags->Texts("catalog.file", &options->catalog_files);
  flags->Choice<bool>("statsd.container-id", {{"label", true}, {"ignore", false}},
                      &options->container_id_label);
  flags->Bool("statsd.parse-dogstatsd-tags", &options->tags.dogstatsd);
  flags->Bool("statsd.parse-influxdb-tags", &options->tags.influxdb);
  flags->Bool("statsd.parse-librato-tags", &options->tags.librato);
  flags->Bool("statsd.parse-signalfx-tags", &options->tags.signalfx);
  // A key is kept with its sizes in 16 bits.
  constexpr int64_t kMost = kMaxLineBytes;
  flags->Integer("limit.line-bytes", 1, kMost, &options->max_line_bytes);
  flags->Integer("limit.name-bytes", 1, kMost, &options->key_limits.name_bytes);
  flags->Integer("limit.tags", 0, kMost, &options->key_limits.tags);
  flags->Integer("limit.label-bytes", 0, kMost, &options->key_limits.label_bytes);
}

void ReadRelay(FlagReader* flags, Options* options) {
  flags->Text("statsd.relay.address", &options->relay_address);
  flags->Integer("statsd.relay.packet-length", 1, kMaxUdpPayloadBytes,
                 &options->relay_packet_bytes);
  const std::string& address = options->relay_address;
  if (address.empty()) return;
  // Its host is looked up at the start: a name server that is away makes no flag wrong.
  const absl::Status status = SocketAddress::CheckSyntax(address);
  const bool to_nobody = status.ok() && absl::EndsWith(address, ":0");
  if (!status.ok()) flags->Complain(*flags->Find("statsd.relay.address"), status.message());
  if (to_nobody) flags->Complain(*flags->Find("statsd.relay.address"), "there is no port 0");
}

// After the limit on series is read, which is one on what is pushed.
void ReadPush(const FlagValues& values, FlagReader* flags, Options* options) {
  PushDefaults defaults;
  flags->Text("push.job", &defaults.job);
  flags->Text("push.instance", &defaults.instance);
  flags->Duration("push.interval", absl::Milliseconds(100), &defaults.interval);
  flags->Choice<bool>("push.on-exit", {{"keep", false}, {"delete", true}},
                      &defaults.delete_on_exit);
  flags->Integer("push.target-series", 0, kMaxPushgatewaySeries, &defaults.max_series);
  flags->Bool("push.own-metrics", &defaults.own_metrics);
  flags->Duration("push.exit-timeout", absl::ZeroDuration(), &options->push_exit_timeout);
  defaults.series_limit = options->series_limit;
  std::vector<std::string> problems;
  options->pushgateways = ReadPushgateways(values, defaults, &problems);
  options->remote_writes = ReadRemoteWrites(values, defaults, &problems);
  for (std::string& problem : problems) flags->Complain(std::move(problem));
}

void ReadWeb(FlagReader* flags, Options* options) {
  flags->Texts("web.listen-address", &options->web);
  flags->CheckAddresses("web.listen-address");
  flags->Text("web.telemetry-path", &options->telemetry_path);
  if (options->telemetry_path.empty() || options->telemetry_path.front() != '/') {
    flags->Complain(*flags->Find("web.telemetry-path"), "does not begin with a slash");
  }
  flags->Integer("web.max-requests", 1, 1'000'000, &options->web_max_requests);
  flags->Bool("web.enable-lifecycle", &options->enable_lifecycle);
  flags->Choice<HistogramForm>("web.native-histograms",
                               {{"native", HistogramForm::kNative},
                                {"both", HistogramForm::kBoth},
                                {"classic", HistogramForm::kClassic}},
                               &options->native_histograms);
  flags->Bool("web.created-timestamps", &options->created_timestamps);
  flags->Text("web.config.file", &options->web_config_file);
}

void ReadPushed(FlagReader* flags, Options* options) {
  flags->Texts("push.listen-address", &options->push);
  flags->CheckAddresses("push.listen-address");
  flags->Duration("push.group-ttl", absl::ZeroDuration(), &options->push_group_ttl);
  flags->Integer("push.max-body-bytes", 1024, 1 << 30, &options->push_max_body_bytes);
  flags->Integer("push.max-groups", 1, 1'000'000, &options->push_max_groups);
  flags->Integer("push.max-group-series", 1, 10'000'000, &options->push_max_group_series);
  flags->Integer("push.max-series", 1, 10'000'000, &options->push_max_series);
}

void ReadAggregation(FlagReader* flags, Options* options) {
  flags->Integer("shards", 0, kMaxShards, &options->shards);
  flags->Bool("shards.pin", &options->pin_shards);
  flags->Duration("merge.interval", absl::Milliseconds(1), &options->merge_interval);
  flags->Integer("series.limit", 1, std::numeric_limits<uint32_t>::max(), &options->series_limit);
  flags->Integer("series.family-limit", 1, std::numeric_limits<uint32_t>::max(),
                 &options->family_series_limit);
  flags->Integer("series.sender-limit", 0, std::numeric_limits<uint32_t>::max(),
                 &options->sender_series_limit);
  flags->Integer("series.key-limit", 0, std::numeric_limits<uint32_t>::max(), &options->key_limit);
  flags->Integer("series.label-bytes", 0, std::numeric_limits<int64_t>::max(),
                 &options->label_bytes);
  flags->Integer("series.expired-bytes", 0, std::numeric_limits<int64_t>::max(),
                 &options->expired_bytes);
  flags->Duration("series.evict-after", absl::ZeroDuration(), &options->evict_after);
  flags->Duration("series.ttl", absl::ZeroDuration(), &options->series_ttl);
}

// Where systemd says that files of ours belong, of several places the first; else empty.
std::string DirectoryFrom(const char* variable) {
  const char* const directories = std::getenv(variable);
  if (directories == nullptr) return "";
  const std::string_view text(directories);
  return std::string(text.substr(0, text.find(':')));
}

std::string DefaultAdminSocket() {
  std::string directory = DirectoryFrom("RUNTIME_DIRECTORY");
  return directory.empty() ? directory : directory.append("/admin.sock");
}

void ReadState(FlagReader* flags, Options* options) {
  options->state_directory = DirectoryFrom("STATE_DIRECTORY");
  flags->Text("state.directory", &options->state_directory);
  flags->Duration("state.interval", absl::Milliseconds(100), &options->state_interval);
  flags->Bool("state.strict", &options->state_strict);
  options->state_memory_directory = DirectoryFrom("RUNTIME_DIRECTORY");
  flags->Text("state.memory-directory", &options->state_memory_directory);
}

void ReadGeneral(FlagReader* flags, Options* options) {
  flags->Text("config.file", &options->config_file);
  options->admin_socket = DefaultAdminSocket();
  flags->Text("admin.socket", &options->admin_socket);
  flags->Choice<LogLevel>("log.level",
                          {{"debug", LogLevel::kDebug},
                           {"info", LogLevel::kInfo},
                           {"warn", LogLevel::kWarn},
                           {"error", LogLevel::kError}},
                          &options->log_level);
  flags->Choice<LogFormat>("log.format",
                           {{"logfmt", LogFormat::kLogfmt}, {"json", LogFormat::kJson}},
                           &options->log_format);
  flags->Bool("check-config", &options->check_config);
  for (const FlagSpec& flag : AllFlags()) {
    if (flag.group != FlagGroup::kForeign || !flags->given(flag.name)) continue;
    options->meaningless.push_back(absl::StrCat("--", flag.name));
  }
}

// Where nobody asks who sends, nobody can be told apart.
void CheckIdentity(FlagReader* flags, const Options& options) {
  if (options.sender_identity) return;
  for (const auto* list : {&options.unixgram, &options.unixstream, &options.unixseqpacket}) {
    for (const ListenAddress& listen : *list) {
      if (listen.allow_uids.empty()) continue;
      flags->Complain(absl::StrCat(listen.address, ": allow_uids needs --statsd.sender-identity"));
    }
  }
}

void CheckListenerCount(FlagReader* flags, const Options& options) {
  if (options.ListenerCount() == 0) {
    flags->Complain("nothing to listen on: all --statsd.listen flags are empty");
  }
  if (options.ListenerCount() > Ledger::kMaxListeners) {
    flags->Complain(
        absl::StrCat("at most ", Ledger::kMaxListeners, " --statsd.listen addresses are possible"));
  }
}

// What the file says about flags that are not given yet.
absl::Status AddConfigFile(FlagValues* values) {
  const FlagValue* const file = FlagReader(*values).Find("config.file");
  if (file == nullptr || file->text.empty()) return absl::OkStatus();
  absl::StatusOr<FlagValues> from_file = LoadConfig(file->text);
  if (!from_file.ok()) return from_file.status();
  values->merge(*from_file);
  return absl::OkStatus();
}

int UsableCpus() {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (::sched_getaffinity(0, sizeof(usable), &usable) == 0) return CPU_COUNT(&usable);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

int Options::ShardCount() const { return shards > 0 ? shards : std::min(UsableCpus(), kMaxShards); }

SeriesBudget::Limits Options::SeriesLimits() const {
  return {.series = series_limit,
          .family_series = std::min(family_series_limit, series_limit),
          .sender_series =
              sender_series_limit != 0 ? sender_series_limit : std::max(1u, series_limit / 2),
          .label_bytes = label_bytes};
}

uint64_t Options::KeyLimit() const {
  return key_limit != 0 ? key_limit : uint64_t{4} * series_limit;
}

int Options::ReadBufferBytes() const {
  return read_buffer_bytes > 0 ? read_buffer_bytes : kDefaultReadBufferBytes;
}

size_t Options::ListenerCount() const {
  return udp.size() + tcp.size() + unixgram.size() + unixstream.size() + unixseqpacket.size();
}

absl::StatusOr<Options> OptionsFrom(const FlagValues& values) {
  Options options;
  FlagReader flags(values);
  ReadListening(&flags, &options);
  ReadLines(&flags, &options);
  ReadRelay(&flags, &options);
  ReadWeb(&flags, &options);
  ReadPushed(&flags, &options);
  ReadAggregation(&flags, &options);
  ReadPush(values, &flags, &options);
  ReadState(&flags, &options);
  ReadGeneral(&flags, &options);
  CheckListenerCount(&flags, options);
  CheckIdentity(&flags, options);
  const absl::Status status = flags.status();
  if (!status.ok()) return status;
  return options;
}

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments) {
  absl::StatusOr<FlagValues> values = ReadCommandLine(arguments);
  if (!values.ok()) return values.status();
  // Whoever asks what there is gets an answer, whatever else is wrong.
  Options asked;
  asked.show_help = values->count("help") > 0;
  asked.show_version = values->count("version") > 0;
  if (asked.show_help || asked.show_version) return asked;
  const absl::Status status = AddConfigFile(&*values);
  if (!status.ok()) return status;
  return OptionsFrom(*values);
}

std::string VersionText(const std::string& program) {
  return absl::StrCat(program, ", version ", BuildVersion(), " (revision: ", BuildRevision(),
                      ")\n  compiler:         ", BuildCompiler(), "\n");
}

}  // namespace tallyd
