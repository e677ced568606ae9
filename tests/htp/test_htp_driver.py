"""The device's side of the Hexagon backend without a device: a library with the driver's functions
(tests/htp/fake_cdsprpc.c), which loads the DSP's program, its device sources built for this PC over
a fake of its system (fake_dsp_system.c). Opened, asked, broken in every way a phone has; each
failure is a typed error with a sentence of its own."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from htp_support import REPOSITORY, child
from patience import PATIENCE, signals, until
from module_package import in_a_package_with
from goldens import GOLDEN, model_path

MODEL = "tiny-e2b"


@pytest.fixture(scope="session")
def fake(pillion, tmp_path_factory):
    """Path of the library; beside it the DSP's program for this PC, its device sources in it, and
    the DSP's system that it calls."""
    if not (Path(pillion._capi.__file__).parent / "libpillion_htp.so").exists():
        pytest.skip("libpillion_htp.so is not built: make build")
    compiler = shutil.which("cc") or pytest.skip("there is no C compiler")
    folder, tests = tmp_path_factory.mktemp("vendor"), REPOSITORY / "tests" / "htp"
    cache = [shutil.which("ccache")] if shutil.which("ccache") else []
    flags = [
        "-std=gnu11",
        "-O1",
        "-Wno-psabi",
        "-ffp-contract=off",
        "-fno-strict-aliasing",
        "-fPIC",
        f"-I{REPOSITORY / 'csrc'}",
    ]

    def shared(path, sources, *more):
        path.parent.mkdir(exist_ok=True)
        subprocess.run(
            [compiler, *flags, *more, "-shared", "-o", path, *sources, "-lpthread", "-lm", "-ldl"],
            check=True,
        )
        return path

    def compiled(source):
        target = folder / f"{source.stem}.o"
        sdk = ["-DHTP_HAS_SDK", f"-I{tests / 'sdk'}", "-fvisibility=hidden"]
        subprocess.run([*cache, compiler, *flags, *sdk, "-c", source, "-o", target], check=True)
        return target

    system = shared(
        folder / "libdsp_system.so", [tests / "fake_dsp_system.c"], f"-I{tests / 'sdk'}"
    )
    dsp = REPOSITORY / "csrc" / "backends" / "htp"
    sources = [
        *dsp.glob("dsp/*.c"),
        *dsp.glob("dsp/ops/*.c"),
        *dsp.glob("dsp/device/*.c"),
        *dsp.glob("wire/*.c"),
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(
            pool.map(compiled, [s for s in sources if s.name not in ("main_sim.c", "vtcm_sim.c")])
        )
    rpath = f"-Wl,-rpath,{folder}"
    shared(folder / "libpillion_htp.so", [*objects, system], rpath, "-Wl,-Bsymbolic")
    shared(
        folder / "older" / "libcdsprpc.so", [tests / "fake_cdsprpc.c", system], rpath, "-DNO_ALLOC2"
    )
    return shared(folder / "libcdsprpc.so", [tests / "fake_cdsprpc.c", system], rpath)


@pytest.fixture
def dsp_folder(tmp_path, fake):
    """A folder of ADSP_LIBRARY_PATH with the program of one architecture."""
    folder = tmp_path / "dsp"
    folder.mkdir()
    shutil.copy(fake.parent / "libpillion_htp.so", folder / "libpillion_htp_v73.so")
    return folder


def ids():
    return np.load(GOLDEN / f"{MODEL}.npz")["short.ids"].tolist()


def work(**more):
    return {"target": model_path(MODEL), "device": "htp", "prompt": ids(), "n": 8, **more}


@pytest.fixture(scope="module")
def wanted(pillion):
    with pillion.Model.open(model_path(MODEL)) as model, model.context(128) as context:
        sampler, tokens = pillion.Sampler(pillion.SamplingParams(temperature=0)), []
        context.sync(ids())
        for _ in range(8):
            tokens.append(sampler.sample(context))
            sampler.accept(tokens[-1])
            context.decode(tokens[-1])
    return tokens


def refusal(report):
    kind, sentence = report["failed"]
    assert kind == "NoBackendError" and sentence.startswith('device "htp": '), report["failed"]
    assert report["htp"] == {
        "name": "htp",
        "available": False,
        "reason": sentence.removeprefix('device "htp": '),
    }
    return report["htp"]["reason"]


# ---- it works ----


def test_tokens_of_the_cpu(fake, dsp_folder, wanted, tmp_path):
    log = tmp_path / "log"
    report = child(
        work(contexts=2),
        PILLION_HTP_DRIVER=fake,
        ADSP_LIBRARY_PATH=f"/nowhere;{dsp_folder}",
        FAKE_CDSPRPC_LOG=log,
    )
    assert report["tokens"] == [wanted, wanted]
    assert report["htp"]["available"] and report["htp"]["info"]["driver"] == str(fake)
    info = report["htp"]["info"]
    assert info["architecture"] == "v67" and info["transport"] == "fastrpc"
    # of fake_dsp_system.c's two units
    assert (info["threads"], info["vtcm_bytes"]) == (2, 2 * 128 << 10)
    calls = log.read_text().splitlines()
    uri = "file:///libpillion_htp_v73.so?pillion_htp_skel_handle_invoke"
    assert f"open {uri}&_modver=1.0&_dom=cdsp&_session=0" in calls
    assert not [c for c in calls if c.startswith("rule")]


def test_a_pair_with_its_drafter_on_the_cpu(fake, dsp_folder, wanted):
    pair = work(drafter=GOLDEN / f"{MODEL}-assistant.gguf", drafter_device="cpu")
    report = child(pair, PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=dsp_folder)
    assert report["tokens"] == [wanted] and report["stats"]["drafted"] > 0


def test_what_the_host_puts_back_is_handed_over(fake, dsp_folder, tmp_path):
    """Going back to the prompt after a long answer, the host writes to caches that the DSP has
    seen: the next run names them, once."""
    log = tmp_path / "log"
    again = work(turns=2, n=300, settings={"n_ctx": 512, "n_batch": 16})
    report = child(
        again, PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=dsp_folder, FAKE_CDSPRPC_LOG=log
    )
    assert report["tokens"][0] == report["tokens"][1]
    calls = log.read_text().splitlines()
    assert not [c for c in calls if c.startswith("rule")]
    runs = [int(call.split()[3]) for call in calls if call.startswith("run hands over")]
    usual = min(runs)
    assert [size > usual for size in runs].count(True) == 1
    assert runs[-301] > usual  # the second prompt, before its 300 tokens


def test_an_older_system(fake, dsp_folder, wanted, tmp_path):
    """As phones of 2023 have it: no rpcmem_alloc2, and the driver makes no URIs of sessions."""
    log, older = tmp_path / "log", fake.parent / "older" / "libcdsprpc.so"
    report = child(
        work(),
        PILLION_HTP_DRIVER=older,
        ADSP_LIBRARY_PATH=dsp_folder,
        FAKE_CDSPRPC="uri=0",
        FAKE_CDSPRPC_LOG=log,
    )
    assert report["tokens"] == [wanted]
    assert (
        "open file:///libpillion_htp_v73.so?pillion_htp_skel_handle_invoke&_modver=1.0&_dom=cdsp"
        in log.read_text().splitlines()
    )


def test_signals_that_interrupt_a_read(fake, dsp_folder, wanted):
    """Any signal of the process ends the driver's wait with EINTERRUPTED: the answer is still to
    come."""
    report = child(
        work(), PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=dsp_folder, FAKE_CDSPRPC="interrupt=3"
    )
    assert report["tokens"] == [wanted] and report["errors"] == []


def test_its_own_files_whatever_the_search_path_says(fake, dsp_folder, wanted, tmp_path):
    decoys = tmp_path / "decoys"
    decoys.mkdir()
    for name in ("libcdsprpc.so", "libcdsprpc.so.1"):
        (decoys / name).write_bytes(b"a decoy")
    report = child(
        work(), PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=dsp_folder, LD_LIBRARY_PATH=decoys
    )
    assert report["tokens"] == [wanted]
    assert [m for m in report["maps"] if "cdsprpc" in m] == [str(fake)]


def in_pipe(reader):
    return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4), sys.byteorder)


def test_the_program_for_phones(fake, dsp_folder, libpillion, tmp_path):
    """pillion-run over the driver: the CPU's text, and Ctrl-C in the middle of it."""
    program, log = libpillion.parent / "pillion-run", tmp_path / "log"
    env = {
        **os.environ,
        "PILLION_HTP_DRIVER": str(fake),
        "ADSP_LIBRARY_PATH": str(dsp_folder),
        "FAKE_CDSPRPC_LOG": str(log),
    }
    words = [program, "-m", model_path(MODEL), "-p", "ab cd", "--temp", "0"]
    texts = [
        subprocess.run(
            [*words, "-n", "8", "--device", device], env=env, capture_output=True, check=True
        ).stdout
        for device in ("cpu", "htp")
    ]
    assert texts[0] == texts[1] and "open file:///libpillion_htp_v73.so" in log.read_text()
    # A pipe that is nearly full: the text can't end before the signal is taken.
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"-" * 4080)
    with subprocess.Popen(
        [*words, "-c", "4000", "--device", "htp"], env=env, stdout=writer, stderr=subprocess.PIPE
    ) as child:
        os.close(writer)
        until(lambda: in_pipe(reader) > 4080)
        child.send_signal(signal.SIGINT)
        until(lambda: not signals(child.pid, "ShdPnd") >> (signal.SIGINT - 1) & 1)
        with open(reader, "rb") as file:
            text = file.read()[4080:]
        assert text and texts[0].startswith(text[:4])
        assert child.wait(timeout=PATIENCE) == 130
        assert child.stderr.read() == b"\nstopped\n"
    assert not rules_broken(log)


# ---- it is not there ----


def test_no_module(pillion, tiny_target, tmp_path):
    """A package built without it, and one with something else in its place: the CPU is as
    before."""
    folder = Path(pillion._capi.__file__).parent
    sentence = in_a_package_with(
        folder, b"", tiny_target, "htp", tmp_path, name="libpillion_other.so"
    )
    there = tmp_path / "site" / "pillion"
    missing = f'device "htp": its module libpillion_htp.so is not installed in {there}'
    assert sentence == missing
    shutil.rmtree(tmp_path / "site")
    sentence = in_a_package_with(
        folder, b"not an object", tiny_target, "htp:sim", tmp_path, name="libpillion_htp.so"
    )
    assert sentence.startswith('device "htp:sim": its module does not load: ')


def test_it_exports_one_function(pillion, fake):
    module = Path(pillion._capi.__file__).parent / "libpillion_htp.so"
    names = subprocess.run(
        ["nm", "-D", "--defined-only", module], capture_output=True, text=True, check=True
    ).stdout.split()
    assert names[2::3] == ["pillion_module_backend"]


def test_no_driver():
    if any(
        Path(folder, "libcdsprpc.so").exists()
        for folder in ("/vendor/lib64", "/usr/lib/aarch64-linux-gnu", "/usr/lib")
    ):
        pytest.skip("this machine has one")
    sentence = refusal(child(work(), PILLION_HTP_DRIVER=None))
    assert (
        sentence
        == "no libcdsprpc.so on this machine: it has no Hexagon DSP, or its driver is not installed"
    )


def test_a_driver_that_does_not_load(tmp_path):
    path = tmp_path / "libcdsprpc.so"
    path.write_bytes(b"nothing")
    assert refusal(child(work(), PILLION_HTP_DRIVER=path)).startswith(f"{path} does not load: ")


def test_a_driver_that_lacks_functions(pillion, libpillion):
    sentence = refusal(child(work(), PILLION_HTP_DRIVER=libpillion))
    assert sentence == (
        f"{libpillion} has no function rpcmem_alloc: "
        "the system is too old, or the file is something else"
    )


def test_the_folder_of_the_dsp_library_is_not_set(fake):
    sentence = refusal(
        child(work(), PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=None, DSP_LIBRARY_PATH=None)
    )
    assert sentence.startswith(
        "ADSP_LIBRARY_PATH is not set: it must name the folder that holds libpillion_htp_v73.so"
    )


def test_another_architecture(fake, dsp_folder):
    sentence = refusal(
        child(
            work(), PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=dsp_folder, FAKE_CDSPRPC="arch=0x79"
        )
    )
    assert (
        sentence
        == "this device's DSP is of architecture v79, and ADSP_LIBRARY_PATH holds programs for v73 "
        "only: add libpillion_htp_v79.so"
    )
    sentence = refusal(
        child(
            work(), PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=dsp_folder, FAKE_CDSPRPC="arch=0x66"
        )
    )
    assert (
        sentence
        == "the DSP is of architecture v66, there are programs for v68, v69, v73, v75, v79 and v81"
    )


def test_an_empty_folder(fake, tmp_path):
    sentence = refusal(child(work(), PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=tmp_path))
    assert sentence == f"libpillion_htp_v73.so is in no folder of ADSP_LIBRARY_PATH ({tmp_path})"


def test_the_newer_variable_replaces_the_older(fake, dsp_folder, tmp_path, wanted):
    """As the driver reads them; of each folder it looks into `cdsp` first."""
    env = {"PILLION_HTP_DRIVER": fake, "ADSP_LIBRARY_PATH": dsp_folder}
    sentence = refusal(child(work(), DSP_LIBRARY_PATH=tmp_path / "other", **env))
    assert (
        sentence
        == f"libpillion_htp_v73.so is in no folder of DSP_LIBRARY_PATH ({tmp_path / 'other'})"
    )
    (tmp_path / "other" / "cdsp").mkdir(parents=True)
    shutil.copy(dsp_folder / "libpillion_htp_v73.so", tmp_path / "other" / "cdsp")
    assert child(work(), DSP_LIBRARY_PATH=tmp_path / "other", **env)["tokens"] == [wanted]


def test_libraries_that_the_dsp_can_not_use(fake, dsp_folder, tmp_path):
    env = {"PILLION_HTP_DRIVER": fake, "ADSP_LIBRARY_PATH": dsp_folder}
    # somebody else's
    shutil.copy(fake.parent / "libdsp_system.so", dsp_folder / "libpillion_htp_v73.so")
    assert (
        "error 0x80000442 (ENOSUCHSYMBOL): the library has not pillion's entry; put the"
        in refusal(child(work(), **env))
    )
    (dsp_folder / "libpillion_htp_v73.so").write_bytes(b"half a file")
    assert "error 0x80000406 (EUNABLETOLOAD): the DSP can't load the library; put the" in refusal(
        child(work(), **env)
    )


REFUSALS = [
    (
        "unsigned=0",
        "runs signed programs only: unsigned process domains are switched off; use the cpu",
    ),
    (
        "unsigned_error=0x14",
        "the DSP does not give this program an unsigned process: error 0x14 (EUNSUPPORTED)",
    ),
    (
        "open_error=0x80000481",
        "error 0x80000481 (EUNSIGNEDMOD): the DSP refuses unsigned programs; "
        "use the cpu on this device, or sign",
    ),
    (
        "open_error=0x20",
        "error 0x20 (EITEMBUSY): the DSP is busy with other sessions; "
        "close other programs that use it and try again",
    ),
    (
        "open_error=0x72",
        "error 0x72 (ECONNREFUSED): the DSP refuses connections; "
        "this user or device may not use it",
    ),
    (
        "open_error=0x80000406",
        "error 0x80000406 (EUNABLETOLOAD): the DSP can't load the library; "
        "put the libpillion_htp_v*.so of",
    ),
    (
        "version=99",
        "the DSP's program does not start: error 0x80000404 (EVERSIONNOTSUPPORT): "
        "the two sides are of different versions",
    ),
    (
        "unsigned_error=5",
        "error 0x5 (EALREADYLOADED): "
        "this program has the DSP open already, as signed; open pillion before",
    ),
    (
        "open_error=0x57",
        "error 0x57 (EFOPEN): a file is missing: the library, the system's "
        "fastrpc_shell_unsigned_3, or",
    ),
    (
        "open_error=0x8000044e",
        "error 0x8000044e (EBADPERMS): "
        "the system refuses access to the DSP or its files; run from adb's",
    ),
    ("open_error=-1", "error 0xffffffff (unknown): the driver gives no meaning"),
    (
        "start_error=0x2",
        "the DSP's program does not start: error 0x2 (ENOMEMORY): "
        "the DSP has no memory for it; close other programs",
    ),
]


@pytest.mark.parametrize("how, sentence", REFUSALS, ids=[how for how, _ in REFUSALS])
def test_what_the_driver_refuses(fake, dsp_folder, how, sentence):
    assert sentence in refusal(
        child(work(), PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=dsp_folder, FAKE_CDSPRPC=how)
    )


def test_the_sentences_differ():
    assert len({sentence for _, sentence in REFUSALS}) == len(REFUSALS)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            "mmap_error=0x66",
            "error 0x66 (EIONMAP): the DSP's address space has no room for the buffer",
        ),
        (
            "space=2",
            "of shared memory can't be mapped, most likely for lack of address space: "
            "error 0x1 (EFAILED); close other",
        ),
    ],
)
def test_memory_that_the_dsp_can_not_map(fake, dsp_folder, how, words):
    """The public driver answers EFAILED to all that the kernel has against a mapping: no reason to
    take the DSP for dead."""
    report = child(work(), PILLION_HTP_DRIVER=fake, ADSP_LIBRARY_PATH=dsp_folder, FAKE_CDSPRPC=how)
    kind, sentence = report["failed"]
    assert kind == "OutOfMemoryError" and words in sentence


# ---- it breaks ----


def rules_broken(log):
    return [line for line in log.read_text().splitlines() if line.startswith("rule")]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            104,
            "error 0x68 (ECONNRESET): the DSP was restarted or its process died; "
            "open the model again",
        ),
        (0x80000430, "error 0x80000430 (ECPUEXCEPTION): the program on the DSP crashed"),
        (39, "error 0x27 (ENOSUCH): its process crashed or was ended; open the model again"),
    ],
)
def test_a_dsp_that_is_lost_in_the_middle(fake, dsp_folder, wanted, tmp_path, code, words):
    """One error; the length is kept; the next run opens a new session, maps and prepares again, and
    writes what it would have."""
    log = tmp_path / "log"
    env = {
        "PILLION_HTP_DRIVER": fake,
        "ADSP_LIBRARY_PATH": dsp_folder,
        "FAKE_CDSPRPC": f"lose=5,lose_error={code}",
    }
    env["FAKE_CDSPRPC_LOG"] = log
    report = child(work(retries=1), **env)
    assert report["tokens"] == [wanted]
    ((kind, sentence, before, after),) = report["errors"]
    assert kind == "DeviceLostError" and before == after > len(ids())
    assert sentence.startswith(f"device htp: the DSP was lost: {words}")
    assert not rules_broken(log) and "a queue is left behind" not in log.read_text()
    report = child(work(), **env)  # who does not try again has the error
    assert report["failed"][0] == "DeviceLostError"


@pytest.mark.parametrize("is_told", [True, False])
def test_a_dsp_that_does_not_answer(fake, dsp_folder, wanted, tmp_path, is_told):
    """Its process is killed; the driver reports that, and only then closes the queue. Where it does
    not, the queue is left to it."""
    log = tmp_path / "log"
    env = {
        "PILLION_HTP_DRIVER": fake,
        "ADSP_LIBRARY_PATH": dsp_folder,
        "PILLION_HTP_TIMEOUT": "0.5",
        "FAKE_CDSPRPC_LOG": log,
    }
    report = child(
        work(retries=1), timeout=60, FAKE_CDSPRPC="hang=4" if is_told else "hang=4,silent=1", **env
    )
    assert report["tokens"] == [wanted]
    assert [e[:2] for e in report["errors"]] == [
        ["DeviceLostError", "device htp: the DSP did not answer within 500 ms"]
    ]
    assert "session control 6" in log.read_text() and (not is_told) == (
        "a queue is left behind" in log.read_text()
    )
    assert not rules_broken(log) or not is_told


def test_a_dsp_that_can_not_read_its_queue(fake, dsp_folder, wanted):
    """It says so, with its reason, before it leaves: its host need not wait out the minute."""
    env = {
        "PILLION_HTP_DRIVER": fake,
        "ADSP_LIBRARY_PATH": dsp_folder,
        "FAKE_CDSPRPC": "dsp_read=3,dsp_read_error=0x80000448",
    }
    report = child(work(retries=1), **env)
    assert report["tokens"] == [wanted]
    assert [e[:2] for e in report["errors"]] == [
        [
            "DeviceLostError",
            "device htp: the DSP was lost: error 0x80000448 (ENOSUCHMAP): "
            "a buffer is not mapped on the DSP",
        ]
    ]


def test_two_sessions(fake, dsp_folder, tmp_path):
    """A model that one session can't hold: the driver is asked for a second one, and what runs on
    it is the same."""
    from pillion.models import TINY_TARGET

    prompt = [2, 10, 20, 30, 40]
    big = {**work(), "target": TINY_TARGET, "prompt": prompt}
    cpu = child({**big, "device": "cpu"})
    log = tmp_path / "log"
    env = {"PILLION_HTP_DRIVER": fake, "ADSP_LIBRARY_PATH": dsp_folder, "PILLION_HTP_SPACE": 8}
    report = child(big, FAKE_CDSPRPC_LOG=log, **env)
    assert report["tokens"] == cpu["tokens"] and {s["session"] for s in report["plan"]} == {0, 1}
    assert not rules_broken(log)
    report = child(big, FAKE_CDSPRPC="sessions=1", **env)
    assert report["failed"][0] in ("Busy", "NoBackendError")
    assert (
        "session 1 of the DSP can't be opened: error 0x8a (ENOSESSION): the DSP has no session left"
        in report["failed"][1]
    )
    # a second session has no name without the driver's
    report = child(big, FAKE_CDSPRPC="uri=0", **env)
    assert "the DSP's program can't be opened: error 0x14 (EUNSUPPORTED)" in report["failed"][1]


@pytest.mark.parametrize(("arch", "most"), [("0x73", 2), ("0x75", 4)])
def test_how_many_sessions_there_are(fake, dsp_folder, arch, most):
    """From v75 on four, before two: weights that need more are refused before anything is
    loaded."""
    from pillion.models import TINY_TARGET

    shutil.copy(dsp_folder / "libpillion_htp_v73.so", dsp_folder / "libpillion_htp_v75.so")
    big = {**work(), "target": TINY_TARGET}
    env = {
        "PILLION_HTP_DRIVER": fake,
        "ADSP_LIBRARY_PATH": dsp_folder,
        "FAKE_CDSPRPC": f"arch={arch}",
        "PILLION_HTP_SPACE": 1,
    }
    kind, sentence = child(big, **env)["failed"]
    assert (
        kind == "OutOfMemoryError" and f"there are at most {most}: take a smaller model" in sentence
    )


# ---- doctor ----


@pytest.mark.parametrize(
    "env, words",
    [
        (
            {"ADSP_LIBRARY_PATH": None, "DSP_LIBRARY_PATH": None},
            "absent: ADSP_LIBRARY_PATH is not set",
        ),
        (
            {"FAKE_CDSPRPC": "arch=0x75"},
            "absent: this device's DSP is of architecture v75, "
            "and ADSP_LIBRARY_PATH holds programs for v73 only",
        ),
        ({"FAKE_CDSPRPC": "open_error=0x20"}, "(EITEMBUSY): the DSP is busy"),
        ({"FAKE_CDSPRPC": "open_error=0x81"}, "(EUNSIGNEDMOD): the DSP refuses unsigned programs"),
        (
            {"PILLION_HTP_DRIVER": "/nowhere/libcdsprpc.so"},
            "absent: /nowhere/libcdsprpc.so does not load",
        ),
        ({}, "available"),
    ],
    ids=["path", "architecture", "busy", "unsigned", "driver", "there"],
)
def test_doctor_tells_them_apart(fake, dsp_folder, env, words):
    variables = {
        **os.environ,
        "PILLION_HTP_DRIVER": str(fake),
        "ADSP_LIBRARY_PATH": str(dsp_folder),
        **{k: v for k, v in env.items() if v},
    }
    for name in [k for k, v in env.items() if v is None]:
        variables.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "pillion", "doctor"], env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("htp ")]
    assert words in line
