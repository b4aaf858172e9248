#include "daemon/file_text.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "daemon/unique_fd.h"

namespace tallyd {

FileText ReadFileText(const std::string& path, size_t most_bytes) {
  FileText file;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    file.open_error = errno;
    return file;
  }
  std::array<char, 65536> buffer;
  while (file.text.size() < most_bytes) {
    const size_t room = std::min(buffer.size(), most_bytes - file.text.size());
    const ssize_t got = ::read(fd.get(), buffer.data(), room);
    if (got == 0) break;
    if (got > 0) {
      file.text.append(buffer.data(), static_cast<size_t>(got));
    } else if (errno != EINTR) {
      file.read_error = errno;
      break;
    }
  }
  return file;
}

}  // namespace tallyd
