// The server's key and certificate: those it was given, or its own in the data folder, made when there are none.
#ifndef DAEMON_DAEMON_TLS_H
#define DAEMON_DAEMON_TLS_H

#include "base/err.h"
#include "rpc/rpc_tls.h"
#include "services/daemon/daemon_options.h"

// daemon_tls_open reads them. may_make: makes them when options name none and the data folder has none.
// ERR_NOT_FOUND: there are none. `why` is a sentence for the operator.
enum err daemon_tls_open(const struct daemon_options *options, const char *data_dir, bool may_make,
    struct rpc_tls_server **out, struct err_detail *why) ERR_CHECKED;

#endif
