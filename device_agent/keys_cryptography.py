"""Keys by the Python package `cryptography`, in this process."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from device_agent.contract.errors import NotTrusted
from device_agent.keys import KeyMaker

_SHA256 = hashes.SHA256()


class CryptographyKeys(KeyMaker):
    """See KeyMaker."""

    def new_request(self, name: str) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, _SHA256)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return private.decode(), request.public_bytes(pem).decode()

    def check_certificate(self, key: str, certificate: str, authority: str, name: str) -> None:
        try:
            found = x509.load_pem_x509_certificate(certificate.encode())
            found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
            private = serialization.load_pem_private_key(key.encode(), password=None)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
            raise NotTrusted(f"the certificate is not one of this authority: {error or type(error).__name__}") from None
        if found.public_key() != private.public_key():
            raise NotTrusted("the certificate is for another private key than this board's")
        if list(names) != [x509.DNSName(name)]:
            raise NotTrusted(f"the certificate is not for {name} alone: {', '.join(str(each.value) for each in names)}")

    def check_signature(self, authority: str, document: bytes, signature: bytes) -> None:
        try:
            key = x509.load_pem_x509_certificate(authority.encode()).public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError("its key is of another kind")
            key.verify(signature, document, ec.ECDSA(_SHA256))
        except (ValueError, InvalidSignature) as error:
            raise NotTrusted(f"the document was not signed by this authority: {error or 'wrong signature'}") from None
