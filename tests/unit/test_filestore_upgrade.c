// A database of the first version, with files and an upload in it, is brought to this one: all is there, and the upload
// goes on.
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_contents.h"
#include "services/filestore/filestore_names.h"
#include "tests/unit/filestore_support.h"

enum {
    CHUNK = FILESTORE_CHUNK_MIN_BYTES,
};

static const uint8_t own_id[16] = "own file's id ..";
static const uint8_t shared_id[16] = "shared file's id";
static const uint8_t upload_id[16] = "the upload's id ";
static const uint8_t digests[32] = "digests, in 32 bytes of whatever";

// The tables as version 1 made them: released, so never changed.
static const struct store_migration first_version[] = {
    {"CREATE TABLE filestore_files ("
     "  file_id BLOB NOT NULL PRIMARY KEY,"
     "  owner_id BLOB NOT NULL,"
     "  owner_name TEXT NOT NULL,"
     "  name TEXT NOT NULL,"
     "  room_id BLOB,"
     "  size_bytes BIGINT NOT NULL,"
     "  chunk_bytes BIGINT NOT NULL,"
     "  created_ms BIGINT NOT NULL,"
     "  md5 BLOB,"
     "  sha256 BLOB,"
     "  version BIGINT UNIQUE);"
     "CREATE INDEX filestore_files_own ON filestore_files (owner_id, name, version);"
     "CREATE INDEX filestore_files_room ON filestore_files (room_id, name, version) WHERE room_id IS NOT NULL;"
     "CREATE INDEX filestore_files_open ON filestore_files (owner_id, created_ms) WHERE version IS NULL;"
     "CREATE TABLE filestore_chunks ("
     "  file_id BLOB NOT NULL,"
     "  chunk BIGINT NOT NULL,"
     "  md5 BLOB NOT NULL,"
     "  sha256 BLOB NOT NULL,"
     "  PRIMARY KEY (file_id, chunk));"},
};

struct fixture {
    char dir[256];
    struct store *store;
    struct fake_rooms members;
    struct filestore_rooms rooms;
    struct err_detail why;
};

static enum err
add_file(struct store_tx *tx, const uint8_t *file_id, const char *name, const uint8_t *room_id, int64_t version)
{
    return store_exec(tx,
        "INSERT INTO filestore_files (file_id, owner_id, owner_name, name, room_id, size_bytes, chunk_bytes, "
        "created_ms, md5, sha256, version) VALUES ($1, $2, 'alice', $3, $4, $5, $6, 1000, $7, $8, $9)",
        STORE_ARGS(store_blob(file_id, 16), store_blob(alice, 16), store_text(name),
            room_id != NULL ? store_blob(room_id, 16) : store_null(), store_int(2 * CHUNK + 5), store_int(CHUNK),
            version != 0 ? store_blob(digests, 16) : store_null(),
            version != 0 ? store_blob(digests, 32) : store_null(), version != 0 ? store_int(version) : store_null()),
        NULL);
}

static enum err
add_chunk(struct store_tx *tx, const uint8_t *file_id, int64_t index)
{
    return store_exec(tx, "INSERT INTO filestore_chunks (file_id, chunk, md5, sha256) VALUES ($1, $2, $3, $4)",
        STORE_ARGS(store_blob(file_id, 16), store_int(index), store_blob(digests, 16), store_blob(digests, 32)), NULL);
}

static enum err
run_fill(struct store_tx *tx, struct store_job *job)
{
    (void)job;
    enum err err = add_file(tx, own_id, "own", NULL, 41);
    err = err == ERR_OK ? add_file(tx, shared_id, "shared", den_id, 42) : err;
    err = err == ERR_OK ? add_file(tx, upload_id, "upload", den_id, 0) : err;
    for (int64_t i = 0; i < 3 && err == ERR_OK; i++) {
        err = add_chunk(tx, own_id, i);
        err = err == ERR_OK ? add_chunk(tx, shared_id, i) : err;
    }
    return err == ERR_OK ? add_chunk(tx, upload_id, 1) : err;
}

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct store_job job = {.run = run_fill};

    assert_non_null(f);
    make_temp_dir(f->dir, sizeof(f->dir));
    assert_int_equal(store_open(f->dir, &f->store, &f->why), ERR_OK);
    assert_int_equal(store_migrate(f->store, "filestore", first_version, 1, &f->why), ERR_OK);
    assert_int_equal(store_write_wait(f->store, &job), ERR_OK);
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

struct find {
    struct fixture *f;
    const uint8_t *user_id;
    const char *text;
    struct filestore_file file;
};

static enum err
run_find(struct store_tx *tx, void *context)
{
    struct find *find = context;
    return filestore_access_find(tx, &find->f->rooms, find->text, find->user_id, &find->file);
}

static enum err
find(struct fixture *f, const uint8_t *user_id, const char *text, struct filestore_file *file_out)
{
    struct find work = {.f = f, .user_id = user_id, .text = text};
    enum err err = store_read(f->store, run_find, &work);
    *file_out = work.file;
    return err;
}

static void
test_files_are_there_for_the_same_people(void **state)
{
    struct fixture *f = *state;
    struct filestore_file file;

    assert_int_equal(find(f, alice, "own", &file), ERR_OK);
    assert_memory_equal(file.id, own_id, 16);
    assert_memory_equal(file.blob_id, own_id, 16);
    assert_memory_equal(file.sha256, digests, 32);
    assert_int_equal(file.version, 41);
    assert_int_equal(file.size_bytes, 2 * CHUNK + 5);
    assert_int_equal(file.deleted_unix_ms, 0);
    assert_int_equal(find(f, bob, "den/shared", &file), ERR_OK);
    assert_memory_equal(file.id, shared_id, 16);
    assert_string_equal(file.room.name, "den");
    assert_int_equal(find(f, bob, "own", &file), ERR_NOT_FOUND);
    assert_int_equal(find(f, carol, "den/shared", &file), ERR_NOT_FOUND);
}

struct look {
    struct filestore_file file;
    struct filestore_content content;
    struct bytes arrived;
    struct bytes md5s;
    struct bytes sha256s;
};

static enum err
run_look(struct store_tx *tx, void *context)
{
    struct look *look = context;
    enum err err = filestore_core_find_own(tx, upload_id, alice, &look->file);
    err = err == ERR_OK ? filestore_core_arrived(tx, &look->file, &look->arrived) : err;
    err = err == ERR_OK ? filestore_contents_find(tx, own_id, &look->content) : err;
    return err == ERR_OK ? filestore_core_digests(tx, own_id, 0, &look->md5s, &look->sha256s) : err;
}

static enum err
run_go_on(struct store_tx *tx, struct store_job *job)
{
    struct filestore_chunk chunk = {.md5 = {0}};
    struct filestore_file file;

    (void)job;
    enum err err = filestore_core_add_chunk(tx, upload_id, 0, &chunk, CHUNK);
    err = err == ERR_OK ? filestore_core_add_chunk(tx, upload_id, 2, &chunk, 5) : err;
    err = err == ERR_OK ? filestore_core_find_own(tx, upload_id, alice, &file) : err;
    err = err == ERR_OK ? filestore_core_check_complete(tx, &file, NULL) : err;
    file.has_md5 = true;
    file.has_sha256 = true;
    memcpy(file.md5, "other md5 digest", 16);
    memcpy(file.sha256, "another digest with 32 bytes ...", 32);
    return err == ERR_OK ? filestore_core_commit(tx, &file, 2000, NULL) : err;
}

static void
test_contents_and_uploads_go_on(void **state)
{
    struct fixture *f = *state;
    struct look look = {.file = {.size_bytes = 0}};
    struct store_job job = {.run = run_go_on};
    struct filestore_file file;

    assert_int_equal(store_read(f->store, run_look, &look), ERR_OK);
    assert_int_equal(look.content.size_bytes, 2 * CHUNK + 5);
    assert_memory_equal(look.content.sha256, digests, 32);
    assert_int_equal(look.md5s.size, 3 * 16);
    assert_int_equal(look.arrived.size, 1);
    assert_int_equal(look.arrived.data[0], 2);
    bytes_free(&look.arrived);
    bytes_free(&look.md5s);
    bytes_free(&look.sha256s);
    assert_int_equal(store_write_wait(f->store, &job), ERR_OK);
    assert_int_equal(find(f, bob, "den/upload", &file), ERR_OK);
    assert_true(file.version > 42);
}

static void
test_a_start_later_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct filestore_file file;

    store_close(&f->store);
    assert_int_equal(store_open(f->dir, &f->store, &f->why), ERR_OK);
    assert_int_equal(filestore_core_migrate(f->store, &f->why), ERR_OK);
    assert_int_equal(find(f, alice, "own", &file), ERR_OK);
    // An older program does not touch what it does not know.
    assert_int_equal(store_migrate(f->store, "filestore", first_version, 1, &f->why), ERR_VERSION);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files_are_there_for_the_same_people, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_contents_and_uploads_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_start_later_changes_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
