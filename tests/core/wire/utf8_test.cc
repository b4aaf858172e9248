// UTF-8: every encoded character is taken, and nothing else.

#include "core/wire/utf8.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace tallyd {
namespace {

// As RFC 3629 section 3 has it, for any number, also those that are no characters.
std::string Encode(uint32_t code) {
  const auto tail = [code](int shift) { return static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xC0 | code >> 6), tail(0)};
  if (code < 0x10000) return {static_cast<char>(0xE0 | code >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | code >> 18), tail(12), tail(6), tail(0)};
}

bool IsCharacter(uint32_t code) { return code < 0xD800 || (code > 0xDFFF && code <= 0x10FFFF); }

TEST(Utf8Test, TakesExactlyTheCharacters) {
  for (uint32_t code = 0; code < 0x200000; ++code) {
    const std::string text = Encode(code);
    ASSERT_EQ(Utf8CharacterSize(text), IsCharacter(code) ? text.size() : 0) << std::hex << code;
  }
}

TEST(Utf8Test, RefusesOverlongForms) {
  for (const auto* text : {"\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE0\x9F\xBF",
                           "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF"}) {
    EXPECT_FALSE(IsUtf8(text));
  }
}

TEST(Utf8Test, RefusesCutAndStrayBytes) {
  for (uint32_t code : {0x80u, 0x800u, 0x10000u}) {
    const std::string whole = Encode(code);
    for (size_t size = 1; size < whole.size(); ++size) {
      EXPECT_FALSE(IsUtf8(whole.substr(0, size)));
      EXPECT_FALSE(IsUtf8(whole.substr(0, size) + "a"));
      EXPECT_FALSE(IsUtf8(whole.substr(size)));
    }
  }
  for (int byte = 0x80; byte < 0x100; ++byte) {
    EXPECT_FALSE(IsUtf8(std::string(1, static_cast<char>(byte)))) << byte;
  }
}

TEST(Utf8Test, ReadsTheWholeText) {
  EXPECT_TRUE(IsUtf8(""));
  EXPECT_TRUE(IsUtf8("ascii \x7f \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"));
  EXPECT_TRUE(IsUtf8(std::string("a\0b", 3)));
  EXPECT_FALSE(IsUtf8("all well until here\xFF"));
}

}  // namespace
}  // namespace tallyd
