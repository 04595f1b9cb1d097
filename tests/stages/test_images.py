"""Decoding: each mode in its documented way, each fault with its reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from PIL.PngImagePlugin import PngInfo

from stages import images
from stages.images import ImageFault, decode, decode_mask, mode_of, to_square


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data))


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def test_grey_becomes_three_equal_channels() -> None:
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(GREY))), np.repeat(GREY[..., None], 3, 2))


def test_16_bit_has_a_fixed_scale() -> None:
    wide = GREY.astype(np.uint16) * 257
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(wide)))[..., 0], GREY)
    dark = np.full((8, 8), 10 * 257, np.uint16)  # not stretched to the full range
    assert set(pixels(encoded(Image.fromarray(dark), "TIFF")).ravel()) == {10}


def test_float_tiff() -> None:
    np.testing.assert_array_equal(
        pixels(encoded(Image.fromarray((GREY / 255).astype(np.float32)), "TIFF"))[..., 1], GREY
    )
    with pytest.raises(ImageFault, match=r"outside 0\.\.1"):
        decode(encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"))


def test_alpha_is_composited_on_black() -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 200, 128
    assert set(pixels(encoded(Image.fromarray(rgba)))[..., 0].ravel()) == {100}


def test_palette_cmyk_and_bits() -> None:
    colour = Image.new("RGB", (8, 8), (255, 0, 0))
    assert tuple(pixels(encoded(colour.convert("P")))[0, 0]) == (255, 0, 0)
    assert tuple(pixels(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "TIFF"))[0, 0]) == (255, 255, 255)
    assert tuple(pixels(encoded(Image.new("1", (8, 8), 1)))[0, 0]) == (255, 255, 255)


def test_exif_orientation_is_applied() -> None:
    image = Image.fromarray(GREY[:, :4].copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned = pixels(encoded(image, "PNG", exif=exif))[..., 0]
    np.testing.assert_array_equal(turned, np.rot90(GREY[:, :4], -1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"hello, world" * 20, "not an image"),
        (encoded(Image.new("L", (1, 1))), "1x1"),
        (encoded(Image.new("L", (400, 300))), "120000 pixels; more than data.max_pixels = 100000"),
        (encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)))[:1500], "truncated"),
        (encoded(Image.fromarray(GREY), "JPEG")[:300], "truncated|not an image"),
    ],
)
def test_faults_have_reasons(data: bytes, reason: str) -> None:
    with pytest.raises(ImageFault, match=reason):
        decode(data, min_side=2, max_pixels=100_000)


def test_size_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    def refuse(self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    with pytest.raises(ImageFault, match="max_pixels"):
        decode(encoded(Image.new("L", (400, 300))), max_pixels=100)


def test_square_and_mask() -> None:
    assert to_square(decode(encoded(Image.new("L", (30, 10), 77))), 16).shape == (16, 16, 3)
    mask = decode_mask(encoded(Image.fromarray(np.asarray([[127, 128]], np.uint8))))
    np.testing.assert_array_equal(mask, [[False, True]])


def png_of_16_bits(colour_type: int, channels: int) -> bytes:
    """8 x 8 pixels; Pillow writes no such file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0)
    rows = (b"\0" + b"\x80\x00" * channels * 8) * 8
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_the_mode_says_how_deep_the_colours_are() -> None:
    def mode(data: bytes) -> str:
        with Image.open(io.BytesIO(data)) as image:
            return mode_of(image)

    colour = Image.new("RGB", (8, 8))
    files = [encoded(colour), encoded(colour, "TIFF"), encoded(colour, "JPEG"), encoded(colour.convert("P"))]
    assert [mode(data) for data in files] == ["RGB", "RGB", "RGB", "P"]
    assert mode(encoded(Image.fromarray(GREY.astype(np.uint16)))) == "I;16"
    found = [mode(png_of_16_bits(*kind)) for kind in ((0, 1), (2, 3), (4, 2), (6, 4))]
    assert found == ["I;16", "RGB;16", "RGBA;16", "RGBA;16"]
    assert set(pixels(png_of_16_bits(2, 3)).ravel()) == {128}


@pytest.mark.parametrize(
    ("fault", "words"), [(RuntimeError(), "RuntimeError"), (ValueError("a\nb"), "ValueError: a b")]
)
def test_whatever_a_plugin_raises_is_one_line(fault: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image, white: int) -> None:
        raise fault

    monkeypatch.setattr(images, "_rgb", fail)
    with pytest.raises(ImageFault, match=rf"^broken or truncated \({words}\)$"):
        decode(encoded(Image.fromarray(GREY)))


def test_a_file_is_not_called_broken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image, white: int) -> None:
        raise MemoryError

    monkeypatch.setattr(images, "_rgb", fail)
    with pytest.raises(MemoryError):
        decode(encoded(Image.fromarray(GREY)))


@pytest.mark.parametrize("chunk", ["iTXt", "zTXt", "iCCP"])
def test_large_metadata_are_no_damage(chunk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 MB of XMP, of text, or a colour profile."""
    info, more = PngInfo(), {}
    if chunk == "iTXt":
        info.add_itxt("XML:com.adobe.xmp", "x" * 3_000_000, zip=True)
    elif chunk == "zTXt":
        info.add_text("Comment", "x" * 3_000_000, zip=True)
    else:
        more = {"icc_profile": bytes(3_000_000)}
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "png", pnginfo=info, **more)
    assert (np.asarray(decode(file.getvalue()))[..., 0] == GREY).all()
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1_000_000)
    with pytest.raises(ImageFault, match="a limit, no damage"):
        decode(file.getvalue())


def test_our_limit_of_pixels_holds_and_not_that_of_pillow() -> None:
    data = encoded(Image.new("1", (20_000, 10_000)))  # Pillow refuses 179 million pixels
    with pytest.raises(ImageFault, match=r"more than data\.max_pixels = 1000"):
        decode(data, max_pixels=1000)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (20_000, 10_000)
