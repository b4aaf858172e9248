#include "daemon/drop_marks.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/log.h"
#include "daemon/socket_cookie.h"

namespace tallyd {
namespace {

constexpr uint64_t kMagic = 0x31'53'4b'52'41'4d'59'4c;  // with the version of the layout

}  // namespace

//   | magic, 8 | 0, 8 | 255 times: cookie, 8; drops counted, 4; 0, 4 |   in the host's byte order
struct DropMarks::Table {
  struct Entry {
    uint64_t cookie;  // 0: free
    Mark drops;
    uint32_t unused;
  };
  uint64_t magic;
  uint64_t unused;
  std::array<Entry, kMarks> entries;
};

absl::StatusOr<std::unique_ptr<DropMarks>> DropMarks::Open(std::vector<UniqueFd> stored,
                                                           const ServiceManager* manager) {
  static_assert(sizeof(Table) == 4096);
  static_assert(std::atomic<uint32_t>::is_always_lock_free);
  UniqueFd fd;
  for (UniqueFd& candidate : stored) {
    struct stat info {};
    if (::fstat(candidate.get(), &info) == 0 && info.st_size == sizeof(Table)) {
      fd = std::move(candidate);
    }
  }
  const bool taken_up = fd.valid();
  if (!taken_up) {
    fd.reset(::memfd_create(kName, MFD_CLOEXEC));
    if (!fd.valid() || ::ftruncate(fd.get(), sizeof(Table)) != 0) {
      return absl::InternalError(absl::StrCat("cannot make shared memory: ", std::strerror(errno)));
    }
  }
  void* const mapped =
      ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) {
    return absl::InternalError(absl::StrCat("cannot map shared memory: ", std::strerror(errno)));
  }
  auto* const table = static_cast<Table*>(mapped);
  if (table->magic != kMagic) {
    std::memset(mapped, 0, sizeof(Table));
    table->magic = kMagic;
  }
  if (!taken_up && manager != nullptr && manager->stores_fds()) {
    const absl::Status status = manager->Store(kName, fd.get());
    if (!status.ok()) {
      LogWarn("what the kernel drops may be counted twice after a restart",
              {{"error", std::string(status.message())}});
    }
  }
  return std::unique_ptr<DropMarks>(new DropMarks(table));
}

DropMarks::~DropMarks() { ::munmap(table_, sizeof(Table)); }

DropMarks::Mark* DropMarks::For(int socket) {
  const uint64_t cookie = CookieOf(socket);
  size_t free = kMarks;
  for (size_t i = 0; i < kMarks; ++i) {
    Table::Entry& entry = table_->entries[i];
    if (cookie != 0 && entry.cookie == cookie) {
      used_[i] = true;
      return &entry.drops;
    }
    if (entry.cookie == 0 && free == kMarks) free = i;
  }
  if (cookie == 0 || free == kMarks) return &without_room_.emplace_back(0);
  Table::Entry& entry = table_->entries[free];
  entry.drops.store(0, std::memory_order_relaxed);
  entry.cookie = cookie;
  used_[free] = true;
  return &entry.drops;
}

void DropMarks::ForgetOthers() {
  for (size_t i = 0; i < kMarks; ++i) {
    if (!used_[i]) table_->entries[i].cookie = 0;
  }
}

}  // namespace tallyd
