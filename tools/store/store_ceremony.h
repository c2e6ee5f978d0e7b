/* Challenges of the enrolment ceremony, from the proposal to the enrolment or to their end. Part of the store.
 *
 *   made --answer--> used                       something says whose the EK is: enrolled at once
 *        --answer--> pending --confirm--> used  nothing does: a person
 *                            --reject--> rejected
 *
 * What is used or rejected stays until it expires, so that a second answer is told from one that never belonged here; then it is removed, as is one
 * that nobody answered or confirmed. One TPM has a few of each kind at most, so that it fills neither the table nor the list that a
 * person reads: newer challenges take the place of older ones, of the same EK and never of what was answered. Of the credential only
 * SHA-256(proof) is kept: whoever reads the home cannot answer. */
#ifndef QM_STORE_CEREMONY_H
#define QM_STORE_CEREMONY_H

#include "tools/ceremony/ceremony_read.h"
#include "tools/store/store.h"

enum {
    QM_CHALLENGES_MAX = 1000000, /* that have not expired */
    QM_CHALLENGES_OF_EK = 64,    /* that were made, and as many that are used, and that were rejected */
    QM_PENDING_OF_EK = 8,
};

enum qm_challenge_state { QM_CHALLENGE_MADE, QM_CHALLENGE_PENDING, QM_CHALLENGE_USED, QM_CHALLENGE_REJECTED }; /* numbers are on disk */

struct qm_challenge {
    uint64_t no;
    uint8_t name[QM_CHALLENGE_SIZE];
    struct qm_span id;
    enum qm_challenge_state state;
    uint8_t proof_digest[32]; /* SHA-256 over the right proof */
    uint8_t ek[QM_EK_FINGERPRINT_SIZE];
    const char *bound; /* what says that the EK is this id's, as in ak_history.bound; NULL: nothing does yet */
    struct qm_span line; /* the enrolment it brings */
    uint64_t anchor;     /* who vouched for the EK; 0: the operator's list alone */
    uint64_t made_ms, until_ms, answered_ms;
    const char *who; /* made it; set by the store */
};

/* The number of a CA's certificate, which stands once by content; of none: 0. Inside a transaction. */
qm_err qm_store_anchor(struct qm_store *s, const struct qm_anchor *a, uint64_t *no, struct qm_fault *fault) QM_MUST_USE;
/* The certificate of a number; of 0: none. */
qm_err qm_store_anchor_get(struct qm_store *s, uint64_t no, struct qm_anchor *out, struct qm_fault *fault) QM_MUST_USE;

/* All inside a transaction. */

/* QM_E_LIMIT: with so many more there would be more than QM_CHALLENGES_MAX. */
qm_err qm_store_challenges_room(struct qm_store *s, unsigned more, struct qm_fault *fault) QM_MUST_USE;
/* One for the same EK and enrolment that was not answered yet is replaced; so is the oldest where the EK has too many. */
qm_err qm_store_challenge_add(struct qm_store *s, const struct qm_challenge *c, struct qm_fault *fault) QM_MUST_USE;

/* What a visit is given is valid until it returns; it may change challenges. */
typedef qm_err (*qm_challenge_visit)(void *ctx, const struct qm_challenge *c, struct qm_fault *fault);
/* The one of that name, expired or not. *found false: there is none. */
qm_err qm_store_challenge_find(struct qm_store *s, const uint8_t name[QM_CHALLENGE_SIZE], qm_challenge_visit visit, void *ctx, bool *found,
                               struct qm_fault *fault) QM_MUST_USE;
/* Those that wait for a person, the oldest first. id absent: all of them; ek_prefix: bytes that the EK's fingerprint begins with. */
qm_err qm_store_challenges_pending(struct qm_store *s, struct qm_span id, struct qm_span ek_prefix, qm_challenge_visit visit, void *ctx,
                                   struct qm_fault *fault) QM_MUST_USE;

/* An answer was right, and a person is to confirm it until then; an older answer of the same TPM under the same id gives way. QM_E_REFUSED:
 * the TPM has answered under too many ids. */
qm_err qm_store_challenge_pend(struct qm_store *s, const struct qm_challenge *c, uint64_t until_ms, struct qm_fault *fault) QM_MUST_USE;
/* It brought its enrolment. */
qm_err qm_store_challenge_use(struct qm_store *s, uint64_t no, struct qm_fault *fault) QM_MUST_USE;
/* A person says that it must not; that is kept in the history of its id. reason: NULL: none. */
qm_err qm_store_challenge_reject(struct qm_store *s, const struct qm_challenge *c, const char *reason, struct qm_fault *fault) QM_MUST_USE;
/* Who rejected last what had waited under an id, as text to show; "": nobody did, or it has expired. */
enum { QM_WHO_SHOWN_MAX = 256 };
qm_err qm_store_challenge_rejecter(struct qm_store *s, struct qm_span id, struct qm_span ek_prefix, char who[QM_WHO_SHOWN_MAX],
                                   struct qm_fault *fault) QM_MUST_USE;

/* Removes what has expired; *gone, of those that nobody had used or rejected. At the end of a run, and before a ceremony. */
qm_err qm_store_challenges_age(struct qm_store *s, uint64_t *gone, struct qm_fault *fault) QM_MUST_USE;

#endif
