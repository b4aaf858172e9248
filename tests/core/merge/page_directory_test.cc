// The directory against an obvious model: a sorted map of families, each with its series in the
// order of their arrival.

#include "core/merge/page_directory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace tallyd {
namespace {

// What a page shows: its series, and before which of them a family's header stands.
using Content = std::vector<std::pair<SeriesId, bool>>;

class Directory {
 public:
  Directory() : pages_(&table_) {}

  SeriesId Insert(const std::string& family, const std::string& labels, uint32_t lines) {
    bool created = false;
    SeriesSpec spec;
    spec.name = family;
    spec.labels = labels;
    const SeriesId id = table_.Intern(spec, &created);
    EXPECT_TRUE(created);
    table_.family(table_.record(id).family).lines = lines;
    pages_.Insert(id);
    model_[family].push_back(id);
    return id;
  }

  void Erase(SeriesId id) {
    const std::string family = table_.family_of(id).name;
    pages_.Erase(id);
    table_.Remove(id);
    std::vector<SeriesId>& series = model_[family];
    series.erase(std::find(series.begin(), series.end(), id));
    if (series.empty()) model_.erase(family);
  }

  void MarkAllRendered() {
    for (size_t i = 0; i < Snapshot::kSections; ++i) {
      for (Page* page : pages_.section(i)) page->current = 0xff;
    }
  }
  std::map<PageId, Content> Contents() const {
    std::map<PageId, Content> contents;
    for (size_t i = 0; i < Snapshot::kSections; ++i) {
      for (const Page* page : pages_.section(i)) {
        for (const SeriesId id : page->series) {
          contents[page->id].emplace_back(id, table_.family_of(id).first == id);
        }
      }
    }
    return contents;
  }
  // Pages that show something else than they did, but claim to be rendered.
  std::vector<PageId> Stale(const std::map<PageId, Content>& before) const {
    std::vector<PageId> stale;
    for (const auto& [page, content] : Contents()) {
      const auto found = before.find(page);
      const bool same = found != before.end() && found->second == content;
      if (!same && !pages_.IsTouched(page)) stale.push_back(page);
    }
    return stale;
  }

  // Every invariant, against the model.
  void Check() const {
    std::vector<std::vector<SeriesId>> expected(Snapshot::kSections);
    for (const auto& [family, series] : model_) {
      auto& section = expected[PageDirectory::SectionOf(family)];
      section.insert(section.end(), series.begin(), series.end());
      const FamilyId id = table_.FindFamily(family);
      ASSERT_NE(id, kNoId);
      ASSERT_EQ(table_.family(id).first, series.front()) << family;
      ASSERT_EQ(table_.family(id).last_page, table_.record(series.back()).page) << family;
    }
    for (size_t i = 0; i < Snapshot::kSections; ++i) {
      std::vector<SeriesId> actual;
      for (const Page* page : pages_.section(i)) {
        ASSERT_FALSE(page->series.empty());
        uint32_t lines = 0;
        for (const SeriesId id : page->series) {
          ASSERT_EQ(table_.record(id).page, page->id);
          lines += table_.family_of(id).lines;
        }
        ASSERT_EQ(page->lines, lines);
        ASSERT_TRUE(lines <= Page::kMaxLines || page->series.size() == 1) << lines;
        actual.insert(actual.end(), page->series.begin(), page->series.end());
      }
      ASSERT_EQ(actual, expected[i]) << "section " << i;
    }
  }

  size_t pages() const {
    return pages_.section(0).size() + pages_.section(1).size() + pages_.section(2).size();
  }
  const std::vector<Page*>& section(size_t i) const { return pages_.section(i); }

 private:
  SeriesTable table_;
  PageDirectory pages_;
  std::map<std::string, std::vector<SeriesId>> model_;
};

TEST(PageDirectoryTest, OurOwnFamiliesStandBetweenTheSections) {
  for (const char* name : {"_a", "A", "a", "process", "proces_z"}) {
    EXPECT_EQ(PageDirectory::SectionOf(name), 0u) << name;
  }
  for (const char* name : {"processes", "q", "tally", "tallyd"}) {
    EXPECT_EQ(PageDirectory::SectionOf(name), 1u) << name;
  }
  for (const char* name : {"tallyda", "tallye", "z"}) {
    EXPECT_EQ(PageDirectory::SectionOf(name), 2u) << name;
  }
}

TEST(PageDirectoryTest, SeriesInOrderFillTheirPages) {
  Directory directory;
  for (uint32_t i = 0; i < Page::kMaxLines * 3; ++i) directory.Insert("f", std::to_string(i), 1);
  directory.Check();
  EXPECT_EQ(directory.pages(), 3u);
}

TEST(PageDirectoryTest, AFullPageIsSplitForAFamilyInItsMiddle) {
  Directory directory;
  for (uint32_t i = 0; i < Page::kMaxLines; ++i) {
    directory.Insert("f" + std::to_string(10'000 + i * 2), "", 1);
  }
  EXPECT_EQ(directory.pages(), 1u);
  directory.Insert("f10001", "", 1);
  directory.Check();
  EXPECT_EQ(directory.pages(), 2u);
}

TEST(PageDirectoryTest, TheHeaderMovesToTheNextPage) {
  Directory directory;
  const SeriesId first = directory.Insert("b", "first", Page::kMaxLines);
  directory.Insert("b", "second", Page::kMaxLines);
  ASSERT_EQ(directory.pages(), 2u);
  directory.MarkAllRendered();
  directory.Erase(first);
  directory.Check();
  ASSERT_EQ(directory.pages(), 1u);
  EXPECT_EQ(directory.section(0)[0]->current, 0) << "it has a header now, and must be rendered";
}

TEST(PageDirectoryTest, NothingIsLeftOfNothing) {
  Directory directory;
  std::vector<SeriesId> all;
  for (int i = 0; i < 5000; ++i) all.push_back(directory.Insert("f" + std::to_string(i), "", 3));
  std::mt19937 random(1);
  std::shuffle(all.begin(), all.end(), random);
  for (const SeriesId id : all) directory.Erase(id);
  directory.Check();
  EXPECT_EQ(directory.pages(), 0u);
}

struct Shape {
  unsigned families;
  unsigned series_of_a_family;
  uint32_t most_lines;
};

class RandomSteps : public testing::TestWithParam<Shape> {};

TEST_P(RandomSteps, KeepOrderBoundsAndPlaces) {
  const Shape shape = GetParam();
  static constexpr const char* kPrefixes[] = {"a_", "m_", "process", "q_", "tallyd", "tallyz_"};
  std::mt19937 random(shape.families);
  Directory directory;
  std::map<std::string, SeriesId> live;  // by family and labels
  for (int step = 0; step < 30'000; ++step) {
    const unsigned number = static_cast<unsigned>(random() % shape.families);
    const std::string family = kPrefixes[number % 6] + std::to_string(number);
    const std::string labels = std::to_string(random() % shape.series_of_a_family);
    const bool growing = step / 5'000 % 2 == 0;
    const auto found = live.find(family + " " + labels);
    const bool watched = step % 50 == 0;
    std::map<PageId, Content> before;
    if (watched) {
      directory.MarkAllRendered();
      before = directory.Contents();
    }
    if (found == live.end() && random() % 4 < (growing ? 4u : 1u)) {
      const uint32_t lines = number % 3 == 0 ? shape.most_lines : 1;
      live[family + " " + labels] = directory.Insert(family, labels, lines);
    } else if (found != live.end() && random() % 4 < (growing ? 1u : 4u)) {
      directory.Erase(found->second);
      live.erase(found);
    }
    if (!watched) continue;
    ASSERT_EQ(directory.Stale(before), std::vector<PageId>()) << "at step " << step;
    directory.Check();
    if (HasFatalFailure()) FAIL() << "at step " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RandomSteps,
                         testing::Values(Shape{5, 3000, 14}, Shape{3000, 2, 14},
                                         Shape{100, 100, 204}, Shape{2, 6000, 1},
                                         Shape{40, 40, Page::kMaxLines}));

}  // namespace
}  // namespace tallyd
