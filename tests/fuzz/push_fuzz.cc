// Any bytes as the bodies of pushes, in text and in protobuf: what is taken can be shown, what is
// refused changes nothing, and the store's sums come out even when all is deleted.
//
// The first byte says how the rest is cut into bodies and which of them are protobuf.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/expose/protobuf.h"
#include "core/expose/text.h"
#include "core/groups/group_store.h"
#include "core/groups/protobuf_reader.h"
#include "core/groups/text_reader.h"
#include "core/wire/utf8.h"
#include "tests/fuzz/check.h"

namespace {

using tallyd::Check;

constexpr size_t kMaxSamples = 1000;

std::string Show(const tallyd::GroupStore& store, const tallyd::PageEncoder& encoder,
                 size_t format) {
  std::vector<tallyd::PageBuffer> pages;
  store.view()->AppendPages(encoder, format, false, nullptr, &pages);
  std::string all;
  for (const tallyd::PageBuffer& page : pages) all += *page;
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data) + 1, size - 1);
  const unsigned choice = data[0];
  const size_t piece = all.size() / (1 + choice % 4) + 1;
  const tallyd::TextEncoder text(tallyd::TextFormat::kPrometheus004,
                                 tallyd::ContentCoding::kIdentity);
  const tallyd::ProtobufEncoder protobuf(tallyd::HistogramForm::kClassic,
                                         tallyd::ContentCoding::kIdentity);
  tallyd::GroupStore store({}, nullptr);
  for (size_t at = 0, i = 0; at < all.size(); at += piece, ++i) {
    const std::string_view body = all.substr(at, piece);
    const bool is_protobuf = ((choice >> 2) >> i & 1) != 0;
    auto families = is_protobuf ? tallyd::ReadPushedProtobuf(body, kMaxSamples)
                                : tallyd::ReadPushedText(body, kMaxSamples);
    if (!families.ok()) continue;
    tallyd::Push push;
    push.grouping = {{"job", std::string(1, static_cast<char>('a' + i % 2))}};
    push.families = *std::move(families);
    push.mode = static_cast<tallyd::PushMode>((choice >> 5) % 3);
    const size_t before = store.view()->samples;
    if (!store.Apply(std::move(push)).ok()) Check(store.view()->samples <= before + 2);
    const std::string shown = Show(store, text, 0);
    Check(tallyd::IsUtf8(shown));
    Check(static_cast<size_t>(std::count(shown.begin(), shown.end(), '\n')) >=
          store.view()->families.size());
    // What we show can be pushed again: it is valid text.
    Check(tallyd::ReadPushedText(shown, 1'000'000).ok());
    Check(tallyd::ReadPushedProtobuf(Show(store, protobuf, 1), 1'000'000).ok());
  }
  for (const char* job : {"a", "b"}) {
    store.Delete(tallyd::GroupOwner::kPusher, {{"job", job}});
  }
  Check(store.view()->samples == 0 && store.view()->bytes == 0 && store.view()->groups == 0);
  return 0;
}
