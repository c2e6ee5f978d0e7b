#include "tools/line_read.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "codec/text.h"

static const char *kind_of(mode_t mode)
{
    return S_ISFIFO(mode)  ? "a FIFO"
           : S_ISSOCK(mode) ? "a socket"
           : S_ISDIR(mode)  ? "a directory"
                            : "a device";
}

static bool keeps_nobody_waiting(int fd, const struct stat *st)
{
    struct statfs fs;
    return S_ISREG(st->st_mode) || (S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3)) ||
           (S_ISFIFO(st->st_mode) && fstatfs(fd, &fs) == 0 && fs.f_type == PIPEFS_MAGIC);
}

qm_err qm_file_open(const char *name, int *fd, struct qm_fault *fault)
{
    struct stat st = {0};
    *fd = open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    const int sys = errno;
    if (*fd < 0 && (sys != ENXIO || stat(name, &st) != 0)) /* ENXIO: a socket, or a device of nothing */
        return qm_fail(fault, QM_E_IO, sys, "cannot open %.300s", name);
    /* A shell's pipe may have yet to be written to. */
    if (*fd >= 0 && fstat(*fd, &st) == 0 && keeps_nobody_waiting(*fd, &st) && fcntl(*fd, F_SETFL, 0) == 0)
        return QM_OK;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return qm_fail(fault, QM_E_IO, 0, "%.300s is %s, no regular file; not read", name, kind_of(st.st_mode));
}

qm_err qm_stream_open(const char *name, FILE **in, struct qm_fault *fault)
{
    int fd;
    *in = stdin;
    if (strcmp(name, "-") == 0)
        return QM_OK;
    *in = NULL;
    qm_err err = qm_file_open(name, &fd, fault);
    if (err != QM_OK || (*in = fdopen(fd, "r")) != NULL)
        return err;
    close(fd);
    return qm_fail(fault, QM_E_NOMEM, 0, "no memory to read %s", name);
}

void qm_stream_close(FILE *in)
{
    if (in != NULL && in != stdin)
        fclose(in);
}

qm_err qm_lines_open(struct qm_lines *l, const char *name, struct qm_fault *fault)
{
    *l = (struct qm_lines){.name = name};
    return qm_stream_open(name, &l->in, fault);
}

bool qm_lines_wait(const char *name)
{
    struct stat st;
    const int rc = strcmp(name, "-") == 0 ? fstat(STDIN_FILENO, &st) : stat(name, &st);
    return rc == 0 && !S_ISREG(st.st_mode);
}

static qm_err copy(int from, int to, const char *name, const char *dir, uint64_t max, struct qm_fault *fault)
{
    char room[64 * 1024];
    for (uint64_t all = 0;;) {
        const ssize_t n = read(from, room, sizeof room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return qm_fail(fault, QM_E_IO, errno, "cannot read %.300s", name);
        if (n == 0)
            return QM_OK;
        if ((uint64_t)n > max - all)
            return qm_fail(fault, QM_E_LIMIT, 0, "%.300s has more than %llu bytes; give it as a file", name, (unsigned long long)max);
        all += (uint64_t)n;
        for (ssize_t done = 0; done < n;) {
            const ssize_t wrote = write(to, room + done, (size_t)(n - done));
            if (wrote < 0 && errno != EINTR)
                return qm_fail(fault, QM_E_IO, errno, "cannot keep in %.300s what was read", dir);
            done += wrote > 0 ? wrote : 0;
        }
    }
}

/* A file without a name. */
static qm_err open_unnamed(const char *dir, int *fd, struct qm_fault *fault)
{
    char path[4096 + 32];
    const int n = snprintf(path, sizeof path, "%s/.lines-XXXXXX", dir);
    *fd = -1;
    if (n < 0 || (size_t)n >= sizeof path)
        return qm_fail(fault, QM_E_LIMIT, 0, "the path of the home is too long");
    *fd = mkostemp(path, O_CLOEXEC);
    return *fd >= 0 && unlink(path) == 0 ? QM_OK : qm_fail(fault, QM_E_IO, errno, "cannot make a file in %.300s", dir);
}

qm_err qm_lines_open_read(struct qm_lines *l, const char *name, const char *dir, uint64_t max, struct qm_fault *fault)
{
    const bool is_stdin = strcmp(name, "-") == 0;
    int from = STDIN_FILENO, to = -1;
    *l = (struct qm_lines){.name = name};
    qm_err err = is_stdin ? QM_OK : qm_file_open(name, &from, fault);
    if (err != QM_OK)
        return err;
    err = open_unnamed(dir, &to, fault);
    if (err == QM_OK)
        err = copy(from, to, is_stdin ? "standard input" : name, dir, max, fault);
    if (err == QM_OK && (lseek(to, 0, SEEK_SET) != 0 || (l->in = fdopen(to, "r")) == NULL))
        err = qm_fail(fault, QM_E_IO, errno, "cannot read again what was read");
    if (err != QM_OK && to >= 0)
        close(to);
    if (!is_stdin)
        close(from);
    return err;
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
    qm_stream_close(l->in);
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
    FILE *in;
    *text = NULL;
    *len = 0;
    qm_err err = qm_stream_open(name, &in, fault);
    if (err == QM_OK)
        err = read_all(in, name, max, text, len, fault);
    qm_stream_close(in);
    if (err != QM_OK) {
        free(*text);
        *text = NULL;
    }
    return err;
}
