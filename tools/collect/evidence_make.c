#include "tools/collect/evidence_make.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/emit.h"
#include "codec/evidence.h"
#include "engine/kernel/kernel.h"
#include "tools/line_read.h"

enum { RECORD_ROOM = 16 * 1024 }; /* of a record, beside its log: quote, signature, PCR values, id */

qm_err qm_extra_beacon(const char *file, struct qm_span id, uint8_t extra[32], struct qm_fault *fault)
{
    static const char label[] = "quotemill-beacon-v1";
    char hex[2 * QM_BEACON_SIZE + 1];
    uint8_t text[sizeof label - 1 + QM_BEACON_SIZE + QM_ID_MAX];
    struct qm_fault why = {0};
    int fd;
    ssize_t n = 0, len = 0;
    if (qm_file_open(file, &fd, &why) != QM_OK)
        return qm_fail(fault, QM_E_IO, 0, "the beacon: %.400s", why.text);
    while (len < (ssize_t)sizeof hex && (n = read(fd, hex + len, sizeof hex - (size_t)len)) > 0)
        len += n;
    const int sys = errno;
    close(fd);
    if (n < 0)
        return qm_fail(fault, QM_E_IO, sys, "the beacon %.200s", file);
    memcpy(text, label, sizeof label - 1);
    if (len < 2 * QM_BEACON_SIZE || (len > 2 * QM_BEACON_SIZE && hex[2 * QM_BEACON_SIZE] != '\n') ||
        !qm_hex_read(hex, text + sizeof label - 1, QM_BEACON_SIZE))
        return qm_fail(fault, QM_E_FORMAT, 0, "%.200s holds no beacon: %d hex digits, as quotemill beacon show writes them",
                       file, 2 * QM_BEACON_SIZE);
    memcpy(text + sizeof label - 1 + QM_BEACON_SIZE, id.p, id.len);
    qm_hash_one(QM_HASH_SHA256, (struct qm_span){text, sizeof label - 1 + QM_BEACON_SIZE + id.len}, extra);
    return QM_OK;
}

static void put(struct qm_emit *e, const char *key, const uint8_t *p, size_t len)
{
    qm_emit_key(e, key);
    qm_emit_bytes(e, p, len);
}

qm_err qm_evidence_make(const struct qm_identity *i, const struct qm_measured *m, struct qm_span log, uint64_t now_ms,
                        uint8_t **record, size_t *len, struct qm_fault *fault)
{
    const size_t cap = log.len + RECORD_ROOM;
    uint8_t name[2 + QM_DIGEST_MAX];
    struct qm_evidence check;
    *record = malloc(cap);
    if (*record == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    struct qm_out o = qm_out_init(*record, cap);
    struct qm_emit e = qm_emit_init(&o, false);
    qm_emit_map(&e);
    qm_emit_key(&e, "v");
    qm_emit_u64(&e, 1);
    qm_emit_key(&e, "id");
    qm_emit_text(&e, (struct qm_span){i->id, i->id_len});
    put(&e, "quote", m->quote, m->quote_len);
    put(&e, "sig", m->sig, m->sig_len);
    qm_emit_key(&e, "pcrs");
    qm_emit_map(&e);
    qm_emit_key_u64(&e, QM_TPM_ALG_SHA256);
    qm_emit_map(&e);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((m->mask >> pcr & 1) != 0) {
            qm_emit_key_u64(&e, pcr);
            qm_emit_bytes(&e, m->pcr[pcr], sizeof m->pcr[pcr]);
        }
    qm_emit_end(&e);
    qm_emit_end(&e);
    put(&e, "ak", name, qm_tpm_name((struct qm_span){i->ak.p, i->ak.len}, name));
    qm_emit_key(&e, "t");
    qm_emit_u64(&e, now_ms);
    qm_emit_key(&e, "agent");
    qm_emit_name(&e, "quotemill-collect " QM_VERSION);
    if (log.p != NULL)
        put(&e, "log", log.p, log.len);
    qm_emit_end(&e);
    *len = o.len;
    if (!o.full && qm_evidence_read((struct qm_span){*record, o.len}, &check) == QM_FRAME_RECORD && !check.malformed &&
        check.record.len == o.len)
        return QM_OK;
    free(*record);
    *record = NULL;
    return qm_fail(fault, QM_E_LIMIT, 0, "the record would be refused by every spool: %zu bytes, with a log of %zu", *len,
                   log.len);
}
