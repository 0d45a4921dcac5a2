#include "cli/tui_transfer.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/thread.h"
#include "client/fc_chat_file.h"

enum {
    TEXT_BYTES = 256,
    STEP_MS = 20, // of waiting for the thread
};

struct tui_transfer {
    struct fc_session *session;
    struct tui_events *events;
    struct tui_work *work;
    pthread_t thread;
    bool is_started; // there is a thread to join
    atomic_bool is_running;
    atomic_bool is_cancelled;

    // Those of the thread while it runs.
    bool is_upload;
    char room[65];
    char *path;
};

static void
on_progress(void *context, const struct fc_progress *progress)
{
    struct tui_transfer *transfer = context;
    char text[TEXT_BYTES];
    uint64_t percent = progress->total_bytes == 0 ? 100 : progress->done_bytes * 100 / progress->total_bytes;
    (void)snprintf(text, sizeof text, "%s %.64s: %" PRIu64 "%%", transfer->is_upload ? "sending" : "fetching",
        text_last_component(transfer->path), percent);
    tui_events_post(transfer->events, tui_event_new(TUI_EVENT_PROGRESS, NULL, text));
}

static bool
is_cancelled(void *context)
{
    struct tui_transfer *transfer = context;
    return atomic_load(&transfer->is_cancelled);
}

static enum err
download(struct tui_transfer *transfer, struct fc_chat *chat, const struct fc_transfer_options *options,
    struct fc_file *out, struct err_detail *why)
{
    char name[sizeof transfer->room + sizeof out->name];
    bool is_encrypted = false;
    enum err code = fc_chat_is_encrypted(chat, transfer->room, &is_encrypted, why);
    if (code == ERR_OK && is_encrypted) {
        code = fc_chat_download(chat, transfer->room, transfer->path, NULL, false, options, out, why);
    } else if (code == ERR_OK) {
        (void)snprintf(name, sizeof name, "%s/%s", transfer->room, transfer->path);
        code = fc_file_download(transfer->session, name, NULL, false, options, out, why);
    }
    if (code == ERR_EXISTS) {
        return err_fail(why, code, "there is a file \"%s\" here already", text_last_component(transfer->path));
    }
    return code;
}

// tell posts how it ended; the message that announces a file that was sent comes by itself.
static void
tell(struct tui_transfer *transfer, const struct fc_file *file, enum err code, const struct err_detail *why)
{
    char text[TEXT_BYTES];
    tui_events_post(transfer->events, tui_event_new(TUI_EVENT_PROGRESS, NULL, ""));
    (void)snprintf(text, sizeof text, "%.128s is %s", text_last_component(file->name),
        transfer->is_upload ? "sent" : "in the current folder");
    struct tui_event *event = tui_event_new(TUI_EVENT_STATUS, NULL, code == ERR_OK ? text : err_message(why, code));
    if (event != NULL) {
        event->code = code;
    }
    tui_events_post(transfer->events, event);
}

static void *
run(void *context)
{
    struct tui_transfer *transfer = context;
    struct err_detail why = {0};
    struct fc_transfer_options options = {.on_progress = on_progress,
        .is_cancelled = is_cancelled,
        .context = transfer};
    struct fc_chat *chat = tui_work_chat(transfer->work);
    struct fc_file file = {0};
    enum err code = transfer->is_upload
                        ? fc_chat_upload(chat, transfer->room, transfer->path, NULL, &options, &file, &why)
                        : download(transfer, chat, &options, &file, &why);
    tell(transfer, &file, code, &why);
    atomic_store(&transfer->is_running, false);
    return NULL;
}

enum err
tui_transfer_new(struct fc_session *session, struct tui_events *events, struct tui_work *work,
    struct tui_transfer **out)
{
    struct tui_transfer *transfer = calloc(1, sizeof *transfer);
    if (transfer == NULL) {
        return ERR_NO_MEMORY;
    }
    transfer->session = session;
    transfer->events = events;
    transfer->work = work;
    *out = transfer;
    return ERR_OK;
}

static void
join(struct tui_transfer *transfer)
{
    if (transfer->is_started) {
        (void)pthread_join(transfer->thread, NULL);
        transfer->is_started = false;
    }
    free(transfer->path);
    transfer->path = NULL;
}

bool
tui_transfer_stop(struct tui_transfer **transfer, uint64_t patience_ms)
{
    if (*transfer == NULL) {
        return true;
    }
    uint64_t until_ms = clock_monotonic_ms() + patience_ms;
    atomic_store(&(*transfer)->is_cancelled, true);
    while (atomic_load(&(*transfer)->is_running)) {
        if (clock_monotonic_ms() >= until_ms) {
            return false;
        }
        struct timespec step = {.tv_nsec = STEP_MS * 1000000L};
        (void)nanosleep(&step, NULL);
    }
    join(*transfer);
    free(*transfer);
    *transfer = NULL;
    return true;
}

enum err
tui_transfer_start(struct tui_transfer *transfer, const struct tui_transfer_wish *wish, struct err_detail *why)
{
    if (atomic_load(&transfer->is_running)) {
        return err_fail(why, ERR_BUSY, "a file is being moved; try again when it is there");
    }
    join(transfer);
    transfer->path = strdup(wish->path);
    if (transfer->path == NULL) {
        return ERR_NO_MEMORY;
    }
    transfer->is_upload = wish->is_upload;
    (void)snprintf(transfer->room, sizeof transfer->room, "%s", wish->room);
    atomic_store(&transfer->is_running, true);
    enum err code = thread_start(&transfer->thread, "fc-chat-file", run, transfer);
    transfer->is_started = code == ERR_OK;
    if (code != ERR_OK) {
        atomic_store(&transfer->is_running, false);
        return err_fail(why, code, "cannot start a thread");
    }
    return ERR_OK;
}
