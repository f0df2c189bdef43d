"""The structures of an HDF5 file, each checked when it is read.

    superblock        signature, versions, sizes of addresses, the root group's object header
    object header     messages: shape, type, layout of the data, attributes, or the symbol table of a group
    symbol table      B-tree "TREE" ─▶ symbol nodes "SNOD" ─▶ (name in the local heap "HEAP", object header)
    global heap       "GCOL": texts of variable length, by address and index

Every structure is claimed: it must lie inside the file, begin with its signature, and overlap nothing that was claimed
before. So no structure is visited twice, and no damage can make a file endless.

Reference: HDF5 File Format Specification, version 3.0, sections II to IV.
"""

import bisect
import struct

from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.runtime import limits

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CONTINUATION = 0x10
_PIECE = 1 << 20


class HDF5Structures:
    """Reads structures, and remembers which bytes are theirs.

    Args:
        source: `SourceFile`, or a part of one.

    Attributes:
        root: address of the root group's object header.

    Raises:
        CheckpointError: here and in every method, where the file is damaged.
    """

    def __init__(self, source):
        self._source, self.path = source, source.path
        self._claimed: list[tuple[int, int]] = []
        self._heaps: dict[int, dict[int, bytes]] = {}
        self._taken = 0
        self.root = self._superblock()

    def header(self, address):
        """Messages of an object header: (kind, data, offset of the data)."""
        version, _, total, _, size = struct.unpack("<BBHII", self._source.read(address, 12))
        if version != 1:
            raise CheckpointError("An object does not begin with a header of version 1.", self.path, address)
        messages = []
        blocks = [(address, self.claim(address, 16 + size), 16)]
        for start, raw, position in blocks:
            while position + 8 <= len(raw):
                kind, length = struct.unpack_from("<HH", raw, position)
                data = raw[position + 8 : position + 8 + length]
                if len(data) < length:
                    raise CheckpointError("A message is longer than its header.", self.path, start + position)
                if kind == _CONTINUATION:
                    offset, length = self.unpack("<2Q", data, start + position + 8)
                    blocks.append((offset, self.claim(offset, length), 0))
                messages.append((kind, data, start + position + 8))
                if len(messages) > total:
                    raise CheckpointError(f"A header should have {total} messages and has more.", self.path, address)
                position += 8 + len(data)
        if len(messages) != total:
            raise CheckpointError(f"A header should have {total} messages and has {len(messages)}.", self.path, address)
        return messages

    def members(self, tree, heap):
        """Members of a group: (name, address of the object header)."""
        head = self.claim(heap, 32, b"HEAP")
        size, _, segment = struct.unpack_from("<3Q", head, 8)
        names = self.claim(segment, size)
        members, longest = [], limits.current().name_length
        for node in self._leaves(tree, None):
            raw = self.claim(node, 8 + 2 * self._leaf * 40, b"SNOD")
            used = int.from_bytes(raw[6:8], "little")
            if used > 2 * self._leaf:
                raise CheckpointError("A node of a group has more entries than fit.", self.path, node)
            for index in range(used):
                place, target, cached = struct.unpack_from("<2QI", raw, 8 + 40 * index)
                end = names.find(b"\0", place, place + longest + 1)
                if cached > 1 or end <= place:
                    raise CheckpointError(
                        "An entry of a group is a link, or has no name.", self.path, node + 8 + 40 * index
                    )
                members.append((self.decode(names[place:end], segment + place), target))
                limits.check(len(members), "tensors", "The number of members of a group", error_at(self.path))
        if [name.encode() for name, _ in members] != sorted({name.encode() for name, _ in members}):
            raise CheckpointError("The names in a group are not in order.", self.path, tree)
        return members

    def heap_object(self, length, address, index, offset):
        """The bytes that an attribute at `offset` refers to."""
        if length == 0:
            return b""
        if address not in self._heaps:
            self._heaps[address] = self._heap(address)
        found = self._heaps[address].get(index, b"")
        if len(found) < length:
            raise CheckpointError("A text is not where an attribute says.", self.path, offset)
        # Thousands of references may lead to one long text.
        self._taken += length
        limits.check(self._taken, "text_bytes", "The length of all texts", error_at(self.path, offset))
        return found[:length]

    def claim(self, address, size, signature=b"", read=True):
        """Reads a structure, and notes that these bytes are its own: two structures at one place are damage, and a loop
        would be one.
        """
        self._source.check(address, size)
        index = bisect.bisect(self._claimed, (address, address + size))
        before = self._claimed[index - 1][1] if index else 0
        after = self._claimed[index][0] if index < len(self._claimed) else self._source.size
        if size and (before > address or after < address + size):
            raise CheckpointError("Two structures of the file overlap: it is damaged.", self.path, address)
        self._claimed.insert(index, (address, address + size))
        raw = self._source.read(address, size) if read else b""
        if raw[: len(signature)] != signature:
            raise CheckpointError(f"A structure {signature.decode()} is not where it should be.", self.path, address)
        return raw

    def check_gaps(self):
        """What belongs to no structure is zero in a file as Keras writes it; otherwise something has lost its owner."""
        end = 0
        for start, stop in [*self._claimed, (self._source.size, 0)]:
            for position in range(end, start, _PIECE):
                piece = self._source.read(position, min(_PIECE, start - position))
                if rest := piece.lstrip(b"\0"):
                    raise CheckpointError(
                        "Bytes that belong to nothing are not zero. The file is damaged, unless it was changed after "
                        "it was written; "
                        'such a file is written anew by "h5repack".',
                        self.path,
                        position + len(piece) - len(rest),
                    )
            end = stop

    def unpack(self, form, data, offset):
        """Numbers at the beginning of a message, by the letters of `struct`."""
        if len(data) < struct.calcsize(form):
            raise CheckpointError("A message is too short.", self.path, offset)
        return struct.unpack_from(form, data)

    def decode(self, data, offset):
        """Text from UTF-8."""
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"A text is not UTF-8: the file is damaged ({error}).", self.path, offset) from error

    def _superblock(self):
        raw = self.claim(0, 96)
        if raw[:8] != SIGNATURE:
            raise CheckpointError("The file does not begin like HDF5.", self.path, 0)
        if raw[8] != 0 or raw[13:15] != b"\x08\x08":
            raise CheckpointError(
                "Only HDF5 of the version that Keras writes is supported. Repack the "
                'file with "h5repack --low=0 --high=1".',
                self.path,
                8,
            )
        self._leaf, self._internal = struct.unpack_from("<HH", raw, 16)
        base, _, end, _ = struct.unpack_from("<4Q", raw, 24)
        if base != 0 or end != self._source.size:
            raise CheckpointError(
                f"The file is cut off or damaged: it should have {end} bytes and has {self._source.size}.",
                self.path,
                self._source.size,
            )
        return struct.unpack_from("<Q", raw, 64)[0]

    def _leaves(self, address, expected):
        """Addresses of the symbol nodes below a node of a B-tree."""
        raw = self.claim(address, 24 + 8 + 2 * self._internal * 16, b"TREE")
        kind, level, used = raw[4], raw[5], int.from_bytes(raw[6:8], "little")
        if kind != 0 or used > 2 * self._internal or level != (level if expected is None else expected):
            raise CheckpointError("A node of a group's tree is damaged.", self.path, address)
        children = [struct.unpack_from("<Q", raw, 32 + 16 * index)[0] for index in range(used)]
        return children if level == 0 else [leaf for child in children for leaf in self._leaves(child, level - 1)]

    def _heap(self, address):
        """Objects of a global heap, by index."""
        size = self.unpack("<Q", self._source.read(address + 8, 8), address + 8)[0]
        raw, objects, position = self.claim(address, size, b"GCOL"), {}, 16
        while position + 16 <= size:
            index, _, _, length = struct.unpack_from("<HHIQ", raw, position)
            if index == 0:  # what follows is free
                break
            if length > size - position - 16 or index in objects:
                raise CheckpointError("A heap of texts is damaged.", self.path, address + position)
            objects[index] = raw[position + 16 : position + 16 + length]
            position += 16 + -(-length // 8) * 8
        return objects
