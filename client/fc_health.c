#include "client/fc_health.h"

#include <stdlib.h>
#include <string.h>

#include "fc/rpc/v1/health.stub.h"

enum {
    TIMEOUT_MS = 5000, // whoever asks wants to know it now
};

enum err
fc_health_check(struct fc_session *session, const char *service, bool *is_serving_out, struct err_detail *why)
{
    Fc__Rpc__V1__HealthCheckRequest request = FC__RPC__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Rpc__V1__HealthCheckResponse *response = NULL;
    request.service = strdup(service);
    if (request.service == NULL) {
        return ERR_NO_MEMORY;
    }
    fc_rpc_v1_health_init(&call, fc_session_channel(session));
    call.timeout_ms = TIMEOUT_MS;
    enum err err = fc_session_explain(&call, fc_rpc_v1_health_check(&call, &request, &response), why);
    if (err == ERR_OK) {
        *is_serving_out = response->status == FC__RPC__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    }
    rpc_unary_deinit(&call);
    free(request.service);
    return err;
}
