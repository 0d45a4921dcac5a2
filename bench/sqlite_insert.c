// The rate that SQLite itself has: messages as a chat server stores them, each in a transaction of its own that is on
// disk when it ends. Nothing else is done for a message.
//
//     bench_sqlite_insert FOLDER SECONDS
//
// Prints one JSON object: inserts a second, p50 and p99 in microseconds.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "base/clock.h"
#include "base/random.h"
#include "bench/load.h"

enum {
    SAMPLES_MAX = 1024 * 1024,
    ID_BYTES = 16,
    TEXT_BYTES = 200,
};

static sqlite3 *db;

static void
check(int code)
{
    if (code != SQLITE_OK && code != SQLITE_DONE) {
        load_die("sqlite", sqlite3_errmsg(db));
    }
}

static sqlite3_stmt *
open_table(const char *folder)
{
    char path[4096];
    sqlite3_stmt *insert = NULL;
    (void)snprintf(path, sizeof(path), "%s/bench.db", folder);
    check(sqlite3_open(path, &db));
    check(sqlite3_exec(db,
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        "CREATE TABLE messages (room_id BLOB NOT NULL, seq BIGINT NOT NULL, message_id BLOB NOT NULL,"
        " sender_id BLOB NOT NULL, sender_name TEXT NOT NULL, sent_at_ms BIGINT NOT NULL, text TEXT NOT NULL,"
        " PRIMARY KEY (room_id, seq), UNIQUE (room_id, message_id))",
        NULL, NULL, NULL));
    check(sqlite3_prepare_v2(db, "INSERT INTO messages VALUES (?, ?, ?, ?, 'bench', ?, ?)", -1, &insert, NULL));
    return insert;
}

static int
compare_u32(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a;
    const uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

int
main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s FOLDER SECONDS\n", argv[0]);
        return 2;
    }
    uint32_t *took_us = calloc(SAMPLES_MAX, sizeof(took_us[0]));
    if (took_us == NULL) {
        load_die("samples", "out of memory");
    }
    sqlite3_stmt *insert = open_table(argv[1]);
    const double seconds = strtod(argv[2], NULL);
    uint8_t room_id[ID_BYTES], sender_id[ID_BYTES], message_id[ID_BYTES];
    char text[TEXT_BYTES];
    memset(text, 'x', sizeof(text));
    random_bytes(room_id, sizeof(room_id));
    random_bytes(sender_id, sizeof(sender_id));
    const uint64_t start_us = clock_monotonic_us();
    uint64_t now_us = start_us;
    size_t count = 0;
    while ((double)(now_us - start_us) < seconds * 1e6 && count < SAMPLES_MAX) {
        random_bytes(message_id, sizeof(message_id));
        check(sqlite3_bind_blob(insert, 1, room_id, ID_BYTES, SQLITE_STATIC));
        check(sqlite3_bind_int64(insert, 2, (sqlite3_int64)count + 1));
        check(sqlite3_bind_blob(insert, 3, message_id, ID_BYTES, SQLITE_STATIC));
        check(sqlite3_bind_blob(insert, 4, sender_id, ID_BYTES, SQLITE_STATIC));
        check(sqlite3_bind_int64(insert, 5, clock_unix_ms()));
        check(sqlite3_bind_text(insert, 6, text, TEXT_BYTES, SQLITE_STATIC));
        check(sqlite3_step(insert));
        check(sqlite3_reset(insert));
        const uint64_t ended_us = clock_monotonic_us();
        took_us[count++] = (uint32_t)(ended_us - now_us);
        now_us = ended_us;
    }
    qsort(took_us, count, sizeof(took_us[0]), compare_u32);
    printf("{\"per_s\": %.0f, \"p50_us\": %u, \"p99_us\": %u}\n", (double)count / ((double)(now_us - start_us) / 1e6),
        took_us[count / 2], took_us[count * 99 / 100]);
    return 0;
}
