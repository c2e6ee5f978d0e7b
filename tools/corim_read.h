/* Reference values out of a Concise Reference Integrity Manifest (draft-ietf-rats-corim), as sets of PCR values.
 *
 * What is read: an unsigned corim-map (tag 501, alone or within 500), its CoMIDs (506), their reference triples. A CoMID is one set, since
 * values of different sets never mix. Which PCR a measurement is of: mkey, a number; or, in integrity-registers, the register's. Its value:
 * the digest by SHA-256 (1 or "sha-256" of the Named Information registry), others beside it are not looked at. Everything else that
 * stands for a value is refused and named, not passed over.
 *
 * The bytes are hostile: nothing is allocated, nothing recurses on input, and CBOR is nested to QM_CORIM_DEPTH at most. */
#ifndef QM_CORIM_READ_H
#define QM_CORIM_READ_H

#include "codec/cursor.h"
#include "codec/error.h"

enum { QM_CORIM_BYTES_MAX = 1024 * 1024, QM_CORIM_DEPTH = 16, QM_CORIM_SETS_MAX = 8, QM_CORIM_PCRS = 24, QM_CORIM_NAME_MAX = 128 };

struct qm_corim_set {
    char name[QM_CORIM_NAME_MAX]; /* the CoMID's tag-id and version, printable */
    uint32_t mask;                /* PCRs that have a value */
    uint8_t value[QM_CORIM_PCRS][32];
};

struct qm_corim {
    char name[QM_CORIM_NAME_MAX];              /* the CoRIM's id, printable */
    uint64_t not_before_ms, not_after_ms;      /* 0: not said */
    unsigned count;
    struct qm_corim_set set[QM_CORIM_SETS_MAX];
};

/* QM_E_REFUSED: it is no CoRIM, a signed one, or has something else than PCR values; fault says what. */
qm_err qm_corim_read(struct qm_span bytes, struct qm_corim *out, struct qm_fault *fault) QM_MUST_USE;

#endif
