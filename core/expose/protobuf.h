// The protobuf format: length-delimited io.prometheus.client.MetricFamily messages.
//
// Sources: the exposition format page, the message description of prometheus/client_model (field
// numbers: protobuf.cc), and the specification of native histograms. Written by hand: the messages
// are few and shallow, and most of a series is its labels, which are at hand as text.

#ifndef TALLYD_CORE_EXPOSE_PROTOBUF_H_
#define TALLYD_CORE_EXPOSE_PROTOBUF_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/expose/text.h"
#include "core/merge/page_encoder.h"

namespace tallyd {

// Which buckets a histogram is shown with. With both the receiver chooses.
enum class HistogramForm { kNative, kBoth, kClassic };

// One message holds all of a family, however many pages it stands on: receivers that look families
// up by name (the Pushgateway, Telegraf) would keep the last of several. So a page on which a
// family begins says how long it is in all; the merger knows.
//
// Immutable and therefore thread-safe.
class ProtobufEncoder : public PageEncoder {
 public:
  ProtobufEncoder(HistogramForm form, ContentCoding coding) : form_(form), coding_(coding) {}

  void Family(const FamilyView& family, std::string* page) const override;
  void Counter(const FamilyView& family, std::string_view labels, const CounterValue& value,
               std::string* page) const override;
  void Gauge(const FamilyView& family, std::string_view labels, double value,
             std::string* page) const override;
  void Histogram(const FamilyView& family, std::string_view labels, const HistogramValue& value,
                 std::string* page) const override;
  void Summary(const FamilyView& family, std::string_view labels, const SummaryValue& value,
               std::string* page) const override;

  bool wants_native_histograms() const override { return form_ != HistogramForm::kClassic; }
  bool frames_families() const override { return true; }
  void EndFamily(size_t begin, uint64_t elsewhere, std::string* page) const override;
  bool compresses() const override { return coding_ == ContentCoding::kGzip; }
  void Finish(std::string* page) const override;

 private:
  HistogramForm form_;
  ContentCoding coding_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_EXPOSE_PROTOBUF_H_
