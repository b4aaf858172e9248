// The positions of daemon/ring_positions.h, over all executions of a small ring, and a mutant for
// each of their orders.

#include "daemon/ring_positions.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "tests/model/explorer.h"

namespace tallyd::model {
namespace {

constexpr uint64_t kCapacity = 2;
constexpr uint64_t kBytes = 4;  // sent: each place is used twice

template <class Orders>
Result Ring() {
  World world;
  RingPositions<ModelAtomics, Orders> positions(kCapacity);
  std::array<ModelPlain<uint64_t>, kCapacity> places;
  world.Name(positions, "positions");
  for (size_t i = 0; i < kCapacity; ++i) world.Name(places[i], "place " + std::to_string(i));

  struct Writer {
    uint64_t tries = 0;
    uint64_t written = 0;
  };
  // Writes what fits, drops nothing: it tries again.
  world.AddThreadOfTurns("writer", Writer(), [&](Writer& writer) {
    const auto [tail, room] = positions.Free();
    Check(tail == writer.written, "the writer lost its place");
    if (room > 0) {
      places[tail % kCapacity].Write(tail + 1);
      positions.PublishTail(tail + 1);
      ++writer.written;
    }
    return ++writer.tries < 6 && writer.written < kBytes;
  });
  struct Reader {
    uint64_t tries = 0;
    uint64_t read = 0;
  };
  world.AddThreadOfTurns("reader", Reader(), [&](Reader& reader) {
    const auto [head, waiting] = positions.Waiting();
    Check(head == reader.read, "the reader lost its place");
    Check(waiting <= kCapacity, "more waits than there is room for");
    for (uint64_t i = 0; i < waiting; ++i) {
      Check(places[(head + i) % kCapacity].Read() == head + i + 1, "a byte is not the one sent");
    }
    if (waiting > 0) positions.PublishHead(head + waiting);
    reader.read += waiting;
    if (++reader.tries < 4) return true;
    Observe(reader.read);
    return false;
  });
  return world.Explore();
}

TEST(RingModelTest, BytesArriveAsTheyWereSent) {
  const Result result = Ring<RingOrders>();
  EXPECT_EQ(result.violation, "") << result.trace;
  EXPECT_GT(result.states, 100u);
  EXPECT_TRUE(result.outcomes.contains({kBytes})) << "never read to the end";
}

struct RelaxedTailStore : RingOrders {
  static constexpr auto kTailStore = std::memory_order_relaxed;
};
struct RelaxedTailLoad : RingOrders {
  static constexpr auto kTailLoad = std::memory_order_relaxed;
};
struct RelaxedHeadStore : RingOrders {
  static constexpr auto kHeadStore = std::memory_order_relaxed;
};
struct RelaxedHeadLoad : RingOrders {
  static constexpr auto kHeadLoad = std::memory_order_relaxed;
};

TEST(RingModelTest, EachOrderIsNeeded) {
  EXPECT_NE(Ring<RelaxedTailStore>().violation, "");
  EXPECT_NE(Ring<RelaxedTailLoad>().violation, "");
  EXPECT_NE(Ring<RelaxedHeadStore>().violation, "");
  EXPECT_NE(Ring<RelaxedHeadLoad>().violation, "");
}

}  // namespace
}  // namespace tallyd::model
