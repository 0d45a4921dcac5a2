// For the sources of the Chat service only: ids as parameters, and columns of fixed size.
#ifndef CHAT_CHAT_ROWS_H
#define CHAT_CHAT_ROWS_H

#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "services/chat/chat_core.h"
#include "services/store/store.h"

// chat_rows_id borrows an id for a statement.
static inline struct store_value
chat_rows_id(const uint8_t id[CHAT_ID_BYTES])
{
    return store_blob(id, CHAT_ID_BYTES);
}

// chat_rows_read_fixed copies a blob whose size the schema's writers guarantee; another size means a damaged database.
static inline enum err
chat_rows_read_fixed(struct store_rows *rows, int column, uint8_t *out, size_t size)
{
    struct bytes_view blob = store_rows_blob(rows, column);
    if (blob.size != size) {
        return ERR_CORRUPT;
    }
    memcpy(out, blob.data, size);
    return ERR_OK;
}

// chat_rows_copy_text cuts what does not fit, which the checks at writing exclude.
static inline void
chat_rows_copy_text(char *out, size_t out_size, const char *text)
{
    size_t size = strnlen(text, out_size - 1);
    memcpy(out, text, size);
    out[size] = '\0';
}

#endif
