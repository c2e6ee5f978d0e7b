/* After the transaction: recorded files are removed, archived, or go to quarantine. The same steps for a run that comes to its
 * end and for one that was killed on the way: each can be done again. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "codec/text.h"
#include "ingest/plain_reader.h"
#include "tools/spool/spool_inside.h"

enum {
    DISPOSE_THREADS = 16,
    DISPOSE_FILES = 64, /* so many are worth a thread, */
    DISPOSE_BYTES = 32 * 1024 * 1024, /* and so many bytes */
    DISPOSE_TURNS = 4,  /* of each thread, so that none is long alone with the last of them */
};

/* The directories that the file at hand is in, and goes to; opened anew when the next file is elsewhere. */
struct spots {
    char rel[4096];
    bool open;
    int from, archive;
};

static void spots_close(struct spots *s)
{
    if (s->open && s->from >= 0)
        close(s->from);
    if (s->open && s->archive >= 0)
        close(s->archive);
    s->open = false;
}

static bool spots_at(struct spots *s, int taken, int archive, const char *rel, size_t len)
{
    if (s->open && strlen(s->rel) == len && memcmp(s->rel, rel, len) == 0)
        return s->from >= 0;
    spots_close(s);
    if (len >= sizeof s->rel) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(s->rel, rel, len);
    s->rel[len] = '\0';
    s->open = true;
    s->archive = -1;
    s->from = qm_open_beneath(taken, len != 0 ? s->rel : ".", O_RDONLY | O_DIRECTORY);
    if (s->from >= 0 && archive >= 0)
        s->archive = spool_make_dirs(archive, s->rel, 0750);
    return s->from >= 0;
}

/* The reason file comes first: a file in quarantine without one would be a riddle. */
static bool write_reason(int dir, const char *name, const struct spool_item *item, const char *run)
{
    char text[16384], when[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    struct qm_out o = qm_out_init(text, sizeof text);
    qm_out_text(&o, "file: ");
    qm_out_shown(&o, (struct qm_span){(const uint8_t *)item->name, strnlen(item->name, 4096)});
    qm_out_text(&o, "\nreason: ");
    qm_out_shown(&o, (struct qm_span){(const uint8_t *)item->why, strlen(item->why)});
    qm_out_text(&o, "\nrun: ");
    qm_out_text(&o, run);
    qm_out_text(&o, "\ntime: ");
    qm_out_text(&o, when);
    qm_out_text(&o, "\nbytes: ");
    qm_out_u64(&o, item->size);
    qm_out_char(&o, '\n');
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool good = fd >= 0 && spool_write(fd, o.p, o.len) && fsync(fd) == 0;
    int sys = errno;
    if (fd >= 0)
        close(fd);
    errno = sys;
    return good;
}

static bool to_quarantine(struct qm_spool *sp, int from, const char *base, const struct spool_item *item, const char *run,
                          size_t place_idx, size_t item_idx)
{
    char name[128], reason[160];
    snprintf(name, sizeof name, "%s-%zu-%zu.mpk", run, place_idx, item_idx);
    snprintf(reason, sizeof reason, "%s.reason", name);
    if (mkdirat(sp->home_fd, "quarantine", 0700) != 0 && errno != EEXIST)
        return false;
    int dir = openat(sp->home_fd, "quarantine", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return false;
    bool good = write_reason(dir, reason, item, run) && spool_move(from, base, dir, name);
    int sys = errno;
    close(dir);
    errno = sys;
    return good;
}

/* False: it stays and should not. */
static bool dispose_one(struct qm_spool *sp, const struct spool_place *p, const struct spots *s, const char *base,
                        const struct spool_item *item, const char *run, size_t place_idx, size_t item_idx, bool archived)
{
    struct stat st;
    if (fstatat(s->from, base, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT)
            return true; /* done before */
        spool_fail(sp, item->name, errno, "cannot look at it after it was recorded; the next run tries again");
        return false;
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != item->size) {
        int to = qm_open_beneath(p->fd, s->rel[0] != '\0' ? s->rel : ".", O_RDONLY | O_DIRECTORY);
        spool_put_back(sp, p, s->rel, to, s->from, base);
        if (to >= 0)
            close(to);
        spool_fail(sp, item->name, 0, "has changed since it was read: it stays, and is read again");
        return true;
    }
    const char *failure = NULL;
    if (item->why != NULL) {
        if (!to_quarantine(sp, s->from, base, item, run, place_idx, item_idx))
            failure = "was recorded and cannot be moved to quarantine; the next run tries again";
    } else if (archived) {
        if (s->archive < 0 || !spool_move(s->from, base, s->archive, base))
            failure = "was recorded and cannot be moved to the archive; the next run tries again";
    } else if (unlinkat(s->from, base, 0) != 0) {
        failure = "was recorded and cannot be removed; the next run tries again";
    }
    if (failure != NULL)
        spool_fail(sp, item->name, errno, failure);
    return failure == NULL;
}

/* The files, of which each thread takes some that follow each other, again and again: those of one directory mostly, where two
 * would be in each other's way. */
struct disposal {
    struct qm_spool *sp;
    const struct spool_place *p;
    const char *run;
    const struct spool_item *item;
    size_t count, some, place_idx;
    int taken, archive;
    _Atomic size_t next;
    _Atomic bool stayed; /* one that should be gone */
};

static void dispose_at(struct disposal *h, struct spots *s, size_t i)
{
    const struct spool_item *item = &h->item[i];
    const char *slash = strrchr(item->rel, '/');
    const char *base = slash != NULL ? slash + 1 : item->rel;
    bool gone = true;
    if (spots_at(s, h->taken, h->archive, item->rel, slash != NULL ? (size_t)(slash - item->rel) : 0)) {
        gone = dispose_one(h->sp, h->p, s, base, item, h->run, h->place_idx, i, h->archive >= 0);
    } else if (errno != ENOENT) {
        spool_fail(h->sp, item->name, errno, "cannot open the directory it was taken to");
        gone = false;
    }
    if (!gone)
        atomic_store_explicit(&h->stayed, true, memory_order_relaxed);
}

static void *dispose_some(void *arg)
{
    struct disposal *h = arg;
    struct spots s = {0};
    for (size_t at; (at = atomic_fetch_add_explicit(&h->next, h->some, memory_order_relaxed)) < h->count;)
        for (size_t i = at; i < h->count && i < at + h->some; i++)
            dispose_at(h, &s, i);
    spots_close(&s);
    return NULL;
}

static size_t threads_for(const struct spool_item *item, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += item[i].size;
    const size_t most = count < DISPOSE_THREADS ? count : DISPOSE_THREADS;
    const uint64_t threads = count / DISPOSE_FILES + bytes / DISPOSE_BYTES;
    return threads < 1 ? 1 : threads < most ? (size_t)threads : most;
}

/* Many threads for many files, since an unlink may wait for the disk, each for itself: 2,000 files of 8 KB on a virtual SSD (ext4,
 * mounted with discard) took 3.2 ms each with one thread, 0.42 with 4, 0.15 with 16, 0.09 with 64. And for long ones, since what is
 * freed of the page cache is freed by the one who removes the file: 100 of 24 MB took 159 ms with one thread, 75 with two. */
bool spool_dispose(struct qm_spool *sp, const struct spool_place *p, int taken, const char *run, size_t place_idx, const char *archive,
                   const struct spool_item *item, size_t count)
{
    pthread_t thread[DISPOSE_THREADS];
    size_t started = 0;
    int archive_fd = -1;
    if (archive[0] != '\0' && count != 0) {
        (void)mkdir(archive, 0750);
        archive_fd = open(archive, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (archive_fd < 0) {
            spool_fail(sp, archive, errno, "cannot be used as the archive: what was recorded waits for the next run");
            return false;
        }
    }
    const size_t threads = threads_for(item, count);
    struct disposal h = {.sp = sp, .p = p, .run = run, .item = item, .count = count, .some = count / (threads * DISPOSE_TURNS) + 1,
                         .place_idx = place_idx, .taken = taken, .archive = archive_fd};
    while (started + 1 < threads && pthread_create(&thread[started], NULL, dispose_some, &h) == 0)
        started++;
    (void)dispose_some(&h); /* this thread is one of them, and enough */
    while (started != 0)
        (void)pthread_join(thread[--started], NULL);
    if (archive_fd >= 0)
        close(archive_fd);
    return !h.stayed;
}

void spool_end(struct qm_spool *sp, const struct spool_place *p, int taken, const char *run, bool disposed)
{
    char name[SPOOL_RUN_MAX + 16];
    if (!disposed)
        return; /* .done says what the next run has to do */
    spool_back_tree(sp, p, taken);
    /* .done goes last, and only once the rest is gone for good: without it a file would be read a second time. */
    if (fsync(taken) != 0)
        spool_fail_at(sp, p, "", "", errno, "cannot be synced; the next run cleans up");
    else if (unlinkat(taken, SPOOL_DONE, 0) != 0 && errno != ENOENT)
        spool_fail_at(sp, p, "", SPOOL_DONE, errno, "cannot be removed");
    snprintf(name, sizeof name, SPOOL_TAKEN "%s", run);
    if (unlinkat(p->fd, name, AT_REMOVEDIR) != 0 && errno != ENOTEMPTY && errno != EEXIST)
        spool_fail_at(sp, p, "", name, errno, "cannot be removed");
}
