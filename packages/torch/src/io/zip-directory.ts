/**
 * The directory of a zip archive (APPNOTE 6.3, with zip64): where each stored member's bytes lie. Nothing is unpacked, so no
 * archive can unpack to more than it is; members that are compressed, or share bytes, are refused.
 */
import { fstatSync, readSync } from "node:fs";

export interface ZipMember {
  readonly name: string;
  /** Byte offsets in the file. */
  readonly from: number;
  readonly to: number;
}

const endSignature = 0x06054b50;
const end64Signature = 0x06064b50;
const locator64Signature = 0x07064b50;
const entrySignature = 0x02014b50;
const localSignature = 0x04034b50;
/** A checkpoint has a member a weight. */
const maxMembers = 1_000_000;
const maxDirectory = 256 << 20;

/** `fail` must throw. */
export function readZipDirectory(fd: number, fail: (why: string) => never): ZipMember[] {
  const size = fstatSync(fd).size;
  const read = (from: number, length: number): Buffer => {
    if (!(from >= 0) || !(length >= 0) || from + length > size)
      fail(`its archive points to bytes ${from} to ${from + length}, the file has ${size}`);
    const out = Buffer.alloc(length);
    for (let done = 0; done < length;) {
      const n = readSync(fd, out, done, length - done, from + done);
      if (n === 0) fail("the file ended early");
      done += n;
    }
    return out;
  };
  const whole = (n: bigint): number => {
    if (n > BigInt(Number.MAX_SAFE_INTEGER)) fail(`its archive claims ${n} bytes`);
    return Number(n);
  };

  // The end record lies at the end, but for a comment of at most 65535 bytes.
  const tail = read(Math.max(0, size - 65557), Math.min(size, 65557));
  let end = tail.length - 22;
  while (end >= 0 && tail.readUInt32LE(end) !== endSignature) end--;
  if (end < 0) fail("its archive has no directory; the end of the file is missing");
  let count = tail.readUInt16LE(end + 10);
  let length = tail.readUInt32LE(end + 12);
  let start = tail.readUInt32LE(end + 16);
  const at = size - tail.length + end;
  if (at >= 20 && (count === 0xffff || length === 0xffffffff || start === 0xffffffff)) {
    const locator = read(at - 20, 20);
    if (locator.readUInt32LE(0) === locator64Signature) {
      const record = read(whole(locator.readBigUInt64LE(8)), 56);
      if (record.readUInt32LE(0) !== end64Signature) fail("its zip64 directory is damaged");
      count = whole(record.readBigUInt64LE(32));
      length = whole(record.readBigUInt64LE(40));
      start = whole(record.readBigUInt64LE(48));
    }
  }
  if (count > maxMembers || length > maxDirectory) fail(`its archive claims ${count} members in a directory of ${length} bytes`);

  const directory = read(start, length);
  const members: ZipMember[] = [];
  for (let i = 0, p = 0; i < count; i++) {
    if (p + 46 > directory.length || directory.readUInt32LE(p) !== entrySignature) fail("its archive's directory is damaged");
    const method = directory.readUInt16LE(p + 10);
    let packed = directory.readUInt32LE(p + 20);
    let unpacked = directory.readUInt32LE(p + 24);
    const nameLength = directory.readUInt16LE(p + 28);
    const extraLength = directory.readUInt16LE(p + 30);
    const commentLength = directory.readUInt16LE(p + 32);
    let local = directory.readUInt32LE(p + 42);
    const extra = p + 46 + nameLength;
    const next = extra + extraLength + commentLength;
    if (next > directory.length) fail("its archive's directory is damaged");
    const name = directory.toString("utf8", p + 46, extra);
    for (let e = extra; e + 4 <= extra + extraLength;) {
      const [id, n] = [directory.readUInt16LE(e), directory.readUInt16LE(e + 2)];
      if (e + 4 + n > extra + extraLength) fail(`${name}: its entry is damaged`);
      if (id === 1) {
        // zip64: only the fields that did not fit, in this order.
        let f = e + 4;
        const field = (): number => {
          if (f + 8 > e + 4 + n) fail(`${name}: its entry is damaged`);
          f += 8;
          return whole(directory.readBigUInt64LE(f - 8));
        };
        if (unpacked === 0xffffffff) unpacked = field();
        if (packed === 0xffffffff) packed = field();
        if (local === 0xffffffff) local = field();
      }
      e += 4 + n;
    }
    p = next;
    if (method !== 0) fail(`${name}: compressed (method ${method}); torch stores its members as they are`);
    if (packed !== unpacked) fail(`${name}: ${packed} bytes stored for ${unpacked}`);
    const header = read(local, 30);
    if (header.readUInt32LE(0) !== localSignature) fail(`${name}: not where the directory says`);
    const from = local + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (from + packed > size) fail(`${name}: ends at byte ${from + packed}, the file has ${size}`);
    members.push({ name, from, to: from + packed });
  }
  const sorted = members.filter((m) => m.to > m.from).sort((a, b) => a.from - b.from);
  for (let i = 1; i < sorted.length; i++)
    if (sorted[i].from < sorted[i - 1].to) fail(`${sorted[i].name} and ${sorted[i - 1].name} share bytes`);
  return members;
}
