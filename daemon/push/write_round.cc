#include "daemon/push/write_round.h"

#include <snappy.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "absl/container/flat_hash_set.h"
#include "core/expose/write_request.h"

namespace tallyd {
namespace {

std::vector<uint64_t> HashesOf(const WritePages& pages) {
  std::vector<uint64_t> hashes;
  WriteRecord record;
  for (const PageBuffer& page : pages) {
    for (WriteRecordReader reader(*page); reader.Next(&record);) hashes.push_back(record.hash);
  }
  return hashes;
}

// Of `before`, what is not in `now`.
absl::flat_hash_set<uint64_t> Missing(std::vector<uint64_t> before, std::vector<uint64_t> now) {
  std::sort(before.begin(), before.end());
  std::sort(now.begin(), now.end());
  std::vector<uint64_t> missing;
  std::set_difference(before.begin(), before.end(), now.begin(), now.end(),
                      std::back_inserter(missing));
  return {missing.begin(), missing.end()};
}

// A remembered series stands in its page as its hash, type, size of labels, labels.
struct RememberedHeader {
  uint64_t hash;
  uint32_t labels_bytes;
  uint32_t type;
};

void PutRemembered(const WriteRecord& record, std::string* page) {
  const RememberedHeader header = {record.hash, static_cast<uint32_t>(record.labels.size()),
                                   static_cast<uint32_t>(record.type)};
  page->append(reinterpret_cast<const char*>(&header), sizeof(header)).append(record.labels);
}

}  // namespace

std::vector<EndedSeries> SentSeries::Replace(const WritePages& pages) {
  std::vector<uint64_t> hashes = HashesOf(pages);
  if (hashes == hashes_) return {};
  const absl::flat_hash_set<uint64_t> missing = Missing(hashes_, hashes);
  std::vector<EndedSeries> ended;
  if (!missing.empty()) {
    ended = Read([&missing](uint64_t hash) { return missing.contains(hash); });
  }
  hashes_ = std::move(hashes);
  hashes_.shrink_to_fit();
  Remember(pages);
  return ended;
}

std::vector<EndedSeries> SentSeries::TakeAll() {
  std::vector<EndedSeries> all = Read([](uint64_t) { return true; });
  Clear();
  return all;
}

void SentSeries::Clear() {
  hashes_.clear();
  label_pages_.clear();
}

size_t SentSeries::bytes() const {
  size_t bytes = hashes_.capacity() * sizeof(uint64_t);
  for (const std::string& page : label_pages_) bytes += page.capacity();
  return bytes;
}

void SentSeries::Remember(const WritePages& pages) {
  label_pages_.clear();
  std::string labels;
  WriteRecord record;
  for (const PageBuffer& page : pages) {
    labels.clear();
    for (WriteRecordReader reader(*page); reader.Next(&record);) PutRemembered(record, &labels);
    label_pages_.push_back(SnappyBlock(labels));
    label_pages_.back().shrink_to_fit();
  }
}

template <typename Wanted>
std::vector<EndedSeries> SentSeries::Read(const Wanted& wanted) const {
  std::vector<EndedSeries> read;
  std::string page;
  for (const std::string& block : label_pages_) {
    snappy::Uncompress(block.data(), block.size(), &page);
    for (std::string_view rest = page; !rest.empty();) {
      RememberedHeader header;
      std::memcpy(&header, rest.data(), sizeof(header));
      rest.remove_prefix(sizeof(header));
      if (wanted(header.hash)) {
        read.push_back({header.hash, static_cast<FamilyType>(header.type),
                        std::string(rest.substr(0, header.labels_bytes))});
      }
      rest.remove_prefix(header.labels_bytes);
    }
  }
  return read;
}

size_t WriteCursor::Take(size_t most, std::string* records) {
  size_t taken = 0;
  while (pages_ != nullptr && page_ < pages_->size()) {
    const std::string_view page = *(*pages_)[page_];
    WriteRecordReader reader(page.substr(offset_));
    WriteRecord record;
    while (taken < most && reader.Next(&record)) {
      const auto end = static_cast<size_t>(record.entry.data() + record.entry.size() - page.data());
      // The upper half of the hash, scaled to the number of connections.
      const uint64_t connection = ((record.hash >> 32) * static_cast<uint64_t>(connections_)) >> 32;
      if (connection == static_cast<uint64_t>(connection_)) {
        records->append(page.substr(offset_, end - offset_));
        ++taken;
      }
      offset_ = end;
    }
    if (taken == most) return taken;
    ++page_;
    offset_ = 0;
  }
  return taken;
}

}  // namespace tallyd
