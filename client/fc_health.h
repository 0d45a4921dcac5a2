// Whether a server takes calls: fc.rpc.v1.Health.
#ifndef CLIENT_FC_HEALTH_H
#define CLIENT_FC_HEALTH_H

#include <stdbool.h>

#include "base/err.h"
#include "client/fc_session.h"

// fc_health_check asks about a service, such as "fc.chat.v1.Chat", or with "" about the server as a whole. It needs no
// login, blocks for 5 s at most, and any thread may call it. ERR_NOT_FOUND: the server has no such service;
// ERR_UNAVAILABLE, ERR_TIMEOUT: it cannot be reached, or does not answer.
enum err fc_health_check(struct fc_session *session, const char *service, bool *is_serving_out,
    struct err_detail *why) ERR_CHECKED;

#endif
