// shard-cost: what a shard and the merger cost in memory, without a socket, over the packets that
// tally-load sends: ns of CPU per line applied, per series merged, per line rendered. The same
// streams as floor-memory, so the two stand side by side. Prints one JSON object.

#include <malloc.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bench/load/plan.h"
#include "core/expose/text.h"
#include "core/merge/merger.h"
#include "core/shard/cells.h"
#include "core/shard/shard.h"

namespace tallyd::bench {
namespace {

// One recvmmsg call brings so many datagrams.
constexpr size_t kDatagramsPerBatch = 64;

int64_t CpuNs() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

template <class Work>
double Timed(Work&& work) {
  const int64_t before = CpuNs();
  work();
  return static_cast<double>(CpuNs() - before);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// A mapping of so many rules, each of which a name is held against when it is new.
Rules::Options Mapped(int rules) {
  if (rules == 0) return {};
  MappingConfig config;
  for (int i = 0; i < rules; ++i) {
    MappingRule rule;
    rule.match = absl::StrCat("service", i, ".*.*");
    rule.name = "service_${1}_${2}";
    config.rules.push_back(std::move(rule));
  }
  return {.mapping = Mapping::Compile(std::move(config)).value()};
}

// A shard with its merger, fed from a ring of packets.
class Subject {
 public:
  explicit Subject(int rules)
      : rules_(RuleBook::Create(Mapped(rules)).value()),
        families_(4'000'000, 1),
        budget_({.series = 2'000'000, .family_series = 2'000'000}, 1),
        encoder_(TextFormat::kPrometheus004, ContentCoding::kIdentity) {
    shard_ =
        Shard::Create({.index = 0, .hash_seed = 1}, rules_.get(), &families_, &budget_).value();
    merger_ = std::make_unique<Merger>(std::vector<ShardMemory*>{&shard_->memory()}, rules_.get(),
                                       &families_, &budget_);
    variant_ = merger_->AddVariant(&encoder_);
  }

  // Applies the packets [from, to) of the ring.
  void Apply(const PacketRing& ring, size_t from, size_t to) {
    for (size_t i = from; i < to;) {
      shard_->BeginBatch(++now_ns_);
      for (const size_t end = std::min(to, i + kDatagramsPerBatch); i < end; ++i) {
        const absl::string_view payload = ring.Payload(ring.At(i));
        // The ring is this program's own; the byte that Apply writes and puts back is its LF.
        shard_->Apply({}, const_cast<char*>(payload.data()), payload.size());
      }
      shard_->EndBatch();
    }
  }
  MergeStats Merge() { return merger_->Merge(++now_ns_); }
  std::shared_ptr<const Snapshot> Render() { return merger_->Render(variant_); }
  const Merger& merger() const { return *merger_; }

 private:
  std::unique_ptr<RuleBook> rules_;
  FamilyTypes families_;
  SeriesBudget budget_;
  TextEncoder encoder_;
  std::unique_ptr<Shard> shard_;
  std::unique_ptr<Merger> merger_;
  int variant_ = 0;
  int64_t now_ns_ = 1;
};

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double LinesOf(const Snapshot& snapshot) {
  double lines = 0;
  for (const auto& section : snapshot.sections) {
    for (const PageBuffer& page : section) {
      lines += static_cast<double>(std::count(page->begin(), page->end(), '\n'));
    }
  }
  return lines;
}

std::string WorkloadJson(const std::string& name, int passes, int rules) {
  absl::StatusOr<Workload> workload = WorkloadPreset(name);
  if (!workload.ok()) {
    std::fprintf(stderr, "no workload %s\n", name.c_str());
    std::exit(2);
  }
  if (workload->series > 100'000) workload->ring_lines = 4 * uint64_t{workload->series};
  const Plan plan = BuildPlan(*workload).value();
  const PacketRing& ring = plan.rings[0];
  const auto lines = static_cast<double>(ring.lines());

  const double resident = ResidentBytes();
  Subject subject(rules);
  const double first = Timed([&] { subject.Apply(ring, 0, ring.size()); }) / lines;
  std::vector<double> applies;
  for (int i = 0; i < passes; ++i) {
    applies.push_back(Timed([&] { subject.Apply(ring, 0, ring.size()); }) / lines);
  }
  const double merge_new = Timed([&] { subject.Merge(); });
  const auto series = static_cast<double>(subject.merger().series());
  const double resident_per_series = (ResidentBytes() - resident) / series;
  std::shared_ptr<const Snapshot> snapshot;
  const double render_first = Timed([&] { snapshot = subject.Render(); });
  const double exposed = LinesOf(*snapshot);
  // As when a scraper has got its answer.
  snapshot.reset();
  subject.Apply(ring, 0, ring.size());
  const double merge_all = Timed([&] { subject.Merge(); });
  const double render_all = Timed([&] { subject.Render(); });
  const double render_none = Timed([&] { subject.Render(); });
  // A hundredth of the series, in another order than they came in, so that they lie everywhere.
  workload->seed += 1;
  const Plan shuffled = BuildPlan(*workload).value();
  const PacketRing& other = shuffled.rings[0];
  subject.Apply(other, 0,
                static_cast<size_t>(series / 100 * static_cast<double>(other.size()) / lines));
  MergeStats some;
  const double merge_some = Timed([&] { some = subject.Merge(); });
  return absl::StrFormat(
      R"("%s":{"series":%.0f,"apply":%.1f,"apply_first":%.1f,"merge_new_ms":%.2f,)"
      R"("merge_all_ms":%.2f,"merge_1_percent_ms":%.2f,"merge_1_percent_changed":%d,)"
      R"("exposed_lines":%.0f,"render_first_ns_per_line":%.1f,"render_all_ns_per_line":%.1f,)"
      R"("render_unchanged_ns_per_line":%.3f,"resident_bytes_per_series":%.0f})",
      name, series, Median(applies), first, merge_new / 1e6, merge_all / 1e6, merge_some / 1e6,
      some.series_changed, exposed, render_first / exposed, render_all / exposed,
      render_none / exposed, resident_per_series);
}

// ns to add to one of `count` cells, cells and values by turns.
template <class AddTo>
double CellNs(size_t count, uint32_t words, AddTo&& add) {
  constexpr size_t kAdds = 4'000'000;
  std::vector<CellWord> cells(count * words);
  std::vector<double> values(512);
  std::mt19937_64 random(1);
  for (double& value : values)
    value = std::exp2(static_cast<double>(random() % 16'000) / 1000 - 10);
  std::vector<double> passes;
  for (int pass = 0; pass < 7; ++pass) {
    passes.push_back(Timed([&] {
                       for (size_t i = 0; i < kAdds; ++i) {
                         add(cells.data() + i * 7919 % count * words, values[i % values.size()],
                             static_cast<int64_t>(i + 1));
                       }
                     }) /
                     kAdds);
  }
  return Median(std::move(passes));
}

std::string CellsJson() {
  const HistogramLayout layout = HistogramLayout::Default();
  const uint32_t histogram_words = HistogramCell::Words(layout.bounds.size());
  const auto count = [](CellWord* cell, double, int64_t) { CounterCell(cell).Add(uint64_t{1}); };
  const auto observe = [&](CellWord* cell, double value, int64_t now_ns) {
    HistogramCell(cell, layout).Observe(value, now_ns);
  };
  return absl::StrFormat(
      R"("cells":{"counter_add":%.1f,"histogram_observe":%.1f,"counter_add_2000":%.1f,)"
      R"("histogram_observe_2000":%.1f})",
      CellNs(8, CounterCell::kWords, count), CellNs(8, histogram_words, observe),
      CellNs(2000, CounterCell::kWords, count), CellNs(2000, histogram_words, observe));
}

}  // namespace
}  // namespace tallyd::bench

int main(int argc, char** argv) {
  std::vector<std::string> workloads = {"W1", "W2", "W5"};
  int passes = 7;
  int rules = 0;
  CLI::App app("What a shard and the merger cost in memory, ns of CPU per line");
  app.add_option("--workload", workloads, "W1, W2, W4 or W5");
  app.add_option("--passes", passes, "passes, of which the median counts");
  app.add_option("--rules", rules, "mapping rules, none of which fits");
  CLI11_PARSE(app, argc, argv);
  // As the daemon does.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  std::vector<std::string> parts = {tallyd::bench::CellsJson()};
  for (const std::string& workload : workloads) {
    parts.push_back(tallyd::bench::WorkloadJson(workload, passes, rules));
  }
  std::printf("{%s}\n", absl::StrJoin(parts, ",").c_str());
}
