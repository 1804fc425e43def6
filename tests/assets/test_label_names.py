"""Class names of a Parquet file, from the run configuration to the splits, through the real graph."""

from itertools import permutations

import pytest

from streetvision_core.data.index import ImageIndex
from streetvision_core.data.splits import Splits
from tests.assets.graph import Graph, paragraph
from tests.data.test_labels import pushed

ORDERS = [*permutations(["None", "Roadwork"]), *permutations(["construction", "normal"])]
IMAGES = 16


@pytest.mark.parametrize("names", ORDERS, ids="-".join)
def test_an_inverted_class_label_never_reaches_the_splits(tmp_path, names):
    """The odd images hold the works, whatever their number is."""
    works = next(number for number, name in enumerate(names) if name in {"Roadwork", "construction"})
    pushed(tmp_path / "data" / "a.parquet", names, [works if n % 2 else 1 - works for n in range(IMAGES)])
    parquet = {"path": str(tmp_path / "data")}
    (tmp_path / "graph").mkdir()
    graph = Graph(tmp_path / "graph")

    def materialize(**words):
        config = {"images": {"config": {"parquet": {**parquet, **words}}}}
        return graph.run("make_bundle", steps=["images", "splits"], config=config)

    result = materialize()
    if "None" not in names:
        assert not result.success
        assert 'none: ["normal"] and roadwork: ["construction"]' in paragraph(result)
        result = materialize(none=["normal"], roadwork=["construction"])
    assert result.success, paragraph(result)
    index = ImageIndex.from_artifact(graph.current("images"))
    assert [image.label for image in index.pictures] == [n % 2 for n in range(IMAGES)]
    counts = Splits.from_artifact(graph.current("splits")).counts.values()
    assert sum(count.roadwork for count in counts) == IMAGES // 2
    graph.instance.dispose()
