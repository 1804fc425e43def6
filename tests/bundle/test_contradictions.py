"""Bundles whose every digest fits, and in which one thing says something else than another: each is refused.

A forger changes what is said and carries the change through policies, report, manifests and keys to the top
(`Forger`). What is left is the contradiction, and the refusal names it.
"""

import json
import re

import pytest

from streetvision_core.bundle import Predictor, agreement, load_bundle, verify_bundle
from streetvision_core.cli import main
from streetvision_core.errors import BundleError
from streetvision_core.io import bytes_digest
from tests.bundle import independent
from tests.bundle.chain import copy, forge, names_in
from tests.bundle.forging import Forger, refuse_forgery, refused

THRESHOLDS, REPORT, SPLITS = "policy/thresholds.json", "evaluation.json", "splits.json"
DRIFT, RELEASE = "drift.json", "release.json"
OTHER = "e" * 64
NARROW = {"low": -0.001, "high": 0.001, "level": 0.95, "method": "zou-donner"}
EXPECTED, CARD, RECORD, OWN = "golden/expected.json", "model_card.json", "bundle.json", "manifest.json"


def of(name, change):
    """Change the content of one record."""
    return lambda forger: change(forger.json(name))


def both(change):
    """Change the policy in its file and in the report alike."""

    def forge(forger):
        change(forger.json(THRESHOLDS))
        change(forger.json(REPORT)["policies"]["threshold"]["policy"])

    return forge


def step(name, **fields):
    """Change fields of a manifest before what follows from them is computed again."""
    return lambda forger: forger.lineage(name).update(fields)


def twist(name, **fields):
    """Change fields of a manifest that follow from the rest of it."""
    return lambda forger: forger.twists.update({name: lambda manifest: manifest.update(fields)})


def metric(name, **values):
    return lambda forger: forger.json(name)["metrics"].update(values)


def setting(name, **values):
    return lambda forger: forger.json(name)["config"].update(values)


def better_mcc(report):
    """Claim it of the level `as_is` too: a level that contradicts the figures is refused while it is read."""
    for part in (report["policies"]["threshold"], report["conditions"]["policies"]["threshold"][0]):
        part["metrics"].update(mcc=0.99)


def without_gate(report):
    del report["policies"]["gate"], report["conditions"]["policies"]["gate"]


def threshold_report(forger):
    return forger.json(REPORT)["policies"]["threshold"]


def text(name, pattern, replacement):
    def forge(forger):
        changed = re.sub(pattern, replacement, forger.files[name].decode(), count=1)
        assert changed.encode() != forger.files[name]
        forger.files[name] = changed.encode()

    return forge


def filed(pattern, replacement):
    """Change the front matter, by which the hub files it."""
    return text("README.md", pattern, replacement)


def size(role, **values):
    return of(SPLITS, lambda splits: splits["counts"][role].update(values))


def named(name):
    """Give an image another name, in its role and among the groups."""

    def change(splits):
        first = splits["roles"]["train"][0]
        splits["roles"]["train"][0] = name
        splits["group_of"][name] = splits["group_of"].pop(first)

    return of(SPLITS, change)


def move_between_roles(splits):
    splits["roles"]["train"].append(splits["roles"]["val_test"][0])


def repeat(splits):
    splits["roles"]["train"].append(splits["roles"]["train"][0])


def turn_one_label(report):
    report["counts"]["roadwork"] += 1
    report["counts"]["none"] -= 1


def cross_roles(splits):
    test, train = splits["roles"]["val_test"][0], splits["roles"]["train"][0]
    splits["group_of"][test] = splits["group_of"][train]


def repeat_rows(drift, times):
    drift.update(sample=drift["sample"] * times, units=drift["units"] * times)


def better_counts(forger):
    """Claim that nothing was missed, with every metric that follows from the counts."""
    from streetvision_core.eval.metrics import Confusion

    metrics = threshold_report(forger)["metrics"]
    metrics.update(Confusion(metrics["tp"] + 1, metrics["tn"], metrics["fp"], metrics["fn"]).metrics())


def interval(name, low, high):
    return lambda forger: threshold_report(forger)["intervals"][name].update(low=low, high=high)


def first_slice(**values):
    return lambda forger: threshold_report(forger)["slices"][0].update(values)


def covered(**values):
    return lambda forger: threshold_report(forger)["coverage"].update(values)


def optimism(**values):
    return of(REPORT, lambda report: report["calib_minus_test"].update(values))


def card(**values):
    return of(CARD, lambda content: content.update(values))


def licence_of_nobody(forger):
    card(license="cc0-1.0")(forger)
    text("LICENSE", r"folder: .*", "folder: cc0-1.0")(forger)


def judged_from_nowhere(forger):
    """Put another gate into the report than the one that its step published."""
    forger.twists["gate"] = lambda manifest: manifest["output_artifacts"].update(
        {"gate.json": {"sha256": "e" * 64, "size_bytes": 9}}
    )


def certificate(**values):
    def forge(forger):
        forger.json(REPORT)["policies"]["scrc"]["policy"]["certificates"][0].update(values)

    return forge


def golden(**values):
    return lambda forger: forger.json(EXPECTED)["pictures"][0].update(values)


def other_answer(forger):
    first = forger.json(EXPECTED)["pictures"][0]
    first["decision"] = "none" if first["decision"] == "roadwork" else "roadwork"


def all_roadwork(forger):
    for image in forger.json(EXPECTED)["pictures"]:
        image["label"] = 1


def other_reference(forger):
    """Make one step say that it read another manifest of the same run."""

    def change(manifest):
        manifest["input_artifacts"]["images"]["manifest_sha256"] = "e" * 64

    forger.twists["val_calib_logits"] = change


FORGERIES = {
    # Manifests.
    "splits of another data version": (twist("splits", data_version=OTHER), "splits says data_version"),
    "a gate of another data version": (twist("gate", data_version=OTHER), "gate says data_version"),
    "another config hash": (twist("gate", config_hash=OTHER), "gate says config_hash"),
    "another step key": (twist("scrc", step_key=OTHER), "scrc says step_key"),
    "another code than its key": (twist("evaluation", code_version="2"), "evaluation says step_key"),
    "another step": (step("splits", step_name="images"), "one of images"),
    "a time that there is not": (twist("images", started_at="2026-02-31T00:00:00.000000Z"), "started_at"),
    "a month that there is not": (twist("bundle", finished_at="2026-13-01T00:00:00.000000Z"), "finished_at"),
    "another duration": (step("backbone", duration_seconds=3600.0), "backbone says duration_seconds"),
    "another run of Dagster's": (step("backbone", dagster_run_id="ffffffff-0000"), "backbone names the run"),
    "another manifest of the same run": (other_reference, "names another manifest or data version of images"),
    "a role that it may not read": (step("thresholds", roles=["val_test"]), "read val_test"),
    "a role that the bundle may not read": (twist("bundle", roles=["train"]), "bundle read train"),
    "another seed": (step("splits", seed=99), "splits.json seed is 99"),
    # The sizes of roles, and their images.
    "an image in two roles": (of(SPLITS, move_between_roles), "both in train and val_test"),
    "a group in two roles": (of(SPLITS, cross_roles), "the group .* both in"),
    "an image in no role": (of(SPLITS, lambda s: s["roles"]["train"].pop()), "not those with a group"),
    "an image without a group": (of(SPLITS, lambda s: s["group_of"].popitem()), "not those with a group"),
    "an image twice": (of(SPLITS, repeat), "number of images"),
    "an absolute name": (named("/etc/passwd"), "leads out"),
    "a name above the folder": (named("../a.jpg"), "leads out"),
    "a name of Windows": (named("C:\\a.jpg"), "leads out"),
    "a name that steers the terminal": (named("a\x1b[2J.jpg"), "leads out"),
    "more images of a role": (size("train", pictures=999), "images of train"),
    "other classes of a role": (size("train", none=1), "both classes of train"),
    "fewer groups of a role": (size("val_calib", groups=1), "groups of val_calib"),
    "a smaller largest group": (of(SPLITS, lambda s: s["uniting"].update(largest=0)), "largest group"),
    "other shares": (of(SPLITS, lambda s: s["config"].update(seed=5)), "splits.json config"),
    "more images in the index": (metric("lineage/images.json", pictures=9999), "manifest of images 9999"),
    "more images of val_calib": (metric("lineage/val_calib_logits.json", pictures=9999), "pictures is 9999"),
    "another size in the manifest": (metric("lineage/splits.json", val_test=9999), "val_test is 9999"),
    # The policy.
    "a threshold beside its margin": (both(lambda p: p.update(threshold=0.9)), "margin and temperature"),
    "a plateau beside its threshold": (both(lambda p: p.update(plateau_high=0.0)), "plateau"),
    "a better score": (both(lambda p: p["val_calib"].update(score=0.99)), "its counts give"),
    "more calibration images": (both(lambda p: p["val_calib"].update(n=999)), "999 images"),
    "more images of val_select": (both(lambda p: p["val_select"].update(n=999)), "val_select.n is 999"),
    "another recipe": (
        of(REPORT, lambda r: r["policies"]["gate"]["policy"]["chosen_by"].update(coverage=0.5)),
        "chosen_by",
    ),
    "a policy only in its file": (of(THRESHOLDS, lambda p: p.update(note="x")), "evaluation of the policy"),
    "another optimism of its step": (metric("lineage/thresholds.json", optimism=0.0001), "shows optimism"),
    "another temperature": (metric("lineage/thresholds.json", temperature=2.0), "temperature 2.0"),
    # The certificate; the shipped policy is another one, and its claims are in the report.
    "a certificate of fewer errors": (certificate(k=0, upper_bound=0.001), "give upper_bound|upper_bound"),
    "a certificate of more accepted": (certificate(m=10**6), "do not rise"),
    "a certificate of another alpha": (certificate(alpha=0.01), "chosen to certify|at most alpha|needed"),
    "a certificate of another delta": (certificate(delta=0.01), "delta|upper_bound|give"),
    "a certificate of a lower bound": (certificate(upper_bound=0.01), "give upper_bound"),
    "other words": (
        lambda f: f.json(REPORT)["policies"]["scrc"]["policy"].update(guarantee="Never wrong."),
        "words of the guarantee",
    ),
    "more certified units": (metric("lineage/scrc.json", units=999), "units"),
    "another certified bound": (metric("lineage/scrc.json", upper_bound=0.001), "upper_bound 0.001"),
    "a judged policy that no step made": (judged_from_nowhere, "gate"),
    # The report.
    "a better MCC": (of(REPORT, better_mcc), "mcc at .*does not give"),
    "fewer misses": (better_counts, "counts"),
    "more tested images": (of(REPORT, lambda r: r["counts"].update(n=999)), "999"),
    "another share of roadwork": (of(REPORT, turn_one_label), "counts.roadwork"),
    "a larger coverage": (covered(share=0.5), "a share of 0.5"),
    "an interval beside its figure": (interval("mcc", 0.9901, 0.9999), "outside its interval"),
    "an accuracy beside its interval": (interval("accuracy", 0.0, 0.001), "outside its interval"),
    "more groups than images": (covered(groups=999), "999 groups"),
    "a slice of more images": (first_slice(n=999), "of each of the"),
    "a readable slice": (first_slice(too_small=False), "images and"),
    "a slice left out": (lambda f: threshold_report(f)["slices"].pop(), "sliced alike"),
    "no optimism": (optimism(difference=0.0), "calib_minus_test"),
    "an interval of the optimism": (optimism(interval=NARROW), "calib_minus_test"),
    "a policy fewer": (of(REPORT, without_gate), "its step was given"),
    "better figures of its step": (metric("lineage/evaluation.json", gate_coverage=1.5), "gate_coverage"),
    "better figures of the bundle": (metric(OWN, coverage=0.5), "manifest.json shows coverage"),
    # The card and the texts.
    "a better card": (lambda f: f.json(CARD)["metrics"].update(mcc=0.99), "model_card.json shows mcc"),
    "a card with more": (lambda f: f.json(CARD)["metrics"].update(safety=1.0), "shows safety"),
    "a card of another name": (card(model_name="other"), "model_name is 'other'"),
    "a card of another miner": (card(submitted_by="thief"), "submitted_by is 'thief'"),
    "a card of another version": (card(version="9.9.9"), "version is '9.9.9'"),
    "a card of another licence": (card(license="cc0-1.0"), "licence 'cc0-1.0'"),
    "a licence that nobody gave": (
        licence_of_nobody,
        "neither the configured one",
    ),
    "a card that is degenerate": (card(degenerate=["it guesses"]), "degenerate"),
    "a better README": (text("README.md", r"\| mcc \| -?\d\.\d+", "| mcc | 0.990"), "README.md shows mcc"),
    "a better front matter": (filed(r"value: \S+\n( +)name: F1", r"value: 0.5\n\1name: F1"), "with f1"),
    "a figure by another name": (filed("name: Accuracy", "name: MCC"), "with accuracy"),
    "a narrower front matter": (filed(r"low: \S+", "low: 0.0"), "with matthews_correlation"),
    "a front matter with more": (filed("- type: f1", "- type: auc"), "the figure auc"),
    "a front matter of another licence": (filed("license: mit", "license: unlicense"), "filed under"),
    "a front matter twice": (filed("library_name", "license: mit\nlibrary_name"), "spelled"),
    "a front matter with a comment": (filed("library_name", "# value: 1\nlibrary_name"), "spelled"),
    "a front matter that refers to itself": (filed("tags:", "tags: &a [*a]\ntags:"), "spelled"),
    "fewer misses in the README": (text("README.md", r"\d+ misses", "999 misses"), "hits, misses"),
    "a backbone of another name": (of(RECORD, lambda r: r.update(backbone_id="resnet50")), "backbone_id"),
    "another policy than configured": (setting(OWN, policy="gate"), "policy.type"),
    "redacted by its settings alone": (setting(OWN, lineage="redacted"), "config.lineage"),
    # What new images are compared with.
    "more compared units": (of(DRIFT, lambda d: repeat_rows(d, 9)), "drift.json units is"),
    "another number of units": (of(DRIFT, lambda d: d.update(units=1)), "rows of one length"),
    "a shorter row": (of(DRIFT, lambda d: d["sample"][0].pop()), "rows of one length"),
    "a margin beyond float32": (of(DRIFT, lambda d: d["sample"].__setitem__(0, [1e300] * 17)), "sample"),
    # The verdict by the release rules.
    "a released policy with other figures": (
        of(RELEASE, lambda r: r["rules"]["min_mcc"].update(low=0.9)),
        "release.json says rules",
    ),
    "a verdict that its rules do not give": (
        of(RELEASE, lambda r: r.update(releasable=not r["releasable"])),
        "its rules do not give",
    ),
    "a rule that was relaxed": (
        setting(OWN, release={"min_mcc": 0.25, "max_fnr": None, "max_fpr": None}),
        "release.json says rules",
    ),
    "a rule fewer": (
        setting(OWN, release={"min_mcc": 0.0, "max_fnr": 0.9, "max_fpr": None}),
        "release.json says rules",
    ),
    "a verdict without rules": (setting(OWN, release=None), "one is missing"),
    "rules that cannot be": (setting(OWN, release={"min_mcc": 7}), "cannot be"),
    "a verdict of other conditions": (of(RELEASE, lambda r: r.update(conditions="camera")), "conditions"),
    # The golden images.
    "another golden answer": (other_answer, "its logits give"),
    "a golden image that is deferred": (golden(decision="defer"), "its logits give"),
    "another golden probability": (golden(probability=0.123), "its logits give"),
    "golden images of one label": (all_roadwork, "golden images"),
    "a loose tolerance": (of(EXPECTED, lambda e: e.update(tolerance=0.05)), "tolerance"),
    "a golden label of neither class": (golden(label=2), "label"),
    "more golden images than asked for": (setting(OWN, golden=2), "asked for 2"),
}  # fmt: skip


@pytest.mark.parametrize(("forge", "match"), FORGERIES.values(), ids=FORGERIES)
def test_a_contradiction_is_refused_by_name(bundle, tmp_path, forge, match):
    refuse_forgery(bundle, forge, match, tmp_path / "f")


def test_the_forger_forges_well(bundle, tmp_path):
    """Without a change it writes the very bundle, and a change that contradicts nothing passes."""
    same = Forger(bundle).write(tmp_path / "same")
    assert {name: (same / name).read_bytes() for name in names_in(same)} == {
        name: (bundle / name).read_bytes() for name in names_in(bundle)
    }
    other = Forger(bundle)
    other.json(THRESHOLDS)["note"] = other.json(REPORT)["policies"]["threshold"]["policy"]["note"] = "other"
    other.lineage("images")["code_version"] = "3"
    verify_bundle(other.write(tmp_path / "other"), deep=True)


SPELLINGS = {
    "a blank at the end": lambda data: data + b" ",
    "a line more": lambda data: data + b"\n",
    "no line end": lambda data: data[:-1],
    "on one line": lambda data: json.dumps(json.loads(data)).encode(),
    "another order": lambda data: (
        json.dumps(dict(reversed(json.loads(data).items())), indent=1).encode() + b"\n"
    ),
    "a name twice": lambda data: data.replace(b"{", b'{"x": 1, "x": 2,', 1),
    "not a number": lambda data: data.replace(b"{", b'{"x": NaN,', 1),
    "an infinity": lambda data: data.replace(b"{", b'{"x": -Infinity,', 1),
    "half a letter": lambda data: data.replace(b"{", b'{"x": "\\ud800",', 1),
    "an infinite exponent": lambda data: data.replace(b"{", b'{"x": 1e999,', 1),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_a_record_in_other_bytes_is_refused(bundle, tmp_path, spell):
    """Two readers could see two things in it, or one of them a digest that the other cannot compute."""
    for place, name in enumerate(
        ("tensors.json", CARD, "lineage/images.json", "lineage/private/images.json")
    ):
        data = spell((bundle / name).read_bytes())
        forged = forge(bundle, tmp_path / str(place), files={name: data})
        refused(forged, "canonical|unambiguous")
        assert independent.verify(forged)


def test_a_manifest_in_other_bytes_is_refused_though_its_own_digest_fits(bundle, tmp_path):
    forged = copy(bundle, tmp_path / "f")
    content = json.loads((forged / OWN).read_bytes())
    rest = {name: value for name, value in content.items() if name != "manifest_digest"}
    text = json.dumps(rest, sort_keys=True, indent=1).replace(' "seed": null,', ' "seed":  null,') + "\n"
    digest = bytes_digest(text.encode())
    own = f' "manifest_digest": "{digest}",\n "metrics": '
    (forged / OWN).write_text(text.replace(' "metrics": ', own, 1))
    refused(forged, "canonical")


def test_weights_below_the_last_layer_are_those_that_were_trained(bundle, tmp_path):
    """No golden image need be answered otherwise: a tensor's digest gives it away."""
    from safetensors.torch import load, save

    def forged(target, name):
        state = load((bundle / "model.safetensors").read_bytes())
        state[name].view(-1)[0] += 1e-6
        return forge(bundle, tmp_path / target, files={"model.safetensors": save(state)})

    with pytest.raises(BundleError, match="1 tensors are not those that were trained, conv1"):
        verify_bundle(forged("trunk", "conv1.0.weight"), deep=True)
    assert independent.verify(tmp_path / "trunk")
    verify_bundle(forged("head", "fc.bias"), deep=True)
    assert independent.verify(tmp_path / "head") == ""


def test_tensors_that_the_checkpoint_does_not_have_are_refused(bundle, tmp_path):
    forger = Forger(bundle)
    forger.json("tensors.json")["more"] = forger.json("tensors.json").pop("fc.bias")
    with pytest.raises(BundleError, match="names other tensors"):
        verify_bundle(forger.write(tmp_path / "f"), deep=True)
    refused(forge(bundle, tmp_path / "g", files={"tensors.json": None}), "tensors.json as the step")


def test_a_verdict_cannot_be_left_out(bundle, tmp_path):
    forged = forge(bundle, tmp_path / "f", files={RELEASE: None})
    refused(forged, "release rules in manifest.json and the verdict in release.json one is missing")
    assert independent.verify(forged)


def test_the_manifest_is_the_one_that_somebody_named(bundle, tmp_path):
    """It is hashed as it was read for everything else; whoever forges consistently ends here."""
    digest = bytes_digest((bundle / OWN).read_bytes())
    forger = Forger(bundle)
    forger.json(OWN)["code_version"] = "3"
    forged = forger.write(tmp_path / "f")
    verify_bundle(forged)
    for use in (verify_bundle, load_bundle, Predictor.load):
        assert independent.verify(bundle, digest) == ""
        use(bundle, manifest_sha256=digest)
        with pytest.raises(BundleError, match="as you were told, but found one with"):
            use(forged, manifest_sha256=digest)


def test_the_command_line_takes_the_manifest_that_somebody_named(bundle, capsys):
    digest, image = bytes_digest((bundle / OWN).read_bytes()), str(bundle / "golden/001.jpg")
    assert main(["verify", str(bundle), "--manifest-sha256", digest.upper()]) == 0
    assert main(["verify", str(bundle), "--manifest-sha256", OTHER]) == 1
    assert main(["predict", "--manifest-sha256", digest, str(bundle), image]) == 0
    assert capsys.readouterr().out.endswith("}\n")
    assert main(["predict", "--manifest-sha256", OTHER, str(bundle), image]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "as you were told" in printed.err


@pytest.mark.parametrize(
    "words", [["some_run", "--manifest-sha256", "0" * 64], [".", "--manifest-sha256", "12"]]
)
def test_a_digest_of_no_bundle_is_wrong_usage(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["verify", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_verifier_that_shares_no_code_agrees_on_good_bundles(bundle, scrc_bundle, golden_705fcbb):
    """It refuses the forgeries above, too: docs/bundle.md says all that there is to verify."""
    older = [path.parent for path in golden_705fcbb.root.glob("runs/*/bundle/manifest.json")]
    assert len(older) == 3
    for good in (bundle, scrc_bundle, *older):
        assert independent.verify(good) == ""
        assert independent.verify(good, OTHER).startswith("the manifest you were told of")


def test_the_specification_names_every_pair_that_is_compared():
    pairs = set(independent.PAIRS)
    assert {(left, "=", right) for left, right in agreement.EQUAL} <= pairs
    assert {(left, "<=", right) for left, right in agreement.AT_MOST} <= pairs


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "README.md").write_bytes(b"Trust me."),
        lambda folder: (folder / "extra.txt").write_bytes(b""),
        lambda folder: (folder / "LICENSE").unlink(),
        lambda folder: (folder / "golden/more").mkdir(),
        lambda folder: (folder / "golden/link.jpg").symlink_to("001.jpg"),
    ],
)
def test_both_verifiers_refuse_a_folder_with_other_files(bundle, tmp_path, change):
    moved = copy(bundle, tmp_path / "moved")
    change(moved)
    refused(moved, "README|LICENSE|lists|link|folder")
    assert independent.verify(moved)
