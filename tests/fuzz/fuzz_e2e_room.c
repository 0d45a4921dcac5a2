// A room's log from outside: whatever entries it is given, an entry that is refused changes nothing and says why, and a
// room that has members has an owner. The input is a sequence of entries, each behind a byte of flags, a byte that says
// whose heads and wraps are put in, and its length in two bytes:
//     1, 2    by which of four people it is
//     4       suite, room_id, seq, prev_hash, user_id and device_id are set to those of the next entry
//     8       it is of the plain room, not the encrypted one
//     16      it is signed by the link as well
//     32      the rekey's epoch is set to the next, and links get wraps

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/e2e_message.h"
#include "e2e/e2e_room.h"
#include "e2e/e2e_wire.h"

#include "fc/e2e/v1/chain.pb-c.h"

enum {
    PEOPLE = 4,
    AUTHOR_MASK = 3,
    SETS_PLACE = 4,
    IS_PLAIN = 8,
    SIGNS_LINK = 16,
    SETS_REKEY = 32,
    PREFIX_BYTES = 4,
    CREATED_AT_MS = 1000,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t room_id[E2E_ID_BYTES] = {'r'};
static struct e2e_user chains[PEOPLE];
static struct e2e_keys devices[PEOPLE];
static struct e2e_keys link_keys;

static void
must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static ProtobufCBinaryData
lend(const void *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

static void
set_bytes(ProtobufCBinaryData *field, const void *from, size_t size)
{
    free(field->data);
    field->data = malloc(size + 1);
    must(field->data != NULL);
    if (size > 0) {
        memcpy(field->data, from, size);
    }
    field->len = size;
}

// --- People, the same in every run ---------------------------------------------------------------------------------

static void
make_person(size_t index)
{
    static char names[PEOPLE][2] = {"a", "b", "c", "d"};
    Fc__E2e__V1__UserEntry entry = FC__E2E__V1__USER_ENTRY__INIT;
    Fc__E2e__V1__Identity identity = FC__E2E__V1__IDENTITY__INIT;
    Fc__E2e__V1__Device device = FC__E2E__V1__DEVICE__INIT;
    Fc__E2e__V1__UserChange changes[2] = {FC__E2E__V1__USER_CHANGE__INIT, FC__E2E__V1__USER_CHANGE__INIT};
    Fc__E2e__V1__UserChange *pointers[2] = {&changes[0], &changes[1]};
    const uint8_t user_id[E2E_ID_BYTES] = {(uint8_t)names[index][0]};
    const uint8_t identity_key[CRYPTO_KEY_BYTES] = {(uint8_t)(index + 1)};
    uint8_t public_key[CRYPTO_KEY_BYTES];
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    struct bytes body = {0};
    must(e2e_keys_derive(bytes_view_of_text(names[index]), E2E_LABEL_LINK_KEYS, &devices[index]) == ERR_OK);
    must(crypto_sign_public(identity_key, public_key) == ERR_OK);
    identity.user_name = names[index];
    identity.identity_key = lend(public_key, sizeof(public_key));
    device.device_id = lend(devices[index].id, E2E_ID_BYTES);
    device.sign_key = lend(devices[index].sign_public, CRYPTO_KEY_BYTES);
    device.box_key = lend(devices[index].box_public, CRYPTO_KEY_BYTES);
    changes[0].kind_case = FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY;
    changes[0].set_identity = &identity;
    changes[1].kind_case = FC__E2E__V1__USER_CHANGE__KIND_ADD_DEVICE;
    changes[1].add_device = &device;
    entry.suite = E2E_SUITE;
    entry.user_id = lend(user_id, sizeof(user_id));
    entry.seq = 1;
    entry.n_changes = 2;
    entry.changes = pointers;
    must(e2e_wire_append(&entry.base, &body) == ERR_OK);
    must(e2e_sign(identity_key, E2E_CONTEXT_USER, bytes_as_view(&body), (struct bytes_view){0}, signature) == ERR_OK);
    must(e2e_user_apply(&chains[index], user_id, bytes_as_view(&body), bytes_view_of(signature, sizeof(signature)),
             NULL) == ERR_OK);
    bytes_free(&body);
}

static void
make_people(void)
{
    for (size_t i = 0; i < PEOPLE && chains[i].seq == 0; i++) {
        make_person(i);
    }
    must(e2e_keys_derive(bytes_view_of_text("link"), E2E_LABEL_LINK_KEYS, &link_keys) == ERR_OK);
}

static enum err
find_user(void *context, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out, struct err_detail *why)
{
    (void)context;
    for (size_t i = 0; i < PEOPLE; i++) {
        if (memcmp(chains[i].id, head->user_id.data, E2E_ID_BYTES) == 0) {
            *out = &chains[i];
            return head->seq == 1 ? ERR_OK : err_fail(why, ERR_CONFLICT, "not the newest head");
        }
    }
    return err_fail(why, ERR_NOT_FOUND, "no such user");
}

// --- Entries -------------------------------------------------------------------------------------------------------

static void
add_head(Fc__E2e__V1__RoomEntry *entry, size_t index)
{
    Fc__E2e__V1__UserHead *head = malloc(sizeof(*head));
    entry->heads = realloc(entry->heads, (entry->n_heads + 1) * sizeof(head));
    must(head != NULL && entry->heads != NULL);
    fc__e2e__v1__user_head__init(head);
    set_bytes(&head->user_id, chains[index].id, E2E_ID_BYTES);
    head->seq = 1;
    set_bytes(&head->hash, chains[index].head_hash, E2E_HASH_BYTES);
    entry->heads[entry->n_heads++] = head;
}

static void
add_wrap(Fc__E2e__V1__RoomEntry *entry, const uint8_t id[E2E_ID_BYTES], uint64_t epoch)
{
    static const uint8_t nothing[E2E_WRAP_CIPHERTEXT_BYTES];
    Fc__E2e__V1__Wrap *wrap = malloc(sizeof(*wrap));
    entry->wraps = realloc(entry->wraps, (entry->n_wraps + 1) * sizeof(wrap));
    must(wrap != NULL && entry->wraps != NULL);
    fc__e2e__v1__wrap__init(wrap);
    set_bytes(&wrap->device_id, id, E2E_ID_BYTES);
    wrap->epoch = epoch;
    set_bytes(&wrap->enc, nothing, E2E_WRAP_ENC_BYTES);
    set_bytes(&wrap->ciphertext, nothing, E2E_WRAP_CIPHERTEXT_BYTES);
    entry->wraps[entry->n_wraps++] = wrap;
}

static void
set_place(Fc__E2e__V1__RoomEntry *entry, const struct e2e_room *room, size_t author, bool is_plain)
{
    entry->suite = E2E_SUITE;
    entry->created_at_ms = CREATED_AT_MS;
    set_bytes(&entry->room_id, room_id, E2E_ID_BYTES);
    entry->seq = room->state == NULL ? 1 : room->state->seq + 1;
    set_bytes(&entry->prev_hash, room->state == NULL ? NULL : room->state->head_hash.data,
        room->state == NULL ? 0 : room->state->head_hash.len);
    set_bytes(&entry->user_id, chains[author].id, E2E_ID_BYTES);
    set_bytes(&entry->device_id, devices[author].id, is_plain ? 0 : E2E_ID_BYTES);
}

// Heads and wraps of those whose bits are set: the low four for heads, the high four for wraps.
static void
add_keys(Fc__E2e__V1__RoomEntry *entry, const struct e2e_room *room, uint8_t flags, uint8_t mask)
{
    uint64_t epoch = room->state == NULL ? 0 : room->state->epoch;
    if ((flags & SETS_REKEY) != 0 && entry->rekey != NULL) {
        static const uint8_t commitment[E2E_COMMITMENT_BYTES];
        entry->rekey->epoch = ++epoch;
        set_bytes(&entry->rekey->commitment, commitment, sizeof(commitment));
    }
    for (size_t i = 0; i < PEOPLE; i++) {
        if ((mask >> i & 1) != 0) {
            add_head(entry, i);
        }
        if ((mask >> (i + PEOPLE) & 1) != 0) {
            add_wrap(entry, devices[i].id, epoch);
        }
    }
    for (size_t i = 0; (flags & SETS_REKEY) != 0 && room->state != NULL && i < room->state->n_links; i++) {
        add_wrap(entry, room->state->links[i]->link->link_id.data, epoch);
    }
}

static enum err
apply_signed(struct e2e_room *room, const Fc__E2e__V1__RoomEntry *entry, uint8_t flags, struct err_detail *why)
{
    Fc__E2e__V1__Signed wire = FC__E2E__V1__SIGNED__INIT;
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    uint8_t link_signature[CRYPTO_SIGNATURE_BYTES];
    struct bytes body = {0};
    struct bytes_view none = {0};
    must(e2e_wire_append(&entry->base, &body) == ERR_OK);
    must(e2e_sign(devices[flags & AUTHOR_MASK].sign_private, E2E_CONTEXT_ROOM, bytes_as_view(&body), none, signature) ==
         ERR_OK);
    wire.body = lend(body.data, body.size);
    wire.signature = lend(signature, sizeof(signature));
    if ((flags & SIGNS_LINK) != 0) {
        must(e2e_sign(link_keys.sign_private, E2E_CONTEXT_JOIN, bytes_as_view(&body), none, link_signature) == ERR_OK);
        wire.link_signature = lend(link_signature, sizeof(link_signature));
    }
    enum err err = e2e_room_apply(room, room_id, &wire, CREATED_AT_MS, find_user, NULL, why);
    bytes_free(&body);
    return err;
}

// --- What always holds ---------------------------------------------------------------------------------------------

static void
check_state(const struct e2e_room *room, uint64_t seq_before, uint64_t epoch_before)
{
    const Fc__E2e__V1__RoomState *state = room->state;
    size_t members = 0;
    size_t owners = 0;
    for (size_t i = 0; i < state->n_members; i++) {
        members += state->members[i]->is_invited ? 0 : 1;
        owners += !state->members[i]->is_invited && state->members[i]->role == FC__E2E__V1__ROLE__OWNER ? 1 : 0;
    }
    must(members == 0 || owners > 0);
    must(state->seq == seq_before + 1);
    must(state->epoch == epoch_before || state->epoch == epoch_before + 1);
    must(state->kind != FC__E2E__V1__ROOM_KIND__DIRECT || (state->n_members == 2 && state->n_links == 0));
    must(state->kind != FC__E2E__V1__ROOM_KIND__PUBLIC || state->is_plain);
    must(state->is_plain == (state->epoch == 0));
}

static void
step(struct e2e_room *room, struct bytes_view body, uint8_t flags, uint8_t mask)
{
    bool is_plain = (flags & IS_PLAIN) != 0;
    struct err_detail why = {0};
    struct bytes before = {0};
    struct bytes after = {0};
    struct e2e_room again = {0};
    uint64_t seq = room->state == NULL ? 0 : room->state->seq;
    uint64_t epoch = room->state == NULL ? 0 : room->state->epoch;
    Fc__E2e__V1__RoomEntry *entry = NULL;
    enum err err = e2e_room_parse(body, &entry, &why);
    must(err == ERR_OK || why.message[0] != '\0');
    if (err != ERR_OK) {
        return;
    }
    if ((flags & SETS_PLACE) != 0) {
        set_place(entry, room, flags & AUTHOR_MASK, is_plain);
    }
    if (!is_plain) {
        add_keys(entry, room, flags, mask);
    }
    must(room->state == NULL || e2e_room_pack(room, &before) == ERR_OK);
    err = is_plain ? e2e_room_apply_plain(room, entry, CREATED_AT_MS, &why) : apply_signed(room, entry, flags, &why);
    must(err == ERR_OK || why.message[0] != '\0');
    must(room->state == NULL || e2e_room_pack(room, &after) == ERR_OK);
    if (err == ERR_OK) {
        check_state(room, seq, epoch);
        must(e2e_room_unpack(&again, bytes_as_view(&after)) == ERR_OK);
        e2e_room_deinit(&again);
    } else {
        must(bytes_view_equal(bytes_as_view(&before), bytes_as_view(&after)));
    }
    bytes_free(&before);
    bytes_free(&after);
    fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct e2e_room plain = {0};
    struct e2e_room encrypted = {0};
    make_people();
    // As a stored state, which may be damaged.
    if (e2e_room_unpack(&plain, bytes_view_of(data, size)) == ERR_OK) {
        char number[E2E_SAFETY_NUMBER_BYTES];
        must(e2e_room_fingerprint(&plain, number) == ERR_OK);
        e2e_room_deinit(&plain);
    }
    while (size >= PREFIX_BYTES) {
        size_t length = bytes_load_be16(data + 2);
        uint8_t flags = data[0];
        uint8_t mask = data[1];
        data += PREFIX_BYTES;
        size -= PREFIX_BYTES;
        length = length < size ? length : size;
        step((flags & IS_PLAIN) != 0 ? &plain : &encrypted, bytes_view_of(data, length), flags, mask);
        data += length;
        size -= length;
    }
    e2e_room_deinit(&plain);
    e2e_room_deinit(&encrypted);
    return 0;
}
