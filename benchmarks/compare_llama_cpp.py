"""Speed of pillion beside llama.cpp on the same file, machine and thread count.

    python benchmarks/compare_llama_cpp.py --model FILE --llama-python VENV/bin/python
        [--threads 2] [-p 512] [-n 128] [--repeats 5] [--min-cpu 0.9]
        [--only llama|pillion] [--json OUT]

Prefill: one call with p tokens on an empty context (llama.cpp with n_ubatch = p).  Decode: n calls
of one token after that prompt, so at depth p.  The token ids are fixed, nothing is sampled.
Every measurement is a fresh process that loads the model and runs once unmeasured; the
engines take turns, so that a slow minute of the machine hits all of them.  llama.cpp is reached
through llama-cpp-python, which has to be built natively on this machine:

    python3 -m venv VENV
    CMAKE_ARGS="-DGGML_NATIVE=ON" VENV/bin/pip install --no-binary llama-cpp-python llama-cpp-python

Reported are medians in tokens per second, the spread (max - min) / median, and the ratio of
pillion to the faster llama.cpp variant.  `cpu` is the share of its threads' time that the process
really got; well below 100 % the machine was busy and the run says nothing (--min-cpu repeats such
runs).  Where the machine never rests, --threads 1 --cpu-time counts tokens per second of
processor time instead; that hides waiting, so it is a makeshift.  Nothing is built.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ENGINES = ("llama.cpp", "llama.cpp fa", "pillion")
MEASURES = ("prefill", "decode")


def token_ids(count):
    """Ids that exist in every vocabulary of the tests; which ones does not matter for the speed."""
    return [10 + 37 * i % 490 for i in range(count)]


def timed(n_tokens, threads, function, *arguments):
    """Tokens per second, and the share of the threads' time that was really had."""
    start, used = time.perf_counter(), time.process_time()
    function(*arguments)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    return {"rate": n_tokens / seconds, "cpu": used / seconds / threads}


# -- measured in child processes -----------------------------------------------


def measure_pillion(model, threads, n_prompt, n_decode):
    """The only place that knows pillion's Python API."""
    import pillion

    opened = pillion.Model.open(model)
    ids = token_ids(n_prompt + n_decode)

    def fresh():
        return opened.context(n_ctx=n_prompt + n_decode + 8, n_threads=threads)

    def decode_all(context):
        for token in ids[n_prompt:]:
            context.decode(token)

    warm = fresh()
    warm.prefill(ids[:n_prompt])
    warm.decode(ids[-1])
    del warm
    context = fresh()
    return {
        "prefill": timed(n_prompt, threads, context.prefill, ids[:n_prompt]),
        "decode": timed(n_decode, threads, decode_all, context),
        "version": pillion.__version__,
    }


def measure_llama(model, threads, n_prompt, n_decode, flash_attention):
    import llama_cpp as llama

    llama.llama_backend_init()
    loaded = llama.llama_model_load_from_file(model.encode(), llama.llama_model_default_params())
    if not loaded:
        raise SystemExit(f"llama.cpp could not load {model}")
    settings = llama.llama_context_default_params()
    settings.n_ctx = n_prompt + n_decode + 8
    settings.n_batch = settings.n_ubatch = n_prompt
    settings.n_threads = settings.n_threads_batch = threads
    settings.flash_attn_type = (
        llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        if flash_attention
        else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    context = llama.llama_init_from_model(loaded, settings)
    if not context:
        raise SystemExit("llama.cpp could not make a context")
    ids = token_ids(n_prompt + n_decode)

    def decode(tokens):  # logits of the last token, as in generation
        array = (llama.llama_token * len(tokens))(*tokens)
        if llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens))) != 0:
            raise SystemExit("llama_decode failed")
        llama.llama_get_logits_ith(context, -1)

    def decode_all():
        for token in ids[n_prompt:]:
            decode([token])

    decode(ids[:n_prompt])
    decode(ids[-1:])
    llama.llama_memory_clear(llama.llama_get_memory(context), True)
    return {
        "prefill": timed(n_prompt, threads, decode, ids[:n_prompt]),
        "decode": timed(n_decode, threads, decode_all),
        "version": f"llama-cpp-python {llama.__version__}",
        "features": llama.llama_print_system_info().decode().strip(),
    }


def child(arguments):
    engine, model, *numbers = arguments
    numbers = [int(number) for number in numbers]
    if engine == "pillion":
        result = measure_pillion(model, *numbers)
    else:
        result = measure_llama(model, *numbers, flash_attention=engine.endswith("fa"))
    print(json.dumps(result))


# -- the comparison ------------------------------------------------------------


def run_child(engine, args):
    python = sys.executable if engine == "pillion" else args.llama_python
    numbers = [str(number) for number in (args.threads, args.n_prompt, args.n_decode)]
    command = [python, __file__, "--child", engine, str(args.model), *numbers]
    for _ in range(args.max_tries):
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"error: {engine} failed:\n{result.stderr[-2000:]}")
        run = json.loads(result.stdout.splitlines()[-1])
        if args.cpu_time:
            for measure in MEASURES:
                run[measure]["rate"] /= run[measure]["cpu"] * args.threads
        if min(run[measure]["cpu"] for measure in MEASURES) >= args.min_cpu:
            return run
    sys.exit(f"error: the machine stayed too busy for {args.max_tries} runs of {engine}")


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def summary(runs):
    out = {}
    for measure in MEASURES:
        values = [run[measure]["rate"] for run in runs]
        median = statistics.median(values)
        spread = (max(values) - min(values)) / median
        cpu = statistics.median(run[measure]["cpu"] for run in runs)
        out[measure] = {"median": median, "spread": spread, "cpu": cpu, "values": values}
    return out


def ratios(results):
    baselines = [result for engine, result in results.items() if engine != "pillion"]
    if "pillion" not in results or not baselines:
        return {}
    return {
        measure: results["pillion"][measure]["median"]
        / max(b[measure]["median"] for b in baselines)
        for measure in MEASURES
    }


def print_table(report):
    print(f"{report['model']}, {report['threads']} threads, {report['processor']}")
    title = "tokens/cpu-s" if report["cpu_time"] else "tokens/s"
    print(f"{title + ' (spread)':22}", *(f"{m + ' ' + str(report[m]):>26}" for m in MEASURES))
    for engine, result in report["results"].items():
        cells = (
            "{median:.1f} ({spread:.0%}) cpu {cpu:.0%}".format(**result[measure])
            for measure in MEASURES
        )
        print(f"{engine:22}", *(f"{cell:>26}" for cell in cells))
    if report["ratio"]:
        print(f"{'pillion / best':22}", *(f"{report['ratio'][m]:>26.2f}" for m in MEASURES))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--llama-python", help="Python with llama-cpp-python")
    parser.add_argument("--only", choices=("llama", "pillion"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-p", dest="n_prompt", type=int, default=512)
    parser.add_argument("-n", dest="n_decode", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--min-cpu", type=float, default=0.0, help="repeat runs with a smaller share"
    )
    parser.add_argument("--max-tries", type=int, default=20, help="how often to repeat one run")
    parser.add_argument(
        "--cpu-time", action="store_true", help="tokens per second of processor time"
    )
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    args = parser.parse_args()
    engines = [e for e in ENGINES if args.only is None or e.startswith(args.only)]
    if args.llama_python is None and engines != ["pillion"]:
        parser.error("--llama-python is needed unless --only pillion")

    runs = {engine: [] for engine in engines}
    for _ in range(args.repeats):
        for engine in engines:
            runs[engine].append(run_child(engine, args))
    results = {engine: summary(values) for engine, values in runs.items()}
    for engine, values in runs.items():
        results[engine] |= {k: values[0][k] for k in ("version", "features") if k in values[0]}
    report = {
        "command": " ".join(sys.argv),
        "model": args.model.name,
        "processor": processor(),
        "threads": args.threads,
        "repeats": args.repeats,
        "cpu_time": args.cpu_time,
        "prefill": args.n_prompt,
        "decode": args.n_decode,
        "results": results,
        "ratio": ratios(results),
    }
    print_table(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
