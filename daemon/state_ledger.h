// The account of samples, from one process to the next.

#ifndef TALLYD_DAEMON_STATE_LEDGER_H_
#define TALLYD_DAEMON_STATE_LEDGER_H_

#include <string>
#include <vector>

#include "core/merge/saved_state.h"
#include "core/shard/ledger.h"
#include "daemon/own_metrics.h"

namespace tallyd {

// `listeners` are those of the totals, by their indices.
SavedLedger SaveLedger(const LedgerTotals& totals, const std::vector<ListenerInfo>& listeners);

// Adds a saved account to `ledger`. What came by a listener that is not in `listeners` any more is
// counted for the one with the index `former`. Samples that were received and are neither applied
// nor dropped, because their process ended in the midst of a batch, are dropped as `crash`: so the
// account balances again. Names that this version does not know are left out.
void RestoreLedger(const SavedLedger& saved, const std::vector<std::string>& listeners,
                   size_t former, Ledger* ledger);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_STATE_LEDGER_H_
