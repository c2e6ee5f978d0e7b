/* beacon: rotate and show. */
#include <stdio.h>

#include "codec/emit.h"
#include "tools/command.h"
#include "tools/options.h"
#include "tools/store/store_beacon.h"

static void show_json(const struct qm_beacon_row *b)
{
    char text[512];
    struct qm_out o = qm_out_init(text, sizeof text);
    struct qm_emit e = qm_emit_init(&o, true);
    qm_emit_map(&e);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, "beacon");
    qm_emit_key(&e, "no");
    qm_emit_u64(&e, b->beacon.no);
    qm_emit_key(&e, "value");
    qm_emit_bytes(&e, b->beacon.value, QM_BEACON_SIZE);
    qm_emit_key(&e, "since");
    qm_emit_u64(&e, b->since_ms);
    qm_emit_key(&e, "until");
    qm_emit_u64(&e, b->until_ms);
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    fwrite(o.p, 1, o.len, stdout);
}

/* The value alone, for collectors to fetch; or one object a line. */
static void show(const struct qm_beacon_row *b, bool json)
{
    char hex[2 * QM_BEACON_SIZE + 1] = "";
    if (json) {
        show_json(b);
        return;
    }
    qm_hex_write(hex, b->beacon.value, QM_BEACON_SIZE);
    printf("%s\n", hex);
}

static qm_err rotate(struct qm_store *s, bool json, struct qm_fault *fault)
{
    struct qm_beacon_row row = {0};
    qm_err err = qm_store_begin(s, fault);
    if (err == QM_OK)
        err = qm_beacon_rotate(s, &row, fault);
    if (err == QM_OK)
        err = qm_store_commit(s, fault);
    if (err == QM_OK)
        show(&row, json);
    return err;
}

/* count: how many are live. */
static qm_err show_live(struct qm_store *s, bool json, unsigned *count, struct qm_fault *fault)
{
    struct qm_beacon_row row[QM_BEACONS_MAX];
    qm_err err = qm_beacons_live(s, row, count, fault);
    for (unsigned i = 0; err == QM_OK && i < *count; i++)
        if (json || i == 0)
            show(&row[i], json);
    if (err == QM_OK && *count == 0)
        fputs("quotemill beacon: none is live; quotemill beacon rotate makes one\n", stderr);
    return err;
}

int qm_cmd_beacon(int argc, char **argv)
{
    const char *home = NULL;
    bool json = false;
    const struct qm_option options[] = {
        QM_HOME_OPTION(&home),
        {.name = "json",
         .kind = QM_OPT_FLAG,
         .to = &json,
         .help = "one object for each live beacon, newest first, with its number and times"},
    };
    const struct qm_usage usage = {
        "beacon", "rotate|show", "Makes a new freshness beacon and writes it in hex; or writes the newest one that is live.",
        "A collector puts SHA-256(\"quotemill-beacon-v1\" || beacon's 32 bytes || instance id) into the quote's extraData.\n"
        "Rotate every beacon_period; a beacon is accepted for beacon_life (quotemill config). With the policy freshness=beacon "
        "a\n"
        "quote without a live one is stale_nonce.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 1, 1, &first, &code))
        return code;
    const bool rotates = strcmp(argv[first], "rotate") == 0;
    if (!rotates && strcmp(argv[first], "show") != 0)
        return qm_complain_usage("beacon", "no '%.64s' there; rotate or show", argv[first]);
    struct qm_store *s = NULL;
    struct qm_fault fault = {0};
    unsigned live = 1;
    qm_err err = qm_store_open(&s, qm_home_path(home), rotates, &fault);
    if (err == QM_OK)
        err = rotates ? rotate(s, json, &fault) : show_live(s, json, &live, &fault);
    qm_store_close(s);
    if (err != QM_OK)
        return qm_complain("beacon", &fault);
    code = qm_stdout_close("beacon");
    return code == QM_EXIT_OK && live == 0 ? QM_EXIT_FOUND : code; /* so that nobody publishes an empty one */
}
