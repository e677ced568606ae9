"""pillion-run with pictures and sounds: what the trained towers see and hear, from every kind of
file, and what is refused."""

import io
import struct
import wave
import zlib

import media_files
import numpy as np
import pytest
from media_files import SAMPLES
from PIL import Image
from test_pillion_run import run, text_of

SEE = "<|turn>user\n<|image|>What do you see?<turn|>\n<|turn>model\n"
HEAR = "<|turn>user\n<|audio|>What do you hear?<turn|>\n<|turn>model\n"


@pytest.fixture(scope="module")
def program(libpillion):
    return [libpillion.parent / "pillion-run"]


@pytest.fixture(scope="module")
def ask(program, tiny_target):
    from pillion.models import TINY_MMPROJ

    def answer(prompt, *arguments):
        given = ["-m", tiny_target, "--mmproj", TINY_MMPROJ]
        return run(program, *given, "--temp", 0, "-n", 8, "-t", 1, "-p", prompt, *arguments)

    return answer


def word(name):
    return media_files.labels()[name]["label"]


@pytest.mark.parametrize("number", [0, 4, 10, 15])
def test_a_picture(ask, number):
    name = f"digit-{number:02d}.png"
    assert text_of(ask(SEE, "--image", SAMPLES / name)) == word(name)


@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_sound(ask, number):
    name = f"spoken-{number:02d}.wav"
    assert text_of(ask(HEAR, "--audio", SAMPLES / name)) == word(name)


def test_the_text_of_the_package(ask, pillion, tiny_target):
    """Token for token, two media over the same prompt, with and without markers."""
    from pillion.models import TINY_MMPROJ

    picture, sound = SAMPLES / "digit-03.png", SAMPLES / "spoken-05.wav"
    for prompt in ("In <|audio|> the <|image|> beginning", "In the beginning"):
        both = ["--image", picture, "--audio", sound]
        text = text_of(ask(prompt, *both, "-n", 12))
        for drafter in ("lookup", pillion.models.TINY_ASSISTANT):
            assert text_of(ask(prompt, *both, "-n", 12, "-md", drafter)) == text
    assert text == text_of(ask("<|image|><|audio|>In the beginning", *both, "-n", 12))
    written = written_by_the_package(pillion, tiny_target, TINY_MMPROJ, picture, sound)
    assert len(text) > 10 and written.startswith(text)  # pillion-run stops at the end of the turn


def written_by_the_package(pillion, target, towers, picture, sound):
    with pillion.Mmproj(towers) as mmproj, pillion.Model.open(target) as model:
        rows = mmproj.encode_image(media_files.picture(picture.name), 70)
        heard = mmproj.encode_audio(media_files.sound(sound.name))
        first, second = (model.add_media(r, bytes([n]) * 32) for n, r in enumerate((rows, heard)))
        encode = model.tokenizer.encode
        marks = ("<|image>", "<image|>", "<|audio>", "<audio|>")
        frame = [encode(mark, parse_special=True)[-1] for mark in marks]
        tokens = encode("In the beginning")
        media = [frame[0], *range(first, first - len(rows), -1), frame[1]]
        media += [frame[2], *range(second, second - len(heard), -1), frame[3]]
        context = model.context(512)
        context.sync([tokens[0], *media, *tokens[1:]])
        greedy = pillion.Sampler(pillion.SamplingParams(temperature=0))
        out = []
        for _ in range(12):
            out.append(greedy.sample(context))
            context.decode(out[-1])
        return model.tokenizer.decode(out)


def as_jpeg(rgb, orientation):
    """Stored so that the tag turns it upright."""
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    image, exif = Image.fromarray(np.ascontiguousarray(undo(rgb))), Image.Exif()
    exif[274] = orientation
    return saved(image, "JPEG", exif=exif, quality=95)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def wild_alpha(rgb):
    """White is transparent, with other colours below."""
    alpha = 255 - rgb.min(-1, keepdims=True)
    below = np.where(alpha == 0, np.uint8([255, 0, 90]), np.uint8(0))
    return Image.fromarray(np.concatenate([below, alpha], -1).astype(np.uint8), "RGBA")


KINDS = {
    "rgba.png": lambda rgb: saved(wild_alpha(rgb), "PNG"),
    "palette.png": lambda rgb: saved(Image.fromarray(rgb).quantize(16), "PNG"),
    "grey16.png": lambda rgb: saved(Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 257), "PNG"),
    "lossless.webp": lambda rgb: saved(Image.fromarray(rgb), "WEBP", lossless=True),
    "picture.gif": lambda rgb: saved(Image.fromarray(rgb).quantize(64), "GIF"),
    "picture.bmp": lambda rgb: saved(Image.fromarray(rgb), "BMP"),
    "progressive.jpg": lambda rgb: saved(Image.fromarray(rgb), "JPEG", progressive=True),
    **{f"turned-{n}.jpg": lambda rgb, n=n: as_jpeg(rgb, n) for n in range(1, 9)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture(ask, tmp_path, kind):
    (tmp_path / kind).write_bytes(KINDS[kind](media_files.picture("digit-04.png")))
    assert text_of(ask(SEE, "--image", tmp_path / kind)) == word("digit-04.png")


@pytest.mark.parametrize("kind", ["stereo-44100.flac", "mono-48000.mp3", "24bit-22050.wav"])
def test_every_kind_of_sound(ask, tmp_path, kind):
    soundfile = pytest.importorskip("soundfile", reason="the extra `media` is not installed")
    soxr = pytest.importorskip("soxr", reason="the extra `media` is not installed")
    name, suffix = kind.split(".")
    rate = int(name.split("-")[1])
    samples = soxr.resample(media_files.sound("spoken-03.wav"), 16000, rate)
    if name.startswith("stereo"):
        samples = np.stack([1.5 * samples, 0.5 * samples], 1)
    subtype = {"flac": "PCM_16", "mp3": "MPEG_LAYER_III", "wav": "PCM_24"}[suffix]
    soundfile.write(tmp_path / kind, samples, rate, subtype=subtype)
    assert text_of(ask(HEAR, "--audio", tmp_path / kind)) == word("spoken-03.wav")


def test_a_minute_is_cut_into_pieces(ask, tmp_path):
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
        file.writeframes(np.zeros(61 * 16000, "<i2").tobytes())
    done = ask("a", "--audio", tmp_path / "long.wav", "-c", 2048)
    assert done.returncode == 0 and "long.wav: 3 pieces of up to 30 s" in done.stderr
    assert "prompt: 1529 tokens" in done.stderr  # 750 + 750 + 25, two marks, <bos> and a letter


def refused(done, sentence, code=2):
    assert done.returncode == code and sentence in done.stderr, done.stderr
    assert done.stdout == ""


def test_what_is_no_picture_or_sound(ask, tmp_path):
    text, cut = tmp_path / "text.png", tmp_path / "cut.jpg"
    text.write_text("this is no picture, whatever its name says")
    cut.write_bytes(as_jpeg(media_files.picture("digit-04.png"), 1)[:900])
    refused(ask(SEE, "--image", text), "can't be read: it is no PNG, JPEG, WebP, GIF or BMP file")
    refused(ask(SEE, "--image", cut), "can't be read: jpeg: truncated input")
    # Some decoders make a picture of grey stripes of it.
    (tmp_path / "lossy.webp").write_bytes(
        saved(Image.fromarray(media_files.picture("digit-04.png")), "WEBP", quality=90)
    )
    refused(ask(SEE, "--image", tmp_path / "lossy.webp"), "it is a lossy WebP file")
    refused(ask(HEAR, "--audio", text), "can't be read: it is no WAV, FLAC or MP3 file")
    refused(ask(SEE, "--image", tmp_path / "none.png"), "none.png can't be read: No such file")
    with wave.open(str(tmp_path / "short.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
        file.writeframes(bytes(320))
    refused(ask(HEAR, "--audio", tmp_path / "short.wav"), "160 samples is too short", code=1)


def test_a_bomb_is_refused_before_it_is_unpacked(ask, tmp_path):
    """A picture of a few kilobytes with 10^10 pixels."""
    bomb = bytearray(saved(Image.new("L", (16, 16)), "PNG"))
    bomb[16:24] = struct.pack(">2I", 100000, 100000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    (tmp_path / "bomb.png").write_bytes(bomb)
    done = ask(SEE, "--image", tmp_path / "bomb.png")
    refused(done, "it has 10000000000 pixels, at most 67108864 are read")


def test_counts_and_missing_towers(program, ask, tiny_target):
    picture = SAMPLES / "digit-00.png"
    refused(ask(SEE + SEE, "--image", picture), "the prompt has 2 times <|image|>, but 1 --image")
    both = ["--image", picture, "--audio", SAMPLES / "spoken-00.wav"]
    refused(ask(SEE, *both), "the prompt has 0 times <|audio|>, but 1 --audio")
    refused(ask(SEE, *["--image", picture] * 17), "17 media: a prompt has at most 16")
    done = run(program, "-m", tiny_target, "-p", SEE, "--image", picture)
    refused(done, "needs the model's towers: give their file with --mmproj FILE")


def test_towers_of_another_model(program, tiny_target):
    other = media_files.mmproj("tiny-mm-e2b")
    given = ["-m", tiny_target, "-p", SEE, "--image", SAMPLES / "digit-00.png"]
    done = run(program, *given, "--mmproj", other)
    refused(done, "makes rows of 64, the model has rows of 192: it belongs to another model")
