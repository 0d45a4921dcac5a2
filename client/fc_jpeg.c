// JPEG: ITU-T T.81, annex B. EXIF: CIPA DC-008, 4.5 and 4.6 (TIFF 6.0).
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "client/fc_jpeg_priv.h"

enum {
    MARKER_SOI = 0xd8,
    MARKER_EOI = 0xd9,
    MARKER_SOS = 0xda,
    MARKER_TEM = 0x01,
    MARKER_RST_FIRST = 0xd0,
    MARKER_RST_LAST = 0xd7,
    MARKER_APP0 = 0xe0,
    MARKER_APP1 = 0xe1,
    MARKER_APP2 = 0xe2,
    MARKER_APP14 = 0xee,
    MARKER_APP15 = 0xef,
    MARKER_COM = 0xfe,
    TAG_ORIENTATION = 0x0112,
    TYPE_SHORT = 3,
    TIFF_ENTRY_BYTES = 12,
    ORIENTATION_MAX = 8,
};

static const uint8_t exif_name[] = {'E', 'x', 'i', 'f', 0, 0};
static const uint8_t profile_name[] = "ICC_PROFILE"; // with its NUL

// segment is a marker with what belongs to it.
struct segment {
    uint8_t marker;
    struct bytes_view whole; // from the marker's 0xff on
    struct bytes_view body;  // behind the length; empty without one
};

static bool
begins_with(struct bytes_view data, const uint8_t *name, size_t size)
{
    return data.size >= size && memcmp(data.data, name, size) == 0;
}

// next_segment takes the segment at *at, where a marker has to be.
static bool
next_segment(struct bytes_view jpeg, size_t *at, struct segment *out)
{
    size_t begin = *at;
    size_t end = begin;

    // Markers may have more of 0xff in front.
    while (end < jpeg.size && jpeg.data[end] == 0xff) {
        end++;
    }
    if (end == begin || end >= jpeg.size || jpeg.data[end] == 0) {
        return false;
    }
    *out = (struct segment){.marker = jpeg.data[end]};
    begin = end - 1;
    end++;
    bool is_alone = out->marker == MARKER_SOI || out->marker == MARKER_EOI || out->marker == MARKER_TEM ||
                    (out->marker >= MARKER_RST_FIRST && out->marker <= MARKER_RST_LAST);
    if (!is_alone) {
        if (jpeg.size - end < 2) {
            return false;
        }
        size_t size = bytes_load_be16(jpeg.data + end);
        if (size < 2 || size > jpeg.size - end) {
            return false;
        }
        out->body = bytes_view_of(jpeg.data + end + 2, size - 2);
        end += size;
    }
    out->whole = bytes_view_of(jpeg.data + begin, end - begin);
    *at = end;
    return true;
}

// end_of_scan is where the coded data that begins at `at` ends: at the next marker that is none of its own.
static size_t
end_of_scan(struct bytes_view jpeg, size_t at)
{
    while (at + 1 < jpeg.size) {
        const uint8_t *found = memchr(jpeg.data + at, 0xff, jpeg.size - 1 - at);
        if (found == NULL) {
            return jpeg.size;
        }
        at = (size_t)(found - jpeg.data);
        uint8_t next = jpeg.data[at + 1];
        if (next != 0 && next != 0xff && !(next >= MARKER_RST_FIRST && next <= MARKER_RST_LAST)) {
            return at;
        }
        at += next == 0xff ? 1 : 2;
    }
    return jpeg.size;
}

static uint32_t
load16(const uint8_t *from, bool is_big)
{
    return is_big ? (uint32_t)from[0] << 8 | from[1] : (uint32_t)from[1] << 8 | from[0];
}

static uint32_t
load32(const uint8_t *from, bool is_big)
{
    return is_big ? load16(from, true) << 16 | load16(from + 2, true)
                  : load16(from + 2, false) << 16 | load16(from, false);
}

// orientation_of reads the first directory of EXIF data.
static unsigned
orientation_of(struct bytes_view tiff)
{
    if (tiff.size < 8 || (memcmp(tiff.data, "II", 2) != 0 && memcmp(tiff.data, "MM", 2) != 0)) {
        return 1;
    }
    bool is_big = tiff.data[0] == 'M';
    size_t at = load32(tiff.data + 4, is_big);
    if (at > tiff.size - 2) {
        return 1;
    }
    size_t count = load16(tiff.data + at, is_big);
    at += 2;
    for (size_t i = 0; i < count && tiff.size - at >= TIFF_ENTRY_BYTES; i++, at += TIFF_ENTRY_BYTES) {
        const uint8_t *entry = tiff.data + at;
        if (load16(entry, is_big) == TAG_ORIENTATION && load16(entry + 2, is_big) == TYPE_SHORT) {
            unsigned value = load16(entry + 8, is_big);
            return value >= 1 && value <= ORIENTATION_MAX ? value : 1;
        }
    }
    return 1;
}

static bool
is_exif(const struct segment *segment)
{
    return segment->marker == MARKER_APP1 && begins_with(segment->body, exif_name, sizeof(exif_name));
}

static unsigned
orientation_of_segment(const struct segment *segment)
{
    return orientation_of(
        bytes_view_of(segment->body.data + sizeof(exif_name), segment->body.size - sizeof(exif_name)));
}

unsigned
fc_jpeg_orientation(struct bytes_view jpeg)
{
    struct segment segment = {.marker = 0};
    size_t at = 0;

    while (segment.marker != MARKER_SOS && segment.marker != MARKER_EOI && next_segment(jpeg, &at, &segment)) {
        if (is_exif(&segment)) {
            return orientation_of_segment(&segment);
        }
    }
    return 1;
}

// is_kept: what is needed to show the picture. JFIF (APP0), the colour profile and what Adobe says of colours (APP14)
// say nothing else.
static bool
is_kept(const struct segment *segment)
{
    if (segment->marker == MARKER_APP2) {
        return begins_with(segment->body, profile_name, sizeof(profile_name));
    }
    bool is_application = segment->marker >= MARKER_APP0 && segment->marker <= MARKER_APP15;
    return segment->marker != MARKER_COM &&
           (!is_application || segment->marker == MARKER_APP0 || segment->marker == MARKER_APP14);
}

// append_orientation writes EXIF data that say this and nothing else.
static enum err
append_orientation(struct bytes *out, unsigned orientation)
{
    uint8_t exif[] = {0xff, MARKER_APP1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12,
        0, TYPE_SHORT, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0};

    exif[29] = (uint8_t)orientation;
    return bytes_append(out, bytes_view_of(exif, sizeof(exif)));
}

// append_segment passes a segment on, or what is kept of it.
static enum err
append_segment(struct bytes *out, const struct segment *segment)
{
    if (is_kept(segment)) {
        return bytes_append(out, segment->whole);
    }
    unsigned orientation = is_exif(segment) ? orientation_of_segment(segment) : 1;
    return orientation != 1 ? append_orientation(out, orientation) : ERR_OK;
}

enum err
fc_jpeg_strip(struct bytes_view jpeg, struct bytes *out, bool *is_changed_out)
{
    struct segment segment = {.marker = 0};
    size_t before = out->size;
    size_t at = 0;

    enum err err = jpeg.size >= 2 && jpeg.data[0] == 0xff && jpeg.data[1] == MARKER_SOI ? ERR_OK : ERR_CORRUPT;
    while (err == ERR_OK && segment.marker != MARKER_EOI) {
        err = next_segment(jpeg, &at, &segment) ? append_segment(out, &segment) : ERR_CORRUPT;
        if (err == ERR_OK && segment.marker == MARKER_SOS) {
            size_t end = end_of_scan(jpeg, at);
            err = bytes_append(out, bytes_view_of(jpeg.data + at, end - at));
            at = end;
        }
    }
    if (err == ERR_OK) {
        *is_changed_out = !bytes_view_equal(jpeg, bytes_view_of(out->data + before, out->size - before));
    }
    return err;
}

// keep_in_memory makes a file of it, with the time and permissions of another.
static enum err
keep_in_memory(struct bytes_view data, int like_fd, int *fd_out)
{
    struct stat status;
    int fd = memfd_create("fc-picture", MFD_CLOEXEC);

    if (fd < 0) {
        return err_from_errno(errno);
    }
    enum err err = file_write_at(fd, data, 0);
    if (err == ERR_OK && fstat(like_fd, &status) == 0) {
        const struct timespec times[2] = {status.st_atim, status.st_mtim};
        // What cannot be kept of them is no reason to do without the file.
        (void)fchmod(fd, status.st_mode & 07777);
        (void)futimens(fd, times);
    }
    if (err != ERR_OK) {
        close(fd);
        return err;
    }
    *fd_out = fd;
    return ERR_OK;
}

enum err
fc_jpeg_strip_file(int fd, uint64_t size, const char *path, int *fd_out, uint64_t *size_out, struct err_detail *why)
{
    uint8_t magic[3];
    struct bytes stripped = {.data = NULL};
    bool is_changed = false;

    *fd_out = -1;
    if (size < sizeof(magic) || file_read_at(fd, magic, sizeof(magic), 0) != ERR_OK ||
        memcmp(magic, "\xff\xd8\xff", sizeof(magic)) != 0) {
        return ERR_OK;
    }
    uint8_t *data = size <= FC_JPEG_MAX_BYTES ? malloc((size_t)size) : NULL;
    enum err err = size > FC_JPEG_MAX_BYTES ? ERR_TOO_BIG : data == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK) {
        err = file_read_at(fd, data, (size_t)size, 0);
    }
    if (err == ERR_OK) {
        err = fc_jpeg_strip(bytes_view_of(data, (size_t)size), &stripped, &is_changed);
    }
    if (err == ERR_OK && is_changed) {
        err = keep_in_memory(bytes_as_view(&stripped), fd, fd_out);
        *size_out = stripped.size;
    }
    bytes_free(&stripped);
    free(data);
    if (err == ERR_CORRUPT || err == ERR_TOO_BIG) {
        return err_fail(why, ERR_INVALID,
            "\"%s\" begins as a JPEG picture and is %s, so that its location and camera data cannot be taken out; "
            "--keep-metadata sends it as it is",
            path, err == ERR_TOO_BIG ? "too large" : "damaged");
    }
    return err;
}
