// What a set promises about its numbers and its memory, whatever the number of members.

#include "core/shard/set_cell.h"

#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/shard/cells.h"

namespace tallyd {
namespace {

constexpr int64_t kNowNs = SetCell::kWindowNs * 10;
// Of HyperLogLog with m registers: 1.04 / sqrt(m).
const double kStandardError = 1.04 / std::sqrt(static_cast<double>(SetCell::kRegisters));

// A cell between two words that nobody may touch.
class GuardedCell {
 public:
  GuardedCell() : words_(SetCell::kWords + 2) {
    StoreWord(words_.front(), kGuard);
    StoreWord(words_.back(), kGuard);
  }

  void Add(uint64_t member, uint64_t seed) {
    char text[32] = "user-";
    const auto end = std::to_chars(text + 5, text + sizeof(text), member).ptr;
    cell().Add(SetCell::HashMember({text, static_cast<size_t>(end - text)}, seed), kNowNs);
  }
  double Estimate() {
    SetUnion all;
    EXPECT_TRUE(cell().AddTo(kNowNs, &all));
    return all.Estimate();
  }
  bool kept_its_bounds() const {
    return LoadWord(words_.front()) == kGuard && LoadWord(words_.back()) == kGuard;
  }

 private:
  static constexpr uint64_t kGuard = 0x6775617264;

  SetCell cell() { return SetCell(words_.data() + 1); }

  std::vector<CellWord> words_;
};

TEST(SetCellTest, TenMillionMembersFitTheMemoryOfAFew) {
  static_assert(SetCell::kWords * sizeof(CellWord) == 4160);
  constexpr uint64_t kMembers = 10'000'000;
  GuardedCell cell;
  for (uint64_t member = 0; member < kMembers; ++member) cell.Add(member, 42);
  const double estimate = cell.Estimate();
  // Three standard errors: 4.9 %. The hash is seeded, so the number is the same every time.
  EXPECT_NEAR(estimate / kMembers, 1, 3 * kStandardError);
  for (uint64_t member = 0; member < kMembers; member += 7) cell.Add(member, 42);
  EXPECT_EQ(cell.Estimate(), estimate) << "members that were there already";
  EXPECT_TRUE(cell.kept_its_bounds());
}

TEST(SetCellTest, TheStatedErrorIsTheError) {
  constexpr uint64_t kMembers = 20'000;
  constexpr int kSets = 200;
  double squares = 0;
  double sum = 0;
  for (int set = 0; set < kSets; ++set) {
    GuardedCell cell;
    for (uint64_t member = 0; member < kMembers; ++member) {
      cell.Add(member, static_cast<uint64_t>(set) + 1);
    }
    const double error = cell.Estimate() / kMembers - 1;
    squares += error * error;
    sum += error;
  }
  // The spread of a spread over 200 sets is 5 %; that of their mean 1/14 of the error.
  EXPECT_NEAR(std::sqrt(squares / kSets) / kStandardError, 1, 0.2);
  EXPECT_NEAR(sum / kSets, 0, 4 * kStandardError / std::sqrt(kSets)) << "biased";
}

TEST(SetCellTest, IsExactUpToItsBound) {
  GuardedCell cell;
  for (uint64_t member = 0; member < SetCell::kMaxExact; ++member) {
    cell.Add(member, 1);
    cell.Add(member / 2, 1);
    ASSERT_EQ(cell.Estimate(), static_cast<double>(member + 1));
  }
}

TEST(SetCellTest, IsExactWhileSmallAndCloseBeyond) {
  std::vector<CellWord> words(SetCell::kWords);
  SetCell cell(words.data());
  const int64_t now_ns = SetCell::kWindowNs * 10;
  size_t members = 0;
  for (const size_t goal : {1u, 100u, 256u, 257u, 1000u, 50'000u, 1'000'000u, 5'000'000u}) {
    for (; members < goal; ++members) {
      const std::string member = std::to_string(members);
      cell.Add(SetCell::HashMember(member, 1), now_ns);
    }
    SetUnion all;
    ASSERT_TRUE(cell.AddTo(now_ns, &all));
    const double estimate = all.Estimate();
    if (goal <= SetCell::kMaxExact) {
      EXPECT_EQ(estimate, static_cast<double>(goal));
    } else {
      EXPECT_NEAR(estimate / static_cast<double>(goal), 1, 4 * 1.04 / 64) << goal;
    }
  }
  SetUnion later;
  ASSERT_TRUE(cell.AddTo(now_ns + SetCell::kWindowNs, &later));
  EXPECT_EQ(later.Estimate(), 0);
}

TEST(SetCellTest, UnionCountsMembersOnce) {
  const int64_t now_ns = SetCell::kWindowNs;
  for (const int size : {100, 5000}) {
    std::vector<CellWord> first(SetCell::kWords);
    std::vector<CellWord> second(SetCell::kWords);
    for (int i = 0; i < size; ++i) {
      SetCell(first.data()).Add(SetCell::HashMember(std::to_string(i), 1), now_ns);
      SetCell(second.data()).Add(SetCell::HashMember(std::to_string(i + size / 2), 1), now_ns);
    }
    SetUnion all;
    ASSERT_TRUE(SetCell(first.data()).AddTo(now_ns, &all));
    ASSERT_TRUE(SetCell(second.data()).AddTo(now_ns, &all));
    EXPECT_NEAR(all.Estimate(), size * 1.5, size == 100 ? 0 : size * 1.5 * 4 * 1.04 / 64);
  }
}

}  // namespace
}  // namespace tallyd
