#include "tests/core/expose/family_reader.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/unknown_field_set.h>
#include <google/protobuf/util/delimited_message_util.h>

#include <limits>
#include <set>

namespace tallyd {
namespace {

namespace pb = io::prometheus::client;

template <typename Spans, typename Deltas>
std::optional<PbBuckets> Decode(const Spans& spans, const Deltas& deltas) {
  PbBuckets buckets;
  int64_t bucket = 0;
  int64_t count = 0;
  int at = 0;
  bool first = true;
  for (const pb::BucketSpan& span : spans) {
    if (span.length() == 0 || (!first && span.offset() <= 0)) return {};
    first = false;
    bucket += span.offset();
    for (uint32_t i = 0; i < span.length(); ++i, ++bucket) {
      if (at == deltas.size()) return {};
      count += deltas[at++];
      if (count < 0 || bucket > std::numeric_limits<int32_t>::max()) return {};
      if (count > 0) buckets[static_cast<int32_t>(bucket)] = static_cast<uint64_t>(count);
    }
  }
  if (at != deltas.size()) return {};
  return buckets;
}

uint64_t Total(const PbBuckets& buckets) {
  uint64_t total = 0;
  for (const auto& [bucket, count] : buckets) total += count;
  return total;
}

bool HasUnknownFields(const google::protobuf::Message& message) {
  const google::protobuf::Reflection* const reflection = message.GetReflection();
  if (!reflection->GetUnknownFields(message).empty()) return true;
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const auto* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      if (HasUnknownFields(reflection->GetMessage(message, field))) return true;
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      if (HasUnknownFields(reflection->GetRepeatedMessage(message, field, i))) return true;
    }
  }
  return false;
}

bool HasValueOf(const pb::Metric& metric, pb::MetricType type) {
  const int values = (metric.has_gauge() ? 1 : 0) + (metric.has_counter() ? 1 : 0) +
                     (metric.has_summary() ? 1 : 0) + (metric.has_untyped() ? 1 : 0) +
                     (metric.has_histogram() ? 1 : 0);
  if (values != 1) return false;
  switch (type) {
    case pb::COUNTER:
      return metric.has_counter();
    case pb::GAUGE:
      return metric.has_gauge();
    case pb::SUMMARY:
      return metric.has_summary();
    case pb::UNTYPED:
      return metric.has_untyped();
    case pb::HISTOGRAM:
      return metric.has_histogram();
    case pb::GAUGE_HISTOGRAM:
      return false;
  }
  return false;
}

std::string CheckMetric(const pb::Metric& metric, pb::MetricType type) {
  if (!HasValueOf(metric, type)) return "a metric without its value";
  std::string last;
  for (const pb::LabelPair& label : metric.label()) {
    if (!label.has_name() || !label.has_value()) return "half a label";
    if (label.name() <= last) return "labels out of order";
    last = label.name();
  }
  return metric.has_histogram() ? CheckHistogram(metric.histogram()) : "";
}

std::string CheckFamily(const PbFamily& family) {
  if (HasUnknownFields(family)) return "a field that is not in the protocol";
  if (!family.has_type()) return "no type";
  std::set<std::string> seen;
  for (const pb::Metric& metric : family.metric()) {
    if (std::string error = CheckMetric(metric, family.type()); !error.empty()) return error;
    std::string labels;
    for (const pb::LabelPair& label : metric.label()) {
      labels += label.name() + '\0' + label.value() + '\0';
    }
    if (!seen.insert(labels).second) return "a series twice";
  }
  return seen.empty() ? "a family without series" : "";
}

std::string CheckClassic(const PbHistogram& histogram) {
  double bound = -std::numeric_limits<double>::infinity();
  uint64_t below = 0;
  for (const pb::Bucket& bucket : histogram.bucket()) {
    if (!(bucket.upper_bound() > bound)) return "bounds out of order";
    if (bucket.cumulative_count() < below) return "buckets fall";
    bound = bucket.upper_bound();
    below = bucket.cumulative_count();
  }
  return below > histogram.sample_count() ? "more in buckets than in all" : "";
}

}  // namespace

std::optional<PbBuckets> PositiveBuckets(const PbHistogram& histogram) {
  return Decode(histogram.positive_span(), histogram.positive_delta());
}

std::optional<PbBuckets> NegativeBuckets(const PbHistogram& histogram) {
  return Decode(histogram.negative_span(), histogram.negative_delta());
}

std::string CheckHistogram(const PbHistogram& histogram) {
  if (std::string error = CheckClassic(histogram); !error.empty()) return error;
  if (!histogram.has_schema()) return histogram.has_zero_threshold() ? "no schema" : "";
  if (histogram.schema() < -4 || histogram.schema() > 8) return "schema";
  // Without it an empty histogram would not be taken for a native one.
  if (!(histogram.zero_threshold() >= 2.938735877055719e-39)) return "zero threshold";
  if (histogram.positive_delta_size() + histogram.negative_delta_size() > 160) return "buckets";
  const std::optional<PbBuckets> positive = PositiveBuckets(histogram);
  const std::optional<PbBuckets> negative = NegativeBuckets(histogram);
  if (!positive.has_value() || !negative.has_value()) return "spans and deltas";
  const uint64_t sum = Total(*positive) + Total(*negative) + histogram.zero_count();
  return sum == histogram.sample_count() ? "" : "count is not the sum of the buckets";
}

std::string ReadFamilies(std::string_view bytes, std::vector<PbFamily>* families) {
  families->clear();
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  google::protobuf::io::CodedInputStream in(&stream);
  std::set<std::string> names;
  while (true) {
    bool at_end = false;
    PbFamily family;
    if (!google::protobuf::util::ParseDelimitedFromCodedStream(&family, &in, &at_end)) {
      return at_end ? "" : "it does not decode";
    }
    if (!names.insert(family.name()).second) return family.name() + ": twice";
    if (std::string error = CheckFamily(family); !error.empty())
      return family.name() + ": " + error;
    families->push_back(std::move(family));
  }
}

}  // namespace tallyd
