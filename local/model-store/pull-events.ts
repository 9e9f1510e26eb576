/** What a pull tells while it goes on. */
export type PullEvent =
  /** What will be there: the model's name in the store and where it comes from. */
  | { type: "found"; name: string; source: string; commit?: string }
  /** All files are known. `doneBytes` were there already. */
  | { type: "planned"; files: number; sizeBytes: number; doneBytes: number }
  | { type: "progress"; file: string; doneBytes: number; sizeBytes: number }
  /** The hub or the network failed, and is asked again. */
  | { type: "retry"; why: string; afterMs: number }
  /** What had arrived of a file is of no use. */
  | { type: "startOver"; file: string; why: string }
  | { type: "pulled"; name: string; path: string; sizeBytes: number; unchanged: boolean };

export type TellPull = (event: PullEvent) => void;
