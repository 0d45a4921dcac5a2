// For libfc's downloads only: fetches the segments of one file, from all who have them.
#ifndef CLIENT_FC_SWARM_PRIV_H
#define CLIENT_FC_SWARM_PRIV_H

#include "client/fc_file.h"
#include "client/fc_part_priv.h"
#include "client/fc_peer_share_priv.h"

// fc_swarm_job is what is to be fetched and where to. All of it outlives the fetch.
struct fc_swarm_job {
    struct fc_session *session;
    const struct fc_transfer_options *options;
    const struct fc_file *file;  // of at least one segment
    const uint8_t *sha256s;      // of each segment, DIGEST_SHA256_BYTES
    struct fc_peer_share *share; // told what has arrived; NULL: nobody
    struct fc_part *part;        // segments are written to their place; NULL: to fd, in order
    int fd;
};

// fc_swarm_fetch fetches what is not in the part yet. While no source can be reached it waits as long as the options
// say: ERR_UNAVAILABLE then. ERR_CORRUPT: whoever is left sends bad segments; `why` names them. Other errors are those
// of the session's server, or of writing.
enum err fc_swarm_fetch(const struct fc_swarm_job *job, struct err_detail *why) ERR_CHECKED;

#endif
