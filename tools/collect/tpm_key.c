#include "tools/collect/tpm_key.h"

#include <errno.h>
#include <sys/random.h>

#include "codec/cursor.h"
#include "engine/kernel/kernel.h"
#include "tools/collect/tpm_inside.h"
#include "tools/collect/tpm_nv.h"

/* Persistent handles of the endorsement hierarchy begin at 0x81010000, of the owner's at 0x81000000; the first 256 of each are
 * for primary keys with a fixed use (Registry of Reserved TPM 2.0 Handles and Localities). */
enum { UNIQUE_BYTES = 32, HANDLES_AT_ONCE = 64 };
#define HANDLE_FIRST 0x81010100u
#define HANDLE_LAST  0x8101ffffu

const char *const qm_ak_kinds[] = {"rsa2048", "rsapss2048", "p256", "p384", NULL};

const char *qm_ak_kind_scheme(const char *kind)
{
    static const char *const scheme[] = {"rsassa-sha256", "rsapss-sha256", "ecdsa-sha256", "ecdsa-sha384"};
    size_t i = 0;
    while (i + 1 < QM_COUNT(scheme) && strcmp(kind, qm_ak_kinds[i]) != 0)
        i++;
    return scheme[i];
}

/* ---- structures -------------------------------------------------------------------------------------------------------- */

static bool write_public(const TPM2B_PUBLIC *p, struct qm_blob *to)
{
    to->len = 0;
    return Tss2_MU_TPM2B_PUBLIC_Marshal(p, to->p, sizeof to->p, &to->len) == TSS2_RC_SUCCESS;
}

/* All of it. */
static bool read_public(struct qm_span s, TPM2B_PUBLIC *to)
{
    size_t used = 0;
    *to = (TPM2B_PUBLIC){0};
    return Tss2_MU_TPM2B_PUBLIC_Unmarshal(s.p, s.len, &used, to) == TSS2_RC_SUCCESS && used == s.len;
}

static struct qm_span span_of(const struct qm_blob *b)
{
    return (struct qm_span){b->p, b->len};
}

static TPMT_PUBLIC ak_public(const char *kind)
{
    TPMT_PUBLIC p = {
        .nameAlg = TPM2_ALG_SHA256,
        .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                            TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT,
    };
    if (kind[0] == 'r') {
        p.type = TPM2_ALG_RSA;
        p.parameters.rsaDetail.symmetric.algorithm = TPM2_ALG_NULL;
        p.parameters.rsaDetail.scheme.scheme = strcmp(kind, "rsapss2048") == 0 ? TPM2_ALG_RSAPSS : TPM2_ALG_RSASSA;
        p.parameters.rsaDetail.scheme.details.anySig.hashAlg = TPM2_ALG_SHA256;
        p.parameters.rsaDetail.keyBits = 2048;
        return p;
    }
    const bool p384 = strcmp(kind, "p384") == 0;
    p.type = TPM2_ALG_ECC;
    p.parameters.eccDetail.symmetric.algorithm = TPM2_ALG_NULL;
    p.parameters.eccDetail.scheme.scheme = TPM2_ALG_ECDSA;
    p.parameters.eccDetail.scheme.details.anySig.hashAlg = p384 ? TPM2_ALG_SHA384 : TPM2_ALG_SHA256;
    p.parameters.eccDetail.curveID = p384 ? TPM2_ECC_NIST_P384 : TPM2_ECC_NIST_P256;
    p.parameters.eccDetail.kdf.scheme = TPM2_ALG_NULL;
    return p;
}

qm_err qm_ak_template(const char *kind, struct qm_blob *template, struct qm_fault *fault)
{
    TPM2B_PUBLIC p = {.publicArea = ak_public(kind)};
    uint8_t unique[UNIQUE_BYTES];
    if (getrandom(unique, sizeof unique, 0) != (ssize_t)sizeof unique)
        return qm_fail(fault, QM_E_IO, errno, "no random bytes");
    if (p.publicArea.type == TPM2_ALG_RSA) {
        p.publicArea.unique.rsa.size = sizeof unique;
        memcpy(p.publicArea.unique.rsa.buffer, unique, sizeof unique);
    } else {
        p.publicArea.unique.ecc.x.size = sizeof unique;
        memcpy(p.publicArea.unique.ecc.x.buffer, unique, sizeof unique);
    }
    return write_public(&p, template) ? QM_OK : qm_fail(fault, QM_E_LIMIT, 0, "the template does not fit");
}

const char *qm_ak_scheme(struct qm_span public, const char **why)
{
    static const struct {
        uint16_t scheme, hash;
        const char *name;
    } known[] = {
        {QM_TPM_ALG_RSASSA, QM_TPM_ALG_SHA256, "rsassa-sha256"}, {QM_TPM_ALG_RSASSA, QM_TPM_ALG_SHA384, "rsassa-sha384"},
        {QM_TPM_ALG_RSASSA, QM_TPM_ALG_SHA512, "rsassa-sha512"}, {QM_TPM_ALG_RSAPSS, QM_TPM_ALG_SHA256, "rsapss-sha256"},
        {QM_TPM_ALG_RSAPSS, QM_TPM_ALG_SHA384, "rsapss-sha384"}, {QM_TPM_ALG_RSAPSS, QM_TPM_ALG_SHA512, "rsapss-sha512"},
        {QM_TPM_ALG_ECDSA, QM_TPM_ALG_SHA256, "ecdsa-sha256"},   {QM_TPM_ALG_ECDSA, QM_TPM_ALG_SHA384, "ecdsa-sha384"},
        {QM_TPM_ALG_ECDSA, QM_TPM_ALG_SHA512, "ecdsa-sha512"},
    };
    const uint32_t needed =
        QM_TPMA_FIXED_TPM | QM_TPMA_FIXED_PARENT | QM_TPMA_SENSITIVE_DATA_ORIGIN | QM_TPMA_RESTRICTED | QM_TPMA_SIGN;
    struct qm_public p;
    if (!qm_public_parse(public, &p)) {
        *why = "it is neither an RSA nor an ECC key";
        return NULL;
    }
    if ((p.attributes & needed) != needed || (p.attributes & QM_TPMA_DECRYPT) != 0) {
        *why = "it is no restricted signing key made in this TPM (fixedTPM, fixedParent, sensitiveDataOrigin, restricted, "
               "sign, not decrypt)";
        return NULL;
    }
    for (size_t i = 0; i < QM_COUNT(known); i++)
        if (p.scheme == known[i].scheme && p.scheme_hash == known[i].hash)
            return known[i].name;
    *why = "its scheme is not RSASSA, RSAPSS or ECDSA with SHA-256, SHA-384 or SHA-512";
    return NULL;
}

size_t qm_tpm_name(struct qm_span public, uint8_t name[2 + QM_DIGEST_MAX])
{
    struct qm_cur c = qm_cur_init(public.p, public.len);
    const struct qm_span area = qm_cur_tpm2b(&c);
    if (!qm_cur_done(&c) || area.len < 4)
        return 0;
    const uint16_t alg = qm_load_be16(area.p + 2);
    const enum qm_hash hash = qm_hash_of_tpm(alg);
    name[0] = (uint8_t)(alg >> 8);
    name[1] = (uint8_t)(alg & 0xff);
    qm_hash_one(hash, area, name + 2);
    return hash != QM_HASH_NONE ? 2 + qm_hash_size(hash) : 0;
}

qm_err qm_ak_template_nv(struct qm_tpm *t, uint32_t index, struct qm_blob *template, struct qm_fault *fault)
{
    uint8_t bytes[QM_TPM2B_MAX];
    size_t len, used = 0;
    bool there;
    TPM2B_PUBLIC p = {0};
    qm_err err = qm_nv_read(t, index, bytes, sizeof bytes, &len, &there, fault);
    if (err != QM_OK)
        return err;
    if (!there)
        return qm_fail(fault, QM_E_REFUSED, 0, "the TPM has no NV index 0x%x", index);
    const bool sized = len > 2 && qm_load_be16(bytes) == len - 2;
    const TSS2_RC rc = sized ? Tss2_MU_TPM2B_PUBLIC_Unmarshal(bytes, len, &used, &p)
                             : Tss2_MU_TPMT_PUBLIC_Unmarshal(bytes, len, &used, &p.publicArea);
    p.size = 0; /* marshalling works it out */
    if (rc != TSS2_RC_SUCCESS || used != len || !write_public(&p, template))
        return qm_fail(fault, QM_E_REFUSED, 0, "NV index 0x%x holds no template of a key", index);
    return QM_OK;
}

/* ---- primary keys, persistent handles ---------------------------------------------------------------------------------- */

void qm_tpm_key_close(struct qm_tpm *t, struct qm_tpm_key *k)
{
    ESYS_TR object = k->object;
    if (k->handle == 0)
        tpm_flush(t, &object);
    else if (object != ESYS_TR_NONE)
        (void)Esys_TR_Close(tpm_esys(t), &object); /* the key stays where it is */
    k->object = ESYS_TR_NONE;
}

static qm_err make_primary(struct qm_tpm *t, enum qm_hierarchy where, const TPM2B_PUBLIC *template, struct qm_tpm_key *out,
                           struct qm_fault *fault)
{
    const TPM2B_SENSITIVE_CREATE sensitive = {0};
    const TPM2B_DATA outside = {0};
    const TPML_PCR_SELECTION pcrs = {0};
    TPM2B_PUBLIC *public = NULL;
    *out = (struct qm_tpm_key){.object = ESYS_TR_NONE};
    const TSS2_RC rc =
        Esys_CreatePrimary(tpm_ask(t, "TPM2_CreatePrimary"), tpm_hierarchy(where), tpm_authority(t, where), ESYS_TR_NONE, ESYS_TR_NONE,
                           &sensitive, template, &outside, &pcrs, &out->object, &public, NULL, NULL, NULL);
    qm_err err = tpm_answer(t, rc, fault);
    if (err == QM_OK && !write_public(public, &out->public))
        err = qm_fail(fault, QM_E_LIMIT, 0, "the TPM gave a public key of unusual size");
    Esys_Free(public);
    if (err != QM_OK)
        tpm_flush(t, &out->object);
    return err;
}

qm_err qm_primary_make(struct qm_tpm *t, enum qm_hierarchy where, const struct qm_blob *template, struct qm_tpm_key *out,
                       struct qm_fault *fault)
{
    TPM2B_PUBLIC p;
    *out = (struct qm_tpm_key){.object = ESYS_TR_NONE};
    if (!read_public(span_of(template), &p))
        return qm_fail(fault, QM_E_FORMAT, 0, "the key's template is damaged");
    p.size = 0;
    return make_primary(t, where, &p, out, fault);
}

/* Is it one of the TPM's persistent handles? *next: the first free one from it on. */
static qm_err look_up(struct qm_tpm *t, uint32_t handle, bool *taken, uint32_t *next, struct qm_fault *fault)
{
    TPMI_YES_NO more = TPM2_YES;
    *next = handle;
    *taken = false;
    while (more == TPM2_YES) {
        TPMS_CAPABILITY_DATA *data = NULL;
        const uint32_t from = *next;
        const TSS2_RC rc = Esys_GetCapability(tpm_ask(t, "TPM2_GetCapability"), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                              TPM2_CAP_HANDLES, from, HANDLES_AT_ONCE, &more, &data);
        qm_err err = tpm_answer(t, rc, fault);
        if (err != QM_OK)
            return err;
        for (uint32_t i = 0; i < data->data.handles.count && data->data.handles.handle[i] == *next; i++)
            ++*next;
        *taken = *taken || *next != handle;
        if (data->data.handles.count != HANDLES_AT_ONCE || *next != from + HANDLES_AT_ONCE)
            more = TPM2_NO;
        Esys_Free(data);
    }
    return QM_OK;
}

qm_err qm_handle_free(struct qm_tpm *t, uint32_t wanted, uint32_t *handle, struct qm_fault *fault)
{
    bool taken;
    qm_err err = look_up(t, wanted != 0 ? wanted : HANDLE_FIRST, &taken, handle, fault);
    if (err != QM_OK)
        return err;
    if (wanted != 0 && taken)
        return qm_fail(fault, QM_E_REFUSED, 0, "the persistent handle 0x%x is taken; --handle takes over the key that is there",
                       wanted);
    if (wanted == 0 && *handle > HANDLE_LAST)
        return qm_fail(fault, QM_E_LIMIT, 0, "no persistent handle from 0x%x to 0x%x is free", HANDLE_FIRST, HANDLE_LAST);
    return QM_OK;
}

qm_err qm_key_persist(struct qm_tpm *t, struct qm_tpm_key *k, uint32_t handle, struct qm_fault *fault)
{
    ESYS_TR kept = ESYS_TR_NONE, old = k->object;
    const TSS2_RC rc = Esys_EvictControl(tpm_ask(t, "TPM2_EvictControl"), ESYS_TR_RH_OWNER, k->object, tpm_authority(t, QM_OWNER),
                                         ESYS_TR_NONE, ESYS_TR_NONE, handle, &kept);
    qm_err err = tpm_answer(t, rc, fault);
    if (err != QM_OK)
        return err;
    tpm_flush(t, &old);
    k->object = kept;
    k->handle = handle;
    return QM_OK;
}

qm_err qm_key_evict(struct qm_tpm *t, struct qm_tpm_key *k, struct qm_fault *fault)
{
    ESYS_TR gone = ESYS_TR_NONE;
    const TSS2_RC rc = Esys_EvictControl(tpm_ask(t, "TPM2_EvictControl"), ESYS_TR_RH_OWNER, k->object, tpm_authority(t, QM_OWNER),
                                         ESYS_TR_NONE, ESYS_TR_NONE, k->handle, &gone);
    qm_err err = tpm_answer(t, rc, fault);
    if (err == QM_OK)
        *k = (struct qm_tpm_key){.object = ESYS_TR_NONE};
    return err;
}

qm_err qm_key_open(struct qm_tpm *t, uint32_t handle, struct qm_tpm_key *out, bool *there, struct qm_fault *fault)
{
    TPM2B_PUBLIC *public = NULL;
    ESYS_TR object = ESYS_TR_NONE;
    *out = (struct qm_tpm_key){.object = ESYS_TR_NONE};
    TSS2_RC rc =
        Esys_TR_FromTPMPublic(tpm_ask(t, "TPM2_ReadPublic"), handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &object);
    *there = tpm_code(rc) != TPM2_RC_HANDLE;
    if (!*there) {
        tpm_over(t);
        return QM_OK;
    }
    qm_err err = tpm_answer(t, rc, fault);
    if (err != QM_OK)
        return err;
    rc = Esys_ReadPublic(tpm_ask(t, "TPM2_ReadPublic"), object, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &public, NULL, NULL);
    err = tpm_answer(t, rc, fault);
    if (err == QM_OK && !write_public(public, &out->public))
        err = qm_fail(fault, QM_E_LIMIT, 0, "the TPM gave a public key of unusual size");
    Esys_Free(public);
    out->object = object;
    out->handle = handle;
    if (err != QM_OK)
        qm_tpm_key_close(t, out);
    return err;
}

/* ---- wrapped keys ------------------------------------------------------------------------------------------------------ */

/* The storage key that wraps: P-256 by the template of TCG's TPM v2.0 Provisioning Guidance, 7.5.1, with nothing in unique. */
static qm_err make_parent(struct qm_tpm *t, enum qm_hierarchy where, struct qm_tpm_key *out, struct qm_fault *fault)
{
    const TPM2B_PUBLIC template = {
        .publicArea =
            {
                .type = TPM2_ALG_ECC,
                .nameAlg = TPM2_ALG_SHA256,
                .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                                    TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT,
                .parameters.eccDetail =
                    {
                        .symmetric = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB},
                        .scheme.scheme = TPM2_ALG_NULL,
                        .curveID = TPM2_ECC_NIST_P256,
                        .kdf.scheme = TPM2_ALG_NULL,
                    },
            },
    };
    return make_primary(t, where, &template, out, fault);
}

qm_err qm_key_wrap(struct qm_tpm *t, enum qm_hierarchy where, const char *kind, uint8_t wrapped[QM_WRAPPED_MAX], size_t *len,
                   struct qm_fault *fault)
{
    const TPM2B_SENSITIVE_CREATE sensitive = {0};
    const TPM2B_DATA outside = {0};
    const TPML_PCR_SELECTION pcrs = {0};
    const TPM2B_PUBLIC template = {.publicArea = ak_public(kind)};
    struct qm_tpm_key parent;
    TPM2B_PRIVATE *private = NULL;
    TPM2B_PUBLIC *public = NULL;
    qm_err err = make_parent(t, where, &parent, fault);
    if (err != QM_OK)
        return err;
    const TSS2_RC rc = Esys_Create(tpm_ask(t, "TPM2_Create"), parent.object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                   &sensitive, &template, &outside, &pcrs, &private, &public, NULL, NULL, NULL);
    err = tpm_answer(t, rc, fault);
    *len = 0;
    if (err == QM_OK && (Tss2_MU_TPM2B_PUBLIC_Marshal(public, wrapped, QM_WRAPPED_MAX, len) != TSS2_RC_SUCCESS ||
                         Tss2_MU_TPM2B_PRIVATE_Marshal(private, wrapped, QM_WRAPPED_MAX, len) != TSS2_RC_SUCCESS))
        err = qm_fail(fault, QM_E_LIMIT, 0, "the TPM gave a wrapped key of unusual size");
    Esys_Free(private);
    Esys_Free(public);
    qm_tpm_key_close(t, &parent);
    return err;
}

qm_err qm_key_unwrap(struct qm_tpm *t, enum qm_hierarchy where, struct qm_span wrapped, struct qm_tpm_key *out,
                     struct qm_fault *fault)
{
    TPM2B_PUBLIC public = {0};
    TPM2B_PRIVATE private = {0};
    struct qm_tpm_key parent;
    size_t used = 0;
    *out = (struct qm_tpm_key){.object = ESYS_TR_NONE};
    if (Tss2_MU_TPM2B_PUBLIC_Unmarshal(wrapped.p, wrapped.len, &used, &public) != TSS2_RC_SUCCESS ||
        used > sizeof out->public.p)
        return qm_fail(fault, QM_E_FORMAT, 0, "the key file is damaged");
    out->public.len = used;
    memcpy(out->public.p, wrapped.p, used);
    if (Tss2_MU_TPM2B_PRIVATE_Unmarshal(wrapped.p, wrapped.len, &used, &private) != TSS2_RC_SUCCESS || used != wrapped.len)
        return qm_fail(fault, QM_E_FORMAT, 0, "the key file is damaged");
    qm_err err = make_parent(t, where, &parent, fault);
    if (err != QM_OK)
        return err;
    ESYS_TR object = ESYS_TR_NONE;
    const TSS2_RC rc = Esys_Load(tpm_ask(t, "TPM2_Load"), parent.object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &private,
                                 &public, &object);
    err = tpm_answer(t, rc, fault);
    qm_tpm_key_close(t, &parent);
    out->object = object;
    return err;
}
