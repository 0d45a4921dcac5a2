// A client on gRPC C++'s completion queue, as bench/load.h says. RUNTIME names the server it calls and changes nothing.
//
//     bench_grpc_client grpc-callback|grpc-cq URL CONNECTIONS OUTSTANDING SECONDS PAYLOAD-BYTES [CERTIFICATE]

#include <grpcpp/grpcpp.h>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bench/grpc/file.h"
#include "bench/load.h"
#include "bench/token.h"

#include "fc/test/v1/echo.grpc.pb.h"

using fc::test::v1::Echo;
using fc::test::v1::EchoRequest;
using fc::test::v1::EchoResponse;

namespace
{

// One slot: makes a call, and the next when it has been answered.
class Slot
{
  public:
    void start(Echo::Stub *stub, grpc::CompletionQueue *queue, const EchoRequest *request)
    {
        stub_ = stub;
        queue_ = queue;
        request_ = request;
        call();
    }

    void finish(bool ok)
    {
        if (!ok || !status_.ok()) {
            load_die("call", status_.error_message().c_str());
        }
        if (load_call_ended(started_us_, response_.data().size())) {
            call();
        }
    }

  private:
    void call()
    {
        context_.emplace();
        context_->AddMetadata("authorization", BENCH_TOKEN);
        started_us_ = load_now_us();
        reader_ = stub_->AsyncEchoAsUser(&*context_, *request_, queue_);
        reader_->Finish(&response_, &status_, this);
    }

    Echo::Stub *stub_ = nullptr;
    grpc::CompletionQueue *queue_ = nullptr;
    const EchoRequest *request_ = nullptr;
    std::optional<grpc::ClientContext> context_;
    std::unique_ptr<grpc::ClientAsyncResponseReader<EchoResponse>> reader_;
    EchoResponse response_;
    grpc::Status status_;
    uint64_t started_us_ = 0;
};

void
run_queue(grpc::CompletionQueue &queue)
{
    void *tag = nullptr;
    bool ok = false;
    while (queue.Next(&tag, &ok)) {
        static_cast<Slot *>(tag)->finish(ok);
    }
}

} // namespace

int
main(int argc, char **argv)
{
    const struct load *load = load_begin(argc, argv, "grpc-callback|grpc-cq");
    const std::string url = load->url;
    const std::string address = url.substr(url.rfind('/') + 1);

    EchoRequest request;
    request.set_data(load->payload, load->payload_bytes);
    grpc::CompletionQueue queue;
    std::thread(run_queue, std::ref(queue)).detach();

    std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
    if (load->certificate_path != nullptr) {
        grpc::SslCredentialsOptions options;
        options.pem_root_certs = file_text(load->certificate_path);
        credentials = grpc::SslCredentials(options);
    }
    grpc::ChannelArguments own_connection;
    own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); // else channels to one address share one connection
    std::vector<std::unique_ptr<Echo::Stub>> stubs;
    std::vector<Slot> slots(size_t{load->connections} * load->outstanding);
    for (size_t i = 0; i < slots.size(); i++) {
        if (i % load->outstanding == 0) {
            load_pace();
            stubs.push_back(Echo::NewStub(grpc::CreateCustomChannel(address, credentials, own_connection)));
        }
        slots[i].start(stubs.back().get(), &queue, &request);
    }
    load_end();
}
