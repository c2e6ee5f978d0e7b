/* Directories of the home that are bounded by age and size. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/spool/spool_inside.h"

#define REASON ".reason"

struct piece {
    uint64_t age_ms; /* when it was put there, since the epoch */
    uint64_t files, bytes;
    const char *name;
};

struct qm_trim {
    int fd;
    enum qm_trim_kind kind;
    struct spool_names names;
    struct piece *piece; /* by age; the first doomed ones go */
    size_t count, doomed;
    uint64_t files, bytes; /* of those */
};

static uint64_t ms_of(struct timespec t)
{
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Counts what is in the directory, or removes it. False with errno. Ours: nobody else writes there, and it is as deep as a spool. */
static bool sweep(int fd, unsigned depth, bool destroy, uint64_t *files, uint64_t *bytes)
{
    struct spool_names names;
    int sys;
    bool good = depth <= SPOOL_DEPTH_MAX + 2 && spool_list(fd, &names, &sys);
    if (!good) {
        errno = depth > SPOOL_DEPTH_MAX + 2 ? ELOOP : sys;
        return false;
    }
    for (size_t i = 0; i < names.count && good; i++) {
        const char *name = names.text + names.entry[i].name;
        struct stat st;
        bool dir = spool_type(fd, name, names.entry[i].type) == DT_DIR;
        if (dir) {
            int below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            good = below >= 0 && sweep(below, depth + 1, destroy, files, bytes);
            sys = errno;
            if (below >= 0)
                close(below);
            errno = sys;
        } else if (!destroy && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            ++*files;
            *bytes += (uint64_t)st.st_size;
        }
        if (good && destroy)
            good = unlinkat(fd, name, dir ? AT_REMOVEDIR : 0) == 0 || errno == ENOENT;
    }
    sys = errno;
    spool_names_free(&names);
    errno = sys;
    return good;
}

static bool sweep_named(int dir, const char *name, bool destroy, uint64_t *files, uint64_t *bytes)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool good = fd >= 0 && sweep(fd, 0, destroy, files, bytes);
    int sys = errno;
    if (fd >= 0)
        close(fd);
    errno = sys;
    return good && (!destroy || unlinkat(dir, name, AT_REMOVEDIR) == 0);
}

static bool is_reason(const char *name)
{
    size_t len = strlen(name);
    return len > strlen(REASON) && strcmp(name + len - strlen(REASON), REASON) == 0;
}

static bool measure(struct qm_trim *t, const char *name, struct piece *p)
{
    struct stat st;
    *p = (struct piece){.name = name};
    if (fstatat(t->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    /* A rename moves ctime on, and nobody can set it: what a sender's clock says has no say here. */
    p->age_ms = ms_of(t->kind == QM_TRIM_HELD ? st.st_mtim : st.st_ctim);
    if (S_ISDIR(st.st_mode))
        return sweep_named(t->fd, name, false, &p->files, &p->bytes);
    p->files = 1;
    p->bytes = (uint64_t)st.st_size;
    return true;
}

static int by_age(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    return (x->age_ms > y->age_ms) - (x->age_ms < y->age_ms);
}

static qm_err gather(struct qm_trim *t, const char *dir, const char *keep, struct qm_fault *fault)
{
    int sys;
    if (!spool_list(t->fd, &t->names, &sys))
        return qm_fail(fault, QM_E_IO, sys, "cannot list %.300s", dir);
    t->piece = t->names.count != 0 ? reallocarray(NULL, t->names.count, sizeof *t->piece) : NULL;
    if (t->names.count != 0 && t->piece == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the files of %.300s", dir);
    for (size_t i = 0; i < t->names.count; i++) {
        const char *name = t->names.text + t->names.entry[i].name;
        if (name[0] == '.' || (t->kind == QM_TRIM_QUARANTINE && is_reason(name)) || (keep != NULL && strcmp(name, keep) == 0))
            continue;
        if (measure(t, name, &t->piece[t->count]))
            t->count++;
        else if (errno != ENOENT)
            return qm_fail(fault, QM_E_IO, errno, "cannot look into %.300s", dir);
    }
    if (t->count != 0)
        qsort(t->piece, t->count, sizeof *t->piece, by_age);
    return QM_OK;
}

qm_err qm_trim_plan(struct qm_trim **out, const char *dir, enum qm_trim_kind kind, const char *keep, uint64_t now_ms, uint64_t keep_ms,
                    uint64_t max_bytes, struct qm_fault *fault)
{
    struct qm_trim *t = calloc(1, sizeof *t);
    *out = t;
    if (t == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory");
    t->kind = kind;
    t->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->fd < 0 && errno == ENOENT)
        return QM_OK;
    qm_err err = t->fd >= 0 ? gather(t, dir, keep, fault) : qm_fail(fault, QM_E_IO, errno, "cannot open %.300s", dir);
    if (err != QM_OK) {
        qm_trim_close(t);
        *out = NULL;
        return err;
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < t->count; i++)
        bytes += t->piece[i].bytes;
    for (; t->doomed < t->count; t->doomed++) {
        const struct piece *p = &t->piece[t->doomed];
        bool old = keep_ms != 0 && p->age_ms < now_ms && now_ms - p->age_ms > keep_ms;
        bool many = kind == QM_TRIM_HELD && t->count - t->doomed > QM_HELD_MAX;
        if (!old && !many && (max_bytes == 0 || bytes <= max_bytes))
            break;
        bytes -= p->bytes;
        t->bytes += p->bytes;
        t->files += p->files;
    }
    return QM_OK;
}

uint64_t qm_trim_lost(const struct qm_trim *t, uint64_t *bytes)
{
    *bytes = t->bytes;
    return t->files;
}

static bool drop(struct qm_trim *t, const char *name)
{
    char reason[300];
    if (t->kind == QM_TRIM_QUARANTINE) {
        snprintf(reason, sizeof reason, "%.255s" REASON, name);
        (void)unlinkat(t->fd, reason, 0);
    }
    return unlinkat(t->fd, name, 0) == 0 || errno == ENOENT || (errno == EISDIR && sweep_named(t->fd, name, true, NULL, NULL));
}

qm_err qm_trim_apply(struct qm_trim *t, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; i < t->doomed; i++)
        if (!drop(t, t->piece[i].name))
            err = qm_fail(fault, QM_E_IO, errno, "cannot remove what is too old or too much");
    return err;
}

void qm_trim_close(struct qm_trim *t)
{
    if (t == NULL)
        return;
    if (t->fd >= 0)
        close(t->fd);
    spool_names_free(&t->names);
    free(t->piece);
    free(t);
}
