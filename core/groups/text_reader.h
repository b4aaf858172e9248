// Reads the text format 0.0.4 as the Pushgateway reads it.

#ifndef TALLYD_CORE_GROUPS_TEXT_READER_H_
#define TALLYD_CORE_GROUPS_TEXT_READER_H_

#include <cstddef>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/groups/pushed_family.h"

namespace tallyd {

// The families of a body that have samples. InvalidArgument, with the line, where the Pushgateway
// (Prometheus' expfmt) refuses it, and besides for text that is not UTF-8.
//
// ResourceExhausted if there is more than `max_samples` allows.
//
// As there: a last line without its LF is an error, "_sum", "_count" and "_bucket" belong to a
// histogram or summary whose TYPE came before, and series that come twice are kept twice.
absl::StatusOr<PushedFamilies> ReadPushedText(std::string_view body_untrusted, size_t max_samples);

}  // namespace tallyd

#endif  // TALLYD_CORE_GROUPS_TEXT_READER_H_
