"""Summarises tables: a CSV file comes in, and how many values each column has, their least, greatest and mean, go out."""

import csv
import io
from decimal import Decimal, InvalidOperation
from typing import Any, Union

import sandhog

SEPARATORS = ",;\t|"
SNIFFED = 4096


@sandhog.handler
def handle(message: sandhog.Message) -> None:
    """Summarises one table, and sends the summary to the queue ``summaries``."""
    table = rows_of(message.text())
    if len(table) < 2:
        raise sandhog.Reject("a table has a line of names, and at least one more")
    names, *rows = table
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise sandhog.Reject(f"line {number} has {len(row)} fields, and the first line has {len(names)}")
    columns = {name: summary_of([row[index] for row in rows]) for index, name in enumerate(names)}
    sandhog.send(
        "summaries",
        json={"rows": len(rows), "columns": columns},
        attributes={"rows": len(rows), "source": message.id},
    )
    sandhog.log.info("%d rows of %d columns", len(rows), len(names))


def rows_of(text: str) -> list[list[str]]:
    """Reads a table whose separator is one of the usual, without its empty lines."""
    text = text.removeprefix("\ufeff")
    try:
        dialect: Union[str, type[csv.Dialect]] = csv.Sniffer().sniff(text[:SNIFFED], SEPARATORS)
    except csv.Error:
        dialect = "excel"
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), dialect, strict=True) if row]
    except csv.Error as error:
        raise sandhog.Reject("the body is not CSV") from error


def summary_of(fields: list[str]) -> dict[str, Any]:
    """Summarises a column: as numbers if all its values are, otherwise as text."""
    present = [field.strip() for field in fields if field.strip()]
    summary: dict[str, Any] = {"count": len(present), "empty": len(fields) - len(present)}
    if not present:
        return summary
    try:
        numbers = [number_of(field) for field in present]
    except InvalidOperation:
        return {**summary, "distinct": len(set(present)), "min": min(present), "max": max(present)}
    mean = sum(numbers, Decimal(0)) / len(numbers)
    return {**summary, "min": float(min(numbers)), "max": float(max(numbers)), "mean": float(mean)}


def number_of(field: str) -> Decimal:
    """Reads a number; ``NaN`` and the like are text."""
    number = Decimal(field)
    if not number.is_finite():
        raise InvalidOperation
    return number
