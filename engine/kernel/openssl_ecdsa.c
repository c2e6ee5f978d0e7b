/* ECDSA P-256 and P-384 by OpenSSL's BN and EC (FIPS 186-5, 6.4.2): the portable path.
 *
 *   w = s^-1 mod n, u1 = e w, u2 = r w, (x, y) = u1 G + u2 Q, valid when it is a point and x mod n
 * = r
 *
 * An inversion mod n costs 10 us beside 50 for the rest (P-256), so up to QM_OPENSSL_BATCH
 * signatures share one: with prefix products P_i = s_0 ... s_i, the inverse of the last is walked
 * back, w_i = P_i^-1 P_(i-1). This is arithmetic only: each signature keeps a verdict of its own,
 * since no s is 0 mod the prime n.
 *
 * Precondition: the key was made by qm_key_make. 0 < r, s < n is checked here again. Lanes: 1.
 * Constant time: no, all inputs are public. OpenSSL's EC allocates inside EC_POINT_mul; nothing
 * here does. */
#include <openssl/obj_mac.h>

#include "engine/kernel/openssl_sig.h"

static bool curve_init(struct qm_openssl_curve *c, int nid)
{
    c->group = EC_GROUP_new_by_curve_name(nid);
    if (c->group == NULL)
        return false;
    c->public_key = EC_POINT_new(c->group);
    c->point = EC_POINT_new(c->group);
    c->order = BN_dup(EC_GROUP_get0_order(c->group));
    return c->public_key != NULL && c->point != NULL && c->order != NULL;
}

static void curve_close(struct qm_openssl_curve *c)
{
    BN_free(c->order);
    EC_POINT_free(c->point);
    EC_POINT_free(c->public_key);
    EC_GROUP_free(c->group);
}

bool qm_openssl_ecdsa_init(struct qm_openssl_ecdsa *part)
{
    memset(part, 0, sizeof *part);
    BIGNUM **const all[] = {&part->r,  &part->e, &part->inverse, &part->u1,
                            &part->u2, &part->x, &part->y,       &part->one};
    part->ctx = BN_CTX_new();
    bool ok = part->ctx != NULL;
    for (size_t i = 0; i < QM_COUNT(all); i++)
        ok &= (*all[i] = BN_new()) != NULL;
    for (size_t i = 0; i < QM_OPENSSL_BATCH; i++) {
        ok &= (part->s[i] = BN_new()) != NULL;
        ok &= (part->prefix[i] = BN_new()) != NULL;
    }
    return ok && BN_one(part->one) && curve_init(&part->p256, NID_X9_62_prime256v1) &&
           curve_init(&part->p384, NID_secp384r1);
}

void qm_openssl_ecdsa_close(struct qm_openssl_ecdsa *part)
{
    BIGNUM *const all[] = {part->r,  part->e, part->inverse, part->u1,
                           part->u2, part->x, part->y,       part->one};
    for (size_t i = 0; i < QM_COUNT(all); i++)
        BN_free(all[i]);
    for (size_t i = 0; i < QM_OPENSSL_BATCH; i++) {
        BN_free(part->s[i]);
        BN_free(part->prefix[i]);
    }
    curve_close(&part->p384);
    curve_close(&part->p256);
    BN_CTX_free(part->ctx);
    memset(part, 0, sizeof *part);
}

static size_t scalar_size(const struct qm_sig_job *job)
{
    return job->key->sig_class == QM_SIG_P256 ? 32 : 48;
}

static bool in_range(const BIGNUM *v, const BIGNUM *order)
{
    return !BN_is_zero(v) && BN_ucmp(v, order) < 0;
}

/* SHA-1 signs nothing here (contract, section 2). */
static bool hash_taken(uint8_t hash)
{
    return hash == QM_HASH_SHA256 || hash == QM_HASH_SHA384 || hash == QM_HASH_SHA512;
}

/* Is the job worth computing? Leaves its s in s. */
static bool load_s(const struct qm_openssl_curve *c, const struct qm_sig_job *job, BIGNUM *s)
{
    size_t size = scalar_size(job);
    return job->scheme == QM_SCHEME_ECDSA && hash_taken(job->hash) &&
           BN_bin2bn(job->sig + size, (int)size, s) != NULL && in_range(s, c->order);
}

/* w: s^-1 mod n */
static bool check(struct qm_openssl_ecdsa *part, const struct qm_openssl_curve *c,
                  const struct qm_sig_job *job, const BIGNUM *w)
{
    size_t size = scalar_size(job);
    const uint8_t *limbs = (const uint8_t *)job->key->limbs;
    /* the leftmost bits of a digest that is longer than n; both orders fill whole bytes */
    size_t digest_len = qm_hash_size((enum qm_hash)job->hash);
    if (digest_len > size)
        digest_len = size;

    return BN_bin2bn(job->sig, (int)size, part->r) != NULL && in_range(part->r, c->order) &&
           BN_bin2bn(job->digest, (int)digest_len, part->e) != NULL &&
           BN_lebin2bn(limbs, (int)size, part->x) != NULL &&
           BN_lebin2bn(limbs + size, (int)size, part->y) != NULL &&
           EC_POINT_set_affine_coordinates(c->group, c->public_key, part->x, part->y, part->ctx) &&
           BN_mod_mul(part->u1, part->e, w, c->order, part->ctx) &&
           BN_mod_mul(part->u2, part->r, w, c->order, part->ctx) &&
           EC_POINT_mul(c->group, c->point, part->u1, c->public_key, part->u2, part->ctx) &&
           !EC_POINT_is_at_infinity(c->group, c->point) &&
           EC_POINT_get_affine_coordinates(c->group, c->point, part->x, NULL, part->ctx) &&
           BN_nnmod(part->x, part->x, c->order, part->ctx) && BN_ucmp(part->x, part->r) == 0;
}

/* count <= QM_OPENSSL_BATCH */
static void verify_batch(struct qm_openssl_ecdsa *part, struct qm_sig_job *const *jobs,
                         size_t count)
{
    const struct qm_openssl_curve *c =
        jobs[0]->key->sig_class == QM_SIG_P256 ? &part->p256 : &part->p384;
    struct qm_sig_job *live[QM_OPENSSL_BATCH];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        jobs[i]->valid = false;
        if (!load_s(c, jobs[i], part->s[n]))
            continue;
        const BIGNUM *before = n == 0 ? part->one : part->prefix[n - 1];
        if (!BN_mod_mul(part->prefix[n], before, part->s[n], c->order, part->ctx))
            continue;
        live[n++] = jobs[i];
    }
    if (n == 0 || BN_mod_inverse(part->inverse, part->prefix[n - 1], c->order, part->ctx) == NULL)
        return;
    /* inverse: of prefix[i] at the head of each turn; prefix[i] becomes w of job i */
    for (size_t i = n; i-- > 0;) {
        const BIGNUM *before = i == 0 ? part->one : part->prefix[i - 1];
        if (!BN_mod_mul(part->prefix[i], part->inverse, before, c->order, part->ctx) ||
            !BN_mod_mul(part->inverse, part->inverse, part->s[i], c->order, part->ctx))
            return;
        live[i]->valid = check(part, c, live[i], part->prefix[i]);
    }
}

void qm_openssl_ecdsa_verify(struct qm_openssl_ecdsa *part, struct qm_sig_job *const *jobs,
                             size_t count)
{
    for (size_t done = 0; done < count; done += QM_OPENSSL_BATCH)
        verify_batch(part, jobs + done,
                     count - done < QM_OPENSSL_BATCH ? count - done : QM_OPENSSL_BATCH);
}
