// The saved state as bytes: a prelude, then blocks, each with a checksum.
//
//   prelude   magic "tallyst1", version (u32), zero (u32), checksum of these 16 bytes (u64)
//   block     kind (u32), size of the payload (u32), number from 0 (u64), checksum (u64), payload
//
// All numbers are little-endian; checksums are XXH3 (64 bits), of a block over its first 16 bytes
// and its payload. The first block is the head, the last one says that it is the last and how many
// there were, so a file that was cut is known for one. The prelude is the same in all versions;
// what follows it is not: a file of another version is refused as a whole.

#ifndef TALLYD_CORE_MERGE_STATE_CODEC_H_
#define TALLYD_CORE_MERGE_STATE_CODEC_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "core/merge/saved_state.h"

namespace tallyd {

inline constexpr uint32_t kStateVersion = 1;

// Writes a state. Thread-compatible.
class StateEncoder {
 public:
  explicit StateEncoder(const SavedHead& head);

  // Series of one family should follow one another: its name is then written once.
  void Add(const SavedSeries& series);
  void Add(const SavedExpired& expired);
  // No more calls after it.
  std::string Finish();

 private:
  void BeginRecord();
  void EndBlock();

  std::string bytes_;
  std::string payload_;
  std::string family_;  // of the series before, in this block
  SeriesKind kind_ = SeriesKind::kCounter;
  uint16_t layout_ = 0;
  bool has_family_ = false;
  uint64_t blocks_ = 0;
};

class StateVisitor {
 public:
  virtual ~StateVisitor() = default;
  virtual void OnHead(SavedHead head) = 0;
  virtual void OnSeries(SavedSeries* series) = 0;  // which may be moved from
  virtual void OnExpired(SavedExpired* expired) = 0;
};

// Tells `visitor` what a state says: all of it, or nothing. Unimplemented if it is of another
// version, which the message names; DataLoss if it does not verify. The bytes are not trusted:
// every number is checked.
absl::Status DecodeState(std::string_view bytes_untrusted, StateVisitor* visitor);

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_STATE_CODEC_H_
