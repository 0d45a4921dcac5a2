// For insiders of rpc/: what connections need of rpc_tls.h's objects.
#ifndef RPC_TLS_PRIV_H
#define RPC_TLS_PRIV_H

#include <openssl/ssl.h>

#include "base/err.h"
#include "rpc/rpc_tls.h"

// rpc_tls_explain writes the reason of the last failure of the library on this thread, or `otherwise`, and forgets it.
enum err rpc_tls_explain(struct err_detail *why, enum err code, const char *what, const char *otherwise);

// rpc_tls_use_file loads a certificate with its chain and a key into ctx.
enum err rpc_tls_use_files(SSL_CTX *ctx, const char *certificate_path, const char *key_path,
    struct err_detail *why) ERR_CHECKED;

// rpc_tls_limit sets what both ends have in common: versions, ciphers, no renegotiation, little memory when idle.
enum err rpc_tls_limit(SSL_CTX *ctx) ERR_CHECKED;

// rpc_tls_client_hold takes a reference; NULL is fine.
struct rpc_tls_client *rpc_tls_client_hold(struct rpc_tls_client *client);

// rpc_tls_client_connect makes the library's side of a connection to host, with the last session to resume.
enum err rpc_tls_client_connect(struct rpc_tls_client *client, const char *host, SSL **out) ERR_CHECKED;

// rpc_tls_client_note_failure keeps why a connection failed, for rpc_tls_client_explain.
void rpc_tls_client_note_failure(struct rpc_tls_client *client, const char *reason);

// rpc_tls_client_explain copies why a handshake failed last. False: none has.
bool rpc_tls_client_explain(struct rpc_tls_client *client, struct err_detail *why);

// rpc_tls_server_accept makes the library's side of a connection that was accepted.
enum err rpc_tls_server_accept(struct rpc_tls_server *server, SSL **out) ERR_CHECKED;

// rpc_tls_server_configure makes a context of somebody else's, libwebsockets', use the server's certificate, and ask
// clients for theirs.
enum err rpc_tls_server_configure(struct rpc_tls_server *server, SSL_CTX *ctx) ERR_CHECKED;

#endif
