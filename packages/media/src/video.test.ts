import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodeVideo, extractAudio, probeVideo, VideoWriter, type DecodeOptions, type RgbImage } from "./index.ts";

let folder: string;
const at = (name: string) => join(folder, name);
const ffmpeg = (...args: string[]) => execFileSync("ffmpeg", ["-v", "error", "-y", ...args]);
const frames = async (path: string, o: DecodeOptions = {}): Promise<RgbImage[]> => {
  const all: RgbImage[] = [];
  for await (const frame of decodeVideo(path, o)) all.push(frame);
  return all;
};
const pixel = ({ width, data }: RgbImage, x: number, y: number): number[] => [
  ...data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3),
];
const far = (a: readonly number[], b: readonly number[]) => Math.max(...a.map((v, k) => Math.abs(v - b[k])));

/** Skin, a strong red, a strong green, grey: eight bits of BT.709. */
const patches = [
  [200, 150, 125],
  [170, 40, 40],
  [40, 140, 60],
  [128, 128, 128],
] as const;
const hex = (c: readonly number[]) => `0x${c.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
/** Four upright bars of them, in RGB. */
const bars = (width: number, height: number): string[] => {
  const w = width / 4;
  const boxes = patches.map((c, i) => `drawbox=x=${i * w}:y=0:w=${w}:h=${height}:color=${hex(c)}:t=fill`);
  return ["-f", "lavfi", "-i", `color=black:s=${width}x${height}:r=10:d=0.5,format=gbrp,${boxes.join(",")}`];
};
const missed = async (path: string): Promise<number> => {
  const [frame] = await frames(path, { width: 64, height: 64 });
  return Math.max(...patches.map((c, i) => far(pixel(frame, 8 + 16 * i, 32), c)));
};

describe("clips as phones and cameras write them", () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "anchor-video-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("keeps time where frames are not all as long", async () => {
    // Brighter by three with each thirtieth of a second; twenty of them are missing.
    const bright = "color=black:s=32x32:r=30:d=2,format=gray,geq=lum='16+3*N',select='lt(n,20)+gt(n,40)'";
    ffmpeg("-f", "lavfi", "-i", bright, "-fps_mode", "vfr", "-c:v", "ffv1", at("gaps.mkv"));
    const got = (await frames(at("gaps.mkv"), { fps: 30 })).map((f) => pixel(f, 16, 16)[0]);
    const expected = Array.from({ length: 60 }, (_, i) => 16 + 3 * (i >= 20 && i <= 40 ? 19 : i));
    expect(got).toHaveLength(60);
    expect(far(got, expected)).toBeLessThanOrEqual(1);
  });

  it("shows pixels that are wider than high as they are meant", async () => {
    const left = "color=black:s=64x64:r=10:d=0.5,drawbox=x=0:y=0:w=16:h=64:color=white:t=fill,setsar=2/1";
    ffmpeg("-f", "lavfi", "-i", left, "-c:v", "libx264", at("wide.mp4"));
    expect(await probeVideo(at("wide.mp4"))).toMatchObject({ width: 128, height: 64 });
    const [frame] = await frames(at("wide.mp4"));
    expect([frame.width, pixel(frame, 28, 32)[0] > 230, pixel(frame, 36, 32)[0] < 25]).toEqual([128, true, true]);
    // A crop is in pixels as they are shown.
    const [part] = await frames(at("wide.mp4"), { crop: { x: 24, y: 0, width: 16, height: 16 } });
    expect([pixel(part, 2, 8)[0] > 230, pixel(part, 13, 8)[0] < 25]).toEqual([true, true]);
  });

  it("turns upright what was filmed on its side", async () => {
    const left = "color=black:s=64x32:r=10:d=0.5,drawbox=x=0:y=0:w=16:h=32:color=white:t=fill";
    ffmpeg("-f", "lavfi", "-i", left, "-c:v", "libx264", at("lying.mp4"));
    // The second is how ffmpeg before 6 was told.
    try {
      ffmpeg("-display_rotation:v:0", "90", "-i", at("lying.mp4"), "-c", "copy", at("turned.mp4"));
    } catch {
      ffmpeg("-i", at("lying.mp4"), "-c", "copy", "-metadata:s:v", "rotate=90", at("turned.mp4"));
    }
    expect(await probeVideo(at("turned.mp4"))).toMatchObject({ width: 32, height: 64 });
    const [frame] = await frames(at("turned.mp4"));
    expect([frame.width, frame.height]).toEqual([32, 64]);
    expect(Math.abs(pixel(frame, 16, 4)[0] - pixel(frame, 16, 59)[0])).toBeGreaterThan(200); // the bar lies at the top or the bottom now
  });

  it("leaves no combs of interlaced frames", async () => {
    // A bar that moves by four pixels with each field.
    const moving = "color=black:s=128x64:r=50:d=0.6,format=yuv420p,geq=lum='if(between(X-4*N,0,15),200,50)':cb=128:cr=128";
    const woven = `${moving},tinterlace=interleave_top,setfield=tff`;
    ffmpeg("-f", "lavfi", "-i", woven, "-c:v", "libx264", "-crf", "5", "-flags", "+ildct+ilme", "-x264-params", "tff=1", at("woven.mp4"));
    const frame = (await frames(at("woven.mp4")))[7];
    const combed = (x: number, y: number) => Math.abs(pixel(frame, x, y)[0] - pixel(frame, x, y + 1)[0]);
    const worst = Math.max(...Array.from({ length: 128 * 32 }, (_, i) => combed(i % 128, 16 + Math.floor(i / 128))));
    expect(Math.max(...Array.from({ length: 128 }, (_, x) => pixel(frame, x, 32)[0]))).toBeGreaterThan(180); // the bar is there
    expect(worst).toBeLessThan(40);
  });

  it.each([
    ["arib-std-b67", "a phone's high dynamic range (HLG)"],
    ["smpte2084", "that of HDR10 (PQ)"],
  ])("brings %s, %s, to the colours of screens", async (transfer) => {
    const from = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=gbr:range=pc";
    const there = `${from},zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt2020:t=${transfer}:m=bt2020nc:r=tv:npl=203,format=yuv420p10le`;
    const tags = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc", "-color_range", "tv"];
    ffmpeg(
      ...bars(128, 128),
      "-vf",
      there,
      "-c:v",
      "libx265",
      "-crf",
      "8",
      "-x265-params",
      "log-level=none",
      ...tags,
      at(`${transfer}.mp4`),
    );
    expect(await missed(at(`${transfer}.mp4`))).toBeLessThanOrEqual(6);
  });

  it("takes the colours of a file that does not name them for what players do", async () => {
    for (const [width, height, matrix] of [
      [1280, 720, "bt709"],
      [640, 480, "bt601"],
    ] as const) {
      const path = at(`${matrix}.mp4`);
      ffmpeg(...bars(width, height), "-vf", `scale=out_color_matrix=${matrix},format=yuv420p`, "-c:v", "libx264", "-crf", "8", path);
      expect(await missed(path)).toBeLessThanOrEqual(4);
    }
  });

  it("writes files that name their colours", async () => {
    const image: RgbImage = { width: 64, height: 64, data: new Uint8Array(64 * 64 * 3) };
    for (let i = 0; i < 64 * 64; i++) image.data.set(patches[Math.floor((i % 64) / 16)], 3 * i);
    const writer = new VideoWriter(at("written.mp4"), { width: 64, height: 64, fps: 10 });
    for (let i = 0; i < 5; i++) await writer.write(image);
    await writer.close();
    const named = execFileSync("ffprobe", [
      "-v",
      "error",
      "-show_entries",
      "stream=color_space,color_transfer,color_primaries",
      "-of",
      "csv=p=0",
      at("written.mp4"),
    ]);
    expect(named.toString().trim()).toBe("bt709,bt709,bt709");
    expect(await missed(at("written.mp4"))).toBeLessThanOrEqual(6);
  });

  it("writes all of a video whose sound is shorter, and no sound beyond its end", async () => {
    for (const [seconds, name] of [
      [1, "short"],
      [40, "long"],
    ] as const) {
      ffmpeg("-f", "lavfi", "-i", `sine=f=440:d=${seconds}:r=16000`, at(`${name}.wav`));
      const writer = new VideoWriter(at(`${name}.mp4`), { width: 32, height: 32, fps: 10, audio: at(`${name}.wav`) });
      for (let i = 0; i < 300; i++) await writer.write({ width: 32, height: 32, data: new Uint8Array(32 * 32 * 3).fill(i % 256) });
      await writer.close();
      expect(await probeVideo(at(`${name}.mp4`))).toMatchObject({ hasAudio: true, durationSeconds: 30 });
      expect(await frames(at(`${name}.mp4`))).toHaveLength(300);
      await extractAudio(at(`${name}.mp4`), at("back.wav"), { sampleRate: 16000 });
      expect((readFileSync(at("back.wav")).length - 44) / 32000).toBeCloseTo(30, 0);
    }
  });

  it("begins sound with silence where it begins after the picture", async () => {
    const picture = ["-f", "lavfi", "-i", "color=black:s=32x32:r=10:d=2"];
    const late = ["-itsoffset", "0.5", "-f", "lavfi", "-i", "sine=f=440:d=1:r=16000"];
    ffmpeg(...picture, ...late, "-c:v", "libx264", "-c:a", "pcm_s16le", at("late.mov"));
    await extractAudio(at("late.mov"), at("late.wav"));
    const wav = readFileSync(at("late.wav"));
    const samples = new Int16Array(Uint8Array.from(wav.subarray(wav.indexOf("data") + 8)).buffer);
    const first = samples.findIndex((v) => Math.abs(v) > 500);
    expect(first / 16000).toBeGreaterThan(0.48);
    expect(first / 16000).toBeLessThan(0.52);
  });
});
