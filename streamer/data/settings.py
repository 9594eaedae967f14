"""Which labelled clips there are and how they are divided: the `data` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from streamer.config.schema import File
from streamer.config.yaml import Section

Number = Annotated[float, Field(strict=False, allow_inf_nan=False)]
"""also where YAML reads text, as in 1e-5"""
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class RecipeSection(Section):
    """A mapping of a recipe: what `Section` is to the daemon's configuration."""


class ClipsSettings(RecipeSection):
    """Labelled clips: a folder that has a folder for each class, or a table with a row for each clip."""

    path: File
    """the folder, or a CSV (comma) or TSV (tab) file with a header"""
    audio: File | None = None
    """what a table's file names are relative to; the table's own folder where not set"""
    file: str = "file"
    """the table's column of file names"""
    labels: str = "labels"
    """the table's column of labels"""
    separator: str = "|"
    """between the labels of one clip"""
    onset: str = "onset"
    """the table's column, if it has one, of where in the file the clip begins, in seconds"""
    offset: str = "offset"
    """and of where it ends"""
    where: dict[str, list[str | int]] = Field(default_factory=dict)
    """use only the rows whose column has one of these values"""
    only: list[File] = Field(default_factory=list)
    """of a folder: use only the files that these lists name, one a line, relative to the folder"""
    without: list[File] = Field(default_factory=list)
    """of a folder: leave out the files that these lists name"""
    credit: list[str] = Field(default_factory=list)
    """the table's columns that a clip's licence asks to name: they go into ATTRIBUTION.md, row by row"""


class HeldOut(RecipeSection):
    """Rows of `train` that validate instead, as with the folds of a data set."""

    column: str = "fold"
    value: str | int


class DataSettings(RecipeSection):
    train: ClipsSettings
    validation: ClipsSettings | None = None
    """clips that choose the best epoch; else `held_out`, else `validation_share`"""
    held_out: HeldOut | None = None
    validation_share: Annotated[Share, Field(lt=1)] = 0.1
    """of the files of each class, drawn by the seed; 0 for none"""
    test: ClipsSettings | None = None
    """what `streamer eval MODEL RECIPE` takes; else the validation clips"""
    labels: Literal["data", "model", "audioset"] | list[str] = "data"
    """the labels of the trained model: those that occur, sorted; the starting model's; or a list"""
    short: Literal["pad", "place"] = "pad"
    """a clip shorter than the window: padded as published, or put somewhere into silence"""
    workers: Annotated[int, Field(ge=0, le=256)] = 2
    """processes that read clips; 0 reads in the training's own"""

    @model_validator(mode="after")
    def _one_validation(self) -> DataSettings:
        if self.validation is not None and self.held_out is not None:
            raise ValueError("validation and held_out say two things; keep one of them")
        return self
