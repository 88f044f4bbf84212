"""A small training as its own process, for test_loop.py and test_loop_state.py: python training_script.py OPTIONS_JSON.

It prints "step N" on standard output at every step, and at the end writes rows and weights to `out`.RANK.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from agpis.loop import Optim, Part, fit
from agpis.processes import processes
from agpis.training_state import on_cpu

COUNT = 60


class Small(nn.Module):
    """Convolution, normalisation with running statistics, dropout, an embedding with tied weights, an unused part."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8) if dropout else nn.GroupNorm(2, 8)  # batch statistics do not add up over parts
        self.dropout = nn.Dropout(dropout)
        self.words = nn.Embedding(5, 8)
        self.head = nn.Linear(8, 5, bias=False)
        self.head.weight = self.words.weight
        self.unused = nn.Linear(2, 2)
        self.rare = nn.Parameter(torch.ones(1))
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor, word: Tensor) -> Tensor:
        x = self.dropout(F.relu(self.norm(self.convolution(pixels)))).mean((2, 3))
        return self.head(x * self.words(word))


def problem(dropout: float = 0.0) -> tuple[Small, "Task"]:
    """The model and its samples, always the same."""
    torch.manual_seed(0)
    return Small(dropout), Task()


class Task:
    """Samples; the loss, the loading and the figure of the training."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(1)
        self.pixels = torch.randn(COUNT, 3, 6, 6, generator=draw)
        self.word = torch.randint(5, (COUNT,), generator=draw)
        self.label = (self.pixels.mean((1, 2, 3)) > 0).long() + 2 * (self.word % 2)

    def load(self, part: Part) -> tuple[dict[str, Tensor], list[Tensor], Part]:
        """Noise of the sample and step, as an augmentation would draw it."""
        draw = torch.Generator().manual_seed(1000 * part.step + int(part.index[0]))
        index = torch.from_numpy(part.index)
        noise = 0.0 * torch.randn(len(index), 3, 6, 6, generator=draw)
        return {"pixels": self.pixels[index] + noise, "word": self.word[index]}, [self.label[index]], part

    def loss(self, model: Small):
        def loss(batch: tuple[dict[str, Tensor], list[Tensor], Part]) -> dict[str, Tensor]:
            inputs, (label,), part = batch
            logits = model(**inputs).float()
            found = F.cross_entropy(logits, label, reduction="sum") / len(part.whole)
            if 7 in part.index:  # a parameter that only some parts touch
                found = found + 0.1 * model.rare.square().sum()
            right = (logits.argmax(1) == label).float().mean() * part.share
            return {"total": found, "right": right}

        return loss

    def figure(self, model: Small) -> float:
        assert not model.training
        return -float(F.cross_entropy(model(self.pixels, self.word), self.label))


def main() -> None:
    torch.set_num_threads(1)
    options = json.loads(sys.argv[1])
    model, task = problem(options.get("dropout", 0.0))
    plain = task.loss(model)

    def loss(batch: tuple[dict[str, Tensor], list[Tensor], Part]) -> dict[str, Tensor]:
        if batch[2].share == 1.0:
            print(f"step {batch[2].step}", flush=True)
        time.sleep(options.get("sleep", 0.0))
        return plain(batch)

    folder = Path(options["folder"]) if "folder" in options else None
    rows = fit(
        model,
        loss,
        COUNT,
        Optim(**options["optim"]),
        seed=3,
        name="small",
        load=task.load,
        workers=options.get("workers", 0),
        validate=(lambda: task.figure(model)) if options.get("validate", True) else None,
        folder=folder,
    )
    state = processes()
    out = Path(f"{options['out']}.{state.process_index}")
    save_file(on_cpu(model.state_dict()), out)
    out.with_suffix(".json").write_text(json.dumps({"rows": rows, "processes": state.num_processes}))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
