// The digests of uploads whose chunks come in every order: what Commit gets, completed by what it would read, is always
// right, and nothing waits for ever.
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "services/filestore/filestore_whole.h"

enum {
    CHUNK_BYTES = 64 * 1024,
    CHUNKS = 6,
    LAST_BYTES = 1001, // of the last chunk
    FILE_BYTES = (CHUNKS - 1) * CHUNK_BYTES + LAST_BYTES,
    WAIT_S = 30,
};

static const uint8_t id[FILESTORE_ID_BYTES] = "an upload ......";
static uint8_t data[FILE_BYTES];
static struct work_pool *pool;
static struct timer_queue *timers;
static struct filestore_wholes wholes;

struct chunk {
    struct filestore_part part; // first, so that a pointer to it is one to this
    sem_t is_done;
    enum err result;
    bool is_cancelled;
};

static int
setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILE_BYTES; i++) {
        data[i] = (uint8_t)(i * 31 + i / 251);
    }
    memset(&wholes, 0, sizeof(wholes));
    assert_int_equal(work_pool_new("test", 2, &pool), ERR_OK);
    assert_int_equal(timer_queue_new(&timers), ERR_OK);
    filestore_wholes_init(&wholes, pool, timers);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    work_pool_free(&pool);
    filestore_wholes_deinit(&wholes);
    timer_queue_free(&timers);
    return 0;
}

static bool
is_cancelled(struct filestore_part *part)
{
    return ((struct chunk *)part)->is_cancelled;
}

static void
on_done(struct filestore_part *part, enum err result)
{
    struct chunk *chunk = (struct chunk *)part;
    chunk->result = result;
    sem_post(&chunk->is_done);
}

static struct chunk
chunk_of(size_t index)
{
    size_t size = index == CHUNKS - 1 ? LAST_BYTES : CHUNK_BYTES;
    struct chunk chunk = {.part = {.index = index,
                              .offset = index * CHUNK_BYTES,
                              .data = bytes_view_of(data + index * CHUNK_BYTES, size),
                              .is_cancelled = is_cancelled,
                              .done = on_done}};
    memcpy(chunk.part.upload_id, id, sizeof(id));
    assert_int_equal(digest_of(DIGEST_MD5, chunk.part.data, chunk.part.announced_md5), ERR_OK);
    (void)sem_init(&chunk.is_done, 0, 0);
    return chunk;
}

static void
wait_for(struct chunk *chunk)
{
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S * (scale == NULL ? 1 : atol(scale));
    assert_int_equal(sem_timedwait(&chunk->is_done, &until), 0);
}

static bool
is_still_waiting(struct chunk *chunk)
{
    int value = 0;
    (void)sem_getvalue(&chunk->is_done, &value);
    return value == 0;
}

static void
assert_right(struct chunk *chunk)
{
    struct filestore_chunk expected;
    wait_for(chunk);
    assert_int_equal(chunk->result, ERR_OK);
    assert_int_equal(digest_of(DIGEST_MD5, chunk->part.data, expected.md5), ERR_OK);
    assert_int_equal(digest_of(DIGEST_SHA256, chunk->part.data, expected.sha256), ERR_OK);
    assert_memory_equal(&chunk->part.digests, &expected, sizeof(expected));
}

// Takes what is known, which must be of the first known_bytes, and goes on to the end as Commit does.
static void
assert_whole(uint64_t known_bytes)
{
    struct filestore_whole_digests whole;
    uint8_t expected[DIGEST_SHA256_BYTES];
    uint8_t out[DIGEST_SHA256_BYTES];
    assert_int_equal(filestore_wholes_take(&wholes, id, &whole), ERR_OK);
    assert_int_equal(whole.size_bytes, known_bytes);
    struct bytes_view rest = bytes_view_of(data + known_bytes, FILE_BYTES - known_bytes);
    if (rest.size != 0) {
        assert_int_equal(md5_chain_add(&whole.md5, rest, out, NULL), ERR_OK);
        assert_int_equal(sha256_chain_add(whole.sha256, rest, out), ERR_OK);
    }
    md5_chain_final(&whole.md5, out);
    assert_int_equal(digest_of(DIGEST_MD5, bytes_view_of(data, FILE_BYTES), expected), ERR_OK);
    assert_memory_equal(out, expected, DIGEST_MD5_BYTES);
    assert_int_equal(sha256_chain_final(whole.sha256, out), ERR_OK);
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(data, FILE_BYTES), expected), ERR_OK);
    assert_memory_equal(out, expected, DIGEST_SHA256_BYTES);
    sha256_chain_free(&whole.sha256);
}

// Sends all chunks in this order, each while those before it are under way. So is another one, which nothing waits for,
// so that however slow this is nobody loses patience.
static void
send_all(const size_t order[CHUNKS], bool has_hints)
{
    struct chunk chunks[CHUNKS];
    struct chunk other = chunk_of(0);
    uint8_t hints[CHUNKS][MD5_HINTS_BYTES];
    uint8_t unused[DIGEST_MD5_BYTES];
    struct md5_chain chain;
    md5_chain_begin(&chain);
    for (size_t i = 0; i < CHUNKS; i++) {
        chunks[i] = chunk_of(i);
        assert_int_equal(md5_chain_add(&chain, chunks[i].part.data, unused, hints[i]), ERR_OK);
        if (has_hints && md5_chain_takes_hints(chunks[i].part.data.size)) {
            chunks[i].part.hints = bytes_view_of(hints[i], MD5_HINTS_BYTES);
        }
    }
    other.is_cancelled = true;
    filestore_wholes_hash(&wholes, &other.part);
    wait_for(&other);
    for (size_t i = 0; i < CHUNKS; i++) {
        filestore_wholes_hash(&wholes, &chunks[order[i]].part);
    }
    for (size_t i = 0; i < CHUNKS; i++) {
        assert_right(&chunks[i]);
    }
    for (size_t i = 0; i < CHUNKS; i++) {
        filestore_wholes_leave(&chunks[i].part, true);
    }
    filestore_wholes_leave(&other.part, false);
}

static void
test_chunks_in_any_order_wait_for_each_other(void **state)
{
    (void)state;
    const size_t orders[][CHUNKS] = {{0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {1, 0, 3, 2, 5, 4}, {0, 5, 2, 4, 1, 3}};
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        for (int has_hints = 0; has_hints < 2; has_hints++) {
            send_all(orders[i], has_hints != 0);
            assert_whole(FILE_BYTES);
        }
    }
}

// A sender that has one chunk in flight, and begins somewhere else: as after a restart of the server.
static void
test_who_waits_for_nothing_goes_on(void **state)
{
    (void)state;
    const size_t order[CHUNKS] = {2, 0, 1, 3, 4, 5};
    for (size_t i = 0; i < CHUNKS; i++) {
        struct chunk chunk = chunk_of(order[i]);
        filestore_wholes_hash(&wholes, &chunk.part);
        assert_right(&chunk);
        filestore_wholes_leave(&chunk.part, true);
    }
    assert_whole(0);
}

static void
test_an_upload_begun_long_ago_is_not_waited_for(void **state)
{
    (void)state;
    struct chunk chunk = chunk_of(1);
    chunk.part.index = 1000;
    filestore_wholes_hash(&wholes, &chunk.part);
    assert_null(chunk.part.whole);
    assert_right(&chunk);
    filestore_wholes_leave(&chunk.part, true);
    assert_whole(0);
}

static void
test_a_gap_leaves_the_rest_to_commit(void **state)
{
    (void)state;
    struct chunk first = chunk_of(0);
    struct chunk third = chunk_of(2);
    filestore_wholes_hash(&wholes, &first.part);
    filestore_wholes_hash(&wholes, &third.part);
    assert_right(&first);
    assert_true(is_still_waiting(&third)); // the first is still being written
    filestore_wholes_leave(&first.part, true);
    assert_right(&third);
    filestore_wholes_leave(&third.part, true);
    assert_whole(CHUNK_BYTES);
}

static void
test_a_damaged_chunk_is_refused_and_may_come_again(void **state)
{
    (void)state;
    struct chunk chunks[CHUNKS];
    for (size_t i = 0; i < CHUNKS; i++) {
        chunks[i] = chunk_of(i);
    }
    filestore_wholes_hash(&wholes, &chunks[0].part);
    assert_right(&chunks[0]);
    chunks[1].part.announced_md5[3] ^= 1;
    filestore_wholes_hash(&wholes, &chunks[1].part);
    filestore_wholes_hash(&wholes, &chunks[2].part);
    wait_for(&chunks[1]);
    assert_int_equal(chunks[1].result, ERR_CORRUPT);
    filestore_wholes_leave(&chunks[1].part, false);
    chunks[1].part.announced_md5[3] ^= 1;
    for (size_t i = 3; i < CHUNKS; i++) {
        filestore_wholes_hash(&wholes, &chunks[i].part);
    }
    filestore_wholes_hash(&wholes, &chunks[1].part);
    for (size_t i = 1; i < CHUNKS; i++) {
        assert_right(&chunks[i]);
    }
    for (size_t i = 0; i < CHUNKS; i++) {
        filestore_wholes_leave(&chunks[i].part, true);
    }
    assert_whole(FILE_BYTES);
}

static void
test_what_was_not_stored_does_not_count(void **state)
{
    (void)state;
    struct chunk first = chunk_of(0);
    struct chunk second = chunk_of(1);
    filestore_wholes_hash(&wholes, &first.part);
    filestore_wholes_hash(&wholes, &second.part);
    assert_right(&first);
    assert_right(&second);
    filestore_wholes_leave(&second.part, false);
    filestore_wholes_leave(&first.part, true);
    assert_whole(0);
}

static void
test_a_cancelled_chunk_is_not_hashed(void **state)
{
    (void)state;
    struct chunk chunk = chunk_of(0);
    chunk.is_cancelled = true;
    filestore_wholes_hash(&wholes, &chunk.part);
    wait_for(&chunk);
    assert_int_equal(chunk.result, ERR_CANCELLED);
    filestore_wholes_leave(&chunk.part, false);
    assert_whole(0);
}

// Of a size that was not known: only the last chunk may be short, and the sender does not keep to it.
static void
test_a_short_chunk_in_the_middle_ends_the_order(void **state)
{
    (void)state;
    struct chunk first = chunk_of(0);
    struct chunk second = chunk_of(1);
    first.part.data.size = MD5_BLOCK_BYTES;
    assert_int_equal(digest_of(DIGEST_MD5, first.part.data, first.part.announced_md5), ERR_OK);
    filestore_wholes_hash(&wholes, &first.part);
    filestore_wholes_hash(&wholes, &second.part);
    assert_right(&first);
    assert_right(&second);
    filestore_wholes_leave(&first.part, true);
    filestore_wholes_leave(&second.part, true);
    assert_whole(MD5_BLOCK_BYTES);
}

static void
test_more_uploads_than_are_kept(void **state)
{
    (void)state;
    enum {
        UPLOADS = 200,
    };
    struct chunk *chunks = calloc(UPLOADS, sizeof(*chunks));
    assert_non_null(chunks);
    for (size_t i = 0; i < UPLOADS; i++) {
        chunks[i] = chunk_of(0);
        chunks[i].part.upload_id[0] = (uint8_t)i;
        filestore_wholes_hash(&wholes, &chunks[i].part);
    }
    for (size_t i = 0; i < UPLOADS; i++) {
        assert_right(&chunks[i]);
        filestore_wholes_leave(&chunks[i].part, true);
    }
    assert_true(wholes.locked.count < UPLOADS);
    free(chunks);
    send_all((const size_t[CHUNKS]){0, 1, 2, 3, 4, 5}, true); // the older ones make room
    assert_whole(FILE_BYTES);
}

int
main(void)
{
#define WITH_POOL(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_POOL(test_chunks_in_any_order_wait_for_each_other),
        WITH_POOL(test_who_waits_for_nothing_goes_on),
        WITH_POOL(test_an_upload_begun_long_ago_is_not_waited_for),
        WITH_POOL(test_a_gap_leaves_the_rest_to_commit),
        WITH_POOL(test_a_damaged_chunk_is_refused_and_may_come_again),
        WITH_POOL(test_what_was_not_stored_does_not_count),
        WITH_POOL(test_a_cancelled_chunk_is_not_hashed),
        WITH_POOL(test_a_short_chunk_in_the_middle_ends_the_order),
        WITH_POOL(test_more_uploads_than_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
