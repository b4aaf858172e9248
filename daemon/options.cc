#include "daemon/options.h"

#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/shard/ledger.h"
#include "daemon/address.h"
#include "daemon/exit_code.h"

#ifndef TALLYD_VERSION
#define TALLYD_VERSION "unknown"
#endif

namespace tallyd {
namespace {

constexpr char kListening[] = "Listening";
constexpr char kWeb[] = "Web";
constexpr char kAggregation[] = "Aggregation";
constexpr char kGeneral[] = "General";
constexpr char kAccepted[] = "Accepted from statsd_exporter, without meaning here";
constexpr char kNotYet[] = "Refused until they are built";

// Flags as written, before they are checked and converted.
struct RawFlags {
  std::string unixsocket_mode = "755";
  std::string idle_timeout = "10s";
  std::string merge_interval = "1s";
  std::string series_ttl = "0";
  std::string log_level = "info";
  std::string log_format = "logfmt";
  bool parse_dogstatsd = true;
  bool parse_influxdb = false;
  bool parse_librato = false;
  bool parse_signalfx = false;
  bool dump_fsm = false;
  std::map<std::string, std::string> meaningless;
  std::map<std::string, std::string> not_yet;
};

void AddListenFlag(CLI::App* app, const std::string& name, std::vector<std::string>* values,
                   const std::string& help, const char* value = "ADDRESS") {
  app->add_option(name, *values, help)
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->group(kListening)
      ->type_name(value);
}

void AddListenFlags(CLI::App* app, Options* options, RawFlags* raw) {
  AddListenFlag(app, "--statsd.listen-udp", &options->udp,
                "UDP address for StatsD lines, repeatable; empty: off. Default 127.0.0.1:8125 and "
                "127.0.0.1:9125");
  AddListenFlag(app, "--statsd.listen-tcp", &options->tcp,
                "TCP address, one line after the other; repeatable, empty: off. Default "
                "127.0.0.1:9125");
  AddListenFlag(app, "--statsd.listen-unixgram", &options->unixgram,
                "path of a UNIX datagram socket, repeatable", "PATH");
  AddListenFlag(app, "--statsd.listen-unixstream", &options->unixstream,
                "path of a UNIX stream socket with DogStatsD framing (4-byte little-endian "
                "length), repeatable",
                "PATH");
  AddListenFlag(app, "--statsd.listen-unixseqpacket", &options->unixseqpacket,
                "path of a UNIX seqpacket socket, repeatable", "PATH");
  app->add_option("--statsd.unixsocket-mode", raw->unixsocket_mode,
                  "permissions of the UNIX sockets, octal. Default 755")
      ->group(kListening)
      ->type_name("MODE");
  app->add_option("--statsd.read-buffer", options->read_buffer_bytes,
                  "bytes of receive buffer to ask the kernel for, per UDP socket; 0: 8 MiB. The "
                  "kernel grants what net.core.rmem_max allows, unless CAP_NET_ADMIN is there")
      ->group(kListening)
      ->type_name("BYTES");
  app->add_option("--statsd.idle-timeout", raw->idle_timeout,
                  "close a stream whose begun frame or line is not complete after this time. "
                  "Default 10s")
      ->group(kListening)
      ->type_name("DURATION");
  app->add_flag("--statsd.parse-dogstatsd-tags,!--no-statsd.parse-dogstatsd-tags",
                raw->parse_dogstatsd, "read DogStatsD tags; always on for now")
      ->group(kListening);
}

void AddWebFlags(CLI::App* app, Options* options) {
  AddListenFlag(app, "--web.listen-address", &options->web,
                "HTTP address for scrapes, repeatable; empty: off. Default 127.0.0.1:9102");
  app->get_option("--web.listen-address")->group(kWeb);
  app->add_option("--web.telemetry-path", options->telemetry_path,
                  "where the metrics are. Default /metrics")
      ->group(kWeb)
      ->type_name("PATH");
  app->add_option("--web.max-requests", options->web_max_requests,
                  "requests served at a time; more are answered 503. Default 40")
      ->group(kWeb)
      ->type_name("N");
  app->add_flag("--web.enable-lifecycle,!--no-web.enable-lifecycle", options->enable_lifecycle,
                "allow POST and PUT on /-/reload and /-/quit")
      ->group(kWeb);
}

void AddAggregationFlags(CLI::App* app, Options* options, RawFlags* raw) {
  app->add_option("--shards", options->shards,
                  "threads that count; 0: one for each usable CPU. At most 1024")
      ->group(kAggregation)
      ->type_name("N");
  app->add_flag("--shards.pin,!--no-shards.pin", options->pin_shards,
                "keep each shard's thread on a CPU of its own")
      ->group(kAggregation);
  app->add_option("--merge.interval", raw->merge_interval,
                  "how often the shards are merged. Default 1s")
      ->group(kAggregation)
      ->type_name("DURATION");
  app->add_option("--series.limit", options->series_limit,
                  "most series at a time; samples of further ones are dropped and counted. Default "
                  "1000000")
      ->group(kAggregation)
      ->type_name("N");
  app->add_option("--series.ttl", raw->series_ttl,
                  "forget a series to which nothing came for this time; 0: never")
      ->group(kAggregation)
      ->type_name("DURATION");
}

void AddGeneralFlags(CLI::App* app, Options* options, RawFlags* raw) {
  app->add_option("--log.level", raw->log_level, "debug, info, warn or error. Default info")
      ->group(kGeneral)
      ->type_name("LEVEL");
  app->add_option("--log.format", raw->log_format, "logfmt or json. Default logfmt")
      ->group(kGeneral)
      ->type_name("FORMAT");
  app->add_flag("--check-config", options->check_config,
                "check the flags, print the limits, and exit with 0, or 2 if something is wrong")
      ->group(kGeneral);
  app->add_flag("--version", options->show_version, "print the version and exit")->group(kGeneral);
  app->add_flag("-h,--help", options->show_help, "print this and exit")->group(kGeneral);
}

void AddForeignFlags(CLI::App* app, RawFlags* raw) {
  for (const char* name : {"--statsd.cache-size", "--statsd.cache-type",
                           "--statsd.event-queue-size", "--statsd.event-flush-threshold",
                           "--statsd.event-flush-interval", "--statsd.udp-packet-queue-size"}) {
    app->add_option(name, raw->meaningless[name])->group(kAccepted)->type_name("...");
  }
  for (const char* name : {"--statsd.mapping-config", "--config.file", "--web.config.file",
                           "--statsd.relay.address", "--statsd.relay.packet-length"}) {
    app->add_option(name, raw->not_yet[name])->group(kNotYet)->type_name("...");
  }
  app->add_flag("--statsd.parse-influxdb-tags,!--no-statsd.parse-influxdb-tags",
                raw->parse_influxdb)
      ->group(kNotYet);
  app->add_flag("--statsd.parse-librato-tags,!--no-statsd.parse-librato-tags", raw->parse_librato)
      ->group(kNotYet);
  app->add_flag("--statsd.parse-signalfx-tags,!--no-statsd.parse-signalfx-tags",
                raw->parse_signalfx)
      ->group(kNotYet);
  app->add_flag("--debug.dump-fsm,!--no-debug.dump-fsm", raw->dump_fsm)->group(kNotYet);
}

// Help as it is read: a flag, its value, and below it what it means, in lines of a width to read.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool) const override {
    const std::string name = option->get_lnames().front();
    std::string text = absl::StrCat("  --", name);
    if (option->get_items_expected_max() == 0) {
      // A name of its own for "off" makes a flag that can be switched off.
      if (option->get_lnames().size() > 1) text = absl::StrCat("  --[no-]", name);
    } else {
      absl::StrAppend(&text, "=", option->get_type_name());
    }
    text.push_back('\n');
    AppendWrapped(option->get_description(), &text);
    return text;
  }

 private:
  static constexpr size_t kWidth = 92;
  static constexpr char kIndent[] = "        ";

  static void AppendWrapped(const std::string& description, std::string* text) {
    std::string line;
    for (const std::string& word : CLI::detail::split(description, ' ')) {
      if (line.size() + word.size() + 1 > kWidth) {
        absl::StrAppend(text, kIndent, line, "\n");
        line.clear();
      }
      absl::StrAppend(&line, line.empty() ? "" : " ", word);
    }
    if (!line.empty()) absl::StrAppend(text, kIndent, line, "\n");
  }
};

// The parser with all flags, bound to `options` and `raw`, which outlive it.
std::unique_ptr<CLI::App> MakeParser(Options* options, RawFlags* raw) {
  auto app = std::make_unique<CLI::App>(
      "tallyd adds up StatsD events and shows the sums to Prometheus.", "tallyd");
  app->formatter(std::make_shared<HelpFormatter>());
  app->set_help_flag();  // ours is an ordinary flag, so that parsing has no side effects
  AddListenFlags(app.get(), options, raw);
  AddWebFlags(app.get(), options);
  AddAggregationFlags(app.get(), options, raw);
  AddGeneralFlags(app.get(), options, raw);
  AddForeignFlags(app.get(), raw);
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

absl::Status ReadDuration(const std::string& flag, const std::string& text, absl::Duration least,
                          absl::Duration* duration) {
  const bool readable = absl::ParseDuration(text, duration);
  if (readable && *duration >= least && *duration < absl::Hours(24 * 366 * 100)) {
    return absl::OkStatus();
  }
  return UsageError(absl::StrCat(flag, "=", text, ": not a duration of at least ",
                                 absl::FormatDuration(least), " (write 10s, 200ms, 1h30m)"));
}

absl::Status ReadMode(const std::string& text, mode_t* mode) {
  const bool octal =
      !text.empty() && text.size() <= 4 && text.find_first_not_of("01234567") == std::string::npos;
  if (!octal) {
    return UsageError(absl::StrCat("--statsd.unixsocket-mode=", text, ": not an octal mode"));
  }
  *mode = static_cast<mode_t>(std::stoul(text, nullptr, 8));
  return absl::OkStatus();
}

absl::Status ReadLogFlags(const RawFlags& raw, Options* options) {
  static const auto* const levels =
      new std::map<std::string, LogLevel>{{"debug", LogLevel::kDebug},
                                          {"info", LogLevel::kInfo},
                                          {"warn", LogLevel::kWarn},
                                          {"error", LogLevel::kError}};
  const auto level = levels->find(raw.log_level);
  if (level == levels->end()) {
    return UsageError(
        absl::StrCat("--log.level=", raw.log_level, ": not debug, info, warn or error"));
  }
  options->log_level = level->second;
  if (raw.log_format != "logfmt" && raw.log_format != "json") {
    return UsageError(absl::StrCat("--log.format=", raw.log_format, ": not logfmt or json"));
  }
  options->log_format = raw.log_format == "json" ? LogFormat::kJson : LogFormat::kLogfmt;
  return absl::OkStatus();
}

absl::Status RefuseUnbuilt(const CLI::App& app, const RawFlags& raw) {
  for (const auto& [name, value] : raw.not_yet) {
    if (app.count(name) > 0 && !value.empty()) {
      return UsageError(absl::StrCat(name, " is not supported by this version; it was given \"",
                                     value, "\", and ignoring it would change your metrics"));
    }
  }
  const std::pair<const char*, bool> dialects[] = {
      {"--statsd.parse-influxdb-tags", raw.parse_influxdb},
      {"--statsd.parse-librato-tags", raw.parse_librato},
      {"--statsd.parse-signalfx-tags", raw.parse_signalfx},
      {"--debug.dump-fsm", raw.dump_fsm}};
  for (const auto& [name, on] : dialects) {
    if (on) return UsageError(absl::StrCat(name, " is not supported by this version"));
  }
  if (!raw.parse_dogstatsd) {
    return UsageError("--no-statsd.parse-dogstatsd-tags is not supported by this version");
  }
  return absl::OkStatus();
}

void DropEmptyAddresses(Options* options) {
  for (auto* list : {&options->udp, &options->tcp, &options->unixgram, &options->unixstream,
                     &options->unixseqpacket, &options->web}) {
    list->erase(std::remove(list->begin(), list->end(), ""), list->end());
  }
}

absl::Status CheckRanges(const Options& options) {
  if (options.shards < 0 || options.shards > kMaxShards) {
    return UsageError(absl::StrCat("--shards=", options.shards, ": not in 0 to ", kMaxShards));
  }
  if (options.read_buffer_bytes < 0 || options.read_buffer_bytes > (1 << 30)) {
    return UsageError(
        absl::StrCat("--statsd.read-buffer=", options.read_buffer_bytes, ": not in 0 to 1 GiB"));
  }
  if (options.web_max_requests < 1) return UsageError("--web.max-requests must be at least 1");
  if (options.series_limit < 1) return UsageError("--series.limit must be at least 1");
  if (options.telemetry_path.empty() || options.telemetry_path.front() != '/') {
    return UsageError(absl::StrCat("--web.telemetry-path=", options.telemetry_path,
                                   ": does not begin with a slash"));
  }
  return absl::OkStatus();
}

absl::Status CheckListeners(const Options& options) {
  if (options.ListenerCount() == 0) {
    return UsageError("nothing to listen on: all --statsd.listen flags are empty");
  }
  if (options.ListenerCount() > Ledger::kMaxListeners) {
    return UsageError(
        absl::StrCat("at most ", Ledger::kMaxListeners, " --statsd.listen addresses are possible"));
  }
  for (const auto* list : {&options.udp, &options.tcp, &options.web}) {
    for (const std::string& text : *list) {
      const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
      if (!address.ok()) return address.status();
    }
  }
  return absl::OkStatus();
}

absl::Status Convert(const RawFlags& raw, Options* options) {
  absl::Status status = ReadMode(raw.unixsocket_mode, &options->unixsocket_mode);
  status.Update(ReadDuration("--statsd.idle-timeout", raw.idle_timeout, absl::Milliseconds(1),
                             &options->idle_timeout));
  status.Update(ReadDuration("--merge.interval", raw.merge_interval, absl::Milliseconds(1),
                             &options->merge_interval));
  status.Update(
      ReadDuration("--series.ttl", raw.series_ttl, absl::ZeroDuration(), &options->series_ttl));
  status.Update(ReadLogFlags(raw, options));
  status.Update(CheckRanges(*options));
  return status;
}

int UsableCpus() {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (::sched_getaffinity(0, sizeof(usable), &usable) == 0) return CPU_COUNT(&usable);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::string Joined(const std::vector<std::string>& list) {
  return list.empty() ? "off" : absl::StrJoin(list, ", ");
}

}  // namespace

int Options::ShardCount() const { return shards > 0 ? shards : std::min(UsableCpus(), kMaxShards); }

int Options::ReadBufferBytes() const {
  return read_buffer_bytes > 0 ? read_buffer_bytes : kDefaultReadBufferBytes;
}

size_t Options::ListenerCount() const {
  return udp.size() + tcp.size() + unixgram.size() + unixstream.size() + unixseqpacket.size();
}

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments) {
  Options options;
  RawFlags raw;
  const std::unique_ptr<CLI::App> app = MakeParser(&options, &raw);
  std::vector<std::string> reversed = SplitEmptyValues(arguments);
  std::reverse(reversed.begin(), reversed.end());  // the parser takes them from the back
  try {
    app->parse(reversed);
  } catch (const CLI::ParseError& error) {
    return UsageError(absl::StrCat(error.what(), " (tallyd --help lists the flags)"));
  }
  if (options.show_help || options.show_version) return options;
  for (const auto& [name, value] : raw.meaningless) {
    if (app->count(name) > 0) options.meaningless.push_back(name);
  }
  DropEmptyAddresses(&options);
  absl::Status status = RefuseUnbuilt(*app, raw);
  status.Update(Convert(raw, &options));
  if (status.ok()) status = CheckListeners(options);
  if (!status.ok()) return status;
  return options;
}

std::string HelpText() {
  Options options;
  RawFlags raw;
  return MakeParser(&options, &raw)->help();
}

std::string VersionText() { return absl::StrCat("tallyd ", TALLYD_VERSION, "\n"); }

std::string DescribeLimits(const Options& options) {
  std::string text;
  const auto add = [&text](const std::string& name, const std::string& value) {
    absl::StrAppend(&text, absl::StrFormat("%-24s %s\n", name, value));
  };
  add("udp", Joined(options.udp));
  add("tcp", Joined(options.tcp));
  add("unixgram", Joined(options.unixgram));
  add("unixstream", Joined(options.unixstream));
  add("unixseqpacket", Joined(options.unixseqpacket));
  add("http", Joined(options.web));
  add("shards", absl::StrCat(options.ShardCount()));
  add("series", absl::StrCat("at most ", options.series_limit));
  add("series ttl", options.series_ttl == absl::ZeroDuration()
                        ? "never"
                        : absl::FormatDuration(options.series_ttl));
  add("line", absl::StrCat("at most ", kMaxLineBytes, " bytes"));
  add("stream frame", absl::StrCat("at most ", kMaxStreamFrameBytes, " bytes"));
  add("idle partial frame", absl::StrCat("at most ", absl::FormatDuration(options.idle_timeout)));
  add("receive buffer", absl::StrCat(options.ReadBufferBytes(), " bytes asked per UDP socket"));
  add("http requests", absl::StrCat("at most ", options.web_max_requests, " at a time"));
  add("merge interval", absl::FormatDuration(options.merge_interval));
  return text;
}

}  // namespace tallyd
