"""What a config from a file may name: this library's classes, and the classes of Keras that only compute.

A Keras config can name any class and any function that Keras can reach. Some of them run code from the file (`Lambda`),
read files (`StringLookup`, `TFSMLayer`), write them (`keras.visualization`) or change global settings (`keras.config`).
So this module lists the harmless ones by name; anything else needs the caller's consent (`custom_objects`).
"""

import importlib

import keras

PACKAGE = "keras_diffusion"

# Rooms with classes that files may name. Keras knows their classes only once they have been imported.
_ROOMS = ("layers", "schedulers", "predictors", "training", "networks", "denoisers", "samplers", "models", "text")

_LAYERS = """
Activation ELU LeakyReLU PReLU ReLU Softmax AdditiveAttention Attention GroupQueryAttention MultiHeadAttention
Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose
DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D
Dense EinsumDense Embedding ReversibleEmbedding Identity InputLayer Masking
Add Average Concatenate Dot Maximum Minimum Multiply Subtract
BatchNormalization GroupNormalization LayerNormalization RMSNormalization
SpectralNormalization UnitNormalization Normalization
AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D
AveragePooling1D AveragePooling2D AveragePooling3D MaxPooling1D MaxPooling2D MaxPooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
CategoryEncoding CenterCrop Rescaling Resizing
ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise
SpatialDropout1D SpatialDropout2D SpatialDropout3D
Cropping1D Cropping2D Cropping3D Flatten Permute RepeatVector Reshape
UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
Bidirectional TimeDistributed ConvLSTM1D ConvLSTM2D ConvLSTM3D
GRU GRUCell LSTM LSTMCell RNN SimpleRNN SimpleRNNCell StackedRNNCells
"""

_INITIALIZERS = """
Constant Identity IdentityInitializer Ones Zeros GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal
LecunUniform Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal VarianceScaling
"""

_OPTIMIZERS = "Adadelta Adafactor Adagrad Adam Adamax AdamW Ftrl Lamb Lion Muon Nadam RMSprop ScheduleFreeAdamW SGD"
_SCHEDULES = "CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay"

_NUMPY_OPERATIONS = """
Absolute Add All Amax Amin Any Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Average
BroadcastTo Ceil Clip Concatenate Conj Conjugate Cos Cosh Cumprod Cumsum Diagonal Divide DivideNoNan Dot
Einsum Equal Exp Exp2 ExpandDims Expm1 Flip Floor FloorDivide GetItem Greater GreaterEqual Imag Isfinite Isinf
Isnan Less LessEqual Log Log10 Log1p Log2 Logaddexp LogicalAnd LogicalNot LogicalOr LogicalXor Matmul Max
Maximum Mean Min Minimum Mod Moveaxis Multiply NanToNum Negative NotEqual OnesLike Outer Pad Power Prod Ravel
Real Reciprocal Repeat Reshape Roll Round Sign Sin Sinh Split Sqrt Square Squeeze Stack Std Subtract Sum
Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile Transpose Tril Triu TrueDivide Trunc Var Where ZerosLike
"""

_NN_OPERATIONS = """
AveragePool Celu Conv ConvTranspose DepthToSpace DepthwiseConv DotProductAttention Elu Gelu
Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm LeakyRelu LogSigmoid LogSoftmax MaxPool
Moments Normalize OneHot RMSNorm Relu Relu6 Selu SeparableConv Sigmoid Silu SoftShrink Softmax
Softplus Softsign SpaceToDepth SparsePlus SparseSigmoid Squareplus TanhShrink Threshold
"""

_MODELS = {
    "Functional": "keras.src.models.functional",
    "Sequential": "keras",
    "Model": "keras",
    "DTypePolicy": "keras",
    "DTypePolicyMap": "keras.dtype_policies",
}

_NAMES = {
    "keras.layers": _LAYERS,
    "keras.initializers": _INITIALIZERS,
    "keras.regularizers": "L1 L1L2 L2 OrthogonalRegularizer",
    "keras.constraints": "MaxNorm MinMaxNorm NonNeg UnitNorm",
    "keras.optimizers": _OPTIMIZERS,
    "keras.optimizers.schedules": _SCHEDULES,
    "keras.random": "SeedGenerator",
    "keras.src.ops.numpy": _NUMPY_OPERATIONS,
    "keras.src.ops.nn": _NN_OPERATIONS,
    "keras.src.ops.core": "Cast StopGradient Unstack Slice",
    "keras.src.ops.math": "Erf Logsumexp Rsqrt",
}

# (module, class name) as in files → the module to look in.
_KERAS = {
    **{(module, name): module for module, names in _NAMES.items() for name in names.split()},
    **{(module, name): home for name, home in _MODELS.items() for module in ("keras", "keras.models", home)},
    ("keras.dtype_policies", "DTypePolicy"): "keras",
}

# The functions that a config may name: activations, as Keras writes them ("silu", not its alias "swish").
_ACTIVATIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus
    softsign sparse_plus sparse_sigmoid sparsemax squareplus tanh tanh_shrink threshold
    """.split()
)


def keras_home(module, name):
    """The module of Keras with the plain class that a file calls `name` of `module`, or None if there is none."""
    return _KERAS.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None


def is_activation(module, name):
    """Whether `name` of `module` is one of Keras's activations."""
    return module in ("builtins", "keras.activations") and isinstance(name, str) and name in _ACTIVATIONS


def own_object(registered_name):
    """The class or function of this library registered as `registered_name`, such as `"keras_diffusion>UNet"`.

    None if there is none; objects that others have registered under this library's name do not count.
    """
    if not isinstance(registered_name, str) or not registered_name.startswith(f"{PACKAGE}>"):
        return None
    if keras.saving.get_registered_object(registered_name) is None:
        for room in _ROOMS:
            importlib.import_module(f"{PACKAGE}.{room}")
    found = keras.saving.get_registered_object(registered_name)
    return found if getattr(found, "__module__", "").startswith(f"{PACKAGE}.") else None
