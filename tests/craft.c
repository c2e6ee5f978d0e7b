#include "tests/craft.h"

#include <ftw.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* ---- what was taken ------------------------------------------------------------------------- */

static struct held {
    struct held *next;
    void *p;
    void (*release)(void *p);
} * all_held;

static void hold(void *p, void (*release)(void *p))
{
    struct held *h = malloc(sizeof *h);
    MUST(h != NULL);
    *h = (struct held){all_held, p, release};
    all_held = h;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void remove_dir(void *p)
{
    nftw(p, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(p);
}

static void release_pkey(void *p)
{
    EVP_PKEY_free(p);
}

static struct {
    char kind[16];
    unsigned n;
    struct craft_key key;
} keys[64];
static size_t key_count;

void craft_free_all(void)
{
    while (all_held != NULL) {
        struct held *h = all_held;
        all_held = h->next;
        h->release(h->p);
        free(h);
    }
    key_count = 0;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void craft_room(struct craft *c, size_t len)
{
    if (c->cap - c->len >= len)
        return;
    size_t cap = c->cap * 2 + len + 64;
    uint8_t *p = malloc(cap);
    MUST(p != NULL);
    hold(p, free);
    if (c->len != 0)
        memcpy(p, c->p, c->len);
    c->p = p;
    c->cap = cap;
}

void craft_put(struct craft *c, const void *p, size_t len)
{
    craft_room(c, len);
    if (len != 0)
        memcpy(c->p + c->len, p, len);
    c->len += len;
}

void craft_text(struct craft *c, const char *text)
{
    craft_put(c, text, strlen(text));
}

void craft_fill(struct craft *c, uint8_t byte, size_t len)
{
    craft_room(c, len);
    if (len != 0)
        memset(c->p + c->len, byte, len);
    c->len += len;
}

void craft_be(struct craft *c, uint64_t v, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0;) {
        uint8_t b = (uint8_t)(v >> (8 * i));
        craft_put(c, &b, 1);
    }
}

void craft_le(struct craft *c, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        uint8_t b = (uint8_t)(v >> (8 * i));
        craft_put(c, &b, 1);
    }
}

void craft_2b(struct craft *c, const void *p, size_t len)
{
    craft_be(c, len, 2);
    craft_put(c, p, len);
}

struct qm_span craft_exact(struct qm_span s)
{
    uint8_t *p = malloc(s.len != 0 ? s.len : 1);
    MUST(p != NULL);
    hold(p, free);
    if (s.len != 0)
        memcpy(p, s.p, s.len);
    return (struct qm_span){p, s.len};
}

uint64_t craft_seed(const char *test)
{
    const char *env = getenv("QM_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = env != NULL ? strtoull(env, NULL, 0)
                                : (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
    fprintf(stderr, "%s: QM_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

/* splitmix64 */
uint64_t craft_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- msgpack -------------------------------------------------------------------------------- */

void craft_raw(struct craft *c, uint8_t head, uint64_t v, unsigned width)
{
    craft_put(c, &head, 1);
    craft_be(c, v, width);
}

void craft_map(struct craft *c, uint32_t pairs)
{
    if (pairs < 16)
        craft_raw(c, (uint8_t)(0x80 | pairs), 0, 0);
    else
        craft_raw(c, 0xde, pairs, 2);
}

void craft_strn(struct craft *c, const void *p, size_t len)
{
    if (len < 32)
        craft_raw(c, (uint8_t)(0xa0 | len), 0, 0);
    else if (len < 256)
        craft_raw(c, 0xd9, len, 1);
    else
        craft_raw(c, 0xdb, len, 4);
    craft_put(c, p, len);
}

void craft_str(struct craft *c, const char *text)
{
    craft_strn(c, text, strlen(text));
}

void craft_bin(struct craft *c, struct qm_span bytes)
{
    if (bytes.len < 256)
        craft_raw(c, 0xc4, bytes.len, 1);
    else if (bytes.len < 65536)
        craft_raw(c, 0xc5, bytes.len, 2);
    else
        craft_raw(c, 0xc6, bytes.len, 4);
    craft_put(c, bytes.p, bytes.len);
}

void craft_uint(struct craft *c, uint64_t v)
{
    if (v < 0x80)
        craft_raw(c, (uint8_t)v, 0, 0);
    else if (v <= 0xffff)
        craft_raw(c, 0xcd, v, 2);
    else
        craft_raw(c, 0xcf, v, 8);
}

/* ---- keys ----------------------------------------------------------------------------------- */

static struct qm_span bn_param(EVP_PKEY *pkey, const char *name)
{
    BIGNUM *bn = NULL;
    uint8_t bytes[1024];
    MUST(EVP_PKEY_get_bn_param(pkey, name, &bn) == 1 && BN_num_bytes(bn) <= (int)sizeof bytes);
    size_t len = (size_t)BN_bn2bin(bn, bytes);
    BN_free(bn);
    return craft_exact((struct qm_span){bytes, len});
}

static struct craft_key key_make(const char *kind)
{
    struct craft_key k = {0};
    struct qm_public_numbers n = {0};
    struct qm_fault fault;
    if (strncmp(kind, "rsa", 3) == 0) {
        k.pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)atoi(kind + 3));
        MUST(k.pkey != NULL);
        n = (struct qm_public_numbers){
            .rsa = true, .exponent = 65537, .a = bn_param(k.pkey, OSSL_PKEY_PARAM_RSA_N)};
    } else {
        bool p256 = strcmp(kind, "p256") == 0;
        k.pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", p256 ? "P-256" : "P-384");
        MUST(k.pkey != NULL);
        n.ec_class = p256 ? QM_SIG_P256 : QM_SIG_P384;
        n.a = bn_param(k.pkey, OSSL_PKEY_PARAM_EC_PUB_X);
        n.b = bn_param(k.pkey, OSSL_PKEY_PARAM_EC_PUB_Y);
    }
    hold(k.pkey, release_pkey);
    k.key = aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX);
    MUST(k.key != NULL);
    hold(k.key, free);
    MUST(qm_key_make(&n, k.key, &fault) == QM_OK);
    return k;
}

struct craft_key *craft_key(const char *kind, unsigned n)
{
    for (size_t i = 0; i < key_count; i++)
        if (strcmp(keys[i].kind, kind) == 0 && keys[i].n == n)
            return &keys[i].key;
    MUST(key_count < sizeof keys / sizeof keys[0]);
    snprintf(keys[key_count].kind, sizeof keys[key_count].kind, "%s", kind);
    keys[key_count].n = n;
    keys[key_count].key = key_make(kind);
    return &keys[key_count++].key;
}

char *craft_pem(const struct craft_key *k)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    MUST(bio != NULL && PEM_write_bio_PUBKEY(bio, k->pkey) == 1);
    long len = BIO_get_mem_data(bio, &text);
    char *copy = strndup(text, (size_t)len);
    MUST(copy != NULL);
    hold(copy, free);
    BIO_free(bio);
    return copy;
}

static bool is_rsa(const struct craft_key *k)
{
    return EVP_PKEY_is_a(k->pkey, "RSA");
}

void craft_tpmt_public(struct craft *out, const struct craft_key *k, uint32_t attributes,
                       uint16_t scheme, uint16_t scheme_hash)
{
    bool rsa = is_rsa(k);
    craft_be(out, rsa ? QM_TPM_ALG_RSA : QM_TPM_ALG_ECC, 2);
    craft_be(out, QM_TPM_ALG_SHA256, 2);
    craft_be(out, attributes, 4);
    craft_be(out, 0, 2);               /* authPolicy */
    craft_be(out, QM_TPM_ALG_NULL, 2); /* symmetric */
    craft_be(out, scheme, 2);
    if (scheme != QM_TPM_ALG_NULL && scheme != QM_TPM_ALG_RSAES)
        craft_be(out, scheme_hash, 2);
    if (rsa) {
        craft_be(out, k->key->bits, 2);
        craft_be(out, 0, 4); /* 65537 */
        struct qm_span n = bn_param(k->pkey, OSSL_PKEY_PARAM_RSA_N);
        craft_2b(out, n.p, n.len);
        return;
    }
    craft_be(out, k->key->bits == 256 ? QM_TPM_ECC_NIST_P256 : QM_TPM_ECC_NIST_P384, 2);
    craft_be(out, QM_TPM_ALG_NULL, 2); /* kdf */
    struct qm_span x = bn_param(k->pkey, OSSL_PKEY_PARAM_EC_PUB_X);
    struct qm_span y = bn_param(k->pkey, OSSL_PKEY_PARAM_EC_PUB_Y);
    craft_2b(out, x.p, x.len);
    craft_2b(out, y.p, y.len);
}

char *craft_base64(struct qm_span bytes)
{
    char *text = malloc(bytes.len / 3 * 4 + 5);
    MUST(text != NULL);
    hold(text, free);
    EVP_EncodeBlock((unsigned char *)text, bytes.p, (int)bytes.len);
    return text;
}

static const EVP_MD *md_of(enum qm_hash hash)
{
    switch (hash) {
    case QM_HASH_SHA1:
        return EVP_sha1();
    case QM_HASH_SHA384:
        return EVP_sha384();
    case QM_HASH_SHA512:
        return EVP_sha512();
    default:
        return EVP_sha256();
    }
}

static const uint16_t tpm_of[QM_HASH_COUNT] = {0, 0x0004, 0x000b, 0x000c, 0x000d};
static const size_t size_of[QM_HASH_COUNT] = {0, 20, 32, 48, 64};

void craft_hash(enum qm_hash hash, struct qm_span message, uint8_t *digest)
{
    MUST(EVP_Digest(message.p, message.len, digest, NULL, md_of(hash), NULL) == 1);
}

/* ---- quotes --------------------------------------------------------------------------------- */

void craft_attest(struct craft *out, const struct craft_attest *a)
{
    static const uint8_t signer[34] = {0, 0x0b, 1, 2, 3};
    craft_be(out, a->magic != 0 ? a->magic : QM_TPM_GENERATED_VALUE, 4);
    craft_be(out, a->type != 0 ? a->type : QM_TPM_ST_ATTEST_QUOTE, 2);
    craft_2b(out, signer, sizeof signer);
    craft_2b(out, a->extra.p, a->extra.len);
    craft_be(out, a->clock_ms, 8);
    craft_be(out, a->reset, 4);
    craft_be(out, a->restart, 4);
    craft_be(out, a->safe, 1);
    craft_be(out, a->firmware, 8);
    craft_be(out, a->select_count, 4);
    for (unsigned i = 0; i < a->select_count; i++) {
        craft_be(out, a->select[i].tpm_alg, 2);
        craft_be(out, a->select[i].size, 1);
        craft_le(out, a->select[i].mask, a->select[i].size);
    }
    craft_2b(out, a->digest, a->digest_len);
}

void craft_sign_salted(struct craft *out, const struct craft_key *k, enum qm_scheme scheme,
                       enum qm_hash hash, struct qm_span bytes, int salt)
{
    uint8_t sig[1024];
    size_t len = sizeof sig;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx;
    MUST(ctx != NULL && EVP_DigestSignInit(ctx, &pctx, md_of(hash), NULL, k->pkey) == 1);
    if (scheme == QM_SCHEME_RSAPSS)
        MUST(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, salt) == 1);
    MUST(EVP_DigestSign(ctx, sig, &len, bytes.p, bytes.len) == 1);
    EVP_MD_CTX_free(ctx);
    craft_be(out,
             scheme == QM_SCHEME_RSASSA   ? QM_TPM_ALG_RSASSA
             : scheme == QM_SCHEME_RSAPSS ? QM_TPM_ALG_RSAPSS
                                          : QM_TPM_ALG_ECDSA,
             2);
    craft_be(out, tpm_of[hash], 2);
    if (scheme != QM_SCHEME_ECDSA) {
        craft_2b(out, sig, len);
        return;
    }
    const unsigned char *p = sig;
    ECDSA_SIG *rs = d2i_ECDSA_SIG(NULL, &p, (long)len);
    MUST(rs != NULL);
    uint8_t number[64];
    int size = k->key->bits / 8;
    MUST(BN_bn2binpad(ECDSA_SIG_get0_r(rs), number, size) == size);
    craft_2b(out, number, (size_t)size);
    MUST(BN_bn2binpad(ECDSA_SIG_get0_s(rs), number, size) == size);
    craft_2b(out, number, (size_t)size);
    ECDSA_SIG_free(rs);
}

void craft_sign(struct craft *out, const struct craft_key *k, enum qm_scheme scheme,
                enum qm_hash hash, struct qm_span bytes)
{
    craft_sign_salted(out, k, scheme, hash, bytes, RSA_PSS_SALTLEN_DIGEST);
}

/* ---- PCRs and logs -------------------------------------------------------------------------- */

void craft_pcrs_reset(struct craft_pcrs *p)
{
    memset(p, 0, sizeof *p);
    for (unsigned bank = QM_HASH_SHA1; bank < QM_HASH_COUNT; bank++)
        for (unsigned pcr = 17; pcr <= 22; pcr++)
            memset(p->value[bank][pcr], 0xff, size_of[bank]);
}

void craft_composite(const struct craft_pcrs *p, const struct qm_profile *profile,
                     enum qm_hash hash, uint8_t *digest)
{
    struct craft message = {0};
    for (unsigned b = 0; b < profile->select_count; b++)
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if ((profile->select[b].mask >> pcr & 1) != 0)
                craft_put(&message, p->value[profile->select[b].hash][pcr],
                          size_of[profile->select[b].hash]);
    craft_hash(hash, craft_span(&message), digest);
}

void craft_log_open(struct craft *log, unsigned banks)
{
    struct craft spec = {0};
    craft_put(&spec, "Spec ID Event03", 16);
    craft_le(&spec, 0, 4); /* platform class */
    craft_le(&spec, 0, 1); /* version 2.0, errata 0 */
    craft_le(&spec, 2, 1);
    craft_le(&spec, 0, 1);
    craft_le(&spec, 2, 1); /* UINTN is 64 bits */
    craft_le(&spec, (uint64_t)__builtin_popcount(banks), 4);
    for (unsigned h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++)
        if ((banks >> h & 1) != 0) {
            craft_le(&spec, tpm_of[h], 2);
            craft_le(&spec, size_of[h], 2);
        }
    craft_le(&spec, 0, 1); /* vendorInfo */
    craft_le(log, 0, 4);
    craft_le(log, 3, 4); /* EV_NO_ACTION */
    craft_fill(log, 0, 20);
    craft_le(log, spec.len, 4);
    craft_put(log, spec.p, spec.len);
}

void craft_log_event(struct craft *log, unsigned banks, uint32_t pcr, uint32_t type,
                     const char *data, struct craft_pcrs *pcrs)
{
    craft_le(log, pcr, 4);
    craft_le(log, type, 4);
    craft_le(log, (uint64_t)__builtin_popcount(banks), 4);
    for (unsigned h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++) {
        if ((banks >> h & 1) == 0)
            continue;
        uint8_t joined[2 * QM_DIGEST_MAX];
        uint8_t *digest = joined + size_of[h];
        craft_hash((enum qm_hash)h, (struct qm_span){(const uint8_t *)data, strlen(data)}, digest);
        craft_le(log, tpm_of[h], 2);
        craft_put(log, digest, size_of[h]);
        if (pcrs == NULL || type == 3 || pcr >= QM_PCR_COUNT)
            continue;
        memcpy(joined, pcrs->value[h][pcr], size_of[h]);
        craft_hash((enum qm_hash)h, (struct qm_span){joined, 2 * size_of[h]}, pcrs->value[h][pcr]);
    }
    craft_le(log, strlen(data), 4);
    craft_text(log, data);
}

/* ---- records -------------------------------------------------------------------------------- */

void craft_pcrs_map(struct craft *out, const struct craft_pcrs *p, const struct qm_profile *select)
{
    craft_map(out, select->select_count);
    for (unsigned b = 0; b < select->select_count; b++) {
        unsigned h = select->select[b].hash;
        craft_uint(out, tpm_of[h]);
        craft_map(out, (uint32_t)__builtin_popcount(select->select[b].mask));
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if ((select->select[b].mask >> pcr & 1) != 0) {
                craft_uint(out, pcr);
                craft_bin(out, (struct qm_span){p->value[h][pcr], size_of[h]});
            }
    }
}

void craft_record(struct craft *out, const struct craft_record *r)
{
    craft_map(out, 4u + (r->log.p != NULL) + (r->pcrs.p != NULL) + r->has_t);
    craft_str(out, "v");
    craft_uint(out, 1);
    craft_str(out, "id");
    craft_str(out, r->id);
    craft_str(out, "quote");
    craft_bin(out, r->quote);
    craft_str(out, "sig");
    craft_bin(out, r->sig);
    if (r->log.p != NULL) {
        craft_str(out, "log");
        craft_bin(out, r->log);
    }
    if (r->pcrs.p != NULL) {
        craft_str(out, "pcrs");
        craft_put(out, r->pcrs.p, r->pcrs.len);
    }
    if (r->has_t) {
        craft_str(out, "t");
        craft_uint(out, r->t_ms);
    }
}

/* ---- homes ---------------------------------------------------------------------------------- */

const char *craft_dir(void)
{
    const char *below = getenv("TMPDIR");
    char *dir = NULL;
    MUST(asprintf(&dir, "%s/qm-test-XXXXXX", below != NULL ? below : "/tmp") > 0);
    MUST(mkdtemp(dir) != NULL);
    hold(dir, remove_dir);
    return dir;
}
