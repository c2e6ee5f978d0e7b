#include "tools/ceremony/ceremony_read.h"

#include "codec/text.h"

/* ---- what is common to the lines ----------------------------------------------------------------------------------------- */

struct reading {
    struct qm_json *json;
    const char *kind;
    const char *const *names; /* of the keys that are read, QM_JSON_TEXT but where take says otherwise */
    unsigned count;
    unsigned seen; /* bits by name; those of "v" and "kind" come behind */
    qm_err (*take)(struct reading *r, unsigned which, const struct qm_json_item *item, struct qm_fault *fault);
    void *out;
};

static qm_err refuse(struct qm_fault *fault, const char *what, const char *why)
{
    return qm_fail(fault, QM_E_REFUSED, 0, "%s %s", what, why);
}

static qm_err key_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct reading *r = user;
    const bool is_v = qm_json_key_is(item, "v");
    unsigned which = is_v ? r->count : qm_json_key_is(item, "kind") ? r->count + 1 : 0;
    if (which == 0) {
        while (which < r->count && !qm_json_key_is(item, r->names[which]))
            which++;
        if (which == r->count)
            return QM_OK;
    }
    const char *name = which < r->count ? r->names[which] : is_v ? "v" : "kind";
    if ((r->seen & 1u << which) != 0)
        return refuse(fault, name, "stands twice");
    r->seen |= 1u << which;
    if (is_v)
        return item->kind == QM_JSON_INT && item->number == 1 ? QM_OK : refuse(fault, "v", "is not 1");
    if (which > r->count) {
        const struct qm_span kind = {(const uint8_t *)r->kind, strlen(r->kind)};
        return item->kind == QM_JSON_TEXT && qm_span_eq(item->text, kind) ? QM_OK
                                                                          : qm_fail(fault, QM_E_REFUSED, 0, "the line is no %s", r->kind);
    }
    return r->take(r, which, item, fault);
}

/* needed: bits of the names that must be there. */
static qm_err read_line(struct reading *r, const char *line, size_t len, unsigned needed, struct qm_fault *fault)
{
    if (len > QM_LINE_MAX)
        return qm_fail(fault, QM_E_REFUSED, 0, "longer than %d bytes", QM_LINE_MAX);
    qm_err err = qm_json_each(r->json, QM_JSON_OBJECT, line, len, key_visit, r, fault);
    if (err != QM_OK)
        return err;
    needed |= 3u << r->count;
    for (unsigned i = 0; i < r->count + 2; i++)
        if ((needed & ~r->seen & 1u << i) != 0)
            return refuse(fault, i < r->count ? r->names[i] : i == r->count ? "v" : "kind", "is missing");
    return QM_OK;
}

static qm_err take_id(const struct qm_json_item *item, uint8_t id[QM_ID_MAX], size_t *len, struct qm_fault *fault)
{
    if (item->kind != QM_JSON_TEXT || !qm_id_ok(item->text))
        return refuse(fault, "id", "is not 1 to 128 bytes of UTF-8 without control characters");
    memcpy(id, item->text.p, item->text.len);
    *len = item->text.len;
    return QM_OK;
}

static qm_err take_hex(const struct qm_json_item *item, const char *name, uint8_t *to, size_t len, struct qm_fault *fault)
{
    if (item->kind == QM_JSON_TEXT && item->text.len == 2 * len && qm_hex_read((const char *)item->text.p, to, len))
        return QM_OK;
    return qm_fail(fault, QM_E_REFUSED, 0, "%s is not %zu hex digits", name, 2 * len);
}

/* ---- proposal ------------------------------------------------------------------------------------------------------------ */

static qm_err cert_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct qm_proposal *p = user;
    size_t len;
    if (p->cert_count == QM_CHAIN_MAX)
        return qm_fail(fault, QM_E_REFUSED, 0, "ek_cert has more than %d certificates", QM_CHAIN_MAX);
    uint8_t *to = p->cert_room + p->cert_used;
    if (item->kind != QM_JSON_TEXT || !qm_base64_read(item->text, to, QM_CERT_MAX, &len))
        return qm_fail(fault, QM_E_REFUSED, 0, "ek_cert has something that is not base64 of at most %d bytes", QM_CERT_MAX);
    p->cert[p->cert_count++] = (struct qm_span){to, len};
    p->cert_used += len;
    return QM_OK;
}

enum { P_ID, P_AK, P_SCHEME, P_EK, P_EK_CERT, P_COUNT };
static const char *const proposal_names[P_COUNT] = {"id", "ak", "scheme", "ek", "ek_cert"};

static qm_err proposal_take(struct reading *r, unsigned which, const struct qm_json_item *item, struct qm_fault *fault)
{
    struct qm_proposal *p = r->out;
    const char *name = proposal_names[which];
    if (which == P_ID)
        return take_id(item, p->id, &p->id_len, fault);
    if (which == P_EK_CERT)
        return item->kind != QM_JSON_ARRAY
                   ? refuse(fault, name, "is not an array")
                   : qm_json_each(r->json, QM_JSON_ARRAY, (const char *)item->text.p, item->text.len, cert_visit, p, fault);
    if (item->kind != QM_JSON_TEXT)
        return refuse(fault, name, "is not a string");
    if (which == P_SCHEME) {
        if (item->text.len == 0 || item->text.len > QM_SCHEME_NAME_MAX)
            return refuse(fault, name, "is none that is known");
        memcpy(p->scheme, item->text.p, item->text.len);
        return QM_OK;
    }
    if (!qm_base64_read(item->text, which == P_AK ? p->ak : p->ek, QM_PUBLIC_MAX, which == P_AK ? &p->ak_len : &p->ek_len))
        return refuse(fault, name, "is not base64 of a TPM2B_PUBLIC");
    return QM_OK;
}

qm_err qm_proposal_read(struct qm_json *json, const char *line, size_t len, struct qm_proposal *out, struct qm_fault *fault)
{
    struct reading r = {.json = json, .kind = "proposal", .names = proposal_names, .count = P_COUNT, .take = proposal_take, .out = out};
    memset(out, 0, offsetof(struct qm_proposal, cert_room));
    return read_line(&r, line, len, 1u << P_ID | 1u << P_AK, fault);
}

/* ---- answer -------------------------------------------------------------------------------------------------------------- */

enum { A_ID, A_CHALLENGE, A_PROOF, A_COUNT };
static const char *const answer_names[A_COUNT] = {"id", "challenge", "proof"};

static qm_err answer_take(struct reading *r, unsigned which, const struct qm_json_item *item, struct qm_fault *fault)
{
    struct qm_challenge_answer *a = r->out;
    if (which == A_ID)
        return take_id(item, a->id, &a->id_len, fault);
    return which == A_CHALLENGE ? take_hex(item, "challenge", a->challenge, sizeof a->challenge, fault)
                                : take_hex(item, "proof", a->proof, sizeof a->proof, fault);
}

qm_err qm_challenge_answer_read(struct qm_json *json, const char *line, size_t len, struct qm_challenge_answer *out,
                                struct qm_fault *fault)
{
    struct reading r = {.json = json, .kind = "answer", .names = answer_names, .count = A_COUNT, .take = answer_take, .out = out};
    memset(out, 0, sizeof *out);
    return read_line(&r, line, len, 1u << A_ID | 1u << A_CHALLENGE | 1u << A_PROOF, fault);
}
