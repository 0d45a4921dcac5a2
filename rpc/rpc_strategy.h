// How a channel chooses among several servers.
#ifndef RPC_STRATEGY_H
#define RPC_STRATEGY_H

enum {
    RPC_SERVERS_MAX = 16, // of one channel
};

enum rpc_strategy {
    RPC_PICK_FIRST,  // stays with one server while its connection lasts
    RPC_ROUND_ROBIN, // each in turn
    RPC_RANDOM,
    RPC_LEAST_CPU,   // the one that says that its processors are the least busy
    RPC_TWO_CHOICES, // of two at random the one that promises the earlier answer
};

#endif
