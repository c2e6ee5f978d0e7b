#include "tools/collect/collect.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "tools/collect/state_dir.h"

void qm_collect_settle(struct qm_collect *c)
{
    const char *env = getenv("QUOTEMILL_TCTI");
    if (c->state == NULL)
        c->state = QM_STATE_DEFAULT;
    if (c->tcti == NULL)
        c->tcti = env != NULL && env[0] != '\0' ? env : "device:/dev/tpmrm0";
}

qm_err qm_handle_read(const char *text, const char *name, uint32_t first, uint32_t last, uint32_t *to, struct qm_fault *fault)
{
    char *end;
    *to = 0;
    if (text == NULL)
        return QM_OK;
    errno = 0;
    const unsigned long v = strtoul(text, &end, 0);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || v < first || v > last)
        return qm_fail(fault, QM_E_USAGE, 0, "%s wants a number from 0x%x to 0x%x, not '%.64s'", name, first, last, text);
    *to = (uint32_t)v;
    return QM_OK;
}

void qm_collect_note(const char *command, const char *format, ...)
{
    char text[1024], line[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct qm_out o = qm_out_init(line, sizeof line - 1);
    qm_out_line(&o, (struct qm_span){(const uint8_t *)text, strlen(text)});
    line[o.len] = '\0';
    fprintf(stderr, "quotemill-collect %s: %s\n", command, line);
}
