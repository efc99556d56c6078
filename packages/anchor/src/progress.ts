/** How long work reports itself. */
export interface Progress {
  /** What is being done, like "fitting the body". */
  stage: string;
  done: number;
  total: number;
  /** What is counted, where it is no plain number: "MiB". */
  unit?: string;
  /** A figure worth seeing, like the loss. */
  note?: string;
}

export interface WorkOptions {
  onProgress?: (p: Progress) => void;
  signal?: AbortSignal;
}
