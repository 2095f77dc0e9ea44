import { environmentNamed } from './model-messages.ts';
import type { Message, Start } from './model-messages.ts';
import type { Model, ModelOutcome } from './model.ts';
import type { Posted } from './steps.ts';

/** What a sequence has sent so far, and which of it waits. */
export class Post {
  readonly companies: number;
  readonly #sent: Message[] = [];
  readonly #waiting = new Map<number, Start>();

  constructor(companies: number) {
    this.companies = companies;
  }

  /** The messages as they are sent; one about what is not there yet is left out. */
  send(posted: readonly Posted[], model: Model): Message[] {
    return posted.flatMap((post) => {
      const message = this.#written(post, model);
      if (message === undefined) return [];
      this.#sent.push(message);
      // Each delivery is one of its own, as it is in a queue.
      return [{ ...message }];
    });
  }

  #written(post: Posted, model: Model): Message | undefined {
    if ('again' in post) return this.#sent[post.again % this.#sent.length];
    if (!('heartbeatOfLease' in post)) return this.#addressed(post, model);
    const lease = model.leases[post.heartbeatOfLease % model.leases.length];
    if (lease === undefined || lease.run === null) return undefined;
    return { kind: 'renew', company: lease.company, run: lease.run };
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
      if (outcomes[position]!.kind === 'waiting') this.#waiting.set(message.run, message);
      else this.#waiting.delete(message.run);
    });
  }

  /** The nth start whose last delivery came out as waiting, counted round. */
  waiting(nth: number): Start | undefined {
    return [...this.#waiting.values()][nth % this.#waiting.size];
  }
}
