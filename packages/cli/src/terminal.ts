/** What commands print: data to stdout, progress with an ETA to stderr, errors in one sentence. */
import type { Progress } from "@make-your-anchor/anchor";

const clock = (seconds: number): string => {
  const s = Math.max(0, Math.round(seconds));
  return s >= 3600
    ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
    : s >= 60
      ? `${Math.floor(s / 60)} min ${s % 60} s`
      : `${s} s`;
};

/** A line on stderr that tells how far each stage is; on a terminal it is rewritten, else a new one comes every few seconds. */
export function progressLine(stream: NodeJS.WriteStream = process.stderr): { show: (p: Progress) => void; end: () => void } {
  let stage = "";
  let started = 0;
  let firstDone = 0;
  let last = 0;
  let open = false;
  const end = () => {
    if (open && stream.isTTY) stream.write("\n");
    open = false;
  };
  return {
    end,
    show(p) {
      const now = performance.now();
      if (p.stage !== stage) {
        end();
        stage = p.stage;
        started = now;
        firstDone = p.done;
        last = Number.NEGATIVE_INFINITY;
      }
      const finished = p.done >= p.total;
      if (now - last < (stream.isTTY ? 100 : 5000) && !finished) return;
      if (finished && last === Number.POSITIVE_INFINITY) return;
      last = finished ? Number.POSITIVE_INFINITY : now;
      const elapsed = (now - started) / 1000;
      const known = Number.isFinite(p.total) && p.total > 0;
      const rate = (p.done - firstDone) / elapsed;
      const eta = finished
        ? `done in ${clock(elapsed)}`
        : known && rate > 0 && elapsed > 1
          ? `${clock((p.total - p.done) / rate)} left`
          : "";
      const text = [
        `${p.stage}: ${known ? `${p.done}/${p.total}${p.unit ? ` ${p.unit}` : ""} (${Math.floor((100 * p.done) / p.total)} %)` : p.done}`,
        eta,
        p.note,
      ]
        .filter(Boolean)
        .join(", ");
      if (stream.isTTY) {
        stream.write(`\r${text}\x1b[K`);
        open = true;
        if (finished) end();
      } else stream.write(`${text}\n`);
    },
  };
}

export const print = (text: string): void => void process.stdout.write(`${text}\n`);
export const printJson = (value: unknown): void =>
  print(JSON.stringify(value, (_, v) => (typeof v === "number" && !Number.isFinite(v) ? null : v), 2));

/** How many frames' faces were painted or left alone, and where not all of the painted ones is shown, how much. */
export const toldFaces = (faces: Readonly<Record<string, number>>, strength: number | null): string =>
  `faces: ${Object.entries(faces)
    .map(([state, n]) => `${n} ${state}`)
    .join(", ")}${strength === null || strength === 1 ? "" : `; painted ones shown at ${Math.round(100 * strength)} %`}`;
