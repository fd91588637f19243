"""Client of the outreach gateway: `Gateway` for code that waits, `AsyncGateway` for code that awaits."""

from gateway_client._client import AsyncGateway, Gateway
from gateway_client._errors import ClientError, Fault, NoAnswer, NotUnderstood, Refused
from gateway_client._tries import Retry
from gateway_client._version import __version__

__all__ = [
    "AsyncGateway",
    "ClientError",
    "Fault",
    "Gateway",
    "NoAnswer",
    "NotUnderstood",
    "Refused",
    "Retry",
    "__version__",
]
