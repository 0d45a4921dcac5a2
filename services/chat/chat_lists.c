// The methods that read rooms, their people and logs. They run on the server's worker threads.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "services/chat/chat_blocks.h"
#include "services/chat/chat_log.h"
#include "services/chat/chat_operation.h"
#include "services/chat/chat_reads.h"
#include "services/chat/chat_rows.h"
#include "services/chat/chat_wire.h"

enum {
    // 10,000 members or blocked users with their names, or a page of a log with its largest entry.
    READ_MAX_BYTES = 8 * 1024 * 1024,
};

// fill_unread counts what waits for a member of a plain room.
static enum err
fill_unread(struct store_tx *tx, const struct chat_user *user, struct chat_room *room)
{
    struct chat_unread unread = {0};
    enum err err = ERR_OK;
    if (room->is_member && room->is_plain && room->read_seq < room->head_seq) {
        err = chat_messages_unread(tx, room->id, user, room->read_seq, &unread);
    }
    room->unread_count = unread.unread_count;
    room->mention_count = unread.mention_count;
    return err;
}

static bool
is_usable(const Fc__E2e__V1__RoomLink *link)
{
    return !e2e_room_is_link_used_up(link) && !e2e_room_is_link_expired(link, clock_unix_ms());
}

// --- ListRooms -----------------------------------------------------------------------------------------------------

struct rooms_read {
    struct chat_user user;
    struct chat_list_query query;
    struct chat_room *rooms;
    size_t count;
    bool has_more;
};

static enum err
read_rooms(struct store_tx *tx, void *context)
{
    struct rooms_read *read = context;
    enum err err = chat_core_list_rooms(tx, &read->query, read->rooms, &read->count, &read->has_more);
    for (size_t i = 0; err == ERR_OK && i < read->count; i++) {
        err = fill_unread(tx, &read->user, &read->rooms[i]);
    }
    return err;
}

void
chat_lists_list_rooms(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__ListRoomsRequest *request,
    Fc__Chat__V1__ListRoomsResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    if (request->limit > CHAT_ROOMS_PAGE_MAX) {
        rpc_call_fail(call, ERR_INVALID, "a limit of %u rooms is too large, the largest is %d; use after_name for more",
            (unsigned)request->limit, CHAT_ROOMS_PAGE_MAX);
        return;
    }
    struct rooms_read read = {.user = chat_caller(call)};
    read.query = (struct chat_list_query){
        .user_id = read.user.id,
        .after_name = request->after_name,
        .max_rooms = request->limit == 0 ? CHAT_ROOMS_PAGE_MAX : request->limit,
        .is_mine_only = request->is_mine_only,
    };
    Fc__Chat__V1__ListRoomsResponse response = FC__CHAT__V1__LIST_ROOMS_RESPONSE__INIT;
    enum err err = ERR_NO_MEMORY;
    read.rooms = calloc(read.query.max_rooms, sizeof(*read.rooms));
    if (read.rooms != NULL) {
        err = store_read(chat->store, read_rooms, &read);
    }
    if (err == ERR_OK) {
        err = chat_wire_rooms(read.rooms, read.count, &response.rooms);
    }
    if (err == ERR_OK) {
        response.n_rooms = read.count;
        response.has_more = read.has_more;
        if (read.count > 0) {
            response.next_after_name = read.rooms[read.count - 1].sort_name;
        }
        reply(&response, call);
    } else {
        chat_fail(call, err, NULL);
    }
    free(response.rooms);
    free(read.rooms);
}

// --- GetRoom -------------------------------------------------------------------------------------------------------

struct room_read {
    struct chat_user user;
    const char *name;
    struct chat_room room;
    struct arena arena;
    Fc__Chat__V1__Member **members;
    size_t member_count;
    struct e2e_room state;
    struct err_detail why;
};

static enum err
read_member(struct store_rows *rows, struct arena *arena, Fc__Chat__V1__Member **out)
{
    Fc__Chat__V1__Member *member = arena_alloc(arena, sizeof(*member));
    uint8_t *user_id = arena_alloc(arena, CHAT_ID_BYTES);
    char *name = arena_copy_text(arena, store_rows_text(rows, 1));
    if (member == NULL || user_id == NULL || name == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__chat__v1__member__init(member);
    member->user_id = (ProtobufCBinaryData){.len = CHAT_ID_BYTES, .data = user_id};
    member->user_name = name;
    member->role = (Fc__E2e__V1__Role)store_rows_int(rows, 2);
    member->is_invited = store_rows_int(rows, 3) != 0;
    *out = member;
    return chat_rows_read_fixed(rows, 0, user_id, CHAT_ID_BYTES);
}

static enum err
read_members(struct store_tx *tx, struct room_read *read)
{
    struct store_rows *rows = NULL;
    read->members = arena_alloc(&read->arena, E2E_ROOM_MEMBERS_MAX * sizeof(Fc__Chat__V1__Member *));
    if (read->members == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = store_query(tx,
        "SELECT user_id, user_name, role, is_invited FROM chat_members WHERE room_id = $1 ORDER BY user_name",
        STORE_ARGS(chat_rows_id(read->room.id)), &rows);
    while (err == ERR_OK && read->member_count < E2E_ROOM_MEMBERS_MAX) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = read_member(rows, &read->arena, &read->members[read->member_count]);
            read->member_count++;
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
read_room(struct store_tx *tx, void *context)
{
    struct room_read *read = context;
    enum err err = chat_core_find_room(tx, read->name, read->user.id, &read->room, &read->why);
    if (err == ERR_OK) {
        err = fill_unread(tx, &read->user, &read->room);
    }
    if (err == ERR_OK && (read->room.is_member || read->room.is_invited)) {
        err = read_members(tx, read);
    }
    if (err == ERR_OK && read->room.is_member && read->room.role >= FC__E2E__V1__ROLE__ADMIN) {
        err = chat_log_read_state(tx, read->room.id, &read->state);
    }
    return err;
}

void
chat_lists_get_room(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__GetRoomRequest *request,
    Fc__Chat__V1__GetRoomResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    struct room_read read = {.user = chat_caller(call), .name = request->room};
    Fc__Chat__V1__GetRoomResponse response = FC__CHAT__V1__GET_ROOM_RESPONSE__INIT;
    Fc__Chat__V1__Room room;
    Fc__E2e__V1__RoomLink *links[E2E_ROOM_LINKS_MAX];
    arena_init(&read.arena, READ_MAX_BYTES);
    enum err err = store_read(chat->store, read_room, &read);
    if (err == ERR_OK) {
        chat_wire_room(&read.room, &room);
        response.room = &room;
        response.n_members = read.member_count;
        response.members = read.members;
        response.links = links;
        for (size_t i = 0; read.state.state != NULL && i < read.state.state->n_links; i++) {
            if (is_usable(read.state.state->links[i])) {
                links[response.n_links++] = read.state.state->links[i];
            }
        }
        reply(&response, call);
    } else {
        chat_fail(call, err, &read.why);
    }
    e2e_room_deinit(&read.state);
    arena_deinit(&read.arena);
}

// --- GetLog and GetLink --------------------------------------------------------------------------------------------

// find_link_room finds the room that a link leads into, as long as it does.
static enum err
find_link_room(struct store_tx *tx, struct bytes_view link_id, const uint8_t user_id[CHAT_ID_BYTES],
    struct chat_room *out, struct bytes *info_out, struct err_detail *why)
{
    uint8_t room_id[CHAT_ID_BYTES];
    struct e2e_room state = {0};
    enum err err = chat_log_find_link(tx, link_id, room_id, info_out, why);
    if (err == ERR_OK) {
        err = chat_log_read_state(tx, room_id, &state);
    }
    if (err == ERR_OK) {
        const Fc__E2e__V1__RoomLink *link = e2e_room_link(&state, link_id.data);
        err = link == NULL ? ERR_CORRUPT : ERR_OK;
        if (link != NULL && !is_usable(link)) {
            err = err_fail(why, ERR_DENIED, "this invite link has expired or is used up; ask for a new one");
        }
    }
    e2e_room_deinit(&state);
    return err == ERR_OK ? chat_core_get_room(tx, room_id, user_id, out) : err;
}

struct log_read {
    const uint8_t *user_id;
    const Fc__Chat__V1__GetLogRequest *request;
    struct chat_room room;
    struct arena arena;
    Fc__E2e__V1__Signed **entries;
    size_t count;
    struct err_detail why;
};

static enum err
find_log(struct store_tx *tx, struct log_read *read)
{
    const Fc__Chat__V1__GetLogRequest *request = read->request;
    if (request->link_id.len != 0) {
        return find_link_room(tx, bytes_view_of(request->link_id.data, request->link_id.len), read->user_id,
            &read->room, NULL, &read->why);
    }
    enum err err = chat_core_find_room(tx, request->room, read->user_id, &read->room, &read->why);
    if (err == ERR_OK && !read->room.is_member && !read->room.is_invited) {
        err = chat_core_fail_not_member(&read->room, ERR_DENIED, &read->why);
    }
    return err;
}

static enum err
read_log(struct store_tx *tx, void *context)
{
    struct log_read *read = context;
    enum err err = find_log(tx, read);
    return err == ERR_OK
               ? chat_log_read(tx, read->room.id, read->request->after_seq, &read->arena, &read->entries, &read->count)
               : err;
}

void
chat_lists_get_log(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__GetLogRequest *request,
    Fc__Chat__V1__GetLogResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    struct log_read read = {.user_id = rpc_call_identity(call)->subject_id, .request = request};
    Fc__Chat__V1__GetLogResponse response = FC__CHAT__V1__GET_LOG_RESPONSE__INIT;
    arena_init(&read.arena, READ_MAX_BYTES);
    enum err err = store_read(chat->store, read_log, &read);
    if (err == ERR_OK) {
        response.room_id = (ProtobufCBinaryData){.len = CHAT_ID_BYTES, .data = read.room.id};
        response.n_entries = read.count;
        response.entries = read.entries;
        response.head_seq = read.room.log_seq;
        reply(&response, call);
    } else {
        chat_fail(call, err, &read.why);
    }
    arena_deinit(&read.arena);
}

struct link_read {
    const uint8_t *user_id;
    struct bytes_view link_id;
    struct chat_room room;
    struct bytes info;
    struct err_detail why;
};

static enum err
read_link(struct store_tx *tx, void *context)
{
    struct link_read *read = context;
    bytes_clear(&read->info);
    return find_link_room(tx, read->link_id, read->user_id, &read->room, &read->info, &read->why);
}

void
chat_lists_get_link(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__GetLinkRequest *request,
    Fc__Chat__V1__GetLinkResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    struct link_read read = {.user_id = rpc_call_identity(call)->subject_id,
        .link_id = bytes_view_of(request->link_id.data, request->link_id.len)};
    Fc__Chat__V1__GetLinkResponse response = FC__CHAT__V1__GET_LINK_RESPONSE__INIT;
    enum err err = store_read(chat->store, read_link, &read);
    if (err == ERR_OK) {
        response.room_id = (ProtobufCBinaryData){.len = CHAT_ID_BYTES, .data = read.room.id};
        response.room_name = read.room.name;
        response.is_plain = read.room.is_plain;
        response.member_count = read.room.member_count;
        response.link_info = (ProtobufCBinaryData){.len = read.info.size, .data = read.info.data};
        reply(&response, call);
    } else {
        chat_fail(call, err, &read.why);
    }
    bytes_free(&read.info);
}

// --- ListBlocks ----------------------------------------------------------------------------------------------------

struct blocks_read {
    const uint8_t *user_id;
    struct arena arena;
    char **names;
    size_t count;
};

static enum err
read_blocks(struct store_tx *tx, void *context)
{
    struct blocks_read *read = context;
    return chat_blocks_list(tx, read->user_id, &read->arena, &read->names, &read->count);
}

void
chat_lists_list_blocks(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__ListBlocksRequest *request,
    Fc__Chat__V1__ListBlocksResponse_Closure reply, void *closure_data)
{
    (void)request;
    struct rpc_call *call = closure_data;
    struct chat_service *chat = (struct chat_service *)service;
    struct blocks_read read = {.user_id = rpc_call_identity(call)->subject_id};
    Fc__Chat__V1__ListBlocksResponse response = FC__CHAT__V1__LIST_BLOCKS_RESPONSE__INIT;
    arena_init(&read.arena, READ_MAX_BYTES);
    enum err err = store_read(chat->store, read_blocks, &read);
    if (err == ERR_OK) {
        response.n_user_names = read.count;
        response.user_names = read.names;
        reply(&response, call);
    } else {
        chat_fail(call, err, NULL);
    }
    arena_deinit(&read.arena);
}
