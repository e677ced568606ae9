"""Objects that cannot leave the memory of their process."""

from __future__ import annotations

from typing import Any, NoReturn

from .errors import UsageError


class Held:
    """`copy`, `deepcopy` and `pickle` raise `UsageError`: a second object would change the first
    one's state, and another process has neither."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        what = type(self).__name__
        raise UsageError(
            f"this {what} cannot be copied or pickled, it lies in the memory of this process; "
            "pass the path of its model and open that, or fork()"
        )
