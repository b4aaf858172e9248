#include "core/expose/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libdeflate.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "core/rules/sanitize.h"

namespace tallyd {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr double kInf = std::numeric_limits<double>::infinity();

std::string Value(double value) {
  std::string out;
  AppendValue(value, &out);
  return out;
}

std::string Label(std::string_view value) {
  std::string out;
  AppendEscapedLabelValue(value, &out);
  return out;
}

std::string Help(std::string_view help, TextFormat format) {
  std::string out;
  AppendEscapedHelp(help, format, &out);
  return out;
}

const TextEncoder& Prometheus() {
  static const TextEncoder encoder(TextFormat::kPrometheus004, ContentCoding::kIdentity);
  return encoder;
}

const TextEncoder& OpenMetrics() {
  static const TextEncoder encoder(TextFormat::kOpenMetrics100, ContentCoding::kIdentity);
  return encoder;
}

FamilyView View(std::string_view name, FamilyType type, std::string_view help = "Help.",
                bool stem_is_taken = false) {
  return {.name = name, .help = help, .type = type, .stem_is_taken = stem_is_taken};
}

std::string Metadata(const TextEncoder& encoder, const FamilyView& family) {
  std::string page;
  encoder.Family(family, &page);
  return page;
}

// A histogram and what its value points to.
struct Buckets {
  std::vector<double> bounds;
  std::vector<std::string> les;
  std::vector<uint64_t> counts;
  double sum = 0;

  HistogramValue View() const {
    return {.bounds = bounds, .les = les, .buckets = counts, .sum = sum};
  }
};

Buckets MakeBuckets(std::vector<double> bounds, std::vector<uint64_t> counts, double sum) {
  Buckets buckets{.bounds = std::move(bounds), .les = {}, .counts = std::move(counts), .sum = sum};
  for (const double bound : buckets.bounds) buckets.les.push_back(Value(bound));
  return buckets;
}

std::string Gunzip(const std::string& bytes) {
  std::string out;
  libdeflate_decompressor* const decompressor = libdeflate_alloc_decompressor();
  std::vector<char> room(1 << 20);
  size_t read = 0;
  while (read < bytes.size()) {
    size_t in = 0;
    size_t produced = 0;
    const auto result =
        libdeflate_gzip_decompress_ex(decompressor, bytes.data() + read, bytes.size() - read,
                                      room.data(), room.size(), &in, &produced);
    if (result != LIBDEFLATE_SUCCESS) {
      ADD_FAILURE() << "not gzip at byte " << read;
      break;
    }
    read += in;
    out.append(room.data(), produced);
  }
  libdeflate_free_decompressor(decompressor);
  return out;
}

TEST(AppendValueTest, WritesIntegersWithoutExponent) {
  EXPECT_EQ(Value(0), "0");
  EXPECT_EQ(Value(1), "1");
  EXPECT_EQ(Value(-17), "-17");
  EXPECT_EQ(Value(100000), "100000");
  EXPECT_EQ(Value(1e15), "1000000000000000");
  EXPECT_EQ(Value(9007199254740992.0), "9007199254740992");
  EXPECT_EQ(Value(-9007199254740992.0), "-9007199254740992");
}

TEST(AppendValueTest, WritesTheShortestDigits) {
  EXPECT_EQ(Value(0.1), "0.1");
  EXPECT_EQ(Value(0.1 + 0.2), "0.30000000000000004");
  EXPECT_EQ(Value(0.005), "0.005");
  EXPECT_EQ(Value(2.5), "2.5");
  EXPECT_EQ(Value(-2.5), "-2.5");
  EXPECT_EQ(Value(-0.25), "-0.25");
  EXPECT_EQ(Value(1234.5), "1234.5");
  EXPECT_EQ(Value(0.0001), "0.0001");
  EXPECT_EQ(Value(999999999.999999), "999999999.999999");
  EXPECT_EQ(Value(5e-324), "5e-324");
  EXPECT_EQ(Value(1.7976931348623157e308), "1.7976931348623157e+308");
}

TEST(AppendValueTest, WritesWhatIsNoNumberAsBothFormatsDo) {
  EXPECT_EQ(Value(std::nan("")), "NaN");
  EXPECT_EQ(Value(kInf), "+Inf");
  EXPECT_EQ(Value(-kInf), "-Inf");
  EXPECT_EQ(Value(-0.0), "-0");
}

// The general algorithm is the reference: the same double back, and no more digits than it needs.
size_t Digits(std::string_view text) {
  size_t digits = 0;
  bool leading = true;
  for (const char c : text.substr(0, text.find('e'))) {
    if (c < '0' || c > '9') continue;
    leading = leading && c == '0';
    if (!leading) ++digits;
  }
  return digits;
}

void ExpectShortest(double value) {
  const std::string text = Value(value);
  ASSERT_EQ(std::bit_cast<uint64_t>(std::strtod(text.c_str(), nullptr)),
            std::bit_cast<uint64_t>(value))
      << text;
  if (std::fabs(value) <= 9007199254740992.0 && value == std::trunc(value)) return;
  char reference[32];
  const auto end = std::to_chars(reference, reference + sizeof reference, value).ptr;
  ASSERT_EQ(Digits(text), Digits(std::string_view(reference, end))) << text;
}

TEST(AppendValueTest, ReadsBackAsTheSameDoubleWhateverItIs) {
  std::mt19937_64 random(20261121);
  for (int i = 0; i < 300'000; ++i) {
    const uint64_t bits = random();
    const double any = std::bit_cast<double>(bits);
    if (std::isfinite(any)) ExpectShortest(any);
    ExpectShortest(static_cast<double>(bits % 1'000'000'000) / 1000.0);
    ExpectShortest(static_cast<double>(bits % 1'000'000'000'000'000) / 1e6);
    ExpectShortest(std::nextafter(static_cast<double>(bits % 1'000'000) / 1e3, kInf));
    ExpectShortest(static_cast<double>(bits) / 1e7);
  }
}

TEST(EscapingTest, LabelValuesEscapeBackslashQuoteAndLineFeedOnly) {
  EXPECT_EQ(Label("plain"), "plain");
  EXPECT_EQ(Label("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
  EXPECT_EQ(Label("tab\there, \r and \xc3\xa9"), "tab\there, \r and \xc3\xa9");
  EXPECT_EQ(Label(""), "");
}

TEST(EscapingTest, HelpEscapesTheQuoteInOpenMetricsAlone) {
  EXPECT_EQ(Help("a\\b\nc \"d\"", TextFormat::kPrometheus004), "a\\\\b\\nc \"d\"");
  EXPECT_EQ(Help("a\\b\nc \"d\"", TextFormat::kOpenMetrics100), "a\\\\b\\nc \\\"d\\\"");
}

TEST(FamilyTest, HelpComesBeforeType) {
  EXPECT_EQ(Metadata(Prometheus(), View("a", FamilyType::kGauge)),
            "# HELP a Help.\n# TYPE a gauge\n");
  EXPECT_EQ(Metadata(OpenMetrics(), View("a", FamilyType::kHistogram)),
            "# HELP a Help.\n# TYPE a histogram\n");
}

TEST(FamilyTest, WithoutHelpThereIsNoHelpLine) {
  EXPECT_EQ(Metadata(Prometheus(), View("a", FamilyType::kGauge, "")), "# TYPE a gauge\n");
}

TEST(FamilyTest, TextCallsEveryCounterACounter) {
  EXPECT_EQ(Metadata(Prometheus(), View("a", FamilyType::kCounter, "")), "# TYPE a counter\n");
  EXPECT_EQ(Metadata(Prometheus(), View("a_total", FamilyType::kCounter, "")),
            "# TYPE a_total counter\n");
}

TEST(FamilyTest, OpenMetricsNamesACounterWithoutItsSuffix) {
  EXPECT_EQ(Metadata(OpenMetrics(), View("a_total", FamilyType::kCounter)),
            "# HELP a Help.\n# TYPE a counter\n");
}

TEST(FamilyTest, OpenMetricsDoesNotKnowCountersThatItCannotName) {
  EXPECT_EQ(Metadata(OpenMetrics(), View("a", FamilyType::kCounter, "")), "# TYPE a unknown\n");
  EXPECT_EQ(Metadata(OpenMetrics(), View("_total", FamilyType::kCounter, "")),
            "# TYPE _total unknown\n");
  EXPECT_EQ(Metadata(OpenMetrics(), View("a_total", FamilyType::kCounter, "", true)),
            "# TYPE a_total unknown\n");
}

TEST(CounterTest, HasTheSameSeriesNameInBothFormats) {
  for (const TextEncoder* encoder : {&Prometheus(), &OpenMetrics()}) {
    std::string page;
    encoder->Counter(View("a_total", FamilyType::kCounter), "", {.whole = 1}, &page);
    encoder->Counter(View("a_total", FamilyType::kCounter, "", true), "", {.whole = 2}, &page);
    encoder->Counter(View("b", FamilyType::kCounter), "x=\"y\"", {.whole = 3}, &page);
    EXPECT_EQ(page, "a_total 1\na_total 2\nb{x=\"y\"} 3\n");
  }
}

TEST(CounterTest, IsExactBeyondWhatADoubleHolds) {
  std::string page;
  const FamilyView family = View("a", FamilyType::kCounter);
  Prometheus().Counter(family, "", {.whole = 9007199254740993}, &page);
  Prometheus().Counter(family, "", {.whole = uint64_t{1} << 63}, &page);
  Prometheus().Counter(family, "", {.whole = 3, .rest = 0.25}, &page);
  Prometheus().Counter(family, "", {.whole = 3, .rest = 2}, &page);
  EXPECT_EQ(page, "a 9007199254740993\na 9223372036854775808\na 3.25\na 5\n");
}

TEST(GaugeTest, ShowsAnyDouble) {
  std::string page;
  const FamilyView family = View("g", FamilyType::kGauge);
  for (const double value : {-1.5, 0.0, 1e300, kInf, std::nan("")}) {
    Prometheus().Gauge(family, "a=\"b\",c=\"d\"", value, &page);
  }
  EXPECT_EQ(page,
            "g{a=\"b\",c=\"d\"} -1.5\ng{a=\"b\",c=\"d\"} 0\ng{a=\"b\",c=\"d\"} 1e+300\n"
            "g{a=\"b\",c=\"d\"} +Inf\ng{a=\"b\",c=\"d\"} NaN\n");
}

TEST(HistogramTest, AddsItsBucketsUp) {
  const Buckets buckets = MakeBuckets({0.5, 1, 2.5}, {1, 0, 2, 3}, 12.25);
  std::string page;
  OpenMetrics().Histogram(View("h", FamilyType::kHistogram), "a=\"b\"", buckets.View(), &page);
  EXPECT_EQ(page,
            "h_bucket{a=\"b\",le=\"0.5\"} 1\n"
            "h_bucket{a=\"b\",le=\"1\"} 1\n"
            "h_bucket{a=\"b\",le=\"2.5\"} 3\n"
            "h_bucket{a=\"b\",le=\"+Inf\"} 6\n"
            "h_sum{a=\"b\"} 12.25\n"
            "h_count{a=\"b\"} 6\n");
}

TEST(HistogramTest, NeedsNoLabelsAndNoBounds) {
  const Buckets buckets = MakeBuckets({}, {7}, -1);
  std::string page;
  Prometheus().Histogram(View("h", FamilyType::kHistogram), "", buckets.View(), &page);
  EXPECT_EQ(page, "h_bucket{le=\"+Inf\"} 7\nh_sum -1\nh_count 7\n");
}

TEST(HistogramTest, PrefixesOfEveryLengthAreCopiedWhole) {
  const Buckets buckets = MakeBuckets({1, 2, 3}, {1, 1, 1, 1}, 1);
  for (size_t length = 1; length < 200; ++length) {
    const std::string name(length, 'n');
    const std::string label = "k=\"" + std::string(length, 'v') + "\"";
    std::string page = "before\n";
    Prometheus().Histogram(View(name, FamilyType::kHistogram), label, buckets.View(), &page);
    std::string expected = "before\n";
    for (const char* le : {"1", "2", "3", "+Inf"}) {
      const std::string count = le[0] == '+' ? "4" : le;
      expected += name + "_bucket{" + label + ",le=\"" + le + "\"} " + count + "\n";
    }
    expected += name + "_sum{" + label + "} 1\n" + name + "_count{" + label + "} 4\n";
    ASSERT_EQ(page, expected);
  }
}

TEST(GzipTest, PagesBecomeMembersThatReadAsOneStream) {
  const TextEncoder encoder(TextFormat::kPrometheus004, ContentCoding::kGzip);
  std::string plain;
  std::string body;
  for (int i = 0; i < 3; ++i) {
    std::string page;
    for (int series = 0; series < 500; ++series) {
      encoder.Gauge(View("g", FamilyType::kGauge), "n=\"" + std::to_string(series) + "\"", i,
                    &page);
    }
    plain += page;
    encoder.Finish(&page);
    EXPECT_THAT(page, StartsWith("\x1f\x8b"));
    body += page;
  }
  plain += "# EOF\n";
  body += GzipMember("# EOF\n");
  EXPECT_LT(body.size(), plain.size() / 4);
  EXPECT_EQ(Gunzip(body), plain);
}

TEST(GzipTest, AnEmptyPageStaysEmpty) {
  std::string page;
  TextEncoder(TextFormat::kPrometheus004, ContentCoding::kGzip).Finish(&page);
  EXPECT_EQ(page, "");
}

TEST(GzipTest, IdentityLeavesThePageAlone) {
  std::string page = "a 1\n";
  Prometheus().Finish(&page);
  EXPECT_EQ(page, "a 1\n");
}

// A parsed exposition: series as text to value, and families to type.
struct Exposition {
  std::map<std::string, double> samples;
  std::map<std::string, std::string> types;

  bool operator==(const Exposition&) const = default;
};

Exposition Parse(const std::string& text) {
  Exposition exposition;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word, kind, name, type;
    if (line.starts_with("# TYPE ")) {
      words >> word >> kind >> name >> type;
      exposition.types[name] = type;
    } else if (!line.starts_with("#")) {
      const size_t space = line.rfind(' ');
      exposition.samples[line.substr(0, space)] = std::strtod(line.c_str() + space, nullptr);
    }
  }
  return exposition;
}

TEST(TextSerializerTest, ShowsWhatPrometheusCppShows) {
  prometheus::Registry registry;
  std::string page;

  auto& counters = prometheus::BuildCounter().Name("c_total").Help("A counter.").Register(registry);
  const FamilyView counter = View("c_total", FamilyType::kCounter, "A counter.");
  Prometheus().Family(counter, &page);
  counters.Add({{"path", "C:\\dir \"x\"\nend"}}).Increment(12);
  std::string labels = "path=\"";
  AppendEscapedLabelValue("C:\\dir \"x\"\nend", &labels);
  Prometheus().Counter(counter, labels + "\"", {.whole = 12}, &page);
  counters.Add({{"path", "plain"}}).Increment(2.5);
  Prometheus().Counter(counter, "path=\"plain\"", {.whole = 2, .rest = 0.5}, &page);

  auto& gauges = prometheus::BuildGauge().Name("g").Help("A gauge.").Register(registry);
  const FamilyView gauge = View("g", FamilyType::kGauge, "A gauge.");
  Prometheus().Family(gauge, &page);
  for (const double value : {-3.75, 1e-9, 123456789.125, kInf, -kInf, 1e22}) {
    const std::string name = std::to_string(value);
    gauges.Add({{"v", name}}).Set(value);
    Prometheus().Gauge(gauge, "v=\"" + name + "\"", value, &page);
  }

  const std::vector<double> bounds = {0.005, 0.01, 0.25, 1, 10};
  auto& histograms =
      prometheus::BuildHistogram().Name("h_seconds").Help("A histogram.").Register(registry);
  auto& reference = histograms.Add({{"a", "b"}, {"c", "d"}}, bounds);
  const FamilyView histogram = View("h_seconds", FamilyType::kHistogram, "A histogram.");
  Prometheus().Family(histogram, &page);
  for (const double value : {0.001, 0.25, 0.5, 64.0, 0.25}) reference.Observe(value);
  const Buckets buckets = MakeBuckets(bounds, {1, 0, 2, 1, 0, 1}, 65.001);
  Prometheus().Histogram(histogram, "a=\"b\",c=\"d\"", buckets.View(), &page);

  const std::string expected = prometheus::TextSerializer().Serialize(registry.Collect());
  EXPECT_EQ(Parse(page), Parse(expected)) << page << "\n--- prometheus-cpp\n" << expected;
}

TEST(CreatedLinesTest, StandWithWhatTheyDate) {
  const TextEncoder encoder(TextFormat::kOpenMetrics100, ContentCoding::kIdentity, true);
  std::string page;
  const FamilyView counter = View("hits_total", FamilyType::kCounter);
  encoder.Counter(counter, R"(a="b")", {.whole = 3, .created_s = 1'700'000'000}, &page);
  EXPECT_EQ(page, "hits_total{a=\"b\"} 3\nhits_created{a=\"b\"} 1700000000\n");
  page.clear();
  const Buckets buckets = MakeBuckets({1}, {2, 3}, 4);
  HistogramValue histogram = buckets.View();
  histogram.created_s = 7;
  encoder.Histogram(View("took", FamilyType::kHistogram), "", histogram, &page);
  EXPECT_THAT(page, EndsWith("took_sum 4\ntook_count 5\ntook_created 7\n"));
  page.clear();
  encoder.Summary(
      View("size", FamilyType::kSummary), "",
      {.quantiles = {}, .ranks = {}, .values = {}, .count = 1, .sum = 2, .created_s = 8}, &page);
  EXPECT_EQ(page, "size_sum 2\nsize_count 1\nsize_created 8\n");
}

// What OpenMetrics does not call a counter has none, nor has what is not dated, nor one whose line
// would be called as another family is.
TEST(CreatedLinesTest, AreWhereTheFormatHasThem) {
  const TextEncoder encoder(TextFormat::kOpenMetrics100, ContentCoding::kIdentity, true);
  std::string page;
  const CounterValue value = {.whole = 3, .created_s = 9};
  encoder.Counter(View("hits", FamilyType::kCounter), "", value, &page);
  encoder.Counter(View("hits_total", FamilyType::kCounter, "", true), "", value, &page);
  FamilyView taken = View("x_total", FamilyType::kCounter);
  taken.created_is_taken = true;
  encoder.Counter(taken, "", value, &page);
  encoder.Counter(View("y_total", FamilyType::kCounter), "", {.whole = 3}, &page);
  encoder.Gauge(View("g", FamilyType::kGauge), "", 1, &page);
  EXPECT_EQ(page, "hits 3\nhits_total 3\nx_total 3\ny_total 3\ng 1\n");
}

TEST(CreatedLinesTest, AreInOpenMetricsAndForThoseWhoWantThem) {
  for (const TextEncoder& encoder :
       {TextEncoder(TextFormat::kOpenMetrics100, ContentCoding::kIdentity),
        TextEncoder(TextFormat::kPrometheus004, ContentCoding::kIdentity, true)}) {
    std::string page;
    encoder.Counter(View("hits_total", FamilyType::kCounter), "", {.whole = 3, .created_s = 9},
                    &page);
    EXPECT_EQ(page, "hits_total 3\n");
    EXPECT_FALSE(encoder.adds_created_series());
  }
}

}  // namespace
}  // namespace tallyd
