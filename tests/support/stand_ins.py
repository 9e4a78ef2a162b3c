"""Small sets in exactly the layouts that the benchmarks' lists are published in, of drawn images.

The higher the label, the brighter the image, so that there is something to learn.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def draw(path, brightness, rng):
    """Write a small image, in the format that its name ends in."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (rng.integers(0, 50, (16, 16, 3)) + 200 * brightness).clip(0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG" if path.suffix == ".png" else "JPEG")
    path.write_bytes(content.getvalue())


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def morph2(root, setting="A"):
    rng = np.random.default_rng(0)
    ages = rng.integers(16, 24, 60)
    names = [f"{100000 + i // 2}_{i % 2}{'MF'[i % 3 == 0]}{age}.JPG" for i, age in enumerate(ages)]
    for name, age in zip(names, ages, strict=True):
        draw(root / "image" / name, (age - 16) / 8, rng)
    header = "race gender age filename database"

    def lines(rows, delimiter=" "):
        return [delimiter.join(("0", "1", str(ages[i]), names[i], "morph")) for i in rows]

    if setting == "A":
        for trial in range(5):
            order = rng.permutation(60)
            delimiter = " " if trial == 0 else ","  # as they are published
            for side, rows in (("train", order[:40]), ("test", order[40:50])):
                head = header.replace(" ", delimiter)
                write(root / "RS_partial" / f"Setting_1_fold{trial}_{side}.txt", [head, *lines(rows, delimiter)])
    elif setting == "B":
        for part in range(3):
            write(root / f"Setting_2_fold{part}.txt", [header, *lines(range(part, 60, 3))])
    else:
        for fold in range(5):
            rows = [i for i in range(60) if i // 2 % 5 == fold]
            listed = [f"../../datasets/Morph/image/{names[i]} {ages[i]}" for i in rows]
            write(root / f"setting{setting}" / f"morph_{setting}_0{fold}.txt", listed)


def clap2015(root):
    rng = np.random.default_rng(0)
    lines = ["filename,age,stdv,database"]
    for i in range(40):
        age = 20 + i % 6
        draw(root / "images" / f"image_{i}.jpg", (age - 20) / 6, rng)
        lines.append(f"image_{i}.jpg,{age},{3 + i / 10},{('train', 'train', 'val', 'test')[i // 10]}")
    write(root / "clap2015" / "total_2015.csv", lines)


def adience(root):
    rng = np.random.default_rng(0)
    for fold in range(5):
        lines = []
        for i in range(16):
            name = f"{fold}000{i % 2}@N02/landmark_aligned_face.{i}.{fold}{i}_0dfb5_o.jpg"
            draw(root / "aligned" / name, i % 8 / 8, rng)
            lines.append(f"{name} {i % 8}")
        write(root / "adience" / f"simplified_adience_{fold}.txt", lines)


def hci(root, per_decade=53):
    rng = np.random.default_rng(0)
    for k, decade in enumerate(("1930s", "1940s", "1950s", "1960s", "1970s")):
        names = [f"{decade}_decade_{i:032x}.jpg" for i in range(per_decade)]
        for name in names:
            draw(root / "images" / name, k / 5, rng)
        write(root / f"{decade}.txt", [f"./images/{name} {decade}" for name in names])


def image_aesthetics(root):
    rng = np.random.default_rng(0)
    for c, category in enumerate(("animals", "nature", "people", "urban")):
        for s, (side, n) in enumerate((("train", 20), ("test", 10))):
            lines = []
            for i in range(n):
                name, score = f"{c + 1}{s}{i:06d}.png", float(1 + i % 5)
                draw(root / category / name, (score - 1) / 5, rng)
                lines.append(f"{name}\t{score}")
            write(root / "crowdbeauty" / f"{category}_{side}.txt", lines)


def utkface(root, lists=True):
    rng = np.random.default_rng(0)
    rows = {"train": [",filename,age,database"], "test": [",filename,age,database"]}
    for i in range(40):
        age = 21 + i % 5
        name = f"{age}_{i % 2}_{i % 4}_2017011914{i:07d}.jpg"
        draw(root / "UTKFace" / f"{name}.chip.jpg", (age - 21) / 5, rng)
        rows["test" if i % 4 == 3 else "train"].append(f"{i},{name},{age},utk")
    if lists:
        for side, lines in rows.items():
            write(root / f"UTK_{side}_coral.csv", lines)


def lara2018(root):
    rng = np.random.default_rng(0)
    folder = root / "lara2018" / "classification" / "dataset"
    lines = ["id,predominant_stress,miner,rust,phoma,cercospora,severity"]
    for i in range(1, 51):
        draw(folder / "leaf" / f"{i}.jpg", i % 5 / 5, rng)
        lines.append(f"{i},1,0,0,0,0,{i % 5}")
    write(folder / "dataset.csv", lines)


def bccd(root):
    rng = np.random.default_rng(0)
    folder = root / "BCCD_Dataset" / "BCCD"
    parts = {"trainval": [], "test": []}
    for i in range(36):
        name, count = f"BloodImage_{i:05d}", 3 * (i % 6) + 4
        draw(folder / "JPEGImages" / f"{name}.jpg", i % 6 / 6, rng)
        cells = "".join(f"<object><name>{kind}</name></object>" for kind in ["WBC", *["RBC"] * count, "Platelets"])
        write(folder / "Annotations" / f"{name}.xml", [f"<annotation>{cells}</annotation>"])
        parts["test" if i // 6 % 3 == 2 else "trainval"].append(name)
    for part, names in parts.items():
        write(folder / "ImageSets" / "Main" / f"{part}.txt", names)
