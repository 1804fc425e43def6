"""Images inside Parquet files, in the layout of the Hugging Face hub.

Where the schema holds class names (`huggingface` metadata), a number is its name, in labels and elsewhere.
An image's name is `FILE#ROW`: the file's path below the data folder and the row's number in it from
zero, `train-00000.parquet#000012`. `image` is a struct with `bytes`, or a plain binary column.

Random access. Parquet can only be decoded page by page from the start of a row group, and the hub's row
groups are anything from 100 images to the whole file, so that reading in random order (which is how
training reads) would decode a row group for an image. Therefore the first read of a file decodes it once,
in order, into a temporary file without a name, as `spill.py` does. Cost: one decoding per file and
process, as much temporary disk space as the images have bytes (`TMPDIR` says where; it is given back
when the source is dropped, or the process dies), then one read per image, from any thread. In memory there
is never more than one image, and 8 bytes per row.

A few bytes of Parquet can stand for any amount of images: one value in a dictionary, and a number of rows
that repeat it. So a source has at most `MAX_ROWS` rows, and a file gives at most `MAX_BYTES` and
`MAX_EXPANSION` times its own size; text is read in dictionaries, as it is stored, and of each value the first
`_MAX_TEXT` characters. What a page claims to decode to is what pyarrow allocates: up to 2 GiB for a moment.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from streetvision_core.data.decoding.reasons import Reason, UnusableImageError
from streetvision_core.data.labels import fold, text_of
from streetvision_core.data.sources.class_names import class_names
from streetvision_core.data.sources.entry import MAX_TEXT, Entry, Stamp, keep_attributes, parse_text
from streetvision_core.data.sources.files import resolve_source
from streetvision_core.data.sources.rules import (
    RowRules,
    check_columns,
    chosen_group_column,
    columns_in_words,
    named_columns,
    no_column,
)
from streetvision_core.data.sources.spill import Spill
from streetvision_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from streetvision_core.data.config import ParquetConfig

MAX_ROWS = 10_000_000
MAX_BYTES = 2**30
MAX_EXPANSION = 16
_LISTED_ROWS = 4096
_MAX_TEXT = 4 * MAX_TEXT


class ParquetSource:
    """A Parquet file, or every `*.parquet` below a folder, as one source of images."""

    def __init__(self, config: ParquetConfig) -> None:
        self._config = config
        self._files = _find_files(config.path)
        self._columns = {name: _Columns.of(path, config) for name, path in self._files.items()}
        _check_rows(sum(columns.rows for columns in self._columns.values()), config.path)
        self._names = _one_meaning({name: columns.names for name, columns in self._columns.items()}, config)
        self._rules = self._begin()
        self._spills: dict[str, Spill] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[Callable[..., ParquetSource], tuple[ParquetConfig]]:
        return ParquetSource, (self._config,)  # the other process makes its own temporary files

    def entries(self) -> Iterator[Entry]:
        """List the rows of all files that are kept without touching the images in them."""
        rules = self._rules = self._begin()
        for name, path in self._files.items():
            yield from self._columns[name].entries(name, path, rules)
        rules.check()

    def _begin(self) -> RowRules:
        return RowRules(self._config, f"Parquet {self._config.path}", names=self._names)

    def read(self, name: str) -> bytes:
        """Return the bytes of one image; raises UnusableImageError."""
        file, _, row = name.rpartition("#")
        if file not in self._files or not row.isdecimal():
            raise UnusableImageError(Reason.MISSING, "no Parquet file holds this row", name)
        with self._lock:
            if file not in self._spills:
                self._spills[file] = Spill(self._columns[file].pictures(self._files[file]))
        data = self._spills[file].read(int(row))
        if data is None:
            raise UnusableImageError(Reason.MISSING, "the row holds no bytes", name)
        return data

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of the Parquet file that holds the image."""
        path = self._files.get(name.rpartition("#")[0])
        return Stamp.of(path) if path else None

    def describe(self) -> str:
        """Say where the images come from and how they are grouped."""
        lacking = [name for name, columns in self._columns.items() if columns.group is None]
        grouped = f"grouped by {self._config.group_column!r}"
        if len(lacking) == len(self._columns):
            grouped = "every image its own group"
        elif lacking:
            grouped += f", which {lacking[0]}{f' and {len(lacking) - 1} more' if lacking[1:] else ''} has not"
        files = "1 file" if len(self._files) == 1 else f"{len(self._files)} files"
        return f"Parquet {self._config.path} ({files}), {grouped}{self._rules.note()}"


@dataclass(frozen=True)
class _Columns:
    """The columns of one file, as dotted names of leaves, and its number of rows.

    `words` are the columns of the filter and the role, `class_names` the names behind the numbers of columns.
    """

    rows: int
    image: str
    label: str
    group: str | None
    words: tuple[str, ...]
    attributes: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...] | None:
        """The class names of the labels, where the file has any."""
        return self.class_names.get(self.label)

    @classmethod
    def of(cls, path: Path, config: ParquetConfig) -> _Columns:
        """Find the configured columns in the schema of one file; raises DataError."""
        import pyarrow.parquet as pq

        with _readable(path), pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            _check_expansion(path, _claimed_bytes(file.metadata), _most_bytes(path))
        image = config.file_column
        leaf = image if _is_binary(_find(schema, image)) else f"{image}.bytes"
        group, words = config.group_column, named_columns(config)
        if group is not None and chosen_group_column(config) is None and _find(schema, group) is None:
            group = None
        wanted = [leaf, config.label_column, *([group] if group is not None else []), *words]
        missing = [name for name in wanted if _find(schema, name) is None]
        if not missing and not _is_binary(_find(schema, leaf)):
            missing = [f"{leaf} being binary"]
        check_columns(wanted, missing, columns_in_words(schema.names), path.name)
        kind = _find(schema, config.label_column)
        if not _is_plain(kind):
            found = f"{config.label_column!r} of the type {kind}"
            action = "Name a column inside of it (label_column: label.name), or write one label a row."
            raise DataError("a column of labels that are words or numbers", found, path.name, action)
        used = {image, config.label_column, group, config.role_column}
        attributes = [name for name in schema.names if name not in used and _is_text(schema.field(name).type)]
        names = class_names(schema, [config.label_column, *words, *attributes], path.name)
        return cls(rows, leaf, config.label_column, group, tuple(words), tuple(attributes), names)

    def entries(self, name: str, path: Path, rules: RowRules) -> Iterator[Entry]:
        """List the rows of one file that are kept, reading every column but the images."""
        group = [self.group] if self.group is not None else []
        leaves = list(dict.fromkeys([self.label, *group, *self.words, *self.attributes]))
        row = -1
        with _readable(path):  # text that is not UTF-8 comes to light here
            for batch in _batches(path, leaves, rows=_LISTED_ROWS):
                columns = [_named(_values(batch[leaf]), self.class_names.get(leaf)) for leaf in leaves]
                for values in zip(*columns, strict=True):
                    row += 1
                    cells = dict(zip(leaves, values, strict=True))
                    if rules.keeps(cells):
                        yield Entry(
                            name=row_name(name, row, rows=self.rows),
                            label=rules.label(cells[self.label]),
                            group=parse_text(cells[self.group]) if self.group is not None else None,
                            attributes=keep_attributes({leaf: cells[leaf] for leaf in self.attributes}),
                            role=rules.role(cells),
                        )

    def pictures(self, path: Path) -> Iterator[memoryview | None]:
        """Give the bytes of every row of one file in order, None for a null."""
        decoded, limit = 0, _most_bytes(path)
        for batch in _batches(path, [self.image], rows=1):
            for value in batch[self.image]:
                buffer = value.as_buffer()
                decoded += 0 if buffer is None else buffer.size
                _check_expansion(path, decoded, limit)
                yield None if buffer is None else memoryview(buffer)


def read_texts(path: Path, columns: Sequence[str]) -> Iterator[str]:
    """Give the text of each row in the first of these columns that a Parquet file has; "" for a null.

    Raises:
        DataError: it cannot be read, has none of them as text, or has too many rows.
    """
    import pyarrow.parquet as pq

    with _readable(path), pq.ParquetFile(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        _check_expansion(path, _claimed_bytes(file.metadata), _most_bytes(path))
    _check_rows(rows, str(path))
    leaf = next(
        (name for name in columns if name in schema.names and _is_text(schema.field(name).type)), None
    )
    if leaf is None:
        raise no_column("a column of text called", columns, schema.names, str(path))
    with _readable(path):
        for batch in _batches(path, [leaf], rows=_LISTED_ROWS):
            yield from ("" if value is None else str(value) for value in _values(batch[leaf]))


def _one_meaning(
    names: Mapping[str, tuple[str, ...] | None], config: ParquetConfig
) -> tuple[str, ...] | None:
    """Return the class names that all files agree on; a number must not change its meaning between files."""
    first, *others = names.items()
    other = next((item for item in others if item[1] != first[1]), None)
    if other is not None:
        meanings = (f"{', '.join(given) if given else 'none'} in {file}" for file, given in (first, other))
        raise DataError(
            f"the same class names of {config.label_column!r} in every file",
            " but ".join(meanings),
            config.path,
            "Write the files again with one order of names, or join them as sources of their own:"
            " join: [{parquet: {path: FILE}}, {parquet: {path: OTHER}}].",
        )
    return first[1]


def _named(values: list[Any], names: tuple[str, ...] | None) -> list[Any]:
    """Put class names in place of numbers; -1 is the hub's word for no label."""
    if names is None:
        return values
    own = {fold(name) for name in names}
    return [_name(value, names) if _is_number(value, own) else value for value in values]


def _is_number(value: Any, own: Collection[str]) -> bool:
    """Tell whether a value is the number of a class; as text too, unless a class is called so."""
    if isinstance(value, int | float):
        return True
    text = fold(text_of(value))
    return text not in own and (text.isdecimal() or text == "-1")


def _name(value: Any, names: tuple[str, ...]) -> str | None:
    number = float(value)
    if number == -1 or math.isnan(number):
        return None
    known = number in range(len(names))  # 1.0 too, which a column with gaps becomes
    return names[int(number)] if known else f"{value} (without a name)"


def row_name(file: str, row: int, *, rows: int) -> str:
    """Return the name of an image: wide enough that the names of one file sort as its rows do."""
    return f"{file}#{row:0{max(6, len(str(rows)))}}"


def _check_rows(rows: int, path: str) -> None:
    if rows > MAX_ROWS:
        most = f"at most {MAX_ROWS} images in one source"
        raise DataError(most, f"{rows} rows", path, "Leave out some of the files.")


def _most_bytes(path: Path) -> int:
    return MAX_BYTES + MAX_EXPANSION * path.stat().st_size


def _check_expansion(path: Path, decoded: int, limit: int) -> None:
    if decoded > limit:
        expected = f"a Parquet file that decodes to at most {limit} bytes, which its size lets expect"
        action = "It was made to fill the disk, or the same images are repeated in it: leave out the copies."
        raise DataError(expected, f"{decoded} bytes or more", path.name, action)


def _claimed_bytes(metadata: Any) -> int:
    """Return to how many bytes all columns decode by what the file says, dictionaries not repeated."""
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


def _find_files(path: str) -> dict[str, Path]:
    root = resolve_source(path)
    if root.is_file():
        if root.suffix == ".arrow":
            _refuse_arrow(root.parent, path)
        return {root.name: root}
    files = sorted(file for file in root.rglob("*.parquet") if not file.name.startswith("."))
    if not files:
        _refuse_arrow(root, path)
        raise ConfigError(
            "a Parquet file, or a folder with files named *.parquet",
            "a folder without any" if root.is_dir() else "nothing at this path",
            path,
            f"Correct the path of the source; it is looked up from {Path.cwd()}.",
        )
    outside = next((file for file in files if not _lies_in(root, file)), None)
    if outside is not None:
        expected = "Parquet files that lie in the data folder"
        action = "Copy the files here (the hub's cache is made of links), or name one file as the path."
        raise DataError(expected, f"{outside.name}, a symbolic link that leads out of it", path, action)
    irregular = next((file for file in files if not file.is_file()), None)  # reading a pipe would never end
    if irregular is not None:
        raise DataError(
            "regular files named *.parquet",
            f"{irregular.name}, which is a folder, a pipe, a device or a link that leads nowhere",
            path,
            "Move it elsewhere, or give it another name.",
        )
    return {file.relative_to(root).as_posix(): file for file in files}


def _refuse_arrow(root: Path, path: str) -> None:
    """Refuse a folder that `save_to_disk` of datasets wrote: it holds Arrow files and no Parquet."""
    if next(root.rglob("*.arrow"), None) is None:
        return
    splits = (root / "dataset_dict.json").is_file()
    raise DataError(
        "Parquet files",
        f"Arrow files{' of several splits' if splits else ''}, as save_to_disk of datasets writes them",
        path,
        "Write Parquet from them, in Python: "
        + (
            'for name, part in datasets.load_from_disk("FOLDER").items(): part.to_parquet(f"{name}.parquet")'
            if splits
            else 'datasets.load_from_disk("FOLDER").to_parquet("images.parquet")'
        ),
    )


def _lies_in(root: Path, file: Path) -> bool:
    try:
        return file.resolve().is_relative_to(root)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a ring, before Python 3.13
        found = f"{file.name}: {error}"
        raise DataError("Parquet files that can be found", found, str(root), "Remove the link.") from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what pyarrow says about a file that is no Parquet, or a damaged one, into a DataError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        action = "Replace the file by an intact copy."
        raise DataError("a readable Parquet file", reason, path.name, action) from error


def _batches(path: Path, leaves: list[str], *, rows: int) -> Iterator[dict[str, Any]]:
    """Decode some leaf columns in order; `buffer_size` keeps a huge row group from being loaded whole."""
    import pyarrow.parquet as pq

    with _readable(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        texts = [leaf for leaf in leaves if leaf in schema.names and _is_string(schema.field(leaf).type)]
        # pyarrow reads no dictionaries inside of structs, nor of views and bytes: fewer rows at a time then.
        others = [leaf for leaf in leaves if leaf not in texts and _is_wide(_find(schema, leaf))]
        rows = min(rows, max(1, MAX_BYTES // max(1, _largest_chunk(file.metadata, others))))
    options = {"buffer_size": 2**20, "read_dictionary": texts}
    with _readable(path), pq.ParquetFile(path, **options) as file:
        for batch in file.iter_batches(batch_size=rows, columns=leaves):
            yield {leaf: _leaf(batch, leaf) for leaf in leaves}


def _largest_chunk(metadata: Any, leaves: list[str]) -> int:
    """Return how many bytes the largest column chunk of some leaves decodes to; no value is longer."""
    chunks = (
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups if leaves else 0)
        for column in range(metadata.num_columns)
    )
    return max(
        (chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in leaves), default=0
    )


def _values(column: Any) -> list[Any]:
    """Return the values of a column, text cut to the first `_MAX_TEXT` characters."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        values = _values(column.dictionary)
        return [None if index is None else values[index] for index in column.indices.to_pylist()]
    if _is_wide(column.type) and not _is_string(column.type):
        column = column.cast(pa.large_string())  # pyarrow has no slices of views, nor of bytes by characters
    cut = pc.utf8_slice_codeunits(column, 0, _MAX_TEXT) if _is_string(column.type) else column
    return list(cut.to_pylist())


def _leaf(batch: Any, dotted: str) -> Any:
    import pyarrow.compute as pc

    if dotted in batch.schema.names:
        return batch.column(dotted)
    top, *below = dotted.split(".")
    return pc.struct_field(batch.column(top), below)


def _find(schema: Any, dotted: str) -> Any:
    """Return the Arrow type of a column, a dot leading into a struct; None where there is none."""
    import pyarrow as pa

    if dotted in schema.names:
        return schema.field(dotted).type
    kind = pa.struct(list(schema))
    for part in dotted.split("."):
        position = kind.get_field_index(part) if pa.types.is_struct(kind) else -1
        if position < 0:
            return None
        kind = kind.field(position).type
    return kind


def _is_binary(column: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    kinds = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return column is not None and any(is_kind(column) for is_kind in kinds)


def _is_string(column: Any) -> bool:
    import pyarrow as pa

    return column is not None and (pa.types.is_string(column) or pa.types.is_large_string(column))


def _is_wide(column: Any) -> bool:
    """Tell whether a value may be of any length: text or bytes."""
    import pyarrow as pa

    return _is_string(column) or _is_binary(column) or pa.types.is_string_view(column)


def _is_plain(column: Any) -> bool:
    """Tell whether a column has one value a row: no lists or structs."""
    import pyarrow as pa

    return not pa.types.is_nested(column.value_type if pa.types.is_dictionary(column) else column)


def _is_text(column: Any) -> bool:
    """Tell whether a column's values read well as text: no bytes, lists or structs."""
    import pyarrow as pa

    kind = column.value_type if pa.types.is_dictionary(column) else column
    return _is_plain(column) and not _is_binary(kind)
