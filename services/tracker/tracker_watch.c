// What watchers have been told, and what they are to be told next.
//
// A watch of a file keeps a slot for each source that it was told of, with the versions that were told. A watch of all
// sources goes through them in the order of their last changes.
#include <stdlib.h>
#include <string.h>

#include "services/tracker/tracker_core_priv.h"

enum {
    VERSION_FIXED = 1, // of what origin and mirrors have without having said so
};

// --- Who is due -----------------------------------------------------------------------------------------------------

void
tracker_topic_touch(struct tracker_core *core, struct tracker_topic *topic, bool is_urgent)
{
    if (LIST_EMPTY(&topic->watches)) {
        return;
    }
    if (!topic->is_pending) {
        topic->is_pending = true;
        TAILQ_INSERT_TAIL(&core->pending_topics, topic, pending);
    }
    topic->is_urgent = topic->is_urgent || is_urgent;
}

void
tracker_topic_forget(struct tracker_core *core, struct tracker_topic *topic)
{
    if (topic->is_pending) {
        TAILQ_REMOVE(&core->pending_topics, topic, pending);
        topic->is_pending = false;
        topic->is_urgent = false;
    }
}

void
tracker_watch_again(struct tracker_core *core, struct tracker_watch *watch)
{
    if (!watch->is_pending) {
        watch->is_pending = true;
        TAILQ_INSERT_TAIL(&core->pending_watches, watch, pending);
    }
}

struct tracker_watch *
tracker_core_take_due(struct tracker_core *core, uint64_t now_ms, uint64_t *wait_ms_out)
{
    struct tracker_topic *topic = TAILQ_FIRST(&core->pending_topics);
    struct tracker_watch *watch;
    *wait_ms_out = UINT64_MAX;
    while (topic != NULL) {
        struct tracker_topic *next = TAILQ_NEXT(topic, pending);
        uint64_t due_ms = topic->told_ms + TRACKER_BATCH_MS;
        if (topic->is_urgent || now_ms >= due_ms) {
            tracker_topic_forget(core, topic);
            topic->told_ms = now_ms;
            LIST_FOREACH(watch, &topic->watches, in_topic)
            {
                tracker_watch_again(core, watch);
            }
        } else if (due_ms - now_ms < *wait_ms_out) {
            *wait_ms_out = due_ms - now_ms;
        }
        topic = next;
    }
    watch = TAILQ_FIRST(&core->pending_watches);
    if (watch != NULL) {
        TAILQ_REMOVE(&core->pending_watches, watch, pending);
        watch->is_pending = false;
        watch->at = 0;
    }
    return watch;
}

// --- What a watch of a file is told ---------------------------------------------------------------------------------

static void
drop_slot(struct tracker_core *core, struct tracker_watch *watch, size_t index)
{
    tracker_source_release(core, watch->slots[index].source);
    watch->slot_count--;
    watch->slots[index] = watch->slots[watch->slot_count];
}

static uint64_t
holding_version(const struct tracker_source *source, const struct tracker_holding *holding)
{
    if (holding != NULL) {
        return holding->version;
    }
    return tracker_source_is_mirror(source) ? VERSION_FIXED : 0;
}

// Sources that are no longer up are told of once more, and make room for others. The origin stays.
static bool
is_kept(const struct tracker_core *core, const struct tracker_source *source)
{
    return source == core->origin || source->state == TRACKER_UP;
}

static bool
find_changes(struct tracker_core *core, const struct tracker_holding *holding, uint64_t told,
    struct tracker_event *event)
{
    const struct tracker_log *log = holding->log;
    if (log == NULL || told == 0 || told < log->base) {
        return false;
    }
    event->kind = TRACKER_EVENT_CHANGE;
    event->ranges = core->scratch;
    event->range_count = 0;
    for (unsigned i = 0; i < log->count; i++) {
        unsigned at = (log->first + i) % TRACKER_LOG_RANGES;
        if (log->entries[at].version > told) {
            core->scratch[event->range_count++] = log->entries[at].range;
        }
    }
    return true;
}

// What the source of the slot is to be told for. False: nothing.
static bool
next_of_slot(struct tracker_core *core, struct tracker_watch *watch, struct tracker_slot *slot,
    struct tracker_event *event)
{
    struct tracker_file *file = watch->file;
    struct tracker_holding *holding = tracker_files_holding(core, slot->source, file);
    *event = (struct tracker_event){.kind = TRACKER_EVENT_SOURCE, .source = slot->source};
    if (slot->source_version != slot->source->version) {
        watch->step = TRACKER_STEP_SOURCE;
        return true;
    }
    if (!is_kept(core, slot->source) || slot->holding_version == holding_version(slot->source, holding)) {
        return false;
    }
    watch->step = TRACKER_STEP_HOLDING;
    event->kind = TRACKER_EVENT_HOLDING;
    event->holding = tracker_files_view(core, slot->source, file, file->id, file->segment_count);
    if (holding != NULL) {
        (void)find_changes(core, holding, slot->holding_version, event);
    }
    return true;
}

static bool
fill_slots(struct tracker_core *core, struct tracker_watch *watch)
{
    struct tracker_source *chosen[TRACKER_SAMPLE_MAX];
    size_t count = watch->slot_count;
    if (count >= watch->limit) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        chosen[i] = watch->slots[i].source;
    }
    watch->slot_count = tracker_pick_more(core, watch->file, chosen, count, watch->limit);
    for (size_t i = count; i < watch->slot_count; i++) {
        tracker_source_hold(chosen[i]);
        watch->slots[i] = (struct tracker_slot){.source = chosen[i]};
    }
    return watch->slot_count > count;
}

static bool
next_of_file(struct tracker_core *core, struct tracker_watch *watch, struct tracker_event *event)
{
    do {
        while (watch->at < watch->slot_count) {
            struct tracker_slot *slot = &watch->slots[watch->at];
            if (next_of_slot(core, watch, slot, event)) {
                return true;
            }
            bool has_nothing = !tracker_source_is_mirror(slot->source) && slot->holding_version == 0;
            if (!is_kept(core, slot->source) || has_nothing) {
                drop_slot(core, watch, watch->at);
            } else {
                watch->at++;
            }
        }
    } while (fill_slots(core, watch));
    return false;
}

// --- What a watch of all sources is told ----------------------------------------------------------------------------

static struct tracker_source *
next_of_all(struct tracker_core *core, struct tracker_watch *watch)
{
    struct tracker_source *told = watch->told_source;
    struct tracker_source *source = TAILQ_FIRST(&core->by_change);
    if (source->change > watch->told_change) {
        return source;
    }
    if (told != NULL && told->change == watch->told_change) {
        return TAILQ_NEXT(told, by_change);
    }
    // The one that was told last has changed again: the next is found from the end.
    struct tracker_source *next = NULL;
    for (source = TAILQ_LAST(&core->by_change, tracker_source_queue);
         source != NULL && source->change > watch->told_change;
         source = TAILQ_PREV(source, tracker_source_queue, by_change)) {
        next = source;
    }
    return next;
}

static void
told_of_all(struct tracker_core *core, struct tracker_watch *watch)
{
    if (watch->told_source != NULL) {
        tracker_source_release(core, watch->told_source);
    }
    watch->told_source = watch->step_source;
    watch->told_change = watch->step_source->change;
    tracker_source_hold(watch->told_source);
}

// --- Watches --------------------------------------------------------------------------------------------------------

bool
tracker_watch_next(struct tracker_core *core, struct tracker_watch *watch, struct tracker_event *out)
{
    watch->step = TRACKER_STEP_NONE;
    if (watch->file == NULL) {
        watch->step_source = next_of_all(core, watch);
        if (watch->step_source != NULL) {
            *out = (struct tracker_event){.kind = TRACKER_EVENT_SOURCE, .source = watch->step_source};
            watch->step = TRACKER_STEP_SOURCE;
            return true;
        }
    } else if (next_of_file(core, watch, out)) {
        return true;
    }
    if (!watch->is_caught_up) {
        *out = (struct tracker_event){.kind = TRACKER_EVENT_CAUGHT_UP};
        watch->step = TRACKER_STEP_CAUGHT_UP;
        return true;
    }
    return false;
}

void
tracker_watch_told(struct tracker_core *core, struct tracker_watch *watch)
{
    struct tracker_slot *slot = &watch->slots[watch->at];
    switch (watch->step) {
    case TRACKER_STEP_SOURCE:
        if (watch->file == NULL) {
            told_of_all(core, watch);
        } else {
            slot->source_version = slot->source->version;
        }
        break;
    case TRACKER_STEP_HOLDING:
        slot->holding_version = holding_version(slot->source, tracker_files_holding(core, slot->source, watch->file));
        break;
    case TRACKER_STEP_CAUGHT_UP:
        watch->is_caught_up = true;
        break;
    case TRACKER_STEP_NONE:
        break;
    }
    watch->step = TRACKER_STEP_NONE;
}

static enum err
check_room(struct tracker_core *core, const uint8_t user_id[TRACKER_ID_BYTES], struct err_detail *why)
{
    struct tracker_file *file;
    struct tracker_watch *watch;
    size_t count = 0;
    if (core->watch_count >= TRACKER_WATCHES_MAX) {
        return err_fail(why, ERR_LIMIT, "the tracker has %d watchers, which is the most", TRACKER_WATCHES_MAX);
    }
    LIST_FOREACH(watch, &core->all.watches, in_topic)
    {
        count += memcmp(watch->user_id, user_id, TRACKER_ID_BYTES) == 0;
    }
    LIST_FOREACH(file, &core->watched, watched)
    {
        LIST_FOREACH(watch, &file->topic.watches, in_topic)
        {
            count += memcmp(watch->user_id, user_id, TRACKER_ID_BYTES) == 0;
        }
    }
    if (count >= TRACKER_WATCHES_PER_USER_MAX) {
        return err_fail(why, ERR_LIMIT, "you watch the tracker %zu times, which is the most", count);
    }
    return ERR_OK;
}

enum err
tracker_core_watch(struct tracker_core *core, const uint8_t *file_id, uint64_t segment_count, size_t limit,
    const uint8_t user_id[TRACKER_ID_BYTES], void *owner, struct tracker_watch **out, struct err_detail *why)
{
    size_t slots = file_id != NULL ? limit : 0;
    enum err err = check_room(core, user_id, why);
    if (err != ERR_OK) {
        return err;
    }
    struct tracker_watch *watch = calloc(1, sizeof(*watch) + slots * sizeof(watch->slots[0]));
    if (watch == NULL) {
        return ERR_NO_MEMORY;
    }
    watch->topic = &core->all;
    if (file_id != NULL) {
        watch->file = tracker_files_get(core, file_id, segment_count);
        if (watch->file == NULL) {
            free(watch);
            return ERR_NO_MEMORY;
        }
        watch->topic = &watch->file->topic;
        if (LIST_EMPTY(&watch->topic->watches)) {
            LIST_INSERT_HEAD(&core->watched, watch->file, watched);
        }
        watch->limit = limit;
        watch->slots[0].source = core->origin;
        watch->slot_count = 1;
        tracker_source_hold(core->origin);
    }
    watch->owner = owner;
    memcpy(watch->user_id, user_id, TRACKER_ID_BYTES);
    LIST_INSERT_HEAD(&watch->topic->watches, watch, in_topic);
    core->watch_count++;
    tracker_watch_again(core, watch);
    *out = watch;
    return ERR_OK;
}

void
tracker_watch_free(struct tracker_core *core, struct tracker_watch **watch_ref)
{
    struct tracker_watch *watch = *watch_ref;
    if (watch == NULL) {
        return;
    }
    while (watch->slot_count > 0) {
        drop_slot(core, watch, watch->slot_count - 1);
    }
    if (watch->told_source != NULL) {
        tracker_source_release(core, watch->told_source);
    }
    if (watch->is_pending) {
        TAILQ_REMOVE(&core->pending_watches, watch, pending);
    }
    LIST_REMOVE(watch, in_topic);
    core->watch_count--;
    if (LIST_EMPTY(&watch->topic->watches)) {
        tracker_topic_forget(core, watch->topic);
        if (watch->file != NULL) {
            LIST_REMOVE(watch->file, watched);
            tracker_files_drop_unused(core, watch->file);
        }
    }
    free(watch);
    *watch_ref = NULL;
}

void
tracker_core_each_watch(struct tracker_core *core, void (*fn)(struct tracker_watch *watch, const void *context),
    const void *context)
{
    struct tracker_file *file;
    struct tracker_watch *watch;
    LIST_FOREACH(watch, &core->all.watches, in_topic)
    {
        fn(watch, context);
    }
    LIST_FOREACH(file, &core->watched, watched)
    {
        LIST_FOREACH(watch, &file->topic.watches, in_topic)
        {
            fn(watch, context);
        }
    }
}

void *
tracker_watch_owner(const struct tracker_watch *watch)
{
    return watch->owner;
}
