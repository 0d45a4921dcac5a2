// What the FileStore keeps of names: versions, contents stored once, deletion, shares, quotas, small files; and what a
// second user may not do.
#include "services/filestore/filestore_check.h"
#include "services/filestore/filestore_contents.h"
#include "tests/unit/filestore_calls.h"

static void
next_request(struct fixture *f)
{
    f->request_id[15]++;
}

// store_bytes stores a file by the long way.
static const uint8_t *
store_bytes(struct fixture *f, const char *name, const char *room, const void *data, size_t size)
{
    next_request(f);
    assert_int_equal(save(f, name, room, size), ERR_OK);
    if (size != 0) {
        assert_int_equal(upload_bytes(f, 0, data, size, NULL), ERR_OK);
    }
    assert_int_equal(commit(f, NULL), ERR_OK);
    return f->upload_id;
}

static void
store_short(struct fixture *f, const char *name, const char *room, const char *text)
{
    store_bytes(f, name, room, text, strlen(text));
}

static const Fc__Filestore__V1__File *
stat_of(struct fixture *f, const char *name)
{
    assert_int_equal(stat_file(f, name, 0), ERR_OK);
    return ((const Fc__Filestore__V1__StatResponse *)f->call.reply)->file;
}

static void
assert_text(struct fixture *f, const char *name, const char *text)
{
    Fc__Filestore__V1__DownloadRequest request = FC__FILESTORE__V1__DOWNLOAD_REQUEST__INIT;
    uint8_t id[16];
    memcpy(id, stat_of(f, name)->id.data, 16);
    request.file_id = (ProtobufCBinaryData){.len = 16, .data = id};
    assert_int_equal(call(f, "Download", &request.base), ERR_OK);
    const Fc__Filestore__V1__DownloadResponse *response = (const void *)f->call.reply;
    assert_int_equal(response->data.len, strlen(text));
    assert_memory_equal(response->data.data, text, strlen(text));
}

static char *
text_of(const char *text)
{
    return (char *)(uintptr_t)text;
}

static enum err
rename_file(struct fixture *f, const char *file, const char *new_name)
{
    Fc__Filestore__V1__RenameRequest request = FC__FILESTORE__V1__RENAME_REQUEST__INIT;
    request.file = text_of(file);
    request.new_name = text_of(new_name);
    return call(f, "Rename", &request.base);
}

static enum err
delete_file(struct fixture *f, const char *file, uint64_t version)
{
    Fc__Filestore__V1__DeleteRequest request = FC__FILESTORE__V1__DELETE_REQUEST__INIT;
    request.file = text_of(file);
    request.version = version;
    return call(f, "Delete", &request.base);
}

static enum err
restore_file(struct fixture *f, const char *file)
{
    Fc__Filestore__V1__RestoreRequest request = FC__FILESTORE__V1__RESTORE_REQUEST__INIT;
    request.file = text_of(file);
    return call(f, "Restore", &request.base);
}

static enum err
share(struct fixture *f, const char *file, const char *room, const char *user, bool is_unshare)
{
    Fc__Filestore__V1__ShareRequest request = FC__FILESTORE__V1__SHARE_REQUEST__INIT;
    request.file = text_of(file);
    request.room = text_of(room);
    request.user_name = text_of(user);
    request.is_unshare = is_unshare;
    return call(f, "Share", &request.base);
}

// list_names joins the names of a List with spaces.
static const char *
list_names(struct fixture *f, Fc__Filestore__V1__ListRequest request)
{
    static char names[1000];
    assert_int_equal(call(f, "List", &request.base), ERR_OK);
    const Fc__Filestore__V1__ListResponse *page = (const void *)f->call.reply;
    names[0] = '\0';
    for (size_t i = 0; i < page->n_files; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof(names) - used, "%s%s", used == 0 ? "" : " ", page->files[i]->name);
    }
    return names;
}

static const Fc__Filestore__V1__GetUsageResponse *
usage(struct fixture *f, const char *room)
{
    Fc__Filestore__V1__GetUsageRequest request = FC__FILESTORE__V1__GET_USAGE_REQUEST__INIT;
    request.room = text_of(room);
    assert_int_equal(call(f, "GetUsage", &request.base), ERR_OK);
    return (const void *)f->call.reply;
}

// count_files counts the content files on disk.
static size_t
count_files(const struct fixture *f)
{
    char command[600];
    unsigned count = 0;
    snprintf(command, sizeof(command), "find '%s' -type f | wc -l", f->blob_dir);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

static void
print_line(void *context, const char *line)
{
    (void)snprintf(context, 2000, "%s", line);
}

// check runs the check of a stopped server on this one, between calls.
static struct filestore_check_result
check(struct fixture *f, bool is_repairing, char line_out[2000])
{
    struct filestore_check_result result;
    struct filestore_check_options options = {.store = f->store,
        .blobs = f->blobs,
        .is_repairing = is_repairing,
        .report = print_line,
        .context = line_out};
    line_out[0] = '\0';
    assert_int_equal(filestore_check(&options, &result, &f->why), ERR_OK);
    return result;
}

static void
assert_well(struct fixture *f)
{
    char line[2000];
    struct filestore_check_result result = check(f, false, line);
    assert_string_equal(line, "");
    assert_int_equal(result.damaged_count + result.chunk_count + result.orphan_count, 0);
}

static void
test_what_is_said_of_a_file_is_kept(void **state)
{
    struct fixture *f = *state;
    Fc__Filestore__V1__SaveRequest request = FC__FILESTORE__V1__SAVE_REQUEST__INIT;
    request.name = text_of("a");
    request.mime_type = text_of("text/plain");
    request.mode = 0640;
    request.modified_at_ms = 1234567;
    request.expires_at_ms = clock_unix_ms() + 3600 * 1000;
    assert_int_equal(call(f, "Save", &request.base), ERR_OK);
    memcpy(f->upload_id, plan(f)->upload_id.data, 16);
    assert_int_equal(commit(f, NULL), ERR_OK);
    const Fc__Filestore__V1__File *file = stat_of(f, "a");
    assert_string_equal(file->mime_type, "text/plain");
    assert_int_equal(file->mode, 0640);
    assert_int_equal(file->modified_at_ms, 1234567);
    assert_int_equal(file->expires_at_ms, request.expires_at_ms);
    assert_int_not_equal(file->version, 0);
    next_request(f);
    request.mode = 010000;
    assert_int_equal(call(f, "Save", &request.base), ERR_INVALID);
    request.mode = 0;
    request.mime_type = text_of("text/\nplain");
    assert_int_equal(call(f, "Save", &request.base), ERR_INVALID);
    request.mime_type = text_of("");
    request.expires_at_ms = 1;
    assert_int_equal(call(f, "Save", &request.base), ERR_INVALID);
    request.expires_at_ms = 0;
    request.md5 = (ProtobufCBinaryData){.len = 15, .data = f->upload_id};
    assert_int_equal(call(f, "Save", &request.base), ERR_INVALID);
}

static void
test_a_size_that_was_not_known_is_said_at_the_end(void **state)
{
    struct fixture *f = *state;
    Fc__Filestore__V1__SaveRequest request = FC__FILESTORE__V1__SAVE_REQUEST__INIT;
    Fc__Filestore__V1__CommitRequest commit_request = FC__FILESTORE__V1__COMMIT_REQUEST__INIT;
    const size_t chunk = FILESTORE_UNKNOWN_CHUNK_BYTES;
    uint8_t *data = calloc(1, chunk + 1);
    assert_non_null(data);
    request.name = text_of("stream");
    request.is_size_unknown = true;
    assert_int_equal(call(f, "Save", &request.base), ERR_OK);
    assert_int_equal(plan(f)->chunk_size_bytes, chunk);
    memcpy(f->upload_id, plan(f)->upload_id.data, 16);
    assert_int_equal(upload_bytes(f, 0, data, chunk + 1, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, 0, data, 0, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, UINT64_C(1) << 60, data, 1, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, 0, data, chunk, NULL), ERR_OK);
    assert_int_equal(upload_bytes(f, 2, data, 5, NULL), ERR_OK);
    assert_int_equal(call(f, "Save", &request.base), ERR_OK); // resumed
    assert_int_equal(plan(f)->arrived.len, 1);
    assert_int_equal(plan(f)->arrived.data[0], 5);
    commit_request.upload_id = (ProtobufCBinaryData){.len = 16, .data = f->upload_id};
    commit_request.size_bytes = 2 * chunk + 5;
    assert_int_equal(call(f, "Commit", &commit_request.base), ERR_PRECONDITION);
    assert_string_equal(f->call.reason, "CHUNKS_MISSING");
    assert_int_equal(upload_bytes(f, 1, data, chunk, NULL), ERR_OK);
    const uint64_t wrong[] = {0, chunk, 2 * chunk, 2 * chunk + 4, 2 * chunk + 6, 3 * chunk + 5, UINT64_MAX};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        commit_request.size_bytes = wrong[i];
        assert_int_not_equal(call(f, "Commit", &commit_request.base), ERR_OK);
        assert_int_equal(stat_file(f, "stream", 0), ERR_NOT_FOUND);
    }
    commit_request.size_bytes = 2 * chunk + 5;
    assert_int_equal(call(f, "Commit", &commit_request.base), ERR_OK);
    assert_int_equal(stat_of(f, "stream")->size_bytes, 2 * chunk + 5);
    assert_int_equal(download(f, 2), ERR_OK);
    assert_int_equal(download(f, 3), ERR_OUT_OF_RANGE);
    assert_well(f);
    free(data);
}

static void
test_a_commit_can_expect_a_version(void **state)
{
    struct fixture *f = *state;
    Fc__Filestore__V1__SaveRequest request = FC__FILESTORE__V1__SAVE_REQUEST__INIT;
    request.name = text_of("a");
    request.is_version_checked = true;
    assert_int_equal(call(f, "Save", &request.base), ERR_OK);
    uint8_t first[16];
    memcpy(first, plan(f)->upload_id.data, 16);
    store_short(f, "a", "", "meanwhile");
    memcpy(f->upload_id, first, 16);
    assert_int_equal(commit(f, NULL), ERR_CONFLICT);
    assert_text(f, "a", "meanwhile");
    next_request(f);
    assert_int_equal(call(f, "Save", &request.base), ERR_CONFLICT);
    request.expected_version = stat_of(f, "a")->version;
    assert_int_equal(call(f, "Save", &request.base), ERR_OK);
    memcpy(f->upload_id, plan(f)->upload_id.data, 16);
    assert_int_equal(commit(f, NULL), ERR_OK);
    assert_int_equal(stat_of(f, "a")->size_bytes, 0);
}

static enum err
save_known(struct fixture *f, const char *name, const void *data, size_t size)
{
    Fc__Filestore__V1__SaveRequest request = FC__FILESTORE__V1__SAVE_REQUEST__INIT;
    uint8_t md5[16], sha256[32];
    assert_int_equal(digest_of(DIGEST_MD5, bytes_view_of(data, size), md5), ERR_OK);
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(data, size), sha256), ERR_OK);
    request.name = text_of(name);
    request.size_bytes = size;
    request.md5 = (ProtobufCBinaryData){.len = 16, .data = md5};
    request.sha256 = (ProtobufCBinaryData){.len = 32, .data = sha256};
    next_request(f);
    enum err err = call(f, "Save", &request.base);
    if (err == ERR_OK) {
        memcpy(f->upload_id, plan(f)->upload_id.data, 16);
    }
    return err;
}

static void
test_known_content_is_not_sent_again_by_who_may_read_it(void **state)
{
    struct fixture *f = *state;
    put_file(f, "a", "", 1);
    f->request_id[15] = 100;
    size_t files = count_files(f);
    assert_int_equal(save_known(f, "b", content, content_size), ERR_OK);
    assert_true(plan(f)->is_complete);
    assert_int_equal(plan(f)->arrived.data[0], 0x0f);
    assert_int_equal(upload(f, 1), ERR_OK); // who sends it nevertheless
    assert_int_equal(commit(f, NULL), ERR_OK);
    assert_content(f);
    assert_int_equal(count_files(f), files);
    // Bob has no file with it, so he has to show that he has it.
    f->user_id = bob;
    assert_int_equal(save_known(f, "c", content, content_size), ERR_OK);
    assert_false(plan(f)->is_complete);
    assert_int_equal(plan(f)->arrived.data[0], 0);
    assert_int_equal(commit(f, NULL), ERR_PRECONDITION);
    assert_int_equal(cancel(f), ERR_OK);
    // Once it is shared with him he may read it anyway.
    f->user_id = alice;
    assert_int_equal(share(f, "a", "", "bob", false), ERR_OK);
    f->user_id = bob;
    assert_int_equal(save_known(f, "c", content, content_size), ERR_OK);
    assert_true(plan(f)->is_complete);
    assert_int_equal(commit(f, NULL), ERR_OK);
    assert_content(f);
}

static void
wait_for_files(struct fixture *f, size_t count)
{
    for (int i = 0; i < 1000 && count_files(f) != count; i++) {
        usleep(10 * 1000);
    }
    assert_int_equal(count_files(f), count);
}

static void
test_the_same_content_is_stored_once_and_stays_until_the_last_name_goes(void **state)
{
    struct fixture *f = *state;
    f->options.delete_grace_ms = 0;
    restart(f);
    put_file(f, "a", "", 1);
    f->user_id = bob;
    put_file(f, "b", "", 2);
    wait_for_files(f, 1);
    f->user_id = alice;
    assert_int_equal(delete_file(f, "a", 0), ERR_OK);
    restart(f);
    assert_int_equal(count_files(f), 1);
    f->user_id = bob;
    assert_content(f);
    assert_int_equal(delete_file(f, "b", 0), ERR_OK);
    wait_for_files(f, 0);
    assert_well(f);
}

static void
test_an_upload_heals_content_that_is_damaged(void **state)
{
    struct fixture *f = *state;
    char path[512], line[2000];
    uint8_t first_id[16], second_id[16];
    put_file(f, "a", "", 1);
    memcpy(first_id, f->upload_id, 16);
    path_of(f, true, path, sizeof(path));
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 5, SEEK_SET), 0);
    assert_int_equal(fputc(content[5] ^ 1, file) == EOF, 0);
    assert_int_equal(fclose(file), 0);
    struct filestore_check_result result = check(f, false, line);
    assert_int_equal(result.damaged_count, 1);
    assert_non_null(strstr(line, "\"a\" of alice"));
    assert_non_null(strstr(line, "1 damaged segments, counted from 0: 0 "));
    // It is noticed although nobody has read it since.
    put_file(f, "b", "", 2);
    memcpy(second_id, f->upload_id, 16);
    assert_content(f);
    memcpy(f->upload_id, first_id, 16);
    assert_content(f);
    wait_for_files(f, 1);
    assert_well(f);
}

static void
test_a_name_and_its_versions_can_be_renamed_by_the_owner(void **state)
{
    struct fixture *f = *state;
    store_short(f, "a", "den", "1");
    store_short(f, "a", "", "2");
    store_short(f, "other", "", "3");
    assert_int_equal(rename_file(f, "a", "other"), ERR_EXISTS);
    assert_int_equal(rename_file(f, "a", "../b"), ERR_INVALID);
    assert_int_equal(rename_file(f, "none", "b"), ERR_NOT_FOUND);
    f->user_id = bob;
    assert_int_equal(rename_file(f, "a", "b"), ERR_NOT_FOUND);
    assert_int_equal(rename_file(f, "den/a", "b"), ERR_DENIED);
    f->user_id = alice;
    assert_int_equal(rename_file(f, "a", "dir/b"), ERR_OK);
    assert_int_equal(stat_file(f, "a", 0), ERR_NOT_FOUND);
    assert_text(f, "dir/b", "2");
    Fc__Filestore__V1__ListRequest all = FC__FILESTORE__V1__LIST_REQUEST__INIT;
    all.all_versions = true;
    assert_string_equal(list_names(f, all), "dir/b dir/b other");
    f->user_id = bob;
    assert_text(f, "den/dir/b", "2");
}

static void
test_deleted_files_can_be_restored_by_the_owner(void **state)
{
    struct fixture *f = *state;
    Fc__Filestore__V1__ListRequest deleted = FC__FILESTORE__V1__LIST_REQUEST__INIT;
    Fc__Filestore__V1__ListRequest there = FC__FILESTORE__V1__LIST_REQUEST__INIT;
    deleted.deleted = true;
    store_short(f, "a", "den", "1");
    uint64_t first = stat_of(f, "a")->version;
    store_short(f, "a", "", "2");
    f->user_id = bob;
    assert_int_equal(delete_file(f, "den/a", 0), ERR_DENIED);
    assert_int_equal(delete_file(f, "a", 0), ERR_NOT_FOUND);
    f->user_id = alice;
    assert_int_equal(delete_file(f, "a", first + 1000), ERR_NOT_FOUND);
    assert_int_equal(delete_file(f, "a", UINT64_MAX), ERR_NOT_FOUND);
    uint64_t second = stat_of(f, "a")->version;
    assert_int_equal(delete_file(f, "a", second), ERR_OK);
    assert_text(f, "a", "1");
    assert_int_equal(delete_file(f, "a", 0), ERR_OK);
    assert_int_equal(stat_file(f, "a", 0), ERR_NOT_FOUND);
    assert_string_equal(list_names(f, there), "");
    assert_string_equal(list_names(f, deleted), "a a");
    f->user_id = bob;
    assert_string_equal(list_names(f, deleted), "");
    assert_int_equal(restore_file(f, "a"), ERR_NOT_FOUND);
    assert_int_equal(restore_file(f, "den/a"), ERR_NOT_FOUND);
    f->user_id = alice;
    restart(f);
    assert_int_equal(restore_file(f, "a"), ERR_OK);
    assert_text(f, "a", "1"); // the one that was deleted last
    assert_int_equal(restore_file(f, "a"), ERR_OK);
    assert_text(f, "a", "2");
    assert_int_equal(restore_file(f, "a"), ERR_NOT_FOUND);
    // What the name was shared with has ended.
    f->user_id = bob;
    assert_int_equal(stat_file(f, "den/a", 0), ERR_NOT_FOUND);
}

static void
test_deleted_and_expired_files_go_when_their_time_has_come(void **state)
{
    struct fixture *f = *state;
    Fc__Filestore__V1__SaveRequest request = FC__FILESTORE__V1__SAVE_REQUEST__INIT;
    clock_set_unix_ms_for_test(1000);
    store_short(f, "deleted", "", "1");
    assert_int_equal(delete_file(f, "deleted", 0), ERR_OK);
    request.name = text_of("expiring");
    request.size_bytes = 3;
    request.expires_at_ms = 5000;
    next_request(f);
    assert_int_equal(call(f, "Save", &request.base), ERR_OK);
    memcpy(f->upload_id, plan(f)->upload_id.data, 16);
    assert_int_equal(upload_bytes(f, 0, (const uint8_t *)"two", 3, NULL), ERR_OK);
    assert_int_equal(commit(f, NULL), ERR_OK);
    store_short(f, "stays", "", "3");
    assert_text(f, "expiring", "two");
    clock_set_unix_ms_for_test(5000);
    assert_int_equal(stat_file(f, "expiring", 0), ERR_NOT_FOUND); // before any sweep
    restart(f);
    wait_for_files(f, 2);
    clock_set_unix_ms_for_test(1000 + f->options.delete_grace_ms - 1);
    restart(f);
    assert_int_equal(restore_file(f, "deleted"), ERR_OK);
    assert_int_equal(delete_file(f, "deleted", 0), ERR_OK);
    clock_set_unix_ms_for_test(1000 + 2 * f->options.delete_grace_ms);
    restart(f);
    wait_for_files(f, 1);
    assert_int_equal(restore_file(f, "deleted"), ERR_NOT_FOUND);
    assert_text(f, "stays", "3");
    assert_well(f);
    clock_set_unix_ms_for_test(-1);
}

static void
test_the_owner_shares_with_rooms_and_users(void **state)
{
    struct fixture *f = *state;
    char hex[33];
    store_short(f, "a", "", "1");
    bytes_to_hex(bytes_view_of(f->upload_id, 16), hex);
    assert_int_equal(share(f, "a", "", "", false), ERR_INVALID);
    assert_int_equal(share(f, "a", "den", "bob", false), ERR_INVALID);
    assert_int_equal(share(f, "a", "attic", "", false), ERR_DENIED);
    assert_int_equal(share(f, "a", "nowhere", "", false), ERR_NOT_FOUND);
    assert_int_equal(share(f, "a", "", "nobody", false), ERR_NOT_FOUND);
    assert_int_equal(share(f, "a", "", "alice", false), ERR_INVALID);
    f->user_id = bob;
    assert_int_equal(share(f, hex, "den", "", false), ERR_NOT_FOUND);
    assert_int_equal(stat_file(f, hex, 0), ERR_NOT_FOUND);
    f->user_id = alice;
    assert_int_equal(share(f, "a", "", "bob", false), ERR_OK);
    assert_int_equal(share(f, "a", "", "bob", false), ERR_OK);
    store_short(f, "a", "", "2"); // a later version
    f->user_id = bob;
    assert_text(f, hex, "1");
    assert_int_equal(share(f, hex, "den", "", false), ERR_DENIED);
    Fc__Filestore__V1__ListRequest list = FC__FILESTORE__V1__LIST_REQUEST__INIT;
    assert_string_equal(list_names(f, list), "a");
    list.mine_only = true;
    assert_string_equal(list_names(f, list), "");
    f->user_id = carol;
    assert_int_equal(stat_file(f, hex, 0), ERR_NOT_FOUND);
    f->user_id = alice;
    assert_int_equal(share(f, "a", "", "bob", true), ERR_OK);
    assert_int_equal(share(f, "a", "", "bob", true), ERR_NOT_FOUND);
    f->user_id = bob;
    assert_int_equal(stat_file(f, hex, 0), ERR_NOT_FOUND);
    f->user_id = alice;
    assert_int_equal(share(f, "a", "den", "", false), ERR_OK);
    assert_string_equal(stat_of(f, "a")->room, "den");
    f->user_id = bob;
    assert_text(f, "den/a", "2");
    f->members.is_bob_in_den = false;
    assert_int_equal(stat_file(f, hex, 0), ERR_NOT_FOUND);
    f->members.is_bob_in_den = true;
    f->user_id = alice;
    assert_int_equal(share(f, "a", "den", "", true), ERR_OK);
    f->user_id = bob;
    assert_int_equal(stat_file(f, "den/a", 0), ERR_NOT_FOUND);
}

static void
test_a_new_file_is_not_shared_with_who_read_a_deleted_one_of_its_name(void **state)
{
    struct fixture *f = *state;
    store_short(f, "a", "den", "1");
    assert_int_equal(delete_file(f, "a", 0), ERR_OK);
    store_short(f, "a", "", "secret");
    f->user_id = bob;
    assert_int_equal(stat_file(f, "den/a", 0), ERR_NOT_FOUND);
    f->user_id = alice;
    // The same of one that has expired, before any sweep.
    Fc__Filestore__V1__SaveRequest request = FC__FILESTORE__V1__SAVE_REQUEST__INIT;
    clock_set_unix_ms_for_test(1000);
    request.name = text_of("b");
    request.room = text_of("den");
    request.expires_at_ms = 2000;
    next_request(f);
    assert_int_equal(call(f, "Save", &request.base), ERR_OK);
    memcpy(f->upload_id, plan(f)->upload_id.data, 16);
    assert_int_equal(commit(f, NULL), ERR_OK);
    f->user_id = bob;
    assert_int_equal(stat_file(f, "den/b", 0), ERR_OK);
    f->user_id = alice;
    clock_set_unix_ms_for_test(3000);
    store_short(f, "b", "", "secret");
    f->user_id = bob;
    assert_int_equal(stat_file(f, "den/b", 0), ERR_NOT_FOUND);
    clock_set_unix_ms_for_test(-1);
}

static void
test_lists_of_rooms_versions_and_ones_own(void **state)
{
    struct fixture *f = *state;
    char token[2000] = "";
    Fc__Filestore__V1__ListRequest list = FC__FILESTORE__V1__LIST_REQUEST__INIT;
    store_short(f, "a", "den", "1");
    store_short(f, "a", "", "2");
    store_short(f, "b", "", "3");
    f->user_id = bob;
    store_short(f, "c", "den", "4");
    list.room = text_of("den");
    assert_string_equal(list_names(f, list), "a c");
    list.mine_only = true;
    assert_string_equal(list_names(f, list), "c");
    list.mine_only = false;
    list.all_versions = true;
    list.limit = 1;
    list.page_token = token;
    uint64_t last_version = UINT64_MAX;
    const char *expected[] = {"a", "a", "c"};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(list_names(f, list), expected[i]);
        const Fc__Filestore__V1__ListResponse *page = (const void *)f->call.reply;
        assert_true(i != 1 || page->files[0]->version < last_version);
        last_version = page->files[0]->version;
        snprintf(token, sizeof(token), "%s", page->next_page_token);
    }
    assert_string_equal(token, "");
    list.room = text_of("attic");
    assert_int_equal(call(f, "List", &list.base), ERR_DENIED);
}

static void
test_quotas_bound_what_users_and_rooms_store(void **state)
{
    struct fixture *f = *state;
    f->options.user_quota_bytes = 100;
    f->options.room_quota_bytes = 60;
    restart(f);
    store_bytes(f, "a", "", content, 50);
    assert_int_equal(usage(f, "")->used_bytes, 50);
    assert_int_equal(usage(f, "")->file_count, 1);
    assert_int_equal(usage(f, "")->quota_bytes, 100);
    next_request(f);
    assert_int_equal(save(f, "b", "", 51), ERR_LIMIT);
    assert_string_equal(f->call.reason, "QUOTA");
    assert_non_null(strstr(f->call.why.message, "100"));
    // What is planned counts.
    assert_int_equal(save(f, "b", "", 40), ERR_OK);
    next_request(f);
    assert_int_equal(save(f, "c", "", 11), ERR_LIMIT);
    assert_int_equal(cancel(f), ERR_OK); // b's
    assert_int_equal(save(f, "c", "", 11), ERR_OK);
    assert_int_equal(cancel(f), ERR_OK);
    // What is deleted does not, and goes early when its room is needed.
    assert_int_equal(delete_file(f, "a", 0), ERR_OK);
    store_bytes(f, "d", "den", content, 50);
    assert_int_equal(restore_file(f, "a"), ERR_OK);
    assert_int_equal(delete_file(f, "a", 0), ERR_OK);
    store_bytes(f, "d2", "den", content, 10);
    assert_int_equal(restore_file(f, "a"), ERR_NOT_FOUND);
    assert_int_equal(delete_file(f, "d2", 0), ERR_OK);
    f->options.user_quota_bytes = 59;
    restart(f);
    assert_int_equal(restore_file(f, "d2"), ERR_LIMIT);
    assert_string_equal(f->call.reason, "QUOTA");
    f->options.user_quota_bytes = 100;
    restart(f);
    assert_int_equal(restore_file(f, "d2"), ERR_OK);
    assert_int_equal(share(f, "d2", "den", "", false), ERR_OK);
    assert_int_equal(usage(f, "den")->used_bytes, 60);
    assert_int_equal(usage(f, "den")->quota_bytes, 60);
    f->user_id = bob;
    next_request(f);
    assert_int_equal(save(f, "e", "den", 1), ERR_LIMIT);
    assert_string_equal(f->call.reason, "QUOTA");
    store_bytes(f, "e", "", content, 1);
    assert_int_equal(share(f, "e", "den", "", false), ERR_LIMIT);
    assert_string_equal(f->call.reason, "QUOTA");
    f->members.is_bob_in_den = false;
    Fc__Filestore__V1__GetUsageRequest request = FC__FILESTORE__V1__GET_USAGE_REQUEST__INIT;
    request.room = text_of("den");
    assert_int_equal(call(f, "GetUsage", &request.base), ERR_DENIED);
}

static void
test_a_quota_that_fell_meanwhile_refuses_the_commit(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(save(f, "a", "", 50), ERR_OK);
    assert_int_equal(upload_bytes(f, 0, content, 50, NULL), ERR_OK);
    f->options.user_quota_bytes = 49;
    restart(f);
    assert_int_equal(commit(f, NULL), ERR_LIMIT);
    assert_string_equal(f->call.reason, "QUOTA");
    assert_int_equal(stat_file(f, "a", 0), ERR_NOT_FOUND);
    f->options.user_quota_bytes = 50;
    restart(f);
    assert_int_equal(commit(f, NULL), ERR_OK);
}

struct put {
    Fc__Filestore__V1__PutRequest request;
    Fc__Filestore__V1__PutFile files[20];
    Fc__Filestore__V1__PutFile *pointers[20];
    uint8_t md5s[20][16];
};

static void
put_add(struct put *put, const char *name, const void *data, size_t size)
{
    size_t i = put->request.n_files++;
    fc__filestore__v1__put_file__init(&put->files[i]);
    put->files[i].name = text_of(name);
    put->files[i].data = (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
    assert_int_equal(digest_of(DIGEST_MD5, bytes_view_of(data, size), put->md5s[i]), ERR_OK);
    put->files[i].md5 = (ProtobufCBinaryData){.len = 16, .data = put->md5s[i]};
    put->pointers[i] = &put->files[i];
    put->request.files = put->pointers;
}

static uint32_t
put_result(const struct fixture *f, size_t i)
{
    return ((const Fc__Filestore__V1__PutResponse *)f->call.reply)->results[i]->code;
}

static void
test_small_files_are_put_together_and_each_on_its_own(void **state)
{
    struct fixture *f = *state;
    struct put put = {.request = FC__FILESTORE__V1__PUT_REQUEST__INIT};
    put_add(&put, "dir/1", "one", 3);
    put_add(&put, "../2", "two", 3);
    put_add(&put, "3", "three", 5);
    put.md5s[2][0] ^= 1;
    put_add(&put, "4", "one", 3); // the same content
    put_add(&put, "5", "five", 4);
    put.files[4].is_version_checked = true;
    put.files[4].expected_version = 99;
    put_add(&put, "6", "", 0);
    put_add(&put, "big", content, 700000);
    put.files[0].mode = 0755;
    put.files[0].mime_type = text_of("text/x-sh");
    put.request.room = text_of("den");
    next_request(f);
    assert_int_equal(call(f, "Put", &put.request.base), ERR_OK);
    assert_int_equal(put_result(f, 0), 0);
    assert_int_equal(put_result(f, 1), 3);
    assert_int_equal(put_result(f, 2), 15);
    assert_int_equal(put_result(f, 3), 0);
    assert_int_equal(put_result(f, 4), 10);
    assert_int_equal(put_result(f, 5), 0);
    assert_int_equal(put_result(f, 6), 0);
    assert_int_equal(count_files(f), 0);
    restart(f);
    // The same request again finds what it stored.
    uint64_t version = stat_of(f, "dir/1")->version;
    assert_int_equal(call(f, "Put", &put.request.base), ERR_OK);
    assert_int_equal(put_result(f, 0), 0);
    assert_int_equal(stat_of(f, "dir/1")->version, version);
    assert_int_equal(stat_of(f, "dir/1")->mode, 0755);
    assert_string_equal(stat_of(f, "dir/1")->mime_type, "text/x-sh");
    assert_text(f, "dir/1", "one");
    assert_text(f, "4", "one");
    assert_int_equal(stat_of(f, "big")->size_bytes, 700000);
    assert_int_equal(stat_of(f, "6")->size_bytes, 0);
    memcpy(f->upload_id, stat_of(f, "big")->id.data, 16);
    assert_int_equal(download(f, 2), ERR_OK);
    const Fc__Filestore__V1__DownloadResponse *segment = (const void *)f->call.reply;
    assert_int_equal(segment->data.len, 700000 - 2 * chunk_size);
    assert_memory_equal(segment->data.data, content + 2 * (size_t)chunk_size, segment->data.len);
    f->user_id = bob;
    assert_text(f, "den/dir/1", "one");
    f->members.is_bob_in_den = false;
    assert_int_equal(call(f, "Put", &put.request.base), ERR_DENIED);
    f->user_id = alice;
    f->options.delete_grace_ms = 0;
    restart(f);
    assert_int_equal(delete_file(f, "dir/1", 0), ERR_OK);
    restart(f);
    assert_text(f, "4", "one");
    assert_well(f);
}

static void
test_put_takes_what_fits_a_call_and_the_quota(void **state)
{
    struct fixture *f = *state;
    struct put put = {.request = FC__FILESTORE__V1__PUT_REQUEST__INIT};
    static uint8_t large[FILESTORE_INLINE_MAX_BYTES];
    put_add(&put, "1", large, sizeof(large));
    put_add(&put, "2", "x", 1);
    assert_int_equal(call(f, "Put", &put.request.base), ERR_INVALID);
    f->options.user_quota_bytes = 10;
    restart(f);
    put = (struct put){.request = FC__FILESTORE__V1__PUT_REQUEST__INIT};
    put_add(&put, "1", "123456", 6);
    put_add(&put, "2", "1234567", 7);
    put_add(&put, "3", "123", 3);
    next_request(f);
    assert_int_equal(call(f, "Put", &put.request.base), ERR_OK);
    assert_int_equal(put_result(f, 0), 0);
    assert_int_equal(put_result(f, 1), 8);
    assert_int_equal(put_result(f, 2), 0);
}

static void
test_check_finds_and_removes_orphans_and_has_bad_chunks_sent_again(void **state)
{
    struct fixture *f = *state;
    char line[2000], path[512];
    const uint8_t orphan[16] = "orphan..........";
    store_short(f, "a", "", "whole");
    assert_int_equal(blob_upload_create(f->blobs, orphan, 1), ERR_OK);
    assert_int_equal(blob_upload_finish(f->blobs, orphan), ERR_OK);
    next_request(f);
    assert_int_equal(save(f, "b", "", content_size), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    assert_int_equal(upload(f, 1), ERR_OK);
    path_of(f, false, path, sizeof(path));
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fputc(content[0] ^ 1, file) == EOF, 0);
    assert_int_equal(fclose(file), 0);
    struct filestore_check_result result = check(f, false, line);
    assert_int_equal(result.orphan_count, 1);
    assert_int_equal(result.chunk_count, 1);
    assert_int_equal(result.damaged_count, 0);
    (void)check(f, true, line);
    assert_well(f);
    assert_int_equal(save(f, "b", "", content_size), ERR_OK);
    assert_int_equal(plan(f)->arrived.data[0], 2);
    assert_text(f, "a", "whole");
}

int
main(void)
{
    for (size_t i = 0; i < sizeof(content); i++) {
        content[i] = (uint8_t)(i * 31 + i / 251 + i / 65537);
    }
#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(test_what_is_said_of_a_file_is_kept),
        WITH_SERVICE(test_a_size_that_was_not_known_is_said_at_the_end),
        WITH_SERVICE(test_a_commit_can_expect_a_version),
        WITH_SERVICE(test_known_content_is_not_sent_again_by_who_may_read_it),
        WITH_SERVICE(test_the_same_content_is_stored_once_and_stays_until_the_last_name_goes),
        WITH_SERVICE(test_an_upload_heals_content_that_is_damaged),
        WITH_SERVICE(test_a_name_and_its_versions_can_be_renamed_by_the_owner),
        WITH_SERVICE(test_deleted_files_can_be_restored_by_the_owner),
        WITH_SERVICE(test_deleted_and_expired_files_go_when_their_time_has_come),
        WITH_SERVICE(test_the_owner_shares_with_rooms_and_users),
        WITH_SERVICE(test_a_new_file_is_not_shared_with_who_read_a_deleted_one_of_its_name),
        WITH_SERVICE(test_lists_of_rooms_versions_and_ones_own),
        WITH_SERVICE(test_quotas_bound_what_users_and_rooms_store),
        WITH_SERVICE(test_a_quota_that_fell_meanwhile_refuses_the_commit),
        WITH_SERVICE(test_small_files_are_put_together_and_each_on_its_own),
        WITH_SERVICE(test_put_takes_what_fits_a_call_and_the_quota),
        WITH_SERVICE(test_check_finds_and_removes_orphans_and_has_bad_chunks_sent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
