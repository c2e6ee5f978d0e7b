/* Known answers at start: a kernel that was built or chosen wrong, or a processor that computes
 * wrong, must not give verdicts.
 *
 * Signatures: for every key of selftest_vectors.h its good signatures, and bad ones made from them.
 * All trials of a class go through its kernel as often as it has lanes, in one row: as they are an
 * odd number and the lanes a power of two, each stands in every lane once, next to good and bad ones.
 * Then come batches that fill only some lanes.
 * Hashes: published answers for the portable ones, then the SHA-256 kernel against those, with
 * unequal lengths in every lane. */
#include <assert.h>
#include <stdlib.h>

#include "codec/text.h"
#include "engine/kernel/key.h"
#include "engine/kernel/selftest_vectors.h"

enum {
    KEY_COUNT = QM_COUNT(selftest_keys),
    TRIAL_MAX = 33, /* of one class */
    SIG_LANE_MAX = 16,
    JOB_MAX = SIG_LANE_MAX * TRIAL_MAX,
    SIG_MAX = 512,
    LANE_MAX = 32,  /* of a SHA-256 kernel */
    CHAIN_MAX = 11, /* extends of a chain */
    MESSAGE_MAX = 200,
};

struct trial {
    const struct qm_key *key;
    const char *what;
    bool want;
    uint8_t hash;
    uint8_t scheme;
    uint8_t digest[QM_DIGEST_MAX];
    uint8_t sig[SIG_MAX];
};

struct key_room {
    _Alignas(QM_CACHE_LINE) uint8_t bytes[QM_KEY_BYTES_MAX];
};

struct bench {
    struct key_room key[KEY_COUNT];
    struct key_room other[KEY_COUNT]; /* signed nothing here */
    struct trial trial[TRIAL_MAX];
    size_t trial_count;
    struct qm_sig_job job[JOB_MAX];
    struct qm_sig_job *order[JOB_MAX];
};

/* ---- hashes
 * -------------------------------------------------------------------------------------------------------
 */

/* FIPS 180-4, the examples' "abc"; and the hash of two zero digests, which is the first extend of a
 * PCR by zeros. */
static const struct {
    const char *abc;
    const char *zeros;
} hash_answers[QM_HASH_COUNT] = {
    [QM_HASH_SHA1] = {"a9993e364706816aba3e25717850c26c9cd0d89d",
                      "b80de5d138758541c5f05265ad144ab9fa86d1db"},
    [QM_HASH_SHA256] = {"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                        "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"},
    [QM_HASH_SHA384] = {"cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"
                        "1a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
                        "f57bb7ed82c6ae4a29e6c9879338c592c7d42a39135583e8"
                        "ccbe3940f2344b0eb6eb8503db0ffd6a39ddd00cd07d8317"},
    [QM_HASH_SHA512] = {"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
                        "ab942f526272e456ed68a979f50202905ca903a141ed98443567b11ef0bf25a5"
                        "52d639051a01be58558122c58e3de07d749ee59ded36acf0c55cd91924d6ba11"},
};

static bool equals_hex(const uint8_t *p, const char *hex, size_t len)
{
    uint8_t want[QM_DIGEST_MAX];
    return qm_hex_read(hex, want, len) && memcmp(p, want, len) == 0;
}

static qm_err test_portable_hashes(struct qm_fault *fault)
{
    const struct qm_span abc = {(const uint8_t *)"abc", 3};
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++) {
        uint8_t digest[QM_DIGEST_MAX];
        uint8_t value[QM_DIGEST_MAX] = {0};
        const uint8_t zeros[QM_DIGEST_MAX] = {0};
        qm_hash_one(h, abc, digest);
        qm_hash_extend(h, value, zeros);
        if (!equals_hex(digest, hash_answers[h].abc, qm_hash_size(h)) ||
            !equals_hex(value, hash_answers[h].zeros, qm_hash_size(h)))
            return qm_fail(fault, QM_E_SELFTEST, 0, "self-test: the portable %s is wrong",
                           qm_hash_name(h));
    }
    return QM_OK;
}

static bool test_extend(const struct qm_hash_kernel *k, size_t count)
{
    uint8_t pool[CHAIN_MAX][32];
    const uint8_t *digest[CHAIN_MAX];
    struct qm_chain chain[2 * LANE_MAX + 1];
    struct qm_lane_use use = {0, 0};
    uint64_t extends = 0;
    for (size_t i = 0; i < CHAIN_MAX; i++) {
        qm_hash_one(QM_HASH_SHA256, (struct qm_span){(const uint8_t *)&i, sizeof i}, pool[i]);
        digest[i] = pool[i];
    }
    for (size_t i = 0; i < count; i++) {
        /* unequal lengths that start at different digests; the start value is that of a D-RTM PCR
         * every third time */
        size_t from = i % CHAIN_MAX;
        memset(chain[i].value, i % 3 == 0 ? 0xff : (int)i, 32);
        chain[i].digest = digest + from;
        chain[i].count = (uint32_t)((7 * i + 3) % (CHAIN_MAX - from + 1));
        extends += chain[i].count;
    }
    k->extend(chain, count, &use);
    for (size_t i = 0; i < count; i++) {
        uint8_t want[32];
        memset(want, i % 3 == 0 ? 0xff : (int)i, 32);
        for (size_t j = 0; j < chain[i].count; j++)
            qm_hash_extend(QM_HASH_SHA256, want, chain[i].digest[j]);
        if (memcmp(chain[i].value, want, 32) != 0)
            return false;
    }
    return use.filled == extends && use.steps >= extends;
}

static bool test_digest(const struct qm_hash_kernel *k, size_t count)
{
    uint8_t text[MESSAGE_MAX];
    uint8_t digest[2 * LANE_MAX + 1][32];
    struct qm_message message[2 * LANE_MAX + 1];
    for (size_t i = 0; i < MESSAGE_MAX; i++)
        text[i] = (uint8_t)(i * i + 1);
    for (size_t i = 0; i < QM_COUNT(message); i++)
        message[i] = (struct qm_message){
            text + i % 7, (uint32_t)((29 * i + count) % (MESSAGE_MAX - 7)), digest[i]};
    k->digest(message, count);
    for (size_t i = 0; i < count; i++) {
        uint8_t want[32];
        qm_hash_one(QM_HASH_SHA256, (struct qm_span){message[i].p, message[i].len}, want);
        if (memcmp(digest[i], want, 32) != 0)
            return false;
    }
    return true;
}

static qm_err test_sha256(const struct qm_hash_kernel *k, struct qm_fault *fault)
{
    size_t lanes = k->lanes < LANE_MAX ? k->lanes : LANE_MAX;
    for (size_t count = 1; count <= 2 * lanes + 1; count++)
        if (!test_extend(k, count) || !test_digest(k, count))
            return qm_fail(fault, QM_E_SELFTEST, 0,
                           "self-test: the SHA-256 kernel '%s' gives a wrong answer for %zu inputs",
                           k->name, count);
    return QM_OK;
}

/* ---- signatures
 * ---------------------------------------------------------------------------------------------------
 */

static struct qm_key *room_key(struct key_room *room)
{
    return (struct qm_key *)(void *)room->bytes;
}

static bool key_from_hex(const struct selftest_key *in, bool other, struct qm_key *out,
                         struct qm_fault *fault)
{
    uint8_t a[SIG_MAX + 1], b[QM_DIGEST_MAX];
    const char *a_hex = other && !in->rsa ? in->other_a : in->a;
    const char *b_hex = other && !in->rsa ? in->other_b : in->b;
    struct qm_public_numbers numbers = {
        .rsa = in->rsa,
        .ec_class = in->ec_class,
        .exponent = in->exponent,
        .a = {a, strlen(a_hex) / 2},
        .b = {b, b_hex != NULL ? strlen(b_hex) / 2 : 0},
    };
    if (numbers.a.len > sizeof a || numbers.b.len > sizeof b ||
        !qm_hex_read(a_hex, a, numbers.a.len) ||
        (b_hex != NULL && !qm_hex_read(b_hex, b, numbers.b.len)))
        return false;
    if (other && in->rsa)
        a[numbers.a.len / 2] ^= 0x10; /* any odd modulus is a key to the kernels */
    return qm_key_make(&numbers, out, fault) == QM_OK && qm_key_sound(out, QM_KEY_BYTES_MAX);
}

static struct trial *add_trial(struct bench *b, const struct trial *from, const char *what)
{
    assert(b->trial_count < TRIAL_MAX); /* the vectors are ours */
    struct trial *t = &b->trial[b->trial_count++];
    *t = *from;
    t->what = what;
    t->want = false;
    return t;
}

static void set_digest(struct trial *t, enum qm_hash hash)
{
    t->hash = (uint8_t)hash;
    qm_hash_one(hash,
                (struct qm_span){(const uint8_t *)selftest_message, sizeof selftest_message - 1},
                t->digest);
}

/* From one good signature, those that must fail. sig_len: its length. */
static void add_negatives(struct bench *b, const struct trial *good, const struct qm_key *other,
                          size_t sig_len)
{
    bool rsa = good->key->sig_class <= QM_SIG_RSA_ANY;
    add_trial(b, good, "a bit of the signature flipped")->sig[sig_len / 2 - 3] ^= 0x04;
    add_trial(b, good, "the signature's last bit flipped")->sig[sig_len - 1] ^= 0x01;
    add_trial(b, good, "a bit of the digest flipped")->digest[7] ^= 0x80;
    add_trial(b, good, "the key of another")->key = other;
    set_digest(add_trial(b, good, "the digest of another hash"),
               good->hash == QM_HASH_SHA256 ? QM_HASH_SHA384 : QM_HASH_SHA256);
    if (!rsa)
        return;
    add_trial(b, good, "the other RSA scheme")->scheme =
        good->scheme == QM_SCHEME_RSASSA ? QM_SCHEME_RSAPSS : QM_SCHEME_RSASSA;
    memset(add_trial(b, good, "the signature 0")->sig, 0, sig_len);
    struct trial *n = add_trial(b, good, "the signature n");
    for (size_t i = 0; i < sig_len; i++)
        n->sig[sig_len - 1 - i] = (uint8_t)(good->key->limbs[i / 8] >> (8 * (i % 8)));
}

static bool add_trials(struct bench *b, size_t key_idx)
{
    struct trial t = {.key = room_key(&b->key[key_idx]), .want = true};
    bool negatives = false;
    for (size_t i = 0; i < QM_COUNT(selftest_signatures); i++) {
        const struct selftest_signature *s = &selftest_signatures[i];
        size_t len = strlen(s->sig) / 2;
        if (s->key != key_idx)
            continue;
        t.scheme = s->scheme;
        set_digest(&t, (enum qm_hash)s->hash);
        if (len > sizeof t.sig || !qm_hex_read(s->sig, t.sig, len))
            return false;
        add_trial(b, &t, "a good signature")->want = true;
        if (!negatives)
            add_negatives(b, &t, room_key(&b->other[key_idx]), len);
        negatives = true;
    }
    return true;
}

/* count jobs from trial first on, round and round; gives the trial that went wrong, or NULL. */
static const struct trial *run(struct bench *b, const struct qm_sig_kernel *k, void *scratch,
                               size_t first, size_t count)
{
    assert(count <= JOB_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct trial *t = &b->trial[(first + i) % b->trial_count];
        b->job[i] = (struct qm_sig_job){t->key,  t->digest, t->sig,
                                        t->hash, t->scheme, !t->want}; /* must be written */
        b->order[i] = &b->job[i];
    }
    k->verify(scratch, b->order, count);
    for (size_t i = 0; i < count; i++)
        if (b->job[i].valid != b->trial[(first + i) % b->trial_count].want)
            return &b->trial[(first + i) % b->trial_count];
    return NULL;
}

static qm_err test_class(struct bench *b, const struct qm_sig_kernel *k, void *scratch,
                         enum qm_sig_class class, struct qm_fault *fault)
{
    b->trial_count = 0;
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (room_key(&b->key[i])->sig_class == class && !add_trials(b, i))
            return qm_fail(fault, QM_E_SELFTEST, 0, "self-test: a vector cannot be read");
    const struct trial *wrong = b->trial_count != 0 ? NULL : &b->trial[0];
    if (wrong == NULL && b->trial_count % 2 == 0) /* the first twice */
        *add_trial(b, &b->trial[0], b->trial[0].what) = b->trial[0];
    if (wrong == NULL)
        wrong = run(b, k, scratch, 0, k->lanes * b->trial_count);
    for (size_t count = 1; count < k->lanes && count < b->trial_count && wrong == NULL; count++)
        wrong = run(b, k, scratch, count, count);
    if (wrong == NULL)
        return QM_OK;
    return qm_fail(fault, QM_E_SELFTEST, 0,
                   "self-test: kernel '%s' is wrong about a signature of class %s: %s", k->name,
                   qm_sig_class_name(class), b->trial_count != 0 ? wrong->what : "no vectors");
}

/* Every class that k was chosen for, with one scratch. */
static qm_err test_signatures(struct bench *b, const struct qm_sig_kernel *k,
                              const struct qm_kernels *chosen, struct qm_fault *fault)
{
    void *scratch = aligned_alloc(QM_CACHE_LINE, qm_align_up(k->scratch_size(), QM_CACHE_LINE));
    if (scratch == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the self-test");
    qm_err err = k->init(scratch, chosen->sha256, fault);
    if (err == QM_OK) {
        for (unsigned c = 0; c < QM_SIG_CLASS_COUNT && err == QM_OK; c++)
            if (chosen->sig[c] == k)
                err = test_class(b, k, scratch, (enum qm_sig_class)c, fault);
        k->close(scratch);
    }
    free(scratch);
    return err;
}

qm_err qm_kernels_selftest(const struct qm_kernels *k, struct qm_fault *fault)
{
    qm_err err = test_portable_hashes(fault);
    if (err == QM_OK)
        err = test_sha256(k->sha256, fault);
    if (err != QM_OK)
        return err;
    struct bench *b = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *b, QM_CACHE_LINE));
    if (b == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the self-test");
    for (size_t i = 0; i < KEY_COUNT && err == QM_OK; i++)
        if (!key_from_hex(&selftest_keys[i], false, room_key(&b->key[i]), fault) ||
            !key_from_hex(&selftest_keys[i], true, room_key(&b->other[i]), fault))
            err = qm_fail(fault, QM_E_SELFTEST, 0, "self-test: key %zu cannot be made", i);
    for (unsigned c = 0; c < QM_SIG_CLASS_COUNT && err == QM_OK; c++) {
        bool seen = false;
        for (unsigned before = 0; before < c; before++)
            seen |= k->sig[before] == k->sig[c];
        if (!seen)
            err = test_signatures(b, k->sig[c], k, fault);
    }
    free(b);
    return err;
}
