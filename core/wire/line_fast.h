// The line that nearly every client sends, taken apart without a call:
//
//   name ":" [sign] digits ["." digits] "|" type ["|@" digits ["." digits]] ["|#" tags]
//        ["|c:" container-id] *( "|" section that is not read ) LF
//
// Whatever is not exactly that, every line with a byte above 127, and events and service checks go
// to LineParser, which is the rule; this is only quick. tests/fuzz holds the two against each
// other.
//
// They differ in one place. Tags in the name beside a tag section are `mixed_tag_dialects`: here
// nobody looks into the name, since the key of the sample shows both and the rules refuse it for
// that reason. An empty tag section leaves no trace in the key, so LineParser has to see it.

#ifndef TALLYD_CORE_WIRE_LINE_FAST_H_
#define TALLYD_CORE_WIRE_LINE_FAST_H_

#include <emmintrin.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "core/wire/event.h"
#include "core/wire/number.h"
#include "core/wire/sample.h"

namespace tallyd {
namespace wire_internal {

// Finds `a` or `b` from `p` on; one of them must be there. Sets `*high` if a byte before it has its
// top bit set. Whole blocks of 64 bytes: most names and tags end within the first, so that the loop
// is a branch that is always predicted.
inline const char* FindEither(const char* p, char a, char b, bool* high) {
  const __m128i va = _mm_set1_epi8(a);
  const __m128i vb = _mm_set1_epi8(b);
  for (;; p += 64) {
    uint64_t found = 0;
    uint64_t tops = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * 16));
      const __m128i hits = _mm_or_si128(_mm_cmpeq_epi8(bytes, va), _mm_cmpeq_epi8(bytes, vb));
      found |= static_cast<uint64_t>(static_cast<unsigned>(_mm_movemask_epi8(hits))) << (i * 16);
      tops |= static_cast<uint64_t>(static_cast<unsigned>(_mm_movemask_epi8(bytes))) << (i * 16);
    }
    if (found != 0) {
      *high |= (tops & (found - 1) & ~found) != 0;
      return p + std::countr_zero(found);
    }
    *high |= tops != 0;
  }
}

struct SmallDecimal {
  uint64_t digits = 0;  // all of them, the point left out
  int count = 0;        // of digits
  int after_point = 0;
  bool has_point = false;
};

// Up to seven digits and then something else, as nearly every value is, without a loop to
// mispredict. Returns null if that is not what stands there.
inline const char* ReadFewDigits(const char* p, SmallDecimal* decimal) {
  static_assert(std::endian::native == std::endian::little);
  uint64_t bytes;
  std::memcpy(&bytes, p, sizeof(bytes));
  // A byte is a digit if its high half is 3 and stays so with 6 added. The lowest byte that is none
  // is exact; carries can only spoil those above it.
  const uint64_t others =
      ((bytes & 0xf0f0f0f0f0f0f0f0u) ^ 0x3030303030303030u) |
      (((bytes + 0x0606060606060606u) & 0xf0f0f0f0f0f0f0f0u) ^ 0x3030303030303030u);
  if (others == 0) return nullptr;
  const int count = std::countr_zero(others) / 8;
  if (count == 0) return nullptr;
  // The digits to the top, zeros below: 8 digits, then pairs, fours and all at once.
  uint64_t digits = (bytes - 0x3030303030303030u) << (64 - count * 8);
  digits = (digits * 10 + (digits >> 8)) & 0x00ff00ff00ff00ffu;
  digits = (digits * 100 + (digits >> 16)) & 0x0000ffff0000ffffu;
  digits = (digits * 10000 + (digits >> 32)) & 0xffffffffu;
  decimal->digits = digits;
  decimal->count = count;
  decimal->after_point = 0;
  return p + count;
}

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
    decimal->has_point = true;
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

constexpr std::array<SampleType, 256> MakeTypes() {
  std::array<SampleType, 256> types{};
  types['c'] = SampleType::kCounter;
  types['g'] = SampleType::kGauge;
  types['m'] = SampleType::kTimer;
  types['h'] = SampleType::kHistogram;
  types['d'] = SampleType::kHistogram;
  return types;
}
// By the first character; sets, whose values are no numbers, are not among them.
inline constexpr std::array<SampleType, 256> kTypeOf = MakeTypes();

// The end of the line if `p` stands at LF or CR LF, else null.
inline const char* LineEnd(const char* p) {
  if (*p == '\n') return p;
  return *p == '\r' && p[1] == '\n' ? p + 1 : nullptr;
}

// Reads on from the bar at `p`, where no tags begin: a container id, then sections that are only
// counted. Newer clients send them with every line; it is apart from the rest to keep that short.
// Container id and tags stand side by side, and so are in the line what they are in a key. Returns
// as ParseLineFast.
[[gnu::noinline]] inline const char* ReadLaterSections(const char* p, Sample* sample) {
  bool high = false;
  const bool has_tags = !sample->tags.empty();
  for (bool first = true; *p == '|'; first = false) {
    const char* const section = p + 1;
    p = FindEither(section, '|', '\n', &high);
    const char* const end = p - (*p == '\n' && p[-1] == '\r' ? 1 : 0);
    if (end <= section || *section == '@' || *section == '#') return nullptr;
    const bool is_container = section[0] == 'c' && section[1] == ':';
    // Without tags a colon may begin another sample: one look at the container id says that none
    // does, and whatever else there is goes to the rule.
    if (is_container) {
      if (!first || end - section == 2) return nullptr;
      const char* const id = section + 2;
      if (!has_tags && std::memchr(id, ':', static_cast<size_t>(end - id)) != nullptr) {
        return nullptr;
      }
      const char* const tags = has_tags ? sample->tags.data() : section - 1;
      sample->tags = {tags, static_cast<size_t>(end - tags)};
    } else if (has_tags) {
      ++sample->repairs.unknown_sections;
    } else {
      return nullptr;
    }
  }
  return high ? nullptr : p;
}

}  // namespace wire_internal

// Parses the line at `line`, which is not empty; an LF ends it and kReadPadding bytes follow that.
// Returns the LF, or null if LineParser must read the line.
inline const char* ParseLineFast(const char* line_untrusted, Sample* sample) {
  using namespace wire_internal;
  if (*line_untrusted == '_' && OpeningKind({line_untrusted, kReadPadding})) return nullptr;
  bool high = false;
  const char* p = FindEither(line_untrusted, ':', '\n', &high);
  if (*p != ':' || p == line_untrusted) return nullptr;
  sample->name = {line_untrusted, static_cast<size_t>(p - line_untrusted)};

  ++p;
  const bool negative = *p == '-';
  sample->is_signed = negative || *p == '+';
  p += sample->is_signed ? 1 : 0;
  SmallDecimal value;
  const char* after = ReadFewDigits(p, &value);
  if (after == nullptr || *after != '|') {
    after = ReadSmallDecimal(p, &value);
    if (!IsExact(value) || *after != '|') return nullptr;
  }
  p = after;
  const double magnitude = ValueOf(value);
  sample->value = negative ? -magnitude : magnitude;
  sample->integer = value.digits;
  sample->is_integer = !value.has_point && !negative;

  // By table: types come in any order, so branches on them would be mispredicted.
  const bool millis = p[1] == 'm';
  sample->type = kTypeOf[static_cast<unsigned char>(p[1])];
  if (sample->type == SampleType{} || (millis && p[2] != 's')) return nullptr;
  p += millis ? 3 : 2;

  sample->rate = 1;
  if (*p == '|' && p[1] == '@') {
    SmallDecimal rate;
    p = ReadSmallDecimal(p + 2, &rate);
    if (!IsExact(rate)) return nullptr;
    sample->rate = rate.digits == 0 ? 1 : ValueOf(rate);
  }

  sample->tags = {};
  sample->repairs = {};
  sample->continues = false;
  if (*p == '|') {
    if (p[1] != '#') return high ? nullptr : ReadLaterSections(p, sample);
    const char* const tags = p + 2;
    p = FindEither(tags, '|', '\n', &high);
    const char* const tags_end = p - (*p == '\n' && p[-1] == '\r' ? 1 : 0);
    if (tags_end <= tags) return nullptr;
    sample->tags = {tags, static_cast<size_t>(tags_end - tags)};
    if (*p == '|') return high ? nullptr : ReadLaterSections(p, sample);
  } else {
    p = LineEnd(p);
    if (p == nullptr) return nullptr;
  }
  return high ? nullptr : p;
}

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_LINE_FAST_H_
