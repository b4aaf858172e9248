// The table against an obvious one, over random steps.

#include "core/shard/open_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "core/shard/key_table.h"

namespace tallyd {
namespace {

struct Entry {
  uint32_t hash = 0;
  uint32_t key = 0;
  uint32_t value = 0;
  uint32_t state = 0;

  bool IsEmpty() const { return state == 0; }
  bool IsErased() const { return state == 2; }
  static Entry Erased() { return {0, 0, 0, 2}; }
};

// Entries told apart by their keys.
class Table {
 private:
  static auto Is(uint32_t key) {
    return [key](const Entry& entry) { return entry.key == key; };
  }

 public:
  explicit Table(size_t capacity, uint32_t hashes = UINT32_MAX)
      : hashes_(hashes), table_(capacity) {}

  void Insert(uint32_t key, uint32_t value) { table_.Insert({HashOf(key), key, value, 1}); }
  void Erase(uint32_t key) { table_.Erase(HashOf(key), Is(key)); }
  const Entry* Find(uint32_t key) { return table_.Find(HashOf(key), Is(key)); }
  OpenTable<Entry>& get() { return table_; }
  uint32_t HashOf(uint32_t key) const { return key * 2654435761u % hashes_; }

 private:
  uint32_t hashes_;
  OpenTable<Entry> table_;
};

struct Shape {
  size_t capacity;
  uint32_t keys;
  uint32_t hashes;  // few of them: long probes, and keys that only their bytes tell apart
};

class RandomSteps : public testing::TestWithParam<Shape> {};

TEST_P(RandomSteps, AgreeWithAMap) {
  const Shape shape = GetParam();
  Table table(shape.capacity, shape.hashes);
  std::map<uint32_t, uint32_t> model;
  std::mt19937 random(shape.keys);
  for (uint32_t step = 0; step < 100'000; ++step) {
    const auto key = static_cast<uint32_t>(random() % shape.keys);
    // Times of growth, then times of decay.
    const bool growing = step / 10'000 % 2 == 0;
    if (random() % 4 < (growing ? 3u : 1u)) {
      if (model.emplace(key, step).second) table.Insert(key, step);
    } else {
      model.erase(key);
      table.Erase(key);
    }
    if (random() % 100 == 0) table.get().Step(random() % 200);
    ASSERT_EQ(table.get().size(), model.size());
    const auto asked = static_cast<uint32_t>(random() % shape.keys);
    const Entry* const found = table.Find(asked);
    const auto expected = model.find(asked);
    ASSERT_EQ(found != nullptr, expected != model.end()) << asked << " at step " << step;
    if (found == nullptr) continue;
    ASSERT_EQ(found->value, expected->second);
  }
  for (uint32_t key = 0; key < shape.keys; ++key) {
    ASSERT_EQ(table.Find(key) != nullptr, model.contains(key));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RandomSteps,
                         testing::Values(Shape{16, 100, UINT32_MAX}, Shape{16, 5'000, UINT32_MAX},
                                         Shape{1024, 50'000, UINT32_MAX}, Shape{16, 300, 1},
                                         Shape{16, 1'000, 16}, Shape{64, 40, UINT32_MAX}));

TEST(OpenTableTest, GrowsALittleAtATime) {
  Table table(1024);
  uint32_t key = 0;
  const size_t small = table.get().memory_bytes();
  while (table.get().memory_bytes() == small) table.Insert(key++, 0);
  EXPECT_GT(table.get().memory_bytes(), 2 * small) << "old and new stand side by side";
  for (uint32_t i = 0; i < key; ++i) ASSERT_NE(table.Find(i), nullptr);
  int inserts = 0;
  while (table.get().memory_bytes() > 2 * small) {
    table.Insert(key++, 0);
    ++inserts;
  }
  EXPECT_GT(inserts, 10) << "all was copied at once";
  EXPECT_LT(inserts, 100);
  for (uint32_t i = 0; i < key; ++i) ASSERT_NE(table.Find(i), nullptr);
}

TEST(OpenTableTest, StepsFinishGrowing) {
  Table table(1024);
  uint32_t key = 0;
  const size_t small = table.get().memory_bytes();
  while (table.get().memory_bytes() == small) table.Insert(key++, 0);
  for (int i = 0; i < 10; ++i) table.get().Step(128);
  EXPECT_EQ(table.get().memory_bytes(), 2 * small);
}

TEST(OpenTableTest, ChurnDoesNotGrowIt) {
  Table table(1024);
  for (uint32_t key = 0; key < 300; ++key) table.Insert(key, 0);
  for (uint32_t key = 300; key < 100'000; ++key) {
    table.Erase(key - 300);
    table.Insert(key, 0);
    // One table at rest, two while it starts afresh.
    ASSERT_LE(table.get().memory_bytes(), 2 * 1024 * sizeof(Entry));
  }
  EXPECT_EQ(table.get().size(), 300u);
}

TEST(OpenTableTest, TheFirstOfAHashIsAGuess) {
  Table table(1024);
  EXPECT_TRUE(table.get().FirstOfHash(table.HashOf(7)).IsEmpty());
  table.Insert(7, 70);
  EXPECT_EQ(table.get().FirstOfHash(table.HashOf(7)).value, 70u);
  table.Erase(7);
  EXPECT_TRUE(table.get().FirstOfHash(table.HashOf(7)).IsEmpty());
  EXPECT_TRUE(table.get().FirstOfHash(Entry::Erased().hash).IsEmpty()) << "an erased entry's hash";
}

TEST(OpenTableTest, ErasingWhatIsNotThereDoesNothing) {
  Table table(16);
  table.Insert(1, 10);
  table.Erase(2);
  EXPECT_EQ(table.get().size(), 1u);
  table.Erase(1);
  table.Erase(1);
  EXPECT_EQ(table.get().size(), 0u);
}

TEST(EqualBytesTest, ComparesExactlyTheBytesAskedFor) {
  for (size_t size = 0; size < 70; ++size) {
    std::vector<char> a(size + kReadPadding, 'x');
    std::vector<char> b(size + kReadPadding, 'x');
    for (size_t i = size; i < b.size(); ++i) b[i] = 'y';  // what follows does not matter
    EXPECT_TRUE(EqualBytes(a.data(), b.data(), size)) << size;
    for (size_t i = 0; i < size; ++i) {
      b[i] = 'z';
      EXPECT_FALSE(EqualBytes(a.data(), b.data(), size)) << size << " differing at " << i;
      b[i] = 'x';
    }
  }
}

}  // namespace
}  // namespace tallyd
