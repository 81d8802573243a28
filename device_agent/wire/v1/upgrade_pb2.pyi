from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class InstallRequest(_message.Message):
    __slots__ = ("file_name", "wheel", "confirm_within_s", "lease_token")
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    WHEEL_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_WITHIN_S_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    file_name: str
    wheel: bytes
    confirm_within_s: float
    lease_token: str
    def __init__(self, file_name: _Optional[str] = ..., wheel: _Optional[bytes] = ..., confirm_within_s: _Optional[float] = ..., lease_token: _Optional[str] = ...) -> None: ...

class InstallResponse(_message.Message):
    __slots__ = ("name", "is_current")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IS_CURRENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    is_current: bool
    def __init__(self, name: _Optional[str] = ..., is_current: bool = ...) -> None: ...

class ConfirmRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ConfirmResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
