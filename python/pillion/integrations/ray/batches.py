"""Batches as Ray Data passes them: a dict of NumPy arrays, a pandas DataFrame, a pyarrow Table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...arguments import shown, wrong
from ...errors import UsageError

TEXT, COUNT, ANY = "text", "count", "any"
"""Kinds of columns: strings, whole numbers, and values of any kind. Each may hold None."""


def column_names(batch: Any) -> list[Any]:
    """Names of a batch's columns. Raises `UsageError` for something that is no batch."""
    if isinstance(batch, Mapping):
        return list(batch)
    if hasattr(batch, "column_names"):  # pyarrow
        return list(batch.column_names)
    if hasattr(batch, "columns"):  # pandas
        return list(batch.columns)
    wrong("batch", batch, "a dict of arrays, a pandas DataFrame or a pyarrow Table")


def values_of(batch: Any, name: str) -> list[Any]:
    """The values of a column as plain Python objects. Raises `UsageError` for a column that is not
    there."""
    names = column_names(batch)
    if name not in names:
        known = ", ".join(map(str, names))
        raise UsageError(f"the batch has no column {shown(name)}; it has {known}")
    column = batch[name]
    if hasattr(column, "to_pylist"):
        return [plain(one) for one in column.to_pylist()]
    if not isinstance(column, Iterable):
        wrong(f"the batch's column {shown(name)}", column, "a list or an array")
    return [plain(one) for one in column]


def with_columns(batch: Any, more: Mapping[str, tuple[str, Sequence[Any]]]) -> Any:
    """The batch with further columns, each of a kind and its values. The batch keeps its form; the
    given one is not changed."""
    if isinstance(batch, Mapping):
        return {**batch, **{name: _array(kind, values) for name, (kind, values) in more.items()}}
    if hasattr(batch, "column_names"):
        for name, (kind, values) in more.items():
            batch = batch.append_column(name, _arrow(kind, values))
        return batch
    batch = batch.copy(deep=False)
    for name, (kind, values) in more.items():
        batch[name] = _series(kind, values, batch.index)
    return batch


def plain(value: Any) -> Any:
    """A value of Python for one of NumPy, pandas or pyarrow. What stands for a missing value, NaN
    among them, is None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, np.ndarray):
        return [plain(one) for one in value.tolist()]
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def _array(kind: str, values: Sequence[Any]) -> Any:
    if kind == COUNT and None not in values:
        return np.array(values, dtype=np.int64)
    found = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):  # a slice would spread lists over the array
        found[at] = value
    return found


def _arrow(kind: str, values: Sequence[Any]) -> Any:
    import pyarrow

    kinds = {TEXT: pyarrow.string(), COUNT: pyarrow.int64(), ANY: None}
    return pyarrow.array(list(values), type=kinds[kind])


def _series(kind: str, values: Sequence[Any], index: Any) -> Any:
    import pandas

    return pandas.Series(list(values), index=index, dtype="Int64" if kind == COUNT else object)
