#include "core/merge/page_directory.h"

#include <algorithm>
#include <utility>

namespace tallyd {

// The daemon's own families stand between the sections (snapshot.h).
size_t PageDirectory::SectionOf(std::string_view family) {
  if (family < "process_") return 0;
  return family < "tallyd_" ? 1 : 2;
}

size_t PageDirectory::IndexFor(const Section& section, const Family& family) const {
  if (family.last_page != kNoId) return IndexOf(section, pages_[family.last_page].get());
  const auto after = std::upper_bound(section.begin(), section.end(), std::string_view(family.name),
                                      [this](std::string_view name, const Page* page) {
                                        return name < FamilyName(page->series[0]);
                                      });
  return after == section.begin() ? 0 : static_cast<size_t>(after - section.begin()) - 1;
}

size_t PageDirectory::IndexOf(const Section& section, const Page* page) const {
  const std::string_view first = FamilyName(page->series[0]);
  auto at = std::upper_bound(section.begin(), section.end(), first,
                             [this](std::string_view name, const Page* other) {
                               return name < FamilyName(other->series[0]);
                             });
  // A family may begin many pages; series are mostly added to the last.
  do {
    --at;
  } while (*at != page);
  return static_cast<size_t>(at - section.begin());
}

std::vector<SeriesId> PageDirectory::SeriesOf(FamilyId id) const {
  const Family& family = table_->family(id);
  const Section& section = sections_[SectionOf(family.name)];
  std::vector<SeriesId> found;
  for (size_t i = IndexOf(section, pages_[table_->record(family.first).page].get());
       i < section.size() && found.size() < family.size; ++i) {
    for (const SeriesId series : section[i]->series) {
      if (table_->record(series).family == id) found.push_back(series);
    }
  }
  return found;
}

Page* PageDirectory::AddPage(Section* section, size_t index) {
  PageId id;
  if (free_pages_.empty()) {
    id = static_cast<PageId>(pages_.size());
    pages_.push_back(std::make_unique<Page>());
  } else {
    id = free_pages_.back();
    free_pages_.pop_back();
    pages_[id] = std::make_unique<Page>();
  }
  Page* const page = pages_[id].get();
  page->id = id;
  section->insert(section->begin() + static_cast<ptrdiff_t>(index), page);
  return page;
}

void PageDirectory::RemovePage(Section* section, size_t index) {
  const PageId id = (*section)[index]->id;
  section->erase(section->begin() + static_cast<ptrdiff_t>(index));
  pages_[id].reset();
  free_pages_.push_back(id);
}

void PageDirectory::Insert(SeriesId id) {
  SeriesRecord& record = table_->record(id);
  Family& family = table_->family(record.family);
  Section& section = sections_[SectionOf(family.name)];
  if (section.empty()) AddPage(&section, 0);
  size_t index = section.size() == 1 && section[0]->series.empty() ? 0 : IndexFor(section, family);
  Page* page = section[index];
  auto place = std::upper_bound(
      page->series.begin(), page->series.end(), std::string_view(family.name),
      [this](std::string_view name, SeriesId other) { return name < FamilyName(other); });
  if (page->lines + family.lines > Page::kMaxLines && !page->series.empty()) {
    if (place == page->series.end()) {
      // Series mostly come in order: leave the full page as it is.
      page = AddPage(&section, index + 1);
      place = page->series.begin();
    } else if (page->series.size() > 1) {
      Split(&section, index);
      return Insert(id);
    }
  }
  page->series.insert(place, id);
  page->lines += family.lines;
  page->current = 0;
  record.page = page->id;
  family.last_page = page->id;
  if (family.first == kNoId) family.first = id;
}

void PageDirectory::Split(Section* section, size_t index) {
  Page* const left = (*section)[index];
  Page* const right = AddPage(section, index + 1);
  const size_t half = left->series.size() / 2;
  right->series.assign(left->series.begin() + static_cast<ptrdiff_t>(half), left->series.end());
  left->series.resize(half);
  for (const SeriesId id : right->series) right->lines += LinesOf(id);
  left->lines -= right->lines;
  left->current = 0;
  Adopt(right, left);
}

void PageDirectory::Adopt(Page* page, const Page* from) {
  for (const SeriesId id : page->series) {
    SeriesRecord& record = table_->record(id);
    record.page = page->id;
    Family& family = table_->family(record.family);
    if (family.last_page == from->id) family.last_page = page->id;
  }
}

void PageDirectory::Erase(SeriesId id) {
  SeriesRecord& record = table_->record(id);
  Family& family = table_->family(record.family);
  Section& section = sections_[SectionOf(family.name)];
  Page* const page = pages_[record.page].get();
  const size_t index = IndexOf(section, page);
  const auto place = std::find(page->series.begin(), page->series.end(), id);
  const auto next = place + 1;

  if (family.first == id) {
    // The header moves on to the next series, if that is of the family, and with it maybe a page.
    const Page* next_page = next != page->series.end()   ? page
                            : index + 1 < section.size() ? section[index + 1]
                                                         : nullptr;
    const SeriesId heir = next_page == nullptr ? kNoId
                          : next_page == page  ? *next
                                               : next_page->series[0];
    const bool of_family = heir != kNoId && table_->record(heir).family == record.family;
    family.first = of_family ? heir : kNoId;
    if (of_family) Touch(next_page->id);
  }
  if (family.last_page == page->id) {
    const bool alone =
        place == page->series.begin() || table_->record(*(place - 1)).family != record.family;
    const bool last = next == page->series.end() || table_->record(*next).family != record.family;
    if (alone && last) {
      const bool before = place == page->series.begin() && index > 0 &&
                          table_->record(section[index - 1]->series.back()).family == record.family;
      family.last_page = before ? section[index - 1]->id : kNoId;
    }
  }
  page->series.erase(place);
  page->lines -= family.lines;
  page->current = 0;
  record.page = kNoId;
  if (page->series.empty()) RemovePage(&section, index);
}

}  // namespace tallyd
