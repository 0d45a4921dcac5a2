// A bounded queue with a memory for what it dropped.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/fc_room_inbox_priv.h"

enum err
fc_room_inbox_init(struct fc_room_inbox *inbox)
{
    pthread_condattr_t attributes;
    memset(inbox, 0, sizeof(*inbox));
    STAILQ_INIT(&inbox->locked.payloads);
    if (pthread_condattr_init(&attributes) != 0) {
        return ERR_NO_MEMORY;
    }
    enum err err = ERR_OK;
    if (pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0 ||
        pthread_cond_init(&inbox->changed, &attributes) != 0) {
        err = ERR_NO_MEMORY;
    } else if (pthread_mutex_init(&inbox->mutex, NULL) != 0) {
        pthread_cond_destroy(&inbox->changed);
        err = ERR_NO_MEMORY;
    }
    pthread_condattr_destroy(&attributes);
    return err;
}

void
fc_room_inbox_deinit(struct fc_room_inbox *inbox)
{
    fc_room_inbox_clear(inbox);
    pthread_mutex_destroy(&inbox->mutex);
    pthread_cond_destroy(&inbox->changed);
}

void
fc_room_inbox_put(struct fc_room_inbox *inbox, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view data)
{
    struct fc_room_payload *payload = malloc(sizeof(*payload) + data.size);
    if (payload != NULL) {
        memcpy(payload->topic, topic, sizeof(payload->topic));
        payload->size = data.size;
        if (data.size > 0) {
            memcpy(payload->data, data.data, data.size);
        }
    }
    pthread_mutex_lock(&inbox->mutex);
    if (payload != NULL && inbox->locked.payload_bytes + data.size <= FC_ROOM_INBOX_MAX_BYTES) {
        STAILQ_INSERT_TAIL(&inbox->locked.payloads, payload, link);
        inbox->locked.payload_bytes += data.size;
        payload = NULL;
    } else {
        inbox->locked.has_gap = true;
    }
    pthread_cond_signal(&inbox->changed);
    pthread_mutex_unlock(&inbox->mutex);
    free(payload);
}

void
fc_room_inbox_end(struct fc_room_inbox *inbox, enum err reason)
{
    pthread_mutex_lock(&inbox->mutex);
    inbox->locked.is_ended = true;
    inbox->locked.end_reason = reason;
    pthread_cond_signal(&inbox->changed);
    pthread_mutex_unlock(&inbox->mutex);
}

void
fc_room_inbox_clear(struct fc_room_inbox *inbox)
{
    struct fc_room_payload *payload;
    pthread_mutex_lock(&inbox->mutex);
    while ((payload = STAILQ_FIRST(&inbox->locked.payloads)) != NULL) {
        STAILQ_REMOVE_HEAD(&inbox->locked.payloads, link);
        free(payload);
    }
    inbox->locked.payload_bytes = 0;
    inbox->locked.has_gap = false;
    inbox->locked.is_ended = false;
    pthread_mutex_unlock(&inbox->mutex);
}

void
fc_room_inbox_close(struct fc_room_inbox *inbox)
{
    pthread_mutex_lock(&inbox->mutex);
    inbox->locked.is_closed = true;
    pthread_cond_signal(&inbox->changed);
    pthread_mutex_unlock(&inbox->mutex);
}

bool
fc_room_inbox_is_closed(struct fc_room_inbox *inbox)
{
    pthread_mutex_lock(&inbox->mutex);
    bool is_closed = inbox->locked.is_closed;
    pthread_mutex_unlock(&inbox->mutex);
    return is_closed;
}

static struct timespec
after_ms(uint64_t delay_ms)
{
    struct timespec when;
    clock_gettime(CLOCK_MONOTONIC, &when);
    when.tv_sec += (time_t)(delay_ms / 1000);
    when.tv_nsec += (long)(delay_ms % 1000) * 1000000L;
    if (when.tv_nsec >= 1000000000L) {
        when.tv_nsec -= 1000000000L;
        when.tv_sec++;
    }
    return when;
}

// take_locked is what there is to take now: ERR_BUSY for nothing. A gap comes after the payloads before it, and the end
// after everything.
static enum err
take_locked(struct fc_room_inbox *inbox, struct fc_room_payload **out, enum err *end_reason_out)
{
    struct fc_room_payload *payload = STAILQ_FIRST(&inbox->locked.payloads);
    if (inbox->locked.is_closed) {
        return ERR_CANCELLED;
    }
    if (payload != NULL) {
        STAILQ_REMOVE_HEAD(&inbox->locked.payloads, link);
        inbox->locked.payload_bytes -= payload->size;
        *out = payload;
        return ERR_OK;
    }
    if (inbox->locked.has_gap) {
        inbox->locked.has_gap = false;
        *out = NULL;
        return ERR_OK;
    }
    if (inbox->locked.is_ended) {
        *end_reason_out = inbox->locked.end_reason;
        return ERR_UNAVAILABLE;
    }
    return ERR_BUSY;
}

enum err
fc_room_inbox_take(struct fc_room_inbox *inbox, uint64_t timeout_ms, struct fc_room_payload **out,
    enum err *end_reason_out)
{
    struct timespec ends = after_ms(timeout_ms);
    pthread_mutex_lock(&inbox->mutex);
    enum err err = take_locked(inbox, out, end_reason_out);
    while (err == ERR_BUSY) {
        bool is_late = pthread_cond_timedwait(&inbox->changed, &inbox->mutex, &ends) != 0;
        err = take_locked(inbox, out, end_reason_out);
        if (err == ERR_BUSY && is_late) {
            err = ERR_TIMEOUT;
        }
    }
    pthread_mutex_unlock(&inbox->mutex);
    return err;
}

bool
fc_room_inbox_pause(struct fc_room_inbox *inbox, uint64_t delay_ms)
{
    struct timespec ends = after_ms(delay_ms);
    pthread_mutex_lock(&inbox->mutex);
    while (!inbox->locked.is_closed && pthread_cond_timedwait(&inbox->changed, &inbox->mutex, &ends) == 0) {
    }
    bool goes_on = !inbox->locked.is_closed;
    pthread_mutex_unlock(&inbox->mutex);
    return goes_on;
}
