#include "daemon/capture_ring.h"

#include <algorithm>
#include <cstring>

namespace tallyd {

void CaptureRing::OnLines(Source /*source*/, std::string_view lines) {
  if (lines.empty()) return;
  const bool ends = lines.back() == '\n';
  const size_t size = lines.size() + (ends ? 0 : 1);
  const auto [tail, room] = positions_.Free();
  if (size > room) {
    const auto ended = static_cast<uint64_t>(std::count(lines.begin(), lines.end(), '\n'));
    const uint64_t dropped = dropped_lines_.load(std::memory_order_relaxed);
    dropped_lines_.store(dropped + ended + (ends ? 0 : 1), std::memory_order_relaxed);
    return;
  }
  Copy(lines, tail);
  if (!ends) bytes_[PlaceOf(tail + lines.size())] = '\n';
  positions_.PublishTail(tail + size);
}

void CaptureRing::Copy(std::string_view text, uint64_t position) {
  const size_t place = PlaceOf(position);
  const size_t first = std::min(text.size(), bytes_.size() - place);
  std::memcpy(bytes_.data() + place, text.data(), first);
  std::memcpy(bytes_.data(), text.data() + first, text.size() - first);
}

size_t CaptureRing::Take(size_t max_bytes, std::string* lines) {
  const auto [head, waiting] = positions_.Waiting();
  const size_t size = static_cast<size_t>(std::min<uint64_t>(waiting, max_bytes));
  const size_t before = lines->size();
  const size_t first = std::min(size, bytes_.size() - PlaceOf(head));
  lines->append(bytes_.data() + PlaceOf(head), first);
  lines->append(bytes_.data(), size - first);
  // Less than all may end within a line.
  const size_t end = lines->rfind('\n');
  lines->resize(end == std::string::npos || end < before ? before : end + 1);
  const size_t taken = lines->size() - before;
  positions_.PublishHead(head + taken);
  return taken;
}

}  // namespace tallyd
