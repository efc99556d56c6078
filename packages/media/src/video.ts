/** Video through the system's ffmpeg: probing, streaming decode, streaming encode with sound. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rename, rm, stat } from "node:fs/promises";
import { MediaError } from "./errors.ts";
import type { RgbImage } from "./image.ts";

export interface VideoInfo {
  /** As it is shown: turned upright, pixels square. */
  readonly width: number;
  readonly height: number;
  /** Frames a second; of a clip with varying frame times, the average. */
  readonly fps: number;
  readonly durationSeconds: number;
  readonly hasAudio: boolean;
}

/** What else there is to know of a clip's pictures before they are what a player shows. */
interface Pictures {
  /** Rows of two moments between one another. */
  interlaced: boolean;
  /** Pixels are wider or narrower than high. */
  stretched: boolean;
  /** Of a high dynamic range, as phones film by default; how light is coded. */
  hdr: "arib-std-b67" | "smpte2084" | undefined;
  /** How luma and chroma were made from red, green and blue, where the file does not say. */
  assumedMatrix: "bt709" | undefined;
}

interface ProbedStream {
  codec_type: string;
  width: number;
  height: number;
  avg_frame_rate: string;
  r_frame_rate: string;
  duration?: string;
  sample_aspect_ratio?: string;
  field_order?: string;
  pix_fmt?: string;
  color_space?: string;
  color_transfer?: string;
  side_data_list?: { rotation?: number }[];
  disposition?: { attached_pic?: number };
}

const missing = (tool: string, cause: unknown) =>
  new MediaError("NO_FFMPEG", `${tool} was not found: install ffmpeg ("apt-get install ffmpeg" on Debian)`, {
    cause,
  });

/** Only local files and pipes: a playlist or a name must not make ffmpeg open a network address. */
const localOnly = ["-protocol_whitelist", "file,pipe,crypto"];

async function run(tool: string, args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(tool, args, { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (d) => (stdout += d));
  child.stderr.on("data", (d) => (stderr = (stderr + d).slice(-4000)));
  const code = await new Promise<number>((resolve, reject) => {
    child.on("error", (e) => reject(missing(tool, e)));
    child.on("close", (c) => resolve(c ?? 1));
  });
  return { code, stdout, stderr };
}

const lastLine = (text: string) => text.trim().split("\n").at(-1) ?? "";

const ffprobe = (path: string) =>
  run("ffprobe", ["-v", "error", ...localOnly, "-show_streams", "-show_format", "-of", "json", `file:${path}`]);

/** @throws {MediaError} `FILE` when there is no such file, `AUDIO` when ffmpeg finds no sound in it */
export async function requireSound(path: string): Promise<void> {
  const file = await stat(path).catch(() => undefined);
  if (!file?.isFile()) throw new MediaError("FILE", `${path}: no such sound file`);
  const { code, stdout } = await ffprobe(path);
  const { streams = [] } = code === 0 ? (JSON.parse(stdout) as { streams?: { codec_type: string }[] }) : {};
  if (!streams.some((s) => s.codec_type === "audio"))
    throw new MediaError("AUDIO", `${path}: no sound that ffmpeg can read: give a wav, mp3, m4a, flac or ogg file, or a video with sound`);
}

/** Before hours of work whose end is a video. @throws {MediaError} `NO_FFMPEG` when ffmpeg is missing or cannot write H.264 */
export async function requireEncoder(): Promise<void> {
  const { stdout } = await run("ffmpeg", ["-v", "error", "-encoders"]);
  if (!/^ V\S* libx264 /m.test(stdout))
    throw new MediaError(
      "NO_FFMPEG",
      'this ffmpeg cannot write H.264 (it was built without libx264): install one that can ("apt-get install ffmpeg" on Debian)',
    );
}

/** @throws {MediaError} `FILE` when there is no such file, `NOT_VIDEO` when it holds no video */
export const probeVideo = async (path: string): Promise<VideoInfo> => (await probe(path)).info;

async function probe(path: string): Promise<{ info: VideoInfo; pictures: Pictures }> {
  const file = await stat(path).catch(() => undefined);
  if (!file?.isFile()) throw new MediaError("FILE", `${path}: no such file`);
  const { code, stdout, stderr } = await ffprobe(path);
  const notVideo = (why: string) =>
    new MediaError("NOT_VIDEO", `${path}: not a video that ffmpeg can read (${why}): give an mp4, mov, mkv or webm file`);
  if (code !== 0) throw notVideo(lastLine(stderr).replace(`file:${path}: `, ""));
  const { streams = [], format = {} } = JSON.parse(stdout) as { streams?: ProbedStream[]; format?: { duration?: string } };
  const video = streams.find((s) => s.codec_type === "video" && !s.disposition?.attached_pic);
  if (!video?.width) throw notVideo("it has no picture stream");
  const ratio = (text = "", between: "/" | ":" = "/") => {
    const [a, b] = text.split(between).map(Number);
    return a && b ? a / b : 0;
  };
  const fps = ratio(video.avg_frame_rate) || ratio(video.r_frame_rate);
  const duration = Number(video.duration ?? format.duration ?? 0);
  if (!(fps > 0) || Number.isNaN(duration)) throw notVideo("it is a still picture or has no frame rate");
  const aspect = ratio(video.sample_aspect_ratio, ":") || 1;
  const stretched = Math.abs(aspect - 1) > 0.01; // less is a file's rounding
  const shown = [stretched ? Math.round(video.width * aspect) : video.width, video.height];
  const turned = Math.abs(video.side_data_list?.find((d) => d.rotation !== undefined)?.rotation ?? 0) % 180 === 90;
  const [width, height] = turned ? [shown[1], shown[0]] : shown;
  const { color_transfer: transfer, color_space: matrix = "unknown", pix_fmt: pixels = "" } = video;
  return {
    info: { width, height, fps, durationSeconds: duration, hasAudio: streams.some((s) => s.codec_type === "audio") },
    pictures: {
      interlaced: ["tt", "bb", "tb", "bt"].includes(video.field_order ?? ""),
      stretched,
      hdr: transfer === "arib-std-b67" || transfer === "smpte2084" ? transfer : undefined,
      // What players take it for; ffmpeg itself takes pictures of every size for those of standard definition.
      assumedMatrix: matrix === "unknown" && pixels.startsWith("yuv") && (video.width >= 1280 || video.height > 576) ? "bt709" : undefined,
    },
  };
}

export interface DecodeOptions {
  /** Frames a second of the result; frames are repeated or dropped. Default: the clip's own. */
  fps?: number;
  /** Part of the picture, in pixels of the source. */
  crop?: { x: number; y: number; width: number; height: number };
  /** Size of the result (area-averaging when shrinking). Default: the source's, or the crop's. */
  width?: number;
  height?: number;
  startSeconds?: number;
  maxFrames?: number;
  signal?: AbortSignal;
}

/**
 * From a high dynamic range to what screens show (BT.709): diffuse white, 203 cd/m² by ITU-R BT.2408, is white, and what is brighter is pressed
 * together below it.
 */
const toStandardRange = (transfer: NonNullable<Pictures["hdr"]>): string[] => [
  "format=yuv444p10le", // before colours are looked at, so that they keep the size of the picture
  `zscale=tin=${transfer}:min=bt2020nc:pin=bt2020:rin=tv:t=linear:npl=203`,
  "format=gbrpf32le",
  "zscale=p=bt709",
  "tonemap=mobius:param=0.8:desat=0",
  "zscale=t=bt709:r=pc",
];

/**
 * The frames of a video one by one as a player shows them, in bounded memory: ffmpeg waits while nobody reads. They are upright, of square pixels, not
 * interlaced and of standard dynamic range.
 */
export async function* decodeVideo(path: string, options: DecodeOptions = {}): AsyncGenerator<RgbImage, void, undefined> {
  const { info, pictures } = await probe(path);
  const width = options.width ?? options.crop?.width ?? info.width;
  const height = options.height ?? options.crop?.height ?? info.height;
  const filters: string[] = [];
  if (pictures.interlaced) filters.push("bwdif=mode=send_frame:deint=interlaced");
  if (options.fps) filters.push(`fps=${options.fps}`);
  if (pictures.stretched) filters.push(`scale=${info.width}:${info.height}`);
  if (options.crop) {
    const { x, y, width: w, height: h } = options.crop;
    // A crop may reach over the border: pad with the border's black first.
    const [left, top] = [Math.max(0, -x), Math.max(0, -y)];
    const [right, bottom] = [Math.max(0, x + w - info.width), Math.max(0, y + h - info.height)];
    if (left + top + right + bottom > 0) filters.push(`pad=${info.width + left + right}:${info.height + top + bottom}:${left}:${top}`);
    filters.push(`crop=${w}:${h}:${x + left}:${y + top}:exact=1`);
  }
  const matrix = pictures.assumedMatrix ? `:in_color_matrix=${pictures.assumedMatrix}` : "";
  filters.push(`scale=${width}:${height}:flags=area+accurate_rnd+full_chroma_int${matrix}`);
  if (pictures.hdr) filters.push(...toStandardRange(pictures.hdr));
  const args = ["-v", "error", "-nostdin", ...localOnly];
  if (options.startSeconds) args.push("-ss", String(options.startSeconds));
  args.push("-i", `file:${path}`, "-map", "0:V:0", "-vf", filters.join(","), "-fps_mode", options.fps ? "cfr" : "passthrough");
  if (options.maxFrames) args.push("-frames:v", String(options.maxFrames));
  args.push("-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1");
  const child = spawn("ffmpeg", args, { stdio: ["ignore", "pipe", "pipe"], signal: options.signal });
  let stderr = "";
  child.stderr.on("data", (d) => (stderr = (stderr + d).slice(-4000)));
  const ended = new Promise<number>((resolve, reject) => {
    child.on("error", (e) => reject((e as NodeJS.ErrnoException).code === "ENOENT" ? missing("ffmpeg", e) : e));
    child.on("close", (c) => resolve(c ?? 1));
  });
  ended.catch(() => {});
  const size = width * height * 3;
  let frame = new Uint8Array(size);
  let filled = 0;
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      for (let from = 0; from < chunk.length;) {
        const n = Math.min(size - filled, chunk.length - from);
        frame.set(chunk.subarray(from, from + n), filled);
        filled += n;
        from += n;
        if (filled === size) {
          yield { width, height, data: frame };
          frame = new Uint8Array(size);
          filled = 0;
        }
      }
    }
    const code = await ended;
    if (code !== 0 && pictures.hdr && stderr.includes("No such filter"))
      throw new MediaError(
        "NO_ZSCALE",
        `${path}: of a high dynamic range, and this ffmpeg cannot bring it to what screens show (built without zscale): use Debian's ffmpeg, or film in standard range`,
      );
    if (code !== 0) throw new MediaError("DECODE", `${path}: ffmpeg stopped with "${lastLine(stderr)}"`);
  } finally {
    if (child.exitCode === null) child.kill("SIGKILL");
  }
}

export interface EncodeOptions {
  width: number;
  height: number;
  fps: number;
  /** A file whose sound goes along; it ends with the video, silent where it is shorter. */
  audio?: string;
  /** Where in the sound to begin. */
  audioStartSeconds?: number;
  /** x264's constant quality: 0 lossless … 51; default 17. */
  crf?: number;
}

/** Writes an mp4 (H.264, AAC) frame by frame; the file appears under its name when `close` succeeded. */
export class VideoWriter {
  private readonly path: string;
  private readonly temporary: string;
  private readonly options: EncodeOptions;
  private readonly child: ChildProcess;
  private readonly ended: Promise<number>;
  private stderr = "";
  private failed: Error | undefined;

  constructor(path: string, options: EncodeOptions) {
    this.path = path;
    this.temporary = `${path}.${process.pid}.tmp.mp4`;
    this.options = options;
    const { width, height, fps, audio } = options;
    const args = [
      "-v",
      "error",
      "-nostdin",
      "-y",
      "-f",
      "rawvideo",
      "-pix_fmt",
      "rgb24",
      "-s",
      `${width}x${height}`,
      "-r",
      String(fps),
      "-i",
      "pipe:0",
    ];
    if (audio) {
      if (options.audioStartSeconds) args.push("-ss", String(options.audioStartSeconds));
      args.push(...localOnly, "-i", `file:${audio}`, "-map", "0:v", "-map", "1:a:0");
      args.push("-af", "apad", "-shortest"); // padded without end and cut at the video's: else a shorter sound would cut the video
      args.push("-c:a", "aac", "-b:a", "160k");
    }
    args.push(
      "-vf",
      // 4:2:0 wants even sides: pad by one pixel where needed. Players guess the colours of a file that does not say.
      "pad=ceil(iw/2)*2:ceil(ih/2)*2,scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int," +
        "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv",
      // ffmpeg before 6 goes by these, a newer one by what the frames say of themselves.
      ...["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"],
      "-c:v",
      "libx264",
      "-preset",
      "veryfast",
      "-crf",
      String(options.crf ?? 17),
      "-pix_fmt",
      "yuv420p",
      "-movflags",
      "+faststart",
      "-threads",
      "2",
      `file:${this.temporary}`,
    );
    this.child = spawn("ffmpeg", args, { stdio: ["pipe", "ignore", "pipe"] });
    this.child.stderr!.on("data", (d) => (this.stderr = (this.stderr + d).slice(-4000)));
    this.child.stdin!.on("error", (e) => (this.failed ??= e));
    this.ended = new Promise((resolve) => {
      this.child.on("error", (e) => {
        this.failed = missing("ffmpeg", e);
        resolve(1);
      });
      this.child.on("close", (c) => resolve(c ?? 1));
    });
  }

  private async fail(): Promise<never> {
    this.child.kill("SIGKILL");
    await this.ended;
    await rm(this.temporary, { force: true });
    if (this.failed instanceof MediaError) throw this.failed;
    throw new MediaError(
      "ENCODE",
      `${this.path}: ffmpeg stopped with "${lastLine(this.stderr) || this.failed?.message || "no message"}". Is the disk full, or the folder not yours to write?`,
    );
  }

  async write(frame: RgbImage): Promise<void> {
    if (frame.width !== this.options.width || frame.height !== this.options.height) {
      throw new MediaError(
        "SIZE",
        `${this.path}: a frame of ${frame.width}x${frame.height} for a video of ${this.options.width}x${this.options.height}`,
      );
    }
    if (this.failed || this.child.exitCode !== null) await this.fail();
    if (!this.child.stdin!.write(frame.data)) await Promise.race([once(this.child.stdin!, "drain").catch(() => {}), this.ended]);
    if (this.failed) await this.fail();
  }

  /** Ends the file and gives it its name. */
  async close(): Promise<void> {
    this.child.stdin!.end();
    if ((await this.ended) !== 0 || this.failed) await this.fail();
    await rename(this.temporary, this.path);
  }

  /** Gives up: nothing is left behind. */
  async abort(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.ended;
    await rm(this.temporary, { force: true });
  }
}

/** Writes the sound of a video or audio file as 16-bit PCM wav, atomically. Where it begins after the picture, silence comes first. */
export async function extractAudio(
  path: string,
  out: string,
  options: { sampleRate?: number; startSeconds?: number; durationSeconds?: number } = {},
): Promise<void> {
  const temporary = `${out}.${process.pid}.tmp.wav`;
  const args = ["-v", "error", "-nostdin", "-y", ...localOnly];
  if (options.startSeconds) args.push("-ss", String(options.startSeconds));
  args.push("-i", `file:${path}`, "-map", "0:a:0", "-vn");
  if (options.durationSeconds) args.push("-t", String(options.durationSeconds));
  args.push("-af", "aresample=async=1:first_pts=0");
  if (options.sampleRate) args.push("-ar", String(options.sampleRate));
  const { code, stderr } = await run("ffmpeg", [...args, "-c:a", "pcm_s16le", `file:${temporary}`]);
  if (code !== 0) {
    await rm(temporary, { force: true });
    throw new MediaError("AUDIO", `${path}: no sound could be read from it (${lastLine(stderr)})`);
  }
  await rename(temporary, out);
}
