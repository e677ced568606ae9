"""What a hostile chat template may take: steps, a processor's time, and sizes. Each of these took
seconds or hundreds of megabytes in Jinja's own sandbox."""

import subprocess
import sys

import pytest

MESSAGES = [{"role": "user", "content": "a"}]
GROWING = "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = X %}{% endfor %}"
HOSTILE = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "a macro that calls itself": "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n }}{% endmacro %}"
    "{{ f(64) }}",
    "joined": GROWING.replace("X", "ns.s ~ ns.s"),
    "added": GROWING.replace("X", "ns.s + ns.s"),
    "added lists": GROWING.replace("'x'", "[0]").replace("X", "ns.s + ns.s"),
    "times": "{{ 'x' * 400000000 }}",
    "times, turned": "{{ 400000000 * 'x' }}",
    "a list times": "{{ ([0] * 400000000) | length }}",
    "a form": "{{ '%400000000d' % 1 }}",
    "a form with a star": "{{ '%*d' % (400000000, 1) }}",
    "a form as a filter": "{{ '%400000000d' | format(1) }}",
    "str.format": "{{ '{:400000000}'.format(1) }}",
    "str.format, nested": "{{ '{:{}}'.format(1, 400000000) }}",
    "a power": "{{ (3 ** 4000000) % 7 }}",
    "a long number": "{{ 10 ** 100000 }}",
    "a product": "{% set ns = namespace(n=3) %}{% for i in range(30) %}"
    "{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n % 7 }}",
    "center": "{{ 'x'.center(400000000) }}",
    "ljust": "{{ 'x'.ljust(400000000) }}",
    "zfill": "{{ 'x'.zfill(400000000) }}",
    "expandtabs": "{{ '\t'.expandtabs(400000000) }}",
    "replace": "{{ ('x' * 9999).replace('x', 'y' * 9999) }}",
    "replace as a filter": "{{ ('x' * 9999) | replace('x', 'y' * 9999) }}",
    "join": "{{ ('x' * 9999).join(['y'] * 9999) }}",
    "center as a filter": "{{ 'x' | center(400000000) }}",
    "indent": "{{ 'x\ny' | indent(400000000) }}",
    "batch": "{{ [1] | batch(400000000, 0) | list | length }}",
    "slice": "{{ [1] | slice(400000000) | list | length }}",
    "JSON": "{{ [1] | tojson(indent=400000000) }}",
    "much text": "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
    "much text in a block": "{% set all %}{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}"
    "{% endset %}{{ all | length }}",
    "no text at all": "{{ lipsum(n=1000) }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_stops_with_a_sentence(pillion, name):
    with pytest.raises(pillion.UsageError, match=r"^the chat template"):
        pillion.ChatTemplate(HOSTILE[name]).render(MESSAGES)


def test_a_template_has_seconds_too(pillion, monkeypatch):
    """For what few steps of a kind that nobody thought of may take."""
    from pillion.chat import sandbox

    monkeypatch.setattr(sandbox, "LONGEST", -1.0)
    template = pillion.ChatTemplate("{% for i in range(99) %}{% endfor %}")
    with pytest.raises(pillion.UsageError, match="took more than -1 s"):
        template.render(MESSAGES)


LIMITS = """
import resource, sys, time
import pillion
template = pillion.ChatTemplate("{{ messages[0].content }}")
template.render([{"role": "user", "content": "a"}])
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (160 << 20),) * 2)
for source in eval(sys.stdin.read()):
    used = time.thread_time()
    try:
        pillion.ChatTemplate(source).render([{"role": "user", "content": "a"}])
    except pillion.UsageError:
        pass
    else:
        print("not refused:", source)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 20, -1))
"""


def test_within_a_bound_of_memory(pillion):
    """The address space grows by 160 MB at most: the two halves of a text, the text, and Python."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITS],
        input=repr(list(HOSTILE.values())),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_long_conversations_have_steps_enough(pillion):
    source = (
        "{% for m in messages %}{% for p in m.content %}{{ p.text.strip() ~ '\\n' }}{% endfor %}"
        "{{ '%s' % m.role }}{{ '-' * 20 }}{{ m.role | center(40) }}{% endfor %}"
    )
    part = {"type": "text", "text": " x "}
    messages = [{"role": "user", "content": [part] * 20} for _ in range(4000)]
    found = pillion.ChatTemplate(source).render(messages)
    assert found.count("x") == 80000 and found.count("user") == 8000


def test_ordinary_operators_are_what_they_were(pillion):
    source = (
        "{{ 'a' ~ 1 ~ none }} {{ [1] + [2] }} {{ 'ab' * 3 }} {{ 2 ** 10 }} {{ 7 % 4 }} "
        "{{ '%5.1f|%-3s' % (2.5, 'x') }} {{ '{:>4}'.format(7) }} {{ 'a-b' | replace('-', '+') }} "
        "{{ 'x' | center(3) }} {{ 'a\\nb' | indent(2) }} {{ [1, 2, 3] | batch(2) | list }} "
        "{{ '%s-%s' | format('p', 'q') }} {{ [3, 4] | join('~' ~ '/') }} {{ 1.5 + 2 }}"
    )
    assert pillion.ChatTemplate(source).render(MESSAGES) == (
        "a1None [1, 2] ababab 1024 3   2.5|x      7 a+b  x  a\n  b [[1, 2], [3]] p-q 3~/4 3.5"
    )
