// Bounds on what one line may be. Whatever is past one is dropped under the reason named with it.

#ifndef TALLYD_CORE_WIRE_LIMITS_H_
#define TALLYD_CORE_WIRE_LIMITS_H_

#include <cstddef>

namespace tallyd {

// Bytes of a line without its line end; a longer one is `too_long`. It may be set lower but not
// higher: names and tag sections keep their sizes in 16 bits.
inline constexpr size_t kMaxLineBytes = 65'535;

// Bounds on a key. The rules hold keys against them, once for each key, so that they cost no time
// a sample.
struct KeyLimits {
  size_t name_bytes = 8'192;    // of the name without the tags in it; `name_too_long`
  size_t tags = 1'024;          // in name and sections, bad ones included; `too_many_tags`
  size_t label_bytes = 32'768;  // of all label names and values as shown; `labels_too_long`
};

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_LIMITS_H_
