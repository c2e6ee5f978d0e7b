#include "tools/collect/tpm_nv.h"

#include "codec/cursor.h"
#include "tools/collect/tpm_inside.h"

enum { CHUNK_BYTES = 512, INDICES_AT_ONCE = 64 }; /* every TPM reads 512 bytes at once (PC Client platform TPM profile, 4.9) */

static qm_err read_chunks(struct qm_tpm *t, ESYS_TR index, bool by_owner, uint8_t *to, size_t len, struct qm_fault *fault)
{
    for (size_t at = 0; at < len;) {
        const uint16_t some = (uint16_t)(len - at < CHUNK_BYTES ? len - at : CHUNK_BYTES);
        TPM2B_MAX_NV_BUFFER *data = NULL;
        const TSS2_RC rc = Esys_NV_Read(tpm_ask(t, "TPM2_NV_Read"), by_owner ? ESYS_TR_RH_OWNER : index, index,
                                        by_owner ? tpm_authority(t, QM_OWNER) : ESYS_TR_PASSWORD,
                                        ESYS_TR_NONE, ESYS_TR_NONE, some, (uint16_t)at, &data);
        qm_err err = tpm_answer(t, rc, fault);
        if (err == QM_OK && data->size != some)
            err = qm_fail(fault, QM_E_IO, 0, "TPM2_NV_Read gave %u bytes of %u", data->size, some);
        if (err == QM_OK)
            memcpy(to + at, data->buffer, some);
        Esys_Free(data);
        if (err != QM_OK)
            return err;
        at += some;
    }
    return QM_OK;
}

qm_err qm_nv_read(struct qm_tpm *t, uint32_t index, uint8_t *to, size_t cap, size_t *len, bool *there, struct qm_fault *fault)
{
    ESYS_TR nv = ESYS_TR_NONE;
    TPM2B_NV_PUBLIC *public = NULL;
    TSS2_RC rc = Esys_TR_FromTPMPublic(tpm_ask(t, "TPM2_NV_ReadPublic"), index, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &nv);
    *len = 0;
    *there = tpm_code(rc) != TPM2_RC_HANDLE;
    if (!*there) {
        tpm_over(t);
        return QM_OK;
    }
    qm_err err = tpm_answer(t, rc, fault);
    if (err != QM_OK)
        return err;
    rc = Esys_NV_ReadPublic(tpm_ask(t, "TPM2_NV_ReadPublic"), nv, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &public, NULL);
    err = tpm_answer(t, rc, fault);
    if (err == QM_OK && public->nvPublic.dataSize > cap)
        err = qm_fail(fault, QM_E_LIMIT, 0, "NV index 0x%x holds %u bytes; at most %zu are read", index,
                      public->nvPublic.dataSize, cap);
    if (err == QM_OK) {
        *len = public->nvPublic.dataSize;
        err = read_chunks(t, nv, (public->nvPublic.attributes & TPMA_NV_AUTHREAD) == 0, to, *len, fault);
    }
    Esys_Free(public);
    (void)Esys_TR_Close(tpm_esys(t), &nv);
    return err;
}

qm_err qm_nv_list(struct qm_tpm *t, uint32_t first, uint32_t last, uint32_t *to, size_t cap, size_t *count,
                  struct qm_fault *fault)
{
    TPMI_YES_NO more = TPM2_YES;
    *count = 0;
    while (more == TPM2_YES && first <= last) {
        TPMS_CAPABILITY_DATA *data = NULL;
        const TSS2_RC rc = Esys_GetCapability(tpm_ask(t, "TPM2_GetCapability"), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                              TPM2_CAP_HANDLES, first, INDICES_AT_ONCE, &more, &data);
        qm_err err = tpm_answer(t, rc, fault);
        if (err != QM_OK)
            return err;
        const TPML_HANDLE *h = &data->data.handles;
        if (h->count == 0)
            more = TPM2_NO;
        for (uint32_t i = 0; i < h->count; i++) {
            if (h->handle[i] < first || h->handle[i] > last || *count == cap) {
                more = TPM2_NO;
                break;
            }
            to[(*count)++] = h->handle[i];
            first = h->handle[i] + 1;
        }
        Esys_Free(data);
    }
    return QM_OK;
}

/* ---- certificates ------------------------------------------------------------------------------------------------------ */

/* The DER sequence at the start of s; {NULL, 0}: none. */
static struct qm_span der_of(struct qm_span s)
{
    struct qm_cur c = qm_cur_init(s.p, s.len);
    const uint8_t tag = qm_cur_u8(&c), first = qm_cur_u8(&c);
    size_t len = first;
    if (first == 0x81)
        len = qm_cur_u8(&c);
    else if (first == 0x82)
        len = qm_cur_be16(&c);
    else if (first >= 0x80)
        c.bad = true;
    if (tag != 0x30 || qm_cur_take(&c, len) == NULL)
        return (struct qm_span){NULL, 0};
    return (struct qm_span){s.p, s.len - qm_cur_left(&c)};
}

void qm_nv_certs_take(struct qm_nv_certs *to, struct qm_span bytes)
{
    for (struct qm_span der; (der = der_of(bytes)).p != NULL && to->count < QM_NV_CERTS_MAX;) {
        if (der.len <= QM_NV_CERT_MAX) {
            struct qm_nv_cert *c = &to->cert[to->count++];
            c->len = der.len;
            memcpy(c->p, der.p, der.len);
        }
        bytes.p += der.len;
        bytes.len -= der.len;
    }
}
