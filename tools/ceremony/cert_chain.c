#include "tools/ceremony/cert_chain.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "codec/text.h"
#include "tools/line_read.h"

enum { DEPTH_MAX = 8, SECURITY_LEVEL = 2 /* 112 bits: no SHA-1, no RSA under 2048 */ };
#define OID_EK_CERTIFICATE "2.23.133.8.1" /* tcg-kp-EKCertificate */
#define OID_AK_CERTIFICATE "2.23.133.8.3" /* tcg-kp-AIKCertificate */
#define OID_TPM_MANUFACTURER "2.23.133.2.1"

struct qm_trust {
    X509_STORE *store;
    time_t now;
    bool crls; /* there are revocation lists: a leaf has to be looked up in one */
};

static qm_err refuse(struct qm_fault *fault, const char *why)
{
    ERR_clear_error();
    return qm_fail(fault, QM_E_REFUSED, 0, "%s", why);
}

static qm_err no_memory(struct qm_fault *fault)
{
    ERR_clear_error();
    return qm_fail(fault, QM_E_NOMEM, 0, "no memory for certificates");
}

/* ---- what is trusted ----------------------------------------------------------------------------------------------------- */

qm_err qm_trust_open(struct qm_trust **out, uint64_t now_ms, struct qm_fault *fault)
{
    struct qm_trust *t = calloc(1, sizeof *t);
    *out = t;
    if (t == NULL || (t->store = X509_STORE_new()) == NULL) {
        free(t);
        *out = NULL;
        return no_memory(fault);
    }
    t->now = (time_t)(now_ms / 1000);
    return QM_OK;
}

void qm_trust_close(struct qm_trust *t)
{
    if (t != NULL)
        X509_STORE_free(t->store);
    free(t);
}

/* The certificates of a text in PEM, in their order; what stands between them is skipped. */
static STACK_OF(X509) *read_pem(const char *text, size_t len)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    X509 *one;
    bool ok = all != NULL && bio != NULL;
    while (ok && (one = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        if (sk_X509_push(all, one) == 0) {
            X509_free(one);
            ok = false;
        }
    /* the end of the text, and not a certificate that cannot be read */
    ok = ok && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    BIO_free(bio);
    if (ok)
        return all;
    sk_X509_pop_free(all, X509_free);
    return NULL;
}

static STACK_OF(X509) *read_der(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    STACK_OF(X509) *all = sk_X509_new_null();
    X509 *one = d2i_X509(NULL, &p, (long)len);
    if (all != NULL && one != NULL && p == (const unsigned char *)text + len && sk_X509_push(all, one) != 0)
        return all;
    ERR_clear_error();
    X509_free(one);
    sk_X509_free(all);
    return NULL;
}

qm_err qm_trust_add(struct qm_trust *t, const char *path, struct qm_fault *fault)
{
    char *text;
    size_t len = 0;
    qm_err err = qm_file_read(path, QM_TRUST_FILE_MAX, &text, &len, fault);
    if (err != QM_OK)
        return err;
    STACK_OF(X509) *all = len != 0 && text[0] == 0x30 ? read_der(text, len) : read_pem(text, len);
    free(text);
    if (all == NULL || sk_X509_num(all) == 0)
        err = qm_fail(fault, QM_E_USAGE, 0, "%s has no certificate, or one that cannot be read", path);
    for (int i = 0; err == QM_OK && i < sk_X509_num(all); i++) {
        if (X509_check_ca(sk_X509_value(all, i)) == 0)
            err = qm_fail(fault, QM_E_USAGE, 0, "%s: certificate %d is no CA's", path, i + 1);
        else if (X509_STORE_add_cert(t->store, sk_X509_value(all, i)) != 1)
            err = no_memory(fault);
    }
    sk_X509_pop_free(all, X509_free);
    return err;
}

/* NULL: the text has none, or one that cannot be read. */
static STACK_OF(X509_CRL) *read_crls(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    STACK_OF(X509_CRL) *all = sk_X509_CRL_new_null();
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    bool ok = all != NULL && bio != NULL;
    for (X509_CRL *one = NULL; ok; one = NULL) {
        const bool der = len != 0 && text[0] == 0x30;
        one = der ? d2i_X509_CRL(NULL, &p, (long)len) : PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
        if (one == NULL)
            break;
        ok = sk_X509_CRL_push(all, one) != 0 && (!der || p == (const unsigned char *)text + len);
        if (der)
            break;
    }
    ok = ok && (text[0] == 0x30 || ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) && sk_X509_CRL_num(all) != 0;
    ERR_clear_error();
    BIO_free(bio);
    if (ok)
        return all;
    sk_X509_CRL_pop_free(all, X509_CRL_free);
    return NULL;
}

qm_err qm_trust_add_crl(struct qm_trust *t, const char *path, struct qm_fault *fault)
{
    char *text;
    size_t len = 0;
    qm_err err = qm_file_read(path, QM_TRUST_FILE_MAX, &text, &len, fault);
    if (err != QM_OK)
        return err;
    STACK_OF(X509_CRL) *all = len != 0 ? read_crls(text, len) : NULL;
    free(text);
    if (all == NULL)
        return qm_fail(fault, QM_E_USAGE, 0, "%s has no revocation list, or one that cannot be read", path);
    for (int i = 0; err == QM_OK && i < sk_X509_CRL_num(all); i++)
        if (X509_STORE_add_crl(t->store, sk_X509_CRL_value(all, i)) != 1)
            err = no_memory(fault);
    t->crls = true;
    sk_X509_CRL_pop_free(all, X509_CRL_free);
    return err;
}

/* ---- chains -------------------------------------------------------------------------------------------------------------- */

/* Every critical extension of the leaf is one that OpenSSL checks, or subjectDirectoryAttributes (RFC 5280, 4.2.1.8), which says what
 * version of the TPM's specification and what security evaluation there was: nothing that restricts how the certificate may be used. */
static bool only_known_criticals(X509 *leaf)
{
    for (int i = 0; i < X509_get_ext_count(leaf); i++) {
        X509_EXTENSION *e = X509_get_ext(leaf, i);
        if (X509_EXTENSION_get_critical(e) == 0 || X509_supported_extension(e) == 1)
            continue;
        if (OBJ_obj2nid(X509_EXTENSION_get_object(e)) != NID_subject_directory_attributes)
            return false;
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(e);
        const unsigned char *p = ASN1_STRING_get0_data(value), *end = p + ASN1_STRING_length(value);
        ASN1_SEQUENCE_ANY *attributes = d2i_ASN1_SEQUENCE_ANY(NULL, &p, ASN1_STRING_length(value));
        const bool whole = attributes != NULL && p == end;
        sk_ASN1_TYPE_pop_free(attributes, ASN1_TYPE_free);
        if (!whole)
            return false;
    }
    return true;
}

static int on_error(int ok, X509_STORE_CTX *c)
{
    if (ok != 1 && X509_STORE_CTX_get_error(c) == X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION && X509_STORE_CTX_get_error_depth(c) == 0 &&
        only_known_criticals(X509_STORE_CTX_get_current_cert(c))) {
        X509_STORE_CTX_set_error(c, X509_V_OK);
        return 1;
    }
    return ok;
}

/* OpenSSL asks for the leaf only, or for every certificate up to the anchor, which has no list where it is not a root. So of what stands
 * between: is it in a list of its issuer that was given? A list that is out of date
 * counts as well: who gives it means what it says. */
static bool middle_revoked(X509_STORE_CTX *c)
{
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(c);
    bool revoked = false;
    for (int i = 1; i + 1 < sk_X509_num(chain); i++) {
        X509 *x = sk_X509_value(chain, i);
        STACK_OF(X509_CRL) *lists = X509_STORE_CTX_get1_crls(c, X509_get_issuer_name(x));
        for (int j = 0; j < sk_X509_CRL_num(lists); j++) {
            X509_REVOKED *entry;
            X509_CRL *list = sk_X509_CRL_value(lists, j);
            revoked |= X509_CRL_get0_by_cert(list, &entry, x) == 1 && X509_CRL_verify(list, X509_get0_pubkey(sk_X509_value(chain, i + 1))) == 1;
        }
        sk_X509_CRL_pop_free(lists, X509_CRL_free);
    }
    return revoked;
}

static bool read_anchor(X509 *x, struct qm_anchor *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    const bool ok = bio != NULL && X509_digest(x, EVP_sha256(), out->sha256, NULL) == 1 &&
                    X509_NAME_print_ex(bio, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0;
    const long len = ok ? BIO_get_mem_data(bio, &text) : 0;
    const size_t kept = len > QM_ANCHOR_SUBJECT_MAX ? QM_ANCHOR_SUBJECT_MAX - 3 : (size_t)len;
    if (kept != 0)
        memcpy(out->subject, text, kept);
    memcpy(out->subject + kept, kept < (size_t)len ? "..." : "", kept < (size_t)len ? 4 : 1);
    BIO_free(bio);
    out->known = ok;
    return ok;
}

/* all: the leaf first. what: "EK", "AK". What stands between leaf and anchor must be a CA's by basicConstraints: OpenSSL 3 asks that of
 * every certificate but the last. With PARTIAL_CHAIN the last is the first that the operator trusts. */
static qm_err verify(const struct qm_trust *t, STACK_OF(X509) *all, const char *what, struct qm_anchor *anchor, struct qm_fault *fault)
{
    X509_STORE_CTX *c = X509_STORE_CTX_new();
    qm_err err = QM_OK;
    if (c == NULL || X509_STORE_CTX_init(c, t->store, sk_X509_value(all, 0), all) != 1) {
        X509_STORE_CTX_free(c);
        return no_memory(fault);
    }
    X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(c);
    X509_VERIFY_PARAM_set_time(p, t->now);
    X509_VERIFY_PARAM_set_depth(p, DEPTH_MAX);
    X509_VERIFY_PARAM_set_auth_level(p, SECURITY_LEVEL);
    X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN); /* an issuing CA may be trusted without its root */
    if (t->crls)
        X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_CRL_CHECK);
    X509_STORE_CTX_set_verify_cb(c, on_error);
    if (X509_verify_cert(c) != 1)
        err = qm_fail(fault, QM_E_REFUSED, 0, "the %s's certificate does not verify: %s", what,
                      X509_verify_cert_error_string(X509_STORE_CTX_get_error(c)));
    else if (t->crls && middle_revoked(c))
        err = qm_fail(fault, QM_E_REFUSED, 0, "the %s's certificate does not verify: a CA's certificate between was revoked", what);
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(c);
    if (err == QM_OK && !read_anchor(sk_X509_value(chain, sk_X509_num(chain) - 1), anchor))
        err = no_memory(fault);
    X509_STORE_CTX_free(c);
    ERR_clear_error();
    return err;
}

/* ---- leaves -------------------------------------------------------------------------------------------------------------- */

static bool oid_is(const ASN1_OBJECT *o, const char *dotted)
{
    char text[64];
    const int n = OBJ_obj2txt(text, sizeof text, o, 1);
    return n > 0 && (size_t)n < sizeof text && strcmp(text, dotted) == 0;
}

enum present { ABSENT, THERE, OTHER }; /* OTHER: the extension is there, and not with this in it */

static enum present extended_use(X509 *x, const char *dotted)
{
    enum present is = OTHER;
    int critical = -1;
    EXTENDED_KEY_USAGE *uses = X509_get_ext_d2i(x, NID_ext_key_usage, &critical, NULL);
    if (uses == NULL)
        return critical == -1 ? ABSENT : OTHER;
    for (int i = 0; i < sk_ASN1_OBJECT_num(uses); i++)
        if (oid_is(sk_ASN1_OBJECT_value(uses, i), dotted))
            is = THERE;
    EXTENDED_KEY_USAGE_free(uses);
    return is;
}

/* The alternative name of an EK's certificate names the TPM's maker (profile, 3.2.9): certificates for anything else do not. */
static bool names_tpm(X509 *x)
{
    bool found = false;
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
        for (int j = 0; n->type == GEN_DIRNAME && j < X509_NAME_entry_count(n->d.directoryName); j++)
            found |= oid_is(X509_NAME_ENTRY_get_object(X509_NAME_get_entry(n->d.directoryName, j)), OID_TPM_MANUFACTURER);
    }
    GENERAL_NAMES_free(names);
    return found;
}

static void keep_name(struct qm_cert_names *out, bool dns, const uint8_t *p, int len)
{
    const struct qm_span s = {p, len > 0 ? (size_t)len : 0};
    if (out->count == QM_CERT_NAMES_MAX || !qm_id_ok(s))
        return;
    struct qm_cert_name *n = &out->name[out->count++];
    n->dns = dns;
    n->len = s.len;
    memcpy(n->text, s.p, s.len);
}

static void read_names(X509 *x, struct qm_cert_names *out)
{
    const X509_NAME *subject = X509_get_subject_name(x);
    const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    unsigned char *utf8 = NULL;
    *out = (struct qm_cert_names){0};
    if (at >= 0 && X509_NAME_get_index_by_NID(subject, NID_commonName, at) < 0) {
        const int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
        if (len > 0)
            keep_name(out, false, utf8, len);
        OPENSSL_free(utf8);
    }
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
        if (n->type == GEN_DNS)
            keep_name(out, true, ASN1_STRING_get0_data(n->d.dNSName), ASN1_STRING_length(n->d.dNSName));
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
}

bool qm_cert_names_has(const struct qm_cert_names *n, struct qm_span id)
{
    for (unsigned i = 0; i < n->count; i++)
        if (qm_span_eq((struct qm_span){n->name[i].text, n->name[i].len}, id))
            return true;
    return false;
}

/* What leaves of both kinds have in common. use: the bit of keyUsage that the key needs. */
static const char *leaf_fault(X509 *x, uint32_t use, const char *use_missing)
{
    if (X509_get_version(x) != X509_VERSION_3)
        return "the certificate is not of version 3";
    if ((X509_get_extension_flags(x) & EXFLAG_INVALID) != 0)
        return "the certificate has an extension that cannot be read";
    if (X509_check_ca(x) != 0)
        return "the certificate is a CA's";
    /* without the extension X509_get_key_usage says that everything is allowed */
    if ((X509_get_extension_flags(x) & EXFLAG_KUSAGE) == 0 || (X509_get_key_usage(x) & use) == 0)
        return use_missing;
    return NULL;
}

static const char *ek_leaf_fault(X509 *x, const struct qm_ek *ek)
{
    const bool rsa = ek->coordinate_bytes == 0;
    const char *why = leaf_fault(x, rsa ? KU_KEY_ENCIPHERMENT : KU_KEY_AGREEMENT,
                                 rsa ? "the EK's certificate is not for keyEncipherment" : "the EK's certificate is not for keyAgreement");
    if (why != NULL)
        return why;
    const enum present is_ek = extended_use(x, OID_EK_CERTIFICATE);
    if (is_ek == OTHER)
        return "the certificate's extended key usage says that it is no EK's";
    if (is_ek == ABSENT && !names_tpm(x))
        return "nothing in the certificate says that it is an EK's";
    EVP_PKEY *key = X509_get0_pubkey(x);
    return key != NULL && EVP_PKEY_eq(key, ek->key) == 1 ? NULL : "the EK is not the key of its certificate";
}

qm_err qm_ek_cert_check(struct qm_trust *t, const struct qm_span *chain, unsigned count, const struct qm_ek *ek, struct qm_cert_names *names,
                        struct qm_anchor *anchor, struct qm_fault *fault)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    qm_err err = all != NULL ? QM_OK : no_memory(fault);
    *names = (struct qm_cert_names){0};
    *anchor = (struct qm_anchor){0};
    for (unsigned i = 0; err == QM_OK && i < count; i++) {
        const unsigned char *p = chain[i].p;
        X509 *one = d2i_X509(NULL, &p, (long)chain[i].len);
        if (one == NULL || p != chain[i].p + chain[i].len) {
            X509_free(one);
            ERR_clear_error();
            err = qm_fail(fault, QM_E_REFUSED, 0, "certificate %u of ek_cert is not exactly one in DER", i + 1);
        } else if (sk_X509_push(all, one) == 0) {
            X509_free(one);
            err = no_memory(fault);
        }
    }
    if (err == QM_OK && count == 0)
        err = refuse(fault, "there is no certificate of the EK");
    const char *why = err == QM_OK ? ek_leaf_fault(sk_X509_value(all, 0), ek) : NULL;
    if (why != NULL)
        err = refuse(fault, why);
    if (err == QM_OK)
        err = verify(t, all, "EK", anchor, fault);
    if (err == QM_OK)
        read_names(sk_X509_value(all, 0), names);
    sk_X509_pop_free(all, X509_free);
    ERR_clear_error();
    return err;
}

static qm_err write_key(X509 *x, char *to, size_t cap, struct qm_fault *fault)
{
    EVP_PKEY *key = X509_get0_pubkey(x);
    BIO *bio = key != NULL ? BIO_new(BIO_s_mem()) : NULL;
    char *text;
    const long len = bio != NULL && PEM_write_bio_PUBKEY(bio, key) == 1 ? BIO_get_mem_data(bio, &text) : 0;
    const bool ok = len > 0 && (size_t)len < cap;
    if (ok) {
        memcpy(to, text, (size_t)len);
        to[len] = '\0';
    }
    BIO_free(bio);
    return ok ? QM_OK : refuse(fault, "the certificate's key cannot be read, or is too long");
}

qm_err qm_ak_cert_read(struct qm_trust *t, const char *path, struct qm_ak_cert *out, struct qm_fault *fault)
{
    char *text;
    size_t len = 0;
    *out = (struct qm_ak_cert){0};
    qm_err err = qm_file_read(path, QM_CHAIN_MAX * 2 * QM_CERT_MAX, &text, &len, fault);
    if (err == QM_E_LIMIT)
        return refuse(fault, "the chain is longer than 128 KiB");
    if (err != QM_OK)
        return err;
    STACK_OF(X509) *all = read_pem(text, len);
    free(text);
    if (all == NULL || sk_X509_num(all) == 0 || sk_X509_num(all) > QM_CHAIN_MAX) {
        sk_X509_pop_free(all, X509_free);
        return refuse(fault, "there are not 1 to 8 certificates in PEM, or one cannot be read");
    }
    X509 *leaf = sk_X509_value(all, 0);
    const char *why = leaf_fault(leaf, KU_DIGITAL_SIGNATURE, "the AK's certificate is not for digitalSignature");
    if (why == NULL && extended_use(leaf, OID_AK_CERTIFICATE) == OTHER)
        why = "the certificate's extended key usage says that it is no AK's";
    err = why == NULL ? verify(t, all, "AK", &out->anchor, fault) : refuse(fault, why);
    if (err == QM_OK)
        err = write_key(leaf, out->key, sizeof out->key, fault);
    if (err == QM_OK)
        read_names(leaf, &out->names);
    sk_X509_pop_free(all, X509_free);
    ERR_clear_error();
    return err;
}
