// Files, and what sources have of them. What is complete costs no bitmap.
#include <stdlib.h>
#include <string.h>

#include "services/tracker/tracker_core_priv.h"

// --- Files ----------------------------------------------------------------------------------------------------------

struct tracker_file *
tracker_files_find(struct tracker_core *core, const uint8_t id[TRACKER_ID_BYTES])
{
    struct tracker_file *file = NULL;
    HASH_FIND(hh, core->files, id, TRACKER_ID_BYTES, file);
    return file;
}

struct tracker_file *
tracker_files_get(struct tracker_core *core, const uint8_t id[TRACKER_ID_BYTES], uint64_t segment_count)
{
    struct tracker_file *file = tracker_files_find(core, id);
    if (file != NULL) {
        return file;
    }
    file = calloc(1, sizeof(*file));
    if (file == NULL) {
        return NULL;
    }
    memcpy(file->id, id, TRACKER_ID_BYTES);
    file->segment_count = segment_count;
    LIST_INIT(&file->topic.watches);
    HASH_ADD(hh, core->files, id, TRACKER_ID_BYTES, file);
    if (file->hh.tbl == NULL) {
        free(file);
        return NULL;
    }
    core->file_count++;
    return file;
}

void
tracker_files_drop_unused(struct tracker_core *core, struct tracker_file *file)
{
    if (file->count == 0 && file->mirror_count == 0 && LIST_EMPTY(&file->topic.watches)) {
        tracker_topic_forget(core, &file->topic);
        HASH_DELETE(hh, core->files, file);
        core->file_count--;
        free(file->holdings);
        free(file);
    }
}

// --- A file's holdings, in their three parts ------------------------------------------------------------------------

static void
place(struct tracker_file *file, size_t index, struct tracker_holding *holding)
{
    file->holdings[index] = holding;
    holding->index = index;
}

static void
swap(struct tracker_file *file, size_t a, size_t b)
{
    struct tracker_holding *at_a = file->holdings[a];
    place(file, a, file->holdings[b]);
    place(file, b, at_a);
}

// Moves a holding to the last part.
static void
rest(struct tracker_file *file, struct tracker_holding *holding)
{
    if (holding->index < file->complete_count) {
        file->complete_count--;
        swap(file, holding->index, file->complete_count);
    }
    if (holding->index < file->up_count) {
        file->up_count--;
        swap(file, holding->index, file->up_count);
    }
}

void
tracker_files_settle(struct tracker_core *core, struct tracker_holding *holding)
{
    struct tracker_file *file = holding->file;
    (void)core;
    if (tracker_source_is_mirror(holding->source)) {
        return;
    }
    rest(file, holding);
    if (holding->source->state == TRACKER_UP) {
        swap(file, holding->index, file->up_count);
        file->up_count++;
        if (holding->is_complete) {
            swap(file, holding->index, file->complete_count);
            file->complete_count++;
        }
    }
}

static enum err
list_holding(struct tracker_core *core, struct tracker_holding *holding)
{
    struct tracker_file *file = holding->file;
    if (tracker_source_is_mirror(holding->source)) {
        file->mirror_count++;
        return ERR_OK;
    }
    if (file->count == file->capacity) {
        size_t capacity = file->capacity == 0 ? 4 : file->capacity * 2;
        struct tracker_holding **grown = realloc(file->holdings, capacity * sizeof(struct tracker_holding *));
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        file->holdings = grown;
        file->capacity = capacity;
    }
    place(file, file->count, holding);
    file->count++;
    tracker_files_settle(core, holding);
    return ERR_OK;
}

static void
unlist_holding(struct tracker_holding *holding)
{
    struct tracker_file *file = holding->file;
    if (tracker_source_is_mirror(holding->source)) {
        file->mirror_count--;
        return;
    }
    rest(file, holding);
    file->count--;
    swap(file, holding->index, file->count);
}

// --- Holdings -------------------------------------------------------------------------------------------------------

struct tracker_holding *
tracker_files_holding(struct tracker_core *core, const struct tracker_source *source, const struct tracker_file *file)
{
    struct tracker_holding_key key = {.source = source, .file = file};
    struct tracker_holding *holding = NULL;
    HASH_FIND(hh, core->holdings, &key, sizeof(key), holding);
    return holding;
}

bool
tracker_holding_has(const struct tracker_holding *holding, uint64_t segment)
{
    if (holding->is_complete || holding->is_pull_through) {
        return true;
    }
    return holding->segments != NULL && segment / 8 < holding->segments_bytes &&
           (holding->segments[segment / 8] >> (segment % 8) & 1) != 0;
}

struct tracker_holding_view
tracker_files_view(struct tracker_core *core, const struct tracker_source *source, const struct tracker_file *file,
    const uint8_t *file_id, uint64_t segment_count)
{
    struct tracker_holding *holding = file != NULL ? tracker_files_holding(core, source, file) : NULL;
    struct tracker_holding_view view = {.file_id = file_id, .segment_count = segment_count};
    if (source->kind == TRACKER_ORIGIN) {
        view.is_complete = true;
    } else if (source->kind == TRACKER_MIRROR) {
        view.is_pull_through = true;
    }
    if (holding != NULL) {
        view.is_complete = view.is_complete || holding->is_complete;
        view.is_pull_through = view.is_pull_through || holding->is_pull_through;
        view.segments = bytes_view_of(holding->segments, holding->segments_bytes);
    }
    return view;
}

static void
drop_bitmap(struct tracker_core *core, struct tracker_holding *holding)
{
    core->bitmap_bytes -= holding->segments_bytes;
    holding->source->bitmap_bytes -= holding->segments_bytes;
    free(holding->segments);
    holding->segments = NULL;
    holding->segments_bytes = 0;
    holding->set_count = 0;
}

static void
remove_holding(struct tracker_core *core, struct tracker_holding *holding, bool is_urgent)
{
    struct tracker_file *file = holding->file;
    tracker_topic_touch(core, &file->topic, is_urgent);
    unlist_holding(holding);
    drop_bitmap(core, holding);
    LIST_REMOVE(holding, of_source);
    holding->source->holding_count--;
    HASH_DELETE(hh, core->holdings, holding);
    core->holding_count--;
    free(holding->log);
    free(holding);
    tracker_files_drop_unused(core, file);
}

void
tracker_files_forget_source(struct tracker_core *core, struct tracker_source *source)
{
    struct tracker_holding *holding;
    while ((holding = LIST_FIRST(&source->holdings)) != NULL) {
        remove_holding(core, holding, true);
    }
}

static enum err
check_more(const struct tracker_core *core, const struct tracker_source *source, struct err_detail *why)
{
    if (source->holding_count >= TRACKER_FILES_PER_SOURCE_MAX) {
        return err_fail(why, ERR_LIMIT, "a source may announce %d files", TRACKER_FILES_PER_SOURCE_MAX);
    }
    if (core->holding_count >= TRACKER_HOLDINGS_MAX) {
        return err_fail(why, ERR_LIMIT, "the tracker keeps %d announcements of files, which is the most",
            TRACKER_HOLDINGS_MAX);
    }
    return ERR_OK;
}

static enum err
add_holding(struct tracker_core *core, struct tracker_source *source, struct tracker_file *file, struct err_detail *why,
    struct tracker_holding **out)
{
    enum err err = check_more(core, source, why);
    if (err != ERR_OK) {
        return err;
    }
    struct tracker_holding *holding = calloc(1, sizeof(*holding));
    if (holding == NULL) {
        return ERR_NO_MEMORY;
    }
    holding->key = (struct tracker_holding_key){.source = source, .file = file};
    holding->source = source;
    holding->file = file;
    holding->version = ++core->versions;
    HASH_ADD(hh, core->holdings, key, sizeof(holding->key), holding);
    if (holding->hh.tbl == NULL) {
        free(holding);
        return ERR_NO_MEMORY;
    }
    if (list_holding(core, holding) != ERR_OK) {
        HASH_DELETE(hh, core->holdings, holding);
        free(holding);
        return ERR_NO_MEMORY;
    }
    LIST_INSERT_HEAD(&source->holdings, holding, of_source);
    source->holding_count++;
    core->holding_count++;
    *out = holding;
    return ERR_OK;
}

static size_t
bitmap_bytes(uint64_t segment_count)
{
    uint64_t bytes = segment_count / 8 + (segment_count % 8 != 0);
    return bytes < TRACKER_HOLDING_MAX_BYTES ? (size_t)bytes : (size_t)TRACKER_HOLDING_MAX_BYTES;
}

static enum err
make_bitmap(struct tracker_core *core, struct tracker_holding *holding, struct err_detail *why)
{
    size_t size = bitmap_bytes(holding->file->segment_count);
    if (holding->segments != NULL || size == 0) {
        return ERR_OK;
    }
    if (holding->source->bitmap_bytes + size > TRACKER_BITMAPS_PER_SOURCE_MAX_BYTES ||
        core->bitmap_bytes + size > TRACKER_BITMAPS_MAX_BYTES) {
        return err_fail(why, ERR_LIMIT, "the tracker keeps no more about which segments there are");
    }
    holding->segments = calloc(1, size);
    if (holding->segments == NULL) {
        return ERR_NO_MEMORY;
    }
    holding->segments_bytes = size;
    holding->source->bitmap_bytes += size;
    core->bitmap_bytes += size;
    return ERR_OK;
}

// What has all its bits set needs none.
static void
complete_if_full(struct tracker_core *core, struct tracker_holding *holding)
{
    if (!holding->is_complete && holding->set_count == holding->file->segment_count) {
        holding->is_complete = true;
        drop_bitmap(core, holding);
        tracker_files_settle(core, holding);
    }
}

static bool
is_bitmap_right(struct bytes_view segments, uint64_t segment_count)
{
    if (segments.size > bitmap_bytes(segment_count)) {
        return false;
    }
    bool has_last = segments.size != 0 && segments.size == segment_count / 8 + 1;
    return !has_last || segments.data[segments.size - 1] >> (segment_count % 8) == 0;
}

static uint64_t
count_bits(struct bytes_view segments)
{
    uint64_t count = 0;
    for (size_t i = 0; i < segments.size; i++) {
        count += (uint64_t)__builtin_popcount(segments.data[i]);
    }
    return count;
}

static enum err
fill_holding(struct tracker_core *core, struct tracker_holding *holding, const struct tracker_holding_view *view,
    struct err_detail *why)
{
    enum err err = ERR_OK;
    drop_bitmap(core, holding);
    holding->is_pull_through = view->is_pull_through;
    holding->is_complete = view->is_complete;
    if (!view->is_complete && view->segments.size > 0) {
        err = make_bitmap(core, holding, why);
    }
    if (holding->segments != NULL) {
        memcpy(holding->segments, view->segments.data, view->segments.size);
        holding->set_count = count_bits(view->segments);
    }
    tracker_files_settle(core, holding);
    complete_if_full(core, holding);
    // It was not told by changes: whoever watches gets all of it.
    holding->version = ++core->versions;
    free(holding->log);
    holding->log = NULL;
    return err;
}

enum err
tracker_core_set_holding(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    const struct tracker_holding_view *view, struct err_detail *why)
{
    struct tracker_holding *holding = NULL;
    if (incarnation != source->incarnation) {
        return ERR_OK;
    }
    core->announcements++;
    if (!is_bitmap_right(view->segments, view->segment_count)) {
        return err_fail(why, ERR_INVALID, "a file of %llu segments has other bits than these",
            (unsigned long long)view->segment_count);
    }
    struct tracker_file *file = tracker_files_get(core, view->file_id, view->segment_count);
    if (file == NULL) {
        return ERR_NO_MEMORY;
    }
    holding = tracker_files_holding(core, source, file);
    if (file->segment_count != view->segment_count) {
        return err_fail(why, ERR_INVALID, "the file has %llu segments", (unsigned long long)file->segment_count);
    }
    if (!view->is_complete && !view->is_pull_through && count_bits(view->segments) == 0) {
        if (holding != NULL) {
            remove_holding(core, holding, false);
        } else {
            tracker_files_drop_unused(core, file);
        }
        return ERR_OK;
    }
    enum err err = ERR_OK;
    if (holding == NULL) {
        err = add_holding(core, source, file, why, &holding);
        if (err != ERR_OK) {
            tracker_files_drop_unused(core, file);
            return err;
        }
    }
    err = fill_holding(core, holding, view, why);
    tracker_topic_touch(core, &file->topic, false);
    if (err != ERR_OK) {
        remove_holding(core, holding, false);
    }
    return err;
}

// --- Changes --------------------------------------------------------------------------------------------------------

static void
log_change(struct tracker_core *core, struct tracker_holding *holding, const struct tracker_range *range)
{
    uint64_t before = holding->version;
    struct tracker_log *log = holding->log;
    holding->version = ++core->versions;
    if (LIST_EMPTY(&holding->file->topic.watches)) {
        free(log);
        holding->log = NULL;
        return;
    }
    if (log == NULL) {
        log = calloc(1, sizeof(*log));
        holding->log = log;
        if (log == NULL) {
            return; // then all of it is told
        }
        log->base = before;
    }
    if (log->count == TRACKER_LOG_RANGES) {
        log->base = log->entries[log->first].version;
        log->first = (log->first + 1) % TRACKER_LOG_RANGES;
        log->count--;
    }
    unsigned at = (log->first + log->count) % TRACKER_LOG_RANGES;
    log->entries[at].version = holding->version;
    log->entries[at].range = *range;
    log->count++;
}

static void
set_bits(struct tracker_holding *holding, const struct tracker_range *range)
{
    uint64_t end = range->first + range->count;
    uint64_t bits = (uint64_t)holding->segments_bytes * 8;
    for (uint64_t i = range->first; i < end && i < bits; i++) {
        uint8_t mask = (uint8_t)(1U << (i % 8));
        bool was_set = (holding->segments[i / 8] & mask) != 0;
        if (range->is_gone && was_set) {
            holding->segments[i / 8] = (uint8_t)(holding->segments[i / 8] & ~mask);
            holding->set_count--;
        } else if (!range->is_gone && !was_set) {
            holding->segments[i / 8] |= mask;
            holding->set_count++;
        }
    }
}

// A complete one that loses something is one with a bitmap again.
static enum err
open_bitmap(struct tracker_core *core, struct tracker_holding *holding, struct err_detail *why)
{
    uint64_t segment_count = holding->file->segment_count;
    enum err err = make_bitmap(core, holding, why);
    if (err == ERR_OK && holding->is_complete) {
        struct tracker_range all = {.count = segment_count};
        holding->is_complete = false;
        set_bits(holding, &all);
        tracker_files_settle(core, holding);
    }
    return err;
}

static enum err
check_change(const struct tracker_change *change, uint64_t segment_count, struct err_detail *why)
{
    if (change->segment_count != segment_count || change->range_count > TRACKER_RANGES_MAX) {
        return err_fail(why, ERR_INVALID, "the file has %llu segments, and a change at most %d ranges",
            (unsigned long long)segment_count, TRACKER_RANGES_MAX);
    }
    for (size_t i = 0; i < change->range_count; i++) {
        const struct tracker_range *range = &change->ranges[i];
        if (range->first > segment_count || range->count > segment_count - range->first) {
            return err_fail(why, ERR_INVALID, "a range goes beyond the file's %llu segments",
                (unsigned long long)segment_count);
        }
    }
    return ERR_OK;
}

enum err
tracker_core_change_holding(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    const struct tracker_change *change, bool may_add, struct err_detail *why)
{
    struct tracker_file *file = may_add ? tracker_files_get(core, change->file_id, change->segment_count)
                                        : tracker_files_find(core, change->file_id);
    struct tracker_holding *holding = file != NULL ? tracker_files_holding(core, source, file) : NULL;
    enum err err = ERR_OK;
    if (incarnation == source->incarnation) {
        core->announcements++;
        if (file == NULL || (holding == NULL && !may_add)) {
            return may_add ? ERR_NO_MEMORY : ERR_NOT_FOUND;
        }
        err = check_change(change, file->segment_count, why);
        if (err == ERR_OK && holding == NULL) {
            err = add_holding(core, source, file, why, &holding);
        }
    }
    if (err != ERR_OK || holding == NULL || incarnation != source->incarnation) {
        if (file != NULL) {
            tracker_files_drop_unused(core, file);
        }
        return err;
    }
    for (size_t i = 0; err == ERR_OK && i < change->range_count; i++) {
        const struct tracker_range *range = &change->ranges[i];
        if (holding->is_complete && !range->is_gone) {
            continue;
        }
        err = open_bitmap(core, holding, why);
        if (err == ERR_OK) {
            set_bits(holding, range);
            log_change(core, holding, range);
            complete_if_full(core, holding);
        }
    }
    tracker_topic_touch(core, &file->topic, false);
    return err;
}
