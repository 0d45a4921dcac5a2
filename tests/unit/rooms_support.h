// A Chat service with four people, and calls of its methods as one of them.
#ifndef ROOMS_SUPPORT_H
#define ROOMS_SUPPORT_H

#include <ftw.h>
#include <stdio.h>

#include "rpc/rpc_channel.h"
#include "rpc/rpc_server.h"
#include "services/chat/chat_log.h"
#include "services/chat/chat_service.h"
#include "tests/unit/people_support.h"

#include "fc/chat/v1/chat.pb-c.h"

enum { ALICE, BOB, CAROL, DAVE, PEOPLE };

static struct person people[PEOPLE];
static struct rpc_channel *channels[PEOPLE];
static struct store *store;
static struct rpc_server *server;
static struct chat_service *chat;
static char folder[64];
static char url[RPC_URL_MAX_BYTES];

// The newest call, whose response lives until the next.
static struct rpc_unary call;
static bool has_call;
static struct err_detail why;
static uint8_t request_id[CHAT_ID_BYTES];
static bool is_resend; // the next call has the request id of the one before

static inline int
remove_entry(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

static inline struct person *
person_named(const char *name, size_t size)
{
    for (size_t i = 0; i < PEOPLE; i++) {
        if (strlen(people[i].name) == size && memcmp(people[i].name, name, size) == 0) {
            return &people[i];
        }
    }
    return NULL;
}

// A token is the user's name.
static inline enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    const struct person *person = person_named((const char *)token.data, token.size);
    memset(identity_out, 0, sizeof(*identity_out));
    if (person == NULL) {
        return ERR_UNAUTHENTICATED;
    }
    memcpy(identity_out->subject_name, token.data, token.size);
    memcpy(identity_out->subject_id, person->id, CHAT_ID_BYTES);
    identity_out->session_id[0] = person->id[0];
    identity_out->expires_unix_ms = INT64_MAX;
    return ERR_OK;
}

static inline enum err
find_user(void *context, struct store_tx *tx, const char *name, uint8_t id_out[CHAT_ID_BYTES])
{
    (void)context;
    (void)tx;
    const struct person *person = person_named(name, strlen(name));
    if (person == NULL) {
        return ERR_NOT_FOUND;
    }
    memcpy(id_out, person->id, CHAT_ID_BYTES);
    return ERR_OK;
}

static inline enum err
find_chain(void *context, struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], struct e2e_user *out)
{
    (void)context;
    (void)tx;
    for (size_t i = 0; i < PEOPLE; i++) {
        const struct e2e_user *chain = &people[i].chain;
        if (memcmp(people[i].id, user_id, CHAT_ID_BYTES) != 0) {
            continue;
        }
        *out = *chain;
        out->devices = malloc(chain->device_count * sizeof(*chain->devices));
        if (out->devices == NULL) {
            return ERR_NO_MEMORY;
        }
        memcpy(out->devices, chain->devices, chain->device_count * sizeof(*chain->devices));
        return ERR_OK;
    }
    return ERR_NOT_FOUND;
}

static inline void
start(uint32_t max_rooms_per_user, uint32_t max_members)
{
    size_t rule_count = 0;
    struct err_detail detail = {0};
    struct rpc_server_options server_options = {.authenticate = authenticate};
    if (store == NULL) {
        assert_int_equal(store_open(folder, &store, &detail), ERR_OK);
    }
    assert_int_equal(rpc_server_new(&server_options, &server), ERR_OK);
    struct chat_service_options options = {.store = store,
        .server = server,
        .find_user = find_user,
        .find_chain = find_chain,
        .max_rooms_per_user = max_rooms_per_user,
        .max_members = max_members};
    assert_int_equal(chat_service_new(&options, &chat, &detail), ERR_OK);
    const struct rpc_method_rule *rules = chat_service_rules(&rule_count);
    assert_int_equal(rpc_server_add_service(server, chat_service_rpc(chat), rules, rule_count), ERR_OK);
    if (rpc_server_listen(server, "tcp://127.0.0.1:0", url, &detail) != ERR_OK) {
        fail_msg("%s", detail.message);
    }
    for (size_t i = 0; i < PEOPLE; i++) {
        struct rpc_channel_options channel_options = {.url = url};
        assert_int_equal(rpc_channel_new(&channel_options, &channels[i], &detail), ERR_OK);
        assert_int_equal(rpc_channel_set_token(channels[i], people[i].name), ERR_OK);
    }
}

static inline void
make_people(void)
{
    static const char *const names[PEOPLE] = {"alice", "bob", "carol", "dave"};
    for (size_t i = 0; i < PEOPLE; i++) {
        person_init(&people[i], names[i]);
    }
    snprintf(folder, sizeof(folder), "/tmp/fc-rooms-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static inline int
setup(void **state)
{
    (void)state;
    make_people();
    start(0, 0);
    return 0;
}

static inline int
teardown(void **state)
{
    (void)state;
    if (has_call) {
        rpc_unary_deinit(&call);
        has_call = false;
    }
    for (size_t i = 0; i < PEOPLE; i++) {
        rpc_channel_free(&channels[i]);
        person_deinit(&people[i]);
    }
    chat_service_stop(chat);
    rpc_server_free(&server);
    chat_service_free(&chat);
    store_close(&store);
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void
call_begin(int who)
{
    if (has_call) {
        memcpy(request_id, call.request_id, sizeof(request_id));
        rpc_unary_deinit(&call);
    }
    rpc_unary_init(&call, channels[who], &fc__chat__v1__chat__descriptor);
    has_call = true;
    if (is_resend) {
        memcpy(call.request_id, request_id, sizeof(request_id));
        is_resend = false;
    }
}

static inline enum err
call_end(void)
{
    enum err err = rpc_unary_wait(&call);
    why = call.status.detail;
    if (err != ERR_OK) {
        assert_true(why.message[0] != '\0');
    }
    return err;
}

// CALL(BOB, join, &request) is the error with which the call ended; call's response is then there.
#define CALL(who, method, request)                                                                                     \
    (call_begin(who), fc__chat__v1__chat__##method(&call.service, request, NULL, NULL), call_end())

static inline char *
text(const char *constant)
{
    return (char *)(uintptr_t)constant;
}

static inline enum err
amend(int who, const char *room, const Fc__Chat__V1__AmendRequest *from)
{
    Fc__Chat__V1__AmendRequest request = *from;
    request.room = text(room);
    return CALL(who, amend, &request);
}

static inline enum err
amend_one(int who, const char *room, const char *add, const char *invite, const char *removed)
{
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    char *added[] = {text(add)};
    char *invited[] = {text(invite)};
    char *removed_names[] = {text(removed)};
    request.n_add = add == NULL ? 0 : 1;
    request.add = added;
    request.n_invite = invite == NULL ? 0 : 1;
    request.invite = invited;
    request.n_remove = removed == NULL ? 0 : 1;
    request.remove = removed_names;
    return amend(who, room, &request);
}

static inline enum err
set_role(int who, const char *room, const char *name, Fc__E2e__V1__Role role)
{
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    Fc__Chat__V1__RoleChange change = FC__CHAT__V1__ROLE_CHANGE__INIT;
    Fc__Chat__V1__RoleChange *changes[] = {&change};
    change.user_name = text(name);
    change.role = role;
    request.n_roles = 1;
    request.roles = changes;
    return amend(who, room, &request);
}

static inline enum err
set_topic(int who, const char *room, const char *topic)
{
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    request.topic = text(topic);
    request.is_topic_set = true;
    return amend(who, room, &request);
}

static inline enum err
create_plain(int who, const char *name, Fc__E2e__V1__RoomKind kind, const char *member)
{
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    char *members[] = {text(member)};
    request.name = text(name);
    request.is_plain = true;
    request.kind = kind;
    request.n_members = member == NULL ? 0 : 1;
    request.members = members;
    return CALL(who, create_room, &request);
}

static inline enum err
join(int who, const char *room, const Fc__E2e__V1__Signed *entry)
{
    Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
    request.room = text(room);
    request.entry = (Fc__E2e__V1__Signed *)(uintptr_t)entry;
    return CALL(who, join, &request);
}

static inline enum err
leave(int who, const char *room, const Fc__E2e__V1__Signed *entry)
{
    Fc__Chat__V1__LeaveRequest request = FC__CHAT__V1__LEAVE_REQUEST__INIT;
    request.room = text(room);
    request.entry = (Fc__E2e__V1__Signed *)(uintptr_t)entry;
    return CALL(who, leave, &request);
}

static inline enum err
get_room(int who, const char *room)
{
    Fc__Chat__V1__GetRoomRequest request = FC__CHAT__V1__GET_ROOM_REQUEST__INIT;
    request.room = text(room);
    return CALL(who, get_room, &request);
}

static inline enum err
get_log(int who, const char *room, const uint8_t *link_id, uint64_t after_seq)
{
    Fc__Chat__V1__GetLogRequest request = FC__CHAT__V1__GET_LOG_REQUEST__INIT;
    request.room = text(room);
    request.link_id = lend(link_id, link_id == NULL ? 0 : CHAT_ID_BYTES);
    request.after_seq = after_seq;
    return CALL(who, get_log, &request);
}

static inline enum err
send_text(int who, const char *room)
{
    Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
    request.room = text(room);
    request.text = text("hello");
    return CALL(who, send, &request);
}

static inline enum err
block(int who, const char *name, bool is_unblock)
{
    Fc__Chat__V1__BlockRequest request = FC__CHAT__V1__BLOCK_REQUEST__INIT;
    request.user_name = text(name);
    request.is_unblock = is_unblock;
    return CALL(who, block, &request);
}

// member_role is the role of somebody in a room as `who` sees it; 100 more for those who are only invited.
static inline int
member_role(int who, const char *room, const char *name)
{
    assert_int_equal(get_room(who, room), ERR_OK);
    const Fc__Chat__V1__GetRoomResponse *response = rpc_unary_response(&call);
    for (size_t i = 0; i < response->n_members; i++) {
        if (strcmp(response->members[i]->user_name, name) == 0) {
            return (int)response->members[i]->role + (response->members[i]->is_invited ? 100 : 0);
        }
    }
    return 0;
}

static inline void
expect_why(const char *words)
{
    if (strstr(why.message, words) == NULL) {
        fail_msg("\"%s\" says nothing about \"%s\"", why.message, words);
    }
}

#endif
