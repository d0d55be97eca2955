"""Every fidelity case, by name. The files beside this one hold them by subject."""

from __future__ import annotations

from tests.support.fidelity import Case
from tests.system import fidelity_bodies, fidelity_dialogues, fidelity_requests, fidelity_responses

ALL: list[Case] = [
    *fidelity_requests.CASES,
    *fidelity_bodies.CASES,
    *fidelity_responses.CASES,
    *fidelity_dialogues.CASES,
]
