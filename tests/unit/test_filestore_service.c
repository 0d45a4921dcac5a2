// The FileStore without a network: uploads, downloads and what goes wrong on their way.
#include "tests/unit/filestore_calls.h"

static void
test_a_file_goes_in_and_out_with_a_restart_between_all_steps(void **state)
{
    struct fixture *f = *state;
    uint8_t md5[16], sha256[32], first_id[16];
    content_digest(DIGEST_MD5, md5);
    content_digest(DIGEST_SHA256, sha256);
    assert_int_equal(save(f, "dir/a.bin", "", content_size), ERR_OK);
    assert_int_equal(plan(f)->chunk_size_bytes, chunk_size);
    assert_int_equal(plan(f)->chunk_count, content_chunks);
    assert_int_equal(plan(f)->arrived.len, 1);
    assert_int_equal(plan(f)->arrived.data[0], 0);
    memcpy(first_id, f->upload_id, 16);
    const uint64_t order[] = {3, 0, 2, 1};
    for (size_t i = 0; i < content_chunks; i++) {
        restart(f);
        assert_int_equal(upload(f, order[i]), ERR_OK);
    }
    restart(f);
    assert_int_equal(save(f, "dir/a.bin", "", content_size), ERR_OK);
    assert_memory_equal(f->upload_id, first_id, 16);
    assert_int_equal(plan(f)->arrived.len, 1);
    assert_int_equal(plan(f)->arrived.data[0], 15);
    assert_int_equal(commit(f, md5), ERR_OK);
    assert_memory_equal(committed(f)->md5.data, md5, 16);
    assert_memory_equal(committed(f)->sha256.data, sha256, 32);
    assert_int_equal(committed(f)->size_bytes, content_size);
    assert_string_equal(committed(f)->owner, "alice");
    assert_string_equal(committed(f)->room, "");
    int64_t created_ms = committed(f)->created_at_ms;
    restart(f);
    assert_int_equal(commit(f, md5), ERR_OK);
    assert_int_equal(committed(f)->created_at_ms, created_ms);
    assert_int_equal(save(f, "dir/a.bin", "", content_size), ERR_OK);
    assert_int_equal(plan(f)->arrived.data[0], 15);
    assert_content(f);
}

static void
test_a_damaged_chunk_is_refused_and_named_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    uint8_t wrong[16] = {1};
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(upload_bytes(f, 2, content + 2 * chunk_size, chunk_size, wrong), ERR_CORRUPT);
    assert_string_equal(f->call.reason, "CHUNK_MD5_MISMATCH");
    assert_non_null(strstr(f->call.why.message, "chunk 2 "));
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(plan(f)->arrived.len, 1);
    assert_int_equal(plan(f)->arrived.data[0], 0);
    assert_int_equal(upload(f, 2), ERR_OK);
}

static void
test_chunks_of_the_wrong_place_size_or_owner_are_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t right_id[16];
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    memcpy(right_id, f->upload_id, 16);
    assert_int_equal(upload_bytes(f, 4, content, 100, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, UINT64_MAX, content, 100, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, 0, content, chunk_size - 1, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, 3, content, 101, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, 0, content, 0, NULL), ERR_OUT_OF_RANGE);
    f->user_id = bob;
    assert_int_equal(upload(f, 0), ERR_NOT_FOUND);
    assert_int_equal(commit(f, NULL), ERR_NOT_FOUND);
    assert_int_equal(cancel(f), ERR_OK); // says nothing about somebody else's upload, and does nothing to it
    f->user_id = alice;
    f->upload_id[0] ^= 1;
    assert_int_equal(upload(f, 0), ERR_NOT_FOUND);
    memcpy(f->upload_id, right_id, 16);
    assert_int_equal(upload(f, 0), ERR_OK);
}

static void
test_requests_with_ids_and_digests_of_the_wrong_size_are_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[17] = {0};
    for (size_t size = 0; size <= 17; size++) {
        ProtobufCBinaryData id = {.len = size, .data = bytes};
        Fc__Filestore__V1__UploadRequest up = FC__FILESTORE__V1__UPLOAD_REQUEST__INIT;
        Fc__Filestore__V1__CommitRequest com = FC__FILESTORE__V1__COMMIT_REQUEST__INIT;
        Fc__Filestore__V1__CancelRequest can = FC__FILESTORE__V1__CANCEL_REQUEST__INIT;
        Fc__Filestore__V1__DownloadRequest down = FC__FILESTORE__V1__DOWNLOAD_REQUEST__INIT;
        up.upload_id = com.upload_id = can.upload_id = down.file_id = id;
        up.md5 = (ProtobufCBinaryData){.len = 16, .data = bytes};
        enum err expected = size == 16 ? ERR_NOT_FOUND : ERR_INVALID;
        assert_int_equal(call(f, "Upload", &up.base), expected);
        assert_int_equal(call(f, "Commit", &com.base), expected);
        assert_int_equal(call(f, "Download", &down.base), expected);
        assert_int_equal(call(f, "Cancel", &can.base), size == 16 ? ERR_OK : ERR_INVALID);
        if (size != 16) {
            up.upload_id = com.upload_id = (ProtobufCBinaryData){.len = 16, .data = bytes};
            up.md5 = com.md5 = id;
            assert_int_equal(call(f, "Upload", &up.base), ERR_INVALID);
            assert_int_equal(call(f, "Commit", &com.base), size == 0 ? ERR_NOT_FOUND : ERR_INVALID);
        }
    }
}

static void
test_a_chunk_sent_twice_is_fine_but_not_with_other_content(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    assert_int_equal(upload_bytes(f, 0, content + chunk_size, chunk_size, NULL), ERR_CONFLICT);
    for (uint64_t i = 1; i < content_chunks; i++) {
        assert_int_equal(upload(f, i), ERR_OK);
    }
    assert_int_equal(commit(f, NULL), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    assert_int_equal(upload_bytes(f, 0, content + chunk_size, chunk_size, NULL), ERR_CONFLICT);
    assert_content(f);
}

static void
test_commit_names_missing_chunks_and_a_wrong_digest(void **state)
{
    struct fixture *f = *state;
    uint8_t md5[16];
    content_digest(DIGEST_MD5, md5);
    md5[0] ^= 1;
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    assert_int_equal(upload(f, 2), ERR_OK);
    assert_int_equal(commit(f, NULL), ERR_PRECONDITION);
    assert_string_equal(f->call.reason, "CHUNKS_MISSING");
    assert_non_null(strstr(f->call.why.message, "1, 3"));
    assert_int_equal(upload(f, 1), ERR_OK);
    assert_int_equal(upload(f, 3), ERR_OK);
    assert_int_equal(commit(f, md5), ERR_CORRUPT);
    assert_string_equal(f->call.reason, "FILE_MD5_MISMATCH");
    assert_int_equal(stat_file(f, "a", 0), ERR_NOT_FOUND);
    md5[0] ^= 1;
    assert_int_equal(commit(f, md5), ERR_OK);
    md5[0] ^= 1;
    assert_int_equal(commit(f, md5), ERR_CORRUPT);
    assert_int_equal(stat_file(f, "a", 0), ERR_OK);
}

static void
test_an_empty_file_has_no_chunks(void **state)
{
    struct fixture *f = *state;
    static const uint8_t md5_of_nothing[16] = {0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04, 0xe9, 0x80, 0x09, 0x98,
        0xec, 0xf8, 0x42, 0x7e};
    assert_int_equal(save(f, "empty", "", 0), ERR_OK);
    assert_int_equal(plan(f)->chunk_count, 0);
    assert_int_equal(commit(f, md5_of_nothing), ERR_OK);
    assert_memory_equal(committed(f)->md5.data, md5_of_nothing, 16);
    restart(f);
    assert_int_equal(stat_file(f, "empty", 0), ERR_OK);
    assert_int_equal(download(f, 0), ERR_OUT_OF_RANGE);
}

static void
test_the_same_request_plans_only_one_file(void **state)
{
    struct fixture *f = *state;
    uint8_t first[16];
    assert_int_equal(save(f, "a", "", 10), ERR_OK);
    memcpy(first, f->upload_id, 16);
    assert_int_equal(save(f, "a", "", 11), ERR_CONFLICT);
    assert_int_equal(save(f, "b", "", 10), ERR_CONFLICT);
    assert_int_equal(save(f, "a", "den", 10), ERR_CONFLICT);
    f->user_id = bob;
    assert_int_equal(save(f, "a", "", 10), ERR_OK);
    assert_memory_not_equal(f->upload_id, first, 16);
}

static void
test_bad_plans_are_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(save(f, "", "", 1), ERR_INVALID);
    assert_int_equal(save(f, "../a", "", 1), ERR_INVALID);
    assert_int_equal(save(f, "/etc/passwd", "", 1), ERR_INVALID);
    assert_int_equal(save(f, "a\nb", "", 1), ERR_INVALID);
    assert_int_equal(save(f, "a", "", FILESTORE_FILE_MAX_BYTES + 1), ERR_INVALID);
    assert_int_equal(save(f, "a", "", FILESTORE_FILE_MAX_BYTES), ERR_NO_SPACE);
    assert_string_equal(f->call.reason, "NO_SPACE");
    assert_int_equal(save(f, "a", "nowhere", 1), ERR_NOT_FOUND);
    assert_int_equal(save(f, "a", "attic", 1), ERR_DENIED);
}

static void
test_cancel_leaves_nothing_and_is_too_late_for_a_file(void **state)
{
    struct fixture *f = *state;
    char path[512];
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    path_of(f, false, path, sizeof(path));
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(cancel(f), ERR_OK);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(cancel(f), ERR_OK);
    assert_int_equal(upload(f, 1), ERR_NOT_FOUND);
    assert_int_equal(commit(f, NULL), ERR_NOT_FOUND);
    put_file(f, "a", "", 0);
    assert_int_equal(cancel(f), ERR_PRECONDITION);
    assert_content(f);
}

static void
test_files_of_others_are_as_good_as_not_there(void **state)
{
    struct fixture *f = *state;
    char hex[33];
    put_file(f, "mine", "", 1);
    bytes_to_hex(bytes_view_of(f->upload_id, 16), hex);
    f->user_id = bob;
    assert_int_equal(download(f, 0), ERR_NOT_FOUND);
    struct err_detail theirs = f->call.why;
    assert_int_equal(stat_file(f, hex, 0), ERR_NOT_FOUND);
    f->upload_id[3] ^= 1;
    assert_int_equal(download(f, 0), ERR_NOT_FOUND);
    assert_string_equal(f->call.why.message, theirs.message);
}

static void
test_a_room_sees_the_file_while_one_is_in_it(void **state)
{
    struct fixture *f = *state;
    put_file(f, "plan.txt", "den", 1);
    assert_string_equal(committed(f)->room, "den");
    f->user_id = bob;
    assert_int_equal(stat_file(f, "den/plan.txt", 0), ERR_OK);
    const Fc__Filestore__V1__StatResponse *stat = (const void *)f->call.reply;
    assert_int_equal(stat->segment_md5s.len, content_chunks * 16);
    assert_int_equal(stat->segment_sha256s.len, content_chunks * 32);
    assert_int_equal(stat_file(f, "den/plan.txt", 3), ERR_OK);
    assert_int_equal(stat_file(f, "den/plan.txt", 5), ERR_OUT_OF_RANGE);
    assert_content(f);
    f->members.is_bob_in_den = false;
    assert_int_equal(download(f, 0), ERR_NOT_FOUND);
    assert_int_equal(stat_file(f, "den/plan.txt", 0), ERR_NOT_FOUND);
}

static void
test_a_file_is_not_shared_with_a_room_that_its_sender_has_left(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(save(f, "a", "den", 0), ERR_OK);
    f->members.is_alice_in_den = false;
    assert_int_equal(commit(f, NULL), ERR_DENIED);
    assert_int_equal(cancel(f), ERR_OK);
}

static void
test_list_goes_on_where_the_page_ended(void **state)
{
    struct fixture *f = *state;
    Fc__Filestore__V1__ListRequest request = FC__FILESTORE__V1__LIST_REQUEST__INIT;
    char token[2000] = "";
    const char *expected[] = {"a", "b", "c"};
    for (uint8_t i = 0; i < 3; i++) {
        memset(f->request_id, i, 16);
        assert_int_equal(save(f, expected[i], "", 0), ERR_OK);
        assert_int_equal(commit(f, NULL), ERR_OK);
    }
    request.limit = 1;
    request.page_token = token;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(call(f, "List", &request.base), ERR_OK);
        const Fc__Filestore__V1__ListResponse *page = (const void *)f->call.reply;
        assert_int_equal(page->n_files, 1);
        assert_string_equal(page->files[0]->name, expected[i]);
        snprintf(token, sizeof(token), "%s", page->next_page_token);
    }
    assert_string_equal(token, "");
    snprintf(token, sizeof(token), "nonsense");
    assert_int_equal(call(f, "List", &request.base), ERR_INVALID);
    token[0] = '\0';
    request.limit = 1001;
    assert_int_equal(call(f, "List", &request.base), ERR_INVALID);
}

static void
test_damage_on_the_disk_is_told_and_not_sent(void **state)
{
    struct fixture *f = *state;
    char path[512];
    put_file(f, "a.bin", "", 1);
    path_of(f, true, path, sizeof(path));
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)chunk_size + 7, SEEK_SET), 0);
    assert_int_equal(fputc(content[chunk_size + 7] ^ 1, file) == EOF, 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(download(f, 0), ERR_OK);
    // Who compares it gets it, and learns the reason by asking again.
    assert_int_equal(download_as(f, 1, true), ERR_OK);
    const Fc__Filestore__V1__DownloadResponse *segment = (const void *)f->call.reply;
    assert_int_equal(segment->data.data[7], content[chunk_size + 7] ^ 1);
    assert_int_equal(download(f, 1), ERR_CORRUPT);
    assert_non_null(strstr(f->call.why.message, "segment 1 of \"a.bin\""));
    assert_int_equal(unlink(path), 0);
    restart(f);
    assert_int_equal(download(f, 0), ERR_CORRUPT);
    assert_int_equal(download_as(f, 0, true), ERR_CORRUPT);
}

static void
test_hints_change_nothing_but_the_time(void **state)
{
    struct fixture *f = *state;
    uint8_t md5[16], sha256[32], chunk_md5[16];
    uint8_t hints[MD5_HINTS_BYTES];
    struct md5_chain chain;
    content_digest(DIGEST_MD5, md5);
    content_digest(DIGEST_SHA256, sha256);
    // Right ones, wrong ones, and what is none.
    for (unsigned round = 0; round < 3; round++) {
        char name[] = "round 0";
        f->request_id[0] = (uint8_t)round;
        name[6] = (char)('0' + round);
        assert_int_equal(save(f, name, "", content_size), ERR_OK);
        md5_chain_begin(&chain);
        for (uint64_t i = 0; i < content_chunks; i++) {
            uint64_t left = content_size - i * chunk_size;
            struct bytes_view data = bytes_view_of(content + i * chunk_size, left < chunk_size ? left : chunk_size);
            assert_int_equal(md5_chain_add(&chain, data, chunk_md5, hints), ERR_OK);
            hints[100] ^= round == 1;
            f->hints = (struct bytes){.data = hints, .size = sizeof(hints) - (round == 2)};
            assert_int_equal(upload(f, i), ERR_OK);
        }
        assert_int_equal(commit(f, md5), ERR_OK);
        assert_memory_equal(committed(f)->sha256.data, sha256, 32);
    }
    f->hints = (struct bytes){0};
}

// record_commit does the part of a commit that makes the file, and not the part that moves its content.
struct record_job {
    struct store_job job; // first
    const struct fixture *f;
};

static enum err
run_record(struct store_tx *tx, struct store_job *job)
{
    struct record_job *record = (struct record_job *)job;
    struct filestore_file file = {.size_bytes = content_size};
    struct err_detail why = {0};
    memcpy(file.id, record->f->upload_id, sizeof(file.id));
    enum err err = digest_of(DIGEST_MD5, bytes_view_of(content, content_size), file.md5);
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_view_of(content, content_size), file.sha256);
    }
    return err == ERR_OK ? filestore_core_commit(tx, &file, 1, &why) : err;
}

static void
commit_half(struct fixture *f)
{
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    for (uint64_t i = 0; i < content_chunks; i++) {
        assert_int_equal(upload(f, i), ERR_OK);
    }
    struct record_job record = {.job = {.run = run_record}, .f = f};
    assert_int_equal(store_write_wait(f->store, &record.job), ERR_OK);
}

static void
test_a_commit_cut_short_is_completed_by_download_commit_or_restart(void **state)
{
    struct fixture *f = *state;
    char path[512];
    for (uint8_t way = 0; way < 3; way++) {
        memset(f->request_id, way, 16);
        content[0] ^= way; // another content, which is not here already
        commit_half(f);
        path_of(f, true, path, sizeof(path));
        assert_int_not_equal(access(path, F_OK), 0);
        if (way == 0) {
            assert_int_equal(download(f, 0), ERR_OK);
        } else if (way == 1) {
            assert_int_equal(commit(f, NULL), ERR_OK);
        } else {
            restart(f);
        }
        assert_int_equal(access(path, F_OK), 0);
        assert_content(f);
    }
}

static void
test_start_sweeps_what_nobody_knows_and_what_is_old(void **state)
{
    struct fixture *f = *state;
    char unknown_path[512], old_path[512], young_path[512];
    memset(f->upload_id, 0xee, 16);
    path_of(f, false, unknown_path, sizeof(unknown_path));
    assert_int_equal(blob_upload_create(f->blobs, f->upload_id, 1), ERR_OK);
    clock_set_unix_ms_for_test(1000);
    assert_int_equal(save(f, "old", "", 10), ERR_OK);
    path_of(f, false, old_path, sizeof(old_path));
    clock_set_unix_ms_for_test(2000);
    memset(f->request_id, 2, 16);
    assert_int_equal(save(f, "young", "", 10), ERR_OK);
    path_of(f, false, young_path, sizeof(young_path));
    assert_int_equal(access(unknown_path, F_OK), 0);
    clock_set_unix_ms_for_test(1001 + FILESTORE_UPLOAD_LIFETIME_MS);
    restart(f);
    assert_int_not_equal(access(unknown_path, F_OK), 0);
    assert_int_not_equal(access(old_path, F_OK), 0);
    assert_int_equal(access(young_path, F_OK), 0);
    assert_int_equal(upload_bytes(f, 0, content, 10, NULL), ERR_OK);
    clock_set_unix_ms_for_test(-1); // not before: a sweep of its own thread may still look at the clock
}

static void
test_every_method_has_its_rule(void **state)
{
    struct fixture *f = *state;
    size_t count = 0;
    const struct rpc_method_rule *rules = filestore_service_rules(&count);
    assert_int_equal(count, filestore_service_rpc(f->filestore)->descriptor->n_methods);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rules[i].access, RPC_ACCESS_TOKEN);
        if (strcmp(rules[i].method, "Upload") == 0) {
            assert_in_range(rules[i].max_request_bytes, FILESTORE_CHUNK_MAX_BYTES + 60, RPC_MESSAGE_MAX_BYTES);
        }
    }
}

int
main(void)
{
    for (size_t i = 0; i < sizeof(content); i++) {
        content[i] = (uint8_t)(i * 31 + i / 251 + i / 65537);
    }
#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(test_a_file_goes_in_and_out_with_a_restart_between_all_steps),
        WITH_SERVICE(test_a_damaged_chunk_is_refused_and_named_and_leaves_nothing),
        WITH_SERVICE(test_chunks_of_the_wrong_place_size_or_owner_are_refused),
        WITH_SERVICE(test_requests_with_ids_and_digests_of_the_wrong_size_are_refused),
        WITH_SERVICE(test_a_chunk_sent_twice_is_fine_but_not_with_other_content),
        WITH_SERVICE(test_commit_names_missing_chunks_and_a_wrong_digest),
        WITH_SERVICE(test_an_empty_file_has_no_chunks),
        WITH_SERVICE(test_the_same_request_plans_only_one_file),
        WITH_SERVICE(test_bad_plans_are_refused),
        WITH_SERVICE(test_cancel_leaves_nothing_and_is_too_late_for_a_file),
        WITH_SERVICE(test_files_of_others_are_as_good_as_not_there),
        WITH_SERVICE(test_a_room_sees_the_file_while_one_is_in_it),
        WITH_SERVICE(test_a_file_is_not_shared_with_a_room_that_its_sender_has_left),
        WITH_SERVICE(test_list_goes_on_where_the_page_ended),
        WITH_SERVICE(test_damage_on_the_disk_is_told_and_not_sent),
        WITH_SERVICE(test_hints_change_nothing_but_the_time),
        WITH_SERVICE(test_a_commit_cut_short_is_completed_by_download_commit_or_restart),
        WITH_SERVICE(test_start_sweeps_what_nobody_knows_and_what_is_old),
        WITH_SERVICE(test_every_method_has_its_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
