"""tools/android_push.sh against a fake for adb: a "phone" that is a folder of this machine, with
adb's answers when something is wrong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = "/data/local/tmp/pillion"

ADB = f"""#!{sys.executable}
import os, shutil, subprocess, sys
phone = os.environ["FAKE_PHONE"]
with open(os.environ["FAKE_ADB_LOG"], "a") as log:
    print(*sys.argv[1:], sep="|", file=log)
state = os.environ.get("FAKE_ADB_STATE", "device")
serial = os.environ.get("ANDROID_SERIAL")
there = lambda text: text.replace("{FOLDER}", phone + "{FOLDER}")
command, rest = sys.argv[1], sys.argv[2:]
if command == "devices":
    print("List of devices attached\\nR5CT\\tdevice\\nemulator-5554\\tdevice\\n")
elif state == "none":
    sys.exit("adb: no devices/emulators found")
elif state == "two" and not serial:
    sys.exit("adb: more than one device/emulator")
elif state == "unauthorized":
    sys.exit("adb: device unauthorized.")
elif command == "get-state":
    print("device")
elif command == "push":
    source, target = rest[0], there(rest[1])
    if os.environ.get("FAKE_ADB_BREAKS") == os.path.basename(source):
        data = open(source, "rb").read()
        open(target, "wb").write(data[: len(data) // 2])
        sys.exit("adb: error: failed to copy: remote write failed: No space left on device")
    shutil.copy2(source, target)
    # whole seconds, as adb's protocol has them
    os.utime(target, (int(os.stat(source).st_mtime),) * 2)
    print(f"{{source}}: 1 file pushed")
elif command == "shell":
    processor = os.environ.get("FAKE_PROCESSOR", "")
    emulated = there(rest[0]).replace("./pillion-run ", processor + " ./pillion-run ")
    sys.exit(subprocess.run(["bash", "-c", emulated]).returncode)
else:
    sys.exit("adb: unknown command " + command)
"""

PROGRAM = """#!/bin/bash
printf 'ADSP_LIBRARY_PATH=%s\\n' "$ADSP_LIBRARY_PATH"
for a in "$@"; do printf '[%s]\\n' "$a"; done
[ "${!#}" != fail ] || exit 130
"""


@pytest.fixture
def place(tmp_path):
    """A folder with an adb, a program, models whose names have spaces and quotes; and how to run
    the script in it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "phone").mkdir()
    for name, text in {"bin/adb": ADB, "pillion-run": PROGRAM}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for name in ("the target's file.gguf", "an assistant.gguf"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


def push(place, *arguments, cwd=None, **env):
    variables = {
        **os.environ,
        "PATH": f"{place / 'bin'}:/usr/bin:/bin",
        "FAKE_PHONE": str(place / "phone"),
    }
    variables |= {"FAKE_ADB_LOG": str(place / "log"), "PILLION_RUN": str(place / "pillion-run")}
    variables |= {k: str(v) for k, v in env.items()}
    (place / "log").unlink(missing_ok=True)
    script = REPOSITORY / "tools" / "android_push.sh"
    done = subprocess.run(
        ["bash", script, *map(str, arguments)],
        cwd=cwd or place,
        env=variables,
        capture_output=True,
        text=True,
        input="typed",
    )
    log = (place / "log").read_text().splitlines() if (place / "log").exists() else []
    done.pushed = [line.split("|")[1] for line in log if line.startswith("push|")]
    return done


def phone(place):
    return sorted(path.name for path in (place / "phone" / FOLDER[1:]).iterdir())


TARGET, ASSISTANT = "the target's file.gguf", "an assistant.gguf"


def test_it_sends_and_runs(place):
    """From any folder, whatever the names and the prompt hold."""
    prompt = 'Once upon a "time",\n it\'s $HOME; `ls`'
    done = push(place, TARGET, ASSISTANT, "--", "-p", prompt, "-n", "8", "")
    assert done.returncode == 0, done.stderr
    at = f"{place}/phone{FOLDER}"
    words = f"[-m]\n[{at}/{TARGET}]\n[-md]\n[{at}/{ASSISTANT}]\n[-p]\n[{prompt}]\n[-n]\n[8]\n[]\n"
    assert done.stdout.endswith(f"ADSP_LIBRARY_PATH={at}\n{words}")
    assert done.pushed == [str(place / "pillion-run"), TARGET, ASSISTANT]
    assert phone(place) == [ASSISTANT, "pillion-run", TARGET]
    assert (place / "phone" / FOLDER[1:] / TARGET).read_bytes() == (place / TARGET).read_bytes()


def test_what_is_there_is_not_sent_again(place):
    push(place, TARGET, ASSISTANT)
    assert push(place, TARGET, ASSISTANT).pushed == []
    content = (place / ASSISTANT).read_bytes()
    (place / ASSISTANT).write_bytes(content[::-1])  # of the same size: a later time tells
    os.utime(place / ASSISTANT, (2e9, 2e9))
    assert push(place, TARGET, ASSISTANT).pushed == [ASSISTANT]
    assert (place / "phone" / FOLDER[1:] / ASSISTANT).read_bytes() == content[::-1]


def test_a_push_that_breaks_off(place):
    """Half a file has another name and is taken away; what was there before stays, and the next
    attempt sends it."""
    push(place, TARGET)
    old = (place / TARGET).read_bytes()
    (place / TARGET).write_bytes(old + b"more")
    done = push(place, TARGET, "--", "-p", "x", FAKE_ADB_BREAKS=TARGET)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {TARGET} did not get to the phone; room there: "
    )
    assert (
        phone(place) == ["pillion-run", TARGET]
        and (place / "phone" / FOLDER[1:] / TARGET).read_bytes() == old
    )
    assert push(place, TARGET).pushed == [TARGET]


def test_the_exit_status_is_the_program_s(place):
    assert push(place, TARGET, "--", "fail").returncode == 130


def test_libraries_of_the_dsp_go_along(place):
    folder = place / "dsp libraries"
    folder.mkdir()
    for name in ("libpillion_htp.so", "libpillion_htp_v73.so", "other.so"):
        (folder / name).write_bytes(name.encode())
    assert push(place, TARGET, PILLION_HTP_FOLDER=folder).returncode == 0
    assert phone(place) == ["libpillion_htp.so", "libpillion_htp_v73.so", "pillion-run", TARGET]
    shutil.rmtree(folder)
    done = push(place, TARGET, PILLION_HTP_FOLDER=folder)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: there is no libpillion_htp*.so in {folder}\n",
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("none", "adb sees no phone: connect it, switch USB debugging on"),
        (
            "two",
            "adb sees more than one phone: set ANDROID_SERIAL to one of these: R5CT emulator-5554",
        ),
        (
            "unauthorized",
            "the phone does not trust this computer yet: unlock it and allow USB debugging",
        ),
    ],
)
def test_no_phone_or_two(place, state, words):
    done = push(place, TARGET, FAKE_ADB_STATE=state)
    assert done.returncode == 1 and done.pushed == []
    assert done.stderr.startswith(f"error: {words}") and done.stderr.count("\n") == 1


def test_one_of_two(place):
    assert push(place, TARGET, FAKE_ADB_STATE="two", ANDROID_SERIAL="R5CT").returncode == 0


def test_what_is_missing_here(place):
    assert push(place, "nothing.gguf").stderr == "error: nothing.gguf: no such file\n"
    assert (
        push(place, TARGET, PILLION_RUN="/nowhere").stderr
        == "error: /nowhere is not built: make android\n"
    )
    (place / "bin" / "adb").unlink()
    if not any(Path(folder, "adb").exists() for folder in ("/usr/bin", "/bin")):
        assert push(place, TARGET).stderr.startswith(
            "error: adb is not installed (Android's platform tools: "
        )
    usage = push(place)
    assert usage.returncode == 2 and "android_push.sh MODEL.gguf [DRAFTER.gguf" in usage.stdout


def test_the_program_itself_under_the_fake(place, program_of_this_machine, tiny_target):
    """The whole way, with the program that was built for this machine in place of the phone's."""
    done = push(
        place,
        tiny_target,
        "--",
        "-p",
        "In the beginning",
        "-n",
        "4",
        "--temp",
        "0",
        PILLION_RUN=program_of_this_machine,
    )
    assert done.returncode == 0, done.stderr
    again = subprocess.run(
        [
            program_of_this_machine,
            "-m",
            tiny_target,
            "-p",
            "In the beginning",
            "-n",
            "4",
            "--temp",
            "0",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(again.stdout) and len(again.stdout) > 4


@pytest.mark.nightly
def test_the_phone_s_own_program(place, android_build, program_of_this_machine, tiny_target):
    """docs/android.md, steps 3 to 5, with qemu for the phone's processor."""
    from pillion.models import TINY_ASSISTANT

    words = ["-p", "Once upon a time", "-n", "8", "--temp", "0"]
    env = {"PILLION_RUN": android_build / "pillion-run", "FAKE_PROCESSOR": "qemu-aarch64 -cpu max"}
    done = push(place, tiny_target, TINY_ASSISTANT, "--", *words, "-t", "2", **env)
    assert done.returncode == 0, done.stderr
    here = subprocess.run(
        [program_of_this_machine, "-m", tiny_target, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(here.stdout) and "tokens a round; on" in done.stderr
    refused = push(place, tiny_target, "--", "-p", "x", "--device", "htp", **env)
    assert refused.returncode == 1 and refused.stderr.startswith('error: device "htp"')


@pytest.fixture
def program_of_this_machine(libpillion):
    return libpillion.parent / "pillion-run"
