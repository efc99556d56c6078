/** Input that cannot be used, through the command. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Avatar } from "@make-your-anchor/anchor";
import { npyBytes } from "@make-your-anchor/body";
import { ffmpeg, studio } from "./studio.ts";

const { home, demo, anchor } = studio();

describe("bad input: one clear sentence, exit code 1 or 2, nothing lost", () => {
  const clip = (name: string) => join(home, name);
  const avatarWith = (name: string, spoil: (folder: string) => void) => {
    const folder = join(home, name);
    cpSync(join(demo, "presenter"), folder, { recursive: true });
    spoil(folder);
    return `./${name}`;
  };
  const motion = () => {
    const data = new Float32Array(20 * 265);
    for (let f = 0; f < 20; f++) data[f * 265 + 9] = 3.07;
    return data;
  };
  const cases: [string, () => string[], number, RegExp, Record<string, string>?][] = [
    [
      "not a video",
      () => (writeFileSync(clip("text.mp4"), "hello"), ["create", "a", "--clip", "text.mp4"]),
      1,
      /text\.mp4: not a video that ffmpeg can read/,
    ],
    ["no such clip", () => ["create", "a", "--clip", "none.mp4"], 1, /none\.mp4: no such file/],
    [
      "a clip without a person",
      () => (ffmpeg("-f", "lavfi", "-i", "testsrc=d=2:s=320x240:r=25", clip("bars.mp4")), ["create", "a", "--clip", "bars.mp4"]),
      1,
      /no person was found .* use a clip of one person/,
    ],
    [
      "two people",
      () => (
        ffmpeg("-i", join(demo, "presenter.mp4"), "-vf", "split[a][b];[a][b]hstack", "-an", clip("two.mp4")),
        ["create", "a", "--clip", "two.mp4"]
      ),
      1,
      /more than one person is in view/,
    ],
    [
      "three frames",
      () => (ffmpeg("-i", join(demo, "presenter.mp4"), "-frames:v", "3", "-an", clip("three.mp4")), ["create", "a", "--clip", "three.mp4"]),
      1,
      /3 frames are too few/,
    ],
    ["an unknown preset", () => ["create", "a", "--clip", "x.mp4", "--preset", "huge"], 2, /expected mini or sd15/],
    ["an avatar that is there already", () => ["create", "./demo/presenter", "--clip", "x.mp4"], 2, /there is an avatar already/],
    ["no such avatar", () => ["train", "nobody"], 2, /no such avatar: make one with "anchor create nobody --clip FILE"/],
    [
      "a missing model file",
      () => [
        "animate",
        avatarWith("missing", (f) => rmSync(join(f, "body", "unet", "diffusion_pytorch_model.safetensors"))),
        "--motion",
        "./demo/new-speech.npz",
      ],
      1,
      /no weights there/,
    ],
    [
      "a missing model folder",
      () => [
        "animate",
        avatarWith("partial", (f) => rmSync(join(f, "body", "vae"), { recursive: true })),
        "--motion",
        "./demo/new-speech.npz",
      ],
      2,
      /vae missing: train the avatar first/,
    ],
    [
      "a truncated safetensors file",
      () => [
        "animate",
        avatarWith("short", (f) => truncateSync(join(f, "body", "vae", "diffusion_pytorch_model.safetensors"), 5000)),
        "--motion",
        "./demo/new-speech.npz",
      ],
      1,
      /not a usable safetensors file/,
    ],
    [
      "a motion with NaN",
      () => {
        const data = motion();
        data[3 * 265 + 40] = Number.NaN;
        writeFileSync(clip("nan.npy"), npyBytes({ shape: [20, 265], data }));
        return ["animate", "./demo/presenter", "--motion", "nan.npy"];
      },
      1,
      /bodyPose of frame 3 .* is NaN/,
    ],
    [
      "a motion of the wrong width",
      () => (
        writeFileSync(clip("wide.npy"), npyBytes({ shape: [4, 10], data: new Float32Array(40) })),
        ["animate", "./demo/presenter", "--motion", "wide.npy"]
      ),
      1,
      /expected an array \[frames, 265\]/,
    ],
    [
      "a frame that is no picture",
      () => ["train", avatarWith("poisoned", (f) => writeFileSync(join(f, "clip", "frames", "000003.png"), "nothing")), "--steps", "2"],
      1,
      /000003\.png: /,
    ],
    [
      "a frame of another size",
      () => [
        "train",
        avatarWith("odd", (f) => cpSync(join(demo, "contact-sheet.png"), join(f, "clip", "frames", "000004.png"))),
        "--steps",
        "2",
      ],
      1,
      /000004\.png: expected 128x128 pixels, got \d+x\d+/,
    ],
    ["a base that is none", () => ["train", "./demo/presenter", "--from", "./demo"], 2, /demo: vae, denoiser\/unet.* missing/],
    ["a rate out of range", () => ["train", "./demo/presenter", "--lr", "7"], 2, /^anchor: lr: .*got 7$/m],
    [
      "sound without sound",
      () => (
        writeFileSync(clip("silent.wav"), "hello"),
        ["animate", "./demo/presenter", "--motion", "./demo/new-speech.npz", "--audio", "silent.wav"]
      ),
      1,
      /silent\.wav: no sound that ffmpeg can read/,
    ],
    [
      "a video of another kind",
      () => ["animate", "./demo/presenter", "--motion", "./demo/new-speech.npz", "--out", "speech.webm"],
      2,
      /expected a file whose name ends in \.mp4.*speech\.webm/,
    ],
    [
      "a folder for a video",
      () => (mkdirSync(clip("folder.mp4")), ["animate", "./demo/presenter", "--motion", "./demo/new-speech.npz", "--out", "folder.mp4"]),
      2,
      /expected a file, but .*folder\.mp4 is a folder/,
    ],
    ["no motion at all", () => ["animate", "./demo/presenter"], 2, /give either a motion/],
    [
      "an empty conditions folder",
      () => (mkdirSync(clip("empty")), ["animate", "./demo/presenter", "--conditions", "empty"]),
      1,
      /no pictures there/,
    ],
    [
      "no write permission",
      () => ["create", "a", "--clip", "./demo/presenter.mp4", "--motion", "./demo/presenter.npz"],
      1,
      /cannot be written \(E\w+\): (you may not write there|that file system is read-only)/,
      { ANCHOR_HOME: "/sys" },
    ],
    [
      "libtorch missing",
      () => ["train", "./demo/presenter"],
      1,
      /addon is not built .* run "npm run setup"/,
      { ANCHOR_TORCH_ADDON: "/nowhere/anchor_torch.node" },
    ],
    [
      "libtorch broken",
      () => (writeFileSync(clip("broken.node"), "no library"), ["train", "./demo/presenter"]),
      1,
      /addon does not load/,
      { ANCHOR_TORCH_ADDON: join(home, "broken.node") },
    ],
    [
      "ffmpeg missing, before anything is rendered",
      () => ["animate", "./demo/presenter", "--motion", "./demo/presenter"],
      1,
      /^anchor: ffmpeg was not found: install ffmpeg/,
      { PATH: "/nowhere" },
    ],
    [
      "an ffmpeg that cannot write H.264",
      () => {
        mkdirSync(clip("poor"), { recursive: true });
        writeFileSync(clip("poor/ffmpeg"), "#!/bin/sh\necho ' V....D mpeg4 MPEG-4'\n", { mode: 0o755 });
        return ["animate", "./demo/presenter", "--motion", "./demo/presenter"];
      },
      1,
      /^anchor: this ffmpeg cannot write H\.264/,
      { PATH: join(home, "poor") },
    ],
    ["an unknown option", () => ["train", "x", "--mintues", "3"], 2, /unknown option '--mintues'/],
    ["a number that is none", () => ["train", "./demo/presenter", "--minutes", "soon"], 2, /minutes: expected a number above 0/],
  ];
  for (const [what, args, code, message, env] of cases) {
    it(what, () => {
      const run = anchor(args(), env);
      expect(run.err).toMatch(message);
      expect(run.err).not.toMatch(/\n\s+at /); // no stack trace
      expect(run.code).toBe(code);
      expect(existsSync(join(home, "avatars", "a"))).toBe(false);
      expect(existsSync(join(home, "avatars", "a.creating"))).toBe(false);
      expect(Avatar.open(join(demo, "presenter")).trained).toBe(true);
    });
  }

  it("doctor says which ffmpeg will not do", () => {
    mkdirSync(clip("old"), { recursive: true });
    for (const tool of ["ffmpeg", "ffprobe"])
      writeFileSync(clip(`old/${tool}`), `#!/bin/sh\necho '${tool} version 5 V....D mpeg4 MPEG-4'\n`, { mode: 0o755 });
    const { code, out } = anchor(["doctor"], { PATH: join(home, "old") });
    expect(code).toBe(1);
    expect(out).toMatch(/MISSING ffmpeg: this ffmpeg cannot write H\.264.*\n +run ".*setup"/);
    expect(out).toMatch(/ok +ffprobe: 5/);
  });

  it("pictures that cannot be used are left out and counted where that is asked for", () => {
    const name = avatarWith("skipping", (f) => {
      writeFileSync(join(f, "clip", "frames", "000003.png"), "nothing");
      rmSync(join(f, "conditions", "000007.png"));
      rmSync(join(f, "runs"), { recursive: true });
    });
    const { code, out, err } = anchor(["train", name, "--steps", "2", "--validate", "0", "--skip-bad", "--json"]);
    expect(code, err).toBe(0);
    const { skipped, busy } = JSON.parse(out) as { skipped: string[]; busy: number };
    expect(skipped.map((s) => /\d{6}\.png/.exec(s)?.[0])).toEqual(["000003.png", "000007.png"]);
    expect(busy).toBeGreaterThan(0.5);
  });

  it("a full disk (skipped where no file system can be mounted)", (context) => {
    // A file system of 400 kB stands for a full disk; making one needs root.
    const disk = join(home, "disk");
    mkdirSync(disk);
    if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=400k", "tmpfs", disk]).status !== 0)
      context.skip("mounting a file system needs root");
    let run: ReturnType<typeof anchor>;
    try {
      run = anchor(["create", "a", "--clip", "./demo/presenter.mp4", "--motion", "./demo/presenter.npz"], { ANCHOR_HOME: disk });
    } finally {
      spawnSync("umount", [disk]);
    }
    expect(run.err).toMatch(/disk (is )?full/);
    expect(run.err).not.toMatch(/\n\s+at /);
    expect(run.code).toBe(1);
  });

  it("--json gives errors as JSON too", () => {
    const run = anchor(["train", "nobody", "--json"]);
    expect(JSON.parse(run.out).error).toMatchObject({ code: "NO_AVATAR" });
  });
});
