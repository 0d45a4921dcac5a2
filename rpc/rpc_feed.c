// Feeds: what waits for one subscriber, topic by topic.
//
// A feed is unclaimed (its ticket is in the server's table and its timer runs), then claimed by a peer, then closed.
// While the peer's connection is writing, payloads gather; when it has written everything, what has gathered leaves,
// one message for each topic. An idle feed holds no buffers.
//
// Threads: anyone pushes; the listener's thread claims, says that all is written, and that the connection has gone; the
// timer thread ends unclaimed ones. References: the service's, and that of the table or, after it, of the peer.
#include "rpc/rpc_feed.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/random.h"
#include "rpc/rpc_server_priv.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
    TICKET_ID_BYTES = 8,      // by which the ticket is found
    TICKET_SECRET_BYTES = 16, // and what is compared in constant time
    TICKET_BYTES = TICKET_ID_BYTES + TICKET_SECRET_BYTES,
    TICKET_CHARS = 2 * TICKET_BYTES,
    // What a topic with payloads costs beside them, so that many small ones are bounded too.
    TOPIC_COST_BYTES = 256,
};
_Static_assert((int)TICKET_CHARS <= (int)RPC_TICKET_MAX_BYTES, "tickets fit their limit");

// The payloads of a topic that wait to be written; there is one only while there are any.
struct topic {
    UT_hash_handle hh; // keeps the order in which the topics came
    uint8_t id[RPC_TOPIC_BYTES];
    struct bytes payloads;
    size_t newest_at; // where the newest of them starts
};

struct rpc_feed {
    // Immutable after new.
    struct rpc_server *server; // a reference
    rpc_feed_closed_fn *on_closed;
    void *context;
    uint8_t ticket[TICKET_BYTES];
    char ticket_text[TICKET_CHARS + 1];

    atomic_uint references;
    struct timer timer;        // armed while unclaimed
    LIST_ENTRY(rpc_feed) link; // guarded by server->feeds_mutex
    bool is_unclaimed;         // guarded by server->feeds_mutex

    pthread_mutex_t mutex;
    struct {
        struct rpc_peer *peer; // while claimed; it outlives that
        struct topic *topics;  // a hash
        size_t waiting_bytes;
        bool is_writing; // the connection has not yet written what was queued
        bool is_closed;
    } locked; // guarded by mutex
};

static void
free_topic_locked(struct rpc_feed *feed, struct topic *topic)
{
    feed->locked.waiting_bytes -= TOPIC_COST_BYTES + topic->payloads.size;
    HASH_DEL(feed->locked.topics, topic);
    bytes_free(&topic->payloads);
    free(topic);
}

static void
free_topics_locked(struct rpc_feed *feed)
{
    struct topic *topic;
    struct topic *next;
    HASH_ITER(hh, feed->locked.topics, topic, next)
    {
        free_topic_locked(feed, topic);
    }
}

static void
release(struct rpc_feed *feed)
{
    if (atomic_fetch_sub_explicit(&feed->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    struct rpc_server *server = feed->server;
    pthread_mutex_lock(&server->feeds_mutex);
    server->feeds.count--;
    pthread_mutex_unlock(&server->feeds_mutex);
    free_topics_locked(feed);
    pthread_mutex_destroy(&feed->mutex);
    digest_wipe(feed->ticket, sizeof(feed->ticket));
    digest_wipe(feed->ticket_text, sizeof(feed->ticket_text));
    free(feed);
    rpc_server_release(server);
}

// end closes the feed, tells the service once, and drops the reference of the table or the peer.
static void
end(struct rpc_feed *feed)
{
    pthread_mutex_lock(&feed->mutex);
    feed->locked.is_closed = true;
    feed->locked.peer = NULL;
    free_topics_locked(feed);
    pthread_mutex_unlock(&feed->mutex);
    feed->on_closed(feed->context, feed);
    release(feed);
}

// take_unclaimed removes a feed from the table, unless somebody was faster.
static bool
take_unclaimed(struct rpc_feed *feed)
{
    struct rpc_server *server = feed->server;
    pthread_mutex_lock(&server->feeds_mutex);
    bool is_mine = feed->is_unclaimed;
    if (is_mine) {
        feed->is_unclaimed = false;
        LIST_REMOVE(feed, link);
    }
    pthread_mutex_unlock(&server->feeds_mutex);
    return is_mine;
}

static void
on_expiry(struct timer *timer)
{
    struct rpc_feed *feed = (struct rpc_feed *)((char *)timer - offsetof(struct rpc_feed, timer));
    if (take_unclaimed(feed)) {
        // rpc_feed_close may have armed it again, just before it was taken.
        (void)timer_stop(feed->server->timers, timer);
        end(feed);
    }
}

static struct rpc_feed_list *
bucket_of(struct rpc_server *server, const uint8_t *ticket)
{
    return &server->feeds.unclaimed[ticket[0] % RPC_FEED_BUCKETS];
}

static enum err
publish_ticket(struct rpc_server *server, struct rpc_feed *feed)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&server->feeds_mutex);
    if (atomic_load(&server->is_draining)) {
        err = ERR_UNAVAILABLE;
    } else if (server->feeds.count >= server->options.max_connections) {
        err = ERR_LIMIT;
    } else {
        // Armed under the lock: on_expiry waits for it, and rpc_feeds_end finds only feeds whose timer runs.
        err = timer_start(server->timers, &feed->timer, server->ticket_lifetime_ms);
    }
    if (err == ERR_OK) {
        feed->is_unclaimed = true;
        LIST_INSERT_HEAD(bucket_of(server, feed->ticket), feed, link);
        server->feeds.count++;
    }
    pthread_mutex_unlock(&server->feeds_mutex);
    return err;
}

enum err
rpc_feed_new(struct rpc_server *server, rpc_feed_closed_fn *on_closed, void *context, struct rpc_feed **out)
{
    struct rpc_feed *feed = calloc(1, sizeof(*feed));
    if (feed == NULL) {
        return ERR_NO_MEMORY;
    }
    feed->server = server;
    feed->on_closed = on_closed;
    feed->context = context;
    feed->timer.on_expiry = on_expiry;
    atomic_init(&feed->references, 2); // the service's and the table's
    random_bytes(feed->ticket, sizeof(feed->ticket));
    bytes_to_hex(bytes_view_of(feed->ticket, sizeof(feed->ticket)), feed->ticket_text);
    (void)pthread_mutex_init(&feed->mutex, NULL);
    enum err err = publish_ticket(server, feed);
    if (err != ERR_OK) {
        pthread_mutex_destroy(&feed->mutex);
        free(feed);
        return err;
    }
    rpc_server_hold(server);
    *out = feed;
    return ERR_OK;
}

const char *
rpc_feed_ticket(const struct rpc_feed *feed)
{
    return feed->ticket_text;
}

// send_locked hands one message to the connection, without starting to write.
static void
send_locked(struct rpc_feed *feed, const uint8_t *topic, struct bytes_view payloads)
{
    const struct bytes_view parts[] = {bytes_view_of(topic, RPC_TOPIC_BYTES), payloads};
    feed->locked.is_writing = true;
    (void)rpc_peer_send(feed->locked.peer, parts, sizeof(parts) / sizeof(parts[0]), false);
}

static void
flush_locked(struct rpc_feed *feed)
{
    feed->locked.is_writing = !rpc_peer_flush_all(feed->locked.peer);
}

static void
send_waiting_locked(struct rpc_feed *feed)
{
    struct topic *topic;
    struct topic *next;
    HASH_ITER(hh, feed->locked.topics, topic, next)
    {
        send_locked(feed, topic->id, bytes_as_view(&topic->payloads));
        free_topic_locked(feed, topic);
    }
    if (feed->locked.is_writing) {
        flush_locked(feed);
    }
}

// claim hands the feed to a peer and sends it what has waited. The service may have closed it meanwhile.
static bool
claim(struct rpc_feed *feed, struct rpc_peer *peer)
{
    pthread_mutex_lock(&feed->mutex);
    bool is_open = !feed->locked.is_closed;
    if (is_open) {
        feed->locked.peer = peer;
        send_waiting_locked(feed);
    }
    pthread_mutex_unlock(&feed->mutex);
    return is_open;
}

static struct rpc_feed *
find_unclaimed(struct rpc_server *server, const uint8_t ticket[TICKET_BYTES])
{
    struct rpc_feed *found = NULL;
    struct rpc_feed *feed;
    pthread_mutex_lock(&server->feeds_mutex);
    LIST_FOREACH(feed, bucket_of(server, ticket), link)
    {
        bool is_same = memcmp(feed->ticket, ticket, TICKET_ID_BYTES) == 0 &&
                       bytes_view_equal_secret(bytes_view_of(feed->ticket + TICKET_ID_BYTES, TICKET_SECRET_BYTES),
                           bytes_view_of(ticket + TICKET_ID_BYTES, TICKET_SECRET_BYTES));
        if (is_same) {
            found = feed;
            break;
        }
    }
    if (found != NULL) {
        found->is_unclaimed = false;
        LIST_REMOVE(found, link);
    }
    pthread_mutex_unlock(&server->feeds_mutex);
    return found;
}

enum err
rpc_feed_claim(struct rpc_server *server, struct bytes_view ticket, struct rpc_peer *peer, struct rpc_feed **out)
{
    char text[TICKET_CHARS + 1];
    uint8_t id[TICKET_BYTES];
    if (ticket.size != TICKET_CHARS) {
        return ERR_NOT_FOUND;
    }
    memcpy(text, ticket.data, TICKET_CHARS);
    text[TICKET_CHARS] = '\0';
    if (bytes_from_hex(text, id, sizeof(id)) != ERR_OK) {
        return ERR_NOT_FOUND;
    }
    struct rpc_feed *feed = find_unclaimed(server, id);
    if (feed == NULL) {
        return ERR_NOT_FOUND;
    }
    // Nobody but us ends it now. Waits for an expiry that came too late to find it in the table.
    (void)timer_stop(server->timers, &feed->timer);
    if (!claim(feed, peer)) {
        end(feed);
        return ERR_NOT_FOUND;
    }
    *out = feed;
    return ERR_OK;
}

void
rpc_feed_written(struct rpc_feed *feed)
{
    pthread_mutex_lock(&feed->mutex);
    feed->locked.is_writing = false;
    if (feed->locked.peer != NULL && !feed->locked.is_closed) {
        send_waiting_locked(feed);
    }
    pthread_mutex_unlock(&feed->mutex);
}

void
rpc_feed_lost(struct rpc_feed *feed)
{
    end(feed);
}

static void
count_dropped(struct rpc_feed *feed, size_t bytes)
{
    atomic_fetch_add_explicit(&feed->server->stats.dropped_subscription_bytes, bytes, memory_order_relaxed);
}

static size_t
waiting_payload_bytes_locked(const struct rpc_feed *feed)
{
    size_t bytes = 0;
    for (const struct topic *topic = feed->locked.topics; topic != NULL; topic = topic->hh.next) {
        bytes += topic->payloads.size;
    }
    return bytes;
}

static void
keep_newest_locked(struct rpc_feed *feed, struct topic *topic)
{
    if (topic->newest_at == 0) {
        return;
    }
    struct bytes_view whole = bytes_as_view(&topic->payloads);
    struct bytes newest = {0};
    // Into memory of its own size: what counts as forgotten has to be given back.
    if (bytes_append(&newest, bytes_view_of(whole.data + topic->newest_at, whole.size - topic->newest_at)) == ERR_OK) {
        bytes_free(&topic->payloads);
        topic->payloads = newest;
    } else {
        bytes_consume(&topic->payloads, topic->newest_at);
    }
    feed->locked.waiting_bytes -= topic->newest_at;
    count_dropped(feed, topic->newest_at);
    topic->newest_at = 0;
}

// make_room_locked lets topics forget all but their newest payload, first the one that is pushed to, which is about to
// get a newer one. Returns false when the newest ones alone are too many.
static bool
make_room_locked(struct rpc_feed *feed, struct topic *pushed, size_t needed_bytes)
{
    if (feed->locked.waiting_bytes + needed_bytes <= RPC_FEED_MAX_BYTES) {
        return true;
    }
    pushed->newest_at = pushed->payloads.size;
    keep_newest_locked(feed, pushed);
    for (struct topic *topic = feed->locked.topics;
         topic != NULL && feed->locked.waiting_bytes + needed_bytes > RPC_FEED_MAX_BYTES; topic = topic->hh.next) {
        keep_newest_locked(feed, topic);
    }
    return feed->locked.waiting_bytes + needed_bytes <= RPC_FEED_MAX_BYTES;
}

static struct topic *
find_topic_locked(struct rpc_feed *feed, const uint8_t id[RPC_TOPIC_BYTES])
{
    struct topic *topic = NULL;
    HASH_FIND(hh, feed->locked.topics, id, RPC_TOPIC_BYTES, topic);
    return topic;
}

static struct topic *
add_topic_locked(struct rpc_feed *feed, const uint8_t id[RPC_TOPIC_BYTES])
{
    struct topic *topic = calloc(1, sizeof(*topic));
    if (topic == NULL) {
        return NULL;
    }
    memcpy(topic->id, id, RPC_TOPIC_BYTES);
    HASH_ADD(hh, feed->locked.topics, id, RPC_TOPIC_BYTES, topic);
    if (topic->hh.tbl == NULL) {
        free(topic);
        return NULL;
    }
    feed->locked.waiting_bytes += TOPIC_COST_BYTES;
    return topic;
}

static enum err
wait_locked(struct rpc_feed *feed, const uint8_t id[RPC_TOPIC_BYTES], struct bytes_view payload)
{
    struct topic *topic = find_topic_locked(feed, id);
    if (topic == NULL) {
        topic = add_topic_locked(feed, id);
    }
    if (topic == NULL) {
        return ERR_NO_MEMORY;
    }
    if (!make_room_locked(feed, topic, payload.size)) {
        return ERR_LIMIT;
    }
    size_t at = topic->payloads.size;
    enum err err = bytes_append(&topic->payloads, payload);
    if (err == ERR_OK) {
        topic->newest_at = at;
        feed->locked.waiting_bytes += payload.size;
    }
    return err;
}

void
rpc_feed_push(struct rpc_feed *feed, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view payload)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&feed->mutex);
    if (!feed->locked.is_closed) {
        if (feed->locked.peer != NULL && !feed->locked.is_writing) {
            send_locked(feed, topic, payload);
            flush_locked(feed);
        } else {
            err = wait_locked(feed, topic, payload);
        }
        if (err != ERR_OK) {
            count_dropped(feed, payload.size + waiting_payload_bytes_locked(feed));
        }
    }
    pthread_mutex_unlock(&feed->mutex);
    if (err != ERR_OK) {
        // Not even the newest payload of each topic can be kept, and leaving some out would not be noticed. A
        // subscriber that loses its connection fetches what it missed.
        rpc_feed_close(feed);
    }
}

void
rpc_feed_drop_topic(struct rpc_feed *feed, const uint8_t topic[RPC_TOPIC_BYTES])
{
    pthread_mutex_lock(&feed->mutex);
    struct topic *found = find_topic_locked(feed, topic);
    if (found != NULL) {
        free_topic_locked(feed, found);
    }
    pthread_mutex_unlock(&feed->mutex);
}

void
rpc_feed_close(struct rpc_feed *feed)
{
    struct rpc_server *server = feed->server;
    // on_closed may come before this function has ended, and with it the service's release.
    atomic_fetch_add_explicit(&feed->references, 1, memory_order_relaxed);
    pthread_mutex_lock(&feed->mutex);
    bool was_open = !feed->locked.is_closed;
    feed->locked.is_closed = true;
    free_topics_locked(feed);
    if (was_open && feed->locked.peer != NULL) {
        rpc_peer_close(feed->locked.peer, 0); // and rpc_feed_lost follows
    }
    pthread_mutex_unlock(&feed->mutex);

    // on_closed is not called from here, where the service may hold a lock: the timer thread does that. Moving a timer
    // that is armed cannot fail, and one that is not is about to end the feed anyway.
    pthread_mutex_lock(&server->feeds_mutex);
    if (feed->is_unclaimed) {
        enum err err = timer_start(server->timers, &feed->timer, 0);
        (void)err;
    }
    pthread_mutex_unlock(&server->feeds_mutex);
    release(feed);
}

void
rpc_feed_release(struct rpc_feed *feed)
{
    release(feed);
}

static struct rpc_feed *
take_any_unclaimed(struct rpc_server *server)
{
    struct rpc_feed *feed = NULL;
    pthread_mutex_lock(&server->feeds_mutex);
    for (size_t i = 0; i < RPC_FEED_BUCKETS && feed == NULL; i++) {
        feed = LIST_FIRST(&server->feeds.unclaimed[i]);
    }
    if (feed != NULL) {
        feed->is_unclaimed = false;
        LIST_REMOVE(feed, link);
    }
    pthread_mutex_unlock(&server->feeds_mutex);
    return feed;
}

void
rpc_feeds_end(struct rpc_server *server)
{
    struct rpc_feed *feed;
    while ((feed = take_any_unclaimed(server)) != NULL) {
        (void)timer_stop(server->timers, &feed->timer);
        end(feed);
    }
}
