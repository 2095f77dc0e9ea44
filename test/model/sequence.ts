import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { expect } from 'vitest';
import { audit } from '../support/audit.ts';
import type { TestDatabase } from '../support/database.ts';
import { actOnModel, actOnPostgres } from './actions.ts';
import type { Transaction } from './actions.ts';
import { canExpire, isOrphaned, sweep } from './model-leases.ts';
import { deliver } from './model-messages.ts';
import type { Message, Start } from './model-messages.ts';
import { makeEnvironment, setEnvironmentStatus, writeEnd } from './model-service.ts';
import { newModel } from './model.ts';
import type { Model, ModelOutcome } from './model.ts';
import { nameOutcomes } from './named-outcome.ts';
import { Names } from './names.ts';
import { PostgresSide } from './postgres-side.ts';
import { stateOfModel, stateOfPostgres } from './recorded-state.ts';
import { UNIT_SECONDS, homeOf } from './steps.ts';
import type { Action, Cast, Posted, Step } from './steps.ts';
import * as surroundings from './surroundings.ts';

/** A sequence of steps on both sides, which must come to the same after each of them. */
export class Sequence {
  readonly #cast: Cast;
  readonly #names: Names;
  readonly #postgres: PostgresSide;
  readonly #startedAt = performance.now();
  #model = newModel();
  /** Everything that was sent so far. */
  readonly #sent: Message[] = [];
  /** Starts that have come out as waiting, and nothing else since, by run. */
  readonly #waiting = new Map<number, Start>();

  constructor(database: TestDatabase, cast: Cast) {
    this.#cast = cast;
    this.#names = new Names(cast);
    this.#postgres = new PostgresSide(database, this.#names);
  }

  async run(steps: readonly Step[]): Promise<void> {
    await surroundings.clear(this.#postgres.sql);
    for (const step of steps) await this.#take(step);
    await this.#sweep();
    this.#compare(await this.#state(), stateOfModel(this.#model));
    const violations = await audit(this.#postgres.sql, { companyIds: this.#names.companies });
    this.#compare(violations, []);
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
      case 'race':
        return this.#race(step.actions);
      case 'retry':
        return this.#retry(step.waiting);
      case 'poison':
        return this.#poison(this.#posted(step.messages), step.poisonAt);
      case 'race with sweep':
        return this.#raceWithSweep(this.#posted([step.message]));
      case 'sweep':
        return this.#sweep();
      case 'pass':
        this.#model.now += step.seconds;
        return surroundings.letTimePass(sql, step.seconds);
      case 'write end': {
        const company = homeOf(step.run, this.#cast);
        writeEnd(this.#model, step.run, company, step.status);
        return surroundings.writeEnd(sql, this.#names, step.run, company, step.status);
      }
      case 'make environment':
        makeEnvironment(this.#model, step.company, step.place);
        return this.#postgres.makeEnvironment(step.company, step.place);
      case 'set environment': {
        setEnvironmentStatus(this.#model, step);
        const id = await this.#postgres.environmentId(step.company, step.place);
        if (id !== undefined) await service.update(id, { status: step.status });
        return;
      }
      case 'set company':
        if (this.#model.companies.has(step.company)) this.#model.companies.set(step.company, step.status);
        return surroundings.setCompanyStatus(sql, this.#names.companies[step.company]!, step.status);
    }
  }

  /** Carries out transactions at once: they must come to the same as they do one after the other in some order. */
  async #race(actions: readonly Action[]): Promise<void> {
    const transactions = actions.flatMap((action) => this.#found(action) ?? []);
    const settled = await Promise.allSettled(transactions.map((each) => actOnPostgres(this.#postgres, each)));
    const raws = settled.map((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    });
    const outcomes = nameOutcomes(raws.flat(), this.#names);
    const orders = permutations(transactions.map((_, position) => position));
    await this.#adopt(
      outcomes,
      orders.map((order) => (model) => {
        const expected: ModelOutcome[][] = [];
        for (const position of order) {
          expected[position] = actOnModel(model, transactions[position]!, this.#cast.companies);
        }
        return expected.flat();
      }),
    );
    const messages = transactions.flatMap((each) => (each.step === 'deliver' ? each.messages : [undefined]));
    messages.forEach((message, position) => this.#noteWait(message, outcomes[position]!));
  }

  /** Goes on with the alternative that Postgres agrees with. */
  async #adopt(actual: unknown, alternatives: readonly ((draft: Model) => unknown)[]): Promise<void> {
    const tried = alternatives.map((alternative) => {
      const model = structuredClone(this.#model);
      return { model, outcome: alternative(model) };
    });
    const agreeing = tried.filter(({ outcome }) => isDeepStrictEqual(outcome, actual));
    if (agreeing.length === 0) this.#compare(actual, tried[0]!.outcome);
    const [first, ...others] = agreeing.map(({ model }) => ({ model, state: stateOfModel(model) }));
    this.#model = first!.model;
    if (others.every(({ state }) => isDeepStrictEqual(state, first!.state))) return;
    const state = await this.#state();
    const found = [first!, ...others].find((candidate) => isDeepStrictEqual(candidate.state, state));
    if (found === undefined) this.#compare(state, first!.state);
    this.#model = found!.model;
  }

  async #retry(nth: number): Promise<void> {
    const start = [...this.#waiting.values()][nth % this.#waiting.size];
    if (start) await this.#race([{ step: 'deliver', messages: [start] }]);
  }

  async #poison(messages: readonly Message[], poisonAt: number): Promise<void> {
    const at = Math.min(poisonAt, messages.length);
    const outcomes = nameOutcomes(await this.#postgres.deliverWithPoison(messages, at), this.#names);
    const expected = messages.flatMap((message) => deliver(this.#model, [message], this.#cast.companies));
    this.#compare(outcomes, expected.toSpliced(at, 0, { kind: 'failed' }));
    messages.forEach((message, position) => this.#noteWait(message, expected[position]!));
  }

  /**
   * The sweep leaves alone whatever is locked, so that each lease is swept either before the message is carried out or
   * after it.
   */
  async #raceWithSweep([message]: readonly Message[]): Promise<void> {
    if (message === undefined) return;
    const [swept, delivered] = await Promise.allSettled([this.#postgres.sweep(), this.#postgres.deliver([message])]);
    if (swept.status === 'rejected') throw swept.reason;
    if (delivered.status === 'rejected') throw delivered.reason;
    this.#compare(swept.value.failed, 0);
    await this.#postgres.sweep();
    const touched = this.#model.leases
      .filter((lease) => canExpire(this.#model, lease) || isOrphaned(this.#model, lease))
      .filter(({ run, workspace }) => run === message.run || workspace !== null)
      .map(({ id }) => id);
    const outcomes = nameOutcomes(delivered.value, this.#names);
    await this.#adopt(
      outcomes,
      subsets(touched).map((before) => (model) => {
        sweep(
          model,
          model.leases.filter(({ id }) => before.includes(id)),
        );
        const expected = deliver(model, [message], this.#cast.companies);
        sweep(model);
        return expected;
      }),
    );
    this.#noteWait(message, outcomes[0]!);
  }

  async #sweep(): Promise<void> {
    const swept = await this.#postgres.sweep();
    this.#compare(swept, { ...sweep(this.#model), failed: 0 });
  }

  /** The action with what it is about; undefined when there is no such thing yet. */
  #found(action: Action): Transaction | undefined {
    switch (action.step) {
      case 'deliver': {
        const messages = this.#posted(action.messages);
        return messages.length === 0 ? undefined : { step: 'deliver', messages };
      }
      case 'release':
      case 'assert current': {
        const { leases } = this.#model;
        const lease = leases[action.lease % leases.length]?.id;
        return lease === undefined ? undefined : { ...action, lease };
      }
      case 'acquire':
      case 'release run':
        return action;
    }
  }

  /** The messages as they are sent; one that repeats an earlier one is left out as long as there is none. */
  #posted(posted: readonly Posted[]): Message[] {
    return posted.flatMap((post) => {
      const message = 'again' in post ? this.#sent[post.again % this.#sent.length] : post;
      if (message === undefined) return [];
      this.#sent.push(message);
      // Each delivery is one of its own, as it is in a queue.
      return [{ ...message }];
    });
  }

  #noteWait(message: Message | undefined, outcome: ModelOutcome): void {
    if (message?.kind !== 'start') return;
    if (outcome.kind === 'waiting') this.#waiting.set(message.run, message);
    else this.#waiting.delete(message.run);
  }

  #state() {
    return stateOfPostgres(this.#postgres.sql, this.#names);
  }

  /** A sequence that took so long that real time could matter is not judged. */
  #compare(actual: unknown, expected: unknown): void {
    fc.pre(performance.now() - this.#startedAt < UNIT_SECONDS * 1_000);
    expect(actual).toEqual(expected);
  }
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, position) => permutations(items.toSpliced(position, 1)).map((rest) => [item, ...rest]));
}

function subsets<T>(items: readonly T[]): T[][] {
  return items.reduce<T[][]>((sets, item) => [...sets, ...sets.map((set) => [...set, item])], [[]]);
}
