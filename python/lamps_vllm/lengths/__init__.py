# SPDX-License-Identifier: Apache-2.0
"""Serving a trained length model beside the engine: never in the way of a step."""
