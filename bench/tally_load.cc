// tally-load: sends StatsD lines prepared from a seed, and gives an account of them.
//
//   tally-load --to udp://127.0.0.1:8125 --workload W1 --rate 3.5M --seconds 5
//   tally-load --to unixgram:///run/tallyd.sock --workload W4 --wait --lines 1M --expect totals
//
// The account is one JSON object on the standard output (see account.h); --expect writes what a
// receiver must show for it (see expectation.h). Exit status: 0 when the run was made, whatever
// the kernel refused; 1 when it could not be; 2 for wrong options.

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "bench/load/account.h"
#include "bench/load/expectation.h"
#include "bench/load/plan.h"
#include "bench/load/run.h"
#include "bench/load/transport.h"
#include "bench/load/workload.h"

namespace tallyd::bench {
namespace {

std::atomic<bool> stop_requested = false;

// The command line. What is not given comes from the workload.
struct Options {
  std::string to;
  std::string workload = "W1";
  std::optional<uint64_t> seed, churn, ring_lines;
  std::optional<uint32_t> series, tags, names, packet_size, lines_per_packet, packing, senders;
  std::optional<std::string> mix, prefix;
  std::optional<double> sample_rates, gauge_deltas;
  uint64_t lines = 0;
  double seconds = 0;
  double rate = 0;
  uint64_t once_each = 0;
  bool wait = false;
  bool hold = false;
  bool latency = false;
  size_t batch = Sender::kMostPackets;
  int64_t tick_us = 500;
  int cpu = -1;
  std::string json;
  std::string expect;
};

void DeclareWorkload(CLI::App* app, Options* o) {
  const CLI::AsNumberWithUnit count(
      std::map<std::string, uint64_t>{{"k", 1'000}, {"M", 1'000'000}});
  app->add_option("--workload", o->workload, "W1 to W5: what the options below start from")
      ->check(CLI::IsMember({"W1", "W2", "W3", "W4", "W5"}))
      ->capture_default_str();
  app->add_option("--seed", o->seed, "equal seeds and options give equal packets (1)");
  app->add_option("--series", o->series, "number of series (of each generation)")->transform(count);
  app->add_option("--tags", o->tags, "DogStatsD tags a line");
  app->add_option("--names", o->names, "metric names that the series share when they have tags");
  app->add_option("--mix", o->mix, "shares of the series, counters:gauges:timers[:sets]");
  app->add_option("--packet-size", o->packet_size, "longest payload of a packet, bytes");
  app->add_option("--lines-per-packet", o->lines_per_packet, "most lines a packet, 0: what fits");
  app->add_option("--packing", o->packing, "values a line (sets excepted)");
  app->add_option("--sample-rates", o->sample_rates,
                  "fraction of counter and timer lines with |@0.5");
  app->add_option("--gauge-deltas", o->gauge_deltas, "fraction of gauge lines that are changes");
  app->add_option("--prefix", o->prefix, "first part of every metric name (load)");
  app->add_option("--churn", o->churn, "lines after which all series get new names, 0: never")
      ->transform(count);
  app->add_option("--senders", o->senders, "sockets; a gauge's lines all leave through one (1)");
  app->add_option("--ring", o->ring_lines, "lines to prepare; they are sent over and over")
      ->transform(count);
}

void DeclareSending(CLI::App* app, Options* o) {
  const CLI::AsNumberWithUnit count(
      std::map<std::string, uint64_t>{{"k", 1'000}, {"M", 1'000'000}});
  const CLI::AsNumberWithUnit rate(std::map<std::string, double>{{"k", 1e3}, {"M", 1e6}});
  app->add_option("--to", o->to,
                  "udp://HOST:PORT, tcp://HOST:PORT, unixgram:///PATH, unixstream:///PATH or "
                  "unixseqpacket:///PATH")
      ->required();
  app->add_option("--lines", o->lines, "stop after so many lines")->transform(count);
  app->add_option("--seconds", o->seconds, "stop after so long")->check(CLI::NonNegativeNumber);
  app->add_option("--once-each", o->once_each, "send each series exactly so many lines, in order");
  app->add_option("--rate", o->rate, "lines a second, 0: flat out")->transform(rate);
  app->add_option("--tick-us", o->tick_us, "pacing: wake up no more often than this")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app->add_flag("--wait", o->wait, "wait for room instead of counting packets as refused");
  app->add_flag(
      "--hold", o->hold,
      "when prepared and connected say \"ready\" on the standard error, and begin after a "
      "line on the standard input");
  app->add_option("--batch", o->batch, "packets a call")
      ->check(CLI::Range(size_t{1}, Sender::kMostPackets))
      ->capture_default_str();
  app->add_flag("--latency", o->latency, "send packets singly and time each call");
  app->add_option("--cpu", o->cpu, "run on this CPU only");
  app->add_option("--json", o->json, "write the account to this file too");
  app->add_option("--expect", o->expect, "write the exact totals of each series to this file");
}

template <class T>
void Override(const std::optional<T>& given, T* value) {
  if (given.has_value()) *value = *given;
}

// Lines that the run is going to offer, 0 if that is not known beforehand.
uint64_t LinesWanted(const Options& o) {
  if (o.lines > 0) return o.lines;
  return o.seconds > 0 && o.rate > 0 ? static_cast<uint64_t>(std::ceil(o.seconds * o.rate)) : 0;
}

absl::StatusOr<Workload> ToWorkload(const Options& o) {
  absl::StatusOr<Workload> w = WorkloadPreset(o.workload);
  if (!w.ok()) return w;
  Override(o.seed, &w->seed);
  Override(o.series, &w->series);
  Override(o.tags, &w->tags);
  Override(o.names, &w->names);
  Override(o.packet_size, &w->packet_bytes);
  Override(o.lines_per_packet, &w->lines_per_packet);
  Override(o.packing, &w->packing);
  Override(o.sample_rates, &w->sampled);
  Override(o.gauge_deltas, &w->gauge_changes);
  Override(o.prefix, &w->prefix);
  Override(o.churn, &w->churn_lines);
  Override(o.senders, &w->senders);
  w->sequential = o.once_each > 0;
  if (o.mix.has_value()) {
    absl::StatusOr<std::array<uint32_t, kKinds>> mix = ParseMix(*o.mix);
    if (!mix.ok()) return mix.status();
    w->mix = *mix;
  }
  w->ring_lines = DefaultRingLines(*w, LinesWanted(o));
  if (!w->sequential) Override(o.ring_lines, &w->ring_lines);
  return w;
}

// Without a number of lines and without a time, every prepared packet is sent once.
std::vector<uint64_t> Quotas(const Options& o, Plan* plan) {
  if (o.once_each > 0) return QuotasForLines(o.once_each * plan->ring_lines, plan);
  if (o.lines > 0) return QuotasForLines(o.lines, plan);
  if (o.seconds > 0) return {};
  return QuotasForLines(plan->ring_lines, plan);
}

absl::StatusOr<std::vector<std::unique_ptr<Sender>>> ConnectAll(const Options& o) {
  absl::StatusOr<Target> target = ParseTarget(o.to);
  if (!target.ok()) return target.status();
  std::vector<std::unique_ptr<Sender>> senders;
  for (uint32_t i = 0; i < o.senders.value_or(1); ++i) {
    absl::StatusOr<std::unique_ptr<Sender>> sender = Connect(*target, o.wait);
    if (!sender.ok()) return sender.status();
    senders.push_back(*std::move(sender));
  }
  return senders;
}

absl::Status PinTo(int cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<size_t>(cpu), &cpus);
  if (sched_setaffinity(0, sizeof(cpus), &cpus) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot run on CPU ", cpu));
}

// A second signal ends the process at once.
void StopOnSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_requested.store(true, std::memory_order_relaxed); };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

// Lets whoever measures a receiver begin when the sender does.
void HoldUntilLine() {
  std::fputs("ready\n", stderr);
  for (int c = std::getchar(); c != '\n' && c != EOF;) c = std::getchar();
}

absl::Status WriteAccount(const Options& o, const std::string& json) {
  std::puts(json.c_str());
  if (o.json.empty()) return absl::OkStatus();
  std::ofstream file(o.json, std::ios::binary);
  file << json << '\n';
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", o.json));
  return absl::OkStatus();
}

absl::Status Main(const Options& o) {
  if (o.cpu >= 0) {
    if (absl::Status status = PinTo(o.cpu); !status.ok()) return status;
  }
  absl::StatusOr<Workload> workload = ToWorkload(o);
  if (!workload.ok()) return workload.status();
  absl::StatusOr<Plan> plan = BuildPlan(*workload);
  if (!plan.ok()) return plan.status();
  RunOptions options = {.lines_per_second = o.rate,
                        .seconds = o.seconds,
                        .quotas = Quotas(o, &*plan),
                        .wait = o.wait,
                        .batch = o.latency ? 1 : o.batch,
                        .latency = o.latency,
                        .tick_ns = o.tick_us * 1000};
  auto senders = ConnectAll(o);
  if (!senders.ok()) return senders.status();

  // Without this the kernel lets a paced sender oversleep by 50 µs.
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  LoadRun run(*plan, std::move(options), *std::move(senders));
  if (o.hold) HoldUntilLine();
  StopOnSignals();
  const Account account = run.Run(stop_requested);

  absl::Status status = WriteAccount(o, AccountJson(account, *plan, o.to));
  if (status.ok() && !o.expect.empty()) status = Expectation(*plan, run.logs()).WriteTo(o.expect);
  return status;
}

}  // namespace
}  // namespace tallyd::bench

int main(int argc, char** argv) {
  CLI::App app("Sends StatsD lines prepared from a seed, and gives an account of them.");
  tallyd::bench::Options options;
  tallyd::bench::DeclareSending(&app, &options);
  tallyd::bench::DeclareWorkload(&app, &options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const absl::Status status = tallyd::bench::Main(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "tally-load: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 1;
}
