"""The order of the test files among several workers. Each file goes to one worker as a whole, so a
worker that got a long one last would run alone."""

from collections import Counter

# Files that compile, emulate or wait for long, the longest first.
LONG = (
    "test_matmul_kernels",
    "test_dsp_ops",
    "test_dsp_devices",
    "test_htp_ops",
    "test_cuda_ops",
    "test_c_abi",
    "test_op_kernels",
    "test_cuda_models",
    "test_cuda_emulation",
    "test_server_soak",
    "test_htp_driver",
    "test_htp_models",
    "test_schemathesis",
    "test_pair_statistics",
    "test_tokenizer_live",
    "test_wheel",
    "test_imports",
)


def sort(items):
    """The long files, then those of many tests; small ones last."""
    rank = {name: at for at, name in enumerate(LONG)}
    count = Counter(item.path for item in items)

    def order(item):
        return rank.get(item.path.stem, len(LONG)), -count[item.path], str(item.path)

    items.sort(key=order)
