"""The host's side of a run: the steps of `train.train` cut into dispatches, in a run folder."""

from training.host.fit import fit
from training.host.loop import Pace
from training.host.programs import Core, StandIn, choose_dispatch, programs

__all__ = ["Core", "Pace", "StandIn", "choose_dispatch", "fit", "programs"]
