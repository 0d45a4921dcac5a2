// For the sources of the core only: what it keeps. Files and holdings are in tracker_files.c, choices in
// tracker_pick.c, watchers in tracker_watch.c, sources in tracker_core.c.
#ifndef TRACKER_TRACKER_CORE_PRIV_H
#define TRACKER_TRACKER_CORE_PRIV_H

#include "services/tracker/tracker_core.h"

enum {
    TRACKER_LOG_RANGES = 32, // changes of a holding that are remembered for its watchers
};

// The last changes of a holding, oldest first from `first` on. A watcher that was told version `base` or a later one
// needs no more than these.
struct tracker_log {
    uint64_t base;
    unsigned first;
    unsigned count;
    struct {
        uint64_t version; // of the holding after it
        struct tracker_range range;
    } entries[TRACKER_LOG_RANGES];
};

struct tracker_holding_key {
    const struct tracker_source *source;
    const struct tracker_file *file;
};

struct tracker_holding {
    struct tracker_holding_key key; // of the table
    struct tracker_source *source;
    struct tracker_file *file;
    size_t index; // among the file's
    bool is_complete;
    bool is_pull_through;
    uint8_t *segments; // NULL: complete, or nothing but pull-through
    size_t segments_bytes;
    uint64_t set_count; // bits in it
    uint64_t version;
    struct tracker_log *log; // while the file is watched
    LIST_ENTRY(tracker_holding) of_source;
    UT_hash_handle hh;
};

LIST_HEAD(tracker_watch_list, tracker_watch);

// What watches watch: a file, or all sources.
struct tracker_topic {
    struct tracker_watch_list watches;
    bool is_pending; // something has changed
    bool is_urgent;  // and its watchers are told at once
    uint64_t told_ms;
    TAILQ_ENTRY(tracker_topic) pending;
};

TAILQ_HEAD(tracker_topic_queue, tracker_topic);

struct tracker_file {
    uint8_t id[TRACKER_ID_BYTES];
    uint64_t segment_count;
    // Those of sources that are no mirrors: first the complete ones of sources that are up, then the others of sources
    // that are up, then those of sources that are not.
    struct tracker_holding **holdings;
    size_t complete_count;
    size_t up_count; // with the complete ones
    size_t count;
    size_t capacity;
    size_t mirror_count; // holdings of mirrors, which are in the table only
    size_t next_pick;
    struct tracker_topic topic;
    LIST_ENTRY(tracker_file) watched; // while it has watches
    UT_hash_handle hh;
};

LIST_HEAD(tracker_file_list, tracker_file);

struct tracker_slot {
    struct tracker_source *source; // a reference
    uint64_t source_version;       // told; 0: nothing
    uint64_t holding_version;      // told; 0: nothing
};

// One a watch is to be told something of by what tracker_watch_next has found.
enum tracker_step {
    TRACKER_STEP_NONE,
    TRACKER_STEP_SOURCE,
    TRACKER_STEP_HOLDING,
    TRACKER_STEP_CAUGHT_UP,
};

struct tracker_watch {
    struct tracker_file *file; // NULL: all sources
    struct tracker_topic *topic;
    void *owner;
    uint8_t user_id[TRACKER_ID_BYTES];
    bool is_caught_up;
    bool is_pending;
    enum tracker_step step;
    LIST_ENTRY(tracker_watch) in_topic;
    TAILQ_ENTRY(tracker_watch) pending;
    // Of all sources: the last change that was told, and whose it was (a reference).
    uint64_t told_change;
    struct tracker_source *told_source;
    struct tracker_source *step_source;
    // Of a file.
    size_t at; // those before it are told
    size_t limit;
    size_t slot_count;
    struct tracker_slot slots[];
};

TAILQ_HEAD(tracker_watch_queue, tracker_watch);

struct tracker_core {
    struct tracker_source *sources; // table
    size_t source_count;
    struct tracker_source *origin;
    struct tracker_source_queue by_change; // the newest last
    struct tracker_source_queue heard;     // alive, the longest silent first
    struct tracker_source_queue gone;      // the longest gone first
    size_t gone_count;
    struct tracker_source_queue probes; // that have a stream; the next to be asked first
    size_t probe_count;
    struct tracker_source **mirrors; // that are up
    size_t mirror_count;
    size_t mirror_capacity;

    struct tracker_file *files; // table
    size_t file_count;
    struct tracker_file_list watched;
    struct tracker_holding *holdings; // table
    size_t holding_count;
    uint64_t bitmap_bytes;

    struct tracker_topic all;
    struct tracker_topic_queue pending_topics;
    struct tracker_watch_queue pending_watches;
    size_t watch_count;
    struct tracker_range scratch[TRACKER_LOG_RANGES];

    uint64_t versions; // given out
    uint64_t random;
    size_t next_pick; // of files that nobody has announced
    uint64_t ticked_ms;
    uint64_t no_deaths_before_ms;
    uint64_t announcements;
    uint64_t deaths;
    uint64_t bad_segments;
};

// In tracker_core.c.
uint64_t tracker_random(struct tracker_core *core);
bool tracker_source_is_mirror(const struct tracker_source *source); // has whatever it is asked for: the origin too

// In tracker_files.c.
struct tracker_file *tracker_files_find(struct tracker_core *core, const uint8_t id[TRACKER_ID_BYTES]);
struct tracker_file *tracker_files_get(struct tracker_core *core, const uint8_t id[TRACKER_ID_BYTES],
    uint64_t segment_count); // finds or makes it; NULL: no memory
void tracker_files_drop_unused(struct tracker_core *core, struct tracker_file *file);
struct tracker_holding *tracker_files_holding(struct tracker_core *core, const struct tracker_source *source,
    const struct tracker_file *file);
void tracker_files_forget_source(struct tracker_core *core, struct tracker_source *source);
void tracker_files_settle(struct tracker_core *core, struct tracker_holding *holding); // after its source's state or it
                                                                                       // has changed
bool tracker_holding_has(const struct tracker_holding *holding, uint64_t segment);
struct tracker_holding_view tracker_files_view(struct tracker_core *core, const struct tracker_source *source,
    const struct tracker_file *file, const uint8_t *file_id, uint64_t segment_count);

// In tracker_pick.c: adds sources of a file, that are not among the `count` that are chosen, until there are `limit`.
size_t tracker_pick_more(struct tracker_core *core, struct tracker_file *file, struct tracker_source **chosen,
    size_t count, size_t limit);
uint64_t tracker_pick_live(struct tracker_core *core, const struct tracker_file *file);

// In tracker_watch.c.
void tracker_topic_touch(struct tracker_core *core, struct tracker_topic *topic, bool is_urgent);
void tracker_topic_forget(struct tracker_core *core, struct tracker_topic *topic);

#endif
