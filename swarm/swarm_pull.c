// The state of a file that is being fetched: first its digests, page by page, while asks wait with the file; then its
// segments, each with those that ask for it. Lock order: this lock, then the store's and those of rpc/.
#include "swarm/swarm_pull.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "rpc/rpc_channel.h"

#include "fc/segment/v1/segment.stub.h"

enum {
    CHANNELS = 2, // to the origin: one does not fill fast networks
    // Of 8 MiB at most each: so much memory at a time, at worst.
    FETCHES_MAX = 16,
    BACKGROUND_MAX = 4, // of them; the others are for those who wait
    CALL_TIMEOUT_MS = 60 * 1000,
    LONGEST_BACKOFF_MS = 1000,
    READ_IDLE_MS = 10 * 1000,   // a file that nobody has asked for this long is not being read
    BACKGROUND_PAUSE_MS = 1000, // after a failure
    GRANT_MARGIN_MS = 2 * 1000, // nothing is begun with a grant that ends so soon
};

struct waiter {
    STAILQ_ENTRY(waiter) link;
    struct swarm_ask *ask;
    bool is_segment;
};

STAILQ_HEAD(waiter_list, waiter);

// A segment on its way.
struct fetch {
    struct work work; // first: the pool gives its address
    struct rpc_unary call;
    struct swarm_pull *pull;
    struct pull_file *file;
    uint64_t index;
    bool is_background;
    TAILQ_ENTRY(fetch) link;   // among the file's
    STAILQ_ENTRY(fetch) queue; // until it is started
    struct waiter_list waiters;
};

struct pull_file {
    struct work work; // first; of its digests
    struct swarm_pull *pull;
    TAILQ_ENTRY(pull_file) link;
    struct swarm_file file;
    struct bytes grant; // the one that lasts longest
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    int64_t expires_at_ms;
    struct waiter_list waiters; // for the digests
    struct rpc_unary call;
    bool is_asking; // for digests
    struct bytes sha256s;
    enum err failure;
    TAILQ_HEAD(, fetch) fetches;

    bool is_whole;     // all of it is wanted, whether it is read or not
    uint64_t asked_ms; // when somebody asked for something of it
    uint64_t next;     // where the background goes on
    uint64_t pause_until_ms;
};

struct swarm_pull {
    struct swarm_store *store;
    struct work_pool *pool;
    struct rpc_channel *channels[CHANNELS];
    struct {
        pthread_mutex_t mutex;
        bool is_stopping;
        TAILQ_HEAD(, pull_file) files;
        STAILQ_HEAD(, fetch) queue;
        size_t file_count;
        unsigned running; // fetches that were started
        unsigned background;
        unsigned turn; // among the channels
    } locked;
};

static struct rpc_channel *
take_channel_locked(struct swarm_pull *pull)
{
    pull->locked.turn = (pull->locked.turn + 1) % CHANNELS;
    return pull->channels[pull->locked.turn];
}

static void
fill_grant(struct pull_file *file, Fc__Segment__V1__SignedGrant *out)
{
    fc__segment__v1__signed_grant__init(out);
    out->grant = (ProtobufCBinaryData){.data = file->grant.data, .len = file->grant.size};
    out->signature = (ProtobufCBinaryData){.data = file->signature, .len = sizeof(file->signature)};
}

// --- Answers --------------------------------------------------------------------------------------------------------

// What readers are told of an origin's failure: of their grant they hear from this server itself.
static enum err
error_for_readers(enum err err)
{
    bool is_told = err == ERR_NOT_FOUND || err == ERR_CORRUPT || err == ERR_LIMIT || err == ERR_NO_MEMORY;
    return is_told ? err : ERR_UNAVAILABLE;
}

static void
fail_waiters(struct waiter_list *waiters, enum err err)
{
    while (!STAILQ_EMPTY(waiters)) {
        struct waiter *waiter = STAILQ_FIRST(waiters);
        struct err_detail why = {0};
        enum err code = error_for_readers(err);
        STAILQ_REMOVE_HEAD(waiters, link);
        if (code == ERR_UNAVAILABLE) {
            err_fail(&why, code, "it is not here, and the origin cannot be asked for it: ask another server");
        }
        swarm_ask_fail(waiter->ask, code, &why);
        free(waiter);
    }
}

static void
answer_segment(struct swarm_pull *pull, struct swarm_ask *ask)
{
    struct bytes data = {0};
    enum err err = swarm_store_read(pull->store, ask->grant.file_id, ask->index, &data);
    if (err == ERR_OK) {
        swarm_ask_answer_segment(ask, bytes_as_view(&data));
    } else {
        swarm_ask_fail(ask, err, NULL);
    }
    bytes_free(&data);
}

static void
answer_digests(struct swarm_pull *pull, struct swarm_ask *ask)
{
    struct bytes sha256s = {0};
    enum err err = swarm_store_digests(pull->store, ask->grant.file_id, ask->index, SWARM_DIGESTS_MAX, &sha256s);
    if (err == ERR_OK) {
        swarm_ask_answer_digests(ask, bytes_as_view(&sha256s));
    } else {
        swarm_ask_fail(ask, err, NULL);
    }
    bytes_free(&sha256s);
}

// --- Files ----------------------------------------------------------------------------------------------------------

static struct pull_file *
find_file_locked(struct swarm_pull *pull, const uint8_t id[E2E_GRANT_ID_BYTES])
{
    struct pull_file *file;
    TAILQ_FOREACH(file, &pull->locked.files, link)
    {
        if (memcmp(file->file.id, id, E2E_GRANT_ID_BYTES) == 0) {
            return file;
        }
    }
    return NULL;
}

// Takes over a grant that lasts longer than the one there is.
static enum err
use_grant_locked(struct pull_file *file, const struct e2e_grant *grant, struct bytes_view encoded,
    struct bytes_view signature)
{
    struct bytes copy = {0};
    if (grant->expires_at_ms <= file->expires_at_ms || signature.size != sizeof(file->signature)) {
        return ERR_OK;
    }
    enum err err = bytes_append(&copy, encoded);
    if (err == ERR_OK) {
        bytes_free(&file->grant);
        file->grant = copy;
        memcpy(file->signature, signature.data, sizeof(file->signature));
        file->expires_at_ms = grant->expires_at_ms;
    }
    return err;
}

static void
free_file_locked(struct swarm_pull *pull, struct pull_file *file)
{
    TAILQ_REMOVE(&pull->locked.files, file, link);
    pull->locked.file_count--;
    bytes_free(&file->grant);
    bytes_free(&file->sha256s);
    free(file);
}

static enum err
open_file_locked(struct swarm_pull *pull, const struct e2e_grant *grant, struct bytes_view encoded,
    struct bytes_view signature, struct pull_file **out)
{
    struct pull_file *file = find_file_locked(pull, grant->file_id);
    if (pull->locked.is_stopping) {
        return ERR_UNAVAILABLE;
    }
    if (file == NULL) {
        file = calloc(1, sizeof(*file));
        if (file == NULL) {
            return ERR_NO_MEMORY;
        }
        file->pull = pull;
        memcpy(file->file.id, grant->file_id, sizeof(file->file.id));
        memcpy(file->file.root, grant->root, sizeof(file->file.root));
        file->file.size_bytes = grant->size_bytes;
        file->file.segment_bytes = grant->segment_size_bytes;
        STAILQ_INIT(&file->waiters);
        TAILQ_INIT(&file->fetches);
        TAILQ_INSERT_TAIL(&pull->locked.files, file, link);
        pull->locked.file_count++;
    }
    *out = file;
    return use_grant_locked(file, grant, encoded, signature);
}

// --- Segments -------------------------------------------------------------------------------------------------------

static void take_segment(struct work *work);

static void
on_segment(struct rpc_unary *call)
{
    struct fetch *fetch = call->context;
    fetch->work.run = take_segment;
    work_pool_submit(fetch->pull->pool, &fetch->work);
}

static void
start_locked(struct swarm_pull *pull, struct fetch *fetch)
{
    Fc__Segment__V1__GetSegmentRequest request = FC__SEGMENT__V1__GET_SEGMENT_REQUEST__INIT;
    Fc__Segment__V1__SignedGrant grant;
    fill_grant(fetch->file, &grant);
    request.file_id = (ProtobufCBinaryData){.data = fetch->file->file.id, .len = sizeof(fetch->file->file.id)};
    request.grant = &grant;
    request.index = fetch->index;
    fc_segment_v1_segment_server_init(&fetch->call, take_channel_locked(pull));
    fetch->call.timeout_ms = CALL_TIMEOUT_MS;
    fetch->call.on_done = on_segment;
    fetch->call.context = fetch;
    pull->locked.running++;
    pull->locked.background += fetch->is_background;
    fc_segment_v1_segment_server_get_segment_start(&fetch->call, &request);
}

static struct fetch *
find_fetch(const struct pull_file *file, uint64_t index)
{
    struct fetch *fetch;
    TAILQ_FOREACH(fetch, &file->fetches, link)
    {
        if (fetch->index == index) {
            return fetch;
        }
    }
    return NULL;
}

static enum err
open_fetch_locked(struct pull_file *file, uint64_t index, bool is_background, struct fetch **out)
{
    struct fetch *fetch = calloc(1, sizeof(*fetch));
    if (fetch == NULL) {
        return ERR_NO_MEMORY;
    }
    fetch->pull = file->pull;
    fetch->file = file;
    fetch->index = index;
    fetch->is_background = is_background;
    STAILQ_INIT(&fetch->waiters);
    TAILQ_INSERT_TAIL(&file->fetches, fetch, link);
    *out = fetch;
    return ERR_OK;
}

// want_locked has a segment fetched for somebody who waits.
static enum err
want_locked(struct pull_file *file, struct waiter *waiter)
{
    struct fetch *fetch = find_fetch(file, waiter->ask->index);
    if (fetch == NULL) {
        enum err err = open_fetch_locked(file, waiter->ask->index, false, &fetch);
        if (err != ERR_OK) {
            return err;
        }
        STAILQ_INSERT_TAIL(&file->pull->locked.queue, fetch, queue);
        file->next = fetch->index + 1;
    }
    STAILQ_INSERT_TAIL(&fetch->waiters, waiter, link);
    return ERR_OK;
}

// is_background_due_locked: of this file the rest is to be fetched now.
static bool
is_background_due_locked(struct swarm_pull *pull, const struct pull_file *file, uint64_t now_ms)
{
    struct swarm_stored stored;
    struct swarm_file known;
    swarm_store_read_stored(pull->store, &stored);
    return (file->is_whole || now_ms - file->asked_ms < READ_IDLE_MS) && now_ms >= file->pause_until_ms &&
           (stored.budget_bytes == 0 || file->file.size_bytes <= stored.budget_bytes) &&
           file->expires_at_ms > clock_unix_ms() + GRANT_MARGIN_MS &&
           swarm_store_find(pull->store, file->file.id, &known);
}

// next_missing_locked finds a segment that is neither here nor on its way, from where the background stands, once
// around. False: there is none.
static bool
next_missing_locked(struct swarm_pull *pull, struct pull_file *file, uint64_t *index_out)
{
    uint64_t count = swarm_file_segment_count(&file->file);
    uint64_t index = file->next < count ? file->next : 0;
    for (unsigned round = 0; round < 2; round++) {
        index = swarm_store_next_missing(pull->store, file->file.id, index);
        while (index < count && find_fetch(file, index) != NULL) {
            index = swarm_store_next_missing(pull->store, file->file.id, index + 1);
        }
        if (index < count) {
            *index_out = index;
            return true;
        }
        index = 0;
    }
    return false;
}

// background_locked begins what there is room for. Files of which nothing is wanted any more are let go.
static void
background_locked(struct swarm_pull *pull)
{
    uint64_t now_ms = clock_monotonic_ms();
    struct pull_file *file = TAILQ_FIRST(&pull->locked.files);
    while (file != NULL && !pull->locked.is_stopping) {
        struct pull_file *next = TAILQ_NEXT(file, link);
        uint64_t index = 0;
        struct fetch *fetch = NULL;
        bool is_due = !file->is_asking && is_background_due_locked(pull, file, now_ms);
        while (is_due && pull->locked.background < BACKGROUND_MAX && pull->locked.running < FETCHES_MAX &&
               next_missing_locked(pull, file, &index) && open_fetch_locked(file, index, true, &fetch) == ERR_OK) {
            file->next = index + 1;
            start_locked(pull, fetch);
        }
        bool is_wanted = is_due && next_missing_locked(pull, file, &index);
        if (TAILQ_EMPTY(&file->fetches) && STAILQ_EMPTY(&file->waiters) && !file->is_asking && !is_wanted) {
            free_file_locked(pull, file);
        }
        file = next;
    }
}

// go_on_locked begins what waits, those first for whom somebody waits.
static void
go_on_locked(struct swarm_pull *pull)
{
    while (!STAILQ_EMPTY(&pull->locked.queue) && pull->locked.running < FETCHES_MAX) {
        struct fetch *fetch = STAILQ_FIRST(&pull->locked.queue);
        STAILQ_REMOVE_HEAD(&pull->locked.queue, queue);
        start_locked(pull, fetch);
    }
    background_locked(pull);
}

static void ask_digests_locked(struct swarm_pull *pull, struct pull_file *file);

// want_all_locked is want_locked for many; those that cannot be served go to `failed`. With digests that the store has
// forgotten meanwhile they wait for those again.
static void
want_all_locked(struct pull_file *file, struct waiter_list *waiters, struct waiter_list *failed)
{
    struct swarm_file known;
    bool is_known = swarm_store_find(file->pull->store, file->file.id, &known);
    while (!STAILQ_EMPTY(waiters)) {
        struct waiter *waiter = STAILQ_FIRST(waiters);
        STAILQ_REMOVE_HEAD(waiters, link);
        if (!is_known) {
            STAILQ_INSERT_TAIL(&file->waiters, waiter, link);
        } else if (want_locked(file, waiter) != ERR_OK) {
            STAILQ_INSERT_TAIL(failed, waiter, link);
        }
    }
    if (!STAILQ_EMPTY(&file->waiters) && !file->is_asking) {
        ask_digests_locked(file->pull, file);
    }
}

// take_segment runs on the pool.
static void
take_segment(struct work *work)
{
    struct fetch *fetch = (struct fetch *)work;
    struct swarm_pull *pull = fetch->pull;
    struct pull_file *file = fetch->file;
    struct waiter_list failed = STAILQ_HEAD_INITIALIZER(failed);
    struct bytes_view data = {0};
    enum err err = rpc_status_to_err(&fetch->call.status);
    if (err == ERR_OK) {
        const Fc__Segment__V1__GetSegmentResponse *response =
            fc_segment_v1_segment_server_get_segment_response(&fetch->call);
        data = bytes_view_of(response->data.data, response->data.len);
        err = swarm_store_write(pull->store, file->file.id, fetch->index, data);
    }
    bool is_forgotten = err == ERR_NOT_FOUND && data.data != NULL;
    if (err == ERR_CORRUPT) {
        log_warn("SWARM-ORIGIN-CORRUPT", NULL, "the origin has sent a segment that does not have its digest");
    } else if (err != ERR_OK && data.data != NULL && !is_forgotten) {
        log_debug("SWARM-NOT-KEPT", NULL, "a segment was passed on and not kept: %s", err_sentence(err));
        err = ERR_OK; // it was checked before there was no room for it
    }
    pthread_mutex_lock(&pull->locked.mutex);
    TAILQ_REMOVE(&file->fetches, fetch, link);
    pull->locked.running--;
    pull->locked.background -= fetch->is_background;
    if (err != ERR_OK && !is_forgotten) {
        file->pause_until_ms = clock_monotonic_ms() + BACKGROUND_PAUSE_MS;
    }
    if (is_forgotten && !pull->locked.is_stopping) {
        want_all_locked(file, &fetch->waiters, &failed);
    }
    go_on_locked(pull); // file may be gone
    pthread_mutex_unlock(&pull->locked.mutex);
    while (err == ERR_OK && !STAILQ_EMPTY(&fetch->waiters)) {
        struct waiter *waiter = STAILQ_FIRST(&fetch->waiters);
        STAILQ_REMOVE_HEAD(&fetch->waiters, link);
        swarm_ask_answer_segment(waiter->ask, data);
        free(waiter);
    }
    fail_waiters(&fetch->waiters, err);
    fail_waiters(&failed, ERR_NO_MEMORY);
    rpc_unary_deinit(&fetch->call);
    free(fetch);
}

// --- Digests --------------------------------------------------------------------------------------------------------

// take_digests runs on the pool, when all digests are there or cannot be got.
static void
take_digests(struct work *work)
{
    struct pull_file *file = (struct pull_file *)work;
    struct swarm_pull *pull = file->pull;
    struct waiter_list waiting = STAILQ_HEAD_INITIALIZER(waiting);
    struct waiter_list segments = STAILQ_HEAD_INITIALIZER(segments);
    struct waiter_list failed = STAILQ_HEAD_INITIALIZER(failed);
    struct waiter_list digests = STAILQ_HEAD_INITIALIZER(digests);
    enum err err = file->failure;
    if (err == ERR_OK) {
        err = swarm_store_add(pull->store, &file->file, bytes_as_view(&file->sha256s));
    }
    if (err == ERR_CORRUPT) {
        log_warn("SWARM-ORIGIN-CORRUPT", NULL, "the origin has sent digests that do not lead to the grant's root");
    }
    pthread_mutex_lock(&pull->locked.mutex);
    bytes_free(&file->sha256s);
    file->is_asking = false;
    err = err == ERR_OK && pull->locked.is_stopping ? ERR_UNAVAILABLE : err;
    STAILQ_CONCAT(&waiting, &file->waiters);
    while (err == ERR_OK && !STAILQ_EMPTY(&waiting)) {
        struct waiter *waiter = STAILQ_FIRST(&waiting);
        STAILQ_REMOVE_HEAD(&waiting, link);
        if (waiter->is_segment) {
            STAILQ_INSERT_TAIL(&segments, waiter, link);
        } else {
            STAILQ_INSERT_TAIL(&digests, waiter, link);
        }
    }
    if (err == ERR_OK) {
        want_all_locked(file, &segments, &failed);
    } else {
        file->pause_until_ms = clock_monotonic_ms() + BACKGROUND_PAUSE_MS;
    }
    go_on_locked(pull); // file may be gone
    pthread_mutex_unlock(&pull->locked.mutex);
    fail_waiters(&waiting, err);
    fail_waiters(&failed, ERR_NO_MEMORY);
    while (!STAILQ_EMPTY(&digests)) {
        struct waiter *waiter = STAILQ_FIRST(&digests);
        STAILQ_REMOVE_HEAD(&digests, link);
        answer_digests(pull, waiter->ask);
        free(waiter);
    }
}

static void
on_digests(struct rpc_unary *call)
{
    struct pull_file *file = call->context;
    struct swarm_pull *pull = file->pull;
    uint64_t count = swarm_file_segment_count(&file->file);
    enum err err = rpc_status_to_err(&call->status);
    if (err == ERR_OK) {
        const Fc__Segment__V1__GetManifestResponse *response = fc_segment_v1_segment_server_get_manifest_response(call);
        struct bytes_view page = bytes_view_of(response->segment_sha256s.data, response->segment_sha256s.len);
        bool is_page = page.size != 0 && page.size % DIGEST_SHA256_BYTES == 0 &&
                       page.size / DIGEST_SHA256_BYTES <= count - file->sha256s.size / DIGEST_SHA256_BYTES;
        err = is_page ? bytes_append(&file->sha256s, page) : ERR_CORRUPT;
    }
    rpc_unary_deinit(call);
    pthread_mutex_lock(&pull->locked.mutex);
    err = err == ERR_OK && pull->locked.is_stopping ? ERR_UNAVAILABLE : err;
    if (err == ERR_OK && file->sha256s.size / DIGEST_SHA256_BYTES < count) {
        ask_digests_locked(pull, file);
    } else {
        file->failure = err;
        file->work.run = take_digests;
        work_pool_submit(pull->pool, &file->work);
    }
    pthread_mutex_unlock(&pull->locked.mutex);
}

static void
ask_digests_locked(struct swarm_pull *pull, struct pull_file *file)
{
    Fc__Segment__V1__GetManifestRequest request = FC__SEGMENT__V1__GET_MANIFEST_REQUEST__INIT;
    Fc__Segment__V1__SignedGrant grant;
    file->is_asking = true;
    if (swarm_file_segment_count(&file->file) == 0) {
        file->failure = ERR_OK; // there is nothing to ask for
        file->work.run = take_digests;
        work_pool_submit(pull->pool, &file->work);
        return;
    }
    fill_grant(file, &grant);
    request.file_id = (ProtobufCBinaryData){.data = file->file.id, .len = sizeof(file->file.id)};
    request.grant = &grant;
    request.first_segment = file->sha256s.size / DIGEST_SHA256_BYTES;
    fc_segment_v1_segment_server_init(&file->call, take_channel_locked(pull));
    file->call.timeout_ms = CALL_TIMEOUT_MS;
    file->call.on_done = on_digests;
    file->call.context = file;
    fc_segment_v1_segment_server_get_manifest_start(&file->call, &request);
}

// --- Asks -----------------------------------------------------------------------------------------------------------

static void
pull_for(struct swarm_pull *pull, struct swarm_ask *ask, bool is_segment)
{
    struct waiter_list waiters = STAILQ_HEAD_INITIALIZER(waiters);
    struct waiter_list failed = STAILQ_HEAD_INITIALIZER(failed);
    struct pull_file *file = NULL;
    struct swarm_file known;
    struct waiter *waiter = malloc(sizeof(*waiter));
    if (waiter == NULL) {
        swarm_ask_fail(ask, ERR_NO_MEMORY, NULL);
        return;
    }
    *waiter = (struct waiter){.ask = ask, .is_segment = is_segment};
    STAILQ_INSERT_TAIL(&waiters, waiter, link);
    pthread_mutex_lock(&pull->locked.mutex);
    enum err err = open_file_locked(pull, &ask->grant, ask->encoded_grant, ask->signature, &file);
    bool is_here = false;
    if (err == ERR_OK) {
        file->asked_ms = clock_monotonic_ms();
        // It may have come since the caller looked: a fetch ends when it is in the store.
        is_here = is_segment
                      ? find_fetch(file, ask->index) == NULL && swarm_store_has(pull->store, file->file.id, ask->index)
                      : swarm_store_find(pull->store, file->file.id, &known);
    }
    if (err == ERR_OK && is_segment && !is_here) {
        want_all_locked(file, &waiters, &failed);
    } else if (err == ERR_OK && !is_here) {
        STAILQ_CONCAT(&file->waiters, &waiters);
        if (!file->is_asking) {
            ask_digests_locked(pull, file);
        }
    }
    go_on_locked(pull);
    pthread_mutex_unlock(&pull->locked.mutex);
    if (is_here) {
        (is_segment ? answer_segment : answer_digests)(pull, ask);
        free(waiter);
        return;
    }
    fail_waiters(&waiters, err);
    fail_waiters(&failed, ERR_NO_MEMORY);
}

void
swarm_pull_segment(struct swarm_pull *pull, struct swarm_ask *ask)
{
    pull_for(pull, ask, true);
}

void
swarm_pull_digests(struct swarm_pull *pull, struct swarm_ask *ask)
{
    pull_for(pull, ask, false);
}

enum err
swarm_pull_whole(struct swarm_pull *pull, const uint8_t file_id[E2E_GRANT_ID_BYTES], struct bytes_view grant,
    struct bytes_view signature, const uint8_t key[CRYPTO_KEY_BYTES], struct err_detail *why)
{
    struct pull_file *file = NULL;
    struct swarm_file known;
    struct e2e_grant checked;
    enum err err = e2e_grant_check(grant, signature, key, file_id, clock_unix_ms(), &checked, why);
    if (err == ERR_OK && checked.size_bytes != 0 && checked.segment_size_bytes == 0) {
        err = err_fail(why, ERR_INVALID, "the grant is for segments of no bytes");
    }
    if (err != ERR_OK) {
        return err;
    }
    pthread_mutex_lock(&pull->locked.mutex);
    err = open_file_locked(pull, &checked, grant, signature, &file);
    if (err == ERR_OK) {
        file->is_whole = true;
        file->next = 0;
        if (!file->is_asking && !swarm_store_find(pull->store, file->file.id, &known)) {
            ask_digests_locked(pull, file);
        }
        go_on_locked(pull);
    }
    pthread_mutex_unlock(&pull->locked.mutex);
    return err;
}

size_t
swarm_pull_file_count(struct swarm_pull *pull)
{
    pthread_mutex_lock(&pull->locked.mutex);
    size_t count = pull->locked.file_count;
    pthread_mutex_unlock(&pull->locked.mutex);
    return count;
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

enum err
swarm_pull_new(const struct swarm_pull_options *options, struct swarm_pull **out, struct err_detail *why)
{
    const struct rpc_channel_options channel = {
        .url = options->origin_url,
        .tls = options->origin_tls,
        .longest_backoff_ms = LONGEST_BACKOFF_MS,
    };
    struct swarm_pull *pull = calloc(1, sizeof(*pull));
    if (pull == NULL) {
        return ERR_NO_MEMORY;
    }
    pull->store = options->store;
    pull->pool = options->pool;
    pthread_mutex_init(&pull->locked.mutex, NULL);
    TAILQ_INIT(&pull->locked.files);
    STAILQ_INIT(&pull->locked.queue);
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < CHANNELS; i++) {
        err = rpc_channel_new(&channel, &pull->channels[i], why);
    }
    if (err != ERR_OK) {
        swarm_pull_stop(pull);
        swarm_pull_free(&pull);
        return err;
    }
    *out = pull;
    return ERR_OK;
}

void
swarm_pull_stop(struct swarm_pull *pull)
{
    struct waiter_list waiters = STAILQ_HEAD_INITIALIZER(waiters);
    pthread_mutex_lock(&pull->locked.mutex);
    pull->locked.is_stopping = true;
    while (!STAILQ_EMPTY(&pull->locked.queue)) {
        struct fetch *fetch = STAILQ_FIRST(&pull->locked.queue);
        STAILQ_REMOVE_HEAD(&pull->locked.queue, queue);
        TAILQ_REMOVE(&fetch->file->fetches, fetch, link);
        STAILQ_CONCAT(&waiters, &fetch->waiters);
        free(fetch);
    }
    pthread_mutex_unlock(&pull->locked.mutex);
    fail_waiters(&waiters, ERR_UNAVAILABLE);
    // What is under way ends with CANCELLED, and goes to the pool.
    for (size_t i = 0; i < CHANNELS; i++) {
        rpc_channel_free(&pull->channels[i]);
    }
}

void
swarm_pull_free(struct swarm_pull **pull_ref)
{
    struct swarm_pull *pull = *pull_ref;
    if (pull == NULL) {
        return;
    }
    while (!TAILQ_EMPTY(&pull->locked.files)) {
        free_file_locked(pull, TAILQ_FIRST(&pull->locked.files));
    }
    pthread_mutex_destroy(&pull->locked.mutex);
    free(pull);
    *pull_ref = NULL;
}
