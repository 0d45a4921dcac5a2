"""Services as objects, from the descriptors in the generated modules.

    test = Stub(channel, conformance_pb2.DESCRIPTOR.services_by_name["Conformance"])

    response = test.Echo(text="hello")                   # one request, one response
    for item in test.Stream(count=3): ...                # a stream of responses
    response = test.Upload(Data(number=i) for i in ...)  # a stream of requests
    for item in test.Mirror(messages): ...               # both; another thread sends meanwhile

Each has `start`, which waits for nothing:

    call = test.Echo.start(text="hello")                 # a future; call.result() is the response
    stream = test.Upload.start(messages)                 # another thread sends; stream.result() is the response
    with test.Mirror.start() as stream: ...              # stream.send() by hand

All take the options of Options, and raise RpcError.
"""
import threading
from typing import Any, Iterable, Optional, Tuple, Type, TypedDict

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from .call import Call
from .channel import Channel
from .stream import Stream


class Options(TypedDict, total=False):
    """What every call takes besides its request; Channel.start says more."""

    timeout: float  # seconds, 30 unless given
    request_id: Optional[bytes]
    metadata: Iterable[Tuple[str, bytes]]


def _message_class(descriptor: Descriptor) -> Type[Message]:
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return descriptor._concrete_class  # protobuf before 4.22, whose MessageFactory makes another class than protoc did


class _Method:
    """What all methods have: a channel, a name, and the types of what goes there and back."""

    def __init__(self, channel: Channel, descriptor: MethodDescriptor):
        self._channel = channel
        self._name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
        self._request_type = _message_class(descriptor.input_type)
        self._response_type = _message_class(descriptor.output_type)

    def _request(self, request: Optional[Message], fields: Any) -> Tuple[Message, Options]:
        """The request, given as it is or by its fields, and the options that stood among them."""
        options: Any = {name: fields.pop(name) for name in Options.__annotations__ if name in fields}
        if request is None:
            return self._request_type(**fields), options
        if fields:
            raise TypeError("either a request or its fields")
        if not isinstance(request, self._request_type):
            raise TypeError(f"{type(request).__name__} instead of {self._request_type.__name__}")
        return request, options

    def _open(self, options: Any, request: Optional[Message] = None) -> Stream:
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            raise TypeError(f"{self._name} takes a stream of requests, and no {', '.join(sorted(unknown))}")
        return self._channel.stream(self._name, self._request_type, self._response_type, request=request, **options)


class UnaryMethod(_Method):
    """A method with one request and one response. Its arguments are the request's fields, or the request itself."""

    def start(self, request: Optional[Message] = None, **fields_and_options: Any) -> Call:
        """Sends the call and returns at once; result() of what it returns waits for the answer."""
        request, options = self._request(request, fields_and_options)
        return self._channel.start(self._name, request, self._response_type, **options)

    def __call__(self, request: Optional[Message] = None, **fields_and_options: Any) -> Any:
        """Makes the call and returns the response."""
        return self.start(request, **fields_and_options).result()


class ServerStreamingMethod(_Method):
    """A method with one request and a stream of responses. Arguments as those of a UnaryMethod."""

    def start(self, request: Optional[Message] = None, **fields_and_options: Any) -> Stream:
        """Sends the call and returns at once; iterating over what it returns waits for the responses."""
        request, options = self._request(request, fields_and_options)
        return self._open(options, request)

    __call__ = start


class ClientStreamingMethod(_Method):
    """A method with a stream of requests and one response. Its argument is an iterable of the requests."""

    def start(self, messages: Optional[Iterable[Message]] = None, **options: Any) -> Stream:
        """Opens the stream, and has another thread send the messages if there are any. result() waits for the response.

        What their iterator raises ends the call, and is what the stream's reader gets.
        """
        stream = self._open(options)
        if messages is not None:
            threading.Thread(target=stream._state.feed, args=[messages], name="fc-stream-feed", daemon=True).start()
        return stream

    def __call__(self, messages: Iterable[Message], **options: Any) -> Any:
        """Sends the messages and returns the response. What their iterator raises ends the call, and is raised here."""
        with self._open(options) as stream:
            stream._state.feed(messages)
            return stream.result()


class BidirectionalMethod(ClientStreamingMethod):
    """A method with a stream both ways. Its argument is an iterable of the requests."""

    __call__ = ClientStreamingMethod.start  # another thread sends while the caller iterates


# By whether the client and whether the server streams.
_METHOD_TYPES = {
    (False, False): UnaryMethod, (False, True): ServerStreamingMethod, (True, False): ClientStreamingMethod,
    (True, True): BidirectionalMethod}


class Stub:
    """A service with its methods as attributes: Stub(channel, descriptor).Send(room="kitchen", text="hello")."""

    def __init__(self, channel: Channel, service: ServiceDescriptor):
        self._methods = {method.name: _METHOD_TYPES[method.client_streaming, method.server_streaming](channel, method)
                         for method in service.methods}
        self._service_name = service.full_name

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_methods"][name]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('_service_name')} has no method {name}") from None

    def __dir__(self) -> Any:
        return sorted(self._methods)
