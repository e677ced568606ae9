"""The equality contract (docs/architecture.md, 15.1): the bits of a row's logits depend on the row
alone, not on the rows beside it, the chunks it came in, the threads, or the kernel table."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from goldens import SHAPES, model_path, prompt

N = 300  # longer than a ring of 256 positions and than a split of the attention


def all_logits(model, ids, rows, **options):
    """Logits of every position, run in pieces of `rows` tokens."""
    out = []
    with model.context(n_ctx=512, n_outputs=512, **options) as context:
        for at in range(0, len(ids), rows):
            piece = ids[at : at + rows]
            context.prefill(piece, outputs=len(piece))
            out += [context.logits(row) for row in range(len(piece))]
    return np.stack(out)


@pytest.fixture(
    scope="module", params=[(name, kv) for name in SHAPES for kv in ("f16", "q8_0")], ids="-".join
)
def alone(request, pillion):
    """A model and the logits of its rows, each run alone on one thread."""
    name, kv = request.param
    with pillion.Model.open(model_path(name)) as model:
        ids = prompt(name)
        yield model, ids, kv, all_logits(model, ids, 1, kv_type=kv, n_threads=1)


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 6, 7, 8, 9, 17, N])
def test_rows_do_not_know_their_neighbours(alone, rows):
    model, ids, kv, expected = alone
    ours = all_logits(model, ids, rows, kv_type=kv, n_threads=2)
    different = [row for row in range(N) if ours[row].tobytes() != expected[row].tobytes()]
    assert not different, f"{len(different)} rows differ, the first is {different[0]}"


@pytest.mark.parametrize("threads, n_batch", [(1, 512), (3, 512), (4, 40), (2, 9)])
def test_threads_and_batch_size_change_nothing(alone, threads, n_batch):
    model, ids, kv, expected = alone
    with model.context(n_ctx=512, n_batch=n_batch, kv_type=kv, n_threads=threads) as context:
        context.prefill(ids, outputs=min(9, n_batch))
        for row in range(min(9, n_batch)):
            assert context.logits(row).tobytes() == expected[N - min(9, n_batch) + row].tobytes()


CHILD = """
import sys, json, hashlib, numpy as np, pillion
digests = {}
for path, ids in json.load(sys.stdin):
    with pillion.Model.open(path) as model, model.context(n_ctx=512, n_outputs=512) as context:
        context.prefill(ids, outputs=len(ids))
        rows = b"".join(context.logits(r).tobytes() for r in range(len(ids)))
        digests[path] = hashlib.sha256(rows).hexdigest()
print(json.dumps({"table": pillion.system()["cpu"]["table"], "digests": digests}))
"""


def run_under(isa, work):
    env = dict(os.environ, PILLION_CPU_ISA=isa)
    out = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(work),
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(out.stdout)


def test_all_kernel_tables_give_the_same_bits(pillion):
    # Beyond the contract, which promises bits per table only.
    work = [(str(model_path(name)), prompt(name, 70)) for name in SHAPES]
    tables = pillion.system()["cpu"]["tables"]
    results = {table: run_under(table, work) for table in tables}
    assert "generic" in tables
    for table, result in results.items():
        assert result["table"] == table, "the forced table is not the one in use"
        assert result["digests"] == results["generic"]["digests"], table
