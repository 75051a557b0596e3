"""The worked example of docs/protocol.md, part 16, from that page alone: worked_example.py prints each of its values as
`name hex`. Python 3 and nothing else; slow where a library would be quick."""

import hashlib
from struct import pack


def sha256(data):
    return hashlib.sha256(data).digest()


def tagged(tag, data):  # part 2
    return sha256(sha256(tag.encode()) * 2 + data)


def text(value):  # part 1
    return pack("<Q", len(value.encode())) + value.encode()


def as_bytes(value):
    return pack("<Q", len(value)) + value


def listed(values):
    return pack("<Q", len(values)) + b"".join(values)


# SipHash-2-4 (J.-P. Aumasson, D. J. Bernstein, 2012)
def siphash(key, data):
    mask = 2**64 - 1
    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x, bits):
        return (x << bits | x >> 64 - bits) & mask

    def rounds(count):
        for _ in range(count):
            v[0] = (v[0] + v[1]) & mask
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & mask
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & mask
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & mask
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    whole = len(data) // 8 * 8
    last = data[whole:].ljust(7, b"\0") + bytes([len(data) % 256])
    for at in range(0, whole + 8, 8):
        word = int.from_bytes((data[:whole] + last)[at : at + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


# Ed25519 (RFC 8032, 5.1), in affine coordinates
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(one, other):
    (x1, y1), (x2, y2) = one, other
    twist = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + twist, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - twist, -1, P) % P


def multiply(scalar, point):
    result = (0, 1)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def base_point():
    y = 4 * pow(5, -1, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x if x % 2 == 0 else P - x), y


B = base_point()


def point_bytes(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def secret(seed):
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
    return scalar, digest[32:], point_bytes(multiply(scalar, B))


def sign(seed, message):
    scalar, prefix, public = secret(seed)
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % L
    point = point_bytes(multiply(r, B))
    k = int.from_bytes(hashlib.sha512(point + public + message).digest(), "little") % L
    return point + ((r + k * scalar) % L).to_bytes(32, "little")


def merkle(leaves):  # RFC 9162, 2.1.1; of hashed leaves
    if not leaves:
        return sha256(b"")
    while len(leaves) > 1:
        pairs = [leaves[at : at + 2] for at in range(0, len(leaves), 2)]
        leaves = [sha256(b"\1" + pair[0] + pair[1]) if len(pair) == 2 else pair[0] for pair in pairs]
    return leaves[0]


def tree(leaves, name="", depth=0):  # part 8; leaves are (key, hash)
    if len(leaves) < 2:
        return leaves[0][1] if leaves else bytes(32)
    sides = [[leaf for leaf in leaves if leaf[0][depth // 8] >> 7 - depth % 8 & 1 == bit] for bit in (0, 1)]
    left, right = (tree(side, name, depth + 1) for side in sides)
    node = tagged("ocelli/state/node", left + right)
    if name:
        show(f"{name}, depth {depth}", node)
    return node


def state_root(objects, name=""):
    leaves = []
    for (kind, id), value in objects.items():
        key = tagged("ocelli/state/key", bytes([kind]) + id)
        leaves.append((key, tagged("ocelli/state/leaf", key + value)))
    return tree(leaves, name)


def body_root(count, ids, transactions, answers):  # part 7
    return tagged("ocelli/body", pack("<I", count) + ids + transactions + answers)


def show(name, value):
    print(f"{name:32} {value.hex()}")
    return value


SEEDS = {number: bytes([number]) * 32 for number in (1, 2, 3)}
PUBLIC = {number: secret(seed)[2] for number, seed in SEEDS.items()}
ADDRESS = {number: tagged("ocelli/address", key)[:20] for number, key in PUBLIC.items()}
for number in SEEDS:
    show(f"public key {number}", PUBLIC[number])
    show(f"address {number}", ADDRESS[number])

# Parameters and genesis
model = show("model", tagged("ocelli/model", b"not a real model"))
facts = pack("<IHHHIQ", 1_000, 1, 2, 2, 2, 24_576)
parameters = (
    text("example")
    + text("toc")
    + pack("<QQQIQQQQ", 1_800_000_000, 10, 3_600, 0x2000FFFF, 10**9, 2_000_000, 2_000_000, 100_000)
    + pack("<QQQQQ", 100, 50, 30, 2, 1_000)
    + listed([ADDRESS[1] + pack("<Q", 10**10)])
    + listed([model + facts])
)
show("parameters", parameters)
parameters_hash = show("parameters' hash", tagged("ocelli/params", parameters))
objects = {
    (0, ADDRESS[1]): pack("<QQ", 0, 10**10),
    (1, model): bytes(20) + pack("<QQ", 0, 0) + facts,
}
for (kind, id), value in objects.items():
    show(f"genesis object of kind {kind}", value)
    key = show(f"its key, kind {kind}", tagged("ocelli/state/key", bytes([kind]) + id))
    show(f"its leaf, kind {kind}", tagged("ocelli/state/leaf", key + value))
state = state_root(objects, "genesis state")
empty_body = show("body root of nothing", body_root(0, tagged("ocelli/ids", b""), sha256(b""), sha256(b"")))


def header(parent, history, state, body, miner, height, time, nonce):  # part 5
    return (
        pack("<I", 1) + parent + history + state + body + miner + pack("<QQIQ", height, time, 0x2000FFFF, nonce)
    )


genesis = show("genesis", header(parameters_hash, bytes(32), state, empty_body, bytes(20), 0, 1_800_000_000, 0))
genesis_hash = show("genesis hash", sha256(sha256(genesis)))


# Transactions
def transaction(name, seed, nonce, fee, action):
    unsigned = show(f"unsigned, {name}", pack("<QQQ", nonce, fee, 100) + action)
    message = show(f"signed, {name}", tagged("ocelli/sign", genesis_hash + unsigned + PUBLIC[seed]))
    signature = show(f"signature, {name}", sign(SEEDS[seed], message))
    txid = show(f"txid, {name}", tagged("ocelli/tx", unsigned + PUBLIC[seed]))
    wtxid = show(f"wtxid, {name}", tagged("ocelli/wtx", txid + signature))
    return show(f"transaction, {name}", unsigned + PUBLIC[seed] + signature), wtxid


pixels = bytes([0, 85, 170, 255])
picture = show("attachment", tagged("ocelli/attachment", pixels))
transfer = pack("<I", 1) + ADDRESS[2] + pack("<Q", 250_000_000)
classify = pack("<I", 2) + model + picture + pack("<IQI", 4, 0, 1)
coming = show("model to come", tagged("ocelli/model", b"another"))
file = show("file", tagged("ocelli/upload", ADDRESS[1] + coming))
upload = pack("<I", 3) + file + pack("<I", 7)
sent = [
    transaction("transfer", 1, 0, 1_000, transfer),
    transaction("classify", 1, 1, 2_000, classify),
    transaction("upload", 1, 2, 3_000, upload),
]
# The other forms and kinds, which no block of the example holds
transaction("classify by JPEG", 2, 0, 2_000, pack("<I", 2) + model + picture + pack("<IQIHH", 4, 0, 2, 640, 480))
part = show("part", tagged("ocelli/attachment", b"another"))
transaction("part", 1, 3, 1_000, pack("<IHI", 4, 0, 7) + part)
show("parts", tagged("ocelli/parts", bytes(32) + part))
coming_facts = pack("<IHHHIQ", 7, 3, 32, 32, 10, 20_000)
transaction("publish", 1, 4, 1_000, pack("<I", 5) + coming + coming_facts + pack("<Q", 5))

# Answers and the body
digest = show("digest", tagged("ocelli/logits", listed([pack("<i", logit) for logit in (510, -510)])))
answer = show("answer", b"\1" + listed([pack("<Hi", 0, 510), pack("<Hi", 1, -510)]) + digest)
answers = [b"\0", answer, b"\0"]
ids = b"".join(pack("<Q", siphash(genesis_hash[:16], wtxid)) for _, wtxid in sent)
show("ids", ids)
ids_hash = show("ids' hash", tagged("ocelli/ids", ids))
transaction_leaves = [sha256(b"\0" + wtxid) for _, wtxid in sent]
answer_leaves = [sha256(b"\0" + answer) for answer in answers]
for at in range(3):
    show(f"transaction leaf {at}", transaction_leaves[at])
    show(f"answer leaf {at}", answer_leaves[at])
transaction_root = show("transaction root", merkle(transaction_leaves))
answer_root = show("answer root", merkle(answer_leaves))
body = show("body root", body_root(3, ids_hash, transaction_root, answer_root))
show("body", listed([as_bytes(bytes) + answer for (bytes, _), answer in zip(sent, answers)]))
show("announcement", transaction_root + answer_root + pack("<Q", 3) + ids)

# State after block 1
objects[0, ADDRESS[1]] = pack("<QQ", 3, 10**10 - 250_000_000 - 6_000)
objects[0, ADDRESS[2]] = pack("<QQ", 0, 250_000_000)
objects[0, ADDRESS[3]] = pack("<QQ", 0, 10**9 + 6_000)
objects[2, ADDRESS[1]] = file + bytes(32) + pack("<IHQQ", 7, 0, 1, 1)
for (kind, id), value in objects.items():
    show(f"object {kind} {id.hex()[:8]}", value)
    key = show(f"its key {kind} {id.hex()[:8]}", tagged("ocelli/state/key", bytes([kind]) + id))
    show(f"its leaf {kind} {id.hex()[:8]}", tagged("ocelli/state/leaf", key + value))
state = state_root(objects, "state")
# An object that goes: the tree is as if it had never been there
gone = {object: value for object, value in objects.items() if object[0] != 2}
state_root(gone, "state without the upload")

# Block 1
work = 2**256 // ((0xFFFF << 232) + 1)
entry = genesis_hash + work.to_bytes(32, "little") + pack("<QQII", *[1_800_000_000] * 2, *[0x2000FFFF] * 2)
show("history leaf", entry)
history = show("history root", tagged("ocelli/history/root", pack("<Q", 1) + entry))
nonce, block_hash = -1, b"\xff" * 32
while int.from_bytes(block_hash, "little") > 0xFFFF << 232:
    nonce += 1
    block = header(genesis_hash, history, state, body, ADDRESS[3], 1, 1_800_000_010, nonce)
    block_hash = sha256(sha256(block))
show("block", block)
show("block's first SHA-256", sha256(block))
show("block hash", block_hash)
print("nonce", nonce)
