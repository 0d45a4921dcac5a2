// Feeds: batching while a connection writes, what is dropped and what is not, and the life of a ticket.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc_feed.h"
#include "rpc/rpc_server_priv.h"
#include "tests/unit/fake_wire.h"

static const uint8_t topic_a[RPC_TOPIC_BYTES] = "aaaaaaaaaaaaaaa";
static const uint8_t topic_b[RPC_TOPIC_BYTES] = "bbbbbbbbbbbbbbb";

// What on_closed has seen. Guarded by the mutex.
struct owner {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t closed;
    struct rpc_feed *feed;
};

static struct owner owner = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void
on_closed(void *context, struct rpc_feed *feed)
{
    struct owner *self = context;
    pthread_mutex_lock(&self->mutex);
    assert_ptr_equal(self->feed, feed);
    self->closed++;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
}

static void
on_closed_release(void *context, struct rpc_feed *feed)
{
    on_closed(context, feed);
    rpc_feed_release(feed);
}

static void
wait_closed(size_t count)
{
    struct timespec until = limit();
    pthread_mutex_lock(&owner.mutex);
    while (owner.closed < count) {
        assert_int_not_equal(ETIMEDOUT, pthread_cond_timedwait(&owner.changed, &owner.mutex, &until));
    }
    assert_int_equal(count, owner.closed);
    pthread_mutex_unlock(&owner.mutex);
}

static struct rpc_server *
server_new(size_t max_connections)
{
    struct rpc_server *server = NULL;
    struct rpc_server_options options = {.worker_threads = 1, .max_connections = max_connections};
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    return server;
}

static struct rpc_feed *
feed_new(struct rpc_server *server, rpc_feed_closed_fn *closed)
{
    pthread_mutex_lock(&owner.mutex);
    owner.closed = 0;
    assert_int_equal(ERR_OK, rpc_feed_new(server, closed, &owner, &owner.feed));
    pthread_mutex_unlock(&owner.mutex);
    return owner.feed;
}

static enum err
subscribe(struct wire *wire, const char *ticket)
{
    return rpc_peer_subscribe(wire->peer, bytes_view_of_text(ticket));
}

static void
push(struct rpc_feed *feed, const uint8_t *topic, const char *payload)
{
    rpc_feed_push(feed, topic, bytes_view_of_text(payload));
}

static void
assert_sent(struct wire *wire, size_t index, const uint8_t *topic, const char *payloads)
{
    assert_true(index < wire->flushed_count);
    struct bytes_view sent = bytes_as_view(&wire->sent[index]);
    assert_int_equal(RPC_TOPIC_BYTES + strlen(payloads), sent.size);
    assert_memory_equal(topic, sent.data, RPC_TOPIC_BYTES);
    assert_memory_equal(payloads, sent.data + RPC_TOPIC_BYTES, strlen(payloads));
}

static void
test_an_idle_feed_sends_at_once_and_a_writing_one_gathers(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct wire *wire = wire_new(server);
    struct rpc_feed *feed = feed_new(server, on_closed_release);
    assert_int_equal(ERR_OK, subscribe(wire, rpc_feed_ticket(feed)));
    assert_int_equal(0, wire->sent_count);
    push(feed, topic_a, "1");
    assert_int_equal(1, wire->sent_count);
    assert_sent(wire, 0, topic_a, "1");
    push(feed, topic_a, "2");
    push(feed, topic_b, "x");
    push(feed, topic_a, "3");
    assert_int_equal(1, wire->sent_count);
    wire_write(wire);
    assert_int_equal(3, wire->sent_count);
    assert_int_equal(2, wire->flushes);
    assert_sent(wire, 1, topic_a, "23");
    assert_sent(wire, 2, topic_b, "x");
    push(feed, topic_a, "4");
    wire_write(wire);
    assert_sent(wire, 3, topic_a, "4");
    wire_write(wire); // nothing left: idle again
    push(feed, topic_b, "y");
    assert_sent(wire, 4, topic_b, "y");
    wire_free(wire);
    wait_closed(1);
    rpc_server_free(&server);
}

static void
test_what_is_pushed_before_the_connection_waits_for_it(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct wire *wire = wire_new(server);
    struct rpc_feed *feed = feed_new(server, on_closed_release);
    push(feed, topic_b, "1");
    push(feed, topic_a, "2");
    push(feed, topic_b, "3");
    assert_int_equal(ERR_OK, subscribe(wire, rpc_feed_ticket(feed)));
    assert_int_equal(2, wire->sent_count);
    assert_int_equal(1, wire->flushes);
    assert_sent(wire, 0, topic_b, "13");
    assert_sent(wire, 1, topic_a, "2");
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_a_ticket_is_good_for_one_connection(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct wire *one = wire_new(server);
    struct wire *two = wire_new(server);
    struct rpc_feed *feed = feed_new(server, on_closed);
    char ticket[RPC_TICKET_MAX_BYTES + 2];
    strcpy(ticket, rpc_feed_ticket(feed));
    assert_true(strlen(ticket) <= RPC_TICKET_MAX_BYTES);
    assert_int_equal(ERR_NOT_FOUND, subscribe(one, ""));
    assert_int_equal(ERR_NOT_FOUND, subscribe(one, ticket + 1));
    char last = ticket[strlen(ticket) - 1];
    ticket[strlen(ticket) - 1] = last == '0' ? '1' : '0'; // the right feed, the wrong secret
    assert_int_equal(ERR_NOT_FOUND, subscribe(one, ticket));
    ticket[strlen(ticket) - 1] = 'g';
    assert_int_equal(ERR_NOT_FOUND, subscribe(one, ticket));
    ticket[strlen(ticket) - 1] = last;
    strcat(ticket, "0");
    assert_int_equal(ERR_NOT_FOUND, subscribe(one, ticket));
    ticket[strlen(ticket) - 1] = '\0';
    assert_int_equal(ERR_OK, subscribe(one, ticket));
    assert_int_equal(ERR_NOT_FOUND, subscribe(two, ticket));
    assert_int_equal(ERR_NOT_FOUND, subscribe(one, ticket));
    wire_lose(one);
    wait_closed(1);
    assert_int_equal(ERR_NOT_FOUND, subscribe(two, ticket));
    push(feed, topic_a, "nobody");
    rpc_feed_close(feed);
    rpc_feed_release(feed);
    wire_free(one);
    wire_free(two);
    rpc_server_free(&server);
    wait_closed(1);
}

static void
test_a_ticket_expires(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct wire *wire = wire_new(server);
    server->ticket_lifetime_ms = 1;
    struct rpc_feed *feed = feed_new(server, on_closed);
    wait_closed(1);
    assert_int_equal(ERR_NOT_FOUND, subscribe(wire, rpc_feed_ticket(feed)));
    push(feed, topic_a, "nobody");
    rpc_feed_release(feed);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_close_ends_an_unclaimed_feed_from_another_thread(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct rpc_feed *feed = feed_new(server, on_closed);
    // As a service would, with a lock that on_closed takes.
    pthread_mutex_lock(&owner.mutex);
    push(feed, topic_a, "lost");
    rpc_feed_close(feed);
    rpc_feed_close(feed);
    assert_int_equal(0, owner.closed);
    pthread_mutex_unlock(&owner.mutex);
    wait_closed(1);
    rpc_feed_close(feed);
    rpc_feed_release(feed);
    rpc_server_free(&server);
    wait_closed(1);
}

static void
test_close_ends_the_connection_of_a_claimed_feed(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct wire *wire = wire_new(server);
    struct rpc_feed *feed = feed_new(server, on_closed);
    assert_int_equal(ERR_OK, subscribe(wire, rpc_feed_ticket(feed)));
    push(feed, topic_a, "1");
    push(feed, topic_a, "2");
    pthread_mutex_lock(&owner.mutex);
    rpc_feed_close(feed);
    rpc_feed_close(feed);
    pthread_mutex_unlock(&owner.mutex);
    assert_int_equal(1, wire->closes);
    push(feed, topic_a, "3");
    wire_write(wire);
    assert_int_equal(1, wire->sent_count);
    assert_int_equal(0, owner.closed);
    wire_lose(wire);
    wait_closed(1);
    rpc_feed_release(feed);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_a_dropped_topic_sends_nothing_that_was_pushed_before(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct wire *wire = wire_new(server);
    struct rpc_feed *feed = feed_new(server, on_closed_release);
    rpc_feed_drop_topic(feed, topic_a);
    push(feed, topic_a, "1");
    push(feed, topic_b, "2");
    rpc_feed_drop_topic(feed, topic_a);
    push(feed, topic_a, "3");
    assert_int_equal(ERR_OK, subscribe(wire, rpc_feed_ticket(feed)));
    assert_int_equal(2, wire->sent_count);
    assert_sent(wire, 0, topic_b, "2");
    assert_sent(wire, 1, topic_a, "3");
    push(feed, topic_a, "4");
    rpc_feed_drop_topic(feed, topic_a);
    wire_write(wire);
    assert_int_equal(2, wire->sent_count);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_a_full_feed_keeps_the_newest_of_each_topic(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct wire *wire = wire_new(server);
    struct rpc_feed *feed = feed_new(server, on_closed_release);
    enum {
        PAYLOAD = 64 * 1024,
    };
    uint8_t *payload = calloc(1, PAYLOAD);
    assert_non_null(payload);
    push(feed, topic_b, "old");
    push(feed, topic_b, "new");
    for (uint8_t i = 0; i < 100; i++) {
        payload[0] = i;
        rpc_feed_push(feed, topic_a, bytes_view_of(payload, PAYLOAD));
    }
    assert_int_equal(ERR_OK, subscribe(wire, rpc_feed_ticket(feed)));
    assert_int_equal(2, wire->sent_count);
    // b was not full, and what is left of a is its newest, without a hole at the end.
    assert_sent(wire, 0, topic_b, "oldnew");
    size_t left = (wire->sent[1].size - RPC_TOPIC_BYTES) / PAYLOAD;
    assert_true(left >= 1 && left <= RPC_FEED_MAX_BYTES / PAYLOAD);
    for (size_t i = 0; i < left; i++) {
        assert_int_equal(100 - left + i, wire->sent[1].data[RPC_TOPIC_BYTES + i * PAYLOAD]);
    }
    assert_int_equal(0, wire->closes);
    free(payload);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_other_topics_make_room_as_well(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct wire *wire = wire_new(server);
    struct rpc_feed *feed = feed_new(server, on_closed_release);
    enum {
        PAYLOAD = 600 * 1024,
    };
    uint8_t *payload = calloc(1, PAYLOAD);
    assert_non_null(payload);
    rpc_feed_push(feed, topic_a, bytes_view_of(payload, PAYLOAD));
    push(feed, topic_a, "newest");
    rpc_feed_push(feed, topic_b, bytes_view_of(payload, PAYLOAD));
    assert_int_equal(ERR_OK, subscribe(wire, rpc_feed_ticket(feed)));
    assert_int_equal(2, wire->sent_count);
    assert_sent(wire, 0, topic_a, "newest");
    assert_int_equal(RPC_TOPIC_BYTES + PAYLOAD, wire->sent[1].size);
    // The newest ones alone are too many: the subscriber starts anew.
    rpc_feed_push(feed, topic_a, bytes_view_of(payload, PAYLOAD));
    rpc_feed_push(feed, topic_b, bytes_view_of(payload, PAYLOAD));
    assert_int_equal(1, wire->closes);
    free(payload);
    wire_free(wire);
    wait_closed(1);
    rpc_server_free(&server);
}

static void
test_many_small_topics_are_bounded(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct rpc_feed *feed = feed_new(server, on_closed);
    uint8_t topic[RPC_TOPIC_BYTES] = {0};
    for (uint32_t i = 0; i < 10 * 1000; i++) {
        bytes_store_be32(topic, i);
        push(feed, topic, "x");
    }
    wait_closed(1);
    rpc_feed_release(feed);
    rpc_server_free(&server);
}

static void
test_feeds_are_limited_and_end_with_the_server(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(2);
    struct wire *wire = wire_new(server);
    struct rpc_feed *one = feed_new(server, on_closed);
    struct rpc_feed *two = NULL;
    struct rpc_feed *three = NULL;
    assert_int_equal(ERR_OK, subscribe(wire, rpc_feed_ticket(one)));
    static struct owner other = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    assert_int_equal(ERR_OK, rpc_feed_new(server, on_closed, &other, &two));
    other.feed = two;
    assert_int_equal(ERR_LIMIT, rpc_feed_new(server, on_closed, &other, &three));
    wire_lose(wire);
    rpc_feed_release(one);
    rpc_server_drain(server, 0);
    assert_int_equal(1, other.closed);
    assert_int_equal(ERR_UNAVAILABLE, rpc_feed_new(server, on_closed, &other, &three));
    rpc_server_free(&server);
    // Its memory is the service's until it is released.
    push(two, topic_a, "nobody");
    rpc_feed_close(two);
    rpc_feed_release(two);
    wire_free(wire);
}

enum {
    PUSHES = 2000,
};

static void *
push_numbers(void *context)
{
    struct rpc_feed *feed = owner.feed;
    for (uint32_t i = 0; i < PUSHES; i++) {
        uint8_t number[4];
        bytes_store_be32(number, i);
        rpc_feed_push(feed, context, bytes_view_of(number, sizeof(number)));
    }
    return NULL;
}

static void
test_order_is_kept_within_a_topic(void **state)
{
    (void)state;
    struct rpc_server *server = server_new(0);
    struct wire *wire = wire_new(server);
    struct rpc_feed *feed = feed_new(server, on_closed_release);
    uint8_t topics[2][RPC_TOPIC_BYTES] = {"a", "b"};
    uint32_t next[2] = {0};
    pthread_t threads[2];
    size_t seen = 0;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(0, pthread_create(&threads[i], NULL, push_numbers, topics[i]));
    }
    assert_int_equal(ERR_OK, subscribe(wire, rpc_feed_ticket(feed)));
    struct timespec until = limit();
    while (next[0] < PUSHES || next[1] < PUSHES) {
        wire_write(wire);
        pthread_mutex_lock(&wire->mutex);
        for (; seen < wire->sent_count; seen++) {
            struct bytes_view sent = bytes_as_view(&wire->sent[seen]);
            size_t topic = sent.data[0] == 'a' ? 0 : 1;
            for (size_t at = RPC_TOPIC_BYTES; at < sent.size; at += 4) {
                assert_int_equal(next[topic]++, bytes_load_be32(sent.data + at));
            }
        }
        pthread_mutex_unlock(&wire->mutex);
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        assert_true(now.tv_sec < until.tv_sec);
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    wire_free(wire);
    rpc_server_free(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_idle_feed_sends_at_once_and_a_writing_one_gathers),
        cmocka_unit_test(test_what_is_pushed_before_the_connection_waits_for_it),
        cmocka_unit_test(test_a_ticket_is_good_for_one_connection),
        cmocka_unit_test(test_a_ticket_expires),
        cmocka_unit_test(test_close_ends_an_unclaimed_feed_from_another_thread),
        cmocka_unit_test(test_close_ends_the_connection_of_a_claimed_feed),
        cmocka_unit_test(test_a_dropped_topic_sends_nothing_that_was_pushed_before),
        cmocka_unit_test(test_a_full_feed_keeps_the_newest_of_each_topic),
        cmocka_unit_test(test_other_topics_make_room_as_well),
        cmocka_unit_test(test_many_small_topics_are_bounded),
        cmocka_unit_test(test_feeds_are_limited_and_end_with_the_server),
        cmocka_unit_test(test_order_is_kept_within_a_topic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
