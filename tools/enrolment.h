/* The enrolment record, version 1 (contract, section 2): one line of NDJSON, read and checked in full. */
#ifndef QM_ENROLMENT_H
#define QM_ENROLMENT_H

#include "engine/kernel/key.h"
#include "engine/table.h"
#include "tools/json_read.h"
#include "tools/line_read.h"

enum { QM_GROUP_MAX = 128, QM_TAGS_MAX = 16 * 1024, QM_AK_MAX = 8 * 1024 };

struct qm_enrolment {
    uint8_t id[QM_ID_MAX];
    size_t id_len;
    struct qm_profile profile; /* scheme, hash, select, baselined: defaults filled in */
    uint8_t nonce[QM_NONCE_MAX];
    size_t nonce_len;
    bool has_nonce;
    bool require_log;
    bool has_group;
    uint8_t group[QM_GROUP_MAX];
    size_t group_len;
    char tags[QM_TAGS_MAX]; /* the JSON object as it came; tags_len 0: none */
    size_t tags_len;
    uint32_t baseline_mask; /* 0: no baseline in the line; else exactly profile.baselined */
    uint8_t baseline[QM_PCR_COUNT][32]; /* by PCR */
    uint8_t key_digest[32];  /* of kind and numbers: the same key in any encoding has the same */
    _Alignas(QM_CACHE_LINE) uint8_t key[QM_KEY_BYTES_MAX]; /* struct qm_key */
};

static inline const struct qm_key *qm_enrolment_key(const struct qm_enrolment *e)
{
    return (const struct qm_key *)(const void *)e->key;
}

/* Reads what must be known first: the id. QM_E_REFUSED with the reason for a line that is no object or has no good id. */
qm_err qm_enrolment_id(struct qm_json *json, const char *line, size_t len, struct qm_enrolment *out, struct qm_fault *fault)
    QM_MUST_USE;
/* Reads everything. QM_E_REFUSED with the reason. */
qm_err qm_enrolment_read(struct qm_json *json, const char *line, size_t len, struct qm_enrolment *out, struct qm_fault *fault)
    QM_MUST_USE;
/* Reads what an operator gives to machines of a group: a record without id, ak and scheme. QM_E_REFUSED with the reason. */
qm_err qm_enrolment_defaults(struct qm_json *json, const char *line, size_t len, struct qm_enrolment *out, struct qm_fault *fault)
    QM_MUST_USE;

/* What an AK's text says: PEM SubjectPublicKeyInfo, or base64 of TPM2B_PUBLIC or TPMT_PUBLIC (ak_read.c, the one place where
 * OpenSSL parses keys). scheme and hash are the TPMT's own, 0 where it has none. The made key goes to out->key. */
struct qm_ak {
    uint8_t scheme; /* enum qm_scheme, QM_SCHEME_NONE: none of its own */
    uint8_t hash;   /* enum qm_hash */
};
qm_err qm_ak_read(struct qm_span text, struct qm_ak *ak, struct qm_enrolment *out, struct qm_fault *fault) QM_MUST_USE;

#endif
