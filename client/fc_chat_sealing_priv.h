// For libfc's files of rooms only: a file is sealed into a spool beside the local store, and both are remembered until
// the file is announced, so that an upload that is repeated sends the same bytes.
#ifndef CLIENT_FC_CHAT_SEALING_PRIV_H
#define CLIENT_FC_CHAT_SEALING_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "client/fc_chat.h"
#include "client/fc_chat_priv.h"
#include "client/fc_file.h"
#include "client/fc_session.h"

enum {
    FC_SEALING_PATH_MAX_BYTES = FC_CONFIG_PATH_MAX_BYTES + 64,
    FC_SEALING_TYPE_MAX_BYTES = 64,
};

// fc_digests are those of one file while it passes by. All zero before fc_digests_new, and after fc_digests_free.
struct fc_digests {
    struct digest *md5;
    struct digest *sha256;
};

enum err fc_digests_new(struct fc_digests *out) ERR_CHECKED;
enum err fc_digests_update(struct fc_digests *digests, struct bytes_view data) ERR_CHECKED;
enum err fc_digests_final(struct fc_digests *digests, uint8_t md5_out[DIGEST_MD5_BYTES],
    uint8_t sha256_out[DIGEST_SHA256_BYTES]) ERR_CHECKED;
void fc_digests_free(struct fc_digests *digests);

// fc_chat_file_open opens a regular file that is to be sent.
enum err fc_chat_file_open(const char *path, int *fd_out, uint64_t *size_out, struct err_detail *why) ERR_CHECKED;

// fc_chat_file_look notes what kind of picture a file is, if it is one. Its preview is put into `preview`, which
// out->preview then points to; NULL: none is made.
void fc_chat_file_look(int fd, uint64_t size, struct fc_chat_file *out, struct bytes *preview);

// fc_chat_file_strip puts a stripped picture in the place of an open file, which it closes then, unless metadata are
// kept. ERR_INVALID, as of fc_jpeg_strip_file.
enum err fc_chat_file_strip(bool keeps_metadata, const char *path, int *fd, uint64_t *size,
    struct err_detail *why) ERR_CHECKED;

// fc_sealing is one file on its way to a room. It holds secrets: fc_sealing_end wipes them.
struct fc_sealing {
    char path[FC_SEALING_PATH_MAX_BYTES]; // of the spool
    struct fc_chat_file sealed;
    char mime_type[FC_SEALING_TYPE_MAX_BYTES]; // what sealed.mime_type may point to
    struct fc_file plain;                      // size and digests
    struct bytes preview;                      // what sealed.preview points to
    bool is_stored;                            // on the server, as file_id; it has only to be announced
    uint8_t file_id[16];

    int fd;      // the spool
    int note_fd; // what is remembered; -1: nothing
    char note_path[FC_SEALING_PATH_MAX_BYTES];
    char source_stamp[160];
};

// fc_sealing_begin seals a file, or finds it sealed since it was last changed. keeps_metadata: fc_chat_file_strip.
enum err fc_sealing_begin(struct fc_sealing *sealing, struct fc_session *session, const char *room, const char *path,
    const char *name, bool keeps_metadata, const struct fc_transfer_options *options,
    struct err_detail *why) ERR_CHECKED;

// fc_sealing_stored remembers that only the announcement is missing.
void fc_sealing_stored(struct fc_sealing *sealing, const uint8_t file_id[16]);

// fc_sealing_end removes it, or leaves it for another try.
void fc_sealing_end(struct fc_sealing *sealing, bool is_kept);

// What sending a file to a room is made of, in fc_chat_upload.c. fc_chat_find_room finds a room under the lock and
// copies what a transfer needs of it, which goes on without.
enum err fc_chat_find_room(struct fc_chat *chat, const char *room, struct fc_chat_place *out,
    struct err_detail *why) ERR_CHECKED;

// fc_chat_announce announces a file that was shared with the room; announced again it is there once.
enum err fc_chat_announce(struct fc_chat *chat, const char *room, const uint8_t file_id[16],
    const struct fc_chat_file *file, const char *name, struct err_detail *why) ERR_CHECKED;
// fc_chat_announce_plain looks at the open file first.
enum err fc_chat_announce_plain(struct fc_chat *chat, const struct fc_chat_place *place, int fd, uint64_t size,
    const uint8_t file_id[16], const char *name, struct err_detail *why) ERR_CHECKED;

// fc_chat_finish_sealed announces what was stored of a sealed file, if it is that. out describes the file itself.
enum err fc_chat_finish_sealed(struct fc_chat *chat, const struct fc_chat_place *place, struct fc_sealing *sealing,
    const struct fc_file *stored, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

// fc_chat_is_worth_keeping tells failures after which the same upload can go on.
bool fc_chat_is_worth_keeping(enum err err);

// fc_sealing_spool_path is where sealed bytes of a file on the server go while they are fetched.
enum err fc_sealing_spool_path(const uint8_t *file_id, size_t size, char out[FC_SEALING_PATH_MAX_BYTES],
    struct err_detail *why) ERR_CHECKED;

#endif
