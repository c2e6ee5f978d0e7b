#include "tools/enrolment.h"

#include <stdlib.h>

#include "codec/text.h"

enum field { F_ID, F_AK, F_SCHEME, F_SELECT, F_BASELINED, F_NONCE, F_BASELINE, F_REQUIRE_LOG, F_GROUP, F_TAGS, F_COUNT };
static const char *const field_names[F_COUNT] = {"id",    "ak",       "scheme",      "select", "baselined",
                                                 "nonce", "baseline", "require_log", "group",  "tags"};
static const enum qm_json_kind field_kinds[F_COUNT] = {QM_JSON_TEXT, QM_JSON_TEXT,   QM_JSON_TEXT, QM_JSON_ARRAY, QM_JSON_ARRAY,
                                                       QM_JSON_TEXT, QM_JSON_OBJECT, QM_JSON_BOOL, QM_JSON_TEXT,  QM_JSON_OBJECT};
static const char *const kind_names[F_COUNT] = {"a string", "a string",  "a string", "an array", "an array",
                                                "a string", "an object", "a boolean", "a string", "an object"};

enum { UNKNOWN_MAX = 64, UNKNOWN_ROOM = 4096 };

/* What is gathered while a line is walked; the fields depend on each other, so they are judged once all are there. */
struct line {
    struct qm_json *json;
    struct qm_enrolment *out;
    unsigned seen;
    struct qm_ak ak;
    uint8_t scheme, hash; /* as asked for; QM_SCHEME_NONE: not */
    uint32_t baselined;
    bool id_only;
    bool defaults; /* id, ak and scheme must not be there */
    unsigned unknown_count;
    size_t unknown_used;
    struct qm_span unknown[UNKNOWN_MAX];
    uint8_t unknown_bytes[UNKNOWN_ROOM];
};

static qm_err refuse(struct qm_fault *fault, const char *why)
{
    return qm_fail(fault, QM_E_REFUSED, 0, "%s", why);
}

/* ---- scheme, select, baselined, baseline ------------------------------------------------------------------------------ */

static bool scheme_read(struct qm_span s, uint8_t *scheme, uint8_t *hash)
{
    static const struct {
        const char *name;
        uint8_t scheme;
    } schemes[] = {{"rsassa-", QM_SCHEME_RSASSA}, {"rsapss-", QM_SCHEME_RSAPSS}, {"ecdsa-", QM_SCHEME_ECDSA}};
    for (size_t i = 0; i < QM_COUNT(schemes); i++) {
        size_t n = strlen(schemes[i].name);
        if (s.len <= n || memcmp(s.p, schemes[i].name, n) != 0)
            continue;
        *scheme = schemes[i].scheme;
        *hash = (uint8_t)qm_hash_of_name((const char *)s.p + n, s.len - n);
        return *hash != QM_HASH_NONE && *hash != QM_HASH_SHA1;
    }
    return false;
}

struct pcr_list {
    uint32_t mask;
    const char *name;
};

static qm_err pcr_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct pcr_list *list = user;
    if (item->kind != QM_JSON_INT || item->number < 0 || item->number >= QM_PCR_COUNT)
        return qm_fail(fault, QM_E_REFUSED, 0, "%s has something that is no PCR (0 to 23)", list->name);
    uint32_t bit = 1u << item->number;
    if ((list->mask & bit) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "%s has PCR %d twice", list->name, (int)item->number);
    list->mask |= bit;
    return QM_OK;
}

static qm_err pcrs_read(struct line *l, struct qm_span array, const char *name, uint32_t *mask, struct qm_fault *fault)
{
    struct pcr_list list = {0, name};
    qm_err err = qm_json_each(l->json, QM_JSON_ARRAY, (const char *)array.p, array.len, pcr_visit, &list, fault);
    *mask = list.mask;
    return err;
}

struct bank_entry {
    struct line *line;
    bool has_bank, has_pcrs;
    uint8_t hash;
    uint32_t mask;
};

static qm_err bank_field_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct bank_entry *b = user;
    if (qm_json_key_is(item, "bank")) {
        if (b->has_bank || item->kind != QM_JSON_TEXT)
            return refuse(fault, b->has_bank ? "bank stands twice in an entry of select" : "bank in select is no string");
        b->has_bank = true;
        b->hash = (uint8_t)qm_hash_of_name((const char *)item->text.p, item->text.len);
        return b->hash != QM_HASH_NONE ? QM_OK : refuse(fault, "select has an unknown bank");
    }
    if (qm_json_key_is(item, "pcrs")) {
        if (b->has_pcrs || item->kind != QM_JSON_ARRAY)
            return refuse(fault, b->has_pcrs ? "pcrs stands twice in an entry of select" : "pcrs in select is no array");
        b->has_pcrs = true;
        return pcrs_read(b->line, item->text, "select", &b->mask, fault);
    }
    return QM_OK;
}

static qm_err bank_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct line *l = user;
    struct qm_profile *p = &l->out->profile;
    struct bank_entry b = {.line = l};
    if (item->kind != QM_JSON_OBJECT)
        return refuse(fault, "select has something that is no object");
    qm_err err = qm_json_each(l->json, QM_JSON_OBJECT, (const char *)item->text.p, item->text.len, bank_field_visit, &b, fault);
    if (err != QM_OK)
        return err;
    if (!b.has_bank || !b.has_pcrs)
        return refuse(fault, "an entry of select lacks bank or pcrs");
    if (b.mask == 0)
        return refuse(fault, "select has a bank without PCRs");
    for (unsigned i = 0; i < p->select_count; i++)
        if (p->select[i].hash == b.hash)
            return refuse(fault, "select has a bank twice");
    p->select[p->select_count].hash = b.hash; /* no bank twice, so there are at most QM_BANK_MAX */
    p->select[p->select_count++].mask = b.mask;
    return QM_OK;
}

static qm_err baseline_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct line *l = user;
    unsigned pcr = 0;
    bool number = item->key.len >= 1 && item->key.len <= 2 && (item->key.len == 1 || item->key.p[0] != '0');
    for (size_t i = 0; number && i < item->key.len; i++) {
        number = item->key.p[i] >= '0' && item->key.p[i] <= '9';
        pcr = 10 * pcr + (unsigned)(item->key.p[i] - '0');
    }
    if (!number || pcr >= QM_PCR_COUNT)
        return refuse(fault, "baseline has a key that is no PCR (0 to 23)");
    if ((l->out->baseline_mask >> pcr & 1) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "baseline has PCR %u twice", pcr);
    if (item->kind != QM_JSON_TEXT || item->text.len != 64 ||
        !qm_hex_read((const char *)item->text.p, l->out->baseline[pcr], 32))
        return qm_fail(fault, QM_E_REFUSED, 0, "the baseline of PCR %u is not 64 hex digits", pcr);
    l->out->baseline_mask |= 1u << pcr;
    return QM_OK;
}

struct tag_keys {
    unsigned count;
    size_t used;
    struct qm_span key[UNKNOWN_MAX];
    uint8_t bytes[UNKNOWN_ROOM];
};

/* Keeps key in the room given; false when it was there already, or there is no room. */
static bool key_new(struct qm_span key, struct qm_span *keys, unsigned *count, uint8_t *bytes, size_t *used)
{
    for (unsigned i = 0; i < *count; i++)
        if (qm_span_eq(keys[i], key))
            return false;
    if (*count == UNKNOWN_MAX || key.len > UNKNOWN_ROOM - *used)
        return false;
    if (key.len != 0)
        memcpy(bytes + *used, key.p, key.len);
    keys[(*count)++] = (struct qm_span){bytes + *used, key.len};
    *used += key.len;
    return true;
}

static qm_err tag_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct tag_keys *t = user;
    if (item->kind != QM_JSON_TEXT)
        return refuse(fault, "a tag is no string");
    return key_new(item->key, t->key, &t->count, t->bytes, &t->used) ? QM_OK : refuse(fault, "a tag stands twice, or there are too many");
}

/* ---- the line --------------------------------------------------------------------------------------------------------- */

static qm_err nonce_read(struct qm_enrolment *out, struct qm_span hex, struct qm_fault *fault)
{
    if (hex.len % 2 != 0 || hex.len / 2 > QM_NONCE_MAX || !qm_hex_read((const char *)hex.p, out->nonce, hex.len / 2))
        return refuse(fault, "nonce is no hex, or longer than any extraData");
    out->nonce_len = hex.len / 2;
    out->has_nonce = true;
    return QM_OK;
}

static qm_err take_field(struct line *l, enum field f, const struct qm_json_item *item, struct qm_fault *fault)
{
    struct qm_enrolment *out = l->out;
    const char *text = (const char *)item->text.p;
    switch (f) {
    case F_ID:
        if (!qm_id_ok(item->text))
            return refuse(fault, "id is not 1 to 128 bytes of UTF-8 without control characters");
        memcpy(out->id, item->text.p, item->text.len);
        out->id_len = item->text.len;
        return QM_OK;
    case F_AK:
        return l->id_only ? QM_OK : qm_ak_read(item->text, &l->ak, out, fault);
    case F_SCHEME:
        return scheme_read(item->text, &l->scheme, &l->hash) ? QM_OK : refuse(fault, "scheme is none that is known");
    case F_SELECT:
        return qm_json_each(l->json, QM_JSON_ARRAY, text, item->text.len, bank_visit, l, fault);
    case F_BASELINED:
        return pcrs_read(l, item->text, "baselined", &l->baselined, fault);
    case F_NONCE:
        return nonce_read(out, item->text, fault);
    case F_BASELINE:
        return qm_json_each(l->json, QM_JSON_OBJECT, text, item->text.len, baseline_visit, l, fault);
    case F_REQUIRE_LOG:
        out->require_log = item->number != 0;
        return QM_OK;
    case F_GROUP:
        if (item->text.len == 0 || item->text.len > QM_GROUP_MAX || !qm_id_ok(item->text))
            return refuse(fault, "group is not 1 to 128 bytes of text without control characters");
        memcpy(out->group, item->text.p, item->text.len);
        out->group_len = item->text.len;
        out->has_group = true;
        return QM_OK;
    case F_TAGS: {
        struct tag_keys t = {0};
        if (item->text.len > QM_TAGS_MAX)
            return refuse(fault, "tags are too long");
        memcpy(out->tags, item->text.p, item->text.len);
        out->tags_len = item->text.len;
        return qm_json_each(l->json, QM_JSON_OBJECT, text, item->text.len, tag_visit, &t, fault);
    }
    case F_COUNT:
        break;
    }
    return QM_OK;
}

static qm_err line_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct line *l = user;
    enum field f = F_ID;
    while (f < F_COUNT && !qm_json_key_is(item, field_names[f]))
        f++;
    if (f == F_COUNT)
        return key_new(item->key, l->unknown, &l->unknown_count, l->unknown_bytes, &l->unknown_used)
                   ? QM_OK
                   : refuse(fault, "an unknown key stands twice, or there are too many");
    if ((l->seen & 1u << f) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "%s stands twice", field_names[f]);
    l->seen |= 1u << f;
    if (l->id_only && f != F_ID)
        return QM_OK;
    if (l->defaults && (f == F_ID || f == F_AK || f == F_SCHEME))
        return qm_fail(fault, QM_E_REFUSED, 0, "%s is a machine's own, and no default", field_names[f]);
    if (item->kind != field_kinds[f])
        return qm_fail(fault, QM_E_REFUSED, 0, "%s is not %s", field_names[f], kind_names[f]);
    return take_field(l, f, item, fault);
}

/* The scheme: as asked for, else the TPMT's own, else the usual one. */
static qm_err settle_scheme(struct line *l, struct qm_fault *fault)
{
    const struct qm_key *key = qm_enrolment_key(l->out);
    const bool ec = key->sig_class == QM_SIG_P256 || key->sig_class == QM_SIG_P384;
    struct qm_profile *p = &l->out->profile;
    if (l->scheme != QM_SCHEME_NONE) {
        if ((l->scheme == QM_SCHEME_ECDSA) != ec)
            return refuse(fault, "the scheme does not suit the key");
        if (l->ak.scheme != QM_SCHEME_NONE && (l->ak.scheme != l->scheme || l->ak.hash != l->hash))
            return refuse(fault, "the scheme is not the AK's own");
        p->scheme = l->scheme;
        p->hash = l->hash;
    } else if (l->ak.scheme != QM_SCHEME_NONE) {
        p->scheme = l->ak.scheme;
        p->hash = l->ak.hash;
    } else {
        p->scheme = ec ? QM_SCHEME_ECDSA : QM_SCHEME_RSASSA;
        p->hash = key->sig_class == QM_SIG_P384 ? QM_HASH_SHA384 : QM_HASH_SHA256;
    }
    return QM_OK;
}

/* select and baselined: defaults, and that something is compared. */
static qm_err settle_selection(struct line *l, struct qm_fault *fault)
{
    static const uint32_t usual = 0x3ff;            /* PCRs 0-9 */
    static const uint32_t anybody = 1u << 16 | 1u << 23; /* reset by anybody: debug and application support */
    struct qm_profile *p = &l->out->profile;
    if ((l->seen & 1u << F_SELECT) == 0) {
        p->select_count = 1;
        p->select[0].hash = QM_HASH_SHA256;
        p->select[0].mask = usual;
    }
    p->first256 = 0;
    while (p->first256 < p->select_count && p->select[p->first256].hash != QM_HASH_SHA256)
        p->first256++;
    if (p->first256 == p->select_count)
        return refuse(fault, "select has no SHA-256 bank, so nothing would be compared");
    const uint32_t selected = p->select[p->first256].mask;
    p->baselined = (l->seen & 1u << F_BASELINED) != 0 ? l->baselined : selected & usual;
    if (p->baselined == 0)
        return refuse(fault, "no PCR is baselined, so nothing would be compared");
    if ((p->baselined & ~selected) != 0)
        return refuse(fault, "baselined has a PCR that select does not");
    if ((p->baselined & anybody) != 0)
        return refuse(fault, "PCRs 16 and 23 cannot be baselined: anybody resets them");
    return QM_OK;
}

static qm_err settle_baseline(struct line *l, struct qm_fault *fault)
{
    if ((l->seen & 1u << F_BASELINE) == 0)
        return QM_OK;
    const uint32_t missing = l->out->profile.baselined & ~l->out->baseline_mask;
    if (missing != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "baseline lacks PCR %d, which is baselined", __builtin_ctz(missing));
    l->out->baseline_mask = l->out->profile.baselined;
    return QM_OK;
}

static qm_err walk(struct line *l, const char *text, size_t len, struct qm_fault *fault)
{
    memset(l->out, 0, sizeof *l->out);
    qm_err err = qm_json_each(l->json, QM_JSON_OBJECT, text, len, line_visit, l, fault);
    if (err == QM_OK && (l->seen & 1u << F_ID) == 0 && !l->defaults)
        return refuse(fault, "id is missing");
    return err;
}

qm_err qm_enrolment_id(struct qm_json *json, const char *line, size_t len, struct qm_enrolment *out, struct qm_fault *fault)
{
    struct line l = {.json = json, .out = out, .id_only = true};
    return walk(&l, line, len, fault);
}

qm_err qm_enrolment_read(struct qm_json *json, const char *line, size_t len, struct qm_enrolment *out, struct qm_fault *fault)
{
    struct line l = {.json = json, .out = out};
    qm_err err = walk(&l, line, len, fault);
    if (err == QM_OK && (l.seen & 1u << F_AK) == 0)
        err = refuse(fault, "ak is missing");
    if (err == QM_OK)
        err = settle_scheme(&l, fault);
    if (err == QM_OK)
        err = settle_selection(&l, fault);
    return err == QM_OK ? settle_baseline(&l, fault) : err;
}

qm_err qm_enrolment_defaults(struct qm_json *json, const char *line, size_t len, struct qm_enrolment *out, struct qm_fault *fault)
{
    struct line l = {.json = json, .out = out, .defaults = true};
    qm_err err = walk(&l, line, len, fault);
    if (err == QM_OK)
        err = settle_selection(&l, fault);
    return err == QM_OK ? settle_baseline(&l, fault) : err;
}
