"""An audit's confirmed findings → a suite."""

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mothlight.engine.errors import DiskFullError, UserError
from mothlight.engine.pictures import folder_name
from mothlight.engine.suite.kept import FORMAT, LISTING, Suite, SuiteFinding, SuiteImage, SuitePair
from mothlight.sql import Store


def freeze(store: Store, out: Path, classifier: str | None, pairs: int) -> Suite:
    """Write the confirmed findings of an audit, or of one of its classifiers, as a suite; all of it or nothing.

    Raises:
        UserError: nothing is confirmed, there is no such classifier, or the folder exists or can't be written.
        DiskFullError: there is no room.
    """
    if out.exists():
        raise UserError(f"{out} exists; name another --out.")
    (audit,) = store.records("select * from audit")
    names = sorted({name for (name,) in store.rows("select name from model where role = 'classifier'")})
    if classifier is not None and classifier not in names:
        raise UserError(f"The audit has no classifier `{classifier}`; there are {', '.join(names)}.")
    rows = [row for row in store.step_records("suite_findings") if classifier in (None, row["classifier"])]
    if not rows:
        raise UserError("Nothing is confirmed" + (f" for {classifier}" if classifier else "") + ": nothing to freeze.")
    beside = out.with_name(f".{out.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        images: dict[str, SuiteImage] = {}
        findings = [_frozen(store, row, pairs, beside, images) for row in rows]
        suite = Suite(
            format=FORMAT,
            mothlight=version("mothlight"),
            name=audit["name"],
            audit_id=audit["audit_id"],
            seed=audit["seed"],
            generator=audit["generator"],
            min_effect=json.loads(audit["settings"])["min_effect"],
            gate_lower=audit["gate_lower"],
            gate_upper=audit["gate_upper"],
            models={
                key: f"{role} {name}"
                for key, role, name in store.rows(
                    "select content_key, role, name from model order by content_key, role"
                )
            },
            labels={
                label: tuple(sorted(accepted))
                for label, accepted in store.rows(
                    "select label, list(accepted) from accepted_label group by label order by label"
                )
            },
            findings=tuple(findings),
            images=images,
        )
        (beside / LISTING).write_text(json.dumps(suite.model_dump(), indent=1, ensure_ascii=False), encoding="utf-8")
        beside.rename(out)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"The disk is full: the suite does not fit into {out}.") from error
        raise UserError(f"Can't write the suite to {out}: {error.strerror}; name another --out.") from error
    return suite


def _frozen(
    store: Store, row: Mapping[str, Any], most: int, folder: Path, images: dict[str, SuiteImage]
) -> SuiteFinding:
    """A finding with its pairs; pictures that are new are written."""
    own = []
    for pair in store.step_records(
        "suite_pairs",
        hypothesis=row["hypothesis_id"],
        classifier=row["classifier"],
        reserve=row["provenance"] == "reserve",
        pairs=most,
    ):
        for key, jpeg in ((pair["image_id"], pair["jpeg"]), (pair["plain_image_id"], pair["plain_jpeg"])):
            if key not in images:
                file = Path("images", folder_name(pair["label"]), f"{key}.jpg")
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(jpeg)
                digest = hashlib.sha256(jpeg).hexdigest()
                images[key] = SuiteImage(file=file.as_posix(), label=pair["label"], sha256=digest)
        own.append(
            SuitePair(
                index=pair["index"],
                described=pair["image_id"],
                plain=pair["plain_image_id"],
                said=pair["predicted"],
                plain_said=pair["plain_predicted"],
            )
        )
    if not own:
        raise UserError(
            f"Not one pair of finding {row['finding']} has its pictures: `mothlight remake AUDIT --finding "
            f"{row['finding']}` makes them again."
        )
    kept = {key: row[key] for key in SuiteFinding.model_fields if key != "pairs"}
    return SuiteFinding(**kept, pairs=tuple(own))
