# SPDX-License-Identifier: Apache-2.0
"""A run on the console: the verdict first, then where it comes from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tttdebug.reporting.audit_table import faults_text
from tttdebug.reporting.palette import style_of
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.gates import LOGITS_WARN_PCC, kind_of

if TYPE_CHECKING:
    from tttdebug.reporting.health import Finding
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run

OUT = Console(highlight=False)
ERR = Console(highlight=False, stderr=True)
_LAYER_KINDS = ("input_norm", "self_attn", "post_attn_norm", "mlp", "layer_out")


@contextmanager
def progress(*, hidden: bool) -> Iterator[Callable[[str, float | None], None]]:
    """A bar on standard error; the callable takes what is being done and how far it is, from 0 to 1 or None."""
    if hidden:
        yield lambda message, fraction: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=ERR, transient=True) as bar:
        task = bar.add_task("start", total=1.0)

        def report(message: str, fraction: float | None) -> None:
            bar.update(
                task, description=escape(message), total=None if fraction is None else 1.0, completed=fraction or 0.0
            )

        yield report


def print_run(run: Run, *, rows: int = 12, in_order: bool = False) -> None:
    """What ran, the depth grid, the worst boundaries, the tokens; and last, where the eye is, the verdict."""
    if (faults := faults_text(run.manifest.weights)) is not None:
        OUT.print(Panel(faults, title="the port's weights", border_style="red", title_align="left"))
    OUT.print(_heading(run))
    OUT.print(depth_grid(run))
    OUT.print(boundary_table(run, rows=rows, in_order=in_order))
    OUT.print(_tokens(run))
    divergence = run.first_divergence()
    if divergence is not None:
        OUT.print(
            Panel(divergence_text(run, divergence), title="first divergence", border_style="red", title_align="left")
        )
    _print_end(run)


def print_verdict(run: Run) -> None:
    """One paragraph: whether every gate holds, what was compared, and where the run is."""
    if (faults := faults_text(run.manifest.weights)) is not None:
        OUT.print(faults)
    _print_end(run)


def _print_end(run: Run) -> None:
    OUT.print(verdict_text(run))
    OUT.print(Text(f"run: {run.path}\nlook: tttdebug dashboard {run.path}"), soft_wrap=True)


def verdict_text(run: Run) -> Text:
    """PASS, FAIL or INCOMPLETE, and why."""
    manifest = run.manifest
    counts = Counter(record.verdict for record in run.records)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    ledger = f"{manifest.compared or len(run.records)} of {manifest.expected} comparisons made ({counted or 'none'})"
    divergence = run.first_divergence()
    if divergence is not None:
        text = Text("FAIL  ", style="bold red")
        if run.failed:
            text.append(f"{divergence.boundary} in {_call_of(divergence)} is the first to miss its gate")
            later = len(run.failed) - 1
            whose = "" if run.experiments else " and may only have inherited its error"
            text.append(f"; {later} later ones miss theirs{whose}. " if later else ". ")
        else:
            text.append(
                f"every gate holds, but run alone {divergence.boundary} errs more than its number formats explain. "
            )
    elif manifest.wrong_weights:
        text = Text("FAIL  ", style="bold red").append(f"no gate fails, but {manifest.wrong_weights}. ")
    elif run.manifest.refused_goldens:
        text = Text("FAIL  ", style="bold red").append("every gate holds, but a golden that was given is refused. ")
    elif not run.passed:
        text = Text("INCOMPLETE  ", style="bold red").append(f"the run is {manifest.status}. ")
    else:
        text = Text("PASS  ", style="bold green").append("every gate holds. ")
        if counts["floor"]:
            text.append(
                f"{counts['floor']} comparisons miss their gate, but their number formats alone explain that (floor). "
            )
    text.append(ledger + ".")
    if manifest.skipped:
        first = manifest.skipped[0]
        text.append(
            f" Not compared: {len(manifest.skipped)}, first {first.boundary} in {first.phase}: {first.reason}.",
            style="bold red",
        )
    if manifest.unpaired:
        sides = Counter(alone.side for alone in manifest.unpaired)
        counts_of_sides = ", ".join(f"{count} of the {side}" for side, count in sides.items())
        text.append(f" Unpaired modules: {counts_of_sides}; the dashboard and --json say why.", style="yellow")
    for reason in manifest.refused_goldens:
        text.append(f"\ngolden refused: {reason}", style="bold red")
    for note in manifest.notes:
        text.append(f"\nnote: {note}", style="yellow")
    return text


def depth_grid(run: Run) -> Group:
    """PCC of every boundary of the prefill, a row a layer; of several prompts, and calls of a module, the worst."""
    worst: dict[str, Record] = {}
    for record in run.records:
        boundary = first_call_of(record.boundary)
        if record.phase == "prefill" and (boundary not in worst or _badness(record) > _badness(worst[boundary])):
            worst[boundary] = record
    table = Table(
        title="PCC against the reference, prefill", title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    table.add_column("")
    kinds = [kind for kind in _LAYER_KINDS if any(kind_of(boundary) == kind for boundary in worst)]
    for kind in kinds:
        table.add_column(kind, justify="right")
    layers = sorted({boundary.partition(".")[0] for boundary in worst if kind_of(boundary) != boundary})
    for layer in layers:
        table.add_row(layer, *(_cell(worst.get(f"{layer}.{kind}")) for kind in kinds))
    ends = [record for boundary, record in worst.items() if kind_of(boundary) == boundary]
    line = Text()
    for record in ends:
        line.append(f"{record.boundary} ").append_text(_cell(record)).append("   ")
    legend = Text()
    for verdict in sorted({record.verdict for record in worst.values()} - {"ok"}):
        style = style_of(verdict)
        legend.append(f"{style.symbol} {verdict}", style=style.colour).append(f": {style.meaning}   ", style="dim")
    return Group(table, line, legend)


def boundary_table(run: Run, *, rows: int, in_order: bool = False) -> Table:
    """Records with their numbers: the farthest above their floor first, or in the order of execution."""
    records = run.records if in_order else sorted(run.records, key=_badness, reverse=True)
    shown = records[:rows]
    title = f"\n{'First' if in_order else 'Worst'} {len(shown)} of {len(records)} comparisons"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    columns = [column for column in _COLUMNS if column.from_width <= OUT.width]
    for column in columns:
        table.add_column(column.title, justify=column.justify, no_wrap=True)
    for record in shown:
        table.add_row(*(column.cell(record) for column in columns))
    return table


@dataclass(frozen=True)
class _Column:
    """A column of the boundary table, shown from a console width on."""

    title: str
    cell: Callable[[Record], RenderableType]
    justify: Literal["left", "right"] = "right"
    from_width: int = 0


_COLUMNS = (
    _Column("boundary", lambda record: record.boundary, "left"),
    _Column("call", lambda record: _call_of(record), "left"),
    _Column("verdict", lambda record: Text(record.verdict, style=style_of(record.verdict).colour), "left"),
    _Column("pcc", lambda record: f"{record.pcc:.5f}"),
    _Column("rel_l2", lambda record: f"{record.rel_l2:.2e}"),
    _Column("floor", lambda record: f"{record.floor_rel_l2:.2e}", from_width=100),
    _Column("x floor", lambda record: f"{record.above_floor:.1f}"),
    _Column("slope", lambda record: f"{record.slope:.4f}"),
    _Column("max |t-r|", lambda record: f"{record.max_abs_diff:.3g}", from_width=110),
    _Column("worst token", lambda record: _worst_token(record), from_width=120),
)


def _worst_token(record: Record) -> str:
    return f"{record.worst_token} ({record.worst_token_pcc:.4f})" if record.worst_token >= 0 else "-"


def divergence_text(run: Run, record: Record) -> Text:
    """What differs, how much, where, and how to see it again."""
    text = Text(f"{record.boundary} differs from {record.reference_path} in {_call_of(record)}\n", style="bold")
    text.append(f"{record.note}\n")
    if record.verdict != "shape_mismatch":
        if math.isfinite(record.rel_l2):
            text.append(
                f"rel_l2 {record.rel_l2:.3g} is {record.above_floor:.1f} times its floor of {record.floor_rel_l2:.3g}\n"
            )
        text.append(_where(run, record))
    before = run.records.index(record) if record in run.records else 0  # an experiment was made apart from the run
    if before:
        last = run.records[before - 1]
        text.append(
            f"all {before} comparisons before it hold; the last of them, {last.boundary}, has rel_l2 "
            f"{last.rel_l2:.3g}\n"
        )
    text.append(f"port module {record.module}, output {record.dtype}", style="dim")
    if run.manifest.command:
        text.append(f"\nreproduce: {run.manifest.command_again}", style="dim")
    return text


def _where(run: Run, record: Record) -> str:
    """The worst token, the greatest error with its place, and the non-finite values."""
    parts = []
    if record.worst_token >= 0 and record.shape[0] > 1:
        parts.append(f"worst token {record.worst_token} of {record.shape[0]} (pcc {record.worst_token_pcc:.4f})")
    profile = run.profiles.get(record.key)
    if profile and profile["worst"]:
        at, reference, port = profile["worst"][0]
        parts.append(f"greatest error {record.max_abs_diff:.4g} at {at}: reference {reference:.5g}, port {port:.5g}")
    count = math.prod(record.shape)
    parts.append(
        f"non-finite of {count:,} values: {record.nonfinite_port} in the port, {record.nonfinite_reference} "
        "in the reference"
    )
    return "; ".join(parts) + "\n"


def print_health(findings: Sequence[Finding]) -> None:
    """What `doctor` found, a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    marks = {
        "ok": Text("ok", style="green"),
        "missing": Text("missing", style="yellow"),
        "broken": Text("broken", style="bold red"),
    }
    for finding in findings:
        table.add_row(marks[finding.state], finding.subject, Text(finding.detail))
    OUT.print(table)


def _heading(run: Run) -> Text:
    model, device = run.manifest.model, run.manifest.device
    prompts = ", ".join(
        prompt["text"] if prompt.get("kind") == "image" else f"{prompt['tokens']} tokens"
        for prompt in run.manifest.prompts
    )
    text = Text()
    text.append(f"{model['name']}", style="bold").append(f"  {model['layers']} layers")
    if run.manifest.precision:  # a port that is not ours need not say any
        text.append(f", {run.manifest.precision} precision")
    text.append(
        f" on {device['kind']} {device['architecture']} {'x'.join(map(str, device['grid']))}, engine "
        f"{device['engine']}\n"
    )
    steps = run.manifest.decode_steps
    decode = f"; then {steps} decode steps driven by the reference's tokens" if steps else ""
    text.append(f"prompt: {prompts}{decode}\n", style="dim")
    text.append(f"reference: {model['source']}\n", style="dim")
    if used := run.manifest.from_goldens:
        text.append(f"reference from the golden cache: {_prompts(len(used), len(run.manifest.prompts))}\n", style="dim")
    return text


def _prompts(some: int, of: int) -> str:
    whole = "prompt" if of == 1 else "prompts"
    return f"{some} of {of} {whole}"


def _tokens(run: Run) -> Text:
    text = Text("\n")
    for phase, agreed in run.manifest.agreement.items():
        text.append(f"{phase:8}", style="bold")
        text.append(
            f"top-1 agreement {agreed['top1']:.1%}, top-5 {agreed['top5']:.1%}, KL {agreed['kl_mean']:.2e} "
            f"over {agreed['tokens']} tokens"
        )
        text.append(
            f"; last token: top-1 {'equal' if agreed['last_top1'] else 'differs'}, top-5 "
            f"{agreed['last_top5']:.0%}, KL {agreed['kl_last']:.2e}\n"
        )
    for continued in run.manifest.continuations:
        same = continued["reference"] == continued["port"]
        text.append("reference writes ", style="bold").append(repr(continued["reference"]))
        text.append("\nport writes      ", style="bold").append("the same" if same else repr(continued["port"])).append(
            "\n"
        )
    logits = [record.pcc for record in run.records if record.boundary == "logits" and not record.failed]
    if logits and min(logits) < LOGITS_WARN_PCC:
        text.append(f"warning: logits PCC {min(logits):.4f} is below {LOGITS_WARN_PCC:g}\n", style="yellow")
    return text


def _cell(record: Record | None) -> Text:
    if record is None:
        return Text("-", style="dim")
    style = style_of(record.verdict)
    return Text(f"{record.pcc:.5f}{' ' if record.verdict == 'ok' else style.symbol}", style=style.colour)


def _call_of(record: Record) -> str:
    call = "prefill" if record.phase == "prefill" else f"decode {record.step}"
    return f"{call}, user {record.user}" if record.user else call


def _badness(record: Record) -> tuple[bool, float]:
    """Failed ones first, then by how far above its floor."""
    return record.failed, math.inf if math.isnan(record.above_floor) else record.above_floor
