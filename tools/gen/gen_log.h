/* Event logs of a synthetic fleet, made in three steps.
 *
 *   plan      what an image's firmware and boot loader measure, event by event (gen_image.c writes
 * it) template  the plan as a crypto-agile log (TCG PC Client Platform Firmware Profile, 10.2.2;
 * banks SHA-1 and SHA-256), with its PCR values, and the places that differ from machine to machine
 *   log       the template of one machine: patched, hashed again where that changed an event,
 * replayed
 *
 * Machines of one image share all events but those with patches or a digest of their own. A plan
 * and a template have one owner; a finished template is read by all workers. */
#ifndef QM_GEN_LOG_H
#define QM_GEN_LOG_H

#include "codec/base.h"
#include "codec/error.h"
#include "codec/text.h"
#include "codec/tpm2.h"

enum {
    QM_GEN_PCRS = 10,         /* PCRs 0 to 9 are quoted */
    QM_GEN_LOCALITY_LEN = 17, /* StartupLocality: 16 bytes and the locality */
};

/* Digests by cached contexts. A failure sticks; the bytes are zero then. One hasher a thread. */
struct qm_gen_hasher {
    struct evp_md_st *md[QM_HASH_COUNT];
    struct evp_md_ctx_st *ctx;
    bool bad;
};
qm_err qm_gen_hasher_open(struct qm_gen_hasher *h, struct qm_fault *fault) QM_MUST_USE;
void qm_gen_hasher_close(struct qm_gen_hasher *h);
void qm_gen_hash(struct qm_gen_hasher *h, enum qm_hash hash, const void *p, size_t len,
                 uint8_t *out);

/* What differs from machine to machine inside an event's data. */
enum qm_gen_patch_kind {
    QM_PATCH_DISK_GUID,
    QM_PATCH_ESP_GUID,
    QM_PATCH_BOOT_GUID,
    QM_PATCH_ROOT_GUID,
    QM_PATCH_ROOT_UUID,     /* as text, 36 characters */
    QM_PATCH_MAC,           /* 6 bytes */
    QM_PATCH_GPT_ARRAY_CRC, /* 4 bytes, made up: the log does not hold all 128 entries */
    QM_PATCH_GPT_CRC, /* of the GPT header that the data begins with; after its other patches */
};
struct qm_gen_patch {
    uint32_t event;
    uint32_t at; /* in the data */
    enum qm_gen_patch_kind kind;
};

enum qm_gen_digest {
    QM_DIGEST_OF_DATA,    /* of the data, without hash_skip bytes in front and hash_cut behind */
    QM_DIGEST_OF_LABEL,   /* of what is not in the log (a file, a table): made up, the same for all
                             machines of the image */
    QM_DIGEST_OF_MACHINE, /* the same, but every machine's own */
    QM_DIGEST_ZERO,       /* EV_NO_ACTION */
};

/* Events that --tamper may change. */
enum qm_gen_target {
    QM_TARGET_NONE,
    QM_TARGET_FIRMWARE,    /* PCR 0: another firmware volume */
    QM_TARGET_OPTION_ROM,  /* PCR 2: another option ROM */
    QM_TARGET_BOOT_LOADER, /* PCR 4: another grub */
    QM_TARGET_SECURE_BOOT, /* PCR 7: switched off */
    QM_TARGET_DBX,         /* PCR 7: an entry is another one */
    QM_TARGET_CMDLINE,     /* PCR 8: the kernel command line, its phrase QM_GEN_PHRASE */
    QM_TARGET_INITRD,      /* PCR 9: another initrd */
};
#define QM_GEN_PHRASE "lockdown=integrity audit=1"

struct qm_gen_event {
    uint32_t pcr;
    uint32_t type;
    uint32_t data_at; /* in the plan's data; in a template: in the log */
    uint32_t data_len;
    uint32_t digest_at; /* in the template's log: the SHA-1 digest; the SHA-256 digest is 22 bytes
                           behind it */
    uint32_t target_at; /* SECURE_BOOT, DBX, CMDLINE: where in the data the change goes */
    uint16_t hash_skip;
    uint16_t hash_cut;
    uint16_t salt;    /* OF_MACHINE: a number of its own within the image */
    uint8_t priority; /* 0 is never left out; the highest goes first when --events asks for few */
    uint8_t digest;   /* enum qm_gen_digest */
    uint8_t target;   /* enum qm_gen_target */
    bool patched;
    bool dropped;
    uint8_t sha1[20]; /* OF_LABEL */
    uint8_t sha256[32];
};

struct qm_gen_plan {
    struct qm_gen_event *event;
    size_t count, event_cap;
    struct qm_gen_patch *patch;
    size_t patch_count, patch_cap;
    struct qm_out data; /* of all events, one after another */
    struct qm_gen_hasher *hasher;
    bool full; /* more than fits a log of QM_LOG_MAX */
};
qm_err qm_gen_plan_open(struct qm_gen_plan *plan, struct qm_gen_hasher *hasher,
                        struct qm_fault *fault) QM_MUST_USE;
void qm_gen_plan_reset(struct qm_gen_plan *plan);
void qm_gen_plan_close(struct qm_gen_plan *plan);

/* Begins an event; its data is then written to plan->data, and patches are noted where they go. The
 * event's digest is of its whole data until one of the calls below says otherwise. */
struct qm_gen_event *qm_gen_plan_event(struct qm_gen_plan *plan, uint32_t pcr, uint32_t type,
                                       uint8_t priority);
/* The next bytes of the present event's data, size of them, will be the machine's own (zero or text
 * of that length now); ahead: how far ahead of the writer they stand. */
void qm_gen_plan_patch(struct qm_gen_plan *plan, enum qm_gen_patch_kind kind, size_t ahead);
void qm_gen_plan_label(struct qm_gen_plan *plan, const char *format, ...) QM_PRINTF(2, 3);
void qm_gen_plan_machine_digest(struct qm_gen_plan *plan, uint16_t salt);
/* Bytes of the log that the plan makes, dropped events left out. */
size_t qm_gen_plan_size(const struct qm_gen_plan *plan);
/* Drops the least important events until count (the log's header included) are left, or none but
 * the core. */
void qm_gen_plan_trim(struct qm_gen_plan *plan, size_t count);

struct qm_gen_template {
    uint8_t *log;
    size_t log_len;
    struct qm_gen_event *event; /* the header, which has another form, is not among them */
    size_t event_count;
    struct qm_gen_patch *patch;
    size_t patch_count;
    uint8_t locality;             /* PCR 0's start */
    uint32_t machine_pcrs;        /* PCRs that hold an event of the machine's own */
    uint8_t pcr[QM_GEN_PCRS][32]; /* right for the other ones */
    uint32_t target[8];           /* events that can be tampered with */
    size_t target_count;
};

/* From a plan, which may be reset afterwards. The plan begins with the StartupLocality event where
 * locality is not 0. */
qm_err qm_gen_template_make(struct qm_gen_template *t, const struct qm_gen_plan *plan,
                            uint8_t locality, struct qm_fault *fault) QM_MUST_USE;
void qm_gen_template_free(struct qm_gen_template *t);

/* The log (t->log_len bytes) and PCR values of one machine. tampered: with one event changed,
 * chosen by seed and machine. Gives the changed event's index in the log, the header counted; 0
 * where none is. */
size_t qm_gen_measure(const struct qm_gen_template *t, struct qm_gen_hasher *h, uint64_t seed,
                      uint64_t machine, bool tampered, uint8_t *log, uint8_t pcr[QM_GEN_PCRS][32]);

#endif
