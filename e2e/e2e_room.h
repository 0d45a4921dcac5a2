// The rules of rooms: who may change what, what an entry of a room's log makes of it, and when a rekey is complete. The
// one place where they are decided, for plain and encrypted rooms, on the server and again in each client.
// Any thread, each object used by one at a time.
#ifndef E2E_E2E_ROOM_H
#define E2E_E2E_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "e2e/e2e_user.h"

#include "fc/e2e/v1/chain.pb-c.h"

enum {
    E2E_ROOM_MEMBERS_MAX = 10000,
    E2E_ROOM_LINKS_MAX = 100,
    E2E_ROOM_CHANGES_MAX = 1000, // in one entry
    E2E_ROOM_WRAPS_MAX = 100000, // in one entry
    E2E_TOPIC_MAX_BYTES = 250,
};

// e2e_room is a room as far as its log has been applied: a decoded RoomState. Zeroed memory is a room without entries.
struct e2e_room {
    Fc__E2e__V1__RoomState *state; // owned; NULL before the first entry
};

// e2e_room_unpack reads what e2e_room_pack wrote. ERR_CORRUPT.
enum err e2e_room_unpack(struct e2e_room *room, struct bytes_view packed) ERR_CHECKED;
enum err e2e_room_pack(const struct e2e_room *room, struct bytes *out) ERR_CHECKED;
void e2e_room_deinit(struct e2e_room *room);

// e2e_room_member finds a member or invited user; NULL: neither. e2e_room_is_member: a member, not only invited.
const Fc__E2e__V1__RoomMember *e2e_room_member(const struct e2e_room *room, const uint8_t user_id[E2E_ID_BYTES]);
bool e2e_room_is_member(const struct e2e_room *room, const uint8_t user_id[E2E_ID_BYTES]);
const Fc__E2e__V1__RoomLink *e2e_room_link(const struct e2e_room *room, const uint8_t link_id[E2E_ID_BYTES]);
// e2e_room_has_link_keys: invite links get the room's keys. Where new members read from when they joined they do not:
// who joins by one makes a new key.
bool e2e_room_has_link_keys(const Fc__E2e__V1__RoomState *state);
// e2e_room_is_link_used_up and e2e_room_is_link_expired: nobody joins by it any more, but who has it may have the
// present key.
bool e2e_room_is_link_used_up(const Fc__E2e__V1__RoomLink *link);
bool e2e_room_is_link_expired(const Fc__E2e__V1__RoomLink *link, int64_t now_unix_ms);

// e2e_find_user_fn lends, until it is called again, the chain of a user at least up to head->seq, with that entry's
// hash being head->hash, and up to no later identity than the one that held there: whoever replays a log lends the
// chain as it was. ERR_NOT_FOUND: no such user or keys. ERR_CONFLICT: the head is not on the chain, or (on a server)
// not the newest.
typedef enum err e2e_find_user_fn(void *context, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out,
    struct err_detail *why);

// e2e_room_parse reads an entry's body without judging it. The caller frees it with
// fc__e2e__v1__room_entry__free_unpacked. ERR_INVALID, ERR_TOO_BIG.
enum err e2e_room_parse(struct bytes_view body, Fc__E2e__V1__RoomEntry **out, struct err_detail *why) ERR_CHECKED;

// Rules that proto/fc/e2e/v1/chain.proto leaves open:
// - Changes of one entry are judged one after the other, each by what the ones before it have made of the room.
// - A room that has members has an owner. Who enters a room without members becomes its owner.
// - In a public room everybody may add themselves as a member.
// - Plain rooms: entry 1 adds its author as OWNER after `create`, which is how the log comes to know the author's name.
//   Head hashes are empty.
// - Direct rooms: who leaves becomes invited, and comes back by accepting. Either of the two may remove and add the
// other
//   in one entry, which takes over a new identity; nothing else about who is in it ever changes.
// - A user whose identity was reset stays a member with the old one: no device of theirs gets wraps, and they can do
//   nothing but leave, until somebody removes and adds them again.
// - Any member may revoke links that have expired or are used up.
// - Without a rekey, who is added or joins by a link gets a wrap of the present epoch for each device, and a new link
// one
//   where new members read everything.
// - Device ids are their users' choice: when two users have the same one there are two wraps for it, and each tries
// both.

// e2e_room_apply checks the next entry of an encrypted room, signatures included, and applies it; a failure changes
// nothing. now_unix_ms (0: does not matter) only judges whether links have expired.
// ERR_CONFLICT: not the next entry. ERR_DENIED: the author's role, or an invite link that is over, does not allow it.
// ERR_PRECONDITION: the room would be left without an owner. ERR_LIMIT: too many members or links. ERR_INVALID: against
// the rules. ERR_CORRUPT: a bad signature. ERR_NOT_FOUND: names a user or device that is not known.
enum err e2e_room_apply(struct e2e_room *room, const uint8_t room_id[E2E_ID_BYTES], const Fc__E2e__V1__Signed *entry,
    int64_t now_unix_ms, e2e_find_user_fn *find_user, void *context, struct err_detail *why) ERR_CHECKED;

// e2e_room_apply_plain is the same for an entry of a plain room, which is not signed and carries no keys. The caller
// vouches for its author (and for who joins by a link).
enum err e2e_room_apply_plain(struct e2e_room *room, const Fc__E2e__V1__RoomEntry *entry, int64_t now_unix_ms,
    struct err_detail *why) ERR_CHECKED;

// e2e_room_entry_hash is SHA-256 of an entry's body.
enum err e2e_room_entry_hash(struct bytes_view body, uint8_t hash_out[E2E_HASH_BYTES]) ERR_CHECKED;

// e2e_room_fingerprint is one number for the whole room, 60 digits in groups of 5: the same for all members who have
// seen the same log and the same identities. Each group is 5 bytes, mod 100,000, of
// HKDF(room_id ‖ seq as 8 bytes big-endian ‖ head_hash ‖ user_id ‖ identity_key of each, by user_id, "fc/1 room
// number").
enum err e2e_room_fingerprint(const struct e2e_room *room, char out[E2E_SAFETY_NUMBER_BYTES]) ERR_CHECKED;

// e2e_room_needs_rekey says whether an entry with these changes has to rekey (see RoomEntry.rekey).
bool e2e_room_needs_rekey(const struct e2e_room *room, const Fc__E2e__V1__RoomEntry *entry);

#endif
