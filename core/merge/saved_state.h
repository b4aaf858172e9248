// What one process leaves to the next: all series with their values, and the account of samples.
//
// A series is saved in two parts: what cells that are gone had counted, and what its cells hold.
// Who has the cells themselves, after a crash, takes the first part alone and reads the cells; who
// has not takes both (docs/design/restart.md).

#ifndef TALLYD_CORE_MERGE_SAVED_STATE_H_
#define TALLYD_CORE_MERGE_SAVED_STATE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/merge/expired_values.h"
#include "core/rules/histogram_layout.h"
#include "core/rules/rules.h"
#include "core/wire/sample.h"

namespace tallyd {

// Some numbers of a ledger, by their names: another version may know other ones.
struct SavedLedger {
  struct Number {
    std::string name;
    uint64_t value = 0;
    friend bool operator==(const Number&, const Number&) = default;
  };
  struct Listener {
    std::string name;
    std::vector<Number> numbers;
    friend bool operator==(const Listener&, const Listener&) = default;
  };
  std::vector<Listener> listeners;
  std::vector<Number> numbers;
  friend bool operator==(const SavedLedger&, const SavedLedger&) = default;
};

// A tenancy whose cell counts in the saved base of its series already, though its slot may still
// show it.
struct SavedTenancy {
  uint16_t shard = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
  friend auto operator<=>(const SavedTenancy&, const SavedTenancy&) = default;
};

struct SavedHead {
  uint64_t session = 0;   // of the process that saves, at random, not 0
  uint64_t sequence = 0;  // of this saving in the session, from 1
  bool is_final = false;  // all cells are in it and none will change again
  uint64_t hash_seed = 0;
  std::string boot_id;  // the monotonic clock's; times of another one say nothing
  int64_t unix_s = 0;
  int64_t now_ns = 0;
  std::vector<HistogramLayout> layouts;  // SavedSeries::layout is a place in it; bounds, window and
                                         // quantiles are kept, not their texts
  std::vector<SavedTenancy> folded;
  SavedLedger ledger;     // all of it
  SavedLedger inherited;  // the part that is not in the shards' memories
};

// The key that leads to a series, as a sender spelled it; or, of a literal one, name and labels.
struct SavedKey {
  bool is_known = false;
  bool is_literal = false;
  SampleType type = SampleType::kCounter;
  std::string_view name;
  std::string_view tags;
};

struct SavedSet {
  uint32_t window = 0;             // SetCell::WindowAt
  std::vector<uint64_t> hashes;    // of members
  std::vector<uint8_t> registers;  // SetCell::kRegisters of them, or none
};

// The views live as long as the call they are passed to.
struct SavedSeries {
  std::string_view family;
  SeriesKind kind = SeriesKind::kCounter;
  uint16_t layout = 0;  // of an observer
  std::string_view labels;
  uint32_t created_s = 0;
  uint16_t shard = 0;  // of its first cell
  SavedKey key;        // of it
  CountedValue base;   // of counters and observers
  CountedValue cells;  // likewise
  double carry = 0;    // of an observer: weight that its cells have not counted yet
  double gauge = 0;    // of a gauge
  SavedSet set;        // of a set
};

// The value of a series that is not there now.
struct SavedExpired {
  uint64_t hash = 0;  // of its identity, seeded: SeriesBudget::HashOf
  SeriesKind kind = SeriesKind::kCounter;
  uint16_t layout = 0;
  CountedValue value;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_SAVED_STATE_H_
