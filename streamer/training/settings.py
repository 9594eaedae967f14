"""What a training is told: the recipes under configs/train, key by key. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streamer.config.schema import File
from streamer.config.yaml import load_yaml
from streamer.data.settings import Count, DataSettings, HeldOut, Number, RecipeSection, Share


class ArchitectureSettings(RecipeSection):
    """An AST with random weights; the fields of `config.json`, with the published defaults."""

    hidden_size: Annotated[int, Field(ge=1)] = 768
    num_hidden_layers: Annotated[int, Field(ge=1)] = 12
    num_attention_heads: Annotated[int, Field(ge=1)] = 12
    intermediate_size: Annotated[int, Field(ge=1)] = 3072
    hidden_dropout_prob: Share = 0.0
    attention_probs_dropout_prob: Share = 0.0
    initializer_range: Annotated[Number, Field(gt=0)] = 0.02
    """of the random weights; 0.1 lets a very narrow network learn faster"""
    patch_size: Annotated[int, Field(ge=1)] = 16
    frequency_stride: Annotated[int, Field(ge=1)] = 10
    time_stride: Annotated[int, Field(ge=1)] = 10
    num_mel_bins: Annotated[int, Field(ge=1)] = 128


class ScheduleSettings(RecipeSection):
    """The learning rate: a linear warm-up, then a cosine to 0 or steps."""

    kind: Literal["cosine", "step", "constant"] = "cosine"
    warm_up: Count = 0
    """optimizer steps"""
    first: Annotated[int, Field(ge=1)] = 5
    """of `step`: the epochs before the first fall"""
    every: Annotated[int, Field(ge=1)] = 1
    """of `step`: the epochs between falls"""
    factor: Annotated[Number, Field(gt=0, le=1)] = 0.85
    """of `step`"""


class AugmentSettings(RecipeSection):
    """Changes of the clips while training; none where nothing is set."""

    gain_db: Annotated[Number, Field(ge=0, le=60)] = 0.0
    """a level within plus and minus this"""
    shift_s: Annotated[Number, Field(ge=0)] = 0.0
    """a roll in time within plus and minus this"""
    noise_snr_db: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    """white noise over every second clip, from the first to the second value below its level"""
    mixup: Share = 0.0
    """how often a clip is blended with another, as waveforms"""
    mixup_alpha: Annotated[Number, Field(gt=0)] = 10.0
    """the shares of a blend are drawn from Beta(alpha, alpha)"""
    time_mask: Count = 0
    """frames at most that SpecAugment masks"""
    frequency_mask: Count = 0
    """mel bins at most"""
    feature_noise: Annotated[Number, Field(ge=0)] = 0.0
    """uniform noise on normalised features, at most; 0.1 in the paper's Speech Commands recipe"""


class CardSettings(RecipeSection):
    """What the model card says that the run itself cannot know."""

    name: str | None = None
    """the output folder's name where not set"""
    description: str = ""
    data: str = ""
    """where the clips are from"""
    licence: str = "other"
    """of the model, as the Hub spells licences"""
    attributions: File | None = None
    """a text that is copied into the card"""


class TrainSettings(RecipeSection):
    """What every task has."""

    task: Literal["finetune", "distill"] = "finetune"
    output: File
    """a folder for checkpoint, log, curves and, in `model`, the result"""


class FinetuneSettings(TrainSettings):
    """Train a model, or random weights, on labelled clips."""

    data: DataSettings
    model: str | None = None
    """where to start: a directory or the name of a model; else `architecture`"""
    architecture: ArchitectureSettings | None = None
    max_length: Annotated[int, Field(ge=16, le=100_000)] | None = None
    """fbank frames of a window; the starting model's (1024 for random weights) where not set"""
    normalise: Literal["data", "model"] = "data"
    """mean and std of the features: measured on the training clips, or the starting model's"""
    epochs: Annotated[int, Field(ge=1)] = 10
    batch: Annotated[int, Field(ge=1)] = 12
    """clips of one forward pass"""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """forward passes of one optimizer step"""
    balanced: bool = False
    """draw clips so that rare labels come as often as frequent ones"""
    loss: Literal["bce", "ce"] = "bce"
    """any number of labels a clip, or exactly one"""
    metric: Literal["map", "top1", "loss"] | None = None
    """what chooses the best epoch; mAP with bce, top-1 with ce where not set"""
    lr: Annotated[Number, Field(gt=0, le=1)] = 1e-5
    layer_decay: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """the learning rate of a layer over that of the layer above"""
    weight_decay: Annotated[Number, Field(ge=0)] = 5e-7
    betas: list[Share] = Field(default=[0.95, 0.999], min_length=2, max_length=2)
    clip_gradient: Annotated[Number, Field(gt=0)] | None = None
    """the norm of the gradient is kept to this"""
    schedule: ScheduleSettings = ScheduleSettings()
    augment: AugmentSettings = AugmentSettings()
    average: Literal["none", "ema", "epochs"] = "none"
    """the result's weights: the last, an exponential mean over steps, or the mean over epochs"""
    ema_decay: Annotated[Share, Field(lt=1)] = 0.999
    average_from: Annotated[int, Field(ge=1)] = 1
    """of `epochs`: the first epoch that counts"""
    patience: Annotated[int, Field(ge=1)] | None = None
    """stop after so many epochs without a better one"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the forward pass; weights stay float32"""
    weights: Literal["float32", "float16"] = "float32"
    """of the files of the result"""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    seed: Count = 0
    checkpoint_s: Annotated[Number, Field(ge=0)] = 300.0
    """a kill costs at most this; 0 writes a checkpoint after each step"""
    card: CardSettings = CardSettings()

    @model_validator(mode="after")
    def _one_start(self) -> FinetuneSettings:
        if (self.model is None) == (self.architecture is None):
            raise ValueError("say where to start: model (a directory or a name) or architecture, one of them")
        if self.model is None and self.data.labels == "model":
            raise ValueError("data.labels: model needs a model to start from")
        return self

    @property
    def best_by(self) -> Literal["map", "top1", "loss"]:
        if self.metric is not None:
            return self.metric
        return "map" if self.loss == "bce" else "top1"

    def with_command_line(self, output: Path | None, fold: int | None) -> FinetuneSettings:
        """The recipe with what the command line changes of it."""
        changes: dict[str, object] = {}
        if output is not None:
            changes["output"] = output
        if fold is not None:
            column = self.data.held_out.column if self.data.held_out is not None else "fold"
            held_out = HeldOut(column=column, value=fold)
            changes["data"] = self.data.model_copy(update={"held_out": held_out, "validation": None})
        return self.model_copy(update=changes)


class DistillSettings(TrainSettings):
    """Train a small AST with a frame head from random weights, on mixtures, with a teacher's scores."""

    data: File
    """a folder that holds `esc50-free`, `more-free` and `teacher`"""
    folds: list[int] = Field(default=[1, 2, 3], min_length=1)
    """of the labelled clips"""
    shards: Annotated[int, Field(ge=1)] = 24
    """thousands of windows that are mixed before the training begins"""
    processes: Annotated[int, Field(ge=1, le=64)] = 2
    """a core each"""
    steps: Annotated[int, Field(ge=1)] = 4500
    """of the training: rate and patch drop follow the share of them that is over"""
    hidden_size: Annotated[int, Field(ge=4, multiple_of=4)] = 192
    depth: Annotated[int, Field(ge=1)] = 6
    heads: Annotated[int, Field(ge=1)] = 3
    stride: Annotated[int, Field(ge=1)] = 16
    """of the patches of 16 by 16, over frequency and time"""
    batch: Annotated[int, Field(ge=1)] = 16
    """windows a step and process"""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon (Jordan et al. 2024) for the matrices of the trunk and adamw for the rest, or adamw for all"""
    muon_lr: Annotated[Number, Field(gt=0)] = 2e-3
    adamw_lr: Annotated[Number, Field(gt=0)] = 1e-3
    weight_decay: Annotated[Number, Field(ge=0)] = 0.05
    warm_up: Share = 0.02
    """of the steps"""
    ema: Annotated[Share, Field(lt=1)] = 0.999
    """of the weights, over steps: the mean is what comes out"""
    keep_rows: list[list[Number]] = Field(default=[[0.0, 3], [0.68, 4], [0.92, 8]], min_length=1)
    """from which share of the steps on, how many frequency rows of patches are kept at each time step"""
    mixup: Share = 0.4
    """how often two windows are added"""
    frame_weight: Annotated[Number, Field(ge=0)] = 1.0
    """of the loss of the time steps, beside that of the window"""
    seed: Count = 1


TASKS: dict[object, type[TrainSettings]] = {"finetune": FinetuneSettings, "distill": DistillSettings}
"""the schema of each `task`"""


def load_recipe(path: Path) -> TrainSettings:
    """The settings of a recipe. Raises ConfigError, with a line for each thing that is wrong."""
    return load_yaml(
        path,
        lambda values: TASKS.get(str(values.get("task", "finetune")), FinetuneSettings),
        example="configs/train/esc50.yaml",
    )
