/** Errors of the library: each has a `code` to branch on and a text that says what, where, expected, got and the way out. */

export class TorchError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A tensor whose shape is not what the callee needs. */
export class ShapeError extends TorchError {
  constructor(what: string, expected: readonly (number | string)[], actual: readonly number[]) {
    super("SHAPE_MISMATCH", `${what}: expected [${expected.join(", ")}], got [${actual.join(", ")}]`);
  }
}

/** Weights that do not fit a model: every missing, unexpected and misshapen key in one error. */
export class StateDictError extends TorchError {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshapen: readonly string[];
  constructor(what: string, missing: readonly string[], unexpected: readonly string[], misshapen: readonly string[]) {
    const part = (title: string, keys: readonly string[]) =>
      keys.length === 0 ? "" : `\n  ${title} (${keys.length}): ${keys.slice(0, 8).join(", ")}${keys.length > 8 ? ", …" : ""}`;
    super(
      "STATE_DICT",
      `${what}: the weights do not fit the model.${part("missing", missing)}${part("unexpected", unexpected)}${part("wrong shape", misshapen)}`,
    );
    this.missing = missing;
    this.unexpected = unexpected;
    this.misshapen = misshapen;
  }
}
