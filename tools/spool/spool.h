/* The spool of a run: takes the files that senders left, and lets go of them when what they said is recorded (LIFECYCLE, "Spool
 * and home"). Killed at any instruction: no record lost, none counted twice.
 *
 *   SPOOL/a/b.mpk  --read-->  SPOOL/.taken-RUN/a/b.mpk  --finish-->  removed, or ARCHIVE/RUN/a/b.mpk, or HOME/quarantine
 *                                                       --abandon->  SPOOL/a/b.mpk, never over a newer file of that name
 *
 * A file is taken by a rename within its spool, just before it is opened, so what is read and removed later is the one file that was taken, whatever
 * becomes of its old name or of the directories above it. The directory is ours alone (0700), held by a flock while a run works.
 * Before the transaction, commit writes SPOOL/.taken-RUN/.done: which files were recorded, how long they were, what becomes of
 * them; synced. So the next run knows what to do with a .taken-RUN that it finds: is the transaction of RUN committed, the files
 * in .done are disposed of, unread, and the rest goes back; if not, everything goes back.
 *
 * A file that has grown since it was read goes back too and is read again: its records are duplicates then, but nothing is lost.
 *
 * HOME/held keeps the evidence of unknown instances, a file for an id (its name is the id in base64url), and is taken like a spool.
 *
 *   open, add..., recover, take, [the readers], commit, synced, [the transaction's end], finish or abandon, close
 *
 * Nothing follows a symbolic link below a spool. Failures of single files are reported, counted (qm_spool_errors) and leave the
 * file for the next run. */
#ifndef QM_SPOOL_H
#define QM_SPOOL_H

#include "ingest/ingest.h"

struct qm_spool;

/* run: the run's id. report: as for a worklist; may be called from any thread. */
qm_err qm_spool_open(struct qm_spool **out, const char *home, const char *run, qm_ingest_report report, void *ctx,
                     struct qm_fault *fault) QM_MUST_USE;
/* A spool directory; NULL: HOME/spool. QM_E_USAGE for what must not be one: a symbolic link, the home itself or what lies in it
 * (but for HOME/spool), whatever contains the home, so / too. Given twice it is taken once. */
qm_err qm_spool_add(struct qm_spool *sp, const char *path, struct qm_fault *fault) QM_MUST_USE;
/* What was recorded is kept in dir/RUN instead of being removed. dir is made if it is not there; QM_E_USAGE inside a spool. */
qm_err qm_spool_archive(struct qm_spool *sp, const char *dir, struct qm_fault *fault) QM_MUST_USE;

/* What earlier runs left behind. committed says whether the store has the run; undone is called for a run that it has not, once
 * all its files are back (more than once where it had several spools). A directory that another process holds is left alone. */
struct qm_spool_past {
    qm_err (*committed)(void *ctx, const char *run, bool *committed, struct qm_fault *fault);
    void (*undone)(void *ctx, const char *run); /* may be NULL */
    void *ctx;
};
qm_err qm_spool_recover(struct qm_spool *sp, const struct qm_spool_past *past, struct qm_fault *fault) QM_MUST_USE;

/* Finds the *.mpk of all spools and puts them into w so that sources take turns; of what is held, the evidence of those ids that
 * known says yes to (NULL: none). The readers take each file when it is its turn. In the results a file has the name it was found
 * under. */
qm_err qm_spool_take(struct qm_spool *sp, struct qm_worklist *w, bool (*known)(void *ctx, struct qm_span id), void *ctx,
                     struct qm_fault *fault) QM_MUST_USE;
uint64_t qm_spool_files(const struct qm_spool *sp);  /* found */
uint64_t qm_spool_others(const struct qm_spool *sp); /* names in the spools that are no *.mpk file, nor going to be one: left there */
uint64_t qm_spool_errors(const struct qm_spool *sp); /* reported so far */

/* Where a file came from: first path part below its spool and the file's owner, as text for people: "rack7 (uid 1001)". name is
 * the very pointer that qm_source.name and a result's source have. From any thread, O(1). */
const char *qm_spool_source(const struct qm_spool *sp, const char *name);

/* The file goes to quarantine when its records are recorded. why is static text. name as above. From any thread. */
void qm_spool_quarantine(struct qm_spool *sp, const char *name, const char *why);
/* Keeps the record of an unknown instance for a later run, in place of an older one, which costs a file: a run does so QM_HELD_AGAIN_MAX
 * times, or one file of small records that name one id is a day's work. From any thread. What is beyond the bounds of a run is counted in
 * qm_spool_not_held; when it cannot be written, commit fails. */
void qm_spool_hold(struct qm_spool *sp, struct qm_span id, struct qm_span record);
uint64_t qm_spool_quarantined(const struct qm_spool *sp); /* files that are to go there */
uint64_t qm_spool_held(const struct qm_spool *sp); /* ids of this run */
uint64_t qm_spool_not_held(const struct qm_spool *sp, uint64_t *bytes);

/* When the readers are closed: files that were not read or could not be are back in their spools, and a thread begins to write down
 * everything else. */
qm_err qm_spool_commit(struct qm_spool *sp, const struct qm_worklist *w, struct qm_fault *fault) QM_MUST_USE;
/* Before the transaction ends: what commit began is written and synced. After an error of either: abandon. After a transaction of
 * which nobody can say whether it was committed: close, so that the next run's recovery looks. */
qm_err qm_spool_synced(struct qm_spool *sp, struct qm_fault *fault) QM_MUST_USE;
/* Was this file read whole, so that its results stand? What was not goes back and is read again. name as for qm_spool_source. */
bool qm_spool_recorded(const struct qm_spool *sp, const struct qm_worklist *w, const char *name);
/* After the transaction. What cannot be done now is reported and left for the next run's recovery. */
void qm_spool_finish(struct qm_spool *sp);
/* Nothing was recorded: every file goes back. */
void qm_spool_abandon(struct qm_spool *sp);
/* Touches no file: what is taken stays taken, for the next run's recovery. */
void qm_spool_close(struct qm_spool *sp);

/* ---- the sender's side ---- */

enum { QM_SPOOL_NAME_MAX = 128 };

/* Delivers a record into dir, whole or not at all: a hidden file, synced, renamed to a new name that begins with what of the id is
 * fit for one, and the directory synced. name gets it. */
qm_err qm_spool_deliver(const char *dir, struct qm_span id, struct qm_span record, char name[QM_SPOOL_NAME_MAX],
                        struct qm_fault *fault) QM_MUST_USE;
/* A hidden name as deliveries make it, or the temporary one of another program that ends likewise. */
bool qm_spool_is_part(const char *name);
enum { QM_SPOOL_PART_OLD_S = 3600 }; /* then nobody finishes it any more */
/* Removes what deliveries of this user and this id were killed in: their hidden files, when they are old. Looks at a bounded number of names;
 * gives how many went. What it cannot look at is for the delivery to say. */
uint64_t qm_spool_sweep(const char *dir, struct qm_span id);

/* ---- bounded directories ---- */

enum qm_trim_kind {
    QM_TRIM_QUARANTINE, /* files with a .reason beside; age: since they were put there */
    QM_TRIM_HELD,       /* age: since they were written */
    QM_TRIM_ARCHIVE,    /* a directory for each run */
    QM_TRIM_RESULTS,
};
enum {
    QM_HELD_MAX = 65536,     /* files in HOME/held, and new ones in a run */
    QM_HELD_AGAIN_MAX = 1024 /* times that a run keeps a record in place of one that it kept before */
};

/* What must go so that nothing in dir is older than keep_ms (0: no limit) and all of it is not longer than max_bytes (0: no
 * limit), oldest first. Plan before the transaction, so that the run's row can count the losses; apply after it. A directory
 * that is not there has nothing to lose. keep (may be NULL) is a name that stays whatever its age. */
struct qm_trim;
qm_err qm_trim_plan(struct qm_trim **out, const char *dir, enum qm_trim_kind kind, const char *keep, uint64_t now_ms, uint64_t keep_ms,
                    uint64_t max_bytes, struct qm_fault *fault) QM_MUST_USE;
uint64_t qm_trim_lost(const struct qm_trim *t, uint64_t *bytes); /* files */
qm_err qm_trim_apply(struct qm_trim *t, struct qm_fault *fault) QM_MUST_USE;
void qm_trim_close(struct qm_trim *t);

#endif
