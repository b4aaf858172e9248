#include "core/expose/remote_write.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <snappy.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/expose/write_request.h"
#include "write1.pb.h"
#include "write2.pb.h"

namespace tallyd {
namespace {

namespace v2 = io::prometheus::write::v2;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

constexpr int64_t kTime = 1'790'000'000'123;
constexpr FamilyView kRequests = {
    .name = "requests_total", .help = "", .type = FamilyType::kCounter};
constexpr FamilyView kDepth = {.name = "depth", .help = "", .type = FamilyType::kGauge};
constexpr FamilyView kTook = {.name = "took", .help = "", .type = FamilyType::kHistogram};
constexpr FamilyView kSpent = {.name = "spent", .help = "", .type = FamilyType::kSummary};

std::vector<WriteRecord> RecordsOf(const std::string& page) {
  std::vector<WriteRecord> records;
  WriteRecord record;
  for (WriteRecordReader reader(page); reader.Next(&record);) records.push_back(record);
  return records;
}

std::string Uncompressed(const std::string& block) {
  std::string message;
  EXPECT_TRUE(snappy::Uncompress(block.data(), block.size(), &message));
  return message;
}

prometheus::WriteRequest Decode1(const std::string& page) {
  prometheus::WriteRequest request;
  const std::string block = WriteRequestBuilder().Build(WriteProtocol::k1, RecordsOf(page));
  EXPECT_TRUE(request.ParseFromString(Uncompressed(block)));
  return request;
}

v2::Request Decode2(const std::string& page) {
  v2::Request request;
  const std::string block = WriteRequestBuilder().Build(WriteProtocol::k2, RecordsOf(page));
  EXPECT_TRUE(request.ParseFromString(Uncompressed(block)));
  return request;
}

using Labels = std::vector<std::pair<std::string, std::string>>;

Labels LabelsOf(const prometheus::TimeSeries& series) {
  Labels labels;
  for (const prometheus::Label& label : series.labels()) {
    labels.emplace_back(label.name(), label.value());
  }
  return labels;
}

RemoteWriteEncoder::Options At(int64_t timestamp_ms) {
  RemoteWriteEncoder::Options options;
  options.timestamp_ms = timestamp_ms;
  return options;
}

TEST(RemoteWriteEncoderTest, WritesACounter) {
  std::string page;
  RemoteWriteEncoder(At(kTime)).Counter(kRequests, R"(code="200",route="/")", {41, 1.5}, &page);
  const prometheus::WriteRequest request = Decode1(page);
  ASSERT_THAT(request.timeseries(), SizeIs(1));
  const prometheus::TimeSeries& series = request.timeseries(0);
  EXPECT_THAT(LabelsOf(series), ElementsAre(Pair("__name__", "requests_total"), Pair("code", "200"),
                                            Pair("route", "/")));
  ASSERT_THAT(series.samples(), SizeIs(1));
  EXPECT_EQ(series.samples(0).value(), 42.5);
  EXPECT_EQ(series.samples(0).timestamp(), kTime);
  EXPECT_THAT(series.histograms(), IsEmpty());
}

TEST(RemoteWriteEncoderTest, WritesEveryDoubleAsItIs) {
  for (const double value :
       {0.0, -0.0, 0.1 + 0.2, -1e300, std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::denorm_min(), std::numeric_limits<double>::quiet_NaN()}) {
    std::string page;
    RemoteWriteEncoder(At(kTime)).Gauge(kDepth, "", value, &page);
    const double read = Decode1(page).timeseries(0).samples(0).value();
    EXPECT_EQ(std::bit_cast<uint64_t>(read), std::bit_cast<uint64_t>(value));
  }
}

TEST(RemoteWriteEncoderTest, UnescapesLabelValues) {
  std::string page;
  RemoteWriteEncoder(At(kTime)).Gauge(kDepth, R"(a="q\"b\\s\nl",b="\\n",c="{,}=")", 1, &page);
  EXPECT_THAT(LabelsOf(Decode1(page).timeseries(0)),
              ElementsAre(Pair("__name__", "depth"), Pair("a", "q\"b\\s\nl"), Pair("b", "\\n"),
                          Pair("c", "{,}=")));
}

TEST(RemoteWriteEncoderTest, LeavesOutLabelsWithoutAValue) {
  std::string page;
  RemoteWriteEncoder::Options options = At(kTime);
  options.external_labels = {{"host", ""}};
  RemoteWriteEncoder(options).Gauge(kDepth, R"(a="",b="1",c="")", 1, &page);
  EXPECT_THAT(LabelsOf(Decode1(page).timeseries(0)),
              ElementsAre(Pair("__name__", "depth"), Pair("b", "1")));
}

// As Prometheus has it: what has no value is not there, and so is in nothing's way.
TEST(RemoteWriteEncoderTest, AnExternalLabelTakesThePlaceOfOneWithoutAValue) {
  std::string page;
  RemoteWriteEncoder::Options options = At(kTime);
  options.external_labels = {{"a", "1"}, {"instance", "host"}, {"z", "2"}};
  RemoteWriteEncoder(options).Gauge(kDepth, R"(b="",instance="",job="j",z="")", 1, &page);
  EXPECT_THAT(LabelsOf(Decode1(page).timeseries(0)),
              ElementsAre(Pair("__name__", "depth"), Pair("a", "1"), Pair("instance", "host"),
                          Pair("job", "j"), Pair("z", "2")));
}

TEST(RemoteWriteEncoderTest, SortsLabelsWithTheNameAmongThem) {
  std::string page;
  RemoteWriteEncoder::Options options = At(kTime);
  options.external_labels = {{"zone", "z"}, {"A", "1"}, {"_b", "2"}, {"kind", "3"}};
  RemoteWriteEncoder(options).Gauge(kDepth, R"(B="4",a="5",zz="6")", 1, &page);
  EXPECT_THAT(
      LabelsOf(Decode1(page).timeseries(0)),
      ElementsAre(Pair("A", "1"), Pair("B", "4"), Pair("__name__", "depth"), Pair("_b", "2"),
                  Pair("a", "5"), Pair("kind", "3"), Pair("zone", "z"), Pair("zz", "6")));
}

TEST(RemoteWriteEncoderTest, ASeriesOwnLabelWinsOverAnExternalOne) {
  std::string page;
  RemoteWriteEncoder::Options options = At(kTime);
  options.external_labels = {{"host", "outer"}, {"site", "s"}};
  RemoteWriteEncoder(options).Gauge(kDepth, R"(host="own")", 1, &page);
  EXPECT_THAT(LabelsOf(Decode1(page).timeseries(0)),
              ElementsAre(Pair("__name__", "depth"), Pair("host", "own"), Pair("site", "s")));
}

class HistogramTest : public testing::Test {
 protected:
  HistogramTest() {
    value_.bounds = bounds_;
    value_.les = les_;
    value_.buckets = buckets_;
    value_.sum = 12.5;
    native_.schema = -2;
    native_.zero_count = 2;
    native_.count = 11;
    native_.positive.spans = {{-3, 2}, {4, 1}};
    native_.positive.deltas = {3, -2, 4};
    native_.negative.spans = {{65, 1}};
    native_.negative.deltas = {0};
  }

  const std::vector<double> bounds_ = {0.1, 1};
  const std::vector<std::string> les_ = {"0.1", "1"};
  const std::vector<uint64_t> buckets_ = {3, 0, 8};
  HistogramValue value_;
  NativeHistogram native_;
};

TEST_F(HistogramTest, WritesClassicBuckets) {
  std::string page;
  RemoteWriteEncoder(At(kTime)).Histogram(kTook, R"(a="1",z="2")", value_, &page);
  std::map<Labels, double> read;
  const prometheus::WriteRequest request = Decode1(page);
  for (const prometheus::TimeSeries& series : request.timeseries()) {
    read[LabelsOf(series)] = series.samples(0).value();
  }
  const auto bucket = [](const char* le) {
    return Labels{{"__name__", "took_bucket"}, {"a", "1"}, {"le", le}, {"z", "2"}};
  };
  const auto alone = [](const char* name) {
    return Labels{{"__name__", name}, {"a", "1"}, {"z", "2"}};
  };
  EXPECT_THAT(read,
              ElementsAre(Pair(bucket("+Inf"), 11), Pair(bucket("0.1"), 3), Pair(bucket("1"), 3),
                          Pair(alone("took_count"), 11), Pair(alone("took_sum"), 12.5)));
}

TEST_F(HistogramTest, NeverHasTwoLabelsLe) {
  std::string page;
  RemoteWriteEncoder(At(kTime)).Histogram(kTook, R"(le="mine")", value_, &page);
  EXPECT_THAT(LabelsOf(Decode1(page).timeseries(0)),
              ElementsAre(Pair("__name__", "took_bucket"), Pair("le", "0.1")));
}

TEST_F(HistogramTest, WritesANativeHistogram) {
  RemoteWriteEncoder::Options options = At(kTime);
  options.classic_histograms = false;
  options.native_histograms = true;
  value_.native = &native_;
  std::string page;
  const RemoteWriteEncoder encoder(options);
  EXPECT_TRUE(encoder.wants_native_histograms());
  encoder.Histogram(kTook, R"(a="1")", value_, &page);
  const prometheus::WriteRequest request = Decode1(page);
  ASSERT_THAT(request.timeseries(), SizeIs(1));
  const prometheus::TimeSeries& series = request.timeseries(0);
  EXPECT_THAT(LabelsOf(series), ElementsAre(Pair("__name__", "took"), Pair("a", "1")));
  EXPECT_THAT(series.samples(), IsEmpty());
  ASSERT_THAT(series.histograms(), SizeIs(1));
  const prometheus::Histogram& histogram = series.histograms(0);
  EXPECT_EQ(histogram.count_int(), 11u);
  EXPECT_EQ(histogram.sum(), 12.5);
  EXPECT_EQ(histogram.schema(), -2);
  EXPECT_EQ(histogram.zero_threshold(), std::ldexp(1, -128));
  EXPECT_EQ(histogram.zero_count_int(), 2u);
  ASSERT_THAT(histogram.positive_spans(), SizeIs(2));
  EXPECT_EQ(histogram.positive_spans(0).offset(), -3);
  EXPECT_EQ(histogram.positive_spans(0).length(), 2u);
  EXPECT_EQ(histogram.positive_spans(1).offset(), 4);
  EXPECT_THAT(histogram.positive_deltas(), ElementsAre(3, -2, 4));
  ASSERT_THAT(histogram.negative_spans(), SizeIs(1));
  EXPECT_EQ(histogram.negative_spans(0).offset(), 65);
  EXPECT_THAT(histogram.negative_deltas(), ElementsAre(0));
  EXPECT_EQ(histogram.timestamp(), kTime);
}

// As that of a declared series before its first sample. Without a threshold of zero a receiver
// could not tell that it is a native one.
TEST_F(HistogramTest, WritesAnEmptyNativeHistogram) {
  RemoteWriteEncoder::Options options = At(kTime);
  options.classic_histograms = false;
  options.native_histograms = true;
  const NativeHistogram empty;
  value_.native = &empty;
  value_.sum = 0;
  std::string page;
  RemoteWriteEncoder(options).Histogram(kTook, "", value_, &page);
  const prometheus::WriteRequest request = Decode1(page);
  ASSERT_THAT(request.timeseries(), SizeIs(1));
  ASSERT_THAT(request.timeseries(0).histograms(), SizeIs(1));
  const prometheus::Histogram& histogram = request.timeseries(0).histograms(0);
  EXPECT_EQ(histogram.count_case(), prometheus::Histogram::kCountInt);
  EXPECT_EQ(histogram.count_int(), 0u);
  EXPECT_EQ(histogram.zero_count_int(), 0u);
  EXPECT_EQ(histogram.zero_threshold(), std::ldexp(1, -128));
  EXPECT_THAT(histogram.positive_spans(), IsEmpty());
  EXPECT_THAT(histogram.positive_deltas(), IsEmpty());
  EXPECT_THAT(histogram.negative_spans(), IsEmpty());
}

TEST_F(HistogramTest, WritesBothForms) {
  RemoteWriteEncoder::Options options = At(kTime);
  options.native_histograms = true;
  value_.native = &native_;
  std::string page;
  RemoteWriteEncoder(options).Histogram(kTook, "", value_, &page);
  EXPECT_THAT(Decode1(page).timeseries(), SizeIs(1 + 5));
}

TEST_F(HistogramTest, WritesClassicBucketsWhereThereIsNoNativeForm) {
  RemoteWriteEncoder::Options options = At(kTime);
  options.classic_histograms = false;
  options.native_histograms = true;
  std::string page;
  RemoteWriteEncoder(options).Histogram(kTook, "", value_, &page);
  EXPECT_THAT(Decode1(page).timeseries(), SizeIs(5));
}

TEST(RemoteWriteEncoderTest, WritesASummary) {
  const std::vector<std::string> quantiles = {"0.5", "0.99"};
  const std::vector<double> values = {7, 9};
  SummaryValue value;
  value.quantiles = quantiles;
  value.values = values;
  value.count = 3;
  value.sum = 20;
  std::string page;
  RemoteWriteEncoder(At(kTime)).Summary(kSpent, R"(a="1",z="2")", value, &page);
  std::map<Labels, double> read;
  const prometheus::WriteRequest request = Decode1(page);
  for (const prometheus::TimeSeries& series : request.timeseries()) {
    read[LabelsOf(series)] = series.samples(0).value();
  }
  EXPECT_THAT(
      read,
      ElementsAre(
          Pair(Labels{{"__name__", "spent"}, {"a", "1"}, {"quantile", "0.5"}, {"z", "2"}}, 7),
          Pair(Labels{{"__name__", "spent"}, {"a", "1"}, {"quantile", "0.99"}, {"z", "2"}}, 9),
          Pair(Labels{{"__name__", "spent_count"}, {"a", "1"}, {"z", "2"}}, 3),
          Pair(Labels{{"__name__", "spent_sum"}, {"a", "1"}, {"z", "2"}}, 20)));
}

TEST(WriteRecordTest, ASeriesKeepsItsHash) {
  std::string first;
  std::string second;
  RemoteWriteEncoder(At(kTime)).Gauge(kDepth, R"(a="1")", 1, &first);
  RemoteWriteEncoder(At(kTime + 1)).Gauge(kDepth, R"(a="1")", 2, &second);
  RemoteWriteEncoder(At(kTime + 1)).Gauge(kDepth, R"(a="2")", 2, &second);
  const std::vector<WriteRecord> records = RecordsOf(second);
  ASSERT_THAT(records, SizeIs(2));
  EXPECT_EQ(RecordsOf(first)[0].hash, records[0].hash);
  EXPECT_NE(records[0].hash, records[1].hash);
}

// A page can be cut anywhere between records, and its parts say together what it says.
TEST(WriteRecordTest, RecordsAreCutByLengthAlone) {
  std::string page;
  const RemoteWriteEncoder encoder(At(kTime));
  for (int i = 0; i < 300; ++i) {
    encoder.Gauge(kDepth, "i=\"" + std::to_string(i) + std::string(i, 'x') + "\"", i, &page);
  }
  const std::vector<WriteRecord> records = RecordsOf(page);
  ASSERT_THAT(records, SizeIs(300));
  std::string first;
  std::string second;
  for (size_t i = 0; i < records.size(); ++i) (i < 100 ? first : second).append(records[i].entry);
  prometheus::WriteRequest request;
  ASSERT_TRUE(request.ParseFromString(second));
  EXPECT_THAT(request.timeseries(), SizeIs(200));
  EXPECT_EQ(request.timeseries(0).samples(0).value(), 100);
  ASSERT_TRUE(request.ParseFromString(first + second));
  EXPECT_THAT(request.timeseries(), SizeIs(300));
}

TEST(WriteRecordTest, EndsASeries) {
  std::string page;
  RemoteWriteEncoder(At(kTime)).Counter(kRequests, R"(a="1")", {5, 0}, &page);
  const std::vector<WriteRecord> records = RecordsOf(page);
  std::string ends;
  AppendStaleRecord(records[0].labels, records[0].type, kTime + 1, &ends);
  EXPECT_EQ(RecordsOf(ends)[0].hash, records[0].hash);
  const prometheus::WriteRequest request = Decode1(ends);
  ASSERT_THAT(request.timeseries(), SizeIs(1));
  EXPECT_EQ(std::bit_cast<uint64_t>(request.timeseries(0).samples(0).value()), kStaleMarkerBits);
  EXPECT_EQ(request.timeseries(0).samples(0).timestamp(), kTime + 1);
  EXPECT_THAT(LabelsOf(request.timeseries(0)),
              ElementsAre(Pair("__name__", "requests_total"), Pair("a", "1")));
}

TEST(WriteRecordTest, ReadsAsPeopleWriteIt) {
  std::string page;
  const RemoteWriteEncoder encoder(At(kTime));
  encoder.Gauge(kDepth, "", 1, &page);
  encoder.Gauge(kDepth, R"(A="1",b="q\"")", 1, &page);
  EXPECT_EQ(SeriesText(RecordsOf(page)[0].labels), "depth");
  EXPECT_EQ(SeriesText(RecordsOf(page)[1].labels), R"(depth{A="1",b="q\""})");
}

TEST(WriteRequestTest, TheEmptyRequestDecodes) {
  EXPECT_THAT(Decode1("").timeseries(), IsEmpty());
  EXPECT_THAT(Decode2("").timeseries(), IsEmpty());
}

TEST(WriteRequestTest, NamesItsProtocol) {
  EXPECT_EQ(WriteContentType(WriteProtocol::k1), "application/x-protobuf");
  EXPECT_EQ(WriteContentType(WriteProtocol::k2),
            "application/x-protobuf;proto=io.prometheus.write.v2.Request");
  EXPECT_EQ(WriteVersion(WriteProtocol::k1), "0.1.0");
  EXPECT_EQ(WriteVersion(WriteProtocol::k2), "2.0.0");
}

Labels LabelsOf(const v2::Request& request, const v2::TimeSeries& series) {
  Labels labels;
  for (int i = 0; i + 1 < series.labels_refs_size(); i += 2) {
    labels.emplace_back(request.symbols(static_cast<int>(series.labels_refs(i))),
                        request.symbols(static_cast<int>(series.labels_refs(i + 1))));
  }
  return labels;
}

TEST_F(HistogramTest, IsTheSameInVersion2) {
  RemoteWriteEncoder::Options options = At(kTime);
  options.native_histograms = true;
  options.external_labels = {{"host", "h"}};
  value_.native = &native_;
  std::string page;
  const RemoteWriteEncoder encoder(options);
  encoder.Counter(kRequests, R"(code="200")", {7, 0}, &page);
  encoder.Histogram(kTook, R"(code="200")", value_, &page);

  const prometheus::WriteRequest one = Decode1(page);
  const v2::Request two = Decode2(page);
  ASSERT_EQ(two.timeseries_size(), one.timeseries_size());
  ASSERT_GT(two.symbols_size(), 0);
  EXPECT_EQ(two.symbols(0), "");
  EXPECT_EQ(std::set<std::string>(two.symbols().begin(), two.symbols().end()).size(),
            static_cast<size_t>(two.symbols_size()));
  for (int i = 0; i < one.timeseries_size(); ++i) {
    EXPECT_EQ(LabelsOf(two, two.timeseries(i)), LabelsOf(one.timeseries(i)));
    ASSERT_EQ(two.timeseries(i).samples_size(), one.timeseries(i).samples_size());
    for (int j = 0; j < one.timeseries(i).samples_size(); ++j) {
      EXPECT_EQ(two.timeseries(i).samples(j).value(), one.timeseries(i).samples(j).value());
      EXPECT_EQ(two.timeseries(i).samples(j).timestamp(), kTime);
    }
  }
  EXPECT_EQ(two.timeseries(0).metadata().type(), 1);
  EXPECT_EQ(two.timeseries(1).metadata().type(), 3);
  const v2::Histogram& histogram = two.timeseries(1).histograms(0);
  EXPECT_EQ(histogram.count_int(), 11u);
  EXPECT_EQ(histogram.schema(), -2);
  EXPECT_THAT(histogram.positive_deltas(), ElementsAre(3, -2, 4));
  EXPECT_EQ(histogram.timestamp(), kTime);
}

// The start belongs to the sample or histogram, not to the series.
TEST_F(HistogramTest, Version2SaysWhenASeriesBegan) {
  RemoteWriteEncoder::Options options = At(kTime);
  options.classic_histograms = false;
  options.native_histograms = true;
  value_.native = &native_;
  std::string page;
  const RemoteWriteEncoder encoder(options);
  encoder.Gauge(kDepth, "", 1, &page);
  encoder.Counter(kRequests, "", {.whole = 1, .created_s = 1'790'000'001}, &page);
  value_.created_s = 1'790'000'002;
  encoder.Histogram(kTook, "", value_, &page);
  const v2::Request request = Decode2(page);
  EXPECT_EQ(request.timeseries(0).samples(0).start_timestamp(), 0);
  EXPECT_EQ(request.timeseries(1).samples(0).start_timestamp(), 1'790'000'001'000);
  EXPECT_EQ(request.timeseries(2).histograms(0).start_timestamp(), 1'790'000'002'000);
}

TEST_F(HistogramTest, CountsWhatAReceiverShallWrite) {
  RemoteWriteEncoder::Options options = At(kTime);
  options.native_histograms = true;
  value_.native = &native_;
  std::string page;
  RemoteWriteEncoder(options).Histogram(kTook, "", value_, &page);
  const WrittenCounts counts = CountsOf(RecordsOf(page));
  EXPECT_EQ(counts.histograms, 1u);
  EXPECT_EQ(counts.samples, 5u);
}

}  // namespace
}  // namespace tallyd
