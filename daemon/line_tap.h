// Taps: who else gets the lines that a shard is about to take in.

#ifndef TALLYD_DAEMON_LINE_TAP_H_
#define TALLYD_DAEMON_LINE_TAP_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/shard/shard.h"

namespace tallyd {

// Sees every line as it came, also those that cannot be parsed. One tap may be on several shards;
// then it is called by several threads at a time.
class LineTap {
 public:
  virtual ~LineTap() = default;

  // Shard's thread, before the shard takes the lines in: one datagram or frame, or the lines that a
  // stream completed, in the order of their arrival on a connection. Lines are separated by LF, the
  // last one need not have one; a line may be empty, or end with CR. The bytes are the caller's
  // afterwards. This is the hot path: it may not wait.
  virtual void OnLines(Source source, std::string_view lines_untrusted) = 0;

  // Shard's thread, at least once a second, and once after the last lines.
  virtual void OnBeat(int64_t now_ns) = 0;
};

// The taps of one shard: mostly none, which costs a branch for each datagram.
//
// Ownership: the shard's thread, once it runs.
class LineTaps {
 public:
  void OnLines(Source source, const char* lines_untrusted, size_t size) {
    for (const auto& tap : taps_) tap->OnLines(source, std::string_view(lines_untrusted, size));
  }
  // Of a datagram that was cut: its last line is not complete and nobody's.
  void OnTruncated(Source source, const char* lines_untrusted, size_t size) {
    if (taps_.empty()) return;
    const std::string_view lines(lines_untrusted, size);
    OnLines(source, lines_untrusted, lines.rfind('\n') + 1);  // without any it wraps to 0
  }
  void OnBeat(int64_t now_ns) {
    for (const auto& tap : taps_) tap->OnBeat(now_ns);
  }

  bool empty() const { return taps_.empty(); }
  void Add(std::shared_ptr<LineTap> tap) { taps_.push_back(std::move(tap)); }
  void Remove(const std::shared_ptr<LineTap>& tap) {
    taps_.erase(std::remove(taps_.begin(), taps_.end(), tap), taps_.end());
  }

 private:
  std::vector<std::shared_ptr<LineTap>> taps_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LINE_TAP_H_
