/**
 * Reads pickles (docs.python.org/3/library/pickletools.html) without ever running anything: a pickle is a program for a small
 * stack machine, and this machine knows only how to build plain values. Names of classes and functions are looked up in a list
 * the caller gives; any other name ends the reading.
 */
import { TorchError } from "../errors.ts";

/** What `REDUCE` and `BUILD` may do with a name, or a plain value it stands for. */
export type PickleGlobal = { readonly call?: (args: readonly unknown[]) => unknown; readonly value?: unknown };

export interface PickleOptions {
  /** Named in errors. */
  what: string;
  /** What `module.name` stands for; undefined: refused. */
  global: (name: string) => PickleGlobal | undefined;
  /** What a persistent id stands for. */
  persistent?: (id: unknown) => unknown;
}

const mark = Symbol("mark");
/** More values than any checkpoint holds: an SD 1.5 file with its optimiser has some ten thousand. */
const maxSteps = 20_000_000;

/** A dictionary of a pickle: keys need not be text. */
export type PickleDict = Map<unknown, unknown>;

class Machine {
  private at = 0;
  private readonly stack: unknown[] = [];
  private readonly memo = new Map<number, unknown>();
  private readonly view: DataView;
  private readonly bytes: Uint8Array;
  private readonly o: PickleOptions;

  constructor(bytes: Uint8Array, o: PickleOptions) {
    this.bytes = bytes;
    this.o = o;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fail(why: string): never {
    throw new TorchError(
      "PICKLE",
      `${this.o.what}: not a usable checkpoint: ${why} (byte ${this.at}). Fetch it again, or convert it to safetensors where you trust it`,
    );
  }
  private take(n: number): number {
    const from = this.at;
    if (!(n >= 0) || from + n > this.bytes.length)
      this.fail(`the pickle ends early: ${n} bytes announced, ${this.bytes.length - from} left`);
    this.at += n;
    return from;
  }
  private u8(): number {
    return this.bytes[this.take(1)];
  }
  private u16(): number {
    return this.view.getUint16(this.take(2), true);
  }
  private i32(): number {
    return this.view.getInt32(this.take(4), true);
  }
  private u32(): number {
    return this.view.getUint32(this.take(4), true);
  }
  private u64(): number {
    const n = this.view.getBigUint64(this.take(8), true);
    if (n > BigInt(Number.MAX_SAFE_INTEGER)) this.fail(`a length of ${n} is announced`);
    return Number(n);
  }
  private blob(n: number): Uint8Array {
    const from = this.take(n);
    return this.bytes.subarray(from, from + n);
  }
  private text(n: number): string {
    return Buffer.from(this.blob(n)).toString("utf8");
  }
  private line(): string {
    const end = this.bytes.indexOf(10, this.at);
    if (end < 0) this.fail("a line has no end");
    const from = this.at;
    this.at = end + 1;
    return Buffer.from(this.bytes.subarray(from, end)).toString("utf8");
  }
  /** A whole number, least byte first, two's complement. */
  private long(n: number): number | bigint {
    let value = 0n;
    const bytes = this.blob(n);
    if (n > 64) this.fail(`a whole number of ${n} bytes`);
    for (let i = n - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
    if (n > 0 && bytes[n - 1] & 0x80) value -= 1n << BigInt(8 * n);
    return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
  }
  private pop(): unknown {
    if (this.stack.length === 0) this.fail("it takes from an empty stack");
    const value = this.stack.pop();
    if (value === mark) this.fail("it takes a mark for a value");
    return value;
  }
  private top(): unknown {
    if (this.stack.length === 0) this.fail("it looks at an empty stack");
    return this.stack[this.stack.length - 1];
  }
  private popToMark(): unknown[] {
    const from = this.stack.lastIndexOf(mark);
    if (from < 0) this.fail("a mark is missing");
    return this.stack.splice(from).slice(1);
  }
  private list(): unknown[] {
    const value = this.top();
    if (!Array.isArray(value)) this.fail("it appends to something that is no list");
    return value;
  }
  private dict(): PickleDict {
    const value = this.top();
    if (!(value instanceof Map)) this.fail("it sets an item of something that is no dictionary");
    return value;
  }
  private setItems(target: PickleDict, items: readonly unknown[]): void {
    if (items.length % 2 !== 0) this.fail("a key has no value");
    for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
  }
  private find(module: string, name: string): PickleGlobal {
    const found = this.o.global(`${module}.${name}`);
    if (!found)
      this.fail(
        `it asks for "${`${module}.${name}`.slice(0, 120)}", which no checkpoint of weights needs; refused, because a pickle can run programs that way`,
      );
    return found;
  }
  private reduce(callee: unknown, args: unknown): unknown {
    const call = (callee as PickleGlobal | undefined)?.call;
    if (typeof call !== "function") this.fail("it calls something that is no function");
    if (!Array.isArray(args)) this.fail("it calls a function without a tuple of arguments");
    return call(args as unknown[]);
  }

  run(): unknown {
    for (let step = 0; step < maxSteps; step++) {
      const op = this.u8();
      if (op === 0x2e) return this.pop(); // STOP
      this.step(op);
    }
    return this.fail(`more than ${maxSteps} steps`);
  }

  /** Where reading ended. */
  get position(): number {
    return this.at;
  }

  private step(op: number): void {
    const { stack } = this;
    switch (op) {
      case 0x80: // PROTO
        if (this.u8() > 5) this.fail("a protocol newer than 5");
        break;
      case 0x95: // FRAME
        this.u64();
        break;
      case 0x28: // MARK
        stack.push(mark);
        break;
      case 0x30: // POP
        this.top();
        stack.pop();
        break;
      case 0x31: // POP_MARK
        this.popToMark();
        break;
      case 0x32: // DUP
        stack.push(this.top());
        break;
      case 0x4e: // NONE
        stack.push(null);
        break;
      case 0x88: // NEWTRUE
        stack.push(true);
        break;
      case 0x89: // NEWFALSE
        stack.push(false);
        break;
      case 0x4b: // BININT1
        stack.push(this.u8());
        break;
      case 0x4d: // BININT2
        stack.push(this.u16());
        break;
      case 0x4a: // BININT
        stack.push(this.i32());
        break;
      case 0x8a: // LONG1
        stack.push(this.long(this.u8()));
        break;
      case 0x8b: // LONG4
        stack.push(this.long(this.u32()));
        break;
      case 0x49: {
        // INT, also the truth values of protocol 0
        const line = this.line();
        const value = line === "01" ? true : line === "00" ? false : Number(line);
        if (typeof value === "number" && !Number.isInteger(value)) this.fail(`a whole number "${line.slice(0, 40)}"`);
        stack.push(value);
        break;
      }
      case 0x4c: {
        // LONG
        const value = Number(this.line().replace(/L$/, ""));
        if (!Number.isSafeInteger(value)) this.fail("a whole number out of range");
        stack.push(value);
        break;
      }
      case 0x47: // BINFLOAT
        stack.push(this.view.getFloat64(this.take(8), false));
        break;
      case 0x46: // FLOAT
        stack.push(Number(this.line()));
        break;
      case 0x58: // BINUNICODE
        stack.push(this.text(this.u32()));
        break;
      case 0x8c: // SHORT_BINUNICODE
        stack.push(this.text(this.u8()));
        break;
      case 0x8d: // BINUNICODE8
        stack.push(this.text(this.u64()));
        break;
      case 0x56: // UNICODE
        stack.push(this.line());
        break;
      case 0x54: // BINSTRING
        stack.push(this.text(this.u32()));
        break;
      case 0x55: // SHORT_BINSTRING
        stack.push(this.text(this.u8()));
        break;
      case 0x42: // BINBYTES
        stack.push(this.blob(this.u32()));
        break;
      case 0x43: // SHORT_BINBYTES
        stack.push(this.blob(this.u8()));
        break;
      case 0x8e: // BINBYTES8
        stack.push(this.blob(this.u64()));
        break;
      case 0x5d: // EMPTY_LIST
      case 0x29: // EMPTY_TUPLE
        stack.push([]);
        break;
      case 0x7d: // EMPTY_DICT
        stack.push(new Map());
        break;
      case 0x8f: // EMPTY_SET
        stack.push(new Set());
        break;
      case 0x90: {
        // ADDITEMS
        const items = this.popToMark();
        const target = this.top();
        if (!(target instanceof Set)) this.fail("it adds to something that is no set");
        for (const item of items) target.add(item);
        break;
      }
      case 0x6c: // LIST
      case 0x74: // TUPLE
        stack.push(this.popToMark());
        break;
      case 0x64: {
        // DICT
        const items = this.popToMark();
        const dict: PickleDict = new Map();
        this.setItems(dict, items);
        stack.push(dict);
        break;
      }
      case 0x85: // TUPLE1
        stack.push([this.pop()]);
        break;
      case 0x86: {
        // TUPLE2
        const b = this.pop();
        stack.push([this.pop(), b]);
        break;
      }
      case 0x87: {
        // TUPLE3
        const c = this.pop();
        const b = this.pop();
        stack.push([this.pop(), b, c]);
        break;
      }
      case 0x61: {
        // APPEND
        const value = this.pop();
        this.list().push(value);
        break;
      }
      case 0x65: {
        // APPENDS
        const items = this.popToMark();
        const target = this.list();
        for (const item of items) target.push(item);
        break;
      }
      case 0x73: {
        // SETITEM
        const value = this.pop();
        const key = this.pop();
        this.dict().set(key, value);
        break;
      }
      case 0x75: {
        // SETITEMS
        const items = this.popToMark();
        this.setItems(this.dict(), items);
        break;
      }
      case 0x71: // BINPUT
        this.memo.set(this.u8(), this.top());
        break;
      case 0x72: // LONG_BINPUT
        this.memo.set(this.u32(), this.top());
        break;
      case 0x70: // PUT
        this.memo.set(Number(this.line()), this.top());
        break;
      case 0x94: // MEMOIZE
        this.memo.set(this.memo.size, this.top());
        break;
      case 0x68: // BINGET
        this.recall(this.u8());
        break;
      case 0x6a: // LONG_BINGET
        this.recall(this.u32());
        break;
      case 0x67: // GET
        this.recall(Number(this.line()));
        break;
      case 0x63: {
        // GLOBAL
        const module = this.line();
        stack.push(this.find(module, this.line()));
        break;
      }
      case 0x93: {
        // STACK_GLOBAL
        const name = this.pop();
        const module = this.pop();
        if (typeof name !== "string" || typeof module !== "string") this.fail("a name that is no text");
        stack.push(this.find(module, name));
        break;
      }
      case 0x52: // REDUCE
      case 0x81: {
        // NEWOBJ
        const args = this.pop();
        stack.push(this.reduce(this.pop(), args));
        break;
      }
      case 0x62: {
        // BUILD: attributes of an object. Plain values have none that matter (an OrderedDict's _metadata).
        this.pop();
        this.top();
        break;
      }
      case 0x51: {
        // BINPERSID
        const id = this.pop();
        if (!this.o.persistent) this.fail("it refers to data outside itself");
        stack.push(this.o.persistent(id));
        break;
      }
      default:
        this.fail(`unknown instruction 0x${op.toString(16)}`);
    }
  }

  private recall(index: number): void {
    if (!this.memo.has(index)) this.fail(`it recalls value ${index}, which it never stored`);
    this.stack.push(this.memo.get(index));
  }
}

/** Reads one pickle from the start of `bytes`; `length` is how many of them it took. */
export function readPickle(bytes: Uint8Array, o: PickleOptions): { value: unknown; length: number } {
  const machine = new Machine(bytes, o);
  try {
    const value = machine.run();
    return { value, length: machine.position };
  } catch (error) {
    if (error instanceof TorchError) throw error;
    return machine.fail(error instanceof Error ? error.message : String(error));
  }
}
