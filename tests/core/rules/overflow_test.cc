#include "core/rules/overflow.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace tallyd {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

Labels LabelsOf(std::string_view rendered) {
  Labels labels;
  ForEachLabel(rendered, [&](std::string_view name, std::string_view value) {
    labels.emplace_back(name, value);
  });
  return labels;
}

TEST(OverflowTest, LabelsAreTakenApart) {
  EXPECT_EQ(LabelsOf(""), Labels{});
  EXPECT_EQ(LabelsOf(R"(a="")"), (Labels{{"a", ""}}));
  EXPECT_EQ(LabelsOf(R"(a="1",b="x,y=\"z\"",c="\\")"),
            (Labels{{"a", "1"}, {"b", R"(x,y=\"z\")"}, {"c", R"(\\)"}}));
}

TEST(OverflowTest, FoldsOneLabelOrAll) {
  const std::string labels = R"(a="1",id="42\"",z="\\")";
  std::string folded;
  EXPECT_TRUE(FoldLabel(labels, HashLabelName("id"), &folded));
  EXPECT_EQ(folded, R"(a="1",id="__overflow__",z="\\")");
  EXPECT_FALSE(FoldLabel(labels, HashLabelName("absent"), &folded));
  EXPECT_EQ(FoldAllLabels(labels), R"(a="__overflow__",id="__overflow__",z="__overflow__")");
  EXPECT_EQ(FoldAllLabels(""), "");
  EXPECT_EQ(FoldedLabels(R"(a="1",id="__overflow__")"), (std::vector<std::string>{"id"}));
}

TEST(OverflowTest, FindsTheLabelThatHasTooManyValues) {
  LabelSpread spread;
  EXPECT_EQ(spread.Widest(), 0u);
  for (int i = 0; i < 100; ++i) {
    spread.Add("host=\"h" + std::to_string(i % 3) + "\",id=\"" + std::to_string(i) + "\"");
  }
  EXPECT_EQ(spread.Widest(), HashLabelName("id"));
  EXPECT_EQ(spread.series(), 100u);
}

// Shards look at different series and shall come to the same label.
TEST(OverflowTest, OfEquallyManyValuesTheFirstNameIsMeant) {
  LabelSpread one;
  LabelSpread other;
  for (int i = 0; i < 10; ++i) {
    const std::string n = std::to_string(i);
    one.Add("b=\"" + n + "\",c=\"" + n + "\"");
    other.Add("c=\"" + n + "\",b=\"" + n + "\"");
  }
  EXPECT_EQ(one.Widest(), HashLabelName("b"));
  EXPECT_EQ(other.Widest(), HashLabelName("b"));
}

TEST(OverflowTest, ALabelOfOneValueIsNotMeant) {
  LabelSpread spread;
  for (int i = 0; i < 10; ++i) spread.Add(R"(a="1")");
  EXPECT_EQ(spread.Widest(), 0u);
}

}  // namespace
}  // namespace tallyd
