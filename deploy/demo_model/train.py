"""Train the demo model: a small Llama that completes Python, on the standard library's sources.

    python deploy/demo_model/train.py OUT                     # minutes on one GPU
    python deploy/demo_model/train.py OUT --steps 4 --device cpu --batch 2 --context 256

Collects the sources, keeps every twentieth file for validation, trains a byte-level BPE tokenizer
and then the model, and writes a Hugging Face model folder with training.json beside the weights.
The weights written are those of the best validation loss. Run it with the environment of
`make setup`; it needs nothing else.
"""

import argparse
import json
import math
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BEGIN, END = "<pad>", "<s>", "</s>"
SPECIALS = [PAD, BEGIN, END]
PAD_ID, BEGIN_ID, END_ID = range(3)
LEFT_OUT = frozenset({"__pycache__", "dist-packages", "site-packages"})
VALIDATION_EVERY = 20
VALIDATION_BATCHES = 8
# Messages follow each other line by line: the model completes text and knows no roles.
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% if not loop.last %}\n{% endif %}{% endfor %}"
)
SAMPLES = ("def fibonacci(n):\n", "import os\nimport sys\n\nclass ", "for i in range(10):\n    ")


@dataclass(frozen=True)
class Plan:
    """What to train and for how long."""

    out: Path
    sources: Path
    device: str
    steps: int
    batch: int
    context: int
    vocabulary: int
    seed: int
    evaluate_every: int
    warmup_steps: int = 200
    peak_rate: float = 2e-3
    weight_decay: float = 0.3


@dataclass(frozen=True)
class Evaluation:
    """The losses at one step, in nats per token."""

    step: int
    train_loss: float
    val_loss: float


@dataclass
class Progress:
    """What was measured, and the best weights so far."""

    log: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    weights: dict[str, Any] = field(default_factory=dict)

    def note(self, evaluation: Evaluation, model: LlamaForCausalLM) -> None:
        """Record an evaluation; keep a copy of the weights when it is the best one."""
        self.log.append(evaluation)
        if self.best is None or evaluation.val_loss < self.best.val_loss:
            self.best = evaluation
            self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}


# --- text -----------------------------------------------------------------------------------------


def source_files(folder: Path) -> list[Path]:
    """List the library's own modules and tests in a stable order, without installed packages."""
    return [
        path
        for path in sorted(folder.rglob("*.py"))
        if LEFT_OUT.isdisjoint(path.relative_to(folder).parts)
    ]


def read_documents(folder: Path) -> tuple[list[str], list[str]]:
    """Read the sources and split them by file into training and validation."""
    texts = [path.read_text(encoding="utf-8", errors="ignore") for path in source_files(folder)]
    if len(texts) < VALIDATION_EVERY:
        raise SystemExit(f"{folder} holds {len(texts)} Python files: not a standard library")
    validation = texts[::VALIDATION_EVERY]
    training = [text for i, text in enumerate(texts) if i % VALIDATION_EVERY]
    return training, validation


def train_tokenizer(documents: list[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer: every text has tokens, and decodes to itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIALS, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, documents: list[str]) -> torch.Tensor:
    """Lay all documents end to end as one row of token ids, each between its two marks."""
    rows = ([BEGIN_ID, *doc.ids, END_ID] for doc in tokenizer.encode_batch(documents))
    return torch.from_numpy(np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]))


def batches(tokens: torch.Tensor, plan: Plan, seed: int) -> Iterator[torch.Tensor]:
    """Yield windows from random places for ever, one token longer than the context."""
    chance = torch.Generator().manual_seed(seed)
    span = torch.arange(plan.context + 1)
    while True:
        starts = torch.randint(len(tokens) - plan.context - 1, (plan.batch, 1), generator=chance)
        yield tokens[starts + span].to(plan.device)


# --- model ----------------------------------------------------------------------------------------


def build_model(vocabulary: int) -> LlamaForCausalLM:
    """Make the untrained model: 8 layers, grouped attention, tied embeddings, 8,192 positions."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=288,
        intermediate_size=768,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=8192,
        rope_theta=100_000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=BEGIN_ID,
        eos_token_id=END_ID,
    )
    return LlamaForCausalLM(config)


def build_optimizer(model: LlamaForCausalLM, plan: Plan) -> torch.optim.Optimizer:
    """Decay the matrices and leave the norms alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.peak_rate, betas=(0.9, 0.95))


def learning_rate(step: int, plan: Plan) -> float:
    """Rise in a line, then fall along a cosine to a twentieth of the peak."""
    rise = min(1.0, (step + 1) / min(plan.warmup_steps, plan.steps))
    fall = 0.5 * (1 + math.cos(math.pi * step / plan.steps))
    return plan.peak_rate * rise * (0.05 + 0.95 * fall)


def loss_of(model: LlamaForCausalLM, window: torch.Tensor, device: str) -> torch.Tensor:
    """Return the mean loss of predicting each token from those before it."""
    inputs, targets = window[:, :-1], window[:, 1:]
    with torch.autocast(device, torch.bfloat16):
        logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def validation_loss(model: LlamaForCausalLM, tokens: torch.Tensor, plan: Plan) -> float:
    """Return the mean loss over the same few batches each time, so that two can be compared."""
    windows = batches(tokens, plan, plan.seed)
    with torch.inference_mode():
        losses = [loss_of(model, next(windows), plan.device) for _ in range(VALIDATION_BATCHES)]
    return float(torch.stack(losses).mean())


def take_step(
    model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, window: torch.Tensor, rate: float
) -> float:
    """Move the weights once and return the loss before the move."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = loss_of(model, window, window.device.type)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def train(
    model: LlamaForCausalLM, training: torch.Tensor, validation: torch.Tensor, plan: Plan
) -> Progress:
    """Run all steps; evaluate now and then and after the last one; end with the best weights."""
    optimizer, windows = build_optimizer(model, plan), batches(training, plan, plan.seed)
    progress, started = Progress(), time.monotonic()
    for step in range(1, plan.steps + 1):
        loss = take_step(model, optimizer, next(windows), learning_rate(step - 1, plan))
        if step % plan.evaluate_every == 0 or step == plan.steps:
            evaluation = Evaluation(step, loss, validation_loss(model, validation, plan))
            progress.note(evaluation, model)
            print(f"{time.monotonic() - started:6.0f} s  {evaluation}", flush=True)
    model.load_state_dict(progress.weights)
    return progress


# --- what is written ------------------------------------------------------------------------------


def save_model(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write weights in bfloat16, configuration, tokenizer and chat template."""
    model.to(torch.bfloat16).save_pretrained(out)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(out)


def save_record(progress: Progress, model: LlamaForCausalLM, train_tokens: int, plan: Plan) -> None:
    """Write how the weights came about."""
    assert progress.best is not None
    record = {
        "params": model.num_parameters(),
        "steps": progress.best.step,
        "tokens_seen": progress.best.step * plan.batch * plan.context,
        "val_loss": progress.best.val_loss,
        "log": [list(asdict(evaluation).values()) for evaluation in progress.log],
        "train_tokens": train_tokens,
    }
    (plan.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def show_samples(model: LlamaForCausalLM, tokenizer: Tokenizer, device: str) -> None:
    """Print a completion for each of a few beginnings."""
    for prompt in SAMPLES:
        ids = torch.tensor([[BEGIN_ID, *tokenizer.encode(prompt).ids]], device=device)
        completed = model.generate(ids, max_new_tokens=60, do_sample=True, temperature=0.6)
        print("---", tokenizer.decode(completed[0].tolist()), sep="\n")


# --- command line ---------------------------------------------------------------------------------


def parse_arguments() -> Plan:
    """Read the plan from the command line."""
    parser = argparse.ArgumentParser(
        description="Train the demo model on the Python standard library.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("out", type=Path, help="the model folder to write")
    parser.add_argument("--sources", type=Path, default=stdlib, help="a standard library")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=device, help="where to train")
    parser.add_argument("--steps", type=int, default=1200, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=32, help="windows per step")
    parser.add_argument("--context", type=int, default=2048, help="tokens per window")
    parser.add_argument("--vocabulary", type=int, default=4096, help="tokens of the tokenizer")
    parser.add_argument("--evaluate-every", type=int, default=200, help="steps between evaluations")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    return Plan(**vars(parser.parse_args()))


def main() -> None:
    """Train and write the model folder."""
    plan = parse_arguments()
    torch.manual_seed(plan.seed)
    documents, held_out = read_documents(plan.sources)
    tokenizer = train_tokenizer(documents, plan.vocabulary)
    training, validation = encode(tokenizer, documents), encode(tokenizer, held_out)
    model = build_model(plan.vocabulary).to(plan.device)
    print(f"{len(training):,} + {len(validation):,} tokens, {model.num_parameters():,} parameters")
    progress = train(model, training, validation, plan)
    plan.out.mkdir(parents=True, exist_ok=True)
    save_model(model, tokenizer, plan.out)
    save_record(progress, model, len(training), plan)
    show_samples(model, tokenizer, plan.device)


if __name__ == "__main__":
    main()
