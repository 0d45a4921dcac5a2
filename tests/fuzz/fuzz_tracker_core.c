// Whatever sources, readers and operators do in whatever order: what is found is up, and a reader who is told
// everything knows what Find says.
//
// The input is a list of items of 4 bytes: what happens, to which source or watch, and two bytes for the rest.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "services/tracker/tracker_core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SOURCES = 8,
    FILES = 2,
    SEGMENTS = 20,
    ITEM_BYTES = 4,
    EVENTS_MAX = 1000, // that one watch can be told at once: more would be an endless loop
};

static const uint8_t user_id[TRACKER_ID_BYTES] = "a user's id.....";

// The watcher of the first file, and what it was told.
struct reader {
    struct tracker_watch *watch;
    bool is_up[SOURCES];
    bool has[SOURCES][SEGMENTS];
};

struct world {
    struct tracker_core *core;
    struct tracker_now now;
    struct tracker_source *sources[SOURCES]; // with a reference
    struct tracker_watch *other_watch;
    struct reader reader;
};

static void
require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static size_t
number_of(const struct tracker_source *source)
{
    return source->id[0];
}

static void
announce(struct world *world, size_t number, uint8_t how)
{
    uint8_t id[TRACKER_ID_BYTES] = {(uint8_t)number, 1};
    char url[] = "tcp://192.0.2.1:7000";
    char *urls[] = {url};
    struct tracker_source *source = NULL;
    void *previous = NULL;
    struct tracker_hello hello = {
        .id = id,
        .incarnation = how,
        .name = "name",
        .kind = how & 1 ? TRACKER_MIRROR : TRACKER_PEER,
        .url_count = 1,
        .urls = urls,
        .user_id = user_id,
        .user_name = "user",
        .state = how & 2 ? TRACKER_STOPPED : TRACKER_UP,
    };
    require(tracker_core_announce(world->core, &hello, world, world->now, &source, &previous, NULL) == ERR_OK);
    if (world->sources[number] != NULL) {
        require(world->sources[number] == source || source->incarnation > 0);
        tracker_source_release(world->core, world->sources[number]);
    }
    world->sources[number] = source;
}

static void
set_holding(struct world *world, struct tracker_source *source, uint8_t how, const uint8_t *bits)
{
    uint8_t file_id[TRACKER_ID_BYTES] = {how & 1};
    uint8_t segments[3] = {bits[0], bits[1], how & 0x0f};
    struct tracker_holding_view view = {
        .file_id = file_id,
        .segment_count = SEGMENTS,
        .is_complete = (how & 0xe0) == 0x20,
        .is_pull_through = (how & 0xe0) == 0x40,
        .segments = bytes_view_of(segments, sizeof(segments)),
    };
    require(tracker_core_set_holding(world->core, source, source->incarnation, &view, NULL) == ERR_OK);
}

static void
change(struct world *world, struct tracker_source *source, uint8_t how, uint8_t count)
{
    uint8_t file_id[TRACKER_ID_BYTES] = {how & 1};
    struct tracker_range range = {.first = how >> 2, .count = count, .is_gone = (how & 2) != 0};
    struct tracker_change one = {.file_id = file_id, .segment_count = SEGMENTS, .ranges = &range, .range_count = 1};
    enum err err = source->owner == NULL
                       ? ERR_OK
                       : tracker_core_change_holding(world->core, source, source->incarnation, &one, true, NULL);
    bool is_inside = range.first + range.count <= SEGMENTS;
    require(err == ERR_OK || (err == ERR_INVALID && !is_inside));
}

// --- Watching -------------------------------------------------------------------------------------------------------

static void
read_event(struct reader *reader, const struct tracker_event *event)
{
    if (event->source == NULL || event->source->kind == TRACKER_ORIGIN) {
        return;
    }
    size_t number = number_of(event->source);
    if (event->kind == TRACKER_EVENT_SOURCE) {
        reader->is_up[number] = event->source->state == TRACKER_UP;
    }
    for (size_t s = 0; s < SEGMENTS && event->kind == TRACKER_EVENT_HOLDING; s++) {
        struct bytes_view bits = event->holding.segments;
        reader->has[number][s] = event->holding.is_complete || (bits.size > 0 && (bits.data[s / 8] >> s % 8 & 1) != 0);
    }
    for (size_t r = 0; r < event->range_count; r++) {
        for (uint64_t s = 0; s < event->ranges[r].count; s++) {
            reader->has[number][event->ranges[r].first + s] = !event->ranges[r].is_gone;
        }
    }
}

static void
tell(struct world *world, unsigned most)
{
    uint64_t wait_ms = 0;
    struct tracker_watch *due;
    struct tracker_event event;
    for (unsigned told = 0; (due = tracker_core_take_due(world->core, world->now.ms, &wait_ms)) != NULL;) {
        while (tracker_watch_next(world->core, due, &event)) {
            require(told < EVENTS_MAX);
            if (told++ >= most) {
                tracker_watch_again(world->core, due);
                return;
            }
            if (due == world->reader.watch) {
                read_event(&world->reader, &event);
            }
            tracker_watch_told(world->core, due);
        }
    }
}

static void
check(struct world *world)
{
    static const uint8_t file_id[TRACKER_ID_BYTES] = {0};
    struct tracker_found found[TRACKER_SAMPLE_MAX];
    uint64_t live = 0;
    world->now.ms += TRACKER_BATCH_MS;
    tell(world, EVENTS_MAX);
    size_t count = tracker_core_find(world->core, file_id, SEGMENTS, TRACKER_SAMPLE_MAX, found, &live);
    require(count >= 1 && count <= 1 + SOURCES && found[0].source->kind == TRACKER_ORIGIN);
    for (size_t i = 1; i < count; i++) {
        size_t number = number_of(found[i].source);
        struct bytes_view bits = found[i].holding.segments;
        require(found[i].source->state == TRACKER_UP);
        for (size_t s = 0; world->reader.watch != NULL && s < SEGMENTS; s++) {
            bool has = found[i].holding.is_complete || (bits.size > 0 && (bits.data[s / 8] >> s % 8 & 1) != 0);
            require(world->reader.is_up[number] && world->reader.has[number][s] == has);
        }
    }
    for (int strategy = TRACKER_ROUND_ROBIN; strategy <= TRACKER_TWO_CHOICES; strategy++) {
        const struct tracker_source *picked =
            tracker_core_pick(world->core, file_id, 3, (enum tracker_strategy)strategy, world->now.ms);
        require(picked == NULL || picked->state == TRACKER_UP);
    }
}

static void
watch(struct world *world, uint8_t how)
{
    static const uint8_t file_id[TRACKER_ID_BYTES] = {0};
    if (how & 1) {
        tracker_watch_free(world->core, &world->other_watch);
        require(tracker_core_watch(world->core, how & 2 ? file_id : NULL, SEGMENTS, 1 + how % 4, user_id, world,
                    &world->other_watch, NULL) == ERR_OK);
    } else if (world->reader.watch == NULL) {
        world->reader = (struct reader){0};
        require(tracker_core_watch(world->core, file_id, SEGMENTS, TRACKER_SAMPLE_MAX, user_id, world,
                    &world->reader.watch, NULL) == ERR_OK);
    } else {
        tracker_watch_free(world->core, &world->reader.watch);
    }
}

// --- One item -------------------------------------------------------------------------------------------------------

static void
probe(struct world *world, bool is_reachable)
{
    uint64_t wait_ms = 0;
    struct tracker_source *source = tracker_core_take_probe(world->core, world->now.ms, &wait_ms);
    if (source != NULL) {
        tracker_core_probed(world->core, source, source->incarnation, is_reachable, world->now);
        tracker_source_release(world->core, source);
    }
}

static void
act(struct world *world, const uint8_t item[ITEM_BYTES])
{
    size_t number = item[1] % SOURCES;
    struct tracker_source *source = world->sources[number];
    enum tracker_state state = (enum tracker_state)(1 + item[2] % 3);
    struct tracker_load load = {.cpu_permille = item[3], .segments_in_flight = item[2]};
    uint8_t what = item[0] % 12;
    if (what < 2 || (source == NULL && what < 9)) {
        announce(world, number, item[2]);
        return;
    }
    switch (what) {
    case 2:
        tracker_core_leave(world->core, source, source->incarnation, item[2] & 1, world->now);
        break;
    case 3:
        tracker_core_heartbeat(world->core, source, source->incarnation, &load, state, world->now);
        break;
    case 4:
        if (source->owner != NULL) {
            tracker_core_command(world->core, source, state, world->now);
        }
        break;
    case 5:
        tracker_core_blame(world->core, source, source->incarnation, world->now);
        break;
    case 6:
        tracker_core_suspect(world->core, source, source->incarnation, world->now.ms);
        break;
    case 7:
        if (source->owner != NULL) {
            set_holding(world, source, item[2], item + 2);
        }
        break;
    case 8:
        change(world, source, item[2], item[3] % 8);
        break;
    case 9:
        probe(world, item[2] & 1);
        break;
    case 10:
        world->now.ms += (uint64_t)item[2] * 4;
        world->now.unix_ms += item[3];
        tracker_core_tick(world->core, world->now);
        break;
    default:
        watch(world, item[1]);
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t origin_id[TRACKER_ID_BYTES] = {255};
    struct world world = {.now = {.ms = 1000000, .unix_ms = 1700000000000}};
    require(tracker_core_new(origin_id, "origin", 7, world.now, &world.core) == ERR_OK);
    for (size_t at = 0; at + ITEM_BYTES <= size; at += ITEM_BYTES) {
        act(&world, data + at);
        tell(&world, data[at + 1] >> 4);
        if (data[at] >= 0xe0) {
            check(&world);
        }
    }
    check(&world);
    tracker_watch_free(world.core, &world.reader.watch);
    tracker_watch_free(world.core, &world.other_watch);
    for (size_t i = 0; i < SOURCES; i++) {
        if (world.sources[i] != NULL) {
            tracker_source_release(world.core, world.sources[i]);
        }
    }
    tracker_core_free(&world.core);
    return 0;
}
