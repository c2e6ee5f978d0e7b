/* The fleet's freshness beacons: 32 random bytes that a collector hashes into extraData, so that a quote cannot have been made
 * before its beacon was. Part of the store. */
#ifndef QM_STORE_BEACON_H
#define QM_STORE_BEACON_H

#include "engine/verify.h"
#include "tools/store/store_config.h"

struct qm_beacon_row {
    struct qm_beacon beacon;
    uint64_t since_ms, until_ms; /* accepted from, and until */
};

/* Makes a new one. Inside a transaction. */
qm_err qm_beacon_rotate(struct qm_store *s, struct qm_beacon_row *out, struct qm_fault *fault) QM_MUST_USE;
/* Those that are accepted now, newest first. */
qm_err qm_beacons_live(struct qm_store *s, struct qm_beacon_row out[QM_BEACONS_MAX], unsigned *count,
                       struct qm_fault *fault) QM_MUST_USE;
/* The same, as verifiers take them. */
struct qm_beacons {
    unsigned count;
    struct qm_beacon beacon[QM_BEACONS_MAX];
};
qm_err qm_beacons_load(struct qm_store *s, struct qm_beacons *out, struct qm_fault *fault) QM_MUST_USE;

#endif
