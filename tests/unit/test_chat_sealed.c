// Sealed messages: what the server lets through, the chain that it makes of them, and what a deletion leaves.
#include "base/digest.h"
#include "chat_support.h"
#include "e2e/e2e_message.h"
#include "services/chat/chat_reports.h"
#include "services/chat/chat_sealed.h"

// Device 0 and 1 are alice's, the second one revoked; 2 is bob's; 3 nobody's.
enum {
    PHONE,
    OLD_PHONE,
    BOBS,
    UNKNOWN,
    DEVICES,
};

static struct e2e_keys devices[DEVICES];
static const uint8_t epoch_secret[E2E_SECRET_BYTES] = {5};
static const uint8_t known_file_id[CHAT_ID_BYTES] = {0xf1, 0x1e};

static int
setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < DEVICES; i++) {
        if (e2e_keys_generate(&devices[i]) != ERR_OK) {
            return -1;
        }
    }
    return open_room(false);
}

static enum err
find_chain(void *context, struct store_tx *tx, const uint8_t user_id[16], struct e2e_user *out)
{
    (void)context;
    (void)tx;
    size_t first = user_id[0] == alice_id[0] ? PHONE : BOBS;
    size_t count = first == PHONE ? 2 : 1;
    memset(out, 0, sizeof(*out));
    if (user_id[0] == carol_id[0]) {
        return ERR_NOT_FOUND;
    }
    memcpy(out->id, user_id, sizeof(out->id));
    out->seq = 3;
    out->devices = calloc(count, sizeof(*out->devices));
    assert_non_null(out->devices);
    for (size_t i = 0; i < count; i++) {
        memcpy(out->devices[i].id, devices[first + i].id, sizeof(out->devices[i].id));
        memcpy(out->devices[i].sign_key, devices[first + i].sign_public, sizeof(out->devices[i].sign_key));
        out->devices[i].added_seq = 1;
        out->devices[i].is_revoked = first + i == OLD_PHONE;
        out->devices[i].revoked_seq = first + i == OLD_PHONE ? 3 : 0;
    }
    out->device_count = count;
    return ERR_OK;
}

static enum err
find_file(void *context, struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t file_id[CHAT_ID_BYTES], struct chat_file *file_out)
{
    (void)context;
    (void)tx;
    (void)room_id;
    memset(file_out, 0, sizeof(*file_out));
    return memcmp(file_id, known_file_id, CHAT_ID_BYTES) == 0 ? ERR_OK : ERR_NOT_FOUND;
}

static const uint8_t no_log[CHAT_HASH_BYTES]; // the head of a room without a log, as these tests have

// A message to be sealed and sent; what is left out is as it should be.
struct draft {
    const struct chat_user *sender; // who makes the call
    const uint8_t *header_user_id;
    int device;
    int signing_device;
    const uint8_t *room_id;
    uint64_t epoch;
    uint64_t delete_seq;
    const uint8_t *request_id;
    const uint8_t *message_id;
    size_t content_size;
    struct bytes_view file_id;
    size_t flipped_at; // of the sealed message; 0: nowhere
    const uint8_t *log_head;
    uint64_t seen_seq;
    const uint8_t *seen_chain;

    struct bytes sealed;
    struct chat_sent sent;
    struct err_detail why;
};

static ProtobufCBinaryData
field(const uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

static void
seal(struct draft *draft, const uint8_t *request_id)
{
    Fc__E2e__V1__Header header = FC__E2E__V1__HEADER__INIT;
    header.suite = E2E_SUITE;
    header.room_id = field(draft->room_id == NULL ? team_id : draft->room_id, E2E_ID_BYTES);
    header.epoch = draft->epoch == 0 ? 1 : draft->epoch;
    header.user_id = field(draft->header_user_id == NULL ? draft->sender->id : draft->header_user_id, E2E_ID_BYTES);
    header.device_id = field(devices[draft->device].id, E2E_ID_BYTES);
    header.message_id = field(draft->message_id == NULL ? request_id : draft->message_id, E2E_ID_BYTES);
    header.log_head = field(draft->log_head == NULL ? no_log : draft->log_head, E2E_HASH_BYTES);
    header.seen_seq = draft->seen_seq;
    header.seen_chain = field(draft->seen_chain, draft->seen_seq == 0 ? 0 : E2E_HASH_BYTES);
    header.type = draft->delete_seq == 0 ? FC__E2E__V1__TYPE__MESSAGE : FC__E2E__V1__TYPE__DELETE;
    header.target_seq = draft->delete_seq;
    uint8_t *content = calloc(1, draft->content_size + 1);
    assert_non_null(content);
    int signer = draft->signing_device == 0 ? draft->device : draft->signing_device;
    assert_int_equal(e2e_message_seal(&header, epoch_secret, devices[signer].sign_private,
                         bytes_view_of(content, draft->content_size), &draft->sealed),
        ERR_OK);
    free(content);
    if (draft->flipped_at != 0) {
        draft->sealed.data[draft->flipped_at] ^= 1;
    }
}

// send_sealed does what the Send method does. The caller frees draft->sealed.
static enum err
send_sealed(struct draft *draft)
{
    uint8_t random_id[CHAT_ID_BYTES];
    random_bytes(random_id, sizeof(random_id));
    const uint8_t *request_id = draft->request_id == NULL ? random_id : draft->request_id;
    bytes_free(&draft->sealed);
    seal(draft, request_id);
    struct chat_outgoing_sealed sealed;
    const struct chat_sealed_query query = {.sender = *draft->sender,
        .request_id = bytes_view_of(request_id, CHAT_ID_BYTES),
        .room = "team",
        .sealed = bytes_as_view(&draft->sealed),
        .file_id = draft->file_id,
        .find_chain = find_chain};
    memset(&draft->why, 0, sizeof(draft->why));
    enum err err = chat_sealed_check(store, &query, &sealed, &draft->why);
    if (err != ERR_OK) {
        assert_true(draft->why.message[0] != '\0' || err == ERR_CORRUPT);
        return err;
    }
    struct sending sending = {.outgoing = {.sender = *draft->sender,
                                  .request_id = query.request_id,
                                  .sealed = &sealed,
                                  .find_file = find_file}};
    err = send_outgoing(&sending);
    draft->sent = sending.sent;
    draft->why = sending.why;
    return err;
}

static void
expect(struct draft draft, enum err expected, const char *part_of_why)
{
    enum err err = send_sealed(&draft);
    assert_int_equal(err, expected);
    if (part_of_why != NULL) {
        assert_non_null(strstr(draft.why.message, part_of_why));
    }
    bytes_free(&draft.sealed);
}

static void
test_messages_are_chained(void **state)
{
    (void)state;
    static const uint8_t start[CHAT_HASH_BYTES];
    struct draft first = {.sender = &alice, .content_size = 10};
    struct draft second = {.sender = &bob, .device = BOBS, .content_size = 10};
    assert_int_equal(send_sealed(&first), ERR_OK);
    assert_int_equal(send_sealed(&second), ERR_OK);
    assert_int_equal(second.sent.seq, 2);
    uint8_t after_first[CHAT_HASH_BYTES];
    uint8_t after_second[CHAT_HASH_BYTES];
    assert_int_equal(e2e_message_chain(start, bytes_as_view(&first.sealed), after_first), ERR_OK);
    assert_int_equal(e2e_message_chain(after_first, bytes_as_view(&second.sealed), after_second), ERR_OK);
    assert_memory_equal(first.sent.chain, after_first, sizeof(after_first));
    assert_memory_equal(second.sent.chain, after_second, sizeof(after_second));
    struct reading reading = {0};
    assert_int_equal(read_page(&reading), ERR_OK);
    assert_int_equal(reading.page.count, 2);
    const struct chat_message *message = &reading.page.messages[1];
    assert_true(bytes_view_equal(message->sealed, bytes_as_view(&second.sealed)));
    assert_true(bytes_view_equal(message->chain, bytes_view_of(after_second, sizeof(after_second))));
    assert_int_equal(message->sealed_hash.size, 0);
    assert_string_equal(message->text, "");
    chat_history_deinit(&reading.page);
    bytes_free(&first.sealed);
    bytes_free(&second.sealed);
}

static void
test_resend_gets_the_first_answer(void **state)
{
    (void)state;
    static const uint8_t request_id[CHAT_ID_BYTES] = {9};
    struct draft draft = {.sender = &alice, .request_id = request_id};
    assert_int_equal(send_sealed(&draft), ERR_OK);
    expect((struct draft){.sender = &bob, .device = BOBS}, ERR_OK, NULL);
    uint8_t chain[CHAT_HASH_BYTES];
    memcpy(chain, draft.sent.chain, sizeof(chain));
    // Also when the epoch is over meanwhile.
    execute("UPDATE chat_rooms SET epoch = 2", STORE_NO_ARGS);
    assert_int_equal(send_sealed(&draft), ERR_OK);
    assert_true(draft.sent.is_resend);
    assert_int_equal(draft.sent.seq, 1);
    assert_memory_equal(draft.sent.chain, chain, sizeof(chain));
    bytes_free(&draft.sealed);
    // Nobody else can use the id.
    expect((struct draft){.sender = &bob, .device = BOBS, .request_id = request_id}, ERR_CONFLICT, "somebody else");
}

static void
test_messages_of_others_are_refused(void **state)
{
    (void)state;
    static const uint8_t other_id[CHAT_ID_BYTES] = {7};
    expect((struct draft){.sender = &bob, .header_user_id = alice_id, .device = PHONE}, ERR_INVALID, "another user");
    expect((struct draft){.sender = &bob, .device = PHONE}, ERR_DENIED, "not yours");
    expect((struct draft){.sender = &alice, .device = UNKNOWN}, ERR_DENIED, "not yours");
    expect((struct draft){.sender = &alice, .device = OLD_PHONE}, ERR_DENIED, "revoked");
    expect((struct draft){.sender = &alice, .signing_device = BOBS}, ERR_INVALID, "signature");
    expect((struct draft){.sender = &alice, .room_id = other_id}, ERR_INVALID, "another room");
    expect((struct draft){.sender = &alice, .message_id = other_id}, ERR_INVALID, "request_id");
    expect((struct draft){.sender = &carol, .device = UNKNOWN}, ERR_DENIED, "not in");
    add_member(&carol, ROLE_MEMBER);
    expect((struct draft){.sender = &carol, .device = UNKNOWN}, ERR_PRECONDITION, "keys");
    struct draft right = {.sender = &alice};
    assert_int_equal(send_sealed(&right), ERR_OK);
    assert_int_equal(right.sent.seq, 1); // what was refused cost no number
    bytes_free(&right.sealed);
}

// One bit of anything is signed, or makes the message unreadable.
static void
test_changed_bytes_are_refused(void **state)
{
    (void)state;
    struct draft draft = {.sender = &alice, .content_size = 10};
    assert_int_equal(send_sealed(&draft), ERR_OK);
    size_t size = draft.sealed.size;
    bytes_free(&draft.sealed);
    for (size_t at = 1; at < size; at++) {
        struct draft changed = {.sender = &alice, .content_size = 10, .flipped_at = at};
        assert_int_not_equal(send_sealed(&changed), ERR_OK);
        bytes_free(&changed.sealed);
    }
}

static void
test_only_the_present_epoch_counts(void **state)
{
    (void)state;
    struct draft draft = {.sender = &alice, .epoch = 2};
    assert_int_equal(send_sealed(&draft), ERR_CONFLICT);
    assert_true(draft.sent.is_epoch_stale);
    execute("UPDATE chat_rooms SET epoch = 2", STORE_NO_ARGS);
    assert_int_equal(send_sealed(&draft), ERR_OK);
    draft.epoch = 1;
    assert_int_equal(send_sealed(&draft), ERR_CONFLICT);
    assert_true(draft.sent.is_epoch_stale);
    execute("UPDATE chat_rooms SET is_rekey_needed = 1", STORE_NO_ARGS);
    draft.epoch = 2;
    assert_int_equal(send_sealed(&draft), ERR_CONFLICT);
    assert_true(draft.sent.is_epoch_stale);
    execute("UPDATE chat_rooms SET is_rekey_needed = 0, is_archived = 1", STORE_NO_ARGS);
    assert_int_equal(send_sealed(&draft), ERR_PRECONDITION);
    assert_false(draft.sent.is_epoch_stale);
    bytes_free(&draft.sealed);
}

// Others take what a message says that was seen for proof against the server.
static void
test_claims_are_held_against_what_there_is(void **state)
{
    (void)state;
    static const uint8_t wrong[CHAT_HASH_BYTES] = {1};
    struct draft first = {.sender = &alice};
    assert_int_equal(send_sealed(&first), ERR_OK);
    struct draft second = {.sender = &bob, .device = BOBS, .seen_seq = 1, .seen_chain = first.sent.chain};
    assert_int_equal(send_sealed(&second), ERR_OK);
    expect((struct draft){.sender = &alice, .seen_seq = 1, .seen_chain = wrong}, ERR_INVALID, "seen");
    expect((struct draft){.sender = &alice, .seen_seq = 2, .seen_chain = first.sent.chain}, ERR_INVALID, "seen");
    expect((struct draft){.sender = &alice, .seen_seq = 3, .seen_chain = second.sent.chain}, ERR_INVALID, "seen");
    struct draft behind = {.sender = &alice, .log_head = wrong};
    assert_int_equal(send_sealed(&behind), ERR_CONFLICT);
    assert_true(behind.sent.is_epoch_stale);
    // One of the newest entries will do.
    uint8_t entry[] = "an entry";
    uint8_t head[CHAT_HASH_BYTES];
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(entry, sizeof(entry)), head), ERR_OK);
    behind.log_head = head;
    assert_int_equal(send_sealed(&behind), ERR_CONFLICT);
    execute("INSERT INTO chat_log (room_id, seq, body) VALUES ($1, 1, $2)",
        STORE_ARGS(store_blob(team_id, sizeof(team_id)), store_blob(entry, sizeof(entry))));
    assert_int_equal(send_sealed(&behind), ERR_OK);
    assert_int_equal(behind.sent.seq, 3);
    bytes_free(&first.sealed);
    bytes_free(&second.sealed);
    bytes_free(&behind.sealed);
}

static void
test_size_is_limited(void **state)
{
    (void)state;
    // The largest content that the suite allows fits.
    struct draft largest = {.sender = &alice, .content_size = E2E_CONTENT_MAX_BYTES};
    assert_int_equal(send_sealed(&largest), ERR_OK);
    assert_in_range(largest.sealed.size, E2E_CONTENT_MAX_BYTES, CHAT_SEALED_MAX_BYTES);
    bytes_free(&largest.sealed);
    static const uint8_t noise[CHAT_SEALED_MAX_BYTES + 1];
    static const uint8_t request_id[CHAT_ID_BYTES] = {9};
    struct chat_sealed_query query = {.sender = alice,
        .request_id = bytes_view_of(request_id, sizeof(request_id)),
        .room = "team",
        .sealed = bytes_view_of(noise, sizeof(noise)),
        .find_chain = find_chain};
    struct chat_outgoing_sealed sealed;
    struct err_detail why = {0};
    assert_int_equal(chat_sealed_check(store, &query, &sealed, &why), ERR_INVALID);
    assert_non_null(strstr(why.message, "70001"));
    query.sealed.size = 100;
    assert_int_equal(chat_sealed_check(store, &query, &sealed, &why), ERR_INVALID);
    query.request_id.size = 15;
    assert_int_equal(chat_sealed_check(store, &query, &sealed, &why), ERR_INVALID);
}

static void
test_deletion_keeps_the_hash(void **state)
{
    (void)state;
    struct draft message = {.sender = &bob, .device = BOBS, .content_size = 10};
    assert_int_equal(send_sealed(&message), ERR_OK);
    uint8_t hash[CHAT_HASH_BYTES];
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_as_view(&message.sealed), hash), ERR_OK);
    expect((struct draft){.sender = &alice, .content_size = 10}, ERR_OK, NULL);
    expect((struct draft){.sender = &bob, .device = BOBS, .delete_seq = 2}, ERR_DENIED, "somebody else");
    expect((struct draft){.sender = &bob, .device = BOBS, .delete_seq = 3}, ERR_NOT_FOUND, NULL);
    expect((struct draft){.sender = &alice, .delete_seq = 1}, ERR_OK, NULL); // the owner's right
    expect((struct draft){.sender = &bob, .device = BOBS, .delete_seq = 1}, ERR_PRECONDITION, "deleted");
    expect((struct draft){.sender = &bob, .device = BOBS, .delete_seq = 3}, ERR_PRECONDITION, NULL);
    struct reading reading = {0};
    assert_int_equal(read_page(&reading), ERR_OK);
    assert_int_equal(reading.page.count, 3);
    const struct chat_message *gone = &reading.page.messages[0];
    assert_true(gone->is_deleted);
    assert_int_equal(gone->sealed.size, 0);
    assert_true(bytes_view_equal(gone->sealed_hash, bytes_view_of(hash, sizeof(hash))));
    // The whole chain still verifies.
    uint8_t chain[CHAT_HASH_BYTES] = {0};
    for (size_t i = 0; i < reading.page.count; i++) {
        const struct chat_message *link = &reading.page.messages[i];
        enum err err = link->sealed.size > 0 ? e2e_message_chain(chain, link->sealed, chain)
                                             : e2e_message_chain_hash(chain, link->sealed_hash.data, chain);
        assert_int_equal(err, ERR_OK);
        assert_true(bytes_view_equal(link->chain, bytes_view_of(chain, sizeof(chain))));
    }
    chat_history_deinit(&reading.page);
    bytes_free(&message.sealed);
}

static void
test_announced_file_has_to_be_shared_with_the_room(void **state)
{
    (void)state;
    expect((struct draft){.sender = &alice, .file_id = bytes_view_of(team_id, sizeof(team_id))}, ERR_NOT_FOUND,
        "not shared");
    expect((struct draft){.sender = &alice, .file_id = bytes_view_of(team_id, 15)}, ERR_INVALID, "16 bytes");
    expect((struct draft){.sender = &alice, .file_id = bytes_view_of(known_file_id, sizeof(known_file_id))}, ERR_OK,
        NULL);
    struct reading reading = {0};
    assert_int_equal(read_page(&reading), ERR_OK);
    assert_null(reading.page.messages[0].file); // what it is called is sealed
    chat_history_deinit(&reading.page);
}

static void
test_plain_and_sealed_do_not_mix(void **state)
{
    (void)state;
    struct sending plain = {.outgoing = {.sender = alice, .text = "readable"}};
    assert_int_equal(send_outgoing(&plain), ERR_INVALID);
    assert_non_null(strstr(plain.why.message, "encrypted"));
    execute("UPDATE chat_rooms SET is_plain = 1", STORE_NO_ARGS);
    expect((struct draft){.sender = &alice}, ERR_INVALID, "plain room");
}

struct reporting {
    struct store_job job;
    struct chat_complaint complaint;
    struct err_detail why;
};

static enum err
run_report(struct store_tx *tx, struct store_job *job)
{
    struct reporting *reporting = (struct reporting *)job;
    return chat_reports_add(tx, &reporting->complaint, &reporting->why);
}

static enum err
report(uint64_t seq, const uint8_t *key)
{
    struct reporting reporting = {.job = {.run = run_report},
        .complaint = {.reporter = bob, .room = "team", .seq = seq, .reason = "rude"}};
    reporting.complaint.message_key = bytes_view_of(key, key == NULL ? 0 : E2E_MESSAGE_KEY_BYTES);
    return store_write_wait(store, &reporting.job);
}

static void
test_reported_key_has_to_open_the_message(void **state)
{
    (void)state;
    struct e2e_message parsed;
    uint8_t key[E2E_MESSAGE_KEY_BYTES];
    struct draft draft = {.sender = &alice, .content_size = 10};
    expect((struct draft){.sender = &alice, .content_size = 10}, ERR_OK, NULL);
    assert_int_equal(send_sealed(&draft), ERR_OK);
    assert_int_equal(e2e_message_parse(bytes_as_view(&draft.sealed), &parsed, NULL), ERR_OK);
    assert_int_equal(e2e_message_key(&parsed, epoch_secret, key), ERR_OK);
    e2e_message_deinit(&parsed);
    bytes_free(&draft.sealed);
    assert_int_equal(report(1, key), ERR_INVALID);
    assert_int_equal(report(2, key), ERR_OK);
    assert_int_equal(report(1, NULL), ERR_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, close_store)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_messages_are_chained),
        TEST(test_resend_gets_the_first_answer),
        TEST(test_messages_of_others_are_refused),
        TEST(test_changed_bytes_are_refused),
        TEST(test_only_the_present_epoch_counts),
        TEST(test_claims_are_held_against_what_there_is),
        TEST(test_size_is_limited),
        TEST(test_deletion_keeps_the_hash),
        TEST(test_announced_file_has_to_be_shared_with_the_room),
        TEST(test_plain_and_sealed_do_not_mix),
        TEST(test_reported_key_has_to_open_the_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
