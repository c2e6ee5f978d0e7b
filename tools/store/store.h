/* The store: fleet.db, an SQLite database in the home, is the truth that people edit; fleet.tbl is compiled from it.
 *
 *   HOME/fleet.db     instances, keys and their history, accepted sets
 *   HOME/fleet.tbl    the table that verify maps
 *   HOME/spool, results, quarantine, held
 *
 * A home is one when fleet.db exists: it is made last. sqlite3.h is included by the files of tools/store only (and json_read.c). */
#ifndef QM_STORE_H
#define QM_STORE_H

#include "tools/enrolment.h"

enum { QM_STORE_SCHEMA = 6 };

struct qm_store; /* used by one thread at a time */

/* Makes the home, or says that it is one already (*made false). What it began and could not finish is removed. */
qm_err qm_store_create(const char *home, bool *made, struct qm_fault *fault) QM_MUST_USE;

/* QM_E_IO: no home there, or not readable. QM_E_FORMAT: of a newer program, or damaged. */
qm_err qm_store_open(struct qm_store **out, const char *home, bool writable, struct qm_fault *fault) QM_MUST_USE;
void qm_store_close(struct qm_store *s);

uint64_t qm_store_generation(const struct qm_store *s); /* inside a changing transaction: the one it will have */
uint64_t qm_store_now_ms(const struct qm_store *s); /* the system's clock, read at open and at every begin */
const uint8_t *qm_store_home_id(const struct qm_store *s);

/* One transaction at a time; close without commit undoes it. */
qm_err qm_store_begin(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;
/* What fails did not happen, for good, and the transaction is over; but where that could not be made sure of, either. */
qm_err qm_store_commit(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;
bool qm_store_unsure(const struct qm_store *s); /* after a commit that failed: may it have happened all the same? */
/* A commit of its own, behind which none that failed before can come to light any more. */
qm_err qm_store_fence(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;
/* Writes to the log what the transaction changed so far, so that there is other work beside it, and less for the commit. */
qm_err qm_store_spill(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;
void qm_store_rollback(struct qm_store *s); /* nothing where no transaction is open */

/* A large commit copies what it logged into the file at once. After defer it leaves that to checkpoint, so that there is other
 * work beside the disk's; close then leaves the log where it is, so that no reader waits for it. checkpoint goes as far as no reader
 * needs the old pages, empties the log where nobody reads, and waits for nobody; what is left, or failed, a later commit does. */
void qm_store_defer_checkpoint(struct qm_store *s);
void qm_store_checkpoint(struct qm_store *s);

/* How a key earned its place; numbers are those of the names in ak_history.how. */
enum qm_how { QM_HOW_FILE, QM_HOW_CREDENTIAL, QM_HOW_CERTIFICATE };
const char *qm_how_name(enum qm_how how);

/* What stands behind an enrolment that was proven. Then an AK or EK that another id has, and what weakens its instance, is refused. */
struct qm_proven {
    enum qm_how how;
    bool has_ek;
    uint8_t ek[32];    /* its fingerprint */
    const char *bound; /* what said that it is this id's: "expected", "subject", "confirmed" */
    uint64_t anchor;   /* number of the CA's certificate that vouched for EK or AK (qm_store_anchor); 0: none did */
    bool allow_weaker;
    const char *reason; /* what a person says for that; NULL */
};

struct qm_enroll_options {
    bool replace_key;
    bool unique_keys;
    const struct qm_proven *proven; /* NULL: a line of a file, which replaces what was there (contract, section 2) */
    uint64_t *weaker;               /* counts what was taken though it weakens its instance; may be NULL */
};
enum qm_enrolled { QM_ENROLLED_SAME, QM_ENROLLED_NEW, QM_ENROLLED_CHANGED, QM_ENROLLED_KEY_REPLACED, QM_ENROLLED_COUNT };

/* Is this line the one last taken for its id? */
qm_err qm_store_line_known(struct qm_store *s, const struct qm_enrolment *e, const uint8_t line_digest[32], bool *known,
                           struct qm_fault *fault) QM_MUST_USE;
/* Takes a checked enrolment, inside a transaction. QM_E_REFUSED with the reason. */
qm_err qm_store_enroll(struct qm_store *s, const struct qm_enrolment *e, const uint8_t line_digest[32],
                       const struct qm_enroll_options *options, enum qm_enrolled *what, struct qm_fault *fault) QM_MUST_USE;
/* Would it be taken as things stand? Leaves everything as it is, but for the alert that a conflict raises. */
qm_err qm_store_enroll_check(struct qm_store *s, const struct qm_enrolment *e, const struct qm_enroll_options *options,
                             struct qm_fault *fault) QM_MUST_USE;
/* How many instances have an AK that another id has too. */
qm_err qm_store_shared_keys(struct qm_store *s, uint64_t *count, struct qm_fault *fault) QM_MUST_USE;
qm_err qm_store_count(struct qm_store *s, uint64_t *instances, struct qm_fault *fault) QM_MUST_USE;
/* Names that somebody gave, NULL for none: QM_E_USAGE with words for the first that this home has never had. For answers that are
 * empty: they say that nothing is wrong, and a wrong name is no reason to. */
qm_err qm_store_known(struct qm_store *s, const char *id, const char *group, const char *run, struct qm_fault *fault) QM_MUST_USE;
/* Something is about to be set for a group: says so on standard error where no machine was ever of it. It may be one to come, or a typing
 * error. */
void qm_group_tell(struct qm_store *s, const char *command, const char *group);

/* Compiles and publishes the table, unless the one that is there is of this home and generation and sound. *built says whether
 * it was. */
qm_err qm_store_publish(struct qm_store *s, bool *built, struct qm_fault *fault) QM_MUST_USE;

/* home/name into path. QM_E_LIMIT when it does not fit. */
qm_err qm_home_file(char *path, size_t cap, const char *home, const char *name, struct qm_fault *fault) QM_MUST_USE;

#endif
