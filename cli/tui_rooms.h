// The rooms of the left column, and what is kept of each while another one is shown. Pure: draws nothing.
#ifndef CLI_TUI_ROOMS_H
#define CLI_TUI_ROOMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/tui_input.h"
#include "cli/tui_log.h"
#include "client/fc_chat.h"

enum {
    TUI_TYPING_MS = 6000, // after the last sign of it
    TUI_TYPING_MAX = 8,   // as many are shown as writing
    TUI_NAME_BYTES = 65,
};

struct tui_typing {
    char user_name[TUI_NAME_BYTES];
    uint64_t until_ms; // monotonic
};

struct tui_room {
    uint8_t id[16];
    char name[TUI_NAME_BYTES]; // "@bob" of a direct one
    char topic[1024];          // can be drawn
    bool is_archived;
    bool is_plain;
    bool is_invited; // and not in it
    uint32_t unread_count;
    uint32_t mention_count;

    struct tui_log log;
    bool is_loaded;    // its newest messages are in the log, or on their way there
    bool is_fetching;  // older ones are on their way
    uint64_t read_seq; // marked as read
    bool has_members;  // their names are known, for completion
    struct tui_input draft;
    struct tui_typing typing[TUI_TYPING_MAX];
    bool is_stale; // while a new list comes in
};

// tui_names is a set of names, for completion.
struct tui_names {
    char **items; // sorted
    size_t count;
    size_t capacity;
};

// tui_rooms is all of them, rooms by name and then direct ones. All zero is empty.
struct tui_rooms {
    struct tui_room **items;
    size_t count;
    size_t capacity;
    size_t current;                // < count unless there are none
    struct tui_names names;        // of users
    struct tui_names public_rooms; // that could be joined
};

struct tui_room *tui_rooms_current(const struct tui_rooms *rooms); // NULL: there are none
struct tui_room *tui_rooms_by_id(const struct tui_rooms *rooms, const uint8_t id[16]);
struct tui_room *tui_rooms_by_name(const struct tui_rooms *rooms, const char *name);

// tui_rooms_update takes over what the local store says; rooms that it does not have are left out. The current one
// stays while it is there.
enum err tui_rooms_update(struct tui_rooms *rooms, const struct fc_chat_room *list, size_t count) ERR_CHECKED;
// tui_rooms_select makes it the current one.
void tui_rooms_select(struct tui_rooms *rooms, const struct tui_room *room);
// tui_rooms_step goes so many up or down, around the ends.
void tui_rooms_step(struct tui_rooms *rooms, int step);
void tui_rooms_free(struct tui_rooms *rooms);

// tui_room_typing notes that a user is writing; tui_room_typing_end that they have sent it.
void tui_room_typing(struct tui_room *room, const char *user_name, uint64_t now_ms);
void tui_room_typing_end(struct tui_room *room, const char *user_name);
// tui_room_typing_text writes "bob is typing", or nothing. It returns when that changes, or 0.
uint64_t tui_room_typing_text(const struct tui_room *room, uint64_t now_ms, char *out, size_t size);

// tui_names_add: a failure only means that the name is not completed.
void tui_names_add(struct tui_names *names, const char *name);
void tui_names_free(struct tui_names *names);

#endif
