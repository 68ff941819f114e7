"""What a Jupyter notebook shows of an object: a heading and a table, every text escaped."""

from collections.abc import Iterable, Mapping
from html import escape


def shown(title: str, facts: Mapping[str, str], lines: Iterable[str] = ()) -> str:
    """Return HTML for a notebook's cell: a heading, a table of names and values, and lines of text.

    >>> shown("a < b", {"images": "3"})
    '<div><h3>a &lt; b</h3><table><tr><th>images</th><td>3</td></tr></table></div>'
    """
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()
    )
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<div><h3>{escape(title)}</h3><table>{rows}</table>{f'<ul>{listed}</ul>' if listed else ''}</div>"
