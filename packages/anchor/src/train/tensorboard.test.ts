import { afterAll, beforeAll, expect, test } from "vitest";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32c, EventFile } from "./tensorboard.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "events-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("CRC-32C of the standard's test string", () => {
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa); // RFC 3720, B.4
});

/** Records of a file, their checksums checked. */
function* records(bytes: Buffer): Generator<Buffer> {
  const unmask = (stored: number) => {
    const rotated = (stored - 0xa282ead8) >>> 0;
    return ((rotated >>> 17) | (rotated << 15)) >>> 0;
  };
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(unmask(bytes.readUInt32LE(at + 8))).toBe(crc32c(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(unmask(bytes.readUInt32LE(at + 12 + length))).toBe(crc32c(data));
    yield data;
    at += 16 + length;
  }
}
/** Fields of a message: number and value. */
function fields(m: Buffer): [number, number | bigint | Buffer][] {
  const out: [number, number | bigint | Buffer][] = [];
  let at = 0;
  const varint = () => {
    let [v, shift] = [0, 1];
    for (;;) {
      const b = m[at++];
      v += (b & 127) * shift;
      if (b < 128) return v;
      shift *= 128;
    }
  };
  while (at < m.length) {
    const key = varint();
    const field = key >> 3;
    if ((key & 7) === 0) out.push([field, varint()]);
    else if ((key & 7) === 1) out.push([field, m.readDoubleLE((at += 8) - 8)]);
    else if ((key & 7) === 5) out.push([field, m.readFloatLE((at += 4) - 4)]);
    else {
      const n = varint();
      out.push([field, m.subarray(at, (at += n))]);
    }
  }
  return out;
}
const field = (m: Buffer, n: number) => fields(m).find(([k]) => k === n)?.[1];

test("scalars and pictures as TensorBoard reads them", () => {
  const events = new EventFile(folder, 300);
  events.scalar("loss", 305, 0.5);
  const png = Buffer.alloc(33);
  png.writeUInt32BE(640, 16);
  png.writeUInt32BE(480, 20);
  events.image("validation", 310, png);
  const all = [...records(readFileSync(events.path))];
  expect(all).toHaveLength(4);
  expect(field(all[0], 3)!.toString()).toBe("brain.Event:2");
  expect(field(all[1], 2)).toBe(300);
  expect(fields(field(all[1], 7) as Buffer)).toEqual([[1, 1]]); // a run that goes on starts here
  expect(field(all[2], 1)).toBeCloseTo(Date.now() / 1000, -1);
  expect(field(all[2], 2)).toBe(305);
  const scalar = field(field(all[2], 5) as Buffer, 1) as Buffer;
  expect(field(scalar, 1)!.toString()).toBe("loss");
  expect(field(scalar, 2)).toBe(0.5);
  const image = field(field(field(all[3], 5) as Buffer, 1) as Buffer, 4) as Buffer;
  expect([1, 2, 3].map((k) => field(image, k))).toEqual([480, 640, 3]);
  expect((field(image, 4) as Buffer).equals(png)).toBe(true);
});
