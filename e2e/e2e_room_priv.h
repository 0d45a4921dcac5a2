// For the sources of e2e_room only: an entry on its way into a room.
#ifndef E2E_E2E_ROOM_PRIV_H
#define E2E_E2E_ROOM_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"
#include "e2e/e2e_room.h"

// e2e_room_seen is a user whose chain an entry names.
struct e2e_room_seen {
    const Fc__E2e__V1__UserHead *head;
    uint8_t identity_key[CRYPTO_KEY_BYTES];
    char name[TEXT_USER_NAME_MAX_BYTES + 1];
    size_t first_device; // in e2e_room_heads.devices
    size_t device_count;
};

struct e2e_room_device_id {
    uint8_t bytes[E2E_ID_BYTES];
};

// e2e_room_heads is what an entry's heads lead to. All zero is an empty one.
struct e2e_room_heads {
    struct e2e_room_seen *users; // by user id
    size_t user_count;
    struct e2e_room_device_id *devices; // those that are active at the heads
    size_t device_count;
    size_t device_capacity;
    uint8_t author_key[CRYPTO_KEY_BYTES]; // of the device that signed
};

// e2e_room_draft is a copy of the state to which an entry's changes are being applied.
struct e2e_room_draft {
    Fc__E2e__V1__RoomState *state; // owned; NULL before the first change of the first entry
    const Fc__E2e__V1__RoomEntry *entry;
    const struct e2e_room_heads *heads; // NULL: plain
    int64_t now_unix_ms;
};

bool e2e_room_is_id(ProtobufCBinaryData field, const uint8_t id[E2E_ID_BYTES]);
Fc__E2e__V1__RoomMember *e2e_room_find_member(const Fc__E2e__V1__RoomState *state, const uint8_t user_id[E2E_ID_BYTES]);
Fc__E2e__V1__RoomLink *e2e_room_find_link(const Fc__E2e__V1__RoomState *state, const uint8_t link_id[E2E_ID_BYTES]);
enum err e2e_room_set_bytes(ProtobufCBinaryData *field, const uint8_t *data, size_t size) ERR_CHECKED;
enum err e2e_room_set_text(char **field, const char *text) ERR_CHECKED;

// e2e_room_rules_apply makes the entry's changes and checks what has come of them, keys aside.
enum err e2e_room_rules_apply(struct e2e_room_draft *draft, struct err_detail *why) ERR_CHECKED;

// What the changes have in common. e2e_room_author_role is ROLE_UNSPECIFIED for who is not a member, or only invited.
Fc__E2e__V1__Role e2e_room_author_role(const struct e2e_room_draft *draft);
enum err e2e_room_require_role(const struct e2e_room_draft *draft, Fc__E2e__V1__Role role, const char *what,
    struct err_detail *why) ERR_CHECKED;
enum err e2e_room_refuse_direct(const struct e2e_room_draft *draft, struct err_detail *why) ERR_CHECKED;
enum err e2e_room_check_id(ProtobufCBinaryData id, const char *what, struct err_detail *why) ERR_CHECKED;

// e2e_room_let_in makes somebody a member or invited user, who may be invited already. user_name is what the entry
// calls them; NULL: nothing.
enum err e2e_room_let_in(struct e2e_room_draft *draft, const uint8_t user_id[E2E_ID_BYTES], const char *user_name,
    Fc__E2e__V1__Role role, bool is_invited, struct err_detail *why) ERR_CHECKED;

// The changes in e2e_room_links.c.
enum err e2e_room_apply_add_link(struct e2e_room_draft *draft, const Fc__E2e__V1__InviteLink *link,
    struct err_detail *why) ERR_CHECKED;
enum err e2e_room_apply_revoke_link(struct e2e_room_draft *draft, ProtobufCBinaryData link_id,
    struct err_detail *why) ERR_CHECKED;
enum err e2e_room_apply_join_by_link(struct e2e_room_draft *draft, const Fc__E2e__V1__JoinByLink *join,
    struct err_detail *why) ERR_CHECKED;

// e2e_room_heads_read asks for the chains that the entry names, and for the author's device.
enum err e2e_room_heads_read(struct e2e_room_heads *heads, const Fc__E2e__V1__RoomEntry *entry,
    e2e_find_user_fn *find_user, void *context, struct err_detail *why) ERR_CHECKED;
void e2e_room_heads_deinit(struct e2e_room_heads *heads);
const struct e2e_room_seen *e2e_room_heads_find(const struct e2e_room_heads *heads,
    const uint8_t user_id[E2E_ID_BYTES]);

// e2e_room_keys_apply judges rekey, wraps and heads by the members as they are after the changes, and takes them over.
enum err e2e_room_keys_apply(struct e2e_room_draft *draft, bool needs_rekey, bool has_ladder,
    struct err_detail *why) ERR_CHECKED;

#endif
