"""One set of pictures with captions, stored in every way: the batches are the same, and training runs from each."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

import keras
import numpy as np
import pytest
from PIL import Image

import keras_diffusion as kd

datasets = pytest.importorskip("datasets")
grain = pytest.importorskip("grain")
pa = pytest.importorskip("pyarrow")
tfds = pytest.importorskip("tensorflow_datasets")
datasets.disable_progress_bars()

NUMBER, BATCH, SEED = 24, 6, 5
CAPTIONS = [[f"picture {i}", f"number {i}"][: 1 + i % 2] for i in range(NUMBER)]
PATHS = ("texts", "jsonl", "tar", "hugging_face", "tfds", "parquet", "array_record", "npz")


class Pictures(tfds.core.GeneratorBasedBuilder):
    """The pictures of the folder `texts`, in its order."""

    VERSION = tfds.core.Version("1.0.0")
    files = None

    def _info(self):
        features = {"image": tfds.features.Image(), "caption": tfds.features.Sequence(tfds.features.Text())}
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, file in enumerate(self.files):
            yield i, {"image": io.BytesIO(file), "caption": CAPTIONS[i]}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_folders(folder, files):
    for name in ("texts", "jsonl", "tar"):
        (folder / name).mkdir()
    for i, file in enumerate(files):
        (folder / "texts" / f"{i:02}.png").write_bytes(file)
        (folder / "texts" / f"{i:02}.txt").write_text("\n".join(CAPTIONS[i]))
        (folder / "jsonl" / f"{i:02}.png").write_bytes(file)
    rows = [json.dumps({"file_name": f"{i:02}.png", "text": texts}) for i, texts in enumerate(CAPTIONS)]
    (folder / "jsonl" / "metadata.jsonl").write_text("\n".join(rows))
    for shard in range(2):
        with tarfile.open(folder / "tar" / f"{shard}.tar", "w") as archive:
            for i in range(12 * shard, 12 * shard + 12):
                add(archive, f"{i:02}.png", files[i])
                add(archive, f"{i:02}.json", json.dumps({"caption": CAPTIONS[i]}).encode())


def write_tables(folder, files):
    features = {"image": datasets.Image(), "text": datasets.List(datasets.Value("string"))}
    rows = {"image": [{"bytes": file, "path": None} for file in files], "text": CAPTIONS}
    table = datasets.Dataset.from_dict(rows, datasets.Features(features))
    table.save_to_disk(folder / "hugging_face")
    (folder / "parquet").mkdir()
    table.to_parquet(folder / "parquet" / "0.parquet", batch_size=5)
    Pictures.files = files
    Pictures(data_dir=folder, file_format="array_record").download_and_prepare()
    (folder / "pictures" / "1.0.0").rename(folder / "tfds")
    (folder / "array_record").mkdir()
    record = next((folder / "tfds").glob("*.array_record-*"))
    (folder / "array_record" / "0.array_record").write_bytes(record.read_bytes())
    return table


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """dict from the name of a way to store the pictures to what `load` takes."""
    folder = tmp_path_factory.mktemp("sources")
    pixels = np.random.default_rng(0).integers(0, 256, (NUMBER, 8, 8, 3), dtype="uint8")
    files = [png(image) for image in pixels]
    write_folders(folder, files)
    table = write_tables(folder, files)
    np.savez(folder / "npz.npz", images=pixels, captions=np.array([(texts * 2)[:2] for texts in CAPTIONS]))
    samples = [{"image": image, "caption": texts} for image, texts in zip(pixels, CAPTIONS)]
    found = {name: str(folder / (f"{name}.npz" if name == "npz" else name)) for name in PATHS}
    return found | {"object": table, "grain": grain.MapDataset.source(samples), "list": samples}


def batches_of(source, **options):
    return kd.data.load(source, batch_size=BATCH, seed=SEED, captions=True, **options)


@pytest.mark.slow
def test_batches_are_the_same(sources):
    whole = batches_of(sources["texts"], horizontal_flip=True)
    for name, source in sources.items():
        batches = batches_of(source, horizontal_flip=True)
        assert len(batches) == len(whole) == 4 and batches.image_shape == (8, 8, 3), name
        for batches.epoch in range(2):
            whole.epoch = batches.epoch
            for mine, others in zip(batches, whole, strict=True):
                assert mine.keys() == others.keys(), name
                np.testing.assert_array_equal(mine["images"], others["images"], err_msg=name)
                assert mine["captions"].tolist() == others["captions"].tolist(), name
    texts = {text for epoch in range(2) for b in whole for text in b["captions"]}
    assert texts < {text for several in CAPTIONS for text in several}


def test_training_runs_from_each(sources):
    keras.utils.set_random_seed(0)
    encoder, tokenizer = kd.text.small_encoder(CAPTIONS, width=8, depth=1)
    sizes = {"patch_size": 4, "emb_features": 8, "num_layers": 1, "num_heads": 1}  # the quickest to compile
    network = kd.networks.get({"name": "mmdit", "input_shape": (8, 8, 3), "context_dim": 8, **sizes})
    model = kd.models.TextToImage(network, encoder, tokenizer, noise_schedule="cosine", predictor="v")
    model.compile("sgd", run_eagerly=keras.backend.backend() == "tensorflow")  # which compiles for 14 seconds
    stream = {"stream": sources["object"].to_iterable_dataset()}
    for name, source in ({name: sources[name] for name in PATHS[:5]} | stream).items():
        before = model.steps_run
        history = model.fit(batches_of(source), epochs=1, steps_per_epoch=1, verbose=0)
        assert model.steps_run == before + 1 and 0 < history.history["loss"][0] < 10, name


_CHILD = """
import hashlib, json, sys
import numpy as np
import keras_diffusion as kd

def digest(batches, rows, k):
    batches.rows, batches.epoch = rows, 1
    batches.start = k
    parts = [batches[i] for i in range(k, len(batches))]
    return [hashlib.sha256(p["images"].tobytes() + " ".join(p["captions"]).encode()).hexdigest() for p in parts]

found = {}
for name, (path, k) in json.loads(sys.argv[1]).items():
    if name == "stream":
        import datasets
        path = datasets.load_from_disk(path).to_iterable_dataset()
    options = dict(batch_size=6, seed=5, captions=True, shuffle_buffer=7)
    rows = (None, np.arange(3), np.arange(3, 6))
    found[name] = [digest(kd.data.load(path, **options), part, k) for part in rows]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_new_process_goes_on_where_another_has_stopped(sources):
    """In the middle of an epoch, as one process and as each of two, which read their rows of every batch."""
    paths = {name: (path, 1 + i % 3) for i, (name, path) in enumerate(sources.items()) if isinstance(path, str)}
    paths["stream"] = (sources["hugging_face"], 2)
    options = {"capture_output": True, "text": True, "check": True, "env": {**os.environ, "KERAS_BACKEND": "jax"}}
    child = subprocess.run([sys.executable, "-c", _CHILD, json.dumps(paths)], **options)
    found = json.loads(child.stdout.strip().splitlines()[-1])
    assert set(found) == {*PATHS, "stream"}
    for name, (path, k) in paths.items():
        source = sources["object"].to_iterable_dataset() if name == "stream" else path
        batches = batches_of(source, shuffle_buffer=7)
        for batches.epoch in range(2):
            whole = list(batches)  # uninterrupted
        for rows, continued in zip((slice(None), slice(0, 3), slice(3, 6)), found[name], strict=True):
            assert continued == [digest(batch, rows) for batch in whole[k:]], name


def digest(batch, rows):
    content = batch["images"][rows].tobytes() + " ".join(batch["captions"][rows]).encode()
    return hashlib.sha256(content).hexdigest()
