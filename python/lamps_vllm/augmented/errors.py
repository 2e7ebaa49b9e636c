# SPDX-License-Identifier: Apache-2.0
"""What can go wrong beside the engine itself.

A tool that fails is no error here: its message goes back to the model, see ``ToolRun``.
"""


class AugmentedError(RuntimeError):
    """A generation with tools could not be finished; its request is gone from the engine."""


class TooManyCalls(AugmentedError):
    """The model asked for more calls than ``most_calls``."""


class ContextFull(AugmentedError):
    """The results of a call leave no room for an answer in the model's context."""


class BadTool(ValueError):
    """A tool, or an option of the tools, cannot be used as given."""
