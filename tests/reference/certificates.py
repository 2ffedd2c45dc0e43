"""Certificates for tests: a root of their own and one signer below it, as C2PA asks for them."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PURPOSES = (ExtendedKeyUsageOID.EMAIL_PROTECTION,)


def write_chain(
    folder: Path,
    *,
    from_days: float = -1,
    to_days: float = 30,
    purposes: Sequence[x509.ObjectIdentifier] = PURPOSES,
    key: Any = None,
) -> tuple[Path, Path]:
    """Write ``cert.pem`` (signer and root) and ``key.pem`` into a folder; return their paths.

    Args:
        folder: made if missing.
        from_days: when the signer's certificate begins, days from now.
        to_days: when it ends.
        purposes: its extended key usages.
        key: of the signer; None makes one.
    """
    now = datetime.datetime.now(datetime.UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), key or ec.generate_private_key(ec.SECP256R1())

    def built(
        name: str, public: Any, number: int, starts: float, ends: float, is_root: bool
    ) -> x509.CertificateBuilder:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        ) | {"encipher_only": False, "decipher_only": False}
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("Root"))
            .public_key(public)
            .serial_number(number)
            .not_valid_before(now + datetime.timedelta(days=starts))
            .not_valid_after(now + datetime.timedelta(days=ends))
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=is_root, crl_sign=is_root, **usage), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    root = built("Root", root_key.public_key(), 1, -400, 400, True).sign(root_key, hashes.SHA256())
    leaf = built("Signer", key.public_key(), 2, from_days, to_days, False)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage(purposes), critical=False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
    )
    pem = serialization.Encoding.PEM
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(leaf.sign(root_key, hashes.SHA256()).public_bytes(pem) + root.public_bytes(pem))
    paths[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return paths


def _name(common: str) -> x509.Name:
    names = (NameOID.ORGANIZATION_NAME, "Studio tests"), (NameOID.COMMON_NAME, common)
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in names])
