"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> str:
    """`sides` has an l or r for each column; a bar in a cell is escaped."""
    lines = [header, ["---:" if side == "r" else "---" for side in sides], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
