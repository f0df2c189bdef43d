"""Perturbed-attention guidance: away from what the network predicts when its positions cannot see each other.

    y + s·(y − ŷ),    ŷ: the same network, self-attention maps replaced by the identity

It needs neither a condition nor a second network, so it improves unconditional generation and inverse problems too. A
network without self-attention is not changed by it. Together with classifier-free guidance it goes around the
conditional denoiser,

    ClassifierFreeGuidance(PerturbedAttention(conditional, s/w), unconditional, w)
        =  y_∅ + w·(y_c − y_∅) + s·(y_c − ŷ_c)

which takes three evaluations; around the guided denoiser it would take four.
"""

from keras_diffusion.configs.checks import check_number, shown
from keras_diffusion.core.denoiser_memory import get_memory, set_memory
from keras_diffusion.denoisers.denoiser import NetworkDenoiser, Wrapper
from keras_diffusion.guidance.classifier_free import ClassifierFreeGuidance
from keras_diffusion.layers import AttentionBlock, DiTBlock, TransformerBlock, UViTBlock
from keras_diffusion.layers.perturbation import perturbed_attention

_BLOCKS = (AttentionBlock, DiTBlock, TransformerBlock, UViTBlock)  # all that ask `is_perturbed`


class PerturbedAttention(ClassifierFreeGuidance):
    """Extrapolates from a denoiser with perturbed attention to the denoiser.

    Args:
        denoiser: the `Denoiser` to guide, of a network with attention blocks.
        scale: s, a number or a scalar tensor; 0 is off.
        blocks: names of the blocks to perturb, such as ["middle_attention"], the paper's choice; a function from a name
            to whether it is one; or None (default) for all.
        interval: (low, high): guide only where low < σ/α ≤ high. Default: everywhere.

    Raises:
        ValueError: a name that none of the network's attention blocks has; an interval that is empty.

    Example:

    >>> network = kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1)
    >>> denoise = kd.denoisers.NetworkDenoiser(network, kd.predictors.get("v"))
    >>> guided = kd.guidance.PerturbedAttention(denoise, scale=3.0, blocks=["middle_attention"])
    >>> x0, eps = guided(np.zeros((1, 8, 8, 1)), level)

    Reference:
        Ahn et al. 2024, arXiv:2403.17377, section 4.
    """

    def __init__(self, denoiser, scale, blocks=None, interval=None):
        super().__init__(denoiser, PerturbedDenoiser(denoiser, blocks), check_number("scale", scale), interval)

    @property
    def weight(self):
        return 1.0 + self.scale


class PerturbedDenoiser(Wrapper):
    """A denoiser with the self-attention of some blocks replaced by the identity.

    Arguments: see `PerturbedAttention`.
    """

    def __init__(self, denoiser, blocks=None):
        super().__init__(denoiser)
        self.select = _selection(blocks, self.denoiser)

    def __call__(self, x, level):
        memories = get_memory(self.denoiser)
        with perturbed_attention(self.select):
            prediction = self.denoiser(x, level)
        set_memory(self.denoiser, memories)  # what is remembered is of the denoiser itself
        return prediction


def _selection(blocks, denoiser):
    if blocks is None:
        return lambda name: True
    if callable(blocks):
        return blocks
    blocks = [blocks] if isinstance(blocks, str) else blocks
    if not isinstance(blocks, (list, tuple, set, frozenset)) or not all(isinstance(name, str) for name in blocks):
        raise ValueError(
            "`blocks` is a name of an attention block, a list of them, a function, or None. Received: "
            f"blocks={shown(blocks)}"
        )
    blocks = set(blocks)
    networks = [part.network for part in denoiser.parts() if isinstance(part, NetworkDenoiser)]
    known = {layer.name for network in networks for layer in network._flatten_layers() if isinstance(layer, _BLOCKS)}
    if not blocks <= known:
        raise ValueError(
            f"`blocks` names attention blocks of the network. Received: blocks={sorted(blocks)}. "
            f"The network's: {', '.join(sorted(known)) or 'none'}"
        )
    return blocks.__contains__
