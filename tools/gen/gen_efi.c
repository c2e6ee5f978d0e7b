#include "tools/gen/gen_efi.h"

#include <stdio.h>

#include "tools/gen/gen_rand.h"

void qm_put_le(struct qm_out *o, uint64_t v, unsigned bytes)
{
    qm_out_bytes(o, &v, bytes);
}

void qm_put_be(struct qm_out *o, uint64_t v, unsigned bytes)
{
    uint64_t swapped = __builtin_bswap64(v);
    qm_out_bytes(o, (const uint8_t *)&swapped + (8 - bytes), bytes);
}

void qm_put_zeros(struct qm_out *o, size_t len)
{
    static const uint8_t zeros[64];
    for (size_t n; len != 0; len -= n) {
        n = len < sizeof zeros ? len : sizeof zeros;
        qm_out_bytes(o, zeros, n);
    }
}

void qm_put_utf16(struct qm_out *o, const char *text)
{
    for (; *text != '\0'; text++)
        qm_put_le(o, (uint8_t)*text, 2);
}

static uint64_t label_seed(const char *label)
{
    uint64_t h = 0;
    for (; *label != '\0'; label++)
        h = qm_gen_mix(h ^ (uint8_t)*label);
    return h;
}

void qm_put_noise(struct qm_out *o, const char *label, size_t len)
{
    uint64_t seed = label_seed(label);
    for (uint64_t i = 0; len != 0; i++) {
        uint64_t v = qm_gen_mix(seed ^ qm_gen_mix(i));
        size_t n = len < sizeof v ? len : sizeof v;
        qm_out_bytes(o, &v, n);
        len -= n;
    }
}

struct qm_guid qm_guid_of(const char *text)
{
    static const uint8_t at[16] = {6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34};
    struct qm_guid g = {{0}};
    for (size_t i = 0; i < sizeof at; i++)
        (void)qm_hex_read(text + at[i], &g.b[i], 1);
    return g;
}

void qm_put_guid(struct qm_out *o, struct qm_guid g)
{
    qm_out_bytes(o, g.b, sizeof g.b);
}

void qm_put_variable(struct qm_out *o, const char *guid, const char *name, size_t data_len)
{
    qm_put_guid(o, qm_guid_of(guid));
    qm_put_le(o, strlen(name), 8);
    qm_put_le(o, data_len, 8);
    qm_put_utf16(o, name);
}

/* DER is written from its end to its start, so that every length is known when its turn comes. */
struct der {
    uint8_t *buf;
    size_t at; /* where the last written byte stands; the space before is free */
};

static void der_bytes(struct der *d, const void *p, size_t len)
{
    d->at -= len;
    memcpy(d->buf + d->at, p, len);
}

/* Puts tag and length before everything written since end. */
static void der_wrap(struct der *d, uint8_t tag, size_t end)
{
    size_t len = end - d->at;
    if (len < 128) {
        der_bytes(d, (uint8_t[]){tag, (uint8_t)len}, 2);
    } else if (len < 256) {
        der_bytes(d, (uint8_t[]){tag, 0x81, (uint8_t)len}, 3);
    } else {
        der_bytes(d, (uint8_t[]){tag, 0x82, (uint8_t)(len >> 8), (uint8_t)len}, 4);
    }
}

/* Noise as a BIT STRING's or an INTEGER's bytes; set in front: its first byte. */
static void der_noise(struct der *d, const char *label, const char *what, size_t len,
                      bool top_and_low)
{
    char full[160];
    snprintf(full, sizeof full, "%s of %s", what, label);
    d->at -= len;
    struct qm_out o = qm_out_init(d->buf + d->at, len);
    qm_put_noise(&o, full, len);
    if (top_and_low) { /* a modulus: as long as it says, and odd */
        d->buf[d->at] |= 0x80;
        d->buf[d->at + len - 1] |= 1;
    }
}

static void der_name(struct der *d, const char *cn)
{
    static const uint8_t oid_cn[] = {0x06, 0x03, 0x55, 0x04, 0x03};
    size_t end = d->at;
    der_bytes(d, cn, strlen(cn));
    der_wrap(d, 0x0c, end); /* UTF8String */
    der_bytes(d, oid_cn, sizeof oid_cn);
    der_wrap(d, 0x30, end);
    der_wrap(d, 0x31, end);
    der_wrap(d, 0x30, end);
}

static const uint8_t sha256_with_rsa[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                          0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00};

static void der_public_key(struct der *d, const char *label, size_t modulus_len)
{
    static const uint8_t rsa[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                  0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
    static const uint8_t exponent[] = {0x02, 0x03, 0x01, 0x00, 0x01};
    size_t end = d->at;
    der_bytes(d, exponent, sizeof exponent);
    size_t modulus_end = d->at;
    der_noise(d, label, "modulus", modulus_len, true);
    der_bytes(d, "", 1); /* the sign */
    der_wrap(d, 0x02, modulus_end);
    der_wrap(d, 0x30, end);
    der_bytes(d, "", 1); /* no unused bits */
    der_wrap(d, 0x03, end);
    der_bytes(d, rsa, sizeof rsa);
    der_wrap(d, 0x30, end);
}

/* RFC 5280, 4.1. */
size_t qm_cert_make(uint8_t *out, const char *subject, const char *issuer, unsigned rsa_bits)
{
    static const uint8_t basic_constraints_ca[] = {0xa3, 0x13, 0x30, 0x11, 0x30, 0x0f, 0x06,
                                                   0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0xff,
                                                   0x04, 0x05, 0x30, 0x03, 0x01, 0x01, 0xff};
    static const uint8_t version3[] = {0xa0, 0x03, 0x02, 0x01, 0x02};
    uint8_t buf[QM_CERT_MAX];
    struct der d = {buf, sizeof buf};
    der_noise(&d, subject, "signature", rsa_bits / 8, false);
    d.buf[d.at] &= 0x7f;
    der_bytes(&d, "", 1);
    der_wrap(&d, 0x03, sizeof buf);
    der_bytes(&d, sha256_with_rsa, sizeof sha256_with_rsa);
    size_t tbs_end = d.at;
    der_bytes(&d, basic_constraints_ca, sizeof basic_constraints_ca);
    der_public_key(&d, subject, rsa_bits / 8);
    der_name(&d, subject);
    size_t validity_end = d.at;
    der_bytes(&d,
              "\x17\x0d"
              "380601000000Z",
              15);
    der_bytes(&d,
              "\x17\x0d"
              "210601000000Z",
              15);
    der_wrap(&d, 0x30, validity_end);
    der_name(&d, issuer);
    der_bytes(&d, sha256_with_rsa, sizeof sha256_with_rsa);
    size_t serial_end = d.at;
    der_noise(&d, subject, "serial", 16, false);
    d.buf[d.at] = (uint8_t)((d.buf[d.at] & 0x7f) | 0x40);
    der_wrap(&d, 0x02, serial_end);
    der_bytes(&d, version3, sizeof version3);
    der_wrap(&d, 0x30, tbs_end);
    der_wrap(&d, 0x30, sizeof buf);
    memcpy(out, buf + d.at, sizeof buf - d.at);
    return sizeof buf - d.at;
}

#define GUID_CERT_X509   "a5c059a1-94e4-4aa7-87b5-ab155c2bf072" /* EFI_CERT_X509_GUID */
#define GUID_CERT_SHA256 "c1c41626-504c-4092-aca9-41f936934328" /* EFI_CERT_SHA256_GUID */
#define GUID_MICROSOFT   "77fa9abd-0359-4d32-bd60-28f4e78f784b"

enum { LIST_HEADER_LEN = 28, HASH_ENTRY_LEN = 48 };

static void put_list_header(struct qm_out *o, const char *type, size_t entry_len, size_t count)
{
    qm_put_guid(o, qm_guid_of(type));
    qm_put_le(o, LIST_HEADER_LEN + entry_len * count, 4);
    qm_put_le(o, 0, 4);
    qm_put_le(o, entry_len, 4);
}

void qm_put_cert_list(struct qm_out *o, const char *owner, const uint8_t *cert, size_t len)
{
    put_list_header(o, GUID_CERT_X509, 16 + len, 1);
    qm_put_guid(o, qm_guid_of(owner));
    qm_out_bytes(o, cert, len);
}

size_t qm_hash_list_size(size_t count)
{
    return LIST_HEADER_LEN + HASH_ENTRY_LEN * count;
}

void qm_put_hash_list(struct qm_out *o, size_t count, const char *label)
{
    struct qm_guid owner = qm_guid_of(GUID_MICROSOFT);
    put_list_header(o, GUID_CERT_SHA256, HASH_ENTRY_LEN, count);
    for (size_t i = 0; i < count; i++) {
        char entry[96];
        snprintf(entry, sizeof entry, "%s %zu", label, i);
        qm_put_guid(o, owner);
        qm_put_noise(o, entry, 32);
    }
}

static void put_node(struct qm_out *o, uint8_t type, uint8_t subtype, size_t len)
{
    qm_put_le(o, type, 1);
    qm_put_le(o, subtype, 1);
    qm_put_le(o, len, 2);
}

void qm_put_path_pci(struct qm_out *o, uint8_t device, uint8_t function)
{
    put_node(o, 2, 1, 12);
    qm_put_le(o, 0x0a0341d0, 4); /* PNP0A03 */
    qm_put_le(o, 0, 4);
    put_node(o, 1, 1, 6);
    qm_put_le(o, function, 1);
    qm_put_le(o, device, 1);
}

void qm_put_path_nvme(struct qm_out *o)
{
    put_node(o, 3, 23, 16);
    qm_put_le(o, 1, 4);
    qm_put_le(o, 0, 8);
}

void qm_put_path_sata(struct qm_out *o, uint16_t port)
{
    put_node(o, 3, 18, 10);
    qm_put_le(o, port, 2);
    qm_put_le(o, 0xffff, 2);
    qm_put_le(o, 0, 2);
}

void qm_put_path_scsi(struct qm_out *o, uint16_t target)
{
    put_node(o, 3, 2, 8);
    qm_put_le(o, target, 2);
    qm_put_le(o, 0, 2);
}

void qm_put_path_mac(struct qm_out *o)
{
    put_node(o, 3, 11, 37);
    qm_put_zeros(o, 32);
    qm_put_le(o, 1, 1);
}

void qm_put_path_hd(struct qm_out *o, uint64_t first_lba, uint64_t blocks)
{
    put_node(o, 4, 1, 42);
    qm_put_le(o, 1, 4);
    qm_put_le(o, first_lba, 8);
    qm_put_le(o, blocks, 8);
    qm_put_zeros(o, 16);
    qm_put_le(o, 2, 1); /* GPT */
    qm_put_le(o, 2, 1); /* the signature is a GUID */
}

void qm_put_path_file(struct qm_out *o, const char *path)
{
    put_node(o, 4, 4, 4 + 2 * (strlen(path) + 1));
    qm_put_utf16(o, path);
    qm_put_le(o, 0, 2);
}

void qm_put_path_fv(struct qm_out *o, const char *volume, const char *file)
{
    put_node(o, 4, 7, 20);
    qm_put_guid(o, qm_guid_of(volume));
    put_node(o, 4, 6, 20);
    qm_put_guid(o, qm_guid_of(file));
}

void qm_put_path_range(struct qm_out *o, uint64_t start, uint64_t end)
{
    put_node(o, 4, 8, 24);
    qm_put_le(o, 0, 4);
    qm_put_le(o, start, 8);
    qm_put_le(o, end, 8);
}

void qm_put_path_end(struct qm_out *o)
{
    put_node(o, 0x7f, 0xff, 4);
}

void qm_put_gpt(struct qm_out *o, uint64_t disk_blocks, const struct qm_gpt_partition *partitions,
                size_t count)
{
    qm_out_bytes(o, "EFI PART", 8);
    qm_put_le(o, 0x00010000, 4);
    qm_put_le(o, QM_GPT_HEADER_LEN, 4);
    qm_put_le(o, 0, 4); /* HeaderCRC32 */
    qm_put_le(o, 0, 4);
    qm_put_le(o, 1, 8);               /* MyLBA */
    qm_put_le(o, disk_blocks - 1, 8); /* AlternateLBA */
    qm_put_le(o, 34, 8);
    qm_put_le(o, disk_blocks - 34, 8);
    qm_put_zeros(o, 16); /* DiskGUID */
    qm_put_le(o, 2, 8);
    qm_put_le(o, 128, 4);
    qm_put_le(o, QM_GPT_ENTRY_LEN, 4);
    qm_put_le(o, 0, 4); /* PartitionEntryArrayCRC32 */
    qm_put_le(o, count, 8);
    for (size_t i = 0; i < count; i++) {
        qm_put_guid(o, qm_guid_of(partitions[i].type));
        qm_put_zeros(o, 16);
        qm_put_le(o, partitions[i].first, 8);
        qm_put_le(o, partitions[i].last, 8);
        qm_put_le(o, 0, 8);
        qm_put_utf16(o, partitions[i].name);
        qm_put_zeros(o, 72 - 2 * strlen(partitions[i].name));
    }
}

uint32_t qm_crc32(const uint8_t *p, size_t len)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}
