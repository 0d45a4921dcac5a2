// Power that fails during a download: what is written, synced and renamed is recorded, and then every end is played
// that a disk may be left in: all that was synced, and any part of what was written since.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "client/fc_part_priv.h"

enum {
    SEGMENTS = 40,
    SEGMENT_BYTES = 4096,
    CLAIMED_BYTES = 20 * 1024 * 1024, // as if segments were so large: a sync comes with every fourth
    EVENTS_MAX = 4 * SEGMENTS,
    JOURNAL_MAX_BYTES = 4096,
    RECORD_BYTES = 16,
    ENDS_PER_EVENT = 6,
};

enum event_kind { WRITE, SYNC_PART, SYNC_JOURNAL, RENAME };

struct event {
    enum event_kind kind;
    unsigned segment;    // of a write
    size_t journal_size; // when it had happened
};

// What the calls below see. Nothing is recorded while part is NULL.
static struct {
    const struct fc_part *part;
    struct event events[EVENTS_MAX];
    size_t count;
} recorded;

static size_t
size_of(int fd)
{
    struct stat status;
    return fd >= 0 && fstat(fd, &status) == 0 ? (size_t)status.st_size : 0;
}

static void
record(enum event_kind kind, unsigned segment)
{
    assert_true(recorded.count < EVENTS_MAX);
    recorded.events[recorded.count++] =
        (struct event){.kind = kind, .segment = segment, .journal_size = size_of(recorded.part->journal.fd)};
}

static void
record_sync(int fd)
{
    if (recorded.part != NULL && (fd == recorded.part->fd || fd == recorded.part->journal.fd)) {
        record(fd == recorded.part->fd ? SYNC_PART : SYNC_JOURNAL, 0);
    }
}

int
fdatasync(int fd)
{
    record_sync(fd);
    return 0;
}

int
fsync(int fd)
{
    record_sync(fd);
    return 0;
}

int
renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    if (recorded.part != NULL) {
        record(RENAME, 0);
    }
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

struct fixture {
    char dir[256];
    char path[300];
    struct fc_file file;
    struct fc_part part;
    struct err_detail why;
    uint8_t segments[SEGMENTS][SEGMENT_BYTES];
    uint8_t sha256s[SEGMENTS][DIGEST_SHA256_BYTES];
};

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const char *tmp = getenv("TMPDIR");

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof(f->dir), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/x", f->dir);
    f->file = (struct fc_file){.size_bytes = SEGMENTS * SEGMENT_BYTES, .chunk_size_bytes = SEGMENT_BYTES};
    for (unsigned i = 0; i < SEGMENTS; i++) {
        memset(f->segments[i], (int)i + 1, SEGMENT_BYTES);
        assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(f->segments[i], SEGMENT_BYTES), f->sha256s[i]), ERR_OK);
    }
    recorded.part = NULL;
    recorded.count = 0;
    srandom(1);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    char command[300];

    fc_part_abort(&f->part);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
    free(f);
    return system(command);
}

// record_download writes all segments, in an order that is not theirs, and returns the journal that this has made.
static size_t
record_download(struct fixture *f, uint8_t journal_out[JOURNAL_MAX_BYTES])
{
    assert_int_equal(fc_part_create(&f->part, AT_FDCWD, f->path, &f->file, false, &f->why), ERR_OK);
    recorded.part = &f->part;
    for (unsigned i = 0; i < SEGMENTS; i++) {
        unsigned segment = i * 7 % SEGMENTS;
        struct bytes_view data = bytes_view_of(f->segments[segment], SEGMENT_BYTES);
        assert_int_equal(file_write_at(f->part.fd, data, (off_t)segment * SEGMENT_BYTES), ERR_OK);
        record(WRITE, segment);
        assert_int_equal(fc_part_note(&f->part, segment, f->sha256s[segment], CLAIMED_BYTES, &f->why), ERR_OK);
    }
    size_t size = size_of(f->part.journal.fd);
    assert_true(size <= JOURNAL_MAX_BYTES);
    assert_int_equal(file_read_at(f->part.journal.fd, journal_out, size, 0), ERR_OK);
    return size;
}

// other_boot makes a journal one of before the system started.
static size_t
other_boot(uint8_t *journal, size_t size)
{
    uint8_t *newline = memchr(journal, '\n', size);
    assert_non_null(newline);
    newline[-1] = newline[-1] == 'x' ? 'y' : 'x';
    return (size_t)(newline + 1 - journal);
}

// leave_part puts on the disk what was synced of .part, and any of what was written since.
static void
leave_part(const struct fixture *f, int fd, size_t count, size_t durable)
{
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(ftruncate(fd, SEGMENTS * SEGMENT_BYTES), 0);
    for (size_t i = 0; i < count; i++) {
        const struct event *event = &recorded.events[i];
        if (event->kind == WRITE && (i < durable || random() % 2 == 0)) {
            assert_int_equal(file_write_at(fd, bytes_view_of(f->segments[event->segment], SEGMENT_BYTES),
                                 (off_t)event->segment * SEGMENT_BYTES),
                ERR_OK);
        }
    }
}

// leave_journal does the same to the journal, whose length may be on the disk before its bytes are.
static void
leave_journal(int fd, const uint8_t *journal, size_t header_size, size_t size, size_t durable)
{
    uint8_t left[JOURNAL_MAX_BYTES];
    size_t length = durable + (size_t)random() % (size - durable + 1);

    memcpy(left, journal, length);
    for (size_t at = durable; at < length;) {
        size_t piece = at < header_size ? header_size - at : RECORD_BYTES - (at - header_size) % RECORD_BYTES;
        piece = piece < length - at ? piece : length - at;
        if (random() % 3 == 0) {
            memset(left + at, 0, piece);
        }
        at += piece;
    }
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(file_write_at(fd, bytes_view_of(left, length), 0), ERR_OK);
}

// count_believed goes on with what the disk was left in, and compares what is believed to be there with what is.
static size_t
count_believed(struct fixture *f, int fd)
{
    struct fc_part part = {.fd = -1, .dir_fd = AT_FDCWD, .journal = {.fd = -1}};
    uint8_t found[SEGMENT_BYTES];
    size_t count = 0;

    memcpy(part.path, f->part.path, sizeof(part.path));
    memcpy(part.part_path, f->part.part_path, sizeof(part.part_path));
    memcpy(part.journal.path, f->part.journal.path, sizeof(part.journal.path));
    enum err err = fc_part_resume(&part, &f->file, &f->why);
    if (err == ERR_NOT_FOUND) {
        return 0;
    }
    assert_int_equal(err, ERR_OK);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        if (fc_part_has(&part, i, f->sha256s[i])) {
            assert_int_equal(file_read_at(fd, found, SEGMENT_BYTES, (off_t)i * SEGMENT_BYTES), ERR_OK);
            assert_memory_equal(found, f->segments[i], SEGMENT_BYTES);
            count++;
        }
    }
    close(part.fd);
    fc_part_end_journal(&part, true);
    return count;
}

static void
test_no_end_makes_believe_what_is_not_there(void **state)
{
    struct fixture *f = *state;
    uint8_t journal[JOURNAL_MAX_BYTES];
    size_t journal_size = record_download(f, journal);
    size_t header_size = other_boot(journal, journal_size);
    char part_path[FC_PART_PATH_MAX_BYTES];
    char journal_path[FC_PART_PATH_MAX_BYTES + 8];
    size_t durable_events = 0;
    size_t durable_journal = 0;
    size_t durable_segments = 0;
    size_t written = 0;

    recorded.part = NULL;
    memcpy(part_path, f->part.part_path, sizeof(part_path));
    memcpy(journal_path, f->part.journal.path, sizeof(journal_path));
    fc_part_leave(&f->part);
    int part_fd = open(part_path, O_RDWR | O_CLOEXEC);
    int journal_fd = open(journal_path, O_RDWR | O_CLOEXEC);
    assert_true(part_fd >= 0 && journal_fd >= 0);
    assert_true(recorded.count > SEGMENTS);
    for (size_t i = 0; i < recorded.count; i++) {
        const struct event *event = &recorded.events[i];
        written += event->kind == WRITE;
        if (event->kind == SYNC_PART) {
            durable_events = i;
        } else if (event->kind == SYNC_JOURNAL) {
            durable_journal = event->journal_size;
            durable_segments = written;
        }
        // What the journal has after this event, and before the next.
        size_t size = i + 1 < recorded.count ? recorded.events[i + 1].journal_size : journal_size;
        for (unsigned end = 0; end < ENDS_PER_EVENT; end++) {
            leave_part(f, part_fd, i + 1, durable_events);
            leave_journal(journal_fd, journal, header_size, size, durable_journal);
            size_t believed = count_believed(f, part_fd);
            // And what was made durable is not fetched again.
            assert_true(believed >= durable_segments);
        }
    }
    assert_true(durable_segments > SEGMENTS / 2);
    close(part_fd);
    close(journal_fd);
}

static void
test_a_file_is_synced_before_it_gets_its_name(void **state)
{
    struct fixture *f = *state;
    uint8_t journal[JOURNAL_MAX_BYTES];
    uint8_t found[SEGMENT_BYTES];

    (void)record_download(f, journal);
    assert_int_equal(fc_part_finish(&f->part, &f->why), ERR_OK);
    recorded.part = NULL;
    assert_int_equal(recorded.events[recorded.count - 1].kind, RENAME);
    assert_int_equal(recorded.events[recorded.count - 2].kind, SYNC_PART);
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(file_read_at(fd, found, SEGMENT_BYTES, SEGMENT_BYTES), ERR_OK);
    assert_memory_equal(found, f->segments[1], SEGMENT_BYTES);
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_end_makes_believe_what_is_not_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_is_synced_before_it_gets_its_name, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
