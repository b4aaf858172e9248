#include "core/wire/frame.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/wire/sample.h"

namespace tallyd {

void PartialUnit::Append(const char* bytes_untrusted, size_t size) {
  const size_t needed = size_ + size + kReadPadding;
  if (bytes_.size() < needed) bytes_.resize(std::max(needed, bytes_.size() * 2));
  std::memcpy(bytes_.data() + size_, bytes_untrusted, size);
  size_ += size;
}

void PartialUnit::Release() {
  size_ = 0;
  std::vector<char>().swap(bytes_);
}

FrameError LengthFramer::Feed(char* bytes_untrusted, size_t size, Emit emit) {
  char* at = bytes_untrusted;
  const char* const end = at + size;
  emitted_.Clear();
  while (error_ == FrameError::kNone && at < end) {
    if (header_size_ < kHeaderBytes && !FeedHeader(&at, end)) break;
    if (frame_size_ > max_frame_bytes_) {
      error_ = FrameError::kFrameTooLong;
      break;
    }
    FeedBody(&at, end, emit);
  }
  return error_;
}

bool LengthFramer::FeedHeader(char** at, const char* end) {
  while (header_size_ < kHeaderBytes && *at < end) {
    header_[header_size_++] = static_cast<uint8_t>(*(*at)++);
  }
  if (header_size_ < kHeaderBytes) return false;
  frame_size_ = static_cast<size_t>(header_[0]) | static_cast<size_t>(header_[1]) << 8 |
                static_cast<size_t>(header_[2]) << 16 | static_cast<size_t>(header_[3]) << 24;
  return true;
}

void LengthFramer::FeedBody(char** at, const char* end, Emit emit) {
  const size_t missing = frame_size_ - partial_.size();
  const size_t there = static_cast<size_t>(end - *at);
  if (partial_.empty() && there >= missing) {
    EmitFrame(*at, emit);
    *at += missing;
    return;
  }
  const size_t taken = std::min(missing, there);
  partial_.Append(*at, taken);
  *at += taken;
  if (taken < missing) return;
  // What is emitted must stay while the tail of these bytes starts the next partial unit.
  std::swap(partial_, emitted_);
  partial_.Clear();
  EmitFrame(emitted_.data(), emit);
}

void LengthFramer::EmitFrame(char* frame, Emit emit) {
  header_size_ = 0;
  ++completed_;
  emit(frame, frame_size_);
}

void LengthFramer::Finish(Emit) { emitted_.Clear(); }

std::string LengthFramer::Partial() const {
  std::string bytes(reinterpret_cast<const char*>(header_), header_size_);
  bytes.append(partial_.data(), partial_.size());
  return bytes;
}

void LengthFramer::Trim() {
  emitted_.Release();
  if (partial_.empty()) partial_.Release();
}

FrameError LineFramer::Feed(char* bytes_untrusted, size_t size, Emit emit) {
  char* at = bytes_untrusted;
  const char* const end = at + size;
  emitted_.Clear();
  if (error_ != FrameError::kNone || size == 0) return error_;
  if (!partial_.empty() && !FeedPartial(&at, end, emit)) return error_;

  char* const lines_end = EndOfLines(at, end);
  if (lines_end > at) {
    ++completed_;
    emit(at, static_cast<size_t>(lines_end - at));
  }
  const size_t tail = static_cast<size_t>(end - lines_end);
  if (error_ != FrameError::kNone || tail > max_line_bytes_) return Fail();
  if (tail > 0) partial_.Append(lines_end, tail);
  return FrameError::kNone;
}

bool LineFramer::FeedPartial(char** at, const char* end, Emit emit) {
  const size_t there = static_cast<size_t>(end - *at);
  const auto* line_end = static_cast<const char*>(std::memchr(*at, '\n', there));
  const size_t taken = line_end == nullptr ? there : static_cast<size_t>(line_end - *at);
  if (partial_.size() + taken > max_line_bytes_) {
    Fail();
    return false;
  }
  partial_.Append(*at, taken);
  *at += taken;
  if (line_end == nullptr) return false;
  ++*at;  // the LF
  std::swap(partial_, emitted_);
  partial_.Clear();
  ++completed_;
  emit(emitted_.data(), emitted_.size());
  return true;
}

char* LineFramer::EndOfLines(char* at, const char* end) {
  const size_t size = static_cast<size_t>(end - at);
  if (size <= max_line_bytes_ + 1) {  // no line in it can be too long
    auto* last = static_cast<char*>(memrchr(at, '\n', size));
    return last == nullptr ? at : last + 1;
  }
  while (at < end) {
    auto* line_end = static_cast<char*>(std::memchr(at, '\n', static_cast<size_t>(end - at)));
    if (line_end == nullptr) break;
    if (static_cast<size_t>(line_end - at) > max_line_bytes_) {
      error_ = FrameError::kLineTooLong;
      break;
    }
    at = line_end + 1;
  }
  return at;
}

FrameError LineFramer::Fail() {
  partial_.Clear();
  return error_ = FrameError::kLineTooLong;
}

void LineFramer::Finish(Emit emit) {
  emitted_.Clear();
  if (partial_.empty()) return;
  std::swap(partial_, emitted_);
  partial_.Clear();
  ++completed_;
  emit(emitted_.data(), emitted_.size());
}

void LineFramer::Trim() {
  emitted_.Release();
  if (partial_.empty()) partial_.Release();
}

}  // namespace tallyd
