#include "daemon/state_ledger.h"

#include <algorithm>
#include <string_view>

namespace tallyd {
namespace {

constexpr char kApplied[] = "applied";
constexpr char kFolded[] = "folded";
constexpr char kBatches[] = "batches";
constexpr std::string_view kDropped = "dropped.";
constexpr std::string_view kRepaired = "repaired.";
constexpr std::string_view kEvent = "event.";

struct ListenerNumber {
  const char* name;
  uint64_t LedgerTotals::Listener::*total;
  LedgerCount Ledger::Listener::*count;
};
constexpr ListenerNumber kListenerNumbers[] = {
    {"datagrams", &LedgerTotals::Listener::datagrams, &Ledger::Listener::datagrams},
    {"bytes", &LedgerTotals::Listener::bytes, &Ledger::Listener::bytes},
    {"samples", &LedgerTotals::Listener::samples, &Ledger::Listener::samples},
    {"truncated", &LedgerTotals::Listener::truncated, &Ledger::Listener::truncated},
    {"kernel_dropped", &LedgerTotals::Listener::kernel_dropped, &Ledger::Listener::kernel_dropped},
};

void RestoreListener(const SavedLedger::Listener& saved, Ledger::Listener* listener) {
  for (const SavedLedger::Number& number : saved.numbers) {
    for (const ListenerNumber& known : kListenerNumbers) {
      if (number.name == known.name) (listener->*known.count).Add(number.value);
    }
  }
}

// Adds to the one of `counts` that is called `name` with a prefix.
template <class Names, class Counts>
void RestoreNamed(const SavedLedger::Number& saved, std::string_view prefix, const Names& names,
                  Counts* counts) {
  if (saved.name.compare(0, prefix.size(), prefix) != 0) return;
  for (size_t i = 0; i < names.size(); ++i) {
    if (std::string_view(saved.name).substr(prefix.size()) == names[i]) {
      (*counts)[i].Add(saved.value);
    }
  }
}

uint64_t Unaccounted(const Ledger& ledger) {
  uint64_t received = 0;
  for (const Ledger::Listener& listener : ledger.listeners) received += listener.samples.Get();
  uint64_t accounted = ledger.applied.Get();
  for (const LedgerCount& dropped : ledger.dropped) accounted += dropped.Get();
  return received - std::min(received, accounted);
}

}  // namespace

SavedLedger SaveLedger(const LedgerTotals& totals, const std::vector<ListenerInfo>& listeners) {
  SavedLedger saved;
  for (size_t i = 0; i < std::min(listeners.size(), totals.listeners.size()); ++i) {
    SavedLedger::Listener& listener = saved.listeners.emplace_back();
    listener.name = listeners[i].name;
    for (const ListenerNumber& number : kListenerNumbers) {
      listener.numbers.push_back({number.name, totals.listeners[i].*number.total});
    }
  }
  const auto add = [&](std::string name, uint64_t value) {
    if (value != 0) saved.numbers.push_back({std::move(name), value});
  };
  add(kApplied, totals.applied);
  add(kFolded, totals.folded);
  add(kBatches, totals.batches);
  for (size_t i = 0; i < kDropReasons; ++i) {
    add(std::string(kDropped).append(kDropReasonNames[i]), totals.dropped[i]);
  }
  for (size_t i = 0; i < kRepairReasons; ++i) {
    add(std::string(kRepaired).append(kRepairReasonNames[i]), totals.repaired[i]);
  }
  for (size_t i = 0; i < kEventKinds; ++i) {
    add(std::string(kEvent).append(kEventKindNames[i]), totals.events[i]);
  }
  return saved;
}

void RestoreLedger(const SavedLedger& saved, const std::vector<std::string>& listeners,
                   size_t former, Ledger* ledger) {
  for (const SavedLedger::Listener& listener : saved.listeners) {
    const auto found = std::find(listeners.begin(), listeners.end(), listener.name);
    const size_t index =
        found == listeners.end() ? former : static_cast<size_t>(found - listeners.begin());
    RestoreListener(listener, &ledger->listeners[std::min(index, Ledger::kMaxListeners - 1)]);
  }
  for (const SavedLedger::Number& number : saved.numbers) {
    if (number.name == kApplied) ledger->applied.Add(number.value);
    if (number.name == kFolded) ledger->folded.Add(number.value);
    if (number.name == kBatches) ledger->batches.Add(number.value);
    RestoreNamed(number, kDropped, kDropReasonNames, &ledger->dropped);
    RestoreNamed(number, kRepaired, kRepairReasonNames, &ledger->repaired);
    RestoreNamed(number, kEvent, kEventKindNames, &ledger->events);
  }
  ledger->Dropped(DropReason::kCrash).Add(Unaccounted(*ledger));
}

}  // namespace tallyd
