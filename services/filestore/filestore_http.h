// GET and HEAD /f/TOKEN[/NAME] on the web listeners: files behind links (filestore_links.h), for browsers and curl.
#ifndef FILESTORE_FILESTORE_HTTP_H
#define FILESTORE_FILESTORE_HTTP_H

#include "base/err.h"
#include "rpc/rpc_content.h"

struct filestore_service;
struct filestore_http;

enum {
    FILESTORE_HTTP_DOWNLOADS_MAX = 256,            // at once; further ones are answered with 503
    FILESTORE_HTTP_DOWNLOADS_PER_ADDRESS_MAX = 32, // of these
};

enum err filestore_http_new(struct filestore_service *filestore, struct filestore_http **out) ERR_CHECKED;

const struct rpc_content_handler *filestore_http_handler(const struct filestore_http *http);

// filestore_http_free: when no download is left, each of which is an operation of the service.
void filestore_http_free(struct filestore_http **http);

#endif
