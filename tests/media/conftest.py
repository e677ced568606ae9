import media_files
import pytest
from stand_in_towers import StandIn


@pytest.fixture
def stand_in(tmp_path):
    """Makes towers without a file."""
    path = tmp_path / "mmproj-stand-in.gguf"
    path.write_bytes(b"GGUF and no more")

    def make(n_embd=192, **options):
        return StandIn(path, n_embd, **options)

    return make


@pytest.fixture(scope="module")
def opened(pillion):
    """Opens the towers of a model once for all tests of a file."""
    made = {}

    def get(name, outtype="f32", n_threads=2):
        key = (name, outtype, n_threads)
        if key not in made:
            made[key] = pillion.Mmproj(media_files.mmproj(name, outtype), n_threads=n_threads)
        return made[key]

    yield get
    for one in made.values():
        one.close()
