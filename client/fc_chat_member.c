// Coming into rooms and leaving them, and links by which others come in.
//
// A link is fc://j/ID#SECRET. From the secret come the keys of a pseudo-member, which gets the room's keys as members
// do (proto/fc/e2e/v1/chain.proto, InviteLink). The server knows the id only. What the link's maker knew of the room is
// sealed under the secret, so that the server cannot send who follows the link to another room.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/digest.h"
#include "base/random.h"
#include "client/fc_chat_entry_priv.h"
#include "client/fc_chat_priv.h"
#include "client/fc_lend_priv.h"

#include "fc/chat/v1/chat.stub.h"

static const char link_prefix[] = "fc://j/";

enum {
    LINK_SECRET_BYTES = E2E_SECRET_BYTES,
    LINK_INFO_BYTES = E2E_ID_BYTES + CRYPTO_KEY_BYTES, // room_id ‖ the maker's identity key
};

// --- Joining and leaving --------------------------------------------------------------------------------------------

static enum err
join_with(struct fc_chat *chat, const Fc__Chat__V1__JoinRequest *request, struct fc_chat_place **out,
    struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__JoinResponse *response = NULL;
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_join(&call, request, &response), why);
    if (err == ERR_OK) {
        err = fc_chat_take_room(chat, response->room, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

// write_acceptance: the author, who was invited, comes in.
static enum err
write_acceptance(struct fc_chat_entry *entry)
{
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_ACCEPT);
    Fc__E2e__V1__Accept *accept = fc_chat_entry_new(entry, sizeof(*accept));
    if (change == NULL || accept == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__accept__init(accept);
    change->accept = accept;
    return ERR_OK;
}

static enum err
accept_once(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct fc_chat_entry entry = {0};
    const struct e2e_keys *device = NULL;
    enum err err = fc_chat_sync_log(chat, place, why);
    if (err == ERR_OK && e2e_room_is_member(&place->state, fc_chat_own_id(chat))) {
        return ERR_OK;
    }
    if (err == ERR_OK) {
        err = fc_chat_own_device(chat, &device, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_init(&entry, &place->state, place->row.room_id, fc_chat_own_id(chat), device->id);
    }
    if (err == ERR_OK) {
        err = write_acceptance(&entry);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_complete(chat, place, &entry, false, NULL, why);
    }
    if (err == ERR_OK) {
        Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
        request.room = place->id_text;
        request.entry = &entry.wire;
        err = join_with(chat, &request, &place, why);
    }
    fc_chat_entry_deinit(&entry);
    return err;
}

static enum err
join(struct fc_chat *chat, const char *room, struct fc_room *out, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK && place->row.is_plain) {
        Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
        request.room = place->id_text;
        err = join_with(chat, &request, &place, why);
    } else if (err == ERR_OK) {
        err = ERR_CONFLICT;
        for (unsigned i = 0; i < FC_CHAT_ATTEMPTS && err == ERR_CONFLICT; i++) {
            err = accept_once(chat, place, why);
        }
        if (err == ERR_OK) {
            err = fc_chat_sync_log(chat, place, why);
        }
    }
    if (err == ERR_OK) {
        fc_chat_describe(place, out);
    }
    return err;
}

enum err
fc_chat_join(struct fc_chat *chat, const char *room, struct fc_room *out, struct err_detail *why)
{
    fc_chat_lock(chat);
    enum err err = join(chat, room, out, why);
    fc_chat_unlock(chat);
    return err;
}

static enum err
leave_with(struct fc_chat *chat, struct fc_chat_place *place, Fc__E2e__V1__Signed *entry, struct err_detail *why)
{
    struct rpc_unary call;
    Fc__Chat__V1__LeaveRequest request = FC__CHAT__V1__LEAVE_REQUEST__INIT;
    request.room = place->id_text;
    request.entry = entry;
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_leave(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

static enum err
leave_once(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct fc_chat_entry entry = {0};
    const struct e2e_keys *device = NULL;
    enum err err = fc_chat_sync_log(chat, place, why);
    if (err == ERR_OK) {
        err = fc_chat_own_device(chat, &device, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_init(&entry, &place->state, place->row.room_id, fc_chat_own_id(chat), device->id);
    }
    if (err == ERR_OK) {
        Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(&entry, FC__E2E__V1__ROOM_CHANGE__KIND_REMOVE_MEMBER);
        err = change == NULL ? ERR_NO_MEMORY
                             : fc_chat_entry_bytes(&entry, fc_chat_own_id(chat), E2E_ID_BYTES, &change->remove_member);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_complete(chat, place, &entry, false, NULL, why);
    }
    if (err == ERR_OK) {
        err = leave_with(chat, place, &entry.wire, why);
    }
    fc_chat_entry_deinit(&entry);
    return err;
}

enum err
fc_chat_leave(struct fc_chat *chat, const char *room, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK && place->row.is_plain) {
        err = leave_with(chat, place, NULL, why);
    } else if (err == ERR_OK) {
        err = ERR_CONFLICT;
        for (unsigned i = 0; i < FC_CHAT_ATTEMPTS && err == ERR_CONFLICT; i++) {
            err = leave_once(chat, place, why);
        }
    }
    if (err == ERR_OK) {
        struct fc_store_room row = place->row;
        row.is_member = false;
        err = fc_store_room_put(chat->store, &row, why);
    }
    fc_chat_unlock(chat);
    return err;
}

// --- Links ----------------------------------------------------------------------------------------------------------

struct link {
    uint8_t secret[LINK_SECRET_BYTES];
    struct e2e_keys keys; // their id is the link's
};

static enum err
derive_link(struct link *link)
{
    return e2e_keys_derive(bytes_view_of(link->secret, sizeof(link->secret)), E2E_LABEL_LINK_KEYS, &link->keys);
}

static enum err
fail_link(struct err_detail *why)
{
    return err_fail(why, ERR_INVALID,
        "that is no invite link: one looks like %sID#SECRET, and has to be whole, with what follows the #",
        link_prefix);
}

// parse_link reads a link and finds out whether id and secret belong together.
static enum err
parse_link(const char *text, struct link *out, struct err_detail *why)
{
    uint8_t id[E2E_ID_BYTES];
    char id_text[2 * E2E_ID_BYTES + 1];
    struct bytes secret = {0};
    const char *at = strstr(text, "/j/");
    const char *hash = strchr(text, '#');
    if (at == NULL || hash == NULL || hash - (at + 3) != 2 * E2E_ID_BYTES) {
        return fail_link(why);
    }
    memcpy(id_text, at + 3, 2 * E2E_ID_BYTES);
    id_text[2 * E2E_ID_BYTES] = '\0';
    enum err err = base64_append_decoded(&secret, bytes_view_of_text(hash + 1));
    if (err == ERR_NO_MEMORY) {
        return err;
    }
    bool is_sound =
        err == ERR_OK && secret.size == sizeof(out->secret) && bytes_from_hex(id_text, id, sizeof(id)) == ERR_OK;
    if (is_sound) {
        memcpy(out->secret, secret.data, sizeof(out->secret));
    }
    bytes_free_secret(&secret);
    if (!is_sound) {
        return fail_link(why);
    }
    err = derive_link(out);
    if (err == ERR_OK && memcmp(out->keys.id, id, sizeof(id)) != 0) {
        return fail_link(why);
    }
    return err;
}

static enum err
format_link(const struct link *link, char out[FC_CHAT_LINK_MAX_BYTES])
{
    char id_text[2 * E2E_ID_BYTES + 1];
    struct bytes secret = {0};
    bytes_to_hex(bytes_view_of(link->keys.id, E2E_ID_BYTES), id_text);
    enum err err = base64_append_url(&secret, bytes_view_of(link->secret, sizeof(link->secret)));
    if (err == ERR_OK) {
        (void)snprintf(out, FC_CHAT_LINK_MAX_BYTES, "%s%s#%.*s", link_prefix, id_text, (int)secret.size,
            (const char *)secret.data);
    }
    bytes_free_secret(&secret);
    return err;
}

// new_link is what write_link puts into an entry.
struct new_link {
    const struct fc_chat_new_link *wanted;
    const struct link *link;
    struct bytes info; // sealed
};

static void
fill_link(const struct new_link *made, Fc__E2e__V1__InviteLink *out)
{
    fc__e2e__v1__invite_link__init(out);
    out->link_id = fc_lend(made->link->keys.id, E2E_ID_BYTES);
    out->sign_key = fc_lend(made->link->keys.sign_public, CRYPTO_KEY_BYTES);
    out->box_key = fc_lend(made->link->keys.box_public, CRYPTO_KEY_BYTES);
    out->role = made->wanted->role == FC_ROLE_ADMIN ? FC__E2E__V1__ROLE__ADMIN : FC__E2E__V1__ROLE__MEMBER;
    out->expires_at_ms = made->wanted->expires_unix_ms;
    out->max_uses = made->wanted->max_uses;
}

static enum err
write_link(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_place *place, const void *context,
    struct err_detail *why)
{
    const struct new_link *made = context;
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK);
    Fc__E2e__V1__InviteLink *link = fc_chat_entry_new(entry, sizeof(*link));
    (void)chat;
    (void)place;
    (void)why;
    if (change == NULL || link == NULL) {
        return ERR_NO_MEMORY;
    }
    fill_link(made, link);
    change->add_link = link;
    entry->link_info = fc_lend(made->info.data, made->info.size);
    return ERR_OK;
}

// seal_info seals which room the link leads to, and who says so.
static enum err
seal_info(struct fc_chat *chat, const struct fc_chat_place *place, const struct link *link, struct bytes *out,
    struct err_detail *why)
{
    uint8_t info[LINK_INFO_BYTES] = {0};
    const struct e2e_user *self = NULL;
    memcpy(info, place->row.room_id, E2E_ID_BYTES);
    if (!place->row.is_plain) {
        enum err err = fc_chat_user(chat, fc_chat_own_id(chat), 0, &self, why);
        if (err != ERR_OK) {
            return err;
        }
        memcpy(info + E2E_ID_BYTES, self->identity_key, CRYPTO_KEY_BYTES);
    }
    return e2e_seal(link->secret, E2E_LABEL_LINK_INFO, bytes_view_of(link->keys.id, E2E_ID_BYTES),
        bytes_view_of(info, sizeof(info)), out);
}

static enum err
create_plain_link(struct fc_chat *chat, struct fc_chat_place *place, const struct new_link *made,
    struct err_detail *why)
{
    struct rpc_unary call;
    Fc__E2e__V1__InviteLink link;
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    fill_link(made, &link);
    request.room = place->id_text;
    request.add_link = &link;
    request.link_info = fc_lend(made->info.data, made->info.size);
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_amend(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_chat_link_create(struct fc_chat *chat, const char *room, const struct fc_chat_new_link *wanted,
    char link_out[FC_CHAT_LINK_MAX_BYTES], struct err_detail *why)
{
    struct link link;
    struct new_link made = {.wanted = wanted, .link = &link};
    struct fc_chat_place *place = NULL;
    random_bytes(link.secret, sizeof(link.secret));
    enum err err = derive_link(&link);
    fc_chat_lock(chat);
    if (err == ERR_OK) {
        err = fc_chat_find_place(chat, room, &place, why);
    }
    if (err == ERR_OK) {
        err = seal_info(chat, place, &link, &made.info, why);
    }
    if (err == ERR_OK) {
        err = place->row.is_plain ? create_plain_link(chat, place, &made, why)
                                  : fc_chat_amend_log(chat, place, write_link, &made, false, why);
    }
    fc_chat_unlock(chat);
    if (err == ERR_OK) {
        err = format_link(&link, link_out);
    }
    bytes_free(&made.info);
    digest_wipe(&link, sizeof(link));
    return err;
}

// --- Joining by a link ----------------------------------------------------------------------------------------------

// promised is what the link's maker says of the room.
struct promised {
    uint8_t room_id[E2E_ID_BYTES];
    uint8_t identity_key[CRYPTO_KEY_BYTES];
    bool is_plain;
};

static enum err
open_info(const Fc__Chat__V1__GetLinkResponse *response, const struct link *link, struct promised *out,
    struct err_detail *why)
{
    static const uint8_t no_key[CRYPTO_KEY_BYTES];
    struct bytes info = {0};
    enum err err = e2e_open(link->secret, E2E_LABEL_LINK_INFO, bytes_view_of(link->keys.id, E2E_ID_BYTES),
        bytes_view_of(response->link_info.data, response->link_info.len), &info);
    // Of a plain room nobody vouches for its maker: so the server cannot make a plain one of one that is not.
    bool is_sound = err == ERR_OK && info.size == LINK_INFO_BYTES && response->room_id.len == E2E_ID_BYTES &&
                    memcmp(info.data, response->room_id.data, E2E_ID_BYTES) == 0 &&
                    response->is_plain == (memcmp(info.data + E2E_ID_BYTES, no_key, sizeof(no_key)) == 0);
    if (is_sound) {
        memcpy(out->room_id, info.data, E2E_ID_BYTES);
        memcpy(out->identity_key, info.data + E2E_ID_BYTES, CRYPTO_KEY_BYTES);
        out->is_plain = response->is_plain;
    }
    bytes_free_secret(&info);
    if (err == ERR_OK || err == ERR_CORRUPT) {
        return is_sound ? ERR_OK
                        : err_fail(why, ERR_UNTRUSTED,
                              "the server leads this link to another room than the one that it was made for");
    }
    return err;
}

static enum err
look_up(struct fc_chat *chat, const struct link *link, struct promised *out, char name_out[65], struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__GetLinkResponse *response = NULL;
    Fc__Chat__V1__GetLinkRequest request = FC__CHAT__V1__GET_LINK_REQUEST__INIT;
    request.link_id = fc_lend(link->keys.id, E2E_ID_BYTES);
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_get_link(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = open_info(response, link, out, why);
    }
    if (err == ERR_OK) {
        (void)snprintf(name_out, 65, "%s", response->room_name);
    }
    rpc_unary_deinit(&call);
    return err;
}

static enum err
join_plain(struct fc_chat *chat, const struct link *link, struct fc_chat_place **out, struct err_detail *why)
{
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
    enum err err = e2e_sign(link->keys.sign_private, E2E_CONTEXT_JOIN, bytes_view_of(link->keys.id, E2E_ID_BYTES),
        bytes_view_of(fc_chat_own_id(chat), E2E_ID_BYTES), signature);
    if (err != ERR_OK) {
        return err;
    }
    request.link_id = fc_lend(link->keys.id, E2E_ID_BYTES);
    request.link_signature = fc_lend(signature, sizeof(signature));
    return join_with(chat, &request, out, why);
}

// keep_stranger puts the room into the local store before its log is fetched, not yet as the user's.
static enum err
keep_stranger(struct fc_chat *chat, const struct promised *promised, const char *name, struct fc_chat_place **out,
    struct err_detail *why)
{
    struct fc_store_room row = {.kind = FC__E2E__V1__ROOM_KIND__PRIVATE};
    memcpy(row.room_id, promised->room_id, sizeof(row.room_id));
    (void)snprintf(row.name, sizeof(row.name), "%s", name);
    enum err err = fc_store_room_put(chat->store, &row, why);
    return err == ERR_OK ? fc_chat_get_place(chat, promised->room_id, out, why) : err;
}

// maker is who added a link to the room's log.
struct maker {
    const uint8_t *link_id;
    uint8_t user_id[E2E_ID_BYTES];
    bool is_found;
    enum err err;
};

static bool
match_maker(void *context, const struct fc_store_entry *kept)
{
    struct maker *maker = context;
    Fc__E2e__V1__RoomEntry *entry = fc__e2e__v1__room_entry__unpack(NULL, kept->body.size, kept->body.data);
    if (entry == NULL) {
        maker->err = ERR_NO_MEMORY;
        return false;
    }
    for (size_t i = 0; i < entry->n_changes && !maker->is_found; i++) {
        const Fc__E2e__V1__RoomChange *change = entry->changes[i];
        if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK &&
            memcmp(change->add_link->link_id.data, maker->link_id, E2E_ID_BYTES) == 0) {
            memcpy(maker->user_id, entry->user_id.data, E2E_ID_BYTES);
            maker->is_found = true;
        }
    }
    fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
    return !maker->is_found;
}

// check_maker: the identity that made the link is of whoever added it to the log, who may have left the room since.
static enum err
check_maker(struct fc_chat *chat, const struct fc_chat_place *place, const struct link *link,
    const uint8_t identity_key[CRYPTO_KEY_BYTES], struct err_detail *why)
{
    struct maker maker = {.link_id = link->keys.id};
    const struct e2e_user *user = NULL;
    enum err err = fc_store_room_entries(chat->store, place->row.room_id, 0, match_maker, &maker, why);
    err = err == ERR_OK ? maker.err : err;
    if (err == ERR_OK && maker.is_found) {
        err = fc_chat_user(chat, maker.user_id, 0, &user, why);
    }
    if (err == ERR_OK && (user == NULL || memcmp(user->identity_key, identity_key, CRYPTO_KEY_BYTES) != 0)) {
        err = err_fail(why, ERR_UNTRUSTED, "whoever made this link has not made one in the room that the server shows");
    }
    return err;
}

static enum err
write_join(struct fc_chat *chat, struct fc_chat_entry *entry, const struct link *link)
{
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK);
    Fc__E2e__V1__JoinByLink *joining = fc_chat_entry_new(entry, sizeof(*joining));
    char *name = fc_chat_entry_text(entry, fc_identity_user_name(chat->identity));
    if (change == NULL || joining == NULL || name == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__join_by_link__init(joining);
    joining->user_name = name;
    change->join_by_link = joining;
    return fc_chat_entry_bytes(entry, link->keys.id, E2E_ID_BYTES, &joining->link_id);
}

static enum err
join_once(struct fc_chat *chat, struct fc_chat_place **place, const struct link *link, const struct promised *promised,
    struct err_detail *why)
{
    struct fc_chat_entry entry = {0};
    const struct e2e_keys *device = NULL;
    enum err err = fc_chat_sync_log(chat, *place, why);
    if (err == ERR_OK && e2e_room_is_member(&(*place)->state, fc_chat_own_id(chat))) {
        return ERR_OK;
    }
    if (err == ERR_OK) {
        err = check_maker(chat, *place, link, promised->identity_key, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_own_device(chat, &device, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_init(&entry, &(*place)->state, (*place)->row.room_id, fc_chat_own_id(chat), device->id);
    }
    if (err == ERR_OK) {
        err = write_join(chat, &entry, link);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_complete(chat, *place, &entry, false, &link->keys, why);
    }
    if (err == ERR_OK) {
        Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
        request.link_id = fc_lend(link->keys.id, E2E_ID_BYTES);
        request.entry = &entry.wire;
        err = join_with(chat, &request, place, why);
    }
    fc_chat_entry_deinit(&entry);
    return err;
}

static enum err
join_by(struct fc_chat *chat, const struct link *link, struct fc_room *out, struct err_detail *why)
{
    struct promised promised;
    char name[65];
    struct fc_chat_place *place = NULL;
    enum err err = look_up(chat, link, &promised, name, why);
    if (err == ERR_OK && promised.is_plain) {
        err = join_plain(chat, link, &place, why);
    } else if (err == ERR_OK) {
        err = keep_stranger(chat, &promised, name, &place, why);
        if (err == ERR_OK) {
            chat->further_keys = &link->keys;
            err = ERR_CONFLICT;
            for (unsigned i = 0; i < FC_CHAT_ATTEMPTS && err == ERR_CONFLICT; i++) {
                err = join_once(chat, &place, link, &promised, why);
            }
            chat->further_keys = NULL;
            if (err == ERR_OK) {
                err = fc_chat_sync_log(chat, place, why);
            }
        }
    }
    if (err == ERR_OK) {
        fc_chat_describe(place, out);
    }
    return err;
}

enum err
fc_chat_link_join(struct fc_chat *chat, const char *link_text, struct fc_room *out, struct err_detail *why)
{
    struct link link;
    enum err err = parse_link(link_text, &link, why);
    if (err == ERR_OK) {
        fc_chat_lock(chat);
        err = join_by(chat, &link, out, why);
        fc_chat_unlock(chat);
    }
    digest_wipe(&link, sizeof(link));
    return err;
}
