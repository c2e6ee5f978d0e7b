#include "tools/collect/tpm_quote.h"

#include "codec/cursor.h"
#include "engine/kernel/kernel.h"
#include "tools/collect/tpm_inside.h"

enum { SELECT_BYTES = 3, PROPERTIES_AT_ONCE = 64 };

static TPML_PCR_SELECTION selection_of(uint32_t mask)
{
    TPML_PCR_SELECTION s = {.count = 1, .pcrSelections[0] = {.hash = TPM2_ALG_SHA256, .sizeofSelect = SELECT_BYTES}};
    for (unsigned i = 0; i < SELECT_BYTES; i++)
        s.pcrSelections[0].pcrSelect[i] = (BYTE)(mask >> (8 * i) & 0xff);
    return s;
}

/* Of the bank in all of its entries. */
static uint32_t mask_of(const TPML_PCR_SELECTION *s, uint16_t bank)
{
    uint32_t mask = 0;
    for (uint32_t i = 0; i < s->count; i++)
        for (unsigned b = 0; s->pcrSelections[i].hash == bank && b < s->pcrSelections[i].sizeofSelect && b < SELECT_BYTES; b++)
            mask |= (uint32_t)s->pcrSelections[i].pcrSelect[b] << (8 * b);
    return mask;
}

static qm_err no_bank(uint32_t missing, struct qm_fault *fault)
{
    return qm_fail(fault, QM_E_REFUSED, 0,
                   "the TPM's SHA-256 bank lacks PCR %d: switch the bank on in the firmware's setup, or with "
                   "tpm2_pcrallocate, and restart the machine",
                   __builtin_ctz(missing));
}

/* The TPM gives at most 8 values at once, and says which. */
static qm_err read_pcrs(struct qm_tpm *t, struct qm_measured *m, struct qm_fault *fault)
{
    for (uint32_t left = m->mask; left != 0;) {
        const TPML_PCR_SELECTION asked = selection_of(left);
        TPML_PCR_SELECTION *got = NULL;
        TPML_DIGEST *values = NULL;
        const TSS2_RC rc =
            Esys_PCR_Read(tpm_ask(t, "TPM2_PCR_Read"), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &asked, NULL, &got, &values);
        qm_err err = tpm_answer(t, rc, fault);
        const uint32_t mask = err == QM_OK ? mask_of(got, TPM2_ALG_SHA256) & left : 0;
        uint32_t n = 0;
        for (unsigned pcr = 0; err == QM_OK && pcr < QM_PCR_COUNT; pcr++) {
            if ((mask >> pcr & 1) == 0)
                continue;
            if (n == values->count || values->digests[n].size != sizeof m->pcr[pcr])
                err = qm_fail(fault, QM_E_IO, 0, "TPM2_PCR_Read gave no value for PCR %u", pcr);
            else
                memcpy(m->pcr[pcr], values->digests[n++].buffer, sizeof m->pcr[pcr]);
        }
        if (err == QM_OK && mask == 0)
            err = no_bank(left, fault);
        Esys_Free(got);
        Esys_Free(values);
        if (err != QM_OK)
            return err;
        left &= ~mask;
    }
    return QM_OK;
}

static qm_err take_quote(struct qm_tpm *t, const struct qm_tpm_key *ak, struct qm_span extra, struct qm_measured *m,
                         struct qm_fault *fault)
{
    const TPML_PCR_SELECTION selection = selection_of(m->mask);
    const TPMT_SIG_SCHEME own = {.scheme = TPM2_ALG_NULL};
    TPM2B_DATA data = {.size = (UINT16)extra.len};
    TPM2B_ATTEST *quoted = NULL;
    TPMT_SIGNATURE *sig = NULL;
    memcpy(data.buffer, extra.p, extra.len);
    const TSS2_RC rc = Esys_Quote(tpm_ask(t, "TPM2_Quote"), ak->object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &data,
                                  &own, &selection, &quoted, &sig);
    qm_err err = tpm_answer(t, rc, fault);
    m->sig_len = 0;
    if (err == QM_OK && (quoted->size > sizeof m->quote ||
                         Tss2_MU_TPMT_SIGNATURE_Marshal(sig, m->sig, sizeof m->sig, &m->sig_len) != TSS2_RC_SUCCESS))
        err = qm_fail(fault, QM_E_LIMIT, 0, "the TPM gave a quote of unusual size");
    if (err == QM_OK) {
        m->quote_len = quoted->size;
        memcpy(m->quote, quoted->attestationData, m->quote_len);
    }
    Esys_Free(quoted);
    Esys_Free(sig);
    return err;
}

/* Is it the quote that was asked for? *moved: it is, but of other PCR values. */
static qm_err compare(const struct qm_measured *m, struct qm_span extra, bool *moved, struct qm_fault *fault)
{
    uint8_t values[QM_PCR_COUNT * 32], digest[QM_DIGEST_MAX];
    size_t len = 0;
    struct qm_attest a;
    struct qm_signature s;
    if (!qm_attest_parse((struct qm_span){m->quote, m->quote_len}, &a) ||
        !qm_signature_parse((struct qm_span){m->sig, m->sig_len}, &s) || !qm_span_eq(a.extra, extra))
        return qm_fail(fault, QM_E_IO, 0, "what the TPM gave is not the quote that was asked for");
    const uint32_t selected = a.selection_count == 1 && a.selection[0].tpm_alg == QM_TPM_ALG_SHA256 ? a.selection[0].mask : 0;
    if (selected != m->mask)
        return no_bank(m->mask & ~selected ? m->mask & ~selected : selected, fault);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((m->mask >> pcr & 1) != 0) {
            memcpy(values + len, m->pcr[pcr], 32);
            len += 32;
        }
    const enum qm_hash hash = qm_hash_of_tpm(s.tpm_hash);
    qm_hash_one(hash, (struct qm_span){values, len}, digest);
    *moved = hash == QM_HASH_NONE || !qm_span_eq(a.pcr_digest, (struct qm_span){digest, qm_hash_size(hash)});
    return QM_OK;
}

qm_err qm_measure(struct qm_tpm *t, const struct qm_tpm_key *ak, uint32_t mask, struct qm_span extra, struct qm_measured *out,
                  struct qm_fault *fault)
{
    out->mask = mask;
    for (out->tries = 1; out->tries <= QM_QUOTE_TRIES; out->tries++) {
        bool moved = true;
        qm_err err = read_pcrs(t, out, fault);
        if (err == QM_OK)
            err = take_quote(t, ak, extra, out, fault);
        if (err == QM_OK)
            err = compare(out, extra, &moved, fault);
        if (err != QM_OK || !moved)
            return err;
    }
    return qm_fail(fault, QM_E_IO, 0,
                   "the PCRs moved between reading and quoting, %d times: something extends them all the time", QM_QUOTE_TRIES);
}

/* ---- the TPM's state --------------------------------------------------------------------------------------------------- */

/* Four characters of a property, as far as they are printable. */
static void add_name(char *name, size_t cap, uint32_t value)
{
    size_t len = strlen(name);
    for (int shift = 24; shift >= 0; shift -= 8) {
        const char c = (char)(value >> shift & 0x7f);
        if (c > ' ' && c < 0x7f && len + 1 < cap)
            name[len++] = c;
    }
    name[len] = '\0';
}

static void take_property(struct qm_tpm_state *s, uint32_t property, uint32_t value)
{
    switch (property) {
    case TPM2_PT_MANUFACTURER:
        add_name(s->vendor, sizeof s->vendor, value);
        break;
    case TPM2_PT_VENDOR_STRING_1:
    case TPM2_PT_VENDOR_STRING_2:
        add_name(s->model, sizeof s->model, value);
        break;
    case TPM2_PT_FIRMWARE_VERSION_1:
        s->firmware |= (uint64_t)value << 32;
        break;
    case TPM2_PT_FIRMWARE_VERSION_2:
        s->firmware |= value;
        break;
    case TPM2_PT_PERMANENT:
        s->locked_out = (value & TPMA_PERMANENT_INLOCKOUT) != 0;
        s->has_password[QM_ENDORSEMENT] = (value & TPMA_PERMANENT_ENDORSEMENTAUTHSET) != 0;
        s->has_password[QM_OWNER] = (value & TPMA_PERMANENT_OWNERAUTHSET) != 0;
        break;
    case TPM2_PT_LOCKOUT_COUNTER:
        s->wrong_auths = value;
        break;
    case TPM2_PT_MAX_AUTH_FAIL:
        s->wrong_auths_max = value;
        break;
    default:
        break;
    }
}

static qm_err look_at(struct qm_tpm *t, TPM2_CAP what, uint32_t from, uint32_t count, struct qm_tpm_state *out,
                      struct qm_fault *fault)
{
    TPMS_CAPABILITY_DATA *data = NULL;
    TPMI_YES_NO more;
    const TSS2_RC rc = Esys_GetCapability(tpm_ask(t, "TPM2_GetCapability"), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, what,
                                          from, count, &more, &data);
    qm_err err = tpm_answer(t, rc, fault);
    if (err != QM_OK)
        return err;
    if (what == TPM2_CAP_TPM_PROPERTIES)
        for (uint32_t i = 0; i < data->data.tpmProperties.count; i++)
            take_property(out, data->data.tpmProperties.tpmProperty[i].property, data->data.tpmProperties.tpmProperty[i].value);
    for (enum qm_hash h = QM_HASH_SHA1; what == TPM2_CAP_PCRS && h < QM_HASH_COUNT; h++)
        out->bank[h] = mask_of(&data->data.assignedPCR, qm_hash_to_tpm(h));
    Esys_Free(data);
    return QM_OK;
}

qm_err qm_tpm_look(struct qm_tpm *t, struct qm_tpm_state *out, struct qm_fault *fault)
{
    *out = (struct qm_tpm_state){0};
    qm_err err = look_at(t, TPM2_CAP_TPM_PROPERTIES, TPM2_PT_FIXED, PROPERTIES_AT_ONCE, out, fault);
    if (err == QM_OK)
        err = look_at(t, TPM2_CAP_TPM_PROPERTIES, TPM2_PT_VAR, PROPERTIES_AT_ONCE, out, fault);
    if (err == QM_OK)
        err = look_at(t, TPM2_CAP_PCRS, 0, 1, out, fault);
    return err;
}
