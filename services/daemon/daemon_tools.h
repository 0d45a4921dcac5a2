// The commands of fcd beside serving: fcd check and fcd backup.
#ifndef DAEMON_DAEMON_TOOLS_H
#define DAEMON_DAEMON_TOOLS_H

#include "base/err.h"
#include "services/daemon/daemon_options.h"

// daemon_check reads everything that a stopped server has stored, and prints what is wrong and a summary on standard
// output. *is_well_out: nothing was, or it has been put right.
enum err daemon_check(const struct daemon_options *options, bool *is_well_out, struct err_detail *why) ERR_CHECKED;

// daemon_backup copies what a server has, which may be running, to a new folder with which another can be started.
// *is_well_out: nothing was missing.
enum err daemon_backup(const struct daemon_options *options, bool *is_well_out, struct err_detail *why) ERR_CHECKED;

#endif
