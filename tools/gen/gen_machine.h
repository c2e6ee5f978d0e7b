/* One machine of a synthetic fleet: who it is, how its TPM's clock and counts go on, its enrolment
 * line and its evidence. */
#ifndef QM_GEN_MACHINE_H
#define QM_GEN_MACHINE_H

#include <msgpack.h>

#include "tools/gen/gen_fleet.h"
#include "tools/gen/gen_image.h"
#include "tools/gen/gen_keys.h"

/* The templates of all images, [1] with the kernel that --update brings. */
struct qm_gen_templates {
    struct qm_gen_template *of[2];
    size_t log_len_max;
};
/* updated: make the second kind too. */
qm_err qm_gen_templates_open(struct qm_gen_templates *t, const struct qm_gen_params *params,
                             bool updated, struct qm_gen_hasher *h,
                             struct qm_fault *fault) QM_MUST_USE;
void qm_gen_templates_close(struct qm_gen_templates *t);

enum { QM_GEN_ID_MAX = 64 };
/* "web-eu1-000123": role, region, number. */
void qm_gen_machine_id(uint64_t seed, uint64_t machine, char id[QM_GEN_ID_MAX]);

/* One enrolment line (contract, section 2). pcr: its baseline, or NULL. */
void qm_gen_machine_enroll(struct qm_out *o, uint64_t seed, uint64_t machine,
                           const struct qm_gen_key *key, const uint8_t (*pcr)[32]);

enum qm_gen_boot { QM_GEN_SAME_BOOT, QM_GEN_RESUMED, QM_GEN_REBOOTED };

/* What happened to a TPM since it was last measured: prev (NULL: never), pcrs its PCRs' digest now.
 * A machine with other PCRs has rebooted; of the others one in ten has, and one in twenty was
 * suspended and resumed. Fills next. */
enum qm_gen_boot qm_gen_machine_step(uint64_t seed, uint64_t machine, uint64_t round,
                                     const struct qm_gen_state *prev, const uint8_t pcrs[32],
                                     struct qm_gen_state *next, bool *safe);

/* What a worker needs to measure machines. */
struct qm_gen_bench {
    const struct qm_gen_params *params;
    const struct qm_gen_templates *templates;
    struct qm_gen_hasher hasher;
    struct qm_gen_signer signer;
    uint8_t *log; /* templates->log_len_max bytes */
};
qm_err qm_gen_bench_open(struct qm_gen_bench *b, const struct qm_gen_params *params,
                         const struct qm_gen_templates *templates, const struct qm_gen_keys *keys,
                         struct qm_fault *fault) QM_MUST_USE;
void qm_gen_bench_close(struct qm_gen_bench *b);

struct qm_gen_visit {
    uint64_t machine;
    uint64_t round;
    bool tampered;
    bool updated;
};
/* Measures a machine and appends its evidence record (contract, section 1). */
qm_err qm_gen_machine_measure(struct qm_gen_bench *b, const struct qm_gen_visit *visit,
                              const struct qm_gen_state *prev, struct qm_gen_state *next,
                              enum qm_gen_boot *boot, msgpack_sbuffer *out,
                              struct qm_fault *fault) QM_MUST_USE;

#endif
