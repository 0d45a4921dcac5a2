// For the sources of the Chat service only: a call that changes something, between its request and its answer.
//
// A handler makes an operation and queues it; `run` makes the change and `done` answers, both on the store's writer
// thread. The request lives until the answer.
#ifndef CHAT_CHAT_OPERATION_H
#define CHAT_CHAT_OPERATION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "rpc/rpc_call.h"
#include "services/chat/chat_core.h"
#include "services/chat/chat_service_priv.h"
#include "services/store/store.h"

// chat_operation stands first in the struct of each method.
struct chat_operation {
    struct store_job job; // first: callbacks get its address
    struct chat_service *chat;
    struct rpc_call *call;
    struct err_detail why;
};

// chat_operation_new allocates size zeroed bytes, which begin with an operation. It answers by itself when it returns
// NULL.
void *chat_operation_new(struct chat_service *chat, struct rpc_call *call, size_t size);

void chat_operation_start(struct chat_operation *operation, enum err (*run)(struct store_tx *tx, struct store_job *job),
    void (*done)(struct store_job *job, enum err result));

// chat_operation_fail answers and frees if result is an error. Returns whether it did.
bool chat_operation_fail(struct chat_operation *operation, enum err result);

// chat_operation_free is the last thing that an operation does with the service.
void chat_operation_free(struct chat_operation *operation);

// chat_caller is who makes a call that needs a token.
struct chat_user chat_caller(const struct rpc_call *call);

#endif
