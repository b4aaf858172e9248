#include "core/groups/protobuf_reader.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tallyd {
namespace {

static_assert(std::endian::native == std::endian::little, "fixed64 is read as it lies");

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// One field of a message; which member holds depends on the type.
struct Field {
  uint64_t number = 0;
  WireType type = WireType::kVarint;
  uint64_t varint = 0;
  double fixed64 = 0;
  std::string_view bytes;

  bool Is(uint64_t n, WireType t) const { return number == n && type == t; }
};

// Takes a message apart, field by field. Thread-compatible.
class FieldReader {
 public:
  explicit FieldReader(std::string_view message) : rest_(message) {}

  // False at the end, and where the message is broken.
  bool Next(Field* field) {
    if (rest_.empty() || broken_) return false;
    uint64_t tag = 0;
    if (!TakeVarint(&tag)) return Break();
    field->number = tag >> 3;
    field->type = static_cast<WireType>(tag & 7);
    if (field->number == 0) return Break();
    switch (field->type) {
      case WireType::kVarint:
        return TakeVarint(&field->varint) || Break();
      case WireType::kFixed64:
        if (rest_.size() < sizeof(double)) return Break();
        std::memcpy(&field->fixed64, rest_.data(), sizeof(double));
        rest_.remove_prefix(sizeof(double));
        return true;
      case WireType::kBytes:
        return TakeBytes(&field->bytes) || Break();
      case WireType::kFixed32:
        if (rest_.size() < sizeof(uint32_t)) return Break();
        rest_.remove_prefix(sizeof(uint32_t));
        return true;
    }
    return Break();  // groups, which nobody writes any more
  }

  bool TakeVarint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return false;
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      *value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool TakeBytes(std::string_view* bytes) {
    uint64_t size = 0;
    if (!TakeVarint(&size) || size > rest_.size()) return false;
    *bytes = rest_.substr(0, static_cast<size_t>(size));
    rest_.remove_prefix(static_cast<size_t>(size));
    return true;
  }

  bool empty() const { return rest_.empty(); }
  bool broken() const { return broken_; }

 private:
  bool Break() {
    broken_ = true;
    return false;
  }

  std::string_view rest_;
  bool broken_ = false;
};

// Calls `take` for each field; false if the message or what `take` read is broken.
template <class Take>
bool ForEachField(std::string_view message, Take&& take) {
  FieldReader reader(message);
  Field field;
  while (reader.Next(&field)) {
    if (!take(field)) return false;
  }
  return !reader.broken();
}

// Counter, Gauge and Untyped have the value as their field 1.
bool ReadValue(std::string_view message, double* value) {
  return ForEachField(message, [value](const Field& field) {
    if (field.Is(1, WireType::kFixed64)) *value = field.fixed64;
    return true;
  });
}

bool ReadLabel(std::string_view message, PushedLabels* labels) {
  if (labels->size() == kMaxPushedLabels) return false;
  auto& [name, value] = labels->emplace_back();
  return ForEachField(message, [&name = name, &value = value](const Field& field) {
    if (field.Is(1, WireType::kBytes)) name = field.bytes;
    if (field.Is(2, WireType::kBytes)) value = field.bytes;
    return true;
  });
}

bool ReadQuantile(std::string_view message, PushedDistribution* distribution,
                  SampleAllowance* allowance) {
  if (!allowance->Take()) return false;
  PushedQuantile quantile;
  const bool whole = ForEachField(message, [&quantile](const Field& field) {
    if (field.Is(1, WireType::kFixed64)) quantile.quantile = field.fixed64;
    if (field.Is(2, WireType::kFixed64)) quantile.value = field.fixed64;
    return true;
  });
  if (!std::isnan(quantile.quantile)) distribution->quantiles.push_back(quantile);
  return whole;
}

bool ReadBucket(std::string_view message, PushedDistribution* distribution,
                SampleAllowance* allowance) {
  if (!allowance->Take()) return false;
  PushedBucket bucket;
  const bool whole = ForEachField(message, [&bucket](const Field& field) {
    if (field.Is(1, WireType::kVarint)) bucket.cumulative = field.varint;
    if (field.Is(2, WireType::kFixed64)) bucket.bound = field.fixed64;
    return true;
  });
  if (!std::isnan(bucket.bound)) distribution->buckets.push_back(bucket);
  return whole;
}

// Histogram and Summary have count and sum alike, and their items as field 3.
bool ReadDistribution(std::string_view message, bool is_histogram, PushedDistribution* distribution,
                      SampleAllowance* allowance) {
  return ForEachField(message, [is_histogram, distribution, allowance](const Field& field) {
    if (field.Is(1, WireType::kVarint)) distribution->count = field.varint;
    if (field.Is(2, WireType::kFixed64)) distribution->sum = field.fixed64;
    if (!field.Is(3, WireType::kBytes)) return true;
    return is_histogram ? ReadBucket(field.bytes, distribution, allowance)
                        : ReadQuantile(field.bytes, distribution, allowance);
  });
}

// The type that each field of a Metric is the value of.
bool TypeOfField(uint64_t number, FamilyType* type) {
  switch (number) {
    case 2:
      *type = FamilyType::kGauge;
      return true;
    case 3:
      *type = FamilyType::kCounter;
      return true;
    case 4:
      *type = FamilyType::kSummary;
      return true;
    case 5:
      *type = FamilyType::kUntyped;
      return true;
    case 7:
      *type = FamilyType::kHistogram;
      return true;
    default:
      return false;
  }
}

bool ReadMetric(std::string_view message, FamilyType type, PushedMetric* metric,
                SampleAllowance* allowance) {
  metric->is_of_family_type = false;
  return ForEachField(message, [type, metric, allowance](const Field& field) {
    if (field.Is(1, WireType::kBytes)) return ReadLabel(field.bytes, &metric->labels);
    if (field.Is(6, WireType::kVarint)) metric->has_timestamp = true;
    FamilyType of_field = FamilyType::kUntyped;
    if (field.type != WireType::kBytes || !TypeOfField(field.number, &of_field)) return true;
    if (of_field != type) return true;
    metric->is_of_family_type = true;
    if (type != FamilyType::kHistogram && type != FamilyType::kSummary) {
      return ReadValue(field.bytes, &metric->value);
    }
    metric->distribution = std::make_unique<PushedDistribution>();
    return ReadDistribution(field.bytes, type == FamilyType::kHistogram, metric->distribution.get(),
                            allowance);
  });
}

bool ReadType(uint64_t number, FamilyType* type) {
  constexpr FamilyType kTypes[] = {FamilyType::kCounter, FamilyType::kGauge, FamilyType::kSummary,
                                   FamilyType::kUntyped, FamilyType::kHistogram};
  if (number >= std::size(kTypes)) return false;
  *type = kTypes[number];
  return true;
}

// The type stands behind the name, though nothing says that it must stand before the metrics.
bool ReadFamily(std::string_view message, std::string* name, PushedFamily* family,
                SampleAllowance* allowance) {
  family->type = FamilyType::kCounter;  // the first of the enumeration, if none is said
  std::vector<std::string_view> metrics;
  const bool whole = ForEachField(message, [&](const Field& field) {
    if (field.Is(1, WireType::kBytes)) *name = field.bytes;
    if (field.Is(2, WireType::kBytes)) family->help = field.bytes;
    if (field.Is(3, WireType::kVarint)) return ReadType(field.varint, &family->type);
    if (field.Is(4, WireType::kBytes)) metrics.push_back(field.bytes);
    return true;
  });
  if (!whole) return false;
  for (const std::string_view metric : metrics) {
    if (!allowance->Take()) return false;
    if (!ReadMetric(metric, family->type, &family->metrics.emplace_back(), allowance)) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<PushedFamilies> ReadPushedProtobuf(std::string_view body_untrusted,
                                                  size_t max_samples) {
  SampleAllowance allowance(max_samples);
  PushedFamilies families;
  FieldReader reader(body_untrusted);
  while (!reader.empty()) {
    std::string_view message;
    if (!reader.TakeBytes(&message)) return absl::InvalidArgumentError("unexpected EOF");
    std::string name;
    PushedFamily family;
    if (!allowance.Take() || !ReadFamily(message, &name, &family, &allowance)) {
      if (allowance.exceeded()) {
        return absl::ResourceExhaustedError(
            absl::StrCat("more than ", max_samples, " series and families in one push"));
      }
      return absl::InvalidArgumentError("proto: this is no MetricFamily");
    }
    families[name] = std::move(family);
  }
  return families;
}

}  // namespace tallyd
