// Numbers as StatsD clients write them.
//
// The rule is Go's strconv.ParseFloat, because that is what statsd_exporter takes
// (docs/protocol.md, "Numbers"): an optional sign, decimal digits with point and exponent,
// hexadecimal with a binary exponent, "inf", "infinity" and "nan" in any case, underscores between
// digits. Beyond the largest double is an error; below the smallest is zero.

#ifndef TALLYD_CORE_WIRE_NUMBER_H_
#define TALLYD_CORE_WIRE_NUMBER_H_

#include <cstdint>
#include <string_view>

namespace tallyd {

struct Number {
  double value = 0;
  bool is_integer = false;  // `integer` is exactly what was written
  uint64_t integer = 0;
};

// Reads the whole of `text`. False if it is no number.
bool ParseNumber(std::string_view text_untrusted, Number* number);

// 10^0 to 10^22, the powers that are exact as doubles.
extern const double kExactPowersOfTen[23];

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_NUMBER_H_
