import { environmentNamed, foreignTo } from './model-messages.ts';
import type { Message, Start } from './model-messages.ts';
import type { Model, ModelOutcome } from './model.ts';
import type { Posted, Report } from './posted.ts';

/** What a sequence has sent so far, and which of it is to be tried again. */
export class Post {
  readonly companies: number;
  readonly #sent: Message[] = [];
  readonly #waiting = new Map<number, Start>();

  constructor(companies: number) {
    this.companies = companies;
  }

  /** The messages as they are sent; one about what is not there yet is left out. */
  send(posted: readonly Posted[], model: Model): Message[] {
    const sent: Message[] = [];
    for (const post of posted) {
      const message = this.#written(post, model);
      if (message === undefined || isTiedWithOneOf(sent, message)) continue;
      this.#sent.push(message);
      // Each delivery is one of its own, as it is in a queue.
      sent.push({ ...message });
    }
    return sent;
  }

  #written(post: Posted, model: Model): Message | undefined {
    if ('again' in post) return this.#sent[post.again % this.#sent.length];
    if ('report' in post) return this.#reported(post, model);
    return this.#addressed(post, model);
  }

  #reported({ report, ofLatest }: { report: Report; ofLatest: number }, model: Model): Message | undefined {
    const isOfRun = report.kind === 'renew' || report.kind === 'finish';
    const leases = model.leases.filter(({ byDriver, run }) => (isOfRun ? run !== null : byDriver));
    const lease = leases.at(-1 - (ofLatest % leases.length));
    if (lease === undefined) return undefined;
    const { company, id, run, ending } = lease;
    if (isOfRun) return { company, run: run!, ...report };
    // A driver is asked to clean up only after a lease that waits for it.
    const isTooEarly = ending === null && (report.kind === 'cleaned-up' || report.kind === 'not-cleaned-up');
    if (isTooEarly) return undefined;
    if (report.kind !== 'release') return { company, lease: id, ...report };
    return { kind: 'release', company: report.astray ? foreignTo(company, this.companies) : company, lease: id };
  }

  /** An environment that was not made yet has no id that a message could name. */
  #addressed(message: Message, model: Model): Message {
    if (message.kind !== 'start' || message.named === undefined) return message;
    const environment = environmentNamed(message, this.companies);
    return environment && model.environments.has(environment) ? message : { ...message, named: 'unknown' };
  }

  noteOutcomes(messages: readonly Message[], outcomes: readonly ModelOutcome[]): void {
    messages.forEach((message, position) => {
      if (message.kind !== 'start') return;
      const { kind } = outcomes[position]!;
      if (kind === 'waiting' || kind === 'acquiring') this.#waiting.set(message.run, message);
      else this.#waiting.delete(message.run);
    });
  }

  /** The nth start whose last delivery granted nothing yet, counted round. */
  waiting(nth: number): Start | undefined {
    return [...this.#waiting.values()][nth % this.#waiting.size];
  }
}

/** Leases that become active in one statement get their fencing tokens in any order. */
const isTiedWithOneOf = (sent: readonly Message[], message: Message): boolean =>
  message.kind === 'acquired' && sent.some((other) => other.kind === 'acquired' && other.lease !== message.lease);
