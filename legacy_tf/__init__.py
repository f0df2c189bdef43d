"""How diffusion models were written in TensorFlow 2 and Keras 2, kept as working code under tf_keras. See README.md."""
