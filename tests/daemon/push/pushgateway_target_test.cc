#include "daemon/push/pushgateway_target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libdeflate.h>

#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/clock.h"
#include "daemon/push/push_metrics.h"
#include "daemon/push/push_thread.h"
#include "tests/daemon/push/script_server.h"

namespace tallyd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(FamilyFilterTest, Globs) {
  const struct {
    const char* pattern;
    const char* text;
    bool matches;
  } cases[] = {
      {"", "", true},
      {"*", "", true},
      {"*", "abc", true},
      {"abc", "abc", true},
      {"abc", "abcd", false},
      {"a*c", "abbc", true},
      {"a*c", "abcd", false},
      {"*_total", "a_total", true},
      {"a?c", "abc", true},
      {"a?c", "ac", false},
      {"*a*b*", "xxaxxbxx", true},
      {"*ab*ab", "ababab", true},
      {"**", "", true},
      {"?", "", false},
      {"a*", "b", false},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(MatchesGlob(c.pattern, c.text), c.matches) << c.pattern << " " << c.text;
  }
  // What would take a backtracking matcher for ever.
  EXPECT_FALSE(MatchesGlob("*a*a*a*a*a*a*a*a*b", std::string(5000, 'a')));
}

TEST(FamilyFilterTest, ExclusionWins) {
  EXPECT_TRUE(FamilyFilter().Wants("a"));
  const FamilyFilter filter = {.include = {"app_*", "other"}, .exclude = {"*_debug"}};
  EXPECT_TRUE(filter.Wants("app_requests"));
  EXPECT_TRUE(filter.Wants("other"));
  EXPECT_FALSE(filter.Wants("app_debug"));
  EXPECT_FALSE(filter.Wants("another"));
}

TEST(GroupingKeyTest, WhatIsNotPlainIsInBase64) {
  EXPECT_EQ((GroupingKey{.job = "a-b.c_D9", .labels = {{"instance", "h"}}}).Path(),
            "/metrics/job/a-b.c_D9/instance/h");
  // The values are from the gateway's README.
  EXPECT_EQ((GroupingKey{.job = "directory_cleaner", .labels = {{"path", "/var/tmp"}}}).Path(),
            "/metrics/job/directory_cleaner/path@base64/L3Zhci90bXA");
  EXPECT_EQ((GroupingKey{.job = "titan", .labels = {{"name", "Προμηθεύς"}}}).Path(),
            "/metrics/job/titan/name@base64/zqDPgc6_zrzOt864zrXPjc-C");
  EXPECT_EQ((GroupingKey{.job = "a b", .labels = {{"i", ""}, {"d", ".."}}}).Path(),
            "/metrics/job@base64/YSBi/d@base64/Li4/i@base64/=");
}

TEST(GroupingKeyTest, RefusesWhatAGatewayRefuses) {
  EXPECT_TRUE((GroupingKey{.job = "a", .labels = {{"instance", ""}}}).Check().ok());
  for (const GroupingKey& bad :
       {GroupingKey{.job = "", .labels = {}}, GroupingKey{.job = "\xff", .labels = {}},
        GroupingKey{.job = "a", .labels = {{"9", "x"}}},
        GroupingKey{.job = "a", .labels = {{"", "x"}}},
        GroupingKey{.job = "a", .labels = {{"__x", "x"}}},
        GroupingKey{.job = "a", .labels = {{"a-b", "x"}}},
        GroupingKey{.job = "a", .labels = {{"job", "x"}}},
        GroupingKey{.job = "a", .labels = {{"le", "x"}}},
        GroupingKey{.job = "a", .labels = {{"x", "\xff"}}},
        GroupingKey{.job = "a", .labels = {{"x", "1"}, {"x", "2"}}}}) {
    EXPECT_FALSE(bad.Check().ok()) << bad.Path();
  }
}

TEST(GroupingKeyTest, LabelsOfTheGroupAreRenamed) {
  const GroupingKey key = {.job = "j", .labels = {{"instance", "i"}}};
  const std::pair<const char*, const char*> cases[] = {
      {"", ""},
      {R"(a="b",c="d")", R"(a="b",c="d")"},
      {R"(a="job=\"x\",instance=\"y\"")", R"(a="job=\"x\",instance=\"y\"")"},
      {R"(instance="x")", R"(exported_instance="x")"},
      {R"(a="\\",instance="\"",job="q,r")", R"(a="\\",exported_instance="\"",exported_job="q,r")"},
      {R"(exported_job="a",job="b")", R"(exported_job="a",exported_exported_job="b")"},
      {R"(job2="a",myjob="b")", R"(job2="a",myjob="b")"},
  };
  for (const auto& [before, after] : cases) EXPECT_EQ(RenameGroupLabels(before, key), after);
}

TEST(InconsistentFamiliesTest, AreReadFromTheRefusal) {
  // As Pushgateway 1.5.1 writes them.
  EXPECT_THAT(
      InconsistentFamilies(
          "pushed metrics are invalid or inconsistent with existing metrics: 3 error(s) occurred:\n"
          "* collected metric \"x\" { label:<name:\"job\" value:\"b\" > gauge:<value:1 > } is not "
          "a "
          "COUNTER\n"
          "* collected metric named \"h_sum\" collides with previously collected histogram named "
          "\"h\"\n"
          "* gathered metric family go_goroutines has type COUNTER but should have GAUGE\n"),
      ElementsAre(ElementsAre("x"), ElementsAre("h_sum", "h"), ElementsAre("go_goroutines")));
  EXPECT_THAT(InconsistentFamilies("text format parsing error in line 1: collected metric \"x\""),
              IsEmpty());
  EXPECT_THAT(InconsistentFamilies(""), IsEmpty());
  EXPECT_THAT(InconsistentFamilies("inconsistent: collected metric \"never ends"), IsEmpty());
}

TEST(RejectedFamiliesTest, AreLeftOutForAWhile) {
  const auto is_ours = [](const std::string& name) { return name != "strange"; };
  RejectedFamilies rejected;
  const std::string refusal =
      "inconsistent:\n* collected metric \"strange\" is not\n"
      "* collected metric named \"h_sum\" collides with collected histogram named \"h\"\n"
      "* gathered metric family up has type\n";
  EXPECT_THAT(rejected.Add(refusal, 100, is_ours), ElementsAre("h_sum", "up"));
  // Another try would be refused again.
  EXPECT_THAT(rejected.Add(refusal, 200, is_ours), IsEmpty());
  EXPECT_TRUE(rejected.Has("up"));
  EXPECT_FALSE(rejected.Has("strange"));
  rejected.Forget(99);
  EXPECT_THAT(rejected.names(), ElementsAre("h_sum", "up"));
  rejected.Forget(100);
  EXPECT_THAT(rejected.names(), IsEmpty());
  EXPECT_THAT(rejected.Add(refusal, 200, is_ours), ElementsAre("h_sum", "up"));
}

std::string Unzipped(std::string_view members) {
  std::string all;
  libdeflate_decompressor* const unzip = libdeflate_alloc_decompressor();
  while (!members.empty()) {
    std::string text(1 << 20, 0);
    size_t taken = 0;
    size_t made = 0;
    if (libdeflate_gzip_decompress_ex(unzip, members.data(), members.size(), text.data(),
                                      text.size(), &taken, &made) != LIBDEFLATE_SUCCESS) {
      ADD_FAILURE() << "not gzip";
      break;
    }
    all.append(text, 0, made);
    members.remove_prefix(taken);
  }
  libdeflate_free_decompressor(unzip);
  return all;
}

// A state of three counters that grow with each rendering, in two pages.
class State {
 public:
  PushSources Sources() {
    PushSources sources;
    sources.render = [this](std::shared_ptr<const PageEncoder> encoder,
                            PushSources::Rendered rendered) {
      const std::lock_guard lock(mu_);
      ++renderings_;
      if (silent_) return;
      rendered(gone_ ? nullptr : Render(*encoder));
    };
    sources.own_text = [](const PushSelection& selection) {
      return std::string(selection.Takes("tallyd_x") ? "tallyd_x 1\n" : "");
    };
    return sources;
  }
  void SetGone() {
    const std::lock_guard lock(mu_);
    gone_ = true;
  }
  void SetSilent() {
    const std::lock_guard lock(mu_);
    silent_ = true;
  }

 private:
  std::shared_ptr<const Snapshot> Render(const PageEncoder& encoder) const {
    auto snapshot = std::make_shared<Snapshot>();
    for (const char* name : {"alpha", "beta", "push_time_seconds"}) {
      auto page = std::make_shared<std::string>();
      const FamilyView family = {.name = name, .help = "", .type = FamilyType::kCounter};
      encoder.Family(family, page.get());
      encoder.Counter(family, "instance=\"a\"", {.whole = renderings_}, page.get());
      encoder.Counter(family, "instance=\"b\"", {.whole = renderings_}, page.get());
      snapshot->sections[0].push_back(std::move(page));
    }
    return snapshot;
  }

  std::mutex mu_;
  uint64_t renderings_ = 0;
  bool gone_ = false;
  bool silent_ = false;
};

class PushgatewayTargetTest : public testing::Test {
 protected:
  // Answers the n-th request by the n-th answer, and the rest by the last.
  ScriptServer::Script Answers(std::vector<std::string> answers) {
    return [this, answers](ScriptedPeer& peer) {
      SeenRequest request;
      while (peer.ReadRequest(&request)) {
        size_t number = 0;
        {
          const std::lock_guard lock(mu_);
          number = seen_.size();
          seen_.push_back(request);
        }
        if (!peer.Send(answers[std::min(number, answers.size() - 1)])) return;
      }
    };
  }
  static std::string Answer(const std::string& status, const std::string& body = "",
                            const std::string& header = "") {
    return absl::StrCat("HTTP/1.1 ", status, "\r\n", header, "Content-Length: ", body.size(),
                        "\r\n\r\n", body);
  }

  std::vector<SeenRequest> seen() {
    const std::lock_guard lock(mu_);
    return seen_;
  }
  bool WaitForRequests(size_t count) {
    const int64_t deadline_ns = MonotonicNs() + 20'000'000'000;
    while (seen().size() < count && MonotonicNs() < deadline_ns) ::usleep(1000);
    return seen().size() >= count;
  }
  bool WaitForStatus(const std::function<bool(const PushStatus&)>& holds) {
    const int64_t deadline_ns = MonotonicNs() + 20'000'000'000;
    while (!holds(Status()) && MonotonicNs() < deadline_ns) ::usleep(1000);
    return holds(Status());
  }

  PushgatewayOptions OptionsFor(const ScriptServer& server) {
    PushgatewayOptions options;
    options.name = "gw";
    options.url = HttpUrl::Parse(absl::StrCat("http://127.0.0.1:", server.port())).value();
    options.key = {.job = "j", .labels = {{"instance", "i"}}};
    options.interval = absl::Milliseconds(20);
    options.max_series = 100;
    return options;
  }
  void Push(PushgatewayOptions options) {
    std::vector<PushgatewayOptions> targets;
    targets.push_back(std::move(options));
    thread_ = std::make_unique<PushThread>(std::move(targets), std::vector<RemoteWriteOptions>(),
                                           state_.Sources());
  }
  PushStatus Status() { return thread_->statuses().at(0); }

  State state_;
  std::mutex mu_;
  std::vector<SeenRequest> seen_;
  std::unique_ptr<PushThread> thread_;
};

TEST_F(PushgatewayTargetTest, PutsTheWholeStateAgainAndAgain) {
  ScriptServer server(Answers({Answer("200 OK")}));
  Push(OptionsFor(server));
  ASSERT_TRUE(WaitForRequests(3));
  EXPECT_EQ(seen()[0].line, "PUT /metrics/job/j/instance/i HTTP/1.1");
  EXPECT_THAT(seen()[0].header, HasSubstr("Content-Encoding: gzip\r\n"));
  EXPECT_THAT(seen()[0].header,
              HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_EQ(
      Unzipped(seen()[0].body),
      "# TYPE alpha counter\nalpha{exported_instance=\"a\"} 1\nalpha{exported_instance=\"b\"} "
      "1\n# TYPE beta counter\nbeta{exported_instance=\"a\"} 1\nbeta{exported_instance=\"b\"} "
      "1\n");
  EXPECT_THAT(Unzipped(seen()[2].body), HasSubstr("alpha{exported_instance=\"a\"} 3\n"));
  EXPECT_TRUE(WaitForStatus([](const PushStatus& status) { return status.requests[0] >= 3; }));
  const PushStatus status = Status();
  EXPECT_EQ(status.series, 4u);
  EXPECT_EQ(status.failures(), 0u);
  EXPECT_EQ(status.last_error, "");
  EXPECT_GT(status.sent_bytes, 0u);
  EXPECT_GT(status.last_success, absl::UnixEpoch());
  EXPECT_EQ(status.dropped[static_cast<size_t>(PushDropReason::kReservedName)],
            2 * status.requests[0]);
  thread_.reset();
}

TEST_F(PushgatewayTargetTest, SendsWhatIsWantedAndNoMore) {
  ScriptServer server(Answers({Answer("200 OK")}));
  PushgatewayOptions options = OptionsFor(server);
  options.url.path = "/gw";
  options.families = {.include = {"alpha", "tallyd_*"}, .exclude = {}};
  options.max_series = 1;
  options.own_metrics = true;
  Push(options);
  ASSERT_TRUE(WaitForRequests(1));
  EXPECT_EQ(seen()[0].line, "PUT /gw/metrics/job/j/instance/i HTTP/1.1");
  EXPECT_EQ(Unzipped(seen()[0].body),
            "# TYPE alpha counter\nalpha{exported_instance=\"a\"} 1\ntallyd_x 1\n");
  ASSERT_TRUE(WaitForStatus([](const PushStatus& status) { return status.requests[0] >= 1; }));
  EXPECT_GE(Status().dropped[static_cast<size_t>(PushDropReason::kSeriesLimit)], 1u);
  EXPECT_EQ(Status().series, 1u);
  thread_.reset();
}

TEST_F(PushgatewayTargetTest, AnInconsistentFamilyIsLeftOutAndTheRestGoesAtOnce) {
  ScriptServer server(Answers(
      {Answer("400 Bad Request",
              "pushed metrics are invalid or inconsistent with existing metrics: collected metric "
              "\"alpha\" { gauge:<value:1 > } is not a COUNTER\n"),
       Answer("200 OK")}));
  PushgatewayOptions options = OptionsFor(server);
  options.interval = absl::Hours(1);  // so that the second request is the same push
  Push(options);
  ASSERT_TRUE(WaitForRequests(2));
  EXPECT_THAT(Unzipped(seen()[1].body), Not(HasSubstr("alpha")));
  EXPECT_THAT(Unzipped(seen()[1].body), HasSubstr("beta"));
  ASSERT_TRUE(WaitForStatus([](const PushStatus& status) { return status.requests[0] == 1; }));
  EXPECT_EQ(Status().dropped[static_cast<size_t>(PushDropReason::kRejected)], 2u);
  EXPECT_EQ(Status().series, 2u);
  thread_.reset();
}

TEST_F(PushgatewayTargetTest, ARefusalOfWhatIsNotOursIsNotTriedForEver) {
  ScriptServer server(Answers(
      {Answer("400 Bad Request", "inconsistent: collected metric \"somebody_elses\" { } x\n")}));
  PushgatewayOptions options = OptionsFor(server);
  options.interval = absl::Hours(1);
  Push(options);
  ASSERT_TRUE(WaitForRequests(1));
  ::usleep(100'000);
  EXPECT_EQ(seen().size(), 1u);
  EXPECT_THAT(Status().last_error, HasSubstr("status 400"));
  thread_.reset();
}

TEST_F(PushgatewayTargetTest, WhatMayPassIsTriedSoonerThanTheInterval) {
  ScriptServer server(Answers({Answer("503 Unavailable"), Answer("200 OK")}));
  PushgatewayOptions options = OptionsFor(server);
  options.interval = absl::Hours(1);
  Push(options);
  ASSERT_TRUE(WaitForRequests(2));
  ASSERT_TRUE(WaitForStatus([](const PushStatus& status) { return status.requests[0] == 1; }));
  const PushStatus status = Status();
  EXPECT_EQ(status.requests[static_cast<size_t>(PushCause::kServerError)], 1u);
  EXPECT_EQ(status.last_error, "");
  // The newest state, not the one that failed.
  EXPECT_THAT(Unzipped(seen()[1].body), HasSubstr("alpha{exported_instance=\"a\"} 2\n"));
  thread_.reset();
}

TEST_F(PushgatewayTargetTest, RetryAfterIsHonoured) {
  ScriptServer server(
      Answers({Answer("429 Too Many Requests", "", "Retry-After: 600\r\n"), Answer("200 OK")}));
  Push(OptionsFor(server));
  ASSERT_TRUE(WaitForRequests(1));
  ::usleep(200'000);
  EXPECT_EQ(seen().size(), 1u);
  thread_.reset();
}

TEST_F(PushgatewayTargetTest, PushesALastTimeAndDeletesTheGroup) {
  ScriptServer server(Answers({Answer("200 OK")}));
  PushgatewayOptions options = OptionsFor(server);
  options.interval = absl::Hours(1);
  options.delete_on_exit = true;
  Push(options);
  ASSERT_TRUE(WaitForStatus([](const PushStatus& status) { return status.requests[0] == 1; }));
  thread_->Finish(absl::Seconds(10));
  ASSERT_EQ(seen().size(), 3u);
  EXPECT_EQ(seen()[1].line, "PUT /metrics/job/j/instance/i HTTP/1.1");
  EXPECT_THAT(Unzipped(seen()[1].body), HasSubstr("alpha{exported_instance=\"a\"} 2\n"));
  EXPECT_EQ(seen()[2].line, "DELETE /metrics/job/j/instance/i HTTP/1.1");
  thread_.reset();
}

TEST_F(PushgatewayTargetTest, TheEndDoesNotWaitForAServerThatHangs) {
  ScriptServer server([](ScriptedPeer& peer) { peer.AwaitEnd(); });
  PushgatewayOptions options = OptionsFor(server);
  options.delete_on_exit = true;
  Push(options);
  const int64_t begin_ns = MonotonicNs();
  thread_->Finish(absl::Milliseconds(300));
  thread_.reset();
  EXPECT_LT(MonotonicNs() - begin_ns, 5'000'000'000);
}

TEST_F(PushgatewayTargetTest, TheEndDoesNotWaitForARenderingThatHangs) {
  ScriptServer server(Answers({Answer("200 OK")}));
  state_.SetSilent();
  Push(OptionsFor(server));
  const int64_t begin_ns = MonotonicNs();
  thread_->Finish(absl::Milliseconds(300));
  EXPECT_LT(MonotonicNs() - begin_ns, 5'000'000'000);
  thread_.reset();
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(PushgatewayTargetTest, WithoutAStateThereIsNothingToPush) {
  ScriptServer server(Answers({Answer("200 OK")}));
  state_.SetGone();
  Push(OptionsFor(server));
  thread_->Finish(absl::Seconds(10));
  thread_.reset();
  EXPECT_THAT(seen(), IsEmpty());
}

TEST(PushFamiliesTest, EveryCauseAndReasonIsThereFromTheStart) {
  PushStatus status;
  status.target = "t";
  status.kind = "pushgateway";
  std::set<std::string> names;
  for (const prometheus::MetricFamily& family : PushFamilies({status, status})) {
    EXPECT_TRUE(names.insert(family.name).second);
    EXPECT_TRUE(absl::StartsWith(family.name, "tallyd_push_"));
    const size_t each = family.name == "tallyd_push_failures_total"  ? kPushCauses - 1
                        : family.name == "tallyd_push_dropped_total" ? kPushDropReasons
                                                                     : 1;
    EXPECT_EQ(family.metric.size(), 2 * each) << family.name;
  }
  EXPECT_EQ(names.size(), 13u);
  EXPECT_THAT(PushFamilies({}), IsEmpty());
}

}  // namespace
}  // namespace tallyd
