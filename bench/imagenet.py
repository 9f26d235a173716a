"""Makes engine/imagenet.txt: the 1,000 classes of ImageNet with WordNet id, name, hypernym and accepted siblings.

The order of the classes is timm's, the words are WordNet 3.0's (Debian: wordnet-base). Run it again with
`python bench/imagenet.py > engine/imagenet.txt`; the result is in the repository.
"""

import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo

WORDNET = Path("/usr/share/wordnet/data.noun")
# What people call the kind of a thing; the nearest of these above a class is its hypernym.
BASIC = frozenset(
    [
        "fish",
        "shark",
        "ray",
        "bird",
        "owl",
        "eagle",
        "parrot",
        "duck",
        "goose",
        "snake",
        "lizard",
        "turtle",
        "frog",
        "salamander",
        "crocodilian_reptile",
        "dinosaur",
        "spider",
        "scorpion",
        "tick",
        "insect",
        "beetle",
        "butterfly",
        "dragonfly",
        "cockroach",
        "snail",
        "crab",
        "lobster",
        "crustacean",
        "mollusk",
        "jellyfish",
        "coral",
        "worm",
        "starfish",
        "echinoderm",
        "dog",
        "cat",
        "wolf",
        "fox",
        "bear",
        "mongoose",
        "rabbit",
        "rodent",
        "squirrel",
        "hog",
        "horse",
        "cattle",
        "sheep",
        "goat",
        "antelope",
        "camel",
        "weasel",
        "monkey",
        "ape",
        "lemur",
        "elephant",
        "whale",
        "seal",
        "marsupial",
        "mammal",
        "fruit",
        "vegetable",
        "mushroom",
        "fungus",
        "flower",
        "plant",
        "food",
        "dish",
        "bread",
        "dessert",
        "beverage",
        "sandwich",
        "sauce",
        "car",
        "truck",
        "bus",
        "train",
        "locomotive",
        "bicycle",
        "boat",
        "ship",
        "aircraft",
        "airplane",
        "balloon",
        "vehicle",
        "musical_instrument",
        "weapon",
        "gun",
        "ball",
        "hat",
        "shoe",
        "footwear",
        "garment",
        "clothing",
        "dress",
        "undergarment",
        "jewelry",
        "bag",
        "box",
        "bottle",
        "cup",
        "bowl",
        "pan",
        "pot",
        "kitchen_utensil",
        "kitchen_appliance",
        "appliance",
        "tool",
        "hand_tool",
        "clock",
        "computer",
        "telephone",
        "camera",
        "furniture",
        "chair",
        "table",
        "bed",
        "lamp",
        "curtain",
        "rug",
        "building",
        "house",
        "bridge",
        "fence",
        "door",
        "window",
        "wall",
        "tower",
        "ship",
        "medical_instrument",
        "optical_instrument",
        "measuring_instrument",
        "sports_equipment",
        "game",
        "toy",
        "container",
        "machine",
        "electronic_equipment",
        "instrument",
        "mountain",
        "geological_formation",
        "person",
        "structure",
        "fabric",
        "writing_implement",
    ]
)
# Classes whose pictures overlap although WordNet keeps them apart (Beyer et al., "Are we done with ImageNet?",
# arXiv 2006.07159, and Northcutt et al., "Pervasive label errors", arXiv 2103.14749, describe such pairs).
OVERLAPPING = (
    ("n03710637", "n03710721"),  # maillot, maillot (tank suit)
    ("n04355933", "n04356056"),  # sunglass, sunglasses
    ("n03642806", "n03832673"),  # laptop, notebook
    ("n03773504", "n04008634"),  # missile, projectile
    ("n12144580", "n13133613"),  # corn, ear
    ("n02979186", "n04392985"),  # cassette player, tape player
    ("n03782006", "n04152593", "n03180011", "n04404412"),  # monitor, screen, desktop computer, television
    ("n02808440", "n04493381"),  # bathtub, tub
    ("n02669723", "n03787032"),  # academic gown, mortarboard
)
HEADER = """\
# The 1,000 classes of ImageNet in their usual order, tab-separated: WordNet id, name, hypernym, accepted siblings.
# Made by bench/imagenet.py. Words: WordNet 3.0, Copyright 2006 by Princeton University. All rights reserved.
"""


@dataclass(frozen=True)
class Synset:
    """A noun of WordNet."""

    words: tuple[str, ...]
    parents: tuple[str, ...]


def read_wordnet(path: Path) -> dict[str, Synset]:
    """Synsets by offset."""
    synsets = {}
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        words = tuple(fields[4 + 2 * k] for k in range(count))
        at = 4 + 2 * count
        pointers = [fields[at + 1 + 4 * k : at + 5 + 4 * k] for k in range(int(fields[at]))]
        parents = tuple(target for kind, target, part, _ in pointers if kind in ("@", "@i") and part == "n")
        synsets[fields[0]] = Synset(words, parents)
    return synsets


def words_of(word: str) -> str:
    """WordNet's word as people write it."""
    return word.replace("_", " ")


def hypernym(synsets: dict[str, Synset], offset: str) -> str:
    """The nearest word of `BASIC` above a class that its own name does not say yet, breadth first; else its parent."""
    said = {part.lower() for word in synsets[offset].words[:1] for part in word.split("_")}
    level = list(synsets[offset].parents)
    while level:
        for one in level:
            if found := next((word for word in synsets[one].words if word in BASIC - said), None):
                return words_of(found)
        level = [parent for one in level for parent in synsets[one].parents]
    return words_of(synsets[synsets[offset].parents[0]].words[0])


def main() -> None:
    """Write the table to the standard output."""
    synsets = read_wordnet(WORDNET)
    ids = ImageNetInfo().label_names()
    offsets = [one[1:] for one in ids]
    first = [words_of(synsets[one].words[0]) for one in offsets]
    twice = {name for name, count in Counter(name.lower() for name in first).items() if count > 1}
    kinds = [hypernym(synsets, one) for one in offsets]
    names = []
    for name, offset in zip(first, offsets, strict=True):
        parent = words_of(synsets[synsets[offset].parents[0]].words[0])
        names.append(f"{name} ({parent})" if name.lower() in twice else name)
    if len(set(names)) != len(names):
        sys.exit(f"Names stand twice: {[name for name, count in Counter(names).items() if count > 1]}")
    families: defaultdict[str, set[str]] = defaultdict(set)
    for wnid, offset in zip(ids, offsets, strict=True):
        for parent in synsets[offset].parents:
            families[parent].add(wnid)
    for group in OVERLAPPING:
        families[group[0]].update(group)
    name_of = dict(zip(ids, names, strict=True))
    lines = []
    for wnid, name, kind in zip(ids, names, kinds, strict=True):
        near = {one for family in families.values() if wnid in family for one in family} - {wnid}
        lines.append("\t".join((wnid, name, kind, "; ".join(name_of[one] for one in ids if one in near))))
    sys.stdout.write(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
