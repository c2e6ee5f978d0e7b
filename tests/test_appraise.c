/* The appraisal (contract, section 3): every check's failure, the order of the checks, the sources
 * of proof, stages, sets, log states; batches against single records; and kernels that lie. */
#include <criterion/criterion.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/verify.h"
#include "tests/craft.h"

enum { SETS_MAX = 4, NOW = 1700000000, BOTH = 1 << QM_HASH_SHA1 | 1 << QM_HASH_SHA256 };

/* A machine, what is enrolled of it, and one record of it. */
struct scene {
    char id[32];
    const char *key_kind;
    unsigned key_no;
    unsigned signing_key_no;
    struct qm_profile profile;
    struct qm_span nonce; /* enrolled; p NULL: none */
    bool require_log, require_beacon;
    unsigned set_count;
    struct {
        uint32_t mask;
        uint32_t pair_mask; /* those of them that are the instance's beside a group's */
        struct craft_pcrs values;
    } set[SETS_MAX]; /* newest first */

    struct craft_pcrs pcrs;     /* what the TPM holds */
    struct craft log;           /* what led there */
    struct craft_pcrs reported; /* what the record reports */
    struct qm_profile report;   /* which of them */
    bool send_log, send_pcrs, own_select;
    bool keep_events; /* the table has the events behind the usual boot's values */
    int salt;
    struct craft_attest attest;
    enum qm_scheme sig_scheme; /* QM_SCHEME_NONE: the profile's */
    enum qm_hash sig_hash;

    struct craft quote, sig, pcrs_map, record;
    uint8_t version;       /* "v" of the record */
    const char *record_id; /* NULL: id */
};

typedef void (*tweak)(struct scene *s);

/* ---- making a scene ------------------------------------------------------------------------- */

static void profile_256(struct qm_profile *p, uint32_t select, uint32_t baselined)
{
    p->select_count = 1;
    p->first256 = 0;
    p->select[0].hash = QM_HASH_SHA256;
    p->select[0].mask = select;
    p->baselined = baselined;
}

/* A small boot: three events in each of PCRs 0 to 8, none in PCR 9. */
static void boot(struct craft *log, unsigned banks, struct craft_pcrs *pcrs, uint32_t changed_pcrs)
{
    craft_pcrs_reset(pcrs);
    *log = (struct craft){0};
    craft_log_open(log, banks);
    for (unsigned i = 0; i < 27; i++) {
        char data[64];
        unsigned pcr = i % 9;
        snprintf(data, sizeof data, "event %u of PCR %u%s", i / 9, pcr,
                 i / 9 == 1 && (changed_pcrs >> pcr & 1) != 0 ? ", changed" : "");
        craft_log_event(log, banks, pcr, 0x0d, data, pcrs);
    }
}

static void scene_begin(struct scene *s, unsigned no)
{
    memset(s, 0, sizeof *s);
    snprintf(s->id, sizeof s->id, "machine-%u", no);
    s->key_kind = "p256";
    s->profile.scheme = QM_SCHEME_ECDSA;
    s->profile.hash = QM_HASH_SHA256;
    profile_256(&s->profile, 0x3ff, 0x3ff);
    boot(&s->log, BOTH, &s->pcrs, 0);
    s->set_count = 1;
    s->set[0].mask = 0x3ff;
    s->set[0].values = s->pcrs;
    s->reported = s->pcrs;
    s->version = 1;
    s->salt = -1;
    s->attest.clock_ms = 123456789;
    s->attest.reset = 7;
    s->attest.restart = 3;
    s->attest.safe = 1;
    s->attest.firmware = 0x2019102300163636;
    s->attest.extra = (struct qm_span){(const uint8_t *)"whatever", 8};
}

/* Attests what the TPM holds. */
static void scene_quote(struct scene *s)
{
    const struct qm_profile *p = &s->profile;
    static const uint16_t tpm[] = {0, 4, 11, 12, 13};
    if (!s->own_select) {
        s->attest.select_count = p->select_count;
        for (unsigned b = 0; b < p->select_count; b++) {
            s->attest.select[b].tpm_alg = tpm[p->select[b].hash];
            s->attest.select[b].size = 3;
            s->attest.select[b].mask = p->select[b].mask;
        }
    }
    if (s->attest.digest_len == 0) {
        craft_composite(&s->pcrs, p, p->hash, s->attest.digest);
        s->attest.digest_len = qm_hash_size(p->hash);
    }
    s->quote = (struct craft){0};
    craft_attest(&s->quote, &s->attest);
}

static void scene_sign(struct scene *s)
{
    const struct qm_profile *p = &s->profile;
    s->sig = (struct craft){0};
    craft_sign_salted(&s->sig, craft_key(s->key_kind, s->signing_key_no),
                      s->sig_scheme != QM_SCHEME_NONE ? s->sig_scheme : p->scheme,
                      s->sig_hash != QM_HASH_NONE ? s->sig_hash : p->hash, craft_span(&s->quote),
                      s->salt);
}

static void scene_pack(struct scene *s)
{
    struct craft *c = &s->record;
    if (s->report.select_count == 0)
        s->report = s->profile;
    craft_pcrs_map(&s->pcrs_map, &s->reported, &s->report);
    craft_map(c, 5u + s->send_log + s->send_pcrs);
    craft_str(c, "v");
    craft_uint(c, s->version);
    craft_str(c, "id");
    craft_str(c, s->record_id != NULL ? s->record_id : s->id);
    craft_str(c, "quote");
    craft_bin(c, craft_span(&s->quote));
    craft_str(c, "sig");
    craft_bin(c, craft_span(&s->sig));
    if (s->send_log) {
        craft_str(c, "log");
        craft_bin(c, craft_span(&s->log));
    }
    if (s->send_pcrs) {
        craft_str(c, "pcrs");
        craft_put(c, s->pcrs_map.p, s->pcrs_map.len);
    }
    craft_str(c, "t");
    craft_uint(c, 1699999999);
    struct qm_span exact = craft_exact(craft_span(c));
    *c = (struct craft){(uint8_t *)(uintptr_t)exact.p, exact.len, exact.len};
}

static void scene_make(struct scene *s, unsigned no, tweak before, tweak after)
{
    scene_begin(s, no);
    if (before != NULL)
        before(s);
    scene_quote(s);
    scene_sign(s);
    if (after != NULL)
        after(s);
    scene_pack(s);
}

/* ---- judging -------------------------------------------------------------------------------- */

struct court {
    struct qm_table *table;
    struct qm_kernels kernels;
    struct qm_verifier *verifier;
    void *mem;
    bool no_memo;
    struct qm_beacon beacon[2];
    unsigned beacon_count; /* in */
};

static void add_row(struct qm_table_builder *b, const struct scene *s, uint64_t slot)
{
    static uint8_t value[SETS_MAX][32 * QM_PCR_COUNT];
    struct qm_fault fault = {0};
    struct qm_table_row row = {
        .id = {(const uint8_t *)s->id, strlen(s->id)},
        .key = craft_key(s->key_kind, s->key_no)->key,
        .profile = s->profile,
        .nonce = s->nonce,
        .generation = 1000 + slot,
        .slot = slot,
        .require_log = s->require_log,
        .require_beacon = s->require_beacon,
        .set_count = (uint8_t)s->set_count,
    };
    for (unsigned i = 0; i < s->set_count; i++) {
        uint8_t *to = value[i];
        for (unsigned part = 0; part < 2; part++) {
            const uint32_t mask = part == 0 ? s->set[i].mask & ~s->set[i].pair_mask : s->set[i].pair_mask;
            *(part == 0 ? &row.set[i].value : &row.set[i].pair) = to;
            for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
                if ((mask >> pcr & 1) != 0) {
                    memcpy(to, s->set[i].values.value[QM_HASH_SHA256][pcr], 32);
                    to += 32;
                }
        }
        row.set[i].set_no = (uint32_t)(10 * slot) + i;
        row.set[i].mask = s->set[i].mask & ~s->set[i].pair_mask;
        row.set[i].pair_mask = s->set[i].pair_mask;
        row.set[i].pair_no = s->set[i].pair_mask != 0 ? (uint32_t)(1000 * slot) + i : 0;
    }
    cr_assert_eq(qm_table_builder_add(b, &row, &fault), QM_OK, "%s", fault.text);
}

/* The usual boot's events, behind its values. */
static void add_events(struct qm_table_builder *b)
{
    static uint8_t list[QM_EVENT_LIST_BYTES_MAX];
    struct craft log;
    struct craft_pcrs pcrs;
    struct qm_fault fault = {0};
    boot(&log, BOTH, &pcrs, 0);
    for (unsigned pcr = 0; pcr < 10; pcr++) {
        const uint8_t *value = pcrs.value[QM_HASH_SHA256][pcr];
        size_t len = qm_event_list_collect(craft_span(&log), pcr, value, list, sizeof list);
        cr_assert_neq(len, 0);
        cr_assert_eq(qm_table_builder_add_events(b, pcr, value, (struct qm_span){list, len}, &fault), QM_OK, "%s", fault.text);
    }
}

static void court_open(struct court *c, const struct scene *scenes, size_t count,
                       const char *kernels, uint64_t audit)
{
    static const uint8_t home[QM_HOME_ID_SIZE] = {1};
    struct qm_fault fault = {0};
    struct qm_table_builder *b;
    char path[512];
    snprintf(path, sizeof path, "%s/fleet.tbl", craft_dir());
    cr_assert_eq(qm_table_builder_open(&b, path, &fault), QM_OK, "%s", fault.text);
    for (size_t i = 0; i < count; i++)
        add_row(b, &scenes[i], i + 1);
    if (scenes[0].keep_events)
        add_events(b);
    cr_assert_eq(qm_table_builder_publish(b, home, 5, &fault), QM_OK, "%s", fault.text);
    qm_table_builder_close(b);
    cr_assert_eq(qm_table_open(&c->table, path, &fault), QM_OK, "%s", fault.text);
    if (kernels != NULL)
        cr_assert_eq(qm_kernels_choose(&c->kernels, kernels, &fault), QM_OK, "%s", fault.text);
    struct qm_verify_options options = {.run = "run-1", .audit = audit, .no_memo = c->no_memo,
                                        .beacon = c->beacon, .beacon_count = c->beacon_count};
    c->mem =
        aligned_alloc(QM_CACHE_LINE, qm_align_up(qm_verifier_size(&c->kernels), QM_CACHE_LINE));
    cr_assert_not_null(c->mem);
    cr_assert_eq(qm_verifier_init(&c->verifier, c->mem, c->table, &c->kernels, &options, &fault),
                 QM_OK, "%s", fault.text);
}

static void court_close(struct court *c)
{
    qm_verifier_close(c->verifier);
    qm_table_close(c->table);
    free(c->mem);
}

static void frame(const struct scene *s, struct qm_record *r)
{
    memset(r, 0, sizeof *r);
    cr_assert_eq(qm_evidence_read(craft_span(&s->record), &r->evidence), QM_FRAME_RECORD);
    r->source = (struct qm_span){(const uint8_t *)"some.mpk", 8};
    r->off = 17;
    r->len = s->record.len;
}

/* What holds for every result, whatever the record. */
static void check_invariants(const struct qm_result *r, const char *name)
{
    static const uint8_t status_of[QM_REASON_COUNT] = {
        [QM_MALFORMED] = 1 << QM_INVALID,
        [QM_UNKNOWN_INSTANCE] = 1 << QM_INVALID,
        [QM_NOT_A_QUOTE] = 1 << QM_INVALID,
        [QM_BAD_SIGNATURE] = 1 << QM_INVALID,
        [QM_WRONG_SELECTION] = 1 << QM_INVALID,
        [QM_STALE_NONCE] = 1 << QM_INVALID,
        [QM_PCR_MISMATCH] = 1 << QM_UNTRUSTED,
        [QM_PCR_VALUES_MISSING] = 1 << QM_UNTRUSTED | 1 << QM_NEW,
        [QM_LOG_REQUIRED] = 1 << QM_UNTRUSTED,
        [QM_NO_BASELINE] = 1 << QM_NEW,
        [QM_ALL_GOOD] = 1 << QM_TRUSTED,
    };
    const bool invalid = r->status == QM_INVALID;
    cr_assert(status_of[r->reason] >> r->status & 1, "%s: %s/%s", name, qm_status_name(r->status),
              qm_reason_name(r->reason));
    cr_assert_eq(r->log == QM_LOG_NOT_CHECKED, invalid, "%s: log", name);
    cr_assert_eq(r->has_clock, !invalid, "%s: clock only of a verified signature", name);
    cr_assert_eq(r->stage_count == 0, invalid, "%s: stages", name);
    cr_assert(!invalid || (!r->proven && r->first_fail == -1 && r->pcr_digest.p == NULL), "%s",
              name);
    unsigned fails = 0;
    for (unsigned i = 0; i < r->stage_count; i++) {
        const struct qm_stage *s = &r->stage[i];
        cr_assert(i == 0 || s->pcr > r->stage[i - 1].pcr, "%s: stages ascend", name);
        cr_assert_eq(s->measured != NULL, r->proven, "%s: only proven values are shown", name);
        cr_assert(r->status != QM_TRUSTED || s->state == QM_STAGE_PASS, "%s: trusted passes all",
                  name);
        bool both = s->measured != NULL && s->expected != NULL;
        bool same = both && memcmp(s->measured, s->expected, 32) == 0;
        cr_assert_eq(s->state == QM_STAGE_UNKNOWN, !both, "%s: PCR %u", name, s->pcr);
        cr_assert(s->state != QM_STAGE_PASS || same, "%s: PCR %u", name, s->pcr);
        cr_assert(s->state != QM_STAGE_NOT_REACHED || fails == 1, "%s: PCR %u", name, s->pcr);
        if (s->state == QM_STAGE_FAIL) {
            cr_assert(!same && fails++ == 0, "%s: one stage fails first", name);
            cr_assert_eq(r->first_fail, s->pcr, "%s", name);
        }
    }
    cr_assert_eq(r->first_fail == -1, fails == 0, "%s", name);
    cr_assert(r->status != QM_TRUSTED || (r->proven && fails == 0), "%s", name);
}

static struct qm_result judge(struct court *c, const struct scene *s, const char *name)
{
    struct qm_record record;
    struct qm_result result;
    struct qm_fault fault = {0};
    frame(s, &record);
    cr_assert_eq(qm_verify(c->verifier, &record, 1, NOW, &result, &fault), QM_OK, "%s: %s", name,
                 fault.text);
    check_invariants(&result, name);
    return result;
}

static char *text_of(const struct qm_result *r)
{
    char *text = malloc(QM_RESULT_MAX + 1);
    MUST(text != NULL);
    struct qm_out out = qm_out_init(text, QM_RESULT_MAX);
    qm_result_write(&out, r, QM_FORMAT_NDJSON, true);
    text[out.len] = '\0';
    return text;
}

/* ---- the matrix ----------------------------------------------------------------------------- */

static void sha(struct scene *s, const char *kind, enum qm_scheme scheme, enum qm_hash hash)
{
    s->key_kind = kind;
    s->profile.scheme = (uint8_t)scheme;
    s->profile.hash = (uint8_t)hash;
}
#define SCHEME(name, kind, scheme, hash)                                                           \
    static void name(struct scene *s)                                                              \
    {                                                                                              \
        sha(s, kind, scheme, hash);                                                                \
    }
SCHEME(rsassa_256, "rsa2048", QM_SCHEME_RSASSA, QM_HASH_SHA256)
SCHEME(rsassa_384, "rsa2048", QM_SCHEME_RSASSA, QM_HASH_SHA384)
SCHEME(rsassa_512, "rsa2048", QM_SCHEME_RSASSA, QM_HASH_SHA512)
SCHEME(rsapss_256, "rsa2048", QM_SCHEME_RSAPSS, QM_HASH_SHA256)
SCHEME(rsapss_384, "rsa2048", QM_SCHEME_RSAPSS, QM_HASH_SHA384)
SCHEME(rsapss_512, "rsa2048", QM_SCHEME_RSAPSS, QM_HASH_SHA512)
SCHEME(rsa3072, "rsa3072", QM_SCHEME_RSASSA, QM_HASH_SHA256)
SCHEME(rsa4096, "rsa4096", QM_SCHEME_RSASSA, QM_HASH_SHA256)
SCHEME(rsa2112, "rsa2112", QM_SCHEME_RSAPSS, QM_HASH_SHA256)
SCHEME(p256_384, "p256", QM_SCHEME_ECDSA, QM_HASH_SHA384)
SCHEME(p256_512, "p256", QM_SCHEME_ECDSA, QM_HASH_SHA512)
SCHEME(p384_256, "p384", QM_SCHEME_ECDSA, QM_HASH_SHA256)
SCHEME(p384_384, "p384", QM_SCHEME_ECDSA, QM_HASH_SHA384)
SCHEME(p384_512, "p384", QM_SCHEME_ECDSA, QM_HASH_SHA512)

static void pss_longest_salt(struct scene *s)
{
    rsapss_256(s);
    s->salt = -3; /* RSA_PSS_SALTLEN_MAX_SIGN with OpenSSL's EVP: -3 */
}
static void pss_odd_salt(struct scene *s)
{
    rsapss_256(s);
    s->salt = 20;
}
static void pss_no_salt(struct scene *s)
{
    rsapss_256(s);
    s->salt = 0;
}
static void ssa_where_pss_is_enrolled(struct scene *s)
{
    rsapss_256(s);
    s->sig_scheme = QM_SCHEME_RSASSA;
}
static void pss_where_ssa_is_enrolled(struct scene *s)
{
    rsassa_256(s);
    s->sig_scheme = QM_SCHEME_RSAPSS;
}
static void other_hash_than_enrolled(struct scene *s)
{
    s->sig_hash = QM_HASH_SHA384;
}
static void other_key(struct scene *s)
{
    s->signing_key_no = 1;
}
static void other_rsa_key(struct scene *s)
{
    rsassa_256(s);
    s->signing_key_no = 1;
}

/* Replaces one of r and s. */
static void set_number(struct scene *s, unsigned which, const uint8_t *p, size_t len)
{
    struct qm_signature old;
    struct qm_span sig = craft_exact(craft_span(&s->sig));
    cr_assert(qm_signature_parse(sig, &old));
    s->sig = (struct craft){0};
    craft_put(&s->sig, sig.p, 4);
    craft_2b(&s->sig, which == 0 ? p : old.a.p, which == 0 ? len : old.a.len);
    craft_2b(&s->sig, which == 1 ? p : old.b.p, which == 1 ? len : old.b.len);
}
static const uint8_t zeros[32];
static void order_of_p256(uint8_t n[32])
{
    EC_GROUP *g = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    MUST(g != NULL && BN_bn2binpad(EC_GROUP_get0_order(g), n, 32) == 32);
    EC_GROUP_free(g);
}
static void r_zero(struct scene *s)
{
    set_number(s, 0, zeros, 32);
}
static void s_zero(struct scene *s)
{
    set_number(s, 1, zeros, 32);
}
static void r_empty(struct scene *s)
{
    set_number(s, 0, zeros, 0);
}
static void r_order(struct scene *s)
{
    uint8_t n[32];
    order_of_p256(n);
    set_number(s, 0, n, 32);
}
static void s_order(struct scene *s)
{
    uint8_t n[32];
    order_of_p256(n);
    set_number(s, 1, n, 32);
}
static void s_beyond(struct scene *s)
{
    uint8_t n[33] = {1};
    set_number(s, 1, n, 33);
}
static void r_leading_zeros(struct scene *s)
{
    struct qm_signature old;
    uint8_t longer[64 + 40] = {0};
    cr_assert(qm_signature_parse(craft_span(&s->sig), &old));
    memcpy(longer + sizeof longer - old.a.len, old.a.p, old.a.len);
    set_number(s, 0, longer, sizeof longer);
}
/* (r, n - s) verifies too: it is another encoding of the same quote, and known by its attest. */
static void s_negated(struct scene *s)
{
    uint8_t n[32];
    struct qm_signature old;
    order_of_p256(n);
    cr_assert(qm_signature_parse(craft_span(&s->sig), &old));
    BIGNUM *a = BN_bin2bn(n, 32, NULL), *b = BN_bin2bn(old.b.p, (int)old.b.len, NULL);
    MUST(a != NULL && b != NULL && BN_sub(a, a, b) && BN_bn2binpad(a, n, 32) == 32);
    BN_free(a);
    BN_free(b);
    set_number(s, 1, n, 32);
}
static void rsa_sig(struct scene *s, int more)
{
    struct qm_signature old;
    struct qm_span sig = craft_exact(craft_span(&s->sig));
    cr_assert(qm_signature_parse(sig, &old));
    s->sig = (struct craft){0};
    craft_put(&s->sig, sig.p, 4);
    craft_be(&s->sig, old.a.len + (size_t)more, 2);
    if (more > 0)
        craft_fill(&s->sig, 0, (size_t)more);
    craft_put(&s->sig, old.a.p + (more < 0 ? -more : 0),
              old.a.len - (size_t)(more < 0 ? -more : 0));
}
static void rsa_longer(struct scene *s)
{
    rsa_sig(s, 1);
}
static void rsa_shorter(struct scene *s)
{
    rsa_sig(s, -1);
}
static void rsa_empty(struct scene *s)
{
    rsa_sig(s, -256);
}
static void sig_trailing(struct scene *s)
{
    craft_fill(&s->sig, 0, 1);
}
static void sig_cut(struct scene *s)
{
    s->sig.len--;
}
static void sig_none(struct scene *s)
{
    s->sig.len = 0;
}
static void sig_unknown(struct scene *s)
{
    s->sig.p[1] = 0x05; /* HMAC */
}
static void sig_bit(struct scene *s)
{
    s->sig.p[s->sig.len - 1] ^= 1;
}
static void attest_bit(struct scene *s)
{
    s->quote.p[4 + 2 + 2 + 34 + 2 + 8 + 7] ^=
        1; /* the clock's last byte: still a quote, no longer the signed one */
}

static void magic(struct scene *s)
{
    s->attest.magic = 0xff544346;
}
static void type_time(struct scene *s)
{
    s->attest.type = 0x8019;
}
static void quote_trailing(struct scene *s)
{
    craft_fill(&s->quote, 0, 1);
}
static void quote_cut(struct scene *s)
{
    s->quote.len--;
}
static void quote_none(struct scene *s)
{
    s->quote.len = 0;
}

static void selection(struct scene *s, unsigned i, uint16_t alg, uint8_t size, uint32_t mask)
{
    s->own_select = true;
    if (s->attest.select_count <= i)
        s->attest.select_count = i + 1;
    s->attest.select[i].tpm_alg = alg;
    s->attest.select[i].size = size;
    s->attest.select[i].mask = mask;
}
static void seventeen_selections(struct scene *s)
{
    for (unsigned i = 0; i < 17; i++)
        selection(s, i, (uint16_t)(11 + i), 3, 0x3ff);
}
static void sixteen_selections(struct scene *s)
{
    for (unsigned i = 0; i < 16; i++)
        selection(s, i, (uint16_t)(11 + i), 3, 0x3ff);
}
static void bank_twice(struct scene *s)
{
    selection(s, 0, 11, 3, 0x3ff);
    selection(s, 1, 11, 3, 0x3ff);
}
static void five_bytes(struct scene *s)
{
    selection(s, 0, 11, 5, 0x3ff);
}
static void four_bytes(struct scene *s)
{
    selection(s, 0, 11, 4, 0x3ff);
}
static void two_bytes(struct scene *s)
{
    selection(s, 0, 11, 2, 0x3ff);
}
static void bit_24(struct scene *s)
{
    selection(s, 0, 11, 4, 0x10003ff);
}
static void one_less(struct scene *s)
{
    selection(s, 0, 11, 3, 0x1ff);
}
static void one_more(struct scene *s)
{
    selection(s, 0, 11, 3, 0x7ff);
}
static void no_selection(struct scene *s)
{
    s->own_select = true;
}
static void empty_bank_more(struct scene *s)
{
    selection(s, 0, 11, 3, 0x3ff);
    selection(s, 1, 4, 3, 0);
}
static void sha1_instead(struct scene *s)
{
    selection(s, 0, 4, 3, 0x3ff);
}

static const uint8_t nonce32[33] = {9, 8, 7, 6, 5};
static void nonce_right(struct scene *s)
{
    s->nonce = s->attest.extra = (struct qm_span){nonce32, 32};
}
static void nonce_longer(struct scene *s)
{
    nonce_right(s);
    s->attest.extra.len = 33;
}
static void nonce_shorter(struct scene *s)
{
    nonce_right(s);
    s->attest.extra.len = 31;
}
static void nonce_missing(struct scene *s)
{
    nonce_right(s);
    s->attest.extra.len = 0;
}
static void nonce_other(struct scene *s)
{
    static const uint8_t other[32] = {9, 8, 7, 6, 4};
    nonce_right(s);
    s->attest.extra.p = other;
}
static void nonce_empty_right(struct scene *s)
{
    s->nonce = s->attest.extra = (struct qm_span){nonce32, 0};
}
static void nonce_empty_wrong(struct scene *s)
{
    s->nonce = (struct qm_span){nonce32, 0};
}
static void nonce_255(struct scene *s)
{
    static const uint8_t longest[QM_NONCE_MAX] = {1};
    s->nonce = s->attest.extra = (struct qm_span){longest, sizeof longest};
}
static void no_nonce_no_extra(struct scene *s)
{
    s->attest.extra.len = 0;
}

static void v2(struct scene *s)
{
    s->version = 2;
}
static void nobody(struct scene *s)
{
    s->record_id = "nobody";
}
static void nearly_him(struct scene *s)
{
    static char id[40];
    snprintf(id, sizeof id, "%s ", s->id);
    s->record_id = id;
}

/* Proof. */
static void with_log(struct scene *s)
{
    s->send_log = true;
}
static void with_pcrs(struct scene *s)
{
    s->send_pcrs = true;
}
static void log_of_another_boot(struct scene *s)
{
    struct craft_pcrs ignored;
    boot(&s->log, BOTH, &ignored, 1 << 4);
    s->send_log = true;
}
static void log_of_another_boot_required(struct scene *s)
{
    log_of_another_boot(s);
    s->require_log = true;
}
static void log_sha1_only(struct scene *s)
{
    boot(&s->log, 1 << QM_HASH_SHA1, &(struct craft_pcrs){0}, 0);
    s->send_log = true;
}
static void log_sha1_only_required(struct scene *s)
{
    log_sha1_only(s);
    s->require_log = true;
}
static void log_event_without_sha256(struct scene *s)
{
    craft_log_event(&s->log, 1 << QM_HASH_SHA1, 9, 0x0d, "sha1 only", NULL);
    s->send_log = true;
}
static void log_cut(struct scene *s)
{
    s->log.len--;
    s->send_log = true;
}
static void log_cut_required(struct scene *s)
{
    log_cut(s);
    s->require_log = true;
}
static void log_empty(struct scene *s)
{
    s->log.len = 0;
    s->send_log = true;
}
static void log_empty_required(struct scene *s)
{
    log_empty(s);
    s->require_log = true;
}
static void log_padded(struct scene *s)
{
    craft_fill(&s->log, 0, 4096);
    s->send_log = true;
}
static void log_required_and_there(struct scene *s)
{
    s->require_log = s->send_log = true;
}
static void log_required_and_absent(struct scene *s)
{
    s->require_log = true;
}
static void log_required_pcrs_do_not_do(struct scene *s)
{
    s->require_log = s->send_pcrs = true;
}

/* PCRs 4 and 8 were measured otherwise. */
static void changed(struct scene *s)
{
    boot(&s->log, BOTH, &s->pcrs, 1 << 4 | 1 << 8);
    s->reported = s->pcrs;
}
static void changed_log(struct scene *s)
{
    changed(s);
    s->send_log = true;
}
static void changed_pcrs(struct scene *s)
{
    changed(s);
    s->send_pcrs = true;
}
static void changed_pcrs_old_log(struct scene *s)
{
    struct craft old = s->log;
    changed(s);
    s->log = old;
    s->send_log = s->send_pcrs = true;
}
static void changed_required(struct scene *s)
{
    changed_pcrs(s);
    s->require_log = true;
}
/* A liar: reports and logs the accepted values, quotes others. */
static void changed_old_log_and_pcrs(struct scene *s)
{
    struct craft_pcrs good = s->pcrs;
    struct craft old = s->log;
    changed(s);
    s->reported = good;
    s->log = old;
    s->send_log = s->send_pcrs = true;
}
static void lying_pcrs_true_log(struct scene *s)
{
    struct craft_pcrs good = s->pcrs;
    changed(s);
    s->reported = good;
    s->send_log = s->send_pcrs = true;
}
static void changed_one_pcr_not_reported(struct scene *s)
{
    changed_pcrs(s);
    profile_256(&s->report, 0x1ff, 0);
}
static void changed_more_reported(struct scene *s)
{
    changed_pcrs(s);
    profile_256(&s->report, 0xffffff, 0);
}
static void changed_other_bank_reported(struct scene *s)
{
    changed_pcrs(s);
    profile_256(&s->report, 0x3ff, 0);
    s->report.select[0].hash = QM_HASH_SHA1;
}
static void digest_too_short(struct scene *s)
{
    craft_composite(&s->pcrs, &s->profile, QM_HASH_SHA256, s->attest.digest);
    s->attest.digest_len = 31;
    s->send_log = s->send_pcrs = true;
}
static void digest_empty(struct scene *s)
{
    digest_too_short(s);
    memset(s->attest.digest, 0, sizeof s->attest.digest);
    s->attest.digest_len = 1;
}
static void digest_of_another_hash(struct scene *s)
{
    craft_composite(&s->pcrs, &s->profile, QM_HASH_SHA384, s->attest.digest);
    s->attest.digest_len = 48;
    s->send_log = s->send_pcrs = true;
}

/* Baselines. */
static void no_baseline(struct scene *s)
{
    s->set_count = 0;
}
static void no_baseline_log(struct scene *s)
{
    s->set_count = 0;
    s->send_log = true;
}
static void no_baseline_pcrs(struct scene *s)
{
    s->set_count = 0;
    s->send_pcrs = true;
}
static void no_baseline_wrong_log(struct scene *s)
{
    log_of_another_boot(s);
    s->set_count = 0;
}
static void no_baseline_log_required(struct scene *s)
{
    no_baseline_pcrs(s);
    s->require_log = true;
}
static void nothing_at_all_log_required(struct scene *s)
{
    s->set_count = 0;
    s->require_log = true;
}
static void some_baselined(struct scene *s)
{
    s->profile.baselined = 0xff;
    s->set[0].mask = 0xff;
}
static void some_baselined_pcrs(struct scene *s)
{
    some_baselined(s);
    s->send_pcrs = true;
}
/* PCR 8 is selected and not compared: what it holds is nobody's business. */
static void some_baselined_others_changed(struct scene *s)
{
    some_baselined_pcrs(s);
    boot(&s->log, BOTH, &s->pcrs, 1 << 8);
    s->reported = s->pcrs;
}
static void some_baselined_log_differs_elsewhere(struct scene *s)
{
    struct craft_pcrs ignored;
    some_baselined_pcrs(s);
    boot(&s->log, BOTH, &ignored, 1 << 8);
    s->send_log = true;
}
static void second_set(struct scene *s)
{
    s->set_count = 2;
    s->set[1] = s->set[0];
    boot(&(struct craft){0}, BOTH, &s->set[0].values, 1 << 2);
}
static void second_set_pcrs(struct scene *s)
{
    second_set(s);
    s->send_pcrs = true;
}
/* Neither of two sets, though every value stands in one of them: a mixture is a machine that nobody
 * approved. */
static void mixture(struct scene *s)
{
    s->set_count = 2;
    s->set[1] = s->set[0];
    boot(&(struct craft){0}, BOTH, &s->set[0].values, 1 << 2);
    boot(&(struct craft){0}, BOTH, &s->set[1].values, 1 << 5);
    boot(&s->log, BOTH, &s->pcrs, 1 << 2 | 1 << 5);
    s->reported = s->pcrs;
    s->send_pcrs = true;
}
/* Sets from before PCRs 8 and 9 were baselined. */
static void partial(struct scene *s)
{
    s->set[0].mask = 0xff;
}
static void partial_pcrs(struct scene *s)
{
    partial(s);
    s->send_pcrs = true;
}
static void partial_changed(struct scene *s)
{
    changed_pcrs(s);
    s->set[0].mask = 0xff;
}
static void partial_equal_whole_differs(struct scene *s)
{
    s->set_count = 2;
    s->set[1].mask = 0x3ff;
    boot(&(struct craft){0}, BOTH, &s->set[1].values, 1 << 1 | 1 << 3);
    partial_pcrs(s);
}
static void partial_log_required(struct scene *s)
{
    partial_pcrs(s);
    s->require_log = true;
}

/* Several banks. */
static void two_banks(struct scene *s)
{
    s->profile.select_count = 2;
    s->profile.first256 = 1;
    s->profile.select[0].hash = QM_HASH_SHA1;
    s->profile.select[0].mask = 0xff;
    s->profile.select[1].hash = QM_HASH_SHA256;
    s->profile.select[1].mask = 0x3ff;
}
static void two_banks_pcrs(struct scene *s)
{
    two_banks(s);
    s->send_pcrs = true;
}
static void two_banks_log(struct scene *s)
{
    two_banks(s);
    s->send_log = true;
}
static void two_banks_one_reported(struct scene *s)
{
    two_banks_pcrs(s);
    profile_256(&s->report, 0x3ff, 0);
}
static void two_banks_swapped(struct scene *s)
{
    two_banks_pcrs(s);
    selection(s, 0, 11, 3, 0x3ff);
    selection(s, 1, 4, 3, 0xff);
}
static void two_banks_changed(struct scene *s)
{
    two_banks_log(s);
    boot(&s->log, BOTH, &s->pcrs, 1 << 4);
}
static void sha384_bank_not_in_log(struct scene *s)
{
    two_banks_log(s);
    s->profile.select[0].hash = QM_HASH_SHA384;
}
static void four_banks(struct scene *s)
{
    static const uint8_t hashes[] = {QM_HASH_SHA512, QM_HASH_SHA384, QM_HASH_SHA256, QM_HASH_SHA1};
    const unsigned all = 0x1e;
    boot(&s->log, all, &s->pcrs, 0);
    s->reported = s->pcrs;
    s->profile.select_count = 4;
    s->profile.first256 = 2;
    for (unsigned b = 0; b < 4; b++) {
        s->profile.select[b].hash = hashes[b];
        s->profile.select[b].mask = 0x3ff >> b;
    }
    s->profile.select[2].mask = 0x3ff;
    s->send_log = true;
}
static void four_banks_pcrs(struct scene *s)
{
    four_banks(s);
    s->send_log = false;
    s->send_pcrs = true;
}
static void sha384_by_baseline(struct scene *s)
{
    p384_384(s);
}
static void sha384_changed_log(struct scene *s)
{
    p384_384(s);
    changed_log(s);
}
static void sha384_changed_pcrs(struct scene *s)
{
    p384_384(s);
    changed_pcrs(s);
}
static void high_pcrs(struct scene *s)
{
    profile_256(&s->profile, 0xffffff, 0x7effff & ~(1u << 16));
    s->set[0].mask = s->profile.baselined;
    s->send_log = true;
}
static void one_pcr(struct scene *s)
{
    profile_256(&s->profile, 1 << 14, 1 << 14);
    s->set[0].mask = 1 << 14;
}

#define INVALID(reason)   QM_INVALID, reason, QM_LOG_NOT_CHECKED
#define TRUSTED(log)      QM_TRUSTED, QM_ALL_GOOD, log
#define MISMATCH(log)     QM_UNTRUSTED, QM_PCR_MISMATCH, log
#define BAD_SIGNATURE     INVALID(QM_BAD_SIGNATURE)
#define NOT_A_QUOTE       INVALID(QM_NOT_A_QUOTE)
#define WRONG_SELECTION   INVALID(QM_WRONG_SELECTION)
#define STALE             INVALID(QM_STALE_NONCE)
#define LOG_REQUIRED(log) QM_UNTRUSTED, QM_LOG_REQUIRED, log

static const struct {
    const char *name;
    tweak before, after;
    uint8_t status, reason, log;
    int8_t first_fail; /* 0 stands for none, else PCR + 1 */
    bool unproven;
} matrix[] = {
    {"plain", NULL, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"log", with_log, NULL, TRUSTED(QM_LOG_REPLAYED)},
    {"pcrs", with_pcrs, NULL, TRUSTED(QM_LOG_ABSENT)},
    /* check 1, 2 */
    {"version", v2, NULL, INVALID(QM_MALFORMED)},
    {"nobody", nobody, NULL, INVALID(QM_UNKNOWN_INSTANCE)},
    {"nearly him", nearly_him, NULL, INVALID(QM_UNKNOWN_INSTANCE)},
    /* check 3 */
    {"magic", magic, NULL, NOT_A_QUOTE},
    {"type", type_time, NULL, NOT_A_QUOTE},
    {"quote and a byte", NULL, quote_trailing, NOT_A_QUOTE},
    {"quote less a byte", NULL, quote_cut, NOT_A_QUOTE},
    {"no quote", NULL, quote_none, NOT_A_QUOTE},
    {"17 selections", seventeen_selections, NULL, NOT_A_QUOTE},
    {"16 selections", sixteen_selections, NULL, WRONG_SELECTION},
    {"bank twice", bank_twice, NULL, NOT_A_QUOTE},
    {"sizeofSelect 5", five_bytes, NULL, NOT_A_QUOTE},
    /* check 4 */
    {"signature and a byte", NULL, sig_trailing, BAD_SIGNATURE},
    {"signature less a byte", NULL, sig_cut, BAD_SIGNATURE},
    {"no signature", NULL, sig_none, BAD_SIGNATURE},
    {"unknown algorithm", NULL, sig_unknown, BAD_SIGNATURE},
    {"RSASSA for RSAPSS", ssa_where_pss_is_enrolled, NULL, BAD_SIGNATURE},
    {"RSAPSS for RSASSA", pss_where_ssa_is_enrolled, NULL, BAD_SIGNATURE},
    {"SHA-384 for SHA-256", other_hash_than_enrolled, NULL, BAD_SIGNATURE},
    {"RSA and a zero", rsassa_256, rsa_longer, BAD_SIGNATURE},
    {"RSA less a byte", rsassa_256, rsa_shorter, BAD_SIGNATURE},
    {"RSA of no bytes", rsassa_256, rsa_empty, BAD_SIGNATURE},
    {"r = 0", NULL, r_zero, BAD_SIGNATURE},
    {"s = 0", NULL, s_zero, BAD_SIGNATURE},
    {"r of no bytes", NULL, r_empty, BAD_SIGNATURE},
    {"r = n", NULL, r_order, BAD_SIGNATURE},
    {"s = n", NULL, s_order, BAD_SIGNATURE},
    {"s > n", NULL, s_beyond, BAD_SIGNATURE},
    {"r with leading zeros", NULL, r_leading_zeros, TRUSTED(QM_LOG_ABSENT)},
    {"n - s", NULL, s_negated, TRUSTED(QM_LOG_ABSENT)},
    /* check 5 */
    {"sizeofSelect 4", four_bytes, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"sizeofSelect 2", two_bytes, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"bit 24", bit_24, NULL, WRONG_SELECTION},
    {"a PCR less", one_less, NULL, WRONG_SELECTION},
    {"a PCR more", one_more, NULL, WRONG_SELECTION},
    {"no selection", no_selection, NULL, WRONG_SELECTION},
    {"an empty bank more", empty_bank_more, NULL, WRONG_SELECTION},
    {"another bank", sha1_instead, NULL, WRONG_SELECTION},
    {"banks swapped", two_banks_swapped, NULL, WRONG_SELECTION},
    /* check 6 */
    {"nonce", nonce_right, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"nonce of 255 bytes", nonce_255, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"nonce and a byte", nonce_longer, NULL, STALE},
    {"nonce less a byte", nonce_shorter, NULL, STALE},
    {"no nonce", nonce_missing, NULL, STALE},
    {"another nonce", nonce_other, NULL, STALE},
    {"empty nonce", nonce_empty_right, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"not the empty nonce", nonce_empty_wrong, NULL, STALE},
    {"no nonce asked for, none given", no_nonce_no_extra, NULL, TRUSTED(QM_LOG_ABSENT)},
    /* check 7 */
    {"a bit of the signature", NULL, sig_bit, BAD_SIGNATURE},
    {"a bit of the attest", NULL, attest_bit, BAD_SIGNATURE},
    {"another key", other_key, NULL, BAD_SIGNATURE},
    {"another RSA key", other_rsa_key, NULL, BAD_SIGNATURE},
    {"a bit of an RSA signature", rsassa_256, sig_bit, BAD_SIGNATURE},
    {"a bit of what RSA signed", rsassa_256, attest_bit, BAD_SIGNATURE},
    {"rsassa-sha256", rsassa_256, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"rsassa-sha384", rsassa_384, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"rsassa-sha512", rsassa_512, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"rsapss-sha256", rsapss_256, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"rsapss-sha384", rsapss_384, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"rsapss-sha512", rsapss_512, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"the longest salt", pss_longest_salt, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"a salt of 20 bytes", pss_odd_salt, NULL, BAD_SIGNATURE},
    {"no salt", pss_no_salt, NULL, BAD_SIGNATURE},
    {"rsa3072", rsa3072, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"rsa4096", rsa4096, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"rsa2112", rsa2112, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"p256 sha384", p256_384, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"p256 sha512", p256_512, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"p384 sha256", p384_256, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"p384 sha384", p384_384, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"p384 sha512", p384_512, NULL, TRUSTED(QM_LOG_ABSENT)},
    /* logs beside a baseline that passes */
    {"log of another boot", log_of_another_boot, NULL, TRUSTED(QM_LOG_INCONSISTENT)},
    {"log of another boot, required", log_of_another_boot_required, NULL,
     LOG_REQUIRED(QM_LOG_INCONSISTENT)},
    {"log without SHA-256", log_sha1_only, NULL, TRUSTED(QM_LOG_UNREPLAYABLE)},
    {"log without SHA-256, required", log_sha1_only_required, NULL,
     LOG_REQUIRED(QM_LOG_UNREPLAYABLE)},
    {"an event without SHA-256", log_event_without_sha256, NULL, TRUSTED(QM_LOG_UNREPLAYABLE)},
    {"log cut", log_cut, NULL, TRUSTED(QM_LOG_IS_MALFORMED)},
    {"log cut, required", log_cut_required, NULL, LOG_REQUIRED(QM_LOG_IS_MALFORMED)},
    {"log of no bytes", log_empty, NULL, TRUSTED(QM_LOG_IS_MALFORMED)},
    {"log of no bytes, required", log_empty_required, NULL, LOG_REQUIRED(QM_LOG_IS_MALFORMED)},
    {"log padded", log_padded, NULL, TRUSTED(QM_LOG_REPLAYED)},
    {"log required", log_required_and_there, NULL, TRUSTED(QM_LOG_REPLAYED)},
    {"log required, absent", log_required_and_absent, NULL, LOG_REQUIRED(QM_LOG_ABSENT)},
    {"log required, PCRs given", log_required_pcrs_do_not_do, NULL, LOG_REQUIRED(QM_LOG_ABSENT)},
    /* mismatches and their proof */
    {"changed, log", changed_log, NULL, MISMATCH(QM_LOG_REPLAYED), 5},
    {"changed, PCRs", changed_pcrs, NULL, MISMATCH(QM_LOG_ABSENT), 5},
    {"changed, PCRs, old log", changed_pcrs_old_log, NULL, MISMATCH(QM_LOG_INCONSISTENT), 5},
    {"changed, log required", changed_required, NULL, MISMATCH(QM_LOG_ABSENT), 5},
    {"changed, nothing proven", changed, NULL, MISMATCH(QM_LOG_ABSENT), .unproven = true},
    {"changed, lies", changed_old_log_and_pcrs, NULL, MISMATCH(QM_LOG_INCONSISTENT),
     .unproven = true},
    {"lying PCRs, true log", lying_pcrs_true_log, NULL, MISMATCH(QM_LOG_REPLAYED), 5},
    {"a PCR not reported", changed_one_pcr_not_reported, NULL, MISMATCH(QM_LOG_ABSENT),
     .unproven = true},
    {"more PCRs reported", changed_more_reported, NULL, MISMATCH(QM_LOG_ABSENT), 5},
    {"another bank reported", changed_other_bank_reported, NULL, MISMATCH(QM_LOG_ABSENT),
     .unproven = true},
    {"pcrDigest cut", digest_too_short, NULL, MISMATCH(QM_LOG_INCONSISTENT), .unproven = true},
    {"pcrDigest of one byte", digest_empty, NULL, MISMATCH(QM_LOG_INCONSISTENT), .unproven = true},
    {"pcrDigest of another hash", digest_of_another_hash, NULL, MISMATCH(QM_LOG_INCONSISTENT),
     .unproven = true},
    /* baselines */
    {"no baseline", no_baseline, NULL, QM_NEW, QM_PCR_VALUES_MISSING, QM_LOG_ABSENT,
     .unproven = true},
    {"no baseline, log", no_baseline_log, NULL, QM_NEW, QM_NO_BASELINE, QM_LOG_REPLAYED},
    {"no baseline, PCRs", no_baseline_pcrs, NULL, QM_NEW, QM_NO_BASELINE, QM_LOG_ABSENT},
    {"no baseline, wrong log", no_baseline_wrong_log, NULL, QM_NEW, QM_PCR_VALUES_MISSING,
     QM_LOG_INCONSISTENT, .unproven = true},
    {"no baseline, log required", no_baseline_log_required, NULL, LOG_REQUIRED(QM_LOG_ABSENT)},
    {"nothing, log required", nothing_at_all_log_required, NULL, LOG_REQUIRED(QM_LOG_ABSENT),
     .unproven = true},
    {"some baselined", some_baselined, NULL, QM_UNTRUSTED, QM_PCR_VALUES_MISSING, QM_LOG_ABSENT,
     .unproven = true},
    {"some baselined, PCRs", some_baselined_pcrs, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"some baselined, others changed", some_baselined_others_changed, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"log differs in PCRs not compared", some_baselined_log_differs_elsewhere, NULL,
     TRUSTED(QM_LOG_REPLAYED)},
    {"the older set", second_set, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"the older set, PCRs", second_set_pcrs, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"a mixture of sets", mixture, NULL, MISMATCH(QM_LOG_ABSENT), 6},
    {"partial set", partial, NULL, QM_UNTRUSTED, QM_PCR_VALUES_MISSING, QM_LOG_ABSENT,
     .unproven = true},
    {"partial set, PCRs", partial_pcrs, NULL, QM_NEW, QM_NO_BASELINE, QM_LOG_ABSENT},
    {"partial set, changed", partial_changed, NULL, MISMATCH(QM_LOG_ABSENT), 5},
    {"partial set equal, whole one not", partial_equal_whole_differs, NULL, MISMATCH(QM_LOG_ABSENT),
     2},
    {"partial set, log required", partial_log_required, NULL, LOG_REQUIRED(QM_LOG_ABSENT)},
    /* banks and hashes */
    {"two banks", two_banks, NULL, QM_UNTRUSTED, QM_PCR_VALUES_MISSING, QM_LOG_ABSENT,
     .unproven = true},
    {"two banks, PCRs", two_banks_pcrs, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"two banks, log", two_banks_log, NULL, TRUSTED(QM_LOG_REPLAYED)},
    {"two banks, one reported", two_banks_one_reported, NULL, QM_UNTRUSTED, QM_PCR_VALUES_MISSING,
     QM_LOG_ABSENT, .unproven = true},
    {"two banks, changed", two_banks_changed, NULL, MISMATCH(QM_LOG_REPLAYED), 5},
    {"a bank that the log lacks", sha384_bank_not_in_log, NULL, QM_UNTRUSTED, QM_PCR_VALUES_MISSING,
     QM_LOG_INCONSISTENT, .unproven = true},
    {"four banks, log", four_banks, NULL, TRUSTED(QM_LOG_REPLAYED)},
    {"four banks, PCRs", four_banks_pcrs, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"SHA-384 composite of a set", sha384_by_baseline, NULL, TRUSTED(QM_LOG_ABSENT)},
    {"SHA-384 composite of a log", sha384_changed_log, NULL, MISMATCH(QM_LOG_REPLAYED), 5},
    {"SHA-384 composite of PCRs", sha384_changed_pcrs, NULL, MISMATCH(QM_LOG_ABSENT), 5},
    {"all PCRs", high_pcrs, NULL, TRUSTED(QM_LOG_REPLAYED)},
    {"one PCR", one_pcr, NULL, TRUSTED(QM_LOG_ABSENT)},
};

static struct scene *all_scenes(void)
{
    struct scene *s = calloc(QM_COUNT(matrix), sizeof *s);
    MUST(s != NULL);
    for (size_t i = 0; i < QM_COUNT(matrix); i++)
        scene_make(&s[i], (unsigned)i, matrix[i].before, matrix[i].after);
    return s;
}

static void check_fields(const struct scene *s, const struct qm_result *r, size_t slot,
                         const char *name)
{
    uint8_t digest[32];
    craft_hash(QM_HASH_SHA256, craft_span(&s->quote), digest);
    bool malformed = r->reason == QM_MALFORMED;
    cr_assert_eq(r->has_attest, !malformed && s->quote.len != 0, "%s", name);
    cr_assert(!r->has_attest || memcmp(r->attest, digest, 32) == 0, "%s: attest", name);
    const char *id = s->record_id != NULL ? s->record_id : s->id;
    cr_assert(r->id.len == strlen(id) && memcmp(r->id.p, id, r->id.len) == 0, "%s: id", name);
    cr_assert(r->off == 17 && r->len == s->record.len && r->source.len == 8 && r->checked_ms == NOW,
              "%s", name);
    cr_assert_eq(r->has_t, !malformed, "%s", name);
    cr_assert(!r->has_t || r->t_ms == 1699999999, "%s: t", name);
    cr_assert_eq(r->has_baseline, !malformed && r->reason != QM_UNKNOWN_INSTANCE, "%s", name);
    cr_assert(!r->has_baseline || r->baseline == 1000 + slot, "%s: generation", name);
    if (r->status == QM_INVALID)
        return;
    cr_assert(r->clock_ms == s->attest.clock_ms && r->reset == 7 && r->restart == 3 &&
                  r->safe == 1 && r->firmware == s->attest.firmware,
              "%s: clock", name);
    cr_assert(r->pcr_digest.len == s->attest.digest_len &&
                  memcmp(r->pcr_digest.p, s->attest.digest, r->pcr_digest.len) == 0,
              "%s: pcr_digest", name);
    cr_assert_eq(r->stage_count, __builtin_popcount(s->profile.baselined), "%s", name);
    for (unsigned i = 0; i < r->stage_count; i++)
        cr_assert(r->stage[i].measured == NULL ||
                      memcmp(r->stage[i].measured, s->pcrs.value[QM_HASH_SHA256][r->stage[i].pcr],
                             32) == 0,
                  "%s: measured PCR %u", name, r->stage[i].pcr);
}

static void judge_matrix(const char *kernels, uint64_t audit)
{
    struct scene *scenes = all_scenes();
    struct court c = {0};
    court_open(&c, scenes, QM_COUNT(matrix), kernels, audit);
    for (size_t i = 0; i < QM_COUNT(matrix); i++) {
        const char *name = matrix[i].name;
        struct qm_result r = judge(&c, &scenes[i], name);
        cr_expect(r.status == matrix[i].status && r.reason == matrix[i].reason, "%s: is %s/%s",
                  name, qm_status_name(r.status), qm_reason_name(r.reason));
        cr_expect_eq(r.log, matrix[i].log, "%s: log is %s", name, qm_log_state_name(r.log));
        cr_expect_eq(r.first_fail + 1, matrix[i].first_fail, "%s: first_fail is %d", name,
                     r.first_fail);
        cr_expect_eq(r.proven, matrix[i].status != QM_INVALID && !matrix[i].unproven, "%s: proven",
                     name);
        check_fields(&scenes[i], &r, i + 1, name);
    }
    const struct qm_verify_stats *stats = qm_verifier_stats(c.verifier);
    cr_expect(audit != 1 || stats->signatures_audited + stats->signatures_rechecked != 0);
    court_close(&c);
    free(scenes);
    craft_free_all();
}

Test(appraise, matrix_portable)
{
    judge_matrix("openssl", 0);
}

Test(appraise, matrix_as_chosen)
{
    judge_matrix("auto", 0);
}

Test(appraise, matrix_audited)
{
    judge_matrix("auto", 1);
}

/* ---- order of the checks -------------------------------------------------------------------- */

Test(appraise, first_failure_decides)
{
    static const struct {
        tweak before, after;
        uint8_t reason;
    } breaks[] = {{v2, NULL, QM_MALFORMED},
                  {nobody, NULL, QM_UNKNOWN_INSTANCE},
                  {NULL, quote_cut, QM_NOT_A_QUOTE},
                  {other_hash_than_enrolled, NULL, QM_BAD_SIGNATURE},
                  {one_less, NULL, QM_WRONG_SELECTION},
                  {nonce_other, NULL, QM_STALE_NONCE},
                  {NULL, sig_bit, QM_BAD_SIGNATURE},
                  {changed_pcrs, NULL, QM_PCR_MISMATCH}};
    enum { COMBINATIONS = 1 << QM_COUNT(breaks) };
    struct scene *scenes = calloc(COMBINATIONS, sizeof *scenes);
    struct court c = {0};
    MUST(scenes != NULL);
    for (unsigned which = 0; which < COMBINATIONS; which++) {
        struct scene *s = &scenes[which];
        scene_begin(s, which);
        for (unsigned b = 0; b < QM_COUNT(breaks); b++)
            if ((which >> b & 1) != 0 && breaks[b].before != NULL)
                breaks[b].before(s);
        scene_quote(s);
        scene_sign(s);
        for (unsigned b = 0; b < QM_COUNT(breaks); b++)
            if ((which >> b & 1) != 0 && breaks[b].after != NULL)
                breaks[b].after(s);
        scene_pack(s);
    }
    court_open(&c, scenes, COMBINATIONS, "auto", 0);
    for (unsigned which = 0; which < COMBINATIONS; which++) {
        char name[16];
        snprintf(name, sizeof name, "0x%02x", which);
        uint8_t reason = which == 0 ? QM_ALL_GOOD : breaks[__builtin_ctz(which)].reason;
        struct qm_result r = judge(&c, &scenes[which], name);
        cr_expect_eq(r.reason, reason, "%s: is %s, not %s", name, qm_reason_name(r.reason),
                     qm_reason_name(reason));
    }
    court_close(&c);
    free(scenes);
    craft_free_all();
}

/* ---- stages and sets ------------------------------------------------------------------------ */

static void expect_states(const struct qm_result *r, const char *states)
{
    char is[QM_STAGE_COUNT + 1] = "";
    for (unsigned i = 0; i < r->stage_count; i++)
        is[i] = "?+-."[r->stage[i].state];
    cr_expect_str_eq(is, states);
}

static bool expects(const struct qm_result *r, unsigned stage, const struct craft_pcrs *values)
{
    const struct qm_stage *s = &r->stage[stage];
    return s->expected != NULL &&
           memcmp(s->expected, values->value[QM_HASH_SHA256][s->pcr], 32) == 0;
}

static unsigned changes_of(const struct qm_result *r)
{
    unsigned n = 0;
    char *text = text_of(r);
    const char *changes = strstr(text, "\"changes\":[");
    for (const char *p = changes; p != NULL && (p = strstr(p + 1, "{\"pcr\":")) != NULL;)
        n++;
    free(text);
    return changes != NULL ? n : 99;
}

Test(appraise, stages_and_changes)
{
    struct scene s[3];
    struct court c = {0};
    scene_make(&s[0], 0, changed_pcrs, NULL);
    scene_make(&s[1], 1, changed, NULL);
    scene_make(&s[2], 2, partial_pcrs, NULL);
    court_open(&c, s, 3, "auto", 0);
    struct qm_result r = judge(&c, &s[0], "proven");
    expect_states(&r, "++++-.....");
    cr_expect_eq(changes_of(&r), 2); /* every PCR that differs, after the first failure too */
    for (unsigned i = 0; i < r.stage_count; i++)
        cr_expect(expects(&r, i, &s[0].set[0].values));
    r = judge(&c, &s[1], "unproven");
    expect_states(&r, "??????????");
    cr_expect_eq(changes_of(&r), 99, "changes only where proven");
    for (unsigned i = 0; i < r.stage_count; i++)
        cr_expect(expects(&r, i, &s[1].set[0].values));
    r = judge(&c, &s[2], "partial");
    expect_states(&r, "++++++++??");
    court_close(&c);
    craft_free_all();
}

static void kept(struct scene *s)
{
    s->keep_events = true;
    s->send_log = s->send_pcrs = true;
    boot(&s->log, BOTH, &s->pcrs, 0x110);
    s->reported = s->pcrs;
}
static void kept_without_pcrs(struct scene *s)
{
    kept(s);
    s->send_pcrs = false;
}
static void kept_without_log(struct scene *s)
{
    kept(s);
    s->send_log = false;
}
static void kept_wrong_log(struct scene *s)
{
    kept(s);
    struct craft_pcrs other;
    boot(&s->log, BOTH, &other, 0x10);
}
static void kept_usual(struct scene *s)
{
    kept(s);
    boot(&s->log, BOTH, &s->pcrs, 0);
    s->reported = s->pcrs;
}
static void kept_other_set(struct scene *s)
{
    kept(s);
    boot(&(struct craft){0}, BOTH, &s->set[0].values, 0x100);
}

/* Of the first stage that fails, the event that led there; only where a log led to proven values and the table knows what led
 * to the expected one. */
Test(appraise, explained)
{
    static const tweak tweaks[] = {kept, kept_without_pcrs, kept_without_log, kept_wrong_log, kept_usual, kept_other_set};
    struct scene s[QM_COUNT(tweaks)];
    struct qm_record record[QM_COUNT(tweaks)];
    struct qm_result result[QM_COUNT(tweaks)];
    struct court c = {0};
    struct qm_fault fault = {0};
    for (unsigned i = 0; i < QM_COUNT(tweaks); i++)
        scene_make(&s[i], i, tweaks[i], NULL);
    court_open(&c, s, QM_COUNT(tweaks), "auto", 0);
    for (unsigned i = 0; i < QM_COUNT(tweaks); i++)
        frame(&s[i], &record[i]);
    cr_assert_eq(qm_verify(c.verifier, record, QM_COUNT(tweaks), NOW, result, &fault), QM_OK, "%s", fault.text);
    for (unsigned i = 0; i < QM_COUNT(tweaks); i++) {
        const struct qm_result *r = &result[i];
        check_invariants(r, s[i].id);
        const bool explained = i < 2 || i == 5; /* the last one's PCR 4 differs from a set whose PCR 4 is the usual one */
        cr_assert_eq(r->has_event, explained, "%s", s[i].id);
        if (!explained)
            continue;
        static const char words[] = "event 1 of PCR 4, changed", was[] = "event 1 of PCR 4";
        uint8_t digest[32];
        cr_expect_eq(r->first_fail, 4);
        cr_expect_eq(r->event.index, 1 + 9 + 4, "%u", r->event.index);
        cr_expect_eq(r->event.type, 0x0d);
        cr_expect(r->event.proved);
        cr_expect(qm_span_eq(r->event.text, (struct qm_span){(const uint8_t *)words, strlen(words)}));
        craft_hash(QM_HASH_SHA256, (struct qm_span){(const uint8_t *)words, strlen(words)}, digest);
        cr_expect_arr_eq(r->event.digest, digest, 32);
        craft_hash(QM_HASH_SHA256, (struct qm_span){(const uint8_t *)was, strlen(was)}, digest);
        cr_expect_arr_eq(r->event.expected_digest, digest, 32);
    }
    cr_expect_eq(result[2].reason, QM_PCR_MISMATCH);
    cr_expect_eq(result[3].log, QM_LOG_INCONSISTENT);
    cr_expect_eq(result[4].status, QM_TRUSTED);
    court_close(&c);
    craft_free_all();
}

/* sets: for each, newest first, the PCRs that differ from the quote; nearest: which one gives the
 * expected values */
static void nearest_is(const uint32_t *sets, unsigned count, uint32_t partial_sets,
                       unsigned nearest)
{
    struct scene s;
    struct court c = {0};
    scene_begin(&s, 0);
    s.send_pcrs = true;
    s.set_count = count;
    for (unsigned i = 0; i < count; i++) {
        s.set[i].mask = (partial_sets >> i & 1) != 0 ? 0xff : 0x3ff;
        boot(&(struct craft){0}, BOTH, &s.set[i].values, sets[i]);
    }
    scene_quote(&s);
    scene_sign(&s);
    scene_pack(&s);
    court_open(&c, &s, 1, "openssl", 0);
    struct qm_result r = judge(&c, &s, "nearest");
    cr_assert_eq(r.reason, QM_PCR_MISMATCH);
    for (unsigned i = 0; i < 8; i++)
        cr_expect(expects(&r, i, &s.set[nearest].values), "PCR %u of set %u", i, nearest);
    court_close(&c);
}

Test(appraise, nearest_set)
{
    nearest_is((uint32_t[]){0x7, 0x10, 0x30}, 3, 0, 1);  /* the fewest differences */
    nearest_is((uint32_t[]){0x8, 0x10, 0x20}, 3, 0, 0);  /* the newest of equals */
    nearest_is((uint32_t[]){0x18, 0x10, 0x20}, 3, 0, 1); /* the newer of two equals */
    nearest_is((uint32_t[]){0x1, 0x70, 0x3}, 3, 0x5, 1); /* a whole set before partial ones */
    nearest_is((uint32_t[]){0x3, 0x1, 0x7}, 3, 0x7, 1);  /* partial ones only */
    craft_free_all();
}

/* ---- batches -------------------------------------------------------------------------------- */

Test(appraise, batches_equal_singles)
{
    struct scene *scenes = all_scenes();
    static struct qm_record records[QM_VERIFY_BATCH];
    static struct qm_result results[QM_VERIFY_BATCH];
    uint64_t rng = craft_seed("batches_equal_singles");
    char *alone[QM_COUNT(matrix)];
    struct qm_fault fault = {0};
    struct court c = {0}, forgets = {.no_memo = true};
    court_open(&forgets, scenes, QM_COUNT(matrix), "auto", 16);
    for (size_t i = 0; i < QM_COUNT(matrix); i++) {
        struct qm_result r = judge(&forgets, &scenes[i], matrix[i].name);
        alone[i] = text_of(&r);
    }
    cr_assert_eq(qm_verifier_stats(forgets.verifier)->extends_remembered, 0);
    court_close(&forgets);
    court_open(&c, scenes, QM_COUNT(matrix), "auto", 16);
    for (unsigned round = 0; round < 200; round++) {
        size_t which[QM_VERIFY_BATCH];
        size_t count =
            round < QM_VERIFY_BATCH ? round + 1 : 1 + craft_random(&rng) % QM_VERIFY_BATCH;
        for (size_t i = 0; i < count; i++) {
            which[i] = craft_random(&rng) % QM_COUNT(matrix);
            frame(&scenes[which[i]], &records[i]);
        }
        memset(results, 0xa5, sizeof results);
        cr_assert_eq(qm_verify(c.verifier, records, count, NOW, results, &fault), QM_OK, "%s",
                     fault.text);
        for (size_t i = 0; i < count; i++) {
            char *text = text_of(&results[i]);
            cr_assert_str_eq(text, alone[which[i]], "%s at %zu of %zu", matrix[which[i]].name, i,
                             count);
            free(text);
        }
    }
    const struct qm_verify_stats *stats = qm_verifier_stats(c.verifier);
    cr_assert(stats->extends_remembered > stats->extends / 2, "%llu of %llu extends were known",
              (unsigned long long)stats->extends_remembered, (unsigned long long)stats->extends);
    cr_assert_eq(qm_verify(c.verifier, records, 0, NOW, results, &fault), QM_OK);
    for (size_t i = 0; i < QM_COUNT(matrix); i++)
        free(alone[i]);
    court_close(&c);
    free(scenes);
    craft_free_all();
}

/* Logs that do not fit side by side are replayed in turns; what was said of the first ones must
 * stay. */
static void long_log(struct scene *s, size_t bytes, uint32_t changed_pcr)
{
    struct craft log = {0};
    craft_pcrs_reset(&s->pcrs);
    craft_log_open(&log, 1 << QM_HASH_SHA256);
    for (unsigned i = 0; log.len + 4096 < bytes; i++) {
        char data[32];
        snprintf(data, sizeof data, "%u %s", i, i == 5 ? s->id : "");
        craft_log_event(&log, 1 << QM_HASH_SHA256, i % 10 == changed_pcr ? 3 : i % 10, 0x0d, data,
                        &s->pcrs);
    }
    char *rest = malloc(bytes);
    MUST(rest != NULL);
    size_t left = bytes - log.len - 50;
    memset(rest, 'x', left);
    rest[left] = '\0';
    craft_log_event(&log, 1 << QM_HASH_SHA256, 9, 0x0d, rest, &s->pcrs);
    free(rest);
    MUST(log.len == bytes);
    s->log = log;
    s->send_log = true;
}

static void sliced(const size_t *bytes, size_t count)
{
    static struct qm_record records[QM_VERIFY_BATCH];
    static struct qm_result results[QM_VERIFY_BATCH];
    struct scene *s = calloc(count, sizeof *s);
    struct court c = {0};
    struct qm_fault fault = {0};
    MUST(s != NULL);
    for (size_t i = 0; i < count; i++) {
        scene_begin(&s[i], (unsigned)i);
        s[i].set_count = i % 3 == 0 ? 0 : 1; /* some new, some that differ from their set */
        long_log(&s[i], bytes[i], i % 2 == 0 ? 4 : 99);
        scene_quote(&s[i]);
        scene_sign(&s[i]);
        scene_pack(&s[i]);
    }
    court_open(&c, s, count, "auto", 0);
    for (size_t i = 0; i < count; i++)
        frame(&s[i], &records[i]);
    cr_assert_eq(qm_verify(c.verifier, records, count, NOW, results, &fault), QM_OK, "%s",
                 fault.text);
    char *together[QM_VERIFY_BATCH];
    for (size_t i = 0; i < count; i++) {
        check_invariants(&results[i], "sliced");
        cr_expect_eq(results[i].log, QM_LOG_REPLAYED, "%zu", i);
        together[i] = text_of(&results[i]);
    }
    for (size_t i = 0; i < count; i++) {
        struct qm_result r = judge(&c, &s[i], "sliced, alone");
        char *alone = text_of(&r);
        cr_expect_str_eq(together[i], alone, "%zu", i);
        free(alone);
        free(together[i]);
    }
    court_close(&c);
    free(s);
    craft_free_all();
}

Test(appraise, many_long_logs)
{
    size_t bytes[QM_VERIFY_BATCH];
    for (size_t i = 0; i < QM_COUNT(bytes); i++)
        bytes[i] = 300 * 1024 + 777 * i;
    sliced(bytes, QM_COUNT(bytes));
}

Test(appraise, longest_logs)
{
    sliced((size_t[]){QM_LOG_MAX, QM_LOG_MAX, 5000, QM_LOG_MAX - 1, QM_LOG_MAX}, 5);
}

/* ---- kernels that lie ------------------------------------------------------------------------ */

static bool lie;

static size_t no_scratch(void)
{
    return 64;
}
static qm_err liar_init(void *scratch, const struct qm_hash_kernel *hash, struct qm_fault *fault)
{
    (void)scratch, (void)hash, (void)fault;
    return QM_OK;
}
static void liar_close(void *scratch)
{
    (void)scratch;
}
static void liar_verify(void *scratch, struct qm_sig_job *const *jobs, size_t count)
{
    (void)scratch;
    for (size_t i = 0; i < count; i++)
        jobs[i]->valid = lie;
}
static const struct qm_sig_kernel liar = {.name = "liar",
                                          .classes = (1u << QM_SIG_CLASS_COUNT) - 1,
                                          .lanes = 8,
                                          .scratch_size = no_scratch,
                                          .init = liar_init,
                                          .close = liar_close,
                                          .verify = liar_verify};

static qm_err ask_liar(const char *kind, bool says, bool truth, uint64_t audit, struct qm_result *r,
                       char *why)
{
    struct scene s;
    struct court c = {0};
    struct qm_record record;
    struct qm_fault fault = {0};
    scene_make(&s, 0, strcmp(kind, "p256") == 0 ? NULL : rsassa_256, truth ? NULL : sig_bit);
    cr_assert_eq(qm_kernels_choose(&c.kernels, "openssl", &fault), QM_OK);
    for (unsigned k = 0; k < QM_SIG_CLASS_COUNT; k++)
        c.kernels.sig[k] = &liar;
    court_open(&c, &s, 1, NULL, audit);
    frame(&s, &record);
    lie = says;
    qm_err err = qm_verify(c.verifier, &record, 1, NOW, r, &fault);
    snprintf(why, sizeof fault.text, "%s", fault.text);
    court_close(&c);
    return err;
}

Test(appraise, lying_kernels_stop_the_run)
{
    static const char *const kinds[] = {"rsa2048", "p256"};
    char why[sizeof(struct qm_fault)];
    struct qm_result r;
    for (size_t i = 0; i < QM_COUNT(kinds); i++) {
        /* every negative is looked at twice, whatever the audit */
        cr_expect_eq(ask_liar(kinds[i], false, true, 0, &r, why), QM_E_SELFTEST, "%s", kinds[i]);
        cr_expect_not_null(strstr(why, "liar"), "%s", why);
        /* a positive that is audited */
        cr_expect_eq(ask_liar(kinds[i], true, false, 1, &r, why), QM_E_SELFTEST, "%s", kinds[i]);
        cr_expect_not_null(strstr(why, "liar"), "%s", why);
        /* right by chance */
        cr_expect_eq(ask_liar(kinds[i], false, false, 1, &r, why), QM_OK);
        cr_expect_eq(r.reason, QM_BAD_SIGNATURE);
        cr_expect_eq(ask_liar(kinds[i], true, true, 1, &r, why), QM_OK);
        cr_expect_eq(r.reason, QM_ALL_GOOD);
    }
    craft_free_all();
}

/* One in so many, counted over the verifier's life: with 4, the 4th positive of a liar is caught at
 * the latest. */
Test(appraise, audit_comes_round)
{
    struct scene s[8];
    struct court c = {0};
    struct qm_fault fault = {0};
    for (unsigned i = 0; i < 8; i++)
        scene_make(&s[i], i, NULL, sig_bit);
    cr_assert_eq(qm_kernels_choose(&c.kernels, "openssl", &fault), QM_OK);
    for (unsigned k = 0; k < QM_SIG_CLASS_COUNT; k++)
        c.kernels.sig[k] = &liar;
    court_open(&c, s, 8, NULL, 4);
    lie = true;
    unsigned taken = 0;
    qm_err err = QM_OK;
    for (; err == QM_OK && taken < 8; taken++) {
        struct qm_record record;
        struct qm_result r;
        frame(&s[taken], &record);
        err = qm_verify(c.verifier, &record, 1, NOW, &r, &fault);
    }
    cr_expect_eq(err, QM_E_SELFTEST);
    cr_expect_eq(taken, 4);
    court_close(&c);
    craft_free_all();
}

/* ---- a group's values beside the instance's own --------------------------------------------- */

static void paired(struct scene *s)
{
    s->set[0].pair_mask = 0x62;
}

static void paired_second(struct scene *s)
{
    paired(s);
    s->set_count = 2;
    s->set[1] = s->set[0];
    s->set[0].values.value[QM_HASH_SHA256][4][0] ^= 1; /* a newer set of the group */
}

static void paired_mixed(struct scene *s)
{
    paired_second(s);
    s->set[0].values.value[QM_HASH_SHA256][4][0] ^= 1;
    s->set[0].values.value[QM_HASH_SHA256][1][0] ^= 1; /* the first pair has the group's, the second the own values */
    s->set[1].values.value[QM_HASH_SHA256][4][0] ^= 1;
    s->send_log = true;
}

static void group_alone(struct scene *s)
{
    s->set[0].mask = 0x39d;
    s->send_log = true;
}

static void group_alone_differs(struct scene *s)
{
    group_alone(s);
    s->set[0].values.value[QM_HASH_SHA256][8][5] ^= 1;
}

Test(appraise, pairs)
{
    static const struct {
        tweak make;
        enum qm_status status;
        enum qm_reason reason;
        uint32_t set_a, set_b;
        int first_fail;
    } cases[] = {
        {paired, QM_TRUSTED, QM_ALL_GOOD, 10, 1000, -1},
        {paired_second, QM_TRUSTED, QM_ALL_GOOD, 21, 2001, -1},
        {paired_mixed, QM_UNTRUSTED, QM_PCR_MISMATCH, 30, 3000, 1},
        {group_alone, QM_NEW, QM_NO_BASELINE, 40, 0, -1},
        {group_alone_differs, QM_UNTRUSTED, QM_PCR_MISMATCH, 50, 0, 8},
        {NULL, QM_TRUSTED, QM_ALL_GOOD, 60, 0, -1},
    };
    struct scene s[QM_COUNT(cases)];
    struct court c = {0};
    for (unsigned i = 0; i < QM_COUNT(cases); i++)
        scene_make(&s[i], i, cases[i].make, NULL);
    court_open(&c, s, QM_COUNT(cases), "auto", 0);
    for (unsigned i = 0; i < QM_COUNT(cases); i++) {
        struct qm_result r = judge(&c, &s[i], "pairs");
        cr_expect(r.status == cases[i].status && r.reason == cases[i].reason, "%u: %s/%s", i, qm_status_name(r.status),
                  qm_reason_name(r.reason));
        cr_expect(r.set_a == cases[i].set_a && r.set_b == cases[i].set_b, "%u: %u and %u", i, r.set_a, r.set_b);
        cr_expect_eq(r.first_fail, cases[i].first_fail, "%u: %d", i, r.first_fail);
        cr_expect_eq(r.slot, i + 1);
        char *text = text_of(&r), sets[64];
        snprintf(sets, sizeof sets, r.set_b != 0 ? "\"sets\":[%u,%u]" : "\"sets\":[%u]", r.set_a, r.set_b);
        cr_expect_not_null(strstr(text, sets), "%s lacks %s", text, sets);
        free(text);
    }
    court_close(&c);
    craft_free_all();
}

/* ---- beacons -------------------------------------------------------------------------------- */

static const struct qm_beacon old_beacon = {3, {3, 3}}, new_beacon = {4, {4, 4}}, dead_beacon = {2, {2, 2}};

static void carry(struct scene *s, const struct qm_beacon *b, const char *id)
{
    static uint8_t extra[32][32];
    static unsigned used;
    struct craft c = {0};
    uint8_t *to = extra[used++ % 32];
    craft_text(&c, "quotemill-beacon-v1");
    craft_put(&c, b->value, sizeof b->value);
    craft_text(&c, id);
    craft_hash(QM_HASH_SHA256, craft_span(&c), to);
    s->attest.extra = (struct qm_span){to, 32};
}

static void carries_new(struct scene *s)
{
    carry(s, &new_beacon, s->id);
}

static void carries_old(struct scene *s)
{
    carry(s, &old_beacon, s->id);
}

static void carries_dead(struct scene *s)
{
    carry(s, &dead_beacon, s->id);
}

static void carries_of_another(struct scene *s)
{
    carry(s, &new_beacon, "machine-99");
}

static void carries_cut(struct scene *s)
{
    carries_new(s);
    s->attest.extra.len = 31;
}

static void carries_and_nonce(struct scene *s)
{
    carries_new(s);
    s->nonce = s->attest.extra;
}

static void carries_but_nonce(struct scene *s)
{
    carries_new(s);
    s->nonce = (struct qm_span){(const uint8_t *)"whatever", 8};
}

static void judge_beacons(bool demanded, unsigned live)
{
    static const struct {
        tweak make;
        unsigned beacon; /* that it carries, 0: none that lives */
        bool nonce, nonce_wrong;
    } cases[] = {
        {NULL, 0, false, false},        {carries_new, 4, false, false},       {carries_old, 3, false, false},
        {carries_dead, 0, false, false}, {carries_of_another, 0, false, false}, {carries_cut, 0, false, false},
        {carries_and_nonce, 0, true, false}, {carries_but_nonce, 0, true, true},
    };
    struct scene s[QM_COUNT(cases)];
    struct court c = {.beacon = {new_beacon, old_beacon}, .beacon_count = live};
    for (unsigned i = 0; i < QM_COUNT(cases); i++) {
        scene_make(&s[i], i, cases[i].make, NULL);
        s[i].require_beacon = demanded;
    }
    court_open(&c, s, QM_COUNT(cases), "auto", 0);
    for (unsigned i = 0; i < QM_COUNT(cases); i++) {
        struct qm_result r = judge(&c, &s[i], "beacons");
        const unsigned beacon = cases[i].beacon == 4 && live >= 1 ? 4 : cases[i].beacon == 3 && live >= 2 ? 3 : 0;
        const bool stale = cases[i].nonce ? cases[i].nonce_wrong : demanded && beacon == 0;
        cr_expect_eq(r.reason, stale ? QM_STALE_NONCE : QM_ALL_GOOD, "%u of %u live, demanded %d: %s", i, live, demanded,
                     qm_reason_name(r.reason));
        cr_expect_eq(r.beacon, stale ? 0 : beacon, "%u: beacon %u", i, r.beacon);
        cr_expect_eq(r.fresh, stale ? QM_FRESH_UNKNOWN : cases[i].nonce ? QM_FRESH_NONCE : beacon != 0 ? QM_FRESH_BEACON : QM_FRESH_CLOCK,
                     "%u: %u", i, r.fresh);
    }
    court_close(&c);
    craft_free_all();
}

Test(appraise, beacons)
{
    for (unsigned live = 0; live <= 2; live++) {
        judge_beacons(false, live);
        judge_beacons(true, live);
    }
}
