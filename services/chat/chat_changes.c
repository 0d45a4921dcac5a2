// The methods that change rooms and their people: each is a store job that answers from its done callback, on the
// store's writer thread.
#include <stdlib.h>
#include <string.h>

#include "services/chat/chat_core.h"
#include "services/chat/chat_service_priv.h"
#include "services/chat/chat_wire.h"

static struct chat_user
user_of(const struct rpc_call *call)
{
    const struct rpc_identity *identity = rpc_call_identity(call);
    return (struct chat_user){.id = identity->subject_id, .name = identity->subject_name};
}

// operation is a call that changes something: its job, what it was asked, and what came of it. The request lives until
// the answer.
struct operation {
    struct store_job job; // first: callbacks get its address
    struct chat_service *chat;
    struct rpc_call *call;
    struct err_detail why;
    union {
        const Fc__Chat__V1__CreateRoomRequest *create_room;
        const Fc__Chat__V1__JoinRequest *join;
        const Fc__Chat__V1__LeaveRequest *leave;
    } request;
    union {
        Fc__Chat__V1__CreateRoomResponse_Closure create_room;
        Fc__Chat__V1__JoinResponse_Closure join;
        Fc__Chat__V1__LeaveResponse_Closure leave;
    } reply;
    struct chat_room room;
    bool is_resend;
};

// operation_new answers by itself when it returns NULL.
static struct operation *
operation_new(Fc__Chat__V1__Chat_Service *service, struct rpc_call *call)
{
    struct operation *operation = calloc(1, sizeof(*operation));
    if (operation == NULL) {
        rpc_call_fail(call, ERR_NO_MEMORY, "the server is out of memory; try again later");
        return NULL;
    }
    operation->chat = (struct chat_service *)service;
    operation->call = call;
    pthread_mutex_lock(&operation->chat->mutex);
    operation->chat->locked.operations++;
    pthread_mutex_unlock(&operation->chat->mutex);
    return operation;
}

// operation_free is the last thing that an operation does with the service.
static void
operation_free(struct operation *operation)
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

static void
operation_start(struct operation *operation, enum err (*run)(struct store_tx *tx, struct store_job *job),
    void (*done)(struct store_job *job, enum err result))
{
    operation->job.run = run;
    operation->job.done = done;
    store_write(operation->chat->store, &operation->job);
}

// operation_fail answers and frees if result is an error. Returns whether it did.
static bool
operation_fail(struct operation *operation, enum err result)
{
    if (result == ERR_OK) {
        return false;
    }
    chat_fail(operation->call, result, &operation->why);
    operation_free(operation);
    return true;
}

static enum err
run_create_room(struct store_tx *tx, struct store_job *job)
{
    struct operation *operation = (struct operation *)job;
    const Fc__Chat__V1__CreateRoomRequest *request = operation->request.create_room;
    struct chat_user user = user_of(operation->call);
    memset(&operation->why, 0, sizeof(operation->why));
    return chat_core_create_room(tx, &user, rpc_call_request_id(operation->call), request->name, &operation->room,
        &operation->why);
}

static void
done_create_room(struct store_job *job, enum err result)
{
    struct operation *operation = (struct operation *)job;
    if (operation_fail(operation, result)) {
        return;
    }
    Fc__Chat__V1__Room room;
    Fc__Chat__V1__CreateRoomResponse response = FC__CHAT__V1__CREATE_ROOM_RESPONSE__INIT;
    chat_wire_room(&operation->room, &room);
    response.room = &room;
    operation->reply.create_room(&response, operation->call);
    operation_free(operation);
}

void
chat_changes_create_room(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__CreateRoomRequest *request,
    Fc__Chat__V1__CreateRoomResponse_Closure reply, void *closure_data)
{
    struct rpc_call *call = closure_data;
    if (!request->is_plain) {
        rpc_call_fail(call, ERR_PRECONDITION,
            "this server has no encrypted rooms; fc room create --plain makes one whose messages the server can read");
        return;
    }
    struct operation *operation = operation_new(service, call);
    if (operation == NULL) {
        return;
    }
    operation->request.create_room = request;
    operation->reply.create_room = reply;
    operation_start(operation, run_create_room, done_create_room);
}

static enum err
run_join(struct store_tx *tx, struct store_job *job)
{
    struct operation *operation = (struct operation *)job;
    struct chat_user user = user_of(operation->call);
    memset(&operation->why, 0, sizeof(operation->why));
    return chat_core_join(tx, &user, rpc_call_request_id(operation->call), operation->request.join->room,
        &operation->room, &operation->why);
}

static void
done_join(struct store_job *job, enum err result)
{
    struct operation *operation = (struct operation *)job;
    if (operation_fail(operation, result)) {
        return;
    }
    Fc__Chat__V1__Room room;
    Fc__Chat__V1__JoinResponse response = FC__CHAT__V1__JOIN_RESPONSE__INIT;
    chat_wire_room(&operation->room, &room);
    response.room = &room;
    operation->reply.join(&response, operation->call);
    operation_free(operation);
}

void
chat_changes_join(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__JoinRequest *request,
    Fc__Chat__V1__JoinResponse_Closure reply, void *closure_data)
{
    struct operation *operation = operation_new(service, closure_data);
    if (operation == NULL) {
        return;
    }
    operation->request.join = request;
    operation->reply.join = reply;
    operation_start(operation, run_join, done_join);
}

static enum err
run_leave(struct store_tx *tx, struct store_job *job)
{
    struct operation *operation = (struct operation *)job;
    struct chat_user user = user_of(operation->call);
    memset(&operation->why, 0, sizeof(operation->why));
    return chat_core_leave(tx, &user, rpc_call_request_id(operation->call), operation->request.leave->room,
        operation->room.id, &operation->is_resend, &operation->why);
}

static void
done_leave(struct store_job *job, enum err result)
{
    struct operation *operation = (struct operation *)job;
    if (operation_fail(operation, result)) {
        return;
    }
    // A resend must not end what a join after the first one has begun.
    if (!operation->is_resend) {
        chat_fanout_end_membership(operation->chat->fanout, operation->room.id,
            rpc_call_identity(operation->call)->subject_id);
    }
    Fc__Chat__V1__LeaveResponse response = FC__CHAT__V1__LEAVE_RESPONSE__INIT;
    operation->reply.leave(&response, operation->call);
    operation_free(operation);
}

void
chat_changes_leave(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__LeaveRequest *request,
    Fc__Chat__V1__LeaveResponse_Closure reply, void *closure_data)
{
    struct operation *operation = operation_new(service, closure_data);
    if (operation == NULL) {
        return;
    }
    operation->request.leave = request;
    operation->reply.leave = reply;
    operation_start(operation, run_leave, done_leave);
}
