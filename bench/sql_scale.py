"""How long an audit's database takes to answer, at a size of choice: `sql_scale.py --images 960000`.

The rows are drawn by SQL, with the real schema, views and queries: labels × (a plain prompt and six described ones),
waves of 24 indices, three classifiers that are wrong on 8 % (30 % under every sixth description), embeddings of a
tenth. Each answer is timed in a process of its own that may use so many threads and so much memory; the median of
three. Last line: JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from mothlight.sql import open_audit
from mothlight.sql.named import given_parameters, query_names, query_parameters, query_text

CLASSIFIERS = 3
DESCRIPTIONS = 6
WAVE = 24
EMBEDDED = 0.1
DRAW = """
insert into audit values ('a', 'scale', 0, 'g', '{{"min_effect": 0.05}}', '', null, 0.1, 0.4, null, null, 1);
insert into label select 'label ' || i, i, 'label ' || i || '/0' from range({labels}) t(i);
insert into accepted_label select label, label from label;
insert into prompt
    select label || '/' || d, label, label || if(d = 0, '', ' described ' || d), if(d = 0, '', 'described ' || d)
    from label, range({descriptions} + 1) t(d);
insert into wave
    select w, if(w = 0, 'discovery', if(w % 4 = 3, 'reserve', 'test')), row_number() over (partition by w) - 1,
        prompt_id, w * {wave}, {wave}, 100000000
    from range({waves}) t(w), prompt where w > 0 or description = '';
insert into chunk
    select prompt_id || '/' || wave, prompt_id, wave, first_index, images, 1 from wave order by wave, place;
insert into image
    select md5(chunk_id || '#' || i), chunk_id, prompt_id, wave, first_index + i, 0.3 + 0.7 * random(),
        if(random() < 0.2, 2, 1), 3 * random(), null
    from chunk, range({wave}) t(i);
insert into prediction
    select image_id, 'c' || k, prompt_id, wave, index, gate_score, predicted, predicted <> label,
        0.9, 0.9, 0.9 * random(), [predicted, 'label 1'], [0.9, 0.05]
    from image join prompt using (prompt_id), range({classifiers}) t(k), lateral (
        select if(random() < if(description like '%6', 0.3, 0.08) + 0 * k,
            'label ' || (random() * {labels})::integer, label) as predicted
    );
insert into outcome_count
    select prompt_id, wave, classifier, predicted, wrong, if(gate_score < 0.4, 0.1, 0.4), count(*)
    from prediction group by all;
insert into embedding
    select image_id, wave, list_transform(range(512), lambda x: random()::float)
    from image using sample {embedded} percent (bernoulli);
insert into hypothesis
    select prompt_id, label, prompt_id, '', description, 0, 1.0, 'failures', 1, 0.001, 0, null, null
    from prompt where description <> '';
insert into decision
    select hypothesis_id, 'c' || k, if(description like '%6', 'confirmed', 'testing'), 100, 0.01
    from hypothesis, range({classifiers}) t(k);
insert into standing select hypothesis_id, hypothesis_id, true, '' from hypothesis;
insert into evidence
    select hypothesis_id, 'c' || k, wave, 20, 3, 1, 2.0, -0.1, 0.3
    from hypothesis join wave using (prompt_id), range({classifiers}) t(k) where phase = 'test';
insert into pair_count
    select hypothesis_id, 'c' || k, wave, 24, 22, 5, 22, 2, 20, 3, 1, 6, 3
    from hypothesis join wave using (prompt_id), range({classifiers}) t(k);
insert into text_embedding
    select prompt_id, list_transform(range(512), lambda x: random()::float) from hypothesis;
insert into drawn_count select prompt_id, wave, 24, 1.0, 0.3 from wave join hypothesis using (prompt_id);
"""
ASK = """
import json, sys, time
from pathlib import Path
from mothlight.sql import open_audit
start = time.perf_counter()
with open_audit(Path(sys.argv[1])) as store:
    opened = time.perf_counter() - start
    store.rows("set threads = 2; set memory_limit = '" + sys.argv[4] + "'")
    store.rows("select $one", one=1)  # where pandas is installed, DuckDB loads it at the first parameter
    start = time.perf_counter()
    rows = store.rows(sys.argv[2], **json.loads(sys.argv[3]))
    took = time.perf_counter() - start
status = Path("/proc/self/status").read_text()  # what getrusage says is inherited
peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps([opened, took, len(rows), peak]))
"""


def fill(folder: Path, images: int) -> dict[str, float]:
    """Write a database of about so many images; seconds, and its size."""
    labels = 200
    waves = max(images // (labels * (DESCRIPTIONS + 1) * WAVE), 4)
    start = perf_counter()
    with open_audit(folder / "audit.duckdb", read_only=False) as store:
        store.ask(
            DRAW.format(
                labels=labels, descriptions=DESCRIPTIONS, classifiers=CLASSIFIERS, wave=WAVE, waves=waves,
                embedded=100 * EMBEDDED,
            )
        )  # fmt: skip
        ((count,),) = store.rows("select count(*) from image")
    seconds = perf_counter() - start
    size = (folder / "audit.duckdb").stat().st_size
    return {"images": count, "waves": waves, "fill_seconds": round(seconds, 1), "bytes_per_image": round(size / count)}


def ask(folder: Path, statement: str, parameters: dict[str, object], memory: str, times: int) -> dict[str, float]:
    """Seconds to open and to answer, rows, and the peak of memory in MiB; the medians of several processes."""
    words = [sys.executable, "-P", "-c", ASK, str(folder), statement, json.dumps(parameters), memory]
    runs = []
    for _ in range(times):
        done = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603  # our own words
        if done.returncode:
            return {"failed": 1.0}
        runs.append(json.loads(done.stdout.splitlines()[-1]))  # above it DuckDB may have drawn its progress
    names = ("opening", "seconds", "rows", "peak_mib")
    return {name: round(median(run[place] for run in runs), 3) for place, name in enumerate(names)}


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=960_000)
    parser.add_argument("--memory", default="3GB")
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        about = fill(folder, arguments.images)
        print(json.dumps(about), flush=True)
        with open_audit(folder) as store:
            ((image,),) = store.rows("select image_id from embedding limit 1")
        wave = int(about["waves"]) - 2
        needed = {"image": image, "finding": "1"}
        questions: dict[str, tuple[str, dict[str, object]]] = {
            "a wave's counting": ((Path(__file__).parents[1] / "sql/steps/new_pairs.sql").read_text(), {"wave": wave}),
        }
        for query in query_names():
            parameters = query_parameters(query)
            if query == "canonical" or ("$" in query_text(query) and not parameters):
                continue  # the whole audit as text; and what serves the report
            given = [f"{one.name}={needed[one.name]}" for one in parameters if one.default is None]
            questions[query] = (query_text(query), given_parameters(query, given))
        answers = {}
        for query, (statement, given_values) in questions.items():
            answers[query] = ask(folder, statement, given_values, arguments.memory, arguments.times)
            print(f"  {query}: {json.dumps(answers[query])}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**about, "filling_peak_mib": round(peak), "answers": answers}))


if __name__ == "__main__":
    main()
