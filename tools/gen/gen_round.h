/* A round of a synthetic fleet: every machine measured once, by all workers, into DIR/spool-R. */
#ifndef QM_GEN_ROUND_H
#define QM_GEN_ROUND_H

#include "tools/gen/gen_fleet.h"
#include "tools/gen/gen_keys.h"

struct qm_gen_round {
    uint64_t round;
    double tamper; /* shares of the fleet */
    double update;
    unsigned workers;
    bool progress; /* a line on stderr, six times a second */
};

struct qm_gen_tally {
    uint64_t files, records, bytes, rebooted, resumed, tampered, updated;
};

/* Writes DIR/enroll.ndjson, of all machines. */
qm_err qm_gen_enroll(int dir_fd, const struct qm_gen_params *params, const struct qm_gen_keys *keys,
                     struct qm_fault *fault) QM_MUST_USE;

/* Measures all machines into DIR/spool-R.part. state: where every TPM stands, is moved on; first:
 * they were never measured. Files of params->per_file records each; above 10,000 files in
 * directories of 1,000. */
qm_err qm_gen_round_make(int dir_fd, const struct qm_gen_params *params,
                         const struct qm_gen_keys *keys, const struct qm_gen_round *round,
                         struct qm_gen_state *state, bool first, struct qm_gen_tally *tally,
                         struct qm_fault *fault) QM_MUST_USE;

#endif
