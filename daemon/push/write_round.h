// One rendering on its way to a target of remote write, and what was sent to it before.

#ifndef TALLYD_DAEMON_PUSH_WRITE_ROUND_H_
#define TALLYD_DAEMON_PUSH_WRITE_ROUND_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/expose/remote_write.h"
#include "core/merge/snapshot.h"

namespace tallyd {

using WritePages = std::vector<PageBuffer>;

// A series that ended, with what it takes to say so.
struct EndedSeries {
  uint64_t hash = 0;
  FamilyType type = FamilyType::kGauge;
  std::string labels;  // as WriteRecord has them
};

// Remembers which series a target was sent, so that their end can be told: 8 bytes a series and its
// labels, compressed by pages. Thread-compatible.
class SentSeries {
 public:
  // The target is now sent the series of `pages`; returns those of before that are not among them.
  std::vector<EndedSeries> Replace(const WritePages& pages);
  // All of them, and forgets them.
  std::vector<EndedSeries> TakeAll();
  void Clear();
  size_t size() const { return hashes_.size(); }
  // What they take in memory.
  size_t bytes() const;

 private:
  template <typename Wanted>
  std::vector<EndedSeries> Read(const Wanted& wanted) const;
  void Remember(const WritePages& pages);

  std::vector<uint64_t> hashes_;          // in the order of the pages
  std::vector<std::string> label_pages_;  // compressed
};

// Records of a rendering for one of several connections, in their order. A series goes by the same
// connection each time. Thread-compatible.
class WriteCursor {
 public:
  WriteCursor() = default;
  // `pages` outlives this.
  WriteCursor(const WritePages* pages, int connection, int connections)
      : pages_(pages), connection_(connection), connections_(connections) {}

  // Appends up to `most` records, with their headers, and returns how many.
  size_t Take(size_t most, std::string* records);

 private:
  const WritePages* pages_ = nullptr;
  int connection_ = 0;
  int connections_ = 1;
  size_t page_ = 0;
  size_t offset_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_WRITE_ROUND_H_
