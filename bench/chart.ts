/** A line chart as SVG. */

export interface Chart {
  title: string;
  x: string;
  y: string;
  series: readonly { name: string; points: readonly (readonly [number, number])[] }[];
  /** Horizontal lines. */
  levels?: readonly { name: string; y: number }[];
}

const [width, height] = [720, 420];
const edge = { left: 64, right: 24, top: 44, bottom: 56 };
const colours = ["#1f6feb", "#d1571b", "#2a9d55", "#8250df"];
const escape = (s: string) => s.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** Round numbers over a range, about `count` of them. */
function ticks(from: number, to: number, count: number): number[] {
  const rough = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough)!;
  const out: number[] = [];
  for (let v = Math.ceil(from / step) * step; v <= to + 1e-9; v += step) out.push(Number(v.toPrecision(6)));
  return out;
}

export function lineChart({ title, x, y, series, levels = [] }: Chart): string {
  const xs = series.flatMap((s) => s.points.map(([v]) => v));
  const ys = [...series.flatMap((s) => s.points.map(([, v]) => v)), ...levels.map((l) => l.y)];
  const [x0, x1] = [0, Math.max(...xs) * 1.05];
  const pad = (Math.max(...ys) - Math.min(...ys)) * 0.12 || 1;
  const [y0, y1] = [Math.min(...ys) - pad, Math.max(...ys) + pad];
  const px = (v: number) => (edge.left + ((v - x0) / (x1 - x0)) * (width - edge.left - edge.right)).toFixed(1);
  const py = (v: number) => (height - edge.bottom - ((v - y0) / (y1 - y0)) * (height - edge.top - edge.bottom)).toFixed(1);
  const text = (at: string, s: string, more = "") => `<text ${at} ${more}>${escape(s)}</text>`;
  const parts: string[] = [];
  for (const v of ticks(y0, y1, 6)) {
    parts.push(`<line x1="${edge.left}" x2="${width - edge.right}" y1="${py(v)}" y2="${py(v)}" stroke="#e3e3e3"/>`);
    parts.push(text(`x="${edge.left - 8}" y="${Number(py(v)) + 4}"`, String(v), 'text-anchor="end"'));
  }
  for (const v of ticks(x0, x1, 8)) parts.push(text(`x="${px(v)}" y="${height - edge.bottom + 20}"`, String(v), 'text-anchor="middle"'));
  for (const l of levels) {
    parts.push(`<line x1="${edge.left}" x2="${width - edge.right}" y1="${py(l.y)}" y2="${py(l.y)}" stroke="#777" stroke-dasharray="5 4"/>`);
    parts.push(text(`x="${width - edge.right}" y="${Number(py(l.y)) - 6}"`, l.name, 'text-anchor="end" fill="#777"'));
  }
  series.forEach((s, k) => {
    const colour = colours[k % colours.length];
    parts.push(
      `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${s.points.map(([a, b]) => `${px(a)},${py(b)}`).join(" ")}"/>`,
    );
    for (const [a, b] of s.points) parts.push(`<circle cx="${px(a)}" cy="${py(b)}" r="3.5" fill="${colour}"/>`);
    parts.push(text(`x="${edge.left + 12}" y="${edge.top + 16 + 18 * k}"`, s.name, `fill="${colour}" font-weight="600"`));
  });
  parts.push(text(`x="${edge.left}" y="24"`, title, 'font-size="15" font-weight="600"'));
  parts.push(text(`x="${(edge.left + width - edge.right) / 2}" y="${height - 12}"`, x, 'text-anchor="middle"'));
  parts.push(
    text(
      `x="18" y="${(edge.top + height - edge.bottom) / 2}" transform="rotate(-90 18 ${(edge.top + height - edge.bottom) / 2})"`,
      y,
      'text-anchor="middle"',
    ),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" fill="#222">
<rect width="${width}" height="${height}" fill="#fff"/>
${parts.join("\n")}
</svg>
`;
}
