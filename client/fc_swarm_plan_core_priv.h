// For fc_swarm_plan.c and fc_swarm_plan_choose.c: what a plan is made of.
#ifndef CLIENT_FC_SWARM_PLAN_CORE_PRIV_H
#define CLIENT_FC_SWARM_PLAN_CORE_PRIV_H

#include "client/fc_swarm_plan_priv.h"

enum {
    FC_SWARM_WINDOW_LEAST_SEGMENTS = 2,
    FC_SWARM_WINDOW_MOST_BYTES = 16 * 1024 * 1024,
    FC_SWARM_US_PER_S = 1000 * 1000,
    FC_SWARM_BAD_MAX = 8,        // segments that are remembered of a source because they were bad
    FC_SWARM_PICKS_MAX = 16,     // of the mediator, ahead of use
    FC_SWARM_STRIKES_SERVER = 3, // bad segments after which it is not asked any more; of a peer one
    FC_SWARM_TRIES_ORIGIN = 5,   // of one segment, when there is nobody else
};

enum fc_swarm_segment {
    FC_SWARM_FREE,
    FC_SWARM_ASKED,
    FC_SWARM_ARRIVED,
    FC_SWARM_THERE,
};

struct fc_swarm_request {
    uint64_t id; // 0: not in use. Of two of a source the older has the smaller
    unsigned source;
    uint64_t segment;
    uint32_t size;
    uint64_t asked_us;
    bool has_arrived;
    bool is_duplicate;
};

struct fc_swarm_source {
    enum fc_swarm_kind kind;
    enum fc_swarm_state state;
    bool is_probing;
    bool is_complete; // `bits` is NULL until the first segment is missing
    uint8_t *bits;    // one each; NULL: all or none
    unsigned cpu_permille;

    // How fast it is.
    uint64_t srtt_us;
    bool has_srtt;
    double rate;            // bytes/us, while it owed something
    double rate_weight;     // how much of a full average that is: 0 to 1
    bool is_starting;       // the window doubles with each windowful
    uint64_t window;        // then, in bytes
    uint64_t heard_bytes;   // in all
    uint64_t heard_us;      // when the rate was reckoned last
    uint64_t last_byte_us;  // when a byte came, or it began to owe
    uint64_t partial_bytes; // that have come of the oldest request
    uint64_t owed_bytes;    // asked for and not arrived
    unsigned owed_requests;

    // What it may still be trusted with.
    unsigned strikes;
    struct {
        uint64_t segment;
        unsigned count; // 0: not in use
    } bad[FC_SWARM_BAD_MAX];

    uint64_t probe_us;  // when it is asked again whether it is there; while it is not up
    uint64_t urgent_us; // the same while nobody is up
    unsigned probe_failures;
    unsigned deaths;   // since it has last served for a while
    uint64_t up_us;    // since when it is up
    uint64_t pause_us; // until then it is not asked, because it was busy

    uint64_t cursor; // segment after the last one that it was asked for

    uint64_t segments;
    uint64_t bytes;
    uint64_t retries;
    uint64_t corrupt;
};

struct fc_swarm_plan {
    struct fc_swarm_plan_options options;
    uint64_t segment_count;
    uint8_t *states;     // enum fc_swarm_segment of each
    uint16_t *copies;    // of each, among peers that are up
    uint64_t first_open; // before it nothing is free
    uint64_t base;       // in order: what has been written
    uint64_t free_segments;
    uint64_t there_segments;
    uint64_t there_bytes;
    uint64_t busy_bytes; // asked for or being checked
    uint64_t random;

    struct fc_swarm_source sources[FC_SWARM_SOURCES_MAX];
    unsigned source_count;
    unsigned peers_up;
    unsigned turn; // of round robin

    struct fc_swarm_request requests[FC_SWARM_REQUESTS_MAX];
    unsigned request_count;
    unsigned requests_end; // all in use are below
    uint64_t next_id;
    uint64_t cancels[FC_SWARM_REQUESTS_MAX];
    unsigned cancel_count;
    bool has_heir; // of what was taken from another source
    unsigned heir;
    uint64_t inherited;

    unsigned picks[FC_SWARM_PICKS_MAX];
    unsigned pick_count;

    uint64_t duplicate_bytes;
    uint64_t duplicates;
    uint64_t stolen;
};

uint64_t fc_swarm_random(struct fc_swarm_plan *plan, uint64_t below);
uint32_t fc_swarm_segment_size(const struct fc_swarm_plan *plan, uint64_t segment);

// fc_swarm_has: the source is said to have it.
bool fc_swarm_has(const struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t segment);

// fc_swarm_may_serve: it has it, and has not sent it bad while there are others to ask.
bool fc_swarm_may_serve(const struct fc_swarm_plan *plan, const struct fc_swarm_source *source, uint64_t segment);

// fc_swarm_end_request takes a request back; its segment is free again when nobody else was asked for it. is_told: its
// caller knows, so that no order to cancel it follows.
void fc_swarm_end_request(struct fc_swarm_plan *plan, struct fc_swarm_request *request, bool is_told, uint64_t now_us);

// fc_swarm_rate is bytes/us; 0: not known yet.
double fc_swarm_rate(const struct fc_swarm_source *source);

// fc_swarm_leave_up takes a source out of use.
void fc_swarm_leave_up(struct fc_swarm_plan *plan, unsigned source, enum fc_swarm_state state, uint64_t now_us);

#endif
