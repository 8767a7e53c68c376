# SPDX-License-Identifier: Apache-2.0
"""The errors tttdebug raises: each message says what is wrong, where, and what to do."""

from __future__ import annotations


class TttdebugError(Exception):
    """Base of every error that is the user's to mend; the command line prints it in one line and exits with 2."""


class SpecError(TttdebugError, ValueError):
    """A module specification, or the configuration it was read from, is impossible."""


class FamilyError(TttdebugError, LookupError):
    """No model family fits a model, or a family's table does not fit its checkpoint."""


class WeightsError(TttdebugError):
    """Weights are missing, damaged, of another model, or cannot be fetched."""


class GoldenError(TttdebugError):
    """A golden is damaged, stale, of another machine or model, or the cache of goldens cannot be used as asked."""


class ReferenceCheckError(TttdebugError):
    """The reference itself cannot be trusted: untrained, non-finite, or not repeatable."""


class DeviceError(TttdebugError):
    """The requested device or its ttnn package is not there."""


class PromptError(TttdebugError, ValueError):
    """A prompt is empty, unreadable, or longer than the model's context."""


class PairingError(TttdebugError, LookupError):
    """A pair names a module that one side does not have, or there is nothing to compare."""


class PortError(TttdebugError):
    """A user's port cannot be imported, built or driven."""


class PortRaisedError(PortError):
    """A user's port raised. Its own exception, unchanged, is the cause; the command line shows its traceback."""


class LayoutError(TttdebugError, ValueError):
    """An output of the port cannot be brought into the reference's layout without guessing."""


class AuditError(TttdebugError):
    """A port holds no weights that could be audited, or weights that cannot be read."""


class TokenReferenceError(TttdebugError):
    """A `.refpt` file is missing, damaged or none, or a run read another text than it holds."""


class VisualizerError(TttdebugError):
    """A database of ttnn-visualizer's cannot be read or written."""


class ReportError(TttdebugError):
    """A report cannot be written where it should be."""


class RunError(TttdebugError):
    """A run folder cannot be written, or is damaged, of a newer schema, or no run at all."""


class ComparisonError(TttdebugError):
    """Two runs are of other models or prompts, so that their errors cannot be compared."""


class BaselineError(TttdebugError):
    """A baseline file is missing, damaged, of a newer schema, or cannot be written or changed as asked."""


class DashboardError(TttdebugError):
    """The dashboard cannot be started: nothing to show, a taken port, or missing files."""


class AnalysisError(TttdebugError):
    """An analysis needs something that is not there: a port to run again, a module that can be called alone."""


class BundleError(TttdebugError):
    """A call of a module cannot be made into a test that stands by itself, or cannot be written where it should be."""


class FaultError(TttdebugError, LookupError):
    """A fault to inject is not known, or fits no such place of the port."""


class ThresholdError(TttdebugError, ValueError):
    """A file of thresholds is no such file, holds a limit that limits nothing, or does not fit the run it judges."""
