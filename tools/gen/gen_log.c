#include "tools/gen/gen_log.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/gen/gen_efi.h"
#include "tools/gen/gen_rand.h"

enum {
    SHA1_LEN = 20,
    SHA256_LEN = 32,
    SHA256_AT = SHA1_LEN + 2, /* behind the SHA-1 digest: an algorithm id first */
    EVENT_HEAD_LEN = 12 + 2 + SHA1_LEN + 2 + SHA256_LEN +
                     4, /* TCG_PCR_EVENT2 with two digests, without its data */
    SPEC_ID_LEN = 37,   /* TCG_EfiSpecIDEvent with two algorithms */
    LOG_HEAD_LEN = 32 + SPEC_ID_LEN,
    DATA_CAP = QM_LOG_MAX + 4096,
    EVENTS_CAP = QM_LOG_MAX / EVENT_HEAD_LEN + 1,
    PATCHES_CAP = 1024,
    EV_NO_ACTION = 3,
    FAMILIES = 3, /* what a tampered event becomes: one of so many, so that tampered machines form
                     cohorts */
};

qm_err qm_gen_hasher_open(struct qm_gen_hasher *h, struct qm_fault *fault)
{
    *h = (struct qm_gen_hasher){0};
    h->md[QM_HASH_SHA1] = EVP_MD_fetch(NULL, "SHA1", NULL);
    h->md[QM_HASH_SHA256] = EVP_MD_fetch(NULL, "SHA256", NULL);
    h->md[QM_HASH_SHA384] = EVP_MD_fetch(NULL, "SHA384", NULL);
    h->ctx = EVP_MD_CTX_new();
    if (h->md[QM_HASH_SHA1] != NULL && h->md[QM_HASH_SHA256] != NULL &&
        h->md[QM_HASH_SHA384] != NULL && h->ctx != NULL)
        return QM_OK;
    qm_gen_hasher_close(h);
    return qm_fail(fault, QM_E_CRYPTO, 0, "OpenSSL has no SHA-1, SHA-256 or SHA-384");
}

void qm_gen_hasher_close(struct qm_gen_hasher *h)
{
    for (size_t i = 0; i < QM_HASH_COUNT; i++)
        EVP_MD_free(h->md[i]);
    EVP_MD_CTX_free(h->ctx);
    *h = (struct qm_gen_hasher){0};
}

void qm_gen_hash(struct qm_gen_hasher *h, enum qm_hash hash, const void *p, size_t len,
                 uint8_t *out)
{
    if (EVP_DigestInit_ex(h->ctx, h->md[hash], NULL) != 1 ||
        EVP_DigestUpdate(h->ctx, p, len) != 1 || EVP_DigestFinal_ex(h->ctx, out, NULL) != 1) {
        h->bad = true;
        memset(out, 0, qm_hash_size(hash));
    }
}

qm_err qm_gen_plan_open(struct qm_gen_plan *plan, struct qm_gen_hasher *hasher,
                        struct qm_fault *fault)
{
    *plan =
        (struct qm_gen_plan){.hasher = hasher, .event_cap = EVENTS_CAP, .patch_cap = PATCHES_CAP};
    plan->event = calloc(plan->event_cap, sizeof *plan->event);
    plan->patch = calloc(plan->patch_cap, sizeof *plan->patch);
    void *data = malloc(DATA_CAP);
    plan->data = qm_out_init(data, DATA_CAP);
    if (plan->event != NULL && plan->patch != NULL && data != NULL)
        return QM_OK;
    qm_gen_plan_close(plan);
    return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
}

void qm_gen_plan_reset(struct qm_gen_plan *plan)
{
    plan->count = plan->patch_count = 0;
    plan->data.len = 0;
    plan->data.full = plan->full = false;
}

void qm_gen_plan_close(struct qm_gen_plan *plan)
{
    free(plan->event);
    free(plan->patch);
    free(plan->data.p);
    *plan = (struct qm_gen_plan){0};
}

static struct qm_gen_event *last_event(struct qm_gen_plan *plan)
{
    return &plan->event[plan->count - 1];
}

static uint32_t event_data_len(const struct qm_gen_plan *plan, size_t i)
{
    size_t end = i + 1 < plan->count ? plan->event[i + 1].data_at : plan->data.len;
    return (uint32_t)(end - plan->event[i].data_at);
}

struct qm_gen_event *qm_gen_plan_event(struct qm_gen_plan *plan, uint32_t pcr, uint32_t type,
                                       uint8_t priority)
{
    if (plan->count == plan->event_cap) {
        plan->full = true;
        plan->count--; /* written over: the plan is lost anyway */
    }
    struct qm_gen_event *e = &plan->event[plan->count++];
    *e = (struct qm_gen_event){
        .pcr = pcr, .type = type, .priority = priority, .data_at = (uint32_t)plan->data.len};
    return e;
}

void qm_gen_plan_patch(struct qm_gen_plan *plan, enum qm_gen_patch_kind kind, size_t ahead)
{
    if (plan->patch_count == plan->patch_cap) {
        plan->full = true;
        return;
    }
    struct qm_gen_event *e = last_event(plan);
    e->patched = true;
    plan->patch[plan->patch_count++] = (struct qm_gen_patch){
        (uint32_t)(plan->count - 1), (uint32_t)(plan->data.len - e->data_at + ahead), kind};
}

void qm_gen_plan_label(struct qm_gen_plan *plan, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    struct qm_gen_event *e = last_event(plan);
    e->digest = QM_DIGEST_OF_LABEL;
    qm_gen_hash(plan->hasher, QM_HASH_SHA1, text, len, e->sha1);
    qm_gen_hash(plan->hasher, QM_HASH_SHA256, text, len, e->sha256);
}

void qm_gen_plan_machine_digest(struct qm_gen_plan *plan, uint16_t salt)
{
    struct qm_gen_event *e = last_event(plan);
    e->digest = QM_DIGEST_OF_MACHINE;
    e->salt = salt;
}

size_t qm_gen_plan_size(const struct qm_gen_plan *plan)
{
    size_t size = LOG_HEAD_LEN;
    for (size_t i = 0; i < plan->count; i++)
        if (!plan->event[i].dropped)
            size += EVENT_HEAD_LEN + event_data_len(plan, i);
    return size;
}

void qm_gen_plan_trim(struct qm_gen_plan *plan, size_t count)
{
    size_t left = plan->count + 1;
    for (unsigned priority = UINT8_MAX; priority > 0 && left > count; priority--)
        for (size_t i = plan->count; i-- > 0 && left > count;)
            if (plan->event[i].priority == priority) {
                plan->event[i].dropped = true;
                left--;
            }
}

/* TCG_PCClientPCREvent with a TCG_EfiSpecIDEvent (profile, 10.2.1 and 10.4.5.1). */
static void put_log_head(struct qm_out *o)
{
    qm_put_le(o, 0, 4);
    qm_put_le(o, EV_NO_ACTION, 4);
    qm_put_zeros(o, SHA1_LEN);
    qm_put_le(o, SPEC_ID_LEN, 4);
    qm_out_bytes(o, "Spec ID Event03", 16);
    qm_put_le(o, 0, 4); /* platformClass: client */
    qm_put_le(o, 0, 1);
    qm_put_le(o, 2, 1); /* version 2.0 */
    qm_put_le(o, 0, 1);
    qm_put_le(o, 2, 1); /* UINTN of 64 bits */
    qm_put_le(o, 2, 4);
    qm_put_le(o, QM_TPM_ALG_SHA1, 2);
    qm_put_le(o, SHA1_LEN, 2);
    qm_put_le(o, QM_TPM_ALG_SHA256, 2);
    qm_put_le(o, SHA256_LEN, 2);
    qm_put_le(o, 0, 1); /* vendorInfoSize */
}

static void put_digests(struct qm_gen_hasher *h, const struct qm_gen_event *e, uint8_t *log)
{
    const uint8_t *data = log + e->data_at + e->hash_skip;
    size_t len = e->data_len - e->hash_skip - e->hash_cut;
    qm_gen_hash(h, QM_HASH_SHA1, data, len, log + e->digest_at);
    qm_gen_hash(h, QM_HASH_SHA256, data, len, log + e->digest_at + SHA256_AT);
}

static void put_event(struct qm_out *o, struct qm_gen_event *e, const char *data,
                      struct qm_gen_hasher *h)
{
    qm_put_le(o, e->pcr, 4);
    qm_put_le(o, e->type, 4);
    qm_put_le(o, 2, 4);
    qm_put_le(o, QM_TPM_ALG_SHA1, 2);
    e->digest_at = (uint32_t)o->len;
    qm_out_bytes(o, e->sha1, SHA1_LEN);
    qm_put_le(o, QM_TPM_ALG_SHA256, 2);
    qm_out_bytes(o, e->sha256, SHA256_LEN);
    qm_put_le(o, e->data_len, 4);
    e->data_at = (uint32_t)o->len;
    qm_out_bytes(o, data, e->data_len);
    if (e->digest == QM_DIGEST_OF_DATA)
        put_digests(h, e, (uint8_t *)o->p);
}

/* Replays the events of the PCRs in mask (0 to 9). */
static void replay(const struct qm_gen_template *t, struct qm_gen_hasher *h, const uint8_t *log,
                   uint32_t mask, uint8_t pcr[QM_GEN_PCRS][32])
{
    for (unsigned i = 0; i < QM_GEN_PCRS; i++)
        if (mask >> i & 1) {
            memset(pcr[i], 0, SHA256_LEN);
            pcr[i][SHA256_LEN - 1] = i == 0 ? t->locality : 0; /* profile, 10.4.5.3 */
        }
    for (size_t i = 0; i < t->event_count; i++) {
        const struct qm_gen_event *e = &t->event[i];
        if (e->pcr >= QM_GEN_PCRS || !(mask >> e->pcr & 1) || e->type == EV_NO_ACTION)
            continue;
        uint8_t both[2 * SHA256_LEN];
        memcpy(both, pcr[e->pcr], SHA256_LEN);
        memcpy(both + SHA256_LEN, log + e->digest_at + SHA256_AT, SHA256_LEN);
        qm_gen_hash(h, QM_HASH_SHA256, both, sizeof both, pcr[e->pcr]);
    }
}

qm_err qm_gen_template_make(struct qm_gen_template *t, const struct qm_gen_plan *plan,
                            uint8_t locality, struct qm_fault *fault)
{
    *t = (struct qm_gen_template){.log_len = qm_gen_plan_size(plan), .locality = locality};
    if (plan->full || plan->data.full || t->log_len > QM_LOG_MAX)
        return qm_fail(fault, QM_E_USAGE, 0, "that many events make a log of more than 4 MiB");
    t->log = malloc(t->log_len);
    t->event = calloc(plan->count, sizeof *t->event);
    t->patch = calloc(plan->patch_count + 1, sizeof *t->patch);
    uint32_t *moved = calloc(plan->count, sizeof *moved); /* index in the plan -> in the template */
    if (t->log == NULL || t->event == NULL || t->patch == NULL || moved == NULL) {
        free(moved);
        qm_gen_template_free(t);
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    }
    struct qm_out o = qm_out_init(t->log, t->log_len);
    put_log_head(&o);
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->event[i].dropped)
            continue;
        moved[i] = (uint32_t)t->event_count;
        struct qm_gen_event *e = &t->event[t->event_count++];
        *e = plan->event[i];
        e->data_len = event_data_len(plan, i);
        put_event(&o, e, plan->data.p + plan->event[i].data_at, plan->hasher);
        if (e->pcr < QM_GEN_PCRS && (e->patched || e->digest == QM_DIGEST_OF_MACHINE)) {
            /* a device path with the machine's partition: measured is the file behind it */
            bool moves = e->digest == QM_DIGEST_OF_DATA || e->digest == QM_DIGEST_OF_MACHINE;
            t->machine_pcrs |= moves ? 1u << e->pcr : 0;
        }
        if (e->target != QM_TARGET_NONE && t->target_count < QM_COUNT(t->target))
            t->target[t->target_count++] = moved[i];
    }
    for (size_t i = 0; i < plan->patch_count; i++)
        if (!plan->event[plan->patch[i].event].dropped) {
            t->patch[t->patch_count] = plan->patch[i];
            t->patch[t->patch_count++].event = moved[plan->patch[i].event];
        }
    free(moved);
    replay(t, plan->hasher, t->log, (1u << QM_GEN_PCRS) - 1, t->pcr);
    return QM_OK;
}

void qm_gen_template_free(struct qm_gen_template *t)
{
    free(t->log);
    free(t->event);
    free(t->patch);
    *t = (struct qm_gen_template){0};
}

/* RFC 9562: version 4, variant 10. In a GUID as UEFI stores it the version stands in byte 7, in
 * text order in byte 6. */
static void make_guid(uint64_t seed, uint64_t machine, enum qm_gen_patch_kind kind,
                      unsigned version_at, uint8_t out[16])
{
    qm_gen_fill(seed, machine, QM_FOR_PATCH + (uint64_t)kind, out, 16);
    out[version_at] = (uint8_t)((out[version_at] & 0x0f) | 0x40);
    out[8] = (uint8_t)((out[8] & 0x3f) | 0x80);
}

static void apply_patch(const struct qm_gen_patch *patch, uint64_t seed, uint64_t machine,
                        uint8_t *data)
{
    uint8_t *to = data + patch->at;
    uint8_t guid[16];
    uint32_t crc;
    switch (patch->kind) {
    case QM_PATCH_DISK_GUID:
    case QM_PATCH_ESP_GUID:
    case QM_PATCH_BOOT_GUID:
    case QM_PATCH_ROOT_GUID:
        make_guid(seed, machine, patch->kind, 7, to);
        return;
    case QM_PATCH_ROOT_UUID:
        make_guid(seed, machine, patch->kind, 6, guid);
        for (size_t i = 0, at = 0; i < sizeof guid; i++, at += 2) {
            at += i == 4 || i == 6 || i == 8 || i == 10; /* a dash stands there */
            qm_hex_write((char *)to + at, &guid[i], 1);
        }
        return;
    case QM_PATCH_MAC:
        qm_gen_fill(seed, machine, QM_FOR_PATCH + (uint64_t)patch->kind, to + 3, 3);
        memcpy(to, (uint8_t[]){0x3c, 0xec, 0xef}, 3);
        return;
    case QM_PATCH_GPT_ARRAY_CRC:
        qm_gen_fill(seed, machine, QM_FOR_PATCH + (uint64_t)patch->kind, to, 4);
        return;
    case QM_PATCH_GPT_CRC:
        memset(to, 0, 4);
        crc = qm_crc32(data, QM_GPT_HEADER_LEN);
        memcpy(to, &crc, 4);
        return;
    }
}

/* Changes one event as a bootkit or somebody at the console would: its digest and, where the data
 * is what was measured, the data with it. The log's length stays. */
static void tamper(const struct qm_gen_event *e, struct qm_gen_hasher *h, unsigned family,
                   uint8_t *log)
{
    static const char phrases[FAMILIES][sizeof QM_GEN_PHRASE] = {
        "lockdown=none init=/bin/sh", "audit=0 rdinit=/bin/bash 1", "lockdown=none module.sig=0"};
    uint8_t *at = log + e->data_at + e->target_at;
    char label[64];
    snprintf(label, sizeof label, "bootkit %u in target %u", family, (unsigned)e->target);
    struct qm_out o;
    switch ((enum qm_gen_target)e->target) {
    case QM_TARGET_SECURE_BOOT:
        at[0] = 0;
        break;
    case QM_TARGET_DBX:
        o = qm_out_init(at, 32);
        qm_put_noise(&o, label, 32);
        break;
    case QM_TARGET_CMDLINE:
        memcpy(at, phrases[family], sizeof QM_GEN_PHRASE - 1);
        break;
    default:
        qm_gen_hash(h, QM_HASH_SHA1, label, strlen(label), log + e->digest_at);
        qm_gen_hash(h, QM_HASH_SHA256, label, strlen(label), log + e->digest_at + SHA256_AT);
        return;
    }
    put_digests(h, e, log);
}

size_t qm_gen_measure(const struct qm_gen_template *t, struct qm_gen_hasher *h, uint64_t seed,
                      uint64_t machine, bool tampered, uint8_t *log, uint8_t pcr[QM_GEN_PCRS][32])
{
    uint32_t mask = t->machine_pcrs;
    size_t changed = 0;
    memcpy(log, t->log, t->log_len);
    memcpy(pcr, t->pcr, sizeof t->pcr);
    for (size_t i = 0; i < t->patch_count; i++)
        apply_patch(&t->patch[i], seed, machine, log + t->event[t->patch[i].event].data_at);
    for (size_t i = 0; i < t->event_count; i++) {
        const struct qm_gen_event *e = &t->event[i];
        if (e->digest == QM_DIGEST_OF_MACHINE) {
            qm_gen_fill(seed, machine, QM_FOR_DIGEST + 2ull * e->salt, log + e->digest_at,
                        SHA1_LEN);
            qm_gen_fill(seed, machine, QM_FOR_DIGEST + 2ull * e->salt + 1,
                        log + e->digest_at + SHA256_AT, SHA256_LEN);
        } else if (e->patched && e->digest == QM_DIGEST_OF_DATA) {
            put_digests(h, e, log);
        }
    }
    if (tampered && t->target_count != 0) {
        size_t i = t->target[qm_gen_u64(seed, machine, QM_FOR_TAMPER_EVENT, 0) % t->target_count];
        tamper(&t->event[i], h,
               (unsigned)(qm_gen_u64(seed, machine, QM_FOR_TAMPER_VALUE, 0) % FAMILIES), log);
        mask |= 1u << t->event[i].pcr;
        changed = i + 1;
    }
    replay(t, h, log, mask, pcr);
    return changed;
}
