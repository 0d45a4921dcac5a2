// Messages in the local store: what edits, deletions and reactions make of them in whichever order they come, how they
// are listed, counted and found.
#include "fc_store_support.h"

#define TYPE(name) FC__CHAT__V1__MESSAGE_TYPE__##name

// A message of bob's in room 1, whose id and time follow from its number.
static struct fc_store_message
make(uint64_t seq, Fc__Chat__V1__MessageType type, uint64_t target_seq, const char *text)
{
    return (struct fc_store_message){
        .room_id = filled(1),
        .seq = seq,
        .message_id = filled((uint8_t)(100 + seq)),
        .sender_id = filled(2),
        .sender_name = "bob",
        .device_id = filled(20),
        .sent_ms = 1700000000000 + (int64_t)seq * 1000,
        .type = type,
        .text = text,
        .target_seq = target_seq,
    };
}

static struct fc_store_message
make_text(uint64_t seq, const char *text)
{
    return make(seq, TYPE(TEXT), 0, text);
}

static void
put(struct fc_store *store, struct fc_store_message message)
{
    DO(fc_store_messages_put(store, &message, 1, NULL, &why));
}

static struct fc_store *
open_room(void)
{
    struct fc_store *store = open_store("ann");
    put_room(store, 1, "lobby");
    return store;
}

// Messages as text: "1:hello 2:(deleted) 3:there* " with a star where it was edited.
static bool
describe(void *context, const struct fc_store_message *message)
{
    char *out = context;
    size_t used = strlen(out);
    static const char *const unreadable[] = {"", "(no key)", "(no entry)", "(invalid)", "(repeated)"};
    const char *text = message->is_deleted ? "(deleted)" : message->text;
    (void)snprintf(out + used, 512 - used, "%llu:%s%s%s ", (unsigned long long)message->seq,
        unreadable[message->unread], text, message->edited_ms != 0 ? "*" : "");
    return strstr(message->text, "stop") == NULL;
}

static bool
take_room(void *context, const struct fc_store_room *room)
{
    *(struct fc_store_room *)context = *room;
    return false;
}

// The first room, with what there is to read in it.
static struct fc_store_room
count_room(struct fc_store *store)
{
    struct fc_store_room room = {0};
    DO(fc_store_room_each(store, take_room, &room, &why));
    return room;
}

static void
assert_selection(struct fc_store *store, struct fc_store_selection selection, const char *expected)
{
    char found[512] = "";
    selection.room_id = filled(1);
    DO(fc_store_messages_each(store, &selection, describe, found, &why));
    assert_string_equal(found, expected);
}

static void
assert_shown(struct fc_store *store, const char *expected)
{
    assert_selection(store, (struct fc_store_selection){.select = FC_STORE_NEWEST}, expected);
}

static void
assert_found(struct fc_store *store, const char *query, const char *expected)
{
    char found[512] = "";
    DO(fc_store_messages_search(store, query, 0, 0, describe, found, NULL, &why));
    if (strcmp(found, expected) != 0) {
        fail_msg("\"%s\" finds \"%s\" and not \"%s\"", query, found, expected);
    }
}

static bool
check_all(void *context, const struct fc_store_message *found)
{
    const struct fc_store_message *put_in = context;
    assert_memory_equal(found->room_id, put_in->room_id, E2E_ID_BYTES);
    assert_int_equal(found->seq, put_in->seq);
    assert_memory_equal(found->message_id, put_in->message_id, E2E_ID_BYTES);
    assert_memory_equal(found->sender_id, put_in->sender_id, E2E_ID_BYTES);
    assert_string_equal(found->sender_name, put_in->sender_name);
    assert_memory_equal(found->device_id, put_in->device_id, E2E_ID_BYTES);
    assert_int_equal(found->sent_ms, put_in->sent_ms);
    assert_int_equal(found->type, put_in->type);
    assert_string_equal(found->text, put_in->text);
    assert_int_equal(found->reply_to_seq, put_in->reply_to_seq);
    assert_string_equal(found->topic, put_in->topic);
    assert_string_equal(found->mentions, put_in->mentions);
    assert_true(bytes_view_equal(found->file, put_in->file));
    assert_string_equal(found->file_name, put_in->file_name);
    return true;
}

static void
test_a_message_comes_back_as_it_was(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    struct fc_store_message message = make(5, TYPE(EMOTE), 0, "waves h\xc3\xa9");
    message.reply_to_seq = 3;
    message.topic = "plans";
    message.mentions = "carl\nann\n";
    message.file = bytes_view_of("\0\1\2", 3);
    message.file_name = "a.png";
    put(store, message);
    put(store, message); // and once more is nothing new
    fc_store_close(&store);
    store = open_store("ann");
    DO(fc_store_messages_get(store, filled(1), 5, check_all, &message, &why));
    assert_int_equal(fc_store_messages_get(store, filled(1), 6, check_all, &message, &why), ERR_NOT_FOUND);
    assert_int_equal(fc_store_messages_get(store, filled(9), 5, check_all, &message, &why), ERR_NOT_FOUND);
    fc_store_close(&store);
}

static void
test_a_batch_is_kept_whole_or_not_at_all(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    struct fc_store_message batch[] = {make_text(1, "one"), make_text(2, "two"), make_text(1, "other")};
    batch[2].message_id = filled(77);
    assert_int_equal(fc_store_messages_put(store, batch, 3, NULL, &why), ERR_CONFLICT);
    assert_non_null(strstr(why.message, "another message"));
    assert_shown(store, "");
    DO(fc_store_messages_put(store, batch, 2, NULL, &why));
    assert_shown(store, "1:one 2:two ");
    batch[0].room_id = filled(9);
    assert_int_equal(fc_store_messages_put(store, batch, 1, NULL, &why), ERR_NOT_FOUND);
    batch[1].seq = 0;
    assert_int_equal(fc_store_messages_put(store, &batch[1], 1, NULL, &why), ERR_INVALID);
    batch[1].seq = UINT64_MAX;
    assert_int_equal(fc_store_messages_put(store, &batch[1], 1, NULL, &why), ERR_INVALID);
    fc_store_close(&store);
}

// Puts messages in every order and checks that it makes no difference.
static void
assert_in_every_order(const struct fc_store_message *messages, const int (*orders)[4], size_t order_count,
    size_t message_count, const char *expected)
{
    for (size_t i = 0; i < order_count; i++) {
        struct fc_store *store = open_room();
        for (size_t j = 0; j < message_count; j++) {
            put(store, messages[orders[i][j]]);
        }
        assert_shown(store, expected);
        DO(fc_store_room_remove(store, filled(1), &why));
        fc_store_close(&store);
    }
}

static void
test_edits_fold_in_any_order(void **state)
{
    (void)state;
    static const int orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 3, 2}, {2, 3, 0, 1}, {2, 0, 1, 3}};
    struct fc_store_message messages[] = {
        make_text(1, "helo"), make(2, TYPE(EDIT), 1, "hallo"), make(3, TYPE(EDIT), 1, "hello"),
        make(4, TYPE(EDIT), 1, "stolen"), // by somebody else
    };
    messages[3].sender_id = filled(3);
    messages[3].sender_name = "mallory";
    assert_in_every_order(messages, orders, 5, 4, "1:hello* ");
    messages[2].is_void = true;
    assert_in_every_order(messages, orders, 5, 4, "1:hallo* ");
}

static void
test_deletions_fold_in_any_order(void **state)
{
    (void)state;
    static const int orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 3, 2}, {2, 3, 0, 1}, {2, 0, 1, 3}};
    struct fc_store_message messages[] = {
        make_text(1, "secret"),
        make(2, TYPE(EDIT), 1, "secrets"),
        make(3, TYPE(DELETE), 1, ""),
        make(4, TYPE(DELETE), 1, ""),
    };
    messages[3].is_void = true; // by somebody who may not
    assert_in_every_order(messages, orders, 5, 4, "1:(deleted) ");
    messages[2].is_void = true;
    assert_in_every_order(messages, orders, 5, 4, "1:secrets* ");
    messages[2] = make(3, TYPE(DELETE), 2, ""); // of the edit
    assert_in_every_order(messages, orders, 5, 4, "1:secret ");
}

static void
test_nothing_of_a_deleted_message_is_left(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    struct fc_store_message message = make_text(1, "secret");
    message.file = bytes_view_of("x", 1);
    message.file_name = "secret.txt";
    put(store, message);
    put(store, make(2, TYPE(EDIT), 1, "secret still"));
    assert_found(store, "secret", "1:secret still* ");
    put(store, make(3, TYPE(DELETE), 1, ""));
    assert_found(store, "secret", "");
    assert_found(store, "has:file", "");
    assert_selection(store, (struct fc_store_selection){.select = FC_STORE_AFTER, .is_everything = true},
        "1:(deleted) 2: 3: ");
    put(store, message); // as from a page that was fetched before
    assert_shown(store, "1:(deleted) ");
    fc_store_close(&store);
}

static void
test_what_the_server_reports_is_taken_over(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    put(store, make_text(1, "helo"));
    put(store, make(2, TYPE(EDIT), 1, "hallo"));
    struct fc_store_message reported = make_text(1, "hello");
    reported.edited_ms = 1800000000000;
    put(store, reported);
    assert_shown(store, "1:hello* ");
    put(store, make_text(1, "helo")); // older
    assert_shown(store, "1:hello* ");
    struct fc_store_message deleted = make_text(1, "");
    deleted.is_deleted = true;
    put(store, deleted);
    assert_shown(store, "1:(deleted) ");
    fc_store_close(&store);
}

static void
test_what_cannot_be_read_waits_for_its_key(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    char found[512] = "";
    struct fc_store_message sealed = make_text(1, NULL);
    sealed.unread = FC_STORE_NO_KEY;
    sealed.sealed = bytes_view_of_text("sealed");
    put(store, sealed);
    sealed = make_text(2, NULL);
    sealed.unread = FC_STORE_INVALID;
    put(store, sealed);
    put(store, make(3, TYPE(EDIT), 1, "hello"));
    DO(fc_store_messages_sealed(store, filled(1), 0, 10, describe, found, &why));
    assert_string_equal(found, "1:(no key) ");
    assert_shown(store, "1:(no key) 2:(invalid) ");
    assert_int_equal(count_room(store).unread_count, 1); // the one that may become a message

    put(store, make_text(1, "helo"));
    found[0] = '\0';
    DO(fc_store_messages_sealed(store, filled(1), 0, 10, describe, found, &why));
    assert_string_equal(found, "");
    assert_shown(store, "1:hello* 2:(invalid) ");
    assert_found(store, "hello", "1:hello* ");
    fc_store_close(&store);
}

static void
test_a_repeated_message_counts_once(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    size_t repeated = 99;
    struct fc_store_message copy = make(4, TYPE(EDIT), 1, "first edit");
    copy.message_id = make_text(2, "").message_id;
    struct fc_store_message batch[] = {
        make_text(1, "original"),
        make(2, TYPE(EDIT), 1, "first edit"),
        make(3, TYPE(EDIT), 1, "second edit"),
        copy,
    };
    DO(fc_store_messages_put(store, batch, 4, &repeated, &why));
    assert_int_equal(repeated, 1);
    assert_shown(store, "1:second edit* ");
    DO(fc_store_room_remove(store, filled(1), &why));

    put_room(store, 1, "lobby");
    put(store, copy); // the copy first
    put(store, batch[0]);
    assert_shown(store, "1:first edit* ");
    put(store, batch[2]);
    put(store, batch[1]);
    assert_shown(store, "1:second edit* ");
    assert_selection(store, (struct fc_store_selection){.select = FC_STORE_AFTER, .seq = 3, .is_everything = true},
        "4:(repeated) ");

    struct fc_store_message plain = make_text(5, "plain"); // where the server sees to it
    plain.device_id = NULL;
    plain.message_id = copy.message_id;
    put(store, plain);
    assert_shown(store, "1:second edit* 5:plain ");
    fc_store_close(&store);
}

static void
test_selections_list_what_they_say(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    put_room(store, 9, "elsewhere");
    for (uint64_t seq = 9; seq > 0; seq--) { // also when the newest come first
        char text[16];
        (void)snprintf(text, sizeof(text), "m%llu", (unsigned long long)seq);
        struct fc_store_message message = make_text(seq, text);
        message.topic = seq % 4 == 0 ? "plans" : "";
        put(store, message);
        message.room_id = filled(9); // of the same time and number
        message.device_id = filled(21);
        put(store, message);
    }
    put(store, make(10, TYPE(REACTION), 1, "+1"));
    const struct {
        struct fc_store_selection selection;
        const char *expected;
    } cases[] = {
        {{.select = FC_STORE_NEWEST, .limit = 2}, "8:m8 9:m9 "},
        {{.select = FC_STORE_NEWEST, .limit = 2, .is_everything = true}, "9:m9 10:+1 "},
        {{.select = FC_STORE_AFTER, .seq = 3, .limit = 2}, "4:m4 5:m5 "},
        {{.select = FC_STORE_AFTER, .seq = 7}, "8:m8 9:m9 "},
        {{.select = FC_STORE_AFTER, .seq = UINT64_MAX}, ""},
        {{.select = FC_STORE_BEFORE, .seq = 4, .limit = 2}, "2:m2 3:m3 "},
        {{.select = FC_STORE_AROUND, .seq = 5, .limit = 3}, "4:m4 5:m5 6:m6 "},
        {{.select = FC_STORE_AROUND, .seq = 5, .limit = 1}, "5:m5 "},
        {{.select = FC_STORE_AROUND, .seq = 1, .limit = 3}, "1:m1 2:m2 "},
        {{.select = FC_STORE_SINCE, .since_ms = 1700000007000, .limit = 2}, "7:m7 8:m8 "},
        {{.select = FC_STORE_SINCE, .since_ms = 1700000008001}, "9:m9 "},
        {{.select = FC_STORE_NEWEST, .topic = "plans"}, "4:m4 8:m8 "},
        {{.select = FC_STORE_AFTER, .topic = "", .seq = 6}, "7:m7 9:m9 "},
        {{.select = FC_STORE_NEWEST, .topic = "others"}, ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_selection(store, cases[i].selection, cases[i].expected);
    }
    put(store, make_text(11, "stop"));
    put(store, make_text(12, "more"));
    assert_selection(store, (struct fc_store_selection){.select = FC_STORE_AROUND, .seq = 12, .limit = 5},
        "9:m9 11:stop ");
    fc_store_close(&store);
}

static bool
describe_reaction(void *context, const struct fc_store_reaction *reaction)
{
    strcat(strcat(strcat(strcat(context, reaction->text), ":"), reaction->sender_name), " ");
    return true;
}

static void
test_reactions_are_those_not_taken_back(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    char found[256] = "";
    struct fc_store_message carls = make(6, TYPE(REACTION), 1, "+1");
    carls.sender_id = filled(3);
    carls.sender_name = "carl";
    put(store, make(5, TYPE(REACTION), 1, "eyes"));
    put(store, make(4, TYPE(UNREACTION), 1, "tada"));
    put(store, make(3, TYPE(REACTION), 1, "+1"));
    put(store, make(2, TYPE(REACTION), 1, "tada"));
    put(store, carls);
    put(store, make_text(1, "hello"));
    put(store, make(7, TYPE(REACTION), 1, "+1")); // again
    DO(fc_store_messages_reactions(store, filled(1), 1, describe_reaction, found, &why));
    assert_string_equal(found, "eyes:bob +1:carl +1:bob ");
    put(store, make(8, TYPE(DELETE), 5, ""));
    found[0] = '\0';
    DO(fc_store_messages_reactions(store, filled(1), 1, describe_reaction, found, &why));
    assert_string_equal(found, "+1:carl +1:bob ");
    assert_shown(store, "1:hello ");
    fc_store_close(&store);
}

static void
test_unread_messages_and_mentions_are_counted(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    struct fc_store_message message = make_text(1, "@ann");
    message.mentions = "carl\nann\n";
    put(store, message);
    message = make_text(2, "all");
    message.mentions = "@room";
    put(store, message);
    message = make_text(3, "anna");
    message.mentions = "anna\n";
    put(store, message);
    message = make_text(4, "mine, about ann");
    message.sender_name = "ann";
    message.mentions = "ann\n";
    put(store, message);
    put(store, make(5, TYPE(REACTION), 4, "+1"));
    struct fc_store_room room = count_room(store);
    assert_int_equal(room.unread_count, 3);
    assert_int_equal(room.mention_count, 2);
    put(store, make(6, TYPE(DELETE), 2, ""));
    DO(fc_store_room_set_read(store, filled(1), 1, &why));
    room = count_room(store);
    assert_int_equal(room.unread_count, 1);
    assert_int_equal(room.mention_count, 0);
    fc_store_close(&store);
}

static void
test_search_finds_words_by_their_beginnings(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    put_room(store, 9, "hall");
    struct fc_store_message message = make_text(1, "The quick brown fox");
    put(store, message);
    put(store, make_text(2, "quick, said the caf\xc3\xa9 owner"));
    message = make_text(3, "see this");
    message.file = bytes_view_of("x", 1);
    message.file_name = "Quickstart.pdf";
    message.sender_name = "ann";
    put(store, message);
    message = make_text(4, "quick in the hall");
    message.room_id = filled(9);
    put(store, message);
    put(store, make(5, TYPE(REACTION), 1, "quick"));

    assert_found(store, "quick",
        "4:quick in the hall 3:see this 2:quick, said the caf\xc3\xa9 owner 1:The quick brown fox ");
    assert_found(store, "QUI bro", "1:The quick brown fox ");
    assert_found(store, "uick", "");
    assert_found(store, "cafe", "2:quick, said the caf\xc3\xa9 owner ");
    assert_found(store, "\"quick brown\"", "1:The quick brown fox ");
    assert_found(store, "\"brown quick\"", "");
    assert_found(store, "quick from:@ann", "3:see this ");
    assert_found(store, "quick in:hall", "4:quick in the hall ");
    assert_found(store, "has:file", "3:see this ");
    assert_found(store, "from:bob in:hall", "4:quick in the hall ");
    assert_found(store, "quick has:file in:hall", "");

    put(store, make(6, TYPE(EDIT), 1, "the lazy dog"));
    assert_found(store, "fox", "");
    assert_found(store, "lazy", "1:the lazy dog* ");
    DO(fc_store_room_remove(store, filled(9), &why));
    assert_found(store, "quick", "3:see this 2:quick, said the caf\xc3\xa9 owner ");
    fc_store_close(&store);
}

// Their words are indexed together, in whatever order the messages of one call change each other.
static void
test_search_finds_what_many_at_once_have_become(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    struct fc_store_message messages[] = {
        make_text(1, "one fox"), make(2, TYPE(EDIT), 1, "one dog"), make_text(3, "three fox"),
        make(4, TYPE(DELETE), 3, ""), make_text(5, "five fox"), make_text(6, ""), make_text(8, "eight fox"),
        make_text(7, "eight fox"), // which makes the eighth its copy
    };
    messages[7].message_id = messages[6].message_id;
    size_t repeated = 0;
    DO(fc_store_messages_put(store, messages, 5, &repeated, &why));
    assert_found(store, "fox", "5:five fox ");
    DO(fc_store_messages_put(store, messages, 8, &repeated, &why));
    assert_int_equal(repeated, 1);
    assert_found(store, "fox", "7:eight fox 5:five fox ");
    assert_found(store, "dog", "1:one dog* ");
    put(store, make(9, TYPE(DELETE), 2, ""));
    assert_found(store, "fox", "7:eight fox 5:five fox 1:one fox ");
    assert_found(store, "dog", "");
    // What has failed leaves nothing behind to be indexed later.
    struct fc_store_message failing[] = {make_text(10, "ten fox"), make_text(5, "another fox")};
    failing[1].message_id = filled(99);
    assert_int_equal(fc_store_messages_put(store, failing, 2, NULL, &why), ERR_CONFLICT);
    put(store, make_text(10, "ten hares"));
    assert_found(store, "fox", "7:eight fox 5:five fox 1:one fox ");
    assert_found(store, "hares", "10:ten hares ");
    fc_store_close(&store);
}

static void
test_search_takes_anything_that_is_typed(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    char longest[300];
    char found[512] = "";
    put(store, make_text(1, "a*b \"c\" NOT d AND (e) text:f -g ^h {i} j+k"));
    static const char *const queries[] = {"a*b", "c\"", "\"\"", "NOT", "AND OR", "(e", "text:f", "-g", "^h", "{i}",
        "j+k", "NEAR(a b)", "''", "!!!", "a !!!", "*", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        enum err err = fc_store_messages_search(store, queries[i], 0, 0, describe, found, NULL, &why);
        assert_true(err == ERR_OK || err == ERR_INVALID);
    }
    assert_found(store, "a*b NOT", "1:a*b \"c\" NOT d AND (e) text:f -g ^h {i} j+k ");
    memset(longest, 'a', sizeof(longest));
    longest[257] = '\0';
    static const char *const refused[] = {"", "  ", "has:picture", "from:", "in: word", "\xff",
        "a b c d e f g h i j k l m n o p q"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_int_equal(fc_store_messages_search(store, refused[i], 0, 0, describe, found, NULL, &why), ERR_INVALID);
    }
    assert_int_equal(fc_store_messages_search(store, longest, 0, 0, describe, found, NULL, &why), ERR_INVALID);
    assert_int_equal(fc_store_messages_search(store, "a in:nowhere", 0, 0, describe, found, NULL, &why), ERR_NOT_FOUND);
    fc_store_close(&store);
}

static void
test_search_goes_on_where_it_stopped(void **state)
{
    (void)state;
    struct fc_store *store = open_room();
    for (uint64_t seq = 1; seq <= 5; seq++) {
        put(store, make_text(seq, "word"));
    }
    int64_t before_id = 0;
    static const char *const pages[] = {"5:word 4:word ", "3:word 2:word ", "1:word ", ""};
    for (int i = 0; i < 4; i++) {
        char found[512] = "";
        DO(fc_store_messages_search(store, "word", 2, before_id, describe, found, &before_id, &why));
        assert_string_equal(found, pages[i]);
    }
    fc_store_close(&store);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_data_dir, remove_data_dir)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_message_comes_back_as_it_was),
        TEST(test_a_batch_is_kept_whole_or_not_at_all),
        TEST(test_edits_fold_in_any_order),
        TEST(test_deletions_fold_in_any_order),
        TEST(test_nothing_of_a_deleted_message_is_left),
        TEST(test_what_the_server_reports_is_taken_over),
        TEST(test_what_cannot_be_read_waits_for_its_key),
        TEST(test_a_repeated_message_counts_once),
        TEST(test_selections_list_what_they_say),
        TEST(test_reactions_are_those_not_taken_back),
        TEST(test_unread_messages_and_mentions_are_counted),
        TEST(test_search_finds_words_by_their_beginnings),
        TEST(test_search_finds_what_many_at_once_have_become),
        TEST(test_search_takes_anything_that_is_typed),
        TEST(test_search_goes_on_where_it_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
