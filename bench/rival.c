/* The rival: a verifier of the same evidence as one would write it in an afternoon, and well. One
 * thread; each file is opened, read whole and closed; msgpack-c unpacks; the id is looked up in a
 * hash map; OpenSSL checks the signature and does every extend; the replayed PCRs are hashed and
 * compared with the signed digest and with the baseline; one line of NDJSON is printed a record.
 *
 *     bench_rival ENROLL MODE FILE...
 *
 *   parse     d2i_PUBKEY for each record, EVP_DigestVerify, SHA256() for each extend
 *   cached    keys are parsed once; contexts are new for each record; SHA256() for each extend
 *   kept      keys, contexts and msgpack's memory are kept; SHA256_Init/Update/Final
 *   read      open, read, close; nothing else
 *
 * Results go to stdout. One JSON object goes to stderr: records, bytes, how many were trusted, and
 * the wall and CPU seconds of the loop over the files. Reading the enrolments is not counted.
 *
 * It knows what `quotemill gen` makes and no more: SHA-256 banks, PCRs 0 to 9, RSASSA and ECDSA
 * P-256, one baseline a machine. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <errno.h>
#include <fcntl.h>
#include <msgpack.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/measure.h"
#include "codec/cursor.h"
#include "codec/tpm2.h"

enum { PCRS = 10, LOG_BANKS = 16, ECDSA_DER_MAX = 160 };

enum mode { PARSE, CACHED, KEPT, READ };

struct key {
    char *base64;       /* of the TPM2B_PUBLIC: equal ones are one key */
    unsigned char *der; /* SubjectPublicKeyInfo */
    int der_len;
    EVP_PKEY *pkey;
    EVP_PKEY_CTX *ctx; /* ready for EVP_PKEY_verify */
};

struct machine {
    char *id;
    size_t id_len;
    size_t key; /* index */
    uint8_t baseline[PCRS][32];
};

enum { KEY_SLOTS = 1 << 20 };
static struct key *keys;
static size_t key_count;
static uint32_t key_slot[KEY_SLOTS]; /* index + 1 */
static struct machine *machines;
static size_t machine_count;
static uint32_t *slots; /* index + 1 */
static size_t slot_mask;

static void check(bool good, const char *what)
{
    if (!good)
        die("bench_rival", what);
}

/* ---- enrolments ------------------------------------------------------------------------------
 */

static EVP_PKEY *pkey_of(const struct qm_public *p)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    const bool rsa = p->type == QM_TPM_ALG_RSA;
    uint8_t point[65] = {4};
    BIGNUM *n = NULL, *e = BN_new();
    check(b != NULL && e != NULL && BN_set_word(e, 65537), "out of memory");
    if (rsa) {
        n = BN_bin2bn(p->a.p, (int)p->a.len, NULL);
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n);
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, e);
    } else {
        check(p->a.len <= 32 && p->b.len <= 32, "not a P-256 key");
        memcpy(point + 33 - p->a.len, p->a.p, p->a.len);
        memcpy(point + 65 - p->b.len, p->b.p, p->b.len);
        OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0);
        OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point);
    }
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, rsa ? "RSA" : "EC", NULL);
    check(EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) == 1,
          "a key does not load");
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(b);
    BN_free(n);
    BN_free(e);
    return pkey;
}

static uint64_t text_hash(const char *p, size_t len)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)p[i]) * 1099511628211u;
    return h ^ h >> 32;
}

static struct key key_of(const char *base64)
{
    unsigned char bytes[4096];
    size_t len = strlen(base64);
    check(len % 4 == 0 && len < sizeof bytes, "an AK that is no base64");
    int n = EVP_DecodeBlock(bytes, (const unsigned char *)base64, (int)len);
    for (size_t i = len; i > 0 && base64[i - 1] == '='; i--)
        n--;
    struct qm_public public;
    check(n > 0 && qm_public_parse((struct qm_span){bytes, (size_t)n}, &public), "a bad AK");
    struct key k = {.base64 = strdup(base64), .pkey = pkey_of(&public)};
    k.der_len = i2d_PUBKEY(k.pkey, &k.der);
    k.ctx = EVP_PKEY_CTX_new(k.pkey, NULL);
    check(EVP_PKEY_verify_init(k.ctx) == 1 &&
              EVP_PKEY_CTX_set_signature_md(k.ctx, EVP_sha256()) == 1 &&
              (public.type != QM_TPM_ALG_RSA ||
               EVP_PKEY_CTX_set_rsa_padding(k.ctx, RSA_PKCS1_PADDING) == 1),
          "no context for a key");
    return k;
}

/* The index of the key that an enrolment line's AK names. */
static size_t key_add(const char *base64)
{
    size_t s = text_hash(base64, strlen(base64)) % KEY_SLOTS;
    for (; key_slot[s] != 0; s = (s + 1) % KEY_SLOTS)
        if (strcmp(keys[key_slot[s] - 1].base64, base64) == 0)
            return key_slot[s] - 1;
    check(key_count < KEY_SLOTS / 2, "too many keys");
    keys = realloc(keys, (key_count + 1) * sizeof *keys);
    check(keys != NULL, "out of memory");
    keys[key_count++] = key_of(base64);
    key_slot[s] = (uint32_t)key_count;
    return key_count - 1;
}

static const struct machine *find(const char *id, size_t len)
{
    for (size_t s = text_hash(id, len) & slot_mask; slots[s] != 0; s = (s + 1) & slot_mask) {
        const struct machine *m = &machines[slots[s] - 1];
        if (m->id_len == len && memcmp(m->id, id, len) == 0)
            return m;
    }
    return NULL;
}

static void machine_add(sqlite3_stmt *row)
{
    struct machine m = {.id = strdup((const char *)sqlite3_column_text(row, 0)),
                        .key = key_add((const char *)sqlite3_column_text(row, 1))};
    const char *baseline = (const char *)sqlite3_column_text(row, 2);
    m.id_len = strlen(m.id);
    for (unsigned pcr = 0; pcr < PCRS; pcr++, baseline += 64)
        for (unsigned i = 0; i < 32; i++) {
            unsigned byte;
            check(sscanf(baseline + 2 * i, "%2x", &byte) == 1, "a bad baseline");
            m.baseline[pcr][i] = (uint8_t)byte;
        }
    if ((machine_count & (machine_count - 1)) == 0) {
        machines = realloc(machines, 2 * (machine_count + 1) * sizeof *machines);
        check(machines != NULL, "out of memory");
    }
    machines[machine_count++] = m;
}

static void load(const char *path)
{
    static const char sql[] =
        "SELECT ?1->>'id', ?1->>'ak', (?1->>'$.baseline.0')||(?1->>'$.baseline.1')||"
        "(?1->>'$.baseline.2')||(?1->>'$.baseline.3')||(?1->>'$.baseline.4')||"
        "(?1->>'$.baseline.5')||(?1->>'$.baseline.6')||(?1->>'$.baseline.7')||"
        "(?1->>'$.baseline.8')||(?1->>'$.baseline.9')";
    sqlite3 *db;
    sqlite3_stmt *row;
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    check(f != NULL, "cannot open the enrolments");
    check(sqlite3_open(":memory:", &db) == SQLITE_OK &&
              sqlite3_prepare_v2(db, sql, -1, &row, NULL) == SQLITE_OK,
          "SQLite failed");
    while (getline(&line, &cap, f) > 0) {
        sqlite3_bind_text(row, 1, line, -1, SQLITE_STATIC);
        check(sqlite3_step(row) == SQLITE_ROW && sqlite3_column_text(row, 2) != NULL,
              "an enrolment without what is needed (gen --baseline)");
        machine_add(row);
        sqlite3_reset(row);
    }
    sqlite3_finalize(row);
    sqlite3_close(db);
    free(line);
    fclose(f);
    for (slot_mask = 1; slot_mask < 2 * machine_count; slot_mask *= 2)
        ;
    slots = calloc(slot_mask, sizeof *slots);
    check(slots != NULL, "out of memory");
    slot_mask--;
    for (size_t i = 0; i < machine_count; i++) {
        size_t s = text_hash(machines[i].id, machines[i].id_len) & slot_mask;
        while (slots[s] != 0)
            s = (s + 1) & slot_mask;
        slots[s] = (uint32_t)i + 1;
    }
}

/* ---- one record ------------------------------------------------------------------------------
 */

struct evidence {
    struct qm_span id, quote, sig, log;
};

static struct qm_span bin(const msgpack_object *o)
{
    if (o->type != MSGPACK_OBJECT_BIN)
        return (struct qm_span){NULL, 0};
    return (struct qm_span){(const uint8_t *)o->via.bin.ptr, o->via.bin.size};
}

static bool is_key(const msgpack_object *o, const char *name)
{
    return o->type == MSGPACK_OBJECT_STR && o->via.str.size == strlen(name) &&
           memcmp(o->via.str.ptr, name, o->via.str.size) == 0;
}

static bool evidence_of(const msgpack_object *o, struct evidence *e)
{
    bool version = false;
    memset(e, 0, sizeof *e);
    if (o->type != MSGPACK_OBJECT_MAP)
        return false;
    for (uint32_t i = 0; i < o->via.map.size; i++) {
        const msgpack_object *k = &o->via.map.ptr[i].key, *v = &o->via.map.ptr[i].val;
        if (is_key(k, "v"))
            version = v->type == MSGPACK_OBJECT_POSITIVE_INTEGER && v->via.u64 == 1;
        else if (is_key(k, "id") && v->type == MSGPACK_OBJECT_STR)
            e->id = (struct qm_span){(const uint8_t *)v->via.str.ptr, v->via.str.size};
        else if (is_key(k, "quote"))
            e->quote = bin(v);
        else if (is_key(k, "sig"))
            e->sig = bin(v);
        else if (is_key(k, "log"))
            e->log = bin(v);
    }
    return version && e->id.p != NULL && e->quote.p != NULL && e->sig.p != NULL;
}

static void sha256(enum mode mode, const uint8_t *p, size_t len, uint8_t *out)
{
    if (mode != KEPT) {
        SHA256(p, len, out);
        return;
    }
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, p, len);
    SHA256_Final(out, &c);
}

/* The signature as OpenSSL wants it: RSA's as it is, r and s as DER. */
static struct qm_span signature_of(const struct qm_signature *s, uint8_t der[ECDSA_DER_MAX])
{
    if (s->tpm_alg == QM_TPM_ALG_RSASSA)
        return s->a;
    uint8_t *end = der;
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *a = BN_bin2bn(s->a.p, (int)s->a.len, NULL), *b = BN_bin2bn(s->b.p, (int)s->b.len, NULL);
    ECDSA_SIG_set0(pair, a, b);
    int len = s->a.len <= 32 && s->b.len <= 32 ? i2d_ECDSA_SIG(pair, &end) : 0;
    ECDSA_SIG_free(pair);
    return (struct qm_span){der, len > 0 ? (size_t)len : 0};
}

static bool signature_good(enum mode mode, const struct key *key, const struct evidence *e,
                           const uint8_t attest_digest[32])
{
    struct qm_signature s;
    uint8_t der[ECDSA_DER_MAX];
    if (!qm_signature_parse(e->sig, &s) || s.tpm_hash != QM_TPM_ALG_SHA256 ||
        s.tpm_alg == QM_TPM_ALG_RSAPSS)
        return false;
    struct qm_span sig = signature_of(&s, der);
    if (mode == KEPT)
        return EVP_PKEY_verify(key->ctx, sig.p, sig.len, attest_digest, 32) == 1;
    EVP_PKEY *pkey = key->pkey;
    if (mode == PARSE) {
        const unsigned char *at = key->der;
        pkey = d2i_PUBKEY(NULL, &at, key->der_len);
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = pkey != NULL && ctx != NULL &&
                EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
                EVP_DigestVerify(ctx, sig.p, sig.len, e->quote.p, e->quote.len) == 1;
    EVP_MD_CTX_free(ctx);
    if (mode == PARSE)
        EVP_PKEY_free(pkey);
    return good;
}

/* The crypto-agile log's PCRs 0 to 9, SHA-256. False: it cannot be replayed. */
static bool replay(enum mode mode, struct qm_span log, uint8_t pcr_value[PCRS][32])
{
    struct qm_cur c = qm_cur_init(log.p, log.len);
    uint16_t alg[LOG_BANKS], size[LOG_BANKS];
    memset(pcr_value, 0, PCRS * sizeof pcr_value[0]);
    /* the Spec ID event: pcr, type, SHA-1 digest, size; signature, platform, version, banks */
    qm_cur_take(&c, 28);
    struct qm_cur spec = qm_cur_sub(&c, qm_cur_le32(&c));
    const uint8_t *signature = qm_cur_take(&spec, 16);
    if (signature == NULL || memcmp(signature, "Spec ID Event03", 16) != 0)
        return false;
    qm_cur_take(&spec, 8);
    uint32_t banks = qm_cur_le32(&spec);
    if (banks > LOG_BANKS)
        return false;
    for (uint32_t i = 0; i < banks; i++) {
        alg[i] = qm_cur_le16(&spec);
        size[i] = qm_cur_le16(&spec);
    }
    bool extended = false;
    while (!c.bad && !spec.bad && qm_cur_left(&c) != 0) {
        uint32_t pcr = qm_cur_le32(&c), type = qm_cur_le32(&c), count = qm_cur_le32(&c);
        const uint8_t *digest = NULL;
        for (uint32_t i = 0; i < count && !c.bad; i++) {
            uint16_t a = qm_cur_le16(&c);
            uint32_t b = 0;
            while (b < banks && alg[b] != a)
                b++;
            if (b == banks)
                return false;
            const uint8_t *d = qm_cur_take(&c, size[b]);
            if (a == QM_TPM_ALG_SHA256)
                digest = d;
        }
        struct qm_span data = qm_cur_span(&c, qm_cur_le32(&c));
        if (c.bad)
            return false;
        if (type == 3) { /* EV_NO_ACTION */
            if (!extended && pcr == 0 && data.len == 17 &&
                memcmp(data.p, "StartupLocality", 16) == 0)
                pcr_value[0][31] = data.p[16];
            continue;
        }
        extended = true;
        if (digest == NULL || pcr >= QM_PCR_COUNT)
            return false;
        if (pcr >= PCRS)
            continue;
        uint8_t message[64];
        memcpy(message, pcr_value[pcr], 32);
        memcpy(message + 32, digest, 32);
        sha256(mode, message, 64, pcr_value[pcr]);
    }
    return !c.bad && !spec.bad;
}

static const char *judge(enum mode mode, const struct evidence *e, const struct machine *m,
                         struct qm_attest *attest, uint8_t attest_digest[32])
{
    uint8_t value[PCRS][32], composite[32];
    sha256(mode, e->quote.p, e->quote.len, attest_digest);
    if (m == NULL)
        return "unknown_instance";
    if (!qm_attest_parse(e->quote, attest))
        return "not_a_quote";
    if (attest->selection_count != 1 || attest->selection[0].tpm_alg != QM_TPM_ALG_SHA256 ||
        attest->selection[0].mask != (1u << PCRS) - 1)
        return "wrong_selection";
    if (!signature_good(mode, &keys[m->key], e, attest_digest))
        return "bad_signature";
    if (!replay(mode, e->log, value))
        return "pcr_values_missing";
    sha256(mode, value[0], sizeof value, composite);
    if (attest->pcr_digest.len != 32 || memcmp(attest->pcr_digest.p, composite, 32) != 0)
        return "pcr_values_missing";
    return memcmp(value, m->baseline, sizeof value) == 0 ? "ok" : "pcr_mismatch";
}

/* True: trusted. */
static bool record(enum mode mode, const char *file, size_t off, const msgpack_object *o)
{
    struct evidence e;
    struct qm_attest attest = {0};
    uint8_t digest[32] = {0};
    char hex[65];
    const char *reason = "malformed";
    if (evidence_of(o, &e))
        reason = judge(mode, &e, find((const char *)e.id.p, e.id.len), &attest, digest);
    for (unsigned i = 0; i < 32; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[64] = '\0';
    bool trusted = strcmp(reason, "ok") == 0;
    printf("{\"v\":1,\"kind\":\"status\",\"src\":\"%s\",\"off\":%zu,\"id\":\"%.*s\",\"status\":"
           "\"%s\",\"reason\":\"%s\",\"attest\":\"%s\",\"clock\":%llu,\"reset\":%u,"
           "\"restart\":%u}\n",
           file, off, (int)e.id.len, (const char *)e.id.p, trusted ? "trusted" : "untrusted",
           reason, hex, (unsigned long long)attest.clock_ms, attest.reset, attest.restart);
    return trusted;
}

/* ---- files -----------------------------------------------------------------------------------
 */

static char *buffer;
static size_t buffer_cap;

static size_t read_file(const char *path)
{
    struct stat st;
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    check(fd >= 0 && fstat(fd, &st) == 0, "cannot open a file");
    if (buffer_cap < (size_t)st.st_size + 1) {
        buffer_cap = (size_t)st.st_size + 1;
        free(buffer);
        buffer = malloc(buffer_cap);
        check(buffer != NULL, "out of memory");
    }
    ssize_t n;
    while ((n = read(fd, buffer + len, buffer_cap - len)) > 0)
        len += (size_t)n;
    check(n == 0, "cannot read a file");
    close(fd);
    return len;
}

struct tally {
    size_t records, trusted, bytes;
};

static void unpack_new(enum mode mode, const char *path, size_t len, struct tally *t)
{
    msgpack_unpacked u;
    size_t off = 0, at = 0;
    msgpack_unpacked_init(&u);
    while (msgpack_unpack_next(&u, buffer, len, &off) == MSGPACK_UNPACK_SUCCESS) {
        t->records++;
        t->trusted += record(mode, path, at, &u.data);
        at = off;
    }
    msgpack_unpacked_destroy(&u);
}

/* The same with one zone for all records. */
static void unpack_kept(enum mode mode, msgpack_zone *zone, const char *path, size_t len,
                        struct tally *t)
{
    size_t off = 0, at = 0;
    msgpack_object o;
    while (off < len) {
        msgpack_unpack_return got = msgpack_unpack(buffer, len, &off, zone, &o);
        if (got != MSGPACK_UNPACK_SUCCESS && got != MSGPACK_UNPACK_EXTRA_BYTES)
            break;
        t->records++;
        t->trusted += record(mode, path, at, &o);
        msgpack_zone_clear(zone);
        at = off;
    }
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {
        [PARSE] = "parse", [CACHED] = "cached", [KEPT] = "kept", [READ] = "read"};
    enum mode mode = PARSE;
    struct tally t = {0, 0, 0};
    msgpack_zone *zone = msgpack_zone_new(MSGPACK_ZONE_CHUNK_SIZE);
    while (argc > 2 && mode < READ && strcmp(argv[2], modes[mode]) != 0)
        mode++;
    check(argc > 3 && strcmp(argv[2], modes[mode]) == 0,
          "usage: bench_rival ENROLL parse|cached|kept|read FILE... (@LIST: names in a file)");
    if (mode != READ)
        load(argv[1]);
    setvbuf(stdout, NULL, _IOFBF, 256 * 1024);

    char **files = argv + 3;
    size_t file_count = (size_t)argc - 3;
    if (files[0][0] == '@') {
        FILE *list = fopen(files[0] + 1, "r");
        size_t cap = 0;
        char *line = NULL;
        ssize_t n;
        check(list != NULL, "cannot open the list of files");
        files = NULL;
        file_count = 0;
        while ((n = getline(&line, &cap, list)) > 1) {
            line[n - 1] = '\0';
            if ((file_count & (file_count - 1)) == 0)
                files = realloc(files, 2 * (file_count + 1) * sizeof *files);
            check(files != NULL, "out of memory");
            files[file_count++] = strdup(line);
        }
        free(line);
        fclose(list);
    }
    uint64_t wall = wall_ns(), cpu = cpu_ns();
    for (size_t i = 0; i < file_count; i++) {
        size_t len = read_file(files[i]);
        t.bytes += len;
        if (mode == READ)
            t.records++;
        else if (mode == KEPT)
            unpack_kept(mode, zone, files[i], len, &t);
        else
            unpack_new(mode, files[i], len, &t);
    }
    check(fflush(stdout) == 0, "cannot write");
    cpu = cpu_ns() - cpu;
    wall = wall_ns() - wall;
    fprintf(stderr,
            "{\"records\":%zu,\"trusted\":%zu,\"bytes\":%zu,\"wall_s\":%.6f,\"cpu_s\":%.6f}\n",
            t.records, t.trusted, t.bytes, (double)wall / 1e9, (double)cpu / 1e9);
    return 0;
}
