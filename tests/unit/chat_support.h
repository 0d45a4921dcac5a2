// For tests of the Chat service's decisions: a store, and rooms with members that are put into it directly.
#ifndef TESTS_UNIT_CHAT_SUPPORT_H
#define TESTS_UNIT_CHAT_SUPPORT_H

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "services/chat/chat_core.h"
#include "services/chat/chat_history.h"
#include "services/chat/chat_messages.h"

enum {
    ROLE_MEMBER = 1,
    ROLE_ADMIN = 2,
    ROLE_OWNER = 3,
};

static const uint8_t alice_id[CHAT_ID_BYTES] = {0xa1};
static const uint8_t bob_id[CHAT_ID_BYTES] = {0xb0};
static const uint8_t carol_id[CHAT_ID_BYTES] = {0xca};
static const struct chat_user alice = {alice_id, "alice"};
static const struct chat_user bob = {bob_id, "bob"};
__attribute__((unused)) static const struct chat_user carol = {carol_id, "carol"};
static const uint8_t team_id[CHAT_ID_BYTES] = {0x7e, 0xa4};

static char folder[64];
static struct store *store;

static int
remove_entry(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

static int
close_store(void **state)
{
    (void)state;
    clock_set_unix_ms_for_test(-1);
    store_close(&store);
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

// A statement of its own transaction.
struct statement {
    struct store_job job;
    const char *sql;
    const struct store_value *args;
    size_t arg_count;
};

static enum err
run_statement(struct store_tx *tx, struct store_job *job)
{
    const struct statement *statement = (struct statement *)job;
    return store_exec(tx, statement->sql, statement->args, statement->arg_count, NULL);
}

static void
execute(const char *sql, const struct store_value *args, size_t arg_count)
{
    struct statement statement = {.job = {.run = run_statement}, .sql = sql, .args = args, .arg_count = arg_count};
    assert_int_equal(store_write_wait(store, &statement.job), ERR_OK);
}

static void
add_member(const struct chat_user *user, int role)
{
    execute("INSERT INTO chat_members (room_id, user_id, user_name, is_owner, joined_at_ms, role)"
            " VALUES ($1, $2, $3, 0, 0, $4)",
        STORE_ARGS(store_blob(team_id, sizeof(team_id)), store_blob(user->id, CHAT_ID_BYTES), store_text(user->name),
            store_int(role)));
}

// The room "team" has alice and bob in it.
static int
open_room(bool is_plain)
{
    struct err_detail why = {0};
    snprintf(folder, sizeof(folder), "/tmp/fc-chat-XXXXXX");
    if (mkdtemp(folder) == NULL || store_open(folder, &store, &why) != ERR_OK ||
        chat_core_migrate(store, &why) != ERR_OK) {
        fprintf(stderr, "%s\n", why.message);
        return -1;
    }
    execute("INSERT INTO chat_rooms (room_id, name, head_seq, last_sent_at_ms, member_count, created_at_ms, is_plain,"
            " epoch) VALUES ($1, 'team', 0, 0, 2, 0, $2, $3)",
        STORE_ARGS(store_blob(team_id, sizeof(team_id)), store_int(is_plain), store_int(is_plain ? 0 : 1)));
    add_member(&alice, ROLE_OWNER);
    add_member(&bob, ROLE_MEMBER);
    return 0;
}

// A message to be sent, and what came of it.
struct sending {
    struct store_job job;
    struct chat_outgoing outgoing;
    struct chat_sent sent;
    struct err_detail why;
};

static enum err
run_sending(struct store_tx *tx, struct store_job *job)
{
    struct sending *sending = (struct sending *)job;
    memset(&sending->why, 0, sizeof(sending->why));
    return chat_messages_send(tx, &sending->outgoing, &sending->sent, &sending->why);
}

// send_outgoing sends to the room "team", under a new request id if there is none.
static enum err
send_outgoing(struct sending *sending)
{
    uint8_t random_id[CHAT_ID_BYTES];
    bool is_new = sending->outgoing.request_id.data == NULL;
    if (is_new) {
        random_bytes(random_id, sizeof(random_id));
        sending->outgoing.request_id = bytes_view_of(random_id, sizeof(random_id));
    }
    sending->outgoing.room = "team";
    sending->outgoing.text = sending->outgoing.text == NULL ? "" : sending->outgoing.text;
    sending->job = (struct store_job){.run = run_sending};
    enum err err = store_write_wait(store, &sending->job);
    if (is_new) {
        sending->outgoing.request_id = (struct bytes_view){0};
    }
    return err;
}

__attribute__((unused)) static uint64_t
send_text(const struct chat_user *user, const char *text)
{
    struct sending sending = {.outgoing = {.sender = *user, .text = text}};
    assert_int_equal(send_outgoing(&sending), ERR_OK);
    return sending.sent.seq;
}

// A page of history of "team".
struct reading {
    struct chat_history_query query;
    struct chat_history page;
    struct err_detail why;
};

static enum err
run_reading(struct store_tx *tx, void *context)
{
    struct reading *reading = context;
    return chat_history_read(tx, &reading->query, &reading->page, &reading->why);
}

__attribute__((unused)) static enum err
read_page(struct reading *reading)
{
    reading->query.user_id = reading->query.user_id == NULL ? alice.id : reading->query.user_id;
    reading->query.room = "team";
    memset(&reading->why, 0, sizeof(reading->why));
    return store_read(store, run_reading, reading);
}

#endif
