#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/random.h"
#include "services/store/blob.h"

static char folder[256];

static int
setup(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(folder, sizeof(folder), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
    (void)state;
    char command[sizeof(folder) + 16];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

enum {
    PIECE_BYTES = 1000,
    WAIT_S = 10,
};

static const uint8_t id[BLOB_ID_BYTES] = {0xab, 0xcd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
static const char upload_name[] = "uploads/abcd0102030405060708090a0b0c0d0e";
static const char object_name[] = "objects/ab/abcd0102030405060708090a0b0c0d0e";

static struct blob_store *
open_blobs(void)
{
    struct blob_store *store = NULL;
    struct err_detail why = {0};
    assert_int_equal(blob_store_open(folder, &store, &why), ERR_OK);
    return store;
}

// Stands between the store and the system, to count the syncs, to hold them up and to make them fail.
static struct {
    atomic_uint count;
    atomic_bool is_held_up;
    atomic_bool fails; // the next one to return
    sem_t entered;     // held up
    sem_t go_on;
} syncs;

int
fdatasync(int fd)
{
    atomic_fetch_add(&syncs.count, 1);
    if (atomic_load(&syncs.is_held_up)) {
        sem_post(&syncs.entered);
        sem_wait(&syncs.go_on);
    }
    if (atomic_exchange(&syncs.fails, false)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

// The same for writes: how many go past the system's cache, and a file system that takes none of them.
static struct {
    atomic_uint direct_count;
    atomic_bool refuses_direct;
} system_writes;

static atomic_uint direct_reads;

ssize_t
pread(int fd, void *data, size_t size, off_t offset)
{
    if ((fcntl(fd, F_GETFL) & O_DIRECT) != 0) {
        atomic_fetch_add(&direct_reads, 1);
    }
    return syscall(SYS_pread64, fd, data, size, offset);
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if ((fcntl(fd, F_GETFL) & O_DIRECT) != 0) {
        atomic_fetch_add(&system_writes.direct_count, 1);
        if (atomic_load(&system_writes.refuses_direct)) {
            errno = EINVAL;
            return -1;
        }
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

static void
hold_up_syncs(void)
{
    atomic_store(&syncs.count, 0);
    (void)sem_init(&syncs.entered, 0, 0);
    (void)sem_init(&syncs.go_on, 0, 0);
    atomic_store(&syncs.is_held_up, true);
}

static const char *
path_of(const char *name, char path[512])
{
    (void)snprintf(path, 512, "%s/%s", folder, name);
    return path;
}

static void
assert_mode(const char *name, mode_t mode)
{
    char path[512];
    struct stat status;
    assert_int_equal(stat(path_of(name, path), &status), 0);
    assert_int_equal(status.st_mode & 07777, mode);
}

struct write {
    struct blob_write write; // first, so that a pointer to it is one to this
    sem_t *is_done;
    enum err result;
    int done_count;
};

static void
note_done(struct blob_write *write, enum err result)
{
    struct write *mine = (struct write *)write;
    mine->result = result;
    mine->done_count++;
    sem_post(mine->is_done);
}

static void
wait_for(sem_t *semaphore)
{
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S * (scale == NULL ? 1 : atol(scale));
    assert_int_equal(sem_timedwait(semaphore, &until), 0);
}

static struct write
write_of(const uint8_t of[BLOB_ID_BYTES], uint64_t offset, struct bytes_view data, sem_t *is_done)
{
    struct write write = {.write = {.offset = offset, .data = data, .done = note_done}, .is_done = is_done};
    memcpy(write.write.id, of, BLOB_ID_BYTES);
    return write;
}

// Writes one piece and waits.
static enum err
write_at(struct blob_store *store, uint64_t offset, struct bytes_view data)
{
    sem_t is_done;
    (void)sem_init(&is_done, 0, 0);
    struct write write = write_of(id, offset, data, &is_done);
    blob_upload_write(store, &write.write);
    wait_for(&is_done);
    assert_int_equal(write.done_count, 1);
    (void)sem_destroy(&is_done);
    return write.result;
}

// digest computes both digests of an upload of which the beginning has been hashed already.
static enum err
digest(struct blob_store *store, struct bytes_view beginning, uint64_t size, uint8_t md5_out[16],
    uint8_t sha256_out[32])
{
    struct md5_chain md5;
    struct sha256_chain *sha256 = NULL;
    md5_chain_begin(&md5);
    assert_int_equal(sha256_chain_new(&sha256), ERR_OK);
    assert_int_equal(md5_chain_add(&md5, beginning, md5_out, NULL), ERR_OK);
    assert_int_equal(sha256_chain_add(sha256, beginning, sha256_out), ERR_OK);
    enum err err = blob_upload_digest(store, id, size, &md5, sha256);
    if (err == ERR_OK) {
        md5_chain_final(&md5, md5_out);
        assert_int_equal(sha256_chain_final(sha256, sha256_out), ERR_OK);
    }
    sha256_chain_free(&sha256);
    return err;
}

static void
assert_digests_after(struct blob_store *store, struct bytes_view beginning, uint64_t size, const char *md5,
    const char *sha256)
{
    uint8_t md5_out[16];
    uint8_t sha256_out[32];
    char text[65];
    assert_int_equal(digest(store, beginning, size, md5_out, sha256_out), ERR_OK);
    bytes_to_hex(bytes_view_of(md5_out, 16), text);
    assert_string_equal(text, md5);
    bytes_to_hex(bytes_view_of(sha256_out, 32), text);
    assert_string_equal(text, sha256);
}

static void
assert_digests(struct blob_store *store, uint64_t size, const char *md5, const char *sha256)
{
    assert_digests_after(store, bytes_view_of(NULL, 0), size, md5, sha256);
}

static void
test_upload_becomes_an_object(void **state)
{
    (void)state;
    char path[512];
    char out[16] = {0};
    struct blob_store *store = open_blobs();
    assert_int_equal(blob_upload_create(store, id, 11), ERR_OK);
    assert_int_equal(write_at(store, 6, bytes_view_of_text("world")), ERR_OK); // in any order
    assert_int_equal(write_at(store, 0, bytes_view_of_text("hello ")), ERR_OK);
    assert_int_equal(blob_read(store, id, 0, out, 1), ERR_NOT_FOUND); // not yet an object
    assert_digests(store, 11, "5eb63bbbe01eeed093cb22bb8f5acdc3",
        "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
    assert_int_equal(blob_upload_finish(store, id), ERR_OK);
    assert_int_equal(access(path_of(upload_name, path), F_OK), -1);
    assert_mode(object_name, 0600);

    assert_int_equal(blob_read(store, id, 6, out, 5), ERR_OK);
    assert_string_equal(out, "world");
    assert_int_equal(blob_read(store, id, 11, out, 0), ERR_OK);
    assert_int_equal(blob_read(store, id, 11, out, 1), ERR_OUT_OF_RANGE);
    assert_int_equal(blob_read(store, id, 10, out, 2), ERR_OUT_OF_RANGE);
    assert_int_equal(blob_read(store, id, UINT64_MAX, out, 2), ERR_OUT_OF_RANGE);
    assert_int_equal(blob_read(store, id, INT64_MAX, out, 2), ERR_OUT_OF_RANGE);

    // Done twice is no error, and the upload is gone.
    assert_int_equal(blob_upload_finish(store, id), ERR_OK);
    assert_int_equal(write_at(store, 0, bytes_view_of_text("late")), ERR_NOT_FOUND);
    assert_int_equal(blob_upload_cancel(store, id), ERR_OK);
    assert_int_equal(blob_read(store, id, 0, out, 5), ERR_OK);
    assert_memory_equal(out, "hello", 5);
    blob_store_close(&store);
    assert_null(store);
    blob_store_close(&store);
}

static void
test_digest_of_many_steps_and_of_nothing(void **state)
{
    (void)state;
    enum {
        MILLION = 1000000,
    };
    struct blob_store *store = open_blobs();
    char *text = malloc(MILLION);
    assert_non_null(text);
    memset(text, 'a', MILLION);
    assert_int_equal(blob_upload_create(store, id, MILLION), ERR_OK);
    assert_digests(store, 0, "d41d8cd98f00b204e9800998ecf8427e",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(write_at(store, 0, bytes_view_of(text, MILLION)), ERR_OK);
    assert_digests_after(store, bytes_view_of(text, 64), MILLION, "7707d6ae4e027c70eea2a935c2296f21",
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(text);
    assert_digests(store, MILLION, "7707d6ae4e027c70eea2a935c2296f21",
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    assert_digests(store, 3, "47bce5c74f589f4867dbd57e9ca9f808",
        "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0");
    uint8_t md5[16];
    uint8_t sha256[32];
    assert_int_equal(digest(store, bytes_view_of(NULL, 0), MILLION + 1, md5, sha256), ERR_OUT_OF_RANGE);
    blob_store_close(&store);
}

enum {
    LARGE_PIECE_BYTES = 3 * 1024 * 1024 / 2, // more than is copied at a time
    LARGE_TAIL_BYTES = 1000,
};

// Pieces of a large upload: one that is aligned, one that is not, and the end.
static void
write_large(struct blob_store *store, uint8_t *data)
{
    const size_t sizes[] = {LARGE_PIECE_BYTES, LARGE_PIECE_BYTES - 1, LARGE_TAIL_BYTES};
    size_t at = 0;
    sem_t is_done;
    (void)sem_init(&is_done, 0, 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct write write = write_of(id, at, bytes_view_of(data + at, sizes[i]), &is_done);
        write.write.is_large = true;
        blob_upload_write(store, &write.write);
        wait_for(&is_done);
        assert_int_equal(write.result, ERR_OK);
        at += sizes[i];
    }
    (void)sem_destroy(&is_done);
    uint8_t *read = malloc(at);
    assert_non_null(read);
    assert_int_equal(blob_read_upload(store, id, 0, read, at), ERR_OK);
    assert_memory_equal(read, data, at);
    free(read);
}

static void
test_large_uploads_pass_by_the_cache_where_that_goes(void **state)
{
    (void)state;
    struct blob_store *store = open_blobs();
    size_t size = 2 * LARGE_PIECE_BYTES;
    uint8_t *data = malloc(size);
    char path[512];
    assert_non_null(data);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i / 4096 + i);
    }
    int fd = open(path_of("probe", path), O_WRONLY | O_CREAT | O_DIRECT, 0600);
    atomic_store(&system_writes.direct_count, 0);
    atomic_store(&system_writes.refuses_direct, true);
    assert_int_equal(blob_upload_create(store, id, size), ERR_OK);
    write_large(store, data);
    assert_int_equal(atomic_load(&system_writes.direct_count),
        fd < 0 ? 0 : 1); // tried once for the one that is aligned
    assert_int_equal(blob_upload_cancel(store, id), ERR_OK);

    atomic_store(&system_writes.refuses_direct, false);
    assert_int_equal(blob_upload_create(store, id, size), ERR_OK);
    write_large(store, data);
    assert_int_equal(atomic_load(&system_writes.direct_count), fd < 0 ? 0 : 3); // in two steps
    if (fd >= 0) {
        (void)close(fd);
        (void)unlink(path);
    }
    free(data);
    blob_store_close(&store);
}

static void
test_a_large_object_is_kept_in_the_cache_when_it_is_read_again(void **state)
{
    (void)state;
    enum {
        STEP_BYTES = 4 * 1024 * 1024,
        END_BYTES = 5,
    };
    struct blob_store *store = open_blobs();
    uint8_t *out = aligned_alloc(BLOB_ALIGNMENT_BYTES, STEP_BYTES);
    char path[512];
    assert_non_null(out);
    assert_int_equal(blob_upload_create(store, id, BLOB_LARGE_BYTES), ERR_OK);
    assert_int_equal(write_at(store, 3 * STEP_BYTES, bytes_view_of_text("here")), ERR_OK);
    assert_int_equal(write_at(store, BLOB_LARGE_BYTES, bytes_view_of_text("ended")), ERR_OK); // the rest is a hole
    assert_int_equal(blob_upload_finish(store, id), ERR_OK);
    int fd = open(path_of(object_name, path), O_RDONLY | O_DIRECT);
    unsigned expected = fd < 0 ? 0 : BLOB_LARGE_BYTES / STEP_BYTES;
    atomic_store(&direct_reads, 0);
    for (uint64_t round = 0; round < 2; round++) {
        for (uint64_t at = 0; at < BLOB_LARGE_BYTES; at += STEP_BYTES) {
            assert_int_equal(blob_read(store, id, at, out, STEP_BYTES), ERR_OK);
            assert_memory_equal(out, at == 3 * STEP_BYTES ? "here" : "\0\0\0\0", 4);
        }
        assert_int_equal(blob_read(store, id, BLOB_LARGE_BYTES, out, END_BYTES), ERR_OK);
        assert_memory_equal(out, "ended", END_BYTES);
    }
    // The end was not read so, and the first step of the second round makes up for it.
    assert_int_equal(atomic_load(&direct_reads), fd < 0 ? 0 : expected + 1);
    assert_int_equal(blob_read(store, id, BLOB_LARGE_BYTES, out, STEP_BYTES), ERR_OUT_OF_RANGE);
    if (fd >= 0) {
        (void)close(fd);
    }
    free(out);
    blob_store_close(&store);
}

static void
test_what_is_not_there(void **state)
{
    (void)state;
    uint8_t out[32];
    uint8_t md5[16];
    struct blob_store *store = open_blobs();
    assert_int_equal(write_at(store, 0, bytes_view_of_text("x")), ERR_NOT_FOUND);
    assert_int_equal(blob_upload_finish(store, id), ERR_NOT_FOUND);
    assert_int_equal(digest(store, bytes_view_of(NULL, 0), 0, md5, out), ERR_NOT_FOUND);
    assert_int_equal(blob_read(store, id, 0, out, 1), ERR_NOT_FOUND);
    assert_int_equal(blob_upload_cancel(store, id), ERR_OK);
    blob_store_close(&store);
}

static void
test_offsets_that_no_file_has(void **state)
{
    (void)state;
    struct blob_store *store = open_blobs();
    assert_int_equal(blob_upload_create(store, id, 10), ERR_OK);
    assert_int_equal(write_at(store, UINT64_MAX, bytes_view_of_text("x")), ERR_INVALID);
    assert_int_equal(write_at(store, INT64_MAX, bytes_view_of_text("x")), ERR_INVALID);
    assert_int_equal(write_at(store, 5, bytes_view_of(NULL, 0)), ERR_OK);
    assert_digests(store, 0, "d41d8cd98f00b204e9800998ecf8427e",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    blob_store_close(&store);
}

static void
test_upload_goes_on_after_opening_again(void **state)
{
    (void)state;
    struct blob_store *store = open_blobs();
    assert_int_equal(blob_upload_create(store, id, 11), ERR_OK);
    assert_int_equal(write_at(store, 0, bytes_view_of_text("hello ")), ERR_OK);
    blob_store_close(&store);

    store = open_blobs();
    assert_int_equal(blob_upload_create(store, id, 11), ERR_OK); // keeps what is there
    assert_int_equal(write_at(store, 6, bytes_view_of_text("world")), ERR_OK);
    assert_digests(store, 11, "5eb63bbbe01eeed093cb22bb8f5acdc3",
        "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
    assert_int_equal(blob_upload_finish(store, id), ERR_OK);
    blob_store_close(&store);

    store = open_blobs();
    char out[6] = {0};
    assert_int_equal(blob_read(store, id, 6, out, 5), ERR_OK);
    assert_string_equal(out, "world");
    assert_int_equal(blob_upload_finish(store, id), ERR_OK);
    blob_store_close(&store);
}

static void
test_cancelled_upload_is_gone(void **state)
{
    (void)state;
    char path[512];
    struct blob_store *store = open_blobs();
    assert_int_equal(blob_upload_create(store, id, 10), ERR_OK);
    assert_int_equal(write_at(store, 0, bytes_view_of_text("x")), ERR_OK);
    assert_int_equal(blob_upload_cancel(store, id), ERR_OK);
    assert_int_equal(access(path_of(upload_name, path), F_OK), -1);
    assert_int_equal(write_at(store, 0, bytes_view_of_text("x")), ERR_NOT_FOUND);
    assert_int_equal(blob_upload_finish(store, id), ERR_NOT_FOUND);
    assert_int_equal(blob_upload_cancel(store, id), ERR_OK);
    blob_store_close(&store);
}

static void
count_and_cancel(void *context, const uint8_t of[BLOB_ID_BYTES])
{
    struct blob_store *store = context;
    assert_int_equal(of[15], 0x42);
    assert_int_equal(blob_upload_cancel(store, of), ERR_OK);
}

static void
never(void *context, const uint8_t of[BLOB_ID_BYTES])
{
    (void)context;
    (void)of;
    fail();
}

static void
test_each_upload_is_found_and_may_be_cancelled_meanwhile(void **state)
{
    (void)state;
    char path[512];
    struct blob_store *store = open_blobs();
    for (int i = 0; i < 20; i++) {
        uint8_t other[BLOB_ID_BYTES] = {(uint8_t)i, [15] = 0x42};
        assert_int_equal(blob_upload_create(store, other, 1), ERR_OK);
    }
    // What is not ours stays.
    assert_int_equal(file_replace(path_of("uploads/README", path), bytes_view_of_text("x"), 0600), ERR_OK);
    assert_int_equal(blob_upload_each(store, count_and_cancel, store), ERR_OK);
    assert_int_equal(blob_upload_each(store, never, NULL), ERR_OK);
    assert_int_equal(access(path, F_OK), 0);
    blob_store_close(&store);
}

static void
test_files_and_folders_are_private(void **state)
{
    (void)state;
    mode_t before = umask(0);
    struct blob_store *store = open_blobs();
    assert_int_equal(blob_upload_create(store, id, 1), ERR_OK);
    umask(before);
    assert_mode(upload_name, 0600);
    assert_mode("uploads", 0700);
    assert_mode("objects", 0700);
    assert_mode("objects/ab", 0700);
    blob_store_close(&store);
}

static void
test_upload_larger_than_the_disk_is_refused(void **state)
{
    (void)state;
    char path[512];
    struct blob_store *store = open_blobs();
    assert_int_equal(blob_upload_create(store, id, UINT64_MAX), ERR_NO_SPACE);
    assert_int_equal(blob_upload_create(store, id, (uint64_t)1 << 62), ERR_NO_SPACE);
    assert_int_equal(access(path_of(upload_name, path), F_OK), -1);
    blob_store_close(&store);
}

static void
test_folder_that_cannot_be_says_so(void **state)
{
    (void)state;
    char path[512];
    struct blob_store *store = NULL;
    struct err_detail why = {0};
    assert_int_equal(file_replace(path_of("uploads", path), bytes_view_of_text("x"), 0600), ERR_OK);
    assert_int_not_equal(blob_store_open(folder, &store, &why), ERR_OK);
    assert_null(store);
    assert_non_null(strstr(why.message, folder));
}

enum {
    UPLOADS = 70, // more than stay open
    PIECES = 8,
};

static void
test_many_pieces_of_many_uploads_at_once(void **state)
{
    (void)state;
    static struct write writes[UPLOADS][PIECES];
    static uint8_t data[PIECES][PIECE_BYTES];
    uint8_t ids[UPLOADS][BLOB_ID_BYTES];
    struct blob_store *store = open_blobs();
    sem_t is_done;
    (void)sem_init(&is_done, 0, 0);
    random_bytes(data, sizeof(data));
    for (int u = 0; u < UPLOADS; u++) {
        random_bytes(ids[u], BLOB_ID_BYTES);
        assert_int_equal(blob_upload_create(store, ids[u], sizeof(data)), ERR_OK);
    }
    for (int p = 0; p < PIECES; p++) {
        for (int u = 0; u < UPLOADS; u++) {
            // Each upload begins with another piece.
            int which = (p + u) % PIECES;
            writes[u][p] =
                write_of(ids[u], (uint64_t)which * PIECE_BYTES, bytes_view_of(data[which], PIECE_BYTES), &is_done);
            blob_upload_write(store, &writes[u][p].write);
        }
    }
    for (int i = 0; i < UPLOADS * PIECES; i++) {
        wait_for(&is_done);
    }
    for (int u = 0; u < UPLOADS; u++) {
        for (int p = 0; p < PIECES; p++) {
            assert_int_equal(writes[u][p].result, ERR_OK);
            assert_int_equal(writes[u][p].done_count, 1);
        }
        static uint8_t back[sizeof(data)];
        assert_int_equal(blob_upload_finish(store, ids[u]), ERR_OK);
        assert_int_equal(blob_read(store, ids[u], 0, back, sizeof(back)), ERR_OK);
        assert_memory_equal(back, data, sizeof(data));
    }
    blob_store_close(&store);
    (void)sem_destroy(&is_done);
}

static void
test_pieces_that_wait_together_share_a_sync(void **state)
{
    (void)state;
    enum {
        BUSY = 2, // writers
        COUNT = 20,
    };
    static const uint8_t others[BUSY][BLOB_ID_BYTES] = {{1}, {2}};
    struct write writes[BUSY + COUNT];
    struct blob_store *store = open_blobs();
    sem_t is_done;
    (void)sem_init(&is_done, 0, 0);
    assert_int_equal(blob_upload_create(store, id, COUNT), ERR_OK);
    hold_up_syncs();
    for (int i = 0; i < BUSY; i++) {
        assert_int_equal(blob_upload_create(store, others[i], 1), ERR_OK);
        writes[i] = write_of(others[i], 0, bytes_view_of_text("x"), &is_done);
        blob_upload_write(store, &writes[i].write);
        wait_for(&syncs.entered);
    }
    // Both writers wait for the disk: what comes now gathers.
    atomic_store(&syncs.is_held_up, false);
    for (int i = 0; i < COUNT; i++) {
        writes[BUSY + i] = write_of(id, (uint64_t)i, bytes_view_of_text("x"), &is_done);
        blob_upload_write(store, &writes[BUSY + i].write);
    }
    sem_post(&syncs.go_on);
    sem_post(&syncs.go_on);
    for (int i = 0; i < BUSY + COUNT; i++) {
        wait_for(&is_done);
    }
    for (int i = 0; i < BUSY + COUNT; i++) {
        assert_int_equal(writes[i].result, ERR_OK);
    }
    assert_int_equal(atomic_load(&syncs.count), BUSY + 1);
    blob_store_close(&store);
    (void)sem_destroy(&is_done);
}

static void
wait_for_byte_in_upload(size_t offset)
{
    char path[512];
    struct bytes content = {0};
    for (bool is_there = false; !is_there; sched_yield()) { // the whole test program has a time limit
        bytes_clear(&content);
        assert_int_equal(file_read(path_of(upload_name, path), 100, &content), ERR_OK);
        is_there = content.size > offset && content.data[offset] != 0;
    }
    bytes_free(&content);
}

// The system tells one sync only that data was lost, and it may have been another writer's.
static void
test_failed_sync_fails_all_pieces_that_it_may_have_lost(void **state)
{
    (void)state;
    struct write writes[2];
    struct blob_store *store = open_blobs();
    sem_t is_done;
    (void)sem_init(&is_done, 0, 0);
    assert_int_equal(blob_upload_create(store, id, 3), ERR_OK);
    hold_up_syncs();
    for (size_t i = 0; i < 2; i++) {
        writes[i] = write_of(id, i, bytes_view_of_text("x"), &is_done);
        blob_upload_write(store, &writes[i].write);
        wait_for_byte_in_upload(i);
    }
    wait_for(&syncs.entered);
    atomic_store(&syncs.is_held_up, false);
    atomic_store(&syncs.fails, true);
    sem_post(&syncs.go_on);
    wait_for(&is_done);
    wait_for(&is_done);
    assert_int_equal(writes[0].result, ERR_IO);
    assert_int_equal(writes[1].result, ERR_IO);
    assert_int_equal(atomic_load(&syncs.count), 2);
    // What is written afterwards is not suspected.
    assert_int_equal(write_at(store, 0, bytes_view_of_text("xyz")), ERR_OK);
    blob_store_close(&store);
    (void)sem_destroy(&is_done);
}

static void
test_close_writes_what_is_queued(void **state)
{
    (void)state;
    enum {
        COUNT = 500,
    };
    static struct write writes[COUNT];
    static const uint8_t zeros[PIECE_BYTES];
    struct blob_store *store = open_blobs();
    sem_t is_done;
    (void)sem_init(&is_done, 0, 0);
    assert_int_equal(blob_upload_create(store, id, COUNT * PIECE_BYTES), ERR_OK);
    for (int i = 0; i < COUNT; i++) {
        writes[i] = write_of(id, (uint64_t)i * PIECE_BYTES, bytes_view_of(zeros, PIECE_BYTES), &is_done);
        blob_upload_write(store, &writes[i].write);
    }
    blob_store_close(&store);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(writes[i].result, ERR_OK);
        assert_int_equal(writes[i].done_count, 1);
    }
    char path[512];
    struct stat status;
    assert_int_equal(stat(path_of(upload_name, path), &status), 0);
    assert_int_equal(status.st_size, COUNT * PIECE_BYTES);
    (void)sem_destroy(&is_done);
}

static void *
finish(void *context)
{
    enum err err = blob_upload_finish(context, id);
    return (void *)(uintptr_t)err;
}

static void
test_finished_by_two_threads_at_once(void **state)
{
    (void)state;
    struct blob_store *store = open_blobs();
    for (int round = 0; round < 10; round++) {
        char path[512];
        (void)unlink(path_of(object_name, path));
        assert_int_equal(blob_upload_create(store, id, 1), ERR_OK);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, finish, store), 0);
        assert_int_equal(blob_upload_finish(store, id), ERR_OK);
        void *other = NULL;
        assert_int_equal(pthread_join(thread, &other), 0);
        assert_int_equal((uintptr_t)other, ERR_OK);
    }
    blob_store_close(&store);
}

static void
test_piece_that_does_not_fit_fails_alone(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct blob_store *store = open_blobs();
    assert_int_equal(blob_upload_create(store, id, 20000), ERR_OK);
    struct rlimit small = {.rlim_cur = 10000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    static const uint8_t zeros[8000];
    enum err first = write_at(store, 0, bytes_view_of(zeros, sizeof(zeros)));
    enum err second = write_at(store, 8000, bytes_view_of(zeros, sizeof(zeros)));
    enum err third = write_at(store, 8000, bytes_view_of(zeros, 2000));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(first, ERR_OK);
    assert_int_equal(second, ERR_NO_SPACE);
    assert_int_equal(third, ERR_OK);
    assert_int_equal(write_at(store, 8000, bytes_view_of(zeros, sizeof(zeros))), ERR_OK);
    blob_store_close(&store);
}

static void
test_full_disk(void **state)
{
    (void)state;
    if (mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=20m") != 0) {
        print_message("skipped: mounting a small disk needs more rights (%s)\n", strerror(errno));
        skip();
    }
    enum {
        MIB = 1024 * 1024,
    };
    uint8_t *data = calloc(8, MIB);
    assert_non_null(data);
    struct blob_store *store = open_blobs();
    assert_int_equal(blob_upload_create(store, id, 5 * MIB), ERR_NO_SPACE); // would leave less than the reserve
    assert_int_equal(blob_upload_create(store, id, 1 * MIB), ERR_OK);
    assert_int_equal(write_at(store, 0, bytes_view_of(data, 8 * MIB)), ERR_OK);
    assert_int_equal(write_at(store, 8 * MIB, bytes_view_of(data, 8 * MIB)), ERR_OK);
    assert_int_equal(write_at(store, 16 * MIB, bytes_view_of(data, 8 * MIB)), ERR_NO_SPACE);
    assert_int_equal(blob_upload_cancel(store, id), ERR_OK);
    assert_int_equal(blob_upload_create(store, id, 1 * MIB), ERR_OK);
    assert_int_equal(write_at(store, 0, bytes_view_of(data, 8 * MIB)), ERR_OK);
    blob_store_close(&store);
    free(data);
    assert_int_equal(umount(folder), 0);
}

int
main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_upload_becomes_an_object),
        IN_FOLDER(test_digest_of_many_steps_and_of_nothing),
        IN_FOLDER(test_large_uploads_pass_by_the_cache_where_that_goes),
        IN_FOLDER(test_a_large_object_is_kept_in_the_cache_when_it_is_read_again),
        IN_FOLDER(test_what_is_not_there),
        IN_FOLDER(test_offsets_that_no_file_has),
        IN_FOLDER(test_upload_goes_on_after_opening_again),
        IN_FOLDER(test_cancelled_upload_is_gone),
        IN_FOLDER(test_each_upload_is_found_and_may_be_cancelled_meanwhile),
        IN_FOLDER(test_files_and_folders_are_private),
        IN_FOLDER(test_upload_larger_than_the_disk_is_refused),
        IN_FOLDER(test_folder_that_cannot_be_says_so),
        IN_FOLDER(test_many_pieces_of_many_uploads_at_once),
        IN_FOLDER(test_pieces_that_wait_together_share_a_sync),
        IN_FOLDER(test_failed_sync_fails_all_pieces_that_it_may_have_lost),
        IN_FOLDER(test_close_writes_what_is_queued),
        IN_FOLDER(test_finished_by_two_threads_at_once),
        IN_FOLDER(test_piece_that_does_not_fit_fails_alone),
        IN_FOLDER(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
