"""What a job's kind of tuning means for its run: rows, tensors and trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from luthier.trainer.v1.tuning_pb2 import ResolvedHyperparameters
from transformers import TrainingArguments
from trl import DPOConfig

from luthier_trainer.run import row_attention
from luthier_trainer.run.data import Collator, Format, LineCollator, keeps_rows_apart
from luthier_trainer.run.model import is_encoder_decoder
from luthier_trainer.run.output_head import plain_model
from luthier_trainer.run.preferences import PreferenceCollator, PreferenceTrainer
from luthier_trainer.run.rows import CausalFormat, PreferenceFormat, Row, Seq2SeqFormat
from luthier_trainer.run.seq2seq import PairCollator
from luthier_trainer.run.trainers import (
    CausalTrainer,
    Seq2SeqTrainer,
    StepTrainer,
)


@dataclass(frozen=True)
class Task:
    """One of the three kinds: answers by a decoder, by an encoder-decoder, or preferences."""

    seq2seq: bool
    preference: bool

    @classmethod
    def of(cls, folder: Any, *, preference: bool) -> Task:
        """Return the task of tuning the snapshot in `folder`."""
        return cls(seq2seq=is_encoder_decoder(folder), preference=preference)

    def format(self, tokenizer: Any, context_tokens: int) -> Format:
        """Return how rows become tokens."""
        if self.preference:
            return PreferenceFormat(tokenizer)
        if self.seq2seq:
            return Seq2SeqFormat(tokenizer)
        return CausalFormat(tokenizer, context_tokens)

    def packs(self, model: Any, row: Row, pad_token: int, chosen: ResolvedHyperparameters) -> bool:
        """Whether rows share lines: if it is wanted, and the model keeps them apart."""
        if self.preference or self.seq2seq or not chosen.packing:
            return False
        plain = plain_model(model)
        if not keeps_rows_apart(plain, row, pad_token):
            return False
        row_attention.use(plain, chosen.max_row_tokens or plain.config.max_position_embeddings)
        return True

    def collator(self, pad_token: int, *, most: int) -> Collator:
        """Return what makes tensors of rows; lines are of about `most` tokens, 0 for a row each."""
        if self.preference:
            return PreferenceCollator(pad_token)
        if self.seq2seq:
            return PairCollator(pad_token)
        return LineCollator(pad_token, most=most)

    def trainer(
        self, arguments: dict[str, Any], chosen: ResolvedHyperparameters, **options: Any
    ) -> StepTrainer:
        """Return the trainer; `arguments` are transformers' training arguments."""
        if self.preference:
            rows = Dataset.from_list(options.pop("train_dataset"))
            config = DPOConfig(**arguments, beta=chosen.beta, max_length=None)
            return PreferenceTrainer(args=config, train_dataset=rows, **options)
        kind = Seq2SeqTrainer if self.seq2seq else CausalTrainer
        return kind(args=TrainingArguments(**arguments), **options)
