// fcd --role segment: a mirror, which has segments of another fcd's files and no database.
#ifndef DAEMON_DAEMON_MIRROR_H
#define DAEMON_DAEMON_MIRROR_H

#include "base/bytes.h"
#include "base/err.h"
#include "services/daemon/daemon_options.h"

struct daemon_mirror;

// daemon_mirror_new starts it, and waits a moment for the origin's tracker to know of it. One that cannot be reached is
// tried for as long as the mirror runs; one that refuses ends the start: ERR_DENIED when the token is no
// administrator's.
enum err daemon_mirror_new(const struct daemon_options *options, struct daemon_mirror **out,
    struct err_detail *why) ERR_CHECKED;

// The same as daemon_ready_line and so on of daemon.h.
struct bytes_view daemon_mirror_ready_line(const struct daemon_mirror *mirror);
void daemon_mirror_reload_tls(struct daemon_mirror *mirror);
void daemon_mirror_drain(struct daemon_mirror *mirror, unsigned timeout_ms);
void daemon_mirror_free(struct daemon_mirror **mirror);

#endif
