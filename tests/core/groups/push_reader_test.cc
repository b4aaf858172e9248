// What bodies are read as. What a Pushgateway answers to each is tried against one in
// tests/e2e/test_push_listener.py.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "core/groups/protobuf_reader.h"
#include "core/groups/text_reader.h"

namespace tallyd {
namespace {

constexpr size_t kMany = 1'000'000;

PushedFamilies Read(const std::string& text) {
  absl::StatusOr<PushedFamilies> families = ReadPushedText(text, kMany);
  EXPECT_TRUE(families.ok()) << families.status();
  return families.ok() ? *std::move(families) : PushedFamilies();
}

std::string ErrorOf(const std::string& text) {
  const absl::StatusOr<PushedFamilies> families = ReadPushedText(text, kMany);
  return families.ok() ? "read" : std::string(families.status().message());
}

TEST(TextReaderTest, ReadsEachType) {
  const PushedFamilies families = Read(
      "# HELP c Of c\\nand \\\\ more.\n# TYPE c counter\nc{a=\"x\",b=\"\"} 1\nc 2e3\n"
      "# TYPE g GAUGE\ng -Inf\nu NaN\n");
  ASSERT_EQ(families.size(), 3u);
  const PushedFamily& counter = families.at("c");
  EXPECT_EQ(counter.type, FamilyType::kCounter);
  EXPECT_EQ(counter.help, "Of c\nand \\ more.");
  ASSERT_EQ(counter.metrics.size(), 2u);
  EXPECT_EQ(counter.metrics[0].labels, (PushedLabels{{"a", "x"}, {"b", ""}}));
  EXPECT_EQ(counter.metrics[1].value, 2000);
  EXPECT_EQ(families.at("g").metrics[0].value, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(families.at("u").type, FamilyType::kUntyped);
  EXPECT_TRUE(std::isnan(families.at("u").metrics[0].value));
}

TEST(TextReaderTest, JoinsTheLinesOfHistogramsAndSummaries) {
  const PushedFamilies families = Read(
      "# TYPE h histogram\nh_bucket{z=\"1\",le=\"1\"} 2\nh_count{z=\"1\"} 5\n"
      "# TYPE s summary\ns{quantile=\"0.5\"} 3\ns_sum 4\n"
      "h_bucket{le=\"+Inf\",z=\"1\"} 5\nh_sum{z=\"1\"} 1.5\nh_sum{z=\"2\"} 1\ns_bucket 9\n");
  ASSERT_EQ(families.size(), 3u);
  ASSERT_EQ(families.at("h").metrics.size(), 2u);
  const PushedDistribution& histogram = *families.at("h").metrics[0].distribution;
  ASSERT_EQ(histogram.buckets.size(), 2u);
  EXPECT_EQ(histogram.buckets[1].cumulative, 5u);
  EXPECT_EQ(histogram.count, 5u);
  EXPECT_EQ(histogram.sum, 1.5);
  EXPECT_EQ(families.at("s").metrics[0].distribution->quantiles[0].value, 3);
  EXPECT_EQ(families.at("s_bucket").type, FamilyType::kUntyped);
}

TEST(TextReaderTest, ErrorsNameTheLine) {
  EXPECT_EQ(ErrorOf("a 1"), "text format parsing error in line 1: unexpected end of input stream");
  EXPECT_EQ(ErrorOf("a 1\n\nb x\n"),
            "text format parsing error in line 3: expected float as value, got \"x\"");
  EXPECT_EQ(ErrorOf("a 1\n# TYPE a gauge\n"),
            "text format parsing error in line 2: second TYPE line for metric name \"a\", or TYPE "
            "reported after samples");
  EXPECT_NE(ErrorOf("# HELP a \xff\na 1\n"), "read");
}

TEST(TextReaderTest, NotesTimestamps) {
  const PushedFamilies families = Read("a 1 5\nb 2\n");
  EXPECT_TRUE(families.at("a").metrics[0].has_timestamp);
  EXPECT_FALSE(families.at("b").metrics[0].has_timestamp);
}

TEST(TextReaderTest, StopsAtMoreThanIsAllowed) {
  // Families count as well as samples.
  EXPECT_TRUE(ReadPushedText("a 1\nb 2\n", 4).ok());
  EXPECT_EQ(ReadPushedText("a 1\nb 2\n", 3).status().code(), absl::StatusCode::kResourceExhausted);
  std::string labels;
  for (int i = 0; i < 65; ++i) labels += "l" + std::to_string(i) + "=\"\",";
  EXPECT_NE(ErrorOf("a{" + labels + "} 1\n"), "read");
}

// A field of protobuf whose content is bytes.
std::string Field(int number, const std::string& content) {
  return std::string(1, static_cast<char>(number << 3 | 2)) +
         std::string(1, static_cast<char>(content.size())) + content;
}

std::string Varint(int number, int value) {
  return std::string(1, static_cast<char>(number << 3)) + std::string(1, static_cast<char>(value));
}

std::string Double(int number, double value) {
  return std::string(1, static_cast<char>(number << 3 | 1)) +
         std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string Delimited(const std::string& message) {
  return std::string(1, static_cast<char>(message.size())) + message;
}

TEST(ProtobufReaderTest, ReadsAHistogramAndSkipsWhatItDoesNotKnow) {
  const std::string bucket = Field(3, Varint(1, 3) + Double(2, 0.5));
  const std::string histogram = Field(7, Varint(1, 4) + Double(2, 8) + bucket + Varint(15, 1));
  const std::string label = Field(1, Field(1, "a") + Field(2, "b"));
  const std::string body = Delimited(Field(1, "h") + Field(4, label + histogram) + Varint(3, 4));
  const absl::StatusOr<PushedFamilies> families = ReadPushedProtobuf(body, kMany);
  ASSERT_TRUE(families.ok()) << families.status();
  const PushedMetric& metric = families->at("h").metrics.at(0);
  EXPECT_EQ(metric.labels, (PushedLabels{{"a", "b"}}));
  EXPECT_EQ(metric.distribution->count, 4u);
  ASSERT_EQ(metric.distribution->buckets.size(), 1u);
  EXPECT_EQ(metric.distribution->buckets[0].bound, 0.5);
}

TEST(ProtobufReaderTest, RefusesWhatIsCutAnywhere) {
  const std::string gauge = Field(4, Field(2, Double(1, 2)));
  const std::string body = Delimited(Field(1, "g") + Varint(3, 1) + gauge);
  ASSERT_TRUE(ReadPushedProtobuf(body, kMany).ok());
  for (size_t size = 1; size < body.size(); ++size) {
    EXPECT_FALSE(ReadPushedProtobuf(body.substr(0, size), kMany).ok()) << size;
  }
  EXPECT_EQ(ReadPushedProtobuf(body, 1).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(ProtobufReaderTest, NotesAValueOfAnotherType) {
  const std::string body =
      Delimited(Field(1, "g") + Varint(3, 1) + Field(4, Field(3, Double(1, 2))));
  const absl::StatusOr<PushedFamilies> families = ReadPushedProtobuf(body, kMany);
  ASSERT_TRUE(families.ok());
  EXPECT_FALSE(families->at("g").metrics[0].is_of_family_type);
}

}  // namespace
}  // namespace tallyd
