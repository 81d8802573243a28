"""Joining, renewing, revoking. Apart from the codec's other modules, since only an agent that has joined loads these messages."""

from __future__ import annotations

from device_agent.codec.fields import enum_from_pb, optional, required
from device_agent.contract.joining import Grant, JoinRequest, KnownDevice, Role, SignedRevocations, check_pem
from device_agent.wire.v1 import join_pb2 as pb

_ROLES = {Role.DEVICE: pb.ROLE_DEVICE, Role.HOST: pb.ROLE_HOST}


def join_request_to_pb(request: JoinRequest) -> pb.JoinRequest:
    return pb.JoinRequest(
        role=_ROLES[request.role],
        secret=request.secret,
        request_pem=request.request_pem,
        hostname=request.hostname,
        version=request.version,
        clock_s=request.clock_s,
        device_id=request.device_id,
        address=request.address,
        profile=request.profile,
    )


def join_request_from_pb(message: pb.JoinRequest) -> JoinRequest:
    return JoinRequest(
        role=enum_from_pb(_ROLES, message.role, "the joiner's role"),
        secret=message.secret,
        request_pem=message.request_pem,
        hostname=message.hostname,
        version=message.version,
        clock_s=message.clock_s,
        device_id=optional(message, "device_id"),
        address=optional(message, "address"),
        profile=optional(message, "profile"),
    )


def grant_to_pb(grant: Grant) -> pb.Grant:
    return pb.Grant(
        name=grant.name,
        certificate_pem=grant.certificate_pem,
        authority_pem=grant.authority_pem,
        expires_s=grant.expires_s,
        revocations=revocations_to_pb(grant.revocations),
        devices=[known_device_to_pb(device) for device in grant.devices],
    )


def grant_from_pb(message: pb.Grant) -> Grant:
    return Grant(
        name=message.name,
        certificate_pem=message.certificate_pem,
        authority_pem=message.authority_pem,
        expires_s=message.expires_s,
        revocations=revocations_from_pb(required(message, "revocations")),
        devices=tuple(map(known_device_from_pb, message.devices)),
    )


def known_device_to_pb(device: KnownDevice) -> pb.KnownDevice:
    return pb.KnownDevice(
        name=device.name,
        address=device.address,
        device_id=device.device_id,
        profile=device.profile,
        tags=device.tags,
        tls_name=device.tls_name,
    )


def known_device_from_pb(message: pb.KnownDevice) -> KnownDevice:
    return KnownDevice(
        name=message.name,
        address=message.address,
        device_id=optional(message, "device_id"),
        profile=optional(message, "profile"),
        tags=tuple(message.tags),
        tls_name=message.tls_name,
    )


def revocations_to_pb(signed: SignedRevocations) -> pb.SignedRevocations:
    return pb.SignedRevocations(document=signed.document, signature=signed.signature)


def revocations_from_pb(message: pb.SignedRevocations) -> SignedRevocations:
    return SignedRevocations(document=message.document, signature=message.signature)


def newer_to_pb(newer: SignedRevocations | None) -> pb.ExchangeRevocationsResponse:
    return pb.ExchangeRevocationsResponse(newer=None if newer is None else revocations_to_pb(newer))


def newer_from_pb(message: pb.ExchangeRevocationsResponse) -> SignedRevocations | None:
    return revocations_from_pb(message.newer) if message.HasField("newer") else None


def confirm_to_pb(secret: str) -> pb.ConfirmRequest:
    return pb.ConfirmRequest(secret=secret)


def confirm_from_pb(message: pb.ConfirmRequest) -> str:
    """Return the secret."""
    secret: str = message.secret
    return secret


def confirmed_to_pb(name: str) -> pb.ConfirmResponse:
    return pb.ConfirmResponse(name=name)


def confirmed_from_pb(message: pb.ConfirmResponse) -> str:
    """Return the name that the joiner goes by on the host."""
    name: str = message.name
    return name


def certificate_request_to_pb(request_pem: str) -> pb.CertificateRequest:
    return pb.CertificateRequest(request_pem=request_pem)


def certificate_request_from_pb(message: pb.CertificateRequest) -> str:
    """Return the request in PEM."""
    return check_pem(message.request_pem, "CERTIFICATE REQUEST")


def renewal_to_pb() -> pb.RequestCertificateRequest:
    return pb.RequestCertificateRequest()


def install_to_pb(certificate_pem: str, expires_s: float) -> pb.InstallCertificateRequest:
    return pb.InstallCertificateRequest(certificate_pem=certificate_pem, expires_s=expires_s)


def install_from_pb(message: pb.InstallCertificateRequest) -> tuple[str, float]:
    """Return the certificate in PEM and its end in seconds since 1970."""
    return check_pem(message.certificate_pem, "CERTIFICATE"), message.expires_s


def installed_to_pb() -> pb.InstallCertificateResponse:
    return pb.InstallCertificateResponse()
