#include "services/chat/chat_reports.h"

#include <string.h>

#include "base/clock.h"
#include "e2e/e2e_message.h"
#include "services/chat/chat_history.h"
#include "services/chat/chat_rows.h"
#include "services/chat/chat_wire.h"

_Static_assert((int)CHAT_REPORT_KEY_BYTES == (int)E2E_MESSAGE_KEY_BYTES, "keys of messages have one size");

enum {
    DAY_MS = 24 * 60 * 60 * 1000,
    PAGE_ARENA_BYTES = 2 * CHAT_REPORTS_PAGE_MAX_BYTES,
};

static enum err
check_complaint(const struct chat_complaint *complaint, struct err_detail *why)
{
    if (strlen(complaint->reason) > CHAT_REPORT_REASON_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "the reason of a report has at most %d bytes, not %zu",
            CHAT_REPORT_REASON_MAX_BYTES, strlen(complaint->reason));
    }
    if (complaint->message_key.size != 0 && complaint->message_key.size != CHAT_REPORT_KEY_BYTES) {
        return err_fail(why, ERR_INVALID, "a message's key has %d bytes, not %zu", CHAT_REPORT_KEY_BYTES,
            complaint->message_key.size);
    }
    return ERR_OK;
}

static enum err
check_rate(struct store_tx *tx, const uint8_t reporter_id[CHAT_ID_BYTES], int64_t now_ms, struct err_detail *why)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT COUNT(*) FROM chat_reports WHERE reporter_id = $1 AND reported_at_ms > $2",
        STORE_ARGS(chat_rows_id(reporter_id), store_int(now_ms - DAY_MS)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK && store_rows_int(rows, 0) >= CHAT_REPORTS_A_DAY_MAX) {
        err = err_fail(why, ERR_LIMIT, "you have reported %d messages in the last 24 hours; go on tomorrow",
            CHAT_REPORTS_A_DAY_MAX);
    }
    store_rows_free(&rows);
    return err;
}

static enum err
encode_message(const struct chat_message *message, struct bytes *out)
{
    Fc__Chat__V1__Message wire;
    Fc__Chat__V1__FileAnnouncement file;
    chat_wire_message(message, &wire, &file);
    enum err err = bytes_reserve(out, fc__chat__v1__message__get_packed_size(&wire));
    if (err == ERR_OK) {
        out->size = fc__chat__v1__message__pack(&wire, out->data);
    }
    return err;
}

static enum err
insert_report(struct store_tx *tx, const struct chat_complaint *complaint, const struct chat_room *room, int64_t now_ms,
    struct bytes_view message)
{
    struct bytes_view key = complaint->message_key;
    return store_exec(tx,
        "INSERT INTO chat_reports (report_id, reporter_id, reporter_name, reported_at_ms, room_id, room_name, seq,"
        " reason, message_key, message)"
        " SELECT COALESCE(MAX(report_id), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9 FROM chat_reports",
        STORE_ARGS(chat_rows_id(complaint->reporter.id), store_text(complaint->reporter.name), store_int(now_ms),
            chat_rows_id(room->id), store_text(room->name), store_int((int64_t)complaint->seq),
            store_text(complaint->reason), key.size == 0 ? store_null() : store_blob(key.data, key.size),
            store_blob(message.data, message.size)),
        NULL);
}

static enum err
is_reported(struct store_tx *tx, const struct chat_complaint *complaint, const struct chat_room *room)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "SELECT report_id FROM chat_reports WHERE reporter_id = $1 AND room_id = $2 AND seq = $3",
        STORE_ARGS(chat_rows_id(complaint->reporter.id), chat_rows_id(room->id), store_int((int64_t)complaint->seq)),
        &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    store_rows_free(&rows);
    return err;
}

// check_key says whether the key opens the message, so that nobody can be blamed for what another key makes of it. What
// it opens is not kept.
static enum err
check_key(const struct chat_message *message, struct bytes_view key, struct err_detail *why)
{
    if (key.size == 0) {
        return ERR_OK;
    }
    if (message->chain.size == 0) {
        return err_fail(why, ERR_INVALID, "a message of a plain room has no key");
    }
    struct e2e_message sealed;
    struct bytes opened = {0};
    enum err err = e2e_message_parse(message->sealed, &sealed, NULL);
    if (err != ERR_OK) {
        return err;
    }
    err = e2e_open_with_key(key.data, bytes_view_of(sealed.wire->header.data, sealed.wire->header.len),
        bytes_view_of(sealed.wire->sealed.data, sealed.wire->sealed.len), &opened);
    e2e_message_deinit(&sealed);
    bytes_free_secret(&opened);
    return err == ERR_CORRUPT ? err_fail(why, ERR_INVALID, "the key does not open this message") : err;
}

static enum err
add_message(struct store_tx *tx, const struct chat_complaint *complaint, const struct chat_history *page,
    struct err_detail *why)
{
    int64_t now_ms = clock_unix_ms();
    if (page->messages[0].is_deleted) {
        return err_fail(why, ERR_PRECONDITION, "message %llu has been deleted", (unsigned long long)complaint->seq);
    }
    struct bytes encoded = {0};
    enum err err = check_key(&page->messages[0], complaint->message_key, why);
    if (err == ERR_OK) {
        err = check_rate(tx, complaint->reporter.id, now_ms, why);
    }
    if (err == ERR_OK) {
        err = encode_message(&page->messages[0], &encoded);
    }
    if (err == ERR_OK) {
        err = insert_report(tx, complaint, &page->room, now_ms, bytes_as_view(&encoded));
    }
    bytes_free(&encoded);
    return err;
}

enum err
chat_reports_add(struct store_tx *tx, const struct chat_complaint *complaint, struct err_detail *why)
{
    struct chat_room room;
    enum err err = check_complaint(complaint, why);
    if (err == ERR_OK) {
        err = chat_core_find_member_room(tx, complaint->room, complaint->reporter.id, &room, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct chat_history page = {0};
    err = chat_history_get(tx, &room, complaint->seq, &page, why);
    if (err == ERR_OK) {
        err = is_reported(tx, complaint, &room);
        err = err == ERR_NOT_FOUND ? add_message(tx, complaint, &page, why) : err;
    }
    chat_history_deinit(&page);
    return err;
}

static enum err
copy_blob(struct arena *arena, struct bytes_view blob, struct bytes_view *out)
{
    uint8_t *copy = arena_alloc(arena, blob.size + 1);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    if (blob.size > 0) {
        memcpy(copy, blob.data, blob.size);
    }
    *out = bytes_view_of(copy, blob.size);
    return ERR_OK;
}

static enum err
read_report(struct store_rows *rows, struct arena *arena, struct chat_report *out)
{
    out->id = (uint64_t)store_rows_int(rows, 0);
    out->reported_at_ms = store_rows_int(rows, 3);
    out->reporter = arena_copy_text(arena, store_rows_text(rows, 1));
    out->reason = arena_copy_text(arena, store_rows_text(rows, 2));
    out->room_name = arena_copy_text(arena, store_rows_text(rows, 4));
    if (out->reporter == NULL || out->reason == NULL || out->room_name == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = copy_blob(arena, store_rows_blob(rows, 5), &out->message);
    return err == ERR_OK ? copy_blob(arena, store_rows_blob(rows, 6), &out->message_key) : err;
}

enum err
chat_reports_list(struct store_tx *tx, uint64_t after_id, struct chat_reports_page *out)
{
    memset(out, 0, sizeof(*out));
    arena_init(&out->arena, PAGE_ARENA_BYTES);
    struct store_rows *rows = NULL;
    size_t bytes = 0;
    enum err err = store_query(tx,
        "SELECT report_id, reporter_name, reason, reported_at_ms, room_name, message, message_key FROM chat_reports"
        " WHERE report_id > $1 ORDER BY report_id LIMIT $2",
        STORE_ARGS(store_int((int64_t)(after_id > INT64_MAX ? INT64_MAX : after_id)), store_int(CHAT_REPORTS_PAGE_MAX)),
        &rows);
    while (err == ERR_OK && out->count < CHAT_REPORTS_PAGE_MAX) {
        err = store_rows_next(rows);
        bytes += err == ERR_OK ? store_rows_blob(rows, 5).size : 0;
        if (err != ERR_OK || (bytes > CHAT_REPORTS_PAGE_MAX_BYTES && out->count > 0)) {
            break;
        }
        err = read_report(rows, &out->arena, &out->reports[out->count]);
        out->count += err == ERR_OK;
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}
