"""Content Credentials: the signed manifest in generated pictures, where the operator set a certificate.

``STUDIO_C2PA_CERT`` and ``STUDIO_C2PA_KEY`` name two files. Whatever saves a picture (``provenance``) reads them where
it runs; nothing else of the studio ever holds the key. A new picture says ``c2pa.created`` with the source type of
trained models; one that was made of another picture says ``c2pa.opened`` and ``c2pa.edited`` and keeps that one's
manifest, or, where that cannot be read, its pixels without one.

Nothing is fetched, whatever a manifest names: neither remote manifests nor revocation lists. Only the address of a
time stamping service is spoken to, where the operator sets one.

Source: C2PA Technical Specification 2.2, "Actions" and "X.509 Certificates"; c2pa-python 0.38.
"""

import datetime
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from PIL import Image

from studio import __version__
from studio.core.errors import InputError, MissingExtraError, Problem, ResourceError
from studio.imaging.apart import decode_bytes

_MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_BEGINNINGS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"RIFF", "image/webp"))
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_BY = "STUDIO_C2PA_CERT", "STUDIO_C2PA_KEY"


@dataclass(frozen=True)
class Signing:
    """What signs pictures; opened and tried."""

    ends: datetime.datetime
    """When the certificate ends, UTC."""
    _source_type: str
    _context: Any

    def days_left(self) -> int:
        """Return for how many whole days the certificate is valid still."""
        return (self.ends - datetime.datetime.now(datetime.UTC)).days

    def sign(self, data: bytes, file_format: str, parent: bytes | None = None) -> bytes:
        """Return a file with its manifest.

        Args:
            data: a PNG, JPEG or WebP.
            file_format: PNG, JPEG or WEBP.
            parent: the file that the picture was made of; None for a new picture.

        Raises:
            ResourceError: the certificate is not valid any more, or the time stamping service does not answer.
            InputError: nobody can read the parent.
        """
        import c2pa

        builder = self._created() if parent is None else self._edited(parent)
        try:
            return self._signed(builder, data, file_format)
        except c2pa.C2paError as error:
            raise ResourceError(
                f"The picture could not be signed for Content Credentials ({_plain(error)}). The operator sees to "
                "STUDIO_C2PA_CERT."
            ) from None

    def _builder(self) -> Any:
        import c2pa

        said = {"name": "Likeness Studio", "version": __version__}
        return c2pa.Builder({"claim_generator_info": [said]}, self._context)

    def _created(self) -> Any:
        import c2pa

        builder = self._builder()
        source = c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
        builder.set_intent(c2pa.C2paBuilderIntent.CREATE, source)
        return builder

    def _edited(self, parent: bytes) -> Any:
        import c2pa

        kind = next((mime for begin, mime in _BEGINNINGS if parent.startswith(begin)), None)
        try:
            builder = None if kind is None else self._opened(parent, kind)
        except c2pa.C2paError:
            builder = None  # it holds what nobody can read as a manifest
        # Whoever brings it, a picture that was made of another one never says that it was created here: what cannot be
        # an ingredient as it is becomes one by its pixels alone.
        builder = builder or self._opened(_pixels(parent), _MIME["PNG"])
        # The source type again, for parents that say so in another way than by a manifest.
        builder.add_action({"action": "c2pa.edited", "digitalSourceType": self._source_type})
        return builder

    def _opened(self, parent: bytes, kind: str) -> Any:
        import c2pa

        builder = self._builder()
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        # Without a title: the file's name may be that of the subject.
        builder.add_ingredient({"relationship": "parentOf"}, kind, io.BytesIO(parent))
        return builder

    def _signed(self, builder: Any, data: bytes, file_format: str) -> bytes:
        out = io.BytesIO()
        with builder:
            builder.sign(_MIME[file_format], io.BytesIO(data), out)
        return out.getvalue()


def opened(cert: Path | None, key: Path | None, timestamp_url: str, source_type: str) -> Signing:
    """Return what signs with a certificate, tried once.

    Args:
        cert: file of the certificate and its chain, PEM.
        key: file of its private key, PEM.
        timestamp_url: of a time stamping service; empty asks none.
        source_type: what edited pictures say of their source.

    Raises:
        InputError: one of them is missing, or they cannot be used; all that is wrong with them.
        MissingExtraError: the extra ``c2pa`` is not installed.
    """
    if cert is None or key is None:
        cure = "set both, or neither"
        missing = _BY[cert is not None]
        raise InputError.of([Problem(missing, "is missing: a certificate signs with its key", cure, "no_key")])
    cert, key = cert.expanduser(), key.expanduser()
    return _opened(cert, key, timestamp_url, source_type, (_version(cert), _version(key)))


def _version(path: Path) -> tuple[int, int] | None:
    """Return what changes with what stands in a file; None where it cannot be read, which is told later."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def _opened(cert: Path, key: Path, timestamp_url: str, source_type: str, versions: object) -> Signing:
    """Return it for files as they are now: one that is renewed in its place is taken up."""
    try:
        import c2pa
    except ImportError:
        raise MissingExtraError(
            "STUDIO_C2PA_CERT needs a package that is not installed: pip install c2pa-python -c constraints.txt."
        ) from None

    chain, private = _read(cert, key)
    leaf = chain[0]
    algorithm, problems = _algorithm(private), list[Problem]()
    if algorithm is None:
        cure = "use an EC key on P-256, P-384 or P-521, Ed25519, or RSA of 2048 bits and more"
        problems.append(Problem(_BY[1], "is of a kind that C2PA does not sign with", cure, "key_kind"))
    elif _public(leaf.public_key()) != _public(private.public_key()):
        problems.append(
            Problem(_BY[1], "is not the key of the certificate", "name the two that belong together", "not_a_pair")
        )
    problems += _out_of_time(leaf)
    if problems:
        raise InputError.of(problems)
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
    made: dict[str, Any] = {}
    with _refused():  # what the library asks of a certificate beyond that, such as its purposes: tried, not guessed
        for name, url in (("tried", None), ("kept", timestamp_url or None)):
            signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, pem, secret, url))
            made[name] = Signing(leaf.not_valid_after_utc, source_type, _context(signer))
        _try(made["tried"])
    kept: Signing = made["kept"]
    return kept


def _out_of_time(leaf: x509.Certificate) -> list[Problem]:
    now, ends, begins = datetime.datetime.now(datetime.UTC), leaf.not_valid_after_utc, leaf.not_valid_before_utc
    if now >= ends:
        return [Problem(_BY[0], f"is no longer valid: it ended on {ends:%Y-%m-%d}", "renew it", "expired")]
    if now < begins:
        cure = "wait, or set this machine's clock"
        return [Problem(_BY[0], f"is not valid before {begins:%Y-%m-%d %H:%M} UTC", cure, "early")]
    return []


def _try(signer: Signing) -> None:
    """Sign a small picture; raises C2paError."""
    blank = io.BytesIO()
    Image.new("RGB", (16, 16)).save(blank, "PNG")
    with signer._created() as builder:
        builder.sign("image/png", blank, io.BytesIO())


@contextmanager
def _refused() -> Iterator[None]:
    import c2pa

    try:
        yield
    except c2pa.C2paError as error:
        cure = "use a certificate for signing documents or e-mail, its chain below it in the same file"
        raise InputError.of([Problem(_BY[0], f"cannot sign pictures: {_plain(error)}", cure, "cannot_sign")]) from None


def _context(signer: Any) -> Any:
    import c2pa

    closed = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    return c2pa.Context(c2pa.Settings.from_dict({**closed, "builder": {"thumbnail": {"enabled": False}}}), signer)


def _read(cert: Path, key: Path) -> tuple[list[x509.Certificate], Any]:
    """Return the chain, the signer's own first, and the key; raises InputError with all that is wrong."""
    problems: list[Problem] = []
    found: list[Any] = []
    for name, path, read, what in (
        (_BY[0], cert, _chain, "is no certificate in PEM"),
        (_BY[1], key, _private, "is no private key in PEM without a password"),
    ):
        try:
            found.append(read(path.read_bytes()))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            problems.append(
                Problem(name, f"cannot be read ({reason})", "name a file that the studio may read", "no_file")
            )
        except (ValueError, TypeError, UnsupportedAlgorithm):  # never with what stands in it
            problems.append(Problem(name, what, "name such a file", "not_pem"))
    if problems:
        raise InputError.of(problems)
    return found[0], found[1]


def _chain(data: bytes) -> list[x509.Certificate]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd old certificates; what matters is tried
        return x509.load_pem_x509_certificates(data)


def _private(data: bytes) -> Any:
    return serialization.load_pem_private_key(data, None)


def _algorithm(key: Any) -> str | None:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _CURVES.get(key.curve.name)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    return "ps256" if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048 else None


def _public(key: Any) -> bytes:
    data: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data


def _pixels(parent: bytes) -> bytes:
    """Return a file's picture as a PNG that says nothing else; raises InputError where nobody can read it."""
    data = io.BytesIO()
    decode_bytes(parent, "the picture it was made of", keep_alpha=True).picture.save(data, "PNG")
    return data.getvalue()


def _plain(error: Exception) -> str:
    return str(error).partition(": ")[2] or type(error).__name__
