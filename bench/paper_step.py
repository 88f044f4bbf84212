"""The `paper` preset for real: training steps of ViT-B/16 + 3 GPT-2 blocks, D = 768, K = 3, then export and scores.

    python -m bench.paper_step --samples runs/sim-tiny/samples.jsonl --steps 2 --out runs/paper-step

Pretrained weights cannot be had on a machine without the hub, so ViT-B/16 starts from scratch and the GPT-2 (12 blocks,
byte-level BPE trained on the samples) is made and saved to disk first; time and memory do not depend on the values.
Prints samples/s and the model FLOPs utilisation of a step against the device's peak (`--peak`, dense bf16 TFLOP/s; 989
for an H200), with the floating-point operations counted from the shapes: 6 per weight and token, and 12 per token pair
and column of attention (forward and backward; Chowdhery et al., arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from agpis.assemble import assemble, open_model
from agpis.dataset import Pixels, sequence_data
from agpis.inputs import stack
from agpis.models.backbones import BackboneConfig, count_parameters
from agpis.models.muisc import MuiscConfig, SequenceModel
from agpis.processes import processes
from agpis.rulebook import load_rulebook
from agpis.samples import Labelled, labelled
from agpis.train_sequence import PRESETS, muisc_loss, train_muisc
from agpis.verdicts import read_verdicts
from bench.machine import machine


def flops_a_sample(config: MuiscConfig, tower: int, text: int, *, layers: int = 12, width: int = 768) -> float:
    """Floating-point operations of one training sample, forward and backward.

    Args:
        tower: weights of the image tower.
        text: tokens of title, separator and feedback.
        layers, width: of the tower's transformer.
    """
    images, grid = config.k, config.tokens
    memory = images * config.memory_tokens
    vision = images * (6.0 * tower * grid + 12.0 * layers * width * grid * grid)
    block = 4 * config.width**2 + 2 * config.width * config.encoder_mlp
    encoder = config.encoder_blocks * (6.0 * block * memory + 12.0 * config.width * memory**2)
    block = 4 * config.width**2 + 2 * config.width * config.decoder_mlp
    decoder = config.decoder_blocks * (6.0 * block * text + 12.0 * config.width * text**2)
    crossing = len(config.cross_attention)
    cross = crossing * (6.0 * 2 * config.width**2 * (text + memory) + 12.0 * config.width * text * memory)
    words = 6.0 * config.width * config.vocabulary * text / 2  # about half of the text is predicted
    return vision + encoder + decoder + cross + words


def make_gpt2(folder: Path, samples: Sequence[Labelled]) -> Path:
    """A GPT-2 of the published size (12 blocks, D = 768) with random weights, and its tokenizer."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel

    if not (folder / "config.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = ByteLevelBPETokenizer()
        texts = [t for sample in samples for t in (sample.verdict.title, sample.text)]
        tokenizer.train_from_iterator(texts, vocab_size=5000, special_tokens=["<|endoftext|>"], show_progress=False)
        tokenizer.save_model(str(folder))
        GPT2LMHeadModel(GPT2Config(vocab_size=tokenizer.get_vocab_size())).save_pretrained(folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, exports, scores, prints; see the module."""
    parser = argparse.ArgumentParser(prog="bench.paper_step", description=__doc__)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--accumulate", type=int, default=0, help="micro-batches; 0: of 8 on a CPU, of 64 on a GPU")
    parser.add_argument("--peak", type=float, default=0.0, help="dense bf16 TFLOP/s of the device, for utilisation")
    options = parser.parse_args(arguments)
    rulebook = load_rulebook("default")
    samples = labelled(read_verdicts(options.samples), rulebook)
    device = processes().device
    accumulate = options.accumulate or max(1, options.batch // (64 if device.type == "cuda" else 8))
    preset = PRESETS["paper"]
    training = replace(
        preset,
        backbone=BackboneConfig("vit_b16", pretrained=False),
        decoder=str(make_gpt2(options.out / "gpt2", samples)),
        optim=replace(preset.optim, batch=options.batch, steps=options.steps, epochs=0.0, accumulate=accumulate),
        workers=2,
    )
    begin = time.monotonic()
    report = train_muisc(samples, rulebook, training, options.out / "checkpoint")
    whole = time.monotonic() - begin
    model, checkpoint = open_model(options.out / "checkpoint", "muisc")
    assert isinstance(model, SequenceModel)
    assert model.backbone is not None
    config = MuiscConfig(**{**checkpoint.model, "cross_attention": tuple(checkpoint.model["cross_attention"])})
    tower = count_parameters(model.backbone)
    data = sequence_data(samples, rulebook, rulebook.k)
    text = 40
    per_sample = flops_a_sample(config, tower, text)
    rate = measured_rate(model, config, options.batch, accumulate)
    print(f"image tower {tower / 1e6:.1f} M weights, the rest {(count_parameters(model) - tower) / 1e6:.1f} M")
    print(f"{options.steps} steps of {options.batch} and a validation: {whole:.0f} s; {report}")
    print(f"a training step alone: {rate:.2f} samples/s, {per_sample / 1e9:.0f} GFLOP a sample, ", end="")
    print(f"{rate * per_sample / 1e12:.2f} TFLOP/s", end="")
    print(f", utilisation {rate * per_sample / 1e12 / options.peak:.1%} of {options.peak}" if options.peak else "")
    bundle = assemble(options.out / "bundle", bundle_id="paper-step", muisc=options.out / "checkpoint")
    pixels = Pixels(data.images, bundle.size.width)
    kept = [row for row in data.index[0] if row >= 0]
    tokens = bundle.image(stack(list(pixels(kept)[0]), bundle.size)).tokens
    scores = bundle.sequence(tokens[None], data.titles[0], data.categories[0])[0]
    print(f"exported; p_qualified of the first sample {scores[0]:.3f}, sum of the classes {scores.sum():.4f}")
    print(f"{device}; {machine()}")


def measured_rate(model: SequenceModel, config: MuiscConfig, batch: int, accumulate: int) -> float:
    """Samples/s of forward, backward and AdamW on random pixels that are on the device already.

    On a GPU the median of 3 steps; on a CPU one step of one micro-batch, which takes minutes less.
    """
    device = processes().device
    if device.type != "cuda":
        batch, accumulate = batch // accumulate, 1
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    loss, part = muisc_loss(model), batch // accumulate
    ids = torch.randint(0, config.vocabulary, (part, 40), device=device)
    targets = torch.zeros((part, 40), dtype=torch.bool, device=device)
    targets[:, 20:] = True
    size = 224
    feed = {
        "pixels": torch.randint(0, 256, (part, config.k, size, size, 3), dtype=torch.uint8, device=device),
        "mask": torch.ones((part, config.k), device=device),
        "ids": ids,
        "separator": torch.full((part,), 19, device=device),
        "targets": targets,
        "labels": torch.zeros(part, dtype=torch.long, device=device),
        "bad": torch.zeros(0, dtype=torch.long),
        "whole": torch.tensor([float(batch), float(batch * 20)], dtype=torch.float64),
    }
    times = []
    for step in range(4 if device.type == "cuda" else 2):
        begin = time.monotonic()
        optimizer.zero_grad(set_to_none=True)
        for _ in range(accumulate):
            with torch.autocast(device.type, torch.bfloat16):
                total = loss(feed)["total"]
            total.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if step:
            times.append(time.monotonic() - begin)
    return batch / float(np.median(times))


if __name__ == "__main__":
    main()
