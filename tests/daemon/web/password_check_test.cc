#include "daemon/web/password_check.h"

#include <crypt.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace tallyd {
namespace {

using Verdict = PasswordCheck::Verdict;

// Of the lowest cost, so that tests are quick.
std::string HashOf(const std::string& password, const char* prefix = "$2b$", unsigned cost = 4) {
  std::string setting(CRYPT_GENSALT_OUTPUT_SIZE, '\0');
  ::crypt_gensalt_rn(prefix, cost, nullptr, 0, setting.data(), static_cast<int>(setting.size()));
  const auto data = std::make_unique<crypt_data>();
  return ::crypt_r(password.c_str(), setting.c_str(), data.get());
}

// Answers that come from another thread. Shared with the callbacks.
struct Answers {
  std::mutex mu;
  std::condition_variable changed;
  std::vector<Verdict> verdicts;

  void Add(Verdict verdict) {
    const std::scoped_lock lock(mu);
    verdicts.push_back(verdict);
    changed.notify_all();
  }
  std::vector<Verdict> Await(size_t number) {
    std::unique_lock<std::mutex> lock(mu);
    changed.wait_for(lock, std::chrono::seconds(60), [&] { return verdicts.size() >= number; });
    return verdicts;
  }
};

class PasswordCheckTest : public ::testing::Test {
 protected:
  PasswordCheckTest() { check_.SetUsers({{"ann", HashOf("secret")}}); }

  Verdict Ask(const std::string& user, const std::string& password) {
    const auto answers = std::make_shared<Answers>();
    check_.Check(user, password, [answers](Verdict verdict) { answers->Add(verdict); });
    const std::vector<Verdict> verdicts = answers->Await(1);
    return verdicts.empty() ? Verdict::kBusy : verdicts.front();
  }

  PasswordCheck check_;
};

TEST_F(PasswordCheckTest, TheRightPasswordAlone) {
  EXPECT_EQ(Ask("ann", "secret"), Verdict::kRight);
  EXPECT_EQ(Ask("ann", "Secret"), Verdict::kWrong);
  EXPECT_EQ(Ask("ann", ""), Verdict::kWrong);
  EXPECT_EQ(Ask("ann", "secret "), Verdict::kWrong);
  EXPECT_EQ(Ask("bob", "secret"), Verdict::kWrong);
  EXPECT_EQ(Ask("", "secret"), Verdict::kWrong);
}

TEST_F(PasswordCheckTest, WhatIsBehindANulIsNotIgnored) {
  EXPECT_EQ(Ask("ann", std::string("secret\0x", 8)), Verdict::kWrong);
  EXPECT_EQ(Ask("ann", "secret"), Verdict::kRight);
}

TEST_F(PasswordCheckTest, UserAndPasswordDoNotRunIntoEachOther) {
  check_.SetUsers({{"a", HashOf("bc")}});
  EXPECT_EQ(Ask("a", "bc"), Verdict::kRight);
  EXPECT_EQ(Ask("ab", "c"), Verdict::kWrong);
}

TEST_F(PasswordCheckTest, AllSpellingsOfBcrypt) {
  for (const char* prefix : {"$2a$", "$2b$", "$2y$"}) {
    check_.SetUsers({{"ann", HashOf("secret", prefix)}});
    EXPECT_EQ(Ask("ann", "secret"), Verdict::kRight) << prefix;
    EXPECT_EQ(Ask("ann", "other"), Verdict::kWrong) << prefix;
  }
}

TEST_F(PasswordCheckTest, AnAnswerIsComputedOnce) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Ask("ann", "secret"), Verdict::kRight);
    EXPECT_EQ(Ask("ann", "wrong"), Verdict::kWrong);
  }
  EXPECT_EQ(check_.computed(), 2U);
}

TEST_F(PasswordCheckTest, AnUnknownUserCostsAComputationToo) {
  Ask("nobody", "secret");
  EXPECT_EQ(check_.computed(), 1U);
}

TEST_F(PasswordCheckTest, AnUnknownUserCostsWhatTheDearestCosts) {
  check_.SetUsers({{"ann", HashOf("secret", "$2b$", 4)}, {"root", HashOf("secret", "$2b$", 10)}});
  const auto time_of = [this](const std::string& user) {
    auto least = std::chrono::steady_clock::duration::max();
    for (const char* guess : {"x", "y", "z"}) {
      const auto start = std::chrono::steady_clock::now();
      EXPECT_EQ(Ask(user, guess), Verdict::kWrong);
      least = std::min(least, std::chrono::steady_clock::now() - start);
    }
    return least;
  };
  // They are 1:1; with the first user's hash it would be 1:64.
  EXPECT_GT(time_of("nobody"), time_of("root") / 8);
}

TEST_F(PasswordCheckTest, TheSameUsersAgainLeaveWhatIsRemembered) {
  const std::string hash = HashOf("secret");
  check_.SetUsers({{"ann", hash}});
  EXPECT_EQ(Ask("ann", "secret"), Verdict::kRight);
  check_.SetUsers({{"ann", hash}});
  EXPECT_EQ(Ask("ann", "secret"), Verdict::kRight);
  EXPECT_EQ(check_.computed(), 1U);
}

TEST_F(PasswordCheckTest, GuessesDoNotPushOutWhoKnows) {
  EXPECT_EQ(Ask("ann", "secret"), Verdict::kRight);
  for (size_t i = 0; i < 2 * PasswordCheck::kMaxRemembered; ++i) Ask("ann", std::to_string(i));
  const uint64_t before = check_.computed();
  EXPECT_EQ(Ask("ann", "secret"), Verdict::kRight);
  EXPECT_EQ(check_.computed(), before);
}

TEST_F(PasswordCheckTest, AChangedPasswordHoldsAtOnce) {
  EXPECT_EQ(Ask("ann", "secret"), Verdict::kRight);
  check_.SetUsers({{"ann", HashOf("new")}});
  EXPECT_EQ(Ask("ann", "secret"), Verdict::kWrong);
  EXPECT_EQ(Ask("ann", "new"), Verdict::kRight);
}

TEST_F(PasswordCheckTest, AFloodIsToldToComeBack) {
  check_.SetUsers({{"ann", HashOf("secret", "$2b$", 10)}});
  const auto answers = std::make_shared<Answers>();
  constexpr size_t kAsked = 10 * PasswordCheck::kMaxWaiting;
  for (size_t i = 0; i < kAsked; ++i) {
    check_.Check("ann", std::to_string(i), [answers](Verdict verdict) { answers->Add(verdict); });
  }
  const std::vector<Verdict> verdicts = answers->Await(kAsked - PasswordCheck::kMaxWaiting - 1);
  const auto busy = std::count(verdicts.begin(), verdicts.end(), Verdict::kBusy);
  EXPECT_GE(busy, static_cast<int64_t>(kAsked / 2));
  EXPECT_EQ(std::count(verdicts.begin(), verdicts.end(), Verdict::kRight), 0);
}

TEST(PasswordCheckEndTest, NobodyIsAnsweredAfterTheEnd) {
  const auto answers = std::make_shared<Answers>();
  {
    PasswordCheck check;
    check.SetUsers({{"ann", HashOf("secret", "$2b$", 12)}});
    for (int i = 0; i < 5; ++i) {
      check.Check("ann", std::to_string(i), [answers](Verdict verdict) { answers->Add(verdict); });
    }
  }
  const size_t answered = answers->Await(0).size();
  EXPECT_LT(answered, 5U);
  const std::unique_lock<std::mutex> lock(answers->mu);
  EXPECT_EQ(answers->verdicts.size(), answered);
}

}  // namespace
}  // namespace tallyd
