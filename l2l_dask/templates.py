"""Input files made from templates, and parameters as text."""

from __future__ import annotations

import json
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import numpy as np

from l2l_dask.errors import ConfigError, EvaluationError


def plain(value: Any) -> Any:
    """Turn numpy's types into Python's."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def text(value: Any) -> str:
    """Write a value so that it reads back exactly: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(plain(value))


def _environment() -> jinja2.Environment:
    return jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_written)


def _written(value: Any) -> Any:
    return value if isinstance(value, jinja2.Undefined) else text(value)  # which complains by itself


@dataclass(frozen=True)
class Template:
    """A Jinja template, as text: it travels to the workers.

    Attributes
    ----------
    name
        Of its file, for messages.
    source
        Its text.
    mode
        The permissions of its file: a script can be run.
    """

    name: str
    source: str
    mode: int = 0o644  # of one that was pickled before there was this

    @classmethod
    def read(cls, path: Path, known: Collection[str]) -> Template:
        """Read a file.

        Parameters
        ----------
        known
            The names that it may use.

        Raises
        ------
        ConfigError
            If it cannot be read, is no template, or uses other names.
        """
        try:
            template = cls(path.name, path.read_text(encoding="utf-8"), stat.S_IMODE(path.stat().st_mode))
            parsed = _environment().parse(template.source)
            used, others = jinja2.meta.find_undeclared_variables(parsed), jinja2.meta.find_referenced_templates(parsed)
            if any(True for _ in others):
                raise ConfigError(f"the template {path} uses another one: expected all in one file")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the template {path} cannot be read: {error}") from None
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"the template {path} has an error in line {error.lineno}: {error.message}") from None
        unknown = sorted(used - set(known))
        if unknown:
            raise ConfigError(
                f"the template {path} has an unknown placeholder {{{{ {unknown[0]} }}}}: expected one of "
                f"{', '.join(known)}"
            )
        return template

    def write(self, path: Path, values: Mapping[str, Any]) -> None:
        """Fill it in, and write that into a file with its permissions, which its owner may write to."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.filled(values), encoding="utf-8")
        path.chmod(self.mode | stat.S_IRUSR | stat.S_IWUSR)

    def filled(self, values: Mapping[str, Any]) -> str:
        """Fill it in; arrays are lists, by which a template can go.

        Raises
        ------
        EvaluationError
            If it uses a parameter that is not active without asking (``{% if depth is defined %}``).
        """
        try:
            template = _environment().from_string(self.source)
            return template.render({name: plain(value) for name, value in values.items()})
        except jinja2.UndefinedError as error:
            raise EvaluationError(
                f"the template {self.name} cannot be filled in ({error}): ask for a parameter that may be inactive by "
                "{% if NAME is defined %}"
            ) from None
        except Exception as error:  # whatever its expressions raise
            raise EvaluationError(f"the template {self.name} cannot be filled in: {error}") from error
