// Memory that is reserved at the start and costs nothing until it is used.

#ifndef TALLYD_CORE_SHARD_RESERVED_PAGES_H_
#define TALLYD_CORE_SHARD_RESERVED_PAGES_H_

#include <cstddef>

namespace tallyd {

// Keeps a reservation out of core dumps: a dump is as long as what is mapped, gigabytes for an idle
// daemon, and has the kernel fill in all of a memfd that was never written.
void LeaveOutOfDumps(void* pages, size_t bytes);

// Private pages, zero until written. Thread-compatible, as memory is.
class ReservedPages {
 public:
  // Throws std::bad_alloc if there is no room for them among the addresses.
  explicit ReservedPages(size_t bytes);
  ~ReservedPages();
  ReservedPages(const ReservedPages&) = delete;
  ReservedPages& operator=(const ReservedPages&) = delete;

  template <typename T>
  T* As() const {
    return static_cast<T*>(pages_);
  }

 private:
  void* pages_;
  size_t bytes_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_RESERVED_PAGES_H_
