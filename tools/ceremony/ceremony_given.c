/* What the operator gives to a ceremony: defaults for machines, and whose EK is whose. */
#include <stdlib.h>

#include "codec/text.h"
#include "tools/ceremony/ceremony_read.h"
#include "tools/options.h"

/* ---- defaults ------------------------------------------------------------------------------------------------------------ */

enum { TAG_KEY_MAX = 256 };

struct qm_defaults {
    struct qm_out rest; /* the members behind id, ak and scheme, each with a comma in front; of QM_LINE_MAX bytes */
};

struct making {
    struct qm_json *json;
    struct qm_out *rest;
    const char *const *tags; /* "k=v" */
    size_t tag_count;
    bool has_tags, any_tag;
};

static struct qm_span span(const char *text)
{
    return (struct qm_span){(const uint8_t *)text, strlen(text)};
}

static void put_key(struct qm_out *o, struct qm_span key)
{
    qm_out_char(o, ',');
    qm_out_json_string(o, key);
    qm_out_char(o, ':');
}

static void put_tag(struct making *m, struct qm_span key, struct qm_span value)
{
    if (m->any_tag)
        qm_out_char(m->rest, ',');
    m->any_tag = true;
    qm_out_json_string(m->rest, key);
    qm_out_char(m->rest, ':');
    qm_out_json_string(m->rest, value);
}

static struct qm_span tag_key(const char *tag)
{
    return (struct qm_span){(const uint8_t *)tag, strcspn(tag, "=")};
}

/* A tag of the line, unless the command line says otherwise. */
static qm_err tag_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct making *m = user;
    (void)fault;
    for (size_t i = 0; i < m->tag_count; i++)
        if (qm_span_eq(tag_key(m->tags[i]), item->key))
            return QM_OK;
    put_tag(m, item->key, item->text);
    return QM_OK;
}

static qm_err put_tags(struct making *m, const struct qm_json_item *line, struct qm_fault *fault)
{
    put_key(m->rest, span("tags"));
    qm_out_char(m->rest, '{');
    qm_err err = line != NULL ? qm_json_each(m->json, QM_JSON_OBJECT, (const char *)line->text.p, line->text.len, tag_visit, m, fault) : QM_OK;
    for (size_t i = 0; i < m->tag_count; i++)
        put_tag(m, tag_key(m->tags[i]), span(strchr(m->tags[i], '=') + 1));
    qm_out_char(m->rest, '}');
    m->has_tags = true;
    return err;
}

/* Members of a line that was checked: strings, arrays, objects, and true or false. */
static qm_err member_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct making *m = user;
    if (qm_json_key_is(item, "tags"))
        return put_tags(m, item, fault);
    if (item->kind == QM_JSON_NULL || item->kind == QM_JSON_INT || item->kind == QM_JSON_REAL)
        return QM_OK; /* of an unknown key */
    put_key(m->rest, item->key);
    if (item->kind == QM_JSON_TEXT)
        qm_out_json_string(m->rest, item->text);
    else if (item->kind == QM_JSON_BOOL)
        qm_out_text(m->rest, item->number != 0 ? "true" : "false");
    else
        qm_out_bytes(m->rest, item->text.p, item->text.len);
    return QM_OK;
}

static qm_err wrong_line(const struct qm_lines *l, const char *why, struct qm_fault *fault)
{
    return qm_fail(fault, QM_E_USAGE, 0, "%s: line %llu: %s", l->name, (unsigned long long)l->number, why);
}

/* Every line is checked; the one of the group is taken. */
static qm_err read_defaults(struct making *m, const char *path, const char *group, struct qm_enrolment *e, char *text, struct qm_fault *fault)
{
    struct qm_lines lines;
    struct qm_fault of_line = {0};
    const struct qm_span wanted = group != NULL ? span(group) : (struct qm_span){0};
    bool found = false;
    qm_err err = qm_lines_open(&lines, path, fault);
    if (err != QM_OK)
        return err;
    for (size_t len; err == QM_OK && qm_lines_next(&lines, text, &len);) {
        err = len > QM_LINE_MAX ? qm_fail(&of_line, QM_E_REFUSED, 0, "longer than %d bytes", QM_LINE_MAX)
                                : qm_enrolment_defaults(m->json, text, len, e, &of_line);
        if (err != QM_OK)
            err = err == QM_E_REFUSED ? wrong_line(&lines, of_line.text, fault) : err;
        else if (qm_span_eq((struct qm_span){e->group, e->group_len}, wanted) && found)
            err = wrong_line(&lines, "a second line of the group", fault);
        else if (qm_span_eq((struct qm_span){e->group, e->group_len}, wanted)) {
            err = qm_json_each(m->json, QM_JSON_OBJECT, text, len, member_visit, m, fault);
            found = true;
        }
    }
    qm_err closed = qm_lines_close(&lines, err == QM_OK ? fault : NULL);
    if (err == QM_OK && closed == QM_OK && !found)
        return group != NULL ? qm_fail(fault, QM_E_USAGE, 0, "%s has no line of group '%.128s'", path, group)
                             : qm_fail(fault, QM_E_USAGE, 0, "%s has no line without a group, and no --group was given", path);
    return err == QM_OK ? closed : err;
}

static qm_err check_tags(const char *const *tags, size_t count, struct qm_fault *fault)
{
    for (size_t i = 0; i < count; i++) {
        char key[TAG_KEY_MAX];
        const char *value;
        if (!qm_tag_read(tags[i], key, sizeof key, &value) || !qm_utf8_ok(span(tags[i])))
            return qm_fail(fault, QM_E_USAGE, 0, "--tag wants KEY=VALUE, not '%.64s'", tags[i]);
        for (size_t j = 0; j < i; j++)
            if (qm_span_eq(tag_key(tags[i]), tag_key(tags[j])))
                return qm_fail(fault, QM_E_USAGE, 0, "--tag gives '%.64s' twice", key);
    }
    return QM_OK;
}

qm_err qm_defaults_open(struct qm_defaults **out, struct qm_json *json, const char *path, const char *group, const char *const *tags,
                        size_t tag_count, struct qm_fault *fault)
{
    struct qm_defaults *d = malloc(sizeof *d + QM_LINE_MAX);
    struct qm_enrolment *e = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *e, QM_CACHE_LINE));
    char *text = malloc(QM_LINE_MAX + 1);
    *out = d;
    qm_err err = d != NULL && e != NULL && text != NULL ? check_tags(tags, tag_count, fault)
                                                        : qm_fail(fault, QM_E_NOMEM, 0, "no memory for defaults");
    if (err == QM_OK) {
        d->rest = qm_out_init(d + 1, QM_LINE_MAX);
        struct making m = {.json = json, .rest = &d->rest, .tags = tags, .tag_count = tag_count};
        if (path != NULL) {
            err = read_defaults(&m, path, group, e, text, fault);
        } else if (group != NULL) {
            put_key(&d->rest, span("group"));
            qm_out_json_string(&d->rest, span(group));
        }
        if (err == QM_OK && !m.has_tags && tag_count != 0)
            err = put_tags(&m, NULL, fault);
        if (err == QM_OK && d->rest.full)
            err = qm_fail(fault, QM_E_USAGE, 0, "the defaults are too long");
    }
    free(text);
    free(e);
    if (err != QM_OK) {
        free(d);
        *out = NULL;
    }
    return err;
}

void qm_defaults_close(struct qm_defaults *d)
{
    free(d);
}

void qm_defaults_merge(const struct qm_defaults *d, struct qm_span id, struct qm_span ak, const char *scheme, struct qm_out *line)
{
    qm_out_text(line, "{\"id\":");
    qm_out_json_string(line, id);
    put_key(line, span("ak"));
    qm_out_json_string(line, ak);
    if (scheme[0] != '\0') {
        put_key(line, span("scheme"));
        qm_out_json_string(line, span(scheme));
    }
    qm_out_bytes(line, d->rest.p, d->rest.len);
    qm_out_char(line, '}');
}

/* ---- whose EK is whose --------------------------------------------------------------------------------------------------- */

enum { EXPECTED_FILE_MAX = 512 << 20 /* two million lines with long ids */ };

struct expected {
    struct qm_span id;
    uint8_t ek[QM_EK_FINGERPRINT_SIZE];
};
struct qm_expected_eks {
    char *text; /* where the ids are */
    struct expected *by_id, *by_ek;
    size_t count;
};

static int id_order(struct qm_span a, struct qm_span b)
{
    const int order = memcmp(a.p, b.p, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int by_id(const void *a, const void *b)
{
    const struct expected *x = a, *y = b;
    return id_order(x->id, y->id);
}

static int by_ek(const void *a, const void *b)
{
    const struct expected *x = a, *y = b;
    return memcmp(x->ek, y->ek, sizeof x->ek);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* "ID FINGERPRINT": the last word is the fingerprint, so that an id may have blanks in it. */
static bool read_expected(const char *line, size_t len, struct expected *out)
{
    while (len != 0 && is_space(line[len - 1]))
        len--;
    if (len < 2 * QM_EK_FINGERPRINT_SIZE + 2 || !qm_hex_read(line + len - 2 * QM_EK_FINGERPRINT_SIZE, out->ek, QM_EK_FINGERPRINT_SIZE))
        return false;
    len -= 2 * QM_EK_FINGERPRINT_SIZE;
    if (!is_space(line[len - 1]))
        return false;
    while (len != 0 && is_space(line[len - 1]))
        len--;
    while (len != 0 && is_space(*line)) {
        line++;
        len--;
    }
    out->id = (struct qm_span){(const uint8_t *)line, len};
    return qm_id_ok(out->id);
}

static qm_err check_unique(const struct qm_expected_eks *x, const char *path, struct qm_fault *fault)
{
    for (size_t i = 1; i < x->count; i++) {
        if (by_id(&x->by_id[i - 1], &x->by_id[i]) == 0)
            return qm_fail(fault, QM_E_USAGE, 0, "%s has the id '%.*s' twice", path, (int)x->by_id[i].id.len, (const char *)x->by_id[i].id.p);
        if (by_ek(&x->by_ek[i - 1], &x->by_ek[i]) == 0)
            return qm_fail(fault, QM_E_USAGE, 0, "%s gives one EK to '%.*s' and to '%.*s'", path, (int)x->by_ek[i - 1].id.len,
                           (const char *)x->by_ek[i - 1].id.p, (int)x->by_ek[i].id.len, (const char *)x->by_ek[i].id.p);
    }
    return QM_OK;
}

static qm_err parse_expected(struct qm_expected_eks *x, const char *path, size_t len, struct qm_fault *fault)
{
    size_t lines = 1, number = 0;
    for (size_t i = 0; i < len; i++)
        lines += x->text[i] == '\n';
    x->by_id = calloc(lines, sizeof *x->by_id);
    x->by_ek = calloc(lines, sizeof *x->by_ek);
    if (x->by_id == NULL || x->by_ek == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for %zu lines", lines);
    for (const char *line = x->text, *end = line + len; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const size_t n = (size_t)((stop != NULL ? stop : end) - line);
        size_t first = 0;
        number++;
        while (first < n && is_space(line[first]))
            first++;
        if (first < n && line[0] != '#') {
            if (!read_expected(line, n, &x->by_id[x->count]))
                return qm_fail(fault, QM_E_USAGE, 0, "%s: line %zu is no id and the 64 hex digits of an EK's fingerprint", path, number);
            x->count++;
        }
        line += n + (stop != NULL);
    }
    memcpy(x->by_ek, x->by_id, x->count * sizeof *x->by_ek);
    qsort(x->by_id, x->count, sizeof *x->by_id, by_id);
    qsort(x->by_ek, x->count, sizeof *x->by_ek, by_ek);
    return check_unique(x, path, fault);
}

qm_err qm_expected_open(struct qm_expected_eks **out, const char *path, struct qm_fault *fault)
{
    struct qm_expected_eks *x = calloc(1, sizeof *x);
    size_t len = 0;
    *out = NULL;
    qm_err err = x != NULL ? qm_file_read(path, EXPECTED_FILE_MAX, &x->text, &len, fault) : qm_fail(fault, QM_E_NOMEM, 0, "no memory");
    if (err == QM_OK)
        err = parse_expected(x, path, len, fault);
    if (err == QM_OK)
        *out = x;
    else
        qm_expected_close(x);
    return err;
}

void qm_expected_close(struct qm_expected_eks *x)
{
    if (x == NULL)
        return;
    free(x->by_id);
    free(x->by_ek);
    free(x->text);
    free(x);
}

enum qm_expected qm_expected_find(const struct qm_expected_eks *x, struct qm_span id, const uint8_t ek[QM_EK_FINGERPRINT_SIZE])
{
    struct expected wanted = {.id = id};
    memcpy(wanted.ek, ek, sizeof wanted.ek);
    const struct expected *of_id = x->count != 0 ? bsearch(&wanted, x->by_id, x->count, sizeof *x->by_id, by_id) : NULL;
    const struct expected *of_ek = x->count != 0 ? bsearch(&wanted, x->by_ek, x->count, sizeof *x->by_ek, by_ek) : NULL;
    if (of_id != NULL)
        return memcmp(of_id->ek, ek, sizeof of_id->ek) == 0 ? QM_EXPECTED_SAME : QM_EXPECTED_OTHER_EK;
    return of_ek != NULL ? QM_EXPECTED_OTHER_ID : QM_EXPECTED_UNKNOWN;
}
