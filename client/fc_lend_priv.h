// For libfc only: lending to protobuf-c, whose structs have no const. What is only packed is not written to.
#ifndef CLIENT_FC_LEND_PRIV_H
#define CLIENT_FC_LEND_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

static inline ProtobufCBinaryData
fc_lend(const void *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

static inline char *
fc_lend_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

static inline char **
fc_lend_texts(const char *const *texts)
{
    return (char **)(uintptr_t)texts;
}

#endif
