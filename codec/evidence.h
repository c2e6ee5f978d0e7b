/* The evidence record, version 1 (contract, section 1): one msgpack map from a collector. Reading is one pass over borrowed
 * bytes; nothing is copied or allocated, nothing recurses, and no loop or length is believed before it was checked against
 * what is left.
 *
 * Framing and judging are kept apart: a record that breaks a rule but ends where it should is malformed and the next one is
 * read; a record whose end cannot be found loses what follows it. */
#ifndef QM_EVIDENCE_H
#define QM_EVIDENCE_H

#include "codec/base.h"
#include "codec/tpm2.h"

struct qm_evidence {
    struct qm_span record; /* the whole map; len is its encoded length */
    struct qm_span id;     /* {NULL, 0} where it could not be read */
    struct qm_span quote;
    struct qm_span sig;
    struct qm_span log; /* absent: p is NULL. Present and of no bytes: p is set */
    struct qm_span pcrs; /* the value of "pcrs", a checked map; absent: p is NULL */
    uint64_t t_ms;
    bool has_t;
    bool malformed;
    uint32_t pcr_mask[QM_HASH_COUNT]; /* which PCRs "pcrs" holds, by enum qm_hash */
};

enum qm_frame {
    QM_FRAME_RECORD, /* a record was read; out->malformed says whether it keeps the rules */
    QM_FRAME_MORE,   /* the bytes end inside a record, and QM_RECORD_MAX of them were not given yet */
    QM_FRAME_OVER,   /* a record longer than QM_RECORD_MAX: malformed; its end is found with a qm_skip from its start */
    QM_FRAME_LOST,   /* no map starts here: where the next record begins cannot be known */
};

/* Reads one record at the start of bytes (at least one byte). MORE at the end of a source means that it is cut short: lost. */
enum qm_frame qm_evidence_read(struct qm_span bytes, struct qm_evidence *out);

/* The values of one bank of e->pcrs: values[i] points at PCR i's value for the bits of e->pcr_mask[bank], the rest is not
 * written (QM_PCR_COUNT pointers of room). e must not be malformed. */
void qm_evidence_pcrs(const struct qm_evidence *e, enum qm_hash bank, const uint8_t **values);

/* Finds the end of one msgpack value that comes in pieces. Start with {.pending = 1}. */
struct qm_skip {
    uint64_t pending; /* values still to come */
    uint64_t raw;     /* bytes of a string or bin still to come */
};
/* Goes over bytes. RECORD: the value ends after *used bytes. MORE: all were used but at most eight, which are to be given again
 * in front of the next piece. LOST: a byte that msgpack does not know. */
enum qm_frame qm_skip_step(struct qm_skip *s, struct qm_span bytes, size_t *used);

#endif
