#include "tools/gen/gen_machine.h"

#include <stdio.h>
#include <stdlib.h>

#include "tools/gen/gen_efi.h"
#include "tools/gen/gen_rand.h"

/* Time of the first round, and between rounds. Fixed, so that the same parameters make the same
 * fleet. */
#define EPOCH_MS 1767225600000ull /* 2026-01-01 */
enum { ROUND_MS = 3600 * 1000, JITTER_MS = 60 * 1000 };

static const char *const regions[] = {"eu1", "eu2", "us1", "us2", "ap1"};

/* Random choices of one round; each has its own counter. */
enum { ROUND_T, ROUND_EVENT, ROUND_CLOCK, ROUND_DOWN, ROUND_NONCE };
static uint64_t of_round(uint64_t seed, uint64_t machine, uint64_t round, unsigned what)
{
    return qm_gen_u64(seed, machine, QM_FOR_ROUND + round, what);
}

qm_err qm_gen_templates_open(struct qm_gen_templates *t, const struct qm_gen_params *params,
                             bool updated, struct qm_gen_hasher *h, struct qm_fault *fault)
{
    *t = (struct qm_gen_templates){{NULL, NULL}, 0};
    for (size_t kernel = 0; kernel < (updated ? 2u : 1u); kernel++) {
        t->of[kernel] = calloc(qm_gen_image_count(), sizeof *t->of[kernel]);
        if (t->of[kernel] == NULL) {
            qm_gen_templates_close(t);
            return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
        }
        for (size_t i = 0; i < qm_gen_image_count(); i++) {
            qm_err err = qm_gen_image_template(i, kernel == 1, params->events, params->log_bytes, h,
                                               &t->of[kernel][i], fault);
            if (err != QM_OK) {
                qm_gen_templates_close(t);
                return err;
            }
            if (t->of[kernel][i].log_len > t->log_len_max)
                t->log_len_max = t->of[kernel][i].log_len;
        }
    }
    return QM_OK;
}

void qm_gen_templates_close(struct qm_gen_templates *t)
{
    for (size_t kernel = 0; kernel < QM_COUNT(t->of); kernel++) {
        for (size_t i = 0; t->of[kernel] != NULL && i < qm_gen_image_count(); i++)
            qm_gen_template_free(&t->of[kernel][i]);
        free(t->of[kernel]);
        t->of[kernel] = NULL;
    }
}

static const char *region_of(uint64_t seed, uint64_t machine)
{
    return regions[qm_gen_u64(seed, machine, QM_FOR_REGION, 0) % QM_COUNT(regions)];
}

void qm_gen_machine_id(uint64_t seed, uint64_t machine, char id[QM_GEN_ID_MAX])
{
    const struct qm_gen_image *im = qm_gen_image_at(qm_gen_image_of(seed, machine));
    snprintf(id, QM_GEN_ID_MAX, "%s-%s-%06llu", im->role, region_of(seed, machine),
             (unsigned long long)machine);
}

static void put_json_text(struct qm_out *o, const char *text)
{
    qm_out_json_string(o, (struct qm_span){(const uint8_t *)text, strlen(text)});
}

static void put_json_member(struct qm_out *o, const char *key, const char *value)
{
    qm_out_char(o, ',');
    put_json_text(o, key);
    qm_out_char(o, ':');
    put_json_text(o, value);
}

void qm_gen_machine_enroll(struct qm_out *o, uint64_t seed, uint64_t machine,
                           const struct qm_gen_key *key, const uint8_t (*pcr)[32])
{
    const struct qm_gen_image *im = qm_gen_image_at(qm_gen_image_of(seed, machine));
    char text[QM_GEN_ID_MAX];
    qm_gen_machine_id(seed, machine, text);
    qm_out_text(o, "{\"id\":");
    put_json_text(o, text);
    qm_out_text(o, ",\"ak\":\"");
    qm_out_base64(o, key->public, key->public_len);
    qm_out_char(o, '"');
    if (im->grouped)
        put_json_member(o, "group", im->name);
    snprintf(text, sizeof text, "r%02u",
             (unsigned)(qm_gen_u64(seed, machine, QM_FOR_RACK, 0) % 40));
    qm_out_text(o, ",\"tags\":{\"role\":");
    put_json_text(o, im->role);
    put_json_member(o, "region", region_of(seed, machine));
    put_json_member(o, "rack", text);
    put_json_member(o, "os", im->name);
    qm_out_char(o, '}');
    for (unsigned i = 0; pcr != NULL && i < QM_GEN_PCRS; i++) {
        qm_out_text(o, i == 0 ? ",\"baseline\":{\"" : ",\"");
        qm_out_u64(o, i);
        qm_out_text(o, "\":\"");
        qm_out_hex(o, pcr[i], 32);
        qm_out_text(o, i + 1 == QM_GEN_PCRS ? "\"}" : "\"");
    }
    qm_out_text(o, "}\n");
}

/* Library part 1, 36: Clock goes on through resets while there is power; resetCount counts TPM
 * Resets, restartCount what was restarted or resumed since. After a disorderly shutdown Clock goes
 * on from what was last saved, and safe says NO. */
enum qm_gen_boot qm_gen_machine_step(uint64_t seed, uint64_t machine, uint64_t round,
                                     const struct qm_gen_state *prev, const uint8_t pcrs[32],
                                     struct qm_gen_state *next, bool *safe)
{
    enum { YEAR_MS_1024 = 30796875 }; /* a 1024th of a year */
    uint64_t chance = of_round(seed, machine, round, ROUND_EVENT);
    uint64_t jitter = of_round(seed, machine, round, ROUND_CLOCK) % JITTER_MS;
    *safe = true;
    memcpy(next->pcrs, pcrs, sizeof next->pcrs);
    if (prev == NULL) {
        uint64_t birth = qm_gen_u64(seed, machine, QM_FOR_BIRTH, 0);
        next->clock_ms = 86400000 + birth % 3072 * YEAR_MS_1024 +
                         birth / 3072 % YEAR_MS_1024; /* up to three years */
        next->reset = (uint32_t)(2 + birth / 7919 % 200);
        next->restart = birth / 104729 % 8 == 0 ? (uint32_t)(birth % 5) : 0;
        return QM_GEN_SAME_BOOT;
    }
    next->reset = prev->reset;
    next->restart = prev->restart;
    next->clock_ms = prev->clock_ms + ROUND_MS + jitter;
    if (memcmp(prev->pcrs, pcrs, sizeof prev->pcrs) != 0 || chance % 1000 < 100) {
        uint64_t down = of_round(seed, machine, round, ROUND_DOWN);
        next->reset++;
        next->restart = 0;
        next->clock_ms -= 30000 + down % 120000;
        if (down / 120000 % 8 == 0) { /* power was lost early in the hour */
            *safe = false;
            next->clock_ms = prev->clock_ms + 1 + jitter;
        }
        return QM_GEN_REBOOTED;
    }
    if (chance % 1000 >= 150)
        return QM_GEN_SAME_BOOT;
    next->restart++;
    return QM_GEN_RESUMED;
}

qm_err qm_gen_bench_open(struct qm_gen_bench *b, const struct qm_gen_params *params,
                         const struct qm_gen_templates *templates, const struct qm_gen_keys *keys,
                         struct qm_fault *fault)
{
    *b = (struct qm_gen_bench){
        .params = params, .templates = templates, .log = malloc(templates->log_len_max)};
    if (b->log == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    qm_err err = qm_gen_hasher_open(&b->hasher, fault);
    if (err == QM_OK)
        err = qm_gen_signer_open(&b->signer, keys, fault);
    if (err != QM_OK)
        qm_gen_bench_close(b);
    return err;
}

void qm_gen_bench_close(struct qm_gen_bench *b)
{
    qm_gen_hasher_close(&b->hasher);
    if (b->signer.keys != NULL)
        qm_gen_signer_close(&b->signer);
    free(b->log);
    b->log = NULL;
}

/* A Qualified Name: the parent's, hashed with the key's Name (Library part 1, 16). The parent is
 * the machine's endorsement key, which no file here knows. */
static void put_qualified_name(struct qm_out *o, struct qm_gen_hasher *h, uint64_t seed,
                               uint64_t machine, const struct qm_gen_key *key)
{
    uint8_t both[2 * QM_GEN_NAME_LEN], digest[32];
    both[0] = 0;
    both[1] = QM_TPM_ALG_SHA256;
    qm_gen_fill(seed, machine, QM_FOR_PARENT, both + 2, 32);
    memcpy(both + QM_GEN_NAME_LEN, key->name, QM_GEN_NAME_LEN);
    qm_gen_hash(h, QM_HASH_SHA256, both, sizeof both, digest);
    qm_put_be(o, QM_GEN_NAME_LEN, 2);
    qm_put_be(o, QM_TPM_ALG_SHA256, 2);
    qm_out_bytes(o, digest, sizeof digest);
}

/* TPMS_ATTEST of TPM2_Quote (Library part 2, 10.12.8), SHA-256 PCRs 0 to 9. */
static void put_attest(struct qm_out *o, struct qm_gen_bench *b, const struct qm_gen_visit *visit,
                       const struct qm_gen_key *key, const struct qm_gen_state *state, bool safe,
                       uint64_t firmware, uint8_t pcr[QM_GEN_PCRS][32])
{
    uint8_t nonce[32], digest[QM_DIGEST_MAX];
    enum qm_hash hash = qm_gen_key_hash(key->kind);
    qm_gen_hash(&b->hasher, hash, pcr, 32 * QM_GEN_PCRS, digest);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t v = of_round(b->params->seed, visit->machine, visit->round, ROUND_NONCE + i);
        memcpy(nonce + 8 * i, &v, 8);
    }
    qm_put_be(o, QM_TPM_GENERATED_VALUE, 4);
    qm_put_be(o, QM_TPM_ST_ATTEST_QUOTE, 2);
    put_qualified_name(o, &b->hasher, b->params->seed, visit->machine, key);
    qm_put_be(o, sizeof nonce, 2);
    qm_out_bytes(o, nonce, sizeof nonce);
    qm_put_be(o, state->clock_ms, 8);
    qm_put_be(o, state->reset, 4);
    qm_put_be(o, state->restart, 4);
    qm_put_be(o, safe, 1);
    qm_put_be(o, firmware, 8);
    qm_put_be(o, 1, 4);
    qm_put_be(o, QM_TPM_ALG_SHA256, 2);
    qm_put_be(o, 3, 1);
    qm_put_be(o, 0xff0300, 3);
    qm_put_be(o, qm_hash_size(hash), 2);
    qm_out_bytes(o, digest, qm_hash_size(hash));
}

/* The record's buffer, and whether it could not grow: asked once, at the end. */
struct sink {
    msgpack_sbuffer *buffer;
    bool failed;
};

static int sink_write(void *data, const char *p, size_t len)
{
    struct sink *sink = data;
    sink->failed = sink->failed || msgpack_sbuffer_write(sink->buffer, p, len) != 0;
    return sink->failed ? -1 : 0;
}

static void pack_text(msgpack_packer *pk, const char *text)
{
    msgpack_pack_str_with_body(pk, text, strlen(text));
}

static void pack_bin(msgpack_packer *pk, const char *key, const void *p, size_t len)
{
    pack_text(pk, key);
    msgpack_pack_bin_with_body(pk, p, len);
}

static void pack_pcrs(msgpack_packer *pk, uint8_t pcr[QM_GEN_PCRS][32])
{
    pack_text(pk, "pcrs");
    msgpack_pack_map(pk, 1);
    msgpack_pack_uint16(pk, QM_TPM_ALG_SHA256);
    msgpack_pack_map(pk, QM_GEN_PCRS);
    for (unsigned i = 0; i < QM_GEN_PCRS; i++) {
        msgpack_pack_unsigned_int(pk, i);
        msgpack_pack_bin_with_body(pk, pcr[i], 32);
    }
}

qm_err qm_gen_machine_measure(struct qm_gen_bench *b, const struct qm_gen_visit *visit,
                              const struct qm_gen_state *prev, struct qm_gen_state *next,
                              enum qm_gen_boot *boot, msgpack_sbuffer *out, struct qm_fault *fault)
{
    uint64_t seed = b->params->seed, machine = visit->machine;
    size_t image = qm_gen_image_of(seed, machine);
    const struct qm_gen_template *t = &b->templates->of[visit->updated][image];
    size_t key = machine % b->signer.keys->count;
    uint8_t pcr[QM_GEN_PCRS][32], pcrs[32], attest[512], sig[512];
    bool safe;
    (void)qm_gen_measure(t, &b->hasher, seed, machine, visit->tampered, b->log, pcr);
    qm_gen_hash(&b->hasher, QM_HASH_SHA256, pcr, sizeof pcr, pcrs);
    *boot = qm_gen_machine_step(seed, machine, visit->round, prev, pcrs, next, &safe);
    struct qm_out quote = qm_out_init(attest, sizeof attest),
                  signature = qm_out_init(sig, sizeof sig);
    put_attest(&quote, b, visit, &b->signer.keys->key[key], next, safe,
               qm_gen_image_at(image)->firmware, pcr);
    qm_err err = qm_gen_sign(&b->signer, &b->hasher, key, attest, quote.len, &signature, fault);
    if (err != QM_OK)
        return err;
    if (b->hasher.bad || quote.full || signature.full)
        return qm_fail(fault, QM_E_CRYPTO, 0, "hashing failed");

    /* one collector in sixteen is an old one that reads no PCRs: they are proven by the log or by
     * the baseline */
    bool old_agent = qm_gen_u64(seed, machine, QM_FOR_AGENT, 0) % 16 == 0;
    char id[QM_GEN_ID_MAX];
    msgpack_packer pk;
    struct sink sink = {out, false};
    msgpack_packer_init(&pk, &sink, sink_write);
    qm_gen_machine_id(seed, machine, id);
    msgpack_pack_map(&pk, old_agent ? 8 : 9);
    pack_text(&pk, "v");
    msgpack_pack_int(&pk, 1);
    pack_text(&pk, "id");
    pack_text(&pk, id);
    pack_bin(&pk, "quote", attest, quote.len);
    pack_bin(&pk, "sig", sig, signature.len);
    pack_bin(&pk, "log", b->log, t->log_len);
    if (!old_agent)
        pack_pcrs(&pk, pcr);
    pack_bin(&pk, "ak", b->signer.keys->key[key].name, QM_GEN_NAME_LEN);
    pack_text(&pk, "t");
    msgpack_pack_uint64(&pk, EPOCH_MS + (visit->round - 1) * ROUND_MS +
                                 of_round(seed, machine, visit->round, ROUND_T) % JITTER_MS);
    pack_text(&pk, "agent");
    pack_text(&pk, old_agent ? "qm-collect/0.9.2" : "qm-collect/1.4.0");
    return !sink.failed ? QM_OK : qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
}
