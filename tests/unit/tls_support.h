// For tests of TLS: keys and certificates in a folder of their own.
#ifndef TESTS_UNIT_TLS_SUPPORT_H
#define TESTS_UNIT_TLS_SUPPORT_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "wire_support.h"

enum {
    TLS_DAY_S = 24 * 3600,
};

struct tls_folder {
    char path[64];
};

struct tls_identity {
    char certificate[96];
    char key[96];
    EVP_PKEY *private_key;
    X509 *x509;
};

static inline void
tls_folder_begin(struct tls_folder *folder)
{
    strcpy(folder->path, "/tmp/test_tls.XXXXXX");
    assert_non_null(mkdtemp(folder->path));
}

static inline void
tls_folder_end(struct tls_folder *folder)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", folder->path);
    assert_int_equal(system(command), 0);
}

static inline void
tls_add_extension(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(x509, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

// tls_make writes NAME.pem and NAME.key. issuer NULL: signed by itself, as an authority. names is a subjectAltName.
static inline void
tls_make(const struct tls_folder *folder, const char *name, const struct tls_identity *issuer, const char *names,
    long expires_s, struct tls_identity *out)
{
    static long serial;
    (void)snprintf(out->certificate, sizeof out->certificate, "%s/%s.pem", folder->path, name);
    (void)snprintf(out->key, sizeof out->key, "%s/%s.key", folder->path, name);
    out->private_key = EVP_EC_gen("P-256");
    out->x509 = X509_new();
    assert_non_null(out->private_key);
    assert_non_null(out->x509);
    X509 *x509 = out->x509;
    X509 *signer = issuer == NULL ? x509 : issuer->x509;
    assert_int_equal(X509_set_version(x509, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x509), ++serial), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x509), -2L * TLS_DAY_S));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x509), expires_s));
    assert_int_equal(X509_set_pubkey(x509, out->private_key), 1);
    X509_NAME *subject = X509_get_subject_name(x509);
    assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0),
        1);
    assert_int_equal(X509_set_issuer_name(x509, X509_get_subject_name(signer)), 1);
    tls_add_extension(x509, signer, NID_basic_constraints, issuer == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (names != NULL) {
        tls_add_extension(x509, signer, NID_subject_alt_name, names);
    }
    assert_true(X509_sign(x509, issuer == NULL ? out->private_key : issuer->private_key, EVP_sha256()) > 0);

    FILE *file = fopen(out->certificate, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, x509), 1);
    assert_int_equal(fclose(file), 0);
    file = fopen(out->key, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, out->private_key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
}

static inline void
tls_identity_end(struct tls_identity *identity)
{
    X509_free(identity->x509);
    EVP_PKEY_free(identity->private_key);
}

static inline void
tls_fingerprint(const struct tls_identity *identity, uint8_t out[32])
{
    assert_int_equal(X509_digest(identity->x509, EVP_sha256(), out, NULL), 1);
}

#endif
