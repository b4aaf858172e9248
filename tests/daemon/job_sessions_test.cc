#include "daemon/job_sessions.h"

#include <gtest/gtest.h>

#include <string>
#include <unordered_map>

namespace tallyd {
namespace {

using Parameters = std::unordered_map<std::string, std::string>;

TEST(JobRequestTest, ReadsLabelsAndTtl) {
  const absl::StatusOr<JobRequest> request = ParseJobRequest(
      {{"job", "nightly"}, {"instance", "a:1"}, {"label.zone", "eu"}, {"ttl_ms", "1500"}});
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->labels, (Grouping{{"instance", "a:1"}, {"job", "nightly"}, {"zone", "eu"}}));
  EXPECT_EQ(request->ttl, absl::Milliseconds(1500));
}

// A label that is taken for two tags, or for none, would change whose samples they are.
TEST(JobRequestTest, RefusesWhatCouldNotBeATag) {
  for (const Parameters& parameters : {Parameters{{"instance", "a"}},
                                       {{"job", ""}},
                                       {{"job", "a,b:c"}},
                                       {{"job", "a|b"}},
                                       {{"job", "a\nb:1|c"}},
                                       {{"job", "\xff"}},
                                       {{"job", "a"}, {"label.__x", "b"}},
                                       {{"job", "a"}, {"label.le", "b"}},
                                       {{"job", "a"}, {"label.a-b", "b"}},
                                       {{"job", "a"}, {"other", "b"}},
                                       {{"job", "a"}, {"ttl_ms", "-1"}},
                                       {{"job", "a"}, {"ttl_ms", "99999999999999"}},
                                       {{"job", std::string(2000, 'x')}}}) {
    EXPECT_FALSE(ParseJobRequest(parameters).ok());
  }
}

}  // namespace
}  // namespace tallyd
