"""Small static SVG drawings of numbers."""

from markupsafe import Markup

WIDTH, HEIGHT, PAD = 220, 34, 6


def interval_chart(rows: list[tuple[str, float | None, float | None, float | None]]) -> Markup:
    """One line per (CSS class, value, low, high), proportions on an axis from 0 to 1; a missing value draws nothing.

    The drawing repeats numbers that stand beside it as text, so it is hidden from screen readers.
    """
    parts = [
        f'<svg class="intervals" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">',
        f'<line class="axis" x1="{PAD}" y1="{HEIGHT - 4}" x2="{WIDTH - PAD}" y2="{HEIGHT - 4}"/>',
    ]
    parts += [
        f'<line class="axis" x1="{_x(tick)}" y1="{HEIGHT - 7}" x2="{_x(tick)}" y2="{HEIGHT - 2}"/>'
        for tick in (0.0, 0.5, 1.0)
    ]
    for place, (kind, value, low, high) in enumerate(rows):
        if value is None or low is None or high is None:
            continue
        y = 8 + 11 * place
        parts.append(f'<line class="{kind}" x1="{_x(low)}" y1="{y}" x2="{_x(high)}" y2="{y}"/>')
        parts.append(f'<circle class="{kind}" cx="{_x(value)}" cy="{y}" r="4"/>')
    return Markup("".join((*parts, "</svg>")))  # noqa: S704  # numbers and our own class names only


def _x(share: float) -> str:
    return f"{PAD + share * (WIDTH - 2 * PAD):.1f}"
