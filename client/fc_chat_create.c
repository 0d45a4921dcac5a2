// Making rooms.
#include <string.h>

#include "base/random.h"
#include "client/fc_chat_entry_priv.h"
#include "client/fc_chat_priv.h"
#include "client/fc_lend_priv.h"

#include "fc/chat/v1/chat.stub.h"

static enum err
create_with(struct fc_chat *chat, const Fc__Chat__V1__CreateRoomRequest *request, struct fc_chat_place **out,
    struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__CreateRoomResponse *response = NULL;
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_create_room(&call, request, &response), why);
    if (err == ERR_OK) {
        err = fc_chat_take_room(chat, response->room, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

static enum err
create_plain(struct fc_chat *chat, const struct fc_chat_new_room *wanted, struct fc_chat_place **out,
    struct err_detail *why)
{
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    request.name = fc_lend_text(wanted->name == NULL ? "" : wanted->name);
    request.is_plain = true;
    request.kind = wanted->is_direct   ? FC__E2E__V1__ROOM_KIND__DIRECT
                   : wanted->is_public ? FC__E2E__V1__ROOM_KIND__PUBLIC
                                       : FC__E2E__V1__ROOM_KIND__PRIVATE;
    request.topic = fc_lend_text(wanted->topic == NULL ? "" : wanted->topic);
    request.members = fc_lend_texts(wanted->members);
    request.n_members = wanted->member_count;
    return create_with(chat, &request, out, why);
}

static enum err
write_creation(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_new_room *wanted,
    struct err_detail *why)
{
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_CREATE);
    Fc__E2e__V1__CreateRoom *create = fc_chat_entry_new(entry, sizeof(*create));
    char *name = fc_chat_entry_text(entry, wanted->name == NULL ? "" : wanted->name);
    if (change == NULL || create == NULL || name == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__create_room__init(create);
    create->name = name;
    create->kind = wanted->is_direct ? FC__E2E__V1__ROOM_KIND__DIRECT : FC__E2E__V1__ROOM_KIND__PRIVATE;
    create->history =
        wanted->is_history_joined ? FC__E2E__V1__HISTORY__HISTORY_JOINED : FC__E2E__V1__HISTORY__HISTORY_ALL;
    change->create = create;
    enum err err = ERR_OK;
    for (size_t i = 0; i < wanted->member_count && err == ERR_OK; i++) {
        const struct e2e_user *user = NULL;
        err = fc_chat_user_named(chat, wanted->members[i], &user, why);
        if (err == ERR_OK) {
            err = fc_chat_entry_add_member(entry, user,
                wanted->is_direct ? FC__E2E__V1__ROLE__OWNER : FC__E2E__V1__ROLE__MEMBER, false);
        }
    }
    if (err == ERR_OK && wanted->topic != NULL && wanted->topic[0] != '\0') {
        err = fc_chat_entry_set_text(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC, wanted->topic);
    }
    return err;
}

static enum err
create_encrypted(struct fc_chat *chat, const struct fc_chat_new_room *wanted, struct fc_chat_place **out,
    struct err_detail *why)
{
    uint8_t room_id[E2E_ID_BYTES];
    struct fc_chat_entry entry = {0};
    const struct fc_chat_place nowhere = {0};
    const struct e2e_keys *device = NULL;
    enum err err = fc_chat_own_device(chat, &device, why);
    random_bytes(room_id, sizeof(room_id));
    if (err == ERR_OK) {
        err = fc_chat_entry_init(&entry, &nowhere.state, room_id, fc_chat_own_id(chat), device->id);
    }
    if (err == ERR_OK) {
        err = write_creation(chat, &entry, wanted, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_complete(chat, &nowhere, &entry, true, NULL, why);
    }
    if (err == ERR_OK) {
        Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
        request.name = fc_lend_text(wanted->name == NULL ? "" : wanted->name);
        request.entry = &entry.wire;
        err = create_with(chat, &request, out, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_sync_log(chat, *out, why);
    }
    fc_chat_entry_deinit(&entry);
    return err;
}

static enum err
create(struct fc_chat *chat, const struct fc_chat_new_room *wanted, struct fc_room *out, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    if (wanted->is_public && !wanted->is_plain) {
        return err_fail(why, ERR_INVALID,
            "everybody on the server may enter and read a public room, so that there is nothing to encrypt: make it "
            "with "
            "--plain");
    }
    enum err err =
        wanted->is_plain ? create_plain(chat, wanted, &place, why) : create_encrypted(chat, wanted, &place, why);
    if (err == ERR_OK) {
        fc_chat_describe(place, out);
    }
    return err;
}

enum err
fc_chat_create(struct fc_chat *chat, const struct fc_chat_new_room *wanted, struct fc_room *out, struct err_detail *why)
{
    fc_chat_lock(chat);
    enum err err = create(chat, wanted, out, why);
    fc_chat_unlock(chat);
    return err;
}

static enum err
find_direct(struct fc_chat *chat, const char *user_name, struct fc_room *out, struct err_detail *why)
{
    char name[TEXT_USER_NAME_MAX_BYTES + 2] = "@";
    struct fc_chat_place *place = NULL;
    enum err err = text_check_user_name(user_name, why);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(name + 1, user_name, strlen(user_name) + 1);
    err = fc_chat_find_place(chat, name, &place, why);
    if (err == ERR_OK) {
        fc_chat_describe(place, out);
        return ERR_OK;
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    const struct fc_chat_new_room wanted = {.is_direct = true, .members = &user_name, .member_count = 1};
    err = create(chat, &wanted, out, why);
    if (err == ERR_EXISTS) {
        // The other was faster.
        err = fc_chat_find_place(chat, name, &place, why);
        if (err == ERR_OK) {
            fc_chat_describe(place, out);
        }
    }
    return err;
}

enum err
fc_chat_direct(struct fc_chat *chat, const char *user_name, struct fc_room *out, struct err_detail *why)
{
    fc_chat_lock(chat);
    enum err err = find_direct(chat, user_name, out, why);
    fc_chat_unlock(chat);
    return err;
}
