// For tests of the Chat service on a real server and store, through its methods. A token is the user's name.
#ifndef TESTS_UNIT_CHAT_SERVER_SUPPORT_H
#define TESTS_UNIT_CHAT_SERVER_SUPPORT_H

#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "rpc/rpc_channel.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_subscriber.h"
#include "services/chat/chat_fanout.h"
#include "services/chat/chat_service.h"
#include "services/chat/chat_service_priv.h"

#include "fc/chat/v1/chat.pb-c.h"

enum {
    EVENTS_MAX = 512,
};

static char folder[64];
static struct store *store;
static struct rpc_server *server;
static struct chat_service *chat;
static char url[RPC_URL_MAX_BYTES];
static struct rpc_channel *alice;
static struct rpc_channel *bob;
static struct rpc_channel *carol; // in no room
static struct rpc_channel *root;  // an admin of the server

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

// What one subscription has brought.
struct listener {
    struct rpc_subscriber *subscriber;
    size_t count;
    struct {
        Fc__Chat__V1__Event__KindCase kind;
        uint64_t seq; // of a message; the head_seq, log_seq or read_seq of others
        uint64_t log_seq;
        char text[32]; // of a message; the user's name of others
        bool is_present;
        size_t sealed_size;
    } events[EVENTS_MAX];
    bool is_closed;
};

// Waits under the mutex until condition holds.
#define WAIT_UNTIL(condition)                                                                                          \
    do {                                                                                                               \
        const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");                                                           \
        struct timespec until;                                                                                         \
        clock_gettime(CLOCK_REALTIME, &until);                                                                         \
        until.tv_sec += 10 * (scale == NULL ? 1 : atoi(scale));                                                        \
        pthread_mutex_lock(&mutex);                                                                                    \
        while (!(condition)) {                                                                                         \
            if (pthread_cond_timedwait(&changed, &mutex, &until) != 0) {                                               \
                pthread_mutex_unlock(&mutex);                                                                          \
                fail_msg("waited in vain for %s", #condition);                                                         \
            }                                                                                                          \
        }                                                                                                              \
        pthread_mutex_unlock(&mutex);                                                                                  \
    } while (0)

// The first byte of the name is the user's id.
static inline enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    memset(identity_out, 0, sizeof(*identity_out));
    if (token.size == 0 || token.size >= sizeof(identity_out->subject_name)) {
        return ERR_UNAUTHENTICATED;
    }
    memcpy(identity_out->subject_name, token.data, token.size);
    identity_out->subject_id[0] = token.data[0];
    identity_out->session_id[0] = token.data[0];
    identity_out->is_admin = strcmp(identity_out->subject_name, "root") == 0;
    identity_out->expires_unix_ms = INT64_MAX;
    return ERR_OK;
}

static inline int
remove_entry(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

static inline struct rpc_channel *
connect_as(const char *user)
{
    struct rpc_channel *channel = NULL;
    struct rpc_channel_options options = {.url = url};
    struct err_detail why = {0};
    assert_int_equal(rpc_channel_new(&options, &channel, &why), ERR_OK);
    assert_int_equal(rpc_channel_set_token(channel, user), ERR_OK);
    return channel;
}

static inline void
start(const struct chat_service_options *wanted)
{
    size_t rule_count = 0;
    struct err_detail why = {0};
    struct rpc_server_options server_options = {.authenticate = authenticate};
    struct chat_service_options options = *wanted;
    assert_int_equal(store_open(folder, &store, &why), ERR_OK);
    assert_int_equal(rpc_server_new(&server_options, &server), ERR_OK);
    options.store = store;
    options.server = server;
    assert_int_equal(chat_service_new(&options, &chat, &why), ERR_OK);
    const struct rpc_method_rule *rules = chat_service_rules(&rule_count);
    assert_int_equal(rpc_server_add_service(server, chat_service_rpc(chat), rules, rule_count), ERR_OK);
    if (rpc_server_listen(server, "tcp://127.0.0.1:0", url, &why) != ERR_OK) {
        fail_msg("%s", why.message);
    }
    alice = connect_as("alice");
    bob = connect_as("bob");
    carol = connect_as("carol");
    root = connect_as("root");
}

static inline void
disconnect(void)
{
    rpc_channel_free(&alice);
    rpc_channel_free(&bob);
    rpc_channel_free(&carol);
    rpc_channel_free(&root);
}

static inline void
stop(void)
{
    disconnect();
    chat_service_stop(chat);
    rpc_server_free(&server);
    chat_service_free(&chat);
    store_close(&store);
}

static inline int
make_folder(void)
{
    snprintf(folder, sizeof(folder), "/tmp/fc-chat-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static inline int
teardown(void **state)
{
    (void)state;
    stop();
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

// CALL declares `call`, makes it and waits; the test looks at call.status and the response, and deinits it.
#define CALL(who, method, request)                                                                                     \
    struct rpc_unary call;                                                                                             \
    rpc_unary_init(&call, who, &fc__chat__v1__chat__descriptor);                                                       \
    fc__chat__v1__chat__##method(&call.service, request, NULL, NULL);                                                  \
    enum err err = rpc_unary_wait(&call)

static inline char *
lend_text(const char *text)
{
    return (char *)(uintptr_t)text; // protobuf-c has no const
}

static inline enum err
create_room(struct rpc_channel *who, const char *name, bool is_plain, struct err_detail *why)
{
    struct rpc_unary call;
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    request.name = lend_text(name);
    request.is_plain = is_plain;
    rpc_unary_init(&call, who, &fc__chat__v1__chat__descriptor);
    fc__chat__v1__chat__create_room(&call.service, &request, NULL, NULL);
    enum err err = rpc_unary_wait(&call);
    *why = call.status.detail;
    rpc_unary_deinit(&call);
    return err;
}

static inline void
create(struct rpc_channel *who, const char *name)
{
    struct err_detail why = {0};
    assert_int_equal(create_room(who, name, true, &why), ERR_OK);
}

static inline void
join_room(struct rpc_channel *who, const char *name)
{
    struct rpc_unary call;
    Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
    request.room = lend_text(name);
    rpc_unary_init(&call, who, &fc__chat__v1__chat__descriptor);
    fc__chat__v1__chat__join(&call.service, &request, NULL, NULL);
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    rpc_unary_deinit(&call);
}

static inline void
leave_room(struct rpc_channel *who, const char *name)
{
    struct rpc_unary call;
    Fc__Chat__V1__LeaveRequest request = FC__CHAT__V1__LEAVE_REQUEST__INIT;
    request.room = lend_text(name);
    rpc_unary_init(&call, who, &fc__chat__v1__chat__descriptor);
    fc__chat__v1__chat__leave(&call.service, &request, NULL, NULL);
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    rpc_unary_deinit(&call);
}

// send_as sends under request_id, or a new one for NULL, and returns the message's number.
static inline uint64_t
send_as(struct rpc_channel *who, const char *room, const char *text, const uint8_t *request_id)
{
    struct rpc_unary call;
    Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
    request.room = lend_text(room);
    request.text = lend_text(text);
    rpc_unary_init(&call, who, &fc__chat__v1__chat__descriptor);
    if (request_id != NULL) {
        memcpy(call.request_id, request_id, sizeof(call.request_id));
    }
    fc__chat__v1__chat__send(&call.service, &request, NULL, NULL);
    uint64_t seq = 0;
    if (rpc_unary_wait(&call) == ERR_OK) {
        const Fc__Chat__V1__SendResponse *response = rpc_unary_response(&call);
        seq = response->seq;
    }
    rpc_unary_deinit(&call);
    return seq;
}

static inline void
note_event_locked(struct listener *listener, const Fc__Chat__V1__Event *event)
{
    size_t at = listener->count++;
    listener->events[at].kind = event->kind_case;
    if (event->kind_case == FC__CHAT__V1__EVENT__KIND_MESSAGE) {
        listener->events[at].seq = event->message->seq;
        listener->events[at].sealed_size = event->message->sealed.len;
        snprintf(listener->events[at].text, sizeof(listener->events[at].text), "%s", event->message->text);
    } else if (event->kind_case == FC__CHAT__V1__EVENT__KIND_HEARTBEAT) {
        listener->events[at].seq = event->heartbeat->head_seq;
        listener->events[at].log_seq = event->heartbeat->log_seq;
    } else if (event->kind_case == FC__CHAT__V1__EVENT__KIND_LOG_GROWN) {
        listener->events[at].seq = event->log_grown->log_seq;
    } else if (event->kind_case == FC__CHAT__V1__EVENT__KIND_READ_MOVED) {
        listener->events[at].seq = event->read_moved->read_seq;
    } else if (event->kind_case == FC__CHAT__V1__EVENT__KIND_TYPING) {
        snprintf(listener->events[at].text, sizeof(listener->events[at].text), "%s", event->typing->user_name);
    } else if (event->kind_case == FC__CHAT__V1__EVENT__KIND_PRESENCE_CHANGED) {
        listener->events[at].is_present = event->presence_changed->is_present;
        snprintf(listener->events[at].text, sizeof(listener->events[at].text), "%s",
            event->presence_changed->user_name);
    }
}

static inline void
on_event(void *context, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view payload)
{
    struct listener *listener = context;
    (void)topic;
    Fc__Chat__V1__EventBatch *batch = fc__chat__v1__event_batch__unpack(NULL, payload.size, payload.data);
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; batch != NULL && i < batch->n_events && listener->count < EVENTS_MAX; i++) {
        note_event_locked(listener, batch->events[i]);
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    fc__chat__v1__event_batch__free_unpacked(batch, NULL);
}

static inline void
on_closed(void *context, enum err reason)
{
    struct listener *listener = context;
    (void)reason;
    pthread_mutex_lock(&mutex);
    listener->is_closed = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static const struct rpc_subscriber_handlers handlers = {.on_event = on_event, .on_closed = on_closed};

static const char *const team[] = {"team"};

// get_ticket subscribes to rooms without connecting.
static inline enum err
get_ticket(struct rpc_channel *who, const char *const *rooms, size_t room_count, char *ticket_out,
    uint64_t *head_seq_out, struct err_detail *why)
{
    struct rpc_unary call;
    char *names[4];
    Fc__Chat__V1__SubscribeRequest request = FC__CHAT__V1__SUBSCRIBE_REQUEST__INIT;
    for (size_t i = 0; i < room_count; i++) {
        names[i] = lend_text(rooms[i]);
    }
    request.n_rooms = room_count;
    request.rooms = names;
    rpc_unary_init(&call, who, &fc__chat__v1__chat__descriptor);
    fc__chat__v1__chat__subscribe(&call.service, &request, NULL, NULL);
    enum err err = rpc_unary_wait(&call);
    if (err == ERR_OK) {
        const Fc__Chat__V1__SubscribeResponse *response = rpc_unary_response(&call);
        assert_int_equal(response->n_rooms, room_count);
        snprintf(ticket_out, RPC_TICKET_MAX_BYTES + 1, "%s", response->ticket);
        *head_seq_out = response->rooms[0]->head_seq;
    }
    *why = call.status.detail;
    rpc_unary_deinit(&call);
    return err;
}

// listen_to starts a listener and returns the head of the first room.
static inline uint64_t
listen_to(struct rpc_channel *who, const char *const *rooms, size_t room_count, struct listener *listener)
{
    char ticket[RPC_TICKET_MAX_BYTES + 1];
    uint64_t head_seq = 0;
    struct err_detail why = {0};
    memset(listener, 0, sizeof(*listener));
    assert_int_equal(get_ticket(who, rooms, room_count, ticket, &head_seq, &why), ERR_OK);
    assert_int_equal(rpc_subscriber_new(url, NULL, ticket, &handlers, listener, &listener->subscriber, &why), ERR_OK);
    return head_seq;
}

// count_locked counts the events of a kind.
static inline size_t
count_locked(const struct listener *listener, Fc__Chat__V1__Event__KindCase kind)
{
    size_t count = 0;
    for (size_t i = 0; i < listener->count; i++) {
        count += listener->events[i].kind == kind;
    }
    return count;
}

// newest_locked is the index of the newest event of a kind; there is one.
static inline size_t
newest_locked(const struct listener *listener, Fc__Chat__V1__Event__KindCase kind)
{
    size_t newest = SIZE_MAX;
    for (size_t i = 0; i < listener->count; i++) {
        newest = listener->events[i].kind == kind ? i : newest;
    }
    assert_int_not_equal(newest, SIZE_MAX);
    return newest;
}

#endif
