#include "codec/tpm2.h"

#include "codec/cursor.h"

static const struct {
    uint16_t tpm;
    uint8_t size;
    const char *name;
} hashes[QM_HASH_COUNT] = {
    [QM_HASH_NONE] = {0, 0, "none"},
    [QM_HASH_SHA1] = {QM_TPM_ALG_SHA1, 20, "sha1"},
    [QM_HASH_SHA256] = {QM_TPM_ALG_SHA256, 32, "sha256"},
    [QM_HASH_SHA384] = {QM_TPM_ALG_SHA384, 48, "sha384"},
    [QM_HASH_SHA512] = {QM_TPM_ALG_SHA512, 64, "sha512"},
};

enum qm_hash qm_hash_of_tpm(uint16_t tpm_alg)
{
    switch (tpm_alg) {
    case QM_TPM_ALG_SHA1:
        return QM_HASH_SHA1;
    case QM_TPM_ALG_SHA256:
        return QM_HASH_SHA256;
    case QM_TPM_ALG_SHA384:
        return QM_HASH_SHA384;
    case QM_TPM_ALG_SHA512:
        return QM_HASH_SHA512;
    default:
        return QM_HASH_NONE;
    }
}

uint16_t qm_hash_to_tpm(enum qm_hash hash)
{
    return hashes[hash].tpm;
}

size_t qm_hash_size(enum qm_hash hash)
{
    return hashes[hash].size;
}

const char *qm_hash_name(enum qm_hash hash)
{
    return hashes[hash].name;
}

enum qm_hash qm_hash_of_name(const char *name, size_t len)
{
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++)
        if (strlen(hashes[h].name) == len && memcmp(hashes[h].name, name, len) == 0)
            return h;
    return QM_HASH_NONE;
}

/* TPML_PCR_SELECTION, part 2, 10.9.7. */
static bool selections_parse(struct qm_cur *c, struct qm_attest *out)
{
    uint32_t count = qm_cur_be32(c);
    if (c->bad || count > QM_SELECTION_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t alg = qm_cur_be16(c);
        uint8_t size = qm_cur_u8(c);
        if (c->bad || size > QM_SELECT_BYTES_MAX)
            return false;
        const uint8_t *bits = qm_cur_take(c, size);
        if (bits == NULL)
            return false;
        uint32_t mask = 0;
        for (unsigned b = 0; b < size; b++)
            mask |= (uint32_t)bits[b] << (8 * b);
        for (uint32_t j = 0; j < i; j++)
            if (out->selection[j].tpm_alg == alg)
                return false;
        out->selection[i] = (struct qm_selection){alg, mask};
    }
    out->selection_count = (uint8_t)count;
    return true;
}

bool qm_attest_parse(struct qm_span bytes, struct qm_attest *out)
{
    struct qm_cur c = qm_cur_init(bytes.p, bytes.len);
    if (qm_cur_be32(&c) != QM_TPM_GENERATED_VALUE || qm_cur_be16(&c) != QM_TPM_ST_ATTEST_QUOTE)
        return false;
    out->signer = qm_cur_tpm2b(&c);
    out->extra = qm_cur_tpm2b(&c);
    out->clock_ms = qm_cur_be64(&c);
    out->reset = qm_cur_be32(&c);
    out->restart = qm_cur_be32(&c);
    out->safe = qm_cur_u8(&c);
    out->firmware = qm_cur_be64(&c);
    if (!selections_parse(&c, out))
        return false;
    out->pcr_digest = qm_cur_tpm2b(&c);
    return qm_cur_done(&c);
}

bool qm_signature_parse(struct qm_span bytes, struct qm_signature *out)
{
    struct qm_cur c = qm_cur_init(bytes.p, bytes.len);
    out->tpm_alg = qm_cur_be16(&c);
    out->tpm_hash = qm_cur_be16(&c);
    out->a = qm_cur_tpm2b(&c);
    out->b = (struct qm_span){NULL, 0};
    switch (out->tpm_alg) {
    case QM_TPM_ALG_RSASSA:
    case QM_TPM_ALG_RSAPSS:
        break;
    case QM_TPM_ALG_ECDSA:
        out->b = qm_cur_tpm2b(&c);
        break;
    default:
        return false;
    }
    return qm_cur_done(&c);
}

/* TPMT_SYM_DEF_OBJECT, TPMT_RSA_SCHEME, TPMT_ECC_SCHEME, TPMT_KDF_SCHEME: an algorithm, then what it needs. */
static void symmetric_parse(struct qm_cur *c, struct qm_public *out)
{
    out->symmetric = qm_cur_be16(c);
    if (out->symmetric != QM_TPM_ALG_NULL) {
        out->symmetric_bits = qm_cur_be16(c);
        out->symmetric_mode = qm_cur_be16(c);
    }
}

static void scheme_parse(struct qm_cur *c, struct qm_public *out)
{
    out->scheme = qm_cur_be16(c);
    out->scheme_hash = 0;
    if (out->scheme == QM_TPM_ALG_NULL || out->scheme == QM_TPM_ALG_RSAES)
        return;
    out->scheme_hash = qm_cur_be16(c);
    if (out->scheme == QM_TPM_ALG_ECDAA)
        qm_cur_be16(c); /* count */
}

static bool tpmt_public_parse(struct qm_cur *c, struct qm_public *out)
{
    memset(out, 0, sizeof *out);
    out->tpmt = (struct qm_span){c->p, qm_cur_left(c)};
    out->type = qm_cur_be16(c);
    out->name_alg = qm_cur_be16(c);
    out->attributes = qm_cur_be32(c);
    out->policy = qm_cur_tpm2b(c);
    if (out->type == QM_TPM_ALG_RSA) {
        symmetric_parse(c, out);
        scheme_parse(c, out);
        out->rsa_bits = qm_cur_be16(c);
        out->rsa_exponent = qm_cur_be32(c);
        out->a = qm_cur_tpm2b(c);
    } else if (out->type == QM_TPM_ALG_ECC) {
        symmetric_parse(c, out);
        scheme_parse(c, out);
        out->ecc_curve = qm_cur_be16(c);
        out->kdf = qm_cur_be16(c);
        if (out->kdf != QM_TPM_ALG_NULL)
            qm_cur_be16(c); /* its hash */
        out->a = qm_cur_tpm2b(c);
        out->b = qm_cur_tpm2b(c);
    } else {
        return false;
    }
    return qm_cur_done(c);
}

bool qm_public_parse(struct qm_span bytes, struct qm_public *out)
{
    struct qm_cur c = qm_cur_init(bytes.p, bytes.len);
    /* A TPMT_PUBLIC starts with 0x0001 or 0x0023, and is longer than 0x0023 bytes: the size in front cannot be mistaken. */
    if (bytes.len > 2 && qm_load_be16(bytes.p) == bytes.len - 2)
        qm_cur_be16(&c);
    return tpmt_public_parse(&c, out);
}
