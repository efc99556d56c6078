import { expect, test } from "vitest";
import { openBlasCore } from "./cpu.ts";

test("kernels by what the processor can do, not by its name", () => {
  expect(openBlasCore("fpu sse2 avx avx2 fma avx512f avx512dq avx512cd avx512bw avx512vl amx_tile")).toBe("SkylakeX");
  expect(openBlasCore("fpu sse2 avx avx2 fma avx512f")).toBe("Haswell"); // a part of AVX-512 is not enough
  expect(openBlasCore("fpu sse2 avx avx2")).toBeUndefined();
  expect(openBlasCore("")).toBeUndefined();
});
