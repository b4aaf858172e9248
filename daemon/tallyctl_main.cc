// tallyctl: questions about tallyd, with and without a running one.

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "daemon/admin_client.h"
#include "daemon/capture_file.h"
#include "daemon/catalog/command.h"
#include "daemon/catalog_file.h"
#include "daemon/clock.h"
#include "daemon/exit_code.h"
#include "daemon/explain.h"
#include "daemon/job_run.h"
#include "daemon/line_source.h"
#include "daemon/mapping_file.h"
#include "daemon/migrate_check.h"
#include "daemon/options.h"
#include "daemon/terminal_text.h"
#include "daemon/top_command.h"

namespace tallyd {
namespace {

constexpr char kDefaultSocket[] = "/run/tallyd/admin.sock";
constexpr int64_t kProgressIntervalNs = 500'000'000;

volatile sig_atomic_t interrupted = 0;

void OnInterrupt(int) { interrupted = 1; }

// How lines are read; the flags that tallyd has for it.
struct ReadingFlags {
  std::string dialect;  // empty: not said
  bool no_dogstatsd = false;
  bool no_influxdb = false;
  bool no_librato = false;
  bool no_signalfx = false;
  bool ignore_container_id = false;

  Explainer::Options ToOptions() const {
    Explainer::Options options;
    options.dialect = dialect == "dogstatsd" ? Dialect::kDogstatsd : Dialect::kStatsd;
    options.rules.tags.dogstatsd = !no_dogstatsd;
    options.rules.tags.influxdb = !no_influxdb;
    options.rules.tags.librato = !no_librato;
    options.rules.tags.signalfx = !no_signalfx;
    options.rules.container_id_label = !ignore_container_id;
    return options;
  }
};

struct Arguments {
  ReadingFlags reading;
  std::vector<std::string> lines;
  std::string mapping;
  std::vector<std::string> catalogs;
  std::string capture;
  std::string socket;
  CaptureOptions capturing;
  CatalogArguments catalog;
  TopOptions top;
  std::string top_sort;
  std::string top_interval;
  JobRunOptions run;
  bool json = false;
};

ExitCode Fail(const absl::Status& status, ExitCode code) {
  std::cerr << "tallyctl: " << status.message() << "\n";
  return code;
}

// A number that is written over itself, where somebody looks.
class Progress {
 public:
  void Show(const std::string& text) {
    if (!on_terminal_ || MonotonicNs() - shown_ns_ < kProgressIntervalNs) return;
    shown_ns_ = MonotonicNs();
    std::cerr << "\r\x1b[K" << text << std::flush;
    shown_ = true;
  }
  ~Progress() {
    if (shown_) std::cerr << "\r\x1b[K" << std::flush;
  }

 private:
  const bool on_terminal_ = ::isatty(STDERR_FILENO) != 0;
  int64_t shown_ns_ = MonotonicNs();
  bool shown_ = false;
};

std::string Megabytes(uint64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

// Explain.

ExitCode ExplainByDaemon(const Arguments& arguments) {
  const std::string dialect =
      arguments.reading.dialect.empty() ? "" : "&dialect=" + arguments.reading.dialect;
  bool accepted = true;
  for (const std::string& line : arguments.lines) {
    absl::StatusOr<AdminClient> client = AdminClient::Connect(arguments.socket);
    if (!client.ok()) return Fail(client.status(), ExitCode::kRuntimeFailure);
    const std::string target = absl::StrCat("/explain?line=", PercentEncoded(line), dialect,
                                            "&format=", arguments.json ? "json" : "text");
    std::string text;
    const auto keep = [&text](std::string_view bytes) {
      text.append(bytes);
      return absl::OkStatus();
    };
    const absl::Status status = client->Get(target, keep, nullptr);
    if (!status.ok()) return Fail(status, ExitCode::kRuntimeFailure);
    if (!arguments.json && &line != arguments.lines.data()) std::cout << "\n";
    std::cout << text;
    const char* const refused = arguments.json ? "\"accepted\":false" : "\n  dropped   ";
    accepted = accepted && text.find(refused) == std::string::npos;
  }
  return accepted ? ExitCode::kClean : ExitCode::kRuntimeFailure;
}

ExitCode ExplainHere(const Arguments& arguments) {
  Explainer::Options options = arguments.reading.ToOptions();
  if (!arguments.mapping.empty()) {
    auto mapping = LoadMapping(arguments.mapping);
    if (!mapping.ok()) return Fail(mapping.status(), ExitCode::kUsage);
    options.rules.mapping = *std::move(mapping);
  }
  auto catalog = LoadCatalogIndex(arguments.catalogs, Options().series_limit);
  if (!catalog.ok()) return Fail(catalog.status(), ExitCode::kUsage);
  options.rules.catalog = *std::move(catalog);
  const auto explainer = Explainer::Create(std::move(options));
  if (!explainer.ok()) return Fail(explainer.status(), ExitCode::kUsage);
  const Mapping* const mapping = (*explainer)->options().rules.mapping.get();
  const MappingConfig* const config = mapping == nullptr ? nullptr : &mapping->config();
  bool accepted = true;
  for (const std::string& line : arguments.lines) {
    const Explanation explanation = (*explainer)->Explain(line, nullptr);
    if (!arguments.json && &line != arguments.lines.data()) std::cout << "\n";
    std::cout << (arguments.json ? ExplanationJson(explanation, config)
                                 : ExplanationText(explanation, config));
    accepted = accepted && explanation.accepted();
  }
  return accepted ? ExitCode::kClean : ExitCode::kRuntimeFailure;
}

// Capture.

ExitCode RunCapture(const Arguments& arguments) {
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  for (const int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &action, nullptr);
  absl::StatusOr<std::string> summary;
  {
    Progress progress;
    const int64_t began_ns = MonotonicNs();
    const auto show = [&](uint64_t bytes, uint64_t lines) {
      const double seconds = static_cast<double>(MonotonicNs() - began_ns) * 1e-9;
      progress.Show(absl::StrFormat("%.0f of %d s, %d lines, %s", seconds,
                                    arguments.capturing.seconds, lines, Megabytes(bytes)));
    };
    summary = CaptureToFile(arguments.capturing, show, [] { return interrupted != 0; });
  }
  if (!summary.ok()) return Fail(summary.status(), ExitCode::kRuntimeFailure);
  std::cerr << *summary << "\n";
  return ExitCode::kClean;
}

// Migrate check.

absl::Status Replay(const std::string& path, MigrateCheck* check) {
  absl::StatusOr<LineSource> source = LineSource::Open(path, kMaxLineBytes);
  if (!source.ok()) return source.status();
  Progress progress;
  std::string line;
  while (true) {
    const LineSource::Next next = source->Read(&line);
    if (next == LineSource::Next::kEnd) return source->status();
    next == LineSource::Next::kLine ? check->Add(line) : check->AddTooLong();
    const uint64_t all = source->bytes_in_all();
    progress.Show(absl::StrCat(Megabytes(source->bytes_read()),
                               all == 0 ? "" : absl::StrCat(" of ", Megabytes(all))));
  }
}

ExitCode Print(const MigrateReport& report, bool json) {
  std::cout << (json ? MigrateJson(report) : MigrateText(report));
  return report.differs() ? ExitCode::kRuntimeFailure : ExitCode::kClean;
}

ExitCode RunMigrateCheck(const Arguments& arguments) {
  Explainer::Options options = arguments.reading.ToOptions();
  if (::access(arguments.mapping.c_str(), R_OK) != 0) {
    return Fail(absl::NotFoundError(absl::StrCat(arguments.mapping, ": ", std::strerror(errno))),
                ExitCode::kUsage);
  }
  auto mapping = LoadMapping(arguments.mapping);
  if (!mapping.ok()) {
    return Print(RefusedMapping(arguments.mapping, mapping.status()), arguments.json);
  }
  options.rules.mapping = *std::move(mapping);
  const auto check = MigrateCheck::Create(std::move(options));
  if (!check.ok()) return Fail(check.status(), ExitCode::kUsage);
  if (!arguments.capture.empty()) {
    const absl::Status status = Replay(arguments.capture, check->get());
    if (!status.ok()) return Fail(status, ExitCode::kUsage);
  }
  return Print((*check)->Report(), arguments.json);
}

// The command line.

// Commands and flags with what they mean below them, for 80 columns.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool positional) const override {
    // Checks append what they allow; the description says it better.
    std::string value = option->get_type_name();
    value = value.empty() ? "" : "=" + value.substr(0, value.find(':'));
    const std::string name = positional ? option->get_name(true) : "--" + Long(option) + value;
    return absl::StrCat("  ", name, "\n      ", Wrapped(option->get_description(), 6), "\n");
  }
  std::string make_description(const CLI::App* app) const override {
    return Wrapped(app->get_description(), 0) + "\n";
  }
  std::string make_footer(const CLI::App* app) const override {
    return app->get_footer().empty() ? "" : Wrapped(app->get_footer(), 0) + "\n";
  }
  std::string make_subcommand(const CLI::App* command) const override {
    return absl::StrCat("  ", command->get_name(), "\n      ",
                        Wrapped(command->get_description(), 6), "\n");
  }

 private:
  static std::string Long(const CLI::Option* option) {
    return option->get_lnames().empty() ? "" : option->get_lnames().front();
  }
};

void AddReadingFlags(CLI::App* command, ReadingFlags* flags) {
  command
      ->add_option("--dialect", flags->dialect,
                   "what a signed gauge value means: statsd (a change) or dogstatsd (the value). "
                   "Default statsd; of a running tallyd that of its listeners, if they agree")
      ->check(CLI::IsMember({"statsd", "dogstatsd"}))
      ->type_name("DIALECT");
  command->add_flag("--no-parse-dogstatsd-tags", flags->no_dogstatsd,
                    "do not read tags as in a:1|c|#k:v");
  command->add_flag("--no-parse-influxdb-tags", flags->no_influxdb, "nor as in a,k=v:1|c");
  command->add_flag("--no-parse-librato-tags", flags->no_librato, "nor as in a#k=v:1|c");
  command->add_flag("--no-parse-signalfx-tags", flags->no_signalfx, "nor as in a[k=v]:1|c");
  command->add_flag("--ignore-container-id", flags->ignore_container_id,
                    "make no label of container ids");
}

CLI::App* AddExplain(CLI::App* app, Arguments* arguments) {
  CLI::App* const explain = app->add_subcommand(
      "explain",
      "Say what becomes of StatsD lines: their samples, the mapping rule, the series and its "
      "value, or why they are dropped; and what statsd_exporter would have made of them, where "
      "that differs.");
  explain
      ->add_option("LINE", arguments->lines,
                   "a line as a client sends it; several are possible. Put -- before one that "
                   "begins with a dash")
      ->required();
  CLI::Option* const mapping =
      explain->add_option("--mapping", arguments->mapping, "mapping rules, as tallyd reads them")
          ->type_name("FILE");
  CLI::Option* const socket =
      explain
          ->add_option("--socket", arguments->socket,
                       "ask the tallyd whose --admin.socket this is: its rules, the types of its "
                       "families, and how many series it has")
          ->type_name("PATH");
  mapping->excludes(socket);
  explain->add_option("--catalog", arguments->catalogs, "a catalog, as tallyd reads it; repeatable")
      ->type_name("FILE")
      ->excludes(socket);
  AddReadingFlags(explain, &arguments->reading);
  explain->add_flag("--json", arguments->json,
                    "one JSON object a line; docs/tallyctl.md has its keys");
  explain->footer("Exit code: 0 if every sample is accepted, 1 if one is dropped, 2 usage.");
  return explain;
}

CLI::App* AddCapture(CLI::App* app, Arguments* arguments) {
  CaptureOptions* const capturing = &arguments->capturing;
  capturing->socket = kDefaultSocket;
  CLI::App* const capture = app->add_subcommand(
      "capture",
      "Record the lines that a running tallyd takes in. It never slows tallyd down: lines that "
      "come faster than they can be recorded are left out and counted.");
  capture->add_option("FILE", capturing->file, "where to; \"-\" is standard output")->required();
  capture
      ->add_option("--socket", capturing->socket,
                   "the --admin.socket of that tallyd. Default /run/tallyd/admin.sock")
      ->type_name("PATH");
  capture
      ->add_option("--seconds", capturing->seconds,
                   "how long, 1 to 3600. Default 10; Ctrl-C ends it earlier and keeps the file")
      ->check(CLI::Range(uint64_t{1}, uint64_t{3600}))
      ->type_name("N");
  capture->add_option("--bytes", capturing->bytes, "how much at most. Default 67108864, 64 MiB")
      ->check(CLI::Range(uint64_t{1}, uint64_t{64} << 30))
      ->type_name("N");
  capture->footer(
      "The last line of FILE begins with \"# \" and says what was recorded and what was left out. "
      "Exit code: 0 if the file is there, 1 if not, 2 usage.");
  return capture;
}

CLI::App* AddTop(CLI::App* app, Arguments* arguments) {
  TopOptions* const top = &arguments->top;
  top->socket = kDefaultSocket;
  CLI::App* const command = app->add_subcommand(
      "top",
      "Show what a running tallyd is doing: families, senders, listeners, drops, budgets; live, "
      "until q is pressed.");
  command
      ->add_option("--socket", top->socket,
                   "the --admin.socket of that tallyd. Default /run/tallyd/admin.sock")
      ->type_name("PATH");
  CLI::Option* const once = command->add_flag(
      "--once", top->once, "print it as text and end; rates are those of one interval");
  command
      ->add_flag("--json", top->json, "with --once: one JSON object; docs/tallyctl.md has its keys")
      ->needs(once);
  command
      ->add_option("--sort", arguments->top_sort,
                   "what tables are sorted by: rate, total, series, dropped, folded or name. "
                   "Default rate")
      ->type_name("KEY");
  command
      ->add_option("--interval", arguments->top_interval,
                   "how often to ask, as 500ms or 2s; with --once 0 asks but once, and knows no "
                   "rates. Default 1s")
      ->type_name("DURATION");
  command->footer("Exit code: 0, or 1 if tallyd does not answer, 2 usage.");
  return command;
}

ExitCode Top(const Arguments& arguments) {
  TopOptions options = arguments.top;
  if (!arguments.top_sort.empty()) {
    const std::optional<TopSort> sort = TopSortOf(arguments.top_sort);
    if (!sort.has_value()) {
      return Fail(absl::InvalidArgumentError(
                      absl::StrCat("--sort is rate, total, series, dropped, folded or name, not \"",
                                   Printable(arguments.top_sort), "\"")),
                  ExitCode::kUsage);
    }
    options.sort = *sort;
  }
  const std::string& interval = arguments.top_interval;
  const bool read = interval.empty() || absl::ParseDuration(interval, &options.interval);
  const absl::Duration least = options.once ? absl::ZeroDuration() : absl::Milliseconds(100);
  if (!read || options.interval < least || options.interval > absl::Hours(1)) {
    return Fail(
        absl::InvalidArgumentError("--interval is a duration of 100ms to 1h, or 0 with --once"),
        ExitCode::kUsage);
  }
  return RunTop(options);
}

CLI::App* AddMigrateCheck(CLI::App* app, Arguments* arguments) {
  CLI::App* const migrate =
      app->add_subcommand("migrate", "Come over from statsd_exporter: see \"migrate check\".");
  migrate->require_subcommand(1);
  CLI::App* const check = migrate->add_subcommand(
      "check",
      "Replay captured lines through a mapping file as tallyd reads them and as statsd_exporter "
      "does, and list every difference, with the first line that shows it.");
  check
      ->add_option("MAPPING", arguments->mapping,
                   "the mapping file of statsd_exporter; /dev/null if there is none")
      ->required();
  check->add_option("CAPTURE", arguments->capture,
                    "lines, as \"tallyctl capture\" records them; one that has no colon is a name "
                    "alone, and is tried as counter, gauge and timer. \"-\" is standard input. "
                    "Without it only the mapping file is looked at");
  AddReadingFlags(check, &arguments->reading);
  check->add_flag("--json", arguments->json, "one JSON object; docs/tallyctl.md has its keys");
  check->footer("Exit code: 0 if there is no difference, 1 if there is one, 2 usage.");
  return check;
}

CLI::App* AddRun(CLI::App* app, JobRunOptions* options) {
  options->socket = kDefaultSocket;
  CLI::App* const run = app->add_subcommand(
      "run",
      "Run a command as a job of a running tallyd. What the command sends to the address that it "
      "finds in STATSD_... and DD_... variables gets the job's labels; when it ends, however it "
      "does, tallyd shows how long it took and how it ended.");
  run->add_option("--job", options->job, "the label job")->required()->type_name("NAME");
  run->add_option("--instance", options->instance, "the label instance")->type_name("NAME");
  run->add_option("--grouping", options->grouping, "a further label; repeatable")
      ->type_name("LABEL=VALUE")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  run->add_option("--ttl", options->ttl,
                  "how long tallyd shows the job after its end; 0: until it is restarted. Default "
                  "48h")
      ->type_name("DURATION");
  run->add_option("--socket", options->socket,
                  "the --admin.socket of that tallyd. Default /run/tallyd/admin.sock")
      ->type_name("PATH");
  run->add_flag("--require", options->require,
                "run nothing if tallyd does not answer. Without it the command runs all the same");
  run->add_option("CMD", options->command, "the command and its arguments, after --")->required();
  run->footer(
      "Exit code: the command's; 128 and the number of the signal that ended it; 127 or 126 if it "
      "cannot be run; 1 with --require and without tallyd, 2 usage.");
  return run;
}

ExitCode Main(int argc, char** argv) {
  CLI::App app("tallyctl answers questions about tallyd.", "tallyctl");
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  app.set_version_flag("--version", VersionText("tallyctl"), "print the version and exit");
  app.set_help_flag("-h,--help", "print this and exit");
  Arguments arguments;
  const CLI::App* const explain = AddExplain(&app, &arguments);
  const CLI::App* const capture = AddCapture(&app, &arguments);
  const CLI::App* const top = AddTop(&app, &arguments);
  AddMigrateCheck(&app, &arguments);
  const CLI::App* const catalog = AddCatalogCommand(&app, &arguments.catalog);
  const CLI::App* const run = AddRun(&app, &arguments.run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? ExitCode::kClean : ExitCode::kUsage;
  }
  if (explain->parsed()) {
    return arguments.socket.empty() ? ExplainHere(arguments) : ExplainByDaemon(arguments);
  }
  if (catalog->parsed()) return RunCatalogCommand(*catalog, arguments.catalog);
  if (top->parsed()) return Top(arguments);
  if (run->parsed()) return static_cast<ExitCode>(RunJob(arguments.run));
  return capture->parsed() ? RunCapture(arguments) : RunMigrateCheck(arguments);
}

}  // namespace
}  // namespace tallyd

int main(int argc, char** argv) { return static_cast<int>(tallyd::Main(argc, argv)); }
