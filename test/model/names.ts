import { randomUUID } from 'node:crypto';
import type { Cast } from './steps.ts';

/** A lease as far as it takes to name it. */
export interface NameableLease {
  id: string;
  companyId: string;
  fencingToken: number;
}

/** Which ids in Postgres stand for which numbers of the model. Fresh ones a sequence. */
export class Names {
  readonly companies: readonly string[];
  readonly runs: readonly string[];
  readonly workspaces: readonly string[];
  readonly #leases = new Map<string, { name: string; fencingToken: number }>();

  constructor({ companies, runs, workspaces }: Cast) {
    [this.companies, this.runs, this.workspaces] = [ids(companies), ids(runs), ids(workspaces)];
  }

  /** Names leases that are new: by their company, and the order in which it granted them. */
  learn(leases: readonly NameableLease[]): void {
    for (const { id, companyId, fencingToken } of leases.toSorted(
      (one, other) => one.fencingToken - other.fencingToken,
    )) {
      if (this.#leases.has(id)) continue;
      const company = this.companies.indexOf(companyId);
      const ordinal = [...this.#leases.values()].filter(({ name }) => name.startsWith(`${company}.`)).length;
      this.#leases.set(id, { name: `${company}.${ordinal}`, fencingToken });
    }
  }

  /** The model's name of a lease. */
  lease(id: string): string {
    return this.#leases.get(id)?.name ?? `a lease that nobody was given, ${id}`;
  }

  /** The id and the fencing token of a lease that the model has a name for. */
  leaseNamed(name: string): { id: string; fencingToken: number } {
    const found = [...this.#leases].find(([, known]) => known.name === name);
    if (found === undefined) throw new Error(`the model has a lease ${name} that Postgres never granted`);
    return { id: found[0], fencingToken: found[1].fencingToken };
  }

  /** The model's number of a run or workspace. */
  run(id: string | null): number | null {
    return id === null ? null : this.runs.indexOf(id);
  }

  workspace(id: string | null): number | null {
    return id === null ? null : this.workspaces.indexOf(id);
  }
}

const ids = (count: number): string[] => Array.from({ length: count }, () => randomUUID());
