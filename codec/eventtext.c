#include "codec/eventtext.h"

#include "codec/cursor.h"
#include "codec/emit.h"
#include "codec/uefi.h"

enum {
    SAY_MAX = 300,    /* bytes of one piece of evidence in a line */
    SAY_HEX_MAX = 16, /* bytes shown as hex in a line */
    SAY_LIST_MAX = 8, /* elements of a list in a line */
    TEXT_MAX =
        8 * 1024,      /* bytes of UTF-8 made from UCS-2 or a device path; what is longer is cut */
    TAG_DEPTH = 8,     /* aggregations within aggregations; deeper ones are taken as data */
    FV_BLOB_SIZE = 16, /* UEFI_PLATFORM_FIRMWARE_BLOB, 10.2.3 */
    SIGNATURE_SIZE = 16,  /* of EV_NO_ACTION and SPDM structures, with its NUL */
    GPT_HEADER_SIZE = 92, /* UEFI 2.10, 5.3.2 */
    GPT_ENTRY_SIZE = 128, /* the least there is */
    SHA256_SIZE = 32,
};

/* Pairs of writers for one form of data. Each gives false where the data is not of that form: what
 * it wrote is then taken back and the data shown as it is. */
typedef bool line_fn(struct qm_out *o, struct qm_span d);
typedef bool json_fn(struct qm_emit *j, struct qm_span d);

/* ---- words
 * ---------------------------------------------------------------------------------------------------------
 */

static void say(struct qm_out *o, struct qm_span s)
{
    size_t len = s.len;
    if (len > SAY_MAX)
        for (len = SAY_MAX;
             len > SAY_MAX - 3 && (s.p[len] & 0xc0) == 0x80;) /* between characters */
            len--;
    qm_out_shown(o, (struct qm_span){s.p, len});
    if (len != s.len)
        qm_out_text(o, "...");
}

/* Text that is made piece by piece, in a buffer of its own, so that it is escaped once and as a
 * whole. */
struct text {
    struct qm_out out;
    char bytes[TEXT_MAX];
};
static void text_init(struct text *t)
{
    t->out = qm_out_init(t->bytes, sizeof t->bytes);
}
static struct qm_span text_span(const struct text *t)
{
    return (struct qm_span){(const uint8_t *)t->bytes, t->out.len};
}

static void say_ucs2(struct qm_out *o, struct qm_span s)
{
    struct text t;
    text_init(&t);
    qm_ucs2_write(&t.out, s);
    say(o, text_span(&t));
}

static void say_count(struct qm_out *o, size_t n, const char *one, const char *many)
{
    qm_out_u64(o, n);
    qm_out_char(o, ' ');
    qm_out_text(o, n == 1 ? one : many);
}

static void say_guid(struct qm_out *o, const uint8_t *guid)
{
    const char *name = qm_guid_name(guid);
    if (name != NULL)
        qm_out_text(o, name);
    else
        qm_guid_write(o, guid);
}

/* The file that a path names; the whole path where it names none. */
static void say_path(struct qm_out *o, struct qm_span path)
{
    struct text t;
    text_init(&t);
    if (!qm_device_path_file(&t.out, path))
        qm_device_path_write(&t.out, path);
    say(o, text_span(&t));
}

static void put_text(struct qm_emit *j, const char *key, struct qm_span s)
{
    qm_emit_key(j, key);
    qm_emit_text(j, s);
}
static void put_made(struct qm_emit *j, const char *key, const struct text *t)
{
    put_text(j, key, text_span(t));
    if (t->out.full) {
        qm_emit_key(j, "truncated");
        qm_emit_bool(j, true);
    }
}
static void put_ucs2(struct qm_emit *j, const char *key, struct qm_span s)
{
    struct text t;
    text_init(&t);
    qm_ucs2_write(&t.out, s);
    put_made(j, key, &t);
}
static void put_name(struct qm_emit *j, const char *key, const char *name)
{
    qm_emit_key(j, key);
    qm_emit_name(j, name);
}
static void put_u64(struct qm_emit *j, const char *key, uint64_t v)
{
    qm_emit_key(j, key);
    qm_emit_u64(j, v);
}
static void put_0x(struct qm_emit *j, const char *key, uint64_t v)
{
    char text[24];
    struct qm_out o = qm_out_init(text, sizeof text - 1);
    qm_out_0x(&o, v);
    text[o.len] = '\0';
    put_name(j, key, text);
}
static void put_bool(struct qm_emit *j, const char *key, bool v)
{
    qm_emit_key(j, key);
    qm_emit_bool(j, v);
}
static void put_hex(struct qm_emit *j, const char *key, struct qm_span s)
{
    qm_emit_key(j, key);
    qm_emit_bytes(j, s.p, s.len);
}
static void put_guid(struct qm_emit *j, const char *key, const char *name_key, const uint8_t *guid)
{
    char text[QM_GUID_TEXT + 1];
    struct qm_out o = qm_out_init(text, QM_GUID_TEXT);
    qm_guid_write(&o, guid);
    text[QM_GUID_TEXT] = '\0';
    put_name(j, key, text);
    const char *name = qm_guid_name(guid);
    if (name != NULL)
        put_name(j, name_key, name);
}
static void put_path(struct qm_emit *j, const char *key, struct qm_span path)
{
    struct text t;
    text_init(&t);
    bool whole = qm_device_path_write(&t.out, path);
    put_made(j, key, &t);
    if (!whole)
        put_bool(j, "malformed", true);
}

/* A string in front of other fields: a byte of length, then text, often with its NUL. */
static struct qm_span short_text(struct qm_cur *c)
{
    struct qm_span s = qm_cur_span(c, qm_cur_u8(c));
    while (s.len != 0 && s.p[s.len - 1] == 0)
        s.len--;
    return s;
}

/* ---- data of no particular form
 * ------------------------------------------------------------------------------------ */

/* The name in front of a binary structure ("IntelCSxEEvent01"): at least four printable characters,
 * then a NUL. */
static struct qm_span find_label(struct qm_span d)
{
    size_t len = 0;
    while (len < d.len && len < 40 && d.p[len] > 0x20 && d.p[len] < 0x7f)
        len++;
    return (struct qm_span){d.p, len >= 4 && len < d.len && d.p[len] == 0 ? len : 0};
}

static bool line_any(struct qm_out *o, struct qm_span d)
{
    struct qm_span label = find_label(d);
    if (qm_text_is_utf8(&d)) {
        say(o, d);
    } else if (qm_text_is_ucs2(&d)) {
        say_ucs2(o, d);
    } else if (label.len != 0) {
        say(o, label);
        qm_out_text(o, " in ");
        say_count(o, d.len, "byte", "bytes");
    } else {
        say_count(o, d.len, "byte", "bytes");
        if (d.len != 0)
            qm_out_char(o, ' ');
        qm_out_hex(o, d.p, d.len <= SAY_HEX_MAX ? d.len : SAY_HEX_MAX);
        if (d.len > SAY_HEX_MAX)
            qm_out_text(o, "...");
    }
    return true;
}

/* Within a map that is open: text where it is text. */
static void put_any(struct qm_emit *j, struct qm_span d)
{
    struct qm_span label = find_label(d);
    if (qm_text_is_utf8(&d)) {
        put_text(j, "text", d);
    } else if (qm_text_is_ucs2(&d)) {
        put_ucs2(j, "text", d);
    } else {
        if (label.len != 0)
            put_text(j, "label", label);
        put_hex(j, "data", d);
    }
}

static bool json_any(struct qm_emit *j, struct qm_span d)
{
    put_any(j, d);
    return true;
}

/* ---- EV_NO_ACTION, 10.4.5
 * ------------------------------------------------------------------------------------------ */

static bool starts_with(struct qm_span d, const char *text)
{
    size_t len = strlen(text);
    return d.len >= len && memcmp(d.p, text, len) == 0;
}

static bool line_locality(struct qm_out *o, struct qm_span d)
{
    if (d.len != SIGNATURE_SIZE + 1)
        return false;
    qm_out_text(o, "startup locality ");
    qm_out_u64(o, d.p[SIGNATURE_SIZE]);
    return true;
}
static bool json_locality(struct qm_emit *j, struct qm_span d)
{
    if (d.len != SIGNATURE_SIZE + 1)
        return false;
    put_u64(j, "locality", d.p[SIGNATURE_SIZE]);
    return true;
}

/* Spec ID Event03 has algorithms; 00 (TPM 1.2) and 02 (EFI 1.2) end without them. */
static bool line_spec_id(struct qm_out *o, struct qm_span d)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    qm_cur_take(&c, SIGNATURE_SIZE + 4);
    uint8_t minor = qm_cur_u8(&c);
    uint8_t major = qm_cur_u8(&c);
    if (c.bad)
        return false;
    say(o, (struct qm_span){d.p, SIGNATURE_SIZE - 1});
    qm_out_text(o, ", version ");
    qm_out_u64(o, major);
    qm_out_char(o, '.');
    qm_out_u64(o, minor);
    return true;
}

static void put_algorithms(struct qm_emit *j, struct qm_cur *c)
{
    uint32_t count = qm_cur_le32(c);
    qm_emit_key(j, "algorithms");
    qm_emit_array(j);
    for (uint32_t i = 0; i < count && qm_cur_left(c) >= 4; i++) {
        uint16_t alg = qm_cur_le16(c);
        qm_emit_map(j);
        put_0x(j, "id", alg);
        if (qm_hash_of_tpm(alg) != QM_HASH_NONE)
            put_name(j, "name", qm_hash_name(qm_hash_of_tpm(alg)));
        else if (alg == QM_TPM_ALG_SM3_256)
            put_name(j, "name", "sm3_256");
        put_u64(j, "size", qm_cur_le16(c));
        qm_emit_end(j);
    }
    qm_emit_end(j);
}

static bool json_spec_id(struct qm_emit *j, struct qm_span d)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    struct qm_span signature = qm_cur_span(&c, SIGNATURE_SIZE);
    if (c.bad)
        return false;
    put_text(j, "signature", (struct qm_span){signature.p, SIGNATURE_SIZE - 1});
    put_u64(j, "platform_class", qm_cur_le32(&c));
    put_u64(j, "version_minor", qm_cur_u8(&c));
    put_u64(j, "version_major", qm_cur_u8(&c));
    put_u64(j, "errata", qm_cur_u8(&c));
    put_u64(j, "uintn_size", qm_cur_u8(&c));
    if (starts_with(d, "Spec ID Event03"))
        put_algorithms(j, &c);
    struct qm_span vendor = qm_cur_span(&c, qm_cur_u8(&c));
    if (vendor.len != 0)
        put_hex(j, "vendor_info", vendor);
    return qm_cur_done(&c);
}

static void put_locator(struct qm_emit *j, const char *type_key, const char *key, struct qm_cur *c)
{
    put_u64(j, type_key, qm_cur_le32(c));
    struct qm_span s = qm_cur_span(c, qm_cur_le32(c));
    if (qm_text_is_utf8(&s))
        put_text(j, key, s);
    else
        put_hex(j, key, s);
}

static bool line_reference(struct qm_out *o, struct qm_span d)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    struct qm_span signature = qm_cur_span(&c, SIGNATURE_SIZE);
    qm_cur_take(&c, 4 + QM_GUID_SIZE);
    if (c.bad)
        return false;
    say(o, (struct qm_span){signature.p, strnlen((const char *)signature.p, signature.len)});
    struct qm_span maker = short_text(&c);
    struct qm_span model = short_text(&c);
    if (c.bad) /* the first form names neither */
        return true;
    qm_out_text(o, ": ");
    say(o, maker);
    qm_out_char(o, ' ');
    say(o, model);
    return true;
}

/* TCG_Sp800_155_PlatformId_Event, 2 and 3 (10.4.5.2 and on). */
static bool json_reference(struct qm_emit *j, struct qm_span d)
{
    static const char *const strings[] = {"platform_manufacturer", "platform_model",
                                          "platform_version", "firmware_manufacturer"};
    struct qm_cur c = qm_cur_init(d.p, d.len);
    struct qm_span signature = qm_cur_span(&c, SIGNATURE_SIZE);
    uint32_t vendor = qm_cur_le32(&c);
    const uint8_t *guid = qm_cur_take(&c, QM_GUID_SIZE);
    if (c.bad)
        return false;
    put_text(j, "signature",
             (struct qm_span){signature.p, strnlen((const char *)signature.p, signature.len)});
    put_u64(j, "vendor_id", vendor);
    put_guid(j, "reference_manifest", "reference_manifest_name", guid);
    if (!starts_with(d, "SP800-155 Event2") && !starts_with(d, "SP800-155 Event3"))
        return true;
    for (size_t i = 0; i < QM_COUNT(strings); i++)
        put_text(j, strings[i], short_text(&c));
    put_u64(j, "firmware_manufacturer_id", qm_cur_le32(&c));
    put_text(j, "firmware_version", short_text(&c));
    if (starts_with(d, "SP800-155 Event3")) {
        put_locator(j, "rim_locator_type", "rim_locator", &c);
        put_locator(j, "platform_certificate_locator_type", "platform_certificate_locator", &c);
    }
    return !c.bad;
}

static line_fn line_other_no_action;
static json_fn json_other_no_action;

static const struct {
    const char *signature;
    line_fn *line;
    json_fn *json;
} no_actions[] = {
    {"StartupLocality", line_locality, json_locality},
    {"Spec ID Event0", line_spec_id, json_spec_id},
    {"SP800-155 Event", line_reference, json_reference},
    {"", line_other_no_action, json_other_no_action},
};

static bool line_no_action(struct qm_out *o, struct qm_span d)
{
    for (size_t i = 0; i < QM_COUNT(no_actions); i++)
        if (starts_with(d, no_actions[i].signature))
            return no_actions[i].line(o, d);
    return false;
}
static bool json_no_action(struct qm_emit *j, struct qm_span d)
{
    for (size_t i = 0; i < QM_COUNT(no_actions); i++)
        if (starts_with(d, no_actions[i].signature))
            return no_actions[i].json(j, d);
    return false;
}

/* ---- EV_SEPARATOR, 10.4.1
 * ------------------------------------------------------------------------------------------ */

static bool line_separator(struct qm_out *o, struct qm_span d)
{
    if (d.len != 4)
        return false;
    uint32_t value = qm_load_le32(d.p);
    if (value != 0 && value != UINT32_MAX && value != 1) {
        qm_out_text(o, "separator ");
        return line_any(o, d);
    }
    qm_out_text(o, value == 1   ? "error separator"
                   : value == 0 ? "separator"
                                : "separator ffffffff");
    return true;
}
static bool json_separator(struct qm_emit *j, struct qm_span d)
{
    if (d.len != 4)
        return false;
    put_0x(j, "value", qm_load_le32(d.p));
    put_bool(j, "error", qm_load_le32(d.p) == 1);
    return true;
}

/* ---- firmware blobs, 10.2.3, 10.2.4; text in their place is common
 * -------------------------------------------------- */

static void say_blob(struct qm_out *o, struct qm_cur *c)
{
    uint64_t base = qm_cur_le64(c);
    qm_out_text(o, "firmware at ");
    qm_out_0x(o, base);
    qm_out_text(o, ", ");
    qm_out_0x(o, qm_cur_le64(c));
    qm_out_text(o, " bytes");
}

static bool is_blob(struct qm_span d)
{
    return d.len == FV_BLOB_SIZE && !qm_text_is_utf8(&d) && !qm_text_is_ucs2(&d);
}

static bool line_blob(struct qm_out *o, struct qm_span d)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    if (!is_blob(d))
        return line_any(o, d);
    say_blob(o, &c);
    return true;
}
static bool json_blob(struct qm_emit *j, struct qm_span d)
{
    if (!is_blob(d))
        return json_any(j, d);
    put_0x(j, "base", qm_load_le64(d.p));
    put_0x(j, "length", qm_load_le64(d.p + 8));
    return true;
}

/* UEFI_PLATFORM_FIRMWARE_BLOB2 */
static bool line_blob2(struct qm_out *o, struct qm_span d)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    struct qm_span description = short_text(&c);
    if (c.bad || qm_cur_left(&c) != FV_BLOB_SIZE)
        return line_any(o, d);
    say(o, description);
    qm_out_text(o, ": ");
    say_blob(o, &c);
    return true;
}
static bool json_blob2(struct qm_emit *j, struct qm_span d)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    struct qm_span description = short_text(&c);
    if (c.bad || qm_cur_left(&c) != FV_BLOB_SIZE)
        return json_any(j, d);
    put_text(j, "description", description);
    return json_blob(j, (struct qm_span){c.p, FV_BLOB_SIZE});
}

/* EV_S_CRTM_VERSION is a string, or the GUID of a version (10.4.1). */
static bool is_guid(struct qm_span d)
{
    return d.len == QM_GUID_SIZE && !qm_text_is_utf8(&d) && !qm_text_is_ucs2(&d);
}
static bool line_version(struct qm_out *o, struct qm_span d)
{
    if (!is_guid(d))
        return line_any(o, d);
    say_guid(o, d.p);
    return true;
}
static bool json_version(struct qm_emit *j, struct qm_span d)
{
    if (!is_guid(d))
        return json_any(j, d);
    put_guid(j, "guid", "guid_name", d.p);
    return true;
}

/* ---- EV_EFI_HANDOFF_TABLES: UEFI_HANDOFF_TABLE_POINTERS, 10.2.5; the second form has a
 * description in front ------------ */

enum { TABLE_SIZE = QM_GUID_SIZE + 8 };

static bool line_table_list(struct qm_out *o, struct qm_cur c)
{
    uint64_t count = qm_cur_le64(&c);
    if (c.bad || count > qm_cur_left(&c) / TABLE_SIZE)
        return false;
    qm_out_text(o, count == 0 ? "no tables" : "tables: ");
    for (uint64_t i = 0; i < count && i < SAY_LIST_MAX; i++) {
        qm_out_text(o, i == 0 ? "" : ", ");
        say_guid(o, qm_cur_take(&c, QM_GUID_SIZE));
        qm_cur_take(&c, 8);
    }
    if (count > SAY_LIST_MAX)
        qm_out_text(o, ", ...");
    return true;
}
static bool json_table_list(struct qm_emit *j, struct qm_cur c)
{
    uint64_t count = qm_cur_le64(&c);
    if (c.bad || count > qm_cur_left(&c) / TABLE_SIZE)
        return false;
    qm_emit_key(j, "tables");
    qm_emit_array(j);
    for (uint64_t i = 0; i < count; i++) {
        qm_emit_map(j);
        put_guid(j, "guid", "name", qm_cur_take(&c, QM_GUID_SIZE));
        put_0x(j, "address", qm_cur_le64(&c));
        qm_emit_end(j);
    }
    qm_emit_end(j);
    return true;
}

static bool line_tables(struct qm_out *o, struct qm_span d)
{
    return line_table_list(o, qm_cur_init(d.p, d.len));
}
static bool json_tables(struct qm_emit *j, struct qm_span d)
{
    return json_table_list(j, qm_cur_init(d.p, d.len));
}
/* What a table of devices holds is left to the firmware; some write configuration tables. */
static bool line_devices(struct qm_out *o, struct qm_span d)
{
    return line_tables(o, d) || line_any(o, d);
}
static bool json_devices(struct qm_emit *j, struct qm_span d)
{
    return json_tables(j, d) || json_any(j, d);
}
static bool line_tables2(struct qm_out *o, struct qm_span d)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    struct qm_span description = short_text(&c);
    if (c.bad)
        return false;
    say(o, description);
    qm_out_text(o, ": ");
    return line_table_list(o, c);
}
static bool json_tables2(struct qm_emit *j, struct qm_span d)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    struct qm_span description = short_text(&c);
    if (c.bad)
        return false;
    put_text(
        j, "description",
        (struct qm_span){description.p, strnlen((const char *)description.p, description.len)});
    return json_table_list(j, c);
}

/* ---- EV_IPL: what a boot loader writes
 * ------------------------------------------------------------------------------- */

/* GRUB puts one of these before the text that it hashes; the first three are its own, the others a
 * distribution's. */
static const char *const ipl_labels[] = {
    "grub_cmd: ", "kernel_cmdline: ", "module_cmdline: ", "grub_cmd ", "grub_kernel_cmdline "};

static size_t ipl_label_len(struct qm_span d)
{
    for (size_t i = 0; i < QM_COUNT(ipl_labels); i++)
        if (starts_with(d, ipl_labels[i]))
            return strlen(ipl_labels[i]);
    return 0;
}

/* What has a label is text, whatever its bytes. */
static bool line_ipl(struct qm_out *o, struct qm_span d)
{
    if (ipl_label_len(d) == 0)
        return line_any(o, d);
    while (d.len != 0 && d.p[d.len - 1] == 0)
        d.len--;
    say(o, d);
    return true;
}

static bool json_ipl(struct qm_emit *j, struct qm_span d)
{
    size_t label = ipl_label_len(d);
    if (label != 0) {
        size_t name_len = 0;
        while (d.p[name_len] != ':' && d.p[name_len] != ' ')
            name_len++;
        put_text(j, "label", (struct qm_span){d.p, name_len});
        d.p += label;
        d.len -= label;
        while (d.len != 0 && d.p[d.len - 1] == 0)
            d.len--;
        put_text(j, "text", d);
        return true;
    }
    return json_any(j, d);
}

/* ---- EV_EVENT_TAG: TCG_PCClientTaggedEvent, 10.4.2
 * ------------------------------------------------------------------- */

struct tag {
    uint32_t id;
    struct qm_span data;
    unsigned depth;
};
struct tags {
    struct qm_cur c;
    unsigned depth;
    const uint8_t *end[TAG_DEPTH]; /* of the aggregations that are open */
};

/* The next tag; those inside an aggregation follow it. False: no more, or damage (c.bad). */
static bool tags_next(struct tags *t, struct tag *out)
{
    while (t->depth != 0 && t->c.p == t->end[t->depth - 1])
        t->depth--;
    if (qm_cur_left(&t->c) == 0)
        return false;
    const uint8_t *limit = t->depth != 0 ? t->end[t->depth - 1] : t->c.end;
    out->id = qm_cur_le32(&t->c);
    uint32_t len = qm_cur_le32(&t->c);
    if (t->c.bad || t->c.p > limit || len > (size_t)(limit - t->c.p)) {
        t->c.bad = true;
        return false;
    }
    out->depth = t->depth;
    if (qm_event_tag_nests(out->id) && t->depth < TAG_DEPTH) {
        out->data = (struct qm_span){t->c.p, 0};
        t->end[t->depth++] = t->c.p + len;
    } else {
        out->data = qm_cur_span(&t->c, len);
    }
    return true;
}

static void say_tag_name(struct qm_out *o, uint32_t id)
{
    const char *name = qm_event_tag_name(id);
    if (name != NULL)
        qm_out_text(o, name);
    else
        qm_out_0x(o, id);
}

enum { TAG_FILE_PATH = 0x00070001 };

static bool line_tagged(struct qm_out *o, struct qm_span d)
{
    struct tags t = {.c = qm_cur_init(d.p, d.len)};
    struct tag tag;
    uint32_t first_id = 0;
    size_t count = 0;
    struct qm_span first = {0}, file = {0};
    while (tags_next(&t, &tag)) {
        if (count++ == 0) {
            first_id = tag.id;
            first = tag.data;
        }
        if (tag.id == TAG_FILE_PATH && file.p == NULL)
            file = tag.data;
    }
    if (t.c.bad || count == 0)
        return false;
    say_tag_name(o, first_id);
    if (file.p != NULL) {
        qm_out_text(o, ": ");
        say_ucs2(o, file);
    } else if (!qm_event_tag_nests(first_id)) {
        qm_out_text(o, " = ");
        line_any(o, first);
    }
    if (count > 1) {
        qm_out_text(o, " and ");
        say_count(o, count - 1, "item", "items");
    }
    return true;
}

static bool json_tagged(struct qm_emit *j, struct qm_span d)
{
    struct tags t = {.c = qm_cur_init(d.p, d.len)};
    struct tag tag;
    qm_emit_key(j, "tags");
    qm_emit_array(j);
    while (tags_next(&t, &tag)) {
        qm_emit_map(j);
        put_0x(j, "id", tag.id);
        const char *name = qm_event_tag_name(tag.id);
        if (name != NULL)
            put_name(j, "name", name);
        if (tag.depth != 0)
            put_u64(j, "depth", tag.depth);
        if (!qm_event_tag_nests(tag.id))
            put_any(j, tag.data);
        qm_emit_end(j);
    }
    qm_emit_end(j);
    return !t.c.bad && d.len != 0;
}

/* Windows logs tags under pcrIndex ffffffff; others write what they like. */
static bool line_other_no_action(struct qm_out *o, struct qm_span d)
{
    size_t mark = o->len;
    if (line_tagged(o, d))
        return true;
    o->len = mark;
    return line_any(o, d);
}
static bool json_other_no_action(struct qm_emit *j, struct qm_span d)
{
    struct tags t = {.c = qm_cur_init(d.p, d.len)};
    struct tag tag;
    while (tags_next(&t, &tag))
        ;
    return t.c.bad || d.len == 0 ? json_any(j, d) : json_tagged(j, d);
}

/* ---- EV_EFI_VARIABLE_*
 * -----------------------------------------------------------------------------------------------
 */

static bool has_signatures(struct qm_span name)
{
    static const char *const names[] = {"PK",        "KEK",        "db",        "dbx",
                                        "dbt",       "dbr",        "dbDefault", "dbxDefault",
                                        "PKDefault", "KEKDefault", "devdb",     "MokList",
                                        "MokListX",  "MokListRT",  "MokListXRT"};
    for (size_t i = 0; i < QM_COUNT(names); i++)
        if (qm_ucs2_is(name, names[i]))
            return true;
    return false;
}

/* Boot0001, Driver0000, SysPrep0000, PlatformRecovery0000 (UEFI 2.10, 3.3). */
static bool is_load_option(struct qm_span name)
{
    static const char *const prefixes[] = {"Boot", "Driver", "SysPrep", "PlatformRecovery"};
    for (size_t i = 0; i < QM_COUNT(prefixes); i++) {
        size_t len = 2 * strlen(prefixes[i]);
        if (name.len != len + 8 || !qm_ucs2_is((struct qm_span){name.p, len}, prefixes[i]))
            continue;
        size_t digits = 0;
        while (digits < 4) {
            uint16_t u = qm_load_le16(name.p + len + 2 * digits);
            if (!((u >= '0' && u <= '9') || (u >= 'A' && u <= 'F') || (u >= 'a' && u <= 'f')))
                break;
            digits++;
        }
        return digits == 4;
    }
    return false;
}

static bool is_order(struct qm_span name)
{
    static const char *const names[] = {"BootOrder", "DriverOrder", "SysPrepOrder", "BootNext",
                                        "BootCurrent"};
    for (size_t i = 0; i < QM_COUNT(names); i++)
        if (qm_ucs2_is(name, names[i]))
            return true;
    return false;
}

/* "2 certificates (A, B), 3 hashes" */
static bool say_signatures(struct qm_out *o, struct qm_span value)
{
    struct qm_sigdb s = {.lists = qm_cur_init(value.p, value.len)};
    struct qm_sigdb_entry entry;
    size_t certs = 0, hashes = 0, others = 0;
    while (qm_sigdb_next(&s, &entry)) {
        enum qm_sig_kind kind = qm_sigdb_kind(entry.type);
        certs += kind == QM_SIGDB_X509;
        hashes += kind == QM_SIGDB_SHA256;
        others += kind == QM_SIGDB_OTHER;
    }
    if (s.lists.bad)
        return false;
    const char *between = "";
    if (certs != 0) {
        say_count(o, certs, "certificate", "certificates");
        size_t named = 0;
        s = (struct qm_sigdb){.lists = qm_cur_init(value.p, value.len)};
        while (named < SAY_LIST_MAX && qm_sigdb_next(&s, &entry)) {
            struct qm_span name;
            if (qm_sigdb_kind(entry.type) != QM_SIGDB_X509 || !qm_cert_name(entry.data, &name))
                continue;
            qm_out_text(o, named++ == 0 ? " (" : ", ");
            say(o, name);
        }
        qm_out_text(o, named == 0 ? "" : named < certs ? ", ...)" : ")");
        between = ", ";
    }
    if (hashes != 0) {
        qm_out_text(o, between);
        say_count(o, hashes, "hash", "hashes");
        between = ", ";
    }
    if (others != 0 || certs + hashes == 0) {
        qm_out_text(o, between);
        say_count(o, others, "other entry", "other entries");
    }
    return true;
}

static bool put_signatures(struct qm_emit *j, struct qm_span value)
{
    struct qm_sigdb s = {.lists = qm_cur_init(value.p, value.len)};
    struct qm_sigdb_entry entry;
    qm_emit_key(j, "signatures");
    qm_emit_array(j);
    while (qm_sigdb_next(&s, &entry)) {
        struct qm_span name;
        enum qm_sig_kind kind = qm_sigdb_kind(entry.type);
        qm_emit_map(j);
        put_guid(j, "type", "type_name", entry.type);
        put_guid(j, "owner", "owner_name", entry.owner);
        if (kind == QM_SIGDB_X509 && qm_cert_name(entry.data, &name))
            put_text(j, "subject", name);
        put_u64(j, "size", entry.data.len);
        put_hex(j, "data", entry.data);
        qm_emit_end(j);
    }
    qm_emit_end(j);
    return !s.lists.bad;
}

static bool say_load_option(struct qm_out *o, struct qm_span value)
{
    struct qm_load_option option;
    if (!qm_load_option_read(value, &option))
        return false;
    qm_out_char(o, ' ');
    say_ucs2(o, option.description);
    qm_out_char(o, ' ');
    say_path(o, option.path);
    return true;
}

static bool put_load_option(struct qm_emit *j, struct qm_span value)
{
    struct qm_load_option option;
    if (!qm_load_option_read(value, &option))
        return false;
    put_0x(j, "attributes", option.attributes);
    put_ucs2(j, "description", option.description);
    put_path(j, "device_path", option.path);
    if (option.optional.len != 0) {
        struct qm_span text = option.optional;
        if (qm_text_is_ucs2(&text))
            put_ucs2(j, "optional_text", text);
        else
            put_hex(j, "optional_data", text);
    }
    return true;
}

static void say_order(struct qm_out *o, struct qm_span value)
{
    qm_out_text(o, " =");
    for (size_t i = 0; i + 1 < value.len; i += 2) {
        uint8_t big_endian[2] = {value.p[i + 1], value.p[i]};
        qm_out_char(o, ' ');
        if (i == 4 * SAY_LIST_MAX) {
            qm_out_text(o, "...");
            return;
        }
        qm_out_hex(o, big_endian, sizeof big_endian);
    }
}

static void put_order(struct qm_emit *j, struct qm_span value)
{
    qm_emit_key(j, "order");
    qm_emit_array(j);
    for (size_t i = 0; i + 1 < value.len; i += 2) {
        uint8_t big_endian[2] = {value.p[i + 1], value.p[i]};
        qm_emit_bytes(j, big_endian, sizeof big_endian);
    }
    qm_emit_end(j);
}

static bool line_variable(struct qm_out *o, struct qm_span d)
{
    struct qm_efi_variable v;
    if (!qm_efi_variable_read(d, &v))
        return false;
    say_ucs2(o, v.name);
    if (v.value.len == 0) {
        qm_out_text(o, " is empty");
        return true;
    }
    size_t mark = o->len;
    if (has_signatures(v.name)) {
        qm_out_text(o, ": ");
        if (say_signatures(o, v.value))
            return true;
    } else if (is_load_option(v.name)) {
        if (say_load_option(o, v.value))
            return true;
    } else if (is_order(v.name) && v.value.len % 2 == 0) {
        say_order(o, v.value);
        return true;
    }
    o->len = mark;
    qm_out_text(o, " = ");
    if (v.value.len == 1)
        qm_out_u64(o, v.value.p[0]);
    else
        line_any(o, v.value);
    return true;
}

/* Guid, name and plain value, in an open map. */
static void put_variable_head(struct qm_emit *j, const struct qm_efi_variable *v)
{
    put_guid(j, "guid", "guid_name", v->guid);
    put_ucs2(j, "name", v->name);
    put_u64(j, "value_size", v->value.len);
}

static void put_value(struct qm_emit *j, struct qm_span value)
{
    if (value.len == 1)
        put_u64(j, "value", value.p[0]);
    else if (value.len != 0)
        put_any(j, value);
}

static bool json_variable(struct qm_emit *j, struct qm_span d)
{
    struct qm_efi_variable v;
    if (!qm_efi_variable_read(d, &v))
        return false;
    put_variable_head(j, &v);
    struct qm_emit before = *j;
    size_t mark = j->out->len;
    if (v.value.len != 0 && has_signatures(v.name)) {
        if (put_signatures(j, v.value))
            return true;
    } else if (is_load_option(v.name)) {
        if (put_load_option(j, v.value))
            return true;
    } else if (is_order(v.name) && v.value.len % 2 == 0) {
        put_order(j, v.value);
        return true;
    } else {
        put_value(j, v.value);
        return true;
    }
    *j = before;
    j->out->len = mark;
    put_bool(j, "malformed", true);
    put_hex(j, "data", v.value);
    return true;
}

/* EV_EFI_VARIABLE_AUTHORITY: the value is the one EFI_SIGNATURE_DATA that vouched for an image
 * (3.3.4.8); shim logs bare certificates and its own variables too. */
static bool is_der(struct qm_span s)
{
    return s.len > 4 && s.p[0] == 0x30 && s.p[1] == 0x82;
}
static bool split_authority(struct qm_span value, const uint8_t **owner, struct qm_span *data)
{
    *owner = NULL;
    *data = value;
    if (is_der(value))
        return true;
    if (value.len < QM_GUID_SIZE)
        return false;
    *owner = value.p;
    *data = (struct qm_span){value.p + QM_GUID_SIZE, value.len - QM_GUID_SIZE};
    return is_der(*data) || data->len == SHA256_SIZE;
}

static bool line_authority(struct qm_out *o, struct qm_span d)
{
    struct qm_efi_variable v;
    const uint8_t *owner;
    struct qm_span data, name;
    if (!qm_efi_variable_read(d, &v))
        return false;
    if (!split_authority(v.value, &owner, &data))
        return line_variable(o, d);
    say_ucs2(o, v.name);
    if (is_der(data) && qm_cert_name(data, &name)) {
        qm_out_text(o, ": certificate ");
        say(o, name);
    } else {
        qm_out_text(o, is_der(data) ? ": certificate, " : ": hash ");
        line_any(o, data);
    }
    return true;
}

static bool json_authority(struct qm_emit *j, struct qm_span d)
{
    struct qm_efi_variable v;
    const uint8_t *owner;
    struct qm_span data, name;
    if (!qm_efi_variable_read(d, &v))
        return false;
    if (!split_authority(v.value, &owner, &data))
        return json_variable(j, d);
    put_variable_head(j, &v);
    if (owner != NULL)
        put_guid(j, "owner", "owner_name", owner);
    if (is_der(data) && qm_cert_name(data, &name))
        put_text(j, "subject", name);
    put_hex(j, is_der(data) ? "certificate" : "hash", data);
    return true;
}

/* ---- UEFI_IMAGE_LOAD_EVENT, 10.2.2
 * ------------------------------------------------------------------------------------ */

struct image {
    uint64_t address, length, link_time;
    struct qm_span path;
};
static bool read_image(struct qm_span d, struct image *out)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    out->address = qm_cur_le64(&c);
    out->length = qm_cur_le64(&c);
    out->link_time = qm_cur_le64(&c);
    uint64_t path_len = qm_cur_le64(&c);
    if (c.bad || path_len > qm_cur_left(&c))
        return false;
    out->path = qm_cur_span(&c, (size_t)path_len);
    return true;
}

static bool line_image(struct qm_out *o, struct qm_span d)
{
    struct image image;
    if (!read_image(d, &image))
        return false;
    if (image.path.len != 0) {
        say_path(o, image.path);
        return true;
    }
    qm_out_text(o, "image without a path, ");
    qm_out_u64(o, image.length);
    qm_out_text(o, " bytes");
    return true;
}
static bool json_image(struct qm_emit *j, struct qm_span d)
{
    struct image image;
    if (!read_image(d, &image))
        return false;
    put_0x(j, "address", image.address);
    put_u64(j, "length", image.length);
    put_0x(j, "link_time_address", image.link_time);
    put_path(j, "device_path", image.path);
    return true;
}

/* ---- EV_EFI_GPT_EVENT: UEFI_GPT_DATA, 10.2.7
 * -------------------------------------------------------------------------- */

struct gpt {
    struct qm_cur header;
    uint64_t count;
    size_t entry_size;
    struct qm_cur entries;
};
static bool read_gpt(struct qm_span d, struct gpt *g)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    g->header = qm_cur_sub(&c, GPT_HEADER_SIZE);
    g->count = qm_cur_le64(&c);
    if (c.bad || memcmp(g->header.p, "EFI PART", 8) != 0)
        return false;
    uint32_t entry_size = qm_load_le32(g->header.p + 84);
    g->entry_size = entry_size >= GPT_ENTRY_SIZE ? entry_size : GPT_ENTRY_SIZE;
    g->entries = c;
    return g->count <= qm_cur_left(&c) / g->entry_size;
}

/* EFI_PARTITION_ENTRY (UEFI 2.10, 5.3.3). */
struct partition {
    const uint8_t *type, *guid;
    uint64_t first, last, attributes;
    struct qm_span name;
};
static struct partition next_partition(struct gpt *g)
{
    struct qm_cur c = qm_cur_sub(&g->entries, g->entry_size);
    struct partition p = {.type = qm_cur_take(&c, QM_GUID_SIZE),
                          .guid = qm_cur_take(&c, QM_GUID_SIZE)};
    p.first = qm_cur_le64(&c);
    p.last = qm_cur_le64(&c);
    p.attributes = qm_cur_le64(&c);
    p.name = qm_cur_span(&c, 72);
    return p;
}

static bool line_gpt(struct qm_out *o, struct qm_span d)
{
    struct gpt g;
    if (!read_gpt(d, &g))
        return false;
    qm_out_text(o, "disk ");
    qm_guid_write(o, g.header.p + 56);
    qm_out_text(o, ", ");
    say_count(o, g.count, "partition", "partitions");
    for (uint64_t i = 0; i < g.count && i < SAY_LIST_MAX; i++) {
        qm_out_text(o, i == 0 ? ": " : ", ");
        say_guid(o, next_partition(&g).type);
    }
    if (g.count > SAY_LIST_MAX)
        qm_out_text(o, ", ...");
    return true;
}

static bool json_gpt(struct qm_emit *j, struct qm_span d)
{
    struct gpt g;
    if (!read_gpt(d, &g))
        return false;
    struct qm_cur c = g.header;
    qm_cur_take(&c, 8);
    put_0x(j, "revision", qm_cur_le32(&c));
    put_u64(j, "header_size", qm_cur_le32(&c));
    put_0x(j, "header_crc", qm_cur_le32(&c));
    qm_cur_take(&c, 4);
    put_u64(j, "my_lba", qm_cur_le64(&c));
    put_u64(j, "alternate_lba", qm_cur_le64(&c));
    put_u64(j, "first_usable_lba", qm_cur_le64(&c));
    put_u64(j, "last_usable_lba", qm_cur_le64(&c));
    put_guid(j, "disk_guid", "disk_guid_name", qm_cur_take(&c, QM_GUID_SIZE));
    put_u64(j, "entries_lba", qm_cur_le64(&c));
    put_u64(j, "entry_count", qm_cur_le32(&c));
    put_u64(j, "entry_size", qm_cur_le32(&c));
    put_0x(j, "entries_crc", qm_cur_le32(&c));
    qm_emit_key(j, "partitions");
    qm_emit_array(j);
    for (uint64_t i = 0; i < g.count; i++) {
        struct partition p = next_partition(&g);
        qm_emit_map(j);
        put_guid(j, "type", "type_name", p.type);
        put_guid(j, "guid", "guid_name", p.guid);
        put_u64(j, "first_lba", p.first);
        put_u64(j, "last_lba", p.last);
        put_0x(j, "attributes", p.attributes);
        put_ucs2(j, "name", p.name);
        qm_emit_end(j);
    }
    qm_emit_end(j);
    return true;
}

/* ---- EV_EFI_SPDM_*: DEVICE_SECURITY_EVENT_DATA, 10.2.8, and its second version
 * ----------------------------------------- */

struct spdm {
    bool second;
    uint32_t hash_alg, device_type, sub_type;
    uint64_t sub_uid;
    uint8_t auth_state;
    struct qm_span sub;    /* measurement block, or sub-header */
    struct qm_span path;   /* device path */
    struct qm_span device; /* device context */
};
static bool read_spdm(struct qm_span d, struct spdm *s)
{
    struct qm_cur c = qm_cur_init(d.p, d.len);
    qm_cur_take(&c, SIGNATURE_SIZE);
    memset(s, 0, sizeof *s);
    s->second = starts_with(d, "SPDM Device Sec2");
    if (!s->second && !starts_with(d, "SPDM Device Sec"))
        return false;
    qm_cur_take(&c, 2); /* Version */
    if (s->second) {
        s->auth_state = qm_cur_u8(&c);
        qm_cur_take(&c, 1 + 4); /* Reserved, Length */
        s->device_type = qm_cur_le32(&c);
        s->sub_type = qm_cur_le32(&c);
        uint32_t sub_len = qm_cur_le32(&c);
        s->sub_uid = qm_cur_le64(&c);
        uint64_t path_len = qm_cur_le64(&c);
        s->path = qm_cur_span(&c, path_len <= SIZE_MAX ? (size_t)path_len : SIZE_MAX);
        s->sub = qm_cur_span(&c, sub_len);
    } else {
        qm_cur_take(&c, 2); /* Length */
        s->hash_alg = qm_cur_le32(&c);
        s->device_type = qm_cur_le32(&c);
        /* SPDM_MEASUREMENT_BLOCK: Index, Specification, Size, Size bytes (DSP0274, 10.11.1) */
        const uint8_t *block = c.p;
        qm_cur_take(&c, 2);
        qm_cur_take(&c, qm_cur_le16(&c));
        s->sub = (struct qm_span){block, c.bad ? 0 : (size_t)(c.p - block)};
        uint64_t path_len = qm_cur_le64(&c);
        s->path = qm_cur_span(&c, path_len <= SIZE_MAX ? (size_t)path_len : SIZE_MAX);
    }
    s->device = qm_cur_span(&c, qm_cur_left(&c));
    return !c.bad;
}

static bool line_spdm(struct qm_out *o, struct qm_span d)
{
    struct spdm s;
    if (!read_spdm(d, &s))
        return line_any(o, d);
    qm_out_text(o, "SPDM device ");
    say_path(o, s.path);
    return true;
}
static bool json_spdm(struct qm_emit *j, struct qm_span d)
{
    struct spdm s;
    if (!read_spdm(d, &s))
        return json_any(j, d);
    put_u64(j, "version", s.second ? 2 : 1);
    put_u64(j, "device_type", s.device_type);
    if (s.second) {
        put_u64(j, "auth_state", s.auth_state);
        put_u64(j, "sub_header_type", s.sub_type);
        put_0x(j, "sub_header_uid", s.sub_uid);
        put_hex(j, "sub_header", s.sub);
    } else {
        put_0x(j, "spdm_hash_algorithm", s.hash_alg);
        put_hex(j, "measurement_block", s.sub);
    }
    put_path(j, "device_path", s.path);
    put_hex(j, "device_context", s.device);
    return true;
}

/* ---- the table
 * ----------------------------------------------------------------------------------------------------------
 */

enum form { FORM_ANY, FORM_IPL, FORM_VARIABLE };

/* Types that are not here are data of no particular form. */
static const struct decoder {
    uint32_t type;
    enum form form; /* which parts of the data may be what was hashed */
    line_fn *line;
    json_fn *json;
} decoders[] = {
    {0x00000001, FORM_ANY, line_blob, json_blob},              /* EV_POST_CODE */
    {0x00000003, FORM_ANY, line_no_action, json_no_action},    /* EV_NO_ACTION */
    {0x00000004, FORM_ANY, line_separator, json_separator},    /* EV_SEPARATOR */
    {0x00000006, FORM_ANY, line_tagged, json_tagged},          /* EV_EVENT_TAG */
    {0x00000007, FORM_ANY, line_blob, json_blob},              /* EV_S_CRTM_CONTENTS */
    {0x00000008, FORM_ANY, line_version, json_version},        /* EV_S_CRTM_VERSION */
    {0x00000009, FORM_ANY, line_blob, json_blob},              /* EV_CPU_MICROCODE */
    {0x0000000b, FORM_ANY, line_devices, json_devices},        /* EV_TABLE_OF_DEVICES */
    {0x0000000d, FORM_IPL, line_ipl, json_ipl},                /* EV_IPL */
    {0x00000013, FORM_ANY, line_blob2, json_blob2},            /* EV_POST_CODE2 */
    {0x80000001, FORM_VARIABLE, line_variable, json_variable}, /* EV_EFI_VARIABLE_DRIVER_CONFIG */
    {0x80000002, FORM_VARIABLE, line_variable, json_variable}, /* EV_EFI_VARIABLE_BOOT */
    {0x80000003, FORM_ANY, line_image, json_image},     /* EV_EFI_BOOT_SERVICES_APPLICATION */
    {0x80000004, FORM_ANY, line_image, json_image},     /* EV_EFI_BOOT_SERVICES_DRIVER */
    {0x80000005, FORM_ANY, line_image, json_image},     /* EV_EFI_RUNTIME_SERVICES_DRIVER */
    {0x80000006, FORM_ANY, line_gpt, json_gpt},         /* EV_EFI_GPT_EVENT */
    {0x80000008, FORM_ANY, line_blob, json_blob},       /* EV_EFI_PLATFORM_FIRMWARE_BLOB */
    {0x80000009, FORM_ANY, line_tables, json_tables},   /* EV_EFI_HANDOFF_TABLES */
    {0x8000000a, FORM_ANY, line_blob2, json_blob2},     /* EV_EFI_PLATFORM_FIRMWARE_BLOB2 */
    {0x8000000b, FORM_ANY, line_tables2, json_tables2}, /* EV_EFI_HANDOFF_TABLES2 */
    {0x8000000c, FORM_VARIABLE, line_variable, json_variable},   /* EV_EFI_VARIABLE_BOOT2 */
    {0x8000000d, FORM_ANY, line_gpt, json_gpt},                  /* EV_EFI_GPT_EVENT2 */
    {0x800000e0, FORM_VARIABLE, line_authority, json_authority}, /* EV_EFI_VARIABLE_AUTHORITY */
    {0x800000e1, FORM_ANY, line_spdm, json_spdm},                /* EV_EFI_SPDM_FIRMWARE_BLOB */
    {0x800000e2, FORM_ANY, line_spdm, json_spdm},                /* EV_EFI_SPDM_FIRMWARE_CONFIG */
    {0x800000e3, FORM_VARIABLE, line_variable, json_variable},   /* EV_EFI_SPDM_DEVICE_POLICY */
    {0x800000e4, FORM_VARIABLE, line_authority, json_authority}, /* EV_EFI_SPDM_DEVICE_AUTHORITY */
};

static const struct decoder *find_decoder(uint32_t type)
{
    static const struct decoder any = {0, FORM_ANY, line_any, json_any};
    for (size_t i = 0; i < QM_COUNT(decoders); i++)
        if (decoders[i].type == type)
            return &decoders[i];
    return &any;
}

void qm_event_describe(const struct qm_event *e, struct qm_out *o)
{
    size_t mark = o->len;
    if (find_decoder(e->type)->line(o, e->data))
        return;
    o->len = mark;
    line_any(o, e->data);
}

void qm_event_json(const struct qm_event *e, struct qm_out *o)
{
    struct qm_emit j = qm_emit_init(o, true);
    qm_emit_map(&j);
    struct qm_emit before = j;
    size_t mark = o->len;
    if (!find_decoder(e->type)->json(&j, e->data)) {
        j = before;
        o->len = mark;
        put_bool(&j, "malformed", true);
        put_any(&j, e->data);
    }
    qm_emit_end(&j);
}

/* ---- what was hashed
 * ----------------------------------------------------------------------------------------------------
 */

static unsigned add_part(struct qm_measured *parts, unsigned count, struct qm_span bytes,
                         const char *part)
{
    parts[count] = (struct qm_measured){bytes, part};
    return count + 1;
}

unsigned qm_event_measured(const struct qm_event *e, struct qm_measured parts[QM_MEASURED_MAX])
{
    if (!e->extends)
        return 0;
    struct qm_span d = e->data;
    unsigned count = add_part(parts, 0, d, "data");
    enum form form = find_decoder(e->type)->form;
    struct qm_efi_variable v;
    if (form == FORM_VARIABLE && qm_efi_variable_read(d, &v)) {
        /* Old firmware hashes the value alone (EFI Platform Specification 1.22, 5.2); shim leaves a
         * byte behind the structure. */
        size_t used = (size_t)(v.value.p + v.value.len - d.p);
        if (used != d.len)
            count = add_part(parts, count, (struct qm_span){d.p, used}, "structure");
        return add_part(parts, count, v.value, "value");
    }
    size_t label = form == FORM_IPL ? ipl_label_len(d) : 0;
    struct qm_span text = {d.p + label, d.len - label};
    if (label != 0)
        count = add_part(parts, count, text, "text");
    if (text.len != 0 && text.p[text.len - 1] == 0)
        count = add_part(parts, count, (struct qm_span){text.p, text.len - 1}, "text");
    return count;
}
