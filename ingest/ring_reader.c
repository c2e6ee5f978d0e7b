/* Small files through io_uring. Each file is a chain of four hard-linked entries on a direct
 * descriptor:
 *
 *   openat2 -> read (the whole slot) -> read (one byte more) -> close
 *
 * A hard link goes on whatever became of the entry before, so the descriptor is always closed; a
 * soft link would break at the short read that every small file is. The second read tells the end
 * of the file (0) from a failure in its middle and from a file that goes on: the first one is short
 * in all three cases.
 *
 * The only file of the house that knows liburing. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ingest/reader.h"

enum {
    OP_OPEN,
    OP_READ,
    OP_BEYOND,
    OP_CLOSE,
    OPS,
    SLOTS = 2 * QM_BATCH_FILES,
    SQ_ENTRIES = OPS * QM_BATCH_FILES, /* one flight is put into the air at a time */
    CQ_ENTRIES = OPS * SLOTS,
    IO_THREADS = 32, /* of the kernel: opens that wait for the disk */
    SUBMIT_TRIES = 1000,
    PATIENCE_MS = 250,
};
#define CANCEL_DATA UINT64_MAX
static_assert((OP_BEYOND - OP_READ + 1) * SLOTS <= SQ_ENTRIES,
              "all reads can be cancelled in one go");

struct qm_ring {
    struct io_uring ring;
    struct open_how how[SLOTS];
    int result[SLOTS][OPS];
    uint8_t left[SLOTS]; /* completions to come */
    size_t in_air[2];    /* slots, by flight */
    uint8_t beyond;      /* the one byte more; its value is of no interest */
    bool useless;        /* a file system that cannot read without waiting */
    bool broken;
};

static bool refuse(char *reason, size_t cap, const char *what, int sys)
{
    if (reason == NULL || cap == 0)
        return false;
    const char *hint = sys == ENOSYS   ? " (this kernel has no io_uring)"
                       : sys == EPERM  ? " (forbidden here: seccomp or kernel.io_uring_disabled)"
                       : sys == ENOMEM ? " (RLIMIT_MEMLOCK or memory is too small)"
                                       : "";
    snprintf(reason, cap, "%s%s%s%s", what, sys != 0 ? ": " : "",
             sys != 0 ? strerrordesc_np(sys) : "", hint);
    return false;
}

/* Sets the ring up with everything that a reader needs. */
static bool set_up(struct io_uring *ring, char *reason, size_t cap)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,
        .cq_entries = CQ_ENTRIES,
    };
    int rc = io_uring_queue_init_params(SQ_ENTRIES, ring, &params);
    if (rc == -EINVAL) { /* before Linux 5.19 */
        params = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE, .cq_entries = CQ_ENTRIES};
        rc = io_uring_queue_init_params(SQ_ENTRIES, ring, &params);
    }
    if (rc != 0)
        return refuse(reason, cap, "io_uring cannot be set up", -rc);
    unsigned needed = IORING_FEAT_RW_CUR_POS | IORING_FEAT_LINKED_FILE | IORING_FEAT_NODROP |
                      IORING_FEAT_SUBMIT_STABLE;
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool ops = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_OPENAT2) &&
               io_uring_opcode_supported(probe, IORING_OP_READ) &&
               io_uring_opcode_supported(probe, IORING_OP_CLOSE);
    io_uring_free_probe(probe);
    rc = 0;
    if (!ops || (params.features & needed) != needed)
        refuse(
            reason, cap,
            "this kernel's io_uring lacks linked opens on direct descriptors (Linux 5.19 has them)",
            0);
    else if ((rc = io_uring_register_files_sparse(ring, SLOTS)) != 0)
        refuse(reason, cap, "no table of direct descriptors", -rc);
    else
        return true;
    io_uring_queue_exit(ring);
    return false;
}

static void put_chain(struct io_uring *ring, unsigned idx, int dir_fd, const char *path,
                      struct open_how *how, uint8_t *to, unsigned cap, uint8_t *beyond)
{
    struct io_uring_sqe *sqe[OPS];
    for (unsigned op = 0; op < OPS; op++)
        sqe[op] = io_uring_get_sqe(ring); /* never NULL: the queue holds a whole flight */
    io_uring_prep_openat2_direct(sqe[OP_OPEN], dir_fd, path, how, idx);
    io_uring_prep_read(sqe[OP_READ], (int)idx, to, cap, (uint64_t)-1);
    io_uring_prep_read(sqe[OP_BEYOND], (int)idx, beyond, 1, (uint64_t)-1);
    io_uring_prep_close_direct(sqe[OP_CLOSE], idx);
    for (unsigned op = 0; op < OPS; op++) {
        unsigned flags = op == OP_CLOSE ? 0 : IOSQE_IO_HARDLINK;
        if (op == OP_READ || op == OP_BEYOND)
            flags |= IOSQE_FIXED_FILE;
        io_uring_sqe_set_flags(sqe[op], flags);
        io_uring_sqe_set_data64(sqe[op], (uint64_t)idx * OPS + op);
    }
}

/* One chain for real: what is missing shows in its results. */
static bool try_chain(struct io_uring *ring, char *reason, size_t cap)
{
    static const char *const step[OPS] = {
        "io_uring cannot open a file",
        "io_uring cannot read a file that it has opened",
        "io_uring cannot read on in a file that it has opened",
        "io_uring cannot close a file",
    };
    struct open_how how = {.flags = O_RDONLY | O_NONBLOCK};
    uint8_t to, beyond;
    int result[OPS] = {0};
    put_chain(ring, 0, AT_FDCWD, "/dev/null", &how, &to, 1, &beyond);
    int rc = io_uring_submit(ring);
    if (rc != OPS)
        return refuse(reason, cap, "io_uring takes no work", rc < 0 ? -rc : EIO);
    for (unsigned i = 0; i < OPS; i++) {
        struct io_uring_cqe *cqe;
        do
            rc = io_uring_wait_cqe(ring, &cqe);
        while (rc == -EINTR);
        if (rc != 0)
            return refuse(reason, cap, "io_uring gives no answer", -rc);
        result[io_uring_cqe_get_data64(cqe) % OPS] = cqe->res;
        io_uring_cqe_seen(ring, cqe);
    }
    for (unsigned op = 0; op < OPS; op++)
        if (result[op] < 0)
            return refuse(reason, cap, step[op], -result[op]);
    return true;
}

bool qm_uring_probe(char *reason, size_t cap)
{
    struct io_uring ring;
    if (!set_up(&ring, reason, cap))
        return false;
    bool fit = try_chain(&ring, reason, cap);
    io_uring_queue_exit(&ring);
    return fit;
}

qm_err qm_ring_open(struct qm_ring **out, struct qm_fault *fault)
{
    char reason[200];
    struct qm_ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for a ring");
    if (!set_up(&ring->ring, reason, sizeof reason)) {
        free(ring);
        return qm_fail(fault, QM_E_UNFIT, 0, "%s", reason);
    }
    unsigned threads[2] = {IO_THREADS, 0};
    (void)io_uring_register_iowq_max_workers(&ring->ring, threads); /* a matter of speed only */
    *out = ring;
    return QM_OK;
}

bool qm_ring_useful(const struct qm_ring *ring)
{
    return !ring->useless;
}

size_t qm_ring_bytes(const struct qm_ring *ring)
{
    return sizeof *ring + ring->ring.sq.ring_sz + ring->ring.cq.ring_sz +
           SQ_ENTRIES * sizeof(struct io_uring_sqe);
}

static void take_completions(struct qm_ring *ring)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe (&ring->ring, head, cqe) {
        uint64_t data = io_uring_cqe_get_data64(cqe);
        size_t idx = data / OPS;
        n++;
        if (data == CANCEL_DATA)
            continue;
        ring->result[idx][data % OPS] = cqe->res;
        if (--ring->left[idx] == 0)
            ring->in_air[idx / QM_BATCH_FILES]--;
    }
    io_uring_cq_advance(&ring->ring, n);
}

static qm_err give_up(struct qm_ring *ring, int sys, struct qm_fault *fault)
{
    ring->broken = true;
    return qm_fail(fault, QM_E_IO, sys, "io_uring stopped working");
}

static qm_err submit(struct qm_ring *ring, struct qm_fault *fault)
{
    for (int tries = 0; io_uring_sq_ready(&ring->ring) != 0;) {
        int rc = io_uring_submit(&ring->ring);
        take_completions(ring);
        if (rc > 0)
            continue;
        bool passing = rc == -EINTR || rc == -EAGAIN || rc == -EBUSY || rc == -ENOMEM || rc == 0;
        if (!passing || ++tries == SUBMIT_TRIES)
            return give_up(ring, -rc, fault);
    }
    take_completions(ring);
    return QM_OK;
}

qm_err qm_ring_start(struct qm_ring *ring, struct qm_worklist *w, struct qm_flight *flight,
                     unsigned which, struct qm_fault *fault)
{
    for (size_t i = 0; i < flight->count; i++) {
        struct qm_slot *slot = &flight->slot[i];
        if (slot->got != QM_FETCH_COLD)
            continue;
        unsigned idx = which * QM_BATCH_FILES + (unsigned)i;
        int dir_fd;
        const char *path;
        qm_entry_how(w, slot->entry, &dir_fd, &path, &ring->how[idx]);
        ring->how[idx].flags &=
            ~(uint64_t)O_CLOEXEC; /* refused for direct descriptors, which no child inherits */
        put_chain(&ring->ring, idx, dir_fd, path, &ring->how[idx], slot->bytes, QM_SLOT_BYTES,
                  &ring->beyond);
        ring->left[idx] = OPS;
        ring->in_air[which]++;
    }
    return submit(ring, fault);
}

/* What a chain brought. */
static void land(struct qm_ring *ring, struct qm_worklist *w, struct qm_slot *slot,
                 const int result[OPS])
{
    int n = result[OP_READ];
    if (result[OP_OPEN] < 0) {
        slot->got = qm_fetch_open_failed(w, slot->entry, -result[OP_OPEN]);
    } else if (n > 0 && result[OP_BEYOND] == 0) {
        slot->len = (size_t)n;
        slot->got = QM_FETCH_WHOLE;
    } else {
        /* Longer than the slot, empty, or failed: the slow path looks into it. */
        slot->got = QM_FETCH_QUEUE;
        if (n == -EAGAIN || n == -EOPNOTSUPP)
            ring->useless = true;
    }
}

bool qm_ring_landed(struct qm_ring *ring, unsigned which)
{
    take_completions(ring);
    return ring->in_air[which] == 0;
}

/* A read that takes long may be of a FIFO that took a file's place: the ring waits for its writer
 * in spite of O_NONBLOCK. A cancellation ends that, and does nothing to a read that the disk is
 * busy with. What it ends is looked into by the slow path. */
static qm_err cancel_reads(struct qm_ring *ring, struct qm_fault *fault)
{
    for (size_t idx = 0; idx < SLOTS; idx++)
        for (unsigned op = OP_READ; op <= OP_BEYOND && ring->left[idx] != 0; op++) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
            io_uring_prep_cancel64(sqe, idx * OPS + op, 0);
            io_uring_sqe_set_data64(sqe, CANCEL_DATA);
        }
    return submit(ring, fault);
}

/* Waits for something to land. */
static qm_err wait_for_landing(struct qm_ring *ring, struct qm_fault *fault)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec patience = {.tv_nsec = PATIENCE_MS * 1000000L};
    int rc = io_uring_wait_cqe_timeout(&ring->ring, &cqe, &patience);
    if (rc == -ETIME)
        return cancel_reads(ring, fault);
    if (rc != 0 && rc != -EINTR && rc != -EAGAIN)
        return give_up(ring, -rc, fault);
    take_completions(ring);
    return QM_OK;
}

qm_err qm_ring_finish(struct qm_ring *ring, struct qm_worklist *w, struct qm_flight *flight,
                      unsigned which, struct qm_fault *fault)
{
    while (ring->in_air[which] != 0) {
        qm_err err = wait_for_landing(ring, fault);
        if (err != QM_OK)
            return err;
    }
    for (size_t i = 0; i < flight->count; i++)
        if (flight->slot[i].got == QM_FETCH_COLD)
            land(ring, w, &flight->slot[i], ring->result[which * QM_BATCH_FILES + i]);
    return QM_OK;
}

bool qm_ring_close(struct qm_ring *ring)
{
    struct qm_fault ignored;
    while (!ring->broken && ring->in_air[0] + ring->in_air[1] != 0)
        if (wait_for_landing(ring, &ignored) != QM_OK)
            break;
    bool landed = ring->in_air[0] + ring->in_air[1] == 0;
    io_uring_queue_exit(&ring->ring);
    free(ring);
    return landed;
}
