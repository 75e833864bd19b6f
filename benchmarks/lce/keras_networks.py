"""Make larq-zoo's networks with honest parameters; convert each with LCE's converter, and to ONNX.

Runs in the environment of `requirements.txt`, not in bnncc's.  Writes for each network NAME.tflite (LCE's converter),
NAME.onnx (tf2onnx; NCHW input) and NAME.npz (`inputs` [N, H, W, 3], `outputs` of Keras).

    python keras_networks.py FOLDER NAME…
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class _AnyClass(type):
    """The type of classes that have every name in them, as classes of that type."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyClass(name, (), {})


class _Anything(types.ModuleType):
    """Stands for tensorflow_datasets, of which zookeeper reads names while it is imported, and no data."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyClass(name, (), {})


for module in ("tensorflow_datasets", "tensorflow_datasets.core"):
    sys.modules[module] = _Anything(module)

import larq_compute_engine as lce  # noqa: E402
import larq_zoo as zoo  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf2onnx  # noqa: E402
import tf_keras as keras  # noqa: E402

NETWORKS = {
    "BiRealNet": zoo.literature.BiRealNet,
    "QuickNet": zoo.sota.QuickNet,
    "QuickNetSmall": zoo.sota.QuickNetSmall,
    "QuickNetLarge": zoo.sota.QuickNetLarge,
    "BinaryResNetE18": zoo.literature.BinaryResNetE18,
    "RealToBinaryNet": zoo.literature.RealToBinaryNet,
    "BinaryDenseNet28": zoo.literature.BinaryDenseNet28,
    "MeliusNet22": zoo.literature.MeliusNet22,
    "BinaryAlexNet": zoo.literature.BinaryAlexNet,
    "XNORNet": zoo.literature.XNORNet,
}
SIZE = 224
INPUTS = 4
OPSET = 17


def make(name: str) -> keras.Model:
    """The network with random weights, batch norms of its own data, every fifth γ negative."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[name](weights=None, input_shape=(SIZE, SIZE, 3))
    generator = np.random.default_rng(0)
    norms = [layer for layer in model.submodules if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        channels = int(layer.moving_mean.shape[0])
        sense = np.where(generator.random(channels) < 0.2, -1.0, 1.0)
        if layer.gamma is not None:
            layer.gamma.assign(sense * generator.uniform(0.5, 1.5, channels))
        if layer.beta is not None:
            layer.beta.assign(generator.normal(0, 0.3, channels))
        layer.momentum = 0.0  # after one batch the statistics are that batch's
    for layer in model.submodules:
        if isinstance(layer, keras.layers.PReLU):
            layer.alpha.assign(generator.uniform(-0.1, 0.5, layer.alpha.shape))
        elif isinstance(layer, keras.layers.Dense) and layer.bias is not None:
            layer.bias.assign(generator.normal(0, 0.3, layer.bias.shape))
    model(images(generator, INPUTS), training=True)
    return model


def images(generator: np.random.Generator, count: int) -> np.ndarray:
    """Noise as pictures have it after preprocessing, [N, H, W, 3]."""
    return generator.standard_normal((count, SIZE, SIZE, 3)).astype(np.float32)


def main() -> None:
    """Write the files of the networks named on the command line."""
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        model = make(name)
        inputs = images(np.random.default_rng(1), INPUTS)
        outputs = np.concatenate([model(inputs[index : index + 1], training=False).numpy() for index in range(INPUTS)])
        np.savez(folder / f"{name}.npz", inputs=inputs, outputs=outputs)
        (folder / f"{name}.tflite").write_bytes(lce.convert_keras_model(model))
        signature = [tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32, name="image")]
        tf2onnx.convert.from_keras(
            model, signature, opset=OPSET, inputs_as_nchw=["image"], output_path=str(folder / f"{name}.onnx")
        )
        print(name, flush=True)


if __name__ == "__main__":
    main()
