// The journal of a .part file: a line of text, and then 16 bytes for each segment that was written: its index and the
// first 8 bytes of its SHA-256, both big-endian. An index of all ones says that what was noted before is on the disk.
//
// After the death of a process all notes hold, because what it has written is in the system's memory. After the death
// of the system, which another boot id tells, only those before the last such mark.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "client/fc_part_priv.h"

#define MAGIC "fc-journal 1 "
#define DURABLE UINT64_MAX

enum {
    HEADER_MAX_BYTES = 512,
    BOOT_ID_BYTES = 64,
    RECORD_BYTES = 16,
    SEGMENTS_MAX = 1 << 24, // of files with more (128 TiB) no journal is kept
    SYNC_BYTES = 64 * 1024 * 1024,
    RECORDS_AT_ONCE = 256,
};

static void
read_boot_id(char out[BOOT_ID_BYTES])
{
    struct bytes text = {.data = NULL};

    (void)snprintf(out, BOOT_ID_BYTES, "-");
    if (file_read("/proc/sys/kernel/random/boot_id", BOOT_ID_BYTES, &text) == ERR_OK && text.size > 1) {
        (void)snprintf(out, BOOT_ID_BYTES, "%.*s", (int)text.size - 1, (const char *)text.data);
    }
    bytes_free(&text);
}

// write_header says what the journal is about, but for the boot id, which comes last.
static void
write_header(const struct fc_file *file, const struct stat *status, char out[HEADER_MAX_BYTES])
{
    char id[2 * sizeof(file->id) + 1];
    char sha256[2 * DIGEST_SHA256_BYTES + 1];

    bytes_to_hex(bytes_view_of(file->id, sizeof(file->id)), id);
    bytes_to_hex(bytes_view_of(file->sha256, sizeof(file->sha256)), sha256);
    (void)snprintf(out, HEADER_MAX_BYTES, MAGIC "%s %s %" PRIu64 " %" PRIu32 " %" PRIu64 " %" PRIu64 " ", id, sha256,
        file->size_bytes, file->chunk_size_bytes, (uint64_t)status->st_dev, (uint64_t)status->st_ino);
}

static uint64_t
count_segments(const struct fc_file *file)
{
    if (file->chunk_size_bytes == 0) {
        return 0; // not fetched in segments
    }
    return file->size_bytes / file->chunk_size_bytes + (file->size_bytes % file->chunk_size_bytes != 0);
}

static uint64_t
mark_of(const uint8_t sha256[DIGEST_SHA256_BYTES])
{
    uint64_t mark = bytes_load_be64(sha256);
    return mark != 0 ? mark : 1;
}

static enum err
make_marks(struct fc_part_journal *journal, const struct fc_file *file)
{
    journal->segment_count = count_segments(file);
    journal->marks = calloc((size_t)journal->segment_count + 1, sizeof(journal->marks[0]));
    return journal->marks != NULL ? ERR_OK : ERR_NO_MEMORY;
}

// read_records takes the marks up to a position in the journal.
static enum err
read_records(struct fc_part_journal *journal, off_t from, off_t to)
{
    uint8_t records[RECORDS_AT_ONCE * RECORD_BYTES];
    enum err err = ERR_OK;

    while (from < to && err == ERR_OK) {
        size_t size = to - from < (off_t)sizeof(records) ? (size_t)(to - from) : sizeof(records);
        err = file_read_at(journal->fd, records, size, from);
        for (size_t at = 0; at < size && err == ERR_OK; at += RECORD_BYTES) {
            uint64_t index = bytes_load_be64(records + at);
            if (index < journal->segment_count) {
                journal->marks[index] = bytes_load_be64(records + at + sizeof(index));
            }
        }
        from += (off_t)size;
    }
    return err;
}

// find_durable is the end of what was on the disk when the system died.
static enum err
find_durable(const struct fc_part_journal *journal, off_t from, off_t *to)
{
    uint8_t record[RECORD_BYTES];

    for (off_t at = *to - RECORD_BYTES; at >= from; at -= RECORD_BYTES) {
        enum err err = file_read_at(journal->fd, record, sizeof(record), at);
        if (err != ERR_OK) {
            return err;
        }
        if (bytes_load_be64(record) == DURABLE) {
            *to = at;
            return ERR_OK;
        }
    }
    *to = from;
    return ERR_OK;
}

// read_journal takes over what an earlier download of the same file into the same .part has noted. ERR_NOT_FOUND: it
// is about something else.
static enum err
read_journal(struct fc_part *part, const struct fc_file *file, const struct stat *part_status)
{
    struct fc_part_journal *journal = &part->journal;
    char expected[HEADER_MAX_BYTES];
    char found[HEADER_MAX_BYTES];
    char boot_id[BOOT_ID_BYTES];
    struct stat status;

    if (fstat(journal->fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid()) {
        return ERR_NOT_FOUND;
    }
    size_t size = status.st_size < HEADER_MAX_BYTES - 1 ? (size_t)status.st_size : HEADER_MAX_BYTES - 1;
    if (file_read_at(journal->fd, found, size, 0) != ERR_OK) {
        return ERR_NOT_FOUND;
    }
    found[size] = '\0';
    write_header(file, part_status, expected);
    char *newline = strchr(found, '\n');
    if (newline == NULL || strncmp(found, expected, strlen(expected)) != 0) {
        return ERR_NOT_FOUND;
    }
    *newline = '\0';
    off_t from = newline + 1 - found;
    off_t to = status.st_size - (status.st_size - from) % RECORD_BYTES;
    journal->records_from = from;
    read_boot_id(boot_id);
    enum err err = make_marks(journal, file);
    if (err == ERR_OK && strcmp(found + strlen(expected), boot_id) != 0) {
        err = find_durable(journal, from, &to);
    }
    if (err == ERR_OK) {
        err = read_records(journal, from, to);
    }
    // What does not hold any more is cut off, so that records go on at a multiple of their size.
    if (err == ERR_OK && ftruncate(journal->fd, to) != 0) {
        err = err_from_errno(errno);
    }
    return err;
}

static bool
is_ours(const struct stat *status, const struct fc_file *file)
{
    return S_ISREG(status->st_mode) && status->st_uid == geteuid() && (uint64_t)status->st_size == file->size_bytes;
}

enum err
fc_part_resume(struct fc_part *part, const struct fc_file *file, struct err_detail *why)
{
    struct fc_part_journal *journal = &part->journal;
    struct stat status;
    enum err err = ERR_NOT_FOUND;

    journal->fd = openat(part->dir_fd, journal->path, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (journal->fd < 0) {
        return ERR_NOT_FOUND;
    }
    part->fd = openat(part->dir_fd, part->part_path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (part->fd >= 0 && fstat(part->fd, &status) == 0 && is_ours(&status, file)) {
        if (flock(part->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
            err = err_fail(why, ERR_BUSY, "another download is writing \"%s\"", part->part_path);
        } else {
            err = read_journal(part, file, &status);
        }
    }
    if (err != ERR_OK) {
        if (part->fd >= 0) {
            close(part->fd);
            part->fd = -1;
        }
        fc_part_end_journal(part, true);
    }
    return err;
}

// is_leftover tells whether something at the journal's path is a journal, so that it may be replaced; zeros are what a
// loss of power may leave of one.
static bool
is_leftover(int fd)
{
    static const char zeros[sizeof(MAGIC)];
    struct stat status;
    char magic[sizeof(MAGIC)] = "";

    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
           (status.st_size == 0 || (file_read_at(fd, magic, sizeof(MAGIC) - 1, 0) == ERR_OK &&
                                       (strcmp(magic, MAGIC) == 0 || memcmp(magic, zeros, sizeof(magic)) == 0)));
}

enum err
fc_part_begin_journal(struct fc_part *part, const struct fc_file *file, struct err_detail *why)
{
    struct fc_part_journal *journal = &part->journal;
    char header[HEADER_MAX_BYTES];
    char boot_id[BOOT_ID_BYTES];
    struct stat status;

    uint64_t segment_count = count_segments(file);
    if (segment_count < 2 || segment_count > SEGMENTS_MAX || fstat(part->fd, &status) != 0) {
        return ERR_OK;
    }
    journal->fd =
        openat(part->dir_fd, journal->path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    if (journal->fd < 0 || !is_leftover(journal->fd)) {
        if (journal->fd >= 0) {
            close(journal->fd);
            journal->fd = -1;
        }
        return err_fail(why, ERR_CONFLICT, "\"%s\" is in the way: move or remove it", journal->path);
    }
    write_header(file, &status, header);
    read_boot_id(boot_id);
    size_t size = strlen(header);
    (void)snprintf(header + size, sizeof(header) - size, "%s\n", boot_id);
    enum err err = make_marks(journal, file);
    if (err == ERR_OK && ftruncate(journal->fd, 0) != 0) {
        err = err_from_errno(errno);
    }
    if (err == ERR_OK) {
        err = file_write_all(journal->fd, bytes_view_of_text(header));
        journal->records_from = (off_t)strlen(header);
    }
    return err == ERR_OK ? ERR_OK : err_fail(why, err, "cannot write \"%s\": %s", journal->path, err_sentence(err));
}

void
fc_part_end_journal(struct fc_part *part, bool is_kept)
{
    struct fc_part_journal *journal = &part->journal;

    if (journal->fd >= 0) {
        if (!is_kept) {
            (void)unlinkat(part->dir_fd, journal->path, 0);
        }
        close(journal->fd);
        journal->fd = -1;
    }
    free(journal->marks);
    journal->marks = NULL;
    journal->segment_count = 0;
}

enum err
fc_part_sync(struct fc_part *part, struct err_detail *why)
{
    struct fc_part_journal *journal = &part->journal;
    off_t to = lseek(journal->fd, 0, SEEK_END);

    if (fsync(part->fd) == 0) {
        return ERR_OK;
    }
    int error_number = errno;
    if (journal->fd >= 0 &&
        (to < 0 || find_durable(journal, journal->records_from, &to) != ERR_OK || ftruncate(journal->fd, to) != 0)) {
        fc_part_end_journal(part, false);
    }
    part->has_lost_data = true;
    return err_fail(why, err_from_errno(error_number), "cannot write \"%s\" to the disk: %s", part->part_path,
        strerror(error_number));
}

bool
fc_part_has(const struct fc_part *part, uint64_t index, const uint8_t sha256[DIGEST_SHA256_BYTES])
{
    return index < part->journal.segment_count && part->journal.marks[index] == mark_of(sha256);
}

static enum err
append(const struct fc_part_journal *journal, uint64_t index, uint64_t mark)
{
    uint8_t record[RECORD_BYTES];

    bytes_store_be64(record, index);
    bytes_store_be64(record + sizeof(index), mark);
    return file_write_all(journal->fd, bytes_view_of(record, sizeof(record)));
}

enum err
fc_part_note(struct fc_part *part, uint64_t index, const uint8_t sha256[DIGEST_SHA256_BYTES], uint32_t size,
    struct err_detail *why)
{
    struct fc_part_journal *journal = &part->journal;

    if (journal->fd < 0) {
        return ERR_OK;
    }
    enum err err = append(journal, index, mark_of(sha256));
    journal->unsynced_bytes += size;
    if (err == ERR_OK && journal->unsynced_bytes >= SYNC_BYTES) {
        journal->unsynced_bytes = 0;
        err = fc_part_sync(part, why);
        if (err != ERR_OK) {
            return err;
        }
        err = append(journal, DURABLE, 0);
        // A note that the disk loses costs a segment that is fetched twice, so a failure here is none of the download.
        (void)fdatasync(journal->fd);
        if (!journal->is_name_durable) {
            journal->is_name_durable = fc_part_sync_folder(part, NULL) == ERR_OK;
        }
    }
    return err == ERR_OK ? ERR_OK : err_fail(why, err, "cannot write \"%s\": %s", journal->path, err_sentence(err));
}
