/** How many calls of drivers may be under way at once, on one replica. */
export interface DriverSlotLimits {
  total: number;
  perEnvironment: number;
}

/**
 * Bounds what drivers do at once. Nobody waits here: a job that gets no slot is put back, so that jobs of a slow host
 * never hold the places of others (isolated).
 */
export class DriverSlots {
  readonly #limits: DriverSlotLimits;
  readonly #takenByEnvironment = new Map<string, number>();
  #taken = 0;

  constructor(limits: DriverSlotLimits) {
    this.#limits = limits;
  }

  /** Takes a slot and returns how to give it back; undefined when none is free. */
  take(environmentId: string): (() => void) | undefined {
    const taken = this.#takenByEnvironment.get(environmentId) ?? 0;
    if (this.#taken >= this.#limits.total || taken >= this.#limits.perEnvironment) return undefined;
    this.#taken += 1;
    this.#takenByEnvironment.set(environmentId, taken + 1);
    return () => this.#giveBack(environmentId);
  }

  #giveBack(environmentId: string): void {
    this.#taken -= 1;
    const left = this.#takenByEnvironment.get(environmentId)! - 1;
    if (left === 0) this.#takenByEnvironment.delete(environmentId);
    else this.#takenByEnvironment.set(environmentId, left);
  }
}
