#!/usr/bin/env python3
"""Checks an export of identity-ledger after docs/proof.md, with none of the project's code.

check_export.py DIR KEY                     the export against its checkpoint and the key
check_export.py DIR KEY --since CHECKPOINT  and that it begins with what that one covers
check_export.py --checkpoint FILE KEY       a checkpoint alone; prints its size and root
check_export.py --inclusion LINE SIZE ROOT [INDEX]
                                            an audit path (JSON on stdin); INDEX if positions were skipped
check_export.py --consistency SIZE ROOT SIZE ROOT
                                            a consistency proof (JSON on stdin)
"""

import base64
import hashlib
import json
import os
import sys

# Merkle tree (RFC 6962, section 2.1)


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf(line):
    return sha256(b"\x00" + line)


def node(left, right):
    return sha256(b"\x01" + left + right)


class Tree:
    """Complete subtrees from left to right, each larger than the next."""

    def __init__(self):
        self.size, self.subtrees = 0, []

    def append(self, line):
        hash, at = leaf(line), self.size
        while at % 2 == 1:
            hash = node(self.subtrees.pop(), hash)
            at //= 2
        self.subtrees.append(hash)
        self.size += 1

    def root(self):
        if not self.subtrees:
            return sha256(b"")
        root = self.subtrees[-1]
        for left in reversed(self.subtrees[:-1]):
            root = node(left, root)
        return root


def included(hash, index, size, path, root):
    i, last = index, size - 1
    if i > last:
        return False
    for p in path:
        if last == 0:
            return False
        if i % 2 == 1 or i == last:
            hash = node(p, hash)
            while i % 2 == 0 and i != 0:
                i, last = i // 2, last // 2
        else:
            hash = node(hash, p)
        i, last = i // 2, last // 2
    return last == 0 and hash == root


def consistent(size, root, new_size, new_root, proof):
    if not 1 <= size <= new_size:
        return False
    if size == new_size:
        return proof == [] and root == new_root
    if size & (size - 1) == 0:
        proof = [root] + proof
    if not proof:
        return False
    i, last = size - 1, new_size - 1
    while i % 2 == 1:
        i, last = i // 2, last // 2
    a = b = proof[0]
    for p in proof[1:]:
        if last == 0:
            return False
        if i % 2 == 1 or i == last:
            a, b = node(p, a), node(p, b)
            while i % 2 == 0 and i != 0:
                i, last = i // 2, last // 2
        else:
            b = node(b, p)
        i, last = i // 2, last // 2
    return last == 0 and a == root and b == new_root


# Ed25519 (RFC 8032, section 5.1.7)

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * SQRT_OF_MINUS_1 % P
    if (x * x - x2) % P != 0:
        return None
    return P - x if x % 2 != sign else x


def point(encoded):
    y = int.from_bytes(encoded, "little")
    x = recover_x(y & ((1 << 255) - 1), y >> 255)
    y &= (1 << 255) - 1
    return None if x is None else (x, y, 1, x * y % P)


def add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, p):
    product = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            product = add(product, p)
        p, scalar = add(p, p), scalar >> 1
    return product


def equal(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def signed(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = point(public), point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = hashlib.sha512(signature[:32] + public + message).digest()
    k = int.from_bytes(k, "little") % L
    return equal(multiply(s, BASE), add(r, multiply(k, a)))


# Signed notes and checkpoints (C2SP)


def decode(text):
    return base64.b64decode(text, validate=True)


def read_keys(text):
    keys = []
    for line in text.splitlines():
        name, id, key = line.split("+", 2)
        key = decode(key)
        if key[:1] != b"\x01":
            continue
        check(len(key) == 33, "the verifier key is malformed")
        check(sha256(name.encode() + b"\n" + key)[:4].hex() == id, "the verifier key's id is wrong")
        keys.append((name, bytes.fromhex(id), key[1:]))
    check(keys, "there is no Ed25519 verifier key")
    return keys


def read_checkpoint(note, keys):
    """The name of the log, and the size and the root that one of the keys has signed."""
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    origin, size, root = text.splitlines()[:3]
    is_signed = False
    for line in signatures.splitlines():
        dash, name, signature = line.split(" ")
        check(dash == "\u2014", "a signature begins with a dash")
        signature = decode(signature)
        for key_name, id, public in keys:
            if (key_name, id) == (name, signature[:4]) and name == origin:
                check(signed(public, text.encode(), signature[4:]), "the signature is wrong")
                is_signed = True
    check(is_signed, "the checkpoint is not signed by the key")
    return origin, int(size), decode(root)


# Exports


def commitment(observation):
    hash = decode(observation["salt"])
    for value in (observation["email"], observation["phoneNumber"]):
        if value is None:
            hash += b"\x00"
        else:
            value = value.encode()
            hash += b"\x01" + len(value).to_bytes(4, "big") + value
    return base64.b64encode(sha256(hash)).decode()


def check(holds, otherwise):
    if not holds:
        raise SystemExit(otherwise)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def read_erased(path):
    """The numbers of the observations that were erased: they have no line."""
    erased = set()
    with open(path, "rb") as events:
        for event in map(json.loads, events):
            if event["kind"] == "ContactErased":
                erased.update(event["data"]["observationIds"])
    return erased


def check_name(origin, size, restored):
    """The log has had another name since each event that accepts a loss and is covered."""
    at = [position for events_before, position in restored if events_before < size]
    name = origin.rsplit("/restored-", 1)
    right = name[1:] == [str(at[-1])] if at else len(name) == 1
    check(right, f"the log was not called {origin} at size {size}")


def check_export(folder, key_file, since_file):
    keys = read_keys(read(key_file))
    signed = [read_checkpoint(read(os.path.join(folder, "checkpoint")), keys)]
    _, size, root = signed[0]
    signed_roots = {size: root}
    if since_file is not None:
        signed.append(read_checkpoint(read(since_file), keys))
        _, old_size, old_root = signed[1]
        check(old_size <= size, "the export ends before the earlier checkpoint")
        check(signed_roots.setdefault(old_size, old_root) == old_root, "the roots differ")
    erased = read_erased(os.path.join(folder, "events.ndjson"))
    path = os.path.join(folder, "observations.ndjson")
    observations = open(path, "rb") if os.path.exists(path) else None
    tree, observed, number, position, restored = Tree(), 0, 0, 0, []
    with open(os.path.join(folder, "events.ndjson"), "rb") as events:
        for line in events:
            check(line.endswith(b"\n"), "the last line is torn")
            event = json.loads(line)
            if event["kind"] == "LedgerRestored":
                data, skipped = event["data"], event["position"] - position - 1
                check(skipped >= 0 and data["newSize"] == tree.size, "the loss is elsewhere")
                check(decode(data["newRoot"]) == tree.root(), "what was left is something else")
                restored.append((tree.size, event["position"]))
                position, number = position + skipped, number + skipped
                check(data["nextObservationId"] == number + 1, "other numbers were skipped")
            tree.append(line[:-1])
            position += 1
            check(event["position"] == position, f"event {position} is missing")
            if tree.size in signed_roots:
                right = tree.root() == signed_roots[tree.size]
                check(right, f"the first {tree.size} events are not those that were signed")
            if event["kind"] == "ContactObserved":
                number += 1
                right = event["data"]["observationId"] == number
                check(right, f"event {position} is not of observation {number}")
                if observations is None or number in erased:
                    continue
                observed += 1
                observation = json.loads(observations.readline() or "{}")
                check(observation.get("id") == number, f"observation {number} is missing")
                check(observation["position"] == position, f"observation {number} is elsewhere")
                right = commitment(observation) == event["data"]["commitment"]
                check(right, f"observation {number} is not the one of event {position}")
    for origin, covered, _ in signed:
        check_name(origin, covered, restored)
    check(tree.size == size, f"the checkpoint covers {size} events, and here are {tree.size}")
    check(observations is None or not observations.readline(), "there are more observations")
    print(f"{size} events, {observed} observations, root {base64.b64encode(root).decode()}")


def read_proof(asked):
    """The hashes of a proof. Its numbers must be those that were asked for: nobody relies on them."""
    proof = json.load(sys.stdin)
    for name, number in asked.items():
        check(proof[name] == number, f"the proof is of another {name}")
    return [decode(hash) for hash in proof["hashes"]]


def main(arguments):
    if arguments[0] == "--checkpoint":
        _, size, root = read_checkpoint(read(arguments[1]), read_keys(read(arguments[2])))
        print(size, base64.b64encode(root).decode())
    elif arguments[0] == "--inclusion":
        line, size, root = arguments[1], int(arguments[2]), decode(arguments[3])
        index = int(arguments[4]) if arguments[4:] else json.loads(line)["position"] - 1
        hashes = read_proof({"leafIndex": index, "size": size})
        right = included(leaf(line.encode()), index, size, hashes, root)
        check(right, "the event is not in the tree")
        print("included")
    elif arguments[0] == "--consistency":
        size, new_size = int(arguments[1]), int(arguments[3])
        root, new_root = decode(arguments[2]), decode(arguments[4])
        hashes = read_proof({"from": size, "to": new_size})
        right = consistent(size, root, new_size, new_root, hashes)
        check(right, "the later tree does not begin with the earlier one")
        print("consistent")
    else:
        since = arguments[3] if arguments[2:3] == ["--since"] else None
        check_export(arguments[0], arguments[1], since)


LENS = {"--checkpoint": [2], "--inclusion": [3, 4], "--consistency": [4]}
if len(sys.argv) - 2 not in LENS.get(sys.argv[1] if sys.argv[1:] else "", [1, 3]):
    sys.exit(__doc__)
try:
    main(sys.argv[1:])
except OSError as error:
    sys.exit(f"cannot read {error.filename}: {error.strerror}")
