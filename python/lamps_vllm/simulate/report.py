# SPDX-License-Identifier: Apache-2.0
"""A sweep as JSON and as one self-contained HTML page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from string import Template

from lamps_vllm.simulate.outcome import Outcome
from lamps_vllm.simulate.tables import COLUMNS, summary_rows

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
td, th { padding: 3px 9px; text-align: right; border-bottom: 1px solid #ddd; white-space: pre-line }
td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left }
tbody tr:hover { background: #f3f6fa }
summary { font-weight: 600; margin: 1.2em 0 .4em; cursor: pointer }
svg { max-width: 100%; height: auto }
code { background: #f4f4f4; padding: 1px 4px; word-break: break-all }
.note { color: #555; font-size: 13px }
</style></head><body>
<h1>$title</h1>
<p class="note">$notes</p>
<p class="note"><code>$command</code></p>
<table><thead><tr>$head</tr></thead><tbody>$rows</tbody></table>
<p class="note">Seconds; sessions from arrival to last token without their tools' time; medians over
seeds. Steady figures leave out the first tenth and what follows the last arrival.</p>
$sections
</body></html>
""")


def page(
    outcomes: Sequence[Outcome],
    sections: Sequence[tuple[str, str]],
    *,
    title: str,
    command: str,
    notes: Sequence[str],
) -> str:
    """The page; `sections` are headings with SVG text."""
    heads = ["load", "policy", *(column.title.strip() for column in COLUMNS)]
    rows = [
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in summary_rows(outcomes)
    ]
    return PAGE.substitute(
        title=html.escape(title),
        command=html.escape(command),
        notes="<br>".join(html.escape(note) for note in notes),
        head="".join(f"<th>{html.escape(head)}</th>" for head in heads),
        rows="\n".join(rows),
        sections="\n".join(
            f"<details open><summary>{html.escape(heading)}</summary>{svg}</details>"
            for heading, svg in sections
        ),
    )


def as_json(
    outcomes: Sequence[Outcome], settings: Mapping[str, object], command: str
) -> dict[str, object]:
    """What `--json` writes: how it was run, and every run with its details."""
    return {
        "command": command,
        "settings": dict(settings),
        "runs": [outcome.model_dump(mode="json") for outcome in outcomes],
    }
