// How rooms and their people change: each function makes one entry of a room's log, or takes the one that the caller
// has signed, once per request_id. As chat_core.h; the caller deinits the outcome, also after a failure.
#ifndef CHAT_CHAT_ROOMS_H
#define CHAT_CHAT_ROOMS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"
#include "services/chat/chat_log.h"

#include "fc/chat/v1/chat.pb-c.h"

// chat_rooms_create makes a room with its creator as owner and first member. The request id is needed. ERR_EXISTS: the
// name is taken, or there is a direct room of these two.
enum err chat_rooms_create(const struct chat_change *change, const Fc__Chat__V1__CreateRoomRequest *request,
    struct chat_outcome *out) ERR_CHECKED;

// chat_rooms_join makes the user a member; already being one is no error. With a request id (may be empty) a late
// resend does not undo a leave that came after it.
enum err chat_rooms_join(const struct chat_change *change, const Fc__Chat__V1__JoinRequest *request,
    struct chat_outcome *out) ERR_CHECKED;

// chat_rooms_leave ends a membership or refuses an invitation. ERR_PRECONDITION: there is none, or the user is the only
// owner of a room with others in it. A resend of the same request id (may be empty) changes nothing and succeeds.
enum err chat_rooms_leave(const struct chat_change *change, const Fc__Chat__V1__LeaveRequest *request,
    struct chat_outcome *out) ERR_CHECKED;

// chat_rooms_amend changes a room and its people. The request id is needed.
enum err chat_rooms_amend(const struct chat_change *change, const Fc__Chat__V1__AmendRequest *request,
    struct chat_outcome *out) ERR_CHECKED;

#endif
