"""An app that PyInstaller makes of an installed pillion, without any flag for it, runs
elsewhere."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly

APP = """
import sys
if sys.argv[1:]:
    from pillion.cli.main import main
    main()
else:
    import pillion
    from pillion.models import TINY_ASSISTANT, TINY_TARGET
    with pillion.LLM(TINY_TARGET, drafter=TINY_ASSISTANT) as llm:
        print(llm.generate("In the beginning", max_tokens=12, temperature=0).run().text)
        devices = [pillion.device(name)["name"] for name in ("cuda:sim", "htp:sim")]
        print(llm.speculation.kind, *devices)
"""
# One folder and one file out of one analysis. What is left out is what the tests' environment has
# and pillion does not need.
SPEC = """
without = ["matplotlib", "PIL", "mypy", "hypothesis", "pytest", "gguf", "sentencepiece", "google",
           "tokenizers", "tkinter", "safetensors", "requests", "yaml", *LEFT_OUT]
a = Analysis(["app.py"], excludes=without)
pyz = PYZ(a.pure)
exe = EXE(pyz, a.scripts, exclude_binaries=True, name="app")
COLLECT(exe, a.binaries, a.datas, name="folder")
if ONE_FILE:
    EXE(pyz, a.scripts, a.binaries, a.datas, name="one")
"""


@pytest.fixture(scope="module")
def python(wheel, pillion, tmp_path_factory):
    """A Python where the wheel is installed, with the modules of the devices, and the packages of
    this one."""
    pytest.importorskip("PyInstaller")
    root = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    (packages,) = root.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages"))
    )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    built = Path(sys.modules["pillion._capi"].__file__).parent
    for name in ("libpillion_cuda_sim.so", "libpillion_htp.so", "pillion_htp_sim"):
        shutil.copy(built / name, packages / "pillion")
    return root / "bin" / "python"


def frozen(python, folder, one_file=True, left_out=()):
    """Builds it; returns the folder with the programs."""
    (folder / "app.py").write_text(APP)
    (folder / "app.spec").write_text(f"ONE_FILE, LEFT_OUT = {one_file}, {list(left_out)!r}\n{SPEC}")
    command = [python, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", "app.spec"]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "dist"


def run(program, folder, *words):
    """In an empty environment, from another folder."""
    return subprocess.run(
        [program, *words], cwd=folder, env={"TMPDIR": str(folder)}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def apps(python, tmp_path_factory):
    return frozen(python, tmp_path_factory.mktemp("app"))


@pytest.mark.parametrize("program", ["folder/app", "one"])
def test_it_writes_what_the_library_writes(apps, program, tmp_path, pillion, tiny_target):
    done = run(apps / program, tmp_path)
    assert done.returncode == 0, done.stderr
    with pillion.LLM(tiny_target, drafter=None) as llm:
        wanted = llm.generate("In the beginning", max_tokens=12, temperature=0).run().text
    assert done.stdout.splitlines() == [wanted, "mtp cuda htp"]


def test_the_command_line_in_it(apps, tmp_path):
    done = run(apps / "folder" / "app", tmp_path, "demo", "-n", "8")
    assert done.returncode == 0, done.stderr
    assert "texts equal: yes" in done.stderr


def test_a_module_that_was_left_out_is_named(python, tmp_path):
    made = frozen(python, tmp_path, one_file=False, left_out=["markupsafe"])
    done = run(made / "folder" / "app", tmp_path)
    assert done.returncode != 0
    assert (
        "pillion needs the module markupsafe (for Jinja2), which this frozen app was made without"
        in done.stderr
    )
