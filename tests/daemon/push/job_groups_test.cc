#include "daemon/push/job_groups.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace tallyd {
namespace {

TEST(JobGroupIndexTest, FindsWhoseASeriesIs) {
  const JobGroupIndex index({Grouping{{"job", "n"}, {"instance", "a"}}, Grouping{{"job", "n"}},
                             Grouping{{"job", "n"}, {"instance", "a"}, {"zone", "e\"u"}},
                             Grouping{{"job", "m"}, {"zone", "eu"}}});
  constexpr int kNobodys = JobGroupIndex::kNobodys;
  const struct {
    const char* labels;
    int place;
  } cases[] = {
      {"", kNobodys},
      {R"(instance="a")", kNobodys},
      {R"(job="n")", 1},
      {R"(instance="b",job="n")", 1},
      {R"(instance="a",job="n")", 0},
      {R"(instance="a",job="n",table="t")", 0},
      {R"(instance="a",job="n",table="t",zone="e\"u")", 2},
      {R"(instance="a",job="n",zone="eu")", 0},
      {R"(job="m")", kNobodys},
      {R"(job="m",zone="eu")", 3},
      {R"(job="nn")", kNobodys},
      {R"(a="job=\"n\"")", kNobodys},
      {R"(a=",job=",b="n")", kNobodys},
      {R"(exported_job="n")", kNobodys},
  };
  for (const auto& c : cases) EXPECT_EQ(index.Find(c.labels), c.place) << c.labels;
  EXPECT_EQ(JobGroupIndex({}).Find(R"(job="n")"), kNobodys);
}

TEST(JobGroupEncoderTest, EachGroupHasItsFamiliesWhole) {
  const JobGroupEncoder encoder(std::make_shared<const JobGroupIndex>(
      std::vector<Grouping>{{{"job", "a"}}, {{"job", "b"}}, {{"job", "c"}}}));
  std::string page;
  const FamilyView rows = {.name = "rows", .help = "Rows.", .type = FamilyType::kCounter};
  const FamilyView last = {.name = "last", .help = "Last.", .type = FamilyType::kGauge};
  encoder.Gauge(last, R"(job="b")", 4.5, &page);
  encoder.Gauge(last, "", 9, &page);
  encoder.Counter(rows, R"(job="a",t="x")", {.whole = 1}, &page);
  encoder.Counter(rows, R"(job="b",t="x")", {.whole = 2}, &page);
  encoder.Counter(rows, R"(job="b",t="y")", {.whole = 3}, &page);
  EXPECT_EQ(page, "");
  ASSERT_EQ(encoder.groups().size(), 3u);
  ASSERT_EQ(encoder.groups()[0].size(), 1u);
  EXPECT_EQ(encoder.groups()[0][0].text,
            "# HELP rows Rows.\n# TYPE rows counter\nrows{job=\"a\",t=\"x\"} 1\n");
  ASSERT_EQ(encoder.groups()[1].size(), 2u);
  EXPECT_EQ(encoder.groups()[1][0].text,
            "# HELP last Last.\n# TYPE last gauge\nlast{job=\"b\"} 4.5\n");
  EXPECT_EQ(encoder.groups()[1][1].text,
            "# HELP rows Rows.\n# TYPE rows counter\nrows{job=\"b\",t=\"x\"} 2\n"
            "rows{job=\"b\",t=\"y\"} 3\n");
  EXPECT_EQ(encoder.groups()[1][1].series, 2u);
  EXPECT_TRUE(encoder.groups()[2].empty());
}

TEST(KeyOfJobTest, HasAllLabels) {
  EXPECT_EQ(KeyOfJob({{"job", "a b"}, {"instance", "i"}}).Path(),
            "/metrics/job@base64/YSBi/instance/i");
}

}  // namespace
}  // namespace tallyd
