// What the other threads tell the one with the screen: a queue, and a descriptor to poll.
#ifndef CLI_TUI_EVENT_H
#define CLI_TUI_EVENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"
#include "cli/tui_log.h"
#include "client/fc_chat.h"

enum tui_event_kind {
    TUI_EVENT_ROOMS,    // rooms: the list of the local store
    TUI_EVENT_MESSAGES, // entries: of one room, just sent
    TUI_EVENT_NEWEST,   // entries: the newest of a room; is_first
    TUI_EVENT_OLDER,    // entries: before message seq, as asked for; is_first
    TUI_EVENT_CHANGED,  // entries: one that was there already
    TUI_EVENT_SENT,     // token: is message seq now, or is not sent (code, text)
    TUI_EVENT_WAITING,  // token: in the outbox
    TUI_EVENT_QUEUED,   // seq: so many are in the outbox
    TUI_EVENT_STATE,    // state, code, text
    TUI_EVENT_TYPING,   // user_name, in the room that text names
    TUI_EVENT_SHOW,     // the room is to be the current one
    TUI_EVENT_NOTE,     // text: into the room's log; code: it is a warning
    TUI_EVENT_STATUS,   // text: into the status line; code
    TUI_EVENT_PROGRESS, // text: of a transfer; empty when it has ended
    TUI_EVENT_USER,     // user_name: there is one, for completion
    TUI_EVENT_PUBLIC,   // text: the name of a room that can be joined, for completion
};

enum tui_state {
    TUI_STATE_CONNECTING,
    TUI_STATE_CONNECTED,
    TUI_STATE_RECONNECTING,
    TUI_STATE_ENDED, // for good, or until something is done about it
};

struct tui_event {
    struct tui_event *next;
    enum tui_event_kind kind;
    uint8_t room_id[16]; // zero: the current room
    struct fc_chat_room *rooms;
    size_t room_count;
    struct tui_entry **entries;
    size_t entry_count;
    size_t entry_capacity;
    bool is_first; // there are no older messages
    uint64_t token;
    uint64_t seq;
    enum tui_state state;
    enum err code;
    char user_name[TEXT_USER_NAME_MAX_BYTES + 1];
    char *text; // as it came: not yet fit to be drawn
};

struct tui_events {
    int fds[2]; // the first becomes readable when there is something
    pthread_mutex_t mutex;
    pthread_cond_t has_room;
    struct {
        struct tui_event *first;
        struct tui_event **end;
        size_t count;
        bool is_closing;
    } locked;
};

enum err tui_events_init(struct tui_events *events, struct err_detail *why) ERR_CHECKED;
void tui_events_deinit(struct tui_events *events);

// tui_event_new: room_id may be NULL. text is copied, NULL for none. NULL when there is no memory, which
// tui_events_post takes for nothing to do.
struct tui_event *tui_event_new(enum tui_event_kind kind, const uint8_t *room_id, const char *text);
// tui_event_add_entry takes over the entry.
enum err tui_event_add_entry(struct tui_event *event, struct tui_entry **entry) ERR_CHECKED;
void tui_event_free(struct tui_event **event);

// tui_events_post takes over the event. Waits while far too many are there, unless closing.
void tui_events_post(struct tui_events *events, struct tui_event *event);
// tui_events_take gives all of them, in order, and NULL when there are none. The screen's thread only.
struct tui_event *tui_events_take(struct tui_events *events);
// tui_events_close lets nobody wait in tui_events_post any more.
void tui_events_close(struct tui_events *events);
// tui_events_wake makes the descriptor readable. Also from a signal handler.
void tui_events_wake(const struct tui_events *events);

#endif
