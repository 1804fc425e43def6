"""A verifier that shares no code with StreetVision: docs/bundle.md, and the standard library.

``python independent.py BUNDLE [SHA256 OF ITS MANIFEST]`` names the section of the specification that is
broken, and which condition of it. It reads the tables there. It builds no network.
"""

import array
import hashlib
import json
import math
import re
import sys
from datetime import datetime
from itertools import combinations
from pathlib import Path, PurePosixPath, PureWindowsPath

DOCS = (Path(__file__).parents[2] / "docs/bundle.md").read_text().partition("## Specification")[2]
PAIRS = re.findall(r"^\| `([^`]+)` \| (=|<=) \| `([^`]+)` \|$", DOCS, re.MULTILINE)
STEPS = {
    step: ({*re.findall(r"\w+", inputs)}, {*re.findall(r"\w+", roles)})
    for step, inputs, roles in re.findall(r"^\| (\w+) \| ([\w, ]*) \| ([\w, ]*) \|$", DOCS, re.MULTILINE)
}
ORIGINS = re.findall(r"^\| (\S+) \| (\w+) \| (\S+) \|$", DOCS, re.MULTILINE)
ROLES, COUNTS = ("train", "val_select", "val_calib", "val_test"), ("tp", "tn", "fp", "fn")
RATES = ("mcc", "accuracy", "precision", "recall", "f1", "fnr", "fpr")
FITTED = {"threshold": "thresholds", "gate": "gate", "scrc": "scrc"}
FILES = {"threshold": "thresholds.json", "gate": "gate.json", "scrc": "scrcparams.json"}


def sha(data):
    return hashlib.sha256(data).hexdigest()


def canonical(value):
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def close(one, other, tolerance=1e-9):
    """Compare; what one of the two does not hold, or hides, agrees."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(close(one[name], other[name], tolerance) for name in one.keys() & other.keys())
    if float in (type(one), type(other)) and {type(one), type(other)} <= {int, float}:
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance / 10)
    return None in (one, other) or "<private>" in (one, other) or one == other


def at(records, places, kind):
    """Return what stands in a place of a record, or the sum of several; None where nothing does."""
    name, _, places = places.replace("{kind}", kind).partition(" ")
    values = []
    for path in places.split(" + "):
        values.append(records.get(name))
        for key in filter(None, path.split(".")):
            values[-1] = values[-1].get(key) if isinstance(values[-1], dict) else None
    return values[0] if len(values) == 1 else None if None in values else sum(values)


def check_files(files, records):
    top, record = records["manifest.json"], records["bundle.json"]
    listed = {name: {"sha256": sha(data), "size_bytes": len(data)} for name, data in files.items()}
    yield all(canonical(value) == files[name] for name, value in records.items())
    for name in {"manifest.json"} | ({"private.json"} if "private_sha256" in top else set()):
        del listed[name]
    yield top["output_artifacts"] == listed
    yield all(re.fullmatch(r"[A-Za-z0-9_][\w.+-]*(/[A-Za-z0-9_][\w.+-]*)*", name) for name in listed)
    yield sum(name.startswith("policy/") for name in files) == 1
    content = {name: one["sha256"] for name, one in listed.items() if not name.startswith("lineage/")}
    yield record["checksums"] | {"bundle.json": content["bundle.json"]} == content


def check_manifest(step, manifest):
    rest = {name: value for name, value in manifest.items() if name != "manifest_digest"}
    outputs = manifest["output_artifacts"].items()
    content = {name: one["sha256"] for name, one in outputs if not name.startswith("lineage/")}
    inputs = {name: given["data_version"] for name, given in manifest["input_artifacts"].items()}
    times = [manifest["started_at"], manifest["finished_at"]]
    started, finished = (datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%f%z") for time in times)
    yield all(len(time) == 27 and time.endswith("Z") for time in times)
    yield manifest["manifest_digest"] == sha(canonical(rest)) and manifest["step_name"] == step
    yield manifest["data_version"] == sha(canonical(content))
    yield manifest["config_hash"] == sha(canonical(manifest["config"]))
    key = [step, manifest["code_version"], manifest["config_hash"], inputs]
    yield manifest["step_key"] == sha(canonical(key))
    yield manifest["duration_seconds"] == round((finished - started).total_seconds(), 6)
    yield STEPS[step][0] <= inputs.keys() and {*manifest["roles"]} <= STEPS[step][1]
    for run in filter(None, (manifest, manifest.get("reused_from"))):
        yield run["run_id"].endswith("-" + run["dagster_run_id"][:8]) or not run["dagster_run_id"]


def check_lineage(files, records, lineage):
    redacted = records["bundle.json"]["lineage"] == "redacted"
    yield lineage.keys() == records["manifest.json"]["input_artifacts"].keys()
    known = {(step, one["run_id"]): sha(files[f"lineage/{step}.json"]) for step, one in lineage.items()}
    for step, manifest in {**lineage, "bundle": records["manifest.json"]}.items():
        yield from check_manifest(step, manifest)
        for name, given in manifest["input_artifacts"].items():
            yield given["data_version"] == lineage[name]["data_version"]
            digest = known.setdefault((name, given["run_id"]), given["manifest_sha256"])
            yield digest == given["manifest_sha256"]
        side = "private.json" if step == "bundle" else f"lineage/private/{step}.json"
        yield redacted or "private_sha256" not in manifest or sha(files[side]) == manifest["private_sha256"]
    for name, step, original in ORIGINS:
        published = "splits_by_sha256.json" if redacted and name == "splits.json" else original
        entry = lineage.get(step, {"output_artifacts": {}})["output_artifacts"].get(published)
        if name in files or (entry and not name.startswith("policy/")):
            yield entry and entry["sha256"] == sha(files[name])


def check_splits(splits):
    roles, group_of = splits["roles"], splits["group_of"]
    yield sorted(roles) == sorted(ROLES) and {name for some in roles.values() for name in some} == {*group_of}
    for name in group_of:
        yield not PurePosixPath(name).is_absolute() and not PureWindowsPath(name).drive
        yield name and ".." not in name.split("/") and not re.search(r"[\x00-\x1f\x7f]", name)
    groups = {role: [group_of[name] for name in names] for role, names in roles.items()}
    for held in (roles, groups):
        yield not any({*held[one]} & {*held[other]} for one, other in combinations(ROLES, 2))
    for role, count in splits["counts"].items():
        yield (count["pictures"], count["groups"]) == (len(roles[role]), len({*groups[role]}))
    every = [group for some in groups.values() for group in some]
    sizes = {"groups_after": len({*every}), "largest": max(map(every.count, {*every}))}
    yield close(splits["uniting"], sizes)


def check_metrics(value):
    """Compute every metric beside its four counts again, wherever it stands."""
    if isinstance(value, dict) and all(type(value.get(name)) is int for name in COUNTS):
        tp, tn, fp, fn = (value[name] for name in COUNTS)
        root = math.sqrt((tp + fn) * (tn + fp) * (tp + fp) * (tn + fn))
        parts = (tp * tn - fp * fn, tp + tn, tp, tp, 2 * tp, fn, fp)
        wholes = (root, tp + tn + fp + fn, tp + fp, tp + fn, 2 * tp + fp + fn, tp + fn, fp + tn)
        rates = (part / whole if whole else 0.0 for part, whole in zip(parts, wholes, strict=True))
        yield min(tp, tn, fp, fn) >= 0 and close(dict(zip(RATES, rates, strict=True)), value)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from check_metrics(inner)


def check_report(report, lineage):
    n, made, slices = report["counts"]["n"], lineage["evaluation"], []
    yield {FITTED[kind] for kind in report["policies"]} == {*FITTED.values()} & {*made["input_artifacts"]}
    for kind, one in report["policies"].items():
        yield from check_policy(kind, one["policy"], lineage)
        step, counts = lineage[FITTED[kind]], one["metrics"]
        digest = step["output_artifacts"][FILES[kind]]["sha256"]
        other_code = any(step[name] != made[name] for name in ("git_sha", "git_dirty"))
        yield other_code or digest == sha(canonical(one["policy"]))
        yield close(one["coverage"]["share"], one["coverage"]["answered"] / n)
        yield kind != "threshold" or one["coverage"]["answered"] == n
        shown = [(counts[name], (one["intervals"] or {}).get(name)) for name in RATES]
        shown += [(part["metrics"][name], part.get(name)) for part in one["slices"] for name in RATES]
        for value, ends in [*shown, (one["coverage"]["share"], one["coverage"]["interval"])]:
            if ends and ends["method"] != "bootstrap-bca":
                yield ends["low"] - 1e-9 <= value <= ends["high"] + 1e-9
        for part in one["slices"]:
            alike = [other for other in one["slices"] if other["attribute"] == part["attribute"]]
            yield sum(other["n"] for other in alike) == n
            yield all(sum(other["metrics"][name] for other in alike) == counts[name] for name in COUNTS)
            yield part["answered"] == sum(part["metrics"][name] for name in COUNTS)
            yield part["too_small"] == (part["answered"] < 30)
        slices.append(sorted((part["attribute"], part["value"], part["n"]) for part in one["slices"]))
    yield all(one == slices[0] for one in slices)
    if first := report["policies"].get("threshold"):
        calib, test = first["policy"]["val_calib"]["metrics"], first["metrics"]["mcc"]
        told = report.get("calib_minus_test") or {"difference": report["optimism"], "interval": None}
        yield close(told["difference"], float(calib["mcc"] - test))
        if told["interval"]:
            ends, inside = first["intervals"]["mcc"], told["interval"]
            below = math.hypot(calib["mcc"] - calib["mcc_low"], ends["high"] - test)
            above = math.hypot(calib["mcc_high"] - calib["mcc"], test - ends["low"])
            yield close(told["difference"] - below, inside["low"])
            yield close(told["difference"] + above, inside["high"])


def check_policy(kind, policy, lineage):
    yield all(lineage[step]["data_version"] == one for step, one in policy["fitted_on"].items())
    if kind == "threshold":
        follows = 1 / (1 + math.exp(-policy["margin"] / policy["temperature"]))
        yield close(policy["threshold"], follows) and follows <= policy["plateau_high"] + 1e-9
    if kind == "scrc":
        parts = policy["certificates"]
        for one in parts:
            yield from check_certificate(one, policy["chosen_by"], policy["guarantee"])
        grids = [one["thresholds"] for one in parts]
        frozen = {"point": policy["point"], "calibrator": policy["calibrator"], "sequences": grids}
        yield policy["frozen"] == {name: sha(canonical(one)) for name, one in frozen.items()}
        shown, bound = lineage["scrc"]["metrics"], max(one["upper_bound"] for one in parts)
        yield shown["units"] == sum(one["n"] for one in parts) and close(shown["upper_bound"], bound)


def check_certificate(one, chosen, words):
    k, m, n, delta, grid = (one[name] for name in ("k", "m", "n", "delta", "thresholds"))
    yield 0 <= k <= m <= n and one["K"] == len(grid) and grid == sorted({*grid}, reverse=True)
    bound = (k + 1) / (n + 1) if delta is None else upper_bound(k, m, delta)
    yield close(one["upper_bound"], bound, 1e-7)
    ends = {"coverage_low": 1 - upper_bound(n - m, n, 0.025), "coverage_high": upper_bound(m, n, 0.025)}
    yield close(one, ends, 1e-7)
    yield one["threshold"] is None or (one["threshold"] in grid and bound <= one["alpha"] + 1e-9)
    told = chosen["promise"]
    promise = told if isinstance(told, dict) else {**chosen, "kind": told}
    if promise["kind"] == "error":
        yield (one["alpha"], delta) == (promise["alpha"], chosen["delta"] / (chosen.get("looks") or 1))
        yield all(f"{100 * share:.12g}%" in words for share in (promise["alpha"], 1 - chosen["delta"]))


def upper_bound(errors, total, delta):
    """Clopper and Pearson: the rate at which so few errors have the probability delta."""
    low, high = 0.0, 1.0
    while errors < total and high - low > 1e-13:
        p = (low + high) / 2
        few = sum(math.comb(total, i) * p**i * (1 - p) ** (total - i) for i in range(errors + 1))
        low, high = (p, high) if few > delta else (low, p)
    return high


def check_golden(records, files, kind):
    names, size = (records["splits.json"][name]["val_test"] for name in ("roles", "counts"))
    expected, config = records["golden/expected.json"], records["manifest.json"]["config"]
    images, labels = expected["pictures"], [one["label"] for one in expected["pictures"]]
    yield 0 < expected["tolerance"] <= 1e-3 and len(images) <= config.get("golden", 64)
    yield sorted(one["file"] for one in images) == sorted(n for n in files if re.match(r"golden/\d", n))
    yield labels.count(0) <= size["none"] and labels.count(1) <= size["roadwork"] and {*labels} <= {0, 1}
    for one in images:
        margin = one["logits"][1] - one["logits"][0]
        yield sha(files[one["file"]]) == one["sha256"] and one["name"] in names
        yield abs(one["probability"] - 1 / (1 + math.exp(-margin))) < 1e-6
        deferred = one["decision"] == "defer" and kind != "threshold"
        yield deferred or one["decision"] == ("roadwork" if margin > 0 else "none") or abs(margin) < 1e-5


def check_drift(drift):
    widths = {len(row) for row in drift["sample"]}
    yield len(drift["sample"]) == drift["units"] and len(widths) == 1 and 1 <= min(widths) <= 17
    yield all(abs(cell) <= 3.5e38 for row in drift["sample"] for cell in row)


def check_onnx(records, files, kind):
    record, config = records.get("onnx.json"), records["config.json"]["pretrained_cfg"]
    asked = records["manifest.json"]["config"].get("onnx", False)
    yield asked == ("model.onnx" in files) == (record is not None)
    if record is None:
        return
    told, sides = record["specification"], config["input_size"][1:]
    scaled = [math.floor(side / config["crop_pct"]) for side in sides]
    yield files["model.onnx"].count(canonical(told)) == 1 and record["opset"] == 18
    yield told["weights_sha256"] == sha(files["model.safetensors"])
    yield [told["resize"]["height"], told["resize"]["width"], told["resize"]["filter"]] == [
        *scaled, config["interpolation"]
    ]  # fmt: skip
    yield told["shape"][-2:] == sides == [told["crop"]["height"], told["crop"]["width"]]
    yield [told["mean"], told["std"]] == [config["mean"], config["std"]]
    yield kind != "threshold" or told["answers"] == {"roadwork_from": 0.0, "none_to": 0.0}
    yield 0 <= record["parity"]["probability"] <= 1e-4


def check_texts(records, files, metrics):
    card, readme = records["model_card.json"], files["README.md"].decode()
    yield card["metrics"].keys() <= ({*metrics, "coverage", "mcc_low", "mcc_high"} if metrics else set())
    for name, value in re.findall(r"^\| (\w+) \| (-?\d+\.\d{3}) \|", readme, re.MULTILINE):
        yield name not in metrics or value == f"{metrics[name]:.3f}"
    for told in re.findall(r"(\d+) hits, (\d+) misses,\s+(\d+) false alarms", readme):
        yield not metrics or told == tuple(str(metrics[name]) for name in ("tp", "fn", "fp"))
    stated, start = re.findall(r"^Licence of .*?: (.*)$", files["LICENSE"].decode(), re.MULTILINE)[:2]
    configured = records["manifest.json"]["config"].get("license")
    yield card["license"] == stated == (configured or ("MIT" if start == "none" else start))


def check_weights(data, trained):
    begin = 8 + int.from_bytes(data[:8], "little")
    header = {name: one for name, one in json.loads(data[8:begin]).items() if name != "__metadata__"}
    spans = sorted(one["data_offsets"] for one in header.values())
    yield [0, *(end for _, end in spans)] == [*(start for start, _ in spans), len(data) - begin]
    raw = {name: data[begin:][slice(*one["data_offsets"])] for name, one in header.items()}
    for name, one in header.items():
        yield one["dtype"] != "F32" or all(map(math.isfinite, array.array("f", raw[name])))
    if trained is not None:
        yield trained.keys() == header.keys()
        changed = {name.rpartition(".")[0] for name in raw if sha(raw[name]) != trained[name]}
        yield len(changed) <= 1 and all(header[f"{name}.bias"]["shape"] == [2] for name in changed)


def sections(folder, manifest_sha256):
    """Give each section of the specification with its conditions, all of which must hold."""
    folder = Path(folder)
    paths = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    full = {parent for path in paths for parent in path.parents}
    yield "folders and links", iter([all(path.is_file() and not path.is_symlink() for path in paths)])
    yield "empty folders", iter([full >= {path for path in folder.rglob("*") if path.is_dir()}])
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    yield "the manifest you were told of", iter([manifest_sha256 in (None, sha(files["manifest.json"]))])
    records = {name: json.loads(data) for name, data in files.items() if name.endswith(".json")}
    yield "files", check_files(files, records)
    records["bundle.json"].setdefault("lineage", "full")
    lineage = {name[8:-5]: one for name, one in records.items() if re.fullmatch(r"lineage/\w+\.json", name)}
    kind, report = records["bundle.json"]["policy"]["type"], records.get("evaluation.json")
    yield "manifests", check_lineage(files, records, lineage)
    yield "roles", check_splits(records["splits.json"])
    yield "metrics", check_metrics(list(records.values()))
    yield "policy", check_policy(kind, records[f"policy/{FILES[kind]}"], lineage)
    if report:
        yield "report", check_report(report, lineage)
    for one, sign, other in PAIRS:
        first, second = at(records, one, kind), at(records, other, kind)
        holds = close(first, second) if sign == "=" else None in (first, second) or first <= second
        yield f"{one} {sign} {other}", iter([holds])
    yield "drift", check_drift(records["drift.json"]) if "drift.json" in records else iter(())
    yield "golden images", check_golden(records, files, kind)
    yield "onnx", check_onnx(records, files, kind)
    yield "texts", check_texts(records, files, report["policies"][kind]["metrics"] if report else {})
    yield "weights", check_weights(files["model.safetensors"], records.get("tensors.json"))


def verify(folder, manifest_sha256=None):
    """Return what is wrong with a bundle; an empty text where nothing is."""
    try:
        for section, conditions in sections(folder, manifest_sha256):
            for number, holds in enumerate(conditions, start=1):
                if not holds:
                    return f"{section}: condition {number}"
    except (KeyError, TypeError, ValueError, AttributeError, OSError, RecursionError) as error:
        return f"not readable: {type(error).__name__} {error}"
    return ""


if __name__ == "__main__":
    sys.exit(verify(*sys.argv[1:3]) or 0)
