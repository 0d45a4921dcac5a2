// What the tracker knows and whom it tells, with a clock of the test.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "services/tracker/tracker_core.h"

enum {
    MANY = 10000,
    SEGMENTS = 100,
    SILENCE_MS = TRACKER_HEARTBEAT_MS * TRACKER_HEARTBEATS_MISSED + 1,
};

static const uint8_t origin_id[16] = "the origin's id.";
static const uint8_t file_id[16] = "a file of alice.";
static const uint8_t ann[16] = "ann.............";
static const uint8_t bob[16] = "bob.............";

struct fixture {
    struct tracker_core *core;
    struct tracker_now now;
};

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->now = (struct tracker_now){.ms = 1000000, .unix_ms = 1700000000000};
    assert_int_equal(tracker_core_new(origin_id, "origin", 42, f->now, &f->core), ERR_OK);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    tracker_core_free(&f->core);
    free(f);
    return 0;
}

// Lets time pass as the service does, in ticks.
static void
pass(struct fixture *f, uint64_t ms)
{
    while (ms > 0) {
        uint64_t step = ms < 50 ? ms : 50;
        f->now.ms += step;
        f->now.unix_ms += (int64_t)step;
        tracker_core_tick(f->core, f->now);
        ms -= step;
    }
}

static void
make_id(size_t number, uint8_t id_out[16])
{
    memset(id_out, 0, 16);
    memcpy(id_out, &number, sizeof(number));
    id_out[15] = 1;
}

static enum err
try_announce(struct fixture *f, size_t number, enum tracker_kind kind, const uint8_t user[16],
    struct tracker_source **out)
{
    char name[32];
    char url[] = "tcp://192.0.2.1:7000";
    char *urls[] = {url};
    uint8_t id[16];
    void *previous = NULL;
    struct err_detail why = {0};
    make_id(number, id);
    (void)snprintf(name, sizeof(name), "source %zu", number);
    struct tracker_hello hello = {
        .id = id,
        .name = name,
        .kind = kind,
        .url_count = 1,
        .urls = urls,
        .user_id = user,
        .user_name = "ann",
        .is_admin = kind == TRACKER_MIRROR || user == ann,
        .state = TRACKER_UP,
    };
    enum err err = tracker_core_announce(f->core, &hello, f, f->now, out, &previous, &why);
    if (err == ERR_OK) {
        tracker_source_release(f->core, *out); // the table keeps it
    }
    return err;
}

static struct tracker_source *
announce(struct fixture *f, size_t number, enum tracker_kind kind)
{
    struct tracker_source *source = NULL;
    assert_int_equal(try_announce(f, number, kind, ann, &source), ERR_OK);
    return source;
}

static void
beat(struct fixture *f, struct tracker_source *source, uint32_t cpu_permille)
{
    struct tracker_load load = {.cpu_permille = cpu_permille};
    tracker_core_heartbeat(f->core, source, source->incarnation, &load, TRACKER_UP, f->now);
}

static enum err
has(struct fixture *f, struct tracker_source *source, const uint8_t file[16], bool is_complete,
    struct bytes_view segments)
{
    struct tracker_holding_view view = {.file_id = file,
        .segment_count = SEGMENTS,
        .is_complete = is_complete,
        .segments = segments};
    return tracker_core_set_holding(f->core, source, source->incarnation, &view, NULL);
}

static void
has_all(struct fixture *f, struct tracker_source *source)
{
    assert_int_equal(has(f, source, file_id, true, (struct bytes_view){0}), ERR_OK);
}

static enum err
change(struct fixture *f, struct tracker_source *source, uint64_t first, uint64_t count, bool is_gone)
{
    struct tracker_range range = {.first = first, .count = count, .is_gone = is_gone};
    struct tracker_change one = {.file_id = file_id, .segment_count = SEGMENTS, .ranges = &range, .range_count = 1};
    return tracker_core_change_holding(f->core, source, source->incarnation, &one, true, NULL);
}

static size_t
find(struct fixture *f, size_t limit, struct tracker_found *found, uint64_t *live_out)
{
    return tracker_core_find(f->core, file_id, SEGMENTS, limit, found, live_out);
}

static struct tracker_figures
figures(const struct fixture *f)
{
    struct tracker_figures out;
    tracker_core_read_figures(f->core, &out);
    return out;
}

// --- Life and death -------------------------------------------------------------------------------------------------

static void
test_three_missed_heartbeats_are_a_death_and_one_is_life(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *source = announce(f, 1, TRACKER_PEER);
    struct tracker_found found[TRACKER_SAMPLE_MAX];
    uint64_t live = 0;
    has_all(f, source);
    for (unsigned i = 0; i < 20; i++) {
        pass(f, TRACKER_HEARTBEAT_MS);
        beat(f, source, 0);
    }
    assert_int_equal(source->state, TRACKER_UP);
    pass(f, SILENCE_MS - 1);
    assert_int_equal(source->state, TRACKER_UP);
    pass(f, 50);
    assert_int_equal(source->state, TRACKER_DEAD);
    assert_int_equal(find(f, 64, found, &live), 1);
    assert_int_equal(figures(f).deaths, 1);
    beat(f, source, 0);
    assert_int_equal(source->state, TRACKER_UP);
    assert_int_equal(find(f, 64, found, &live), 2); // what it has is still known
    assert_true(found[1].holding.is_complete);
}

static void
test_a_pause_of_the_tracker_kills_nobody(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *source = announce(f, 1, TRACKER_PEER);
    f->now.ms += 10 * SILENCE_MS; // in one go
    tracker_core_tick(f->core, f->now);
    assert_int_equal(source->state, TRACKER_UP);
    pass(f, SILENCE_MS + 50);
    assert_int_equal(source->state, TRACKER_DEAD);
}

static void
test_news_of_an_older_incarnation_undo_nothing(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *source = announce(f, 1, TRACKER_PEER);
    uint64_t old = source->incarnation;
    struct tracker_load load = {.cpu_permille = 999};
    struct tracker_holding_view all = {.file_id = file_id, .segment_count = SEGMENTS, .is_complete = true};
    tracker_core_leave(f->core, source, old, false, f->now);
    assert_int_equal(source->state, TRACKER_DEAD);
    assert_ptr_equal(announce(f, 1, TRACKER_PEER), source);
    assert_true(source->incarnation > old);
    tracker_core_leave(f->core, source, old, false, f->now);
    tracker_core_heartbeat(f->core, source, old, &load, TRACKER_STOPPED, f->now);
    tracker_core_blame(f->core, source, old, f->now);
    tracker_core_probed(f->core, source, old, false, f->now);
    tracker_core_probed(f->core, source, old, false, f->now);
    assert_int_equal(tracker_core_set_holding(f->core, source, old, &all, NULL), ERR_OK);
    assert_int_equal(source->state, TRACKER_UP);
    assert_int_equal(source->load.cpu_permille, 0);
    assert_int_equal(source->bad_segments, 0);
    assert_int_equal(figures(f).files, 0);
}

static void
test_the_incarnation_grows_even_when_the_clock_does_not(void **state)
{
    struct fixture *f = *state;
    uint64_t last = 0;
    for (unsigned i = 0; i < 5; i++) {
        struct tracker_source *source = announce(f, 1, TRACKER_PEER);
        assert_true(source->incarnation > last);
        last = source->incarnation;
        f->now.unix_ms -= 5000;
    }
}

static void
test_what_cannot_be_reached_twice_is_dead(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *source = announce(f, 1, TRACKER_PEER);
    uint64_t wait_ms = 0;
    assert_ptr_equal(tracker_core_take_probe(f->core, f->now.ms, &wait_ms), source);
    assert_null(tracker_core_take_probe(f->core, f->now.ms, &wait_ms));
    tracker_core_probed(f->core, source, source->incarnation, false, f->now);
    tracker_source_release(f->core, source);
    assert_int_equal(source->state, TRACKER_UP); // once may be an accident
    assert_null(tracker_core_take_probe(f->core, f->now.ms, &wait_ms));
    assert_in_range(wait_ms, 1, 500);
    beat(f, source, 0);
    assert_ptr_equal(tracker_core_take_probe(f->core, f->now.ms + wait_ms, &wait_ms), source);
    tracker_core_suspect(f->core, source, source->incarnation, f->now.ms);
    tracker_core_probed(f->core, source, source->incarnation, false, f->now);
    assert_int_equal(source->state, TRACKER_DEAD);
    beat(f, source, 0);
    assert_int_equal(source->state, TRACKER_DEAD); // a heartbeat reaches the tracker, but readers do not reach it
    tracker_core_probed(f->core, source, source->incarnation, true, f->now);
    tracker_source_release(f->core, source);
    assert_int_equal(source->state, TRACKER_UP);
    // The suspicion that came while it was being asked has it asked once more.
    assert_ptr_equal(tracker_core_take_probe(f->core, f->now.ms, &wait_ms), source);
    tracker_core_unprobed(f->core, source);
}

static void
test_bad_segments_put_peers_and_mirrors_in_quarantine(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *peer = announce(f, 1, TRACKER_PEER);
    struct tracker_source *mirror = announce(f, 2, TRACKER_MIRROR);
    tracker_core_blame(f->core, peer, peer->incarnation, f->now);
    assert_int_equal(peer->state, TRACKER_QUARANTINED);
    beat(f, peer, 0);
    assert_int_equal(peer->state, TRACKER_QUARANTINED);
    tracker_core_blame(f->core, mirror, mirror->incarnation, f->now);
    tracker_core_blame(f->core, mirror, mirror->incarnation, f->now);
    assert_int_equal(mirror->state, TRACKER_UP);
    tracker_core_blame(f->core, mirror, mirror->incarnation, f->now);
    assert_int_equal(mirror->state, TRACKER_QUARANTINED);
    assert_int_equal(announce(f, 1, TRACKER_PEER)->state, TRACKER_UP); // started anew
    assert_int_equal(figures(f).bad_segments, 4);
}

static void
test_a_command_counts_until_the_source_says_otherwise(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *source = announce(f, 1, TRACKER_MIRROR);
    tracker_core_command(f->core, source, TRACKER_STOPPED, f->now);
    assert_int_equal(source->state, TRACKER_STOPPED);
    beat(f, source, 0); // on its way before the command came
    assert_int_equal(source->state, TRACKER_STOPPED);
    for (unsigned i = 0; i < 12; i++) {
        pass(f, TRACKER_HEARTBEAT_MS);
        beat(f, source, 0);
    }
    assert_int_equal(source->state, TRACKER_UP); // it does not obey
}

static void
test_the_long_gone_are_forgotten(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *source = NULL;
    for (size_t i = 0; i < 2000; i++) {
        source = announce(f, i, TRACKER_PEER);
        tracker_core_leave(f->core, source, source->incarnation, true, f->now);
        pass(f, 50);
    }
    assert_int_equal(figures(f).sources[TRACKER_DEAD], 1024);
    assert_int_equal(figures(f).deaths, 0); // they said goodbye
    f->now.ms += 3600 * 1000;
    tracker_core_tick(f->core, f->now);
    assert_int_equal(figures(f).sources[TRACKER_DEAD], 0);
}

static void
test_one_user_cannot_fill_the_tracker(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *source = NULL;
    for (size_t i = 0; i < TRACKER_SOURCES_PER_USER_MAX; i++) {
        assert_int_equal(try_announce(f, i, TRACKER_PEER, bob, &source), ERR_OK);
    }
    assert_int_equal(try_announce(f, 1000, TRACKER_PEER, bob, &source), ERR_LIMIT);
    assert_int_equal(try_announce(f, 3, TRACKER_PEER, bob, &source), ERR_OK); // anew is no more
    assert_int_equal(try_announce(f, 3, TRACKER_PEER, ann, &source), ERR_DENIED);
    for (size_t i = 0; i < TRACKER_FILES_PER_SOURCE_MAX; i++) {
        uint8_t id[16];
        make_id(i, id);
        assert_int_equal(has(f, source, id, true, (struct bytes_view){0}), ERR_OK);
    }
    assert_int_equal(has(f, source, file_id, true, (struct bytes_view){0}), ERR_LIMIT);
    assert_int_equal(figures(f).files, TRACKER_FILES_PER_SOURCE_MAX);
    tracker_core_leave(f->core, source, source->incarnation, false, f->now);
    assert_int_equal(figures(f).files, 0);
}

// --- What sources have ----------------------------------------------------------------------------------------------

static void
test_bits_come_and_go(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *source = announce(f, 1, TRACKER_PEER);
    struct tracker_found found[TRACKER_SAMPLE_MAX];
    uint64_t live = 0;
    uint8_t bits[13] = {0};
    assert_int_equal(change(f, source, 98, 2, false), ERR_OK);
    assert_int_equal(find(f, 64, found, &live), 2);
    assert_int_equal(found[1].holding.segments.size, 13);
    assert_int_equal(found[1].holding.segments.data[12], 0x0c);
    assert_int_equal(figures(f).bitmap_bytes, 13);
    assert_int_equal(change(f, source, 0, 98, false), ERR_OK);
    assert_int_equal(find(f, 64, found, &live), 2);
    assert_true(found[1].holding.is_complete);
    assert_int_equal(figures(f).bitmap_bytes, 0); // what is complete costs no bitmap
    assert_int_equal(change(f, source, 7, 2, true), ERR_OK);
    assert_int_equal(find(f, 64, found, &live), 2);
    assert_false(found[1].holding.is_complete);
    assert_int_equal(found[1].holding.segments.data[0], 0x7f);
    assert_int_equal(found[1].holding.segments.data[1], 0xfe);
    assert_int_equal(has(f, source, file_id, false, bytes_view_of(bits, sizeof(bits))), ERR_OK);
    assert_int_equal(find(f, 64, found, &live), 1);
    assert_int_equal(figures(f).files, 0);
}

static void
test_holdings_that_are_none_are_refused(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *source = announce(f, 1, TRACKER_PEER);
    uint8_t bits[14] = {0};
    bits[12] = 0x10; // segment 100 of 100
    assert_int_equal(has(f, source, file_id, false, bytes_view_of(bits, 13)), ERR_INVALID);
    bits[12] = 1;
    assert_int_equal(has(f, source, file_id, false, bytes_view_of(bits, 14)), ERR_INVALID);
    assert_int_equal(has(f, source, file_id, false, bytes_view_of(bits, 13)), ERR_OK);
    assert_int_equal(change(f, source, 100, 1, false), ERR_INVALID);
    assert_int_equal(change(f, source, UINT64_MAX, 2, false), ERR_INVALID);
    assert_int_equal(change(f, source, 1, UINT64_MAX, false), ERR_INVALID);
    assert_int_equal(change(f, source, 100, 0, false), ERR_OK);
}

static void
test_a_peer_that_comes_back_as_a_mirror_is_one(void **state)
{
    struct fixture *f = *state;
    struct tracker_found found[TRACKER_SAMPLE_MAX];
    uint64_t live = 0;
    has_all(f, announce(f, 1, TRACKER_PEER));
    has_all(f, announce(f, 1, TRACKER_MIRROR));
    assert_int_equal(find(f, 64, found, &live), 2);
    assert_true(found[1].holding.is_pull_through);
    assert_int_equal(live, 2);
    has_all(f, announce(f, 1, TRACKER_PEER));
    assert_int_equal(find(f, 64, found, &live), 2);
    assert_false(found[1].holding.is_pull_through);
    assert_int_equal(live, 2);
}

static void
test_a_sample_of_many_has_all_kinds(void **state)
{
    struct fixture *f = *state;
    struct tracker_found found[TRACKER_SAMPLE_MAX];
    uint64_t live = 0;
    size_t mirrors = 0, complete = 0, partial = 0;
    static uint8_t times[MANY];
    memset(times, 0, sizeof(times));
    for (size_t i = 0; i < MANY; i++) {
        struct tracker_source *source = announce(f, i, i < 50 ? TRACKER_MIRROR : TRACKER_PEER);
        if (i >= 50 && i < 150) {
            has_all(f, source);
        } else if (i >= 150) {
            assert_int_equal(change(f, source, i % SEGMENTS, 1, false), ERR_OK);
        }
    }
    for (unsigned round = 0; round < 200; round++) {
        size_t count = find(f, 64, found, &live);
        assert_int_equal(count, 64);
        assert_int_equal(found[0].source->kind, TRACKER_ORIGIN);
        for (size_t i = 1; i < count; i++) {
            size_t number;
            memcpy(&number, found[i].source->id, sizeof(number));
            times[number] = (uint8_t)(times[number] + 1);
            assert_true(times[number] <= round + 1); // nobody twice in one sample
            mirrors += number < 50;
            complete += number >= 50 && number < 150;
            partial += number >= 150;
        }
    }
    assert_int_equal(live, MANY + 1);
    assert_int_equal(mirrors, 200 * 15);
    assert_int_equal(complete, 200 * 15);
    assert_int_equal(partial, 200 * 33);
    size_t reached = 0;
    for (size_t i = 150; i < MANY; i++) {
        reached += times[i] != 0;
    }
    assert_true(reached > 4000); // of some 4,800 that different samples would reach
}

static void
test_the_busy_are_rather_left_out(void **state)
{
    struct fixture *f = *state;
    struct tracker_found found[TRACKER_SAMPLE_MAX];
    uint64_t live = 0;
    size_t busy = 0, idle = 0;
    for (size_t i = 0; i < 1000; i++) {
        struct tracker_source *source = announce(f, i, TRACKER_PEER);
        has_all(f, source);
        beat(f, source, i % 2 == 0 ? 900 : 100);
    }
    for (unsigned round = 0; round < 100; round++) {
        size_t count = find(f, 32, found, &live);
        for (size_t i = 1; i < count; i++) {
            busy += found[i].source->load.cpu_permille == 900;
            idle += found[i].source->load.cpu_permille == 100;
        }
    }
    assert_true(idle > 2 * busy); // three times as many are expected
}

// --- Picking --------------------------------------------------------------------------------------------------------

static void
test_only_who_has_the_segment_is_picked(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *one = announce(f, 1, TRACKER_PEER);
    struct tracker_source *two = announce(f, 2, TRACKER_PEER);
    tracker_core_command(f->core, tracker_core_origin(f->core), TRACKER_STOPPED, f->now);
    assert_null(tracker_core_pick(f->core, file_id, 0, TRACKER_ROUND_ROBIN, f->now.ms));
    assert_int_equal(change(f, one, 5, 1, false), ERR_OK);
    assert_int_equal(change(f, two, 6, 1, false), ERR_OK);
    for (int strategy = TRACKER_ROUND_ROBIN; strategy <= TRACKER_TWO_CHOICES; strategy++) {
        for (unsigned i = 0; i < 20; i++) {
            assert_ptr_equal(tracker_core_pick(f->core, file_id, 5, (enum tracker_strategy)strategy, f->now.ms), one);
            assert_null(tracker_core_pick(f->core, file_id, 7, (enum tracker_strategy)strategy, f->now.ms));
        }
    }
}

static void
test_the_least_busy_processor_is_picked_until_it_is_not(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *idle = announce(f, 1, TRACKER_MIRROR);
    struct tracker_source *busy = announce(f, 2, TRACKER_MIRROR);
    size_t picked_idle = 0;
    tracker_core_command(f->core, tracker_core_origin(f->core), TRACKER_STOPPED, f->now);
    for (unsigned i = 0; i < 400; i++) {
        beat(f, idle, 100);
        beat(f, busy, 900);
        picked_idle += tracker_core_pick(f->core, file_id, 0, TRACKER_LEAST_CPU, f->now.ms) == idle;
    }
    assert_in_range(picked_idle, 250, 350); // of two at random: always but when both are the busy one
    picked_idle = 0;
    for (unsigned i = 0; i < 400; i++) { // without news it is not sent everything
        picked_idle += tracker_core_pick(f->core, file_id, 0, TRACKER_LEAST_CPU, f->now.ms) == idle;
    }
    assert_in_range(picked_idle, 200, 270);
}

// --- Watching -------------------------------------------------------------------------------------------------------

static struct tracker_watch *
watch(struct fixture *f, const uint8_t *file, size_t limit)
{
    struct tracker_watch *out = NULL;
    assert_int_equal(tracker_core_watch(f->core, file, SEGMENTS, limit, ann, f, &out, NULL), ERR_OK);
    return out;
}

// What a watch is told now, as text: "S1+" that source 1 is up, "S1-" that it is not, "H1" all that it has, "C1" a
// change, "." caught up. The origin is 0.
static const char *
told(struct fixture *f)
{
    static char text[64 * 1024];
    size_t used = 0;
    uint64_t wait_ms = 0;
    struct tracker_watch *due;
    struct tracker_event event;
    text[0] = '\0';
    while ((due = tracker_core_take_due(f->core, f->now.ms, &wait_ms)) != NULL) {
        while (tracker_watch_next(f->core, due, &event)) {
            size_t number = 0;
            if (event.source != NULL && event.source->kind != TRACKER_ORIGIN) {
                memcpy(&number, event.source->id, sizeof(number));
            }
            static const char letters[] = {'S', 'H', 'C', '.'};
            assert_true(used < sizeof(text) - 32);
            text[used++] = letters[event.kind];
            if (event.kind == TRACKER_EVENT_CAUGHT_UP) {
                text[used] = '\0';
            } else {
                const char *mark = event.kind != TRACKER_EVENT_SOURCE  ? ""
                                   : event.source->state == TRACKER_UP ? "+"
                                                                       : "-";
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%zu%s ", number, mark);
            }
            tracker_watch_told(f->core, due);
        }
    }
    return text;
}

static void
test_a_watcher_is_told_of_each_source_before_what_it_has(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *one = announce(f, 1, TRACKER_PEER);
    assert_int_equal(change(f, one, 1, 1, false), ERR_OK);
    struct tracker_watch *w = watch(f, file_id, 8);
    assert_string_equal(told(f), "S0+ H0 S1+ H1 .");
    assert_string_equal(told(f), "");
    assert_int_equal(change(f, one, 2, 1, false), ERR_OK);
    assert_int_equal(change(f, one, 3, 1, false), ERR_OK);
    f->now.ms += TRACKER_BATCH_MS;
    assert_string_equal(told(f), "C1 "); // both in one
    struct tracker_source *two = announce(f, 2, TRACKER_PEER);
    has_all(f, two);
    f->now.ms += TRACKER_BATCH_MS;
    assert_string_equal(told(f), "S2+ H2 ");
    tracker_core_leave(f->core, two, two->incarnation, false, f->now);
    assert_string_equal(told(f), "S2- "); // at once
    tracker_watch_free(f->core, &w);
}

static void
test_changes_wait_for_their_batch_and_deaths_do_not(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *one = announce(f, 1, TRACKER_PEER);
    assert_int_equal(change(f, one, 0, 1, false), ERR_OK);
    struct tracker_watch *w = watch(f, file_id, 8);
    size_t batches = 0;
    (void)told(f);
    for (unsigned ms = 0; ms < 1000; ms++) {
        f->now.ms++;
        assert_int_equal(change(f, one, ms % 90, 1, ms % 2 == 0), ERR_OK);
        batches += told(f)[0] != '\0';
    }
    assert_in_range(batches, 9, 11);
    assert_int_equal(change(f, one, 99, 1, false), ERR_OK);
    assert_string_equal(told(f), "");
    tracker_core_blame(f->core, one, one->incarnation, f->now);
    assert_string_equal(told(f), "S1- ");
    tracker_watch_free(f->core, &w);
}

static void
test_too_many_changes_are_told_as_the_whole(void **state)
{
    struct fixture *f = *state;
    struct tracker_source *one = announce(f, 1, TRACKER_PEER);
    assert_int_equal(change(f, one, 0, 1, false), ERR_OK);
    struct tracker_watch *w = watch(f, file_id, 8);
    (void)told(f);
    for (unsigned i = 1; i < 90; i++) { // a reader that takes nothing meanwhile costs no more
        assert_int_equal(change(f, one, i, 1, false), ERR_OK);
    }
    f->now.ms += TRACKER_BATCH_MS;
    assert_string_equal(told(f), "H1 ");
    tracker_watch_free(f->core, &w);
}

static void
test_the_place_of_a_dead_source_is_given_to_another(void **state)
{
    struct fixture *f = *state;
    struct tracker_watch *w = NULL;
    struct tracker_source *sources[20];
    for (size_t i = 0; i < 20; i++) {
        sources[i] = announce(f, i + 1, TRACKER_PEER);
        has_all(f, sources[i]);
    }
    w = watch(f, file_id, 4);
    const char *text = told(f);
    assert_non_null(strstr(text, "S0+ H0 "));
    size_t number = (size_t)strtoul(strstr(text, "H0 S") + 4, NULL, 10);
    char expected[32];
    struct tracker_source *dead = sources[number - 1];
    tracker_core_leave(f->core, dead, dead->incarnation, false, f->now);
    text = told(f);
    (void)snprintf(expected, sizeof(expected), "S%zu- ", number);
    assert_int_equal(strncmp(text, expected, strlen(expected)), 0);
    size_t other = (size_t)strtoul(text + strlen(expected) + 1, NULL, 10);
    assert_int_not_equal(other, number);
    (void)snprintf(expected, sizeof(expected), "S%zu- S%zu+ H%zu ", number, other, other);
    assert_string_equal(text, expected);
    tracker_watch_free(f->core, &w);
}

static void
test_mirrors_are_told_to_watchers_of_every_file(void **state)
{
    struct fixture *f = *state;
    struct tracker_watch *w = watch(f, file_id, 8);
    (void)told(f);
    struct tracker_source *mirror = announce(f, 7, TRACKER_MIRROR);
    assert_string_equal(told(f), "S7+ H7 ");
    tracker_core_command(f->core, mirror, TRACKER_STOPPED, f->now);
    assert_string_equal(told(f), "S7- ");
    tracker_core_command(f->core, mirror, TRACKER_UP, f->now);
    assert_string_equal(told(f), "S7+ H7 ");
    assert_int_equal(figures(f).files, 1);
    tracker_watch_free(f->core, &w);
    assert_int_equal(figures(f).files, 0);
}

static void
test_who_watches_all_is_told_each_source_once(void **state)
{
    struct fixture *f = *state;
    struct tracker_watch *w = NULL;
    for (size_t i = 1; i <= 3; i++) {
        (void)announce(f, i, TRACKER_PEER);
    }
    w = watch(f, NULL, 0);
    assert_string_equal(told(f), "S0+ S1+ S2+ S3+ .");
    uint8_t id[16];
    make_id(2, id);
    struct tracker_source *two = tracker_core_find_id(f->core, id);
    tracker_core_command(f->core, two, TRACKER_STOPPED, f->now);
    tracker_core_command(f->core, two, TRACKER_UP, f->now);
    assert_string_equal(told(f), "S2+ ");
    // One that changes while the others are being told is told once more, and nobody is left out.
    (void)announce(f, 4, TRACKER_PEER);
    (void)announce(f, 1, TRACKER_PEER);
    uint64_t wait_ms = 0;
    struct tracker_event event;
    struct tracker_watch *due = tracker_core_take_due(f->core, f->now.ms, &wait_ms);
    assert_ptr_equal(due, w);
    assert_true(tracker_watch_next(f->core, due, &event));
    tracker_watch_told(f->core, due);
    assert_int_equal(event.source->id[0], 4);
    tracker_core_command(f->core, tracker_core_find_id(f->core, event.source->id), TRACKER_STOPPED, f->now);
    tracker_watch_again(f->core, due);
    assert_string_equal(told(f), "S1+ S4- ");
    tracker_watch_free(f->core, &w);
}

static void
test_watches_are_counted(void **state)
{
    struct fixture *f = *state;
    struct tracker_watch *watches[TRACKER_WATCHES_PER_USER_MAX + 1] = {NULL};
    for (size_t i = 0; i < TRACKER_WATCHES_PER_USER_MAX; i++) {
        watches[i] = watch(f, file_id, 64);
    }
    assert_int_equal(
        tracker_core_watch(f->core, file_id, SEGMENTS, 64, ann, f, &watches[TRACKER_WATCHES_PER_USER_MAX], NULL),
        ERR_LIMIT);
    assert_int_equal(figures(f).watches, TRACKER_WATCHES_PER_USER_MAX);
    for (size_t i = 0; i < TRACKER_WATCHES_PER_USER_MAX; i++) {
        tracker_watch_free(f->core, &watches[i]);
    }
    assert_int_equal(figures(f).watches, 0);
}

// --- At random ------------------------------------------------------------------------------------------------------

enum {
    ACTORS = 12,
    STEPS = 4000,
};

// What a reader has made of what it was told.
struct reader {
    bool is_up[ACTORS];
    bool has[ACTORS][SEGMENTS];
};

static void
read_event(struct reader *reader, const struct tracker_event *event)
{
    size_t number = 0;
    if (event->source == NULL || event->source->kind == TRACKER_ORIGIN) {
        return;
    }
    memcpy(&number, event->source->id, sizeof(number));
    if (event->kind == TRACKER_EVENT_SOURCE) {
        reader->is_up[number] = event->source->state == TRACKER_UP;
        return;
    }
    for (size_t s = 0; s < SEGMENTS && event->kind == TRACKER_EVENT_HOLDING; s++) {
        struct bytes_view bits = event->holding.segments;
        reader->has[number][s] = event->holding.is_complete || (bits.size > 0 && (bits.data[s / 8] >> s % 8 & 1) != 0);
    }
    for (size_t r = 0; r < event->range_count; r++) {
        const struct tracker_range *range = &event->ranges[r];
        for (uint64_t s = range->first; s < range->first + range->count; s++) {
            reader->has[number][s] = !range->is_gone;
        }
    }
}

// Tells the reader at most so many events.
static void
tell_some(struct fixture *f, struct reader *reader, unsigned most)
{
    uint64_t wait_ms = 0;
    struct tracker_event event;
    struct tracker_watch *due = tracker_core_take_due(f->core, f->now.ms, &wait_ms);
    if (due == NULL) {
        return;
    }
    for (unsigned n = 0; n < most && tracker_watch_next(f->core, due, &event); n++) {
        read_event(reader, &event);
        tracker_watch_told(f->core, due);
    }
    tracker_watch_again(f->core, due);
}

static void
assert_reader_is_right(struct fixture *f, const struct reader *reader)
{
    struct tracker_found found[TRACKER_SAMPLE_MAX];
    uint64_t live = 0;
    size_t count = find(f, 64, found, &live);
    for (size_t n = 1; n < count; n++) {
        const struct tracker_holding_view *view = &found[n].holding;
        size_t number = 0;
        memcpy(&number, found[n].source->id, sizeof(number));
        assert_true(reader->is_up[number]);
        for (size_t s = 0; s < SEGMENTS; s++) {
            bool has_it = view->is_complete || (view->segments.size > 0 && (view->segments.data[s / 8] >> s % 8 & 1));
            assert_int_equal(has_it, reader->has[number][s]);
        }
    }
}

static void
act(struct fixture *f, struct tracker_source **source, size_t number, uint32_t random)
{
    uint32_t what = random & 15;
    uint64_t first = (random >> 4) % (SEGMENTS - 5);
    if (*source == NULL || what == 0) {
        *source = announce(f, number, TRACKER_PEER);
    } else if (what == 1) {
        tracker_core_leave(f->core, *source, (*source)->incarnation, false, f->now);
    } else if (what == 2) {
        tracker_core_command(f->core, *source, random & 16 ? TRACKER_STOPPED : TRACKER_UP, f->now);
    } else if (what == 3) {
        has_all(f, *source);
    } else if (what == 4) {
        assert_int_equal(has(f, *source, file_id, false, (struct bytes_view){0}), ERR_OK);
    } else if ((*source)->owner != NULL) {
        assert_int_equal(change(f, *source, first, 5, what > 11), ERR_OK);
    }
}

static void
test_a_slow_reader_knows_in_the_end_what_find_says(void **state)
{
    struct fixture *f = *state;
    static struct reader reader;
    struct tracker_source *sources[ACTORS] = {NULL};
    struct tracker_watch *w = watch(f, file_id, 64);
    uint32_t seed = 1;
    for (unsigned step = 0; step < STEPS; step++) {
        seed = seed * 1664525 + 1013904223;
        size_t number = (seed >> 8) % ACTORS;
        act(f, &sources[number], number, seed >> 12);
        f->now.ms += seed >> 27;
        tell_some(f, &reader, seed >> 9 & 3);
        if (step % 50 == 49) {
            f->now.ms += TRACKER_BATCH_MS;
            tell_some(f, &reader, 1000);
            assert_reader_is_right(f, &reader);
        }
    }
    tracker_watch_free(f->core, &w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(three_missed_heartbeats_are_a_death_and_one_is_life),
        TEST(a_pause_of_the_tracker_kills_nobody),
        TEST(news_of_an_older_incarnation_undo_nothing),
        TEST(the_incarnation_grows_even_when_the_clock_does_not),
        TEST(what_cannot_be_reached_twice_is_dead),
        TEST(bad_segments_put_peers_and_mirrors_in_quarantine),
        TEST(a_command_counts_until_the_source_says_otherwise),
        TEST(the_long_gone_are_forgotten),
        TEST(one_user_cannot_fill_the_tracker),
        TEST(bits_come_and_go),
        TEST(holdings_that_are_none_are_refused),
        TEST(a_peer_that_comes_back_as_a_mirror_is_one),
        TEST(a_sample_of_many_has_all_kinds),
        TEST(the_busy_are_rather_left_out),
        TEST(only_who_has_the_segment_is_picked),
        TEST(the_least_busy_processor_is_picked_until_it_is_not),
        TEST(a_watcher_is_told_of_each_source_before_what_it_has),
        TEST(changes_wait_for_their_batch_and_deaths_do_not),
        TEST(too_many_changes_are_told_as_the_whole),
        TEST(the_place_of_a_dead_source_is_given_to_another),
        TEST(mirrors_are_told_to_watchers_of_every_file),
        TEST(who_watches_all_is_told_each_source_once),
        TEST(watches_are_counted),
        TEST(a_slow_reader_knows_in_the_end_what_find_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
