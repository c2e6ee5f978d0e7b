/* Shared by the files that take enrolments: store_enroll.c writes them, store_objection.c says what speaks against one. */
#ifndef QM_STORE_ENROLL_INSIDE_H
#define QM_STORE_ENROLL_INSIDE_H

#include "tools/store/store_inside.h"
#include "tools/weaker.h"

/* The instance as it is. */
struct store_present {
    bool found;
    uint64_t slot, ak;
};

enum store_objection { STORE_NO_OBJECTION, STORE_OTHER_KEY, STORE_AK_OF_OTHER, STORE_EK_OF_OTHER, STORE_WEAKER };
/* slot: whose place is disputed, or is to be weakened. */
struct store_dispute {
    enum store_objection what;
    uint64_t slot;
    char why[QM_WEAKER_MAX];
};

/* Looks for what speaks against an enrolment; QM_E_REFUSED with it. A ceremony proves one TPM for one id, so there keys and EKs are one
 * id's; a line of a file may share an AK, and may weaken its instance: then it is only said in *d. ak: the number of its key. */
qm_err store_object(struct qm_store *s, const struct qm_enrolment *e, const struct qm_enroll_options *options,
                    const struct store_present *present, uint64_t ak, struct store_dispute *d, struct qm_fault *fault) QM_MUST_USE;
/* What stays of a refusal once its line is undone: an alert, or a note that the instance was not weakened. proposed: its TPM has not been
 * asked yet. */
qm_err store_dispute_keep(struct qm_store *s, const struct qm_enrolment *e, const struct qm_proven *proven, bool proposed,
                          const struct store_dispute *d, struct qm_fault *fault) QM_MUST_USE;
/* In the history of the instance: what it was weakened in, or was not (the same refusal once), and what a person said for it. */
qm_err store_enrolment_note(struct qm_store *s, const struct qm_enrolment *e, const struct store_dispute *d, const char *reason, bool taken,
                            struct qm_fault *fault) QM_MUST_USE;

static inline void store_bind_id(sqlite3_stmt *st, int at, const struct qm_enrolment *e)
{
    sqlite3_bind_text(st, at, (const char *)e->id, (int)e->id_len, SQLITE_STATIC);
}

#endif
