/* quotemill-collect certificate: certificates that the TPM holds, as PEM for openssl, and for quotemill enroll --ak-cert. */
#include <stdio.h>

#include "codec/text.h"
#include "tools/collect/collect.h"
#include "tools/collect/identity.h"
#include "tools/collect/tpm_nv.h"

enum { INDEX_BYTES_MAX = 16 * 1024, PEM_LINE_BYTES = 48 /* 64 characters */ };

struct certificate {
    struct qm_collect common;
    uint32_t index;
    bool there;
    size_t len;
    uint8_t bytes[INDEX_BYTES_MAX];
    struct qm_nv_certs certs;
};

static void print_pem(const struct qm_nv_cert *c)
{
    char line[4 * PEM_LINE_BYTES / 3 + 4];
    puts("-----BEGIN CERTIFICATE-----");
    for (size_t at = 0; at < c->len; at += PEM_LINE_BYTES) {
        struct qm_out o = qm_out_init(line, sizeof line);
        qm_out_base64(&o, c->p + at, c->len - at < PEM_LINE_BYTES ? c->len - at : PEM_LINE_BYTES);
        printf("%.*s\n", (int)o.len, line);
    }
    puts("-----END CERTIFICATE-----");
}

static qm_err job(struct qm_tpm *t, void *arg, struct qm_fault *fault)
{
    struct certificate *c = arg;
    return qm_nv_read(t, c->index, c->bytes, sizeof c->bytes, &c->len, &c->there, fault);
}

/* Of the index, or of the EK as init found them. */
static qm_err find(struct certificate *c, struct qm_fault *fault)
{
    static struct qm_identity i;
    bool there;
    qm_err err = QM_OK;
    if (c->index == 0) {
        err = qm_identity_read(&i, c->common.state, &there, fault);
        if (err == QM_OK && !there)
            err = qm_fail(fault, QM_E_REFUSED, 0, "there is no key yet: quotemill-collect init");
        if (err == QM_OK && i.ek.certs.count == 0)
            err = qm_fail(fault, QM_E_REFUSED, 0, "the TPM has no certificate of its endorsement key");
        c->certs = i.ek.certs;
        return err;
    }
    err = qm_collect_tpm(&c->common, job, c, NULL, fault);
    if (err == QM_OK && !c->there)
        err = qm_fail(fault, QM_E_REFUSED, 0, "the TPM has no NV index 0x%x", c->index);
    if (err != QM_OK)
        return err;
    qm_nv_certs_take(&c->certs, (struct qm_span){c->bytes, c->len});
    return c->certs.count != 0 ? QM_OK : qm_fail(fault, QM_E_REFUSED, 0, "NV index 0x%x holds no certificate", c->index);
}

int qm_collect_certificate(int argc, char **argv)
{
    static struct certificate c; /* a job that was left behind still has it */
    c = (struct certificate){.common = QM_COLLECT_INIT};
    const struct qm_option options[] = {QM_STATE_OPTION(&c.common), QM_TPM_OPTIONS(&c.common)};
    static const struct qm_usage usage = {
        "certificate", "[INDEX]",
        "Writes the certificates of an NV index of the TPM in PEM; without one those of the endorsement key.",
        "A platform that certifies the attestation key itself leaves the certificate there: quotemill enroll --ak-cert takes "
        "it.\n"
        "Exit codes: 0 done, 1 there is none, 2 usage, 3 the environment or the TPM failed.\n"};
    struct qm_fault fault = {0};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 1, &first, &code))
        return code;
    qm_collect_settle(&c.common);
    qm_err err = first < argc ? qm_handle_read(argv[first], "INDEX", QM_NV_FIRST, QM_NV_LAST, &c.index, &fault) : QM_OK;
    if (err == QM_OK)
        err = find(&c, &fault);
    if (err != QM_OK)
        return qm_complain("certificate", &fault);
    for (size_t i = 0; i < c.certs.count; i++)
        print_pem(&c.certs.cert[i]);
    return qm_stdout_close("certificate");
}
