import base64
import re

from streetvision_assets.metadata import picture, table


def test_an_image_is_inlined_as_what_it_is():
    for data, kind in ((b"\x89PNG rest", "png"), (b"\xff\xd8\xff rest", "jpeg")):
        match = re.fullmatch(r"!\[\]\(data:image/(\w+);base64,(.*)\)", picture(data).md_str)
        assert match[1] == kind
        assert base64.b64decode(match[2]) == data


def test_a_table_has_a_line_a_row_and_readable_floats():
    text = table([{"role": "train", "share": 0.6}, {"role": "val", "share": 0.123456}]).md_str
    assert text.splitlines() == [
        "| role | share |",
        "| --- | --- |",
        "| train | 0.6000 |",
        "| val | 0.1235 |",
    ]
