#include "daemon/push/job_groups.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/push/gateway_jobs.h"

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

class GatewayJobsTest : public testing::Test {
 protected:
  // Whether the series of a job with these labels go to a group of its own.
  bool IsApart(const std::string& labels) {
    const auto index = jobs_->index();
    return index != nullptr && index->Find(labels) != JobGroupIndex::kNobodys;
  }
  void Begin(Grouping labels) {
    JobChange change;
    change.labels = std::move(labels);
    change.running = true;
    jobs_->OnJob(change);
  }
  static PushgatewayOptions Options() {
    PushgatewayOptions options;
    options.key = {.job = "web", .labels = {{"instance", "h"}, {"env", "prod"}}};
    return options;
  }

  // Never run: nothing is pushed.
  std::shared_ptr<Loop> loop_ = std::make_shared<Loop>(1);
  std::shared_ptr<GatewayJobs> jobs_ =
      std::make_shared<GatewayJobs>(loop_, Options(), PushSources());
};

TEST_F(GatewayJobsTest, AJobWithTheTargetsLabelsGoesWithItsGroup) {
  Begin({{"job", "web"}, {"instance", "h"}, {"env", "prod"}});
  EXPECT_FALSE(IsApart(R"(env="prod",instance="h",job="web")"));
  Begin({{"job", "web"}, {"instance", "h"}});
  EXPECT_TRUE(IsApart(R"(instance="h",job="web")"));
}

TEST_F(GatewayJobsTest, BeyondTheLimitJobsGoWithTheTargetsGroup) {
  for (size_t i = 0; i <= GatewayJobs::kMaxGroups; ++i) {
    Begin({{"job", std::to_string(i)}});
  }
  EXPECT_TRUE(IsApart(R"(job="0")"));
  EXPECT_TRUE(IsApart(R"(job="999")"));
  EXPECT_FALSE(IsApart(R"(job="1000")"));
}

}  // namespace
}  // namespace tallyd
