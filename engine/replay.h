/* PCR replay: the SHA-256 chains of many logs gathered, so that they can be computed side by side in lanes, whatever record and
 * PCR they belong to. Each log is walked once. Inside the engine only. */
#ifndef QM_REPLAY_H
#define QM_REPLAY_H

#include "codec/eventlog.h"
#include "codec/result.h"
#include "engine/kernel/kernel.h"
#include "engine/memo.h"

/* The smallest event with a SHA-256 digest: pcr, type, count, one algorithm, its digest, size. */
enum { QM_EVENT_SHA256_MIN = 4 + 4 + 4 + 2 + 32 + 4 };

struct qm_replay {
    size_t event_max, chain_max;
    size_t event_count; /* of the logs that wait to be run */
    size_t chain_count; /* since the reset; the chains before run_from are done and keep their values */
    size_t run_from;
    const uint8_t **digest;  /* by event, in log order */
    uint8_t *pcr;            /* by event */
    const uint8_t **grouped; /* the digests again, by chain */
    struct qm_chain *chain;
    struct qm_lane_use *use;
    struct qm_memo *memo; /* NULL: every chain is computed */
    uint64_t extends;     /* of the chains that were run */
    uint64_t remembered;  /* of these, what the memo knew */
};

/* One log's share. */
struct qm_replayed {
    uint32_t mask;      /* PCRs that were asked for */
    size_t first_chain; /* their chains, PCRs ascending */
};

size_t qm_replay_size(size_t log_bytes, size_t log_count);
/* memo (may be NULL) and use outlive the replay. */
void qm_replay_init(struct qm_replay *r, void *mem, size_t log_bytes, size_t log_count, struct qm_memo *memo, struct qm_lane_use *use);
void qm_replay_reset(struct qm_replay *r);
/* Is there room for a log of so many bytes beside those that wait? Always for one of QM_LOG_MAX after a run. */
bool qm_replay_fits(const struct qm_replay *r, size_t log_bytes);
/* Walks a log and lines up the chains of the PCRs in mask. QM_LOG_REPLAYED: they are lined up; else why not. */
enum qm_log_state qm_replay_add(struct qm_replay *r, struct qm_span log, uint32_t mask, struct qm_replayed *out);
/* Computes the chains that wait. */
void qm_replay_run(struct qm_replay *r, const struct qm_hash_kernel *kernel);
/* The replayed value of a PCR in out->mask, once run; lives until the next reset. */
const uint8_t *qm_replay_value(const struct qm_replay *r, const struct qm_replayed *out, unsigned pcr);

/* The rare banks, one chain after the other: replays the PCRs in mask of any bank into value. False: the log does not announce the
 * bank, is malformed, or an event of those PCRs has no digest of it. */
bool qm_replay_bank(struct qm_span log, enum qm_hash hash, uint32_t mask, uint8_t value[QM_PCR_COUNT][QM_DIGEST_MAX]);

#endif
