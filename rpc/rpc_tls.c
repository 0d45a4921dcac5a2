// What both ends of TLS have in common.
#include "rpc/rpc_tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>

#include "base/bytes.h"
#include "rpc/rpc_tls_priv.h"

// Forward secrecy and authenticated encryption. (TLS 1.3 has nothing else, and a list of its own.)
#define CIPHERS_OF_TLS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"

void
rpc_tls_fingerprint_format(const uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES],
    char text_out[RPC_TLS_FINGERPRINT_TEXT_BYTES])
{
    for (size_t i = 0; i < RPC_TLS_FINGERPRINT_BYTES; i++) {
        bool is_last = i + 1 == RPC_TLS_FINGERPRINT_BYTES;
        (void)snprintf(text_out + 3 * i, RPC_TLS_FINGERPRINT_TEXT_BYTES - 3 * i,
            is_last ? "%02X" : "%02X:", fingerprint[i]);
    }
}

enum err
rpc_tls_fingerprint_parse(const char *text, uint8_t fingerprint_out[RPC_TLS_FINGERPRINT_BYTES])
{
    char digits[2 * RPC_TLS_FINGERPRINT_BYTES + 1];
    size_t size = 0;
    bool has_colons = text[0] != '\0' && text[1] != '\0' && text[2] == ':';
    for (const char *c = text; *c != '\0'; c++) {
        bool is_colon_due = has_colons && (c - text) % 3 == 2;
        if ((*c == ':') != is_colon_due || size == sizeof digits - 1) {
            return ERR_INVALID;
        }
        if (!is_colon_due) {
            digits[size++] = *c;
        }
    }
    digits[size] = '\0';
    return bytes_from_hex(digits, fingerprint_out, RPC_TLS_FINGERPRINT_BYTES);
}

enum err
rpc_tls_explain(struct err_detail *why, enum err code, const char *what, const char *otherwise)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return err_fail(why, code, "%s: %s", what, reason != NULL ? reason : otherwise);
}

// The library's own errors about files tell little, so what can be known beforehand is told here.
static enum err
check_readable(const char *path, struct err_detail *why)
{
    if (access(path, R_OK) != 0) {
        return err_fail(why, err_from_errno(errno), "%s cannot be read: %s", path, strerror(errno));
    }
    return ERR_OK;
}

enum err
rpc_tls_use_files(SSL_CTX *ctx, const char *certificate_path, const char *key_path, struct err_detail *why)
{
    enum err err = check_readable(certificate_path, why);
    if (err == ERR_OK) {
        err = check_readable(key_path, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate_path) != 1) {
        return rpc_tls_explain(why, ERR_INVALID, certificate_path, "no certificate in PEM");
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key_path, SSL_FILETYPE_PEM) != 1) {
        return rpc_tls_explain(why, ERR_INVALID, key_path, "no key in PEM");
    }
    if (SSL_CTX_check_private_key(ctx) != 1) {
        return rpc_tls_explain(why, ERR_INVALID, key_path, "not the key of the certificate");
    }
    return ERR_OK;
}

enum err
rpc_tls_limit(SSL_CTX *ctx)
{
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, CIPHERS_OF_TLS_1_2) != 1) {
        return ERR_INTERNAL;
    }
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    (void)SSL_CTX_set_mode(ctx,
        SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return ERR_OK;
}
