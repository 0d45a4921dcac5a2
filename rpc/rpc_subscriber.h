// The client's side of a subscription: a SUB connection that presents a ticket and receives.
#ifndef RPC_SUBSCRIBER_H
#define RPC_SUBSCRIBER_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_tls.h"

struct rpc_subscriber;

struct rpc_subscriber_handlers {
    // One published message. The payload is valid during the call. On nng's threads: must not block.
    void (*on_event)(void *context, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view payload);
    // The last call, exactly once: the connection could not be made, was refused (an unknown ticket) or has ended.
    void (*on_closed)(void *context, enum err reason);
};

// rpc_subscriber_new connects in the background. url and tls are those of the channel that gave the ticket; tls may be
// NULL when the URL is not tls+tcp://.
enum err rpc_subscriber_new(const char *url, struct rpc_tls_client *tls, const char *ticket,
    const struct rpc_subscriber_handlers *handlers, void *context, struct rpc_subscriber **out,
    struct err_detail *why) ERR_CHECKED;

// rpc_subscriber_free closes it and waits until no handler runs. on_closed has been called when it returns. Not from a
// handler.
void rpc_subscriber_free(struct rpc_subscriber **subscriber);

#endif
