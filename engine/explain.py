"""One finding's story, in plain lines: where it came from, each wave, its other wordings, its pictures, its cost."""

from collections.abc import Iterator
from typing import Any

from mothlight.engine.console import points, share
from mothlight.engine.errors import UserError
from mothlight.engine.streams import printable
from mothlight.sql import Store

ORIGINS = {
    "failures": "captions of failures say it more often than captions of passes",
    "longer": "its failures, tested without the last words, shared them",
    "shorter": "a confirmed description, with a sentence less",
    "joined": "two confirmed descriptions together",
    "own": "somebody asked",
    "pooled": "captions of several labels' failures say it more often than those of their passes",
    "control": "for comparison",
    "photographs": "it was found in photographs",
    "generated": "it was confirmed on generated images",
}


def story(store: Store, number: int) -> Iterator[str]:
    """The lines.

    Raises:
        UserError: there is no such finding.
    """
    rows = store.step_records("story", finding=number)
    if not rows:
        ((known,),) = store.rows("select coalesce(max(finding), 0) from findings")
        raise UserError(f"There is no finding {number}; " + (f"they go to {known}." if known else "none is confirmed."))
    (finding,) = rows
    key, classifier = finding["hypothesis_id"], finding["classifier"]
    yield printable(f"Finding {number}: {finding['label']} → {finding['predicted']}: {finding['description']}")
    yield printable(f"  on {classifier}; prompt: {finding['prompt']}")
    yield (
        f"  fails {share(finding['rate'])}, plain {share(finding['baseline_rate'])}, {_effect(finding)}, "
        f"{finding['pairs']} pairs of the {finding['provenance']}; q = {finding['q_value']:.2g}"
    )
    if finding["gate_could_explain"]:
        yield "  could be the gate's doing: its error alone could make up the effect"
    yield "Where it came from"
    yield f"  round {finding['round']}, after wave {finding['born_wave']}: {ORIGINS[finding['origin']]}"
    if finding["parent"]:
        yield printable(f"  made of: {finding['parent']}")
    if finding["grouped_for"]:
        part = f", part {finding['part']} by embedding" if finding["part"] else ""
        said = f"seen as {finding['grouped_as']}" if finding["grouped_as"] else "all"
        yield printable(
            f"  {finding['grouped']} failures of {finding['grouped_for']}, {said}{part}; z = {finding['score']:.1f}"
        )
    for (caption,) in store.step("story_captions", hypothesis=key):
        yield printable(f"    “{caption}”")
    yield "Waves"
    for wave in store.step_records("story_waves", hypothesis=key, classifier=classifier):
        bounds = "" if wave["low"] is None else f", effect {points(wave['low'])} to {points(wave['high'])} so far"
        yield (
            f"  wave {wave['wave']}: {wave['pairs']} pairs, {wave['more']} only described, {wave['less']} only plain; "
            f"e = {wave['e_value']:.3g}{bounds}"
        )
    for drawn in store.records("select * from drawn where prompt_id = $prompt", prompt=finding["prompt_id"]):
        how = "not drawn: its images are no closer to its words" if drawn["not_drawn"] else "its images show it"
        bounds = f"{drawn['closer_low']:+.3f} to {drawn['closer_high']:+.3f}"
        yield f"Drawn: {how} (cosine {drawn['closer']:+.3f}, {bounds}, {drawn['n']} pairs)"
    yield from _beside(store, number, finding)
    yield f"Cost: {finding['images_made']:,} images of its prompt; the plain ones are shared with its label's others"


def _beside(store: Store, number: int, finding: dict[str, Any]) -> Iterator[str]:
    """The other wordings of its bug, its control, and some pictures."""
    wordings = store.step_records("story_wordings", bug=finding["bug"], finding=number)
    yield "The same bug" if wordings else "The same bug: no other wording or classifier"
    for one in wordings:
        event = f"{one['label']} → {one['predicted']}"
        what = f"{event}: {one['description']} on {one['classifier']}, {points(one['effect'])} points"
        yield printable(f"  {one['finding']}. {what} ({one['origin']}){', stands for it' if one['main'] else ''}")
    controls = store.records("select * from control where finding = $finding", finding=number)
    yield "Control" if controls else "Control: no other description of the label was tested"
    for one in controls:
        yield printable(f"  {one['control']} → {one['control_predicted']}: {_effect(one)}, {one['pairs']} pairs")
    yield "Pictures (mothlight image AUDIT ID --out FILE)"
    for image_id, phase in store.step(
        "story_images", hypothesis=finding["hypothesis_id"], classifier=finding["classifier"]
    ):
        yield f"  {image_id} ({phase})"


def _effect(row: dict[str, Any]) -> str:
    return f"effect {points(row['effect'])} ({points(row['effect_low'])} to {points(row['effect_high'])})"
