from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_DEVICE: _ClassVar[Role]
    ROLE_HOST: _ClassVar[Role]
ROLE_UNSPECIFIED: Role
ROLE_DEVICE: Role
ROLE_HOST: Role

class JoinRequest(_message.Message):
    __slots__ = ("role", "secret", "request_pem", "hostname", "version", "clock_s", "device_id", "address", "profile")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    REQUEST_PEM_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    role: Role
    secret: str
    request_pem: str
    hostname: str
    version: str
    clock_s: float
    device_id: str
    address: str
    profile: str
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., secret: _Optional[str] = ..., request_pem: _Optional[str] = ..., hostname: _Optional[str] = ..., version: _Optional[str] = ..., clock_s: _Optional[float] = ..., device_id: _Optional[str] = ..., address: _Optional[str] = ..., profile: _Optional[str] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("name", "certificate_pem", "authority_pem", "expires_s", "revocations", "devices")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_PEM_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_S_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    name: str
    certificate_pem: str
    authority_pem: str
    expires_s: float
    revocations: SignedRevocations
    devices: _containers.RepeatedCompositeFieldContainer[KnownDevice]
    def __init__(self, name: _Optional[str] = ..., certificate_pem: _Optional[str] = ..., authority_pem: _Optional[str] = ..., expires_s: _Optional[float] = ..., revocations: _Optional[_Union[SignedRevocations, _Mapping]] = ..., devices: _Optional[_Iterable[_Union[KnownDevice, _Mapping]]] = ...) -> None: ...

class KnownDevice(_message.Message):
    __slots__ = ("name", "address", "device_id", "profile", "tags", "tls_name")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TLS_NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    device_id: str
    profile: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    tls_name: str
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., device_id: _Optional[str] = ..., profile: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., tls_name: _Optional[str] = ...) -> None: ...

class ConfirmRequest(_message.Message):
    __slots__ = ("secret",)
    SECRET_FIELD_NUMBER: _ClassVar[int]
    secret: str
    def __init__(self, secret: _Optional[str] = ...) -> None: ...

class ConfirmResponse(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class SignedRevocations(_message.Message):
    __slots__ = ("document", "signature")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    signature: bytes
    def __init__(self, document: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ExchangeRevocationsResponse(_message.Message):
    __slots__ = ("newer",)
    NEWER_FIELD_NUMBER: _ClassVar[int]
    newer: SignedRevocations
    def __init__(self, newer: _Optional[_Union[SignedRevocations, _Mapping]] = ...) -> None: ...

class RequestCertificateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CertificateRequest(_message.Message):
    __slots__ = ("request_pem",)
    REQUEST_PEM_FIELD_NUMBER: _ClassVar[int]
    request_pem: str
    def __init__(self, request_pem: _Optional[str] = ...) -> None: ...

class InstallCertificateRequest(_message.Message):
    __slots__ = ("certificate_pem", "expires_s")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_S_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: str
    expires_s: float
    def __init__(self, certificate_pem: _Optional[str] = ..., expires_s: _Optional[float] = ...) -> None: ...

class InstallCertificateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
