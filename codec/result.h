/* Result records (contract, section 4): what is said of one evidence record, and of a run. */
#ifndef QM_RESULT_H
#define QM_RESULT_H

#include "codec/base.h"
#include "codec/text.h"

/* A zeroed result is the worst one: invalid, malformed, nothing checked. */
enum qm_status { QM_INVALID, QM_UNTRUSTED, QM_NEW, QM_TRUSTED, QM_DUPLICATE, QM_STATUS_COUNT };
enum qm_reason {
    QM_MALFORMED,
    QM_UNKNOWN_INSTANCE,
    QM_NOT_A_QUOTE,
    QM_BAD_SIGNATURE,
    QM_WRONG_SELECTION,
    QM_STALE_NONCE,
    QM_DUPLICATE_RECORD,
    QM_REPLAYED,
    QM_PCR_MISMATCH,
    QM_PCR_VALUES_MISSING,
    QM_LOG_REQUIRED,
    QM_NO_BASELINE,
    QM_LEARNED,
    QM_ALL_GOOD,
    QM_REASON_COUNT
};
enum qm_log_state {
    QM_LOG_NOT_CHECKED,
    QM_LOG_ABSENT,
    QM_LOG_IS_MALFORMED,
    QM_LOG_UNREPLAYABLE,
    QM_LOG_INCONSISTENT,
    QM_LOG_REPLAYED,
    QM_LOG_STATE_COUNT
};
/* What speaks for a quote being made recently; where state is kept. */
enum qm_fresh { QM_FRESH_UNKNOWN, QM_FRESH_CLOCK, QM_FRESH_BEACON, QM_FRESH_NONCE, QM_FRESH_COUNT };
enum qm_stage_state { QM_STAGE_UNKNOWN, QM_STAGE_PASS, QM_STAGE_FAIL, QM_STAGE_NOT_REACHED, QM_STAGE_STATE_COUNT };

const char *qm_status_name(enum qm_status s);
const char *qm_reason_name(enum qm_reason r);
const char *qm_log_state_name(enum qm_log_state s);
const char *qm_stage_state_name(enum qm_stage_state s);
const char *qm_fresh_name(enum qm_fresh f); /* "" for UNKNOWN */
/* What a PCR stands for, as the field names it; PCR 0..23. */
const char *qm_stage_name(unsigned pcr);

struct qm_stage {
    uint8_t pcr;
    uint8_t state;           /* enum qm_stage_state */
    const uint8_t *measured; /* 32 bytes, only where proven; else NULL */
    const uint8_t *expected; /* 32 bytes, only where known; else NULL */
};

enum { QM_EVENT_TEXT_MAX = 1024 };

/* The first event of PCR first_fail that is not the one at the same place behind the expected value. Where the received log has
 * none there any more, type, text and proved are of the expected event. */
struct qm_event_diff {
    uint32_t index;         /* in the received log, the header included; where digest is NULL, the number of its events */
    uint32_t type;
    const uint8_t *digest;          /* 32 bytes; NULL: the received log has no such event any more */
    const uint8_t *expected_digest; /* 32 bytes; NULL: there is none there */
    struct qm_span text;    /* words for it, printable ASCII, at most QM_EVENT_TEXT_MAX bytes */
    bool proved;            /* the words' bytes hash to the digest */
};

struct qm_result {
    const char *run;        /* run id */
    const char *home;       /* the operator's name for the home; NULL or "": none */
    struct qm_span source;  /* file name, raw bytes */
    uint64_t off, len;      /* of the record in its source */
    struct qm_span id;      /* {NULL, 0} where none could be read */
    uint64_t count;         /* malformed records that share this result; 0: one of its own */
    uint64_t baseline;      /* generation of the baseline that decided; has_baseline */
    uint64_t clock_ms, firmware;
    uint64_t t_ms, checked_ms;
    uint32_t reset, restart;
    uint8_t status, reason, log;
    uint8_t stage_count;
    int8_t first_fail; /* PCR, -1: none */
    uint8_t safe;
    bool proven;      /* the stages' measured values are proven */
    bool has_attest;  /* attest is set */
    bool has_clock;   /* the signature verified: clock, reset, restart, safe, firmware are set */
    bool has_t;
    bool has_baseline;
    bool has_state;   /* state was kept: fresh and boots are set */
    bool has_event;   /* event is set */
    uint8_t fresh;    /* enum qm_fresh */
    uint32_t boots;   /* by how many the reset count moved */
    uint32_t set_a, set_b; /* accepted values it passes on or is nearest to (whole or the group's; the instance's), 0: none */
    uint32_t pair_mask;    /* PCRs that set_b is of; 0 where a stream does not say so. Not written */
    uint32_t beacon;  /* number of the beacon that extraData was made with; 0: none */
    uint64_t slot;    /* of the instance in the store; 0: not enrolled */
    struct qm_event_diff event;
    struct qm_span pcr_digest; /* the signed one; absent where the signature did not verify */
    uint8_t attest[32];        /* SHA-256 of the TPMS_ATTEST */
    struct qm_stage stage[QM_STAGE_COUNT];
};

struct qm_run {
    const char *run;
    const char *home; /* as in struct qm_result */
    uint64_t start_ms, end_ms;
    uint64_t files, records, bytes, generation;
    uint64_t by_status[QM_STATUS_COUNT];
    uint64_t by_reason[QM_REASON_COUNT];
    bool complete;
    const char *version;
    size_t kernel_count;
    struct {
        const char *what, *name;
    } kernel[12];
};

enum qm_format { QM_FORMAT_MSGPACK, QM_FORMAT_NDJSON };

/* No result is longer: 24 stages, 24 changes, an event, and a source of QM_SOURCE_MAX bytes every one of which is escaped. */
enum { QM_SOURCE_MAX = 8192, QM_RESULT_MAX = 64 * 1024 };

/* Append one record (NDJSON: a line). stages: say the stages of a trusted record too. out must have QM_RESULT_MAX bytes left. */
void qm_result_write(struct qm_out *out, const struct qm_result *r, enum qm_format format, bool stages);
/* The event that differs alone (r->has_event), as a JSON object. */
void qm_result_event_json(struct qm_out *out, const struct qm_result *r);
void qm_run_write(struct qm_out *out, const struct qm_run *r, enum qm_format format);

#endif
