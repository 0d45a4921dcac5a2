// The FileStore without a network: calls are made on the service itself, with a call object of this test.
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

static void
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
};

static void
forget_call(struct fixture *f)
{
    if (f->call.reply != NULL) {
        protobuf_c_message_free_unpacked(f->call.reply, NULL);
    }
    memset(&f->call, 0, sizeof(f->call));
}

static void
start(struct fixture *f)
{
    assert_int_equal(store_open(f->dir, &f->store, &f->why), ERR_OK);
    assert_int_equal(blob_store_open(f->blob_dir, &f->blobs, &f->why), ERR_OK);
    struct filestore_service_options options = {
        .store = f->store,
        .blobs = f->blobs,
        .find_member_room = fake_find_member_room,
        .is_member = fake_is_member,
        .context = &f->members,
    };
    assert_int_equal(filestore_service_new(&options, &f->filestore, &f->why), ERR_OK);
}

static void
stop(struct fixture *f)
{
    filestore_service_free(&f->filestore);
    blob_store_close(&f->blobs);
    store_close(&f->store);
}

static void
restart(struct fixture *f)
{
    stop(f);
    start(f);
}

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    make_temp_dir(f->dir, sizeof(f->dir));
    snprintf(f->blob_dir, sizeof(f->blob_dir), "%s/files", f->dir);
    f->members = (struct fake_rooms){.is_alice_in_den = true, .is_bob_in_den = true};
    f->user_id = alice;
    start(f);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    forget_call(f);
    stop(f);
    remove_temp_dir(f->dir);
    free(f);
    return 0;
}

static int
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
static enum err
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

static const Fc__Filestore__V1__SaveResponse *
plan(const struct fixture *f)
{
    return (const Fc__Filestore__V1__SaveResponse *)f->call.reply;
}

static const Fc__Filestore__V1__File *
committed(const struct fixture *f)
{
    return ((const Fc__Filestore__V1__CommitResponse *)f->call.reply)->file;
}

static enum err
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

static enum err
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

static enum err
upload(struct fixture *f, uint64_t index)
{
    uint64_t left = content_size - index * chunk_size;
    return upload_bytes(f, index, content + index * chunk_size, left < chunk_size ? left : chunk_size, NULL);
}

static enum err
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

static enum err
cancel(struct fixture *f)
{
    Fc__Filestore__V1__CancelRequest request = FC__FILESTORE__V1__CANCEL_REQUEST__INIT;
    request.upload_id = (ProtobufCBinaryData){.len = 16, .data = f->upload_id};
    return call(f, "Cancel", &request.base);
}

static enum err
stat_file(struct fixture *f, const char *file, uint64_t first)
{
    Fc__Filestore__V1__StatRequest request = FC__FILESTORE__V1__STAT_REQUEST__INIT;
    char copy[2000];
    snprintf(copy, sizeof(copy), "%s", file);
    request.file = copy;
    request.first_segment = first;
    return call(f, "Stat", &request.base);
}

static enum err
download(struct fixture *f, uint64_t index)
{
    Fc__Filestore__V1__DownloadRequest request = FC__FILESTORE__V1__DOWNLOAD_REQUEST__INIT;
    request.file_id = (ProtobufCBinaryData){.len = 16, .data = f->upload_id};
    request.index = index;
    return call(f, "Download", &request.base);
}

// assert_content downloads all segments and compares them with `content`.
static void
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

static void
put_file(struct fixture *f, const char *name, const char *room, uint8_t request)
{
    memset(f->request_id, request, 16);
    assert_int_equal(save(f, name, room, content_size), ERR_OK);
    for (uint64_t i = 0; i < content_chunks; i++) {
        assert_int_equal(upload(f, i), ERR_OK);
    }
    assert_int_equal(commit(f, NULL), ERR_OK);
}

static void
content_digest(enum digest_kind kind, uint8_t *out)
{
    assert_int_equal(digest_of(kind, bytes_view_of(content, content_size), out), ERR_OK);
}

// path_of writes the path of an upload's or a file's content.
static void
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

static void
test_a_file_goes_in_and_out_with_a_restart_between_all_steps(void **state)
{
    struct fixture *f = *state;
    uint8_t md5[16], sha256[32], first_id[16];
    content_digest(DIGEST_MD5, md5);
    content_digest(DIGEST_SHA256, sha256);
    assert_int_equal(save(f, "dir/a.bin", "", content_size), ERR_OK);
    assert_int_equal(plan(f)->chunk_size_bytes, chunk_size);
    assert_int_equal(plan(f)->chunk_count, content_chunks);
    assert_int_equal(plan(f)->arrived.len, 1);
    assert_int_equal(plan(f)->arrived.data[0], 0);
    memcpy(first_id, f->upload_id, 16);
    const uint64_t order[] = {3, 0, 2, 1};
    for (size_t i = 0; i < content_chunks; i++) {
        restart(f);
        assert_int_equal(upload(f, order[i]), ERR_OK);
    }
    restart(f);
    assert_int_equal(save(f, "dir/a.bin", "", content_size), ERR_OK);
    assert_memory_equal(f->upload_id, first_id, 16);
    assert_int_equal(plan(f)->arrived.len, 1);
    assert_int_equal(plan(f)->arrived.data[0], 15);
    assert_int_equal(commit(f, md5), ERR_OK);
    assert_memory_equal(committed(f)->md5.data, md5, 16);
    assert_memory_equal(committed(f)->sha256.data, sha256, 32);
    assert_int_equal(committed(f)->size_bytes, content_size);
    assert_string_equal(committed(f)->owner, "alice");
    assert_string_equal(committed(f)->room, "");
    int64_t created_ms = committed(f)->created_at_ms;
    restart(f);
    assert_int_equal(commit(f, md5), ERR_OK);
    assert_int_equal(committed(f)->created_at_ms, created_ms);
    assert_int_equal(save(f, "dir/a.bin", "", content_size), ERR_OK);
    assert_int_equal(plan(f)->arrived.data[0], 15);
    assert_content(f);
}

static void
test_a_damaged_chunk_is_refused_and_named_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    uint8_t wrong[16] = {1};
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(upload_bytes(f, 2, content + 2 * chunk_size, chunk_size, wrong), ERR_CORRUPT);
    assert_string_equal(f->call.reason, "CHUNK_MD5_MISMATCH");
    assert_non_null(strstr(f->call.why.message, "chunk 2 "));
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(plan(f)->arrived.len, 1);
    assert_int_equal(plan(f)->arrived.data[0], 0);
    assert_int_equal(upload(f, 2), ERR_OK);
}

static void
test_chunks_of_the_wrong_place_size_or_owner_are_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t right_id[16];
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    memcpy(right_id, f->upload_id, 16);
    assert_int_equal(upload_bytes(f, 4, content, 100, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, UINT64_MAX, content, 100, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, 0, content, chunk_size - 1, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, 3, content, 101, NULL), ERR_OUT_OF_RANGE);
    assert_int_equal(upload_bytes(f, 0, content, 0, NULL), ERR_OUT_OF_RANGE);
    f->user_id = bob;
    assert_int_equal(upload(f, 0), ERR_NOT_FOUND);
    assert_int_equal(commit(f, NULL), ERR_NOT_FOUND);
    assert_int_equal(cancel(f), ERR_OK); // says nothing about somebody else's upload, and does nothing to it
    f->user_id = alice;
    f->upload_id[0] ^= 1;
    assert_int_equal(upload(f, 0), ERR_NOT_FOUND);
    memcpy(f->upload_id, right_id, 16);
    assert_int_equal(upload(f, 0), ERR_OK);
}

static void
test_requests_with_ids_and_digests_of_the_wrong_size_are_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[17] = {0};
    for (size_t size = 0; size <= 17; size++) {
        ProtobufCBinaryData id = {.len = size, .data = bytes};
        Fc__Filestore__V1__UploadRequest up = FC__FILESTORE__V1__UPLOAD_REQUEST__INIT;
        Fc__Filestore__V1__CommitRequest com = FC__FILESTORE__V1__COMMIT_REQUEST__INIT;
        Fc__Filestore__V1__CancelRequest can = FC__FILESTORE__V1__CANCEL_REQUEST__INIT;
        Fc__Filestore__V1__DownloadRequest down = FC__FILESTORE__V1__DOWNLOAD_REQUEST__INIT;
        up.upload_id = com.upload_id = can.upload_id = down.file_id = id;
        up.md5 = (ProtobufCBinaryData){.len = 16, .data = bytes};
        enum err expected = size == 16 ? ERR_NOT_FOUND : ERR_INVALID;
        assert_int_equal(call(f, "Upload", &up.base), expected);
        assert_int_equal(call(f, "Commit", &com.base), expected);
        assert_int_equal(call(f, "Download", &down.base), expected);
        assert_int_equal(call(f, "Cancel", &can.base), size == 16 ? ERR_OK : ERR_INVALID);
        if (size != 16) {
            up.upload_id = com.upload_id = (ProtobufCBinaryData){.len = 16, .data = bytes};
            up.md5 = com.md5 = id;
            assert_int_equal(call(f, "Upload", &up.base), ERR_INVALID);
            assert_int_equal(call(f, "Commit", &com.base), size == 0 ? ERR_NOT_FOUND : ERR_INVALID);
        }
    }
}

static void
test_a_chunk_sent_twice_is_fine_but_not_with_other_content(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    assert_int_equal(upload_bytes(f, 0, content + chunk_size, chunk_size, NULL), ERR_CONFLICT);
    for (uint64_t i = 1; i < content_chunks; i++) {
        assert_int_equal(upload(f, i), ERR_OK);
    }
    assert_int_equal(commit(f, NULL), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    assert_int_equal(upload_bytes(f, 0, content + chunk_size, chunk_size, NULL), ERR_CONFLICT);
    assert_content(f);
}

static void
test_commit_names_missing_chunks_and_a_wrong_digest(void **state)
{
    struct fixture *f = *state;
    uint8_t md5[16];
    content_digest(DIGEST_MD5, md5);
    md5[0] ^= 1;
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    assert_int_equal(upload(f, 2), ERR_OK);
    assert_int_equal(commit(f, NULL), ERR_PRECONDITION);
    assert_string_equal(f->call.reason, "CHUNKS_MISSING");
    assert_non_null(strstr(f->call.why.message, "1, 3"));
    assert_int_equal(upload(f, 1), ERR_OK);
    assert_int_equal(upload(f, 3), ERR_OK);
    assert_int_equal(commit(f, md5), ERR_CORRUPT);
    assert_string_equal(f->call.reason, "FILE_MD5_MISMATCH");
    assert_int_equal(stat_file(f, "a", 0), ERR_NOT_FOUND);
    md5[0] ^= 1;
    assert_int_equal(commit(f, md5), ERR_OK);
    md5[0] ^= 1;
    assert_int_equal(commit(f, md5), ERR_CORRUPT);
    assert_int_equal(stat_file(f, "a", 0), ERR_OK);
}

static void
test_an_empty_file_has_no_chunks(void **state)
{
    struct fixture *f = *state;
    static const uint8_t md5_of_nothing[16] = {0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04, 0xe9, 0x80, 0x09, 0x98,
        0xec, 0xf8, 0x42, 0x7e};
    assert_int_equal(save(f, "empty", "", 0), ERR_OK);
    assert_int_equal(plan(f)->chunk_count, 0);
    assert_int_equal(commit(f, md5_of_nothing), ERR_OK);
    assert_memory_equal(committed(f)->md5.data, md5_of_nothing, 16);
    restart(f);
    assert_int_equal(stat_file(f, "empty", 0), ERR_OK);
    assert_int_equal(download(f, 0), ERR_OUT_OF_RANGE);
}

static void
test_the_same_request_plans_only_one_file(void **state)
{
    struct fixture *f = *state;
    uint8_t first[16];
    assert_int_equal(save(f, "a", "", 10), ERR_OK);
    memcpy(first, f->upload_id, 16);
    assert_int_equal(save(f, "a", "", 11), ERR_CONFLICT);
    assert_int_equal(save(f, "b", "", 10), ERR_CONFLICT);
    assert_int_equal(save(f, "a", "den", 10), ERR_CONFLICT);
    f->user_id = bob;
    assert_int_equal(save(f, "a", "", 10), ERR_OK);
    assert_memory_not_equal(f->upload_id, first, 16);
}

static void
test_bad_plans_are_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(save(f, "", "", 1), ERR_INVALID);
    assert_int_equal(save(f, "../a", "", 1), ERR_INVALID);
    assert_int_equal(save(f, "/etc/passwd", "", 1), ERR_INVALID);
    assert_int_equal(save(f, "a\nb", "", 1), ERR_INVALID);
    assert_int_equal(save(f, "a", "", FILESTORE_FILE_MAX_BYTES + 1), ERR_INVALID);
    assert_int_equal(save(f, "a", "", FILESTORE_FILE_MAX_BYTES), ERR_NO_SPACE);
    assert_string_equal(f->call.reason, "NO_SPACE");
    assert_int_equal(save(f, "a", "nowhere", 1), ERR_NOT_FOUND);
    assert_int_equal(save(f, "a", "attic", 1), ERR_DENIED);
}

static void
test_cancel_leaves_nothing_and_is_too_late_for_a_file(void **state)
{
    struct fixture *f = *state;
    char path[512];
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    assert_int_equal(upload(f, 0), ERR_OK);
    path_of(f, false, path, sizeof(path));
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(cancel(f), ERR_OK);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(cancel(f), ERR_OK);
    assert_int_equal(upload(f, 1), ERR_NOT_FOUND);
    assert_int_equal(commit(f, NULL), ERR_NOT_FOUND);
    put_file(f, "a", "", 0);
    assert_int_equal(cancel(f), ERR_PRECONDITION);
    assert_content(f);
}

static void
test_files_of_others_are_as_good_as_not_there(void **state)
{
    struct fixture *f = *state;
    char hex[33];
    put_file(f, "mine", "", 1);
    bytes_to_hex(bytes_view_of(f->upload_id, 16), hex);
    f->user_id = bob;
    assert_int_equal(download(f, 0), ERR_NOT_FOUND);
    struct err_detail theirs = f->call.why;
    assert_int_equal(stat_file(f, hex, 0), ERR_NOT_FOUND);
    f->upload_id[3] ^= 1;
    assert_int_equal(download(f, 0), ERR_NOT_FOUND);
    assert_string_equal(f->call.why.message, theirs.message);
}

static void
test_a_room_sees_the_file_while_one_is_in_it(void **state)
{
    struct fixture *f = *state;
    put_file(f, "plan.txt", "den", 1);
    assert_string_equal(committed(f)->room, "den");
    f->user_id = bob;
    assert_int_equal(stat_file(f, "den/plan.txt", 0), ERR_OK);
    const Fc__Filestore__V1__StatResponse *stat = (const void *)f->call.reply;
    assert_int_equal(stat->segment_md5s.len, content_chunks * 16);
    assert_int_equal(stat->segment_sha256s.len, content_chunks * 32);
    assert_int_equal(stat_file(f, "den/plan.txt", 3), ERR_OK);
    assert_int_equal(stat_file(f, "den/plan.txt", 5), ERR_OUT_OF_RANGE);
    assert_content(f);
    f->members.is_bob_in_den = false;
    assert_int_equal(download(f, 0), ERR_NOT_FOUND);
    assert_int_equal(stat_file(f, "den/plan.txt", 0), ERR_NOT_FOUND);
}

static void
test_a_file_is_not_shared_with_a_room_that_its_sender_has_left(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(save(f, "a", "den", 0), ERR_OK);
    f->members.is_alice_in_den = false;
    assert_int_equal(commit(f, NULL), ERR_DENIED);
    assert_int_equal(cancel(f), ERR_OK);
}

static void
test_list_goes_on_where_the_page_ended(void **state)
{
    struct fixture *f = *state;
    Fc__Filestore__V1__ListRequest request = FC__FILESTORE__V1__LIST_REQUEST__INIT;
    char token[2000] = "";
    const char *expected[] = {"a", "b", "c"};
    for (uint8_t i = 0; i < 3; i++) {
        memset(f->request_id, i, 16);
        assert_int_equal(save(f, expected[i], "", 0), ERR_OK);
        assert_int_equal(commit(f, NULL), ERR_OK);
    }
    request.limit = 1;
    request.page_token = token;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(call(f, "List", &request.base), ERR_OK);
        const Fc__Filestore__V1__ListResponse *page = (const void *)f->call.reply;
        assert_int_equal(page->n_files, 1);
        assert_string_equal(page->files[0]->name, expected[i]);
        snprintf(token, sizeof(token), "%s", page->next_page_token);
    }
    assert_string_equal(token, "");
    snprintf(token, sizeof(token), "nonsense");
    assert_int_equal(call(f, "List", &request.base), ERR_INVALID);
    token[0] = '\0';
    request.limit = 1001;
    assert_int_equal(call(f, "List", &request.base), ERR_INVALID);
}

static void
test_damage_on_the_disk_is_told_and_not_sent(void **state)
{
    struct fixture *f = *state;
    char path[512];
    put_file(f, "a.bin", "", 1);
    path_of(f, true, path, sizeof(path));
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)chunk_size + 7, SEEK_SET), 0);
    assert_int_equal(fputc(content[chunk_size + 7] ^ 1, file) == EOF, 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(download(f, 0), ERR_OK);
    assert_int_equal(download(f, 1), ERR_CORRUPT);
    assert_non_null(strstr(f->call.why.message, "segment 1 of \"a.bin\""));
    assert_int_equal(unlink(path), 0);
    restart(f);
    assert_int_equal(download(f, 0), ERR_CORRUPT);
}

// record_commit does the part of a commit that makes the file, and not the part that moves its content.
struct record_job {
    struct store_job job; // first
    const struct fixture *f;
};

static enum err
run_record(struct store_tx *tx, struct store_job *job)
{
    struct record_job *record = (struct record_job *)job;
    struct filestore_file file = {.size_bytes = content_size};
    struct err_detail why = {0};
    memcpy(file.id, record->f->upload_id, sizeof(file.id));
    enum err err = digest_of(DIGEST_MD5, bytes_view_of(content, content_size), file.md5);
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_view_of(content, content_size), file.sha256);
    }
    return err == ERR_OK ? filestore_core_commit(tx, &file, 1, &why) : err;
}

static void
commit_half(struct fixture *f)
{
    assert_int_equal(save(f, "a", "", content_size), ERR_OK);
    for (uint64_t i = 0; i < content_chunks; i++) {
        assert_int_equal(upload(f, i), ERR_OK);
    }
    struct record_job record = {.job = {.run = run_record}, .f = f};
    assert_int_equal(store_write_wait(f->store, &record.job), ERR_OK);
}

static void
test_a_commit_cut_short_is_completed_by_download_commit_or_restart(void **state)
{
    struct fixture *f = *state;
    char path[512];
    for (uint8_t way = 0; way < 3; way++) {
        memset(f->request_id, way, 16);
        content[0] ^= way; // another content, which is not here already
        commit_half(f);
        path_of(f, true, path, sizeof(path));
        assert_int_not_equal(access(path, F_OK), 0);
        if (way == 0) {
            assert_int_equal(download(f, 0), ERR_OK);
        } else if (way == 1) {
            assert_int_equal(commit(f, NULL), ERR_OK);
        } else {
            restart(f);
        }
        assert_int_equal(access(path, F_OK), 0);
        assert_content(f);
    }
}

static void
test_start_sweeps_what_nobody_knows_and_what_is_old(void **state)
{
    struct fixture *f = *state;
    char unknown_path[512], old_path[512], young_path[512];
    memset(f->upload_id, 0xee, 16);
    path_of(f, false, unknown_path, sizeof(unknown_path));
    assert_int_equal(blob_upload_create(f->blobs, f->upload_id, 1), ERR_OK);
    clock_set_unix_ms_for_test(1000);
    assert_int_equal(save(f, "old", "", 10), ERR_OK);
    path_of(f, false, old_path, sizeof(old_path));
    clock_set_unix_ms_for_test(2000);
    memset(f->request_id, 2, 16);
    assert_int_equal(save(f, "young", "", 10), ERR_OK);
    path_of(f, false, young_path, sizeof(young_path));
    assert_int_equal(access(unknown_path, F_OK), 0);
    clock_set_unix_ms_for_test(1001 + FILESTORE_UPLOAD_LIFETIME_MS);
    restart(f);
    clock_set_unix_ms_for_test(-1);
    assert_int_not_equal(access(unknown_path, F_OK), 0);
    assert_int_not_equal(access(old_path, F_OK), 0);
    assert_int_equal(access(young_path, F_OK), 0);
    assert_int_equal(upload_bytes(f, 0, content, 10, NULL), ERR_OK);
}

static void
test_every_method_has_its_rule(void **state)
{
    struct fixture *f = *state;
    size_t count = 0;
    const struct rpc_method_rule *rules = filestore_service_rules(&count);
    assert_int_equal(count, filestore_service_rpc(f->filestore)->descriptor->n_methods);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rules[i].access, RPC_ACCESS_TOKEN);
        if (strcmp(rules[i].method, "Upload") == 0) {
            assert_in_range(rules[i].max_request_bytes, FILESTORE_CHUNK_MAX_BYTES + 60, RPC_MESSAGE_MAX_BYTES);
        }
    }
}

int
main(void)
{
    for (size_t i = 0; i < sizeof(content); i++) {
        content[i] = (uint8_t)(i * 31 + i / 251 + i / 65537);
    }
#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(test_a_file_goes_in_and_out_with_a_restart_between_all_steps),
        WITH_SERVICE(test_a_damaged_chunk_is_refused_and_named_and_leaves_nothing),
        WITH_SERVICE(test_chunks_of_the_wrong_place_size_or_owner_are_refused),
        WITH_SERVICE(test_requests_with_ids_and_digests_of_the_wrong_size_are_refused),
        WITH_SERVICE(test_a_chunk_sent_twice_is_fine_but_not_with_other_content),
        WITH_SERVICE(test_commit_names_missing_chunks_and_a_wrong_digest),
        WITH_SERVICE(test_an_empty_file_has_no_chunks),
        WITH_SERVICE(test_the_same_request_plans_only_one_file),
        WITH_SERVICE(test_bad_plans_are_refused),
        WITH_SERVICE(test_cancel_leaves_nothing_and_is_too_late_for_a_file),
        WITH_SERVICE(test_files_of_others_are_as_good_as_not_there),
        WITH_SERVICE(test_a_room_sees_the_file_while_one_is_in_it),
        WITH_SERVICE(test_a_file_is_not_shared_with_a_room_that_its_sender_has_left),
        WITH_SERVICE(test_list_goes_on_where_the_page_ended),
        WITH_SERVICE(test_damage_on_the_disk_is_told_and_not_sent),
        WITH_SERVICE(test_a_commit_cut_short_is_completed_by_download_commit_or_restart),
        WITH_SERVICE(test_start_sweeps_what_nobody_knows_and_what_is_old),
        WITH_SERVICE(test_every_method_has_its_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
