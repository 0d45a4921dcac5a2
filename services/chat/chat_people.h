// What the Chat service asks its siblings about users, and the operator's limits. As chat_core.h.
#ifndef CHAT_CHAT_PEOPLE_H
#define CHAT_CHAT_PEOPLE_H

#include <stdint.h>

#include "base/err.h"
#include "base/text.h"
#include "e2e/e2e_room.h"
#include "services/chat/chat_core.h"
#include "services/chat/chat_sealed.h"
#include "services/store/store.h"

enum {
    CHAT_ROOMS_PER_USER_DEFAULT = 1000,
};

// chat_find_user_fn finds the id of a user, chat_find_user_name_fn the name. ERR_NOT_FOUND.
typedef enum err chat_find_user_fn(void *context, struct store_tx *tx, const char *name, uint8_t id_out[CHAT_ID_BYTES]);
typedef enum err chat_find_user_name_fn(void *context, struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES],
    char name_out[TEXT_USER_NAME_MAX_BYTES + 1]);

struct chat_people {
    chat_find_user_fn *find_user;           // NULL: nobody is known
    chat_find_user_name_fn *find_user_name; // NULL: nobody is known
    chat_find_chain_fn *find_chain;         // NULL: nobody has keys
    void *context;                          // of all three
    uint32_t max_rooms_per_user;            // 0: CHAT_ROOMS_PER_USER_DEFAULT
    uint32_t max_members;                   // 0: E2E_ROOM_MEMBERS_MAX
};

// chat_people_find_id finds the id that goes with a name. ERR_NOT_FOUND says so; ERR_INVALID: not a name.
enum err chat_people_find_id(const struct chat_people *people, struct store_tx *tx, const char *name,
    uint8_t id_out[CHAT_ID_BYTES], struct err_detail *why) ERR_CHECKED;
enum err chat_people_find_name(const struct chat_people *people, struct store_tx *tx,
    const uint8_t user_id[CHAT_ID_BYTES], char name_out[TEXT_USER_NAME_MAX_BYTES + 1]) ERR_CHECKED;

// chat_chains is the context of chat_chains_find, an e2e_find_user_fn for which only the newest heads will do. The
// caller deinits it.
struct chat_chains {
    const struct chat_people *people;
    struct store_tx *tx;
    struct e2e_user user; // whose chain is lent
};
enum err chat_chains_find(void *chains, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out,
    struct err_detail *why) ERR_CHECKED;
void chat_chains_deinit(struct chat_chains *chains);

#endif
