"""How long a training step takes, against a plain one and against pytorch-adapt's DANN step.

All three train the product's own small network with 64 + 64 images and take turns in one process. The matrix
rate is measured there too; the achieved share is the step's arithmetic, counted by PyTorch, over the time
that this rate would need.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain import PlainTraining
from benchmarks.timing import interleaved
from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.models.network import Architecture, Discriminator, Model
from iimt_search.settings import TrainSettings
from iimt_search.study.executors.processes import keeping_freed_memory
from iimt_search.training.task_training import TaskTraining

CLASSES = 10


def random_task(size: int, count: int = 2000) -> DomainTask:
    """Return a task of random images: what they show does not change how long a step takes."""
    rng = np.random.default_rng(0)

    def images() -> np.ndarray[Any, Any]:
        return rng.integers(0, 256, size=(count, 3, size, size), dtype=np.uint8)

    y = rng.integers(CLASSES, size=count)
    source = Labelled(images(), y)
    return DomainTask(
        name="random->random",
        classes=tuple(map(str, range(CLASSES))),
        kind="image",
        augmentation="digits",
        source_train=source,
        source_val=source.subset(np.arange(200)),
        target=Unlabelled(images()),
        fingerprint="",
    )


def matrix_rate(dtype: torch.dtype) -> float:
    """Return the measured rate of a large matrix product, in floating-point operations a second."""
    n = 1536
    a, b = torch.randn(n, n, dtype=dtype), torch.randn(n, n, dtype=dtype)
    return 2 * n**3 / interleaved({"": lambda: a @ b}, 15)[""]


def _dann_step(task: DomainTask, batch: int) -> Callable[[], None] | None:
    """Return pytorch-adapt's DANN step on the same network, None where it is not installed."""
    if find_spec("pytorch_adapt") is None:
        return None
    from pytorch_adapt.containers import Models, Optimizers
    from pytorch_adapt.hooks import DANNHook

    architecture = Architecture("small", "image", task.sample_shape, CLASSES, 0, 0.0)
    whole = Model(architecture).to(memory_format=torch.contiguous_format)
    discriminator = Discriminator(whole.embedding_dim, 64)
    models = Models({"G": whole.encoder, "C": whole.classifier, "D": discriminator})
    optimizers = Optimizers((torch.optim.Adam, {"lr": 1e-3}))
    optimizers.create_with(models)
    hook = DANNHook(opts=list(optimizers.values()))
    rng = np.random.default_rng(0)

    def step() -> None:
        i, j = (rng.integers(len(task.target), size=batch) for _ in range(2))
        x_s, x_t = (
            torch.from_numpy(part.rows(at)).float().sub(127.5).div(127.5)
            for part, at in ((task.source_train.unlabelled, i), (task.target, j))
        )
        hook(
            {
                **models,
                "src_imgs": x_s,
                "target_imgs": x_t,
                "src_labels": torch.from_numpy(task.source_train.y[i]),
                "src_domain": torch.zeros(batch),
                "target_domain": torch.ones(batch),
            }
        )

    return step


def _repeat(step: Callable[[], None], times: int) -> Callable[[], None]:
    def do() -> None:
        for _ in range(times):
            step()

    return do


def measure_step(size: int, threads: int, rounds: int) -> dict[str, Any]:
    """Measure one image size in a process like a worker's; times are milliseconds a step."""
    with keeping_freed_memory(), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measure, size, threads, rounds).result()


def _measure(size: int, threads: int, rounds: int, k: int = 2, batch: int = 64) -> dict[str, Any]:
    torch.set_num_threads(threads)
    task = random_task(size)
    settings = TrainSettings(image_size=size, k=k, batch_size=batch, steps=10**6, network="small")
    ours, plain = TaskTraining(task, settings, 0), PlainTraining(task, settings, 0)
    burst = 3
    work = {
        "iimt_search": lambda: ours.advance(ours.step + burst),
        "plain": _repeat(plain.train_step, burst),
    }
    if (dann := _dann_step(task, batch)) is not None:
        work["pytorch_adapt_dann"] = _repeat(dann, burst)
    milliseconds = {name: 1000 * value / burst for name, value in interleaved(work, rounds).items()}
    with FlopCounterMode(display=False) as counter:
        ours.advance(ours.step + 1)
    rate = matrix_rate(torch.float32)
    flops = counter.get_total_flops()
    found: dict[str, Any] = {
        "image_size": size,
        "threads": threads,
        "precision": "float32",
        "milliseconds": milliseconds,
        "faster_than_plain": milliseconds["plain"] / milliseconds["iimt_search"],
        "gflop": flops / 1e9,
        "matrix_gflops": rate / 1e9,
        "share_of_matrix_rate": flops / rate / (milliseconds["iimt_search"] / 1000),
    }
    if dann is not None:
        found["of_dann_step"] = milliseconds["iimt_search"] / milliseconds["pytorch_adapt_dann"]
    return found
