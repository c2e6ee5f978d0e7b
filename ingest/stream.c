#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "ingest/reader.h"

enum {
    PIPE_BYTES = 1024 * 1024,
    GATHER_MS = 10, /* a pipe that has been silent this long has its bytes delivered as they are */
};

/* What the progress line knows of files that are read in windows. An unsigned sum takes a difference below 0 as well. */
static void note_progress(struct qm_worklist *w, uint64_t files, uint64_t size, uint64_t read_bytes)
{
    atomic_fetch_add_explicit(&w->open_files, files, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->open_size, size, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->open_read, read_bytes, memory_order_relaxed);
}

void qm_stream_begin(struct qm_worklist *w, struct qm_stream *s, struct qm_entry *e, int fd, const struct stat *st)
{
    s->entry = e;
    s->fd = fd;
    s->regular = e->source.bounded;
    s->off = 0;
    s->size = s->regular ? (uint64_t)st->st_size : 0;
    s->target = QM_WINDOW_START;
    s->carry_len = 0;
    s->starved = s->at_end = s->failed = false;
    if (s->regular) {
        note_progress(w, 1, s->size, 0);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    } else {
        (void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES); /* helps a pipe, fails on the rest */
    }
}

/* What a window ends with. */
struct ending {
    bool last;
    int sys;
    const char *failure;
};

/* Plain reads, with a ring too: the kernel's own read-ahead keeps the disk busy while a window is
 * worked on. Measured on 640 MiB in files of 64 MiB, cold, one worker, best of 7: 0.34 s; with
 * POSIX_FADV_WILLNEED 4 MiB ahead 0.35 s and 1.7 times the CPU time. A ring with fixed buffers had been
 * measured before: hot it reaches a third of plain reads. */
static size_t fill_regular(const struct qm_stream *s, uint8_t *to, size_t len, size_t want,
                           struct ending *end)
{
    len += qm_read_full(s->fd, to + len, want - len, s->off + len, &end->last, &end->sys);
    /* At the size that the file had when it was opened the end is likely: looking saves a window of
     * nothing. */
    if (len == want && s->off + len >= s->size && !end->last && end->sys == 0)
        len += qm_read_full(s->fd, to + len, QM_WINDOW_SPARE, s->off + len, &end->last, &end->sys);
    if (end->sys != 0) {
        end->failure = "cannot read on";
    } else if (end->last && s->off + len < s->size) {
        end->failure = "shrank while it was read";
    } else if (s->off + len > QM_FILE_MAX) {
        end->failure = "grew past the limit while it was read";
        end->sys = EFBIG;
    }
    return len;
}

static size_t fill_unbounded(const struct qm_stream *s, uint8_t *to, size_t len, size_t want,
                             const _Atomic bool *stop, struct ending *end)
{
    size_t old = len;
    while (len < want) {
        if (!qm_wait_readable(s->fd, len == old ? QM_WAIT_MS : GATHER_MS)) {
            if (len != old || qm_stopped(stop))
                break;
            continue;
        }
        ssize_t n = read(s->fd, to + len, want - len);
        if (n > 0) {
            len += (size_t)n;
        } else if (n == 0) {
            end->last = true;
            break;
        } else if (errno != EINTR && errno != EAGAIN) {
            end->sys = errno;
            end->failure = "cannot read on";
            break;
        }
        if (qm_stopped(stop))
            break;
    }
    return len;
}

bool qm_stream_window(struct qm_reader *r, struct qm_stream *s, const _Atomic bool *stop)
{
    struct ending end = {0};
    size_t want = s->target;
    if (s->starved && want < 2 * s->carry_len) /* a record longer than the window: twice as much each time */
        want = 2 * s->carry_len;
    if (want > QM_WINDOW_CAP)
        want = QM_WINDOW_CAP;
    memcpy(r->window, s->carry, s->carry_len);
    size_t len = s->carry_len;
    /* Many small records may leave more than a window's worth behind: that comes again before more is read. */
    if (s->at_end) {
        end.last = true;
    } else if (len < want) {
        len = s->regular ? fill_regular(s, r->window, len, want, &end) : fill_unbounded(s, r->window, len, want, stop, &end);
        if (len == s->carry_len && !end.last && end.failure == NULL)
            return false;
        s->at_end = end.last || end.failure != NULL;
        s->failed = end.failure != NULL;
    }
    atomic_fetch_add_explicit(&r->read_bytes, len - s->carry_len, memory_order_relaxed);
    if (end.failure != NULL)
        qm_worklist_fail(r->w, s->entry->source.name, end.sys, end.failure);
    r->piece[0] = (struct qm_piece){
        .source = &s->entry->source,
        .bytes = r->window,
        .len = len,
        .off = s->off,
        .last = s->at_end,
        .broken = s->failed,
        .file_bytes = s->size,
    };
    r->held = s;
    r->held_len = len;
    r->held_last = r->piece[0].last;
    return true;
}

static void learn(struct qm_stream *s, size_t used, size_t record_count)
{
    if (record_count == 0)
        return;
    size_t mean = used / record_count, records = QM_WINDOW_RECORDS;
    if (mean * records > QM_WINDOW_MAX)
        records = QM_WINDOW_MAX / mean / QM_WINDOW_LANES * QM_WINDOW_LANES;
    size_t aim = mean * records + mean / 2; /* the half for records that are longer than the mean */
    if (records == 0 || aim > QM_WINDOW_MAX)
        aim = QM_WINDOW_MAX;
    if (aim < QM_WINDOW_MIN)
        aim = QM_WINDOW_MIN;
    s->target = qm_align_up(aim, 4096);
}

void qm_reader_settle(struct qm_reader *r, size_t used, size_t record_count, bool ended)
{
    struct qm_stream *s = r->held;
    struct qm_worklist *w = r->w;
    if (s == NULL || used > r->held_len)
        abort(); /* our bug, and one that would lose evidence */
    size_t rest = r->held_len - used;
    bool stuck = used == 0 && r->held_len >= QM_WINDOW_CAP && !ended && !r->held_last;
    if (stuck) /* against the contract of settle; asking for more of the same would never end */
        qm_worklist_fail(w, s->entry->source.name, EFBIG, "a record without end was not given up");
    bool over = ended || stuck || (r->held_last && rest == 0);
    if (over) {
        if (s->fd != STDIN_FILENO)
            close(s->fd);
        s->fd = -1;
        if (s->failed)
            s->entry->source.state = QM_SOURCE_FAILED;
        else
            qm_source_read(&s->entry->source, ended ? s->size : s->off + r->held_len);
        if (s->regular)
            note_progress(w, -1ull, -s->size, -s->off);
        qm_file_done(w, 1);
    } else {
        memcpy(s->carry, r->window + used, rest);
        s->carry_len = rest;
        s->off += used;
        if (s->regular)
            note_progress(w, 0, 0, used);
        s->starved = used == 0;
        learn(s, used, record_count);
    }
    r->held = NULL;
    pthread_mutex_lock(&w->lock);
    s->open = !over;
    s->busy = false;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}
