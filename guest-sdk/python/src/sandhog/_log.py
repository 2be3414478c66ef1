"""Lines of the host's log."""

from __future__ import annotations

import logging

TRACE = 5
"""The level below ``logging.DEBUG``: ``log.log(TRACE, "...")``."""

logging.addLevelName(TRACE, "TRACE")

log = logging.getLogger("sandhog")
"""Writes lines to the host's log, where they carry the handler and the message's id.

Any other logger of :mod:`logging` does as well; its name comes before the line. The manifest's ``[grant] log`` says from which
level on lines are kept.
"""
# The host filters, or the handlers of whoever runs this elsewhere.
log.setLevel(1)
