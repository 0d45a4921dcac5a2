// The server as a whole: its data folder, its services, and how they reach each other.
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "base/bytes.h"
#include "base/err.h"
#include "services/daemon/daemon_options.h"

struct daemon;

// daemon_new locks and opens the data folder and listens. `why` is a sentence for the operator.
enum err daemon_new(const struct daemon_options *options, struct daemon **out, struct err_detail *why) ERR_CHECKED;

// daemon_ready_line is "ready rpc=URL[,URL...] http=URL\n" with the URLs as they really are. Valid as long as the
// daemon.
struct bytes_view daemon_ready_line(const struct daemon *daemon);

// daemon_reload_tls reads certificate and key again, for connections from now on; the log says how it went.
void daemon_reload_tls(struct daemon *daemon);

// daemon_drain takes no new calls and lets those in flight finish for at most timeout_ms.
void daemon_drain(struct daemon *daemon, unsigned timeout_ms);

void daemon_free(struct daemon **daemon);

#endif
