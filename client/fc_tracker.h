// The servers of segments, for those who run them: who is there, how busy each is, and stopping, waking and draining
// one. For administrators only (ERR_DENIED). Blocking functions, but for fc_tracker_watch_take.
#ifndef CLIENT_FC_TRACKER_H
#define CLIENT_FC_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "client/fc_session.h"

enum fc_source_kind {
    FC_SOURCE_ORIGIN = 1,
    FC_SOURCE_MIRROR = 2,
    FC_SOURCE_PEER = 3,
};

enum fc_source_state {
    FC_SOURCE_UP = 1,
    FC_SOURCE_DRAINING = 2,
    FC_SOURCE_STOPPED = 3,
    FC_SOURCE_DEAD = 4,
    FC_SOURCE_QUARANTINED = 5, // has sent bad segments
};

enum {
    FC_SOURCE_NAME_MAX_BYTES = 65, // with its NUL
    FC_SOURCE_URLS_MAX = 4,
};

// fc_source is what the tracker knows of one server of segments.
struct fc_source {
    uint8_t id[16];
    uint64_t incarnation;
    char name[FC_SOURCE_NAME_MAX_BYTES];
    char user_name[FC_USER_NAME_MAX_BYTES];
    enum fc_source_kind kind;
    enum fc_source_state state;
    int64_t since_unix_ms; // in this state
    char urls[FC_SOURCE_URLS_MAX][FC_SERVER_URL_MAX_BYTES];
    size_t url_count;
    uint32_t bad_segments;
    uint32_t cpu_permille;
    uint32_t connections;
    uint32_t segments_in_flight;
    uint64_t sent_bytes;
    uint64_t sent_bytes_per_s;
    uint64_t sent_segments;
    uint64_t limit_bytes_per_s; // 0: no limit
    uint64_t stored_bytes;
    uint64_t budget_bytes; // 0: no limit
    uint64_t file_count;
    uint64_t segment_count;
};

// fc_source_kind_name and fc_source_state_name return words in lower case; "unknown" for numbers that are none.
const char *fc_source_kind_name(enum fc_source_kind kind);
const char *fc_source_state_name(enum fc_source_state state);

// fc_tracker_each calls fn for all servers until it returns false.
enum err fc_tracker_each(struct fc_session *session, bool (*fn)(void *context, const struct fc_source *source),
    void *context, struct err_detail *why) ERR_CHECKED;

enum fc_source_order {
    FC_SOURCE_STOP,  // it answers nothing more
    FC_SOURCE_WAKE,  // it serves again
    FC_SOURCE_DRAIN, // it answers what it was asked, and takes nothing new
};

// fc_tracker_order has a server do something: by its id in hexadecimal, or its name. *out is how it is then; the state
// may follow a moment later. ERR_NOT_FOUND; ERR_CONFLICT: several have the name.
enum err fc_tracker_order(struct fc_session *session, const char *source, enum fc_source_order order,
    struct fc_source *out, struct err_detail *why) ERR_CHECKED;

// fc_tracker_watch hears of all servers, and then of whatever changes.
struct fc_tracker_watch;

enum err fc_tracker_watch_open(struct fc_session *session, struct fc_tracker_watch **out,
    struct err_detail *why) ERR_CHECKED;

// fc_tracker_watch_take calls fn with what has been heard since, and does not wait. *caught_up_out (never set to false)
// tells that all that was there at the beginning has been heard. An error: the watch has ended, and tells no more.
enum err fc_tracker_watch_take(struct fc_tracker_watch *watch,
    void (*fn)(void *context, const struct fc_source *source), void *context, bool *caught_up_out,
    struct err_detail *why) ERR_CHECKED;

void fc_tracker_watch_close(struct fc_tracker_watch **watch);

#endif
