#include "services/chat/chat_operation.h"

#include <stdlib.h>

struct chat_user
chat_caller(const struct rpc_call *call)
{
    const struct rpc_identity *identity = rpc_call_identity(call);
    return (struct chat_user){.id = identity->subject_id, .name = identity->subject_name};
}

void *
chat_operation_new(struct chat_service *chat, struct rpc_call *call, size_t size)
{
    struct chat_operation *operation = calloc(1, size);
    if (operation == NULL) {
        rpc_call_fail(call, ERR_NO_MEMORY, "the server is out of memory; try again later");
        return NULL;
    }
    operation->chat = chat;
    operation->call = call;
    pthread_mutex_lock(&chat->mutex);
    chat->locked.operations++;
    pthread_mutex_unlock(&chat->mutex);
    return operation;
}

void
chat_operation_free(struct chat_operation *operation)
{
    struct chat_service *chat = operation->chat;
    free(operation);
    pthread_mutex_lock(&chat->mutex);
    chat->locked.operations--;
    if (chat->locked.operations == 0) {
        pthread_cond_broadcast(&chat->idle);
    }
    pthread_mutex_unlock(&chat->mutex);
}

void
chat_operation_start(struct chat_operation *operation, enum err (*run)(struct store_tx *tx, struct store_job *job),
    void (*done)(struct store_job *job, enum err result))
{
    operation->job.run = run;
    operation->job.done = done;
    store_write(operation->chat->store, &operation->job);
}

bool
chat_operation_fail(struct chat_operation *operation, enum err result)
{
    if (result == ERR_OK) {
        return false;
    }
    chat_fail(operation->call, result, &operation->why);
    chat_operation_free(operation);
    return true;
}
