"""`streetvision promote`: which bundle becomes the champion, and which one never does."""

import json
import shutil

import pytest

from streetvision_assets.definitions import defs
from streetvision_core.bundle import load_bundle
from streetvision_core.bundle.verify import release_of
from streetvision_core.cli import main
from streetvision_core.commands.promote import promote
from streetvision_core.data.splits import SplitsConfig
from streetvision_core.errors import StreetVisionError
from streetvision_core.history import champion
from streetvision_core.history.champion import read_champion
from streetvision_core.history.verify import verify_everything
from streetvision_core.io.claims import release
from streetvision_core.policies.config import GateConfig, ThresholdsConfig
from streetvision_core.policies.gate_fit import train_gate
from streetvision_core.policies.threshold import fit_threshold_policy
from tests.bundle.chain import RUN as STRONG
from tests.bundle.chain import SEEN, evaluate_again, fitted_on, make_chain, small_recipe
from tests.history.made import copy_store, damage

WEAK, STRICT, GATE, BLIND = (f"20261121T1000{number:02}-0000000{number}" for number in range(4))


def make_rivals(root):
    """Bundles of one checkpoint on the same 60 test images, each with a threshold or rules of its own."""
    shares = SplitsConfig(seed=4, val_select=0.15, val_calib=0.15, val_test=0.3)
    chain = make_chain(root, training=small_recipe(), per_class=100, splits_config=shares)
    chain.bundle(STRONG)
    chain.bundle(STRICT, release={"min_mcc": 0.95, "max_fnr": 0.5})
    unjudged = {
        step: artifact
        for step, artifact in chain.upstream.items()
        if step not in {"evaluation", "gate", "scrc"}
    }
    chain.bundle(BLIND, upstream=unjudged)
    settings = {"objective": {"kind": "recall_at_least", "recall": 0.95, "delta": None}}
    config = ThresholdsConfig.model_validate(settings)
    checkpoint, given = fitted_on(chain)
    pictures, version = chain.pictures("train", "val_select"), given["checkpoint_version"]
    wide = GateConfig(coverage=0.95)
    gate = train_gate(
        checkpoint, index=chain.index, splits=chain.splits, images=pictures, config=wide,
        checkpoint_version=version,
    )  # fmt: skip
    seen = (*SEEN, "phase1_checkpoint")
    chain.publish("gate", gate.to_artifact(), inputs=seen, run_id=GATE, config=wide.model_dump())
    evaluate_again(chain, run_id=GATE)
    chain.bundle(GATE, policy="gate")
    weak = fit_threshold_policy(**given, config=config)
    inputs = ("phase1_checkpoint", "val_calib_logits")
    chain.publish(
        "thresholds",
        weak.to_artifact(),
        inputs=inputs,
        run_id=WEAK,
        config=weak.policy.chosen_by.model_dump(),
    )
    evaluate_again(chain, run_id=WEAK)
    chain.bundle(WEAK)
    for run_id in (STRONG, GATE, STRICT, BLIND, WEAK):
        release(chain.store.root / "runs" / run_id)  # this process lives on
    return chain.store


@pytest.fixture(scope="module")
def rivals(tmp_path_factory):
    """The rivals of this module. Nobody writes here."""
    return make_rivals(tmp_path_factory.mktemp("rivals"))


@pytest.fixture
def store(rivals, tmp_path, monkeypatch):
    store = copy_store(rivals, tmp_path / "store")
    monkeypatch.setenv("STREETVISION_STORE", str(store.root))
    return store


def of(store, run_id):
    return store.resolve("bundle", run_id=run_id)


def refused(store, run_id, capsys):
    """Return the paragraph of a promotion that changes nothing."""
    before = read_champion(store)
    capsys.readouterr()
    assert main(["promote", run_id]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert read_champion(store) == before
    return printed.err


def test_the_first_champion_needs_only_to_be_releasable(store, capsys):
    assert main(["path", "champion"]) == 1
    assert "streetvision promote" in capsys.readouterr().err
    assert main(["promote", WEAK]) == 0
    assert f"{WEAK} is the champion now, the first one. It is releasable: MCC 0." in capsys.readouterr().out
    assert main(["path", "champion"]) == 0
    assert capsys.readouterr().out == f"{of(store, WEAK).directory}\n"
    assert main(["runs", "--all"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "bundle* (champion)" in line]
    assert verify_everything(store).good


def test_a_challenger_that_wins_by_pairs_becomes_the_champion(store, capsys):
    promote(store, of(store, WEAK))
    assert main(["promote", STRONG]) == 0
    text = capsys.readouterr().out
    assert f"A  {WEAK}, the champion until now" in text
    assert "B is better: p is below 0.05 and the interval excludes 0." in " ".join(text.split())
    assert read_champion(store) == of(store, STRONG)


def test_a_challenger_that_loses_is_refused_with_the_numbers(store, capsys):
    promote(store, of(store, STRONG))
    text = refused(store, WEAK, capsys)
    assert text.startswith(f"Expected a challenger that beats the champion: A, the champion of run {STRONG}")
    assert "A is better: p is below 0.05" in text
    assert "B - A -0." in text
    assert "60 in 60 groups" in text


def test_two_policies_are_compared_where_both_answer(store, capsys):
    promote(store, of(store, STRONG))
    text = refused(store, GATE, capsys)
    assert "A answers 100.0% of the images, B " in text
    assert "No difference can be told" in text or "Both answer alike" in text


def test_nobody_wins_by_deferring_what_is_hard(store, capsys):
    """On the images that both answer the gate is better than the weak threshold; it answers fewer."""
    promote(store, of(store, WEAK))
    text = refused(store, GATE, capsys)
    assert text.startswith("Expected a challenger that answers as many images as the champions, at least 9")
    assert "No promotion lowers this floor" in text
    assert "B is better" in text


def change_pointer(store, change):
    path = champion.champion_file(store)
    pointer = json.loads(path.read_bytes())
    change(pointer)
    path.write_text(json.dumps(pointer))


def floor_of(store):
    return json.loads(champion.champion_file(store).read_bytes()).get("coverage_floor")


def test_the_floor_of_coverage_is_kept_and_no_promotion_lowers_it(store):
    """A floor of the current champion's own would sink with each champion that just keeps it."""
    promote(store, of(store, WEAK))
    own = floor_of(store)
    assert 0.9 < own < 0.999
    change_pointer(store, lambda pointer: pointer.update(coverage_floor=0.999))
    promote(store, of(store, STRONG))
    assert floor_of(store) == 0.999
    assert verify_everything(store).good
    champion.champion_file(store).unlink()
    promote(store, of(store, WEAK))
    change_pointer(store, lambda pointer: pointer.update(coverage_floor=0.1))
    promote(store, of(store, GATE))
    assert 0.1 < floor_of(store) < own


def test_a_pointer_of_before_the_floor_has_that_of_its_champion(store, capsys):
    promote(store, of(store, WEAK))
    own = floor_of(store)
    change_pointer(store, lambda pointer: pointer.pop("coverage_floor"))
    assert f"at least {own:.1%}" in refused(store, GATE, capsys)
    promote(store, of(store, STRONG))
    assert floor_of(store) == own


@pytest.mark.parametrize("floor", [True, "0.9", 1.5, None])
def test_a_floor_that_is_no_share_is_damage(store, floor):
    promote(store, of(store, WEAK))
    change_pointer(store, lambda pointer: pointer.update(coverage_floor=floor))
    with pytest.raises(StreetVisionError, match="promote again"):
        read_champion(store)


def test_a_model_with_a_bad_mcc_stays_out(store, capsys):
    """It is whole and it would win, and nobody gets it as the champion."""
    assert load_bundle(of(store, STRICT).directory).release.releasable is False
    text = refused(store, STRICT, capsys)
    assert "not releasable: min_mcc 0.95: MCC 0." in text
    assert "which has to be above 0.95" in text
    assert not (store.root / "champion").exists()
    promote(store, of(store, WEAK))
    refused(store, STRICT, capsys)


def test_what_nobody_judged_stays_out(store, capsys):
    assert "no evaluation judged this policy" in refused(store, BLIND, capsys)


def test_the_same_content_is_no_challenger(store, capsys):
    promote(store, of(store, STRONG))
    before = champion.champion_file(store).lstat().st_mtime_ns
    assert main(["promote", STRONG]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert champion.champion_file(store).lstat().st_mtime_ns == before


def test_a_damaged_challenger_and_a_damaged_champion_are_told_apart(store, capsys):
    promote(store, of(store, WEAK))
    damage(of(store, STRONG).path("model.safetensors"))
    assert "model.safetensors" in refused(store, STRONG, capsys)
    champion.champion_file(store).write_bytes(b"{}")
    assert main(["path", "champion"]) == 1
    assert "and promote again" in capsys.readouterr().err
    assert main(["promote", WEAK]) == 1


def test_whoever_loses_the_race_is_compared_with_the_new_champion(store, monkeypatch):
    """Another bundle became the champion between its comparison and its move."""
    move = champion.move_champion
    promote(store, of(store, WEAK))

    def after_another(store, challenger, *, beaten, floor):
        monkeypatch.setattr(champion, "move_champion", move)
        assert move(store, of(store, GATE), beaten=beaten)
        return move(store, challenger, beaten=beaten, floor=floor)

    monkeypatch.setattr(champion, "move_champion", after_another)
    with pytest.raises(StreetVisionError, match=f"A, the champion of run {GATE}"):
        promote(store, of(store, STRONG))
    assert read_champion(store) == of(store, GATE)


def test_the_job_does_the_same(store, instance):
    job = defs.resolve_job_def("promote")

    def run(name):
        config = {"ops": {"champion": {"config": {"run": name}}}, "loggers": {"console": {}}}
        return job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)

    assert run(WEAK).success
    assert run(STRONG).success
    assert not run(STRICT).success
    assert not run("nobody").success
    assert read_champion(store) == of(store, STRONG)


@pytest.fixture
def instance(tmp_path):
    import dagster as dg

    instance = dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}})
    yield instance
    instance.dispose()


def test_a_bundle_of_before_release_rules_is_judged_by_the_defaults(golden_705fcbb, tmp_path, capsys):
    store = copy_store(golden_705fcbb, tmp_path / "store")
    assert main(["path", "champion", "--store", str(store.root)]) == 1
    bundle = store.resolve("bundle")
    verdict = release_of(bundle)
    assert list(verdict.rules) == ["min_mcc"]
    assert main(["promote", "--store", str(store.root)]) == (0 if verdict.releasable else 1)
    assert (read_champion(store) == bundle) is verdict.releasable
    assert verify_everything(store).good
    shutil.rmtree(store.root / "champion", ignore_errors=True)
    assert verify_everything(store).good
    capsys.readouterr()
