"""The process in which scenarios fail: `python -I -S -B worker.py PATHS` (`Worker` talks to it).

It imports everything once. For each job (a line of JSON) it forks, prints the process id of the child,
and lets it start on the byte that follows; so strace can be attached to the child alone, and sees nothing
but the scenario. Then it prints how the child ended. Temporary names are counted, not drawn, so that
every call of a scenario can be named in the next run.
"""

import itertools
import json
import os
import sys
import traceback
import zlib
from pathlib import Path


def answer_of(job):
    from streetvision_core.errors import IntegrityError, StoreError
    from tests.faults import scenarios

    if job["uid"]:
        os.setgroups([])
        os.setgid(job["uid"])
        os.setuid(job["uid"])
    if job["broken_before_flush"]:
        break_before_flush(**job["broken_before_flush"])
    try:
        scenarios.run(Path(job["root"]), job["scenario"], job["label"])
    except (StoreError, IntegrityError) as error:
        return {"error": str(error)}
    except BaseException:  # noqa: BLE001 - the parent reports it as the fault it is
        return {"crash": traceback.format_exc()}
    return {}


def break_before_flush(number, switch):
    """Write to `switch`, which breaks the file system, just before the flush of that number."""
    numbers, fsync = itertools.count(1), os.fsync

    def fsync_or_break(descriptor):
        if next(numbers) == number:
            Path(switch).write_text("1", encoding="utf-8")
        fsync(descriptor)

    os.fsync = fsync_or_break


def child(job, answer_to):
    import secrets

    numbers = itertools.count(zlib.crc32(job["label"].encode()) << 16)
    secrets.token_hex = lambda count: f"{next(numbers):0{2 * count}x}"
    os.read(0, 1)
    answer = json.dumps(answer_of(job)).encode()
    os.write(answer_to, answer)
    os._exit(0)


def main():
    sys.path[:0] = json.loads(sys.argv[1])
    import tests.faults.scenarios  # noqa: F401 - so that no child imports anything while it is watched

    for line in sys.stdin:
        job = json.loads(line)
        answer_from, answer_to = os.pipe()
        process = os.fork()
        if process == 0:
            child(job, answer_to)
        os.close(answer_to)
        print(process, flush=True)
        with os.fdopen(answer_from, "rb") as pipe:
            answer = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        print(json.dumps({"code": code, **json.loads(answer or b"{}")}), flush=True)


if __name__ == "__main__":
    main()
