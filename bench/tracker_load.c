// Sources of files that only announce themselves, many of them in one process, and a reader that looks them up.
//
//     tracker_load URL SOURCES SECONDS SEGMENT_COUNT FILE_ID... < commands
//
// Logged in by FC_CONFIG_DIR as an administrator. It says "announced" when all have said what they have, then waits for
// a line on stdin, measures for SECONDS with heartbeats alone, for as long with as many changes as the tracker takes,
// and prints a line of JSON.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/random.h"
#include "client/fc_config.h"
#include "rpc/rpc_channel.h"
#include "rpc/rpc_client_stream.h"

#include "fc/tracker/v1/tracker.stub.h"

enum {
    STREAMS_PER_CHANNEL = 120, // the server allows 128
    FILES_MAX = 1000,
    HEARTBEAT_MS = 250,
    LOOKUPS_MAX = 1000 * 1000,
    STREAM_TIMEOUT_MS = 3600 * 1000,
    FIND_LIMIT = 32,
};

struct load {
    const char *url;
    size_t source_count;
    uint64_t segment_count;
    size_t file_count;
    uint8_t files[FILES_MAX][16];
    struct rpc_channel **channels;
    size_t channel_count;
    struct rpc_client_stream *streams;
    struct fc_credential credential;
    atomic_bool is_changing;
    atomic_bool is_ending;
    atomic_uint_least64_t changes;
};

static void
fail(const char *what, enum err err)
{
    (void)fprintf(stderr, "tracker_load: %s: %s\n", what, err_sentence(err));
    exit(EXIT_FAILURE);
}

static void
check(const char *what, enum err err)
{
    if (err != ERR_OK) {
        fail(what, err);
    }
}

static struct rpc_channel *
open_channel(const struct load *load)
{
    struct rpc_channel *channel = NULL;
    struct rpc_channel_options options = {.url = load->url};
    check("channel", rpc_channel_new(&options, &channel, NULL));
    check("token", rpc_channel_set_token(channel, load->credential.token));
    return channel;
}

// --- Announcing -----------------------------------------------------------------------------------------------------

static void
say_hello(struct load *load, struct rpc_client_stream *stream)
{
    Fc__Tracker__V1__AnnounceRequest request = FC__TRACKER__V1__ANNOUNCE_REQUEST__INIT;
    Fc__Tracker__V1__Source hello = FC__TRACKER__V1__SOURCE__INIT;
    uint8_t id[16];
    char url[RPC_URL_MAX_BYTES];
    char name[] = "bench";
    char *urls[] = {url};
    random_bytes(id, sizeof(id));
    (void)snprintf(url, sizeof(url), "%s", load->url); // which answers when the tracker looks whether it does
    hello.id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    hello.name = name;
    hello.kind = FC__TRACKER__V1__SOURCE_KIND__PEER;
    hello.urls = urls;
    hello.n_urls = 1;
    request.what_case = FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HELLO;
    request.hello = &hello;
    check("hello", fc_tracker_v1_tracker_announce_send(stream, &request));
}

// Of every other file all, of the others every other segment.
static void
say_holding(struct load *load, struct rpc_client_stream *stream, size_t file)
{
    Fc__Tracker__V1__AnnounceRequest request = FC__TRACKER__V1__ANNOUNCE_REQUEST__INIT;
    Fc__Segment__V1__Holding holding = FC__SEGMENT__V1__HOLDING__INIT;
    uint8_t bits[1024];
    memset(bits, 0x55, sizeof(bits));
    holding.file_id = (ProtobufCBinaryData){.len = 16, .data = load->files[file]};
    holding.segment_count = load->segment_count;
    holding.is_complete = file % 2 == 0;
    if (!holding.is_complete) {
        holding.segments = (ProtobufCBinaryData){.len = (size_t)load->segment_count / 8, .data = bits};
    }
    request.what_case = FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HOLDING;
    request.holding = &holding;
    check("holding", fc_tracker_v1_tracker_announce_send(stream, &request));
}

static void
announce_all(struct load *load)
{
    load->channel_count = (load->source_count + STREAMS_PER_CHANNEL - 1) / STREAMS_PER_CHANNEL;
    load->channels = calloc(load->channel_count, sizeof(*load->channels));
    load->streams = calloc(load->source_count, sizeof(*load->streams));
    if (load->channels == NULL || load->streams == NULL) {
        fail("memory", ERR_NO_MEMORY);
    }
    for (size_t i = 0; i < load->channel_count; i++) {
        load->channels[i] = open_channel(load);
    }
    for (size_t i = 0; i < load->source_count; i++) {
        struct rpc_client_stream *stream = &load->streams[i];
        fc_tracker_v1_tracker_announce_init(stream, load->channels[i / STREAMS_PER_CHANNEL]);
        stream->call.timeout_ms = STREAM_TIMEOUT_MS;
        fc_tracker_v1_tracker_announce_open(stream);
        say_hello(load, stream);
    }
    for (size_t file = 0; file < load->file_count; file++) {
        for (size_t i = 0; i < load->source_count; i++) {
            say_holding(load, &load->streams[i], file);
        }
    }
    for (size_t i = 0; i < load->source_count; i++) {
        const Fc__Tracker__V1__AnnounceResponse *response = NULL;
        check("welcome", fc_tracker_v1_tracker_announce_receive(&load->streams[i], &response));
        if (response == NULL || response->what_case != FC__TRACKER__V1__ANNOUNCE_RESPONSE__WHAT_WELCOME) {
            fail("welcome", ERR_PROTOCOL);
        }
    }
}

static void *
beat(void *context)
{
    struct load *load = context;
    Fc__Tracker__V1__AnnounceRequest request = FC__TRACKER__V1__ANNOUNCE_REQUEST__INIT;
    Fc__Tracker__V1__Heartbeat heartbeat = FC__TRACKER__V1__HEARTBEAT__INIT;
    Fc__Segment__V1__Load busy = FC__SEGMENT__V1__LOAD__INIT;
    heartbeat.load = &busy;
    heartbeat.state = FC__TRACKER__V1__SOURCE_STATE__UP;
    request.what_case = FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HEARTBEAT;
    request.heartbeat = &heartbeat;
    while (!atomic_load(&load->is_ending)) {
        uint64_t begin_ms = clock_monotonic_ms();
        for (size_t i = 0; i < load->source_count && !atomic_load(&load->is_ending); i++) {
            busy.cpu_permille = (uint32_t)(i % 1000);
            check("heartbeat", fc_tracker_v1_tracker_announce_send(&load->streams[i], &request));
        }
        uint64_t passed_ms = clock_monotonic_ms() - begin_ms;
        if (passed_ms < HEARTBEAT_MS) {
            struct timespec rest = {.tv_nsec = (long)(HEARTBEAT_MS - passed_ms) * 1000 * 1000};
            (void)nanosleep(&rest, NULL);
        }
    }
    return NULL;
}

// Segments come and go, one source after the other.
static void *
change(void *context)
{
    struct load *load = context;
    Fc__Tracker__V1__AnnounceRequest request = FC__TRACKER__V1__ANNOUNCE_REQUEST__INIT;
    Fc__Tracker__V1__HoldingChange of_file = FC__TRACKER__V1__HOLDING_CHANGE__INIT;
    Fc__Tracker__V1__SegmentRange range = FC__TRACKER__V1__SEGMENT_RANGE__INIT;
    Fc__Tracker__V1__SegmentRange *ranges[] = {&range};
    of_file.segment_count = load->segment_count;
    of_file.ranges = ranges;
    of_file.n_ranges = 1;
    range.count = 1;
    request.what_case = FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_CHANGE;
    request.change = &of_file;
    for (size_t i = 0; !atomic_load(&load->is_ending); i++) {
        if (!atomic_load(&load->is_changing)) {
            struct timespec rest = {.tv_nsec = 1000 * 1000};
            (void)nanosleep(&rest, NULL);
            continue;
        }
        of_file.file_id = (ProtobufCBinaryData){.len = 16, .data = load->files[1 + i % (load->file_count / 2) * 2]};
        range.first = i % load->segment_count;
        range.is_gone = i % 2 == 0;
        check("change", fc_tracker_v1_tracker_announce_send(&load->streams[i % load->source_count], &request));
        atomic_fetch_add(&load->changes, 1);
    }
    return NULL;
}

// --- Looking up -----------------------------------------------------------------------------------------------------

struct lookups {
    uint32_t *us;
    size_t count;
};

static int
compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

static void
look_up(struct load *load, struct rpc_channel *channel, unsigned seconds, struct lookups *out)
{
    uint64_t end_us = clock_monotonic_us() + (uint64_t)seconds * 1000 * 1000;
    out->count = 0;
    while (clock_monotonic_us() < end_us && out->count < LOOKUPS_MAX) {
        Fc__Tracker__V1__FindRequest request = FC__TRACKER__V1__FIND_REQUEST__INIT;
        const Fc__Tracker__V1__FindResponse *response = NULL;
        struct rpc_unary call;
        request.file_id = (ProtobufCBinaryData){.len = 16, .data = load->files[out->count % load->file_count]};
        request.limit = FIND_LIMIT;
        uint64_t begin_us = clock_monotonic_us();
        fc_tracker_v1_tracker_init(&call, channel);
        check("lookup", fc_tracker_v1_tracker_find(&call, &request, &response));
        out->us[out->count++] = (uint32_t)(clock_monotonic_us() - begin_us);
        rpc_unary_deinit(&call);
    }
    qsort(out->us, out->count, sizeof(out->us[0]), compare);
}

static void
measure(struct load *load, unsigned seconds)
{
    struct rpc_channel *channel = open_channel(load);
    struct lookups idle = {.us = calloc(LOOKUPS_MAX, sizeof(uint32_t))};
    struct lookups busy = {.us = calloc(LOOKUPS_MAX, sizeof(uint32_t))};
    if (idle.us == NULL || busy.us == NULL) {
        fail("memory", ERR_NO_MEMORY);
    }
    look_up(load, channel, seconds, &idle);
    uint64_t begin_us = clock_monotonic_us();
    atomic_store(&load->is_changing, true);
    look_up(load, channel, seconds, &busy);
    uint64_t changes = atomic_load(&load->changes);
    double passed_s = (double)(clock_monotonic_us() - begin_us) / 1e6;
    (void)printf("{\"lookup_p50_us\": %u, \"lookup_p99_us\": %u, \"busy_p50_us\": %u, \"busy_p99_us\": %u, "
                 "\"lookups\": %zu, \"changes_per_s\": %.0f}\n",
        idle.us[idle.count / 2], idle.us[idle.count * 99 / 100], busy.us[busy.count / 2],
        busy.us[busy.count * 99 / 100], idle.count, (double)changes / passed_s);
    (void)fflush(stdout);
    free(idle.us);
    free(busy.us);
    rpc_channel_free(&channel);
}

int
main(int count, char **arguments)
{
    static struct load load;
    char line[16];
    pthread_t threads[2];
    if (count < 7 || count - 5 > FILES_MAX) {
        (void)fprintf(stderr, "usage: tracker_load URL SOURCES SECONDS SEGMENT_COUNT FILE_ID FILE_ID...\n");
        return 2;
    }
    load.url = arguments[1];
    load.source_count = strtoul(arguments[2], NULL, 10);
    load.segment_count = strtoul(arguments[4], NULL, 10);
    for (int i = 5; i < count; i++) {
        check("file id", bytes_from_hex(arguments[i], load.files[load.file_count++], 16));
    }
    check("login", fc_config_load(NULL, &load.credential, NULL));
    announce_all(&load);
    if (pthread_create(&threads[0], NULL, beat, &load) != 0 || pthread_create(&threads[1], NULL, change, &load) != 0) {
        fail("threads", ERR_LIMIT);
    }
    (void)puts("announced");
    (void)fflush(stdout);
    if (fgets(line, sizeof(line), stdin) != NULL) {
        measure(&load, (unsigned)strtoul(arguments[3], NULL, 10));
    }
    atomic_store(&load.is_ending, true);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    return 0; // what the streams are told now is of no interest
}
