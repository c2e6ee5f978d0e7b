/* The fleet's summary and its machines, for people and as JSON (contract, section 5). */
#ifndef QM_FLEET_SHOW_H
#define QM_FLEET_SHOW_H

#include "tools/show.h"
#include "tools/store/store_status.h"

/* What a machine is shown by; counts it too. */
struct qm_one_ask {
    struct qm_fleet *fleet;
    const struct qm_show *show;
    bool json;
    bool events; /* for people: every event of each stage, where a log of it was kept */
    uint64_t by_status[QM_STANDS_COUNT];
};

/* A machine with all that is known of it. A qm_machine_visit; ctx is a qm_one_ask. */
qm_err qm_one_show(void *ctx, const struct qm_machine *m, struct qm_fault *fault);
/* A machine's line of JSON, as one of many. Likewise. */
qm_err qm_each_json(void *ctx, const struct qm_machine *m, struct qm_fault *fault);

/* s may be NULL: then only what is given is said. */
void qm_summary_json(const struct qm_fleet *f, uint64_t instances, const uint64_t by_status[QM_STANDS_COUNT],
                     const struct qm_fleet_summary *s);
/* limit: so many machines of each status that is not trusted are listed. */
qm_err qm_summary_show(const struct qm_fleet *f, const struct qm_fleet_summary *s, const struct qm_fleet_filter *filter, uint64_t limit,
                       const struct qm_show *show, struct qm_fault *fault);

/* Before all else, where the verifier has not run for long, or where its clock is behind its last run: what is shown then is not of now. */
void qm_verifier_show(const struct qm_fleet *f, const struct qm_show *show);

enum qm_colour qm_standing_colour(enum qm_standing_status s);

#endif
