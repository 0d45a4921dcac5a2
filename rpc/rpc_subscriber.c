// A subscription on the client: dials, says the ticket, and hands over what comes.
//
// The subscriber is busy from its start until on_closed has returned; rpc_subscriber_free waits for that.
#include "rpc/rpc_subscriber.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "rpc/rpc_dial.h"
#include "rpc/rpc_nng.h"
#include "rpc/rpc_tls_priv.h"
#include "rpc/sp_pipe.h"

enum {
    CONNECT_TIMEOUT_MS = 5000,
};

struct rpc_subscriber {
    // Immutable after new.
    struct rpc_url url;
    struct rpc_tls_client *tls; // a reference; NULL without TLS
    char ticket[RPC_TICKET_MAX_BYTES + 1];
    struct rpc_subscriber_handlers handlers;
    void *context;

    pthread_mutex_t mutex;
    pthread_cond_t ended;
    struct {
        struct rpc_dial *dial;
        struct sp_pipe *pipe;
        bool is_freeing;
        bool is_ended; // on_closed has returned
    } locked;
};

// The last thing that touches the subscriber before rpc_subscriber_free goes on.
static void
end(struct rpc_subscriber *subscriber, enum err reason)
{
    subscriber->handlers.on_closed(subscriber->context, reason);
    (void)pthread_mutex_lock(&subscriber->mutex);
    subscriber->locked.is_ended = true;
    (void)pthread_cond_broadcast(&subscriber->ended);
    (void)pthread_mutex_unlock(&subscriber->mutex);
}

static enum err
on_peer(void *owner, enum sp_protocol peer, enum sp_protocol *own_out)
{
    (void)owner;
    (void)own_out;
    return peer == SP_PUB ? ERR_OK : ERR_PROTOCOL;
}

static void
on_message(void *owner, struct sp_message *message)
{
    struct rpc_subscriber *subscriber = owner;
    if (message->data.size < RPC_TOPIC_BYTES) {
        (void)pthread_mutex_lock(&subscriber->mutex);
        sp_pipe_close(subscriber->locked.pipe, 0);
        (void)pthread_mutex_unlock(&subscriber->mutex);
        return;
    }
    const uint8_t *topic = message->data.data;
    subscriber->handlers.on_event(subscriber->context, topic,
        bytes_view_of(topic + RPC_TOPIC_BYTES, message->data.size - RPC_TOPIC_BYTES));
}

static void
on_pipe_closed(void *owner, enum err reason)
{
    struct rpc_subscriber *subscriber = owner;
    (void)pthread_mutex_lock(&subscriber->mutex);
    struct sp_pipe *pipe = subscriber->locked.pipe;
    subscriber->locked.pipe = NULL;
    (void)pthread_mutex_unlock(&subscriber->mutex);
    sp_pipe_release(pipe);
    end(subscriber, reason);
}

static const struct sp_pipe_handlers pipe_handlers = {
    .on_peer = on_peer,
    .on_message = on_message,
    .on_closed = on_pipe_closed,
};

// Makes the pipe with the ticket queued on it. Takes the stream, also on failure.
static enum err
open_pipe(struct rpc_subscriber *subscriber, nng_stream *stream, struct sp_pipe **out)
{
    struct sp_pipe_options options = {
        .handlers = &pipe_handlers,
        .owner = subscriber,
        .max_message_bytes = RPC_MESSAGE_MAX_BYTES,
        .is_ipc = subscriber->url.is_ipc,
        .is_dialled = true,
        .dialled_as = SP_SUB,
    };
    struct sp_pipe *pipe = NULL;
    enum err err =
        subscriber->tls == NULL ? ERR_OK : rpc_tls_codec_connect(subscriber->tls, subscriber->url.host, &options.tls);
    if (err != ERR_OK) {
        nng_stream_free(stream);
        return err;
    }
    err = sp_pipe_new(stream, &options, &pipe);
    if (err != ERR_OK) {
        return err;
    }
    struct bytes_view ticket = bytes_view_of_text(subscriber->ticket);
    if (sp_pipe_queue(pipe, &ticket, 1) != ERR_OK) {
        sp_pipe_close(pipe, 0); // on_closed follows, as for any pipe
    }
    *out = pipe;
    return ERR_OK;
}

static void
on_dialled(void *context, nng_stream *stream, int nng_error)
{
    struct rpc_subscriber *subscriber = context;
    struct sp_pipe *pipe = NULL;
    enum err err = nng_error == NNG_ECANCELED ? ERR_CLOSED : nng_error != 0 ? ERR_UNAVAILABLE : ERR_OK;
    (void)pthread_mutex_lock(&subscriber->mutex);
    subscriber->locked.dial = NULL;
    if (stream != NULL && subscriber->locked.is_freeing) {
        nng_stream_free(stream);
        err = ERR_CLOSED;
    } else if (stream != NULL) {
        err = open_pipe(subscriber, stream, &pipe);
    }
    if (err == ERR_OK) {
        subscriber->locked.pipe = pipe;
        sp_pipe_hold(pipe);
    }
    (void)pthread_mutex_unlock(&subscriber->mutex);
    if (err != ERR_OK) {
        end(subscriber, err);
        return;
    }
    sp_pipe_start(pipe);
    sp_pipe_release(pipe);
}

static void
destroy(struct rpc_subscriber *subscriber)
{
    digest_wipe(subscriber->ticket, sizeof subscriber->ticket);
    rpc_tls_client_free(&subscriber->tls);
    (void)pthread_cond_destroy(&subscriber->ended);
    (void)pthread_mutex_destroy(&subscriber->mutex);
    free(subscriber);
}

enum err
rpc_subscriber_new(const char *url, struct rpc_tls_client *tls, const char *ticket,
    const struct rpc_subscriber_handlers *handlers, void *context, struct rpc_subscriber **out, struct err_detail *why)
{
    size_t ticket_size = strlen(ticket);
    if (ticket_size == 0 || ticket_size > RPC_TICKET_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "a ticket has 1 to %d characters", RPC_TICKET_MAX_BYTES);
    }
    struct rpc_subscriber *subscriber = calloc(1, sizeof *subscriber);
    if (subscriber == NULL) {
        return ERR_NO_MEMORY;
    }
    (void)pthread_mutex_init(&subscriber->mutex, NULL);
    (void)pthread_cond_init(&subscriber->ended, NULL);
    memcpy(subscriber->ticket, ticket, ticket_size);
    subscriber->handlers = *handlers;
    subscriber->context = context;
    enum err err = rpc_url_parse(url, &subscriber->url, why);
    if (err == ERR_OK && subscriber->url.is_tls && tls == NULL) {
        err = err_fail(why, ERR_INVALID, "\"%s\" needs to be told whom to trust", url);
    }
    if (err == ERR_OK) {
        subscriber->tls = rpc_tls_client_hold(subscriber->url.is_tls ? tls : NULL);
        (void)pthread_mutex_lock(&subscriber->mutex);
        err = rpc_dial_start(&subscriber->url, CONNECT_TIMEOUT_MS, on_dialled, subscriber, &subscriber->locked.dial);
        (void)pthread_mutex_unlock(&subscriber->mutex);
    }
    if (err != ERR_OK) {
        destroy(subscriber);
        return err;
    }
    *out = subscriber;
    return ERR_OK;
}

void
rpc_subscriber_free(struct rpc_subscriber **subscriber_in)
{
    struct rpc_subscriber *subscriber = *subscriber_in;
    if (subscriber == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&subscriber->mutex);
    subscriber->locked.is_freeing = true;
    if (subscriber->locked.dial != NULL) {
        rpc_dial_cancel(subscriber->locked.dial);
    }
    if (subscriber->locked.pipe != NULL) {
        sp_pipe_close(subscriber->locked.pipe, 0);
    }
    while (!subscriber->locked.is_ended) {
        (void)pthread_cond_wait(&subscriber->ended, &subscriber->mutex);
    }
    (void)pthread_mutex_unlock(&subscriber->mutex);
    destroy(subscriber);
    *subscriber_in = NULL;
}
