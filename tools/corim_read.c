#include "tools/corim_read.h"

#include <cbor.h>
#include <math.h>
#include <stdio.h>

#include "codec/text.h"

/* Numbers of the draft (sections 4 to 6) and of what it builds on. */
enum {
    TAG_TIME = 1,        /* RFC 8949, 3.4.2 */
    TAG_SIGN1 = 18,      /* COSE_Sign1, RFC 9052 */
    TAG_CORIM = 500,     /* of earlier drafts: around either form */
    TAG_UNSIGNED = 501,
    TAG_SIGNED = 502,    /* of earlier drafts */
    TAG_COMID = 506,
    TAG_CBOR = 55799,    /* "this is CBOR", RFC 8949, 3.4.6 */
    CORIM_ID = 0, CORIM_TAGS = 1, CORIM_PROFILE = 3, CORIM_VALIDITY = 4,
    COMID_IDENTITY = 1, COMID_TRIPLES = 4, COMID_PROFILE = 5,
    TRIPLES_REFERENCE = 0,
    MEASUREMENT_KEY = 0, MEASUREMENT_VALUES = 1,
    VALUES_VERSION = 0, VALUES_DIGESTS = 2, VALUES_NAME = 11, VALUES_REGISTERS = 14,
    ALG_SHA256 = 1,      /* Named Information Hash Algorithm registry */
};

/* ---- one item of CBOR ------------------------------------------------------------------------------------------------- */

enum kind { NOTHING, UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, REAL, SIMPLE, BREAK, CHUNKED };

struct item {
    enum kind kind;
    uint64_t n;          /* the number; how many items (an array's, twice a map's pairs); the tag */
    double real;
    struct qm_span text; /* BYTES, TEXT: within what is read */
    bool open;           /* an array or map that ends with a break */
};

/* What is left; err sticks. */
struct cbor {
    struct qm_span left;
    struct qm_fault *fault;
    qm_err err;
};

static void take(struct item *to, enum kind kind, uint64_t n)
{
    to->kind = kind;
    to->n = n;
}

static void on_uint8(void *to, uint8_t n) { take(to, UINT, n); }
static void on_uint16(void *to, uint16_t n) { take(to, UINT, n); }
static void on_uint32(void *to, uint32_t n) { take(to, UINT, n); }
static void on_uint64(void *to, uint64_t n) { take(to, UINT, n); }
static void on_nint8(void *to, uint8_t n) { take(to, NEGATIVE, n); }
static void on_nint16(void *to, uint16_t n) { take(to, NEGATIVE, n); }
static void on_nint32(void *to, uint32_t n) { take(to, NEGATIVE, n); }
static void on_nint64(void *to, uint64_t n) { take(to, NEGATIVE, n); }
static void on_tag(void *to, uint64_t n) { take(to, TAG, n); }
static void on_array(void *to, size_t n) { take(to, ARRAY, n); }
static void on_map(void *to, size_t n) { take(to, MAP, n); }
static void on_simple(void *to) { take(to, SIMPLE, 0); }
static void on_bool(void *to, bool b) { take(to, SIMPLE, b); }
static void on_break(void *to) { take(to, BREAK, 0); }
static void on_chunks(void *to) { take(to, CHUNKED, 0); }

static void on_double(void *to, double d)
{
    struct item *it = to;
    take(it, REAL, 0);
    it->real = d;
}

static void on_float(void *to, float f)
{
    on_double(to, (double)f);
}

static void on_bytes(void *to, cbor_data p, size_t len)
{
    struct item *it = to;
    take(it, BYTES, len);
    it->text = (struct qm_span){p, len};
}

static void on_text(void *to, cbor_data p, size_t len)
{
    on_bytes(to, p, len);
    ((struct item *)to)->kind = TEXT;
}

static void on_open_array(void *to)
{
    take(to, ARRAY, 0);
    ((struct item *)to)->open = true;
}

static void on_open_map(void *to)
{
    take(to, MAP, 0);
    ((struct item *)to)->open = true;
}

static const struct cbor_callbacks callbacks = {
    .uint8 = on_uint8, .uint16 = on_uint16, .uint32 = on_uint32, .uint64 = on_uint64,
    .negint8 = on_nint8, .negint16 = on_nint16, .negint32 = on_nint32, .negint64 = on_nint64,
    .byte_string = on_bytes, .byte_string_start = on_chunks, .string = on_text, .string_start = on_chunks,
    .array_start = on_array, .indef_array_start = on_open_array, .map_start = on_map, .indef_map_start = on_open_map,
    .tag = on_tag, .float2 = on_float, .float4 = on_float, .float8 = on_double,
    .undefined = on_simple, .null = on_simple, .boolean = on_bool, .indef_break = on_break,
};

static bool refuse(struct cbor *c, const char *why)
{
    if (c->err == QM_OK)
        c->err = qm_fail(c->fault, QM_E_REFUSED, 0, "%s", why);
    return false;
}

static bool refuse_number(struct cbor *c, const char *before, uint64_t n, const char *behind)
{
    if (c->err == QM_OK)
        c->err = qm_fail(c->fault, QM_E_REFUSED, 0, "%s %llu %s", before, (unsigned long long)n, behind);
    return false;
}

/* The head of the next item, and of text and bytes the content. */
static bool next(struct cbor *c, struct item *it)
{
    *it = (struct item){NOTHING};
    if (c->err != QM_OK)
        return false;
    if (c->left.len != 0 && c->left.p[0] >= 0xc0 && c->left.p[0] < 0xd8) { /* a tag below 24, most of which libcbor 0.8 does not take */
        take(it, TAG, c->left.p[0] & 31);
        c->left = (struct qm_span){c->left.p + 1, c->left.len - 1};
        return true;
    }
    const struct cbor_decoder_result r = cbor_stream_decode(c->left.p, c->left.len, &callbacks, it);
    if (r.status != CBOR_DECODER_FINISHED || r.read == 0 || r.read > c->left.len || it->kind == NOTHING)
        return refuse(c, r.status == CBOR_DECODER_NEDATA ? "the CBOR is cut short" : "it is no CBOR");
    c->left = (struct qm_span){c->left.p + r.read, c->left.len - r.read};
    /* Every item is a byte at least: what claims more is not believed. */
    if ((it->kind == ARRAY && it->n > c->left.len) || (it->kind == MAP && it->n > c->left.len / 2))
        return refuse(c, "the CBOR is cut short");
    if (it->kind == MAP)
        it->n *= 2;
    return it->kind != CHUNKED || refuse(c, "text or bytes in chunks of unknown number are not read; write them whole");
}

static bool at_break(const struct cbor *c)
{
    return c->left.len != 0 && c->left.p[0] == 0xff;
}

/* Is there another item of the array or map? */
static bool more(struct cbor *c, struct item *list)
{
    struct item end;
    if (c->err != QM_OK)
        return false;
    if (!list->open)
        return list->n != 0 && list->n-- != 0;
    if (!at_break(c)) {
        list->n++;
        return true;
    }
    if (list->kind == MAP && list->n % 2 != 0)
        return refuse(c, "a map ends behind a key");
    return next(c, &end) && false;
}

/* The value of a pair is taken without asking whether there is one. */
static void with_value(struct item *map)
{
    map->n += map->open ? 1 : UINT64_MAX; /* one more that came, or one less to come */
}

static bool want(struct cbor *c, struct item *it, enum kind kind, const char *what)
{
    return next(c, it) && (it->kind == kind || refuse(c, what));
}

/* Over one item, whatever it is; *whole, where asked, is what it was. */
static bool skip(struct cbor *c, struct qm_span *whole)
{
    struct item list[QM_CORIM_DEPTH], it;
    const uint8_t *from = c->left.p;
    unsigned depth = 0;
    do {
        if (depth != 0 && !more(c, &list[depth - 1])) {
            depth--;
            continue;
        }
        if (!next(c, &it))
            return false;
        while (it.kind == TAG)
            if (!next(c, &it))
                return false;
        if (it.kind == BREAK)
            return refuse(c, "it is no CBOR");
        if (it.kind != ARRAY && it.kind != MAP)
            continue;
        if (depth == QM_CORIM_DEPTH)
            return refuse(c, "the CBOR is nested too deep");
        list[depth++] = it;
    } while (depth != 0 && c->err == QM_OK);
    if (whole != NULL)
        *whole = (struct qm_span){from, (size_t)(c->left.p - from)};
    return c->err == QM_OK;
}

/* ---- maps ------------------------------------------------------------------------------------------------------------- */

enum { KEYS = 16 };

/* The values of a map's keys 0 to 15, found and not looked into; p NULL: not there. Other keys are extensions; their number is kept. */
struct fields {
    struct qm_span value[KEYS];
    bool others;
};

static bool fields_read(struct cbor *c, struct fields *f, const char *what)
{
    struct item map, key;
    *f = (struct fields){.others = false};
    if (!want(c, &map, MAP, what))
        return false;
    while (more(c, &map)) {
        struct qm_span value;
        if (!next(c, &key))
            return false;
        if (key.kind != UINT && key.kind != NEGATIVE && key.kind != TEXT)
            return refuse(c, "a map has a key that is no number and no text");
        with_value(&map);
        if (!skip(c, &value))
            return false;
        if (key.kind != UINT || key.n >= KEYS) {
            f->others = true;
            continue;
        }
        if (f->value[key.n].p != NULL)
            return refuse(c, "a map has a key twice");
        f->value[key.n] = value;
    }
    return c->err == QM_OK;
}

/* A cursor over a value that was found. */
static struct cbor over(const struct cbor *c, struct qm_span value)
{
    return (struct cbor){value, c->fault, c->err};
}

static bool back(struct cbor *c, const struct cbor *inner)
{
    c->err = inner->err;
    return c->err == QM_OK;
}

/* ---- names and times -------------------------------------------------------------------------------------------------- */

/* An id, text or bytes, for people; what is anything else is left out. */
static void name_of(struct qm_span value, char name[QM_CORIM_NAME_MAX])
{
    struct cbor in = {value, NULL, QM_OK};
    struct item it = {NOTHING};
    char room[4 * QM_CORIM_NAME_MAX];
    struct qm_out o = qm_out_init(room, sizeof room - 1);
    while (value.p != NULL && next(&in, &it) && it.kind == TAG)
        ;
    const size_t len = it.text.len < QM_CORIM_NAME_MAX / 4 ? it.text.len : QM_CORIM_NAME_MAX / 4;
    if (it.kind == TEXT)
        qm_out_shown(&o, (struct qm_span){it.text.p, len});
    else if (it.kind == BYTES)
        qm_out_hex(&o, it.text.p, len);
    room[o.full ? 0 : o.len] = '\0';
    snprintf(name, QM_CORIM_NAME_MAX, "%.*s", QM_CORIM_NAME_MAX - 1, room);
}

/* Seconds since the epoch, tagged or not (RFC 8949, 3.4.2), as ms. */
static bool time_of(struct cbor *c, struct qm_span value, uint64_t *ms)
{
    struct cbor in = over(c, value);
    struct item it;
    if (value.p == NULL)
        return true;
    while (next(&in, &it) && it.kind == TAG)
        if (it.n != TAG_TIME)
            return refuse(c, "rim-validity has a time that is no seconds since the epoch");
    if (!back(c, &in))
        return false;
    if (it.kind == UINT && it.n != 0 && it.n < UINT64_MAX / 1000) {
        *ms = it.n * 1000;
        return true;
    }
    if (it.kind == REAL && isfinite(it.real) && it.real >= 1 && it.real < 1e15) {
        *ms = (uint64_t)(it.real * 1000);
        return true;
    }
    return refuse(c, "rim-validity has a time that is no seconds since the epoch");
}

static bool validity(struct cbor *c, struct qm_span value, struct qm_corim *out)
{
    struct cbor in = over(c, value);
    struct fields f;
    if (value.p == NULL)
        return true;
    fields_read(&in, &f, "rim-validity is no map");
    return back(c, &in) && time_of(c, f.value[0], &out->not_before_ms) && time_of(c, f.value[1], &out->not_after_ms);
}

/* ---- values ----------------------------------------------------------------------------------------------------------- */

static bool is_sha256(const struct item *alg)
{
    static const char name[] = "sha-256";
    return (alg->kind == UINT && alg->n == ALG_SHA256) ||
           (alg->kind == TEXT && qm_span_eq(alg->text, (struct qm_span){(const uint8_t *)name, sizeof name - 1}));
}

/* [[alg, value], …]: the one by SHA-256 is the PCR's. */
static bool digests(struct cbor *c, struct qm_corim_set *set, uint64_t pcr)
{
    struct item list, pair, alg, value;
    bool found = false;
    if (pcr >= QM_CORIM_PCRS)
        return refuse_number(c, "register", pcr, "is no PCR (0 to 23)");
    if (!want(c, &list, ARRAY, "digests are no array"))
        return false;
    while (more(c, &list)) {
        if (!want(c, &pair, ARRAY, "a digest is no array of algorithm and value") || !more(c, &pair) || !next(c, &alg) || !more(c, &pair) ||
            !want(c, &value, BYTES, "a digest's value is no bytes") || more(c, &pair))
            return refuse(c, "a digest is no array of algorithm and value");
        if (!is_sha256(&alg))
            continue;
        if (value.text.len != 32)
            return refuse_number(c, "the SHA-256 digest of PCR", pcr, "is not 32 bytes long");
        if ((found || (set->mask >> pcr & 1) != 0) && memcmp(set->value[pcr], value.text.p, 32) != 0)
            return refuse_number(c, "PCR", pcr, "has two values in one CoMID: a set of its own, a CoMID of its own");
        memcpy(set->value[pcr], value.text.p, 32);
        found = true;
    }
    if (c->err == QM_OK && !found)
        return refuse_number(c, "PCR", pcr, "has no digest by SHA-256");
    set->mask |= c->err == QM_OK ? 1u << pcr : 0;
    return c->err == QM_OK;
}

/* {PCR: digests, …} */
static bool registers(struct cbor *c, struct qm_corim_set *set)
{
    struct item map, key;
    if (!want(c, &map, MAP, "integrity-registers are no map"))
        return false;
    while (more(c, &map)) {
        if (!next(c, &key))
            return false;
        if (key.kind != UINT)
            return refuse(c, "an integrity register is named by something else than a PCR's number");
        with_value(&map);
        if (!digests(c, set, key.n))
            return false;
    }
    return c->err == QM_OK;
}

/* What else a measurement may be given by; version and name only describe it. */
static const char *const value_names[KEYS] = {
    [1] = "svn", [3] = "flags", [4] = "raw-value", [5] = "raw-value-mask", [6] = "mac-addr", [7] = "ip-addr", [8] = "serial-number",
    [9] = "ueid", [10] = "uuid", [12] = "an unassigned one", [13] = "cryptokeys", [15] = "int-range"};

static bool values(struct cbor *c, struct qm_corim_set *set, const struct item *mkey)
{
    struct fields f;
    char why[96];
    if (!fields_read(c, &f, "measurement-values are no map"))
        return false;
    for (unsigned k = 0; k < KEYS; k++) {
        if (f.value[k].p == NULL || k == VALUES_VERSION || k == VALUES_NAME || k == VALUES_DIGESTS || k == VALUES_REGISTERS)
            continue;
        snprintf(why, sizeof why, "a measurement has %s (%u), which is no value of a PCR", value_names[k], k);
        return refuse(c, why);
    }
    if (f.others)
        return refuse(c, "a measurement has values of an extension, which are no values of a PCR");
    if (f.value[VALUES_DIGESTS].p == NULL && f.value[VALUES_REGISTERS].p == NULL)
        return refuse(c, "a measurement has neither digests nor integrity-registers");
    if (f.value[VALUES_DIGESTS].p != NULL) {
        struct cbor in = over(c, f.value[VALUES_DIGESTS]);
        if (mkey->kind == NOTHING)
            return refuse(c, "a measurement has digests and no mkey: of which PCR?");
        digests(&in, set, mkey->n);
        if (!back(c, &in))
            return false;
    }
    if (f.value[VALUES_REGISTERS].p != NULL) {
        struct cbor in = over(c, f.value[VALUES_REGISTERS]);
        if (mkey->kind != NOTHING)
            return refuse(c, "a measurement has integrity-registers and an mkey: which of them says the PCR?");
        registers(&in, set);
        return back(c, &in);
    }
    return true;
}

static bool measurement(struct cbor *c, struct qm_corim_set *set)
{
    struct item mkey = {NOTHING};
    struct fields f;
    if (!fields_read(c, &f, "a measurement is no map"))
        return false;
    for (unsigned k = MEASUREMENT_VALUES + 1; k < KEYS; k++)
        f.others |= f.value[k].p != NULL;
    if (f.others)
        return refuse(c, "a measurement has more than mkey and mval (authorized-by, perhaps), and what that says is not known here");
    if (f.value[MEASUREMENT_VALUES].p == NULL)
        return refuse(c, "a measurement has no mval");
    if (f.value[MEASUREMENT_KEY].p != NULL) {
        struct cbor in = over(c, f.value[MEASUREMENT_KEY]);
        next(&in, &mkey);
        if (!back(c, &in))
            return false;
        if (mkey.kind != UINT)
            return refuse(c, "an mkey is something else than a PCR's number");
    }
    struct cbor in = over(c, f.value[MEASUREMENT_VALUES]);
    values(&in, set, &mkey);
    return back(c, &in);
}

/* ---- triples, CoMIDs -------------------------------------------------------------------------------------------------- */

/* [environment, measurements]: an array of them, one alone in earlier drafts. */
static bool triple(struct cbor *c, struct qm_corim_set *set, struct qm_span *environment)
{
    struct item record, list;
    struct qm_span here;
    if (!want(c, &record, ARRAY, "a reference triple is no array") || !more(c, &record))
        return refuse(c, "a reference triple is not of environment and measurements");
    if (!skip(c, &here))
        return false;
    if (environment->p != NULL && !qm_span_eq(*environment, here))
        return refuse(c, "a CoMID is of more than one environment: a set of its own, a CoMID of its own");
    *environment = here;
    if (!more(c, &record))
        return refuse(c, "a reference triple is not of environment and measurements");
    if (c->left.len != 0 && c->left.p[0] >> 5 == 5) {
        if (!measurement(c, set))
            return false;
    } else {
        if (!want(c, &list, ARRAY, "a reference triple is not of environment and measurements"))
            return false;
        while (more(c, &list))
            if (!measurement(c, set))
                return false;
    }
    return !more(c, &record) ? c->err == QM_OK : refuse(c, "a reference triple is not of environment and measurements");
}

static bool triples(struct cbor *c, struct qm_corim_set *set)
{
    struct qm_span environment = {NULL, 0};
    struct fields f;
    struct item list;
    if (!fields_read(c, &f, "triples are no map"))
        return false;
    if (f.value[TRIPLES_REFERENCE].p == NULL)
        return refuse(c, "a CoMID has no reference triples");
    struct cbor in = over(c, f.value[TRIPLES_REFERENCE]);
    if (want(&in, &list, ARRAY, "reference triples are no array"))
        while (more(&in, &list) && triple(&in, set, &environment))
            ;
    return back(c, &in);
}

/* tag-identity: {0: id, ? 1: version} */
static void identity(struct qm_span value, char name[QM_CORIM_NAME_MAX])
{
    struct cbor in = {value, NULL, QM_OK};
    struct item version = {NOTHING};
    struct fields f;
    if (value.p == NULL || !fields_read(&in, &f, ""))
        return;
    name_of(f.value[0], name);
    struct cbor of = {f.value[1], NULL, QM_OK};
    const size_t used = strlen(name);
    if (f.value[1].p != NULL && next(&of, &version) && version.kind == UINT)
        snprintf(name + used, QM_CORIM_NAME_MAX - used, " version %llu", (unsigned long long)version.n);
}

static bool comid(struct cbor *c, struct qm_corim_set *set)
{
    struct fields f;
    if (!fields_read(c, &f, "a CoMID is no map"))
        return false;
    if (f.value[COMID_PROFILE].p != NULL)
        return refuse(c, "a CoMID has a profile, and none is known here");
    if (f.value[COMID_TRIPLES].p == NULL)
        return refuse(c, "a CoMID has no triples");
    if (c->left.len != 0)
        return refuse(c, "something follows a CoMID in its bytes");
    identity(f.value[COMID_IDENTITY], set->name);
    struct cbor in = over(c, f.value[COMID_TRIPLES]);
    if (triples(&in, set) && set->mask == 0)
        refuse(&in, "a CoMID has no values");
    return back(c, &in);
}

/* ---- the CoRIM -------------------------------------------------------------------------------------------------------- */

static bool tags(struct cbor *c, struct qm_corim *out)
{
    struct item list, it;
    if (!want(c, &list, ARRAY, "the CoRIM's tags are no array"))
        return false;
    while (more(c, &list)) {
        if (!want(c, &it, TAG, "one of the CoRIM's tags has no tag"))
            return false;
        if (it.n != TAG_COMID)
            return refuse_number(c, "the CoRIM has a part with tag", it.n, "which is no CoMID (506)");
        if (!want(c, &it, BYTES, "a CoMID is not in bytes"))
            return false;
        if (out->count == QM_CORIM_SETS_MAX)
            return refuse_number(c, "the CoRIM has more than", QM_CORIM_SETS_MAX, "CoMIDs");
        struct cbor in = over(c, it.text);
        comid(&in, &out->set[out->count++]);
        if (!back(c, &in))
            return false;
    }
    return c->err == QM_OK;
}

/* The tags in front of the map: what kind of CoRIM it is. */
static bool unsigned_map(struct cbor *c)
{
    struct cbor ahead;
    struct item it;
    bool unsigned_one = false;
    do {
        ahead = *c;
        if (!next(&ahead, &it))
            return back(c, &ahead);
        if (it.kind != TAG)
            return unsigned_one || refuse(c, "it is no CoRIM: tag 501 is missing");
        if (it.n == TAG_SIGN1 || it.n == TAG_SIGNED)
            return refuse(c, "it is signed (COSE_Sign1): check the signature, take out its payload, and import that");
        if (it.n != TAG_CORIM && it.n != TAG_UNSIGNED && it.n != TAG_CBOR)
            return refuse_number(c, "it is no CoRIM: tag", it.n, "is in front");
        unsigned_one |= it.n == TAG_UNSIGNED;
        *c = ahead;
    } while (true);
}

qm_err qm_corim_read(struct qm_span bytes, struct qm_corim *out, struct qm_fault *fault)
{
    struct cbor c = {bytes, fault, QM_OK};
    struct fields f;
    *out = (struct qm_corim){.count = 0};
    if (bytes.len > QM_CORIM_BYTES_MAX)
        return qm_fail(fault, QM_E_REFUSED, 0, "it is longer than %d bytes", QM_CORIM_BYTES_MAX);
    if (!unsigned_map(&c) || !fields_read(&c, &f, "the CoRIM is no map"))
        return c.err;
    if (c.left.len != 0)
        refuse(&c, "something follows the CoRIM");
    if (f.value[CORIM_PROFILE].p != NULL)
        refuse(&c, "the CoRIM has a profile, and none is known here");
    if (f.value[CORIM_TAGS].p == NULL)
        refuse(&c, "the CoRIM has no tags");
    if (!validity(&c, f.value[CORIM_VALIDITY], out))
        return c.err;
    name_of(f.value[CORIM_ID], out->name);
    struct cbor in = over(&c, f.value[CORIM_TAGS]);
    tags(&in, out);
    return in.err;
}
