"""Every error AGPIS raises on purpose.

AgpisError                 has a machine-readable `code`; `str(e)` is for a person
  SettingsError            an option or argument that cannot be meant
  CatalogueError           a catalogue that cannot be read or written
  ImageError               one image that cannot be fetched or decoded
  RulebookError            a rulebook with a mistake (line, key, what was found, what is allowed)
  BundleError              a bundle that is incomplete, altered or of another format
  OutputError              an output folder that cannot be written (full, read-only, foreign)
  TrainingError            samples or checkpoints that cannot be trained on or exported
  SourceError              decisions, verdicts or events to be counted that cannot be read, or hold nothing
  StoreError               a database that cannot be opened or written, or a verdict that does not fit what is in it
    LeaseLost              a decision that somebody else has now, or that has all the verdicts it needs
  MissingExtra             an optional package is not installed; the message names the pip command

A line, product or image that fails does not raise past its own place: it becomes a value with the
same `code` (`agpis.data.ErrorInfo`, or a `Finding`).
"""

from __future__ import annotations

import errno


class AgpisError(Exception):
    """Base of all. `code` is stable and documented in docs/errors.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[AgpisError], tuple[str, ...]]:
        return type(self), (self.code, self.message)


class SettingsError(AgpisError):
    """An option or argument that cannot be meant."""


class CatalogueError(AgpisError):
    """A catalogue that cannot be read or written."""


class ImageError(AgpisError):
    """One image that cannot be fetched or decoded."""


class RulebookError(AgpisError):
    """A rulebook with a mistake."""


class BundleError(AgpisError):
    """A bundle that is incomplete, altered or of another format."""


class OutputError(AgpisError):
    """An output folder that cannot be written."""


class TrainingError(AgpisError):
    """Samples or checkpoints that cannot be trained on or exported."""


class SourceError(AgpisError):
    """Decisions, verdicts or events to be counted that cannot be read, or hold nothing."""


class StoreError(AgpisError):
    """A database that cannot be opened or written, or a verdict that does not fit what is in it."""


class LeaseLost(StoreError):
    """A decision that somebody else has now, or that has all the verdicts it needs."""


OUTPUT_CODES = {
    "disk_full": "No room is left where the output is written.",
    "not_writable": "The place of the output is read-only, or the right to write is missing.",
    "not_a_folder": "A folder is in the place of a file, or a file in the place of a folder.",
    "no_folder": "The folder of the output does not exist.",
    "write_failed": "The output cannot be written for another reason; the message has the system's words.",
    "locked": "Another run is writing to the folder.",
    "other_run": "The folder holds the output of another question; the message names what differs.",
    "not_empty": "The folder holds part-* files that no manifest lists.",
    "bad_manifest": "The folder's manifest.json is damaged or of another version.",
    "source_changed": "The catalogue has fewer products than are already finished.",
}
"""Codes of OutputError; the same table is in docs/errors.md."""

_OUTPUT_NUMBERS = {
    "disk_full": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "not_writable": (errno.EACCES, errno.EPERM, errno.EROFS),
    "not_a_folder": (errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    "no_folder": (errno.ENOENT,),
}
_OUTPUT_CURES = {
    "disk_full": "Free some space and run the same command again.",
    "not_writable": "Choose another place.",
    "not_a_folder": "Choose another place.",
    "no_folder": "Make its folder first.",
    "write_failed": "Choose another place.",
}


def output_error(error: OSError, path: object) -> OutputError:
    """The documented error for an operating-system refusal to write `path`."""
    code = next((code for code, numbers in _OUTPUT_NUMBERS.items() if error.errno in numbers), "write_failed")
    return OutputError(code, f"Cannot write {path}: {error.strerror or error}. {_OUTPUT_CURES[code]}")


class MissingExtra(AgpisError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            "missing_extra", f"{purpose} needs the package `{package}`. Install it: pip install 'agpis[{extra}]'"
        )
        self._arguments = (package, extra, purpose)

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, ...]]:
        return type(self), self._arguments
