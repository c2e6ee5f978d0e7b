#include "tools/line_read.h"

#include <errno.h>
#include <stdlib.h>

#include "codec/text.h"

qm_err qm_lines_open(struct qm_lines *l, const char *name, struct qm_fault *fault)
{
    *l = (struct qm_lines){.in = strcmp(name, "-") == 0 ? stdin : fopen(name, "re"), .name = name};
    return l->in != NULL ? QM_OK : qm_fail(fault, QM_E_IO, errno, "cannot open %s", name);
}

static bool blank(const char *line, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* False: the end of the file, and nothing was there. */
static bool read_line(FILE *in, char *to, size_t *len)
{
    bool any = false;
    int c;
    *len = 0;
    while ((c = getc_unlocked(in)) != EOF && c != '\n') {
        any = true;
        if (*len <= QM_LINE_MAX)
            to[(*len)++] = (char)c;
    }
    if (*len != 0 && *len <= QM_LINE_MAX && to[*len - 1] == '\r')
        --*len;
    return any || c != EOF;
}

bool qm_lines_next(struct qm_lines *l, char *to, size_t *len)
{
    while (read_line(l->in, to, len)) {
        l->number++;
        if (!blank(to, *len))
            return true;
    }
    return false;
}

qm_err qm_lines_close(struct qm_lines *l, struct qm_fault *fault)
{
    const bool failed = l->in != NULL && ferror(l->in) != 0;
    const int sys = errno;
    if (l->in != NULL && l->in != stdin)
        fclose(l->in);
    l->in = NULL;
    return failed ? qm_fail(fault, QM_E_IO, sys, "cannot read %s", l->name) : QM_OK;
}

void qm_lines_complain(const struct qm_lines *l, const char *command, const char *why)
{
    char shown[1024];
    struct qm_out o = qm_out_init(shown, sizeof shown - 1);
    qm_out_shown(&o, (struct qm_span){(const uint8_t *)l->name, strlen(l->name)});
    shown[o.len] = '\0';
    fprintf(stderr, "quotemill %s: %s: line %llu: refused: %s\n", command, strcmp(l->name, "-") == 0 ? "standard input" : shown,
            (unsigned long long)l->number, why);
}

/* To the end, or to one byte more than max. */
static qm_err read_all(FILE *in, const char *name, size_t max, char **text, size_t *len, struct qm_fault *fault)
{
    for (size_t room = 0;;) {
        if (*len == room) {
            room = room == 0 ? 16 * 1024 : 2 * room;
            room = room > max ? max + 1 : room;
            char *more = realloc(*text, room);
            if (more == NULL)
                return qm_fail(fault, QM_E_NOMEM, 0, "no memory to read %s", name);
            *text = more;
        }
        const size_t n = fread(*text + *len, 1, room - *len, in);
        *len += n;
        if (ferror(in))
            return qm_fail(fault, QM_E_IO, errno, "cannot read %s", name);
        if (*len > max)
            return qm_fail(fault, QM_E_LIMIT, 0, "%s is longer than %zu bytes", name, max);
        if (n == 0)
            return QM_OK;
    }
}

qm_err qm_file_read(const char *name, size_t max, char **text, size_t *len, struct qm_fault *fault)
{
    FILE *in = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
    *text = NULL;
    *len = 0;
    if (in == NULL)
        return qm_fail(fault, QM_E_IO, errno, "cannot open %s", name);
    qm_err err = read_all(in, name, max, text, len, fault);
    if (in != stdin)
        fclose(in);
    if (err != QM_OK) {
        free(*text);
        *text = NULL;
    }
    return err;
}
