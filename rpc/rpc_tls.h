// TLS for both ends: who one is, and whom one trusts. 1.2 and 1.3 only, without renegotiation.
//
// Files are PEM. A fingerprint is the SHA-256 of the whole certificate, as browsers and `openssl x509 -fingerprint
// -sha256` show it.
#ifndef RPC_TLS_H
#define RPC_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    RPC_TLS_FINGERPRINT_BYTES = 32,
    RPC_TLS_FINGERPRINT_TEXT_BYTES = 3 * RPC_TLS_FINGERPRINT_BYTES, // "AB:CD:..." with its NUL
};

// rpc_tls_fingerprint_format writes it as pairs of upper-case digits with colons between them.
void rpc_tls_fingerprint_format(const uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES],
    char text_out[RPC_TLS_FINGERPRINT_TEXT_BYTES]);

// rpc_tls_fingerprint_parse reads 64 digits of either case, with or without colons between the pairs. ERR_INVALID.
enum err rpc_tls_fingerprint_parse(const char *text, uint8_t fingerprint_out[RPC_TLS_FINGERPRINT_BYTES]) ERR_CHECKED;

// ---- A client ----

// rpc_tls_client says which server is trusted. Channels and subscribers of one server share it, and so resume each
// other's TLS sessions. Any thread.
struct rpc_tls_client;

// One of fingerprint and ca_path decides. With neither no server is trusted: a call then fails, and
// rpc_tls_client_refusal tells whose certificate was met.
struct rpc_tls_client_options {
    const uint8_t *fingerprint;   // RPC_TLS_FINGERPRINT_BYTES: the only certificate that is trusted
    const char *advice;           // said when the server has another one; copied, NULL for nothing
    const char *ca_path;          // authorities that have signed it for the name or address that is dialled
    const char *certificate_path; // shown to a server that asks for one, with key_path
    const char *key_path;
};

// rpc_tls_client_new reads the files. ERR_NOT_FOUND, ERR_INVALID and others: `why` names the file.
enum err rpc_tls_client_new(const struct rpc_tls_client_options *options, struct rpc_tls_client **out,
    struct err_detail *why) ERR_CHECKED;

// rpc_tls_client_free: whoever still uses it, such as a channel, keeps it until its own end.
void rpc_tls_client_free(struct rpc_tls_client **client);

// rpc_tls_client_refusal tells whether a server was refused because of its certificate, and that one's fingerprint.
bool rpc_tls_client_refusal(struct rpc_tls_client *client, uint8_t fingerprint_out[RPC_TLS_FINGERPRINT_BYTES]);

// ---- A server ----

// rpc_tls_server is a certificate with its key, shared by listeners. Any thread.
struct rpc_tls_server;

struct rpc_tls_server_options {
    const char *certificate_path; // with the intermediate ones after it
    const char *key_path;
    const char *client_ca_path; // NULL, or clients need a certificate that these have signed
};

enum err rpc_tls_server_new(const struct rpc_tls_server_options *options, struct rpc_tls_server **out,
    struct err_detail *why) ERR_CHECKED;

// rpc_tls_server_reload reads certificate and key again, for connections from now on. After a failure the old ones stay
// in use.
enum err rpc_tls_server_reload(struct rpc_tls_server *server, struct err_detail *why) ERR_CHECKED;

// rpc_tls_server_make_certificate writes a new P-256 key, which every TLS library takes, and a certificate for these
// host names and addresses that is valid for ten years and signed by itself. Both files are readable for their owner
// only, and replace what is there.
enum err rpc_tls_server_make_certificate(const char *certificate_path, const char *key_path, const char *const *names,
    size_t name_count, struct err_detail *why) ERR_CHECKED;

void rpc_tls_server_fingerprint(struct rpc_tls_server *server, uint8_t fingerprint_out[RPC_TLS_FINGERPRINT_BYTES]);

// rpc_tls_server_free, after the rpc_server that used it.
void rpc_tls_server_free(struct rpc_tls_server **server);

#endif
