// The decisions of the Chat service about reading messages: pages of a room's history, and search. As chat_core.h.
#ifndef CHAT_CHAT_HISTORY_H
#define CHAT_CHAT_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "services/chat/chat_messages.h"

enum {
    CHAT_HISTORY_DEFAULT = 100,
    CHAT_HISTORY_MAX = 1000,
    CHAT_HISTORY_MAX_BYTES = 1024 * 1024, // of one page; a single message is always returned
    CHAT_SEARCH_DEFAULT = 20,
    CHAT_SEARCH_MAX = 100,
    CHAT_SEARCH_WORDS_MAX = 16,
    CHAT_SEARCH_WORDS_MAX_BYTES = 256,
    // What one search looks at; the next page goes on from there.
    CHAT_SEARCH_SCAN_MAX = 20000,
    CHAT_SEARCH_SCAN_MAX_BYTES = 8 * 1024 * 1024,
};

// chat_history is one page of messages, oldest first (of a search: newest first). The messages live in the arena. All
// zero is an empty one.
struct chat_history {
    struct chat_room room; // as it was when the page was read
    struct chat_message *messages;
    size_t count;
    uint64_t next_before_seq; // of a search: where the next page goes on; 0: there is no more
    struct arena arena;
};

// chat_history_query selects a page. At most one of newest, before_seq, around_seq and since_ms is set; after_seq
// counts when none is.
struct chat_history_query {
    const uint8_t *user_id;
    const char *room;
    uint32_t limit; // 0: CHAT_HISTORY_DEFAULT
    uint64_t after_seq;
    bool newest;
    uint64_t before_seq; // 0: not set
    uint64_t around_seq; // 0: not set
    int64_t since_ms;    // 0: not set
};

// chat_history_read reads a page. The caller deinits `out` also after a failure. ERR_DENIED: not a member. ERR_INVALID:
// limit too large, two selectors.
enum err chat_history_read(struct store_tx *tx, const struct chat_history_query *query, struct chat_history *out,
    struct err_detail *why) ERR_CHECKED;

// chat_history_get reads one message of a room into a page. ERR_NOT_FOUND.
enum err chat_history_get(struct store_tx *tx, const struct chat_room *room, uint64_t seq, struct chat_history *out,
    struct err_detail *why) ERR_CHECKED;

struct chat_search_query {
    const uint8_t *user_id;
    const char *room;
    const char *words;
    const char *sender; // empty: anybody
    uint32_t limit;     // 0: CHAT_SEARCH_DEFAULT
    uint64_t before_seq;
};

// chat_search finds messages whose text has all the words in it, newest first. The caller deinits `out` also after a
// failure. ERR_DENIED: not a member. ERR_INVALID: no words, too many. ERR_PRECONDITION: an encrypted room.
enum err chat_search(struct store_tx *tx, const struct chat_search_query *query, struct chat_history *out,
    struct err_detail *why) ERR_CHECKED;

void chat_history_deinit(struct chat_history *history);

#endif
