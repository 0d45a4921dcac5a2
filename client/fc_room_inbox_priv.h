// For fc_room_stream.c only: what a subscription has brought and the stream's thread has not taken yet.
//
// nng's threads put, the stream's thread takes and waits, anyone closes. What does not fit is dropped and remembered as
// a gap, since the history has it too.
#ifndef CLIENT_FC_ROOM_INBOX_PRIV_H
#define CLIENT_FC_ROOM_INBOX_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_subscriber.h"

enum {
    FC_ROOM_INBOX_MAX_BYTES = 4 * 1024 * 1024,
};

struct fc_room_payload {
    STAILQ_ENTRY(fc_room_payload) link;
    uint8_t topic[RPC_TOPIC_BYTES];
    size_t size;
    uint8_t data[];
};

struct fc_room_inbox {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct {
        STAILQ_HEAD(, fc_room_payload) payloads;
        size_t payload_bytes;
        bool has_gap;
        bool is_ended; // the subscription has
        enum err end_reason;
        bool is_closed;
    } locked;
};

enum err fc_room_inbox_init(struct fc_room_inbox *inbox) ERR_CHECKED;
void fc_room_inbox_deinit(struct fc_room_inbox *inbox);

// fc_room_inbox_put queues a copy. Never blocks for long.
void fc_room_inbox_put(struct fc_room_inbox *inbox, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view data);

// fc_room_inbox_end says that the subscription brings no more.
void fc_room_inbox_end(struct fc_room_inbox *inbox, enum err reason);

// fc_room_inbox_clear forgets all that a subscription brought, and its end, before the next one.
void fc_room_inbox_clear(struct fc_room_inbox *inbox);

// fc_room_inbox_close makes the functions below return from now on.
void fc_room_inbox_close(struct fc_room_inbox *inbox);
bool fc_room_inbox_is_closed(struct fc_room_inbox *inbox);

// fc_room_inbox_take waits for the next payload, which the caller frees, or gives NULL for a gap. ERR_UNAVAILABLE: the
// subscription has ended, for *end_reason_out. ERR_TIMEOUT. ERR_CANCELLED: closed.
enum err fc_room_inbox_take(struct fc_room_inbox *inbox, uint64_t timeout_ms, struct fc_room_payload **out,
    enum err *end_reason_out) ERR_CHECKED;

// fc_room_inbox_pause waits. Returns false at once when the inbox is closed.
bool fc_room_inbox_pause(struct fc_room_inbox *inbox, uint64_t delay_ms);

#endif
