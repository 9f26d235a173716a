"""How large a report is, how long it takes to build and to open, beside two profilers on the same table of failures.

    python bench/report.py --failures 1000 10000 100000
    python bench/report.py --failures 1000 --profilers PYTHON    # of an environment with ydata-profiling and evidently

An audit of each size is written by SQL: three classifiers, a tenth of plain images failing, one bug for every fifty
failures, each with 100 pairs in its test and 100 in the reserve, pictures of 1024 pixels where a report may show them.
The limit that nothing can beat: writing the pages' bytes, and scaling the pictures that are shown, measured beside.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from mothlight.engine.report_command import MEMORY
from mothlight.reports.build import build_report
from mothlight.reports.pictures import scaled
from mothlight.reports.printing import find_browser
from mothlight.sql import Store, open_audit
from mothlight.sql.store import DATABASE

CLASSIFIERS = 3
SETTINGS = '{"discovery_images": 120, "min_group": 3, "min_effect": 0.05, "fdr": 0.05, "steps": null}'
PROFILERS = {
    "ydata-profiling": (
        "import sys, pandas as pd; from ydata_profiling import ProfileReport;"
        "ProfileReport(pd.read_parquet(sys.argv[1]), progress_bar=False).to_file(sys.argv[2])"
    ),
    "evidently": (
        "import sys, pandas as pd; from evidently import Report; from evidently.presets import DataSummaryPreset;"
        "Report([DataSummaryPreset()]).run(pd.read_parquet(sys.argv[1]), None).save_html(sys.argv[2])"
    ),
}


def picture(seed: int, size: int = 1024) -> bytes:
    """A picture of about 100 kB, as smooth and as noisy as a photograph."""
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    grain = chance.normal(0, 4, (size, size, 1))
    out = BytesIO()
    Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def write_audit(store: Store, failures: int, bugs: int) -> None:
    """An audit with about so many failures on plain prompts and exactly so many bugs."""
    labels = max(10, bugs // 10)
    plain = failures * 10 // (CLASSIFIERS * labels)
    run = store.rows
    run(
        """insert into audit values
        ('bench', 'bench', 7, 'g', $settings, '', null, 0.1, 0.4, 100, 'the budget is spent', 1)""",
        settings=SETTINGS,
    )
    run("insert into run values (1, '0', '2026-01-01', '2026-01-01 08:00:00', 100, 12, 2, 'bench', null)")
    run("insert into label select 'label ' || i, i, 'p' || i from range($n) as r(i)", n=labels)
    run("insert into accepted_label select label, label from label")
    run("insert into prompt select plain_prompt_id, label, 'a photograph of ' || label, '' from label")
    run(
        """insert into prompt
        select 'd' || i, 'label ' || i % $labels, 'a photograph. it is so ' || i, 'it is so ' || i || '.'
        from range($bugs) as r(i)""",
        labels=labels,
        bugs=bugs,
    )
    run("insert into wave select 0, 'discovery', place, plain_prompt_id, 0, $n, 100 from label", n=plain)
    for wave, phase in ((1, "test"), (2, "reserve")):
        run(
            """insert into wave
            select $wave, $phase, row_number() over (order by prompt_id), prompt_id, 1000000 * $wave, 100, 100
            from prompt""",
            wave=wave,
            phase=phase,
        )
    run("insert into chunk select prompt_id || '-' || wave, prompt_id, wave, first_index, images, 1 from wave")
    run(
        """insert into image
        select
            md5(prompt_id || '/' || index), prompt_id || '-' || wave, prompt_id, wave, index, 0.9, 1, 0,
            if(
                wave = 2 and index - first_index < 12 or wave = 0 and index % 10 = 0 and index < 200,
                ($pictures::blob[])[1 + (hash(prompt_id, index) % 16)::bigint],
                null
            )
        from (
            select wave, prompt_id, first_index, index
            from wave, lateral (select unnest(range(first_index, first_index + images)) as index)
            order by wave, prompt_id, index
        )""",
        pictures=[picture(seed) for seed in range(16)],
    )
    run("create temp table named as select 'classifier ' || i as classifier, i from range($n) as r(i)", n=CLASSIFIERS)
    run(
        """insert into prediction
        select
            image_id, classifier, prompt_id, wave, index, 0.9, seen, seen <> label, 0.9, 0.1, 0.8, [seen], [0.9]
        from (
            select
                image.image_id, image.prompt_id, wave, index, classifier, label,
                case
                    when prompt_id[1] = 'd' and hash(index, classifier) % 10 < 7 and i = prompt_id[2:]::integer % $n
                    then 'bee'
                    when hash(image_id, classifier) % 10 = 0 then 'bee'
                    else label
                end as seen
            from image join prompt using (prompt_id), named
        )""",
        n=CLASSIFIERS,
    )
    run("update image set errors = 1 where image_id in (select image_id from prediction where wrong)")
    run(
        """insert into outcome_count
        select prompt_id, wave, classifier, predicted, wrong, 0.4, count(*) from prediction group by all"""
    )
    run("insert into round values (1, 'mined', 0, $bugs, 0.6 / $bugs, 100)", bugs=bugs)
    run(
        """insert into cluster (cluster_id, round, classifier, label, predicted, place)
        select md5(label || classifier), 1, classifier, label, 'bee', 0 from label, named"""
    )
    run(
        """insert into cluster_member
        select md5(label || classifier), image_id
        from prediction join prompt using (prompt_id) where wrong and wave = 0"""
    )
    run(
        """insert into embedding
        select image_id, wave, list_transform(range(64), lambda i: (hash(image_id, i) % 1000) / 1e3)
        from image where image_id in (select image_id from cluster_member)"""
    )
    run("insert into caption select image_id, 'it is ' || image_id[:2] || '.' from embedding")
    run(
        """insert into hypothesis
        select
            'h' || i, 'label ' || i % $labels, 'd' || i, 'bee', 'it is so ' || i || '.', i, 2.0, 'failures', 1,
            0.6 / $bugs, 0, null, null
        from range($bugs) as r(i)""",
        labels=labels,
        bugs=bugs,
    )
    run("insert into standing select hypothesis_id, hypothesis_id, false, 'settled' from hypothesis")
    run(
        """create temp table own as
        select 'h' || r.i as hypothesis_id, classifier from range($bugs) as r(i) join named on named.i = r.i % $n""",
        bugs=bugs,
        n=CLASSIFIERS,
    )
    run(
        """insert into pair_count
        select
            hypothesis_id, classifier, wave, count(*), count(*), count(*) filter (event), count(*),
            count(*) filter (plain_event), count(*), count(*) filter (event and not plain_event),
            count(*) filter (plain_event and not event), count(*) filter (event), count(*) filter (plain_event)
        from pair join own using (hypothesis_id, classifier) group by all"""
    )
    run(
        """insert into evidence
        select hypothesis_id, classifier, 1, pairs, more, less, 1e6, 0.3, 0.8 from pair_count where wave = 1"""
    )
    run("insert into decision select hypothesis_id, classifier, 'confirmed', 1e6, 0.001 from own")


def build(folder: Path) -> dict[str, float]:
    """Build the report, and build it again; in a process of its own, for its peak of memory."""
    said = {}
    with open_audit(folder) as store:
        store.start_small(MEMORY)
        for turn in ("build_s", "again_s"):
            start = time.perf_counter()
            build_report(store, folder / "report")
            said[turn] = round(time.perf_counter() - start, 2)
        start = time.perf_counter()
        build_report(store, folder / "single.html", single=True)
        said["single_s"] = round(time.perf_counter() - start, 2)
    # not getrusage: its peak begins with that of the process that started this one
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    said["peak_MB"] = round(int(peak) / 1024)
    return said


def opening(page: Path) -> dict[str, float]:
    """How long Chromium takes to open a page, and how many nodes it has."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        shown = browser.new_context(offline=True).new_page()
        start = time.perf_counter()
        shown.goto(page.as_uri(), timeout=600_000)
        seconds = time.perf_counter() - start
        nodes = shown.evaluate("document.querySelectorAll('*').length")
        browser.close()
    return {"open_s": round(seconds, 2), "nodes": nodes}


def size_of(path: Path) -> float:
    """Megabytes of a file, or of all in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 2)


def limits(folder: Path) -> dict[str, float]:
    """What no way of building could beat: the bytes written again, and the pictures scaled again."""
    files = [file for file in (folder / "report").rglob("*") if file.is_file()]
    pages = [file.read_bytes() for file in files]
    start = time.perf_counter()
    for place, content in enumerate(pages):
        (folder / "limit").mkdir(exist_ok=True)
        (folder / "limit" / str(place)).write_bytes(content)
    writing = time.perf_counter() - start
    shown = sum(file.suffix == ".jpg" and ".kept." not in file.name for file in files)
    jpeg = picture(1)
    start = time.perf_counter()
    for _ in range(100):
        scaled(jpeg)
    return {
        "writing_s": round(writing, 2),
        "scaling_s": round((time.perf_counter() - start) / 100 * shown, 2),
        "pictures": shown,
    }


def measured(failures: int, profilers: str | None) -> dict[str, Any]:
    """All figures of one size."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        bugs = failures // 50
        with open_audit(folder / DATABASE, read_only=False) as store:
            start = time.perf_counter()
            write_audit(store, failures, bugs)
            said: dict[str, Any] = {
                "failures": failures,
                "bugs": bugs,
                "written_s": round(time.perf_counter() - start, 1),
            }
            table = folder / "failures.parquet"
            rows = store.write_parquet("select * from outcome where wrong and wave = 0", table)
        said |= {"rows": rows, "database_MB": size_of(folder / DATABASE)}
        command = [sys.executable, "-P", __file__, "--build", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own
        said |= json.loads(done.stdout)
        first = folder / "report" / "index.html"
        shown = sum(size_of(folder / "report" / name) for name in pictures_of(first))
        said |= {"index_MB": size_of(first), "index_with_pictures_MB": round(size_of(first) + shown, 2),
                 "folder_MB": size_of(folder / "report"), "single_MB": size_of(folder / "single.html")}  # fmt: skip
        said |= opening(first)
        said |= {f"single_{key}": value for key, value in opening(folder / "single.html").items()}
        said |= limits(folder)
        for name, code in PROFILERS.items():
            if profilers is None:
                break
            page = folder / f"{name}.html"
            start = time.perf_counter()
            done = subprocess.run(  # noqa: S603  # as was asked
                [profilers, "-c", code, str(table), str(page)], capture_output=True, text=True, check=False
            )
            if done.returncode or not page.is_file():
                said[name] = done.stderr.strip().splitlines()[-1:] or "wrote nothing"
                continue
            said[name] = {"build_s": round(time.perf_counter() - start, 2), "MB": size_of(page), **opening(page)}
        return said


def pictures_of(page: Path) -> set[str]:
    """The pictures that a page shows."""
    return set(re.findall(r'src="(images/[^"]+)"', page.read_text(encoding="utf-8")))


def main() -> None:
    """Print a line of JSON for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failures", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--profilers", help="the Python of an environment with ydata-profiling and evidently")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.profilers is not None and not Path(asked.profilers).is_file():
        parser.error(f"there is no {asked.profilers}")
    if asked.build:
        print(json.dumps(build(asked.build)))
        return
    for failures in asked.failures:
        print(json.dumps(measured(failures, asked.profilers)), flush=True)


if __name__ == "__main__":
    main()
