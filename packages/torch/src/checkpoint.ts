/**
 * Gradient checkpointing (arXiv:1604.06174): the forward pass keeps only what goes from one segment of a network to the next; the
 * backward pass runs each segment again, with a graph, when its turn comes. Memory falls to the largest segment's, time rises by a
 * forward pass. It works on any device, for the tape is ours and libtorch sees ordinary graphs, one a segment.
 */
import { TorchError } from "./errors.ts";
import { keep, noGrad, scope } from "./scope.ts";
import type { Tensor } from "./tensor.ts";
import * as ops from "./ops.gen.ts";

type SegmentFunction = (inputs: readonly Tensor[]) => Tensor;

interface Segment {
  readonly fn: SegmentFunction;
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
}

let tape: Segment[] | undefined;

/**
 * A part of a network that may be run twice: a pure function of `inputs` and of weights. All tensors that carry a gradient must come
 * in as inputs. Outside `backwardCheckpointed` it is `scope(() => fn(inputs))`.
 */
export function segment(inputs: readonly Tensor[], fn: SegmentFunction): Tensor {
  if (!tape) return scope(() => fn(inputs));
  const output = scope(() => noGrad(() => fn(inputs)));
  // An input handed through is another tensor to the tape.
  const own = inputs.includes(output) ? noGrad(() => output.detach()) : output;
  tape.push({ fn, inputs, output: own });
  return own;
}

/**
 * Runs `loss` and adds its gradients to every weight's `grad`, with checkpoints at its segments. The value returned by `loss` must come
 * from a segment, and so must everything between it and the weights: what is computed between segments carries no gradient.
 * @returns the loss
 */
export function backwardCheckpointed(loss: () => Tensor): number {
  if (tape) throw new TorchError("CHECKPOINT", "backwardCheckpointed: already inside another one");
  const segments: Segment[] = [];
  return scope(() => {
    let last: Tensor;
    tape = segments;
    try {
      last = loss();
    } finally {
      tape = undefined;
    }
    if (last.numel !== 1) throw new TorchError("NOT_SCALAR", `backwardCheckpointed: expected one number, got [${last.shape.join(", ")}]`);
    const made = new Set(segments.map((s) => s.output));
    if (!made.has(last)) throw new TorchError("NO_GRAPH", "backwardCheckpointed: the loss does not come from a segment");
    const value = last.item();
    /** Gradients that have come to an output so far. */
    const gradients = new Map<Tensor, Tensor>([[last, noGrad(() => ops.ones_like(last))]]);
    for (const { fn, inputs, output } of segments.reverse()) {
      const gradient = gradients.get(output);
      if (!gradient) continue; // nothing downstream used it
      gradients.delete(output);
      scope(() => {
        const leaves = inputs.map((t) => (made.has(t) ? t.detach().requiresGrad_() : t));
        const again = fn(leaves);
        if (again.requiresGrad) ops._backward(again, [], gradient, null, false);
        inputs.forEach((t, i) => {
          const more = made.has(t) ? leaves[i].grad : null;
          if (!more) return;
          const before = gradients.get(t);
          gradients.set(t, keep(before ? noGrad(() => before.add(more)) : more));
          before?.dispose();
        });
      });
      gradient.dispose();
      output.dispose(); // what follows it is done with
    }
    for (const g of gradients.values()) g.dispose();
    return value;
  });
}
