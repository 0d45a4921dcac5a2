// The tables of the local store.
//
// Messages have a row id that grows with the time of sending, so that a search, which finds by row id, can begin with
// the newest and stop. Their words are indexed outside (FTS5), and triggers keep it in step with what becomes of them.
#include "client/fc_store_db_priv.h"

// Whether a message has words to be found: neither edits nor reactions, and it is not gone.
#define HAS_WORDS(row) "(" row ".type <= 1 AND (" row ".text <> '' OR " row ".file_name <> ''))"
#define WORDS_OF(row) row ".id, " row ".text, " row ".file_name"

static const char first_step[] =
    "CREATE TABLE account ("
    "    id INTEGER PRIMARY KEY CHECK (id = 1),"
    "    user_id BLOB NOT NULL,"
    "    device_id BLOB NOT NULL,"
    "    sign_private BLOB NOT NULL,"
    "    sign_public BLOB NOT NULL,"
    "    box_private BLOB NOT NULL,"
    "    box_public BLOB NOT NULL,"
    "    identity_private BLOB,"
    "    is_recovery_offline INTEGER NOT NULL);"

    "CREATE TABLE note (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"

    "CREATE TABLE person ("
    "    user_id BLOB PRIMARY KEY,"
    "    name TEXT UNIQUE," // NULL: another one is called so now
    "    identity_key BLOB,"
    "    first_seen_ms INTEGER NOT NULL,"
    "    is_verified INTEGER NOT NULL,"
    "    pending_key BLOB) WITHOUT ROWID;"
    "CREATE TABLE person_entry ("
    "    user_id BLOB NOT NULL REFERENCES person (user_id) ON DELETE CASCADE,"
    "    seq INTEGER NOT NULL,"
    "    body BLOB NOT NULL,"
    "    signature BLOB NOT NULL,"
    "    UNIQUE (user_id, seq));"

    "CREATE TABLE room ("
    "    id INTEGER PRIMARY KEY,"
    "    room_id BLOB NOT NULL UNIQUE,"
    "    name TEXT NOT NULL,"
    "    topic TEXT NOT NULL,"
    "    kind INTEGER NOT NULL,"
    "    is_plain INTEGER NOT NULL,"
    "    is_member INTEGER NOT NULL,"
    "    is_muted INTEGER NOT NULL DEFAULT 0,"
    "    head_seq INTEGER NOT NULL DEFAULT 0,"
    "    synced_seq INTEGER NOT NULL DEFAULT 0,"
    "    chain BLOB NOT NULL DEFAULT (zeroblob(32)),"
    "    read_seq INTEGER NOT NULL DEFAULT 0,"
    "    log_seq INTEGER NOT NULL DEFAULT 0,"
    "    state BLOB,"
    "    draft BLOB);"
    "CREATE INDEX room_name ON room (name);"
    "CREATE TABLE room_entry ("
    "    room INTEGER NOT NULL REFERENCES room (id) ON DELETE CASCADE,"
    "    seq INTEGER NOT NULL,"
    "    body BLOB NOT NULL,"
    "    signature BLOB NOT NULL,"
    "    link_signature BLOB NOT NULL,"
    "    UNIQUE (room, seq));"
    "CREATE TABLE epoch ("
    "    room INTEGER NOT NULL REFERENCES room (id) ON DELETE CASCADE,"
    "    epoch INTEGER NOT NULL,"
    "    secret BLOB NOT NULL,"
    "    PRIMARY KEY (room, epoch)) WITHOUT ROWID;"

    "CREATE TABLE message ("
    "    id INTEGER PRIMARY KEY,"
    "    room INTEGER NOT NULL REFERENCES room (id) ON DELETE CASCADE,"
    "    seq INTEGER NOT NULL,"
    "    message_id BLOB NOT NULL,"
    "    sender_id BLOB NOT NULL,"
    "    sender_name TEXT NOT NULL,"
    "    device_id BLOB,"
    "    sent_ms INTEGER NOT NULL,"
    "    type INTEGER NOT NULL,"
    "    text TEXT NOT NULL,"
    "    base_text TEXT," // as it was before edits that are kept, if there are any
    "    target_seq INTEGER NOT NULL,"
    "    reply_to_seq INTEGER NOT NULL,"
    "    topic TEXT NOT NULL,"
    "    mentions TEXT NOT NULL,"
    "    file BLOB,"
    "    file_name TEXT NOT NULL,"
    "    edited_ms INTEGER NOT NULL,"
    "    base_edited_ms INTEGER NOT NULL," // as the server has told
    "    is_deleted INTEGER NOT NULL,"
    "    is_void INTEGER NOT NULL,"
    "    unread INTEGER NOT NULL," // enum fc_store_unread
    "    sealed BLOB,"
    "    is_counted INTEGER NOT NULL," // by another user, to be shown
    "    is_mention INTEGER NOT NULL,"
    "    UNIQUE (room, seq));"
    "CREATE INDEX message_time ON message (room);" // and its row id
    "CREATE INDEX message_request ON message (message_id);"
    "CREATE INDEX message_file ON message (id) WHERE file IS NOT NULL;"
    "CREATE INDEX message_target ON message (room, target_seq) WHERE target_seq <> 0;"
    "CREATE INDEX message_topic ON message (room, topic, seq) WHERE topic <> '';"
    "CREATE INDEX message_counted ON message (room, seq) WHERE is_counted = 1;"
    "CREATE INDEX message_mention ON message (room, seq) WHERE is_mention = 1;"
    "CREATE INDEX message_sealed ON message (room, seq) WHERE unread IN (1, 2);"

    "CREATE VIRTUAL TABLE message_words USING fts5 ("
    "    text, file_name, content = 'message', content_rowid = 'id',"
    "    tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3');"
    "CREATE TRIGGER message_added AFTER INSERT ON message WHEN " HAS_WORDS(
        "new") " BEGIN"
               "    INSERT INTO message_words (rowid, text, file_name) VALUES (" WORDS_OF(
                   "new") ");"
                          "END;"
                          "CREATE TRIGGER message_changed AFTER UPDATE OF type, text, file_name ON "
                          "message BEGIN"
                          "    INSERT INTO message_words (message_words, rowid, text, file_name)"
                          "        SELECT 'delete', " WORDS_OF("old") " WHERE " HAS_WORDS(
                              "old") ";"
                                     "    INSERT INTO message_words (rowid, text, file_name) "
                                     "SELECT " WORDS_OF("new") " WHERE " HAS_WORDS(
                                         "new") ";"
                                                "END;"
                                                "CREATE TRIGGER message_removed AFTER DELETE ON message "
                                                "WHEN " HAS_WORDS("old") " BEGIN"
                                                                         "    INSERT INTO message_words "
                                                                         "(message_words, rowid, text, file_name) "
                                                                         "VALUES ('delete', " WORDS_OF(
                                                                             "old") ");"
                                                                                    "END;"

                                                                                    "CREATE TABLE outgoing ("
                                                                                    "    position INTEGER PRIMARY KEY "
                                                                                    "AUTOINCREMENT,"
                                                                                    "    message_id BLOB NOT NULL "
                                                                                    "UNIQUE,"
                                                                                    "    room_name TEXT NOT NULL,"
                                                                                    "    room_id BLOB,"
                                                                                    "    request BLOB NOT NULL,"
                                                                                    "    created_ms INTEGER NOT NULL,"
                                                                                    "    last_error TEXT NOT NULL);";

// Words of new messages are indexed by fc_store_messages_put, many at a time.
static const char second_step[] = "DROP TRIGGER message_added;";

// A process that ends between an entry and its secrets, or another one that reads between them, must notice.
static const char third_step[] = "ALTER TABLE room ADD COLUMN learned_seq INTEGER NOT NULL DEFAULT 0;";

const char *const fc_store_steps[] = {first_step, second_step, third_step};
const size_t fc_store_step_count = sizeof(fc_store_steps) / sizeof(fc_store_steps[0]);
