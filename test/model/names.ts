import { randomUUID } from 'node:crypto';
import { environmentOf } from './model.ts';
import type { Place } from './model.ts';
import type { Cast } from './posted.ts';

/** The kinds of the environments. */
export const DRIVERS = { local: 'local', host: 'ssh' } as const satisfies Record<Place, string>;

export const placeOf = (driver: string | null): Place => (driver === DRIVERS.host ? 'host' : 'local');

/** A lease as far as it takes to name it. */
export interface NameableLease {
  id: string;
  companyId: string;
  /** Of its environment. */
  driver: string | null;
  fencingToken: number;
}

/** Which ids in Postgres stand for which numbers of the model. Fresh ones a sequence. */
export class Names {
  readonly companies: readonly string[];
  readonly runs: readonly string[];
  readonly workspaces: readonly string[];
  readonly #leases = new Map<string, string>();

  constructor({ companies, runs, workspaces }: Cast) {
    [this.companies, this.runs, this.workspaces] = [ids(companies), ids(runs), ids(workspaces)];
  }

  /** Names leases that are new: by their environment, and the order in which they were made. */
  learn(leases: readonly NameableLease[]): void {
    for (const { id, companyId, driver } of leases.toSorted((one, other) => one.fencingToken - other.fencingToken)) {
      if (this.#leases.has(id)) continue;
      const environment = environmentOf(this.companies.indexOf(companyId), placeOf(driver));
      const ordinal = [...this.#leases.values()].filter((name) => name.startsWith(`${environment} #`)).length;
      this.#leases.set(id, `${environment} #${ordinal}`);
    }
  }

  /** The model's name of a lease. */
  lease(id: string): string {
    return this.#leases.get(id) ?? `a lease that nobody was given, ${id}`;
  }

  /** The id of a lease that the model has a name for. */
  leaseNamed(name: string): string {
    const found = [...this.#leases].find(([, known]) => known === name);
    if (found === undefined) throw new Error(`the model has a lease ${name} that Postgres never granted`);
    return found[0];
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
