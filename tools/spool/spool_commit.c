/* From the last result to the end of a run. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/text.h"
#include "ingest/plain_reader.h"
#include "tools/spool/spool_inside.h"

enum { DONE_FLUSH = 64 * 1024, SYNC_EACH_MAX = 64 };

static void put_back_unread(struct qm_spool *sp, const struct qm_worklist *w)
{
    uint32_t at = UINT32_MAX;
    int from = -1, to = -1;
    for (size_t i = 0; i < sp->file_count; i++) {
        const struct spool_file *f = &sp->file[i];
        if (!f->taken || qm_worklist_source(w, f->idx)->state == QM_SOURCE_READ)
            continue;
        const struct spool_dir *d = &sp->dir[f->dir];
        const struct spool_place *p = &sp->place[d->place];
        if (f->dir != at) {
            if (from >= 0)
                close(from);
            if (to >= 0)
                close(to);
            at = f->dir;
            const char *rel = d->rel[0] != '\0' ? d->rel : ".";
            from = qm_open_beneath(p->taken, rel, O_RDONLY | O_DIRECTORY);
            to = qm_open_beneath(p->fd, rel, O_RDONLY | O_DIRECTORY);
        }
        if (from >= 0)
            spool_put_back(sp, p, d->rel, to, from, f->base);
        else
            spool_fail(sp, f->name, errno, "cannot be put back into the spool; the next run tries again");
    }
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
}

static bool recorded(const struct qm_spool *sp, const struct qm_worklist *w, size_t i, uint32_t place)
{
    return sp->dir[sp->file[i].dir].place == place && qm_worklist_source(w, sp->file[i].idx)->state == QM_SOURCE_READ;
}

static void done_text(struct qm_out *o, const char *text)
{
    qm_out_bytes(o, text, strlen(text) + 1);
}

/* .done, synced (its form: spool_recover.c). */
static bool write_done(const struct qm_spool *sp, const struct qm_worklist *w, uint32_t place)
{
    const struct spool_place *p = &sp->place[place];
    const size_t cap = DONE_FLUSH + 4 * 4096;
    char *room = malloc(cap);
    if (room == NULL) {
        errno = ENOMEM;
        return false;
    }
    int fd = openat(p->taken, SPOOL_DONE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct qm_out o = qm_out_init(room, cap);
    done_text(&o, SPOOL_MAGIC);
    qm_out_u64(&o, place);
    done_text(&o, "");
    done_text(&o, p->archive);
    bool good = fd >= 0;
    for (size_t i = 0; i < sp->file_count && good; i++) {
        if (!recorded(sp, w, i, place))
            continue;
        const struct spool_file *f = &sp->file[i];
        const struct qm_source *s = qm_worklist_source(w, f->idx);
        done_text(&o, spool_rel(p, f));
        qm_out_u64(&o, s->read_bytes);
        done_text(&o, "");
        done_text(&o, f->name);
        done_text(&o, f->why != NULL ? f->why : "");
        if (o.len >= DONE_FLUSH) {
            good = spool_write(fd, o.p, o.len);
            o.len = 0;
        }
    }
    good = good && spool_write(fd, o.p, o.len) && fsync(fd) == 0;
    int sys = errno;
    if (fd >= 0)
        close(fd);
    free(room);
    errno = sys;
    return good;
}

static bool sync_dir(int fd, const char *rel)
{
    int dir = qm_open_beneath(fd, rel[0] != '\0' ? rel : ".", O_RDONLY | O_DIRECTORY);
    if (dir < 0)
        return errno == ENOENT || errno == ELOOP || errno == ENOTDIR; /* the old place, gone meanwhile */
    bool good = fsync(dir) == 0;
    int sys = errno;
    close(dir);
    errno = sys;
    return good;
}

/* The renames must be on the disk before the transaction is: else a power cut would bring recorded files back. Of many directories, and
 * senders may make many, a sweep of the file system takes less: the two syncs of each of 2,000 took 11 s (ext4), the sweep 0.3. */
static bool sync_dirs(const struct qm_spool *sp, uint32_t place)
{
    const struct spool_place *p = &sp->place[place];
    size_t count = 0;
    for (size_t i = 0; i < sp->dir_count; i++)
        count += sp->dir[i].place == place;
    if (count > SYNC_EACH_MAX)
        return syncfs(p->fd) == 0;
    for (size_t i = 0; i < sp->dir_count; i++)
        if (sp->dir[i].place == place && !(sync_dir(p->taken, sp->dir[i].rel) && sync_dir(p->fd, sp->dir[i].rel)))
            return false;
    return fsync(p->taken) == 0 && fsync(p->fd) == 0;
}

/* All that the next run would have to know, on the disk. */
static qm_err write_down(void *arg, struct qm_fault *fault)
{
    struct qm_spool *sp = arg;
    for (uint32_t i = 0; i < sp->place_count; i++) {
        if (sp->place[i].taken < 0)
            continue;
        if (!write_done(sp, sp->worklist, i))
            return qm_fail(fault, QM_E_IO, errno, "cannot write what was taken from %.200s", sp->place[i].path);
        if (!sync_dirs(sp, i))
            return qm_fail(fault, QM_E_IO, errno, "cannot sync what was taken from %.200s", sp->place[i].path);
    }
    if (!spool_held_sync(sp))
        return qm_fail(fault, QM_E_IO, errno, "cannot sync the evidence of unknown instances");
    return QM_OK;
}

qm_err qm_spool_commit(struct qm_spool *sp, const struct qm_worklist *w, struct qm_fault *fault)
{
    void *arg[1] = {sp};
    if (sp->hold_sys != 0)
        return qm_fail(fault, QM_E_IO, sp->hold_sys, "cannot hold the evidence of an unknown instance");
    put_back_unread(sp, w);
    sp->worklist = w;
    qm_err err = qm_pool_start(&sp->writer, 1, write_down, arg, &sp->writer_stop, fault);
    if (err == QM_OK)
        spool_forget_begin(sp);
    return err;
}

qm_err qm_spool_synced(struct qm_spool *sp, struct qm_fault *fault)
{
    qm_err err = sp->writer != NULL ? qm_pool_join(sp->writer, fault) : QM_OK;
    sp->writer = NULL;
    return err;
}

void spool_threads_end(struct qm_spool *sp)
{
    qm_err ignored = qm_spool_synced(sp, NULL);
    (void)ignored; /* whoever wanted to know has asked */
    spool_forget_end(sp);
}

static void let_go(struct spool_place *p)
{
    close(p->taken);
    p->taken = -1;
}

void qm_spool_finish(struct qm_spool *sp)
{
    spool_threads_end(sp);
    struct spool_item *item = sp->file_count != 0 ? reallocarray(NULL, sp->file_count, sizeof *item) : NULL;
    for (uint32_t i = 0; i < sp->place_count; i++) {
        struct spool_place *p = &sp->place[i];
        if (p->taken < 0)
            continue;
        size_t count = 0;
        for (size_t f = 0; f < sp->file_count && item != NULL; f++) {
            if (!recorded(sp, sp->worklist, f, i))
                continue;
            const struct qm_source *s = qm_worklist_source(sp->worklist, sp->file[f].idx);
            item[count++] = (struct spool_item){.rel = spool_rel(p, &sp->file[f]), .name = sp->file[f].name, .size = s->read_bytes,
                                                .why = sp->file[f].why};
        }
        bool all = sp->file_count == 0 || (item != NULL && spool_dispose(sp, p, p->taken, sp->run, i, p->archive, item, count));
        spool_end(sp, p, p->taken, sp->run, all);
        let_go(p);
    }
    free(item);
    spool_held_settle(sp, sp->run, true);
}

void qm_spool_abandon(struct qm_spool *sp)
{
    spool_threads_end(sp);
    for (size_t i = 0; i < sp->place_count; i++) {
        struct spool_place *p = &sp->place[i];
        if (p->taken < 0)
            continue;
        spool_end(sp, p, p->taken, sp->run, true);
        let_go(p);
    }
    spool_held_settle(sp, sp->run, false);
}
