// Room at the end of a page, to be written by pointer.

#ifndef TALLYD_CORE_EXPOSE_PAGE_ROOM_H_
#define TALLYD_CORE_EXPOSE_PAGE_ROOM_H_

#include <cstddef>
#include <string>

namespace tallyd {

// Makes room for `size` bytes at the end of `page` and returns where they begin. Writing by pointer
// saves a bounds check and a length update for each of the many small parts of a line.
inline char* Extend(std::string* page, size_t size) {
  const size_t old_size = page->size();
  page->resize(old_size + size);
  return page->data() + old_size;
}

// Gives back the room from `end` on that was not needed.
inline void EndAt(const char* end, std::string* page) {
  page->resize(static_cast<size_t>(end - page->data()));
}

}  // namespace tallyd

#endif  // TALLYD_CORE_EXPOSE_PAGE_ROOM_H_
