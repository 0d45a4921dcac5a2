// People, as rooms need them: their chains, checked by the identity and kept in memory while a chat is open.
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1

#include "base/digest.h"
#include "client/fc_chat_priv.h"

enum {
    // Chains that one call asks for.
    SYNC_BATCH = 500,
};

const uint8_t *
fc_chat_own_id(const struct fc_chat *chat)
{
    return chat->identity->user_id;
}

enum err
fc_chat_own_device(struct fc_chat *chat, const struct e2e_keys **out, struct err_detail *why)
{
    *out = fc_identity_device(chat->identity);
    if (*out == NULL) {
        return err_fail(why, ERR_NO_KEY,
            "this machine has no keys of %s: log in again with fc login, or let another device in with fc device offer",
            fc_identity_user_name(chat->identity));
    }
    return ERR_OK;
}

static enum err
keep(struct fc_chat *chat, const uint8_t user_id[E2E_ID_BYTES], struct e2e_user *user,
    struct fc_chat_user_kept **kept_out)
{
    struct fc_chat_user_kept *kept = NULL;
    HASH_FIND(hh, chat->users, user_id, E2E_ID_BYTES, kept);
    if (kept == NULL) {
        kept = calloc(1, sizeof(*kept));
        if (kept == NULL) {
            return ERR_NO_MEMORY;
        }
        memcpy(kept->id, user_id, sizeof(kept->id));
        HASH_ADD(hh, chat->users, id, sizeof(kept->id), kept);
        if (kept->hh.tbl == NULL) {
            free(kept);
            return ERR_NO_MEMORY;
        }
    }
    e2e_user_deinit(&kept->user);
    kept->user = *user;
    *kept_out = kept;
    return ERR_OK;
}

// load takes the chain that the local store has.
static enum err
load(struct fc_chat *chat, const uint8_t user_id[E2E_ID_BYTES], struct fc_chat_user_kept **kept_out,
    struct err_detail *why)
{
    struct e2e_user user = {0};
    enum err err = fc_identity_cached(chat->identity, user_id, &user, why);
    if (err == ERR_OK) {
        err = keep(chat, user_id, &user, kept_out);
    }
    if (err != ERR_OK) {
        e2e_user_deinit(&user);
    }
    return err;
}

const struct e2e_user *
fc_chat_user_here(struct fc_chat *chat, const uint8_t user_id[E2E_ID_BYTES])
{
    struct fc_chat_user_kept *kept = NULL;
    HASH_FIND(hh, chat->users, user_id, E2E_ID_BYTES, kept);
    if (kept == NULL && load(chat, user_id, &kept, NULL) != ERR_OK) {
        return NULL;
    }
    return &kept->user;
}

enum err
fc_chat_user(struct fc_chat *chat, const uint8_t user_id[E2E_ID_BYTES], uint64_t min_seq, const struct e2e_user **out,
    struct err_detail *why)
{
    struct fc_chat_user_kept *kept = NULL;
    enum err err = ERR_OK;
    min_seq = min_seq == 0 ? 1 : min_seq;
    HASH_FIND(hh, chat->users, user_id, E2E_ID_BYTES, kept);
    if (kept == NULL || kept->user.seq < min_seq) {
        err = load(chat, user_id, &kept, why);
    }
    if (err == ERR_OK && kept->user.seq < min_seq) {
        struct fc_identity_wanted wanted = {.id = user_id};
        err = fc_identity_sync(chat->identity, &wanted, 1, why);
        if (err == ERR_OK) {
            err = load(chat, user_id, &kept, why);
        }
    }
    if (err == ERR_OK && kept->user.seq < min_seq) {
        return err_fail(why, ERR_NOT_FOUND, "the server does not have the keys of somebody that the room's log names");
    }
    if (err == ERR_OK) {
        *out = &kept->user;
    }
    return err;
}

enum err
fc_chat_user_named(struct fc_chat *chat, const char *name, const struct e2e_user **out, struct err_detail *why)
{
    struct fc_chat_user_kept *kept = NULL;
    struct e2e_user user = {0};
    enum err err = fc_identity_user(chat->identity, name, &user, why);
    if (err == ERR_PRECONDITION) {
        return err_fail(why, ERR_NO_KEY,
            "%s has no keys yet, so nothing can be encrypted for them: they get some when they "
            "log in the next time",
            name);
    }
    if (err != ERR_OK) {
        return err;
    }
    err = keep(chat, user.id, &user, &kept);
    if (err != ERR_OK) {
        e2e_user_deinit(&user);
        return err;
    }
    *out = &kept->user;
    return ERR_OK;
}

enum err
fc_chat_users_sync(struct fc_chat *chat, const uint8_t *const *user_ids, size_t count, struct err_detail *why)
{
    struct fc_identity_wanted *wanted = calloc(SYNC_BATCH, sizeof(*wanted));
    enum err err = wanted == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (size_t at = 0; at < count && err == ERR_OK; at += SYNC_BATCH) {
        size_t batch = count - at < SYNC_BATCH ? count - at : SYNC_BATCH;
        memset(wanted, 0, SYNC_BATCH * sizeof(*wanted));
        for (size_t i = 0; i < batch; i++) {
            wanted[i].id = user_ids[at + i];
        }
        err = fc_identity_sync(chat->identity, wanted, batch, why);
        for (size_t i = 0; i < batch && err == ERR_OK; i++) {
            struct fc_chat_user_kept *kept = NULL;
            err = load(chat, user_ids[at + i], &kept, why);
        }
    }
    free(wanted);
    return err;
}

// replay makes a chain as it was after entry `seq`.
struct replay {
    uint64_t seq;
    struct e2e_user *user;
    const uint8_t *user_id;
    enum err err;
};

static bool
replay_entry(void *context, const struct fc_store_entry *entry)
{
    struct replay *replay = context;
    if (entry->seq > replay->seq) {
        return false;
    }
    replay->err = e2e_user_apply(replay->user, replay->user_id, entry->body, entry->signature, NULL);
    return replay->err == ERR_OK;
}

static enum err
replay_to(struct fc_chat *chat, const uint8_t user_id[E2E_ID_BYTES], uint64_t seq, struct err_detail *why)
{
    struct replay replay = {.seq = seq, .user = &chat->earlier, .user_id = user_id};
    e2e_user_deinit(&chat->earlier);
    memset(&chat->earlier, 0, sizeof(chat->earlier));
    enum err err = fc_store_user_entries(chat->store, user_id, 0, replay_entry, &replay, why);
    return err == ERR_OK ? replay.err : err;
}

struct hash_search {
    uint64_t seq;
    uint8_t hash[E2E_HASH_BYTES];
    enum err err;
};

static bool
take_hash(void *context, const struct fc_store_entry *entry)
{
    struct hash_search *search = context;
    if (entry->seq == search->seq) {
        search->err = digest_of(DIGEST_SHA256, entry->body, search->hash);
    }
    return entry->seq < search->seq;
}

// check_hash compares the head with what is known of that place on the chain.
static enum err
check_hash(struct fc_chat *chat, const Fc__E2e__V1__UserHead *head, const struct e2e_user *user, struct err_detail *why)
{
    struct hash_search search = {.seq = head->seq, .err = ERR_NOT_FOUND};
    enum err err = ERR_OK;
    if (head->seq == user->seq) {
        memcpy(search.hash, user->head_hash, sizeof(search.hash));
    } else {
        err = fc_store_user_entries(chat->store, head->user_id.data, head->seq - 1, take_hash, &search, why);
        err = err == ERR_OK ? search.err : err;
    }
    if (err == ERR_OK && memcmp(search.hash, head->hash.data, sizeof(search.hash)) != 0) {
        return err_fail(why, ERR_CONFLICT, "its author has been shown other keys of %s than you", user->name);
    }
    return err;
}

enum err
fc_chat_find_head(void *context, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out, struct err_detail *why)
{
    struct fc_chat *chat = context;
    const struct e2e_user *user = NULL;
    if (head->user_id.len != E2E_ID_BYTES || head->hash.len != E2E_HASH_BYTES || head->seq == 0) {
        return err_fail(why, ERR_INVALID, "it names a user in a way that makes no sense");
    }
    enum err err = fc_chat_user(chat, head->user_id.data, head->seq, &user, why);
    if (err == ERR_OK) {
        err = check_hash(chat, head, user, why);
    }
    if (err == ERR_OK && user->identity_seq > head->seq) {
        // Entries from before a reset are judged by who this user was then.
        err = replay_to(chat, head->user_id.data, head->seq, why);
        user = &chat->earlier;
    }
    if (err == ERR_OK) {
        *out = user;
    }
    return err;
}
