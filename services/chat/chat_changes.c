// The methods that change rooms and their people: each is a store job that answers from its done callback, on the
// store's writer thread. Those who are no longer members get nothing more of the room before the answer.
#include <string.h>

#include "services/chat/chat_blocks.h"
#include "services/chat/chat_operation.h"
#include "services/chat/chat_rooms.h"
#include "services/chat/chat_wire.h"

struct room_operation {
    struct chat_operation base; // first
    union {
        const Fc__Chat__V1__CreateRoomRequest *create_room;
        const Fc__Chat__V1__JoinRequest *join;
        const Fc__Chat__V1__LeaveRequest *leave;
        const Fc__Chat__V1__AmendRequest *amend;
    } request;
    union {
        Fc__Chat__V1__CreateRoomResponse_Closure create_room;
        Fc__Chat__V1__JoinResponse_Closure join;
        Fc__Chat__V1__LeaveResponse_Closure leave;
        Fc__Chat__V1__AmendResponse_Closure amend;
    } reply;
    struct chat_outcome outcome;
};

static void
room_operation_free(struct room_operation *operation)
{
    chat_outcome_deinit(&operation->outcome);
    chat_operation_free(&operation->base);
}

// begin is for each run, of which there may be several.
static struct chat_change
begin(struct room_operation *operation, struct store_tx *tx)
{
    chat_outcome_deinit(&operation->outcome);
    memset(&operation->base.why, 0, sizeof(operation->base.why));
    return (struct chat_change){
        .tx = tx,
        .user = chat_caller(operation->base.call),
        .request_id = rpc_call_request_id(operation->base.call),
        .people = &operation->base.chat->people,
        .why = &operation->base.why,
    };
}

// settle tells those whom it concerns, before the caller is answered. Returns false when it has answered an error. A
// resend must not end what came after the first one.
static bool
settle(struct room_operation *operation, enum err result)
{
    const struct chat_outcome *outcome = &operation->outcome;
    struct chat_fanout *fanout = operation->base.chat->fanout;
    if (result != ERR_OK) {
        chat_fail(operation->base.call, result, &operation->base.why);
        room_operation_free(operation);
        return false;
    }
    for (size_t i = 0; i < outcome->ended_count; i++) {
        chat_fanout_end_membership(fanout, outcome->room.id, outcome->ended[i].bytes);
    }
    if (outcome->log_seq != 0) {
        chat_fanout_publish_log(fanout, outcome->room.id, outcome->log_seq);
    }
    return true;
}

static enum err
run_create_room(struct store_tx *tx, struct store_job *job)
{
    struct room_operation *operation = (struct room_operation *)job;
    struct chat_change change = begin(operation, tx);
    return chat_rooms_create(&change, operation->request.create_room, &operation->outcome);
}

static void
done_create_room(struct store_job *job, enum err result)
{
    struct room_operation *operation = (struct room_operation *)job;
    if (!settle(operation, result)) {
        return;
    }
    Fc__Chat__V1__Room room;
    Fc__Chat__V1__CreateRoomResponse response = FC__CHAT__V1__CREATE_ROOM_RESPONSE__INIT;
    chat_wire_room(&operation->outcome.room, &room);
    response.room = &room;
    operation->reply.create_room(&response, operation->base.call);
    room_operation_free(operation);
}

void
chat_changes_create_room(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__CreateRoomRequest *request,
    Fc__Chat__V1__CreateRoomResponse_Closure reply, void *closure_data)
{
    struct room_operation *operation =
        chat_operation_new((struct chat_service *)service, closure_data, sizeof(struct room_operation));
    if (operation != NULL) {
        operation->request.create_room = request;
        operation->reply.create_room = reply;
        chat_operation_start(&operation->base, run_create_room, done_create_room);
    }
}

static enum err
run_join(struct store_tx *tx, struct store_job *job)
{
    struct room_operation *operation = (struct room_operation *)job;
    struct chat_change change = begin(operation, tx);
    return chat_rooms_join(&change, operation->request.join, &operation->outcome);
}

static void
done_join(struct store_job *job, enum err result)
{
    struct room_operation *operation = (struct room_operation *)job;
    if (!settle(operation, result)) {
        return;
    }
    Fc__Chat__V1__Room room;
    Fc__Chat__V1__JoinResponse response = FC__CHAT__V1__JOIN_RESPONSE__INIT;
    chat_wire_room(&operation->outcome.room, &room);
    response.room = &room;
    operation->reply.join(&response, operation->base.call);
    room_operation_free(operation);
}

void
chat_changes_join(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__JoinRequest *request,
    Fc__Chat__V1__JoinResponse_Closure reply, void *closure_data)
{
    struct room_operation *operation =
        chat_operation_new((struct chat_service *)service, closure_data, sizeof(struct room_operation));
    if (operation != NULL) {
        operation->request.join = request;
        operation->reply.join = reply;
        chat_operation_start(&operation->base, run_join, done_join);
    }
}

static enum err
run_leave(struct store_tx *tx, struct store_job *job)
{
    struct room_operation *operation = (struct room_operation *)job;
    struct chat_change change = begin(operation, tx);
    return chat_rooms_leave(&change, operation->request.leave, &operation->outcome);
}

static void
done_leave(struct store_job *job, enum err result)
{
    struct room_operation *operation = (struct room_operation *)job;
    if (!settle(operation, result)) {
        return;
    }
    Fc__Chat__V1__LeaveResponse response = FC__CHAT__V1__LEAVE_RESPONSE__INIT;
    operation->reply.leave(&response, operation->base.call);
    room_operation_free(operation);
}

void
chat_changes_leave(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__LeaveRequest *request,
    Fc__Chat__V1__LeaveResponse_Closure reply, void *closure_data)
{
    struct room_operation *operation =
        chat_operation_new((struct chat_service *)service, closure_data, sizeof(struct room_operation));
    if (operation != NULL) {
        operation->request.leave = request;
        operation->reply.leave = reply;
        chat_operation_start(&operation->base, run_leave, done_leave);
    }
}

static enum err
run_amend(struct store_tx *tx, struct store_job *job)
{
    struct room_operation *operation = (struct room_operation *)job;
    struct chat_change change = begin(operation, tx);
    return chat_rooms_amend(&change, operation->request.amend, &operation->outcome);
}

static void
done_amend(struct store_job *job, enum err result)
{
    struct room_operation *operation = (struct room_operation *)job;
    if (!settle(operation, result)) {
        return;
    }
    Fc__Chat__V1__Room room;
    Fc__Chat__V1__AmendResponse response = FC__CHAT__V1__AMEND_RESPONSE__INIT;
    chat_wire_room(&operation->outcome.room, &room);
    response.room = &room;
    operation->reply.amend(&response, operation->base.call);
    room_operation_free(operation);
}

void
chat_changes_amend(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__AmendRequest *request,
    Fc__Chat__V1__AmendResponse_Closure reply, void *closure_data)
{
    struct room_operation *operation =
        chat_operation_new((struct chat_service *)service, closure_data, sizeof(struct room_operation));
    if (operation != NULL) {
        operation->request.amend = request;
        operation->reply.amend = reply;
        chat_operation_start(&operation->base, run_amend, done_amend);
    }
}

// --- Block ---------------------------------------------------------------------------------------------------------

struct block_operation {
    struct chat_operation base; // first
    const Fc__Chat__V1__BlockRequest *request;
    Fc__Chat__V1__BlockResponse_Closure reply;
};

static enum err
run_block(struct store_tx *tx, struct store_job *job)
{
    struct block_operation *operation = (struct block_operation *)job;
    const Fc__Chat__V1__BlockRequest *request = operation->request;
    uint8_t blocked_id[CHAT_ID_BYTES];
    memset(&operation->base.why, 0, sizeof(operation->base.why));
    enum err err =
        chat_people_find_id(&operation->base.chat->people, tx, request->user_name, blocked_id, &operation->base.why);
    if (err != ERR_OK) {
        return err;
    }
    return chat_blocks_set(tx, rpc_call_identity(operation->base.call)->subject_id,
        &(struct chat_user){.id = blocked_id, .name = request->user_name}, !request->is_unblock, &operation->base.why);
}

static void
done_block(struct store_job *job, enum err result)
{
    struct block_operation *operation = (struct block_operation *)job;
    if (chat_operation_fail(&operation->base, result)) {
        return;
    }
    Fc__Chat__V1__BlockResponse response = FC__CHAT__V1__BLOCK_RESPONSE__INIT;
    operation->reply(&response, operation->base.call);
    chat_operation_free(&operation->base);
}

void
chat_changes_block(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__BlockRequest *request,
    Fc__Chat__V1__BlockResponse_Closure reply, void *closure_data)
{
    struct block_operation *operation =
        chat_operation_new((struct chat_service *)service, closure_data, sizeof(struct block_operation));
    if (operation != NULL) {
        operation->request = request;
        operation->reply = reply;
        chat_operation_start(&operation->base, run_block, done_block);
    }
}
