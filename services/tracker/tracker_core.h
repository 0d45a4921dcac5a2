// What the tracker knows: sources, what they have of which files, who of them lives, and what its watchers have not
// been told yet. Decisions only: no clock, no network, no lock of its own. One thread at a time.
//
// Watchers are not sent a history: each remembers which version of what it has been told, and is told what is newer.
// So a slow one costs no more than a fast one, and late news cannot undo newer ones.
#ifndef TRACKER_TRACKER_CORE_H
#define TRACKER_TRACKER_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    TRACKER_ID_BYTES = 16,
    TRACKER_CERTIFICATE_BYTES = 32,
    TRACKER_NAME_BYTES = 65,      // with its NUL
    TRACKER_USER_NAME_BYTES = 65, // with its NUL
    TRACKER_URLS_MAX = 4,
    TRACKER_SAMPLE_MAX = 64, // sources that one reader is told of
    TRACKER_SAMPLE_DEFAULT = 32,
    TRACKER_HEARTBEAT_MS = 250,
    TRACKER_HEARTBEATS_MISSED = 3,
    TRACKER_BATCH_MS = 100,                  // between two batches of changes for a watcher
    TRACKER_HOLDING_MAX_BYTES = 1024 * 1024, // of one bitmap
    TRACKER_RANGES_MAX = 4096,               // of one change
    TRACKER_SOURCES_MAX = 16384,             // each costs some 600 bytes
    TRACKER_SOURCES_PER_USER_MAX = 64,       // of who is no administrator
    TRACKER_FILES_PER_SOURCE_MAX = 65536,    //
    TRACKER_HOLDINGS_MAX = 1024 * 1024,      // in all, some 200 bytes each
    TRACKER_BITMAPS_PER_SOURCE_MAX_BYTES = 8 * 1024 * 1024,
    TRACKER_BITMAPS_MAX_BYTES = 256 * 1024 * 1024,
    TRACKER_WATCHES_MAX = 4096, // some 3 KiB each
    TRACKER_WATCHES_PER_USER_MAX = 64,
};

// The numbers of fc.tracker.v1.
enum tracker_kind {
    TRACKER_ORIGIN = 1,
    TRACKER_MIRROR = 2,
    TRACKER_PEER = 3,
};

enum tracker_state {
    TRACKER_UP = 1,
    TRACKER_DRAINING = 2,
    TRACKER_STOPPED = 3,
    TRACKER_DEAD = 4,
    TRACKER_QUARANTINED = 5,
};

enum tracker_strategy {
    TRACKER_ROUND_ROBIN = 1,
    TRACKER_RANDOM = 2,
    TRACKER_LEAST_CPU = 3,
    TRACKER_TWO_CHOICES = 4,
};

struct tracker_now {
    uint64_t ms;     // on clock_monotonic_ms
    int64_t unix_ms; // for people
};

// As fc.segment.v1.Load.
struct tracker_load {
    uint32_t cpu_permille;
    uint32_t connections;
    uint32_t segments_in_flight;
    uint64_t sent_bytes;
    uint64_t sent_bytes_per_s;
    uint64_t limit_bytes_per_s;
    uint64_t stored_bytes;
    uint64_t budget_bytes;
    uint64_t file_count;
    uint64_t segment_count;
    uint64_t sent_segments;
};

struct tracker_core;
struct tracker_file;
struct tracker_holding;

LIST_HEAD(tracker_holding_list, tracker_holding);

// tracker_source is read by others than the core, and changed by none.
struct tracker_source {
    uint8_t id[TRACKER_ID_BYTES];
    uint64_t incarnation;
    char name[TRACKER_NAME_BYTES];
    char user_name[TRACKER_USER_NAME_BYTES];
    uint8_t user_id[TRACKER_ID_BYTES];
    enum tracker_kind kind;
    enum tracker_state state;
    int64_t since_unix_ms; // in this state
    size_t url_count;
    char *urls[TRACKER_URLS_MAX];
    bool has_certificate;
    uint8_t certificate_sha256[TRACKER_CERTIFICATE_BYTES];
    struct tracker_load load;
    uint32_t bad_segments;
    void *owner; // of the service: its stream; NULL: it has left

    // Private.
    enum tracker_state said; // by itself: up, draining or stopped
    bool is_alive;           // by its heartbeats
    bool is_reachable;       // by the tracker's own attempts
    bool is_quarantined;
    bool is_commanded; // told to change to `said`, and not heard doing so
    uint64_t commanded_ms;
    uint64_t heard_ms;
    uint64_t load_ms;      // of the load; 0: none yet
    uint64_t told_load_ms; // when watchers were last told of a load
    uint32_t dispatched;   // picked since the load
    uint64_t version;      // of what is said of it
    uint64_t change;       // the core's count when it changed
    unsigned references;
    size_t holding_count;
    size_t bitmap_bytes;
    struct tracker_holding_list holdings;
    size_t mirror_index; // among those that live
    bool is_listed_mirror;
    bool is_heard_listed;
    bool is_probe_listed;
    bool is_probing;
    bool is_suspected; // while it is being probed: once more, then
    uint64_t probe_ms; // when it is due
    unsigned failed_probes;
    TAILQ_ENTRY(tracker_source) by_change;
    TAILQ_ENTRY(tracker_source) by_heard; // of those that are alive; of those that have left by when
    TAILQ_ENTRY(tracker_source) by_probe;
    UT_hash_handle hh;
};

TAILQ_HEAD(tracker_source_queue, tracker_source);

// What a source has of a file, as watchers are told.
struct tracker_holding_view {
    const uint8_t *file_id;
    uint64_t segment_count;
    bool is_complete;
    bool is_pull_through;
    struct bytes_view segments;
};

struct tracker_range {
    uint64_t first;
    uint64_t count;
    bool is_gone;
};

struct tracker_change {
    const uint8_t *file_id;
    uint64_t segment_count;
    const struct tracker_range *ranges;
    size_t range_count;
};

// A new tracker's only source is the origin, whose id and name these are.
enum err tracker_core_new(const uint8_t origin_id[TRACKER_ID_BYTES], const char *origin_name, uint64_t seed,
    struct tracker_now now, struct tracker_core **out) ERR_CHECKED;
void tracker_core_free(struct tracker_core **core);
struct tracker_source *tracker_core_origin(struct tracker_core *core);

// --- Sources --------------------------------------------------------------------------------------------------------

// Who a source says that it is. Borrowed.
struct tracker_hello {
    const uint8_t *id;
    uint64_t incarnation; // of its last announcement, as far as it knows
    const char *name;
    enum tracker_kind kind;
    size_t url_count;
    char *const *urls;
    const uint8_t *certificate_sha256; // NULL: none
    const uint8_t *user_id;
    const char *user_name;
    bool is_admin;
    struct tracker_load load;
    enum tracker_state state;
};

// tracker_core_announce makes the source known, or takes it for started anew: its incarnation grows, and what it had is
// forgotten. *previous_owner_out is the owner of its announcement before, if that lasts; owner takes its place.
// ERR_INVALID: the hello is none; ERR_DENIED: the id is another user's; ERR_LIMIT: too many.
enum err tracker_core_announce(struct tracker_core *core, const struct tracker_hello *hello, void *owner,
    struct tracker_now now, struct tracker_source **out, void **previous_owner_out, struct err_detail *why) ERR_CHECKED;

// What follows is of one incarnation: of an older one it does nothing.

// tracker_core_heartbeat: the source lives. state is up, draining or stopped.
void tracker_core_heartbeat(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    const struct tracker_load *load, enum tracker_state state, struct tracker_now now);

// tracker_core_leave: its stream has ended. It is dead, and what it had is forgotten.
void tracker_core_leave(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation, bool is_goodbye,
    struct tracker_now now);

// tracker_core_command notes what a source was told to do: up, draining or stopped. It counts until the source says
// otherwise, later than a moment after.
void tracker_core_command(struct tracker_core *core, struct tracker_source *source, enum tracker_state state,
    struct tracker_now now);

// tracker_core_blame counts a bad segment of the source.
void tracker_core_blame(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    struct tracker_now now);

// tracker_core_tick finds out who has died, and forgets the long dead. Every heartbeat or more often: time between two
// ticks that is longer than that is not held against the sources.
void tracker_core_tick(struct tracker_core *core, struct tracker_now now);

// tracker_core_find_id returns NULL when there is no such source; tracker_core_find_text finds it by its id in
// hexadecimal, or by its name among those that have not left. ERR_NOT_FOUND; ERR_CONFLICT: several have it.
struct tracker_source *tracker_core_find_id(struct tracker_core *core, const uint8_t id[TRACKER_ID_BYTES]);
enum err tracker_core_find_text(struct tracker_core *core, const char *text, struct tracker_source **out,
    struct err_detail *why) ERR_CHECKED;

// tracker_core_first and _next walk over all sources, the one that has changed last first.
struct tracker_source *tracker_core_first(struct tracker_core *core);
struct tracker_source *tracker_core_next(struct tracker_core *core, struct tracker_source *source);

// tracker_source_hold keeps the memory.
void tracker_source_hold(struct tracker_source *source);
void tracker_source_release(struct tracker_core *core, struct tracker_source *source);

// --- Probes: the tracker's own attempts to reach a source -----------------------------------------------------------

// tracker_core_take_probe returns a source that is to be asked now whether it answers, with a reference, or NULL and
// the time until the next is due. tracker_core_probed takes the result, or tracker_core_unprobed that there is none,
// and then the reference too. tracker_core_suspect has it asked as soon as
// possible, unless that has just been done.
struct tracker_source *tracker_core_take_probe(struct tracker_core *core, uint64_t now_ms, uint64_t *wait_ms_out);
void tracker_core_probed(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    bool is_reachable, struct tracker_now now);
void tracker_core_unprobed(struct tracker_core *core, struct tracker_source *source);
void tracker_core_suspect(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    uint64_t now_ms);

// --- Files ----------------------------------------------------------------------------------------------------------

// tracker_core_set_holding replaces what the source has of a file, which the caller has checked that the source may
// have. Neither complete nor with a bit set: nothing. ERR_INVALID, ERR_LIMIT.
enum err tracker_core_set_holding(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    const struct tracker_holding_view *holding, struct err_detail *why) ERR_CHECKED;

// tracker_core_change_holding adds and takes away. ERR_INVALID: a range beyond the file, or another segment_count than
// before; ERR_NOT_FOUND: the source has not said before that it has something of this file. may_add: then it has had
// nothing so far, and the caller has checked that it may.
enum err tracker_core_change_holding(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    const struct tracker_change *change, bool may_add, struct err_detail *why) ERR_CHECKED;

// A source that a reader is told of. The pointers are valid until the core is changed.
struct tracker_found {
    const struct tracker_source *source;
    struct tracker_holding_view holding;
};

// tracker_core_find gives at most `limit` (up to TRACKER_SAMPLE_MAX) sources of a file: the origin, and of those that
// are up some mirrors, some that have all of it and some that have a part, rather the less loaded ones.
// *live_out is how many there are.
size_t tracker_core_find(struct tracker_core *core, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment_count,
    size_t limit, struct tracker_found out[TRACKER_SAMPLE_MAX], uint64_t *live_out);

// tracker_core_pick chooses one source that is up and has the segment. NULL: there is none.
struct tracker_source *tracker_core_pick(struct tracker_core *core, const uint8_t file_id[TRACKER_ID_BYTES],
    uint64_t segment, enum tracker_strategy strategy, uint64_t now_ms);

// --- Watchers -------------------------------------------------------------------------------------------------------

struct tracker_watch;

// tracker_core_watch begins to watch the sources of one file, at most `limit` of them, or (file_id NULL) all sources
// without what they have. ERR_LIMIT: too many watches.
enum err tracker_core_watch(struct tracker_core *core, const uint8_t *file_id, uint64_t segment_count, size_t limit,
    const uint8_t user_id[TRACKER_ID_BYTES], void *owner, struct tracker_watch **out,
    struct err_detail *why) ERR_CHECKED;
void tracker_watch_free(struct tracker_core *core, struct tracker_watch **watch);
void *tracker_watch_owner(const struct tracker_watch *watch);

// tracker_core_take_due returns a watch that is to be told something now, or NULL and the time until one is
// (UINT64_MAX: when something changes).
struct tracker_watch *tracker_core_take_due(struct tracker_core *core, uint64_t now_ms, uint64_t *wait_ms_out);

// tracker_core_each_watch calls fn with every watch, which it does not free.
void tracker_core_each_watch(struct tracker_core *core, void (*fn)(struct tracker_watch *watch, const void *context),
    const void *context);

// tracker_watch_again has the watch come up again in tracker_core_take_due: it was not told everything.
void tracker_watch_again(struct tracker_core *core, struct tracker_watch *watch);

enum tracker_event_kind {
    TRACKER_EVENT_SOURCE,
    TRACKER_EVENT_HOLDING,
    TRACKER_EVENT_CHANGE,
    TRACKER_EVENT_CAUGHT_UP,
};

struct tracker_event {
    enum tracker_event_kind kind;
    const struct tracker_source *source;
    struct tracker_holding_view holding; // of a change: file and segment count only
    const struct tracker_range *ranges;
    size_t range_count;
};

// tracker_watch_next gives what the watch is to be told next, until the core is changed. tracker_watch_told says that
// it has been. False: nothing.
bool tracker_watch_next(struct tracker_core *core, struct tracker_watch *watch, struct tracker_event *out) ERR_CHECKED;
void tracker_watch_told(struct tracker_core *core, struct tracker_watch *watch);

// --- Figures --------------------------------------------------------------------------------------------------------

struct tracker_figures {
    uint64_t sources[TRACKER_QUARANTINED + 1]; // by state
    uint64_t files;
    uint64_t holdings;
    uint64_t bitmap_bytes;
    uint64_t watches;
    uint64_t announcements; // so far: hellos, holdings and changes
    uint64_t deaths;        // so far
    uint64_t bad_segments;  // so far
};

void tracker_core_read_figures(const struct tracker_core *core, struct tracker_figures *out);

#endif
