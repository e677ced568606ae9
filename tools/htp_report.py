"""Compiles the DSP's kernels for the devices' architectures and says what their inner loops are
made of. Nothing runs.

    python tools/htp_report.py [--arch 73 --arch 79] [--only matmul_blocks] [--json OUT]

A line is an inner loop: packets, instructions and vector instructions of one pass, vectors loaded,
multiplies, vectors that go to the stack and back, scalars that do, calls; for matrix products also
packets for each 32 x 32 weights and row. A loop the compiler has pipelined or written out several
times is counted as it is: `blocks` says how many blocks of 32 inputs one pass does.

Exits with 1 when a file does not compile or a kernel is over its budget (BUDGETS, CALLS and SPILLS
below)."""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PART = ROOT / "csrc/backends/htp/dsp"
SOURCES = (
    "matmul_blocks",
    "matmul_k",
    "matmul_expanded",
    "matmul_float",
    "attention",
    "norm",
    "elementwise",
    "head",
    "quantize",
)

# Packets for 32 x 32 weights and a row, at 1, 4 and 9 rows: the most of v68, v73 and v79 by ziglang
# 0.17.1, and a twentieth more. Below 7 they cannot come: a packet takes two integer products (8),
# two scalars spread over a vector (2), or one float product (2).
BUDGETS = {
    "q4_0": (13, 10.5, 10.5),
    "q4_1": (14, 12.5, 11.5),
    "q5_0": (23, 13, 11.5),
    "q5_1": (25, 14.5, 12.5),
    "q8_0": (14, 10.5, 10.5),
    "iq4_nl": (17.5, 11, 11),
    "q2_k": (45, 23.5, 21),
    "q3_k": (39, 20, 17),
    "q4_k": (23.5, 15, 12.5),
    "q5_k": (33, 16.5, 14),
    "q6_k": (36, 20, 16),
    "iq4_xs": (24, 14, 11.5),
    # Measured for v73 only: 15, 8.8, 9.5; 25.5, 14.4, 12.1; 19.5, 12, 9.7; 35.4, 16.8, 15.8; 15.5,
    # 10.5, 9. The rest is the share by which IQ4_NL's budget is above its v73.
    "mxfp4_x": (20, 11, 11.5),
    "nvfp4_x": (33.5, 17.5, 14.5),
    "iq3_xxs_x": (26, 14.5, 11.5),
    "iq3_s_x": (26, 14.5, 11.5),
    "iq2_x": (46.5, 22, 17.5),
    "iq1_x": (46.5, 22, 17.5),
    "tq2_0": (20.5, 13, 11),
}
COUNTS = (1, 4, 9)
# kernels that may call nothing from an inner loop
CALLS = re.compile(r"_rows\d$|^score_blocks|^add_values")
# vectors to and from the stack, for each block and row: q5_1 with 9 rows has 1.06, most have none
SPILLS = 1.1


def commands(archs):
    """{(architecture, source's name): compiler's words} as the project would compile it, from
    CMake."""
    build = ROOT / "build/htp-report"
    defines = [
        f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/toolchains/hexagon.cmake",
        f"-DZIG_PYTHON={sys.executable}",
    ]
    configure = [
        "cmake",
        "-S",
        str(PART),
        "-B",
        str(build),
        "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
        *defines,
    ]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    found = {}
    for one in json.loads((build / "compile_commands.json").read_text()):
        match = re.search(r"pillion_dsp_v(\d+)\.dir/ops/(\w+)\.c", one["command"])
        if match and match[1] in archs:
            found[match[1], match[2]] = (shlex.split(one["command"]), one["directory"])
    return found


def assembly(words, folder):
    """(what the compiler made, or None; what it said)"""
    with tempfile.TemporaryDirectory() as made:
        out = Path(made) / "kernels.s"
        words = [word for word in words if word != "-c"]
        words[words.index("-o") + 1] = str(out)
        done = subprocess.run([*words, "-S", "-g0"], capture_output=True, text=True, cwd=folder)
        return (out.read_text() if done.returncode == 0 else None), done.stderr


def blocks_of(text):
    """Basic blocks in order: (function, loop or None, inner loop's header or not, packets, label);
    a packet: its lines."""
    function, blocks, packet = None, [], None
    for line in text.splitlines():
        word = line.strip()
        label = re.match(r"(?:\.L(BB\d+_\d+):|// (%bb\.\d+):|([A-Za-z_]\w*):)", line)
        if label:
            function = label[3] or function
            blocks.append([function, None, False, [], label[1]])
        if not blocks:
            continue
        if match := re.search(r"in Loop: Header=(BB\d+_\d+)", line):
            blocks[-1][1] = match[1]
        elif re.search(r"=>\s*This Inner Loop Header", line):
            blocks[-1][1:3] = blocks[-1][4], True
        elif re.search(r"=>\s*This Loop Header", line):
            blocks[-1][1] = blocks[-1][4]
        if word == "{":
            packet = []
        elif word.startswith("}"):
            blocks[-1][3].append(packet)
            packet = None
        elif packet is not None and word and not word.startswith(("//", ".")):
            packet.append(word)
    return blocks


def read_loops(text):
    """Inner loops, each a dictionary of counts."""
    loops, inner = {}, set()
    for function, loop, is_inner, packets, _ in blocks_of(text):
        if loop:
            loops.setdefault((function, loop), []).extend(packets)
        if is_inner:
            inner.add((function, loop))
    found = []
    for key in loops:
        if key not in inner:
            continue
        lines = [line for packet in loops[key] for line in packet]

        def count(pattern, lines=lines):
            return sum(bool(re.search(pattern, line)) for line in lines)

        found.append(
            {
                "kernel": key[0],
                "packets": len(loops[key]),
                "instructions": len(lines),
                "vector": count(r"^(if \(.*\) )?(v\d|vmem|q\d)"),
                "loads": count(r"= vmemu?\("),
                "multiplies": count(r"vrmpy|vmpy|vdmpy"),
                "products": count("vrmpy"),
                "stack_vectors": count(r"vmemu?\(r(29|30)"),
                "stack": count(r"mem[bhwd]\(r(29|30)"),
                "calls": count(r"^call"),
            }
        )
    return found


def measured(loop):
    """Adds blocks, rows and packets for a block and row to the loop of a matrix product."""
    match = re.match(r"(\w+)_rows(\d)$", loop["kernel"])
    if match and loop["products"]:
        loop["format"], loop["rows"] = match[1], int(match[2])
        loop["blocks"] = loop["products"] / 8 / loop["rows"]
        loop["packets_per_block"] = loop["packets"] / loop["blocks"] / loop["rows"]
    return loop


def faults_of(loop):
    """Sentences."""
    where = f"{loop['file']}, v{loop['arch']}: an inner loop of {loop['kernel']}"
    if loop["calls"] and CALLS.search(loop["kernel"]):
        yield f"{where} calls {loop['calls']} times; a call loses all vectors"
    if "format" not in loop:
        return
    if loop["stack_vectors"] > SPILLS * loop["blocks"] * loop["rows"]:
        yield (
            f"{where} moves {loop['stack_vectors']} vectors to and from the stack, "
            f"over {SPILLS} for each block and row"
        )
    if (
        loop["rows"] in COUNTS
        and loop["packets_per_block"] > BUDGETS[loop["format"]][COUNTS.index(loop["rows"])]
    ):
        most = BUDGETS[loop["format"]][COUNTS.index(loop["rows"])]
        yield (
            f"{where} takes {loop['packets_per_block']:.1f} packets "
            f"for 32 x 32 weights and a row, over its {most}"
        )


def report(archs, only=None):
    """Two lists: the loops, and sentences about what is wrong."""
    known = commands(archs)
    jobs = [(arch, name) for arch in archs for name in SOURCES if not only or name in only]
    loops, faults = [], []
    with ThreadPoolExecutor(2) as pool:
        for (arch, name), (text, said) in zip(
            jobs, pool.map(lambda job: assembly(*known[job]), jobs), strict=False
        ):
            if text is None:
                faults.append(f"{name}.c does not compile for v{arch}: {said.strip()[-2000:]}")
                continue
            loops += [
                measured({"file": f"{name}.c", "arch": arch, **loop}) for loop in read_loops(text)
            ]
    for loop in loops:
        faults += faults_of(loop)
    return loops, faults


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--arch", action="append", help="68, 69, 73, 75, 79 or 81; may be repeated (73)"
    )
    parser.add_argument(
        "--only", action="append", choices=SOURCES, help="only this file; may be repeated"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    loops, faults = report(options.arch or ["73"], options.only)
    for one in loops:
        what = (
            f"{one['packets']:4} packets {one['instructions']:5} instructions {one['vector']:5} "
            f"vector {one['loads']:4} loads"
        )
        what += (
            f" {one['multiplies']:4} multiplies {one['stack_vectors']:3} + {one['stack']:3} "
            f"stack {one['calls']:2} calls"
        )
        per = f"  {one['packets_per_block']:5.1f} a block and row" if "format" in one else ""
        print(f"v{one['arch']} {one['kernel']:20} {what}{per}")
    if options.json:
        options.json.write_text(json.dumps(loops, indent=1) + "\n")
    for fault in faults:
        print("error:", fault, file=sys.stderr)
    sys.exit(bool(faults) or not loops)


if __name__ == "__main__":
    main()
