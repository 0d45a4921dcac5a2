// Out of the local store, to who wants to read.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/digest.h"
#include "client/fc_chat_priv.h"

#include "fc/chat/v1/chat.stub.h"

enum {
    REACTIONS_MAX = 256, // shown of one message
    REACTIONS_ARENA_BYTES = 64 * 1024,
};

// --- Out of the store -----------------------------------------------------------------------------------------------

static const char *
explain_unread(enum fc_store_unread unread)
{
    switch (unread) {
    case FC_STORE_READABLE:
        return NULL;
    case FC_STORE_NO_KEY:
        return "no key: it was sent before this device, or its user, was given the room's key";
    case FC_STORE_NO_ENTRY:
        return "no key yet: it comes with the room's log";
    case FC_STORE_INVALID:
        return "not by whom it says, or changed on the way";
    case FC_STORE_REPEATED:
        return "a copy of an earlier message, made by the server";
    }
    return NULL;
}

// reactions are those to one message, with their texts in an arena.
struct reactions {
    struct arena arena;
    struct fc_reaction *items; // room for REACTIONS_MAX
    size_t count;
};

static bool
add_reaction(void *context, const struct fc_store_reaction *reaction)
{
    struct reactions *reactions = context;
    if (reactions->items == NULL) {
        reactions->items = arena_alloc(&reactions->arena, REACTIONS_MAX * sizeof(*reactions->items));
    }
    char *emoji = arena_copy_text(&reactions->arena, reaction->text);
    char *user_name = arena_copy_text(&reactions->arena, reaction->sender_name);
    if (reactions->items == NULL || emoji == NULL || user_name == NULL) {
        return false;
    }
    reactions->items[reactions->count++] = (struct fc_reaction){.emoji = emoji, .user_name = user_name};
    return reactions->count < REACTIONS_MAX;
}

// split_mentions makes an array of the names, which borrows from text, a copy of what the store has. NULL: no memory.
static const char **
split_mentions(char *text, size_t *count_out)
{
    size_t count = 0;
    for (const char *at = text; *at != '\0'; at++) {
        count += *at == '\n';
    }
    const char **names = calloc(count + 1, sizeof(*names));
    if (names == NULL) {
        return NULL;
    }
    char *at = text;
    for (size_t i = 0; i < count; i++) {
        char *end = strchr(at, '\n');
        *end = '\0';
        names[i] = at;
        at = end + 1;
    }
    *count_out = count;
    return names;
}

bool
fc_chat_tell(struct fc_chat *chat, const struct fc_chat_place *place, const struct fc_store_message *kept,
    fc_message_fn *fn, void *context)
{
    bool goes_on = true;
    struct reactions reactions = {0};
    char *mentions = strdup(kept->mentions == NULL ? "" : kept->mentions);
    size_t mention_count = 0;
    const char **names = mentions == NULL ? NULL : split_mentions(mentions, &mention_count);
    Fc__Chat__V1__FileAnnouncement *file = NULL;
    if (kept->file.size > 0) {
        file = fc__chat__v1__file_announcement__unpack(NULL, kept->file.size, kept->file.data);
    }
    struct fc_message message = {
        .room = place->row.name,
        .room_id = place->row.room_id,
        .seq = kept->seq,
        .id = kept->message_id,
        .sender = kept->sender_name,
        .text = kept->text == NULL ? "" : kept->text,
        .sent_unix_ms = kept->sent_ms,
        .type = (enum fc_message_type)kept->type,
        .target_seq = kept->target_seq,
        .reply_to_seq = kept->reply_to_seq,
        .topic = kept->topic == NULL ? "" : kept->topic,
        .mentions = names,
        .mention_count = mention_count,
        .edited_unix_ms = kept->edited_ms,
        .is_deleted = kept->is_deleted,
        .is_encrypted = !place->row.is_plain,
        .unreadable = explain_unread(kept->unread),
    };
    if (file != NULL && file->file_id.len == E2E_ID_BYTES) {
        static const uint8_t no_md5[DIGEST_MD5_BYTES];
        message.has_file = true;
        message.file_id = file->file_id.data;
        message.file_name = file->name;
        message.file_mime_type = file->mime_type;
        message.file_width_px = file->width_px;
        message.file_height_px = file->height_px;
        message.file_preview = bytes_view_of(file->preview.data, file->preview.len);
        message.file_size_bytes = file->key != NULL ? file->key->plain_size_bytes : file->size_bytes;
        message.file_md5 = file->md5.len == DIGEST_MD5_BYTES ? file->md5.data : no_md5;
    }
    arena_init(&reactions.arena, REACTIONS_ARENA_BYTES);
    if (names != NULL) {
        if (fc_store_messages_reactions(chat->store, place->row.room_id, kept->seq, add_reaction, &reactions, NULL) ==
            ERR_OK) {
            message.reactions = reactions.items;
            message.reaction_count = reactions.count;
        }
        goes_on = fn(context, &message);
    }
    if (file != NULL) {
        fc__chat__v1__file_announcement__free_unpacked(file, NULL);
    }
    free(names);
    free(mentions);
    arena_deinit(&reactions.arena);
    return goes_on;
}

struct telling {
    struct fc_chat *chat;
    fc_message_fn *fn;
    void *context;
    enum err err;
};

static bool
tell_kept(void *context, const struct fc_store_message *kept)
{
    struct telling *telling = context;
    struct fc_chat_place *place = NULL;
    // It is in memory already, but for what a search finds elsewhere.
    HASH_FIND(hh, telling->chat->places, kept->room_id, E2E_ID_BYTES, place);
    if (place == NULL) {
        telling->err = fc_chat_get_place(telling->chat, kept->room_id, &place, NULL);
    }
    return telling->err == ERR_OK && fc_chat_tell(telling->chat, place, kept, telling->fn, telling->context);
}

static struct fc_store_selection
select_range(const struct fc_chat_place *place, const struct fc_chat_range *range)
{
    struct fc_store_selection selection = {
        .room_id = place->row.room_id,
        .select = FC_STORE_NEWEST,
        .topic = range->topic,
        .limit = range->limit,
        .is_everything = range->with_events,
    };
    if (range->has_after) {
        selection.select = FC_STORE_AFTER;
        selection.seq = range->after_seq;
    } else if (range->before_seq > 0) {
        selection.select = FC_STORE_BEFORE;
        selection.seq = range->before_seq;
    } else if (range->around_seq > 0) {
        selection.select = FC_STORE_AROUND;
        selection.seq = range->around_seq;
    } else if (range->since_unix_ms > 0) {
        selection.select = FC_STORE_SINCE;
        selection.since_ms = range->since_unix_ms;
    }
    return selection;
}

enum err
fc_chat_history(struct fc_chat *chat, const char *room, const struct fc_chat_range *range, fc_message_fn *fn,
    void *context, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    struct telling telling = {.chat = chat, .fn = fn, .context = context};
    fc_chat_lock(chat);
    enum err err = fc_chat_find_kept(chat, room, &place, why);
    if (err == ERR_OK) {
        struct fc_store_selection selection = select_range(place, range);
        err = fc_store_messages_each(chat->store, &selection, tell_kept, &telling, why);
        err = err == ERR_OK ? telling.err : err;
    }
    fc_chat_unlock(chat);
    return err;
}

enum err
fc_chat_search(struct fc_chat *chat, const char *room, const char *query, size_t limit, fc_message_fn *fn,
    void *context, struct err_detail *why)
{
    struct telling telling = {.chat = chat, .fn = fn, .context = context};
    struct bytes full = {0};
    enum err err = bytes_append(&full, bytes_view_of_text(query));
    if (err == ERR_OK && room != NULL) {
        err = bytes_append(&full, bytes_view_of_text(" in:"));
        if (err == ERR_OK) {
            err = bytes_append(&full, bytes_view_of_text(room));
        }
    }
    if (err == ERR_OK) {
        err = bytes_append(&full, bytes_view_of("", 1));
    }
    fc_chat_lock(chat);
    if (err == ERR_OK) {
        err = fc_store_messages_search(chat->store, (const char *)full.data, limit, 0, tell_kept, &telling, NULL, why);
        err = err == ERR_OK ? telling.err : err;
    }
    fc_chat_unlock(chat);
    bytes_free(&full);
    return err;
}

// --- Read markers ---------------------------------------------------------------------------------------------------

static enum err
mark_read(struct fc_chat *chat, struct fc_chat_place *place, uint64_t seq, struct err_detail *why)
{
    struct rpc_unary call;
    Fc__Chat__V1__MarkReadRequest request = FC__CHAT__V1__MARK_READ_REQUEST__INIT;
    request.room = place->id_text;
    request.seq = seq == 0 ? place->row.synced_seq : seq;
    if (request.seq <= place->row.read_seq) {
        return ERR_OK;
    }
    enum err err = fc_store_room_set_read(chat->store, place->row.room_id, request.seq, why);
    if (err != ERR_OK) {
        return err;
    }
    place->row.read_seq = request.seq;
    fc_chat_start_call(chat, &call);
    err = fc_session_explain(&call, fc_chat_v1_chat_mark_read(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_chat_mark_read(struct fc_chat *chat, const char *room, uint64_t seq, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK) {
        err = mark_read(chat, place, seq, why);
    }
    fc_chat_unlock(chat);
    return err;
}

enum err
fc_chat_typing(struct fc_chat *chat, const char *room, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    struct rpc_unary call;
    Fc__Chat__V1__TypingRequest request = FC__CHAT__V1__TYPING_REQUEST__INIT;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK) {
        request.room = place->id_text;
        fc_chat_start_call(chat, &call);
        err = fc_session_explain(&call, fc_chat_v1_chat_typing(&call, &request, NULL), why);
        rpc_unary_deinit(&call);
    }
    fc_chat_unlock(chat);
    return err;
}
