// Calls of fc.chat.v1.Chat. What a server answers is checked before it is believed.
#include "client/fc_room.h"

#include <string.h>

#include "base/text.h"
#include "client/fc_lend_priv.h"
#include "client/fc_room_priv.h"

#include "fc/chat/v1/chat.stub.h"

enum {
    ROOMS_PAGE = 1000, // the most that one ListRooms call returns
    // Short calls, so this is how long a server that went away in the midst of one is waited for: a restart fits.
    CALL_TIMEOUT_MS = 10 * 1000,
    AFTER_NAME_BYTES = 80, // of ListRoomsRequest.after_name, with its NUL
};

static void
start_call(struct fc_session *session, struct rpc_unary *call)
{
    fc_chat_v1_chat_init(call, fc_session_channel(session));
    call->is_idempotent = true; // all its methods execute once for each request id
    call->timeout_ms = CALL_TIMEOUT_MS;
}

enum err
fc_room_from_wire(const Fc__Chat__V1__Room *wire, struct fc_room *out, struct err_detail *why)
{
    if (wire == NULL || wire->id.len != sizeof(out->id) || wire->name[0] == '\0' ||
        strlen(wire->name) >= sizeof(out->name)) {
        return err_fail(why, ERR_PROTOCOL,
            "the server described a room in a way that this program does not understand");
    }
    memset(out, 0, sizeof(*out));
    memcpy(out->id, wire->id.data, sizeof(out->id));
    memcpy(out->name, wire->name, strlen(wire->name));
    out->head_seq = wire->head_seq;
    out->is_member = wire->is_member;
    out->member_count = wire->member_count;
    out->is_plain = wire->is_plain;
    out->created_unix_ms = wire->created_at_ms;
    out->is_public = wire->kind == FC__E2E__V1__ROOM_KIND__PUBLIC;
    out->is_direct = wire->kind == FC__E2E__V1__ROOM_KIND__DIRECT;
    out->is_invited = wire->is_invited;
    out->is_archived = wire->is_archived;
    if (strlen(wire->topic) < sizeof(out->topic)) {
        memcpy(out->topic, wire->topic, strlen(wire->topic));
    }
    out->role = (int)wire->role;
    out->read_seq = wire->read_seq;
    out->log_seq = wire->log_seq;
    return ERR_OK;
}

enum err
fc_room_message_from_wire(const Fc__Chat__V1__Message *wire, const char *name, struct fc_message *out,
    struct err_detail *why)
{
    const Fc__Chat__V1__FileAnnouncement *file = wire->file;
    bool is_sound = wire->room_id.len == FC_ROOM_ID_BYTES && wire->id.len == 16 && wire->seq > 0;
    if (file != NULL) {
        is_sound = is_sound && file->file_id.len == 16 && file->md5.len == 16;
    }
    if (!is_sound) {
        return err_fail(why, ERR_PROTOCOL, "the server sent a message that this program does not understand");
    }
    *out = (struct fc_message){
        .room = name,
        .room_id = wire->room_id.data,
        .seq = wire->seq,
        .id = wire->id.data,
        .sender = wire->sender,
        .text = wire->text,
        .sent_unix_ms = wire->sent_at_ms,
        .type = (enum fc_message_type)wire->type,
        .target_seq = wire->target_seq,
        .reply_to_seq = wire->reply_to_seq,
        .topic = wire->topic,
        .mentions = (const char *const *)wire->mentions,
        .mention_count = wire->n_mentions,
        .edited_unix_ms = wire->edited_at_ms,
        .is_deleted = wire->is_deleted,
        .is_encrypted = wire->sealed.len > 0 || wire->sealed_hash.len > 0,
        .wire = wire,
    };
    if (file != NULL) {
        out->has_file = true;
        out->file_id = file->file_id.data;
        out->file_name = file->name;
        out->file_size_bytes = file->size_bytes;
        out->file_md5 = file->md5.data;
        out->file_mime_type = file->mime_type;
        out->file_width_px = file->width_px;
        out->file_height_px = file->height_px;
        out->file_preview = bytes_view_of(file->preview.data, file->preview.len);
    }
    return ERR_OK;
}

enum err
fc_room_create(struct fc_session *session, const char *name, bool is_plain, struct fc_room *out, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__CreateRoomResponse *response = NULL;
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    request.name = fc_lend_text(name);
    request.is_plain = is_plain;
    start_call(session, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_create_room(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = fc_room_from_wire(response->room, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

// each_in_page calls fn for the rooms of one reply. after_name_out becomes where the next one begins, and *goes_on_out
// says whether there is more to ask for.
static enum err
each_in_page(const Fc__Chat__V1__ListRoomsResponse *response, bool (*fn)(void *context, const struct fc_room *room),
    void *context, char after_name_out[AFTER_NAME_BYTES], bool *goes_on_out, struct err_detail *why)
{
    *goes_on_out = response->has_more && response->n_rooms > 0;
    for (size_t i = 0; i < response->n_rooms; i++) {
        struct fc_room room;
        enum err err = fc_room_from_wire(response->rooms[i], &room, why);
        if (err != ERR_OK) {
            return err;
        }
        if (!fn(context, &room)) {
            *goes_on_out = false;
            return ERR_OK;
        }
    }
    if (*goes_on_out) {
        // Names that do not ascend would make the paging go round for ever.
        size_t size = strlen(response->next_after_name);
        if (size >= AFTER_NAME_BYTES || strcmp(response->next_after_name, after_name_out) <= 0) {
            return err_fail(why, ERR_PROTOCOL, "the server lists its rooms out of order");
        }
        memcpy(after_name_out, response->next_after_name, size + 1);
    }
    return ERR_OK;
}

enum err
fc_room_each(struct fc_session *session, bool (*fn)(void *context, const struct fc_room *room), void *context,
    struct err_detail *why)
{
    char after_name[AFTER_NAME_BYTES] = "";
    bool goes_on = true;
    enum err err = ERR_OK;
    while (err == ERR_OK && goes_on) {
        struct rpc_unary call;
        const Fc__Chat__V1__ListRoomsResponse *page = NULL;
        Fc__Chat__V1__ListRoomsRequest request = FC__CHAT__V1__LIST_ROOMS_REQUEST__INIT;
        request.after_name = after_name;
        request.limit = ROOMS_PAGE;
        start_call(session, &call);
        err = fc_session_explain(&call, fc_chat_v1_chat_list_rooms(&call, &request, &page), why);
        if (err == ERR_OK) {
            err = each_in_page(page, fn, context, after_name, &goes_on, why);
        }
        rpc_unary_deinit(&call);
    }
    return err;
}

enum err
fc_room_get(struct fc_session *session, const char *room, struct fc_room *out, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__GetRoomResponse *response = NULL;
    Fc__Chat__V1__GetRoomRequest request = FC__CHAT__V1__GET_ROOM_REQUEST__INIT;
    request.room = fc_lend_text(room);
    start_call(session, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_get_room(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = fc_room_from_wire(response->room, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_room_join(struct fc_session *session, const char *room, struct fc_room *out, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__JoinResponse *response = NULL;
    Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
    request.room = fc_lend_text(room);
    start_call(session, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_join(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = fc_room_from_wire(response->room, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_room_leave(struct fc_session *session, const char *room, struct err_detail *why)
{
    struct rpc_unary call;
    Fc__Chat__V1__LeaveRequest request = FC__CHAT__V1__LEAVE_REQUEST__INIT;
    request.room = fc_lend_text(room);
    start_call(session, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_leave(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

// send_message makes the call, which is sent again under the same request id while connections break.
static enum err
send_message(struct fc_session *session, const Fc__Chat__V1__SendRequest *request, struct fc_sent *out,
    struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__SendResponse *response = NULL;
    start_call(session, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_send(&call, request, &response), why);
    if ((err == ERR_UNAVAILABLE || err == ERR_TIMEOUT) && call.was_sent) {
        err = err_fail(why, err, "%s; look with fc history before you send the message again",
            call.status.detail.message);
    } else if (err == ERR_OK) {
        if (response->room_id.len != sizeof(out->room_id) || response->seq == 0) {
            err = err_fail(why, ERR_PROTOCOL, "the server answered the message in a way that makes no sense");
        } else {
            memcpy(out->room_id, response->room_id.data, sizeof(out->room_id));
            out->seq = response->seq;
            out->sent_unix_ms = response->sent_at_ms;
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_room_send(struct fc_session *session, const char *room, struct bytes_view text, const uint8_t *file_id,
    struct fc_sent *out, struct err_detail *why)
{
    Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
    Fc__Chat__V1__FileAnnouncement file = FC__CHAT__V1__FILE_ANNOUNCEMENT__INIT;
    struct bytes terminated = {0};
    if (!text_is_utf8(text)) {
        return err_fail(why, ERR_INVALID,
            "the message is not UTF-8 text; convert it (iconv -t UTF-8), or send it as a file with fc upload");
    }
    enum err err = bytes_append(&terminated, text);
    if (err == ERR_OK) {
        err = bytes_append(&terminated, bytes_view_of("", 1));
    }
    if (err != ERR_OK) {
        goto out;
    }
    request.room = fc_lend_text(room);
    request.text = (char *)terminated.data;
    if (file_id != NULL) {
        file.file_id = fc_lend(file_id, 16);
        request.file = &file;
    }
    err = send_message(session, &request, out, why);
out:
    bytes_free(&terminated);
    return err;
}

// history_walk is a walk through a room's messages over several pages.
struct history_walk {
    const char *room;
    fc_message_fn *fn;
    void *context;
    uint64_t last_seq;  // delivered or skipped so far
    uint64_t remaining; // still wanted
    uint64_t head_seq;  // as the newest reply said
    bool is_stopped;    // by fn
};

// walk_page delivers the messages of a reply, which are numbered without gaps.
static enum err
walk_page(const Fc__Chat__V1__HistoryResponse *response, struct history_walk *walk, struct err_detail *why)
{
    walk->head_seq = response->head_seq;
    for (size_t i = 0; i < response->n_messages && walk->remaining > 0; i++) {
        struct fc_message message = {0};
        enum err err = fc_room_message_from_wire(response->messages[i], walk->room, &message, why);
        if (err != ERR_OK) {
            return err;
        }
        if (message.seq != walk->last_seq + 1) {
            return err_fail(why, ERR_PROTOCOL, "the server sent message %llu of \"%s\" after %llu",
                (unsigned long long)message.seq, walk->room, (unsigned long long)walk->last_seq);
        }
        walk->last_seq = message.seq;
        walk->remaining--;
        if (!walk->fn(walk->context, &message)) {
            walk->is_stopped = true;
            break;
        }
    }
    return ERR_OK;
}

static uint32_t
page_limit(uint64_t wanted)
{
    return wanted < FC_ROOM_HISTORY_PAGE ? (uint32_t)wanted : FC_ROOM_HISTORY_PAGE;
}

// walk_newest asks for the last walk->remaining messages. When one reply cannot hold them it delivers none and sets
// the walk to where they begin.
static enum err
walk_newest(struct fc_session *session, struct history_walk *walk, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__HistoryResponse *response = NULL;
    Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
    request.room = fc_lend_text(walk->room);
    request.limit = page_limit(walk->remaining);
    request.newest = true;
    start_call(session, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_history(&call, &request, &response), why);
    if (err == ERR_OK) {
        uint64_t wanted = walk->remaining < response->head_seq ? walk->remaining : response->head_seq;
        walk->head_seq = response->head_seq;
        walk->last_seq = response->head_seq - wanted;
        walk->remaining = wanted;
        if (response->n_messages == wanted) {
            err = walk_page(response, walk, why);
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

static enum err
walk_forward(struct fc_session *session, struct history_walk *walk, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__HistoryResponse *response = NULL;
    Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
    request.room = fc_lend_text(walk->room);
    request.limit = page_limit(walk->remaining);
    request.after_seq = walk->last_seq;
    start_call(session, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_history(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = walk_page(response, walk, why);
        if (err == ERR_OK && response->n_messages == 0 && walk->last_seq < walk->head_seq) {
            err = err_fail(why, ERR_PROTOCOL, "the server keeps back the messages after %llu of \"%s\"",
                (unsigned long long)walk->last_seq, walk->room);
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_room_history(struct fc_session *session, const char *room, uint64_t after_seq, uint64_t limit, bool newest,
    fc_message_fn *fn, void *context, struct err_detail *why)
{
    struct history_walk walk = {
        .room = room,
        .fn = fn,
        .context = context,
        .last_seq = newest ? 0 : after_seq,
        .remaining = limit == 0 ? UINT64_MAX : limit,
    };
    enum err err = ERR_OK;
    if (newest && limit != 0) {
        err = walk_newest(session, &walk, why);
    } else {
        err = walk_forward(session, &walk, why);
        // What is sent while the walk goes on is not waited for.
        if (err == ERR_OK && walk.last_seq < walk.head_seq && walk.remaining > walk.head_seq - walk.last_seq) {
            walk.remaining = walk.head_seq - walk.last_seq;
        }
    }
    while (err == ERR_OK && !walk.is_stopped && walk.remaining > 0 && walk.last_seq < walk.head_seq) {
        err = walk_forward(session, &walk, why);
    }
    return err;
}
