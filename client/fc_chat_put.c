// Many small files for a room: fc_put stores them, many with each call, and what was stored is announced.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/fc_chat_file.h"
#include "client/fc_chat_priv.h"
#include "client/fc_chat_sealing_priv.h"

enum {
    // Files that are on their way at once. Each keeps one or two descriptors until it is announced.
    PENDING_MAX = 100,
};

// pending is a file that was handed on and has no result yet.
struct pending {
    char *name;
    char *path;
    struct fc_sealing *sealing; // NULL in a plain room; there the next two say what is sent
    int fd;
    uint64_t size;
    struct pending *next;
};

struct fc_chat_put {
    struct fc_chat *chat;
    struct fc_chat_place place;
    struct fc_put *files;
    fc_put_result_fn *on_result;
    void *context;
    struct pending *pending;
    size_t pending_count;
};

static void
free_pending(struct pending *pending, bool is_kept)
{
    if (pending->sealing != NULL) {
        fc_sealing_end(pending->sealing, is_kept);
    }
    free(pending->sealing);
    if (pending->fd >= 0) {
        (void)close(pending->fd);
    }
    free(pending->name);
    free(pending->path);
    free(pending);
}

// stored_name is what the server calls a file.
static const char *
stored_name(const struct pending *pending)
{
    return pending->sealing != NULL ? strrchr(pending->sealing->path, '/') + 1 : pending->name;
}

static struct pending *
take_pending(struct fc_chat_put *put, const char *name)
{
    for (struct pending **at = &put->pending; *at != NULL; at = &(*at)->next) {
        struct pending *found = *at;
        if (strcmp(stored_name(found), name) == 0) {
            *at = found->next;
            put->pending_count--;
            return found;
        }
    }
    return NULL;
}

// settle announces a file that is stored, and tells what became of it.
static void
settle(struct fc_chat_put *put, struct pending *pending, const struct fc_file *stored)
{
    struct err_detail why = {0};
    struct fc_file file = *stored;
    enum err err = ERR_OK;

    if (pending->sealing != NULL) {
        err = fc_chat_finish_sealed(put->chat, &put->place, pending->sealing, stored, &file, &why);
    } else {
        err =
            fc_chat_announce_plain(put->chat, &put->place, pending->fd, pending->size, stored->id, pending->name, &why);
    }
    put->on_result(put->context, pending->name, err == ERR_OK ? &file : NULL, err, why.message);
    free_pending(pending, fc_chat_is_worth_keeping(err));
}

static void
on_stored(void *context, const char *name, const struct fc_file *file, enum err err, const char *message)
{
    struct fc_chat_put *put = context;
    struct pending *pending = take_pending(put, name);

    if (pending == NULL) {
        return;
    }
    if (file != NULL) {
        settle(put, pending, file);
        return;
    }
    put->on_result(put->context, pending->name, NULL, err, message);
    free_pending(pending, fc_chat_is_worth_keeping(err));
}

enum err
fc_chat_put_new(struct fc_chat *chat, const char *room, fc_put_result_fn *on_result, void *context,
    struct fc_chat_put **out, struct err_detail *why)
{
    struct fc_chat_put *put = calloc(1, sizeof(*put));

    if (put == NULL) {
        return err_fail(why, ERR_NO_MEMORY, "no memory to send files");
    }
    put->chat = chat;
    put->on_result = on_result;
    put->context = context;
    enum err err = fc_chat_find_room(chat, room, &put->place, why);
    if (err == ERR_OK) {
        err = fc_put_new(chat->session, put->place.id_text, on_stored, put, &put->files, why);
    }
    if (err != ERR_OK) {
        fc_chat_put_free(&put);
        return err;
    }
    *out = put;
    return ERR_OK;
}

static enum err
seal(struct fc_chat_put *put, struct pending *pending, struct err_detail *why)
{
    pending->sealing = calloc(1, sizeof(*pending->sealing));
    if (pending->sealing == NULL) {
        return ERR_NO_MEMORY;
    }
    return fc_sealing_begin(pending->sealing, put->chat->session, put->place.id_text, pending->path, pending->name,
        put->chat->options.keeps_metadata, NULL, why);
}

// open_plain keeps the file open until it is announced, stripped if it is a picture that has to be.
static enum err
open_plain(struct fc_chat_put *put, struct pending *pending, const struct fc_upload *what, struct err_detail *why)
{
    struct stat status;

    pending->fd = fcntl(what->fd, F_DUPFD_CLOEXEC, 0);
    if (pending->fd < 0 || fstat(pending->fd, &status) != 0) {
        return err_from_errno(errno);
    }
    pending->size = (uint64_t)status.st_size;
    return fc_chat_file_strip(put->chat->options.keeps_metadata, pending->path, &pending->fd, &pending->size, why);
}

// hand_on gives the file to the next batch; its result may come at once, but not before it is known to be pending.
static enum err
hand_on(struct fc_chat_put *put, struct pending *pending, const struct fc_upload *what, struct err_detail *why)
{
    struct fc_upload sent = *what;
    char name[FC_SEALING_PATH_MAX_BYTES];

    (void)snprintf(name, sizeof(name), "%s", stored_name(pending));
    sent.name = name;
    if (pending->sealing != NULL) {
        sent.path = pending->sealing->path;
        sent.fd = pending->sealing->fd;
    } else {
        sent.fd = pending->fd;
    }
    pending->next = put->pending;
    put->pending = pending;
    put->pending_count++;
    enum err err = fc_put_add(put->files, &sent, why);
    if (err != ERR_OK) {
        pending = take_pending(put, name);
        if (pending != NULL) {
            free_pending(pending, fc_chat_is_worth_keeping(err));
        }
    }
    return err;
}

enum err
fc_chat_put_add(struct fc_chat_put *put, const struct fc_upload *what, struct err_detail *why)
{
    struct fc_file stored = {0};
    char id[2 * E2E_ID_BYTES + 1];
    struct pending *pending = NULL;
    enum err err = put->pending_count >= PENDING_MAX ? fc_put_finish(put->files, why) : ERR_OK;

    if (err != ERR_OK) {
        return err;
    }
    pending = calloc(1, sizeof(*pending));
    if (pending == NULL) {
        return ERR_NO_MEMORY;
    }
    pending->fd = -1;
    pending->name = strdup(what->name);
    pending->path = strdup(what->path);
    err = pending->name == NULL || pending->path == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK) {
        err = put->place.row.is_plain ? open_plain(put, pending, what, why) : seal(put, pending, why);
    }
    if (err != ERR_OK) {
        free_pending(pending, false);
        return err;
    }
    if (pending->sealing == NULL || !pending->sealing->is_stored) {
        return hand_on(put, pending, what, why);
    }
    // An earlier try has stored it and not announced it.
    bytes_to_hex(bytes_view_of(pending->sealing->file_id, sizeof(pending->sealing->file_id)), id);
    err = fc_file_stat(put->chat->session, id, &stored, why);
    if (err == ERR_OK) {
        settle(put, pending, &stored);
    } else {
        free_pending(pending, fc_chat_is_worth_keeping(err));
    }
    return err;
}

enum err
fc_chat_put_finish(struct fc_chat_put *put, struct err_detail *why)
{
    return fc_put_finish(put->files, why);
}

void
fc_chat_put_free(struct fc_chat_put **put_ref)
{
    struct fc_chat_put *put = *put_ref;

    if (put == NULL) {
        return;
    }
    fc_put_free(&put->files);
    while (put->pending != NULL) {
        struct pending *pending = put->pending;
        put->pending = pending->next;
        free_pending(pending, true);
    }
    free(put);
    *put_ref = NULL;
}
