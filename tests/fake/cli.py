"""`pillion` over the fake library, for tests of the command line: python tests/fake/cli.py
COMMAND …

FAKE_SCRIPT (text, said from the context length FAKE_BASE on), FAKE_SLOW (microseconds per token)
and FAKE_MARKS (a folder where "load" and "eval" appear when one begins) pull its strings.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build  # noqa: E402

package = build.load()
lib, ffi = package._native.lib, package._native.ffi
said = list(os.environ.get("FAKE_SCRIPT", "").encode())
lib.fake_script(int(os.environ.get("FAKE_BASE", "0")), ffi.new("int32_t[]", said), len(said))
lib.fake_slow(int(os.environ.get("FAKE_SLOW", "0")))
lib.fake_marks(os.environ.get("FAKE_MARKS", "").encode())

from pillion_fake.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()
