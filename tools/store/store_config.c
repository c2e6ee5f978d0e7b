#include "tools/store/store_config.h"

#include <stdio.h>
#include <stdlib.h>

#include "codec/result.h"
#include "codec/text.h"
#include "tools/store/store_inside.h"
#include "tools/store/store_sets.h"

enum kind { K_LEARN, K_FRESHNESS, K_DURATION, K_BYTES, K_PCRS, K_NAME, K_PATH, K_STAGE };
enum { VALUE_MAX = 256, BUCKETS = 256 };

#define AT(field) offsetof(struct qm_policy, field)

/* In the order of config list. A PCR that is in neither instance_pcrs nor ignored_pcrs is the group's: class_group is settled
 * when all is read (until then it holds instance_pcrs). */
static const struct key {
    const char *name, *value; /* the default */
    enum kind kind;
    size_t at; /* in struct qm_policy */
    bool home_only, in_table;
    const char *help;
} keys[] = {
    {"learn", "first", K_LEARN, AT(learn), false, false,
     "first: an instance without a baseline learns one from its first proven record; never"},
    {"learn_within", "7d", K_DURATION, AT(learn_within_ms), false, false,
     "how long after enrolment an instance may learn; off: at any time"},
    {"unmeasured_after", "24h", K_DURATION, AT(unmeasured_after_ms), false, false,
     "silent for so long, an instance is unmeasured; off: never"},
    {"lag_after", "6h", K_DURATION, AT(lag_after_ms), false, false,
     "records that fall so far behind within a boot raise held_back; off: never"},
    {"keep_old", "off", K_DURATION, AT(keep_old_ms), false, false,
     "so long after an instance first passed on a newer set its older ones end; off: they stay"},
    {"freshness", "clock", K_FRESHNESS, AT(freshness), false, true,
     "beacon: a quote without a live beacon or an enrolled nonce is stale_nonce; clock"},
    {"retire_after", "off", K_DURATION, AT(retire_after_ms), false, false,
     "silent for so long, an instance is taken out; off: never"},
    {"instance_pcrs", "1,5,6", K_PCRS, AT(class_group), false, true, "PCRs that differ from machine to machine of a group"},
    {"ignored_pcrs", "none", K_PCRS, AT(class_ignored), false, true, "PCRs of a group's machines that are not compared"},
    {"beacon_period", "1h", K_DURATION, AT(beacon_period_ms), true, false, "how often beacon rotate is to be called"},
    {"beacon_life", "3h", K_DURATION, AT(beacon_life_ms), true, false, "how long a beacon is accepted after it was made"},
    {"held_keep", "24h", K_DURATION, AT(held_keep_ms), true, false, "how long evidence of unknown instances is kept"},
    {"held_max", "256M", K_BYTES, AT(held_max_bytes), true, false, "bytes of such evidence"},
    {"quarantine_keep", "30d", K_DURATION, AT(quarantine_keep_ms), true, false,
     "how long quarantined files are kept; off: as long as there is room"},
    {"quarantine_max", "1G", K_BYTES, AT(quarantine_max_bytes), true, false, "bytes of quarantined files"},
    {"archive_keep", "30d", K_DURATION, AT(archive_keep_ms), true, false,
     "how long archived files are kept; off: as long as there is room"},
    {"archive_max", "100G", K_BYTES, AT(archive_max_bytes), true, false, "bytes of archived files"},
    {"results_keep", "30d", K_DURATION, AT(results_keep_ms), true, false,
     "how long results are kept; off: as long as there is room"},
    {"results_max", "10G", K_BYTES, AT(results_max_bytes), true, false, "bytes of results"},
    {"history_keep", "400d", K_DURATION, AT(history_keep_ms), true, false,
     "how long closed alerts, runs, what was done to the home, and retired machines are kept; off: for ever"},
    {"metrics", "", K_PATH, AT(metrics), true, false,
     "the file that a run writes for Prometheus; none; empty: HOME/metrics/quotemill.prom"},
    {"name", "", K_NAME, AT(name), true, false, "of the home: stands in results, alerts and metrics"},
};

struct policy {
    struct policy *next;
    char group[QM_GROUP_MAX + 1];
    uint64_t version; /* of the configuration that it was read from */
    struct qm_policy policy;
};

struct store_policies {
    struct policy *bucket[BUCKETS];
};

/* ---- values ----------------------------------------------------------------------------------------------------------- */

/* Digits, then one of units (each worth factor[i]), or none (worth none). */
static bool number_read(const char *text, const char *units, const uint64_t *factor, uint64_t none, uint64_t *out)
{
    uint64_t n = 0;
    const char *p = text;
    if (strcmp(text, "off") == 0) {
        *out = 0;
        return true;
    }
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return false;
    const char *unit = *p != '\0' ? strchr(units, *p) : NULL;
    if (p == text || (*p != '\0' && (unit == NULL || p[1] != '\0')))
        return false;
    return !__builtin_mul_overflow(n, unit != NULL ? factor[unit - units] : none, out) && *out <= INT64_MAX;
}

bool qm_duration_read(const char *text, uint64_t *ms)
{
    static const uint64_t factor[] = {1000, 60000, 3600000, 24 * 3600000ull, 7 * 24 * 3600000ull};
    return number_read(text, "smhdw", factor, 1000, ms);
}

static bool bytes_read(const char *text, uint64_t *bytes)
{
    static const uint64_t factor[] = {1 << 10, 1 << 20, 1 << 30, 1ull << 40};
    return number_read(text, "KMGT", factor, 1, bytes);
}

/* "0,2-4,7", or "none". */
static bool pcrs_read(const char *text, uint32_t *mask)
{
    *mask = 0;
    if (strcmp(text, "none") == 0 || text[0] == '\0')
        return true;
    for (const char *p = text;;) {
        unsigned bound[2] = {0, 0};
        for (unsigned i = 0; i < 2; i++) {
            if (*p < '0' || *p > '9')
                return false;
            while (*p >= '0' && *p <= '9' && bound[i] < QM_PCR_COUNT)
                bound[i] = 10 * bound[i] + (unsigned)(*p++ - '0');
            if (*p != '-' || i == 1) {
                bound[1] = i == 0 ? bound[0] : bound[1];
                break;
            }
            p++;
        }
        if (bound[1] >= QM_PCR_COUNT || bound[0] > bound[1])
            return false;
        for (unsigned pcr = bound[0]; pcr <= bound[1]; pcr++)
            *mask |= 1u << pcr;
        if (*p == '\0')
            return true;
        if (*p++ != ',')
            return false;
    }
}

/* Text for one line: no control characters, UTF-8, shorter than cap; may be empty. */
static bool text_read(const char *text, char *to, size_t cap)
{
    const struct qm_span s = {(const uint8_t *)text, strlen(text)};
    if (s.len >= cap || (s.len != 0 && !qm_id_ok(s)))
        return false;
    memcpy(to, text, s.len + 1);
    return true;
}

static bool value_read(const struct key *k, const char *text, struct qm_policy *p)
{
    void *to = (char *)p + k->at;
    switch (k->kind) {
    case K_LEARN:
        p->learn = strcmp(text, "never") == 0 ? QM_LEARN_NEVER : QM_LEARN_FIRST;
        return p->learn == QM_LEARN_NEVER || strcmp(text, "first") == 0;
    case K_FRESHNESS:
        p->freshness = strcmp(text, "beacon") == 0 ? QM_FRESHNESS_BEACON : QM_FRESHNESS_CLOCK;
        return p->freshness == QM_FRESHNESS_BEACON || strcmp(text, "clock") == 0;
    case K_DURATION:
        return qm_duration_read(text, to);
    case K_BYTES:
        return bytes_read(text, to);
    case K_PCRS:
        return pcrs_read(text, to);
    case K_NAME:
        return text_read(text, to, sizeof p->name);
    case K_PATH:
        return text_read(text, to, sizeof p->metrics) && (text[0] == '\0' || text[0] == '/' || strcmp(text, "none") == 0);
    case K_STAGE:
        return text_read(text, to, sizeof p->stage_name[0]);
    }
    return false;
}

static const char *wants(enum kind k)
{
    static const char *const text[] = {
        [K_LEARN] = "first or never",
        [K_FRESHNESS] = "clock or beacon",
        [K_DURATION] = "a time as 90s, 15m, 6h, 7d, 2w, or off",
        [K_BYTES] = "a size as 64M or 10G, or off",
        [K_PCRS] = "PCRs as 0,2-4,7, or none",
        [K_NAME] = "a text of at most 127 bytes without control characters",
        [K_PATH] = "a path of at most 127 bytes that begins with /, or none",
        [K_STAGE] = "a text of at most 63 bytes without control characters",
    };
    return text[k];
}

/* The key of that name; stage.N is made in *stage. NULL: there is none. */
static const struct key *key_find(const char *name, struct key *stage)
{
    for (size_t i = 0; i < QM_COUNT(keys); i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        char text[16];
        snprintf(text, sizeof text, "stage.%u", pcr);
        if (strcmp(text, name) != 0)
            continue;
        *stage = (struct key){name,
                              qm_stage_name(pcr),
                              K_STAGE,
                              AT(stage_name) + pcr * sizeof((struct qm_policy *)0)->stage_name[0],
                              true,
                              false,
                              "what a boot stage is called"};
        return stage;
    }
    return NULL;
}

/* ---- reading ---------------------------------------------------------------------------------------------------------- */

/* What of the group's scope, then of the home's, says about the key; *from "default" where neither does. value may be NULL. */
static qm_err lookup(struct qm_store *s, const char *group, const struct key *k, char value[VALUE_MAX], const char **from,
                     struct qm_fault *fault)
{
    const char *scope = k->home_only ? "" : group;
    snprintf(value, VALUE_MAX, "%s", k->value);
    *from = "default";
    for (;;) {
        sqlite3_stmt *st = store_sql(s, "SELECT value FROM config WHERE scope = ?1 AND key = ?2", fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_text(st, 1, scope, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 2, k->name, -1, SQLITE_STATIC);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            snprintf(value, VALUE_MAX, "%s", (const char *)sqlite3_column_text(st, 0));
            *from = scope[0] != '\0' ? "group" : "home";
        }
        sqlite3_reset(st);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            return store_fail(s, fault, "reading policies");
        if (rc == SQLITE_ROW || scope[0] == '\0')
            return QM_OK;
        scope = "";
    }
}

static qm_err read_key(struct qm_store *s, const char *group, const struct key *k, struct qm_policy *p, struct qm_fault *fault)
{
    char value[VALUE_MAX];
    const char *from;
    qm_err err = lookup(s, group, k, value, &from, fault);
    if (err != QM_OK || (k->kind == K_STAGE && strcmp(from, "default") == 0))
        return err;
    if (!value_read(k, value, p))
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: policy %s is '%.64s'", s->home, k->name, value);
    return QM_OK;
}

static qm_err read_policy(struct qm_store *s, const char *group, struct qm_policy *p, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    *p = (struct qm_policy){0};
    for (size_t i = 0; err == QM_OK && i < QM_COUNT(keys); i++)
        err = read_key(s, group, &keys[i], p, fault);
    for (unsigned pcr = 0; err == QM_OK && pcr < QM_PCR_COUNT; pcr++) {
        char name[16];
        struct key stage;
        snprintf(name, sizeof name, "stage.%u", pcr);
        err = read_key(s, group, key_find(name, &stage), p, fault);
    }
    const uint32_t all = (1u << QM_PCR_COUNT) - 1;
    p->class_group = all & ~p->class_group & ~p->class_ignored;
    if (group[0] == '\0')
        p->class_group = p->class_ignored = 0;
    return err;
}

qm_err qm_store_policy(struct qm_store *s, const char *group, size_t group_len, const struct qm_policy **out,
                       struct qm_fault *fault)
{
    uint32_t hash = 0x811c9dc5;
    for (size_t i = 0; i < group_len; i++)
        hash = (hash ^ (uint8_t)group[i]) * 0x01000193;
    if (s->policies == NULL)
        s->policies = calloc(1, sizeof *s->policies);
    if (s->policies == NULL || group_len > QM_GROUP_MAX)
        return qm_fail(fault, s->policies == NULL ? QM_E_NOMEM : QM_E_REFUSED, 0, "no policies of this group can be read");
    struct policy **first = &s->policies->bucket[(hash ^ hash >> 16) % BUCKETS], *p = *first;
    while (p != NULL && (strlen(p->group) != group_len || memcmp(p->group, group, group_len) != 0))
        p = p->next;
    if (p == NULL) {
        p = calloc(1, sizeof *p);
        if (p == NULL)
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory for policies");
        memcpy(p->group, group, group_len);
        p->version = STORE_CONFIG_STALE;
        p->next = *first;
        *first = p;
    }
    *out = &p->policy;
    if (p->version == s->config_version)
        return QM_OK;
    qm_err err = read_policy(s, p->group, &p->policy, fault);
    p->version = err == QM_OK ? s->config_version : STORE_CONFIG_STALE;
    return err;
}

void store_config_stale(struct qm_store *s)
{
    for (unsigned i = 0; s->policies != NULL && i < BUCKETS; i++)
        for (struct policy *p = s->policies->bucket[i]; p != NULL; p = p->next)
            p->version = STORE_CONFIG_STALE;
}

void store_config_close(struct qm_store *s)
{
    for (unsigned i = 0; s->policies != NULL && i < BUCKETS; i++)
        while (s->policies->bucket[i] != NULL) {
            struct policy *p = s->policies->bucket[i];
            s->policies->bucket[i] = p->next;
            free(p);
        }
    free(s->policies);
}

qm_err qm_store_config_each(struct qm_store *s, const char *group, qm_config_visit visit, void *ctx, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < QM_COUNT(keys) + QM_PCR_COUNT; i++) {
        char value[VALUE_MAX], name[16];
        struct key stage;
        const struct key *k = i < QM_COUNT(keys) ? &keys[i] : NULL;
        const char *from;
        if (k == NULL) {
            snprintf(name, sizeof name, "stage.%zu", i - QM_COUNT(keys));
            k = key_find(name, &stage);
        }
        if (group[0] != '\0' && k->home_only)
            continue;
        err = lookup(s, group, k, value, &from, fault);
        if (err == QM_OK)
            visit(ctx, k->name, value, from, k->help);
    }
    return err;
}

qm_err qm_store_config_set_by(struct qm_store *s, const char *group, const char *key, char who[64], uint64_t *since_ms,
                              struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT who, since_ms FROM config WHERE scope = ?1 AND key = ?2", fault);
    who[0] = '\0';
    *since_ms = 0;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, group, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, key, -1, SQLITE_STATIC);
    const int rc = sqlite3_step(st);
    qm_err err = rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading who set a policy");
    if (rc == SQLITE_ROW) {
        snprintf(who, 64, "%s", (const char *)sqlite3_column_text(st, 0));
        *since_ms = (uint64_t)sqlite3_column_int64(st, 1);
    }
    sqlite3_reset(st);
    return err;
}

/* ---- setting ---------------------------------------------------------------------------------------------------------- */

static qm_err write_value(struct qm_store *s, const char *group, const struct key *k, const char *value, struct qm_fault *fault)
{
    sqlite3_stmt *st = value == NULL
                           ? store_sql(s, "DELETE FROM config WHERE scope = ?1 AND key = ?2", fault)
                           : store_sql(s,
                                       "INSERT INTO config(scope, key, value, who, since_ms) VALUES(?1, ?2, ?3, ?4, ?5)"
                                       " ON CONFLICT(scope, key) DO UPDATE SET value = excluded.value, who = excluded.who,"
                                       " since_ms = excluded.since_ms",
                                       fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, group, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, k->name, -1, SQLITE_STATIC);
    if (value != NULL) {
        sqlite3_bind_text(st, 3, value, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 4, s->who, -1, SQLITE_STATIC);
        sqlite3_bind_int64(st, 5, (sqlite3_int64)s->now_ms);
    }
    qm_err err = store_run(s, st, fault);
    if (err == QM_OK)
        err = store_exec(s, "INSERT INTO meta VALUES('config', 1) ON CONFLICT(key) DO UPDATE SET value = value + 1", fault);
    s->config_version++;
    return err;
}

static qm_err complain_cross(const struct qm_policy *p, struct qm_fault *fault)
{
    if (p->beacon_period_ms == 0 || p->beacon_life_ms < p->beacon_period_ms)
        return qm_fail(fault, QM_E_REFUSED, 0, "beacon_life is to be at least beacon_period, and neither off");
    if (p->beacon_life_ms > (QM_BEACONS_MAX - 1) * p->beacon_period_ms)
        return qm_fail(fault, QM_E_REFUSED, 0, "beacon_life is to be at most %d times beacon_period", QM_BEACONS_MAX - 1);
    return QM_OK;
}

/* Is there an instance, of this group or of all ("" ), that would have nothing left to compare? */
static qm_err check_ignored(struct qm_store *s, const char *group, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT i.grp, p.content, min(i.id) FROM instance i JOIN profile p ON p.no = i.profile"
                                 " WHERE i.grp IS NOT NULL AND (?1 = '' OR i.grp = ?1) GROUP BY i.grp, i.profile",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, group, -1, SQLITE_STATIC);
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const struct qm_policy *p;
        struct qm_profile profile;
        err = qm_store_policy(s, (const char *)sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0), &p, fault);
        if (err == QM_OK && sqlite3_column_bytes(st, 1) != (int)sizeof profile)
            err = qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: a profile", s->home);
        if (err != QM_OK)
            break;
        memcpy(&profile, sqlite3_column_blob(st, 1), sizeof profile);
        if ((profile.baselined & ~p->class_ignored) == 0)
            err = qm_fail(fault, QM_E_REFUSED, 0, "instance '%.128s' would have no PCR left that is compared",
                          (const char *)sqlite3_column_text(st, 2));
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(s, fault, "reading the instances");
    sqlite3_reset(st);
    return err;
}

qm_err qm_store_config_set(struct qm_store *s, const char *group, const char *key, const char *value, struct qm_fault *fault)
{
    struct key stage;
    struct qm_policy scratch = {0};
    const struct key *k = key_find(key, &stage);
    const struct qm_policy *home;
    if (k == NULL)
        return qm_fail(fault, QM_E_REFUSED, 0, "there is no policy '%.64s'; see quotemill config list", key);
    if (group[0] != '\0' && k->home_only)
        return qm_fail(fault, QM_E_REFUSED, 0, "%s is the home's alone", k->name);
    if (strlen(group) > QM_GROUP_MAX ||
        (group[0] != '\0' && !qm_id_ok((struct qm_span){(const uint8_t *)group, strlen(group)})))
        return qm_fail(fault, QM_E_REFUSED, 0, "the group is not 1 to %d bytes of text without control characters",
                       QM_GROUP_MAX);
    if (value != NULL && (strlen(value) >= VALUE_MAX || !value_read(k, value, &scratch)))
        return qm_fail(fault, QM_E_REFUSED, 0, "%s wants %s, not '%.64s'", k->name, wants(k->kind), value);
    qm_err err = write_value(s, group, k, value, fault);
    if (err == QM_OK)
        err = qm_store_policy(s, "", 0, &home, fault);
    if (err == QM_OK)
        err = complain_cross(home, fault);
    if (err == QM_OK && k->kind == K_PCRS)
        err = check_ignored(s, group, fault);
    if (err == QM_OK && k->in_table)
        err = store_group_changed(s, group, k->kind == K_PCRS, fault);
    if (err != QM_OK)
        return err;
    char what[VALUE_MAX + 64];
    snprintf(what, sizeof what, "config %s=%s", k->name, value != NULL ? value : "(default)");
    return store_journal(s, what, group, NULL, fault);
}
