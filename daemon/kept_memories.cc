#include "daemon/kept_memories.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/log.h"

namespace tallyd {
namespace {

constexpr char kMemoryPrefix[] = "tallyd.shard.";

bool IsMemoryName(std::string_view name) {
  return name.substr(0, std::strlen(kMemoryPrefix)) == kMemoryPrefix;
}

// Whether its process did.
bool IsBegunWith(uint64_t parent, const KeptMemories::Left& left) {
  if (left.memory == nullptr) return false;
  const MemorySession& of = left.memory->header().session;
  return of.parent == parent && of.session != parent && of.session != 0;
}

}  // namespace

std::vector<HandedFd> KeptMemories::TakeFrom(HandedFds* handed) {
  return handed->TakeIf([](const HandedFd& fd) { return IsMemoryName(fd.name); });
}

void KeptMemories::Find(std::vector<HandedFd> handed, const std::string& directory) {
  for (HandedFd& left : handed) AddLeft(left.name, std::move(left.fd));
  if (directory.empty()) return;
  OpenDirectory(directory);
  if (directory_.valid()) FindFiles();
}

void KeptMemories::OpenDirectory(const std::string& directory) {
  directory_ = UniqueFd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory_.valid()) {
    LogWarn(
        "the directory for the shards' memories cannot be had: a crash costs what was counted "
        "since the state was last saved",
        {{"directory", directory}, {"error", std::strerror(errno)}});
    return;
  }
  struct statfs about {};
  if (::fstatfs(directory_.get(), &about) != 0 || about.f_type != TMPFS_MAGIC) {
    // On a disk, ingest would wait for it, and after a power failure parts would be missing.
    LogWarn("the directory for the shards' memories is not in memory (tmpfs), and is not used",
            {{"directory", directory}});
    directory_.reset();
    return;
  }
}

void KeptMemories::FindFiles() {
  DIR* const directory = ::fdopendir(::dup(directory_.get()));
  if (directory == nullptr) return;
  while (const dirent* entry = ::readdir(directory)) {
    if (!IsMemoryName(entry->d_name)) continue;
    UniqueFd file(
        ::openat(directory_.get(), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    struct stat whose {};
    // In a directory where others may write, what is not ours is theirs.
    if (::fstat(file.get(), &whose) != 0 || whose.st_uid != ::geteuid()) continue;
    AddLeft(entry->d_name, std::move(file));
  }
  ::closedir(directory);
}

// One that cannot be used is kept without its memory, so that it is dropped with the others.
void KeptMemories::AddLeft(const std::string& name, UniqueFd fd) {
  Left& left = left_.emplace_back();
  left.name = name;
  auto memory = ShardMemory::Open(fd.release());
  if (memory.ok()) {
    left.memory = *std::move(memory);
  } else {
    LogWarn("the memory that a shard has left cannot be used",
            {{"name", name}, {"error", std::string(memory.status().message())}});
  }
}

std::vector<KeptMemories::Left*> KeptMemories::Of(uint64_t session) {
  std::vector<Left*> found;
  uint32_t shards = 0;
  std::set<uint32_t> seen;
  for (Left& left : left_) {
    if (left.memory == nullptr || left.memory->header().session.session != session) continue;
    shards = left.memory->header().session.shards;
    if (seen.insert(left.memory->header().session.shard).second) found.push_back(&left);
  }
  // As the cells of a series are added where they are shown: sums come out the same.
  std::sort(found.begin(), found.end(), [](const Left* a, const Left* b) {
    return a->memory->header().session.shard < b->memory->header().session.shard;
  });
  if (found.empty() || found.size() == shards) return found;
  LogWarn("of the memories that the shards have left some are missing; none of them is used",
          {{"found", absl::StrCat(found.size())}, {"shards", absl::StrCat(shards)}});
  return {};
}

std::vector<KeptMemories::Left*> KeptMemories::BegunWith(uint64_t parent) {
  std::set<uint64_t> sessions;
  for (const Left& left : left_) {
    if (IsBegunWith(parent, left)) sessions.insert(left.memory->header().session.session);
  }
  std::vector<Left*> all;
  for (const uint64_t session : sessions) {
    const std::vector<Left*> found = Of(session);
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

std::optional<uint64_t> KeptMemories::SeedOf(uint64_t parent) const {
  for (const Left& left : left_) {
    if (IsBegunWith(parent, left)) return left.memory->header().hash_seed;
  }
  return std::nullopt;
}

void KeptMemories::UseManager(const ServiceManager* manager) {
  manager_ = manager;
  by_manager_ = manager->stores_fds();
}

std::string KeptMemories::NameOf(size_t shard) const {
  return absl::StrCat(kMemoryPrefix, absl::Hex(session_, absl::kZeroPad16), ".", shard);
}

// What was left is taken over into ours before it is dropped, so that both need room at a time.
absl::Status KeptMemories::CheckRoom(size_t shards) const {
  constexpr uint64_t kShardBytes = 1 << 20;  // to begin with
  struct statvfs room {};
  if (::fstatvfs(directory_.get(), &room) != 0) return absl::ErrnoToStatus(errno, "fstatvfs");
  if (room.f_blocks == 0) return absl::OkStatus();  // without a limit
  uint64_t needed = shards * kShardBytes;
  for (const Left& left : left_) {
    constexpr uint64_t kStatBlock = 512;
    struct stat about {};
    if (left.memory == nullptr || ::fstat(left.memory->fd(), &about) != 0) continue;
    needed += static_cast<uint64_t>(about.st_blocks) * kStatBlock;
  }
  const uint64_t free = uint64_t{room.f_bavail} * room.f_frsize;
  if (free >= needed) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("their directory has ", free, " bytes of room, ", needed, " are needed"));
}

absl::Status KeptMemories::MakeFiles(size_t shards, std::vector<UniqueFd>* files) {
  absl::Status status = CheckRoom(shards);
  for (size_t i = 0; status.ok() && i < shards; ++i) {
    constexpr mode_t kOwnerOnly = 0600;
    files->emplace_back(::openat(directory_.get(), names_[i].c_str(),
                                 O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly));
    if (!files->back().valid()) status = absl::ErrnoToStatus(errno, names_[i]);
  }
  return status;
}

ShardSet::Memories KeptMemories::New(size_t shards, uint64_t parent) {
  ShardSet::Memories memories;
  if (!by_manager_ && !directory_.valid()) return memories;
  memories.session.session = session_;
  memories.session.parent = parent;
  memories.session.holds_retired = 1;
  for (size_t i = 0; i < shards; ++i) names_.push_back(NameOf(i));
  if (by_manager_) return memories;
  const absl::Status status = MakeFiles(shards, &memories.files);
  if (status.ok()) return memories;
  LogWarn(
      "the shards' memories cannot be kept: a crash costs what was counted since the state was "
      "last saved",
      {{"error", std::string(status.message())}});
  DropOurs();
  return {};
}

void KeptMemories::Keep(const std::vector<ShardMemory*>& memories) {
  if (!by_manager_ || names_.empty()) return;
  for (size_t i = 0; i < memories.size(); ++i) {
    const absl::Status status = manager_->Store(names_[i], memories[i]->fd());
    if (!status.ok()) {
      LogWarn("the service manager does not keep a shard's memory",
              {{"error", std::string(status.message())}});
    }
  }
}

void KeptMemories::Drop(const std::string& name) {
  if (manager_ != nullptr && manager_->present()) manager_->Remove(name).IgnoreError();
  if (directory_.valid()) ::unlinkat(directory_.get(), name.c_str(), 0);
}

void KeptMemories::DropLeft() {
  for (const Left& left : left_) Drop(left.name);
  left_.clear();
}

void KeptMemories::DropOurs() {
  for (const std::string& name : std::exchange(names_, {})) Drop(name);
}

}  // namespace tallyd
