/* A proposal becomes a challenge. */
#include <stdio.h>

#include "codec/emit.h"
#include "tools/ceremony/ceremony.h"
#include "tools/ceremony/credential.h"

enum { AK_TEXT_MAX = QM_PUBLIC_MAX * 4 / 3 + 8 };
static const uint64_t usual_life_ms = 24 * 3600 * 1000ull;

/* Is the EK one that somebody vouches for? A CA by a certificate, or the operator's list, for TPMs that have no certificate. */
static qm_err vouch(const struct qm_ceremony *c, const struct qm_proposal *p, const struct qm_ek *ek, const char **bound, struct qm_anchor *anchor,
                    struct qm_fault *fault)
{
    const struct qm_span id = {p->id, p->id_len};
    struct qm_cert_names names;
    const bool certified = c->trust != NULL && p->cert_count != 0;
    qm_err err = certified ? qm_ek_cert_check(c->trust, p->cert, p->cert_count, ek, &names, anchor, fault) : QM_OK;
    if (err == QM_OK)
        err = qm_ceremony_bind(c, id, ek->fingerprint, certified ? &names : NULL, bound, fault);
    if (err == QM_OK && !certified && *bound == NULL)
        return qm_fail(fault, QM_E_REFUSED, 0, "%s",
                       c->trust != NULL ? "there is no certificate of the EK, and no --expect-ek that has it"
                                        : "--expect-ek does not have the EK, and there is no --ca");
    return err;
}

static void write_challenge(struct qm_out *out, const struct qm_challenge *c, const struct qm_name *ak, const struct qm_name *ek,
                            const struct qm_wrapped *wrapped)
{
    struct qm_emit e = qm_emit_init(out, true);
    qm_emit_map(&e);
    qm_emit_key(&e, "v");
    qm_emit_u64(&e, 1);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, "challenge");
    qm_emit_key(&e, "challenge");
    qm_emit_bytes(&e, c->name, sizeof c->name);
    qm_emit_key(&e, "id");
    qm_emit_text(&e, c->id);
    qm_emit_key(&e, "ak_name");
    qm_emit_bytes(&e, ak->bytes, ak->len);
    qm_emit_key(&e, "ek_name");
    qm_emit_bytes(&e, ek->bytes, ek->len);
    qm_emit_key(&e, "blob");
    qm_emit_base64(&e, wrapped->blob, wrapped->blob_len);
    qm_emit_key(&e, "secret");
    qm_emit_base64(&e, wrapped->secret, wrapped->secret_len);
    qm_emit_key(&e, "expires");
    qm_emit_u64(&e, c->until_ms);
    qm_emit_end(&e);
    qm_out_char(out, '\n');
}

/* The challenge of a proposal that was found good. */
static qm_err challenge(struct qm_ceremony *c, const struct qm_ek *ek, const struct qm_name *ak, struct qm_challenge *out, struct qm_fault *fault)
{
    uint8_t credential[QM_CREDENTIAL_SIZE], proof[QM_PROOF_SIZE];
    struct qm_wrapped wrapped;
    memcpy(out->ek, ek->fingerprint, sizeof out->ek);
    out->until_ms = qm_store_now_ms(c->store) + (c->ask->expires_ms != 0 ? c->ask->expires_ms : usual_life_ms);
    qm_err err = qm_random(out->name, sizeof out->name, fault);
    if (err == QM_OK)
        err = qm_random(credential, sizeof credential, fault);
    if (err == QM_OK)
        err = qm_credential_make(ek, ak, credential, &wrapped, fault);
    if (err == QM_OK)
        err = qm_answer_proof(credential, out->name, out->id, proof, fault);
    if (err == QM_OK) {
        qm_hash_one(QM_HASH_SHA256, (struct qm_span){proof, sizeof proof}, out->proof_digest);
        err = qm_store_challenge_add(c->store, out, fault);
    }
    qm_forget(credential, sizeof credential);
    qm_forget(proof, sizeof proof);
    if (err != QM_OK)
        return err;
    write_challenge(&c->out, out, ak, &ek->name, &wrapped);
    c->challenges++;
    return QM_OK;
}

/* Everything that can be said against it before the TPM is asked. */
static qm_err examine(struct qm_ceremony *c, const struct qm_proposal *p, struct qm_ek *ek, struct qm_name *ak_name, struct qm_challenge *out,
                      struct qm_anchor *anchor, struct qm_fault *fault)
{
    struct qm_public ak;
    char ak_text[AK_TEXT_MAX];
    struct qm_out o = qm_out_init(ak_text, sizeof ak_text);
    out->id = (struct qm_span){p->id, p->id_len};
    qm_err err = qm_named_public((struct qm_span){p->ak, p->ak_len}, "AK", &ak, ak_name, fault);
    if (err == QM_OK && p->ek_len == 0)
        err = qm_fail(fault, QM_E_REFUSED, 0, "ek is missing: without an EK nothing can be proven");
    if (err == QM_OK)
        err = qm_ek_read((struct qm_span){p->ek, p->ek_len}, ek, fault);
    if (err == QM_OK)
        err = vouch(c, p, ek, &out->bound, anchor, fault);
    if (err != QM_OK)
        return err;
    qm_out_base64(&o, p->ak, p->ak_len);
    err = qm_ceremony_merge(c, out->id, (struct qm_span){(const uint8_t *)ak_text, o.len}, p->scheme, &out->line, fault);
    if (err != QM_OK)
        return err;
    struct qm_proven proven = {.how = QM_HOW_CREDENTIAL, .has_ek = true, .allow_weaker = c->ask->allow_weaker};
    memcpy(proven.ek, ek->fingerprint, sizeof proven.ek);
    const struct qm_enroll_options options = {.replace_key = c->ask->replace_key, .proven = &proven};
    return qm_store_enroll_check(c->store, c->enrolment, &options, fault);
}

qm_err qm_ceremony_propose(struct qm_ceremony *c, const char *text, size_t len, struct qm_fault *fault)
{
    struct qm_ek ek = {0};
    struct qm_name ak_name;
    struct qm_challenge out = {0};
    struct qm_anchor anchor = {0};
    qm_err err = qm_proposal_read(c->json, text, len, c->proposal, fault);
    if (err == QM_OK)
        err = examine(c, c->proposal, &ek, &ak_name, &out, &anchor, fault);
    if (err == QM_OK)
        err = qm_store_anchor(c->store, &anchor, &out.anchor, fault);
    if (err == QM_OK)
        err = challenge(c, &ek, &ak_name, &out, fault);
    qm_ek_close(&ek);
    return err;
}
