// What a key costs when it is seen first: finding its rule among 10, 1,000 and 10,000.
//
//   build/release/bin/mapping_bench
//
// Steady state has no figure here: a key is mapped once, and what follows never asks the rules.
//
// The rules are of the kind that real files have: a service's name, then some segments of which one
// or two vary. "Late" names fit one of the last tenth of the file's rules, "missed" ones fit none
// but look alike. Every call has another name, so little is learnt from one call for the next.
// Loose regexes begin with a group and match anywhere.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/rules/mapping.h"

namespace tallyd {
namespace {

constexpr int kNames = 4096;

enum Kind { kGlobs, kUnorderedGlobs, kRegexes, kLooseRegexes };
enum Case { kLate, kMissed };

std::string Service(int number) { return "service" + std::to_string(number); }

MappingRule MakeRule(Kind kind, int number) {
  MappingRule rule;
  rule.name = "requests_${1}";
  rule.labels = {{"service", Service(number)}, {"host", "$2"}};
  switch (kind) {
    case kGlobs:
    case kUnorderedGlobs:
      rule.match = "app." + Service(number) + ".*.hosts.*.time";
      break;
    case kRegexes:
      rule.match_type = MatchType::kRegex;
      rule.match = "^app\\." + Service(number) + R"(\.([^.]+)\.hosts\.([^.]+)\.time$)";
      break;
    case kLooseRegexes:
      rule.match_type = MatchType::kRegex;
      rule.match = R"((\w+)\.)" + Service(number) + R"(\.\w+\.hosts\.([\w-]+)\.)";
      break;
  }
  return rule;
}

std::shared_ptr<const Mapping> MakeMapping(Kind kind, int rules) {
  MappingConfig config;
  config.glob_disable_ordering = kind == kUnorderedGlobs;
  for (int i = 0; i < rules; ++i) config.rules.push_back(MakeRule(kind, i));
  auto mapping = Mapping::Compile(std::move(config));
  if (!mapping.ok()) std::abort();
  return *std::move(mapping);
}

std::vector<std::string> MakeNames(Case which, int rules) {
  std::vector<std::string> names;
  for (int i = 0; i < kNames; ++i) {
    const int late = rules - 1 - i * 7919 % std::max(1, rules / 10);
    const std::string service = which == kLate ? Service(late) : "servant" + std::to_string(i);
    names.push_back("app." + service + ".get.hosts.web-" + std::to_string(i) + ".time");
  }
  return names;
}

void FirstSeen(benchmark::State& state, Kind kind, Case which) {
  const int rules = static_cast<int>(state.range(0));
  const std::shared_ptr<const Mapping> mapping = MakeMapping(kind, rules);
  const std::vector<std::string> names = MakeNames(which, rules);
  size_t next = 0;
  Mapped mapped;
  for (auto _ : state) {
    const bool found = mapping->Map(names[next], SampleType::kTimer, &mapped);
    if (found != (which == kLate)) state.SkipWithError("not what was to be found");
    next = (next + 1) % names.size();
  }
}

void Compile(benchmark::State& state, Kind kind) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(MakeMapping(kind, static_cast<int>(state.range(0))));
  }
}

// NOLINTBEGIN(readability-identifier-naming)
#define TALLYD_FIRST_SEEN(kind)                                                               \
  BENCHMARK_CAPTURE(FirstSeen, kind##_Late, k##kind, kLate)->Arg(10)->Arg(1000)->Arg(10'000); \
  BENCHMARK_CAPTURE(FirstSeen, kind##_Missed, k##kind, kMissed)->Arg(10)->Arg(1000)->Arg(10'000)
// NOLINTEND(readability-identifier-naming)

TALLYD_FIRST_SEEN(Globs);
TALLYD_FIRST_SEEN(UnorderedGlobs);
TALLYD_FIRST_SEEN(Regexes);
TALLYD_FIRST_SEEN(LooseRegexes);

BENCHMARK_CAPTURE(Compile, Globs, kGlobs)->Arg(10'000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Compile, UnorderedGlobs, kUnorderedGlobs)
    ->Arg(10'000)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Compile, Regexes, kRegexes)->Arg(10'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tallyd
