// The nng dialer belongs to the attempt: one that is used again after a cancel starts its resolver twice and asserts.
#include "rpc/rpc_dial.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timer.h"
#include "base/work_pool.h"

struct rpc_dial {
    struct rpc_url url;
    rpc_dial_done_fn *on_done;
    void *context;
    nng_stream_dialer *dialer;
    nng_stream_dialer *second_dialer; // by IPv4
    nng_aio *aio;
    struct timer_queue *timers;
    struct timer deadline;
    struct work reap_work;

    pthread_mutex_t mutex;
    int abort_error; // guarded by mutex; 0: go on
};

static void
dial_free(struct rpc_dial *dial)
{
    nng_aio_free(dial->aio);
    nng_stream_dialer_free(dial->dialer);
    nng_stream_dialer_free(dial->second_dialer);
    (void)pthread_mutex_destroy(&dial->mutex);
    free(dial);
}

static void
reap(struct work *work)
{
    struct rpc_dial *dial = (struct rpc_dial *)((char *)work - offsetof(struct rpc_dial, reap_work));
    (void)timer_stop(dial->timers, &dial->deadline);
    nng_aio_stop(dial->aio);
    dial_free(dial);
}

static void
abort_dial(struct rpc_dial *dial, int nng_error)
{
    (void)pthread_mutex_lock(&dial->mutex);
    dial->abort_error = nng_error;
    nng_aio_abort(dial->aio, nng_error);
    (void)pthread_mutex_unlock(&dial->mutex);
}

void
rpc_dial_cancel(struct rpc_dial *dial)
{
    abort_dial(dial, NNG_ECANCELED);
}

static void
on_deadline(struct timer *timer)
{
    struct rpc_dial *dial = (struct rpc_dial *)((char *)timer - offsetof(struct rpc_dial, deadline));
    abort_dial(dial, NNG_ETIMEDOUT);
}

// Starts the second attempt, unless there is none or no time for it.
static bool
dial_second(struct rpc_dial *dial)
{
    char url[RPC_URL_MAX_BYTES + 16];
    bool is_started = false;
    if (!dial->url.has_host_name || dial->second_dialer != NULL) {
        return false;
    }
    (void)snprintf(url, sizeof url, "tcp4://%s:%u", dial->url.host, dial->url.port);
    if (nng_stream_dialer_alloc(&dial->second_dialer, url) != 0) {
        return false;
    }
    (void)pthread_mutex_lock(&dial->mutex);
    if (dial->abort_error == 0) {
        nng_stream_dialer_dial(dial->second_dialer, dial->aio);
        is_started = true;
    }
    (void)pthread_mutex_unlock(&dial->mutex);
    return is_started;
}

static void
on_dialled(void *arg)
{
    struct rpc_dial *dial = arg;
    int result = nng_aio_result(dial->aio);
    nng_stream *stream = result == 0 ? nng_aio_get_output(dial->aio, 0) : NULL;
    if (result != 0 && dial_second(dial)) {
        return;
    }
    dial->on_done(dial->context, stream, result);
    work_pool_submit(rpc_nng_reaper(), &dial->reap_work);
}

enum err
rpc_dial_start(const struct rpc_url *url, unsigned timeout_ms, rpc_dial_done_fn *on_done, void *context,
    struct rpc_dial **out)
{
    struct rpc_dial *dial = calloc(1, sizeof *dial);
    if (dial == NULL) {
        return ERR_NO_MEMORY;
    }
    (void)pthread_mutex_init(&dial->mutex, NULL);
    dial->url = *url;
    dial->on_done = on_done;
    dial->context = context;
    dial->deadline.on_expiry = on_deadline;
    dial->reap_work.run = reap;
    dial->timers = rpc_nng_timers();
    enum err err = dial->timers == NULL || rpc_nng_reaper() == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK) {
        err = err_from_nng(nng_stream_dialer_alloc(&dial->dialer, rpc_url_stream(url)));
    }
    if (err == ERR_OK) {
        err = err_from_nng(nng_aio_alloc(&dial->aio, on_dialled, dial));
    }
    if (err == ERR_OK) {
        err = timer_start(dial->timers, &dial->deadline, timeout_ms);
    }
    if (err != ERR_OK) {
        dial_free(dial);
        return err;
    }
    *out = dial;
    nng_stream_dialer_dial(dial->dialer, dial->aio);
    return ERR_OK;
}
