# SPDX-License-Identifier: Apache-2.0
"""Runs of one model with one fault each: the reference runs once for all of them, and the port only from the faulty
layer on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tttdebug.faults import Site, fault_named, inject
from tttdebug.job import Job
from tttdebug.job_sides import Sides, built_port
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.driving import Driver, driver_of
from tttdebug.tracking.manifest import Skipped
from tttdebug.tracking.opening import manifest_of
from tttdebug.tracking.pairing import pair_modules
from tttdebug.tracking.profile import ErrorProfile
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import Run
from tttdebug.tracking.side_by_side import followed
from tttdebug.tracking.subject import Subject, subject_of
from tttdebug.tracking.substitution import Answer, PortCall, Substitution
from tttdebug.tracking.truth import KeptTruth, truth_of
from tttdebug.tracking.writer import RunWriter


class FaultyRuns:
    """The sound run of a job, made at once and kept as `sound`, and runs of the same with a fault, as they are asked.

    Each has every record that a whole run has: those of boundaries before the faulty layer are the sound run's, since
    nothing there can differ.
    """

    def __init__(self, job: Job, sides: Sides, path: Path) -> None:
        self._job, self._sides = job, sides
        self._device = sides.built.port.device
        self._subject = subject_of(
            sides.built.port, sides.reference, sides.prompts, sides.decode_steps, pairs=job.pairs, weights=sides.weights
        )
        self._truth = KeptTruth(truth_of(self._subject))
        self._layers = _LayerOutputs()
        self.sound = self._followed(self._subject, self._layers, None, path)

    @property
    def boundaries(self) -> tuple[str, ...]:
        """Those that are compared, in the order of execution, caches aside."""
        return tuple(modules.pair.boundary for modules in self._subject.paired)

    def run(self, fault: str, boundary: str, seed: int, path: Path) -> tuple[Run, Site]:
        """The run, in folder `path`, of a port with this fault there; what the fault leaves open, the seed draws."""
        port = built_port(self._job, self._sides.reference, self._device).port
        site = inject(port, f"{fault}@{boundary}", seed)
        first = 0 if fault_named(fault).beyond_its_layer else self._first_affected(site)
        earlier = frozenset(self.boundaries[:first])
        subject = replace(
            self._subject,
            port=port,
            driver=driver_of(port, None, None),
            paired=tuple(
                pair_modules(
                    port, self._sides.reference.model, [modules.pair for modules in self._subject.paired[first:]]
                )
            ),
            caches=tuple(pair for pair in self._subject.caches if pair.after not in earlier),
        )
        answers = _Answers(self._layers, _layers_of(earlier))
        return self._followed(subject, answers, seed, path), site

    def _first_affected(self, site: Site) -> int:
        """The place, among the boundaries, of the first module whose output the fault can change."""
        start = site.boundary if site.layer is None else f"L{site.layer:02d}."
        return next(place for place, boundary in enumerate(self.boundaries) if boundary.startswith(start))

    def _followed(self, subject: Subject, layers: _LayerOutputs | _Answers, seed: int | None, path: Path) -> Run:
        compared = {modules.pair.boundary for modules in subject.paired} | {pair.boundary for pair in subject.caches}
        copied = [] if seed is None else [r for r in self.sound.records if first_call_of(r.boundary) not in compared]
        skipped = [] if seed is None else [s for s in self.sound.manifest.skipped if s.boundary not in compared]
        manifest = manifest_of(
            subject.port,
            subject.reference,
            [subject.prompt_to_json(prompt) for prompt in subject.prompts],
            decode_steps=subject.decode_steps,
            expected=subject.comparisons + len(copied) + len(skipped),
            command=self._job.command,
            seed=seed,
        )
        writer = RunWriter(path, manifest, save_tensors="none")
        self._copy(copied, skipped, writer)
        stages = {f"L{place:02d}": layer for place, layer in enumerate(subject.port.layers)}
        with Substitution(layers.among(stages), layers) as substitution:

            def begin() -> None:
                substitution.start_call()
                layers.place += 1

            driver = _calling(begin, subject.driver)
            followed(
                replace(subject, driver=driver),
                self._truth.among(compared),
                writer,
                goes_on_alone=False,
            )
        return writer.finish()

    def _copy(self, records: Sequence[Record], skipped: Sequence[Skipped], writer: RunWriter) -> None:
        for record in records:
            profile = self.sound.profiles.get(record.key)
            writer.append(record, None if profile is None else ErrorProfile.from_json(profile))
        for entry in skipped:
            writer.skip(entry)


def _layers_of(boundaries: Collection[str]) -> frozenset[str]:
    return frozenset(boundary.partition(".")[0] for boundary in boundaries)


def _calling(begin: Callable[[], None], driver: Driver) -> Driver:
    """The same driver, which says when it is about to call the port."""

    def announced(call: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*args: Any) -> Any:
            begin()
            return call(*args)

        return calling

    decode = None if driver.decode is None else announced(driver.decode)
    return replace(driver, prefill=announced(driver.prefill), decode=decode)


class _LayerOutputs:
    """Keeps what each layer gives in each call of the port."""

    def __init__(self) -> None:
        self.place = -1
        self.given: dict[tuple[int, str], Any] = {}

    def among(self, layers: dict[str, Any]) -> dict[str, Any]:
        return layers

    def before(self, call: PortCall) -> PortCall | Answer:
        return call

    def after(self, call: PortCall, output: Any) -> Any:
        self.given[self.place, call.boundary] = output
        return output


class _Answers:
    """Gives what these layers gave when the port was sound, without running them."""

    def __init__(self, sound: _LayerOutputs, layers: frozenset[str]) -> None:
        self._given, self._layers = sound.given, layers
        self.place = -1

    def among(self, layers: dict[str, Any]) -> dict[str, Any]:
        return {name: layer for name, layer in layers.items() if name in self._layers}

    def before(self, call: PortCall) -> PortCall | Answer:
        return Answer(self._given[self.place, call.boundary])

    def after(self, call: PortCall, output: Any) -> Any:
        raise AssertionError("unreachable: an answered layer is not called")
