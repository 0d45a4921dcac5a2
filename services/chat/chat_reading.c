// The methods that read messages. They run on the server's worker threads.
#include <stdlib.h>
#include <string.h>

#include "services/chat/chat_history.h"
#include "services/chat/chat_operation.h"
#include "services/chat/chat_wire.h"

// One message of a reply, with what belongs to it.
struct entry {
    Fc__Chat__V1__Message message;
    Fc__Chat__V1__FileAnnouncement file;
};

// wire_page makes `*out` an array of the page's messages that borrow from it; one free gives it back.
static enum err
wire_page(const struct chat_history *page, Fc__Chat__V1__Message ***out)
{
    Fc__Chat__V1__Message **pointers = malloc(page->count * (sizeof(void *) + sizeof(struct entry)) + 1);
    if (pointers == NULL) {
        return ERR_NO_MEMORY;
    }
    struct entry *entries = (struct entry *)(void *)(pointers + page->count);
    for (size_t i = 0; i < page->count; i++) {
        chat_wire_message(&page->messages[i], &entries[i].message, &entries[i].file);
        pointers[i] = &entries[i].message;
    }
    *out = pointers;
    return ERR_OK;
}

struct history_read {
    struct chat_history_query query;
    struct chat_history page;
    struct err_detail why;
};

static enum err
read_history(struct store_tx *tx, void *context)
{
    struct history_read *read = context;
    return chat_history_read(tx, &read->query, &read->page, &read->why);
}

static enum err
reply_history(struct chat_history *page, Fc__Chat__V1__HistoryResponse_Closure reply, struct rpc_call *call)
{
    Fc__Chat__V1__HistoryResponse response = FC__CHAT__V1__HISTORY_RESPONSE__INIT;
    enum err err = wire_page(page, &response.messages);
    if (err == ERR_OK) {
        response.n_messages = page->count;
        response.room_id = (ProtobufCBinaryData){.len = CHAT_ID_BYTES, .data = page->room.id};
        response.head_seq = page->room.head_seq;
        reply(&response, call);
    }
    free(response.messages);
    return err;
}

void
chat_reading_history(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__HistoryRequest *request,
    Fc__Chat__V1__HistoryResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    struct history_read read = {
        .query = {.user_id = rpc_call_identity(call)->subject_id,
            .room = request->room,
            .limit = request->limit,
            .after_seq = request->after_seq,
            .newest = request->newest,
            .before_seq = request->before_seq,
            .around_seq = request->around_seq,
            .since_ms = request->since_ms},
    };
    enum err err = store_read(chat->store, read_history, &read);
    if (err == ERR_OK) {
        err = reply_history(&read.page, reply, call);
    }
    if (err != ERR_OK) {
        chat_fail(call, err, &read.why);
    }
    chat_history_deinit(&read.page);
}
