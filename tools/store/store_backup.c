#include "tools/store/store_backup.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tools/line_read.h"
#include "tools/options.h"
#include "tools/show.h"
#include "tools/store/store_inside.h"
#include "tools/store/store_run.h"
#include "tools/whole_file.h"

/* ---- away -------------------------------------------------------------------------------------------------------------- */

static qm_err number(sqlite3 *db, const char *sql, uint64_t *out)
{
    sqlite3_stmt *st = NULL;
    *out = 0;
    const int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK ? sqlite3_step(st) : SQLITE_ERROR;
    if (rc == SQLITE_ROW)
        *out = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : QM_E_STORE;
}

static qm_err describe(sqlite3 *db, struct qm_backup *out)
{
    uint64_t schema;
    qm_err err = number(db, "SELECT value FROM meta WHERE key = 'schema'", &schema);
    out->schema = (int)schema;
    if (err == QM_OK)
        err = number(db, "SELECT value FROM meta WHERE key = 'generation'", &out->generation);
    if (err == QM_OK)
        err = number(db, "SELECT value FROM meta WHERE key = 'backup_ms'", &out->made_ms);
    if (err == QM_OK)
        err = number(db, "SELECT count(*) FROM instance", &out->instances);
    if (err == QM_OK && schema >= 2)
        err = number(db, "SELECT count(*) FROM run", &out->runs);
    return err;
}

/* Notes in the copy when it was made. */
static qm_err mark(const char *path, uint64_t now_ms, struct qm_backup *out, struct qm_fault *fault)
{
    char sql[96];
    sqlite3 *db = NULL;
    snprintf(sql, sizeof sql, "REPLACE INTO meta(key, value) VALUES('backup_ms', %llu)", (unsigned long long)now_ms);
    qm_err err = QM_OK;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK || sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK ||
        describe(db, out) != QM_OK)
        err = qm_fail(fault, QM_E_STORE, 0, "%s: %s while writing the copy", path, sqlite3_errmsg(db));
    sqlite3_close(db);
    return err;
}

/* A journal that a killed process left beside its copy is of a copy that is gone. */
static void drop_journal(const char *tmp)
{
    char journal[4096 + 32];
    snprintf(journal, sizeof journal, "%s-journal", tmp);
    unlink(journal);
}

static qm_err copy_out(struct qm_store *s, const char *tmp, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "VACUUM INTO ?1", fault); /* into an empty file */
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, tmp, -1, SQLITE_STATIC);
    const int rc = sqlite3_step(st);
    sqlite3_reset(st);
    if (rc == SQLITE_DONE)
        return QM_OK;
    /* which of the two is full or broken is not said, so both are named */
    return qm_fail(fault, QM_E_STORE, 0, "cannot copy %s/fleet.db into %s: %s", s->home, tmp, sqlite3_errmsg(s->db));
}

static bool is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Would file be written over the store, its log, the table or a lock? The names of all of them begin so, there or not. */
static bool is_of_home(const char *home, const char *file)
{
    char dir[4096];
    const char *slash = strrchr(file, '/'), *name = slash != NULL ? slash + 1 : file;
    if (strncmp(name, "fleet.", 6) != 0 && strcmp(name, "run.lock") != 0)
        return false;
    snprintf(dir, sizeof dir, "%.*s", slash != NULL ? (int)(slash + 1 - file) : 1, slash != NULL ? file : ".");
    return is_same(dir, home);
}

qm_err qm_store_backup(struct qm_store *s, const char *file, struct qm_backup *out, struct qm_fault *fault)
{
    struct qm_whole_file w;
    struct stat st = {0};
    *out = (struct qm_backup){0};
    if (is_of_home(s->home, file))
        return qm_fail(fault, QM_E_USAGE, 0, "%s is the home's own: a backup needs a name of its own", file);
    if (stat(file, &st) == 0 && !S_ISREG(st.st_mode))
        return qm_fail(fault, QM_E_USAGE, 0, "%s is no regular file", file);
    qm_err err = qm_whole_open(&w, file, 0600, fault);
    if (err != QM_OK)
        return err;
    drop_journal(w.tmp);
    err = copy_out(s, w.tmp, fault);
    if (err == QM_OK)
        err = mark(w.tmp, s->now_ms, out, fault);
    if (err == QM_OK && fstat(w.fd, &st) != 0)
        err = qm_fail(fault, QM_E_IO, errno, "cannot look at %s", w.tmp);
    out->bytes = (uint64_t)st.st_size;
    if (err == QM_OK)
        err = qm_whole_finish(&w, fault);
    qm_whole_close(&w);
    return err;
}

/* ---- and back ---------------------------------------------------------------------------------------------------------- */

static qm_err check_pages(sqlite3 *db, const char *file, struct qm_fault *fault)
{
    sqlite3_stmt *st = NULL;
    qm_err err = QM_OK;
    const int rc = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &st, NULL) == SQLITE_OK ? sqlite3_step(st) : SQLITE_ERROR;
    if (rc != SQLITE_ROW)
        err = qm_fail(fault, QM_E_FORMAT, 0, "%s: %s", file, sqlite3_errmsg(db));
    else if (strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0)
        err = qm_fail(fault, QM_E_FORMAT, 0, "%s is damaged: %.300s", file, (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    return err;
}

/* Read only, so that nothing is made beside it. */
static qm_err open_copy(sqlite3 **db, const char *file, struct qm_fault *fault)
{
    int fd;
    *db = NULL;
    qm_err err = qm_file_open(file, &fd, fault);
    if (err != QM_OK)
        return err;
    close(fd);
    if (sqlite3_open_v2(file, db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK)
        return QM_OK;
    qm_fail(fault, QM_E_STORE, 0, "%s: %s", file, sqlite3_errmsg(*db));
    sqlite3_close(*db);
    *db = NULL;
    return QM_E_STORE;
}

qm_err qm_backup_check(const char *file, struct qm_backup *out, struct qm_fault *fault)
{
    sqlite3 *db;
    struct stat st = {0};
    *out = (struct qm_backup){0};
    qm_err err = open_copy(&db, file, fault);
    if (err == QM_OK)
        err = check_pages(db, file, fault);
    if (err == QM_OK && (describe(db, out) != QM_OK || out->schema < 1))
        err = qm_fail(fault, QM_E_FORMAT, 0, "%s is no backup of a quotemill home", file);
    if (err == QM_OK && out->schema > QM_STORE_SCHEMA)
        err = qm_fail(fault, QM_E_FORMAT, 0, "%s was made by a newer quotemill (schema %d, this one knows %d)", file, out->schema,
                      QM_STORE_SCHEMA);
    if (err == QM_OK && stat(file, &st) == 0)
        out->bytes = (uint64_t)st.st_size;
    sqlite3_close(db);
    return err;
}

/* The store that cannot be read any more keeps its files, under other names. */
static qm_err put_aside(const char *home, uint64_t now_ms, struct qm_fault *fault)
{
    static const char *const part[] = {"fleet.db", "fleet.db-wal", "fleet.db-shm"};
    char from[4096 + 64], to[4096 + 128];
    for (size_t i = 0; i < QM_COUNT(part); i++) {
        qm_err err = qm_home_file(from, sizeof from, home, part[i], fault);
        if (err != QM_OK)
            return err;
        snprintf(to, sizeof to, "%s.damaged-%llu", from, (unsigned long long)now_ms);
        if (rename(from, to) != 0 && errno != ENOENT)
            return qm_fail(fault, QM_E_IO, errno, "cannot put %s aside", from);
    }
    return QM_OK;
}

/* Is what lies there no store any more? A disk that failed to read it, or one of a newer program, is not damage. */
static bool is_damaged(const char *home)
{
    char path[4096 + 64];
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    if (qm_home_file(path, sizeof path, home, "fleet.db", NULL) != QM_OK)
        return false;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL); /* not read only: what a crash left is to be rolled back */
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE key = 'schema'", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT || rc == SQLITE_ERROR || rc == SQLITE_DONE; /* no such table, no such row */
}

/* The home's store, as it may be written over. */
static qm_err open_target(struct qm_store **s, const char *home, bool force, struct qm_fault *fault)
{
    struct qm_backup there;
    struct timespec t;
    bool made;
    qm_err err = qm_store_create(home, &made, fault);
    if (err == QM_OK)
        err = qm_store_open(s, home, true, fault);
    if ((err == QM_E_FORMAT || err == QM_E_STORE) && force && is_damaged(home)) {
        clock_gettime(CLOCK_REALTIME, &t);
        err = put_aside(home, (uint64_t)t.tv_sec * 1000, fault);
        if (err == QM_OK)
            err = qm_store_create(home, &made, fault);
        if (err == QM_OK)
            err = qm_store_open(s, home, true, fault);
    }
    if (err != QM_OK)
        return err;
    err = describe((*s)->db, &there);
    if (err != QM_OK)
        err = store_fail(*s, fault, "reading it");
    else if (!force && (there.instances != 0 || there.runs != 0))
        err = qm_fail(fault, QM_E_REFUSED, 0, "%s has %llu instances and %llu runs; --force puts the backup in their place", home,
                      (unsigned long long)there.instances, (unsigned long long)there.runs);
    return err;
}

enum { BUSY_TRIES = 300, BUSY_WAIT_US = 100000 };

/* All pages in one transaction of the database that is there: readers see the old store or the new one. */
static qm_err copy_in(struct qm_store *s, const char *file, struct qm_fault *fault)
{
    sqlite3 *from;
    qm_err err = open_copy(&from, file, fault);
    if (err != QM_OK)
        return err;
    sqlite3_backup *b = sqlite3_backup_init(s->db, "main", from, "main");
    int rc = b != NULL ? SQLITE_BUSY : SQLITE_ERROR;
    for (int i = 0; (rc == SQLITE_BUSY || rc == SQLITE_LOCKED) && i < BUSY_TRIES; i++) {
        if (i != 0)
            usleep(BUSY_WAIT_US);
        rc = sqlite3_backup_step(b, -1);
    }
    sqlite3_backup_finish(b);
    if (rc != SQLITE_DONE)
        err = store_fail(s, fault, "copying the backup into it");
    sqlite3_close(from);
    return err;
}

/* In the store that was put in place: when, from what, by whom. */
static qm_err note(struct qm_store *s, const char *file, uint64_t generation, struct qm_fault *fault)
{
    qm_err err = qm_store_begin(s, fault);
    if (err != QM_OK)
        return err;
    if (s->generation <= generation)
        s->generation = generation + 1;
    s->changed = true;
    err = qm_store_meta_set(s, "restored_ms", s->now_ms, fault);
    sqlite3_stmt *st = err == QM_OK ? store_sql(s, "INSERT INTO journal(at_ms, who, what, subject) VALUES(?1, ?2, 'restore', ?3)", fault) : NULL;
    if (st == NULL) {
        qm_store_rollback(s);
        return err == QM_OK ? QM_E_STORE : err;
    }
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    sqlite3_bind_text(st, 2, s->who, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, file, -1, SQLITE_STATIC);
    err = store_run(s, st, fault);
    if (err == QM_OK)
        err = store_exec(s, "DELETE FROM challenge WHERE state = 0", fault); /* may have been answered after the copy was made: once is enough */
    if (err == QM_OK)
        err = qm_store_commit(s, fault);
    qm_store_rollback(s);
    return err;
}

qm_err qm_store_restore(const char *home, const char *file, bool force, struct qm_backup *out, struct qm_fault *fault)
{
    struct qm_store *s = NULL;
    bool built;
    uint64_t generation = 0;
    char there[4096 + 64];
    qm_err err = qm_home_file(there, sizeof there, home, "fleet.db", fault);
    if (err == QM_OK && is_same(there, file))
        err = qm_fail(fault, QM_E_USAGE, 0, "%s is the store of this home, and no backup", file);
    if (err == QM_OK)
        err = open_target(&s, home, force, fault);
    if (err == QM_OK) {
        generation = s->generation;
        err = copy_in(s, file, fault);
    }
    qm_store_close(s);
    s = NULL;
    if (err == QM_OK)
        err = qm_store_open(&s, home, true, fault); /* brings an older copy up to date */
    if (err == QM_OK)
        err = note(s, file, generation, fault);
    if (err == QM_OK)
        err = qm_store_publish(s, &built, fault);
    if (err == QM_OK)
        out->generation = qm_store_generation(s);
    qm_store_close(s);
    return err;
}

/* ---- what the first run after it says ---------------------------------------------------------------------------------- */

static qm_err count_seen(void *ctx, uint64_t first, const struct qm_ledger entry[QM_LEDGER_BLOCK], struct qm_fault *fault)
{
    struct qm_restored *r = ctx;
    (void)first;
    (void)fault;
    for (unsigned i = 0; i < QM_LEDGER_BLOCK; i++)
        r->machines += (entry[i].flags & QM_LEDGER_SEEN) != 0;
    return QM_OK;
}

qm_err qm_store_restored(struct qm_store *s, struct qm_restored *out, struct qm_fault *fault)
{
    *out = (struct qm_restored){0};
    qm_err err = qm_store_meta_get(s, "restored_ms", &out->restored_ms, fault);
    if (err != QM_OK || out->restored_ms == 0)
        return err;
    out->pending = true;
    err = qm_store_meta_get(s, "backup_ms", &out->backup_ms, fault);
    return err == QM_OK ? qm_store_ledger_each(s, count_seen, out, fault) : err;
}

qm_err qm_store_restored_said(struct qm_store *s, struct qm_fault *fault)
{
    return store_exec(s, "DELETE FROM meta WHERE key IN ('restored_ms', 'backup_ms')", fault);
}

void qm_restored_tell(struct qm_store *s, const char *command)
{
    struct qm_restored r;
    struct qm_fault fault = {0};
    char from[QM_AGE_MAX], to[QM_AGE_MAX];
    qm_err err = qm_store_restored(s, &r, &fault);
    if (err == QM_OK && r.pending)
        fprintf(stderr, "quotemill %s: this home was restored: what its %llu machines sent between %s and %s is forgotten, and would be taken"
                        " for new if it were sent again, until a machine has sent something newer\n",
                command, (unsigned long long)r.machines, r.backup_ms != 0 ? qm_moment(from, r.backup_ms) : "an unknown time",
                qm_moment(to, r.restored_ms));
    if (err == QM_OK && r.pending)
        err = qm_store_begin(s, &fault);
    if (err == QM_OK && r.pending)
        err = qm_store_restored_said(s, &fault);
    if (err == QM_OK && r.pending)
        err = qm_store_commit(s, &fault);
    qm_store_rollback(s);
    if (err != QM_OK)
        qm_complain(command, &fault);
}
