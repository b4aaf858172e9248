#include "core/rules/sanitize.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace tallyd {
namespace {

std::string Sanitized(std::string_view text) {
  std::string out;
  AppendSanitizedName(text, &out);
  return out;
}

std::string Escaped(std::string_view value) {
  std::string out;
  AppendEscapedLabelValue(value, &out);
  return out;
}

TEST(SanitizeTest, KeepsLettersDigitsAndUnderscores) {
  EXPECT_EQ(Sanitized("abcXYZ_019"), "abcXYZ_019");
  EXPECT_EQ(Sanitized("_"), "_");
  EXPECT_EQ(Sanitized("__a"), "__a");
  EXPECT_EQ(Sanitized(""), "");
}

TEST(SanitizeTest, PutsAnUnderscoreBeforeALeadingDigit) {
  EXPECT_EQ(Sanitized("9lives"), "_9lives");
  EXPECT_EQ(Sanitized("0"), "_0");
  EXPECT_EQ(Sanitized("a9"), "a9");
  EXPECT_EQ(Sanitized("-9"), "_9");
}

TEST(SanitizeTest, TurnsEachOtherCharacterIntoOneUnderscore) {
  EXPECT_EQ(Sanitized("a.b c/d"), "a_b_c_d");
  EXPECT_EQ(Sanitized("a..b"), "a__b");
  EXPECT_EQ(Sanitized(" a "), "_a_");
  EXPECT_EQ(Sanitized("\xc3\xa9"), "_") << "two bytes are one character";
  EXPECT_EQ(Sanitized("a\xe2\x82\xac\xe2\x82\xac"), "a__");
  EXPECT_EQ(Sanitized("\xf0\x9f\x98\x80z"), "_z");
  EXPECT_EQ(Sanitized(std::string_view("a\0b", 3)), "a_b");
}

TEST(SanitizeTest, CollapsesRunsOfDashesOnly) {
  EXPECT_EQ(Sanitized("a---b"), "a_b");
  EXPECT_EQ(Sanitized("a-b"), "a_b");
  EXPECT_EQ(Sanitized("a.-b"), "a__b");
  EXPECT_EQ(Sanitized("a-.-b"), "a___b");
  EXPECT_EQ(Sanitized("a-_-b"), "a___b");
  EXPECT_EQ(Sanitized("---"), "_");
}

TEST(SanitizeTest, EscapesBackslashQuoteAndLineFeedOnly) {
  EXPECT_EQ(Escaped(R"(a\b"c)"), R"(a\\b\"c)");
  EXPECT_EQ(Escaped("a\nb"), R"(a\nb)");
  EXPECT_EQ(Escaped("\t\r é'{}="), "\t\r é'{}=");
  EXPECT_EQ(Escaped(""), "");
}

// Whatever goes in, what comes out is a name, or nothing for nothing.
TEST(SanitizeTest, AlwaysGivesAName) {
  std::mt19937 random(3);
  for (int i = 0; i < 20'000; ++i) {
    std::string text(random() % 12, ' ');
    for (char& c : text) c = static_cast<char>(random() % 128);
    const std::string name = Sanitized(text);
    ASSERT_EQ(name.empty(), text.empty());
    if (name.empty()) continue;
    ASSERT_FALSE(name[0] >= '0' && name[0] <= '9') << name;
    ASSERT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789_"),
              std::string::npos)
        << name;
    ASSERT_EQ(Sanitized(name), name) << "a name is its own name";
  }
}

}  // namespace
}  // namespace tallyd
