/* The ledger's entries in the store: by slot, a block of 31 to a row. Part of the store. */
#ifndef QM_STORE_LEDGER_H
#define QM_STORE_LEDGER_H

#include "engine/ledger.h"
#include "tools/store/store.h"

/* The entry of a slot; all zero where nothing was written yet. */
qm_err qm_store_ledger_get(struct qm_store *s, uint64_t slot, struct qm_ledger *out, struct qm_fault *fault) QM_MUST_USE;
/* Inside a transaction. Cheapest in slot order: the block stays in hand until another one is asked for, or the transaction
 * ends (qm_store_commit writes it). */
qm_err qm_store_ledger_put(struct qm_store *s, uint64_t slot, const struct qm_ledger *entry, struct qm_fault *fault) QM_MUST_USE;

/* Goes over blocks in slot order, entries that were never written included (all zero). entry[i] is of slot first + i.
 * Anything but QM_OK from visit ends it and is given back. */
typedef qm_err (*qm_ledger_visit)(void *ctx, uint64_t first, const struct qm_ledger entry[QM_LEDGER_BLOCK], struct qm_fault *fault);
qm_err qm_store_ledger_each(struct qm_store *s, qm_ledger_visit visit, void *ctx, struct qm_fault *fault) QM_MUST_USE;

#endif
