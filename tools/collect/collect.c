#include "tools/collect/collect.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/text.h"
#include "tools/collect/state_dir.h"
#include "tools/line_read.h"

void qm_collect_settle(struct qm_collect *c)
{
    const char *env = getenv("QUOTEMILL_TCTI");
    if (c->state == NULL)
        c->state = QM_STATE_DEFAULT;
    if (c->tcti == NULL)
        c->tcti = env != NULL && env[0] != '\0' ? env : "device:/dev/tpmrm0";
}

/* ---- the way to the TPM ------------------------------------------------------------------------------------------------ */

static qm_err take_line(int fd, const char *path, struct qm_tpm_auth *to, struct qm_fault *fault)
{
    char line[QM_AUTH_MAX + 2]; /* its end, and a byte that is too much */
    size_t len = 0;
    ssize_t n = 1;
    while (n != 0 && len < sizeof line) {
        n = read(fd, line + len, sizeof line - len);
        if (n < 0 && errno != EINTR)
            break;
        len += n > 0 ? (size_t)n : 0;
    }
    qm_err err = n < 0 ? qm_fail(fault, QM_E_IO, errno, "cannot read %.200s", path) : QM_OK;
    if (err == QM_OK && len != 0 && line[len - 1] == '\n')
        len--;
    if (err == QM_OK && (len == 0 || len > QM_AUTH_MAX || memchr(line, '\n', len) != NULL || memchr(line, 0, len) != NULL))
        err = qm_fail(fault, QM_E_REFUSED, 0, "%.200s holds no password: one line of 1 to %d bytes", path, QM_AUTH_MAX);
    if (err == QM_OK) {
        to->len = len;
        memcpy(to->p, line, len);
    }
    explicit_bzero(line, sizeof line);
    return err;
}

static qm_err read_password(const char *path, struct qm_tpm_auth *to, struct qm_fault *fault)
{
    struct stat st;
    int fd;
    qm_err err = qm_file_open(path, &fd, fault);
    if (err != QM_OK)
        return err;
    if (fstat(fd, &st) != 0)
        err = qm_fail(fault, QM_E_IO, errno, "cannot look at %.200s", path);
    else if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        err = qm_fail(fault, QM_E_REFUSED, 0, "%.200s is not for its owner alone (uid %u, mode %o): chown %u, chmod 600", path, st.st_uid,
                      st.st_mode & 07777, geteuid());
    else
        err = take_line(fd, path, to, fault);
    close(fd);
    return err;
}

qm_err qm_collect_way(const struct qm_collect *c, struct qm_tpm_way *way, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    *way = (struct qm_tpm_way){.tcti = c->tcti, .timeout_s = (unsigned)c->timeout_s};
    if (c->hierarchy_auth != NULL)
        err = read_password(c->hierarchy_auth, &way->auth[QM_ENDORSEMENT], fault);
    way->auth[QM_OWNER] = way->auth[QM_ENDORSEMENT];
    if (err == QM_OK && c->owner_auth != NULL)
        err = read_password(c->owner_auth, &way->auth[QM_OWNER], fault);
    return err;
}

qm_err qm_collect_tpm(const struct qm_collect *c, qm_tpm_job job, void *arg, struct qm_tpm_time *spent, struct qm_fault *fault)
{
    struct qm_tpm_way way;
    qm_err err = qm_collect_way(c, &way, fault);
    if (err == QM_OK)
        err = qm_tpm_do(&way, job, arg, spent, fault);
    explicit_bzero(&way, sizeof way);
    return err;
}

/* ------------------------------------------------------------------------------------------------------------------------ */

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
