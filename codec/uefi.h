/* What UEFI and TCG event data are made of: GUIDs, UCS-2 strings, device paths, variables, load
 * options, signature lists, the name in a certificate (UEFI specification 2.10). Reading only: no
 * allocation, no recursion, every length checked.
 *
 * The writers append plain text, UTF-8 except where the evidence is none: escaping is the caller's,
 * once, where the text is shown (qm_out_shown) or becomes JSON (qm_emit_text). */
#ifndef QM_UEFI_H
#define QM_UEFI_H

#include "codec/cursor.h"
#include "codec/text.h"

enum { QM_GUID_SIZE = 16, QM_GUID_TEXT = 36 };

/* "8be4df61-93ca-11d2-aa0d-00e098032b8c" (appendix A). p: 16 bytes. */
void qm_guid_write(struct qm_out *o, const uint8_t *p);
/* What that GUID is known as, or NULL. */
const char *qm_guid_name(const uint8_t *p);
/* "0x1f" */
void qm_out_0x(struct qm_out *o, uint64_t v);

/* UTF-16, little-endian, up to its end or a NUL. Lone surrogates become bytes that are no UTF-8, an
 * odd last byte is left out. */
void qm_ucs2_write(struct qm_out *o, struct qm_span s);
bool qm_ucs2_is(struct qm_span s, const char *ascii);
/* Is it text (printable, not empty)? If so, trailing NULs are cut off s. */
bool qm_text_is_utf8(struct qm_span *s);
bool qm_text_is_ucs2(struct qm_span *s);

/* The text form of a device path (10.6). False: a node whose length lies; what stands before it was
 * written, then "...". */
bool qm_device_path_write(struct qm_out *o, struct qm_span path);
/* The file path nodes of it alone, joined: what a person looks for first. False: there are none. */
bool qm_device_path_file(struct qm_out *o, struct qm_span path);

/* UEFI_VARIABLE_DATA (Firmware Profile 10.2.6). Bytes may be left over behind value. */
struct qm_efi_variable {
    const uint8_t *guid;
    struct qm_span name; /* UCS-2 */
    struct qm_span value;
};
bool qm_efi_variable_read(struct qm_span data, struct qm_efi_variable *out);

/* EFI_LOAD_OPTION (3.1.3). */
struct qm_load_option {
    uint32_t attributes;
    struct qm_span description; /* UCS-2 */
    struct qm_span path;
    struct qm_span optional;
};
bool qm_load_option_read(struct qm_span data, struct qm_load_option *out);

/* EFI_SIGNATURE_LISTs, one entry at a time (32.4.1). Zeroed but for the cursor at the start. */
struct qm_sigdb {
    struct qm_cur lists;
    struct qm_cur entries; /* left of the present list */
    const uint8_t *type;   /* of the present list */
    uint32_t entry_size;
};
struct qm_sigdb_entry {
    const uint8_t *type;  /* GUID of the list */
    const uint8_t *owner; /* GUID */
    struct qm_span data;
};
/* False: no more; s->lists.bad says whether that is because of damage. */
bool qm_sigdb_next(struct qm_sigdb *s, struct qm_sigdb_entry *entry);
enum qm_sig_kind { QM_SIGDB_OTHER, QM_SIGDB_X509, QM_SIGDB_SHA256 };
enum qm_sig_kind qm_sigdb_kind(const uint8_t *type);

/* The common name of an X.509 certificate's subject, or its organization, in UTF-8 or ASCII (RFC
 * 5280, 4.1). False: none found. */
bool qm_cert_name(struct qm_span der, struct qm_span *name);

#endif
