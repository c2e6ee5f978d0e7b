/* The AVX-512 IFMA kernels for ECDSA: their arithmetic against BN (ec_fields.h), and whole verifications against the portable
 * kernel, which test_kernels.c compares with the oracle; one case in 16 is asked of the oracle here too.
 *
 * Cases are made so that what is rare happens: signatures with chosen u1 and u2, keys for which an addition inside the kernel
 * meets equal or opposite points, results at infinity, r + n below p, numbers near 0 and n, sparse and dense ones.
 *
 * QM_SEED sets the seed, QM_CASES the least number of cases for each curve. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/kernel/ec_comb.h"
#include "tests/ec_fields_run.h"
#include "tests/forge.h"

enum { BATCH = 300, CASES = 2000, FIELD_ROUNDS = 60 };

#define MUST(x) cr_assert(x, "%s", #x)

struct world {
    struct forge_rng rng;
    const struct forge_curve *c;
    BN_CTX *ctx;
    enum qm_hash own; /* as long as the order */
    struct qm_sig_job job[BATCH];
    bool want[BATCH];
    const char *what[BATCH];
    size_t count;
    unsigned g_teeth, g_rows, rows; /* of the kernel's combs */
    unsigned long long good, total;
};

static BIGNUM *num(void)
{
    BIGNUM *b = BN_new();
    MUST(b != NULL);
    return b;
}

/* In [1, n - 1]: random, by density, near 0, near n, near n / 2. */
static BIGNUM *scalar(struct world *w)
{
    BIGNUM *b = num();
    uint8_t bytes[48];
    do {
        switch (forge_below(&w->rng, 6)) {
        case 0:
            MUST(BN_set_word(b, 1 + forge_below(&w->rng, 4)));
            break;
        case 1:
            MUST(BN_copy(b, w->c->n) && BN_sub_word(b, 1 + forge_below(&w->rng, 4)));
            break;
        case 2:
            MUST(BN_rshift1(b, w->c->n) && BN_add_word(b, forge_below(&w->rng, 2)));
            break;
        case 3:
        case 4:
            forge_pattern(&w->rng, bytes, w->c->size);
            MUST(BN_bin2bn(bytes, (int)w->c->size, b));
            break;
        default:
            forge_bytes(&w->rng, bytes, w->c->size);
            MUST(BN_bin2bn(bytes, (int)w->c->size, b));
        }
        MUST(BN_mod(b, b, w->c->n, w->ctx));
    } while (BN_is_zero(b));
    return b;
}

static void push(struct world *w, const char *what, const struct qm_key *key, enum qm_hash hash, const uint8_t *digest,
                 const uint8_t *rs)
{
    if (w->count == BATCH)
        return;
    w->what[w->count] = what;
    w->job[w->count++] = (struct qm_sig_job){.key = key,
                                             .digest = forge_copy(digest, qm_hash_size(hash)),
                                             .sig = forge_copy(rs, 2 * w->c->size),
                                             .hash = (uint8_t)hash,
                                             .scheme = QM_SCHEME_ECDSA};
}

/* A digest whose leftmost bits are e: with the curve's own hash, or a longer one. */
static void push_e(struct world *w, const char *what, const struct qm_key *key, const BIGNUM *e, const uint8_t *rs)
{
    uint8_t digest[64];
    forge_bytes(&w->rng, digest, sizeof digest);
    MUST(BN_bn2binpad(e, digest, (int)w->c->size) > 0);
    push(w, what, key, (enum qm_hash)(w->own + forge_below(&w->rng, (uint64_t)(QM_HASH_SHA512 - w->own) + 1)), digest, rs);
}

/* A signature for which the verifier computes u1 G + u2 Q = R. */
static void push_around(struct world *w, const char *what, const EC_POINT *r, const BIGNUM *u1, const BIGNUM *u2)
{
    uint8_t rs[96];
    BIGNUM *e = num();
    struct qm_key *key = forge_ec_around(w->c, r, u1, u2, e, rs);
    if (key != NULL) {
        push_e(w, what, key, e, rs);
        rs[w->c->size - 1 - forge_below(&w->rng, 8)] ^= 1; /* another r (then other u2, too) */
        if ((forge_u64(&w->rng) & 3) == 0 && rs[0] < 0xff)
            push_e(w, what, key, e, rs);
    }
    BN_free(e);
}

static EC_POINT *multiple(struct world *w, const BIGNUM *k)
{
    EC_POINT *p = EC_POINT_new(w->c->group);
    MUST(p != NULL && EC_POINT_mul(w->c->group, p, k, NULL, NULL, w->ctx));
    return p;
}

/* The same u1 and u2, hence the same additions, with an r that the sum does not have: s = r / u2, e = u1 s. */
static void push_wrong(struct world *w, const char *what, const struct qm_key *key, const BIGNUM *u1, const BIGNUM *u2)
{
    uint8_t rs[96];
    BIGNUM *r = scalar(w), *s = num(), *e = num();
    MUST(BN_mod_inverse(s, u2, w->c->n, w->ctx) && BN_mod_mul(s, s, r, w->c->n, w->ctx));
    MUST(BN_mod_mul(e, u1, s, w->c->n, w->ctx));
    MUST(BN_bn2binpad(r, rs, (int)w->c->size) > 0 && BN_bn2binpad(s, rs + w->c->size, (int)w->c->size) > 0);
    push_e(w, what, key, e, rs);
    BN_free(e);
    BN_free(s);
    BN_free(r);
}

/* A key d G and multipliers u1, u2: the signature that leads there, and one that does not. */
static void push_led(struct world *w, const char *what, const BIGNUM *d, const BIGNUM *u1, const BIGNUM *u2)
{
    BIGNUM *k = num();
    MUST(BN_mod_mul(k, u2, d, w->c->n, w->ctx) && BN_mod_add(k, k, u1, w->c->n, w->ctx));
    if (!BN_is_zero(k) && !BN_is_zero(d)) {
        EC_POINT *r = multiple(w, k);
        push_around(w, what, r, u1, u2);
        push_wrong(w, what, forge_ec_key_of(w->c, d), u1, u2);
        EC_POINT_free(r);
    }
    BN_free(k);
}

static void random_around(struct world *w)
{
    BIGNUM *u1 = scalar(w), *u2 = scalar(w), *k = scalar(w);
    if (forge_below(&w->rng, 6) == 0)
        BN_zero(u1);
    EC_POINT *r = multiple(w, k);
    push_around(w, "u1, u2 chosen", r, u1, u2);
    EC_POINT_free(r);
    BN_free(k);
    BN_free(u2);
    BN_free(u1);
}

/* Q = d G with d = +-1, +-2, +-1/2, and u1 G = +- u2 Q */
static void special_keys(struct world *w)
{
    BIGNUM *d = num(), *u1 = scalar(w), *u2 = scalar(w), *t = num();
    MUST(BN_set_word(d, 1 + forge_below(&w->rng, 3)));
    if ((forge_u64(&w->rng) & 1) != 0)
        MUST(BN_sub(d, w->c->n, d));
    if (forge_below(&w->rng, 3) == 0)
        MUST(BN_mod_inverse(d, d, w->c->n, w->ctx));
    push_led(w, "Q = G times something small", d, u1, u2);
    push_led(w, "Q small, u1 = u2", d, u1, u1);
    MUST(BN_mod_mul(t, u2, d, w->c->n, w->ctx));
    push_led(w, "u1 G = u2 Q", d, t, u2);
    MUST(BN_mod_inverse(t, u2, w->c->n, w->ctx) && BN_mod_mul(t, t, u1, w->c->n, w->ctx));
    push_led(w, "u1 G = u2 Q", t, u1, u2);
    /* u1 G = -u2 Q: the sum is at infinity whatever r says: e = -r d */
    BIGNUM *r = scalar(w), *s = scalar(w);
    uint8_t rs[96];
    MUST(BN_mod_mul(t, r, d, w->c->n, w->ctx) && BN_sub(t, w->c->n, t));
    MUST(BN_bn2binpad(r, rs, (int)w->c->size) > 0 && BN_bn2binpad(s, rs + w->c->size, (int)w->c->size) > 0);
    push_e(w, "infinity", forge_ec_key_of(w->c, d), t, rs);
    BIGNUM *const all[] = {d, u1, u2, t, r, s};
    for (size_t i = 0; i < QM_COUNT(all); i++)
        BN_free(all[i]);
}

/* The integer that a row of some of a comb's sub-tables stands for: the sum of the signs of k at row + v rows + j spacing, times
 * 2^(that - row). Those v whose bit is set in which. */
static BIGNUM *row_value(struct world *w, const BIGNUM *u, unsigned row, unsigned teeth, unsigned subs, unsigned rows, unsigned which)
{
    BIGNUM *k = BN_dup(u), *sum = num(), *t = num();
    MUST(k != NULL);
    if (!BN_is_odd(k))
        MUST(BN_add(k, k, w->c->n));
    MUST(BN_rshift1(k, k) && BN_set_bit(k, (int)(teeth * subs * rows) - 1));
    BN_zero(sum);
    for (unsigned i = 0; i < teeth * subs; i++) {
        BN_zero(t);
        if ((which >> i % subs & 1) == 0)
            continue;
        MUST(BN_set_bit(t, (int)(i * rows)));
        MUST(BN_is_bit_set(k, (int)(i * rows + row)) ? BN_add(sum, sum, t) : BN_sub(sum, sum, t));
    }
    BN_free(t);
    BN_free(k);
    return sum;
}

enum { FIRST_PAIR = 3, THIRD = 4, ALL = 7 }; /* of the three sub-tables of Q */

static BIGNUM *q_value(struct world *w, const BIGNUM *u2, unsigned row, unsigned which)
{
    return row_value(w, u2, row, QM_EC_KEY_TEETH, QM_EC_KEY_SUBS, w->rows, which);
}

/* Keys for which one addition inside meets equal or opposite points: with rows as in ec_ifma512.h, row i is (b d + g) G for
 * known b and g; d is chosen so that the third point of Q is +- that of G, the sum of the first two +- that of the others, or the
 * ladder's sum so far +- the row. */
static void collisions(struct world *w)
{
    BIGNUM *u1 = scalar(w), *u2 = scalar(w), *aq = num(), *ag = num(), *t = num(), *v = num();
    unsigned at = (unsigned)forge_below(&w->rng, w->rows);
    const bool ladder = at + 1 < w->rows && (forge_u64(&w->rng) & 1) != 0, pair = (forge_u64(&w->rng) & 1) != 0;
    bool minus = (forge_u64(&w->rng) & 1) != 0;
    BN_zero(aq);
    BN_zero(ag);
    for (unsigned row = w->rows; ladder && row-- > at + 1;) {
        BIGNUM *q = q_value(w, u2, row, ALL);
        MUST(BN_lshift1(aq, aq) && BN_add(aq, aq, q) && BN_lshift1(ag, ag));
        BN_free(q);
        if (row < w->g_rows) {
            BIGNUM *g = row_value(w, u1, row, w->g_teeth, 1, w->g_rows, 1);
            MUST(BN_add(ag, ag, g));
            BN_free(g);
        }
    }
    BIGNUM *q = q_value(w, u2, at, ladder ? ALL : THIRD), *g = num();
    if (at < w->g_rows) {
        BN_free(g);
        g = row_value(w, u1, at, w->g_teeth, 1, w->g_rows, 1);
    } else {
        BN_zero(g);
    }
    if (ladder) { /* 2 (aq d + ag) = +- (q d + g) */
        MUST(BN_lshift1(aq, aq) && BN_lshift1(ag, ag));
        MUST(minus ? BN_add(t, aq, q) && BN_add(v, ag, g) : BN_sub(t, aq, q) && BN_sub(v, ag, g));
        BN_set_negative(v, !BN_is_negative(v));
    } else if (pair) { /* q d = +- g */
        MUST(BN_copy(t, q) && BN_copy(v, g));
        if (minus)
            BN_set_negative(v, !BN_is_negative(v));
    } else { /* first d = +- (q d + g) */
        BIGNUM *first = q_value(w, u2, at, FIRST_PAIR);
        MUST(minus ? BN_add(t, first, q) && BN_copy(v, g) : BN_sub(t, first, q) && BN_copy(v, g));
        if (minus)
            BN_set_negative(v, !BN_is_negative(v));
        BN_free(first);
    }
    MUST(BN_nnmod(t, t, w->c->n, w->ctx) && BN_nnmod(v, v, w->c->n, w->ctx));
    if (!BN_is_zero(t) && !BN_is_zero(v)) {
        MUST(BN_mod_inverse(t, t, w->c->n, w->ctx) && BN_mod_mul(t, t, v, w->c->n, w->ctx));
        push_led(w, ladder ? "the ladder meets its row" : pair ? "a row's points meet" : "a row's sums meet", t, u1, u2);
    }
    BIGNUM *const all[] = {u1, u2, aq, ag, t, v, q, g};
    for (size_t i = 0; i < QM_COUNT(all); i++)
        BN_free(all[i]);
}

/* R whose x is n or more, so that r + n is what must be met, or below p - n, where r and r + n both are looked at. */
static void rare_r(struct world *w)
{
    BIGNUM *x = num(), *u1 = scalar(w), *u2 = scalar(w);
    bool over = (forge_u64(&w->rng) & 1) != 0;
    MUST(over ? BN_copy(x, w->c->n) != NULL : BN_set_word(x, 1));
    MUST(BN_add_word(x, forge_below(&w->rng, 1000)));
    EC_POINT *r = forge_ec_point(w->c, x);
    push_around(w, over ? "x not below n" : "r + n below p", r, u1, u2);
    BN_free(u2);
    BN_free(u1);
    BN_free(x);
}

static struct qm_key *without_comb(const struct qm_key *key)
{
    struct qm_key *k = aligned_alloc(QM_CACHE_LINE, key->extra_off);
    MUST(k != NULL);
    memcpy(k, key, key->extra_off);
    k->bytes = key->extra_off;
    k->extra_off = k->extra_bytes = 0;
    return k;
}

/* Ordinary signatures under few keys, and what becomes of them when bits flip or numbers are replaced. */
static void ordinary(struct world *w)
{
    enum { KEYS = 4 };
    struct qm_key *key[KEYS], *bare;
    BIGNUM *d[KEYS];
    size_t size = w->c->size;
    for (int i = 0; i < KEYS; i++) {
        d[i] = scalar(w);
        key[i] = forge_ec_key_of(w->c, d[i]);
    }
    bare = without_comb(key[0]);
    for (int i = 0; i < 12; i++) {
        uint8_t digest[64], rs[96], bad[96];
        size_t k = forge_below(&w->rng, KEYS);
        enum qm_hash hash = (enum qm_hash)(QM_HASH_SHA256 + forge_below(&w->rng, 3));
        size_t len = qm_hash_size(hash);
        BIGNUM *e = num();
        forge_pattern(&w->rng, digest, len);
        MUST(BN_bin2bn(digest, (int)(len < size ? len : size), e));
        forge_ec_sign(&w->rng, w->c, d[k], e, rs);
        push(w, "good", k == 0 && (forge_u64(&w->rng) & 1) != 0 ? bare : key[k], hash, digest, rs);
        push(w, "the other key", key[(k + 1) % KEYS], hash, digest, rs);
        for (int flip = 0; flip < 6; flip++) {
            memcpy(bad, rs, sizeof bad);
            bad[1 + forge_below(&w->rng, size - 1) + (flip % 2 != 0 ? size : 0)] ^= (uint8_t)(1u << forge_below(&w->rng, 8));
            push(w, "a bit of r or s flipped", key[k], hash, digest, bad);
        }
        digest[forge_below(&w->rng, len)] ^= (uint8_t)(1u << forge_below(&w->rng, 8));
        push(w, "a bit of the digest flipped", key[k], hash, digest, rs);
        BIGNUM *r = scalar(w), *s = scalar(w);
        MUST(BN_bn2binpad(r, bad, (int)size) > 0 && BN_bn2binpad(s, bad + size, (int)size) > 0);
        push(w, "r and s from the air", key[k], hash, digest, bad);
        memcpy(bad, rs, size);
        push(w, "s from the air", key[k], hash, digest, bad);
        /* -s is as good as s */
        MUST(BN_bin2bn(rs + size, (int)size, s) && BN_sub(s, w->c->n, s) && BN_bn2binpad(s, rs + size, (int)size) > 0);
        digest[0] ^= 0x80;
        push(w, "-s, another digest", key[k], hash, digest, rs);
        BN_free(s);
        BN_free(r);
        BN_free(e);
    }
    w->what[w->count - 1] = "last"; /* bare stays in use until the batch has run */
    for (int i = 0; i < KEYS; i++)
        BN_free(d[i]);
    for (size_t i = 0; i < w->count; i++) {
        if (w->job[i].key == bare)
            w->job[i].key = (const struct qm_key *)(const void *)memcpy(
                aligned_alloc(QM_CACHE_LINE, bare->bytes), bare, bare->bytes);
    }
    free(bare);
}

static void in_range_only(struct world *w) /* flips may have left [1, n - 1], which the contract keeps away */
{
    size_t kept = 0;
    BIGNUM *v = num();
    for (size_t i = 0; i < w->count; i++) {
        bool in = true;
        for (size_t half = 0; half < 2; half++) {
            MUST(BN_bin2bn(w->job[i].sig + half * w->c->size, (int)w->c->size, v));
            in &= !BN_is_zero(v) && BN_cmp(v, w->c->n) < 0;
        }
        if (in) {
            w->what[kept] = w->what[i];
            w->job[kept++] = w->job[i];
        }
    }
    w->count = kept;
    BN_free(v);
}

static void run(struct world *w, const struct qm_sig_kernel *k, void *scratch, void *portable)
{
    struct qm_sig_job *order[BATCH];
    struct qm_fault fault = {.text = ""};
    for (size_t i = 0; i < w->count; i++)
        order[i] = &w->job[i];
    qm_sig_openssl.verify(portable, order, w->count);
    for (size_t i = 0; i < w->count; i++) {
        w->want[i] = w->job[i].valid;
        w->good += w->want[i];
        if (i % 16 == 0) {
            bool valid;
            MUST(qm_oracle_verify(&w->job[i], &valid, &fault) == QM_OK);
            cr_assert_eq(valid, w->want[i], "the oracle says %d to: %s", valid, w->what[i]);
        }
    }
    for (size_t i = w->count; i > 1; i--) { /* every case meets every lane in time */
        size_t j = forge_below(&w->rng, i);
        struct qm_sig_job *t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
    for (size_t i = 0; i < w->count; i++)
        order[i]->valid = !w->want[order[i] - w->job];
    k->verify(scratch, order, 0);
    for (size_t at = 0; at < w->count;) { /* batches of 1 to 300 */
        size_t n = 1 + forge_below(&w->rng, forge_below(&w->rng, 2) != 0 ? 40 : BATCH);
        n = n < w->count - at ? n : w->count - at;
        k->verify(scratch, order + at, n);
        at += n;
    }
    for (size_t i = 0; i < w->count; i++) {
        size_t which = (size_t)(order[i] - w->job);
        cr_assert_eq(order[i]->valid, w->want[which], "kernel %s, %s: says %d to '%s'", k->name,
                     qm_sig_class_name(w->c->sig_class), order[i]->valid, w->what[which]);
    }
    w->total += w->count;
}

static unsigned long long setting(const char *name, unsigned long long otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

static void check_curve(enum qm_sig_class sig_class, const struct qm_sig_kernel *k, unsigned g_teeth, unsigned g_rows,
                        unsigned rows)
{
    struct qm_fault fault = {.text = ""};
    if ((k->cpu & ~qm_cpu_features()) != 0) {
        fprintf(stderr, "%s: this CPU does not run %s\n", qm_sig_class_name(sig_class), k->name);
        return;
    }
    struct world *w = calloc(1, sizeof *w);
    MUST(w != NULL);
    w->rng = forge_seed(qm_sig_class_name(sig_class));
    w->c = forge_curve(sig_class);
    w->ctx = BN_CTX_new();
    w->own = sig_class == QM_SIG_P256 ? QM_HASH_SHA256 : QM_HASH_SHA384;
    w->g_teeth = g_teeth;
    w->g_rows = g_rows;
    w->rows = rows;
    void *scratch = aligned_alloc(QM_CACHE_LINE, k->scratch_size());
    void *portable = aligned_alloc(QM_CACHE_LINE, qm_align_up(qm_sig_openssl.scratch_size(), QM_CACHE_LINE));
    MUST(w->ctx != NULL && scratch != NULL && portable != NULL);
    MUST(k->init(scratch, &qm_hash_openssl, &fault) == QM_OK);
    MUST(qm_sig_openssl.init(portable, &qm_hash_openssl, &fault) == QM_OK);
    unsigned long long least = setting("QM_CASES", sig_class == QM_SIG_P256 ? CASES : CASES / 4);
    while (w->total < least) {
        w->count = 0;
        for (int i = 0; i < 6; i++)
            random_around(w);
        for (int i = 0; i < 2; i++) {
            special_keys(w);
            rare_r(w);
        }
        for (int i = 0; i < 8; i++)
            collisions(w);
        ordinary(w);
        struct qm_sig_job copied[BATCH];
        size_t copies = w->count;
        memcpy(copied, w->job, sizeof copied);
        in_range_only(w);
        run(w, k, scratch, portable);
        for (size_t i = 0; i < copies; i++) {
            if (copied[i].key->extra_bytes == 0)
                free((void *)(uintptr_t)copied[i].key);
        }
        forge_free_all();
    }
    fprintf(stderr, "%s: %llu cases, %llu good\n", qm_sig_class_name(sig_class), w->total, w->good);
    cr_assert(w->good > w->total / 16 && w->good < w->total * 15 / 16);
    k->close(scratch);
    qm_sig_openssl.close(portable);
    free(portable);
    free(scratch);
    BN_CTX_free(w->ctx);
    free(w);
}

#if defined(__x86_64__)
Test(ec_ifma512, arithmetic)
{
    char why[512] = "";
    uint64_t need = qm_sig_p256_ifma512.cpu | qm_sig_p384_ifma512.cpu;
    if ((need & ~qm_cpu_features()) != 0)
        return;
    struct forge_rng rng = forge_seed("arithmetic");
    unsigned rounds = (unsigned)setting("QM_ROUNDS", FIELD_ROUNDS);
    cr_assert(ec_fields_check_p256(&rng, rounds, why, sizeof why), "p256: %s", why);
    cr_assert(ec_fields_check_p384(&rng, rounds, why, sizeof why), "p384: %s", why);
}

Test(ec_ifma512, p256)
{
    check_curve(QM_SIG_P256, &qm_sig_p256_ifma512, QM_EC_G_TEETH, QM_P256_G_ROWS, QM_P256_ROWS);
}

Test(ec_ifma512, p384)
{
    check_curve(QM_SIG_P384, &qm_sig_p384_ifma512, QM_EC_G_TEETH, QM_P384_G_ROWS, QM_P384_ROWS);
}

/* What the build wrote is what the processor that runs this makes. */
Test(ec_ifma512, generators_combs)
{
    uint8_t *comb = malloc(sizeof qm_ec_p384_g);
    MUST(comb != NULL && qm_ec_comb_bytes(&qm_ec_p256, &qm_ec_p256_g_shape) == sizeof qm_ec_p256_g &&
         qm_ec_comb_bytes(&qm_ec_p384, &qm_ec_p384_g_shape) == sizeof qm_ec_p384_g);
    qm_ec_comb_make(&qm_ec_p256, &qm_ec_p256_g_shape, qm_ec_p256.gx, qm_ec_p256.gy, comb);
    cr_assert(memcmp(comb, qm_ec_p256_g, sizeof qm_ec_p256_g) == 0);
    qm_ec_comb_make(&qm_ec_p384, &qm_ec_p384_g_shape, qm_ec_p384.gx, qm_ec_p384.gy, comb);
    cr_assert(memcmp(comb, qm_ec_p384_g, sizeof qm_ec_p384_g) == 0);
    free(comb);
}
#endif

/* Inverses and combs, which run on every machine: combs by the definition in ec_comb.h. */
static void check_scalar(enum qm_sig_class sig_class, const struct qm_ec_curve *curve, const struct qm_ec_comb_shape *shape)
{
    const struct forge_curve *c = forge_curve(sig_class);
    struct forge_rng rng = forge_seed("combs");
    struct world w = {.rng = rng, .c = c, .ctx = BN_CTX_new()};
    size_t words = curve->words, size = 8 * words;
    BIGNUM *m = num(), *x = num(), *y = num(), *form = num();
    MUST(w.ctx != NULL);
    for (int i = 0; i < 600; i++) {
        bool order = i % 2 == 0;
        uint64_t in[QM_EC_WORDS_MAX], out[QM_EC_WORDS_MAX], want[QM_EC_WORDS_MAX];
        const BIGNUM *mod = order ? c->n : c->p;
        BIGNUM *v = scalar(&w);
        MUST(BN_mod_inverse(x, v, mod, w.ctx));
        MUST(BN_bn2lebinpad(v, (uint8_t *)in, (int)size) > 0 && BN_bn2lebinpad(x, (uint8_t *)want, (int)size) > 0);
        cr_assert(qm_ec_inverse(curve->words, out, in, order ? curve->n : curve->p));
        cr_assert(memcmp(out, want, size) == 0);
        memset(in, 0, sizeof in);
        cr_assert(!qm_ec_inverse(curve->words, out, in, curve->p));
        BN_free(v);
    }
    BN_zero(form);
    MUST(BN_set_bit(form, (int)(52 * curve->digits)));
    size_t bytes = qm_ec_comb_bytes(curve, shape), entries = (size_t)1 << (shape->teeth - 1);
    uint8_t *comb = malloc(bytes);
    uint64_t limbs[2 * QM_EC_WORDS_MAX];
    BIGNUM *d = scalar(&w);
    EC_POINT *q = multiple(&w, d);
    MUST(comb != NULL && EC_POINT_get_affine_coordinates(c->group, q, x, y, w.ctx));
    MUST(BN_bn2lebinpad(x, (uint8_t *)limbs, (int)size) > 0);
    MUST(BN_bn2lebinpad(y, (uint8_t *)(limbs + words), (int)size) > 0);
    qm_ec_comb_make(curve, shape, limbs, limbs + words, comb);
    for (size_t at = 0; at < entries * shape->subs; at += 1 + (entries > 64 ? forge_below(&w.rng, 64) : 0)) {
        uint8_t want[2 * 48];
        BN_zero(m);
        for (unsigned j = 0; j < shape->teeth; j++) {
            BIGNUM *t = num();
            BN_zero(t);
            MUST(BN_set_bit(t, (int)((at / entries + j * shape->subs) * shape->rows)));
            bool plus = j + 1 == shape->teeth || (at % entries >> j & 1) != 0;
            MUST(plus ? BN_add(m, m, t) : BN_sub(m, m, t));
            BN_free(t);
        }
        EC_POINT *e = EC_POINT_new(c->group);
        MUST(e != NULL && EC_POINT_mul(c->group, e, NULL, q, m, w.ctx));
        MUST(EC_POINT_get_affine_coordinates(c->group, e, x, y, w.ctx));
        MUST(BN_mod_mul(x, x, form, c->p, w.ctx) && BN_mod_mul(y, y, form, c->p, w.ctx));
        MUST(BN_bn2lebinpad(x, want, (int)size) > 0 && BN_bn2lebinpad(y, want + size, (int)size) > 0);
        cr_assert(memcmp(want, comb + at * 2 * size, 2 * size) == 0, "entry %zu", at);
        EC_POINT_free(e);
    }
    EC_POINT_free(q);
    free(comb);
    BIGNUM *const all[] = {m, x, y, form, d};
    for (size_t i = 0; i < QM_COUNT(all); i++)
        BN_free(all[i]);
    BN_CTX_free(w.ctx);
}

Test(ec_comb, key_combs)
{
    check_scalar(QM_SIG_P256, &qm_ec_p256, &qm_ec_p256_key);
    check_scalar(QM_SIG_P384, &qm_ec_p384, &qm_ec_p384_key);
}

Test(ec_comb, other_shapes)
{
    static const struct qm_ec_comb_shape wide = {13, 1, 20}, narrow = {5, 2, 26}, wide384 = {12, 2, 17};
    check_scalar(QM_SIG_P256, &qm_ec_p256, &wide);
    check_scalar(QM_SIG_P256, &qm_ec_p256, &narrow);
    check_scalar(QM_SIG_P384, &qm_ec_p384, &wide384);
}
