// The Tracker service: fc.tracker.v1.Tracker
#ifndef TRACKER_TRACKER_SERVICE_H
#define TRACKER_TRACKER_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/err.h"
#include "rpc/rpc_server.h"
#include "services/tracker/tracker_core.h"

struct tracker_service;

// What the tracker needs to look at a segment itself.
struct tracker_proof {
    struct bytes grant; // encoded; freed by the tracker
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    uint8_t sha256[32]; // of the segment
};

struct tracker_service_options {
    struct rpc_server *server; // for its figures
    const char *origin_name;
    const uint8_t *grant_key; // the public key by which grants are checked
    // How many segments a file has, for a user who may read it (NULL: any). ERR_NOT_FOUND. A small query.
    enum err (*may_read)(void *context, const uint8_t *user_id, const uint8_t file_id[TRACKER_ID_BYTES],
        uint64_t *segment_count_out);
    // A grant of a file for the tracker's own use. May block. ERR_NOT_FOUND; ERR_OUT_OF_RANGE.
    enum err (
        *prove)(void *context, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment, struct tracker_proof *out);
    // The origin's own server of segments: its state (up, draining or stopped), how busy it is, and that a reader says
    // that a segment is damaged there, which may block.
    void (*control_origin)(void *context, enum tracker_state state);
    void (*read_origin)(void *context, struct tracker_load *load_out, enum tracker_state *state_out);
    void (*check_origin)(void *context, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment);
    void *context;
};

enum err tracker_service_new(const struct tracker_service_options *options, struct tracker_service **out) ERR_CHECKED;
ProtobufCService *tracker_service_rpc(struct tracker_service *tracker);
const struct rpc_method_rule *tracker_service_rules(size_t *count_out);

// tracker_service_add_metrics adds its figures to the server's.
enum err tracker_service_add_metrics(struct tracker_service *tracker) ERR_CHECKED;

// tracker_service_start begins to watch over sources. When all services are there and the server listens.
enum err tracker_service_start(struct tracker_service *tracker) ERR_CHECKED;

// tracker_service_end_session ends the streams of a session whose token has been revoked.
void tracker_service_end_session(struct tracker_service *tracker, const uint8_t session_id[16]);

// tracker_service_stop ends all streams, so that nobody has to wait for them, and refuses new ones. Blocks for attempts
// to reach sources, some seconds at most. Twice is no error.
void tracker_service_stop(struct tracker_service *tracker);

// tracker_service_free comes after rpc_server_free.
void tracker_service_free(struct tracker_service **tracker);

#endif
