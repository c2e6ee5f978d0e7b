/* The baseline table: everything that judging a record needs, compiled from the store into one immutable file, mapped
 * read-only and looked up by instance id.
 *
 *   header | heap: keys, profiles, accepted sets, nonces, lists of events | ids | instances | slots | events' slots
 *          | checksum of each block
 *
 * Slots are an open-addressing hash table over seeded XXH3 of the id; the seed is drawn anew for every build, so nobody can
 * aim collisions, and the builder checks how far a probe can go. Keys, profiles and sets are stored once by content.
 * The header and the checksum list are checked at open, every block (1 MiB) at its first use.
 *
 * Whoever builds writes a new file beside the old one, syncs it and renames it: a mapped table never changes. */
#ifndef QM_TABLE_H
#define QM_TABLE_H

#include "codec/base.h"
#include "codec/error.h"
#include "codec/tpm2.h"
#include "engine/explain.h"
#include "engine/kernel/kernel.h"

enum {
    QM_TABLE_VERSION = 4,
    QM_TABLE_BLOCK = 1 << 20,
    QM_TABLE_PROBE_MAX = 64, /* slots a look-up may touch; the builder draws another seed if one would need more */
    QM_HOME_ID_SIZE = 16,
};

/* What is asked of an instance's quotes; shared by all that are enrolled alike. On disk. */
struct qm_profile {
    uint8_t scheme;       /* enum qm_scheme */
    uint8_t hash;         /* enum qm_hash: of the signature and of pcrDigest */
    uint8_t select_count; /* banks */
    uint8_t first256;     /* which entry of select is the first SHA-256 bank */
    uint32_t baselined;   /* PCRs of that bank that are compared */
    struct {
        uint8_t hash; /* enum qm_hash */
        uint8_t reserved[3];
        uint32_t mask;
    } select[QM_BANK_MAX];
};
_Static_assert(sizeof(struct qm_profile) == 40, "on disk");

/* One accepted set, as it applies to a profile: a whole one, or a group's values beside an instance's own. Its values stand
 * elsewhere in the same image (a million machines share the group's), 32 bytes a PCR, PCRs ascending. On disk. */
struct qm_set {
    uint32_t set_no;        /* the store's number of these values, the same for all that share them: whole, or the group's; 0: none */
    uint32_t pair_no;       /* the instance's beside the group's; 0: none */
    uint32_t mask;          /* PCRs that it has a value for */
    uint32_t pair_mask;     /* those of them that are pair_no's */
    int64_t value_off;      /* from here to the values of mask & ~pair_mask */
    int64_t pair_off;       /* from here to those of pair_mask */
    uint8_t composite_size; /* 0: the set does not have every selected PCR, so it proves nothing by itself */
    uint8_t reserved[7];
    uint8_t composite[];    /* the pcrDigest of a quote whose PCRs have these values */
};
_Static_assert(sizeof(struct qm_set) == 40, "on disk");

/* The set's value of a PCR, or NULL. */
static inline const uint8_t *qm_set_value(const struct qm_set *s, unsigned pcr)
{
    if ((s->mask >> pcr & 1) == 0)
        return NULL;
    const bool pair = (s->pair_mask >> pcr & 1) != 0;
    const uint32_t mask = pair ? s->pair_mask : s->mask & ~s->pair_mask;
    return (const uint8_t *)s + (pair ? s->pair_off : s->value_off) + 32 * __builtin_popcount(mask & ((1u << pcr) - 1));
}

/* An instance as a look-up gives it; points into the table. */
struct qm_instance {
    const struct qm_key *key;
    const struct qm_profile *profile;
    struct qm_span nonce; /* the exact extraData; p is NULL where the home's policy decides */
    uint64_t generation;  /* of the store, when this instance's baseline or enrolment changed last */
    uint64_t slot;        /* the store's row */
    bool require_log;
    bool require_beacon;  /* where no nonce was enrolled */
    uint8_t set_count;                     /* 0: no baseline yet */
    const struct qm_set *set[QM_SETS_MAX]; /* newest first */
};

/* ---- building ------------------------------------------------------------------------------------------------------- */

struct qm_table_row {
    struct qm_span id;
    const struct qm_key *key;
    struct qm_profile profile;
    struct qm_span nonce;
    uint64_t generation;
    uint64_t slot;
    bool require_log;
    bool require_beacon;
    uint8_t set_count;
    struct qm_table_set {
        uint32_t set_no, pair_no;   /* as in struct qm_set */
        uint32_t mask, pair_mask;   /* PCRs of value, and of pair; none stands in both */
        const uint8_t *value, *pair; /* popcount(mask) * 32 bytes each */
    } set[QM_SETS_MAX]; /* newest first */
};

/* Composite of values that are a set's: gives its size, or 0 where a selected PCR has none. */
size_t qm_set_composite(const struct qm_profile *p, const uint8_t *const value[QM_PCR_COUNT], uint8_t composite[QM_DIGEST_MAX]);

struct qm_table_builder;

/* Starts a table beside path (path + ".new"). */
qm_err qm_table_builder_open(struct qm_table_builder **out, const char *path, struct qm_fault *fault) QM_MUST_USE;
/* Adds an instance; ids are unique (the caller's promise, checked at publishing). The row is copied. A set is known again by its
 * numbers and masks: the same ones stand for the same values in every row. */
qm_err qm_table_builder_add(struct qm_table_builder *b, const struct qm_table_row *row, struct qm_fault *fault) QM_MUST_USE;
/* Adds the list of events behind a PCR's value (explain.h); each (PCR, value) once. Copied. */
qm_err qm_table_builder_add_events(struct qm_table_builder *b, unsigned pcr, const uint8_t value[32], struct qm_span list,
                                   struct qm_fault *fault) QM_MUST_USE;
/* Some set ends at that time by itself; the earliest is kept in the header. */
void qm_table_builder_expires(struct qm_table_builder *b, uint64_t ms);
/* Writes, syncs, checks and renames. On failure the old table stays. */
qm_err qm_table_builder_publish(struct qm_table_builder *b, const uint8_t home_id[QM_HOME_ID_SIZE], uint64_t generation,
                                struct qm_fault *fault) QM_MUST_USE;
/* Also removes what was not published. */
void qm_table_builder_close(struct qm_table_builder *b);

/* ---- using ---------------------------------------------------------------------------------------------------------- */

struct qm_table;

/* QM_E_FORMAT with the reason for a file that is truncated, damaged, of another version or no table. */
qm_err qm_table_open(struct qm_table **out, const char *path, struct qm_fault *fault) QM_MUST_USE;
uint64_t qm_table_generation(const struct qm_table *t);
uint64_t qm_table_instances(const struct qm_table *t);
/* When the first of its sets ends by itself; UINT64_MAX: none does. From then on the table says too much. */
uint64_t qm_table_expires_ms(const struct qm_table *t);
size_t qm_table_bytes(const struct qm_table *t);
const uint8_t *qm_table_home_id(const struct qm_table *t);
/* Checks every block now. */
qm_err qm_table_check(const struct qm_table *t, struct qm_fault *fault) QM_MUST_USE;
/* Looks up count ids (at most QM_TABLE_BATCH) side by side; out[i].key is NULL where ids[i] is not enrolled (an id of no bytes
 * never is). Safe from many threads. QM_E_FORMAT when a block turns out damaged: no answer of this call may be used. */
enum { QM_TABLE_BATCH = 256 };
qm_err qm_table_find(const struct qm_table *t, const struct qm_span *ids, size_t count, struct qm_instance *out,
                     struct qm_fault *fault) QM_MUST_USE;
/* The list of events behind a PCR's value; borrows from the table. *found false: there is none. Safe from many threads. */
qm_err qm_table_events(const struct qm_table *t, unsigned pcr, const uint8_t value[32], struct qm_event_list *out, bool *found,
                       struct qm_fault *fault) QM_MUST_USE;
void qm_table_close(struct qm_table *t);

/* Values of the selected PCRs of a profile: value[i][pcr] points at a value of the size of bank select[i]. */
struct qm_pcr_values {
    const uint8_t *value[QM_BANK_MAX][QM_PCR_COUNT];
};
enum { QM_COMPOSITE_MAX = QM_BANK_MAX * QM_PCR_COUNT * QM_DIGEST_MAX };
/* Writes what a pcrDigest is taken over: all selected values, banks in selection order, PCRs ascending (Library part 3, 18.4).
 * Every selected value is set. Gives the length. */
size_t qm_composite_message(const struct qm_profile *p, const struct qm_pcr_values *v, uint8_t message[QM_COMPOSITE_MAX]);

#endif
