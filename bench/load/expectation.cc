#include "bench/load/expectation.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tallyd::bench {
namespace {

// The shortest text that reads back as the same double.
std::string Shortest(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return std::string(text, end);
}

size_t BucketOf(int32_t ms) {
  const auto bound = std::lower_bound(kBucketTopsMs.begin(), kBucketTopsMs.end(), ms);
  return static_cast<size_t>(bound - kBucketTopsMs.begin());
}

std::string BucketsText(const SeriesTotal& total) {
  std::string out;
  for (size_t i = 0; i < kBucketTopsMs.size(); ++i) {
    absl::StrAppend(&out, "\"", Shortest(kBucketTopsMs[i] / 1000.0), "\":", total.buckets[i], ",");
  }
  absl::StrAppend(&out, "\"+Inf\":", total.buckets.back());
  return out;
}

std::string ValueText(const SeriesTotal& total) {
  switch (total.kind) {
    case Kind::kCounter:
      return absl::StrCat("\"counter\",\"value\":", total.value);
    case Kind::kGauge:
      return absl::StrCat("\"gauge\",\"value\":", Shortest(static_cast<double>(total.value) / 4));
    case Kind::kSet:
      return absl::StrCat("\"set\",\"value\":", total.value);
    case Kind::kTimer:
      return absl::StrCat("\"histogram\",\"count\":", total.buckets.back(),
                          ",\"sum\":", Shortest(static_cast<double>(total.value) / 1000),
                          ",\"buckets\":{", BucketsText(total), "}");
  }
  std::abort();
}

}  // namespace

Expectation::Expectation(const Plan& plan, const std::vector<AcceptanceLog>& logs)
    : catalog_(plan.catalog) {
  for (size_t i = 0; i < plan.rings.size(); ++i) AddRing(plan.rings[i], logs[i]);
  FinishSetsAndBuckets();
}

void Expectation::AddRing(const PacketRing& ring, const AcceptanceLog& log) {
  std::vector<uint64_t> times(ring.packets().size());
  for (uint64_t seq = 0; seq < log.offered(); ++seq) {
    if (!log.WasAccepted(seq)) continue;
    ++times[ring.IndexAt(seq)];
    ApplyGauges(ring, ring.At(seq));
  }
  for (size_t i = 0; i < times.size(); ++i) {
    if (times[i] > 0) AddTimes(ring, ring.packets()[i], times[i]);
  }
}

SeriesTotal& Expectation::TotalOf(uint32_t series, Kind kind) {
  SeriesTotal& total = totals_[series];
  total.kind = kind;
  return total;
}

void Expectation::ApplyGauges(const PacketRing& ring, const Packet& packet) {
  for (const Line& line : ring.Lines(packet)) {
    if (catalog_.KindOf(line.series) != Kind::kGauge) continue;
    SeriesTotal& total = TotalOf(line.series, Kind::kGauge);
    for (const int32_t value : ring.Values(line)) {
      total.value = line.change ? total.value + value : value;
    }
  }
}

void Expectation::AddTimes(const PacketRing& ring, const Packet& packet, uint64_t times) {
  for (const Line& line : ring.Lines(packet)) {
    const Kind kind = catalog_.KindOf(line.series);
    if (kind == Kind::kGauge) continue;
    SeriesTotal& total = TotalOf(line.series, kind);
    const uint64_t weight = times * (line.sampled ? 2 : 1);
    for (const int32_t value : ring.Values(line)) {
      if (kind == Kind::kSet) {
        members_[line.series].insert(value);
        continue;
      }
      total.value += value * static_cast<int64_t>(weight);
      if (kind == Kind::kTimer) total.buckets[BucketOf(value)] += weight;
    }
  }
}

void Expectation::FinishSetsAndBuckets() {
  for (auto& [series, total] : totals_) {
    for (size_t i = 1; i < total.buckets.size(); ++i) total.buckets[i] += total.buckets[i - 1];
  }
  for (const auto& [series, members] : members_) {
    totals_[series].value = static_cast<int64_t>(members.size());
  }
}

std::string ExpectationLine(const std::string& series, const SeriesTotal& total) {
  return absl::StrCat("{\"series\":\"", absl::StrReplaceAll(series, {{"\"", "\\\""}}),
                      "\",\"type\":", ValueText(total), "}");
}

absl::Status Expectation::WriteTo(const std::string& path) const {
  std::vector<uint32_t> order;
  order.reserve(totals_.size());
  for (const auto& [series, total] : totals_) order.push_back(series);
  std::sort(order.begin(), order.end());
  std::ofstream file(path, std::ios::binary);
  for (const uint32_t series : order) {
    file << ExpectationLine(catalog_.Exposed(series), totals_.at(series)) << '\n';
  }
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

}  // namespace tallyd::bench
