// Groups of feeds: everybody gets everything once and in order, what waits leaves together, and nothing leaves after a
// member has gone.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc_feed_group.h"
#include "rpc/rpc_server_priv.h"
#include "tests/unit/fake_wire.h"

enum {
    MANY = 50, // more than a push, and than the thread at once, hands to
    PUSHES = 200,
    LARGE_BYTES = 1024 * 1024,
};

static const uint8_t topic[RPC_TOPIC_BYTES] = "aaaaaaaaaaaaaaa";

struct follower {
    struct wire *wire;
    struct rpc_feed *feed;
    struct rpc_feed_member member;
};

// While a test holds it no wire takes anything.
static pthread_mutex_t obstacle = PTHREAD_MUTEX_INITIALIZER;
static atomic_size_t met_obstacle;

static enum err
queue(void *transport, const struct bytes_view *parts, size_t part_count)
{
    atomic_fetch_add(&met_obstacle, 1);
    pthread_mutex_lock(&obstacle);
    pthread_mutex_unlock(&obstacle);
    return wire_queue(transport, parts, part_count);
}

static bool
is_written(void *transport)
{
    (void)transport;
    return true;
}

static void
on_closed(void *context, struct rpc_feed *feed)
{
    (void)context;
    rpc_feed_release(feed);
}

static struct rpc_server *
server_new(void)
{
    struct rpc_server *server = NULL;
    struct rpc_server_options options = {.worker_threads = 1};
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    return server;
}

static void
follow(struct follower *self, struct rpc_server *server, struct rpc_feed_group *group)
{
    static struct rpc_transport_ops ops;
    ops = wire_ops;
    ops.queue = queue;
    ops.tell_drained = is_written;
    *self = (struct follower){.wire = calloc(1, sizeof(struct wire))};
    assert_non_null(self->wire);
    pthread_mutex_init(&self->wire->mutex, NULL);
    pthread_cond_init(&self->wire->changed, NULL);
    assert_int_equal(ERR_OK, rpc_peer_new(server, &ops, self->wire, "test", &self->wire->peer));
    assert_int_equal(ERR_OK, rpc_feed_new(server, on_closed, NULL, &self->feed));
    const char *ticket = rpc_feed_ticket(self->feed);
    assert_int_equal(ERR_OK, rpc_peer_subscribe(self->wire->peer, bytes_view_of_text(ticket)));
    rpc_feed_group_add(group, &self->member, self->feed);
}

static void
unfollow(struct follower *self)
{
    rpc_feed_group_remove(&self->member);
    wire_free(self->wire);
}

static void
push(struct rpc_feed_group *group, const char *payload)
{
    assert_int_equal(ERR_OK, rpc_feed_group_push(group, bytes_view_of_text(payload)));
}

static bool
has_got(struct wire *wire, const char *payloads)
{
    struct bytes all = {0};
    pthread_mutex_lock(&wire->mutex);
    for (size_t i = 0; i < wire->flushed_count; i++) {
        struct bytes_view sent = bytes_as_view(&wire->sent[i]);
        assert_true(sent.size > RPC_TOPIC_BYTES);
        assert_memory_equal(topic, sent.data, RPC_TOPIC_BYTES);
        assert_int_equal(ERR_OK,
            bytes_append(&all, bytes_view_of(sent.data + RPC_TOPIC_BYTES, sent.size - RPC_TOPIC_BYTES)));
    }
    pthread_mutex_unlock(&wire->mutex);
    bool is_all = all.size == strlen(payloads);
    assert_true(all.size <= strlen(payloads));
    assert_true(all.size == 0 || memcmp(all.data, payloads, all.size) == 0);
    bytes_free(&all);
    return is_all;
}

static void
wait_got(struct wire *wire, const char *payloads)
{
    struct timespec until = limit();
    while (!has_got(wire, payloads)) {
        pthread_mutex_lock(&wire->mutex);
        int result = pthread_cond_timedwait(&wire->changed, &wire->mutex, &(struct timespec){.tv_sec = time(NULL) + 1});
        pthread_mutex_unlock(&wire->mutex);
        assert_true(result == 0 || time(NULL) <= until.tv_sec);
    }
}

static void
test_a_small_group_gets_it_at_once(void **state)
{
    (void)state;
    struct rpc_server *server = server_new();
    struct rpc_feed_group *group = NULL;
    struct follower followers[4];
    assert_int_equal(ERR_OK, rpc_feed_group_new(server, topic, &group));
    push(group, "nobody is there");
    for (size_t i = 0; i < 4; i++) {
        follow(&followers[i], server, group);
    }
    push(group, "1");
    for (size_t i = 0; i < 4; i++) {
        assert_true(has_got(followers[i].wire, "1"));
    }
    rpc_feed_group_remove(&followers[0].member);
    rpc_feed_group_remove(&followers[0].member); // in none: no error
    push(group, "2");
    assert_true(has_got(followers[0].wire, "1"));
    assert_true(has_got(followers[1].wire, "12"));
    for (size_t i = 0; i < 4; i++) {
        unfollow(&followers[i]);
    }
    rpc_feed_group_free(&group);
    rpc_server_free(&server);
}

static void
test_many_get_all_in_order(void **state)
{
    (void)state;
    struct rpc_server *server = server_new();
    struct rpc_feed_group *group = NULL;
    struct follower *followers = calloc(MANY, sizeof(*followers));
    char expected[PUSHES * 4 + 1] = "";
    assert_non_null(followers);
    assert_int_equal(ERR_OK, rpc_feed_group_new(server, topic, &group));
    for (size_t i = 0; i < MANY; i++) {
        follow(&followers[i], server, group);
    }
    for (size_t i = 0; i < PUSHES; i++) {
        char *payload = expected + strlen(expected);
        (void)snprintf(payload, 5, "%03zu,", i);
        push(group, payload);
    }
    for (size_t i = 0; i < MANY; i++) {
        wait_got(followers[i].wire, expected);
    }
    for (size_t i = 0; i < MANY; i++) {
        unfollow(&followers[i]);
    }
    free(followers);
    rpc_feed_group_free(&group);
    rpc_server_free(&server);
}

static void *
push_one(void *group)
{
    push(group, "1");
    return NULL;
}

// Starts a push in another thread and waits until it stands before the obstacle, which the caller holds.
static pthread_t
begin_round(struct rpc_feed_group *group)
{
    pthread_t thread;
    struct timespec until = limit();
    atomic_store(&met_obstacle, 0);
    assert_int_equal(0, pthread_create(&thread, NULL, push_one, group));
    while (atomic_load(&met_obstacle) == 0) {
        assert_true(time(NULL) <= until.tv_sec);
        sched_yield();
    }
    return thread;
}

static void
test_what_comes_during_a_round_leaves_together(void **state)
{
    (void)state;
    struct rpc_server *server = server_new();
    struct rpc_feed_group *group = NULL;
    struct follower followers[2];
    assert_int_equal(ERR_OK, rpc_feed_group_new(server, topic, &group));
    follow(&followers[0], server, group);
    follow(&followers[1], server, group);
    pthread_mutex_lock(&obstacle);
    pthread_t thread = begin_round(group);
    push(group, "2"); // does not wait
    push(group, "3");
    pthread_mutex_unlock(&obstacle);
    assert_int_equal(0, pthread_join(thread, NULL));
    wait_got(followers[0].wire, "123");
    wait_got(followers[1].wire, "123");
    assert_int_equal(2, followers[0].wire->sent_count);
    assert_int_equal(1, followers[1].wire->sent_count);
    unfollow(&followers[0]);
    unfollow(&followers[1]);
    rpc_feed_group_free(&group);
    rpc_server_free(&server);
}

static void
test_what_is_too_much_loses_the_oldest(void **state)
{
    (void)state;
    enum {
        COUNT = RPC_FEED_GROUP_MAX_BYTES / LARGE_BYTES + 3,
    };
    struct rpc_server *server = server_new();
    struct rpc_feed_group *group = NULL;
    struct follower follower;
    uint8_t *large = calloc(1, LARGE_BYTES);
    assert_non_null(large);
    assert_int_equal(ERR_OK, rpc_feed_group_new(server, topic, &group));
    follow(&follower, server, group);
    pthread_mutex_lock(&obstacle);
    pthread_t thread = begin_round(group);
    for (size_t i = 0; i < COUNT; i++) {
        large[0] = (uint8_t)i;
        assert_int_equal(ERR_OK, rpc_feed_group_push(group, bytes_view_of(large, LARGE_BYTES)));
    }
    pthread_mutex_unlock(&obstacle);
    assert_int_equal(0, pthread_join(thread, NULL));
    wire_wait(follower.wire, 1 + COUNT - 3);
    assert_int_equal(1 + COUNT - 3, follower.wire->sent_count);
    assert_int_equal(3, follower.wire->sent[1].data[RPC_TOPIC_BYTES]);
    assert_int_equal(COUNT - 1, follower.wire->sent[COUNT - 3].data[RPC_TOPIC_BYTES]);
    assert_int_equal(3 * LARGE_BYTES, atomic_load(&server->stats.dropped_subscription_bytes));
    unfollow(&follower);
    free(large);
    rpc_feed_group_free(&group);
    rpc_server_free(&server);
}

static void
test_what_is_for_one_comes_behind_what_is_for_all(void **state)
{
    (void)state;
    struct rpc_server *server = server_new();
    struct rpc_feed_group *group = NULL;
    struct follower *followers = calloc(MANY, sizeof(*followers));
    assert_non_null(followers);
    assert_int_equal(ERR_OK, rpc_feed_group_new(server, topic, &group));
    for (size_t i = 0; i < MANY; i++) {
        follow(&followers[i], server, group);
    }
    for (size_t i = 0; i < MANY; i++) {
        push(group, "a");
        rpc_feed_group_push_one(&followers[i].member, bytes_view_of_text("1"));
    }
    for (size_t i = 0; i < MANY; i++) {
        char expected[MANY + 2];
        memset(expected, 'a', sizeof(expected));
        expected[i + 1] = '1'; // after as many as had been pushed then
        expected[MANY + 1] = '\0';
        wait_got(followers[i].wire, expected);
    }
    for (size_t i = 0; i < MANY; i++) {
        unfollow(&followers[i]);
    }
    free(followers);
    rpc_feed_group_free(&group);
    rpc_server_free(&server);
}

static size_t
sent_bytes(struct wire *wire)
{
    size_t bytes = 0;
    pthread_mutex_lock(&wire->mutex);
    for (size_t i = 0; i < wire->sent_count; i++) {
        bytes += wire->sent[i].size - RPC_TOPIC_BYTES;
    }
    pthread_mutex_unlock(&wire->mutex);
    return bytes;
}

// Who comes while a round is under way has had more than those who wait for the next chunk.
static void
test_who_comes_during_a_round_holds_up_nobody(void **state)
{
    (void)state;
    enum {
        CHUNKS = 8,
        CHUNK_BYTES = 60 * 1024, // no two in one
        LATE = 12,
    };
    struct rpc_server *server = server_new();
    struct rpc_feed_group *group = NULL;
    struct follower *followers = calloc(MANY + LATE, sizeof(*followers));
    uint8_t *payload = calloc(1, CHUNK_BYTES);
    struct timespec until = limit();
    assert_non_null(followers);
    assert_non_null(payload);
    assert_int_equal(ERR_OK, rpc_feed_group_new(server, topic, &group));
    for (size_t i = 0; i < MANY; i++) {
        follow(&followers[i], server, group);
    }
    pthread_mutex_lock(&obstacle);
    pthread_t thread = begin_round(group);
    for (size_t i = 0; i < CHUNKS; i++) {
        assert_int_equal(ERR_OK, rpc_feed_group_push(group, bytes_view_of(payload, CHUNK_BYTES)));
    }
    pthread_mutex_unlock(&obstacle);
    for (size_t i = MANY; i < MANY + LATE; i++) {
        follow(&followers[i], server, group);
    }
    assert_int_equal(0, pthread_join(thread, NULL));
    for (size_t i = 0; i < MANY; i++) {
        while (sent_bytes(followers[i].wire) < 1 + CHUNKS * CHUNK_BYTES) {
            assert_true(time(NULL) <= until.tv_sec);
            sched_yield();
        }
    }
    for (size_t i = 0; i < MANY + LATE; i++) {
        unfollow(&followers[i]);
    }
    free(payload);
    free(followers);
    rpc_feed_group_free(&group);
    rpc_server_free(&server);
}

// Members come and go while others push.
static void *
push_many(void *group)
{
    for (size_t i = 0; i < PUSHES * 10; i++) {
        push(group, "x");
    }
    return NULL;
}

static void
test_nothing_leaves_after_a_member_has_gone(void **state)
{
    (void)state;
    struct rpc_server *server = server_new();
    struct rpc_feed_group *group = NULL;
    struct follower followers[8];
    pthread_t thread;
    assert_int_equal(ERR_OK, rpc_feed_group_new(server, topic, &group));
    assert_int_equal(0, pthread_create(&thread, NULL, push_many, group));
    for (size_t i = 0; i < 8; i++) {
        follow(&followers[i], server, group);
    }
    for (size_t i = 0; i < 8; i++) {
        rpc_feed_group_remove(&followers[i].member);
        pthread_mutex_lock(&followers[i].wire->mutex);
        size_t sent_count = followers[i].wire->sent_count;
        pthread_mutex_unlock(&followers[i].wire->mutex);
        push(group, "x");
        pthread_mutex_lock(&followers[i].wire->mutex);
        assert_int_equal(sent_count, followers[i].wire->sent_count);
        pthread_mutex_unlock(&followers[i].wire->mutex);
    }
    assert_int_equal(0, pthread_join(thread, NULL));
    for (size_t i = 0; i < 8; i++) {
        unfollow(&followers[i]);
    }
    rpc_feed_group_free(&group);
    rpc_server_free(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_small_group_gets_it_at_once),
        cmocka_unit_test(test_many_get_all_in_order),
        cmocka_unit_test(test_what_comes_during_a_round_leaves_together),
        cmocka_unit_test(test_what_is_too_much_loses_the_oldest),
        cmocka_unit_test(test_what_is_for_one_comes_behind_what_is_for_all),
        cmocka_unit_test(test_who_comes_during_a_round_holds_up_nobody),
        cmocka_unit_test(test_nothing_leaves_after_a_member_has_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
