/* Shared by the files of the spool only. */
#ifndef QM_SPOOL_INSIDE_H
#define QM_SPOOL_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "engine/pool.h"
#include "tools/keyed_hash.h"
#include "tools/spool/spool.h"

#define SPOOL_TAKEN ".taken-"
#define SPOOL_NEW ".new-"   /* in HOME/held: what this run holds, not yet committed */
#define SPOOL_DONE ".done"
#define SPOOL_MAGIC "quotemill spool 1"
enum {
    SPOOL_DEPTH_MAX = 64,
    SPOOL_RUN_MAX = 64,
    SPOOL_OPEN_DIRS = 200, /* directories whose descriptors are kept while files are taken from them */
};

/* Memory for what lives as long as the spool: never moves. NULL without memory. */
struct spool_arena {
    struct spool_chunk *chunk;
};
void *spool_room(struct spool_arena *a, size_t len);
void spool_arena_free(struct spool_arena *a);

struct spool_place {
    const char *path; /* as given */
    int fd;
    int taken; /* .taken-RUN, locked; -1: nothing taken */
    bool held; /* HOME/held */
    uint32_t root; /* in the worklist */
    char archive[4096]; /* absolute; "": removed */
};

/* A directory that files were taken from. */
struct spool_dir {
    uint32_t place;
    uint32_t source_part; /* length of the first path part */
    const char *rel;      /* "": the spool itself */
    int from, to;         /* it, and its mirror in .taken-RUN; -1: opened for each file */
    _Atomic bool shut;    /* nothing can be taken from it: said once */
};

/* A file name that results point to, and what it belongs to. */
struct spool_name {
    uint32_t file;
    char text[];
};

struct spool_file {
    const char *name; /* text of a spool_name */
    const char *base; /* its last part */
    const char *label; /* of its source */
    const char *why;  /* for quarantine; under the lock */
    uid_t uid;        /* as it was found */
    bool taken;       /* this and fresh: by the reader whose turn it is to read the file */
    bool fresh;       /* taken, and nobody looked yet what it is */
    size_t idx;       /* in the worklist */
    uint32_t dir;
    uint32_t source;
    uint32_t next; /* of the same source */
};

struct spool_source {
    const char *label;
    const char *part;
    uint32_t part_len;
    uint32_t place;
    uid_t uid;
    uint32_t first, last; /* files */
};

struct qm_spool {
    char home[4096];
    char run[SPOOL_RUN_MAX];
    int home_fd;
    char archive[4096];
    qm_ingest_report report;
    void *ctx;
    struct spool_place *place; /* the last one is HOME/held */
    size_t place_count;
    struct spool_dir *dir;
    size_t dir_count, dir_cap;
    struct spool_file *file;
    size_t file_count, file_cap;
    struct spool_source *source;
    size_t source_count, source_cap;
    struct qm_hash_key hash_key;
    uint32_t *source_slot; /* open hash of the sources */
    size_t source_slots;
    struct spool_arena arena; /* once the readers run: under the lock */
    const struct qm_worklist *worklist; /* from commit on */
    _Atomic uint64_t other_count;
    _Atomic uint64_t error_count;
    pthread_mutex_t lock; /* what the workers call */
    pthread_mutex_t take_lock; /* for taking files, one at a time */
    int new_fd;           /* HOME/held/.new-RUN; -1: nothing held yet */
    uint64_t held_count, held_bytes, held_again, not_held, not_held_bytes;
    int hold_sys; /* errno of the first that could not be held */
    struct qm_pool *writer; /* writes down and syncs what was taken; NULL: nobody */
    _Atomic bool writer_stop;
    pthread_t forgetter;  /* spool_forget.c */
    bool forgets;
    _Atomic bool forget_stop;
};

/* What becomes of a file that was recorded. */
struct spool_item {
    const char *rel; /* below .taken-RUN */
    const char *name; /* as it was found, for people */
    uint64_t size;   /* as it was read */
    const char *why; /* quarantine; NULL: removed or archived */
};

/* The path of a file below its place. */
static inline const char *spool_rel(const struct spool_place *p, const struct spool_file *f)
{
    const size_t len = strlen(p->path);
    return f->name + len + (p->path[len - 1] != '/');
}

/* Counts and reports. */
void spool_fail(struct qm_spool *sp, const char *name, int sys, const char *what);
void spool_fail_at(struct qm_spool *sp, const struct spool_place *p, const char *rel, const char *base, int sys, const char *what);

/* ---- spool_files.c: single steps on files, each after which a kill leaves nothing lost ---- */

struct spool_names {
    char *text; /* struct spool_entry after struct spool_entry, in entry[] */
    size_t text_len, text_cap;
    struct spool_entry {
        uint64_t ino;
        size_t name; /* offset in text */
        unsigned char type;
    } *entry;
    size_t count, cap;
};
/* All names of the directory but . and .., by inode. errno is kept in *sys where 0 is not QM_OK. */
bool spool_list(int fd, struct spool_names *out, int *sys);
void spool_names_free(struct spool_names *n);
/* Regular file, directory or neither, without following. */
unsigned spool_type(int fd, const char *name, unsigned char d_type);

/* Opens rel below fd, making what is missing with mode. -1 with errno. */
int spool_make_dirs(int fd, const char *rel, mode_t mode);
/* Moves a file to another directory, maybe of another file system: whole there and synced before it is gone here. A file that is
 * there under that name is an earlier try. */
bool spool_move(int from_fd, const char *from, int to_fd, const char *to);
/* Puts a taken file back: to_fd is its old directory (-1: gone or no longer one of the spool; then the spool itself). */
void spool_put_back(struct qm_spool *sp, const struct spool_place *p, const char *rel, int to_fd, int from_fd, const char *base);
/* Everything below .taken-RUN but .done goes back, its directories are removed. */
void spool_back_tree(struct qm_spool *sp, const struct spool_place *p, int taken);

/* ---- spool_write.c ---- */

bool spool_write(int fd, const void *bytes, size_t len);
/* Renames without overwriting, also where the file system cannot do that at once. False with errno; EEXIST: there is one. */
bool spool_rename_new(int from_fd, const char *from, int to_fd, const char *to);

/* ---- spool_finish.c ---- */

/* Disposes of recorded files; those that cannot be, stay. True: none stayed that should be gone. */
bool spool_dispose(struct qm_spool *sp, const struct spool_place *p, int taken, const char *run, size_t place_idx, const char *archive,
                   const struct spool_item *item, size_t count);
/* After that: what is left goes back, .done and the directory are removed. */
void spool_end(struct qm_spool *sp, const struct spool_place *p, int taken, const char *run, bool disposed);

/* ---- spool_commit.c ---- */

/* What works beside the caller from commit on is over. */
void spool_threads_end(struct qm_spool *sp);

/* ---- spool_forget.c ---- */

/* From commit on, in a thread of its own: the page cache lets go of long files that are to be removed, so that removing them is no
 * more than that. Stopped and waited for by end, as far as it has come. */
void spool_forget_begin(struct qm_spool *sp);
void spool_forget_end(struct qm_spool *sp);

/* ---- spool_held.c ---- */

/* The id of a file in HOME/held. */
bool spool_held_id(const char *name, uint8_t id[QM_ID_MAX], size_t *len);
bool spool_held_sync(struct qm_spool *sp);
/* What is new in HOME/held takes its place (keep), or is dropped. */
void spool_held_settle(struct qm_spool *sp, const char *run, bool keep);

#endif
