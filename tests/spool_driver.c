/* A run in small over the spool, for fault_test.py: spool_driver HOME RUN ARCHIVE SPOOL...
 *
 * Records are lines of text. "Recorded" is a file HOME/tx/RUN with all lines that were read; its rename is the transaction. A file
 * with "bad" in its name goes to quarantine, a line "unknown ID" is held; what is held is delivered for ids that HOME/known has.
 * ARCHIVE "-": none. Exit 0, or 3 after lines on stderr. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/spool/spool.h"

enum { LINES_MAX = 1 << 20 };

static const char *home;
static char lines[LINES_MAX];
static size_t line_bytes;

static void report(void *ctx, const char *name, int sys, const char *what)
{
    (void)ctx;
    fprintf(stderr, "%s: %s: %s\n", name, what, sys != 0 ? strerrordesc_np(sys) : "");
}

static const char *at(const char *part, const char *name)
{
    static char path[4][4096];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s%s", home, part, name);
    return p;
}

static qm_err committed(void *ctx, const char *run, bool *yes, struct qm_fault *fault)
{
    (void)ctx, (void)fault;
    *yes = access(at("tx/", run), F_OK) == 0;
    return QM_OK;
}

static void undone(void *ctx, const char *run)
{
    (void)ctx;
    (void)unlink(at("tmp-", run));
}

static bool known(void *ctx, struct qm_span id)
{
    char name[QM_ID_MAX + 1];
    (void)ctx;
    snprintf(name, sizeof name, "%.*s", (int)id.len, (const char *)id.p);
    return access(at("known/", name), F_OK) == 0;
}

static void take_piece(struct qm_spool *sp, const struct qm_piece *p)
{
    if (strstr(strrchr(p->source->name, '/'), "bad") != NULL)
        qm_spool_quarantine(sp, p->source->name, "not liked");
    if (p->broken) /* it stays, so nothing of it counts */
        return;
    if (p->len > sizeof lines - line_bytes)
        abort();
    memcpy(lines + line_bytes, p->bytes, p->len);
    line_bytes += p->len;
    if (p->len > 8 && memcmp(p->bytes, "unknown ", 8) == 0)
        qm_spool_hold(sp, (struct qm_span){p->bytes + 8, p->len - 9}, (struct qm_span){(const uint8_t *)"evidence\n", 9});
}

static qm_err read_all(struct qm_spool *sp, struct qm_worklist *w, struct qm_fault *fault)
{
    struct qm_reader *r;
    struct qm_batch b = {.piece_count = 1};
    qm_err err = qm_reader_open(&r, w, QM_IO_READ, fault);
    while (err == QM_OK && b.piece_count != 0) {
        err = qm_reader_next(r, &b, NULL, fault);
        for (size_t i = 0; err == QM_OK && i < b.piece_count; i++)
            take_piece(sp, &b.piece[i]);
        if (err == QM_OK && b.window)
            qm_reader_settle(r, b.piece[0].len, 1, false);
    }
    qm_reader_close(r);
    return err;
}

/* 1 committed, 0 not, -1 nobody can say. */
static int transaction(const char *run)
{
    int fd = open(at("tmp-", run), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good = fd >= 0;
    for (size_t done = 0; good && done < line_bytes;) {
        ssize_t n = write(fd, lines + done, line_bytes - done);
        good = n > 0 || (n < 0 && errno == EINTR);
        done += n > 0 ? (size_t)n : 0;
    }
    good = good && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    if (!good || rename(at("tmp-", run), at("tx/", run)) != 0)
        return 0;
    fd = open(at("tx", ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good ? 1 : -1;
}

int main(int argc, char **argv)
{
    struct qm_spool *sp = NULL;
    struct qm_worklist *w = NULL;
    struct qm_fault fault = {0};
    if (argc < 5)
        return 2;
    home = argv[1];
    const char *run = argv[2];
    qm_err err = qm_spool_open(&sp, home, run, report, NULL, &fault);
    for (int i = 4; i < argc && err == QM_OK; i++)
        err = qm_spool_add(sp, argv[i], &fault);
    if (err == QM_OK && strcmp(argv[3], "-") != 0)
        err = qm_spool_archive(sp, argv[3], &fault);
    if (err == QM_OK)
        err = qm_spool_recover(sp, &(struct qm_spool_past){committed, undone, NULL}, &fault);
    if (err == QM_OK)
        err = qm_worklist_open(&w, report, NULL, &fault);
    if (err == QM_OK) {
        err = qm_spool_take(sp, w, known, NULL, &fault);
        if (err == QM_OK)
            err = read_all(sp, w, &fault);
        if (err == QM_OK)
            err = qm_spool_commit(sp, w, &fault);
        if (err == QM_OK)
            err = qm_spool_synced(sp, &fault);
        int done = err == QM_OK ? transaction(run) : 0;
        if (done == 1)
            qm_spool_finish(sp);
        else if (done == 0)
            qm_spool_abandon(sp);
        if (done != 1 && err == QM_OK)
            err = qm_fail(&fault, QM_E_IO, 0, "the transaction failed");
    }
    bool failed = err != QM_OK || qm_spool_errors(sp) != 0 || (w != NULL && qm_worklist_errors(w) != 0);
    if (err != QM_OK)
        fprintf(stderr, "%s\n", fault.text);
    qm_worklist_close(w);
    qm_spool_close(sp);
    return failed ? 3 : 0;
}
