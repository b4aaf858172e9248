// An open-addressing hash table that grows a little at a time.
//
// Growing copies a few entries on each insert and each Step into a table twice the size, while both
// are searched: no single insert ever pays for a million. Linear probing, at most three quarters
// full. Entries are small plain records; what they mean, and equality, is the caller's.

#ifndef TALLYD_CORE_SHARD_OPEN_TABLE_H_
#define TALLYD_CORE_SHARD_OPEN_TABLE_H_

#include <sys/mman.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

namespace tallyd {

// `Entry` is trivially copyable, all zero when empty, and has `uint32_t hash`, `bool IsEmpty()`,
// `bool IsErased()` and `static Entry Erased()`. Thread-compatible: the shard's owner only.
template <class Entry>
class OpenTable {
 public:
  static_assert(std::is_trivially_copyable_v<Entry>);

  explicit OpenTable(size_t capacity = 1024) { current_ = Array(std::bit_ceil(capacity)); }

  size_t size() const { return size_; }
  size_t memory_bytes() const { return current_.bytes() + old_.bytes(); }

  // Where the search for `hash` begins.
  void Prefetch(uint32_t hash) const { __builtin_prefetch(&current_.at(hash)); }
  // The first entry with this hash, by value; an empty one if there is none, or it is still to be
  // moved. A guess that costs no comparison: the caller checks it.
  Entry FirstOfHash(uint32_t hash) const { return current_.FirstOfHash(hash); }

  // The entry with this hash of which `equal(entry)` holds, or null. Valid until the next Insert or
  // Step.
  template <class Equal>
  Entry* Find(uint32_t hash, Equal&& equal) {
    Entry* found = current_.Find(hash, equal);
    if (found != nullptr || old_.empty()) return found;
    return old_.Find(hash, equal);
  }

  // Adds an entry that Find does not find.
  void Insert(const Entry& entry) {
    if (filled_ + 1 > current_.capacity() / 4 * 3) Grow();
    if (!old_.empty()) Step(16);
    filled_ += current_.Put(entry) ? 1 : 0;
    ++size_;
  }

  template <class Equal>
  void Erase(uint32_t hash, Equal&& equal) {
    bool erased = false;
    if (Entry* entry = current_.Find(hash, equal)) {
      *entry = Entry::Erased();
      erased = true;
    }
    if (!old_.empty()) {
      if (Entry* entry = old_.Find(hash, equal)) {
        *entry = Entry::Erased();
        erased = true;
      }
    }
    size_ -= erased ? 1 : 0;
  }

  // Forgets all entries, but keeps the size: they are expected back.
  void Clear() {
    const size_t capacity = current_.capacity();
    old_ = Array();
    current_ = Array();
    current_ = Array(capacity);
    size_ = 0;
    filled_ = 0;
    moved_ = 0;
  }

  // Goes on with growing by up to `entries` entries.
  void Step(size_t entries) {
    if (old_.empty()) return;
    for (; entries > 0 && moved_ < old_.capacity(); --entries, ++moved_) {
      const Entry& entry = old_[moved_];
      if (!entry.IsEmpty() && !entry.IsErased()) filled_ += current_.Put(entry) ? 1 : 0;
    }
    if (moved_ == old_.capacity()) old_ = Array();
  }

 private:
  class Array {
   public:
    Array() = default;
    explicit Array(size_t capacity) : mask_(capacity - 1) {
      void* pages = mmap(nullptr, capacity * sizeof(Entry), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (pages == MAP_FAILED) throw std::bad_alloc();
      // Lookups are random: with small pages each would also miss the TLB.
      madvise(pages, capacity * sizeof(Entry), MADV_HUGEPAGE);
      entries_ = static_cast<Entry*>(pages);
    }
    ~Array() {
      if (entries_ != nullptr) munmap(entries_, bytes());
    }
    Array(Array&& other) noexcept
        : entries_(std::exchange(other.entries_, nullptr)), mask_(std::exchange(other.mask_, 0)) {}
    Array& operator=(Array&& other) noexcept {
      std::swap(entries_, other.entries_);
      std::swap(mask_, other.mask_);
      return *this;
    }

    bool empty() const { return entries_ == nullptr; }
    size_t capacity() const { return empty() ? 0 : mask_ + 1; }
    size_t bytes() const { return capacity() * sizeof(Entry); }
    const Entry& at(uint32_t hash) const { return entries_[hash & mask_]; }
    const Entry& operator[](size_t place) const { return entries_[place]; }

    Entry FirstOfHash(uint32_t hash) const {
      size_t place = hash & mask_;
      while (!entries_[place].IsEmpty() && entries_[place].hash != hash)
        place = (place + 1) & mask_;
      return entries_[place].IsErased() ? Entry{} : entries_[place];
    }

    template <class Equal>
    Entry* Find(uint32_t hash, Equal&& equal) {
      for (size_t place = hash & mask_;; place = (place + 1) & mask_) {
        Entry& entry = entries_[place];
        if (entry.IsEmpty()) return nullptr;
        if (entry.hash == hash && !entry.IsErased() && equal(entry)) return &entry;
      }
    }

    // True if it took an empty place rather than that of an erased entry.
    bool Put(const Entry& entry) {
      size_t place = entry.hash & mask_;
      while (!entries_[place].IsEmpty() && !entries_[place].IsErased()) place = (place + 1) & mask_;
      const bool took_empty = entries_[place].IsEmpty();
      entries_[place] = entry;
      return took_empty;
    }

   private:
    Entry* entries_ = nullptr;
    size_t mask_ = 0;
  };

  // Doubles, or, if the table is mostly erased entries, starts afresh at the same size.
  void Grow() {
    Step(SIZE_MAX);
    const size_t capacity =
        size_ + 1 > current_.capacity() / 8 * 3 ? current_.capacity() * 2 : current_.capacity();
    old_ = std::move(current_);
    current_ = Array(capacity);
    moved_ = 0;
    filled_ = 0;
  }

  Array current_;
  Array old_;  // while growing: entries from moved_ on are not yet in current_
  size_t moved_ = 0;
  size_t size_ = 0;    // entries
  size_t filled_ = 0;  // places of current_ that are not empty, erased ones included
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_OPEN_TABLE_H_
