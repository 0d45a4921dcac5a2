// Rooms and messages on a real store: what happens once, which numbers messages get, what history shows, who may.
#include <ftw.h>
#include <pthread.h>
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
#include "services/chat/chat_rooms.h"

static const uint8_t alice_id[CHAT_ID_BYTES] = {0xa1};
static const uint8_t bob_id[CHAT_ID_BYTES] = {0xb0};
static const struct chat_user alice = {alice_id, "alice"};
static const struct chat_user bob = {bob_id, "bob"};

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
open_store(void **state)
{
    (void)state;
    struct err_detail why = {0};
    snprintf(folder, sizeof(folder), "/tmp/fc-chat-XXXXXX");
    if (mkdtemp(folder) == NULL || store_open(folder, &store, &why) != ERR_OK ||
        chat_core_migrate(store, &why) != ERR_OK) {
        fprintf(stderr, "%s\n", why.message);
        return -1;
    }
    return 0;
}

static int
close_store(void **state)
{
    (void)state;
    clock_set_unix_ms_for_test(-1);
    store_close(&store);
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void
restart_store(void)
{
    struct err_detail why = {0};
    store_close(&store);
    assert_int_equal(store_open(folder, &store, &why), ERR_OK);
    assert_int_equal(chat_core_migrate(store, &why), ERR_OK);
}

// A change, its arguments and what came of it.
struct change {
    struct store_job job;
    const struct chat_user *user;
    struct bytes_view request_id;
    const char *room;
    const char *text;
    const uint8_t *file_id;
    struct err_detail why;
    struct chat_room found;
    struct chat_sent sent;
    uint8_t room_id[CHAT_ID_BYTES];
    bool is_resend;
};

// change_of is what the functions that change rooms are given. Nobody can be named: only oneself.
static struct chat_change
change_of(struct change *change, struct store_tx *tx)
{
    static const struct chat_people people;
    return (struct chat_change){.tx = tx,
        .user = *change->user,
        .request_id = change->request_id,
        .people = &people,
        .why = &change->why};
}

// take keeps of an outcome what the tests look at.
static enum err
take(struct change *change, enum err err, struct chat_outcome *outcome)
{
    if (err == ERR_OK) {
        change->found = outcome->room;
        change->is_resend = outcome->is_resend;
        memcpy(change->room_id, outcome->room.id, sizeof(change->room_id));
    }
    chat_outcome_deinit(outcome);
    return err;
}

static enum err
run_create(struct store_tx *tx, struct store_job *job)
{
    struct change *change = (struct change *)job;
    struct chat_change making = change_of(change, tx);
    struct chat_outcome outcome = {0};
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    request.name = (char *)(uintptr_t)change->room;
    request.is_plain = true;
    return take(change, chat_rooms_create(&making, &request, &outcome), &outcome);
}

static enum err
run_join(struct store_tx *tx, struct store_job *job)
{
    struct change *change = (struct change *)job;
    struct chat_change joining = change_of(change, tx);
    struct chat_outcome outcome = {0};
    Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
    request.room = (char *)(uintptr_t)change->room;
    return take(change, chat_rooms_join(&joining, &request, &outcome), &outcome);
}

static enum err
run_leave(struct store_tx *tx, struct store_job *job)
{
    struct change *change = (struct change *)job;
    struct chat_change leaving = change_of(change, tx);
    struct chat_outcome outcome = {0};
    Fc__Chat__V1__LeaveRequest request = FC__CHAT__V1__LEAVE_REQUEST__INIT;
    request.room = (char *)(uintptr_t)change->room;
    return take(change, chat_rooms_leave(&leaving, &request, &outcome), &outcome);
}

static const uint8_t known_file_id[CHAT_ID_BYTES] = {0xf1, 0x1e};

static enum err
find_file(void *context, struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t file_id[CHAT_ID_BYTES], struct chat_file *file_out)
{
    (void)context;
    (void)tx;
    (void)room_id;
    if (memcmp(file_id, known_file_id, CHAT_ID_BYTES) != 0) {
        return ERR_NOT_FOUND;
    }
    *file_out = (struct chat_file){.name = "plans/a.txt", .size_bytes = 5, .md5 = {0x55}};
    return ERR_OK;
}

static enum err
run_send(struct store_tx *tx, struct store_job *job)
{
    struct change *change = (struct change *)job;
    const struct chat_outgoing_file file = {.file_id = bytes_view_of(change->file_id, CHAT_ID_BYTES)};
    const struct chat_outgoing outgoing = {
        .sender = *change->user,
        .request_id = change->request_id,
        .room = change->room,
        .text = change->text,
        .file = change->file_id == NULL ? NULL : &file,
        .find_file = find_file,
    };
    return chat_messages_send(tx, &outgoing, &change->sent, &change->why);
}

static struct bytes_view
id_view(const uint8_t id[CHAT_ID_BYTES])
{
    return bytes_view_of(id, CHAT_ID_BYTES);
}

// apply runs a change under a new request id if it has none.
static enum err
apply(struct change *change, enum err (*run)(struct store_tx *tx, struct store_job *job))
{
    uint8_t random_id[CHAT_ID_BYTES];
    bool is_new = change->request_id.data == NULL;
    if (is_new) {
        random_bytes(random_id, sizeof(random_id));
        change->request_id = id_view(random_id);
    }
    memset(&change->why, 0, sizeof(change->why));
    change->job = (struct store_job){.run = run};
    enum err err = store_write_wait(store, &change->job);
    if (is_new) {
        change->request_id = (struct bytes_view){0};
    }
    return err;
}

static void
create(const struct chat_user *user, const char *room)
{
    struct change change = {.user = user, .room = room};
    assert_int_equal(apply(&change, run_create), ERR_OK);
}

static void
join_room(const struct chat_user *user, const char *room)
{
    struct change change = {.user = user, .room = room};
    assert_int_equal(apply(&change, run_join), ERR_OK);
}

static uint64_t
send_text(const struct chat_user *user, const char *room, const char *text)
{
    struct change change = {.user = user, .room = room, .text = text};
    assert_int_equal(apply(&change, run_send), ERR_OK);
    return change.sent.seq;
}

struct history_read {
    const struct chat_user *user;
    const char *room;
    uint64_t after_seq;
    uint32_t limit;
    bool newest;
    struct chat_history page;
    struct err_detail why;
};

static enum err
run_history(struct store_tx *tx, void *context)
{
    struct history_read *read = context;
    const struct chat_history_query query = {.user_id = read->user->id,
        .room = read->room,
        .after_seq = read->after_seq,
        .limit = read->limit,
        .newest = read->newest};
    return chat_history_read(tx, &query, &read->page, &read->why);
}

static void
test_creator_is_the_first_member(void **state)
{
    (void)state;
    struct change change = {.user = &alice, .room = "team"};
    assert_int_equal(apply(&change, run_create), ERR_OK);
    assert_string_equal(change.found.name, "team");
    assert_true(change.found.is_member);
    assert_int_equal(change.found.member_count, 1);
    assert_int_equal(change.found.head_seq, 0);
    assert_int_equal(send_text(&alice, "team", "hello"), 1);
}

static void
test_taken_name_is_refused_whoever_asks(void **state)
{
    (void)state;
    create(&alice, "team");
    struct change again = {.user = &alice, .room = "team"};
    assert_int_equal(apply(&again, run_create), ERR_EXISTS);
    assert_non_null(strstr(again.why.message, "fc join team"));
    struct change other = {.user = &bob, .room = "team"};
    assert_int_equal(apply(&other, run_create), ERR_EXISTS);
}

static void
test_create_runs_once_per_request(void **state)
{
    (void)state;
    static const uint8_t request_id[CHAT_ID_BYTES] = {7};
    struct change first = {.user = &alice, .room = "team", .request_id = id_view(request_id)};
    struct change second = first;
    assert_int_equal(apply(&first, run_create), ERR_OK);
    restart_store();
    assert_int_equal(apply(&second, run_create), ERR_OK);
    assert_memory_equal(first.found.id, second.found.id, CHAT_ID_BYTES);
    // The id of one call is not the id of another one.
    struct change misused = {.user = &alice, .room = "team", .request_id = id_view(request_id)};
    assert_int_equal(apply(&misused, run_join), ERR_CONFLICT);
    // Another user's requests are another user's.
    struct change others = {.user = &bob, .room = "bobs", .request_id = id_view(request_id)};
    assert_int_equal(apply(&others, run_create), ERR_OK);
}

static void
test_create_without_request_id_is_refused(void **state)
{
    (void)state;
    struct change change = {.user = &alice, .room = "team", .request_id = bytes_view_of("short", 5)};
    assert_int_equal(apply(&change, run_create), ERR_INVALID);
    assert_non_null(strstr(change.why.message, "request_id"));
}

static void
test_hostile_names_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"", " ", "-rf", "a b", "../../etc", "a/b", "x\x1b[31m", "caf\xc3\xa9",
        "\xff\xfe", "'; DROP TABLE chat_rooms; --", "a\nb", ".hidden", "%s%n",
        // 65 characters, and an id's 32 digits.
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "0123456789abcdefABCDEF0123456789"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct change change = {.user = &alice, .room = names[i]};
        assert_int_equal(apply(&change, run_create), ERR_INVALID);
        assert_true(change.why.message[0] != '\0');
        change.text = "hello";
        enum err err = apply(&change, run_send);
        assert_true(err == ERR_INVALID || err == ERR_NOT_FOUND);
        assert_null(strchr(change.why.message, '\x1b'));
    }
    create(&alice, "still-there");
}

static void
test_unknown_room_says_what_to_do(void **state)
{
    (void)state;
    struct change change = {.user = &alice, .room = "nowhere", .text = "hello"};
    assert_int_equal(apply(&change, run_send), ERR_NOT_FOUND);
    assert_string_equal(change.why.message, "no room \"nowhere\"; fc room list shows those you can join");
    assert_int_equal(apply(&change, run_join), ERR_NOT_FOUND);
    assert_int_equal(apply(&change, run_leave), ERR_NOT_FOUND);
}

static void
test_room_is_found_by_its_id(void **state)
{
    (void)state;
    char id_text[2 * CHAT_ID_BYTES + 1];
    struct change change = {.user = &alice, .room = "team", .text = "hello"};
    assert_int_equal(apply(&change, run_create), ERR_OK);
    bytes_to_hex(id_view(change.found.id), id_text);
    change.room = id_text;
    assert_int_equal(apply(&change, run_send), ERR_OK);
    assert_int_equal(change.sent.seq, 1);
    id_text[0] = id_text[0] == '0' ? '1' : '0';
    assert_int_equal(apply(&change, run_send), ERR_NOT_FOUND);
}

static void
test_outsiders_cannot_send_or_read(void **state)
{
    (void)state;
    create(&alice, "team");
    struct change change = {.user = &bob, .room = "team", .text = "hello"};
    assert_int_equal(apply(&change, run_send), ERR_DENIED);
    assert_string_equal(change.why.message, "you are not in \"team\"; fc join team");
    struct history_read read = {.user = &bob, .room = "team"};
    assert_int_equal(store_read(store, run_history, &read), ERR_DENIED);
    assert_int_equal(read.page.count, 0);
    chat_history_deinit(&read.page);
    assert_int_equal(send_text(&alice, "team", "first"), 1);
}

static void
test_resend_gets_the_first_answer(void **state)
{
    (void)state;
    static const uint8_t request_id[CHAT_ID_BYTES] = {9};
    create(&alice, "team");
    struct change first = {.user = &alice, .room = "team", .text = "once", .request_id = id_view(request_id)};
    struct change again = first;
    assert_int_equal(apply(&first, run_send), ERR_OK);
    assert_false(first.sent.is_resend);
    assert_int_equal(send_text(&alice, "team", "another"), 2);
    assert_int_equal(apply(&again, run_send), ERR_OK);
    assert_true(again.sent.is_resend);
    assert_int_equal(again.sent.seq, first.sent.seq);
    assert_int_equal(again.sent.sent_at_ms, first.sent.sent_at_ms);

    restart_store();
    assert_int_equal(apply(&again, run_send), ERR_OK);
    assert_true(again.sent.is_resend);
    assert_int_equal(again.sent.seq, 1);

    // Also when the sender has left meanwhile.
    struct change leaving = {.user = &alice, .room = "team"};
    assert_int_equal(apply(&leaving, run_leave), ERR_OK);
    assert_int_equal(apply(&again, run_send), ERR_OK);
    assert_int_equal(again.sent.seq, 1);
    join_room(&alice, "team");
    assert_int_equal(send_text(&alice, "team", "third"), 3);
}

static void
test_message_id_of_another_sender_is_refused(void **state)
{
    (void)state;
    static const uint8_t request_id[CHAT_ID_BYTES] = {9};
    create(&alice, "team");
    join_room(&bob, "team");
    struct change first = {.user = &alice, .room = "team", .text = "mine", .request_id = id_view(request_id)};
    assert_int_equal(apply(&first, run_send), ERR_OK);
    struct change copy = {.user = &bob, .room = "team", .text = "copied", .request_id = id_view(request_id)};
    assert_int_equal(apply(&copy, run_send), ERR_CONFLICT);
    assert_int_equal(send_text(&bob, "team", "own"), 2);
}

static void
test_bad_messages_are_refused_and_cost_no_number(void **state)
{
    (void)state;
    char *text = malloc(CHAT_TEXT_MAX_BYTES + 2);
    assert_non_null(text);
    memset(text, 'x', CHAT_TEXT_MAX_BYTES + 1);
    text[CHAT_TEXT_MAX_BYTES + 1] = '\0';
    create(&alice, "team");
    struct change change = {.user = &alice, .room = "team", .text = text};
    assert_int_equal(apply(&change, run_send), ERR_INVALID);
    assert_non_null(strstr(change.why.message, "65537"));
    change.text = "";
    assert_int_equal(apply(&change, run_send), ERR_INVALID);
    change.text = "no id";
    change.request_id = bytes_view_of("", 0);
    assert_int_equal(apply(&change, run_send), ERR_INVALID);
    change.request_id = bytes_view_of("fifteen bytes..", 15);
    assert_int_equal(apply(&change, run_send), ERR_INVALID);
    text[CHAT_TEXT_MAX_BYTES] = '\0';
    assert_int_equal(send_text(&alice, "team", text), 1);
    free(text);
}

static void
test_file_announcement_is_looked_up_and_kept(void **state)
{
    (void)state;
    static const uint8_t unknown_file_id[CHAT_ID_BYTES] = {1};
    create(&alice, "team");
    struct change change = {.user = &alice, .room = "team", .text = "", .file_id = unknown_file_id};
    assert_int_equal(apply(&change, run_send), ERR_NOT_FOUND);
    change.file_id = known_file_id;
    assert_int_equal(apply(&change, run_send), ERR_OK);
    assert_int_equal(change.sent.seq, 1);

    struct history_read read = {.user = &alice, .room = "team"};
    assert_int_equal(store_read(store, run_history, &read), ERR_OK);
    assert_int_equal(read.page.count, 1);
    const struct chat_file *file = read.page.messages[0].file;
    assert_non_null(file);
    assert_memory_equal(file->file_id, known_file_id, CHAT_ID_BYTES);
    assert_string_equal(file->name, "plans/a.txt");
    assert_int_equal(file->size_bytes, 5);
    assert_int_equal(file->md5[0], 0x55);
    chat_history_deinit(&read.page);
}

static void
test_times_never_go_back(void **state)
{
    (void)state;
    create(&alice, "team");
    struct change change = {.user = &alice, .room = "team", .text = "hello"};
    clock_set_unix_ms_for_test(2000000);
    assert_int_equal(apply(&change, run_send), ERR_OK);
    assert_int_equal(change.sent.sent_at_ms, 2000000);
    clock_set_unix_ms_for_test(1000000);
    assert_int_equal(apply(&change, run_send), ERR_OK);
    assert_int_equal(change.sent.sent_at_ms, 2000000);
    clock_set_unix_ms_for_test(2000001);
    assert_int_equal(apply(&change, run_send), ERR_OK);
    assert_int_equal(change.sent.sent_at_ms, 2000001);
}

enum {
    SENDERS = 4,
    SENT_BY_EACH = 50,
};

static void *
send_many(void *context)
{
    uint64_t *seqs = context;
    for (int i = 0; i < SENT_BY_EACH; i++) {
        struct change change = {.user = &alice, .room = "team", .text = "hello"};
        seqs[i] = apply(&change, run_send) == ERR_OK ? change.sent.seq : 0;
    }
    return NULL;
}

static void
test_numbers_are_dense_with_concurrent_senders(void **state)
{
    (void)state;
    static uint64_t seqs[SENDERS][SENT_BY_EACH];
    static bool is_seen[SENDERS * SENT_BY_EACH + 1];
    pthread_t threads[SENDERS];
    create(&alice, "team");
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, seqs[i]), 0);
    }
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (int i = 0; i < SENDERS; i++) {
        for (int k = 0; k < SENT_BY_EACH; k++) {
            assert_in_range(seqs[i][k], 1, SENDERS * SENT_BY_EACH);
            assert_false(is_seen[seqs[i][k]]);
            is_seen[seqs[i][k]] = true;
            assert_true(k == 0 || seqs[i][k] > seqs[i][k - 1]);
        }
    }
}

static void
expect_history(uint64_t after_seq, uint32_t limit, bool newest, uint64_t first_seq, size_t count)
{
    struct history_read read = {.user = &alice,
        .room = "team",
        .after_seq = after_seq,
        .limit = limit,
        .newest = newest};
    assert_int_equal(store_read(store, run_history, &read), ERR_OK);
    assert_int_equal(read.page.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(read.page.messages[i].seq, first_seq + i);
        assert_string_equal(read.page.messages[i].sender, "alice");
        assert_memory_equal(read.page.messages[i].room_id, read.page.room.id, CHAT_ID_BYTES);
    }
    chat_history_deinit(&read.page);
}

static void
test_history_windows(void **state)
{
    (void)state;
    create(&alice, "team");
    expect_history(0, 0, false, 0, 0);
    expect_history(0, 10, true, 0, 0);
    for (int i = 0; i < 120; i++) {
        send_text(&alice, "team", "hello");
    }
    expect_history(0, 0, false, 1, CHAT_HISTORY_DEFAULT);
    expect_history(0, 1000, false, 1, 120);
    expect_history(110, 5, false, 111, 5);
    expect_history(118, 5, false, 119, 2);
    expect_history(120, 5, false, 0, 0);
    expect_history(UINT64_MAX, 5, false, 0, 0);
    expect_history(0, 7, true, 114, 7);
    expect_history(50, 1000, true, 1, 120);
    struct history_read read = {.user = &alice, .room = "team", .limit = CHAT_HISTORY_MAX + 1};
    assert_int_equal(store_read(store, run_history, &read), ERR_INVALID);
    chat_history_deinit(&read.page);
}

static void
test_history_is_cut_at_a_mebibyte(void **state)
{
    (void)state;
    char *text = malloc(CHAT_TEXT_MAX_BYTES + 1);
    assert_non_null(text);
    memset(text, 'x', CHAT_TEXT_MAX_BYTES);
    text[CHAT_TEXT_MAX_BYTES] = '\0';
    create(&alice, "team");
    for (int i = 0; i < 20; i++) {
        send_text(&alice, "team", text);
    }
    expect_history(0, 1000, false, 1, 15);
    expect_history(15, 1000, false, 16, 5);
    // The newest ones stay, not the oldest.
    expect_history(0, 1000, true, 6, 15);
    free(text);
}

static void
test_leaving_and_joining_again(void **state)
{
    (void)state;
    create(&alice, "team");
    struct change change = {.user = &bob, .room = "team", .text = "hello"};
    assert_int_equal(apply(&change, run_leave), ERR_PRECONDITION);
    assert_int_equal(apply(&change, run_join), ERR_OK);
    assert_int_equal(change.found.member_count, 2);
    assert_int_equal(apply(&change, run_join), ERR_OK);
    assert_int_equal(change.found.member_count, 2);
    assert_int_equal(apply(&change, run_leave), ERR_OK);
    assert_false(change.is_resend);
    assert_memory_equal(change.room_id, change.found.id, CHAT_ID_BYTES);
    assert_int_equal(apply(&change, run_send), ERR_DENIED);
    assert_int_equal(apply(&change, run_leave), ERR_PRECONDITION);
    assert_int_equal(apply(&change, run_join), ERR_OK);
    assert_int_equal(change.found.member_count, 2);
    assert_int_equal(apply(&change, run_send), ERR_OK);
}

static void
test_late_resends_do_not_change_membership(void **state)
{
    (void)state;
    static const uint8_t join_id[CHAT_ID_BYTES] = {1};
    static const uint8_t leave_id[CHAT_ID_BYTES] = {2};
    create(&alice, "team");
    struct change joining = {.user = &bob, .room = "team", .request_id = id_view(join_id)};
    struct change leaving = {.user = &bob, .room = "team", .request_id = id_view(leave_id)};
    struct change sending = {.user = &bob, .room = "team", .text = "hello"};
    assert_int_equal(apply(&joining, run_join), ERR_OK);
    assert_int_equal(apply(&leaving, run_leave), ERR_OK);
    // The join comes once more: bob has left since, and stays away.
    assert_int_equal(apply(&joining, run_join), ERR_OK);
    assert_false(joining.found.is_member);
    assert_int_equal(apply(&sending, run_send), ERR_DENIED);
    // The leave comes once more after he came back: he stays.
    join_room(&bob, "team");
    assert_int_equal(apply(&leaving, run_leave), ERR_OK);
    assert_true(leaving.is_resend);
    assert_int_equal(apply(&sending, run_send), ERR_OK);
}

struct list_read {
    const char *after_name;
    size_t max_rooms;
    struct chat_room rooms[8];
    size_t count;
    bool has_more;
};

static enum err
run_list(struct store_tx *tx, void *context)
{
    struct list_read *read = context;
    const struct chat_list_query query = {.user_id = alice.id,
        .after_name = read->after_name,
        .max_rooms = read->max_rooms};
    return chat_core_list_rooms(tx, &query, read->rooms, &read->count, &read->has_more);
}

static void
test_rooms_are_listed_by_name_in_pages(void **state)
{
    (void)state;
    struct list_read read = {.after_name = "", .max_rooms = 2};
    assert_int_equal(store_read(store, run_list, &read), ERR_OK);
    assert_int_equal(read.count, 0);
    assert_false(read.has_more);
    create(&bob, "c");
    create(&alice, "a");
    create(&alice, "b");
    assert_int_equal(store_read(store, run_list, &read), ERR_OK);
    assert_int_equal(read.count, 2);
    assert_true(read.has_more);
    assert_string_equal(read.rooms[0].name, "a");
    assert_string_equal(read.rooms[1].name, "b");
    assert_true(read.rooms[1].is_member);
    read.after_name = "b";
    assert_int_equal(store_read(store, run_list, &read), ERR_OK);
    assert_int_equal(read.count, 1);
    assert_false(read.has_more);
    assert_string_equal(read.rooms[0].name, "c");
    assert_false(read.rooms[0].is_member);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_store, close_store)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_creator_is_the_first_member),
        TEST(test_taken_name_is_refused_whoever_asks),
        TEST(test_create_runs_once_per_request),
        TEST(test_create_without_request_id_is_refused),
        TEST(test_hostile_names_are_refused),
        TEST(test_unknown_room_says_what_to_do),
        TEST(test_room_is_found_by_its_id),
        TEST(test_outsiders_cannot_send_or_read),
        TEST(test_resend_gets_the_first_answer),
        TEST(test_message_id_of_another_sender_is_refused),
        TEST(test_bad_messages_are_refused_and_cost_no_number),
        TEST(test_file_announcement_is_looked_up_and_kept),
        TEST(test_times_never_go_back),
        TEST(test_numbers_are_dense_with_concurrent_senders),
        TEST(test_history_windows),
        TEST(test_history_is_cut_at_a_mebibyte),
        TEST(test_leaving_and_joining_again),
        TEST(test_late_resends_do_not_change_membership),
        TEST(test_rooms_are_listed_by_name_in_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
