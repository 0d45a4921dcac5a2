// One run looks at both sides, decides for each name, and acts. A run that is killed loses its memory only: what it has
// made alike is found alike by the next one.
#include "client/fc_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "client/fc_sync_priv.h"
#include "client/fc_tree.h"

static bool
is_fatal(enum err err)
{
    return err == ERR_NO_MEMORY || err == ERR_UNAVAILABLE || err == ERR_CLOSED || err == ERR_TIMEOUT ||
           err == ERR_UNAUTHENTICATED || err == ERR_CANCELLED || err == ERR_NO_SPACE || err == ERR_UNIMPLEMENTED;
}

// --- What is here ---------------------------------------------------------------------------------------------------

static bool
ends_with(const char *name, const char *end)
{
    size_t size = strlen(name);
    size_t end_size = strlen(end);
    return size > end_size && strcmp(name + size - end_size, end) == 0;
}

static enum err
visit(void *context, const struct fc_tree_entry *entry, struct err_detail *why)
{
    struct fc_sync_state *run = context;
    const struct fc_sync_file file = {
        .name = (char *)(uintptr_t)entry->name,
        .size_bytes = entry->size_bytes,
        .modified_ns = entry->modified_ns,
        .inode = entry->inode,
    };

    (void)why;
    if (ends_with(entry->name, ".part") || ends_with(entry->name, ".part.journal")) {
        fc_sync_tell(run, FC_SYNC_SKIPPED, entry->name, "it belongs to a download that has not ended");
        return ERR_OK;
    }
    return fc_sync_files_add(&run->local, &file);
}

static void
on_skipped(void *context, const char *name, const char *reason)
{
    fc_sync_tell(context, FC_SYNC_SKIPPED, name, reason);
}

// --- Deciding -------------------------------------------------------------------------------------------------------

// compare_sides finds out what has changed since the base. A new time or a new version of the same content is no
// change.
static enum err
compare_sides(struct fc_sync_state *run, struct fc_sync_item *item, bool *is_alike_out, struct err_detail *why)
{
    const struct fc_sync_file *base = item->base;
    uint8_t md5[DIGEST_MD5_BYTES];
    bool has_md5 = false;

    *is_alike_out = false;
    item->is_remote_changed =
        base == NULL || item->remote == NULL
            ? (base != NULL) != (item->remote != NULL)
            : item->remote->version != base->version && memcmp(item->remote->md5, base->md5, sizeof(md5)) != 0;
    if (item->local == NULL) {
        item->is_local_changed = base != NULL;
        return ERR_OK;
    }
    item->is_local_changed =
        base == NULL || item->local->size_bytes != base->size_bytes || item->local->modified_ns != base->modified_ns;
    bool is_maybe_same = base != NULL && item->local->size_bytes == base->size_bytes;
    bool is_maybe_alike = item->remote != NULL && item->local->size_bytes == item->remote->size_bytes;
    if (item->is_local_changed && (is_maybe_same || is_maybe_alike)) {
        enum err err = fc_sync_hash(run, item->local, md5, why);
        if (err != ERR_OK) {
            return err;
        }
        has_md5 = true;
        item->is_local_changed = !(is_maybe_same && memcmp(md5, base->md5, sizeof(md5)) == 0);
    }
    const uint8_t *here = has_md5 ? md5 : base != NULL && !item->is_local_changed ? base->md5 : NULL;
    *is_alike_out = is_maybe_alike && here != NULL && memcmp(here, item->remote->md5, sizeof(md5)) == 0;
    return ERR_OK;
}

static enum err
keep_base(struct fc_sync_state *run, const struct fc_sync_item *item)
{
    return item->base != NULL ? fc_sync_remember(&run->next, item->name, item->base) : ERR_OK;
}

// choose says what is to be done with a name that is not alike on both sides.
static bool
choose(const struct fc_sync_state *run, const struct fc_sync_item *item, enum fc_sync_action *action_out)
{
    bool is_here = item->local != NULL;
    bool is_there = item->remote != NULL;

    if (!is_here && !is_there) {
        return false;
    }
    if (is_here && is_there) {
        *action_out = item->is_local_changed && item->is_remote_changed ? FC_SYNC_CONFLICT
                      : item->is_local_changed                          ? FC_SYNC_UPLOAD
                                                                        : FC_SYNC_DOWNLOAD;
    } else if (is_here) {
        bool is_deleted_there = item->base != NULL && !item->is_local_changed;
        *action_out = !is_deleted_there        ? FC_SYNC_UPLOAD
                      : run->sync->is_deleting ? FC_SYNC_DELETE_HERE
                                               : FC_SYNC_DELETED_THERE;
    } else {
        bool is_deleted_here = item->base != NULL && !item->is_remote_changed;
        *action_out = !is_deleted_here         ? FC_SYNC_DOWNLOAD
                      : run->sync->is_deleting ? FC_SYNC_DELETE_THERE
                                               : FC_SYNC_DELETED_HERE;
    }
    return true;
}

static enum err
act(struct fc_sync_state *run, const struct fc_sync_item *item, enum fc_sync_action action, struct err_detail *why)
{
    switch (action) {
    case FC_SYNC_UPLOAD:
        return fc_sync_send(run, item->local, item->name, item->remote != NULL ? item->remote->version : 0, &run->next,
            why);
    case FC_SYNC_DOWNLOAD:
        return fc_sync_fetch(run, item->name, item->remote, item->local, why);
    case FC_SYNC_DELETE_HERE:
        return fc_sync_delete_here(run, item->local, why);
    case FC_SYNC_DELETE_THERE:
        return fc_sync_delete_there(run, item->remote, why);
    case FC_SYNC_CONFLICT:
        return fc_sync_keep_both(run, item, why);
    case FC_SYNC_DELETED_HERE:
    case FC_SYNC_DELETED_THERE:
    case FC_SYNC_SKIPPED:
    case FC_SYNC_FAILED:
        break;
    }
    return keep_base(run, item);
}

static enum err
do_item(struct fc_sync_state *run, struct fc_sync_item *item)
{
    struct err_detail why = {.message = ""};
    enum fc_sync_action action = FC_SYNC_UPLOAD;
    bool is_alike = false;

    if (run->sync->is_cancelled != NULL && run->sync->is_cancelled(run->sync->context)) {
        return ERR_CANCELLED;
    }
    enum err err = compare_sides(run, item, &is_alike, &why);
    if (err == ERR_OK && is_alike) {
        struct fc_sync_file state = *item->local;
        state.version = item->remote->version;
        memcpy(state.md5, item->remote->md5, sizeof(state.md5));
        return fc_sync_remember(&run->next, item->name, &state);
    }
    if (err == ERR_OK && !choose(run, item, &action)) {
        return ERR_OK;
    }
    if (err == ERR_OK) {
        fc_sync_tell(run, action, item->name, "");
        err = run->sync->is_dry_run ? ERR_OK : act(run, item, action, &why);
    }
    if (err == ERR_OK) {
        return ERR_OK;
    }
    if (is_fatal(err)) {
        *run->why = why;
        return err;
    }
    err = fc_sync_note_failure(run, item->name, err, err_message(&why, err));
    // One that is being sent has its place already.
    return err == ERR_OK && fc_sync_files_find(&run->next, item->name) == NULL ? keep_base(run, item) : err;
}

// next_name is the smallest name that is left on any side.
static const char *
next_name(const struct fc_sync_state *run, const size_t at[3], size_t prefix_size)
{
    const char *name = NULL;

    if (at[0] < run->local.count) {
        name = run->local.files[at[0]].name;
    }
    if (at[1] < run->remote.count && (name == NULL || strcmp(run->remote.files[at[1]].name + prefix_size, name) < 0)) {
        name = run->remote.files[at[1]].name + prefix_size;
    }
    if (at[2] < run->base.files.count && (name == NULL || strcmp(run->base.files.files[at[2]].name, name) < 0)) {
        name = run->base.files.files[at[2]].name;
    }
    return name;
}

static enum err
do_all(struct fc_sync_state *run)
{
    size_t prefix_size = strlen(run->sync->remote) + 1;
    size_t at[3] = {0};
    const char *name;
    enum err err = ERR_OK;

    while (err == ERR_OK && (name = next_name(run, at, prefix_size)) != NULL) {
        struct fc_sync_item item = {.name = name};
        if (at[0] < run->local.count && strcmp(run->local.files[at[0]].name, name) == 0) {
            item.local = &run->local.files[at[0]++];
        }
        if (at[1] < run->remote.count && strcmp(run->remote.files[at[1]].name + prefix_size, name) == 0) {
            item.remote = &run->remote.files[at[1]++];
        }
        if (at[2] < run->base.files.count && strcmp(run->base.files.files[at[2]].name, name) == 0) {
            item.base = &run->base.files.files[at[2]++];
        }
        err = do_item(run, &item);
    }
    // After an early end the rest is remembered as it was.
    for (; err != ERR_OK && at[2] < run->base.files.count; at[2]++) {
        const struct fc_sync_file *left = &run->base.files.files[at[2]];
        if (fc_sync_files_find(&run->next, left->name) == NULL &&
            fc_sync_remember(&run->next, left->name, left) != ERR_OK) {
            break;
        }
    }
    return err;
}

// --- One run --------------------------------------------------------------------------------------------------------

static enum err
look(struct fc_sync_state *run)
{
    char prefix[FC_SYNC_NAME_MAX_BYTES];
    const struct fc_sync *sync = run->sync;

    enum err err = text_check_file_name(sync->remote, run->why);
    if (err == ERR_OK) {
        err = fc_sync_base_open(&run->base, run->session, sync->folder, sync->remote, run->why);
    }
    if (err == ERR_OK) {
        run->root_fd = open(run->base.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        err = run->root_fd < 0 ? err_from_errno(errno) : ERR_OK;
    }
    if (err == ERR_OK) {
        err = fc_tree_walk(run->base.folder, visit, on_skipped, run, run->why);
    }
    if (err == ERR_OK) {
        fc_sync_files_sort(&run->local);
        (void)snprintf(prefix, sizeof(prefix), "%s/", sync->remote);
        err = fc_remote_list_fill(&run->remote, run->session, prefix, NULL, run->why);
    }
    if (err == ERR_OK && sync->is_deleting && run->base.files.count != 0 &&
        (run->local.count == 0) != (run->remote.count == 0)) {
        return err_fail(run->why, ERR_PRECONDITION,
            "all files are gone %s: --delete does not delete all that is left; do that yourself if it is meant",
            run->local.count == 0 ? "here" : "on the server");
    }
    return err;
}

// write_base remembers what is alike now. What could not be sent is not alike: then what was before stays.
static enum err
write_base(struct fc_sync_state *run)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < run->next.count; i++) {
        struct fc_sync_file *file = &run->next.files[i];
        const struct fc_sync_file *before = fc_sync_files_find(&run->base.files, file->name);
        if (file->is_pending && before != NULL) {
            char *name = file->name;
            *file = *before;
            file->name = name;
        }
    }
    for (size_t i = 0; i < run->copies.count && err == ERR_OK; i++) {
        err = fc_sync_remember(&run->next, run->copies.files[i].name, &run->copies.files[i]);
    }
    return err == ERR_OK ? fc_sync_base_write(&run->base, &run->next, run->why) : err;
}

static enum err
run_all(struct fc_sync_state *run)
{
    enum err err = look(run);
    if (err != ERR_OK) {
        return err;
    }
    err = fc_put_new(run->session, NULL, fc_sync_on_put, run, &run->put, run->why);
    if (err != ERR_OK) {
        return err;
    }
    err = do_all(run);
    struct err_detail put_why = {.message = ""};
    enum err put_err = fc_put_finish(run->put, &put_why);
    if (err == ERR_OK && put_err != ERR_OK) {
        *run->why = put_why;
        err = put_err;
    }
    if (!run->sync->is_dry_run) {
        struct err_detail why = *run->why;
        enum err write_err = write_base(run);
        if (err != ERR_OK) {
            *run->why = why;
        } else {
            err = write_err;
        }
    }
    if (err == ERR_OK && run->failed != 0) {
        return err_fail(run->why, run->first, "%llu files are not alike yet, the first being %s",
            (unsigned long long)run->failed, run->first_why.message);
    }
    return err;
}

enum err
fc_sync_run(struct fc_session *session, const struct fc_sync *sync, struct err_detail *why)
{
    struct err_detail detail = {.message = ""};
    struct fc_sync_state run = {
        .session = session,
        .sync = sync,
        .why = &detail,
        .root_fd = -1,
        .base = {.lock_fd = -1},
        .options = {.rate = sync->rate, .is_cancelled = sync->is_cancelled, .context = sync->context},
    };

    enum err err = run_all(&run);
    if (err != ERR_OK && why != NULL) {
        *why = detail;
    }
    fc_put_free(&run.put);
    if (run.root_fd >= 0) {
        close(run.root_fd);
    }
    fc_remote_list_free(&run.remote);
    fc_sync_files_free(&run.local);
    fc_sync_files_free(&run.next);
    fc_sync_files_free(&run.copies);
    fc_sync_base_close(&run.base);
    return err;
}
