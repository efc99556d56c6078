/**
 * TensorBoard's event files, by its documented formats: TFRecord framing around `tensorflow.Event` messages (tensorflow/core/util/event.proto and
 * framework/summary.proto; scalars as `simple_value`, pictures as PNG).
 */
import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeError } from "../files.ts";

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1;
  return c;
});
/** CRC-32C (Castagnoli). */
export function crc32c(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const b of bytes) c = table[(c ^ b) & 255] ^ (c >>> 8);
  return ~c >>> 0;
}
/** The checksum as records store it. */
const masked = (bytes: Uint8Array): number => {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
};

/** One record: length, its checksum, the data, its checksum. */
export function record(data: Uint8Array): Uint8Array {
  const out = Buffer.alloc(16 + data.length);
  out.writeBigUInt64LE(BigInt(data.length), 0);
  out.writeUInt32LE(masked(out.subarray(0, 8)), 8);
  out.set(data, 12);
  out.writeUInt32LE(masked(data), 12 + data.length);
  return out;
}

// Protocol buffers' wire format, as much of it as an event needs.
const varint = (value: number): number[] => {
  const out: number[] = [];
  let v = value;
  for (; v > 127; v = Math.floor(v / 128)) out.push((v % 128) | 128);
  return [...out, v];
};
type Field = Uint8Array | number[];
const joined = (fields: readonly Field[]): Uint8Array => Buffer.concat(fields.map((f) => Uint8Array.from(f)));
const integer = (field: number, value: number): number[] => [...varint(field << 3), ...varint(value)];
const bytes = (field: number, value: Uint8Array): Uint8Array => joined([varint((field << 3) | 2), varint(value.length), value]);
const text = (field: number, value: string) => bytes(field, Buffer.from(value));
const float = (field: number, value: number): Uint8Array =>
  joined([varint((field << 3) | 5), new Uint8Array(Float32Array.of(value).buffer)]);
const double = (field: number, value: number): Uint8Array =>
  joined([varint((field << 3) | 1), new Uint8Array(Float64Array.of(value).buffer)]);

/** Appends to one event file of a run's folder; a run that goes on begins another, from whose first step on TensorBoard drops what came before. */
export class EventFile {
  readonly path: string;

  /** @param step steps done before */
  constructor(folder: string, step: number, now = Date.now()) {
    this.path = join(folder, `events.out.tfevents.${Math.floor(now / 1000)}.anchor.${step}`);
    try {
      writeFileSync(this.path, this.event(0, text(3, "brain.Event:2")));
    } catch (cause) {
      throw writeError(this.path, cause);
    }
    if (step > 0) this.append(step, bytes(7, Uint8Array.from(integer(1, 1)))); // SessionLog START
  }
  scalar(tag: string, step: number, value: number): void {
    this.append(step, bytes(5, bytes(1, joined([text(1, tag), float(2, value)]))));
  }
  /** @param png the file's bytes */
  image(tag: string, step: number, png: Uint8Array): void {
    const header = new DataView(png.buffer, png.byteOffset, png.byteLength); // IHDR comes first: width at 16, height at 20
    const [width, height] = [header.getUint32(16), header.getUint32(20)];
    const image = joined([integer(1, height), integer(2, width), integer(3, 3), bytes(4, png)]);
    this.append(step, bytes(5, bytes(1, joined([text(1, tag), bytes(4, image)]))));
  }
  private event(step: number, what: Uint8Array): Uint8Array {
    return record(joined([double(1, Date.now() / 1000), integer(2, step), what]));
  }
  private append(step: number, what: Uint8Array): void {
    try {
      appendFileSync(this.path, this.event(step, what));
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }
}
