"""What stands around every call: who may call, and how errors of the contract become status codes."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc

from device_agent.contract.errors import AgentInternalError, BoardfitError, JobAborted, status_of

if TYPE_CHECKING:
    from device_agent.admission import Admission

#: Trailing metadata is limited to 8 KiB by default, and percent encoding can triple a message.
_MAX_MESSAGE = 1500

#: What gRPC raises, from a module of its own that has no public name, where a message finds nobody at the other end any more.
_LINE_BROKE = "ExecuteBatchError"

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Guarded(Protocol):
    """A service whose calls are guarded. `admission` is None where there is no TLS: whoever reaches the agent may call it."""

    admission: Admission | None

    @property
    def stopping(self) -> bool:
        """Whether the agent is shutting down."""


def reports_errors(method: Callable[..., Awaitable[_Result]]) -> Callable[..., Awaitable[_Result]]:
    """Let in who may call. Turn BoardfitError into its status, with its code as trailing metadata; log anything else with a
    traceback.
    """

    @functools.wraps(method)
    async def call(self: Guarded, request: Any, context: Any) -> _Result:
        try:
            if self.admission is not None:
                self.admission.check(context.auth_context())
            return await method(self, request, context)
        except BoardfitError as error:
            failure: BoardfitError = error
        except asyncio.CancelledError:
            if not self.stopping:
                raise  # the caller hung up; there is nobody to tell
            failure = JobAborted(f"{method.__name__} was ended by the agent's shutdown; try again when it is back")
        except Exception as error:
            if type(error).__name__ == _LINE_BROKE:
                raise asyncio.CancelledError from error
            _log.exception("unexpected failure in %s", method.__name__)
            failure = AgentInternalError(
                f"the agent failed unexpectedly in {method.__name__}; its log has the traceback"
            )
        status, code = status_of(failure)
        message = str(failure)
        if len(message) > _MAX_MESSAGE:
            message = f"{message[:_MAX_MESSAGE]} ... (cut; the agent's log has all of it)"
            _log.warning("%s: %s", code, failure)
        await context.abort(grpc.StatusCode[status], message, (("boardfit-error", code),))
        raise AssertionError("abort raises")

    return call
