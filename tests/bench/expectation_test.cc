// The property: reading back all accepted packets with a slow and obvious parser gives the
// expectation, whatever was refused in between.

#include "bench/load/expectation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "bench/load/plan.h"

namespace tallyd::bench {
namespace {

double ToDouble(absl::string_view text) {
  double value = 0;
  EXPECT_TRUE(absl::SimpleAtod(text, &value)) << text;
  return value;
}

// Everything about a series as doubles, so that the reader shares no unit with the expectation.
struct ReadBack {
  std::string type;
  double value = 0;
  double sum_ms = 0;
  std::map<double, uint64_t> at_or_below_s;
  std::set<std::string> members;
};

// Knows the text alone.
class SlowReader {
 public:
  void Read(absl::string_view payload) {
    for (absl::string_view line : absl::StrSplit(payload, '\n')) ReadLine(line);
  }
  const std::map<std::string, ReadBack>& series() const { return series_; }

 private:
  void ReadLine(absl::string_view line) {
    const std::vector<std::string> parts = absl::StrSplit(line, '|');
    ASSERT_GE(parts.size(), 2u) << line;
    std::vector<std::string> values = absl::StrSplit(parts[0], ':');
    const std::string name = absl::StrReplaceAll(values[0], {{".", "_"}});
    values.erase(values.begin());
    double weight = 1;
    std::vector<std::string> labels;
    for (size_t i = 2; i < parts.size(); ++i) {
      if (parts[i][0] == '@') weight = 1 / ToDouble(parts[i].substr(1));
      if (parts[i][0] == '#') labels = Labels(parts[i].substr(1));
    }
    ReadBack& series =
        series_[labels.empty() ? name : absl::StrCat(name, "{", absl::StrJoin(labels, ","), "}")];
    ASSERT_TRUE(series.type.empty() || series.type == parts[1]) << line;
    series.type = parts[1];
    for (const std::string& value : values) Apply(value, weight, &series);
  }

  static std::vector<std::string> Labels(const std::string& tags) {
    std::vector<std::string> labels;
    for (absl::string_view tag : absl::StrSplit(tags, ',')) {
      const std::pair<std::string, std::string> pair = absl::StrSplit(tag, absl::MaxSplits(':', 1));
      labels.push_back(absl::StrCat(pair.first, "=\"", pair.second, "\""));
    }
    std::sort(labels.begin(), labels.end());
    return labels;
  }

  static void Apply(const std::string& value, double weight, ReadBack* series) {
    if (series->type == "c") series->value += ToDouble(value) * weight;
    if (series->type == "s") series->members.insert(value);
    if (series->type == "g") {
      const bool change = value[0] == '+' || value[0] == '-';
      series->value = ToDouble(value) + (change ? series->value : 0);
    }
    if (series->type == "ms") {
      series->sum_ms += ToDouble(value) * weight;
      for (const double bound : {.005, .01, .025, .05, .1, .25, .5, 1., 2.5, 5., 10., 1e300}) {
        if (ToDouble(value) / 1000 <= bound) {
          series->at_or_below_s[bound] += static_cast<uint64_t>(weight);
        } else {
          series->at_or_below_s[bound] += 0;
        }
      }
    }
  }

  std::map<std::string, ReadBack> series_;
};

// Offers `loops` and a bit of each ring and accepts by chance, in stretches.
std::vector<AcceptanceLog> RandomLogs(const Plan& plan, std::mt19937* random) {
  std::vector<AcceptanceLog> logs(plan.rings.size());
  for (size_t i = 0; i < logs.size(); ++i) {
    while (logs[i].offered() < plan.rings[i].size() * 3 + 1) {
      if ((*random)() % 3 == 0) {
        logs[i].AddRefused();
      } else {
        logs[i].AddAccepted((*random)() % 5);
      }
    }
  }
  return logs;
}

SlowReader ReadAccepted(const Plan& plan, const std::vector<AcceptanceLog>& logs) {
  SlowReader reader;
  for (size_t i = 0; i < logs.size(); ++i) {
    for (uint64_t seq = 0; seq < logs[i].offered(); ++seq) {
      if (!logs[i].WasAccepted(seq)) continue;
      reader.Read(plan.rings[i].Payload(plan.rings[i].At(seq)));
    }
  }
  return reader;
}

void ExpectEqual(const SeriesTotal& total, const ReadBack& read) {
  const auto value = static_cast<double>(total.value);
  switch (total.kind) {
    case Kind::kCounter:
      EXPECT_EQ(read.type, "c");
      EXPECT_EQ(value, read.value);
      break;
    case Kind::kGauge:
      EXPECT_EQ(read.type, "g");
      EXPECT_EQ(value / 4, read.value);
      break;
    case Kind::kSet:
      EXPECT_EQ(read.type, "s");
      EXPECT_EQ(value, static_cast<double>(read.members.size()));
      break;
    case Kind::kTimer: {
      EXPECT_EQ(read.type, "ms");
      EXPECT_EQ(value, read.sum_ms);
      std::vector<uint64_t> buckets;
      for (const auto& [bound, count] : read.at_or_below_s) buckets.push_back(count);
      EXPECT_THAT(total.buckets, testing::ElementsAreArray(buckets));
      break;
    }
  }
}

class ExpectationTest : public testing::TestWithParam<Workload> {};

TEST_P(ExpectationTest, IsWhatTheAcceptedPacketsSay) {
  const absl::StatusOr<Plan> plan = BuildPlan(GetParam());
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::mt19937 random(7);
  const std::vector<AcceptanceLog> logs = RandomLogs(*plan, &random);
  const Expectation expectation(*plan, logs);
  const SlowReader reader = ReadAccepted(*plan, logs);
  EXPECT_EQ(expectation.totals().size(), reader.series().size());
  for (const auto& [series, total] : expectation.totals()) {
    const std::string exposed = plan->catalog.Exposed(series);
    SCOPED_TRACE(exposed);
    ASSERT_TRUE(reader.series().count(exposed));
    ExpectEqual(total, reader.series().at(exposed));
  }
}

Workload Small(absl::string_view preset) {
  Workload w = *WorkloadPreset(preset);
  w.series = 300;
  w.ring_lines = 2000;
  return w;
}

std::vector<Workload> Workloads() {
  std::vector<Workload> all = {Small("W1"), Small("W2"), Small("W3"), Small("W4")};
  Workload w = Small("W2");
  w.mix = {1, 1, 1, 1};
  w.packing = 3;
  w.sampled = 0.4;
  w.gauge_changes = 0.7;
  all.push_back(w);
  w.senders = 4;
  all.push_back(w);
  w.churn_lines = 450;
  all.push_back(w);
  w.tags = 0;
  w.prefix = "other.prefix_2";
  all.push_back(w);
  w.tags = 1;
  all.push_back(w);
  w.tags = 20;
  all.push_back(w);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Workloads, ExpectationTest, testing::ValuesIn(Workloads()),
                         [](const auto& tested) { return absl::StrCat("Number", tested.index); });

TEST(ExpectationCutTest, TheCutPacketCountsItsOwnLinesAlone) {
  absl::StatusOr<Plan> plan = BuildPlan(Small("W2"));
  ASSERT_TRUE(plan.ok());
  const std::vector<uint64_t> quotas = QuotasForLines(2500 - 3, &*plan);
  std::vector<AcceptanceLog> logs(1);
  logs[0].AddAccepted(quotas[0]);
  const Expectation expectation(*plan, logs);
  const SlowReader reader = ReadAccepted(*plan, logs);
  for (const auto& [exposed, read] : reader.series()) {
    const auto same = [&, &name = exposed](const auto& entry) {
      return plan->catalog.Exposed(entry.first) == name;
    };
    const auto found = std::find_if(expectation.totals().begin(), expectation.totals().end(), same);
    ASSERT_NE(found, expectation.totals().end()) << exposed;
    ExpectEqual(found->second, read);
  }
}

TEST(ExpectationLineTest, IsOneJsonObject) {
  SeriesTotal total = {.kind = Kind::kCounter, .value = 123};
  EXPECT_EQ(ExpectationLine("a{b=\"c\"}", total),
            R"({"series":"a{b=\"c\"}","type":"counter","value":123})");
  total = {.kind = Kind::kGauge, .value = -5};
  EXPECT_EQ(ExpectationLine("a", total), R"({"series":"a","type":"gauge","value":-1.25})");
  total = {.kind = Kind::kSet, .value = 7};
  EXPECT_EQ(ExpectationLine("a", total), R"({"series":"a","type":"set","value":7})");
  total = {.kind = Kind::kTimer, .value = 12'503, .buckets = {1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3}};
  EXPECT_EQ(ExpectationLine("a", total),
            R"({"series":"a","type":"histogram","count":3,"sum":12.503,"buckets":{"0.005":1,)"
            R"("0.01":1,"0.025":1,"0.05":1,"0.1":1,"0.25":1,"0.5":1,"1":1,"2.5":2,"5":2,)"
            R"("10":2,"+Inf":3}})");
}

}  // namespace
}  // namespace tallyd::bench
