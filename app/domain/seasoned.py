"""The sources that validators shook hands from: a flood of strangers does not count against them (threat 7)."""

from collections import OrderedDict
from typing import Final

_MOST_HOTKEYS: Final = 1_024
_MOST_OF_ONE: Final = 8
"""As many as a hotkey may have sessions: one that comes from everywhere pushes out nobody but itself."""


class SeasonedSources:
    """The latest sources of each hotkey; bounded, and only who can sign adds to it."""

    def __init__(self) -> None:
        self._by_hotkey: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._hotkeys: dict[str, int] = {}
        """How many hotkeys have this source."""

    def __contains__(self, source: str) -> bool:
        return source in self._hotkeys

    def __len__(self) -> int:
        return len(self._hotkeys)

    def add(self, hotkey: str, source: str) -> None:
        """A hotkey proved itself from this source."""
        own = self._by_hotkey.setdefault(hotkey, OrderedDict())
        self._by_hotkey.move_to_end(hotkey)
        if source in own:
            own.move_to_end(source)
            return
        own[source] = None
        self._hotkeys[source] = self._hotkeys.get(source, 0) + 1
        if len(own) > _MOST_OF_ONE:
            self._forget(own.popitem(last=False)[0])
        if len(self._by_hotkey) > _MOST_HOTKEYS:
            for each in self._by_hotkey.popitem(last=False)[1]:
                self._forget(each)

    def _forget(self, source: str) -> None:
        self._hotkeys[source] -= 1
        if not self._hotkeys[source]:
            del self._hotkeys[source]
