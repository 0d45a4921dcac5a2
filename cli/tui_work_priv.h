// For tui_work.c and tui_jobs.c only: the thread that makes the calls, and what it knows.
#ifndef CLI_TUI_WORK_PRIV_H
#define CLI_TUI_WORK_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "cli/tui_work.h"

enum {
    TUI_WORK_NEWEST_COUNT = 200, // messages that a room begins with
    TUI_WORK_OLDER_COUNT = 200,  // fetched at the top
    TUI_WORK_FOUND_MAX = 50,
    TUI_WORK_FOLLOWED_MAX = 1000, // rooms, by fc_room.h
};

struct tui_work {
    // Immutable after start.
    struct fc_session *session;
    struct fc_chat *chat;
    struct tui_events *events;
    char own_name[FC_USER_NAME_MAX_BYTES];
    pthread_t thread;

    atomic_bool is_away;     // as the follower says
    atomic_bool is_finished; // the thread makes no more calls

    // The thread only.
    struct fc_chat_follower *follower;
    uint8_t (*followed)[16]; // rooms
    size_t followed_count;
    uint64_t next_try_ms; // to connect, or to look for changes
    bool is_waiting;      // something is in the outbox
    bool was_connected;

    pthread_mutex_t mutex;
    pthread_cond_t has_job;
    struct {
        struct tui_job *near; // answered by the local store
        struct tui_job *far;
        size_t count;
        bool is_stopping;
        bool is_sending; // a message, now
    } locked;
};

// --- tui_jobs.c

// tui_job_run does one of them, and tells what comes of it.
void tui_job_run(struct tui_work *work, const struct tui_job *job);

// --- tui_follow.c

// tui_work_tend is done when there is nothing else to do: connects, or looks for changes.
void tui_work_tend(struct tui_work *work);

// tui_work_connect begins to follow all rooms, anew if need be. That the server is away is told and tried again, and no
// error.
enum err tui_work_connect(struct tui_work *work, struct err_detail *why) ERR_CHECKED;
// tui_work_connect_soon leaves it to tui_work_tend, after a pause.
void tui_work_connect_soon(struct tui_work *work);
// tui_work_refresh looks whether there are other rooms.
enum err tui_work_refresh(struct tui_work *work, struct err_detail *why) ERR_CHECKED;
enum err tui_work_flush(struct tui_work *work, struct err_detail *why) ERR_CHECKED;

void tui_work_post(struct tui_work *work, struct tui_event *event);
void tui_work_post_status(struct tui_work *work, enum err code, const char *text);
// tui_work_post_queued tells how many messages are in the outbox.
void tui_work_post_queued(struct tui_work *work);
enum err tui_work_post_rooms(struct tui_work *work, struct err_detail *why) ERR_CHECKED;

#endif
