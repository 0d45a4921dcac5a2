// Following rooms: what the stream brings is opened and kept before the caller gets it, so that it comes out of the
// local store in any case.
#include <stdlib.h>
#include <string.h>

#include "client/fc_chat_priv.h"

struct fc_chat_follower {
    struct fc_chat *chat;
    struct fc_chat_follow_options options;
    struct fc_room_stream *stream;
    // On the stream's thread.
    enum err failed; // why on_message stopped the stream
    struct err_detail why;
};

struct delivery {
    struct fc_chat_follower *follower;
    struct fc_chat_place *place;
    uint64_t last_seq; // what comes after it the stream brings
    bool goes_on;
};

static bool
deliver(void *context, const struct fc_store_message *kept)
{
    struct delivery *delivery = context;
    const struct fc_chat_follow_options *options = &delivery->follower->options;
    if (kept->seq > delivery->last_seq) {
        return false; // put there by another process a moment ago
    }
    delivery->goes_on =
        fc_chat_tell(delivery->follower->chat, delivery->place, kept, options->on_message, options->context);
    return delivery->goes_on;
}

// take opens and keeps a message, with those before it that another of our processes might have fetched meanwhile.
static enum err
take(struct fc_chat *chat, struct fc_chat_place *place, const struct fc_message *message, struct err_detail *why)
{
    enum err err = fc_chat_take(chat, place, message->wire, why);
    return err == ERR_OUT_OF_RANGE ? fc_chat_sync_place(chat, place, why) : err;
}

static bool
on_message(void *context, const struct fc_message *message)
{
    struct fc_chat_follower *follower = context;
    struct fc_chat *chat = follower->chat;
    struct delivery delivery = {.follower = follower, .last_seq = message->seq, .goes_on = true};
    fc_chat_lock(chat);
    enum err err = fc_chat_get_place(chat, message->room_id, &delivery.place, &follower->why);
    if (err == ERR_OK) {
        err = take(chat, delivery.place, message, &follower->why);
    }
    if (err == ERR_OK) {
        err = fc_store_messages_get(chat->store, message->room_id, message->seq, deliver, &delivery, &follower->why);
    }
    fc_chat_unlock(chat);
    follower->failed = err;
    return err == ERR_OK && delivery.goes_on;
}

static void
on_event(void *context, const struct fc_room_event *event)
{
    struct fc_chat_follower *follower = context;
    struct fc_chat *chat = follower->chat;
    struct fc_chat_place *place = NULL;
    switch (event->kind) {
    case FC_ROOM_EVENT_TYPING:
        if (follower->options.on_typing != NULL) {
            follower->options.on_typing(follower->options.context, event->room, event->user_name);
        }
        break;
    case FC_ROOM_EVENT_LOG:
        // So that the keys are here before the messages, and a removal is noticed by who stays. What fails now fails
        // with the next message, too, which has a way to tell.
        fc_chat_lock(chat);
        if (fc_chat_get_place(chat, event->room_id, &place, NULL) == ERR_OK && !place->row.is_plain) {
            (void)!fc_chat_sync_log(chat, place, NULL);
        }
        fc_chat_unlock(chat);
        break;
    case FC_ROOM_EVENT_READ:
        fc_chat_lock(chat);
        (void)!fc_store_room_set_read(chat->store, event->room_id, event->seq, NULL);
        fc_chat_unlock(chat);
        break;
    case FC_ROOM_EVENT_PRESENT:
    case FC_ROOM_EVENT_ABSENT:
    case FC_ROOM_EVENT_OVER:
        break;
    }
}

static void
on_state(void *context, enum fc_stream_state state, enum err code, const struct err_detail *why)
{
    struct fc_chat_follower *follower = context;
    if (state == FC_STREAM_ENDED && code == ERR_OK && follower->failed != ERR_OK) {
        code = follower->failed;
        why = &follower->why;
    }
    follower->options.on_state(follower->options.context, state, code, why);
}

// start_after goes on where the local store ends, or begins with what was asked for: what is older than that is
// fetched, kept, and not told.
static uint64_t
start_after(void *context, const struct fc_room *room)
{
    struct fc_chat_follower *follower = context;
    struct fc_chat *chat = follower->chat;
    struct fc_chat_place *place = NULL;
    const struct fc_chat_follow_options *options = &follower->options;
    uint64_t wanted = options->is_from_head ? room->head_seq : options->after_seq;
    uint64_t synced_seq = wanted;
    struct err_detail why = {0};
    fc_chat_lock(chat);
    enum err err = fc_chat_get_place(chat, room->id, &place, &why);
    if (err == ERR_OK) {
        err = fc_chat_sync_place(chat, place, &why);
        synced_seq = place->row.synced_seq;
    }
    // The messages from before that are wanted, out of the store, also when there are more that cannot be had now: the
    // stream goes on behind those that are here.
    if (place != NULL && wanted < synced_seq) {
        struct delivery delivery = {
            .follower = follower,
            .place = place,
            .last_seq = synced_seq,
            .goes_on = true,
        };
        const struct fc_store_selection selection = {
            .room_id = room->id,
            .select = FC_STORE_AFTER,
            .seq = wanted,
            .is_everything = true,
        };
        enum err told =
            fc_store_messages_each(chat->store, &selection, deliver, &delivery, err == ERR_OK ? &why : NULL);
        err = err == ERR_OK ? told : err;
    }
    fc_chat_unlock(chat);
    if (err != ERR_OK) {
        fc_chat_warn(chat, "%s", err_message(&why, err));
    }
    return synced_seq;
}

// own_rooms lists the names of one's own rooms, as ids.
struct own_rooms {
    char **ids;
    size_t count;
    enum err err;
};

static bool
collect_own(void *context, const struct fc_store_room *row)
{
    struct own_rooms *own = context;
    if (!row->is_member) {
        return true;
    }
    char *id = malloc(FC_CHAT_ROOM_ID_TEXT_BYTES);
    char **grown = realloc(own->ids, (own->count + 1) * sizeof(*grown));
    own->ids = grown != NULL ? grown : own->ids;
    if (id == NULL || grown == NULL) {
        free(id);
        own->err = ERR_NO_MEMORY;
        return false;
    }
    bytes_to_hex(bytes_view_of(row->room_id, E2E_ID_BYTES), id);
    own->ids[own->count++] = id;
    return true;
}

static void
free_own(struct own_rooms *own)
{
    for (size_t i = 0; i < own->count; i++) {
        free(own->ids[i]);
    }
    free(own->ids);
}

// name_rooms finds the rooms, so that the store knows them before their messages come.
static enum err
name_rooms(struct fc_chat *chat, const struct fc_chat_follow_options *options, struct own_rooms *out,
    struct err_detail *why)
{
    enum err err = ERR_OK;
    if (options->rooms == NULL) {
        err = fc_store_room_each(chat->store, collect_own, out, why);
        err = err == ERR_OK ? out->err : err;
        return err == ERR_OK && out->count == 0
                   ? err_fail(why, ERR_NOT_FOUND, "you are in no room; fc room create or fc join gets you into one")
                   : err;
    }
    for (size_t i = 0; i < options->room_count && err == ERR_OK; i++) {
        struct fc_chat_place *place = NULL;
        err = fc_chat_find_place(chat, options->rooms[i], &place, why);
        if (err == ERR_OK) {
            struct fc_store_room row = place->row;
            row.is_member = true;
            err = collect_own(out, &row) ? ERR_OK : out->err;
        }
    }
    return err;
}

enum err
fc_chat_follow(struct fc_chat *chat, const struct fc_chat_follow_options *options, struct fc_chat_follower **out,
    struct err_detail *why)
{
    struct own_rooms rooms = {0};
    struct fc_chat_follower *follower = calloc(1, sizeof(*follower));
    if (follower == NULL) {
        return ERR_NO_MEMORY;
    }
    follower->chat = chat;
    follower->options = *options;
    fc_chat_lock(chat);
    enum err err = name_rooms(chat, options, &rooms, why);
    fc_chat_unlock(chat);
    if (err == ERR_OK) {
        const struct fc_room_stream_options stream = {
            .rooms = (const char *const *)rooms.ids,
            .room_count = rooms.count,
            .start_after = start_after,
            .on_message = on_message,
            .on_event = on_event,
            .on_state = on_state,
            .context = follower,
        };
        err = fc_room_stream_open(chat->session, &stream, &follower->stream, why);
    }
    free_own(&rooms);
    if (err != ERR_OK) {
        free(follower);
        return err;
    }
    *out = follower;
    return ERR_OK;
}

void
fc_chat_follow_end(struct fc_chat_follower **follower)
{
    if (*follower == NULL) {
        return;
    }
    fc_room_stream_close(&(*follower)->stream);
    free(*follower);
    *follower = NULL;
}
