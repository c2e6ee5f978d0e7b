/* HOME/held: evidence of unknown instances, a file for an id. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "ingest/plain_reader.h"
#include "tools/spool/spool_inside.h"

enum { HELD_RUN_BYTES_MAX = 256 * 1024 * 1024, HELD_SYNC_EACH_MAX = 32 };
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* base64url without padding: an id of QM_ID_MAX bytes makes 171 characters. */
static void held_name(struct qm_span id, char *name)
{
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < id.len; i++) {
        bits = bits << 8 | id.p[i];
        for (have += 8; have >= 6; have -= 6)
            *name++ = digits[bits >> (have - 6) & 63];
    }
    if (have != 0)
        *name++ = digits[bits << (6 - have) & 63];
    memcpy(name, ".mpk", 5);
}

bool spool_held_id(const char *name, uint8_t id[QM_ID_MAX], size_t *len)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t chars = strlen(name);
    *len = 0;
    if (chars < 6 || strcmp(name + chars - 4, ".mpk") != 0)
        return false;
    for (size_t i = 0; i < chars - 4; i++) {
        const char *at = memchr(digits, name[i], sizeof digits - 1);
        if (at == NULL)
            return false;
        bits = bits << 6 | (uint32_t)(at - digits);
        have += 6;
        if (have < 8)
            continue;
        if (*len == QM_ID_MAX)
            return false;
        have -= 8;
        id[(*len)++] = (uint8_t)(bits >> have);
    }
    return *len != 0;
}

static int held_dir(struct qm_spool *sp)
{
    return sp->place[sp->place_count - 1].fd;
}

/* False with errno. The lock is held. */
static bool open_new(struct qm_spool *sp)
{
    char name[SPOOL_RUN_MAX + 16];
    if (sp->new_fd >= 0)
        return true;
    snprintf(name, sizeof name, SPOOL_NEW "%s", sp->run);
    if (mkdirat(held_dir(sp), name, 0700) != 0 && errno != EEXIST)
        return false;
    sp->new_fd = openat(held_dir(sp), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return sp->new_fd >= 0;
}

static bool write_record(int dir, const char *name, struct qm_span record)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool good = spool_write(fd, record.p, record.len);
    int sys = errno;
    if (close(fd) != 0 && good) {
        sys = errno;
        good = false;
    }
    if (!good)
        (void)unlinkat(dir, name, 0);
    errno = sys;
    return good;
}

void qm_spool_hold(struct qm_spool *sp, struct qm_span id, struct qm_span record)
{
    char name[4 * QM_ID_MAX / 3 + 8];
    if (id.len == 0 || id.len > QM_ID_MAX)
        return;
    held_name(id, name);
    pthread_mutex_lock(&sp->lock);
    struct stat st;
    bool good = sp->held_count < QM_HELD_MAX && record.len <= HELD_RUN_BYTES_MAX - sp->held_bytes;
    bool again = good && sp->new_fd >= 0 && fstatat(sp->new_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    good = good && (!again || sp->held_again < QM_HELD_AGAIN_MAX);
    if (good) {
        good = open_new(sp);
        /* Not truncated: a file system may bring what is written into a truncated file to the disk at its close. */
        good = good && (!again || unlinkat(sp->new_fd, name, 0) == 0) && write_record(sp->new_fd, name, record);
        if (!good && sp->hold_sys == 0)
            sp->hold_sys = errno; /* commit says so: the file that it came from must not be removed */
        if (again) {
            sp->held_again++;
            sp->held_count--;
            sp->held_bytes -= (uint64_t)st.st_size;
        }
    }
    if (good) {
        sp->held_count++;
        sp->held_bytes += record.len;
    } else {
        sp->not_held++;
        sp->not_held_bytes += record.len;
    }
    pthread_mutex_unlock(&sp->lock);
}

uint64_t qm_spool_held(const struct qm_spool *sp)
{
    return sp->held_count;
}

uint64_t qm_spool_not_held(const struct qm_spool *sp, uint64_t *bytes)
{
    *bytes = sp->not_held_bytes;
    return sp->not_held;
}

bool spool_held_sync(struct qm_spool *sp)
{
    if (sp->new_fd < 0)
        return true;
    if (sp->held_count > HELD_SYNC_EACH_MAX) /* one sweep instead of thousands */
        return syncfs(sp->new_fd) == 0;
    struct spool_names names;
    int sys;
    if (!spool_list(sp->new_fd, &names, &sys)) {
        errno = sys;
        return false;
    }
    bool good = true;
    for (size_t i = 0; i < names.count && good; i++) {
        int fd = openat(sp->new_fd, names.text + names.entry[i].name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        good = fd >= 0 && fsync(fd) == 0;
        sys = errno;
        if (fd >= 0)
            close(fd);
    }
    spool_names_free(&names);
    if (good && fsync(sp->new_fd) == 0 && fsync(held_dir(sp)) == 0)
        return true;
    errno = good ? errno : sys;
    return false;
}

void spool_held_settle(struct qm_spool *sp, const char *run, bool keep)
{
    const struct spool_place *held = &sp->place[sp->place_count - 1];
    char dir[SPOOL_RUN_MAX + 16];
    struct spool_names names;
    int sys;
    snprintf(dir, sizeof dir, SPOOL_NEW "%s", run);
    int fd = openat(held->fd, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        if (errno != ENOENT)
            spool_fail_at(sp, held, "", dir, errno, "cannot be opened");
        return;
    }
    if (spool_list(fd, &names, &sys)) {
        for (size_t i = 0; i < names.count; i++) {
            const char *name = names.text + names.entry[i].name;
            if (keep ? renameat(fd, name, held->fd, name) != 0 : unlinkat(fd, name, 0) != 0)
                spool_fail_at(sp, held, dir, name, errno, keep ? "cannot be kept" : "cannot be removed");
        }
        spool_names_free(&names);
    } else {
        spool_fail_at(sp, held, "", dir, sys, "cannot be listed");
    }
    close(fd);
    if (unlinkat(held->fd, dir, AT_REMOVEDIR) != 0 && errno != ENOENT)
        spool_fail_at(sp, held, "", dir, errno, "cannot be removed");
}
