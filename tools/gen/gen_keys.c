#include "tools/gen/gen_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/gen/gen_efi.h"

enum { PEM_MAX = 4096 };

static const struct {
    const char *group; /* EC curve; NULL: RSA */
    enum qm_hash hash;
    uint16_t scheme;
    uint16_t curve;
    unsigned bytes; /* of the modulus or a coordinate */
} kinds_table[QM_GEN_KEY_KINDS] = {
    [QM_GEN_RSA2048] = {NULL, QM_HASH_SHA256, QM_TPM_ALG_RSASSA, 0, 256},
    [QM_GEN_RSAPSS2048] = {NULL, QM_HASH_SHA256, QM_TPM_ALG_RSAPSS, 0, 256},
    [QM_GEN_P256] = {"P-256", QM_HASH_SHA256, QM_TPM_ALG_ECDSA, QM_TPM_ECC_NIST_P256, 32},
    [QM_GEN_P384] = {"P-384", QM_HASH_SHA384, QM_TPM_ALG_ECDSA, QM_TPM_ECC_NIST_P384, 48},
};

enum qm_hash qm_gen_key_hash(enum qm_gen_key_kind kind)
{
    return kinds_table[kind].hash;
}

static qm_err crypto_failed(struct qm_fault *fault, const char *what)
{
    char text[160];
    ERR_error_string_n(ERR_get_error(), text, sizeof text);
    return qm_fail(fault, QM_E_CRYPTO, 0, "%s: %s", what, text);
}

/* The number called name, big-endian, in exactly len bytes. */
static bool put_number(struct qm_out *o, const EVP_PKEY *pkey, const char *name, unsigned len)
{
    BIGNUM *n = NULL;
    uint8_t bytes[256];
    bool good =
        EVP_PKEY_get_bn_param(pkey, name, &n) == 1 && BN_bn2binpad(n, bytes, (int)len) == (int)len;
    if (good) {
        qm_put_be(o, len, 2);
        qm_out_bytes(o, bytes, len);
    }
    BN_free(n);
    return good;
}

/* TPM2B_PUBLIC of a restricted signing key (Library part 2, 12.2.4), and its Name. False: another
 * kind of key. */
static bool describe(struct qm_gen_key *key, struct qm_gen_hasher *h)
{
    enum {
        USER_WITH_AUTH = 1u << 6,
        ATTRIBUTES = QM_TPMA_FIXED_TPM | QM_TPMA_FIXED_PARENT | QM_TPMA_SENSITIVE_DATA_ORIGIN |
                     USER_WITH_AUTH | QM_TPMA_RESTRICTED | QM_TPMA_SIGN
    };
    bool rsa = kinds_table[key->kind].group == NULL;
    unsigned bytes = kinds_table[key->kind].bytes;
    if (rsa ? EVP_PKEY_get_base_id(key->pkey) != EVP_PKEY_RSA ||
                  EVP_PKEY_get_bits(key->pkey) != 8 * (int)bytes
            : EVP_PKEY_get_base_id(key->pkey) != EVP_PKEY_EC ||
                  EVP_PKEY_get_bits(key->pkey) != 8 * (int)bytes)
        return false;
    struct qm_out o = qm_out_init(key->public, sizeof key->public);
    qm_put_be(&o, 0, 2);
    qm_put_be(&o, rsa ? QM_TPM_ALG_RSA : QM_TPM_ALG_ECC, 2);
    qm_put_be(&o, QM_TPM_ALG_SHA256, 2);
    qm_put_be(&o, ATTRIBUTES, 4);
    qm_put_be(&o, 0, 2); /* no policy */
    qm_put_be(&o, QM_TPM_ALG_NULL, 2);
    qm_put_be(&o, kinds_table[key->kind].scheme, 2);
    qm_put_be(&o, qm_hash_to_tpm(kinds_table[key->kind].hash), 2);
    bool good;
    if (rsa) {
        qm_put_be(&o, 8 * bytes, 2);
        qm_put_be(&o, 0, 4); /* 65537 */
        good = put_number(&o, key->pkey, OSSL_PKEY_PARAM_RSA_N, bytes);
    } else {
        qm_put_be(&o, kinds_table[key->kind].curve, 2);
        qm_put_be(&o, QM_TPM_ALG_NULL, 2);
        good = put_number(&o, key->pkey, OSSL_PKEY_PARAM_EC_PUB_X, bytes) &&
               put_number(&o, key->pkey, OSSL_PKEY_PARAM_EC_PUB_Y, bytes);
    }
    key->public_len = o.len;
    key->public[0] = (uint8_t)((o.len - 2) >> 8);
    key->public[1] = (uint8_t)(o.len - 2);
    struct qm_out name = qm_out_init(key->name, sizeof key->name);
    qm_put_be(&name, QM_TPM_ALG_SHA256, 2);
    qm_gen_hash(h, QM_HASH_SHA256, key->public + 2, key->public_len - 2, key->name + 2);
    return good && !o.full && !h->bad;
}

static void file_name(char name[32], size_t i)
{
    snprintf(name, 32, "%06zu.pem", i);
}

static qm_err write_key(int dir_fd, size_t i, EVP_PKEY *pkey, struct qm_fault *fault)
{
    char name[32], *text;
    file_name(name, i);
    BIO *bio = BIO_new(BIO_s_secmem());
    long len = 0;
    if (bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL) != 1 ||
        (len = BIO_get_mem_data(bio, &text)) <= 0) {
        BIO_free(bio);
        return crypto_failed(fault, "writing a key");
    }
    qm_err err = QM_OK;
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    errno = fd < 0 ? errno : ENOSPC; /* what a short write means */
    if (fd < 0 || write(fd, text, (size_t)len) != len)
        err = qm_fail(fault, QM_E_IO, errno, "cannot write keys/%s", name);
    if (fd >= 0 && close(fd) != 0 && err == QM_OK)
        err = qm_fail(fault, QM_E_IO, errno, "cannot write keys/%s", name);
    BIO_free(bio);
    return err;
}

static qm_err read_key(int dir_fd, size_t i, EVP_PKEY **pkey, struct qm_fault *fault)
{
    char name[32], text[PEM_MAX];
    file_name(name, i);
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text);
    int sys = errno;
    if (fd >= 0)
        close(fd);
    if (len < 0)
        return qm_fail(fault, QM_E_IO, sys, "cannot read keys/%s", name);
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    *pkey = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    OPENSSL_cleanse(text, sizeof text);
    return *pkey != NULL ? QM_OK
                         : qm_fail(fault, QM_E_FORMAT, 0, "keys/%s holds no private key", name);
}

struct job {
    struct qm_gen_keys *keys;
    int dir_fd;
    bool load;
    atomic_size_t next;
    atomic_bool stop;
    pthread_mutex_t lock; /* of fault */
    struct qm_fault fault;
};

static qm_err one_key(struct job *job, struct qm_gen_hasher *h, size_t i, struct qm_fault *fault)
{
    struct qm_gen_key *key = &job->keys->key[i];
    if (job->load) {
        qm_err err = read_key(job->dir_fd, i, &key->pkey, fault);
        if (err != QM_OK)
            return err;
    } else {
        const char *group = kinds_table[key->kind].group;
        key->pkey = group != NULL ? EVP_EC_gen(group) : EVP_RSA_gen(2048);
        if (key->pkey == NULL)
            return crypto_failed(fault, "making a key");
    }
    if (!describe(key, h))
        return qm_fail(fault, QM_E_FORMAT, 0, "keys/%06zu.pem holds another kind of key", i);
    return job->load ? QM_OK : write_key(job->dir_fd, i, key->pkey, fault);
}

static void *work(void *arg)
{
    struct job *job = arg;
    struct qm_gen_hasher h;
    struct qm_fault fault = {0};
    qm_err err = qm_gen_hasher_open(&h, &fault);
    for (size_t i; err == QM_OK && !job->stop && (i = job->next++) < job->keys->count;)
        err = one_key(job, &h, i, &fault);
    qm_gen_hasher_close(&h);
    if (err != QM_OK && !atomic_exchange(&job->stop, true)) {
        pthread_mutex_lock(&job->lock);
        job->fault = fault;
        pthread_mutex_unlock(&job->lock);
    }
    return NULL;
}

static qm_err all_keys(struct qm_gen_keys *keys, size_t count, const enum qm_gen_key_kind *kinds,
                       size_t kind_count, int dir_fd, unsigned threads, bool load,
                       struct qm_fault *fault)
{
    enum { THREADS_MAX = 256 };
    pthread_t thread[THREADS_MAX];
    *keys = (struct qm_gen_keys){.key = calloc(count, sizeof *keys->key), .count = count};
    if (keys->key == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    for (size_t i = 0; i < count; i++)
        keys->key[i].kind = kinds[i % kind_count];
    struct job job = {
        .keys = keys, .dir_fd = dir_fd, .load = load, .lock = PTHREAD_MUTEX_INITIALIZER};
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    unsigned started = 0;
    while (started + 1 < threads && pthread_create(&thread[started], NULL, work, &job) == 0)
        started++;
    work(&job); /* this thread too: fewer threads than asked for only take longer */
    while (started > 0)
        pthread_join(thread[--started], NULL);
    pthread_mutex_destroy(&job.lock);
    if (job.fault.err == QM_OK)
        return QM_OK;
    qm_gen_keys_free(keys);
    if (fault != NULL)
        *fault = job.fault;
    return job.fault.err;
}

qm_err qm_gen_keys_make(struct qm_gen_keys *keys, size_t count, const enum qm_gen_key_kind *kinds,
                        size_t kind_count, int dir_fd, unsigned threads, struct qm_fault *fault)
{
    return all_keys(keys, count, kinds, kind_count, dir_fd, threads, false, fault);
}

qm_err qm_gen_keys_load(struct qm_gen_keys *keys, size_t count, const enum qm_gen_key_kind *kinds,
                        size_t kind_count, int dir_fd, unsigned threads, struct qm_fault *fault)
{
    return all_keys(keys, count, kinds, kind_count, dir_fd, threads, true, fault);
}

void qm_gen_keys_free(struct qm_gen_keys *keys)
{
    for (size_t i = 0; keys->key != NULL && i < keys->count; i++)
        EVP_PKEY_free(keys->key[i].pkey);
    free(keys->key);
    *keys = (struct qm_gen_keys){0};
}

qm_err qm_gen_signer_open(struct qm_gen_signer *s, const struct qm_gen_keys *keys,
                          struct qm_fault *fault)
{
    *s = (struct qm_gen_signer){keys, calloc(keys->count, sizeof *s->ctx)};
    return s->ctx != NULL ? QM_OK : qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
}

void qm_gen_signer_close(struct qm_gen_signer *s)
{
    for (size_t i = 0; s->ctx != NULL && i < s->keys->count; i++)
        EVP_PKEY_CTX_free(s->ctx[i]);
    free(s->ctx);
    *s = (struct qm_gen_signer){0};
}

static EVP_PKEY_CTX *signing_context(struct qm_gen_signer *s, const struct qm_gen_hasher *h,
                                     size_t i)
{
    const struct qm_gen_key *key = &s->keys->key[i];
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    bool good = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 &&
                EVP_PKEY_CTX_set_signature_md(ctx, h->md[kinds_table[key->kind].hash]) == 1;
    if (good && key->kind == QM_GEN_RSA2048)
        good = EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
    if (good && key->kind == QM_GEN_RSAPSS2048)
        good = EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
    if (!good) {
        EVP_PKEY_CTX_free(ctx);
        return NULL;
    }
    return s->ctx[i] = ctx;
}

/* r and s as a TPM sends them: as long as the curve's order. */
static bool put_ecdsa(struct qm_out *out, const uint8_t *der, size_t len, unsigned bytes)
{
    const uint8_t *p = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)len);
    if (sig == NULL)
        return false;
    const BIGNUM *number[2];
    bool good = true;
    ECDSA_SIG_get0(sig, &number[0], &number[1]);
    for (size_t i = 0; i < QM_COUNT(number); i++) {
        uint8_t padded[48];
        good = good && BN_bn2binpad(number[i], padded, (int)bytes) == (int)bytes;
        qm_put_be(out, bytes, 2);
        qm_out_bytes(out, padded, bytes);
    }
    ECDSA_SIG_free(sig);
    return good;
}

qm_err qm_gen_sign(struct qm_gen_signer *s, struct qm_gen_hasher *h, size_t key,
                   const uint8_t *message, size_t len, struct qm_out *out, struct qm_fault *fault)
{
    enum qm_gen_key_kind kind = s->keys->key[key].kind;
    enum qm_hash hash = kinds_table[kind].hash;
    uint8_t digest[QM_DIGEST_MAX], sig[512];
    size_t sig_len = sizeof sig;
    EVP_PKEY_CTX *ctx = s->ctx[key] != NULL ? s->ctx[key] : signing_context(s, h, key);
    qm_gen_hash(h, hash, message, len, digest);
    if (ctx == NULL || EVP_PKEY_sign(ctx, sig, &sig_len, digest, qm_hash_size(hash)) != 1)
        return crypto_failed(fault, "signing");
    qm_put_be(out, kinds_table[kind].scheme, 2);
    qm_put_be(out, qm_hash_to_tpm(hash), 2);
    if (kinds_table[kind].group == NULL) {
        qm_put_be(out, sig_len, 2);
        qm_out_bytes(out, sig, sig_len);
    } else if (!put_ecdsa(out, sig, sig_len, kinds_table[kind].bytes)) {
        return crypto_failed(fault, "signing");
    }
    return QM_OK;
}
