/* What every room of the house uses: spans of bytes, attributes, and the caps of the contract.
 *
 * A span borrows: it never owns the bytes, and its owner is named where the span is handed out. An absent value
 * is {NULL, 0}; a present value of no bytes has a pointer. */
#ifndef QM_BASE_H
#define QM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define QM_MUST_USE      __attribute__((warn_unused_result))
#define QM_PRINTF(f, a)  __attribute__((format(printf, f, a)))
#define QM_LIKELY(x)     __builtin_expect(!!(x), 1)
#define QM_UNLIKELY(x)   __builtin_expect(!!(x), 0)
#define QM_COUNT(a)      (sizeof(a) / sizeof((a)[0]))
#define QM_CACHE_LINE    64u

struct qm_span {
    const uint8_t *p;
    size_t len;
};

static inline bool qm_span_eq(struct qm_span a, struct qm_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

/* One past the last byte; an absent span's own null pointer (to which even 0 may not be added). */
static inline const uint8_t *qm_span_end(struct qm_span s)
{
    return s.len != 0 ? s.p + s.len : s.p;
}

static inline size_t qm_align_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

/* Caps. Each is tested at one below, at and one above. */
enum {
    QM_PCR_COUNT = 24,              /* PC Client platform TPM profile: PCR 0..23 */
    QM_STAGE_COUNT = 24,            /* at most one stage a PCR */
    QM_BANK_MAX = 4,                /* sha1, sha256, sha384, sha512 */
    QM_ID_MAX = 128,                /* bytes of an instance id */
    QM_AGENT_MAX = 64,              /* bytes */
    QM_QUOTE_MAX = 2 * 1024,        /* bytes of a TPMS_ATTEST */
    QM_SIG_MAX = 2 * 1024,          /* bytes of a TPMT_SIGNATURE */
    QM_LOG_MAX = 4 * 1024 * 1024,   /* bytes of an event log */
    QM_RECORD_MAX = 8 * 1024 * 1024,/* bytes of an evidence record */
    QM_RECORD_KEYS_MAX = 64,        /* keys of an evidence record's map */
    QM_NESTING_MAX = 8,             /* the record's own map is level 1 */
    QM_MALFORMED_ALONE_MAX = 1000,  /* malformed records of one file that have a result of their own */
    QM_SELECTION_MAX = 16,          /* TPML_PCR_SELECTION entries */
    QM_SELECT_BYTES_MAX = 4,        /* sizeofSelect */
    QM_DIGEST_MAX = 64,             /* SHA-512 */
    QM_NONCE_MAX = 255,             /* bytes of extraData that can be expected; a TPM gives at most 66 */
    QM_SET_MAX = 8,                 /* live accepted sets of one kind */
    QM_SETS_MAX = 8 + 8 * 16,       /* sets that one instance can pass on: whole ones, and pairs of the group's and what is its own */
};
enum { QM_BEACON_SIZE = 32, QM_BEACONS_MAX = 8 }; /* bytes; live at a time: beacon_life over beacon_period */
#define QM_FILE_MAX (4ull << 30) /* bytes of a spool file */

#endif
