// The workers: threads that take peers from the run queue, and from each peer a batch of calls.
//
// A peer with more calls than its batch goes back to the end of the queue before the batch is run, so that other
// workers can go on with it, and so that no peer keeps the others waiting for longer than a batch takes.
#include <sched.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/thread.h"
#include "rpc/rpc_server_priv.h"

enum {
    REPLY_KEPT_MAX_BYTES = 64 * 1024, // of a worker's reply buffer; what grew beyond it is given back
};

// Wakes a worker, unless one is on its way: that one wakes the next if it finds more than it takes.
static void
wake_one_and_unlock(struct rpc_run_queue *run)
{
    bool must_wake = run->locked.idle_workers > 0 && !run->locked.is_waking && !TAILQ_EMPTY(&run->locked.peers);
    run->locked.is_waking |= must_wake;
    pthread_mutex_unlock(&run->mutex);
    if (must_wake) {
        pthread_cond_signal(&run->wake);
    }
}

void
rpc_workers_schedule(struct rpc_server *server, struct rpc_peer *peer)
{
    struct rpc_run_queue *run = &server->run;
    pthread_mutex_lock(&run->mutex);
    TAILQ_INSERT_TAIL(&run->locked.peers, peer, run_link);
    wake_one_and_unlock(run);
}

// next_peer waits for work. NULL when the worker has to end.
static struct rpc_peer *
next_peer(struct rpc_run_queue *run)
{
    pthread_mutex_lock(&run->mutex);
    if (TAILQ_EMPTY(&run->locked.peers)) {
        // Where the processors are busy, those that bring work may run before this thread falls asleep and has to be
        // woken.
        pthread_mutex_unlock(&run->mutex);
        sched_yield();
        pthread_mutex_lock(&run->mutex);
    }
    while (TAILQ_EMPTY(&run->locked.peers) && !run->locked.is_stopping) {
        run->locked.idle_workers++;
        pthread_cond_wait(&run->wake, &run->mutex);
        run->locked.idle_workers--;
        run->locked.is_waking = false;
    }
    struct rpc_peer *peer = TAILQ_FIRST(&run->locked.peers);
    if (peer != NULL) {
        TAILQ_REMOVE(&run->locked.peers, peer, run_link);
    }
    wake_one_and_unlock(run);
    return peer;
}

static void
settle(struct rpc_batch *batch)
{
    if (batch->ended_calls > 0) {
        rpc_peer_settle(batch->peer, batch->ended_calls, batch->ended_bytes);
        batch->ended_calls = 0;
        batch->ended_bytes = 0;
    }
}

static void
run_calls(struct rpc_batch *batch, struct rpc_call_list *calls)
{
    uint64_t start_us = clock_monotonic_us();
    uint64_t flushed_us = start_us;
    uint64_t now_us = start_us;
    size_t count = 0;
    while (!STAILQ_EMPTY(calls) && !batch->is_stopped) {
        struct rpc_call *call = STAILQ_FIRST(calls);
        STAILQ_REMOVE_HEAD(calls, link);
        rpc_call_run(batch, call);
        count++;
        now_us = clock_monotonic_us();
        if (now_us - flushed_us > 1000) {
            // Slow handlers: what has been answered does not wait for the rest of the batch.
            rpc_peer_flush(batch->peer);
            settle(batch);
            flushed_us = now_us;
        }
    }
    rpc_peer_end_batch(batch->peer, count, now_us - start_us);
    settle(batch);
}

// run_peer runs one batch of a peer, whose reference it was given.
static void
run_peer(struct rpc_server *server, struct rpc_batch *batch, struct rpc_peer *peer)
{
    struct rpc_call_list calls = STAILQ_HEAD_INITIALIZER(calls);
    batch->peer = peer;
    batch->is_stopped = false;
    bool has_more = rpc_peer_take(peer, &calls, &batch->token);
    if (has_more) {
        rpc_peer_hold(peer);
        rpc_workers_schedule(server, peer);
    }
    rpc_batch_enter(batch);
    run_calls(batch, &calls);
    rpc_batch_leave();
    if (!STAILQ_EMPTY(&calls) && rpc_peer_put_back(peer, &calls)) {
        rpc_peer_hold(peer);
        rpc_workers_schedule(server, peer);
    }
    digest_wipe(&batch->token, sizeof(batch->token));
    if (batch->reply.capacity > REPLY_KEPT_MAX_BYTES) {
        bytes_free(&batch->reply);
    }
    rpc_peer_release(peer, 1);
    if (has_more) {
        // The threads that bring what others ask are not kept waiting for a processor by who asks without end.
        sched_yield();
    }
}

static void *
run_worker(void *context)
{
    struct rpc_server *server = context;
    struct rpc_batch batch = {.stats_writer = RPC_STATS_SHARED + 1 + atomic_fetch_add(&server->run.named_workers, 1)};
    struct rpc_peer *peer;
    while ((peer = next_peer(&server->run)) != NULL) {
        run_peer(server, &batch, peer);
    }
    bytes_free(&batch.reply);
    return NULL;
}

enum err
rpc_workers_start(struct rpc_server *server)
{
    struct rpc_run_queue *run = &server->run;
    run->workers = calloc(server->options.worker_threads, sizeof(*run->workers));
    if (run->workers == NULL) {
        return ERR_NO_MEMORY;
    }
    while (run->worker_count < server->options.worker_threads) {
        enum err err = thread_start(&run->workers[run->worker_count], "rpc-worker", run_worker, server);
        if (err != ERR_OK) {
            return err;
        }
        run->worker_count++;
    }
    return ERR_OK;
}

void
rpc_workers_stop(struct rpc_server *server)
{
    struct rpc_run_queue *run = &server->run;
    pthread_mutex_lock(&run->mutex);
    run->locked.is_stopping = true;
    pthread_cond_broadcast(&run->wake);
    pthread_mutex_unlock(&run->mutex);
    for (unsigned i = 0; i < run->worker_count; i++) {
        (void)pthread_join(run->workers[i], NULL);
    }
    run->worker_count = 0;
    free(run->workers);
    run->workers = NULL;
}
