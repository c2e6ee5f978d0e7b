/* Freeing the page cache of what was read: nearly all that the removal of a long file costs, and the one part of it that may be done
 * before the transaction. A run that is killed meanwhile has lost nothing, the files are on the disk. */
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ingest/plain_reader.h"
#include "tools/spool/spool_inside.h"

enum { FORGET_BYTES = 1024 * 1024, WRITTEN_S = 60 };

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif

/* Is all of it on the disk? What is not would only be written now, for nothing: removed in a moment, it never is. A kernel that
 * cannot say has written by itself what is older than a minute (vm.dirty_expire_centisecs is half of that). */
static bool written(int fd)
{
    const struct {
        uint64_t off, len; /* 0: to the end */
    } all = {0, 0};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently;
    } pages = {0};
    struct stat st;
    if (syscall(SYS_cachestat, fd, &all, &pages, 0) == 0)
        return pages.dirty == 0 && pages.writeback == 0;
    return fstat(fd, &st) == 0 && st.st_mtim.tv_sec < time(NULL) - WRITTEN_S;
}

static void forget_file(const struct qm_spool *sp, const struct spool_file *f)
{
    const struct spool_place *p = &sp->place[sp->dir[f->dir].place];
    const struct qm_source *s = qm_worklist_source(sp->worklist, f->idx);
    if (s->state != QM_SOURCE_READ || s->read_bytes < FORGET_BYTES || f->why != NULL || p->archive[0] != '\0')
        return;
    int fd = qm_open_beneath(p->taken, spool_rel(p, f), O_RDONLY);
    if (fd < 0)
        return;
    if (written(fd))
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static void *forget(void *arg)
{
    struct qm_spool *sp = arg;
    for (size_t i = 0; i < sp->file_count && !atomic_load_explicit(&sp->forget_stop, memory_order_relaxed); i++)
        forget_file(sp, &sp->file[i]);
    return NULL;
}

void spool_forget_begin(struct qm_spool *sp)
{
    sigset_t all, before; /* signals are the main thread's business */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    sp->forgets = pthread_create(&sp->forgetter, NULL, forget, sp) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void spool_forget_end(struct qm_spool *sp)
{
    if (!sp->forgets)
        return;
    atomic_store_explicit(&sp->forget_stop, true, memory_order_relaxed);
    (void)pthread_join(sp->forgetter, NULL);
    sp->forgets = false;
}
