// For libfc's downloads only: which source is asked for which segment, and when.
//
// The plan is told what happens and says what to do: it has no clock, no random source of its own and no network. Times
// are microseconds of any clock that does not go back. One thread uses it.
//
// A segment is free, asked for, arrived (being checked) or there. What has been asked for belongs to one request, but
// for the last segments, for which a second source may be asked. A request that its source does not answer, because it
// died or is too slow, ends; what still comes of it is waste.
#ifndef CLIENT_FC_SWARM_PLAN_PRIV_H
#define CLIENT_FC_SWARM_PLAN_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_swarm.h"

enum {
    FC_SWARM_SOURCES_MAX = 64,
    FC_SWARM_REQUESTS_MAX = 256,
};

struct fc_swarm_plan;

struct fc_swarm_plan_options {
    uint64_t size_bytes; // of the file
    uint32_t segment_bytes;
    enum fc_balance balance;
    bool is_in_order; // segments are wanted in order, and at most look_ahead_segments before their turn
    unsigned look_ahead_segments;
    uint64_t in_flight_max_bytes; // asked for or being checked, of all sources
    unsigned requests_max;        // 0: FC_SWARM_REQUESTS_MAX
    uint64_t seed;
};

// fc_swarm_plan_new makes a plan without sources for a file of at least one segment.
enum err fc_swarm_plan_new(const struct fc_swarm_plan_options *options, struct fc_swarm_plan **out) ERR_CHECKED;
void fc_swarm_plan_free(struct fc_swarm_plan **plan);

// fc_swarm_plan_has says before the start that a segment is there already.
void fc_swarm_plan_has(struct fc_swarm_plan *plan, uint64_t segment);

// ---- Sources ----

// fc_swarm_plan_add adds a source that has nothing and is to be probed. ERR_LIMIT: there are too many.
enum err fc_swarm_plan_add(struct fc_swarm_plan *plan, enum fc_swarm_kind kind, uint64_t now_us,
    unsigned *source_out) ERR_CHECKED;

// fc_swarm_plan_holding replaces what a source has: all, or one bit a segment as fc.segment.v1.Holding has it.
enum err fc_swarm_plan_holding(struct fc_swarm_plan *plan, unsigned source, bool is_complete,
    struct bytes_view bits) ERR_CHECKED;
// fc_swarm_plan_change adds or takes a range; what is beyond the end is left out.
enum err fc_swarm_plan_change(struct fc_swarm_plan *plan, unsigned source, uint64_t first, uint64_t count,
    bool is_gone) ERR_CHECKED;

// fc_swarm_plan_up: it has answered, after rtt_us (0: not measured).
void fc_swarm_plan_up(struct fc_swarm_plan *plan, unsigned source, uint64_t now_us, uint64_t rtt_us);
// fc_swarm_plan_woken: somebody says that it is back, so that it is probed soon.
void fc_swarm_plan_woken(struct fc_swarm_plan *plan, unsigned source, uint64_t now_us);
// fc_swarm_plan_down: it is in another state than up. What it was asked for is given back, but while it drains.
void fc_swarm_plan_down(struct fc_swarm_plan *plan, unsigned source, enum fc_swarm_state state, uint64_t now_us);
// fc_swarm_plan_probe_failed: a probe was not answered, or not well.
void fc_swarm_plan_probe_failed(struct fc_swarm_plan *plan, unsigned source, enum fc_swarm_state state,
    uint64_t now_us);
// fc_swarm_plan_load: the source says how busy its processors are.
void fc_swarm_plan_load(struct fc_swarm_plan *plan, unsigned source, unsigned cpu_permille);
// fc_swarm_plan_heard tells how many bytes have come from it in all, wanted or not.
void fc_swarm_plan_heard(struct fc_swarm_plan *plan, unsigned source, uint64_t received_bytes, uint64_t now_us);
// fc_swarm_plan_picked: the tracker has chosen it for the next request.
void fc_swarm_plan_picked(struct fc_swarm_plan *plan, unsigned source);
// fc_swarm_plan_picks_wanted is how many more the tracker should choose now.
unsigned fc_swarm_plan_picks_wanted(const struct fc_swarm_plan *plan);

// fc_swarm_plan_is_heard: something has come from it since.
bool fc_swarm_plan_is_heard(const struct fc_swarm_plan *plan, unsigned source, uint64_t since_us);

// ---- Requests ----

enum fc_swarm_act {
    FC_SWARM_ASK,    // `source` for `segment`, as `request`
    FC_SWARM_CANCEL, // `request`: it has ended, and its answer is not wanted
    FC_SWARM_PROBE,  // `source`: fc_swarm_plan_up or fc_swarm_plan_probe_failed follows
};

struct fc_swarm_order {
    enum fc_swarm_act act;
    uint64_t request; // never the same again
    unsigned source;
    uint64_t segment;
    uint32_t size_bytes; // of the segment
};

// fc_swarm_plan_next says what to do next; false: nothing now. It is asked until then whenever something has happened
// and some 20 times a second. may_ask false: no new requests.
bool fc_swarm_plan_next(struct fc_swarm_plan *plan, uint64_t now_us, bool may_ask, struct fc_swarm_order *out);

// fc_swarm_plan_arrived: the answer to a request is there and is going to be checked. False: it is not wanted any more.
bool fc_swarm_plan_arrived(struct fc_swarm_plan *plan, uint64_t request, uint64_t now_us);

// fc_swarm_plan_checked: what had arrived is good and is there, or was bad. False: bad, and nobody is left from whom it
// could be had.
bool fc_swarm_plan_checked(struct fc_swarm_plan *plan, uint64_t request, bool is_good, uint64_t now_us) ERR_CHECKED;

enum fc_swarm_failure {
    FC_SWARM_LOST,    // the source cannot be reached any more
    FC_SWARM_STOPPED, // it was stopped
    FC_SWARM_LATE,    // the time for the answer is over
    FC_SWARM_BUSY,    // it has too much to do
    FC_SWARM_LACKS,   // it has not got this segment
    FC_SWARM_RETRY,   // not its fault: it may be asked again
};

// fc_swarm_plan_failed: a request has failed. One that has ended before is left alone.
void fc_swarm_plan_failed(struct fc_swarm_plan *plan, uint64_t request, enum fc_swarm_failure failure, uint64_t now_us);

// fc_swarm_plan_written: in order, so many segments from the beginning need no more memory.
void fc_swarm_plan_written(struct fc_swarm_plan *plan, uint64_t segments);

// ---- What there is to know ----

struct fc_swarm_plan_totals {
    uint64_t segments_there;
    uint64_t segments_in_flight; // asked for or being checked
    uint64_t bytes_there;
    uint64_t duplicates; // segments that were asked of a second source
    uint64_t stolen;     // segments that were taken from a slow source
    bool is_nobody_up;
    bool is_nobody_left; // no source is up, and none will be: each is banned
};

void fc_swarm_plan_totals(const struct fc_swarm_plan *plan, struct fc_swarm_plan_totals *out);
unsigned fc_swarm_plan_source_count(const struct fc_swarm_plan *plan);
// fc_swarm_plan_progress fills in all but the name.
void fc_swarm_plan_progress(const struct fc_swarm_plan *plan, unsigned source, struct fc_source_progress *out);
// fc_swarm_plan_is_obtainable: some source that is not banned is said to have it, up or not.
bool fc_swarm_plan_is_obtainable(const struct fc_swarm_plan *plan, uint64_t segment);
bool fc_swarm_plan_is_there(const struct fc_swarm_plan *plan, uint64_t segment);

// fc_swarm_plan_check tells whether each segment is free, asked for, or there, and exactly one of them. For tests.
bool fc_swarm_plan_is_sound(const struct fc_swarm_plan *plan);

#endif
