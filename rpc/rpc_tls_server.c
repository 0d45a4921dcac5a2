// A server's side of TLS: its certificate, which may change while it serves, and what it asks of clients.
//
// Whatever the context, ours or libwebsockets', it has no certificate of its own: each handshake asks for the present
// one. So a new one needs no new listener, and connections that exist go on with theirs.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "base/log.h"
#include "rpc/rpc_tls_codec.h"
#include "rpc/rpc_tls_priv.h"

struct rpc_tls_server {
    // Immutable after new.
    char *certificate_path;
    char *key_path;
    char *client_ca_path; // NULL: clients need no certificate
    SSL_CTX *ctx;         // of the native listeners

    pthread_mutex_t mutex;
    struct {
        SSL_CTX *identity; // holds the present certificate, its chain and its key
    } locked;
};

static SSL_CTX *
hold_identity(struct rpc_tls_server *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    SSL_CTX *identity = server->locked.identity;
    (void)SSL_CTX_up_ref(identity);
    (void)pthread_mutex_unlock(&server->mutex);
    return identity;
}

// The library asks for it in each handshake that needs a certificate. Returns 1 for success.
static int
on_certificate_needed(SSL *ssl, void *arg)
{
    struct rpc_tls_server *server = arg;
    STACK_OF(X509) *chain = NULL;
    SSL_CTX *identity = hold_identity(server);
    bool is_set =
        SSL_CTX_get0_chain_certs(identity, &chain) == 1 &&
        SSL_use_cert_and_key(ssl, SSL_CTX_get0_certificate(identity), SSL_CTX_get0_privatekey(identity), chain, 1) == 1;
    SSL_CTX_free(identity);
    return is_set ? 1 : 0;
}

// A peer that offers protocols has to offer ours; stock ones offer none.
static int
on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in, unsigned in_size,
    void *arg)
{
    unsigned char *chosen = NULL;
    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_size, rpc_tls_alpn, sizeof rpc_tls_alpn, in, in_size) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

enum err
rpc_tls_server_configure(struct rpc_tls_server *server, SSL_CTX *ctx)
{
    static const unsigned char session_context[] = "fcd";
    enum err err = rpc_tls_limit(ctx);
    if (err != ERR_OK) {
        return err;
    }
    SSL_CTX_set_cert_cb(ctx, on_certificate_needed, server);
    // What is needed to resume is sealed and left with the client: connections that were cost no memory.
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_set_num_tickets(ctx, 1) != 1 ||
        SSL_CTX_set_session_id_context(ctx, session_context, sizeof session_context - 1) != 1) {
        return ERR_INTERNAL;
    }
    if (server->client_ca_path != NULL) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(server->client_ca_path);
        if (names == NULL || SSL_CTX_load_verify_file(ctx, server->client_ca_path) != 1) {
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            return ERR_INVALID;
        }
        SSL_CTX_set_client_CA_list(ctx, names);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return ERR_OK;
}

static enum err
read_identity(const struct rpc_tls_server *server, SSL_CTX **out, struct err_detail *why)
{
    SSL_CTX *identity = SSL_CTX_new(TLS_server_method());
    if (identity == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = rpc_tls_use_files(identity, server->certificate_path, server->key_path, why);
    if (err != ERR_OK) {
        SSL_CTX_free(identity);
        return err;
    }
    *out = identity;
    return ERR_OK;
}

enum err
rpc_tls_server_reload(struct rpc_tls_server *server, struct err_detail *why)
{
    SSL_CTX *identity = NULL;
    enum err err = read_identity(server, &identity, why);
    if (err != ERR_OK) {
        return err;
    }
    (void)pthread_mutex_lock(&server->mutex);
    SSL_CTX *old = server->locked.identity;
    server->locked.identity = identity;
    (void)pthread_mutex_unlock(&server->mutex);
    SSL_CTX_free(old);
    return ERR_OK;
}

static enum err
set_up(struct rpc_tls_server *server, const struct rpc_tls_server_options *options, struct err_detail *why)
{
    server->certificate_path = strdup(options->certificate_path);
    server->key_path = strdup(options->key_path);
    server->client_ca_path = options->client_ca_path == NULL ? NULL : strdup(options->client_ca_path);
    server->ctx = SSL_CTX_new(TLS_server_method());
    if (server->certificate_path == NULL || server->key_path == NULL || server->ctx == NULL ||
        (options->client_ca_path != NULL && server->client_ca_path == NULL)) {
        return ERR_NO_MEMORY;
    }
    enum err err = rpc_tls_server_reload(server, why);
    if (err != ERR_OK) {
        return err;
    }
    err = rpc_tls_server_configure(server, server->ctx);
    if (err == ERR_INVALID) {
        return rpc_tls_explain(why, err, server->client_ca_path, "no certificates in PEM");
    }
    SSL_CTX_set_alpn_select_cb(server->ctx, on_alpn, NULL);
    return err;
}

enum err
rpc_tls_server_new(const struct rpc_tls_server_options *options, struct rpc_tls_server **out, struct err_detail *why)
{
    struct rpc_tls_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        return ERR_NO_MEMORY;
    }
    (void)pthread_mutex_init(&server->mutex, NULL);
    enum err err = set_up(server, options, why);
    if (err != ERR_OK) {
        rpc_tls_server_free(&server);
        return err;
    }
    *out = server;
    return ERR_OK;
}

void
rpc_tls_server_free(struct rpc_tls_server **server_in)
{
    struct rpc_tls_server *server = *server_in;
    if (server == NULL) {
        return;
    }
    SSL_CTX_free(server->locked.identity);
    SSL_CTX_free(server->ctx);
    free(server->client_ca_path);
    free(server->key_path);
    free(server->certificate_path);
    (void)pthread_mutex_destroy(&server->mutex);
    free(server);
    *server_in = NULL;
}

void
rpc_tls_server_fingerprint(struct rpc_tls_server *server, uint8_t fingerprint_out[RPC_TLS_FINGERPRINT_BYTES])
{
    SSL_CTX *identity = hold_identity(server);
    memset(fingerprint_out, 0, RPC_TLS_FINGERPRINT_BYTES);
    if (X509_digest(SSL_CTX_get0_certificate(identity), EVP_sha256(), fingerprint_out, NULL) != 1) {
        log_error("RPC-TLS-FINGERPRINT", NULL, "the certificate's fingerprint cannot be made");
    }
    SSL_CTX_free(identity);
}

enum err
rpc_tls_server_accept(struct rpc_tls_server *server, SSL **out)
{
    SSL *ssl = SSL_new(server->ctx);
    if (ssl == NULL) {
        ERR_clear_error();
        return ERR_NO_MEMORY;
    }
    SSL_set_accept_state(ssl);
    *out = ssl;
    return ERR_OK;
}
