"""Which transfer syntaxes are read, and by which decoder.

The plugin is named, never left to pydicom's order of preference: on one lossy file two
plugins differed by three grey levels, and a prediction must say what it was made from.
No GPL decoder is in the default set, so 12-bit JPEG Extended ends in a typed error
unless the optional extra ``jpeg12`` (pylibjpeg-libjpeg, GPL-3.0) is installed. Deflated
is refused because it inflates without limit before any tag can be read.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from PIL import Image
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from fhir_adapters.errors import ImageUnreadableError


@dataclass(frozen=True, slots=True)
class Decoding:
    """How one transfer syntax is read: pydicom's plugin name and our label for it.

    ``codestream``: the frame has a header of its own to check first.
    """

    plugin: str
    label: str
    codestream: bool = False


JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"

DECODINGS = {
    "1.2.840.10008.1.2": Decoding("", "native implicit"),
    "1.2.840.10008.1.2.1": Decoding("", "native explicit"),
    "1.2.840.10008.1.2.4.50": Decoding("pillow", "jpeg-baseline", codestream=True),
    JPEG_EXTENDED: Decoding("pillow", "jpeg-extended-8", codestream=True),
    "1.2.840.10008.1.2.4.57": Decoding("gdcm", "jpeg-lossless", codestream=True),
    "1.2.840.10008.1.2.4.70": Decoding("gdcm", "jpeg-lossless-sv1", codestream=True),
    "1.2.840.10008.1.2.4.80": Decoding("pyjpegls", "jpeg-ls", codestream=True),
    "1.2.840.10008.1.2.4.81": Decoding("pyjpegls", "jpeg-ls-lossy", codestream=True),
    "1.2.840.10008.1.2.4.90": Decoding("pylibjpeg", "jpeg-2000", codestream=True),
    "1.2.840.10008.1.2.4.91": Decoding("pylibjpeg", "jpeg-2000-lossy", codestream=True),
    "1.2.840.10008.1.2.4.201": Decoding("pylibjpeg", "htj2k", codestream=True),
    "1.2.840.10008.1.2.4.202": Decoding("pylibjpeg", "htj2k-rpcl", codestream=True),
    "1.2.840.10008.1.2.4.203": Decoding("pylibjpeg", "htj2k-lossy", codestream=True),
    "1.2.840.10008.1.2.5": Decoding("pylibjpeg", "rle"),
}
# Of the plugins only libjpeg's own decodes more than 8 bits of JPEG Extended.
TWELVE_BIT = Decoding("pylibjpeg", "jpeg-extended-12", codestream=True)


def decoding_of(transfer_syntax: str) -> Decoding:
    """The decoder for a transfer syntax.

    Raises:
        ImageUnreadableError: "transfer_syntax_not_supported".
    """
    decoding = DECODINGS.get(transfer_syntax)
    if decoding is None:
        raise ImageUnreadableError("transfer_syntax_not_supported")
    return decoding


@functools.cache
def has_twelve_bit_jpeg() -> bool:
    """Whether the optional decoder of 12-bit JPEG Extended is installed."""
    return TWELVE_BIT.plugin in get_decoder(UID(JPEG_EXTENDED)).available_plugins


def for_precision(decoding: Decoding, precision: int) -> Decoding:
    """The decoder for a codestream of ``precision`` bits a sample.

    Raises:
        ImageUnreadableError: "transfer_syntax_not_supported" for JPEG Extended of more
            than 8 bits where the optional decoder is not installed.
    """
    if decoding is not DECODINGS[JPEG_EXTENDED] or precision <= 8:
        return decoding
    if not has_twelve_bit_jpeg():
        # Only a GPL decoder reads it; said, not worked around.
        raise ImageUnreadableError("transfer_syntax_not_supported", "12-bit JPEG")
    return TWELVE_BIT


def load_plugins() -> None:
    """Import every codec now: the limited child cannot open files later.

    Raises:
        ImageUnreadableError: "decoder_not_installed".
    """
    Image.preinit()
    has_twelve_bit_jpeg()
    for syntax, decoding in DECODINGS.items():
        available = get_decoder(UID(syntax)).available_plugins
        if decoding.plugin and decoding.plugin not in available:
            raise ImageUnreadableError("decoder_not_installed", decoding.label)
