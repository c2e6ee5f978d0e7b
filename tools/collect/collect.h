/* The commands of quotemill-collect, a file each, and what they share. Every one parses its own arguments (argv[0] is the
 * command's name) and gives the exit code of the program. */
#ifndef QM_COLLECT_H
#define QM_COLLECT_H

#include "tools/collect/tpm_link.h"
#include "tools/options.h"

int qm_collect_init(int argc, char **argv);
int qm_collect_propose(int argc, char **argv);
int qm_collect_activate(int argc, char **argv);
int qm_collect_once(int argc, char **argv);
int qm_collect_doctor(int argc, char **argv);
int qm_collect_certificate(int argc, char **argv);

/* Options of most commands. */
struct qm_collect {
    const char *state; /* NULL: the default */
    const char *tcti;
    uint64_t timeout_s;
    const char *hierarchy_auth, *owner_auth; /* files */
};
#define QM_COLLECT_INIT                                                                                                        \
    {                                                                                                                          \
        .timeout_s = 60                                                                                                        \
    }
#define QM_STATE_OPTION(c)                                                                                                     \
    {                                                                                                                          \
        .name = "state", .kind = QM_OPT_TEXT, .to = &(c)->state, .value = "DIR",                                               \
        .help = "what is remembered (else /var/lib/quotemill-collect)"                                                         \
    }
#define QM_TPM_OPTIONS(c)                                                                                                      \
    {.name = "tcti",                                                                                                           \
     .kind = QM_OPT_TEXT,                                                                                                      \
     .to = &(c)->tcti,                                                                                                         \
     .value = "NAME",                                                                                                          \
     .help = "the way to the TPM, for example device:/dev/tpm0 or swtpm:host=localhost,port=2321 (else $QUOTEMILL_TCTI, else " \
             "device:/dev/tpmrm0)"},                                                                                           \
    {.name = "hierarchy-auth",                                                                                                 \
     .kind = QM_OPT_TEXT,                                                                                                      \
     .to = &(c)->hierarchy_auth,                                                                                               \
     .value = "FILE",                                                                                                          \
     .help = "the password of the TPM's hierarchies that have one: one line, for its owner alone to read"},                    \
    {.name = "owner-auth",                                                                                                     \
     .kind = QM_OPT_TEXT,                                                                                                      \
     .to = &(c)->owner_auth,                                                                                                   \
     .value = "FILE",                                                                                                          \
     .help = "that of the owner hierarchy, where it is another"},                                                              \
    {                                                                                                                          \
        .name = "timeout", .kind = QM_OPT_COUNT, .to = &(c)->timeout_s, .value = "N", .min = 1, .max = 3600,                   \
        .help = "seconds that the TPM may take for one command (60)"                                                           \
    }

/* A handle or NV index from first to last, of what is called name; 0 where text is NULL. QM_E_USAGE. */
qm_err qm_handle_read(const char *text, const char *name, uint32_t first, uint32_t last, uint32_t *to,
                      struct qm_fault *fault) QM_MUST_USE;
#define QM_NV_FIRST 0x01000000u /* Library part 2, 7.2 */
#define QM_NV_LAST  0x01ffffffu
/* Fills in the defaults. */
void qm_collect_settle(struct qm_collect *c);
/* The way to the TPM, with the passwords that the options name; for the caller to wipe. QM_E_REFUSED: a file that others may read, or that holds no
 * password. Its content is in no message. */
qm_err qm_collect_way(const struct qm_collect *c, struct qm_tpm_way *way, struct qm_fault *fault) QM_MUST_USE;
/* qm_tpm_do by it. */
qm_err qm_collect_tpm(const struct qm_collect *c, qm_tpm_job job, void *arg, struct qm_tpm_time *spent,
                      struct qm_fault *fault) QM_MUST_USE;
/* "quotemill-collect COMMAND: text" on standard error, for people. */
void qm_collect_note(const char *command, const char *format, ...) QM_PRINTF(2, 3);

#endif
