"""Packets that the DSP's kernels execute, counted under qemu-hexagon. Not speed: nothing here knows
of caches, memory or stalls.

    python benchmarks/htp_packets.py [--only matmul,attend,rows] [--sim PROGRAM] [--threads 4]
    [--clock-ghz 1.0] [--json OUT]

The program is pillion_htp_sim_counts: the kernels as the compiler makes them for a device, with
integer instructions in the places of float ones (hvx/hvx_placeholder.h), so that packets are a
device's (v68's, before the later ones' int to float) and results mean nothing. One thread; what is
executed hardly depends on data.

matmul   a format and 1, 4, 9 and 64 rows: packets for a panel of 32 x 2048 weights, from the
         difference of two matrices, and what quantizing the inputs and the rest cost beside them
attend   8 heads on one KV head: packets for one position more, from the difference of two lengths;
         bytes are its key and value
rows     norm, rotation, glu, the choice of a token, kv_store: packets for each value

A thread begins at most one packet a cycle. So bytes over packets, times clock and threads, is what
the kernel can take in a second when nothing else holds it up: below the memory's bandwidth the
kernel is the limit, above it the memory."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("fake", "support")]

import dsp as d  # noqa: E402
import op_cases as oc  # noqa: E402
import op_plans  # noqa: E402
from locked import cmake_build, toolchain  # noqa: E402

WIDTH, PANELS, ROWS = 2048, (4, 8), (1, 4, 9, 64)
HEADS, LENGTHS = 8, (255, 511)
PART = "csrc/backends/htp/dsp"


def packer():
    folder = cmake_build("htp-native", source=PART, targets=["pillion_htp_pack"])
    return op_plans.Packer(folder / "libpillion_htp_pack.so")


def program():
    defines = toolchain("hexagon"), f"-DZIG_PYTHON={sys.executable}"
    return (
        cmake_build("htp-hexagon", *defines, source=PART, targets=["pillion_htp_sim_counts"])
        / "pillion_htp_sim_counts"
    )


class Counter:
    def __init__(self, dsp, packer):
        self.dsp, self.packer = dsp, packer

    def packets(self, case, rows, counter=d.PACKETS):
        """Of one run of the case's op over `rows` rows."""
        self.dsp.reset()
        self.dsp.control["counter"] = counter
        at_once = min(rows, 72) if case.op == "matmul" else 0
        op_plans.OpPlan(self.dsp, self.packer, case, rows_max=rows, rows_at_once=at_once)
        profile = self.dsp.alloc((1,), np.uint32)
        self.dsp.run(case.pos, rows, 0, profile=profile)
        return int(profile[0])


def matmul_case(dtype, panels):
    x = np.ones((max(ROWS), WIDTH), np.float32)
    return oc.OpCase(
        "matmul", f"{dtype}-{panels}", {"weight": oc.Weight(dtype, WIDTH, 32 * panels), "x": x}
    )


def matmul(counter):
    """[{format, rows, packets of a panel, bytes over packets, multiplies over packets, packets
    beside the panels of one row}]"""
    for dtype in op_plans.GROUPS:
        for rows in ROWS:
            few, many = (counter.packets(matmul_case(dtype, panels), rows) for panels in PANELS)
            panel = (many - few) / (PANELS[1] - PANELS[0])
            size = op_plans.panel_bytes(dtype, WIDTH)
            one = {
                "what": f"matmul {dtype}",
                "rows": rows,
                "packets": panel,
                "bytes_per_packet": size / panel,
            }
            yield one | {
                "multiplies_per_packet": 32 * WIDTH * rows / panel,
                "beside": (few - PANELS[0] * panel) / rows,
            }


def attend(counter):
    for dim in (256, 512):
        for kind in ("f16", "q8_0"):
            store = oc.Store(kind, 1, dim, 512, 0)
            for rows in (1, 2, 5):
                case = {"cache": store, "q": np.ones((rows, HEADS * dim), np.float32)}
                params = {
                    "n_heads": HEADS,
                    "n_kv_heads": 1,
                    "head_dim": dim,
                    "window": 0,
                    "softcap": 0.0,
                    "scale": 1.0,
                }
                cases = (oc.OpCase("attend", "", case, params, last - rows + 1) for last in LENGTHS)
                few, many = (counter.packets(one, rows) for one in cases)
                packets = (many - few) / (LENGTHS[1] - LENGTHS[0])
                size = op_plans.kv_bytes(store) / 512
                one = {
                    "what": f"attend {kind} {dim}",
                    "rows": rows,
                    "packets": packets,
                    "bytes_per_packet": size / packets,
                }
                one["multiplies_per_packet"] = 2 * dim * HEADS * rows / packets
                yield one | {"beside": few - packets * (LENGTHS[0] + 1)}


def rows(counter):
    def of(width):
        return np.ones((1, width), np.float32)

    vector, heads = (
        oc._vector("w", width=256),
        {"n_heads": 8, "n_kv_heads": 1, "head_dim": 256, "rope_dims": 256, "eps": 1e-6},
    )
    cases = [
        (
            "norm",
            2048,
            {"x": of(2048), "weight": oc._vector("w", width=2048)},
            {"eps": 1e-6, "scale": 1.0},
        ),
        (
            "norm_add",
            2048,
            {"branch": of(2048), "weight": oc._vector("w", width=2048), "residual": of(2048)},
            {"eps": 1e-6},
        ),
        ("add", 2048, {"a": of(2048), "b": of(2048)}, {}),
        (
            "qkv_norm_rope",
            2560,
            {
                "q": of(2048),
                "k": of(256),
                "v": of(256),
                "q_norm": vector,
                "k_norm": vector,
                "rope": of(256),
            },
            heads | {"norm_v": True},
        ),
        ("glu", 8192, {"gate": of(8192), "up": of(8192)}, {"activation": "gelu_tanh"}),
        ("softcap", 8192, {"x": of(8192)}, {"cap": 30.0}),
        ("argmax", 8192, {"logits": of(8192), "ids": None}, {}),
        (
            "kv_store",
            512,
            {"cache": oc.Store("f16", 1, 256, 256, 0), "k": of(256), "v": of(256)},
            {},
        ),
        (
            "kv_store",
            512,
            {"cache": oc.Store("q8_0", 1, 256, 256, 0), "k": of(256), "v": of(256)},
            {},
        ),
        ("rope_table", 256, {"factors": None}, {"dims": 256, "base": 1e6, "position_scale": 1.0}),
    ]
    for op, values, inputs, params in cases:
        packets = counter.packets(oc.OpCase(op, "", inputs, params), 1)
        name = f"{op} {inputs['cache'].kind}" if op == "kv_store" else op
        yield {"what": name, "rows": 1, "packets": packets, "values_per_packet": values / packets}


PARTS = {"matmul": matmul, "attend": attend, "rows": rows}


def show(one, threads, clock):
    text = f"| {one['what']} | {one['rows']} | {one['packets']:.1f} |"
    if "bytes_per_packet" not in one:
        return text + f" | {one['values_per_packet']:.2f} | | |"
    bound = one["bytes_per_packet"] * threads * clock
    return (
        text
        + f" {one['bytes_per_packet']:.2f} | {one['multiplies_per_packet']:.1f} | {bound:.1f} | "
        f"{one['beside']:.0f} |"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    parser.add_argument("--sim", help="another pillion_htp_sim_counts")
    parser.add_argument("--threads", type=int, default=4, help="of the bound's formula")
    parser.add_argument("--clock-ghz", type=float, default=1.0, help="of the bound's formula")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    command = ["qemu-hexagon", "-cpu", "v67", options.sim or program()]
    print(
        "| op | rows | packets | bytes or values / packet | multiplies / packet | bound, GB/s | "
        "packets beside |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    found = []
    with d.Dsp(command, heap_bytes=64 << 20) as dsp:
        counter = Counter(dsp, packer())
        for part in options.only.split(","):
            for one in PARTS[part](counter):
                found.append(one)
                print(show(one, options.threads, options.clock_ghz), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
