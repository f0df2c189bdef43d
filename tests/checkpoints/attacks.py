"""Small files that ask for much memory or time: what test_attacks_bytes.py tries on every way in.

Each function writes its files into a folder and returns what to open.
"""

import bz2
import gzip
import json
import lzma
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent.parent / "golden"
HUGE = 10**10


def archive(path, members, kind=zipfile.ZIP_STORED):
    """A zip of texts."""
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def keras_archive(path, config, kind=zipfile.ZIP_STORED, metadata="{}"):
    """A `.keras` whose weights are those of a small model, with another config."""
    with zipfile.ZipFile(GOLDEN / "tiny_checkpoints" / "keras3.keras") as file:
        weights = file.read("model.weights.h5")
    archive(path, {"config.json": config, "metadata.json": metadata}, kind)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("model.weights.h5", weights)
    return path


def bomb(path, kind, size=1 << 27):
    """A `.keras` whose config unpacks to an eighth of a gigabyte of spaces."""
    packer = {
        zipfile.ZIP_BZIP2: bz2.BZ2Compressor,
        zipfile.ZIP_LZMA: lambda: _LZMA(),
        zipfile.ZIP_DEFLATED: lambda: zlib.compressobj(9, zlib.DEFLATED, -15),
    }[kind]()
    piece, checksum, packed = b" " * (1 << 22), 0, bytearray()
    for _ in range(size // len(piece)):
        checksum = zlib.crc32(piece, checksum)
        packed += packer.compress(piece)
    packed += packer.flush()
    return _one_member(path, "config.json", bytes(packed), size, checksum, kind)


class _LZMA:
    """LZMA as zip has it: version, length of the properties, properties, raw data."""

    def __init__(self):
        filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16}]
        self.head = struct.pack("<BBH", 9, 4, 5) + lzma._encode_filter_properties(filters[0])
        self.packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)

    def compress(self, data):
        head, self.head = self.head, b""
        return head + self.packer.compress(data)

    def flush(self):
        return self.packer.flush()


def _one_member(path, name, packed, size, checksum, kind, claimed=None):
    claimed = size if claimed is None else claimed
    fields = struct.pack("<HHHHHLLLHH", 20, 0, kind, 0, 33, checksum, len(packed), claimed, len(name), 0)
    local = b"PK\3\4" + fields + name.encode() + packed
    central = b"PK\1\2\x14\0" + fields + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + name.encode()
    end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
    Path(path).write_bytes(local + central + end)
    return path


def pickled(path, body):
    """A zip of PyTorch whose pickle is `body`."""
    return archive(path, {"model/data.pkl": b"\x80\x02" + body + b"."})


def _text(text):
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def doubling(steps=60):
    """[[[…], […]], …]: a list that stands twice in the next, `steps` times."""
    return (
        b"]" + b"q\0" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(steps))
    )


def doubling_words(steps=60):
    """A device whose name is made of two names of devices."""
    start = b"ctorch\ndevice\nq\0" + _text("cuda") + b"q\1"
    return start + b"".join(
        b"h\0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86Rq" + bytes([i + 1]) for i in range(1, steps)
    )


def sets(count=20_000):
    """A list of `count` numbers, and as many sets made of it."""
    items = b"](" + b"K\1" * count + b"eq\0"
    return items + b"](" + b"c__builtin__\nset\nh\0\x85R" * count + b"e"


def long_names(depth=20, length=1000, width=200):
    """Dicts in dicts whose keys are long."""
    key = _text("k" * length)
    inner = b"}(" + b"".join(_text(str(i)) + b"K\1" for i in range(width)) + b"u"
    return b"}" + key + b"q\1" + b"}" * 0 + inner + b"s" if depth == 0 else (b"}" + key) * depth + inner + b"s" * depth


def safetensors(path, header, size=0):
    """A `.safetensors` file with this header."""
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return path


def png(path, width, height, color=2):
    """A picture of one colour: a few kilobytes, and gigabytes when decoded."""
    channels = {0: 1, 2: 3, 6: 4}[color]
    packer, row = zlib.compressobj(9), bytes(1 + width * channels)
    packed = bytearray()
    for _ in range(height):
        packed += packer.compress(row)
    packed += packer.flush()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    Path(path).write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", bytes(packed)) + chunk(b"IEND", b"")
    )
    return path


def npy(shape, dtype="<f4", data=b"", fortran=False):
    """An array with any header."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + data


def npz_bomb(path, size=1 << 29):
    """Zeros, packed."""
    head = npy((size,), "|u1")
    packer, checksum = zlib.compressobj(9, zlib.DEFLATED, -15), zlib.crc32(head)
    packed, piece = bytearray(packer.compress(head)), bytes(1 << 22)
    for _ in range(size // len(piece)):
        checksum = zlib.crc32(piece, checksum)
        packed += packer.compress(piece)
    packed += packer.flush()
    return _one_member(path, "images.npy", bytes(packed), size + len(head), checksum, zipfile.ZIP_DEFLATED)


def msgpack_lists(count):
    """{"a": [[], [], …]}"""
    return b"\x81\xa1a\xdd" + struct.pack(">I", count) + b"\x90" * count


def checkpoint_attacks(folder):
    """Files for `load` and `inspect`: pairs of a name and a path."""
    folder = Path(folder)
    yield "bzip2", bomb(folder / "bzip2.keras", zipfile.ZIP_BZIP2)
    yield "lzma", bomb(folder / "lzma.keras", zipfile.ZIP_LZMA)
    yield "deflate", bomb(folder / "deflate.keras", zipfile.ZIP_DEFLATED, 1 << 28)
    for name, config in {
        "lists": "[" * 100_000 + "]" * 100_000,
        "dicts": '{"a":' * 50_000 + "1" + "}" * 50_000,
        "values": "[" + "{}," * 3_000_000 + "{}]",
        "digits": '{"a": ' + "9" * 100_000 + "}",
    }.items():
        yield f"keras {name}", keras_archive(folder / f"{name}.keras", config)
    for name, body in {
        "references": b"}" + _text("a") + doubling() + b"s",
        "device": b"}" + _text("a") + doubling_words() + b"s",
        "own": b"}q\0" + _text("a") + b"h\0s",
        "sets": sets(),
        "names": long_names(),
        "instructions": b"}" + _text("a") + b"(" + b"]" * 3_000_000 + b"ls",
        "shape": b"}"
        + _text("a")
        + b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch\nFloatStorage\nK\0("
        + (b"\x8a\x10" + b"\x7f" * 16) * 20_000
        + b"t("
        + b"K\1" * 20_000
        + b"tI00\ntRs",
        "marks": b"(" * 3_000_000,
        "version": doubling(),
    }.items():
        yield f"pt {name}", pickled(folder / f"{name}.pt", body)
        (folder / f"{name}.pkl").write_bytes(b"\x80\x04" + body + b".")
        yield f"pkl {name}", folder / f"{name}.pkl"
    legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    (folder / "legacy.pt").write_bytes(legacy + b"\x80\x02" + doubling() + b"." + b"\x80\x02}.")
    yield "legacy version", folder / "legacy.pt"
    shape = {"a": {"dtype": "F32", "shape": [10**18] * 20_000, "data_offsets": [0, 0]}}
    yield "safetensors shape", safetensors(folder / "shape.safetensors", shape)
    zero = {"a": {"dtype": "F32", "shape": [0] + [2**62] * 31, "data_offsets": [0, 0]}}
    yield "safetensors zero", safetensors(folder / "zero.safetensors", zero)
    many = b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[],"data_offsets":[0,4]}' % i for i in range(60_000)) + b"}"
    yield "safetensors many", safetensors(folder / "many.safetensors", many)
    yield "safetensors deep", safetensors(folder / "deep.safetensors", b'{"a":' * 100_000)
    yield "safetensors name", safetensors(folder / "name.safetensors", {"n" * 5_000_000: zero["a"]})
    (folder / "lists.msgpack").write_bytes(msgpack_lists(5_000_000))
    yield "msgpack lists", folder / "lists.msgpack"
    (folder / "deep.msgpack").write_bytes(b"\x81\xa1a" * 200_000 + b"\xc0")
    yield "msgpack deep", folder / "deep.msgpack"
    key = b"\xda" + struct.pack(">H", 60_000) + b"k" * 60_000
    (folder / "names.msgpack").write_bytes(
        b"\x81\xa1a" + (b"\x81" + key) * 30 + b"\xdc" + struct.pack(">H", 20_000) + b"\1" * 20_000
    )
    yield "msgpack names", folder / "names.msgpack"
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {str(i): f"{i}.safetensors" for i in range(100_000)}}))
    yield "index", index
    long = folder / "long.safetensors.index.json"
    long.write_text(json.dumps({"weight_map": {"a": "x" * 100_000 + ".safetensors", "b": "\0"}}))
    yield "index name", long


def hdf5_attacks(folder):
    """HDF5 files as Keras could write them: pairs of a name and a path."""
    import h5py

    def many(file):
        for i in range(21_000):
            file.create_group(f"g{i}")

    def deep(file):
        for _ in range(60):
            file = file.create_group("k" * 900)

    def same(file):
        file.attrs.create("layer_names", np.array([b"a"] * 60_000))
        group = file.create_group("a")
        group.attrs.create("weight_names", np.array([b"b"] * 60_000))
        group["b"] = np.zeros(2, "float32")

    def packed(file):
        file.create_dataset("a/vars/0", shape=(10**9,), dtype="f4", chunks=(10**6,), compression="gzip")

    def large(file):
        file.create_dataset("a/vars/0", shape=(1 << 20,) * 3, dtype="f4", chunks=(1, 1, 1))

    for write in (many, deep, same, packed, large):
        path = Path(folder) / f"{write.__name__}.h5"
        with h5py.File(path, "w", libver=("earliest", "v108")) as file:
            write(file)
        yield f"h5 {write.__name__}", path


def diffusers_attacks(folder):
    """Folders of diffusers whose configs ask for more than their weights: pairs of a name and a path."""
    for case, key, value in [
        ("unet2d_class_cond_scale_shift", "block_out_channels", [1 << 30, 1 << 30]),
        ("unet2d_class_cond_scale_shift", "layers_per_block", 10**6),
        ("unet2d_class_cond_scale_shift", "block_out_channels", [8] * 100_000),
        ("unet2d_class_cond_scale_shift", "num_class_embeds", 10**9),
        ("unet2d_class_cond_scale_shift", "sample_size", 10**9),
        ("unet2d_class_cond_scale_shift", "norm_num_groups", 10**300),
        ("unet2d_condition_sd2_like", "cross_attention_dim", 10**9),
        ("unet2d_condition_sd2_like", "transformer_layers_per_block", 10**6),
        ("unet2d_condition_sd2_like", "attention_head_dim", 10**9),
        ("autoencoder_kl", "latent_channels", 10**6),
        ("dit", "num_layers", 10**6),
        ("dit", "sample_size", 10**6),
        ("dit", "num_attention_heads", 10**7),
    ]:
        target = Path(folder) / f"{case}-{key}-{len(str(value))}"
        shutil.copytree(GOLDEN / "diffusers" / case / "model", target)
        config = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**config, key: value}))
        yield f"diffusers {case} {key}", target
    for key, value in [
        ("num_train_timesteps", HUGE),
        ("num_train_timesteps", 1e300),
        ("trained_betas", [0.5] * 1_200_000),
    ]:
        target = Path(folder) / f"scheduler-{key}-{len(str(value))}"
        shutil.copytree(GOLDEN / "diffusers" / "unet2d_class_cond_scale_shift" / "model", target / "unet")
        (target / "scheduler").mkdir()
        scheduler = {"_class_name": "DDPMScheduler", key: value}
        (target / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
        yield f"scheduler {key} {len(str(value))}", target


def preset_attacks(folder, preset):
    """Presets whose configs ask for more than their weights; `preset` is a good one. Pairs of a name and a path."""
    config = json.loads((Path(preset) / "config.json").read_text())

    def changed(name, **network):
        value = json.loads(json.dumps(config))
        value["config"]["network"]["config"].update(network)
        return name, value

    cases = [
        changed("widths", widths=[1 << 19, 1 << 19]),
        changed("wider", widths=[1 << 40]),
        changed("levels", widths=[8] * 50_000),
        changed("blocks", num_res_blocks=10**6),
        changed("classes", num_classes=10**12),
        changed("size", input_shape=[10**6, 10**6, 3]),
        changed("channels", input_shape=[8, 8, 10**7]),
    ]
    for key, value in [
        (
            "noise_schedule",
            {
                **config["config"]["noise_schedule"],
                "class_name": "LinearNoiseSchedule",
                "registered_name": "keras_diffusion>LinearNoiseSchedule",
                "config": {"timesteps": HUGE},
            },
        ),
        ("noise_bands", 10**8),
    ]:
        cases.append((key, {**config, "config": {**config["config"], key: value}}))
    texts = {name: json.dumps(value) for name, value in cases}
    whole = json.dumps(config)
    texts |= {
        "deep": whole[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "many": whole[:-1] + ', "x": [' + "[]," * 2_000_000 + "1]}",
    }
    for name, text in texts.items():
        target = Path(folder) / f"preset-{name}"
        shutil.copytree(preset, target)
        (target / "config.json").write_text(text)
        yield f"preset {name}", target
        with zipfile.ZipFile(Path(folder) / f"{name}-own.keras", "w") as file:
            file.writestr("metadata.json", '{"keras_version": "3.12.0", "date_saved": ""}')
            file.writestr("config.json", text)
            file.write(Path(preset) / "model.weights.h5", "model.weights.h5")
        yield f"keras {name}", Path(folder) / f"{name}-own.keras"


def data_attacks(folder):
    """What `data.load` is given: pairs of a name and a path."""
    folder = Path(folder)
    yield "npz zeros", npz_bomb(folder / "zeros.npz")
    for name, content in {
        "negative": npy((-5, 8, 8, 1)),
        "huge": npy((10**6, 10**6, 10**6, 3)),
        "objects": npy((4,), "|O", b"\x80\x04N."),
        "text": npy((4, 8, 8, 1), "<U100000000"),
        "axes": npy((1,) * 60),
        "cut": npy((100, 8, 8, 1), "<f4", bytes(100)),
        "digits": npy((int("9" * 4000),)),
        "no tuple": npy("None"),
        "deep": npy("(" * 5000 + ")" * 5000),
        "nothing": b"",
        "magic": b"\x93NUMPY\7\7",
    }.items():
        (folder / f"{name}.npy").write_bytes(content)
        yield f"npy {name}", folder / f"{name}.npy"
        yield f"npz {name}", archive(folder / f"{name}.npz", {"images.npy": content})
    good = archive(folder / "good.npz", {"images.npy": npy((4, 8, 8, 1), "|u1", bytes(256))}).read_bytes()
    for name, content in {
        "cut": good[:-30],
        "middle": good[:200] + b"\xff" + good[201:],
        "not": b"PK\3\4" + bytes(100),
    }.items():
        (folder / f"damaged-{name}.npz").write_bytes(content)
        yield f"npz damaged {name}", folder / f"damaged-{name}.npz"
    yield (
        "npz bzip2",
        archive(folder / "bzip2.npz", {"images.npy": npy((1 << 24,), "|u1", bytes(1 << 24))}, zipfile.ZIP_BZIP2),
    )
    for name, size, color in (("wide", (13_000, 13_000), 2), ("line", (1 << 30, 1), 0)):
        (folder / f"pictures-{name}").mkdir()
        if name == "line":
            head = struct.pack(">IIBBBBB", *size, 8, color, 0, 0, 0)
            (folder / f"pictures-{name}" / "a.png").write_bytes(
                b"\x89PNG\r\n\x1a\n"
                + struct.pack(">I", 13)
                + b"IHDR"
                + head
                + struct.pack(">I", zlib.crc32(b"IHDR" + head))
                + struct.pack(">I", 0)
                + b"IDAT"
                + struct.pack(">I", zlib.crc32(b"IDAT"))
            )
        else:
            png(folder / f"pictures-{name}" / "a.png", *size, color)
        yield f"png {name}", folder / f"pictures-{name}"
    (folder / "pictures-eps").mkdir()
    (folder / "pictures-eps" / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100000 100000\n%%EndComments\n"
    )
    yield "png eps", folder / "pictures-eps"


def texts(folder):
    """Configurations of runs that are too deep, too long or too large."""
    found = {
        "deep.toml": "a = " + "[" * 100_000,
        "keys.toml": "a" + ".a" * 100_000 + " = 1",
        "deep.json": "[" * 200_000,
        "laughs.yaml": "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [" + f"*a{i}, " * 9 + "x]\n" for i in range(12)),
        "wide.toml": '[data]\nsource = "digits"\n[network]\nwidths = [500000, 500000]\n',
        "blocks.toml": '[data]\nsource = "digits"\n[network]\nwidths = [8]\nnum_res_blocks = 1000000000\n',
    }
    for name, text in found.items():
        (folder / name).write_text(text)
    return [folder / name for name in found]


def runs(folder, preset):
    """Folders of runs whose configurations ask for more than their weights: an interrupted one, and one whose texts are
    too deep.
    """
    base = {
        "seed": 0,
        "dtype": "float32",
        "data": {"source": "digits", "batch_size": 8, "batches_per_epoch": 1},
        "network": {"name": "unet", "input_shape": [8, 8, 1], "widths": [8], "num_res_blocks": 1, "num_classes": 10},
        "model": {},
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "train": {"epochs": 2, "samples": {"every": 0}},
    }
    cases = {"wide": {"widths": [100_000, 100_000]}, "blocks": {"num_res_blocks": 1_000_000}, "bands": {}}
    for name, network in cases.items():
        config = {**base, "network": {**base["network"], **network}}
        if name == "bands":
            config["model"] = {"noise_bands": 10**7}
        yield _run(folder / f"run-{name}", preset, json.dumps(config))
    yield _run(folder / "run-deep", preset, json.dumps(base)[:-1] + ', "x": ' + "[" * 100_000)
    yield _run(folder / "run-state", preset, json.dumps(base), '{"epoch": ' + "[" * 100_000)


def _run(target, preset, config, state='{"epoch": 1, "weights": "state-1.weights.h5", "data_epoch": 1}'):
    (target / "state").mkdir(parents=True)
    (target / "config.json").write_text(config)
    facts = {
        "kind": "keras_diffusion run",
        "backend": "jax",
        "devices": [],
        "time": "",
        "versions": {},
        "platform": "",
        "resumed": [],
    }
    (target / "environment.json").write_text(json.dumps(facts))
    (target / "state" / "state.json").write_text(state)
    shutil.copy(Path(preset) / "model.weights.h5", target / "state" / "state-1.weights.h5")
    return target


def vocabulary(path):
    """A list of merges that unpacks to gigabytes."""
    with gzip.open(path, "wb") as file:
        for _ in range(128):
            file.write(b"a b\n" * (1 << 20))
    return path
