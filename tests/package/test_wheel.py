"""The wheel: what is in it, and that it runs where nothing is built."""

import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.slow


def test_its_name_and_content(wheel):
    name, _, rest = wheel.name.partition("-")
    assert name == "pillion" and "-cp310-abi3-" in rest
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    compiled = {name for name in names if ".so" in name}
    assert compiled == {"pillion/_capi.abi3.so"}
    assert {"pillion/py.typed", "pillion/models/tiny-target.gguf", "pillion/cli/main.py"} <= names
    assert {"pillion/server/web/page.html", "pillion/server/web/main.js"} <= names
    assert "pillion/_cdef.py" not in names
    assert "pillion/_pyinstaller/hook-pillion.py" in names
    assert any(name.endswith("/LICENSE") for name in names)


def test_it_runs_without_the_repository(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    # -I and an explicit path: neither the editable install nor the repository is seen
    packages = [path for path in sys.path if path.endswith("site-packages")]
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.path += {packages!r}; "
        "sys.argv = ['pillion', 'demo', '-n', '8']; "
        "import pillion; assert pillion.__file__.startswith(sys.path[0]); "
        "from pillion.cli.main import main; main()"
    )
    call = [sys.executable, "-I", "-S", "-c", program]
    result = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "And it came to pass" in result.stdout


def test_it_exports_nothing_but_its_init_function(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        module = archive.extract("pillion/_capi.abi3.so", tmp_path)
    output = subprocess.run(
        ["nm", "-D", "--defined-only", module], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[-1] for line in output.splitlines()] == ["PyInit__capi"]
