import { setTimeout as sleep } from 'node:timers/promises';
import { LeaseLostError } from '../contracts/index.ts';
import type { GrantedLease } from '../contracts/index.ts';
import type { HeartbeatProducer } from './producer.ts';

/** Renewing at a third of the ttl leaves room for two that fail. */
const RENEWALS_PER_TTL = 3;

/** Renewals are spread by this part of their interval, so that runs that started together drift apart. */
const JITTER = 0.1;

/** The part of the ttl by which the holder stops before the database's deadline. */
const SAFETY_MARGIN = 0.1;
const LONGEST_SAFETY_MARGIN_MS = 5_000;

/** When a lease was asked for, by `performance.now()` and by the calendar. */
export interface LeaseRequested {
  at: number;
  date: Date;
}

/**
 * Keeps a lease alive, and says when it is lost. Its own deadline is counted from before each renewal was sent, on a
 * clock that never jumps, so it always lies before the database's.
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
   * Renews the lease until {@link stop}. Resolves once it is known to hold for most of its ttl: at once, or after a
   * first renewal for a run that waited long, or whose start was published before: that one's lease may have ended.
   */
  async keep(lease: GrantedLease, requested: LeaseRequested): Promise<void> {
    const ttlMs = lease.ttlSeconds * 1_000;
    const intervalMs = ttlMs / RENEWALS_PER_TTL;
    const elapsedMs = performance.now() - requested.at;
    const acquiredAfterMs = Date.parse(lease.acquiredAt) - requested.date.getTime();
    // A lease from the future means that this clock is behind the database's, so that an old one could seem new.
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
      const pauseMs = intervalMs * (1 - JITTER * this.#random());
      const paused = await sleep(pauseMs, true, { signal, ref: false }).catch(() => false);
      if (paused && !signal.aborted) await this.#renew(lease, ttlMs, intervalMs);
    }
  }

  /** For a lease that may have lapsed already: without a renewal it is lost. */
  async #renewOnce(lease: GrantedLease, ttlMs: number, timeoutMs: number): Promise<void> {
    await this.#renew(lease, ttlMs, timeoutMs);
    if (this.#deadlineTimer === undefined) this.#lose(lease, `it could not be renewed: ${String(this.#lastError)}`);
    this.#lost.signal.throwIfAborted();
  }

  /** A renewal that fails is made up for by the next one, unless the deadline comes before. */
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
  return Math.min(ttlMs * SAFETY_MARGIN, LONGEST_SAFETY_MARGIN_MS);
}
