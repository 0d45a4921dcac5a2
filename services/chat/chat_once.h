// Changes of rooms happen once per request id: they are rare, so that who asked for which is kept for good. As
// chat_core.h.
#ifndef CHAT_CHAT_ONCE_H
#define CHAT_CHAT_ONCE_H

#include <stdint.h>

#include "base/err.h"
#include "services/chat/chat_log.h"

// chat_once_find looks for what this request did before; `what` is the method. ERR_NOT_FOUND: it is new. ERR_CONFLICT:
// the request id belongs to another method's call.
enum err chat_once_find(const struct chat_change *change, const char *what,
    uint8_t room_id_out[CHAT_ID_BYTES]) ERR_CHECKED;

// chat_once_require is for methods that need a request id. ERR_INVALID.
enum err chat_once_require(const struct chat_change *change, const char *what) ERR_CHECKED;

enum err chat_once_keep(const struct chat_change *change, const char *what,
    const uint8_t room_id[CHAT_ID_BYTES]) ERR_CHECKED;

#endif
