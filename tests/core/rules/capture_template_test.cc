#include "core/rules/capture_template.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tallyd {
namespace {

std::string ExpandGlob(std::string_view text, std::vector<std::string_view> captures) {
  std::string out;
  CaptureTemplate::OfGlob(text, static_cast<int>(captures.size()) - 1).Expand(captures, &out);
  return out;
}

std::string ExpandRegex(std::string_view text, std::vector<std::string_view> captures,
                        const std::map<int, std::string>& names = {}) {
  std::string out;
  CaptureTemplate::OfRegex(text, static_cast<int>(captures.size()) - 1, names)
      .Expand(captures, &out);
  return out;
}

struct Row {
  std::string_view text;
  std::string_view glob;
  std::string_view regex;
};

// docs/mapping.md, "Templates": two captures, "x" and "y", of the name "n".
TEST(CaptureTemplateTest, GlobAndRegexReadReferencesEachInTheirWay) {
  const std::vector<Row> rows = {
      {"", "", ""},
      {"plain", "plain", "plain"},
      {"$1", "x", "x"},
      {"${2}", "y", "y"},
      {"a_$1_b", "a_", "a_"},
      {"a_${1}_b", "a_x_b", "a_x_b"},
      {"$1-$2", "x-y", "x-y"},
      {"$1.$2", "x.y", "x.y"},
      {"$1$2", "", "xy"},
      {"${1}${2}", "xy", "xy"},
      {"$0", "", "n"},
      {"${0}", "", "n"},
      {"$3", "", ""},
      {"$10", "", ""},
      {"a$99999999999999999999b", "a", "a"},
      {"${name}", "", "y"},
      {"$name", "", "y"},
      {"$names", "", ""},
      {"$$1", "", "$1"},
      {"$$", "", "$"},
      {"$$${1}", "{1}", "$x"},  // a "$" belongs to the run of a glob's reference
      {"${1", "x", "${1"},
      {"$1}", "x", "x}"},
      {"$ 5", "$ 5", "$ 5"},
      {"US$", "US$", "US$"},
      {"${}", "${}", "${}"},
      {"${", "${", "${"},
      {"${-}", "${-}", "${-}"},
      {"50% of ${1}", "50% of x", "50% of x"},
      {"%s%d${1}", "%s%dx", "%s%dx"},
      {"$1-$11", "x-", "x-"},
      {"$01", "x", ""},             // Go's regexp takes 01 for a name
      {"$1\u00e9", "x\u00e9", ""},  // and letters of any script for a part of it
      {"$1 and $1", "x and x", "x and x"},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(ExpandGlob(row.text, {"n", "x", "y"}), row.glob) << row.text;
    EXPECT_EQ(ExpandRegex(row.text, {"n", "x", "y"}, {{2, "name"}}), row.regex) << row.text;
  }
}

TEST(CaptureTemplateTest, CapturedTextIsNotExpandedAgain) {
  EXPECT_EQ(ExpandGlob("${1}-${2}", {"n", "${2}", "$1"}), "${2}-$1");
  EXPECT_EQ(ExpandRegex("${1}-${2}", {"n", "${2}", "$1"}), "${2}-$1");
}

TEST(CaptureTemplateTest, TwoDigitsAreOneNumber) {
  const std::vector<std::string_view> twelve = {"n", "a", "b", "c", "d", "e", "f",
                                                "g", "h", "i", "j", "k", "l"};
  EXPECT_EQ(ExpandGlob("$1-$11-${12}", twelve), "a-k-l");
  EXPECT_EQ(ExpandRegex("$1-$11-${12}", twelve), "a-k-l");
}

TEST(CaptureTemplateTest, OfGroupsWithOneNameTheFirstThatTookPartCounts) {
  const std::map<int, std::string> names = {{1, "v"}, {2, "v"}};
  EXPECT_EQ(ExpandRegex("${v}", {"n", "x", "y"}, names), "x");
  EXPECT_EQ(ExpandRegex("${v}", {"n", {}, "y"}, names), "y");
  EXPECT_EQ(ExpandRegex("<${v}>", {"n", {}, {}}, names), "<>");
  EXPECT_EQ(ExpandRegex("<$1>", {"n", {}, "y"}, names), "<>");
}

TEST(CaptureTemplateTest, SaysWhichCapturesItNeeds) {
  EXPECT_EQ(CaptureTemplate::OfGlob("plain", 3).max_capture(), -1);
  EXPECT_EQ(CaptureTemplate::OfGlob("$2 ${1}", 3).max_capture(), 2);
  EXPECT_EQ(CaptureTemplate::OfGlob("$9", 3).max_capture(), -1);
  EXPECT_EQ(CaptureTemplate::OfRegex("$0", 3, {}).max_capture(), 0);
  EXPECT_EQ(CaptureTemplate::OfRegex("$a", 3, {{1, "a"}, {3, "a"}}).max_capture(), 3);
}

}  // namespace
}  // namespace tallyd
