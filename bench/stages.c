/* Each stage of a record's way alone, over the real records of a spool, in the pipeline's order and
 * with the pipeline's buffers: a window of the file is read, its records go through the stages
 * batch by batch, and the clock is read between two stages. So each finds the caches as the stage
 * before it left them, and what it costs is what it costs in `verify`.
 *
 *     bench_stages TABLE ROUNDS WINDOW_KIB memo|no-memo FILE...
 *
 * With the memo the log walk includes what is recalled from it, and replay is what it does not know.
 *
 * Windows take turns: one goes through the stages taken apart, the next through qm_verify as it is
 * ("engine"), which is the check that the parts make up the whole. One JSON line a stage: us of CPU
 * time a record, and its share of read + decode + engine + encode. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "bench/measure.h"
#include "engine/replay.h"
#include "engine/verify.h"

static size_t window_bytes;

enum { OUT_BYTES = 64 * 1024 * QM_VERIFY_BATCH, COMPOSITE_ROOM = QM_PCR_COUNT * 32 };

enum stage {
    READ,
    DECODE,
    FIND,
    PARSE,
    ATTEST_DIGEST,
    SIGNATURE,
    LOG_WALK,
    REPLAY,
    COMPOSITE,
    ENGINE,
    ENCODE_MSGPACK,
    ENCODE_NDJSON,
    STAGE_COUNT
};
static const char *const stage_names[STAGE_COUNT] = {
    [READ] = "read (hot, pread of windows)",
    [DECODE] = "decode (qm_evidence_read)",
    [FIND] = "table look-up (qm_table_find)",
    [PARSE] = "attest and signature parsed",
    [ATTEST_DIGEST] = "attest digests",
    [SIGNATURE] = "signatures",
    [LOG_WALK] = "log walk (qm_replay_add)",
    [REPLAY] = "replay (qm_replay_run)",
    [COMPOSITE] = "composites",
    [ENGINE] = "engine (qm_verify, whole)",
    [ENCODE_MSGPACK] = "result, msgpack",
    [ENCODE_NDJSON] = "result, NDJSON",
};

static struct {
    const struct qm_table *table;
    struct qm_kernels kernels;
    struct qm_verifier *verifier;
    void *scratch[QM_SIG_CLASS_COUNT];
    struct qm_replay replay;
    struct qm_lane_use use;
    uint8_t *window;
    struct qm_out out;
    struct qm_record record[QM_VERIFY_BATCH];
    struct qm_result result[QM_VERIFY_BATCH];
    struct qm_instance found[QM_VERIFY_BATCH];
    struct qm_attest attest[QM_VERIFY_BATCH];
    struct qm_signature signature[QM_VERIFY_BATCH];
    struct qm_sig_job job[QM_VERIFY_BATCH];
    struct qm_message message[QM_VERIFY_BATCH];
    struct qm_replayed replayed[QM_VERIFY_BATCH];
    uint8_t digest[QM_VERIFY_BATCH][32];
    uint8_t rs[QM_VERIFY_BATCH][64];
    uint8_t composite_message[QM_VERIFY_BATCH * COMPOSITE_ROOM + QM_COMPOSITE_MAX];
    /* ns and records of this round */
    uint64_t ns[STAGE_COUNT], records[STAGE_COUNT];
    uint64_t bad;
} b;

static void must(qm_err err, const struct qm_fault *fault)
{
    if (err != QM_OK)
        die("bench_stages", fault->text);
}

static uint64_t lap(enum stage stage, uint64_t from, size_t count)
{
    uint64_t now = cpu_ns();
    b.ns[stage] += now - from;
    b.records[stage] += count;
    return now;
}

/* ---- the stages taken apart -------------------------------------------------------------------
 */

static void make_job(size_t i)
{
    const struct qm_instance *of = &b.found[i];
    const struct qm_signature *s = &b.signature[i];
    const uint8_t *sig = s->a.p;
    if (of->profile->scheme == QM_SCHEME_ECDSA) {
        if (of->key->sig_class != QM_SIG_P256 || s->a.len > 32 || s->b.len > 32)
            die("bench_stages", "P-256 is the one curve that is measured here");
        memset(b.rs[i], 0, sizeof b.rs[i]);
        memcpy(b.rs[i] + 32 - s->a.len, s->a.p, s->a.len);
        memcpy(b.rs[i] + 64 - s->b.len, s->b.p, s->b.len);
        sig = b.rs[i];
    }
    b.job[i] = (struct qm_sig_job){of->key,           b.digest[i],         sig,
                                   of->profile->hash, of->profile->scheme, false};
}

static void check_signatures(size_t count)
{
    struct qm_sig_job *of_class[QM_VERIFY_BATCH];
    for (unsigned c = 0; c < QM_SIG_CLASS_COUNT; c++) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++)
            if (b.job[i].key->sig_class == c)
                of_class[n++] = &b.job[i];
        if (n != 0)
            b.kernels.sig[c]->verify(b.scratch[c], of_class, n);
    }
}

static void make_composites(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct qm_pcr_values values;
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if ((b.replayed[i].mask >> pcr & 1) != 0)
                values.value[0][pcr] = qm_replay_value(&b.replay, &b.replayed[i], pcr);
        uint8_t *message = b.composite_message + i * COMPOSITE_ROOM;
        size_t len = qm_composite_message(b.found[i].profile, &values, message);
        b.message[i] = (struct qm_message){message, (uint32_t)len, b.digest[i]};
    }
    b.kernels.sha256->digest(b.message, count);
}

static void stages_apart(size_t count)
{
    struct qm_fault fault;
    struct qm_span id[QM_VERIFY_BATCH];
    uint64_t t = cpu_ns();
    for (size_t i = 0; i < count; i++)
        id[i] = b.record[i].evidence.id;
    must(qm_table_find(b.table, id, count, b.found, &fault), &fault);
    t = lap(FIND, t, count);
    for (size_t i = 0; i < count; i++) {
        const struct qm_evidence *e = &b.record[i].evidence;
        if (b.found[i].key == NULL || !qm_attest_parse(e->quote, &b.attest[i]) ||
            !qm_signature_parse(e->sig, &b.signature[i]))
            die("bench_stages", "a record of no machine, or no quote");
    }
    t = lap(PARSE, t, count);
    for (size_t i = 0; i < count; i++) {
        struct qm_span quote = b.record[i].evidence.quote;
        b.message[i] = (struct qm_message){quote.p, (uint32_t)quote.len, b.digest[i]};
    }
    b.kernels.sha256->digest(b.message, count);
    t = lap(ATTEST_DIGEST, t, count);
    for (size_t i = 0; i < count; i++)
        make_job(i);
    check_signatures(count);
    t = lap(SIGNATURE, t, count);
    qm_replay_reset(&b.replay);
    for (size_t i = 0; i < count; i++)
        if (qm_replay_add(&b.replay, b.record[i].evidence.log, b.found[i].profile->select[0].mask,
                          &b.replayed[i]) != QM_LOG_REPLAYED)
            die("bench_stages", "a log that cannot be replayed");
    t = lap(LOG_WALK, t, count);
    qm_replay_run(&b.replay, b.kernels.sha256);
    t = lap(REPLAY, t, count);
    for (size_t i = 0; i < count; i++)
        b.bad += !b.job[i].valid;
    make_composites(count);
    lap(COMPOSITE, t, count);
    for (size_t i = 0; i < count; i++)
        b.bad += memcmp(b.digest[i], b.attest[i].pcr_digest.p, 32) != 0;
}

/* ---- as it is ---------------------------------------------------------------------------------
 */

static void encode(enum stage stage, enum qm_format format, size_t count)
{
    uint64_t t = cpu_ns();
    b.out.len = 0;
    for (size_t i = 0; i < count; i++)
        qm_result_write(&b.out, &b.result[i], format, false);
    lap(stage, t, count);
}

static void engine_whole(size_t count)
{
    struct qm_fault fault;
    uint64_t t = cpu_ns();
    must(qm_verify(b.verifier, b.record, count, 1, b.result, &fault), &fault);
    lap(ENGINE, t, count);
    for (size_t i = 0; i < count; i++)
        b.bad += b.result[i].status != QM_TRUSTED;
    encode(ENCODE_MSGPACK, QM_FORMAT_MSGPACK, count);
    encode(ENCODE_NDJSON, QM_FORMAT_NDJSON, count);
}

/* ---- windows ----------------------------------------------------------------------------------
 */

static size_t decode(size_t len, const char *name, uint64_t off, size_t *used)
{
    size_t count = 0;
    *used = 0;
    while (count < QM_VERIFY_BATCH && *used < len) {
        struct qm_record *r = &b.record[count];
        if (qm_evidence_read((struct qm_span){b.window + *used, len - *used}, &r->evidence) !=
            QM_FRAME_RECORD)
            break;
        r->source = (struct qm_span){(const uint8_t *)name, strlen(name)};
        r->off = off + *used;
        r->len = r->evidence.record.len;
        r->count = 0;
        *used += r->len;
        count++;
    }
    return count;
}

static void one_file(const char *name)
{
    static bool whole;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    uint64_t off = 0;
    if (fd < 0)
        die("bench_stages", "cannot open a file");
    for (;;) {
        size_t used;
        uint64_t t = cpu_ns();
        ssize_t n = pread(fd, b.window, window_bytes, (off_t)off);
        if (n <= 0)
            break;
        uint64_t read_at = cpu_ns();
        size_t count = decode((size_t)n, name, off, &used);
        if (count == 0)
            die("bench_stages", "what is no record");
        b.ns[READ] += read_at - t;
        b.records[READ] += (uint64_t)n * count / used; /* what did not fit comes again */
        lap(DECODE, read_at, count);
        if (whole)
            engine_whole(count);
        else
            stages_apart(count);
        whole = !whole;
        off += used;
    }
    close(fd);
}

static void *memory(size_t len)
{
    void *p = aligned_alloc(QM_CACHE_LINE, qm_align_up(len, QM_CACHE_LINE));
    if (p == NULL)
        die("bench_stages", "out of memory");
    return p;
}

static void prepare(const char *table_path, bool no_memo)
{
    struct qm_fault fault;
    struct qm_table *table;
    struct qm_verify_options options = {.run = "20260101T000000Z-00000000", .audit = 1024, .no_memo = no_memo};
    must(qm_table_open(&table, table_path, &fault), &fault);
    must(qm_kernels_choose(&b.kernels, getenv("QM_KERNEL"), &fault), &fault);
    b.table = table;
    must(qm_verifier_init(&b.verifier, memory(qm_verifier_size(&b.kernels)), table, &b.kernels,
                          &options, &fault),
         &fault);
    for (unsigned c = 0; c < QM_SIG_CLASS_COUNT; c++) {
        const struct qm_sig_kernel *k = b.kernels.sig[c];
        b.scratch[c] = memory(k->scratch_size());
        must(k->init(b.scratch[c], b.kernels.sha256, &fault), &fault);
    }
    struct qm_memo *memo = NULL;
    if (!no_memo)
        qm_memo_init(&memo, memory(qm_memo_size()));
    qm_replay_init(&b.replay, memory(qm_replay_size(QM_VERIFY_LOG_BYTES, QM_VERIFY_BATCH)),
                   QM_VERIFY_LOG_BYTES, QM_VERIFY_BATCH, memo, &b.use);
    b.window = memory(window_bytes);
    b.out = qm_out_init(memory(OUT_BYTES), OUT_BYTES);
}

int main(int argc, char **argv)
{
    static double us[STAGE_COUNT][ROUNDS_MAX];
    long rounds = argc > 5 ? strtol(argv[2], NULL, 10) : 0;
    window_bytes = argc > 5 ? 1024 * strtoul(argv[3], NULL, 10) : 0;
    bool no_memo = argc > 5 && strcmp(argv[4], "no-memo") == 0;
    if (rounds < 1 || rounds > ROUNDS_MAX || window_bytes == 0 || (!no_memo && strcmp(argv[4], "memo") != 0))
        die("bench_stages", "usage: bench_stages TABLE ROUNDS WINDOW_KIB memo|no-memo FILE...");
    prepare(argv[1], no_memo);
    for (int i = 5; i < argc; i++)
        one_file(argv[i]); /* warms up: caches, block checksums of the table */
    b.bad = 0;
    b.replay.extends = b.replay.remembered = 0;
    uint64_t apart = 0;
    for (long r = 0; r < rounds; r++) {
        memset(b.ns, 0, sizeof b.ns);
        memset(b.records, 0, sizeof b.records);
        for (int i = 5; i < argc; i++)
            one_file(argv[i]);
        for (unsigned s = 0; s < STAGE_COUNT; s++)
            us[s][r] = (double)b.ns[s] / 1e3 / (double)b.records[s];
        apart += b.records[REPLAY];
    }
    const enum stage whole[] = {READ, DECODE, ENGINE, ENCODE_MSGPACK};
    double sum = 0;
    for (unsigned i = 0; i < QM_COUNT(whole); i++)
        sum += median_of(us[whole[i]], (size_t)rounds);
    for (unsigned s = 0; s < STAGE_COUNT; s++)
        say("stages", stage_names[s], "us/record", us[s], (size_t)rounds, "sum of stages",
            median_of(us[s], (size_t)rounds) / sum);
    say("stages", "sum: read, decode, engine, msgpack", "us/record", &sum, 1, NULL, 0);
    double extends = (double)b.replay.extends / (double)apart;
    double remembered = (double)b.replay.remembered / (double)apart;
    say("stages", "extends", "1/record", &extends, 1, "lane slots",
        (double)b.use.filled / (double)b.use.steps);
    say("stages", "extends that the memo knew", "1/record", &remembered, 1, "extends", remembered / extends);
    if (b.bad != 0)
        die("bench_stages", "not every record verified");
    return 0;
}
