// For the tests of the FileStore: a database in a temporary folder, and rooms as a table in memory.
#ifndef TESTS_FILESTORE_SUPPORT_H
#define TESTS_FILESTORE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "services/filestore/filestore_core.h"

static const uint8_t alice[16] = "alice...........";
static const uint8_t bob[16] = "bob.............";
static const uint8_t carol[16] = "carol...........";
static const uint8_t den_id[16] = "den room id ....";
static const uint8_t attic_id[16] = "attic room id ..";

// Who is in which room; tests change it.
struct fake_rooms {
    bool is_alice_in_den;
    bool is_bob_in_den;
    bool is_bob_in_attic;
};

static inline bool
fake_is_in(const struct fake_rooms *rooms, const uint8_t room_id[16], const uint8_t user_id[16])
{
    if (memcmp(room_id, den_id, 16) == 0) {
        return (rooms->is_alice_in_den && memcmp(user_id, alice, 16) == 0) ||
               (rooms->is_bob_in_den && memcmp(user_id, bob, 16) == 0);
    }
    return memcmp(room_id, attic_id, 16) == 0 && rooms->is_bob_in_attic && memcmp(user_id, bob, 16) == 0;
}

static inline enum err
fake_is_member(void *context, struct store_tx *tx, const uint8_t room_id[16], const uint8_t user_id[16],
    bool *is_member_out)
{
    (void)tx;
    *is_member_out = fake_is_in(context, room_id, user_id);
    return ERR_OK;
}

static inline enum err
fake_find_member_room(void *context, struct store_tx *tx, const char *room, const uint8_t user_id[16],
    struct filestore_room *room_out, struct err_detail *why)
{
    char den_hex[33];
    char attic_hex[33];
    struct filestore_room found;

    (void)tx;
    bytes_to_hex(bytes_view_of(den_id, 16), den_hex);
    bytes_to_hex(bytes_view_of(attic_id, 16), attic_hex);
    memset(&found, 0, sizeof(found));
    if (strcmp(room, "den") == 0 || strcmp(room, den_hex) == 0) {
        memcpy(found.room_id, den_id, 16);
        memcpy(found.name, "den", 4);
    } else if (strcmp(room, "attic") == 0 || strcmp(room, attic_hex) == 0) {
        memcpy(found.room_id, attic_id, 16);
        memcpy(found.name, "attic", 6);
    } else {
        return err_fail(why, ERR_NOT_FOUND, "there is no room \"%s\"", room);
    }
    if (!fake_is_in(context, found.room_id, user_id)) {
        return err_fail(why, ERR_DENIED, "you are not in \"%s\"", room);
    }
    *room_out = found;
    return ERR_OK;
}

static inline void
make_temp_dir(char *path_out, size_t capacity)
{
    const char *base = getenv("TMPDIR");
    snprintf(path_out, capacity, "%s/fc-test-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(path_out));
}

static inline void
remove_temp_dir(const char *path)
{
    char command[512];
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

#endif
