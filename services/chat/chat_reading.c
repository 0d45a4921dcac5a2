// The methods that read, and Typing, which keeps nothing. They run on the server's worker threads.
#include <stdlib.h>
#include <string.h>

#include "services/chat/chat_blocks.h"
#include "services/chat/chat_history.h"
#include "services/chat/chat_operation.h"
#include "services/chat/chat_reports.h"
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
        response.log_seq = page->room.log_seq;
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

struct search_read {
    struct chat_search_query query;
    struct chat_history page;
    struct err_detail why;
};

static enum err
read_search(struct store_tx *tx, void *context)
{
    struct search_read *read = context;
    return chat_search(tx, &read->query, &read->page, &read->why);
}

void
chat_reading_search(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SearchRequest *request,
    Fc__Chat__V1__SearchResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    struct search_read read = {
        .query = {.user_id = rpc_call_identity(call)->subject_id,
            .room = request->room,
            .words = request->words,
            .sender = request->sender,
            .limit = request->limit,
            .before_seq = request->before_seq},
    };
    Fc__Chat__V1__SearchResponse response = FC__CHAT__V1__SEARCH_RESPONSE__INIT;
    enum err err = store_read(chat->store, read_search, &read);
    if (err == ERR_OK) {
        err = wire_page(&read.page, &response.messages);
    }
    if (err == ERR_OK) {
        response.n_messages = read.page.count;
        response.has_more = read.page.next_before_seq != 0;
        response.next_before_seq = read.page.next_before_seq;
        reply(&response, call);
    } else {
        chat_fail(call, err, &read.why);
    }
    free(response.messages);
    chat_history_deinit(&read.page);
}

struct room_read {
    const uint8_t *user_id;
    const char *name;
    struct chat_room room;
    struct err_detail why;
};

static enum err
read_member_room(struct store_tx *tx, void *context)
{
    struct room_read *read = context;
    return chat_core_find_member_room(tx, read->name, read->user_id, &read->room, &read->why);
}

void
chat_reading_get_presence(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__GetPresenceRequest *request,
    Fc__Chat__V1__GetPresenceResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    struct room_read read = {.user_id = rpc_call_identity(call)->subject_id, .name = request->room};
    Fc__Chat__V1__GetPresenceResponse response = FC__CHAT__V1__GET_PRESENCE_RESPONSE__INIT;
    enum err err = store_read(chat->store, read_member_room, &read);
    if (err == ERR_OK) {
        err = chat_fanout_present(chat->fanout, read.room.id, &response.present_user_names,
            &response.n_present_user_names);
    }
    if (err == ERR_OK) {
        reply(&response, call);
    } else {
        chat_fail(call, err, &read.why);
    }
    free(response.present_user_names);
}

struct typing_read {
    struct room_read base;
    bool is_blocked; // by the other one of a direct room, and not to be told
};

static enum err
read_typing(struct store_tx *tx, void *context)
{
    struct typing_read *read = context;
    enum err err = read_member_room(tx, &read->base);
    return err == ERR_OK ? chat_blocks_silences(tx, read->base.room.id, read->base.user_id, &read->is_blocked) : err;
}

void
chat_reading_typing(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__TypingRequest *request,
    Fc__Chat__V1__TypingResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    struct chat_user user = chat_caller(call);
    struct typing_read read = {.base = {.user_id = user.id, .name = request->room}};
    enum err err = store_read(chat->store, read_typing, &read);
    if (err != ERR_OK) {
        chat_fail(call, err, &read.base.why);
        return;
    }
    Fc__Chat__V1__TypingResponse response = FC__CHAT__V1__TYPING_RESPONSE__INIT;
    if (!read.is_blocked) {
        chat_fanout_publish_typing(chat->fanout, read.base.room.id, &user);
    }
    reply(&response, call);
}

struct reports_read {
    uint64_t after_id;
    struct chat_reports_page page;
};

static enum err
read_reports(struct store_tx *tx, void *context)
{
    struct reports_read *read = context;
    return chat_reports_list(tx, read->after_id, &read->page);
}

// wire_reports decodes the messages that were reported.
static enum err
wire_reports(const struct chat_reports_page *page, Fc__Chat__V1__ReportedMessage *reports)
{
    for (size_t i = 0; i < page->count; i++) {
        const struct chat_report *from = &page->reports[i];
        Fc__Chat__V1__ReportedMessage *to = &reports[i];
        fc__chat__v1__reported_message__init(to);
        // protobuf-c has no const, but what is only packed is not written to.
        to->reporter = (char *)(uintptr_t)from->reporter;
        to->reason = (char *)(uintptr_t)from->reason;
        to->room_name = (char *)(uintptr_t)from->room_name;
        to->id = from->id;
        to->reported_at_ms = from->reported_at_ms;
        to->message_key =
            (ProtobufCBinaryData){.len = from->message_key.size, .data = (uint8_t *)(uintptr_t)from->message_key.data};
        to->message = fc__chat__v1__message__unpack(NULL, from->message.size, from->message.data);
        if (to->message == NULL) {
            return ERR_NO_MEMORY;
        }
    }
    return ERR_OK;
}

static enum err
reply_reports(const struct chat_reports_page *page, Fc__Chat__V1__ListReportsResponse_Closure reply,
    struct rpc_call *call)
{
    Fc__Chat__V1__ListReportsResponse response = FC__CHAT__V1__LIST_REPORTS_RESPONSE__INIT;
    Fc__Chat__V1__ReportedMessage *reports = calloc(page->count + 1, sizeof(*reports));
    response.reports = calloc(page->count + 1, sizeof(void *));
    enum err err = reports == NULL || response.reports == NULL ? ERR_NO_MEMORY : wire_reports(page, reports);
    if (err == ERR_OK) {
        for (size_t i = 0; i < page->count; i++) {
            response.reports[i] = &reports[i];
        }
        response.n_reports = page->count;
        reply(&response, call);
    }
    for (size_t i = 0; reports != NULL && i < page->count; i++) {
        fc__chat__v1__message__free_unpacked(reports[i].message, NULL);
    }
    free(response.reports);
    free(reports);
    return err;
}

void
chat_reading_list_reports(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__ListReportsRequest *request,
    Fc__Chat__V1__ListReportsResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    struct reports_read read = {.after_id = request->after_id};
    enum err err = store_read(chat->store, read_reports, &read);
    if (err == ERR_OK) {
        err = reply_reports(&read.page, reply, call);
    }
    if (err != ERR_OK) {
        chat_fail(call, err, NULL);
    }
    arena_deinit(&read.page.arena);
}
