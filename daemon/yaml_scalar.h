// What the text of a scalar means, as go-yaml v2 reads YAML 1.1.

#ifndef TALLYD_DAEMON_YAML_SCALAR_H_
#define TALLYD_DAEMON_YAML_SCALAR_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "daemon/yaml_tree.h"

namespace tallyd {

// Each reads a scalar of one type, and gives nothing if it is of another one. A quoted scalar is
// text and therefore no number and no truth value.

// y, yes, true, on and n, no, false, off: in lower case, in upper case, or with a capital.
std::optional<bool> YamlBool(const YamlNode& node);

// Decimal and hexadecimal integers, octal (010, 0o10) and binary ones (0b10), decimal fractions
// with an exponent, .inf, .nan; "_" between digits is ignored.
std::optional<double> YamlNumber(const YamlNode& node);

// A number from 0 to 2^32 - 1; fractions are cut.
std::optional<uint32_t> YamlCount(const YamlNode& node);

// Nanoseconds. Text, quoted or not, is a duration as Go writes it (1h30m, 500ms, 0); a plain number
// is a number of nanoseconds, which `is_bare` says if it is given.
std::optional<int64_t> YamlDurationNs(const YamlNode& node, bool* is_bare = nullptr);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_YAML_SCALAR_H_
