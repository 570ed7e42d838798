"""Parts of the page: sections, charts, and tables behind a line that opens them."""

import base64
from html import escape


def section(title: str, body: str, note: str) -> str:
    """A section of HTML with a heading and a note as text; nothing if the body is empty."""
    return f'<section><h2>{escape(title)}</h2>{body}<p class="note">{escape(note)}</p></section>' if body else ""


def chart(svg: str, text: str) -> str:
    """A chart as a picture with that text for those who do not see it; nothing of nothing."""
    if not svg:
        return ""
    data = base64.b64encode(svg.encode()).decode()
    return f'<div class="chart"><img src="data:image/svg+xml;base64,{data}" alt="{escape(text)}"></div>'


def folded(heading: str, table: str) -> str:
    """A table of HTML that opens at a click on its heading."""
    return f'<details><summary>{escape(heading)}</summary><div class="table">{table}</div></details>'
