// Keeping a folder here and the files below a name on the server alike, both ways.
//
// What was alike at the end of a run is remembered in the data folder. What changed on one side since goes over. What
// changed on both becomes two files: the one of the server under the name, and the one from here as
// NAME.conflict-USER-DATE, on both sides. What was deleted on one side is deleted on the other only when that is asked
// for and the other has not changed it. Uploads tell the server which version they replace, so that one that came in
// between is not lost; and files here are replaced only if they are still what they were.
#ifndef CLIENT_FC_SYNC_H
#define CLIENT_FC_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "client/fc_file.h"
#include "client/fc_session.h"

enum fc_sync_action {
    FC_SYNC_UPLOAD,
    FC_SYNC_DOWNLOAD,
    FC_SYNC_DELETE_HERE,
    FC_SYNC_DELETE_THERE,
    FC_SYNC_CONFLICT,      // both are kept
    FC_SYNC_DELETED_HERE,  // and kept on the server, since deleting was not asked for
    FC_SYNC_DELETED_THERE, // and kept here
    FC_SYNC_SKIPPED,       // here, with the reason
    FC_SYNC_FAILED,        // with the reason
};

struct fc_sync {
    const char *folder;
    const char *remote; // the part of the names before the '/'
    bool is_dry_run;
    bool is_deleting;
    struct fc_rate *rate;
    bool (*is_cancelled)(void *context); // may be NULL
    // Told before something is done, or instead of it in a dry run; and with a reason afterwards when it failed.
    void (*tell)(void *context, enum fc_sync_action action, const char *name, const char *reason);
    void *context;
};

// fc_sync_run does one run. Failures of single files are told, and make it fail in the end with the first of them.
// ERR_BUSY: another run is at it; ERR_PRECONDITION: all files of one side are gone, and deleting was asked for.
enum err fc_sync_run(struct fc_session *session, const struct fc_sync *sync, struct err_detail *why) ERR_CHECKED;

#endif
