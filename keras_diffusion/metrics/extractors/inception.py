"""The features that FID, KID and the Inception Score are computed from."""

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.metrics.extractors import inception_network
from keras_diffusion.metrics.extractors.extractor import EXTRACTORS, Extractor, config_of
from keras_diffusion.metrics.extractors.preprocessing import Preprocessing
from keras_diffusion.metrics.extractors.weights import fill, open_weights

WEIGHTS = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)


@EXTRACTORS.register("inception", "inception_v3", "fid_inception")
class InceptionExtractor(Extractor):
    """InceptionV3 of 2015, as the original FID uses it.

    With the same weights, features and logits are those of torch-fidelity (preprocessing "torch-fidelity"), of
    pytorch-fid ("pytorch") and of clean-fid ("clean").

    Args:
        weights: path of `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity or
            `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid, which hold the same numbers. They are read without
            PyTorch.
        features: 2048 (default), or 768, 192, 64 of earlier layers, for fewer pictures than a covariance of 2,048
            numbers needs.
        preprocessing: "torch-fidelity" (default), "tensorflow", "clean" or "pytorch"; see `Preprocessing`.
        batch_size: pictures at a time. Default 32.

    Raises:
        ValueError: no weights: the message says where they are published.
        FileNotFoundError: nothing at that path.
        CheckpointError: a damaged file, or one of another network.

    Example:

    >>> extractor = kd.metrics.get_extractor("inception", weights="weights-inception-2015-12-05-6726825d.pth")
    >>> extractor(images).shape, extractor.logits(images).shape
    ((16, 2048), (16, 1008))

    Reference:
        Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
        arXiv:1706.08500.
    """

    name = "inception"

    def __init__(self, weights=None, features=2048, preprocessing="torch-fidelity", batch_size=32):
        self.width = check_choice("features", features, inception_network.TAPS)
        normalization = "symmetric" if preprocessing == "pytorch" else "inception"
        self.prepare = Preprocessing(preprocessing, inception_network.SIZE, normalization)
        self.num_classes = inception_network.CLASSES if features == 2048 else None
        with open_weights(weights, "the InceptionV3 of FID", WEIGHTS) as container:
            self.network = inception_network.inception_v3(features)
            fill(container, inception_network.sources(self.network))

    def description(self):
        return {**super().description(), **config_of(self, "features")}
