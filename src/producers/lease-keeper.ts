import { setTimeout as sleep } from 'node:timers/promises';
import { LeaseLostError } from '../contracts/index.ts';
import type { GrantedLease } from '../contracts/index.ts';
import type { HeartbeatProducer } from './producer.ts';

/** Renewing at a third of the ttl tolerates two failures in a row. */
const RENEWALS_PER_TTL = 3;

/** Jitter as a part of the interval, so that runs that started together drift apart. */
const JITTER = 0.1;

/** The holder stops this part of the ttl before the database's deadline, at most 5 s. */
const SAFETY_MARGIN = 0.1;
const MAX_SAFETY_MARGIN_MS = 5_000;

/** When a lease was requested, by the monotonic clock and by the wall clock. */
export interface LeaseRequested {
  at: number;
  date: Date;
}

/**
 * Renews a lease in the background and signals its loss. The holder's deadline is counted from before each renewal was
 * sent, on the monotonic clock, so it is always earlier than the database's.
 */
export class LeaseKeeper {
  readonly #producer: HeartbeatProducer;
  readonly #random: () => number;
  readonly #lost = new AbortController();
  readonly #stopped = new AbortController();
  #deadlineTimer: NodeJS.Timeout | undefined;
  #lastError: unknown;

  constructor(producer: HeartbeatProducer, random: () => number) {
    this.#producer = producer;
    this.#random = random;
  }

  /** Aborted, with a {@link LeaseLostError}, when the lease ended or could not be renewed in time. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /**
   * Renews the lease until {@link stop}. Resolves once most of its ttl is known to remain: immediately, or after a first
   * renewal when the run waited long or its start had been published before, so that the lease may have ended.
   */
  async keep(lease: GrantedLease, requested: LeaseRequested): Promise<void> {
    const ttlMs = lease.ttlSeconds * 1_000;
    const intervalMs = ttlMs / RENEWALS_PER_TTL;
    const elapsedMs = performance.now() - requested.at;
    const acquiredAfterMs = Date.parse(lease.acquiredAt) - requested.date.getTime();
    // A lease from the future means that the wall clock is behind the database's, and an old lease could seem new.
    const isOfThisRequest = acquiredAfterMs >= 0 && acquiredAfterMs <= elapsedMs + safetyMarginMs(ttlMs);
    if (elapsedMs < intervalMs && isOfThisRequest) this.#holdUntil(requested.at + ttlMs, lease, ttlMs);
    else await this.#renewOnce(lease, ttlMs, intervalMs);
    void this.#renewUntilStopped(lease, ttlMs, intervalMs);
  }

  stop(): void {
    this.#stopped.abort();
    clearTimeout(this.#deadlineTimer);
  }

  async #renewUntilStopped(lease: GrantedLease, ttlMs: number, intervalMs: number): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      const delayMs = intervalMs * (1 - JITTER * this.#random());
      const paused = await sleep(delayMs, true, { signal, ref: false }).catch(() => false);
      if (paused && !signal.aborted) await this.#renew(lease, ttlMs, intervalMs);
    }
  }

  /** For a lease that may have expired already: if the renewal fails, it is lost. */
  async #renewOnce(lease: GrantedLease, ttlMs: number, timeoutMs: number): Promise<void> {
    await this.#renew(lease, ttlMs, timeoutMs);
    if (this.#deadlineTimer === undefined) this.#lose(lease, `it could not be renewed: ${String(this.#lastError)}`);
    this.#lost.signal.throwIfAborted();
  }

  /** A failed renewal is retried at the next interval, unless the deadline passes first. */
  async #renew(lease: GrantedLease, ttlMs: number, timeoutMs: number): Promise<void> {
    const sentAt = performance.now();
    const { companyId, runId } = lease;
    try {
      const { leases } = await this.#producer.renewLease(
        { companyId, runId },
        { timeoutMs, signal: this.#stopped.signal },
      );
      const renewed = leases.find((candidate) => candidate.id === lease.id);
      if (renewed?.status === 'active') this.#holdUntil(sentAt + ttlMs, lease, ttlMs);
      else this.#lose(lease, `it is ${renewed?.status ?? 'unknown to the workers'}`);
    } catch (error) {
      this.#lastError = error;
    }
  }

  #holdUntil(deadline: number, lease: GrantedLease, ttlMs: number): void {
    if (this.#stopped.signal.aborted) return;
    clearTimeout(this.#deadlineTimer);
    this.#deadlineTimer = setTimeout(
      () => this.#lose(lease, `it could not be renewed in time: ${String(this.#lastError)}`),
      deadline - safetyMarginMs(ttlMs) - performance.now(),
    );
    this.#deadlineTimer.unref();
  }

  #lose(lease: GrantedLease, detail: string): void {
    if (this.#stopped.signal.aborted) return;
    this.#lost.abort(new LeaseLostError(lease.id, detail));
    this.stop();
  }
}

function safetyMarginMs(ttlMs: number): number {
  return Math.min(ttlMs * SAFETY_MARGIN, MAX_SAFETY_MARGIN_MS);
}
