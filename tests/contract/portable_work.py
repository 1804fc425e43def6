"""Actions of a process without POSIX, each by its name; the first import takes POSIX away."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.pop(1)

import tests.contract.without_posix  # noqa: F401

RUN = "20261121T093000-0a1b2c3d"
KEY = "a" * 64


def read_bundle(folder):
    """Load, verify deeply and predict."""
    from streetvision_core.bundle import Predictor, load_bundle, verify_bundle

    loaded = load_bundle(folder)
    print(verify_bundle(folder, deep=True).golden, len(loaded.contents.files))
    images = sorted((Path(folder) / "golden").glob("*.[jp][pn]g"))
    for answer in Predictor.load(folder).predict(images):
        print(Path(answer.name).name, answer.decision)


def refuse_bundle(folder):
    """Say why a bundle is refused."""
    from streetvision_core.bundle import load_bundle
    from streetvision_core.errors import StreetVisionError

    try:
        load_bundle(folder)
    except StreetVisionError as error:
        print(type(error).__name__, error)


def index_demo(folder):
    """Draw the demo, index it, and read an image again from two threads."""
    from concurrent.futures import ThreadPoolExecutor

    from streetvision_core.data.images import ImagesConfig, index_images

    config = ImagesConfig(demo={"images": 40})
    indexed = index_images(config, directory=Path(folder))
    names = [image.name for image in indexed.index.pictures]
    with ThreadPoolExecutor(2) as pool:
        print(len(names), min(map(len, pool.map(indexed.reader.read, names))) > 100)


def publish(folder):
    """Stage, write, publish, resolve, take over and verify."""
    from streetvision_core.io import Artifact, ArtifactStore, atomic_file, create_step_manifest
    from streetvision_core.io.atomic import StagedFile

    store = ArtifactStore(Path(folder) / "store")
    for run, content in ((RUN, b"one\n"), (RUN.replace("0a", "1a"), b"two\n")):
        directory = store.stage(run, "step")
        with atomic_file(directory / "large.bin") as large:
            large.temporary.write_bytes(content * 1000)
        staged = StagedFile.at(directory / "large.bin", large.sha256)
        written = store.write(directory, Artifact({"below/small.json": content, "large.bin": staged}))
        manifest = create_step_manifest(
            step_name="step", input_paths=[], output_paths=[directory / name for name in written],
            output_dir=directory, config={}, run_id=run,
        )  # fmt: skip
        published = store.publish(directory, manifest)
        assert not published.problems(), published.problems()
    current = store.resolve("step")
    print(current.manifest.run_id, current.read_bytes("below/small.json"), store.current_steps())
    again = store.stage(RUN.replace("0a", "2a"), "step")
    origin = store.take_over(again, step_key=current.manifest.step_key)
    print(origin.manifest.run_id, (again / "below/small.json").read_bytes())
    store.sweep()
    print(sorted(path.name for path in (Path(folder) / "store").rglob("*.claim")))


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
