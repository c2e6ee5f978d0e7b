/* What a synthetic fleet's directory keeps between rounds.
 *
 *   fleet.json   the parameters, one a line; written last in round 1, so that a fleet without it is
 * none state.bin    where every machine's TPM stood when it was last measured
 *
 * Both are written aside and renamed. gen is their only writer, under a lock on the directory. */
#ifndef QM_GEN_FLEET_H
#define QM_GEN_FLEET_H

#include "codec/base.h"
#include "codec/error.h"

/* A parameter that the command line did not give. */
#define QM_GEN_UNSET UINT64_MAX

struct qm_gen_params {
    uint64_t instances;
    char key[16];       /* "rsa2048" and so on; "" : unset */
    uint64_t keys;      /* size of the pool */
    uint64_t events;    /* 0: the image's own number */
    uint64_t log_bytes; /* 0: the image's own size */
    uint64_t per_file;
    uint64_t seed;
    bool baseline;
};

#define QM_GEN_FLEET_FILE "fleet.json"
#define QM_GEN_FLEET_PART "fleet.json.part" /* round 1 is under way, or was killed */
#define QM_GEN_STATE_FILE "state.bin"

/* Writes fleet.json.part; qm_gen_params_publish makes it fleet.json. */
qm_err qm_gen_params_write(int dir_fd, const struct qm_gen_params *params,
                           struct qm_fault *fault) QM_MUST_USE;
qm_err qm_gen_params_publish(int dir_fd, struct qm_fault *fault) QM_MUST_USE;
/* QM_E_FORMAT: no fleet.json of ours, or of another version. Its absence is QM_E_IO with ENOENT. */
qm_err qm_gen_params_read(int dir_fd, struct qm_gen_params *params,
                          struct qm_fault *fault) QM_MUST_USE;
/* QM_E_USAGE, naming the first parameter that asked gives and kept has otherwise. */
qm_err qm_gen_params_agree(const struct qm_gen_params *asked, const struct qm_gen_params *kept,
                           struct qm_fault *fault) QM_MUST_USE;

/* One machine's TPM, when it was last measured. On disk as it stands. */
struct qm_gen_state {
    uint64_t clock_ms;
    uint32_t reset;
    uint32_t restart;
    uint8_t pcrs[32]; /* SHA-256 over PCRs 0 to 9 */
};
_Static_assert(sizeof(struct qm_gen_state) == 48, "state.bin holds it byte for byte");

/* Reads count states into an array that the caller frees. QM_E_FORMAT: cut short, altered, or of
 * another fleet. */
qm_err qm_gen_state_read(int dir_fd, size_t count, struct qm_gen_state **state,
                         struct qm_fault *fault) QM_MUST_USE;
qm_err qm_gen_state_write(int dir_fd, size_t count, const struct qm_gen_state *state,
                          struct qm_fault *fault) QM_MUST_USE;

/* Removes name below dir_fd, with everything in it where it is a directory; links are not followed.
 * Absent is fine. */
qm_err qm_gen_remove_tree(int dir_fd, const char *name, struct qm_fault *fault) QM_MUST_USE;
/* Does the tree hold anything but directories? */
qm_err qm_gen_tree_has_files(int dir_fd, const char *name, bool *has,
                             struct qm_fault *fault) QM_MUST_USE;
/* All of len bytes, or QM_E_IO. */
qm_err qm_gen_write_all(int fd, const void *p, size_t len, const char *name,
                        struct qm_fault *fault) QM_MUST_USE;

#endif
