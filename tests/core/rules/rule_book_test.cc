#include "core/rules/rule_book.h"

#include <gtest/gtest.h>

#include <memory>

namespace tallyd {
namespace {

TEST(RuleBookTest, WhatNobodyHoldsIsFreed) {
  const auto book = RuleBook::Create({.default_ttl_ms = 1}).value();
  const uint16_t first = book->newest();
  book->Hold(first);  // a shard
  const uint16_t second = book->Publish({.default_ttl_ms = 2}).value();
  EXPECT_NE(first, second);
  EXPECT_EQ(book->newest(), second);
  book->Sweep();
  EXPECT_EQ(book->generations(), 2u) << "the shard still has the first";
  EXPECT_EQ(book->At(first).options().default_ttl_ms, 1);
  book->Hold(second);
  book->Release(first);
  book->Sweep();
  EXPECT_EQ(book->generations(), 1u);
  EXPECT_EQ(book->At(second).options().default_ttl_ms, 2);
  book->Release(second);
  book->Sweep();
  EXPECT_EQ(book->generations(), 1u) << "the newest is the book's";
}

TEST(RuleBookTest, SequencesGrowWhileNumbersAreUsedAgain) {
  const auto book = RuleBook::Create({}).value();
  uint32_t sequence = book->At(book->newest()).sequence();
  for (int i = 0; i < 3000; ++i) {
    const auto number = book->Publish({});
    ASSERT_TRUE(number.ok()) << i;
    EXPECT_GT(book->At(*number).sequence(), sequence);
    sequence = book->At(*number).sequence();
    book->Sweep();
  }
  EXPECT_EQ(book->generations(), 1u);
}

TEST(RuleBookTest, TooManyThatAreHeldAreRefused) {
  const auto book = RuleBook::Create({}).value();
  book->Hold(book->newest());
  for (size_t i = 1; i < RuleBook::kMaxGenerations; ++i) {
    const auto number = book->Publish({});
    ASSERT_TRUE(number.ok()) << i;
    book->Hold(*number);
  }
  const uint16_t newest = book->newest();
  book->Sweep();
  EXPECT_EQ(book->Publish({}).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(book->newest(), newest) << "nothing has changed";
}

}  // namespace
}  // namespace tallyd
