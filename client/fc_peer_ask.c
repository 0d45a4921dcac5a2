// Where the peer of an account is, and asking it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/digest.h"
#include "client/fc_peer_priv.h"
#include "client/fc_store_priv.h"

#include "fc/peer/v1/peer.stub.h"

enum {
    DIGEST_IN_NAME_BYTES = 8,
    ASK_TIMEOUT_MS = 10 * 1000,
    UPDATE_TIMEOUT_MS = RPC_TIMEOUT_MAX_MS, // whole folders are read
    STOP_WAIT_MS = 15 * 1000,
    STOP_POLL_MS = 20,
    NS_PER_MS = 1000 * 1000,
};

// Digests the account, whose server and name may be too long for a path together.
static enum err
digest_account(struct fc_session *session, uint8_t out[DIGEST_SHA256_BYTES], struct err_detail *why)
{
    struct fc_account account = {0};
    struct bytes text = {0};
    const char *user_name = fc_session_user_name(session);
    const char *server_url = fc_session_server_url(session);
    enum err err = ERR_OK;
    if (user_name[0] == '\0') {
        err = fc_session_who_am_i(session, &account, why); // a token from the environment does not say whose it is
        user_name = account.user_name;
    }
    if (err == ERR_OK) {
        err = bytes_append(&text, bytes_view_of(server_url, strlen(server_url) + 1));
    }
    if (err == ERR_OK) {
        err = bytes_append(&text, bytes_view_of_text(user_name));
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_as_view(&text), out);
    }
    bytes_free(&text);
    return err;
}

enum err
fc_peer_dir(struct fc_session *session, char path_out[FC_CONFIG_PATH_MAX_BYTES], struct err_detail *why)
{
    char data[FC_CONFIG_PATH_MAX_BYTES];
    char hex[2 * DIGEST_IN_NAME_BYTES + 1];
    uint8_t digest[DIGEST_SHA256_BYTES];
    enum err err = fc_store_dir(data, why);
    if (err == ERR_OK) {
        err = digest_account(session, digest, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    bytes_to_hex(bytes_view_of(digest, DIGEST_IN_NAME_BYTES), hex);
    int length = snprintf(path_out, FC_CONFIG_PATH_MAX_BYTES, "%s/peer/%s", data, hex);
    return length > 0 && length < FC_CONFIG_PATH_MAX_BYTES
               ? ERR_OK
               : err_fail(why, ERR_PRECONDITION, "the path of the data folder is too long: set FC_DATA_DIR");
}

enum err
fc_peer_socket_path(const char *dir, char path_out[FC_CONFIG_PATH_MAX_BYTES], struct err_detail *why)
{
    int length = snprintf(path_out, FC_CONFIG_PATH_MAX_BYTES, "%s/socket", dir);
    return length > 0 && (size_t)length < sizeof(((struct sockaddr_un *)0)->sun_path)
               ? ERR_OK
               : err_fail(why, ERR_PRECONDITION,
                     "%s is too long for the path of a socket: set FC_DATA_DIR to a shorter one", dir);
}

enum err
fc_peer_reach(struct fc_session *session, struct rpc_channel **out, struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    char path[FC_CONFIG_PATH_MAX_BYTES];
    char url[RPC_URL_MAX_BYTES];
    struct stat status;
    enum err err = fc_peer_dir(session, dir, why);
    if (err == ERR_OK) {
        err = fc_peer_socket_path(dir, path, why);
    }
    if (err == ERR_OK && (stat(path, &status) != 0 || !S_ISSOCK(status.st_mode))) {
        err = err_fail(why, ERR_NOT_FOUND, "no peer of this account runs here; fc peer start starts one");
    }
    if (err == ERR_OK) {
        (void)snprintf(url, sizeof(url), "ipc://%.*s", (int)sizeof(url) - (int)sizeof("ipc://"), path);
        err = rpc_channel_new(&(struct rpc_channel_options){.url = url}, out, why);
    }
    return err;
}

// A socket that nobody listens on is what a killed peer leaves.
static enum err
explain(const struct rpc_unary *call, enum err err, struct err_detail *why)
{
    if (err == ERR_UNAVAILABLE && !call->was_sent) {
        return err_fail(why, ERR_NOT_FOUND, "no peer of this account runs here; fc peer start starts one");
    }
    return fc_session_explain(call, err, why);
}

static void
tell_state(const Fc__Peer__V1__GetStatusResponse *wire,
    void (*on_state)(void *context, const struct fc_peer_state *state), void *context)
{
    static const Fc__Segment__V1__Load idle = FC__SEGMENT__V1__LOAD__INIT;
    const Fc__Segment__V1__Load *load = wire->load != NULL ? wire->load : &idle;
    const struct fc_peer_state state = {
        .server_url = wire->server_url,
        .urls = (const char *const *)wire->urls,
        .url_count = wire->n_urls,
        .is_announced = wire->is_announced,
        .connections = load->connections,
        .segments_in_flight = load->segments_in_flight,
        .sent_bytes = load->sent_bytes,
        .sent_bytes_per_s = load->sent_bytes_per_s,
        .limit_bytes_per_s = load->limit_bytes_per_s,
        .sent_segments = load->sent_segments,
        .shared_bytes = load->stored_bytes,
        .file_count = (size_t)load->file_count,
    };
    on_state(context, &state);
}

static void
tell_file(const Fc__Peer__V1__SharedFile *wire, void (*on_file)(void *context, const struct fc_peer_file *file),
    void *context)
{
    struct fc_peer_file file = {
        .name = wire->name,
        .path = wire->path,
        .size_bytes = wire->size_bytes,
        .segment_count = wire->segment_count,
        .held_segments = wire->held_segment_count,
        .sent_segments = wire->sent_segments,
    };
    if (wire->file_id.len == sizeof(file.id)) {
        memcpy(file.id, wire->file_id.data, sizeof(file.id));
        on_file(context, &file);
    }
}

enum err
fc_peer_ask(struct fc_session *session, void (*on_state)(void *context, const struct fc_peer_state *state),
    void (*on_file)(void *context, const struct fc_peer_file *file), void *context, struct err_detail *why)
{
    Fc__Peer__V1__GetStatusRequest request = FC__PEER__V1__GET_STATUS_REQUEST__INIT;
    const Fc__Peer__V1__GetStatusResponse *response = NULL;
    struct rpc_channel *channel = NULL;
    struct rpc_unary call;
    enum err err = fc_peer_reach(session, &channel, why);
    if (err != ERR_OK) {
        return err;
    }
    fc_peer_v1_peer_init(&call, channel);
    call.timeout_ms = ASK_TIMEOUT_MS;
    err = explain(&call, fc_peer_v1_peer_get_status(&call, &request, &response), why);
    if (err == ERR_OK) {
        tell_state(response, on_state, context);
    }
    for (size_t i = 0; err == ERR_OK && on_file != NULL && i < response->n_files; i++) {
        tell_file(response->files[i], on_file, context);
    }
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
    return err;
}

enum err
fc_peer_update(struct fc_session *session, uint32_t *shared_out, uint32_t *unknown_out, struct err_detail *why)
{
    Fc__Peer__V1__UpdateRequest request = FC__PEER__V1__UPDATE_REQUEST__INIT;
    const Fc__Peer__V1__UpdateResponse *response = NULL;
    struct rpc_channel *channel = NULL;
    struct rpc_unary call;
    enum err err = fc_peer_reach(session, &channel, why);
    if (err != ERR_OK) {
        return err;
    }
    fc_peer_v1_peer_init(&call, channel);
    call.timeout_ms = UPDATE_TIMEOUT_MS;
    err = explain(&call, fc_peer_v1_peer_update(&call, &request, &response), why);
    if (err == ERR_OK) {
        *shared_out = response->shared_count;
        *unknown_out = response->unknown_count;
    }
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
    return err;
}

// Waits until its socket is gone, the last thing that it gives up but for its store.
static enum err
wait_for_end(struct fc_session *session, struct err_detail *why)
{
    const struct timespec step = {.tv_nsec = (long)STOP_POLL_MS * NS_PER_MS};
    uint64_t until_ms = clock_monotonic_ms() + STOP_WAIT_MS;
    struct stat status;
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    char path[FC_CONFIG_PATH_MAX_BYTES];
    enum err err = fc_peer_dir(session, dir, why);
    if (err == ERR_OK) {
        err = fc_peer_socket_path(dir, path, why);
    }
    while (err == ERR_OK && stat(path, &status) == 0) {
        if (clock_monotonic_ms() > until_ms) {
            return err_fail(why, ERR_TIMEOUT, "the peer was told to stop, and goes on sending to those who wait");
        }
        (void)nanosleep(&step, NULL);
    }
    return err;
}

enum err
fc_peer_stop(struct fc_session *session, struct err_detail *why)
{
    Fc__Peer__V1__StopRequest request = FC__PEER__V1__STOP_REQUEST__INIT;
    struct rpc_channel *channel = NULL;
    struct rpc_unary call;
    enum err err = fc_peer_reach(session, &channel, why);
    if (err != ERR_OK) {
        return err;
    }
    fc_peer_v1_peer_init(&call, channel);
    call.timeout_ms = ASK_TIMEOUT_MS;
    err = explain(&call, fc_peer_v1_peer_stop(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
    return err == ERR_OK ? wait_for_end(session, why) : err;
}
