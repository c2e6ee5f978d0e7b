/* quotemill-collect activate: the TPM opens the credential of a challenge, which proves that it has both the EK and the AK. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/emit.h"
#include "tools/ceremony/answer.h"
#include "tools/collect/collect.h"
#include "tools/collect/identity.h"
#include "tools/collect/state_dir.h"
#include "tools/json_read.h"
#include "tools/line_read.h"

enum { NAME_MAX_BYTES = 2 + QM_DIGEST_MAX };

struct challenge {
    bool kind, id; /* it is one; it is ours */
    bool damaged;  /* something in it is not what it should be */
    uint64_t version, expires_ms;
    uint8_t challenge[QM_CHALLENGE_SIZE];
    bool has_challenge;
    size_t ak_name_len, ek_name_len, blob_len, secret_len;
    uint8_t ak_name[NAME_MAX_BYTES], ek_name[NAME_MAX_BYTES];
    uint8_t blob[QM_TPM2B_MAX], secret[QM_TPM2B_MAX];
};

struct activate {
    struct qm_collect common;
    struct qm_identity identity;
    struct qm_json *json;
    struct challenge c;
    uint8_t proof[QM_PROOF_SIZE];
    uint64_t answered, refused, others; /* lines that were ours; that were not right; that were not ours */
    struct qm_fault first;              /* why one was refused */
};

/* ---- reading ----------------------------------------------------------------------------------------------------------- */

static bool take_hex(struct qm_span text, uint8_t *to, size_t cap, size_t *len)
{
    *len = text.len / 2;
    return text.len % 2 == 0 && *len != 0 && *len <= cap && qm_hex_read((const char *)text.p, to, *len);
}

static qm_err take_member(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct activate *a = user;
    struct challenge *c = &a->c;
    size_t len = 0;
    bool good = true;
    (void)fault;
    if (item->kind == QM_JSON_INT && item->number >= 0) {
        if (qm_json_key_is(item, "v"))
            c->version = (uint64_t)item->number;
        else if (qm_json_key_is(item, "expires"))
            c->expires_ms = (uint64_t)item->number;
    }
    if (item->kind != QM_JSON_TEXT)
        return QM_OK;
    if (qm_json_key_is(item, "kind"))
        c->kind = item->text.len == 9 && memcmp(item->text.p, "challenge", 9) == 0;
    else if (qm_json_key_is(item, "id"))
        c->id = qm_span_eq(item->text, (struct qm_span){a->identity.id, a->identity.id_len});
    else if (qm_json_key_is(item, "challenge"))
        c->has_challenge = good = take_hex(item->text, c->challenge, sizeof c->challenge, &len) && len == sizeof c->challenge;
    else if (qm_json_key_is(item, "ak_name"))
        good = take_hex(item->text, c->ak_name, sizeof c->ak_name, &c->ak_name_len);
    else if (qm_json_key_is(item, "ek_name"))
        good = take_hex(item->text, c->ek_name, sizeof c->ek_name, &c->ek_name_len);
    else if (qm_json_key_is(item, "blob"))
        good = qm_base64_read(item->text, c->blob, sizeof c->blob, &c->blob_len);
    else if (qm_json_key_is(item, "secret"))
        good = qm_base64_read(item->text, c->secret, sizeof c->secret, &c->secret_len);
    c->damaged = c->damaged || !good;
    return QM_OK;
}

static bool is_name_of(const struct qm_blob *public, const uint8_t *name, size_t len)
{
    uint8_t ours[NAME_MAX_BYTES];
    const size_t ours_len = qm_tpm_name((struct qm_span){public->p, public->len}, ours);
    return ours_len != 0 && qm_span_eq((struct qm_span){ours, ours_len}, (struct qm_span){name, len});
}

static qm_err judge(const struct activate *a, struct qm_fault *fault)
{
    const struct challenge *c = &a->c;
    if (c->version != 1 || c->damaged || !c->has_challenge || c->blob_len == 0 || c->secret_len == 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "the challenge is damaged, or of another version");
    if (!is_name_of(&a->identity.ak, c->ak_name, c->ak_name_len))
        return qm_fail(fault, QM_E_REFUSED, 0,
                       "the challenge is for another attestation key than this machine has now: propose anew");
    if (a->identity.ek.public.len == 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "this machine has no endorsement key to answer with");
    if (!is_name_of(&a->identity.ek.public, c->ek_name, c->ek_name_len))
        return qm_fail(fault, QM_E_REFUSED, 0,
                       "the challenge is for another endorsement key than this machine has: propose anew");
    if (c->expires_ms != 0 && c->expires_ms < qm_now_ms())
        qm_collect_note("activate", "by this machine's clock the challenge has expired; it is answered all the same");
    return QM_OK;
}

/* ---- answering --------------------------------------------------------------------------------------------------------- */

static qm_err job(struct qm_tpm *t, void *arg, struct qm_fault *fault)
{
    struct activate *a = arg;
    const struct challenge *c = &a->c;
    uint8_t credential[64];
    struct qm_tpm_key ak;
    size_t len = 0;
    qm_err err = qm_identity_key(t, &a->identity, &ak, fault);
    if (err != QM_OK)
        return err;
    err = qm_credential_open(t, &ak, &a->identity.ek, (struct qm_span){c->blob, c->blob_len},
                             (struct qm_span){c->secret, c->secret_len}, credential, &len, fault);
    qm_tpm_key_close(t, &ak);
    if (err == QM_OK && len != QM_CREDENTIAL_SIZE)
        err = qm_fail(fault, QM_E_REFUSED, 0, "the credential has %zu bytes, not %d", len, QM_CREDENTIAL_SIZE);
    if (err == QM_OK)
        err = qm_answer_proof(credential, c->challenge, (struct qm_span){a->identity.id, a->identity.id_len}, a->proof, fault);
    explicit_bzero(credential, sizeof credential);
    return err;
}

static void print(const struct activate *a)
{
    char line[1024 + 6 * QM_ID_MAX];
    struct qm_out o = qm_out_init(line, sizeof line);
    struct qm_emit e = qm_emit_init(&o, true);
    qm_emit_map(&e);
    qm_emit_key(&e, "v");
    qm_emit_u64(&e, 1);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, "answer");
    qm_emit_key(&e, "challenge");
    qm_emit_bytes(&e, a->c.challenge, sizeof a->c.challenge);
    qm_emit_key(&e, "id");
    qm_emit_text(&e, (struct qm_span){a->identity.id, a->identity.id_len});
    qm_emit_key(&e, "proof");
    qm_emit_bytes(&e, a->proof, sizeof a->proof);
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    fwrite(o.p, 1, o.len, stdout);
}

/* Asks the TPM. Only meanwhile is the state ours: whoever sends the challenges may let us wait. */
static qm_err ask(struct activate *a, struct qm_fault *fault)
{
    int lock;
    qm_err err = qm_state_open(a->common.state, false, &lock, fault);
    if (err == QM_OK)
        err = qm_collect_tpm(&a->common, job, a, NULL, fault);
    if (lock >= 0)
        close(lock);
    return err;
}

/* One line. A file may hold the challenges of a whole fleet: those of others are left. So is, with a word, what claims our id and is not
 * right: whoever proposes another key under it has such a challenge made, and must not keep us from ours. */
static qm_err answer(struct activate *a, const char *line, size_t len, struct qm_fault *fault)
{
    struct qm_fault why = {0};
    a->c = (struct challenge){0};
    qm_err err = len <= QM_LINE_MAX ? qm_json_each(a->json, QM_JSON_OBJECT, line, len, take_member, a, &why)
                                    : qm_fail(&why, QM_E_REFUSED, 0, "a line is longer than %d KiB", QM_LINE_MAX / 1024);
    if (err == QM_OK && (!a->c.kind || !a->c.id)) {
        a->others++;
        return QM_OK;
    }
    if (err == QM_OK)
        err = judge(a, &why);
    if (err == QM_OK)
        err = ask(a, &why);
    if (err == QM_E_REFUSED) {
        if (a->refused++ == 0)
            a->first = why;
        return QM_OK;
    }
    if (err != QM_OK)
        return qm_fail(fault, err, 0, "%.470s", why.text[0] != '\0' ? why.text : qm_err_text(err));
    print(a);
    a->answered++;
    return QM_OK;
}

static qm_err answer_all(struct activate *a, struct qm_lines *from, struct qm_fault *fault)
{
    static char line[QM_LINE_MAX + 1];
    size_t len;
    qm_err err = QM_OK;
    while (err == QM_OK && qm_lines_next(from, line, &len))
        err = answer(a, line, len, fault);
    if (err != QM_OK)
        return err;
    if (a->refused != 0 && a->answered == 0) {
        *fault = a->first;
        return QM_E_REFUSED;
    }
    if (a->refused != 0)
        qm_collect_note("activate", "%llu lines were left, of the first: %.300s", (unsigned long long)a->refused, a->first.text);
    if (a->answered == 0)
        err = qm_fail(fault, QM_E_REFUSED, 0, "there is no challenge for %.*s (%llu for others)", (int)a->identity.id_len,
                      (const char *)a->identity.id, (unsigned long long)a->others);
    return err;
}

static qm_err read_identity(struct activate *a, struct qm_fault *fault)
{
    bool there;
    int lock;
    qm_err err = qm_state_open(a->common.state, false, &lock, fault);
    if (err == QM_OK)
        err = qm_identity_read(&a->identity, a->common.state, &there, fault);
    if (err == QM_OK && !there)
        err = qm_fail(fault, QM_E_REFUSED, 0, "there is no key yet: quotemill-collect init");
    if (lock >= 0)
        close(lock);
    return err;
}

static qm_err activate(struct activate *a, const char *path, struct qm_fault *fault)
{
    struct qm_lines from = {0};
    struct qm_fault reading = {0};
    qm_err err = read_identity(a, fault);
    if (err == QM_OK)
        err = qm_json_open(&a->json, fault);
    if (err == QM_OK)
        err = qm_lines_open(&from, path, fault);
    if (err == QM_OK)
        err = answer_all(a, &from, fault);
    if (qm_lines_close(&from, &reading) != QM_OK && err == QM_OK) {
        *fault = reading;
        err = reading.err;
    }
    qm_json_close(a->json);
    return err;
}

int qm_collect_activate(int argc, char **argv)
{
    static struct activate a; /* a job that was left behind still has it */
    a = (struct activate){.common = QM_COLLECT_INIT};
    const struct qm_option options[] = {QM_STATE_OPTION(&a.common), QM_TPM_OPTIONS(&a.common)};
    static const struct qm_usage usage = {
        "activate", "[FILE]", "Answers a challenge of quotemill enroll --challenge; the answer goes to standard output.",
        "FILE (else standard input) may hold challenges of other machines as well: they are left, and so are those for another key.\n"
        "Exit codes: 0 answered, 1 refused, 2 usage, 3 the environment or the TPM failed, 75 another works with the state.\n"};
    struct qm_fault fault = {0};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 1, &first, &code))
        return code;
    qm_collect_settle(&a.common);
    if (activate(&a, first < argc ? argv[first] : "-", &fault) != QM_OK)
        return qm_complain("activate", &fault);
    return qm_stdout_close("activate");
}
