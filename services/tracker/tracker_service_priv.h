// For the sources of the Tracker service only.
//
// Threads: handlers run on the server's workers and change the core under the lock. One thread of the tracker looks
// after the time, and tells watchers (tracker_watching.c). Others try to reach sources (tracker_probe.c), and fetch
// segments that somebody calls bad. Streams are written to under the lock, which does not wait for the network.
// Lock order: the tracker's comes before those of rpc/.
#ifndef TRACKER_TRACKER_SERVICE_PRIV_H
#define TRACKER_TRACKER_SERVICE_PRIV_H

#include <pthread.h>

#include "base/work_pool.h"
#include "rpc/rpc_rate.h"
#include "services/tracker/tracker_service.h"

#include "fc/tracker/v1/tracker.pb-c.h"

struct announce;
struct watching;

struct tracker_service {
    Fc__Tracker__V1__Tracker_Service rpc; // first: handlers get its address

    // Immutable after new.
    struct tracker_service_options options;
    uint8_t grant_key[CRYPTO_KEY_BYTES];
    struct rpc_rate *reports; // of UNREACHABLE, per user
    struct rpc_rate *blames;  // of CORRUPT
    struct work_pool *probe_pool;
    struct work_pool *check_pool;
    pthread_t thread;
    bool is_started;

    pthread_mutex_t mutex;
    pthread_cond_t wake; // something is due for the thread
    struct {
        struct tracker_core *core;
        size_t probes; // under way
        size_t checks; // the same
        bool is_woken;
        bool is_stopping;
    } locked;
};

struct tracker_now tracker_service_now(void);

// tracker_service_wake_locked has the thread look what is due.
void tracker_service_wake_locked(struct tracker_service *tracker);

// tracker_service_check_id copies an id from a request, or says what is wrong with it.
enum err tracker_service_check_id(const char *field, const ProtobufCBinaryData *id, uint8_t out[TRACKER_ID_BYTES],
    struct err_detail *why) ERR_CHECKED;

// tracker_service_may_read asks how many segments a file has, for a caller. ERR_NOT_FOUND is explained.
enum err tracker_service_may_read(struct tracker_service *tracker, const uint8_t *user_id,
    const uint8_t file_id[TRACKER_ID_BYTES], uint64_t *segment_count_out, struct err_detail *why) ERR_CHECKED;

// In tracker_announce.c.
extern const struct rpc_stream_handlers tracker_announce_handlers;
void tracker_announce_command_locked(struct announce *announce, enum tracker_state state);
void tracker_announce_suspect_locked(struct announce *announce, const uint8_t file_id[TRACKER_ID_BYTES],
    uint64_t segment);
void tracker_announce_end_locked(struct announce *announce, enum err code, const char *message);
bool tracker_announce_is_of(const struct announce *announce, const uint8_t session_id[16]);

// In tracker_watching.c.
extern const struct rpc_stream_handlers tracker_watching_handlers;
enum err tracker_watching_start(struct tracker_service *tracker) ERR_CHECKED;
void tracker_watching_stop(struct tracker_service *tracker);
void tracker_watching_end_session_locked(struct tracker_service *tracker, const uint8_t session_id[16]);

// In tracker_probe.c. tracker_probe_due_locked begins those that are due, and gives the time until the next one is.
uint64_t tracker_probe_due_locked(struct tracker_service *tracker, uint64_t now_ms);
// tracker_probe_check has a segment fetched from a source and compared. ERR_LIMIT: too many are.
enum err tracker_probe_check(struct tracker_service *tracker, const uint8_t source_id[TRACKER_ID_BYTES],
    uint64_t incarnation, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment) ERR_CHECKED;

// In tracker_wire.c: between the core's structs and the messages, which borrow.
struct tracker_wire_source {
    Fc__Tracker__V1__Source message;
    Fc__Segment__V1__Load load;
};
void tracker_wire_from_source(const struct tracker_source *source, struct tracker_wire_source *out);
void tracker_wire_from_holding(const struct tracker_holding_view *view, Fc__Segment__V1__Holding *out);
void tracker_wire_to_load(const Fc__Segment__V1__Load *load, struct tracker_load *out); // NULL: nothing
ProtobufCBinaryData tracker_wire_bytes(const void *data, size_t size);

#endif
