/* The sender's side: a record into a spool, whole or not at all. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "tools/spool/spool_inside.h"

enum { PREFIX_MAX = 64, EXCL_TRIES = 16, SWEEP_NAMES_MAX = 10000 };

/* What of an id may stand in any file name; for people, not to find it again. */
static size_t safe_prefix(struct qm_span id, char *to)
{
    size_t n = 0;
    for (; n < id.len && n < PREFIX_MAX; n++) {
        const char c = (char)id.p[n];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (n != 0 && (c == '-' || c == '.'));
        to[n] = plain ? c : '_';
    }
    return n;
}

static bool make_name(struct qm_span id, char *name, size_t cap)
{
    uint64_t random;
    struct timespec t;
    char prefix[PREFIX_MAX + 1];
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return false;
    prefix[safe_prefix(id, prefix)] = '\0';
    clock_gettime(CLOCK_REALTIME, &t);
    snprintf(name, cap, "%s-%llu-%016llx.mpk", prefix, (unsigned long long)t.tv_sec * 1000 + (unsigned long long)t.tv_nsec / 1000000,
             (unsigned long long)random);
    return true;
}

static qm_err deliver(int dir, const char *where, struct qm_span id, struct qm_span record, char *name, size_t cap, struct qm_fault *fault)
{
    char part[QM_SPOOL_NAME_MAX + 8];
    int fd = -1;
    for (int i = 0; fd < 0 && i < EXCL_TRIES; i++) {
        if (!make_name(id, name, cap))
            return qm_fail(fault, QM_E_IO, errno, "no random bytes");
        snprintf(part, sizeof part, ".%s.tmp", name);
        fd = openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    if (fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot make a file in %.300s", where);
    bool good = spool_write(fd, record.p, record.len) && fsync(fd) == 0;
    int sys = errno;
    if (close(fd) != 0 && good) {
        sys = errno;
        good = false;
    }
    if (good && !spool_rename_new(dir, part, dir, name)) {
        sys = errno;
        good = false;
    }
    if (!good) {
        (void)unlinkat(dir, part, 0);
        return qm_fail(fault, QM_E_IO, sys, "cannot write the record to %.300s; nothing was delivered", where);
    }
    if (fsync(dir) != 0)
        return qm_fail(fault, QM_E_IO, errno, "the record is in %.300s, but a power cut may lose it: the directory cannot be synced", where);
    return QM_OK;
}

qm_err qm_spool_deliver(const char *dir, struct qm_span id, struct qm_span record, char name[QM_SPOOL_NAME_MAX], struct qm_fault *fault)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot open the spool %.300s", dir);
    qm_err err = deliver(fd, dir, id, record, name, QM_SPOOL_NAME_MAX, fault);
    close(fd);
    return err;
}

/* ---- what was left ----------------------------------------------------------------------------------------------------- */

bool qm_spool_is_part(const char *name)
{
    const size_t len = strlen(name);
    return name[0] == '.' && len > 4 && strcmp(name + len - 4, ".tmp") == 0;
}

/* ".PREFIX-MILLISECONDS-RANDOM.mpk.tmp", as make_name and deliver have it. */
static bool is_part_of(const char *name, const char *prefix, size_t prefix_len)
{
    static const char digits[] = "0123456789", hex[] = "0123456789abcdef";
    if (name[0] != '.' || strncmp(name + 1, prefix, prefix_len) != 0 || name[1 + prefix_len] != '-')
        return false;
    const char *at = name + 1 + prefix_len + 1;
    const size_t ms = strspn(at, digits);
    if (ms == 0 || at[ms] != '-')
        return false;
    at += ms + 1;
    return strspn(at, hex) == 16 && strcmp(at + 16, ".mpk.tmp") == 0;
}

/* Were the clocks of two machines apart, and one of them alive: its delivery fails at the rename, says so, and is made again. */
uint64_t qm_spool_sweep(const char *dir, struct qm_span id)
{
    char prefix[PREFIX_MAX];
    const size_t prefix_len = safe_prefix(id, prefix);
    uint64_t gone = 0;
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    const struct dirent *e;
    for (unsigned n = 0; n < SWEEP_NAMES_MAX && (e = readdir(d)) != NULL; n++) {
        struct stat st;
        if (is_part_of(e->d_name, prefix, prefix_len) && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            st.st_uid == geteuid() && st.st_mtime < time(NULL) - QM_SPOOL_PART_OLD_S)
            gone += unlinkat(fd, e->d_name, 0) == 0;
    }
    closedir(d);
    return gone;
}
