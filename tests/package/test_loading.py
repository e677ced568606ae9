"""What `import pillion` says when what it stands on is missing or broken; what PyInstaller is
told."""

import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "pillion"
MISSING = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def imported(folder, before=""):
    """What `import pillion` from this folder ends with, in a process that has no other pillion."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    program = (
        f"import sys; sys.path[:0] = [{str(folder)!r}]; sys.path += "
        f"{packages!r}\n{before}\nimport pillion"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder if Path(folder).is_dir() else "/"
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else "it loads"


@pytest.fixture
def package(pillion, tmp_path):
    """The package as it is installed: a folder with the compiled module among the sources."""
    copy = tmp_path / "pillion"
    shutil.copytree(
        PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.gguf", "cli", "convert")
    )
    shutil.copy(compiled(pillion), copy / "_capi.abi3.so")
    return copy


def compiled(pillion):
    return sys.modules[f"{pillion.__name__}._capi"].__file__


def test_a_whole_package_loads(package):
    assert imported(package.parent) == "it loads"


@pytest.mark.parametrize(
    "name, install", [("numpy", "numpy"), ("jinja2", "Jinja2"), ("_cffi_backend", "cffi")]
)
def test_another_module_is_named(package, name, install):
    said = imported(package.parent, MISSING.format(name=name))
    missing = f"pillion needs the module {name}, which is not installed: pip install {install}"
    assert said == f"ImportError: {missing}"


def test_a_module_that_another_one_needs(package):
    said = imported(package.parent, MISSING.format(name="markupsafe"))
    assert said.endswith(
        "needs the module markupsafe (for Jinja2), which is not installed: pip install MarkupSafe"
    )


def test_in_a_frozen_app(package):
    said = imported(package.parent, "sys.frozen = True" + MISSING.format(name="_cffi_backend"))
    assert "the module _cffi_backend, which this frozen app was made without" in said
    assert "--hidden-import _cffi_backend" in said
    (package / "_capi.abi3.so").unlink()
    said = imported(package.parent, "sys.frozen = True")
    assert "compiled module is missing: this frozen app was made without pillion._capi" in said


def test_a_source_tree(package):
    (package / "_capi.abi3.so").unlink()
    assert "source tree or a broken install; `pip install pillion`" in imported(package.parent)


def test_a_module_for_another_python(package):
    (package / "_capi.abi3.so").rename(package / "_capi.cpython-27m-x86_64-linux-gnu.so")
    said = imported(package.parent)
    assert (
        "_capi.cpython-27m-x86_64-linux-gnu.so" in said
        and "is for another Python" in said
        and ".abi3.so" in said
    )


def test_inside_an_archive(package, tmp_path):
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*"):
            file.write(path, path.relative_to(package.parent))
    assert (
        f"{archive}/pillion is inside an archive, from which no compiled module can be loaded"
        in imported(archive)
    )


def test_the_models_of_an_archive_are_unpacked(package, pillion, tmp_path):
    """As where a freezer keeps the sources in an archive and the compiled module outside."""
    archive = tmp_path / "library.zip"
    (package / "models" / "tiny-target.gguf").write_text("its bytes")
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*"):
            if not path.name.startswith("_capi"):
                file.write(path, path.relative_to(package.parent))
    outside = (
        "import importlib.machinery, importlib.util\n"
        f"loader = importlib.machinery.ExtensionFileLoader('pillion._capi', "
        f"{compiled(pillion)!r})\n"
        "spec = importlib.util.spec_from_loader('pillion._capi', loader)\n"
        "sys.modules['pillion._capi'] = module = importlib.util.module_from_spec(spec)\n"
        "loader.exec_module(module)\n"
        "import pillion.models as models\n"
        "raise SystemExit(models.TINY_TARGET.read_text() + ' ' + models.TINY_ASSISTANT.name)"
    )
    assert imported(archive, outside) == "its bytes tiny-assistant.gguf"


@pytest.mark.parametrize(
    "content, reason",
    [(b"\x7fELF", "the file is cut off"), (b"x" * 4096, "no program for this kind")],
)
def test_a_damaged_file(package, content, reason):
    (package / "_capi.abi3.so").write_bytes(content)
    said = imported(package.parent)
    assert "ImportError: pillion's compiled module can't be loaded: " in said and reason in said
    assert str(package / "_capi.abi3.so") in said


def test_a_module_for_another_machine(package, tmp_path):
    cross = shutil.which("aarch64-linux-gnu-gcc")
    if cross is None or os.uname().machine != "x86_64":
        pytest.skip("needs an x86-64 machine with aarch64-linux-gnu-gcc")
    (tmp_path / "x.c").write_text("int x;\n")
    module = package / "_capi.abi3.so"
    subprocess.run([cross, "-shared", "-fPIC", tmp_path / "x.c", "-o", module], check=True)
    assert "it is for another kind of machine than this x86_64" in imported(package.parent)


WORDS = {
    "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found "
    "(required by /a/_capi.abi3.so)": ("it needs GLIBC 2.38, which is newer than this system's"),
    "/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by /a/_capi.abi3.so)": (
        "it needs GLIBCXX 3.4.32"
    ),
    "libstdc++.so.6: cannot open shared object file: No such file or directory": (
        "it needs the library libstdc++.so.6, which this system does not have"
    ),
    "Error loading shared library libstdc++.so.6: "
    "No such file or directory (needed by /a/_capi.abi3.so)": "it needs the library libstdc++.so.6",
    "/a/_capi.abi3.so: cannot open shared object file: No such file or directory": (
        "for another kind of machine than this"
    ),
    "/a/_capi.abi3.so: wrong ELF class: ELFCLASS32": "for another kind of machine than this",
    "dlopen(/a/_capi.abi3.so): mach-o file, "
    "but is an incompatible architecture (have 'x86_64', need 'arm64')": (
        "for another kind of machine than this"
    ),
    "/tmp/_MEI1/_capi.abi3.so: failed to map segment from shared object": "no program may run",
    "/a/_capi.abi3.so: undefined symbol: PyType_FromSpec": "does not fit this Python",
    "cffi extension module 'pillion._capi' has unknown version 0x2701": (
        "pip install --upgrade cffi"
    ),
    "something new": "can't be loaded (something new)",
}


@pytest.mark.parametrize("words", WORDS)
def test_the_linker_s_words(pillion, words):
    said = pillion._loading.explanation(ImportError(words, name="pillion._capi"), "", "/a")
    assert WORDS[words] in said and said.endswith(f"({words})") and "\n" not in said


def test_a_broken_numpy_is_numpy_s_fault(pillion):
    error = ImportError("numpy.core.multiarray failed to import\n(auto-generated)")
    said = pillion._loading.explanation(error, "numpy", "/a")
    assert said.startswith(
        "pillion needs numpy, which is installed but can't be imported: "
        "numpy.core.multiarray failed"
    )


def test_two_installs_mixed(package):
    other = package / "_capi.abi3.so"
    other.unlink()
    (package / "_capi.py").write_text(
        "ffi = None\nclass lib:\n    PILLION_ABI_VERSION = 7\n    pillion_abi_version = "
        "staticmethod(lambda: 8)\n"
    )
    said = imported(package.parent)
    assert "was built for ABI version 7, but its library has version 8" in said


# ---- PyInstaller ----


def test_pyinstaller_finds_the_hook(pillion):
    pytest.importorskip("PyInstaller")
    found = entry_points()
    group = (
        found.select(group="pyinstaller40") if hasattr(found, "select") else found["pyinstaller40"]
    )
    (entry,) = {one.value: one for one in group if one.value.startswith("pillion.")}.values()
    (folder,) = entry.load()()
    assert (Path(folder) / "hook-pillion.py").exists()


def test_what_the_hook_collects(pillion, monkeypatch):
    isolated = pytest.importorskip("PyInstaller.isolated")
    # in a child it has the editable install's finder too
    monkeypatch.setattr(isolated, "call", lambda function: function())
    said = runpy.run_path(str(PACKAGE / "_pyinstaller" / "hook-pillion.py"))
    assert {"pillion._capi", "_cffi_backend"} <= set(said["hiddenimports"])
    assert "huggingface_hub" in said["excludedimports"]
    binaries = {Path(source).name: folder for source, folder in said["binaries"]}
    beside = {path.name for path in Path(compiled(pillion)).parent.iterdir()}
    wanted = {name for name in beside if name.startswith("libpillion") or name == "pillion_htp_sim"}
    assert set(binaries) == wanted and set(binaries.values()) <= {"pillion"}
    assert {"libpillion_cuda_sim.so", "libpillion_htp.so", "pillion_htp_sim"} <= wanted
    datas = {Path(source).name: folder for source, folder in said["datas"]}
    web = {path.name for path in (PACKAGE / "server" / "web").iterdir()}
    assert {"page.html", "style.css", "main.js"} <= web
    models = ["tiny-target.gguf", "tiny-assistant.gguf", "tiny-mmproj.gguf", "genesis.txt"]
    models += ["seven.png", "seven.wav"]
    wanted = {**dict.fromkeys(models, "pillion/models"), **dict.fromkeys(web, "pillion/server/web")}
    assert datas == wanted
