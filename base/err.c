#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[ERR_COUNT] = {
#define ERR_NAME(code, name, sentence) [code] = (name),
    ERR_MAP(ERR_NAME)
#undef ERR_NAME
};

static const char *const sentences[ERR_COUNT] = {
#define ERR_SENTENCE(code, name, sentence) [code] = (sentence),
    ERR_MAP(ERR_SENTENCE)
#undef ERR_SENTENCE
};

const char *
err_name(enum err code)
{
    return (unsigned)code < ERR_COUNT ? names[code] : "unknown";
}

const char *
err_sentence(enum err code)
{
    return (unsigned)code < ERR_COUNT ? sentences[code] : "an unknown error";
}

// A cut inside a character would make the whole text invalid UTF-8, which protobuf refuses to carry.
static void
drop_partial_character(char *text, size_t size)
{
    size_t start = size;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xc0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return;
    }
    unsigned char lead = (unsigned char)text[start - 1];
    size_t wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (size - (start - 1) < wanted) {
        text[start - 1] = '\0';
    }
}

enum err
err_fail(struct err_detail *detail, enum err code, const char *format, ...)
{
    if (detail == NULL) {
        return code;
    }
    // By way of a copy, because an argument may be the detail's own message that this one wraps.
    struct err_detail formatted;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(formatted.message, sizeof(formatted.message), format, args);
    va_end(args);
    if (length < 0) {
        formatted.message[0] = '\0';
    } else if ((size_t)length >= sizeof(formatted.message)) {
        drop_partial_character(formatted.message, sizeof(formatted.message) - 1);
    }
    memcpy(detail->message, formatted.message, strlen(formatted.message) + 1);
    return code;
}

const char *
err_message(const struct err_detail *detail, enum err code)
{
    return detail != NULL && detail->message[0] != '\0' ? detail->message : err_sentence(code);
}

enum err
err_from_errno(int error_number)
{
    switch (error_number) {
    case ENOMEM:
        return ERR_NO_MEMORY;
    case EINVAL:
    case ENAMETOOLONG:
    case EISDIR:
        return ERR_INVALID;
    case ENOENT:
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_DENIED;
    case EMFILE:
    case ENFILE:
        return ERR_LIMIT;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: // the limit of the file system or of the process: no room for this file either way
        return ERR_NO_SPACE;
    case EAGAIN:
    case EBUSY:
    case EADDRINUSE:
    case ETXTBSY:
        return ERR_BUSY;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
        return ERR_UNAVAILABLE;
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case EPIPE:
        return ERR_CLOSED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECANCELED:
        return ERR_CANCELLED;
    default:
        return ERR_IO;
    }
}
