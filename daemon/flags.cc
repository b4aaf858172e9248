#include "daemon/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/exit_code.h"

namespace tallyd {
namespace {

using Kind = FlagKind;
using Group = FlagGroup;

const char* GroupTitle(Group group) {
  switch (group) {
    case Group::kListening:
      return "Listening";
    case Group::kTags:
      return "Reading lines";
    case Group::kLimits:
      return "Limits";
    case Group::kRelay:
      return "Relay";
    case Group::kPush:
      return "Pushing";
    case Group::kWeb:
      return "Web";
    case Group::kPushed:
      return "Being a Pushgateway";
    case Group::kAggregation:
      return "Aggregation";
    case Group::kState:
      return "State over restarts";
    case Group::kGeneral:
      return "General";
    case Group::kForeign:
      return "Accepted from statsd_exporter, without meaning here";
  }
  return "";
}

std::vector<FlagSpec> MakeFlags() {
  constexpr bool kNotInFile = false;
  constexpr bool kInFile = true;
  constexpr bool kDialect = true;
  return {
      {"statsd.listen-udp", Kind::kAddresses, Group::kListening, "ADDRESS",
       "UDP address for StatsD lines, repeatable; empty: off. Default 127.0.0.1:8125 and "
       "127.0.0.1:9125",
       kInFile, kDialect},
      {"statsd.listen-tcp", Kind::kAddresses, Group::kListening, "ADDRESS",
       "TCP address, one line after the other; repeatable, empty: off. Default 127.0.0.1:9125",
       kInFile, kDialect},
      {"statsd.listen-unixgram", Kind::kPaths, Group::kListening, "PATH",
       "path of a UNIX datagram socket, repeatable. PATH?allow_uids=UID,... lets only these users "
       "send, as on the other UNIX sockets",
       kInFile, kDialect},
      {"statsd.listen-unixstream", Kind::kPaths, Group::kListening, "PATH",
       "path of a UNIX stream socket with DogStatsD framing (4-byte little-endian length), "
       "repeatable",
       kInFile, kDialect},
      {"statsd.listen-unixseqpacket", Kind::kPaths, Group::kListening, "PATH",
       "path of a UNIX seqpacket socket, repeatable", kInFile, kDialect},
      {"statsd.unixsocket-mode", Kind::kText, Group::kListening, "MODE",
       "permissions of the UNIX sockets, octal. Default 755"},
      {"statsd.unixsocket-group", Kind::kText, Group::kListening, "GROUP",
       "group of the UNIX sockets, by name or number; empty: the one of tallyd"},
      {"statsd.sender-identity", Kind::kBool, Group::kListening, "",
       "ask the kernel who sends to the UNIX sockets, for tallyctl top and for budgets. Default "
       "on"},
      {"statsd.read-buffer", Kind::kText, Group::kListening, "BYTES",
       "bytes of receive buffer to ask the kernel for, per UDP socket; 0: 8 MiB. The kernel grants "
       "what net.core.rmem_max allows, unless CAP_NET_ADMIN is there"},
      {"statsd.idle-timeout", Kind::kText, Group::kListening, "DURATION",
       "close a stream whose begun frame or line is not complete after this time. Default 10s"},

      {"statsd.mapping-config", Kind::kPath, Group::kTags, "FILE",
       "mapping rules: a file as statsd_exporter reads it. Without one, names are kept as they "
       "are"},
      {"catalog.file", Kind::kPaths, Group::kTags, "FILE",
       "a catalog that declares metrics; repeatable. Its mode says what becomes of what it does "
       "not "
       "declare"},
      {"statsd.dialect", Kind::kText, Group::kTags, "DIALECT",
       "what a signed gauge value means: statsd (a change) or dogstatsd (the value). For one "
       "listener alone, add ?dialect=dogstatsd to its address or path. Default statsd"},
      {"statsd.container-id", Kind::kText, Group::kTags, "label|ignore",
       "show the container id that DogStatsD clients send as the label container_id, or ignore it. "
       "Default label"},
      {"statsd.parse-dogstatsd-tags", Kind::kBool, Group::kTags, "",
       "read DogStatsD tags, as in a:1|c|#k:v. Default on"},
      {"statsd.parse-influxdb-tags", Kind::kBool, Group::kTags, "",
       "read InfluxDB tags, as in a,k=v:1|c. Default on"},
      {"statsd.parse-librato-tags", Kind::kBool, Group::kTags, "",
       "read Librato tags, as in a#k=v:1|c. Default on"},
      {"statsd.parse-signalfx-tags", Kind::kBool, Group::kTags, "",
       "read SignalFX tags, as in a[k=v]:1|c. Default on"},

      {"limit.line-bytes", Kind::kText, Group::kLimits, "BYTES",
       "longest line; longer ones are dropped as too_long. Default 65535"},
      {"limit.name-bytes", Kind::kText, Group::kLimits, "BYTES",
       "longest metric name, without the tags in it. Default 8192"},
      {"limit.tags", Kind::kText, Group::kLimits, "N",
       "most tags of a line, bad ones included. Default 1024"},
      {"limit.label-bytes", Kind::kText, Group::kLimits, "BYTES",
       "most bytes of a line's label names and values together. Default 32768"},

      {"statsd.relay.address", Kind::kText, Group::kRelay, "ADDRESS",
       "copy every line as it came to this UDP address. Ingest never waits for it; what it cannot "
       "take is dropped and counted"},
      {"statsd.relay.packet-length", Kind::kText, Group::kRelay, "BYTES",
       "largest packet to the relay's address; longer lines are counted and not sent. Default "
       "1400"},

      {"push.pushgateway-url", Kind::kText, Group::kPush, "URL",
       "push the state to this Pushgateway, with the defaults that follow; for more than that, "
       "list "
       "targets under push.pushgateway in the configuration file"},
      {"push.pushgateway", Kind::kRecords, Group::kPush, "", ""},
      {"push.remote-write-url", Kind::kText, Group::kPush, "URL",
       "send the state to this receiver of remote write, as http://127.0.0.1:9090/api/v1/write; "
       "for more than the defaults, list targets under push.remote-write in the configuration "
       "file"},
      {"push.remote-write", Kind::kRecords, Group::kPush, "", ""},
      {"push.job", Kind::kText, Group::kPush, "NAME",
       "job of the group pushed to, where a target does not say it. Default tallyd"},
      {"push.instance", Kind::kText, Group::kPush, "NAME",
       "instance of the group pushed to, where a target does not say it; empty: the host's name"},
      {"push.interval", Kind::kText, Group::kPush, "DURATION",
       "time from one push to the next, where a target does not say it. Default 15s"},
      {"push.on-exit", Kind::kText, Group::kPush, "keep|delete",
       "what becomes of the group when tallyd ends, where a target does not say it. Default keep"},
      {"push.target-series", Kind::kText, Group::kPush, "N",
       "most series of a push, where a target does not say it; the rest is left out and counted. "
       "0: as many as --series.limit, which then must be at most 100000. Default 0"},
      {"push.own-metrics", Kind::kBool, Group::kPush, "",
       "push tallyd's own metrics too, where a target does not say it. Default off"},
      {"push.exit-timeout", Kind::kText, Group::kPush, "DURATION",
       "what the last pushes may take when tallyd ends. Default 5s"},

      {"web.listen-address", Kind::kAddresses, Group::kWeb, "ADDRESS",
       "HTTP address for scrapes, repeatable; empty: off. Default 127.0.0.1:9102"},
      {"web.telemetry-path", Kind::kText, Group::kWeb, "PATH",
       "where the metrics are. Default /metrics"},
      {"web.max-requests", Kind::kText, Group::kWeb, "N",
       "requests served at a time; more are answered 503. Default 40"},
      {"web.native-histograms", Kind::kText, Group::kWeb, "native|both|classic",
       "what buckets histograms have in protobuf, which only a scraper that takes native "
       "histograms "
       "asks for: exponential ones, le ones beside them, or le ones alone. Default both"},
      {"web.created-timestamps", Kind::kBool, Group::kWeb, "",
       "add a _created line to each OpenMetrics series that counts; Prometheus before 3 stores "
       "them "
       "as series. Protobuf always says it. Default off"},
      {"web.enable-lifecycle", Kind::kBool, Group::kWeb, "",
       "allow POST and PUT on /-/reload and /-/quit. Default off"},
      {"web.config.file", Kind::kPath, Group::kWeb, "FILE",
       "TLS, client certificates, users and passwords of the HTTP listeners, in the format of "
       "Prometheus' exporter-toolkit"},

      {"push.listen-address", Kind::kAddresses, Group::kPushed, "ADDRESS",
       "HTTP address for clients that push as to a Pushgateway, repeatable; loopback is advised, "
       "since whoever reaches it can write. Default off"},
      {"push.group-ttl", Kind::kText, Group::kPushed, "DURATION",
       "forget a group that was not pushed for this time; 0: never. Default 0"},
      {"push.max-body-bytes", Kind::kText, Group::kPushed, "BYTES",
       "largest body of a push, as sent and decompressed. Default 16777216, 16 MiB"},
      {"push.max-groups", Kind::kText, Group::kPushed, "N",
       "most groups, those of jobs included. Default 1000"},
      {"push.max-group-series", Kind::kText, Group::kPushed, "N",
       "most series of one group; buckets count. Default 20000"},
      {"push.max-series", Kind::kText, Group::kPushed, "N",
       "most series of all groups. Default 100000"},

      {"shards", Kind::kText, Group::kAggregation, "N",
       "threads that count; 0: one for each usable CPU. At most 1024"},
      {"shards.pin", Kind::kBool, Group::kAggregation, "",
       "keep each shard's thread on a CPU of its own. Default off"},
      {"merge.interval", Kind::kText, Group::kAggregation, "DURATION",
       "how often the shards are merged. Default 1s"},
      {"series.limit", Kind::kText, Group::kAggregation, "N",
       "most series at a time; samples of further ones are folded into overflow series and "
       "counted. Default 1000000"},
      {"series.family-limit", Kind::kText, Group::kAggregation, "N",
       "most series of one name; further ones are folded into those that say \"__overflow__\". "
       "Default 100000"},
      {"series.sender-limit", Kind::kText, Group::kAggregation, "N",
       "most series that one sender may make, where the kernel tells who sends; 0: half of "
       "--series.limit. Default 0"},
      {"series.key-limit", Kind::kText, Group::kAggregation, "N",
       "spellings of series that each shard remembers for good; 0: four for each series. Default "
       "0"},
      {"series.label-bytes", Kind::kText, Group::kAggregation, "BYTES",
       "most bytes that the labels of all series may have together. Default 536870912"},
      {"series.evict-after", Kind::kText, Group::kAggregation, "DURATION",
       "when others find no room, counters and histograms go that did not change for this time, "
       "the longest unchanged first; 0: none go. Default 1h"},
      {"series.expired-bytes", Kind::kText, Group::kAggregation, "BYTES",
       "memory for the values of series that are gone, with which they go on if they come back. "
       "Default 67108864"},
      {"series.ttl", Kind::kText, Group::kAggregation, "DURATION",
       "forget a series to which nothing came for this time; 0: never. Default 0"},

      {"state.directory", Kind::kPath, Group::kState, "PATH",
       "directory for the state, with which counters, histograms, gauges and sets go on after a "
       "restart; empty: nothing is kept. Default: the directory that systemd gives "
       "(STATE_DIRECTORY), else none"},
      {"state.interval", Kind::kText, Group::kState, "DURATION",
       "how often the state is saved while tallyd runs, beside once at its end. Default 10s"},
      {"state.memory-directory", Kind::kPath, Group::kState, "PATH",
       "directory in memory (tmpfs) where the shards' memories outlive a crash, if no service "
       "manager keeps them; empty: a crash costs what was counted since the state was last saved. "
       "Default: the directory that systemd gives (RUNTIME_DIRECTORY), else none"},
      {"state.strict", Kind::kBool, Group::kState, "",
       "do not start, with exit code 4, if a saved state cannot be read, rather than set it aside "
       "and begin anew. Default off"},

      {"config.file", Kind::kPath, Group::kGeneral, "FILE",
       "YAML file with any of these flags: the names split at the dots (statsd: {listen-udp: "
       "[...]}). The command line wins over it",
       kNotInFile},
      {"check-config", Kind::kBool, Group::kGeneral, "",
       "check flags, configuration file and mapping file without starting anything, print the "
       "limits and the worst-case memory, and exit with 0, or 2 if something is wrong",
       kNotInFile},
      {"admin.socket", Kind::kPath, Group::kGeneral, "PATH",
       "path of a UNIX socket, for its owner alone, by which tallyctl explains lines and captures "
       "them; empty: none. Default admin.sock in the directory that systemd gives "
       "(RUNTIME_DIRECTORY), else none"},
      {"log.level", Kind::kText, Group::kGeneral, "LEVEL",
       "debug, info, warn or error. Default info"},
      {"log.format", Kind::kText, Group::kGeneral, "FORMAT", "logfmt or json. Default logfmt"},
      {"version", Kind::kBool, Group::kGeneral, "", "print the version and exit", kNotInFile},
      {"help", Kind::kBool, Group::kGeneral, "", "print this and exit", kNotInFile},

      {"statsd.cache-size", Kind::kText, Group::kForeign, "...", ""},
      {"statsd.cache-type", Kind::kText, Group::kForeign, "...", ""},
      {"statsd.event-queue-size", Kind::kText, Group::kForeign, "...", ""},
      {"statsd.event-flush-threshold", Kind::kText, Group::kForeign, "...", ""},
      {"statsd.event-flush-interval", Kind::kText, Group::kForeign, "...", ""},
      {"statsd.udp-packet-queue-size", Kind::kText, Group::kForeign, "...", ""},
      {"debug.dump-fsm", Kind::kText, Group::kForeign, "...", ""},
  };
}

// Flags that ask for something to be done, once; "off" would mean nothing.
bool HasOff(const FlagSpec& flag) { return flag.kind == Kind::kBool && flag.in_file; }

// Help as it is read: a flag, its value, and below it what it means, in lines of a width to read.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool) const override {
    const FlagSpec& flag = *FindFlag(option->get_lnames().front());
    std::string text = absl::StrCat(HasOff(flag) ? "  --[no-]" : "  --", flag.name);
    if (*flag.value != 0) absl::StrAppend(&text, "=", flag.value);
    text.push_back('\n');
    AppendWrapped(flag.help, &text);
    return text;
  }

 private:
  static constexpr size_t kWidth = 92;
  static constexpr char kIndent[] = "        ";

  static void AppendWrapped(const std::string& description, std::string* text) {
    std::string line;
    for (const absl::string_view word : absl::StrSplit(description, ' ', absl::SkipEmpty())) {
      if (line.size() + word.size() + 1 > kWidth) {
        absl::StrAppend(text, kIndent, line, "\n");
        line.clear();
      }
      absl::StrAppend(&line, line.empty() ? "" : " ", word);
    }
    if (!line.empty()) absl::StrAppend(text, kIndent, line, "\n");
  }
};

// Where the parser leaves what it read.
struct Bound {
  std::vector<std::string> texts;
  bool on = false;
};
using BoundFlags = std::map<std::string, Bound, std::less<>>;

CLI::Option* BindFlag(CLI::App* app, const FlagSpec& flag, Bound* bound) {
  const std::string name = absl::StrCat("--", flag.name);
  if (flag.kind == Kind::kBool) {
    const std::string short_name = std::string_view(flag.name) == "help" ? "-h," : "";
    const std::string off = HasOff(flag) ? absl::StrCat(",!--no-", flag.name) : "";
    return app->add_flag(absl::StrCat(short_name, name, off), bound->on);
  }
  return app->add_option(name, bound->texts)->expected(1)->take_all()->allow_extra_args(false);
}

// The parser with all flags, bound to `bound`, which outlives it.
std::unique_ptr<CLI::App> MakeParser(BoundFlags* bound) {
  auto app = std::make_unique<CLI::App>(
      "tallyd adds up StatsD events and shows the sums to Prometheus.", "tallyd");
  app->formatter(std::make_shared<HelpFormatter>());
  app->set_help_flag();  // ours is an ordinary flag, so that parsing has no side effects
  app->allow_extras();   // so that unknown ones are refused in our words
  for (const FlagSpec& flag : AllFlags()) {
    if (flag.kind == Kind::kRecords) continue;
    BindFlag(app.get(), flag, &(*bound)[flag.name])->group(GroupTitle(flag.group));
  }
  app->footer(
      "Booleans are switched off by --no-, as in --no-web.enable-lifecycle. Durations are written "
      "as in 10s, 200ms or\n1h30m. Giving a listen flag replaces the defaults of its kind; port 0 "
      "takes a free port, which the log names.\n\nExit codes: 0 clean, 1 failure at run time, 2 "
      "usage or configuration, 3 address, socket or lock in use,\n4 state refused. Signals: TERM "
      "and INT drain and exit, a second one exits at once; HUP reloads.");
  return app;
}

// "--flag=" gives an empty value, which the parser would take for none at all.
std::vector<std::string> SplitEmptyValues(const std::vector<std::string>& arguments) {
  std::vector<std::string> split;
  for (const std::string& argument : arguments) {
    const bool empty_value = argument.size() > 3 && argument.compare(0, 2, "--") == 0 &&
                             argument.find('=') == argument.size() - 1;
    split.push_back(empty_value ? argument.substr(0, argument.size() - 1) : argument);
    if (empty_value) split.emplace_back();
  }
  return split;
}

absl::Status RefuseUnknown(const std::string& argument) {
  if (argument.size() < 2 || argument[0] != '-') {
    return UsageError(absl::StrCat("\"", argument, "\" is no flag; all arguments begin with --"));
  }
  const std::string name = argument.substr(0, argument.find('='));
  const std::string bare = name.substr(std::min(name.size(), name.find_first_not_of('-')));
  std::vector<std::string> known;
  for (const FlagSpec& flag : AllFlags()) {
    if (flag.kind != Kind::kRecords) {
      known.push_back(flag.name);
    } else if (bare == flag.name) {
      return UsageError(absl::StrCat(name, ": only the configuration file can say this"));
    }
  }
  return UsageError(absl::StrCat("unknown flag ", name, DidYouMean(bare, known, "--"),
                                 " (tallyd --help lists the flags)"));
}

// A flag that was given, as `bound` has it.
absl::StatusOr<std::vector<FlagValue>> ValuesOf(const FlagSpec& flag, const Bound& bound) {
  if (flag.kind == Kind::kBool) {
    return std::vector<FlagValue>{
        {bound.on ? "true" : "false", absl::StrCat(bound.on ? "--" : "--no-", flag.name)}};
  }
  if (!flag.repeats() && bound.texts.size() > 1) {
    return UsageError(absl::StrCat("--", flag.name, " is given more than once"));
  }
  std::vector<FlagValue> values;
  for (const std::string& text : bound.texts) {
    values.push_back({text, absl::StrCat("--", flag.name)});
  }
  return values;
}

}  // namespace

const std::vector<FlagSpec>& AllFlags() {
  static const auto* const flags = new std::vector<FlagSpec>(MakeFlags());
  return *flags;
}

const FlagSpec* FindFlag(std::string_view name) {
  for (const FlagSpec& flag : AllFlags()) {
    if (name == flag.name) return &flag;
  }
  return nullptr;
}

absl::StatusOr<FlagValues> ReadCommandLine(const std::vector<std::string>& arguments) {
  BoundFlags bound;
  const std::unique_ptr<CLI::App> app = MakeParser(&bound);
  std::vector<std::string> reversed = SplitEmptyValues(arguments);
  std::reverse(reversed.begin(), reversed.end());  // the parser takes them from the back
  try {
    app->parse(reversed);
  } catch (const CLI::ParseError& error) {
    return UsageError(absl::StrCat(error.what(), " (tallyd --help lists the flags)"));
  }
  const std::vector<std::string> unknown = app->remaining();
  if (!unknown.empty()) return RefuseUnknown(unknown.front());

  FlagValues values;
  for (const FlagSpec& flag : AllFlags()) {
    if (flag.kind == Kind::kRecords) continue;
    if (app->count(absl::StrCat("--", flag.name)) == 0) continue;
    absl::StatusOr<std::vector<FlagValue>> given = ValuesOf(flag, bound[flag.name]);
    if (!given.ok()) return given.status();
    values.emplace(flag.name, *std::move(given));
  }
  return values;
}

std::string HelpText() {
  BoundFlags bound;
  return MakeParser(&bound)->help();
}

}  // namespace tallyd
