// Sealed messages ahead of their turn, on all processors. A signature costs as much as everything else about a message
// together, and needs nothing of the messages before it.
//
// What is found out counts only if, when the message's turn comes, it is still by that device's key and under that
// secret (fc_chat_open.c).
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/work_pool.h"
#include "client/fc_chat_priv.h"

enum {
    // Fewer messages are not worth the start of threads.
    MESSAGES_MIN = 64,
    HELPERS_MAX = 7,
};

struct helper {
    struct work work;
    struct fc_chat_ahead *ahead;
};

struct fc_chat_ahead {
    struct fc_chat_opening *openings;
    size_t count;
    atomic_size_t next; // that nobody has taken
    struct helper helpers[HELPERS_MAX];
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    unsigned helper_count; // guarded by mutex: not at their end yet
};

static void
open_ahead(struct fc_chat_opening *opening)
{
    if (!opening->has_key) {
        return;
    }
    opening->verdict = e2e_message_verify_by(&opening->message, opening->sign_key);
    opening->has_verdict = true;
    if (opening->verdict == ERR_OK && opening->has_secret) {
        opening->opened = e2e_message_open(&opening->message, opening->secret, &opening->content);
        opening->is_opened = true;
    }
}

static void
run(struct fc_chat_ahead *ahead)
{
    for (size_t i = atomic_fetch_add(&ahead->next, 1); i < ahead->count; i = atomic_fetch_add(&ahead->next, 1)) {
        open_ahead(&ahead->openings[i]);
    }
}

static void
run_helper(struct work *work)
{
    struct fc_chat_ahead *ahead = ((struct helper *)work)->ahead; // work is its first member
    run(ahead);
    pthread_mutex_lock(&ahead->mutex);
    ahead->helper_count--;
    pthread_cond_signal(&ahead->ended);
    pthread_mutex_unlock(&ahead->mutex);
}

// prepare finds the keys of a message among those that are here. Without them it waits for its turn.
static void
prepare(struct fc_chat *chat, const struct fc_chat_place *place, const Fc__Chat__V1__Message *wire,
    struct fc_chat_opening *opening)
{
    if (wire->sealed.len == 0 ||
        e2e_message_parse(bytes_view_of(wire->sealed.data, wire->sealed.len), &opening->message, NULL) != ERR_OK) {
        return;
    }
    const Fc__E2e__V1__Header *header = opening->message.header;
    const struct e2e_user *sender = fc_chat_user_here(chat, header->user_id.data);
    const struct e2e_device *device = sender == NULL ? NULL : e2e_user_device(sender, header->device_id.data);
    if (device != NULL) {
        memcpy(opening->sign_key, device->sign_key, sizeof(opening->sign_key));
        opening->has_key = true;
        opening->has_secret = fc_chat_epoch_secret(chat, place, header->epoch, opening->secret, NULL) == ERR_OK;
    }
}

// get_pool starts the threads once. NULL: there is one processor, or no memory for more.
static struct work_pool *
get_pool(struct fc_chat *chat)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (chat->pool == NULL && processors > 1) {
        chat->pool_threads = processors - 1 > HELPERS_MAX ? HELPERS_MAX : (unsigned)(processors - 1);
        if (work_pool_new("fc-open", chat->pool_threads, &chat->pool) != ERR_OK) {
            chat->pool = NULL;
        }
    }
    return chat->pool;
}

struct fc_chat_ahead *
fc_chat_ahead_start(struct fc_chat *chat, const struct fc_chat_place *place, Fc__Chat__V1__Message *const *messages,
    size_t count)
{
    struct work_pool *pool = place->row.is_plain || count < MESSAGES_MIN ? NULL : get_pool(chat);
    struct fc_chat_ahead *ahead = pool == NULL ? NULL : calloc(1, sizeof(*ahead));
    if (ahead == NULL) {
        return NULL;
    }
    ahead->openings = calloc(count, sizeof(*ahead->openings));
    if (ahead->openings == NULL) {
        free(ahead);
        return NULL;
    }
    ahead->count = count;
    atomic_init(&ahead->next, 0);
    // With default attributes these two cannot fail on Linux.
    (void)pthread_mutex_init(&ahead->mutex, NULL);
    (void)pthread_cond_init(&ahead->ended, NULL);
    for (size_t i = 0; i < count; i++) {
        prepare(chat, place, messages[i], &ahead->openings[i]);
    }
    ahead->helper_count = chat->pool_threads;
    for (unsigned i = 0; i < chat->pool_threads; i++) {
        ahead->helpers[i] = (struct helper){.work.run = run_helper, .ahead = ahead};
        work_pool_submit(pool, &ahead->helpers[i].work);
    }
    return ahead;
}

void
fc_chat_ahead_wait(struct fc_chat_ahead *ahead)
{
    if (ahead == NULL) {
        return;
    }
    run(ahead);
    pthread_mutex_lock(&ahead->mutex);
    while (ahead->helper_count > 0) {
        pthread_cond_wait(&ahead->ended, &ahead->mutex);
    }
    pthread_mutex_unlock(&ahead->mutex);
}

struct fc_chat_opening *
fc_chat_ahead_get(struct fc_chat_ahead *ahead, size_t index)
{
    return ahead == NULL ? NULL : &ahead->openings[index];
}

void
fc_chat_ahead_free(struct fc_chat_ahead **ahead)
{
    struct fc_chat_ahead *self = *ahead;
    if (self == NULL) {
        return;
    }
    atomic_store(&self->next, self->count);
    fc_chat_ahead_wait(self);
    for (size_t i = 0; i < self->count; i++) {
        struct fc_chat_opening *opening = &self->openings[i];
        e2e_message_deinit(&opening->message);
        bytes_free_secret(&opening->content);
        digest_wipe(opening->secret, sizeof(opening->secret));
    }
    free(self->openings);
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->ended);
    free(self);
    *ahead = NULL;
}
