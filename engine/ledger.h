/* The ledger: what is remembered of one instance from run to run, and check 8 (contract, section 3), which needs it: not seen
 * before, and newer than what was seen. Pure functions over one entry; the store keeps the entries.
 *
 * An entry is written after every run for every instance that sent something, so it is small, of one size, and lies in the
 * database as it lies in memory (31 of them fill a page). Enrolment makes it, taking an instance out makes it all zero again; so
 * whoever goes over the ledger sees the whole fleet.
 *
 * Times are the verifier's, ms since the epoch; 0: never. TPM clocks are ms of the TPM (TPMS_CLOCK_INFO, Library part 2,
 * 10.11.1). Whoever changes the layout changes QM_STORE_SCHEMA. */
#ifndef QM_LEDGER_H
#define QM_LEDGER_H

#include "codec/result.h"

struct qm_sequence {
    uint64_t clock_ms;
    uint32_t reset;
    uint32_t restart;
};

enum { QM_LEDGER_RECENT = 16, QM_LEDGER_BLOCK = 31 };

/* How much a record proved; kept for each recent attest, so that a stripped copy cannot silence the whole one. */
enum { QM_PROOF_VALUES = 1 << 0, QM_PROOF_LOG = 1 << 1 };

enum qm_ledger_flag {
    QM_LEDGER_SEEN = 1 << 0,      /* `last` is set: an authentic record passed check 8 under the present key */
    QM_LEDGER_REFUSED = 1 << 1,   /* `refused` is set */
    QM_LEDGER_STATUS = 1 << 2,    /* status, reason, log, first_fail, set and change are of a record */
    QM_LEDGER_ALERTS = 1 << 3,    /* the store may have open or ignored alerts of this instance */
    QM_LEDGER_SAFE = 1 << 4,      /* of the newest record */
    QM_LEDGER_PROVEN = 1 << 5,    /* the newest record's values are proven: set and change give them */
    QM_LEDGER_RAISED_SILENT = 1 << 6, /* an `unmeasured` alert stands */
    QM_LEDGER_SILENT_MANY = 1 << 7,   /* in a row for many machines */
};

#define QM_LEDGER_NONCE_USED 0x80000000u

struct qm_ledger {
    struct qm_sequence last;    /* newest authentic record that passed check 8 */
    struct qm_sequence refused; /* newest record refused as replayed; stays while newer ones pass, as a clone speaks in turns */
    uint64_t recent[QM_LEDGER_RECENT]; /* ring of the last authentic attests: first 8 bytes of their SHA-256; 0: free */
    uint64_t authentic_ms;      /* when the newest authentic record that passed check 8 was verified */
    uint64_t good_ms;           /* when the newest trusted one was */
    uint32_t boot_first_s;      /* first record of the present (reset, restart): the verifier's time, s since the epoch */
    uint32_t refused_s;         /* when a record under this id was refused last (checks 1 to 8), s since the epoch */
    uint64_t boot_first_clock_ms; /* and its TPM clock */
    uint32_t recent_proof;      /* two bits for each of recent: QM_PROOF_* */
    uint32_t ak;                /* the store's number of the key that all of this is about */
    uint32_t set_a, set_b;      /* accepted values that the newest record passes on, or is nearest to: whole or the group's; the
                                 * instance's beside the group's (0: none). Numbers of pcr_values */
    uint32_t change[2];         /* on pcr_mismatch: what differs from them, numbers of change; 0: none */
    uint32_t group;             /* the store's number of the group, 0: none */
    uint32_t refused_count;     /* records under this id that were refused, ever */
    uint32_t boots;             /* boots seen by the reset count moving */
    uint32_t boots_silent;      /* boots that sent nothing */
    uint32_t beacon;            /* number of the newest beacon that a record carried */
    uint32_t enrolled_s;        /* s since the epoch; 0: no instance has this slot */
    uint32_t hold_until_s;      /* a person parked it until then (past: when the hold ended); 0: never held */
    uint32_t nonce;             /* a print of the nonce that is enrolled (0: none), QM_LEDGER_NONCE_USED once a record carried it */
    uint8_t flags;              /* enum qm_ledger_flag */
    uint8_t status, reason, log; /* of the newest record; enum qm_status ... */
    uint8_t first_fail;         /* PCR, 0xff: none */
    uint8_t fresh;              /* enum qm_fresh */
    uint8_t refused_reason;     /* enum qm_reason of the last refused record */
    uint8_t recent_next;        /* where the next attest goes */
};
_Static_assert(sizeof(struct qm_ledger) == 256, "on disk; 31 entries and a row's head fill a page of 8 KiB");

/* What check 8 needs of an authentic record. */
struct qm_sighting {
    struct qm_sequence at;
    uint64_t attest;    /* qm_attest_key of its SHA-256 */
    uint64_t checked_ms;
    uint8_t proof;      /* QM_PROOF_* */
    bool safe;
};

enum qm_order {
    QM_ORDER_NEWER,     /* passes */
    QM_ORDER_DUPLICATE, /* seen before, and proves no more than was recorded */
    QM_ORDER_IMPROVES,  /* seen before, but proves more: appraised from check 9 on; moves no clock, counts no repeat */
    QM_ORDER_REPLAYED,  /* not newer than what was seen */
};

struct qm_ordering {
    enum qm_order order;
    bool newest;        /* IMPROVES: it is the newest record, so its verdict is the instance's */
    uint32_t boots;     /* NEWER: by how many the reset count moved; 0 for the first record */
    bool tpm_state;     /* NEWER: the clock went back over a reset: cleared, or its state replaced */
    bool cloned;        /* REPLAYED, but newer than the last one refused: a second machine, or one put back, goes on */
    bool held_back;     /* NEWER: within one boot the verifier's time ran ahead of the TPM's by more than lag_after */
};

/* First 8 bytes, never 0. To be taken for a duplicate of another record, a machine would have to make its TPM sign 2^64 quotes. */
uint64_t qm_attest_key(const uint8_t sha256[32]);

/* By TPM time: <0, 0, >0. Reset and restart compare signed, mod 2^32. */
int qm_sequence_compare(const struct qm_sequence *a, const struct qm_sequence *b);

/* Where a record stands; changes nothing. lag_after_ms 0: held_back is never said. */
struct qm_ordering qm_ledger_order(const struct qm_ledger *l, const struct qm_sighting *s, uint64_t lag_after_ms);
/* Takes it in, as order said: NEWER and IMPROVES move recent, NEWER also the sequence; REPLAYED moves refused. */
void qm_ledger_take(struct qm_ledger *l, const struct qm_sighting *s, const struct qm_ordering *o);
/* A record that failed one of checks 1 to 8 is counted and changes nothing else. */
void qm_ledger_refuse(struct qm_ledger *l, enum qm_reason reason, uint64_t checked_ms);
/* The key changed: the sequence starts anew; status, counts and alerts stay. */
void qm_ledger_rekey(struct qm_ledger *l, uint32_t ak);
/* A person says that the machine goes on from here (a restored snapshot). */
void qm_ledger_restart(struct qm_ledger *l, const struct qm_sequence *at);

#endif
