// Where each series stands in the exposition: families sorted by name, cut into pages.
//
// A page is the unit of rendering: about kMaxLines lines of whole series, of one family or of many.
// Pages are the leaves of a B-tree, its inner nodes one sorted vector: new families go where their
// name belongs, new series after the last of their family, and a full page is split.

#ifndef TALLYD_CORE_MERGE_PAGE_DIRECTORY_H_
#define TALLYD_CORE_MERGE_PAGE_DIRECTORY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/merge/series_table.h"
#include "core/merge/snapshot.h"

namespace tallyd {

// How the bytes of a rendered page belong to families that stand on other pages too; of formats
// that frame families (PageEncoder).
struct PageFrame {
  uint64_t continued = 0;  // bytes of the family that began on a page before
  uint64_t elsewhere = 0;  // bytes on later pages that the last family was rendered with
  bool passes = false;     // no family begins here
};

struct Page {
  static constexpr uint32_t kMaxLines = 1024;
  static constexpr size_t kMaxVariants = 8;

  PageId id = kNoId;
  uint32_t lines = 0;
  uint8_t current = 0;  // bit v: rendered[v] shows what the cells show
  std::vector<SeriesId> series;
  std::array<std::shared_ptr<std::string>, kMaxVariants> rendered;  // constant once in a snapshot
  std::array<PageFrame, kMaxVariants> frames;                       // of `rendered`
};

// Invariants: pages are not empty; over all pages of a section in order, the series' family names
// ascend; a series' record names its page, a family's its first series and its last page.
// Thread-compatible: the merger thread only.
class PageDirectory {
 public:
  explicit PageDirectory(SeriesTable* table) : table_(table) {}

  // Gives a new series its place.
  void Insert(SeriesId id);
  // Takes a series off its page.
  void Erase(SeriesId id);
  // All series of a family, which has some.
  std::vector<SeriesId> SeriesOf(FamilyId family) const;
  // Something of the page has changed.
  void Touch(PageId page) { pages_[page]->current = 0; }
  bool IsTouched(PageId page) const { return pages_[page]->current == 0; }

  const std::vector<Page*>& section(size_t i) const { return sections_[i]; }

  // The section of the snapshot that a family belongs to.
  static size_t SectionOf(std::string_view family);

 private:
  using Section = std::vector<Page*>;

  std::string_view FamilyName(SeriesId id) const { return table_->family_of(id).name; }
  uint32_t LinesOf(SeriesId id) const { return table_->family_of(id).lines; }
  // Index of the page that a new series of `family` goes to; of a page that is there.
  size_t IndexFor(const Section& section, const Family& family) const;
  size_t IndexOf(const Section& section, const Page* page) const;
  Page* AddPage(Section* section, size_t index);
  void RemovePage(Section* section, size_t index);
  void Split(Section* section, size_t index);
  // Names `page` in the records of its series, which stood on `from`, and in the families that end
  // with them.
  void Adopt(Page* page, const Page* from);

  SeriesTable* table_;
  std::vector<std::unique_ptr<Page>> pages_;  // by PageId
  std::vector<PageId> free_pages_;
  std::array<Section, Snapshot::kSections> sections_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_PAGE_DIRECTORY_H_
