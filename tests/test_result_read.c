/* Results back from their stream, in both forms (tools/result_read.h): what the encoder wrote is what is read. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "tools/result_read.h"

static struct qm_fault fault;
static const uint8_t a32[32] = {1, 2, 3, 4}, b32[32] = {9, 8, 7, 6};

static struct qm_result sample(void)
{
    struct qm_result r = {
        .run = "r-1",
        .source = {(const uint8_t *)"spool/\xff.mpk", 11},
        .off = 70000,
        .len = 24000,
        .id = {(const uint8_t *)"web-\xc3\xa9", 6},
        .status = QM_UNTRUSTED,
        .reason = QM_PCR_MISMATCH,
        .log = QM_LOG_REPLAYED,
        .stage_count = 2,
        .first_fail = 4,
        .proven = true,
        .has_attest = true,
        .has_clock = true,
        .has_t = true,
        .has_baseline = true,
        .clock_ms = 1ull << 40,
        .firmware = 5,
        .t_ms = 17,
        .checked_ms = 1795762248041,
        .reset = UINT32_MAX,
        .restart = 3,
        .safe = 1,
        .baseline = 12,
        .beacon = 4,
        .set_a = 7,
        .set_b = 8,
        .pcr_digest = {a32, 32},
        .has_event = true,
        .event = {.index = 30, .type = 0x80000003, .digest = a32, .expected_digest = b32, .text = {(const uint8_t *)"boot", 4}, .proved = true},
    };
    memcpy(r.attest, b32, 32);
    r.stage[0] = (struct qm_stage){0, QM_STAGE_PASS, a32, a32};
    r.stage[1] = (struct qm_stage){4, QM_STAGE_FAIL, a32, b32};
    return r;
}

/* The stream of one result and a run record, in memory. */
static FILE *stream(const struct qm_result *r, enum qm_format format, size_t cut)
{
    static char text[2 * QM_RESULT_MAX];
    struct qm_out o = qm_out_init(text, sizeof text);
    qm_result_write(&o, r, format, false);
    const struct qm_run run = {.run = "r-1", .start_ms = 5, .end_ms = 9, .files = 1, .records = 1, .bytes = 24000, .generation = 12,
                               .complete = true, .version = "1"};
    qm_run_write(&o, &run, format);
    cr_assert_lt(cut, o.len);
    return fmemopen(text, o.len - cut, "r");
}

static void same(const struct qm_result *x, const struct qm_result *r)
{
    cr_expect_str_eq(x->run, r->run);
    cr_expect_eq(x->off, r->off);
    cr_expect_eq(x->len, r->len);
    cr_expect(qm_span_eq(x->id, r->id));
    cr_expect_eq(x->source.len, 14); /* the byte that is no UTF-8 is four characters now */
    cr_expect_eq(x->status, r->status);
    cr_expect_eq(x->reason, r->reason);
    cr_expect_eq(x->log, r->log);
    cr_expect_eq(x->first_fail, r->first_fail);
    cr_expect(x->proven && x->has_attest && x->has_clock && x->has_t && x->has_baseline && x->safe);
    cr_expect_arr_eq(x->attest, r->attest, 32);
    cr_expect_eq(x->clock_ms, r->clock_ms);
    cr_expect_eq(x->reset, r->reset);
    cr_expect_eq(x->restart, r->restart);
    cr_expect_eq(x->firmware, r->firmware);
    cr_expect_eq(x->t_ms, r->t_ms);
    cr_expect_eq(x->checked_ms, r->checked_ms);
    cr_expect_eq(x->baseline, r->baseline);
    cr_expect_eq(x->beacon, r->beacon);
    cr_expect_eq(x->set_a, r->set_a);
    cr_expect_eq(x->set_b, r->set_b);
    cr_expect(qm_span_eq(x->pcr_digest, r->pcr_digest));
    cr_assert_eq(x->stage_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        cr_expect_eq(x->stage[i].pcr, r->stage[i].pcr);
        cr_expect_eq(x->stage[i].state, r->stage[i].state);
        cr_expect_arr_eq(x->stage[i].measured, r->stage[i].measured, 32);
        cr_expect_arr_eq(x->stage[i].expected, r->stage[i].expected, 32);
    }
    cr_assert(x->has_event);
    cr_expect_eq(x->event.index, 30);
    cr_expect_eq(x->event.type, 0x80000003);
    cr_expect_arr_eq(x->event.digest, a32, 32);
    cr_expect_arr_eq(x->event.expected_digest, b32, 32);
    cr_expect(x->event.proved);
}

static void round_trip(enum qm_format format)
{
    const struct qm_result r = sample();
    struct qm_result x;
    struct qm_run run;
    enum qm_result_kind kind;
    struct qm_result_reader *reader;
    FILE *in = stream(&r, format, 0);
    cr_assert_eq(qm_result_reader_open(&reader, in, &fault), QM_OK);
    cr_assert_eq(qm_result_reader_next(reader, &kind, &x, &run, &fault), QM_OK, "%s", fault.text);
    cr_assert_eq(kind, QM_READ_STATUS);
    same(&x, &r);
    cr_assert_eq(qm_result_reader_next(reader, &kind, &x, &run, &fault), QM_OK, "%s", fault.text);
    cr_assert_eq(kind, QM_READ_RUN);
    cr_expect_str_eq(run.run, "r-1");
    cr_expect(run.complete && run.start_ms == 5 && run.end_ms == 9 && run.records == 1 && run.generation == 12);
    cr_assert_eq(qm_result_reader_next(reader, &kind, &x, &run, &fault), QM_OK, "%s", fault.text);
    cr_assert_eq(kind, QM_READ_END);
    qm_result_reader_close(reader);
    fclose(in);
}

Test(result_read, msgpack)
{
    round_trip(QM_FORMAT_MSGPACK);
}

Test(result_read, ndjson)
{
    round_trip(QM_FORMAT_NDJSON);
}

/* A TPM's clock has 64 bits, and its owner sets it: what a run takes as newer, a stream must not take as the same. */
Test(result_read, numbers_to_their_last_bit)
{
    static const uint64_t some[] = {0, INT64_MAX, 1ull << 63, (1ull << 63) + 5, (1ull << 63) + 6, UINT64_MAX - 1, UINT64_MAX};
    for (unsigned format = 0; format < 2; format++)
        for (size_t i = 0; i < QM_COUNT(some); i++) {
            struct qm_result r = sample(), x;
            struct qm_result_reader *reader;
            struct qm_run run;
            enum qm_result_kind kind;
            r.clock_ms = some[i];
            r.firmware = some[QM_COUNT(some) - 1 - i];
            r.t_ms = some[(i + 3) % QM_COUNT(some)];
            FILE *in = stream(&r, format == 0 ? QM_FORMAT_MSGPACK : QM_FORMAT_NDJSON, 0);
            cr_assert_eq(qm_result_reader_open(&reader, in, &fault), QM_OK);
            cr_assert_eq(qm_result_reader_next(reader, &kind, &x, &run, &fault), QM_OK);
            cr_expect(x.has_clock);
            cr_expect_eq(x.clock_ms, r.clock_ms, "%llu came as %llu", (unsigned long long)r.clock_ms, (unsigned long long)x.clock_ms);
            cr_expect_eq(x.firmware, r.firmware);
            cr_expect_eq(x.t_ms, r.t_ms);
            qm_result_reader_close(reader);
            fclose(in);
        }
}

static void refused(FILE *in, const char *says)
{
    struct qm_result x;
    struct qm_run run;
    enum qm_result_kind kind = QM_READ_STATUS;
    struct qm_result_reader *reader;
    qm_err err = QM_OK;
    cr_assert_eq(qm_result_reader_open(&reader, in, &fault), QM_OK);
    while (err == QM_OK && kind != QM_READ_END)
        err = qm_result_reader_next(reader, &kind, &x, &run, &fault);
    cr_expect_eq(err, QM_E_FORMAT);
    cr_expect_not_null(strstr(fault.text, says), "'%s' does not say '%s'", fault.text, says);
    qm_result_reader_close(reader);
    fclose(in);
}

Test(result_read, cut_streams)
{
    const struct qm_result r = sample();
    refused(stream(&r, QM_FORMAT_MSGPACK, 1), "ends inside");
    refused(stream(&r, QM_FORMAT_NDJSON, 1), "ends inside");
    refused(stream(&r, QM_FORMAT_MSGPACK, 40), "ends inside");
}

static FILE *text(char *s)
{
    return fmemopen(s, strlen(s), "r");
}

Test(result_read, what_is_no_record)
{
    refused(text((char[]){"{\"v\":1,\"kind\":\"status\",\"status\":\"trusted\"}\n"}), "without status or reason");
    refused(text((char[]){"{\"v\":1,\"kind\":\"status\",\"status\":\"fine\",\"reason\":\"ok\"}\n"}), "no known status");
    refused(text((char[]){"{\"v\":1,\"kind\":\"status\",\"status\":\"trusted\",\"reason\":\"ok\",\"clock\":18446744073709551616}\n"}), "clock");
    refused(text((char[]){"{\"v\":1,\"kind\":\"status\",\"status\":\"trusted\",\"reason\":\"ok\",\"clock\":1.8446744073709552e+19}\n"}), "clock");
    refused(text((char[]){"{\"v\":1,\"kind\":\"status\",\"status\":\"trusted\",\"reason\":\"ok\",\"clock\":null}\n"}), "clock");
    refused(text((char[]){"{\"v\":1,\"kind\":\"status\",\"status\":\"trusted\",\"reason\":\"ok\",\"reset\":4294967296}\n"}), "reset");
    refused(text((char[]){"{\"v\":2,\"kind\":\"run\"}\n"}), "another version");
    refused(text((char[]){"{\"v\":1,\"kind\":\"alert\"}\n"}), "neither");
    refused(text((char[]){"{\"v\":1,\n"}), "no record");
    refused(text((char[]){"hello\n"}), "no record");
    refused(text((char[]){"\xc1\n"}), "no record");
}

/* What is kept of a result has room for what a record can have, not for what a stream can say. */
Test(result_read, nothing_is_longer_than_a_record_has_it)
{
    static const char form[] = "{\"v\":1,\"kind\":\"status\",\"status\":\"invalid\",\"reason\":\"malformed\",\"%s\":\"%s\"}\n";
    static char text[4096], longer[2001];
    memset(longer, 'a', sizeof longer - 1);
    for (unsigned i = 0; i < 2; i++) {
        struct qm_result_reader *reader;
        struct qm_result result;
        struct qm_run run;
        enum qm_result_kind kind;
        const int n = snprintf(text, sizeof text, form, i == 0 ? "id" : "pcr_digest", longer);
        FILE *in = fmemopen(text, (size_t)n, "r");
        cr_assert_eq(qm_result_reader_open(&reader, in, &fault), QM_OK);
        cr_expect_eq(qm_result_reader_next(reader, &kind, &result, &run, &fault), QM_E_FORMAT);
        qm_result_reader_close(reader);
        fclose(in);
    }
}

Test(result_read, an_empty_stream_ends_at_once)
{
    struct qm_result x;
    struct qm_run run;
    enum qm_result_kind kind;
    struct qm_result_reader *reader;
    FILE *in = fopen("/dev/null", "r");
    cr_assert_eq(qm_result_reader_open(&reader, in, &fault), QM_OK);
    cr_assert_eq(qm_result_reader_next(reader, &kind, &x, &run, &fault), QM_OK);
    cr_assert_eq(kind, QM_READ_END);
    qm_result_reader_close(reader);
    fclose(in);
}
