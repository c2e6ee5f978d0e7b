/* An event log as a person looks at it: every event kept, every bank replayed, and whether the data
 * of each event hashes to its digest. The verifier's own replay (engine/replay.h) keeps none of
 * this. */
#ifndef QM_LOG_READ_H
#define QM_LOG_READ_H

#include "codec/error.h"
#include "codec/eventlog.h"

struct qm_log_view {
    struct qm_log log;
    bool opened; /* the header could be read: log.format and log.bank count */
    bool malformed;
    size_t malformed_at; /* byte offset */
    bool unreplayable;   /* no SHA-256 bank, or an event that extends without that digest */
    size_t event_count;  /* the whole ones, up to the damage */
    size_t data_max;     /* bytes of the longest data */
    struct qm_log_starts starts;
    uint32_t shown[QM_HASH_COUNT];   /* PCRs that are replayed, by bank: an event extends them, or
                                        they do not start at zero */
    uint32_t lacking[QM_HASH_COUNT]; /* PCRs that cannot be: an event extends them without that
                                        bank's digest */
    uint8_t value[QM_HASH_COUNT][QM_PCR_COUNT][QM_DIGEST_MAX];
};

/* bytes are borrowed and stay in use. */
void qm_log_view_init(struct qm_log_view *v, struct qm_span bytes);
/* "ok", "unreplayable", "malformed" */
const char *qm_log_view_status(const struct qm_log_view *v);

/* Reads a whole log, "-" being standard input: to its end, since what the kernel exposes has size
 * 0. Gives malloced bytes. Over QM_LOG_MAX: QM_E_LIMIT; else as qm_file_open. */
qm_err qm_log_file_read(const char *path, uint8_t **bytes, size_t *len,
                        struct qm_fault *fault) QM_MUST_USE;

#endif
