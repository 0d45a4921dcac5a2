// What a download from several servers tells about each of them, and how it chooses among them (docs/swarm.md).
#ifndef CLIENT_FC_SWARM_H
#define CLIENT_FC_SWARM_H

#include <stdbool.h>
#include <stdint.h>

// Who a source of segments is.
enum fc_swarm_kind {
    FC_SWARM_KIND_ORIGIN, // the session's server: has all
    FC_SWARM_KIND_MIRROR,
    FC_SWARM_KIND_PEER,
};

enum fc_swarm_state {
    FC_SWARM_STATE_UP,
    FC_SWARM_STATE_DRAINING, // answers what it was asked, and takes nothing new
    FC_SWARM_STATE_STALLED,  // owes segments and has sent nothing for too long
    FC_SWARM_STATE_STOPPED,  // by its operator
    FC_SWARM_STATE_DOWN,     // cannot be reached
    FC_SWARM_STATE_BANNED,   // has sent too many bad segments
};

// How the next source is chosen.
enum fc_balance {
    FC_BALANCE_ADAPTIVE, // who is expected to bring it first, by what each has shown; the slow ones' work is taken over
    FC_BALANCE_ROUND_ROBIN,
    FC_BALANCE_RANDOM,
    FC_BALANCE_LEAST_CPU,   // by what the servers say of themselves
    FC_BALANCE_TWO_CHOICES, // of two at random the one that owes less
    FC_BALANCE_MEDIATOR,    // the tracker says, for all readers in turn
};

enum {
    FC_BALANCE_COUNT = FC_BALANCE_MEDIATOR + 1,
    FC_SWARM_NAME_MAX_BYTES = 72, // with its NUL
};

// fc_source_progress is what one source has given to a download.
struct fc_source_progress {
    char name[FC_SWARM_NAME_MAX_BYTES]; // of the tracker or the URL; may hold anything
    enum fc_swarm_kind kind;
    enum fc_swarm_state state;
    uint64_t segments; // verified
    uint64_t bytes;    // of them
    uint64_t bytes_per_s;
    uint64_t in_flight_segments;
    uint64_t retries; // segments that were asked of it and given back
    uint64_t corrupt_segments;
};

// fc_balance_name and fc_swarm_state_name are for people and JSON; static.
const char *fc_balance_name(enum fc_balance balance);
const char *fc_swarm_kind_name(enum fc_swarm_kind kind);
const char *fc_swarm_state_name(enum fc_swarm_state state);

#endif
