/* The baseline table: what is built is found, what is damaged is told, and a table that is in use
 * never changes. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/table.h"
#include "engine/table_format.h"
#include "tests/craft.h"

static const uint8_t home_id[QM_HOME_ID_SIZE] = {7, 7, 7};

static const char *path_in(const char *dir)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/fleet.tbl", dir);
    return path;
}

/* What row i has, by arithmetic, so that a look-up can be checked without keeping the rows. */
static size_t id_of(size_t i, uint8_t id[QM_ID_MAX])
{
    if (i == 0) {
        id[0] = 'x';
        return 1;
    }
    if (i == 1) {
        memset(id, 'y', QM_ID_MAX);
        return QM_ID_MAX;
    }
    return (size_t)snprintf((char *)id, QM_ID_MAX, "instance %zu", i);
}

static const struct qm_key *key_of(size_t i)
{
    static const char *const kinds[] = {"p256", "p384", "rsa2048"};
    return craft_key(kinds[i % 3], (unsigned)(i % 5))->key;
}

static void row_of(size_t i, struct qm_table_row *row, uint8_t id[QM_ID_MAX],
                   uint8_t values[QM_SET_MAX][32 * QM_PCR_COUNT])
{
    memset(row, 0, sizeof *row);
    row->id = (struct qm_span){id, id_of(i, id)};
    row->key = key_of(i);
    row->profile.scheme = i % 3 == 2 ? QM_SCHEME_RSASSA : QM_SCHEME_ECDSA;
    row->profile.hash = QM_HASH_SHA256;
    row->profile.select_count = 1;
    row->profile.baselined = 0x3ff;
    row->profile.select[0].hash = QM_HASH_SHA256;
    row->profile.select[0].mask = 0x3ff;
    row->generation = 3 * i + 1;
    row->slot = i;
    row->require_log = i % 4 == 0;
    row->nonce = i % 3 == 0   ? (struct qm_span){NULL, 0}
                 : i % 3 == 1 ? (struct qm_span){(const uint8_t *)"", 0}
                              : (struct qm_span){(const uint8_t *)"0123456789", i % 11};
    row->set_count = (uint8_t)(i % (QM_SET_MAX + 1));
    for (unsigned s = 0; s < row->set_count; s++) {
        row->set[s].set_no = (uint32_t)(100 * i + s);
        row->set[s].mask = s % 2 == 0 ? 0x3ff : 0x3f;
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            memset(values[s] + 32 * pcr, (int)(i % 7 + s + pcr), 32);
        row->set[s].value = values[s];
        if (s % 4 == 2) { /* a group's values beside the instance's own: 1, 5 and 6 */
            row->set[s].mask = 0x39d;
            row->set[s].pair_no = (uint32_t)(1000000 + i);
            row->set[s].pair_mask = 0x62;
            row->set[s].pair = values[s] + 7 * 32;
        }
    }
}

static qm_err build_as(const char *path, size_t count, uint64_t generation, struct qm_fault *fault)
{
    struct qm_table_builder *b;
    static uint8_t values[QM_SET_MAX][32 * QM_PCR_COUNT];
    qm_err err = qm_table_builder_open(&b, path, fault);
    if (err != QM_OK)
        return err;
    for (size_t i = 0; err == QM_OK && i < count; i++) {
        struct qm_table_row row;
        uint8_t id[QM_ID_MAX];
        row_of(i, &row, id, values);
        err = qm_table_builder_add(b, &row, fault);
    }
    if (err == QM_OK)
        err = qm_table_builder_publish(b, home_id, generation, fault);
    qm_table_builder_close(b);
    return err;
}

static void build(const char *path, size_t count, uint64_t generation)
{
    struct qm_fault fault = {0};
    cr_assert_eq(build_as(path, count, generation, &fault), QM_OK, "%s", fault.text);
}

static struct qm_table *open_table(const char *path)
{
    struct qm_table *t;
    struct qm_fault fault = {0};
    cr_assert_eq(qm_table_open(&t, path, &fault), QM_OK, "%s", fault.text);
    return t;
}

static void check_row(const struct qm_instance *is, size_t i)
{
    struct qm_table_row row;
    uint8_t id[QM_ID_MAX];
    static uint8_t values[QM_SET_MAX][32 * QM_PCR_COUNT];
    row_of(i, &row, id, values);
    cr_assert_not_null(is->key, "instance %zu", i);
    cr_assert(is->key->bytes == row.key->bytes && memcmp(is->key, row.key, row.key->bytes) == 0,
              "key of %zu", i);
    cr_assert_eq((uintptr_t)is->key % QM_CACHE_LINE, 0);
    cr_assert_eq(memcmp(is->profile, &row.profile, sizeof row.profile), 0);
    cr_assert_eq(is->nonce.p != NULL, row.nonce.p != NULL, "nonce of %zu", i);
    cr_assert(is->nonce.p == NULL || qm_span_eq(is->nonce, row.nonce));
    cr_assert(is->generation == row.generation && is->slot == i &&
              is->require_log == row.require_log);
    cr_assert_eq(is->set_count, row.set_count);
    for (unsigned s = 0; s < row.set_count; s++) {
        const struct qm_set *set = is->set[s];
        const uint8_t *next[2] = {row.set[s].value, row.set[s].pair};
        cr_assert(set->set_no == row.set[s].set_no && set->pair_no == row.set[s].pair_no);
        cr_assert(set->mask == (row.set[s].mask | row.set[s].pair_mask) && set->pair_mask == row.set[s].pair_mask);
        uint8_t all[320];
        size_t len = 0;
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
            const uint8_t *v = qm_set_value(set, pcr);
            const unsigned which = row.set[s].pair_mask >> pcr & 1;
            cr_assert_eq(v != NULL, (row.set[s].mask | row.set[s].pair_mask) >> pcr & 1);
            if (v == NULL)
                continue;
            cr_assert_eq(memcmp(v, next[which], 32), 0);
            next[which] += 32;
            memcpy(all + len, v, 32);
            len += 32;
        }
        if (set->mask == 0x3ff) {
            uint8_t digest[32];
            craft_hash(QM_HASH_SHA256, (struct qm_span){all, 320}, digest);
            cr_assert(set->composite_size == 32 && memcmp(set->composite, digest, 32) == 0);
        } else {
            cr_assert_eq(set->composite_size, 0);
        }
    }
}

static void built_is_found(size_t count)
{
    const char *path = path_in(craft_dir());
    struct qm_fault fault = {0};
    build(path, count, 42);
    struct qm_table *t = open_table(path);
    cr_expect_eq(qm_table_instances(t), count);
    cr_expect_eq(qm_table_generation(t), 42);
    cr_expect_eq(memcmp(qm_table_home_id(t), home_id, sizeof home_id), 0);
    struct stat st;
    cr_expect(stat(path, &st) == 0 && (size_t)st.st_size == qm_table_bytes(t));
    cr_expect_eq(qm_table_check(t, &fault), QM_OK, "%s", fault.text);
    static uint8_t ids[QM_TABLE_BATCH][QM_ID_MAX];
    static struct qm_instance found[QM_TABLE_BATCH];
    struct qm_span id[QM_TABLE_BATCH];
    for (size_t from = 0; from < count + 5; from += QM_TABLE_BATCH) {
        size_t n = count + 5 - from < QM_TABLE_BATCH ? count + 5 - from : QM_TABLE_BATCH;
        for (size_t i = 0; i < n; i++)
            id[i] = (struct qm_span){ids[i], id_of(from + i, ids[i])};
        memset(found, 0xa5, sizeof found);
        cr_assert_eq(qm_table_find(t, id, n, found, &fault), QM_OK, "%s", fault.text);
        for (size_t i = 0; i < n; i++) {
            if (from + i < count)
                check_row(&found[i], from + i);
            else
                cr_assert_null(found[i].key, "%zu", from + i);
        }
    }
    /* nobody: no bytes, a part of an id, more than one */
    char longer[QM_ID_MAX + 1];
    memset(longer, 'y', sizeof longer);
    struct qm_span nobody[] = {{NULL, 0},
                               {(const uint8_t *)"", 0},
                               {(const uint8_t *)"instance 1", 9},
                               {(const uint8_t *)"xx", 2},
                               {(const uint8_t *)longer, QM_ID_MAX + 1},
                               {(const uint8_t *)longer, QM_ID_MAX - 1}};
    cr_assert_eq(qm_table_find(t, nobody, QM_COUNT(nobody), found, &fault), QM_OK);
    for (size_t i = 0; i < QM_COUNT(nobody); i++)
        cr_expect_null(found[i].key, "%zu", i);
    cr_expect_eq(qm_table_find(t, id, QM_TABLE_BATCH + 1, found, &fault), QM_E_LIMIT);
    cr_expect_eq(qm_table_find(t, id, 0, found, &fault), QM_OK);
    qm_table_close(t);
}

Test(table, sizes, .timeout = 120)
{
    static const size_t counts[] = {0, 1, 2, 7, 8, 9, 1000, 50000};
    for (size_t i = 0; i < QM_COUNT(counts); i++)
        built_is_found(counts[i]);
    craft_free_all();
}

/* Keys, profiles and sets stand once by content. */
Test(table, shared_by_content)
{
    const char *path = path_in(craft_dir());
    struct stat small, large;
    build(path, 1000, 1);
    cr_assert_eq(stat(path, &small), 0);
    build(path, 50000, 1);
    cr_assert_eq(stat(path, &large), 0);
    cr_expect_lt((large.st_size - small.st_size) / 49000, 4000, "%lld bytes an instance",
                 (long long)(large.st_size - small.st_size) / 49000);
    craft_free_all();
}

/* ---- damage ---------------------------------------------------------------------------------- */

static uint8_t *load(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    MUST(f != NULL && fstat(fileno(f), &st) == 0);
    uint8_t *p = malloc((size_t)st.st_size + 64);
    MUST(p != NULL && fread(p, 1, (size_t)st.st_size, f) == (size_t)st.st_size);
    fclose(f);
    *len = (size_t)st.st_size;
    return p;
}

static void save(const char *path, const uint8_t *p, size_t len)
{
    FILE *f = fopen(path, "wb");
    MUST(f != NULL && fwrite(p, 1, len, f) == len && fclose(f) == 0);
}

/* Opens, checks and looks up. The first error. */
static bool told_the_truth = true; /* what is given must be right */
static qm_err use(const char *path, struct qm_fault *fault, bool check, size_t count)
{
    struct qm_table *t;
    qm_err err = qm_table_open(&t, path, fault);
    if (err != QM_OK)
        return err;
    if (check)
        err = qm_table_check(t, fault);
    for (size_t i = 0; err == QM_OK && i < count; i++) {
        uint8_t bytes[QM_ID_MAX];
        struct qm_span id = {bytes, id_of(i, bytes)};
        struct qm_instance found;
        err = qm_table_find(t, &id, 1, &found, fault);
        if (err == QM_OK && told_the_truth)
            check_row(&found, i);
    }
    qm_table_close(t);
    return err;
}

static void expect_damaged(const char *path, const char *what, size_t at)
{
    struct qm_fault fault = {0};
    cr_expect_eq(use(path, &fault, true, 0), QM_E_FORMAT, "%s %zu", what, at);
    cr_expect(fault.text[0] != '\0' && strchr(fault.text, '\n') == NULL);
    cr_expect_eq(use(path, NULL, false, 20), QM_E_FORMAT, "%s %zu, at use", what, at);
}

Test(table, truncated)
{
    const char *path = path_in(craft_dir());
    size_t len;
    build(path, 20, 1);
    uint8_t *p = load(path, &len);
    for (size_t cut = 0; cut < len; cut += cut < 200 || cut > len - 200 ? 1 : 997) {
        save(path, p, cut);
        expect_damaged(path, "cut at", cut);
    }
    save(path, p, len + 1);
    expect_damaged(path, "longer by", 1);
    save(path, p, len);
    cr_expect_eq(use(path, NULL, true, 20), QM_OK);
    free(p);
    craft_free_all();
}

Test(table, every_bit_of_the_header)
{
    const char *path = path_in(craft_dir());
    size_t len;
    build(path, 20, 1);
    uint8_t *p = load(path, &len);
    for (size_t at = 0; at < TABLE_HEADER_ROOM; at += at < sizeof(struct table_header) ? 1 : 61)
        for (unsigned bit = 0; bit < 8; bit += 7) {
            p[at] ^= (uint8_t)(1u << bit);
            save(path, p, len);
            expect_damaged(path, "header byte", at);
            p[at] ^= (uint8_t)(1u << bit);
        }
    free(p);
    craft_free_all();
}

Test(table, bits_of_the_body, .timeout = 120)
{
    const char *path = path_in(craft_dir());
    struct qm_fault fault = {0};
    uint64_t rng = craft_seed("bits_of_the_body");
    size_t len;
    build(path, 6000, 1); /* several blocks */
    uint8_t *p = load(path, &len);
    cr_assert_gt(len, (size_t)2 * QM_TABLE_BLOCK);
    unsigned at_use = 0;
    for (unsigned round = 0; round < 150; round++) {
        size_t at = TABLE_HEADER_ROOM + craft_random(&rng) % (len - TABLE_HEADER_ROOM);
        uint8_t bit = (uint8_t)(1u << (craft_random(&rng) % 8));
        p[at] ^= bit;
        save(path, p, len);
        p[at] ^= bit;
        cr_expect_eq(use(path, &fault, true, 0), QM_E_FORMAT, "byte %zu", at);
        /* unchecked, a look-up gives the truth or QM_E_FORMAT */
        qm_err err = use(path, &fault, false, 6000);
        cr_expect(err == QM_OK || err == QM_E_FORMAT);
        at_use += err == QM_E_FORMAT;
    }
    cr_expect_gt(at_use, 100, "%u of 150 found at use", at_use);
    free(p);
    craft_free_all();
}

static void expect_open_says(const char *path, const char *says)
{
    struct qm_table *t;
    struct qm_fault fault = {0};
    cr_expect_eq(qm_table_open(&t, path, &fault), QM_E_FORMAT);
    cr_expect_not_null(strstr(fault.text, says), "'%s' does not say '%s'", fault.text, says);
    cr_expect_null(t);
}

/* The header after a change to it, so that the checks behind the checksum are reached. */
static void reseal(uint8_t *p)
{
    struct table_header h;
    memcpy(&h, p, sizeof h);
    h.check = table_header_check(&h, p + h.block_off);
    memcpy(p, &h, sizeof h);
}

Test(table, versions_and_foreign_files)
{
    const char *path = path_in(craft_dir());
    size_t len;
    build(path, 20, 1);
    uint8_t *p = load(path, &len);
    struct table_header *h = (struct table_header *)(void *)p;
    h->version = QM_TABLE_VERSION + 1;
    reseal(p);
    save(path, p, len);
    expect_open_says(path, "newer version");
    h->version = QM_TABLE_VERSION - 1;
    reseal(p);
    save(path, p, len);
    expect_open_says(path, "older version");
    save(path, p, 0);
    expect_open_says(path, "empty");
    memset(p, 0, 4096);
    save(path, p, len);
    expect_open_says(path, "no table");
    save(path, (const uint8_t *)"QMTABLE\n", 8);
    expect_open_says(path, "no table");
    free(p);
    struct qm_table *t;
    struct qm_fault fault = {0};
    const char *dir = craft_dir();
    cr_expect_eq(qm_table_open(&t, dir, &fault), QM_E_IO);
    cr_expect_eq(qm_table_open(&t, path_in(dir), &fault), QM_E_IO);
    cr_expect_not_null(strstr(fault.text, "No such file"));
    craft_free_all();
}

/* Checksums that fit do not make a header sane: whatever it says, nothing outside the file is read.
 */
Test(table, sealed_nonsense)
{
    const char *path = path_in(craft_dir());
    told_the_truth = false;
    static const uint64_t values[] = {
        0,    1,       7,          8,          127,        128,       4088,       4095,      4096,
        4097, 1 << 20, UINT32_MAX, 1ull << 32, 1ull << 61, INT64_MAX, UINT64_MAX, 1ull << 63};
    size_t len;
    build(path, 20, 1);
    uint8_t *good = load(path, &len);
    for (size_t field = 16; field + 8 <= offsetof(struct table_header, check); field += 8)
        for (size_t v = 0; v < QM_COUNT(values); v++) {
            if (field == offsetof(struct table_header, seed) ||
                field == offsetof(struct table_header, generation) ||
                (field >= offsetof(struct table_header, home_id) &&
                 field < offsetof(struct table_header, instance_count)))
                continue;
            uint8_t *p = malloc(len);
            MUST(p != NULL);
            memcpy(p, good, len);
            memcpy(p + field, &values[v], 8);
            struct table_header h;
            memcpy(&h, p, sizeof h);
            if (h.block_off > len || h.block_count > (len - h.block_off) / 8) {
                free(p);
                continue; /* no checksum can be made of it */
            }
            reseal(p);
            save(path, p, len);
            struct qm_fault fault = {0};
            qm_err err = use(path, &fault, true, 20);
            cr_expect(err == QM_OK || err == QM_E_FORMAT, "field at %zu is %llu: %s", field,
                      (unsigned long long)values[v], fault.text);
            free(p);
        }
    free(good);
    craft_free_all();
}

/* ---- publishing ------------------------------------------------------------------------------ */

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

Test(table, failure_keeps_the_old_one)
{
    const char *dir = craft_dir(), *path = path_in(dir);
    char beside[600];
    struct qm_fault fault = {0};
    struct stat st;
    snprintf(beside, sizeof beside, "%s.new", path);
    build(path, 100, 1);
    size_t len;
    uint8_t *before = load(path, &len);
    build(path, 2000, 2);
    cr_assert_eq(stat(path, &st), 0);
    const size_t full = (size_t)st.st_size;
    save(path, before, len);
    signal(SIGXFSZ, SIG_IGN);
    for (size_t limit = 0; limit < full; limit += limit < 8192 ? 4096 : full / 20) {
        struct rlimit was, r;
        getrlimit(RLIMIT_FSIZE, &was);
        r = was;
        r.rlim_cur = limit;
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &r), 0);
        qm_err err = build_as(path, 2000, 3, &fault);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
        cr_expect_eq(err, QM_E_IO, "limit %zu of %zu: %s", limit, full, fault.text);
        cr_expect_not(exists(beside), "limit %zu: what was begun is removed", limit);
        size_t now;
        uint8_t *p = load(path, &now);
        cr_expect(now == len && memcmp(p, before, len) == 0, "limit %zu", limit);
        free(p);
    }
    /* an id twice is the builder's to see */
    struct qm_table_builder *b;
    struct qm_table_row row;
    uint8_t id[QM_ID_MAX];
    static uint8_t values[QM_SET_MAX][32 * QM_PCR_COUNT];
    row_of(5, &row, id, values);
    cr_assert_eq(qm_table_builder_open(&b, path, &fault), QM_OK);
    cr_assert_eq(qm_table_builder_add(b, &row, &fault), QM_OK);
    qm_table_builder_close(b); /* never published */
    cr_expect_not(exists(beside));
    cr_expect_eq(use(path, NULL, true, 100), QM_OK);
    /* no directory */
    cr_expect_eq(qm_table_builder_open(&b, "/nonexistent/dir/x.tbl", &fault), QM_E_IO);
    cr_expect_null(b);
    free(before);
    craft_free_all();
}

Test(table, a_mapped_table_stays)
{
    const char *path = path_in(craft_dir());
    build(path, 100, 1);
    struct qm_table *old = open_table(path);
    build(path, 50, 2);
    struct qm_table *new = open_table(path);
    cr_expect(qm_table_generation(old) == 1 && qm_table_generation(new) == 2);
    for (size_t i = 0; i < 100; i++) {
        uint8_t bytes[QM_ID_MAX];
        struct qm_span id = {bytes, id_of(i, bytes)};
        struct qm_instance found;
        cr_assert_eq(qm_table_find(old, &id, 1, &found, NULL), QM_OK);
        check_row(&found, i);
        cr_assert_eq(qm_table_find(new, &id, 1, &found, NULL), QM_OK);
        cr_expect_eq(found.key != NULL, i < 50);
    }
    qm_table_close(old);
    qm_table_close(new);
    craft_free_all();
}

struct reading {
    struct qm_table *t;
    unsigned wrong;
};

static void *read_all(void *arg)
{
    struct reading *r = arg;
    for (size_t i = 0; i < 3000; i++) {
        uint8_t bytes[QM_ID_MAX];
        struct qm_span id = {bytes, id_of(i, bytes)};
        struct qm_instance found;
        r->wrong += qm_table_find(r->t, &id, 1, &found, NULL) != QM_OK || found.key == NULL ||
                    found.slot != i;
    }
    return NULL;
}

/* Many threads meet unchecked blocks at once, while the file is replaced. */
Test(table, concurrent_readers)
{
    const char *path = path_in(craft_dir());
    build(path, 3000, 1);
    for (unsigned round = 0; round < 5; round++) {
        struct reading r[8];
        pthread_t thread[8];
        struct qm_table *t = open_table(path);
        for (unsigned i = 0; i < 8; i++) {
            r[i] = (struct reading){t, 0};
            cr_assert_eq(pthread_create(&thread[i], NULL, read_all, &r[i]), 0);
        }
        build(path, 3000, 2 + round);
        for (unsigned i = 0; i < 8; i++) {
            pthread_join(thread[i], NULL);
            cr_expect_eq(r[i].wrong, 0);
        }
        qm_table_close(t);
    }
    craft_free_all();
}
