// Nothing is allocated between a datagram and its cells once every key has been seen.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "core/shard/shard.h"

namespace {
std::atomic<uint64_t> allocations{0};
}  // namespace

// Every way to the heap from C++ in this program ends here. Not inlined: the compiler would see
// what malloc gave go to free by way of new and delete, and warn.
[[gnu::noinline]] void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace tallyd {
namespace {

// Ten thousand keys of every type, with what clients do to lines, and lines that are refused.
std::vector<std::string> MakeDatagrams() {
  std::vector<std::string> datagrams;
  for (int i = 0; i < 10'000; i += 20) {
    std::string datagram;
    for (int j = i; j < i + 20; ++j) {
      const std::string name = "service.part" + std::to_string(j);
      const std::string tags = "|#region:eu-1,host:h" + std::to_string(j % 97) + ",path:/x\n";
      switch (j % 10) {
        case 0:
          datagram += name + ":320|ms|@0.1" + tags;
          break;
        case 1:
          datagram += name + ":-2|g" + tags;
          break;
        case 2:
          datagram += name + ":1:2:3|h" + tags;
          break;
        case 3:
          datagram += name + ":member" + std::to_string(j % 7) + "|s" + tags;
          break;
        case 4:
          datagram += name + ":1.5|c|@0.3|T12|c:id-1" + tags;
          break;
        case 5:
          datagram += name + ":1|c|#__x:1\n";  // refused, and remembered so
          break;
        case 6:
          datagram += name + ":1|c|#b:1,,a:2,b:3,bad\n";  // repaired
          break;
        case 7:
          datagram += name + ":oops|c\n" + name + ":1|zz\nnocolon\n";
          break;
        default:
          datagram += name + ":7|c" + tags;
      }
    }
    datagrams.push_back(datagram + std::string(kReadPadding, '\0'));
  }
  return datagrams;
}

TEST(SteadyStateTest, NothingIsAllocated) {
  const std::unique_ptr<RuleBook> rules = RuleBook::Create({}).value();
  FamilyTypes families(1 << 17, 3);
  SeriesBudget budget({}, 3);
  auto shard = Shard::Create({.hash_seed = 3}, rules.get(), &families, &budget).value();
  std::vector<std::string> datagrams = MakeDatagrams();
  int64_t now_ns = int64_t{3'600'000'000'000};
  const auto send_all = [&] {
    for (std::string& datagram : datagrams) {
      shard->BeginBatch(now_ns += 1000);
      shard->Apply({}, datagram.data(), datagram.size() - kReadPadding);
      shard->EndBatch();
    }
  };
  // Once to learn the keys; the tables may go on growing for a while after their last insert.
  for (int i = 0; i < 20; ++i) send_all();

  const uint64_t applied = shard->ledger().applied.Get();
  const uint64_t before = allocations.load();
  for (int i = 0; i < 5; ++i) send_all();
  EXPECT_EQ(allocations.load() - before, 0u);
  EXPECT_GT(shard->ledger().applied.Get(), applied + 40'000) << "the loop did no work";
  EXPECT_GT(shard->ledger().Dropped(DropReason::kBadLabel).Get(), 0u);
}

TEST(SteadyStateTest, TheCounterCounts) {
  const uint64_t before = allocations.load();
  auto* volatile memory = new int(1);
  delete memory;
  EXPECT_EQ(allocations.load() - before, 1u);
}

}  // namespace
}  // namespace tallyd
