/* The UEFI structures that firmware measures, written as bytes: variables, signature lists, device
 * paths, load options, GPT. All little-endian (UEFI 2.10; TCG PC Client Platform Firmware Profile,
 * section 10). What is written goes to the end of a bounded writer; running full is remembered
 * there. */
#ifndef QM_GEN_EFI_H
#define QM_GEN_EFI_H

#include "codec/base.h"
#include "codec/text.h"

void qm_put_le(struct qm_out *o, uint64_t v, unsigned bytes);
void qm_put_be(struct qm_out *o, uint64_t v, unsigned bytes);
void qm_put_zeros(struct qm_out *o, size_t len);
/* ASCII to UTF-16, without a terminator. */
void qm_put_utf16(struct qm_out *o, const char *text);
/* Bytes that look random and depend on the label only. */
void qm_put_noise(struct qm_out *o, const char *label, size_t len);

struct qm_guid {
    uint8_t b[16]; /* as it stands in memory: the first three fields little-endian */
};
/* From "8be4df61-93ca-11d2-aa0d-00e098032b8c", which must be well-formed. */
struct qm_guid qm_guid_of(const char *text);
void qm_put_guid(struct qm_out *o, struct qm_guid g);

#define QM_GUID_GLOBAL "8be4df61-93ca-11d2-aa0d-00e098032b8c" /* EFI_GLOBAL_VARIABLE */
#define QM_GUID_SECURITY                                                                           \
    "d719b2cb-3d3a-4596-a3bc-dad00e67656f"                  /* EFI_IMAGE_SECURITY_DATABASE_GUID */
#define QM_GUID_SHIM "605dab50-e046-4300-abb6-3dd810dd8b23" /* shim's lock protocol */

/* UEFI_VARIABLE_DATA up to its VariableData, which the caller writes next: data_len bytes
 * (profile, 10.2.6). */
void qm_put_variable(struct qm_out *o, const char *guid, const char *name, size_t data_len);

/* A DER certificate with that subject and issuer, an RSA key and a signature of rsa_bits made of
 * noise: it parses, and it verifies nothing. out has QM_CERT_MAX bytes; gives its length. */
enum { QM_CERT_MAX = 2048 };
size_t qm_cert_make(uint8_t *out, const char *subject, const char *issuer, unsigned rsa_bits);

/* EFI_SIGNATURE_LIST (UEFI 2.10, 32.4.1) with one X.509 certificate. */
void qm_put_cert_list(struct qm_out *o, const char *owner, const uint8_t *cert, size_t len);
/* The same with count SHA-256 hashes. Their owner is Microsoft's GUID, as in every dbx. */
void qm_put_hash_list(struct qm_out *o, size_t count, const char *label);
size_t qm_hash_list_size(size_t count);

/* Device path nodes (UEFI 2.10, chapter 10). */
void qm_put_path_pci(struct qm_out *o, uint8_t device,
                     uint8_t function); /* PciRoot(0)/Pci(device,function) */
void qm_put_path_nvme(struct qm_out *o);
void qm_put_path_sata(struct qm_out *o, uint16_t port);
void qm_put_path_scsi(struct qm_out *o, uint16_t target);
void qm_put_path_mac(struct qm_out *o); /* the address is zero; it stands QM_PATH_MAC_AT bytes
                                           behind the node's start */
enum { QM_PATH_MAC_AT = 4 };
/* HD(1,GPT,…): the partition's GUID is zero; it stands QM_PATH_HD_GUID_AT bytes behind the node's
 * start. */
void qm_put_path_hd(struct qm_out *o, uint64_t first_lba, uint64_t blocks);
enum { QM_PATH_HD_GUID_AT = 24 };
void qm_put_path_file(struct qm_out *o, const char *path);
void qm_put_path_fv(struct qm_out *o, const char *volume, const char *file);
void qm_put_path_range(struct qm_out *o, uint64_t start,
                       uint64_t end); /* Offset(start,end), a option ROM's */
void qm_put_path_end(struct qm_out *o);

/* UEFI_GPT_DATA (profile, 10.2.7) of a disk with partitions whose GUIDs and CRCs are zero. */
enum {
    QM_GPT_HEADER_LEN = 92,
    QM_GPT_CRC_AT = 16, /* HeaderCRC32 */
    QM_GPT_DISK_GUID_AT = 56,
    QM_GPT_ARRAY_CRC_AT = 88,
    QM_GPT_ENTRIES_AT = QM_GPT_HEADER_LEN + 8,
    QM_GPT_ENTRY_LEN = 128,
    QM_GPT_ENTRY_GUID_AT = 16, /* UniquePartitionGUID */
};
struct qm_gpt_partition {
    const char *type; /* a GUID */
    const char *name;
    uint64_t first, last;
};
void qm_put_gpt(struct qm_out *o, uint64_t disk_blocks, const struct qm_gpt_partition *partitions,
                size_t count);

/* CRC-32 as the GPT's (UEFI 2.10, 4.2). */
uint32_t qm_crc32(const uint8_t *p, size_t len);

#endif
