/* What verify and run set up alike. */
#include "tools/setup.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "engine/pool.h"

void qm_setup_report(void *ctx, const char *name, int sys, const char *what)
{
    char shown[8192];
    struct qm_out o = qm_out_init(shown, sizeof shown - 1);
    qm_out_shown(&o, (struct qm_span){(const uint8_t *)name, strlen(name)});
    shown[o.len] = '\0';
    fprintf(stderr, "quotemill %s: %s: %s%s%s\n", (const char *)ctx,
            o.full ? "a file with a long name" : name[0] == '\0' ? "''" : shown, what, sys != 0 ? ": " : "",
            sys != 0 ? strerrordesc_np(sys) : "");
}

unsigned qm_setup_cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > QM_WORKERS_MAX ? QM_WORKERS_MAX : (unsigned)n;
}

qm_err qm_setup_io(const char *command, const char *asked, enum qm_io *io, struct qm_fault *fault)
{
    char reason[160] = "";
    *io = QM_IO_READ;
    if (strcmp(asked, "read") == 0)
        return QM_OK;
    if (qm_uring_probe(reason, sizeof reason)) {
        *io = QM_IO_URING;
        return QM_OK;
    }
    if (strcmp(asked, "uring") == 0)
        return qm_fail(fault, QM_E_UNFIT, 0, "io_uring cannot be used here: %s", reason);
    fprintf(stderr, "quotemill %s: io_uring cannot be used here (%s); reading the plain way\n", command, reason);
    return QM_OK;
}

qm_err qm_setup_kernels(const char *crypto, struct qm_kernels *k, struct qm_fault *fault)
{
    qm_err err = qm_kernels_choose(k, crypto != NULL ? crypto : getenv("QM_KERNEL"), fault);
    return err == QM_OK ? qm_kernels_selftest(k, fault) : err;
}

void qm_setup_name_kernels(const struct qm_kernels *k, struct qm_run *run)
{
    for (unsigned c = 0; c < QM_SIG_CLASS_COUNT; c++) {
        run->kernel[c].what = qm_sig_class_name(c);
        run->kernel[c].name = k->sig[c]->name;
    }
    run->kernel[QM_SIG_CLASS_COUNT].what = "sha256";
    run->kernel[QM_SIG_CLASS_COUNT].name = k->sha256->name;
    run->kernel_count = QM_SIG_CLASS_COUNT + 1;
}
