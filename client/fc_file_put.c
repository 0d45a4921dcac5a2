// Small files, many with each call. Each batch gathers files in memory until it is full; then it is sent, and the next
// one is filled meanwhile. The calls carry their request's bytes themselves, so that a lost answer is asked for again.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "client/fc_transfer_priv.h"
#include "client/fc_transfer_source_priv.h"

#include "fc/filestore/v1/filestore.stub.h"

enum {
    BATCH_FILES_MAX = 1000,
    BATCH_BYTES_MAX = 1024 * 1024,
    BATCHES = 4,
    PUT_TIMEOUT_MS = 120 * 1000,
    MODE_MASK = 07777,
};

struct put_file {
    Fc__Filestore__V1__PutFile message;
    char *name;
    uint8_t *data;
    uint8_t md5[DIGEST_MD5_BYTES];
};

struct batch {
    struct fc_put *put;
    struct rpc_unary call;
    struct put_file *files; // BATCH_FILES_MAX of them
    Fc__Filestore__V1__PutFile **messages;
    size_t count;
    size_t bytes;
    bool is_sent;
    bool is_done; // guarded by the put's mutex
};

struct fc_put {
    struct fc_session *session;
    char *room;
    fc_put_result_fn *on_result;
    void *context;
    struct batch batches[BATCHES];
    unsigned current; // that is being filled; the one after it was sent first
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

enum err
fc_put_new(struct fc_session *session, const char *room, fc_put_result_fn *on_result, void *context,
    struct fc_put **out, struct err_detail *why)
{
    struct fc_put *put = calloc(1, sizeof(*put));

    if (put == NULL) {
        return err_fail(why, ERR_NO_MEMORY, "no memory to send files");
    }
    put->session = session;
    put->on_result = on_result;
    put->context = context;
    pthread_mutex_init(&put->mutex, NULL);
    pthread_cond_init(&put->changed, NULL);
    put->room = strdup(room != NULL ? room : "");
    bool is_good = put->room != NULL;
    for (unsigned i = 0; i < BATCHES && is_good; i++) {
        struct batch *batch = &put->batches[i];
        batch->put = put;
        batch->files = calloc(BATCH_FILES_MAX, sizeof(batch->files[0]));
        batch->messages = calloc(BATCH_FILES_MAX, sizeof(batch->messages[0]));
        is_good = batch->files != NULL && batch->messages != NULL;
    }
    if (!is_good) {
        fc_put_free(&put);
        return err_fail(why, ERR_NO_MEMORY, "no memory to send files");
    }
    *out = put;
    return ERR_OK;
}

static void
empty(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        free(batch->files[i].name);
        free(batch->files[i].data);
        memset(&batch->files[i], 0, sizeof(batch->files[i]));
    }
    batch->count = 0;
    batch->bytes = 0;
    batch->is_sent = false;
    batch->is_done = false;
}

static void
on_put(struct rpc_unary *call)
{
    struct batch *batch = call->context;
    struct fc_put *put = batch->put;

    pthread_mutex_lock(&put->mutex);
    batch->is_done = true;
    pthread_cond_broadcast(&put->changed);
    pthread_mutex_unlock(&put->mutex);
}

static void
send_batch(struct batch *batch)
{
    Fc__Filestore__V1__PutRequest request = FC__FILESTORE__V1__PUT_REQUEST__INIT;

    request.room = batch->put->room;
    request.files = batch->messages;
    request.n_files = batch->count;
    batch->is_sent = true;
    fc_filestore_v1_file_store_init(&batch->call, fc_session_channel(batch->put->session));
    batch->call.is_idempotent = true;
    batch->call.timeout_ms = PUT_TIMEOUT_MS;
    batch->call.on_done = on_put;
    batch->call.context = batch;
    fc_filestore_v1_file_store_put_start(&batch->call, &request);
}

// tell_one checks what the server says of one file.
static void
tell_one(const struct batch *batch, size_t index, const Fc__Filestore__V1__PutResult *result)
{
    const struct put_file *sent = &batch->files[index];
    const struct fc_put *put = batch->put;
    struct fc_file file;
    struct err_detail why = {.message = ""};

    if (result->code != RPC_OK) {
        enum err err = rpc_code_to_err((enum rpc_code)result->code);
        put->on_result(put->context, sent->name, NULL, err == ERR_OK ? ERR_PROTOCOL : err, result->message);
        return;
    }
    enum err err = fc_file_from_wire(result->file, &file, &why);
    if (err == ERR_OK && (memcmp(file.md5, sent->md5, sizeof(file.md5)) != 0 || strcmp(file.name, sent->name) != 0)) {
        err = err_fail(&why, ERR_CORRUPT, "the server has stored something else: do not rely on it");
    }
    put->on_result(put->context, sent->name, err == ERR_OK ? &file : NULL, err, why.message);
}

// settle waits for a batch that was sent, and tells what became of its files.
static enum err
settle(struct batch *batch, struct err_detail *why)
{
    struct fc_put *put = batch->put;

    if (!batch->is_sent) {
        return ERR_OK;
    }
    pthread_mutex_lock(&put->mutex);
    while (!batch->is_done) {
        pthread_cond_wait(&put->changed, &put->mutex);
    }
    pthread_mutex_unlock(&put->mutex);
    enum err err = fc_transfer_error(&batch->call);
    if (err != ERR_OK) {
        err_fail(why, err, "%s", err_message(&batch->call.status.detail, err));
    } else {
        const Fc__Filestore__V1__PutResponse *response = fc_filestore_v1_file_store_put_response(&batch->call);
        if (response->n_results != batch->count) {
            err = err_fail(why, ERR_PROTOCOL, "the server answered for %zu files instead of %zu", response->n_results,
                batch->count);
        }
        for (size_t i = 0; i < batch->count && err == ERR_OK; i++) {
            tell_one(batch, i, response->results[i]);
        }
    }
    for (size_t i = 0; i < batch->count && err != ERR_OK; i++) {
        put->on_result(put->context, batch->files[i].name, NULL, err, why->message);
    }
    rpc_unary_deinit(&batch->call);
    empty(batch);
    return err;
}

// turn sends the current batch and makes another one current, when that is free.
static enum err
turn(struct fc_put *put, struct err_detail *why)
{
    struct batch *batch = &put->batches[put->current];

    if (batch->count != 0) {
        send_batch(batch);
        put->current = (put->current + 1) % BATCHES;
    }
    return settle(&put->batches[put->current], why);
}

// read_content reads what the source had when it was opened, and checks that it still has.
static enum err
read_content(const struct fc_source *source, struct put_file *file, struct err_detail *why)
{
    size_t size = (size_t)source->before.st_size;

    file->data = malloc(size + 1);
    if (file->data == NULL) {
        return err_fail(why, ERR_NO_MEMORY, "no memory to send \"%s\"", source->path);
    }
    enum err err = file_read_at(source->fd, file->data, size, 0);
    if (err == ERR_OUT_OF_RANGE) {
        return fc_source_changed(source, why);
    }
    if (err != ERR_OK) {
        return err_fail(why, err, "cannot read \"%s\": %s", source->path, err_sentence(err));
    }
    err = fc_source_check(source, why);
    return err == ERR_OK ? digest_of(DIGEST_MD5, bytes_view_of(file->data, size), file->md5) : err;
}

static enum err
add_to(struct batch *batch, const struct fc_upload *what, const struct fc_source *source, struct err_detail *why)
{
    struct put_file *file = &batch->files[batch->count];
    Fc__Filestore__V1__PutFile *message = &file->message;

    file->name = strdup(what->name);
    enum err err = file->name != NULL ? read_content(source, file, why) : ERR_NO_MEMORY;
    if (err != ERR_OK) {
        free(file->name);
        free(file->data);
        memset(file, 0, sizeof(*file));
        return err;
    }
    fc__filestore__v1__put_file__init(message);
    message->name = file->name;
    message->mime_type = (char *)(uintptr_t)fc_source_mime_type(source, what->name);
    message->modified_at_ms = fc_source_modified_ms(&source->before);
    message->mode = source->before.st_mode & MODE_MASK;
    message->md5.data = file->md5;
    message->md5.len = sizeof(file->md5);
    message->is_version_checked = what->is_version_checked;
    message->expected_version = what->expected_version;
    message->data.data = file->data;
    message->data.len = (size_t)source->before.st_size;
    batch->messages[batch->count++] = message;
    batch->bytes += message->data.len;
    return ERR_OK;
}

enum err
fc_put_add(struct fc_put *put, const struct fc_upload *what, struct err_detail *why)
{
    struct fc_source source = {.fd = -1};
    struct batch *batch = &put->batches[put->current];

    enum err err = text_check_file_name(what->name, why);
    if (err == ERR_OK) {
        err = fc_source_open(&source, what, why);
    }
    if (err == ERR_OK && (source.is_stream || source.before.st_size > FC_PUT_FILE_MAX_BYTES)) {
        err = fc_source_changed(&source, why);
    }
    if (err == ERR_OK &&
        (batch->count == BATCH_FILES_MAX || batch->bytes + (size_t)source.before.st_size > BATCH_BYTES_MAX)) {
        err = turn(put, why);
        batch = &put->batches[put->current];
    }
    return err == ERR_OK ? add_to(batch, what, &source, why) : err;
}

enum err
fc_put_finish(struct fc_put *put, struct err_detail *why)
{
    struct batch *last = &put->batches[put->current];
    enum err first = ERR_OK;

    if (last->count != 0) {
        send_batch(last);
    }
    for (unsigned i = 1; i <= BATCHES; i++) {
        struct err_detail detail = {.message = ""};
        enum err err = settle(&put->batches[(put->current + i) % BATCHES], &detail);
        if (first == ERR_OK && err != ERR_OK) {
            first = err;
            *why = detail;
        }
    }
    return first;
}

void
fc_put_free(struct fc_put **put)
{
    if (*put == NULL) {
        return;
    }
    for (unsigned i = 0; i < BATCHES; i++) {
        struct batch *batch = &(*put)->batches[i];
        if (batch->is_sent) {
            struct err_detail ignored_why = {.message = ""};
            rpc_unary_cancel(&batch->call);
            enum err ignored = settle(batch, &ignored_why);
            (void)ignored;
        }
        if (batch->files != NULL) {
            empty(batch);
        }
        free(batch->files);
        free(batch->messages);
    }
    free((*put)->room);
    pthread_cond_destroy(&(*put)->changed);
    pthread_mutex_destroy(&(*put)->mutex);
    free(*put);
    *put = NULL;
}
