// Numbers: what Go's ParseFloat takes, to the last bit, and what it refuses.

#include "core/wire/number.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <string_view>

namespace tallyd {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

bool IsNumber(std::string_view text) {
  Number number;
  return ParseNumber(text, &number);
}

double ValueOf(std::string_view text) {
  Number number;
  EXPECT_TRUE(ParseNumber(text, &number)) << text;
  return number.value;
}

struct Taken {
  std::string_view text;
  double value;
};

TEST(NumberTest, TakesWhatGoTakes) {
  constexpr Taken kTaken[] = {
      {"5", 5},
      {"+5", 5},
      {"-5", -5},
      {".5", 0.5},
      {"5.", 5},
      {"-.5", -0.5},
      {"+5.", 5},
      {"0", 0},
      {"0012", 12},
      {"000.250", 0.25},
      {"1e3", 1000},
      {"1E3", 1000},
      {"1e+3", 1000},
      {"2.5E-1", 0.25},
      {".5e1", 5},
      {"5.e1", 50},
      {"0x1p4", 16},
      {"0X1P4", 16},
      {"-0x1p4", -16},
      {"+0x1.8p1", 3},
      {"0x.8p0", 0.5},
      {"0x1.p-1", 0.5},
      {"0xFfp+0", 255},
      {"1_000", 1000},
      {"1_2.3_4e1_0", 12.34e10},
      {"0x_1p4", 16},
      {"0x1_0p0", 16},
  };
  for (const Taken& taken : kTaken) EXPECT_EQ(ValueOf(taken.text), taken.value) << taken.text;
}

TEST(NumberTest, TakesInfinityAndNanInAnyCase) {
  for (const auto* text : {"inf", "Inf", "INF", "iNf", "infinity", "Infinity", "INFINITY"}) {
    EXPECT_EQ(ValueOf(text), kInf) << text;
    EXPECT_EQ(ValueOf(std::string("+") + text), kInf) << text;
    EXPECT_EQ(ValueOf(std::string("-") + text), -kInf) << text;
  }
  for (const auto* text : {"nan", "NaN", "NAN", "nAn"}) EXPECT_TRUE(std::isnan(ValueOf(text)));
}

TEST(NumberTest, RefusesWhatGoRefuses) {
  constexpr std::string_view kRefused[] = {
      "",        " ",       " 5",        "5 ",           "\t5",    "5\r",    "5abc",   "5,3",
      "1e",      "1e+",     "1e-",       "e5",           ".e5",    ".",      "+.",     "1.2.3",
      "1e5.0",   "1e5e5",   "1d3",       "0x10",         "0x",     "0xp1",   "0x.p1",  "0x1p",
      "0x1p+",   "0xgp1",   "0x1.2",     "0x1pa",        "--5",    "++5",    "+-5",    "-+5",
      "+",       "-",       "+nan",      "-nan",         "nan()",  "nan(1)", "nano",   "in",
      "infin",   "infinit", "infinityy", "inf1",         "1.5f",   "1.5L",   "0b1",    "0o7",
      "1'000",   "1,000",   "\xd9\xa1",  "\xef\xbc\x91", "_1",     "1_",     "1__0",   "1_.5",
      "1._5",    "1e_5",    "1_e5",      "+_1",          "0_x1p4", "_0x1p4", "0x1_p4", "0x1p_4",
      "0x__1p4", "in_f",    "n_an",      "1:2",          "1|2",
  };
  for (const std::string_view text : kRefused) EXPECT_FALSE(IsNumber(text)) << '"' << text << '"';
  EXPECT_FALSE(IsNumber(std::string_view("5\0", 2)));
  EXPECT_FALSE(
      IsNumber(std::string_view("\0"
                                "5",
                                2)));
}

TEST(NumberTest, BeyondTheLargestDoubleIsNoNumber) {
  EXPECT_EQ(ValueOf("1.7976931348623157e308"), std::numeric_limits<double>::max());
  EXPECT_EQ(ValueOf("1.7976931348623158e308"), std::numeric_limits<double>::max());
  EXPECT_EQ(ValueOf("0x1.fffffffffffffp1023"), std::numeric_limits<double>::max());
  for (const auto* text : {"1.8e308", "1e309", "-1e309", "1e99999999999999999999", "0x1p1024",
                           "0x1p99999999999999999999", "-0x1.fffffffffffff8p1023"}) {
    EXPECT_FALSE(IsNumber(text)) << text;
  }
  EXPECT_FALSE(IsNumber(std::string(400, '9')));
}

TEST(NumberTest, BelowTheSmallestDoubleIsZero) {
  EXPECT_EQ(ValueOf("4.9406564584124654e-324"), std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(ValueOf("4.9e-324"), std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(ValueOf("0." + std::string(400, '0') + "1"), 0);
  EXPECT_EQ(ValueOf("0x1p-1074"), std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(ValueOf("0x1.8p-1075"), std::numeric_limits<double>::denorm_min());
  for (const auto* text : {"1e-400", "-1e-400", "1e-99999999999999999999", "0x1p-1075",
                           "0x1p-99999999999999999999", "0e999999999999", "0x0p99999999999999"}) {
    EXPECT_EQ(ValueOf(text), 0) << text;
  }
  EXPECT_TRUE(std::signbit(ValueOf("-0")));
  EXPECT_TRUE(std::signbit(ValueOf("-1e-400")));
}

TEST(NumberTest, RoundsToNearestEven) {
  EXPECT_EQ(ValueOf("9007199254740993"), 9007199254740992.0);
  EXPECT_EQ(ValueOf("9007199254740995"), 9007199254740996.0);
  EXPECT_EQ(ValueOf("9007199254740993.00000000000000000000000000000001"), 9007199254740994.0);
  EXPECT_EQ(ValueOf("0x1.00000000000008p0"), 1.0);
  EXPECT_EQ(ValueOf("0x1.00000000000018p0"), 1.0 + 2 * std::numeric_limits<double>::epsilon());
  EXPECT_EQ(ValueOf("0x1.000000000000080000000000000001p0"),
            1.0 + std::numeric_limits<double>::epsilon());
  EXPECT_EQ(ValueOf("0." + std::string(2000, '3')), 1.0 / 3);
  EXPECT_EQ(ValueOf("1" + std::string(300, '0') + "." + std::string(5000, '0')), 1e300);
}

TEST(NumberTest, PlainDigitsAreExactIntegers) {
  Number number;
  ASSERT_TRUE(ParseNumber("18446744073709551615", &number));
  EXPECT_TRUE(number.is_integer);
  EXPECT_EQ(number.integer, UINT64_MAX);
  ASSERT_TRUE(ParseNumber("+00009007199254740993", &number));
  EXPECT_TRUE(number.is_integer);
  EXPECT_EQ(number.integer, 9007199254740993u);
  ASSERT_TRUE(ParseNumber("1_000", &number));
  EXPECT_TRUE(number.is_integer);
  EXPECT_EQ(number.integer, 1000u);
  for (const auto* text : {"18446744073709551616", "-1", "1.0", "1e3", "0x1p0", "inf", "nan"}) {
    ASSERT_TRUE(ParseNumber(text, &number));
    EXPECT_FALSE(number.is_integer) << text;
  }
}

// A property of every double: any way to write it with enough digits reads back as it.
TEST(NumberTest, EveryDoubleReadsBack) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200'000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    const double magnitude = std::fabs(value);
    std::array<char, 512> text;
    char* const end = text.data() + text.size();
    ASSERT_EQ(ValueOf({text.data(), std::to_chars(text.data(), end, value).ptr}), value);
    text[0] = '0';
    text[1] = 'x';
    const auto hex = std::to_chars(text.data() + 2, end, magnitude, std::chars_format::hex);
    ASSERT_EQ(ValueOf({text.data(), hex.ptr}), magnitude);
  }
}

// A property of hexadecimal texts: the C library, which rounds to nearest even, is the oracle.
TEST(NumberTest, HexadecimalIsWhatTheLibraryReads) {
  std::mt19937_64 random(2);
  constexpr std::string_view kDigits = "0123456789abcdefABCDEF";
  for (int i = 0; i < 100'000; ++i) {
    std::string text = "0x";
    const size_t digits = random() % 24 + 1;
    const size_t point = random() % 30;
    for (size_t digit = 0; digit < digits; ++digit) {
      if (digit == point) text += '.';
      text += random() % 3 == 0 ? '0' : kDigits[random() % kDigits.size()];
    }
    text += 'p' + std::to_string(static_cast<int>(random() % 2400) - 1200);
    const double expected = std::strtod(text.c_str(), nullptr);
    Number number;
    ASSERT_EQ(ParseNumber(text, &number), std::isfinite(expected)) << text;
    if (!std::isfinite(expected)) continue;
    ASSERT_EQ(number.value, expected) << text;
  }
}

}  // namespace
}  // namespace tallyd
