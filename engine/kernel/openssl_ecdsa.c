/* ECDSA P-256 and P-384 by OpenSSL's BN and EC (FIPS 186-5, 6.4.2): the portable path.
 *
 *   w = s^-1 mod n, u1 = e w, u2 = r w, (x, y) = u1 G + u2 Q, valid when it is a point and x mod n
 * = r
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
    part->ctx = BN_CTX_new();
    BIGNUM **const all[] = {&part->r, &part->s, &part->e, &part->u1, &part->u2, &part->x, &part->y};
    bool ok = part->ctx != NULL;
    for (size_t i = 0; i < QM_COUNT(all); i++)
        ok &= (*all[i] = BN_new()) != NULL;
    return ok && curve_init(&part->p256, NID_X9_62_prime256v1) &&
           curve_init(&part->p384, NID_secp384r1);
}

void qm_openssl_ecdsa_close(struct qm_openssl_ecdsa *part)
{
    BIGNUM *const all[] = {part->r, part->s, part->e, part->u1, part->u2, part->x, part->y};
    for (size_t i = 0; i < QM_COUNT(all); i++)
        BN_free(all[i]);
    curve_close(&part->p384);
    curve_close(&part->p256);
    BN_CTX_free(part->ctx);
    memset(part, 0, sizeof *part);
}

static bool in_range(const BIGNUM *v, const BIGNUM *order)
{
    return !BN_is_zero(v) && BN_ucmp(v, order) < 0;
}

bool qm_openssl_ecdsa_check(struct qm_openssl_ecdsa *part, const struct qm_sig_job *job)
{
    const struct qm_key *key = job->key;
    bool p256 = key->sig_class == QM_SIG_P256;
    const struct qm_openssl_curve *c = p256 ? &part->p256 : &part->p384;
    size_t size = p256 ? 32 : 48;
    /* the leftmost bits of a digest that is longer than n; both orders fill whole bytes */
    size_t digest_len = qm_hash_size((enum qm_hash)job->hash);
    if (job->scheme != QM_SCHEME_ECDSA || digest_len == 0)
        return false;
    if (digest_len > size)
        digest_len = size;

    if (BN_bin2bn(job->sig, (int)size, part->r) == NULL ||
        BN_bin2bn(job->sig + size, (int)size, part->s) == NULL ||
        BN_bin2bn(job->digest, (int)digest_len, part->e) == NULL ||
        BN_lebin2bn((const uint8_t *)key->limbs, (int)size, part->x) == NULL ||
        BN_lebin2bn((const uint8_t *)key->limbs + size, (int)size, part->y) == NULL)
        return false;
    if (!in_range(part->r, c->order) || !in_range(part->s, c->order))
        return false;
    if (EC_POINT_set_affine_coordinates(c->group, c->public_key, part->x, part->y, part->ctx) != 1)
        return false;
    if (BN_mod_inverse(part->s, part->s, c->order, part->ctx) == NULL ||
        !BN_mod_mul(part->u1, part->e, part->s, c->order, part->ctx) ||
        !BN_mod_mul(part->u2, part->r, part->s, c->order, part->ctx) ||
        !EC_POINT_mul(c->group, c->point, part->u1, c->public_key, part->u2, part->ctx) ||
        EC_POINT_is_at_infinity(c->group, c->point) ||
        !EC_POINT_get_affine_coordinates(c->group, c->point, part->x, NULL, part->ctx) ||
        !BN_nnmod(part->x, part->x, c->order, part->ctx))
        return false;
    return BN_ucmp(part->x, part->r) == 0;
}
