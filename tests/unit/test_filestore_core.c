#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_contents.h"
#include "services/filestore/filestore_names.h"
#include "tests/unit/filestore_support.h"

// The test's state: one database for each test.
struct fixture {
    char dir[256];
    struct store *store;
    struct fake_rooms members;
    struct filestore_rooms rooms;
    struct err_detail why;
    uint8_t last_id;
};

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    make_temp_dir(f->dir, sizeof(f->dir));
    assert_int_equal(store_open(f->dir, &f->store, &f->why), ERR_OK);
    assert_int_equal(filestore_core_migrate(f->store, &f->why), ERR_OK);
    f->members = (struct fake_rooms){.is_alice_in_den = true, .is_bob_in_den = true};
    f->rooms = (struct filestore_rooms){
        .find_member_room = fake_find_member_room,
        .is_member = fake_is_member,
        .context = &f->members,
    };
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    store_close(&f->store);
    remove_temp_dir(f->dir);
    free(f);
    return 0;
}

// Steps: each core function that writes, as a job of its own.

struct step {
    struct store_job job; // first
    struct fixture *f;
    const struct filestore_file *file;
    uint64_t index;
    struct filestore_chunk chunk;
    int64_t now_ms;
    const uint8_t *user_id;
    bool was_garbage;
};

static enum err
run_add_upload(struct store_tx *tx, struct store_job *job)
{
    struct step *step = (struct step *)job;
    return filestore_core_add_upload(tx, step->file, &step->was_garbage, &step->f->why);
}

static enum err
run_add_chunk(struct store_tx *tx, struct store_job *job)
{
    struct step *step = (struct step *)job;
    return filestore_core_add_chunk(tx, step->file->id, step->index, &step->chunk, 1);
}

static enum err
run_commit(struct store_tx *tx, struct store_job *job)
{
    struct step *step = (struct step *)job;
    struct filestore_file file = *step->file;
    memcpy(file.md5, step->chunk.md5, sizeof(file.md5));
    memcpy(file.sha256, step->chunk.sha256, sizeof(file.sha256));
    return filestore_core_commit(tx, &file, step->now_ms, &step->f->why);
}

static enum err
run_remove(struct store_tx *tx, struct store_job *job)
{
    struct step *step = (struct step *)job;
    return filestore_core_remove_upload(tx, step->file->id, step->user_id, &step->f->why);
}

static enum err
run_expire(struct store_tx *tx, struct store_job *job)
{
    struct step *step = (struct step *)job;
    struct filestore_due due = {.uploads_before_unix_ms = step->now_ms};
    size_t count = 0;
    return filestore_core_purge_due(tx, &due, 100, &count);
}

static enum err
add_chunk(struct fixture *f, const struct filestore_file *file, uint64_t index, uint8_t content)
{
    struct step step = {.job = {.run = run_add_chunk}, .f = f, .file = file, .index = index};
    memset(&step.chunk, content, sizeof(step.chunk));
    return store_write_wait(f->store, &step.job);
}

static enum err
add_upload(struct fixture *f, const struct filestore_file *file)
{
    struct step step = {.job = {.run = run_add_upload}, .f = f, .file = file};
    return store_write_wait(f->store, &step.job);
}

static enum err
commit(struct fixture *f, const struct filestore_file *file, int64_t now_ms)
{
    struct step step = {.job = {.run = run_commit}, .f = f, .file = file, .now_ms = now_ms};
    memset(&step.chunk, 0x77, sizeof(step.chunk));
    return store_write_wait(f->store, &step.job);
}

static enum err
remove_upload(struct fixture *f, const struct filestore_file *file, const uint8_t *user_id)
{
    struct step step = {.job = {.run = run_remove}, .f = f, .file = file, .user_id = user_id};
    return store_write_wait(f->store, &step.job);
}

// Queries.

struct query {
    struct fixture *f;
    enum { FIND_OWN, FIND_FILE, FIND_READABLE, FIND_SHARED, ARRIVED, CHECK_COMPLETE, DIGESTS, LIST } kind;
    const uint8_t *id;
    const uint8_t *user_id;
    const char *text;
    struct filestore_file file;
    struct bytes bytes;
    struct bytes more_bytes;
    // LIST
    struct filestore_list list;
    struct filestore_file *files;
    size_t count;
    bool has_more;
};

static enum err
run_query(struct store_tx *tx, void *context)
{
    struct query *q = context;
    const struct filestore_rooms *rooms = &q->f->rooms;

    switch (q->kind) {
    case FIND_OWN:
        return filestore_core_find_own(tx, q->id, q->user_id, &q->file);
    case FIND_FILE:
        return filestore_access_find(tx, rooms, q->text, q->user_id, &q->file);
    case FIND_READABLE:
        return filestore_access_find_id(tx, rooms, q->id, q->user_id, &q->file);
    case FIND_SHARED:
        return filestore_access_find_in_room(tx, q->user_id, q->id, &q->file);
    case ARRIVED:
        return filestore_core_arrived(tx, &q->file, &q->bytes);
    case CHECK_COMPLETE:
        return filestore_core_check_complete(tx, &q->file, &q->f->why);
    case DIGESTS:
        return filestore_core_digests(tx, q->id, 1, &q->bytes, &q->more_bytes);
    case LIST:
        q->list.prefix = q->text;
        return filestore_names_list(tx, rooms, q->user_id, &q->list, &q->files, &q->count, &q->has_more);
    }
    return ERR_INTERNAL;
}

static enum err
ask(struct fixture *f, struct query *query)
{
    query->f = f;
    return store_read(f->store, run_query, query);
}

static enum err
find(struct fixture *f, const char *text, const uint8_t *user_id, struct filestore_file *file_out)
{
    struct query query = {.kind = FIND_FILE, .text = text, .user_id = user_id};
    enum err err = ask(f, &query);
    *file_out = query.file;
    return err;
}

static struct filestore_file
make_upload(struct fixture *f, const char *name, const uint8_t *owner_id, const uint8_t *room_id, uint64_t size)
{
    struct filestore_file file = {.size_bytes = size, .chunk_bytes = filestore_core_chunk_bytes(size)};
    f->last_id++;
    memset(file.id, f->last_id, sizeof(file.id));
    memset(file.blob_id, f->last_id, sizeof(file.blob_id));
    memcpy(file.owner_id, owner_id, sizeof(file.owner_id));
    snprintf(file.owner_name, sizeof(file.owner_name), "%.5s", (const char *)owner_id);
    snprintf(file.name, sizeof(file.name), "%s", name);
    file.has_room = room_id != NULL;
    if (room_id != NULL) {
        memcpy(file.room.room_id, room_id, sizeof(file.room.room_id));
    }
    assert_int_equal(add_upload(f, &file), ERR_OK);
    return file;
}

static struct filestore_file
make_file(struct fixture *f, const char *name, const uint8_t *owner_id, const uint8_t *room_id)
{
    struct filestore_file file = make_upload(f, name, owner_id, room_id, 0);
    assert_int_equal(commit(f, &file, 5), ERR_OK);
    return file;
}

static void
test_chunk_size_grows_with_the_file_within_bounds(void **state)
{
    (void)state;
    const uint64_t k = 1024;
    assert_int_equal(filestore_core_chunk_bytes(0), 256 * k);
    assert_int_equal(filestore_core_chunk_bytes(512 * k * k - 1), 256 * k);
    assert_int_equal(filestore_core_chunk_bytes(512 * k * k), 512 * k);
    assert_int_equal(filestore_core_chunk_bytes(k * k * k), k * k);
    assert_int_equal(filestore_core_chunk_bytes(16 * k * k * k), 8 * k * k);
    assert_int_equal(filestore_core_chunk_bytes(FILESTORE_FILE_MAX_BYTES), 8 * k * k);
}

static void
test_chunks_cover_the_file_exactly(void **state)
{
    (void)state;
    const uint64_t c = FILESTORE_CHUNK_MIN_BYTES;
    const uint64_t sizes[] = {0, 1, c - 1, c, c + 1, 3 * c, 3 * c + 5};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct filestore_file file = {.size_bytes = sizes[i], .chunk_bytes = (uint32_t)c};
        uint64_t sum = 0;
        uint32_t size = 0;
        for (uint64_t index = 0; index < filestore_core_chunk_count(&file); index++) {
            assert_int_equal(filestore_core_chunk_size(&file, index, &size), ERR_OK);
            assert_in_range(size, 1, c);
            sum += size;
        }
        assert_int_equal(sum, sizes[i]);
        assert_int_equal(filestore_core_chunk_size(&file, filestore_core_chunk_count(&file), &size), ERR_OUT_OF_RANGE);
        assert_int_equal(filestore_core_chunk_size(&file, UINT64_MAX, &size), ERR_OUT_OF_RANGE);
    }
}

static void
test_upload_id_follows_from_owner_and_request(void **state)
{
    (void)state;
    uint8_t first[16], again[16], other_user[16], other_request[16], random1[16], random2[16];
    struct bytes_view request = bytes_view_of("0123456789abcdef", 16);
    assert_int_equal(filestore_core_upload_id(alice, request, first), ERR_OK);
    assert_int_equal(filestore_core_upload_id(alice, request, again), ERR_OK);
    assert_int_equal(filestore_core_upload_id(bob, request, other_user), ERR_OK);
    assert_int_equal(filestore_core_upload_id(alice, bytes_view_of("0123456789abcdeX", 16), other_request), ERR_OK);
    assert_int_equal(filestore_core_upload_id(alice, bytes_view_of(NULL, 0), random1), ERR_OK);
    assert_int_equal(filestore_core_upload_id(alice, bytes_view_of(NULL, 0), random2), ERR_OK);
    assert_memory_equal(first, again, 16);
    assert_memory_not_equal(first, other_user, 16);
    assert_memory_not_equal(first, other_request, 16);
    assert_memory_not_equal(random1, random2, 16);
}

static void
test_arrived_has_a_bit_for_each_chunk(void **state)
{
    struct fixture *f = *state;
    struct filestore_file file = make_upload(f, "a", alice, NULL, 40 * FILESTORE_CHUNK_MIN_BYTES);
    struct query query = {.kind = ARRIVED, .file = file};
    assert_int_equal(ask(f, &query), ERR_OK);
    assert_int_equal(query.bytes.size, 5);
    assert_memory_equal(query.bytes.data, "\0\0\0\0\0", 5);
    assert_int_equal(add_chunk(f, &file, 0, 1), ERR_OK);
    assert_int_equal(add_chunk(f, &file, 9, 1), ERR_OK);
    assert_int_equal(add_chunk(f, &file, 39, 1), ERR_OK);
    assert_int_equal(ask(f, &query), ERR_OK);
    assert_int_equal(query.bytes.size, 5);
    assert_memory_equal(query.bytes.data, "\1\2\0\0\x80", 5);
    query.file = make_upload(f, "vast", alice, NULL, FILESTORE_FILE_MAX_BYTES);
    assert_int_equal(ask(f, &query), ERR_OK);
    assert_int_equal(query.bytes.size, FILESTORE_BITMAP_MAX_BYTES);
    bytes_free(&query.bytes);
}

static void
test_a_chunk_never_changes(void **state)
{
    struct fixture *f = *state;
    struct filestore_file file = make_upload(f, "a", alice, NULL, 1);
    assert_int_equal(add_chunk(f, &file, 0, 1), ERR_OK);
    assert_int_equal(add_chunk(f, &file, 0, 1), ERR_OK);
    assert_int_equal(add_chunk(f, &file, 0, 2), ERR_CONFLICT);
    struct query query = {.kind = DIGESTS, .id = file.id};
    assert_int_equal(ask(f, &query), ERR_OK); // from segment 1 on: none
    assert_int_equal(query.bytes.size, 0);
    bytes_free(&query.bytes);
    bytes_free(&query.more_bytes);
}

static void
test_missing_chunks_are_named(void **state)
{
    struct fixture *f = *state;
    struct query query = {.kind = CHECK_COMPLETE};
    query.file = make_upload(f, "a", alice, NULL, 20 * FILESTORE_CHUNK_MIN_BYTES);
    assert_int_equal(add_chunk(f, &query.file, 1, 1), ERR_OK);
    assert_int_equal(ask(f, &query), ERR_PRECONDITION);
    assert_non_null(strstr(f->why.message, "19 of 20 chunks"));
    assert_non_null(strstr(f->why.message, "0, 2, 3, 4, 5, 6, 7, 8 and others"));
    for (uint64_t i = 0; i < 19; i++) {
        assert_int_equal(add_chunk(f, &query.file, i, 1), ERR_OK);
    }
    assert_int_equal(ask(f, &query), ERR_PRECONDITION);
    assert_non_null(strstr(f->why.message, "1 of 20"));
    assert_non_null(strstr(f->why.message, " 19)"));
    assert_int_equal(add_chunk(f, &query.file, 19, 1), ERR_OK);
    assert_int_equal(ask(f, &query), ERR_OK);
}

static void
test_commit_twice_changes_nothing_and_ends_the_upload(void **state)
{
    struct fixture *f = *state;
    struct filestore_file file = make_upload(f, "a", alice, NULL, 0);
    struct filestore_file found;
    assert_int_equal(find(f, "a", alice, &found), ERR_NOT_FOUND);
    assert_int_equal(commit(f, &file, 1000), ERR_OK);
    assert_int_equal(commit(f, &file, 2000), ERR_OK);
    assert_int_equal(find(f, "a", alice, &found), ERR_OK);
    assert_int_equal(found.created_unix_ms, 1000);
    assert_int_equal(found.md5[0], 0x77);
    assert_int_equal(remove_upload(f, &file, alice), ERR_PRECONDITION);
    assert_int_equal(add_chunk(f, &file, 0, 1), ERR_NOT_FOUND);
}

static void
test_removed_upload_is_gone_with_its_chunks(void **state)
{
    struct fixture *f = *state;
    struct filestore_file file = make_upload(f, "a", alice, NULL, 1);
    assert_int_equal(add_chunk(f, &file, 0, 1), ERR_OK);
    assert_int_equal(remove_upload(f, &file, bob), ERR_NOT_FOUND);
    assert_int_equal(remove_upload(f, &file, alice), ERR_OK);
    assert_int_equal(remove_upload(f, &file, alice), ERR_NOT_FOUND);
    assert_int_equal(add_chunk(f, &file, 0, 1), ERR_NOT_FOUND);
    assert_int_equal(commit(f, &file, 1), ERR_NOT_FOUND);
    assert_int_equal(add_upload(f, &file), ERR_OK);
    struct query query = {.kind = ARRIVED, .file = file};
    assert_int_equal(ask(f, &query), ERR_OK);
    assert_int_equal(query.bytes.size, 1);
    assert_int_equal(query.bytes.data[0], 0);
    bytes_free(&query.bytes);
}

static void
test_old_uploads_expire_and_files_do_not(void **state)
{
    struct fixture *f = *state;
    struct filestore_file old_upload = make_upload(f, "old", alice, NULL, 1);
    struct filestore_file file = make_file(f, "file", alice, NULL);
    struct filestore_file found;
    struct step expire = {.job = {.run = run_expire}, .f = f, .now_ms = 1};
    assert_int_equal(store_write_wait(f->store, &expire.job), ERR_OK);
    struct query query = {.kind = FIND_OWN, .id = old_upload.id, .user_id = alice};
    assert_int_equal(ask(f, &query), ERR_NOT_FOUND);
    assert_int_equal(find(f, "file", alice, &found), ERR_OK);
    assert_memory_equal(found.id, file.id, 16);
}

static void
test_a_user_has_a_bounded_number_of_uploads(void **state)
{
    struct fixture *f = *state;
    struct filestore_file file = {.chunk_bytes = FILESTORE_CHUNK_MIN_BYTES, .name = "x", .owner_name = "alice"};
    memcpy(file.owner_id, alice, 16);
    for (uint32_t i = 0; i < FILESTORE_UPLOADS_PER_USER_MAX; i++) {
        bytes_store_be32(file.id, i);
        bytes_store_be32(file.blob_id, i);
        assert_int_equal(add_upload(f, &file), ERR_OK);
    }
    bytes_store_be32(file.id, FILESTORE_UPLOADS_PER_USER_MAX);
    bytes_store_be32(file.blob_id, FILESTORE_UPLOADS_PER_USER_MAX);
    assert_int_equal(add_upload(f, &file), ERR_LIMIT);
    memcpy(file.owner_id, bob, 16);
    assert_int_equal(add_upload(f, &file), ERR_OK);
}

static void
test_names_mean_the_newest_version_of_the_reader(void **state)
{
    struct fixture *f = *state;
    struct filestore_file found;
    struct filestore_file first = make_file(f, "a", alice, NULL);
    make_file(f, "a", bob, NULL);
    struct filestore_file second = make_file(f, "a", alice, NULL);
    assert_int_equal(find(f, "a", alice, &found), ERR_OK);
    assert_memory_equal(found.id, second.id, 16);
    assert_int_equal(find(f, "a", carol, &found), ERR_NOT_FOUND);
    char hex[33];
    bytes_to_hex(bytes_view_of(first.id, 16), hex);
    assert_int_equal(find(f, hex, alice, &found), ERR_OK);
    assert_memory_equal(found.id, first.id, 16);
    assert_int_equal(find(f, hex, bob, &found), ERR_NOT_FOUND);
}

static void
test_shared_files_follow_the_membership(void **state)
{
    struct fixture *f = *state;
    struct filestore_file found;
    struct filestore_file shared = make_file(f, "notes/a", alice, den_id);
    assert_int_equal(find(f, "den/notes/a", bob, &found), ERR_OK);
    assert_memory_equal(found.id, shared.id, 16);
    assert_string_equal(found.room.name, "den");
    assert_int_equal(find(f, "notes/a", bob, &found), ERR_NOT_FOUND);
    assert_int_equal(find(f, "den/notes/a", carol, &found), ERR_NOT_FOUND);
    assert_int_equal(find(f, "den/", bob, &found), ERR_NOT_FOUND);
    assert_int_equal(find(f, "/notes/a", bob, &found), ERR_NOT_FOUND);
    struct query query = {.kind = FIND_READABLE, .id = shared.id, .user_id = bob};
    assert_int_equal(ask(f, &query), ERR_OK);
    f->members.is_bob_in_den = false;
    assert_int_equal(ask(f, &query), ERR_NOT_FOUND);
    assert_int_equal(find(f, "den/notes/a", bob, &found), ERR_NOT_FOUND);
    // Its owner keeps it, and is not told the name of a room that is none of her business any more.
    f->members.is_alice_in_den = false;
    assert_int_equal(find(f, "notes/a", alice, &found), ERR_OK);
    assert_string_equal(found.room.name, "");
}

static void
test_an_upload_is_no_file_yet(void **state)
{
    struct fixture *f = *state;
    struct filestore_file upload = make_upload(f, "a", alice, den_id, 0);
    struct query readable = {.kind = FIND_READABLE, .id = upload.id, .user_id = alice};
    struct query shared = {.kind = FIND_SHARED, .id = upload.id, .user_id = den_id};
    assert_int_equal(ask(f, &readable), ERR_NOT_FOUND);
    assert_int_equal(ask(f, &shared), ERR_NOT_FOUND);
    assert_int_equal(commit(f, &upload, 1), ERR_OK);
    assert_int_equal(ask(f, &readable), ERR_OK);
    assert_int_equal(ask(f, &shared), ERR_OK);
    shared.user_id = attic_id;
    assert_int_equal(ask(f, &shared), ERR_NOT_FOUND);
}

// list_names lists everything in pages of `limit` and joins "room:name" with spaces.
static void
list_names(struct fixture *f, const uint8_t *user_id, const char *prefix, size_t limit, char *out, size_t capacity)
{
    struct filestore_file last;
    bool has_more = true;
    bool is_first = true;
    out[0] = '\0';
    while (has_more) {
        struct query query = {.kind = LIST, .user_id = user_id, .text = prefix, .list = {.limit = limit}};
        if (!is_first) {
            query.list.after_name = last.name;
            query.list.after_version = last.version;
        }
        assert_int_equal(ask(f, &query), ERR_OK);
        assert_true(query.count <= limit);
        for (size_t i = 0; i < query.count; i++) {
            size_t used = strlen(out);
            int size = snprintf(out + used, capacity - used, "%s%s:%s", used == 0 ? "" : " ", query.files[i].room.name,
                query.files[i].name);
            assert_in_range(size, 0, capacity - used - 1);
        }
        has_more = query.has_more;
        if (has_more) {
            assert_int_equal(query.count, limit);
            last = query.files[query.count - 1];
        }
        is_first = false;
        free(query.files);
    }
}

static void
test_list_merges_own_files_and_rooms_once_each(void **state)
{
    struct fixture *f = *state;
    char names[1024];
    make_file(f, "b", bob, NULL);
    make_file(f, "b", bob, NULL); // a newer version
    make_file(f, "a", alice, den_id);
    make_file(f, "c", bob, den_id); // own, and in a room: listed once
    make_file(f, "d", alice, NULL); // not his
    make_file(f, "e", carol, attic_id);
    make_file(f, "ab", bob, NULL);
    make_upload(f, "z", bob, NULL, 0);
    for (size_t limit = 1; limit <= 6; limit++) {
        list_names(f, bob, "", limit, names, sizeof(names));
        assert_string_equal(names, "den:a :ab :b den:c");
    }
    list_names(f, bob, "a", 1, names, sizeof(names));
    assert_string_equal(names, "den:a :ab");
    list_names(f, bob, "zz", 1, names, sizeof(names));
    assert_string_equal(names, "");
    f->members.is_bob_in_attic = true;
    f->members.is_bob_in_den = false;
    list_names(f, bob, "", 2, names, sizeof(names));
    assert_string_equal(names, ":ab :b :c attic:e");
}

static void
test_everything_is_there_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct filestore_file upload = make_upload(f, "up", alice, NULL, 2 * FILESTORE_CHUNK_MIN_BYTES);
    assert_int_equal(add_chunk(f, &upload, 1, 3), ERR_OK);
    make_file(f, "file", alice, NULL);
    store_close(&f->store);
    assert_int_equal(store_open(f->dir, &f->store, &f->why), ERR_OK);
    assert_int_equal(filestore_core_migrate(f->store, &f->why), ERR_OK);
    struct query query = {.kind = ARRIVED, .file = upload};
    assert_int_equal(ask(f, &query), ERR_OK);
    assert_int_equal(query.bytes.size, 1);
    assert_int_equal(query.bytes.data[0], 2);
    bytes_free(&query.bytes);
    struct filestore_file found;
    assert_int_equal(find(f, "file", alice, &found), ERR_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunk_size_grows_with_the_file_within_bounds),
        cmocka_unit_test(test_chunks_cover_the_file_exactly),
        cmocka_unit_test(test_upload_id_follows_from_owner_and_request),
        cmocka_unit_test_setup_teardown(test_arrived_has_a_bit_for_each_chunk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_chunk_never_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing_chunks_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_commit_twice_changes_nothing_and_ends_the_upload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_removed_upload_is_gone_with_its_chunks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_old_uploads_expire_and_files_do_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_user_has_a_bounded_number_of_uploads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names_mean_the_newest_version_of_the_reader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shared_files_follow_the_membership, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_upload_is_no_file_yet, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_list_merges_own_files_and_rooms_once_each, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_everything_is_there_after_a_restart, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
