// The line that nearly every client sends, taken apart without a call:
//
//   name ":" [sign] digits ["." digits] "|" type ["|@" digits ["." digits]] ["|#" tags] LF
//
// Whatever is not exactly that, and every line with a byte above 127, goes to LineParser, which is
// the rule; this is only quick. tests/fuzz holds the two against each other.

#ifndef TALLYD_CORE_WIRE_LINE_FAST_H_
#define TALLYD_CORE_WIRE_LINE_FAST_H_

#include <emmintrin.h>

#include <bit>
#include <cstdint>

#include "core/wire/number.h"
#include "core/wire/sample.h"

namespace tallyd {
namespace wire_internal {

// Finds `a` or `b` from `p` on, 16 bytes at a time; one of them must be there. `high` collects bytes
// with the top bit set, of up to 15 bytes past the find as well: it may say too much, never too
// little.
inline const char* FindEither(const char* p, char a, char b, int* high) {
  const __m128i va = _mm_set1_epi8(a);
  const __m128i vb = _mm_set1_epi8(b);
  for (;; p += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    *high |= _mm_movemask_epi8(bytes);
    const int found =
        _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(bytes, va), _mm_cmpeq_epi8(bytes, vb)));
    if (found != 0) return p + std::countr_zero(static_cast<unsigned>(found));
  }
}

struct SmallDecimal {
  uint64_t digits = 0;   // all of them, the point left out
  int count = 0;         // of digits
  int after_point = 0;
};

// Digits with at most one point among them. Up to 15 digits are exact as a double, and so is their
// quotient by a power of ten up to 10^22, correctly rounded.
inline const char* ReadSmallDecimal(const char* p, SmallDecimal* decimal) {
  const char* const start = p;
  uint64_t digits = 0;
  for (; static_cast<unsigned char>(*p - '0') < 10; ++p) {
    digits = digits * 10 + static_cast<unsigned char>(*p - '0');
  }
  decimal->count = static_cast<int>(p - start);
  if (*p == '.') {
    const char* const point = ++p;
    for (; static_cast<unsigned char>(*p - '0') < 10; ++p) {
      digits = digits * 10 + static_cast<unsigned char>(*p - '0');
    }
    decimal->after_point = static_cast<int>(p - point);
    decimal->count += decimal->after_point;
  }
  decimal->digits = digits;
  return p;
}

inline bool IsExact(const SmallDecimal& decimal) {
  return decimal.count > 0 && decimal.count <= 15;
}

inline double ValueOf(const SmallDecimal& decimal) {
  const double digits = static_cast<double>(static_cast<int64_t>(decimal.digits));
  return decimal.after_point == 0 ? digits : digits / kExactPowersOfTen[decimal.after_point];
}

// The end of the line if `p` stands at LF or CR LF, else null.
inline const char* LineEnd(const char* p) {
  if (*p == '\n') return p;
  return *p == '\r' && p[1] == '\n' ? p + 1 : nullptr;
}

}  // namespace wire_internal

// Parses the line at `line`, which is not empty; an LF ends it and kReadPadding bytes follow that.
// Returns the LF, or null if LineParser must read the line.
inline const char* ParseLineFast(const char* line_untrusted, Sample* sample) {
  using namespace wire_internal;
  int high = 0;
  const char* p = FindEither(line_untrusted, ':', '\n', &high);
  if (*p != ':' || p == line_untrusted) return nullptr;
  sample->name = {line_untrusted, static_cast<size_t>(p - line_untrusted)};

  ++p;
  const bool negative = *p == '-';
  sample->is_signed = negative || *p == '+';
  p += sample->is_signed ? 1 : 0;
  SmallDecimal value;
  p = ReadSmallDecimal(p, &value);
  if (!IsExact(value) || *p != '|') return nullptr;
  const double magnitude = ValueOf(value);
  sample->value = negative ? -magnitude : magnitude;
  sample->integer = value.digits;
  sample->is_integer = value.after_point == 0 && !negative;

  switch (p[1]) {
    case 'c':
      sample->type = SampleType::kCounter;
      break;
    case 'g':
      sample->type = SampleType::kGauge;
      break;
    case 'm':
      sample->type = SampleType::kTimer;
      if (p[2] != 's') return nullptr;
      ++p;
      break;
    case 'h':
    case 'd':
      sample->type = SampleType::kHistogram;
      break;
    default:
      return nullptr;
  }
  p += 2;

  sample->rate = 1;
  if (*p == '|' && p[1] == '@') {
    SmallDecimal rate;
    p = ReadSmallDecimal(p + 2, &rate);
    if (!IsExact(rate)) return nullptr;
    sample->rate = rate.digits == 0 ? 1 : ValueOf(rate);
  }

  sample->tags = {};
  if (*p == '|') {
    if (p[1] != '#') return nullptr;
    const char* const tags = p + 2;
    p = FindEither(tags, '|', '\n', &high);
    if (*p == '|') return nullptr;
    const char* const tags_end = p - (p[-1] == '\r' && p > tags ? 1 : 0);
    sample->tags = {tags, static_cast<size_t>(tags_end - tags)};
  } else {
    p = LineEnd(p);
    if (p == nullptr) return nullptr;
  }
  if (high != 0) return nullptr;
  sample->bad_rates = 0;
  sample->unknown_sections = 0;
  return p;
}

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_LINE_FAST_H_
