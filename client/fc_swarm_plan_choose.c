// What a plan does next: who is asked for which segment, whose work another takes over, and who is probed.
#include <string.h>

#include "client/fc_swarm_plan_core_priv.h"

enum {
    SILENT_US = 2 * FC_SWARM_US_PER_S, // and four round trips: a source that owes and sends nothing is out
    RANDOM_FIRST = 4,                  // segments of a download, so that not all who begin at once want the same ones
    WINDOW_US = FC_SWARM_US_PER_S / 2, // what is on its way from a source lasts so long at least
    PROBE_ALL_US = FC_SWARM_US_PER_S,  // between probes of a source while nobody is up
    DUPLICATE_SHARE = 100,             // of the file: what may be asked for twice
    DUPLICATE_LEAST_BYTES = 4 * 1024 * 1024,
    BEGUN_US = 50 * 1000, // what a source will send so soon may be under way already
};

#define NEVER_US 1e18

// ---- Looking after sources ----

static void
find_silent(struct fc_swarm_plan *plan, uint64_t now_us)
{
    for (unsigned i = 0; i < plan->source_count; i++) {
        const struct fc_swarm_source *source = &plan->sources[i];
        bool may_owe = source->state == FC_SWARM_STATE_UP || source->state == FC_SWARM_STATE_DRAINING;
        if (may_owe && source->owed_requests != 0 && now_us > source->last_byte_us + SILENT_US + 4 * source->srtt_us) {
            fc_swarm_leave_up(plan, i, FC_SWARM_STATE_STALLED, now_us);
        }
    }
}

static bool
is_nobody_up(const struct fc_swarm_plan *plan)
{
    for (unsigned i = 0; i < plan->source_count; i++) {
        if (plan->sources[i].state == FC_SWARM_STATE_UP) {
            return false;
        }
    }
    return true;
}

static bool
choose_probe(struct fc_swarm_plan *plan, uint64_t now_us, struct fc_swarm_order *out)
{
    bool is_urgent = is_nobody_up(plan);

    for (unsigned i = 0; i < plan->source_count; i++) {
        struct fc_swarm_source *source = &plan->sources[i];
        if (source->state == FC_SWARM_STATE_UP || source->state == FC_SWARM_STATE_BANNED || source->is_probing) {
            continue;
        }
        uint64_t due_us = source->probe_us;
        if (is_urgent && due_us > source->urgent_us) {
            due_us = source->urgent_us;
        }
        if (now_us >= due_us) {
            source->is_probing = true;
            source->urgent_us = now_us + PROBE_ALL_US + fc_swarm_random(plan, PROBE_ALL_US / 4);
            *out = (struct fc_swarm_order){.act = FC_SWARM_PROBE, .source = i};
            return true;
        }
    }
    return false;
}

// ---- How long it takes ----

// silent_us is how long a source that owes has sent nothing; it is late by as much.
static double
silent_us(const struct fc_swarm_source *source, uint64_t now_us)
{
    return source->owed_requests != 0 && now_us > source->last_byte_us ? (double)(now_us - source->last_byte_us) : 0;
}

// finish_us is when a source is expected to bring so many bytes more than it owes.
static double
finish_us(const struct fc_swarm_source *source, uint64_t size, uint64_t now_us)
{
    double rate = fc_swarm_rate(source);
    uint64_t owed = source->owed_bytes > source->partial_bytes ? source->owed_bytes - source->partial_bytes : 0;

    return rate > 0 ? (double)source->srtt_us + (double)(owed + size) / rate + silent_us(source, now_us) : NEVER_US;
}

static uint64_t
window_of(const struct fc_swarm_plan *plan, const struct fc_swarm_source *source)
{
    uint64_t least = (uint64_t)FC_SWARM_WINDOW_LEAST_SEGMENTS * plan->options.segment_bytes;

    if (source->is_starting) {
        return source->window;
    }
    uint64_t time_us = 2 * source->srtt_us > WINDOW_US ? 2 * source->srtt_us : WINDOW_US;
    double window = fc_swarm_rate(source) * (double)time_us;
    if (window > FC_SWARM_WINDOW_MOST_BYTES) {
        window = FC_SWARM_WINDOW_MOST_BYTES;
    }
    return window > (double)least ? (uint64_t)window : least;
}

static bool
has_room(const struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t now_us)
{
    return source->state == FC_SWARM_STATE_UP && now_us >= source->pause_us &&
           source->owed_bytes + plan->options.segment_bytes <= window_of(plan, source);
}

// end_of_wanted is the segment before which those that may be asked for end.
static uint64_t
end_of_wanted(const struct fc_swarm_plan *plan)
{
    uint64_t end = plan->base + plan->options.look_ahead_segments;
    return plan->options.is_in_order && end < plan->segment_count ? end : plan->segment_count;
}

static uint64_t
free_bytes(const struct fc_swarm_plan *plan)
{
    uint64_t count = plan->free_segments;

    if (plan->options.is_in_order) {
        count = 0;
        for (uint64_t i = plan->base; i < end_of_wanted(plan); i++) {
            count += plan->states[i] == FC_SWARM_FREE;
        }
    }
    return count * plan->options.segment_bytes;
}

// is_worth tells whether a source would bring a segment before the others, who have it too, have brought all; or before
// any of them would bring just this one.
static bool
is_worth(const struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t segment, uint64_t now_us)
{
    uint32_t size = fc_swarm_segment_size(plan, segment);
    double rate = 0;
    double left = (double)free_bytes(plan);
    double soonest_us = NEVER_US;

    if (fc_swarm_rate(source) == 0) {
        return true; // who knows
    }
    for (unsigned i = 0; i < plan->source_count; i++) {
        const struct fc_swarm_source *other = &plan->sources[i];
        if (other != source && other->state == FC_SWARM_STATE_UP && fc_swarm_rate(other) > 0 &&
            fc_swarm_has(plan, other, segment)) {
            rate += fc_swarm_rate(other);
            left += (double)other->owed_bytes;
            double us = finish_us(other, size, now_us);
            soonest_us = us < soonest_us ? us : soonest_us;
        }
    }
    double ours_us = finish_us(source, size, now_us);
    return ours_us <= soonest_us || ours_us <= left / rate;
}

// ---- Which segment ----

static bool
is_takable(const struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t segment)
{
    return plan->states[segment] == FC_SWARM_FREE && fc_swarm_may_serve(plan, source, segment);
}

// find_rarest takes one of those that the fewest peers have, at the very beginning any: the first after a random place.
static bool
find_rarest(struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t *out)
{
    bool is_any = plan->there_segments < RANDOM_FIRST;
    uint64_t begin = plan->first_open;
    uint64_t start = begin + fc_swarm_random(plan, plan->segment_count - begin);
    unsigned best = UINT16_MAX + 1;

    for (uint64_t i = start; i < plan->segment_count + start - begin && best != 0; i++) {
        uint64_t segment = i < plan->segment_count ? i : i - plan->segment_count + begin;
        unsigned copies = is_any ? 0 : plan->copies[segment];
        if (copies < best && is_takable(plan, source, segment)) {
            best = copies;
            *out = segment;
        }
    }
    return best <= UINT16_MAX;
}

// find_run goes on where the source has ended, or in the longest gap: in its middle when somebody comes from its left.
static bool
find_run(struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t *out)
{
    uint64_t longest = 0;

    if (source->cursor < plan->segment_count && source->owed_requests + source->segments != 0 &&
        is_takable(plan, source, source->cursor)) {
        *out = source->cursor;
        return true;
    }
    for (uint64_t i = plan->first_open; i < plan->segment_count; i++) {
        uint64_t begin = i;
        while (i < plan->segment_count && is_takable(plan, source, i)) {
            i++;
        }
        if (i - begin > longest) {
            bool is_coming = begin > 0 && plan->states[begin - 1] == FC_SWARM_ASKED;
            longest = i - begin;
            *out = is_coming ? begin + longest / 2 : begin;
        }
    }
    if (longest == plan->segment_count) {
        *out = fc_swarm_random(plan, longest);
    }
    return longest != 0;
}

static bool
find_first(const struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t *out)
{
    for (uint64_t i = plan->base; i < end_of_wanted(plan); i++) {
        if (is_takable(plan, source, i)) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool
find_segment(struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t *out)
{
    if (plan->free_segments == 0) {
        return false;
    }
    if (plan->options.is_in_order) {
        return find_first(plan, source, out);
    }
    while (plan->first_open < plan->segment_count && plan->states[plan->first_open] != FC_SWARM_FREE) {
        plan->first_open++;
    }
    return plan->peers_up != 0 ? find_rarest(plan, source, out) : find_run(plan, source, out);
}

// ---- Asking ----

static void
ask(struct fc_swarm_plan *plan, unsigned number, uint64_t segment, bool is_duplicate, uint64_t now_us,
    struct fc_swarm_order *out)
{
    struct fc_swarm_source *source = &plan->sources[number];
    unsigned at = 0;

    while (plan->requests[at].id != 0) {
        at++;
    }
    struct fc_swarm_request *request = &plan->requests[at];
    *request = (struct fc_swarm_request){
        .id = plan->next_id++,
        .source = number,
        .segment = segment,
        .size = fc_swarm_segment_size(plan, segment),
        .asked_us = now_us,
        .is_duplicate = is_duplicate,
    };
    plan->request_count++;
    if (at >= plan->requests_end) {
        plan->requests_end = at + 1;
    }
    if (source->owed_requests == 0) {
        source->last_byte_us = now_us;
        source->heard_us = now_us;
    }
    source->owed_requests++;
    source->owed_bytes += request->size;
    source->cursor = segment + 1;
    plan->busy_bytes += request->size;
    if (!is_duplicate) {
        plan->states[segment] = FC_SWARM_ASKED;
        plan->free_segments--;
    }
    *out = (struct fc_swarm_order){
        .act = FC_SWARM_ASK,
        .request = request->id,
        .source = number,
        .segment = segment,
        .size_bytes = request->size,
    };
}

static bool
has_budget(const struct fc_swarm_plan *plan)
{
    return plan->request_count < plan->options.requests_max &&
           (plan->request_count == 0 ||
               plan->busy_bytes + plan->options.segment_bytes <= plan->options.in_flight_max_bytes);
}

// ask_soonest gives a segment to the source that is expected to bring one first.
static bool
ask_soonest(struct fc_swarm_plan *plan, uint64_t now_us, struct fc_swarm_order *out)
{
    bool is_out[FC_SWARM_SOURCES_MAX] = {false};

    for (;;) {
        unsigned best = FC_SWARM_SOURCES_MAX;
        double best_us = 0;
        for (unsigned i = 0; i < plan->source_count; i++) {
            const struct fc_swarm_source *source = &plan->sources[i];
            if (is_out[i] || !has_room(plan, source, now_us)) {
                continue;
            }
            // Who has not shown anything yet comes first, to find out.
            double us = fc_swarm_rate(source) == 0 ? (double)source->owed_requests
                                                   : finish_us(source, plan->options.segment_bytes, now_us);
            if (best == FC_SWARM_SOURCES_MAX || us < best_us) {
                best = i;
                best_us = us;
            }
        }
        uint64_t segment = 0;
        if (best == FC_SWARM_SOURCES_MAX) {
            return false;
        }
        if (find_segment(plan, &plan->sources[best], &segment) &&
            is_worth(plan, &plan->sources[best], segment, now_us)) {
            ask(plan, best, segment, false, now_us, out);
            return true;
        }
        is_out[best] = true;
    }
}

// ---- Other ways to balance ----

static bool
is_candidate(struct fc_swarm_plan *plan, unsigned number, uint64_t now_us, uint64_t *segment_out)
{
    const struct fc_swarm_source *source = &plan->sources[number];
    return source->state == FC_SWARM_STATE_UP && now_us >= source->pause_us && find_segment(plan, source, segment_out);
}

static unsigned
choose_lighter(const struct fc_swarm_plan *plan, unsigned a, unsigned b)
{
    return plan->sources[b].owed_bytes < plan->sources[a].owed_bytes ? b : a;
}

static unsigned
choose_least_cpu(struct fc_swarm_plan *plan, const unsigned *candidates, unsigned count)
{
    unsigned best = candidates[fc_swarm_random(plan, count)];

    for (unsigned i = 0; i < count; i++) {
        best = plan->sources[candidates[i]].cpu_permille < plan->sources[best].cpu_permille ? candidates[i] : best;
    }
    return best;
}

static unsigned
choose_next_turn(struct fc_swarm_plan *plan, const unsigned *candidates, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (candidates[i] >= plan->turn) {
            plan->turn = candidates[i] + 1;
            return candidates[i];
        }
    }
    plan->turn = candidates[0] + 1;
    return candidates[0];
}

// choose_by_strategy is one of the candidates, or FC_SWARM_SOURCES_MAX: the tracker has not said yet.
static unsigned
choose_by_strategy(struct fc_swarm_plan *plan, const unsigned *candidates, unsigned count)
{
    switch (plan->options.balance) {
    case FC_BALANCE_RANDOM:
        return candidates[fc_swarm_random(plan, count)];
    case FC_BALANCE_LEAST_CPU:
        return choose_least_cpu(plan, candidates, count);
    case FC_BALANCE_TWO_CHOICES:
        return choose_lighter(plan, candidates[fc_swarm_random(plan, count)], candidates[fc_swarm_random(plan, count)]);
    case FC_BALANCE_MEDIATOR:
        while (plan->pick_count != 0) {
            unsigned pick = plan->picks[0];
            plan->pick_count--;
            memmove(plan->picks, plan->picks + 1, plan->pick_count * sizeof(plan->picks[0]));
            for (unsigned i = 0; i < count; i++) {
                if (candidates[i] == pick) {
                    return pick;
                }
            }
        }
        return FC_SWARM_SOURCES_MAX;
    case FC_BALANCE_ADAPTIVE:
    case FC_BALANCE_ROUND_ROBIN:
    default:
        return choose_next_turn(plan, candidates, count);
    }
}

// ask_by_strategy keeps two segments for each source under way in all, wherever they are.
static bool
ask_by_strategy(struct fc_swarm_plan *plan, uint64_t now_us, struct fc_swarm_order *out)
{
    unsigned candidates[FC_SWARM_SOURCES_MAX];
    uint64_t segments[FC_SWARM_SOURCES_MAX];
    unsigned count = 0;
    unsigned owed = 0;

    for (unsigned i = 0; i < plan->source_count; i++) {
        owed += plan->sources[i].owed_requests;
        if (is_candidate(plan, i, now_us, &segments[i])) {
            candidates[count++] = i;
        }
    }
    if (count == 0 || owed >= count * FC_SWARM_WINDOW_LEAST_SEGMENTS) {
        return false;
    }
    unsigned chosen = choose_by_strategy(plan, candidates, count);
    if (chosen == FC_SWARM_SOURCES_MAX) {
        return false;
    }
    ask(plan, chosen, segments[chosen], false, now_us, out);
    return true;
}

// ---- Taking over ----

// What is expected of a request.
struct outlook {
    double answer_us;
    bool is_begun; // what comes of it may be under way
    bool is_alone; // nobody else was asked for its segment
};

static void
look_at(const struct fc_swarm_plan *plan, const struct fc_swarm_request *request, uint64_t now_us, struct outlook *out)
{
    const struct fc_swarm_source *source = &plan->sources[request->source];
    double rate = fc_swarm_rate(source);
    uint64_t before = 0;

    out->is_alone = true;
    for (unsigned i = 0; i < plan->requests_end; i++) {
        const struct fc_swarm_request *other = &plan->requests[i];
        if (other->id != 0 && other->source == request->source && !other->has_arrived && other->id < request->id) {
            before += other->size;
        }
        out->is_alone = out->is_alone && (other->id == 0 || other == request || other->segment != request->segment);
    }
    if (rate == 0) {
        // It has not sent anything yet: the longer that lasts, the longer it will.
        out->is_begun = before == 0;
        out->answer_us = 2 * (double)(now_us - request->asked_us) * (double)(before / request->size + 1);
        return;
    }
    out->is_begun = (double)before < rate * (double)(source->srtt_us + BEGUN_US) + (double)source->partial_bytes;
    double left = (double)(before + request->size) - (double)source->partial_bytes;
    out->answer_us = (left > 0 ? left / rate : 0) + silent_us(source, now_us);
}

// is_over tells that nothing is free that this source could bring.
static bool
is_over(struct fc_swarm_plan *plan, const struct fc_swarm_source *source)
{
    uint64_t segment = 0;
    return !find_segment(plan, source, &segment);
}

// cost_of is what will probably be wasted when a second source is asked too and takes so long: what the first will have
// sent by then.
static uint64_t
cost_of(const struct fc_swarm_plan *plan, const struct fc_swarm_request *request, double takes_us)
{
    const struct fc_swarm_source *source = &plan->sources[request->source];
    double cost = (double)source->partial_bytes + fc_swarm_rate(source) * takes_us;

    return cost < (double)request->size ? (uint64_t)cost : request->size;
}

static bool
may_waste(const struct fc_swarm_plan *plan, uint64_t bytes)
{
    uint64_t most = plan->options.size_bytes / DUPLICATE_SHARE;

    if (most < DUPLICATE_LEAST_BYTES) {
        most = DUPLICATE_LEAST_BYTES;
    }
    return plan->duplicate_bytes + bytes <= most;
}

// What a source that has nothing else to do takes from another.
struct theft {
    struct fc_swarm_request *request; // NULL: nothing
    unsigned thief;
    double takes_us;
    struct outlook outlook;
};

// find_thief is the source that would bring a segment first, besides the one that was asked for it. Also one that has
// no room now: it will have soon, and until then nobody slower is to take it.
static bool
find_thief(const struct fc_swarm_plan *plan, const struct fc_swarm_request *request, uint64_t now_us, struct theft *out)
{
    out->takes_us = NEVER_US;
    for (unsigned i = 0; i < plan->source_count; i++) {
        const struct fc_swarm_source *source = &plan->sources[i];
        double us = finish_us(source, request->size, now_us);
        if (i != request->source && source->state == FC_SWARM_STATE_UP && us < out->takes_us &&
            fc_swarm_may_serve(plan, source, request->segment)) {
            out->thief = i;
            out->takes_us = us;
        }
    }
    return out->takes_us < NEVER_US;
}

static bool
is_better(const struct fc_swarm_plan *plan, const struct theft *theft)
{
    double srtt_us = (double)plan->sources[theft->thief].srtt_us;

    if (!theft->outlook.is_begun) {
        return theft->takes_us + srtt_us < 0.8 * theft->outlook.answer_us;
    }
    return theft->outlook.answer_us > 2 * theft->takes_us + srtt_us &&
           may_waste(plan, cost_of(plan, theft->request, theft->takes_us));
}

static void
find_theft(struct fc_swarm_plan *plan, uint64_t now_us, struct theft *out)
{
    memset(out, 0, sizeof(*out));
    for (unsigned i = 0; i < plan->requests_end; i++) {
        struct theft theft = {.request = &plan->requests[i]};
        if (theft.request->id == 0 || theft.request->has_arrived || !find_thief(plan, theft.request, now_us, &theft) ||
            !has_room(plan, &plan->sources[theft.thief], now_us) || !is_over(plan, &plan->sources[theft.thief])) {
            continue;
        }
        look_at(plan, theft.request, now_us, &theft.outlook);
        // In order the first is the most urgent, else the one that comes last.
        bool is_next =
            out->request == NULL || (plan->options.is_in_order ? theft.request->segment < out->request->segment
                                                               : theft.outlook.answer_us > out->outlook.answer_us);
        if (theft.outlook.is_alone && is_next && is_better(plan, &theft)) {
            *out = theft;
        }
    }
}

static bool
take_cancel(struct fc_swarm_plan *plan, struct fc_swarm_order *out)
{
    if (plan->cancel_count == 0) {
        return false;
    }
    *out = (struct fc_swarm_order){.act = FC_SWARM_CANCEL, .request = plan->cancels[--plan->cancel_count]};
    return true;
}

// take_over has an idle source bring what another owes: instead of it, or, when that has probably begun, as well.
static bool
take_over(struct fc_swarm_plan *plan, uint64_t now_us, struct fc_swarm_order *out)
{
    struct theft theft;

    find_theft(plan, now_us, &theft);
    if (theft.request == NULL) {
        return false;
    }
    uint64_t segment = theft.request->segment;
    if (theft.outlook.is_begun) {
        plan->duplicate_bytes += cost_of(plan, theft.request, theft.takes_us);
        plan->duplicates++;
        ask(plan, theft.thief, segment, true, now_us, out);
        return true;
    }
    plan->sources[theft.request->source].retries++;
    plan->stolen++;
    plan->heir = theft.thief;
    plan->inherited = segment;
    plan->has_heir = true;
    fc_swarm_end_request(plan, theft.request, false, now_us);
    return take_cancel(plan, out);
}

// ask_heir goes on with what was taken from another, whose request is cancelled by now.
static bool
ask_heir(struct fc_swarm_plan *plan, uint64_t now_us, struct fc_swarm_order *out)
{
    bool is_asked = plan->has_heir && has_room(plan, &plan->sources[plan->heir], now_us) &&
                    is_takable(plan, &plan->sources[plan->heir], plan->inherited);

    plan->has_heir = false;
    if (is_asked) {
        ask(plan, plan->heir, plan->inherited, false, now_us, out);
    }
    return is_asked;
}

bool
fc_swarm_plan_next(struct fc_swarm_plan *plan, uint64_t now_us, bool may_ask, struct fc_swarm_order *out)
{
    find_silent(plan, now_us);
    if (take_cancel(plan, out)) {
        return true;
    }
    if (choose_probe(plan, now_us, out)) {
        return true;
    }
    if (!may_ask || !has_budget(plan) || plan->there_segments == plan->segment_count) {
        return false;
    }
    if (plan->options.balance != FC_BALANCE_ADAPTIVE) {
        return ask_by_strategy(plan, now_us, out);
    }
    return ask_heir(plan, now_us, out) || ask_soonest(plan, now_us, out) || take_over(plan, now_us, out);
}
