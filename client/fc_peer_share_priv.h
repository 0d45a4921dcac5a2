// For libfc's downloads only: tells the peer of this account, if one runs, which segments of a file are here, so that
// it serves them while the rest is fetched. It never holds a download up, and what fails is nobody's concern.
#ifndef CLIENT_FC_PEER_SHARE_PRIV_H
#define CLIENT_FC_PEER_SHARE_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "client/fc_file.h"
#include "client/fc_session.h"

struct fc_peer_share;

// fc_peer_share_open begins to share what is downloaded into this descriptor, which is PATH.part and becomes PATH.
// NULL: no peer runs. It does not wait for anybody.
struct fc_peer_share *fc_peer_share_open(struct fc_session *session, const struct fc_file *file, int part_fd);

// fc_peer_share_note: a segment was verified and written. Any thread; NULL is fine. The peer hears of it within a fifth
// of a second.
void fc_peer_share_note(struct fc_peer_share *share, uint64_t index);

// fc_peer_share_close ends it. is_finished: all of it is there, and has its name; the peer goes on sharing it. Waits
// for the peer for some two seconds at most. NULL is fine.
void fc_peer_share_close(struct fc_peer_share **share, bool is_finished);

#endif
