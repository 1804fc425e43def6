"""The command `predict`: images of every form in, answers line by line out."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_core.commands import shared
from streetvision_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streetvision_core.bundle import Bundle, Prediction
    from streetvision_core.inference.answers import Failure, Images
    from streetvision_core.inference.listing import Listing

_MOST_THREADS = 8
_MOST_IN_BATCH = 4096


def add_predict(commands: shared.Commands) -> None:
    """Add `predict`."""
    predict = shared.add(commands, _predict)
    predict.add_argument("path", metavar="BUNDLE", help="the folder of the bundle")
    shared.add_origin(predict)
    predict.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="a file, a folder with all below it, a pattern in quotes, a CSV or Parquet list, or - for names"
        " on standard input",
    )
    predict.add_argument("--column", metavar="NAME", help="of a list (default: path, image or name)")
    predict.add_argument(
        "--root", metavar="FOLDER", help="where paths of a list start and stay (default: its own folder)"
    )
    predict.add_argument("-0", "--null", action="store_true", help="a NUL ends each name, as of find -print0")
    predict.add_argument("--format", choices=["json", "csv"], default="json", help="default: json, in lines")
    predict.add_argument("--output", metavar="FILE", help="go on with this file, or begin it")
    predict.add_argument("--overwrite", action="store_true", help="begin the file of --output anew")
    predict.add_argument("--batch-size", metavar="N", type=_batch_size, default=8, help="default: 8")
    predict.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default: cpu")


def _batch_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_IN_BATCH:
        raise argparse.ArgumentTypeError(f"a number from 1 to {_MOST_IN_BATCH} is expected, not {text!r}")
    return int(text)


def _predict(parsed: argparse.Namespace) -> int:
    """Answer images with a bundle, one line each.

    The bundle is verified first. A line has: picture, probability, decision. Images that cannot be read are
    told on standard error, and the others are answered. A file of --output has a line for each of them too,
    and names the bundle in every line; after a kill the same command goes on with it.
    """
    from streetvision_core.bundle.load import load_bundle
    from streetvision_core.inference.listing import Reading, list_images

    try:
        _check_usage(parsed)
        reading = Reading(parsed.column, parsed.root, null=parsed.null)
        listing = list_images(parsed.images, reading, names=sys.stdin.buffer)
        with _no_collection():
            bundle = load_bundle(parsed.path, **shared.origin_of(parsed))
        if additions := str(bundle.contents.additions):
            shared.tell(f"Beside the bundle: {additions}.")
        failed, count = (_to_file if parsed.output else _to_standard_output)(parsed, bundle, listing)
    except ConfigError as error:
        shared.complain(error)
        return shared.WRONG_USAGE
    if failed and count > 1:
        shared.tell(f"{failed} of {count} images could not be read.")
    return shared.BAD if failed else shared.GOOD


def _check_usage(parsed: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is loaded."""
    if parsed.overwrite and not parsed.output:
        parsed.parser.error("--overwrite is for the file of --output")
    if parsed.output:
        shared.check_outside(parsed.output, parsed.path)
    if parsed.output and os.path.realpath(parsed.output) in map(os.path.realpath, parsed.images):
        action = "Its content would be lost: name another."
        raise ConfigError("a file of answers", "an image or a list that is named", parsed.output, action)
    if parsed.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("a GPU that torch can use", "none", "--device cuda", "Leave --device out.")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking for garbage while libraries load, which is half a second of their import."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _to_standard_output(parsed: argparse.Namespace, bundle: Bundle, listing: Listing) -> tuple[int, int]:
    """Print the answers; return how many images could not be read, of how many."""
    from streetvision_core.inference.answers import ANSWER, FORMATS, Failure, answer_row

    form, output = FORMATS[parsed.format](ANSWER), sys.stdout.buffer
    output.write(form.header)

    def write(answer: Prediction | Failure) -> None:
        if not isinstance(answer, Failure):
            output.write(form.encode(answer_row(answer)))
            output.flush()

    return _answer(parsed, bundle, listing.images, write, count=listing.count)


def _to_file(parsed: argparse.Namespace, bundle: Bundle, listing: Listing) -> tuple[int, int]:
    """Append the answers that the file lacks; return how many images could not be read, of how many."""
    from streetvision_core.inference.answers import AnswerFile

    with AnswerFile.open(
        Path(parsed.output),
        form=parsed.format,
        manifest_sha256=bundle.contents.manifest_sha256,
        overwrite=parsed.overwrite,
    ) as file:
        images = file.go_on(listing.images)
        if file.done:
            shared.tell(f"{file.done} images were answered before.")
        failed, count = _answer(parsed, bundle, images, file.write, count=listing.count, done=file.done)
    return file.failed + failed, file.done + count


def _answer(
    parsed: argparse.Namespace,
    bundle: Bundle,
    images: Images,
    write: Callable[[Prediction | Failure], None],
    *,
    count: int | None,
    done: int = 0,
) -> tuple[int, int]:
    """Write answers in the order of the images, a failure standing for one that cannot be read.

    Progress is shown. Return how many could not be read, of how many.
    """
    from tqdm import tqdm

    from streetvision_core.inference.answers import InOrder
    from streetvision_core.inference.predictor import Predictor

    predictor = Predictor(bundle.model, config=bundle.config, policy=bundle.policy, device=parsed.device)
    with tqdm(total=count, initial=done, unit=" images", disable=count == 1 or None) as bar:

        def give(answer: Prediction | Failure) -> None:
            write(answer)
            bar.update()

        def note(name: str, error: Any) -> None:
            bar.clear()
            shared.complain(error)
            order.fail(name, error)

        order = InOrder(images, give=give)
        answers = predictor.predict(
            order.images(),
            on_error=note,
            batch_size=parsed.batch_size,
            threads=0 if count == 1 else min(_MOST_THREADS, os.cpu_count() or 1),
        )
        for answer in answers:
            order.answer(answer)
    return order.failed, order.count
