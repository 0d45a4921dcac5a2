// The steps of the schema that messages add, for the list in chat_core.c.
#ifndef CHAT_CHAT_MESSAGES_SCHEMA_H
#define CHAT_CHAT_MESSAGES_SCHEMA_H

// chat_messages_unread covers what unread counts look at, so that they do not read texts. The partial indexes are used
// by statements that repeat their conditions.
#define CHAT_MESSAGES_MIGRATIONS                                                                                       \
    {                                                                                                                  \
        "ALTER TABLE chat_messages ADD COLUMN type BIGINT NOT NULL DEFAULT 0;"                                         \
        "ALTER TABLE chat_messages ADD COLUMN target_seq BIGINT NOT NULL DEFAULT 0;"                                   \
        "ALTER TABLE chat_messages ADD COLUMN reply_to_seq BIGINT NOT NULL DEFAULT 0;"                                 \
        "ALTER TABLE chat_messages ADD COLUMN mentions TEXT;"                                                          \
        "ALTER TABLE chat_messages ADD COLUMN topic TEXT NOT NULL DEFAULT '';"                                         \
        "ALTER TABLE chat_messages ADD COLUMN edited_at_ms BIGINT NOT NULL DEFAULT 0;"                                 \
        "ALTER TABLE chat_messages ADD COLUMN is_deleted BIGINT NOT NULL DEFAULT 0;"                                   \
        "ALTER TABLE chat_messages ADD COLUMN file_mime_type TEXT;"                                                    \
        "ALTER TABLE chat_messages ADD COLUMN file_width_px BIGINT NOT NULL DEFAULT 0;"                                \
        "ALTER TABLE chat_messages ADD COLUMN file_height_px BIGINT NOT NULL DEFAULT 0;"                               \
        "ALTER TABLE chat_messages ADD COLUMN file_preview BLOB;"                                                      \
        "ALTER TABLE chat_messages ADD COLUMN sealed BLOB;"                                                            \
        "ALTER TABLE chat_messages ADD COLUMN sealed_hash BLOB;"                                                       \
        "ALTER TABLE chat_messages ADD COLUMN chain BLOB;"                                                             \
        "CREATE INDEX chat_messages_targets ON chat_messages (room_id, target_seq, sender_id) WHERE target_seq > 0;"   \
        "CREATE INDEX chat_messages_unread ON chat_messages (room_id, seq, sender_id)"                                 \
        "  WHERE type < 2 AND is_deleted = 0;"                                                                         \
        "CREATE TABLE chat_mentions ("                                                                                 \
        "  room_id BLOB NOT NULL,"                                                                                     \
        "  user_name TEXT NOT NULL,"                                                                                   \
        "  seq BIGINT NOT NULL,"                                                                                       \
        "  sender_id BLOB NOT NULL,"                                                                                   \
        "  PRIMARY KEY (room_id, user_name, seq));"                                                                    \
        "CREATE INDEX chat_mentions_messages ON chat_mentions (room_id, seq);"                                         \
        "CREATE TABLE chat_settings ("                                                                                 \
        "  user_id BLOB NOT NULL PRIMARY KEY,"                                                                         \
        "  is_shown BIGINT NOT NULL);"                                                                                 \
        "CREATE TABLE chat_reports ("                                                                                  \
        "  report_id BIGINT NOT NULL PRIMARY KEY,"                                                                     \
        "  reporter_id BLOB NOT NULL,"                                                                                 \
        "  reporter_name TEXT NOT NULL,"                                                                               \
        "  reported_at_ms BIGINT NOT NULL,"                                                                            \
        "  room_id BLOB NOT NULL,"                                                                                     \
        "  room_name TEXT NOT NULL,"                                                                                   \
        "  seq BIGINT NOT NULL,"                                                                                       \
        "  reason TEXT NOT NULL,"                                                                                      \
        "  message_key BLOB,"                                                                                          \
        "  message BLOB NOT NULL,"                                                                                     \
        "  UNIQUE (reporter_id, room_id, seq));"                                                                       \
        "CREATE INDEX chat_reports_times ON chat_reports (reporter_id, reported_at_ms);"                               \
    }

#endif
