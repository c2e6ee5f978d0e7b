#include "tools/collect/state_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codec/emit.h"
#include "tools/json_read.h"
#include "tools/line_read.h"
#include "tools/spool/spool.h"
#include "tools/whole_file.h"

/* Two calls that meet wait for each other a little, since most take less than that. */
enum { STATE_FILE_MAX = 256 * 1024, PATH_ROOM = 4096, LOCK_TRIES = 40, LOCK_PAUSE_MS = 50 };

static qm_err path_of(char to[PATH_ROOM], const char *dir, const char *name, struct qm_fault *fault)
{
    if (snprintf(to, PATH_ROOM, "%s/%s", dir, name) >= PATH_ROOM)
        return qm_fail(fault, QM_E_USAGE, 0, "the name of the state directory is too long");
    return QM_OK;
}

uint64_t qm_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

qm_err qm_state_open(const char *dir, bool make, int *lock, struct qm_fault *fault)
{
    struct stat st;
    char path[PATH_ROOM];
    *lock = -1;
    qm_err err = path_of(path, dir, "lock", fault);
    if (err != QM_OK)
        return err;
    if (make && mkdir(dir, 0700) != 0 && errno != EEXIST)
        return qm_fail(fault, QM_E_IO, errno, "cannot make the state directory %.200s", dir);
    if (stat(dir, &st) != 0)
        return qm_fail(fault, QM_E_IO, errno, "the state directory %.200s%s", dir,
                       errno == ENOENT ? " (quotemill-collect init makes it)" : "");
    if (!S_ISDIR(st.st_mode) || (st.st_mode & 077) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "the state directory %.200s is open to others (mode %o): chmod 700", dir,
                       st.st_mode & 07777);
    if (st.st_uid != geteuid())
        return qm_fail(fault, QM_E_REFUSED, 0, "the state directory %.200s is another user's (uid %u): run as that user", dir,
                       st.st_uid);
    *lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*lock < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot open %.200s", path);
    int sys = 0;
    for (unsigned i = 0; i < LOCK_TRIES; i++) {
        if (flock(*lock, LOCK_EX | LOCK_NB) == 0)
            return QM_OK;
        sys = errno;
        if (sys != EWOULDBLOCK)
            break;
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_MS * 1000000L}, NULL);
    }
    close(*lock);
    *lock = -1;
    if (sys == EWOULDBLOCK)
        return qm_fail(fault, QM_E_BUSY, 0, "another quotemill-collect works with %.200s", dir);
    return qm_fail(fault, QM_E_IO, sys, "cannot lock %.200s", path);
}

/* ---- files ------------------------------------------------------------------------------------------------------------- */

qm_err qm_state_read(const char *dir, const char *name, char **bytes, size_t *len, bool *there, struct qm_fault *fault)
{
    char path[PATH_ROOM];
    qm_err err = path_of(path, dir, name, fault);
    if (err != QM_OK)
        return err;
    *there = access(path, F_OK) == 0 || errno != ENOENT;
    return *there ? qm_file_read(path, STATE_FILE_MAX, bytes, len, fault) : QM_OK;
}

qm_err qm_state_write(const char *dir, const char *name, struct qm_span bytes, struct qm_fault *fault)
{
    char path[PATH_ROOM];
    struct qm_whole_file w;
    qm_err err = path_of(path, dir, name, fault);
    if (err == QM_OK)
        err = qm_whole_open(&w, path, 0600, fault);
    if (err != QM_OK)
        return err;
    for (size_t at = 0; err == QM_OK && at < bytes.len;) {
        const ssize_t n = write(w.fd, bytes.p + at, bytes.len - at);
        if (n < 0 && errno != EINTR)
            err = qm_fail(fault, QM_E_IO, errno, "cannot write %.300s", path);
        at += n > 0 ? (size_t)n : 0;
    }
    if (err == QM_OK)
        err = qm_whole_finish(&w, fault);
    qm_whole_close(&w);
    return err;
}

void qm_state_remove(const char *dir, const char *name)
{
    char path[PATH_ROOM];
    struct qm_fault ignored;
    if (path_of(path, dir, name, &ignored) == QM_OK)
        (void)unlink(path);
}

static qm_err take_delivery(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct qm_delivery *d = user;
    (void)fault;
    if (qm_json_key_is(item, "at") && item->kind == QM_JSON_INT && item->number > 0)
        d->at_ms = (uint64_t)item->number;
    if (qm_json_key_is(item, "to") && item->kind == QM_JSON_TEXT && item->text.len < sizeof d->to) {
        memcpy(d->to, item->text.p, item->text.len);
        d->to[item->text.len] = '\0';
    }
    return QM_OK;
}

qm_err qm_delivery_read(const char *dir, struct qm_delivery *out, bool *there, struct qm_fault *fault)
{
    struct qm_json *json = NULL;
    char *bytes;
    size_t len;
    *out = (struct qm_delivery){0};
    qm_err err = qm_state_read(dir, "delivery.json", &bytes, &len, there, fault);
    if (err != QM_OK || !*there)
        return err;
    err = qm_json_open(&json, fault);
    if (err == QM_OK)
        err = qm_json_each(json, QM_JSON_OBJECT, bytes, len, take_delivery, out, fault);
    qm_json_close(json);
    free(bytes);
    return err;
}

qm_err qm_delivery_write(const char *dir, const char *to, struct qm_fault *fault)
{
    char line[8192], *whole = strcmp(to, QM_DELIVERY_STDOUT) != 0 ? realpath(to, NULL) : NULL;
    to = whole != NULL ? whole : to;
    struct qm_out o = qm_out_init(line, sizeof line);
    struct qm_emit e = qm_emit_init(&o, true);
    qm_emit_map(&e);
    qm_emit_key(&e, "v");
    qm_emit_u64(&e, 1);
    qm_emit_key(&e, "at");
    qm_emit_u64(&e, qm_now_ms());
    qm_emit_key(&e, "to");
    qm_emit_text(&e, (struct qm_span){(const uint8_t *)to, strnlen(to, 1000)});
    free(whole);
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    return qm_state_write(dir, "delivery.json", (struct qm_span){(const uint8_t *)line, o.len}, fault);
}

/* ---- the queue --------------------------------------------------------------------------------------------------------- */

struct waiting {
    struct entry {
        char name[QM_SPOOL_NAME_MAX];
        uint64_t bytes;
    } * entry;
    size_t count, cap;
    int fd; /* of the queue; -1: there is none */
};

/* By when they were made: that stands behind the id in the name, which is the same for all, milliseconds of 13 digits. */
static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static bool is_record(const char *name)
{
    const size_t len = strlen(name);
    return name[0] != '.' && len >= 4 && len < QM_SPOOL_NAME_MAX && strcmp(name + len - 4, ".mpk") == 0;
}

static void waiting_close(struct waiting *w)
{
    free(w->entry);
    if (w->fd >= 0)
        close(w->fd);
    *w = (struct waiting){.fd = -1};
}

static bool waiting_add(struct waiting *w, const char *name, uint64_t bytes)
{
    if (w->count == w->cap) {
        const size_t cap = w->cap != 0 ? 2 * w->cap : 64;
        struct entry *more = reallocarray(w->entry, cap, sizeof *more);
        if (more == NULL)
            return false;
        w->entry = more;
        w->cap = cap;
    }
    struct entry *e = &w->entry[w->count++];
    snprintf(e->name, sizeof e->name, "%s", name);
    e->bytes = bytes;
    return true;
}

/* Oldest first. What a process that was killed left half written (a hidden name) is removed: the lock is ours. */
static qm_err waiting_open(struct waiting *w, const char *dir, bool make, bool clean, char path[PATH_ROOM],
                           struct qm_fault *fault)
{
    *w = (struct waiting){.fd = -1};
    qm_err err = path_of(path, dir, "queue", fault);
    if (err != QM_OK)
        return err;
    if (make && mkdir(path, 0700) != 0 && errno != EEXIST)
        return qm_fail(fault, QM_E_IO, errno, "cannot make %.200s", path);
    w->fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (w->fd < 0)
        return !make && errno == ENOENT ? QM_OK : qm_fail(fault, QM_E_IO, errno, "cannot open %.200s", path);
    const int again = dup(w->fd);
    DIR *d = again >= 0 ? fdopendir(again) : NULL;
    if (d == NULL) {
        err = qm_fail(fault, QM_E_IO, errno, "cannot list %.200s", path);
        if (again >= 0)
            close(again);
        waiting_close(w);
        return err;
    }
    for (struct dirent *e; err == QM_OK && (e = readdir(d)) != NULL;) {
        struct stat st;
        if (fstatat(w->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
            continue;
        if (is_record(e->d_name) && !waiting_add(w, e->d_name, (uint64_t)st.st_size))
            err = qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
        if (e->d_name[0] == '.' && clean)
            (void)unlinkat(w->fd, e->d_name, 0);
    }
    closedir(d);
    if (err != QM_OK)
        waiting_close(w);
    else if (w->count != 0)
        qsort(w->entry, w->count, sizeof *w->entry, by_name);
    return err;
}

static void count_up(const struct waiting *w, struct qm_queue *out)
{
    out->files = w->count;
    out->bytes = 0;
    for (size_t i = 0; i < w->count; i++)
        out->bytes += w->entry[i].bytes;
}

qm_err qm_queue_look(const char *dir, struct qm_queue *out, struct qm_fault *fault)
{
    char path[PATH_ROOM];
    struct waiting w;
    *out = (struct qm_queue){0};
    qm_err err = waiting_open(&w, dir, false, false, path, fault);
    if (err == QM_OK)
        count_up(&w, out);
    waiting_close(&w);
    return err;
}

qm_err qm_queue_deliver(const char *dir, const char *spool, struct qm_span id, uint64_t *delivered, uint64_t *lost,
                        struct qm_fault *fault)
{
    char queue[PATH_ROOM], path[PATH_ROOM], name[QM_SPOOL_NAME_MAX];
    struct waiting w;
    *delivered = *lost = 0;
    qm_err err = waiting_open(&w, dir, false, true, queue, fault);
    for (size_t i = 0; err == QM_OK && i < w.count; i++) {
        char *bytes = NULL;
        size_t len;
        err = path_of(path, queue, w.entry[i].name, fault);
        if (err == QM_OK && qm_file_read(path, QM_RECORD_MAX, &bytes, &len, fault) != QM_OK)
            ++*lost; /* what cannot be read must not keep back all that is behind it */
        else if (err == QM_OK)
            err = qm_spool_deliver(spool, id, (struct qm_span){(const uint8_t *)bytes, len}, name, fault);
        *delivered += err == QM_OK && bytes != NULL;
        free(bytes);
        if (err == QM_OK && unlinkat(w.fd, w.entry[i].name, 0) != 0)
            err = qm_fail(fault, QM_E_IO, errno, "cannot remove what was delivered from the queue");
    }
    waiting_close(&w);
    return err;
}

qm_err qm_queue_add(const char *dir, struct qm_span id, struct qm_span record, const struct qm_queue_limits *limits,
                    struct qm_queue *out, struct qm_fault *fault)
{
    char path[PATH_ROOM], name[QM_SPOOL_NAME_MAX];
    struct waiting w;
    *out = (struct qm_queue){0};
    if (limits->files == 0 || record.len > limits->bytes)
        return qm_fail(fault, QM_E_LIMIT, 0, "the queue takes no record of %zu bytes", record.len);
    qm_err err = waiting_open(&w, dir, true, true, path, fault);
    if (err != QM_OK)
        return err;
    count_up(&w, out);
    err = qm_spool_deliver(path, id, record, name, fault);
    /* Only now: what waits is not given up for one that then cannot be written. */
    for (size_t i = 0; err == QM_OK && (out->files >= limits->files || out->bytes > limits->bytes - record.len); i++) {
        if (unlinkat(w.fd, w.entry[i].name, 0) != 0)
            err = qm_fail(fault, QM_E_IO, errno, "cannot make room in the queue");
        out->files--;
        out->bytes -= w.entry[i].bytes;
        out->dropped++;
    }
    out->files++;
    out->bytes += record.len;
    waiting_close(&w);
    return err;
}
