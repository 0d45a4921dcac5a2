#include "cli/cli_delivery.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/work_pool.h"
#include "cli/cli_exec.h"
#include "cli/cli_interrupt.h"

enum {
    WAITING_MAX_BYTES = 16 * 1024 * 1024,
};

struct cli_delivery {
    struct cli_delivery_options options;
    struct work_pool *pool; // of one thread, so that the order stays
    atomic_bool is_stopped;

    pthread_mutex_t mutex;
    pthread_cond_t has_room;
    size_t waiting_bytes; // under the mutex
};

// One message on its way.
struct parcel {
    struct work work; // the first member: it is what the pool gives back
    struct cli_delivery *delivery;
    struct cli_exec_about about;
    struct bytes text; // a line or an object
};

static bool
is_over(const struct cli_delivery *delivery)
{
    return atomic_load(&delivery->is_stopped) || cli_interrupt_signal() != 0;
}

static void
run(struct work *work)
{
    struct parcel *parcel = (struct parcel *)work;
    struct cli_delivery *delivery = parcel->delivery;
    struct err_detail why = {0};
    enum err code = ERR_OK;
    if (!is_over(delivery)) {
        struct bytes_view text = bytes_as_view(&parcel->text);
        code = delivery->options.command != NULL
                   ? cli_exec_run(delivery->options.command, &parcel->about, text, &delivery->is_stopped, &why)
                   : cli_output_write(text, &why);
    }
    if (code != ERR_OK && !atomic_exchange(&delivery->is_stopped, true)) {
        delivery->options.on_failure(delivery->options.context, code, &why);
    }
    pthread_mutex_lock(&delivery->mutex);
    delivery->waiting_bytes -= parcel->text.size;
    pthread_cond_signal(&delivery->has_room);
    pthread_mutex_unlock(&delivery->mutex);
    bytes_free(&parcel->text);
    free(parcel);
}

enum err
cli_delivery_new(const struct cli_delivery_options *options, struct cli_delivery **out, struct err_detail *why)
{
    struct cli_delivery *delivery = calloc(1, sizeof(*delivery));
    if (delivery == NULL) {
        return ERR_NO_MEMORY;
    }
    delivery->options = *options;
    pthread_mutex_init(&delivery->mutex, NULL);
    pthread_cond_init(&delivery->has_room, NULL);
    enum err code = work_pool_new("delivery", 1, &delivery->pool);
    if (code != ERR_OK) {
        cli_delivery_free(&delivery);
        return err_fail(why, code, "cannot start a thread: %s", err_sentence(code));
    }
    *out = delivery;
    return ERR_OK;
}

static enum err
make_parcel(struct cli_delivery *delivery, const struct fc_message *message, struct parcel **out)
{
    struct parcel *parcel = calloc(1, sizeof(*parcel));
    struct cli_text text = {0};
    if (parcel == NULL) {
        return ERR_NO_MEMORY;
    }
    parcel->work.run = run;
    parcel->delivery = delivery;
    parcel->about.seq = message->seq;
    (void)snprintf(parcel->about.room, sizeof(parcel->about.room), "%s", message->room);
    (void)snprintf(parcel->about.sender, sizeof(parcel->about.sender), "%s", message->sender);
    cli_message_add(&text, message, &delivery->options.style);
    parcel->text = text.bytes; // transferred
    if (text.code != ERR_OK) {
        bytes_free(&parcel->text);
        free(parcel);
        return text.code;
    }
    *out = parcel;
    return ERR_OK;
}

bool
cli_delivery_put(struct cli_delivery *delivery, const struct fc_message *message)
{
    struct parcel *parcel = NULL;
    enum err code = make_parcel(delivery, message, &parcel);
    if (code != ERR_OK) {
        if (!atomic_exchange(&delivery->is_stopped, true)) {
            delivery->options.on_failure(delivery->options.context, code, NULL);
        }
        return false;
    }
    pthread_mutex_lock(&delivery->mutex);
    while (delivery->waiting_bytes > WAITING_MAX_BYTES) {
        pthread_cond_wait(&delivery->has_room, &delivery->mutex);
    }
    delivery->waiting_bytes += parcel->text.size;
    pthread_mutex_unlock(&delivery->mutex);
    work_pool_submit(delivery->pool, &parcel->work);
    return !is_over(delivery);
}

void
cli_delivery_stop(struct cli_delivery *delivery)
{
    atomic_store(&delivery->is_stopped, true);
    cli_interrupt_wake();
}

void
cli_delivery_free(struct cli_delivery **delivery)
{
    struct cli_delivery *self = *delivery;
    if (self == NULL) {
        return;
    }
    if (self->pool != NULL) {
        work_pool_free(&self->pool);
    }
    pthread_cond_destroy(&self->has_room);
    pthread_mutex_destroy(&self->mutex);
    free(self);
    *delivery = NULL;
}
