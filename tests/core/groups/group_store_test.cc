#include "core/groups/group_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/expose/protobuf.h"
#include "core/expose/text.h"
#include "core/groups/text_reader.h"

namespace tallyd {
namespace {

using testing::HasSubstr;
using testing::Not;

class GroupStoreTest : public testing::Test {
 protected:
  explicit GroupStoreTest(const GroupLimits& limits = {}) : store_(limits, &aggregates_) {}

  absl::Status Apply(const Grouping& grouping, const std::string& text,
                     PushMode mode = PushMode::kReplaceGroup, int64_t ttl_ns = 0) {
    Push push;
    push.grouping = grouping;
    push.families = *ReadPushedText(text, 1'000'000);
    push.mode = mode;
    push.unix_seconds = ++time_;
    push.now_ns = now_ns_;
    push.ttl_ns = ttl_ns;
    return store_.Apply(std::move(push));
  }

  std::string Show(TextFormat format = TextFormat::kPrometheus004) {
    std::vector<PageBuffer> pages;
    const TextEncoder encoder(format, ContentCoding::kIdentity);
    left_out_ = store_.view()->AppendPages(encoder, static_cast<size_t>(format), false,
                                           &aggregates_, &pages);
    std::string text;
    for (const PageBuffer& page : pages) text += *page;
    return text;
  }

  FamilyTypes aggregates_{1024, 1};
  GroupStore store_;
  double time_ = 0;
  int64_t now_ns_ = 1;
  size_t left_out_ = 0;
};

const Grouping kJob = {{"job", "j"}};
const Grouping kOther = {{"job", "k"}};

TEST_F(GroupStoreTest, WhatACatalogDeclaresBelongsToTheAggregates) {
  Catalog catalog;
  catalog.service = "shop";
  for (const auto& [name, type] : {std::pair("orders_total", DeclaredType::kCounter),
                                   std::pair("wait_seconds", DeclaredType::kHistogram),
                                   std::pair("parts_sum", DeclaredType::kGauge)}) {
    DeclaredMetric metric;
    metric.name = name;
    metric.type = type;
    metric.help = "Help.";
    catalog.metrics.push_back(std::move(metric));
  }
  const auto index = CatalogIndex::Create({catalog});
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_TRUE(Apply(kOther, "wait_seconds_sum 1\nfree 1\n").ok());
  store_.SetCatalog(*index);
  EXPECT_THAT(Show(), Not(HasSubstr("wait_seconds_sum")));
  EXPECT_THAT(Show(), HasSubstr("free{"));
  EXPECT_EQ(left_out_, 1u);
  for (const char* text :
       {"# TYPE orders_total counter\norders_total 1\n", "orders 1\n", "wait_seconds_count 1\n",
        "# TYPE wait_seconds counter\nwait_seconds 1\n",
        "# TYPE parts summary\nparts_sum 1\nparts_count 1\n"}) {
    EXPECT_THAT(Apply(kJob, text).message(), HasSubstr("which the catalog of shop declares"))
        << text;
  }
  EXPECT_TRUE(Apply(kJob, "other_total 1\nparts_count 1\n").ok());
  store_.SetCatalog(nullptr);
  EXPECT_THAT(Show(), HasSubstr("wait_seconds_sum"));
}

TEST_F(GroupStoreTest, ShowsAGroupWithItsLabelsAndTimes) {
  ASSERT_TRUE(Apply({{"job", "j"}, {"zone", "eu\n"}}, "# TYPE a counter\na{zone=\"us\"} 1\n").ok());
  EXPECT_EQ(Show(),
            "# TYPE a counter\n"
            "a{instance=\"\",job=\"j\",zone=\"eu\\n\"} 1\n"
            "# HELP push_failure_time_seconds When a push to this group was last refused as "
            "inconsistent, in Unix time; 0 for never.\n"
            "# TYPE push_failure_time_seconds gauge\n"
            "push_failure_time_seconds{instance=\"\",job=\"j\",zone=\"eu\\n\"} 0\n"
            "# HELP push_time_seconds When this group was last pushed, in Unix time; 0 for never.\n"
            "# TYPE push_time_seconds gauge\n"
            "push_time_seconds{instance=\"\",job=\"j\",zone=\"eu\\n\"} 1\n");
}

TEST_F(GroupStoreTest, AFamilyOfSeveralGroupsStandsInOnePlace) {
  ASSERT_TRUE(Apply(kJob, "a 1\nb 1\n").ok());
  ASSERT_TRUE(Apply(kOther, "a 2\n").ok());
  EXPECT_THAT(Show(), HasSubstr("# TYPE a untyped\n"));
  EXPECT_THAT(Show(TextFormat::kOpenMetrics100), HasSubstr("# TYPE a unknown\n"));
  const std::string text = Show();
  EXPECT_EQ(text.find("# TYPE a "), text.rfind("# TYPE a "));
}

TEST_F(GroupStoreTest, ARefusedPushLeavesWhatThereWas) {
  ASSERT_TRUE(Apply(kJob, "a 1\n").ok());
  for (const char* bad : {"a 2\nb 1 5\n", "a 2\nc 1\nc 2\n", "a 2\ntallyd_x 1\n",
                          "a 2\nb{__x=\"y\"} 1\n", "a 2\ns_sum 1\n# TYPE s summary\ns_count 1\n"}) {
    PushedFamilies families = *ReadPushedText(bad, 100);
    Push push;
    push.grouping = kJob;
    push.families = std::move(families);
    push.unix_seconds = 77;
    EXPECT_EQ(store_.Apply(std::move(push)).code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(Show(), HasSubstr("a{instance=\"\",job=\"j\"} 1\n"));
    EXPECT_THAT(Show(), HasSubstr("push_failure_time_seconds{instance=\"\",job=\"j\"} 77\n"));
    EXPECT_THAT(Show(), HasSubstr("push_time_seconds{instance=\"\",job=\"j\"} 1\n"));
  }
}

TEST_F(GroupStoreTest, TypesMayChangeWhereNobodyElseHasTheFamily) {
  ASSERT_TRUE(Apply(kJob, "# TYPE a counter\na 1\n").ok());
  EXPECT_FALSE(Apply(kOther, "# TYPE a gauge\na 1\n").ok());
  ASSERT_TRUE(Apply(kJob, "# TYPE a gauge\na 2\n", PushMode::kReplaceFamilies).ok());
  EXPECT_TRUE(Apply(kOther, "# TYPE a gauge\na 1\n").ok());
  store_.Delete(GroupOwner::kPusher, kJob);
  store_.Delete(GroupOwner::kPusher, kOther);
  EXPECT_EQ(Show(), "");
  EXPECT_EQ(store_.view()->bytes, 0u);
  EXPECT_EQ(store_.view()->samples, 0u);
  EXPECT_TRUE(Apply(kOther, "# TYPE a histogram\na_count 1\n").ok());
}

TEST_F(GroupStoreTest, LeavesOutWhatAnAggregateHasTaken) {
  ASSERT_TRUE(Apply(kJob, "a 1\nb_sum 1\nc 1\nd_total 1\n").ok());
  aggregates_.ClaimFor("a", SeriesKind::kGauge);
  aggregates_.ClaimFor("b", SeriesKind::kHistogram);
  aggregates_.ClaimFor("c_total", SeriesKind::kCounter);
  const std::string text = Show();
  EXPECT_EQ(left_out_, 3u);
  EXPECT_THAT(text, Not(HasSubstr("a{")));
  EXPECT_THAT(text, HasSubstr("d_total{"));
  EXPECT_FALSE(Apply(kOther, "a 1\n").ok());
}

// OpenMetrics calls the counter a_total "a", and then there must be no other "a".
TEST_F(GroupStoreTest, ACounterWhoseStemIsTakenIsUnknown) {
  ASSERT_TRUE(Apply(kJob, "# TYPE a_total counter\na_total 1\n").ok());
  EXPECT_THAT(Show(TextFormat::kOpenMetrics100), HasSubstr("# TYPE a counter\na_total{"));
  ASSERT_TRUE(Apply(kOther, "# TYPE a gauge\na 1\n").ok());
  EXPECT_THAT(Show(TextFormat::kOpenMetrics100), HasSubstr("# TYPE a_total unknown\na_total{"));
  store_.Delete(GroupOwner::kPusher, kOther);
  aggregates_.ClaimFor("a", SeriesKind::kGauge);
  EXPECT_THAT(Show(TextFormat::kOpenMetrics100), HasSubstr("# TYPE a_total unknown\na_total{"));
}

TEST_F(GroupStoreTest, AddsUp) {
  const std::string text =
      "# TYPE c counter\nc 1.5\n# TYPE g gauge\ng 1\n# TYPE h histogram\nh_bucket{le=\"2\"} 1\n"
      "h_sum 5\nh_count 2\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n";
  ASSERT_TRUE(Apply(kJob, text, PushMode::kAdd).ok());
  ASSERT_TRUE(Apply(kJob, text, PushMode::kAdd).ok());
  ASSERT_TRUE(Apply(kJob, "# TYPE c counter\nc{a=\"b\"} 1\n", PushMode::kAdd).ok());
  const std::string shown = Show();
  EXPECT_THAT(shown, HasSubstr("c{instance=\"\",job=\"j\"} 3\n"));
  EXPECT_THAT(shown, HasSubstr("c{a=\"b\",instance=\"\",job=\"j\"} 1\n"));
  EXPECT_THAT(shown, HasSubstr("g{instance=\"\",job=\"j\"} 1\n"));
  EXPECT_THAT(shown, HasSubstr("h_bucket{instance=\"\",job=\"j\",le=\"2\"} 2\n"));
  EXPECT_THAT(shown, HasSubstr("h_count{instance=\"\",job=\"j\"} 4\n"));
  EXPECT_THAT(shown, HasSubstr("s{instance=\"\",job=\"j\",quantile=\"0.5\"} 1\n"));
  EXPECT_THAT(shown, HasSubstr("s_count{instance=\"\",job=\"j\"} 2\n"));
  EXPECT_FALSE(Apply(kJob, "# TYPE c gauge\nc 1\n", PushMode::kAdd).ok());
  EXPECT_EQ(store_.view()->groups, 1u);
}

TEST_F(GroupStoreTest, GroupsGoWhenTheirTimeIsOver) {
  ASSERT_TRUE(Apply(kJob, "a 1\n", PushMode::kReplaceGroup, 10).ok());
  ASSERT_TRUE(Apply(kOther, "a 1\n").ok());
  EXPECT_EQ(store_.Expire(10), 0u);
  now_ns_ = 10;
  ASSERT_TRUE(Apply(kJob, "a 1\n", PushMode::kReplaceFamilies, 10).ok());
  EXPECT_EQ(store_.Expire(19), 0u);
  EXPECT_EQ(store_.Expire(20), 1u);
  EXPECT_EQ(store_.view()->groups, 1u);
}

// A view that somebody still reads is not touched by what comes later.
TEST_F(GroupStoreTest, ViewsDoNotChange) {
  ASSERT_TRUE(Apply(kJob, "a 1\n").ok());
  const std::shared_ptr<const GroupsView> before = store_.view();
  store_.Delete(GroupOwner::kPusher, kJob);
  std::vector<PageBuffer> pages;
  before->AppendPages(TextEncoder(TextFormat::kPrometheus004, ContentCoding::kIdentity), 0, false,
                      nullptr, &pages);
  ASSERT_EQ(pages.size(), 3u);
  EXPECT_EQ(*pages[0], "# TYPE a untyped\na{instance=\"\",job=\"j\"} 1\n");
}

class SmallGroupStoreTest : public GroupStoreTest {
 protected:
  SmallGroupStoreTest()
      : GroupStoreTest({.groups = 2, .group_series = 4, .series = 7, .bytes = 20'000}) {}
};

TEST_F(SmallGroupStoreTest, RefusesWhatThereIsNoRoomForAndChangesNothing) {
  ASSERT_TRUE(Apply(kJob, "a 1\n").ok());
  EXPECT_EQ(Apply(kJob, "a 1\nb 1\nc 1\n").code(), absl::StatusCode::kResourceExhausted);
  ASSERT_TRUE(Apply(kOther, "a 1\nb 1\n").ok());
  EXPECT_EQ(Apply(kJob, "a 2\nb 2\n").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Apply({{"job", "l"}}, "").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Apply({{"job", "l"}}, "a 1 5\n").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store_.view()->groups, 2u);
  EXPECT_THAT(Show(), HasSubstr("a{instance=\"\",job=\"j\"} 1\n"));
  const std::string long_value(20'000, 'x');
  EXPECT_EQ(Apply(kJob, "a{x=\"" + long_value + "\"} 1\n").code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Apply(kJob, "").ok());
}

// Two series alike are seen when they are made, so these were not.
TEST_F(SmallGroupStoreTest, APathThatIsTooLongForItsSeriesIsRefusedBeforeTheyAreMade) {
  const Grouping long_path = {{"job", "j"}, {"path", std::string(12'000, 'x')}};
  const std::string alike = "a 1\na 1\n";
  EXPECT_EQ(Apply(kJob, alike).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Apply(long_path, alike).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(GroupStoreTest, LabelsOfTheGroupCountAmongThoseOfASeries) {
  std::string labels;
  for (int i = 1; i < 63; ++i) labels += "l" + std::to_string(i) + "=\"\",";
  EXPECT_TRUE(Apply(kJob, "a{" + labels + "x=\"\"} 1\n").ok());
  EXPECT_TRUE(Apply(kJob, "a{" + labels + "x=\"\",job=\"k\"} 1\n").ok());
  const absl::Status more = Apply(kJob, "a{" + labels + "x=\"\",y=\"\"} 1\n");
  EXPECT_EQ(more.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(more.message(), HasSubstr("more than 64 labels"));
}

}  // namespace
}  // namespace tallyd
