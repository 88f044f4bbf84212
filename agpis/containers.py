"""What the first bytes of an image file say, read without decoding: format, size, orientation, completeness.

Nothing here allocates more than a copy of the file, so it is safe on hostile input. `images.py` decides on it
before any codec runs.

A JPEG is read marker by marker (ITU-T T.81, annex B) for three reasons. Its metadata (Exif, previews of phones) can be
damaged without harm, so only the segments that the pixels need go to the codec. libjpeg fills what is missing from a
cut file with grey when somebody has put an end marker behind it. And the end of the picture is the first end marker
after the scans, whatever else follows.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What `images.decode` reads, in Pillow's names."""

HTML = "HTML"
"""`sniff`'s name for a web page."""

# Magic numbers at the start of the file, longest first where one begins another.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"8BPS", "PSD"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\x01\0", "ICO"),
    (b"II\xbc", "JPEG XR"),
    (b"FUJIFILM", "camera raw"),
    (b"\x1aE\xdf\xa3", "Matroska video"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
)
# ISO base media brands (bytes 8 to 12 of a file that starts with an `ftyp` box).
_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIF",
    b"heix": "HEIF",
    b"hevc": "HEIF",
    b"hevx": "HEIF",
    b"heim": "HEIF",
    b"heis": "HEIF",
    b"crx ": "camera raw",
}


def sniff(data: bytes) -> str:
    """Name of what `data` holds: one of `FORMATS`, `HTML`, another format's name, or "" when nothing fits."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            # "BM" is two letters of any text; a bitmap's header size (bytes 14 to 18) is never that large.
            if name == "BMP" and (len(data) < 18 or int.from_bytes(data[14:18], "little") not in _BMP_HEADERS):
                continue
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"mif1", b"msf1"):  # generic: the compatible brands tell
            compatible = data[16 : max(16, int.from_bytes(data[:4], "big"))]
            return "AVIF" if b"avif" in compatible else "HEIF"
        return _BRANDS.get(brand, "MPEG-4 video")
    return _markup(data)


_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


def _markup(data: bytes) -> str:
    head = data[:2048]
    if head.startswith((b"\xff\xfe<\0", b"\xfe\xff\0<")):
        head = head.replace(b"\0", b"")[2:]
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return ""
    if b"<svg" in text:
        return "SVG"
    if re.search(rb"<(!doctype html|html|head|body|script|title|meta|div|p|h1|center)\b", text):
        return HTML
    return ""


def declared_size(kind: str, data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels as the header of `kind` declares them, or None where it cannot be read cheaply."""
    try:
        if kind == "PNG":
            width, height = struct.unpack_from(">II", data, 16)
        elif kind == "GIF":
            width, height = struct.unpack_from("<HH", data, 6)
        elif kind == "BMP":
            old = int.from_bytes(data[14:18], "little") == 12
            width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
        elif kind == "WEBP":
            return _webp_size(data)
        else:
            return None
    except struct.error:
        return None
    return abs(width), abs(height)  # a bitmap stored top-down has a negative height


def _webp_size(data: bytes) -> tuple[int, int] | None:
    # RFC 9649: VP8X sections 2.7, VP8L 3.4; VP8 frame header RFC 6386 section 9.1
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def cut_short(kind: str, data: bytes) -> bool:
    """Whether a length that the container declares reaches past the end of `data`. JPEG: see `read_jpeg`."""
    end = len(data)
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > end
    if kind == "PNG":
        at = 8
        while at + 8 <= end:
            if data[at + 4 : at + 8] == b"IEND":
                return False
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        return True
    if kind == "AVIF":
        at = 0
        while at + 8 <= end:
            size = int.from_bytes(data[at : at + 4], "big")
            if size == 1:
                size = int.from_bytes(data[at + 8 : at + 16], "big")
            if size == 0:  # to the end of the file
                return False
            if size < 8:
                return True
            at += size
        return at != end and at > end
    if kind == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if kind == "BMP":
        return 0 < len(data) < int.from_bytes(data[2:6], "little")
    return False


def animation_frames(data: bytes) -> int | None:
    """Number of frames of an APNG (its `acTL` chunk comes before the first `IDAT`), or None for a plain PNG."""
    at = 8
    while at + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"acTL":
            return int.from_bytes(data[at + 8 : at + 12], "big")
        if name == b"IDAT":
            return None
        at += 12 + size
    return None


# Adam7 (PNG specification, 8.2): first column and row of each pass, and its steps.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png_lacks_rows(data: bytes) -> bool:
    """Whether a PNG's compressed data ends, in good order, before the last row. Codecs leave such rows black."""
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    depth = bits * _CHANNELS[colour]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in passes]
    wanted = sum(h * (1 + (w * depth + 7) // 8) for w, h in sizes if w > 0 and h > 0)
    expand, at = zlib.decompressobj(), 8
    while at + 12 <= len(data) and wanted > 0 and not expand.eof:
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            body = data[at + 8 : at + 8 + size]
            while body and wanted > 0:
                wanted -= len(expand.decompress(body, 1 << 20))
                body = expand.unconsumed_tail
        at += 12 + size
    return bool(wanted > 0)


def exif_orientation(exif: bytes) -> int:
    """Orientation 1 to 8 (Exif tag 0x0112) out of an Exif block, with or without its `Exif` prefix; 1 when in doubt.

    Only the first directory is walked: the rest of an Exif block is often damaged, and nothing of it is needed.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * entry)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG file, taken apart as far as its scans."""

    stream: bytes
    """What the codec shall decode: `decode` it strictly, without LOAD_TRUNCATED_IMAGES."""
    width: int
    height: int
    bits: int
    """Bits a sample; the codec reads 8."""
    orientation: int
    ended: bool
    """An end marker was found."""
    complete: bool
    """False: scans are missing, so that a codec would show a blurred or discoloured picture."""
    several: bool
    """More pictures follow in the same file (MPO: phones put a preview, a depth map or a second view there)."""

    @property
    def twins(self) -> tuple[bytes, ...]:
        """`stream` with other bits behind its end. A picture without end marker is whole if all decode alike."""
        return tuple(self.stream[:-_AHEAD] + bits * _AHEAD for bits in (b"\xff\0", b"\x55", b"\xaa"))


_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# APP0 (JFIF), APP2 (ICC), APP14 (Adobe's colour transform), tables and frame headers; the codec needs no other.
_WANTED = _SOF | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xE0, 0xEE}
_AHEAD = 8  # bytes that libjpeg reads ahead of the bits it needs


def read_jpeg(data: bytes) -> Jpeg | None:
    """Takes a JPEG apart; None when it breaks off before its first scan or its markers make no sense.

    A picture of one sequential scan is passed on without its end marker: the codec then runs dry, and says so, if a
    single row is missing, and needs no marker if none is. Progressive ones need it; of them the scans are counted.
    """
    parts: list[bytes] = [b"\xff\xd8"]
    at, end, frame, orientation, several = 2, len(data), b"", 1, False
    kind = 0
    while True:  # the header: a chain of segments
        found = _MARKER.search(data, at)  # fill bytes and stray ones are skipped, as codecs do
        if found is None or found.start() + 4 > end:
            return None
        at = found.start()
        marker = data[at + 1]
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if size < 2 or at + 2 + size > end:
            return None
        if marker == 0xDA:
            break
        body = data[at + 4 : at + 2 + size]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = exif_orientation(body)
        several = several or (marker == 0xE2 and body.startswith(b"MPF\0"))
        if marker in _SOF:
            kind, frame = marker, body
        if marker in _WANTED or (marker == 0xE2 and body.startswith(b"ICC_PROFILE\0")):
            parts.append(data[at : at + 2 + size])
        at += 2 + size
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        return None
    bits, height, width, components = struct.unpack_from(">BHHB", frame)
    first, finish, scans = at, -1, []
    while True:  # the scans: entropy-coded bytes between markers
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            scans.append(data[at + 4 : at + 2 + size])
        at += 2 + max(size, 2) if data[at + 1] != 0x01 else 2
        found = _MARKER.search(data, at)
        if found is None:
            break
        at = found.start()
        if data[at + 1] == 0xD9:
            finish = at
            break
    ended = finish >= 0
    parts.append(data[first : finish if ended else end])
    alone = kind in (0xC0, 0xC1) and len(scans) == 1 and scans[0][:1] == bytes([components])
    parts.append(bytes(_AHEAD) if alone else b"\xff\xd9")
    complete = (ended or alone) and (kind != 0xC2 or _all_scans(frame, scans))
    return Jpeg(b"".join(parts), width, height, bits, orientation, ended, complete, several)


def _all_scans(frame: bytes, scans: list[bytes]) -> bool:
    """Whether a progressive picture's scans bring every component to full precision (T.81, annex G)."""
    # left[component][k]: bits of coefficient k still to come; 255 = never sent
    left = {frame[6 + 3 * i]: bytearray(b"\xff" * 64) for i in range(frame[5])}
    for scan in scans:
        count = scan[0] if scan else 0
        if len(scan) < 4 + 2 * count:
            return False
        start, stop, bits = scan[1 + 2 * count], scan[2 + 2 * count], scan[3 + 2 * count] & 15
        for i in range(count):
            band = left.get(scan[1 + 2 * i])
            if band is None or stop > 63:
                return False
            band[start : stop + 1] = bytes([bits]) * (stop + 1 - start)
    # Colour components may leave out fine detail that is all zero; brightness never does.
    for i, band in enumerate(left.values()):
        unsent = band.count(255)
        if band[0] != 0 or (i == 0 and unsent) or band.count(0) + unsent != 64:
            return False
    return True
