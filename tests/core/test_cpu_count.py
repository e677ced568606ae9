"""How many CPUs a process may use, read from trees of files as the kernel shows them."""

import json
import os
import subprocess
import sys

import pytest

from testing_ops import testing

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
NOT_V1 = "33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct"


def mask(n, kernel_cpus=64):
    """The affinity mask of a kernel for so many CPUs, with the first n set."""
    bits = (1 << n) - 1
    return bits.to_bytes(max(8, kernel_cpus // 8), "little")


@pytest.fixture
def machine(tmp_path):
    """Writes a tree; cgroup and mounts are lines, files a dict of their text. Gives (CPUs, what
    decided)."""

    def count(cgroup=(), mounts=(), files=None, cpus=16, kernel_cpus=64):
        own = {"/proc/self/cgroup": lines(cgroup), "/proc/self/mountinfo": lines(mounts)}
        for name, text in {**own, **(files or {})}.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return testing.count_cpus(str(tmp_path), mask(cpus, kernel_cpus))

    return count


def lines(texts):
    return "".join(text + "\n" for text in ([texts] if isinstance(texts, str) else texts))


def test_without_any_file(machine):
    assert machine() == (16, "the CPUs of the affinity mask")


@pytest.mark.parametrize(
    "quota, cpus",
    [
        ("400000 100000", 4),
        ("250000 100000", 2),
        ("299999 100000", 2),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("1000 1000000", 1),
        ("90000 20000", 4),
        ("1600000 100000", 16),
        ("1700000 100000", 16),
        ("max 100000", 16),
        ("", 16),
        ("-1 100000", 16),
        ("100000 0", 16),
        ("nonsense", 16),
    ],
)
def test_quotas_round_down(machine, quota, cpus):
    found, why = machine("0::/", V2, {"/sys/fs/cgroup/cpu.max": quota + "\n"})
    assert found == cpus
    assert ("quota" in why and why.endswith("in /sys/fs/cgroup/cpu.max")) == (cpus < 16)


@pytest.mark.parametrize(
    "tight", ["", "/system.slice", "/system.slice/app.service", "/system.slice/app.service/worker"]
)
def test_the_least_quota_of_all_levels_counts(machine, tight):
    levels = ("", "/system.slice", "/system.slice/app.service", "/system.slice/app.service/worker")
    files = {f"/sys/fs/cgroup{level}/cpu.max": "800000 100000" for level in levels[1:]}
    files[f"/sys/fs/cgroup{tight}/cpu.max"] = "350000 100000"
    found, why = machine("0::" + levels[-1], V2, files)
    assert (found, why) == (3, f"a quota of 3.50 CPUs in /sys/fs/cgroup{tight}/cpu.max")


def test_a_sibling_does_not_count(machine):
    files = {"/sys/fs/cgroup/a/cpu.max": "max 100000", "/sys/fs/cgroup/ab/cpu.max": "100000 100000"}
    assert machine("0::/a", V2, files)[0] == 16


def test_a_container_that_is_shown_its_own_folder(machine):
    """Docker without a cgroup namespace: the path is the host's, the mount shows what is below
    it."""
    mount = V2.replace(" / /sys", " /docker/abc /sys")
    files = {
        "/sys/fs/cgroup/cpu.max": "200000 100000",
        "/sys/fs/cgroup/sub/cpu.max": "150000 100000",
    }
    assert machine("0::/docker/abc", mount, files)[0] == 2
    assert machine("0::/docker/abc/sub", mount, files)[0] == 1
    assert machine("0::/docker/abcdef", mount, files)[0] == 2  # not below it


def test_a_process_outside_its_cgroup_namespace(machine):
    files = {"/sys/fs/cgroup/cpu.max": "200000 100000"}
    assert machine("0::/../../init.scope", V2, files)[0] == 2


@pytest.mark.parametrize(
    "quota, period, cpus",
    [(250000, 100000, 2), (-1, 100000, 16), (0, 100000, 16), (99999, 100000, 1)],
)
def test_version_1(machine, quota, period, cpus):
    folder = "/sys/fs/cgroup/cpu,cpuacct/docker/abc"
    files = {
        f"{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"{folder}/cpu.cfs_period_us": f"{period}\n",
    }
    cgroup = ["5:memory:/docker/abc", "4:cpuacct,cpu:/docker/abc", "1:name=systemd:/elsewhere"]
    found, why = machine(cgroup, [NOT_V1, V1], files)
    assert found == cpus
    assert ("cpu.cfs_quota_us" in why) == (cpus < 16)


def test_version_1_nested(machine):
    top = "/sys/fs/cgroup/cpu,cpuacct"
    files = {}
    for level, quota in (("/a/b", 900000), ("/a", 300000), ("", -1)):
        files[f"{top}{level}/cpu.cfs_quota_us"] = str(quota)
        files[f"{top}{level}/cpu.cfs_period_us"] = "100000"
    assert machine("4:cpu,cpuacct:/a/b", V1, files) == (
        3,
        f"a quota of 3.00 CPUs in {top}/a/cpu.cfs_quota_us",
    )


def test_both_versions_at_once(machine):
    top = "/sys/fs/cgroup/cpu,cpuacct"
    files = {
        f"{top}/cpu.cfs_quota_us": "500000",
        f"{top}/cpu.cfs_period_us": "100000",
        "/sys/fs/cgroup/unified/u/cpu.max": "400000 100000",
    }
    mounts = [V1, V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")]
    assert machine(["4:cpu,cpuacct:/", "0::/u"], mounts, files)[0] == 4


def test_mounts_elsewhere_and_names_with_spaces(machine):
    mount = V2.replace("/sys/fs/cgroup", "/my\\040groups")
    files = {"/my groups/x/cpu.max": "100000 100000"}
    assert machine("0::/x", mount, files) == (1, "a quota of 1.00 CPUs in /my groups/x/cpu.max")


def test_cpus_that_are_offline(machine):
    online = "/sys/devices/system/cpu/online"
    assert machine(files={online: "0-3,8,10-11\n"}) == (7, "the CPUs that are online")
    assert machine(files={online: "0-63\n"})[0] == 16
    assert machine(files={online: "what\n"})[0] == 16
    assert machine("0::/", V2, {online: "0-3\n", "/sys/fs/cgroup/cpu.max": "600000 100000"})[0] == 4
    assert machine("0::/", V2, {online: "0-3\n", "/sys/fs/cgroup/cpu.max": "200000 100000"})[0] == 2


@pytest.mark.parametrize(
    "kernel_cpus, cpus", [(1024, 1000), (2048, 5), (8192, 1536), (65536, 65536)]
)
def test_more_cpus_than_a_fixed_mask_holds(machine, kernel_cpus, cpus):
    """The kernel refuses a mask that is shorter than its own with EINVAL."""
    assert machine(cpus=cpus, kernel_cpus=kernel_cpus) == (cpus, "the CPUs of the affinity mask")


def test_no_mask_at_all(machine):
    assert machine(cpus=0)[0] >= 1


def test_this_machine():
    found, why = testing.count_cpus()
    assert found == testing.usable_cpus() and 1 <= found <= len(os.sched_getaffinity(0)) and why


def test_the_affinity_mask_of_this_process(pillion):
    """Every count follows the mask, and `doctor` says where the number comes from."""
    program = """
import json, os, sys
import pillion
from pillion.cli.main import main
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(json.dumps(pillion.system()["cpu"]))
sys.argv = ["pillion", "doctor"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    cpu = json.loads(done.stdout.splitlines()[0])
    assert cpu["threads"] == 1 and cpu["threads_from"]
    assert f"threads        1 ({cpu['threads_from']})" in done.stdout
