// A key and a certificate that signs itself, for servers that nobody has given one.
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/random.h"
#include "rpc/rpc_tls.h"
#include "rpc/rpc_tls_priv.h"

enum {
    LIFETIME_DAYS = 3652,        // ten years: whoever pins it does not look at the dates, but browsers do
    BACKDATED_S = 24 * 3600,     // for clients whose clock is behind
    SERIAL_BYTES = 16,           // random, since browsers remember numbers
    NAMES_MAX_BYTES = 16 * 1024, // some hundred names
};

static enum err
append_text(struct bytes *out, const char *text)
{
    return bytes_append(out, bytes_view_of_text(text));
}

// Writes "DNS:localhost,IP:127.0.0.1" with a NUL.
static enum err
list_names(const char *const *names, size_t count, struct bytes *out)
{
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        struct in6_addr ignored;
        bool is_address = inet_pton(AF_INET, names[i], &ignored) == 1 || inet_pton(AF_INET6, names[i], &ignored) == 1;
        err = append_text(out, i > 0 ? "," : "");
        if (err == ERR_OK) {
            err = append_text(out, is_address ? "IP:" : "DNS:");
        }
        if (err == ERR_OK) {
            err = append_text(out, names[i]);
        }
    }
    if (err == ERR_OK && out->size > NAMES_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    return err == ERR_OK ? bytes_append(out, bytes_view_of("", 1)) : err;
}

static bool
add_extension(X509 *certificate, int kind, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    bool is_added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_added;
}

static bool
set_serial(X509 *certificate)
{
    uint8_t bytes[SERIAL_BYTES];
    random_bytes(bytes, sizeof bytes);
    bytes[0] = (bytes[0] & 0x7f) | 0x40; // positive, and as long as the others
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool is_set = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return is_set;
}

static bool
fill(X509 *certificate, EVP_PKEY *key, const char *common_name, const char *names)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    const unsigned char *name = (const unsigned char *)common_name;
    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), -BACKDATED_S) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(certificate), LIFETIME_DAYS, 0, NULL) != NULL &&
           X509_set_pubkey(certificate, key) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, name, -1, -1, 0) == 1 &&
           X509_set_issuer_name(certificate, subject) == 1 &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, NID_key_usage, "critical,digitalSignature") &&
           add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
           add_extension(certificate, NID_subject_alt_name, names) && X509_sign(certificate, key, EVP_sha256()) > 0;
}

// Writes what a BIO in memory holds to a file that only its owner can read.
static enum err
write_file(const char *path, BIO *content, struct err_detail *why)
{
    char *data = NULL;
    long size = BIO_get_mem_data(content, &data);
    enum err err = file_replace(path, bytes_view_of(data, (size_t)size), S_IRUSR | S_IWUSR);
    return err == ERR_OK ? ERR_OK : err_fail(why, err, "%s cannot be written: %s", path, err_sentence(err));
}

enum err
rpc_tls_server_make_certificate(const char *certificate_path, const char *key_path, const char *const *names,
    size_t name_count, struct err_detail *why)
{
    struct bytes list = {0};
    enum err err = list_names(names, name_count, &list);
    if (err != ERR_OK) {
        bytes_free(&list);
        return err;
    }
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    BIO *key_text = BIO_new(BIO_s_secmem());
    BIO *certificate_text = BIO_new(BIO_s_mem());
    if (key == NULL || certificate == NULL || key_text == NULL || certificate_text == NULL ||
        !fill(certificate, key, "fcd", (const char *)list.data) ||
        PEM_write_bio_PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL) != 1 ||
        PEM_write_bio_X509(certificate_text, certificate) != 1) {
        err = rpc_tls_explain(why, ERR_INTERNAL, "a certificate cannot be made", "out of memory");
        goto out;
    }
    // The key first: a certificate that is there has its key.
    err = write_file(key_path, key_text, why);
    if (err == ERR_OK) {
        err = write_file(certificate_path, certificate_text, why);
    }

out:
    (void)BIO_free(certificate_text);
    (void)BIO_free(key_text);
    X509_free(certificate);
    EVP_PKEY_free(key);
    bytes_free(&list);
    return err;
}
