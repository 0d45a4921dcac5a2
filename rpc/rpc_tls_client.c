// A client's side of TLS: the check of the server's certificate, and sessions to resume.
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/bytes.h"
#include "rpc/rpc_tls_codec.h"
#include "rpc/rpc_tls_priv.h"

struct rpc_tls_client {
    // Immutable after new.
    SSL_CTX *ctx;
    bool has_pin;
    bool has_ca;
    uint8_t pin[RPC_TLS_FINGERPRINT_BYTES];
    struct err_detail advice; // for one who meets another certificate than the pinned one

    atomic_uint references;

    pthread_mutex_t mutex;
    struct {
        SSL_SESSION *session; // to resume; of a connection whose certificate was accepted
        bool has_refused;
        uint8_t refused[RPC_TLS_FINGERPRINT_BYTES];
        struct err_detail failure; // empty: none yet
    } locked;
};

static void
note_refusal(struct rpc_tls_client *client, const uint8_t *fingerprint, const char *reason)
{
    char text[RPC_TLS_FINGERPRINT_TEXT_BYTES];
    rpc_tls_fingerprint_format(fingerprint, text);
    (void)pthread_mutex_lock(&client->mutex);
    client->locked.has_refused = true;
    memcpy(client->locked.refused, fingerprint, RPC_TLS_FINGERPRINT_BYTES);
    if (client->has_pin) {
        char known[RPC_TLS_FINGERPRINT_TEXT_BYTES];
        rpc_tls_fingerprint_format(client->pin, known);
        (void)err_fail(&client->locked.failure, ERR_UNTRUSTED, "ITS KEY HAS CHANGED: now %s, it was %s%s%s", text,
            known, client->advice.message[0] == '\0' ? "" : ". ", client->advice.message);
    } else {
        (void)err_fail(&client->locked.failure, ERR_UNTRUSTED, "its certificate %s is not trusted: %s", text, reason);
    }
    (void)pthread_mutex_unlock(&client->mutex);
}

// Decides about a certificate, instead of the library. Returns 1 for one that is trusted.
static int
verify(X509_STORE_CTX *store, void *arg)
{
    struct rpc_tls_client *client = arg;
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    const char *reason = "it is not known";
    X509 *certificate = X509_STORE_CTX_get0_cert(store);
    if (certificate == NULL || X509_digest(certificate, EVP_sha256(), fingerprint, NULL) != 1) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_OUT_OF_MEM);
        return 0;
    }
    if (client->has_pin && bytes_view_equal(bytes_view_of(fingerprint, sizeof fingerprint),
                               bytes_view_of(client->pin, sizeof client->pin))) {
        return 1;
    }
    if (client->has_ca) {
        if (X509_verify_cert(store) == 1) {
            return 1;
        }
        reason = X509_verify_cert_error_string(X509_STORE_CTX_get_error(store));
    } else {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
    }
    note_refusal(client, fingerprint, reason);
    return 0;
}

// Keeps the newest session. With 1 it is ours, in place of the one before.
static int
on_session(SSL *ssl, SSL_SESSION *session)
{
    struct rpc_tls_client *client = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    (void)pthread_mutex_lock(&client->mutex);
    SSL_SESSION *old = client->locked.session;
    client->locked.session = session;
    (void)pthread_mutex_unlock(&client->mutex);
    SSL_SESSION_free(old);
    return 1;
}

static enum err
set_up(struct rpc_tls_client *client, const struct rpc_tls_client_options *options, struct err_detail *why)
{
    if ((options->certificate_path == NULL) != (options->key_path == NULL)) {
        return err_fail(why, ERR_INVALID, "a certificate for this client needs its key as well, and the key it");
    }
    client->ctx = SSL_CTX_new(TLS_client_method());
    if (client->ctx == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = rpc_tls_limit(client->ctx);
    if (err != ERR_OK) {
        return err;
    }
    (void)SSL_CTX_set_app_data(client->ctx, client);
    SSL_CTX_set_verify(client->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(client->ctx, verify, client);
    (void)SSL_CTX_set_session_cache_mode(client->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client->ctx, on_session);
    if (SSL_CTX_set_alpn_protos(client->ctx, rpc_tls_alpn, sizeof rpc_tls_alpn) != 0) {
        return ERR_NO_MEMORY;
    }
    if (options->ca_path != NULL && SSL_CTX_load_verify_file(client->ctx, options->ca_path) != 1) {
        return rpc_tls_explain(why, ERR_INVALID, options->ca_path, "no certificates in PEM");
    }
    if (options->certificate_path != NULL) {
        return rpc_tls_use_files(client->ctx, options->certificate_path, options->key_path, why);
    }
    return ERR_OK;
}

enum err
rpc_tls_client_new(const struct rpc_tls_client_options *options, struct rpc_tls_client **out, struct err_detail *why)
{
    struct rpc_tls_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return ERR_NO_MEMORY;
    }
    (void)pthread_mutex_init(&client->mutex, NULL);
    atomic_init(&client->references, 1);
    client->has_pin = options->fingerprint != NULL;
    client->has_ca = options->ca_path != NULL && !client->has_pin;
    if (client->has_pin) {
        memcpy(client->pin, options->fingerprint, sizeof client->pin);
        (void)err_fail(&client->advice, ERR_UNTRUSTED, "%s", options->advice == NULL ? "" : options->advice);
    }
    enum err err = set_up(client, options, why);
    if (err != ERR_OK) {
        rpc_tls_client_free(&client);
        return err;
    }
    *out = client;
    return ERR_OK;
}

struct rpc_tls_client *
rpc_tls_client_hold(struct rpc_tls_client *client)
{
    if (client != NULL) {
        atomic_fetch_add(&client->references, 1);
    }
    return client;
}

void
rpc_tls_client_free(struct rpc_tls_client **client_in)
{
    struct rpc_tls_client *client = *client_in;
    *client_in = NULL;
    if (client == NULL || atomic_fetch_sub(&client->references, 1) > 1) {
        return;
    }
    SSL_SESSION_free(client->locked.session);
    SSL_CTX_free(client->ctx);
    (void)pthread_mutex_destroy(&client->mutex);
    free(client);
}

bool
rpc_tls_client_refusal(struct rpc_tls_client *client, uint8_t fingerprint_out[RPC_TLS_FINGERPRINT_BYTES])
{
    (void)pthread_mutex_lock(&client->mutex);
    bool has_refused = client->locked.has_refused;
    if (has_refused) {
        memcpy(fingerprint_out, client->locked.refused, RPC_TLS_FINGERPRINT_BYTES);
    }
    (void)pthread_mutex_unlock(&client->mutex);
    return has_refused;
}

void
rpc_tls_client_note_failure(struct rpc_tls_client *client, const char *reason)
{
    (void)pthread_mutex_lock(&client->mutex);
    (void)err_fail(&client->locked.failure, ERR_PROTOCOL, "%s", reason);
    (void)pthread_mutex_unlock(&client->mutex);
}

bool
rpc_tls_client_explain(struct rpc_tls_client *client, struct err_detail *why)
{
    (void)pthread_mutex_lock(&client->mutex);
    bool has_failed = client->locked.failure.message[0] != '\0';
    if (has_failed) {
        *why = client->locked.failure;
    }
    (void)pthread_mutex_unlock(&client->mutex);
    return has_failed;
}

// What the certificate has to be for, and what the server is told that we look for.
static bool
set_name(SSL *ssl, const char *host)
{
    struct in6_addr ignored;
    bool is_address = inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1;
    if (is_address) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

enum err
rpc_tls_client_connect(struct rpc_tls_client *client, const char *host, SSL **out)
{
    SSL *ssl = SSL_new(client->ctx);
    bool is_ready = ssl != NULL && set_name(ssl, host);
    (void)pthread_mutex_lock(&client->mutex);
    if (is_ready && client->locked.session != NULL) {
        is_ready = SSL_set_session(ssl, client->locked.session) == 1;
    }
    (void)pthread_mutex_unlock(&client->mutex);
    ERR_clear_error();
    if (!is_ready) {
        SSL_free(ssl);
        return ERR_NO_MEMORY;
    }
    SSL_set_connect_state(ssl);
    *out = ssl;
    return ERR_OK;
}
