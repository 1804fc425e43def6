"""Kill the job at random moments, again and again, and look at the store after each kill.

Usage: PYTHONPATH=. python benchmarks/kill_soak.py [KILLS] [SEED]

Every place is killed one to four times in a row before a run may finish there; that one has to come to the
result of a run that nobody disturbed. Ends at the first fault, with the seed that shows it again.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from _common import machine_line, print_table

sys.path.insert(0, str(Path(__file__).parents[1]))

from streetvision_core.io import ArtifactStore
from tests.bundle.chain import draw_images
from tests.e2e.kills import digests, faults, leftovers, logs_of, run, start
from tests.zygote import zygote


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    scratch = Path(tempfile.mkdtemp())
    pictures = scratch / "pictures"
    pictures.mkdir()
    draw_images(pictures)
    try:
        soak(pictures, scratch, kills=kills, seed=seed)
    finally:
        shutil.rmtree(scratch)


def soak(pictures: Path, scratch: Path, *, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    began = time.monotonic()
    assert run(scratch / "undisturbed", pictures) == 0
    seconds = time.monotonic() - began
    expected = digests(ArtifactStore(scratch / "undisturbed" / "store"))
    done, at = 0, Counter()
    while done < kills:
        root = scratch / "place"
        store = ArtifactStore(root / "store")
        for _ in range(min(moments.randint(1, 4), kills - done)):
            moment = moments.uniform(0, seconds)
            pid = start(root, pictures)
            time.sleep(moment)
            zygote().kill(pid)
            zygote().wait(pid)
            done += 1
            at[len(list(store.root.glob("latest/*.json")))] += 1
            assert faults(store) == [], f"seed {seed}, kill {done} after {moment:.2f} s"
        assert run(root, pictures) == 0, f"seed {seed}, after kill {done}: {logs_of(root)}"
        assert digests(store) == expected, f"seed {seed}, after kill {done}"
        assert faults(store) + leftovers(store) == [], f"seed {seed}, after kill {done}"
        shutil.rmtree(root)
        print(f"{done} kills, no fault", file=sys.stderr)
    print_table(
        f"{done} kills of the job, seed {seed}: no fault",
        machine=machine_line("dagster", "torch", "lightning"),
        columns=["steps published when it was killed", "kills"],
        rows=[[steps, at[steps]] for steps in sorted(at)],
    )


if __name__ == "__main__":
    main()
