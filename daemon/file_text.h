// Reads files of a person's making, of which only so much is wanted.

#ifndef TALLYD_DAEMON_FILE_TEXT_H_
#define TALLYD_DAEMON_FILE_TEXT_H_

#include <cstddef>
#include <string>

namespace tallyd {

struct FileText {
  std::string text;
  int open_error = 0;  // errno
  int read_error = 0;  // errno
};

// The first `most_bytes` of a file; ask for one more than it may have to see that it has too many.
FileText ReadFileText(const std::string& path, size_t most_bytes);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_FILE_TEXT_H_
