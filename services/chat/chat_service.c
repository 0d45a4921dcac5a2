// The Chat service: its table of methods, which have files of their own, and its lifecycle.
#include "services/chat/chat_service.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "services/chat/chat_core.h"
#include "services/chat/chat_log.h"
#include "services/chat/chat_service_priv.h"

void
chat_fail(struct rpc_call *call, enum err code, const struct err_detail *why)
{
    if (code == ERR_IO || code == ERR_CORRUPT || code == ERR_INTERNAL || code == ERR_NO_SPACE) {
        log_error("CHAT-STORE-FAILED", NULL, "a call failed: %s", err_message(why, code));
        why = NULL;
    }
    if (code == ERR_NO_SPACE) {
        rpc_call_fail(call, code, "the server's disk is full: try again when its operator has made room");
        return;
    }
    rpc_call_fail_detail(call, code, why, NULL, 0);
}

enum {
    // An entry of a room's log and what goes with it.
    ENTRY_REQUEST_MAX_BYTES = E2E_ENTRY_MAX_BYTES + 128 * 1024,
};

static const struct rpc_method_rule rules[] = {
    {.method = "CreateRoom", .access = RPC_ACCESS_TOKEN, .max_request_bytes = ENTRY_REQUEST_MAX_BYTES},
    {.method = "ListRooms", .access = RPC_ACCESS_TOKEN},
    {.method = "GetRoom", .access = RPC_ACCESS_TOKEN},
    {.method = "Join", .access = RPC_ACCESS_TOKEN, .max_request_bytes = ENTRY_REQUEST_MAX_BYTES},
    {.method = "Leave", .access = RPC_ACCESS_TOKEN, .max_request_bytes = ENTRY_REQUEST_MAX_BYTES},
    {.method = "Amend", .access = RPC_ACCESS_TOKEN, .max_request_bytes = ENTRY_REQUEST_MAX_BYTES},
    {.method = "GetLog", .access = RPC_ACCESS_TOKEN},
    {.method = "GetLink", .access = RPC_ACCESS_TOKEN},
    {.method = "Send", .access = RPC_ACCESS_TOKEN},
    {.method = "History", .access = RPC_ACCESS_TOKEN},
    {.method = "Search", .access = RPC_ACCESS_TOKEN},
    {.method = "MarkRead", .access = RPC_ACCESS_TOKEN},
    {.method = "Typing", .access = RPC_ACCESS_TOKEN},
    {.method = "GetPresence", .access = RPC_ACCESS_TOKEN},
    {.method = "SetPresence", .access = RPC_ACCESS_TOKEN},
    {.method = "Block", .access = RPC_ACCESS_TOKEN},
    {.method = "ListBlocks", .access = RPC_ACCESS_TOKEN},
    {.method = "Report", .access = RPC_ACCESS_TOKEN},
    {.method = "ListReports", .access = RPC_ACCESS_ADMIN},
    {.method = "Subscribe", .access = RPC_ACCESS_TOKEN},
};

enum err
chat_service_new(const struct chat_service_options *options, struct chat_service **out, struct err_detail *why)
{
    struct chat_service *chat = calloc(1, sizeof(*chat));
    if (chat == NULL) {
        return ERR_NO_MEMORY;
    }
    chat->rpc = (Fc__Chat__V1__Chat_Service){
        .base = {.descriptor = &fc__chat__v1__chat__descriptor, .invoke = protobuf_c_service_invoke_internal},
        .create_room = chat_changes_create_room,
        .list_rooms = chat_lists_list_rooms,
        .join = chat_changes_join,
        .leave = chat_changes_leave,
        .send = chat_send,
        .history = chat_reading_history,
        .subscribe = chat_subscribe,
        .search = chat_reading_search,
        .get_presence = chat_reading_get_presence,
        .list_reports = chat_reading_list_reports,
        .typing = chat_reading_typing,
        .mark_read = chat_marks_mark_read,
        .set_presence = chat_marks_set_presence,
        .report = chat_marks_report,
        .get_room = chat_lists_get_room,
        .amend = chat_changes_amend,
        .get_log = chat_lists_get_log,
        .get_link = chat_lists_get_link,
        .block = chat_changes_block,
        .list_blocks = chat_lists_list_blocks,
    };
    // With default attributes these two cannot fail on Linux.
    pthread_mutex_init(&chat->mutex, NULL);
    pthread_cond_init(&chat->idle, NULL);
    chat->store = options->store;
    chat->find_shared_file = options->find_shared_file;
    chat->find_shared_file_context = options->context;
    chat->find_chain = options->find_chain;
    chat->find_chain_context = options->context;
    chat->people = (struct chat_people){
        .find_user = options->find_user,
        .find_user_name = options->find_user_name,
        .find_chain = options->find_chain,
        .context = options->context,
        .max_rooms_per_user = options->max_rooms_per_user,
        .max_members = options->max_members,
    };
    enum err err = chat_core_migrate(options->store, why);
    if (err == ERR_OK && options->sends_per_second > 0) {
        err = rpc_rate_new(options->sends_per_second, &chat->send_rate);
    }
    if (err == ERR_OK) {
        err = chat_fanout_new(options->server, CHAT_HEARTBEAT_MS, &chat->fanout);
    }
    if (err != ERR_OK) {
        chat_service_free(&chat);
        return err;
    }
    *out = chat;
    return ERR_OK;
}

ProtobufCService *
chat_service_rpc(struct chat_service *chat)
{
    return &chat->rpc.base;
}

const struct rpc_method_rule *
chat_service_rules(size_t *count_out)
{
    *count_out = sizeof(rules) / sizeof(rules[0]);
    return rules;
}

enum err
chat_service_find_member_room(struct chat_service *chat, struct store_tx *tx, const char *room,
    const uint8_t user_id[16], struct chat_room_ref *out, struct err_detail *why)
{
    (void)chat;
    struct chat_room found;
    enum err err = chat_core_find_member_room(tx, room, user_id, &found, why);
    if (err == ERR_OK) {
        memcpy(out->room_id, found.id, sizeof(out->room_id));
        memcpy(out->name, found.name, sizeof(out->name));
    }
    return err;
}

enum err
chat_service_is_member(struct chat_service *chat, struct store_tx *tx, const uint8_t room_id[16],
    const uint8_t user_id[16], bool *is_member_out)
{
    (void)chat;
    struct chat_room room;
    enum err err = chat_core_get_room(tx, room_id, user_id, &room);
    if (err == ERR_OK || err == ERR_NOT_FOUND) {
        *is_member_out = err == ERR_OK && room.is_member;
        return ERR_OK;
    }
    return err;
}

enum err
chat_service_is_encrypted(struct chat_service *chat, struct store_tx *tx, const uint8_t room_id[16],
    bool *is_encrypted_out)
{
    static const uint8_t nobody[16];
    struct chat_room room;
    (void)chat;
    enum err err = chat_core_get_room(tx, room_id, nobody, &room);
    if (err == ERR_OK || err == ERR_NOT_FOUND) {
        *is_encrypted_out = err == ERR_OK && !room.is_plain;
        return ERR_OK;
    }
    return err;
}

enum err
chat_service_device_revoked(struct chat_service *chat, struct store_tx *tx, const uint8_t user_id[16])
{
    (void)chat;
    return chat_log_ask_rekey(tx, user_id);
}

void
chat_service_end_session(struct chat_service *chat, const uint8_t session_id[16])
{
    chat_fanout_end_session(chat->fanout, session_id);
}

void
chat_service_stop(struct chat_service *chat)
{
    chat_fanout_stop(chat->fanout);
}

void
chat_service_free(struct chat_service **chat)
{
    if (*chat == NULL) {
        return;
    }
    pthread_mutex_lock(&(*chat)->mutex);
    while ((*chat)->locked.operations > 0) {
        pthread_cond_wait(&(*chat)->idle, &(*chat)->mutex);
    }
    pthread_mutex_unlock(&(*chat)->mutex);
    chat_fanout_free(&(*chat)->fanout);
    rpc_rate_free(&(*chat)->send_rate);
    pthread_cond_destroy(&(*chat)->idle);
    pthread_mutex_destroy(&(*chat)->mutex);
    free(*chat);
    *chat = NULL;
}
