#include "core/rules/rules.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace tallyd {
namespace {

class RulesTest : public testing::Test {
 protected:
  // The spec of an accepted key.
  SeriesSpec Resolve(std::string_view name, std::string_view tags = "",
                     SampleType type = SampleType::kCounter) {
    SeriesSpec spec;
    const Verdict verdict = rules_.Resolve({type, name, tags}, &spec);
    EXPECT_TRUE(verdict.accepted) << name << " {" << tags << "} " << Name(verdict.reason);
    return spec;
  }
  std::string LabelsOf(std::string_view tags) { return Resolve("x", tags).labels; }

  // Why a key is refused, or "accepted".
  std::string_view RefusalOf(std::string_view name, std::string_view tags = "",
                             SampleType type = SampleType::kCounter) {
    SeriesSpec spec;
    const Verdict verdict = rules_.Resolve({type, name, tags}, &spec);
    return verdict.accepted ? "accepted" : Name(verdict.reason);
  }

  const Rules rules_{Rules::Options{.default_ttl_ms = 1234}};
};

TEST_F(RulesTest, KindFollowsType) {
  EXPECT_EQ(Resolve("x", "", SampleType::kCounter).kind, SeriesKind::kCounter);
  EXPECT_EQ(Resolve("x", "", SampleType::kGauge).kind, SeriesKind::kGauge);
  EXPECT_EQ(Resolve("x", "", SampleType::kTimer).kind, SeriesKind::kHistogram);
  EXPECT_EQ(Resolve("x", "", SampleType::kHistogram).kind, SeriesKind::kHistogram);
  EXPECT_EQ(Resolve("x", "", SampleType::kSet).kind, SeriesKind::kSet);
}

TEST_F(RulesTest, NamesAreSanitized) {
  EXPECT_EQ(Resolve("api.latency-ms").name, "api_latency_ms");
  EXPECT_EQ(Resolve("5xx").name, "_5xx");
  EXPECT_EQ(Resolve("x").labels, "");
  EXPECT_EQ(Resolve("x").ttl_ms, 1234);
}

TEST_F(RulesTest, LabelsAreSortedByNameAndEscaped) {
  EXPECT_EQ(LabelsOf("b:2,a:1"), R"(a="1",b="2")");
  EXPECT_EQ(LabelsOf("a:1,b:2"), R"(a="1",b="2")");
  EXPECT_EQ(LabelsOf("a:1,B:2,_:3"), R"(B="2",_="3",a="1")");
  EXPECT_EQ(LabelsOf(R"(q:say "hi"\)"), R"(q="say \"hi\"\\")");
  EXPECT_EQ(LabelsOf("u:http://h:80/?a=b"), R"(u="http://h:80/?a=b")") << "the first colon counts";
  EXPECT_EQ(LabelsOf("k: v "), R"(k=" v ")") << "values are kept byte for byte";
  EXPECT_EQ(LabelsOf("1.k:v"), R"(_1_k="v")") << "keys are sanitised";
}

TEST_F(RulesTest, OneHashBeforeATagIsDropped) {
  EXPECT_EQ(LabelsOf("#a:1,#b:2"), R"(a="1",b="2")");
  EXPECT_EQ(LabelsOf("##a:1"), R"(_a="1")");
}

TEST_F(RulesTest, OfARepeatedKeyTheLastWins) {
  EXPECT_EQ(LabelsOf("a:1,b:2,a:3"), R"(a="3",b="2")");
  EXPECT_EQ(Resolve("x", "a:1,b:2,a:3").overridden_labels, 1);
  EXPECT_EQ(LabelsOf("a.b:1,a-b:2,a_b:3"), R"(a_b="3")") << "equal only once sanitised";
  EXPECT_EQ(Resolve("x", "a.b:1,a-b:2,a_b:3").overridden_labels, 2);
  EXPECT_EQ(Resolve("x", "a:1,b:1").overridden_labels, 0);
}

TEST_F(RulesTest, BadTagsAreLeftOutAndCounted) {
  struct Case {
    std::string_view tags;
    std::string_view labels;
    int bad;
  };
  constexpr Case kCases[] = {
      {"", "", 0},
      {"a:1,", R"(a="1")", 0},  // a trailing comma is no error
      {",a:1", R"(a="1")", 1},
      {"a:1,,b:2", R"(a="1",b="2")", 1},
      {"a:1,,", R"(a="1")", 1},
      {",", "", 1},
      {"urgent", "", 1},
      {"urgent,a:1", R"(a="1")", 1},
      {":1", "", 1},
      {"a:", "", 1},
      {":", "", 1},
      {"#", "", 1},
      {"a=1", "", 1},
      {"a:1,b,c:,:d,,e:5", R"(a="1",e="5")", 4},
  };
  for (const Case& c : kCases) {
    const SeriesSpec spec = Resolve("x", c.tags);
    EXPECT_EQ(spec.labels, c.labels) << c.tags;
    EXPECT_EQ(spec.bad_tags, c.bad) << c.tags;
  }
}

TEST_F(RulesTest, FurtherSectionsAddLabels) {
  EXPECT_EQ(LabelsOf("|c:abc"), R"(container_id="abc")");
  EXPECT_EQ(LabelsOf("a:1|c:in-42"), R"(a="1",container_id="in-42")");
  EXPECT_EQ(LabelsOf("a:1|#b:2,a:3"), R"(a="3",b="2")");
  EXPECT_EQ(LabelsOf("|c:ci-1,in-2"), R"(container_id="ci-1,in-2")") << "ids are kept verbatim";
  EXPECT_EQ(LabelsOf("|c:a|#"), R"(container_id="a")");
}

TEST_F(RulesTest, OfTagAndContainerIdTheLaterSectionWins) {
  EXPECT_EQ(LabelsOf("container_id:tag|c:id"), R"(container_id="id")");
  EXPECT_EQ(LabelsOf("|c:id|#container_id:tag"), R"(container_id="tag")");
  EXPECT_EQ(Resolve("x", "|c:id|#container_id:tag").overridden_labels, 1);
}

TEST_F(RulesTest, ReservedLabelsRefuseTheSample) {
  EXPECT_EQ(RefusalOf("x", "__name__:y"), "bad_label");
  EXPECT_EQ(RefusalOf("x", "a:1,__b:2"), "bad_label");
  EXPECT_EQ(RefusalOf("x", "\xc3\xa9\xc3\xa9:1"), "bad_label") << "sanitised to two underscores";
  EXPECT_EQ(RefusalOf("x", "_a:1"), "accepted");
  EXPECT_EQ(RefusalOf("x", "\xc3\xa9:1"), "accepted");
  EXPECT_EQ(RefusalOf("x", "__b:"), "accepted") << "a bad tag is left out before anybody looks";
}

TEST_F(RulesTest, LeIsReservedOnHistogramsOnly) {
  EXPECT_EQ(RefusalOf("x", "le:1", SampleType::kTimer), "bad_label");
  EXPECT_EQ(RefusalOf("x", "le:1", SampleType::kHistogram), "bad_label");
  EXPECT_EQ(RefusalOf("x", "le:1", SampleType::kCounter), "accepted");
  EXPECT_EQ(RefusalOf("x", "le:1", SampleType::kGauge), "accepted");
  EXPECT_EQ(RefusalOf("x", "LE:1", SampleType::kTimer), "accepted");
}

TEST_F(RulesTest, OurOwnNamesAreTaken) {
  for (const char* name :
       {"tallyd_x", "tallyd.x", "tallyd_", "process_cpu_seconds_total", "process.start"}) {
    EXPECT_EQ(RefusalOf(name), "type_conflict") << name;
  }
  for (const char* name : {"tallyd", "processes", "process", "my.tallyd.x", "Tallyd_x"}) {
    EXPECT_EQ(RefusalOf(name), "accepted") << name;
  }
}

TEST_F(RulesTest, AnswersDoNotDependOnWhatWasAskedBefore) {
  SeriesSpec used;
  rules_.Resolve({SampleType::kTimer, "old.name", "a:1,a:2,bad|c:id"}, &used);
  rules_.Resolve({SampleType::kCounter, "x", "b:1"}, &used);
  EXPECT_EQ(used.kind, SeriesKind::kCounter);
  EXPECT_EQ(used.name, "x");
  EXPECT_EQ(used.labels, R"(b="1")");
  EXPECT_EQ(used.bad_tags, 0);
  EXPECT_EQ(used.overridden_labels, 0);
}

TEST(HistogramLayoutTest, BoundsAreWrittenInTheirShortestForm) {
  const HistogramLayout layout = HistogramLayout::Default();
  const std::vector<std::string> expected = {"0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
                                             "0.5",   "1",    "2.5",   "5",    "10"};
  EXPECT_EQ(layout.les, expected);
  EXPECT_EQ(layout.bounds.size(), expected.size());
}

}  // namespace
}  // namespace tallyd
