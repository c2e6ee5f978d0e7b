#include "ingest/plain_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    OPEN_TRIES = 20, /* 10 ms apart, while others hold the descriptors or the memory */
    RACE_TRIES = 4,
};

static int open_how(int dir_fd, const char *path, struct open_how *how)
{
    long fd;
    do
        fd = syscall(SYS_openat2, dir_fd, path, how, sizeof *how);
    while (fd < 0 && errno == EINTR);
    return (int)fd;
}

int qm_open_beneath(int dir_fd, const char *path, int flags)
{
    struct open_how how = {
        .flags = (unsigned)(flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    return open_how(dir_fd, path, &how);
}

void qm_entry_how(const struct qm_worklist *w, const struct qm_entry *e, int *dir_fd,
                  const char **path, struct open_how *how)
{
    /* O_NONBLOCK: what turned into a FIFO since it was listed must not hold a worker up. */
    *how = (struct open_how){.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC};
    *dir_fd = AT_FDCWD;
    *path = e->source.name;
    if (e->kind == QM_ENTRY_BENEATH) {
        *dir_fd = w->root[e->root];
        *path += e->rel;
        how->resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    }
    if (e->kind == QM_ENTRY_BENEATH || e->kind == QM_ENTRY_LISTED)
        how->flags |= O_NOFOLLOW;
}

/* Before the open, because opening a device can already do something. A directory operand's files
 * were looked at when they were found. */
static bool listed_may_read(struct qm_worklist *w, const struct qm_entry *e)
{
    struct stat st;
    if (fstatat(AT_FDCWD, e->source.name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        qm_worklist_fail(w, e->source.name, errno, "cannot open it");
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        qm_worklist_fail(w, e->source.name, 0, "is no regular file; not read");
        return false;
    }
    return true;
}

void qm_entries_may_read(struct qm_worklist *w, const struct qm_entry *const *entry, bool *may, size_t count)
{
    const struct qm_source *source[QM_BATCH_FILES];
    for (size_t i = 0; i < count; i++) {
        source[i] = &entry[i]->source;
        may[i] = true;
    }
    if (w->before != NULL && count != 0)
        w->before(w->before_ctx, source, may, count);
    for (size_t i = 0; i < count; i++)
        may[i] = may[i] && (entry[i]->kind != QM_ENTRY_LISTED || listed_may_read(w, entry[i]));
}

enum qm_fetch qm_fetch_open_failed(struct qm_worklist *w, const struct qm_entry *e, int sys)
{
    switch (sys) {
    case EAGAIN:
    case EINTR:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return QM_FETCH_QUEUE; /* may do better later */
    default:
        qm_worklist_fail(w, e->source.name, sys, "cannot open it");
        return QM_FETCH_FAILED;
    }
}

enum qm_fetch qm_fetch_small(struct qm_worklist *w, struct qm_entry *e, bool cached_only,
                             uint8_t *slot, size_t *len)
{
    struct open_how how;
    int dir_fd;
    const char *path;
    qm_entry_how(w, e, &dir_fd, &path, &how);
    if (cached_only)
        how.resolve |= RESOLVE_CACHED;
    int fd = open_how(dir_fd, path, &how);
    if (fd < 0)
        return cached_only ? QM_FETCH_COLD : qm_fetch_open_failed(w, e, errno);

    /* All that the size promises, and no more: anything else (a failure in the middle, a file that
     * changes, what is no file at all) is for the slow path to look into. */
    struct stat st;
    enum qm_fetch got = QM_FETCH_QUEUE;
    size_t n = 0;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        st.st_size <= QM_SLOT_BYTES) {
        for (ssize_t more = 1; more > 0 && n<(size_t)st.st_size; n += more> 0 ? (size_t)more : 0) {
            struct iovec to = {slot + n, QM_SLOT_BYTES - n};
            do
                more = preadv2(fd, &to, 1, (off_t)n, cached_only ? RWF_NOWAIT : 0);
            while (more < 0 && errno == EINTR);
            if (more < 0 && cached_only)
                got = QM_FETCH_COLD;
        }
        if (n == (size_t)st.st_size)
            got = QM_FETCH_WHOLE;
    }
    close(fd);
    *len = n;
    return got;
}

int qm_entry_open(struct qm_worklist *w, const struct qm_entry *e, struct stat *st)
{
    struct open_how how;
    int dir_fd, fd;
    const char *path;
    bool may;
    qm_entries_may_read(w, &e, &may, 1);
    if (!may)
        return -1;
    qm_entry_how(w, e, &dir_fd, &path, &how);
    for (int i = 0; (fd = open_how(dir_fd, path, &how)) < 0; i++) {
        bool race = errno == EAGAIN && i < RACE_TRIES;
        bool shortage = (errno == EMFILE || errno == ENFILE || errno == ENOMEM) && i < OPEN_TRIES;
        if (!race && !shortage) {
            qm_worklist_fail(w, e->source.name, errno, "cannot open it");
            return -1;
        }
        if (shortage)
            nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
    if (fstat(fd, st) != 0) {
        qm_worklist_fail(w, e->source.name, errno, "cannot look at it");
    } else if (e->kind == QM_ENTRY_FIFO ? !S_ISFIFO(st->st_mode) : !S_ISREG(st->st_mode)) {
        qm_worklist_fail(w, e->source.name, 0,
                         e->kind == QM_ENTRY_FIFO ? "is no FIFO any more; not read"
                                                  : "is no regular file; not read");
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

size_t qm_read_full(int fd, uint8_t *to, size_t cap, uint64_t off, bool *end, int *sys)
{
    size_t len = 0;
    *end = false;
    *sys = 0;
    while (len < cap) {
        ssize_t n = pread(fd, to + len, cap - len, (off_t)(off + len));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            *sys = errno;
        *end = n == 0;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    return len;
}

bool qm_wait_readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, timeout_ms);
    return n > 0; /* errors too: the read will say which */
}
