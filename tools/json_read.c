#include "tools/json_read.h"

#include <limits.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "codec/text.h"

struct qm_json {
    sqlite3 *db;
    sqlite3_stmt *check;
    sqlite3_stmt *each[QM_JSON_DEPTH_MAX];
    size_t depth;
};

static qm_err store_failed(struct qm_json *json, struct qm_fault *fault)
{
    return qm_fail(fault, QM_E_STORE, 0, "reading JSON: %s", sqlite3_errmsg(json->db));
}

qm_err qm_json_open(struct qm_json **out, struct qm_fault *fault)
{
    struct qm_json *json = calloc(1, sizeof *json);
    *out = NULL;
    if (json == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    if (sqlite3_open_v2(":memory:", &json->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        sqlite3_prepare_v3(json->db,
                           "SELECT CASE WHEN json_valid(?1) THEN json_type(?1) = ?2 ELSE 0 END", -1,
                           SQLITE_PREPARE_PERSISTENT, &json->check, NULL) != SQLITE_OK) {
        qm_err err = store_failed(json, fault);
        qm_json_close(json);
        return err;
    }
    *out = json;
    return QM_OK;
}

void qm_json_close(struct qm_json *json)
{
    if (json == NULL)
        return;
    for (size_t i = 0; i < QM_JSON_DEPTH_MAX; i++)
        sqlite3_finalize(json->each[i]);
    sqlite3_finalize(json->check);
    sqlite3_close(json->db);
    free(json);
}

/* SQLite's JSON functions stop at a NUL, whether it stands in the text or is written \u0000 in a
 * string: an id could be read as another one. */
static bool has_nul(const char *text, size_t len)
{
    if (memchr(text, 0, len) != NULL)
        return true;
    for (size_t i = 0; i + 1 < len; i++) {
        if (text[i] != '\\')
            continue;
        i++; /* the escaped character, so that \\u0000 is no NUL */
        if (text[i] == 'u' && len - i > 4 && memcmp(text + i + 1, "0000", 4) == 0)
            return true;
    }
    return false;
}

static qm_err check_text(struct qm_json *json, enum qm_json_kind kind, const char *text, size_t len,
                         struct qm_fault *fault)
{
    if (len > INT_MAX)
        return qm_fail(fault, QM_E_REFUSED, 0, "longer than JSON is read");
    if (has_nul(text, len))
        return qm_fail(fault, QM_E_REFUSED, 0, "a NUL in JSON");
    if (!qm_utf8_ok((struct qm_span){(const uint8_t *)text, len}))
        return qm_fail(fault, QM_E_REFUSED, 0, "no UTF-8");
    sqlite3_stmt *s = json->check;
    const char *name = kind == QM_JSON_ARRAY ? "array" : "object";
    sqlite3_bind_text(s, 1, text, (int)len, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, name, -1, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    bool good = rc == SQLITE_ROW && sqlite3_column_int(s, 0) == 1;
    qm_err err = good               ? QM_OK
                 : rc == SQLITE_ROW ? qm_fail(fault, QM_E_REFUSED, 0, "no JSON %s", name)
                                    : store_failed(json, fault);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return err;
}

static struct qm_span column_span(sqlite3_stmt *s, int column)
{
    const uint8_t *p = sqlite3_column_text(s, column);
    return (struct qm_span){p, p != NULL ? (size_t)sqlite3_column_bytes(s, column) : 0};
}

/* A text that was found valid, gone through member by member. */
struct members {
    const char *p, *end;
};

static struct qm_span next_member(struct members *m)
{
    const char *from = m->p;
    unsigned depth = 0;
    bool in_string = false;
    for (; m->p < m->end; m->p++) {
        const char c = *m->p;
        if (in_string && c == '\\')
            m->p++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            depth++;
        else if (!in_string && (c == '}' || c == ']' || c == ',') && depth == 0)
            break;
        else if (!in_string && (c == '}' || c == ']'))
            depth--;
    }
    const size_t len = (size_t)((m->p < m->end ? m->p : m->end) - from);
    m->p += m->p < m->end; /* the comma */
    return (struct qm_span){(const uint8_t *)from, len};
}

/* The digits that end a member, as a number of 2^63 to 2^64 - 1; else 0. */
static uint64_t last_whole(struct qm_span member)
{
    size_t end = member.len;
    while (end != 0 && strchr(" \t\r\n", member.p[end - 1]) != NULL)
        end--;
    size_t from = end;
    while (from != 0 && member.p[from - 1] >= '0' && member.p[from - 1] <= '9')
        from--;
    uint64_t n = 0;
    if (from != 0 && member.p[from - 1] == '-')
        return 0;
    for (; from < end; from++)
        if (__builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, (uint64_t)(member.p[from] - '0'), &n))
            return 0;
    return n > INT64_MAX ? n : 0;
}

static void read_item(sqlite3_stmt *s, struct qm_json_item *item)
{
    static const struct {
        const char *name;
        enum qm_json_kind kind;
    } kinds[] = {{"null", QM_JSON_NULL},   {"true", QM_JSON_BOOL},    {"false", QM_JSON_BOOL},
                 {"integer", QM_JSON_INT}, {"real", QM_JSON_REAL},    {"text", QM_JSON_TEXT},
                 {"array", QM_JSON_ARRAY}, {"object", QM_JSON_OBJECT}};
    *item = (struct qm_json_item){.kind = QM_JSON_NULL};
    if (sqlite3_column_type(s, 0) == SQLITE_TEXT)
        item->key = column_span(s, 0);
    const char *type = (const char *)sqlite3_column_text(s, 1);
    for (size_t i = 0; type != NULL && i < QM_COUNT(kinds); i++)
        if (strcmp(type, kinds[i].name) == 0)
            item->kind = kinds[i].kind;
    /* an integer beyond 63 bits comes as a float, which has 53 */
    item->whole = item->kind == QM_JSON_INT && sqlite3_column_type(s, 2) != SQLITE_INTEGER;
    if (item->whole != 0)
        item->kind = QM_JSON_REAL;
    if (item->kind == QM_JSON_INT || item->kind == QM_JSON_BOOL)
        item->number = sqlite3_column_int64(s, 2);
    else if (item->kind == QM_JSON_REAL)
        item->real = sqlite3_column_double(s, 2);
    else if (item->kind != QM_JSON_NULL)
        item->text = column_span(s, 2);
}

qm_err qm_json_each(struct qm_json *json, enum qm_json_kind kind, const char *text, size_t len,
                    qm_json_visit visit, void *user, struct qm_fault *fault)
{
    if (json->depth == QM_JSON_DEPTH_MAX)
        return qm_fail(fault, QM_E_REFUSED, 0, "JSON nested too deep");
    qm_err err = check_text(json, kind, text, len, fault);
    if (err != QM_OK)
        return err;
    sqlite3_stmt **slot = &json->each[json->depth];
    if (*slot == NULL && sqlite3_prepare_v3(json->db, "SELECT key, type, value FROM json_each(?1)",
                                            -1, SQLITE_PREPARE_PERSISTENT, slot, NULL) != SQLITE_OK)
        return store_failed(json, fault);
    sqlite3_stmt *s = *slot;
    json->depth++;
    sqlite3_bind_text(s, 1, text, (int)len, SQLITE_STATIC);
    int rc;
    struct members members = {memchr(text, kind == QM_JSON_ARRAY ? '[' : '{', len), text + len};
    size_t behind = 0; /* members that SQLite gave and next_member did not yet: it is asked where there is need */
    members.p++;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW && err == QM_OK) {
        struct qm_json_item item;
        read_item(s, &item);
        behind++;
        if (item.whole != 0)
            for (; behind != 0; behind--)
                item.whole = last_whole(next_member(&members));
        /* \ud800 alone is valid JSON and becomes bytes that are no UTF-8 */
        if (!qm_utf8_ok(item.key) || (item.text.p != NULL && !qm_utf8_ok(item.text)))
            err = qm_fail(fault, QM_E_REFUSED, 0, "half a surrogate pair in JSON");
        else
            err = visit(&item, user, fault);
        if (err != QM_OK)
            break;
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_failed(json, fault);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    json->depth--;
    return err;
}
