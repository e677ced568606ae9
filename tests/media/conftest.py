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
