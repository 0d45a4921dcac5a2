// Where the server listens.
#ifndef DAEMON_DAEMON_LISTEN_H
#define DAEMON_DAEMON_LISTEN_H

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_server.h"
#include "services/daemon/daemon_options.h"

// daemon_listen_check refuses addresses of the wrong kind, and those that others can reach without TLS unless that was
// asked for. ERR_INVALID.
enum err daemon_listen_check(const struct daemon_options *options, struct err_detail *why) ERR_CHECKED;

// daemon_listen opens all listeners and writes the line that says where they are.
enum err daemon_listen(struct rpc_server *server, const struct daemon_options *options, const char *data_dir,
    struct bytes *ready_line, struct err_detail *why) ERR_CHECKED;

#endif
