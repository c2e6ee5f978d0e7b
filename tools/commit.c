#include "tools/commit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/pool.h"
#include "tools/store/store_retire.h"
#include "tools/store/store_run.h"

enum { BUFFER = 256 * 1024, PATH_ROOM = 4096 + 320 };
static const char unfinished[] = ".part"; /* behind the name of results whose run is not committed */
/* Results that lie elsewhere: HOME/results/RUN.elsewhere is a symbolic link to what FILE will be, for as long as there is a
 * FILE.RUN.part. */
static const char elsewhere[] = ".elsewhere";

/* ---- the lock ---------------------------------------------------------------------------------------------------------- */

qm_err qm_run_lock(const char *home, int *fd, struct qm_fault *fault)
{
    char path[PATH_ROOM];
    *fd = -1;
    qm_err err = qm_home_file(path, sizeof path, home, "run.lock", fault);
    if (err != QM_OK)
        return err;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (*fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot open %s", path);
    while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR)
            continue;
        err = errno == EWOULDBLOCK ? qm_fail(fault, QM_E_BUSY, 0, "another run holds the home %s", home)
                                   : qm_fail(fault, QM_E_IO, errno, "cannot lock %s", path);
        close(*fd);
        *fd = -1;
        return err;
    }
    return QM_OK;
}

/* ---- results ----------------------------------------------------------------------------------------------------------- */

struct results {
    int fd;              /* -1: none are written */
    bool ours;           /* a file that we made */
    pthread_mutex_t lock; /* for one write at a time */
    char path[PATH_ROOM];  /* of the file in the end; "" where we do not rename it */
    char part[PATH_ROOM];
    char note[PATH_ROOM];  /* the link to path, where that is not in the home; "": none */
};

/* What encodes the outcomes of one arena. Writers take turns at the file, so the order of results is nobody's. */
struct writer {
    struct results *to;
    const struct qm_outcomes *outcomes;
    const _Atomic bool *stop;
};

static qm_err write_fully(int fd, const char *p, size_t left, struct qm_fault *fault)
{
    while (left != 0) {
        ssize_t n = write(fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EPIPE ? qm_fail(fault, QM_E_CLOSED, 0, "the reader of the results went away")
                                  : qm_fail(fault, QM_E_IO, errno, "cannot write the results");
        p += n;
        left -= (size_t)n;
    }
    return QM_OK;
}

static qm_err results_flush(struct results *r, struct qm_out *o, struct qm_fault *fault)
{
    pthread_mutex_lock(&r->lock);
    qm_err err = write_fully(r->fd, o->p, o->len, fault);
    pthread_mutex_unlock(&r->lock);
    o->len = 0;
    return err;
}

/* The directory of a file, synced. */
static qm_err sync_directory_of(const char *path, struct qm_fault *fault)
{
    char dir[PATH_ROOM];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash == NULL)
        snprintf(dir, sizeof dir, ".");
    else
        slash[slash == dir ? 1 : 0] = '\0';
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    qm_err err = fd >= 0 && fsync(fd) == 0 ? QM_OK : qm_fail(fault, QM_E_IO, errno, "cannot sync %s", dir);
    if (fd >= 0)
        close(fd);
    return err;
}

static bool in_room(int n, size_t room)
{
    return n >= 0 && (size_t)n < room;
}

/* Where the results end up when they do not lie in the home: the next run may be called from another directory. */
static qm_err absolute(const char *file, char out[PATH_ROOM], struct qm_fault *fault)
{
    char dir[PATH_ROOM];
    const char *slash = strrchr(file, '/');
    if (!in_room(snprintf(dir, sizeof dir, "%.*s", slash == NULL ? 1 : (int)(slash - file + 1), slash == NULL ? "." : file), sizeof dir))
        return qm_fail(fault, QM_E_LIMIT, 0, "the path of the results is too long");
    char *real = realpath(dir, NULL);
    if (real == NULL)
        return qm_fail(fault, QM_E_IO, errno, "cannot write the results to %s", file);
    int n = snprintf(out, PATH_ROOM, "%s/%s", strcmp(real, "/") == 0 ? "" : real, slash == NULL ? file : slash + 1);
    free(real);
    return in_room(n, PATH_ROOM) ? QM_OK : qm_fail(fault, QM_E_LIMIT, 0, "the path of the results is too long");
}

/* A run that is killed cannot take its part away, nor give it its name, and the next one may be told another FILE: so where the part
 * is stands in the home before it is there. */
static qm_err note_elsewhere(struct results *r, const char *home, const char *run, struct qm_fault *fault)
{
    if (!in_room(snprintf(r->note, sizeof r->note, "%s/results/%s%s", home, run, elsewhere), sizeof r->note))
        return qm_fail(fault, QM_E_LIMIT, 0, "the path of the home is too long");
    if (symlink(r->path, r->note) == 0)
        return sync_directory_of(r->note, fault);
    qm_err err = qm_fail(fault, QM_E_IO, errno, "cannot make %s", r->note);
    r->note[0] = '\0';
    return err;
}

static qm_err results_open(struct results *r, const struct qm_commit_options *o, const char *run, struct qm_fault *fault)
{
    int n;
    struct stat st;
    if (o->results != NULL && strcmp(o->results, "none") == 0)
        return QM_OK;
    if (o->results != NULL && strcmp(o->results, "-") == 0) {
        r->fd = STDOUT_FILENO;
        return QM_OK;
    }
    if (o->results != NULL && stat(o->results, &st) == 0 && !S_ISREG(st.st_mode)) { /* a pipe, a device: what it is, it stays */
        r->fd = open(o->results, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        return r->fd >= 0 ? QM_OK : qm_fail(fault, QM_E_IO, errno, "cannot write the results to %s", o->results);
    }
    qm_err err = QM_OK;
    if (o->results == NULL) {
        n = snprintf(r->path, sizeof r->path, "%s/results/%s.mpk", o->home, run);
        if (in_room(n, sizeof r->path))
            n = snprintf(r->part, sizeof r->part, "%s%s", r->path, unfinished);
    } else {
        err = absolute(o->results, r->path, fault);
        n = err == QM_OK ? snprintf(r->part, sizeof r->part, "%s.%s%s", r->path, run, unfinished) : 0;
    }
    if (err == QM_OK && !in_room(n, sizeof r->part))
        err = qm_fail(fault, QM_E_LIMIT, 0, "the path of the results is too long");
    if (err == QM_OK && o->results != NULL)
        err = note_elsewhere(r, o->home, run, fault);
    if (err != QM_OK)
        return err;
    r->fd = open(r->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    r->ours = r->fd >= 0;
    return r->fd >= 0 ? QM_OK : qm_fail(fault, QM_E_IO, errno, "cannot write the results to %s", r->part);
}

static qm_err write_outcomes(void *arg, struct qm_fault *fault)
{
    const struct writer *w = arg;
    char *room = malloc(BUFFER + QM_RESULT_MAX);
    if (room == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to write the results");
    struct qm_out out = qm_out_init(room, BUFFER + QM_RESULT_MAX);
    struct qm_outcome_cursor at = {NULL, 0};
    qm_err err = QM_OK;
    for (const struct qm_result *x; err == QM_OK && !atomic_load(w->stop) && (x = qm_outcomes_next(w->outcomes, &at)) != NULL;) {
        qm_result_write(&out, x, QM_FORMAT_MSGPACK, false);
        if (out.len >= BUFFER)
            err = results_flush(w->to, &out, fault);
    }
    if (err == QM_OK)
        err = results_flush(w->to, &out, fault);
    free(room);
    return err;
}

/* The end of the results, once every outcome is in. */
static qm_err results_end(struct results *r, const struct qm_run *run, struct qm_fault *fault)
{
    char text[8192];
    struct qm_out out = qm_out_init(text, sizeof text);
    qm_run_write(&out, run, QM_FORMAT_MSGPACK);
    qm_err err = results_flush(r, &out, fault);
    if (err == QM_OK && r->ours && fdatasync(r->fd) != 0)
        err = qm_fail(fault, QM_E_IO, errno, "cannot sync the results in %s", r->part);
    return err;
}

/* Committed: the results get their name. What says where they are goes when that is on the disk. */
static qm_err results_publish(struct results *r, struct qm_fault *fault)
{
    if (!r->ours)
        return QM_OK;
    r->ours = false;
    if (rename(r->part, r->path) != 0)
        return qm_fail(fault, QM_E_IO, errno, "recorded, but cannot name the results %s (the next run does)", r->path);
    if (r->note[0] != '\0' && sync_directory_of(r->path, NULL) == QM_OK)
        unlink(r->note); /* else the next run does */
    return QM_OK;
}

/* dropped: no run will ever want them. */
static void results_close(struct results *r, bool dropped)
{
    if (r->fd >= 0 && r->fd != STDOUT_FILENO)
        close(r->fd);
    if (r->ours)
        unlink(r->part);
    if (dropped && r->note[0] != '\0')
        unlink(r->note);
}

/* ---- what killed runs left ------------------------------------------------------------------------------------------------ */

/* Is this a name of a run with that behind it? */
static bool is_of_run(const char *name, const char *tail, char run[256])
{
    const size_t len = strlen(name), tail_len = strlen(tail);
    if (len <= tail_len || strcmp(name + len - tail_len, tail) != 0)
        return false;
    snprintf(run, 256, "%.*s", (int)(len - tail_len), name);
    return true;
}

static qm_err settle_here(struct qm_store *s, int dir, const char *name, const char *run, struct qm_fault *fault)
{
    char whole[256 + 8];
    bool known;
    qm_err err = qm_store_run_settled(s, run, &known, fault);
    if (err != QM_OK)
        return err;
    snprintf(whole, sizeof whole, "%s.mpk", run);
    if ((known ? renameat(dir, name, dir, whole) : unlinkat(dir, name, 0)) == 0 || errno == ENOENT)
        return QM_OK;
    return qm_fail(fault, QM_E_IO, errno, "cannot settle the results in %s", name);
}

/* The same for results that lie elsewhere. That nobody may write there now is no reason not to run. */
static qm_err settle_elsewhere(struct qm_store *s, int dir, const char *name, const char *run, qm_ingest_report report, void *ctx,
                               struct qm_fault *fault)
{
    char path[PATH_ROOM], part[PATH_ROOM];
    bool known;
    qm_err err = qm_store_run_settled(s, run, &known, fault);
    const ssize_t n = err == QM_OK ? readlinkat(dir, name, path, sizeof path - 1) : 0;
    if (err != QM_OK)
        return err;
    if (n > 0) {
        path[n] = '\0';
        if (!in_room(snprintf(part, sizeof part, "%s.%s%s", path, run, unfinished), sizeof part))
            part[0] = '\0';
        const bool done = (known ? rename(part, path) : unlink(part)) == 0;
        if (done ? known && sync_directory_of(path, NULL) != QM_OK : errno != ENOENT && errno != ENOTDIR) {
            report(ctx, part, errno, known ? "results of a killed run cannot be given their name" : "what a killed run left cannot be removed");
            return QM_OK;
        }
    }
    if (unlinkat(dir, name, 0) != 0 && errno != ENOENT)
        return qm_fail(fault, QM_E_IO, errno, "cannot remove %s from the results", name);
    return QM_OK;
}

qm_err qm_commit_recover(struct qm_store *s, const char *home, qm_ingest_report report, void *ctx, struct qm_fault *fault)
{
    char dir[PATH_ROOM], run[256];
    qm_err err = qm_home_file(dir, sizeof dir, home, "results", fault);
    if (err != QM_OK)
        return err;
    DIR *d = opendir(dir);
    if (d == NULL)
        return qm_fail(fault, QM_E_IO, errno, "cannot open %s", dir);
    for (struct dirent *e; err == QM_OK && (e = readdir(d)) != NULL;) {
        if (is_of_run(e->d_name, ".mpk.part", run))
            err = settle_here(s, dirfd(d), e->d_name, run, fault);
        else if (is_of_run(e->d_name, elsewhere, run))
            err = settle_elsewhere(s, dirfd(d), e->d_name, run, report, ctx, fault);
    }
    closedir(d);
    return err;
}

/* ---- the transaction --------------------------------------------------------------------------------------------------- */

static qm_err keep_events(struct qm_store *s, const struct qm_commit_options *o, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (unsigned i = 0; err == QM_OK && i < o->kept_count; i++)
        err = qm_event_keep_store(o->kept[i], s, fault);
    return err == QM_OK && o->missing != NULL ? qm_store_events_settle(s, o->missing, fault) : err;
}

struct all_results {
    struct results *to;
    struct qm_outcomes *const *outcomes;
    unsigned count;
    const struct qm_run *run;
    _Atomic bool *stop;
};

/* All of the results, synced; encoded by a thread for each arena. */
static qm_err write_results(void *arg, struct qm_fault *fault)
{
    const struct all_results *a = arg;
    struct writer writer[QM_WORKERS_MAX];
    void *each[QM_WORKERS_MAX];
    struct qm_pool *pool;
    for (unsigned i = 0; i < a->count; i++) {
        writer[i] = (struct writer){a->to, a->outcomes[i], a->stop};
        each[i] = &writer[i];
    }
    qm_err err = qm_pool_start(&pool, a->count, write_outcomes, each, a->stop, fault);
    if (err == QM_OK)
        err = qm_pool_join(pool, fault);
    if (err != QM_OK || atomic_load(a->stop))
        return err; /* what the store takes failed: there are none */
    err = results_end(a->to, a->run, fault);
    return err == QM_OK && a->to->ours ? sync_directory_of(a->to->part, fault) : err;
}

/* The results, and beside them what the store still has to take; most of the transaction goes to the store's log meanwhile. */
static qm_err write_and_keep(struct qm_store *s, struct qm_outcomes *const *outcomes, unsigned count, const struct qm_run *run,
                             const struct qm_commit_options *o, struct results *results, struct qm_fault *fault)
{
    _Atomic bool stop = false;
    struct all_results all = {results, outcomes, count, run, &stop};
    void *arg[1] = {&all};
    struct qm_pool *pool;
    if (results->fd < 0)
        return keep_events(s, o, fault);
    qm_err err = qm_pool_start(&pool, 1, write_results, arg, &stop, fault);
    if (err != QM_OK)
        return err;
    err = keep_events(s, o, fault);
    if (err == QM_OK)
        err = qm_store_spill(s, fault);
    if (err != QM_OK)
        atomic_store(&stop, true);
    qm_err written = qm_pool_join(pool, err == QM_OK ? fault : NULL);
    return err != QM_OK ? err : written;
}

/* The run record, and what the run did to the home, in one JSON object. */
static qm_err write_row(struct qm_store *s, const struct qm_judgment *j, const struct qm_run *run, const struct qm_commit_options *c,
                        struct qm_fault *fault)
{
    const char *kind = c->command;
    const struct {
        const char *key;
        uint64_t value;
    } did[] = {{"learned", j->learned}, {"opened", j->opened}, {"repeated", j->repeated}, {"resolved", j->resolved},
               {"unmeasured", j->unmeasured}, {"quarantined", c->quarantined}, {"held", c->held}, {"not_held", c->not_held},
               {"lost", j->dropped + c->forgotten + c->not_held + (c->retention != NULL ? qm_retention_lost(c->retention) : 0)}};
    char text[8192];
    struct qm_out o = qm_out_init(text, sizeof text - 1);
    qm_run_write(&o, run, QM_FORMAT_NDJSON);
    o.len -= o.len >= 2 ? 2 : o.len; /* the newline, and the end of the object, which goes on */
    for (size_t i = 0; i < QM_COUNT(did); i++) {
        qm_out_text(&o, ",\"");
        qm_out_text(&o, did[i].key);
        qm_out_text(&o, "\":");
        qm_out_u64(&o, did[i].value);
    }
    if (c->retention != NULL) {
        qm_out_text(&o, ",\"lost_files\":");
        qm_retention_write(c->retention, &o);
    }
    qm_out_char(&o, '}');
    if (o.full)
        return qm_fail(fault, QM_E_LIMIT, 0, "the run record is too long");
    text[o.len] = '\0';
    /* A clock elsewhere that is ahead is not ours: the next run here is not behind it. */
    const uint64_t latest = c->clock_ms != 0 ? c->clock_ms : UINT64_MAX;
    const struct qm_run_row row = {.id = run->run, .kind = kind, .start_ms = run->start_ms < latest ? run->start_ms : latest,
                                   .end_ms = run->end_ms < latest ? run->end_ms : latest,
                                   .records = run->records, .generation = run->generation, .complete = run->complete, .record = text};
    return qm_store_run_add(s, j->run_no, &row, fault);
}

/* Inside the transaction. */
static qm_err record(struct qm_store *s, struct qm_outcomes *const *outcomes, unsigned count, struct qm_run *run,
                     const struct qm_commit_options *o, struct results *results, struct qm_judgment *out, struct qm_fault *fault)
{
    const struct qm_judge_options judge = {.run = run->run, .start_ms = run->start_ms, .end_ms = run->end_ms,
                                           .clock_ms = o->clock_ms != 0 ? o->clock_ms : run->start_ms,
                                           .generation = run->generation, .source_of = o->source_of, .source_ctx = o->source_ctx};
    qm_err err = qm_judge(s, outcomes, count, &judge, out, fault);
    if (err != QM_OK)
        return err;
    memcpy(run->by_status, out->by_status, sizeof run->by_status);
    memcpy(run->by_reason, out->by_reason, sizeof run->by_reason);
    err = results_open(results, o, run->run, fault);
    if (err == QM_OK)
        err = write_and_keep(s, outcomes, count, run, o, results, fault);
    return err == QM_OK ? write_row(s, out, run, o, fault) : err;
}

qm_err qm_commit_prepare(struct qm_store *s, uint64_t *forgotten, struct qm_fault *fault)
{
    uint64_t ended;
    *forgotten = 0;
    qm_err err = qm_store_begin(s, fault);
    if (err != QM_OK)
        return err;
    err = qm_sets_expire(s, &ended, fault);
    if (err == QM_OK)
        err = qm_store_commit(s, fault);
    if (err != QM_OK)
        qm_store_rollback(s);
    return err == QM_OK ? qm_store_forget(s, forgotten, fault) : err;
}

qm_err qm_commit(struct qm_store *s, struct qm_outcomes *const *outcomes, unsigned count, struct qm_run *run,
                 const struct qm_commit_options *options, struct qm_judgment *out, enum qm_commit_end *end, struct qm_fault *fault)
{
    struct results results = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};
    *end = QM_COMMIT_NOTHING;
    qm_err err = qm_store_begin(s, fault);
    if (err != QM_OK)
        return err;
    err = record(s, outcomes, count, run, options, &results, out, fault);
    if (err == QM_OK && options->ready != NULL)
        err = options->ready(options->ready_ctx, fault);
    if (err == QM_OK) {
        err = qm_store_commit(s, fault);
        *end = err == QM_OK ? QM_COMMIT_DONE : qm_store_unsure(s) ? QM_COMMIT_UNKNOWN : QM_COMMIT_NOTHING;
        results.ours &= *end != QM_COMMIT_UNKNOWN; /* not ours to remove then: the next run settles it */
    }
    if (err != QM_OK)
        qm_store_rollback(s);
    if (err == QM_OK)
        err = results_publish(&results, fault);
    results_close(&results, *end == QM_COMMIT_NOTHING);
    return err;
}
