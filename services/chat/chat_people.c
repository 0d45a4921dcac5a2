#include "services/chat/chat_people.h"

#include <string.h>

enum err
chat_people_find_id(const struct chat_people *people, struct store_tx *tx, const char *name,
    uint8_t id_out[CHAT_ID_BYTES], struct err_detail *why)
{
    enum err err = text_check_user_name(name, why);
    if (err != ERR_OK) {
        return err;
    }
    err = people->find_user == NULL ? ERR_NOT_FOUND : people->find_user(people->context, tx, name, id_out);
    return err == ERR_NOT_FOUND ? err_fail(why, err, "there is no user \"%s\"; check the name", name) : err;
}

enum err
chat_people_find_name(const struct chat_people *people, struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES],
    char name_out[TEXT_USER_NAME_MAX_BYTES + 1])
{
    return people->find_user_name == NULL ? ERR_NOT_FOUND
                                          : people->find_user_name(people->context, tx, user_id, name_out);
}

enum err
chat_chains_find(void *context, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out, struct err_detail *why)
{
    struct chat_chains *chains = context;
    const struct chat_people *people = chains->people;
    e2e_user_deinit(&chains->user);
    enum err err = people->find_chain == NULL
                       ? ERR_NOT_FOUND
                       : people->find_chain(people->context, chains->tx, head->user_id.data, &chains->user);
    if (err == ERR_NOT_FOUND || (err == ERR_OK && chains->user.seq == 0)) {
        return err_fail(why, ERR_NOT_FOUND, "the room entry names somebody who has no keys on this server");
    }
    if (err == ERR_OK && (head->seq != chains->user.seq || head->hash.len != E2E_HASH_BYTES ||
                             memcmp(head->hash.data, chains->user.head_hash, E2E_HASH_BYTES) != 0)) {
        return err_fail(why, ERR_CONFLICT,
            "%s has other devices than the room entry knows of; read the keys and try "
            "again",
            chains->user.name);
    }
    if (err == ERR_OK) {
        *out = &chains->user;
    }
    return err;
}

void
chat_chains_deinit(struct chat_chains *chains)
{
    e2e_user_deinit(&chains->user);
}
