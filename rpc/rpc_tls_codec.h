// For insiders of rpc/: one TLS connection as a codec between bytes and records. Does no I/O.
//
// One thread at a time may receive (space, add, read, trim of the input) and one may send (write); both at once is
// fine, as is everything else.
#ifndef RPC_TLS_CODEC_H
#define RPC_TLS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_tls.h"

// The protocol's name for ALPN, with its length in front.
static const unsigned char rpc_tls_alpn[] = {4, 'f', 'c', '/', '1'};

struct rpc_tls_codec;

enum err rpc_tls_codec_accept(struct rpc_tls_server *server, struct rpc_tls_codec **out) ERR_CHECKED;

// rpc_tls_codec_connect begins the handshake with the server at host: there is output at once. It refers to the client.
enum err rpc_tls_codec_connect(struct rpc_tls_client *client, const char *host, struct rpc_tls_codec **out) ERR_CHECKED;

void rpc_tls_codec_free(struct rpc_tls_codec **codec);

// rpc_tls_codec_is_open: the handshake is over, so bytes can be written.
bool rpc_tls_codec_is_open(const struct rpc_tls_codec *codec);

// ---- Receiving ----

// rpc_tls_codec_space says where received records go; never empty after rpc_tls_codec_read has found nothing.
void rpc_tls_codec_space(struct rpc_tls_codec *codec, uint8_t **at_out, size_t *size_out);
void rpc_tls_codec_add(struct rpc_tls_codec *codec, size_t size);

// rpc_tls_codec_read opens as many of them as fit. 0 bytes: receive more. There may be output afterwards, also after a
// failure. ERR_CLOSED: the peer has ended in order. ERR_PROTOCOL: it is no TLS, or damaged. ERR_UNTRUSTED: the server's
// certificate is not trusted. ERR_DENIED: the peer refuses ours, or misses it.
enum err rpc_tls_codec_read(struct rpc_tls_codec *codec, uint8_t *at, size_t size, size_t *size_out) ERR_CHECKED;

// rpc_tls_codec_expects_more: the last addition has probably left something behind with the sender.
bool rpc_tls_codec_expects_more(const struct rpc_tls_codec *codec);

size_t rpc_tls_codec_input_capacity(const struct rpc_tls_codec *codec);
void rpc_tls_codec_trim_input(struct rpc_tls_codec *codec);

// ---- Sending ----

// rpc_tls_codec_has_output: the handshake, or the end, has something to say of its own.
bool rpc_tls_codec_has_output(const struct rpc_tls_codec *codec);

// rpc_tls_codec_write appends the output to records, and then the beginning of data, which may be empty, sealed.
// *taken_out is how much of data that is. ERR_NO_MEMORY, ERR_INTERNAL: the connection is of no use.
enum err rpc_tls_codec_write(struct rpc_tls_codec *codec, struct bytes_view data, size_t *taken_out,
    struct bytes *records) ERR_CHECKED;

// rpc_tls_codec_end says farewell, if it is not too early or too late; there may be output then.
void rpc_tls_codec_end(struct rpc_tls_codec *codec);

#endif
