#include "services/daemon/daemon_swarm.h"

#include <stdlib.h>
#include <string.h>

#include "base/work_pool.h"
#include "services/filestore/filestore_segments.h"
#include "services/store/blob.h"
#include "services/tracker/tracker_service.h"
#include "swarm/swarm_server.h"

struct daemon_swarm {
    struct filestore_service *filestore;
    struct swarm_server *segments;
    struct tracker_service *tracker;
    bool is_stopped;
};

// --- The FileStore as a backend -------------------------------------------------------------------------------------

struct read_op {
    struct work work; // first: the pool gives its address
    struct filestore_service *filestore;
    struct swarm_ask *ask;
};

static void
submit(struct daemon_swarm *swarm, struct swarm_ask *ask, work_fn *run)
{
    struct read_op *op = malloc(sizeof(*op));
    if (op == NULL) {
        swarm_ask_fail(ask, ERR_NO_MEMORY, NULL);
        return;
    }
    *op = (struct read_op){.work = {.run = run}, .filestore = swarm->filestore, .ask = ask};
    filestore_segments_run(swarm->filestore, &op->work);
}

static void
run_segment(struct work *work)
{
    struct read_op op = *(struct read_op *)work;
    struct swarm_ask *ask = op.ask;
    bool is_cancelled = swarm_ask_is_cancelled(ask);
    uint8_t *data = is_cancelled ? NULL : blob_memory(ask->size);
    enum err err = is_cancelled ? ERR_CANCELLED : data == NULL ? ERR_NO_MEMORY : ERR_OK;
    free(work);
    if (err == ERR_OK) {
        err = filestore_segments_read(op.filestore, ask->grant.file_id, ask->index, data, ask->size);
    }
    if (err == ERR_OK) {
        swarm_ask_answer_segment(ask, bytes_view_of(data, ask->size));
    } else {
        swarm_ask_fail(ask, err, NULL);
    }
    free(data);
}

static void
run_digests(struct work *work)
{
    struct read_op op = *(struct read_op *)work;
    struct bytes sha256s = {0};
    free(work);
    enum err err = filestore_segments_digests(op.filestore, op.ask->grant.file_id, op.ask->index, &sha256s);
    if (err == ERR_OK && sha256s.size == 0) {
        err = ERR_NOT_FOUND;
    }
    if (err == ERR_OK) {
        swarm_ask_answer_digests(op.ask, bytes_as_view(&sha256s));
    } else {
        swarm_ask_fail(op.ask, err, NULL);
    }
    bytes_free(&sha256s);
}

static void
run_holding(struct work *work)
{
    struct read_op op = *(struct read_op *)work;
    const struct swarm_holding all = {.is_complete = true};
    uint64_t count = 0;
    free(work);
    enum err err = filestore_segments_count(op.filestore, NULL, op.ask->grant.file_id, &count);
    if (err == ERR_OK) {
        swarm_ask_answer_holding(op.ask, &all);
    } else {
        swarm_ask_fail(op.ask, err, NULL);
    }
}

static void
read_segment(void *context, struct swarm_ask *ask)
{
    submit(context, ask, run_segment);
}

static void
read_digests(void *context, struct swarm_ask *ask)
{
    submit(context, ask, run_digests);
}

static void
read_holding(void *context, struct swarm_ask *ask)
{
    submit(context, ask, run_holding);
}

// --- What the tracker asks ------------------------------------------------------------------------------------------

static enum err
may_read(void *context, const uint8_t *user_id, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t *segment_count_out)
{
    const struct daemon_swarm *swarm = context;
    return filestore_segments_count(swarm->filestore, user_id, file_id, segment_count_out);
}

static enum err
prove(void *context, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment, struct tracker_proof *out)
{
    const struct daemon_swarm *swarm = context;
    struct filestore_proof proof;
    enum err err = filestore_segments_prove(swarm->filestore, file_id, segment, &proof);
    if (err == ERR_OK) {
        out->grant = proof.grant;
        memcpy(out->signature, proof.signature, sizeof(out->signature));
        memcpy(out->sha256, proof.sha256, sizeof(out->sha256));
    }
    return err;
}

static void
check_origin(void *context, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment)
{
    const struct daemon_swarm *swarm = context;
    filestore_segments_check(swarm->filestore, file_id, segment);
}

static void
control_origin(void *context, enum tracker_state state)
{
    const struct daemon_swarm *swarm = context;
    swarm_server_set_state(swarm->segments, state == TRACKER_UP         ? SWARM_UP
                                            : state == TRACKER_DRAINING ? SWARM_DRAINING
                                                                        : SWARM_STOPPED);
}

static void
read_origin(void *context, struct tracker_load *load_out, enum tracker_state *state_out)
{
    const struct daemon_swarm *swarm = context;
    enum swarm_state state = swarm_server_state(swarm->segments);
    Fc__Segment__V1__Load load;
    swarm_server_read_load(swarm->segments, &load);
    *load_out = (struct tracker_load){
        .cpu_permille = load.cpu_permille,
        .connections = load.connections,
        .segments_in_flight = load.segments_in_flight,
        .sent_bytes = load.sent_bytes,
        .sent_bytes_per_s = load.sent_bytes_per_s,
        .limit_bytes_per_s = load.limit_bytes_per_s,
        .sent_segments = load.sent_segments,
    };
    *state_out = state == SWARM_UP ? TRACKER_UP : state == SWARM_DRAINING ? TRACKER_DRAINING : TRACKER_STOPPED;
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

static enum err
make_segments(struct daemon_swarm *swarm, const struct daemon_options *options, struct rpc_server *server,
    const uint8_t key[CRYPTO_KEY_BYTES])
{
    struct swarm_server_options segments = {
        .server = server,
        .backend =
            {
                .read_segment = read_segment,
                .read_digests = read_digests,
                .read_holding = read_holding,
                .context = swarm,
            },
        .limit_bytes_per_s = options->limit_bytes_per_s,
    };
    size_t rule_count = 0;
    enum err err = swarm_server_new(&segments, &swarm->segments);
    if (err != ERR_OK) {
        return err;
    }
    swarm_server_set_key(swarm->segments, key);
    const struct rpc_method_rule *rules = swarm_server_rules(&rule_count);
    err = rpc_server_add_service(server, swarm_server_rpc(swarm->segments), rules, rule_count);
    return err == ERR_OK ? swarm_server_add_metrics(swarm->segments) : err;
}

static enum err
make_tracker(struct daemon_swarm *swarm, struct rpc_server *server, const uint8_t key[CRYPTO_KEY_BYTES])
{
    size_t rule_count = 0;
    struct tracker_service_options options = {
        .server = server,
        .origin_name = "origin",
        .grant_key = key,
        .may_read = may_read,
        .prove = prove,
        .control_origin = control_origin,
        .read_origin = read_origin,
        .check_origin = check_origin,
        .context = swarm,
    };
    enum err err = tracker_service_new(&options, &swarm->tracker);
    if (err != ERR_OK) {
        return err;
    }
    const struct rpc_method_rule *rules = tracker_service_rules(&rule_count);
    err = rpc_server_add_service(server, tracker_service_rpc(swarm->tracker), rules, rule_count);
    return err == ERR_OK ? tracker_service_add_metrics(swarm->tracker) : err;
}

enum err
daemon_swarm_new(const struct daemon_options *options, struct rpc_server *server, struct filestore_service *filestore,
    struct daemon_swarm **out)
{
    uint8_t key[CRYPTO_KEY_BYTES];
    struct daemon_swarm *swarm = calloc(1, sizeof(*swarm));
    if (swarm == NULL) {
        return ERR_NO_MEMORY;
    }
    swarm->filestore = filestore;
    enum err err = filestore_segments_key(filestore, key);
    if (err == ERR_OK) {
        err = make_segments(swarm, options, server, key);
    }
    if (err == ERR_OK) {
        err = make_tracker(swarm, server, key);
    }
    *out = swarm; // also after a failure: the server may have been told of it
    return err;
}

enum err
daemon_swarm_start(struct daemon_swarm *swarm)
{
    return tracker_service_start(swarm->tracker);
}

void
daemon_swarm_end_session(struct daemon_swarm *swarm, const uint8_t session_id[16])
{
    tracker_service_end_session(swarm->tracker, session_id);
}

void
daemon_swarm_stop(struct daemon_swarm *swarm)
{
    if (swarm->is_stopped) {
        return;
    }
    swarm->is_stopped = true;
    if (swarm->tracker != NULL) {
        tracker_service_stop(swarm->tracker);
    }
    if (swarm->segments != NULL) {
        swarm_server_stop(swarm->segments);
    }
}

void
daemon_swarm_free(struct daemon_swarm **swarm_ref)
{
    struct daemon_swarm *swarm = *swarm_ref;
    if (swarm == NULL) {
        return;
    }
    tracker_service_free(&swarm->tracker);
    swarm_server_free(&swarm->segments);
    free(swarm);
    *swarm_ref = NULL;
}
