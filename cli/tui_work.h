// The calls of fc chat: one thread makes them one after the other, so that the screen never waits for the server.
#ifndef CLI_TUI_WORK_H
#define CLI_TUI_WORK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/tui_event.h"
#include "client/fc_chat.h"
#include "client/fc_room.h"

enum tui_job_kind {
    // What the local store knows; these go before the others.
    TUI_JOB_ROOMS,  // the list
    TUI_JOB_NEWEST, // of a room
    TUI_JOB_OLDER,  // of a room, before seq
    TUI_JOB_ONE,    // message seq of a room, since it has changed
    TUI_JOB_SEARCH, // text

    TUI_JOB_SEND, // type, text, seq (target), reply_to_seq; token
    TUI_JOB_READ, // up to seq
    TUI_JOB_TYPING,
    TUI_JOB_JOIN, // argument
    TUI_JOB_LEAVE,
    TUI_JOB_CREATE,  // argument; text: "", "plain" or "public"
    TUI_JOB_DM,      // argument
    TUI_JOB_INVITE,  // argument
    TUI_JOB_TOPIC,   // text
    TUI_JOB_MEMBERS, // seq not 0: for their names only
    TUI_JOB_VERIFY,  // argument
    TUI_JOB_CONNECT, // begin to follow, anew if need be
    TUI_JOB_REFRESH, // look whether there are other rooms
    TUI_JOB_FLUSH,   // the outbox
};

struct tui_job {
    struct tui_job *next;
    enum tui_job_kind kind;
    uint8_t room_id[16];
    char room[65];
    char argument[129];
    char *text;
    uint64_t seq;
    uint64_t reply_to_seq;
    enum fc_message_type type;
    uint64_t token;
};

struct tui_work;

// tui_work_start opens the chat and starts the thread. session and events outlive it. ERR_PRECONDITION as
// fc_chat_open.
enum err tui_work_start(struct fc_session *session, struct tui_events *events, struct tui_work **out,
    struct err_detail *why) ERR_CHECKED;
const char *tui_work_own_name(const struct tui_work *work);
// tui_work_chat is for calls that take long. It belongs to the work.
struct fc_chat *tui_work_chat(struct tui_work *work);

// tui_work_stop ends it. What has not begun is not done, but for messages: they go at least to the outbox. It returns
// false when that takes longer than patience_ms, since a call cannot be ended: nothing is freed then, and it may be
// called again.
bool tui_work_stop(struct tui_work **work, uint64_t patience_ms);
// tui_work_has_messages tells whether some are not in the outbox yet.
bool tui_work_has_messages(struct tui_work *work);

// tui_job_new: name and id of the room, which may be NULL for jobs without one. text is copied, NULL for none. NULL
// when there is no memory.
struct tui_job *tui_job_new(enum tui_job_kind kind, const char *room, const uint8_t *room_id, const char *text);
void tui_job_free(struct tui_job **job);

// tui_work_add takes over the job. Of one that is there already, and means the same, one stays. ERR_LIMIT: too much is
// waiting; ERR_NO_MEMORY: job is NULL.
enum err tui_work_add(struct tui_work *work, struct tui_job *job) ERR_CHECKED;

#endif
