#include "daemon/capture_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "daemon/admin_client.h"
#include "daemon/unique_fd.h"

namespace tallyd {
namespace {

constexpr absl::string_view kTrailer = "# tallyd capture: ";
// More than a trailer has; of what came last so much is kept to look for it.
constexpr size_t kMaxTrailerBytes = 512;

// A file that comes into being at once, when all of it is there.
class NewFile {
 public:
  static absl::StatusOr<NewFile> Create(const std::string& path) {
    if (path == "-") return NewFile(path, "", UniqueFd(::dup(STDOUT_FILENO)));
    std::string temporary = absl::StrCat(path, ".XXXXXX");
    UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!fd.valid()) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot write beside ", path, ": ", std::strerror(errno)));
    }
    return NewFile(path, std::move(temporary), std::move(fd));
  }
  NewFile(NewFile&& other) noexcept
      : path_(std::move(other.path_)),
        temporary_(std::exchange(other.temporary_, {})),
        fd_(std::move(other.fd_)) {}
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  absl::Status Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t size = ::write(fd_.get(), bytes.data(), bytes.size());
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return Error("cannot write");
      bytes.remove_prefix(static_cast<size_t>(size));
    }
    return absl::OkStatus();
  }

  absl::Status Finish() {
    if (temporary_.empty()) return absl::OkStatus();
    if (::fsync(fd_.get()) != 0) return Error("cannot write");
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) return Error("cannot rename to");
    temporary_.clear();
    return absl::OkStatus();
  }

 private:
  NewFile(std::string path, std::string temporary, UniqueFd fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}

  absl::Status Error(const char* what) const {
    return absl::UnavailableError(absl::StrCat(what, " ", path_, ": ", std::strerror(errno)));
  }

  std::string path_;
  std::string temporary_;  // empty: there is none, or it is in its place
  UniqueFd fd_;
};

// The last line, if it is the daemon's, without its opening.
absl::StatusOr<std::string> SummaryIn(const std::string& tail) {
  const size_t before = tail.size() < 2 ? std::string::npos : tail.rfind('\n', tail.size() - 2);
  const absl::string_view last =
      absl::string_view(tail).substr(before == std::string::npos ? 0 : before + 1);
  if (!absl::StartsWith(last, kTrailer) || !absl::EndsWith(last, "\n")) {
    return absl::UnavailableError("tallyd ended within the capture; no file was written");
  }
  return std::string(last.substr(kTrailer.size(), last.size() - kTrailer.size() - 1));
}

}  // namespace

absl::StatusOr<std::string> CaptureToFile(const CaptureOptions& options,
                                          const std::function<void(uint64_t, uint64_t)>& progress,
                                          const std::function<bool()>& stop) {
  absl::StatusOr<AdminClient> client = AdminClient::Connect(options.socket);
  if (!client.ok()) return client.status();
  absl::StatusOr<NewFile> file = NewFile::Create(options.file);
  if (!file.ok()) return file.status();
  uint64_t bytes = 0;
  uint64_t lines = 0;
  std::string tail;
  const auto body = [&](std::string_view text) {
    bytes += text.size();
    lines += static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
    tail.append(text.substr(text.size() - std::min(text.size(), kMaxTrailerBytes)));
    tail.erase(0, tail.size() - std::min(tail.size(), kMaxTrailerBytes));
    return file->Write(text);
  };
  const auto ask = [&] {
    if (progress) progress(bytes, lines);
    return stop && stop();
  };
  const std::string target =
      absl::StrCat("/capture?seconds=", options.seconds, "&bytes=", options.bytes);
  absl::Status status = client->Get(target, body, ask);
  if (!status.ok()) return status;
  absl::StatusOr<std::string> summary = SummaryIn(tail);
  if (!summary.ok()) return summary;
  status = file->Finish();
  if (!status.ok()) return status;
  return summary;
}

}  // namespace tallyd
