/* The store: what a home is, what enrolling leaves in it, and when the table is made. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/text.h"
#include "engine/kernel/ec_comb.h"
#include "engine/kernel/key.h"
#include "tests/craft.h"
#include "tools/store/store.h"
#include "tools/store/store_ledger.h"

static char home[512];
static struct qm_store *store;
static struct qm_json *json;
static struct qm_enrolment *e;
static struct qm_fault fault;

static void make_home(void)
{
    bool made;
    snprintf(home, sizeof home, "%s/home", craft_dir());
    e = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *e, QM_CACHE_LINE));
    MUST(e != NULL && qm_json_open(&json, &fault) == QM_OK);
    cr_assert_eq(qm_store_create(home, &made, &fault), QM_OK, "%s", fault.text);
    cr_assert(made);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK, "%s", fault.text);
}

static void end(void)
{
    qm_store_close(store);
    qm_json_close(json);
    free(e);
    craft_free_all();
}

TestSuite(store, .init = make_home, .fini = end);

static const char *line_of(const char *id, unsigned key_no, const char *more)
{
    struct craft c = {0}, t = {0};
    craft_tpmt_public(&t, craft_key("p256", key_no), CRAFT_AK_ATTRIBUTES, QM_TPM_ALG_NULL, 0);
    craft_text(&c, "{\"id\":\"");
    craft_text(&c, id);
    craft_text(&c, "\",\"ak\":\"");
    craft_text(&c, craft_base64(craft_span(&t)));
    craft_text(&c, "\"");
    craft_text(&c, more);
    craft_put(&c, "}", 2);
    return (const char *)c.p;
}

static qm_err enroll_with(const char *line, struct qm_enroll_options options,
                          enum qm_enrolled *what)
{
    uint8_t digest[32];
    bool known;
    fault = (struct qm_fault){0};
    *what = QM_ENROLLED_SAME;
    craft_hash(QM_HASH_SHA256, (struct qm_span){(const uint8_t *)line, strlen(line)}, digest);
    cr_assert_eq(qm_enrolment_read(json, line, strlen(line), e, &fault), QM_OK, "%s", fault.text);
    cr_assert_eq(qm_store_line_known(store, e, digest, &known, &fault), QM_OK);
    return known ? QM_OK : qm_store_enroll(store, e, digest, &options, what, &fault);
}

/* In a transaction of its own. */
static enum qm_enrolled enroll(const char *line)
{
    enum qm_enrolled what;
    cr_assert_eq(qm_store_begin(store, &fault), QM_OK, "%s", fault.text);
    cr_assert_eq(enroll_with(line, (struct qm_enroll_options){0}, &what), QM_OK, "%s", fault.text);
    cr_assert_eq(qm_store_commit(store, &fault), QM_OK, "%s", fault.text);
    return what;
}

static void refused(const char *line, struct qm_enroll_options options, const char *why)
{
    enum qm_enrolled what;
    cr_assert_eq(qm_store_begin(store, &fault), QM_OK);
    cr_expect_eq(enroll_with(line, options, &what), QM_E_REFUSED);
    cr_expect_not_null(strstr(fault.text, why), "'%s' does not say '%s'", fault.text, why);
    cr_assert_eq(qm_store_commit(store, &fault), QM_OK);
}

/* One number from the database, through a connection of its own. */
static long long ask(const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.db", home);
    MUST(sqlite3_open(path, &db) == SQLITE_OK);
    MUST(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK);
    int rc = sqlite3_step(st);
    long long n = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static void change(const char *sql)
{
    sqlite3 *db;
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.db", home);
    MUST(sqlite3_open(path, &db) == SQLITE_OK);
    MUST(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
}

static bool publish(void)
{
    bool built;
    cr_assert_eq(qm_store_publish(store, &built, &fault), QM_OK, "%s", fault.text);
    return built;
}

static struct qm_table *table_now(void)
{
    struct qm_table *t;
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.tbl", home);
    cr_assert_eq(qm_table_open(&t, path, &fault), QM_OK, "%s", fault.text);
    return t;
}

static struct qm_instance find(const struct qm_table *t, const char *id)
{
    struct qm_instance found;
    struct qm_span s = {(const uint8_t *)id, strlen(id)};
    cr_assert_eq(qm_table_find(t, &s, 1, &found, &fault), QM_OK, "%s", fault.text);
    return found;
}

/* A baseline of PCRs 0 and 4, all of whose bytes are b. */
static const char *baseline(unsigned b, const char *more)
{
    struct craft c = {0};
    char hex[3];
    snprintf(hex, sizeof hex, "%02x", b);
    craft_text(&c, ",\"baselined\":[0,4],\"baseline\":{\"0\":\"");
    for (unsigned i = 0; i < 32; i++)
        craft_text(&c, hex);
    craft_text(&c, "\",\"4\":\"");
    for (unsigned i = 0; i < 32; i++)
        craft_text(&c, hex);
    craft_text(&c, "\"}");
    craft_text(&c, more);
    craft_put(&c, "", 1);
    return (const char *)c.p;
}

Test(store, a_new_home)
{
    static const char *const parts[] = {"fleet.db", "fleet.tbl",  "spool",
                                        "results",  "quarantine", "held"};
    char path[600];
    struct stat st;
    for (size_t i = 0; i < QM_COUNT(parts); i++) {
        snprintf(path, sizeof path, "%s/%s", home, parts[i]);
        cr_assert_eq(stat(path, &st), 0, "%s", parts[i]);
        cr_expect_eq(st.st_mode & 07, 0, "%s is for others", parts[i]);
    }
    struct qm_table *t = table_now();
    cr_expect_eq(qm_table_instances(t), 0);
    cr_expect_eq(memcmp(qm_table_home_id(t), qm_store_home_id(store), QM_HOME_ID_SIZE), 0);
    cr_expect_eq(qm_table_generation(t), qm_store_generation(store));
    qm_table_close(t);
    cr_expect_not(publish(), "the table is that of the store");
    bool made;
    cr_expect_eq(qm_store_create(home, &made, &fault), QM_OK);
    cr_expect_not(made);
}

Test(store, lines)
{
    uint64_t generation = qm_store_generation(store);
    cr_expect_eq(enroll(line_of("a", 0, "")), QM_ENROLLED_NEW);
    cr_expect_eq(qm_store_generation(store), generation + 1);
    cr_expect_eq(enroll(line_of("a", 0, "")), QM_ENROLLED_SAME);
    cr_expect_eq(qm_store_generation(store), generation + 1, "the same line changes nothing");
    cr_expect_eq(enroll(line_of("a", 0, ",\"nonce\":\"07\",\"require_log\":true,\"group\":\"g\"")),
                 QM_ENROLLED_CHANGED);
    cr_expect_eq(qm_store_generation(store), generation + 2);
    cr_assert(publish());
    struct qm_table *t = table_now();
    struct qm_instance a = find(t, "a");
    cr_assert_not_null(a.key);
    cr_expect(a.nonce.len == 1 && a.nonce.p[0] == 7 && a.require_log && a.set_count == 0);
    cr_expect_eq(a.generation, generation + 2);
    cr_expect_null(find(t, "b").key);
    qm_table_close(t);
    /* what a changed line does not say goes back to what it is by default */
    cr_expect_eq(enroll(line_of("a", 0, ",\"nonce\":\"\"")), QM_ENROLLED_CHANGED);
    cr_assert(publish());
    t = table_now();
    a = find(t, "a");
    cr_expect(a.nonce.p != NULL && a.nonce.len == 0 && !a.require_log, "an empty nonce is one");
    qm_table_close(t);
    cr_expect_eq(enroll(line_of("a", 0, "")), QM_ENROLLED_CHANGED);
    cr_assert(publish());
    t = table_now();
    cr_expect_null(find(t, "a").nonce.p);
    qm_table_close(t);
    cr_expect_eq(ask("SELECT count(*) FROM instance WHERE grp IS NULL AND require_log = 0"), 1);
    uint64_t n;
    cr_expect(qm_store_count(store, &n, &fault) == QM_OK && n == 1);
}

Test(store, publishing_only_when_changed)
{
    cr_expect_not(publish());
    enroll(line_of("a", 0, ""));
    cr_expect(publish());
    cr_expect_not(publish());
    enroll(line_of("a", 0, ""));
    cr_expect_not(publish());
    /* a table that is damaged, foreign or gone is made again */
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.tbl", home);
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(truncate(path, st.st_size - 1), 0);
    cr_expect(publish());
    int fd = open(path, O_WRONLY);
    cr_assert(fd >= 0 && pwrite(fd, "\xff", 1, 5000) == 1 && close(fd) == 0);
    cr_expect(publish());
    cr_assert_eq(unlink(path), 0);
    cr_expect(publish());
    cr_expect_not(publish());
    struct qm_table *t = table_now();
    cr_expect_not_null(find(t, "a").key);
    qm_table_close(t);
}

Test(store, undone_without_commit)
{
    enum qm_enrolled what;
    enroll(line_of("a", 0, ""));
    uint64_t generation = qm_store_generation(store);
    cr_assert_eq(qm_store_begin(store, &fault), QM_OK);
    cr_assert_eq(enroll_with(line_of("b", 1, ""), (struct qm_enroll_options){0}, &what), QM_OK);
    qm_store_close(store);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK);
    cr_expect_eq(qm_store_generation(store), generation);
    cr_expect_eq(ask("SELECT count(*) FROM instance"), 1);
}

Test(store, accepted_sets)
{
    enroll(line_of("a", 0, baseline(1, "")));
    enroll(line_of("a", 0, baseline(2, "")));
    cr_assert(publish());
    struct qm_table *t = table_now();
    struct qm_instance a = find(t, "a");
    cr_assert_eq(a.set_count, 2, "a changed baseline adds a set");
    cr_expect(qm_set_value(a.set[0], 4)[0] == 2 && qm_set_value(a.set[1], 0)[0] == 1,
              "newest first");
    cr_expect_eq(a.set[0]->mask, 0x11);
    qm_table_close(t);
    /* one that it has already, in a line that changed otherwise, adds none */
    cr_expect_eq(enroll(line_of("a", 0, baseline(1, ",\"group\":\"g\""))), QM_ENROLLED_CHANGED);
    cr_expect_eq(ask("SELECT count(*) FROM baseline"), 2);
    /* one that was ended stays so */
    change("UPDATE baseline SET ended_ms = 1 WHERE no = 1");
    cr_expect_eq(enroll(line_of("a", 0, baseline(1, ",\"group\":\"h\""))), QM_ENROLLED_CHANGED);
    cr_expect_eq(ask("SELECT count(*) FROM baseline"), 2);
    cr_expect_eq(ask("SELECT count(*) FROM baseline WHERE ended_ms IS NULL"), 1);
    cr_assert(publish());
    t = table_now();
    a = find(t, "a");
    cr_expect(a.set_count == 1 && qm_set_value(a.set[0], 4)[0] == 2);
    qm_table_close(t);
}

Test(store, eight_sets)
{
    for (unsigned i = 1; i <= QM_SET_MAX; i++)
        enroll(line_of("a", 0, baseline(i, "")));
    cr_expect_eq(ask("SELECT count(*) FROM baseline"), QM_SET_MAX);
    uint64_t generation = qm_store_generation(store);
    refused(line_of("a", 0, baseline(99, ",\"group\":\"g\"")), (struct qm_enroll_options){0},
            "8 live");
    cr_expect_eq(qm_store_generation(store), generation, "a refused line leaves nothing");
    cr_expect_eq(ask("SELECT count(*) FROM instance WHERE grp IS NULL"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM baseline"), QM_SET_MAX);
    enroll(line_of("b", 1, baseline(99, ""))); /* another instance's sets are its own */
    /* one that it has is no ninth */
    cr_expect_eq(enroll(line_of("a", 0, baseline(3, ",\"group\":\"g\""))), QM_ENROLLED_CHANGED);
    change("UPDATE baseline SET ended_ms = 1 WHERE no = 2");
    cr_expect_eq(enroll(line_of("a", 0, baseline(99, ",\"group\":\"g\""))), QM_ENROLLED_CHANGED);
    cr_assert(publish());
    struct qm_table *t = table_now();
    struct qm_instance a = find(t, "a");
    cr_expect_eq(a.set_count, QM_SET_MAX);
    cr_expect(qm_set_value(a.set[0], 0)[0] == 99 && qm_set_value(a.set[7], 0)[0] == 1);
    qm_table_close(t);
}

/* `baselined` shrinks and grows: sets keep what is compared now. */
Test(store, baselined_moves)
{
    enroll(line_of("a", 0, baseline(1, "")));
    enroll(line_of("a", 0, ",\"baselined\":[4]"));
    cr_assert(publish());
    struct qm_table *t = table_now();
    struct qm_instance a = find(t, "a");
    cr_expect(a.set_count == 1 && a.set[0]->mask == 0x10 && a.profile->baselined == 0x10);
    qm_table_close(t);
    enroll(line_of("a", 0, ",\"baselined\":[0,4,7]"));
    cr_assert(publish());
    t = table_now();
    a = find(t, "a");
    cr_expect(a.set_count == 1 && a.set[0]->mask == 0x11 && a.set[0]->composite_size == 0);
    qm_table_close(t);
    enroll(line_of("a", 0, ",\"baselined\":[7]"));
    cr_assert(publish());
    t = table_now();
    cr_expect_eq(find(t, "a").set_count, 0, "a set without a PCR that is compared says nothing");
    qm_table_close(t);
}

Test(store, keys)
{
    const struct qm_enroll_options none = {0}, replace = {.replace_key = true},
                                   unique = {.unique_keys = true};
    enum qm_enrolled what;
    uint64_t shared;
    enroll(line_of("a", 0, baseline(1, "")));
    refused(line_of("a", 1, baseline(1, "")), none, "--replace-key");
    cr_expect_eq(ask("SELECT count(*) FROM ak_history"), 1);
    cr_assert_eq(qm_store_begin(store, &fault), QM_OK);
    cr_assert_eq(enroll_with(line_of("a", 1, ""), replace, &what), QM_OK, "%s", fault.text);
    cr_assert_eq(qm_store_commit(store, &fault), QM_OK);
    cr_expect_eq(what, QM_ENROLLED_KEY_REPLACED);
    cr_expect_eq(ask("SELECT count(*) FROM ak_history"), 2, "who and when is kept");
    cr_expect_eq(ask("SELECT count(*) FROM ak_history WHERE until_ms IS NULL AND who <> '' AND "
                     "since_ms > 0"),
                 1);
    cr_expect_eq(ask("SELECT count(*) FROM ak_history WHERE until_ms IS NOT NULL"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM baseline WHERE ended_ms IS NULL"), 1,
                 "the baseline is kept");
    cr_assert(publish());
    struct qm_table *t = table_now();
    struct qm_instance a = find(t, "a");
    const struct qm_key *key = craft_key("p256", 1)->key;
    cr_expect(a.key->bytes >= 96 && memcmp(a.key->limbs, key->limbs, 64) == 0);
    qm_table_close(t);
    /* shared keys: taken, counted, and refused where asked */
    cr_expect(qm_store_shared_keys(store, &shared, &fault) == QM_OK && shared == 0);
    enroll(line_of("b", 1, ""));
    cr_expect(qm_store_shared_keys(store, &shared, &fault) == QM_OK && shared == 2);
    refused(line_of("c", 1, ""), unique, "another id");
    refused(line_of("b", 1, ",\"group\":\"g\""), unique, "another id");
    enroll(line_of("c", 1, ""));
    cr_expect(qm_store_shared_keys(store, &shared, &fault) == QM_OK && shared == 3);
    cr_assert_eq(qm_store_begin(store, &fault), QM_OK);
    cr_assert_eq(enroll_with(line_of("d", 3, ""), unique, &what), QM_OK);
    cr_assert_eq(enroll_with(line_of("d", 3, ",\"group\":\"g\""), unique, &what), QM_OK,
                 "its own key is no other's");
    cr_assert_eq(qm_store_commit(store, &fault), QM_OK);
}

Test(store, opened_again)
{
    enroll(line_of("a", 0, baseline(1, "")));
    uint64_t generation = qm_store_generation(store);
    uint8_t id[QM_HOME_ID_SIZE];
    memcpy(id, qm_store_home_id(store), sizeof id);
    qm_store_close(store);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK);
    cr_expect_eq(qm_store_generation(store), generation);
    cr_expect_eq(memcmp(id, qm_store_home_id(store), sizeof id), 0);
    cr_expect_eq(enroll(line_of("a", 0, baseline(1, ""))), QM_ENROLLED_SAME);
    struct qm_store *reader;
    cr_assert_eq(qm_store_open(&reader, home, false, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(qm_store_generation(reader), generation);
    qm_store_close(reader);
}

static void cannot_open(qm_err err, const char *says)
{
    struct qm_store *s;
    fault = (struct qm_fault){0};
    cr_expect_eq(qm_store_open(&s, home, true, &fault), err, "%s", fault.text);
    cr_expect_null(s);
    cr_expect_not_null(strstr(fault.text, says), "'%s' does not say '%s'", fault.text, says);
    cr_expect_null(strchr(fault.text, '\n'));
}

/* What the first schema was. */
static const char schema_1[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE ak(no INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, made BLOB NOT NULL);"
    "CREATE TABLE profile(no INTEGER PRIMARY KEY, content BLOB NOT NULL UNIQUE);"
    "CREATE TABLE pcr_values(no INTEGER PRIMARY KEY, mask INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE(mask, value));"
    "CREATE TABLE instance(slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ak INTEGER NOT NULL REFERENCES ak,"
    " profile INTEGER NOT NULL REFERENCES profile, nonce BLOB, require_log INTEGER NOT NULL, grp TEXT, tags TEXT,"
    " line BLOB NOT NULL, enrolled_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, generation INTEGER NOT NULL);"
    "CREATE INDEX instance_ak ON instance(ak);"
    "CREATE TABLE ak_history(slot INTEGER NOT NULL REFERENCES instance, ak INTEGER NOT NULL REFERENCES ak,"
    " since_ms INTEGER NOT NULL, until_ms INTEGER, who TEXT NOT NULL, how TEXT NOT NULL);"
    "CREATE INDEX ak_history_slot ON ak_history(slot);"
    "CREATE TABLE baseline(no INTEGER PRIMARY KEY, slot INTEGER NOT NULL REFERENCES instance,"
    " vals INTEGER NOT NULL REFERENCES pcr_values, origin TEXT NOT NULL, who TEXT NOT NULL, why TEXT,"
    " since_ms INTEGER NOT NULL, until_ms INTEGER, ended_ms INTEGER);"
    "CREATE INDEX baseline_slot ON baseline(slot, no);"
    "INSERT INTO meta SELECT key, CASE key WHEN 'schema' THEN 1 ELSE value END FROM present.meta"
    " WHERE key IN ('schema', 'generation', 'created_ms', 'home_id');"
    "INSERT INTO ak SELECT no, digest, made FROM present.ak;"
    "INSERT INTO profile SELECT no, content FROM present.profile;"
    "INSERT INTO pcr_values SELECT no, mask, value FROM present.pcr_values;"
    "INSERT INTO instance SELECT slot, id, ak, profile, nonce, require_log, grp, tags, line, enrolled_ms, changed_ms, generation"
    " FROM present.instance;"
    "INSERT INTO ak_history SELECT slot, ak, since_ms, until_ms, who, how FROM present.ak_history;"
    "INSERT INTO baseline SELECT no, slot, vals, origin, who, why, since_ms, until_ms, ended_ms FROM present.baseline;";

/* The store as the first program would have left it. */
static void go_back_to_schema_1(void)
{
    sqlite3 *db;
    char path[600], old[600], sql[700];
    qm_store_close(store);
    store = NULL;
    snprintf(path, sizeof path, "%s/fleet.db", home);
    snprintf(old, sizeof old, "%s/fleet.db.old", home);
    snprintf(sql, sizeof sql, "ATTACH '%s' AS present", path);
    MUST(sqlite3_open(old, &db) == SQLITE_OK);
    MUST(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    MUST(sqlite3_exec(db, schema_1, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    change("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE");
    MUST(rename(old, path) == 0);
}

Test(store, an_older_schema_is_brought_up_to_date)
{
    char copy[600], tmp[640];
    cr_assert_eq(enroll(line_of("a", 0, baseline(7, ",\"group\":\"g\""))), QM_ENROLLED_NEW);
    cr_assert_eq(enroll(line_of("b", 1, "")), QM_ENROLLED_NEW);
    go_back_to_schema_1();
    snprintf(copy, sizeof copy, "%s/fleet.db.schema-1", home);
    snprintf(tmp, sizeof tmp, "%s.new", copy);
    /* a reader changes nothing; nor does who cannot keep a copy */
    cr_expect_eq(qm_store_open(&store, home, false, &fault), QM_E_FORMAT);
    cr_expect_not_null(strstr(fault.text, "older"), "%s", fault.text);
    MUST(mkdir(tmp, 0700) == 0);
    cr_expect_neq(qm_store_open(&store, home, true, &fault), QM_OK);
    cr_expect_eq(ask("SELECT value FROM meta WHERE key = 'schema'"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM sqlite_master WHERE name = 'ledger'"), 0);
    MUST(rmdir(tmp) == 0);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(ask("SELECT value FROM meta WHERE key = 'schema'"), QM_STORE_SCHEMA);
    cr_expect_eq(access(copy, F_OK), 0);
    cr_expect_neq(access(tmp, F_OK), 0);
    /* what was there is there, with what it lacked */
    struct qm_ledger l[2];
    for (uint64_t slot = 1; slot <= 2; slot++)
        cr_assert_eq(qm_store_ledger_get(store, slot, &l[slot - 1], &fault), QM_OK, "%s", fault.text);
    cr_expect(l[0].enrolled_s != 0 && l[1].enrolled_s != 0 && l[0].ak == 1 && l[1].ak == 2);
    cr_expect(l[0].group == 1 && l[1].group == 0);
    cr_expect_eq(ask("SELECT no FROM grp WHERE name = 'g'"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM baseline WHERE kind = 0 AND slot = 1 AND origin = 'enrolled' AND ended_ms IS NULL"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM ak_history WHERE until_ms IS NULL AND generation = 0"), 2);
    cr_expect_eq(ask("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    publish();
    struct qm_table *t = table_now();
    cr_expect_eq(find(t, "a").set_count, 1);
    cr_expect_eq(find(t, "b").set_count, 0);
    qm_table_close(t);
    /* and the copy is what was there before */
    qm_store_close(store);
    store = NULL;
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.db", home);
    MUST(rename(copy, path) == 0);
    cr_expect_eq(ask("SELECT value FROM meta WHERE key = 'schema'"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM instance"), 2);
}

Test(store, other_schemas)
{
    change("UPDATE meta SET value = value + 1 WHERE key = 'schema'");
    cannot_open(QM_E_FORMAT, "newer");
    change("UPDATE meta SET value = 0 WHERE key = 'schema'");
    cannot_open(QM_E_FORMAT, "no quotemill store");
    change("UPDATE meta SET value = 1 WHERE key = 'schema'; UPDATE meta SET value = x'00' WHERE "
           "key = 'home_id'");
    cannot_open(QM_E_FORMAT, "no quotemill store");
    change("DELETE FROM meta");
    cannot_open(QM_E_FORMAT, "no quotemill store");
    change("DROP TABLE meta");
    cannot_open(QM_E_STORE, "meta");
}

/* What the fifth schema brought is taken away. */
static void back_to_schema_4(void)
{
    change("ALTER TABLE ak_history DROP COLUMN anchor; ALTER TABLE challenge DROP COLUMN anchor; DROP TABLE anchor;"
           "UPDATE meta SET value = 4 WHERE key = 'schema'");
}

/* A home that knew of no CAs: what it has stays, proofs and challenges included. */
Test(store, from_schema_4)
{
    char kept[600];
    enroll(line_of("a", 0, ""));
    change("UPDATE ak_history SET how = 'credential', ek = zeroblob(32), bound = 'subject', proven_ms = 7;"
           "INSERT INTO challenge(name, id, state, proof, ek, line, who, made_ms, until_ms)"
           " VALUES(zeroblob(16), 'b', 1, zeroblob(32), zeroblob(32), 'x', 'w', 1, 1 << 60)");
    qm_store_close(store);
    store = NULL;
    back_to_schema_4();
    cr_assert_eq(qm_store_open(&store, home, false, &fault), QM_E_FORMAT);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(ask("SELECT value FROM meta WHERE key = 'schema'"), QM_STORE_SCHEMA);
    cr_expect_eq(ask("SELECT count(*) FROM ak_history WHERE how = 'credential' AND proven_ms = 7 AND anchor IS NULL"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM challenge WHERE id = 'b' AND state = 1 AND anchor IS NULL"), 1);
    snprintf(kept, sizeof kept, "%s/fleet.db.schema-4", home);
    cr_expect_eq(access(kept, R_OK), 0, "%s", kept);
    cr_expect_eq(enroll(line_of("b", 1, "")), QM_ENROLLED_NEW);
}

/* What the sixth schema brought is taken away. */
static void back_to_schema_5(void)
{
    change("PRAGMA foreign_keys=OFF;"
           "CREATE TABLE v(no INTEGER PRIMARY KEY, mask INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE(mask, value));"
           "INSERT INTO v SELECT no, mask, value FROM pcr_values; DROP TABLE pcr_values; ALTER TABLE v RENAME TO pcr_values;"
           "CREATE TRIGGER pcr_values_made AFTER INSERT ON pcr_values BEGIN INSERT INTO events_missing VALUES(new.no, new.mask); END;"
           "UPDATE meta SET value = 5 WHERE key = 'schema'");
}

/* A home whose values stood twice: they are known by their hash then, those of before too. */
Test(store, from_schema_5)
{
    static const char values[] = "SELECT count(*) FROM pcr_values";
    enroll(line_of("a", 0, baseline(1, "")));
    enroll(line_of("b", 1, baseline(2, "")));
    qm_store_close(store);
    store = NULL;
    back_to_schema_5();
    cr_expect_eq(ask("SELECT count(*) FROM sqlite_master WHERE name LIKE 'sqlite_autoindex_pcr_values%'"), 1);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(ask("SELECT value FROM meta WHERE key = 'schema'"), QM_STORE_SCHEMA);
    cr_expect_eq(ask("SELECT count(*) FROM sqlite_master WHERE name LIKE 'sqlite_autoindex_pcr_values%'"), 0);
    cr_expect_eq(ask(values), 2);
    cr_expect_eq(ask("SELECT count(*) FROM baseline b JOIN pcr_values v ON v.no = b.vals"), 2);
    cr_expect_eq(ask("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    cr_expect_eq(enroll(line_of("c", 2, baseline(1, ""))), QM_ENROLLED_NEW);
    cr_expect_eq(ask(values), 2, "what a has, c has");
    cr_expect_eq(enroll(line_of("d", 3, baseline(3, ""))), QM_ENROLLED_NEW);
    cr_expect_eq(ask(values), 3);
    cr_expect_eq(ask("SELECT count(*) FROM events_missing m JOIN pcr_values v ON v.no = m.vals AND v.mask = m.mask"), 3);
    /* another's hash: it is compared, and not taken for it */
    change("UPDATE pcr_values SET hash = (SELECT hash FROM pcr_values WHERE no = 3), value = zeroblob(length(value)) WHERE no = 1");
    cr_expect_eq(enroll(line_of("e", 4, baseline(3, ""))), QM_ENROLLED_NEW);
    cr_expect_eq(ask("SELECT vals FROM baseline WHERE slot = 5"), 3);
    cr_expect_eq(ask("SELECT count(*) FROM pcr_values WHERE hash = (SELECT hash FROM pcr_values WHERE no = 3)"), 2);
}

/* What a home of schema 2 has becomes one of today; a copy of it as it was is kept. */
Test(store, from_schema_2)
{
    char kept[600];
    enroll(line_of("a", 0, baseline(1, "")));
    qm_store_close(store);
    store = NULL;
    back_to_schema_4();
    change("DROP TABLE challenge; DROP INDEX ak_history_ek; DROP INDEX journal_subject; ALTER TABLE ak_history DROP COLUMN ek;"
           "ALTER TABLE ak_history DROP COLUMN bound; ALTER TABLE ak_history DROP COLUMN proven_ms;"
           "UPDATE meta SET value = 2 WHERE key = 'schema'");
    cr_assert_eq(qm_store_open(&store, home, false, &fault), QM_E_FORMAT);
    cr_expect_not_null(strstr(fault.text, "older"), "%s", fault.text);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(ask("SELECT value FROM meta WHERE key = 'schema'"), QM_STORE_SCHEMA);
    cr_expect_eq(ask("SELECT count(*) FROM ak_history WHERE how = 'file' AND ek IS NULL AND bound IS NULL AND proven_ms IS NULL"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM challenge"), 0);
    snprintf(kept, sizeof kept, "%s/fleet.db.schema-2", home);
    cr_expect_eq(access(kept, R_OK), 0, "%s", kept);
    cr_expect_eq(enroll(line_of("a", 0, baseline(1, ""))), QM_ENROLLED_SAME);
    cr_expect_eq(enroll(line_of("b", 1, baseline(1, ""))), QM_ENROLLED_NEW);
    cr_expect(publish());
}

/* Keys of schema 3 had combs of two sub-tables of 16 points. */
static size_t as_schema_3_had(const struct qm_key *key, uint8_t *out)
{
    static const struct qm_ec_comb_shape shape = {5, 2, 26};
    struct qm_key *old = (struct qm_key *)(void *)out;
    memcpy(old, key, key->extra_off);
    old->extra_bytes = (uint32_t)qm_ec_comb_bytes(&qm_ec_p256, &shape);
    old->bytes = old->extra_off + old->extra_bytes;
    qm_ec_comb_make(&qm_ec_p256, &shape, key->limbs, key->limbs + 4, out + old->extra_off);
    return old->bytes;
}

static void put_made(unsigned no, const uint8_t *made, size_t bytes)
{
    char sql[200 + 2 * QM_KEY_BYTES_MAX];
    char *hex = malloc(2 * bytes + 1);
    MUST(hex != NULL);
    qm_hex_write(hex, made, bytes);
    snprintf(sql, sizeof sql, "UPDATE ak SET made = x'%.*s' WHERE no = %u", (int)(2 * bytes), hex, no);
    change(sql);
    free(hex);
}

Test(store, keys_of_schema_3_are_made_again)
{
    _Alignas(QM_CACHE_LINE) static uint8_t old[QM_KEY_BYTES_MAX];
    char copy[600];
    enroll(line_of("a", 0, ""));
    enroll(line_of("b", 1, ""));
    cr_expect(publish());
    back_to_schema_4();
    change("CREATE TABLE kept AS SELECT no, made FROM ak; UPDATE meta SET value = 3 WHERE key = 'schema'");
    for (unsigned no = 0; no < 2; no++) {
        const size_t bytes = as_schema_3_had(craft_key("p256", no)->key, old);
        cr_expect_eq(bytes, 2176);
        cr_expect(qm_key_sound((const struct qm_key *)(const void *)old, bytes));
        put_made(no + 1, old, bytes);
    }
    cr_expect_eq(ask("SELECT count(*) FROM ak JOIN kept USING(no) WHERE ak.made = kept.made"), 0);
    qm_store_close(store);
    store = NULL;

    struct qm_store *reader;
    fault = (struct qm_fault){0};
    cr_expect_eq(qm_store_open(&reader, home, false, &fault), QM_E_FORMAT);
    cr_expect_not_null(strstr(fault.text, "older"), "%s", fault.text);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(ask("SELECT count(*) FROM ak JOIN kept USING(no) WHERE ak.made = kept.made"), 2);
    cr_expect_eq(ask("SELECT value FROM meta WHERE key = 'schema'"), QM_STORE_SCHEMA);
    snprintf(copy, sizeof copy, "%s/fleet.db.schema-3", home);
    cr_expect_eq(access(copy, F_OK), 0, "what was there is kept");
    cr_expect(!publish(), "the table was right");
}

/* A row that is no key does not keep a home from opening; no table takes it. */
Test(store, what_is_no_key_is_not_made_again)
{
    enroll(line_of("a", 0, ""));
    back_to_schema_4();
    change("UPDATE ak SET made = zeroblob(96); UPDATE meta SET value = 3 WHERE key = 'schema';"
           "UPDATE meta SET value = value + 1 WHERE key = 'generation'");
    qm_store_close(store);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(ask("SELECT count(*) FROM ak WHERE made = zeroblob(96)"), 1);
    bool built;
    cr_expect_eq(qm_store_publish(store, &built, &fault), QM_E_FORMAT);
}

Test(store, damaged)
{
    char path[600], wal[600];
    for (unsigned i = 0; i < 20; i++)
        enroll(line_of((char[]){(char)('a' + i), 0}, i, baseline(i, "")));
    qm_store_close(store);
    store = NULL;
    snprintf(path, sizeof path, "%s/fleet.db", home);
    snprintf(wal, sizeof wal, "%s/fleet.db-wal", home);
    unlink(wal);
    FILE *f = fopen(path, "r+b");
    MUST(f != NULL && fseek(f, 0, SEEK_END) == 0);
    long size = ftell(f);
    /* every page but the first is filled with rubbish: opening may work, publishing cannot */
    for (long at = 8192; at < size; at++)
        MUST(fseek(f, at, SEEK_SET) == 0 && fputc(0x5a, f) != EOF);
    fclose(f);
    struct qm_store *s;
    fault = (struct qm_fault){0};
    qm_err err = qm_store_open(&s, home, true, &fault);
    bool built;
    if (err == QM_OK) {
        char table[600];
        snprintf(table, sizeof table, "%s/fleet.tbl", home);
        unlink(table);
        err = qm_store_publish(s, &built, &fault);
        cr_expect_neq(access(table, F_OK), 0, "nothing is published from rubbish");
        qm_store_close(s);
    }
    cr_expect(err == QM_E_STORE || err == QM_E_FORMAT, "%d", (int)err);
    cr_expect_neq(fault.text[0], '\0');
}

/* Rows that no code of ours wrote do not reach the table. */
Test(store, rows_that_are_unsound)
{
    static const char *const changes[] = {
        "UPDATE ak SET made = x'00'",
        "UPDATE ak SET made = zeroblob(96)",
        "UPDATE profile SET content = x'00'",
        "UPDATE instance SET nonce = zeroblob(256)",
    };
    enroll(line_of("a", 0, baseline(1, ",\"nonce\":\"00\"")));
    for (size_t i = 0; i < QM_COUNT(changes); i++) {
        bool built;
        char sql[256];
        change("CREATE TABLE IF NOT EXISTS kept AS SELECT a.made, p.content, i.nonce FROM ak a, "
               "profile p, instance i");
        change(changes[i]);
        snprintf(sql, sizeof sql, "UPDATE meta SET value = value + 1 WHERE key = 'generation'");
        change(sql);
        fault = (struct qm_fault){0};
        cr_expect_eq(qm_store_publish(store, &built, &fault), QM_E_FORMAT, "%s: %s", changes[i],
                     fault.text);
        cr_expect_not_null(strstr(fault.text, "damaged"), "%s", fault.text);
        change("UPDATE ak SET made = (SELECT made FROM kept); UPDATE profile SET content = (SELECT "
               "content FROM kept);"
               "UPDATE instance SET nonce = (SELECT nonce FROM kept)");
        cr_expect(publish());
    }
}

Test(store, two_at_once)
{
    struct qm_store *other;
    enroll(line_of("a", 0, ""));
    cr_assert_eq(qm_store_open(&other, home, true, &fault), QM_OK);
    struct qm_store *first = store;
    store = other;
    enroll(line_of("b", 1, ""));
    store = first;
    cr_expect_eq(enroll(line_of("a", 0, ",\"group\":\"g\"")), QM_ENROLLED_CHANGED);
    cr_expect(publish());
    struct qm_table *t = table_now();
    cr_expect(find(t, "a").key != NULL && find(t, "b").key != NULL);
    qm_table_close(t);
    bool built;
    cr_expect(qm_store_publish(other, &built, &fault) == QM_OK && !built);
    qm_store_close(other);
}
