// For client/fc_store*.c only: the database behind a store, and how its files say what went wrong.
#ifndef CLIENT_FC_STORE_DB_PRIV_H
#define CLIENT_FC_STORE_DB_PRIV_H

#include "client/fc_store_messages_priv.h"
#include "client/fc_store_priv.h"
#include "db/db.h"

struct fc_store {
    struct db *db;
    char *path;
    char *lock_path; // of the outbox
    char user_name[FC_USER_NAME_MAX_BYTES];
    bool is_in_transaction; // begun by the caller
    struct bytes new_words; // "[1,2" for messages 1 and 2, which are not in the index of words yet
};

// The tables, step by step (db_migrate).
extern const char *const fc_store_steps[];
extern const size_t fc_store_step_count;

// fc_store_fail explains the failure of a statement, with what to do about it, and returns it.
enum err fc_store_fail(const struct fc_store *store, enum err err, struct err_detail *why);

// fc_store_exec is db_exec with an explanation. ERR_EXISTS is left to the caller.
enum err fc_store_exec(struct fc_store *store, const char *sql, const struct db_value *args, size_t arg_count,
    int64_t *changed_out, struct err_detail *why) ERR_CHECKED;

// fc_store_select starts a query and moves to its first row; fc_store_next to the next one. ERR_NOT_FOUND, without an
// explanation: there is none. db_rows_free the rows in any case.
enum err fc_store_select(struct fc_store *store, const char *sql, const struct db_value *args, size_t arg_count,
    struct db_rows **rows_out, struct err_detail *why) ERR_CHECKED;
enum err fc_store_next(struct fc_store *store, struct db_rows *rows, struct err_detail *why) ERR_CHECKED;

// fc_store_enter begins a transaction unless the caller has one; fc_store_leave commits it if err is ERR_OK, else
// undoes it, and returns what became of it.
enum err fc_store_enter(struct fc_store *store, struct err_detail *why) ERR_CHECKED;
enum err fc_store_leave(struct fc_store *store, enum err err, struct err_detail *why) ERR_CHECKED;

// fc_store_copy_blob copies a column of exactly this size. ERR_CORRUPT: it has another one.
enum err fc_store_copy_blob(struct db_rows *rows, int column, uint8_t *out, size_t size) ERR_CHECKED;
// fc_store_copy_text copies a column, cut to size - 1 bytes.
void fc_store_copy_text(struct db_rows *rows, int column, char *out, size_t size);
// fc_store_append_blob appends a column.
enum err fc_store_append_blob(struct db_rows *rows, int column, struct bytes *out) ERR_CHECKED;

// fc_store_number is a sequence number as a value; those beyond what the database can hold become the greatest.
struct db_value fc_store_number(uint64_t number);
// fc_store_check_number: ERR_INVALID for numbers that the database cannot hold, and 0.
enum err fc_store_check_number(uint64_t number, struct err_detail *why) ERR_CHECKED;

// fc_store_room_row finds the row of a room. ERR_NOT_FOUND.
enum err fc_store_room_row(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], int64_t *row_out,
    struct err_detail *why) ERR_CHECKED;

// The columns of a message, of `message m JOIN room r`, for fc_store_read_message; their first is the row id.
#define FC_STORE_MESSAGE_COLUMNS                                                                                       \
    "m.id, r.room_id, m.seq, m.message_id, m.sender_id, m.sender_name, m.device_id, m.sent_ms, m.type, m.text, "       \
    "m.target_seq, m.reply_to_seq, m.topic, m.mentions, m.file, m.file_name, m.edited_ms, m.is_deleted, m.is_void, "   \
    "m.unread, m.sealed"

// fc_store_each_message calls fn for the rows of a query, which it starts and ends. last_id_out (may be NULL) gets the
// row id of the last one, if there was one.
enum err fc_store_each_message(struct fc_store *store, const char *sql, const struct db_value *args, size_t arg_count,
    fc_store_message_fn *fn, void *context, int64_t *last_id_out, struct err_detail *why) ERR_CHECKED;

// fc_store_time_id is the smallest row id of messages sent at a time.
int64_t fc_store_time_id(int64_t sent_ms);

// fc_store_limit is a number of rows as a value; 0: all.
struct db_value fc_store_limit(uint64_t limit);

#endif
