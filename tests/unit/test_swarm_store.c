// Segments on disk: the budget, what survives an end without warning, and shared files.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/random.h"
#include "swarm/swarm_bits.h"
#include "swarm/swarm_store.h"

enum {
    SEGMENT_BYTES = 4096,
    SEGMENTS = 10,
    LAST_BYTES = 100,
    SIZE = (SEGMENTS - 1) * SEGMENT_BYTES + LAST_BYTES,
};

// A file with random content, and what is known of it.
struct sample {
    struct swarm_file file;
    uint8_t content[SIZE];
    uint8_t sha256s[SEGMENTS * DIGEST_SHA256_BYTES];
};

static char folder[256];
static char store_dir[300];

static int
setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)state;
    (void)snprintf(folder, sizeof(folder), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(store_dir, sizeof(store_dir), "%s/segments", folder);
    return 0;
}

static int
teardown(void **state)
{
    char command[sizeof(folder) + 16];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static struct bytes_view
segment_of(const struct sample *sample, uint64_t index)
{
    return bytes_view_of(sample->content + index * SEGMENT_BYTES, swarm_file_segment_size(&sample->file, index));
}

static struct bytes_view
sha256s_of(const struct sample *sample)
{
    return bytes_view_of(sample->sha256s, sizeof(sample->sha256s));
}

static void
make_sample(struct sample *sample)
{
    struct e2e_tree tree = {0};
    random_bytes(sample->content, sizeof(sample->content));
    random_bytes(sample->file.id, sizeof(sample->file.id));
    sample->file.size_bytes = SIZE;
    sample->file.segment_bytes = SEGMENT_BYTES;
    assert_int_equal(swarm_file_segment_count(&sample->file), SEGMENTS);
    for (size_t i = 0; i < SEGMENTS; i++) {
        uint8_t *sha256 = sample->sha256s + i * DIGEST_SHA256_BYTES;
        assert_int_equal(digest_of(DIGEST_SHA256, segment_of(sample, i), sha256), ERR_OK);
        assert_int_equal(e2e_tree_add(&tree, sha256), ERR_OK);
    }
    assert_int_equal(e2e_tree_root(&tree, sample->file.root), ERR_OK);
}

// What was told of changes, as a set and as a count.
static struct {
    uint64_t come;
    uint64_t gone;
} told;

static void
on_change(void *context, const struct swarm_file *file, uint64_t first, uint64_t count, bool is_gone)
{
    (void)context;
    assert_true(first + count <= swarm_file_segment_count(file));
    *(is_gone ? &told.gone : &told.come) += count;
}

static struct swarm_store *
open_store(uint64_t budget_bytes)
{
    struct swarm_store *store = NULL;
    struct err_detail why = {0};
    const struct swarm_store_options options = {.dir = store_dir, .budget_bytes = budget_bytes, .on_change = on_change};
    memset(&told, 0, sizeof(told));
    assert_int_equal(swarm_store_open(&options, &store, &why), ERR_OK);
    return store;
}

static void
add(struct swarm_store *store, const struct sample *sample)
{
    assert_int_equal(swarm_store_add(store, &sample->file, sha256s_of(sample)), ERR_OK);
}

static void
put(struct swarm_store *store, const struct sample *sample, uint64_t index)
{
    assert_int_equal(swarm_store_write(store, sample->file.id, index, segment_of(sample, index)), ERR_OK);
}

static enum err
get(struct swarm_store *store, const struct sample *sample, uint64_t index)
{
    struct bytes data = {0};
    enum err err = swarm_store_read(store, sample->file.id, index, &data);
    if (err == ERR_OK) {
        assert_true(bytes_view_equal(bytes_as_view(&data), segment_of(sample, index)));
    } else {
        assert_int_equal(data.size, 0);
    }
    bytes_free(&data);
    return err;
}

static uint64_t
stored_bytes(struct swarm_store *store)
{
    struct swarm_stored stored;
    swarm_store_read_stored(store, &stored);
    return stored.bytes;
}

// Changes one byte of a file of the store's folder, or of another.
static void
damage(const char *path, off_t at)
{
    uint8_t byte = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(file_read_at(fd, &byte, 1, at), ERR_OK);
    byte ^= 1;
    assert_int_equal(file_write_at(fd, bytes_view_of(&byte, 1), at), ERR_OK);
    close(fd);
}

static void
path_of(const struct sample *sample, const char *ending, char out[400])
{
    char hex[33];
    bytes_to_hex(bytes_view_of(sample->file.id, sizeof(sample->file.id)), hex);
    (void)snprintf(out, 400, "%s/%s%s", store_dir, hex, ending);
}

// --- What was fetched -----------------------------------------------------------------------------------------------

static void
test_what_is_written_is_read(void **state)
{
    static struct sample sample;
    struct bytes sha256s = {0};
    (void)state;
    make_sample(&sample);
    struct swarm_store *store = open_store(0);
    assert_int_equal(get(store, &sample, 0), ERR_NOT_FOUND);
    assert_int_equal(swarm_store_write(store, sample.file.id, 0, segment_of(&sample, 0)), ERR_NOT_FOUND);
    add(store, &sample);
    add(store, &sample);
    assert_int_equal(get(store, &sample, 0), ERR_NOT_FOUND);
    put(store, &sample, SEGMENTS - 1);
    put(store, &sample, 3);
    put(store, &sample, 3);
    assert_int_equal(get(store, &sample, 3), ERR_OK);
    assert_int_equal(get(store, &sample, SEGMENTS - 1), ERR_OK);
    assert_int_equal(get(store, &sample, SEGMENTS), ERR_NOT_FOUND);
    assert_int_equal(stored_bytes(store), SEGMENT_BYTES + LAST_BYTES);
    assert_int_equal(told.come, 2);
    assert_int_equal(swarm_store_next_missing(store, sample.file.id, 3), 4);
    assert_int_equal(swarm_store_digests(store, sample.file.id, 2, 4, &sha256s), ERR_OK);
    assert_int_equal(sha256s.size, 4 * DIGEST_SHA256_BYTES);
    assert_memory_equal(sha256s.data, sample.sha256s + 2 * DIGEST_SHA256_BYTES, sha256s.size);
    bytes_free(&sha256s);
    swarm_store_close(&store);
}

static void
test_only_what_has_its_digest_is_kept(void **state)
{
    static struct sample sample;
    (void)state;
    make_sample(&sample);
    struct swarm_store *store = open_store(0);
    sample.sha256s[5] ^= 1;
    assert_int_equal(swarm_store_add(store, &sample.file, sha256s_of(&sample)), ERR_CORRUPT);
    sample.sha256s[5] ^= 1;
    assert_int_equal(swarm_store_add(store, &sample.file, bytes_view_of(sample.sha256s, sizeof(sample.sha256s) - 32)),
        ERR_CORRUPT);
    add(store, &sample);
    assert_int_equal(swarm_store_write(store, sample.file.id, 1, segment_of(&sample, 2)), ERR_CORRUPT);
    assert_int_equal(swarm_store_write(store, sample.file.id, 1, segment_of(&sample, SEGMENTS - 1)), ERR_CORRUPT);
    assert_false(swarm_store_has(store, sample.file.id, 1));
    assert_int_equal(stored_bytes(store), 0);
    swarm_store_close(&store);
}

static void
test_a_second_process_is_kept_out(void **state)
{
    struct swarm_store *second = NULL;
    struct err_detail why = {0};
    (void)state;
    struct swarm_store *store = open_store(0);
    assert_int_equal(swarm_store_open(&(struct swarm_store_options){.dir = store_dir}, &second, &why), ERR_BUSY);
    swarm_store_close(&store);
}

static void
test_the_budget_takes_the_least_recently_used_first(void **state)
{
    static struct sample old;
    static struct sample new;
    (void)state;
    make_sample(&old);
    make_sample(&new);
    struct swarm_store *store = open_store(4 * SEGMENT_BYTES);
    add(store, &old);
    add(store, &new);
    put(store, &old, 0);
    put(store, &old, 1);
    put(store, &new, 0);
    put(store, &new, 1);
    assert_int_equal(get(store, &old, 0), ERR_OK);
    assert_int_equal(get(store, &old, 1), ERR_OK); // now `new` is the one that was used before
    put(store, &old, 2);
    assert_int_equal(stored_bytes(store), 4 * SEGMENT_BYTES);
    assert_int_equal(told.gone, 1);
    assert_int_equal(get(store, &old, 2), ERR_OK);
    assert_true(swarm_store_has(store, new.file.id, 0) != swarm_store_has(store, new.file.id, 1));
    put(store, &old, 3);
    // Nothing is left of it: it is forgotten, its bytes too.
    char path[400];
    path_of(&new, ".data", path);
    struct swarm_file known;
    assert_false(swarm_store_find(store, new.file.id, &known));
    assert_int_not_equal(access(path, F_OK), 0);
    // A file alone gives up its own.
    for (uint64_t i = 4; i < SEGMENTS; i++) {
        put(store, &old, i);
        assert_int_equal(get(store, &old, i), ERR_OK);
        assert_true(stored_bytes(store) <= 4 * SEGMENT_BYTES);
    }
    swarm_store_close(&store);
}

static void
test_what_does_not_fit_at_all_is_refused(void **state)
{
    static struct sample sample;
    (void)state;
    make_sample(&sample);
    struct swarm_store *store = open_store(SEGMENT_BYTES - 1);
    add(store, &sample);
    assert_int_equal(swarm_store_write(store, sample.file.id, 0, segment_of(&sample, 0)), ERR_LIMIT);
    put(store, &sample, SEGMENTS - 1); // which is shorter
    assert_int_equal(stored_bytes(store), LAST_BYTES);
    swarm_store_close(&store);
}

static void
test_a_damaged_segment_is_dropped_when_it_is_suspected(void **state)
{
    static struct sample sample;
    char path[400];
    (void)state;
    make_sample(&sample);
    struct swarm_store *store = open_store(0);
    add(store, &sample);
    put(store, &sample, 2);
    assert_int_equal(swarm_store_check(store, sample.file.id, 2), ERR_OK);
    path_of(&sample, ".data", path);
    damage(path, 2 * SEGMENT_BYTES + 7);
    assert_int_equal(swarm_store_check(store, sample.file.id, 2), ERR_CORRUPT);
    assert_int_equal(told.gone, 1);
    assert_int_equal(get(store, &sample, 2), ERR_NOT_FOUND);
    assert_int_equal(stored_bytes(store), 0);
    put(store, &sample, 2);
    assert_int_equal(get(store, &sample, 2), ERR_OK);
    swarm_store_close(&store);
}

// --- Ends without warning -------------------------------------------------------------------------------------------

static void
test_what_was_marked_is_there_after_a_kill(void **state)
{
    static struct sample sample;
    int status = 0;
    (void)state;
    make_sample(&sample);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct swarm_store *store = open_store(0);
        add(store, &sample);
        put(store, &sample, 1);
        put(store, &sample, 4);
        _exit(0); // without a word to the store
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    struct swarm_store *store = open_store(3 * SEGMENT_BYTES);
    assert_int_equal(get(store, &sample, 1), ERR_OK);
    assert_int_equal(get(store, &sample, 4), ERR_OK);
    assert_int_equal(get(store, &sample, 2), ERR_NOT_FOUND);
    assert_int_equal(stored_bytes(store), 2 * SEGMENT_BYTES);
    // They count for the budget.
    put(store, &sample, 2);
    put(store, &sample, 3);
    assert_int_equal(stored_bytes(store), 3 * SEGMENT_BYTES);
    swarm_store_close(&store);
    // So does a smaller one.
    store = open_store(2 * SEGMENT_BYTES);
    assert_int_equal(stored_bytes(store), 2 * SEGMENT_BYTES);
    swarm_store_close(&store);
}

static void
test_after_a_loss_of_power_marks_are_checked(void **state)
{
    static struct sample sample;
    char path[400];
    (void)state;
    make_sample(&sample);
    struct swarm_store *store = open_store(0);
    add(store, &sample);
    put(store, &sample, 1);
    put(store, &sample, 2);
    swarm_store_close(&store);
    // The system that made the marks was another one, and one segment never reached the disk.
    (void)snprintf(path, sizeof(path), "%s/boot", store_dir);
    assert_int_equal(file_replace(path, bytes_view_of_text("another\n"), 0600), ERR_OK);
    path_of(&sample, ".data", path);
    damage(path, 2 * SEGMENT_BYTES);
    store = open_store(0);
    swarm_store_close(&store); // once more, within the same start of the system
    store = open_store(0);
    assert_true(swarm_store_has(store, sample.file.id, 2));
    assert_int_equal(get(store, &sample, 1), ERR_OK);
    assert_int_equal(get(store, &sample, 2), ERR_NOT_FOUND);
    assert_false(swarm_store_has(store, sample.file.id, 2));
    swarm_store_close(&store);
}

static void
test_an_index_that_is_damaged_is_forgotten(void **state)
{
    static struct sample sample;
    struct swarm_file known;
    char path[400];
    (void)state;
    make_sample(&sample);
    for (off_t at = 0; at < 130; at += 13) {
        struct swarm_store *store = open_store(0);
        add(store, &sample);
        put(store, &sample, 0);
        swarm_store_close(&store);
        path_of(&sample, ".index", path);
        damage(path, at);
        store = open_store(0);
        assert_false(swarm_store_find(store, sample.file.id, &known));
        assert_int_not_equal(access(path, F_OK), 0);
        swarm_store_close(&store);
    }
    struct swarm_store *store = open_store(0);
    add(store, &sample);
    swarm_store_close(&store);
    for (off_t size = 0; size < 12 * 1024 + SEGMENTS * 33; size += 991) {
        assert_int_equal(truncate(path, size), 0);
        store = open_store(0);
        assert_false(swarm_store_find(store, sample.file.id, &known));
        add(store, &sample);
        swarm_store_close(&store);
    }
}

// --- Shared files ---------------------------------------------------------------------------------------------------

static void
write_shared(const struct sample *sample, const char *name, char path_out[400])
{
    (void)snprintf(path_out, 400, "%s/%s", folder, name);
    assert_int_equal(file_replace(path_out, bytes_view_of(sample->content, SIZE), 0600), ERR_OK);
}

static void
test_a_shared_file_is_served_from_where_it_is(void **state)
{
    static struct sample sample;
    char path[400];
    (void)state;
    make_sample(&sample);
    write_shared(&sample, "movie", path);
    struct swarm_store *store = open_store(1);
    const struct swarm_shared shared = {.name = "movie", .path = path, .is_complete = true};
    assert_int_equal(swarm_store_share(store, &sample.file, sha256s_of(&sample), &shared), ERR_OK);
    assert_int_equal(told.come, SEGMENTS);
    for (uint64_t i = 0; i < SEGMENTS; i++) {
        assert_int_equal(get(store, &sample, i), ERR_OK);
    }
    swarm_store_close(&store);
    store = open_store(1); // is remembered, and does not count for the budget
    assert_int_equal(get(store, &sample, 4), ERR_OK);
    assert_int_equal(stored_bytes(store), SIZE);
    swarm_store_remove(store, sample.file.id);
    assert_int_equal(get(store, &sample, 4), ERR_NOT_FOUND);
    assert_int_equal(access(path, F_OK), 0);
    swarm_store_close(&store);
}

static void
test_a_shared_file_that_changed_is_served_no_more(void **state)
{
    static struct sample sample;
    struct swarm_file known;
    char path[400];
    const struct timespec before[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    (void)state;
    make_sample(&sample);
    write_shared(&sample, "movie", path);
    assert_int_equal(utimensat(AT_FDCWD, path, before, 0), 0);
    struct swarm_store *store = open_store(0);
    const struct swarm_shared shared = {.name = "movie", .path = path, .is_complete = true};
    assert_int_equal(swarm_store_share(store, &sample.file, sha256s_of(&sample), &shared), ERR_OK);
    assert_int_equal(get(store, &sample, 0), ERR_OK);
    damage(path, 0);
    assert_int_equal(get(store, &sample, 5), ERR_NOT_FOUND);
    assert_false(swarm_store_find(store, sample.file.id, &known));
    assert_int_equal(told.gone, SEGMENTS);
    // The same for one that has gone, and one of another size.
    write_shared(&sample, "movie", path);
    assert_int_equal(swarm_store_share(store, &sample.file, sha256s_of(&sample), &shared), ERR_OK);
    assert_int_equal(truncate(path, SIZE - 1), 0);
    assert_int_equal(swarm_store_share(store, &sample.file, sha256s_of(&sample), &shared), ERR_INVALID);
    assert_int_equal(get(store, &sample, 5), ERR_NOT_FOUND);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(swarm_store_share(store, &sample.file, sha256s_of(&sample), &shared), ERR_NOT_FOUND);
    swarm_store_close(&store);
}

static void
test_a_download_is_shared_while_it_grows(void **state)
{
    static struct sample sample;
    char part[400];
    char path[400];
    uint8_t bits[2] = {0};
    (void)state;
    make_sample(&sample);
    write_shared(&sample, "movie.part", part);
    (void)snprintf(path, sizeof(path), "%s/movie", folder);
    damage(part, 6 * SEGMENT_BYTES);
    struct swarm_store *store = open_store(0);
    swarm_bits_set(bits, 0, true);
    swarm_bits_set(bits, 9, true);
    struct swarm_shared shared = {.name = "movie",
        .path = part,
        .final_path = path,
        .segments = bytes_view_of(bits, sizeof(bits))};
    assert_int_equal(swarm_store_share(store, &sample.file, sha256s_of(&sample), &shared), ERR_OK);
    assert_int_equal(get(store, &sample, 0), ERR_OK);
    assert_int_equal(get(store, &sample, 1), ERR_NOT_FOUND);
    swarm_bits_set(bits, 1, true);
    swarm_bits_set(bits, 6, true); // which is not so
    assert_int_equal(swarm_store_share(store, &sample.file, sha256s_of(&sample), &shared), ERR_OK);
    assert_int_equal(told.come, 4);
    assert_int_equal(get(store, &sample, 1), ERR_OK);
    assert_int_equal(get(store, &sample, 6), ERR_NOT_FOUND);
    assert_int_equal(told.gone, 1);
    // It gets its name, before anybody says so.
    damage(part, 6 * SEGMENT_BYTES);
    assert_int_equal(rename(part, path), 0);
    assert_int_equal(get(store, &sample, 9), ERR_OK);
    shared = (struct swarm_shared){.name = "movie", .path = path, .is_complete = true};
    assert_int_equal(swarm_store_share(store, &sample.file, sha256s_of(&sample), &shared), ERR_OK);
    assert_int_equal(swarm_store_next_missing(store, sample.file.id, 0), SEGMENTS);
    swarm_store_close(&store);
    store = open_store(0);
    assert_int_equal(get(store, &sample, 6), ERR_OK);
    swarm_store_close(&store);
}

static void
test_a_file_of_a_folder_is_found_to_be_the_same(void **state)
{
    static struct sample sample;
    char path[400];
    (void)state;
    make_sample(&sample);
    write_shared(&sample, "copy", path);
    damage(path, 3 * SEGMENT_BYTES);
    struct swarm_store *store = open_store(0);
    const struct swarm_shared shared = {.name = "copy", .path = path};
    assert_int_equal(swarm_store_share(store, &sample.file, sha256s_of(&sample), &shared), ERR_OK);
    for (uint64_t i = 0; i < SEGMENTS; i++) {
        assert_int_equal(swarm_store_check(store, sample.file.id, i), i == 3 ? ERR_CORRUPT : ERR_OK);
        assert_true(swarm_store_has(store, sample.file.id, i) == (i != 3));
    }
    swarm_store_close(&store);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_written_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_what_has_its_digest_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_second_process_is_kept_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_budget_takes_the_least_recently_used_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_does_not_fit_at_all_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_damaged_segment_is_dropped_when_it_is_suspected, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_was_marked_is_there_after_a_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(test_after_a_loss_of_power_marks_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_index_that_is_damaged_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_shared_file_is_served_from_where_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_shared_file_that_changed_is_served_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_download_is_shared_while_it_grows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_of_a_folder_is_found_to_be_the_same, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
