// For tests of the local store: a data folder of its own for each test, and what goes wrong told in full.
#ifndef TESTS_UNIT_FC_STORE_SUPPORT_H
#define TESTS_UNIT_FC_STORE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/fc_store_messages_priv.h"

#define SERVER_URL "tcp://127.0.0.1:7420"

static char data_dir[256];

static inline int
make_data_dir(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(data_dir, sizeof(data_dir), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    return mkdtemp(data_dir) == NULL ? -1 : setenv("FC_DATA_DIR", data_dir, 1);
}

static inline int
remove_data_dir(void **state)
{
    (void)state;
    char command[sizeof(data_dir) + 16];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", data_dir);
    return system(command);
}

static inline void
assert_done(enum err err, const struct err_detail *detail)
{
    if (err != ERR_OK) {
        fail_msg("%s: %s", err_name(err), err_message(detail, err));
    }
}

static struct err_detail why; // of the last call that failed

// Fails the test with the explanation of an expression that takes &why.
#define DO(expression) assert_done(expression, &why)

static inline struct fc_store *
open_store(const char *user_name)
{
    struct fc_store *store = NULL;
    DO(fc_store_open(SERVER_URL, user_name, &store, &why));
    return store;
}

// An id, a key or a hash of one byte value.
static inline const uint8_t *
filled(uint8_t value)
{
    static uint8_t all[256][32];
    memset(all[value], value, sizeof(all[value]));
    return all[value];
}

static inline void
put_room(struct fc_store *store, uint8_t id, const char *name)
{
    struct fc_store_room room = {.is_member = true, .kind = FC__E2E__V1__ROOM_KIND__PRIVATE};
    memcpy(room.room_id, filled(id), sizeof(room.room_id));
    (void)snprintf(room.name, sizeof(room.name), "%s", name);
    DO(fc_store_room_put(store, &room, &why));
}

static inline struct fc_store_room
get_room(struct fc_store *store, uint8_t id)
{
    struct fc_store_room room;
    DO(fc_store_room_get(store, filled(id), &room, &why));
    return room;
}

#endif
