"""What a config from a file may name: this library's classes, and those of Keras that compute and do nothing else.

A Keras config can name any class and any function that Keras can reach. Some of them run code that the file holds
(`Lambda`), read files (`StringLookup`, `TFSMLayer`), write them (`keras.visualization`) or change settings of the whole
process (`keras.config`). So it is said here, name by name, what is plain; what is not listed needs the caller's word
(`custom_objects`).
"""

import importlib

import keras

PACKAGE = "keras_diffusion"

# Where classes lie that files may name. Some rooms are imported only when they are needed: until then Keras knows no
# class of theirs.
_ROOMS = ("layers", "schedulers", "predictors", "training", "networks", "denoisers", "samplers", "models", "text")

_LAYERS = """
Activation ELU LeakyReLU PReLU ReLU Softmax AdditiveAttention Attention GroupQueryAttention MultiHeadAttention
Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose DepthwiseConv1D DepthwiseConv2D SeparableConv1D
SeparableConv2D
Dense EinsumDense Embedding ReversibleEmbedding Identity InputLayer Masking
Add Average Concatenate Dot Maximum Minimum Multiply Subtract
BatchNormalization GroupNormalization LayerNormalization RMSNormalization SpectralNormalization UnitNormalization
Normalization
AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D
AdaptiveMaxPooling3D
AveragePooling1D AveragePooling2D AveragePooling3D MaxPooling1D MaxPooling2D MaxPooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D
GlobalMaxPooling3D
CategoryEncoding CenterCrop Rescaling Resizing
ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise SpatialDropout1D SpatialDropout2D
SpatialDropout3D
Cropping1D Cropping2D Cropping3D Flatten Permute RepeatVector Reshape
UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
Bidirectional TimeDistributed ConvLSTM1D ConvLSTM2D ConvLSTM3D GRU GRUCell LSTM LSTMCell RNN SimpleRNN SimpleRNNCell
StackedRNNCells
"""

_INITIALIZERS = """
Constant Identity IdentityInitializer Ones Zeros GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform
Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal VarianceScaling
"""

_OPTIMIZERS = "Adadelta Adafactor Adagrad Adam Adamax AdamW Ftrl Lamb Lion Muon Nadam RMSprop ScheduleFreeAdamW SGD"

_SCHEDULES = "CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay"

_NUMPY_OPERATIONS = """
Absolute Add All Amax Amin Any Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Average BroadcastTo
Ceil Clip Concatenate
Conj Conjugate Cos Cosh Cumprod Cumsum Diagonal Divide DivideNoNan Dot Einsum Equal Exp Exp2 ExpandDims Expm1 Flip
Floor FloorDivide
GetItem Greater GreaterEqual Imag Isfinite Isinf Isnan Less LessEqual Log Log10 Log1p Log2 Logaddexp LogicalAnd
LogicalNot LogicalOr
LogicalXor Matmul Max Maximum Mean Min Minimum Mod Moveaxis Multiply NanToNum Negative NotEqual OnesLike Outer Pad
Power Prod Ravel Real
Reciprocal Repeat Reshape Roll Round Sign Sin Sinh Split Sqrt Square Squeeze Stack Std Subtract Sum Swapaxes Take
TakeAlongAxis Tan Tanh
Tensordot Tile Transpose Tril Triu TrueDivide Trunc Var Where ZerosLike
"""

_NN_OPERATIONS = """
AveragePool Celu Conv ConvTranspose DepthToSpace DepthwiseConv DotProductAttention Elu Gelu Glu HardShrink HardSigmoid
HardSilu HardTanh
LayerNorm LeakyRelu LogSigmoid LogSoftmax MaxPool Moments Normalize OneHot RMSNorm Relu Relu6 Selu SeparableConv
Sigmoid Silu SoftShrink
Softmax Softplus Softsign SpaceToDepth SparsePlus SparseSigmoid Squareplus TanhShrink Threshold
"""

_MODELS = {
    "Functional": "keras.src.models.functional",
    "Sequential": "keras",
    "Model": "keras",
    "DTypePolicy": "keras",
    "DTypePolicyMap": "keras.dtype_policies",
}

# Module and class name as a file has them → the module to look in.
_KERAS = {
    **{("keras.layers", name): "keras.layers" for name in _LAYERS.split()},
    **{("keras.initializers", name): "keras.initializers" for name in _INITIALIZERS.split()},
    **{("keras.regularizers", name): "keras.regularizers" for name in ("L1", "L1L2", "L2", "OrthogonalRegularizer")},
    **{("keras.constraints", name): "keras.constraints" for name in ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")},
    **{("keras.optimizers", name): "keras.optimizers" for name in _OPTIMIZERS.split()},
    **{("keras.optimizers.schedules", name): "keras.optimizers.schedules" for name in _SCHEDULES.split()},
    **{("keras.src.ops.numpy", name): "keras.src.ops.numpy" for name in _NUMPY_OPERATIONS.split()},
    **{("keras.src.ops.nn", name): "keras.src.ops.nn" for name in _NN_OPERATIONS.split()},
    **{("keras.src.ops.core", name): "keras.src.ops.core" for name in ("Cast", "StopGradient", "Unstack", "Slice")},
    **{("keras.src.ops.math", name): "keras.src.ops.math" for name in ("Erf", "Logsumexp", "Rsqrt")},
    **{(module, name): home for name, home in _MODELS.items() for module in ("keras", "keras.models", home)},
    ("keras.dtype_policies", "DTypePolicy"): "keras",
    ("keras.random", "SeedGenerator"): "keras.random",
}

# The functions that a config may name, all of them activations, as Keras writes them ("silu", of which "swish" is
# another name).
_ACTIVATIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu
    relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus tanh
    tanh_shrink
    threshold
    """.split()
)


def keras_home(module, name):
    """The module of Keras in which a plain class lies that a file calls `name` of `module`, or None for all other
    classes.
    """
    return _KERAS.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None


def is_activation(module, name):
    """Whether `name` of `module` is one of Keras's activations."""
    return module in ("builtins", "keras.activations") and isinstance(name, str) and name in _ACTIVATIONS


def own_object(registered_name):
    """The class or function of this library that is registered as `registered_name` (`"keras_diffusion>UNet"`), or
    None.

    What others have registered under this library's name is not among them.
    """
    if not isinstance(registered_name, str) or not registered_name.startswith(f"{PACKAGE}>"):
        return None
    if keras.saving.get_registered_object(registered_name) is None:
        for room in _ROOMS:
            importlib.import_module(f"{PACKAGE}.{room}")
    found = keras.saving.get_registered_object(registered_name)
    return found if getattr(found, "__module__", "").startswith(f"{PACKAGE}.") else None
