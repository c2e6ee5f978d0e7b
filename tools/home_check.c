#include "tools/home_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "codec/text.h"
#include "ingest/ingest.h"
#include "tools/spool/spool.h"

enum { SENDERS_MAX = 1000, NAMES_MAX = 1000000 };

/* ---- file systems ------------------------------------------------------------------------------------------------------ */

static const struct {
    unsigned long magic;
    const char *name;
} remote[] = {
    {0x6969, "NFS"},      {0x517b, "SMB"},      {0xff534d42, "CIFS"}, {0xfe534d42, "SMB2"}, {0x5346414f, "AFS"},
    {0x6b414653, "kAFS"}, {0x73757245, "Coda"}, {0x00c36400, "Ceph"}, {0x01021997, "9p"},   {0x0bd00bd0, "Lustre"},
    {0x47504653, "GPFS"}, {0x7461636f, "OCFS2"}, {0x01161970, "GFS2"}, {0x786f4256, "vboxsf"},
};
enum { MAGIC_FUSE = 0x65735546, MAGIC_TMPFS = 0x01021994 };

const char *qm_file_system_remote(unsigned long magic)
{
    for (size_t i = 0; i < QM_COUNT(remote); i++)
        if (magic == remote[i].magic)
            return remote[i].name;
    return NULL;
}

/* f_type is signed, and some magic numbers have the upper bit. */
static unsigned long magic_of(const struct statfs *fs)
{
    return (unsigned long)fs->f_type & 0xffffffff;
}

qm_err qm_home_local(const char *home, struct qm_fault *fault)
{
    struct statfs fs;
    const char *name = statfs(home, &fs) == 0 ? qm_file_system_remote(magic_of(&fs)) : NULL;
    if (name == NULL)
        return QM_OK;
    return qm_fail(fault, QM_E_IO, 0, "the home %s lies on %s, over the network: locks and syncs cannot be relied on there", home, name);
}

void qm_home_check_disk(const char *home, qm_finding found, void *ctx)
{
    static const char check[] = "file system";
    const char *name;
    struct statfs fs;
    struct statvfs v;
    if (statfs(home, &fs) != 0 || statvfs(home, &v) != 0) {
        qm_find(found, ctx, check, QM_HEALTH_FAIL, "see that the home can be reached", "cannot be looked at: %s", strerrordesc_np(errno));
        return;
    }
    name = qm_file_system_remote(magic_of(&fs));
    if (name != NULL)
        qm_find(found, ctx, check, QM_HEALTH_FAIL, "move the home to a disk of this machine", "the home lies on %s, over the network", name);
    else if (magic_of(&fs) == MAGIC_FUSE)
        qm_find(found, ctx, check, QM_HEALTH_WARN, "make sure that it is local, and keeps locks and syncs",
            "the home lies on a file system in user space (FUSE)");
    else if (magic_of(&fs) == MAGIC_TMPFS)
        qm_find(found, ctx, check, QM_HEALTH_WARN, "move the home to a disk", "the home lies in memory (tmpfs), and is gone after a reboot");
    else
        qm_find(found, ctx, check, QM_HEALTH_PASS, NULL, "local");
    const double free_mib = (double)v.f_bavail * (double)v.f_frsize / (1 << 20);
    const double share = v.f_blocks != 0 ? 100.0 * (double)v.f_bavail / (double)v.f_blocks : 0;
    const bool low = free_mib < 1024 || share < 5, out = free_mib < 64;
    qm_find(found, ctx, "free space", out ? QM_HEALTH_FAIL : low ? QM_HEALTH_WARN : QM_HEALTH_PASS,
        low ? "make room: a run that cannot write records nothing" : NULL, "%.0f MiB, %.0f %%", free_mib, share);
}

/* ---- who may read and write -------------------------------------------------------------------------------------------- */

/* The name that is shown: escaped where somebody else chose it. */
static void shown_name(char *to, size_t cap, const char *name)
{
    struct qm_out o = qm_out_init(to, cap - 1);
    qm_out_shown(&o, (struct qm_span){(const uint8_t *)name, strnlen(name, 200)});
    to[o.len] = '\0';
}

/* A table that is missing is the table's matter. */
static void check_closed(int home, const char *name, mode_t kind, mode_t open_bits, qm_finding found, void *ctx, bool *all)
{
    struct stat st;
    if (fstatat(home, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT && strcmp(name, "fleet.tbl") == 0)
            return;
        *all = false;
        qm_find(found, ctx, "permissions", QM_HEALTH_FAIL, "restore it from a backup, or make a new home and enroll again", "%s: %s", name,
            strerrordesc_np(errno));
    } else if ((st.st_mode & S_IFMT) != kind) {
        *all = false;
        qm_find(found, ctx, "permissions", QM_HEALTH_FAIL, "remove it: quotemill makes its own", "%s is not what it should be (mode %o)", name,
            st.st_mode);
    } else if ((st.st_mode & open_bits) != 0) {
        *all = false;
        qm_find(found, ctx, "permissions", QM_HEALTH_FAIL, "take the rights of others away: chmod o-rwx,g-w", "%s has mode %o", name,
            st.st_mode & 07777);
    }
}

/* A directory that senders write into. Who can write there can rename and remove what is there, unless it is sticky. */
static bool check_dropped_into(int at, const char *name, const char *shown, qm_finding found, void *ctx, bool top)
{
    static const char check[] = "spool";
    struct stat st;
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (!top)
            return true; /* it went away meanwhile */
        qm_find(found, ctx, check, QM_HEALTH_FAIL, "make it: mkdir -m 1770", "%s: %s", shown, strerrordesc_np(errno));
        return false;
    }
    if (!S_ISDIR(st.st_mode)) {
        if (top)
            qm_find(found, ctx, check, QM_HEALTH_FAIL, "make it a directory", "%s is no directory", shown);
        return !top;
    }
    if ((st.st_mode & S_IWOTH) != 0) {
        qm_find(found, ctx, check, QM_HEALTH_FAIL, "let a group of senders write there, and nobody else: chmod o-w", "%s can be written by everybody",
            shown);
        return false;
    }
    if ((st.st_mode & S_IWGRP) != 0 && (st.st_mode & S_ISVTX) == 0) {
        qm_find(found, ctx, check, QM_HEALTH_WARN, "chmod +t, or a subdirectory for each sender",
            "whoever writes into %s can take away what others put there", shown);
        return false;
    }
    return true;
}

/* Deliveries that nobody will finish, of the names that *names leaves to look at. */
static uint64_t count_parts(int at, const char *name, unsigned *names)
{
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    uint64_t count = 0;
    for (struct dirent *d; dir != NULL && *names != 0 && (d = readdir(dir)) != NULL; --*names) {
        struct stat st;
        count += qm_spool_is_part(d->d_name) && fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
                 st.st_mtime < time(NULL) - QM_SPOOL_PART_OLD_S;
    }
    if (dir != NULL)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    return count;
}

static void say_parts(const char *home, uint64_t parts, qm_finding found, void *ctx)
{
    static const char check[] = "deliveries";
    char todo[512];
    snprintf(todo, sizeof todo, "remove them: find %.300s/spool -type f -name '.*.tmp' -mmin +60 -delete", home);
    if (parts != 0)
        qm_find(found, ctx, check, QM_HEALTH_WARN, todo, "%llu were killed before they were whole, and left a hidden file in the spool",
            (unsigned long long)parts);
    else
        qm_find(found, ctx, check, QM_HEALTH_PASS, NULL, "none was left half done in the spool");
}

static void check_spool(const char *path, int home, qm_finding found, void *ctx)
{
    unsigned senders = 0, names = NAMES_MAX;
    uint64_t parts = count_parts(home, "spool", &names);
    bool all = check_dropped_into(home, "spool", "spool", found, ctx, true);
    const int fd = openat(home, "spool", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    char shown[256] = "spool/";
    for (struct dirent *d; dir != NULL && senders < SENDERS_MAX && (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.' || (d->d_type != DT_DIR && d->d_type != DT_UNKNOWN))
            continue;
        senders++;
        shown_name(shown + 6, sizeof shown - 6, d->d_name);
        all &= check_dropped_into(fd, d->d_name, shown, found, ctx, false);
        parts += count_parts(fd, d->d_name, &names);
    }
    if (dir != NULL)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    if (all)
        qm_find(found, ctx, "spool", QM_HEALTH_PASS, NULL, "closed to others; senders cannot take away each other's files");
    if (fd >= 0)
        say_parts(path, parts, found, ctx);
}

void qm_home_check_modes(const char *home, qm_finding found, void *ctx)
{
    bool all = true;
    struct stat st;
    const int fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        qm_find(found, ctx, "permissions", QM_HEALTH_FAIL, "run it as the user of the home", "cannot open the home: %s", strerrordesc_np(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    if ((st.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
        all = false;
        qm_find(found, ctx, "permissions", QM_HEALTH_FAIL, "close it: chmod 750", "the home has mode %o", st.st_mode & 07777);
    }
    if (st.st_uid != geteuid() && geteuid() != 0) {
        all = false;
        qm_find(found, ctx, "permissions", QM_HEALTH_WARN, "run quotemill as the user of the home", "the home is not yours (uid %u, not %u)",
            st.st_uid, geteuid());
    }
    check_closed(fd, "fleet.db", S_IFREG, S_IRWXO | S_IWGRP, found, ctx, &all);
    check_closed(fd, "fleet.tbl", S_IFREG, S_IRWXO | S_IWGRP, found, ctx, &all);
    check_closed(fd, "results", S_IFDIR, S_IRWXO | S_IWGRP, found, ctx, &all);
    check_closed(fd, "quarantine", S_IFDIR, S_IRWXO | S_IRWXG, found, ctx, &all);
    check_closed(fd, "held", S_IFDIR, S_IRWXO | S_IRWXG, found, ctx, &all);
    if (all)
        qm_find(found, ctx, "permissions", QM_HEALTH_PASS, NULL, "the home is closed to others");
    check_spool(home, fd, found, ctx);
    close(fd);
}

/* ---- clock and kernel -------------------------------------------------------------------------------------------------- */

void qm_home_check_clock(uint64_t now_ms, uint64_t last_run_end_ms, qm_finding found, void *ctx)
{
    struct timex t = {0};
    if (now_ms < last_run_end_ms)
        qm_find(found, ctx, "clock", QM_HEALTH_FAIL, "set the clock: runs raise no unmeasured and end with 3 until it has caught up",
            "%llu s behind the end of the last run", (unsigned long long)((last_run_end_ms - now_ms) / 1000));
    else if (adjtimex(&t) == TIME_ERROR || (t.status & STA_UNSYNC) != 0)
        qm_find(found, ctx, "clock", QM_HEALTH_WARN, "let a time service set it", "the kernel does not know that it is synchronized");
    else
        qm_find(found, ctx, "clock", QM_HEALTH_PASS, NULL, "synchronized, and not behind the last run");
}

void qm_home_check_kernel(qm_finding found, void *ctx)
{
    char why[256] = "";
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
    const int fd = (int)syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof how);
    if (fd >= 0)
        close(fd);
    else
        qm_find(found, ctx, "kernel", QM_HEALTH_WARN, "Linux 5.6 or later, and no filter that forbids it", "no openat2: %s", strerrordesc_np(errno));
    if (qm_uring_probe(why, sizeof why))
        qm_find(found, ctx, "kernel", QM_HEALTH_PASS, NULL, "io_uring can be used");
    else
        qm_find(found, ctx, "kernel", QM_HEALTH_WARN, "small files are read more slowly; nothing else depends on it", "no io_uring: %.200s", why);
}
