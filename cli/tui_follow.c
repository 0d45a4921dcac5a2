// Following all rooms, and finding the server again, for the thread of tui_work.c.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/tui_work_priv.h"

enum {
    RETRY_MS = 1000,   // between attempts to connect; each of them waits for the server by itself
    REFRESH_MS = 5000, // between looks for rooms that others have let one into
};

// --- Telling the screen ---------------------------------------------------------------------------------------------

void
tui_work_post(struct tui_work *work, struct tui_event *event)
{
    tui_events_post(work->events, event);
}

void
tui_work_post_status(struct tui_work *work, enum err code, const char *text)
{
    struct tui_event *event = tui_event_new(TUI_EVENT_STATUS, NULL, text);
    if (event != NULL) {
        event->code = code;
    }
    tui_work_post(work, event);
}

static void
post_state(struct tui_work *work, enum tui_state state, enum err code, const struct err_detail *why)
{
    struct tui_event *event = tui_event_new(TUI_EVENT_STATE, NULL, code != ERR_OK ? err_message(why, code) : NULL);
    if (event != NULL) {
        event->state = state;
        event->code = code;
    }
    tui_work_post(work, event);
}

// room_list gathers rooms.
struct room_list {
    struct fc_chat_room *items;
    size_t count;
    size_t capacity;
    enum err code;
};

static bool
take_room(void *context, const struct fc_chat_room *room)
{
    struct room_list *list = context;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
        struct fc_chat_room *items = realloc(list->items, capacity * sizeof *items);
        if (items == NULL) {
            list->code = ERR_NO_MEMORY;
            return false;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = *room;
    return true;
}

static enum err
list_rooms(struct tui_work *work, struct room_list *list, struct err_detail *why)
{
    *list = (struct room_list){0};
    enum err code = fc_chat_each_room(work->chat, take_room, list, why);
    code = code == ERR_OK ? list->code : code;
    if (code != ERR_OK) {
        free(list->items);
        *list = (struct room_list){0};
    }
    return code;
}

enum err
tui_work_post_rooms(struct tui_work *work, struct err_detail *why)
{
    struct room_list list;
    enum err code = list_rooms(work, &list, why);
    struct tui_event *event = code == ERR_OK ? tui_event_new(TUI_EVENT_ROOMS, NULL, NULL) : NULL;
    if (event == NULL) {
        free(list.items);
        return code == ERR_OK ? ERR_NO_MEMORY : code;
    }
    event->rooms = list.items;
    event->room_count = list.count;
    tui_work_post(work, event);
    return ERR_OK;
}

static bool
count_queued(void *context, const struct fc_chat_queued *queued)
{
    uint64_t *count = context;
    (void)queued;
    ++*count;
    return true;
}

void
tui_work_post_queued(struct tui_work *work)
{
    uint64_t count = 0;
    struct tui_event *event = tui_event_new(TUI_EVENT_QUEUED, NULL, NULL);
    // Only for showing it.
    if (event != NULL && fc_chat_each_queued(work->chat, count_queued, &count, NULL) == ERR_OK) {
        event->seq = count;
        work->is_waiting = count > 0;
        tui_work_post(work, event);
    } else {
        tui_event_free(&event);
    }
}

// --- Following ------------------------------------------------------------------------------------------------------

static void
ask(struct tui_work *work, enum tui_job_kind kind, const struct fc_message *message, uint64_t seq)
{
    struct tui_job *job =
        tui_job_new(kind, message != NULL ? message->room : NULL, message != NULL ? message->room_id : NULL, NULL);
    if (job != NULL) {
        job->seq = seq;
    }
    // Too much to do: then it is seen with the next one.
    enum err ignored = tui_work_add(work, job);
    (void)ignored;
}

static bool
on_message(void *context, const struct fc_message *message)
{
    struct tui_work *work = context;
    ask(work, TUI_JOB_ROOMS, NULL, 0); // for its counts
    if (message->type != FC_MESSAGE_TEXT && message->type != FC_MESSAGE_EMOTE) {
        ask(work, TUI_JOB_ONE, message, message->target_seq);
        return true;
    }
    struct tui_entry *entry = NULL;
    struct tui_event *event = tui_event_new(TUI_EVENT_MESSAGES, message->room_id, NULL);
    if (event != NULL && tui_entry_new(message, work->own_name, &entry) == ERR_OK &&
        tui_event_add_entry(event, &entry) == ERR_OK) {
        tui_work_post(work, event);
        return true;
    }
    // It is in the local store; the screen asks for it there.
    tui_event_free(&event);
    ask(work, TUI_JOB_NEWEST, message, 0);
    return true;
}

static void
on_typing(void *context, const char *room, const char *user_name)
{
    struct tui_work *work = context;
    struct tui_event *event = tui_event_new(TUI_EVENT_TYPING, NULL, room);
    if (event != NULL && strcmp(user_name, work->own_name) != 0) {
        (void)snprintf(event->user_name, sizeof event->user_name, "%s", user_name);
        tui_work_post(work, event);
    } else {
        tui_event_free(&event);
    }
}

static void
on_state(void *context, enum fc_stream_state state, enum err code, const struct err_detail *why)
{
    struct tui_work *work = context;
    switch (state) {
    case FC_STREAM_LIVE:
        atomic_store(&work->is_away, false);
        post_state(work, TUI_STATE_CONNECTED, ERR_OK, NULL);
        ask(work, TUI_JOB_FLUSH, NULL, 0);
        ask(work, TUI_JOB_REFRESH, NULL, 0);
        return;
    case FC_STREAM_RECONNECTING:
        atomic_store(&work->is_away, true);
        post_state(work, TUI_STATE_RECONNECTING, code, why);
        return;
    case FC_STREAM_ENDED:
        if (code != ERR_OK) {
            // A membership may have ended, and the others go on.
            post_state(work, TUI_STATE_RECONNECTING, code, why);
            ask(work, TUI_JOB_CONNECT, NULL, 0);
        }
        return;
    }
}

static enum err
remember_followed(struct tui_work *work, const struct room_list *list)
{
    uint8_t(*followed)[16] = calloc(list->count + 1, sizeof *followed);
    if (followed == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < list->count; i++) {
        memcpy(followed[i], list->items[i].room.id, sizeof followed[i]);
    }
    free(work->followed);
    work->followed = followed;
    work->followed_count = list->count;
    return ERR_OK;
}

static bool
is_followed(const struct tui_work *work, const struct room_list *list)
{
    if (list->count != work->followed_count) {
        return false;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (memcmp(work->followed[i], list->items[i].room.id, sizeof work->followed[i]) != 0) {
            return false;
        }
    }
    return true;
}

// sync_rooms fetches what was sent while nobody followed.
static enum err
sync_rooms(struct tui_work *work, const struct room_list *list, struct err_detail *why)
{
    enum err code = ERR_OK;
    for (size_t i = 0; i < list->count && code == ERR_OK; i++) {
        const struct fc_chat_room *room = &list->items[i];
        struct fc_message place = {.room = room->room.name, .room_id = room->room.id};
        if (!room->room.is_member) {
            continue; // invited only
        }
        code = fc_chat_sync(work->chat, room->room.name, why);
        ask(work, TUI_JOB_NEWEST, &place, 0);
        if (code != ERR_OK && code != ERR_UNAVAILABLE && code != ERR_TIMEOUT && code != ERR_CLOSED) {
            // Something is wrong with this room only.
            tui_work_post(work, tui_event_new(TUI_EVENT_NOTE, room->room.id, err_message(why, code)));
            code = ERR_OK;
        }
    }
    return code;
}

static bool
has_membership(const struct room_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].room.is_member) {
            return true;
        }
    }
    return false;
}

static enum err
follow(struct tui_work *work, const struct room_list *list, struct err_detail *why)
{
    struct fc_chat_follow_options options = {
        .is_from_head = true,
        .on_message = on_message,
        .on_typing = on_typing,
        .on_state = on_state,
        .context = work,
    };
    fc_chat_follow_end(&work->follower);
    enum err code = remember_followed(work, list);
    post_state(work, TUI_STATE_CONNECTED, ERR_OK, NULL);
    atomic_store(&work->is_away, false);
    if (code == ERR_OK && has_membership(list)) {
        code = fc_chat_follow(work->chat, &options, &work->follower, why);
    }
    return code == ERR_OK ? sync_rooms(work, list, why) : code;
}

static bool
is_for_good(enum err code)
{
    return code == ERR_UNAUTHENTICATED || code == ERR_UNTRUSTED || code == ERR_VERSION || code == ERR_DENIED;
}

static bool
take_public(void *context, const struct fc_room *room)
{
    struct tui_work *work = context;
    if (room->is_public && !room->is_member) {
        tui_work_post(work, tui_event_new(TUI_EVENT_PUBLIC, NULL, room->name));
    }
    return true;
}

enum err
tui_work_connect(struct tui_work *work, struct err_detail *why)
{
    struct room_list list = {0};
    if (!work->was_connected) {
        enum err ignored = tui_work_post_rooms(work, NULL); // what is here can be read already
        (void)ignored;
        post_state(work, TUI_STATE_CONNECTING, ERR_OK, NULL);
        tui_work_post_queued(work);
    }
    enum err code = fc_chat_refresh(work->chat, why);
    if (code == ERR_OK) {
        code = list_rooms(work, &list, why);
    }
    if (code == ERR_OK) {
        code = follow(work, &list, why);
    }
    free(list.items);
    if (code != ERR_OK) {
        fc_chat_follow_end(&work->follower);
        work->followed_count = 0;
        post_state(work, is_for_good(code) ? TUI_STATE_ENDED : TUI_STATE_RECONNECTING, code, why);
        work->next_try_ms = clock_monotonic_ms() + (is_for_good(code) ? REFRESH_MS : RETRY_MS);
        work->was_connected = false;
        return ERR_OK; // told
    }
    if (!work->was_connected) {
        enum err ignored = fc_room_each(work->session, take_public, work, NULL); // only for completion
        (void)ignored;
    }
    work->was_connected = true;
    work->next_try_ms = clock_monotonic_ms() + REFRESH_MS;
    return tui_work_post_rooms(work, why);
}

void
tui_work_connect_soon(struct tui_work *work)
{
    work->was_connected = false;
    work->next_try_ms = clock_monotonic_ms() + RETRY_MS;
}

enum err
tui_work_flush(struct tui_work *work, struct err_detail *why)
{
    size_t count = 0;
    enum err code = fc_chat_flush(work->chat, &count, why);
    tui_work_post_queued(work);
    // When the server is away again, its coming back is told.
    return code == ERR_UNAVAILABLE || code == ERR_TIMEOUT || code == ERR_CLOSED ? ERR_OK : code;
}

enum err
tui_work_refresh(struct tui_work *work, struct err_detail *why)
{
    struct room_list list = {0};
    enum err code = fc_chat_refresh(work->chat, why);
    if (code != ERR_OK && work->follower == NULL) {
        work->was_connected = false;
        return tui_work_connect(work, why);
    }
    code = code == ERR_OK ? list_rooms(work, &list, why) : ERR_OK; // the follower tells when the server is away
    bool has_changed = list.items != NULL && !is_followed(work, &list);
    free(list.items);
    if (code == ERR_OK && has_changed) {
        return tui_work_connect(work, why);
    }
    return code == ERR_OK ? tui_work_post_rooms(work, why) : code;
}

void
tui_work_tend(struct tui_work *work)
{
    struct err_detail why = {0};
    enum err code = ERR_OK;
    work->next_try_ms = clock_monotonic_ms() + REFRESH_MS;
    if (!work->was_connected) {
        code = tui_work_connect(work, &why);
    } else if (!atomic_load(&work->is_away)) {
        code = work->is_waiting ? tui_work_flush(work, &why) : ERR_OK;
        code = code == ERR_OK ? tui_work_refresh(work, &why) : code;
    }
    if (code != ERR_OK) {
        tui_work_post_status(work, code, err_message(&why, code));
    }
}
