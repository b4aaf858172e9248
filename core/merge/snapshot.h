// What a merge shows to scrapes and pushes.

#ifndef TALLYD_CORE_MERGE_SNAPSHOT_H_
#define TALLYD_CORE_MERGE_SNAPSHOT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tallyd {

// A run of rendered families, as bytes to send. Never changes once it is in a snapshot; consecutive
// snapshots share the buffers of pages in which nothing changed.
using PageBuffer = std::shared_ptr<const std::string>;

// The rendered aggregates at one moment, in one format and encoding.
//
// Invariant: immutable from the moment it is published. Thread-safe: any thread may read it.
//
// The daemon's own families are not in it. Their names (prefixes "process_" and "tallyd_") are
// refused from senders, so they fit between the sections and the whole stays sorted:
// sections[0], process_*, sections[1], tallyd_*, sections[2], end of the exposition.
struct Snapshot {
  static constexpr size_t kSections = 3;

  int64_t taken_at_ns = 0;  // monotonic clock, when the merge that it shows began
  uint64_t series = 0;      // series shown
  size_t bytes = 0;         // of all pages together
  std::array<std::vector<PageBuffer>, kSections> sections;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_SNAPSHOT_H_
