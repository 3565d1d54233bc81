"""A base model that computes lines: tokens of many rows at once, each with its own adapter."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.pytorch_utils import Conv1D

from luthier_inference.engine.architectures import CROSS, ENCODER, SELF, prepare
from luthier_inference.engine.attention import Cached, Crossed, Decoding, Packed, Reading
from luthier_inference.engine.kv_cache import LayerShape, Slot
from luthier_inference.engine.lora_bank import (
    LINE,
    SOURCE,
    Line,
    LoraBank,
    Piece,
    Placement,
)
from luthier_inference.engine.packing import pack


@dataclass(eq=False)
class Work:
    """What a step computes of one row."""

    tokens: Sequence[int]
    """The next tokens of the row whose keys and values are not held yet."""
    slot: Slot
    """Has room for them, and counts those before them."""
    placement: Placement | None
    kept: bool = True
    """Whether the logits behind its last token are wanted."""
    source: Sequence[int] = ()
    """Tokens for the encoder to read before."""
    source_slot: Slot | None = None
    """Of an encoder-decoder's rows: where what the encoder read is held."""


class Model:
    """Runs lines through a base model. For one thread."""

    def __init__(self, base: PreTrainedModel, *, slots: int, columns: int) -> None:
        """`slots` and `columns` bound the adapters on the device (see `LoraBank`)."""
        self.base = base
        self._base: Any = base
        self.device = base.device
        self.dtype = base.dtype
        """What products are computed in."""
        self.encodes = bool(base.config.is_encoder_decoder)
        """Whether it is an encoder-decoder."""
        self.start = decoder_start(base)
        """What a decoder with an encoder begins with; empty for others."""
        linear = dict(_linear_layers(base))
        self.layers = {name: _sizes(layer) for name, (layer, _) in linear.items()}
        """Inputs and outputs of the linear layers that adapters may change, by name."""
        self._hub = prepare(base)
        pack(base)
        self._accepted = set(inspect.signature(base.forward).parameters)
        self.bank = LoraBank(
            linear,
            slots=slots,
            columns=columns,
            dtype=base.dtype,
            device=base.device,
        )
        self.cache_dtype = self._hub.dtype
        """What keys and values are held in."""
        self.shapes, self.source_shapes = self._learn_shapes()

    @property
    def vocabulary_size(self) -> int:
        """Width of the logits."""
        return int(self._base.get_output_embeddings().weight.shape[0])

    @torch.inference_mode()
    def step(self, works: Sequence[Work]) -> torch.Tensor:
        """Compute a line; return logits (works kept, vocabulary) in float32, in their order."""
        order = sorted(works, key=_place)
        logits = self._compute(order, self._ends(order))
        places = {id(work): at for at, work in enumerate(w for w in order if w.kept)}
        wanted = [places[id(work)] for work in works if work.kept]
        return logits[wanted].float()

    @torch.inference_mode()
    def read_through(self, work: Work) -> torch.Tensor:
        """Compute one row's tokens; return the logits behind each (tokens, vocabulary)."""
        every = torch.arange(len(work.tokens), device=self.device)
        return self._compute([work], every).float()

    def _compute(self, order: Sequence[Work], ends: torch.Tensor) -> torch.Tensor:
        """Return the logits at `ends` of the line that works in this order make."""
        for work in order:
            work.slot.length += len(work.tokens)
        singles = [work for work in order if len(work.tokens) == 1]
        longer = order[len(singles) :]
        self._hub.reaches[SELF] = Cached(
            _groups([work.slot for work in singles]),
            _readings([work.slot for work in longer], longer, len(singles)),
        )
        self.bank.lines[LINE] = _line(singles, longer, self.device)
        encoded = self._encode(order) if self.encodes else None
        return self._forward(order, ends, encoded)

    def _ends(self, order: Sequence[Work]) -> torch.Tensor:
        """Return the line's places whose logits are kept."""
        ends, end = [], 0
        for work in order:
            end += len(work.tokens)
            if work.kept:
                ends.append(end - 1)
        return torch.tensor(ends, dtype=torch.long, device=self.device)

    def _forward(
        self, order: Sequence[Work], ends: torch.Tensor, encoded: torch.Tensor | None
    ) -> torch.Tensor:
        tokens = [token for work in order for token in work.tokens]
        line = torch.tensor([tokens], device=self.device)
        if encoded is not None:
            output = self._base(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
                decoder_input_ids=line,
                use_cache=False,
            )
            every: torch.Tensor = output.logits[0, ends]
            return every
        positions = [
            position
            for work in order
            for position in range(work.slot.length - len(work.tokens), work.slot.length)
        ]
        inputs = {
            "input_ids": line,
            "position_ids": torch.tensor([positions], device=self.device),
            "logits_to_keep": ends,
        }
        output = self._base(use_cache=False, **self._taken(inputs))
        logits: torch.Tensor = output.logits[0]
        return logits if "logits_to_keep" in self._accepted else logits[ends]

    def _encode(self, order: Sequence[Work]) -> torch.Tensor:
        """Have the encoder read new sources; return what it makes of them (1, tokens, size)."""
        new = [work for work in order if work.source]
        slots = []
        for work in new:
            if work.source_slot is None:
                raise RuntimeError("a source without a slot")
            work.source_slot.length = len(work.source)
            slots.append(work.source_slot)
        singles = [work for work in order if len(work.tokens) == 1]
        longer = order[len(singles) :]
        self._hub.reaches[CROSS] = Crossed(
            _groups([_source(work) for work in singles]),
            _readings([_source(work) for work in longer], longer, len(singles)),
            slots,
        )
        if not new:
            self.bank.lines[SOURCE] = Line([], [], self.device)
            # One token that nobody looks at: layers take no line without any.
            return torch.zeros((1, 1, self._base.config.d_model), dtype=self.dtype).to(self.device)
        of_line = self.bank.lines[LINE]
        self.bank.lines[LINE] = self.bank.lines[SOURCE] = _pieces(
            [(len(work.source), work.placement) for work in new], self.device
        )
        encoded = self.read([work.source for work in new])
        self.bank.lines[LINE] = of_line
        return encoded

    def read(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the last layer (1, tokens, size) of rows read whole, one behind the other."""
        sizes = [len(row) for row in rows]
        line = torch.tensor([[token for row in rows for token in row]], device=self.device)
        if self.encodes:
            self._hub.reaches[ENCODER] = Packed(sizes, causal=False)
            output = self._base.get_encoder()(input_ids=line)
        else:
            self._hub.reaches[SELF] = Packed(sizes, causal=True)
            positions = [place for size in sizes for place in range(size)]
            at = {"position_ids": torch.tensor([positions], device=self.device)}
            output = self._base.base_model(input_ids=line, use_cache=False, **self._taken(at))
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    @torch.inference_mode()
    def embed(self, rows: Sequence[Sequence[int]], placement: Placement | None) -> torch.Tensor:
        """Return vectors of length 1 (rows, size): means over the tokens of each row."""
        self.bank.lines[LINE] = _pieces([(len(row), placement) for row in rows], self.device)
        hidden = self.read(rows)[0].float()
        means = [part.mean(dim=0) for part in torch.split(hidden, [len(row) for row in rows])]
        return nn.functional.normalize(torch.stack(means), dim=-1)

    def _taken(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in inputs.items() if name in self._accepted}

    @torch.inference_mode()
    def _learn_shapes(self) -> tuple[list[LayerShape], list[LayerShape]]:
        """Return what a token takes in each layer, and what one of a source does."""
        own, crossed = Packed([1], causal=True), Packed([1], causal=False)
        token = torch.zeros((1, 1), dtype=torch.long, device=self.device)
        self._hub.reaches |= {SELF: own, CROSS: crossed, ENCODER: Packed([1], causal=False)}
        given = {"decoder_input_ids": token} if self.encodes else {}
        self._base(input_ids=token, use_cache=False, **given)
        return [own.shapes[at] for at in sorted(own.shapes)], [
            crossed.shapes[at] for at in sorted(crossed.shapes)
        ]


def _linear_layers(base: Any) -> Iterator[tuple[str, tuple[nn.Module, str]]]:
    """Yield those that adapters may change, and whose tokens they compute."""
    head = base.get_output_embeddings()
    for name, module in base.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            crossing = "EncDecAttention" in name and name.rsplit(".", 1)[-1] in ("k", "v")
            yield name, (module, SOURCE if crossing else LINE)


def _sizes(layer: Any) -> tuple[int, int]:
    if isinstance(layer, Conv1D):
        inputs, outputs = layer.weight.shape
        return int(inputs), int(outputs)
    return layer.in_features, layer.out_features


def decoder_start(base: Any) -> tuple[int, ...]:
    """Return what the decoder of an encoder-decoder begins with; empty for others."""
    if not base.config.is_encoder_decoder:
        return ()
    for config in (base.generation_config, base.config):
        if config.decoder_start_token_id is not None:
            return (int(config.decoder_start_token_id),)
    return (int(base.config.pad_token_id or 0),)


def _place(work: Work) -> tuple[bool, int, int, int]:
    """Single tokens first, rows of a lane beside each other."""
    source = 0 if work.source_slot is None else work.source_slot.lane.width
    return len(work.tokens) > 1, work.slot.lane.width, source, work.slot.index


def _source(work: Work) -> Slot:
    if work.source_slot is None:
        raise RuntimeError("a row of an encoder-decoder without a source")
    return work.source_slot


def _groups(slots: Sequence[Slot]) -> list[Decoding]:
    """Group the line's single tokens by lane, in their order."""
    groups: list[list[Slot]] = []
    for slot in slots:
        if groups and groups[-1][-1].lane is slot.lane:
            groups[-1].append(slot)
        else:
            groups.append([slot])
    firsts = [sum(map(len, groups[:at])) for at in range(len(groups))]
    return [Decoding(group[0].lane, group, at) for group, at in zip(groups, firsts, strict=True)]


def _readings(slots: Sequence[Slot], longer: Sequence[Work], first: int) -> list[Reading]:
    readings = []
    for slot, work in zip(slots, longer, strict=True):
        readings.append(Reading(slot, first, len(work.tokens)))
        first += len(work.tokens)
    return readings


def _line(singles: Sequence[Work], longer: Sequence[Work], device: torch.device) -> Line:
    pieces, first = [], len(singles)
    for work in longer:
        pieces.append(Piece(first, len(work.tokens), work.placement))
        first += len(work.tokens)
    return Line([work.placement for work in singles], pieces, device)


def _pieces(rows: Sequence[tuple[int, Placement | None]], device: torch.device) -> Line:
    pieces, first = [], 0
    for count, placement in rows:
        pieces.append(Piece(first, count, placement))
        first += count
    return Line([], pieces, device)
