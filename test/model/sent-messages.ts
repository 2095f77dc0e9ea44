import { environmentNamed, foreignTo } from './model-messages.ts';
import type { Message, Start } from './model-messages.ts';
import type { Model, ModelOutcome } from './model.ts';
import type { PlannedMessage, Report } from './planned-messages.ts';

/** The messages that a sequence has sent, and the starts to be retried. */
export class SentMessages {
  readonly companies: number;
  readonly #sent: Message[] = [];
  readonly #waiting = new Map<number, Start>();

  constructor(companies: number) {
    this.companies = companies;
  }

  /** Turns planned messages into sent ones. A message about something that does not exist yet is skipped. */
  send(planned: readonly PlannedMessage[], model: Model): Message[] {
    const sent: Message[] = [];
    for (const plan of planned) {
      const message = this.#resolve(plan, model);
      if (message === undefined || isTiedWithOneOf(sent, message)) continue;
      this.#sent.push(message);
      // Each delivery is a copy of its own, as in a queue.
      sent.push({ ...message });
    }
    return sent;
  }

  #resolve(plan: PlannedMessage, model: Model): Message | undefined {
    if ('again' in plan) return this.#sent[plan.again % this.#sent.length];
    if ('report' in plan) return this.#reportOf(plan, model);
    return this.#addressed(plan, model);
  }

  #reportOf({ report, ofLatest }: { report: Report; ofLatest: number }, model: Model): Message | undefined {
    const isOfRun = report.kind === 'renew' || report.kind === 'finish';
    const leases = model.leases.filter(({ byDriver, run }) => (isOfRun ? run !== null : byDriver));
    const lease = leases.at(-1 - (ofLatest % leases.length));
    if (lease === undefined) return undefined;
    const { company, id, run, ending } = lease;
    if (isOfRun) return { company, run: run!, ...report };
    // A driver cleans up only a lease whose cleanup is pending.
    const isTooEarly = ending === null && (report.kind === 'cleaned-up' || report.kind === 'not-cleaned-up');
    if (isTooEarly) return undefined;
    if (report.kind !== 'release') return { company, lease: id, ...report };
    return { kind: 'release', company: report.misaddressed ? foreignTo(company, this.companies) : company, lease: id };
  }

  /** A message cannot name an environment that does not exist yet. */
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

  /** The nth start, modulo their number, whose last delivery granted nothing. */
  waiting(nth: number): Start | undefined {
    return [...this.#waiting.values()][nth % this.#waiting.size];
  }
}

/** Leases that become active in one statement get their fencing tokens in an arbitrary order. */
const isTiedWithOneOf = (sent: readonly Message[], message: Message): boolean =>
  message.kind === 'acquired' && sent.some((other) => other.kind === 'acquired' && other.lease !== message.lease);
