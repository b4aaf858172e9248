// Framing of byte streams: what arrives in pieces comes out as whole frames or lines.
//
// No I/O and no clock here. How the bytes were cut into pieces on their way never changes the
// result: the same units come out, in the same order, and an offence is found at the same byte.

#ifndef TALLYD_CORE_WIRE_FRAME_H_
#define TALLYD_CORE_WIRE_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"

namespace tallyd {

// Why a stream cannot go on. What came before the offence counts; nothing after it can be trusted.
enum class FrameError : uint8_t { kNone, kFrameTooLong, kLineTooLong };

// Bytes of a unit whose rest has not come yet.
//
// Invariant: kReadPadding bytes behind the content are readable. Grows with what was received,
// never with what was announced.
class PartialUnit {
 public:
  void Append(const char* bytes_untrusted, size_t size);
  void Clear() { size_ = 0; }
  // Gives the memory back.
  void Release();

  char* data() { return bytes_.data(); }
  const char* data() const { return bytes_.data(); }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  size_t memory() const { return bytes_.capacity(); }

 private:
  std::vector<char> bytes_;
  size_t size_ = 0;
};

// Takes a stream apart. Thread-compatible: one thread owns it.
class Framer {
 public:
  // A unit, or several complete lines in one run: `size` bytes, kReadPadding more readable. The
  // receiver may write to them, and must put back what it wrote behind their end.
  using Emit = absl::FunctionRef<void(char* unit_untrusted, size_t size)>;

  virtual ~Framer() = default;

  // Takes in the next `size` bytes, of which kReadPadding more are readable. Emitted units lie in
  // `bytes` or in the framer and stay valid until the next call. Once it has returned an error it
  // takes in nothing more.
  virtual FrameError Feed(char* bytes_untrusted, size_t size, Emit emit) = 0;

  // The stream ended. Emits what its end completes; afterwards has_partial() says whether something
  // was cut off.
  virtual void Finish(Emit emit) = 0;

  // Is a unit begun and not complete?
  virtual bool has_partial() const = 0;

  // The bytes of the unit that is begun, from its first. A new framer that is fed them goes on as
  // this one would.
  virtual std::string Partial() const = 0;

  // How many units were completed; says whether a stream moves on.
  virtual uint64_t completed() const = 0;

  // Gives back the memory of units that are no longer needed.
  virtual void Trim() = 0;
};

// DogStatsD stream framing.
//
//   +----+----+----+----+--------------------- - -
//   | length, little-endian | `length` bytes: a datagram
//   +----+----+----+----+--------------------- - -
class LengthFramer final : public Framer {
 public:
  static constexpr size_t kHeaderBytes = 4;

  explicit LengthFramer(size_t max_frame_bytes) : max_frame_bytes_(max_frame_bytes) {}

  FrameError Feed(char* bytes_untrusted, size_t size, Emit emit) override;
  void Finish(Emit emit) override;
  bool has_partial() const override { return header_size_ > 0; }
  std::string Partial() const override;
  uint64_t completed() const override { return completed_; }
  void Trim() override;

 private:
  // Takes what it still needs of the header; false while it is not complete.
  bool FeedHeader(char** at, const char* end);
  // Emits the frame if it is complete, keeps what there is of it otherwise.
  void FeedBody(char** at, const char* end, Emit emit);
  void EmitFrame(char* frame, Emit emit);

  const size_t max_frame_bytes_;
  uint64_t completed_ = 0;
  uint8_t header_[kHeaderBytes] = {};
  size_t header_size_ = 0;  // 4 while in a body
  size_t frame_size_ = 0;   // as announced, valid while in a body
  PartialUnit partial_;
  PartialUnit emitted_;  // holds a unit that was pieced together until the next Feed
  FrameError error_ = FrameError::kNone;
};

// Lines ended by LF. A carriage return before it belongs to the line here; the parser drops it.
class LineFramer final : public Framer {
 public:
  // A line longer than `max_line_bytes`, its LF not counted, is an offence.
  explicit LineFramer(size_t max_line_bytes) : max_line_bytes_(max_line_bytes) {}

  FrameError Feed(char* bytes_untrusted, size_t size, Emit emit) override;
  // The last line needs no LF.
  void Finish(Emit emit) override;
  bool has_partial() const override { return !partial_.empty(); }
  std::string Partial() const override { return std::string(partial_.data(), partial_.size()); }
  uint64_t completed() const override { return completed_; }
  void Trim() override;

 private:
  // Completes the line that is begun; false while its end has not come.
  bool FeedPartial(char** at, const char* end, Emit emit);
  // Where the complete lines of [at, end) end, at most before one that is too long.
  char* EndOfLines(char* at, const char* end);
  FrameError Fail();

  const size_t max_line_bytes_;
  uint64_t completed_ = 0;
  PartialUnit partial_;
  PartialUnit emitted_;  // holds a line that was pieced together until the next Feed
  FrameError error_ = FrameError::kNone;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_FRAME_H_
