/* A home for a unit test, and instances enrolled in it by lines made by hand. */
#ifndef QM_TEST_HOMES_H
#define QM_TEST_HOMES_H

#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/craft.h"
#include "tools/store/store.h"

static char home_path[512];
static struct qm_store *store;
static struct qm_json *home_json;
static struct qm_enrolment *home_enrolment;
static struct qm_fault fault;

#define GOOD(call) cr_assert_eq((call), QM_OK, "%s", fault.text)
#define BEGIN()    GOOD(qm_store_begin(store, &fault))
#define COMMIT()   GOOD(qm_store_commit(store, &fault))

static inline void home_make(void)
{
    bool made;
    snprintf(home_path, sizeof home_path, "%s/home", craft_dir());
    home_enrolment = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *home_enrolment, QM_CACHE_LINE));
    MUST(home_enrolment != NULL && qm_json_open(&home_json, &fault) == QM_OK);
    GOOD(qm_store_create(home_path, &made, &fault));
    GOOD(qm_store_open(&store, home_path, true, &fault));
}

static inline void home_end(void)
{
    qm_store_close(store);
    qm_json_close(home_json);
    free(home_enrolment);
    craft_free_all();
}

/* Enrols id (its key is a P-256 one of that number), more being members that follow, each with its comma. */
static inline qm_err home_try_enroll(const char *id, unsigned key_no, const char *more)
{
    struct craft c = {0}, t = {0};
    struct qm_enroll_options options = {0};
    enum qm_enrolled what;
    uint8_t digest[32];
    bool known;
    craft_tpmt_public(&t, craft_key("p256", key_no), CRAFT_AK_ATTRIBUTES, QM_TPM_ALG_NULL, 0);
    craft_text(&c, "{\"id\":\"");
    craft_text(&c, id);
    craft_text(&c, "\",\"ak\":\"");
    craft_text(&c, craft_base64(craft_span(&t)));
    craft_text(&c, "\"");
    craft_text(&c, more);
    craft_put(&c, "}", 2);
    craft_hash(QM_HASH_SHA256, craft_span(&c), digest);
    BEGIN();
    GOOD(qm_enrolment_read(home_json, (const char *)c.p, c.len - 1, home_enrolment, &fault));
    GOOD(qm_store_line_known(store, home_enrolment, digest, &known, &fault));
    qm_err err = known ? QM_OK : qm_store_enroll(store, home_enrolment, digest, &options, &what, &fault);
    COMMIT();
    return err;
}

static inline void home_enroll(const char *id, unsigned key_no, const char *more)
{
    GOOD(home_try_enroll(id, key_no, more));
}

/* One number from the database, through a connection of its own; -1: no row. */
static inline long long home_ask(const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.db", home_path);
    MUST(sqlite3_open(path, &db) == SQLITE_OK);
    MUST(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK);
    int rc = sqlite3_step(st);
    long long n = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static inline void home_change(const char *sql)
{
    sqlite3 *db;
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.db", home_path);
    MUST(sqlite3_open(path, &db) == SQLITE_OK);
    MUST(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
}

static inline bool home_publish(void)
{
    bool built;
    GOOD(qm_store_publish(store, &built, &fault));
    return built;
}

static inline struct qm_table *home_table(void)
{
    struct qm_table *t;
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.tbl", home_path);
    GOOD(qm_table_open(&t, path, &fault));
    return t;
}

static inline struct qm_instance home_find(const struct qm_table *t, const char *id)
{
    struct qm_instance found;
    struct qm_span s = {(const uint8_t *)id, strlen(id)};
    GOOD(qm_table_find(t, &s, 1, &found, &fault));
    return found;
}

#endif
