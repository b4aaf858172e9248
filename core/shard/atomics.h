// The seam between the lock-free protocols and the machine that runs them.
//
// The protocols of protocol.h are templates over an `Atomics` policy, so that the shipped code runs
// on std::atomic in the daemon and on simulated weak memory in tests/model. Every operation names
// its order: a default of seq_cst would read as "did not think".

#ifndef TALLYD_CORE_SHARD_ATOMICS_H_
#define TALLYD_CORE_SHARD_ATOMICS_H_

#include <atomic>
#include <cstdint>

namespace tallyd {

// Words as the hardware has them. They live in mapped memory that is zero before first use, hence
// trivially constructible in effect: a zeroed Word is a Word that holds zero.
struct StdAtomics {
  template <class T>
  class Word {
   public:
    Word() = default;
    explicit Word(T value) : value_(value) {}
    T Load(std::memory_order order) const { return value_.load(order); }
    void Store(T value, std::memory_order order) { value_.store(value, order); }

   private:
    std::atomic<T> value_{};
    static_assert(std::atomic<T>::is_always_lock_free);
    static_assert(sizeof(std::atomic<T>) == sizeof(T));
  };

  static void Fence(std::memory_order order) { std::atomic_thread_fence(order); }
};

// The same for words within records that are copied as plain data while nobody else can see them.
struct StdCopiedAtomics {
  template <class T>
  class Word {
   public:
    Word() = default;
    explicit Word(T value) : value_(value) {}
    // A reference cannot be taken to what is constant; nothing is written through it.
    T Load(std::memory_order order) const {
      return std::atomic_ref<T>(const_cast<T&>(value_)).load(order);
    }
    void Store(T value, std::memory_order order) { std::atomic_ref<T>(value_).store(value, order); }

   private:
    alignas(std::atomic_ref<T>::required_alignment) T value_ = 0;
    static_assert(std::atomic_ref<T>::is_always_lock_free);
  };
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_ATOMICS_H_
