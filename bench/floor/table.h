// The straightforward table: one hash map from what identifies a series to one number.

#ifndef TALLYD_BENCH_FLOOR_TABLE_H_
#define TALLYD_BENCH_FLOOR_TABLE_H_

#include <cstddef>
#include <deque>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "bench/floor/lines.h"

namespace tallyd::bench {

// Thread-compatible.
class FloorTable {
 public:
  struct Key {
    absl::string_view name;
    absl::string_view tags;
    char type;

    friend bool operator==(const Key& a, const Key& b) {
      return a.type == b.type && a.name == b.name && a.tags == b.tags;
    }
    template <class H>
    friend H AbslHashValue(H state, const Key& key) {
      return H::combine(std::move(state), key.name, key.tags, key.type);
    }
  };

  static Key KeyOf(const ParsedLine& line) {
    return {.name = line.name, .tags = line.tags, .type = line.type};
  }

  void Add(const ParsedLine& line) {
    const Key key = KeyOf(line);
    const auto found = sums_.find(key);
    if (found != sums_.end()) {
      found->second += line.value;
    } else {
      Insert(key, line.value);
    }
  }

  size_t size() const { return sums_.size(); }
  double Total() const {
    double total = 0;
    for (const auto& [key, sum] : sums_) total += sum;
    return total;
  }

 private:
  // Rare, and kept out of the loop that calls Add().
  [[gnu::noinline]] void Insert(const Key& key, double value) {
    const std::string& text = texts_.emplace_back(absl::StrCat(key.name, key.tags));
    const absl::string_view kept = text;
    sums_.emplace(Key{.name = kept.substr(0, key.name.size()),
                      .tags = kept.substr(key.name.size()),
                      .type = key.type},
                  value);
  }

  absl::flat_hash_map<Key, double> sums_;
  std::deque<std::string> texts_;
};

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_FLOOR_TABLE_H_
