#include "core/expose/protobuf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libdeflate.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/merge/merger.h"
#include "core/rules/sanitize.h"
#include "tests/core/expose/family_reader.h"
#include "tests/core/merge/shard_feeder.h"

namespace tallyd {
namespace {

using testing::SizeIs;

namespace pb = io::prometheus::client;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<PbFamily> Read(const std::string& bytes) {
  std::vector<PbFamily> families;
  EXPECT_EQ(ReadFamilies(bytes, &families), "");
  return families;
}

// The labels of a metric, as in the text formats but unescaped.
std::map<std::string, std::string> LabelsOf(const pb::Metric& metric) {
  std::map<std::string, std::string> labels;
  for (const pb::LabelPair& label : metric.label()) labels[label.name()] = label.value();
  return labels;
}

// A page of one family, and what a receiver reads of it.
class OneFamily {
 public:
  explicit OneFamily(FamilyType type, HistogramForm form = HistogramForm::kBoth)
      : encoder_(form, ContentCoding::kIdentity),
        view_{.name = "app_things", .help = "How many\n\"things\".", .type = type} {
    encoder_.Family(view_, &page_);
  }

  const ProtobufEncoder& encoder() const { return encoder_; }
  const FamilyView& view() const { return view_; }
  std::string* page() { return &page_; }
  PbFamily Read() {
    encoder_.EndFamily(0, 0, &page_);
    const std::vector<PbFamily> families = tallyd::Read(page_);
    EXPECT_THAT(families, SizeIs(1));
    return families.empty() ? PbFamily() : families[0];
  }

 private:
  ProtobufEncoder encoder_;
  FamilyView view_;
  std::string page_;
};

TEST(ProtobufTest, Counter) {
  OneFamily family(FamilyType::kCounter);
  family.encoder().Counter(family.view(), R"(a="b",c="d")",
                           {.whole = 3, .rest = 0.5, .created_s = 1'700'000'000}, family.page());
  family.encoder().Counter(family.view(), "", {.whole = 7}, family.page());
  const PbFamily read = family.Read();
  EXPECT_EQ(read.name(), "app_things");
  EXPECT_EQ(read.help(), "How many\n\"things\".");
  EXPECT_EQ(read.type(), pb::COUNTER);
  ASSERT_EQ(read.metric_size(), 2);
  EXPECT_EQ(LabelsOf(read.metric(0)), (std::map<std::string, std::string>{{"a", "b"}, {"c", "d"}}));
  EXPECT_EQ(read.metric(0).counter().value(), 3.5);
  EXPECT_EQ(read.metric(0).counter().created_timestamp().seconds(), 1'700'000'000);
  EXPECT_EQ(read.metric(1).label_size(), 0);
  EXPECT_EQ(read.metric(1).counter().value(), 7);
  EXPECT_FALSE(read.metric(1).counter().has_created_timestamp());
}

TEST(ProtobufTest, Gauge) {
  OneFamily family(FamilyType::kGauge);
  const std::vector<double> values = {0, -0.0, -1.5, 1e300, kInfinity, -kInfinity};
  for (size_t i = 0; i < values.size(); ++i) {
    family.encoder().Gauge(family.view(), "i=\"" + std::to_string(i) + '"', values[i],
                           family.page());
  }
  family.encoder().Gauge(family.view(), "i=\"nan\"", std::nan(""), family.page());
  const PbFamily read = family.Read();
  EXPECT_EQ(read.type(), pb::GAUGE);
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(read.metric(static_cast<int>(i)).gauge().value(), values[i]);
  }
  EXPECT_TRUE(std::isnan(read.metric(static_cast<int>(values.size())).gauge().value()));
}

TEST(ProtobufTest, Untyped) {
  std::string page;
  const ProtobufEncoder encoder(HistogramForm::kBoth, ContentCoding::kIdentity);
  const FamilyView untyped = {.name = "u", .help = "", .type = FamilyType::kUntyped};
  encoder.Family(untyped, &page);
  encoder.Gauge(untyped, "", 2, &page);
  encoder.EndFamily(0, 0, &page);
  const std::vector<PbFamily> families = Read(page);
  ASSERT_THAT(families, SizeIs(1));
  EXPECT_EQ(families[0].type(), pb::UNTYPED);
  EXPECT_FALSE(families[0].has_help());
  EXPECT_EQ(families[0].metric(0).untyped().value(), 2);
}

TEST(ProtobufTest, Summary) {
  OneFamily family(FamilyType::kSummary);
  const std::vector<std::string> texts = {"0.5", "0.99"};
  const std::vector<double> ranks = {0.5, 0.99};
  const std::vector<double> values = {3, std::nan("")};
  family.encoder().Summary(family.view(), R"(a="b")",
                           {.quantiles = texts,
                            .ranks = ranks,
                            .values = values,
                            .count = 10,
                            .sum = 33.5,
                            .created_s = 5},
                           family.page());
  const PbFamily read = family.Read();
  EXPECT_EQ(read.type(), pb::SUMMARY);
  const pb::Summary& summary = read.metric(0).summary();
  EXPECT_EQ(summary.sample_count(), 10u);
  EXPECT_EQ(summary.sample_sum(), 33.5);
  ASSERT_EQ(summary.quantile_size(), 2);
  EXPECT_EQ(summary.quantile(0).quantile(), 0.5);
  EXPECT_EQ(summary.quantile(0).value(), 3);
  EXPECT_EQ(summary.quantile(1).quantile(), 0.99);
  EXPECT_TRUE(std::isnan(summary.quantile(1).value()));
  EXPECT_EQ(summary.created_timestamp().seconds(), 5);
}

// Label values of any length and content, and as many labels as there may be.
TEST(ProtobufTest, LabelsComeBack) {
  std::mt19937_64 random(3);
  const auto up_to = [&](size_t n) { return random() % (n + 1); };
  OneFamily family(FamilyType::kGauge);
  std::vector<std::map<std::string, std::string>> expected;
  for (int i = 0; i < 3000; ++i) {
    std::map<std::string, std::string> labels = {{"i", std::to_string(i)}};
    const bool escapes = up_to(3) == 0;
    const size_t longest = up_to(20) == 0 ? 40'000 : 40;
    for (size_t n = up_to(up_to(9) == 0 ? 100 : 6); n > 0; --n) {
      std::string value;
      for (size_t size = up_to(longest); size > 0; --size) {
        value.push_back(escapes ? "\\\"\n,=n{}"[up_to(7)] : static_cast<char>('#' + up_to(40)));
      }
      labels["l" + std::string(up_to(up_to(9) == 0 ? 300 : 20), 'x')] = value;
    }
    std::string text;
    for (const auto& [name, value] : labels) {
      text.append(text.empty() ? "" : ",").append(name).append("=\"");
      AppendEscapedLabelValue(value, &text);
      text.push_back('"');
    }
    // Of its own size, so that a sanitizer sees a byte read beyond it.
    const std::vector<char> exact(text.begin(), text.end());
    family.encoder().Gauge(family.view(), {exact.data(), exact.size()}, i, family.page());
    expected.push_back(std::move(labels));
  }
  const PbFamily read = family.Read();
  ASSERT_EQ(read.metric_size(), 3000);
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(LabelsOf(read.metric(i)), expected[static_cast<size_t>(i)]);
    ASSERT_EQ(read.metric(i).gauge().value(), i);
  }
}

// Classic and exponential buckets of the same observations.
struct Histogram {
  explicit Histogram(const std::vector<double>& observed, int schema = 3) {
    HistogramLayout layout = HistogramLayout::FromBounds({0.1, 1, 10});
    layout.schema = static_cast<int8_t>(schema);
    std::vector<CellWord> words(HistogramCell::Words(layout.bounds.size()));
    HistogramCell cell(words.data(), layout);
    for (const double value : observed) cell.Observe(value, 1);
    buckets.resize(layout.bounds.size() + 1);
    cell.AddBuckets(buckets);
    HistogramCell::WindowCounts window;
    EXPECT_TRUE(cell.ReadWindow(&window));
    counts.Add(window);
    MakeNativeHistogram(counts, NativeHistogram::kMaxBuckets, &native);
    bounds = layout.bounds;
    les = layout.les;
    sum = cell.sum();
  }
  HistogramValue Value() const {
    return {.bounds = bounds,
            .les = les,
            .buckets = buckets,
            .sum = sum,
            .native = &native,
            .created_s = 1'700'000'001};
  }

  std::vector<double> bounds;
  std::vector<std::string> les;
  std::vector<uint64_t> buckets;
  ExponentialCounts counts;
  NativeHistogram native;
  double sum;
};

PbHistogram Encode(const HistogramValue& value, HistogramForm form) {
  OneFamily family(FamilyType::kHistogram, form);
  family.encoder().Histogram(family.view(), R"(a="b")", value, family.page());
  const PbFamily read = family.Read();
  EXPECT_EQ(read.type(), pb::HISTOGRAM);
  return read.metric(0).histogram();
}

void ExpectClassic(const PbHistogram& histogram) {
  ASSERT_EQ(histogram.bucket_size(), 3);
  EXPECT_EQ(histogram.bucket(0).upper_bound(), 0.1);
  EXPECT_EQ(histogram.bucket(0).cumulative_count(), 1u);
  EXPECT_EQ(histogram.bucket(1).upper_bound(), 1);
  EXPECT_EQ(histogram.bucket(1).cumulative_count(), 2u);
  EXPECT_EQ(histogram.bucket(2).upper_bound(), 10);
  EXPECT_EQ(histogram.bucket(2).cumulative_count(), 3u);
}

void ExpectNative(const PbHistogram& histogram) {
  EXPECT_EQ(histogram.schema(), 0);
  EXPECT_EQ(PositiveBuckets(histogram), (PbBuckets{{-4, 1}, {0, 1}, {3, 1}, {7, 1}}));
}

TEST(ProtobufTest, HistogramForms) {
  const Histogram histogram({0.0625, 1, 8, 100}, 0);
  for (const HistogramForm form :
       {HistogramForm::kNative, HistogramForm::kBoth, HistogramForm::kClassic}) {
    SCOPED_TRACE(static_cast<int>(form));
    const PbHistogram read = Encode(histogram.Value(), form);
    EXPECT_EQ(read.sample_count(), 4u);
    EXPECT_EQ(read.sample_sum(), 109.0625);
    EXPECT_EQ(read.created_timestamp().seconds(), 1'700'000'001);
    if (form == HistogramForm::kNative) {
      EXPECT_EQ(read.bucket_size(), 0);
    } else {
      ExpectClassic(read);
    }
    if (form == HistogramForm::kClassic) {
      EXPECT_FALSE(read.has_schema() || read.has_zero_threshold());
      EXPECT_EQ(read.positive_span_size(), 0);
    } else {
      ExpectNative(read);
    }
  }
}

TEST(ProtobufTest, AHistogramWithoutNativeFormIsClassic) {
  const Histogram histogram({0.0625, 1, 8, 100});
  HistogramValue value = histogram.Value();
  value.native = nullptr;
  const PbHistogram read = Encode(value, HistogramForm::kNative);
  EXPECT_EQ(read.sample_count(), 4u);
  EXPECT_FALSE(read.has_schema());
  ExpectClassic(read);
}

// Without observations too it is one that receivers store as native.
TEST(ProtobufTest, AnEmptyNativeHistogramHasAZeroThreshold) {
  const Histogram histogram({});
  const PbHistogram read = Encode(histogram.Value(), HistogramForm::kNative);
  EXPECT_EQ(read.sample_count(), 0u);
  EXPECT_EQ(read.zero_threshold(), 2.938735877055719e-39);
}

TEST(ProtobufTest, RandomHistogramsComeBack) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 2000; ++round) {
    std::vector<double> observed;
    std::normal_distribution<> exponent(0, static_cast<double>(random() % 300));
    for (uint64_t n = random() % 300; n > 0; --n) {
      const double value = std::exp2(exponent(random));
      observed.push_back(random() % 20 == 0 ? -value : value);
      if (random() % 50 == 0) observed.back() = random() % 2 == 0 ? 0 : kInfinity;
    }
    const Histogram histogram(observed, static_cast<int>(random() % 13) - 4);
    const PbHistogram read = Encode(histogram.Value(), HistogramForm::kBoth);
    ASSERT_EQ(read.sample_count(), observed.size());
    ASSERT_EQ(read.schema(), histogram.native.schema);
    ASSERT_EQ(read.zero_count(), histogram.counts.zero());
    PbBuckets positive;
    uint64_t negative = 0;
    for (const double value : observed) {
      if (value < -0x1p-128) ++negative;
      if (!(value > 0x1p-128)) continue;
      ++positive[std::isinf(value) ? NativeHistogram::OverflowBucket(read.schema())
                                   : Window::BucketOf(value, read.schema())];
    }
    ASSERT_EQ(PositiveBuckets(read), positive);
    ASSERT_EQ(NegativeBuckets(read),
              negative == 0
                  ? PbBuckets()
                  : PbBuckets({{NativeHistogram::OverflowBucket(read.schema()), negative}}));
  }
}

// Through the merger, where a family may stand on many pages.
class PagesTest : public testing::Test {
 protected:
  PagesTest() {
    for (const ProtobufEncoder& encoder : encoders_) {
      variants_.push_back(feeder_.merger().AddVariant(&encoder));
    }
  }

  static std::string Gunzip(const std::string& member) {
    libdeflate_decompressor* const decompressor = libdeflate_alloc_decompressor();
    std::string text(100 * member.size() + 1000, '\0');
    size_t size = 0;
    EXPECT_EQ(libdeflate_gzip_decompress(decompressor, member.data(), member.size(), text.data(),
                                         text.size(), &size),
              LIBDEFLATE_SUCCESS);
    libdeflate_free_decompressor(decompressor);
    text.resize(size);
    return text;
  }

  static std::string BytesOf(const Snapshot& snapshot, bool compressed) {
    std::string bytes;
    for (const auto& section : snapshot.sections) {
      for (const PageBuffer& page : section) bytes += compressed ? Gunzip(*page) : *page;
    }
    return bytes;
  }

  // The same from all roads: kept pages plain and compressed, and pages made for once.
  std::vector<PbFamily> Families() {
    feeder_.Merge();
    const std::string plain = BytesOf(*feeder_.merger().Render(variants_[0]), false);
    EXPECT_EQ(BytesOf(*feeder_.merger().Render(variants_[1]), true), plain);
    EXPECT_EQ(BytesOf(*feeder_.merger().RenderOnce(encoders_[0]), false), plain);
    return Read(plain);
  }

  static std::map<std::string, int> SizesOf(const std::vector<PbFamily>& families) {
    std::map<std::string, int> sizes;
    for (const PbFamily& family : families) sizes[family.name()] = family.metric_size();
    return sizes;
  }

  void SendSeries(const std::string& name, int begin, int end, const std::string& type = "g") {
    for (int i = begin; i < end; ++i) {
      feeder_.Send(name + ":1|" + type + "|#i:" + std::to_string(i));
    }
  }

  ShardFeeder feeder_{ShardFeeder::Options{.shards = 2, .ttl_ms = 10'000}};
  const ProtobufEncoder encoders_[2] = {
      ProtobufEncoder(HistogramForm::kBoth, ContentCoding::kIdentity),
      ProtobufEncoder(HistogramForm::kBoth, ContentCoding::kGzip)};
  std::vector<int> variants_;
};

TEST_F(PagesTest, AFamilyIsOneMessageHoweverManyPagesItTakes) {
  SendSeries("before", 0, 700);
  SendSeries("large", 0, 5000);
  SendSeries("later", 0, 1);
  SendSeries("other", 0, 3000);
  EXPECT_EQ(SizesOf(Families()),
            (std::map<std::string, int>{
                {"before", 700}, {"large", 5000}, {"later", 1}, {"other", 3000}}));
  // Something is added at the end, something that takes more bytes, something in front.
  SendSeries("large", 5000, 5001);
  EXPECT_EQ(SizesOf(Families())["large"], 5001);
  SendSeries("large", 100'000, 102'000);
  SendSeries("aaa", 0, 900);
  SendSeries("later", 1, 500);
  EXPECT_EQ(SizesOf(Families()),
            (std::map<std::string, int>{
                {"aaa", 900}, {"before", 700}, {"large", 7001}, {"later", 500}, {"other", 3000}}));
}

TEST_F(PagesTest, SeriesThatComeAndGo) {
  std::mt19937_64 random(5);
  const std::vector<std::string> names = {"a", "b", "c", "q", "u", "zz"};
  for (int round = 0; round < 60; ++round) {
    const std::string& name = names[random() % names.size()];
    const int begin = static_cast<int>(random() % 10'000);
    SendSeries(name, begin, begin + static_cast<int>(random() % 3000),
               name == "c" ? "ms" : (name == "u" ? "c" : "g"));
    feeder_.Advance(static_cast<int64_t>(random() % 4'000'000'000));
    feeder_.Turn();
    const std::vector<PbFamily> families = Families();
    int series = 0;
    for (const PbFamily& family : families) series += family.metric_size();
    ASSERT_EQ(series, static_cast<int>(feeder_.merger().series()));
    if (HasFailure()) FAIL() << round;
  }
}

TEST_F(PagesTest, HistogramsOfSeveralShards) {
  for (int i = 1; i <= 1000; ++i) feeder_.Send("took:" + std::to_string(i) + "|ms", i % 2);
  feeder_.Send("took:-5|ms\ntook:0|ms\ntook:inf|ms");
  const std::vector<PbFamily> families = Families();
  ASSERT_THAT(families, SizeIs(1));
  const PbHistogram& took = families[0].metric(0).histogram();
  EXPECT_EQ(took.sample_count(), 1003u);
  EXPECT_EQ(took.zero_count(), 1u);
  EXPECT_EQ(took.bucket(took.bucket_size() - 1).cumulative_count(), 1002u);
  PbBuckets expected;
  for (int i = 1; i <= 1000; ++i) ++expected[Window::BucketOf(i / 1000.0, took.schema())];
  ++expected[NativeHistogram::OverflowBucket(took.schema())];
  EXPECT_EQ(PositiveBuckets(took), expected);
  EXPECT_EQ(NegativeBuckets(took),
            (PbBuckets{{NativeHistogram::OverflowBucket(took.schema()), 1}}));
}

// A series that went and came back counts from zero, so it has another time.
TEST_F(PagesTest, CreatedIsWhenASeriesWasLastNotThere) {
  const auto created = [&](const std::string& name) {
    for (const PbFamily& family : Read(BytesOf(*feeder_.merger().Render(variants_[0]), false))) {
      if (family.name() == name) {
        return family.metric(0).counter().created_timestamp().seconds();
      }
    }
    return int64_t{-1};
  };
  feeder_.Send("first:1|c");
  feeder_.Merge(1000);
  EXPECT_EQ(created("first"), 1000);
  feeder_.Merge(1001);
  feeder_.Send("second:1|c");
  feeder_.Merge(1005);
  EXPECT_EQ(created("second"), 1001);
  feeder_.Send("first:1|c");
  feeder_.Merge(1006);
  EXPECT_EQ(created("first"), 1000);

  for (int i = 0; i < 15; ++i) {
    feeder_.Advance(1'000'000'000);
    feeder_.Turn();
    feeder_.Merge(1007 + i);
  }
  EXPECT_EQ(created("first"), -1);
  feeder_.Send("first:1|c\nthird:1|c");
  feeder_.Merge(1022);
  EXPECT_EQ(created("first"), 1000) << "its value goes on from then";
  EXPECT_EQ(created("third"), 1021);
}

}  // namespace
}  // namespace tallyd
