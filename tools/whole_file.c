#include "tools/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

/* Whoever had the lock before may have renamed the file meanwhile: then it is the published one, and not ours. */
static bool still_there(int fd, const char *tmp)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && lstat(tmp, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

qm_err qm_whole_open(struct qm_whole_file *w, const char *path, mode_t mode, struct qm_fault *fault)
{
    *w = (struct qm_whole_file){.path = path, .fd = -1};
    const int n = snprintf(w->tmp, sizeof w->tmp, "%s.tmp", path);
    if (path[0] == '\0' || n < 0 || (size_t)n >= sizeof w->tmp)
        return qm_fail(fault, QM_E_USAGE, 0, "the name of the file is empty or too long");
    for (;;) {
        w->fd = open(w->tmp, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);
        if (w->fd < 0)
            return qm_fail(fault, QM_E_IO, errno, "cannot make %s", w->tmp);
        while (flock(w->fd, LOCK_EX) != 0)
            if (errno != EINTR) {
                qm_fail(fault, QM_E_IO, errno, "cannot lock %s", w->tmp);
                close(w->fd);
                w->fd = -1;
                return QM_E_IO;
            }
        if (still_there(w->fd, w->tmp))
            break;
        close(w->fd);
    }
    if (fchmod(w->fd, mode) == 0 && ftruncate(w->fd, 0) == 0)
        return QM_OK;
    qm_fail(fault, QM_E_IO, errno, "cannot write %s", w->tmp);
    qm_whole_close(w);
    return QM_E_IO;
}

static qm_err sync_folder(const char *file, struct qm_fault *fault)
{
    char folder[4096 + 8];
    const char *slash = strrchr(file, '/');
    snprintf(folder, sizeof folder, "%.*s", slash == NULL || slash == file ? 1 : (int)(slash - file), slash == NULL ? "." : file);
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    qm_err err = fd >= 0 && fsync(fd) == 0 ? QM_OK : qm_fail(fault, QM_E_IO, errno, "cannot sync %s", folder);
    if (fd >= 0)
        close(fd);
    return err;
}

qm_err qm_whole_finish(struct qm_whole_file *w, struct qm_fault *fault)
{
    if (fsync(w->fd) != 0 || rename(w->tmp, w->path) != 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot make %s", w->path);
    close(w->fd);
    w->fd = -1;
    return sync_folder(w->path, fault);
}

void qm_whole_close(struct qm_whole_file *w)
{
    if (w->fd < 0)
        return;
    unlink(w->tmp);
    close(w->fd);
    w->fd = -1;
}
