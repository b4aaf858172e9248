#include "core/wire/number.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace tallyd {
namespace {

double Parsed(std::string_view text) {
  Number number;
  EXPECT_TRUE(ParseNumber(text, &number)) << text;
  return number.value;
}

bool IsRefused(std::string_view text) {
  Number number;
  return !ParseNumber(text, &number);
}

TEST(NumberTest, TakesWhatGoTakes) {
  EXPECT_EQ(Parsed("5"), 5);
  EXPECT_EQ(Parsed("+5"), 5);
  EXPECT_EQ(Parsed("-5"), -5);
  EXPECT_EQ(Parsed(".5"), 0.5);
  EXPECT_EQ(Parsed("5."), 5);
  EXPECT_EQ(Parsed("0012"), 12);
  EXPECT_EQ(Parsed("1e3"), 1000);
  EXPECT_EQ(Parsed("2.5E-1"), 0.25);
  EXPECT_EQ(Parsed("0x1p4"), 16);
  EXPECT_EQ(Parsed("-0X1.8P1"), -3);
  EXPECT_EQ(Parsed("1_000"), 1000);
  EXPECT_EQ(Parsed("Inf"), std::numeric_limits<double>::infinity());
  EXPECT_EQ(Parsed("+Infinity"), std::numeric_limits<double>::infinity());
  EXPECT_EQ(Parsed("-iNf"), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(Parsed("nan")));
  EXPECT_EQ(Parsed("1e-400"), 0);
  EXPECT_EQ(Parsed("1e-99999999999999999999"), 0);
  EXPECT_EQ(Parsed("9007199254740993"), 9007199254740992.0) << "to nearest even";
  EXPECT_EQ(Parsed("0." + std::string(400, '0') + "1"), 0);
  EXPECT_EQ(Parsed("4.9e-324"), std::numeric_limits<double>::denorm_min());
}

TEST(NumberTest, RefusesTheRest) {
  for (const char* text :
       {"",       " 5",    "5 ",   "5abc",     "5,3",   "1e",     "1e+",      ".",
        "1.2.3",  "0x10",  "0xp1", "--5",      "+",     "-",      "+nan",     "-nan",
        "nan(1)", "infin", "1.5f", "\xd9\xa5", "1e309", "-1e309", "0x1p1024", "_1",
        "1_",     "1__0",  "1_.5", "e5",       "0x",    "1d3",    "+-1"}) {
    EXPECT_TRUE(IsRefused(text)) << text;
  }
}

TEST(NumberTest, KnowsExactIntegers) {
  Number number;
  ASSERT_TRUE(ParseNumber("18446744073709551615", &number));
  EXPECT_TRUE(number.is_integer);
  EXPECT_EQ(number.integer, UINT64_MAX);
  ASSERT_TRUE(ParseNumber("18446744073709551616", &number));
  EXPECT_FALSE(number.is_integer);
  for (const char* text : {"1.0", "1e3", "-1", "0x1p0"}) {
    ASSERT_TRUE(ParseNumber(text, &number));
    EXPECT_FALSE(number.is_integer) << text;
  }
}

}  // namespace
}  // namespace tallyd
