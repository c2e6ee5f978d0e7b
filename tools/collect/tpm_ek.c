#include "tools/collect/tpm_ek.h"

#include <stdio.h>

#include "codec/cursor.h"
#include "tools/collect/tpm_inside.h"
#include "tools/collect/tpm_nv.h"
#include "tools/ceremony/ek_profile.h"

#define CHAIN_FIRST 0x01c00100u /* profile 2.2.1.5: certificates of the chain */
#define CHAIN_LAST  0x01c001ffu
enum { CHAIN_INDEX_MAX = 8192 };

/* As qm_ek_templates. */
const char *const qm_ek_kinds[] = {"rsa2048", "p256", "rsa2048-high", "p256-high", "p384-high", NULL};

/* Of the modulus, or of a coordinate. */
static uint16_t key_bytes(const struct qm_ek_template *k)
{
    return k->type == TPM2_ALG_RSA ? k->rsa_bits / 8 : k->curve == TPM2_ECC_NIST_P384 ? 48 : 32;
}

/* nonce: stands in front of the zeros of RSA's unique or of the point's x (profile B.3.1); may be empty. */
static bool template_of(const struct qm_ek_template *k, bool zeros, struct qm_span nonce, struct qm_blob *to)
{
    TPM2B_PUBLIC p = {.publicArea = {.type = k->type, .nameAlg = k->name_alg, .objectAttributes = k->attributes}};
    TPMT_PUBLIC *a = &p.publicArea;
    const TPMT_SYM_DEF_OBJECT aes = {.algorithm = TPM2_ALG_AES, .keyBits.aes = k->symmetric_bits, .mode.aes = TPM2_ALG_CFB};
    const uint16_t size = zeros ? key_bytes(k) : 0;
    if (nonce.len > size)
        return false;
    a->authPolicy.size = (UINT16)k->policy.len;
    memcpy(a->authPolicy.buffer, k->policy.p, k->policy.len);
    if (k->type == TPM2_ALG_RSA) {
        a->parameters.rsaDetail.symmetric = aes;
        a->parameters.rsaDetail.scheme.scheme = TPM2_ALG_NULL;
        a->parameters.rsaDetail.keyBits = k->rsa_bits;
        a->unique.rsa.size = size;
    } else {
        a->parameters.eccDetail.symmetric = aes;
        a->parameters.eccDetail.scheme.scheme = TPM2_ALG_NULL;
        a->parameters.eccDetail.curveID = k->curve;
        a->parameters.eccDetail.kdf.scheme = TPM2_ALG_NULL;
        a->unique.ecc.x.size = a->unique.ecc.y.size = size;
    }
    if (nonce.len != 0)
        memcpy(k->type == TPM2_ALG_RSA ? a->unique.rsa.buffer : a->unique.ecc.x.buffer, nonce.p, nonce.len);
    to->len = 0;
    return Tss2_MU_TPM2B_PUBLIC_Marshal(&p, to->p, sizeof to->p, &to->len) == TSS2_RC_SUCCESS;
}

/* ---- certificates ------------------------------------------------------------------------------------------------------ */

/* Does the certificate hold that key? Its modulus or its point stands in it as it is; whether the certificate is worth anything
 * is for the home to say. */
static bool cert_has(const struct qm_nv_cert *cert, const struct qm_blob *public)
{
    struct qm_public p;
    uint8_t key[1 + 2 * 66];
    if (!qm_public_parse((struct qm_span){public->p, public->len}, &p))
        return false;
    if (p.type == QM_TPM_ALG_RSA)
        return p.a.len != 0 && memmem(cert->p, cert->len, p.a.p, p.a.len) != NULL;
    const size_t size = p.ecc_curve == QM_TPM_ECC_NIST_P384 ? 48 : 32;
    if (p.a.len > size || p.b.len > size)
        return false;
    memset(key, 0, sizeof key);
    key[0] = 4; /* uncompressed (SEC 1, 2.3.3) */
    memcpy(key + 1 + size - p.a.len, p.a.p, p.a.len);
    memcpy(key + 1 + 2 * size - p.b.len, p.b.p, p.b.len);
    return memmem(cert->p, cert->len, key, 1 + 2 * size) != NULL;
}

static qm_err read_chain(struct qm_tpm *t, struct qm_tpm_ek *ek, struct qm_fault *fault)
{
    static uint8_t bytes[CHAIN_INDEX_MAX];
    uint32_t index[QM_NV_CERTS_MAX];
    size_t count, len;
    bool there;
    qm_err err = qm_nv_list(t, CHAIN_FIRST, CHAIN_LAST, index, QM_COUNT(index), &count, fault);
    for (size_t i = 0; err == QM_OK && i < count; i++) {
        err = qm_nv_read(t, index[i], bytes, sizeof bytes, &len, &there, fault);
        if (err == QM_E_LIMIT)
            err = QM_OK; /* the home can have the chain from its maker */
        else if (err == QM_OK)
            qm_nv_certs_take(&ek->certs, (struct qm_span){bytes, len});
    }
    return err;
}

/* ---- the key ----------------------------------------------------------------------------------------------------------- */

/* Makes the key that a template stands for. *good: the TPM could, and the certificate (where there is one) is this key's. */
static qm_err try_template(struct qm_tpm *t, const struct qm_blob *template, struct qm_tpm_ek *ek, bool *good,
                           struct qm_fault *fault)
{
    struct qm_tpm_key k;
    qm_err err = qm_primary_make(t, QM_ENDORSEMENT, template, &k, fault);
    *good = false;
    if (err != QM_OK)
        return err;
    *good = ek->certs.count == 0 || cert_has(&ek->certs.cert[0], &k.public);
    if (*good) {
        ek->public = k.public;
        ek->template = *template;
    }
    qm_tpm_key_close(t, &k);
    return QM_OK;
}

/* The template or nonce that the maker left, then the profile's: a unique of zeros is as long as the key in the low range,
 * empty in the high one. Makers have used the other as well, so a certificate's key is looked for with both. */
static qm_err find_key(struct qm_tpm *t, const struct qm_ek_template *k, struct qm_tpm_ek *ek, bool *good,
                       struct qm_fault *fault)
{
    uint8_t nonce[QM_TPM2B_MAX];
    size_t len = 0;
    bool there = false;
    struct qm_blob template;
    qm_err err = qm_ak_template_nv(t, k->nv_template, &template, fault);
    *good = false;
    if (err == QM_OK)
        err = try_template(t, &template, ek, good, fault);
    else if (err == QM_E_REFUSED) /* there is none */
        err = QM_OK;
    if (err == QM_OK && !*good && k->nv_nonce != 0)
        err = qm_nv_read(t, k->nv_nonce, nonce, sizeof nonce, &len, &there, fault);
    for (unsigned way = 0; err == QM_OK && !*good && way < 3; way++) {
        if (way == 0 && !there)
            continue;
        const bool zeros = way == 0 || (way == 1) != ((k->attributes & QM_TPMA_USER_WITH_AUTH) != 0);
        if (way == 2 && ek->certs.count == 0)
            break; /* nothing tells which is right: the profile's */
        if (template_of(k, zeros, (struct qm_span){nonce, way == 0 ? len : 0}, &template))
            err = try_template(t, &template, ek, good, fault);
    }
    return err;
}

qm_err qm_ek_find(struct qm_tpm *t, const char *kind, struct qm_tpm_ek *out, char note[256], struct qm_fault *fault)
{
    static uint8_t bytes[QM_NV_CERT_MAX];
    const struct qm_ek_template *chosen = NULL;
    size_t len;
    bool there, good;
    out->public.len = 0;
    out->certs.count = 0;
    note[0] = '\0';
    for (size_t i = 0; i < QM_EK_TEMPLATE_COUNT && out->certs.count == 0; i++) {
        if (kind != NULL && strcmp(kind, qm_ek_kinds[i]) != 0)
            continue;
        if (chosen == NULL)
            chosen = &qm_ek_templates[i];
        qm_err err = qm_nv_read(t, qm_ek_templates[i].nv_cert, bytes, sizeof bytes, &len, &there, fault);
        if (err != QM_OK)
            return err;
        if (there)
            qm_nv_certs_take(&out->certs, (struct qm_span){bytes, len});
        if (out->certs.count != 0)
            chosen = &qm_ek_templates[i];
    }
    qm_err err = find_key(t, chosen, out, &good, fault);
    if (err != QM_OK) {
        snprintf(note, 256, "no endorsement key: %.200s", fault != NULL ? fault->text : "");
        out->certs.count = 0;
        return qm_tpm_abandoned() ? err : QM_OK;
    }
    if (!good) {
        snprintf(note, 256, "the EK certificate in NV index 0x%x is of another key than the TPM's; it is left out",
                 chosen->nv_cert);
        out->certs.count = 0;
        return find_key(t, chosen, out, &good, fault);
    }
    if (out->certs.count == 0)
        snprintf(note, 256, "the TPM has no EK certificate: whose TPM it is can only be told by a list of EK fingerprints");
    return out->certs.count != 0 ? read_chain(t, out, fault) : QM_OK;
}

/* ---- the credential ---------------------------------------------------------------------------------------------------- */

/* A session that the EK's policy is met in. Salted with the EK, so that the credential crosses the bus encrypted. */
static qm_err open_session(struct qm_tpm *t, const struct qm_tpm_key *ek, uint16_t name_alg, ESYS_TR *session,
                           struct qm_fault *fault)
{
    const TPMT_SYM_DEF aes = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB};
    *session = ESYS_TR_NONE;
    TSS2_RC rc = Esys_StartAuthSession(tpm_ask(t, "TPM2_StartAuthSession"), ek->object, ESYS_TR_NONE, ESYS_TR_NONE,
                                       ESYS_TR_NONE, ESYS_TR_NONE, NULL, TPM2_SE_POLICY, &aes, name_alg, session);
    qm_err err = tpm_answer(t, rc, fault);
    if (err == QM_OK) {
        rc = Esys_PolicySecret(tpm_ask(t, "TPM2_PolicySecret"), ESYS_TR_RH_ENDORSEMENT, *session, tpm_authority(t, QM_ENDORSEMENT),
                               ESYS_TR_NONE, ESYS_TR_NONE, NULL, NULL, NULL, 0, NULL, NULL);
        err = tpm_answer(t, rc, fault);
    }
    if (err == QM_OK) {
        rc = Esys_TRSess_SetAttributes(tpm_esys(t), *session, TPMA_SESSION_ENCRYPT | TPMA_SESSION_CONTINUESESSION, 0xff);
        if (rc != TSS2_RC_SUCCESS)
            err = qm_fail(fault, QM_E_IO, 0, "a session cannot be made to encrypt (0x%x)", rc);
    }
    if (err != QM_OK)
        tpm_flush(t, session);
    return err;
}

/* Is what the TPM said about the challenge? libtpms says failure of a secret that does not decrypt; a TPM that really failed
 * does not answer the next command either. */
static bool is_refusal(struct qm_tpm *t, const struct qm_tpm_key *ak, TSS2_RC code)
{
    if (code != TPM2_RC_FAILURE)
        return code == TPM2_RC_INTEGRITY || code == TPM2_RC_VALUE || code == TPM2_RC_SIZE || code == TPM2_RC_ECC_POINT;
    const TSS2_RC rc =
        Esys_ReadPublic(tpm_ask(t, "TPM2_ReadPublic"), ak->object, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, NULL, NULL, NULL);
    tpm_over(t);
    return rc == TSS2_RC_SUCCESS;
}

qm_err qm_credential_open(struct qm_tpm *t, const struct qm_tpm_key *ak, const struct qm_tpm_ek *ek, struct qm_span blob,
                          struct qm_span secret, uint8_t credential[64], size_t *len, struct qm_fault *fault)
{
    TPM2B_ID_OBJECT object = {0};
    TPM2B_ENCRYPTED_SECRET encrypted = {0};
    size_t used = 0, used_too = 0;
    struct qm_tpm_key key;
    struct qm_public p;
    ESYS_TR session;
    TPM2B_DIGEST *opened = NULL;
    if (Tss2_MU_TPM2B_ID_OBJECT_Unmarshal(blob.p, blob.len, &used, &object) != TSS2_RC_SUCCESS || used != blob.len ||
        Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal(secret.p, secret.len, &used_too, &encrypted) != TSS2_RC_SUCCESS ||
        used_too != secret.len)
        return qm_fail(fault, QM_E_REFUSED, 0, "the challenge is damaged");
    qm_err err = qm_primary_make(t, QM_ENDORSEMENT, &ek->template, &key, fault);
    if (err != QM_OK)
        return err;
    if (key.public.len != ek->public.len || memcmp(key.public.p, ek->public.p, ek->public.len) != 0 ||
        !qm_public_parse((struct qm_span){key.public.p, key.public.len}, &p)) {
        qm_tpm_key_close(t, &key);
        return qm_fail(fault, QM_E_REFUSED, 0, "the TPM has another endorsement key than it had at init: init --force");
    }
    err = open_session(t, &key, p.name_alg, &session, fault);
    if (err == QM_OK) {
        /* The low range takes its policy for every use, the high range its (empty) password too: then the session only
         * encrypts. */
        const bool by_password = (p.attributes & TPMA_OBJECT_USERWITHAUTH) != 0;
        const TSS2_RC rc = Esys_ActivateCredential(tpm_ask(t, "TPM2_ActivateCredential"), ak->object, key.object,
                                                   ESYS_TR_PASSWORD, by_password ? ESYS_TR_PASSWORD : session,
                                                   by_password ? session : ESYS_TR_NONE, &object, &encrypted, &opened);
        err = tpm_answer(t, rc, fault);
        if (err != QM_OK && is_refusal(t, ak, tpm_code(rc)))
            err = qm_fail(fault, QM_E_REFUSED, 0,
                          "the challenge was made for another EK or another AK, or was altered on its way");
        tpm_flush(t, &session);
    }
    if (err == QM_OK) {
        *len = opened->size;
        memcpy(credential, opened->buffer, opened->size);
        explicit_bzero(opened->buffer, opened->size);
    }
    Esys_Free(opened);
    qm_tpm_key_close(t, &key);
    return err;
}
