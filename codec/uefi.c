#include "codec/uefi.h"

void qm_out_0x(struct qm_out *o, uint64_t v)
{
    char digits[18] = "0x";
    size_t len = 2;
    for (int shift = 60; shift >= 0; shift -= 4)
        if (v >> shift != 0 || shift == 0)
            digits[len++] = "0123456789abcdef"[v >> shift & 15];
    qm_out_bytes(o, digits, len);
}

void qm_guid_write(struct qm_out *o, const uint8_t *p)
{
    /* The first three fields are little-endian integers, the rest are bytes. */
    static const uint8_t order[QM_GUID_SIZE] = {3, 2, 1,  0,  5,  4,  7,  6,
                                                8, 9, 10, 11, 12, 13, 14, 15};
    char text[QM_GUID_TEXT];
    size_t len = 0;
    for (unsigned i = 0; i < QM_GUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[len++] = '-';
        qm_hex_write(text + len, p + order[i], 1);
        len += 2;
    }
    qm_out_bytes(o, text, len);
}

static const struct {
    const char *guid, *name;
} guid_names[] = {
    {"8be4df61-93ca-11d2-aa0d-00e098032b8c", "EFI global variable"},
    {"d719b2cb-3d3a-4596-a3bc-dad00e67656f", "EFI image security database"},
    {"605dab50-e046-4300-abb6-3dd810dd8b23", "shim"},
    {"77fa9abd-0359-4d32-bd60-28f4e78f784b", "Microsoft"},
    {"4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "systemd"},
    /* signature types, 32.4.1 */
    {"a5c059a1-94e4-4aa7-87b5-ab155c2bf072", "X.509"},
    {"c1c41626-504c-4092-aca9-41f936934328", "SHA-256"},
    {"826ca512-cf10-4ac9-b187-be01496631bd", "SHA-1"},
    {"0b6e5233-a65c-44c9-9407-d9ab83bfc8bd", "SHA-224"},
    {"ff3e5307-9fd0-48c9-85f1-8ad56c701e01", "SHA-384"},
    {"093e0fae-a6c4-4f50-9f1b-d41e2b89c19a", "SHA-512"},
    {"3c5766e8-269c-4e34-aa14-ed776e85b3b6", "RSA-2048"},
    {"e2b36190-879b-4a3d-ad8d-f2e7bba32784", "RSA-2048 SHA-256"},
    {"3bd2a492-96c0-4079-b420-fcf98ef103ed", "X.509 SHA-256"},
    {"7076876e-80c2-4ee6-aad2-28b349a6865b", "X.509 SHA-384"},
    {"446dbf63-2502-4cda-bcfa-2465d2b0fe9d", "X.509 SHA-512"},
    {"4aafd29d-68df-49ee-8aa9-347d375665a7", "PKCS#7"},
    /* configuration tables, 4.6 */
    {"eb9d2d30-2d88-11d3-9a16-0090273fc14d", "ACPI 1.0"},
    {"8868e871-e4f1-11d3-bc22-0080c73c8881", "ACPI 2.0"},
    {"eb9d2d31-2d88-11d3-9a16-0090273fc14d", "SMBIOS"},
    {"f2fd1544-9794-4a2c-992e-e5bbcf20e394", "SMBIOS 3"},
    /* partition types, 5.3.3 and the discoverable partitions specification */
    {"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system"},
    {"21686148-6449-6e6f-744e-656564454649", "BIOS boot"},
    {"bc13c2ff-59e6-4262-a352-b275fd6f7172", "extended boot loader"},
    {"e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved"},
    {"ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"},
    {"de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery"},
    {"0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux filesystem"},
    {"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"},
    {"e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"},
    {"a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"},
    {"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)"},
    {"933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home"},
    {"ca7d7ccb-63ed-4c53-861c-1742536059cc", "LUKS"},
    {"2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "Linux root verity (x86-64)"},
    {"fe3a2a5d-4f32-41a7-b725-accc3285a309", "ChromeOS kernel"},
    {"3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec", "ChromeOS root"},
};

const char *qm_guid_name(const uint8_t *p)
{
    char text[QM_GUID_TEXT];
    struct qm_out o = qm_out_init(text, sizeof text);
    qm_guid_write(&o, p);
    for (size_t i = 0; i < QM_COUNT(guid_names); i++)
        if (memcmp(text, guid_names[i].guid, sizeof text) == 0)
            return guid_names[i].name;
    return NULL;
}

static void utf8_write(struct qm_out *o, uint32_t code)
{
    uint8_t b[4];
    size_t len = 0;
    if (code < 0x80) {
        b[len++] = (uint8_t)code;
    } else if (code < 0x800) {
        b[len++] = (uint8_t)(0xc0 | code >> 6);
        b[len++] = (uint8_t)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        b[len++] = (uint8_t)(0xe0 | code >> 12);
        b[len++] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        b[len++] = (uint8_t)(0x80 | (code & 0x3f));
    } else {
        b[len++] = (uint8_t)(0xf0 | code >> 18);
        b[len++] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
        b[len++] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        b[len++] = (uint8_t)(0x80 | (code & 0x3f));
    }
    qm_out_bytes(o, b, len);
}

void qm_ucs2_write(struct qm_out *o, struct qm_span s)
{
    for (size_t i = 0; i + 1 < s.len && !o->full; i += 2) {
        uint32_t code = qm_load_le16(s.p + i);
        if (code == 0)
            return;
        if (code >= 0xd800 && code < 0xdc00 && s.len - i >= 4) {
            uint32_t low = qm_load_le16(s.p + i + 2);
            if (low >= 0xdc00 && low < 0xe000) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                i += 2;
            }
        }
        utf8_write(o, code);
    }
}

bool qm_ucs2_is(struct qm_span s, const char *ascii)
{
    size_t len = strlen(ascii);
    if (s.len != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (qm_load_le16(s.p + 2 * i) != (uint8_t)ascii[i])
            return false;
    return true;
}

static bool printable(uint32_t code)
{
    return code == '\t' || code == '\n' || code == '\r' ||
           (code >= 0x20 && code != 0x7f && (code < 0x80 || code >= 0xa0));
}

bool qm_text_is_utf8(struct qm_span *s)
{
    size_t len = s->len;
    while (len != 0 && s->p[len - 1] == 0)
        len--;
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t code;
        if ((n = qm_utf8_read(s->p + i, len - i, &code)) == 0 || !printable(code))
            return false;
    }
    if (len == 0)
        return false;
    s->len = len;
    return true;
}

/* Most binary data could be Chinese: at least half of it must be ASCII, and none beyond what
 * European scripts use. */
bool qm_text_is_ucs2(struct qm_span *s)
{
    size_t len = s->len;
    if (len % 2 != 0)
        return false;
    while (len != 0 && qm_load_le16(s->p + len - 2) == 0)
        len -= 2;
    size_t ascii = 0;
    for (size_t i = 0; i < len; i += 2) {
        uint32_t code = qm_load_le16(s->p + i);
        if (!printable(code) || code >= 0x2100)
            return false;
        ascii += code < 0x80;
    }
    if (len < 4 || 4 * ascii < len)
        return false;
    s->len = len;
    return true;
}

bool qm_efi_variable_read(struct qm_span data, struct qm_efi_variable *out)
{
    struct qm_cur c = qm_cur_init(data.p, data.len);
    out->guid = qm_cur_take(&c, QM_GUID_SIZE);
    uint64_t units = qm_cur_le64(&c);
    uint64_t bytes = qm_cur_le64(&c);
    if (c.bad || units > qm_cur_left(&c) / 2 || bytes > qm_cur_left(&c) - 2 * units)
        return false;
    out->name = qm_cur_span(&c, 2 * (size_t)units);
    out->value = qm_cur_span(&c, (size_t)bytes);
    return true;
}

bool qm_load_option_read(struct qm_span data, struct qm_load_option *out)
{
    struct qm_cur c = qm_cur_init(data.p, data.len);
    out->attributes = qm_cur_le32(&c);
    size_t path_len = qm_cur_le16(&c);
    out->description.p = c.p;
    while (qm_cur_le16(&c) != 0)
        ;
    if (c.bad)
        return false;
    out->description.len = (size_t)(c.p - out->description.p) - 2;
    out->path = qm_cur_span(&c, path_len);
    out->optional = qm_cur_span(&c, qm_cur_left(&c));
    return !c.bad;
}

bool qm_sigdb_next(struct qm_sigdb *s, struct qm_sigdb_entry *entry)
{
    while (qm_cur_left(&s->entries) == 0) {
        if (s->lists.bad || qm_cur_left(&s->lists) == 0)
            return false;
        s->type = qm_cur_take(&s->lists, QM_GUID_SIZE);
        uint32_t list_size = qm_cur_le32(&s->lists);
        uint32_t header_size = qm_cur_le32(&s->lists);
        s->entry_size = qm_cur_le32(&s->lists);
        enum { FIXED = QM_GUID_SIZE + 3 * 4 };
        if (s->lists.bad || list_size < FIXED || header_size > list_size - FIXED ||
            s->entry_size < QM_GUID_SIZE ||
            (list_size - FIXED - header_size) % s->entry_size != 0) {
            s->lists.bad = true;
            return false;
        }
        qm_cur_take(&s->lists, header_size);
        s->entries = qm_cur_sub(&s->lists, list_size - FIXED - header_size);
        if (s->lists.bad)
            return false;
    }
    entry->type = s->type;
    entry->owner = qm_cur_take(&s->entries, QM_GUID_SIZE);
    entry->data = qm_cur_span(&s->entries, s->entry_size - QM_GUID_SIZE);
    return !s->entries.bad;
}

enum qm_sig_kind qm_sigdb_kind(const uint8_t *type)
{
    const char *name = qm_guid_name(type);
    if (name == NULL)
        return QM_SIGDB_OTHER;
    return strcmp(name, "X.509") == 0     ? QM_SIGDB_X509
           : strcmp(name, "SHA-256") == 0 ? QM_SIGDB_SHA256
                                          : QM_SIGDB_OTHER;
}

/* ---- X.509
 * ---------------------------------------------------------------------------------------------------------
 */

enum {
    DER_OID = 0x06,
    DER_UTF8 = 0x0c,
    DER_PRINTABLE = 0x13,
    DER_T61 = 0x14,
    DER_IA5 = 0x16,
    DER_SEQUENCE = 0x30,
    DER_SET = 0x31,
    DER_VERSION = 0xa0
};

/* One tag, length, value; a cursor over the value. Lengths of up to four bytes (X.690, 8.1.3). */
static struct qm_cur der_next(struct qm_cur *c, uint8_t *tag)
{
    *tag = qm_cur_u8(c);
    size_t len = qm_cur_u8(c);
    if (len >= 0x80) {
        size_t bytes = len & 0x7f;
        if (bytes == 0 || bytes > 4)
            c->bad = true;
        for (len = 0; bytes != 0 && !c->bad; bytes--)
            len = len << 8 | qm_cur_u8(c);
    }
    return qm_cur_sub(c, len);
}

static struct qm_cur der_want(struct qm_cur *c, uint8_t want)
{
    uint8_t tag;
    struct qm_cur v = der_next(c, &tag);
    if (tag != want)
        v.bad = c->bad = true;
    return v;
}

bool qm_cert_name(struct qm_span der, struct qm_span *name)
{
    static const uint8_t common_name[3] = {0x55, 0x04, 0x03}, organization[3] = {0x55, 0x04, 0x0a};
    struct qm_cur all = qm_cur_init(der.p, der.len);
    struct qm_cur cert = der_want(&all, DER_SEQUENCE);
    struct qm_cur tbs = der_want(&cert, DER_SEQUENCE);
    uint8_t tag;
    if (qm_cur_left(&tbs) != 0 && tbs.p[0] == DER_VERSION)
        der_next(&tbs, &tag);
    for (int i = 0; i < 4; i++) /* serialNumber, signature, issuer, validity */
        der_next(&tbs, &tag);
    struct qm_cur subject = der_want(&tbs, DER_SEQUENCE);
    bool found = false;
    while (!subject.bad && qm_cur_left(&subject) != 0) {
        struct qm_cur set = der_want(&subject, DER_SET);
        struct qm_cur pair = der_want(&set, DER_SEQUENCE);
        struct qm_cur oid = der_want(&pair, DER_OID);
        struct qm_cur value = der_next(&pair, &tag);
        if (value.bad || qm_cur_left(&oid) != sizeof common_name)
            continue;
        bool is_common = memcmp(oid.p, common_name, sizeof common_name) == 0;
        if (!is_common && (found || memcmp(oid.p, organization, sizeof organization) != 0))
            continue;
        if (tag != DER_UTF8 && tag != DER_PRINTABLE && tag != DER_IA5 && tag != DER_T61)
            continue;
        *name = (struct qm_span){value.p, qm_cur_left(&value)};
        found = true;
        if (is_common)
            break;
    }
    return found;
}
