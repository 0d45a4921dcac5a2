// One download: look for the link (chunk_pool), send the head, then piece by piece read and verify (chunk_pool) and
// hand over, whenever the listener asks for more.
//
// A segment is verified before its first byte leaves; of larger ones than a piece the pieces are read again after
// that, so that memory does not grow with the segment. With each segment the link is looked up anew: revoking it, or
// deleting the file, also ends what is under way.
#include "services/filestore/filestore_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "services/filestore/filestore_http_head.h"
#include "services/filestore/filestore_links.h"
#include "services/filestore/filestore_service_priv.h"

enum {
    FIELD_MAX_BYTES = 256,
    READER_PATIENCE_MS = 60 * 1000,
};

static const char gone_text[] = "There is nothing behind this link, or not any more.\n";

struct download;
TAILQ_HEAD(download_list, download);

struct filestore_http {
    struct filestore_service *filestore;
    struct rpc_content_handler handler;
    struct {
        pthread_mutex_t mutex;
        struct download_list downloads;
        size_t count;
    } locked;
};

struct download {
    struct work work; // first: the pool gives its address
    TAILQ_ENTRY(download) link;
    struct filestore_http *http;
    struct rpc_content *content;
    char address[RPC_CONTENT_ADDRESS_MAX_BYTES];
    uint8_t token_sha256[DIGEST_SHA256_BYTES];
    bool is_head;
    char range[FIELD_MAX_BYTES];
    char if_range[FIELD_MAX_BYTES];
    char if_none_match[FIELD_MAX_BYTES];

    struct filestore_link found;
    struct filestore_file file;
    uint64_t at;    // of the file: the next byte to be sent
    uint64_t end;   // after the last one
    uint64_t index; // the segment that was verified last; UINT64_MAX: none
    struct filestore_chunk chunk;
};

// --- Counting what somebody has fetched -----------------------------------------------------------------------------

struct fetch_op {
    struct store_job job;
    struct filestore_service *filestore;
    uint8_t link_id[FILESTORE_ID_BYTES];
};

static enum err
fetch_run(struct store_tx *tx, struct store_job *job)
{
    return filestore_links_count_fetch(tx, ((struct fetch_op *)job)->link_id);
}

static void
fetch_done(struct store_job *job, enum err result)
{
    struct fetch_op *op = (struct fetch_op *)job;
    struct filestore_service *filestore = op->filestore;
    if (result != ERR_OK) {
        log_warn("FILE-FETCH-NOT-COUNTED", NULL, "a download by a link was not counted: %s", err_sentence(result));
    }
    free(op);
    filestore_end(filestore);
}

// Whoever gets the first byte counts, so that a download in parts is one.
static void
count_fetch(struct download *download)
{
    struct filestore_service *filestore = download->http->filestore;
    struct fetch_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        return;
    }
    filestore_begin(filestore);
    op->filestore = filestore;
    memcpy(op->link_id, download->found.id, sizeof(op->link_id));
    op->job.run = fetch_run;
    op->job.done = fetch_done;
    store_write(filestore->store, &op->job);
}

// --- The head -------------------------------------------------------------------------------------------------------

static int64_t
changed_unix_ms(const struct filestore_file *file)
{
    return file->modified_unix_ms > 0 ? file->modified_unix_ms : file->created_unix_ms;
}

// Whether the part that the client has is of this file, so that another part fits to it.
static bool
is_range_current(const struct download *download, const char *etag)
{
    char date[FILESTORE_HTTP_DATE_BYTES];
    if (download->if_range[0] == '\0') {
        return true;
    }
    filestore_http_date(changed_unix_ms(&download->file), date);
    return strcmp(download->if_range, etag) == 0 || strcmp(download->if_range, date) == 0;
}

static enum err
add_headers(const struct download *download, const struct filestore_http_part *part, const char *etag,
    struct bytes *out)
{
    char date[FILESTORE_HTTP_DATE_BYTES];
    char lines[1024];
    char content_range[128] = "";
    const struct filestore_file *file = &download->file;

    filestore_http_date(changed_unix_ms(file), date);
    if (part->status == 206) {
        (void)snprintf(content_range, sizeof(content_range), "Content-Range: bytes %llu-%llu/%llu\r\n",
            (unsigned long long)part->first, (unsigned long long)(part->first + part->size - 1),
            (unsigned long long)file->size_bytes);
    }
    int size = snprintf(lines, sizeof(lines),
        "Content-Type: %s\r\n%sETag: %s\r\nLast-Modified: %s\r\nAccept-Ranges: bytes\r\nCache-Control: private, "
        "no-cache\r\n"
        "X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox\r\nReferrer-Policy: no-referrer\r\n",
        filestore_http_media_type(file->mime_type), content_range, etag, date);
    if (size < 0 || (size_t)size >= sizeof(lines)) {
        return ERR_TOO_BIG;
    }
    enum err err = bytes_append(out, bytes_view_of(lines, (size_t)size));
    if (err == ERR_OK) {
        err = filestore_http_add_disposition(file->name, out);
    }
    return err == ERR_OK ? bytes_append(out, bytes_view_of("", 1)) : err;
}

// The answer to a request for a file that is there. After it the download may be gone.
static void
answer_found(struct download *download)
{
    char etag[FILESTORE_HTTP_ETAG_BYTES];
    char line[128];
    struct bytes headers = {0};
    struct filestore_http_part part = {.status = 200, .size = download->file.size_bytes};

    filestore_http_etag(download->file.sha256, etag);
    if (download->if_none_match[0] != '\0' && filestore_http_lists_etag(download->if_none_match, etag)) {
        (void)snprintf(line, sizeof(line), "ETag: %s\r\nCache-Control: private, no-cache\r\n", etag);
        rpc_content_begin(download->content, 304, line, 0);
        return;
    }
    if (is_range_current(download, etag)) {
        part = filestore_http_choose_part(download->range, download->file.size_bytes);
    }
    if (part.status == 416) {
        (void)snprintf(line, sizeof(line), "Content-Range: bytes */%llu\r\nETag: %s\r\n",
            (unsigned long long)download->file.size_bytes, etag);
        rpc_content_answer(download->content, 416, line, "The file has no such bytes.\n");
        return;
    }
    download->at = part.first;
    download->end = part.first + part.size;
    if (!download->is_head && part.first == 0) {
        count_fetch(download);
    }
    if (add_headers(download, &part, etag, &headers) == ERR_OK) {
        rpc_content_begin(download->content, part.status, (const char *)headers.data, part.size);
    } else {
        rpc_content_abort(download->content);
    }
    bytes_free(&headers);
}

static enum err
find_read(struct store_tx *tx, void *context)
{
    struct download *download = context;
    return filestore_links_find(tx, download->token_sha256, clock_unix_ms(), &download->found, &download->file);
}

static void
run_find(struct work *work)
{
    struct download *download = (struct download *)work;
    enum err err = store_read(download->http->filestore->store, find_read, download);
    if (err == ERR_OK) {
        answer_found(download);
    } else if (err == ERR_NOT_FOUND) {
        rpc_content_answer(download->content, 404, "", gone_text);
    } else {
        log_error("FILE-LINK-FAILED", NULL, "a link could not be looked up: %s", err_sentence(err));
        rpc_content_answer(download->content, 503, "Retry-After: 10\r\n", "The server has a problem; try later.\n");
    }
}

// --- The body -------------------------------------------------------------------------------------------------------

static enum err
chunk_read(struct store_tx *tx, void *context)
{
    struct download *download = context;
    struct filestore_link found;
    struct filestore_file file;
    enum err err = filestore_links_find(tx, download->token_sha256, clock_unix_ms(), &found, &file);
    if (err == ERR_OK) {
        err = filestore_core_find_chunk(tx, download->file.blob_id, download->at / download->file.chunk_bytes,
            &download->chunk);
    }
    return err;
}

static enum err
read_content(const struct download *download, uint64_t offset, void *out, size_t size)
{
    const struct filestore_file *file = &download->file;
    return filestore_read_content(download->http->filestore, file->blob_id, file->size_bytes, offset, out, size);
}

// verify reads a segment through in pieces; buffer has room for one. A segment of one piece is in it afterwards.
static enum err
verify(const struct download *download, uint64_t offset, uint32_t size, uint8_t *buffer)
{
    uint8_t sha256[DIGEST_SHA256_BYTES];
    struct digest *digest = NULL;
    enum err err = digest_new(DIGEST_SHA256, &digest);
    for (uint32_t at = 0; err == ERR_OK && at < size;) {
        uint32_t step = size - at < RPC_CONTENT_PIECE_MAX_BYTES ? size - at : RPC_CONTENT_PIECE_MAX_BYTES;
        err = read_content(download, offset + at, buffer, step);
        if (err == ERR_OK) {
            err = digest_update(digest, bytes_view_of(buffer, step));
        }
        at += step;
    }
    if (err == ERR_OK) {
        err = digest_final(digest, sha256);
    }
    if (err == ERR_OK && memcmp(sha256, download->chunk.sha256, sizeof(sha256)) != 0) {
        err = ERR_CORRUPT;
    }
    digest_free(&digest);
    return err;
}

// read_piece makes the next piece. ERR_NOT_FOUND: the link has ended meanwhile.
static enum err
read_piece(struct download *download, struct bytes *piece)
{
    const struct filestore_file *file = &download->file;
    uint64_t index = download->at / file->chunk_bytes;
    uint64_t in_chunk = download->at % file->chunk_bytes;
    uint32_t chunk_size = 0;
    enum err err = filestore_core_chunk_size(file, index, &chunk_size);
    if (err == ERR_OK) {
        err = bytes_reserve(piece, RPC_CONTENT_PIECE_MAX_BYTES);
    }
    if (err != ERR_OK) {
        return err;
    }
    uint64_t size =
        chunk_size - in_chunk < download->end - download->at ? chunk_size - in_chunk : download->end - download->at;
    if (size > RPC_CONTENT_PIECE_MAX_BYTES) {
        size = RPC_CONTENT_PIECE_MAX_BYTES;
    }
    if (download->index != index) {
        err = store_read(download->http->filestore->store, chunk_read, download);
        if (err != ERR_OK) {
            return err;
        }
        err = verify(download, index * file->chunk_bytes, chunk_size, piece->data);
        if (err != ERR_OK) {
            return err == ERR_NOT_FOUND || err == ERR_OUT_OF_RANGE ? ERR_CORRUPT : err;
        }
        download->index = index;
        if (chunk_size <= RPC_CONTENT_PIECE_MAX_BYTES) {
            memmove(piece->data, piece->data + in_chunk, (size_t)size);
            piece->size = (size_t)size;
            return ERR_OK;
        }
    }
    err = read_content(download, download->at, piece->data, (size_t)size);
    piece->size = (size_t)size;
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}

static void
log_failure(const struct download *download, enum err err)
{
    char id[2 * FILESTORE_ID_BYTES + 1];
    if (err == ERR_NOT_FOUND) {
        log_info("FILE-LINK-ENDED", NULL, "a download ends, since its link was revoked, has expired or leads nowhere");
        return;
    }
    bytes_to_hex(bytes_view_of(download->file.id, sizeof(download->file.id)), id);
    log_error("FILE-DAMAGED", NULL,
        "byte %llu of file %s, which somebody fetches by a link, cannot be read as it was stored (%s): restore it from "
        "a "
        "backup",
        (unsigned long long)download->at, id, err_name(err));
}

static void
run_piece(struct work *work)
{
    struct download *download = (struct download *)work;
    struct bytes piece = {0};
    enum err err = read_piece(download, &piece);
    if (err == ERR_OK) {
        download->at += piece.size;
        rpc_content_write(download->content, &piece);
    } else {
        log_failure(download, err);
        rpc_content_abort(download->content);
    }
    bytes_free(&piece);
}

// --- What the listener calls ----------------------------------------------------------------------------------------

// Whether there is room for one more, which then has its place.
static bool
enter(struct filestore_http *http, struct download *download)
{
    struct download *other;
    size_t same_count = 0;
    pthread_mutex_lock(&http->locked.mutex);
    TAILQ_FOREACH(other, &http->locked.downloads, link)
    {
        same_count += strcmp(other->address, download->address) == 0;
    }
    bool has_room =
        http->locked.count < FILESTORE_HTTP_DOWNLOADS_MAX && same_count < FILESTORE_HTTP_DOWNLOADS_PER_ADDRESS_MAX;
    if (has_room) {
        TAILQ_INSERT_TAIL(&http->locked.downloads, download, link);
        http->locked.count++;
    }
    pthread_mutex_unlock(&http->locked.mutex);
    return has_room;
}

static void
copy_field(char out[FIELD_MAX_BYTES], const char *field)
{
    size_t size = strlen(field);
    if (size < FIELD_MAX_BYTES) {
        memcpy(out, field, size + 1);
    }
}

static void
on_open(void *context, struct rpc_content *content, const struct rpc_content_request *request)
{
    struct filestore_http *http = context;
    uint8_t token_sha256[DIGEST_SHA256_BYTES];
    if (filestore_links_hash_token(request->path, token_sha256) != ERR_OK) {
        rpc_content_answer(content, 404, "", gone_text);
        return;
    }
    struct download *download = calloc(1, sizeof(*download));
    if (download == NULL) {
        rpc_content_answer(content, 503, "Retry-After: 10\r\n", "Out of memory; try later.\n");
        return;
    }
    (void)snprintf(download->address, sizeof(download->address), "%s", request->address);
    if (!enter(http, download)) {
        free(download);
        rpc_content_answer(content, 503, "Retry-After: 10\r\n", "Too many downloads at once; try later.\n");
        return;
    }
    filestore_begin(http->filestore);
    download->http = http;
    download->content = content;
    download->is_head = request->is_head;
    download->index = UINT64_MAX;
    memcpy(download->token_sha256, token_sha256, sizeof(token_sha256));
    copy_field(download->range, request->range);
    copy_field(download->if_range, request->if_range);
    copy_field(download->if_none_match, request->if_none_match);
    rpc_content_set_user(content, download);
    download->work.run = run_find;
    work_pool_submit(http->filestore->chunk_pool, &download->work);
}

static void
on_next(void *context, struct rpc_content *content)
{
    struct filestore_http *http = context;
    struct download *download = rpc_content_user(content);
    download->work.run = run_piece;
    work_pool_submit(http->filestore->chunk_pool, &download->work);
}

static void
on_closed(void *context, struct rpc_content *content)
{
    struct filestore_http *http = context;
    struct filestore_service *filestore = http->filestore;
    struct download *download = rpc_content_user(content);
    if (download == NULL) {
        return;
    }
    pthread_mutex_lock(&http->locked.mutex);
    TAILQ_REMOVE(&http->locked.downloads, download, link);
    http->locked.count--;
    pthread_mutex_unlock(&http->locked.mutex);
    free(download);
    filestore_end(filestore);
}

enum err
filestore_http_new(struct filestore_service *filestore, struct filestore_http **out)
{
    struct filestore_http *http = calloc(1, sizeof(*http));
    if (http == NULL) {
        return ERR_NO_MEMORY;
    }
    http->filestore = filestore;
    http->handler = (struct rpc_content_handler){
        .prefix = "/f/",
        .patience_ms = READER_PATIENCE_MS,
        .open = on_open,
        .next = on_next,
        .closed = on_closed,
        .context = http,
    };
    pthread_mutex_init(&http->locked.mutex, NULL);
    TAILQ_INIT(&http->locked.downloads);
    *out = http;
    return ERR_OK;
}

const struct rpc_content_handler *
filestore_http_handler(const struct filestore_http *http)
{
    return &http->handler;
}

void
filestore_http_free(struct filestore_http **http)
{
    if (*http != NULL) {
        pthread_mutex_destroy(&(*http)->locked.mutex);
        free(*http);
        *http = NULL;
    }
}
