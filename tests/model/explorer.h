// An exhaustive checker for the lock-free protocols of core/shard: it runs the shipped templates on
// simulated weak memory and visits every state that any execution can reach.
//
// The model is C11 without load buffering (RC11 without seq_cst), in its operational form:
//
//   - Each location has one writer (checked), so its modification order is that thread's program
//     order: a list of messages, each a value and a view.
//   - A view says, for each location, which message is the oldest that may still be read. A load
//     may return *any* message not older than its thread's current view.
//   - A thread has three views: what it has seen (current), what an acquire fence would add to
//     that (the views of messages read relaxed), and what was current at its last release fence
//     (the view that its relaxed stores carry). A release store carries the current view, an
//     acquire load adds the view of the message it reads. A relaxed store after a release store
//     carries nothing of it: since C++20 it is no part of the release sequence.
//   - Plain data (ModelPlain) must not race. A plain read is a race unless the newest write is in
//     the reader's view. A plain write is a race unless all earlier reads by other threads are in
//     the writer's view: views also count the plain reads that happened before, so a reader that
//     hands memory back without a release, or an owner that takes it without an acquire, is
//     caught although no stale *value* can be seen. A racing execution is a violation in itself.
//
// What it cannot see:
//
//   - Load buffering, and every other effect of a store that is performed before an earlier load
//     of the same thread. C++ and ARM allow it, the model does not: two relaxed words alone are
//     proved too kindly. Where that matters here, the plain data behind them shows the race.
//   - Read-modify-writes, seq_cst and consume: the protocols have none. An order the model does
//     not know is refused, not guessed.
//   - More than the scenario at hand: all executions of a small instance, not of all instances.
//   - What the compiler makes of the code. Value speculation, mixed sizes, volatile: none.
//
// How: a thread's local state is a function of the values that it has read so far. So the local
// states of a thread form a tree, with an edge per value read, and the thread's function is run
// from its start once per node, with the recorded values replayed, up to the first operation that
// has none; an exception unwinds it there. A thread that goes in turns (a merger's passes) says
// what it remembers from one to the next, and turns that begin with the same memory are one node.
// A state of the whole is a node per thread, the messages of each location and the views of each
// thread. States are kept in full (their parts are interned, so equality is exact and no hash is
// trusted) and explored breadth first: the trace of a violation is a shortest one.

#ifndef TALLYD_TESTS_MODEL_EXPLORER_H_
#define TALLYD_TESTS_MODEL_EXPLORER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tallyd::model {

inline constexpr int kMaxThreads = 4;
inline constexpr int kMaxLocations = 12;
inline constexpr size_t kMaxStates = 4'000'000;

// One access to shared memory, as a thread asks for it.
struct Op {
  enum class Kind { kEnd, kLoad, kStore, kFence, kPlainRead, kPlainWrite };
  Kind kind = Kind::kEnd;
  uint32_t location = 0;
  uint64_t value = 0;  // what a store stores
  std::memory_order order = std::memory_order_relaxed;

  friend bool operator==(const Op&, const Op&) = default;
};

struct Result {
  size_t states = 0;
  // Empty if no execution violates anything; else what a Check said, or the race.
  std::string violation;
  // The steps that lead to the violation, one a line.
  std::string trace;
  // What the threads observed, in order of threads, for each way the whole can end.
  std::set<std::vector<uint64_t>> outcomes;
};

// A scenario: its words, its threads. Words belong to the World that was made last, and must be
// made before Explore(). Thread-compatible; one World at a time.
class World {
 public:
  struct Location {
    const void* where;
    uint64_t initial;
    std::string name;
  };
  struct Thread {
    std::string name;
    std::string memory;  // what it remembers from turn to turn, as bytes
    std::function<bool(std::string& memory)> turn;
  };

  World();
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // `body` may touch shared memory through ModelAtomics and ModelPlain alone, and must do the same
  // again whenever it reads the same values (checked as far as its accesses show it).
  template <class Body>
  void AddThread(const std::string& name, Body body) {
    threads_.push_back({name, {}, [body](std::string&) {
                          body();
                          return false;
                        }});
  }

  // A thread that calls `turn(Memory&)` again and again until it returns false. Each turn touches
  // shared memory. What it does must depend on nothing but its `memory` and the values it reads.
  template <class Memory, class Turn>
  void AddThreadOfTurns(const std::string& name, const Memory& memory, Turn turn) {
    static_assert(std::has_unique_object_representations_v<Memory>);
    const std::string bytes(reinterpret_cast<const char*>(&memory), sizeof(Memory));
    threads_.push_back({name, bytes, [turn](std::string& state) {
                          Memory local;
                          std::memcpy(&local, state.data(), sizeof(Memory));
                          const bool more = turn(local);
                          std::memcpy(state.data(), &local, sizeof(Memory));
                          return more;
                        }});
  }

  // Names the words within `object`, for traces.
  template <class T>
  void Name(const T& object, const std::string& name) {
    NameRange(&object, sizeof(T), name);
  }

  // Runs all executions, up to the first violation.
  Result Explore() const;

  uint32_t AddLocation(const void* where, uint64_t initial);
  static World& Current();

 private:
  void NameRange(const void* begin, size_t size, const std::string& name);

  std::vector<Location> locations_;
  std::vector<Thread> threads_;
};

// For the bodies of threads. Perform answers with the value read (zero for what reads nothing).
uint64_t Perform(const Op& op);
// A property that no execution may break.
void Check(bool holds, const std::string& property);
// Adds `value` to the outcome of this execution. Not in a turn that another follows.
void Observe(uint64_t value);

// The policy that takes the place of StdAtomics.
struct ModelAtomics {
  template <class T>
  class Word {
   public:
    Word() : Word(T{}) {}
    explicit Word(T initial) : location_(World::Current().AddLocation(this, initial)) {}
    Word(const Word&) = delete;
    Word& operator=(const Word&) = delete;

    T Load(std::memory_order order) const {
      return static_cast<T>(
          Perform({.kind = Op::Kind::kLoad, .location = location_, .order = order}));
    }
    void Store(T value, std::memory_order order) {
      Perform({Op::Kind::kStore, location_, static_cast<uint64_t>(value), order});
    }

   private:
    uint32_t location_;
  };

  static void Fence(std::memory_order order) {
    Perform({.kind = Op::Kind::kFence, .order = order});
  }
};

// Data that is not atomic: what the protocols must publish before it is read, and have handed back
// before it is written again.
template <class T>
class ModelPlain {
 public:
  ModelPlain() : location_(World::Current().AddLocation(this, 0)) {}
  ModelPlain(const ModelPlain&) = delete;
  ModelPlain& operator=(const ModelPlain&) = delete;

  T Read() const {
    return static_cast<T>(Perform({.kind = Op::Kind::kPlainRead, .location = location_}));
  }
  void Write(T value) {
    Perform({.kind = Op::Kind::kPlainWrite, .location = location_, .value = value});
  }

 private:
  uint32_t location_;
};

}  // namespace tallyd::model

#endif  // TALLYD_TESTS_MODEL_EXPLORER_H_
