#!/usr/bin/env python3
"""Verifies an evidence pack with Python's standard library alone.

    python3 verify.py PACK.zip KEY [OLD-CHECKPOINT]

KEY is the log's public key as you know it (name+id+base64). Exit code 0: everything below holds. 1: something
does not, and it is named. It checks, in this order: the checkpoint is signed by KEY (Ed25519, C2SP signed-note);
the tiles come to the signed root and to each other (RFC 6962, C2SP tlog-tiles); every entry has the hash that its
tile has; denials.jsonl and transfers.jsonl say what the entries say, no more and no less; the log continues
OLD-CHECKPOINT. It believes nothing that the pack says about itself. violations.jsonl is the region's own register.
"""
import base64, hashlib, json, sys, zipfile


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def fail(check, why):
    print(f"{check}: FAILS: {why}")
    sys.exit(1)


# Ed25519 verification (RFC 8032, section 5.1), on extended coordinates.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(n, p):
    q = (0, 1, 1, 0)
    while n:
        if n & 1:
            q = add(q, p)
        p, n = add(p, p), n >> 1
    return q


def point(encoded):
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if x * x % P != x2:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != x2 or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return (x, y, 1, x * y % P)


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def signed(key, text, signature):
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % L
    left, right = times(s, BASE), add(r, times(k, a))
    return all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


def read_checkpoint(note, vkey, what):
    """Origin, size and root of a signed note, if vkey signed it."""
    name, key_id, key = vkey.split("+", 2)
    key = base64.b64decode(key)
    if key[0] != 1 or len(key) != 33 or sha256(name.encode(), b"\n", key)[:4].hex() != key_id:
        fail("signed", "the key is not the public key of a log")
    text, lines = note.rsplit("\n\n", 1)
    text += "\n"
    for line in lines.splitlines():
        dash, signer, encoded = line.split(" ")
        signature = base64.b64decode(encoded)
        if (dash, signer, signature[:4].hex()) == ("—", name, key_id):
            if not signed(key[1:], text.encode(), signature[4:]):
                fail("signed", f"the signature of {what} is wrong")
            origin, size, root = text.splitlines()[:3]
            if origin != name:
                fail("signed", f"{what} is of another log")
            return int(size), base64.b64decode(root)
    fail("signed", f"{what} is not signed by this key")


def path(level, index, width):
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03}")
    return f"tile/{level}/{'/'.join(groups)}" + (f".p/{width}" if width < 256 else "")


class Tree:
    def __init__(self, pack, size):
        self.pack, self.size, self.tiles = pack, size, {}

    def tile(self, level, index):
        if (level, index) not in self.tiles:
            width = min(256, (self.size >> 8 * level) - 256 * index)
            try:
                data = self.pack.read(path(level, index, width))
            except KeyError:
                fail("well-formed", f"{path(level, index, width)} is not in the pack")
            if len(data) != 32 * width:
                fail("well-formed", f"{path(level, index, width)} does not hold {width} hashes")
            hashes = [data[i : i + 32] for i in range(0, len(data), 32)]
            # A full tile must be the one that the tile above it speaks of; partial ones make up the root.
            if width == 256 and self.tile(level + 1, index // 256)[index % 256] != merge(hashes):
                fail("well-formed", f"{path(level, index, width)} is not of the signed tree")
            self.tiles[level, index] = hashes
        return self.tiles[level, index]

    def root(self, first, last):
        """The root over the leaves first..last, out of complete subtrees (RFC 6962, section 2.1)."""
        count = last - first
        height = count.bit_length() - 1
        if count != 1 << height:
            middle = first + (1 << (count - 1).bit_length() - 1)
            return sha256(b"\x01", self.root(first, middle), self.root(middle, last))
        level, inner = divmod(height, 8)
        start = (first >> height) << inner
        return merge(self.tile(level, start // 256)[start % 256 :][: 1 << inner])


def merge(hashes):
    while len(hashes) > 1:
        hashes = [sha256(b"\x01", a, b) for a, b in zip(hashes[::2], hashes[1::2])]
    return hashes[0]


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    pack, vkey = zipfile.ZipFile(sys.argv[1]), sys.argv[2]
    size, root = read_checkpoint(pack.read("checkpoint").decode(), vkey, "the checkpoint")
    print(f"signed: holds: {size} leaves of {vkey.split('+')[0]}")
    tree = Tree(pack, size)
    if size and tree.root(0, size) != root:
        fail("well-formed", "the tiles do not come to the signed root")
    entries, said = 0, {"denials.jsonl": {}, "transfers.jsonl": {}}
    for name in (name for name in pack.namelist() if name.startswith("tile/entries/")):
        index = int(name.split(".p")[0].removeprefix("tile/entries/").replace("x", "").replace("/", ""))
        data, at = pack.read(name), 0
        for at_tile, hashed in enumerate(tree.tile(0, index)):
            length = int.from_bytes(data[at : at + 2], "big")
            entry, at = data[at + 2 : at + 2 + length], at + 2 + length
            if sha256(b"\x00", entry) != hashed:
                fail("well-formed", f"an entry beneath {name} is not the one that the signed tree has there")
            leaf, seq = json.loads(entry), 256 * index + at_tile
            if leaf.get("out") == "deny":
                said["denials.jsonl"][seq] = {"seq": seq, "id": leaf["id"], "why": leaf.get("why")}
            if "xf" in leaf:
                of = {"k": leaf["k"], "leaf": hashed.hex(), "seq": seq, "xf": leaf["xf"]}
                said["transfers.jsonl"][seq] = of
            entries += 1
        if at != len(data):
            fail("well-formed", f"{name} has more entries than its tile")
    print(f"well-formed: holds: {entries} entries, each with the hash that the signed tree has")
    for name, expected in said.items():
        try:
            listed = [json.loads(line) for line in pack.read(name).decode().splitlines()]
        except KeyError:
            fail("listed", f"{name} is not in the pack")
        if listed != [expected[seq] for seq in sorted(expected)]:
            fail("listed", f"{name} does not say what the entries say")
        print(f"listed: holds: {len(listed)} lines of {name}, as the entries say")
    if len(sys.argv) == 4:
        old_size, old_root = read_checkpoint(open(sys.argv[3], encoding="utf-8").read(), vkey, "the older checkpoint")
        if old_size > size:
            fail("append-only", f"the log had {old_size} leaves and now has {size}")
        if old_size and tree.root(0, old_size) != old_root:
            fail("append-only", "the log does not begin with what it once had")
        print(f"append-only: holds: {size - old_size} leaves since your checkpoint")
    else:
        print("append-only: not checked: no older checkpoint was given")


main()
