// How much of what the kernel dropped on a socket is counted already.

#ifndef TALLYD_DAEMON_DROP_MARKS_H_
#define TALLYD_DAEMON_DROP_MARKS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/service_manager.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// The kernel counts drops from the making of a socket on, and a socket can outlive us. The marks
// lie in memory that the manager keeps with the sockets, so that our successor counts what was
// dropped while nobody read, and counts nothing twice, even after we were killed. A socket without
// a mark starts at 0: all that it ever dropped is news.
//
// Ownership: the main thread gives marks out; each mark is written by the one thread that reads its
// socket. Relaxed order is enough: no other data hangs on the numbers, and who reads them after us
// is another process.
class DropMarks {
 public:
  using Mark = std::atomic<uint32_t>;
  // As the manager knows them.
  static constexpr const char* kName = "tallyd.drops";
  // Sockets that can have a mark that outlives us; the others' marks end with us.
  static constexpr size_t kMarks = 255;

  // Takes up what a predecessor `stored`, if that is whole; otherwise begins afresh. Has `manager`
  // keep it, unless that is null or keeps nothing.
  static absl::StatusOr<std::unique_ptr<DropMarks>> Open(std::vector<UniqueFd> stored,
                                                         const ServiceManager* manager);
  ~DropMarks();
  DropMarks(const DropMarks&) = delete;
  DropMarks& operator=(const DropMarks&) = delete;

  // The mark of a socket, which lives as long as this.
  Mark* For(int socket);
  // Once all sockets have theirs: forgets those of sockets that are no more.
  void ForgetOthers();

 private:
  struct Table;

  explicit DropMarks(Table* table) : table_(table), used_(kMarks, false) {}

  Table* const table_;  // mapped
  std::vector<bool> used_;
  std::deque<Mark> without_room_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_DROP_MARKS_H_
