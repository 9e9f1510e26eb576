import { EngineError } from "../engine-error.ts";

const pageBytes = 65_536;
/** What a 32-bit address reaches, less a page so that an end is an address too. */
const maxPages = 65_535;
/** A cache line, so that no vector of a row straddles two. */
const alignment = 64;

/**
 * A rank's linear memory: weights, activations and keys and values all lie in it. It only grows, and
 * what was given out stays where it is (a shared memory's views outlive its growth).
 */
export class WasmMemory {
  readonly memory = new WebAssembly.Memory({ initial: 1, maximum: maxPages, shared: true });
  /** Address 0 stays unused. */
  #end = alignment;

  /** The address of so many zeroed bytes. Throws EngineError "unsupported_model" past 4 GiB. */
  allocate(bytes: number): number {
    const address = this.#end;
    const end = address + Math.ceil(bytes / alignment) * alignment;
    const missing = Math.ceil(end / pageBytes) - this.memory.buffer.byteLength / pageBytes;
    if (end > maxPages * pageBytes || (missing > 0 && !this.#grow(missing))) {
      const gib = (end / 2 ** 30).toFixed(1);
      throw new EngineError(
        "unsupported_model",
        `A rank's weights and cache would take more than ${gib} GiB, and a rank has 4 GiB at most, ` +
          "if the machine has them: use more ranks, or a smaller cache.",
      );
    }
    this.#end = end;
    return address;
  }

  floats(length: number): Float32Array {
    const address = this.allocate(length * 4);
    return new Float32Array(this.memory.buffer, address, length);
  }

  integers(length: number): Int32Array {
    const address = this.allocate(length * 4);
    return new Int32Array(this.memory.buffer, address, length);
  }

  #grow(pages: number): boolean {
    try {
      this.memory.grow(pages);
      return true;
    } catch {
      return false;
    }
  }
}
