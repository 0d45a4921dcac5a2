#include "services/chat/chat_mentions.h"

#include <string.h>

#include "services/chat/chat_rows.h"

// No name has one in it.
#define SEPARATOR '\n'

void
chat_mentions_join(const char *const *names, size_t count, char out[CHAT_MENTIONS_TEXT_MAX_BYTES])
{
    char *end = out;
    for (size_t i = 0; i < count; i++) {
        size_t size = strnlen(names[i], TEXT_USER_NAME_MAX_BYTES);
        if (i > 0) {
            *end++ = SEPARATOR;
        }
        memcpy(end, names[i], size);
        end += size;
    }
    *end = '\0';
}

enum err
chat_mentions_split(struct arena *arena, const char *joined, const char *const **names_out, size_t *count_out)
{
    *names_out = NULL;
    *count_out = 0;
    if (joined[0] == '\0') {
        return ERR_OK;
    }
    char *text = arena_copy_text(arena, joined);
    const char **names = arena_alloc(arena, CHAT_MENTIONS_MAX * sizeof(*names));
    if (text == NULL || names == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t count = 0;
    for (char *name = text; name != NULL && count < CHAT_MENTIONS_MAX; count++) {
        char *end = strchr(name, SEPARATOR);
        names[count] = name;
        if (end != NULL) {
            *end++ = '\0';
        }
        name = end;
    }
    *names_out = names;
    *count_out = count;
    return ERR_OK;
}

enum err
chat_mentions_keep(struct store_tx *tx, const struct chat_outgoing *outgoing, const uint8_t room_id[CHAT_ID_BYTES],
    uint64_t seq)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < outgoing->mention_count && err == ERR_OK; i++) {
        err = store_exec(tx,
            "INSERT INTO chat_mentions (room_id, user_name, seq, sender_id) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT DO NOTHING",
            STORE_ARGS(chat_rows_id(room_id), store_text(outgoing->mentions[i]), store_int((int64_t)seq),
                chat_rows_id(outgoing->sender.id)),
            NULL);
    }
    return err;
}

enum err
chat_mentions_forget(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], uint64_t seq)
{
    return store_exec(tx, "DELETE FROM chat_mentions WHERE room_id = $1 AND seq = $2",
        STORE_ARGS(chat_rows_id(room_id), store_int((int64_t)seq)), NULL);
}
