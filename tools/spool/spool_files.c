/* Single steps of the spool on directories and files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ingest/plain_reader.h"
#include "tools/spool/spool_inside.h"

enum { CHUNK_BYTES = 256 * 1024, LIST_BYTES = 128 * 1024, COPY_BYTES = 256 * 1024 };

struct spool_chunk {
    struct spool_chunk *older;
    size_t len, cap;
    _Alignas(16) char bytes[];
};

void *spool_room(struct spool_arena *a, size_t len)
{
    struct spool_chunk *c = a->chunk;
    len = qm_align_up(len, 8);
    if (c == NULL || c->cap - c->len < len) {
        size_t cap = len > CHUNK_BYTES ? len : CHUNK_BYTES;
        struct spool_chunk *more = malloc(sizeof *more + cap);
        if (more == NULL)
            return NULL;
        *more = (struct spool_chunk){.older = c, .cap = cap};
        a->chunk = c = more;
    }
    void *p = c->bytes + c->len;
    c->len += len;
    return p;
}

void spool_arena_free(struct spool_arena *a)
{
    for (struct spool_chunk *c = a->chunk, *older; c != NULL; c = older) {
        older = c->older;
        free(c);
    }
    a->chunk = NULL;
}

/* ---- names of a directory ---- */

static bool names_add(struct spool_names *n, const struct dirent64 *d)
{
    size_t len = strlen(d->d_name) + 1;
    if (n->count == n->cap) {
        size_t cap = n->cap == 0 ? 256 : 2 * n->cap;
        void *grown = reallocarray(n->entry, cap, sizeof *n->entry);
        if (grown == NULL)
            return false;
        n->entry = grown;
        n->cap = cap;
    }
    if (n->text_cap - n->text_len < len) {
        size_t cap = 2 * n->text_cap + len + 8192;
        char *grown = realloc(n->text, cap);
        if (grown == NULL)
            return false;
        n->text = grown;
        n->text_cap = cap;
    }
    memcpy(n->text + n->text_len, d->d_name, len);
    n->entry[n->count++] = (struct spool_entry){.ino = d->d_ino, .name = n->text_len, .type = d->d_type};
    n->text_len += len;
    return true;
}

static int by_inode(const void *a, const void *b)
{
    const struct spool_entry *x = a, *y = b;
    return (x->ino > y->ino) - (x->ino < y->ino);
}

bool spool_list(int fd, struct spool_names *out, int *sys)
{
    *out = (struct spool_names){0};
    *sys = 0;
    char *buffer = malloc(LIST_BYTES);
    if (buffer == NULL || lseek(fd, 0, SEEK_SET) < 0)
        *sys = buffer == NULL ? ENOMEM : errno;
    while (*sys == 0) {
        ssize_t n = getdents64(fd, buffer, LIST_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            *sys = errno;
        if (n <= 0)
            break;
        for (ssize_t at = 0; at < n && *sys == 0;) {
            const struct dirent64 *d = (const void *)(buffer + at);
            at += d->d_reclen;
            if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && !names_add(out, d))
                *sys = ENOMEM;
        }
    }
    free(buffer);
    if (*sys != 0)
        spool_names_free(out);
    else if (out->count != 0)
        qsort(out->entry, out->count, sizeof *out->entry, by_inode);
    return *sys == 0;
}

void spool_names_free(struct spool_names *n)
{
    free(n->entry);
    free(n->text);
    *n = (struct spool_names){0};
}

unsigned spool_type(int fd, const char *name, unsigned char d_type)
{
    struct stat st;
    if (d_type != DT_UNKNOWN)
        return d_type;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return DT_UNKNOWN;
    return S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_LNK;
}

/* ---- making, writing, moving ---- */

int spool_make_dirs(int fd, const char *rel, mode_t mode)
{
    char part[4096];
    size_t len = strlen(rel);
    if (len >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int opened = qm_open_beneath(fd, len != 0 ? rel : ".", O_RDONLY | O_DIRECTORY);
    if (opened >= 0 || errno != ENOENT)
        return opened;
    for (size_t i = 1; i <= len; i++) {
        if (i != len && rel[i] != '/')
            continue;
        memcpy(part, rel, i);
        part[i] = '\0';
        if (mkdirat(fd, part, mode) != 0 && errno != EEXIST)
            return -1;
    }
    return qm_open_beneath(fd, rel, O_RDONLY | O_DIRECTORY);
}

static bool copy_bytes(int from, int to)
{
    char *buffer = malloc(COPY_BYTES);
    bool good = buffer != NULL;
    if (!good)
        errno = ENOMEM;
    while (good) {
        ssize_t n = read(from, buffer, COPY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            good = n == 0;
            break;
        }
        good = spool_write(to, buffer, (size_t)n);
    }
    int sys = errno;
    free(buffer);
    errno = sys;
    return good;
}

/* Under a name that nobody takes for the file until it is whole. */
static bool copy_across(int from_fd, const char *from, int to_fd, const char *to)
{
    char part[300];
    snprintf(part, sizeof part, ".part-%.200s", to);
    int in = qm_open_beneath(from_fd, from, O_RDONLY);
    if (in < 0)
        return false;
    int out = openat(to_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool good = out >= 0 && copy_bytes(in, out) && fsync(out) == 0;
    int sys = errno;
    close(in);
    if (out >= 0)
        close(out);
    good = good && renameat(to_fd, part, to_fd, to) == 0 && fsync(to_fd) == 0;
    if (!good) {
        sys = sys != 0 ? sys : errno;
        (void)unlinkat(to_fd, part, 0);
        errno = sys;
    }
    return good;
}

bool spool_move(int from_fd, const char *from, int to_fd, const char *to)
{
    if (renameat(from_fd, from, to_fd, to) == 0)
        return true;
    if (errno != EXDEV)
        return false;
    errno = 0;
    return copy_across(from_fd, from, to_fd, to) && unlinkat(from_fd, from, 0) == 0;
}

/* ---- back into the spool ---- */

/* Where the old name is taken by a newer file: one like it. */
static bool back_beside(struct qm_spool *sp, int from_fd, const char *base, int to_fd)
{
    char name[256];
    size_t stem = strlen(base);
    stem = stem >= 4 && strcmp(base + stem - 4, ".mpk") == 0 ? stem - 4 : stem;
    stem = stem < 180 ? stem : 180;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "%.*s.%.32s-%u.mpk", (int)stem, base, sp->run, i);
        if (spool_rename_new(from_fd, base, to_fd, name))
            return true;
        if (errno != EEXIST)
            return false;
    }
    return false;
}

void spool_put_back(struct qm_spool *sp, const struct spool_place *p, const char *rel, int to_fd, int from_fd, const char *base)
{
    bool back = to_fd >= 0 && spool_rename_new(from_fd, base, to_fd, base);
    if (!back && to_fd >= 0 && errno == EEXIST)
        /* Of what is held the newest counts. */
        back = p->held ? unlinkat(from_fd, base, 0) == 0 : back_beside(sp, from_fd, base, to_fd);
    /* The directory is gone, or removed but for our descriptor. */
    if (!back && (to_fd < 0 || errno == ENOENT))
        back = spool_rename_new(from_fd, base, p->fd, base) || (errno == EEXIST && back_beside(sp, from_fd, base, p->fd));
    if (!back)
        spool_fail_at(sp, p, rel, base, errno, "cannot be put back into the spool; the next run tries again");
}

static void back_dir(struct qm_spool *sp, const struct spool_place *p, int from_fd, const char *rel, unsigned depth)
{
    struct spool_names names;
    int sys;
    if (!spool_list(from_fd, &names, &sys)) {
        spool_fail_at(sp, p, rel, "", sys, "cannot list what was taken from it");
        return;
    }
    int to_fd = names.count != 0 ? qm_open_beneath(p->fd, rel[0] != '\0' ? rel : ".", O_RDONLY | O_DIRECTORY) : -1;
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.text + names.entry[i].name;
        if (spool_type(from_fd, name, names.entry[i].type) != DT_DIR) {
            if (rel[0] != '\0' || strcmp(name, SPOOL_DONE) != 0)
                spool_put_back(sp, p, rel, to_fd, from_fd, name);
            continue;
        }
        char below[4096];
        int n = snprintf(below, sizeof below, "%s%s%s", rel, rel[0] != '\0' ? "/" : "", name);
        int fd = n < (int)sizeof below && depth < SPOOL_DEPTH_MAX
                     ? openat(from_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (fd < 0) {
            spool_fail_at(sp, p, rel, name, errno, "cannot open what was taken from it");
            continue;
        }
        back_dir(sp, p, fd, below, depth + 1);
        close(fd);
        if (unlinkat(from_fd, name, AT_REMOVEDIR) != 0 && errno != ENOTEMPTY)
            spool_fail_at(sp, p, rel, name, errno, "cannot remove the directory of what was taken");
    }
    if (to_fd >= 0)
        close(to_fd);
    spool_names_free(&names);
}

void spool_back_tree(struct qm_spool *sp, const struct spool_place *p, int taken)
{
    back_dir(sp, p, taken, "", 0);
}
