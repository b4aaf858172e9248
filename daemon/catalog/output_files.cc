#include "daemon/catalog/output_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/file_text.h"
#include "daemon/unique_fd.h"

namespace tallyd {
namespace {

// More than any output has; what is larger differs.
constexpr size_t kMaxOutputBytes = 64 << 20;
constexpr std::string_view kMark = "<!-- A stub by tallyctl, ";

absl::Status ErrnoError(const std::string& path, int error) {
  return absl::InternalError(absl::StrCat(path, ": ", std::strerror(error)));
}

// FNV-1a: which bytes these were, for telling edits; nobody has a reason to deceive it.
uint64_t HashOf(std::string_view text) {
  uint64_t hash = 14'695'981'039'346'656'037U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1'099'511'628'211U;
  return hash;
}

bool IsUnedited(const std::string& text) {
  const size_t end = text.find('\n');
  if (end == std::string::npos) return false;
  return WithStubMark(text.substr(end + 1)) == text;
}

std::string BytesOf(const GeneratedFile& file) {
  return file.is_stub ? WithStubMark(file.text) : file.text;
}

absl::Status MakeFoldersOf(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string folder = path.substr(0, slash);
    if (::mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST) return ErrnoError(folder, errno);
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoError(path, errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace

std::string WithStubMark(const std::string& text) {
  return absl::StrFormat("%s%016x: it stays as it is once you edit it. -->\n%s", std::string(kMark),
                         HashOf(text), text);
}

absl::StatusOr<OutputState> StateOf(const std::string& directory, const GeneratedFile& file) {
  const std::string path = absl::StrCat(directory, "/", file.path);
  const FileText there = ReadFileText(path, kMaxOutputBytes);
  if (there.open_error == ENOENT) return OutputState::kMissing;
  if (there.open_error != 0) return ErrnoError(path, there.open_error);
  if (there.read_error != 0) return ErrnoError(path, there.read_error);
  if (there.text == BytesOf(file)) return OutputState::kSame;
  return file.is_stub && !IsUnedited(there.text) ? OutputState::kEdited : OutputState::kDiffers;
}

absl::Status WriteOutput(const std::string& directory, const GeneratedFile& file) {
  const std::string path = absl::StrCat(directory, "/", file.path);
  if (absl::Status status = MakeFoldersOf(path); !status.ok()) return status;
  const std::string beside = absl::StrCat(path, ".new-", ::getpid());
  absl::Status status;
  {
    const UniqueFd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (fd.get() < 0) return ErrnoError(beside, errno);
    status = WriteAll(fd.get(), BytesOf(file), beside);
  }
  if (status.ok() && ::rename(beside.c_str(), path.c_str()) != 0) {
    status = ErrnoError(path, errno);
  }
  if (!status.ok()) ::unlink(beside.c_str());
  return status;
}

}  // namespace tallyd
