#include "tools/collect/collect.h"

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
