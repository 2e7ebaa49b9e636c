# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a training run or a saved length model."""


class TrainError(ValueError):
    """A training run or a length model that cannot be used; the message says why."""


class DataError(TrainError):
    """The data are missing or hold a bad value: file, line, field, value and what is accepted."""


class TooFewSamples(TrainError):
    """Fewer turns than a model can be fitted and scored on."""


class UnknownBase(TrainError):
    """The base model is neither a folder nor an installed package with weights."""


class BadModel(TrainError):
    """A saved length model is incomplete, damaged, or of another version."""
