"""A client in Python that makes echo calls and measures them, as bench/load.h says for those in C:

    python_client.py fc-python|grpc-python URL CONNECTIONS OUTSTANDING SECONDS PAYLOAD-BYTES [CERTIFICATE]

Each call that is outstanding has a thread of its own, which waits for the answer before it makes the next call, since that is
how both clients are used. Both use the same messages and the same protobuf library.
"""
import json
import resource
import sys
import threading
import time

from fc.test.v1 import echo_pb2

TOKEN = "fct_" + 44 * "0"  # bench/token.h
METHOD = "fc.test.v1.Echo/EchoAsUser"
WARM_UP_S = 0.5
TIMEOUT_S = 60


def fc_channel(url, certificate):
    """What makes a call, on a connection of its own."""
    from fc_client import Channel, Trust

    channel = Channel(url, token=TOKEN, trust=Trust(ca=certificate))
    return lambda request: channel.call(METHOD, request, echo_pb2.EchoResponse, timeout=TIMEOUT_S)


def grpc_channel(url, certificate):
    import grpc

    options = [("grpc.use_local_subchannel_pool", 1),  # else channels to one address share a connection
               ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    address = url.partition("://")[2]
    if certificate is None:
        channel = grpc.insecure_channel(address, options)
    else:
        with open(certificate, "rb") as file:
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(file.read()), options)
    method = channel.unary_unary("/" + METHOD, echo_pb2.EchoRequest.SerializeToString, echo_pb2.EchoResponse.FromString)
    return lambda request: method(request, metadata=(("authorization", TOKEN),), timeout=TIMEOUT_S)


CHANNELS = {"fc-python": fc_channel, "grpc-python": grpc_channel}


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Caller(threading.Thread):
    def __init__(self, call, payload_bytes, measure_from, end):
        super().__init__(daemon=True)
        self.call = call
        self.request = echo_pb2.EchoRequest(data=bytes(payload_bytes))
        self.measure_from, self.end = measure_from, end
        self.latencies = []
        self.has_ended = False

    def run(self):
        started = time.monotonic()
        while started < self.end:
            if len(self.call(self.request).data) != len(self.request.data):
                raise RuntimeError("the answer has another size")
            ended = time.monotonic()
            if started >= self.measure_from:
                self.latencies.append(ended - started)
            started = ended
        self.has_ended = True


def main():
    if len(sys.argv) not in (7, 8):
        sys.exit(__doc__)
    runtime, url, connections, outstanding, seconds, payload_bytes = sys.argv[1:7]
    certificate = sys.argv[7] if len(sys.argv) == 8 else None
    calls = [CHANNELS[runtime](url, certificate) for _ in range(int(connections))]
    measure_from = time.monotonic() + WARM_UP_S
    end = measure_from + float(seconds)
    callers = [Caller(call, int(payload_bytes), measure_from, end) for call in calls for _ in range(int(outstanding))]
    for caller in callers:
        caller.start()
    time.sleep(max(0, measure_from - time.monotonic()))
    cpu_at_start = cpu_s()
    for caller in callers:
        caller.join()
    spent_s = cpu_s() - cpu_at_start
    latencies = sorted(latency for caller in callers for latency in caller.latencies)
    if not latencies or not all(caller.has_ended for caller in callers):
        sys.exit("a call failed, or none ended in time")
    at = lambda share: round(1e6 * latencies[int(share * (len(latencies) - 1))])
    print(json.dumps({"calls_per_s": len(latencies) / float(seconds), "p50_us": at(0.5), "p99_us": at(0.99),
                      "client_cpu_us": 1e6 * spent_s / len(latencies), "calls": len(latencies)}))


if __name__ == "__main__":
    main()
