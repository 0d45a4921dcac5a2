#include "services/daemon/daemon_prefetch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/thread.h"
#include "rpc/rpc_channel.h"

#include "fc/filestore/v1/filestore.stub.h"

enum {
    INTERVAL_MS = 10 * 1000, // between two looks; as long may a grant be out of date, too
    FULL_MS = 100,           // between looks whether there is room for another file
    FILES_AT_ONCE = 32,
    PAGE_FILES = 200,
    NS_PER_MS = 1000 * 1000,
    MS_PER_S = 1000,
};

struct daemon_prefetch {
    struct swarm_node *node;
    const struct daemon_mirror_options *options;
    struct rpc_channel *channel;
    pthread_t thread;
    bool has_thread;
    struct {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        bool is_stopping;
    } locked;
};

// Waits, and says whether to go on.
static bool
wait_ms(struct daemon_prefetch *prefetch, unsigned ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)ms * NS_PER_MS;
    until.tv_sec += (time_t)(ns / ((uint64_t)MS_PER_S * NS_PER_MS));
    until.tv_nsec = (long)(ns % ((uint64_t)MS_PER_S * NS_PER_MS));
    pthread_mutex_lock(&prefetch->locked.mutex);
    int result = 0;
    while (!prefetch->locked.is_stopping && result != ETIMEDOUT) {
        result = pthread_cond_timedwait(&prefetch->locked.changed, &prefetch->locked.mutex, &until);
    }
    bool goes_on = !prefetch->locked.is_stopping;
    pthread_mutex_unlock(&prefetch->locked.mutex);
    return goes_on;
}

static bool
is_here(struct daemon_prefetch *prefetch, const Fc__Filestore__V1__File *file)
{
    struct swarm_file known;
    struct swarm_store *store = swarm_node_store(prefetch->node);
    return swarm_store_find(store, file->id.data, &known) &&
           swarm_store_next_missing(store, file->id.data, 0) == swarm_file_segment_count(&known);
}

// What is fetched ahead takes nobody's place: else the files of a store that is too small for all would push each other
// out for ever.
static bool
has_room(struct daemon_prefetch *prefetch, uint64_t size_bytes)
{
    struct swarm_stored stored;
    swarm_store_read_stored(swarm_node_store(prefetch->node), &stored);
    return stored.budget_bytes == 0 || stored.bytes + size_bytes <= stored.budget_bytes;
}

// Has one file fetched, when there is room for it among those that are. With a budget one at a time, so that what is
// there can be counted on.
static enum err
fetch(struct daemon_prefetch *prefetch, const Fc__Filestore__V1__File *file)
{
    Fc__Filestore__V1__GetGrantRequest request = FC__FILESTORE__V1__GET_GRANT_REQUEST__INIT;
    const Fc__Filestore__V1__GetGrantResponse *response = NULL;
    struct swarm_pull *pull = swarm_node_pull(prefetch->node);
    struct rpc_unary call;
    struct err_detail why = {0};
    size_t at_once = prefetch->options->budget_bytes == 0 ? (size_t)FILES_AT_ONCE : 1;
    if (file->id.len != E2E_GRANT_ID_BYTES || file->size_bytes == 0 || file->deleted_at_ms != 0 ||
        is_here(prefetch, file)) {
        return ERR_OK;
    }
    while (swarm_pull_file_count(pull) >= at_once) {
        if (!wait_ms(prefetch, FULL_MS)) {
            return ERR_CANCELLED;
        }
    }
    if (!has_room(prefetch, file->size_bytes)) {
        return ERR_OK;
    }
    request.file_id = file->id;
    fc_filestore_v1_file_store_init(&call, prefetch->channel);
    enum err err = fc_filestore_v1_file_store_get_grant(&call, &request, &response);
    if (err == ERR_OK && response->key.len != CRYPTO_KEY_BYTES) {
        err = ERR_PROTOCOL;
    }
    if (err == ERR_OK) {
        err = swarm_pull_whole(pull, file->id.data, bytes_view_of(response->grant.data, response->grant.len),
            bytes_view_of(response->signature.data, response->signature.len), response->key.data, &why);
    } else {
        (void)err_fail(&why, err, "%s", err_message(&call.status.detail, err));
    }
    if (err != ERR_OK) {
        log_debug("FCD-PREFETCH", NULL, "a file is not fetched: %s", err_message(&why, err));
    }
    rpc_unary_deinit(&call);
    return err == ERR_UNAVAILABLE ? err : ERR_OK; // others may be fetched
}

static enum err
fetch_one(struct daemon_prefetch *prefetch, const char *name)
{
    Fc__Filestore__V1__StatRequest request = FC__FILESTORE__V1__STAT_REQUEST__INIT;
    const Fc__Filestore__V1__StatResponse *response = NULL;
    struct rpc_unary call;
    request.file = (char *)(uintptr_t)name; // it is only read
    fc_filestore_v1_file_store_init(&call, prefetch->channel);
    enum err err = fc_filestore_v1_file_store_stat(&call, &request, &response);
    if (err == ERR_OK && response->file != NULL) {
        err = fetch(prefetch, response->file);
    } else if (err == ERR_NOT_FOUND) {
        log_warn("FCD-PREFETCH-NONE", NULL, "there is no file \"%s\" that the mirror's account can read", name);
        err = ERR_OK;
    }
    rpc_unary_deinit(&call);
    return err;
}

static enum err
fetch_all(struct daemon_prefetch *prefetch)
{
    struct bytes token = {0};
    enum err err = ERR_OK;
    bool is_last = false;
    while (err == ERR_OK && !is_last) {
        Fc__Filestore__V1__ListRequest request = FC__FILESTORE__V1__LIST_REQUEST__INIT;
        const Fc__Filestore__V1__ListResponse *response = NULL;
        struct rpc_unary call;
        request.limit = PAGE_FILES;
        request.page_token = token.size != 0 ? (char *)token.data : request.page_token;
        fc_filestore_v1_file_store_init(&call, prefetch->channel);
        err = fc_filestore_v1_file_store_list(&call, &request, &response);
        for (size_t i = 0; err == ERR_OK && i < response->n_files; i++) {
            err = fetch(prefetch, response->files[i]);
        }
        is_last = err == ERR_OK && response->next_page_token[0] == '\0';
        bytes_clear(&token);
        if (err == ERR_OK && !is_last) {
            err = bytes_append(&token, bytes_view_of(response->next_page_token, strlen(response->next_page_token) + 1));
        }
        rpc_unary_deinit(&call);
    }
    bytes_free(&token);
    return err;
}

static void *
run(void *context)
{
    struct daemon_prefetch *prefetch = context;
    const struct daemon_mirror_options *options = prefetch->options;
    do {
        enum err err = ERR_OK;
        for (size_t i = 0; err == ERR_OK && i < options->prefetched_count; i++) {
            const char *name = options->prefetched[i];
            err = strcmp(name, "all") == 0 ? fetch_all(prefetch) : fetch_one(prefetch, name);
        }
        if (err != ERR_OK && err != ERR_CANCELLED) {
            log_info("FCD-PREFETCH-LATER", NULL, "what is to be fetched is looked for later: %s", err_sentence(err));
        }
    } while (wait_ms(prefetch, INTERVAL_MS));
    return NULL;
}

enum err
daemon_prefetch_start(struct swarm_node *node, const struct daemon_mirror_options *options, struct rpc_tls_client *tls,
    const char *token, struct daemon_prefetch **out, struct err_detail *why)
{
    const struct rpc_channel_options channel = {.url = options->origin_url, .tls = tls};
    pthread_condattr_t attributes;
    struct daemon_prefetch *prefetch = calloc(1, sizeof(*prefetch));
    if (prefetch == NULL) {
        return ERR_NO_MEMORY;
    }
    prefetch->node = node;
    prefetch->options = options;
    pthread_mutex_init(&prefetch->locked.mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&prefetch->locked.changed, &attributes);
    pthread_condattr_destroy(&attributes);
    enum err err = rpc_channel_new(&channel, &prefetch->channel, why);
    if (err == ERR_OK) {
        err = rpc_channel_set_token(prefetch->channel, token);
    }
    if (err == ERR_OK) {
        err = thread_start(&prefetch->thread, "prefetch", run, prefetch);
        prefetch->has_thread = err == ERR_OK;
    }
    if (err != ERR_OK) {
        daemon_prefetch_stop(&prefetch);
        return err;
    }
    *out = prefetch;
    return ERR_OK;
}

void
daemon_prefetch_stop(struct daemon_prefetch **prefetch_ref)
{
    struct daemon_prefetch *prefetch = *prefetch_ref;
    if (prefetch == NULL) {
        return;
    }
    pthread_mutex_lock(&prefetch->locked.mutex);
    prefetch->locked.is_stopping = true;
    pthread_cond_broadcast(&prefetch->locked.changed);
    pthread_mutex_unlock(&prefetch->locked.mutex);
    if (prefetch->has_thread) {
        pthread_join(prefetch->thread, NULL);
    }
    rpc_channel_free(&prefetch->channel);
    pthread_cond_destroy(&prefetch->locked.changed);
    pthread_mutex_destroy(&prefetch->locked.mutex);
    free(prefetch);
    *prefetch_ref = NULL;
}
