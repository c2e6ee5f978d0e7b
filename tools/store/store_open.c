/* Making, opening and closing a home; what every part of the store calls. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codec/text.h"
#include "tools/home_check.h"
#include "tools/store/store_inside.h"

static const char *const statements[S_STATEMENT_COUNT] = {
    [S_LINE] = "SELECT 1 FROM instance WHERE id = ?1 AND line = ?2",
    [S_INSTANCE] = "SELECT slot, ak FROM instance WHERE id = ?1",
    [S_INSERT] = "INSERT INTO instance(id, ak, profile, nonce, require_log, grp, tags, line, enrolled_ms, changed_ms, generation, slot)"
                 " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10,"
                 /* never one that a machine had which was taken out */
                 " 1 + max(ifnull((SELECT max(slot) FROM instance), 0), ifnull((SELECT max(slot) FROM retired), 0)))",
    [S_UPDATE] = "UPDATE instance SET ak = ?2, profile = ?3, nonce = ?4, require_log = ?5, grp = ?6, tags = ?7, line = ?8,"
                 " changed_ms = ?9, generation = ?10 WHERE id = ?1",
    [S_AK_FIND] = "SELECT no FROM ak WHERE digest = ?1",
    [S_AK_INSERT] = "INSERT INTO ak(digest, made) VALUES(?1, ?2)",
    [S_AK_USED] = "SELECT slot FROM instance WHERE ak = ?1 AND id <> ?2 LIMIT 1",
    [S_AK_HISTORY_END] = "UPDATE ak_history SET until_ms = ?2 WHERE slot = ?1 AND until_ms IS NULL",
    [S_AK_HISTORY_ADD] = "INSERT INTO ak_history(slot, ak, since_ms, who, generation, how, ek, bound, proven_ms, anchor)"
                         " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, nullif(?10, 0))",
    /* a certificate takes nothing away from a key whose TPM answered */
    [S_AK_HISTORY_PROVE] = "UPDATE ak_history SET how = iif(how = 'credential', how, ?6), ek = ifnull(?7, ek),"
                           " bound = iif(how = 'credential' AND ?6 <> how, bound, ?8),"
                           " anchor = iif(how = 'credential' AND ?6 <> how, anchor, nullif(?10, 0)), proven_ms = ?9"
                           " WHERE slot = ?1 AND until_ms IS NULL",
    [S_PROFILE_FIND] = "SELECT no FROM profile WHERE content = ?1",
    [S_PROFILE_INSERT] = "INSERT INTO profile(content) VALUES(?1)",
    [S_VALUES_FIND] = "SELECT no FROM pcr_values WHERE hash = ?3 AND mask = ?1 AND value = ?2",
    [S_VALUES_INSERT] = "INSERT INTO pcr_values(mask, value, hash) VALUES(?1, ?2, ?3)",
    [S_BASELINE_KNOWN] = "SELECT no FROM baseline WHERE slot = ?1 AND vals = ?2 LIMIT 1",
    [S_BASELINE_LIVE] = "SELECT count(*) FROM baseline WHERE slot = ?1 AND kind = 0 AND ended_ms IS NULL",
    [S_BASELINE_INSERT] = "INSERT INTO baseline(slot, vals, origin, who, since_ms) VALUES(?1, ?2, 'enrolled', ?3, ?4)",
    [S_SAVEPOINT] = "SAVEPOINT line",
    [S_ROLLBACK_TO] = "ROLLBACK TO line",
    [S_RELEASE] = "RELEASE line",
};

qm_err store_fail(struct qm_store *s, struct qm_fault *fault, const char *doing)
{
    int rc = sqlite3_extended_errcode(s->db);
    const char *text = sqlite3_errmsg(s->db);
    if ((rc & 0xff) == SQLITE_NOMEM)
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory while %s", doing);
    return qm_fail(fault, QM_E_STORE, 0, "%s/fleet.db: %s while %s", s->home, text, doing);
}

qm_err store_exec(struct qm_store *s, const char *sql, struct qm_fault *fault)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? QM_OK : store_fail(s, fault, "changing it");
}

sqlite3_stmt *store_statement(struct qm_store *s, unsigned which, struct qm_fault *fault)
{
    sqlite3_stmt **st = &s->statement[which];
    if (*st == NULL && sqlite3_prepare_v3(s->db, statements[which], -1, SQLITE_PREPARE_PERSISTENT, st, NULL) != SQLITE_OK) {
        store_fail(s, fault, "preparing");
        return NULL;
    }
    sqlite3_reset(*st);
    sqlite3_clear_bindings(*st);
    return *st;
}

sqlite3_stmt *store_sql(struct qm_store *s, const char *sql, struct qm_fault *fault)
{
    size_t at = ((uintptr_t)sql >> 3) * 0x9e3779b97f4a7c15u >> (64 - STORE_SQL_BITS);
    while (s->sql[at].text != NULL && s->sql[at].text != sql)
        at = (at + 1) % STORE_SQL_ROOM;
    if (s->sql[at].text == NULL) {
        if (s->sql_count == STORE_SQL_ROOM / 2) {
            qm_fail(fault, QM_E_LIMIT, 0, "too many statements");
            return NULL;
        }
        if (sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->sql[at].statement, NULL) != SQLITE_OK) {
            store_fail(s, fault, "preparing");
            return NULL;
        }
        s->sql[at].text = sql;
        s->sql_count++;
    }
    sqlite3_reset(s->sql[at].statement);
    sqlite3_clear_bindings(s->sql[at].statement);
    return s->sql[at].statement;
}

qm_err store_run(struct qm_store *s, sqlite3_stmt *st, struct qm_fault *fault)
{
    int rc = sqlite3_step(st);
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        return store_fail(s, fault, "changing it");
    sqlite3_reset(st);
    return QM_OK;
}

qm_err store_number(struct qm_store *s, sqlite3_stmt *st, uint64_t *number, bool *found, struct qm_fault *fault)
{
    int rc = sqlite3_step(st);
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        return store_fail(s, fault, "reading it");
    *found = rc == SQLITE_ROW;
    *number = *found ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return QM_OK;
}

qm_err store_journal(struct qm_store *s, const char *what, const char *subject, const char *why, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "INSERT INTO journal(at_ms, who, what, subject, why) VALUES(?1, ?2, ?3, ?4, ?5)", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    sqlite3_bind_text(st, 2, s->who, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, what, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 4, subject, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 5, why, -1, SQLITE_STATIC);
    return store_run(s, st, fault);
}

qm_err qm_home_file(char *path, size_t cap, const char *home, const char *name, struct qm_fault *fault)
{
    int n = snprintf(path, cap, "%s/%s", home, name);
    return n > 0 && (size_t)n < cap ? QM_OK : qm_fail(fault, QM_E_LIMIT, 0, "the path of the home is too long");
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void who_am_i(char *who, size_t cap)
{
    const char *sudo = getenv("SUDO_USER");
    struct passwd *p = getpwuid(getuid());
    if (p != NULL && sudo != NULL && getuid() == 0)
        snprintf(who, cap, "%.24s (as %.24s)", sudo, p->pw_name);
    else if (p != NULL)
        snprintf(who, cap, "%.48s", p->pw_name);
    else
        snprintf(who, cap, "uid %u", (unsigned)getuid());
}

/* ---- making a home ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    mode_t mode;
} parts[] = {{"spool", 01770}, {"results", 0750}, {"quarantine", 0700}, {"held", 0700}};

/* mkdir -p; *made: the last one was not there. */
static qm_err make_path(const char *path, bool *made, struct qm_fault *fault)
{
    char part[4096];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part || path[0] == '\0')
        return qm_fail(fault, QM_E_USAGE, 0, "the path of the home is empty or too long");
    for (char *p = part + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return qm_fail(fault, QM_E_IO, errno, "cannot make %s", part);
        *p = '/';
    }
    *made = mkdir(path, 0750) == 0;
    return *made || errno == EEXIST ? QM_OK : qm_fail(fault, QM_E_IO, errno, "cannot make the home %s", path);
}

/* The database under a name that makes no home yet. */
static qm_err make_db(struct qm_store *s, const char *path, struct qm_fault *fault)
{
    if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK)
        return store_fail(s, fault, "making it");
    if (getrandom(s->home_id, sizeof s->home_id, 0) != (ssize_t)sizeof s->home_id)
        return qm_fail(fault, QM_E_IO, errno, "no random bytes");
    char sql[256];
    char hex[2 * QM_HOME_ID_SIZE + 1] = "";
    qm_hex_write(hex, s->home_id, sizeof s->home_id);
    snprintf(sql, sizeof sql,
             "INSERT INTO meta VALUES('schema', %d), ('generation', 1), ('created_ms', %llu), ('home_id', x'%s')", QM_STORE_SCHEMA,
             (unsigned long long)now_ms(), hex);
    /* synchronous stays FULL: this happens once */
    static const char *const before[] = {"PRAGMA page_size=8192", "PRAGMA journal_mode=DELETE", "BEGIN"};
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < QM_COUNT(before); i++)
        err = store_exec(s, before[i], fault);
    if (err == QM_OK)
        err = store_schema_make(s, 0, fault);
    if (err == QM_OK)
        err = store_exec(s, sql, fault);
    if (err == QM_OK)
        err = store_exec(s, "COMMIT", fault);
    sqlite3_close(s->db);
    s->db = NULL;
    return err;
}

static qm_err make_parts(const char *home, struct qm_fault *fault)
{
    char path[4096 + 64];
    for (size_t i = 0; i < QM_COUNT(parts); i++) {
        qm_err err = qm_home_file(path, sizeof path, home, parts[i].name, fault);
        if (err != QM_OK)
            return err;
        if (mkdir(path, parts[i].mode) == 0 ? chmod(path, parts[i].mode) != 0 : errno != EEXIST)
            return qm_fail(fault, QM_E_IO, errno, "cannot make %s", path);
    }
    return QM_OK;
}

static qm_err make_table(const char *path, const uint8_t *home_id, struct qm_fault *fault)
{
    struct qm_table_builder *b;
    qm_err err = qm_table_builder_open(&b, path, fault);
    if (err != QM_OK)
        return err;
    err = qm_table_builder_publish(b, home_id, 1, fault);
    qm_table_builder_close(b);
    return err;
}

static void unmake(const char *home, bool home_made)
{
    static const char *const files[] = {"fleet.db.new", "fleet.db.new-journal", "fleet.tbl"};
    char path[4096 + 64];
    for (size_t i = 0; i < QM_COUNT(files); i++)
        if (qm_home_file(path, sizeof path, home, files[i], NULL) == QM_OK)
            unlink(path);
    for (size_t i = 0; i < QM_COUNT(parts); i++)
        if (qm_home_file(path, sizeof path, home, parts[i].name, NULL) == QM_OK)
            rmdir(path); /* only where it is empty */
    if (home_made)
        rmdir(home);
}

/* In a home that is locked: no other init is in it. */
static qm_err fill_home(const char *home, bool *made, struct qm_fault *fault)
{
    char db[4096 + 64], tmp[4096 + 64], table[4096 + 64];
    struct qm_store s = {0};
    snprintf(s.home, sizeof s.home, "%s", home);
    qm_err err = qm_home_file(db, sizeof db, home, "fleet.db", fault);
    if (err == QM_OK)
        err = qm_home_file(tmp, sizeof tmp, home, "fleet.db.new", fault);
    if (err == QM_OK)
        err = qm_home_file(table, sizeof table, home, "fleet.tbl", fault);
    if (err != QM_OK || access(db, F_OK) == 0)
        return err;
    unlink(tmp);
    err = qm_home_local(home, fault);
    if (err == QM_OK)
        err = make_parts(home, fault);
    if (err == QM_OK)
        err = make_db(&s, tmp, fault);
    if (err == QM_OK)
        err = make_table(table, s.home_id, fault);
    if (err == QM_OK && rename(tmp, db) != 0)
        err = qm_fail(fault, QM_E_IO, errno, "cannot make %s", db);
    *made = err == QM_OK;
    return err;
}

qm_err qm_store_create(const char *home, bool *made, struct qm_fault *fault)
{
    bool home_made = false;
    *made = false;
    const mode_t before = umask(0027); /* the home is closed to others, whatever the caller's mask */
    qm_err err = make_path(home, &home_made, fault);
    int fd = err == QM_OK ? open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (err == QM_OK && (fd < 0 || flock(fd, LOCK_EX) != 0))
        err = qm_fail(fault, QM_E_IO, errno, "cannot open the home %s", home);
    if (err == QM_OK) {
        err = fill_home(home, made, fault);
        if (err != QM_OK)
            unmake(home, home_made);
        else if (fsync(fd) != 0)
            err = qm_fail(fault, QM_E_IO, errno, "cannot sync %s", home);
    }
    if (fd >= 0)
        close(fd);
    umask(before);
    return err;
}

/* ---- opening ---------------------------------------------------------------------------------------------------------- */

qm_err store_read_meta(struct qm_store *s, struct qm_fault *fault)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(s->db,
                           "SELECT (SELECT value FROM meta WHERE key = 'schema'), (SELECT value FROM meta WHERE key = 'generation'),"
                           " (SELECT value FROM meta WHERE key = 'home_id'), (SELECT value FROM meta WHERE key = 'config')",
                           -1, &st, NULL) != SQLITE_OK ||
        sqlite3_step(st) != SQLITE_ROW) {
        sqlite3_finalize(st);
        return store_fail(s, fault, "opening it");
    }
    int version = sqlite3_column_int(st, 0);
    s->generation = (uint64_t)sqlite3_column_int64(st, 1);
    bool id_ok = sqlite3_column_bytes(st, 2) == QM_HOME_ID_SIZE;
    if (id_ok)
        memcpy(s->home_id, sqlite3_column_blob(st, 2), QM_HOME_ID_SIZE);
    s->config_version = (uint64_t)sqlite3_column_int64(st, 3);
    sqlite3_finalize(st);
    if (version > QM_STORE_SCHEMA)
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db was made by a newer quotemill (schema %d, this one knows %d)", s->home,
                       version, QM_STORE_SCHEMA);
    if (version < 1 || !id_ok)
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is no quotemill store", s->home);
    s->schema = version;
    return QM_OK;
}

qm_err qm_store_open(struct qm_store **out, const char *home, bool writable, struct qm_fault *fault)
{
    char path[4096 + 64];
    *out = NULL;
    qm_err err = qm_home_file(path, sizeof path, home, "fleet.db", fault);
    if (err != QM_OK)
        return err;
    if (access(path, writable ? R_OK | W_OK : R_OK) != 0)
        return errno == ENOENT ? qm_fail(fault, QM_E_IO, 0, "%s is no home; quotemill init makes one", home)
                               : qm_fail(fault, QM_E_IO, errno, "cannot open %s", path);
    err = qm_home_local(home, fault);
    if (err != QM_OK)
        return err;
    struct qm_store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the store");
    /* A store is one thread's at a time, and nobody asks how much memory SQLite has: no lock for each call and allocation. */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); /* refused once SQLite is in use, as it may be; then it counts on */
    snprintf(s->home, sizeof s->home, "%s", home);
    who_am_i(s->who, sizeof s->who);
    s->now_ms = now_ms();
    const int how = (writable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &s->db, how, NULL) != SQLITE_OK)
        err = store_fail(s, fault, "opening it");
    if (err == QM_OK) {
        sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
        if (writable)
            err = store_exec(s,
                             "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-65536;"
                             /* What a savepoint, one a line of enroll, may have to put back: 128 KB a line into a file otherwise. */
                             "PRAGMA temp_store=MEMORY",
                             fault);
    }
    if (err == QM_OK)
        err = store_read_meta(s, fault);
    if (err == QM_OK && s->schema < QM_STORE_SCHEMA)
        err = writable ? store_schema_migrate(s, s->schema, fault)
                       : qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is of an older quotemill; the next enroll or run brings it up to date",
                                 home);
    if (err != QM_OK) {
        qm_store_close(s);
        return err;
    }
    *out = s;
    return QM_OK;
}

void qm_store_close(struct qm_store *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < S_STATEMENT_COUNT; i++)
        sqlite3_finalize(s->statement[i]);
    for (size_t i = 0; i < STORE_SQL_ROOM; i++)
        sqlite3_finalize(s->sql[i].statement);
    sqlite3_close(s->db);
    store_config_close(s);
    store_cache_close(s);
    free(s);
}

uint64_t qm_store_now_ms(const struct qm_store *s)
{
    return s->now_ms;
}

uint64_t qm_store_generation(const struct qm_store *s)
{
    return s->generation;
}

const uint8_t *qm_store_home_id(const struct qm_store *s)
{
    return s->home_id;
}

qm_err qm_store_begin(struct qm_store *s, struct qm_fault *fault)
{
    qm_err err = store_exec(s, "BEGIN IMMEDIATE", fault);
    if (err != QM_OK)
        return err;
    s->in_transaction = true;
    s->changed = s->events_found = false;
    s->sets_version++;
    s->now_ms = now_ms();
    err = store_read_meta(s, fault);
    s->generation++; /* what this transaction writes is of the next generation */
    return err;
}

/* SQLite says that a commit failed when the disk does not answer for its last page, but what it wrote lies in the log behind the end
 * that others go by. Whoever opens the database as the first looks for that end anew and takes it all for committed. So it is written
 * over: the next commit begins where that one did, and the checksums of what is left behind it do not follow from it. */
qm_err qm_store_fence(struct qm_store *s, struct qm_fault *fault)
{
    qm_err err = store_exec(s, "BEGIN IMMEDIATE", fault);
    if (err != QM_OK)
        return err;
    err = store_exec(s, "INSERT INTO meta VALUES('fences', 1) ON CONFLICT(key) DO UPDATE SET value = value + 1", fault);
    if (err == QM_OK)
        err = store_exec(s, "COMMIT", fault);
    if (err != QM_OK)
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return err;
}

bool qm_store_unsure(const struct qm_store *s)
{
    return s->unsure;
}

qm_err qm_store_commit(struct qm_store *s, struct qm_fault *fault)
{
    char sql[96];
    s->unsure = false;
    qm_err err = store_ledger_flush(s, fault);
    if (err != QM_OK)
        return err;
    store_ledger_forget(s);
    if (s->changed) {
        snprintf(sql, sizeof sql, "UPDATE meta SET value = %llu WHERE key = 'generation'", (unsigned long long)s->generation);
        err = store_exec(s, sql, fault);
        if (err == QM_OK)
            err = store_events_told(s, fault);
    } else {
        s->generation--;
    }
    if (err != QM_OK)
        return err;
    err = store_exec(s, "COMMIT", fault);
    if (err == QM_OK) {
        s->in_transaction = false;
        return QM_OK;
    }
    qm_store_rollback(s);
    s->unsure = qm_store_fence(s, NULL) != QM_OK;
    return err;
}

qm_err qm_store_spill(struct qm_store *s, struct qm_fault *fault)
{
    qm_err err = store_ledger_flush(s, fault);
    if (err == QM_OK && sqlite3_db_cacheflush(s->db) != SQLITE_OK)
        err = store_fail(s, fault, "writing its log");
    return err;
}

void qm_store_rollback(struct qm_store *s)
{
    if (!s->in_transaction)
        return;
    store_ledger_forget(s);
    store_config_stale(s);
    store_cache_stale(s);
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    s->in_transaction = false;
}

void qm_store_defer_checkpoint(struct qm_store *s)
{
    sqlite3_wal_autocheckpoint(s->db, 0);
    /* The last close would copy what is left, sync it and remove the log while nobody else may read. */
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
}

void qm_store_checkpoint(struct qm_store *s)
{
    int logged, copied;
    if (sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &logged, &copied) != SQLITE_OK || copied != logged)
        return;
    /* Whoever opens the store first reads the whole log, also when all of it is copied: 10 ms after a run of 100,000 records. */
    sqlite3_busy_timeout(s->db, 0);
    sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
}

qm_err qm_store_known(struct qm_store *s, const char *id, const char *group, const char *run, struct qm_fault *fault)
{
    static const char ids[] = "SELECT 1 FROM instance WHERE id = ?1 UNION ALL SELECT 1 FROM retired WHERE id = ?1 LIMIT 1";
    static const char groups[] = "SELECT 1 FROM grp WHERE name = ?1 UNION ALL SELECT 1 FROM instance WHERE grp = ?1"
                                 " UNION ALL SELECT 1 FROM retired WHERE grp = ?1 LIMIT 1";
    static const char runs[] = "SELECT 1 FROM run WHERE id = ?1";
    const struct {
        const char *name, *sql, *before, *behind;
    } asked[] = {{id, ids, "no instance", " is or was enrolled"}, {group, groups, "there is no group", ""},
                 {run, runs, "no run", " is known"}};
    for (size_t i = 0; i < QM_COUNT(asked); i++) {
        uint64_t one;
        bool found = true;
        sqlite3_stmt *st = asked[i].name != NULL ? store_sql(s, asked[i].sql, fault) : NULL;
        if (asked[i].name == NULL)
            continue;
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_text(st, 1, asked[i].name, -1, SQLITE_STATIC);
        qm_err err = store_number(s, st, &one, &found, fault);
        if (err != QM_OK)
            return err;
        if (!found)
            return qm_fail(fault, QM_E_USAGE, 0, "%s '%.256s'%s", asked[i].before, asked[i].name, asked[i].behind);
    }
    return QM_OK;
}

void qm_group_tell(struct qm_store *s, const char *command, const char *group)
{
    struct qm_fault unknown = {0};
    char shown[512];
    struct qm_out o = qm_out_init(shown, sizeof shown - 1);
    if (qm_store_known(s, NULL, group, NULL, &unknown) != QM_E_USAGE)
        return;
    qm_out_shown(&o, (struct qm_span){(const uint8_t *)group, strnlen(group, QM_ID_MAX)});
    shown[o.len] = '\0';
    fprintf(stderr, "quotemill %s: no machine is of group '%s' yet\n", command, shown);
}

qm_err qm_store_count(struct qm_store *s, uint64_t *instances, struct qm_fault *fault)
{
    sqlite3_stmt *st = NULL;
    bool found;
    if (sqlite3_prepare_v2(s->db, "SELECT count(*) FROM instance", -1, &st, NULL) != SQLITE_OK)
        return store_fail(s, fault, "reading it");
    qm_err err = store_number(s, st, instances, &found, fault);
    sqlite3_finalize(st);
    return err;
}
