// What messages of plain rooms may say, and what edits, deletions and reactions do to others.
#include "chat_support.h"

static int
setup(void **state)
{
    (void)state;
    return open_room(true);
}

static const uint8_t known_file_id[CHAT_ID_BYTES] = {0xf1, 0x1e};

static enum err
find_file(void *context, struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t file_id[CHAT_ID_BYTES], struct chat_file *file_out)
{
    (void)context;
    (void)tx;
    if (memcmp(file_id, known_file_id, CHAT_ID_BYTES) != 0 || memcmp(room_id, team_id, CHAT_ID_BYTES) != 0) {
        return ERR_NOT_FOUND;
    }
    *file_out = (struct chat_file){.name = "plans/a.png", .size_bytes = 5, .md5 = {0x55}};
    return ERR_OK;
}

static enum err
send_about(const struct chat_user *user, enum chat_message_type type, uint64_t target_seq, const char *text)
{
    struct sending sending = {.outgoing = {.sender = *user, .type = type, .target_seq = target_seq, .text = text}};
    enum err err = send_outgoing(&sending);
    assert_true(err == ERR_OK || sending.why.message[0] != '\0');
    return err;
}

// look_at reads one message; the caller deinits the page.
static const struct chat_message *
look_at(struct reading *reading, uint64_t seq)
{
    *reading = (struct reading){.query = {.after_seq = seq - 1, .limit = 1}};
    assert_int_equal(read_page(reading), ERR_OK);
    assert_int_equal(reading->page.count, 1);
    assert_int_equal(reading->page.messages[0].seq, seq);
    return &reading->page.messages[0];
}

static void
expect_text(uint64_t seq, const char *text, bool is_deleted, bool is_edited)
{
    struct reading reading;
    const struct chat_message *message = look_at(&reading, seq);
    assert_string_equal(message->text, text);
    assert_int_equal(message->is_deleted, is_deleted);
    assert_int_equal(message->edited_at_ms != 0, is_edited);
    chat_history_deinit(&reading.page);
}

static void
test_all_fields_are_kept(void **state)
{
    (void)state;
    static const char *const mentions[] = {"bob", "@room"};
    assert_int_equal(send_text(&bob, "first"), 1);
    struct sending sending = {.outgoing = {.sender = alice,
                                  .type = CHAT_MESSAGE_EMOTE,
                                  .text = "waves",
                                  .reply_to_seq = 1,
                                  .mentions = mentions,
                                  .mention_count = 2,
                                  .topic = "lunch \xf0\x9f\x8d\x95"}};
    assert_int_equal(send_outgoing(&sending), ERR_OK);
    struct reading reading;
    const struct chat_message *message = look_at(&reading, 2);
    assert_int_equal(message->type, CHAT_MESSAGE_EMOTE);
    assert_string_equal(message->text, "waves");
    assert_string_equal(message->sender, "alice");
    assert_memory_equal(message->sender_id, alice.id, CHAT_ID_BYTES);
    assert_int_equal(message->reply_to_seq, 1);
    assert_int_equal(message->target_seq, 0);
    assert_int_equal(message->mention_count, 2);
    assert_string_equal(message->mentions[0], "bob");
    assert_string_equal(message->mentions[1], "@room");
    assert_string_equal(message->topic, "lunch \xf0\x9f\x8d\x95");
    assert_int_equal(message->edited_at_ms, 0);
    assert_false(message->is_deleted);
    assert_null(message->file);
    assert_int_equal(message->chain.size, 0);
    chat_history_deinit(&reading.page);
}

static void
test_file_announcement_keeps_what_the_sender_says_about_it(void **state)
{
    (void)state;
    static const uint8_t preview[] = "\x89PNG\r\n\x1a\n....";
    struct chat_outgoing_file file = {.file_id = bytes_view_of(known_file_id, sizeof(known_file_id)),
        .mime_type = "image/png",
        .width_px = 640,
        .height_px = 480,
        .preview = bytes_view_of(preview, sizeof(preview))};
    struct sending sending = {.outgoing = {.sender = alice, .file = &file, .find_file = find_file}};
    assert_int_equal(send_outgoing(&sending), ERR_OK);
    struct reading reading;
    const struct chat_file *kept = look_at(&reading, 1)->file;
    assert_non_null(kept);
    assert_string_equal(kept->name, "plans/a.png");
    assert_int_equal(kept->size_bytes, 5);
    assert_int_equal(kept->md5[0], 0x55);
    assert_string_equal(kept->mime_type, "image/png");
    assert_int_equal(kept->width_px, 640);
    assert_int_equal(kept->height_px, 480);
    assert_true(bytes_view_equal(kept->preview, file.preview));
    chat_history_deinit(&reading.page);

    static uint8_t large[CHAT_PREVIEW_MAX_BYTES + 1] = "\xff\xd8\xff";
    file.preview = bytes_view_of(large, sizeof(large));
    assert_int_equal(send_outgoing(&sending), ERR_INVALID);
    file.preview = bytes_view_of(large, sizeof(large) - 1);
    assert_int_equal(send_outgoing(&sending), ERR_OK);
    file.preview = bytes_view_of("<svg onload='x()'>", 18);
    assert_int_equal(send_outgoing(&sending), ERR_INVALID);
    file.preview = (struct bytes_view){0};
    file.mime_type = "no type";
    assert_int_equal(send_outgoing(&sending), ERR_INVALID);
    file.mime_type = "text/\x1b[31m";
    assert_int_equal(send_outgoing(&sending), ERR_INVALID);
    file.mime_type = NULL;
    file.file_id.size = 15;
    assert_int_equal(send_outgoing(&sending), ERR_INVALID);
    file.file_id = bytes_view_of(team_id, sizeof(team_id));
    assert_int_equal(send_outgoing(&sending), ERR_NOT_FOUND);
    sending.outgoing.type = CHAT_MESSAGE_EMOTE;
    assert_int_equal(send_outgoing(&sending), ERR_INVALID);
    assert_int_equal(send_text(&alice, "after"), 3);
}

static void
test_edit_replaces_ones_own_text(void **state)
{
    (void)state;
    assert_int_equal(send_text(&bob, "teh plan"), 1);
    assert_int_equal(send_about(&alice, CHAT_MESSAGE_EDIT, 1, "mine now"), ERR_DENIED); // not even the owner
    expect_text(1, "teh plan", false, false);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_EDIT, 1, "the plan"), ERR_OK);
    expect_text(1, "the plan", false, true);
    expect_text(2, "the plan", false, false);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_EDIT, 2, "edit of an edit"), ERR_PRECONDITION);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_EDIT, 3, "nothing there"), ERR_NOT_FOUND);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_EDIT, UINT64_MAX, "far away"), ERR_INVALID);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_EDIT, 1, ""), ERR_INVALID);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_EDIT, 0, "no target"), ERR_INVALID);
    // Refusals cost no number.
    assert_int_equal(send_text(&bob, "next"), 3);
}

static void
test_edit_is_applied_once(void **state)
{
    (void)state;
    static const uint8_t request_id[CHAT_ID_BYTES] = {9};
    assert_int_equal(send_text(&alice, "one"), 1);
    struct sending edit = {.outgoing = {.sender = alice,
                               .type = CHAT_MESSAGE_EDIT,
                               .target_seq = 1,
                               .text = "two",
                               .request_id = bytes_view_of(request_id, sizeof(request_id))}};
    assert_int_equal(send_outgoing(&edit), ERR_OK);
    assert_int_equal(edit.sent.seq, 2);
    assert_int_equal(send_about(&alice, CHAT_MESSAGE_EDIT, 1, "three"), ERR_OK);
    assert_int_equal(send_outgoing(&edit), ERR_OK);
    assert_true(edit.sent.is_resend);
    assert_int_equal(edit.sent.seq, 2);
    expect_text(1, "three", false, true);
}

static void
test_deletion_blanks_the_message_and_its_edits(void **state)
{
    (void)state;
    static const char *const mentions[] = {"alice"};
    const struct chat_outgoing_file file = {.file_id = bytes_view_of(known_file_id, sizeof(known_file_id)),
        .mime_type = "image/png"};
    struct sending sending = {.outgoing = {.sender = bob,
                                  .text = "secret",
                                  .file = &file,
                                  .mentions = mentions,
                                  .mention_count = 1,
                                  .find_file = find_file}};
    assert_int_equal(send_outgoing(&sending), ERR_OK);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_EDIT, 1, "more secret"), ERR_OK);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_DELETE, 1, ""), ERR_OK);
    expect_text(1, "", true, true);
    expect_text(2, "", true, false);
    struct reading reading;
    const struct chat_message *message = look_at(&reading, 1);
    assert_null(message->file);
    assert_int_equal(message->mention_count, 0);
    chat_history_deinit(&reading.page);
    message = look_at(&reading, 3);
    assert_int_equal(message->type, CHAT_MESSAGE_DELETE);
    assert_int_equal(message->target_seq, 1);
    chat_history_deinit(&reading.page);
    // What has gone stays gone.
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_DELETE, 1, ""), ERR_PRECONDITION);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_EDIT, 1, "back"), ERR_PRECONDITION);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 1, "+1"), ERR_PRECONDITION);
    expect_text(1, "", true, true);
}

static void
test_admins_delete_what_others_wrote(void **state)
{
    (void)state;
    add_member(&carol, ROLE_ADMIN);
    assert_int_equal(send_text(&alice, "by the owner"), 1);
    assert_int_equal(send_text(&bob, "by a member"), 2);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_DELETE, 1, ""), ERR_DENIED);
    expect_text(1, "by the owner", false, false);
    assert_int_equal(send_about(&carol, CHAT_MESSAGE_DELETE, 1, ""), ERR_OK);
    assert_int_equal(send_about(&alice, CHAT_MESSAGE_DELETE, 2, ""), ERR_OK);
    expect_text(1, "", true, false);
    expect_text(2, "", true, false);
    assert_int_equal(send_about(&alice, CHAT_MESSAGE_DELETE, 3, ""), ERR_PRECONDITION);
}

static void
test_reactions_come_and_go(void **state)
{
    (void)state;
    static const char thumb[] = "\xf0\x9f\x91\x8d";
    assert_int_equal(send_text(&alice, "done"), 1);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_UNREACTION, 1, thumb), ERR_PRECONDITION);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 1, thumb), ERR_OK);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 1, thumb), ERR_EXISTS);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 1, ":-)"), ERR_OK);
    assert_int_equal(send_about(&alice, CHAT_MESSAGE_REACTION, 1, thumb), ERR_OK);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_UNREACTION, 1, thumb), ERR_OK);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_UNREACTION, 1, thumb), ERR_PRECONDITION);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 1, thumb), ERR_OK);
    // alice's still stands: bob's are his own.
    assert_int_equal(send_about(&alice, CHAT_MESSAGE_REACTION, 1, thumb), ERR_EXISTS);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 1, ""), ERR_INVALID);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 1, "12345678901234567890123456789012"), ERR_OK);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 1, "123456789012345678901234567890123"), ERR_INVALID);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 2, thumb), ERR_PRECONDITION);
    assert_int_equal(send_about(&bob, CHAT_MESSAGE_REACTION, 0, thumb), ERR_INVALID);
}

static void
test_outsiders_can_do_none_of_it(void **state)
{
    (void)state;
    assert_int_equal(send_text(&alice, "ours"), 1);
    assert_int_equal(send_about(&carol, CHAT_MESSAGE_EDIT, 1, "hers"), ERR_DENIED);
    assert_int_equal(send_about(&carol, CHAT_MESSAGE_DELETE, 1, ""), ERR_DENIED);
    assert_int_equal(send_about(&carol, CHAT_MESSAGE_REACTION, 1, "+1"), ERR_DENIED);
    assert_int_equal(send_about(&carol, CHAT_MESSAGE_EMOTE, 0, "waves"), ERR_DENIED);
    expect_text(1, "ours", false, false);
}

// Each is refused and costs no number.
static void
test_what_does_not_fit_its_type_is_refused(void **state)
{
    (void)state;
    static const char *many[CHAT_MENTIONS_MAX + 1];
    for (size_t i = 0; i < CHAT_MENTIONS_MAX + 1; i++) {
        many[i] = "bob";
    }
    static const char *const bad_name[] = {"no such\nname"};
    static const char *const no_name[] = {""};
    static const char *const bob_name[] = {"bob"};
    static const char long_topic[] = "12345678901234567890123456789012345678901234567890123456789012345";
    const struct chat_outgoing cases[] = {
        {.text = "hello", .target_seq = 1},
        {.text = "hello", .mentions = many, .mention_count = CHAT_MENTIONS_MAX + 1},
        {.text = "hello", .mentions = bad_name, .mention_count = 1},
        {.text = "hello", .mentions = no_name, .mention_count = 1},
        {.text = "hello", .topic = long_topic},
        {.text = ""},
        {.type = CHAT_MESSAGE_EMOTE, .text = ""},
        {.type = CHAT_MESSAGE_EMOTE, .text = "waves", .target_seq = 1},
        {.type = CHAT_MESSAGE_EDIT, .target_seq = 1, .text = "x", .reply_to_seq = 1},
        {.type = CHAT_MESSAGE_EDIT, .target_seq = 1, .text = "x", .topic = "t"},
        {.type = CHAT_MESSAGE_DELETE, .target_seq = 1, .text = "why"},
        {.type = CHAT_MESSAGE_DELETE, .target_seq = 1, .mentions = bob_name, .mention_count = 1},
        {.type = CHAT_MESSAGE_DELETE},
        {.type = CHAT_MESSAGE_REACTION, .target_seq = 1, .text = "x", .mentions = bob_name, .mention_count = 1},
        {.type = CHAT_MESSAGE_REACTION, .target_seq = 1, .text = "x", .reply_to_seq = 1},
        {.type = (enum chat_message_type)6, .text = "x"},
        {.type = (enum chat_message_type) - 1, .text = "x"},
        {.type = (enum chat_message_type)INT32_MAX, .text = "x"},
    };
    assert_int_equal(send_text(&alice, "first"), 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sending sending = {.outgoing = cases[i]};
        sending.outgoing.sender = alice;
        assert_int_equal(send_outgoing(&sending), ERR_INVALID);
        assert_true(sending.why.message[0] != '\0');
    }
    struct sending ahead = {.outgoing = {.sender = alice, .text = "to the future", .reply_to_seq = 2}};
    assert_int_equal(send_outgoing(&ahead), ERR_NOT_FOUND);
    struct sending most = {
        .outgoing = {.sender = alice, .text = "hello", .mentions = many, .mention_count = CHAT_MENTIONS_MAX}};
    assert_int_equal(send_outgoing(&most), ERR_OK);
    assert_int_equal(most.sent.seq, 2);
}

static void
test_archived_room_takes_no_messages(void **state)
{
    (void)state;
    assert_int_equal(send_text(&alice, "last"), 1);
    execute("UPDATE chat_rooms SET is_archived = 1", STORE_NO_ARGS);
    struct sending sending = {.outgoing = {.sender = alice, .text = "too late"}};
    assert_int_equal(send_outgoing(&sending), ERR_PRECONDITION);
    assert_non_null(strstr(sending.why.message, "archived"));
    assert_int_equal(send_about(&alice, CHAT_MESSAGE_DELETE, 1, ""), ERR_PRECONDITION);
    execute("UPDATE chat_rooms SET is_archived = 0", STORE_NO_ARGS);
    assert_int_equal(send_outgoing(&sending), ERR_OK);
}

static void
test_resend_is_answered_also_from_outside_of_a_private_room(void **state)
{
    (void)state;
    static const uint8_t request_id[CHAT_ID_BYTES] = {9};
    execute("UPDATE chat_rooms SET kind = 1", STORE_NO_ARGS);
    struct sending sending = {
        .outgoing = {.sender = bob, .text = "bye", .request_id = bytes_view_of(request_id, sizeof(request_id))}};
    assert_int_equal(send_outgoing(&sending), ERR_OK);
    execute("DELETE FROM chat_members WHERE user_name = 'bob'", STORE_NO_ARGS);
    assert_int_equal(send_outgoing(&sending), ERR_OK);
    assert_true(sending.sent.is_resend);
    assert_int_equal(sending.sent.seq, 1);
    // What was not sent, or by somebody else, tells nothing about the room.
    struct sending another = {.outgoing = {.sender = bob, .text = "again"}};
    assert_int_equal(send_outgoing(&another), ERR_NOT_FOUND);
    sending.outgoing.sender = carol;
    assert_int_equal(send_outgoing(&sending), ERR_NOT_FOUND);
}

static void
test_blocked_user_cannot_write_directly(void **state)
{
    (void)state;
    execute("UPDATE chat_rooms SET kind = 3", STORE_NO_ARGS);
    execute("INSERT INTO chat_blocks (user_id, blocked_id, blocked_name) VALUES ($1, $2, 'bob')",
        STORE_ARGS(store_blob(alice.id, CHAT_ID_BYTES), store_blob(bob.id, CHAT_ID_BYTES)));
    struct sending sending = {.outgoing = {.sender = bob, .text = "hello?"}};
    assert_int_equal(send_outgoing(&sending), ERR_DENIED);
    sending.outgoing.sender = alice;
    assert_int_equal(send_outgoing(&sending), ERR_OK);
    execute("UPDATE chat_rooms SET kind = 1", STORE_NO_ARGS);
    sending.outgoing.sender = bob; // in other rooms it changes nothing
    assert_int_equal(send_outgoing(&sending), ERR_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, close_store)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_fields_are_kept),
        TEST(test_file_announcement_keeps_what_the_sender_says_about_it),
        TEST(test_edit_replaces_ones_own_text),
        TEST(test_edit_is_applied_once),
        TEST(test_deletion_blanks_the_message_and_its_edits),
        TEST(test_admins_delete_what_others_wrote),
        TEST(test_reactions_come_and_go),
        TEST(test_outsiders_can_do_none_of_it),
        TEST(test_what_does_not_fit_its_type_is_refused),
        TEST(test_archived_room_takes_no_messages),
        TEST(test_resend_is_answered_also_from_outside_of_a_private_room),
        TEST(test_blocked_user_cannot_write_directly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
