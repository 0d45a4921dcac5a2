// From a room's state to the tables: only what an entry has changed is written, and what the operator and those who are
// added do not want is refused.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "services/chat/chat_blocks.h"
#include "services/chat/chat_log.h"
#include "services/chat/chat_rows.h"

typedef Fc__E2e__V1__RoomMember room_member;
typedef Fc__E2e__V1__RoomState room_state;

void
chat_outcome_deinit(struct chat_outcome *outcome)
{
    free(outcome->ended);
    *outcome = (struct chat_outcome){0};
}

static int
compare_members(const void *a, const void *b)
{
    const room_member *const *one = a;
    const room_member *const *other = b;
    return memcmp((*one)->user_id.data, (*other)->user_id.data, CHAT_ID_BYTES);
}

// sorted_members is by user id; the caller frees it.
static const room_member **
sorted_members(const room_state *state, size_t *count_out)
{
    size_t count = state == NULL ? 0 : state->n_members;
    const room_member **members = calloc(count + 1, sizeof(*members));
    for (size_t i = 0; members != NULL && i < count; i++) {
        members[i] = state->members[i];
    }
    if (members != NULL) {
        qsort(members, count, sizeof(*members), compare_members);
    }
    *count_out = count;
    return members;
}

static enum err
check_room_count(const struct chat_change *change, const room_member *member)
{
    int64_t limit =
        change->people->max_rooms_per_user == 0 ? CHAT_ROOMS_PER_USER_DEFAULT : change->people->max_rooms_per_user;
    struct store_rows *rows = NULL;
    int64_t count = 0;
    enum err err = store_query(change->tx, "SELECT COUNT(*) FROM chat_members WHERE user_id = $1",
        STORE_ARGS(chat_rows_id(member->user_id.data)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        count = store_rows_int(rows, 0);
    }
    store_rows_free(&rows);
    if (err != ERR_OK || count < limit) {
        return err;
    }
    if (memcmp(member->user_id.data, change->user.id, CHAT_ID_BYTES) == 0) {
        return err_fail(change->why, ERR_LIMIT,
            "you are in %lld rooms or invited to them, as many as this server allows; leave one first",
            (long long)count);
    }
    return err_fail(change->why, ERR_LIMIT, "%s is in as many rooms as this server allows", member->user_name);
}

// Whoever comes in by somebody else's doing may not want to hear from them. What is said does not tell why.
static enum err
check_block(const struct chat_change *change, const room_member *member)
{
    bool is_blocked = false;
    if (memcmp(member->user_id.data, change->user.id, CHAT_ID_BYTES) == 0) {
        return ERR_OK;
    }
    enum err err = chat_blocks_has(change->tx, member->user_id.data, change->user.id, &is_blocked);
    return err == ERR_OK && is_blocked
               ? err_fail(change->why, ERR_DENIED, "%s cannot be added; leave them out", member->user_name)
               : err;
}

static enum err
insert_member(const struct chat_change *change, const room_state *state, const room_member *member)
{
    enum err err = check_block(change, member);
    if (err == ERR_OK) {
        err = check_room_count(change, member);
    }
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(change->tx,
        "INSERT INTO chat_members (room_id, user_id, user_name, is_owner, joined_at_ms, role, is_invited)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        STORE_ARGS(chat_rows_id(state->room_id.data), chat_rows_id(member->user_id.data), store_text(member->user_name),
            store_int(member->role == FC__E2E__V1__ROLE__OWNER ? 1 : 0), store_int(clock_unix_ms()),
            store_int(member->role), store_int(member->is_invited ? 1 : 0)),
        NULL);
}

static enum err
update_member(const struct chat_change *change, const room_state *state, const room_member *before,
    const room_member *after)
{
    if (before->role == after->role && before->is_invited == after->is_invited &&
        strcmp(before->user_name, after->user_name) == 0) {
        return ERR_OK;
    }
    return store_exec(change->tx,
        "UPDATE chat_members SET role = $1, is_owner = $2, is_invited = $3, user_name = $4"
        " WHERE room_id = $5 AND user_id = $6",
        STORE_ARGS(store_int(after->role), store_int(after->role == FC__E2E__V1__ROLE__OWNER ? 1 : 0),
            store_int(after->is_invited ? 1 : 0), store_text(after->user_name), chat_rows_id(state->room_id.data),
            chat_rows_id(after->user_id.data)),
        NULL);
}

static enum err
delete_member(const struct chat_change *change, const room_state *state, const room_member *member)
{
    return store_exec(change->tx, "DELETE FROM chat_members WHERE room_id = $1 AND user_id = $2",
        STORE_ARGS(chat_rows_id(state->room_id.data), chat_rows_id(member->user_id.data)), NULL);
}

// Goes through both lists, which are sorted. out->ended has room for all of before.
static enum err
merge_members(const struct chat_change *change, const room_state *state, const room_member **before,
    const room_member **after, struct chat_outcome *out)
{
    enum err err = ERR_OK;
    while (err == ERR_OK && (*before != NULL || *after != NULL)) {
        int order = *before == NULL ? 1 : *after == NULL ? -1 : compare_members(before, after);
        const room_member *old = order <= 0 ? *before : NULL;
        const room_member *new = order >= 0 ? *after : NULL;
        if (old != NULL && !old->is_invited && (new == NULL || new->is_invited)) {
            memcpy(out->ended[out->ended_count++].bytes, old->user_id.data, CHAT_ID_BYTES);
        }
        if (old == NULL) {
            err = insert_member(change, state, new);
        } else if (new == NULL) {
            err = delete_member(change, state, old);
        } else {
            err = update_member(change, state, old, new);
        }
        before += old != NULL ? 1 : 0;
        after += new != NULL ? 1 : 0;
    }
    return err;
}

static enum err
store_members(const struct chat_draft *draft, const struct chat_change *change, struct chat_outcome *out)
{
    size_t before_count = 0;
    size_t after_count = 0;
    uint32_t limit = change->people->max_members == 0 ? E2E_ROOM_MEMBERS_MAX : change->people->max_members;
    const room_member **before = sorted_members(draft->before.state, &before_count);
    const room_member **after = sorted_members(draft->after.state, &after_count);
    free(out->ended);
    out->ended_count = 0;
    out->ended = calloc(before_count + 1, sizeof(*out->ended));
    enum err err = before == NULL || after == NULL || out->ended == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK && after_count > limit && after_count > before_count) {
        err = err_fail(change->why, ERR_LIMIT,
            "a room of this server has at most %u members and invited users; this would make it %zu", (unsigned)limit,
            after_count);
    }
    if (err == ERR_OK) {
        err = merge_members(change, draft->after.state, before, after, out);
    }
    free(before);
    free(after);
    return err;
}

static enum err
insert_link(const struct chat_change *change, const room_state *state, const Fc__E2e__V1__RoomLink *link,
    struct bytes_view info)
{
    enum err err = store_exec(change->tx, "INSERT INTO chat_links (link_id, room_id, info) VALUES ($1, $2, $3)",
        STORE_ARGS(chat_rows_id(link->link->link_id.data), chat_rows_id(state->room_id.data),
            info.size == 0 ? store_null() : store_blob(info.data, info.size)),
        NULL);
    return err == ERR_EXISTS
               ? err_fail(change->why, ERR_INVALID, "there is an invite link with this id already; make another")
               : err;
}

static enum err
store_links(const struct chat_draft *draft, const struct chat_change *change, struct bytes_view info)
{
    const room_state *before = draft->before.state;
    const room_state *after = draft->after.state;
    size_t new_count = 0;
    enum err err = ERR_OK;
    if (info.size > CHAT_LINK_INFO_MAX_BYTES) {
        return err_fail(change->why, ERR_INVALID, "a link's info has at most %d bytes, not %zu",
            CHAT_LINK_INFO_MAX_BYTES, info.size);
    }
    for (size_t i = 0; err == ERR_OK && before != NULL && i < before->n_links; i++) {
        const uint8_t *link_id = before->links[i]->link->link_id.data;
        if (e2e_room_link(&draft->after, link_id) == NULL) {
            err = store_exec(change->tx, "DELETE FROM chat_links WHERE link_id = $1", STORE_ARGS(chat_rows_id(link_id)),
                NULL);
        }
    }
    for (size_t i = 0; err == ERR_OK && i < after->n_links; i++) {
        if (e2e_room_link(&draft->before, after->links[i]->link->link_id.data) == NULL) {
            new_count++;
            err = insert_link(change, after, after->links[i], info);
        }
    }
    if (err == ERR_OK && info.size > 0 && new_count != 1) {
        err = err_fail(change->why, ERR_INVALID, "link_info goes with exactly one new link, not %zu", new_count);
    }
    return err;
}

// --- The room itself -----------------------------------------------------------------------------------------------

// What the room is called in its column, which is unique: a direct room by its id.
static void
column_name(const room_state *state, char out[TEXT_ROOM_NAME_MAX_BYTES + 1])
{
    if (state->kind == FC__E2E__V1__ROOM_KIND__DIRECT) {
        out[0] = '@';
        bytes_to_hex(bytes_view_of(state->room_id.data, CHAT_ID_BYTES), out + 1);
    } else {
        chat_rows_copy_text(out, TEXT_ROOM_NAME_MAX_BYTES + 1, state->name);
    }
}

static enum err
check_name(const struct chat_draft *draft, const struct chat_change *change)
{
    const room_state *before = draft->before.state;
    const room_state *after = draft->after.state;
    bool is_same =
        after->kind == FC__E2E__V1__ROOM_KIND__DIRECT || (before != NULL && strcmp(before->name, after->name) == 0);
    return is_same ? ERR_OK : chat_core_name_is_free(change->tx, after->name, change->why);
}

static enum err
fail_direct_exists(const struct chat_change *change, const room_state *state)
{
    const room_member *other = state->members[0];
    if (memcmp(other->user_id.data, change->user.id, CHAT_ID_BYTES) == 0) {
        other = state->members[1];
    }
    return err_fail(change->why, ERR_EXISTS, "there is a direct room with %s already; fc join @%s", other->user_name,
        other->user_name);
}

static enum err
insert_room(const struct chat_change *change, const room_state *state)
{
    static const uint8_t nobody[CHAT_ID_BYTES];
    char name[TEXT_ROOM_NAME_MAX_BYTES + 1];
    uint8_t key[2 * CHAT_ID_BYTES];
    struct chat_room found;
    bool is_direct = state->kind == FC__E2E__V1__ROOM_KIND__DIRECT;
    enum err err = chat_core_get_room(change->tx, state->room_id.data, nobody, &found);
    if (err != ERR_NOT_FOUND) {
        return err == ERR_OK ? err_fail(change->why, ERR_EXISTS, "there is a room with this id already; draw another")
                             : err;
    }
    column_name(state, name);
    if (is_direct) { // of two, as the rules have seen to
        const uint8_t *one = state->members[0]->user_id.data;
        const uint8_t *other = state->members[1]->user_id.data;
        bool is_sorted = memcmp(one, other, CHAT_ID_BYTES) < 0;
        memcpy(key, is_sorted ? one : other, CHAT_ID_BYTES);
        memcpy(key + CHAT_ID_BYTES, is_sorted ? other : one, CHAT_ID_BYTES);
    }
    err = store_exec(change->tx,
        "INSERT INTO chat_rooms (room_id, name, head_seq, last_sent_at_ms, member_count, created_at_ms, kind, is_plain,"
        " direct_key) VALUES ($1, $2, 0, 0, 0, $3, $4, $5, $6)",
        STORE_ARGS(chat_rows_id(state->room_id.data), store_text(name), store_int(clock_unix_ms()),
            store_int(state->kind), store_int(state->is_plain ? 1 : 0),
            is_direct ? store_blob(key, sizeof(key)) : store_null()),
        NULL);
    return err == ERR_EXISTS && is_direct ? fail_direct_exists(change, state) : err;
}

static enum err
update_room(struct store_tx *tx, const struct e2e_room *room)
{
    const room_state *state = room->state;
    char name[TEXT_ROOM_NAME_MAX_BYTES + 1];
    struct bytes packed = {0};
    int64_t member_count = 0;
    for (size_t i = 0; i < state->n_members; i++) {
        member_count += state->members[i]->is_invited ? 0 : 1;
    }
    column_name(state, name);
    enum err err = e2e_room_pack(room, &packed);
    if (err == ERR_OK) {
        err = store_exec(tx,
            "UPDATE chat_rooms SET name = $1, topic = $2, history = $3, is_archived = $4, member_count = $5,"
            " state = $6, log_seq = $7, log_hash = $8, epoch = $9, is_rekey_needed = $10 WHERE room_id = $11",
            STORE_ARGS(store_text(name), store_text(state->topic), store_int(state->history),
                store_int(state->is_archived ? 1 : 0), store_int(member_count), store_blob(packed.data, packed.size),
                store_int((int64_t)state->seq),
                state->head_hash.len == 0 ? store_null() : store_blob(state->head_hash.data, state->head_hash.len),
                store_int((int64_t)state->epoch), store_int(state->is_rekey_needed ? 1 : 0),
                chat_rows_id(state->room_id.data)),
            NULL);
    }
    bytes_free(&packed);
    return err;
}

enum err
chat_draft_store(const struct chat_draft *draft, const struct chat_change *change, struct bytes_view link_info,
    struct chat_outcome *out)
{
    const room_state *after = draft->after.state;
    enum err err = check_name(draft, change);
    if (err == ERR_OK && draft->before.state == NULL) {
        err = insert_room(change, after);
    }
    if (err == ERR_OK) {
        err = store_members(draft, change, out);
    }
    if (err == ERR_OK) {
        err = store_links(draft, change, link_info);
    }
    if (err == ERR_OK) {
        err = update_room(change->tx, &draft->after);
    }
    if (err == ERR_OK) {
        out->log_seq = draft->appended_seq;
        err = chat_core_get_room(change->tx, after->room_id.data, change->user.id, &out->room);
    }
    return err;
}

// --- Devices that end ----------------------------------------------------------------------------------------------

// The ids of the user's encrypted rooms that know of no rekey yet, one after the other.
static enum err
list_rooms_to_rekey(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], struct bytes *out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "SELECT r.room_id FROM chat_members m JOIN chat_rooms r ON r.room_id = m.room_id"
        " WHERE m.user_id = $1 AND r.is_plain = 0 AND r.is_rekey_needed = 0",
        STORE_ARGS(chat_rows_id(user_id)), &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK && store_rows_blob(rows, 0).size != CHAT_ID_BYTES) {
            err = ERR_CORRUPT;
        }
        if (err == ERR_OK) {
            err = bytes_append(out, store_rows_blob(rows, 0));
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
chat_log_ask_rekey(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES])
{
    struct bytes room_ids = {0};
    enum err err = list_rooms_to_rekey(tx, user_id, &room_ids);
    for (size_t at = 0; err == ERR_OK && at < room_ids.size; at += CHAT_ID_BYTES) {
        struct e2e_room room = {0};
        err = chat_log_read_state(tx, room_ids.data + at, &room);
        if (err == ERR_OK && room.state != NULL) {
            room.state->is_rekey_needed = true;
            err = update_room(tx, &room);
        }
        e2e_room_deinit(&room);
    }
    bytes_free(&room_ids);
    return err;
}
