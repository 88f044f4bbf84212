"""Every error AGPIS raises on purpose.

AgpisError                 has a machine-readable `code`; `str(e)` is for a person
  SettingsError            an option or argument that cannot be meant
  CatalogueError           a catalogue that cannot be read or written
  ImageError               one image that cannot be fetched or decoded
  RulebookError            a rulebook with a mistake (line, key, what was found, what is allowed)
  BundleError              a bundle that is incomplete, altered or of another format
  OutputError              an output folder that cannot be written (full, read-only, foreign)
  TrainingError            samples or checkpoints that cannot be trained on or exported
  MissingExtra             an optional package is not installed; the message names the pip command

A line, product or image that fails does not raise past its own place: it becomes a value with the
same `code` (`agpis.data.ErrorInfo`, or a `Finding`).
"""


class AgpisError(Exception):
    """Base of all. `code` is stable and documented in docs/errors.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["AgpisError"], tuple[str, str]]:
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


class MissingExtra(AgpisError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            "missing_extra", f"{purpose} needs the package `{package}`. Install it: pip install 'agpis[{extra}]'"
        )
        self._arguments = (package, extra, purpose)

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str, str]]:  # type: ignore[override]
        return type(self), self._arguments
