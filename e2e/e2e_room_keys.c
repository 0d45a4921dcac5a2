// Whose devices an entry speaks of, and whether it gives keys to exactly those who are to have them.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/e2e_room_priv.h"

enum {
    PREVIOUS_BYTES = E2E_SECRET_BYTES + E2E_SEAL_OVERHEAD_BYTES,
};

// --- Heads ---------------------------------------------------------------------------------------------------------

static int
compare_seen(const void *a, const void *b)
{
    const struct e2e_room_seen *one = a;
    const struct e2e_room_seen *other = b;
    return memcmp(one->head->user_id.data, other->head->user_id.data, E2E_ID_BYTES);
}

const struct e2e_room_seen *
e2e_room_heads_find(const struct e2e_room_heads *heads, const uint8_t user_id[E2E_ID_BYTES])
{
    size_t low = 0;
    size_t high = heads->user_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = memcmp(heads->users[middle].head->user_id.data, user_id, E2E_ID_BYTES);
        if (order == 0) {
            return &heads->users[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

void
e2e_room_heads_deinit(struct e2e_room_heads *heads)
{
    free(heads->users);
    free(heads->devices);
    *heads = (struct e2e_room_heads){0};
}

static enum err
add_device(struct e2e_room_heads *heads, const uint8_t device_id[E2E_ID_BYTES], struct err_detail *why)
{
    if (heads->device_count == E2E_ROOM_WRAPS_MAX) {
        return err_fail(why, ERR_LIMIT, "the users that a room entry names have more than %d devices",
            E2E_ROOM_WRAPS_MAX);
    }
    if (heads->device_count == heads->device_capacity) {
        size_t capacity = heads->device_capacity == 0 ? 16 : 2 * heads->device_capacity;
        struct e2e_room_device_id *devices = realloc(heads->devices, capacity * sizeof(*devices));
        if (devices == NULL) {
            return ERR_NO_MEMORY;
        }
        heads->devices = devices;
        heads->device_capacity = capacity;
    }
    memcpy(heads->devices[heads->device_count++].bytes, device_id, E2E_ID_BYTES);
    return ERR_OK;
}

// The device that signs has to be the author's, and active where the entry says that it saw the author's chain.
static enum err
take_author(struct e2e_room_heads *heads, const Fc__E2e__V1__RoomEntry *entry, const Fc__E2e__V1__UserHead *head,
    const struct e2e_user *user, struct err_detail *why)
{
    const struct e2e_device *device = e2e_user_device(user, entry->device_id.data);
    if (device == NULL || device->added_seq > head->seq) {
        return err_fail(why, ERR_NOT_FOUND, "the device that signed the room entry is none of %s's", user->name);
    }
    if (!e2e_device_is_active_at(device, head->seq)) {
        return err_fail(why, ERR_DENIED, "the device that signed the room entry has been revoked by %s", user->name);
    }
    memcpy(heads->author_key, device->sign_key, CRYPTO_KEY_BYTES);
    return ERR_OK;
}

static enum err
take_user(struct e2e_room_heads *heads, const Fc__E2e__V1__UserHead *head, const struct e2e_user *user,
    struct err_detail *why)
{
    if (user->seq < head->seq || user->identity_seq > head->seq) {
        return err_fail(why, ERR_CONFLICT, "the chain of %s is not at entry %" PRIu64 ", which the room entry names",
            user->name, head->seq);
    }
    struct e2e_room_seen *seen = &heads->users[heads->user_count++];
    *seen = (struct e2e_room_seen){.head = head, .first_device = heads->device_count};
    memcpy(seen->identity_key, user->identity_key, CRYPTO_KEY_BYTES);
    memcpy(seen->name, user->name, sizeof(seen->name));
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < user->device_count; i++) {
        if (e2e_device_is_active_at(&user->devices[i], head->seq)) {
            err = add_device(heads, user->devices[i].id, why);
        }
    }
    seen->device_count = heads->device_count - seen->first_device;
    return err;
}

static enum err
read_head(struct e2e_room_heads *heads, const Fc__E2e__V1__RoomEntry *entry, const Fc__E2e__V1__UserHead *head,
    e2e_find_user_fn *find_user, void *context, struct err_detail *why)
{
    if (head->user_id.len != E2E_ID_BYTES || head->hash.len != E2E_HASH_BYTES || head->seq == 0) {
        return err_fail(why, ERR_INVALID, "a head of the room entry is not one");
    }
    const struct e2e_user *user = NULL;
    enum err err = find_user(context, head, &user, why);
    if (err == ERR_OK) {
        err = take_user(heads, head, user, why);
    }
    if (err == ERR_OK && e2e_room_is_id(head->user_id, entry->user_id.data)) {
        err = take_author(heads, entry, head, user, why);
    }
    return err;
}

enum err
e2e_room_heads_read(struct e2e_room_heads *heads, const Fc__E2e__V1__RoomEntry *entry, e2e_find_user_fn *find_user,
    void *context, struct err_detail *why)
{
    if (entry->device_id.len != E2E_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "the author's device is named by %d bytes, not %zu", E2E_ID_BYTES,
            entry->device_id.len);
    }
    heads->users = calloc(entry->n_heads + 1, sizeof(*heads->users));
    enum err err = heads->users == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < entry->n_heads; i++) {
        err = read_head(heads, entry, entry->heads[i], find_user, context, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    qsort(heads->users, heads->user_count, sizeof(*heads->users), compare_seen);
    for (size_t i = 1; i < heads->user_count; i++) {
        if (compare_seen(&heads->users[i - 1], &heads->users[i]) == 0) {
            return err_fail(why, ERR_INVALID, "the room entry names the head of %s twice", heads->users[i].name);
        }
    }
    if (e2e_room_heads_find(heads, entry->user_id.data) == NULL) {
        return err_fail(why, ERR_INVALID, "the room entry does not name the head of its author's chain");
    }
    return ERR_OK;
}

// --- Who gets keys -------------------------------------------------------------------------------------------------

// A key that an entry gives, or that it has to or may give.
struct given {
    uint8_t id[E2E_ID_BYTES]; // of the device or link
    uint64_t epoch;
};

struct given_list {
    struct given *items;
    size_t count;
};

static int
compare_given(const void *a, const void *b)
{
    const struct given *one = a;
    const struct given *other = b;
    int order = memcmp(one->id, other->id, E2E_ID_BYTES);
    return order != 0 ? order : (one->epoch > other->epoch) - (one->epoch < other->epoch);
}

static enum err
given_list_init(struct given_list *list, size_t capacity)
{
    list->count = 0;
    list->items = calloc(capacity + 1, sizeof(*list->items));
    return list->items == NULL ? ERR_NO_MEMORY : ERR_OK;
}

static void
given_list_add(struct given_list *list, const uint8_t id[E2E_ID_BYTES], uint64_t epoch)
{
    struct given *item = &list->items[list->count++];
    memcpy(item->id, id, E2E_ID_BYTES);
    item->epoch = epoch;
}

static void
given_list_sort(struct given_list *list)
{
    qsort(list->items, list->count, sizeof(*list->items), compare_given);
}

// How often the list has exactly this, being sorted.
static size_t
given_list_count(const struct given_list *list, const struct given *wanted)
{
    size_t low = 0;
    size_t high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_given(&list->items[middle], wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    size_t end = low;
    while (end < list->count && compare_given(&list->items[end], wanted) == 0) {
        end++;
    }
    return end - low;
}

static bool
has_same_identity(const Fc__E2e__V1__RoomMember *member, const struct e2e_room_seen *seen)
{
    return memcmp(member->identity_key.data, seen->identity_key, CRYPTO_KEY_BYTES) == 0;
}

static void
add_devices(struct given_list *list, const struct e2e_room_heads *heads, const struct e2e_room_seen *seen,
    uint64_t epoch)
{
    for (size_t i = 0; i < seen->device_count; i++) {
        given_list_add(list, heads->devices[seen->first_device + i].bytes, epoch);
    }
}

// The devices of those in the room whose heads are named, and the links that have keys: all with the same epoch.
static enum err
list_receivers(const struct e2e_room_draft *draft, uint64_t epoch, struct given_list *out)
{
    const Fc__E2e__V1__RoomState *state = draft->state;
    enum err err = given_list_init(out, draft->heads->device_count + state->n_links);
    for (size_t i = 0; err == ERR_OK && i < state->n_members; i++) {
        const struct e2e_room_seen *seen = e2e_room_heads_find(draft->heads, state->members[i]->user_id.data);
        if (seen != NULL && has_same_identity(state->members[i], seen)) {
            add_devices(out, draft->heads, seen, epoch);
        }
    }
    for (size_t i = 0; err == ERR_OK && e2e_room_has_link_keys(state) && i < state->n_links; i++) {
        given_list_add(out, state->links[i]->link->link_id.data, epoch);
    }
    if (err == ERR_OK) {
        given_list_sort(out);
    }
    return err;
}

static enum err
list_wraps(const Fc__E2e__V1__RoomEntry *entry, struct given_list *out, struct err_detail *why)
{
    enum err err = given_list_init(out, entry->n_wraps);
    for (size_t i = 0; err == ERR_OK && i < entry->n_wraps; i++) {
        const Fc__E2e__V1__Wrap *wrap = entry->wraps[i];
        if (wrap->device_id.len != E2E_ID_BYTES || wrap->enc.len != E2E_WRAP_ENC_BYTES ||
            wrap->ciphertext.len != E2E_WRAP_CIPHERTEXT_BYTES) {
            return err_fail(why, ERR_INVALID, "a wrap of the room entry is not one");
        }
        given_list_add(out, wrap->device_id.data, wrap->epoch);
    }
    if (err == ERR_OK) {
        given_list_sort(out);
    }
    return err;
}

// --- Rules ---------------------------------------------------------------------------------------------------------

static enum err
check_rekey(const struct e2e_room_draft *draft, const struct given_list *wraps, bool has_ladder, struct err_detail *why)
{
    const Fc__E2e__V1__RoomState *state = draft->state;
    const Fc__E2e__V1__Rekey *rekey = draft->entry->rekey;
    if (rekey->epoch != state->epoch + 1) {
        return err_fail(why, ERR_INVALID, "the rekey starts epoch %" PRIu64 "; the next one is %" PRIu64, rekey->epoch,
            state->epoch + 1);
    }
    if (rekey->commitment.len != E2E_COMMITMENT_BYTES) {
        return err_fail(why, ERR_INVALID, "a rekey's commitment has %d bytes, not %zu", E2E_COMMITMENT_BYTES,
            rekey->commitment.len);
    }
    if (rekey->previous.len != 0 && (!has_ladder || rekey->previous.len != PREVIOUS_BYTES)) {
        return err_fail(why, ERR_INVALID,
            has_ladder ? "the secret of the epoch before is not sealed as it should be"
                       : "new members of this room must not get the epoch before");
    }
    for (size_t i = 0; i < state->n_members; i++) {
        if (e2e_room_heads_find(draft->heads, state->members[i]->user_id.data) == NULL) {
            return err_fail(why, ERR_INVALID, "the rekey leaves out %s", state->members[i]->user_name);
        }
    }
    struct given_list wanted = {0};
    enum err err = list_receivers(draft, rekey->epoch, &wanted);
    if (err == ERR_OK &&
        (wanted.count != wraps->count ||
            (wanted.count > 0 && memcmp(wanted.items, wraps->items, wanted.count * sizeof(*wanted.items)) != 0))) {
        err = err_fail(why, ERR_INVALID,
            "the rekey does not give its key to exactly the %zu devices and links of the room", wanted.count);
    }
    free(wanted.items);
    return err;
}

// Wraps without a rekey go to receivers only, for an epoch that there is, and not twice.
static enum err
check_wraps(const struct e2e_room_draft *draft, const struct given_list *wraps, struct err_detail *why)
{
    struct given_list allowed = {0};
    enum err err = list_receivers(draft, 0, &allowed);
    for (size_t i = 0; err == ERR_OK && i < wraps->count; i++) {
        const struct given *wrap = &wraps->items[i];
        struct given receiver = *wrap;
        receiver.epoch = 0;
        size_t count = given_list_count(&allowed, &receiver);
        if (count == 0) {
            err = err_fail(why, ERR_INVALID, "the room entry gives a key to what is no device or link of the room");
        } else if (wrap->epoch == 0 || wrap->epoch > draft->state->epoch) {
            err = err_fail(why, ERR_INVALID, "the room entry gives a key of epoch %" PRIu64 ", which there is not",
                wrap->epoch);
        } else if (given_list_count(wraps, wrap) > count) {
            err = err_fail(why, ERR_INVALID, "the room entry gives a key twice");
        }
    }
    free(allowed.items);
    return err;
}

static enum err
require_wraps(const struct e2e_room_draft *draft, const uint8_t user_id[E2E_ID_BYTES], const struct given_list *wraps,
    struct err_detail *why)
{
    const struct e2e_room_seen *seen = e2e_room_heads_find(draft->heads, user_id);
    const Fc__E2e__V1__RoomMember *member = e2e_room_find_member(draft->state, user_id);
    for (size_t i = 0; seen != NULL && member != NULL && i < seen->device_count; i++) {
        struct given wanted = {.epoch = draft->state->epoch};
        memcpy(wanted.id, draft->heads->devices[seen->first_device + i].bytes, E2E_ID_BYTES);
        if (given_list_count(wraps, &wanted) == 0) {
            return err_fail(why, ERR_INVALID, "the room entry lets %s in without the key for each device", seen->name);
        }
    }
    return ERR_OK;
}

// Who comes in without a rekey needs the present key.
static enum err
check_newcomers(const struct e2e_room_draft *draft, const struct given_list *wraps, bool reads_all,
    struct err_detail *why)
{
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < draft->entry->n_changes; i++) {
        const Fc__E2e__V1__RoomChange *change = draft->entry->changes[i];
        if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER) {
            err = require_wraps(draft, change->add_member->user_id.data, wraps, why);
        } else if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK) {
            err = require_wraps(draft, draft->entry->user_id.data, wraps, why);
        } else if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK && reads_all) {
            struct given wanted = {.epoch = draft->state->epoch};
            memcpy(wanted.id, change->add_link->link_id.data, E2E_ID_BYTES);
            if (given_list_count(wraps, &wanted) == 0) {
                err = err_fail(why, ERR_INVALID, "the room entry makes an invite link without the key for it");
            }
        }
    }
    return err;
}

static enum err
take_head(Fc__E2e__V1__RoomMember *member, const struct e2e_room_seen *seen, struct err_detail *why)
{
    bool is_same = seen->head->seq == member->head->seq;
    if (seen->head->seq < member->head->seq ||
        (is_same && memcmp(seen->head->hash.data, member->head->hash.data, E2E_HASH_BYTES) != 0)) {
        return err_fail(why, ERR_CONFLICT, "the room entry goes back behind what the room knows of %s's devices",
            seen->name);
    }
    if (is_same) {
        return ERR_OK;
    }
    member->head->seq = seen->head->seq;
    return e2e_room_set_bytes(&member->head->hash, seen->head->hash.data, E2E_HASH_BYTES);
}

// The heads of those in the room move forward, those of others have no place here.
static enum err
take_heads(struct e2e_room_draft *draft, struct err_detail *why)
{
    // The author may have just left.
    size_t count = e2e_room_find_member(draft->state, draft->entry->user_id.data) == NULL ? 1 : 0;
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < draft->state->n_members; i++) {
        Fc__E2e__V1__RoomMember *member = draft->state->members[i];
        const struct e2e_room_seen *seen = e2e_room_heads_find(draft->heads, member->user_id.data);
        if (seen != NULL) {
            count++;
            err = take_head(member, seen, why);
        }
    }
    if (err == ERR_OK && count != draft->heads->user_count) {
        err = err_fail(why, ERR_INVALID, "the room entry names the head of somebody who is not in the room");
    }
    return err;
}

static bool
has_used_up_link(const Fc__E2e__V1__RoomState *state)
{
    for (size_t i = 0; i < state->n_links; i++) {
        if (e2e_room_is_link_used_up(state->links[i])) {
            return true;
        }
    }
    return false;
}

static enum err
take_rekey(struct e2e_room_draft *draft)
{
    const Fc__E2e__V1__Rekey *rekey = draft->entry->rekey;
    draft->state->epoch = rekey->epoch;
    draft->state->epoch_started_at_ms = draft->entry->created_at_ms;
    // A link that is still there has been given the new key as well.
    draft->state->is_rekey_needed = e2e_room_has_link_keys(draft->state) && has_used_up_link(draft->state);
    return e2e_room_set_bytes(&draft->state->commitment, rekey->commitment.data, rekey->commitment.len);
}

enum err
e2e_room_keys_apply(struct e2e_room_draft *draft, bool needs_rekey, bool has_ladder, struct err_detail *why)
{
    const Fc__E2e__V1__RoomEntry *entry = draft->entry;
    if (needs_rekey && entry->rekey == NULL) {
        return err_fail(why, ERR_INVALID, "such a room entry has to start a new epoch");
    }
    struct given_list wraps = {0};
    enum err err = take_heads(draft, why);
    if (err == ERR_OK) {
        err = list_wraps(entry, &wraps, why);
    }
    if (err == ERR_OK && entry->rekey != NULL) {
        err = check_rekey(draft, &wraps, has_ladder, why);
    } else if (err == ERR_OK) {
        err = check_wraps(draft, &wraps, why);
        if (err == ERR_OK) {
            err = check_newcomers(draft, &wraps, draft->state->history == FC__E2E__V1__HISTORY__HISTORY_ALL, why);
        }
    }
    free(wraps.items);
    return err == ERR_OK && entry->rekey != NULL ? take_rekey(draft) : err;
}
