// The event loop's types, with its executor written out: the default, any_io_executor, would hide
// it behind a virtual call and wrap each handler once more.

#ifndef TALLYD_DAEMON_LOOP_H_
#define TALLYD_DAEMON_LOOP_H_

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <chrono>
#include <cstddef>
#include <new>
#include <utility>
#include <vector>

namespace tallyd {

using Loop = boost::asio::io_context;
using LoopTimer =
    boost::asio::basic_waitable_timer<std::chrono::steady_clock,
                                      boost::asio::wait_traits<std::chrono::steady_clock>,
                                      Loop::executor_type>;
// Waits for any descriptor; what is read is up to us.
using LoopDescriptor = boost::asio::posix::basic_stream_descriptor<Loop::executor_type>;

// Blocks for the waits of a loop, used again and again. The loop keeps a block for that purpose
// too, but only as long as one call to run it lasts, and a shard makes many.
//
// Thread-compatible: the thread that runs the loop. Outlives the loop, which gives the last blocks
// back at its end.
class WaitPool {
 public:
  WaitPool() = default;
  ~WaitPool() {
    for (void* block : free_) ::operator delete(block);
  }
  WaitPool(const WaitPool&) = delete;
  WaitPool& operator=(const WaitPool&) = delete;

  void* Allocate(size_t size) {
    if (size > kBlockBytes) return ::operator new(size);
    if (free_.empty()) return ::operator new(kBlockBytes);
    void* const block = free_.back();
    free_.pop_back();
    return block;
  }
  void Deallocate(void* block, size_t size) {
    if (size > kBlockBytes) return ::operator delete(block);
    free_.push_back(block);
  }

 private:
  static constexpr size_t kBlockBytes = 160;

  std::vector<void*> free_;
};

// The allocator by which the loop finds the memory of a handler.
template <typename T>
class WaitAllocator {
 public:
  using value_type = T;

  explicit WaitAllocator(WaitPool* pool) : pool_(pool) {}
  template <typename U>
  explicit WaitAllocator(const WaitAllocator<U>& other) : pool_(other.pool()) {}

  T* allocate(size_t n) { return static_cast<T*>(pool_->Allocate(n * sizeof(T))); }
  void deallocate(T* block, size_t n) { pool_->Deallocate(block, n * sizeof(T)); }
  WaitPool* pool() const { return pool_; }
  template <typename U>
  bool operator==(const WaitAllocator<U>& other) const {
    return pool_ == other.pool();
  }

 private:
  WaitPool* pool_;
};

// A handler whose wait lives in a block of `pool`.
template <typename Handler>
class HandlerIn {
 public:
  using allocator_type = WaitAllocator<Handler>;

  HandlerIn(WaitPool* pool, Handler handler) : pool_(pool), handler_(std::move(handler)) {}
  allocator_type get_allocator() const { return allocator_type(pool_); }
  void operator()(const boost::system::error_code& error) { handler_(error); }

 private:
  WaitPool* pool_;
  Handler handler_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LOOP_H_
