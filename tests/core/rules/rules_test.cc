#include "core/rules/rules.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tallyd {
namespace {

class RulesTest : public testing::Test {
 protected:
  // The spec of an accepted key.
  SeriesSpec Resolve(std::string_view name, std::string_view tags = "",
                     SampleType type = SampleType::kCounter) {
    SeriesSpec spec;
    const Verdict verdict = rules_->Resolve({type, name, tags}, &spec);
    EXPECT_TRUE(verdict.accepted) << name << " {" << tags << "} " << Name(verdict.reason);
    return spec;
  }
  std::string LabelsOf(std::string_view tags) { return Resolve("x", tags).labels; }

  // Why a key is refused, or "accepted".
  std::string_view RefusalOf(std::string_view name, std::string_view tags = "",
                             SampleType type = SampleType::kCounter) {
    SeriesSpec spec;
    const Verdict verdict = rules_->Resolve({type, name, tags}, &spec);
    return verdict.accepted ? "accepted" : Name(verdict.reason);
  }

  LayoutTable layouts_;
  const std::unique_ptr<const Rules> rules_ =
      Rules::Create({.default_ttl_ms = 1234}, &layouts_).value();
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

// Nobody but a session can say so: sections that give no labels are not part of a key.
TEST_F(RulesTest, TheLabelsOfASessionWin) {
  EXPECT_EQ(LabelsOf("|=0,job:n,instance:a:1"), R"(instance="a:1",job="n")");
  EXPECT_EQ(LabelsOf("t:x,job:forged|=0,job:n"), R"(job="n",t="x")");
  EXPECT_EQ(Resolve("x", "job:forged|=0,job:n").overridden_labels, 1);
  EXPECT_EQ(Resolve("x", "t:x|=0,job:n").overridden_labels, 0);
  EXPECT_EQ(LabelsOf("t:x|c:id|=0,job:n"), R"(container_id="id",job="n",t="x")");
  for (const char* name : {"x,t=y", "x#t=y", "x[t=y]"}) {
    EXPECT_EQ(Resolve(name, "|=0,job:n").labels, R"(job="n",t="y")") << name;
    EXPECT_EQ(Resolve(name, "|=0,job:n").name, "x") << name;
    EXPECT_EQ(RefusalOf(name, "a:b|=0,job:n"), "mixed_tag_dialects") << name;
  }
}

TEST_F(RulesTest, OfTwoTimesToLiveTheShorterHolds) {
  EXPECT_EQ(Resolve("x", "|=500,job:n").ttl_ms, 500);
  EXPECT_EQ(Resolve("x", "|=5000,job:n").ttl_ms, 1234);
  EXPECT_EQ(Resolve("x", "|=0,job:n").ttl_ms, 1234);
  const auto without = Rules::Create({}, &layouts_).value();
  SeriesSpec spec;
  without->Resolve({SampleType::kGauge, "x", "|=5000,job:n"}, &spec);
  EXPECT_EQ(spec.ttl_ms, 5000);
  without->Resolve({SampleType::kGauge, "x", "|=0,job:n"}, &spec);
  EXPECT_EQ(spec.ttl_ms, 0);
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
  rules_->Resolve({SampleType::kTimer, "old.name", "a:1,a:2,bad|c:id"}, &used);
  rules_->Resolve({SampleType::kCounter, "x", "b:1"}, &used);
  EXPECT_EQ(used.kind, SeriesKind::kCounter);
  EXPECT_EQ(used.name, "x");
  EXPECT_EQ(used.labels, R"(b="1")");
  EXPECT_EQ(used.bad_tags, 0);
  EXPECT_EQ(used.overridden_labels, 0);
}

// Rules made by a mapping of some rules.
class MappedRulesTest : public testing::Test {
 protected:
  static MappingRule Rule(std::string match, std::string name) {
    MappingRule rule;
    rule.match = std::move(match);
    rule.name = std::move(name);
    return rule;
  }
  void Use(std::vector<MappingRule> rules, Rules::Options options = {}) {
    MappingConfig config;
    config.rules = std::move(rules);
    config.defaults = defaults_;
    options.mapping = Mapping::Compile(std::move(config)).value();
    rules_ = Rules::Create(std::move(options), &layouts_).value();
  }
  SeriesSpec Resolve(std::string_view name, std::string_view tags = "",
                     SampleType type = SampleType::kCounter) {
    SeriesSpec spec;
    const Verdict verdict = rules_->Resolve({type, name, tags}, &spec);
    EXPECT_TRUE(verdict.accepted) << name << " {" << tags << "} " << Name(verdict.reason);
    return spec;
  }
  std::string_view RefusalOf(std::string_view name, std::string_view tags = "",
                             SampleType type = SampleType::kCounter) {
    SeriesSpec spec;
    const Verdict verdict = rules_->Resolve({type, name, tags}, &spec);
    return verdict.accepted ? "accepted" : Name(verdict.reason);
  }

  MappingRule defaults_;
  LayoutTable layouts_;
  std::unique_ptr<const Rules> rules_;
};

TEST_F(MappedRulesTest, NameAndLabels) {
  MappingRule rule = Rule("app.requests", "requests");
  rule.labels = {{"where", "app"}, {"code", "200"}};
  rule.help = "Requests.";
  rule.ttl_ms = 5000;
  rule.scale = 0.5;
  Use({rule}, {.default_ttl_ms = 77});
  const SeriesSpec spec = Resolve("app.requests", "zone:a,code:500");
  EXPECT_EQ(spec.name, "requests");
  EXPECT_EQ(spec.labels, R"(code="200",where="app",zone="a")") << "a rule's label replaces a tag";
  EXPECT_EQ(Rules::HelpOf(spec.rule), "Requests.");
  EXPECT_EQ(spec.ttl_ms, 5000);
  EXPECT_EQ(spec.scale, 0.5);
  const SeriesSpec other = Resolve("app.other");
  EXPECT_EQ(other.name, "app_other");
  EXPECT_EQ(other.ttl_ms, 77);
  EXPECT_EQ(other.scale, 1);
  EXPECT_EQ(Rules::HelpOf(other.rule), "Metric autogenerated by statsd_exporter.");
}

TEST_F(MappedRulesTest, TagsCanBeHonoured) {
  MappingRule rule = Rule("x.y", "z");
  rule.labels = {{"code", "200"}, {"where", "here"}};
  rule.honor_labels = true;
  Use({rule});
  EXPECT_EQ(Resolve("x.y", "code:500").labels, R"(code="500",where="here")");
}

TEST_F(MappedRulesTest, AnEmptyLabelIsNone) {
  MappingRule rule = Rule("x.y", "z");
  rule.labels = {{"code", ""}, {"more", ""}};
  Use({rule});
  EXPECT_EQ(Resolve("x.y", "code:500,a:b").labels, R"(a="b")");
}

TEST_F(MappedRulesTest, TheNameIsMatchedWithoutItsTags) {
  Use({Rule("x.y", "z")});
  EXPECT_EQ(Resolve("x.y#a=b").name, "z");
  EXPECT_EQ(Resolve("x.y,a=b").labels, R"(a="b")");
  EXPECT_EQ(Resolve("x[a=b].y").name, "z");
}

TEST_F(MappedRulesTest, DropComesBeforeAllElse) {
  MappingRule rule = Rule("x.y", "z");
  rule.drop = true;
  Use({rule});
  EXPECT_EQ(RefusalOf("x.y"), "mapping_drop");
  EXPECT_EQ(RefusalOf("x.y", "__a:b"), "mapping_drop");
  EXPECT_EQ(RefusalOf("x.z"), "accepted");
}

TEST_F(MappedRulesTest, Observers) {
  MappingRule summary = Rule("s", "s");
  summary.observer_type = ObserverType::kSummary;
  summary.summary = {.quantiles = {{0.99, 0.001}, {0.5, 0.05}, {0.5, 0.01}},
                     .max_age_ms = 60'000,
                     .age_buckets = 6};
  MappingRule histogram = Rule("h", "h");
  histogram.histogram.buckets = {1, 2};
  histogram.histogram.native_factor = 2;
  histogram.histogram.native_max_buckets = 40;
  defaults_.histogram.buckets = {7};
  Use({summary, histogram});
  const SeriesSpec s = Resolve("s", "", SampleType::kTimer);
  EXPECT_EQ(s.kind, SeriesKind::kSummary);
  EXPECT_TRUE(layouts_[s.layout].is_summary());
  EXPECT_EQ(layouts_[s.layout].quantile_texts, (std::vector<std::string>{"0.5", "0.99"}));
  const SeriesSpec h = Resolve("h", "", SampleType::kHistogram);
  EXPECT_EQ(h.kind, SeriesKind::kHistogram);
  EXPECT_EQ(layouts_[h.layout].bounds, (std::vector<double>{1, 2}));
  EXPECT_EQ(layouts_[h.layout].schema, 0);
  EXPECT_EQ(layouts_[h.layout].window_buckets, 40);
  const SeriesSpec other = Resolve("other", "", SampleType::kTimer);
  EXPECT_EQ(layouts_[other.layout].bounds, (std::vector<double>{7}));
  EXPECT_EQ(Resolve("s", "", SampleType::kGauge).kind, SeriesKind::kGauge);
}

TEST_F(MappedRulesTest, ReservedLabelsDependOnTheKind) {
  MappingRule summary = Rule("s", "s");
  summary.observer_type = ObserverType::kSummary;
  Use({summary});
  EXPECT_EQ(RefusalOf("s", "quantile:1", SampleType::kTimer), "bad_label");
  EXPECT_EQ(RefusalOf("s", "le:1", SampleType::kTimer), "accepted");
  EXPECT_EQ(RefusalOf("h", "le:1", SampleType::kTimer), "bad_label");
  EXPECT_EQ(RefusalOf("h", "quantile:1", SampleType::kTimer), "accepted");
}

TEST_F(MappedRulesTest, LayoutsKeepTheirNumbers) {
  MappingRule rule = Rule("h", "h");
  rule.histogram.buckets = {1, 2};
  Use({rule});
  const uint16_t before = Resolve("h", "", SampleType::kTimer).layout;
  MappingRule other = Rule("g", "g");
  other.histogram.buckets = {3};
  Use({other, rule});
  EXPECT_EQ(Resolve("h", "", SampleType::kTimer).layout, before);
}

TEST_F(RulesTest, NameTags) {
  EXPECT_EQ(Resolve("a.b,x=1,y=2").name, "a_b");
  EXPECT_EQ(Resolve("a.b,x=1,y=2").labels, R"(x="1",y="2")");
  EXPECT_EQ(Resolve("a.b#x=1").labels, R"(x="1")");
  EXPECT_EQ(Resolve("a[x=1].b").name, "a_b");
  EXPECT_EQ(Resolve("a.b,x=1", "|c:box").labels, R"(container_id="box",x="1")");
  EXPECT_EQ(Resolve("a,x=1,,y,=2,z=").bad_name_tags, 4);
  EXPECT_EQ(Resolve("a]b[").bad_name_tags, 1);
  EXPECT_EQ(Resolve("a]b[").name, "a_b_");
  EXPECT_EQ(RefusalOf(",a=b"), "empty_name");
  EXPECT_EQ(RefusalOf("[a=b]"), "empty_name");
}

TEST_F(RulesTest, NameTagsBesideATagSectionAreRefused) {
  EXPECT_EQ(RefusalOf("a,x=1", "y:2"), "mixed_tag_dialects");
  EXPECT_EQ(RefusalOf("a,x=1", "|c:id|#y:2"), "mixed_tag_dialects");
  EXPECT_EQ(RefusalOf("a,x", "y:2"), "accepted") << "the name yields no label";
}

TEST(RulesOptionsTest, DialectsCanBeSwitchedOff) {
  LayoutTable layouts;
  const auto rules =
      Rules::Create({.tags = {.dogstatsd = false, .influxdb = false}}, &layouts).value();
  SeriesSpec spec;
  ASSERT_TRUE(rules->Resolve({SampleType::kCounter, "a,x=1", "y:2"}, &spec).accepted);
  EXPECT_EQ(spec.name, "a_x_1");
  EXPECT_EQ(spec.labels, "");
  ASSERT_TRUE(rules->Resolve({SampleType::kCounter, "a#x=1", ""}, &spec).accepted);
  EXPECT_EQ(spec.labels, R"(x="1")");
}

TEST(RulesOptionsTest, LimitsOfKeys) {
  LayoutTable layouts;
  const auto rules =
      Rules::Create({.limits = {.name_bytes = 4, .tags = 2, .label_bytes = 8}}, &layouts).value();
  const auto refusal = [&](std::string_view name, std::string_view tags) {
    SeriesSpec spec;
    const Verdict verdict = rules->Resolve({SampleType::kCounter, name, tags}, &spec);
    return verdict.accepted ? "accepted" : Name(verdict.reason);
  };
  EXPECT_EQ(refusal("abcd", ""), "accepted");
  EXPECT_EQ(refusal("abcde", ""), "name_too_long");
  EXPECT_EQ(refusal("ab[c=d]cd", ""), "accepted") << "tags are not part of the name";
  EXPECT_EQ(refusal("a", "b:1,c:2"), "accepted");
  EXPECT_EQ(refusal("a", "b:1,c:2,d"), "too_many_tags");
  EXPECT_EQ(refusal("a", "b:1234567"), "accepted");
  EXPECT_EQ(refusal("a", "b:12345678"), "labels_too_long");
}

TEST(RulesOptionsTest, ContainerIdsCanBeIgnored) {
  LayoutTable layouts;
  const auto rules = Rules::Create({.container_id_label = false}, &layouts).value();
  SeriesSpec spec;
  ASSERT_TRUE(rules->Resolve({SampleType::kCounter, "a", "b:c|c:id"}, &spec).accepted);
  EXPECT_EQ(spec.labels, R"(b="c")");
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
