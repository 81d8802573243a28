"""Certificates as values: making an authority, issuing, signing, looking into one. ECDSA on P-256 throughout.

Every certificate begins in 1970: a board without a battery for its clock starts there, and until it has the time from the
network it has to get on with the host. The authority and the certificate of an enrolment have no end (RFC 5280, 4.1.2.5:
9999); the others end after a year.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.contract.errors import NotTrusted
from device_agent.contract.joining import ENROLMENT_NAME, Role
from host.fleet.identity import LIFE_S, fingerprint

_BEGIN = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
_SHA256 = hashes.SHA256()
_PEM = serialization.Encoding.PEM
_USES = {Role.DEVICE: ExtendedKeyUsageOID.SERVER_AUTH, Role.HOST: ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A private key and its certificate, in PEM."""

    key_pem: str
    certificate_pem: str

    def __repr__(self) -> str:
        return f"Pair({fingerprint(self.certificate_pem)[:16]})"  # a private key has no place in a log


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a certificate says. `expires_s` is its end in seconds since 1970."""

    names: tuple[str, ...]
    expires_s: float
    serial: str


def new_authority(host: str) -> Pair:
    """Return a new authority, named after the host for people who look into it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Boardfit authority of {host}")
    builder = _builder(name, name, key.public_key(), _NEVER)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Pair(key_pem=_private(key), certificate_pem=builder.sign(key, _SHA256).public_bytes(_PEM).decode())


def new_enrolment() -> Pair:
    """Return a certificate that signs itself, for one enrolment; its fingerprint travels in the code."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(ENROLMENT_NAME)
    builder = _builder(name, name, key.public_key(), _NEVER)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(ENROLMENT_NAME)]), critical=False)
    return Pair(key_pem=_private(key), certificate_pem=builder.sign(key, _SHA256).public_bytes(_PEM).decode())


def new_request(name: str) -> tuple[str, str]:
    """Return (a new private key, a request for its certificate), both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, _SHA256)
    return _private(key), request.public_bytes(_PEM).decode()


def issue(authority: Pair, request_pem: str, name: str, role: Role, *, now_s: float, life_s: float = LIFE_S) -> str:
    """Return a certificate for the key in the request, under `name`; nothing else in the request is looked at.

    Raises NotTrusted if the request is damaged, not signed by its own key, or of another kind of key.
    """
    try:
        request = x509.load_pem_x509_csr(request_pem.encode())
        signed = request.is_signature_valid
        public = request.public_key()
    except (ValueError, TypeError) as error:
        raise NotTrusted(f"the certificate request cannot be read: {error}") from None
    if not signed or not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise NotTrusted("the certificate request is not signed by a key on the curve P-256")
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem.encode())
    end = datetime.fromtimestamp(now_s, timezone.utc).replace(microsecond=0) + timedelta(seconds=life_s)
    builder = _builder(_name(name), issuer.subject, public, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([_USES[role]]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    known = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    builder = builder.add_extension(known, critical=False)
    return builder.sign(_loaded(authority), _SHA256).public_bytes(_PEM).decode()


def sign(authority: Pair, document: bytes) -> bytes:
    """Return the authority's signature: ECDSA with SHA-256, DER."""
    return _loaded(authority).sign(document, ec.ECDSA(_SHA256))


def check_pair(pair: Pair) -> None:
    """Raise ValueError unless the key is the certificate's."""
    if x509.load_pem_x509_certificate(pair.certificate_pem.encode()).public_key() != _loaded(pair).public_key():
        raise ValueError("the private key and the certificate do not belong together")


def look_into(certificate: str | bytes) -> Found:
    """Return what a certificate says, given in PEM or DER. Raises ValueError for something else."""
    if isinstance(certificate, bytes):
        loaded = x509.load_der_x509_certificate(certificate)
    else:
        loaded = x509.load_pem_x509_certificate(certificate.encode())
    try:
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    return Found(
        names=tuple(names.get_values_for_type(x509.DNSName)),
        expires_s=loaded.not_valid_after_utc.timestamp(),
        serial=f"{loaded.serial_number:x}",
    )


def is_issued_by(certificate_der: bytes, authority_pem: str) -> bool:
    """Say whether the authority signed the certificate. Dates are not looked at."""
    try:
        issuer = x509.load_pem_x509_certificate(authority_pem.encode())
        x509.load_der_x509_certificate(certificate_der).verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(_BEGIN).not_valid_after(end)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode()


def _loaded(pair: Pair) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pair.key_pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"the private key is of the kind {type(key).__name__}, not on an elliptic curve")
    return key
