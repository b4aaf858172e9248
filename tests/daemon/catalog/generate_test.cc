// What is generated, as far as text alone shows it. That compilers, promtool and tallyd take it is
// for tests/e2e/test_catalog_generate.py.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/generated_text.h"
#include "daemon/catalog/generators.h"
#include "daemon/catalog/output_files.h"
#include "daemon/mapping_file.h"
#include "tests/daemon/catalog/sample_catalog.h"

namespace tallyd {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

std::string TextOf(const std::vector<GeneratedFile>& files, const std::string& path) {
  for (const GeneratedFile& file : files) {
    if (file.path == path) return file.text;
  }
  ADD_FAILURE() << path << " is not generated";
  return "";
}

std::vector<std::string> LinesOf(const std::string& text) { return absl::StrSplit(text, '\n'); }

const DeclaredMetric& MetricOf(const Catalog& catalog, const std::string& name) {
  for (const DeclaredMetric& metric : catalog.metrics) {
    if (metric.name == name) return metric;
  }
  ADD_FAILURE() << name;
  return catalog.metrics.front();
}

TEST(Generate, TheSameCatalogGivesTheSameBytesWhereverItLies) {
  const Catalog catalog = SampleCatalog();
  Catalog moved = catalog;
  moved.file = "/elsewhere/shop.yaml";
  const auto files = Generate(catalog, OutputKinds());
  const auto again = Generate(moved, OutputKinds());
  ASSERT_EQ(files.size(), again.size());
  for (size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(files[i].path, again[i].path);
    EXPECT_EQ(files[i].text, again[i].text) << files[i].path;
  }
}

TEST(Generate, EveryFileSaysWhatItIsFrom) {
  for (const GeneratedFile& file : Generate(SampleCatalog(), OutputKinds())) {
    if (file.is_stub) continue;
    EXPECT_THAT(file.text, HasSubstr("enerated by tallyctl from shop.yaml")) << file.path;
    EXPECT_THAT(file.text, Not(HasSubstr("etc/"))) << file.path;
  }
}

TEST(Generate, EveryLineEndsAndNoneEndsInBlanks) {
  for (const GeneratedFile& file : Generate(SampleCatalog(), OutputKinds())) {
    EXPECT_EQ(file.text.back(), '\n') << file.path;
    for (const std::string& line : LinesOf(file.text)) {
      EXPECT_TRUE(line.empty() || (line.back() != ' ' && line.back() != '\t'))
          << file.path << ": " << line;
    }
  }
}

TEST(Generate, OnlyWhatIsAskedFor) {
  EXPECT_THAT(Generate(SampleCatalog(), {"mapping"}), SizeIs(1));
  EXPECT_THAT(Generate(SampleCatalog(), {"node"}), SizeIs(2));
  std::set<std::string> paths;
  for (const std::string& kind : OutputKinds()) {
    for (const GeneratedFile& file : Generate(SampleCatalog(), {kind})) {
      EXPECT_TRUE(paths.insert(file.path).second) << file.path;
    }
  }
  EXPECT_EQ(paths.size(), Generate(SampleCatalog(), OutputKinds()).size());
}

TEST(Generate, TimersAreSentInMillisecondsAndScaledOnesInTheirUnit) {
  const Catalog catalog = SampleCatalog();
  const Emission pay = EmissionOf(MetricOf(catalog, "shop_pay_seconds"));
  EXPECT_EQ(pay.type, "ms");
  EXPECT_EQ(pay.factor, 1000);
  const Emission basket = EmissionOf(MetricOf(catalog, "shop_basket_bytes"));
  EXPECT_EQ(basket.type, "h");
  EXPECT_EQ(basket.factor, 1.0 / 1000);
  DeclaredMetric nanos = MetricOf(catalog, "shop_pay_seconds");
  nanos.scale = 1e-9;
  EXPECT_EQ(EmissionOf(nanos).type, "h");
  EXPECT_EQ(EmissionOf(nanos).factor, 1e9);
}

TEST(Generate, TheSourceThatLabelsFillIsTheOneThatIsSent) {
  DeclaredMetric metric = Declared(1, "shop_requests_total", DeclaredType::kCounter);
  metric.sources = {"api.*.*.count", "api.*.count"};
  metric.labels = {BoundedLabel("route", 10, "$1"), ListedLabel("zone", {"a"})};
  const Emission emission = EmissionOf(metric);
  EXPECT_EQ(emission.source, "api.*.count");
  EXPECT_THAT(StarsOf(emission), ElementsAre("route"));
  EXPECT_THAT(emission.tags, SizeIs(1));
  metric.sources = {"api.*.*.count"};
  EXPECT_THAT(StarsOf(EmissionOf(metric)), ElementsAre("route", "segment_1"));
}

TEST(Generate, TheMappingIsOneThatIsRead) {
  const Catalog catalog = SampleCatalog();
  const std::string yaml = TextOf(GenerateMapping(catalog), "shop_mapping.yaml");
  const auto config = ParseMapping(yaml, "shop_mapping.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->warnings.empty());
  // All but the one that is observed.
  ASSERT_EQ(config->rules.size(), catalog.metrics.size() - 1);
  const auto mapping = Mapping::Compile(*config);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  Mapped mapped;
  ASSERT_TRUE((*mapping)->Map("shop.pay.at", SampleType::kTimer, &mapped));
  EXPECT_EQ(mapped.name, "shop_pay_seconds");
  ASSERT_EQ(mapped.labels.size(), 1U);
  EXPECT_EQ(mapped.labels[0].second, "at");
  EXPECT_EQ(mapped.rule->histogram.buckets, (std::vector<double>{0.1, 1, 10}));
  ASSERT_TRUE((*mapping)->Map("shop_basket_bytes", SampleType::kHistogram, &mapped));
  EXPECT_EQ(mapped.rule->scale, 1000);
  ASSERT_TRUE((*mapping)->Map("shop_search_seconds", SampleType::kTimer, &mapped));
  EXPECT_EQ(mapped.rule->observer_type, ObserverType::kSummary);
  EXPECT_EQ(mapped.rule->summary.quantiles.size(), 2U);
  EXPECT_FALSE((*mapping)->Map("shop_queue_depth", SampleType::kGauge, &mapped));
}

TEST(Generate, MappingRulesWithoutStarsComeFirst) {
  Catalog catalog = SampleCatalog();
  DeclaredMetric any = Declared(1, "shop_other_total", DeclaredType::kCounter);
  any.sources = {"shop.*"};
  catalog.metrics.insert(catalog.metrics.begin(), any);
  const std::string yaml = TextOf(GenerateMapping(catalog), "shop_mapping.yaml");
  EXPECT_LT(yaml.find("\"shop.orders\""), yaml.find("\"shop.*\""));
}

TEST(Generate, AlertsCarryOwnerAndRunbook) {
  const std::string yaml = TextOf(GenerateRules(SampleCatalog()), "shop_rules.yaml");
  EXPECT_THAT(yaml, HasSubstr("runbook_url: \"https://runbooks.example.org/shop/ShopOrdersFail\""));
  EXPECT_THAT(yaml, HasSubstr("owner: \"team-shop\""));
  EXPECT_THAT(yaml, HasSubstr("for: 5m"));
}

TEST(Generate, RunbooksShowTheAlertAsItIs) {
  const std::string text = TextOf(GenerateMarkdown(SampleCatalog()), "runbooks/ShopOrdersFail.md");
  EXPECT_THAT(text, HasSubstr("`{{ $value | humanizePercentage }} of the orders fail.`"));
  EXPECT_THAT(text, HasSubstr("```promql\n" + SampleAlert().expr + "\n```"));
  EXPECT_THAT(text, HasSubstr("topk(10, sum by (instance, status) (rate(shop_orders_total[5m])))"));
}

TEST(Generate, EachTestOfAnAlertIsATestOfPromtool) {
  const std::string yaml = TextOf(GenerateRules(SampleCatalog()), "shop_rules_test.yaml");
  EXPECT_THAT(yaml, HasSubstr("# ShopOrdersFail fires."));
  EXPECT_THAT(yaml, HasSubstr("# ShopOrdersFail does not fire."));
  EXPECT_THAT(yaml, HasSubstr("value: 1\n"));
  EXPECT_THAT(yaml, HasSubstr("value: 0\n"));
}

TEST(Generate, LabelsWithTheSameValuesAreOneEnumeration) {
  Catalog catalog = SampleCatalog();
  std::string header = TextOf(GenerateCpp(catalog), "shop_metrics.h");
  EXPECT_EQ(header.find("enum class Status {"), header.rfind("enum class Status {"));
  EXPECT_THAT(header, HasSubstr("std::string_view country, Status status, double value"));
  catalog.metrics[0].labels = {ListedLabel("status", {"lost", "5xx", "a-b", "a_b"})};
  header = TextOf(GenerateCpp(catalog), "shop_metrics.h");
  EXPECT_THAT(header, HasSubstr("enum class ShopOrdersTotalStatus {\n  kLost,\n  k5xx,\n  kAB,\n"
                                "  kAB2,\n};"));
}

TEST(Generate, WhatIsReadByTheDaemonHasNoFunctionsToSendIt) {
  const std::string header = TextOf(GenerateCpp(SampleCatalog()), "shop_metrics.h");
  const size_t begin = header.find("struct ShopQueueDepth {");
  ASSERT_NE(begin, std::string::npos);
  EXPECT_THAT(header.substr(begin, header.find("};", begin) - begin), Not(HasSubstr("Set(")));
}

TEST(Generate, TextOfTheCatalogCannotLeaveItsPlace) {
  Catalog catalog = SampleCatalog();
  const std::string hostile = "a\"b'c\\d\n*/ -->|x` ${e} {{ f }} \x01 \xc3\xa9";
  catalog.description = hostile;
  for (DeclaredMetric& metric : catalog.metrics) metric.help = hostile;
  for (DeclaredAlert& alert : catalog.alerts) alert.summary = alert.description = hostile;
  catalog.metrics[0].labels = {ListedLabel("status", {hostile})};
  const auto config =
      ParseMapping(TextOf(GenerateMapping(catalog), "shop_mapping.yaml"), "shop_mapping.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rules[0].help, hostile);
  for (const GeneratedFile& file : Generate(catalog, {"cpp", "python", "node", "go"})) {
    for (const std::string& line : LinesOf(file.text)) {
      EXPECT_FALSE(line.rfind("*/ -->", 0) == 0) << file.path;
    }
  }
}

TEST(CodeNames, AreNamesOfTheirLanguages) {
  EXPECT_EQ(CamelCase("mc_actor-mailbox"), "McActorMailbox");
  EXPECT_EQ(TypeCase("5xx"), "N5xx");
  EXPECT_EQ(ConstantName("5xx late"), "_5XX_LATE");
  EXPECT_EQ(CamelCase("--"), "Empty");
  EXPECT_EQ(CppParameter("class"), "class_label");
  EXPECT_EQ(CppParameter("sink"), "sink_label");
  EXPECT_EQ(CppParameter("status"), "status");
  EXPECT_EQ(CppLiteral("\xc3\xa9"
                       "1"),
            "\"\\303\\2511\"");
  EXPECT_EQ(YamlText("it's \"so\""), "'it''s \"so\"'");
  EXPECT_EQ(YamlText("yes"), "\"yes\"");
  UniqueNames names({"Status"});
  EXPECT_EQ(names.Take("Status"), "Status2");
  EXPECT_EQ(names.Take("Status"), "Status3");
}

TEST(CodeNames, IndentedJsonIsTheSameJson) {
  EXPECT_EQ(IndentedJson(R"({"a":[1,{}],"b:{\"":"[,]","c":[]})"),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b:{\\\"\": \"[,]\",\n  \"c\": []\n}\n");
}

class OutputFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/output_files_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override {
    ::unlink(PathOf("sub/a.md").c_str());
    ::rmdir(PathOf("sub").c_str());
    ::rmdir(directory_.c_str());
  }
  std::string PathOf(const std::string& path) const { return absl::StrCat(directory_, "/", path); }
  std::string Read() const {
    std::ifstream in(PathOf("sub/a.md"));
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  OutputState State(const GeneratedFile& file) const {
    const auto state = StateOf(directory_, file);
    EXPECT_TRUE(state.ok()) << state.status();
    return *state;
  }

  std::string directory_;
};

TEST_F(OutputFilesTest, AFileIsMissingThenThereThenDiffers) {
  GeneratedFile file{"sub/a.md", "text\n", false};
  EXPECT_EQ(State(file), OutputState::kMissing);
  ASSERT_TRUE(WriteOutput(directory_, file).ok());
  EXPECT_EQ(State(file), OutputState::kSame);
  EXPECT_EQ(Read(), "text\n");
  file.text = "other\n";
  EXPECT_EQ(State(file), OutputState::kDiffers);
}

TEST_F(OutputFilesTest, AStubIsTheirsOnceSomebodyEditedIt) {
  GeneratedFile stub{"sub/a.md", "# Alert\n", true};
  ASSERT_TRUE(WriteOutput(directory_, stub).ok());
  EXPECT_EQ(State(stub), OutputState::kSame);
  stub.text = "# Alert, said better\n";
  EXPECT_EQ(State(stub), OutputState::kDiffers) << "nobody has edited it yet";
  std::ofstream(PathOf("sub/a.md"), std::ios::app) << "Restart it.\n";
  EXPECT_EQ(State(stub), OutputState::kEdited);
  std::ofstream(PathOf("sub/a.md")) << "Written from nothing.";
  EXPECT_EQ(State(stub), OutputState::kEdited);
}

TEST_F(OutputFilesTest, WhatCannotBeWrittenIsSaidWithItsPath) {
  const absl::Status status = WriteOutput("/proc/nowhere", {"a", "text", false});
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("/proc/nowhere"));
}

}  // namespace
}  // namespace tallyd
