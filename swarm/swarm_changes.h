// What has changed of which files since it was last told: gathered, so that many changes make few messages.
#ifndef SWARM_SWARM_CHANGES_H
#define SWARM_SWARM_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"
#include "swarm/swarm_store.h"

enum {
    SWARM_RANGES_MAX = 4096, // of one file; beyond it all that is there is told anew
};

struct swarm_range {
    uint64_t first;
    uint64_t count;
    bool is_gone;
};

// The changes of one file, in the order in which they came.
struct swarm_change {
    STAILQ_ENTRY(swarm_change) link;
    uint8_t file_id[E2E_GRANT_ID_BYTES];
    uint64_t segment_count;
    bool is_whole; // the ranges do not say all: what the store has of the file is told
    size_t range_count;
    size_t range_capacity;
    struct swarm_range *ranges;
};

STAILQ_HEAD(swarm_change_list, swarm_change);

// swarm_changes_add notes a change. ERR_NO_MEMORY: it is not noted.
enum err swarm_changes_add(struct swarm_change_list *list, const struct swarm_file *file, uint64_t first,
    uint64_t count, bool is_gone) ERR_CHECKED;

void swarm_change_free(struct swarm_change **change);
void swarm_changes_clear(struct swarm_change_list *list);

#endif
