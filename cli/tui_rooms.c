#include "cli/tui_rooms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum {
    FIRST_ROOMS = 16,
    NAMES_MAX = 10000, // what a room holds
};

struct tui_room *
tui_rooms_current(const struct tui_rooms *rooms)
{
    return rooms->current < rooms->count ? rooms->items[rooms->current] : NULL;
}

struct tui_room *
tui_rooms_by_id(const struct tui_rooms *rooms, const uint8_t id[16])
{
    for (size_t i = 0; i < rooms->count; i++) {
        if (memcmp(rooms->items[i]->id, id, sizeof rooms->items[i]->id) == 0) {
            return rooms->items[i];
        }
    }
    return NULL;
}

struct tui_room *
tui_rooms_by_name(const struct tui_rooms *rooms, const char *name)
{
    for (size_t i = 0; i < rooms->count; i++) {
        if (strcmp(rooms->items[i]->name, name) == 0) {
            return rooms->items[i];
        }
    }
    return NULL;
}

static void
free_room(struct tui_room *room)
{
    tui_log_free(&room->log);
    tui_input_free(&room->draft);
    free(room);
}

static enum err
add_room(struct tui_rooms *rooms, const uint8_t id[16], struct tui_room **out)
{
    if (rooms->count == rooms->capacity) {
        size_t capacity = rooms->capacity == 0 ? FIRST_ROOMS : 2 * rooms->capacity;
        struct tui_room **items = realloc(rooms->items, capacity * sizeof(struct tui_room *));
        if (items == NULL) {
            return ERR_NO_MEMORY;
        }
        rooms->items = items;
        rooms->capacity = capacity;
    }
    struct tui_room *room = calloc(1, sizeof *room);
    if (room == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(room->id, id, sizeof room->id);
    rooms->items[rooms->count++] = room;
    *out = room;
    return ERR_OK;
}

// set_name takes a name only as it is drawn: what is no room's or user's name is shown as its id.
static void
set_name(struct tui_room *room, const char *name)
{
    bool is_name =
        name[0] == '@' ? text_check_user_name(name + 1, NULL) == ERR_OK : text_check_room_name(name, NULL) == ERR_OK;
    if (is_name) {
        (void)snprintf(room->name, sizeof room->name, "%s", name);
    } else {
        bytes_to_hex(bytes_view_of(room->id, sizeof room->id), room->name);
    }
}

static enum err
fill(struct tui_room *room, const struct fc_chat_room *from)
{
    struct bytes topic = {0};
    enum err code = tui_append_plain(&topic, from->room.topic, false);
    if (code == ERR_OK) {
        size_t size = topic.size < sizeof room->topic ? topic.size : 0;
        if (size > 0) {
            memcpy(room->topic, topic.data, size);
        }
        room->topic[size] = '\0';
    }
    bytes_free(&topic);
    set_name(room, from->room.name);
    room->is_archived = from->room.is_archived;
    room->is_plain = from->room.is_plain;
    room->is_invited = from->room.is_invited && !from->room.is_member;
    room->unread_count = from->unread_count;
    room->mention_count = from->mention_count;
    room->read_seq = from->room.read_seq > room->read_seq ? from->room.read_seq : room->read_seq;
    room->is_stale = false;
    return code;
}

// by_name puts direct rooms behind the others.
static int
by_name(const void *a, const void *b)
{
    const struct tui_room *const *left = a;
    const struct tui_room *const *right = b;
    bool left_is_direct = (*left)->name[0] == '@';
    bool right_is_direct = (*right)->name[0] == '@';
    if (left_is_direct != right_is_direct) {
        return left_is_direct ? 1 : -1;
    }
    return strcmp((*left)->name, (*right)->name);
}

static void
drop_stale(struct tui_rooms *rooms)
{
    size_t kept = 0;
    for (size_t i = 0; i < rooms->count; i++) {
        struct tui_room *room = rooms->items[i];
        if (room->is_stale) {
            free_room(room);
        } else {
            rooms->items[kept++] = room;
        }
    }
    rooms->count = kept;
}

enum err
tui_rooms_update(struct tui_rooms *rooms, const struct fc_chat_room *list, size_t count)
{
    const struct tui_room *current = tui_rooms_current(rooms);
    uint8_t current_id[16] = {0};
    if (current != NULL) {
        memcpy(current_id, current->id, sizeof current_id);
    }
    for (size_t i = 0; i < rooms->count; i++) {
        rooms->items[i]->is_stale = true;
    }
    enum err code = ERR_OK;
    for (size_t i = 0; i < count && code == ERR_OK; i++) {
        struct tui_room *room = tui_rooms_by_id(rooms, list[i].room.id);
        if (room == NULL) {
            code = add_room(rooms, list[i].room.id, &room);
        }
        if (code == ERR_OK) {
            code = fill(room, &list[i]);
        }
    }
    drop_stale(rooms);
    if (rooms->count > 0) {
        qsort(rooms->items, rooms->count, sizeof(struct tui_room *), by_name);
    }
    rooms->current = rooms->current < rooms->count ? rooms->current : 0;
    current = tui_rooms_by_id(rooms, current_id);
    if (current != NULL) {
        tui_rooms_select(rooms, current);
    }
    return code;
}

void
tui_rooms_select(struct tui_rooms *rooms, const struct tui_room *room)
{
    for (size_t i = 0; i < rooms->count; i++) {
        if (rooms->items[i] == room) {
            rooms->current = i;
        }
    }
}

void
tui_rooms_step(struct tui_rooms *rooms, int step)
{
    if (rooms->count > 0) {
        rooms->current =
            step > 0 ? (rooms->current + 1) % rooms->count : (rooms->current + rooms->count - 1) % rooms->count;
    }
}

void
tui_rooms_free(struct tui_rooms *rooms)
{
    for (size_t i = 0; i < rooms->count; i++) {
        free_room(rooms->items[i]);
    }
    free(rooms->items);
    tui_names_free(&rooms->names);
    tui_names_free(&rooms->public_rooms);
    *rooms = (struct tui_rooms){0};
}

void
tui_room_typing(struct tui_room *room, const char *user_name, uint64_t now_ms)
{
    if (text_check_user_name(user_name, NULL) != ERR_OK) {
        return;
    }
    struct tui_typing *found = NULL;
    for (size_t i = 0; i < TUI_TYPING_MAX; i++) {
        struct tui_typing *typing = &room->typing[i];
        if (typing->until_ms != 0 && strcmp(typing->user_name, user_name) == 0) {
            found = typing;
            break;
        }
        if (found == NULL && typing->until_ms <= now_ms) {
            found = typing;
        }
    }
    if (found != NULL) {
        (void)snprintf(found->user_name, sizeof found->user_name, "%s", user_name);
        found->until_ms = now_ms + TUI_TYPING_MS;
    }
}

void
tui_room_typing_end(struct tui_room *room, const char *user_name)
{
    for (size_t i = 0; i < TUI_TYPING_MAX; i++) {
        if (strcmp(room->typing[i].user_name, user_name) == 0) {
            room->typing[i].until_ms = 0;
        }
    }
}

uint64_t
tui_room_typing_text(const struct tui_room *room, uint64_t now_ms, char *out, size_t size)
{
    uint64_t next_ms = 0;
    size_t count = 0;
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < TUI_TYPING_MAX; i++) {
        const struct tui_typing *typing = &room->typing[i];
        if (typing->until_ms <= now_ms) {
            continue;
        }
        next_ms = next_ms == 0 || typing->until_ms < next_ms ? typing->until_ms : next_ms;
        int written = snprintf(out + used, size - used, "%s%s", count > 0 ? ", " : "", typing->user_name);
        if (written < 0 || (size_t)written >= size - used) {
            out[used] = '\0';
            return next_ms;
        }
        used += (size_t)written;
        count++;
    }
    if (count > 0) {
        (void)snprintf(out + used, size - used, " %s typing", count == 1 ? "is" : "are");
    }
    return next_ms;
}

void
tui_names_add(struct tui_names *names, const char *name)
{
    size_t low = 0;
    size_t high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, names->items[middle]);
        if (order == 0) {
            return;
        }
        low = order > 0 ? middle + 1 : low;
        high = order > 0 ? high : middle;
    }
    if (names->count == NAMES_MAX || text_check_room_name(name, NULL) != ERR_OK) {
        return;
    }
    if (names->count == names->capacity) {
        size_t capacity = names->capacity == 0 ? FIRST_ROOMS : 2 * names->capacity;
        char **items = realloc(names->items, capacity * sizeof(char *));
        if (items == NULL) {
            return;
        }
        names->items = items;
        names->capacity = capacity;
    }
    char *copy = strdup(name);
    if (copy != NULL) {
        memmove(names->items + low + 1, names->items + low, (names->count - low) * sizeof(char *));
        names->items[low] = copy;
        names->count++;
    }
}

void
tui_names_free(struct tui_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->items[i]);
    }
    free(names->items);
    *names = (struct tui_names){0};
}
