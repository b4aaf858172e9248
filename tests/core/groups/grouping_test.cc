#include "core/groups/grouping.h"

#include <gtest/gtest.h>

#include <string>

namespace tallyd {
namespace {

TEST(GroupingTest, ReadsPathsAsAPushgatewayDoes) {
  EXPECT_EQ(*ParseGrouping("job/j"), (Grouping{{"job", "j"}}));
  EXPECT_EQ(*ParseGrouping("job/j/"), (Grouping{{"job", "j"}}));
  EXPECT_EQ(*ParseGrouping("job/j/a/b/c/"), (Grouping{{"job", "j"}, {"a", "b"}, {"c", ""}}));
  EXPECT_EQ(*ParseGrouping("job@base64/YS9i/p@base64/L3Zhci90bXA="),
            (Grouping{{"job", "a/b"}, {"p", "/var/tmp"}}));
  EXPECT_EQ(*ParseGrouping("job/j/p@base64/="), (Grouping{{"job", "j"}, {"p", ""}}));
  // The job of the path holds.
  EXPECT_EQ(*ParseGrouping("job/j/job/k"), (Grouping{{"job", "j"}}));
}

TEST(GroupingTest, RefusesOthers) {
  for (const char* path : {"job/j/a", "job/j/a-b/c", "job/j/__a/b", "job@base64/=", "job@base64/!",
                           "job/j/p@base64/a", "job/j/p@base64/ab.c", "job/\xff"}) {
    EXPECT_EQ(ParseGrouping(path).status().code(), absl::StatusCode::kInvalidArgument) << path;
  }
  for (const char* path : {"", "job", "job/", "jobs/j", "other/job/j"}) {
    EXPECT_EQ(ParseGrouping(path).status().code(), absl::StatusCode::kNotFound) << path;
  }
}

TEST(GroupingTest, AGroupHasAsManyLabelsAsASeriesMayHave) {
  std::string path = "job/j";
  for (int i = 1; i < 64; ++i) path += "/l" + std::to_string(i) + "/v";
  EXPECT_EQ(ParseGrouping(path)->size(), 64u);
  EXPECT_EQ(ParseGrouping(path + "/l1/w")->size(), 64u);
  EXPECT_EQ(ParseGrouping(path + "/l64/v").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tallyd
