#include "core/merge/gauge_merge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tallyd {
namespace {

// A gauge of two cells, of which the first may go.
class GaugeMergeTest : public testing::Test {
 protected:
  double Update() {
    std::vector<GaugeReading> readings;
    if (!first_is_gone_) readings.push_back(first_);
    readings.push_back(second_);
    readings.push_back(base_);
    return merge_.Update(readings);
  }
  void RetireFirst() {
    Update();
    merge_.Fold(first_, &base_);
    first_is_gone_ = true;
  }
  static void Set(GaugeReading* cell, double value, int64_t time) {
    cell->value = value;
    cell->set_time = time;
  }
  static void Change(GaugeReading* cell, double by, int64_t time) {
    cell->run_base = cell->added;
    cell->run_time = time;
    cell->value += by;
    cell->added += by;
  }

  GaugeMerge merge_;
  GaugeReading first_ = {.cell = {0, 7}};
  GaugeReading second_ = {.cell = {1, 9}};
  GaugeReading base_ = {.cell = GaugeMerge::kBase};
  bool first_is_gone_ = false;
};

TEST_F(GaugeMergeTest, ChangesAloneAddUp) {
  Change(&first_, 3, 10);
  Change(&second_, 4, 20);
  EXPECT_EQ(Update(), 7);
  RetireFirst();
  EXPECT_EQ(Update(), 7);
  Change(&second_, 1, 30);
  EXPECT_EQ(Update(), 8);
}

TEST_F(GaugeMergeTest, ValueStaysWhenTheCellThatSetItGoes) {
  Change(&second_, 50, 5);
  Set(&first_, 100, 10);
  Change(&second_, 2, 20);
  EXPECT_EQ(Update(), 102);
  RetireFirst();
  EXPECT_EQ(Update(), 102);
  Change(&second_, 1, 30);
  EXPECT_EQ(Update(), 103);
  Set(&second_, 7, 40);
  EXPECT_EQ(Update(), 7);
}

TEST_F(GaugeMergeTest, ChangesOfACellThatGoesStay) {
  Set(&second_, 100, 10);
  EXPECT_EQ(Update(), 100);
  Change(&first_, 5, 20);
  EXPECT_EQ(Update(), 105);
  RetireFirst();
  EXPECT_EQ(Update(), 105);
  Set(&second_, 1, 30);
  EXPECT_EQ(Update(), 1);
}

TEST_F(GaugeMergeTest, OlderSetThatIsLeftDoesNotComeBack) {
  Set(&second_, 3, 10);
  Set(&first_, 100, 20);
  EXPECT_EQ(Update(), 100);
  RetireFirst();
  EXPECT_EQ(Update(), 100);
}

TEST_F(GaugeMergeTest, ASetRepairsWhatAnInfiniteChangeMade) {
  const double inf = std::numeric_limits<double>::infinity();
  Change(&first_, inf, 10);
  EXPECT_EQ(Update(), inf);
  Set(&second_, 5, 20);
  EXPECT_EQ(Update(), 5);
  Change(&second_, 1, 30);
  EXPECT_EQ(Update(), 6);
  Change(&first_, -inf, 40);
  EXPECT_TRUE(std::isnan(Update()));
  Set(&second_, 7, 50);
  EXPECT_EQ(Update(), 7);
}

TEST_F(GaugeMergeTest, AnInfiniteChangeOfACellThatIsGoneIsRepaired) {
  const double inf = std::numeric_limits<double>::infinity();
  Change(&first_, inf, 10);
  Set(&second_, 5, 20);
  EXPECT_EQ(Update(), 5);
  RetireFirst();
  EXPECT_EQ(Update(), 5);
  Set(&second_, 6, 30);
  EXPECT_EQ(Update(), 6);
}

TEST_F(GaugeMergeTest, ACellThatSetItGoesAfterAnInfiniteChangeOfAnother) {
  const double inf = std::numeric_limits<double>::infinity();
  Change(&second_, inf, 10);
  Set(&first_, 5, 20);
  EXPECT_EQ(Update(), 5);
  RetireFirst();
  EXPECT_EQ(Update(), 5);
  Change(&second_, 1, 30);
  EXPECT_EQ(Update(), 5) << "of what is infinite no change is known";
}

}  // namespace
}  // namespace tallyd
