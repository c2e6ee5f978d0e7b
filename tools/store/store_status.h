/* The fleet as it stands: every status is worked out when it is read, from the ledger, the clock and the policies (engine/standing.h).
 * Part of the store.
 *
 * A summary goes over the ledger's blocks alone: an entry says of what group it is and when it was enrolled. The instance table, which
 * is larger, is looked at for ids and tags. */
#ifndef QM_STORE_STATUS_H
#define QM_STORE_STATUS_H

#include "engine/standing.h"
#include "tools/ceremony/cert_chain.h"
#include "tools/store/store_alerts.h"

/* A run, or an application of results, as it was recorded. */
struct qm_last_run {
    bool known;
    char id[64];
    char kind[16];
    uint64_t start_ms, end_ms;
    uint64_t records;
    bool complete;
    char record[8192]; /* the run record, JSON; cut to nothing where it is longer */
};

/* What silence means in one group; scope 0 is the home's, for machines without a group. */
struct qm_fleet_scope {
    char name[QM_GROUP_MAX + 1];
    uint64_t unmeasured_after_ms;
    uint64_t gap_end_ms; /* of the last gap between runs that was longer than half of it; 0: none that matters */
    bool silent;         /* nothing authentic from anyone for unmeasured_after */
};

struct qm_fleet {
    struct qm_store *store;
    uint64_t now_ms;
    uint64_t heard_ms; /* when the newest authentic record from anyone was verified, or the home was made */
    struct qm_last_run last;
    struct qm_fleet_scope *scope; /* by number of the group; numbers that no group has repeat the home's */
    size_t scope_count;
    uint32_t *scope_by_name; /* numbers, in the order of the names */
    bool reads; /* a reading transaction of ours is open */
};

/* A run that is being judged, whose row is not written yet: it ends a gap, and what it took in was heard. */
struct qm_run_now {
    uint64_t start_ms, end_ms;
    uint64_t newest_ms; /* when the newest authentic record that it took in was verified; 0: there was none */
};
/* Reads what all statuses depend on. Until close, everything that is read is of one moment: a reading transaction, or the writing one
 * that is open. now_ms is the store's, or the run's end. run: NULL where none is being judged. */
qm_err qm_fleet_open(struct qm_fleet *f, struct qm_store *s, const struct qm_run_now *run, struct qm_fault *fault) QM_MUST_USE;
void qm_fleet_close(struct qm_fleet *f); /* of a zeroed one: nothing */

/* For qm_standing_of. */
struct qm_standing_times qm_fleet_times(const struct qm_fleet *f, uint32_t group_no);

bool qm_fleet_has_group(const struct qm_fleet *f, const char *name);

/* The verifier itself did not run for longer than half of unmeasured_after, or never. */
bool qm_fleet_verifier_stopped(const struct qm_fleet *f);

struct qm_fleet_filter {
    const char *group;   /* NULL: any */
    const char *tag_key; /* the tag that tag_value, or a summary by its values, is about; NULL */
    const char *tag_value; /* NULL: any */
};

/* ---- the summary ------------------------------------------------------------------------------------------------------- */

enum { QM_FLEET_LISTED_MAX = 1000, QM_TAG_VALUES_MAX = 200, QM_REASON_NO_RECORD = QM_REASON_COUNT, QM_STANDING_REASONS };

struct qm_set_use {
    uint32_t group_no;     /* of the group whose set it is; 0: of machines of their own */
    uint32_t values;       /* number of pcr_values */
    uint64_t instances;    /* trusted ones that pass on it */
    uint64_t no;           /* the group's set: its number, origin, and since when; 0 where it is ended, or not a group's */
    char origin[16];
    uint64_t since_ms;
};

struct qm_fleet_summary {
    uint64_t instances;
    uint64_t by_status[QM_STANDS_COUNT];
    uint64_t by_reason[QM_STANDS_COUNT][QM_STANDING_REASONS]; /* but for unmeasured ones */
    uint64_t by_silence[QM_SILENCE_COUNT];                    /* of unmeasured ones */
    uint64_t by_fresh[QM_FRESH_COUNT];                        /* of trusted ones */
    uint64_t stale, held;
    struct qm_group_count {
        uint64_t instances, by_status[QM_STANDS_COUNT];
    } *group; /* by number, as many as the fleet has scopes */
    struct qm_tag_count {
        char value[64]; /* cut; "" where the tag is missing */
        uint64_t instances, by_status[QM_STANDS_COUNT];
    } *tag; /* by value, where a tag_key was given without a value; the values beyond QM_TAG_VALUES_MAX are the last, "…" */
    size_t tag_count;
    struct qm_set_use *set; /* what groups accept, also where nobody passes on it; and values that several machines of their own share */
    size_t set_count;
    uint64_t set_alone; /* trusted machines that pass on values nobody else has */
    uint64_t alerts[32][2]; /* by kind: open, ignored */
    uint64_t alerts_unseen; /* passes again, not looked at */
    uint64_t pending;       /* enrolments that wait for a person's enroll --confirm */
    uint64_t listed[QM_STANDS_COUNT][QM_FLEET_LISTED_MAX]; /* the first slots of each status but trusted */
};
/* filter NULL: all; else the alerts are not counted, and every machine is looked at by itself. Placed in memory of its own: close
 * frees. */
qm_err qm_fleet_summarize(const struct qm_fleet *f, const struct qm_fleet_filter *filter, struct qm_fleet_summary **out,
                          struct qm_fault *fault) QM_MUST_USE;
void qm_fleet_summary_close(struct qm_fleet_summary *s);

/* ---- machines, one by one ---------------------------------------------------------------------------------------------- */

struct qm_machine {
    uint64_t slot;
    struct qm_span id, group;
    struct qm_span tags; /* the JSON object as it was enrolled; what is absent is {NULL, 0} */
    struct qm_span tag;  /* value of the filter's tag_key */
    uint32_t group_no;
    struct qm_ledger entry;
    struct qm_standing standing;
};
/* Valid until the visit returns. */
typedef qm_err (*qm_machine_visit)(void *ctx, const struct qm_machine *m, struct qm_fault *fault);
/* In slot order. */
qm_err qm_fleet_each(const struct qm_fleet *f, const struct qm_fleet_filter *filter, qm_machine_visit visit, void *ctx,
                     struct qm_fault *fault) QM_MUST_USE;
/* One of them; *found false: no such instance, and visit was not called. */
qm_err qm_fleet_slot(const struct qm_fleet *f, uint64_t slot, qm_machine_visit visit, void *ctx, bool *found,
                     struct qm_fault *fault) QM_MUST_USE;
qm_err qm_fleet_id(const struct qm_fleet *f, const char *id, size_t len, qm_machine_visit visit, void *ctx, bool *found,
                   struct qm_fault *fault) QM_MUST_USE;
/* Says why there is no such instance: QM_E_USAGE. */
qm_err qm_fleet_unknown(const struct qm_fleet *f, const char *id, struct qm_fault *fault) QM_MUST_USE;

/* What is open, ignored, or passes again and was not looked at; newest first. Costs nothing for a machine whose entry says that there
 * is none. Texts are valid until the visit returns. */
struct qm_machine_alert {
    uint64_t no, first_ms, last_ms, count, until_ms;
    enum qm_alert_kind kind;
    enum qm_alert_state state;
    const char *change; /* its name; "" */
    const char *why;    /* of the last decision; "" */
};
typedef qm_err (*qm_machine_alert_visit)(void *ctx, const struct qm_machine_alert *a, struct qm_fault *fault);
qm_err qm_machine_alerts(const struct qm_fleet *f, const struct qm_machine *m, qm_machine_alert_visit visit, void *ctx,
                         struct qm_fault *fault) QM_MUST_USE;

/* How it got its key. */
struct qm_machine_key {
    uint8_t digest[32]; /* the store's own: SHA-256 over the key's numbers */
    uint64_t since_ms;
    char who[64], how[32];
    uint64_t earlier; /* keys before it */
    bool has_ek;
    uint8_t ek[32];     /* fingerprint of the EK that proved it */
    char bound[16];     /* what said whose EK that is; "" */
    uint64_t proven_ms; /* 0: it was not */
    struct qm_anchor ca; /* who vouched for EK or AK */
};
qm_err qm_machine_key(const struct qm_fleet *f, uint64_t slot, struct qm_machine_key *out, struct qm_fault *fault) QM_MUST_USE;

/* Who parked it, since when and why; nothing where nobody ever did. */
struct qm_machine_hold {
    uint64_t since_ms;
    char who[64], why[512];
};
qm_err qm_machine_hold(const struct qm_fleet *f, uint64_t slot, struct qm_machine_hold *out, struct qm_fault *fault) QM_MUST_USE;

/* What its history has of enrolments that ask for less, of what people said for proven ones, and of answers that they rejected: the newest
 * first. */
enum { QM_MACHINE_NOTES_MAX = 8 };
struct qm_machine_note {
    uint64_t at_ms;
    const char *who, *what, *why;
};
typedef qm_err (*qm_machine_note_visit)(void *ctx, const struct qm_machine_note *note, struct qm_fault *fault);
qm_err qm_machine_notes(const struct qm_fleet *f, const struct qm_machine *m, qm_machine_note_visit visit, void *ctx,
                        struct qm_fault *fault) QM_MUST_USE;

/* Boot stages of its newest authentic record: measured beside what it passes on, or is nearest to; before there is such a record,
 * what is accepted, with nothing beside it. */
struct qm_machine_stages {
    unsigned count;
    struct qm_stage stage[QM_STAGE_COUNT]; /* points into room */
    int8_t first_fail;
    struct qm_profile profile;
    char name[QM_STAGE_COUNT][64]; /* as the group calls them */
    uint8_t room[2][QM_PCR_COUNT * 32];
};
qm_err qm_machine_stages(const struct qm_fleet *f, const struct qm_machine *m, struct qm_machine_stages *out,
                         struct qm_fault *fault) QM_MUST_USE;

/* The live sets it may pass on, newest first. */
struct qm_machine_set {
    uint64_t no, since_ms, until_ms, alert;
    enum qm_set_kind kind;
    bool nearest; /* the one that its newest record passes on, or is nearest to */
    const char *origin, *who, *why;
};
typedef qm_err (*qm_machine_set_visit)(void *ctx, const struct qm_machine_set *set, struct qm_fault *fault);
qm_err qm_machine_sets(const struct qm_fleet *f, const struct qm_machine *m, qm_machine_set_visit visit, void *ctx,
                       struct qm_fault *fault) QM_MUST_USE;

#endif
