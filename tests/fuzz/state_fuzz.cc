// A saved state of any bytes: refused, or read to something that is written and read the same
// again.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/merge/state_codec.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tallyd {
namespace {

// Writes what it is told.
class Rewriter : public StateVisitor {
 public:
  void OnHead(SavedHead head) override { encoder_.emplace(head); }
  void OnSeries(SavedSeries* series) override { encoder_->Add(*series); }
  void OnExpired(SavedExpired* expired) override { encoder_->Add(*expired); }
  std::string Finish() { return encoder_->Finish(); }

 private:
  std::optional<StateEncoder> encoder_;
};

// False if it is refused.
bool Rewrite(std::string_view state, std::string* rewritten) {
  Rewriter rewriter;
  if (!DecodeState(state, &rewriter).ok()) return false;
  *rewritten = rewriter.Finish();
  return true;
}

void Check(std::string_view state) {
  std::string once;
  if (!Rewrite(state, &once)) return;
  std::string twice;
  if (!Rewrite(once, &twice) || once != twice) std::abort();
}

void AppendBlock(uint32_t kind, uint64_t number, std::string_view payload, std::string* out) {
  char head[16];
  const auto size = static_cast<uint32_t>(payload.size());
  std::memcpy(head, &kind, 4);
  std::memcpy(head + 4, &size, 4);
  std::memcpy(head + 8, &number, 8);
  const uint64_t sum =
      XXH3_64bits_withSeed(payload.data(), payload.size(), XXH3_64bits(head, sizeof(head)));
  out->append(head, sizeof(head));
  out->append(reinterpret_cast<const char*>(&sum), sizeof(sum));
  out->append(payload);
}

// So that what is behind the checksums is reached: a head or records of these bytes.
std::string Frame(bool as_head, std::string_view payload) {
  SavedHead head;
  head.layouts.push_back(HistogramLayout::Default());
  std::string state = StateEncoder(head).Finish();
  constexpr size_t kPrelude = 24;
  constexpr size_t kBlockHead = 24;
  uint32_t head_size = 0;
  std::memcpy(&head_size, state.data() + kPrelude + 4, sizeof(head_size));
  state.resize(as_head ? kPrelude : kPrelude + kBlockHead + head_size);
  const uint64_t blocks = as_head ? 1 : 2;
  AppendBlock(as_head ? 1 : 2, blocks - 1, payload, &state);
  AppendBlock(3, blocks, {reinterpret_cast<const char*>(&blocks), sizeof(blocks)}, &state);
  return state;
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      tallyd::Check(bytes);
      break;
    case 1:
      tallyd::Check(tallyd::Frame(false, bytes));
      break;
    case 2:
      tallyd::Check(tallyd::Frame(true, bytes));
      break;
  }
  return 0;
}
