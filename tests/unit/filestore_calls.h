// For the tests of the FileStore service without a network: calls are made on the service itself, with a call object of
// the test. Included by one source of a program, because it has the runtime's functions in it.
#ifndef TESTS_FILESTORE_CALLS_H
#define TESTS_FILESTORE_CALLS_H

#include <errno.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "services/filestore/filestore_service.h"
#include "tests/unit/filestore_support.h"

#include "fc/filestore/v1/filestore.pb-c.h"

// The runtime's side of a call, as the handlers see it.
struct rpc_call {
    struct rpc_identity identity;
    uint8_t request_id[16];
    size_t request_id_size;
    const ProtobufCMessageDescriptor *output;
    sem_t answered;
    bool is_cancelled;

    enum err code;
    struct err_detail why;
    char reason[48];
    ProtobufCMessage *reply;
};

const struct rpc_identity *
rpc_call_identity(const struct rpc_call *call)
{
    return &call->identity;
}

struct bytes_view
rpc_call_request_id(const struct rpc_call *call)
{
    return bytes_view_of(call->request_id, call->request_id_size);
}

bool
rpc_call_is_cancelled(const struct rpc_call *call)
{
    return call->is_cancelled;
}

void
rpc_call_fail_detail(struct rpc_call *call, enum err code, const struct err_detail *why, const char *reason,
    uint32_t retry_after_ms)
{
    (void)retry_after_ms;
    call->code = code;
    if (why != NULL) {
        call->why = *why;
    }
    snprintf(call->reason, sizeof(call->reason), "%s", reason != NULL ? reason : "");
    sem_post(&call->answered);
}

void
rpc_call_fail(struct rpc_call *call, enum err code, const char *format, ...)
{
    va_list arguments;
    struct err_detail why = {.message = ""};
    va_start(arguments, format);
    vsnprintf(why.message, sizeof(why.message), format, arguments);
    va_end(arguments);
    rpc_call_fail_detail(call, code, &why, NULL, 0);
}

static inline void
on_reply(const ProtobufCMessage *message, void *closure_data)
{
    struct rpc_call *call = closure_data;
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size + 1);
    if (packed != NULL) {
        protobuf_c_message_pack(message, packed);
        call->reply = protobuf_c_message_unpack(call->output, NULL, size, packed);
    }
    free(packed);
    sem_post(&call->answered);
}

struct fixture {
    char dir[256];
    char blob_dir[300];
    struct store *store;
    struct blob_store *blobs;
    struct fake_rooms members;
    struct filestore_service *filestore;
    struct err_detail why;
    struct rpc_call call; // the last one
    uint8_t upload_id[16];
    uint8_t request_id[16];
    const uint8_t *user_id;
    struct filestore_service_options options; // what a test wants to be otherwise
    struct bytes hints;                       // that come with the next chunks
};

static inline void
forget_call(struct fixture *f)
{
    if (f->call.reply != NULL) {
        protobuf_c_message_free_unpacked(f->call.reply, NULL);
    }
    memset(&f->call, 0, sizeof(f->call));
}

static inline enum err
fake_find_user(void *context, struct store_tx *tx, const char *name, uint8_t id_out[16])
{
    (void)context;
    (void)tx;
    if (strcmp(name, "bob") != 0 && strcmp(name, "alice") != 0) {
        return ERR_NOT_FOUND;
    }
    memcpy(id_out, strcmp(name, "bob") == 0 ? bob : alice, 16);
    return ERR_OK;
}

static inline void
start(struct fixture *f)
{
    assert_int_equal(store_open(f->dir, &f->store, &f->why), ERR_OK);
    assert_int_equal(blob_store_open(f->blob_dir, &f->blobs, &f->why), ERR_OK);
    struct filestore_service_options options = f->options;
    options.store = f->store;
    options.blobs = f->blobs;
    options.find_member_room = fake_find_member_room;
    options.is_member = fake_is_member;
    options.find_user = fake_find_user;
    options.context = &f->members;
    assert_int_equal(filestore_service_new(&options, &f->filestore, &f->why), ERR_OK);
}

static inline void
stop(struct fixture *f)
{
    filestore_service_free(&f->filestore);
    blob_store_close(&f->blobs);
    store_close(&f->store);
}

static inline void
restart(struct fixture *f)
{
    stop(f);
    start(f);
}

static inline int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    make_temp_dir(f->dir, sizeof(f->dir));
    snprintf(f->blob_dir, sizeof(f->blob_dir), "%s/files", f->dir);
    f->members = (struct fake_rooms){.is_alice_in_den = true, .is_bob_in_den = true};
    f->user_id = alice;
    f->options.delete_grace_ms = INT64_C(7) * 24 * 3600 * 1000;
    start(f);
    *state = f;
    return 0;
}

static inline int
tear_down(void **state)
{
    struct fixture *f = *state;
    forget_call(f);
    stop(f);
    remove_temp_dir(f->dir);
    free(f);
    return 0;
}

static inline int
wait_for_answer(sem_t *answered)
{
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10 * (scale != NULL ? atoi(scale) : 1);
    int result = sem_timedwait(answered, &until);
    while (result != 0 && errno == EINTR) {
        result = sem_timedwait(answered, &until);
    }
    return result;
}

// call makes a call of f->user_id under f->request_id and waits for its answer, which is in f->call afterwards.
static inline enum err
call(struct fixture *f, const char *method, const ProtobufCMessage *request)
{
    ProtobufCService *service = filestore_service_rpc(f->filestore);
    const ProtobufCMethodDescriptor *descriptor =
        protobuf_c_service_descriptor_get_method_by_name(service->descriptor, method);
    assert_non_null(descriptor);
    forget_call(f);
    memcpy(f->call.identity.subject_id, f->user_id, 16);
    snprintf(f->call.identity.subject_name, sizeof(f->call.identity.subject_name), "%.5s", (const char *)f->user_id);
    memcpy(f->call.request_id, f->request_id, 16);
    f->call.request_id_size = 16;
    f->call.output = descriptor->output;
    assert_int_equal(sem_init(&f->call.answered, 0, 0), 0);
    service->invoke(service, (unsigned)(descriptor - service->descriptor->methods), request, on_reply, &f->call);
    assert_int_equal(wait_for_answer(&f->call.answered), 0);
    sem_destroy(&f->call.answered);
    assert_true((f->call.code == ERR_OK) == (f->call.reply != NULL));
    assert_true(f->call.code == ERR_OK || f->call.why.message[0] != '\0' || f->call.code == ERR_INTERNAL);
    return f->call.code;
}

static inline const Fc__Filestore__V1__SaveResponse *
plan(const struct fixture *f)
{
    return (const Fc__Filestore__V1__SaveResponse *)f->call.reply;
}

static inline const Fc__Filestore__V1__File *
committed(const struct fixture *f)
{
    return ((const Fc__Filestore__V1__CommitResponse *)f->call.reply)->file;
}

static inline enum err
save(struct fixture *f, const char *name, const char *room, uint64_t size_bytes)
{
    Fc__Filestore__V1__SaveRequest request = FC__FILESTORE__V1__SAVE_REQUEST__INIT;
    char room_copy[100];
    char name_copy[2000];
    snprintf(name_copy, sizeof(name_copy), "%s", name);
    snprintf(room_copy, sizeof(room_copy), "%s", room);
    request.name = name_copy;
    request.room = room_copy;
    request.size_bytes = size_bytes;
    enum err err = call(f, "Save", &request.base);
    if (err == ERR_OK) {
        assert_int_equal(plan(f)->upload_id.len, 16);
        memcpy(f->upload_id, plan(f)->upload_id.data, 16);
    }
    return err;
}

static const uint32_t chunk_size = FILESTORE_CHUNK_MIN_BYTES;
static uint8_t content[3 * FILESTORE_CHUNK_MIN_BYTES + 100];
static const uint64_t content_size = sizeof(content);
static const uint64_t content_chunks = 4;

static inline enum err
upload_bytes(struct fixture *f, uint64_t index, const uint8_t *data, size_t size, const uint8_t *md5)
{
    Fc__Filestore__V1__UploadRequest request = FC__FILESTORE__V1__UPLOAD_REQUEST__INIT;
    uint8_t own_md5[16];
    uint8_t *copy = malloc(size + 1);
    assert_non_null(copy);
    memcpy(copy, data, size);
    assert_int_equal(digest_of(DIGEST_MD5, bytes_view_of(data, size), own_md5), ERR_OK);
    if (md5 != NULL) {
        memcpy(own_md5, md5, 16);
    }
    request.upload_id = (ProtobufCBinaryData){.len = 16, .data = f->upload_id};
    request.index = index;
    request.md5 = (ProtobufCBinaryData){.len = 16, .data = own_md5};
    request.md5_hints = (ProtobufCBinaryData){.len = f->hints.size, .data = f->hints.data};
    request.data = (ProtobufCBinaryData){.len = size, .data = copy};
    enum err err = call(f, "Upload", &request.base);
    if (err == ERR_OK) {
        const Fc__Filestore__V1__UploadResponse *response = (const void *)f->call.reply;
        assert_int_equal(response->md5.len, 16);
        assert_memory_equal(response->md5.data, own_md5, 16);
    }
    free(copy);
    return err;
}

static inline enum err
upload(struct fixture *f, uint64_t index)
{
    uint64_t left = content_size - index * chunk_size;
    return upload_bytes(f, index, content + index * chunk_size, left < chunk_size ? left : chunk_size, NULL);
}

static inline enum err
commit(struct fixture *f, const uint8_t *md5)
{
    Fc__Filestore__V1__CommitRequest request = FC__FILESTORE__V1__COMMIT_REQUEST__INIT;
    uint8_t copy[16];
    request.upload_id = (ProtobufCBinaryData){.len = 16, .data = f->upload_id};
    if (md5 != NULL) {
        memcpy(copy, md5, 16);
        request.md5 = (ProtobufCBinaryData){.len = 16, .data = copy};
    }
    return call(f, "Commit", &request.base);
}

static inline enum err
cancel(struct fixture *f)
{
    Fc__Filestore__V1__CancelRequest request = FC__FILESTORE__V1__CANCEL_REQUEST__INIT;
    request.upload_id = (ProtobufCBinaryData){.len = 16, .data = f->upload_id};
    return call(f, "Cancel", &request.base);
}

static inline enum err
stat_file(struct fixture *f, const char *file, uint64_t first)
{
    Fc__Filestore__V1__StatRequest request = FC__FILESTORE__V1__STAT_REQUEST__INIT;
    char copy[2000];
    snprintf(copy, sizeof(copy), "%s", file);
    request.file = copy;
    request.first_segment = first;
    return call(f, "Stat", &request.base);
}

static inline enum err
download_as(struct fixture *f, uint64_t index, bool is_checked_by_caller)
{
    Fc__Filestore__V1__DownloadRequest request = FC__FILESTORE__V1__DOWNLOAD_REQUEST__INIT;
    request.file_id = (ProtobufCBinaryData){.len = 16, .data = f->upload_id};
    request.index = index;
    request.is_checked_by_caller = is_checked_by_caller;
    return call(f, "Download", &request.base);
}

static inline enum err
download(struct fixture *f, uint64_t index)
{
    return download_as(f, index, false);
}

// assert_content downloads all segments and compares them with `content`.
static inline void
assert_content(struct fixture *f)
{
    for (uint64_t i = 0; i < content_chunks; i++) {
        assert_int_equal(download(f, i), ERR_OK);
        const Fc__Filestore__V1__DownloadResponse *segment = (const void *)f->call.reply;
        uint64_t left = content_size - i * chunk_size;
        assert_int_equal(segment->data.len, left < chunk_size ? left : chunk_size);
        assert_memory_equal(segment->data.data, content + i * chunk_size, segment->data.len);
        uint8_t sha256[32];
        assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(segment->data.data, segment->data.len), sha256),
            ERR_OK);
        assert_int_equal(segment->sha256.len, 32);
        assert_memory_equal(segment->sha256.data, sha256, 32);
    }
    assert_int_equal(download(f, content_chunks), ERR_OUT_OF_RANGE);
}

static inline void
put_file(struct fixture *f, const char *name, const char *room, uint8_t request)
{
    memset(f->request_id, request, 16);
    assert_int_equal(save(f, name, room, content_size), ERR_OK);
    for (uint64_t i = 0; i < content_chunks; i++) {
        assert_int_equal(upload(f, i), ERR_OK);
    }
    assert_int_equal(commit(f, NULL), ERR_OK);
}

static inline void
content_digest(enum digest_kind kind, uint8_t *out)
{
    assert_int_equal(digest_of(kind, bytes_view_of(content, content_size), out), ERR_OK);
}

// path_of writes the path of an upload's or a file's content.
static inline void
path_of(const struct fixture *f, bool is_object, char *out, size_t capacity)
{
    char hex[33];
    bytes_to_hex(bytes_view_of(f->upload_id, 16), hex);
    if (is_object) {
        snprintf(out, capacity, "%s/objects/%.2s/%s", f->blob_dir, hex, hex);
    } else {
        snprintf(out, capacity, "%s/uploads/%s", f->blob_dir, hex);
    }
}

// What the listener offers to downloads by links, which nothing here begins.
void
rpc_content_set_user(struct rpc_content *download, void *user)
{
    (void)download;
    (void)user;
    fail();
}

void *
rpc_content_user(const struct rpc_content *download)
{
    (void)download;
    return NULL;
}

void
rpc_content_begin(struct rpc_content *download, unsigned status, const char *headers, uint64_t body_size)
{
    (void)download;
    (void)status;
    (void)headers;
    (void)body_size;
    fail();
}

void
rpc_content_answer(struct rpc_content *download, unsigned status, const char *headers, const char *text)
{
    (void)download;
    (void)status;
    (void)headers;
    (void)text;
    fail();
}

void
rpc_content_write(struct rpc_content *download, struct bytes *piece)
{
    (void)download;
    (void)piece;
    fail();
}

void
rpc_content_abort(struct rpc_content *download)
{
    (void)download;
    fail();
}

#endif
