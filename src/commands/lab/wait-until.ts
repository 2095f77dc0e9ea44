import { setTimeout as sleep } from 'node:timers/promises';

const LOOK_EVERY_MS = 50;

/** Waits until something can be had, and resolves to it. Rejects with the reason of the signal. */
export async function waitUntil<Value>(look: () => Promise<Value | undefined>, signal: AbortSignal): Promise<Value> {
  for (;;) {
    signal.throwIfAborted();
    const found = await look();
    if (found !== undefined) return found;
    await sleep(LOOK_EVERY_MS);
  }
}
