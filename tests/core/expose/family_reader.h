// Reads protobuf expositions as a receiver does, with generated code and with a receiver's checks.

#ifndef TALLYD_TESTS_CORE_EXPOSE_FAMILY_READER_H_
#define TALLYD_TESTS_CORE_EXPOSE_FAMILY_READER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/core/expose/metric_family.pb.h"

namespace tallyd {

using PbFamily = io::prometheus::client::MetricFamily;
using PbHistogram = io::prometheus::client::Histogram;

// What is wrong with a stream of length-delimited families, or nothing; the families themselves.
// Wrong is: what does not decode, a field that the protocol does not have, two families of a name,
// a metric without its value, labels that are not sorted and unique, an invalid histogram.
std::string ReadFamilies(std::string_view bytes, std::vector<PbFamily>* families);

// Buckets of a native histogram by number, without the empty ones; nothing if spans and deltas do
// not fit each other.
using PbBuckets = std::map<int32_t, uint64_t>;
std::optional<PbBuckets> PositiveBuckets(const PbHistogram& histogram);
std::optional<PbBuckets> NegativeBuckets(const PbHistogram& histogram);

// What a strict receiver would refuse in a histogram, or nothing.
std::string CheckHistogram(const PbHistogram& histogram);

}  // namespace tallyd

#endif  // TALLYD_TESTS_CORE_EXPOSE_FAMILY_READER_H_
