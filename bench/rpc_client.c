// Clients on fc's runtime and on nng's own REQ socket, as bench/load.h says.
//
//     bench_rpc_client fc|nng URL CONNECTIONS OUTSTANDING SECONDS PAYLOAD-BYTES [CERTIFICATE]
//
// nng is called without TLS only.

#include <stdlib.h>
#include <string.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#include "bench/load.h"
#include "bench/token.h"
#include "rpc/rpc_channel.h"

#include "fc/test/v1/echo.pb-c.h"

static const struct load *load;
static struct rpc_tls_client *trust; // NULL without TLS

static void
trust_certificate(void)
{
    const struct rpc_tls_client_options options = {.ca_path = load->certificate_path};
    struct err_detail why = {0};
    enum err err = rpc_tls_client_new(&options, &trust, &why);
    if (err != ERR_OK) {
        load_die(load->certificate_path, err_message(&why, err));
    }
}

struct fc_slot {
    struct rpc_unary call;
    struct rpc_channel *channel;
    uint64_t started_us;
};

static void start_fc(struct fc_slot *slot);

static void
on_fc_done(struct rpc_unary *call)
{
    struct fc_slot *slot = call->context;
    const Fc__Test__V1__EchoResponse *response = rpc_unary_response(call);
    if (response == NULL) {
        load_die("call", err_message(&call->status.detail, ERR_INTERNAL));
    }
    const size_t answered_bytes = response->data.len;
    rpc_unary_deinit(call);
    if (load_call_ended(slot->started_us, answered_bytes)) {
        start_fc(slot);
    }
}

static void
start_fc(struct fc_slot *slot)
{
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    request.data.data = load->payload;
    request.data.len = load->payload_bytes;
    rpc_unary_init(&slot->call, slot->channel, &fc__test__v1__echo__descriptor);
    slot->call.on_done = on_fc_done;
    slot->call.context = slot;
    slot->started_us = load_now_us();
    fc__test__v1__echo__echo_as_user(&slot->call.service, &request, NULL, NULL);
}

static void
open_fc(struct fc_slot *slots)
{
    struct rpc_channel *channel = NULL;
    struct err_detail why = {0};
    enum err err = rpc_channel_new(&(struct rpc_channel_options){.url = load->url, .tls = trust}, &channel, &why);
    if (err == ERR_OK) {
        err = rpc_channel_set_token(channel, BENCH_TOKEN);
    }
    if (err != ERR_OK) {
        load_die(load->url, err_message(&why, err));
    }
    for (unsigned i = 0; i < load->outstanding; i++) {
        slots[i].channel = channel;
        start_fc(&slots[i]);
    }
}

struct nng_slot {
    nng_ctx ctx;
    nng_aio *aio;
    bool is_sending;
    uint64_t started_us;
};

static void
start_nng(struct nng_slot *slot)
{
    nng_msg *msg = NULL;
    int rv = nng_msg_alloc(&msg, load->payload_bytes);
    if (rv != 0) {
        load_die("message", nng_strerror(rv));
    }
    memcpy(nng_msg_body(msg), load->payload, load->payload_bytes);
    slot->is_sending = true;
    slot->started_us = load_now_us();
    nng_aio_set_msg(slot->aio, msg);
    nng_ctx_send(slot->ctx, slot->aio);
}

static void
on_nng_step(void *arg)
{
    struct nng_slot *slot = arg;
    const int rv = nng_aio_result(slot->aio);
    if (rv != 0) {
        load_die("call", nng_strerror(rv));
    }
    if (slot->is_sending) {
        slot->is_sending = false;
        nng_ctx_recv(slot->ctx, slot->aio);
        return;
    }
    nng_msg *msg = nng_aio_get_msg(slot->aio);
    nng_aio_set_msg(slot->aio, NULL);
    const size_t answered_bytes = nng_msg_len(msg);
    nng_msg_free(msg);
    if (load_call_ended(slot->started_us, answered_bytes)) {
        start_nng(slot);
    }
}

static void
open_nng(struct nng_slot *slots)
{
    nng_socket socket;
    int rv = nng_req0_open(&socket);
    if (rv == 0) {
        rv = nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    }
    if (rv == 0) {
        rv = nng_dial(socket, load->url, NULL, 0);
    }
    for (unsigned i = 0; rv == 0 && i < load->outstanding; i++) {
        rv = nng_ctx_open(&slots[i].ctx, socket);
        if (rv == 0) {
            rv = nng_aio_alloc(&slots[i].aio, on_nng_step, &slots[i]);
        }
        if (rv == 0) {
            start_nng(&slots[i]);
        }
    }
    if (rv != 0) {
        load_die(load->url, nng_strerror(rv));
    }
}

int
main(int argc, char **argv)
{
    load = load_begin(argc, argv, "fc|nng");
    const bool is_fc = strcmp(load->runtime, "fc") == 0;
    if (load->certificate_path != NULL) {
        trust_certificate();
    }
    const size_t count = (size_t)load->connections * load->outstanding;
    struct fc_slot *fc_slots = calloc(count, sizeof(*fc_slots));
    struct nng_slot *nng_slots = calloc(count, sizeof(*nng_slots));
    if (fc_slots == NULL || nng_slots == NULL) {
        load_die("calls", "out of memory");
    }
    for (size_t i = 0; i < count; i += load->outstanding) {
        load_pace();
        if (is_fc) {
            open_fc(&fc_slots[i]);
        } else {
            open_nng(&nng_slots[i]);
        }
    }
    load_end();
}
