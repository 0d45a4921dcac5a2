// A peer: this machine serves files that others may read to those of them who are downloading them, and says so to the
// server. One at a time for an account; `fc peer start` runs it.
//
// What it shares are files of given folders that the server knows, and what is downloaded on this machine; the latter
// also after it was started again. It serves nobody without a grant of the server's, and only what has the content that
// the server says.
#ifndef CLIENT_FC_PEER_H
#define CLIENT_FC_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "client/fc_session.h"

struct fc_peer;

struct fc_peer_options {
    const char *const *folders; // what the server knows of the files below them is shared; they are looked through in
                                // the background
    size_t folder_count;
    const char *listen_url;     // NULL: any free port, on loopback when the server is there, else with TLS at all
                                // addresses. Plaintext is for loopback only
    uint64_t limit_bytes_per_s; // what is sent at most; 0: no limit
};

// fc_peer_start starts it, with threads of its own, and waits a moment until the server knows of it. The session is
// used until fc_peer_free. ERR_CONFLICT: one runs already. ERR_DENIED and others: the server does not take it.
enum err fc_peer_start(struct fc_session *session, const struct fc_peer_options *options, struct fc_peer **out,
    struct err_detail *why) ERR_CHECKED;

// fc_peer_url is where it listens.
const char *fc_peer_url(const struct fc_peer *peer);

// fc_peer_wait waits until somebody asks it to stop, or a descriptor becomes readable.
void fc_peer_wait(struct fc_peer *peer, int stop_fd);

// fc_peer_free says goodbye, lets what is under way finish for a moment, and ends it.
void fc_peer_free(struct fc_peer **peer);

// fc_peer_dir writes the folder in which the peer of this account keeps what it has to remember, and its log.
enum err fc_peer_dir(struct fc_session *session, char path_out[FC_CONFIG_PATH_MAX_BYTES],
    struct err_detail *why) ERR_CHECKED;

// --- The peer of this account that runs, in another process. ERR_NOT_FOUND: none does.

struct fc_peer_state {
    const char *server_url;
    const char *const *urls;
    size_t url_count;
    bool is_announced; // the server knows of it
    uint32_t connections;
    uint32_t segments_in_flight;
    uint64_t sent_bytes;
    uint64_t sent_bytes_per_s;
    uint64_t limit_bytes_per_s; // 0: no limit
    uint64_t sent_segments;
    uint64_t shared_bytes;
    size_t file_count;
};

struct fc_peer_file {
    uint8_t id[16];
    const char *name;
    const char *path;
    uint64_t size_bytes;
    uint64_t segment_count;
    uint64_t held_segments;
    uint64_t sent_segments;
};

// fc_peer_ask tells how it is: on_state, and then on_file (may be NULL) for each file. Borrowed.
enum err fc_peer_ask(struct fc_session *session, void (*on_state)(void *context, const struct fc_peer_state *state),
    void (*on_file)(void *context, const struct fc_peer_file *file), void *context, struct err_detail *why) ERR_CHECKED;

// fc_peer_update has it look through its folders again. *shared_out: files that are shared; *unknown_out: files in the
// folders that the server does not know.
enum err fc_peer_update(struct fc_session *session, uint32_t *shared_out, uint32_t *unknown_out,
    struct err_detail *why) ERR_CHECKED;

// fc_peer_stop has it end, and waits until it has.
enum err fc_peer_stop(struct fc_session *session, struct err_detail *why) ERR_CHECKED;

#endif
