// The shipped protocols of core/shard/protocol.h, over all executions of small instances, and a
// mutant for each of their memory orders and each of their rules: a suite that still passed after
// a release became relaxed would not be testing that line. See docs/design/memory-orders.md.

#include "core/shard/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/model/explorer.h"

namespace tallyd::model {
namespace {

using testing::Contains;
using testing::HasSubstr;

constexpr auto kRelaxed = std::memory_order_relaxed;

using Cell = ModelAtomics::Word<uint64_t>;

// Cells as the owner adds to them and the merger reads them.
void Add(Cell& cell, uint64_t n) { cell.Store(cell.Load(kRelaxed) + n, kRelaxed); }
uint64_t ReadCell(const Cell& cell) { return cell.Load(kRelaxed); }

// ---- Publication: cells of stamped chunks, merged incrementally --------------------------------
//
// Property: after a pass that acquired epoch e, each merged value has at least all adds of batches
// <= e, and no merged value ever goes backwards.

constexpr size_t kChunks = 2;
using Events = std::array<uint64_t, kChunks>;  // adds of one batch, by chunk
const std::vector<Events> kMergeBatches = {{1, 0}, {2, 1}, {0, 1}};

uint64_t AddsUpTo(uint64_t batch, size_t chunk) {
  uint64_t adds = 0;
  for (uint64_t b = 0; b < batch; ++b) adds += kMergeBatches[b][chunk];
  return adds;
}

template <class Orders>
Result Publication(uint64_t passes = 3) {
  World world;
  BatchEpoch<ModelAtomics, Orders> epoch;
  std::array<ChunkStamp<ModelAtomics, Orders>, kChunks> stamps;
  std::array<Cell, kChunks> cells;
  world.Name(epoch, "epoch");
  for (size_t chunk = 0; chunk < kChunks; ++chunk) {
    world.Name(stamps[chunk], "stamp " + std::to_string(chunk));
    world.Name(cells[chunk], "cell " + std::to_string(chunk));
  }

  world.AddThread("owner", [&] {
    for (uint64_t batch = 1; batch <= kMergeBatches.size(); ++batch) {
      for (size_t chunk = 0; chunk < kChunks; ++chunk) {
        for (uint64_t event = 0; event < kMergeBatches[batch - 1][chunk]; ++event) {
          stamps[chunk].Touch(batch);
          Add(cells[chunk], 1);
        }
      }
      epoch.Publish(batch);
    }
  });
  struct Merger {
    uint64_t passes = 0;
    uint64_t merged_to = 0;
    std::array<uint64_t, kChunks> merged{};
  };
  world.AddThreadOfTurns("merger", Merger(), [&](Merger& merger) {
    const uint64_t now = epoch.Acquire();
    for (size_t chunk = 0; chunk < kChunks; ++chunk) {
      uint64_t& merged = merger.merged[chunk];
      if (stamps[chunk].Read() > merger.merged_to) {
        const uint64_t value = ReadCell(cells[chunk]);
        Check(value >= merged, "a cell went backwards");
        merged = value;
      }
      Check(merged >= AddsUpTo(now, chunk), "an add was lost");
    }
    merger.merged_to = now;
    if (++merger.passes < passes) return true;
    for (uint64_t merged : merger.merged) Observe(merged);
    return false;
  });
  return world.Explore();
}

// ---- Retire, fold, reuse: one slot, one tenant after another ----------------------------------
//
// Property: a series never shows another's adds, never goes backwards and is folded exactly once;
// after a pass that acquired epoch e it shows all adds of batches <= e, and is folded if it was
// retired in one of them.
//
// The tenant of generation g has identity g. It moves in and adds Unit(g) in batch 2g - 1, adds
// Unit(g) and retires in batch 2g. Units are powers of ten, so a sum tells whose adds it has.

constexpr uint32_t kMaxTenants = 3;
constexpr uint64_t Unit(uint64_t generation) {
  return generation == 1 ? 1 : generation == 2 ? 10 : 100;
}
// Whether a cell that reads `value` can be that generation's.
constexpr bool IsOwn(uint64_t value, uint64_t generation) {
  return value == 0 || value == Unit(generation) || value == 2 * Unit(generation);
}

struct ReusePlan {
  uint64_t tenants = 2;
  uint64_t passes = 4;
  bool wait_for_merger = true;
  uint64_t grace_cut_short = 0;  // batches by which the slot is taken back too early
  bool stamp_retirement = true;
  bool retire_in_batch = true;  // or after its publication
  bool identity_first = true;   // or after the state that publishes it
  bool publish_late_epoch = false;
  bool render = false;         // read the cell of a live tenant again after the pass
  bool render_folded = false;  // and that of a folded one
  SlotVisit (*visit)(SlotTenancy seen, SlotTenancy now) = VisitSlot;
};

template <class Orders>
struct ReuseShared {
  BatchEpoch<ModelAtomics, Orders> epoch;
  MergedEpoch<ModelAtomics, Orders> merged;
  ChunkStamp<ModelAtomics, Orders> stamp;
  SlotState<ModelAtomics, Orders> state;
  ModelPlain<uint64_t> identity;
  Cell cell;

  void Name(World& world) const {
    world.Name(epoch, "epoch");
    world.Name(merged, "merged epoch");
    world.Name(stamp, "stamp");
    world.Name(state, "state");
    world.Name(identity, "identity");
    world.Name(cell, "cell");
  }
};

template <class Orders>
void MoveIn(ReuseShared<Orders>& shared, const ReusePlan& plan, uint32_t generation) {
  const uint64_t batch = 2 * generation - 1;
  shared.stamp.Touch(batch);
  if (plan.identity_first) shared.identity.Write(generation);
  shared.cell.Store(0, kRelaxed);
  shared.state.PublishLive(generation);
  if (!plan.identity_first) shared.identity.Write(generation);
  Add(shared.cell, Unit(generation));
  shared.epoch.Publish(batch);
}

template <class Orders>
void Retire(ReuseShared<Orders>& shared, const ReusePlan& plan, uint32_t generation) {
  const uint64_t batch = 2 * generation;
  if (plan.stamp_retirement) shared.stamp.Touch(batch);
  Add(shared.cell, Unit(generation));
  if (plan.retire_in_batch) shared.state.PublishRetired(generation);
  shared.epoch.Publish(batch);
  if (!plan.retire_in_batch) shared.state.PublishRetired(generation);
}

template <class Orders>
void ReuseOwner(ReuseShared<Orders>& shared, const ReusePlan& plan) {
  for (uint32_t generation = 1; generation <= plan.tenants; ++generation) {
    // The slot was retired in this batch. One look is enough: the explorer tries it at any time.
    const uint64_t retired_in = 2 * (generation - 1);
    if (generation > 1 && plan.wait_for_merger &&
        shared.merged.Acquire() < retired_in - plan.grace_cut_short) {
      return;
    }
    MoveIn(shared, plan, generation);
    Retire(shared, plan, generation);
  }
}

// What the merger knows of a series, and of the slot that leads to it.
struct Series {
  uint64_t base = 0;
  uint64_t current = 0;
  uint64_t folds = 0;

  uint64_t Shown() const { return base + current; }
};
struct ReuseMerger {
  uint64_t passes = 0;
  uint64_t merged_to = 0;
  uint64_t identity = 0;
  uint64_t seen = 0;                             // the tenancy's word
  std::array<Series, kMaxTenants + 1> series{};  // by identity
};

template <class Orders>
void VisitTheSlot(const ReuseShared<Orders>& shared, const ReusePlan& plan, ReuseMerger& merger) {
  const SlotTenancy now = shared.state.Acquire();
  const SlotVisit visit = plan.visit({static_cast<uint32_t>(merger.seen)}, now);
  merger.seen = now.word;
  if (visit.adopt) merger.identity = shared.identity.Read();
  if (!visit.read && !visit.fold) return;
  Check(merger.identity == now.generation(), "a slot has the identity of another tenant");
  Series& series = merger.series[merger.identity];
  const uint64_t shown = series.Shown();
  const uint64_t value = ReadCell(shared.cell);
  Check(IsOwn(value, merger.identity), "a series has adds of another");
  series.current = visit.read ? value : 0;
  if (visit.fold) series.base += value;
  series.folds += visit.fold;
  Check(series.folds <= 1, "a tenant was folded twice");
  Check(series.Shown() >= shown, "a series went backwards");
}

// A page is rendered after the pass, from the cells of the tenants that the pass found. A live one
// may still be read then: it can retire only in a later batch, which a later pass must merge first.
template <class Orders>
void Render(const ReuseShared<Orders>& shared, const ReusePlan& plan, const ReuseMerger& merger) {
  const SlotLife life = SlotTenancy{static_cast<uint32_t>(merger.seen)}.life();
  const bool wanted = (plan.render && life == SlotLife::kLive) ||
                      (plan.render_folded && life == SlotLife::kRetired);
  if (!wanted) return;
  const uint64_t value = ReadCell(shared.cell);
  Check(IsOwn(value, merger.identity), "a series is rendered with adds of another");
  Check(value >= merger.series[merger.identity].current, "a series is rendered too small");
}

template <class Orders>
bool ReusePass(ReuseShared<Orders>& shared, const ReusePlan& plan, ReuseMerger& merger) {
  const uint64_t now = shared.epoch.Acquire();
  if (shared.stamp.Read() > merger.merged_to) VisitTheSlot(shared, plan, merger);
  for (uint64_t g = 1; g <= plan.tenants; ++g) {
    const Series& series = merger.series[g];
    if (now >= 2 * g - 1) Check(series.Shown() >= Unit(g), "an add was lost");
    if (now >= 2 * g) Check(series.folds == 1, "a fold was lost");
    if (now >= 2 * g) Check(series.Shown() == 2 * Unit(g), "a fold was wrong");
  }
  merger.merged_to = now;
  shared.merged.Publish(plan.publish_late_epoch ? shared.epoch.Acquire() : now);
  Render(shared, plan, merger);
  if (++merger.passes < plan.passes) return true;
  for (uint64_t g = 1; g <= plan.tenants; ++g) Observe(merger.series[g].Shown());
  return false;
}

template <class Orders>
Result Reuse(const ReusePlan& plan = {}) {
  World world;
  ReuseShared<Orders> shared;
  shared.Name(world);
  world.AddThread("owner", [&] { ReuseOwner(shared, plan); });
  world.AddThreadOfTurns("merger", ReuseMerger(),
                         [&](ReuseMerger& merger) { return ReusePass(shared, plan, merger); });
  return world.Explore();
}

// ---- Clean cut: two cells of one chunk that move together --------------------------------------
//
// Property: cells that a clean cut accepts are the state at a batch boundary; accepted or not, they
// are no older than the epoch that the reader had acquired before.

constexpr std::array<uint64_t, 4> kCutEventsUpTo = {0, 1, 3, 4};  // by batch; each is +1 and +10

struct CutPlan {
  uint64_t cuts = 2;
  int tries = 2;
  bool stamp_first = true;
};

template <class Orders>
struct CutShared {
  BatchEpoch<ModelAtomics, Orders> epoch;
  ChunkStamp<ModelAtomics, Orders> stamp;
  Cell bucket;
  Cell sum;

  void Name(World& world) const {
    world.Name(epoch, "epoch");
    world.Name(stamp, "stamp");
    world.Name(bucket, "bucket");
    world.Name(sum, "sum");
  }
};

template <class Orders>
void CutOwner(CutShared<Orders>& shared, const CutPlan& plan) {
  for (uint64_t batch = 1; batch < kCutEventsUpTo.size(); ++batch) {
    for (uint64_t i = kCutEventsUpTo[batch - 1]; i < kCutEventsUpTo[batch]; ++i) {
      if (plan.stamp_first) shared.stamp.Touch(batch);
      Add(shared.bucket, 1);
      if (!plan.stamp_first) shared.stamp.Touch(batch);
      Add(shared.sum, 10);
    }
    shared.epoch.Publish(batch);
  }
}

// The shipped cut, as a type of its own so that mutants of it can take its place.
struct ShippedCut {
  template <class Orders, class Read>
  bool operator()(const CutShared<Orders>& shared, int tries, Read&& read) const {
    return ReadCleanCut(shared.epoch, shared.stamp, tries, read);
  }
};

template <class Orders, class Cut = ShippedCut>
Result CleanCut(const CutPlan& plan = {}) {
  World world;
  CutShared<Orders> shared;
  shared.Name(world);
  world.AddThread("owner", [&] { CutOwner(shared, plan); });
  world.AddThreadOfTurns("merger", uint64_t{0}, [&](uint64_t& cuts) {
    const uint64_t merged_to = shared.epoch.Acquire();
    uint64_t events = 0, total = 0;
    const bool clean = Cut()(shared, plan.tries, [&] {
      events = ReadCell(shared.bucket);
      total = ReadCell(shared.sum);
    });
    Check(events >= kCutEventsUpTo[merged_to], "an add was lost");
    Check(!clean || total == 10 * events, "a torn pair was accepted");
    Check(!clean || std::ranges::count(kCutEventsUpTo, events) == 1,
          "the middle of a batch was accepted");
    if (++cuts < plan.cuts) return true;
    Observe(clean);
    Observe(events);
    return false;
  });
  return world.Explore();
}

// ---- Growth: plain chunk heads below a published count -----------------------------------------
//
// Property: the heads below the count are complete, and after a pass that acquired epoch e the
// count has all chunks of batches <= e.

struct GrowthPlan {
  bool head_first = true;  // or after the count that publishes it
};

template <class Orders>
Result Growth(const GrowthPlan& plan = {}) {
  constexpr uint32_t kHeads = 3;  // one a batch
  World world;
  BatchEpoch<ModelAtomics, Orders> epoch;
  PublishedCount<ModelAtomics, Orders> count;
  std::array<ModelPlain<uint64_t>, kHeads> heads;
  world.Name(epoch, "epoch");
  world.Name(count, "count");
  world.Name(heads, "head");

  world.AddThread("owner", [&] {
    for (uint32_t batch = 1; batch <= kHeads; ++batch) {
      const uint32_t chunk = count.Own();
      Check(chunk == batch - 1, "the owner lost its own count");
      if (plan.head_first) heads[chunk].Write(100 + chunk);
      count.Publish(chunk + 1);
      if (!plan.head_first) heads[chunk].Write(100 + chunk);
      epoch.Publish(batch);
    }
  });
  world.AddThreadOfTurns("merger", uint64_t{0}, [&](uint64_t& passes) {
    const uint64_t now = epoch.Acquire();
    const uint32_t published = count.Acquire();
    Check(published >= now, "a chunk was lost");
    for (uint32_t i = 0; i < published; ++i) Check(heads[i].Read() == 100 + i, "a wrong head");
    if (++passes < 3) return true;
    Observe(published);
    return false;
  });
  return world.Explore();
}

// ---- Renewal: rules that are younger than the slot that they read ------------------------------
//
// Property: the rules whose number is read are complete.

template <class Orders>
Result Renewal() {
  constexpr uint16_t kRules = 3;  // one a batch; the slot is published with the first
  World world;
  SlotState<ModelAtomics, Orders> state;
  ModelAtomics::Word<uint16_t> word;
  std::array<ModelPlain<uint64_t>, kRules> rules;
  world.Name(state, "state");
  world.Name(word, "number");
  world.Name(rules, "rules");

  world.AddThread("owner", [&] {
    RulesNumber<ModelAtomics, Orders> number(word);
    for (uint16_t i = 0; i < kRules; ++i) {
      rules[i].Write(100u + i);  // by whoever reads the files, and handed to the owner whole
      number.Publish(i);
      Check(number.Own() == i, "the owner lost its own number");
      if (i == 0) state.PublishLive(1);
    }
  });
  world.AddThreadOfTurns("merger", uint64_t{0}, [&](uint64_t& passes) {
    uint64_t newest = kRules;  // none
    if (state.Acquire().life() == SlotLife::kLive) {
      newest = RulesNumber<ModelAtomics, Orders>(word).Acquire();
      Check(rules[newest].Read() == 100 + newest, "rules that are not complete");
    }
    if (++passes < 2) return true;
    Observe(newest);
    return false;
  });
  return world.Explore();
}

// ---- Rewrite: two places whose meaning a header tells ------------------------------------------
//
// Property: an accepted reading has in each place what its header says is there, shows all adds of
// batches <= the epoch that was acquired before, and never goes backwards.
//
// Three buckets of units 1, 10 and 100 share two places, as those of a histogram's window do. At
// first, in batch 1, the place of each of the first two is its own. In batch 2 they become one, at
// the first place, and that is all, or the header is extended: the third bucket gets the second
// place. In batch 3 all become one.

enum Layout : uint64_t { kTwo = 0, kOne = 1, kOneAndThird = 2, kAll = 3 };

constexpr std::array<uint64_t, 4> kRewriteAddsUpTo = {0, 11, 111, 211};  // by batch

struct RewritePlan {
  uint64_t passes = 2;
  int tries = 1;  // mutants need no more, and it is a tenth of the states
  bool extend = true;
};

template <class Orders>
struct RewriteShared {
  BatchEpoch<ModelAtomics, Orders> epoch;
  Cell header;
  Cell first;
  Cell second;

  void Name(World& world) const {
    world.Name(epoch, "epoch");
    world.Name(header, "header");
    world.Name(first, "first place");
    world.Name(second, "second place");
  }
  // The second place's count goes to the first.
  void Unite() {
    Add(first, ReadCell(second));
    second.Store(0, kRelaxed);
  }
};

template <class Header, class Orders>
void RewriteOwner(RewriteShared<Orders>& shared, const RewritePlan& plan) {
  Header header(shared.header);
  Add(shared.first, 1);
  Add(shared.second, 10);
  shared.epoch.Publish(1);
  header.Rewrite(kOne, [&] { shared.Unite(); });
  if (plan.extend) header.Extend(kOneAndThird);
  Add(plan.extend ? shared.second : shared.first, 100);
  shared.epoch.Publish(2);
  header.Rewrite(kAll, [&] { shared.Unite(); });
  Add(shared.first, 100);
  shared.epoch.Publish(3);
}

struct Places {
  uint64_t header = 0;
  uint64_t first = 0;
  uint64_t second = 0;

  uint64_t layout() const { return header & 0xff; }
  uint64_t Total() const { return first + second; }
  bool Fit() const {
    switch (layout()) {
      case kTwo:
        return (first == 0 || first == 1) && (second == 0 || second == 10);
      case kOne:
        return first == 11 || first == 111;
      case kOneAndThird:
        return first == 11 && (second == 0 || second == 100);
      default:
        return first == 111 || first == 211;
    }
  }
};

template <class Header, class Orders>
bool ReadPlaces(RewriteShared<Orders>& shared, int tries, Places* places) {
  return Header(shared.header).ReadWhole(tries, [&](uint64_t header) {
    *places = {.header = header, .first = ReadCell(shared.first), .second = 0};
    // A place that is not in use is not read.
    const bool both = places->layout() == kTwo || places->layout() == kOneAndThird;
    if (both) places->second = ReadCell(shared.second);
  });
}

template <class Orders, class Header = VersionedHeader<ModelAtomics, Orders>>
Result Rewrite(const RewritePlan& plan = {}) {
  World world;
  RewriteShared<Orders> shared;
  shared.Name(world);
  world.AddThread("owner", [&] { RewriteOwner<Header>(shared, plan); });
  struct Merger {
    uint64_t passes = 0;
    uint64_t shown = 0;
  };
  world.AddThreadOfTurns("merger", Merger(), [&](Merger& merger) {
    const uint64_t now = shared.epoch.Acquire();
    Places places;
    const bool whole = ReadPlaces<Header>(shared, plan.tries, &places);
    if (whole) {
      Check(places.Fit(), "a place was taken for another");
      Check(places.Total() >= kRewriteAddsUpTo[now], "an add was lost");
      Check(places.Total() >= merger.shown, "a reading went backwards");
      merger.shown = places.Total();
    }
    if (++merger.passes < plan.passes) return true;
    Observe(whole);
    Observe(merger.shown);
    return false;
  });
  return world.Explore();
}

// ---- Dated: a value and the time it is from ----------------------------------------------------
//
// Property: the value that is read after a time is that time's, or a later one.

struct DatedPlan {
  bool value_first = true;  // the owner stores it before the time
  bool time_first = true;   // the merger reads it before the value
};

template <class Orders>
Result Dated(const DatedPlan& plan = {}) {
  World world;
  Cell value, time;
  world.Name(value, "value");
  world.Name(time, "time");

  // At time t, 10 t is set; then 1 is added.
  world.AddThread("owner", [&] {
    DatedWord<ModelAtomics, Orders> dated(value, time);
    for (uint64_t t = 1; t <= 3; ++t) {
      if (plan.value_first) {
        dated.Store(10 * t, t);
      } else {
        time.Store(t, Orders::kTimeStore);
        value.Store(10 * t, kRelaxed);
      }
      Add(value, 1);
    }
  });
  world.AddThreadOfTurns("merger", uint64_t{0}, [&](uint64_t& passes) {
    const DatedWord<ModelAtomics, Orders> dated(value, time);
    const uint64_t early = plan.time_first ? 0 : dated.Read();
    const uint64_t t = dated.AcquireTime();
    const uint64_t seen = plan.time_first ? dated.Read() : early;
    Check(seen >= 10 * t, "a value is older than its time");
    if (++passes < 2) return true;
    Observe(t);
    Observe(seen);
    return false;
  });
  return world.Explore();
}

// ---- Runs: a total, what it was when the present run began, and when that was ------------------
//
// Property: the base that is read is that of the run or of a later one, and the total has no change
// of a later one. In terms of a gauge that somebody else set at some moment: what a reading adds to
// it is of runs that began after the moment, and what it takes for done has no change of those.

struct RunsPlan {
  bool base_first = true;  // the owner stores it before the time
};

// The shipped reading, as a type of its own so that mutants of it can take its place.
struct ShippedReading {
  template <class Orders>
  static auto Read(Cell& total, Cell& base, Cell& time) {
    return TotalOfRuns<ModelAtomics, Orders>(total, base, time).Read();
  }
};

template <class Orders, class Reading = ShippedReading>
Result Runs(const RunsPlan& plan = {}) {
  constexpr uint64_t kRuns = 3;
  constexpr uint64_t kChanges = 2;  // of 1 each, in a run
  World world;
  Cell total, base, time;
  world.Name(total, "total");
  world.Name(base, "base");
  world.Name(time, "time");

  world.AddThread("owner", [&] {
    TotalOfRuns<ModelAtomics, Orders> runs(total, base, time);
    for (uint64_t run = 1; run <= kRuns; ++run) {
      if (plan.base_first) {
        runs.BeginRun(run);
      } else {
        time.Store(run, Orders::kTimeStore);
        base.Store(runs.OwnTotal(), kRelaxed);
        ModelAtomics::Fence(Orders::kRunFence);
      }
      for (uint64_t i = 0; i < kChanges; ++i) runs.Change(runs.OwnTotal() + 1);
    }
  });
  world.AddThreadOfTurns("merger", uint64_t{0}, [&](uint64_t& passes) {
    const auto reading = Reading::template Read<Orders>(total, base, time);
    const uint64_t run_begins_at = reading.time == 0 ? 0 : (reading.time - 1) * kChanges;
    Check(reading.base >= run_begins_at, "a base is older than its run");
    Check(reading.total <= reading.time * kChanges, "a total has a change of a later run");
    if (++passes < 2) return true;
    Observe(reading.time);
    Observe(reading.base);
    Observe(reading.total);
    return false;
  });
  return world.Explore();
}

// ---- The shipped orders hold everywhere --------------------------------------------------------

// `reached` is an outcome of full length: a scenario that never gets there would prove nothing.
void ExpectHolds(const char* scenario, const Result& result, std::vector<uint64_t> reached) {
  std::printf("%-32s %8zu states\n", scenario, result.states);
  EXPECT_EQ(result.violation, "") << scenario << ":\n" << result.trace;
  EXPECT_THAT(result.outcomes, Contains(reached)) << scenario;
}

TEST(ShippedProtocol, LosesNoAddAndNeverGoesBackwards) {
  ExpectHolds("publication, 3 passes", Publication<ShippedOrders>(), {3, 2});
  ExpectHolds("publication, 5 passes", Publication<ShippedOrders>(5), {3, 2});
}

TEST(ShippedProtocol, FoldsEachTenantOnceAndMixesNone) {
  ExpectHolds("reuse, 2 tenants, 4 passes", Reuse<ShippedOrders>(), {2, 20});
  ExpectHolds("reuse, 3 tenants, 4 passes", Reuse<ShippedOrders>({.tenants = 3}), {2, 20, 200});
  ExpectHolds("reuse, rendered after each pass", Reuse<ShippedOrders>({.render = true}), {2, 20});
}

TEST(ShippedProtocol, AcceptsNoTornPair) {
  ExpectHolds("clean cut, 2 of 1 try", CleanCut<ShippedOrders>({.tries = 1}), {1, 4});
  ExpectHolds("clean cut, 2 of 2 tries", CleanCut<ShippedOrders>(), {1, 4});
}

TEST(ShippedProtocol, ReadsNoUnpublishedHead) {
  ExpectHolds("growth, 3 chunks, 3 passes", Growth<ShippedOrders>(), {3});
}

TEST(ShippedProtocol, ReadsNoRulesTooEarly) {
  ExpectHolds("renewal, 3 rules, 2 passes", Renewal<ShippedOrders>(), {2});
}

TEST(ShippedProtocol, TakesNoPlaceForAnother) {
  ExpectHolds("rewrite, 2 passes of 1 try", Rewrite<ShippedOrders>(), {1, 211});
  ExpectHolds("rewrite, 2 passes of 2 tries", Rewrite<ShippedOrders>({.tries = 2}), {1, 211});
  ExpectHolds("rewrite, 4 passes of 1 try", Rewrite<ShippedOrders>({.passes = 4}), {1, 211});
  ExpectHolds("rewrite, never extended", Rewrite<ShippedOrders>({.extend = false}), {1, 211});
}

TEST(ShippedProtocol, ReadsNoValueOlderThanItsTime) {
  ExpectHolds("dated, 3 times, 2 passes", Dated<ShippedOrders>(), {3, 31});
}

TEST(ShippedProtocol, TakesNoChangeForAnotherRuns) {
  ExpectHolds("runs, 3 of 2 changes, 2 passes", Runs<ShippedOrders>(), {3, 4, 6});
}

// ---- Each order has a mutant -------------------------------------------------------------------
//
// One order is made relaxed, all scenarios are explored, and those that find a violation are named
// with what they found. A scenario that is not named is blind to that order.

template <class Orders>
std::string CaughtBy() {
  std::string caught;
  const auto note = [&](const char* scenario, const Result& result) {
    if (result.violation.empty()) return;
    caught += (caught.empty() ? "" : "; ") + std::string(scenario) + ": " + result.violation;
  };
  note("publication", Publication<Orders>());
  note("reuse", Reuse<Orders>());
  note("clean cut", CleanCut<Orders>());
  note("growth", Growth<Orders>());
  note("renewal", Renewal<Orders>());
  note("rewrite", Rewrite<Orders>());
  note("dated", Dated<Orders>());
  note("runs", Runs<Orders>());
  return caught;
}

struct RelaxedEpochStore : ShippedOrders {
  static constexpr auto kEpochStore = kRelaxed;
};
struct RelaxedEpochLoad : ShippedOrders {
  static constexpr auto kEpochLoad = kRelaxed;
};
struct RelaxedStateStore : ShippedOrders {
  static constexpr auto kStateStore = kRelaxed;
};
struct RelaxedRetireStore : ShippedOrders {
  static constexpr auto kRetireStore = kRelaxed;
};
struct RelaxedStateLoad : ShippedOrders {
  static constexpr auto kStateLoad = kRelaxed;
};
struct RelaxedCountStore : ShippedOrders {
  static constexpr auto kCountStore = kRelaxed;
};
struct RelaxedCountLoad : ShippedOrders {
  static constexpr auto kCountLoad = kRelaxed;
};
struct RelaxedMergedStore : ShippedOrders {
  static constexpr auto kMergedStore = kRelaxed;
};
struct RelaxedMergedLoad : ShippedOrders {
  static constexpr auto kMergedLoad = kRelaxed;
};
struct RelaxedStampFence : ShippedOrders {
  static constexpr auto kStampFence = kRelaxed;
};
struct RelaxedCutFence : ShippedOrders {
  static constexpr auto kCutFence = kRelaxed;
};
struct RelaxedRewriteFence : ShippedOrders {
  static constexpr auto kRewriteFence = kRelaxed;
};
struct RelaxedHeaderStore : ShippedOrders {
  static constexpr auto kHeaderStore = kRelaxed;
};
struct RelaxedExtendStore : ShippedOrders {
  static constexpr auto kExtendStore = kRelaxed;
};
struct RelaxedHeaderLoad : ShippedOrders {
  static constexpr auto kHeaderLoad = kRelaxed;
};
struct RelaxedRewriteReadFence : ShippedOrders {
  static constexpr auto kRewriteReadFence = kRelaxed;
};
struct RelaxedTimeStore : ShippedOrders {
  static constexpr auto kTimeStore = kRelaxed;
};
struct RelaxedTimeLoad : ShippedOrders {
  static constexpr auto kTimeLoad = kRelaxed;
};
struct RelaxedRulesStore : ShippedOrders {
  static constexpr auto kRulesStore = kRelaxed;
};
struct RelaxedRulesLoad : ShippedOrders {
  static constexpr auto kRulesLoad = kRelaxed;
};
struct RelaxedRunFence : ShippedOrders {
  static constexpr auto kRunFence = kRelaxed;
};
struct RelaxedRunReadFence : ShippedOrders {
  static constexpr auto kRunReadFence = kRelaxed;
};

TEST(OrderMutant, NoneIsNeededToFindNothing) { EXPECT_EQ(CaughtBy<ShippedOrders>(), ""); }

constexpr char kEverythingLost[] =
    "publication: an add was lost; reuse: an add was lost; "
    "clean cut: a torn pair was accepted; growth: a chunk was lost; rewrite: an add was lost";

TEST(OrderMutant, RelaxedEpochStoreLosesAdds) {
  EXPECT_EQ(CaughtBy<RelaxedEpochStore>(), kEverythingLost);
}

TEST(OrderMutant, RelaxedEpochLoadLosesAdds) {
  EXPECT_EQ(CaughtBy<RelaxedEpochLoad>(), kEverythingLost);
}

TEST(OrderMutant, RelaxedStateStoreShowsAnIdentityTooEarly) {
  EXPECT_EQ(CaughtBy<RelaxedStateStore>(),
            "reuse: race: owner's write of identity and merger's read; "
            "renewal: race: owner's write of rules and merger's read");
}

// The trap: "retired" looks like a mere flag after an earlier release of the same word.
TEST(OrderMutant, RelaxedRetireStoreFoldsTooLittle) {
  EXPECT_EQ(CaughtBy<RelaxedRetireStore>(), "reuse: a fold was wrong");
}

TEST(OrderMutant, RelaxedStateLoadShowsAnIdentityTooEarly) {
  EXPECT_EQ(CaughtBy<RelaxedStateLoad>(),
            "reuse: race: owner's write of identity and merger's read; "
            "renewal: race: owner's write of rules and merger's read");
}

TEST(OrderMutant, RelaxedCountStoreShowsAHeadTooEarly) {
  EXPECT_EQ(CaughtBy<RelaxedCountStore>(), "growth: race: owner's write of head and merger's read");
}

TEST(OrderMutant, RelaxedCountLoadShowsAHeadTooEarly) {
  EXPECT_EQ(CaughtBy<RelaxedCountLoad>(), "growth: race: owner's write of head and merger's read");
}

TEST(OrderMutant, RelaxedRulesStoreShowsRulesTooEarly) {
  EXPECT_EQ(CaughtBy<RelaxedRulesStore>(),
            "renewal: race: owner's write of rules and merger's read");
}

TEST(OrderMutant, RelaxedRulesLoadShowsRulesTooEarly) {
  EXPECT_EQ(CaughtBy<RelaxedRulesLoad>(),
            "renewal: race: owner's write of rules and merger's read");
}

// No value can come out wrong here without load buffering. The plain identity tells.
TEST(OrderMutant, RelaxedMergedStoreGivesTheSlotBackWhileItIsRead) {
  EXPECT_EQ(CaughtBy<RelaxedMergedStore>(),
            "reuse: race: merger's read of identity and owner's write");
}

TEST(OrderMutant, RelaxedMergedLoadTakesTheSlotBackWhileItIsRead) {
  EXPECT_EQ(CaughtBy<RelaxedMergedLoad>(),
            "reuse: race: merger's read of identity and owner's write");
}

TEST(OrderMutant, RelaxedStampFenceAcceptsATornPair) {
  EXPECT_EQ(CaughtBy<RelaxedStampFence>(), "clean cut: a torn pair was accepted");
}

TEST(OrderMutant, RelaxedCutFenceAcceptsATornPair) {
  EXPECT_EQ(CaughtBy<RelaxedCutFence>(), "clean cut: a torn pair was accepted");
}

TEST(OrderMutant, RelaxedRewriteFenceTakesAPlaceForAnother) {
  EXPECT_EQ(CaughtBy<RelaxedRewriteFence>(), "rewrite: a place was taken for another");
}

TEST(OrderMutant, RelaxedHeaderStoreTakesAPlaceForAnother) {
  EXPECT_EQ(CaughtBy<RelaxedHeaderStore>(), "rewrite: a place was taken for another");
}

// The trap again: the header is extended after the rewrite that it must still show.
TEST(OrderMutant, RelaxedExtendStoreTakesAPlaceForAnother) {
  EXPECT_EQ(CaughtBy<RelaxedExtendStore>(), "rewrite: a place was taken for another");
}

TEST(OrderMutant, RelaxedHeaderLoadTakesAPlaceForAnother) {
  EXPECT_EQ(CaughtBy<RelaxedHeaderLoad>(), "rewrite: a place was taken for another");
}

TEST(OrderMutant, RelaxedRewriteReadFenceTakesAPlaceForAnother) {
  EXPECT_EQ(CaughtBy<RelaxedRewriteReadFence>(), "rewrite: a place was taken for another");
}

TEST(OrderMutant, RelaxedTimeStoreReadsAnOldValue) {
  EXPECT_EQ(CaughtBy<RelaxedTimeStore>(),
            "dated: a value is older than its time; runs: a base is older than its run");
}

TEST(OrderMutant, RelaxedTimeLoadReadsAnOldValue) {
  EXPECT_EQ(CaughtBy<RelaxedTimeLoad>(),
            "dated: a value is older than its time; runs: a base is older than its run");
}

TEST(OrderMutant, RelaxedRunFenceTakesAChangeForAnEarlierRuns) {
  EXPECT_EQ(CaughtBy<RelaxedRunFence>(), "runs: a total has a change of a later run");
}

TEST(OrderMutant, RelaxedRunReadFenceTakesAChangeForAnEarlierRuns) {
  EXPECT_EQ(CaughtBy<RelaxedRunReadFence>(), "runs: a total has a change of a later run");
}

// ---- Each rule has a mutant --------------------------------------------------------------------

std::string FoundIn(const ReusePlan& plan) { return Reuse<ShippedOrders>(plan).violation; }

TEST(RuleMutant, ReuseWithoutWaitingForTheMerger) {
  EXPECT_THAT(FoundIn({.wait_for_merger = false}), HasSubstr("race"));
}

TEST(RuleMutant, ReuseOneBatchTooEarly) {
  EXPECT_EQ(FoundIn({.grace_cut_short = 1}), "a series went backwards");
}

// A merged epoch newer than the pass began with says more than the merger has read.
TEST(RuleMutant, MergedEpochTakenAtTheEndOfThePass) {
  EXPECT_THAT(FoundIn({.publish_late_epoch = true}), HasSubstr("race"));
}

TEST(RuleMutant, RetirementThatStampsNothing) {
  EXPECT_EQ(FoundIn({.stamp_retirement = false}), "a fold was lost");
}

// A retirement belongs to a batch that is still to be published.
TEST(RuleMutant, RetirementInABatchAlreadyPublished) {
  EXPECT_EQ(FoundIn({.retire_in_batch = false}), "a fold was lost");
}

TEST(RuleMutant, IdentityWrittenAfterTheStateThatPublishesIt) {
  EXPECT_NE(FoundIn({.identity_first = false}), "");
}

SlotVisit FoldAgain(SlotTenancy seen, SlotTenancy now) {
  if (now.life() == SlotLife::kRetired && seen == now) return {.fold = true};
  return VisitSlot(seen, now);
}

TEST(RuleMutant, FoldingAFoldedSlotAgain) {
  EXPECT_EQ(FoundIn({.visit = FoldAgain}), "a tenant was folded twice");
}

SlotVisit LookAgain(SlotTenancy seen, SlotTenancy now) {
  if (now.life() == SlotLife::kRetired && seen == now) return {.adopt = true};
  return VisitSlot(seen, now);
}

TEST(RuleMutant, LookingAgainAtAFoldedSlot) {
  EXPECT_THAT(FoundIn({.visit = LookAgain}), HasSubstr("race"));
}

SlotVisit AdoptOnce(SlotTenancy seen, SlotTenancy now) {
  SlotVisit visit = VisitSlot(seen, now);
  visit.adopt = visit.adopt && seen.life() == SlotLife::kFree;
  return visit;
}

TEST(RuleMutant, RenderingAFoldedSlot) {
  EXPECT_EQ(FoundIn({.render_folded = true}), "a series is rendered with adds of another");
}

TEST(RuleMutant, TakingTheNextTenantForTheLast) {
  EXPECT_EQ(FoundIn({.visit = AdoptOnce}), "a slot has the identity of another tenant");
}

TEST(RuleMutant, StampAfterTheCell) {
  EXPECT_EQ(CleanCut<ShippedOrders>({.stamp_first = false}).violation, "a torn pair was accepted");
}

struct CutWithoutEpoch {
  template <class Orders, class Read>
  bool operator()(const CutShared<Orders>& shared, int, Read&& read) const {
    const uint64_t before = shared.stamp.Read();
    read();
    ModelAtomics::Fence(Orders::kCutFence);
    return shared.stamp.Read() == before;
  }
};

TEST(RuleMutant, CutThatDoesNotAskWhetherTheBatchIsFinished) {
  EXPECT_NE((CleanCut<ShippedOrders, CutWithoutEpoch>().violation), "");
}

struct CutWithoutSecondLook {
  template <class Orders, class Read>
  bool operator()(const CutShared<Orders>& shared, int, Read&& read) const {
    const uint64_t finished = shared.epoch.Acquire();
    const uint64_t before = shared.stamp.Read();
    read();
    return before <= finished;
  }
};

TEST(RuleMutant, CutThatDoesNotLookAtTheStampAgain) {
  EXPECT_NE((CleanCut<ShippedOrders, CutWithoutSecondLook>().violation), "");
}

TEST(RuleMutant, HeadWrittenAfterTheCountThatPublishesIt) {
  EXPECT_NE(Growth<ShippedOrders>({.head_first = false}).violation, "");
}

// A header that breaks one rule takes the place of the shipped one.
struct BrokenHeader : VersionedHeader<ModelAtomics> {
  explicit BrokenHeader(Cell& header_word)
      : VersionedHeader<ModelAtomics>(header_word), word(header_word) {}

  // ReadWhole of one try, but for what makes a reading good.
  template <class Read, class IsGood>
  bool ReadIf(Read&& read, IsGood&& is_good) const {
    const uint64_t header = word.Load(ShippedOrders::kHeaderLoad);
    read(header);
    ModelAtomics::Fence(ShippedOrders::kRewriteReadFence);
    return is_good(VersionOf(header));
  }
  static constexpr uint64_t Version(uint64_t version) { return version << kVersionShift; }

  Cell& word;
};

struct NoSecondLook : BrokenHeader {
  using BrokenHeader::BrokenHeader;
  template <class Read>
  bool ReadWhole(int, Read&& read) const {
    return ReadIf(read, [](uint64_t version) { return version % 2 == 0; });
  }
};

TEST(RuleMutant, RewriteReadWithoutASecondLook) {
  EXPECT_EQ((Rewrite<ShippedOrders, NoSecondLook>().violation), "a place was taken for another");
}

struct OddIsTaken : BrokenHeader {
  using BrokenHeader::BrokenHeader;
  template <class Read>
  bool ReadWhole(int, Read&& read) const {
    return ReadIf(read,
                  [&](uint64_t version) { return VersionOf(word.Load(kRelaxed)) == version; });
  }
};

TEST(RuleMutant, OddVersionTakenForAWhole) {
  EXPECT_EQ((Rewrite<ShippedOrders, OddIsTaken>().violation), "a place was taken for another");
}

struct VersionComesBack : BrokenHeader {
  using BrokenHeader::BrokenHeader;
  template <class Rewriting>
  void Rewrite(uint64_t header, Rewriting&& rewrite) {
    word.Store(header | Version(1), kRelaxed);
    ModelAtomics::Fence(ShippedOrders::kRewriteFence);
    rewrite();
    word.Store(header, ShippedOrders::kHeaderStore);
  }
  void Extend(uint64_t header) { word.Store(header, ShippedOrders::kExtendStore); }
};

TEST(RuleMutant, VersionThatComesBackAfterARewrite) {
  EXPECT_EQ((Rewrite<ShippedOrders, VersionComesBack>().violation),
            "a place was taken for another");
}

struct OddTooLate : BrokenHeader {
  using BrokenHeader::BrokenHeader;
  template <class Rewriting>
  void Rewrite(uint64_t header, Rewriting&& rewrite) {
    rewrite();
    BrokenHeader::Rewrite(header, [] {});
  }
};

TEST(RuleMutant, OddVersionAfterTheRewrite) {
  EXPECT_EQ((Rewrite<ShippedOrders, OddTooLate>().violation), "a place was taken for another");
}

TEST(RuleMutant, TimeBeforeTheValueItBelongsTo) {
  EXPECT_EQ(Dated<ShippedOrders>({.value_first = false}).violation,
            "a value is older than its time");
}

TEST(RuleMutant, TimeReadAfterTheValueItBelongsTo) {
  EXPECT_EQ(Dated<ShippedOrders>({.time_first = false}).violation,
            "a value is older than its time");
}

TEST(RuleMutant, RunThatBeginsBeforeItHasABase) {
  EXPECT_EQ(Runs<ShippedOrders>({.base_first = false}).violation, "a base is older than its run");
}

struct InOrderOfWords {
  template <class Orders>
  static auto Read(Cell& total, Cell& base, Cell& time) {
    typename TotalOfRuns<ModelAtomics, Orders>::Reading reading;
    reading.total = ReadCell(total);
    ModelAtomics::Fence(Orders::kRunReadFence);
    reading.base = ReadCell(base);
    reading.time = time.Load(Orders::kTimeLoad);
    return reading;
  }
};

TEST(RuleMutant, BaseReadBeforeTheTimeOfItsRun) {
  EXPECT_EQ((Runs<ShippedOrders, InOrderOfWords>().violation), "a base is older than its run");
}

struct TotalLast {
  template <class Orders>
  static auto Read(Cell& total, Cell& base, Cell& time) {
    auto reading = ShippedReading::Read<Orders>(total, base, time);
    reading.total = ReadCell(total);
    return reading;
  }
};

TEST(RuleMutant, TotalReadAfterTheTimeOfItsRun) {
  EXPECT_EQ((Runs<ShippedOrders, TotalLast>().violation), "a total has a change of a later run");
}

}  // namespace
}  // namespace tallyd::model
