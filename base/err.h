// The errors of the project: one list from which code, name and sentence come.
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stddef.h>

// X(enumerator, name, sentence). The order is part of no file or wire format.
#define ERR_MAP(X)                                                                                                     \
    X(ERR_OK, "ok", "no error")                                                                                        \
    X(ERR_NO_MEMORY, "no-memory", "out of memory")                                                                     \
    X(ERR_INVALID, "invalid", "an argument or message is not valid")                                                   \
    X(ERR_PROTOCOL, "protocol", "the peer broke the protocol")                                                         \
    X(ERR_VERSION, "version", "the peer speaks a version that this program does not")                                  \
    X(ERR_TOO_BIG, "too-big", "larger than the limit")                                                                 \
    X(ERR_OUT_OF_RANGE, "out-of-range", "past the end of what there is")                                               \
    X(ERR_NOT_FOUND, "not-found", "not found")                                                                         \
    X(ERR_EXISTS, "exists", "exists already")                                                                          \
    X(ERR_PRECONDITION, "precondition", "not possible in the present state")                                           \
    X(ERR_CONFLICT, "conflict", "somebody else changed it meanwhile")                                                  \
    X(ERR_UNAUTHENTICATED, "unauthenticated", "not logged in, or the login has expired")                               \
    X(ERR_DENIED, "denied", "not allowed")                                                                             \
    X(ERR_LIMIT, "limit", "a limit is reached; try later")                                                             \
    X(ERR_NO_SPACE, "no-space", "no space left")                                                                       \
    X(ERR_CORRUPT, "corrupt", "the bytes do not match their digest")                                                   \
    X(ERR_UNTRUSTED, "untrusted", "the server's certificate is not trusted")                                           \
    X(ERR_NO_KEY, "no-key", "there is no key for it here")                                                             \
    X(ERR_QUEUED, "queued", "kept to be sent when the server can be reached")                                          \
    X(ERR_IO, "io", "an input or output operation failed")                                                             \
    X(ERR_BUSY, "busy", "in use by another process")                                                                   \
    X(ERR_UNIMPLEMENTED, "unimplemented", "no such method")                                                            \
    X(ERR_UNAVAILABLE, "unavailable", "the server cannot be reached")                                                  \
    X(ERR_CLOSED, "closed", "closed")                                                                                  \
    X(ERR_TIMEOUT, "timeout", "took too long")                                                                         \
    X(ERR_CANCELLED, "cancelled", "given up by the caller")                                                            \
    X(ERR_INTERNAL, "internal", "an internal error; the log says more")

enum err {
#define ERR_ENUM(code, name, sentence) code,
    ERR_MAP(ERR_ENUM)
#undef ERR_ENUM
        ERR_COUNT
};

// Marks a function whose result the caller has to look at.
#define ERR_CHECKED __attribute__((warn_unused_result))

enum {
    // Bytes of an explanation, with its final NUL. A sentence for a person fits; a longer one is cut.
    ERR_DETAIL_MAX_BYTES = 512,
};

// err_detail is the explanation that goes with a code: what is wrong, with which value, and what to do. Callers zero
// it.
struct err_detail {
    char message[ERR_DETAIL_MAX_BYTES];
};

// err_name returns the short stable name, for logs and machine-readable output.
const char *err_name(enum err code);

// err_sentence returns the general sentence, for when there is no err_detail.
const char *err_sentence(enum err code);

// err_fail writes the explanation into detail (which may be NULL) and returns code, so that a failing
// function ends with `return err_fail(why, ERR_NOT_FOUND, "there is no room \"%s\"", name)`.
enum err err_fail(struct err_detail *detail, enum err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// err_message returns the explanation if there is one, else the general sentence. Never NULL.
const char *err_message(const struct err_detail *detail, enum err code);

// err_from_errno translates an errno value; ERR_IO for those without a code of their own.
enum err err_from_errno(int error_number);

#endif
