"""Services as objects, from the descriptors in the generated modules."""
from typing import Any, Optional, Type

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from .call import Call
from .channel import DEFAULT_TIMEOUT_S, Channel


def _message_class(descriptor: Descriptor) -> Type[Message]:
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory().GetPrototype(descriptor)  # protobuf before 4.22


class Method:
    """One method, bound to a channel. Its arguments are the request's fields, or the request itself."""

    def __init__(self, channel: Channel, descriptor: MethodDescriptor):
        self._channel = channel
        self._name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
        self._request_type = _message_class(descriptor.input_type)
        self._response_type = _message_class(descriptor.output_type)

    def start(self, request: Optional[Message] = None, *, timeout: float = DEFAULT_TIMEOUT_S,
              request_id: Optional[bytes] = None, **fields: Any) -> Call:
        """Sends the call and returns at once; result() of what it returns waits for the answer."""
        if request is None:
            request = self._request_type(**fields)
        elif fields:
            raise TypeError("either a request or its fields")
        return self._channel.start(self._name, request, self._response_type, timeout=timeout, request_id=request_id)

    def __call__(self, request: Optional[Message] = None, **options: Any) -> Any:
        """Makes the call and returns the response. Raises RpcError."""
        return self.start(request, **options).result()


class Stub:
    """A service with its methods as attributes: Stub(channel, descriptor).Send(room="kitchen", text="hello")."""

    def __init__(self, channel: Channel, service: ServiceDescriptor):
        self._methods = {method.name: Method(channel, method) for method in service.methods}
        self._service_name = service.full_name

    def __getattr__(self, name: str) -> Method:
        try:
            return self.__dict__["_methods"][name]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('_service_name')} has no method {name}") from None

    def __dir__(self) -> Any:
        return sorted(self._methods)
