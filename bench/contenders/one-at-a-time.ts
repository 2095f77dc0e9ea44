/** Watches over jobs that a queue is to hand out one at a time for each company. */
export class OneAtATime {
  readonly violations: string[] = [];
  readonly #underWay = new Set<string>();

  /** Does the work of one company's job, and notes when another one of the company is under way. */
  async during(companyId: string, work: () => Promise<void>): Promise<void> {
    if (this.#underWay.has(companyId)) this.violations.push(`two jobs of company ${companyId} were under way at once`);
    this.#underWay.add(companyId);
    try {
      await work();
    } finally {
      this.#underWay.delete(companyId);
    }
  }
}
