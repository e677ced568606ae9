"""Fixtures for all tests.

`fake` is the package over the fake library of tests/fake: quick, and able to fail on command.
`pillion` is the real thing. Tests that need something absent are skipped with the reason, and
pytest prints the reasons at the end."""

import gc
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [
    str(REPOSITORY / "tests" / "support"),
    str(REPOSITORY / "tests" / "fake"),
    str(REPOSITORY / "tools"),
]

import build  # noqa: E402 - tests/fake/build.py
import file_order  # noqa: E402
from locked import cmake_build, locked, toolchain  # noqa: E402
from patience import in_thread, until  # noqa: E402
from toy_model import toy_model  # noqa: E402


# A runner started in the background ignores Ctrl-C, and its children inherit that; the tests of
# Ctrl-C need it to work.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        file_order.sort(items)


# ---- the fake ----


class Strings:
    """Pulls the strings of the fake library."""

    def __init__(self, package):
        self.ffi, self.lib = package._native.ffi, package._native.lib

    def reset(self):
        self.lib.fake_reset()
        self.lib.no_faults()

    def script(self, base, text):
        """What the model says from context length `base` on; a text, bytes or token ids."""
        tokens = list(text.encode()) if isinstance(text, str) else list(text)
        self.lib.fake_script(base, self.ffi.new("int32_t[]", tokens), len(tokens))

    def fail(self, function, code, sentence="no reason", after=0):
        """The next call of a function fails, or the one behind so many that do not."""
        self.lib.fail(function, code, sentence, after)

    def break_run(self, after=0):
        """A run of the target fails: the next one, or the one behind so many."""
        self.lib.fake_break(after)

    def slow(self, us_per_token):
        self.lib.fake_slow(us_per_token)

    def lies(self, *positions):
        """The drafter is wrong at these positions of every round."""
        self.lib.fake_lies(sum(1 << position for position in positions))

    def log(self, level, message):
        self.lib.log(level, message)

    @property
    def live(self):
        return self.lib.live

    @property
    def evaluated(self):
        return self.lib.fake_evaluated()

    @property
    def begun(self):
        """Tokens, and tenths of loads, that were begun: a call is under way."""
        return self.lib.fake_begun()


@pytest.fixture(scope="session")
def fake():
    return build.load()


@pytest.fixture
def strings(fake):
    pulled = Strings(fake)
    pulled.reset()
    # What failed tests hold through their tracebacks goes here, lest each one behind them fails
    # too; what an engine's thread holds goes when it has heard of it.
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    until(lambda: gc.collect() >= 0 and pulled.live == 0)
    yield pulled
    pulled.reset()


@pytest.fixture
def under_way(strings):
    """Runs it in a thread and returns when so many tokens were begun; each further one takes a
    second."""

    def start(work, tokens=1):
        strings.slow(1_000_000 if tokens == 1 else 50_000)
        before = strings.begun
        started = in_thread(work)
        until(lambda: strings.begun >= before + tokens)
        strings.slow(1_000_000)
        return started

    return start


@pytest.fixture
def toy_file(tmp_path):
    """Writes a tiny model for the fake (tests/fake/toy_model.py); metadata: values as JSON."""

    def write(metadata=None, name="toy.gguf", **options):
        path = tmp_path / name
        path.write_bytes(toy_model(metadata or {}, **options))
        return path

    return write


@pytest.fixture
def toy_llm(fake, strings, toy_file):
    with fake.LLM(toy_file({"general.name": '"Toy"'}), n_ctx=256) as llm:
        yield llm


@pytest.fixture
def toy_drafter(toy_file):
    """Path of an assistant of the fake, beside whatever toy_file writes."""
    return toy_file(name="toy-assistant.gguf", assistant=True)


# ---- the real thing ----


@pytest.fixture(scope="session")
def pillion():
    """The built package."""
    return pytest.importorskip(
        "pillion", reason="the package is not built: make test", exc_type=ImportError
    )


@pytest.fixture(scope="session")
def libpillion():
    """Path of the built libpillion.so."""
    folder = Path(os.environ.get("PILLION_BUILD_DIR", REPOSITORY / "build" / "python"))
    path = folder / "libpillion.so"
    if not path.exists():
        pytest.skip(f"{path} is not built: make test")
    return path


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Path of the package's wheel."""
    pytest.importorskip("scikit_build_core")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--wheel-dir", str(out), "-C", "build-dir=build/wheel", "."]
    with locked("wheel"):
        subprocess.run(command, cwd=REPOSITORY, check=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def arm64_build():
    """Folder of the core and pillion-run built for arm64 with Debian's cross compiler."""
    for tool in ("aarch64-linux-gnu-g++", "qemu-aarch64", "cmake"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    return cmake_build("linux-arm64", toolchain("linux-arm64"))


@pytest.fixture(scope="session")
def android_build():
    """Folder of pillion-run built as for a phone: by the NDK where ANDROID_NDK names one, else by
    zig with a static musl."""
    if not shutil.which("qemu-aarch64"):
        pytest.skip("qemu-aarch64 is not installed")
    if not os.environ.get("ANDROID_NDK") and importlib.util.find_spec("ziglang") is None:
        pytest.skip("neither ANDROID_NDK is set nor ziglang installed")
    return cmake_build(
        "android-arm64", toolchain("android-arm64"), f"-DZIG_PYTHON={sys.executable}"
    )


@pytest.fixture(scope="session")
def tiny_target(pillion):
    """Path of the embedded tiny model."""
    from pillion.models import TINY_TARGET

    if not TINY_TARGET.exists():
        pytest.skip(f"{TINY_TARGET} is missing")
    return TINY_TARGET


def _fetched(name):
    import models

    try:
        return getattr(models, name)()
    except models.ModelUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def gemma3_270m():
    return _fetched("gemma3_270m")


@pytest.fixture(scope="session")
def smollm2_135m():
    return _fetched("smollm2_135m")


@pytest.fixture(scope="session")
def hexagon_sim():
    """Command line of the DSP's program as Hexagon code under an emulator, built by zig."""
    emulator = shutil.which("qemu-hexagon")
    if not emulator:
        pytest.skip("qemu-hexagon is not installed")
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: its clang builds for Hexagon")
    zig = (toolchain("hexagon"), f"-DZIG_PYTHON={sys.executable}")
    build = cmake_build(
        "htp-hexagon", *zig, source="csrc/backends/htp/dsp", targets=["pillion_htp_sim"]
    )
    return f"{emulator} -cpu v67 {build / 'pillion_htp_sim'}"


@pytest.fixture
def scripted(fake, strings, toy_file):
    """A server whose model has Gemma 4's markers and says what a test wants."""
    pytest.importorskip("fastapi", reason="the extra `server` is not installed")
    from gemma4_templates import CALLING
    from served import Scripted, served

    greedy = toy_file({"general.sampling.temp": "0"})
    with fake.LLM(greedy, chat_template=CALLING, n_ctx=1 << 16) as llm:
        with served(fake, llm) as (url, _):
            yield Scripted(url, llm, strings)


@pytest.fixture(scope="session")
def embedded_server(pillion, tiny_target):
    """The address of a server over the embedded pair."""
    pytest.importorskip("fastapi", reason="the extra `server` is not installed")
    from served import served

    with pillion.LLM(tiny_target, n_ctx=1024) as llm, served(pillion, llm) as (url, _):
        yield url
