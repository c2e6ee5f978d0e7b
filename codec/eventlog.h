/* TCG event logs as firmware writes them and the kernel exposes them (binary_bios_measurements): crypto-agile
 * (TCG PC Client Platform Firmware Profile, 10.2.2, TCG_PCR_EVENT2 behind a Spec ID Event03 header) and the SHA-1 legacy
 * format (10.2.1, TCG_PCClientPCREvent). One forward pass over borrowed bytes, bounded work for each byte.
 *
 * Types and data are claims: only the digests were measured. */
#ifndef QM_EVENTLOG_H
#define QM_EVENTLOG_H

#include "codec/base.h"
#include "codec/tpm2.h"

enum qm_log_format { QM_LOG_AGILE, QM_LOG_LEGACY };

enum { QM_LOG_BANK_MAX = 16 }; /* algorithms that a Spec ID event may announce */

/* Event types, PC Client Platform Firmware Profile, 10.4.1 (those that replay needs). */
#define QM_EV_NO_ACTION       0x00000003u
#define QM_EV_EFI_HCRTM_EVENT 0x80000010u
#define QM_PCR_NONE           0xffffffffu /* pcrIndex of Windows' informational EV_NO_ACTION events */

struct qm_log_bank {
    uint16_t tpm_alg;
    uint16_t size;      /* bytes of a digest, as announced (checked for the algorithms we know) */
    enum qm_hash hash;  /* QM_HASH_NONE: known by its size only */
};

struct qm_log {
    const uint8_t *start;
    const uint8_t *p;       /* the next event */
    const uint8_t *end;     /* of the bytes */
    const uint8_t *padding; /* where the run of equal 00 or ff bytes begins that ends the log */
    enum qm_log_format format;
    uint32_t event_count;   /* read so far, the header included */
    uint8_t bank_count;
    struct qm_log_bank bank[QM_LOG_BANK_MAX];
};

struct qm_event {
    uint32_t index; /* in the log, from 0, the Spec ID header included */
    uint32_t pcr;   /* 0..23, or QM_PCR_NONE with EV_NO_ACTION */
    uint32_t type;
    bool extends;   /* everything but EV_NO_ACTION */
    struct qm_span data;
    const uint8_t *digest[QM_HASH_COUNT]; /* by enum qm_hash; NULL where the event has none of that bank. The header event
                                             has a SHA-1 one, whatever it announces */
};

enum qm_log_step { QM_LOG_EVENT, QM_LOG_END, QM_LOG_MALFORMED };

/* Reads the header. False: malformed (no bytes, nothing but padding, no whole first event, a damaged Spec ID event). */
bool qm_log_open(struct qm_log *log, struct qm_span bytes);
/* The next event, the header event first. After END or MALFORMED it says the same again, and log->p stays where the padding
 * or the damage begins; what event holds is then undefined. */
enum qm_log_step qm_log_next(struct qm_log *log, struct qm_event *event);
/* Does the log announce that bank? Legacy logs have SHA-1 only. */
bool qm_log_has_bank(const struct qm_log *log, enum qm_hash hash);

/* What an event says of PCR start values; fold every event of a log in order, then ask qm_log_start.
 * Startup locality: EV_NO_ACTION "StartupLocality" in PCR 0 before any extend (Firmware Profile 10.4.5.3).
 * H-CRTM: an EV_EFI_HCRTM_EVENT in PCR 0 means that PCR 0 started at 4 (Library part 1, 34.3).
 * D-RTM: a dynamic launch resets PCRs 17-22 to zero; seen by its own event types (Intel TXT MLE guide, appendix F).
 *
 * A start is known only when the whole log was folded: the event that tells it may come after the first extend. */
struct qm_log_starts {
    uint8_t locality;
    bool extended;
    bool hcrtm;
    bool drtm;
};
/* Does an event of that type extend and tell no start? Those of H-CRTM and of launches are 0x80000010 and 0x401 to 0x4ff. */
static inline bool qm_log_type_is_plain(uint32_t type)
{
    return type != QM_EV_NO_ACTION && type != QM_EV_EFI_HCRTM_EVENT && type >> 8 != 4;
}
void qm_log_starts_fold_rare(struct qm_log_starts *s, const struct qm_event *e);
static inline void qm_log_starts_fold(struct qm_log_starts *s, const struct qm_event *e)
{
    if (QM_LIKELY(qm_log_type_is_plain(e->type))) {
        s->extended = true;
        return;
    }
    qm_log_starts_fold_rare(s, e);
}
/* Writes the reset value of a PCR, size bytes. */
void qm_log_start(const struct qm_log_starts *s, unsigned pcr, uint8_t *value, size_t size);

/* What replay needs of a log: the events that extend a PCR in mask, with their digest of one bank, in log order. */
struct qm_log_extends {
    enum qm_hash hash;
    uint32_t mask;
    const uint8_t **digest; /* room for one more than the events that the log can have */
    uint8_t *pcr;           /* likewise */
    size_t count;           /* out, like all that follow; begin with zeros */
    uint32_t count_of[QM_PCR_COUNT];
    bool missing; /* an event that extends has no digest of the bank, in mask or not */
    struct qm_log_starts starts;
};
/* Reads on to the end. QM_LOG_END, or QM_LOG_MALFORMED with log->p where the damage begins, exactly as qm_log_next would. */
enum qm_log_step qm_log_list_extends(struct qm_log *log, struct qm_log_extends *out);

#endif
