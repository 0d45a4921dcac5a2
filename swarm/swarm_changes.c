#include "swarm/swarm_changes.h"

#include <stdlib.h>
#include <string.h>

enum {
    RANGES_FIRST = 8,
};

// The change of this file, made if there is none. The files that change at the same time are few.
static struct swarm_change *
find_or_make(struct swarm_change_list *list, const struct swarm_file *file)
{
    struct swarm_change *change;
    STAILQ_FOREACH(change, list, link)
    {
        if (memcmp(change->file_id, file->id, sizeof(file->id)) == 0) {
            return change;
        }
    }
    change = calloc(1, sizeof(*change));
    if (change != NULL) {
        memcpy(change->file_id, file->id, sizeof(file->id));
        change->segment_count = swarm_file_segment_count(file);
        STAILQ_INSERT_TAIL(list, change, link);
    }
    return change;
}

static enum err
make_room(struct swarm_change *change)
{
    if (change->range_count < change->range_capacity) {
        return ERR_OK;
    }
    size_t capacity = change->range_capacity == 0 ? (size_t)RANGES_FIRST : change->range_capacity * 2;
    struct swarm_range *ranges = realloc(change->ranges, capacity * sizeof(ranges[0]));
    if (ranges == NULL) {
        return ERR_NO_MEMORY;
    }
    change->ranges = ranges;
    change->range_capacity = capacity;
    return ERR_OK;
}

enum err
swarm_changes_add(struct swarm_change_list *list, const struct swarm_file *file, uint64_t first, uint64_t count,
    bool is_gone)
{
    struct swarm_change *change = find_or_make(list, file);
    if (change == NULL) {
        return ERR_NO_MEMORY;
    }
    if (change->is_whole) {
        return ERR_OK;
    }
    struct swarm_range *last = change->range_count != 0 ? &change->ranges[change->range_count - 1] : NULL;
    if (last != NULL && last->is_gone == is_gone && last->first + last->count == first) {
        last->count += count;
        return ERR_OK;
    }
    if (change->range_count == SWARM_RANGES_MAX) {
        change->is_whole = true;
        return ERR_OK;
    }
    enum err err = make_room(change);
    if (err == ERR_OK) {
        change->ranges[change->range_count++] = (struct swarm_range){first, count, is_gone};
    }
    return err;
}

void
swarm_change_free(struct swarm_change **change)
{
    if (*change != NULL) {
        free((*change)->ranges);
        free(*change);
        *change = NULL;
    }
}

void
swarm_changes_clear(struct swarm_change_list *list)
{
    while (!STAILQ_EMPTY(list)) {
        struct swarm_change *change = STAILQ_FIRST(list);
        STAILQ_REMOVE_HEAD(list, link);
        swarm_change_free(&change);
    }
}
