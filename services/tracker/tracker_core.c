// Sources: who they are, what state they are in, and since when nobody has heard of them.
#include "services/tracker/tracker_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "services/tracker/tracker_core_priv.h"

enum {
    URL_BYTES = 256,            // with its NUL; as RPC_URL_MAX_BYTES
    COMMAND_PATIENCE_MS = 2000, // for a source to do as it was told
    LOAD_TOLD_MS = 1000,        // a source's load is news at most so often
    GONE_MAX = 1024,            // sources that have left and are still shown
    GONE_SHOWN_MS = 10 * 60 * 1000,
    PROBE_INTERVAL_MS = 5000,
    PROBE_SPACING_MS = 20, // between two in all: with many sources each is asked more seldom
    PROBE_AGAIN_MS = 200,  // after the first failure, which may have been an accident
    PROBES_FAILED = 2,
    BLAME_PEER = 1,   // bad segments that put a source in quarantine
    BLAME_MIRROR = 3, // a mirror's disk may have one bad spot, which it mends
    CLOCKS_DIFFER_MS = 24 * 3600 * 1000,
};

// --- Small things ---------------------------------------------------------------------------------------------------

// xorshift64*: choices need to be spread, not secret.
uint64_t
tracker_random(struct tracker_core *core)
{
    core->random ^= core->random >> 12;
    core->random ^= core->random << 25;
    core->random ^= core->random >> 27;
    return core->random * UINT64_C(0x2545F4914F6CDD1D);
}

bool
tracker_source_is_mirror(const struct tracker_source *source)
{
    return source->kind != TRACKER_PEER;
}

void
tracker_source_hold(struct tracker_source *source)
{
    source->references++;
}

static void
free_urls(struct tracker_source *source)
{
    for (size_t i = 0; i < source->url_count; i++) {
        free(source->urls[i]);
        source->urls[i] = NULL;
    }
    source->url_count = 0;
}

void
tracker_source_release(struct tracker_core *core, struct tracker_source *source)
{
    (void)core;
    source->references--;
    if (source->references == 0) {
        free_urls(source);
        free(source);
    }
}

static void
list_heard(struct tracker_core *core, struct tracker_source *source)
{
    if (source->is_heard_listed) {
        TAILQ_REMOVE(&core->heard, source, by_heard);
    }
    TAILQ_INSERT_TAIL(&core->heard, source, by_heard);
    source->is_heard_listed = true;
}

static void
unlist_heard(struct tracker_core *core, struct tracker_source *source)
{
    if (source->is_heard_listed) {
        TAILQ_REMOVE(&core->heard, source, by_heard);
        source->is_heard_listed = false;
    }
}

static void
list_probe(struct tracker_core *core, struct tracker_source *source, uint64_t due_ms, bool is_first)
{
    if (source->is_probe_listed) {
        TAILQ_REMOVE(&core->probes, source, by_probe);
    } else {
        core->probe_count++;
    }
    source->is_probe_listed = true;
    source->probe_ms = due_ms;
    if (is_first) {
        TAILQ_INSERT_HEAD(&core->probes, source, by_probe);
    } else {
        TAILQ_INSERT_TAIL(&core->probes, source, by_probe);
    }
}

static void
unlist_probe(struct tracker_core *core, struct tracker_source *source)
{
    if (source->is_probe_listed) {
        TAILQ_REMOVE(&core->probes, source, by_probe);
        source->is_probe_listed = false;
        core->probe_count--;
    }
}

// --- State ----------------------------------------------------------------------------------------------------------

// Something about the source is news for those who watch it.
static void
touch(struct tracker_core *core, struct tracker_source *source, bool is_urgent)
{
    struct tracker_holding *holding;
    struct tracker_file *file;
    source->version = ++core->versions;
    source->change = core->versions;
    TAILQ_REMOVE(&core->by_change, source, by_change);
    TAILQ_INSERT_TAIL(&core->by_change, source, by_change);
    tracker_topic_touch(core, &core->all, is_urgent);
    if (tracker_source_is_mirror(source)) {
        LIST_FOREACH(file, &core->watched, watched)
        {
            tracker_topic_touch(core, &file->topic, is_urgent);
        }
    } else if (!LIST_EMPTY(&core->watched)) {
        LIST_FOREACH(holding, &source->holdings, of_source)
        {
            tracker_topic_touch(core, &holding->file->topic, is_urgent);
        }
    }
}

static void
list_mirror(struct tracker_core *core, struct tracker_source *source)
{
    bool is_up = source->kind == TRACKER_MIRROR && source->state == TRACKER_UP;
    if (is_up && !source->is_listed_mirror) {
        // There is room: it was made when the source was announced.
        source->mirror_index = core->mirror_count;
        core->mirrors[core->mirror_count++] = source;
    } else if (!is_up && source->is_listed_mirror) {
        struct tracker_source *last = core->mirrors[--core->mirror_count];
        core->mirrors[source->mirror_index] = last;
        last->mirror_index = source->mirror_index;
    }
    source->is_listed_mirror = is_up;
}

// Puts the source into the state that follows from what is known of it.
static void
settle(struct tracker_core *core, struct tracker_source *source, struct tracker_now now)
{
    struct tracker_holding *holding;
    enum tracker_state state = source->said;
    if (source->is_quarantined) {
        state = TRACKER_QUARANTINED;
    } else if (!source->is_alive || !source->is_reachable) {
        state = TRACKER_DEAD;
    }
    if (state == source->state) {
        return;
    }
    core->deaths += state == TRACKER_DEAD;
    source->state = state;
    source->since_unix_ms = now.unix_ms;
    list_mirror(core, source);
    LIST_FOREACH(holding, &source->holdings, of_source)
    {
        tracker_files_settle(core, holding);
    }
    touch(core, source, true);
}

// --- Announcing -----------------------------------------------------------------------------------------------------

static bool
is_name(const char *name)
{
    struct bytes printable = {0};
    size_t size = strlen(name);
    bool is_same = size > 0 && size < TRACKER_NAME_BYTES &&
                   text_append_printable(&printable, bytes_view_of_text(name), false) == ERR_OK &&
                   bytes_view_equal(bytes_as_view(&printable), bytes_view_of_text(name));
    bytes_free(&printable);
    return is_same;
}

// A comma would be read as the end of the URL.
static bool
is_url(const char *url, bool *is_tls_out)
{
    size_t size = strlen(url);
    *is_tls_out = strncmp(url, "tls+tcp://", strlen("tls+tcp://")) == 0;
    size_t scheme = strlen(*is_tls_out ? "tls+tcp://" : "tcp://");
    if (size >= URL_BYTES || size <= scheme || (!*is_tls_out && strncmp(url, "tcp://", scheme) != 0)) {
        return false;
    }
    for (const char *c = url; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || *c == ',') {
            return false;
        }
    }
    return true;
}

static enum err
check_hello(const struct tracker_hello *hello, struct err_detail *why)
{
    if (hello->kind != TRACKER_MIRROR && hello->kind != TRACKER_PEER) {
        return err_fail(why, ERR_INVALID, "a source is a mirror or a peer");
    }
    if (!is_name(hello->name)) {
        return err_fail(why, ERR_INVALID, "a source's name has 1 to %d bytes of UTF-8, without control characters",
            TRACKER_NAME_BYTES - 1);
    }
    if (hello->url_count == 0 || hello->url_count > TRACKER_URLS_MAX) {
        return err_fail(why, ERR_INVALID, "a source is reached at 1 to %d urls", TRACKER_URLS_MAX);
    }
    for (size_t i = 0; i < hello->url_count; i++) {
        bool is_tls = false;
        if (!is_url(hello->urls[i], &is_tls)) {
            return err_fail(why, ERR_INVALID, "a source's url is tls+tcp://HOST:PORT or tcp://HOST:PORT");
        }
        if (is_tls && hello->certificate_sha256 == NULL) {
            return err_fail(why, ERR_INVALID, "a source with TLS needs certificate_sha256");
        }
    }
    if (hello->state < TRACKER_UP || hello->state > TRACKER_STOPPED) {
        return err_fail(why, ERR_INVALID, "a source announces itself as up, draining or stopped");
    }
    return ERR_OK;
}

static enum err
check_room(struct tracker_core *core, const struct tracker_hello *hello, struct err_detail *why)
{
    size_t count = 0;
    if (core->source_count - core->gone_count >= TRACKER_SOURCES_MAX) {
        return err_fail(why, ERR_LIMIT, "the tracker knows %d sources, which is the most", TRACKER_SOURCES_MAX);
    }
    if (hello->is_admin) {
        return ERR_OK;
    }
    for (struct tracker_source *s = core->sources; s != NULL; s = s->hh.next) {
        count += s->owner != NULL && memcmp(s->user_id, hello->user_id, TRACKER_ID_BYTES) == 0;
    }
    if (count >= TRACKER_SOURCES_PER_USER_MAX) {
        return err_fail(why, ERR_LIMIT, "you have %zu sources, which is the most", count);
    }
    return ERR_OK;
}

// Makes room for one more mirror, so that none has to be made when one wakes.
static enum err
reserve_mirror(struct tracker_core *core)
{
    size_t needed = core->source_count + 1;
    if (needed > core->mirror_capacity) {
        size_t capacity = needed * 2;
        struct tracker_source **grown = realloc(core->mirrors, capacity * sizeof(*grown));
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        core->mirrors = grown;
        core->mirror_capacity = capacity;
    }
    return ERR_OK;
}

static enum err
copy_hello(struct tracker_source *source, const struct tracker_hello *hello)
{
    char *urls[TRACKER_URLS_MAX] = {NULL};
    enum err err = ERR_OK;
    for (size_t i = 0; i < hello->url_count; i++) {
        urls[i] = strdup(hello->urls[i]);
        err = urls[i] == NULL ? ERR_NO_MEMORY : err;
    }
    if (err != ERR_OK) {
        for (size_t i = 0; i < hello->url_count; i++) {
            free(urls[i]);
        }
        return err;
    }
    free_urls(source);
    memcpy(source->urls, urls, sizeof(urls));
    source->url_count = hello->url_count;
    (void)snprintf(source->name, sizeof(source->name), "%s", hello->name);
    (void)snprintf(source->user_name, sizeof(source->user_name), "%s", hello->user_name);
    source->kind = hello->kind;
    source->has_certificate = hello->certificate_sha256 != NULL;
    if (source->has_certificate) {
        memcpy(source->certificate_sha256, hello->certificate_sha256, TRACKER_CERTIFICATE_BYTES);
    }
    source->load = hello->load;
    source->said = hello->state;
    return ERR_OK;
}

static struct tracker_source *
add_source(struct tracker_core *core, const uint8_t id[TRACKER_ID_BYTES], const uint8_t *user_id)
{
    struct tracker_source *source = calloc(1, sizeof(*source));
    if (source == NULL || reserve_mirror(core) != ERR_OK) {
        free(source);
        return NULL;
    }
    memcpy(source->id, id, TRACKER_ID_BYTES);
    if (user_id != NULL) {
        memcpy(source->user_id, user_id, TRACKER_ID_BYTES);
    }
    source->references = 1; // the table's
    LIST_INIT(&source->holdings);
    HASH_ADD(hh, core->sources, id, TRACKER_ID_BYTES, source);
    if (source->hh.tbl == NULL) {
        free(source);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&core->by_change, source, by_change);
    core->source_count++;
    return source;
}

static void
remove_source(struct tracker_core *core, struct tracker_source *source)
{
    tracker_files_forget_source(core, source);
    unlist_heard(core, source);
    unlist_probe(core, source);
    TAILQ_REMOVE(&core->by_change, source, by_change);
    HASH_DELETE(hh, core->sources, source);
    core->source_count--;
    tracker_source_release(core, source);
}

static uint64_t
next_incarnation(const struct tracker_source *source, const struct tracker_hello *hello, int64_t now_unix_ms)
{
    uint64_t now = (uint64_t)now_unix_ms;
    uint64_t last = source->incarnation;
    // A source that comes from a tracker whose clock was ahead says so; one that says what no clock can say is ignored.
    if (hello->incarnation > last && hello->incarnation < now + CLOCKS_DIFFER_MS) {
        last = hello->incarnation;
    }
    return last >= now ? last + 1 : now;
}

enum err
tracker_core_announce(struct tracker_core *core, const struct tracker_hello *hello, void *owner, struct tracker_now now,
    struct tracker_source **out, void **previous_owner_out, struct err_detail *why)
{
    struct tracker_source *source = tracker_core_find_id(core, hello->id);
    bool is_gone = source != NULL && source->owner == NULL;
    enum err err = check_hello(hello, why);
    if (err == ERR_OK && source != NULL &&
        (source == core->origin || memcmp(source->user_id, hello->user_id, TRACKER_ID_BYTES) != 0)) {
        return err_fail(why, ERR_DENIED, "another source has this id");
    }
    if (err == ERR_OK && (source == NULL || is_gone)) {
        err = check_room(core, hello, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    bool is_new = source == NULL;
    if (is_new) {
        source = add_source(core, hello->id, hello->user_id);
        if (source == NULL) {
            return ERR_NO_MEMORY;
        }
    }
    tracker_files_forget_source(core, source); // while it is what it was: mirrors' files are kept in another way
    if (source->is_listed_mirror && hello->kind != TRACKER_MIRROR) {
        source->state = TRACKER_DEAD; // it does not stay among the mirrors as something else
        list_mirror(core, source);
    }
    err = copy_hello(source, hello);
    if (err != ERR_OK) {
        if (is_new) {
            remove_source(core, source);
        }
        return err;
    }
    if (is_gone) {
        TAILQ_REMOVE(&core->gone, source, by_heard);
        core->gone_count--;
    }
    *previous_owner_out = source->owner;
    source->owner = owner;
    source->incarnation = next_incarnation(source, hello, now.unix_ms);
    source->bad_segments = 0;
    source->is_quarantined = false;
    source->is_commanded = false;
    source->is_alive = true;
    source->is_reachable = true;
    source->failed_probes = 0;
    source->heard_ms = now.ms;
    source->load_ms = now.ms;
    source->told_load_ms = now.ms;
    source->dispatched = 0;
    core->announcements++;
    list_heard(core, source);
    list_probe(core, source, now.ms, true);
    if (source->state == source->said) {
        list_mirror(core, source); // which it may not have been before
        touch(core, source, true);
    } else {
        settle(core, source, now);
    }
    tracker_source_hold(source);
    *out = source;
    return ERR_OK;
}

static void
take_load(struct tracker_core *core, struct tracker_source *source, const struct tracker_load *load, uint64_t now_ms)
{
    source->load = *load;
    source->load_ms = now_ms;
    source->dispatched = 0;
    if (now_ms - source->told_load_ms >= LOAD_TOLD_MS) {
        source->told_load_ms = now_ms;
        touch(core, source, false);
    }
}

void
tracker_core_heartbeat(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    const struct tracker_load *load, enum tracker_state state, struct tracker_now now)
{
    if (incarnation != source->incarnation) {
        return;
    }
    if (source != core->origin) {
        if (source->owner == NULL) {
            return;
        }
        source->heard_ms = now.ms;
        source->is_alive = true;
        list_heard(core, source);
    }
    if (source->is_commanded && (state == source->said || now.ms - source->commanded_ms >= COMMAND_PATIENCE_MS)) {
        source->is_commanded = false;
    }
    if (!source->is_commanded && state >= TRACKER_UP && state <= TRACKER_STOPPED) {
        source->said = state;
    }
    take_load(core, source, load, now.ms);
    settle(core, source, now);
}

void
tracker_core_leave(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation, bool is_goodbye,
    struct tracker_now now)
{
    if (incarnation != source->incarnation || source->owner == NULL) {
        return;
    }
    source->owner = NULL;
    source->is_alive = false;
    source->load.segments_in_flight = 0;
    source->load.sent_bytes_per_s = 0;
    unlist_heard(core, source);
    unlist_probe(core, source);
    source->heard_ms = now.ms;
    TAILQ_INSERT_TAIL(&core->gone, source, by_heard);
    core->gone_count++;
    uint64_t deaths = core->deaths;
    settle(core, source, now);
    if (is_goodbye) {
        core->deaths = deaths;
    }
    tracker_files_forget_source(core, source);
}

void
tracker_core_command(struct tracker_core *core, struct tracker_source *source, enum tracker_state state,
    struct tracker_now now)
{
    source->said = state;
    source->is_commanded = source != core->origin;
    source->commanded_ms = now.ms;
    settle(core, source, now);
}

void
tracker_core_blame(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation,
    struct tracker_now now)
{
    core->bad_segments++;
    if (incarnation != source->incarnation) {
        return;
    }
    source->bad_segments++;
    if (source->kind == TRACKER_PEER) {
        source->is_quarantined = source->bad_segments >= BLAME_PEER;
    } else if (source->kind == TRACKER_MIRROR) {
        source->is_quarantined = source->bad_segments >= BLAME_MIRROR;
    }
    if (source->is_quarantined && source->state != TRACKER_QUARANTINED) {
        settle(core, source, now);
    } else {
        touch(core, source, false);
    }
}

// --- Time -----------------------------------------------------------------------------------------------------------

static void
forget_gone(struct tracker_core *core, uint64_t now_ms)
{
    struct tracker_source *oldest;
    while ((oldest = TAILQ_FIRST(&core->gone)) != NULL &&
           (core->gone_count > GONE_MAX || now_ms - oldest->heard_ms >= GONE_SHOWN_MS)) {
        TAILQ_REMOVE(&core->gone, oldest, by_heard);
        core->gone_count--;
        remove_source(core, oldest);
    }
}

void
tracker_core_tick(struct tracker_core *core, struct tracker_now now)
{
    const uint64_t patience_ms = (uint64_t)TRACKER_HEARTBEAT_MS * TRACKER_HEARTBEATS_MISSED;
    struct tracker_source *source;
    if (now.ms - core->ticked_ms > TRACKER_HEARTBEAT_MS) {
        core->no_deaths_before_ms = now.ms + patience_ms; // it was not the sources that paused
    }
    core->ticked_ms = now.ms;
    while (now.ms >= core->no_deaths_before_ms && (source = TAILQ_FIRST(&core->heard)) != NULL &&
           now.ms - source->heard_ms > patience_ms) {
        unlist_heard(core, source);
        source->is_alive = false;
        settle(core, source, now);
    }
    forget_gone(core, now.ms);
}

// --- Probes ---------------------------------------------------------------------------------------------------------

struct tracker_source *
tracker_core_take_probe(struct tracker_core *core, uint64_t now_ms, uint64_t *wait_ms_out)
{
    struct tracker_source *source = TAILQ_FIRST(&core->probes);
    uint64_t spread_ms = (uint64_t)core->probe_count * PROBE_SPACING_MS;
    *wait_ms_out = UINT64_MAX;
    if (source == NULL) {
        return NULL;
    }
    if (source->probe_ms > now_ms) {
        *wait_ms_out = source->probe_ms - now_ms;
        return NULL;
    }
    list_probe(core, source, now_ms + (spread_ms > PROBE_INTERVAL_MS ? spread_ms : PROBE_INTERVAL_MS), false);
    if (source->is_probing) {
        return NULL;
    }
    source->is_probing = true;
    tracker_source_hold(source);
    return source;
}

void
tracker_core_probed(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation, bool is_reachable,
    struct tracker_now now)
{
    bool is_suspected = source->is_suspected;
    source->is_probing = false;
    source->is_suspected = false;
    if (incarnation != source->incarnation || source->owner == NULL) {
        return;
    }
    source->failed_probes = is_reachable ? 0 : source->failed_probes + 1;
    if (is_reachable) {
        source->is_reachable = true;
    } else if (source->failed_probes >= PROBES_FAILED) {
        source->is_reachable = false;
    } else {
        list_probe(core, source, now.ms + PROBE_AGAIN_MS, true);
    }
    if (is_suspected) {
        list_probe(core, source, now.ms, true);
    }
    settle(core, source, now);
}

void
tracker_core_unprobed(struct tracker_core *core, struct tracker_source *source)
{
    source->is_probing = false;
    tracker_source_release(core, source);
}

void
tracker_core_suspect(struct tracker_core *core, struct tracker_source *source, uint64_t incarnation, uint64_t now_ms)
{
    if (incarnation != source->incarnation || !source->is_probe_listed || source->state == TRACKER_DEAD) {
        return;
    }
    if (source->is_probing) {
        source->is_suspected = true;
    } else {
        list_probe(core, source, now_ms, true);
    }
}

// --- Finding --------------------------------------------------------------------------------------------------------

struct tracker_source *
tracker_core_find_id(struct tracker_core *core, const uint8_t id[TRACKER_ID_BYTES])
{
    struct tracker_source *source = NULL;
    HASH_FIND(hh, core->sources, id, TRACKER_ID_BYTES, source);
    return source;
}

enum err
tracker_core_find_text(struct tracker_core *core, const char *text, struct tracker_source **out, struct err_detail *why)
{
    uint8_t id[TRACKER_ID_BYTES];
    struct tracker_source *found = NULL;
    bool is_ambiguous = false;
    if (bytes_from_hex(text, id, sizeof(id)) == ERR_OK) {
        found = tracker_core_find_id(core, id);
    }
    for (struct tracker_source *s = core->sources; found == NULL && s != NULL; s = s->hh.next) {
        if (s->owner == NULL && s != core->origin) {
            continue;
        }
        if (strcmp(s->name, text) == 0) {
            for (struct tracker_source *t = s->hh.next; t != NULL; t = t->hh.next) {
                is_ambiguous = is_ambiguous || (t->owner != NULL && strcmp(t->name, text) == 0);
            }
            found = s;
        }
    }
    if (is_ambiguous) {
        return err_fail(why, ERR_CONFLICT, "several sources are called \"%s\": name it by its id", text);
    }
    if (found == NULL) {
        return err_fail(why, ERR_NOT_FOUND, "there is no source \"%s\"", text);
    }
    *out = found;
    return ERR_OK;
}

struct tracker_source *
tracker_core_first(struct tracker_core *core)
{
    return TAILQ_LAST(&core->by_change, tracker_source_queue);
}

struct tracker_source *
tracker_core_next(struct tracker_core *core, struct tracker_source *source)
{
    (void)core;
    return TAILQ_PREV(source, tracker_source_queue, by_change);
}

// --- Figures and lifecycle ------------------------------------------------------------------------------------------

void
tracker_core_read_figures(const struct tracker_core *core, struct tracker_figures *out)
{
    *out = (struct tracker_figures){
        .files = core->file_count,
        .holdings = core->holding_count,
        .bitmap_bytes = core->bitmap_bytes,
        .watches = core->watch_count,
        .announcements = core->announcements,
        .deaths = core->deaths,
        .bad_segments = core->bad_segments,
    };
    for (const struct tracker_source *s = core->sources; s != NULL; s = s->hh.next) {
        out->sources[s->state]++;
    }
}

struct tracker_source *
tracker_core_origin(struct tracker_core *core)
{
    return core->origin;
}

enum err
tracker_core_new(const uint8_t origin_id[TRACKER_ID_BYTES], const char *origin_name, uint64_t seed,
    struct tracker_now now, struct tracker_core **out)
{
    struct tracker_core *core = calloc(1, sizeof(*core));
    if (core == NULL) {
        return ERR_NO_MEMORY;
    }
    core->random = seed | 1; // xorshift stays at 0
    TAILQ_INIT(&core->by_change);
    TAILQ_INIT(&core->heard);
    TAILQ_INIT(&core->gone);
    TAILQ_INIT(&core->probes);
    TAILQ_INIT(&core->pending_topics);
    TAILQ_INIT(&core->pending_watches);
    LIST_INIT(&core->watched);
    LIST_INIT(&core->all.watches);
    core->ticked_ms = now.ms;
    core->origin = add_source(core, origin_id, NULL);
    if (core->origin == NULL) {
        tracker_core_free(&core);
        return ERR_NO_MEMORY;
    }
    struct tracker_source *origin = core->origin;
    (void)snprintf(origin->name, sizeof(origin->name), "%s", origin_name);
    origin->kind = TRACKER_ORIGIN;
    origin->incarnation = (uint64_t)now.unix_ms;
    origin->said = TRACKER_UP;
    origin->is_alive = true;
    origin->is_reachable = true;
    settle(core, origin, now);
    *out = core;
    return ERR_OK;
}

void
tracker_core_free(struct tracker_core **core_ref)
{
    struct tracker_core *core = *core_ref;
    struct tracker_source *source;
    struct tracker_source *next;
    if (core == NULL) {
        return;
    }
    HASH_ITER(hh, core->sources, source, next)
    {
        remove_source(core, source);
    }
    free(core->mirrors);
    free(core);
    *core_ref = NULL;
}
