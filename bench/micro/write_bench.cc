// What a series costs on its way into a request of remote write, beside the least that anybody must
// do for it.
//
//   build/release/bin/write_bench
//
// Every benchmark takes kSeries series with four labels and two external ones, and reports the time
// of one. The floor of encoding is a copy of the finished bytes with the value written into them.

#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/expose/remote_write.h"
#include "core/expose/write_request.h"

namespace tallyd {
namespace {

constexpr int kSeries = 2'000;
constexpr FamilyView kFamily = {
    .name = "http_server_requests_total", .help = "", .type = FamilyType::kCounter};

const std::vector<std::string>& Labels() {
  static const auto* const labels = [] {
    auto* made = new std::vector<std::string>();
    for (int i = 0; i < kSeries; ++i) {
      made->push_back("env=\"production\",host=\"web-" + std::to_string(i % 100) +
                      "\",route=\"/v1/r" + std::to_string(i) + "\",status=\"200\"");
    }
    return made;
  }();
  return *labels;
}

RemoteWriteEncoder::Options EncoderOptions() {
  RemoteWriteEncoder::Options options;
  options.timestamp_ms = 1'790'000'000'000;
  options.external_labels = {{"job", "tallyd"}, {"instance", "host-17.example"}};
  return options;
}

std::string Page() {
  const RemoteWriteEncoder encoder(EncoderOptions());
  std::string page;
  uint64_t value = 1;
  for (const std::string& labels : Labels()) {
    encoder.Counter(kFamily, labels, {.whole = value}, &page);
    value = value * 7 % 1'000'003;
  }
  return page;
}

std::vector<WriteRecord> Records(const std::string& page) {
  std::vector<WriteRecord> records;
  WriteRecord record;
  for (WriteRecordReader reader(page); reader.Next(&record);) records.push_back(record);
  return records;
}

void CountSeries(benchmark::State& state, size_t bytes) {
  state.SetItemsProcessed(state.iterations() * kSeries);
  state.counters["bytes/series"] = static_cast<double>(bytes) / kSeries;
}

void BM_EncodeRecords(benchmark::State& state) {
  const RemoteWriteEncoder encoder(EncoderOptions());
  std::string page;
  for (auto _ : state) {
    page.clear();
    uint64_t value = 1;
    for (const std::string& labels : Labels()) {
      encoder.Counter(kFamily, labels, {.whole = value++}, &page);
    }
    benchmark::DoNotOptimize(page.data());
  }
  CountSeries(state, page.size());
}
BENCHMARK(BM_EncodeRecords);

void BM_FloorOfEncoding(benchmark::State& state) {
  const std::string page = Page();
  const std::vector<WriteRecord> records = Records(page);
  std::string out(page.size(), 0);
  for (auto _ : state) {
    char* at = out.data();
    double value = 1;
    for (const WriteRecord& record : records) {
      std::memcpy(at, record.entry.data(), record.entry.size());
      std::memcpy(at + record.entry.size() - sizeof(value), &value, sizeof(value));
      value += 1;
      at += record.entry.size();
    }
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  CountSeries(state, page.size());
}
BENCHMARK(BM_FloorOfEncoding);

void BM_BuildRequest(benchmark::State& state) {
  const auto protocol = static_cast<WriteProtocol>(state.range(0));
  const std::string page = Page();
  const std::vector<WriteRecord> records = Records(page);
  WriteRequestBuilder builder;
  size_t bytes = 0;
  for (auto _ : state) {
    const std::string body = builder.Build(protocol, records);
    bytes = body.size();
    benchmark::DoNotOptimize(body.data());
  }
  CountSeries(state, bytes);
}
BENCHMARK(BM_BuildRequest)->Arg(0)->Arg(1)->ArgName("2.0");

void BM_FloorOfBuilding(benchmark::State& state) {
  const std::string page = Page();
  std::string message;
  for (const WriteRecord& record : Records(page)) message.append(record.entry);
  std::string block;
  for (auto _ : state) {
    block = SnappyBlock(message);
    benchmark::DoNotOptimize(block.data());
  }
  CountSeries(state, block.size());
}
BENCHMARK(BM_FloorOfBuilding);

}  // namespace
}  // namespace tallyd
