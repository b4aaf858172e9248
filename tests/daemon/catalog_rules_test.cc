// What the rules make of keys under a catalog as it is written.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/rules/catalog_index.h"
#include "core/rules/rules.h"
#include "daemon/catalog_file.h"
#include "daemon/mapping_file.h"

namespace tallyd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::string_view kCatalog = R"yaml(
service: shop
metrics:
- name: shop_orders_total
  type: counter
  help: Orders.
  sources: ["orders.*"]
  labels:
    kind: {values: [new, old], from: $1}
- name: shop_depth
  type: gauge
  help: Depth.
  sources: [depth]
  non_negative: true
- name: shop_wait_seconds
  type: histogram
  help: Waiting.
  sources: [wait, wait.h]
  scale: 0.001
  buckets: [1, 2]
  labels: {region: {max: 20}, op: {values: [a, b]}, host: {max: 5}}
- name: shop_size_bytes
  type: histogram
  help: Sizes.
  sources: [wait.size]
  buckets: [1, 1024]
- name: shop_lag_ratio
  type: summary
  help: Lag.
  quantiles: [0.5]
- name: shop_users
  type: set
  help: Users.
  ttl: 5m
- name: shop_queue
  type: gauge
  help: Queue.
  observed: [{file: /queue}]
)yaml";

std::shared_ptr<const CatalogIndex> Index(const std::vector<std::string>& yamls) {
  std::vector<Catalog> catalogs;
  for (const std::string& yaml : yamls) catalogs.push_back(ParseCatalog(yaml, "c.yml").value());
  return CatalogIndex::Create(std::move(catalogs)).value();
}

class CatalogRulesTest : public testing::Test {
 protected:
  void Use(std::string_view mode, std::string_view mapping = "") {
    Rules::Options options;
    options.catalog = Index({absl::StrCat(View(kCatalog), "mode: ", View(mode), "\n")});
    if (!mapping.empty()) {
      options.mapping = Mapping::Compile(ParseMapping(mapping, "m.yml").value()).value();
    }
    rules_ = Rules::Create(std::move(options), &layouts_).value();
  }

  // The series as exposed, or why there is none.
  std::string Resolve(std::string_view name, SampleType type, std::string_view tags = "") {
    const Verdict verdict = rules_->Resolve({type, name, tags}, &spec_);
    if (!verdict.accepted) return std::string(Name(verdict.reason));
    return absl::StrCat(spec_.name, "{", spec_.labels, "}");
  }

  std::vector<std::string> Violations() const {
    std::vector<std::string> names;
    for (size_t i = 0; i < kViolations; ++i) {
      const auto violation = static_cast<Violation>(i);
      if (spec_.violations.Has(violation)) names.emplace_back(Name(violation));
    }
    return names;
  }

  LayoutTable layouts_;
  std::unique_ptr<const Rules> rules_;
  SeriesSpec spec_;
};

TEST_F(CatalogRulesTest, SourcesBecomeTheirMetric) {
  Use("warn");
  EXPECT_EQ(Resolve("orders.new", SampleType::kCounter), "shop_orders_total{kind=\"new\"}");
  EXPECT_THAT(Violations(), IsEmpty());
  EXPECT_EQ(Rules::HelpOf(spec_.rule), "Orders.");
  EXPECT_EQ(Resolve("depth", SampleType::kGauge), "shop_depth{}");
  EXPECT_TRUE(spec_.non_negative);
  EXPECT_EQ(Resolve("wait", SampleType::kHistogram, "host:h,op:a,region:r"),
            "shop_wait_seconds{host=\"h\",op=\"a\",region=\"r\"}");
  EXPECT_EQ(spec_.kind, SeriesKind::kHistogram);
  EXPECT_THAT(layouts_[spec_.layout].bounds, ElementsAre(1.0, 2.0));
  EXPECT_EQ(spec_.scale, 0.001);
  EXPECT_EQ(spec_.fold_label, "region") << "the one of the greatest max";
  Resolve("wait", SampleType::kTimer);
  EXPECT_EQ(spec_.scale, 1) << "timers come in milliseconds anyway";
  EXPECT_EQ(Resolve("shop_users", SampleType::kSet), "shop_users{}") << "the name is the source";
  EXPECT_EQ(spec_.ttl_ms, 300'000);
  EXPECT_EQ(Resolve("shop_lag_ratio", SampleType::kTimer), "shop_lag_ratio{}");
  EXPECT_EQ(spec_.kind, SeriesKind::kSummary);
}

TEST_F(CatalogRulesTest, TheDeclaredTypeHolds) {
  for (const char* mode : {"open", "warn", "enforce"}) {
    Use(mode);
    for (const std::string_view name : {"depth", "shop_depth"}) {
      EXPECT_EQ(Resolve(name, SampleType::kCounter), "type_conflict") << name;
      EXPECT_THAT(Violations(), ElementsAre("type"));
      EXPECT_EQ(Resolve(name, SampleType::kTimer), "type_conflict") << name;
      EXPECT_EQ(Resolve(name, SampleType::kSet), "type_conflict") << name;
    }
    EXPECT_EQ(spec_.name, "shop_depth");
    EXPECT_EQ(Resolve("shop_wait_seconds_count", SampleType::kCounter), "type_conflict");
    EXPECT_EQ(Resolve("shop_lag_ratio.sum", SampleType::kCounter), "type_conflict");
    EXPECT_EQ(Resolve("shop_queue", SampleType::kGauge), "type_conflict") << "it is read";
  }
}

TEST_F(CatalogRulesTest, BucketsHoldWhoeverMapsToTheFamily) {
  Use("enforce", R"(
mappings:
- {match: "w.*", name: shop_size_bytes, scale: 1024, histogram_options: {buckets: [7]}}
- {match: "wait", name: other}
- {match: gone, name: gone, action: drop}
)");
  EXPECT_EQ(Resolve("w.x", SampleType::kHistogram), "shop_size_bytes{}");
  EXPECT_THAT(layouts_[spec_.layout].bounds, ElementsAre(1.0, 1024.0));
  EXPECT_EQ(spec_.scale, 1024) << "as the mapping file says of its source";
  EXPECT_EQ(Rules::HelpOf(spec_.rule), "Sizes.");
  EXPECT_EQ(Resolve("w.x", SampleType::kTimer), "shop_size_bytes{}");
  EXPECT_EQ(spec_.scale, 1024);
  EXPECT_EQ(Resolve("wait", SampleType::kTimer),
            "shop_wait_seconds{host=\"__overflow__\",op=\"__overflow__\",region=\"__overflow__\"}")
      << "the catalog comes first";
  EXPECT_EQ(Resolve("wait", SampleType::kCounter), "undeclared")
      << "of other types the mapping file may make what it wants";
  EXPECT_EQ(Resolve("gone", SampleType::kCounter), "mapping_drop");
}

TEST_F(CatalogRulesTest, OpenLetsEverythingPass) {
  Use("open");
  EXPECT_EQ(Resolve("other", SampleType::kCounter), "other{}");
  EXPECT_THAT(Violations(), IsEmpty());
  EXPECT_EQ(Resolve("orders.odd", SampleType::kCounter, "x:y"),
            "shop_orders_total{kind=\"odd\",x=\"y\"}");
  EXPECT_THAT(Violations(), IsEmpty());
  EXPECT_FALSE(spec_.folded);
  EXPECT_EQ(spec_.family_limit, 0U);
}

TEST_F(CatalogRulesTest, WarnLetsEverythingPassAndSaysSo) {
  Use("warn");
  EXPECT_EQ(Resolve("other", SampleType::kCounter), "other{}");
  EXPECT_THAT(Violations(), ElementsAre("undeclared_metric"));
  EXPECT_EQ(Resolve("orders.odd", SampleType::kCounter, "x:y"),
            "shop_orders_total{kind=\"odd\",x=\"y\"}");
  EXPECT_THAT(Violations(), ElementsAre("undeclared_label", "label_value"));
  EXPECT_EQ(spec_.violating_label, "kind") << "the first";
  EXPECT_FALSE(spec_.folded);
  EXPECT_EQ(spec_.family_limit, 0U);
  EXPECT_EQ(Resolve("shop_orders_total", SampleType::kCounter), "shop_orders_total{}");
  EXPECT_THAT(Violations(), ElementsAre("missing_label"));
}

TEST_F(CatalogRulesTest, EnforceRefusesNamesAndFoldsLabels) {
  Use("enforce");
  EXPECT_EQ(Resolve("other", SampleType::kCounter), "undeclared");
  EXPECT_THAT(Violations(), ElementsAre("undeclared_metric"));
  EXPECT_EQ(spec_.name, "other");
  EXPECT_EQ(Resolve("orders.new", SampleType::kCounter), "shop_orders_total{kind=\"new\"}");
  EXPECT_FALSE(spec_.folded);
  EXPECT_EQ(spec_.family_limit, 3U) << "two values, and what is folded";
  EXPECT_EQ(Resolve("orders.odd", SampleType::kCounter),
            "shop_orders_total{kind=\"__overflow__\"}");
  EXPECT_TRUE(spec_.folded);
  EXPECT_EQ(Resolve("orders.old", SampleType::kCounter, "id:5"), "shop_orders_total{kind=\"old\"}");
  EXPECT_TRUE(spec_.folded);
  EXPECT_THAT(Violations(), ElementsAre("undeclared_label"));
  EXPECT_EQ(spec_.violating_label, "id");
  EXPECT_EQ(Resolve("wait", SampleType::kTimer, "zone:x,op:b,host:h"),
            "shop_wait_seconds{host=\"h\",op=\"b\",region=\"__overflow__\"}");
  EXPECT_THAT(Violations(), ElementsAre("undeclared_label", "missing_label"));
  EXPECT_EQ(spec_.family_limit, 5U * 3U * 20U);
}

TEST_F(CatalogRulesTest, TheStrictestModeHoldsForWhatNobodyDeclares) {
  Rules::Options options;
  options.catalog =
      Index({absl::StrCat(View(kCatalog), "mode: open"),
             "service: b\nmode: enforce\nmetrics: [{name: b_total, type: counter, help: B.}]"});
  rules_ = Rules::Create(std::move(options), &layouts_).value();
  EXPECT_EQ(Resolve("other", SampleType::kCounter), "undeclared");
  EXPECT_EQ(Resolve("orders.odd", SampleType::kCounter), "shop_orders_total{kind=\"odd\"}");
  EXPECT_EQ(Resolve("b_total", SampleType::kCounter, "x:y"), "b_total{}");
}

TEST_F(CatalogRulesTest, EnumerableSeriesAreKnownInAdvance) {
  Use("enforce");
  std::vector<std::string> names;
  for (const SeriesSpec& spec : rules_->DeclaredSeries()) {
    names.push_back(absl::StrCat(spec.name, "{", spec.labels, "}"));
    // They are what the rules make of samples.
    if (spec.name != "shop_orders_total") continue;
    EXPECT_EQ(Resolve("shop_orders_total", SampleType::kCounter,
                      spec.labels == "kind=\"new\"" ? "kind:new" : "kind:old"),
              names.back());
    EXPECT_EQ(spec.rule, spec_.rule);
    EXPECT_EQ(spec.kind, spec_.kind);
    EXPECT_EQ(spec.layout, spec_.layout);
    EXPECT_EQ(spec.family_limit, spec_.family_limit);
  }
  EXPECT_THAT(names,
              ElementsAre("shop_orders_total{kind=\"new\"}", "shop_orders_total{kind=\"old\"}",
                          "shop_depth{}", "shop_size_bytes{}", "shop_lag_ratio{}", "shop_users{}"));
  ASSERT_THAT(rules_->ObservedSeries(), SizeIs(1));
  EXPECT_EQ(rules_->ObservedSeries()[0].name, "shop_queue");
  EXPECT_EQ(rules_->ObservedSeries()[0].kind, SeriesKind::kGauge);
  const auto plain = Rules::Create({}, &layouts_).value();
  EXPECT_THAT(plain->DeclaredSeries(), IsEmpty());
}

}  // namespace
}  // namespace tallyd
