"""The mark in the files of generated pictures that says, to programs and by law to people, what they are.

Source: IPTC Photo Metadata Standard 2023.2, "Digital Source Type", with the IPTC NewsCodes term for media that a
trained model made; ISO 16684-1 (XMP) and its places in PNG (iTXt), JPEG (APP1) and WebP (the chunk ``XMP``).
Regulation (EU) 2024/1689, article 50(2), asks for a mark that machines can read.

The packet is always the same bytes, so that equal pictures stay equal files. Where the operator set a certificate, the
same places add a signed manifest (``credentials``), and every file is its own.
"""

import io
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from studio.imaging.credentials import Signing

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""What the mark says: made by a trained model."""

EXPIRES_SOON_DAYS = 14
"""A certificate that ends within so many days is spoken of."""

PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)
"""The XMP packet of a generated picture."""

_PNG_KEYWORD = "XML:com.adobe.xmp"


def signing(settings: Settings | None = None) -> "Signing | None":
    """Return what signs pictures here; None where no certificate is set.

    Args:
        settings: None reads the environment.

    Raises:
        InputError: the certificate or the key cannot be used; all that is wrong with them.
        MissingExtraError: the extra ``c2pa`` is not installed.
    """
    settings = settings or load_settings()
    if settings.c2pa_cert is None and settings.c2pa_key is None:
        return None
    from studio.imaging import credentials  # only now: whoever only reads marks needs no cryptography

    return credentials.opened(settings.c2pa_cert, settings.c2pa_key, settings.c2pa_timestamp_url, SOURCE_TYPE)


def save_picture(
    picture: Image.Image,
    target: Path | IO[bytes],
    file_format: str,
    *,
    generated: bool = True,
    parent: bytes | None = None,
    pnginfo: PngInfo | None = None,
    **options: Any,
) -> None:
    """Save a picture, a generated one with its mark and, where the operator set a certificate, its signed manifest.

    Args:
        picture: the picture.
        target: file, or where its bytes go.
        file_format: PNG, JPEG or WEBP.
        generated: whether it was generated.
        parent: the file that it was made of, whose manifest is kept; None for a new picture.
        pnginfo: other text chunks of a PNG; the mark is added to them.
        options: of Pillow for this format.

    Raises:
        OSError: the file cannot be written.
        InputError: the certificate cannot be used, or nobody can read the parent.
        ResourceError: the certificate is not valid any more, or the time stamping service does not answer.
    """
    signer = signing() if generated else None
    if signer is None:
        save_unsigned(picture, target, file_format, generated=generated, pnginfo=pnginfo, **options)
        return
    buffer = io.BytesIO()
    save_unsigned(picture, buffer, file_format, generated=generated, pnginfo=pnginfo, **options)
    data = signer.sign(buffer.getvalue(), file_format, parent)
    if isinstance(target, Path):
        target.write_bytes(data)
    else:
        target.write(data)


def save_unsigned(
    picture: Image.Image,
    target: Path | IO[bytes],
    file_format: str,
    *,
    generated: bool,
    pnginfo: PngInfo | None = None,
    **options: Any,
) -> None:
    """Save a picture without a manifest, for whoever signs it afterwards; else as :func:`save_picture`."""
    if file_format == "PNG":
        options["pnginfo"] = pnginfo or PngInfo()
        if generated:
            options["pnginfo"].add_itxt(_PNG_KEYWORD, PACKET)
    elif generated:
        options["xmp"] = PACKET.encode()
    picture.save(target, format=file_format, **options)


def is_marked(data: bytes) -> bool:
    """Tell whether a file says that its picture was generated, be it by this or by another program.

    Args:
        data: a PNG, JPEG or WebP.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # only the header is read
            file = Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"])
        with file:
            said = file.info.get("xmp") or file.info.get(_PNG_KEYWORD) or b""
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return SOURCE_TYPE.encode() in (said.encode("utf-8", "replace") if isinstance(said, str) else bytes(said))
