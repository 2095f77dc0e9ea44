import { deepStrictEqual } from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { pre } from 'fast-check';
import { audit } from '../../testing/audit/invariants.ts';
import type { TestDatabase } from '../support/database.ts';
import { resultOf } from './model-drivers.ts';
import { deliver, leasesOf } from './model-messages.ts';
import type { Message } from './model-messages.ts';
import { makeEnvironment, setEnvironmentStatus, writeEnd } from './model-service.ts';
import { isDue, sweep } from './model-sweep.ts';
import { newModel } from './model.ts';
import type { Model, ModelLease, ModelOutcome } from './model.ts';
import { nameOutcomes } from './named-outcome.ts';
import { Names } from './names.ts';
import { interleavings, subsets } from './combinations.ts';
import { SentMessages } from './sent-messages.ts';
import type { Population } from './planned-messages.ts';
import { PostgresSide } from './postgres-side.ts';
import type { Raw } from './postgres-side.ts';
import { stateOfModel, stateOfPostgres } from './recorded-state.ts';
import { UNIT_SECONDS } from './steps.ts';
import type { Action, Step } from './steps.ts';
import * as externalWrites from './external-writes.ts';
import { transactionsOf, partsOf } from './transactions.ts';

/** A sequence of steps on both sides, whose outcomes and final states must be equal. */
export class Sequence {
  readonly #population: Population;
  readonly #names: Names;
  readonly #postgres: PostgresSide;
  readonly #sent: SentMessages;
  readonly #startedAt = performance.now();
  #model = newModel();

  constructor(database: TestDatabase, population: Population) {
    this.#population = population;
    this.#names = new Names(population);
    this.#postgres = new PostgresSide(database, this.#names);
    this.#sent = new SentMessages(population.companies);
  }

  async run(steps: readonly Step[]): Promise<void> {
    await externalWrites.clear(this.#postgres.sql);
    if (this.#population.onHosts) await this.#makeHosts();
    for (const step of steps) await this.#take(step);
    await this.#sweep();
    this.#compare(await this.#state(), stateOfModel(this.#model));
    this.#compare(await this.#violations(), []);
  }

  async #makeHosts(): Promise<void> {
    for (const company of this.#names.companies.keys()) {
      await this.#take({ step: 'make environment', company, location: 'host' });
    }
  }

  /** Violations, except that the end of a lease with a second cleanup is recorded twice. */
  async #violations() {
    const endedTwice = this.#model.leases
      .filter((lease) => lease.endedTwice)
      .map(({ id }) => this.#names.leaseNamed(id));
    const violations = await audit(this.#postgres.sql, { companyIds: this.#names.companies });
    return violations.filter(
      ({ invariant, detail }) =>
        invariant !== 'always-audited' || !endedTwice.some((id) => detail.startsWith(`lease ${id} `)),
    );
  }

  async #take(step: Step): Promise<void> {
    const { sql, service } = this.#postgres;
    switch (step.step) {
      case 'deliver':
      case 'acquire':
      case 'release':
      case 'release run':
      case 'assert current':
        return this.#race([step]);
      case 'deliver in sequence':
        for (const message of step.messages) await this.#race([{ step: 'deliver', messages: [message] }]);
        return;
      case 'race':
        return this.#race(step.actions);
      case 'retry': {
        const start = this.#sent.waiting(step.waiting);
        return start && this.#race([{ step: 'deliver', messages: [start] }]);
      }
      case 'poison':
        return this.#poison(this.#sent.send(step.messages, this.#model), step.poisonAt);
      case 'race with sweep':
        await this.#pass(step.after);
        return this.#raceWithSweep(this.#sent.send([step.message], this.#model));
      case 'sweep':
        return this.#sweep();
      case 'pass':
        return this.#pass(step.seconds);
      case 'write end': {
        const { leases } = this.#model;
        const run = leases[step.lease % leases.length]?.run ?? undefined;
        if (run === undefined) return;
        writeEnd(this.#model, run, step.status);
        return externalWrites.writeEnd(sql, this.#names.runs[run]!, step.status);
      }
      case 'make environment':
        makeEnvironment(this.#model, step.company, step.location);
        return this.#postgres.makeEnvironment(step.company, step.location);
      case 'set environment': {
        setEnvironmentStatus(this.#model, step);
        const id = await this.#postgres.environmentId(step.company, step.location);
        if (id !== undefined) await service.update(id, { status: step.status });
        return;
      }
      case 'enable environments':
        this.#model.environmentsEnabled = step.enabled;
        this.#postgres.environmentsEnabled = step.enabled;
        return;
      case 'set company':
        if (this.#model.companies.has(step.company)) this.#model.companies.set(step.company, step.status);
        return externalWrites.setCompanyStatus(sql, this.#names.companies[step.company]!, step.status);
    }
  }

  #pass(seconds: number): Promise<void> {
    this.#model.now += seconds;
    return externalWrites.letTimePass(this.#postgres.sql, seconds);
  }

  /** Runs actions concurrently: their outcome must equal that of some serial order. */
  async #race(actions: readonly Action[]): Promise<void> {
    const transactions = transactionsOf(actions, this.#model, this.#sent);
    const settled = await Promise.allSettled(transactions.map((each) => each.onPostgres(this.#postgres)));
    const raws = valuesOf(settled);
    const outcomes = nameOutcomes(raws, this.#names);
    const parts = transactions.map((each, transaction) =>
      each.onModel(raws[transaction]!).map((part) => ({ transaction, ...part })),
    );
    await this.#adopt(
      outcomes,
      interleavings(parts).map((order) => (model) => {
        const expected: ModelOutcome[][] = transactions.map(() => []);
        for (const { transaction, positions, apply } of order) {
          apply(model).forEach((outcome, index) => (expected[transaction]![positions[index]!] = outcome));
        }
        return expected;
      }),
    );
    transactions.forEach(({ messages }, position) => this.#sent.noteOutcomes(messages, outcomes[position]!));
  }

  /**
   * The sweep skips locked leases, so each due lease is swept before the message is applied or after it. A heartbeat, and the
   * report of an acquisition that locks no pending lease, read their result last and may see a sweep in between; a start that
   * continues a pending acquisition has read it first, and may not see the sweep.
   */
  async #raceWithSweep([message]: readonly Message[]): Promise<void> {
    if (message === undefined) return;
    const settled = await Promise.allSettled([this.#postgres.deliver([message]), this.#postgres.sweep()] as const);
    const [delivered, swept] = [valueOf(settled[0]), valueOf(settled[1])];
    this.#compare(swept.failed, 0);
    await this.#postgres.sweep();
    const outcomes = nameOutcomes([delivered], this.#names);
    const due = this.#model.leases.filter((lease) => isDue(this.#model, lease) && concerns(message, lease));
    const sweeps = subsets(due.map(({ id }) => id));
    const orders = sweeps.flatMap((early) =>
      (readsResultLast(message, this.#model) ? sweeps : [[]]).map((late) => (model: Model) => {
        sweep(model, early);
        const [outcome] = deliver(model, [message], this.#population.companies);
        sweep(model, late);
        const result = resultReadLast(model, message, outcome!);
        sweep(model);
        return [[result]];
      }),
    );
    const sweptUnseen = (model: Model) => {
      const outcome = deliver(structuredClone(model), [message], this.#population.companies);
      sweep(model);
      return [outcome];
    };
    await this.#adopt(outcomes, message.kind === 'start' ? [...orders, sweptUnseen] : orders);
    this.#sent.noteOutcomes([message], outcomes[0]!);
  }

  /** Continues with the alternative that Postgres agrees with. */
  async #adopt(actual: unknown, alternatives: readonly ((draft: Model) => unknown)[]): Promise<void> {
    const tried = alternatives.map((alternative) => {
      const model = structuredClone(this.#model);
      return { model, outcome: alternative(model) };
    });
    const agreeing = tried.filter(({ outcome }) => isDeepStrictEqual(outcome, actual));
    if (agreeing.length === 0) this.#compare(actual, tried[0]!.outcome);
    const candidates = agreeing.map(({ model }) => ({ model, state: stateOfModel(model) }));
    const first = candidates[0]!;
    this.#model = first.model;
    if (candidates.every(({ state }) => isDeepStrictEqual(state, first.state))) return;
    const state = await this.#state();
    const found = candidates.find((candidate) => isDeepStrictEqual(candidate.state, state));
    if (found === undefined) this.#compare(state, first.state);
    else this.#model = found.model;
  }

  /** A batch that Postgres rejects because of one message is applied in parts without it. */
  async #poison(messages: readonly Message[], poisonAt: number): Promise<void> {
    const at = Math.min(poisonAt, messages.length);
    const raws = await this.#postgres.deliverWithPoison(messages, at);
    const [outcomes] = nameOutcomes([raws], this.#names);
    const poisoned = [...messages.slice(0, at), 'poison' as const, ...messages.slice(at)];
    const expected = this.#deliverInParts(poisoned, raws);
    this.#compare(outcomes, expected);
    this.#sent.noteOutcomes(messages, expected.toSpliced(at, 1));
  }

  /** Applies messages of which one cannot be stored: the batch is bisected until that one is isolated. */
  #deliverInParts(batch: readonly (Message | 'poison')[], raws: readonly Raw[]): ModelOutcome[] {
    const messages = batch.filter((message) => message !== 'poison');
    if (messages.length === batch.length) {
      const outcomes: ModelOutcome[] = [];
      for (const positions of partsOf(raws)) {
        const part = positions.map((position) => messages[position]!);
        deliver(this.#model, part, this.#population.companies).forEach(
          (outcome, index) => (outcomes[positions[index]!] = outcome),
        );
      }
      return outcomes;
    }
    if (batch.length === 1) return [{ kind: 'failed' }];
    const middle = Math.ceil(batch.length / 2);
    return [
      ...this.#deliverInParts(batch.slice(0, middle), raws.slice(0, middle)),
      ...this.#deliverInParts(batch.slice(middle), raws.slice(middle)),
    ];
  }

  async #sweep(): Promise<void> {
    const swept = await this.#postgres.sweep();
    this.#compare(swept, { ...sweep(this.#model), failed: 0 });
  }

  #state() {
    return stateOfPostgres(this.#postgres.sql, this.#names);
  }

  /** Discards a sequence that took so long that real time could matter. */
  #compare(actual: unknown, expected: unknown): void {
    pre(performance.now() - this.#startedAt < UNIT_SECONDS * 1_000);
    deepStrictEqual(actual, expected);
  }
}

/** The value of a settled promise. Reads after all have settled, so that nothing runs on into the next sequence. */
function valueOf<T>(settled: PromiseSettledResult<T>): T {
  if (settled.status === 'rejected') throw settled.reason;
  return settled.value;
}

const valuesOf = <T>(settled: readonly PromiseSettledResult<T>[]): T[] => settled.map((each) => valueOf(each));

function readsResultLast(message: Message, model: Model): boolean {
  if (message.kind === 'renew') return true;
  if (message.kind !== 'acquired' && message.kind !== 'not-acquired') return false;
  return model.leases.find(({ id }) => id === message.lease)?.status !== 'pending';
}

/** The outcome of a message that reads its result after it has written. */
function resultReadLast(model: Model, message: Message, outcome: ModelOutcome): ModelOutcome {
  if (message.kind === 'renew' && outcome.kind === 'leases') return leasesOf(model, message.run);
  if (message.kind === 'acquired')
    return resultOf(
      model,
      model.leases.find(({ id }) => id === message.lease)!,
    );
  if (message.kind !== 'not-acquired' || outcome.kind !== 'status') return outcome;
  return { ...outcome, status: model.leases.find(({ id }) => id === outcome.lease)!.status };
}

/** Whether a sweep of the lease can affect the message. */
function concerns(message: Message, { id, company, run, workspace }: ModelLease): boolean {
  if ('lease' in message) return id === message.lease;
  const isOnWorkspace = message.kind === 'start' && workspace === message.workspace;
  return run === message.run || (company === message.company && isOnWorkspace);
}
