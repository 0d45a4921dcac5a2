// The Health service. Workers enter; it keeps nothing.
#include "rpc/rpc_health.h"

#include <stdlib.h>

#include "rpc/rpc_call.h"
#include "rpc/rpc_server_priv.h"

#include "fc/rpc/v1/health.pb-c.h"

struct rpc_health {
    Fc__Rpc__V1__Health_Service service; // first
    struct rpc_server *server;
};

static void
check(Fc__Rpc__V1__Health_Service *service, const Fc__Rpc__V1__HealthCheckRequest *request,
    Fc__Rpc__V1__HealthCheckResponse_Closure answer, void *closure_data)
{
    const struct rpc_server *server = ((struct rpc_health *)service)->server;
    Fc__Rpc__V1__HealthCheckResponse response = FC__RPC__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct bytes_view name = bytes_view_of_text(request->service);
    if (name.size > 0 && !rpc_method_table_has_service(&server->methods, name)) {
        rpc_call_fail(closure_data, ERR_NOT_FOUND, "this server has no service \"%s\"", request->service);
        return;
    }
    response.status = atomic_load(&server->is_draining)
                          ? FC__RPC__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
                          : FC__RPC__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    answer(&response, closure_data);
}

enum err
rpc_health_new(struct rpc_server *server, struct rpc_health **out)
{
    static const struct rpc_method_rule rules[] = {
        {.method = "Check", .access = RPC_ACCESS_ALWAYS, .max_request_bytes = 1024},
    };
    struct rpc_health *health = calloc(1, sizeof(*health));
    if (health == NULL) {
        return ERR_NO_MEMORY;
    }
    health->service = (Fc__Rpc__V1__Health_Service){.base = FC__RPC__V1__HEALTH__BASE_INIT, .check = check};
    health->server = server;
    enum err err = rpc_server_add_service(server, &health->service.base, rules, sizeof(rules) / sizeof(rules[0]));
    if (err != ERR_OK) {
        rpc_health_free(&health);
        return err;
    }
    *out = health;
    return ERR_OK;
}

void
rpc_health_free(struct rpc_health **health)
{
    free(*health);
    *health = NULL;
}
