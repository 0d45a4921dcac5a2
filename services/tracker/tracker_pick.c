// Choices among the sources of a file.
//
// Candidates are numbered: first the origin, then the mirrors, then the file's holdings whose sources are up. A random
// number so is a random candidate, however many there are.
#include <string.h>

#include "services/tracker/tracker_core_priv.h"

enum {
    DRAWS_PER_CHOICE = 4, // before what is left is looked through one by one
    PICK_DRAWS = 8,
    LOAD_FRESH_MS = TRACKER_HEARTBEAT_MS * TRACKER_HEARTBEATS_MISSED,
    DISPATCH_PERMILLE = 10, // what a source that was picked is taken to be busier by, until it says how busy it is
};

// --- Candidates -----------------------------------------------------------------------------------------------------

static size_t
candidate_count(const struct tracker_core *core, const struct tracker_file *file)
{
    return 1 + core->mirror_count + (file != NULL ? file->up_count : 0);
}

static struct tracker_source *
candidate(const struct tracker_core *core, const struct tracker_file *file, size_t index)
{
    if (index == 0) {
        return core->origin;
    }
    index--;
    return index < core->mirror_count ? core->mirrors[index] : file->holdings[index - core->mirror_count]->source;
}

uint64_t
tracker_pick_live(struct tracker_core *core, const struct tracker_file *file)
{
    return candidate_count(core, file) - (core->origin->state != TRACKER_UP);
}

static bool
is_fresh(const struct tracker_source *source, uint64_t now_ms)
{
    return source->load_ms != 0 && now_ms - source->load_ms <= LOAD_FRESH_MS;
}

// --- A sample -------------------------------------------------------------------------------------------------------

static bool
is_among(struct tracker_source *const *chosen, size_t count, const struct tracker_source *source)
{
    for (size_t i = 0; i < count; i++) {
        if (chosen[i] == source) {
            return true;
        }
    }
    return false;
}

static const struct tracker_source *
less_loaded(const struct tracker_source *a, const struct tracker_source *b)
{
    if (a->load.segments_in_flight != b->load.segments_in_flight) {
        return a->load.segments_in_flight < b->load.segments_in_flight ? a : b;
    }
    return a->load.cpu_permille <= b->load.cpu_permille ? a : b;
}

// Adds up to `wanted` of the candidates from `first` on: of two at random each time the less loaded one. When that does
// not find enough that are new, they are taken as they come.
static size_t
add_some(struct tracker_core *core, struct tracker_file *file, size_t first, size_t range, size_t wanted,
    struct tracker_source **chosen, size_t count)
{
    size_t goal = count + wanted;
    if (range == 0) {
        return count;
    }
    for (size_t draws = range > wanted ? DRAWS_PER_CHOICE * wanted : 0; draws > 0 && count < goal; draws--) {
        struct tracker_source *a = candidate(core, file, first + tracker_random(core) % range);
        struct tracker_source *b = candidate(core, file, first + tracker_random(core) % range);
        struct tracker_source *better = less_loaded(a, b) == a ? a : b;
        if (!is_among(chosen, count, better)) {
            chosen[count++] = better;
        }
    }
    size_t start = tracker_random(core) % range;
    for (size_t i = 0; i < range && count < goal; i++) {
        struct tracker_source *source = candidate(core, file, first + (start + i) % range);
        if (!is_among(chosen, count, source)) {
            chosen[count++] = source;
        }
    }
    return count;
}

static size_t
at_most(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t
tracker_pick_more(struct tracker_core *core, struct tracker_file *file, struct tracker_source **chosen, size_t count,
    size_t limit)
{
    size_t mirrors = core->mirror_count;
    size_t complete = file != NULL ? file->complete_count : 0;
    size_t partial = file != NULL ? file->up_count - complete : 0;
    size_t room = limit - count;
    if (mirrors + complete + partial > room) {
        // A quarter each for those from whom everything can be had, so that no segment is missing from the sample.
        count = add_some(core, file, 1, mirrors, at_most(room / 4, mirrors), chosen, count);
        count = add_some(core, file, 1 + mirrors, complete, at_most(room / 4, complete), chosen, count);
        count = add_some(core, file, 1 + mirrors + complete, partial, limit - count, chosen, count);
    }
    return add_some(core, file, 1, mirrors + complete + partial, limit - count, chosen, count);
}

size_t
tracker_core_find(struct tracker_core *core, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment_count,
    size_t limit, struct tracker_found out[TRACKER_SAMPLE_MAX], uint64_t *live_out)
{
    struct tracker_file *file = tracker_files_find(core, file_id);
    struct tracker_source *chosen[TRACKER_SAMPLE_MAX] = {core->origin};
    size_t count = tracker_pick_more(core, file, chosen, 1, at_most(limit, TRACKER_SAMPLE_MAX));
    for (size_t i = 0; i < count; i++) {
        out[i].source = chosen[i];
        out[i].holding = tracker_files_view(core, chosen[i], file, file_id, segment_count);
    }
    *live_out = tracker_pick_live(core, file);
    return count;
}

// --- One ------------------------------------------------------------------------------------------------------------

static bool
can_serve(struct tracker_core *core, const struct tracker_file *file, size_t index, uint64_t segment)
{
    if (index == 0) {
        return core->origin->state == TRACKER_UP;
    }
    return index <= core->mirror_count || tracker_holding_has(file->holdings[index - 1 - core->mirror_count], segment);
}

// The first from `start` on, going round. NULL: none.
static struct tracker_source *
next_that_can(struct tracker_core *core, const struct tracker_file *file, size_t start, uint64_t segment,
    size_t *index_out)
{
    size_t count = candidate_count(core, file);
    for (size_t i = 0; i < count; i++) {
        size_t index = (start + i) % count;
        if (can_serve(core, file, index, segment)) {
            *index_out = index;
            return candidate(core, file, index);
        }
    }
    return NULL;
}

static struct tracker_source *
random_that_can(struct tracker_core *core, const struct tracker_file *file, uint64_t segment)
{
    size_t count = candidate_count(core, file);
    size_t index = 0;
    for (unsigned draw = 0; draw < PICK_DRAWS; draw++) {
        index = tracker_random(core) % count;
        if (can_serve(core, file, index, segment)) {
            return candidate(core, file, index);
        }
    }
    return next_that_can(core, file, index, segment, &index);
}

// How busy a source is taken to be. An old report says nothing any more: only what it was picked for since counts.
static uint64_t
busyness(const struct tracker_source *source, enum tracker_strategy strategy, uint64_t now_ms)
{
    if (strategy == TRACKER_LEAST_CPU) {
        return (is_fresh(source, now_ms) ? source->load.cpu_permille : 0) +
               (uint64_t)source->dispatched * DISPATCH_PERMILLE;
    }
    return (uint64_t)(is_fresh(source, now_ms) ? source->load.segments_in_flight : 0) + source->dispatched;
}

struct tracker_source *
tracker_core_pick(struct tracker_core *core, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment,
    enum tracker_strategy strategy, uint64_t now_ms)
{
    struct tracker_file *file = tracker_files_find(core, file_id);
    size_t *next = file != NULL ? &file->next_pick : &core->next_pick;
    struct tracker_source *picked = NULL;
    size_t index = 0;
    if (strategy == TRACKER_ROUND_ROBIN) {
        picked = next_that_can(core, file, *next % candidate_count(core, file), segment, &index);
        *next = index + 1;
    } else {
        picked = random_that_can(core, file, segment);
    }
    if (picked != NULL && (strategy == TRACKER_LEAST_CPU || strategy == TRACKER_TWO_CHOICES)) {
        struct tracker_source *other = random_that_can(core, file, segment);
        picked = busyness(other, strategy, now_ms) < busyness(picked, strategy, now_ms) ? other : picked;
    }
    if (picked != NULL) {
        picked->dispatched++;
    }
    return picked;
}
