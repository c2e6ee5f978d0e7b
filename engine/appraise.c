/* The appraisal (contract, section 3): the order of the checks, and what each verdict needs. */
#include <assert.h>
#include <stdlib.h>

#include "codec/cursor.h"
#include "engine/compare.h"
#include "engine/replay.h"
#include "engine/verify.h"

/* A bit for every check that passed. Nothing is trusted without all of them; zeroed, nothing passed. */
enum {
    CHECK_WELL_FORMED = 1 << 0,
    CHECK_ENROLLED = 1 << 1,
    CHECK_QUOTE = 1 << 2,
    CHECK_SIGNATURE_FORM = 1 << 3,
    CHECK_SELECTION = 1 << 4,
    CHECK_NONCE = 1 << 5,
    CHECK_SIGNATURE = 1 << 6,
    CHECK_AUTHENTIC = (1 << 7) - 1, /* all of the above */
    CHECK_PROVEN = 1 << 7,
    CHECK_BASELINE = 1 << 8, /* the proven values are one live accepted set, with a value for every baselined PCR */
    CHECK_ALL = (1 << 9) - 1,
};

enum { SIG_ROOM = 2 * 48 };

struct item {
    const struct qm_instance *instance; /* once enrolled */
    struct qm_attest attest;
    uint32_t passed;
    uint8_t reason; /* of the first check that failed */
    uint8_t log;    /* enum qm_log_state */
    uint8_t fresh;  /* enum qm_fresh */
    uint32_t beacon;
    const struct qm_set *passes_on;  /* the set whose composite is the signed digest */
    const uint8_t *value[QM_PCR_COUNT]; /* proven values of the baselined bank */
    struct qm_replayed replayed;
    struct qm_span signature; /* as the kernels want it */
    uint8_t attest_sha256[32];
    uint8_t digest[QM_DIGEST_MAX]; /* of the attest, by the scheme's hash */
    uint8_t rs[SIG_ROOM];
};

/* What a beacon's extraData is the digest of begins so. */
static const char beacon_text[19] = {'q', 'u', 'o', 't', 'e', 'm', 'i', 'l', 'l', '-', 'b', 'e', 'a', 'c', 'o', 'n', '-', 'v', '1'};
enum { BEACON_MESSAGE_MAX = sizeof beacon_text + QM_BEACON_SIZE + QM_ID_MAX };

struct qm_verifier {
    const struct qm_table *table;
    const struct qm_kernels *kernels;
    struct qm_verify_options options;
    struct qm_verify_stats stats;
    struct qm_replay replay;
    void *scratch[QM_SIG_CLASS_COUNT];
    const struct qm_sig_kernel *opened[QM_SIG_CLASS_COUNT]; /* NULL: shares an earlier class' scratch */
    struct item item[QM_VERIFY_BATCH];
    struct qm_span id[QM_VERIFY_BATCH];
    struct qm_instance found[QM_VERIFY_BATCH];
    struct qm_message message[QM_VERIFY_BATCH];
    struct qm_sig_job job[QM_VERIFY_BATCH];
    struct qm_sig_job *by_class[QM_VERIFY_BATCH];
    size_t message_item[QM_VERIFY_BATCH];
    uint8_t composite[QM_VERIFY_BATCH][32];
    uint8_t composite_message[QM_VERIFY_BATCH][QM_PCR_COUNT * 32];
    uint8_t other_bank[QM_HASH_COUNT][QM_PCR_COUNT][QM_DIGEST_MAX];
    uint8_t other_message[QM_COMPOSITE_MAX];
    uint8_t beacon_message[QM_VERIFY_BATCH][BEACON_MESSAGE_MAX];
    char event_text[QM_VERIFY_BATCH][QM_EVENT_TEXT_MAX];
};

/* ---- life ------------------------------------------------------------------------------------------------------------ */

/* The first class that the kernel of class c serves; classes of one kernel share its scratch. */
static unsigned owner(const struct qm_kernels *k, unsigned c)
{
    for (unsigned first = 0; first < c; first++)
        if (k->sig[first] == k->sig[c])
            return first;
    return c;
}

size_t qm_verifier_size(const struct qm_kernels *kernels)
{
    size_t size = qm_align_up(sizeof(struct qm_verifier), QM_CACHE_LINE);
    size += qm_align_up(qm_replay_size(QM_VERIFY_LOG_BYTES, QM_VERIFY_BATCH), QM_CACHE_LINE);
    size += qm_memo_size();
    for (unsigned c = 0; c < QM_SIG_CLASS_COUNT; c++)
        if (owner(kernels, c) == c)
            size += qm_align_up(kernels->sig[c]->scratch_size(), QM_CACHE_LINE);
    return size;
}

qm_err qm_verifier_init(struct qm_verifier **out, void *mem, const struct qm_table *table, const struct qm_kernels *kernels,
                        const struct qm_verify_options *options, struct qm_fault *fault)
{
    struct qm_verifier *v = mem;
    uint8_t *p = (uint8_t *)mem + qm_align_up(sizeof *v, QM_CACHE_LINE);
    memset(v, 0, sizeof *v);
    v->table = table;
    v->kernels = kernels;
    v->options = *options;
    struct qm_memo *memo = NULL;
    if (!options->no_memo)
        qm_memo_init(&memo, p);
    p += qm_memo_size();
    qm_replay_init(&v->replay, p, QM_VERIFY_LOG_BYTES, QM_VERIFY_BATCH, memo, &v->stats.lanes);
    p += qm_align_up(qm_replay_size(QM_VERIFY_LOG_BYTES, QM_VERIFY_BATCH), QM_CACHE_LINE);
    *out = v;
    for (unsigned c = 0; c < QM_SIG_CLASS_COUNT; c++) {
        unsigned first = owner(kernels, c);
        if (first != c) {
            v->scratch[c] = v->scratch[first];
            continue;
        }
        qm_err err = kernels->sig[c]->init(p, kernels->sha256, fault);
        if (err != QM_OK) {
            qm_verifier_close(v);
            return err;
        }
        v->scratch[c] = p;
        v->opened[c] = kernels->sig[c];
        p += qm_align_up(kernels->sig[c]->scratch_size(), QM_CACHE_LINE);
    }
    return QM_OK;
}

void qm_verifier_close(struct qm_verifier *v)
{
    if (v == NULL)
        return;
    for (unsigned c = 0; c < QM_SIG_CLASS_COUNT; c++)
        if (v->opened[c] != NULL)
            v->opened[c]->close(v->scratch[c]);
}

const struct qm_verify_stats *qm_verifier_stats(const struct qm_verifier *v)
{
    return &v->stats;
}

/* ---- checks 1 to 6 --------------------------------------------------------------------------------------------------- */

/* The orders of the curves (FIPS 186-5; SEC 2, 2.4.2 and 2.5.1). */
static const uint8_t order_p256[32] = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
                                       0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
static const uint8_t order_p384[48] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2,
                                       0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73};

/* Writes an integer of any length as size bytes. False unless it lies in [1, order - 1]. */
static bool scalar_fixed(struct qm_span in, const uint8_t *order, size_t size, uint8_t *to)
{
    while (in.len != 0 && in.p[0] == 0) {
        in.p++;
        in.len--;
    }
    if (in.len == 0 || in.len > size)
        return false;
    memset(to, 0, size - in.len);
    memcpy(to + size - in.len, in.p, in.len);
    return memcmp(to, order, size) < 0;
}

/* Check 4: algorithm and hash as enrolled, lengths and ranges as the key wants them. */
static bool signature_form(struct item *it, struct qm_span bytes)
{
    static const uint16_t scheme_of_tpm[] = {
        [QM_SCHEME_RSASSA] = QM_TPM_ALG_RSASSA, [QM_SCHEME_RSAPSS] = QM_TPM_ALG_RSAPSS, [QM_SCHEME_ECDSA] = QM_TPM_ALG_ECDSA};
    const struct qm_profile *p = it->instance->profile;
    struct qm_signature s;
    if (!qm_signature_parse(bytes, &s) || s.tpm_alg != scheme_of_tpm[p->scheme] || s.tpm_hash != qm_hash_to_tpm(p->hash))
        return false;
    if (p->scheme != QM_SCHEME_ECDSA) {
        it->signature = s.a;
        return s.a.len == (it->instance->key->bits + 7u) / 8;
    }
    const bool p256 = it->instance->key->sig_class == QM_SIG_P256;
    const uint8_t *order = p256 ? order_p256 : order_p384;
    const size_t size = p256 ? sizeof order_p256 : sizeof order_p384;
    it->signature = (struct qm_span){it->rs, 2 * size};
    return scalar_fixed(s.a, order, size, it->rs) && scalar_fixed(s.b, order, size, it->rs + size);
}

/* Check 5: bit for bit; longer bitmaps whose extra bits are zero were made equal by the parser. */
static bool selection_equal(const struct qm_attest *a, const struct qm_profile *p)
{
    if (a->selection_count != p->select_count)
        return false;
    for (unsigned i = 0; i < p->select_count; i++)
        if (a->selection[i].tpm_alg != qm_hash_to_tpm(p->select[i].hash) || a->selection[i].mask != p->select[i].mask)
            return false;
    return true;
}

static bool fail(struct item *it, enum qm_reason reason)
{
    it->reason = (uint8_t)reason;
    return false;
}

static bool cheap_checks(struct item *it, const struct qm_record *r, const struct qm_instance *found)
{
    const struct qm_evidence *e = &r->evidence;
    if (e->malformed)
        return fail(it, QM_MALFORMED);
    it->passed |= CHECK_WELL_FORMED;
    if (found->key == NULL)
        return fail(it, QM_UNKNOWN_INSTANCE);
    it->instance = found;
    it->passed |= CHECK_ENROLLED;
    if (!qm_attest_parse(e->quote, &it->attest))
        return fail(it, QM_NOT_A_QUOTE);
    it->passed |= CHECK_QUOTE;
    if (!signature_form(it, e->sig))
        return fail(it, QM_BAD_SIGNATURE);
    it->passed |= CHECK_SIGNATURE_FORM;
    if (!selection_equal(&it->attest, found->profile))
        return fail(it, QM_WRONG_SELECTION);
    it->passed |= CHECK_SELECTION;
    return true;
}

/* Which of the beacons extraData was made with. The newest comes first, so most are found at once. */
static void find_beacons(struct qm_verifier *v, const struct qm_record *records, size_t count)
{
    for (unsigned b = 0; b < v->options.beacon_count; b++) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++) {
            const struct item *it = &v->item[i];
            const struct qm_span id = records[i].evidence.id;
            if ((it->passed & CHECK_SELECTION) == 0 || it->beacon != 0 || it->instance->nonce.p != NULL || it->attest.extra.len != 32)
                continue;
            uint8_t *to = v->beacon_message[n];
            memcpy(to, beacon_text, sizeof beacon_text);
            memcpy(to + sizeof beacon_text, v->options.beacon[b].value, QM_BEACON_SIZE);
            memcpy(to + sizeof beacon_text + QM_BEACON_SIZE, id.p, id.len);
            v->message[n] = (struct qm_message){to, (uint32_t)(sizeof beacon_text + QM_BEACON_SIZE + id.len), v->composite[n]};
            v->message_item[n++] = i;
        }
        v->kernels->sha256->digest(v->message, n);
        for (size_t m = 0; m < n; m++) {
            struct item *it = &v->item[v->message_item[m]];
            if (memcmp(it->attest.extra.p, v->composite[m], 32) == 0)
                it->beacon = v->options.beacon[b].no;
        }
    }
}

/* Check 6: the nonce that was enrolled, else a beacon where one is demanded. */
static void check_freshness(struct item *it)
{
    if ((it->passed & CHECK_SELECTION) == 0)
        return;
    const struct qm_span nonce = it->instance->nonce;
    if (nonce.p != NULL ? !qm_span_eq(nonce, it->attest.extra) : it->instance->require_beacon && it->beacon == 0) {
        fail(it, QM_STALE_NONCE);
        return;
    }
    it->fresh = nonce.p != NULL ? QM_FRESH_NONCE : it->beacon != 0 ? QM_FRESH_BEACON : QM_FRESH_CLOCK;
    it->passed |= CHECK_NONCE;
}

/* ---- check 7 --------------------------------------------------------------------------------------------------------- */

/* The SHA-256 of every attest there is, known machine or not: duplicates are known by it. */
static void digest_attests(struct qm_verifier *v, const struct qm_record *records, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (!records[i].evidence.malformed && records[i].evidence.quote.len != 0)
            v->message[n++] = (struct qm_message){records[i].evidence.quote.p, (uint32_t)records[i].evidence.quote.len,
                                                  v->item[i].attest_sha256};
    v->kernels->sha256->digest(v->message, n);
}

static void job_set(struct qm_sig_job *job, struct item *it, struct qm_span quote)
{
    const struct qm_profile *p = it->instance->profile;
    const uint8_t *digest = it->attest_sha256;
    if (p->hash != QM_HASH_SHA256) {
        qm_hash_one(p->hash, quote, it->digest);
        digest = it->digest;
    }
    *job = (struct qm_sig_job){it->instance->key, digest, it->signature.p, p->hash, p->scheme, false};
}

/* A kernel's word is not taken for a negative, nor for one in options.audit positives. That goes for the portable kernel too: it
 * cannot say that it ran out of memory, the oracle can, and an environment that fails is no verdict. */
static qm_err second_look(struct qm_verifier *v, const struct qm_sig_kernel *kernel, struct qm_sig_job *job, struct qm_fault *fault)
{
    const bool said = job->valid;
    if (said && (v->options.audit == 0 || v->stats.signatures % v->options.audit != 0))
        return QM_OK;
    qm_err err = qm_oracle_verify(job, &job->valid, fault);
    if (err != QM_OK)
        return err;
    v->stats.signatures_audited += said;
    v->stats.signatures_rechecked += !said;
    if (job->valid == said)
        return QM_OK;
    return qm_fail(fault, QM_E_SELFTEST, 0, "kernel %s calls a signature %s that OpenSSL calls %s; use --crypto openssl and report it",
                   kernel->name, said ? "valid" : "invalid", said ? "invalid" : "valid");
}

static qm_err check_signatures(struct qm_verifier *v, const struct qm_record *records, size_t count, struct qm_fault *fault)
{
    for (size_t i = 0; i < count; i++)
        if ((v->item[i].passed & CHECK_NONCE) != 0)
            job_set(&v->job[i], &v->item[i], records[i].evidence.quote);
    for (unsigned c = 0; c < QM_SIG_CLASS_COUNT; c++) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++)
            if ((v->item[i].passed & CHECK_NONCE) != 0 && v->item[i].instance->key->sig_class == c)
                v->by_class[n++] = &v->job[i];
        if (n == 0)
            continue;
        v->kernels->sig[c]->verify(v->scratch[c], v->by_class, n);
        for (size_t i = 0; i < n; i++) {
            v->stats.signatures++;
            qm_err err = second_look(v, v->kernels->sig[c], v->by_class[i], fault);
            if (err != QM_OK)
                return err;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if ((v->item[i].passed & CHECK_NONCE) == 0)
            continue;
        if (v->job[i].valid)
            v->item[i].passed |= CHECK_SIGNATURE;
        else
            fail(&v->item[i], QM_BAD_SIGNATURE);
    }
    return QM_OK;
}

static bool authentic(const struct item *it)
{
    return (it->passed & CHECK_AUTHENTIC) == CHECK_AUTHENTIC;
}

/* ---- check 9: proof of PCR values ------------------------------------------------------------------------------------ */

static bool digest_is(const struct item *it, const uint8_t *digest)
{
    size_t size = qm_hash_size(it->instance->profile->hash);
    return it->attest.pcr_digest.len == size && memcmp(it->attest.pcr_digest.p, digest, size) == 0;
}

/* By an accepted set: its composite was computed when the table was built. */
static void prove_by_baseline(struct item *it)
{
    for (unsigned i = 0; i < it->instance->set_count; i++) {
        const struct qm_set *s = it->instance->set[i];
        if (s->composite_size == 0 || s->composite_size != it->attest.pcr_digest.len || !digest_is(it, s->composite))
            continue;
        it->passes_on = s;
        it->passed |= CHECK_PROVEN;
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            it->value[pcr] = qm_set_value(s, pcr);
        return;
    }
}

/* The values of every selected PCR that the record reports. False: some are missing. */
static bool reported_values(const struct item *it, const struct qm_evidence *e, struct qm_pcr_values *out)
{
    const struct qm_profile *p = it->instance->profile;
    for (unsigned b = 0; b < p->select_count; b++) {
        if ((p->select[b].mask & ~e->pcr_mask[p->select[b].hash]) != 0)
            return false;
        qm_evidence_pcrs(e, p->select[b].hash, out->value[b]);
    }
    return true;
}

static void proven_by(struct item *it, const struct qm_pcr_values *values)
{
    const struct qm_profile *p = it->instance->profile;
    it->passed |= CHECK_PROVEN;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        it->value[pcr] = (p->select[p->first256].mask >> pcr & 1) != 0 ? values->value[p->first256][pcr] : NULL;
}

/* The usual quote: one bank, SHA-256, signed with SHA-256; its composites are hashed side by side. */
static bool plain(const struct qm_profile *p)
{
    return p->select_count == 1 && p->hash == QM_HASH_SHA256;
}

/* One composite at once, for what is not plain. */
static bool composite_is_signed(struct qm_verifier *v, const struct item *it, const struct qm_pcr_values *values)
{
    uint8_t digest[QM_DIGEST_MAX];
    size_t len = qm_composite_message(it->instance->profile, values, v->other_message);
    qm_hash_one(it->instance->profile->hash, (struct qm_span){v->other_message, len}, digest);
    return digest_is(it, digest);
}

/* Composites of plain quotes that wait to be hashed: add, then settle. */
static void composite_add(struct qm_verifier *v, size_t *waiting, size_t item, const struct qm_pcr_values *values)
{
    size_t n = (*waiting)++;
    size_t len = qm_composite_message(v->item[item].instance->profile, values, v->composite_message[n]);
    v->message[n] = (struct qm_message){v->composite_message[n], (uint32_t)len, v->composite[n]};
    v->message_item[n] = item;
}

static void prove_by_reported(struct qm_verifier *v, const struct qm_record *records, size_t count)
{
    size_t waiting = 0;
    struct qm_pcr_values values;
    for (size_t i = 0; i < count; i++) {
        struct item *it = &v->item[i];
        if (!authentic(it) || (it->passed & CHECK_PROVEN) != 0 || !reported_values(it, &records[i].evidence, &values))
            continue;
        if (plain(it->instance->profile))
            composite_add(v, &waiting, i, &values);
        else if (composite_is_signed(v, it, &values))
            proven_by(it, &values);
    }
    v->kernels->sha256->digest(v->message, waiting);
    for (size_t n = 0; n < waiting; n++) {
        struct item *it = &v->item[v->message_item[n]];
        if (digest_is(it, v->composite[n]) && reported_values(it, &records[v->message_item[n]].evidence, &values))
            proven_by(it, &values);
    }
}

/* The replayed values of every selected PCR. False: a bank other than SHA-256 cannot be replayed from this log. */
static bool replayed_values(struct qm_verifier *v, const struct item *it, struct qm_span log, struct qm_pcr_values *out)
{
    const struct qm_profile *p = it->instance->profile;
    for (unsigned b = 0; b < p->select_count; b++) {
        enum qm_hash hash = p->select[b].hash;
        if (b != p->first256 && !qm_replay_bank(log, hash, p->select[b].mask, v->other_bank[hash]))
            return false;
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if ((p->select[b].mask >> pcr & 1) != 0)
                out->value[b][pcr] = b == p->first256 ? qm_replay_value(&v->replay, &it->replayed, pcr) : v->other_bank[hash][pcr];
    }
    return true;
}

/* The replay against the proven values: every baselined PCR. */
static bool replay_agrees(const struct qm_verifier *v, const struct item *it)
{
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((it->replayed.mask >> pcr & 1) != 0 && memcmp(it->value[pcr], qm_replay_value(&v->replay, &it->replayed, pcr), 32) != 0)
            return false;
    return true;
}

/* What the chains say, for the items from..to: logs that agree, and proof where nothing else gave it. */
static void judge_logs(struct qm_verifier *v, const struct qm_record *records, size_t from, size_t to)
{
    size_t waiting = 0;
    struct qm_pcr_values values;
    for (size_t i = from; i < to; i++) {
        struct item *it = &v->item[i];
        if (it->log != QM_LOG_REPLAYED)
            continue;
        if ((it->passed & CHECK_PROVEN) != 0) {
            if (!replay_agrees(v, it))
                it->log = QM_LOG_INCONSISTENT;
            continue;
        }
        it->log = QM_LOG_INCONSISTENT; /* until the composite is the signed one */
        if (!replayed_values(v, it, records[i].evidence.log, &values))
            continue;
        if (plain(it->instance->profile))
            composite_add(v, &waiting, i, &values);
        else if (composite_is_signed(v, it, &values)) {
            proven_by(it, &values);
            it->log = QM_LOG_REPLAYED;
        }
    }
    v->kernels->sha256->digest(v->message, waiting);
    for (size_t n = 0; n < waiting; n++) {
        struct item *it = &v->item[v->message_item[n]];
        if (!digest_is(it, v->composite[n]) || !replayed_values(v, it, records[v->message_item[n]].evidence.log, &values))
            continue;
        proven_by(it, &values);
        it->log = QM_LOG_REPLAYED;
    }
}

/* ---- check 10 and the result ----------------------------------------------------------------------------------------- */

static void say(struct qm_result *out, enum qm_status status, enum qm_reason reason)
{
    out->status = (uint8_t)status;
    out->reason = (uint8_t)reason;
}

/* The verdict on an authentic record. */
static void conclude(struct item *it, struct qm_result *out)
{
    const uint32_t baselined = it->instance->profile->baselined;
    const bool proven = (it->passed & CHECK_PROVEN) != 0;
    const uint8_t *const *value = proven ? it->value : NULL;
    enum qm_status status;
    enum qm_reason reason;
    struct qm_comparison c = {.set = it->passes_on, .passes = true};
    if (it->passes_on != NULL) { /* proven by it, so equal to it */
        status = QM_TRUSTED;
        reason = QM_ALL_GOOD;
    } else {
        qm_conclude(value, baselined, it->instance->set, it->instance->set_count, &status, &reason, &c);
    }
    if (proven && c.passes)
        it->passed |= CHECK_BASELINE;
    if (status == QM_TRUSTED && ((it->passed & CHECK_ALL) != CHECK_ALL || baselined == 0))
        return; /* invalid, as a result begins; it cannot be, and if it is, nothing was checked */
    if (it->instance->require_log && it->log != QM_LOG_REPLAYED && (status == QM_TRUSTED || status == QM_NEW)) {
        status = QM_UNTRUSTED;
        reason = QM_LOG_REQUIRED;
    }
    say(out, status, reason);
    if (c.set != NULL) {
        out->set_a = c.set->set_no;
        out->set_b = c.set->pair_no;
        out->pair_mask = c.set->pair_mask;
    }
    out->stage_count = (uint8_t)qm_stages(value, baselined, c.set, out->stage, &out->first_fail);
}

static void result(const struct qm_verifier *v, const struct qm_record *r, struct item *it, uint64_t now_ms, struct qm_result *out)
{
    memset(out, 0, offsetof(struct qm_result, stage));
    out->run = v->options.run;
    out->source = r->source;
    out->off = r->off;
    out->len = r->len;
    out->count = r->count;
    out->id = r->evidence.id;
    out->first_fail = -1;
    out->checked_ms = now_ms;
    out->has_t = r->evidence.has_t && !r->evidence.malformed;
    out->t_ms = r->evidence.t_ms;
    out->log = QM_LOG_NOT_CHECKED;
    say(out, QM_INVALID, it->reason);
    if ((it->passed & CHECK_WELL_FORMED) != 0 && r->evidence.quote.len != 0) {
        out->has_attest = true;
        memcpy(out->attest, it->attest_sha256, sizeof out->attest);
    }
    if ((it->passed & CHECK_ENROLLED) != 0) {
        out->has_baseline = true;
        out->baseline = it->instance->generation;
        out->slot = it->instance->slot;
    }
    if (!authentic(it))
        return;
    out->log = it->log;
    out->proven = (it->passed & CHECK_PROVEN) != 0;
    out->has_clock = true;
    out->clock_ms = it->attest.clock_ms;
    out->reset = it->attest.reset;
    out->restart = it->attest.restart;
    out->safe = it->attest.safe;
    out->firmware = it->attest.firmware;
    out->pcr_digest = it->attest.pcr_digest;
    out->fresh = it->fresh;
    out->beacon = it->beacon;
    conclude(it, out);
}

/* Where a log led to a proven value that is not the expected one: the first event that led there. */
static qm_err explain(struct qm_verifier *v, const struct qm_record *record, size_t i, struct qm_result *r, struct qm_fault *fault)
{
    struct qm_event_list list;
    bool found;
    const struct qm_stage *s = r->stage;
    if (r->reason != QM_PCR_MISMATCH || r->log != QM_LOG_REPLAYED || r->first_fail < 0)
        return QM_OK;
    while (s->pcr != r->first_fail)
        s++;
    qm_err err = qm_table_events(v->table, s->pcr, s->expected, &list, &found, fault);
    r->has_event = err == QM_OK && found && qm_explain(record->evidence.log, s->pcr, &list, v->event_text[i], &r->event);
    return err;
}

/* ---- the batch ------------------------------------------------------------------------------------------------------- */

/* Replays and concludes, as many logs side by side as fit. */
static void replay_and_conclude(struct qm_verifier *v, const struct qm_record *records, size_t count, uint64_t now_ms,
                                struct qm_result *results)
{
    qm_replay_reset(&v->replay);
    for (size_t from = 0; from < count;) {
        size_t to = from;
        for (; to < count && qm_replay_fits(&v->replay, records[to].evidence.log.len); to++) {
            struct item *it = &v->item[to];
            if (!authentic(it))
                continue;
            const struct qm_profile *p = it->instance->profile;
            uint32_t mask = (it->passed & CHECK_PROVEN) != 0 ? p->baselined : p->select[p->first256].mask;
            it->log = (uint8_t)qm_replay_add(&v->replay, records[to].evidence.log, mask, &it->replayed);
        }
        assert(to > from);
        qm_replay_run(&v->replay, v->kernels->sha256);
        judge_logs(v, records, from, to);
        for (size_t i = from; i < to; i++)
            result(v, &records[i], &v->item[i], now_ms, &results[i]);
        from = to;
    }
    v->stats.extends = v->replay.extends;
    v->stats.extends_remembered = v->replay.remembered;
}

qm_err qm_verify(struct qm_verifier *v, const struct qm_record *records, size_t count, uint64_t now_ms, struct qm_result *results,
                 struct qm_fault *fault)
{
    assert(count <= QM_VERIFY_BATCH);
    for (size_t i = 0; i < count; i++)
        v->id[i] = records[i].evidence.malformed ? (struct qm_span){NULL, 0} : records[i].evidence.id;
    qm_err err = qm_table_find(v->table, v->id, count, v->found, fault);
    if (err != QM_OK)
        return err;
    for (size_t i = 0; i < count; i++) {
        struct item *it = &v->item[i];
        it->passed = 0;
        it->reason = QM_MALFORMED;
        it->log = QM_LOG_NOT_CHECKED;
        it->passes_on = NULL;
        it->beacon = 0;
        it->fresh = QM_FRESH_UNKNOWN;
        cheap_checks(it, &records[i], &v->found[i]);
    }
    find_beacons(v, records, count);
    for (size_t i = 0; i < count; i++)
        check_freshness(&v->item[i]);
    digest_attests(v, records, count);
    err = check_signatures(v, records, count, fault);
    if (err != QM_OK)
        return err;
    for (size_t i = 0; i < count; i++)
        if (authentic(&v->item[i]))
            prove_by_baseline(&v->item[i]);
    prove_by_reported(v, records, count);
    replay_and_conclude(v, records, count, now_ms, results);
    for (size_t i = 0; err == QM_OK && i < count; i++)
        err = explain(v, &records[i], i, &results[i], fault);
    return err;
}
