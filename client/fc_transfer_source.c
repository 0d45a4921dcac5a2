// The file that an upload reads.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"
#include "client/fc_image_priv.h"
#include "client/fc_transfer_source_priv.h"

enum {
    MS_PER_S = 1000,
    NS_PER_MS = 1000 * 1000,
};

enum err
fc_source_open(struct fc_source *source, const struct fc_upload *what, struct err_detail *why)
{
    source->path = what->path != NULL ? what->path : "-";
    source->is_owned = !what->has_fd;
    // O_NONBLOCK: opening a pipe that nobody writes to must not hang. It means nothing for a regular file.
    source->fd = what->has_fd ? what->fd : open(what->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (source->fd < 0 || fstat(source->fd, &source->before) != 0) {
        int error_number = errno;
        return err_fail(why, err_from_errno(error_number), "cannot open \"%s\": %s", source->path,
            strerror(error_number));
    }
    if (S_ISREG(source->before.st_mode)) {
        return ERR_OK;
    }
    if (!what->has_fd || S_ISDIR(source->before.st_mode)) {
        return err_fail(why, ERR_INVALID, "\"%s\" is not a regular file", source->path);
    }
    source->is_stream = true;
    source->before.st_size = 0;
    return ERR_OK;
}

void
fc_source_close(struct fc_source *source)
{
    if (source->is_owned && source->fd >= 0) {
        close(source->fd);
    }
    source->fd = -1;
}

enum err
fc_source_changed(const struct fc_source *source, struct err_detail *why)
{
    return err_fail(why, ERR_CONFLICT,
        "\"%s\" changed while it was being sent: nothing was stored; send it again when nobody writes to it",
        source->path);
}

static bool
is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

enum err
fc_source_check(const struct fc_source *source, struct err_detail *why)
{
    struct stat now;
    struct stat at_path;
    const struct stat *before = &source->before;

    if (source->is_stream) {
        return ERR_OK;
    }
    if (fstat(source->fd, &now) != 0 || now.st_size != before->st_size || !is_same_time(now.st_mtim, before->st_mtim) ||
        !is_same_time(now.st_ctim, before->st_ctim)) {
        return fc_source_changed(source, why);
    }
    if (source->is_owned &&
        (stat(source->path, &at_path) != 0 || at_path.st_ino != before->st_ino || at_path.st_dev != before->st_dev)) {
        return fc_source_changed(source, why);
    }
    return ERR_OK;
}

int64_t
fc_source_modified_ms(const struct stat *status)
{
    return (int64_t)status->st_mtim.tv_sec * MS_PER_S + status->st_mtim.tv_nsec / NS_PER_MS;
}

static const char *
type_of_name(const char *name)
{
    static const char *const types[][2] = {
        {"7z", "application/x-7z-compressed"},
        {"bz2", "application/x-bzip2"},
        {"c", "text/x-c"},
        {"css", "text/css"},
        {"csv", "text/csv"},
        {"flac", "audio/flac"},
        {"gz", "application/gzip"},
        {"h", "text/x-c"},
        {"htm", "text/html"},
        {"html", "text/html"},
        {"jpeg", "image/jpeg"},
        {"jpg", "image/jpeg"},
        {"js", "text/javascript"},
        {"json", "application/json"},
        {"log", "text/plain"},
        {"m4a", "audio/mp4"},
        {"md", "text/markdown"},
        {"mkv", "video/x-matroska"},
        {"mov", "video/quicktime"},
        {"mp3", "audio/mpeg"},
        {"mp4", "video/mp4"},
        {"odt", "application/vnd.oasis.opendocument.text"},
        {"ogg", "audio/ogg"},
        {"pdf", "application/pdf"},
        {"png", "image/png"},
        {"py", "text/x-python"},
        {"sh", "text/x-shellscript"},
        {"svg", "image/svg+xml"},
        {"tar", "application/x-tar"},
        {"tif", "image/tiff"},
        {"tiff", "image/tiff"},
        {"txt", "text/plain"},
        {"wav", "audio/wav"},
        {"webm", "video/webm"},
        {"xml", "application/xml"},
        {"xz", "application/x-xz"},
        {"yaml", "application/yaml"},
        {"yml", "application/yaml"},
        {"zip", "application/zip"},
        {"zst", "application/zstd"},
    };
    const char *slash = strrchr(name, '/');
    const char *dot = strrchr(slash != NULL ? slash : name, '.');

    for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcasecmp(dot + 1, types[i][0]) == 0) {
            return types[i][1];
        }
    }
    return "";
}

const char *
fc_source_mime_type(const struct fc_source *source, const char *name)
{
    struct fc_image image = {.mime_type = NULL};
    uint64_t size = (uint64_t)source->before.st_size;
    size_t wanted = size < FC_IMAGE_HEAD_BYTES ? (size_t)size : FC_IMAGE_HEAD_BYTES;

    if (wanted != 0) {
        uint8_t *head = malloc(wanted);
        bool is_image = head != NULL && file_read_at(source->fd, head, wanted, 0) == ERR_OK &&
                        fc_image_look(bytes_view_of(head, wanted), &image);
        free(head);
        if (is_image) {
            return image.mime_type;
        }
    }
    return type_of_name(name);
}
