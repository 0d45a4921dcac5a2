// A thread tells the peer five times a second at most, and only when there is something new.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "client/fc_lend_priv.h"
#include "client/fc_peer_priv.h"
#include "client/fc_peer_share_priv.h"
#include "swarm/swarm_bits.h"

#include "fc/peer/v1/peer.stub.h"

enum {
    INTERVAL_MS = 200,
    CALL_TIMEOUT_MS = 1000,
    FAILURES_MAX = 5, // in a row: then the peer is left alone
    NS_PER_MS = 1000 * 1000,
    NS_PER_S = 1000 * 1000 * 1000,
};

#define ENDING ".part"

struct fc_peer_share {
    struct rpc_channel *channel;
    struct fc_file file;
    uint64_t segment_count;
    char path[FC_CONFIG_PATH_MAX_BYTES];
    char final_path[FC_CONFIG_PATH_MAX_BYTES];
    pthread_t thread;
    struct {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        uint8_t *bits;
        bool is_dirty;
        bool is_ending;
        bool is_finished;
    } locked;
};

// Where a descriptor's file is now.
static bool
read_path(int fd, char out[FC_CONFIG_PATH_MAX_BYTES])
{
    char link[64];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, out, FC_CONFIG_PATH_MAX_BYTES - 1);
    if (size <= 0 || out[0] != '/') {
        return false;
    }
    out[size] = '\0';
    return true;
}

static enum err
tell(struct fc_peer_share *share, const uint8_t *bits, bool is_finished)
{
    Fc__Peer__V1__ShareRequest request = FC__PEER__V1__SHARE_REQUEST__INIT;
    Fc__Segment__V1__Holding holding = FC__SEGMENT__V1__HOLDING__INIT;
    struct rpc_unary call;
    request.file_id = fc_lend(share->file.id, sizeof(share->file.id));
    request.name = share->file.name;
    request.path = is_finished ? share->final_path : share->path;
    request.final_path = is_finished ? fc_lend_text("") : share->final_path;
    request.holding = &holding;
    holding.file_id = request.file_id;
    holding.segment_count = share->segment_count;
    holding.is_complete = is_finished;
    if (!is_finished) {
        size_t size = swarm_bits_bytes(share->segment_count);
        holding.segments = fc_lend(bits, size < SWARM_HOLDING_MAX_BYTES ? size : SWARM_HOLDING_MAX_BYTES);
    }
    fc_peer_v1_peer_init(&call, share->channel);
    call.timeout_ms = CALL_TIMEOUT_MS;
    enum err err = fc_peer_v1_peer_share(&call, &request, NULL);
    rpc_unary_deinit(&call);
    return err;
}

static void
wait_locked(struct fc_peer_share *share)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)INTERVAL_MS * NS_PER_MS;
    until.tv_sec += until.tv_nsec / NS_PER_S;
    until.tv_nsec %= NS_PER_S;
    int result = 0;
    while (!share->locked.is_ending && result != ETIMEDOUT) {
        result = pthread_cond_timedwait(&share->locked.changed, &share->locked.mutex, &until);
    }
}

static void *
run(void *context)
{
    struct fc_peer_share *share = context;
    size_t size = swarm_bits_bytes(share->segment_count);
    uint8_t *bits = malloc(size + 1);
    unsigned failures = 0;
    pthread_mutex_lock(&share->locked.mutex);
    while (bits != NULL && !share->locked.is_ending) {
        bool is_due = share->locked.is_dirty && failures < FAILURES_MAX;
        if (is_due) {
            share->locked.is_dirty = false;
            memcpy(bits, share->locked.bits, size);
            pthread_mutex_unlock(&share->locked.mutex);
            failures = tell(share, bits, false) == ERR_OK ? 0 : failures + 1;
            pthread_mutex_lock(&share->locked.mutex);
            share->locked.is_dirty = share->locked.is_dirty || failures != 0;
        }
        wait_locked(share);
    }
    bool is_finished = share->locked.is_finished;
    pthread_mutex_unlock(&share->locked.mutex);
    if (is_finished && failures < FAILURES_MAX) {
        enum err ignored = tell(share, NULL, true); // it is shared from the next fc peer update on
        (void)ignored;
    }
    free(bits);
    return NULL;
}

static void
release(struct fc_peer_share *share)
{
    rpc_channel_free(&share->channel);
    pthread_cond_destroy(&share->locked.changed);
    pthread_mutex_destroy(&share->locked.mutex);
    free(share->locked.bits);
    free(share);
}

struct fc_peer_share *
fc_peer_share_open(struct fc_session *session, const struct fc_file *file, int part_fd)
{
    pthread_condattr_t attributes;
    struct rpc_channel *channel = NULL;
    if (file->size_bytes == 0 || file->chunk_size_bytes == 0 || fc_peer_reach(session, &channel, NULL) != ERR_OK) {
        return NULL;
    }
    struct fc_peer_share *share = calloc(1, sizeof(*share));
    if (share == NULL) {
        rpc_channel_free(&channel);
        return NULL;
    }
    share->channel = channel;
    share->file = *file;
    share->segment_count = (file->size_bytes - 1) / file->chunk_size_bytes + 1;
    pthread_mutex_init(&share->locked.mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&share->locked.changed, &attributes);
    pthread_condattr_destroy(&attributes);
    share->locked.bits = calloc(1, swarm_bits_bytes(share->segment_count) + 1);
    bool is_well = share->locked.bits != NULL && read_path(part_fd, share->path);
    size_t size = is_well ? strlen(share->path) : 0;
    is_well = size > strlen(ENDING) && strcmp(share->path + size - strlen(ENDING), ENDING) == 0;
    if (is_well) {
        memcpy(share->final_path, share->path, size - strlen(ENDING));
    }
    if (!is_well || thread_start(&share->thread, "peer-share", run, share) != ERR_OK) {
        release(share);
        return NULL;
    }
    return share;
}

void
fc_peer_share_note(struct fc_peer_share *share, uint64_t index)
{
    if (share == NULL || index >= share->segment_count) {
        return;
    }
    pthread_mutex_lock(&share->locked.mutex);
    swarm_bits_set(share->locked.bits, index, true);
    share->locked.is_dirty = true;
    pthread_mutex_unlock(&share->locked.mutex);
}

void
fc_peer_share_close(struct fc_peer_share **share_ref, bool is_finished)
{
    struct fc_peer_share *share = *share_ref;
    if (share == NULL) {
        return;
    }
    pthread_mutex_lock(&share->locked.mutex);
    share->locked.is_ending = true;
    share->locked.is_finished = is_finished;
    pthread_cond_broadcast(&share->locked.changed);
    pthread_mutex_unlock(&share->locked.mutex);
    pthread_join(share->thread, NULL);
    release(share);
    *share_ref = NULL;
}
