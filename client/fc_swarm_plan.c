// What a plan knows, and how it changes with what happens. What is done next is decided in fc_swarm_plan_choose.c.
#include <stdlib.h>
#include <string.h>

#include "client/fc_swarm_plan_core_priv.h"

enum {
    PROBE_FIRST_US = 100 * 1000,  // after the first death: it may just have lost a connection
    PROBE_US = FC_SWARM_US_PER_S, // and then at least
    PROBE_LONGEST_US = 10 * FC_SWARM_US_PER_S,
    FLAP_LONGEST_US = 30 * FC_SWARM_US_PER_S,
    SERVED_WELL_US = 10 * FC_SWARM_US_PER_S, // so long without dying: deaths before do not count
    BUSY_PAUSE_US = 200 * 1000,
    JITTER_SHARE = 4, // of a pause, at most, on top
    RATE_TAU_US = 3 * FC_SWARM_US_PER_S,
    RATE_TAU_START_US = FC_SWARM_US_PER_S / 2,
    SRTT_SHARE = 8, // of a new sample in the average
    SRTT_LONGEST_US = 2 * FC_SWARM_US_PER_S,
};

uint64_t
fc_swarm_random(struct fc_swarm_plan *plan, uint64_t below)
{
    // splitmix64
    uint64_t z = (plan->random += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return (z ^ (z >> 31)) % below;
}

uint32_t
fc_swarm_segment_size(const struct fc_swarm_plan *plan, uint64_t segment)
{
    uint64_t left = plan->options.size_bytes - segment * plan->options.segment_bytes;
    return left < plan->options.segment_bytes ? (uint32_t)left : plan->options.segment_bytes;
}

static bool
get_bit(const uint8_t *bits, uint64_t at)
{
    return (bits[at / 8] >> (at % 8) & 1) != 0;
}

static void
set_bit(uint8_t *bits, uint64_t at, bool is_set)
{
    uint8_t mask = (uint8_t)(1U << (at % 8));
    bits[at / 8] = is_set ? bits[at / 8] | mask : bits[at / 8] & (uint8_t)~mask;
}

// ---- Life ----

enum err
fc_swarm_plan_new(const struct fc_swarm_plan_options *options, struct fc_swarm_plan **out)
{
    struct fc_swarm_plan *plan = calloc(1, sizeof(*plan));

    if (plan == NULL) {
        return ERR_NO_MEMORY;
    }
    plan->options = *options;
    if (plan->options.requests_max == 0 || plan->options.requests_max > FC_SWARM_REQUESTS_MAX) {
        plan->options.requests_max = FC_SWARM_REQUESTS_MAX;
    }
    plan->segment_count =
        options->size_bytes / options->segment_bytes + (options->size_bytes % options->segment_bytes != 0);
    plan->free_segments = plan->segment_count;
    plan->random = options->seed;
    plan->next_id = 1;
    plan->states = calloc((size_t)plan->segment_count, sizeof(plan->states[0]));
    plan->copies = calloc((size_t)plan->segment_count, sizeof(plan->copies[0]));
    if (plan->states == NULL || plan->copies == NULL) {
        fc_swarm_plan_free(&plan);
        return ERR_NO_MEMORY;
    }
    *out = plan;
    return ERR_OK;
}

void
fc_swarm_plan_free(struct fc_swarm_plan **plan)
{
    if (*plan == NULL) {
        return;
    }
    for (unsigned i = 0; i < (*plan)->source_count; i++) {
        free((*plan)->sources[i].bits);
    }
    free((*plan)->copies);
    free((*plan)->states);
    free(*plan);
    *plan = NULL;
}

static void
set_there(struct fc_swarm_plan *plan, uint64_t segment)
{
    plan->states[segment] = FC_SWARM_THERE;
    plan->there_segments++;
    plan->there_bytes += fc_swarm_segment_size(plan, segment);
}

void
fc_swarm_plan_has(struct fc_swarm_plan *plan, uint64_t segment)
{
    if (plan->states[segment] == FC_SWARM_FREE) {
        plan->free_segments--;
        set_there(plan, segment);
    }
}

// ---- What sources have ----

bool
fc_swarm_has(const struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t segment)
{
    (void)plan;
    return source->bits != NULL ? get_bit(source->bits, segment) : source->is_complete;
}

static bool
is_suspect(const struct fc_swarm_source *source, uint64_t segment)
{
    if (source->strikes == 0) {
        return false;
    }
    if (source->strikes >= FC_SWARM_STRIKES_SERVER) {
        return true;
    }
    for (unsigned i = 0; i < FC_SWARM_BAD_MAX; i++) {
        if (source->bad[i].count != 0 && source->bad[i].segment == segment) {
            return true;
        }
    }
    return false;
}

bool
fc_swarm_may_serve(const struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t segment)
{
    if (!fc_swarm_has(plan, source, segment)) {
        return false;
    }
    if (!is_suspect(source, segment)) {
        return true;
    }
    for (unsigned i = 0; i < plan->source_count; i++) {
        const struct fc_swarm_source *other = &plan->sources[i];
        if (other != source && other->state == FC_SWARM_STATE_UP && fc_swarm_has(plan, other, segment) &&
            !is_suspect(other, segment)) {
            return false;
        }
    }
    return true;
}

// count_copies adds a peer's segments to those that can be had, or takes them away.
static void
count_copies(struct fc_swarm_plan *plan, const struct fc_swarm_source *source, int by)
{
    if (source->kind != FC_SWARM_KIND_PEER || source->state != FC_SWARM_STATE_UP) {
        return;
    }
    for (uint64_t i = 0; i < plan->segment_count; i++) {
        if (fc_swarm_has(plan, source, i)) {
            plan->copies[i] = (uint16_t)(plan->copies[i] + by);
        }
    }
}

// make_bits gives a source a bit for each segment.
static enum err
make_bits(const struct fc_swarm_plan *plan, struct fc_swarm_source *source)
{
    size_t size = (size_t)(plan->segment_count / 8 + 1);

    if (source->bits == NULL) {
        source->bits = malloc(size);
        if (source->bits == NULL) {
            return ERR_NO_MEMORY;
        }
        memset(source->bits, source->is_complete ? 0xff : 0, size);
    }
    return ERR_OK;
}

enum err
fc_swarm_plan_holding(struct fc_swarm_plan *plan, unsigned source, bool is_complete, struct bytes_view bits)
{
    struct fc_swarm_source *s = &plan->sources[source];
    size_t size = (size_t)(plan->segment_count / 8 + 1);

    count_copies(plan, s, -1);
    free(s->bits);
    s->bits = NULL;
    s->is_complete = is_complete;
    enum err err = is_complete || bits.size == 0 ? ERR_OK : make_bits(plan, s);
    if (err == ERR_OK && s->bits != NULL) {
        memcpy(s->bits, bits.data, bits.size < size ? bits.size : size);
    }
    count_copies(plan, s, 1);
    return err;
}

static void
set_has(struct fc_swarm_plan *plan, struct fc_swarm_source *source, uint64_t segment, bool has)
{
    if (get_bit(source->bits, segment) == has) {
        return;
    }
    set_bit(source->bits, segment, has);
    if (source->kind == FC_SWARM_KIND_PEER && source->state == FC_SWARM_STATE_UP) {
        plan->copies[segment] = (uint16_t)(plan->copies[segment] + (has ? 1 : -1));
    }
}

enum err
fc_swarm_plan_change(struct fc_swarm_plan *plan, unsigned source, uint64_t first, uint64_t count, bool is_gone)
{
    struct fc_swarm_source *s = &plan->sources[source];

    if (first >= plan->segment_count || (s->bits == NULL && s->is_complete == !is_gone)) {
        return ERR_OK;
    }
    enum err err = make_bits(plan, s);
    if (err == ERR_OK) {
        uint64_t end = count < plan->segment_count - first ? first + count : plan->segment_count;
        for (uint64_t i = first; i < end; i++) {
            set_has(plan, s, i, !is_gone);
        }
    }
    return err;
}

// ---- Sources that come and go ----

enum err
fc_swarm_plan_add(struct fc_swarm_plan *plan, enum fc_swarm_kind kind, uint64_t now_us, unsigned *source_out)
{
    if (plan->source_count == FC_SWARM_SOURCES_MAX) {
        return ERR_LIMIT;
    }
    struct fc_swarm_source *source = &plan->sources[plan->source_count];
    memset(source, 0, sizeof(*source));
    source->kind = kind;
    source->state = FC_SWARM_STATE_DOWN;
    source->probe_us = now_us;
    *source_out = plan->source_count++;
    return ERR_OK;
}

static uint64_t
with_jitter(struct fc_swarm_plan *plan, uint64_t pause_us)
{
    return pause_us + fc_swarm_random(plan, pause_us / JITTER_SHARE + 1);
}

static uint64_t
grown(uint64_t pause_us, unsigned times, uint64_t longest_us)
{
    while (times > 0 && pause_us < longest_us) {
        pause_us *= 2;
        times--;
    }
    return pause_us < longest_us ? pause_us : longest_us;
}

void
fc_swarm_plan_up(struct fc_swarm_plan *plan, unsigned source, uint64_t now_us, uint64_t rtt_us)
{
    struct fc_swarm_source *s = &plan->sources[source];

    s->is_probing = false;
    s->probe_failures = 0;
    if (rtt_us != 0) {
        s->srtt_us = s->has_srtt ? s->srtt_us - s->srtt_us / SRTT_SHARE + rtt_us / SRTT_SHARE : rtt_us;
        s->has_srtt = true;
    }
    if (s->state == FC_SWARM_STATE_UP || s->state == FC_SWARM_STATE_BANNED) {
        return;
    }
    s->state = FC_SWARM_STATE_UP;
    s->up_us = now_us;
    s->pause_us = 0;
    s->is_starting = true;
    s->window = (uint64_t)FC_SWARM_WINDOW_LEAST_SEGMENTS * plan->options.segment_bytes;
    s->rate = 0;
    s->rate_weight = 0;
    s->partial_bytes = 0;
    plan->peers_up += s->kind == FC_SWARM_KIND_PEER;
    count_copies(plan, s, 1);
}

void
fc_swarm_leave_up(struct fc_swarm_plan *plan, unsigned source, enum fc_swarm_state state, uint64_t now_us)
{
    struct fc_swarm_source *s = &plan->sources[source];

    if (s->state == FC_SWARM_STATE_BANNED) {
        return;
    }
    if (s->state == FC_SWARM_STATE_UP) {
        count_copies(plan, s, -1);
        plan->peers_up -= s->kind == FC_SWARM_KIND_PEER;
        s->deaths = now_us - s->up_us > SERVED_WELL_US ? 1 : s->deaths + 1;
        uint64_t pause_us = s->deaths == 1 ? PROBE_FIRST_US : grown(PROBE_US, s->deaths - 2, (uint64_t)FLAP_LONGEST_US);
        s->probe_us = now_us + with_jitter(plan, pause_us);
    }
    s->state = state;
    if (state == FC_SWARM_STATE_DRAINING) {
        return;
    }
    for (unsigned i = 0; i < plan->requests_end; i++) {
        struct fc_swarm_request *request = &plan->requests[i];
        if (request->id != 0 && request->source == source && !request->has_arrived) {
            s->retries++;
            fc_swarm_end_request(plan, request, false, now_us);
        }
    }
}

void
fc_swarm_plan_down(struct fc_swarm_plan *plan, unsigned source, enum fc_swarm_state state, uint64_t now_us)
{
    fc_swarm_leave_up(plan, source, state, now_us);
}

void
fc_swarm_plan_probe_failed(struct fc_swarm_plan *plan, unsigned source, enum fc_swarm_state state, uint64_t now_us)
{
    struct fc_swarm_source *s = &plan->sources[source];

    s->is_probing = false;
    if (s->state == FC_SWARM_STATE_BANNED) {
        return;
    }
    fc_swarm_leave_up(plan, source, state, now_us);
    s->probe_us = now_us + with_jitter(plan, grown(PROBE_US, s->probe_failures, (uint64_t)PROBE_LONGEST_US));
    s->probe_failures++;
}

void
fc_swarm_plan_woken(struct fc_swarm_plan *plan, unsigned source, uint64_t now_us)
{
    struct fc_swarm_source *s = &plan->sources[source];

    // One that comes and goes waits for its time nevertheless.
    if (s->state != FC_SWARM_STATE_UP && s->deaths < 2) {
        s->probe_us = now_us;
        s->probe_failures = 0;
    }
}

void
fc_swarm_plan_load(struct fc_swarm_plan *plan, unsigned source, unsigned cpu_permille)
{
    plan->sources[source].cpu_permille = cpu_permille;
}

void
fc_swarm_plan_picked(struct fc_swarm_plan *plan, unsigned source)
{
    if (plan->pick_count < FC_SWARM_PICKS_MAX) {
        plan->picks[plan->pick_count++] = source;
    }
}

unsigned
fc_swarm_plan_picks_wanted(const struct fc_swarm_plan *plan)
{
    if (plan->options.balance != FC_BALANCE_MEDIATOR || plan->free_segments == 0) {
        return 0;
    }
    uint64_t most = plan->free_segments < FC_SWARM_PICKS_MAX ? plan->free_segments : FC_SWARM_PICKS_MAX;
    return most > plan->pick_count ? (unsigned)most - plan->pick_count : 0;
}

// ---- How fast they are ----

double
fc_swarm_rate(const struct fc_swarm_source *source)
{
    return source->rate_weight > 0 ? source->rate / source->rate_weight : 0;
}

void
fc_swarm_plan_heard(struct fc_swarm_plan *plan, unsigned source, uint64_t received_bytes, uint64_t now_us)
{
    struct fc_swarm_source *s = &plan->sources[source];
    uint64_t bytes = received_bytes - s->heard_bytes;
    uint64_t passed_us = now_us - s->heard_us;

    (void)plan;
    if (s->owed_requests == 0 || received_bytes < s->heard_bytes) {
        s->heard_bytes = received_bytes;
        s->heard_us = now_us;
        return;
    }
    if (passed_us == 0) {
        return;
    }
    s->heard_bytes = received_bytes;
    s->heard_us = now_us;
    if (bytes != 0) {
        s->last_byte_us = now_us;
        s->partial_bytes += bytes;
    } else if (s->rate_weight == 0) {
        return; // the first answer is on its way
    }
    double tau_us = s->is_starting ? RATE_TAU_START_US : RATE_TAU_US;
    double share = (double)passed_us / (tau_us + (double)passed_us);
    s->rate += ((double)bytes / (double)passed_us - s->rate) * share;
    s->rate_weight += (1 - s->rate_weight) * share;
}

bool
fc_swarm_plan_is_heard(const struct fc_swarm_plan *plan, unsigned source, uint64_t since_us)
{
    return plan->sources[source].partial_bytes + plan->sources[source].bytes != 0 &&
           plan->sources[source].last_byte_us >= since_us;
}

// grow_window doubles it with each windowful, until it holds more than its source can bring.
static void
grow_window(const struct fc_swarm_plan *plan, struct fc_swarm_source *source, uint32_t size)
{
    double enough_us = (double)(2 * source->srtt_us);

    (void)plan;
    if (!source->is_starting) {
        return;
    }
    if (enough_us < FC_SWARM_US_PER_S / 2) {
        enough_us = FC_SWARM_US_PER_S / 2;
    }
    source->window += size;
    double rate = fc_swarm_rate(source);
    source->is_starting =
        source->window < FC_SWARM_WINDOW_MOST_BYTES && (rate == 0 || (double)source->window < 2 * rate * enough_us);
}

// ---- Requests ----

static struct fc_swarm_request *
find_request(struct fc_swarm_plan *plan, uint64_t id)
{
    for (unsigned i = 0; i < plan->requests_end && id != 0; i++) {
        if (plan->requests[i].id == id) {
            return &plan->requests[i];
        }
    }
    return NULL;
}

// find_twin is the other request for the same segment, or NULL.
static struct fc_swarm_request *
find_twin(struct fc_swarm_plan *plan, const struct fc_swarm_request *request)
{
    for (unsigned i = 0; i < plan->requests_end; i++) {
        struct fc_swarm_request *other = &plan->requests[i];
        if (other != request && other->id != 0 && other->segment == request->segment) {
            return other;
        }
    }
    return NULL;
}

static void
owe_less(struct fc_swarm_plan *plan, const struct fc_swarm_request *request)
{
    struct fc_swarm_source *source = &plan->sources[request->source];

    source->owed_bytes -= request->size;
    source->owed_requests--;
    if (source->owed_requests == 0) {
        source->partial_bytes = 0;
    }
}

void
fc_swarm_end_request(struct fc_swarm_plan *plan, struct fc_swarm_request *request, bool is_told, uint64_t now_us)
{
    struct fc_swarm_request *twin = find_twin(plan, request);

    (void)now_us;
    if (!request->has_arrived) {
        owe_less(plan, request);
    }
    plan->busy_bytes -= request->size;
    if (!is_told) {
        plan->cancels[plan->cancel_count++] = request->id;
    }
    if (twin != NULL) {
        twin->is_duplicate = false;
        plan->states[request->segment] = twin->has_arrived ? FC_SWARM_ARRIVED : FC_SWARM_ASKED;
    } else {
        plan->states[request->segment] = FC_SWARM_FREE;
        plan->free_segments++;
        if (request->segment < plan->first_open) {
            plan->first_open = request->segment;
        }
    }
    request->id = 0;
    plan->request_count--;
    while (plan->requests_end > 0 && plan->requests[plan->requests_end - 1].id == 0) {
        plan->requests_end--;
    }
}

bool
fc_swarm_plan_arrived(struct fc_swarm_plan *plan, uint64_t id, uint64_t now_us)
{
    struct fc_swarm_request *request = find_request(plan, id);

    if (request == NULL) {
        return false;
    }
    struct fc_swarm_source *source = &plan->sources[request->source];
    source->partial_bytes = source->partial_bytes > request->size ? source->partial_bytes - request->size : 0;
    source->last_byte_us = now_us;
    owe_less(plan, request);
    request->has_arrived = true;
    plan->states[request->segment] = FC_SWARM_ARRIVED;
    uint64_t waited_us = now_us - request->asked_us;
    if (!source->has_srtt || waited_us < source->srtt_us) {
        source->srtt_us = waited_us < SRTT_LONGEST_US ? waited_us : SRTT_LONGEST_US;
        source->has_srtt = true;
    }
    grow_window(plan, source, request->size);
    struct fc_swarm_request *twin = find_twin(plan, request);
    if (twin != NULL && !twin->has_arrived) {
        fc_swarm_end_request(plan, twin, false, now_us);
    }
    return true;
}

// note_bad remembers a bad segment; how often it was bad by now.
static unsigned
note_bad(struct fc_swarm_source *source, uint64_t segment)
{
    unsigned at = 0;

    for (unsigned i = 0; i < FC_SWARM_BAD_MAX; i++) {
        if (source->bad[i].count != 0 && source->bad[i].segment == segment) {
            return ++source->bad[i].count;
        }
        if (source->bad[i].count < source->bad[at].count) {
            at = i;
        }
    }
    source->bad[at].segment = segment;
    source->bad[at].count = 1;
    return 1;
}

static bool
has_other(const struct fc_swarm_plan *plan, unsigned source, uint64_t segment)
{
    for (unsigned i = 0; i < plan->source_count; i++) {
        const struct fc_swarm_source *other = &plan->sources[i];
        if (i != source && other->state == FC_SWARM_STATE_UP && fc_swarm_has(plan, other, segment)) {
            return true;
        }
    }
    return false;
}

bool
fc_swarm_plan_checked(struct fc_swarm_plan *plan, uint64_t id, bool is_good, uint64_t now_us)
{
    struct fc_swarm_request *request = find_request(plan, id);

    if (request == NULL) {
        return true;
    }
    unsigned number = request->source;
    struct fc_swarm_source *source = &plan->sources[number];
    uint64_t segment = request->segment;
    if (is_good) {
        source->segments++;
        source->bytes += request->size;
        fc_swarm_end_request(plan, request, true, now_us);
        plan->free_segments--;
        set_there(plan, segment);
        return true;
    }
    source->corrupt++;
    source->strikes++;
    fc_swarm_end_request(plan, request, true, now_us);
    unsigned times = note_bad(source, segment);
    if (source->kind == FC_SWARM_KIND_PEER ||
        (source->kind == FC_SWARM_KIND_MIRROR && source->strikes >= FC_SWARM_STRIKES_SERVER)) {
        fc_swarm_leave_up(plan, number, FC_SWARM_STATE_BANNED, now_us);
    }
    return source->kind != FC_SWARM_KIND_ORIGIN || times < FC_SWARM_TRIES_ORIGIN || has_other(plan, number, segment);
}

void
fc_swarm_plan_failed(struct fc_swarm_plan *plan, uint64_t id, enum fc_swarm_failure failure, uint64_t now_us)
{
    struct fc_swarm_request *request = find_request(plan, id);

    if (request == NULL || request->has_arrived) {
        return;
    }
    unsigned number = request->source;
    struct fc_swarm_source *source = &plan->sources[number];
    uint64_t segment = request->segment;
    source->retries++;
    fc_swarm_end_request(plan, request, true, now_us);
    switch (failure) {
    case FC_SWARM_LOST:
        fc_swarm_leave_up(plan, number, FC_SWARM_STATE_DOWN, now_us);
        break;
    case FC_SWARM_STOPPED:
        fc_swarm_leave_up(plan, number, FC_SWARM_STATE_STOPPED, now_us);
        break;
    case FC_SWARM_LATE:
        fc_swarm_leave_up(plan, number, FC_SWARM_STATE_STALLED, now_us);
        break;
    case FC_SWARM_BUSY:
        source->pause_us = now_us + with_jitter(plan, BUSY_PAUSE_US);
        source->is_starting = true;
        source->window = plan->options.segment_bytes;
        break;
    case FC_SWARM_LACKS:
        if (fc_swarm_plan_change(plan, number, segment, 1, true) != ERR_OK) {
            fc_swarm_leave_up(plan, number, FC_SWARM_STATE_DOWN, now_us);
        }
        break;
    case FC_SWARM_RETRY:
        break;
    }
}

void
fc_swarm_plan_written(struct fc_swarm_plan *plan, uint64_t segments)
{
    plan->base = segments;
}

// ---- What there is to know ----

void
fc_swarm_plan_totals(const struct fc_swarm_plan *plan, struct fc_swarm_plan_totals *out)
{
    *out = (struct fc_swarm_plan_totals){
        .segments_there = plan->there_segments,
        .segments_in_flight = plan->segment_count - plan->there_segments - plan->free_segments,
        .bytes_there = plan->there_bytes,
        .duplicates = plan->duplicates,
        .stolen = plan->stolen,
        .is_nobody_up = true,
        .is_nobody_left = plan->source_count != 0,
    };
    for (unsigned i = 0; i < plan->source_count; i++) {
        enum fc_swarm_state state = plan->sources[i].state;
        out->is_nobody_up = out->is_nobody_up && state != FC_SWARM_STATE_UP;
        out->is_nobody_left = out->is_nobody_left && state == FC_SWARM_STATE_BANNED;
    }
}

unsigned
fc_swarm_plan_source_count(const struct fc_swarm_plan *plan)
{
    return plan->source_count;
}

void
fc_swarm_plan_progress(const struct fc_swarm_plan *plan, unsigned source, struct fc_source_progress *out)
{
    const struct fc_swarm_source *s = &plan->sources[source];

    out->kind = s->kind;
    out->state = s->state;
    out->segments = s->segments;
    out->bytes = s->bytes;
    out->in_flight_segments = s->owed_requests;
    out->retries = s->retries;
    out->corrupt_segments = s->corrupt;
}

bool
fc_swarm_plan_is_obtainable(const struct fc_swarm_plan *plan, uint64_t segment)
{
    for (unsigned i = 0; i < plan->source_count; i++) {
        if (plan->sources[i].state != FC_SWARM_STATE_BANNED && fc_swarm_has(plan, &plan->sources[i], segment)) {
            return true;
        }
    }
    return false;
}

bool
fc_swarm_plan_is_there(const struct fc_swarm_plan *plan, uint64_t segment)
{
    return plan->states[segment] == FC_SWARM_THERE;
}

bool
fc_swarm_plan_is_sound(const struct fc_swarm_plan *plan)
{
    uint64_t counts[FC_SWARM_THERE + 1] = {0};
    unsigned requests = 0;
    unsigned seconds = 0;
    uint64_t busy_bytes = 0;

    for (uint64_t i = 0; i < plan->segment_count; i++) {
        counts[plan->states[i]]++;
    }
    for (unsigned i = 0; i < FC_SWARM_REQUESTS_MAX; i++) {
        const struct fc_swarm_request *request = &plan->requests[i];
        if (request->id == 0) {
            continue;
        }
        unsigned others = 0;
        for (unsigned j = 0; j < FC_SWARM_REQUESTS_MAX; j++) {
            others += j != i && plan->requests[j].id != 0 && plan->requests[j].segment == request->segment;
        }
        uint8_t state = plan->states[request->segment];
        if (i >= plan->requests_end || others > 1 || (state != FC_SWARM_ASKED && state != FC_SWARM_ARRIVED) ||
            (state == FC_SWARM_ASKED && request->has_arrived) || (request->is_duplicate && others == 0)) {
            return false;
        }
        seconds += others;
        requests++;
        busy_bytes += request->size;
    }
    return counts[FC_SWARM_FREE] == plan->free_segments && counts[FC_SWARM_THERE] == plan->there_segments &&
           requests == plan->request_count && busy_bytes == plan->busy_bytes &&
           counts[FC_SWARM_ASKED] + counts[FC_SWARM_ARRIVED] == requests - seconds / 2;
}
