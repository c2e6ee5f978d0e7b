/* Loaded before a program (LD_PRELOAD), makes the N-th call that changes a file go wrong: it is killed there, or the call fails.
 *
 *   QM_FAULT_BELOW=TEXT   calls count only when they are about a file whose path has this in it
 *   QM_FAULT_OPS=LIST     which calls count: any of write,sync,rename,unlink,mkdir,truncate,open,read; default all but open and read
 *   QM_FAULT_AT=N         the N-th of them (from 1); 0: none
 *   QM_FAULT_STICKS=1     and all that follow, too: a full disk stays full
 *   QM_FAULT_DO=WHAT      kill: SIGKILL instead of the call; torn: half of a write, then SIGKILL; short: half of it is done;
 *                         a number: fails with this errno
 *   QM_FAULT_COUNT=FILE   at the end, how many calls counted
 *
 * Calls that go past libc's names (its own writes for stdio, io_uring) are not seen. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* What libc's headers declare by other names, or only with other settings. */
ssize_t pwrite64(int fd, const void *p, size_t n, off_t at);
ssize_t pread64(int fd, void *p, size_t n, off_t at);
int ftruncate64(int fd, off_t size);
int open64(const char *path, int flags, ...);
int openat64(int dir, const char *path, int flags, ...);

enum act { PASS, FAIL, HALF };

static struct {
    const char *below, *ops, *count_file;
    unsigned long at;
    bool sticks, kill, torn, half;
    int error;
} plan;
static atomic_ulong counted;
static bool ready;

__attribute__((constructor)) static void begin(void)
{
    const char *at = getenv("QM_FAULT_AT"), *what = getenv("QM_FAULT_DO"), *ops = getenv("QM_FAULT_OPS");
    plan.below = getenv("QM_FAULT_BELOW");
    plan.ops = ops != NULL ? ops : "write,sync,rename,unlink,mkdir,truncate";
    plan.count_file = getenv("QM_FAULT_COUNT");
    plan.at = at != NULL ? strtoul(at, NULL, 10) : 0;
    plan.sticks = getenv("QM_FAULT_STICKS") != NULL;
    what = what != NULL ? what : "kill";
    plan.kill = strcmp(what, "kill") == 0;
    plan.torn = strcmp(what, "torn") == 0;
    plan.half = strcmp(what, "short") == 0;
    plan.error = atoi(what);
    ready = true;
}

__attribute__((destructor)) static void end(void)
{
    char text[32];
    if (plan.count_file == NULL)
        return;
    int n = snprintf(text, sizeof text, "%lu\n", atomic_load(&counted));
    int fd = (int)syscall(SYS_openat, AT_FDCWD, plan.count_file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd >= 0) {
        syscall(SYS_write, fd, text, n);
        syscall(SYS_close, fd);
    }
}

static void die(void)
{
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;)
        syscall(SYS_pause);
}

static bool is_below(int fd, const char *path)
{
    char link[64], name[2 * PATH_MAX];
    ssize_t n = 0;
    if (plan.below == NULL)
        return true;
    if (path != NULL && strstr(path, plan.below) != NULL)
        return true;
    if (path != NULL && path[0] == '/')
        return false;
    if (fd == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = syscall(SYS_readlinkat, AT_FDCWD, link, name, sizeof name - 1);
    if (n <= 0)
        return false;
    name[n] = '\0';
    return strstr(name, plan.below) != NULL;
}

/* Does this call go wrong? path NULL: it is about fd itself. */
static enum act fate(const char *op, int fd, const char *path)
{
    if (!ready || strstr(plan.ops, op) == NULL || !is_below(fd, path))
        return PASS;
    const unsigned long n = atomic_fetch_add(&counted, 1) + 1;
    if (plan.at == 0 || (plan.sticks ? n < plan.at : n != plan.at))
        return PASS;
    if (plan.kill)
        die();
    if (plan.torn || plan.half)
        return HALF;
    errno = plan.error;
    return FAIL;
}

static void find(const char *name, void *to)
{
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(to, &found, sizeof found);
}

/* ISO C has no way from an object's address to a function's; POSIX says that the bytes are the same. */
#define NEXT(type, name, ...)                                                                                                  \
    static type (*next)(__VA_ARGS__);                                                                                          \
    find(name, &next)

/* Half of a transfer is done; nothing is left of one byte but itself. A call that transfers nothing is one that was interrupted. */
#define TRANSFER(op, fd, n, whole, part)                                                                                       \
    do {                                                                                                                       \
        enum act act = fate(op, fd, NULL);                                                                                     \
        if (act == PASS)                                                                                                       \
            return whole;                                                                                                      \
        if (act == FAIL)                                                                                                       \
            return -1;                                                                                                         \
        size_t half = (n) / 2 + ((n) == 1);                                                                                    \
        ssize_t done = part;                                                                                                   \
        if (plan.torn)                                                                                                         \
            die();                                                                                                             \
        return done;                                                                                                           \
    } while (0)

ssize_t write(int fd, const void *p, size_t n)
{
    NEXT(ssize_t, "write", int, const void *, size_t);
    TRANSFER("write", fd, n, next(fd, p, n), next(fd, p, half));
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t);
    TRANSFER("write", fd, n, next(fd, p, n, at), next(fd, p, half, at));
}

ssize_t pwrite64(int fd, const void *p, size_t n, off_t at)
{
    NEXT(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    TRANSFER("write", fd, n, next(fd, p, n, at), next(fd, p, half, at));
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    struct iovec first = count > 0 ? v[0] : (struct iovec){0};
    TRANSFER("write", fd, first.iov_len, next(fd, v, count), (first.iov_len = half, next(fd, &first, 1)));
}

ssize_t read(int fd, void *p, size_t n)
{
    NEXT(ssize_t, "read", int, void *, size_t);
    TRANSFER("read", fd, n, next(fd, p, n), next(fd, p, half));
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    NEXT(ssize_t, "pread", int, void *, size_t, off_t);
    TRANSFER("read", fd, n, next(fd, p, n, at), next(fd, p, half, at));
}

ssize_t pread64(int fd, void *p, size_t n, off_t at)
{
    NEXT(ssize_t, "pread64", int, void *, size_t, off_t);
    TRANSFER("read", fd, n, next(fd, p, n, at), next(fd, p, half, at));
}

/* What cannot be done by half is done, and the program dies behind it. */
#define WHOLE(op, fd, path, call)                                                                                              \
    do {                                                                                                                       \
        enum act act = fate(op, fd, path);                                                                                     \
        if (act == FAIL)                                                                                                       \
            return -1;                                                                                                         \
        int done = call;                                                                                                       \
        if (act == HALF && plan.torn)                                                                                          \
            die();                                                                                                             \
        return done;                                                                                                           \
    } while (0)

int fsync(int fd)
{
    NEXT(int, "fsync", int);
    WHOLE("sync", fd, NULL, next(fd));
}

int fdatasync(int fd)
{
    NEXT(int, "fdatasync", int);
    WHOLE("sync", fd, NULL, next(fd));
}

int syncfs(int fd)
{
    NEXT(int, "syncfs", int);
    WHOLE("sync", fd, NULL, next(fd));
}

int ftruncate(int fd, off_t size)
{
    NEXT(int, "ftruncate", int, off_t);
    WHOLE("truncate", fd, NULL, next(fd, size));
}

int ftruncate64(int fd, off_t size)
{
    NEXT(int, "ftruncate64", int, off_t);
    WHOLE("truncate", fd, NULL, next(fd, size));
}

int rename(const char *from, const char *to)
{
    NEXT(int, "rename", const char *, const char *);
    WHOLE("rename", AT_FDCWD, from, next(from, to));
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    NEXT(int, "renameat", int, const char *, int, const char *);
    WHOLE("rename", from_dir, from, next(from_dir, from, to_dir, to));
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    NEXT(int, "renameat2", int, const char *, int, const char *, unsigned);
    WHOLE("rename", from_dir, from, next(from_dir, from, to_dir, to, flags));
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    NEXT(int, "linkat", int, const char *, int, const char *, int);
    WHOLE("rename", to_dir, to, next(from_dir, from, to_dir, to, flags));
}

int unlink(const char *path)
{
    NEXT(int, "unlink", const char *);
    WHOLE("unlink", AT_FDCWD, path, next(path));
}

int unlinkat(int dir, const char *path, int flags)
{
    NEXT(int, "unlinkat", int, const char *, int);
    WHOLE("unlink", dir, path, next(dir, path, flags));
}

int rmdir(const char *path)
{
    NEXT(int, "rmdir", const char *);
    WHOLE("unlink", AT_FDCWD, path, next(path));
}

int mkdir(const char *path, mode_t mode)
{
    NEXT(int, "mkdir", const char *, mode_t);
    WHOLE("mkdir", AT_FDCWD, path, next(path, mode));
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    NEXT(int, "mkdirat", int, const char *, mode_t);
    WHOLE("mkdir", dir, path, next(dir, path, mode));
}

static unsigned mode_of(int flags, va_list more)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, unsigned) : 0;
}

#define OPEN(name, dir, path, flags, call)                                                                                     \
    do {                                                                                                                       \
        va_list more;                                                                                                          \
        va_start(more, flags);                                                                                                 \
        const unsigned mode = mode_of(flags, more);                                                                            \
        va_end(more);                                                                                                          \
        WHOLE("open", dir, path, call);                                                                                        \
    } while (0)

int open(const char *path, int flags, ...)
{
    NEXT(int, "open", const char *, int, ...);
    OPEN("open", AT_FDCWD, path, flags, next(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    NEXT(int, "open64", const char *, int, ...);
    OPEN("open64", AT_FDCWD, path, flags, next(path, flags, mode));
}

int openat(int dir, const char *path, int flags, ...)
{
    NEXT(int, "openat", int, const char *, int, ...);
    OPEN("openat", dir, path, flags, next(dir, path, flags, mode));
}

int openat64(int dir, const char *path, int flags, ...)
{
    NEXT(int, "openat64", int, const char *, int, ...);
    OPEN("openat64", dir, path, flags, next(dir, path, flags, mode));
}

/* openat2 has no function of its own. */
long syscall(long number, ...)
{
    NEXT(long, "syscall", long, ...);
    long a[6];
    va_list more;
    va_start(more, number);
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        a[i] = va_arg(more, long);
    va_end(more);
    if (number != SYS_openat2)
        return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    WHOLE("open", (int)a[0], (const char *)a[1], (int)next(number, a[0], a[1], a[2], a[3]));
}
