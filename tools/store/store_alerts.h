/* Alerts in the store (contract, section 5): opened, repeated, closed, decided. Part of the store.
 *
 * A change is what an alert is about, once by content: for pcr_mismatch the whole list of (PCR,
 * expected, measured). An alert is one machine's narrow row beside it, so a hundred thousand
 * machines with one change stay cheap. A cohort is a change: it is of one group (change.grp; 0 for
 * machines without one), one kind of alert and compared in full.
 *
 * change.items: triples of (PCR as one byte, expected 32, measured 32), ascending, or for
 * pcr_mismatch without proven values the signed pcrDigest alone. change.key: SHA-256 over kind,
 * class and items (or what makes another kind's change). change.name: the contract's `change`:
 * first 16 hex digits of SHA-256 over the triples, or over the digest; '' for other alerts; 'many'.
 */
#ifndef QM_STORE_ALERTS_H
#define QM_STORE_ALERTS_H

#include "codec/text.h"
#include "tools/store/store_sets.h"

/* Numbers are on disk. */
enum qm_alert_kind {
    QM_ALERT_PCR_MISMATCH = 0,
    QM_ALERT_PCR_VALUES_MISSING = 1,
    QM_ALERT_LOG_REQUIRED = 2,
    QM_ALERT_LOG_INCONSISTENT = 3,
    QM_ALERT_REPLAYED = 4,
    QM_ALERT_CLONED_OR_ROLLED_BACK = 5,
    QM_ALERT_TPM_STATE = 6,
    QM_ALERT_HELD_BACK = 7,
    QM_ALERT_NO_BASELINE = 8,
    QM_ALERT_KEY_CONFLICT = 9,
    QM_ALERT_UNMEASURED = 10,
    /* one row for each reason and source: checks 1 to 7 */
    QM_ALERT_MALFORMED = 16,
    QM_ALERT_UNKNOWN_INSTANCE = 17,
    QM_ALERT_NOT_A_QUOTE = 18,
    QM_ALERT_BAD_SIGNATURE = 19,
    QM_ALERT_WRONG_SELECTION = 20,
    QM_ALERT_STALE_NONCE = 21,
};
const char *qm_alert_kind_name(enum qm_alert_kind k); /* "pcr_mismatch"; NULL for numbers that are none */
enum qm_alert_state { QM_ALERT_OPEN, QM_ALERT_IGNORED, QM_ALERT_ACCEPTED, QM_ALERT_RESOLVED };
const char *qm_alert_state_name(enum qm_alert_state s);

enum {
    QM_ALERTS_ALONE_MAX = 8, /* open or ignored rows of one (instance, alert); what is over is one row, "many" */
    /* Rows of one (instance, alert) opened within 24 hours and closed again; what is over is that one row too. Without it a machine
     * that differs and passes in turns makes a row for every two quotes of its TPM. */
    QM_ALERTS_A_DAY_MAX = 16,
};

struct qm_change_item {
    uint8_t pcr;
    uint8_t expected[32], measured[32];
};

struct qm_alert_new {
    enum qm_alert_kind kind;
    uint64_t slot; /* 0: of the home, or of a group as a whole (group_no) */
    uint32_t group_no;
    enum qm_set_kind set_kind;         /* pcr_mismatch: which class of PCRs the items are of; WHOLE: all of them */
    const struct qm_change_item *item; /* pcr_mismatch, ascending; item_count 0: nothing is proven, then digest */
    unsigned item_count;
    struct qm_span digest;  /* the signed pcrDigest */
    struct qm_span subject; /* other kinds: what tells two changes of one machine apart; may be empty */
    const char *detail;     /* JSON object of this machine's row, as text; NULL */
    const char *event;      /* JSON object: the first event that differs, as in results; NULL */
    uint64_t at_ms;         /* verifier's time of the record */
    unsigned alone_max;     /* so many rows of the machine and kind, and it gets none of its own; 0: QM_ALERTS_ALONE_MAX */
    bool apart;             /* not what anybody meant who ignored the row for many: where it would go there, it opens another */
    bool quiet;             /* a row that stands already is not moved: the record was counted before */
    uint32_t restarts;      /* reset count of the machine, for ignored ones that end when it restarted */
};
struct qm_alert_raised {
    uint64_t no;     /* of the alert */
    uint64_t change; /* of the change, for the ledger; where the row is "many", what it differs in
                        now all the same */
    bool opened;     /* a new row; else a repeat */
    enum qm_alert_state state;
};
/* Inside a transaction. Opens a row, or moves last_seen and count of the open or ignored one of the
 * same (slot, kind, change). */
qm_err qm_alert_raise(struct qm_store *s, const struct qm_alert_new *a, struct qm_alert_raised *out,
                      struct qm_fault *fault) QM_MUST_USE;
/* The number of the open or ignored row that a would move; 0: it would open one. */
qm_err qm_alert_standing(struct qm_store *s, const struct qm_alert_new *a, uint64_t *no, struct qm_fault *fault) QM_MUST_USE;
/* The machine passes what these kinds are about (bits 1 << kind): open rows are resolved; ignored
 * ones too, when the machine restarted (its reset count is not the row's). *left: open or ignored
 * rows of the machine that stay, of any kind; *closed: rows that were resolved now. */
qm_err qm_alert_resolve(struct qm_store *s, uint64_t slot, uint32_t kinds, uint64_t at_ms, uint32_t restarts, uint64_t *left,
                        uint64_t *closed, struct qm_fault *fault) QM_MUST_USE;
/* Rows without a machine (slot NULL), by kind, group and subject. */
qm_err qm_alert_resolve_shared(struct qm_store *s, enum qm_alert_kind kind, uint32_t group_no, struct qm_span subject,
                               uint64_t at_ms, uint64_t *closed, struct qm_fault *fault) QM_MUST_USE;

/* The machine was taken out: what is open of it is over, and nobody need look at it. */
qm_err qm_alert_retire(struct qm_store *s, uint64_t slot, uint64_t at_ms, struct qm_fault *fault) QM_MUST_USE;

/* Records refused by checks 1 to 7, gathered over a run by (reason, source): source is the first
 * path part below the spool and the owner of the file, as text for people. Bounded: ids are
 * sketched, the first 20 kept. */
enum { QM_SKETCH_BYTES = 256, QM_REFUSED_IDS = 20 };
struct qm_refusals {
    enum qm_reason reason;
    const char *source;
    uint64_t count;
    uint64_t last_ms;
    uint8_t sketch[QM_SKETCH_BYTES]; /* HyperLogLog registers over the ids (qm_sketch_add) */
    struct qm_span id[QM_REFUSED_IDS];
    unsigned id_count;
};
void qm_sketch_add(uint8_t sketch[QM_SKETCH_BYTES], struct qm_span id);
/* At most so many such rows are open; what other sources bring beyond them shares a row for each reason. */
enum { QM_REFUSED_ROWS_MAX = 1024 };
#define QM_REFUSED_OTHERS "(other senders)"
uint64_t qm_sketch_estimate(const uint8_t sketch[QM_SKETCH_BYTES]);
qm_err qm_alert_refused(struct qm_store *s, const struct qm_refusals *r, bool *opened, struct qm_fault *fault) QM_MUST_USE;

/* At the end of a run: refusal rows that saw nothing for a day are closed, ignored rows whose until
 * has come are open again, resolved ones not looked at for 30 days count as seen, history older
 * than the policy is dropped (*dropped, counted; keep 0: none). */
qm_err qm_alerts_age(struct qm_store *s, uint64_t now_ms, uint64_t history_keep_ms, uint64_t *dropped,
                     struct qm_fault *fault) QM_MUST_USE;

/* ---- reading ------------------------------------------------------------------------------------------------------ */

struct qm_alert_filter {
    uint32_t states;                                     /* bits 1 << state; 0: all */
    bool unseen;                                         /* resolved pcr_mismatch rows that nobody looked at, and no others */
    uint64_t no;                                         /* 0: any */
    const char *kind, *id, *group, *tag_key, *tag_value; /* NULL: any */
    int pcr;                                             /* -1: any */
    uint64_t since_ms;                                   /* last seen at or after */
    uint64_t after_no; /* numbered higher: the alerts that a run opened (qm_alerts_last before it); 0 */
    bool history;      /* views have what people decided */
};

enum { QM_ALERT_HISTORY_MAX = 16, QM_REASON_MAX = 500 /* bytes that a person says for it */ };
struct qm_alert_view {
    uint64_t no, slot, change; /* slot 0: of the home or a group */
    enum qm_alert_kind kind;
    enum qm_alert_state state;
    enum qm_set_kind set_kind; /* pcr_mismatch: the class of its PCRs */
    bool seen;
    bool retired; /* the instance was taken out */
    uint64_t first_ms, last_ms, count;
    uint64_t closed_ms, until_ms, set_no; /* 0: none */
    struct qm_span id, group;             /* of no bytes: none */
    const char *home;                     /* what the home is called; "": nothing */
    const char *name;                     /* of the change, the contract's `change` */
    unsigned item_count;                  /* 0: nothing is proven, or another kind */
    struct qm_change_item item[QM_PCR_COUNT];
    struct qm_span digest;      /* the signed pcrDigest, where nothing is proven */
    const char *detail, *event; /* JSON objects; NULL */
    const char *source, *ids;   /* of a row of refusals: where from, JSON array of the first ids; NULL */
    uint64_t distinct;          /* and about how many ids */
    unsigned decision_count;    /* newest first; older ones beyond QM_ALERT_HISTORY_MAX are left out */
    struct qm_alert_decided {
        uint64_t at_ms, until_ms;
        char what[12], who[68];
        const char *why; /* "" none */
    } decision[QM_ALERT_HISTORY_MAX];
};
/* Anything but QM_OK ends it and is given back. What the view points at is valid until the visit
 * returns. */
typedef qm_err (*qm_alert_visit)(void *ctx, const struct qm_alert_view *a, struct qm_fault *fault);
/* In the order of their numbers. Alerts of instances that were taken out are left out, unless one
 * is asked for by its number. */
qm_err qm_alerts_each(struct qm_store *s, const struct qm_alert_filter *f, qm_alert_visit visit, void *ctx,
                      struct qm_fault *fault) QM_MUST_USE;
/* One by its number, history included. *found false: there is none. */
qm_err qm_alert_get(struct qm_store *s, uint64_t no, qm_alert_visit visit, void *ctx, bool *found,
                    struct qm_fault *fault) QM_MUST_USE;
/* The contract's object (section 5), one line. out has QM_ALERT_JSON_MAX bytes left. */
enum { QM_ALERT_JSON_MAX = 256 * 1024 };
void qm_alert_json(struct qm_out *out, const struct qm_alert_view *a);

/* Alerts of one change, as one line to look at. */
struct qm_cohort {
    struct qm_alert_view one;            /* the alert with the lowest number; without its history */
    uint64_t alerts, by_state[4], count; /* rows; repeats of all */
    uint64_t first_ms, last_ms, last_no;
    uint64_t until_ms; /* when the first of those that are ignored is open again; 0: they stay so */
};
typedef qm_err (*qm_cohort_visit)(void *ctx, const struct qm_cohort *c, struct qm_fault *fault);
/* The largest first. */
qm_err qm_cohorts_each(struct qm_store *s, const struct qm_alert_filter *f, qm_cohort_visit visit, void *ctx,
                       struct qm_fault *fault) QM_MUST_USE;

/* The highest number of an alert so far. */
qm_err qm_alerts_last(struct qm_store *s, uint64_t *no, struct qm_fault *fault) QM_MUST_USE;

#endif
