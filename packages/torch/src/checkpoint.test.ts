import { describe, expect, it } from "vitest";
import { backward, backwardCheckpointed, Generator, Linear, liveTensors, noGrad, scope, segment, type Tensor } from "./index.ts";

describe("backwardCheckpointed", () => {
  using g = new Generator(1);
  const layers = [0, 1, 2].map(() => new Linear(6, 6).initialize(g).requiresGrad_());
  const x = g.randn([4, 6]);
  /** A chain with a skip connection, a part used twice and one that is not used. */
  const loss = (): Tensor => {
    const [a, b, c] = layers;
    const first = segment([x], ([x]) => a.forward(x).sigmoid());
    const second = segment([first], ([x]) => b.forward(x).sigmoid());
    segment([second], ([x]) => b.forward(x).exp());
    const third = segment([second, first], ([x, skip]) => c.forward(x).add(skip).add(a.forward(skip)));
    return segment([third, second], ([x, y]) => x.mul(y).square().mean());
  };
  const gradients = () => layers.flatMap((l) => l.parameters().map((p) => [...p.value.grad!.floats()]));
  const clear = () => layers.forEach((l) => l.zeroGrad());

  it("gives the loss and the gradients of a plain backward pass, and leaves nothing", () => {
    const plain = scope(() => {
      const l = loss();
      backward(l);
      return l.item();
    });
    const wanted = scope(gradients);
    clear();
    scope(() => backwardCheckpointed(loss)); // gradients are made once
    clear();
    const before = liveTensors();
    expect(backwardCheckpointed(loss)).toBeCloseTo(plain, 6);
    expect(liveTensors() - before).toBe(0); // gradients belong to the weights
    const got = scope(gradients);
    got.forEach((row, i) => row.forEach((v, k) => expect(v).toBeCloseTo(wanted[i][k], 6)));
    clear();
  });

  it("adds to gradients that are there", () => {
    backwardCheckpointed(loss);
    const once = scope(gradients);
    backwardCheckpointed(loss);
    scope(gradients).forEach((row, i) => row.forEach((v, k) => expect(v).toBeCloseTo(2 * once[i][k], 5)));
    clear();
  });

  it("keeps no graph in the forward pass", () => {
    let seen = true;
    backwardCheckpointed(() => {
      const y = segment([x], ([x]) => layers[0].forward(x));
      seen = y.requiresGrad;
      return segment([y], ([y]) => y.mean());
    });
    expect(seen).toBe(false);
    clear();
  });

  it("says what is wrong with a loss it cannot go back from", () => {
    expect(() => backwardCheckpointed(() => x.mean())).toThrow(/does not come from a segment/);
    expect(() => backwardCheckpointed(() => segment([x], ([x]) => x.mul(2)))).toThrow(/expected one number, got \[4, 6\]/);
    expect(() => backwardCheckpointed(() => (backwardCheckpointed(loss), x))).toThrow(/already inside another one/);
    // And works afterwards.
    expect(noGrad(() => backwardCheckpointed(loss))).toBeGreaterThan(0);
    clear();
  });
});
