"""A verifier that shares no code with StreetVision: docs/bundle.md, and the standard library.

`python independent.py BUNDLE [SHA256 OF ITS MANIFEST]` names the part of the specification that is broken,
and which condition of it. It reads the tables there, and evaluates the conditions in them. It builds no
network and checks no signature.
"""

import array
import hashlib
import json
import math
import re
import sys
from collections import Counter  # noqa: F401 - the conditions in the tables use it, and others below
from datetime import datetime  # noqa: F401
from itertools import combinations  # noqa: F401
from pathlib import Path, PurePosixPath, PureWindowsPath  # noqa: F401

DOCS = (Path(__file__).parents[2] / "docs/bundle.md").read_text().partition("## Specification")[2]
PAIRS = re.findall(r"^\| `([^`]+)` \| (=|<=) \| `([^`]+)` \|$", DOCS, re.MULTILINE)
CONDITIONS = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", DOCS, re.MULTILINE)
ROWS = re.findall(r"^\| (\w+) \| ([\w, ]*) \| ([\w, ]*) \|$", DOCS, re.MULTILINE)
STEPS = {step: ({*re.findall(r"\w+", inputs)}, {*re.findall(r"\w+", roles)}) for step, inputs, roles in ROWS}
ORIGINS = re.findall(r"^\| (\S+) \| (\w+) \| (\S+) \|$", DOCS, re.MULTILINE)
STATEMENT = re.search(r"```json\n(.*?)```", DOCS, re.DOTALL)[1]
ROLES, COUNTS = ("train", "val_select", "val_calib", "val_test"), ("tp", "tn", "fp", "fn")
RATES = ("mcc", "accuracy", "precision", "recall", "f1", "fnr", "fpr")
FITTED = {"threshold": "thresholds", "gate": "gate", "scrc": "scrc"}
FILES = {"threshold": "thresholds.json", "gate": "gate.json", "scrc": "scrcparams.json"}
FIGURE = r"- type: (\w+)\n +value: (\S+)\n +name: (.*)(?:\n +args:\n +low: (\S+)\n +high: (\S+))?"
SHARES = {"fnr": "missed roadwork", "fpr": "false alarms", "coverage": "images answered"}
TITLES = {"mcc": "MCC"} | {name: f"Share of {share}" for name, share in SHARES.items()}


def sha(data):
    return hashlib.sha256(data).hexdigest()


def digest(value):
    return sha(canonical(value))


def canonical(value):
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def close(first, second, tolerance=1e-9):
    """Compare two values; what only one of them holds, or one hides, agrees."""
    if isinstance(first, dict) and isinstance(second, dict):
        return all(close(first[name], second[name], tolerance) for name in first.keys() & second.keys())
    if float in (type(first), type(second)) and {type(first), type(second)} <= {int, float}:
        return math.isclose(first, second, rel_tol=tolerance, abs_tol=tolerance / 10)
    return None in (first, second) or "<private>" in (first, second) or first == second


def ends_of(tested, figure):
    intervals = tested.get("intervals") or {}
    chosen = intervals.get(figure if intervals.get("groups") else f"{figure}_by_group") or {}
    return chosen.get("low"), chosen.get("high")


def clopper_pearson(errors, total, delta):
    """Return the rate at which so few errors have the probability delta."""
    low, high = 0.0, 1.0
    while errors < total and high - low > 1e-13:
        p = (low + high) / 2
        few = sum(math.comb(total, i) * p**i * (1 - p) ** (total - i) for i in range(errors + 1))
        low, high = (p, high) if few > delta else (low, p)
    return high


def inside(value, interval):
    if not interval or interval["method"] == "bootstrap-bca":
        return True
    return interval["low"] - 1e-9 <= value <= interval["high"] + 1e-9


def promise_of(chosen):
    promise = chosen["promise"]
    return promise if isinstance(promise, dict) else {**chosen, "kind": promise}


class Bundle:
    """The files of a bundle; each `check_` gives the conditions of a part of the specification."""

    def __init__(self, folder):
        self.paths = [*Path(folder).rglob("*")]
        regular = [path for path in self.paths if path.is_file() and not path.is_symlink()]
        self.expected = {*regular} | {parent for path in regular for parent in path.parents}
        self.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in regular}
        self.records = {name: json.loads(data) for name, data in self.files.items() if name[-5:] == ".json"}
        made = sorted(name for name in self.records if re.fullmatch(r"lineage/(?!provenance)\w+\.json", name))
        self.lineage = {name[8:-5]: self.records[name] for name in made}
        self.top, self.record = self.records["manifest.json"], self.records["bundle.json"]
        self.kind, self.report = self.record["policy"]["type"], self.records.get("evaluation.json", {})
        self.splits, self.policies = self.records["splits.json"], self.report.get("policies", {})

    def check_files(self):
        yield self.expected >= {*self.paths} and not any(path.is_symlink() for path in self.paths)
        yield all(canonical(value) == self.files[name] for name, value in self.records.items())
        unlisted = {"manifest.json", "model.sig", "private.json" if "private_sha256" in self.top else ""}
        listed = {name: data for name, data in self.files.items() if name not in unlisted}
        sizes = {name: {"sha256": sha(data), "size_bytes": len(data)} for name, data in listed.items()}
        yield self.top["output_artifacts"] == sizes and sum(name[:7] == "policy/" for name in listed) == 1
        yield all(re.fullmatch(r"[A-Za-z0-9_][\w.+-]*(/[A-Za-z0-9_][\w.+-]*)*", name) for name in listed)
        content = {name: sha(data) for name, data in listed.items() if not name.startswith("lineage/")}
        yield self.record["checksums"] | {"bundle.json": content["bundle.json"]} == content
        self.record.setdefault("lineage", "full")
        self.records["manifests"] = {**self.lineage, "bundle": self.top}

    def check_lineage(self):
        files, lineage, redacted = self.files, self.lineage, self.record["lineage"] == "redacted"
        yield lineage.keys() == self.top["input_artifacts"].keys()
        known = {
            (step, manifest["run_id"]): sha(files[f"lineage/{step}.json"])
            for step, manifest in lineage.items()
        }
        for step, manifest in self.records["manifests"].items():
            for name, given in manifest["input_artifacts"].items():
                yield given["data_version"] == lineage[name]["data_version"]
                digest = known.setdefault((name, given["run_id"]), given["manifest_sha256"])
                yield digest == given["manifest_sha256"]
            side = "private.json" if step == "bundle" else f"lineage/private/{step}.json"
            yield redacted or sha(files.get(side, b"")) == manifest.get("private_sha256", sha(b""))
        for name, step, original in ORIGINS:
            published = "splits_by_sha256.json" if redacted and name == "splits.json" else original
            entry = lineage.get(step, {"output_artifacts": {}})["output_artifacts"].get(published)
            if name in files or (entry and not name.startswith("policy/")):
                yield entry and entry["sha256"] == sha(files[name])

    def check_provenance(self):
        own, steps, made = "lineage/provenance.json", self.lineage.values(), self.lineage["backbone"]
        files, starts = (sorted(manifest["output_artifacts"].items()) for manifest in (self.top, made))
        code = [
            (f"{manifest['step_name']}{' (dirty)' * manifest['git_dirty']}", manifest["git_sha"])
            for manifest in steps
        ]
        values = {
            "FILES": [(name, "sha256", file["sha256"]) for name, file in files if name != own],
            "SOURCES": [("images", "sha256", self.lineage["images"]["data_version"])]
            + [(f"backbone/{name}", "sha256", file["sha256"]) for name, file in starts if ".safe" in name]
            + [(f"code of {name}", "gitCommit", commit) for name, commit in code if commit != "unknown"],
        }
        values = {word: [{"name": a, "digest": {b: c}} for a, b, c in some] for word, some in values.items()}
        values["SETTINGS"] = {manifest["step_name"]: manifest["config"] for manifest in steps}
        values |= {place: self.at(place) for place in re.findall(r'"(lineage/.*?)"', STATEMENT)}
        filled = json.loads(
            STATEMENT, object_hook=lambda fields: {k: values.get(str(v), v) for k, v in fields.items()}
        )
        yield self.records.get(own, filled) == filled

    def check_metrics(self, value=None):
        value = self.records if value is None else value
        if isinstance(value, dict) and all(type(value.get(name)) is int for name in COUNTS):
            tp, tn, fp, fn = (value[name] for name in COUNTS)
            root = math.sqrt((tp + fn) * (tn + fp) * (tp + fp) * (tn + fn))
            parts = (tp * tn - fp * fn, tp + tn, tp, tp, 2 * tp, fn, fp)
            wholes = (root, tp + tn + fp + fn, tp + fp, tp + fn, 2 * tp + fp + fn, tp + fn, fp + tn)
            rates = (part / whole if whole else 0.0 for part, whole in zip(parts, wholes, strict=True))
            yield min(tp, tn, fp, fn) >= 0 and close(dict(zip(RATES, rates, strict=True)), value)
        for inner in value.values() if isinstance(value, dict) else value:
            yield from self.check_metrics(inner) if isinstance(inner, (dict, list)) else ()

    def check_conditions(self):
        names = {
            **globals(),
            **vars(math),
            **vars(self),
            "at": self.at,
            "n": self.at("evaluation.json counts.n"),
        }
        for places, condition in CONDITIONS:
            for value in (value for place in places.split(" and ") for value in self.walk(place)):
                fields = value if isinstance(value, dict) else {}
                yield eval(condition, {**names, **fields, "value": value})

    def check_pairs(self):
        for left, sign, right in PAIRS:
            first, second = self.at(left), self.at(right)
            yield close(first, second) if sign == "=" else None in (first, second) or first <= second

    def at(self, places):
        """Return what stands in a place of a record, or the sum of several; None where nothing does."""
        name, *paths = re.split(r" \+ | ", places)
        values = [value for path in paths or [""] for value in self.walk(f"{name} {path}")]
        return None if len(values) < max(len(paths), 1) else values[0] if len(values) == 1 else sum(values)

    def walk(self, place):
        """Return whatever stands in a place, of which * is every name; of a null nothing does."""
        name, _, path = place.replace("{kind}", self.kind).partition(" ")
        values = [self.records[name]] if name in self.records else []
        for key in filter(None, path.split(".")):
            inner = [value.values() if isinstance(value, dict) else value for value in values if key == "*"]
            named = [value[key] for value in values if isinstance(value, dict) and key in value]
            values = [value for some in inner for value in some] if key == "*" else named
        return [value for value in values if value is not None]

    def check_texts(self):
        card, readme = self.records["model_card.json"], self.files["README.md"].decode()
        tested = self.policies.get(self.kind, {"metrics": {}, "intervals": {}})
        metrics = tested["metrics"]
        figures = {**metrics, "coverage": tested["coverage"]["share"]} if metrics else {}
        yield card["metrics"].keys() <= ({*figures, "mcc_low", "mcc_high"} if figures else set())
        for name, value in re.findall(r"^\| (\w+) \| (-?\d+\.\d{3}) \|", readme, re.MULTILINE):
            yield name not in metrics or value == f"{metrics[name]:.3f}"
        for counts in re.findall(r"(\d+) hits, (\d+) misses,\s+(\d+) false alarms", readme):
            yield not metrics or counts == tuple(str(metrics[name]) for name in ("tp", "fn", "fp"))
        stated, start = re.findall(r"^Licence of .*?: (.*)$", self.files["LICENSE"].decode(), re.MULTILINE)[
            :2
        ]
        configured = self.top["config"].get("license")
        yield card["license"] == stated == (configured or ("MIT" if start == "none" else start))
        if readme.startswith("---\n"):
            matter = readme[4:].partition("\n---\n")[0].replace("matthews_correlation", "mcc")
            keys = re.findall(r"^([\w-]+):", matter, re.MULTILINE)
            yield len(keys) == len({*keys}) and not re.search(r"[#{}\[\]&*!|>%@`]", matter)
            yield re.search(r"^license: (.*)$", matter, re.MULTILINE)[1] in (stated.lower(), "other")
            for name, value, title, low, high in re.findall(FIGURE, matter):
                ends = tested["coverage"]["interval"] if name == "coverage" else tested["intervals"].get(name)
                yield close(float(value), figures[name]) and title == TITLES.get(name, name.capitalize())
                yield not low or close({"low": float(low), "high": float(high)}, ends)

    def check_weights(self):
        data, trained = self.files["model.safetensors"], self.records.get("tensors.json")
        begin = 8 + int.from_bytes(data[:8], "little")
        header = {
            name: tensor for name, tensor in json.loads(data[8:begin]).items() if name != "__metadata__"
        }
        spans = sorted(tensor["data_offsets"] for tensor in header.values())
        yield [0, *(end for _, end in spans)] == [*(start for start, _ in spans), len(data) - begin]
        raw = {name: data[begin:][slice(*tensor["data_offsets"])] for name, tensor in header.items()}
        for name, tensor in header.items():
            yield tensor["dtype"] != "F32" or all(map(math.isfinite, array.array("f", raw[name])))
        if trained is not None:
            yield trained.keys() == header.keys()
            changed = {name.rpartition(".")[0] for name in raw if sha(raw[name]) != trained[name]}
            yield len(changed) <= 1 and all(header[f"{name}.bias"]["shape"] == [2] for name in changed)


def verify(folder, manifest_sha256=None):
    """Return what is wrong with a bundle; an empty text where nothing is."""
    try:
        bundle = Bundle(folder)
        if manifest_sha256 not in (None, sha(bundle.files["manifest.json"])):
            return "the manifest you were told of: another one"
        for part in (name for name in vars(Bundle) if name.startswith("check_")):
            for number, holds in enumerate(getattr(bundle, part)(), start=1):
                if not holds:
                    return f"{part.removeprefix('check_')}: condition {number}"
    except (LookupError, TypeError, ValueError, AttributeError, OSError, NameError, RecursionError) as error:
        return f"not readable: {type(error).__name__} {error}"
    return ""


if __name__ == "__main__":
    sys.exit(verify(*sys.argv[1:3]) or 0)
