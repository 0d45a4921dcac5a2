// The plan of a download against simulated sources: each sends what it was asked for in order, at its own speed, some
// milliseconds away. Deterministic: a seed decides everything.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/fc_swarm_plan_priv.h"

enum {
    SEEDS = 100, // unless FC_SWARM_SEEDS says otherwise
    FAULTY_SEEDS = 50,
    SOURCES_MAX = 16,
    QUEUE_MAX = 512,
    US_PER_S = 1000 * 1000,
    TICK_US = 20 * 1000,
    MIB = 1024 * 1024,
    HEARD_US = 2 * US_PER_S, // of a probe that is not answered
    CHECKS_ALL_SEEDS = 50,   // of so many seeds one is looked at after each event
};

struct reply {
    uint64_t request;
    uint64_t segment;
    double size;
    double left;
    double begins_us; // not before
    bool is_unwanted;
};

struct source {
    enum fc_swarm_kind kind;
    double rate; // bytes/us
    uint64_t rtt_us;
    bool is_dead;
    bool is_hanging;
    unsigned bad_of_100; // so many segments are bad
    uint64_t dies_us;    // 0: never
    uint64_t returns_us;
    bool hangs_instead;
    uint64_t period_us; // dies and returns again and again
    struct reply queue[QUEUE_MAX];
    unsigned count;
    double received;
    uint64_t probed_us; // answered after rtt_us; 0: not asked
    unsigned probes;
    unsigned asked;
    double wasted;
};

struct sim {
    uint64_t random;
    struct fc_swarm_plan *plan;
    struct source sources[SOURCES_MAX];
    unsigned source_count;
    uint64_t size_bytes;
    uint32_t segment_bytes;
    uint64_t segment_count;
    uint8_t *asked_now; // of each segment how many requests are under way
    double now_us;
    double wasted;
    double duplicate_bytes;
    unsigned fetched_twice;
    bool is_in_order;
    uint64_t written;
    unsigned events;
    bool is_checked;
};

static uint64_t
draw(struct sim *sim, uint64_t below)
{
    sim->random = sim->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (sim->random >> 33) % below;
}

static uint64_t
now(const struct sim *sim)
{
    return (uint64_t)sim->now_us;
}

static void
check(struct sim *sim)
{
    sim->events++;
    if (sim->is_checked) {
        assert_true(fc_swarm_plan_is_sound(sim->plan));
    }
}

static void
hear(struct sim *sim, unsigned i)
{
    fc_swarm_plan_heard(sim->plan, i, (uint64_t)sim->sources[i].received, now(sim));
}

static void
remove_reply(struct source *source, unsigned at)
{
    memmove(&source->queue[at], &source->queue[at + 1], (source->count - at - 1) * sizeof(source->queue[0]));
    source->count--;
}

static void
deliver(struct sim *sim, unsigned i)
{
    struct source *source = &sim->sources[i];
    struct reply reply = source->queue[0];

    remove_reply(source, 0);
    hear(sim, i);
    bool is_wanted = fc_swarm_plan_arrived(sim->plan, reply.request, now(sim));
    assert_int_equal(is_wanted, !reply.is_unwanted);
    check(sim);
    if (!is_wanted) {
        sim->wasted += reply.size;
        return;
    }
    assert_false(fc_swarm_plan_is_there(sim->plan, reply.segment));
    sim->asked_now[reply.segment]--;
    bool is_good = draw(sim, 100) >= source->bad_of_100;
    sim->wasted += is_good ? 0 : reply.size;
    assert_true(fc_swarm_plan_checked(sim->plan, reply.request, is_good, now(sim)));
    check(sim);
}

static void
die(struct sim *sim, unsigned i)
{
    struct source *source = &sim->sources[i];

    if (source->hangs_instead) {
        source->is_hanging = true;
        return;
    }
    source->is_dead = true;
    while (source->count != 0) {
        struct reply reply = source->queue[0];
        sim->wasted += reply.size - reply.left;
        remove_reply(source, 0);
        if (!reply.is_unwanted) {
            // Whoever learns first of the death gives all back; so the others have ended by then.
            fc_swarm_plan_failed(sim->plan, reply.request, FC_SWARM_LOST, now(sim));
            sim->asked_now[reply.segment]--;
        }
        check(sim);
    }
}

static void
answer_probes(struct sim *sim)
{
    for (unsigned i = 0; i < sim->source_count; i++) {
        struct source *source = &sim->sources[i];
        if (source->probed_us == 0 ||
            now(sim) < source->probed_us + (source->is_hanging ? (uint64_t)HEARD_US : source->rtt_us)) {
            continue;
        }
        if (source->is_dead || source->is_hanging) {
            fc_swarm_plan_probe_failed(sim->plan, i, FC_SWARM_STATE_DOWN, now(sim));
        } else {
            fc_swarm_plan_up(sim->plan, i, now(sim), source->rtt_us);
        }
        source->probed_us = 0;
        check(sim);
    }
}

static void
ask(struct sim *sim, const struct fc_swarm_order *order)
{
    struct source *source = &sim->sources[order->source];
    struct fc_swarm_plan_totals totals;

    assert_false(fc_swarm_plan_is_there(sim->plan, order->segment));
    assert_true(order->segment < sim->segment_count);
    fc_swarm_plan_totals(sim->plan, &totals);
    if (sim->asked_now[order->segment] != 0) {
        // Only at the end, and not by a third.
        assert_int_equal(sim->asked_now[order->segment], 1);
        sim->duplicate_bytes += order->size_bytes;
        sim->fetched_twice++;
    }
    assert_int_equal(totals.duplicates, sim->fetched_twice);
    if (sim->is_in_order) {
        assert_true(order->segment >= sim->written && order->segment < sim->written + 16);
    }
    sim->asked_now[order->segment]++;
    source->asked++;
    if (source->is_dead) {
        fc_swarm_plan_failed(sim->plan, order->request, FC_SWARM_LOST, now(sim));
        sim->asked_now[order->segment]--;
        return;
    }
    assert_true(source->count < QUEUE_MAX);
    source->queue[source->count++] = (struct reply){
        .request = order->request,
        .segment = order->segment,
        .size = order->size_bytes,
        .left = order->size_bytes,
        .begins_us = sim->now_us + (double)source->rtt_us,
    };
}

static void
cancel(struct sim *sim, uint64_t request)
{
    for (unsigned i = 0; i < sim->source_count; i++) {
        struct source *source = &sim->sources[i];
        for (unsigned j = 0; j < source->count; j++) {
            struct reply *reply = &source->queue[j];
            if (reply->request == request) {
                sim->asked_now[reply->segment]--;
                if (j == 0 && reply->begins_us <= sim->now_us + (double)source->rtt_us / 2) {
                    reply->is_unwanted = true; // it is on its way
                } else {
                    remove_reply(source, j);
                }
                return;
            }
        }
    }
    // The source is dead, and nothing is left of it: its requests were taken from the queue already.
}

static void
obey(struct sim *sim)
{
    struct fc_swarm_order order;

    while (fc_swarm_plan_next(sim->plan, now(sim), true, &order)) {
        check(sim);
        switch (order.act) {
        case FC_SWARM_ASK:
            ask(sim, &order);
            break;
        case FC_SWARM_CANCEL:
            cancel(sim, order.request);
            break;
        case FC_SWARM_PROBE:
            sim->sources[order.source].probed_us = now(sim) + 1;
            sim->sources[order.source].probes++;
            break;
        default:
            fail();
        }
    }
}

// next_event is when something happens next, within a tick.
static double
next_event(const struct sim *sim)
{
    double next = sim->now_us + TICK_US;

    for (unsigned i = 0; i < sim->source_count; i++) {
        const struct source *source = &sim->sources[i];
        double own = next;
        if (!source->is_hanging && source->count != 0) {
            double begin = source->queue[0].begins_us > sim->now_us ? source->queue[0].begins_us : sim->now_us;
            own = begin + source->queue[0].left / source->rate;
        }
        if (source->dies_us != 0 && !source->is_dead && !source->is_hanging && (double)source->dies_us < own) {
            own = (double)source->dies_us;
        }
        next = own < next ? own : next;
    }
    return next > sim->now_us ? next : sim->now_us + 1;
}

static void
come_and_go(struct sim *sim, unsigned i)
{
    struct source *source = &sim->sources[i];

    if (!source->is_dead && !source->is_hanging && source->dies_us != 0 && now(sim) >= source->dies_us) {
        source->dies_us = 0;
        die(sim, i);
    }
    if ((source->is_dead || source->is_hanging) && source->returns_us != 0 && now(sim) >= source->returns_us) {
        if (source->period_us != 0) {
            source->dies_us = source->returns_us + source->period_us;
        }
        source->returns_us = source->period_us != 0 ? source->dies_us + source->period_us : 0;
        source->is_dead = false;
        source->is_hanging = false;
    }
}

static void
step(struct sim *sim)
{
    double until = next_event(sim);

    for (unsigned i = 0; i < sim->source_count; i++) {
        struct source *source = &sim->sources[i];
        if (source->is_hanging || source->count == 0 || source->queue[0].begins_us >= until) {
            continue;
        }
        double begin = source->queue[0].begins_us > sim->now_us ? source->queue[0].begins_us : sim->now_us;
        double bytes = (until - begin) * source->rate;
        bytes = bytes < source->queue[0].left ? bytes : source->queue[0].left;
        source->queue[0].left -= bytes;
        source->received += bytes;
    }
    sim->now_us = until;
    for (unsigned i = 0; i < sim->source_count; i++) {
        struct source *source = &sim->sources[i];
        come_and_go(sim, i);
        if (!source->is_hanging && source->count != 0 && source->queue[0].left < 0.5) {
            source->received += source->queue[0].left;
            deliver(sim, i);
        }
        hear(sim, i);
    }
    answer_probes(sim);
    if (sim->is_in_order) {
        while (sim->written < sim->segment_count && fc_swarm_plan_is_there(sim->plan, sim->written)) {
            sim->written++;
        }
        fc_swarm_plan_written(sim->plan, sim->written);
    }
    obey(sim);
}

static bool
is_done(const struct sim *sim)
{
    struct fc_swarm_plan_totals totals;
    fc_swarm_plan_totals(sim->plan, &totals);
    return totals.segments_there == sim->segment_count;
}

static void
open_plan(struct sim *sim, enum fc_balance balance)
{
    const struct fc_swarm_plan_options options = {
        .size_bytes = sim->size_bytes,
        .segment_bytes = sim->segment_bytes,
        .balance = balance,
        .is_in_order = sim->is_in_order,
        .look_ahead_segments = 16,
        .in_flight_max_bytes = 256 * (uint64_t)MIB,
        .seed = sim->random,
    };
    sim->segment_count = (sim->size_bytes + sim->segment_bytes - 1) / sim->segment_bytes;
    sim->asked_now = calloc(sim->segment_count, 1);
    assert_non_null(sim->asked_now);
    assert_int_equal(fc_swarm_plan_new(&options, &sim->plan), ERR_OK);
    for (unsigned i = 0; i < sim->source_count; i++) {
        unsigned number = 0;
        assert_int_equal(fc_swarm_plan_add(sim->plan, sim->sources[i].kind, 0, &number), ERR_OK);
        assert_int_equal(number, i);
        assert_int_equal(fc_swarm_plan_holding(sim->plan, i, true, bytes_view_of(NULL, 0)), ERR_OK);
        if (!sim->sources[i].is_dead) {
            fc_swarm_plan_up(sim->plan, i, 0, sim->sources[i].rtt_us);
        }
    }
}

static void
run(struct sim *sim, double limit_us)
{
    obey(sim);
    while (!is_done(sim)) {
        step(sim);
        if (sim->now_us > limit_us) {
            struct fc_swarm_plan_totals totals;
            fc_swarm_plan_totals(sim->plan, &totals);
            fail_msg("%llu of %llu segments after %.1f s", (unsigned long long)totals.segments_there,
                (unsigned long long)sim->segment_count, sim->now_us / US_PER_S);
        }
    }
    assert_true(fc_swarm_plan_is_sound(sim->plan));
    struct fc_source_progress progress;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < sim->source_count; i++) {
        for (unsigned j = 0; j < sim->sources[i].count; j++) {
            sim->wasted += sim->sources[i].queue[j].size - sim->sources[i].queue[j].left;
        }
        fc_swarm_plan_progress(sim->plan, i, &progress);
        bytes += progress.bytes;
    }
    assert_int_equal(bytes, sim->size_bytes);
}

static void
close_plan(struct sim *sim)
{
    fc_swarm_plan_free(&sim->plan);
    free(sim->asked_now);
    free(sim);
}

// decade is one of 1,000 values between 1 and 1,000, each tenth of which is as likely.
static double
decade(struct sim *sim)
{
    double value = 1 + (double)draw(sim, 900) / 100;
    for (uint64_t i = draw(sim, 3); i > 0; i--) {
        value *= 10;
    }
    return value;
}

static double
total_rate(const struct sim *sim)
{
    double rate = 0;
    for (unsigned i = 0; i < sim->source_count; i++) {
        rate += sim->sources[i].rate;
    }
    return rate;
}

static double
fastest_rate(const struct sim *sim)
{
    double rate = 0;
    for (unsigned i = 0; i < sim->source_count; i++) {
        rate = sim->sources[i].rate > rate ? sim->sources[i].rate : rate;
    }
    return rate;
}

// make_sources makes 2 to 16 of speeds over three decades, and a file that takes them 10 to 40 s together.
static struct sim *
make_sources(unsigned seed)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    assert_non_null(sim);
    sim->random = seed * 7919 + 1;
    sim->is_checked = seed % CHECKS_ALL_SEEDS == 0;
    for (unsigned i = 0; i < 8; i++) {
        (void)draw(sim, 2);
    }
    sim->source_count = 2 + (unsigned)draw(sim, SOURCES_MAX - 1);
    for (unsigned i = 0; i < sim->source_count; i++) {
        struct source *source = &sim->sources[i];
        source->kind = i == 0 ? FC_SWARM_KIND_ORIGIN : draw(sim, 2) == 0 ? FC_SWARM_KIND_MIRROR : FC_SWARM_KIND_PEER;
        source->rate = 0.1 * decade(sim);
        uint64_t rtt_max_us = (uint64_t)(2 * MIB / source->rate);
        source->rtt_us = 100 + draw(sim, rtt_max_us < 200000 ? rtt_max_us : 200000);
    }
    sim->size_bytes = (uint64_t)(total_rate(sim) * US_PER_S * (10 + (double)draw(sim, 30))) + draw(sim, 1000);
    sim->segment_bytes = 256 * 1024;
    while (sim->size_bytes / sim->segment_bytes > 1024 && sim->segment_bytes < 8 * MIB) {
        sim->segment_bytes *= 2;
    }
    return sim;
}

static uint64_t
longest_rtt(const struct sim *sim)
{
    uint64_t rtt_us = 0;
    for (unsigned i = 0; i < sim->source_count; i++) {
        rtt_us = sim->sources[i].rtt_us > rtt_us ? sim->sources[i].rtt_us : rtt_us;
    }
    return rtt_us;
}

// test_time runs a healthy download, which takes little longer than the sources need together.
static void
assert_in_time(struct sim *sim, unsigned seed, double *worst, double *worst_waste)
{
    double bound_us = (double)sim->size_bytes / total_rate(sim);
    run(sim, 20 * bound_us);
    double extra_us = 2 * (double)longest_rtt(sim) + sim->segment_bytes / fastest_rate(sim);
    double ratio = (sim->now_us - extra_us) / bound_us;
    double waste = sim->wasted / (double)sim->size_bytes;
    *worst = ratio > *worst ? ratio : *worst;
    *worst_waste = waste > *worst_waste ? waste : *worst_waste;
    if (ratio > 1.05 || waste > 0.01) {
        fail_msg("seed %u: %.3f times the bound, %.4f wasted", seed, ratio, waste);
    }
}

static void
test_sources_of_all_speeds_end_together(void **state)
{
    double worst = 0;
    double worst_waste = 0;
    (void)state;
    const char *asked = getenv("FC_SWARM_SEEDS");
    unsigned long seeds = asked != NULL ? strtoul(asked, NULL, 10) : SEEDS;
    for (unsigned seed = 0; seed < seeds; seed++) {
        struct sim *sim = make_sources(seed);
        open_plan(sim, FC_BALANCE_ADAPTIVE);
        assert_in_time(sim, seed, &worst, &worst_waste);
        close_plan(sim);
    }
    print_message("worst: %.3f times the bound, %.4f wasted\n", worst, worst_waste);
}

static void
test_deaths_returns_and_liars_end_right(void **state)
{
    unsigned liars_named = 0;
    (void)state;
    for (unsigned seed = 0; seed < FAULTY_SEEDS; seed++) {
        struct sim *sim = make_sources(seed);
        double bound_us = (double)sim->size_bytes / total_rate(sim);
        sim->sources[0].rate = fastest_rate(sim); // so that it ends this year when the others are gone
        for (unsigned i = 1; i < sim->source_count; i++) {
            struct source *source = &sim->sources[i];
            source->bad_of_100 = draw(sim, 4) == 0 ? 1 + (unsigned)draw(sim, 100) : 0;
            if (draw(sim, 2) == 0) {
                source->dies_us = 1 + draw(sim, (uint64_t)bound_us);
                source->hangs_instead = draw(sim, 2) == 0;
                source->returns_us = draw(sim, 3) == 0 ? 0 : source->dies_us + draw(sim, (uint64_t)bound_us);
                source->period_us = draw(sim, 3) == 0 ? 3 * US_PER_S : 0;
            }
        }
        open_plan(sim, FC_BALANCE_ADAPTIVE);
        run(sim, 100 * bound_us);
        for (unsigned i = 1; i < sim->source_count; i++) {
            struct fc_source_progress progress;
            fc_swarm_plan_progress(sim->plan, i, &progress);
            bool is_peer = progress.kind == FC_SWARM_KIND_PEER;
            assert_true(progress.corrupt_segments == 0 || sim->sources[i].bad_of_100 != 0);
            assert_int_equal(progress.state == FC_SWARM_STATE_BANNED, progress.corrupt_segments >= (is_peer ? 1 : 3));
            liars_named += progress.corrupt_segments != 0;
        }
        close_plan(sim);
    }
    assert_true(liars_named > FAULTY_SEEDS / 2);
}

// make_equal makes sources of 10 MB/s at 1 ms, and a file of 256 MiB.
static struct sim *
make_equal(unsigned count)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    assert_non_null(sim);
    sim->random = 1;
    sim->is_checked = true;
    sim->source_count = count;
    sim->size_bytes = 256 * MIB;
    sim->segment_bytes = 256 * 1024;
    for (unsigned i = 0; i < count; i++) {
        sim->sources[i] =
            (struct source){.kind = i == 0 ? FC_SWARM_KIND_ORIGIN : FC_SWARM_KIND_MIRROR, .rate = 10, .rtt_us = 1000};
    }
    return sim;
}

static void
step_until(struct sim *sim, double until_us)
{
    obey(sim);
    while (sim->now_us < until_us) {
        step(sim);
    }
}

static enum fc_swarm_state
state_of(const struct sim *sim, unsigned source)
{
    struct fc_source_progress progress;
    fc_swarm_plan_progress(sim->plan, source, &progress);
    return progress.state;
}

static void
test_a_source_that_hangs_is_taken_out_and_comes_back(void **state)
{
    struct sim *sim = make_equal(3);
    (void)state;
    sim->sources[2].hangs_instead = true;
    sim->sources[2].dies_us = 1 * US_PER_S;
    sim->sources[2].returns_us = 5 * US_PER_S;
    open_plan(sim, FC_BALANCE_ADAPTIVE);
    step_until(sim, 2.9 * US_PER_S);
    assert_int_equal(state_of(sim, 2), FC_SWARM_STATE_UP);
    step_until(sim, 3.1 * US_PER_S); // 2 s and 4 round trips after its last byte
    assert_int_equal(state_of(sim, 2), FC_SWARM_STATE_STALLED);
    unsigned asked = sim->sources[2].asked;
    step_until(sim, 4.9 * US_PER_S);
    assert_int_equal(sim->sources[2].asked, asked);
    step_until(sim, 8.5 * US_PER_S);
    assert_int_equal(state_of(sim, 2), FC_SWARM_STATE_UP);
    assert_true(sim->sources[2].asked > asked);
    run(sim, 60.0 * US_PER_S);
    close_plan(sim);
}

static void
test_when_all_are_dead_each_is_probed_once_a_second(void **state)
{
    struct sim *sim = make_equal(4);
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        sim->sources[i].dies_us = 1 * US_PER_S;
        sim->sources[i].returns_us = i == 2 ? 61 * US_PER_S : 0;
    }
    open_plan(sim, FC_BALANCE_ADAPTIVE);
    step_until(sim, 1.5 * US_PER_S);
    struct fc_swarm_plan_totals totals;
    fc_swarm_plan_totals(sim->plan, &totals);
    assert_true(totals.is_nobody_up);
    assert_false(totals.is_nobody_left);
    assert_int_equal(totals.segments_in_flight, 0);
    step_until(sim, 60.0 * US_PER_S);
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(sim->sources[i].probes, 45, 61);
    }
    step_until(sim, 62.5 * US_PER_S);
    assert_int_equal(state_of(sim, 2), FC_SWARM_STATE_UP);
    run(sim, 90.0 * US_PER_S);
    close_plan(sim);
}

static void
test_a_source_that_comes_and_goes_is_left_alone_for_longer(void **state)
{
    struct sim *sim = make_equal(2);
    (void)state;
    sim->size_bytes = 1024 * (uint64_t)MIB;
    sim->sources[1].dies_us = 1 * US_PER_S;
    sim->sources[1].returns_us = 2 * US_PER_S;
    sim->sources[1].period_us = 1 * US_PER_S; // up for a second, down for a second
    open_plan(sim, FC_BALANCE_ADAPTIVE);
    step_until(sim, 20.0 * US_PER_S);
    unsigned probes = sim->sources[1].probes;
    step_until(sim, 60.0 * US_PER_S);
    assert_true(sim->sources[1].probes - probes < 10);
    run(sim, 120.0 * US_PER_S);
    assert_int_equal(sim->fetched_twice, 0);
    close_plan(sim);
}

static void
test_a_slow_source_does_not_hold_up_the_others(void **state)
{
    double worst = 0;
    double worst_waste = 0;
    (void)state;
    for (unsigned count = 2; count <= 4; count++) {
        struct sim *sim = make_equal(count);
        sim->sources[1].rate = 0.02; // a segment takes it longer than the others all
        open_plan(sim, FC_BALANCE_ADAPTIVE);
        assert_in_time(sim, count, &worst, &worst_waste);
        close_plan(sim);
    }
}

static void
test_in_order_the_next_ones_come_first(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 50; seed++) {
        struct sim *sim = make_sources(seed);
        sim->is_in_order = true;
        sim->is_checked = true;
        open_plan(sim, FC_BALANCE_ADAPTIVE);
        // ask() checks that nobody is asked for what is too far ahead.
        run(sim, 1e12);
        close_plan(sim);
    }
}

static void
test_all_strategies_end(void **state)
{
    (void)state;
    for (int balance = FC_BALANCE_ADAPTIVE; balance < FC_BALANCE_COUNT; balance++) {
        struct sim *sim = make_equal(4);
        sim->sources[3].dies_us = 2 * US_PER_S;
        open_plan(sim, (enum fc_balance)balance);
        while (!is_done(sim)) {
            for (unsigned left = fc_swarm_plan_picks_wanted(sim->plan); left > 0; left--) {
                assert_int_equal(balance, FC_BALANCE_MEDIATOR);
                fc_swarm_plan_picked(sim->plan, (unsigned)draw(sim, 4));
            }
            step_until(sim, sim->now_us + 1);
            assert_true(sim->now_us < 60.0 * US_PER_S);
        }
        for (unsigned i = 0; i < 3; i++) {
            struct fc_source_progress progress;
            fc_swarm_plan_progress(sim->plan, i, &progress);
            assert_in_range(progress.segments, 256, 500);
        }
        close_plan(sim);
    }
}

static void
test_peers_are_asked_for_what_they_have_and_servers_for_the_rest(void **state)
{
    struct sim *sim = make_equal(3);
    uint8_t half[64];
    (void)state;
    sim->size_bytes = 64 * MIB; // 256 segments
    sim->sources[1].kind = FC_SWARM_KIND_PEER;
    sim->sources[2].kind = FC_SWARM_KIND_PEER;
    open_plan(sim, FC_BALANCE_ADAPTIVE);
    memset(half, 0, sizeof(half));
    memset(half, 0xff, 16); // segments 0 to 127
    assert_int_equal(fc_swarm_plan_holding(sim->plan, 1, false, bytes_view_of(half, sizeof(half))), ERR_OK);
    assert_int_equal(fc_swarm_plan_holding(sim->plan, 2, false, bytes_view_of(half, sizeof(half))), ERR_OK);
    assert_int_equal(fc_swarm_plan_change(sim->plan, 2, 0, 64, true), ERR_OK);
    struct fc_swarm_order order;
    for (unsigned asked = 0; fc_swarm_plan_next(sim->plan, 1, true, &order); asked++) {
        assert_int_equal(order.act, FC_SWARM_ASK);
        if (order.source == 1) {
            assert_true(order.segment < 128);
        } else if (order.source == 2) {
            assert_in_range(order.segment, 64, 127);
        }
        ask(sim, &order);
    }
    run(sim, 60.0 * US_PER_S);
    close_plan(sim);
}

static void
test_the_origin_alone_is_asked_again_but_not_for_ever(void **state)
{
    struct fc_swarm_order order;
    struct sim *sim = make_equal(1);
    bool is_hopeful = true;
    unsigned tries = 0;
    (void)state;
    sim->size_bytes = 100;
    open_plan(sim, FC_BALANCE_ADAPTIVE);
    while (is_hopeful) {
        assert_true(fc_swarm_plan_next(sim->plan, 1, true, &order));
        assert_int_equal(order.act, FC_SWARM_ASK);
        assert_true(fc_swarm_plan_arrived(sim->plan, order.request, 2));
        is_hopeful = fc_swarm_plan_checked(sim->plan, order.request, false, 2);
        tries++;
    }
    assert_int_equal(tries, 5);
    close_plan(sim);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sources_of_all_speeds_end_together),
        cmocka_unit_test(test_deaths_returns_and_liars_end_right),
        cmocka_unit_test(test_a_source_that_hangs_is_taken_out_and_comes_back),
        cmocka_unit_test(test_when_all_are_dead_each_is_probed_once_a_second),
        cmocka_unit_test(test_a_source_that_comes_and_goes_is_left_alone_for_longer),
        cmocka_unit_test(test_a_slow_source_does_not_hold_up_the_others),
        cmocka_unit_test(test_in_order_the_next_ones_come_first),
        cmocka_unit_test(test_all_strategies_end),
        cmocka_unit_test(test_peers_are_asked_for_what_they_have_and_servers_for_the_rest),
        cmocka_unit_test(test_the_origin_alone_is_asked_again_but_not_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
