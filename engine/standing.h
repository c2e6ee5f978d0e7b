/* The status of an instance, as it is when it is read: the verdict of its newest authentic record, unless it fell silent. Never
 * stored: time alone changes it. Pure.
 *
 *   untrusted    stays so however long the machine is silent (stale says that it is)
 *   unmeasured   no authentic record for longer than unmeasured_after, and not held; whatever the last one said
 *   invalid      never an authentic record, but refused ones
 *   new          nothing to compare with yet, or nothing came yet
 *   trusted
 *
 * Read in this order. Silence is counted from the latest of: the newest authentic record, enrolment, the end of a hold, the end of
 * the last gap between runs. All by the verifier's clock; a time ahead of it counts as now. */
#ifndef QM_STANDING_H
#define QM_STANDING_H

#include "engine/ledger.h"

enum qm_standing_status {
    QM_STANDS_UNTRUSTED,
    QM_STANDS_UNMEASURED,
    QM_STANDS_INVALID,
    QM_STANDS_NEW,
    QM_STANDS_TRUSTED,
    QM_STANDS_COUNT
};

/* Why nothing authentic came. */
enum qm_silence {
    QM_SILENCE_NONE,     /* something did */
    QM_SILENCE_REFUSED,  /* records under this id arrive, and are refused (the ledger says why) */
    QM_SILENCE_FLEET,    /* nothing authentic from anyone */
    QM_SILENCE_INSTANCE, /* nothing from it */
    QM_SILENCE_HELD,     /* a person parked it: it is silent, and may be */
    QM_SILENCE_COUNT
};

/* What the entry itself does not say. */
struct qm_standing_times {
    uint64_t now_ms;
    uint64_t gap_end_ms;          /* end of the last gap between runs that was longer than half of unmeasured_after; 0: none */
    uint64_t unmeasured_after_ms; /* 0: never */
    bool fleet_silent;            /* no run of the last unmeasured_after took in an authentic record, from anyone */
};

struct qm_standing {
    uint8_t status;    /* enum qm_standing_status */
    uint8_t silence;   /* enum qm_silence */
    bool stale;        /* silent for too long, and the status says something else */
    bool held;
    uint64_t since_ms; /* what silence is counted from */
};

struct qm_standing qm_standing_of(const struct qm_ledger *l, const struct qm_standing_times *t);

const char *qm_standing_name(enum qm_standing_status s); /* "unmeasured" */
const char *qm_silence_name(enum qm_silence s);          /* "nothing_from_it"; "" for NONE */
/* What goes with the status in one word: the verdict's reason, why an unmeasured one is silent, why an invalid one was refused;
 * "no_record" for a new one that sent nothing yet. */
const char *qm_standing_reason(const struct qm_ledger *l, const struct qm_standing *s);

#endif
