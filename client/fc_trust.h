// Whether the server behind a tls+tcp:// URL is the right one, decided as ssh does it: on first use its fingerprint is
// compared by a person, or was given; from then on it is known, and another one is refused.
#ifndef CLIENT_FC_TRUST_H
#define CLIENT_FC_TRUST_H

#include <stdbool.h>

#include "base/err.h"
#include "rpc/rpc_tls.h"

// All zero: only servers that are known already.
struct fc_trust {
    const char *fingerprint; // of a server that is not known yet; NULL: ask
    // Asks whether an unknown server is the right one. NULL: nobody can be asked.
    bool (*confirm)(void *context, const char *server, const char *fingerprint);
    void *context;
    const char *ca_path;          // instead of all that: authorities that have signed the server's certificate
    const char *certificate_path; // this client's own, for servers that ask, with key_path
    const char *key_path;
};

// fc_trust_server makes what channels to this URL need; NULL for one without TLS. trust may be NULL. A server that is
// not known yet is connected to, and remembered if it is trusted. ERR_UNTRUSTED: it is not; `why` tells what to do.
enum err fc_trust_server(const char *url, const struct fc_trust *trust, struct rpc_tls_client **out,
    struct err_detail *why) ERR_CHECKED;

#endif
