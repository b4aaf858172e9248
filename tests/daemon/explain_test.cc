// What `tallyctl explain` says of a line.

#include "daemon/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(ExplainTest, AnAcceptedLineLeadsToItsSeries) {
  const Explanation explanation = Explain("page.views:1|c|@0.5|#env:prod,region:eu");
  EXPECT_TRUE(explanation.accepted());
  EXPECT_THAT(explanation.tokens,
              ElementsAre("page.views", "1", "c", "@0.5", "#env:prod,region:eu"));
  ASSERT_THAT(explanation.samples, SizeIs(1));
  EXPECT_EQ(explanation.samples[0].series, R"(page_views{env="prod",region="eu"})");
  EXPECT_EQ(explanation.samples[0].kind, "counter");
  EXPECT_EQ(explanation.samples[0].meaning, "adds 2");
  EXPECT_EQ(explanation.samples[0].weight, 2);
}

TEST(ExplainTest, PackedValuesAreSamplesOfTheirOwnAndTimersAreSeconds) {
  const Explanation explanation = Explain("latency:5:250|ms");
  ASSERT_THAT(explanation.samples, SizeIs(2));
  EXPECT_EQ(explanation.samples[0].value, "0.005");
  EXPECT_EQ(explanation.samples[1].meaning, "observes 0.25 seconds");
}

TEST(ExplainTest, ASignedGaugeIsAChange) {
  EXPECT_EQ(Explain("depth:+3|g").samples[0].meaning, "changes the gauge by 3");
  EXPECT_EQ(Explain("depth:3|g").samples[0].meaning, "sets the gauge to 3");
}

TEST(ExplainTest, RefusalsHaveAReasonAndARemedy) {
  const struct {
    const char* line;
    DropReason reason;
  } kRefused[] = {{"no colon", DropReason::kMalformedLine},
                  {"a:1|c||", DropReason::kMalformedSample},
                  {"a:x|c", DropReason::kBadValue},
                  {"a:1|q", DropReason::kBadType},
                  {"a:-1|c", DropReason::kNegativeCounter},
                  {"tallyd_series:1|g", DropReason::kTypeConflict},
                  {"a:1|c|#__name__:x", DropReason::kBadLabel}};
  for (const auto& [line, reason] : kRefused) {
    const Explanation explanation = Explain(line);
    EXPECT_FALSE(explanation.accepted()) << line;
    ASSERT_THAT(explanation.samples, SizeIs(1)) << line;
    EXPECT_EQ(Name(explanation.samples[0].reason), Name(reason)) << line;
    EXPECT_THAT(ExplanationText(explanation), HasSubstr("remedy")) << line;
  }
}

TEST(ExplainTest, EveryReasonHasAdvice) {
  for (size_t i = 0; i < kDropReasons; ++i) {
    const Advice advice = AdviceFor(static_cast<DropReason>(i));
    EXPECT_STRNE(advice.why, "") << kDropReasonNames[i];
    EXPECT_STRNE(advice.remedy, "") << kDropReasonNames[i];
  }
}

TEST(ExplainTest, OfOneLineTheFirstTypeHolds) {
  const Explanation explanation = Explain("a:1|c:2|g");
  ASSERT_THAT(explanation.samples, SizeIs(2));
  EXPECT_TRUE(explanation.samples[0].accepted);
  EXPECT_EQ(explanation.samples[1].reason, DropReason::kTypeConflict);
}

TEST(ExplainTest, NamesWhatWasPutRight) {
  const Explanation explanation = Explain("a:1|c|@zero|T1656581400|#bare,k:1,k:2");
  EXPECT_TRUE(explanation.accepted());
  EXPECT_THAT(explanation.samples[0].repairs,
              ElementsAre(HasSubstr("bad_sample_rate: 1"), HasSubstr("unknown_section: 1"),
                          HasSubstr("bad_tag: 1"), HasSubstr("overridden_label: 1")));
}

TEST(ExplainTest, AnEmptyLineIsSkipped) {
  EXPECT_TRUE(Explain("").accepted());
  EXPECT_THAT(Explain("").samples, IsEmpty());
  EXPECT_THAT(ExplanationText(Explain("")), HasSubstr("skipped"));
}

TEST(ExplainTest, JsonHoldsWhatTheTextHolds) {
  EXPECT_THAT(ExplanationJson(Explain("a:1|c|#k:\"v\"")),
              HasSubstr(R"("series":"a{k=\"\\\"v\\\"\"}")"));
  EXPECT_THAT(ExplanationJson(Explain("\xff")), HasSubstr(R"("line":"\u00ff","accepted":false)"));
}

}  // namespace
}  // namespace tallyd
