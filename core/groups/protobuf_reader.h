// Reads length-delimited MetricFamily messages (io.prometheus.client, client_model 0.3).

#ifndef TALLYD_CORE_GROUPS_PROTOBUF_READER_H_
#define TALLYD_CORE_GROUPS_PROTOBUF_READER_H_

#include <cstddef>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/groups/pushed_family.h"

namespace tallyd {

// InvalidArgument if the body is cut or is no such message. Unknown fields are skipped, as in every
// reader of protobuf. Of several families of one name the last holds. What a native histogram has
// beyond count and sum is not kept. ResourceExhausted if there is more than `max_samples` allows.
absl::StatusOr<PushedFamilies> ReadPushedProtobuf(std::string_view body_untrusted,
                                                  size_t max_samples);

}  // namespace tallyd

#endif  // TALLYD_CORE_GROUPS_PROTOBUF_READER_H_
