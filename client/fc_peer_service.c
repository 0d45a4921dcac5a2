// fc.peer.v1.Peer, on a socket that only this user can open. What asks the server or reads whole files runs on the
// peer's pool.
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "client/fc_lend_priv.h"
#include "client/fc_peer_priv.h"
#include "rpc/rpc_call.h"

enum {
    STATUS_FILES_MAX = 5000,
    SHARE_REQUEST_MAX_BYTES = SWARM_HOLDING_MAX_BYTES + 16 * 1024, // the bits, a name and two paths
};

// --- GetStatus ------------------------------------------------------------------------------------------------------

// The files, copied out of the store's lock.
struct listing {
    Fc__Peer__V1__SharedFile files[STATUS_FILES_MAX];
    Fc__Peer__V1__SharedFile *pointers[STATUS_FILES_MAX];
    uint8_t ids[STATUS_FILES_MAX][E2E_GRANT_ID_BYTES];
    size_t count;
};

static void
list_file(void *context, const struct swarm_store_item *item)
{
    struct listing *listing = context;
    if (listing->count == STATUS_FILES_MAX || item->path == NULL) {
        return;
    }
    size_t at = listing->count;
    Fc__Peer__V1__SharedFile *file = &listing->files[at];
    fc__peer__v1__shared_file__init(file);
    memcpy(listing->ids[at], item->file->id, sizeof(listing->ids[at]));
    file->file_id = fc_lend(listing->ids[at], sizeof(listing->ids[at]));
    file->name = strdup(item->name);
    file->path = strdup(item->path);
    file->size_bytes = item->file->size_bytes;
    file->segment_count = swarm_file_segment_count(item->file);
    file->held_segment_count = item->held_count;
    file->sent_segments = item->sent_segments;
    listing->pointers[at] = file;
    if (file->name != NULL && file->path != NULL) {
        listing->count++;
    } else {
        free(file->name);
        free(file->path);
    }
}

static void
get_status(Fc__Peer__V1__Peer_Service *service, const Fc__Peer__V1__GetStatusRequest *request,
    Fc__Peer__V1__GetStatusResponse_Closure reply, void *closure_data)
{
    struct fc_peer *peer = (struct fc_peer *)service;
    Fc__Peer__V1__GetStatusResponse response = FC__PEER__V1__GET_STATUS_RESPONSE__INIT;
    Fc__Segment__V1__Load load;
    const char *const *urls = NULL;
    struct listing *listing = calloc(1, sizeof(*listing));
    (void)request;
    if (listing == NULL) {
        rpc_call_fail_detail(closure_data, ERR_NO_MEMORY, NULL, NULL, 0);
        return;
    }
    swarm_store_each(swarm_node_store(peer->node), list_file, listing);
    swarm_server_read_load(swarm_node_swarm(peer->node), &load);
    response.server_url = fc_lend_text(fc_session_server_url(peer->session));
    response.n_urls = swarm_node_urls(peer->node, &urls);
    response.urls = fc_lend_texts(urls);
    response.is_announced = swarm_node_is_known(peer->node);
    response.load = &load;
    response.n_files = listing->count;
    response.files = listing->pointers;
    reply(&response, closure_data);
    for (size_t i = 0; i < listing->count; i++) {
        free(listing->files[i].name);
        free(listing->files[i].path);
    }
    free(listing);
}

// --- Update ---------------------------------------------------------------------------------------------------------

struct update_op {
    struct work work; // first: the pool gives its address
    struct fc_peer *peer;
    struct rpc_call *call;
    Fc__Peer__V1__UpdateResponse_Closure reply;
};

static void
run_update(struct work *work)
{
    struct update_op *op = (struct update_op *)work;
    Fc__Peer__V1__UpdateResponse response = FC__PEER__V1__UPDATE_RESPONSE__INIT;
    struct err_detail why = {0};
    struct swarm_stored stored;
    enum err err = fc_peer_scan(op->peer, &response.unknown_count, &why);
    if (err == ERR_OK) {
        swarm_store_read_stored(swarm_node_store(op->peer->node), &stored);
        response.shared_count = (uint32_t)stored.file_count;
        op->reply(&response, op->call);
    } else {
        rpc_call_fail(op->call, err, "%s", err_message(&why, err));
    }
    free(op);
}

static void
update(Fc__Peer__V1__Peer_Service *service, const Fc__Peer__V1__UpdateRequest *request,
    Fc__Peer__V1__UpdateResponse_Closure reply, void *closure_data)
{
    struct fc_peer *peer = (struct fc_peer *)service;
    struct update_op *op = malloc(sizeof(*op));
    (void)request;
    if (op == NULL) {
        rpc_call_fail_detail(closure_data, ERR_NO_MEMORY, NULL, NULL, 0);
        return;
    }
    *op = (struct update_op){.work = {.run = run_update}, .peer = peer, .call = closure_data, .reply = reply};
    work_pool_submit(peer->pool, &op->work);
}

// --- Share ----------------------------------------------------------------------------------------------------------

struct share_op {
    struct work work; // first: the pool gives its address
    struct fc_peer *peer;
    struct rpc_call *call;
    const Fc__Peer__V1__ShareRequest *request; // valid until the answer
    Fc__Peer__V1__ShareResponse_Closure reply;
};

static void
run_share(struct work *work)
{
    struct share_op *op = (struct share_op *)work;
    const Fc__Peer__V1__ShareRequest *request = op->request;
    const Fc__Peer__V1__ShareResponse response = FC__PEER__V1__SHARE_RESPONSE__INIT;
    struct swarm_store *store = swarm_node_store(op->peer->node);
    struct swarm_file file;
    struct bytes sha256s = {0};
    struct err_detail why = {0};
    const struct swarm_shared shared = {
        .name = request->name,
        .path = request->path,
        .final_path = request->final_path[0] != '\0' ? request->final_path : NULL,
        .segments = bytes_view_of(request->holding->segments.data, request->holding->segments.len),
        .is_complete = request->holding->is_complete,
    };
    enum err err = ERR_OK;
    if (!swarm_store_find(store, request->file_id.data, &file)) {
        err = fc_peer_learn(op->peer->session, request->file_id.data, &file, &sha256s, &why);
    }
    if (err == ERR_OK) {
        err = swarm_store_share(store, &file, bytes_as_view(&sha256s), &shared);
    }
    if (err == ERR_OK) {
        op->reply(&response, op->call);
    } else {
        log_debug("PEER-NOT-SHARED", NULL, "a download is not shared: %s", err_message(&why, err));
        rpc_call_fail(op->call, err, "%s", err_message(&why, err));
    }
    bytes_free(&sha256s);
    free(op);
}

static void
share(Fc__Peer__V1__Peer_Service *service, const Fc__Peer__V1__ShareRequest *request,
    Fc__Peer__V1__ShareResponse_Closure reply, void *closure_data)
{
    struct fc_peer *peer = (struct fc_peer *)service;
    bool has_paths = request->path[0] == '/' && (request->final_path[0] == '/' || request->final_path[0] == '\0');
    if (request->file_id.len != E2E_GRANT_ID_BYTES || !has_paths || request->holding == NULL ||
        strlen(request->name) > TEXT_FILE_NAME_MAX_BYTES || strlen(request->path) >= FC_CONFIG_PATH_MAX_BYTES ||
        strlen(request->final_path) >= FC_CONFIG_PATH_MAX_BYTES) {
        rpc_call_fail(closure_data, ERR_INVALID, "a file to share has an id, an absolute path, and a holding");
        return;
    }
    struct share_op *op = malloc(sizeof(*op));
    if (op == NULL) {
        rpc_call_fail_detail(closure_data, ERR_NO_MEMORY, NULL, NULL, 0);
        return;
    }
    *op = (struct share_op){.work = {.run = run_share},
        .peer = peer,
        .call = closure_data,
        .request = request,
        .reply = reply};
    work_pool_submit(peer->pool, &op->work);
}

// --- Stop -----------------------------------------------------------------------------------------------------------

static void
stop(Fc__Peer__V1__Peer_Service *service, const Fc__Peer__V1__StopRequest *request,
    Fc__Peer__V1__StopResponse_Closure reply, void *closure_data)
{
    struct fc_peer *peer = (struct fc_peer *)service;
    const Fc__Peer__V1__StopResponse response = FC__PEER__V1__STOP_RESPONSE__INIT;
    (void)request;
    pthread_mutex_lock(&peer->locked.mutex);
    peer->locked.is_stopping = true;
    pthread_mutex_unlock(&peer->locked.mutex);
    reply(&response, closure_data);
    if (eventfd_write(peer->stop_fd, 1) != 0) {
        log_error("PEER-STOP", NULL, "the peer could not be told to stop");
    }
}

void
fc_peer_service_init(struct fc_peer *peer)
{
    peer->rpc = (Fc__Peer__V1__Peer_Service){
        .base = {.descriptor = &fc__peer__v1__peer__descriptor, .invoke = protobuf_c_service_invoke_internal},
        .get_status = get_status,
        .update = update,
        .share = share,
        .stop = stop,
    };
}

const struct rpc_method_rule *
fc_peer_service_rules(size_t *count_out)
{
    static const struct rpc_method_rule rules[] = {
        {.method = "GetStatus", .access = RPC_ACCESS_PUBLIC},
        {.method = "Update", .access = RPC_ACCESS_PUBLIC},
        {.method = "Share", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = SHARE_REQUEST_MAX_BYTES},
        {.method = "Stop", .access = RPC_ACCESS_PUBLIC},
    };
    *count_out = sizeof(rules) / sizeof(rules[0]);
    return rules;
}
