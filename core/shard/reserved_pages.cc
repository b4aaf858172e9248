#include "core/shard/reserved_pages.h"

#include <sys/mman.h>

#include <new>

namespace tallyd {

// Where it is not to be had, a dump is long: no reason not to start.
void LeaveOutOfDumps(void* pages, size_t bytes) { madvise(pages, bytes, MADV_DONTDUMP); }

ReservedPages::ReservedPages(size_t bytes)
    : pages_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)),
      bytes_(bytes) {
  if (pages_ == MAP_FAILED) throw std::bad_alloc();
  LeaveOutOfDumps(pages_, bytes_);
}

ReservedPages::~ReservedPages() { munmap(pages_, bytes_); }

}  // namespace tallyd
