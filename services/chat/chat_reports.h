// Messages that were reported to those who run the server. As chat_core.h.
#ifndef CHAT_CHAT_REPORTS_H
#define CHAT_CHAT_REPORTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "services/chat/chat_core.h"
#include "services/store/store.h"

enum {
    CHAT_REPORT_REASON_MAX_BYTES = 1000,
    CHAT_REPORT_KEY_BYTES = 76,
    CHAT_REPORTS_A_DAY_MAX = 100, // of one user
    CHAT_REPORTS_PAGE_MAX = 100,
    CHAT_REPORTS_PAGE_MAX_BYTES = 1024 * 1024, // a single report is always returned
};

// chat_complaint is what a user reports; it borrows.
struct chat_complaint {
    struct chat_user reporter;
    const char *room;
    uint64_t seq;
    const char *reason;
    struct bytes_view message_key; // empty: none
};

// chat_reports_add keeps the message as it is now. The same again by the same user changes nothing. ERR_DENIED: not a
// member. ERR_INVALID. ERR_NOT_FOUND: no such message. ERR_PRECONDITION: it has been deleted. ERR_LIMIT: too many.
enum err chat_reports_add(struct store_tx *tx, const struct chat_complaint *complaint,
    struct err_detail *why) ERR_CHECKED;

// chat_report borrows.
struct chat_report {
    uint64_t id;
    const char *reporter;
    const char *reason;
    int64_t reported_at_ms;
    const char *room_name;
    struct bytes_view message; // an encoded fc.chat.v1.Message
    struct bytes_view message_key;
};

// chat_reports_page is a page of them, oldest first; what they borrow lives in the arena. All zero is an empty one.
struct chat_reports_page {
    struct chat_report reports[CHAT_REPORTS_PAGE_MAX];
    size_t count;
    struct arena arena;
};

// chat_reports_list reads reports after after_id. The caller deinits the arena also after a failure.
enum err chat_reports_list(struct store_tx *tx, uint64_t after_id, struct chat_reports_page *out) ERR_CHECKED;

#endif
