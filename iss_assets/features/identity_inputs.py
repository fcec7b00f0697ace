"""What vectors of faces depend on besides their section of the settings, without loading a network."""

from __future__ import annotations

from iss_assets.media.face_networks import SFACE_SHA256, find_network
from iss_assets.modeling.files import content_hash
from iss_assets.settings import Settings


def identity_inputs(settings: Settings) -> tuple[str, ...]:
    """Return the hash of the network's file, and what counts as a covered face.

    Without a network there are no vectors; installing one makes them.
    """
    quality = settings.quality
    covered = str((quality.mask_difference, quality.mask_lips, quality.mask_sure))
    try:
        network = find_network(settings.identity)
    except FileNotFoundError:
        return ("a file that is not there",)  # measuring says so in words
    if network is None:
        return ()
    # SFace's file is compared with this hash whenever it is loaded
    return (SFACE_SHA256 if network.method == "sface" else content_hash(network.file), covered)
