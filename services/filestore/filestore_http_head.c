#include "services/filestore/filestore_http_head.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const char unknown_type[] = "application/octet-stream";

// Reads digits. False: there are none, or too many.
static bool
read_number(const char **at, uint64_t *out)
{
    const char *digit = *at;
    uint64_t value = 0;
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        if (value > (UINT64_MAX - 9) / 10) {
            return false;
        }
        value = value * 10 + (uint64_t)(*digit - '0');
    }
    bool has_digits = digit != *at;
    *at = digit;
    *out = value;
    return has_digits;
}

static struct filestore_http_part
last_bytes(uint64_t wanted, uint64_t size_bytes)
{
    if (wanted == 0 || size_bytes == 0) {
        return (struct filestore_http_part){.status = 416};
    }
    uint64_t size = wanted < size_bytes ? wanted : size_bytes;
    return (struct filestore_http_part){.status = 206, .first = size_bytes - size, .size = size};
}

struct filestore_http_part
filestore_http_choose_part(const char *range, uint64_t size_bytes)
{
    static const char unit[] = "bytes=";
    const struct filestore_http_part whole = {.status = 200, .size = size_bytes};
    const char *at = range + sizeof(unit) - 1;
    uint64_t first = 0;
    uint64_t last = UINT64_MAX;
    if (strncasecmp(range, unit, sizeof(unit) - 1) != 0) {
        return whole;
    }
    if (*at == '-') {
        at++;
        return read_number(&at, &last) && *at == '\0' ? last_bytes(last, size_bytes) : whole;
    }
    if (!read_number(&at, &first) || *at++ != '-') {
        return whole;
    }
    if (*at != '\0' && (!read_number(&at, &last) || *at != '\0' || last < first)) {
        return whole;
    }
    if (first >= size_bytes) {
        return (struct filestore_http_part){.status = 416};
    }
    if (last >= size_bytes) {
        last = size_bytes - 1;
    }
    return (struct filestore_http_part){.status = 206, .first = first, .size = last - first + 1};
}

void
filestore_http_etag(const uint8_t sha256[DIGEST_SHA256_BYTES], char out[FILESTORE_HTTP_ETAG_BYTES])
{
    out[0] = '"';
    bytes_to_hex(bytes_view_of(sha256, DIGEST_SHA256_BYTES), out + 1);
    memcpy(out + FILESTORE_HTTP_ETAG_BYTES - 2, "\"", 2);
}

bool
filestore_http_lists_etag(const char *field, const char *etag)
{
    size_t etag_size = strlen(etag);
    const char *at = field + strspn(field, " \t,");
    if (strcmp(at, "*") == 0) {
        return true;
    }
    while (*at != '\0') {
        const char *tag = strncmp(at, "W/", 2) == 0 ? at + 2 : at;
        if (strncmp(tag, etag, etag_size) == 0 && strchr(" \t,", tag[etag_size]) != NULL) {
            return true;
        }
        at += strcspn(at, ",");
        at += strspn(at, " \t,");
    }
    return false;
}

void
filestore_http_date(int64_t unix_ms, char out[FILESTORE_HTTP_DATE_BYTES])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
        "Dec"};
    static const int64_t last_ms = INT64_C(253402300799000); // of the year 9999
    time_t seconds = (time_t)((unix_ms < 0 ? 0 : unix_ms > last_ms ? last_ms : unix_ms) / 1000);
    struct tm time = {0};
    (void)gmtime_r(&seconds, &time);
    (void)snprintf(out, FILESTORE_HTTP_DATE_BYTES, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[time.tm_wday % 7],
        (unsigned)time.tm_mday % 100, months[time.tm_mon % 12], (unsigned)(time.tm_year + 1900) % 10000,
        (unsigned)time.tm_hour % 100, (unsigned)time.tm_min % 100, (unsigned)time.tm_sec % 100);
}

const char *
filestore_http_media_type(const char *mime_type)
{
    // Nothing that can carry scripts: HTML, SVG and XML are not here. Whole names only, so nothing that a header could
    // be broken with is passed on.
    static const char *const harmless[] = {"application/gzip", "application/json", "application/pdf",
        "application/x-tar", "application/x-xz", "application/zip", "application/zstd", "audio/aac", "audio/flac",
        "audio/mp4", "audio/mpeg", "audio/ogg", "audio/opus", "audio/wav", "audio/webm", "image/avif", "image/bmp",
        "image/gif", "image/jpeg", "image/png", "image/tiff", "image/webp", "text/csv", "text/plain", "video/mp4",
        "video/mpeg", "video/ogg", "video/quicktime", "video/webm", "video/x-matroska"};
    for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
        if (strcasecmp(mime_type, harmless[i]) == 0) {
            return harmless[i];
        }
    }
    return unknown_type;
}

// For programs that know ASCII only: what would need a rule of quoting or decoding becomes '_'.
static enum err
add_ascii_name(const char *name, struct bytes *out)
{
    enum err err = ERR_OK;
    for (const char *at = name; err == ERR_OK && *at != '\0'; at++) {
        bool is_kept = *at >= ' ' && *at < 0x7F && strchr("\"\\%", *at) == NULL;
        err = bytes_append(out, bytes_view_of(is_kept ? at : "_", 1));
    }
    return err;
}

static enum err
add_encoded_name(const char *name, struct bytes *out)
{
    static const char kept[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`|~";
    enum err err = ERR_OK;
    for (const char *at = name; err == ERR_OK && *at != '\0'; at++) {
        char escaped[4];
        (void)snprintf(escaped, sizeof(escaped), "%%%02X", (unsigned)(unsigned char)*at);
        err = bytes_append(out, strchr(kept, *at) != NULL ? bytes_view_of(at, 1) : bytes_view_of(escaped, 3));
    }
    return err;
}

enum err
filestore_http_add_disposition(const char *file_name, struct bytes *out)
{
    const char *slash = strrchr(file_name, '/');
    const char *name = slash != NULL ? slash + 1 : file_name;
    enum err err = bytes_append(out, bytes_view_of_text("Content-Disposition: attachment; filename=\""));
    if (err == ERR_OK) {
        err = add_ascii_name(name, out);
    }
    if (err == ERR_OK) {
        err = bytes_append(out, bytes_view_of_text("\"; filename*=UTF-8''"));
    }
    if (err == ERR_OK) {
        err = add_encoded_name(name, out);
    }
    return err == ERR_OK ? bytes_append(out, bytes_view_of_text("\r\n")) : err;
}
