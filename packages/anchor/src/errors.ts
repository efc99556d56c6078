/** An error a user can act on: one sentence with the way out. `misuse` marks what was asked wrongly (exit code 2). */
export class AnchorError extends Error {
  readonly code: string;
  readonly misuse: boolean;
  constructor(code: string, message: string, options: ErrorOptions & { misuse?: boolean } = {}) {
    super(message, options);
    this.name = "AnchorError";
    this.code = code;
    this.misuse = options.misuse ?? false;
  }
}
