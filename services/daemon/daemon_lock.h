// One fcd to a data folder.
#ifndef DAEMON_DAEMON_LOCK_H
#define DAEMON_DAEMON_LOCK_H

#include "base/err.h"

// In the data folder: a backup holds a shared lock on it, and the server removes no content meanwhile.
#define DAEMON_BACKUP_LOCK "backup.lock"

// daemon_lock_take locks DIR/lock and writes this process's pid into it. The lock ends with the process at the latest.
// ERR_BUSY: `why` names the process that has it.
enum err daemon_lock_take(const char *dir, int *fd_out, struct err_detail *why) ERR_CHECKED;

// daemon_lock_release ends it; -1 is fine.
void daemon_lock_release(int *fd);

#endif
