// Line ends and a plain parse: what a straightforward receiver does to a datagram's bytes.

#ifndef TALLYD_BENCH_FLOOR_LINES_H_
#define TALLYD_BENCH_FLOOR_LINES_H_

#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"

namespace tallyd::bench {

// What the floors need of a line: enough to find the series and to add. They trust their input, as
// the load generator is the only one to send them anything.
struct ParsedLine {
  absl::string_view name;
  absl::string_view tags;
  char type;      // its first letter
  double value;   // the first one, divided by the rate
  double weight;  // 1 / rate
};

namespace line_ends_internal {

template <class Handle>
void Finish(const char* data, size_t bytes, size_t at, size_t begin, Handle& handle) {
  for (; at < bytes; ++at) {
    if (data[at] != '\n') continue;
    handle(absl::string_view(data + begin, at - begin));
    begin = at + 1;
  }
  if (begin < bytes) handle(absl::string_view(data + begin, bytes - begin));
}

template <class Handle>
void Sse2(const char* data, size_t bytes, Handle& handle) {
  const __m128i feed = _mm_set1_epi8('\n');
  size_t begin = 0;
  size_t at = 0;
  for (; at + 16 <= bytes; at += 16) {
    const __m128i chunk = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + at));
    auto ends = static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(chunk, feed)));
    for (; ends != 0; ends &= ends - 1) {
      const size_t end = at + static_cast<size_t>(std::countr_zero(ends));
      handle(absl::string_view(data + begin, end - begin));
      begin = end + 1;
    }
  }
  Finish(data, bytes, at, begin, handle);
}

template <class Handle>
[[gnu::target("avx2")]] void Avx2(const char* data, size_t bytes, Handle& handle) {
  const __m256i feed = _mm256_set1_epi8('\n');
  size_t begin = 0;
  size_t at = 0;
  for (; at + 32 <= bytes; at += 32) {
    const __m256i chunk = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + at));
    auto ends = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(chunk, feed)));
    for (; ends != 0; ends &= ends - 1) {
      const size_t end = at + static_cast<size_t>(std::countr_zero(ends));
      handle(absl::string_view(data + begin, end - begin));
      begin = end + 1;
    }
  }
  Finish(data, bytes, at, begin, handle);
}

}  // namespace line_ends_internal

// Calls handle(line) for each line of a payload, a last one without line feed included.
template <class Handle>
void ForEachLine(absl::string_view payload, Handle&& handle) {
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  if (has_avx2) {
    line_ends_internal::Avx2(payload.data(), payload.size(), handle);
  } else {
    line_ends_internal::Sse2(payload.data(), payload.size(), handle);
  }
}

// A decimal number with an optional sign and fraction, ended by any other character or by `end`.
inline const char* ParseNumber(const char* at, const char* end, double* value) {
  const bool negative = at < end && *at == '-';
  if (at < end && (*at == '-' || *at == '+')) ++at;
  int64_t digits = 0;
  for (; at < end && *at >= '0' && *at <= '9'; ++at) digits = digits * 10 + (*at - '0');
  double result = static_cast<double>(digits);
  if (at < end && *at == '.') {
    int64_t scale = 1;
    for (++at; at < end && *at >= '0' && *at <= '9'; ++at) {
      digits = digits * 10 + (*at - '0');
      scale *= 10;
    }
    result = static_cast<double>(digits) / static_cast<double>(scale);
  }
  *value = negative ? -result : result;
  return at;
}

// `name:value|type[|@rate][|#tags]`. False if there is no colon or no type.
inline bool ParseLine(absl::string_view line, ParsedLine* parsed) {
  const char* const end = line.data() + line.size();
  const auto* colon = static_cast<const char*>(std::memchr(line.data(), ':', line.size()));
  if (colon == nullptr) return false;
  parsed->name = absl::string_view(line.data(), static_cast<size_t>(colon - line.data()));
  const char* at = ParseNumber(colon + 1, end, &parsed->value);
  if (at + 1 >= end || *at != '|') return false;
  parsed->type = at[1];
  parsed->tags = absl::string_view();
  parsed->weight = 1;
  for (at += 2; at < end && *at != '|'; ++at) {
  }
  while (at + 1 < end) {
    const char section = at[1];
    at += 2;
    if (section == '#') {
      // The load generator writes the tags last.
      parsed->tags = absl::string_view(at, static_cast<size_t>(end - at));
      return true;
    }
    double rate = 1;
    if (section == '@') at = ParseNumber(at, end, &rate);
    parsed->weight = 1 / rate;
    parsed->value *= parsed->weight;
    for (; at < end && *at != '|'; ++at) {
    }
  }
  return true;
}

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_FLOOR_LINES_H_
