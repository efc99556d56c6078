/**
 * Writes src/ops.gen.ts: one typed function for each operator of operators.txt, from the schemas of the libtorch the addon is
 * built with. With `--check` writes nothing and exits 1 when the file differs (only on libtorch 1.13, whose schemas the file
 * holds; on another version it checks that every function's arguments still lead that version's schema).
 */
import { readFileSync, writeFileSync } from "node:fs";
import { native, torchVersion } from "../src/native.ts";

const here = (path: string) => new URL(path, import.meta.url);
const out = here("../src/ops.gen.ts");

/** What 1.13 lacks, as 2.4 declares it. */
const newer: Record<string, string> = {
  _fused_adamw_:
    "aten::_fused_adamw_(Tensor(a!)[] self, Tensor(b!)[] grads, Tensor(c!)[] exp_avgs, Tensor(d!)[] exp_avg_sqs, Tensor(e!)[] max_exp_avg_sqs, Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, float eps, bool amsgrad, bool maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> ()",
  scaled_dot_product_attention:
    "aten::scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0., bool is_causal=False, *, float? scale=None) -> Tensor",
};

interface Argument {
  name: string;
  type: string;
  optional: boolean;
}

const splitTop = (text: string): string[] => {
  const parts: string[] = [];
  let depth = 0;
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    if ("([".includes(text[i])) depth++;
    else if (")]".includes(text[i])) depth--;
    else if (text[i] === "," && depth === 0) {
      parts.push(text.slice(from, i).trim());
      from = i + 1;
    }
  }
  const last = text.slice(from).trim();
  return last ? [...parts, last] : parts;
};

function parse(schema: string): { args: Argument[]; result: string; inPlace: boolean } {
  const arrow = schema.lastIndexOf(" -> ");
  const inner = schema.slice(schema.indexOf("(") + 1, schema.lastIndexOf(")", arrow));
  const clean = (type: string) => type.replace(/\([a-z!|> *-]+\)/g, "").replace(/SymInt/g, "int");
  const args = splitTop(inner)
    .filter((a) => a !== "*")
    .map((a) => {
      const [declaration, initial] = a.split("=");
      const cut = declaration.trim().lastIndexOf(" ");
      const type = clean(declaration.slice(0, cut).trim());
      return { name: declaration.slice(cut + 1).trim(), type, optional: initial !== undefined || type.endsWith("?") };
    });
  return { args, result: clean(schema.slice(arrow + 4)).trim(), inPlace: /^Tensor\([a-z]!\) self/.test(inner) };
}

const tsType = (type: string): string => {
  if (type.endsWith("?")) return `${tsType(type.slice(0, -1))} | null`;
  const list = /^(.*)\[(\d*)\]$/.exec(type);
  if (list) {
    const element = tsType(list[1]);
    return `readonly ${element.includes(" ") ? `(${element})` : element}[]${list[2] ? ` | ${element}` : ""}`;
  }
  if (type === "Tensor") return "Tensor";
  if (type === "Scalar") return "Scalar";
  if (["int", "float", "ScalarType", "Layout", "MemoryFormat", "Generator"].includes(type)) return "number";
  if (type === "bool") return "boolean";
  if (type === "str" || type === "Device") return "string";
  throw new Error(`no TypeScript type for ${type}`);
};

const reserved = new Set(["self", "end", "in", "function", "default", "for", "var", "new"]);
const safe = (name: string) => (name !== "self" && reserved.has(name) ? `${name}_` : name);

const lines = readFileSync(here("operators.txt"), "utf8").split("\n");
const wanted = lines.map((l) => l.trim()).filter((l) => l && !l.startsWith("#"));
const chunks: string[] = [];
const problems: string[] = [];
for (const line of wanted) {
  const [full, , since] = line.split(" ");
  const [name, overload = ""] = full.split(".");
  const index = native.findOp(`aten::${name}`, overload);
  const live = index >= 0 ? native.schema(index) : undefined;
  if (live === undefined && !since) problems.push(`${full}: not in libtorch ${native.info().version}`);
  const schema = since ? newer[name] : live;
  if (!schema) continue;
  const { args, result, inPlace } = parse(schema);
  const id = overload ? `${name}_${overload}` : name;
  // TypeScript wants optional parameters last: before a required one they are given, if only as null.
  const lastRequired = args.findLastIndex((a) => !a.optional);
  const parameters = args.map((a, i) => `${safe(a.name)}${a.optional && i > lastRequired ? "?" : ""}: ${tsType(a.type)}`);
  const passed = args.map((a) => {
    const what = `"${name}(${a.name})"`;
    if (a.type === "Tensor") return `h(${safe(a.name)}, ${what})`;
    if (a.type === "Tensor?") return `hOptional(${safe(a.name)}, ${what})`;
    if (/^Tensor\??\[\]$/.test(a.type)) return `hList(${safe(a.name)}, ${what})`;
    return safe(a.name);
  });
  const call = (discard: boolean) => `native.call(op.${id}.index, ${[discard, ...passed].join(", ")})`;
  let body: string;
  let type: string;
  if (inPlace) [type, body] = ["Tensor", `(${call(true)}, self)`];
  else if (result === "()") [type, body] = ["void", `void ${call(true)}`];
  else if (result === "Tensor") [type, body] = ["Tensor", `wrap(${call(false)})`];
  else if (result === "Tensor[]") [type, body] = ["Tensor[]", `wrapList(${call(false)})`];
  else if (result === "bool") [type, body] = ["boolean", `${call(false)} as boolean`];
  else if (result === "Scalar") [type, body] = ["number", `Number(${call(false)})`];
  else throw new Error(`${full}: no wrapper for the result ${result}`);
  chunks.push(`/** \`${schema}\` */\nexport const ${id} = (${parameters.join(", ")}): ${type} =>\n  ${body};\n`);
  if (live && since === undefined && torchVersion[0] >= 2) {
    const file = readFileSync(out, "utf8");
    const committed = new RegExp(
      `\`(aten::${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}${overload ? `\\.${overload}` : ""}\\(.*)\` \\*/`,
    ).exec(file)?.[1];
    const before = committed ? parse(committed).args.map((a) => a.name) : [];
    if (
      before.join() !==
      args
        .slice(0, before.length)
        .map((a) => a.name)
        .join()
    )
      problems.push(`${full}: arguments differ: ${live}`);
  }
}
const table = wanted.map((line) => {
  const [name, overload = ""] = line.split(" ")[0].split(".");
  return `  ${overload ? `${name}_${overload}` : name}: new Operator("aten::${name}", "${overload}"),`;
});
const text = `// Generated by scripts/generate-ops.ts from operators.txt and libtorch's own schemas ("npm run generate"); do not edit.
/* eslint-disable */
import { native } from "./native.ts";
import { h, hList, hOptional, Operator, wrap, wrapList, type Scalar } from "./dispatch.ts";
import type { Tensor } from "./tensor.ts";

/** The operators by name; \`op.x.exists\` tells whether the loaded libtorch has one. */
export const op = {
${table.join("\n")}
};

${chunks.join("\n")}`;

if (problems.length > 0) {
  console.error(problems.join("\n"));
  process.exit(1);
}
if (torchVersion[0] >= 2)
  console.error(`libtorch ${native.info().version}: every operator's arguments agree; the file is written on 1.13 only`);
else if (process.argv.includes("--check")) {
  if (readFileSync(out, "utf8") !== text) {
    console.error('packages/torch/src/ops.gen.ts differs from what the generator writes: run "npm run generate" and commit');
    process.exit(1);
  }
} else writeFileSync(out, text);
