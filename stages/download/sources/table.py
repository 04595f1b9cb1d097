"""CSV files that name images: every error message names the file and the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.download.sources.files import is_file, is_image
from stages.types import UserError


@dataclass(frozen=True)
class Line:
    """A line of a CSV file: its cells by column, without blanks around them."""

    where: str
    """File and line, for messages."""
    cells: dict[str, str]

    def image_path(self, column: str, base: Path) -> str:
        """The cell as the path of an image file below `base`, '/' between parts.

        Raises:
            UserError: the path is empty, leads out of `base`, does not exist, or is not an image.
        """
        text = self.cells[column]
        path = PurePosixPath(text)
        if path.is_relative_to(base.absolute().as_posix()):
            path = path.relative_to(base.absolute().as_posix())
        if not text:
            raise UserError(f"{self.where}: column {column!r} is empty; write the path of an image below {base}")
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{self.where}: {text!r} leads out of {base}; write a path below it, without ..")
        if not is_file(base / path):
            hint = "; write / between folders" if "\\" in text else "; correct the path or remove the line"
            raise UserError(f"{self.where}: there is no file {text!r} below {base}{hint}")
        if not is_image(base / path):
            raise UserError(f"{self.where}: {text!r} is not an image that can be read; convert it, or remove the line")
        return path.as_posix()


def _delimiter(header: str, columns: tuple[str, ...]) -> str:
    """What separates the cells: the first of `,`, `;` and a tab that gives a header with these columns; else `,`."""
    for delimiter in ",;\t":
        if set(columns) <= {name.strip().strip('"') for name in header.split(delimiter)}:
            return delimiter
    return ","


def read_lines(file: Path, columns: tuple[str, ...]) -> Iterator[Line]:
    """The lines below the header that are not blank.

    Raises:
        UserError: the file is not readable as UTF-8 CSV; a column is missing; a line has more or fewer cells than the
            header.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text_file:
            delimiter = _delimiter(text_file.readline(), columns)
            text_file.seek(0)
            reader = csv.DictReader(text_file, strict=True, delimiter=delimiter)
            header = [name.strip() for name in reader.fieldnames or ()]
            for column in columns:
                if column not in header:
                    columns_found = ", ".join(header) or "nothing"
                    raise UserError(f"{file} line 1: no column {column!r}; it names {columns_found}")
            reader.fieldnames = header
            for row in reader:
                where = f"{file} line {reader.line_num}"
                if None in row or None in row.values():
                    raise UserError(
                        f"{where}: not {len(header)} cells as in line 1; quote a cell that holds {delimiter!r}"
                    )
                yield Line(where, {name: cell.strip() for name, cell in row.items()})
    except (UnicodeDecodeError, csv.Error) as fault:
        raise UserError(f"{file}: not a CSV file in UTF-8 ({fault}); save it as CSV in UTF-8") from fault
    except OSError as fault:
        raise UserError(f"{file}: cannot be read ({fault.strerror}); change its permissions, or remove it") from fault
