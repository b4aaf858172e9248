// floor-memory: what the straightforward work costs in memory, step by step, without a socket: line
// ends, + parse, + hash, + look up and add, over the packets that tally-load sends; the bare
// rendering of exposition lines; the bare observation of a histogram. ns of CPU by the thread's
// clock; each figure is the median of the runs' median passes. Prints one JSON object.

#include <immintrin.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "bench/floor/lines.h"
#include "bench/floor/table.h"
#include "bench/load/plan.h"

namespace tallyd::bench {
namespace {

struct Options {
  int runs = 3;
  int passes = 7;
  std::vector<std::string> workloads = {"W1", "W2", "W5"};
};

double CpuNs() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// Makes the compiler believe that the value is used.
template <class T>
void Keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// ns a unit, where pass() does `units` of them.
template <class Pass>
double NsPer(double units, const Options& o, Pass&& pass) {
  std::vector<double> runs;
  for (int run = 0; run < o.runs; ++run) {
    std::vector<double> passes;
    for (int i = 0; i < o.passes; ++i) {
      const double before = CpuNs();
      pass();
      passes.push_back((CpuNs() - before) / units);
    }
    runs.push_back(Median(std::move(passes)));
  }
  return Median(std::move(runs));
}

// --- Lines ---

Plan MustBuild(const std::string& workload) {
  absl::StatusOr<Workload> preset = WorkloadPreset(workload);
  if (preset.ok()) {
    absl::StatusOr<Plan> plan = BuildPlan(*preset);
    if (plan.ok()) return *std::move(plan);
  }
  std::fprintf(stderr, "no workload %s\n", workload.c_str());
  std::exit(2);
}

template <class Handle>
void ForEachPayload(const PacketRing& ring, Handle&& handle) {
  for (size_t i = 0; i < ring.size(); ++i) handle(ring.Payload(ring.At(i)));
}

template <class Handle>
void ForEachParsed(const PacketRing& ring, Handle&& handle) {
  ForEachPayload(ring, [&](absl::string_view payload) {
    ForEachLine(payload, [&](absl::string_view line) {
      ParsedLine parsed;
      if (ParseLine(line, &parsed)) handle(parsed);
    });
  });
}

double LineEndsNs(const PacketRing& ring, const Options& o) {
  return NsPer(static_cast<double>(ring.lines()), o, [&] {
    size_t bytes = 0;
    ForEachPayload(ring, [&](absl::string_view payload) {
      ForEachLine(payload, [&](absl::string_view line) { bytes += line.size(); });
    });
    Keep(bytes);
  });
}

double ParseNs(const PacketRing& ring, const Options& o) {
  return NsPer(static_cast<double>(ring.lines()), o, [&] {
    double sum = 0;
    size_t bytes = 0;
    ForEachParsed(ring, [&](const ParsedLine& line) {
      sum += line.value;
      bytes += line.name.size() + line.tags.size();
    });
    Keep(sum);
    Keep(bytes);
  });
}

double HashNs(const PacketRing& ring, const Options& o) {
  return NsPer(static_cast<double>(ring.lines()), o, [&] {
    double sum = 0;
    size_t hashes = 0;
    ForEachParsed(ring, [&](const ParsedLine& line) {
      sum += line.value;
      hashes ^= absl::Hash<FloorTable::Key>()(FloorTable::KeyOf(line));
    });
    Keep(sum);
    Keep(hashes);
  });
}

double AddNs(const PacketRing& ring, const Options& o) {
  FloorTable table;
  const auto pass = [&] { ForEachParsed(ring, [&](const ParsedLine& line) { table.Add(line); }); };
  pass();
  const double ns = NsPer(static_cast<double>(ring.lines()), o, pass);
  Keep(table.Total());
  return ns;
}

double InsertNs(const PacketRing& ring, const Options& o) {
  return NsPer(static_cast<double>(ring.lines()), o, [&] {
    FloorTable table;
    ForEachParsed(ring, [&](const ParsedLine& line) { table.Add(line); });
    Keep(table.size());
  });
}

std::string LinesJson(const std::string& workload, const Options& o) {
  const Plan plan = MustBuild(workload);
  const PacketRing& ring = plan.rings[0];
  return absl::StrFormat(
      R"("%s":{"lines":%d,"series":%d,"bytes_per_line":%.1f,"lines_per_packet":%.1f,)"
      R"("line_ends":%.2f,"parse":%.2f,"hash":%.2f,"add":%.2f,"with_insertion":%.2f})",
      workload, ring.lines(), plan.workload.series,
      static_cast<double>(ring.bytes()) / static_cast<double>(ring.lines()),
      static_cast<double>(ring.lines()) / static_cast<double>(ring.size()), LineEndsNs(ring, o),
      ParseNs(ring, o), HashNs(ring, o), AddNs(ring, o), InsertNs(ring, o));
}

// --- Exposition ---

// "name{labels} " of each series of W2, and a buffer with room for all lines.
struct Page {
  std::vector<std::string> heads;
  std::vector<char> buffer;
};

Page MakePage() {
  const Catalog catalog(*WorkloadPreset("W2"));
  Page page;
  size_t bytes = 0;
  for (uint32_t series = 0; series < 10'000; ++series) {
    page.heads.push_back(catalog.Exposed(series) + " ");
    bytes += page.heads.back().size() + 32;
  }
  page.buffer.resize(bytes);
  return page;
}

template <class Number>
double ExpositionNs(const std::vector<Number>& values, const Options& o, Page* page) {
  return NsPer(static_cast<double>(page->heads.size()), o, [&] {
    char* at = page->buffer.data();
    for (size_t i = 0; i < page->heads.size(); ++i) {
      const std::string& head = page->heads[i];
      std::memcpy(at, head.data(), head.size());
      at = std::to_chars(at + head.size(), at + head.size() + 32, values[i]).ptr;
      *at++ = '\n';
    }
    Keep(page->buffer.data());
  });
}

std::string ExpositionJson(const Options& o) {
  std::mt19937_64 random(1);
  Page page = MakePage();
  std::vector<uint64_t> integers;
  std::vector<double> quarters, doubles;
  for (size_t i = 0; i < page.heads.size(); ++i) {
    integers.push_back(random() % 1'000'000);
    quarters.push_back(static_cast<double>(random() % 4'000'000) / 4);
    doubles.push_back(static_cast<double>(random() >> 11) * 0x1p-53 * 1e6);
  }
  return absl::StrFormat(R"("exposition_line":{"integer":%.2f,"quarter":%.2f,"full_double":%.2f})",
                         ExpositionNs(integers, o, &page), ExpositionNs(quarters, o, &page),
                         ExpositionNs(doubles, o, &page));
}

// --- Histograms ---

// Written by one thread and read by others at any time, like a shard's cells.
template <size_t kBounds>
struct Histogram {
  void Observe(size_t bucket, double value) {
    buckets[bucket].store(buckets[bucket].load(std::memory_order_relaxed) + 1,
                          std::memory_order_relaxed);
    sum.store(sum.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  }

  std::array<std::atomic<uint32_t>, kBounds + 1> buckets = {};
  std::atomic<double> sum = 0;
};

template <size_t kBounds>
using Bounds = std::array<double, kBounds>;

struct LowerBound {
  template <size_t kBounds>
  static size_t Bucket(const Bounds<kBounds>& bounds, double value) {
    return static_cast<size_t>(std::lower_bound(bounds.begin(), bounds.end(), value) -
                               bounds.begin());
  }
};

struct Linear {
  template <size_t kBounds>
  static size_t Bucket(const Bounds<kBounds>& bounds, double value) {
    size_t i = 0;
    while (i < kBounds && bounds[i] < value) ++i;
    return i;
  }
};

struct Avx2Count {
  // The bounds below the value are as many as its bucket's number.
  template <size_t kBounds>
  [[gnu::target("avx2,popcnt")]] static size_t Bucket(const Bounds<kBounds>& bounds, double value) {
    static_assert(kBounds % 4 == 0);
    const __m256d wanted = _mm256_set1_pd(value);
    __m256i below = _mm256_setzero_si256();
    for (size_t i = 0; i < kBounds; i += 4) {
      const __m256d less = _mm256_cmp_pd(_mm256_loadu_pd(&bounds[i]), wanted, _CMP_LT_OQ);
      below = _mm256_sub_epi64(below, _mm256_castpd_si256(less));
    }
    const __m128i halves =
        _mm_add_epi64(_mm256_castsi256_si128(below), _mm256_extracti128_si256(below, 1));
    return static_cast<size_t>(_mm_extract_epi64(halves, 0) + _mm_extract_epi64(halves, 1));
  }
};

constexpr size_t kObservations = 1 << 16;

struct Observation {
  size_t histogram;
  double value;
};

// Built for AVX2, so that every search may be inlined.
template <class Search, size_t kBounds>
[[gnu::target("avx2,popcnt")]] void ObserveAll(const Bounds<kBounds>& bounds,
                                               const std::vector<Observation>& observations,
                                               Histogram<kBounds>* cells) {
  for (const Observation& x : observations) {
    cells[x.histogram].Observe(Search::Bucket(bounds, x.value), x.value);
  }
}

template <class Search, size_t kBounds>
double ObserveNs(size_t histograms, const Options& o) {
  std::mt19937_64 random(1);
  Bounds<kBounds> bounds;
  for (size_t i = 0; i < kBounds; ++i) {
    bounds[i] = std::pow(10.0, -3 + 5.0 * static_cast<double>(i) / kBounds);
  }
  std::vector<Observation> observations(kObservations);
  for (Observation& x : observations) {
    x.histogram = random() % histograms;
    x.value = std::pow(10.0, -4 + 7 * static_cast<double>(random() >> 11) * 0x1p-53);
  }
  const std::unique_ptr<Histogram<kBounds>[]> cells(new Histogram<kBounds>[histograms]);
  return NsPer(static_cast<double>(observations.size()), o, [&] {
    ObserveAll<Search>(bounds, observations, cells.get());
    Keep(cells[0]);
  });
}

template <size_t kBounds>
std::string HistogramJson(const char* name, size_t histograms, const Options& o) {
  return absl::StrFormat(R"("%s":{"lower_bound":%.2f,"linear":%.2f,"avx2_count":%.2f})", name,
                         ObserveNs<LowerBound, kBounds>(histograms, o),
                         ObserveNs<Linear, kBounds>(histograms, o),
                         ObserveNs<Avx2Count, kBounds>(histograms, o));
}

std::string HistogramsJson(const Options& o) {
  if (!__builtin_cpu_supports("avx2")) return "\"histogram_observe\":null";
  return absl::StrCat("\"histogram_observe\":{", HistogramJson<12>("12_bounds", 1, o), ",",
                      HistogramJson<32>("32_bounds", 1, o), ",",
                      HistogramJson<12>("12_bounds_100k", 100'000, o), ",",
                      HistogramJson<32>("32_bounds_100k", 100'000, o), "}");
}

void Main(const Options& o) {
  std::vector<std::string> parts;
  for (const std::string& workload : o.workloads) parts.push_back(LinesJson(workload, o));
  parts.push_back(ExpositionJson(o));
  parts.push_back(HistogramsJson(o));
  std::printf("{\"unit\":\"ns\",\"runs\":%d,\"passes\":%d,%s}\n", o.runs, o.passes,
              absl::StrJoin(parts, ",").c_str());
}

}  // namespace
}  // namespace tallyd::bench

int main(int argc, char** argv) {
  CLI::App app("Measures the straightforward work on lines, step by step, in memory.");
  tallyd::bench::Options options;
  app.add_option("--runs", options.runs)->check(CLI::Range(1, 100))->capture_default_str();
  app.add_option("--passes", options.passes)->check(CLI::Range(1, 100))->capture_default_str();
  app.add_option("--workloads", options.workloads, "by commas")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  tallyd::bench::Main(options);
}
