"""The pointer to the champion: written whole, alone, never pointing to what is gone."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from streetvision_core.cli import main
from streetvision_core.errors import MissingArtifactError, SchemaError
from streetvision_core.history.champion import champion_file, find_champion, move_champion, read_champion
from streetvision_core.history.remove import collect
from streetvision_core.history.verify import verify_current, verify_everything
from tests.history.conftest import FIRST, SECOND
from tests.history.made import make, make_run


def crown(store, run_id):
    bundle = store.resolve("bundle", run_id=run_id)
    assert move_champion(store, bundle, beaten=read_champion(store))
    return bundle


def test_of_many_at_once_one_wins_and_no_reader_sees_anything_torn(store):
    bundles = [store.resolve("bundle", run_id=run_id) for run_id in (FIRST, SECOND)] * 8
    with ThreadPoolExecutor(8) as pool:
        moved = list(pool.map(lambda bundle: move_champion(store, bundle, beaten=None), bundles))
        for _ in range(20):
            assert read_champion(store) in bundles
    assert sum(moved) == 1
    assert verify_everything(store).good


def test_a_collection_keeps_the_champion_and_what_it_was_made_from(store):
    crown(store, FIRST)
    make_run(store, "20261123T110000-dddddddd", configs={"images": {"demo": {"pictures": 9, "seed": 1}}})
    collect(store, keep_runs=0)
    champion = find_champion(store)
    assert champion.manifest.run_id == FIRST
    for name in champion.manifest.input_artifacts:
        assert store.input_of(champion, name).problems() == []
    with pytest.raises(MissingArtifactError):
        store.resolve("bundle", run_id=SECOND)
    champion_file(store).unlink()
    collect(store, keep_runs=0)
    with pytest.raises(MissingArtifactError):
        store.resolve("bundle", run_id=FIRST)


def test_a_collection_clears_away_what_a_killed_promotion_left(store):
    crown(store, FIRST)
    left = champion_file(store).with_name(".bundle.json.0123456789abcdef.partial")
    left.write_bytes(b"{")
    assert verify_everything(store).good
    collect(store, keep_runs=9)
    assert not left.exists()
    assert find_champion(store).manifest.run_id == FIRST


def test_a_challenger_that_was_collected_meanwhile_is_no_champion(store):
    bundle = store.resolve("bundle", run_id=FIRST)
    collect(store, keep_runs=0)
    with pytest.raises(MissingArtifactError):
        move_champion(store, bundle, beaten=None)
    assert read_champion(store) is None


@pytest.mark.parametrize("verify", [verify_current, verify_everything])
def test_verify_looks_at_the_champion(store, verify):
    first = crown(store, FIRST)
    report = verify(store)
    assert report.good
    assert (FIRST, "bundle") in {(artifact.run_id, artifact.step) for artifact in report.checked}
    path = champion_file(store)
    pointer = path.read_bytes()
    path.write_bytes(pointer.replace(first.manifest_sha256.encode(), b"0" * 64))
    assert "vouches for another manifest" in verify(store).text()
    path.write_bytes(pointer.replace(FIRST.encode(), b"20261121T090000-ffffffff"))
    assert "which is missing" in verify(store).text()
    path.write_bytes(b"{}")
    assert not verify(store).good


def test_a_pointer_that_leads_elsewhere_is_refused_with_what_to_do(store):
    splits = make(store, "20261124T110000-eeeeeeee", "splits", config={"seed": 9})
    with store.exclusive():
        pass
    path = champion_file(store)
    path.parent.mkdir()
    manifest = f"runs/{splits.manifest.run_id}/splits/manifest.json"
    path.write_text(f'{{"manifest": "{manifest}", "sha256": "{splits.manifest_sha256}"}}')
    with pytest.raises(SchemaError, match="promote again"):
        read_champion(store)


def test_the_runs_mark_the_champion_whatever_is_current(store, capsys):
    crown(store, FIRST)
    assert main(["runs", "--all", "--store", str(store.root)]) == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if "(champion)" in line]
    assert len(marked) == 1
    assert "bundle (champion)" in marked[0]


def test_one_champion_has_no_run_of_its_own(store, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["path", "champion", "--run", FIRST, "--store", str(store.root)])
    assert ended.value.code == 2
    assert "there is one champion" in capsys.readouterr().err
