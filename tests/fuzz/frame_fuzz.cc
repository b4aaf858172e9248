// Any bytes, cut anywhere: the framers give the same units as uncut, and stay within their limits.
//
// The first byte says how the rest is cut; both framers take it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/wire/frame.h"
#include "core/wire/sample.h"

namespace {

constexpr size_t kLimit = 100;

struct Taken {
  std::string bytes;  // of frames with a mark between them, of lines with their LF
  tallyd::FrameError error = tallyd::FrameError::kNone;
  bool partial = false;
};

Taken Read(tallyd::Framer* framer, bool lines, const uint8_t* data, size_t size, size_t piece) {
  Taken taken;
  const auto take = [&](char* unit, size_t unit_size) {
    if (!lines && unit_size > kLimit) std::abort();
    taken.bytes.append(unit, unit_size);
    if (!lines) taken.bytes += "\xff|";
    if (lines && (unit_size == 0 || taken.bytes.back() != '\n')) taken.bytes += '\n';
  };
  std::vector<char> buffer;
  for (size_t at = 0; at < size && taken.error == tallyd::FrameError::kNone; at += piece) {
    const size_t part = std::min(piece, size - at);
    buffer.assign(data + at, data + at + part);
    buffer.resize(part + tallyd::kReadPadding);
    taken.error = framer->Feed(buffer.data(), part, take);
  }
  taken.partial = taken.error == tallyd::FrameError::kNone && framer->has_partial();
  framer->Finish(take);
  return taken;
}

template <typename Framer>
void CheckSplit(bool lines, const uint8_t* data, size_t size, size_t piece) {
  Framer whole(kLimit);
  Framer cut(kLimit);
  const Taken expected = Read(&whole, lines, data, size, size + 1);
  const Taken actual = Read(&cut, lines, data, size, piece);
  if (actual.bytes != expected.bytes || actual.error != expected.error ||
      actual.partial != expected.partial) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t piece = data[0] % 32 + 1;
  CheckSplit<tallyd::LengthFramer>(false, data + 1, size - 1, piece);
  CheckSplit<tallyd::LineFramer>(true, data + 1, size - 1, piece);
  return 0;
}
