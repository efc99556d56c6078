/** How long work reports itself. */
export interface Progress {
  /** What is being done, like "fitting the body". */
  stage: string;
  done: number;
  total: number;
  /** A figure worth seeing, like the loss. */
  note?: string;
}

export interface WorkOptions {
  onProgress?: (p: Progress) => void;
  signal?: AbortSignal;
}
