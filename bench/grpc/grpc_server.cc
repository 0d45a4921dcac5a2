// The same echo as bench/rpc_server.c on gRPC C++, by either of its asynchronous interfaces.
//
//     bench_grpc_server grpc-callback|grpc-cq URL [CERTIFICATE KEY]
//
// URL is tcp://HOST:PORT, or tls+tcp://HOST:PORT with a certificate. Prints "ready URL" and serves until its standard
// input ends.

#include <cstdio>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>

#include "bench/grpc/file.h"
#include "bench/load.h"
#include "bench/token.h"

#include "fc/test/v1/echo.grpc.pb.h"

using fc::test::v1::Echo;
using fc::test::v1::EchoRequest;
using fc::test::v1::EchoResponse;

namespace
{

bool
is_authorized(const grpc::ServerContextBase &context)
{
    const auto &metadata = context.client_metadata();
    const auto found = metadata.find("authorization");
    return found != metadata.end() && token_is_valid(found->second.data(), found->second.size());
}

grpc::Status
refusal()
{
    return {grpc::StatusCode::UNAUTHENTICATED, "no such token"};
}

class CallbackEcho final : public Echo::CallbackService
{
    grpc::ServerUnaryReactor *EchoAsUser(grpc::CallbackServerContext *context, const EchoRequest *request,
        EchoResponse *response) override
    {
        auto *reactor = context->DefaultReactor();
        if (is_authorized(*context)) {
            response->set_text(request->text());
            response->set_data(request->data());
            reactor->Finish(grpc::Status::OK);
        } else {
            reactor->Finish(refusal());
        }
        return reactor;
    }
};

// One call of the completion-queue server: waits for a request, answers it, and is deleted when the answer has left.
class QueuedCall
{
  public:
    QueuedCall(Echo::AsyncService &service, grpc::ServerCompletionQueue &queue)
        : service_(service), queue_(queue), responder_(&context_)
    {
        service_.RequestEchoAsUser(&context_, &request_, &responder_, &queue_, &queue_, this);
    }

    void step(bool ok)
    {
        if (is_answered_ || !ok) {
            delete this;
            return;
        }
        new QueuedCall(service_, queue_);
        is_answered_ = true;
        if (is_authorized(context_)) {
            // The request is this call's own, so its bytes are handed over and not copied.
            response_.mutable_text()->swap(*request_.mutable_text());
            response_.mutable_data()->swap(*request_.mutable_data());
            responder_.Finish(response_, grpc::Status::OK, this);
        } else {
            responder_.FinishWithError(refusal(), this);
        }
    }

  private:
    Echo::AsyncService &service_;
    grpc::ServerCompletionQueue &queue_;
    grpc::ServerContext context_;
    EchoRequest request_;
    EchoResponse response_;
    grpc::ServerAsyncResponseWriter<EchoResponse> responder_;
    bool is_answered_ = false;
};

void
serve_queue(Echo::AsyncService &service, grpc::ServerCompletionQueue &queue)
{
    constexpr int WAITING_CALLS = 64; // so that a burst finds calls that wait for it
    for (int i = 0; i < WAITING_CALLS; i++) {
        new QueuedCall(service, queue);
    }
    void *tag = nullptr;
    bool ok = false;
    while (queue.Next(&tag, &ok)) {
        static_cast<QueuedCall *>(tag)->step(ok);
    }
}

} // namespace

int
main(int argc, char **argv)
{
    const std::string kind = argc > 2 ? argv[1] : "";
    const std::string url = argc > 2 ? argv[2] : "";
    const size_t address_at = url.find("://") + 3;
    if ((kind != "grpc-callback" && kind != "grpc-cq") || address_at < 3 || (argc != 3 && argc != 5)) {
        fprintf(stderr, "usage: bench_grpc_server grpc-callback|grpc-cq URL [CERTIFICATE KEY]\n");
        return 2;
    }
    std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
    if (argc == 5) {
        grpc::SslServerCredentialsOptions options;
        options.pem_key_cert_pairs.push_back({file_text(argv[4]), file_text(argv[3])});
        credentials = grpc::SslServerCredentials(options);
    }
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(url.substr(address_at), credentials, &port);

    CallbackEcho callback_service;
    Echo::AsyncService queue_service;
    std::unique_ptr<grpc::ServerCompletionQueue> queue;
    if (kind == "grpc-callback") {
        builder.RegisterService(&callback_service);
    } else {
        builder.RegisterService(&queue_service);
        queue = builder.AddCompletionQueue();
    }
    const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr) {
        load_die(url.c_str(), "cannot listen there");
    }
    if (queue != nullptr) {
        std::thread(serve_queue, std::ref(queue_service), std::ref(*queue)).detach();
    }
    printf("ready %s:%d\n", url.substr(0, url.rfind(':')).c_str(), port);
    fflush(stdout);
    char buffer[64];
    while (read(STDIN_FILENO, buffer, sizeof(buffer)) > 0) {
    }
    _exit(0); // nothing to lose
}
