"""docs/conformance.md, from what `matrix` found."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnncc.targets.released import title
from bnncc.targets.tflite import runtimes
from bnncc.targets.tflite.claimed import claimed
from bnncc.targets.tflite.reader import TfliteFile
from tests.conformance.avoided import AvoidedForm
from tests.conformance.beside import with_signs
from tests.conformance.environments import ENVIRONMENTS
from tests.conformance.matrix import ALL, Case
from tests.conformance.values import FINITE, KINDS
from tests.conformance.verdict import Verdict

# By runtime, by configuration, by form, by kind of values.
Results = Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]

# Those that run LCE's operators, by themselves or by the delegate.
WITH_LCE = {one.name for one in ENVIRONMENTS if one.delegate or one.kind in ("lce", "bnncc")}
# Those in which the delegate takes what it can.
CLAIMING = {one.name for one in ENVIRONMENTS if one.claims}
# Nothing is claimed of it.
OLDEST = "tensorflow-2.2.0"
# So many forms of a group are named.
NAMED = 4

HEAD = """\
# Every operator, every form, every runtime

Made by `make conformance`; not by hand.  Each form is a file of one operator (or the few that one needs) that the
emitter wrote.  It ran in each runtime in a process and a virtual environment of its own, with XNNPACK and without, on
one thread and on two.  What is right was computed in float64 by ONNX's reference evaluator, and by PyTorch where that
evaluator is wrong itself (`tests/conformance/reference_operators.py`).  The runtimes named aarch64 and armv7 ran under
qemu.  Where a name ends in "+ delegate", each file has signs of its inputs and outputs beside what it computes, so that
bnncc's delegate takes all that it can, as it does in a binary network.

- **right**: the float32 next to the reference, in every element;
- **rounded**: within 1e-5 of the largest element (int8 weights 3e-2, float16 2e-3), or a denormal that became 0; of
  operators in int8, which are right at the nearest step, half a step further for each that rounds;
- **clamped**: the largest number where it should be infinite (x / 0): the built-in arithmetic has no infinity;
- **refused**: the runtime says that it does not take the file; **wrong**: it says nothing; **ends**: the process ends.

{forms:,} forms, {operators} operators of the file format, {runtimes} runtimes, {cells:,} cells: a form in a
configuration of a runtime.  The worst of a runtime's configurations counts.

## In short

- bnncc's files with LCE's operators run from TensorFlow Lite 2.14 on (the delegate); what a file needs beyond that, its
  metadata, `bnncc compile` and `bnncc inspect` say (`targets/tflite/runtimes.py`), and `--min-runtime` refuses it:
  float16 weights of convolutions (LiteRT 1.4: XNNPACK of 1.1 to 1.3 reads the float32 bias as float16, and refuses
  a depthwise convolution).  For a target that may have those, as phones do, they stay float32.
- With a delegate in the interpreter, XNNPACK of 2.14 refuses a file in which it meets a TRANSPOSE of int32 or bool;
  alone, it leaves that operator to the built-in kernels.  The delegate takes those of packed bits itself; of others, as
  behind an ARG_MAX along another axis than the channels, a file says that it needs LiteRT 1.0.
- Operators in int8 (`--quantize int8`) are right in all from 2.11 on, the newest ones to the nearest step more often.
  So are maps that wait in int16 (`--shortcuts int16`), in TensorFlow 2.2 too.
- Everything else that the emitter writes is right or rounded (x / 0 clamped) in every runtime from 2.13 on; 2.12
  and 2.11 lose the NaN of 0 / 0, and 2.11 refuses int32 ABS and SIGN, TRANSPOSE of rank 6 and a TRANSPOSE_CONV with an
  activation.  TensorFlow 2.2 stands here as the oldest that can be installed; nothing is claimed of it.
- What ends a process: broadcasting at rank 5 or 6 (the table of avoided forms), and no form that is written, but for
  MAXIMUM and MINIMUM of rank 5 in TensorFlow 2.2.
- Without XNNPACK and with two threads, every stock runtime, the newest too, computes a CONV_2D with SAME padding as a
  product of matrices where the kernel has the map's size and nothing is padded before it (2x2 on 2x2): wrong, without
  an error.  The emitter writes a PAD there.
- On 32-bit ARM (under emulation), 2.14's ABS behaves as the root of a square: infinity for 1.9e19, 0 for 1e-25.
- Stock interpreters leave denormals on for their built-in kernels and for delegates; XNNPACK, LCE's interpreter,
  bnncc_run, and NEON on 32-bit ARM take them for 0.
- What the delegate does in each is in [a table of its own](conformance_delegate.md).
"""


NETWORKS = """\
All networks of tests/networks and examples/papers, by `python -m tests.conformance.networks`, on two inputs each; with
XNNPACK and two threads, and without it and one, the worse counts.  ✓: every class is the reference's (the traced
network in ONNX Runtime), else how many; a class is the largest element of a row of logits, of a pixel of a map, of a
token.  –: the file asks for a later runtime.

Where a class differs, the file was proven on the same inputs in that runtime (`bnncc.verification`).  *1 sign*: the
float of one sign lies nearer to 0 than its error bound, and came out on the other side; all else follows from that.
*outputs*: no sign differs, and two elements are nearer to each other than their bounds.  Bold: it is
not rounding."""


SPECIAL = """\
How many forms are wrong where a third of the input is denormal (1e-45, 6e-39), of the largest numbers (3.4e38, 1e38),
infinite or not a number.  No lowering promises anything of them, but for an attention mask of -∞ (Softmax).  The
reference hands a NaN on through maxima, which ONNX does not ask for, and sums in float64, where the largest numbers do
not overflow between the terms."""


UNSTATED = """\
Of those that are refused, wrong or end the process, so many are in a runtime that the file itself does not call too old
(`bnncc inspect`): **{count}**; {oldest} aside."""


def unstated(cases: Sequence[Case], results: Results) -> list[str]:
    """What is refused, wrong or ends the process on ordinary numbers, where the file asks for no newer runtime."""
    found = []
    for case in cases:
        for environment in ENVIRONMENTS:
            name = environment.name
            if name == OLDEST or name not in results or not _takes(name, case, results):
                continue
            verdict = worst(results[name], case.form.title, FINITE)
            content = case.beside if environment.claims else case.content
            if verdict > Verdict.CLAMPED and content is not None and not environment.is_older_than(_oldest(content)):
                found.append(f"{case.form.title} in {name}: {verdict.title}")
    return found


@functools.cache
def _oldest(content: bytes) -> str:
    """The runtime from which on the file says that it is right."""
    return runtimes.oldest(runtimes.needs(TfliteFile(content)))


def page(
    cases: Sequence[Case], others: Sequence[AvoidedForm], results: Results, networks: Mapping[str, Any] | None = None
) -> str:
    """The page, in Markdown.  networks: what `tests.conformance.networks` found."""
    operators = {name for case in cases for name in case.operators}
    cells = sum(len(forms) for configurations in results.values() for forms in configurations.values()) - sum(
        len(others) * len(configurations) for configurations in results.values()
    )
    parts = [
        HEAD.format(forms=len(cases), operators=len(operators), runtimes=len(results), cells=cells),
        "## Ordinary numbers, ties and zeros\n\n"
        + "\n".join(_totals(cases, results))
        + "\n\n"
        + UNSTATED.format(count=len(unstated(cases, results)) or "none", oldest=OLDEST),
        "## Operators of the file format\n\nWith the types of what they yield; of what they read, where that has 8 "
        "bits or is int16.\n\n" + "\n".join(_types(cases)),
        "## By operator\n\nForms that are right or rounded in all configurations, of how many; what the others are.\n\n"
        + "\n".join(_by_operator(cases, results)),
        "## Every form that some runtime does not compute\n\nOn ordinary numbers, ties and zeros; LCE's operators need "
        "the delegate and have no row for runtimes without it.\n\n" + "\n".join(_exceptions(cases, results)),
        "## Forms that are avoided\n\nAs other converters write them, and `bnncc inspect` names them.  What is not "
        "listed is right.  In a binary network the delegate computes some of them itself, whatever the interpreter "
        "would make of them (`targets/tflite/claimed.py`).\n\n" + "\n".join(_avoided(others, results)),
        "## Special numbers\n\n" + SPECIAL + "\n\n" + "\n".join(_special(cases, results)),
    ]
    if networks is not None:
        parts.insert(1, "## Networks\n\n" + NETWORKS + "\n\n" + "\n".join(networks_table(networks)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def worst(configurations: Mapping[str, Mapping[str, Mapping[str, int]]], title: str, kinds: Sequence[str]) -> Verdict:
    """Of all configurations of a runtime, on `kinds` of values."""
    found = [
        verdict
        for forms in configurations.values()
        for kind, verdict in forms[title].items()
        if kind in kinds or kind == ALL
    ]
    return Verdict(max(found, default=0))


def _takes(runtime: str, case: Case, results: Results) -> bool:
    """False where a runtime was given LCE's operators without the delegate, or a form that has no sign beside it."""
    if runtime in CLAIMING:
        return case.beside is not None
    return not case.needs_lce or runtime in WITH_LCE


def networks_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Of each network the share of its classes that are the reference's, by runtime; of a file that asks for a newer
    runtime, nothing.
    """
    results = found["results"]
    yield f"| network | right from | {' | '.join(results)} |"
    yield f"| --- | --- |{' --- |' * len(results)}"
    for network, oldest in found["oldest"].items():
        cells = [_share(results[runtime].get(network)) for runtime in results]
        yield f"| {network} | {title(oldest)} | {' | '.join(cells)} |"


def _share(found: Mapping[str, Any] | None) -> str:
    """found: a `networks.Found`, as JSON has it."""
    if found is None:
        return "–"
    share, problems, signs = found["share"], found["problems"], found["signs"]
    if isinstance(share, str):
        return share
    if share == 1:
        return "✓"
    if problems is None or problems:
        return f"**{share:.2%}**"
    return f"{share:.2%}, {signs} sign{'s' * (signs > 1)}" if signs else f"{share:.2%}, outputs"


def _types(cases: Sequence[Case]) -> Iterator[str]:
    by_operator: dict[str, set[str]] = defaultdict(set)
    for operator, dtype in sorted(pair for case in cases for pair in case.types):
        by_operator[operator].add(dtype)
    yield "| operator | types |"
    yield "| --- | --- |"
    yield from (f"| {operator} | {', '.join(sorted(by_operator[operator]))} |" for operator in sorted(by_operator))


def _totals(cases: Sequence[Case], results: Results) -> Iterator[str]:
    titles = [verdict.title for verdict in Verdict]
    yield f"| runtime | forms | {' | '.join(titles)} |"
    yield f"| --- | ---: |{' ---: |' * len(titles)}"
    for runtime in results:
        given = [case for case in cases if _takes(runtime, case, results)]
        counts = Counter(worst(results[runtime], case.form.title, FINITE) for case in given)
        yield f"| {runtime} | {len(given):,} | {' | '.join(f'{counts[verdict]:,}' for verdict in Verdict)} |"


def _by_operator(cases: Sequence[Case], results: Results) -> Iterator[str]:
    by_operator: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_operator[case.form.operator].append(case)
    yield f"| operator | forms | {' | '.join(results)} |"
    yield f"| --- | ---: |{' --- |' * len(results)}"
    for operator, own in by_operator.items():
        yield f"| {operator} | {len(own)} | {' | '.join(_cell(own, runtime, results) for runtime in results)} |"


def _cell(cases: Sequence[Case], runtime: str, results: Results) -> str:
    given = [case for case in cases if _takes(runtime, case, results)]
    if not given:
        return "–"
    counts = Counter(worst(results[runtime], case.form.title, FINITE) for case in given)
    others = [f"{count} {verdict.title}" for verdict, count in sorted(counts.items()) if verdict > Verdict.ROUNDED]
    return ", ".join(others) or "✓"


def _exceptions(cases: Sequence[Case], results: Results) -> Iterator[str]:
    """Forms with the same outcome everywhere, together."""
    patterns: dict[tuple[tuple[str, Verdict], ...], list[str]] = defaultdict(list)
    for case in cases:
        found = {
            runtime: worst(results[runtime], case.form.title, FINITE)
            for runtime in results
            if _takes(runtime, case, results)
        }
        row = tuple((runtime, verdict) for runtime, verdict in found.items() if verdict > Verdict.CLAMPED)
        if row:
            patterns[row].append(case.form.title)
    yield "| forms | how many | in which runtimes |"
    yield "| --- | ---: | --- |"
    for row, titles in patterns.items():
        by_verdict: dict[Verdict, list[str]] = defaultdict(list)
        for runtime, verdict in row:
            by_verdict[verdict].append(runtime)
        order = list(results)
        where = "; ".join(f"{verdict.title}: {_ranges(names, order)}" for verdict, names in by_verdict.items())
        more = f" and {len(titles) - NAMED} more" if len(titles) > NAMED else ""
        yield f"| {'; '.join(f'`{title}`' for title in titles[:NAMED])}{more} | {len(titles)} | {where} |"


def _avoided(others: Sequence[AvoidedForm], results: Results) -> Iterator[str]:
    yield "| form | in which runtimes | beside signs, with the delegate |"
    yield "| --- | --- | --- |"
    stock, claiming = (
        {name: found for name, found in results.items() if (name in CLAIMING) == claims} for claims in (False, True)
    )
    for form in others:
        content = with_signs(form.content)
        operator = form.name.split(" ")[0].rstrip(",")
        file = TfliteFile(content or form.content)
        taken = any(file.operators[index].name == operator for index in claimed(file))
        beside = "; ".join(_bad(form, claiming)) or "right in all"
        yield (
            f"| {form.name} | {'; '.join(_bad(form, stock)) or 'right in all'} | "
            f"{'computed by it' if taken else 'left to the interpreter'}: {beside} |"
        )


def _bad(form: AvoidedForm, results: Results) -> Iterator[str]:
    """The runtimes that do not compute it rightly, and how."""
    for runtime, configurations in results.items():
        bad = {name: Verdict(forms[form.name][ALL]) for name, forms in configurations.items()}
        bad = {name: verdict for name, verdict in bad.items() if verdict is not Verdict.RIGHT}
        verdict = Verdict(max(bad.values(), default=0))
        paths = {name.split(",")[0] for name in bad}
        if bad:
            how = "" if len(paths) > 1 or len(configurations) < 3 else f" with {paths.pop()} kernels"
            yield f"{runtime}: {verdict.title}{how.replace('XNNPACK kernels', 'XNNPACK')}"


def _special(cases: Sequence[Case], results: Results) -> Iterator[str]:
    kinds = [kind for kind in KINDS if kind not in FINITE]
    yield f"| operator | forms | {' | '.join(kinds)} |"
    yield f"| --- | ---: |{' --- |' * len(kinds)}"
    by_operator: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.kinds == KINDS:
            by_operator[case.form.operator].append(case)
    for operator, own in by_operator.items():
        cells = [_special_cell(own, kind, results) for kind in kinds]
        if any(cells):
            yield f"| {operator} | {len(own)} | {' | '.join(cells)} |"


def _special_cell(cases: Sequence[Case], kind: str, results: Results) -> str:
    """By how many forms are wrong, the runtimes; "all" where it is the same number in each."""
    runtimes: dict[int, list[str]] = defaultdict(list)
    for runtime, configurations in results.items():
        given = [case for case in cases if _takes(runtime, case, results)]
        count = sum(
            any(forms[case.form.title].get(kind, 0) == Verdict.WRONG for forms in configurations.values())
            for case in given
        )
        if count:
            runtimes[count].append(runtime)
    order = list(results)
    return "; ".join(f"{count}: {_ranges(names, order)}" for count, names in sorted(runtimes.items(), reverse=True))


def _ranges(names: Sequence[str], order: Sequence[str]) -> str:
    """`names`, which follow `order`; three and more in a row are first – last, all of them "all"."""
    if len(names) == len(order):
        return "all"
    runs: list[list[str]] = []
    for name in names:
        if runs and order.index(name) == order.index(runs[-1][-1]) + 1:
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(f"{run[0]} – {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)
