// For fc_chat*.c only: entries of a room's log while they are being made. All that an entry refers to lives in its
// arena.
#ifndef CLIENT_FC_CHAT_ENTRY_PRIV_H
#define CLIENT_FC_CHAT_ENTRY_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "e2e/e2e_message.h"
#include "e2e/e2e_room.h"
#include "e2e/e2e_user.h"

// fc_chat_target is who gets an epoch's secret: the active devices of a user, or the holders of a link.
struct fc_chat_target {
    const struct e2e_user *user; // NULL: a link
    const Fc__E2e__V1__InviteLink *link;
};

struct fc_chat_entry {
    struct arena arena;
    Fc__E2e__V1__RoomEntry entry;
    size_t change_capacity;
    size_t head_capacity;
    size_t wrap_capacity;
    struct bytes body; // after fc_chat_entry_sign
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    uint8_t link_signature[CRYPTO_SIGNATURE_BYTES];
    Fc__E2e__V1__Signed wire;      // borrows from the three above
    ProtobufCBinaryData link_info; // sent along with a new link
};

// fc_chat_entry_init begins the entry that follows room's newest one, or with an empty room the first of room_id.
// author_id and device_id are borrowed until deinit.
enum err fc_chat_entry_init(struct fc_chat_entry *entry, const struct e2e_room *room,
    const uint8_t room_id[E2E_ID_BYTES], const uint8_t author_id[E2E_ID_BYTES],
    const uint8_t device_id[E2E_ID_BYTES]) ERR_CHECKED;
void fc_chat_entry_deinit(struct fc_chat_entry *entry);

// fc_chat_entry_add appends an empty change of this kind; the caller fills its content, which fc_chat_entry_new
// allocates, zeroed. NULL: no memory.
Fc__E2e__V1__RoomChange *fc_chat_entry_add(struct fc_chat_entry *entry, Fc__E2e__V1__RoomChange__KindCase kind);
void *fc_chat_entry_new(struct fc_chat_entry *entry, size_t size);
char *fc_chat_entry_text(struct fc_chat_entry *entry, const char *text);
enum err fc_chat_entry_bytes(struct fc_chat_entry *entry, const void *data, size_t size,
    ProtobufCBinaryData *out) ERR_CHECKED;

// Changes that several callers make.
enum err fc_chat_entry_add_member(struct fc_chat_entry *entry, const struct e2e_user *user, Fc__E2e__V1__Role role,
    bool is_invited) ERR_CHECKED;
// kind is SET_NAME or SET_TOPIC.
enum err fc_chat_entry_set_text(struct fc_chat_entry *entry, Fc__E2e__V1__RoomChange__KindCase kind,
    const char *text) ERR_CHECKED;

// fc_chat_entry_name_head says how much of a user's chain the author has seen; once for each user.
enum err fc_chat_entry_name_head(struct fc_chat_entry *entry, const struct e2e_user *user) ERR_CHECKED;

// fc_chat_entry_wrap gives a target the secret of an epoch, and names the head of a user.
enum err fc_chat_entry_wrap(struct fc_chat_entry *entry, const struct fc_chat_target *target, uint64_t epoch,
    const uint8_t secret[E2E_SECRET_BYTES]) ERR_CHECKED;

// fc_chat_entry_wrap_device gives it to one device.
enum err fc_chat_entry_wrap_device(struct fc_chat_entry *entry, const uint8_t device_id[E2E_ID_BYTES],
    const uint8_t box_key[CRYPTO_KEY_BYTES], uint64_t epoch, const uint8_t secret[E2E_SECRET_BYTES]) ERR_CHECKED;

// fc_chat_entry_rekey starts a new epoch for the targets. previous: the secret of the epoch before, for the ladder;
// NULL for none.
enum err fc_chat_entry_rekey(struct fc_chat_entry *entry, uint64_t epoch, const uint8_t *previous,
    const struct fc_chat_target *targets, size_t target_count) ERR_CHECKED;

// fc_chat_entry_sign encodes and signs it: afterwards entry->wire is what travels. link: the keys of the link by which
// the author joins, or NULL.
enum err fc_chat_entry_sign(struct fc_chat_entry *entry, const uint8_t sign_key[CRYPTO_KEY_BYTES],
    const struct e2e_keys *link) ERR_CHECKED;

#endif
