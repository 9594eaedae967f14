"""What a training is told: the recipes under configs/train, key by key. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streamer.config.yaml import File, load_yaml
from streamer.data.settings import Count, DataSettings, HeldOut, Number, RecipeSection, Share


class ArchitectureSettings(RecipeSection):
    """An AST with random weights; the fields of `config.json`, with the published defaults."""

    hidden_size: Annotated[int, Field(ge=1)] = 768
    """Width of a token."""
    num_hidden_layers: Annotated[int, Field(ge=1)] = 12
    """Number of transformer blocks."""
    num_attention_heads: Annotated[int, Field(ge=1)] = 12
    """Attention heads of a block."""
    intermediate_size: Annotated[int, Field(ge=1)] = 3072
    """Width of the feed-forward layer."""
    hidden_dropout_prob: Share = 0.0
    """Dropout of tokens."""
    attention_probs_dropout_prob: Share = 0.0
    """Dropout of attention."""
    initializer_range: Annotated[Number, Field(gt=0)] = 0.02
    """Standard deviation of random weights; 0.1 lets a very narrow network learn faster."""
    patch_size: Annotated[int, Field(ge=1)] = 16
    """Side of a patch, in fbank frames and mel bins."""
    frequency_stride: Annotated[int, Field(ge=1)] = 10
    """Step between patches, in mel bins."""
    time_stride: Annotated[int, Field(ge=1)] = 10
    """Step between patches, in fbank frames."""
    num_mel_bins: Annotated[int, Field(ge=1)] = 128
    """Mel bins of the features."""


class ScheduleSettings(RecipeSection):
    """The learning rate: a linear warm-up, then a cosine to 0 or steps."""

    kind: Literal["cosine", "step", "constant"] = "cosine"
    """How the rate falls."""
    warm_up: Count = 0
    """Optimizer steps in which the rate rises."""
    first: Annotated[int, Field(ge=1)] = 5
    """With `step`: epochs before the first fall."""
    every: Annotated[int, Field(ge=1)] = 1
    """With `step`: epochs between falls."""
    factor: Annotated[Number, Field(gt=0, le=1)] = 0.85
    """With `step`: factor of each fall."""


class AugmentSettings(RecipeSection):
    """Changes of the clips while training; none where nothing is set."""

    gain_db: Annotated[Number, Field(ge=0, le=60)] = 0.0
    """Largest change of the level, in decibels."""
    shift_s: Annotated[Number, Field(ge=0)] = 0.0
    """Largest roll in time, in seconds."""
    noise_snr_db: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    """Signal-to-noise ratios in decibels between which white noise is drawn for every second clip."""
    mixup: Share = 0.0
    """Share of clips that are blended with another, as waveforms."""
    mixup_alpha: Annotated[Number, Field(gt=0)] = 10.0
    """Parameter of the Beta distribution that shares of a blend are drawn from."""
    time_mask: Count = 0
    """Most fbank frames that SpecAugment masks."""
    frequency_mask: Count = 0
    """Most mel bins that SpecAugment masks."""
    feature_noise: Annotated[Number, Field(ge=0)] = 0.0
    """Amplitude of uniform noise on normalised features; 0.1 in the paper's Speech Commands recipe."""


class CardSettings(RecipeSection):
    """What the model card says that the run itself cannot know."""

    name: str | None = None
    """Name of the model; the output folder's where not set."""
    description: str = ""
    """What the model is for."""
    data: str = ""
    """Where the clips are from."""
    licence: str = "other"
    """Licence of the model, as the Hub spells it."""
    attributions: File | None = None
    """Text file that is copied into the card."""


class TrainSettings(RecipeSection):
    """What every task has."""

    task: Literal["finetune", "distill"] = "finetune"
    """What is trained: a given model on labelled clips, or a small one on mixtures."""
    output: File
    """Folder for checkpoint, log, curves and, in `model`, the result."""


class FinetuneSettings(TrainSettings):
    """Train a model, or random weights, on labelled clips."""

    data: DataSettings
    model: str | None = None
    """Where to start: a directory or the name of a model; else `architecture`."""
    architecture: ArchitectureSettings | None = None
    max_length: Annotated[int, Field(ge=16, le=100_000)] | None = None
    """Fbank frames of a window; the starting model's (1024 for random weights) where not set."""
    normalise: Literal["data", "model"] = "data"
    """Whether mean and deviation of the features are measured on the training clips or are the model's."""
    epochs: Annotated[int, Field(ge=1)] = 10
    """Passes over the training clips."""
    batch: Annotated[int, Field(ge=1)] = 12
    """Clips of one forward pass."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Forward passes of one optimizer step."""
    balanced: bool = False
    """Whether clips of rare labels are drawn as often as those of frequent ones."""
    loss: Literal["bce", "ce"] = "bce"
    """`bce`: any number of labels a clip; `ce`: exactly one."""
    metric: Literal["map", "top1", "loss"] | None = None
    """What chooses the best epoch; mAP with bce, top-1 with ce where not set."""
    lr: Annotated[Number, Field(gt=0, le=1)] = 1e-5
    """Learning rate."""
    layer_decay: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Learning rate of a layer over that of the layer above it."""
    weight_decay: Annotated[Number, Field(ge=0)] = 5e-7
    """Weight decay of Adam."""
    betas: list[Share] = Field(default=[0.95, 0.999], min_length=2, max_length=2)
    """Coefficients of Adam."""
    clip_gradient: Annotated[Number, Field(gt=0)] | None = None
    """Largest norm of the gradient."""
    schedule: ScheduleSettings = ScheduleSettings()
    augment: AugmentSettings = AugmentSettings()
    average: Literal["none", "ema", "epochs"] = "none"
    """Weights of the result: the last, an exponential mean over steps, or the mean over epochs."""
    ema_decay: Annotated[Share, Field(lt=1)] = 0.999
    """With `ema`: share of the mean that a step keeps."""
    average_from: Annotated[int, Field(ge=1)] = 1
    """With `epochs`: the first epoch that counts."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many epochs without a better one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass; weights stay float32."""
    weights: Literal["float32", "float16"] = "float32"
    """Precision of the weights in the result."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """`cpu`, `cuda` or `cuda:N`; `auto` takes CUDA where there is a device."""
    seed: Count = 0
    """Seed of everything that is random."""
    checkpoint_s: Annotated[Number, Field(ge=0)] = 300.0
    """Seconds between checkpoints, which is what a kill costs; 0 writes one after each step."""
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
    """Train a small AST with a frame head on crops of mixtures, scored by a teacher that hears the same."""

    data: File
    """Folder that holds `esc50-free`, the folders of `shares` and `teacher`."""
    folds: list[int] = Field(default=[1, 2, 3], min_length=1)
    """Folds of ESC-50 that are trained on."""
    validation_folds: list[int] = Field(default=[4], min_length=1)
    """Folds of ESC-50 that validate, beside `held_out`."""
    shares: dict[str, Annotated[Number, Field(ge=0)]] = Field(
        default={"esc50-free": 1.0, "more-free": 1.5, "more-free-2": 4.0}, min_length=1
    )
    """How often a clip is drawn from each folder, against the others."""
    held_out: list[str] = Field(default_factory=list)
    """Sources (`source_repo` of `index.csv`) that are not trained on: they validate."""
    model: str | None = None
    """Weights to start from; random ones of the size below where not set."""
    hours: Annotated[Number, Field(gt=0)] = 12.0
    """Length of the training; learning rate, length of crops and patch drop follow the share that is over."""
    makers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that mix crops and run the teacher, beside the one that trains."""
    pool: Annotated[int, Field(ge=2)] = 60
    """Shards of 256 crops that are kept ready at most."""
    passes: Annotated[int, Field(ge=1)] = 3
    """How often a crop is used, each time at another place of the window and with other patches."""
    hidden_size: Annotated[int, Field(ge=4, multiple_of=4)] = 192
    """Width of a token."""
    depth: Annotated[int, Field(ge=1)] = 6
    """Number of transformer blocks."""
    heads: Annotated[int, Field(ge=1)] = 3
    """Attention heads of a block."""
    batch: Annotated[int, Field(ge=1, le=256)] = 64
    """Crops of a step; a quarter as many where they are whole windows."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """`muon` (Jordan et al. 2024) for the trunk's matrices and AdamW for the rest, or `adamw` for all."""
    muon_lr: Annotated[Number, Field(gt=0)] = 1e-3
    """Learning rate of Muon."""
    adamw_lr: Annotated[Number, Field(gt=0)] = 5e-4
    """Learning rate of AdamW."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.03
    """Weight decay."""
    warm_up: Share = 0.01
    """Share of the training in which the rate rises."""
    decay_from: Share = 0.5
    """Share of the training after which the rate falls to 0, along a cosine."""
    ema: Annotated[Share, Field(lt=1)] = 0.999
    """Share of the averaged weights that a step keeps."""
    whole: list[list[Number]] = Field(default=[[0.0, 0.05], [0.85, 1.0]], min_length=1)
    """From which share of the training on which share of the shards hold whole windows."""
    keep_rows: list[list[Number]] = Field(default=[[0.0, 3], [0.5, 4], [0.88, 8]], min_length=1)
    """From which share of the training on how many frequency rows of patches are kept at each time step."""
    frame_weight: Annotated[Number, Field(ge=0)] = 0.7
    """Weight of the loss of the time steps beside that of the crop."""
    vector_weight: Annotated[Number, Field(ge=0)] = 2.0
    """Weight of the distance to the teacher's penultimate vector, a linear map of the class tokens."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Device that trains; the makers run on the CPU."""
    seed: Count = 1
    """Seed of all draws."""


TASKS: dict[object, type[TrainSettings]] = {"finetune": FinetuneSettings, "distill": DistillSettings}
"""the schema of each `task`"""


def load_recipe(path: Path) -> TrainSettings:
    """The settings of a recipe. Raises ConfigError, with a line for each thing that is wrong."""
    return load_yaml(
        path,
        lambda values: TASKS.get(str(values.get("task", "finetune")), FinetuneSettings),
        example="configs/train/esc50.yaml",
    )
