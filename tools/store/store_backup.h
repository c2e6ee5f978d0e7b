/* A home's copy in one file, and the way back. Store and ledger are one database, so a copy is of one moment and one generation, whatever
 * runs write meanwhile. Part of the store. */
#ifndef QM_STORE_BACKUP_H
#define QM_STORE_BACKUP_H

#include "tools/store/store.h"

struct qm_backup {
    uint64_t instances, generation, bytes;
    uint64_t made_ms; /* 0: a database that backup did not make, such as the copy that a migration keeps */
    uint64_t runs;
    int schema;
};

/* Writes the copy beside file, syncs it, and renames it: file is a whole copy or what it was before. Only its owner can read it.
 * QM_E_USAGE where file is the store itself, or another file that the home works with. */
qm_err qm_store_backup(struct qm_store *s, const char *file, struct qm_backup *out, struct qm_fault *fault) QM_MUST_USE;

/* Is file a sound copy that this program can use? Reads all of it. QM_E_FORMAT with the reason. */
qm_err qm_backup_check(const char *file, struct qm_backup *out, struct qm_fault *fault) QM_MUST_USE;

/* Puts a checked copy in the place of what the home has, in one transaction that others see whole or not at all, and publishes the
 * table. Makes the home where there is none. force: also over a store that has instances, or is damaged (which is put aside). The
 * generation moves on from whichever is higher, so that no older table is taken for the new one. QM_E_USAGE where file is this home's store.
 * Whoever calls holds the run lock; *out is the check's, and gets the new generation. */
qm_err qm_store_restore(const char *home, const char *file, bool force, struct qm_backup *out, struct qm_fault *fault) QM_MUST_USE;

/* After a run: where this is the first one since a backup was restored, says on standard error what could be replayed. */
void qm_restored_tell(struct qm_store *s, const char *command);

/* What machines sent between the backup and its restoring is forgotten, so it would be taken for new once more. */
struct qm_restored {
    bool pending;         /* no run has said so yet */
    uint64_t backup_ms, restored_ms;
    uint64_t machines;    /* that have a sequence to go back behind */
};
qm_err qm_store_restored(struct qm_store *s, struct qm_restored *out, struct qm_fault *fault) QM_MUST_USE;
/* Inside a transaction: a run said it. */
qm_err qm_store_restored_said(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;

#endif
