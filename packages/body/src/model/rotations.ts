/** Rotations: matrices act on column vectors, quaternions are (w, x, y, z), axis-angle vectors are in radians, right-handed. */
import { cat, eye, stack, where, type Tensor } from "@make-your-anchor/torch";

const rows = (parts: readonly Tensor[], shape: readonly number[]): Tensor => stack(parts, -1).reshape([...shape, 3, 3]);

/**
 * Rodrigues' formula as the body model computes it: 1e-8 is added to every component before the length is taken, so that the
 * gradient at zero is finite. `[..., 3]` → `[..., 3, 3]`. Source: smplx `batch_rodrigues`.
 */
export function rodrigues(r: Tensor): Tensor {
  const lead = r.shape.slice(0, -1);
  const angle = r.add(1e-8).norm(-1, true); // [..., 1]
  const axis = r.div(angle);
  const [x, y, z] = axis.unbind(-1);
  const zero = x.mul(0);
  const k = rows([zero, z.neg(), y, z, zero, x.neg(), y.neg(), x, zero], lead);
  const sin = angle.sin().unsqueeze(-1);
  const versine = angle.cos().rsub(1).unsqueeze(-1);
  const k2 = k.matmul(k);
  return sin.mul(k).add(versine.mul(k2)).add(identity(k));
}

const identity = (like: Tensor): Tensor => eye(3, { dtype: like.dtype, device: like.device });

/** Quaternion of any length above 0 → rotation. `[..., 4]` → `[..., 3, 3]`. */
export function quaternionToMatrix(q: Tensor): Tensor {
  const [w, x, y, z] = q.unbind(-1);
  const s = q.square().sum(-1).reciprocal().mul(2);
  const one = (a: Tensor, b: Tensor) => s.mul(a.square().add(b.square())).rsub(1);
  const sum = (a: Tensor, b: Tensor, c: Tensor, d: Tensor) => s.mul(a.mul(b).add(c.mul(d)));
  const difference = (a: Tensor, b: Tensor, c: Tensor, d: Tensor) => s.mul(a.mul(b).sub(c.mul(d)));
  return rows(
    [
      one(y, z),
      difference(x, y, z, w),
      sum(x, z, y, w),
      sum(x, y, z, w),
      one(x, z),
      difference(y, z, x, w),
      difference(x, z, y, w),
      sum(y, z, x, w),
      one(x, y),
    ],
    q.shape.slice(0, -1),
  );
}

/**
 * Rotation → unit quaternion, w ≥ 0. `[..., 3, 3]` → `[..., 4]`.
 *
 * Away from a half turn each component comes from its own root and takes its sign from the antisymmetric part: the original's
 * arithmetic (PyTorch3D, 2020), followed to its rounding. Near a half turn those signs vanish and it picks the wrong axis; there
 * the largest component is computed first and the others from it.
 */
export function matrixToQuaternion(m: Tensor): Tensor {
  const flat = m.reshape([-1, 9]);
  const [m00, m01, m02, m10, m11, m12, m20, m21, m22] = flat.unbind(1);
  const squares = [
    m00.add(1).add(m11).add(m22),
    m00.add(1).sub(m11).sub(m22),
    m00.rsub(1).add(m11).sub(m22),
    m00.rsub(1).sub(m11).add(m22),
  ]; // (2w)², (2x)², …
  const odd = [m21.sub(m12), m02.sub(m20), m10.sub(m01)];
  const root = (t: Tensor) => t.clamp(0, null).sqrt().mul(0.5);
  const signed = (t: Tensor, sign: Tensor) => where(sign.lt(0), root(t).neg(), root(t));
  const original = stack([root(squares[0]), signed(squares[1], odd[0]), signed(squares[2], odd[1]), signed(squares[3], odd[2])], -1);

  // Each candidate is the quaternion times four times one of its own components.
  const [xy, xz, yz] = [m10.add(m01), m02.add(m20), m12.add(m21)];
  const candidates = [
    [squares[0], odd[0], odd[1], odd[2]],
    [odd[0], squares[1], xy, xz],
    [odd[1], xy, squares[2], yz],
    [odd[2], xz, yz, squares[3]],
  ].map((c) => stack(c, -1)); // [N, 4]
  const best = stack(squares, -1)
    .argmax(1)
    .reshape([-1, 1, 1])
    .expand([flat.size(0), 1, 4]);
  const q = stack(candidates, 1).gather(1, best).squeeze(1);
  const robust = positive(q.div(q.norm(-1, true)));
  const nearHalfTurn = squares[0].lt(4 * 0.02 ** 2).unsqueeze(-1); // w below 0.02: within 2.3° of a half turn
  return where(nearHalfTurn, robust, original).reshape([...m.shape.slice(0, -2), 4]);
}

/** The same rotation with w ≥ 0. */
function positive(q: Tensor): Tensor {
  return where(q.narrow(-1, 0, 1).lt(0), q.neg(), q);
}

/** Hamilton product, w ≥ 0. `[..., 4]`. */
export function quaternionMultiply(a: Tensor, b: Tensor): Tensor {
  const [aw, ax, ay, az] = a.unbind(-1);
  const [bw, bx, by, bz] = b.unbind(-1);
  const w = aw.mul(bw).sub(ax.mul(bx)).sub(ay.mul(by)).sub(az.mul(bz));
  const x = aw.mul(bx).add(ax.mul(bw)).add(ay.mul(bz)).sub(az.mul(by));
  const y = aw.mul(by).sub(ax.mul(bz)).add(ay.mul(bw)).add(az.mul(bx));
  const z = aw.mul(bz).add(ax.mul(by)).sub(ay.mul(bx)).add(az.mul(bw));
  return positive(stack([w, x, y, z], -1));
}

/** sin(θ/2)/θ, by its series near zero. */
const sincHalf = (angle: Tensor): Tensor =>
  where(angle.lt(1e-4), angle.square().div(-48).add(0.5), angle.div(2).sin().div(angle.clamp(1e-8, null)));

/** `[..., 3]` → `[..., 4]`. */
export function axisAngleToQuaternion(r: Tensor): Tensor {
  const angle = r.norm(-1, true);
  return cat([angle.div(2).cos(), r.mul(sincHalf(angle))], -1);
}

/** The rotation vector of angle below π. `[..., 4]` → `[..., 3]`. */
export function quaternionToAxisAngle(q0: Tensor): Tensor {
  const q = positive(q0);
  const v = q.narrow(-1, 1, 3);
  const length = v.norm(-1, true);
  const angle = length.atan2(q.narrow(-1, 0, 1)).mul(2);
  return v.div(sincHalf(angle));
}

export const axisAngleToMatrix = (r: Tensor): Tensor => quaternionToMatrix(axisAngleToQuaternion(r));
export const matrixToAxisAngle = (m: Tensor): Tensor => quaternionToAxisAngle(matrixToQuaternion(m));

/** Six numbers, two rows to be made orthonormal (arXiv:1812.07035, PyTorch3D's order) → rotation. `[..., 6]` → `[..., 3, 3]`. */
export function rotation6dToMatrix(d: Tensor): Tensor {
  const a = d.narrow(-1, 0, 3);
  const b = d.narrow(-1, 3, 3);
  const unit = (v: Tensor) => v.div(v.norm(-1, true).clamp(1e-12, null));
  const b1 = unit(a);
  const b2 = unit(b.sub(b1.mul(b).sum(-1, true).mul(b1)));
  return stack([b1, b2, b1.cross(b2)], -2);
}

/** The first two rows. `[..., 3, 3]` → `[..., 6]`. */
export const matrixToRotation6d = (m: Tensor): Tensor => m.narrow(-2, 0, 2).reshape([...m.shape.slice(0, -2), 6]);
