/** Keeping to one person through a clip in which others may come and go. */
import {
  cosine,
  followFace,
  lastSeenOf,
  smoothly,
  type Detection,
  type FaceLandmarks,
  type Followed,
  type LastSeen,
  type PersonLandmarks,
} from "@make-your-anchor/face";

/** A body without a face (turned away, covered) is the person's where its head is this near to where theirs was, in heights of the face. */
const bodyWithin = 1.2;

export class FollowedPerson {
  private readonly reference: ArrayLike<number> | undefined;
  private at: Followed | undefined;

  /** @param reference descriptor of the person's face, where known */
  constructor(reference?: ArrayLike<number>) {
    this.reference = reference;
  }
  /** The person in the next frame; undefined where they are not to be seen. `first` chooses among the people of the first frame with anyone. */
  next(d: Detection, first: (d: Detection) => PersonLandmarks | undefined): PersonLandmarks | undefined {
    if (!this.at) {
      const found = first(d);
      if (found?.face) this.at = { last: lastSeenOf(found.face), lost: 0 };
      return found;
    }
    const face = followFace(
      d.people.flatMap((p) => p.face ?? []),
      this.at,
      this.reference,
    );
    if (face) {
      this.at = { last: lastSeenOf(face), lost: 0 };
      return d.people.find((p) => p.face === face);
    }
    const { last } = this.at;
    this.at.lost++;
    // The hands and shoulders of somebody looking away are theirs still.
    return d.people.find((p) => !p.face && p.body[0] && Math.hypot(p.body[0].x - last.x, p.body[0].y - last.y) < bodyWithin * last.size);
  }
}

/** Whether a frame leaves no doubt who is who: one face, where the person's was seen to be. */
export function isPlain(d: Detection, seenAt: readonly LastSeen[]): boolean {
  const faces: FaceLandmarks[] = d.people.flatMap((p) => p.face ?? []);
  if (faces.length === 0) return true;
  if (faces.length > 1) return false;
  const here = lastSeenOf(faces[0]);
  // The detector's boxes grow with the picture's aspect, by half at 16:9: sizes tell little.
  return seenAt.some((s) => Math.hypot(here.x - s.x, here.y - s.y) < smoothly * here.size && Math.abs(Math.log(here.size / s.size)) < 0.5);
}

/** The descriptor most like all the others: one that a blurred or turned look does not decide. */
export function typicalDescriptor(all: readonly ArrayLike<number>[]): ArrayLike<number> | undefined {
  const liking = all.map((a) => all.reduce((sum, b) => sum + cosine(a, b), 0));
  return all[liking.indexOf(Math.max(...liking))];
}
