import { expect, test } from "vitest";
import { backward, fromData, full, Parameter, scope, zeros } from "@make-your-anchor/torch";
import { GradScaler } from "./scaler.ts";

const parameter = () => {
  const p = new Parameter([3], (shape) => zeros(shape));
  p.set(zeros([3]));
  p.value.requiresGrad_();
  return p;
};

test("takes its scale out of gradients, halves after an overflow, doubles after enough good steps", () => {
  const p = parameter();
  const scaler = new GradScaler({ scale: 1024, growEvery: 2 });
  scope(() =>
    backward(
      p.value
        .mul(full([3], 2))
        .sum()
        .mul(scaler.scale),
    ),
  );
  expect(scaler.unscale([p])).toBe(true);
  expect(Array.from(p.value.grad!.floats())).toEqual([2, 2, 2]);
  scaler.update(true);
  expect(scaler.scale).toBe(1024);
  scaler.update(true);
  expect(scaler.scale).toBe(2048);
  scope(() => backward(p.value.mul(fromData(Float32Array.of(1, Number.POSITIVE_INFINITY, 1), [3])).sum()));
  expect(scaler.unscale([p])).toBe(false);
  scaler.update(false);
  expect(scaler.scale).toBe(1024);
  p.dispose();
});

test("goes on as it was", () => {
  const [a, b] = [new GradScaler({ scale: 64, growEvery: 3 }), new GradScaler({ growEvery: 3 })];
  a.update(true);
  a.update(true);
  const state = a.stateDict();
  b.load({ read: (key) => state.get(key)!.clone() });
  for (const s of [a, b]) s.update(true);
  expect([a.scale, b.scale]).toEqual([128, 128]);
  for (const t of state.values()) t.dispose();
});
