// For the server's side of rpc/ only: what server, peers, calls, workers and feeds know of each other.
//
// Life: a peer is referred to by its listener (until rpc_peer_closed), by each of its calls, and by the run queue.
// The server's memory is referred to by its owner, its peers and its feeds, so that an answer that comes after
// rpc_server_free finds a closed peer and not freed memory.
//
// Lock order: a feed's, the server's, a peer's, the transport's own. The run queue's and the feed table's are taken
// with none of them held.
#ifndef RPC_SERVER_PRIV_H
#define RPC_SERVER_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/timer.h"
#include "rpc/rpc_call_priv.h"
#include "rpc/rpc_method_priv.h"
#include "rpc/rpc_once_priv.h"
#include "rpc/rpc_peer_priv.h"
#include "rpc/rpc_rate.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_server_stream_priv.h"
#include "rpc/rpc_stats_priv.h"

struct rpc_feed;
struct rpc_health;
struct rpc_reflection;
struct rpc_stats_service;
LIST_HEAD(rpc_feed_list, rpc_feed);
struct rpc_feed_group;
STAILQ_HEAD(rpc_feed_group_list, rpc_feed_group);
LIST_HEAD(rpc_peer_list, rpc_peer);
TAILQ_HEAD(rpc_peer_queue, rpc_peer);

LIST_HEAD(rpc_call_watch_list, rpc_call_watch);

enum {
    RPC_PEER_CANCELLED_SLOTS = 1024, // for as many calls as may be in flight on a connection
    RPC_FEED_BUCKETS = 256,          // tickets wait for 30 s at most, so few of them are there at a time
};

struct rpc_peer {
    // Immutable after new.
    struct rpc_server *server; // a reference
    const struct rpc_transport_ops *ops;
    void *transport;
    char *address;

    atomic_size_t references;
    atomic_size_t calls; // without an answer yet, and without those of `arrived`
    atomic_bool is_closed;
    atomic_bool takes_flags; // it has said Hello
    atomic_bool has_cancels; // some slot of locked.cancelled is in use
    // Only on the timer thread, of the last look of rpc_peer_keep_alive.
    unsigned seen_progress;
    bool is_pinged;

    // Only in the listener's calls, which come one at a time.
    struct rpc_call_list arrived; // since the last rpc_peer_batch_end
    size_t arrived_calls;
    size_t arrived_bytes;
    uint64_t arrived_us;          // when the first of them came
    bool has_answered;            // some of them at once, so there is something to flush
    size_t arrived_message_bytes; // with the refused ones
    struct rpc_feed *feed;

    LIST_ENTRY(rpc_peer) link;         // guarded by server->locked
    TAILQ_ENTRY(rpc_peer) paused_link; // guarded by server->locked
    bool is_in_paused;                 // guarded by server->locked
    TAILQ_ENTRY(rpc_peer) run_link;    // guarded by the run queue

    pthread_mutex_t mutex;
    struct {
        struct rpc_call_list waiting;
        bool is_scheduled;       // in the run queue, or about to be
        unsigned pauses;         // enum rpc_pause: why it is not read
        unsigned batch_calls;    // how many calls a worker takes at once
        size_t unchecked_bytes;  // replies queued since the transport was asked how much waits
        size_t waiting_calls;    // how many wait
        uint64_t received_bytes; // in messages, so far
        uint64_t sent_bytes;
        struct rpc_token_cache token;
        uint32_t *cancelled; // request ids of calls that were given up, by their last bits; NULL: none so far
        struct rpc_call_watch_list watches;
        struct rpc_stream_list streams[RPC_STREAM_BUCKETS]; // by the last bits of their request ids
        size_t stream_count;
    } locked; // guarded by mutex
};

enum rpc_pause {
    RPC_PAUSE_REPLIES = 1,  // too much waits to be written to it
    RPC_PAUSE_RECEIVED = 2, // the server holds too many received bytes
};

// The peers with waiting calls, and the workers.
// The groups of feeds whose members have not had all that was pushed, with a reference each.
struct rpc_feed_rounds {
    pthread_t thread;
    bool is_started;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct rpc_feed_group_list due; // guarded by mutex
    bool is_stopping;               // guarded by mutex
};

struct rpc_run_queue {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct {
        struct rpc_peer_queue peers;
        unsigned idle_workers;
        bool is_waking; // one of them has been woken and is not back yet
        bool is_stopping;
    } locked;
    pthread_t *workers;
    unsigned worker_count;
    atomic_uint named_workers; // those that know their number
};

struct rpc_listener {
    LIST_ENTRY(rpc_listener) link;
    const struct rpc_listener_ops *ops;
    void *listener;
};

struct rpc_server {
    // Immutable once it listens.
    struct rpc_server_options options; // with the defaults filled in
    struct rpc_method_table methods;
    struct rpc_reflection *reflection;
    struct rpc_health *health;
    struct rpc_stats_service *stats_service; // NULL: nobody can say who is an administrator
    struct rpc_metric *metrics;              // that services have added
    size_t metric_count;
    const struct rpc_content_handler *content; // NULL: none
    struct timer_queue *timers;
    unsigned ticket_lifetime_ms;         // RPC_TICKET_LIFETIME_MS; tests have less patience
    LIST_HEAD(, rpc_listener) listeners; // only on the owner's thread

    atomic_size_t references;
    atomic_size_t call_count;
    atomic_size_t received_bytes;
    atomic_uint token_generation;
    atomic_bool is_draining;
    atomic_bool has_paused; // peers in locked.paused

    struct {
        uint64_t started_ms;                   // immutable
        struct rpc_stats_cell *unknown_method; // calls that were refused before their method was known
        atomic_uint_least64_t dropped_calls;
        atomic_uint_least64_t dropped_subscription_bytes;
    } stats;

    struct {
        pthread_mutex_t mutex;
        uint64_t sampled_ms;
        uint64_t cpu_us; // then
        uint32_t cpu_permille;
    } load;

    struct rpc_once *once;
    struct rpc_rate *rate; // NULL: no limit
    struct timer keepalive;

    struct rpc_run_queue run;

    pthread_mutex_t mutex;
    pthread_cond_t changed; // while draining: the last call has ended, or a peer has gone
    struct {
        struct rpc_peer_list peers; // without reference: closed ones have left it
        size_t peer_count;
        struct rpc_peer_queue paused; // with a reference
        uint64_t accepted_peers;
        uint64_t refused_peers;
        uint64_t gone_received_bytes; // of the peers that are not there any more
        uint64_t gone_sent_bytes;
    } locked; // guarded by mutex

    struct rpc_feed_rounds rounds;

    pthread_mutex_t feeds_mutex;
    struct {
        struct rpc_feed_list unclaimed[RPC_FEED_BUCKETS]; // whose ticket has not been used; with a reference
        size_t count;                                     // of all feeds
    } feeds;                                              // guarded by feeds_mutex
};

void rpc_server_hold(struct rpc_server *server);
void rpc_server_release(struct rpc_server *server);

// rpc_server_call_ended is called when call_count has come down to 0.
void rpc_server_call_ended(struct rpc_server *server);

// rpc_server_pause_peer and rpc_server_resume_peers stop and restart the reading of peers while too many received bytes
// are held.
void rpc_server_pause_peer(struct rpc_server *server, struct rpc_peer *peer);
void rpc_server_resume_peers(struct rpc_server *server);

// rpc_workers_start starts the threads; rpc_workers_stop lets them finish what they run and ends them.
enum err rpc_workers_start(struct rpc_server *server) ERR_CHECKED;
void rpc_workers_stop(struct rpc_server *server);

// rpc_workers_schedule puts a peer at the end of the run queue, which takes over a reference.
void rpc_workers_schedule(struct rpc_server *server, struct rpc_peer *peer);

// rpc_server_take_bytes counts what was received and is held; false when that is too much now.
// rpc_server_give_back_bytes undoes it.
bool rpc_server_take_bytes(struct rpc_server *server, size_t bytes) ERR_CHECKED;
void rpc_server_give_back_bytes(struct rpc_server *server, size_t bytes);

// rpc_server_measure_load says how busy the server is. load_out borrows nothing.
void rpc_server_measure_load(struct rpc_server *server, Fc__Rpc__V1__Load *load_out);

void rpc_peer_hold(struct rpc_peer *peer);
void rpc_peer_release(struct rpc_peer *peer, size_t references);

// rpc_peer_take moves the next batch of waiting calls to `calls`. Returns whether the peer stays scheduled because more
// of them wait; then the caller schedules it.
bool rpc_peer_take(struct rpc_peer *peer, struct rpc_call_list *calls, struct rpc_token_cache *token_out) ERR_CHECKED;

// rpc_peer_put_back returns calls that were taken and not run to the front. Returns whether the caller schedules the
// peer, for which it then needs a reference.
bool rpc_peer_put_back(struct rpc_peer *peer, struct rpc_call_list *calls) ERR_CHECKED;

// rpc_peer_end_batch writes the replies of a batch, and learns from how long it took how many calls the next one holds.
void rpc_peer_end_batch(struct rpc_peer *peer, size_t calls, uint64_t took_us);

// rpc_peer_new_call makes a call of a message that has arrived, within the limits. *out is NULL when it was refused.
// ERR_NO_MEMORY. rpc_peer_call_arrived puts it to those that rpc_peer_batch_end hands to the workers.
enum err rpc_peer_new_call(struct rpc_peer *peer, struct bytes_view data, size_t route_bytes, struct bytes *large,
    struct rpc_call **out) ERR_CHECKED;
void rpc_peer_call_arrived(struct rpc_peer *peer, struct rpc_call *call);

// rpc_peer_progress is that of its transport; 0 once it has closed.
unsigned rpc_peer_progress(struct rpc_peer *peer);

// rpc_peer_enqueue has a worker run the call of a stream again. Any thread, also when the peer has closed.
void rpc_peer_enqueue(struct rpc_peer *peer, struct rpc_call *call);

// rpc_peer_receive_flagged takes a message whose frame has flags. As rpc_peer_receive.
enum err rpc_peer_receive_flagged(struct rpc_peer *peer, struct bytes_view data, size_t route_bytes,
    struct bytes *large) ERR_CHECKED;

// rpc_peer_say_going_away tells a client that takes frames with flags that the server shuts down.
void rpc_peer_say_going_away(struct rpc_peer *peer);

// rpc_peer_keep_alive pings a client that has been silent since the last time, and closes one that was pinged and still
// is. On the timer thread.
void rpc_peer_keep_alive(struct rpc_peer *peer);

// rpc_peer_cancel notes that the client has given a call up, and tells who watches it. rpc_peer_has_cancelled looks;
// rpc_peer_reuses_id forgets, since a new call has the request id.
void rpc_peer_cancel(struct rpc_peer *peer, struct bytes_view route);
bool rpc_peer_has_cancelled(struct rpc_peer *peer, struct bytes_view route);
void rpc_peer_reuses_id(struct rpc_peer *peer, struct bytes_view route);

// rpc_peer_cancel_watched cancels all calls that are watched, since the peer has closed.
void rpc_peer_cancel_watched(struct rpc_peer *peer);

// rpc_peer_answers takes a call off those of its connection. It comes before rpc_peer_send: a caller that has the
// answer may call again at once, and then must not be refused for a call that it knows has ended.
void rpc_peer_answers(struct rpc_peer *peer);

// rpc_peer_send queues one message, and starts writing when is_last. Silent when the peer has closed. Returns false
// when so much waits to be written that no further call of this peer should be run.
bool rpc_peer_send(struct rpc_peer *peer, const struct bytes_view *parts, size_t part_count, bool is_last);

void rpc_peer_flush(struct rpc_peer *peer);

// rpc_peer_flush_all is the same and returns whether everything has been written. If not, rpc_peer_drained follows
// unless the peer closes.
bool rpc_peer_flush_all(struct rpc_peer *peer);

// rpc_peer_close begins to close the connection.
void rpc_peer_close(struct rpc_peer *peer, unsigned linger_ms);

// rpc_peer_remember_token replaces the token that was last checked.
void rpc_peer_remember_token(struct rpc_peer *peer, const struct rpc_token_cache *token);

// rpc_peer_set_received_pause stops or restarts the reading of a peer for RPC_PAUSE_RECEIVED.
void rpc_peer_set_received_pause(struct rpc_peer *peer, bool is_paused);

// rpc_peer_settle takes ended calls off the counts of the server, with their references to the peer.
void rpc_peer_settle(struct rpc_peer *peer, size_t calls, size_t held_bytes);

// rpc_feed_claim gives the peer the feed of this ticket, with a reference. ERR_NOT_FOUND.
enum err rpc_feed_claim(struct rpc_server *server, struct bytes_view ticket, struct rpc_peer *peer,
    struct rpc_feed **out) ERR_CHECKED;
// rpc_feed_written: everything that the feed queued has been written.
void rpc_feed_written(struct rpc_feed *feed);
// rpc_feed_lost: the peer that had claimed the feed has gone. Takes the peer's reference.
void rpc_feed_lost(struct rpc_feed *feed);
// rpc_feed_rounds_start starts the thread that hands out what is pushed to groups. After rpc_feed_rounds_stop a push
// reaches only the first few members.
enum err rpc_feed_rounds_start(struct rpc_server *server) ERR_CHECKED;
void rpc_feed_rounds_stop(struct rpc_server *server);
// rpc_feeds_end closes the feeds that nobody has claimed.
void rpc_feeds_end(struct rpc_server *server);

#endif
