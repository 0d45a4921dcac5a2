// Following a room whose server misbehaves: the real stream against a real server with a scripted Chat service that
// leaves out events, repeats them, says nonsense, closes feeds, and goes away.
//
// The room's messages are numbers: message n has the text "mn". The script says how many there are (head) and which
// events are pushed; History always knows all of them.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "client/fc_room.h"
#include "rpc/rpc_feed.h"
#include "rpc/rpc_server.h"

#include "fc/chat/v1/chat.pb-c.h"

enum {
    IDS_MAX = 8,
    PAGE = 3, // messages in one History reply, so that fetching takes several
};

static uint8_t room_id[16] = {0x77, 0x01};

// The scripted service. Handlers run on the server's threads, the test on its own.
static struct {
    Fc__Chat__V1__Chat_Service rpc; // first: handlers get its address
    struct rpc_server *server;
    char url[RPC_URL_MAX_BYTES];
    char folder[64];

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t head;
    struct rpc_feed *feed; // the newest one
    unsigned subscribes;
    unsigned histories;
    enum err next_subscribe; // what the next Subscribe fails with
    unsigned failing_subscribes;
    uint64_t hidden_from; // History answers as if there were no messages from this one on; 0: none
    bool holds_history;   // History does not answer
    struct rpc_call *held;
    unsigned failing_sends;
    unsigned sends;
    uint8_t send_ids[IDS_MAX][16];
} script;

// What the stream has told.
static struct {
    uint64_t first;
    uint64_t last;
    unsigned out_of_order;
    unsigned lives;
    unsigned reconnects;
    bool is_ended;
    enum err end_code;
    struct err_detail end_why;
    uint64_t stop_at;  // on_message returns false there
    uint64_t block_at; // on_message waits there until it is reset
    bool is_blocked;
} seen;

static struct fc_session *session;
static struct fc_room_stream *stream;

static struct timespec
deadline(void)
{
    struct timespec when;
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    clock_gettime(CLOCK_REALTIME, &when);
    when.tv_sec += 10 * (scale == NULL ? 1 : atoi(scale));
    return when;
}

// Waits under the script's mutex until condition holds.
#define WAIT_UNTIL(condition)                                                                                          \
    do {                                                                                                               \
        struct timespec until = deadline();                                                                            \
        pthread_mutex_lock(&script.mutex);                                                                             \
        while (!(condition)) {                                                                                         \
            if (pthread_cond_timedwait(&script.changed, &script.mutex, &until) != 0) {                                 \
                pthread_mutex_unlock(&script.mutex);                                                                   \
                fail_msg("waited in vain for %s (last message %llu)", #condition, (unsigned long long)seen.last);      \
            }                                                                                                          \
        }                                                                                                              \
        pthread_mutex_unlock(&script.mutex);                                                                           \
    } while (0)

static enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    if (!bytes_view_equal(token, bytes_view_of_text("fct_test"))) {
        return ERR_UNAUTHENTICATED;
    }
    memset(identity_out, 0, sizeof(*identity_out));
    snprintf(identity_out->subject_name, sizeof(identity_out->subject_name), "alice");
    identity_out->expires_unix_ms = INT64_MAX;
    return ERR_OK;
}

static void
on_feed_closed(void *context, struct rpc_feed *feed)
{
    (void)context;
    pthread_mutex_lock(&script.mutex);
    if (script.feed == feed) {
        script.feed = NULL;
    }
    pthread_mutex_unlock(&script.mutex);
    rpc_feed_release(feed);
}

struct wire_message {
    Fc__Chat__V1__Message message;
    uint8_t id[16];
    char text[32];
};

static void
make_message(struct wire_message *out, uint64_t seq)
{
    fc__chat__v1__message__init(&out->message);
    memset(out->id, 0, sizeof(out->id));
    snprintf(out->text, sizeof(out->text), "m%llu", (unsigned long long)seq);
    out->message.room_id = (ProtobufCBinaryData){.len = 16, .data = room_id};
    out->message.id = (ProtobufCBinaryData){.len = 16, .data = out->id};
    out->message.seq = seq;
    out->message.text = out->text;
}

static void
subscribe(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SubscribeRequest *request,
    Fc__Chat__V1__SubscribeResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    struct rpc_feed *feed = NULL;
    pthread_mutex_lock(&script.mutex);
    script.subscribes++;
    enum err err = ERR_OK;
    if (script.failing_subscribes > 0) {
        script.failing_subscribes--;
        err = script.next_subscribe;
    }
    if (err == ERR_OK) {
        err = rpc_feed_new(script.server, on_feed_closed, NULL, &feed);
    }
    script.feed = feed;
    uint64_t head = script.head;
    pthread_cond_broadcast(&script.changed);
    pthread_mutex_unlock(&script.mutex);
    if (err != ERR_OK) {
        rpc_call_fail(closure_data, err, "scripted");
        return;
    }
    Fc__Chat__V1__Room room = FC__CHAT__V1__ROOM__INIT;
    Fc__Chat__V1__Room *rooms[] = {&room};
    Fc__Chat__V1__SubscribeResponse response = FC__CHAT__V1__SUBSCRIBE_RESPONSE__INIT;
    char ticket[RPC_TICKET_MAX_BYTES + 1];
    snprintf(ticket, sizeof(ticket), "%s", rpc_feed_ticket(feed));
    room.id = (ProtobufCBinaryData){.len = 16, .data = room_id};
    room.name = (char[]){"team"};
    room.head_seq = head;
    response.ticket = ticket;
    response.n_rooms = 1;
    response.rooms = rooms;
    reply(&response, closure_data);
}

static void
history(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__HistoryRequest *request,
    Fc__Chat__V1__HistoryResponse_Closure reply, void *closure_data)
{
    (void)service;
    struct wire_message messages[PAGE];
    Fc__Chat__V1__Message *pointers[PAGE];
    Fc__Chat__V1__HistoryResponse response = FC__CHAT__V1__HISTORY_RESPONSE__INIT;
    pthread_mutex_lock(&script.mutex);
    script.histories++;
    uint64_t head = script.head;
    uint64_t hidden_from = script.hidden_from;
    bool is_held = script.holds_history;
    if (is_held) {
        script.held = closure_data;
    }
    pthread_cond_broadcast(&script.changed);
    pthread_mutex_unlock(&script.mutex);
    if (is_held) {
        return;
    }
    response.messages = pointers;
    response.head_seq = head;
    response.room_id = (ProtobufCBinaryData){.len = 16, .data = room_id};
    for (uint64_t seq = request->after_seq + 1; seq <= head && response.n_messages < PAGE; seq++) {
        if (hidden_from != 0 && seq >= hidden_from) {
            break;
        }
        make_message(&messages[response.n_messages], seq);
        pointers[response.n_messages] = &messages[response.n_messages].message;
        response.n_messages++;
    }
    reply(&response, closure_data);
}

static void
send_message(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SendRequest *request,
    Fc__Chat__V1__SendResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    struct bytes_view request_id = rpc_call_request_id(closure_data);
    pthread_mutex_lock(&script.mutex);
    if (script.sends < IDS_MAX && request_id.size == 16) {
        memcpy(script.send_ids[script.sends], request_id.data, 16);
    }
    script.sends++;
    bool is_failing = script.failing_sends > 0;
    script.failing_sends -= is_failing ? 1 : 0;
    pthread_mutex_unlock(&script.mutex);
    if (is_failing) {
        rpc_call_fail(closure_data, ERR_UNAVAILABLE, "scripted");
        return;
    }
    Fc__Chat__V1__SendResponse response = FC__CHAT__V1__SEND_RESPONSE__INIT;
    response.room_id = (ProtobufCBinaryData){.len = 16, .data = room_id};
    response.seq = 1;
    reply(&response, closure_data);
}

// The methods that no test here calls.
#define UNUSED_METHOD(name, Name)                                                                                      \
    static void name(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__##Name##Request *request,                \
        Fc__Chat__V1__##Name##Response_Closure reply, void *closure_data)                                              \
    {                                                                                                                  \
        (void)service;                                                                                                 \
        (void)request;                                                                                                 \
        (void)reply;                                                                                                   \
        rpc_call_fail(closure_data, ERR_UNIMPLEMENTED, "not part of this test");                                       \
    }
UNUSED_METHOD(create_room, CreateRoom)
UNUSED_METHOD(list_rooms, ListRooms)
UNUSED_METHOD(join, Join)
UNUSED_METHOD(leave, Leave)
UNUSED_METHOD(get_room, GetRoom)
UNUSED_METHOD(amend, Amend)
UNUSED_METHOD(get_log, GetLog)
UNUSED_METHOD(get_link, GetLink)
UNUSED_METHOD(search, Search)
UNUSED_METHOD(mark_read, MarkRead)
UNUSED_METHOD(typing, Typing)
UNUSED_METHOD(get_presence, GetPresence)
UNUSED_METHOD(set_presence, SetPresence)
UNUSED_METHOD(block, Block)
UNUSED_METHOD(list_blocks, ListBlocks)
UNUSED_METHOD(report, Report)
UNUSED_METHOD(list_reports, ListReports)

static const struct rpc_method_rule rules[] = {
    {.method = "CreateRoom", .access = RPC_ACCESS_TOKEN},
    {.method = "ListRooms", .access = RPC_ACCESS_TOKEN},
    {.method = "Join", .access = RPC_ACCESS_TOKEN},
    {.method = "Leave", .access = RPC_ACCESS_TOKEN},
    {.method = "GetRoom", .access = RPC_ACCESS_TOKEN},
    {.method = "Amend", .access = RPC_ACCESS_TOKEN},
    {.method = "GetLog", .access = RPC_ACCESS_TOKEN},
    {.method = "GetLink", .access = RPC_ACCESS_TOKEN},
    {.method = "Search", .access = RPC_ACCESS_TOKEN},
    {.method = "MarkRead", .access = RPC_ACCESS_TOKEN},
    {.method = "Typing", .access = RPC_ACCESS_TOKEN},
    {.method = "GetPresence", .access = RPC_ACCESS_TOKEN},
    {.method = "SetPresence", .access = RPC_ACCESS_TOKEN},
    {.method = "Block", .access = RPC_ACCESS_TOKEN},
    {.method = "ListBlocks", .access = RPC_ACCESS_TOKEN},
    {.method = "Report", .access = RPC_ACCESS_TOKEN},
    {.method = "ListReports", .access = RPC_ACCESS_TOKEN},
    {.method = "Send", .access = RPC_ACCESS_TOKEN},
    {.method = "History", .access = RPC_ACCESS_TOKEN},
    {.method = "Subscribe", .access = RPC_ACCESS_TOKEN},
};

static void
start_server(void)
{
    char url[RPC_URL_MAX_BYTES];
    struct err_detail why = {0};
    struct rpc_server_options options = {.authenticate = authenticate};
    snprintf(url, sizeof(url), "ipc://%s/socket", script.folder);
    assert_int_equal(rpc_server_new(&options, &script.server), ERR_OK);
    assert_int_equal(rpc_server_add_service(script.server, &script.rpc.base, rules, sizeof(rules) / sizeof(rules[0])),
        ERR_OK);
    enum err err = rpc_server_listen(script.server, url, script.url, &why);
    if (err != ERR_OK) {
        fail_msg("%s", why.message);
    }
}

static void
open_session(const char *url, const char *token)
{
    struct fc_credential credential = {0};
    struct err_detail why = {0};
    snprintf(credential.server_url, sizeof(credential.server_url), "%s", url);
    snprintf(credential.token, sizeof(credential.token), "%s", token);
    assert_int_equal(fc_session_open(&credential, NULL, &session, &why), ERR_OK);
}

static int
setup(void **state)
{
    (void)state;
    memset(&script, 0, sizeof(script));
    memset(&seen, 0, sizeof(seen));
    pthread_mutex_init(&script.mutex, NULL);
    pthread_cond_init(&script.changed, NULL);
    script.rpc = (Fc__Chat__V1__Chat_Service){
        .base = {.descriptor = &fc__chat__v1__chat__descriptor, .invoke = protobuf_c_service_invoke_internal},
        .create_room = create_room,
        .list_rooms = list_rooms,
        .join = join,
        .leave = leave,
        .get_room = get_room,
        .amend = amend,
        .get_log = get_log,
        .get_link = get_link,
        .search = search,
        .mark_read = mark_read,
        .typing = typing,
        .get_presence = get_presence,
        .set_presence = set_presence,
        .block = block,
        .list_blocks = list_blocks,
        .report = report,
        .list_reports = list_reports,
        .send = send_message,
        .history = history,
        .subscribe = subscribe,
    };
    snprintf(script.folder, sizeof(script.folder), "/tmp/fc-stream-XXXXXX");
    if (mkdtemp(script.folder) == NULL) {
        return -1;
    }
    start_server();
    open_session(script.url, "fct_test");
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    char path[128];
    fc_room_stream_close(&stream);
    fc_session_close(&session);
    if (script.held != NULL) {
        rpc_call_fail(script.held, ERR_CANCELLED, "the test is over");
    }
    rpc_server_free(&script.server);
    pthread_cond_destroy(&script.changed);
    pthread_mutex_destroy(&script.mutex);
    snprintf(path, sizeof(path), "%s/socket", script.folder);
    unlink(path);
    return rmdir(script.folder);
}

static bool
on_message(void *context, const struct fc_message *message)
{
    char text[32];
    (void)context;
    snprintf(text, sizeof(text), "m%llu", (unsigned long long)message->seq);
    pthread_mutex_lock(&script.mutex);
    if (seen.first == 0) {
        seen.first = message->seq;
    } else if (message->seq != seen.last + 1) {
        seen.out_of_order++;
    }
    if (strcmp(message->text, text) != 0 || strcmp(message->room, "team") != 0) {
        seen.out_of_order++;
    }
    seen.last = message->seq;
    pthread_cond_broadcast(&script.changed);
    while (seen.block_at == message->seq) {
        seen.is_blocked = true;
        pthread_cond_wait(&script.changed, &script.mutex);
    }
    bool goes_on = seen.stop_at != message->seq;
    pthread_mutex_unlock(&script.mutex);
    return goes_on;
}

static void
on_state(void *context, enum fc_stream_state state, enum err code, const struct err_detail *why)
{
    (void)context;
    pthread_mutex_lock(&script.mutex);
    switch (state) {
    case FC_STREAM_LIVE:
        seen.lives++;
        break;
    case FC_STREAM_RECONNECTING:
        seen.reconnects++;
        break;
    case FC_STREAM_ENDED:
        seen.is_ended = true;
        seen.end_code = code;
        seen.end_why = *why;
        break;
    }
    pthread_cond_broadcast(&script.changed);
    pthread_mutex_unlock(&script.mutex);
}

static enum err
try_open(bool is_from_head, uint64_t after_seq, struct err_detail *why)
{
    const char *const rooms[] = {"team"};
    struct fc_room_stream_options options = {
        .rooms = rooms,
        .room_count = 1,
        .is_from_head = is_from_head,
        .after_seq = after_seq,
        .on_message = on_message,
        .on_state = on_state,
    };
    return fc_room_stream_open(session, &options, &stream, why);
}

static void
open_stream(bool is_from_head, uint64_t after_seq)
{
    struct err_detail why = {0};
    enum err err = try_open(is_from_head, after_seq, &why);
    if (err != ERR_OK) {
        fail_msg("%s: %s", err_name(err), why.message);
    }
}

static void
set_head(uint64_t head)
{
    pthread_mutex_lock(&script.mutex);
    script.head = head;
    pthread_mutex_unlock(&script.mutex);
}

static void
push_bytes(struct bytes_view payload)
{
    pthread_mutex_lock(&script.mutex);
    if (script.feed != NULL) {
        rpc_feed_push(script.feed, room_id, payload);
    }
    pthread_mutex_unlock(&script.mutex);
}

static void
push_event(Fc__Chat__V1__Event *event)
{
    Fc__Chat__V1__EventBatch batch = FC__CHAT__V1__EVENT_BATCH__INIT;
    batch.n_events = 1;
    batch.events = &event;
    size_t size = fc__chat__v1__event_batch__get_packed_size(&batch);
    uint8_t *packed = malloc(size);
    assert_non_null(packed);
    fc__chat__v1__event_batch__pack(&batch, packed);
    push_bytes(bytes_view_of(packed, size));
    free(packed);
}

static void
push_message(uint64_t seq)
{
    struct wire_message message;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    make_message(&message, seq);
    event.kind_case = FC__CHAT__V1__EVENT__KIND_MESSAGE;
    event.message = &message.message;
    push_event(&event);
}

static void
push_heartbeat(uint64_t head)
{
    Fc__Chat__V1__Heartbeat heartbeat = FC__CHAT__V1__HEARTBEAT__INIT;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    heartbeat.head_seq = head;
    event.kind_case = FC__CHAT__V1__EVENT__KIND_HEARTBEAT;
    event.heartbeat = &heartbeat;
    push_event(&event);
}

// close_feed breaks the subscription from the server's side.
static void
close_feed(void)
{
    pthread_mutex_lock(&script.mutex);
    // on_feed_closed waits for the mutex before it releases the feed.
    bool was_open = script.feed != NULL;
    if (was_open) {
        rpc_feed_close(script.feed);
    }
    pthread_mutex_unlock(&script.mutex);
    assert_true(was_open);
}

static void
expect_seen(uint64_t first, uint64_t last)
{
    WAIT_UNTIL(seen.last >= last);
    assert_int_equal(seen.first, first);
    assert_int_equal(seen.last, last);
    assert_int_equal(seen.out_of_order, 0);
}

static void
test_history_first_then_live(void **state)
{
    (void)state;
    set_head(10);
    open_stream(false, 2);
    expect_seen(3, 10);
    WAIT_UNTIL(seen.lives == 1);
    set_head(12);
    push_message(11);
    push_message(12);
    expect_seen(3, 12);
}

static void
test_from_head_only_what_comes(void **state)
{
    (void)state;
    set_head(10);
    open_stream(true, 0);
    set_head(11);
    push_message(11);
    expect_seen(11, 11);
    assert_int_equal(script.histories, 0);
}

static void
test_gap_is_fetched(void **state)
{
    (void)state;
    open_stream(false, 0);
    set_head(9);
    push_message(9);
    expect_seen(1, 9);
}

static void
test_duplicates_and_disorder_come_out_once_and_in_order(void **state)
{
    (void)state;
    open_stream(false, 0);
    set_head(7);
    push_message(1);
    push_message(1);
    push_message(3);
    push_message(2);
    push_message(3);
    push_message(7);
    push_message(4);
    push_message(1);
    expect_seen(1, 7);
    set_head(8);
    push_message(8);
    expect_seen(1, 8);
}

static void
test_heartbeat_ahead_is_fetched(void **state)
{
    (void)state;
    open_stream(false, 0);
    set_head(5);
    push_heartbeat(5);
    expect_seen(1, 5);
    unsigned histories = script.histories;
    // What is not ahead costs nothing.
    push_heartbeat(5);
    push_message(4);
    set_head(6);
    push_message(6);
    expect_seen(1, 6);
    assert_int_equal(script.histories, histories);
}

static void
test_nonsense_is_fetched_instead(void **state)
{
    (void)state;
    open_stream(false, 0);
    set_head(4);
    push_bytes(bytes_view_of("\xff\xff\xff\xff", 4));
    expect_seen(1, 4);
    // A message without its ids.
    Fc__Chat__V1__Message bare = FC__CHAT__V1__MESSAGE__INIT;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    bare.seq = 5;
    event.kind_case = FC__CHAT__V1__EVENT__KIND_MESSAGE;
    event.message = &bare;
    set_head(5);
    push_event(&event);
    expect_seen(1, 5);
    assert_int_equal(seen.reconnects, 0);
}

static void
test_closed_feed_reconnects_and_goes_on(void **state)
{
    (void)state;
    set_head(3);
    open_stream(false, 0);
    expect_seen(1, 3);
    WAIT_UNTIL(seen.lives == 1);
    // Sent while the subscription was away.
    set_head(8);
    close_feed();
    WAIT_UNTIL(seen.lives == 2);
    expect_seen(1, 8);
    assert_int_equal(seen.reconnects, 1);
    set_head(9);
    push_message(9);
    expect_seen(1, 9);
    assert_int_equal(script.subscribes, 2);
}

static void
test_reconnecting_outlasts_failures(void **state)
{
    (void)state;
    open_stream(false, 0);
    WAIT_UNTIL(seen.lives == 1);
    pthread_mutex_lock(&script.mutex);
    script.failing_subscribes = 3;
    script.next_subscribe = ERR_UNAVAILABLE;
    script.head = 2;
    pthread_mutex_unlock(&script.mutex);
    close_feed();
    WAIT_UNTIL(seen.lives == 2);
    expect_seen(1, 2);
    assert_int_equal(seen.reconnects, 1);
    assert_int_equal(script.subscribes, 5);
}

static void
test_server_restart_is_survived(void **state)
{
    (void)state;
    set_head(3);
    open_stream(false, 0);
    WAIT_UNTIL(seen.lives == 1);
    rpc_server_free(&script.server);
    WAIT_UNTIL(seen.reconnects == 1);
    set_head(6);
    start_server();
    WAIT_UNTIL(seen.lives == 2);
    expect_seen(1, 6);
}

static void
expect_end(enum err code)
{
    WAIT_UNTIL(seen.is_ended);
    if (seen.end_code != code) {
        fail_msg("ended with %s: %s", err_name(seen.end_code), seen.end_why.message);
    }
}

static void
test_login_that_ended_ends_the_stream(void **state)
{
    (void)state;
    open_stream(false, 0);
    WAIT_UNTIL(seen.lives == 1);
    pthread_mutex_lock(&script.mutex);
    script.failing_subscribes = 1;
    script.next_subscribe = ERR_UNAUTHENTICATED;
    pthread_mutex_unlock(&script.mutex);
    close_feed();
    expect_end(ERR_UNAUTHENTICATED);
}

static void
test_ended_membership_ends_the_stream(void **state)
{
    (void)state;
    open_stream(false, 0);
    Fc__Chat__V1__MembershipEnded ended = FC__CHAT__V1__MEMBERSHIP_ENDED__INIT;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    event.kind_case = FC__CHAT__V1__EVENT__KIND_MEMBERSHIP_ENDED;
    event.membership_ended = &ended;
    push_event(&event);
    expect_end(ERR_DENIED);
    assert_non_null(strstr(seen.end_why.message, "\"team\""));
}

static void
test_callback_that_wants_no_more_ends_the_stream(void **state)
{
    (void)state;
    seen.stop_at = 4;
    set_head(10);
    open_stream(false, 0);
    expect_end(ERR_OK);
    expect_seen(1, 4);
}

static void
test_history_that_got_shorter_is_reported(void **state)
{
    (void)state;
    set_head(5);
    open_stream(false, 0);
    expect_seen(1, 5);
    WAIT_UNTIL(seen.lives == 1);
    set_head(4);
    close_feed();
    expect_end(ERR_CONFLICT);
}

static void
test_messages_that_are_kept_back_are_reported(void **state)
{
    (void)state;
    script.hidden_from = 4;
    set_head(6);
    open_stream(false, 0);
    expect_end(ERR_PROTOCOL);
    expect_seen(1, 3);
}

static void
test_opening_fails_with_the_reason(void **state)
{
    (void)state;
    struct err_detail why = {0};
    script.failing_subscribes = 1;
    script.next_subscribe = ERR_NOT_FOUND;
    assert_int_equal(try_open(false, 0, &why), ERR_NOT_FOUND);
    assert_non_null(strstr(why.message, "scripted"));
    assert_null(stream);
    // Nobody there at all: at once, without trying again.
    rpc_server_free(&script.server);
    assert_int_equal(try_open(false, 0, &why), ERR_UNAVAILABLE);
    assert_null(stream);
    assert_int_equal(seen.lives + seen.reconnects, 0);
    start_server();
}

static void
test_closing_does_not_wait_for_an_answer(void **state)
{
    (void)state;
    script.holds_history = true;
    set_head(5);
    open_stream(false, 0);
    WAIT_UNTIL(script.held != NULL);
    uint64_t before_ms = clock_monotonic_ms();
    fc_room_stream_close(&stream);
    assert_null(stream);
    assert_true(clock_monotonic_ms() - before_ms < RPC_TIMEOUT_DEFAULT_MS / 2);
}

static void
test_slow_reader_gets_everything(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    static char filler[64 * 1024];
    memset(filler, 'x', sizeof(filler) - 1);
    seen.block_at = 1;
    open_stream(false, 0);
    set_head(COUNT);
    push_message(1);
    WAIT_UNTIL(seen.is_blocked);
    for (uint64_t seq = 2; seq <= COUNT; seq++) {
        struct wire_message message;
        Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
        make_message(&message, seq);
        message.message.sender = filler;
        event.kind_case = FC__CHAT__V1__EVENT__KIND_MESSAGE;
        event.message = &message.message;
        push_event(&event);
    }
    pthread_mutex_lock(&script.mutex);
    seen.block_at = 0;
    pthread_cond_broadcast(&script.changed);
    pthread_mutex_unlock(&script.mutex);
    expect_seen(1, COUNT);
}

static void
test_send_repeats_its_request_id(void **state)
{
    (void)state;
    struct fc_sent sent;
    struct err_detail why = {0};
    script.failing_sends = 2;
    assert_int_equal(fc_room_send(session, "team", bytes_view_of_text("hello"), NULL, &sent, &why), ERR_OK);
    assert_int_equal(sent.seq, 1);
    assert_int_equal(script.sends, 3);
    assert_memory_equal(script.send_ids[0], script.send_ids[1], 16);
    assert_memory_equal(script.send_ids[0], script.send_ids[2], 16);
    // The next message has its own.
    assert_int_equal(fc_room_send(session, "team", bytes_view_of_text("hello"), NULL, &sent, &why), ERR_OK);
    assert_memory_not_equal(script.send_ids[0], script.send_ids[3], 16);
}

static void
test_send_to_nobody_fails_at_once(void **state)
{
    (void)state;
    struct fc_sent sent;
    struct err_detail why = {0};
    rpc_server_free(&script.server);
    uint64_t before_ms = clock_monotonic_ms();
    assert_int_equal(fc_room_send(session, "team", bytes_view_of_text("hello"), NULL, &sent, &why), ERR_UNAVAILABLE);
    assert_true(clock_monotonic_ms() - before_ms < 5000);
    assert_null(strstr(why.message, "may have arrived"));
    start_server();
}

static void
test_send_refuses_what_is_not_text(void **state)
{
    (void)state;
    struct fc_sent sent;
    struct err_detail why = {0};
    assert_int_equal(fc_room_send(session, "team", bytes_view_of("a\xff", 2), NULL, &sent, &why), ERR_INVALID);
    assert_int_equal(fc_room_send(session, "team", bytes_view_of("a\0b", 3), NULL, &sent, &why), ERR_INVALID);
    assert_int_equal(script.sends, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_history_first_then_live),
        TEST(test_from_head_only_what_comes),
        TEST(test_gap_is_fetched),
        TEST(test_duplicates_and_disorder_come_out_once_and_in_order),
        TEST(test_heartbeat_ahead_is_fetched),
        TEST(test_nonsense_is_fetched_instead),
        TEST(test_closed_feed_reconnects_and_goes_on),
        TEST(test_reconnecting_outlasts_failures),
        TEST(test_server_restart_is_survived),
        TEST(test_login_that_ended_ends_the_stream),
        TEST(test_ended_membership_ends_the_stream),
        TEST(test_callback_that_wants_no_more_ends_the_stream),
        TEST(test_history_that_got_shorter_is_reported),
        TEST(test_messages_that_are_kept_back_are_reported),
        TEST(test_opening_fails_with_the_reason),
        TEST(test_closing_does_not_wait_for_an_answer),
        TEST(test_slow_reader_gets_everything),
        TEST(test_send_repeats_its_request_id),
        TEST(test_send_to_nobody_fails_at_once),
        TEST(test_send_refuses_what_is_not_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
