"""Which labelled clips there are and how they are divided: the `data` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from streamer.config.yaml import File, Section

Number = Annotated[float, Field(strict=False, allow_inf_nan=False)]
"""also where YAML reads text, as in 1e-5"""
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class RecipeSection(Section):
    """A mapping of a recipe: what `Section` is to the daemon's configuration."""


class ClipsSettings(RecipeSection):
    """Labelled clips: a folder that has a folder for each class, or a table with a row for each clip."""

    path: File
    """The folder, or a CSV (comma) or TSV (tab) file with a header."""
    audio: File | None = None
    """Folder that a table's file names are relative to; the table's own where not set."""
    file: str = "file"
    """The table's column of file names."""
    labels: str = "labels"
    """The table's column of labels."""
    separator: str = "|"
    """Character between the labels of one clip."""
    onset: str = "onset"
    """The table's column, if it has one, of where in the file the clip begins, in seconds."""
    offset: str = "offset"
    """The table's column, if it has one, of where it ends, in seconds."""
    where: dict[str, list[str | int]] = Field(default_factory=dict)
    """Values by column: only rows that have one of them are used."""
    only: list[File] = Field(default_factory=list)
    """Of a folder: lists of the files to use, one a line, relative to the folder."""
    without: list[File] = Field(default_factory=list)
    """Of a folder: lists of the files to leave out."""
    credit: list[str] = Field(default_factory=list)
    """The table's columns that a clip's licence asks to name; they go into ATTRIBUTION.csv, row by row."""


class HeldOut(RecipeSection):
    """Rows of `train` that validate instead, as with the folds of a data set."""

    column: str = "fold"
    """The table's column."""
    value: str | int
    """Value of the rows that are held out."""


class DataSettings(RecipeSection):
    train: ClipsSettings
    """Clips to train on."""
    validation: ClipsSettings | None = None
    """Clips that choose the best epoch; else `held_out`, else `validation_share`."""
    held_out: HeldOut | None = None
    """Rows of `train` that validate instead."""
    validation_share: Annotated[Share, Field(lt=1)] = 0.1
    """Share of the files of each class that validate, drawn by the seed; 0 for none."""
    test: ClipsSettings | None = None
    """Clips that `streamer eval MODEL RECIPE` takes; else the validation clips."""
    labels: Literal["data", "model", "audioset"] | list[str] = "data"
    """Labels of the trained model: those that occur, sorted; the starting model's; AudioSet's; or a list."""
    short: Literal["pad", "place"] = "pad"
    """What is done with a clip shorter than the window: padded as published, or placed in silence."""
    workers: Annotated[int, Field(ge=0, le=256)] = 2
    """Processes that read clips; 0 reads in the training's own."""

    @model_validator(mode="after")
    def _one_validation(self) -> DataSettings:
        if self.validation is not None and self.held_out is not None:
            raise ValueError("validation and held_out say two things; keep one of them")
        return self
