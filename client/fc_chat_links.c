// Looking at a room's people and links, and revoking a link.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client/fc_chat_entry_priv.h"
#include "client/fc_chat_priv.h"

#include "fc/chat/v1/chat.stub.h"

// --- People ---------------------------------------------------------------------------------------------------------

static enum err
get_room(struct fc_chat *chat, struct fc_chat_place *place, struct rpc_unary *call,
    const Fc__Chat__V1__GetRoomResponse **out, struct err_detail *why)
{
    Fc__Chat__V1__GetRoomRequest request = FC__CHAT__V1__GET_ROOM_REQUEST__INIT;
    request.room = place->id_text;
    fc_chat_start_call(chat, call);
    return fc_session_explain(call, fc_chat_v1_chat_get_room(call, &request, out), why);
}

enum err
fc_chat_each_member(struct fc_chat *chat, const char *room,
    bool (*fn)(void *context, const struct fc_chat_member *member), void *context, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK && place->row.is_plain) {
        struct rpc_unary call;
        const Fc__Chat__V1__GetRoomResponse *response = NULL;
        err = get_room(chat, place, &call, &response, why);
        for (size_t i = 0; err == ERR_OK && i < response->n_members; i++) {
            const struct fc_chat_member member = {
                .user_name = response->members[i]->user_name,
                .role = (enum fc_role)response->members[i]->role,
                .is_invited = response->members[i]->is_invited,
            };
            if (!fn(context, &member)) {
                break;
            }
        }
        rpc_unary_deinit(&call);
    } else if (err == ERR_OK) {
        // Who is in an encrypted room its members say, not the server.
        err = fc_chat_sync_log(chat, place, why);
        const Fc__E2e__V1__RoomState *state = place->state.state;
        for (size_t i = 0; err == ERR_OK && state != NULL && i < state->n_members; i++) {
            const struct fc_chat_member member = {
                .user_name = state->members[i]->user_name,
                .role = (enum fc_role)state->members[i]->role,
                .is_invited = state->members[i]->is_invited,
            };
            if (!fn(context, &member)) {
                break;
            }
        }
    }
    fc_chat_unlock(chat);
    return err;
}

// --- Links ----------------------------------------------------------------------------------------------------------

static bool
tell_link(const Fc__E2e__V1__RoomLink *wire, bool (*fn)(void *context, const struct fc_chat_link *link), void *context)
{
    if (wire->link == NULL || wire->link->link_id.len != E2E_ID_BYTES || e2e_room_is_link_used_up(wire) ||
        e2e_room_is_link_expired(wire, clock_unix_ms())) {
        return true;
    }
    const struct fc_chat_link link = {
        .id = wire->link->link_id.data,
        .role = (enum fc_role)wire->link->role,
        .expires_unix_ms = wire->link->expires_at_ms,
        .max_uses = wire->link->max_uses,
        .use_count = wire->use_count,
    };
    return fn(context, &link);
}

enum err
fc_chat_each_link(struct fc_chat *chat, const char *room, bool (*fn)(void *context, const struct fc_chat_link *link),
    void *context, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK && place->row.is_plain) {
        struct rpc_unary call;
        const Fc__Chat__V1__GetRoomResponse *response = NULL;
        err = get_room(chat, place, &call, &response, why);
        for (size_t i = 0; err == ERR_OK && i < response->n_links; i++) {
            if (!tell_link(response->links[i], fn, context)) {
                break;
            }
        }
        rpc_unary_deinit(&call);
    } else if (err == ERR_OK) {
        err = fc_chat_sync_log(chat, place, why);
        const Fc__E2e__V1__RoomState *state = place->state.state;
        for (size_t i = 0; err == ERR_OK && state != NULL && i < state->n_links; i++) {
            if (!tell_link(state->links[i], fn, context)) {
                break;
            }
        }
    }
    fc_chat_unlock(chat);
    return err;
}

static enum err
write_revocation(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_place *place,
    const void *context, struct err_detail *why)
{
    (void)chat;
    if (e2e_room_link(&place->state, context) == NULL) {
        return err_fail(why, ERR_NOT_FOUND, "\"%s\" has no such link; fc invite ls %s lists those it has",
            place->row.name, place->row.name);
    }
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_REVOKE_LINK);
    return change == NULL ? ERR_NO_MEMORY : fc_chat_entry_bytes(entry, context, E2E_ID_BYTES, &change->revoke_link);
}

// parse_id takes the id alone, or out of a whole link.
static enum err
parse_id(const char *text, uint8_t id_out[E2E_ID_BYTES], struct err_detail *why)
{
    char id_text[2 * E2E_ID_BYTES + 1] = "";
    const char *path = strstr(text, "/j/");
    const char *begin = path == NULL ? text : path + 3;
    size_t size = strcspn(begin, "#");
    if (size == 2 * E2E_ID_BYTES) {
        memcpy(id_text, begin, size);
    }
    if (bytes_from_hex(id_text, id_out, E2E_ID_BYTES) != ERR_OK) {
        return err_fail(why, ERR_INVALID, "a link's id is %d hexadecimal digits, as fc invite ls shows it",
            2 * E2E_ID_BYTES);
    }
    return ERR_OK;
}

enum err
fc_chat_link_revoke(struct fc_chat *chat, const char *room, const char *id_text, struct err_detail *why)
{
    uint8_t id[E2E_ID_BYTES];
    struct fc_chat_place *place = NULL;
    enum err err = parse_id(id_text, id, why);
    if (err != ERR_OK) {
        return err;
    }
    fc_chat_lock(chat);
    err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK && place->row.is_plain) {
        struct rpc_unary call;
        Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
        request.room = place->id_text;
        request.revoke_link = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
        fc_chat_start_call(chat, &call);
        err = fc_session_explain(&call, fc_chat_v1_chat_amend(&call, &request, NULL), why);
        rpc_unary_deinit(&call);
    } else if (err == ERR_OK) {
        err = fc_chat_amend_log(chat, place, write_revocation, id, false, why);
    }
    fc_chat_unlock(chat);
    return err;
}
