/** Element types, by the names torch gives them. */
import { TorchError } from "./errors.ts";

export type DType = "uint8" | "int8" | "int16" | "int32" | "int64" | "float16" | "float32" | "float64" | "bool" | "bfloat16";

/** c10::ScalarType's numbering; stable across libtorch versions. */
const codes: Record<DType, number> = {
  uint8: 0,
  int8: 1,
  int16: 2,
  int32: 3,
  int64: 4,
  float16: 5,
  float32: 6,
  float64: 7,
  bool: 11,
  bfloat16: 15,
};
const names = new Map(Object.entries(codes).map(([name, code]) => [code, name as DType]));
const widths: Record<DType, number> = {
  uint8: 1,
  int8: 1,
  int16: 2,
  int32: 4,
  int64: 8,
  float16: 2,
  float32: 4,
  float64: 8,
  bool: 1,
  bfloat16: 2,
};

export function dtypeCode(dtype: DType): number {
  const code = codes[dtype];
  if (code === undefined)
    throw new TorchError("DTYPE", `unknown dtype "${String(dtype)}": expected one of ${Object.keys(codes).join(", ")}`);
  return code;
}

export function dtypeName(code: number): DType {
  const name = names.get(code);
  if (name === undefined) throw new TorchError("DTYPE", `tensors of libtorch's scalar type ${code} are not supported`);
  return name;
}

/** Bytes an element takes. */
export const dtypeWidth = (dtype: DType): number => widths[dtype];

export type TypedArray = Uint8Array | Int8Array | Int16Array | Int32Array | BigInt64Array | Uint16Array | Float32Array | Float64Array;

/** A typed array over `buffer` as `dtype` is laid out; float16 and bfloat16 come as their bits. */
export function typedView(dtype: DType, buffer: ArrayBuffer): TypedArray {
  switch (dtype) {
    case "uint8":
    case "bool":
      return new Uint8Array(buffer);
    case "int8":
      return new Int8Array(buffer);
    case "int16":
      return new Int16Array(buffer);
    case "int32":
      return new Int32Array(buffer);
    case "int64":
      return new BigInt64Array(buffer);
    case "float16":
    case "bfloat16":
      return new Uint16Array(buffer);
    case "float32":
      return new Float32Array(buffer);
    case "float64":
      return new Float64Array(buffer);
  }
}
