#include "services/filestore/filestore_whole.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
    // Uploads whose wholes are kept: those that were used longest ago go first.
    WHOLES_MAX = 64,
    // A whole may begin with one of the first chunks, before the very first: clients have so many in flight. Further on
    // it is an upload that was begun before, and nothing waits for its beginning.
    FIRST_CHUNKS = 64,
    // How long a chunk waits for the one before it when nothing else of its upload is under way: several round trips.
    PATIENCE_MS = 100,
};

TAILQ_HEAD(part_list, filestore_part);

struct filestore_whole {
    TAILQ_ENTRY(filestore_whole) link;
    uint8_t upload_id[FILESTORE_ID_BYTES];
    unsigned under_way;      // parts that have not left
    unsigned parked_count;   // of these, that wait for their turn
    struct part_list parked; // in the order of their places
    uint64_t stuck_since_ms; // since when all of them wait; 0: they do not
    uint64_t next_index;     // whose turn it is
    bool is_busy;            // a thread has the digests
    bool is_given_up;        // no part is in order any more
    bool is_wrong;           // what was taken in was not stored in the end
    struct md5_chain md5;    // of the parts before next_index; while busy that thread's
    struct sha256_chain *sha256;
};

static void run_alone(struct work *work);
static void run_in_order(struct work *work);

static void
free_whole(struct filestore_whole *whole)
{
    sha256_chain_free(&whole->sha256);
    free(whole);
}

static void
remove_locked(struct filestore_wholes *wholes, struct filestore_whole *whole)
{
    TAILQ_REMOVE(&wholes->locked.recent, whole, link);
    wholes->locked.count--;
    free_whole(whole);
}

static struct filestore_whole *
find_locked(struct filestore_wholes *wholes, const uint8_t upload_id[FILESTORE_ID_BYTES])
{
    struct filestore_whole *whole;
    TAILQ_FOREACH(whole, &wholes->locked.recent, link)
    {
        if (memcmp(whole->upload_id, upload_id, FILESTORE_ID_BYTES) == 0) {
            return whole;
        }
    }
    return NULL;
}

// trim_locked makes room for one more, if one is not in use.
static void
trim_locked(struct filestore_wholes *wholes)
{
    struct filestore_whole *whole = TAILQ_LAST(&wholes->locked.recent, filestore_whole_list);
    while (whole != NULL && wholes->locked.count >= WHOLES_MAX) {
        struct filestore_whole *newer = TAILQ_PREV(whole, filestore_whole_list, link);
        if (whole->under_way == 0) {
            remove_locked(wholes, whole);
        }
        whole = newer;
    }
}

// add_locked returns NULL when there are too many, or no memory: then there is no whole, which is only slower.
static struct filestore_whole *
add_locked(struct filestore_wholes *wholes, const uint8_t upload_id[FILESTORE_ID_BYTES])
{
    trim_locked(wholes);
    struct filestore_whole *whole = wholes->locked.count < WHOLES_MAX ? calloc(1, sizeof(*whole)) : NULL;
    if (whole == NULL || sha256_chain_new(&whole->sha256) != ERR_OK) {
        free(whole);
        return NULL;
    }
    memcpy(whole->upload_id, upload_id, sizeof(whole->upload_id));
    md5_chain_begin(&whole->md5);
    TAILQ_INIT(&whole->parked);
    TAILQ_INSERT_HEAD(&wholes->locked.recent, whole, link);
    wholes->locked.count++;
    return whole;
}

static void
submit(struct filestore_part *part, work_fn *run)
{
    part->work.run = run;
    work_pool_submit(part->wholes->pool, &part->work);
}

static struct filestore_part *
unpark_first_locked(struct filestore_whole *whole)
{
    struct filestore_part *part = TAILQ_FIRST(&whole->parked);
    TAILQ_REMOVE(&whole->parked, part, link);
    whole->parked_count--;
    return part;
}

static void
park_locked(struct filestore_whole *whole, struct filestore_part *part)
{
    struct filestore_part *later = TAILQ_FIRST(&whole->parked);
    while (later != NULL && later->index <= part->index) {
        later = TAILQ_NEXT(later, link);
    }
    if (later != NULL) {
        TAILQ_INSERT_BEFORE(later, part, link);
    } else {
        TAILQ_INSERT_TAIL(&whole->parked, part, link);
    }
    whole->parked_count++;
}

static void
give_up_locked(struct filestore_whole *whole)
{
    whole->is_given_up = true;
    whole->stuck_since_ms = 0;
    while (whole->parked_count > 0) {
        submit(unpark_first_locked(whole), run_alone);
    }
}

// watch_locked starts the clock when all parts of an upload that are under way wait for one that is not.
static void
watch_locked(struct filestore_wholes *wholes, struct filestore_whole *whole)
{
    bool is_stuck = !whole->is_busy && whole->parked_count > 0 && whole->parked_count == whole->under_way;

    if (!is_stuck) {
        whole->stuck_since_ms = 0;
    } else if (whole->stuck_since_ms == 0) {
        whole->stuck_since_ms = clock_monotonic_ms();
        if (!wholes->locked.is_timer_set) {
            wholes->locked.is_timer_set = timer_start(wholes->timers, &wholes->timer, PATIENCE_MS) == ERR_OK;
        }
        if (!wholes->locked.is_timer_set) {
            give_up_locked(whole);
        }
    }
}

static void
on_timer(struct timer *timer)
{
    struct filestore_wholes *wholes = (void *)((char *)timer - offsetof(struct filestore_wholes, timer));
    struct filestore_whole *whole;
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t longest_ms = PATIENCE_MS;
    bool is_needed = false;

    pthread_mutex_lock(&wholes->locked.mutex);
    wholes->locked.is_timer_set = false;
    TAILQ_FOREACH(whole, &wholes->locked.recent, link)
    {
        if (whole->stuck_since_ms != 0 && now_ms - whole->stuck_since_ms >= PATIENCE_MS) {
            give_up_locked(whole);
        } else if (whole->stuck_since_ms != 0) {
            uint64_t left_ms = PATIENCE_MS - (now_ms - whole->stuck_since_ms);
            longest_ms = left_ms < longest_ms ? left_ms : longest_ms;
            is_needed = true;
        }
    }
    if (is_needed) {
        wholes->locked.is_timer_set = timer_start(wholes->timers, &wholes->timer, longest_ms) == ERR_OK;
    }
    pthread_mutex_unlock(&wholes->locked.mutex);
}

void
filestore_wholes_init(struct filestore_wholes *wholes, struct work_pool *pool, struct timer_queue *timers)
{
    wholes->pool = pool;
    wholes->timers = timers;
    wholes->timer.on_expiry = on_timer;
    pthread_mutex_init(&wholes->locked.mutex, NULL);
    TAILQ_INIT(&wholes->locked.recent);
}

void
filestore_wholes_deinit(struct filestore_wholes *wholes)
{
    if (wholes->pool == NULL) {
        return;
    }
    (void)timer_stop(wholes->timers, &wholes->timer);
    while (!TAILQ_EMPTY(&wholes->locked.recent)) {
        remove_locked(wholes, TAILQ_FIRST(&wholes->locked.recent));
    }
    pthread_mutex_destroy(&wholes->locked.mutex);
}

// is_beginning_locked: only a very first chunk takes the place of another whole, whose chunks would have to wait again.
static bool
is_beginning_locked(const struct filestore_wholes *wholes, const struct filestore_part *part)
{
    return part->index == 0 || (part->index < FIRST_CHUNKS && wholes->locked.count < WHOLES_MAX);
}

void
filestore_wholes_hash(struct filestore_wholes *wholes, struct filestore_part *part)
{
    part->wholes = wholes;
    part->is_in_whole = false;
    pthread_mutex_lock(&wholes->locked.mutex);
    struct filestore_whole *whole = find_locked(wholes, part->upload_id);
    if (whole == NULL && is_beginning_locked(wholes, part)) {
        whole = add_locked(wholes, part->upload_id);
    } else if (whole != NULL) {
        TAILQ_REMOVE(&wholes->locked.recent, whole, link);
        TAILQ_INSERT_HEAD(&wholes->locked.recent, whole, link);
    }
    part->whole = whole;
    if (whole == NULL) {
        submit(part, run_alone);
    } else {
        whole->under_way++;
        if (whole->is_given_up || part->index < whole->next_index) {
            submit(part, run_alone);
        } else if (part->index == whole->next_index && !whole->is_busy) {
            whole->is_busy = true;
            submit(part, run_in_order);
        } else {
            park_locked(whole, part);
        }
        watch_locked(wholes, whole);
    }
    pthread_mutex_unlock(&wholes->locked.mutex);
}

static enum err
compare(const struct filestore_part *part)
{
    bool is_same = memcmp(part->digests.md5, part->announced_md5, DIGEST_MD5_BYTES) == 0;
    return is_same ? ERR_OK : ERR_CORRUPT;
}

static void
run_alone(struct work *work)
{
    struct filestore_part *part = (struct filestore_part *)work;
    enum err err = part->is_cancelled(part) ? ERR_CANCELLED : ERR_OK;

    if (err == ERR_OK) {
        err = digest_of(DIGEST_MD5, part->data, part->digests.md5);
    }
    if (err == ERR_OK) {
        err = compare(part);
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, part->data, part->digests.sha256);
    }
    part->done(part, err);
}

// add_to_whole hashes a part whose turn it is. After an error the whole is as before.
static enum err
add_to_whole(struct filestore_whole *whole, struct filestore_part *part)
{
    struct md5_chain md5 = whole->md5;
    enum err err = part->is_cancelled(part) ? ERR_CANCELLED : ERR_OK;

    if (err == ERR_OK && part->offset != whole->md5.size_bytes) {
        return ERR_INVALID;
    }
    if (err == ERR_OK && !md5_chain_check(&md5, part->data, part->hints, part->digests.md5)) {
        err = md5_chain_add(&md5, part->data, part->digests.md5, NULL);
    }
    if (err == ERR_OK) {
        err = compare(part);
    }
    if (err == ERR_OK) {
        err = sha256_chain_add(whole->sha256, part->data, part->digests.sha256);
    }
    if (err == ERR_OK) {
        whole->md5 = md5;
        part->is_in_whole = true;
    }
    return err;
}

// next_locked is the part whose turn it is, if it waits. One at a place that has been passed is hashed by itself.
static struct filestore_part *
next_locked(struct filestore_whole *whole)
{
    struct filestore_part *part = TAILQ_FIRST(&whole->parked);
    while (part != NULL && part->index < whole->next_index) {
        submit(unpark_first_locked(whole), run_alone);
        part = TAILQ_FIRST(&whole->parked);
    }
    return part != NULL && part->index == whole->next_index ? unpark_first_locked(whole) : NULL;
}

// run_in_order hashes a part whose turn it is, and those that wait for it.
static void
run_in_order(struct work *work)
{
    struct filestore_part *part = (struct filestore_part *)work;
    struct filestore_wholes *wholes = part->wholes;
    struct filestore_whole *whole = part->whole;

    while (part != NULL) {
        enum err err = add_to_whole(whole, part);
        struct filestore_part *ended = part;

        pthread_mutex_lock(&wholes->locked.mutex);
        whole->next_index += err == ERR_OK;
        if (err == ERR_INVALID) {
            // A chunk before it was shorter than the others: those of a whole do not follow each other.
            give_up_locked(whole);
        }
        part = next_locked(whole);
        whole->is_busy = part != NULL;
        watch_locked(wholes, whole);
        pthread_mutex_unlock(&wholes->locked.mutex);
        if (err == ERR_INVALID) {
            submit(ended, run_alone);
        } else {
            // Last, since the whole may be gone after it.
            ended->done(ended, err);
        }
    }
}

void
filestore_wholes_leave(struct filestore_part *part, bool is_stored)
{
    struct filestore_wholes *wholes = part->wholes;
    struct filestore_whole *whole = part->whole;

    if (whole == NULL) {
        return;
    }
    pthread_mutex_lock(&wholes->locked.mutex);
    whole->under_way--;
    if (part->is_in_whole && !is_stored) {
        // It may come again with other content.
        whole->is_wrong = true;
        give_up_locked(whole);
    }
    watch_locked(wholes, whole);
    pthread_mutex_unlock(&wholes->locked.mutex);
}

enum err
filestore_wholes_take(struct filestore_wholes *wholes, const uint8_t upload_id[FILESTORE_ID_BYTES],
    struct filestore_whole_digests *out)
{
    bool is_known = false;

    pthread_mutex_lock(&wholes->locked.mutex);
    struct filestore_whole *whole = find_locked(wholes, upload_id);
    // While parts are under way, as of one that is sent twice, the digests may be a thread's.
    if (whole != NULL && whole->under_way == 0) {
        is_known = !whole->is_wrong;
        if (is_known) {
            *out = (struct filestore_whole_digests){whole->md5.size_bytes, whole->md5, whole->sha256};
            whole->sha256 = NULL; // transferred
        }
        remove_locked(wholes, whole);
    }
    pthread_mutex_unlock(&wholes->locked.mutex);
    if (is_known) {
        return ERR_OK;
    }
    out->size_bytes = 0;
    md5_chain_begin(&out->md5);
    return sha256_chain_new(&out->sha256);
}
