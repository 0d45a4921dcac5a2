// Making entries of a room's log.
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "client/fc_chat_entry_priv.h"
#include "client/fc_lend_priv.h"

enum {
    // An entry of a room of 10,000 members with three devices each.
    ENTRY_ARENA_BYTES = 64 * 1024 * 1024,
    CAPACITY_FIRST = 16,
};

// grow makes room for one more pointer; the arena keeps the old array until the entry is freed.
static enum err
grow(struct fc_chat_entry *entry, void ***array, size_t count, size_t *capacity)
{
    if (count < *capacity) {
        return ERR_OK;
    }
    size_t wanted = *capacity == 0 ? CAPACITY_FIRST : 2 * *capacity;
    void **grown = arena_alloc(&entry->arena, wanted * sizeof(*grown));
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    if (count > 0) {
        memcpy(grown, *array, count * sizeof(*grown));
    }
    *array = grown;
    *capacity = wanted;
    return ERR_OK;
}

void *
fc_chat_entry_new(struct fc_chat_entry *entry, size_t size)
{
    void *memory = arena_alloc(&entry->arena, size);
    if (memory != NULL) {
        memset(memory, 0, size);
    }
    return memory;
}

char *
fc_chat_entry_text(struct fc_chat_entry *entry, const char *text)
{
    return arena_copy_text(&entry->arena, text);
}

enum err
fc_chat_entry_bytes(struct fc_chat_entry *entry, const void *data, size_t size, ProtobufCBinaryData *out)
{
    uint8_t *copy = arena_alloc(&entry->arena, size);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(copy, data, size);
    *out = (ProtobufCBinaryData){.len = size, .data = copy};
    return ERR_OK;
}

enum err
fc_chat_entry_init(struct fc_chat_entry *entry, const struct e2e_room *room, const uint8_t room_id[E2E_ID_BYTES],
    const uint8_t author_id[E2E_ID_BYTES], const uint8_t device_id[E2E_ID_BYTES])
{
    const Fc__E2e__V1__RoomState *state = room->state;
    memset(entry, 0, sizeof(*entry));
    arena_init(&entry->arena, ENTRY_ARENA_BYTES);
    fc__e2e__v1__room_entry__init(&entry->entry);
    entry->entry.suite = E2E_SUITE;
    entry->entry.user_id = fc_lend(author_id, E2E_ID_BYTES);
    entry->entry.device_id = fc_lend(device_id, E2E_ID_BYTES);
    entry->entry.created_at_ms = clock_unix_ms();
    entry->entry.seq = state == NULL ? 1 : state->seq + 1;
    enum err err = fc_chat_entry_bytes(entry, room_id, E2E_ID_BYTES, &entry->entry.room_id);
    if (err == ERR_OK && state != NULL) {
        err = fc_chat_entry_bytes(entry, state->head_hash.data, state->head_hash.len, &entry->entry.prev_hash);
    }
    return err;
}

void
fc_chat_entry_deinit(struct fc_chat_entry *entry)
{
    bytes_free(&entry->body);
    arena_deinit(&entry->arena);
    memset(entry, 0, sizeof(*entry));
}

Fc__E2e__V1__RoomChange *
fc_chat_entry_add(struct fc_chat_entry *entry, Fc__E2e__V1__RoomChange__KindCase kind)
{
    Fc__E2e__V1__RoomChange *change = arena_alloc(&entry->arena, sizeof(*change));
    if (change == NULL || grow(entry, (void ***)(void *)&entry->entry.changes, entry->entry.n_changes,
                              &entry->change_capacity) != ERR_OK) {
        return NULL;
    }
    fc__e2e__v1__room_change__init(change);
    change->kind_case = kind;
    entry->entry.changes[entry->entry.n_changes++] = change;
    return change;
}

enum err
fc_chat_entry_add_member(struct fc_chat_entry *entry, const struct e2e_user *user, Fc__E2e__V1__Role role,
    bool is_invited)
{
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER);
    Fc__E2e__V1__AddMember *member = fc_chat_entry_new(entry, sizeof(*member));
    if (change == NULL || member == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__add_member__init(member);
    change->add_member = member;
    member->role = role;
    member->is_invited = is_invited;
    member->user_name = fc_chat_entry_text(entry, user->name);
    if (member->user_name == NULL) {
        return ERR_NO_MEMORY;
    }
    return fc_chat_entry_bytes(entry, user->id, E2E_ID_BYTES, &member->user_id);
}

enum err
fc_chat_entry_set_text(struct fc_chat_entry *entry, Fc__E2e__V1__RoomChange__KindCase kind, const char *text)
{
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, kind);
    char *copy = fc_chat_entry_text(entry, text);
    if (change == NULL || copy == NULL) {
        return ERR_NO_MEMORY;
    }
    if (kind == FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME) {
        change->set_name = copy;
    } else {
        change->set_topic = copy;
    }
    return ERR_OK;
}

enum err
fc_chat_entry_name_head(struct fc_chat_entry *entry, const struct e2e_user *user)
{
    for (size_t i = 0; i < entry->entry.n_heads; i++) {
        if (memcmp(entry->entry.heads[i]->user_id.data, user->id, E2E_ID_BYTES) == 0) {
            return ERR_OK;
        }
    }
    Fc__E2e__V1__UserHead *head = arena_alloc(&entry->arena, sizeof(*head));
    if (head == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__user_head__init(head);
    head->seq = user->seq;
    enum err err = fc_chat_entry_bytes(entry, user->id, E2E_ID_BYTES, &head->user_id);
    if (err == ERR_OK) {
        err = fc_chat_entry_bytes(entry, user->head_hash, E2E_HASH_BYTES, &head->hash);
    }
    if (err == ERR_OK) {
        err = grow(entry, (void ***)(void *)&entry->entry.heads, entry->entry.n_heads, &entry->head_capacity);
    }
    if (err == ERR_OK) {
        entry->entry.heads[entry->entry.n_heads++] = head;
    }
    return err;
}

enum err
fc_chat_entry_wrap_device(struct fc_chat_entry *entry, const uint8_t device_id[E2E_ID_BYTES],
    const uint8_t box_key[CRYPTO_KEY_BYTES], uint64_t epoch, const uint8_t secret[E2E_SECRET_BYTES])
{
    uint8_t enc[E2E_WRAP_ENC_BYTES];
    uint8_t ciphertext[E2E_WRAP_CIPHERTEXT_BYTES];
    Fc__E2e__V1__Wrap *wrap = arena_alloc(&entry->arena, sizeof(*wrap));
    if (wrap == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__wrap__init(wrap);
    wrap->epoch = epoch;
    enum err err = e2e_epoch_wrap(secret, entry->entry.room_id.data, epoch,
        bytes_view_of(entry->entry.prev_hash.data, entry->entry.prev_hash.len), device_id, box_key, enc, ciphertext);
    if (err == ERR_OK) {
        err = fc_chat_entry_bytes(entry, device_id, E2E_ID_BYTES, &wrap->device_id);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_bytes(entry, enc, sizeof(enc), &wrap->enc);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_bytes(entry, ciphertext, sizeof(ciphertext), &wrap->ciphertext);
    }
    if (err == ERR_OK) {
        err = grow(entry, (void ***)(void *)&entry->entry.wraps, entry->entry.n_wraps, &entry->wrap_capacity);
    }
    if (err == ERR_OK) {
        entry->entry.wraps[entry->entry.n_wraps++] = wrap;
    }
    return err;
}

enum err
fc_chat_entry_wrap(struct fc_chat_entry *entry, const struct fc_chat_target *target, uint64_t epoch,
    const uint8_t secret[E2E_SECRET_BYTES])
{
    if (target->user == NULL) {
        return fc_chat_entry_wrap_device(entry, target->link->link_id.data, target->link->box_key.data, epoch, secret);
    }
    enum err err = fc_chat_entry_name_head(entry, target->user);
    for (size_t i = 0; i < target->user->device_count && err == ERR_OK; i++) {
        const struct e2e_device *device = &target->user->devices[i];
        if (!device->is_revoked) {
            err = fc_chat_entry_wrap_device(entry, device->id, device->box_key, epoch, secret);
        }
    }
    return err;
}

enum err
fc_chat_entry_rekey(struct fc_chat_entry *entry, uint64_t epoch, const uint8_t *previous,
    const struct fc_chat_target *targets, size_t target_count)
{
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t commitment[E2E_COMMITMENT_BYTES];
    struct bytes ladder = {0};
    Fc__E2e__V1__Rekey *rekey = arena_alloc(&entry->arena, sizeof(*rekey));
    if (rekey == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__rekey__init(rekey);
    rekey->epoch = epoch;
    random_bytes(secret, sizeof(secret));
    enum err err = e2e_epoch_commitment(secret, entry->entry.room_id.data, epoch, commitment);
    if (err == ERR_OK) {
        err = fc_chat_entry_bytes(entry, commitment, sizeof(commitment), &rekey->commitment);
    }
    if (err == ERR_OK && previous != NULL) {
        err = e2e_epoch_seal_previous(secret, entry->entry.room_id.data, epoch - 1, previous, &ladder);
    }
    if (err == ERR_OK && previous != NULL) {
        err = fc_chat_entry_bytes(entry, ladder.data, ladder.size, &rekey->previous);
    }
    for (size_t i = 0; i < target_count && err == ERR_OK; i++) {
        err = fc_chat_entry_wrap(entry, &targets[i], epoch, secret);
    }
    if (err == ERR_OK) {
        entry->entry.rekey = rekey;
    }
    bytes_free(&ladder);
    digest_wipe(secret, sizeof(secret));
    return err;
}

enum err
fc_chat_entry_sign(struct fc_chat_entry *entry, const uint8_t sign_key[CRYPTO_KEY_BYTES], const struct e2e_keys *link)
{
    size_t size = fc__e2e__v1__room_entry__get_packed_size(&entry->entry);
    enum err err = bytes_reserve(&entry->body, size);
    if (err != ERR_OK) {
        return err;
    }
    entry->body.size = fc__e2e__v1__room_entry__pack(&entry->entry, entry->body.data);
    struct bytes_view body = bytes_as_view(&entry->body);
    err = e2e_sign(sign_key, E2E_CONTEXT_ROOM, body, bytes_view_of(NULL, 0), entry->signature);
    if (err == ERR_OK && link != NULL) {
        err = e2e_sign(link->sign_private, E2E_CONTEXT_JOIN, body, bytes_view_of(NULL, 0), entry->link_signature);
    }
    fc__e2e__v1__signed__init(&entry->wire);
    entry->wire.body = fc_lend(entry->body.data, entry->body.size);
    entry->wire.signature = fc_lend(entry->signature, sizeof(entry->signature));
    if (link != NULL) {
        entry->wire.link_signature = fc_lend(entry->link_signature, sizeof(entry->link_signature));
    }
    return err;
}
