// The entries that the server makes for plain rooms. As chat_core.h.
#ifndef CHAT_CHAT_PLAIN_H
#define CHAT_CHAT_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "e2e/e2e_room.h"
#include "services/chat/chat_core.h"

// chat_plain is an entry that is being put together. Changes borrow the texts and ids that they are given. When memory
// or the number of changes runs out, that is kept until chat_plain_finish.
struct chat_plain {
    struct arena arena;
    Fc__E2e__V1__RoomEntry entry;
    enum err err;
};

// chat_plain_init begins the entry after those of room; room_id is needed for its first one.
void chat_plain_init(struct chat_plain *plain, const struct e2e_room *room, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t author_id[CHAT_ID_BYTES]);
void chat_plain_deinit(struct chat_plain *plain);
void chat_plain_create(struct chat_plain *plain, const char *name, Fc__E2e__V1__RoomKind kind);
void chat_plain_add(struct chat_plain *plain, const struct chat_user *user, Fc__E2e__V1__Role role, bool is_invited);
void chat_plain_remove(struct chat_plain *plain, const uint8_t user_id[CHAT_ID_BYTES]);
void chat_plain_set_role(struct chat_plain *plain, const uint8_t user_id[CHAT_ID_BYTES], Fc__E2e__V1__Role role);
void chat_plain_accept(struct chat_plain *plain);
void chat_plain_join_by_link(struct chat_plain *plain, const uint8_t link_id[CHAT_ID_BYTES], const char *user_name);

// chat_plain_change adds a change of another kind, for the caller to fill; NULL: no memory, or too many.
Fc__E2e__V1__RoomChange *chat_plain_change(struct chat_plain *plain, Fc__E2e__V1__RoomChange__KindCase kind);

// chat_plain_copy_id keeps an id for as long as the entry; NULL: no memory.
uint8_t *chat_plain_copy_id(struct chat_plain *plain, const uint8_t id[CHAT_ID_BYTES]);

// chat_plain_finish says what went wrong meanwhile. ERR_NO_MEMORY; ERR_INVALID: too many changes.
enum err chat_plain_finish(const struct chat_plain *plain, struct err_detail *why) ERR_CHECKED;

#endif
