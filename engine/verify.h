/* The engine: a batch of evidence records in, one result for each out. A pure function of (records, table, time): no files, no
 * threads, no allocation, so every machine gives the same answer.
 *
 * The way of a batch (contract, section 3): ids looked up side by side -> structure, selection, nonce -> digests of all
 * attests -> all signatures by class -> reported PCR values -> all PCR chains -> replayed PCR values -> comparison. Cheap
 * checks come first; nothing of a record whose signature failed is replayed. */
#ifndef QM_VERIFY_H
#define QM_VERIFY_H

#include "codec/evidence.h"
#include "codec/result.h"
#include "engine/kernel/kernel.h"
#include "engine/table.h"

enum {
    QM_VERIFY_BATCH = 64,                                /* records a call */
    QM_VERIFY_LOG_BYTES = QM_RECORD_MAX,                 /* log bytes that are replayed side by side; more go in turns */
};

/* One record as it was framed. Where framing or reading failed, evidence.malformed is set. */
struct qm_record {
    struct qm_evidence evidence;
    struct qm_span source; /* name of the file */
    uint64_t off, len;     /* in the source */
    uint64_t count;        /* malformed records that this one stands for; 0: itself */
    const char *bad_file;  /* why its file is not worth another look, constant text; NULL: it is not said to be bad */
};

/* A quote made after it carries SHA-256("quotemill-beacon-v1" || value || id) as its extraData. */
struct qm_beacon {
    uint32_t no;
    uint8_t value[QM_BEACON_SIZE];
};

struct qm_verify_options {
    const char *run;         /* run id; outlives the verifier */
    uint64_t audit;          /* one in so many valid signatures is checked again by the oracle; 0: none */
    const struct qm_beacon *beacon; /* those that are accepted, newest first; outlive the verifier */
    unsigned beacon_count;   /* at most QM_BEACONS_MAX */
    bool no_memo;            /* compute every PCR chain, known or not */
};

/* What happened in a verifier since it was made. */
struct qm_verify_stats {
    uint64_t signatures, signatures_rechecked, signatures_audited;
    uint64_t extends, extends_remembered; /* PCR extends of the logs; of these, not computed again */
    struct qm_lane_use lanes; /* of the PCR chains */
};

struct qm_verifier;

/* Bytes of memory, 64-byte aligned, that a verifier takes. */
size_t qm_verifier_size(const struct qm_kernels *kernels);
/* Places a verifier in mem. table and kernels outlive it. One thread at a time. */
qm_err qm_verifier_init(struct qm_verifier **out, void *mem, const struct qm_table *table, const struct qm_kernels *kernels,
                        const struct qm_verify_options *options, struct qm_fault *fault) QM_MUST_USE;
/* Judges count records (at most QM_VERIFY_BATCH). results[i] belongs to records[i] and points into the record, the table and the
 * verifier: valid until the next call. Errors are the environment's (QM_E_FORMAT: damaged table; QM_E_SELFTEST: a kernel and
 * the oracle disagree; QM_E_CRYPTO): then no result may be used. */
qm_err qm_verify(struct qm_verifier *v, const struct qm_record *records, size_t count, uint64_t now_ms, struct qm_result *results,
                 struct qm_fault *fault) QM_MUST_USE;
const struct qm_verify_stats *qm_verifier_stats(const struct qm_verifier *v);
void qm_verifier_close(struct qm_verifier *v);

#endif
