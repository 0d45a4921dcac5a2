// For insiders of rpc/: what the parts that use nng share. Errors, addresses, and the two helper threads.
#ifndef RPC_NNG_H
#define RPC_NNG_H

#include <stdbool.h>
#include <stdint.h>

#include <nng/nng.h>

#include "base/err.h"
#include "base/timer.h"
#include "base/work_pool.h"
#include "rpc/rpc_limits.h"

enum {
    RPC_NNG_ADDRESS_MAX_BYTES = 64, // "[" 45 characters "]:65535" and NUL fit
};

// err_from_nng translates what nng returns.
enum err err_from_nng(int nng_error);

// rpc_nng_explain is the sentence for an nng error, lower case, for use after a colon.
const char *rpc_nng_explain(int nng_error);

// rpc_url is tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc://PATH, taken apart.
struct rpc_url {
    char text[RPC_URL_MAX_BYTES];
    char host[RPC_URL_MAX_BYTES]; // without brackets; empty or "*" means every local address; tcp only
    char path[RPC_URL_MAX_BYTES]; // ipc only
    uint16_t port;                // tcp only
    bool is_ipc;
    bool is_tls;
    bool has_host_name; // the host has to be looked up
};

// rpc_url_parse checks and splits. Without a port, tls+tcp:// gets RPC_TLS_DEFAULT_PORT. ERR_INVALID with the reason.
enum err rpc_url_parse(const char *text, struct rpc_url *url_out, struct err_detail *why) ERR_CHECKED;

// rpc_url_stream is the URL of the stream below TLS, for nng.
const char *rpc_url_stream(const struct rpc_url *url);

// rpc_nng_format_address writes the peer's address as "127.0.0.1:4711", "[::1]:4711", "ipc", or "unknown" when it has
// gone already.
void rpc_nng_format_address(nng_stream *stream, bool is_ipc, char text_out[RPC_NNG_ADDRESS_MAX_BYTES]);

// rpc_nng_timers is the timer thread that all connections and channels of the process share. NULL: it could not be
// started. Made on first use and never ended.
struct timer_queue *rpc_nng_timers(void);

// rpc_nng_reaper is the thread that frees what nng forbids to free from its callbacks. As above.
struct work_pool *rpc_nng_reaper(void);

#endif
