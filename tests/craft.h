/* Evidence made by hand, good and crooked: real keys and signatures through OpenSSL's EVP, attests,
 * event logs and records written byte by byte, so that nothing of the code under test takes part in
 * making them.
 *
 * Buffers grow and are freed by craft_free_all; running out of memory aborts. */
#ifndef QM_TEST_CRAFT_H
#define QM_TEST_CRAFT_H

#include <openssl/evp.h>

#include "engine/kernel/key.h"
#include "engine/table.h"

#define MUST(what)                                                                                 \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: %s failed\n", __FILE__, __LINE__, #what);                      \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ---- bytes ---- */

struct craft {
    uint8_t *p;
    size_t len, cap;
};
void craft_put(struct craft *c, const void *p, size_t len);
void craft_text(struct craft *c, const char *text);
void craft_fill(struct craft *c, uint8_t byte, size_t len);
void craft_be(struct craft *c, uint64_t v, unsigned bytes);
void craft_le(struct craft *c, uint64_t v, unsigned bytes);
void craft_2b(struct craft *c, const void *p, size_t len); /* TPM2B: 16-bit size in front */
static inline struct qm_span craft_span(const struct craft *c)
{
    return (struct qm_span){c->p, c->len};
}
/* The bytes moved to memory of exactly their length, so that the sanitizer sees a step too far. */
struct qm_span craft_exact(struct qm_span s);
void craft_free_all(void);

/* Numbers from a seed (the environment's QM_SEED, else the clock), printed. */
uint64_t craft_seed(const char *test);
uint64_t craft_random(uint64_t *state);

/* ---- msgpack, in any width ---- */

void craft_map(struct craft *c, uint32_t pairs);
void craft_str(struct craft *c, const char *text);
void craft_strn(struct craft *c, const void *p, size_t len);
void craft_bin(struct craft *c, struct qm_span bytes);
void craft_uint(struct craft *c, uint64_t v);
/* head is the type byte, then the length or value in width bytes, then the payload. */
void craft_raw(struct craft *c, uint8_t head, uint64_t v, unsigned width);

/* ---- keys ---- */

struct craft_key {
    EVP_PKEY *pkey;
    struct qm_key *key; /* prepared; 64-byte aligned */
};
/* kind: "rsa2048", "rsa3072", "p256", "p384" and so on; n tells keys of a kind apart. Made once,
 * kept. */
struct craft_key *craft_key(const char *kind, unsigned n);
/* PEM SubjectPublicKeyInfo; freed by craft_free_all. */
char *craft_pem(const struct craft_key *k);
/* TPMT_PUBLIC with the usual AK attributes. scheme QM_TPM_ALG_NULL: none of its own. */
void craft_tpmt_public(struct craft *out, const struct craft_key *k, uint32_t attributes,
                       uint16_t scheme, uint16_t scheme_hash);
enum { CRAFT_AK_ATTRIBUTES = 0x00050072 };
char *craft_base64(struct qm_span bytes);

void craft_hash(enum qm_hash hash, struct qm_span message, uint8_t *digest);

/* ---- quotes ---- */

struct craft_attest {
    uint32_t magic; /* 0: the right one */
    uint16_t type;  /* 0: the right one */
    struct qm_span extra;
    unsigned select_count;
    struct {
        uint16_t tpm_alg;
        uint8_t size; /* sizeofSelect */
        uint32_t mask;
    } select[QM_SELECTION_MAX + 2];
    uint8_t digest[QM_DIGEST_MAX];
    size_t digest_len;
    uint64_t clock_ms, firmware;
    uint32_t reset, restart;
    uint8_t safe;
};
void craft_attest(struct craft *out, const struct craft_attest *a);
/* TPMT_SIGNATURE over bytes. */
void craft_sign(struct craft *out, const struct craft_key *k, enum qm_scheme scheme,
                enum qm_hash hash, struct qm_span bytes);
/* The same with another salt length for RSAPSS (-1: as long as the digest, -3: the longest). */
void craft_sign_salted(struct craft *out, const struct craft_key *k, enum qm_scheme scheme,
                       enum qm_hash hash, struct qm_span bytes, int salt);

/* ---- PCRs and logs ---- */

struct craft_pcrs {
    uint8_t value[QM_HASH_COUNT][QM_PCR_COUNT][QM_DIGEST_MAX];
};
/* All PCRs of all banks at their reset values. */
void craft_pcrs_reset(struct craft_pcrs *p);
/* The composite of a selection, as a TPM hashes it. */
void craft_composite(const struct craft_pcrs *p, const struct qm_profile *profile,
                     enum qm_hash hash, uint8_t *digest);

/* Starts a crypto-agile log that announces banks (bit 1 << enum qm_hash). */
void craft_log_open(struct craft *log, unsigned banks);
/* One event: a digest of data for each of banks, extended into pcrs (may be NULL) unless it is
 * EV_NO_ACTION. */
void craft_log_event(struct craft *log, unsigned banks, uint32_t pcr, uint32_t type,
                     const char *data, struct craft_pcrs *pcrs);

/* ---- records ---- */

struct craft_record {
    const char *id;
    struct qm_span quote, sig;
    struct qm_span log;  /* p NULL: left out */
    struct qm_span pcrs; /* an encoded map; p NULL: left out */
    bool has_t;
    uint64_t t_ms;
};
void craft_record(struct craft *out, const struct craft_record *r);
/* The value of "pcrs": for each bank of select, the PCRs in its mask. */
void craft_pcrs_map(struct craft *out, const struct craft_pcrs *p, const struct qm_profile *select);

/* ---- homes ---- */

/* A new empty directory below TMPDIR (else /tmp), removed with all in it by craft_free_all. */
const char *craft_dir(void);

#endif
