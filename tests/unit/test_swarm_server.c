// Servers of segments over a real connection: who gets what, and when nobody gets anything.
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "rpc/rpc_channel.h"
#include "swarm/swarm_server.h"

#include "fc/segment/v1/segment.stub.h"

enum {
    SEGMENT_BYTES = 4096,
    FILE_BYTES = 3 * SEGMENT_BYTES + 100,
    SEGMENT_COUNT = 4,
    HELD_MAX = 16,
};

static const uint8_t private_key[CRYPTO_KEY_BYTES] = {7};
static const uint8_t other_key[CRYPTO_KEY_BYTES] = {8};
static const uint8_t file_id[16] = "a file of alice.";
static const uint8_t other_id[16] = "a file of bob...";

struct fixture {
    struct rpc_server *server;
    struct swarm_server *swarm;
    struct rpc_channel *channel;
    uint8_t content[FILE_BYTES];
    atomic_size_t reads;
    // While it holds back, what was asked for waits here.
    pthread_mutex_t mutex;
    bool is_holding_back;
    struct swarm_ask *held[HELD_MAX];
    size_t held_count;
};

// --- The backend ----------------------------------------------------------------------------------------------------

static void
answer(struct fixture *f, struct swarm_ask *ask)
{
    if (ask->index == 2) {
        swarm_ask_fail(ask, ERR_NOT_FOUND, NULL);
    } else {
        swarm_ask_answer_segment(ask, bytes_view_of(f->content + ask->index * SEGMENT_BYTES, ask->size));
    }
}

static void
read_segment(void *context, struct swarm_ask *ask)
{
    struct fixture *f = context;
    atomic_fetch_add(&f->reads, 1);
    pthread_mutex_lock(&f->mutex);
    bool is_held = f->is_holding_back && f->held_count < HELD_MAX;
    if (is_held) {
        f->held[f->held_count++] = ask;
    }
    pthread_mutex_unlock(&f->mutex);
    if (!is_held) {
        answer(f, ask);
    }
}

static void
let_go(struct fixture *f)
{
    pthread_mutex_lock(&f->mutex);
    f->is_holding_back = false;
    size_t count = f->held_count;
    f->held_count = 0;
    pthread_mutex_unlock(&f->mutex);
    for (size_t i = 0; i < count; i++) {
        answer(f, f->held[i]);
    }
}

static void
read_digests(void *context, struct swarm_ask *ask)
{
    uint8_t digests[SEGMENT_COUNT * 32] = {1};
    (void)context;
    swarm_ask_answer_digests(ask, bytes_view_of(digests, (ask->segment_count - ask->index) * 32));
}

static void
read_holding(void *context, struct swarm_ask *ask)
{
    static const uint8_t bits = 0x0b;
    struct swarm_holding holding = {.is_pull_through = true, .segments = bytes_view_of(&bits, 1)};
    (void)context;
    swarm_ask_answer_holding(ask, &holding);
}

static void
read_stored(void *context, struct swarm_stored *out)
{
    (void)context;
    *out = (struct swarm_stored){.bytes = 11, .budget_bytes = 12, .file_count = 13, .segment_count = 14};
}

// --- The fixture ----------------------------------------------------------------------------------------------------

static void
start(struct fixture *f, uint64_t limit_bytes_per_s, size_t max_in_flight)
{
    uint8_t public_key[CRYPTO_KEY_BYTES];
    char url[RPC_URL_MAX_BYTES];
    size_t rule_count = 0;
    struct rpc_server_options options = {.worker_threads = 2};
    assert_int_equal(rpc_server_new(&options, &f->server), ERR_OK);
    struct swarm_server_options swarm = {
        .server = f->server,
        .backend =
            {
                .read_segment = read_segment,
                .read_digests = read_digests,
                .read_holding = read_holding,
                .read_stored = read_stored,
                .context = f,
            },
        .limit_bytes_per_s = limit_bytes_per_s,
        .max_segments_in_flight = max_in_flight,
    };
    assert_int_equal(swarm_server_new(&swarm, &f->swarm), ERR_OK);
    assert_int_equal(crypto_sign_public(private_key, public_key), ERR_OK);
    swarm_server_set_key(f->swarm, public_key);
    const struct rpc_method_rule *rules = swarm_server_rules(&rule_count);
    assert_int_equal(rpc_server_add_service(f->server, swarm_server_rpc(f->swarm), rules, rule_count), ERR_OK);
    assert_int_equal(swarm_server_add_metrics(f->swarm), ERR_OK);
    assert_int_equal(rpc_server_listen(f->server, "tcp://127.0.0.1:0", url, NULL), ERR_OK);
    struct rpc_channel_options channel = {.url = url};
    assert_int_equal(rpc_channel_new(&channel, &f->channel, NULL), ERR_OK);
}

static int
setup_plain(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    pthread_mutex_init(&f->mutex, NULL);
    random_bytes(f->content, sizeof(f->content));
    *state = f;
    return 0;
}

static int
setup(void **state)
{
    setup_plain(state);
    start(*state, 0, 0);
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    clock_set_unix_ms_for_test(-1);
    let_go(f);
    rpc_channel_free(&f->channel);
    swarm_server_stop(f->swarm);
    rpc_server_free(&f->server);
    swarm_server_free(&f->swarm);
    pthread_mutex_destroy(&f->mutex);
    free(f);
    return 0;
}

// A grant as the FileStore would give it.
struct given {
    struct bytes encoded;
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    Fc__Segment__V1__SignedGrant wire;
};

static void
give(struct given *given, const uint8_t id[16], const uint8_t key[CRYPTO_KEY_BYTES], int64_t lifetime_ms,
    uint32_t segment_bytes)
{
    struct e2e_grant grant = {
        .expires_at_ms = clock_unix_ms() + lifetime_ms,
        .size_bytes = FILE_BYTES,
        .segment_size_bytes = segment_bytes,
    };
    *given = (struct given){.wire = FC__SEGMENT__V1__SIGNED_GRANT__INIT};
    memcpy(grant.file_id, id, sizeof(grant.file_id));
    assert_int_equal(e2e_grant_sign(&grant, key, &given->encoded, given->signature), ERR_OK);
    given->wire.grant = (ProtobufCBinaryData){.len = given->encoded.size, .data = given->encoded.data};
    given->wire.signature = (ProtobufCBinaryData){.len = sizeof(given->signature), .data = given->signature};
}

static void
begin(struct fixture *f, struct rpc_unary *call, struct given *given, uint64_t index)
{
    Fc__Segment__V1__GetSegmentRequest request = FC__SEGMENT__V1__GET_SEGMENT_REQUEST__INIT;
    uint8_t id[16];
    memcpy(id, file_id, sizeof(id));
    request.file_id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    request.grant = given != NULL ? &given->wire : NULL;
    request.index = index;
    fc_segment_v1_segment_server_init(call, f->channel);
    fc_segment_v1_segment_server_get_segment_start(call, &request);
}

static enum err
get(struct fixture *f, struct rpc_unary *call, struct given *given, uint64_t index)
{
    begin(f, call, given, index);
    return rpc_unary_wait(call);
}

static void
assert_refused(struct fixture *f, struct given *given, enum err code, const char *reason)
{
    struct rpc_unary call;
    size_t reads = atomic_load(&f->reads);
    assert_int_equal(get(f, &call, given, 0), code);
    assert_string_equal(call.status.reason, reason);
    rpc_unary_deinit(&call);
    assert_int_equal(atomic_load(&f->reads), reads); // the backend was not even asked
}

// --- Grants ---------------------------------------------------------------------------------------------------------

static void
test_who_has_a_grant_gets_segments(void **state)
{
    struct fixture *f = *state;
    struct given given;
    struct rpc_unary call;
    give(&given, file_id, private_key, 60000, SEGMENT_BYTES);
    for (uint64_t i = 0; i < SEGMENT_COUNT; i++) {
        enum err err = get(f, &call, &given, i);
        if (i == 2) {
            assert_int_equal(err, ERR_NOT_FOUND);
            assert_string_equal(call.status.reason, "SEGMENT_NOT_HERE");
        } else {
            const Fc__Segment__V1__GetSegmentResponse *response = rpc_unary_response(&call);
            assert_int_equal(err, ERR_OK);
            assert_int_equal(response->data.len, i == 3 ? 100 : SEGMENT_BYTES);
            assert_memory_equal(response->data.data, f->content + i * SEGMENT_BYTES, response->data.len);
            assert_int_equal(response->load->file_count, 13);
            assert_int_equal(response->load->segments_in_flight, 1);
        }
        rpc_unary_deinit(&call);
    }
    assert_int_equal(get(f, &call, &given, SEGMENT_COUNT), ERR_OUT_OF_RANGE);
    rpc_unary_deinit(&call);
    assert_int_equal(get(f, &call, &given, UINT64_MAX), ERR_OUT_OF_RANGE);
    rpc_unary_deinit(&call);
    bytes_free(&given.encoded);
}

static void
test_grants_that_do_not_hold_are_refused_each_time(void **state)
{
    struct fixture *f = *state;
    struct given good, forged, others, old, eternal, strange;
    give(&good, file_id, private_key, 60000, SEGMENT_BYTES);
    give(&forged, file_id, other_key, 60000, SEGMENT_BYTES);
    give(&others, other_id, private_key, 60000, SEGMENT_BYTES);
    give(&old, file_id, private_key, -1, SEGMENT_BYTES);
    give(&eternal, file_id, private_key, 24 * 3600 * 1000, SEGMENT_BYTES);
    give(&strange, file_id, private_key, 60000, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_refused(f, NULL, ERR_DENIED, "");
        assert_refused(f, &forged, ERR_DENIED, "");
        assert_refused(f, &others, ERR_DENIED, "");
        assert_refused(f, &old, ERR_UNAUTHENTICATED, "GRANT_EXPIRED");
        assert_refused(f, &eternal, ERR_UNAUTHENTICATED, "GRANT_EXPIRED");
        assert_refused(f, &strange, ERR_INVALID, "");
        // A good one in between, so that its place among those that are remembered cannot be taken for another's.
        struct rpc_unary call;
        assert_int_equal(get(f, &call, &good, 0), ERR_OK);
        rpc_unary_deinit(&call);
    }
    struct given *all[] = {&good, &forged, &others, &old, &eternal, &strange};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        bytes_free(&all[i]->encoded);
    }
}

static void
test_a_grant_that_was_good_expires(void **state)
{
    struct fixture *f = *state;
    struct given given;
    struct rpc_unary call;
    int64_t now_ms = 1700000000000;
    clock_set_unix_ms_for_test(now_ms);
    give(&given, file_id, private_key, 1000, SEGMENT_BYTES);
    assert_int_equal(get(f, &call, &given, 0), ERR_OK);
    rpc_unary_deinit(&call);
    clock_set_unix_ms_for_test(now_ms + 999);
    assert_int_equal(get(f, &call, &given, 0), ERR_OK);
    rpc_unary_deinit(&call);
    clock_set_unix_ms_for_test(now_ms + 1000);
    assert_refused(f, &given, ERR_UNAUTHENTICATED, "GRANT_EXPIRED");
    bytes_free(&given.encoded);
}

static void
test_another_key_makes_grants_worthless(void **state)
{
    struct fixture *f = *state;
    struct given given;
    struct rpc_unary call;
    uint8_t public_key[CRYPTO_KEY_BYTES];
    give(&given, file_id, private_key, 60000, SEGMENT_BYTES);
    assert_int_equal(get(f, &call, &given, 0), ERR_OK);
    rpc_unary_deinit(&call);
    assert_int_equal(crypto_sign_public(other_key, public_key), ERR_OK);
    swarm_server_set_key(f->swarm, public_key);
    assert_refused(f, &given, ERR_DENIED, "");
    bytes_free(&given.encoded);
}

static void
test_manifest_and_holdings_need_a_grant_too(void **state)
{
    struct fixture *f = *state;
    Fc__Segment__V1__GetManifestRequest manifest = FC__SEGMENT__V1__GET_MANIFEST_REQUEST__INIT;
    Fc__Segment__V1__GetHoldingsRequest holdings = FC__SEGMENT__V1__GET_HOLDINGS_REQUEST__INIT;
    const Fc__Segment__V1__GetManifestResponse *digests = NULL;
    const Fc__Segment__V1__GetHoldingsResponse *held = NULL;
    struct rpc_unary call;
    struct given given;
    uint8_t id[16];
    memcpy(id, file_id, sizeof(id));
    manifest.file_id = holdings.file_id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    for (unsigned has_grant = 0; has_grant < 2; has_grant++) {
        enum err expected = has_grant ? ERR_OK : ERR_DENIED;
        if (has_grant) {
            give(&given, file_id, private_key, 60000, SEGMENT_BYTES);
            manifest.grant = holdings.grant = &given.wire;
        }
        manifest.first_segment = 1;
        fc_segment_v1_segment_server_init(&call, f->channel);
        assert_int_equal(fc_segment_v1_segment_server_get_manifest(&call, &manifest, &digests), expected);
        assert_true(!has_grant || digests->segment_sha256s.len == 96);
        rpc_unary_deinit(&call);
        fc_segment_v1_segment_server_init(&call, f->channel);
        assert_int_equal(fc_segment_v1_segment_server_get_holdings(&call, &holdings, &held), expected);
        assert_true(!has_grant || (held->holding->is_pull_through && held->holding->segments.data[0] == 0x0b));
        rpc_unary_deinit(&call);
    }
    bytes_free(&given.encoded);
}

// --- States and limits ----------------------------------------------------------------------------------------------

static void
wait_for_reads(struct fixture *f, size_t count)
{
    while (atomic_load(&f->reads) < count) {
        (void)sched_yield();
    }
}

static void
test_a_stopped_server_says_so_and_ends_what_it_has_begun(void **state)
{
    struct fixture *f = *state;
    struct given given;
    struct rpc_unary begun;
    struct rpc_unary call;
    give(&given, file_id, private_key, 60000, SEGMENT_BYTES);
    for (enum swarm_state to = SWARM_DRAINING; to <= SWARM_STOPPED; to++) {
        f->is_holding_back = true;
        size_t reads = atomic_load(&f->reads);
        begin(f, &begun, &given, 0);
        wait_for_reads(f, reads + 1);
        swarm_server_set_state(f->swarm, to);
        assert_refused(f, &given, ERR_UNAVAILABLE, "STOPPED");
        let_go(f);
        assert_int_equal(rpc_unary_wait(&begun), ERR_OK);
        rpc_unary_deinit(&begun);
        swarm_server_set_state(f->swarm, SWARM_UP);
        assert_int_equal(get(f, &call, &given, 0), ERR_OK);
        rpc_unary_deinit(&call);
    }
    bytes_free(&given.encoded);
}

static void
test_too_many_at_once_are_refused(void **state)
{
    struct fixture *f = *state;
    struct given given;
    struct rpc_unary calls[2];
    struct rpc_unary call;
    start(f, 0, 2);
    give(&given, file_id, private_key, 60000, SEGMENT_BYTES);
    f->is_holding_back = true;
    for (size_t i = 0; i < 2; i++) {
        begin(f, &calls[i], &given, 0);
    }
    wait_for_reads(f, 2);
    assert_int_equal(get(f, &call, &given, 0), ERR_LIMIT);
    assert_true(call.status.retry_after_ms > 0);
    rpc_unary_deinit(&call);
    let_go(f);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(rpc_unary_wait(&calls[i]), ERR_OK);
        rpc_unary_deinit(&calls[i]);
    }
    bytes_free(&given.encoded);
}

static void
test_the_limit_delays_and_reads_nothing_ahead(void **state)
{
    enum { CALLS = 12 };
    struct fixture *f = *state;
    struct given given;
    struct rpc_unary calls[CALLS];
    struct rpc_unary call;
    start(f, 10 * SEGMENT_BYTES, 0);
    give(&given, file_id, private_key, 60000, SEGMENT_BYTES);
    uint64_t begin_ms = clock_monotonic_ms();
    for (size_t i = 0; i < CALLS; i++) {
        begin(f, &calls[i], &given, 0);
    }
    for (size_t i = 0; i < CALLS; i++) {
        assert_int_equal(rpc_unary_wait(&calls[i]), ERR_OK);
        rpc_unary_deinit(&calls[i]);
    }
    // 12 segments at 10 a second, of which the first 2 leave at once: never sooner, however slow the machine is.
    assert_true(clock_monotonic_ms() - begin_ms >= 990);
    // With the limit gone those that wait leave; with the server stopped they are told so.
    swarm_server_set_limit(f->swarm, 1);
    assert_int_equal(get(f, &call, &given, 0), ERR_OK);
    rpc_unary_deinit(&call);
    size_t reads = atomic_load(&f->reads);
    begin(f, &calls[0], &given, 0);
    begin(f, &calls[1], &given, 1);
    Fc__Segment__V1__Load load;
    do {
        swarm_server_read_load(f->swarm, &load);
    } while (load.segments_in_flight < 2);
    assert_int_equal(atomic_load(&f->reads), reads);
    swarm_server_set_limit(f->swarm, 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(rpc_unary_wait(&calls[i]), ERR_OK);
        rpc_unary_deinit(&calls[i]);
    }
    swarm_server_set_limit(f->swarm, 1);
    assert_int_equal(get(f, &call, &given, 0), ERR_OK);
    rpc_unary_deinit(&call);
    begin(f, &calls[0], &given, 0);
    do {
        swarm_server_read_load(f->swarm, &load);
    } while (load.segments_in_flight < 1);
    swarm_server_set_state(f->swarm, SWARM_STOPPED);
    assert_int_equal(rpc_unary_wait(&calls[0]), ERR_UNAVAILABLE);
    assert_string_equal(calls[0].status.reason, "STOPPED");
    rpc_unary_deinit(&calls[0]);
    assert_int_equal(load.sent_segments, CALLS + 4);
    assert_int_equal(load.sent_bytes, (CALLS + 4) * SEGMENT_BYTES);
    bytes_free(&given.encoded);
}

#define TEST(name, before) cmocka_unit_test_setup_teardown(test_##name, before, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_has_a_grant_gets_segments, setup),
        TEST(grants_that_do_not_hold_are_refused_each_time, setup),
        TEST(a_grant_that_was_good_expires, setup),
        TEST(another_key_makes_grants_worthless, setup),
        TEST(manifest_and_holdings_need_a_grant_too, setup),
        TEST(a_stopped_server_says_so_and_ends_what_it_has_begun, setup),
        TEST(too_many_at_once_are_refused, setup_plain),
        TEST(the_limit_delays_and_reads_nothing_ahead, setup_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
