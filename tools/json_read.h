/* Reads one JSON object or array, member by member, with SQLite's JSON functions over a connection
 * in memory. Strict: what RFC 8259 does not allow, a NUL or bytes that are no UTF-8 are refused.
 * Members come in the order of the text, a key that stands twice comes twice: what that means is
 * the caller's business. */
#ifndef QM_JSON_READ_H
#define QM_JSON_READ_H

#include "codec/base.h"
#include "codec/error.h"

enum { QM_JSON_DEPTH_MAX = 4 }; /* qm_json_each inside the callback of qm_json_each, so often */

enum qm_json_kind {
    QM_JSON_NULL,
    QM_JSON_BOOL,
    QM_JSON_INT,  /* an integer that fits into int64_t */
    QM_JSON_REAL, /* every other number */
    QM_JSON_TEXT,
    QM_JSON_ARRAY,
    QM_JSON_OBJECT,
};

/* One member. The spans are valid until the callback returns. */
struct qm_json_item {
    struct qm_span key; /* unescaped; {NULL, 0} for an array's element */
    enum qm_json_kind kind;
    struct qm_span text; /* TEXT: unescaped UTF-8. ARRAY and OBJECT: its JSON, for qm_json_each.
                            Else {NULL, 0} */
    int64_t number;      /* INT; BOOL: 0 or 1 */
    double real;         /* REAL */
    uint64_t whole;      /* REAL that was written as an integer of 2^63 to 2^64 - 1: that, to the last digit. Else 0 */
};

struct qm_json;

/* QM_E_NOMEM or QM_E_STORE. One reader serves one thread. */
qm_err qm_json_open(struct qm_json **out, struct qm_fault *fault) QM_MUST_USE;
void qm_json_close(struct qm_json *json); /* NULL is fine */

/* Gets the member, and the user pointer given to qm_json_each; anything but QM_OK ends the walk and
 * is what qm_json_each gives. It may call qm_json_each on item->text. */
typedef qm_err (*qm_json_visit)(const struct qm_json_item *item, void *user,
                                struct qm_fault *fault);

/* Walks the members of text, which must be of the given kind, QM_JSON_OBJECT or QM_JSON_ARRAY.
 * QM_E_REFUSED: it is not, or no valid JSON; nothing was visited then. */
qm_err qm_json_each(struct qm_json *json, enum qm_json_kind kind, const char *text, size_t len,
                    qm_json_visit visit, void *user, struct qm_fault *fault) QM_MUST_USE;

/* Is item's key that text? */
static inline bool qm_json_key_is(const struct qm_json_item *item, const char *name)
{
    size_t len = strlen(name);
    return item->key.p != NULL && item->key.len == len && memcmp(item->key.p, name, len) == 0;
}

#endif
