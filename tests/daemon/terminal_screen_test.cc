#include "daemon/terminal_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <string_view>

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int kUp = static_cast<int>(TerminalKey::kUp);
constexpr int kDown = static_cast<int>(TerminalKey::kDown);
constexpr int kPageUp = static_cast<int>(TerminalKey::kPageUp);
constexpr int kPageDown = static_cast<int>(TerminalKey::kPageDown);
constexpr int kHome = static_cast<int>(TerminalKey::kHome);

TEST(KeyReaderTest, ReadsCharactersAndArrows) {
  EXPECT_THAT(KeyReader().Keys("q?\t "), ElementsAre('q', '?', '\t', ' '));
  EXPECT_THAT(KeyReader().Keys("\x1b[A\x1b[Bj"), ElementsAre(kUp, kDown, 'j'));
  EXPECT_THAT(KeyReader().Keys("\x1bOA\x1bOB\x1b[H\x1b[1~"), ElementsAre(kUp, kDown, kHome, kHome));
  EXPECT_THAT(KeyReader().Keys("\x1b[5~\x1b[6~"), ElementsAre(kPageUp, kPageDown));
}

TEST(KeyReaderTest, SkipsWhatItDoesNotKnowAsAWhole) {
  EXPECT_THAT(KeyReader().Keys("\x1b[15~\x1b[200~\x1b[24;80R\x1bq"), IsEmpty());
  EXPECT_THAT(KeyReader().Keys("\x1b[1;5Cq"), ElementsAre('q'));
  EXPECT_THAT(KeyReader().Keys("\x1b\x1b[A"), ElementsAre(kUp));
  EXPECT_THAT(KeyReader().Keys("\x1b[" + std::string(100'000, '9') + "~q"), ElementsAre('q'));
}

TEST(KeyReaderTest, ASequenceMayComeInPieces) {
  KeyReader reader;
  EXPECT_THAT(reader.Keys("\x1b"), IsEmpty());
  EXPECT_THAT(reader.Keys("["), IsEmpty());
  EXPECT_THAT(reader.Keys("5"), IsEmpty());
  EXPECT_THAT(reader.Keys("~k"), ElementsAre(kPageUp, 'k'));
}

TEST(TerminalScreenTest, WhatIsNoTerminalIsNotTaken) {
  // The tests' output goes to a pipe or a file; at a terminal its kind is taken away.
  ASSERT_EQ(::setenv("TERM", "dumb", 1), 0);
  EXPECT_FALSE(TerminalScreen::Open().ok());
  EXPECT_FALSE(TerminalScreen::Interrupted());
}

}  // namespace
}  // namespace tallyd
