#include "cli/tui_event.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 4096, // a server may send faster than a terminal draws
    FIRST_ENTRIES = 16,
};

enum err
tui_events_init(struct tui_events *events, struct err_detail *why)
{
    *events = (struct tui_events){.fds = {-1, -1}};
    if (pipe2(events->fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        return err_fail(why, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
    }
    pthread_mutex_init(&events->mutex, NULL);
    pthread_cond_init(&events->has_room, NULL);
    events->locked.end = &events->locked.first;
    return ERR_OK;
}

void
tui_events_deinit(struct tui_events *events)
{
    struct tui_event *event = tui_events_take(events);
    while (event != NULL) {
        struct tui_event *next = event->next;
        tui_event_free(&event);
        event = next;
    }
    (void)close(events->fds[0]);
    (void)close(events->fds[1]);
    pthread_cond_destroy(&events->has_room);
    pthread_mutex_destroy(&events->mutex);
}

struct tui_event *
tui_event_new(enum tui_event_kind kind, const uint8_t *room_id, const char *text)
{
    struct tui_event *event = calloc(1, sizeof *event);
    if (event == NULL) {
        return NULL;
    }
    event->kind = kind;
    if (room_id != NULL) {
        memcpy(event->room_id, room_id, sizeof event->room_id);
    }
    if (text != NULL && (event->text = strdup(text)) == NULL) {
        free(event);
        return NULL;
    }
    return event;
}

enum err
tui_event_add_entry(struct tui_event *event, struct tui_entry **entry)
{
    if (event->entry_count == event->entry_capacity) {
        size_t capacity = event->entry_capacity == 0 ? FIRST_ENTRIES : 2 * event->entry_capacity;
        struct tui_entry **entries = realloc(event->entries, capacity * sizeof(struct tui_entry *));
        if (entries == NULL) {
            tui_entry_free(entry);
            return ERR_NO_MEMORY;
        }
        event->entries = entries;
        event->entry_capacity = capacity;
    }
    event->entries[event->entry_count++] = *entry;
    *entry = NULL;
    return ERR_OK;
}

void
tui_event_free(struct tui_event **event)
{
    if (*event == NULL) {
        return;
    }
    for (size_t i = 0; i < (*event)->entry_count; i++) {
        tui_entry_free(&(*event)->entries[i]);
    }
    free((*event)->entries);
    free((*event)->rooms);
    free((*event)->text);
    free(*event);
    *event = NULL;
}

void
tui_events_post(struct tui_events *events, struct tui_event *event)
{
    if (event == NULL) {
        return;
    }
    pthread_mutex_lock(&events->mutex);
    while (events->locked.count >= EVENTS_MAX && !events->locked.is_closing) {
        pthread_cond_wait(&events->has_room, &events->mutex);
    }
    *events->locked.end = event;
    events->locked.end = &event->next;
    events->locked.count++;
    pthread_mutex_unlock(&events->mutex);
    tui_events_wake(events);
}

struct tui_event *
tui_events_take(struct tui_events *events)
{
    char drained[64];
    while (read(events->fds[0], drained, sizeof drained) > 0) {
    }
    pthread_mutex_lock(&events->mutex);
    struct tui_event *first = events->locked.first;
    events->locked.first = NULL;
    events->locked.end = &events->locked.first;
    events->locked.count = 0;
    pthread_cond_broadcast(&events->has_room);
    pthread_mutex_unlock(&events->mutex);
    return first;
}

void
tui_events_close(struct tui_events *events)
{
    pthread_mutex_lock(&events->mutex);
    events->locked.is_closing = true;
    pthread_cond_broadcast(&events->has_room);
    pthread_mutex_unlock(&events->mutex);
}

void
tui_events_wake(const struct tui_events *events)
{
    // A full pipe is as readable as one byte makes it.
    ssize_t ignored = write(events->fds[1], "", 1);
    (void)ignored;
}
