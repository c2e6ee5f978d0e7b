/* What runs left behind that did not come to their end. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "tools/spool/spool_inside.h"

/* .done is a row of texts, each with its NUL: magic, number of the spool in its run, archive or "", then for each file its path
 * below .taken-RUN, size, the name it was found under, and why it goes to quarantine or "". Written by spool_commit.c. */
struct done {
    char *bytes;
    size_t len, at;
    struct spool_item *item;
    size_t count, cap;
    const char *archive;
    uint64_t place_idx;
};

static bool next_text(struct done *d, const char **text)
{
    const char *nul = memchr(d->bytes + d->at, '\0', d->len - d->at);
    if (nul == NULL)
        return false;
    *text = d->bytes + d->at;
    d->at = (size_t)(nul - d->bytes) + 1;
    return true;
}

static bool next_number(struct done *d, uint64_t *v)
{
    const char *text;
    char *end;
    if (!next_text(d, &text))
        return false;
    errno = 0;
    *v = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

static bool parse(struct done *d)
{
    const char *magic;
    if (!next_text(d, &magic) || strcmp(magic, SPOOL_MAGIC) != 0 || !next_number(d, &d->place_idx) || !next_text(d, &d->archive))
        return false;
    while (d->at < d->len) {
        struct spool_item i;
        if (!next_text(d, &i.rel) || !next_number(d, &i.size) || !next_text(d, &i.name) || !next_text(d, &i.why))
            return false;
        if (i.why[0] == '\0')
            i.why = NULL;
        if (d->count == d->cap) {
            size_t cap = d->cap == 0 ? 256 : 2 * d->cap;
            void *grown = reallocarray(d->item, cap, sizeof i);
            if (grown == NULL)
                return false;
            d->item = grown;
            d->cap = cap;
        }
        d->item[d->count++] = i;
    }
    return true;
}

/* False where there is one and it cannot be had. */
static bool read_done(int taken, struct done *d, bool *there)
{
    struct stat st;
    *d = (struct done){.archive = ""};
    int fd = openat(taken, SPOOL_DONE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    *there = fd >= 0;
    if (fd < 0)
        return errno == ENOENT;
    bool good = fstat(fd, &st) == 0 && (d->bytes = malloc((size_t)st.st_size + 1)) != NULL;
    while (good && d->len < (size_t)st.st_size) {
        ssize_t n = read(fd, d->bytes + d->len, (size_t)st.st_size - d->len);
        if (n < 0 && errno == EINTR)
            continue;
        good = n > 0;
        d->len += good ? (size_t)n : 0;
    }
    close(fd);
    return good && parse(d);
}

static void finish_past(struct qm_spool *sp, const struct spool_place *p, int taken, const char *run)
{
    struct done d;
    bool there;
    if (!read_done(taken, &d, &there))
        spool_fail_at(sp, p, SPOOL_TAKEN, run, 0, "was recorded, but its list of files cannot be read: left as it is");
    else
        spool_end(sp, p, taken, run,
                  !there || spool_dispose(sp, p, taken, run, (size_t)d.place_idx, d.archive, d.item, d.count));
    free(d.item);
    free(d.bytes);
}

static bool is_run(const char *run)
{
    size_t len = strlen(run);
    return len != 0 && len < SPOOL_RUN_MAX && strspn(run, "0123456789abcdefABCDEFTZ-") == len;
}

static qm_err recover_one(struct qm_spool *sp, const struct spool_place *p, const char *name, const struct qm_spool_past *past,
                          struct qm_fault *fault)
{
    const char *run = name + strlen(SPOOL_TAKEN);
    struct stat st;
    int taken = openat(p->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (taken < 0 || fstat(taken, &st) != 0) {
        spool_fail_at(sp, p, "", name, errno, "cannot be opened");
    } else if (!is_run(run) || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        spool_fail_at(sp, p, "", name, 0, "is no directory of ours: left as it is");
    } else if (flock(taken, LOCK_EX | LOCK_NB) != 0) {
        spool_fail_at(sp, p, "", name, 0, "is in use by another run: left as it is");
    } else {
        bool committed = false;
        qm_err err = past->committed(past->ctx, run, &committed, fault);
        if (err != QM_OK) {
            close(taken);
            return err;
        }
        if (committed)
            finish_past(sp, p, taken, run);
        else
            spool_end(sp, p, taken, run, true);
        if (!committed && past->undone != NULL)
            past->undone(past->ctx, run);
    }
    if (taken >= 0)
        close(taken);
    return QM_OK;
}

static qm_err recover_held(struct qm_spool *sp, const char *name, const struct qm_spool_past *past, struct qm_fault *fault)
{
    const char *run = name + strlen(SPOOL_NEW);
    bool committed = false;
    if (!is_run(run))
        return QM_OK;
    qm_err err = past->committed(past->ctx, run, &committed, fault);
    if (err == QM_OK)
        spool_held_settle(sp, run, committed);
    return err;
}

qm_err qm_spool_recover(struct qm_spool *sp, const struct qm_spool_past *past, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; i < sp->place_count && err == QM_OK; i++) {
        const struct spool_place *p = &sp->place[i];
        struct spool_names names;
        int sys;
        if (!spool_list(p->fd, &names, &sys)) {
            spool_fail_at(sp, p, "", "", sys, "cannot list the spool");
            continue;
        }
        for (size_t n = 0; n < names.count && err == QM_OK; n++) {
            const char *name = names.text + names.entry[n].name;
            if (spool_type(p->fd, name, names.entry[n].type) != DT_DIR)
                continue;
            if (strncmp(name, SPOOL_TAKEN, strlen(SPOOL_TAKEN)) == 0)
                err = recover_one(sp, p, name, past, fault);
            else if (p->held && strncmp(name, SPOOL_NEW, strlen(SPOOL_NEW)) == 0)
                err = recover_held(sp, name, past, fault);
        }
        spool_names_free(&names);
    }
    return err;
}
