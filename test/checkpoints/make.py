"""Makes the checkpoints beside it with Python torch; run once, by hand: python3 make.py"""
import io, os, pickle, struct, zipfile
from collections import OrderedDict
import torch
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))
path = lambda name: os.path.join(here, name)
g = torch.Generator().manual_seed(7)
base = torch.randn(6, 8, generator=g)
wanted = OrderedDict(
    weight=torch.randn(3, 4, generator=g),
    half=torch.randn(5, generator=g).half(),
    brain=torch.randn(5, generator=g).bfloat16(),
    ids=torch.arange(7),
    flags=torch.tensor([True, False]),
    transposed=base.t(),
    part=base[2:4, 1:5],
    same=base,
    scalar=torch.tensor(3.5),
    empty=torch.zeros(0, 4),
    large=torch.randn(200, 100, generator=g),
)
parameters = OrderedDict((k, torch.nn.Parameter(v) if v.is_floating_point() else v) for k, v in wanted.items())
torch.save(wanted, path("zip.bin"))
torch.save(wanted, path("legacy.bin"), _use_new_zipfile_serialization=False)
torch.save({"epoch": 3, "global_step": 10, "state_dict": parameters, "callbacks": {}}, path("training.ckpt"))
save_file({k: v.detach().contiguous().clone() for k, v in wanted.items()}, path("wanted.safetensors"))


class Command:
    def __reduce__(self):
        return (os.system, ("touch /tmp/it-ran",))


class Evaluated:
    def __reduce__(self):
        return (eval, ("1 + 1",))


torch.save({"weight": torch.zeros(2), "x": Command()}, path("os-system.bin"))
torch.save({"weight": torch.zeros(2), "x": Evaluated()}, path("builtins-eval.bin"))
torch.save({"x": Command()}, path("legacy-os-system.bin"), _use_new_zipfile_serialization=False)
torch.save({"state_dict": {"weight": torch.zeros(2)}, "loops": [[{"deep": Command()}]]}, path("nested.bin"))


def archive(name, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path(name), "w", method) as z:
        for member, data in members:
            z.writestr(member, data)


def structure(shape=(4,), stride=(1,), offset=0, numel=4, key="0"):
    """A dictionary of one tensor, as torch writes it."""
    body = b"\x80\x02}q\x00X\x06\x00\x00\x00weightctorch._utils\n_rebuild_tensor_v2\n("
    body += b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key.encode()
    body += b"X\x03\x00\x00\x00cpu" + b"\x8a\x08" + struct.pack("<q", numel) + b"tQ"
    number = lambda n: b"\x8a\x08" + struct.pack("<q", n)
    body += number(offset) + b"(" + b"".join(map(number, shape)) + b"t(" + b"".join(map(number, stride)) + b"t\x89"
    return body + b"ccollections\nOrderedDict\n)Rt" + b"Rs."


data = struct.pack("<4f", 1, 2, 3, 4)
archive("compressed.bin", [("a/data.pkl", structure()), ("a/data/0", b"\0" * 100000)], zipfile.ZIP_DEFLATED)
archive("beyond.bin", [("a/data.pkl", structure(shape=(2, 4), stride=(4, 1))), ("a/data/0", data)])
archive("missing-storage.bin", [("a/data.pkl", structure(key="9")), ("a/data/0", data)])
archive("claims-10gb.bin", [("a/data.pkl", structure(shape=(2_500_000_000,), numel=2_500_000_000)), ("a/data/0", data)])
archive("big-endian.bin", [("a/byteorder", "big"), ("a/data.pkl", structure()), ("a/data/0", data)])
archive("two-pickles.bin", [("a/data.pkl", structure()), ("b/data.pkl", structure()), ("a/data/0", data)])
# The second member's entry points at the first one's bytes.
archive("overlapping.bin", [("a/data.pkl", structure()), ("a/data/0", data), ("a/data/1", data)])
raw = bytearray(open(path("overlapping.bin"), "rb").read())
with zipfile.ZipFile(path("overlapping.bin")) as z:
    first, second = z.getinfo("a/data/0").header_offset, z.getinfo("a/data/1").header_offset
at = raw.rindex(struct.pack("<I", second))
raw[at : at + 4] = struct.pack("<I", first)
open(path("overlapping.bin"), "wb").write(raw)

from safetensors.torch import load_file

vae = load_file(os.path.join(here, "../golden/vae/vae/diffusion_pytorch_model.safetensors"))
torch.save({k: v.half() for k, v in vae.items()}, path("vae.bin"))

# A small CLIP tokenizer: merges learnt from a few words, and what transformers makes of some texts with it.
import collections, json
from transformers import CLIPTokenizer

folder = path("tokenizer")
os.makedirs(folder, exist_ok=True)
own = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
characters = {b: chr(b) for b in own}
for b in range(256):
    if b not in characters:
        characters[b] = chr(256 + len(characters) - len(own))
alphabet = [characters[b] for b in own] + [characters[b] for b in range(256) if b not in own]
words = "a photo of the presenter presenting a presentation with hands and the hand of another banana naïve 2024 !! ...".split()
spelled = collections.Counter(tuple(characters[b] for b in w.encode())[:-1] + (characters[w.encode()[-1]] + "</w>",) for w in words)
merges = []
for _ in range(60):
    pairs = collections.Counter()
    for w, n in spelled.items():
        for pair in zip(w, w[1:]):
            pairs[pair] += n
    if not pairs:
        break
    best = max(sorted(pairs), key=lambda p: pairs[p])
    merges.append(best)
    joined = collections.Counter()
    for w, n in spelled.items():
        out, i = [], 0
        while i < len(w):
            if w[i : i + 2] == best:
                out.append(w[i] + w[i + 1])
                i += 2
            else:
                out.append(w[i])
                i += 1
        joined[tuple(out)] += n
    spelled = joined
tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
vocabulary = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
json.dump(vocabulary, open(os.path.join(folder, "vocab.json"), "w"), ensure_ascii=False)
open(os.path.join(folder, "merges.txt"), "w").write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
json.dump({"model_max_length": 77, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer"}, open(os.path.join(folder, "tokenizer_config.json"), "w"))
tokenizer = CLIPTokenizer.from_pretrained(folder)
texts = ["", "a photo of the presenter", "  The   PRESENTER'S hands,\nnaïve bananas!! ", "2024 isn't 20 24", "日本語 and emoji 🎤...", "presentation " * 60, "it's <|endoftext|> done", "under_score-dash/e-mail@x.org"]
json.dump(
    [{"text": t, "length": n, "ids": tokenizer(t, padding="max_length", max_length=n, truncation=True).input_ids} for t in texts for n in (77, 50)],
    open(os.path.join(folder, "expected.json"), "w"),
)
