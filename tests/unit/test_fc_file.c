// Whole transfers: libfc against the real FileStore in this process, over TCP.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "client/fc_file.h"
#include "client/fc_transfer_priv.h"
#include "services/filestore/filestore_service.h"
#include "tests/unit/filestore_support.h"

#include "fc/filestore/v1/filestore.pb-c.h"

enum {
    CHUNK = FILESTORE_CHUNK_MIN_BYTES,
};

// A FileStore that can be told to do harm, around the real one.
struct harm {
    Fc__Filestore__V1__FileStore_Service rpc; // first
    struct filestore_service *real;
    atomic_int damaged_uploads;   // so many chunks are told to have arrived damaged
    atomic_int damaged_downloads; // in so many segments a bit is turned
    atomic_bool is_lying;         // and the digests beside them are made to match
    atomic_int uploads;
    atomic_int saves;
    _Atomic(Fc__Filestore__V1__DownloadResponse_Closure) download_reply;
};

struct fixture {
    char dir[256];
    char blob_dir[300];
    char work[300]; // where files are sent from and fetched to
    struct store *store;
    struct blob_store *blobs;
    struct rpc_server *server;
    struct harm harm;
    struct fake_rooms members;
    char url[RPC_URL_MAX_BYTES];
    struct fc_session *alice;
    struct fc_session *bob;
    struct err_detail why;

    // For the transfer's callbacks.
    struct fc_transfer_options options;
    struct fc_progress progress;
    uint64_t act_at_chunk; // 0: never
    void (*act)(struct fixture *f);
    bool is_cancelled;
    const char *victim;
};

static Fc__Filestore__V1__FileStore_Service *
real_of(Fc__Filestore__V1__FileStore_Service *service)
{
    return (Fc__Filestore__V1__FileStore_Service *)filestore_service_rpc(((struct harm *)service)->real);
}

static struct harm *the_harm; // closures have no room for it

static bool
take_one(atomic_int *count)
{
    int left = atomic_load(count);
    while (left > 0 && !atomic_compare_exchange_weak(count, &left, left - 1)) {
    }
    return left > 0;
}

static void
harm_save(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__SaveRequest *request,
    Fc__Filestore__V1__SaveResponse_Closure reply, void *call)
{
    atomic_fetch_add(&((struct harm *)service)->saves, 1);
    real_of(service)->save(real_of(service), request, reply, call);
}

static void
harm_upload(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__UploadRequest *request,
    Fc__Filestore__V1__UploadResponse_Closure reply, void *call)
{
    struct harm *harm = (struct harm *)service;
    atomic_fetch_add(&harm->uploads, 1);
    if (take_one(&harm->damaged_uploads)) {
        struct err_detail why = {.message = "chunk damaged, says the test"};
        rpc_call_fail_detail(call, ERR_CORRUPT, &why, "CHUNK_MD5_MISMATCH", 0);
        return;
    }
    real_of(service)->upload(real_of(service), request, reply, call);
}

static void
harm_commit(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__CommitRequest *request,
    Fc__Filestore__V1__CommitResponse_Closure reply, void *call)
{
    real_of(service)->commit(real_of(service), request, reply, call);
}

static void
harm_cancel(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__CancelRequest *request,
    Fc__Filestore__V1__CancelResponse_Closure reply, void *call)
{
    real_of(service)->cancel(real_of(service), request, reply, call);
}

static void
harm_stat(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__StatRequest *request,
    Fc__Filestore__V1__StatResponse_Closure reply, void *call)
{
    real_of(service)->stat(real_of(service), request, reply, call);
}

static void
harm_list(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__ListRequest *request,
    Fc__Filestore__V1__ListResponse_Closure reply, void *call)
{
    real_of(service)->list(real_of(service), request, reply, call);
}

static void
reply_damaged(const Fc__Filestore__V1__DownloadResponse *response, void *call)
{
    Fc__Filestore__V1__DownloadResponse_Closure reply = atomic_load(&the_harm->download_reply);
    if (response == NULL || !take_one(&the_harm->damaged_downloads)) {
        reply(response, call);
        return;
    }
    Fc__Filestore__V1__DownloadResponse damaged = *response;
    uint8_t md5[16], sha256[32];
    damaged.data.data = malloc(response->data.len);
    if (damaged.data.data == NULL) {
        abort();
    }
    memcpy(damaged.data.data, response->data.data, response->data.len);
    damaged.data.data[response->data.len / 2] ^= 0x10;
    if (atomic_load(&the_harm->is_lying)) {
        struct bytes_view data = bytes_view_of(damaged.data.data, damaged.data.len);
        if (digest_of(DIGEST_MD5, data, md5) != ERR_OK || digest_of(DIGEST_SHA256, data, sha256) != ERR_OK) {
            abort();
        }
        damaged.md5.data = md5;
        damaged.sha256.data = sha256;
    }
    reply(&damaged, call);
    free(damaged.data.data);
}

static void
harm_download(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__DownloadRequest *request,
    Fc__Filestore__V1__DownloadResponse_Closure reply, void *call)
{
    atomic_store(&((struct harm *)service)->download_reply, reply);
    real_of(service)->download(real_of(service), request, reply_damaged, call);
}

// harm_invoke leaves the methods that have no harm in them to the real service.
static void
harm_invoke(ProtobufCService *service, unsigned method, const ProtobufCMessage *input, ProtobufCClosure reply,
    void *call)
{
    typedef void handler_fn(void);
    handler_fn **handlers = (handler_fn **)(service + 1);
    ProtobufCService *real = filestore_service_rpc(((struct harm *)service)->real);
    if (handlers[method] != NULL) {
        protobuf_c_service_invoke_internal(service, method, input, reply, call);
    } else {
        real->invoke(real, method, input, reply, call);
    }
}

static enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    bool is_alice = bytes_view_equal(token, bytes_view_of_text("fct_alice"));
    if (!is_alice && !bytes_view_equal(token, bytes_view_of_text("fct_bob"))) {
        return ERR_UNAUTHENTICATED;
    }
    memset(identity_out, 0, sizeof(*identity_out));
    memcpy(identity_out->subject_id, is_alice ? alice : bob, 16);
    snprintf(identity_out->subject_name, sizeof(identity_out->subject_name), "%s", is_alice ? "alice" : "bob");
    identity_out->expires_unix_ms = INT64_MAX;
    return ERR_OK;
}

static void
start_server(struct fixture *f, const char *url)
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
    assert_int_equal(filestore_service_new(&options, &f->harm.real, &f->why), ERR_OK);
    f->harm.rpc = (Fc__Filestore__V1__FileStore_Service){
        .base = {.descriptor = &fc__filestore__v1__file_store__descriptor, .invoke = harm_invoke},
        .save = harm_save,
        .upload = harm_upload,
        .commit = harm_commit,
        .cancel = harm_cancel,
        .stat = harm_stat,
        .list = harm_list,
        .download = harm_download,
    };
    the_harm = &f->harm;
    struct rpc_server_options server_options = {.authenticate = authenticate};
    assert_int_equal(rpc_server_new(&server_options, &f->server), ERR_OK);
    size_t rule_count = 0;
    const struct rpc_method_rule *rules = filestore_service_rules(&rule_count);
    assert_int_equal(rpc_server_add_service(f->server, &f->harm.rpc.base, rules, rule_count), ERR_OK);
    enum err err = rpc_server_listen(f->server, url, f->url, &f->why);
    if (err != ERR_OK) {
        fail_msg("cannot listen at %s: %s", url, err_message(&f->why, err));
    }
}

static void
stop_server(struct fixture *f)
{
    // The server first: a drain without patience leaves handlers at work, and only after the end of the server none
    // runs.
    rpc_server_free(&f->server);
    filestore_service_free(&f->harm.real);
    blob_store_close(&f->blobs);
    store_close(&f->store);
}

static void
open_session(struct fixture *f, const char *token, struct fc_session **out)
{
    struct fc_credential credential = {.token = ""};
    snprintf(credential.server_url, sizeof(credential.server_url), "%s", f->url);
    snprintf(credential.token, sizeof(credential.token), "%s", token);
    assert_int_equal(fc_session_open(&credential, NULL, out, &f->why), ERR_OK);
}

static void
on_progress(void *context, const struct fc_progress *progress)
{
    struct fixture *f = context;
    assert_true(progress->done_bytes >= f->progress.done_bytes);
    assert_true(progress->done_bytes <= progress->total_bytes);
    assert_true(progress->chunks_done <= progress->chunks_total);
    f->progress = *progress;
}

static bool
is_cancelled(void *context)
{
    struct fixture *f = context;
    // The loop asks this between chunks, so it is where the tests interfere.
    if (f->act != NULL && (uint64_t)atomic_load(&f->harm.uploads) >= f->act_at_chunk) {
        void (*act)(struct fixture *) = f->act;
        f->act = NULL;
        act(f);
    }
    return f->is_cancelled;
}

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    make_temp_dir(f->dir, sizeof(f->dir));
    snprintf(f->blob_dir, sizeof(f->blob_dir), "%s/files", f->dir);
    snprintf(f->work, sizeof(f->work), "%s/work", f->dir);
    assert_int_equal(mkdir(f->work, 0700), 0);
    assert_int_equal(chdir(f->work), 0);
    assert_int_equal(setenv("FC_DATA_DIR", f->dir, 1), 0);
    f->members = (struct fake_rooms){.is_alice_in_den = true, .is_bob_in_den = true};
    start_server(f, "tcp://127.0.0.1:0");
    open_session(f, "fct_alice", &f->alice);
    open_session(f, "fct_bob", &f->bob);
    f->options = (struct fc_transfer_options){.on_progress = on_progress, .is_cancelled = is_cancelled, .context = f};
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    fc_session_close(&f->alice);
    fc_session_close(&f->bob);
    stop_server(f);
    assert_int_equal(chdir("/"), 0);
    remove_temp_dir(f->dir);
    free(f);
    return 0;
}

static void
write_file(const char *path, size_t size)
{
    uint8_t *data = malloc(size + 1);
    assert_non_null(data);
    random_bytes(data, size);
    assert_int_equal(file_replace(path, bytes_view_of(data, size), 0600), ERR_OK);
    free(data);
}

static void
assert_same_files(const char *a, const char *b)
{
    struct bytes left = {.data = NULL};
    struct bytes right = {.data = NULL};
    assert_int_equal(file_read(a, 64 * CHUNK, &left), ERR_OK);
    assert_int_equal(file_read(b, 64 * CHUNK, &right), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&left), bytes_as_view(&right)));
    bytes_free(&left);
    bytes_free(&right);
}

static size_t
count_entries(const char *path)
{
    size_t count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

static void
assert_no_uploads(struct fixture *f)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/uploads", f->blob_dir);
    assert_int_equal(count_entries(path), 0);
}

static enum err
upload(struct fixture *f, const char *path, struct fc_file *out)
{
    memset(&f->progress, 0, sizeof(f->progress));
    memset(&f->why, 0, sizeof(f->why));
    return fc_file_upload(f->alice, path, NULL, NULL, &f->options, out, &f->why);
}

static enum err
download(struct fixture *f, const char *file, const char *path, bool is_replacing, struct fc_file *out)
{
    memset(&f->progress, 0, sizeof(f->progress));
    memset(&f->why, 0, sizeof(f->why));
    return fc_file_download(f->alice, file, path, is_replacing, &f->options, out, &f->why);
}

static void
test_files_of_all_sizes_come_back_the_same(void **state)
{
    struct fixture *f = *state;
    const size_t sizes[] = {0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 11 * CHUNK + 77};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct fc_file sent, got;
        write_file("in", sizes[i]);
        enum err err = upload(f, "in", &sent);
        if (err != ERR_OK) {
            fail_msg("size %zu: %s", sizes[i], err_message(&f->why, err));
        }
        assert_int_equal(sent.size_bytes, sizes[i]);
        assert_string_equal(sent.name, "in");
        assert_string_equal(sent.owner, "alice");
        assert_int_equal(f->progress.done_bytes, sizes[i]);
        assert_int_equal(f->progress.chunks_resent, 0);
        assert_int_equal(download(f, "in", "out", true, &got), ERR_OK);
        assert_int_equal(f->progress.done_bytes, sizes[i]);
        assert_memory_equal(&sent, &got, sizeof(sent));
        assert_same_files("in", "out");
        assert_int_equal(count_entries("."), 2);
    }
    assert_no_uploads(f);
}

static void
test_one_connection_and_one_chunk_at_a_time_is_enough(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    f->options.chunks_in_flight = 1;
    f->options.connections = 1;
    write_file("in", 3 * CHUNK + 1);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    assert_int_equal(download(f, "in", "out", false, &file), ERR_OK);
    assert_same_files("in", "out");
}

static unsigned
first_window(struct fixture *f, unsigned chunks_in_flight, uint32_t chunk_bytes)
{
    struct fc_transfer_options options = {.chunks_in_flight = chunks_in_flight};
    struct fc_transfer_ops ops = {0};
    struct fc_transfer transfer;
    fc_transfer_init(&transfer, f->alice, &options, &ops, NULL);
    assert_int_equal(fc_transfer_open(&transfer, (uint64_t)100 * chunk_bytes, chunk_bytes, false, &f->why), ERR_OK);
    unsigned window = transfer.window;
    assert_true(window <= transfer.slot_count);
    fc_transfer_deinit(&transfer);
    return window;
}

static void
test_fewer_large_chunks_are_under_way_at_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(first_window(f, 0, FILESTORE_CHUNK_MIN_BYTES), 32);
    assert_int_equal(first_window(f, 0, 1024 * 1024), 8);
    assert_int_equal(first_window(f, 0, 4 * 1024 * 1024), 4);
    assert_int_equal(first_window(f, 0, FILESTORE_CHUNK_MAX_BYTES), 4);
    assert_int_equal(first_window(f, 12, FILESTORE_CHUNK_MAX_BYTES), 12);
}

static void
test_a_damaged_chunk_is_sent_again(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    write_file("in", 6 * CHUNK);
    atomic_store(&f->harm.damaged_uploads, 3);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    assert_int_equal(f->progress.chunks_resent, 3);
    assert_int_equal(atomic_load(&f->harm.uploads), 9);
    assert_int_equal(download(f, "in", "out", false, &file), ERR_OK);
    assert_same_files("in", "out");
}

static void
test_a_chunk_that_is_always_damaged_ends_the_upload(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    write_file("in", 2 * CHUNK);
    atomic_store(&f->harm.damaged_uploads, 1000);
    assert_int_equal(upload(f, "in", &file), ERR_CORRUPT);
    assert_non_null(strstr(f->why.message, "damaged"));
    assert_no_uploads(f);
    assert_int_equal(fc_file_stat(f->alice, "in", &file, &f->why), ERR_NOT_FOUND);
}

static void
test_a_damaged_segment_is_fetched_again(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    write_file("in", 6 * CHUNK);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    atomic_store(&f->harm.damaged_downloads, 3);
    atomic_store(&f->harm.is_lying, true); // the digests that come along are not what counts
    assert_int_equal(download(f, "in", "out", false, &file), ERR_OK);
    assert_int_equal(f->progress.chunks_resent, 3);
    assert_same_files("in", "out");
}

static void
test_a_segment_that_is_always_damaged_leaves_no_file(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    write_file("in", 2 * CHUNK);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    atomic_store(&f->harm.damaged_downloads, 1000);
    assert_int_equal(download(f, "in", "out", false, &file), ERR_CORRUPT);
    assert_non_null(strstr(f->why.message, "segment"));
    assert_int_equal(count_entries("."), 1);
}

static void
append_to_victim(struct fixture *f)
{
    int fd = open(f->victim, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
}

static void
truncate_victim(struct fixture *f)
{
    assert_int_equal(truncate(f->victim, 1), 0);
}

static void
replace_victim(struct fixture *f)
{
    write_file("other", 20 * CHUNK);
    assert_int_equal(rename("other", f->victim), 0);
}

static void
test_a_file_that_changes_meanwhile_is_not_stored(void **state)
{
    struct fixture *f = *state;
    void (*const acts[])(struct fixture *) = {append_to_victim, truncate_victim, replace_victim};
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
        struct fc_file file;
        write_file("in", 20 * CHUNK);
        atomic_store(&f->harm.uploads, 0);
        f->victim = "in";
        f->act = acts[i];
        f->act_at_chunk = 1;
        enum err err = upload(f, "in", &file);
        assert_int_equal(err, ERR_CONFLICT);
        assert_non_null(strstr(f->why.message, "changed"));
        assert_no_uploads(f);
        assert_int_equal(fc_file_stat(f->alice, "in", &file, &f->why), ERR_NOT_FOUND);
    }
}

static void
cancel_now(struct fixture *f)
{
    f->is_cancelled = true;
}

static void
test_cancelling_leaves_nothing_on_either_side(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    write_file("in", 20 * CHUNK);
    f->act = cancel_now;
    f->act_at_chunk = 3;
    assert_int_equal(upload(f, "in", &file), ERR_CANCELLED);
    assert_no_uploads(f);
    f->is_cancelled = false;
    assert_int_equal(fc_file_stat(f->alice, "in", &file, &f->why), ERR_NOT_FOUND);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    f->is_cancelled = true;
    assert_int_equal(download(f, "in", "out", false, &file), ERR_CANCELLED);
    assert_int_equal(count_entries("."), 1);
    f->is_cancelled = false;
    f->act = cancel_now; // as many chunks were uploaded already: at the first look
    assert_int_equal(download(f, "in", "out", false, &file), ERR_CANCELLED);
    assert_int_equal(count_entries("."), 1);
}

static void
restart_server(struct fixture *f)
{
    char url[RPC_URL_MAX_BYTES];
    memcpy(url, f->url, sizeof(url));
    stop_server(f);
    start_server(f, url);
}

static void
test_an_upload_goes_on_after_the_server_was_restarted(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    write_file("in", 20 * CHUNK);
    f->act = restart_server;
    f->act_at_chunk = 10;
    enum err err = upload(f, "in", &file);
    if (err != ERR_OK) {
        fail_msg("%s", err_message(&f->why, err));
    }
    assert_in_range(atomic_load(&f->harm.saves), 2, 20);
    assert_in_range(atomic_load(&f->harm.uploads), 20, 36); // at most what was under way comes twice
    assert_int_equal(download(f, "in", "out", false, &file), ERR_OK);
    assert_same_files("in", "out");
}

static void
test_a_download_goes_on_after_the_server_was_restarted(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    write_file("in", 20 * CHUNK);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    f->act = restart_server;
    f->act_at_chunk = 0;
    assert_int_equal(download(f, "in", "out", false, &file), ERR_OK);
    assert_same_files("in", "out");
}

static void
test_existing_files_are_replaced_only_when_asked(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    struct stat before, after;
    write_file("in", 100);
    write_file("out", 7);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    assert_int_equal(stat("out", &before), 0);
    assert_int_equal(download(f, "in", "out", false, &file), ERR_EXISTS);
    assert_int_equal(stat("out", &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(download(f, "in", "out", true, &file), ERR_OK);
    assert_same_files("in", "out");
    assert_int_equal(download(f, "in", ".", true, &file), ERR_INVALID);
    assert_int_equal(download(f, "in", "no/such/folder", true, &file), ERR_NOT_FOUND);
    assert_int_equal(download(f, "nothing", "x", true, &file), ERR_NOT_FOUND);
}

static void
test_a_part_file_in_the_way_is_only_removed_when_it_is_a_leftover(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    write_file("in", 100);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    write_file("out.part", 100); // of the file's size: what a killed download leaves
    assert_int_equal(download(f, "in", "out", false, &file), ERR_OK);
    write_file("out.part", 99); // somebody's own
    assert_int_equal(download(f, "in", "out", true, &file), ERR_CONFLICT);
    assert_int_equal(access("out.part", F_OK), 0);
    write_file("victim", 100);
    assert_int_equal(unlink("out.part"), 0);
    assert_int_equal(symlink("victim", "out.part"), 0);
    assert_int_equal(download(f, "in", "out", true, &file), ERR_CONFLICT);
    assert_int_equal(unlink("out.part"), 0);
    write_file("out.part", 100);
    int fd = open("out.part", O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0); // another download
    assert_int_equal(download(f, "in", "out", true, &file), ERR_BUSY);
    close(fd);
}

static void
test_names_from_the_server_stay_in_the_folder_and_visible(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    char hex[33];
    write_file("in", 100);
    assert_int_equal(fc_file_upload(f->alice, "in", "deep/below/name.txt", "den", NULL, &file, &f->why), ERR_OK);
    assert_string_equal(file.room, "den");
    assert_int_equal(fc_file_download(f->bob, "den/deep/below/name.txt", NULL, false, NULL, &file, &f->why), ERR_OK);
    assert_same_files("in", "name.txt");
    assert_int_equal(unlink("name.txt"), 0);
    bytes_to_hex(bytes_view_of(file.id, 16), hex);
    assert_int_equal(fc_file_download(f->bob, hex, NULL, false, NULL, &file, &f->why), ERR_OK);
    assert_same_files("in", "name.txt");
    assert_int_equal(fc_file_upload(f->alice, "in", ".bashrc", "den", NULL, &file, &f->why), ERR_OK);
    assert_int_equal(fc_file_download(f->bob, "den/.bashrc", NULL, false, NULL, &file, &f->why), ERR_INVALID);
    assert_int_equal(fc_file_download(f->bob, "den/.bashrc", "bashrc", false, NULL, &file, &f->why), ERR_OK);
    assert_int_equal(fc_file_upload(f->alice, "in", "../x", NULL, NULL, &file, &f->why), ERR_INVALID);
}

static void
test_only_regular_files_are_sent(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    assert_int_equal(upload(f, "nothing", &file), ERR_NOT_FOUND);
    assert_int_equal(upload(f, ".", &file), ERR_INVALID);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_int_equal(upload(f, "pipe", &file), ERR_INVALID);
    assert_int_equal(upload(f, "/dev/null", &file), ERR_INVALID);
}

struct reader {
    int fd;
    struct bytes data;
    pthread_t thread;
};

static void *
read_all(void *context)
{
    struct reader *reader = context;
    uint8_t part[65536];
    ssize_t size;
    while ((size = read(reader->fd, part, sizeof(part))) > 0) {
        if (bytes_append(&reader->data, bytes_view_of(part, (size_t)size)) != ERR_OK) {
            abort();
        }
    }
    return NULL;
}

static void
test_a_pipe_gets_the_file_in_order(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    struct reader reader = {.fd = -1};
    struct bytes expected = {.data = NULL};
    int ends[2];
    write_file("in", 20 * CHUNK + 3);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    assert_int_equal(pipe(ends), 0);
    reader.fd = ends[0];
    assert_int_equal(pthread_create(&reader.thread, NULL, read_all, &reader), 0);
    atomic_store(&f->harm.damaged_downloads, 2);
    memset(&f->progress, 0, sizeof(f->progress));
    assert_int_equal(fc_file_download_to(f->alice, "in", ends[1], &f->options, &file, &f->why), ERR_OK);
    close(ends[1]);
    assert_int_equal(pthread_join(reader.thread, NULL), 0);
    close(ends[0]);
    assert_int_equal(file_read("in", 64 * CHUNK, &expected), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&expected), bytes_as_view(&reader.data)));
    bytes_free(&expected);
    bytes_free(&reader.data);
}

static void
test_a_reader_who_does_not_read_does_not_keep_it_from_being_cancelled(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    int ends[2];
    write_file("in", 20 * CHUNK);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    assert_int_equal(pipe(ends), 0);
    // Cancelled by the progress of the first written segment would never come: by the third look instead.
    f->act = cancel_now;
    f->act_at_chunk = 20;
    assert_int_equal(fc_file_download_to(f->alice, "in", ends[1], &f->options, &file, &f->why), ERR_CANCELLED);
    close(ends[0]);
    close(ends[1]);
}

static bool
add_name(void *context, const struct fc_file *file)
{
    char *names = context;
    size_t used = strlen(names);
    snprintf(names + used, 1000 - used, "%s ", file->name);
    return strcmp(file->name, "b3") != 0;
}

static void
test_each_lists_by_name_until_it_is_told_to_stop(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    char names[1000] = "";
    const char *all[] = {"b2", "a1", "b4", "b3", "c5"};
    write_file("in", 1);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(fc_file_upload(f->alice, "in", all[i], NULL, NULL, &file, &f->why), ERR_OK);
    }
    assert_int_equal(fc_file_each(f->alice, "", add_name, names, &f->why), ERR_OK);
    assert_string_equal(names, "a1 b2 b3 ");
    names[0] = '\0';
    assert_int_equal(fc_file_each(f->alice, "c", add_name, names, &f->why), ERR_OK);
    assert_string_equal(names, "c5 ");
    names[0] = '\0';
    assert_int_equal(fc_file_each(f->bob, "", add_name, names, &f->why), ERR_OK);
    assert_string_equal(names, "");
}

static void
test_a_full_disk_is_told_before_anything_is_fetched(void **state)
{
    struct fixture *f = *state;
    struct fc_file file;
    write_file("in", 8 * CHUNK);
    assert_int_equal(upload(f, "in", &file), ERR_OK);
    assert_int_equal(mkdir("small", 0700), 0);
    if (mount("none", "small", "tmpfs", 0, "size=1m") != 0) {
        print_message("skipped: mounting a small tmpfs needs root\n");
        skip();
    }
    enum err err = download(f, "in", "small/out", false, &file);
    size_t left = count_entries("small");
    uint64_t done_bytes = f->progress.done_bytes;
    assert_int_equal(umount("small"), 0);
    assert_int_equal(err, ERR_NO_SPACE);
    assert_int_equal(left, 0);
    assert_int_equal(done_bytes, 0);
    assert_non_null(strstr(f->why.message, "2097152 bytes"));
}

int
main(void)
{
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_files_of_all_sizes_come_back_the_same),
        WITH_SERVER(test_one_connection_and_one_chunk_at_a_time_is_enough),
        WITH_SERVER(test_fewer_large_chunks_are_under_way_at_once),
        WITH_SERVER(test_a_damaged_chunk_is_sent_again),
        WITH_SERVER(test_a_chunk_that_is_always_damaged_ends_the_upload),
        WITH_SERVER(test_a_damaged_segment_is_fetched_again),
        WITH_SERVER(test_a_segment_that_is_always_damaged_leaves_no_file),
        WITH_SERVER(test_a_file_that_changes_meanwhile_is_not_stored),
        WITH_SERVER(test_cancelling_leaves_nothing_on_either_side),
        WITH_SERVER(test_an_upload_goes_on_after_the_server_was_restarted),
        WITH_SERVER(test_a_download_goes_on_after_the_server_was_restarted),
        WITH_SERVER(test_existing_files_are_replaced_only_when_asked),
        WITH_SERVER(test_a_part_file_in_the_way_is_only_removed_when_it_is_a_leftover),
        WITH_SERVER(test_names_from_the_server_stay_in_the_folder_and_visible),
        WITH_SERVER(test_only_regular_files_are_sent),
        WITH_SERVER(test_a_pipe_gets_the_file_in_order),
        WITH_SERVER(test_a_reader_who_does_not_read_does_not_keep_it_from_being_cancelled),
        WITH_SERVER(test_each_lists_by_name_until_it_is_told_to_stop),
        WITH_SERVER(test_a_full_disk_is_told_before_anything_is_fetched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
