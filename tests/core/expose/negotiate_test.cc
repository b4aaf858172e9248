#include "core/expose/negotiate.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace tallyd {
namespace {

constexpr ScrapeFormat kText = ScrapeFormat::kPrometheus004;
constexpr ScrapeFormat kOpenMetrics = ScrapeFormat::kOpenMetrics100;
constexpr ScrapeFormat kProtobuf = ScrapeFormat::kProtobuf;

struct FormatCase {
  std::string_view accept;
  ScrapeFormat expected;
};

void PrintTo(const FormatCase& c, std::ostream* out) { *out << '"' << c.accept << '"'; }

class NegotiateFormatTest : public testing::TestWithParam<FormatCase> {};

TEST_P(NegotiateFormatTest, Answers) {
  EXPECT_EQ(NegotiateFormat(GetParam().accept), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    RealClients, NegotiateFormatTest,
    testing::Values(
        // Prometheus 2.42, by default and with native histograms switched on.
        FormatCase{"application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
                   "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                   kOpenMetrics},
        FormatCase{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
                   "encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,"
                   "application/openmetrics-text;version=0.0.1;q=0.75,"
                   "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                   kProtobuf},
        // Prometheus 3, by default and with the text formats 0.0.4 forced.
        FormatCase{"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
                   "application/openmetrics-text;version=0.0.1;q=0.5,"
                   "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
                   "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                   kOpenMetrics},
        FormatCase{"text/plain;version=0.0.4;q=0.2,*/*;q=0.1", kText},
        // curl, a browser, vmagent.
        FormatCase{"*/*", kText},
        FormatCase{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
                   "image/apng,*/*;q=0.8",
                   kText},
        FormatCase{"text/plain;version=0.0.4;q=1,*/*;q=0.1", kText}));

INSTANTIATE_TEST_SUITE_P(
    QualityDecides, NegotiateFormatTest,
    testing::Values(
        FormatCase{"text/plain;q=0.9,application/openmetrics-text;q=0.8", kText},
        FormatCase{"text/plain;q=0.8,application/openmetrics-text;q=0.9", kOpenMetrics},
        FormatCase{"text/plain;q=0.501,application/openmetrics-text;q=0.502", kOpenMetrics},
        FormatCase{"text/plain,application/openmetrics-text", kOpenMetrics},
        FormatCase{"application/openmetrics-text,text/plain", kOpenMetrics},
        FormatCase{"application/openmetrics-text;q=0,*/*", kText},
        FormatCase{"application/openmetrics-text;q=0", kText},
        FormatCase{"text/plain;q=0,application/openmetrics-text;q=0.001", kOpenMetrics},
        FormatCase{"text/plain;q=0.1,*/*;q=0.9", kOpenMetrics},
        FormatCase{"application/*", kOpenMetrics}, FormatCase{"text/*", kText},
        FormatCase{"text/*;q=0.2,application/*;q=0.1", kText},
        // The closer range decides, whatever its order and its value.
        FormatCase{"application/openmetrics-text;q=0.1,application/*,text/plain;q=0.5", kText},
        FormatCase{
            "application/*,text/plain;q=0.5,application/openmetrics-text;version=1.0.0;q=0.1",
            kText}));

INSTANTIATE_TEST_SUITE_P(
    OddButLegal, NegotiateFormatTest,
    testing::Values(
        FormatCase{"Application/OpenMetrics-Text ; Version=1.0.0 ; Q=1 , text/plain;q=0.5",
                   kOpenMetrics},
        FormatCase{"application/openmetrics-text;version=\"1.0.0\"", kOpenMetrics},
        FormatCase{"application/openmetrics-text; charset=utf-8", kOpenMetrics},
        FormatCase{"application/openmetrics-text;x=\"a,b;q=0\",text/plain;q=0.5", kOpenMetrics},
        FormatCase{"application/openmetrics-text;x=\"\\\",\";q=0.1,text/plain;q=0.5", kText},
        FormatCase{",,application/openmetrics-text,,", kOpenMetrics},
        // Versions that we do not speak.
        FormatCase{"application/openmetrics-text;version=2.0.0", kText},
        FormatCase{"application/openmetrics-text;version=0.0.1,text/plain;q=0.1", kText}));

INSTANTIATE_TEST_SUITE_P(
    ProtobufForThoseWhoAskForIt, NegotiateFormatTest,
    testing::Values(
        // Telegraf.
        FormatCase{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
                   "encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3",
                   kProtobuf},
        FormatCase{"application/vnd.google.protobuf; proto=\"io.prometheus.client.MetricFamily\"; "
                   "encoding=\"delimited\"",
                   kProtobuf},
        FormatCase{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
                   "encoding=delimited;escaping=allow-utf-8",
                   kProtobuf},
        FormatCase{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
                   "encoding=delimited,application/openmetrics-text,text/plain",
                   kProtobuf},
        FormatCase{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
                   "encoding=delimited;q=0.3,application/openmetrics-text;q=0.4",
                   kOpenMetrics},
        FormatCase{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
                   "encoding=delimited;q=0,text/plain;q=0",
                   kText},
        // Other messages, other encodings, and ranges that say neither.
        FormatCase{"application/vnd.google.protobuf", kText},
        FormatCase{"application/vnd.google.protobuf;encoding=delimited", kText},
        FormatCase{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily",
                   kText},
        FormatCase{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
                   "encoding=text",
                   kText},
        FormatCase{"application/vnd.google.protobuf;proto=io.prometheus.write.v2.Request;"
                   "encoding=delimited",
                   kText},
        FormatCase{"application/*;q=1,*/*;q=1", kOpenMetrics}));

INSTANTIATE_TEST_SUITE_P(Unusable, NegotiateFormatTest,
                         testing::Values(FormatCase{"", kText}, FormatCase{" \t ", kText},
                                         FormatCase{",", kText}, FormatCase{";;;=", kText},
                                         FormatCase{"image/png", kText},
                                         FormatCase{"*/*;q=0", kText}, FormatCase{"\"", kText},
                                         FormatCase{"\\", kText}, FormatCase{"\"\\", kText},
                                         FormatCase{"application/openmetrics-text;q=2", kText},
                                         FormatCase{"application/openmetrics-text;q=1.001", kText},
                                         FormatCase{"application/openmetrics-text;q=-1", kText},
                                         FormatCase{"application/openmetrics-text;q=", kText},
                                         FormatCase{"application/openmetrics-text;q=0.1234", kText},
                                         FormatCase{"application/openmetrics-text;q=abc", kText},
                                         FormatCase{"application/openmetrics-text;q=1e0", kText}));

TEST(NegotiateFormat, ReadsNoMoreThanTheBoundOfRanges) {
  std::string accept;
  for (int i = 0; i < kMaxAcceptRanges; ++i) accept += "image/png,";
  EXPECT_EQ(NegotiateFormat(accept + "application/openmetrics-text"), kText);
  EXPECT_EQ(NegotiateFormat(accept.substr(accept.find(',') + 1) + "application/openmetrics-text"),
            kOpenMetrics);
}

TEST(NegotiateFormat, TakesTenKilobytesOfJunk) {
  EXPECT_EQ(NegotiateFormat(std::string(10'240, ';')), kText);
  EXPECT_EQ(NegotiateFormat(std::string(10'240, '"')), kText);
  EXPECT_EQ(NegotiateFormat("application/openmetrics-text," + std::string(10'240, 'x')),
            kOpenMetrics);
}

TEST(NegotiateCoding, GivesGzipToThoseWhoTakeIt) {
  for (const std::string_view header :
       {"gzip", "GZip", "x-gzip", "gzip, deflate, br", "deflate;q=0.5,gzip;q=0.001", "*",
        "identity;q=1, *;q=0.5", "br;q=1.0, gzip;q=0.8, *;q=0.1", "*;q=0, gzip"}) {
    EXPECT_EQ(NegotiateCoding(header), ContentCoding::kGzip) << header;
  }
}

TEST(NegotiateCoding, AndPlainBytesToAllOthers) {
  for (const std::string_view header :
       {"", "identity", "br", "gzip;q=0", "gzip;q=0.000", "gzip;q=0, *", "*;q=0", "gzipped",
        "gzip;q=nonsense", "gzip;q=7"}) {
    EXPECT_EQ(NegotiateCoding(header), ContentCoding::kIdentity) << header;
  }
}

TEST(ContentTypeTest, NamesVersionAndCharset) {
  EXPECT_EQ(ContentType(kText), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(ContentType(kOpenMetrics),
            "application/openmetrics-text; version=1.0.0; charset=utf-8");
  EXPECT_EQ(ContentType(kProtobuf),
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; "
            "encoding=delimited");
}

}  // namespace
}  // namespace tallyd
