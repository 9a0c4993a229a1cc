"""What a paper says of a search: a paragraph about its methods, and the file that runs it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from l2l_dask import config
from l2l_dask.dashboard import data_workers
from l2l_dask.dashboard.times import duration
from l2l_dask.errors import ConfigError
from l2l_dask.evaluation import FAILURES, Status
from l2l_dask.trajectory import Trajectory

_LONG = 40  # names in a sentence
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_FROM_PYTHON = (
    "# Made in Python, without a name: put file.py:name of the {0} in the place of pickled.",
    "# It cannot be written as a file: {0}.",
)


def paragraph(t: Trajectory) -> str:
    """Describe a search so that it can be pasted into a paper."""
    return " ".join(filter(None, (_searched(t), _settings(t), _came(t), _time(t), _software(t))))


def _searched(t: Trajectory) -> str:
    labels, n = t.experiment.get("labels", {}), t.space.dim
    names = _listed(list(t.space))
    goals = " and ".join(f"{o.direction} {o.name}" for o in t.objectives)
    many = f"{n:,} parameters" if n != 1 else "one parameter"
    return f"We searched {many} ({names}) of {labels.get('optimizee', '?')} to {goals}."


def _settings(t: Trajectory) -> str:
    given, run = t.experiment.get("optimizer", {}), t.experiment.get("run", {})
    options = ", ".join(f"{name} = {json.dumps(v, default=str)}" for name, v in given.get("options", {}).items())
    label = t.experiment.get("labels", {}).get("optimizer", "?")
    words = f"The optimizer was {label} ({f'options: {options}' if options else 'default options'}"
    words += f"; seed {run['seed']})" if "seed" in run else ")"
    chosen = t.experiment.get("explanation", "")
    parts = [f"{words}{f': {chosen}' if chosen else ''}"]
    if run.get("repeats", 1) > 1:
        parts.append(f"each fitness is the mean of {run['repeats']} evaluations on {run.get('seeds')} seeds")
    if run.get("final"):
        times = run.get("final_repeats")
        parts.append(f"the best {run['final']} were evaluated again at the end, {times} times each on fresh seeds")
    if run.get("timeout"):
        parts.append(f"an evaluation that took more than {run['timeout']:g} s had failed")
    if t.details.get("target", run.get("target")) is not None:
        parts.append(f"the search was to end at {json.dumps(t.details.get('target', run.get('target')))}")
    return f"{'; '.join(parts)}."


def _came(t: Trajectory) -> str:
    counts = np.bincount(t.record["status"], minlength=len(Status)).tolist()
    budget = t.details.get("evaluations", t.experiment.get("run", {}).get("evaluations", len(t)))
    ended = len(t) - counts[Status.PENDING]
    failed = sum(counts[s] for s in FAILURES)
    ways = ", ".join(f"{counts[s]:,} {s.label.replace('_', ' ')}" for s in FAILURES if counts[s])
    words = f"Of a budget of {budget:,} evaluations, {ended:,} ended: {counts[Status.DONE]:,} with a fitness"
    words += f", {counts[Status.STOPPED]:,} stopped early" if counts[Status.STOPPED] else ""
    words += f", {failed:,} without one ({ways})" if failed else ", none failed"
    reason = t.details.get("reason", "")
    return f"{words}. The search is {t.state}{f' ({reason})' if reason and t.state == 'finished' else ''}."


def _time(t: Trajectory) -> str:
    """Say how many were evaluated at once, where and how long; nothing where no time is known."""
    workers, hosts = (set(t.record[name].tolist()) - {""} for name in ("worker", "host"))
    most, seconds, worked = at_once(t)
    if not most:
        return ""
    idle = sum(end - begin for begin, end in data_workers.pauses(t))
    where = f"{len(workers):,} {_plural('worker', len(workers))}"
    where += f" of {len(hosts):,} {_plural('host', len(hosts))}" if hosts else ""
    return (
        f"At most {most:,} {'was' if most == 1 else 'were'} evaluated at once, by {where}; "
        f"from the first submission to the last result it took {duration(seconds)}"
        f"{f' ({duration(idle)} of it without any evaluation)' if idle else ''}, and the evaluations together "
        f"{duration(worked)}."
    )


def at_once(t: Trajectory) -> tuple[int, float, float]:
    """Return how many were evaluated at once at most, seconds from end to end, and seconds of all evaluations."""
    known = data_workers.timed(t)
    started, finished = t.record["started"][known], t.record["finished"][known]
    if not len(started):
        return 0, 0.0, 0.0
    times = np.concatenate([finished, started])  # who ends at the moment at which another begins has gone
    change = np.repeat([-1, 1], len(started))[np.argsort(times, kind="stable")]
    begun = data_workers.began(t) or float(started.min())
    return int(np.cumsum(change).max(initial=1)), float(finished.max() - begun), float((finished - started).sum())


def _software(t: Trajectory) -> str:
    versions = dict(t.experiment.get("versions", {}))
    own = versions.pop("l2l-dask", "")
    words = ", ".join(f"{name.capitalize()} {version}" for name, version in versions.items())
    return f"We used l2l_dask{f' {own}' if own else ''}{f' with {words}' if words else ''}."


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LONG:,} more" if len(names) > _LONG else ""
    return ", ".join(names[:_LONG]) + more


def _plural(word: str, n: int) -> str:
    return word if n == 1 else f"{word}s"


def experiment_file(t: Trajectory) -> str:
    """Return the experiment file that runs the same search again, from what the store records of it."""
    sections = {name: t.experiment[name] for name in config.Config.model_fields if name in t.experiment}
    try:
        read = config.parse(sections).model_dump(exclude_none=True, exclude_defaults=True)
        read["run"]["evaluations"] = t.details.get("evaluations", read["run"]["evaluations"])
        text = _toml(read)
    except (ConfigError, TypeError, ValueError) as error:
        return _FROM_PYTHON[1].format(" ".join(str(error).split()))
    nameless = [what for what in ("optimizee", "optimizer") if read.get(what, {}).get("name") == "pickled"]
    return "\n".join([*(_FROM_PYTHON[0].format(what) for what in nameless), text])


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Write TOML: a section for each entry, whose own are on a line each."""
    parts = []
    for title, entries in sections.items():
        lines = [f"{_key(name)} = {_value(entry)}" for name, entry in entries.items() if entry is not None]
        parts.append("\n".join([f"[{_key(title)}]", *lines]))
    return "\n\n".join(parts)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """Quote text: TOML's rules are JSON's, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"TOML has no word for {value!r}")
