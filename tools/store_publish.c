/* fleet.db -> fleet.tbl: one pass over the instances in slot order, beside it one over their live sets. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "tools/store_inside.h"

/* The newest QM_SET_MAX live sets of the slot the cursor stands at; the cursor is ordered by slot, then newest first. A set is
 * numbered by its values, which stand once in the store: so it stands once in the table, whoever shares it. */
struct set_cursor {
    sqlite3_stmt *st;
    bool row;
    uint8_t value[QM_SET_MAX][QM_PCR_COUNT * 32];
};

static qm_err set_cursor_step(struct qm_store *s, struct set_cursor *c, struct qm_fault *fault)
{
    int rc = sqlite3_step(c->st);
    c->row = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the accepted sets");
}

/* Keeps of a set what the profile compares: PCRs that are not baselined now are nobody's business. */
static void take_set(struct set_cursor *c, struct qm_table_row *row)
{
    const uint32_t mask = (uint32_t)sqlite3_column_int64(c->st, 2);
    const uint8_t *value = sqlite3_column_blob(c->st, 3);
    const uint32_t kept = mask & row->profile.baselined;
    if (kept == 0 || row->set_count == QM_SET_MAX || mask >> QM_PCR_COUNT != 0 ||
        sqlite3_column_bytes(c->st, 3) != 32 * __builtin_popcount(mask))
        return;
    uint8_t *to = c->value[row->set_count];
    row->set[row->set_count].set_no = (uint64_t)sqlite3_column_int64(c->st, 1);
    row->set[row->set_count].mask = kept;
    row->set[row->set_count].value = to;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        if ((mask >> pcr & 1) == 0)
            continue;
        if ((kept >> pcr & 1) != 0) {
            memcpy(to, value, 32);
            to += 32;
        }
        value += 32;
    }
    row->set_count++;
}

static qm_err take_sets(struct qm_store *s, struct set_cursor *c, struct qm_table_row *row, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    while (err == QM_OK && c->row && (uint64_t)sqlite3_column_int64(c->st, 0) <= row->slot) {
        if ((uint64_t)sqlite3_column_int64(c->st, 0) == row->slot)
            take_set(c, row);
        err = set_cursor_step(s, c, fault);
    }
    return err;
}

enum { C_SLOT, C_ID, C_NONCE, C_REQUIRE_LOG, C_GENERATION, C_MADE, C_PROFILE };

static qm_err take_instance(struct qm_store *s, sqlite3_stmt *st, struct set_cursor *sets, struct qm_table_builder *b,
                            struct qm_key *key, struct qm_fault *fault)
{
    struct qm_table_row row = {
        .id = {sqlite3_column_text(st, C_ID), (size_t)sqlite3_column_bytes(st, C_ID)},
        .key = key,
        .generation = (uint64_t)sqlite3_column_int64(st, C_GENERATION),
        .slot = (uint64_t)sqlite3_column_int64(st, C_SLOT),
        .require_log = sqlite3_column_int(st, C_REQUIRE_LOG) != 0,
    };
    if (sqlite3_column_type(st, C_NONCE) != SQLITE_NULL) {
        row.nonce.p = sqlite3_column_blob(st, C_NONCE);
        row.nonce.len = (size_t)sqlite3_column_bytes(st, C_NONCE);
        if (row.nonce.p == NULL)
            row.nonce.p = (const uint8_t *)""; /* SQLite gives no pointer for a blob of no bytes */
    }
    const size_t made = (size_t)sqlite3_column_bytes(st, C_MADE);
    if (made < sizeof *key || made > QM_KEY_BYTES_MAX || row.id.len == 0 || row.id.len > QM_ID_MAX || row.nonce.len > QM_NONCE_MAX ||
        sqlite3_column_bytes(st, C_PROFILE) != (int)sizeof row.profile)
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: instance row %llu", s->home, (unsigned long long)row.slot);
    memcpy(key, sqlite3_column_blob(st, C_MADE), made);
    memcpy(&row.profile, sqlite3_column_blob(st, C_PROFILE), sizeof row.profile);
    if (!qm_key_sound(key, made))
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: the key of instance row %llu", s->home,
                       (unsigned long long)row.slot);
    qm_err err = take_sets(s, sets, &row, fault);
    return err == QM_OK ? qm_table_builder_add(b, &row, fault) : err;
}

static qm_err take_all(struct qm_store *s, sqlite3_stmt *st, struct set_cursor *sets, struct qm_table_builder *b, struct qm_key *key,
                       struct qm_fault *fault)
{
    qm_err err = set_cursor_step(s, sets, fault);
    while (err == QM_OK) {
        int rc = sqlite3_step(st);
        if (rc == SQLITE_DONE)
            return QM_OK;
        err = rc == SQLITE_ROW ? take_instance(s, st, sets, b, key, fault) : store_fail(s, fault, "reading the instances");
    }
    return err;
}

/* All lists of events that are kept: some are of values that no live set has any more, or not yet, and are never asked for. */
static qm_err take_events(struct qm_store *s, struct qm_table_builder *b, struct qm_fault *fault)
{
    sqlite3_stmt *st = NULL;
    qm_err err = QM_OK;
    if (sqlite3_prepare_v2(s->db, "SELECT pcr, value, events FROM pcr_events", -1, &st, NULL) != SQLITE_OK)
        return store_fail(s, fault, "reading the events of PCRs");
    while (err == QM_OK) {
        int rc = sqlite3_step(st);
        if (rc == SQLITE_DONE)
            break;
        const struct qm_span list = {sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2)};
        const int pcr = sqlite3_column_int(st, 0);
        struct qm_event_list sound;
        if (rc != SQLITE_ROW)
            err = store_fail(s, fault, "reading the events of PCRs");
        else if (pcr < 0 || pcr >= QM_PCR_COUNT || sqlite3_column_bytes(st, 1) != 32 || !qm_event_list_read(list, &sound))
            err = qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: the events of a PCR", s->home);
        else
            err = qm_table_builder_add_events(b, (unsigned)pcr, sqlite3_column_blob(st, 1), list, fault);
    }
    sqlite3_finalize(st);
    return err;
}

static qm_err build(struct qm_store *s, const char *path, struct qm_fault *fault)
{
    static const char instances[] =
        "SELECT i.slot, i.id, i.nonce, i.require_log, i.generation, a.made, p.content FROM instance i"
        " CROSS JOIN ak a ON a.no = i.ak CROSS JOIN profile p ON p.no = i.profile ORDER BY i.slot";
    static const char live[] = "SELECT b.slot, b.vals, v.mask, v.value FROM baseline b CROSS JOIN pcr_values v ON v.no = b.vals"
                               " WHERE b.ended_ms IS NULL ORDER BY b.slot, b.no DESC";
    struct set_cursor *sets = calloc(1, sizeof *sets);
    struct qm_key *key = aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX);
    struct qm_table_builder *b = NULL;
    sqlite3_stmt *st = NULL;
    qm_err err = QM_OK;
    if (sets == NULL || key == NULL)
        err = qm_fail(fault, QM_E_NOMEM, 0, "no memory to build the table");
    else if (sqlite3_prepare_v2(s->db, instances, -1, &st, NULL) != SQLITE_OK ||
             sqlite3_prepare_v2(s->db, live, -1, &sets->st, NULL) != SQLITE_OK)
        err = store_fail(s, fault, "reading it");
    if (err == QM_OK)
        err = qm_table_builder_open(&b, path, fault);
    if (err == QM_OK)
        err = take_all(s, st, sets, b, key, fault);
    if (err == QM_OK)
        err = take_events(s, b, fault);
    if (err == QM_OK)
        err = qm_table_builder_publish(b, s->home_id, s->generation, fault);
    qm_table_builder_close(b);
    sqlite3_finalize(st);
    if (sets != NULL)
        sqlite3_finalize(sets->st);
    free(key);
    free(sets);
    return err;
}

static bool up_to_date(struct qm_store *s, const char *path)
{
    struct qm_table *t;
    if (qm_table_open(&t, path, NULL) != QM_OK)
        return false;
    bool same = qm_table_generation(t) == s->generation && memcmp(qm_table_home_id(t), s->home_id, QM_HOME_ID_SIZE) == 0 &&
                qm_table_check(t, NULL) == QM_OK;
    qm_table_close(t);
    return same;
}

qm_err qm_store_publish(struct qm_store *s, bool *built, struct qm_fault *fault)
{
    char path[4096 + 64], lock[4096 + 64];
    *built = false;
    qm_err err = qm_home_file(path, sizeof path, s->home, "fleet.tbl", fault);
    if (err == QM_OK)
        err = qm_home_file(lock, sizeof lock, s->home, "fleet.tbl.lock", fault);
    if (err != QM_OK)
        return err;
    /* One builder at a time; each reads the store after it got the lock, so the last table has the last generation. */
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    while (fd >= 0 && flock(fd, LOCK_EX) != 0)
        if (errno != EINTR) {
            close(fd);
            fd = -1;
        }
    if (fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot lock %s", lock);
    sqlite3_stmt *st = NULL;
    bool found;
    err = store_exec(s, "BEGIN", fault); /* one snapshot for the generation and all that is read */
    if (err == QM_OK && sqlite3_prepare_v2(s->db, "SELECT value FROM meta WHERE key = 'generation'", -1, &st, NULL) != SQLITE_OK)
        err = store_fail(s, fault, "reading it");
    if (err == QM_OK)
        err = store_number(s, st, &s->generation, &found, fault);
    sqlite3_finalize(st);
    if (err == QM_OK && !up_to_date(s, path)) {
        err = build(s, path, fault);
        *built = err == QM_OK;
    }
    if (sqlite3_get_autocommit(s->db) == 0 && store_exec(s, "COMMIT", err == QM_OK ? fault : NULL) != QM_OK && err == QM_OK)
        err = QM_E_STORE;
    close(fd);
    return err;
}
