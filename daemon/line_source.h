// Lines of a file or of standard input, in bounded memory.

#ifndef TALLYD_DAEMON_LINE_SOURCE_H_
#define TALLYD_DAEMON_LINE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tallyd {

// Thread-compatible.
class LineSource {
 public:
  enum class Next { kLine, kTooLong, kEnd };

  // "-" is standard input.
  static absl::StatusOr<LineSource> Open(const std::string& path, size_t max_line_bytes);

  // Reads a line without its LF; of one that is longer than it may be nothing is kept.
  Next Read(std::string* line);
  // An error that ended the reading, after kEnd.
  absl::Status status() const;

  uint64_t bytes_read() const { return bytes_read_; }
  // 0 if that is not known.
  uint64_t bytes_in_all() const { return bytes_in_all_; }

 private:
  struct Closer {
    void operator()(std::FILE* file) const {
      if (file != stdin) std::fclose(file);
    }
  };

  LineSource(std::string path, std::FILE* file, size_t max_line_bytes, uint64_t bytes_in_all);
  bool Fill();

  std::string path_;
  std::unique_ptr<std::FILE, Closer> file_;
  size_t max_line_bytes_;
  uint64_t bytes_in_all_;
  uint64_t bytes_read_ = 0;
  std::string buffer_;
  size_t at_ = 0;
  int error_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LINE_SOURCE_H_
