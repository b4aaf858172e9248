#include "daemon/handed_connections.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/log.h"
#include "daemon/socket_cookie.h"

namespace tallyd {
namespace {

constexpr const char* kConnectionName = "tallyd.connection";
constexpr const char* kRecordsName = "tallyd.partials";
constexpr std::string_view kMagic = "TLYCONN1";

uint64_t Checksum(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

template <typename T>
void AppendNumber(T number, std::string* bytes) {
  bytes->append(reinterpret_cast<const char*>(&number), sizeof(number));
}

void AppendText(const std::string& text, std::string* bytes) {
  AppendNumber(static_cast<uint32_t>(text.size()), bytes);
  bytes->append(text);
}

// Takes fields off the front; false if they are not there.
class FieldReader {
 public:
  explicit FieldReader(std::string_view left) : left_(left) {}

  template <typename T>
  bool Number(T* number) {
    if (left_.size() < sizeof(T)) return false;
    std::memcpy(number, left_.data(), sizeof(T));
    left_.remove_prefix(sizeof(T));
    return true;
  }
  bool Text(std::string* text) {
    uint32_t size = 0;
    if (!Number(&size) || left_.size() < size) return false;
    text->assign(left_.substr(0, size));
    left_.remove_prefix(size);
    return true;
  }
  bool empty() const { return left_.empty(); }

 private:
  std::string_view left_;
};

absl::Status WriteAll(int fd, const std::string& bytes) {
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t size = ::write(fd, bytes.data() + written, bytes.size() - written);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) {
      return absl::InternalError(absl::StrCat("cannot write memory: ", std::strerror(errno)));
    }
    written += static_cast<size_t>(size);
  }
  return absl::OkStatus();
}

std::string ReadAll(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || info.st_size < 0) return "";
  std::string bytes(static_cast<size_t>(info.st_size), '\0');
  size_t read = 0;
  while (read < bytes.size()) {
    const ssize_t size =
        ::pread(fd, bytes.data() + read, bytes.size() - read, static_cast<off_t>(read));
    if (size <= 0) break;
    read += static_cast<size_t>(size);
  }
  bytes.resize(read);
  return bytes;
}

absl::StatusOr<std::vector<ConnectionRecord>> ReadRecords(const std::vector<UniqueFd>& stored) {
  if (stored.size() != 1) {
    return absl::DataLossError(absl::StrCat(stored.size(), " records were left, not one"));
  }
  return DecodeRecords(ReadAll(stored.front().get()));
}

}  // namespace

std::string EncodeRecords(const std::vector<ConnectionRecord>& records) {
  std::string bytes(kMagic);
  AppendNumber(static_cast<uint32_t>(records.size()), &bytes);
  for (const ConnectionRecord& record : records) {
    AppendNumber(record.cookie, &bytes);
    AppendNumber(record.partial_age_ns, &bytes);
    AppendText(record.listener, &bytes);
    AppendText(record.partial_untrusted, &bytes);
  }
  AppendNumber(Checksum(bytes), &bytes);
  return bytes;
}

absl::StatusOr<std::vector<ConnectionRecord>> DecodeRecords(std::string_view bytes_untrusted) {
  if (bytes_untrusted.substr(0, kMagic.size()) != kMagic) {
    return absl::DataLossError("the record is of another version");
  }
  uint64_t checksum = 0;
  if (bytes_untrusted.size() < kMagic.size() + sizeof(uint32_t) + sizeof(checksum)) {
    return absl::DataLossError("the record is cut off");
  }
  const std::string_view covered =
      bytes_untrusted.substr(0, bytes_untrusted.size() - sizeof(checksum));
  std::memcpy(&checksum, covered.data() + covered.size(), sizeof(checksum));
  if (checksum != Checksum(covered)) return absl::DataLossError("the record's checksum is wrong");

  FieldReader reader(covered.substr(kMagic.size()));
  uint32_t count = 0;
  bool whole = reader.Number(&count);
  std::vector<ConnectionRecord> records;
  for (uint32_t i = 0; whole && i < count; ++i) {
    ConnectionRecord record;
    whole = reader.Number(&record.cookie) && reader.Number(&record.partial_age_ns) &&
            reader.Text(&record.listener) && reader.Text(&record.partial_untrusted);
    if (whole) records.push_back(std::move(record));
  }
  if (!whole || !reader.empty()) return absl::DataLossError("the record does not add up");
  return records;
}

absl::Status StoreConnections(const std::vector<HandedConnection>& connections,
                              const ServiceManager& manager) {
  if (connections.empty()) return absl::OkStatus();
  std::vector<ConnectionRecord> records;
  std::vector<int> fds;
  for (const HandedConnection& connection : connections) {
    records.push_back({CookieOf(connection.fd.get()), connection.listener,
                       connection.partial_untrusted, connection.partial_age_ns});
    fds.push_back(connection.fd.get());
  }
  const UniqueFd memory(::memfd_create(kRecordsName, MFD_CLOEXEC));
  if (!memory.valid()) {
    return absl::InternalError(absl::StrCat("cannot make memory: ", std::strerror(errno)));
  }
  absl::Status status = WriteAll(memory.get(), EncodeRecords(records));
  // The records first: connections without records are closed by who takes them.
  if (status.ok()) status = manager.Store(kRecordsName, memory.get());
  if (status.ok()) status = manager.Store(kConnectionName, fds);
  return status;
}

std::vector<HandedConnection> TakeConnections(HandedFds* handed) {
  std::vector<UniqueFd> fds = handed->Take(kConnectionName);
  const std::vector<UniqueFd> stored = handed->Take(kRecordsName);
  std::vector<HandedConnection> connections;
  if (fds.empty() && stored.empty()) return connections;
  absl::StatusOr<std::vector<ConnectionRecord>> records = ReadRecords(stored);
  if (!records.ok()) {
    LogWarn("connections that the former process left are closed",
            {{"connections", absl::StrCat(fds.size())},
             {"error", std::string(records.status().message())}});
    return connections;
  }
  for (UniqueFd& fd : fds) {
    const uint64_t cookie = CookieOf(fd.get());
    const auto record = std::find_if(
        records->begin(), records->end(),
        [cookie](const ConnectionRecord& candidate) { return candidate.cookie == cookie; });
    if (cookie == 0 || record == records->end()) {
      LogWarn("a connection that the former process left has no record and is closed");
      continue;
    }
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
    connections.push_back({std::move(fd), std::move(record->listener),
                           std::move(record->partial_untrusted), record->partial_age_ns});
  }
  return connections;
}

absl::Status ForgetConnections(const ServiceManager& manager) {
  absl::Status status = manager.Remove(kConnectionName);
  status.Update(manager.Remove(kRecordsName));
  return status;
}

}  // namespace tallyd
