/** How long one call of a driver may take, in milliseconds. */
export const DRIVER_CALL_LIMIT_MS = 60_000;

/** Bounds of an acquisition by a driver, in seconds. */
export const ACQUISITION_LIMITS = {
  /** Until a driver that was asked to acquire is held to be dead: its limit, and time to notice its abort. */
  acquiringSeconds: 75,
  /**
   * How long a pending lease may be left untouched before its acquirer is held to be dead: longer than an attempt and
   * the longest pause between two of them. Until then nobody else can have what it holds.
   */
  pendingSeconds: 180,
} as const;
