"""Bulk work on Ray Data: the same services and models as the graph, on many items at a time, as jobs that may be killed."""

import os

from deployments.jobs.stepping_back import STEPS_BACK, step_back

if os.environ.get(STEPS_BACK):
    step_back()
