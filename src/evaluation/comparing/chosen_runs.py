"""Runs that somebody chose to compare, whatever they are: how they are grouped, and what of them compares."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from src.evaluation.comparing.entries import (
    Entry,
    data_difference,
    entry_of,
    grouped,
    mismatches,
    settings,
)
from src.runs import Run
from src.utils.errors import UserError

# What an objective's weights change, and what depends on which likelihood counts the nats.
OF_OBJECTIVES = frozenset({"loss"})
OF_LIKELIHOODS = frozenset({"recon_nll", "elbo", "nll", "energy_mean"})
# Settings told in the name of a group.
NAMED = 2


@dataclass
class Chosen:
    """The chosen runs, and what of them can be compared.

    Attributes:
        readable: the runs whose config can be read, each grouped under the name that it is shown by.
        entries: those of them that were tested on the same data.
        hidden: metrics that were measured in different ways.
        unjudged: metrics of which no run is better than another, because they are in different measures.
        remarks: a sentence on everything that is left out, and why.
        together: whether runs that differ in nothing but their seed are one group.
    """

    readable: list[Entry] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    unjudged: set[str] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)
    together: bool = False

    @property
    def labels(self) -> list[str]:
        """The groups of the entries, in order."""
        return list(grouped(self.entries))

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Name of every readable run → its config."""
        named = apart(self.readable) if self.together else self.readable
        return {entry.group: entry.config for entry in named}


def choose(runs: Mapping[str, Run], together: bool = False) -> Chosen:
    """What of some runs can be compared, told by the first that was tested.

    Args:
        runs: name → run, as the reader knows them.
        together: runs that differ in nothing but their seed are one group; else each is one of its own.
    """
    found = Chosen(together=together)
    names: dict[str, str] = {}
    for name, run in runs.items():
        try:
            found.readable.append(entry_of(run))
            names[str(run.path)] = name
        except UserError as error:
            found.remarks.append(f"{name} is left out: {error}.")
    found.readable = label(found.readable) if together else apart(label(found.readable))
    for entry in found.readable:
        try:
            _take(found, entry, names)
        except UserError as error:
            found.remarks.append(
                f"The numbers of {names[str(entry.run.path)]} are left out: {error}."
            )
    if together:
        _leave_out_twins(found)
    _remark_on_measures(found)
    return found


def of_entries(entries: Sequence[Entry]) -> Chosen:
    """Entries that ``finished_runs`` has found to be comparable, grouped as they are."""
    found = Chosen([*entries], [*entries], together=True)
    _remark_on_measures(found)
    return found


def _take(found: Chosen, entry: Entry, names: Mapping[str, str]) -> None:
    if not entry.results.get("metrics"):
        raise UserError("it has not been tested and has no results.json")
    first = found.entries[0] if found.entries else entry
    name, against = (names[str(one.run.path)] for one in (entry, first))
    if key := data_difference(entry.config["data"], first.config["data"]):
        raise UserError(f"it was tested on other data than {against} (data.{key})")
    for reason, metrics in mismatches(entry, first):
        found.hidden |= metrics
        found.remarks.append(f"{_listed(metrics)} left out: of {name} and {against} {reason}.")
    found.entries.append(entry)


def _listed(metrics: Set[str]) -> str:
    return f"{', '.join(sorted(metrics))} {'is' if len(metrics) == 1 else 'are'}"


def _remark_on_measures(found: Chosen) -> None:
    """Of several objectives and likelihoods the numbers are shown, and none of them is called better."""
    models = [entry.config["model"] for entry in found.entries]
    cases = (("objective", None, OF_OBJECTIVES), ("likelihood", "_target_", OF_LIKELIHOODS))
    for part, key, metrics in cases:
        kinds = [model.get(part) for model in models]
        kinds = [kind.get(key) if key and isinstance(kind, dict) else kind for kind in kinds]
        if any(kind != kinds[0] for kind in kinds):
            found.unjudged |= metrics
            found.remarks.append(
                f"The runs have different settings of model.{part}: {_listed(metrics)} shown, but no run's is called "
                "better than another's."
            )


def label(entries: Sequence[Entry]) -> list[Entry]:
    """The entries grouped by all that decides a training but its seed.

    A group has its model's name, and where several share that, what they differ in: ``beta_vae (objective.beta=4)``.
    """
    own = [settings(entry.config) for entry in entries]
    keys = [(entry.group, _key(values)) for entry, values in zip(entries, own, strict=True)]
    kinds: dict[str, dict[str, dict[str, Any]]] = {}
    for (group, key), values in zip(keys, own, strict=True):
        kinds.setdefault(group, {})[key] = values
    names = {
        (group, key): group + suffix
        for group, found in kinds.items()
        for key, suffix in _suffixes(found).items()
    }
    return [replace(entry, group=names[key]) for entry, key in zip(entries, keys, strict=True)]


def _key(values: Mapping[str, Any]) -> str:
    return repr(sorted(values.items()))


def _suffixes(found: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Key of a group → what tells it from the others of its name."""
    if len(found) == 1:
        return dict.fromkeys(found, "")
    keys = sorted({key for values in found.values() for key in values})
    differing = [key for key in keys if len({repr(v.get(key)) for v in found.values()}) > 1]
    told = [key for key in differing if key.startswith("model.")] or differing
    given: dict[str, str] = {}
    for number, (key, values) in enumerate(found.items(), 1):
        parts = [f"{k.removeprefix('model.')}={values.get(k)}" for k in told[:NAMED]]
        words = f" ({', '.join(parts)})"
        given[key] = f" ({', '.join(parts)}; #{number})" if words in given.values() else words
    return given


def apart(entries: Sequence[Entry]) -> list[Entry]:
    """Every run a group of its own, called by its group and seed, and by its folder where that is not enough."""
    names = [f"{entry.group}, seed {entry.seed}" for entry in entries]
    return [
        replace(e, group=f"{n}, {e.run.path.name}" if names.count(n) > 1 else n)
        for e, n in zip(entries, names, strict=True)
    ]


def _leave_out_twins(found: Chosen) -> None:
    kept: dict[tuple[str, int], Entry] = {}
    for entry in found.entries:
        twin = kept.setdefault((entry.group, entry.seed), entry)
        if twin is not entry:
            found.remarks.append(
                f"{entry.run.path} is left out: {twin.run.path} is the same experiment with the same seed, and an "
                "interval is over different seeds"
            )
    found.entries = list(kept.values())


def config_differences(
    configs: Mapping[str, Mapping[str, Any]], everything: bool = False
) -> dict[str, list[str]]:
    """Dotted key → its value in every config, of the keys that differ; what says where a run writes is left out.

    Args:
        configs: name → resolved config.
        everything: keys that do not differ as well.
    """
    flat = [settings(config, parts=None) for config in configs.values()]
    found = {}
    for key in sorted({key for values in flat for key in values}):
        row = [_word(values.get(key, "")) if key in values else "—" for values in flat]
        if everything or len({*row}) > 1:
            found[key] = row
    return found


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
