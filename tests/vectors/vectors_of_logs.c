// Vectors of rooms' logs: entries, what each makes of the room, and entries that are refused.

#include <string.h>

#include "e2e/e2e_message_priv.h"
#include "e2e/e2e_room.h"
#include "e2e/e2e_wire.h"
#include "e2e_vectors.h"

enum {
    PEOPLE = 4,
    CHANGES_MAX = 3,
    WRAPS_MAX = 8,
    CREATED_AT_MS = 1700000000,
};

typedef Fc__E2e__V1__RoomChange room_change;

// Somebody with an identity and one device, whose keys count up from `number`.
struct person {
    const char *name;
    uint8_t number;
    uint8_t id[E2E_ID_BYTES];
    uint8_t device_id[E2E_ID_BYTES];
    uint8_t private_key[CRYPTO_KEY_BYTES]; // of the identity and of both uses of the device
    uint8_t identity_key[CRYPTO_KEY_BYTES];
    uint8_t box_key[CRYPTO_KEY_BYTES];
    struct e2e_user chain;
};

// An entry and all that it points to.
struct draft {
    Fc__E2e__V1__RoomEntry entry;
    room_change changes[CHANGES_MAX];
    room_change *change_addresses[CHANGES_MAX];
    Fc__E2e__V1__CreateRoom create;
    Fc__E2e__V1__AddMember added[CHANGES_MAX];
    Fc__E2e__V1__JoinByLink join;
    Fc__E2e__V1__InviteLink link;
    Fc__E2e__V1__UserHead heads[PEOPLE];
    Fc__E2e__V1__UserHead *head_addresses[PEOPLE];
    Fc__E2e__V1__Wrap wraps[WRAPS_MAX];
    Fc__E2e__V1__Wrap *wrap_addresses[WRAPS_MAX];
    uint8_t encs[WRAPS_MAX][E2E_WRAP_ENC_BYTES];
    uint8_t ciphertexts[WRAPS_MAX][E2E_WRAP_CIPHERTEXT_BYTES];
    Fc__E2e__V1__Rekey rekey;
    uint8_t commitment[E2E_COMMITMENT_BYTES];
    struct bytes previous;
    uint8_t prev_hash[E2E_HASH_BYTES];
    const struct person *author;
};

static struct person people[PEOPLE] = {{.name = "alice", .number = 0x10}, {.name = "bob", .number = 0x20},
    {.name = "carol", .number = 0x30}, {.name = "dave", .number = 0x40}};
static struct person *const alice = &people[0];
static struct person *const bob = &people[1];
static struct person *const carol = &people[2];
static struct person *const dave = &people[3];
static uint8_t room_id[E2E_ID_BYTES];
static struct e2e_room room;
static struct e2e_keys link_keys;

static ProtobufCBinaryData
field(const void *data, size_t size)
{
    // protobuf-c has no const; what is only packed is not written to.
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)data, .len = size};
}

// --- People ---------------------------------------------------------------------------------------------------------

static void
write_person(struct vector_json *json, struct person *person)
{
    Fc__E2e__V1__UserEntry entry = FC__E2E__V1__USER_ENTRY__INIT;
    Fc__E2e__V1__Identity identity = FC__E2E__V1__IDENTITY__INIT;
    Fc__E2e__V1__Device device = FC__E2E__V1__DEVICE__INIT;
    Fc__E2e__V1__UserChange changes[2] = {FC__E2E__V1__USER_CHANGE__INIT, FC__E2E__V1__USER_CHANGE__INIT};
    Fc__E2e__V1__UserChange *addresses[2] = {&changes[0], &changes[1]};
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    struct bytes body = {0};
    fill(person->id, E2E_ID_BYTES, person->number);
    fill(person->device_id, E2E_ID_BYTES, (uint8_t)(person->number + 1));
    fill(person->private_key, CRYPTO_KEY_BYTES, person->number);
    MUST(crypto_sign_public(person->private_key, person->identity_key));
    MUST(crypto_box_public(person->private_key, person->box_key));
    identity.user_name = (char *)(uintptr_t)person->name;
    identity.identity_key = field(person->identity_key, CRYPTO_KEY_BYTES);
    device.device_id = field(person->device_id, E2E_ID_BYTES);
    device.sign_key = field(person->identity_key, CRYPTO_KEY_BYTES);
    device.box_key = field(person->box_key, CRYPTO_KEY_BYTES);
    changes[0].kind_case = FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY;
    changes[0].set_identity = &identity;
    changes[1].kind_case = FC__E2E__V1__USER_CHANGE__KIND_ADD_DEVICE;
    changes[1].add_device = &device;
    entry.suite = E2E_SUITE;
    entry.user_id = field(person->id, E2E_ID_BYTES);
    entry.seq = 1;
    entry.changes = addresses;
    entry.n_changes = 2;
    MUST(e2e_wire_append(&entry.base, &body));
    MUST(e2e_sign(person->private_key, E2E_CONTEXT_USER, bytes_as_view(&body), bytes_view_of(NULL, 0), signature));
    MUST(e2e_user_apply(&person->chain, person->id, bytes_as_view(&body), bytes_view_of(signature, sizeof(signature)),
        NULL));
    vector_json_begin(json, NULL, '{');
    vector_json_text(json, "user_name", person->name);
    vector_json_hex(json, "user_id", person->id, E2E_ID_BYTES);
    vector_json_hex(json, "device_id", person->device_id, E2E_ID_BYTES);
    vector_json_hex(json, "sign_private", person->private_key, CRYPTO_KEY_BYTES);
    vector_json_hex(json, "box_private", person->private_key, CRYPTO_KEY_BYTES);
    vector_json_view(json, "body", bytes_as_view(&body));
    vector_json_hex(json, "signature", signature, sizeof(signature));
    vector_json_end(json, '}');
    bytes_free(&body);
}

static enum err
find_user(void *context, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out, struct err_detail *why)
{
    (void)context;
    for (size_t i = 0; i < PEOPLE; i++) {
        if (memcmp(people[i].id, head->user_id.data, E2E_ID_BYTES) == 0) {
            *out = &people[i].chain;
            return ERR_OK;
        }
    }
    return err_fail(why, ERR_NOT_FOUND, "nobody");
}

// --- Entries --------------------------------------------------------------------------------------------------------

static void
name_head(struct draft *draft, const struct person *person)
{
    Fc__E2e__V1__UserHead *head = &draft->heads[draft->entry.n_heads];
    fc__e2e__v1__user_head__init(head);
    head->user_id = field(person->id, E2E_ID_BYTES);
    head->seq = person->chain.seq;
    head->hash = field(person->chain.head_hash, E2E_HASH_BYTES);
    draft->head_addresses[draft->entry.n_heads++] = head;
}

static void
begin(struct draft *draft, const struct person *author)
{
    const Fc__E2e__V1__RoomState *state = room.state;
    *draft = (struct draft){.entry = FC__E2E__V1__ROOM_ENTRY__INIT, .author = author};
    draft->entry.suite = E2E_SUITE;
    draft->entry.room_id = field(room_id, E2E_ID_BYTES);
    draft->entry.seq = state == NULL ? 1 : state->seq + 1;
    if (state != NULL) {
        memcpy(draft->prev_hash, state->head_hash.data, E2E_HASH_BYTES);
        draft->entry.prev_hash = field(draft->prev_hash, E2E_HASH_BYTES);
    }
    draft->entry.user_id = field(author->id, E2E_ID_BYTES);
    draft->entry.device_id = field(author->device_id, E2E_ID_BYTES);
    draft->entry.created_at_ms = CREATED_AT_MS;
    draft->entry.changes = draft->change_addresses;
    draft->entry.heads = draft->head_addresses;
    draft->entry.wraps = draft->wrap_addresses;
    name_head(draft, author);
}

static room_change *
change(struct draft *draft, Fc__E2e__V1__RoomChange__KindCase kind)
{
    room_change *made = &draft->changes[draft->entry.n_changes];
    fc__e2e__v1__room_change__init(made);
    made->kind_case = kind;
    draft->change_addresses[draft->entry.n_changes++] = made;
    return made;
}

static void
add_member(struct draft *draft, const struct person *person)
{
    Fc__E2e__V1__AddMember *added = &draft->added[draft->entry.n_changes];
    fc__e2e__v1__add_member__init(added);
    added->user_id = field(person->id, E2E_ID_BYTES);
    added->user_name = (char *)(uintptr_t)person->name;
    added->role = FC__E2E__V1__ROLE__MEMBER;
    change(draft, FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER)->add_member = added;
    name_head(draft, person);
}

static void
epoch_secret(uint64_t epoch, uint8_t out[E2E_SECRET_BYTES])
{
    fill(out, E2E_SECRET_BYTES, (uint8_t)(0x80 + epoch));
}

static void
wrap(struct draft *draft, const uint8_t *receiver_id, const uint8_t box_key[CRYPTO_KEY_BYTES], uint64_t epoch)
{
    size_t index = draft->entry.n_wraps;
    uint8_t ephemeral[CRYPTO_KEY_BYTES];
    uint8_t secret[E2E_SECRET_BYTES];
    Fc__E2e__V1__Wrap *made = &draft->wraps[index];
    fill(ephemeral, sizeof(ephemeral), (uint8_t)(0xa0 + draft->entry.seq * WRAPS_MAX + index));
    epoch_secret(epoch, secret);
    MUST(e2e_epoch_wrap_with_ephemeral(ephemeral, secret, room_id, epoch,
        bytes_view_of(draft->entry.prev_hash.data, draft->entry.prev_hash.len), receiver_id, box_key,
        draft->encs[index], draft->ciphertexts[index]));
    fc__e2e__v1__wrap__init(made);
    made->device_id = field(receiver_id, E2E_ID_BYTES);
    made->epoch = epoch;
    made->enc = field(draft->encs[index], E2E_WRAP_ENC_BYTES);
    made->ciphertext = field(draft->ciphertexts[index], E2E_WRAP_CIPHERTEXT_BYTES);
    draft->wrap_addresses[draft->entry.n_wraps++] = made;
}

static void
wrap_for(struct draft *draft, const struct person *person, uint64_t epoch)
{
    wrap(draft, person->device_id, person->box_key, epoch);
}

static void
rekey(struct draft *draft, uint64_t epoch)
{
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t before[E2E_SECRET_BYTES];
    uint8_t salt[E2E_SALT_BYTES];
    epoch_secret(epoch, secret);
    MUST(e2e_epoch_commitment(secret, room_id, epoch, draft->commitment));
    fc__e2e__v1__rekey__init(&draft->rekey);
    draft->rekey.epoch = epoch;
    draft->rekey.commitment = field(draft->commitment, E2E_COMMITMENT_BYTES);
    if (epoch > 1) {
        epoch_secret(epoch - 1, before);
        fill(salt, sizeof(salt), 0xb0);
        MUST(e2e_epoch_seal_previous_with_salt(secret, room_id, epoch - 1, salt, before, &draft->previous));
        draft->rekey.previous = field(draft->previous.data, draft->previous.size);
    }
    draft->entry.rekey = &draft->rekey;
}

// --- Output ---------------------------------------------------------------------------------------------------------

static void
write_people(struct vector_json *json)
{
    const Fc__E2e__V1__RoomState *state = room.state;
    vector_json_begin(json, "members", '[');
    for (size_t i = 0; i < state->n_members; i++) {
        const Fc__E2e__V1__RoomMember *member = state->members[i];
        vector_json_begin(json, NULL, '{');
        vector_json_hex(json, "user_id", member->user_id.data, member->user_id.len);
        vector_json_text(json, "user_name", member->user_name);
        vector_json_number(json, "role", member->role);
        vector_json_bool(json, "is_invited", member->is_invited);
        vector_json_hex(json, "identity_key", member->identity_key.data, member->identity_key.len);
        vector_json_number(json, "head_seq", member->head->seq);
        vector_json_hex(json, "head_hash", member->head->hash.data, member->head->hash.len);
        vector_json_end(json, '}');
    }
    vector_json_end(json, ']');
    vector_json_begin(json, "links", '[');
    for (size_t i = 0; i < state->n_links; i++) {
        vector_json_begin(json, NULL, '{');
        vector_json_hex(json, "link_id", state->links[i]->link->link_id.data, E2E_ID_BYTES);
        vector_json_number(json, "use_count", state->links[i]->use_count);
        vector_json_end(json, '}');
    }
    vector_json_end(json, ']');
}

static void
write_state(struct vector_json *json)
{
    char fingerprint[E2E_SAFETY_NUMBER_BYTES];
    const Fc__E2e__V1__RoomState *state = room.state;
    MUST(e2e_room_fingerprint(&room, fingerprint));
    vector_json_begin(json, "after", '{');
    vector_json_number(json, "seq", state->seq);
    vector_json_hex(json, "head_hash", state->head_hash.data, state->head_hash.len);
    vector_json_text(json, "name", state->name);
    vector_json_number(json, "kind", state->kind);
    vector_json_number(json, "history", state->history);
    vector_json_number(json, "epoch", state->epoch);
    vector_json_hex(json, "commitment", state->commitment.data, state->commitment.len);
    vector_json_bool(json, "is_rekey_needed", state->is_rekey_needed);
    write_people(json);
    vector_json_text(json, "fingerprint", fingerprint);
    vector_json_end(json, '}');
}

// finish signs the entry, checks that it has the effect that the vector claims, and writes both.
static void
finish(struct vector_json *json, struct draft *draft, const struct e2e_keys *link, const char *what, enum err expected)
{
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    uint8_t link_signature[CRYPTO_SIGNATURE_BYTES];
    struct bytes_view nothing = {0};
    struct bytes body = {0};
    struct err_detail why = {0};
    Fc__E2e__V1__Signed wire = FC__E2E__V1__SIGNED__INIT;
    MUST(e2e_wire_append(&draft->entry.base, &body));
    MUST(e2e_sign(draft->author->private_key, E2E_CONTEXT_ROOM, bytes_as_view(&body), nothing, signature));
    wire.body = field(body.data, body.size);
    wire.signature = field(signature, sizeof(signature));
    if (link != NULL) {
        MUST(e2e_sign(link->sign_private, E2E_CONTEXT_JOIN, bytes_as_view(&body), nothing, link_signature));
        wire.link_signature = field(link_signature, sizeof(link_signature));
    }
    enum err err = e2e_room_apply(&room, room_id, &wire, 0, find_user, NULL, &why);
    must(err == expected ? ERR_OK : ERR_INTERNAL, what);
    vector_json_begin(json, NULL, '{');
    vector_json_text(json, "what", what);
    vector_json_view(json, "body", bytes_as_view(&body));
    vector_json_hex(json, "signature", signature, sizeof(signature));
    vector_json_hex(json, "link_signature", link_signature, wire.link_signature.len);
    if (err == ERR_OK) {
        write_state(json);
    }
    vector_json_end(json, '}');
    bytes_free(&body);
    bytes_free(&draft->previous);
}

static void
make_link(struct draft *draft)
{
    fc__e2e__v1__invite_link__init(&draft->link);
    draft->link.link_id = field(link_keys.id, E2E_ID_BYTES);
    draft->link.sign_key = field(link_keys.sign_public, CRYPTO_KEY_BYTES);
    draft->link.box_key = field(link_keys.box_public, CRYPTO_KEY_BYTES);
    draft->link.role = FC__E2E__V1__ROLE__MEMBER;
    draft->link.max_uses = 5;
    change(draft, FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK)->add_link = &draft->link;
}

static void
join_by_link(struct draft *draft, const struct person *person)
{
    fc__e2e__v1__join_by_link__init(&draft->join);
    draft->join.link_id = field(link_keys.id, E2E_ID_BYTES);
    draft->join.user_name = (char *)(uintptr_t)person->name;
    change(draft, FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK)->join_by_link = &draft->join;
}

static void
remove_member(struct draft *draft, const struct person *person)
{
    change(draft, FC__E2E__V1__ROOM_CHANGE__KIND_REMOVE_MEMBER)->remove_member = field(person->id, E2E_ID_BYTES);
}

static void
write_entries(struct vector_json *json)
{
    static char name[] = "kitchen";
    struct draft draft;
    vector_json_begin(json, "entries", '[');
    begin(&draft, alice);
    fc__e2e__v1__create_room__init(&draft.create);
    draft.create.name = name;
    draft.create.kind = FC__E2E__V1__ROOM_KIND__PRIVATE;
    change(&draft, FC__E2E__V1__ROOM_CHANGE__KIND_CREATE)->create = &draft.create;
    add_member(&draft, bob);
    rekey(&draft, 1);
    wrap_for(&draft, alice, 1);
    wrap_for(&draft, bob, 1);
    finish(json, &draft, NULL, "alice makes the room, with bob in it", ERR_OK);

    begin(&draft, alice);
    add_member(&draft, carol);
    wrap_for(&draft, carol, 1);
    finish(json, &draft, NULL, "alice adds carol, who gets the key that there is", ERR_OK);

    begin(&draft, alice);
    remove_member(&draft, bob);
    name_head(&draft, carol);
    rekey(&draft, 2);
    wrap_for(&draft, alice, 2);
    wrap_for(&draft, carol, 2);
    finish(json, &draft, NULL, "alice removes bob, and with that begins an epoch", ERR_OK);

    begin(&draft, alice);
    make_link(&draft);
    wrap(&draft, link_keys.id, link_keys.box_public, 2);
    finish(json, &draft, NULL, "alice makes an invite link, which gets the key as a member would", ERR_OK);

    begin(&draft, dave);
    join_by_link(&draft, dave);
    wrap_for(&draft, dave, 2);
    finish(json, &draft, &link_keys, "dave joins by the link, which signs as well", ERR_OK);

    begin(&draft, carol);
    remove_member(&draft, carol);
    finish(json, &draft, NULL, "carol leaves: the next who sends begins an epoch", ERR_OK);

    begin(&draft, dave);
    name_head(&draft, alice);
    rekey(&draft, 3);
    wrap_for(&draft, alice, 3);
    wrap_for(&draft, dave, 3);
    wrap(&draft, link_keys.id, link_keys.box_public, 3);
    finish(json, &draft, NULL, "dave begins it, as any member may", ERR_OK);
    vector_json_end(json, ']');
}

static void
begin_rekey(struct draft *draft)
{
    begin(draft, alice);
    name_head(draft, dave);
    rekey(draft, 4);
    wrap_for(draft, alice, 4);
    wrap_for(draft, dave, 4);
}

static void
write_refused(struct vector_json *json)
{
    struct draft draft;
    vector_json_begin(json, "refused", '[');
    begin_rekey(&draft);
    finish(json, &draft, NULL, "a rekey that leaves the link out", ERR_INVALID);
    begin_rekey(&draft);
    wrap(&draft, link_keys.id, link_keys.box_public, 4);
    wrap_for(&draft, bob, 4);
    finish(json, &draft, NULL, "a rekey with a key for somebody who was removed", ERR_INVALID);
    begin(&draft, alice);
    remove_member(&draft, dave);
    finish(json, &draft, NULL, "a removal without a new epoch", ERR_INVALID);
    begin(&draft, dave);
    add_member(&draft, bob);
    wrap_for(&draft, bob, 3);
    finish(json, &draft, NULL, "somebody added by who may not", ERR_DENIED);
    begin(&draft, alice);
    add_member(&draft, bob);
    finish(json, &draft, NULL, "somebody added without the key", ERR_INVALID);
    begin(&draft, bob);
    join_by_link(&draft, bob);
    wrap_for(&draft, bob, 3);
    finish(json, &draft, NULL, "joins by a link that has not signed", ERR_CORRUPT);
    begin(&draft, alice);
    draft.author = bob;
    change(&draft, FC__E2E__V1__ROOM_CHANGE__KIND_SET_ARCHIVED)->set_archived = true;
    finish(json, &draft, NULL, "signed by another device than it names", ERR_CORRUPT);
    draft.author = alice;
    draft.entry.seq++;
    finish(json, &draft, NULL, "not the next number", ERR_CONFLICT);
    draft.entry.seq--;
    draft.prev_hash[0] ^= 1;
    finish(json, &draft, NULL, "after another entry", ERR_CONFLICT);
    vector_json_end(json, ']');
}

void
write_room_log(struct vector_json *json)
{
    uint8_t link_secret[E2E_SECRET_BYTES];
    uint8_t secret[E2E_SECRET_BYTES];
    fill(room_id, sizeof(room_id), 0x60);
    fill(link_secret, sizeof(link_secret), 0x70);
    MUST(e2e_keys_derive(bytes_view_of(link_secret, sizeof(link_secret)), E2E_LABEL_LINK_KEYS, &link_keys));
    vector_json_hex(json, "room_id", room_id, sizeof(room_id));
    vector_json_hex(json, "link_secret", link_secret, sizeof(link_secret));
    vector_json_begin(json, "users", '[');
    for (size_t i = 0; i < PEOPLE; i++) {
        write_person(json, &people[i]);
    }
    vector_json_end(json, ']');
    vector_json_begin(json, "epochs", '[');
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        epoch_secret(epoch, secret);
        vector_json_begin(json, NULL, '{');
        vector_json_number(json, "epoch", epoch);
        vector_json_hex(json, "secret", secret, sizeof(secret));
        vector_json_end(json, '}');
    }
    vector_json_end(json, ']');
    write_entries(json);
    write_refused(json);
    e2e_room_deinit(&room);
    for (size_t i = 0; i < PEOPLE; i++) {
        e2e_user_deinit(&people[i].chain);
    }
}
