"""Continuous batching: rows join and leave between steps, prompts are read in pieces beside them.

Iteration-level scheduling (Yu et al. 2022, "Orca"), prompts in chunks beside running answers
(Agrawal et al. 2024, "Sarathi-Serve").
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from luthier_common.errors import PlatformError, ResourceExhausted

from luthier_inference.engine.fair_queue import FairQueue
from luthier_inference.engine.kv_cache import KeyValueCache
from luthier_inference.engine.lora_bank import LoraWeights, Placement
from luthier_inference.engine.metrics import EngineMetrics
from luthier_inference.engine.model import Model, Work
from luthier_inference.engine.prefix_cache import PrefixCache
from luthier_inference.engine.probing import ProbeRow, RowSeen, compare
from luthier_inference.engine.row import Piece, Row, failed, not_finite
from luthier_inference.engine.sampling import choose

_PATIENCE_SECONDS = 1.0
"""How long others may overtake a row for which no adapter's place is free."""
_COPIED_BYTES = 16 << 20
"""Of an adapter, in a step that others wait for."""
_EVERYTHING = 1 << 62

Out = list[tuple[Row, Piece | PlatformError]]
"""What steps gave to whom."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What a step, and the queue, may hold."""

    rows: int = 32
    """Rows written at the same time."""
    waiting: int = 1000
    """Rows that may wait."""
    step_tokens: int = 128
    """Tokens of prompts read in a step beside rows that are being written."""
    idle_tokens: int = 1024
    """The same when no row is being written."""


class Batcher:
    """Decides what each step computes. For one thread."""

    def __init__(
        self,
        model: Model,
        cache: KeyValueCache,
        prefixes: PrefixCache,
        metrics: EngineMetrics,
        *,
        sources: KeyValueCache | None,
        limits: Limits,
    ) -> None:
        """`sources` is the cache for what an encoder reads."""
        self._model = model
        self._cache = cache
        self._sources = sources
        self._prefixes = prefixes
        self._metrics = metrics
        self._limits = limits
        self._queue = FairQueue()
        self._running: list[Row] = []
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._suspects: set[Row] = set()
        self._out: Out = []

    @property
    def waiting(self) -> int:
        """Rows that nobody reads or writes yet."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Rows being read or written."""
        return len(self._running)

    def add(self, row: Row) -> None:
        """Have a row wait for its turn."""
        self._queue.add(row)

    def step(self) -> Out:
        """Compute one step and return what it gave."""
        self._drop_cancelled()
        self._admit()
        works = self._plan()
        if works:
            started = time.monotonic()
            self._compute(works)
            self._metrics.stepped(
                rows=len(works),
                seconds=time.monotonic() - started,
                cache=self._cache.used_bytes,
                adapters=len(self._model.bank.placed),
            )
        out, self._out = self._out, []
        return out

    def _compute(self, works: Sequence[tuple[Row, Work]]) -> None:
        kept = [row for row, work in works if work.kept]
        try:
            logits = self._model.step([work for _, work in works])
            chosen = choose(logits, [row.candidate() for row in kept])
        except Exception:
            logger.exception("a step failed", extra={"rows": len(works)})
            self._separate([row for row, _ in works])
            return
        for row, work in works:
            row.held += len(work.tokens)
            self._queue.served(row.project, read=0 if row.read else len(work.tokens))
            if work.kept:
                self._suspects.discard(row)
                self._has_read(row)
        for row, token in zip(kept, chosen, strict=True):
            if token is None:
                self._end(row, not_finite(), wipe=True)
                continue
            self._queue.served(row.project, written=1)
            self._metrics.wrote(row, time.monotonic())
            piece = row.advance(token)
            self._out.append((row, piece))
            if piece.finish is not None:
                self._leave(row)

    def _drop_cancelled(self) -> None:
        self._queue.drop_cancelled()
        for row in [row for row in self._running if row.cancelled]:
            self._leave(row)

    def embed(
        self, rows: Sequence[Sequence[int]], weights: LoraWeights | None
    ) -> list[list[float]]:
        """Return vectors of rows of tokens; ResourceExhausted."""
        return self._model.embed(rows, self._ready(weights)).tolist()

    def examine(self, row: ProbeRow, weights: LoraWeights) -> RowSeen:
        """Read a row of an adapter's probe; ResourceExhausted."""
        placement, slot = self._ready(weights), self._cache.take(len(row.line))
        source = self._sources.take(len(row.source)) if self._sources and row.source else None
        try:
            if slot is None or (row.source and source is None):
                raise _no_room("memory")
            work = Work(row.line, slot, placement, source=row.source, source_slot=source)
            return compare(row, self._model.read_through(work))
        finally:
            if slot is not None:
                self._cache.release(slot, wipe=True)
            if source is not None and self._sources is not None:
                self._sources.release(source, wipe=True)

    def _ready(self, weights: LoraWeights | None) -> Placement | None:
        """Return where an adapter is on the device, having put it there; ResourceExhausted."""
        if weights is None:
            return None
        if not self._has_place(weights):
            raise _no_room("places for adapters")
        placement = self._place(weights)
        self._model.bank.fill(weights, _EVERYTHING)
        return placement

    def unload(self, digest: str) -> bool:
        """Take an adapter off the device; False while a row needs it."""
        rows = [*self._running, *self._queue.in_order()]
        if any(row.digest == digest for row in rows):
            return False
        self._model.bank.remove(digest)
        self._recent.pop(digest, None)
        return True

    # ---- joining -------------------------------------------------------------------------

    def _admit(self) -> None:
        """Let waiting rows join while there is room."""
        now = time.monotonic()
        for row in self._queue.in_order():
            if len(self._running) >= self._limits.rows:
                return
            if row.leader is not None and not (row.leader.read or row.leader.over):
                if not row.leader.cancelled:
                    continue
                row.leader = None
            if row.weights is not None and not self._has_place(row.weights):
                if now - row.arrived > _PATIENCE_SECONDS:
                    return
                continue
            if not self._take_slots(row):
                return
            self._join(row, now)

    def _has_place(self, weights: LoraWeights) -> bool:
        """Whether an adapter is on the device, or there is room for it once others have left."""
        if weights.digest in self._model.bank.placed:
            return True
        used = {row.digest for row in self._running}
        for digest in [digest for digest in self._recent if digest not in used]:
            if self._model.bank.fits(weights.rank):
                break
            self._model.bank.remove(digest)
            del self._recent[digest]
        return self._model.bank.fits(weights.rank)

    def _place(self, weights: LoraWeights) -> Placement:
        placed = self._model.bank.placed.get(weights.digest)
        self._recent[weights.digest] = None
        self._recent.move_to_end(weights.digest)
        return placed or self._model.bank.place(weights)

    def _take_slots(self, row: Row) -> bool:
        row.slot = self._cache.take(row.length + 1)
        if row.slot is None:
            return False
        if self._sources is not None:
            row.source_slot = self._sources.take(len(row.prompt))
            if row.source_slot is None:
                self._cache.release(row.slot)
                row.slot = None
                return False
        return True

    def _join(self, row: Row, now: float) -> None:
        self._queue.take(row)
        self._running.append(row)
        row.held, row.read = 0, False
        if row.weights is not None:
            row.placement = self._place(row.weights)
        if row.slot is not None and not row.encodes:
            # The last token is computed in any case: what follows it is asked for.
            row.held = self._prefixes.load(_owner(row), row.line[:-1], row.slot)
            row.slot.length = row.held
            if not row.written:
                row.cached = row.held
        self._metrics.joined(row, now)

    # ---- a step --------------------------------------------------------------------------

    def _plan(self) -> list[tuple[Row, Work]]:
        """Return what is computed next: a token of every row being written, and some of prompts."""
        # After a step that failed, each of its rows is tried by itself.
        suspect = [row for row in self._running if row in self._suspects][:1]
        chosen = suspect or self._running
        writing = [row for row in chosen if row.read]
        room = self._limits.step_tokens if writing else self._limits.idle_tokens
        room_for = [row for row in writing if row in self._running and self._grow(row, row.length)]
        works = [(row, self._working(row, 1)) for row in room_for if row in self._running]
        for row in [row for row in chosen if not row.read and row in self._running]:
            if room <= 0:
                break
            if row.weights is not None:
                budget = _COPIED_BYTES if writing else _EVERYTHING
                if not self._model.bank.fill(row.weights, budget):
                    continue
            work = self._working(row, room)
            works.append((row, work))
            room -= len(work.tokens) + len(work.source)
        return works

    def _working(self, row: Row, most: int) -> Work:
        tokens = row.next_tokens(most)
        if row.slot is None:
            raise RuntimeError("a row without a slot")
        return Work(
            tokens=tokens,
            slot=row.slot,
            placement=row.placement,
            kept=row.held + len(tokens) == row.length,
            source=row.prompt if row.encodes and not row.held else (),
            source_slot=row.source_slot,
        )

    def _grow(self, row: Row, tokens: int) -> bool:
        """Make room for a row's tokens; the rows that came last go back to the queue for it."""
        while row.slot is not None and not self._cache.grow(row.slot, tokens):
            youngest = self._running[-1]
            logger.info("a row waits again: no memory for keys and values")
            self._wait_again(youngest)
            if youngest is row:
                return False
        return True

    def _has_read(self, row: Row) -> None:
        if row.read:
            return
        row.read = True
        if row.slot is not None and not row.encodes:
            self._prefixes.store(_owner(row), row.line[: row.held], row.slot)

    # ---- leaving -------------------------------------------------------------------------

    def _leave(self, row: Row, *, wipe: bool = False) -> None:
        """Take a row out and free its memory."""
        row.over = True
        self._suspects.discard(row)
        if row.slot is not None and row.read and not (wipe or row.encodes):
            self._prefixes.store(_owner(row), row.line[: row.held], row.slot)
        self._free(row, wipe=wipe)

    def _free(self, row: Row, *, wipe: bool = False) -> None:
        self._running.remove(row)
        row.read = False
        if row.slot is not None:
            self._cache.release(row.slot, wipe=wipe)
        if row.source_slot is not None and self._sources is not None:
            self._sources.release(row.source_slot, wipe=wipe)
        row.slot = row.source_slot = row.placement = None

    def _end(self, row: Row, error: PlatformError, *, wipe: bool = False) -> None:
        self._out.append((row, error))
        self._leave(row, wipe=wipe)

    def _wait_again(self, row: Row) -> None:
        """Put a row back; what it has written is read again as if it were prompt."""
        self._free(row)
        self._queue.add(row, first=True)

    def _separate(self, rows: Sequence[Row]) -> None:
        """After a step that failed: end the row that was alone in it, or try each by itself."""
        if len(rows) == 1:
            rows[0].read = False  # what the cache holds of it is not kept
            self._end(rows[0], failed(), wipe=True)
            return
        self._suspects.update(rows)
        for row in reversed(rows):
            self._wait_again(row)


def _no_room(what: str) -> ResourceExhausted:
    return ResourceExhausted(
        f"all {what} are in use; try again later",
        reason="ENGINE_BUSY",
        metadata={"retry_after_seconds": "1"},
    )


def _owner(row: Row) -> tuple[str, str]:
    return row.project, row.digest
