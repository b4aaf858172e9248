#include "daemon/line_source.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tallyd {
namespace {

constexpr size_t kBlockBytes = 1 << 18;

}  // namespace

absl::StatusOr<LineSource> LineSource::Open(const std::string& path, size_t max_line_bytes) {
  std::FILE* const file = path == "-" ? stdin : std::fopen(path.c_str(), "rbe");
  struct stat info {};
  if (file == nullptr || ::fstat(::fileno(file), &info) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", std::strerror(errno)));
  }
  const uint64_t bytes_in_all = S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0;
  return LineSource(path, file, max_line_bytes, bytes_in_all);
}

LineSource::LineSource(std::string path, std::FILE* file, size_t max_line_bytes,
                       uint64_t bytes_in_all)
    : path_(std::move(path)),
      file_(file),
      max_line_bytes_(max_line_bytes),
      bytes_in_all_(bytes_in_all) {}

bool LineSource::Fill() {
  buffer_.resize(kBlockBytes);
  at_ = 0;
  buffer_.resize(std::fread(buffer_.data(), 1, buffer_.size(), file_.get()));
  bytes_read_ += buffer_.size();
  if (buffer_.empty() && std::ferror(file_.get()) != 0) error_ = errno;
  return !buffer_.empty();
}

LineSource::Next LineSource::Read(std::string* line) {
  line->clear();
  bool too_long = false;
  while (at_ < buffer_.size() || Fill()) {
    const size_t end = buffer_.find('\n', at_);
    const size_t stop = end == std::string::npos ? buffer_.size() : end;
    too_long = too_long || line->size() + (stop - at_) > max_line_bytes_;
    if (!too_long) line->append(buffer_, at_, stop - at_);
    at_ = stop;
    if (end == std::string::npos) continue;
    ++at_;
    return too_long ? Next::kTooLong : Next::kLine;
  }
  if (too_long) return Next::kTooLong;
  return line->empty() ? Next::kEnd : Next::kLine;
}

absl::Status LineSource::status() const {
  if (error_ == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path_, ": ", std::strerror(error_)));
}

}  // namespace tallyd
