// Peace and quiet: blocking somebody, and telling those who run the server of a message. Blocking functions; any thread
// may call them.
#ifndef CLIENT_FC_PEOPLE_H
#define CLIENT_FC_PEOPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "client/fc_room.h"
#include "client/fc_session.h"

// fc_people_block makes a user unable to write to one directly, and to add or invite one. The user is not told.
// Blocking twice, and ending what has not begun, is no error. ERR_NOT_FOUND: no such user.
enum err fc_people_block(struct fc_session *session, const char *user_name, bool is_unblock,
    struct err_detail *why) ERR_CHECKED;

// fc_people_each_block calls fn for those whom one has blocked, by name; it returns false to stop.
enum err fc_people_each_block(struct fc_session *session, bool (*fn)(void *context, const char *user_name),
    void *context, struct err_detail *why) ERR_CHECKED;

// fc_people_show_presence says whether others may see that one follows a room; at first they may not.
enum err fc_people_show_presence(struct fc_session *session, bool is_shown, struct err_detail *why) ERR_CHECKED;

// fc_people_each_present calls fn for those of a room's members who follow it now and let it be known, by name, until
// it returns false.
enum err fc_people_each_present(struct fc_session *session, const char *room,
    bool (*fn)(void *context, const char *user_name), void *context, struct err_detail *why) ERR_CHECKED;

struct fc_report {
    const char *room;
    uint64_t seq;
    const char *reason; // at most 1,000 bytes
    // Encrypted rooms: the key of this message (76 bytes), with which the operators can read it and no other; or NULL.
    const uint8_t *message_key;
};

enum {
    FC_PEOPLE_REASON_MAX_BYTES = 1000,
    FC_PEOPLE_MESSAGE_KEY_BYTES = 76,
};

enum err fc_people_report(struct fc_session *session, const struct fc_report *report,
    struct err_detail *why) ERR_CHECKED;

// A report as those who run the server see it. Borrowed, valid during the call.
struct fc_reported {
    uint64_t id;
    const char *reporter;
    const char *reason;
    int64_t reported_unix_ms;
    const char *room;
    struct fc_message message; // as it was then; of an encrypted one the text is there if its reporter revealed it
    bool is_revealed;
};

// fc_people_each_report calls fn for the reports after after_id, over as many pages as it takes. ERR_DENIED: the
// user is no admin of the server.
enum err fc_people_each_report(struct fc_session *session, uint64_t after_id,
    bool (*fn)(void *context, const struct fc_reported *reported), void *context, struct err_detail *why) ERR_CHECKED;

#endif
