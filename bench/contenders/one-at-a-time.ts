/** Checks that a queue serializes the jobs of each company. */
export class OneAtATime {
  readonly violations: string[] = [];
  readonly #inFlight = new Set<string>();

  /** Runs a job, and records a violation when another job of its company is in flight. */
  async during(companyId: string, work: () => Promise<void>): Promise<void> {
    if (this.#inFlight.has(companyId))
      this.violations.push(`two jobs of company ${companyId} were in flight concurrently`);
    this.#inFlight.add(companyId);
    try {
      await work();
    } finally {
      this.#inFlight.delete(companyId);
    }
  }
}
