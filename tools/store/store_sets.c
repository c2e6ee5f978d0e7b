#include "tools/store/store_sets.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "tools/store/store_inside.h"

enum { VALUES_ROOM = 32 * QM_PCR_COUNT, VALUES_KEPT = 256 };

/* ---- groups ----------------------------------------------------------------------------------------------------------- */

struct group {
    uint64_t version; /* of the sets; 0: not read */
    unsigned count;
    struct store_set set[QM_SET_MAX];
    uint8_t value[QM_SET_MAX][VALUES_ROOM];
};

/* What is asked for again and again while a hundred thousand instances are gone over. */
struct store_cache {
    struct qm_live_sets live; /* for whoever brings none */
    struct group **group;     /* by number */
    size_t group_room;
    struct {
        uint64_t no; /* 0: free */
        uint32_t mask;
        uint8_t value[VALUES_ROOM];
    } values[VALUES_KEPT];
};

static struct store_cache *cache(struct qm_store *s, struct qm_fault *fault)
{
    if (s->cache == NULL)
        s->cache = calloc(1, sizeof *s->cache);
    if (s->cache == NULL)
        qm_fail(fault, QM_E_NOMEM, 0, "no memory for accepted sets");
    return s->cache;
}

qm_err store_live_sets(struct qm_store *s, struct qm_live_sets **live, struct qm_fault *fault)
{
    struct store_cache *c = cache(s, fault);
    if (c == NULL)
        return QM_E_NOMEM;
    *live = &c->live;
    return c->live.room != NULL ? QM_OK : qm_live_sets_init(&c->live, fault);
}

/* After a rollback numbers may stand for something else. */
void store_cache_stale(struct qm_store *s)
{
    s->sets_version++;
    for (unsigned i = 0; s->cache != NULL && i < VALUES_KEPT; i++)
        s->cache->values[i].no = 0;
}

void store_cache_close(struct qm_store *s)
{
    if (s->cache == NULL)
        return;
    for (size_t i = 0; i < s->cache->group_room; i++)
        free(s->cache->group[i]);
    free(s->cache->group);
    qm_live_sets_close(&s->cache->live);
    free(s->cache);
}

qm_err store_group_no(struct qm_store *s, const char *name, size_t len, bool make, uint32_t *no, struct qm_fault *fault)
{
    uint64_t number = 0;
    bool found;
    *no = 0;
    sqlite3_stmt *st = store_sql(s, "SELECT no FROM grp WHERE name = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, name, (int)len, SQLITE_STATIC);
    qm_err err = store_number(s, st, &number, &found, fault);
    if (err == QM_OK && !found && make) {
        st = store_sql(s, "INSERT INTO grp(name) VALUES(?1)", fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_text(st, 1, name, (int)len, SQLITE_STATIC);
        err = store_run(s, st, fault);
        number = (uint64_t)sqlite3_last_insert_rowid(s->db);
    }
    if (err == QM_OK && number > UINT32_MAX)
        return qm_fail(fault, QM_E_LIMIT, 0, "more groups than can be numbered");
    *no = (uint32_t)number;
    return err;
}

bool store_set_column(sqlite3_stmt *st, int column, struct store_set *out)
{
    const uint64_t vals = (uint64_t)sqlite3_column_int64(st, column + 1);
    const uint64_t mask = (uint64_t)sqlite3_column_int64(st, column + 2);
    *out = (struct store_set){(uint64_t)sqlite3_column_int64(st, column), (uint32_t)vals, (uint32_t)mask,
                              sqlite3_column_blob(st, column + 3)};
    return vals <= UINT32_MAX && mask != 0 && mask >> QM_PCR_COUNT == 0 &&
           sqlite3_column_bytes(st, column + 3) == 32 * __builtin_popcountll(mask);
}

static qm_err damaged_set(struct qm_store *s, struct qm_fault *fault)
{
    return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: the values of an accepted set", s->home);
}

static qm_err read_group_sets(struct qm_store *s, uint32_t group_no, struct group *g, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT b.no, b.vals, v.mask, v.value FROM baseline b CROSS JOIN pcr_values v ON v.no = b.vals"
                                 " WHERE b.grp = ?1 AND b.ended_ms IS NULL AND (b.until_ms IS NULL OR b.until_ms > ?2)"
                                 " ORDER BY b.no DESC",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, group_no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)s->now_ms);
    int rc;
    g->count = 0;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && g->count < QM_SET_MAX) {
        struct store_set *set = &g->set[g->count];
        if (!store_set_column(st, 0, set))
            return damaged_set(s, fault);
        memcpy(g->value[g->count], set->value, 32 * (size_t)__builtin_popcount(set->mask));
        set->value = g->value[g->count++];
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? QM_OK : store_fail(s, fault, "reading the accepted sets");
}

qm_err store_group_sets(struct qm_store *s, uint32_t group_no, const struct store_set **sets, unsigned *count,
                        struct qm_fault *fault)
{
    struct store_cache *c = cache(s, fault);
    if (c == NULL)
        return QM_E_NOMEM;
    if (group_no >= c->group_room) {
        size_t room = qm_align_up((size_t)group_no + 1, 64);
        struct group **bigger = reallocarray(c->group, room, sizeof(struct group *));
        if (bigger == NULL)
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory for accepted sets");
        memset(bigger + c->group_room, 0, (room - c->group_room) * sizeof(struct group *));
        c->group = bigger;
        c->group_room = room;
    }
    struct group *g = c->group[group_no];
    if (g == NULL)
        g = c->group[group_no] = calloc(1, sizeof *g);
    if (g == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for accepted sets");
    *sets = g->set;
    if (g->version != s->sets_version + 1 || !(s->in_transaction || s->snapshot)) {
        g->version = 0;
        qm_err err = read_group_sets(s, group_no, g, fault);
        if (err != QM_OK)
            return err;
        g->version = s->sets_version + 1;
    }
    *count = g->count;
    return QM_OK;
}

/* ---- pairs ------------------------------------------------------------------------------------------------------------ */

/* What is kept of a set's values: those of PCRs in keep, placed at *room. */
static struct store_set keep(const struct store_set *set, uint32_t keep_mask, uint8_t **room)
{
    struct store_set kept = {set->no, set->vals, set->mask & keep_mask, *room};
    const uint8_t *value = set->value;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        if ((set->mask >> pcr & 1) == 0)
            continue;
        if ((kept.mask >> pcr & 1) != 0) {
            memcpy(*room, value, 32);
            *room += 32;
        }
        value += 32;
    }
    return kept;
}

static bool same_values(const struct store_set *a, const struct store_set *b)
{
    return a->mask == b->mask && memcmp(a->value, b->value, 32 * (size_t)__builtin_popcount(a->mask)) == 0;
}

struct pairing {
    unsigned count;
    struct {
        uint64_t newer, older; /* of the sets' numbers */
    } age[QM_SETS_MAX];
    struct qm_table_set *out;
};

/* Puts a pair (either may be NULL) where its age belongs. */
static void put(struct pairing *p, const struct store_set *set, const struct store_set *own)
{
    const uint64_t a = set != NULL ? set->no : own->no, b = own != NULL ? own->no : a;
    const uint64_t newer = a > b ? a : b, older = a > b ? b : a;
    unsigned at = p->count++;
    for (; at != 0 && (p->age[at - 1].newer < newer || (p->age[at - 1].newer == newer && p->age[at - 1].older < older)); at--) {
        p->age[at] = p->age[at - 1];
        p->out[at] = p->out[at - 1];
    }
    p->age[at].newer = newer;
    p->age[at].older = older;
    p->out[at] = (struct qm_table_set){0};
    if (set != NULL) {
        p->out[at].set_no = set->vals;
        p->out[at].mask = set->mask;
        p->out[at].value = set->value;
    }
    if (own != NULL) {
        p->out[at].pair_no = own->vals;
        p->out[at].pair_mask = own->mask;
        p->out[at].pair = own->value;
    }
}

/* What is the instance's own: its instance sets, and that part of whole ones, each once. */
static unsigned own_parts(const struct store_live *live, uint32_t own_mask, uint8_t **room,
                          struct store_set part[2 * QM_SET_MAX])
{
    unsigned count = 0;
    for (unsigned i = 0; i < live->own_count + live->whole_count; i++) {
        const bool whole = i >= live->own_count;
        const struct store_set *from = whole ? &live->whole[i - live->own_count] : &live->own[i];
        if ((from->mask & own_mask) == 0 || (whole && (own_mask & ~from->mask) != 0))
            continue;
        part[count] = keep(from, own_mask, room);
        bool known = false;
        for (unsigned j = 0; j < count; j++)
            known |= same_values(&part[j], &part[count]);
        count += !known;
    }
    return count;
}

unsigned store_pairs(const struct qm_profile *profile, uint32_t class_group, const struct store_live *live,
                     uint8_t room[STORE_PAIRS_ROOM], struct qm_table_set out[QM_SETS_MAX])
{
    struct pairing p = {.out = out};
    struct store_set part[2 * QM_SET_MAX], shared[QM_SET_MAX];
    const uint32_t own_mask = profile->baselined & ~class_group, group_mask = profile->baselined & class_group;
    unsigned shared_count = 0;
    for (unsigned i = 0; i < live->whole_count; i++) {
        struct store_set whole = keep(&live->whole[i], profile->baselined, &room);
        if (whole.mask != 0)
            put(&p, &whole, NULL);
    }
    for (unsigned i = 0; i < live->group_count; i++)
        if ((live->group[i].mask & group_mask) != 0)
            shared[shared_count++] = keep(&live->group[i], group_mask, &room);
    const unsigned parts = own_parts(live, own_mask, &room, part);
    for (unsigned i = 0; i < shared_count; i++) {
        for (unsigned j = 0; j < parts; j++)
            put(&p, &shared[i], &part[j]);
        if (parts == 0)
            put(&p, &shared[i], NULL);
    }
    /* nothing of a group beside them: they can fail the instance, or pass it where all is its own; whole sets stand already */
    for (unsigned i = 0; shared_count == 0 && i < live->own_count; i++) {
        struct store_set own = keep(&live->own[i], own_mask, &room);
        if (own.mask != 0)
            put(&p, NULL, &own);
    }
    return p.count;
}

/* ---- instances -------------------------------------------------------------------------------------------------------- */

#define INSTANCE_SELECT                                                                                                        \
    "SELECT i.slot, i.id, i.grp, g.no, max(i.generation, ifnull(g.generation, 0)), i.ak, i.enrolled_ms, i.require_log,"        \
    " i.nonce IS NOT NULL, i.hold_until_ms, p.content FROM instance i CROSS JOIN profile p ON p.no = i.profile"                \
    " LEFT JOIN grp g ON g.name = i.grp"
enum { I_SLOT, I_ID, I_GROUP, I_GROUP_NO, I_GENERATION, I_AK, I_ENROLLED, I_REQUIRE_LOG, I_NONCE, I_HOLD, I_PROFILE };

static qm_err read_instance(struct qm_store *s, sqlite3_stmt *st, struct qm_instance_row *out, bool *found,
                            struct qm_fault *fault)
{
    const struct qm_policy *policy;
    int rc = sqlite3_step(st);
    *found = rc == SQLITE_ROW;
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading an instance");
    out->slot = (uint64_t)sqlite3_column_int64(st, I_SLOT);
    out->id_len = (size_t)sqlite3_column_bytes(st, I_ID);
    const size_t group_len = (size_t)sqlite3_column_bytes(st, I_GROUP);
    if (out->id_len > QM_ID_MAX || group_len > QM_GROUP_MAX || sqlite3_column_bytes(st, I_PROFILE) != (int)sizeof out->profile)
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: instance row %llu", s->home,
                       (unsigned long long)out->slot);
    memcpy(out->id, sqlite3_column_text(st, I_ID), out->id_len);
    out->id[out->id_len] = '\0';
    if (group_len != 0)
        memcpy(out->group, sqlite3_column_text(st, I_GROUP), group_len);
    out->group[group_len] = '\0';
    out->group_no = (uint32_t)sqlite3_column_int64(st, I_GROUP_NO);
    out->generation = (uint64_t)sqlite3_column_int64(st, I_GENERATION);
    out->ak = (uint32_t)sqlite3_column_int64(st, I_AK);
    out->enrolled_ms = (uint64_t)sqlite3_column_int64(st, I_ENROLLED);
    out->require_log = sqlite3_column_int(st, I_REQUIRE_LOG) != 0;
    out->has_nonce = sqlite3_column_int(st, I_NONCE) != 0;
    out->hold_until_ms = (uint64_t)sqlite3_column_int64(st, I_HOLD);
    memcpy(&out->profile, sqlite3_column_blob(st, I_PROFILE), sizeof out->profile);
    sqlite3_reset(st);
    qm_err err = qm_store_policy(s, out->group, group_len, &policy, fault);
    if (err == QM_OK)
        out->profile.baselined &= ~policy->class_ignored;
    return err;
}

qm_err qm_store_instance(struct qm_store *s, uint64_t slot, struct qm_instance_row *out, bool *found, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, INSTANCE_SELECT " WHERE i.slot = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    return read_instance(s, st, out, found, fault);
}

qm_err qm_store_instance_by_id(struct qm_store *s, const char *id, size_t len, struct qm_instance_row *out, bool *found,
                               struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, INSTANCE_SELECT " WHERE i.id = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, id, (int)len, SQLITE_STATIC);
    return read_instance(s, st, out, found, fault);
}

/* ---- live sets -------------------------------------------------------------------------------------------------------- */

struct image { /* a struct qm_set with room for its composite */
    _Alignas(8) uint8_t bytes[sizeof(struct qm_set) + QM_DIGEST_MAX];
};

struct live_room {
    struct image image[QM_SETS_MAX];
    struct qm_table_set row[QM_SETS_MAX];
    uint8_t stored[2 * QM_SET_MAX][VALUES_ROOM];
    uint8_t pairs[STORE_PAIRS_ROOM];
};

qm_err qm_live_sets_init(struct qm_live_sets *l, struct qm_fault *fault)
{
    *l = (struct qm_live_sets){.room = malloc(sizeof(struct live_room))};
    return l->room != NULL ? QM_OK : qm_fail(fault, QM_E_NOMEM, 0, "no memory for accepted sets");
}

void qm_live_sets_close(struct qm_live_sets *l)
{
    free(l->room);
    l->room = NULL;
}

static qm_err read_own_sets(struct qm_store *s, uint64_t slot, struct store_live *live, uint8_t stored[][VALUES_ROOM],
                            struct qm_fault *fault)
{
    sqlite3_stmt *st =
        store_sql(s,
                  "SELECT b.kind, b.no, b.vals, v.mask, v.value FROM baseline b CROSS JOIN pcr_values v ON v.no = b.vals"
                  " WHERE b.slot = ?1 AND b.ended_ms IS NULL AND (b.until_ms IS NULL OR b.until_ms > ?2)"
                  " ORDER BY b.no DESC",
                  fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)s->now_ms);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const bool whole = sqlite3_column_int(st, 0) == QM_SET_WHOLE;
        unsigned *count = whole ? &live->whole_count : &live->own_count;
        if (*count == QM_SET_MAX)
            continue;
        struct store_set *set = &(whole ? live->whole : live->own)[*count];
        if (!store_set_column(st, 1, set))
            return damaged_set(s, fault);
        uint8_t *to = stored[live->whole_count + live->own_count];
        memcpy(to, set->value, 32 * (size_t)__builtin_popcount(set->mask));
        set->value = to;
        ++*count;
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the accepted sets");
}

static const struct qm_set *make_image(const struct qm_profile *profile, const struct qm_table_set *row, struct image *image)
{
    struct qm_set *set = (struct qm_set *)(void *)image->bytes;
    const uint8_t *value[QM_PCR_COUNT];
    memset(set, 0, sizeof *set);
    set->set_no = row->set_no;
    set->pair_no = row->pair_no;
    set->mask = row->mask | row->pair_mask;
    set->pair_mask = row->pair_mask;
    /* within the one room, so the difference of two pointers */
    set->value_off = row->value != NULL ? row->value - image->bytes : 0;
    set->pair_off = row->pair != NULL ? row->pair - image->bytes : 0;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        value[pcr] = qm_set_value(set, pcr);
    set->composite_size = (uint8_t)qm_set_composite(profile, value, set->composite);
    return set;
}

qm_err qm_live_sets_load(struct qm_store *s, const struct qm_instance_row *row, struct qm_live_sets *l, struct qm_fault *fault)
{
    struct live_room *room = l->room;
    struct store_live live = {0};
    const struct qm_policy *policy;
    l->count = 0;
    qm_err err = read_own_sets(s, row->slot, &live, room->stored, fault);
    if (err == QM_OK && row->group_no != 0)
        err = store_group_sets(s, row->group_no, &live.group, &live.group_count, fault);
    if (err == QM_OK)
        err = qm_store_policy(s, row->group, strlen(row->group), &policy, fault);
    if (err != QM_OK)
        return err;
    l->count = store_pairs(&row->profile, policy->class_group, &live, room->pairs, room->row);
    for (unsigned i = 0; i < l->count; i++)
        l->set[i] = make_image(&row->profile, &room->row[i], &room->image[i]);
    l->whole_count = live.whole_count;
    l->group_count = live.group_count;
    l->instance_count = live.own_count;
    return QM_OK;
}

/* ---- values ----------------------------------------------------------------------------------------------------------- */

int64_t store_values_hash(uint32_t mask, const void *value, size_t len)
{
    return (int64_t)XXH3_64bits_withSeed(value, len, mask);
}

qm_err qm_values_put(struct qm_store *s, uint32_t mask, const uint8_t *const value[QM_PCR_COUNT], uint64_t *values_no,
                     struct qm_fault *fault)
{
    uint8_t bytes[VALUES_ROOM];
    int len = 0;
    bool found;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((mask >> pcr & 1) != 0) {
            memcpy(bytes + len, value[pcr], 32);
            len += 32;
        }
    const int64_t hash = store_values_hash(mask, bytes, (size_t)len);
    sqlite3_stmt *st = store_sql(s, "SELECT no FROM pcr_values WHERE hash = ?3 AND mask = ?1 AND value = ?2", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, mask);
    sqlite3_bind_blob(st, 2, bytes, len, SQLITE_STATIC);
    sqlite3_bind_int64(st, 3, hash);
    qm_err err = store_number(s, st, values_no, &found, fault);
    if (err != QM_OK || found)
        return err;
    st = store_sql(s, "INSERT INTO pcr_values(mask, value, hash) VALUES(?1, ?2, ?3)", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, mask);
    sqlite3_bind_blob(st, 2, bytes, len, SQLITE_STATIC);
    sqlite3_bind_int64(st, 3, hash);
    err = store_run(s, st, fault);
    *values_no = (uint64_t)sqlite3_last_insert_rowid(s->db);
    if (err == QM_OK && *values_no > UINT32_MAX)
        return qm_fail(fault, QM_E_LIMIT, 0, "more values than can be numbered");
    return err;
}

qm_err qm_values_get(struct qm_store *s, uint64_t values_no, uint32_t *mask, uint8_t *values, bool *found,
                     struct qm_fault *fault)
{
    struct store_cache *c = cache(s, fault);
    struct store_set set;
    if (c == NULL)
        return QM_E_NOMEM;
    const unsigned at = (unsigned)(values_no % VALUES_KEPT);
    *found = values_no != 0 && c->values[at].no == values_no;
    if (!*found) {
        sqlite3_stmt *st = store_sql(s, "SELECT 0, no, mask, value FROM pcr_values WHERE no = ?1", fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)values_no);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_DONE) {
            sqlite3_reset(st);
            return QM_OK;
        }
        if (rc != SQLITE_ROW)
            return store_fail(s, fault, "reading values");
        if (!store_set_column(st, 0, &set))
            return damaged_set(s, fault);
        c->values[at].no = values_no;
        c->values[at].mask = set.mask;
        memcpy(c->values[at].value, set.value, 32 * (size_t)__builtin_popcount(set.mask));
        sqlite3_reset(st);
        *found = true;
    }
    *mask = c->values[at].mask;
    memcpy(values, c->values[at].value, 32 * (size_t)__builtin_popcount(*mask));
    return QM_OK;
}

/* ---- new and ended sets ----------------------------------------------------------------------------------------------- */

static qm_err mark_changed(struct qm_store *s, uint64_t slot, uint64_t group_no, struct qm_fault *fault)
{
    sqlite3_stmt *st = group_no != 0 ? store_sql(s, "UPDATE grp SET generation = ?2 WHERE no = ?1", fault)
                                     : store_sql(s, "UPDATE instance SET generation = ?2 WHERE slot = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)(group_no != 0 ? group_no : slot));
    sqlite3_bind_int64(st, 2, (sqlite3_int64)s->generation);
    s->changed = true;
    s->sets_version++;
    return store_run(s, st, fault);
}

/* Live sets of the kind and owner: is one of these values, how many are there, and which, as text. */
static qm_err survey(struct qm_store *s, const struct qm_set_new *set, uint64_t values_no, uint64_t *same, unsigned *count,
                     char *list, size_t cap, struct qm_fault *fault)
{
    const bool group = set->kind == QM_SET_GROUP;
    sqlite3_stmt *st =
        group ? store_sql(s,
                          "SELECT no, vals, until_ms FROM baseline WHERE grp = ?1 AND kind = ?2 AND ended_ms IS NULL"
                          " AND (until_ms IS NULL OR until_ms > ?3) ORDER BY no",
                          fault)
              : store_sql(s,
                          "SELECT no, vals, until_ms FROM baseline WHERE slot = ?1 AND kind = ?2 AND ended_ms IS NULL"
                          " AND (until_ms IS NULL OR until_ms > ?3) ORDER BY no",
                          fault);
    size_t used = 0;
    *same = 0;
    *count = 0;
    list[0] = '\0';
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, group ? (sqlite3_int64)set->group_no : (sqlite3_int64)set->slot);
    sqlite3_bind_int(st, 2, (int)set->kind);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)s->now_ms);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const uint64_t no = (uint64_t)sqlite3_column_int64(st, 0);
        /* one that ends earlier than the new one does not stand for it */
        const uint64_t until = sqlite3_column_type(st, 2) == SQLITE_NULL ? UINT64_MAX : (uint64_t)sqlite3_column_int64(st, 2);
        if ((uint64_t)sqlite3_column_int64(st, 1) == values_no && until >= (set->until_ms != 0 ? set->until_ms : UINT64_MAX))
            *same = no;
        int n = snprintf(list + used, cap - used, "%s%llu", used != 0 ? ", " : "", (unsigned long long)no);
        used += n > 0 && (size_t)n < cap - used ? (size_t)n : 0;
        ++*count;
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the accepted sets");
}

static qm_err insert_set(struct qm_store *s, const struct qm_set_new *set, uint64_t values_no, uint64_t *no,
                         struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "INSERT INTO baseline(kind, slot, grp, vals, origin, who, why, alert, run, since_ms, until_ms)"
                                 " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, nullif(?8, 0), nullif(?9, 0), ?10, nullif(?11, 0))",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int(st, 1, (int)set->kind);
    if (set->kind == QM_SET_GROUP)
        sqlite3_bind_int64(st, 3, set->group_no);
    else
        sqlite3_bind_int64(st, 2, (sqlite3_int64)set->slot);
    sqlite3_bind_int64(st, 4, (sqlite3_int64)values_no);
    sqlite3_bind_text(st, 5, set->origin, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 6, s->who, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 7, set->why, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 8, (sqlite3_int64)set->alert);
    sqlite3_bind_int64(st, 9, (sqlite3_int64)set->run);
    sqlite3_bind_int64(st, 10, (sqlite3_int64)s->now_ms);
    sqlite3_bind_int64(st, 11, (sqlite3_int64)set->until_ms);
    qm_err err = store_run(s, st, fault);
    *no = (uint64_t)sqlite3_last_insert_rowid(s->db);
    return err;
}

qm_err qm_set_add(struct qm_store *s, const struct qm_set_new *set, uint64_t *no, bool *added, struct qm_fault *fault)
{
    static const uint32_t anybody = 1u << 16 | 1u << 23; /* reset by anybody */
    char list[256];
    uint64_t values_no;
    unsigned count;
    *added = false;
    if ((set->mask & anybody) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "PCRs 16 and 23 cannot be baselined: anybody resets them");
    if (set->mask == 0 || set->mask >> QM_PCR_COUNT != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "a set with no PCR says nothing");
    qm_err err = qm_values_put(s, set->mask, set->value, &values_no, fault);
    if (err == QM_OK)
        err = survey(s, set, values_no, no, &count, list, sizeof list, fault);
    if (err != QM_OK || *no != 0)
        return err;
    if (count >= QM_SET_MAX)
        return qm_fail(fault, QM_E_LIMIT, 0,
                       "the %s has %d live accepted sets already (%s): which is to end? see quotemill baseline retire",
                       set->kind == QM_SET_GROUP ? "group" : "instance", QM_SET_MAX, list);
    err = insert_set(s, set, values_no, no, fault);
    if (err == QM_OK)
        err = mark_changed(s, set->slot, set->kind == QM_SET_GROUP ? set->group_no : 0, fault);
    *added = err == QM_OK;
    return err;
}

/* Whose it was: slot or group_no, the other 0; both 0: no set of that number lives. */
static qm_err end_set(struct qm_store *s, uint64_t no, uint64_t at_ms, const char *why, uint64_t *slot, uint32_t *group_no,
                      struct qm_fault *fault)
{
    sqlite3_stmt *st =
        store_sql(s, "SELECT ifnull(slot, 0), ifnull(grp, 0) FROM baseline WHERE no = ?1 AND ended_ms IS NULL", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return store_fail(s, fault, "reading an accepted set");
    *slot = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    *group_no = rc == SQLITE_ROW ? (uint32_t)sqlite3_column_int64(st, 1) : 0;
    sqlite3_reset(st);
    if (rc != SQLITE_ROW)
        return QM_OK;
    st = store_sql(s, "UPDATE baseline SET ended_ms = ?2, ended_who = ?3, ended_why = ?4 WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)at_ms);
    sqlite3_bind_text(st, 3, s->who, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 4, why, -1, SQLITE_STATIC);
    qm_err err = store_run(s, st, fault);
    return err == QM_OK ? mark_changed(s, *slot, *group_no, fault) : err;
}

qm_err qm_set_end(struct qm_store *s, uint64_t no, const char *why, bool *found, struct qm_fault *fault)
{
    uint64_t slot;
    uint32_t group_no;
    qm_err err = end_set(s, no, s->now_ms, why, &slot, &group_no, fault);
    *found = err == QM_OK && (slot != 0 || group_no != 0);
    return err;
}

/* The live set of an instance that a ledger entry names; 0: none is there any more. */
static qm_err named_set(struct qm_store *s, uint64_t slot, const struct qm_ledger *entry, uint64_t *no, bool *fresh,
                        struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT no, passed_ms IS NULL FROM baseline WHERE slot = ?1 AND vals = ?2 AND ended_ms IS NULL"
                                 " ORDER BY no DESC LIMIT 1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    sqlite3_bind_int64(st, 2, entry->set_b != 0 ? entry->set_b : entry->set_a);
    int rc = sqlite3_step(st);
    *no = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    *fresh = rc == SQLITE_ROW && sqlite3_column_int(st, 1) != 0;
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the accepted sets");
}

qm_err qm_sets_keep_old(struct qm_store *s, uint64_t slot, const struct qm_ledger *entry, uint64_t keep_old_ms, uint64_t *ended,
                        struct qm_fault *fault)
{
    uint64_t no;
    bool fresh;
    *ended = 0;
    qm_err err = named_set(s, slot, entry, &no, &fresh, fault);
    if (err != QM_OK || no == 0)
        return err;
    if (fresh) {
        sqlite3_stmt *st = store_sql(s, "UPDATE baseline SET passed_ms = ?2 WHERE no = ?1", fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
        sqlite3_bind_int64(st, 2, (sqlite3_int64)s->now_ms);
        return store_run(s, st, fault);
    }
    sqlite3_stmt *st =
        store_sql(s,
                  "UPDATE baseline SET ended_ms = ?3, ended_who = ?4, ended_why = 'keep_old' WHERE slot = ?1 AND no < ?2"
                  " AND ended_ms IS NULL AND (SELECT passed_ms FROM baseline WHERE no = ?2) <= ?3 - ?5",
                  fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)no);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)s->now_ms);
    sqlite3_bind_text(st, 4, s->who, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 5, (sqlite3_int64)keep_old_ms);
    err = store_run(s, st, fault);
    *ended = err == QM_OK ? (uint64_t)sqlite3_changes64(s->db) : 0;
    return err == QM_OK && *ended != 0 ? mark_changed(s, slot, 0, fault) : err;
}

static qm_err expire_one(struct qm_store *s, bool *found, struct qm_fault *fault)
{
    struct qm_rejudged r;
    uint64_t no = 0, until_ms = 0, slot;
    uint32_t group_no;
    sqlite3_stmt *st =
        store_sql(s, "SELECT no, until_ms FROM baseline WHERE until_ms <= ?1 AND ended_ms IS NULL LIMIT 1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    int rc = sqlite3_step(st);
    *found = rc == SQLITE_ROW;
    if (*found) {
        no = (uint64_t)sqlite3_column_int64(st, 0);
        until_ms = (uint64_t)sqlite3_column_int64(st, 1);
    }
    sqlite3_reset(st);
    if (!*found)
        return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the accepted sets");
    qm_err err = end_set(s, no, until_ms, "until", &slot, &group_no, fault);
    if (err != QM_OK)
        return err;
    return slot != 0 ? qm_store_rejudge(s, slot, NULL, &r, fault) : qm_store_rejudge_group(s, group_no, NULL, NULL, fault);
}

qm_err qm_sets_expire(struct qm_store *s, uint64_t *count, struct qm_fault *fault)
{
    bool found = true;
    qm_err err = QM_OK;
    *count = 0;
    while (err == QM_OK && found) {
        err = expire_one(s, &found, fault);
        *count += err == QM_OK && found;
    }
    return err;
}
