#include "codec/error.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *text;
    int exit;
} table[] = {
    [QM_OK] = {"no error", QM_EXIT_OK},
    [QM_E_USAGE] = {"wrong usage", QM_EXIT_USAGE},
    [QM_E_IO] = {"input or output failed", QM_EXIT_ENVIRONMENT},
    [QM_E_NOMEM] = {"out of memory", QM_EXIT_ENVIRONMENT},
    [QM_E_FORMAT] = {"damaged or foreign file", QM_EXIT_ENVIRONMENT},
    [QM_E_STORE] = {"the database failed", QM_EXIT_ENVIRONMENT},
    [QM_E_CRYPTO] = {"the cryptographic library failed", QM_EXIT_ENVIRONMENT},
    [QM_E_SELFTEST] = {"self-test failed", QM_EXIT_SELFTEST},
    [QM_E_UNFIT] = {"cannot run on this machine", QM_EXIT_USAGE},
    [QM_E_REFUSED] = {"refused", QM_EXIT_FOUND},
    [QM_E_CLOSED] = {"the reader of the output went away", QM_EXIT_ENVIRONMENT},
    [QM_E_LIMIT] = {"a limit was reached", QM_EXIT_ENVIRONMENT},
    [QM_E_BUSY] = {"another holds it", QM_EXIT_BUSY},
};

const char *qm_err_text(qm_err err)
{
    return (size_t)err < QM_COUNT(table) ? table[err].text : "unknown error";
}

int qm_err_exit(qm_err err)
{
    return (size_t)err < QM_COUNT(table) ? table[err].exit : QM_EXIT_ENVIRONMENT;
}

qm_err qm_fail(struct qm_fault *fault, qm_err err, int sys, const char *format, ...)
{
    if (fault == NULL)
        return err;
    fault->err = err;
    fault->sys = sys;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(fault->text, sizeof fault->text, format, args);
    va_end(args);
    if (sys != 0 && n >= 0 && (size_t)n < sizeof fault->text)
        snprintf(fault->text + n, sizeof fault->text - (size_t)n, ": %s", strerrordesc_np(sys));
    return err;
}
