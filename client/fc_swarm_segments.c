// One segment of a download: asked for, checked and written by the pool, and noted; or why not.
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "client/fc_lend_priv.h"
#include "client/fc_swarm_core_priv.h"
#include "client/fc_transfer_priv.h"

#include "fc/filestore/v1/filestore.stub.h"
#include "fc/segment/v1/segment.stub.h"

enum {
    WRITE_POLL_MS = 50,  // between looks for cancellation while a pipe is full
    SP_LENGTH_BYTES = 8, // in front of each message on the wire
    LATEST_LOAD_MAX = 1000,
};

static struct bytes_view
data_of(const struct fc_swarm_call *call)
{
    if (call->kind == FC_SWARM_CALL_DOWNLOAD) {
        const Fc__Filestore__V1__DownloadResponse *response = fc_filestore_v1_file_store_download_response(&call->rpc);
        return bytes_view_of(response->data.data, response->data.len);
    }
    const Fc__Segment__V1__GetSegmentResponse *response = fc_segment_v1_segment_server_get_segment_response(&call->rpc);
    return bytes_view_of(response->data.data, response->data.len);
}

// ---- Asking ----

void
fc_swarm_ask(struct fc_swarm *swarm, const struct fc_swarm_order *order)
{
    bool is_download = (int)order->source == swarm->origin && (swarm->has_no_segments || !swarm->grant.is_there);
    struct fc_swarm_call *call =
        fc_swarm_call_new(swarm, is_download ? FC_SWARM_CALL_DOWNLOAD : FC_SWARM_CALL_SEGMENT, order->source);
    if (call == NULL) {
        return;
    }
    call->request = order->request;
    call->segment = order->segment;
    call->size = order->size_bytes;
    fc_rate_charge(swarm->options->rate, order->size_bytes);
    struct rpc_channel *channel = fc_swarm_channel(swarm, order->source);
    if (channel == NULL) {
        fc_swarm_call_free(call);
        return;
    }
    if (is_download) {
        Fc__Filestore__V1__DownloadRequest request = FC__FILESTORE__V1__DOWNLOAD_REQUEST__INIT;
        request.file_id = fc_lend(swarm->job->file->id, sizeof(swarm->job->file->id));
        request.index = order->segment;
        fc_swarm_call_init(call, channel, &fc__filestore__v1__file_store__descriptor, RPC_TIMEOUT_MAX_MS);
        fc_swarm_count_call(swarm, call, 1);
        fc_filestore_v1_file_store_download_start(&call->rpc, &request);
        return;
    }
    Fc__Segment__V1__GetSegmentRequest request = FC__SEGMENT__V1__GET_SEGMENT_REQUEST__INIT;
    Fc__Segment__V1__SignedGrant grant = FC__SEGMENT__V1__SIGNED_GRANT__INIT;
    grant.grant = fc_lend(swarm->grant.bytes, swarm->grant.size);
    grant.signature = fc_lend(swarm->grant.signature, sizeof(swarm->grant.signature));
    request.file_id = fc_lend(swarm->job->file->id, sizeof(swarm->job->file->id));
    request.grant = &grant;
    request.index = order->segment;
    fc_swarm_call_init(call, channel, &fc__segment__v1__segment_server__descriptor, RPC_TIMEOUT_MAX_MS);
    fc_swarm_count_call(swarm, call, 1);
    fc_segment_v1_segment_server_get_segment_start(&call->rpc, &request);
}

void
fc_swarm_cancel(struct fc_swarm *swarm, uint64_t request)
{
    struct fc_swarm_call *call = NULL;

    TAILQ_FOREACH(call, &swarm->calls, link)
    {
        bool is_segment = call->kind == FC_SWARM_CALL_SEGMENT || call->kind == FC_SWARM_CALL_DOWNLOAD;
        if (is_segment && call->request == request) {
            rpc_unary_cancel(&call->rpc);
            return;
        }
    }
}

// ---- Checking and writing, on the pool ----

static void
check_and_write(struct work *work)
{
    struct fc_swarm_call *call = (struct fc_swarm_call *)work;
    const struct fc_swarm_job *job = call->swarm->job;
    struct bytes_view data = data_of(call);
    uint8_t sha256[DIGEST_SHA256_BYTES];

    enum err err = data.size == call->size ? digest_of(DIGEST_SHA256, data, sha256) : ERR_CORRUPT;
    if (err == ERR_OK && memcmp(sha256, job->sha256s + call->segment * DIGEST_SHA256_BYTES, sizeof(sha256)) != 0) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK && job->part != NULL) {
        err = file_write_at(job->part->fd, data, (off_t)(call->segment * job->file->chunk_size_bytes));
        if (err == ERR_NO_SPACE) {
            err_fail(&call->why, err, "the disk is full: \"%s\" (%llu bytes) does not fit; make room and try again",
                job->part->path, (unsigned long long)job->file->size_bytes);
        } else if (err != ERR_OK) {
            err = err == ERR_CORRUPT ? ERR_IO : err;
            err_fail(&call->why, err, "cannot write \"%s\": %s", job->part->part_path, err_sentence(err));
        }
    }
    call->result = err;
    fc_swarm_checked(call);
}

// ---- In order ----

// write_all writes to a descriptor, which may be a pipe whose reader is slow.
static enum err
write_all(struct fc_swarm *swarm, struct bytes_view data, struct err_detail *why)
{
    int fd = swarm->job->fd;
    struct stat output;
    // A pipe that is ready takes PIPE_BUF bytes without blocking, so that a reader who has stopped reading does not
    // keep us from noticing that we are cancelled.
    size_t at_most = fstat(fd, &output) == 0 && S_ISREG(output.st_mode) ? data.size : PIPE_BUF;

    while (data.size != 0) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};

        if (swarm->options->is_cancelled != NULL && swarm->options->is_cancelled(swarm->options->context)) {
            return ERR_CANCELLED;
        }
        if (poll(&wait, 1, WRITE_POLL_MS) == 0) {
            continue;
        }
        ssize_t written = write(fd, data.data, data.size < at_most ? data.size : at_most);
        if (written < 0 && errno != EINTR && errno != EAGAIN) {
            int error_number = errno;
            return err_fail(why, err_from_errno(error_number), "cannot write \"%s\" to the output: %s",
                swarm->job->file->name, strerror(error_number));
        }
        if (written > 0) {
            data = bytes_view_of(data.data + written, data.size - (size_t)written);
        }
    }
    return ERR_OK;
}

static void
write_in_order(struct fc_swarm *swarm, struct fc_swarm_call *call)
{
    swarm->kept[call->segment % swarm->kept_count] = call;
    while (swarm->fatal == ERR_OK) {
        struct fc_swarm_call **next = &swarm->kept[swarm->next_written % swarm->kept_count];
        struct err_detail why = {0};
        if (*next == NULL) {
            return;
        }
        enum err err = write_all(swarm, data_of(*next), &why);
        if (err != ERR_OK) {
            fc_swarm_fail(swarm, err, err_message(&why, err));
            return;
        }
        fc_swarm_call_free(*next);
        *next = NULL;
        swarm->next_written++;
        fc_swarm_plan_written(swarm->plan, swarm->next_written);
    }
}

// ---- What becomes of it ----

static void
look_at_good(struct fc_swarm *swarm, struct fc_swarm_call *call)
{
    struct err_detail why = {0};

    swarm->verified_bytes +=
        call->rpc.response_bytes.size != 0 ? call->rpc.response_bytes.size + SP_LENGTH_BYTES : call->size;
    (void)!fc_swarm_plan_checked(swarm->plan, call->request, true, fc_swarm_now_us());
    if (swarm->job->part == NULL) {
        write_in_order(swarm, call);
        return;
    }
    enum err err = fc_part_note(swarm->job->part, call->segment,
        swarm->job->sha256s + call->segment * DIGEST_SHA256_BYTES, call->size, &why);
    if (err != ERR_OK) {
        fc_swarm_fail(swarm, err, err_message(&why, err));
    } else {
        fc_peer_share_note(swarm->job->share, call->segment);
    }
    fc_swarm_call_free(call);
}

static void
look_at_bad(struct fc_swarm *swarm, const struct fc_swarm_call *call)
{
    struct err_detail what = {0};

    swarm->resent++;
    (void)err_fail(&what, ERR_CORRUPT, "segment %llu of \"%s\" arrived damaged from %s",
        (unsigned long long)call->segment, swarm->job->file->name, swarm->peers[call->source].name);
    fc_swarm_report(swarm, call->source, true, call->segment);
    if (!fc_swarm_plan_checked(swarm->plan, call->request, false, fc_swarm_now_us())) {
        fc_swarm_fail(swarm, ERR_CORRUPT, what.message);
    } else if (swarm->peer_count > 1) {
        fc_swarm_say(swarm, "%s", what.message); // of one alone it is said if nothing else helps
    } else {
        swarm->last_failure = what;
    }
}

static void
look_at_checked(struct fc_swarm *swarm, struct fc_swarm_call *call)
{
    if (call->result == ERR_OK) {
        look_at_good(swarm, call);
        return;
    }
    if (call->result != ERR_CORRUPT) {
        fc_swarm_fail(swarm, call->result, err_message(&call->why, call->result));
    } else {
        look_at_bad(swarm, call);
    }
    fc_swarm_call_free(call);
}

static bool
is_reason(const struct fc_swarm_call *call, const char *reason)
{
    return strcmp(call->rpc.status.reason, reason) == 0;
}

// judge_origin ends the download for what only the session's server can say; whether it did.
static bool
judge_origin(struct fc_swarm *swarm, const struct fc_swarm_call *call)
{
    enum err err = fc_transfer_error(&call->rpc);
    bool is_final = err == ERR_UNTRUSTED || err == ERR_DENIED || err == ERR_INVALID || err == ERR_OUT_OF_RANGE ||
                    err == ERR_PROTOCOL || err == ERR_INTERNAL || err == ERR_UNIMPLEMENTED ||
                    (call->kind == FC_SWARM_CALL_DOWNLOAD && (err == ERR_NOT_FOUND || err == ERR_UNAUTHENTICATED));

    if ((int)call->source != swarm->origin || !is_final) {
        return false;
    }
    if (call->kind == FC_SWARM_CALL_SEGMENT && err != ERR_UNTRUSTED) {
        swarm->has_no_segments = true; // FileStore says what is the matter, or goes on
        fc_swarm_plan_failed(swarm->plan, call->request, FC_SWARM_RETRY, fc_swarm_now_us());
        return true;
    }
    fc_swarm_fail(swarm, err, err_message(&call->rpc.status.detail, err));
    return true;
}

// judge_other is what a failure means for the plan.
static enum fc_swarm_failure
judge_other(struct fc_swarm *swarm, const struct fc_swarm_call *call)
{
    uint64_t now_us = fc_swarm_now_us();

    switch (call->rpc.status.code) {
    case RPC_UNAVAILABLE:
        if (call->rpc.status.is_untrusted) {
            fc_swarm_plan_down(swarm->plan, call->source, FC_SWARM_STATE_BANNED, now_us);
        }
        return is_reason(call, "STOPPED") ? FC_SWARM_STOPPED : FC_SWARM_LOST;
    case RPC_DEADLINE_EXCEEDED:
        return FC_SWARM_LATE;
    case RPC_RESOURCE_EXHAUSTED:
        return FC_SWARM_BUSY;
    case RPC_NOT_FOUND:
    case RPC_OUT_OF_RANGE:
    case RPC_DATA_LOSS:
        return FC_SWARM_LACKS;
    case RPC_UNAUTHENTICATED:
        if (is_reason(call, "GRANT_EXPIRED")) {
            swarm->grant.renew_us = 0;
            return FC_SWARM_BUSY; // until the new one is there
        }
        fc_swarm_plan_down(swarm->plan, call->source, FC_SWARM_STATE_BANNED, now_us);
        return FC_SWARM_RETRY;
    case RPC_PERMISSION_DENIED:
    case RPC_UNIMPLEMENTED:
    case RPC_INVALID_ARGUMENT:
        fc_swarm_plan_down(swarm->plan, call->source, FC_SWARM_STATE_BANNED, now_us);
        return FC_SWARM_RETRY;
    case RPC_CANCELLED:
        return FC_SWARM_RETRY;
    case RPC_OK:
    case RPC_UNKNOWN:
    case RPC_ALREADY_EXISTS:
    case RPC_FAILED_PRECONDITION:
    case RPC_ABORTED:
    case RPC_INTERNAL:
    default:
        return FC_SWARM_LOST;
    }
}

static void
look_at_failed(struct fc_swarm *swarm, struct fc_swarm_call *call)
{
    uint64_t now_us = fc_swarm_now_us();
    struct fc_source_progress before;
    struct fc_source_progress after;

    if (judge_origin(swarm, call)) {
        return;
    }
    fc_swarm_plan_progress(swarm->plan, call->source, &before);
    enum fc_swarm_failure failure = judge_other(swarm, call);
    fc_swarm_plan_failed(swarm->plan, call->request, failure, now_us);
    fc_swarm_plan_progress(swarm->plan, call->source, &after);
    swarm->resent += after.retries - before.retries;
    if (failure == FC_SWARM_LOST && before.state == FC_SWARM_STATE_UP && after.state != FC_SWARM_STATE_UP) {
        swarm->last_failure = call->rpc.status.detail;
        fc_swarm_report(swarm, call->source, false, 0);
    }
    if (call->rpc.status.code == RPC_DATA_LOSS && (int)call->source == swarm->origin &&
        !fc_swarm_plan_is_obtainable(swarm->plan, call->segment)) {
        fc_swarm_fail(swarm, ERR_CORRUPT, err_message(&call->rpc.status.detail, ERR_CORRUPT));
    }
}

static void
note_load(struct fc_swarm *swarm, const struct fc_swarm_call *call)
{
    if (call->kind == FC_SWARM_CALL_SEGMENT) {
        const Fc__Segment__V1__GetSegmentResponse *response =
            fc_segment_v1_segment_server_get_segment_response(&call->rpc);
        if (response->load != NULL && response->load->cpu_permille <= LATEST_LOAD_MAX) {
            fc_swarm_plan_load(swarm->plan, call->source, response->load->cpu_permille);
        }
    }
}

void
fc_swarm_segment_ended(struct fc_swarm *swarm, struct fc_swarm_call *call)
{
    if (call->is_checked) {
        look_at_checked(swarm, call);
        return;
    }
    fc_swarm_count_call(swarm, call, -1);
    if (call->rpc.status.code != RPC_OK) {
        look_at_failed(swarm, call);
        fc_swarm_call_free(call);
        return;
    }
    note_load(swarm, call);
    if (!fc_swarm_plan_arrived(swarm->plan, call->request, fc_swarm_now_us())) {
        fc_swarm_call_free(call);
        return;
    }
    call->is_checked = true;
    call->work.run = check_and_write;
    work_pool_submit(swarm->pool, &call->work);
}
