// Subscribe. It watches first and reads afterwards, so that each message is either below the head_seq of its answer or
// delivered, and a membership that ends meanwhile is noticed by one of the two.
#include <stdlib.h>

#include "services/chat/chat_operation.h"
#include "services/chat/chat_reads.h"
#include "services/chat/chat_wire.h"

enum {
    SUBSCRIBE_ROOMS_MAX = 1000,
};

struct subscribe_query {
    const uint8_t *user_id;
    char **names;
    struct chat_room *rooms;
    size_t count;
    bool is_shown; // others may see that the user is there
    struct err_detail why;
};

static enum err
read_member_rooms(struct store_tx *tx, void *context)
{
    struct subscribe_query *query = context;
    enum err err = chat_settings_get(tx, query->user_id, &query->is_shown);
    for (size_t i = 0; i < query->count && err == ERR_OK; i++) {
        err = chat_core_find_member_room(tx, query->names[i], query->user_id, &query->rooms[i], &query->why);
    }
    return err;
}

static void
reply_subscribe(struct subscribe_query *query, struct chat_subscription *subscription,
    Fc__Chat__V1__SubscribeResponse_Closure reply, struct rpc_call *call)
{
    Fc__Chat__V1__SubscribeResponse response = FC__CHAT__V1__SUBSCRIBE_RESPONSE__INIT;
    enum err err = chat_wire_rooms(query->rooms, query->count, &response.rooms);
    if (err != ERR_OK) {
        chat_subscription_close(subscription);
        chat_fail(call, err, NULL);
        return;
    }
    // protobuf-c has no const; the ticket is only read.
    response.ticket = (char *)(uintptr_t)chat_subscription_ticket(subscription);
    response.n_rooms = query->count;
    reply(&response, call);
    free(response.rooms);
}

// read_again is for after the subscription was opened: what comes later is delivered. Without error the others see the
// user, unless that is not wanted.
static enum err
read_again(struct chat_service *chat, struct subscribe_query *query, struct chat_subscription *subscription)
{
    bool is_settled = false;
    enum err err = ERR_OK;
    while (err == ERR_OK && !is_settled) {
        uint64_t presence_version = chat_fanout_presence_version(chat->fanout);
        err = store_read(chat->store, read_member_rooms, query);
        is_settled = err != ERR_OK || !query->is_shown || chat_subscription_show(subscription, presence_version);
    }
    return err;
}

static void
subscribe_rooms(struct chat_service *chat, struct subscribe_query *query, Fc__Chat__V1__SubscribeResponse_Closure reply,
    struct rpc_call *call)
{
    struct chat_subscription *subscription = NULL;
    enum err err = store_read(chat->store, read_member_rooms, query);
    if (err == ERR_OK) {
        err = chat_fanout_open(chat->fanout, rpc_call_identity(call), query->rooms, query->count, &subscription,
            &query->why);
    }
    if (err == ERR_OK) {
        err = read_again(chat, query, subscription);
        if (err != ERR_OK) {
            chat_subscription_close(subscription);
        }
    }
    if (err != ERR_OK) {
        chat_fail(call, err, &query->why);
    } else {
        for (size_t i = 0; i < query->count; i++) {
            chat_fanout_note_heads(chat->fanout, query->rooms[i].id, query->rooms[i].head_seq, query->rooms[i].log_seq);
        }
        reply_subscribe(query, subscription, reply, call);
    }
    if (subscription != NULL) {
        chat_subscription_release(subscription);
    }
}

void
chat_subscribe(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SubscribeRequest *request,
    Fc__Chat__V1__SubscribeResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    if (request->n_rooms == 0 || request->n_rooms > SUBSCRIBE_ROOMS_MAX) {
        rpc_call_fail(call, ERR_INVALID, "a subscription is for 1 to %d rooms, not %zu", SUBSCRIBE_ROOMS_MAX,
            request->n_rooms);
        return;
    }
    struct subscribe_query query = {.user_id = rpc_call_identity(call)->subject_id,
        .names = request->rooms,
        .count = request->n_rooms};
    query.rooms = calloc(query.count, sizeof(*query.rooms));
    if (query.rooms == NULL) {
        chat_fail(call, ERR_NO_MEMORY, NULL);
        return;
    }
    subscribe_rooms((struct chat_service *)service, &query, reply, call);
    free(query.rooms);
}
