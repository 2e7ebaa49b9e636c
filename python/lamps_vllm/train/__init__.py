# SPDX-License-Identifier: Apache-2.0
"""Trained prediction of output lengths: data, model, training, held-out figures, the saved model.

torch and transformers are imported by `bases`, `model` and `loop` only.
"""
